/* SPDX-License-Identifier: Apache-2.0 */
#include "server/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chat/json_text.h"
#include "server/json_members.h"
#include "server/schema_internal.h"

#define TO(member) offsetof(cohort_api_request, member)
#define ROW(n, k, f, s) \
    { #n, FIELD_##k, f, s, TO(n), NULL }
#define IDLE(n, k, f, s) \
    { n, FIELD_##k, f, s, TO(other), NULL }
#define LITERAL_OF(n, f, t) \
    { #n, FIELD_LITERAL, f, NULL, TO(n), t }
#define STRUCT_OF(n, f, t) \
    { #n, FIELD_STRUCT, f, NULL, TO(n), t }
#define IDLE_OF(n, f, t) \
    { n, FIELD_STRUCT, f, NULL, TO(other), t }

/* In vLLM's order, which is the order that faults are told in. */
static const schema_field completion_fields[] = {
    ROW(model, TEXT, NULLABLE, NULL),
    ROW(prompt, PROMPT, NULLABLE, NULL),
    ROW(echo, TRUTH, NULLABLE, "false"),
    ROW(frequency_penalty, NUMBER, NULLABLE, NULL),
    ROW(logit_bias, BIAS, NULLABLE, NULL),
    ROW(logprobs, INTEGER, NULLABLE, NULL),
    ROW(max_tokens, INTEGER, NULLABLE, "16"),
    ROW(n, INTEGER, 0, "1"),
    ROW(presence_penalty, NUMBER, NULLABLE, NULL),
    ROW(seed, INTEGER, NULLABLE, NULL),
    ROW(stop, STOP, NULLABLE, "[]"),
    ROW(stream, TRUTH, NULLABLE, "false"),
    STRUCT_OF(stream_options, NULLABLE, "StreamOptions"),
    ROW(suffix, TEXT, NULLABLE, NULL),
    ROW(temperature, NUMBER, NULLABLE, NULL),
    ROW(top_p, NUMBER, NULLABLE, NULL),
    IDLE("user", TEXT, NULLABLE, NULL),
    IDLE("use_beam_search", TRUTH, REFUSED, "false"),
    ROW(top_k, INTEGER, NULLABLE | CLAMPED, NULL),
    ROW(min_p, NUMBER, NULLABLE, NULL),
    ROW(repetition_penalty, NUMBER, NULLABLE, NULL),
    IDLE("watermarking", TRUTH, NULLABLE | REFUSED, NULL),
    IDLE("length_penalty", NUMBER, 0, "1.0"),
    ROW(stop_token_ids, IDS, NULLABLE, "[]"),
    ROW(include_stop_str_in_output, TRUTH, 0, "false"),
    ROW(ignore_eos, TRUTH, 0, "false"),
    ROW(min_tokens, INTEGER, 0, "0"),
    ROW(skip_special_tokens, TRUTH, 0, "true"),
    IDLE("spaces_between_special_tokens", TRUTH, 0, "true"),
    ROW(truncate_prompt_tokens, INTEGER, NULLABLE | LEAST_IS_MINUS_1, NULL),
    LITERAL_OF(truncation_side, NULLABLE, "'left' or 'right'"),
    ROW(allowed_token_ids, IDS, NULLABLE, NULL),
    ROW(prompt_logprobs, INTEGER, NULLABLE, NULL),
    ROW(logprob_token_ids, IDS, NULLABLE, NULL),
    ROW(bad_words, WORDS, 0, NULL),
    IDLE("prompt_embeds", TEXT_OR_IDS, NULLABLE | REFUSED, NULL),
    ROW(add_special_tokens, TRUTH, 0, "true"),
    ROW(response_format, FORMAT, NULLABLE, NULL),
    STRUCT_OF(structured_outputs, NULLABLE, "StructuredOutputsParams"),
    ROW(priority, INTEGER, 0, "0"),
    ROW(request_id, TEXT, 0, NULL),
    IDLE("session_id", TEXT, NULLABLE, NULL),
    ROW(return_tokens_as_token_ids, TRUTH, NULLABLE, NULL),
    ROW(return_token_ids, TRUTH, NULLABLE, NULL),
    ROW(routed_experts_prompt_start, INTEGER, LEAST_IS_0, "0"),
    IDLE("return_token_offsets", TRUTH, NULLABLE | REFUSED, "false"),
    {"mm_payload", FIELD_LITERAL, 0, "\"tensors\"", TO(other), "'tensors' or 'none'"},
    IDLE("return_mm_kwargs", TRUTH, NULLABLE, NULL),
    ROW(cache_salt, TEXT, NULLABLE, NULL),
    IDLE("kv_transfer_params", OBJECT, NULLABLE, NULL),
    IDLE("ec_transfer_params", OBJECT, NULLABLE, NULL),
    IDLE("vllm_xargs", OBJECT, NULLABLE, NULL),
    IDLE_OF("repetition_detection", NULLABLE | REFUSED, "RepetitionDetectionParams"),
    IDLE("thinking_token_budget", INTEGER, NULLABLE | REFUSED, NULL),
    ROW(stream_interval, INTEGER, NULLABLE | LEAST_IS_1, NULL),
};

static const schema_field chat_fields[] = {
    ROW(messages, MESSAGES, REQUIRED, NULL),
    ROW(model, TEXT, NULLABLE, NULL),
    ROW(frequency_penalty, NUMBER, NULLABLE, NULL),
    ROW(logit_bias, BIAS, NULLABLE, NULL),
    ROW(logprobs, TRUTH, NULLABLE, "false"),
    ROW(top_logprobs, INTEGER, NULLABLE, "0"),
    ROW(max_tokens, INTEGER, NULLABLE, NULL),
    ROW(max_completion_tokens, INTEGER, NULLABLE, NULL),
    ROW(n, INTEGER, NULLABLE, "1"),
    ROW(presence_penalty, NUMBER, NULLABLE, NULL),
    ROW(response_format, FORMAT, NULLABLE, NULL),
    ROW(seed, INTEGER, NULLABLE, NULL),
    ROW(stop, STOP, NULLABLE, "[]"),
    ROW(stream, TRUTH, NULLABLE, "false"),
    STRUCT_OF(stream_options, NULLABLE, "StreamOptions"),
    ROW(temperature, NUMBER, NULLABLE, NULL),
    ROW(top_p, NUMBER, NULLABLE, NULL),
    ROW(tools, TOOLS, NULLABLE, NULL),
    ROW(tool_choice, CHOICE, NULLABLE, "\"none\""),
    LITERAL_OF(reasoning_effort, NULLABLE,
               "'none', 'minimal', 'low', 'medium', 'high', 'xhigh' or 'max'"),
    IDLE("thinking_token_budget", INTEGER, NULLABLE | REFUSED, NULL),
    ROW(include_reasoning, TRUTH, 0, "true"),
    ROW(parallel_tool_calls, TRUTH, NULLABLE, "true"),
    IDLE("user", TEXT, NULLABLE, NULL),
    IDLE("use_beam_search", TRUTH, REFUSED, "false"),
    ROW(top_k, INTEGER, NULLABLE | CLAMPED, NULL),
    ROW(min_p, NUMBER, NULLABLE, NULL),
    ROW(repetition_penalty, NUMBER, NULLABLE, NULL),
    IDLE("watermarking", TRUTH, NULLABLE | REFUSED, NULL),
    IDLE("length_penalty", NUMBER, 0, "1.0"),
    ROW(stop_token_ids, IDS, NULLABLE, "[]"),
    ROW(include_stop_str_in_output, TRUTH, 0, "false"),
    ROW(ignore_eos, TRUTH, 0, "false"),
    ROW(min_tokens, INTEGER, 0, "0"),
    ROW(skip_special_tokens, TRUTH, 0, "true"),
    IDLE("spaces_between_special_tokens", TRUTH, 0, "true"),
    ROW(truncate_prompt_tokens, INTEGER, NULLABLE | LEAST_IS_MINUS_1, NULL),
    LITERAL_OF(truncation_side, NULLABLE, "'left' or 'right'"),
    ROW(prompt_logprobs, INTEGER, NULLABLE, NULL),
    ROW(logprob_token_ids, IDS, NULLABLE, NULL),
    ROW(allowed_token_ids, IDS, NULLABLE, NULL),
    ROW(bad_words, WORDS, 0, NULL),
    ROW(echo, TRUTH, 0, "false"),
    ROW(add_generation_prompt, TRUTH, 0, "true"),
    ROW(continue_final_message, TRUTH, 0, "false"),
    ROW(add_special_tokens, TRUTH, 0, "false"),
    ROW(documents, LIST, NULLABLE, NULL),
    ROW(chat_template, TEXT, NULLABLE, NULL),
    ROW(chat_template_kwargs, OBJECT, NULLABLE, NULL),
    IDLE("media_io_kwargs", OBJECT, NULLABLE, NULL),
    IDLE("mm_processor_kwargs", OBJECT, NULLABLE, NULL),
    STRUCT_OF(structured_outputs, NULLABLE, "StructuredOutputsParams"),
    ROW(priority, INTEGER, 0, "0"),
    ROW(request_id, TEXT, 0, NULL),
    IDLE("session_id", TEXT, NULLABLE, NULL),
    ROW(return_tokens_as_token_ids, TRUTH, NULLABLE, NULL),
    ROW(return_token_ids, TRUTH, NULLABLE, NULL),
    ROW(routed_experts_prompt_start, INTEGER, LEAST_IS_0, "0"),
    IDLE("return_token_offsets", TRUTH, NULLABLE | REFUSED, "false"),
    ROW(return_prompt_text, TRUTH, NULLABLE, NULL),
    {"mm_payload", FIELD_LITERAL, 0, "\"tensors\"", TO(other), "'tensors' or 'none'"},
    IDLE("return_mm_kwargs", TRUTH, NULLABLE, NULL),
    ROW(cache_salt, TEXT, NULLABLE, NULL),
    IDLE("kv_transfer_params", OBJECT, NULLABLE, NULL),
    IDLE("ec_transfer_params", OBJECT, NULLABLE, NULL),
    IDLE("vllm_xargs", OBJECT, NULLABLE, NULL),
    IDLE_OF("repetition_detection", NULLABLE | REFUSED, "RepetitionDetectionParams"),
    ROW(stream_interval, INTEGER, NULLABLE | LEAST_IS_1, NULL),
};

static const schema_field stream_option_fields[] = {
    ROW(include_usage, TRUTH, NULLABLE, "true"),
    ROW(continuous_usage_stats, TRUTH, NULLABLE, "false"),
};

static const schema_field tokenize_fields[] = {
    ROW(model, TEXT, NULLABLE, NULL),
    ROW(prompt, TEXT, REQUIRED, NULL),
    ROW(add_special_tokens, TRUTH, 0, "true"),
    ROW(return_token_strs, TRUTH, NULLABLE, "false"),
};

static const schema_field tokenize_chat_fields[] = {
    ROW(model, TEXT, NULLABLE, NULL),
    ROW(messages, MESSAGES, REQUIRED, NULL),
    ROW(add_generation_prompt, TRUTH, 0, "true"),
    ROW(return_token_strs, TRUTH, NULLABLE, "false"),
    ROW(continue_final_message, TRUTH, 0, "false"),
    ROW(add_special_tokens, TRUTH, 0, "false"),
    ROW(chat_template, TEXT, NULLABLE, NULL),
    ROW(chat_template_kwargs, OBJECT, NULLABLE, NULL),
    IDLE("media_io_kwargs", OBJECT, NULLABLE, NULL),
    IDLE("mm_processor_kwargs", OBJECT, NULLABLE, NULL),
    ROW(tools, TOOLS, NULLABLE, NULL),
};

static const schema_field detokenize_fields[] = {
    ROW(model, TEXT, NULLABLE, NULL),
    ROW(tokens, IDS, REQUIRED, NULL),
};

static const schema_field instruction_fields[] = {
    {"instruction", FIELD_LITERAL, REQUIRED, NULL, TO(instruction), "'pause' or 'retry'"},
};

/* ROW under another name than the member's. */
#define NAMED(n, m, k, f, s) \
    { n, FIELD_##k, f, s, TO(m), NULL }

static const schema_field responses_fields[] = {
    ROW(background, TRUTH, NULLABLE, "false"),
    ROW(include, WORDS, NULLABLE, NULL),
    ROW(input, INPUT, REQUIRED, NULL),
    ROW(instructions, TEXT, NULLABLE, NULL),
    NAMED("max_output_tokens", max_completion_tokens, INTEGER, NULLABLE, NULL),
    ROW(max_tool_calls, INTEGER, NULLABLE, NULL),
    ROW(metadata, OBJECT, NULLABLE, NULL),
    ROW(model, TEXT, NULLABLE, NULL),
    ROW(logit_bias, BIAS, NULLABLE, NULL),
    ROW(parallel_tool_calls, TRUTH, NULLABLE, "true"),
    ROW(previous_response_id, TEXT, NULLABLE, NULL),
    IDLE("prompt", OBJECT, NULLABLE | REFUSED, NULL),
    ROW(reasoning, OBJECT, NULLABLE, NULL),
    ROW(include_reasoning, TRUTH, 0, "true"),
    LITERAL_OF(service_tier, 0, "'auto', 'default', 'flex', 'scale' or 'priority'"),
    ROW(store, TRUTH, NULLABLE, "true"),
    ROW(stream, TRUTH, NULLABLE, "false"),
    ROW(temperature, NUMBER, NULLABLE, NULL),
    ROW(text, OBJECT, NULLABLE, NULL),
    ROW(tool_choice, CHOICE, 0, "\"auto\""),
    ROW(tools, LIST, 0, "[]"),
    ROW(top_logprobs, INTEGER, NULLABLE, "0"),
    ROW(top_p, NUMBER, NULLABLE, NULL),
    ROW(top_k, INTEGER, NULLABLE | CLAMPED, NULL),
    ROW(min_p, NUMBER, NULLABLE, NULL),
    LITERAL_OF(truncation, NULLABLE, "'auto' or 'disabled'"),
    ROW(user, TEXT, NULLABLE, NULL),
    ROW(skip_special_tokens, TRUTH, 0, "true"),
    ROW(include_stop_str_in_output, TRUTH, 0, "false"),
    ROW(presence_penalty, NUMBER, NULLABLE, NULL),
    ROW(frequency_penalty, NUMBER, NULLABLE, NULL),
    IDLE("prompt_cache_key", TEXT, NULLABLE, NULL),
    IDLE("watermarking", TRUTH, NULLABLE | REFUSED, NULL),
    ROW(request_id, TEXT, 0, NULL),
    IDLE("session_id", TEXT, NULLABLE, NULL),
    IDLE("media_io_kwargs", OBJECT, NULLABLE, NULL),
    IDLE("mm_processor_kwargs", OBJECT, NULLABLE, NULL),
    ROW(priority, INTEGER, 0, "0"),
    {"mm_payload", FIELD_LITERAL, 0, "\"tensors\"", TO(other), "'tensors' or 'none'"},
    IDLE("return_mm_kwargs", TRUTH, NULLABLE, NULL),
    ROW(cache_salt, TEXT, NULLABLE, NULL),
    IDLE("enable_response_messages", TRUTH, REFUSED, "false"),
    IDLE("previous_input_messages", LIST, NULLABLE | REFUSED, NULL),
    STRUCT_OF(structured_outputs, NULLABLE, "StructuredOutputsParams"),
    ROW(repetition_penalty, NUMBER, NULLABLE, NULL),
    ROW(seed, INTEGER, NULLABLE, NULL),
    ROW(stop, STOP, NULLABLE, "[]"),
    ROW(stop_token_ids, IDS, NULLABLE, "[]"),
    ROW(ignore_eos, TRUTH, 0, "false"),
    IDLE("vllm_xargs", OBJECT, NULLABLE, NULL),
    IDLE("kv_transfer_params", OBJECT, NULLABLE, NULL),
    IDLE("ec_transfer_params", OBJECT, NULLABLE, NULL),
    ROW(chat_template_kwargs, OBJECT, NULLABLE, NULL),
};

static const schema_field messages_fields[] = {
    ROW(model, TEXT, REQUIRED, NULL),
    ROW(messages, LIST, REQUIRED, NULL),
    ROW(max_tokens, INTEGER, REQUIRED, NULL),
    IDLE("metadata", OBJECT, NULLABLE, NULL),
    ROW(output_config, OBJECT, NULLABLE, NULL),
    ROW(thinking, OBJECT, NULLABLE, NULL),
    NAMED("stop_sequences", stop, WORDS, NULLABLE, NULL),
    ROW(stream, TRUTH, NULLABLE, "false"),
    ROW(system, INPUT, NULLABLE, NULL),
    ROW(temperature, NUMBER, NULLABLE, NULL),
    ROW(tool_choice, OBJECT, NULLABLE, NULL),
    ROW(tools, LIST, NULLABLE, NULL),
    ROW(top_k, INTEGER, NULLABLE | CLAMPED, NULL),
    ROW(top_p, NUMBER, NULLABLE, NULL),
    {"mm_payload", FIELD_LITERAL, 0, "\"tensors\"", TO(other), "'tensors' or 'none'"},
    IDLE("return_mm_kwargs", TRUTH, NULLABLE, NULL),
    ROW(cache_salt, TEXT, NULLABLE, NULL),
    IDLE("watermarking", TRUTH, NULLABLE | REFUSED, NULL),
    IDLE("kv_transfer_params", OBJECT, NULLABLE, NULL),
    IDLE("ec_transfer_params", OBJECT, NULLABLE, NULL),
    IDLE("vllm_xargs", OBJECT, NULLABLE, NULL),
    ROW(chat_template_kwargs, OBJECT, NULLABLE, NULL),
};

static const schema_field count_tokens_fields[] = {
    ROW(model, TEXT, REQUIRED, NULL),
    ROW(messages, LIST, REQUIRED, NULL),
    ROW(output_config, OBJECT, NULLABLE, NULL),
    ROW(system, INPUT, NULLABLE, NULL),
    ROW(thinking, OBJECT, NULLABLE, NULL),
    ROW(tool_choice, OBJECT, NULLABLE, NULL),
    ROW(tools, LIST, NULLABLE, NULL),
    ROW(chat_template_kwargs, OBJECT, NULLABLE, NULL),
};

#define COUNT(list) sizeof(list) / sizeof *(list)

const schema_table cohort_server_schema_tables[COHORT_N_SCHEMAS] = {
    {"CompletionRequest", completion_fields, COUNT(completion_fields)},
    {"ChatCompletionRequest", chat_fields, COUNT(chat_fields)},
    {"TokenizeCompletionRequest", tokenize_fields, COUNT(tokenize_fields)},
    {"TokenizeChatRequest", tokenize_chat_fields, COUNT(tokenize_chat_fields)},
    {"DetokenizeRequest", detokenize_fields, COUNT(detokenize_fields)},
    {"FaultToleranceInstructionRequest", instruction_fields, COUNT(instruction_fields)},
    {"ResponsesRequest", responses_fields, COUNT(responses_fields)},
    {"AnthropicMessagesRequest", messages_fields, COUNT(messages_fields)},
    {"AnthropicCountTokensRequest", count_tokens_fields, COUNT(count_tokens_fields)},
};

const schema_table cohort_server_schema_stream_options = {
    "StreamOptions", stream_option_fields, COUNT(stream_option_fields)};

const char *cohort_server_schema_name(cohort_server_schema schema) {
    return cohort_server_schema_tables[schema].name;
}

/* ---- reading ----------------------------------------------------------------------- */

static void set_standard(const schema_field *at, cohort_value *out) {
    if (!at->standard) return;
    out->whole = !strcmp(at->standard, "true") ? 1 : strtoll(at->standard, NULL, 10);
    out->real = strtod(at->standard, NULL);
}

/* Refused only where it asks for something: false, [] and the like are what happens
 * anyway. */
static bool asks_for_nothing(const schema_field *at, const cohort_value *value) {
    if (at->kind == FIELD_TRUTH) return !value->whole;
    if (cJSON_IsArray(value->json)) return !value->json->child;
    if (!strcmp(at->name, "thinking_token_budget")) return value->whole == -1;
    /* repetition_detection looks for patterns of up to so many tokens. */
    const cJSON *most = cJSON_GetObjectItemCaseSensitive(value->json, "max_pattern_size");
    return !strcmp(at->name, "repetition_detection") && cJSON_IsObject(value->json) &&
           (!most || most->valuedouble == 0);
}

/* parent: "body", or of a field's own fields "body.NAME". */
static void read_row(schema_reader *self, const char *parent, const schema_field *at,
                     const cJSON *object, const cJSON *value, cohort_api_request *out) {
    cohort_value ignored = {0};
    bool is_idle = at->offset == TO(other);
    cohort_value *to = is_idle ? &ignored : (void *)((char *)out + at->offset);
    set_standard(at, to);
    snprintf(self->location, sizeof self->location, "%s.%s", parent, at->name);
    if (!value) {
        if (at->flags & REQUIRED)
            cohort_server_schema_fault(self, "missing", "Field required", object);
        return;
    }
    to->is_null = cJSON_IsNull(value) && (at->flags & NULLABLE);
    if (to->is_null) return;
    to->is_set = cohort_server_schema_read_value(self, at, value, to);
    if (to->is_set && (at->flags & REFUSED) && !asks_for_nothing(at, to))
        cohort_api_refuse(self->error, 400, at->name, "%s is not supported", at->name);
}

/* The position of an error is in the place of a field, as FastAPI does it. */
static bool refuse_text(cohort_api_error *error, const cohort_chat_json_fault *broken) {
    char location[40], context[120];
    if (broken->kind == COHORT_CHAT_JSON_NO_MEMORY)
        return cohort_api_refuse(error, 503, NULL, "memory is short; try again later");
    if (broken->kind == COHORT_CHAT_JSON_UNREADABLE)
        return cohort_api_refuse_unread(error, broken->message);
    snprintf(location, sizeof location, "body.%zu", broken->position);
    snprintf(context, sizeof context, "'error': %s%s%s",
             strchr(broken->message, '\'') ? "\"" : "'", broken->message,
             strchr(broken->message, '\'') ? "\"" : "'");
    cohort_api_fault_text(error, "json_invalid", location, "JSON decode error",
                          "<dict of 0 items>", context);
    return false;
}

static bool parse(cohort_api_request *out, const char *text, size_t size,
                  cohort_api_error *error) {
    cohort_chat_json_fault broken;
    if (size == 0) {
        cohort_api_fault_text(error, "missing", "body", "Field required", "None", NULL);
        return false;
    }
    if (!cohort_chat_json_load(text, size, &out->json, &broken))
        return refuse_text(error, &broken);
    if (cJSON_IsObject(out->json)) return true;
    if (cJSON_IsNull(out->json))
        cohort_api_fault_text(error, "missing", "body", "Field required", "None", NULL);
    else
        cohort_api_fault(error, "model_attributes_type", "body",
                         "Input should be a valid dictionary or object to extract fields "
                         "from",
                         out->json, NULL);
    return false;
}

bool cohort_api_text(const char *bytes, size_t size, char **out_copy,
                     const char **out_text, size_t *out_size, cohort_api_error *error) {
    cohort_chat_json_fault broken;
    return cohort_chat_json_decode(bytes, size, out_copy, out_text, out_size, &broken) ||
           refuse_text(error, &broken);
}

static void read_rows(schema_reader *self, const char *parent, const schema_table *table,
                      const cJSON *object, cohort_api_request *out) {
    const cJSON *values[80] = {0}, *item;
    _Static_assert(COUNT(chat_fields) <= 80, "values has 80");
    _Static_assert(COUNT(completion_fields) <= 80, "values has 80");
    /* Of a name that is there twice the last counts, as in Python. */
    cJSON_ArrayForEach(item, object) for (size_t i = 0; i < table->n_fields; i++) {
        if (strcmp(item->string, table->fields[i].name)) continue;
        values[i] = item;
        break;
    }
    for (size_t i = 0; i < table->n_fields; i++)
        read_row(self, parent, &table->fields[i], object, values[i], out);
}

bool cohort_api_request_read(cohort_api_request *out, cohort_server_schema schema,
                             const char *text, size_t size, cohort_api_error *error) {
    *out = (cohort_api_request){0};
    if (!parse(out, text, size, error)) return false;
    if (schema == COHORT_SCHEMA_TOKENIZE &&
        cJSON_GetObjectItemCaseSensitive(out->json, "messages") &&
        !cJSON_GetObjectItemCaseSensitive(out->json, "prompt"))
        schema = COHORT_SCHEMA_TOKENIZE_CHAT; /* one route takes either */
    if (!cohort_server_json_unite_members(out->json, NULL))
        return cohort_api_refuse(error, 503, NULL, "memory is short; try again later");
    schema_reader self = {.error = error};
    read_rows(&self, "body", &cohort_server_schema_tables[schema], out->json, out);
    if (out->stream_options.is_set)
        read_rows(&self, "body.stream_options", &cohort_server_schema_stream_options,
                  out->stream_options.json, out);
    return error->status == 0;
}

static size_t measure(const cJSON *item) {
    const cJSON *child;
    size_t bytes = sizeof *item + (item->valuestring ? strlen(item->valuestring) : 0);
    cJSON_ArrayForEach(child, item) bytes += measure(child);
    return bytes;
}

size_t cohort_api_request_trim(cohort_api_request *request) {
    const cohort_value stop = request->stop, cache_salt = request->cache_salt;
    size_t bytes = 0;
    for (cJSON *item = request->json->child, *next; item; item = next) {
        next = item->next;
        if (item == stop.json || item == cache_salt.json)
            bytes += measure(item);
        else
            cJSON_Delete(cJSON_DetachItemViaPointer(request->json, item));
    }
    *request = (cohort_api_request){.json = request->json,
                                    .stop = stop,
                                    .cache_salt = cache_salt,
                                    .parsed_bytes = request->parsed_bytes};
    return bytes;
}

cJSON *cohort_api_take_tools(cohort_api_request *request, size_t *in_out_bytes) {
    if (!request->tools.is_set) return NULL;
    cJSON *tools =
        cJSON_DetachItemViaPointer(request->json, (cJSON *)request->tools.json);
    request->tools = (cohort_value){0};
    if (tools) *in_out_bytes += measure(tools);
    return tools;
}

void cohort_api_request_deinit(cohort_api_request *request) {
    cJSON_Delete(request->json);
    *request = (cohort_api_request){0};
}
