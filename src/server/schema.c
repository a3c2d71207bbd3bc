/* SPDX-License-Identifier: Apache-2.0 */
#include "server/schema.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chat/chat.h"
#include "server/json_members.h"
#include "server/json_scan.h"

typedef enum field_kind {
    INTEGER,
    NUMBER,
    TRUTH,
    TEXT,
    LITERAL, /* one of the words that type has in quotes */
    LIST,    /* of objects */
    OBJECT,
    WORDS,       /* a list of strings */
    IDS,         /* a list of whole numbers */
    PROMPT,      /* text, texts, token ids, or lists of token ids */
    TEXT_OR_IDS, /* prompt_embeds: never read */
    STOP,        /* text or texts */
    BIAS,        /* object of numbers */
    MESSAGES,
    TOOLS,
    FORMAT,
    CHOICE, /* tool_choice: text or object */
    STRUCT, /* an object with a name of its own in the schema */
} field_kind;

enum {
    NULLABLE = 1,
    REQUIRED = 2,
    REFUSED = 4,
    LEAST_IS_MINUS_1 = 8,
    LEAST_IS_0 = 16,
    LEAST_IS_1 = 32,
    CLAMPED = 64, /* what no 64 bits hold is as much as they do */
};

typedef struct field {
    const char *name;
    field_kind kind;
    int flags;
    const char *standard; /* default, as JSON; NULL: unset */
    size_t offset;
    const char *type; /* of a STRUCT or LITERAL */
} field;

#define TO(member) offsetof(cohort_api_request, member)
#define ROW(n, k, f, s) \
    { #n, k, f, s, TO(n), NULL }
#define IDLE(n, k, f, s) \
    { n, k, f, s, TO(other), NULL }
#define LITERAL_OF(n, f, t) \
    { #n, LITERAL, f, NULL, TO(n), t }
#define STRUCT_OF(n, f, t) \
    { #n, STRUCT, f, NULL, TO(n), t }
#define IDLE_OF(n, f, t) \
    { n, STRUCT, f, NULL, TO(other), t }

/* In vLLM's order, which is the order that faults are told in. */
static const field completion_fields[] = {
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
    {"mm_payload", LITERAL, 0, "\"tensors\"", TO(other), "'tensors' or 'none'"},
    IDLE("return_mm_kwargs", TRUTH, NULLABLE, NULL),
    ROW(cache_salt, TEXT, NULLABLE, NULL),
    IDLE("kv_transfer_params", OBJECT, NULLABLE, NULL),
    IDLE("ec_transfer_params", OBJECT, NULLABLE, NULL),
    IDLE("vllm_xargs", OBJECT, NULLABLE, NULL),
    IDLE_OF("repetition_detection", NULLABLE | REFUSED, "RepetitionDetectionParams"),
    IDLE("thinking_token_budget", INTEGER, NULLABLE | REFUSED, NULL),
    ROW(stream_interval, INTEGER, NULLABLE | LEAST_IS_1, NULL),
};

static const field chat_fields[] = {
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
    {"mm_payload", LITERAL, 0, "\"tensors\"", TO(other), "'tensors' or 'none'"},
    IDLE("return_mm_kwargs", TRUTH, NULLABLE, NULL),
    ROW(cache_salt, TEXT, NULLABLE, NULL),
    IDLE("kv_transfer_params", OBJECT, NULLABLE, NULL),
    IDLE("ec_transfer_params", OBJECT, NULLABLE, NULL),
    IDLE("vllm_xargs", OBJECT, NULLABLE, NULL),
    IDLE_OF("repetition_detection", NULLABLE | REFUSED, "RepetitionDetectionParams"),
    ROW(stream_interval, INTEGER, NULLABLE | LEAST_IS_1, NULL),
};

static const field stream_option_fields[] = {
    ROW(include_usage, TRUTH, NULLABLE, "true"),
    ROW(continuous_usage_stats, TRUTH, NULLABLE, "false"),
};

static const field tokenize_fields[] = {
    ROW(model, TEXT, NULLABLE, NULL),
    ROW(prompt, TEXT, REQUIRED, NULL),
    ROW(add_special_tokens, TRUTH, 0, "true"),
    ROW(return_token_strs, TRUTH, NULLABLE, "false"),
};

static const field tokenize_chat_fields[] = {
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

static const field detokenize_fields[] = {
    ROW(model, TEXT, NULLABLE, NULL),
    ROW(tokens, IDS, REQUIRED, NULL),
};

#define COUNT(list) sizeof(list) / sizeof *(list)

static const struct schema {
    const char *name;
    const field *fields;
    size_t n_fields;
} schemas[COHORT_N_SCHEMAS] = {
    {"CompletionRequest", completion_fields, COUNT(completion_fields)},
    {"ChatCompletionRequest", chat_fields, COUNT(chat_fields)},
    {"TokenizeCompletionRequest", tokenize_fields, COUNT(tokenize_fields)},
    {"TokenizeChatRequest", tokenize_chat_fields, COUNT(tokenize_chat_fields)},
    {"DetokenizeRequest", detokenize_fields, COUNT(detokenize_fields)},
};

const char *cohort_schema_name(cohort_schema schema) { return schemas[schema].name; }

/* ---- plain values ------------------------------------------------------------------ */

typedef struct reader {
    cohort_api_error *error;
    char location[120];
} reader;

static bool fault(reader *self, const char *kind, const char *message,
                  const cJSON *value) {
    cohort_api_fault(self->error, kind, self->location, message, value, NULL);
    return false;
}

static bool is_blank(const char *text) {
    while (isspace((unsigned char)*text))
        text++;
    return !*text;
}

static bool read_number(reader *self, const cJSON *value, double *out) {
    const char *text = cJSON_GetStringValue(value);
    if (cJSON_IsNumber(value) || cJSON_IsBool(value)) {
        *out = cJSON_IsNumber(value) ? value->valuedouble : cJSON_IsTrue(value);
        return true;
    }
    if (!text) return fault(self, "float_type", "Input should be a valid number", value);
    char *end;
    *out = strtod(text, &end);
    if (end != text && is_blank(end)) return true;
    return fault(self, "float_parsing",
                 "Input should be a valid number, unable to parse string as a number",
                 value);
}

/* The digits that keep_numbers kept, where a double has not all of them. */
static bool read_digits(const cJSON *value, int64_t *out) {
    char *end;
    if (!cJSON_IsNumber(value) || !value->valuestring) return false;
    errno = 0;
    *out = strtoll(value->valuestring, &end, 10);
    return !*end && !errno;
}

static bool read_integer(reader *self, const cJSON *value, int64_t *out) {
    const char *text = cJSON_GetStringValue(value);
    double number;
    if (text) {
        char *end;
        errno = 0;
        long long parsed = strtoll(text, &end, 10);
        *out = parsed;
        if (end != text && !errno && is_blank(end)) return true;
        return fault(
            self, "int_parsing",
            "Input should be a valid integer, unable to parse string as an integer",
            value);
    }
    if (!cJSON_IsNumber(value) && !cJSON_IsBool(value))
        return fault(self, "int_type", "Input should be a valid integer", value);
    if (read_digits(value, out)) return true;
    number = cJSON_IsNumber(value) ? value->valuedouble : cJSON_IsTrue(value);
    if (number != floor(number))
        return fault(
            self, "int_from_float",
            "Input should be a valid integer, got a number with a fractional part",
            value);
    if (!(fabs(number) < 0x1p63))
        return fault(self, "int_parsing_size",
                     "Unable to parse input string as an integer, exceeded maximum size",
                     value);
    *out = (int64_t)number;
    return true;
}

int64_t cohort_api_id(const cJSON *item) {
    cohort_api_error none = {0};
    reader quiet = {.error = &none};
    int64_t id;
    bool is_integer = read_integer(&quiet, item, &id);
    cohort_api_error_deinit(&none);
    return is_integer ? id : -1;
}

static bool read_truth(reader *self, const cJSON *value, int64_t *out) {
    static const char *const words[] = {"false", "0", "off", "f", "no",  "n",
                                        "true",  "1", "on",  "t", "yes", "y"};
    const char *text = cJSON_GetStringValue(value);
    bool is_known = cJSON_IsBool(value);
    *out = cJSON_IsTrue(value);
    if (cJSON_IsNumber(value) && (value->valuedouble == 0 || value->valuedouble == 1)) {
        *out = value->valuedouble == 1;
        is_known = true;
    }
    for (int i = 0; text && i < 12; i++)
        if (!strcasecmp(text, words[i])) {
            *out = i >= 6;
            is_known = true;
        }
    if (is_known) return true;
    if (text || cJSON_IsNumber(value))
        return fault(self, "bool_parsing",
                     "Input should be a valid boolean, unable to interpret input", value);
    return fault(self, "bool_type", "Input should be a valid boolean", value);
}

static bool read_text(reader *self, const cJSON *value, const char **out) {
    *out = cJSON_GetStringValue(value);
    return *out || fault(self, "string_type", "Input should be a valid string", value);
}

/* ---- values with parts ------------------------------------------------------------- */

/* Runs check on every item, at location.N; one bad item stands for all of its kind. */
static bool each(reader *self, const cJSON *list,
                 bool (*check)(reader *self, const cJSON *item)) {
    size_t length = strlen(self->location);
    const cJSON *item;
    int i = 0;
    bool fine = true;
    cJSON_ArrayForEach(item, list) {
        snprintf(self->location + length, sizeof self->location - length, ".%d", i++);
        fine = check(self, item);
        self->location[length] = '\0';
        if (!fine) break;
    }
    return fine;
}

static bool check_word(reader *self, const cJSON *item) {
    const char *text;
    return read_text(self, item, &text);
}

static bool check_whole(reader *self, const cJSON *item) {
    int64_t id;
    return read_integer(self, item, &id);
}

static bool check_id(reader *self, const cJSON *item) {
    int64_t id;
    if (!read_integer(self, item, &id)) return false;
    if (id >= 0) return true;
    cohort_api_fault(self->error, "greater_than_equal", self->location,
                     "Input should be greater than or equal to 0", item, "'ge': 0");
    return false;
}

static bool check_list(reader *self, const cJSON *value) {
    return cJSON_IsArray(value) ||
           fault(self, "list_type", "Input should be a valid list", value);
}

static bool check_ids(reader *self, const cJSON *value) {
    return check_list(self, value) && each(self, value, check_id);
}

static bool check_words(reader *self, const cJSON *value) {
    return check_list(self, value) && each(self, value, check_word);
}

static bool check_id_lists(reader *self, const cJSON *value) {
    return check_list(self, value) && each(self, value, check_ids);
}

/* What fits one of the shapes is fine; what fits none is told the faults of all. */
static bool read_union(reader *self, const cJSON *value,
                       bool (*const shapes[])(reader *self, const cJSON *value),
                       int n_shapes) {
    cohort_api_error none = {0};
    reader quiet = *self;
    quiet.error = &none;
    bool fits = false;
    for (int i = 0; i < n_shapes && !fits; i++)
        fits = shapes[i](&quiet, value);
    cohort_api_error_deinit(&none);
    for (int i = 0; i < n_shapes && !fits; i++)
        shapes[i](self, value);
    return fits;
}

static bool read_prompt(reader *self, const cJSON *value) {
    static bool (*const shapes[])(reader *, const cJSON *) = {check_ids, check_id_lists,
                                                              check_word, check_words};
    return read_union(self, value, shapes, 4);
}

static bool read_stop(reader *self, const cJSON *value) {
    static bool (*const shapes[])(reader *, const cJSON *) = {check_word, check_words};
    return read_union(self, value, shapes, 2);
}

static bool check_object(reader *self, const cJSON *value) {
    return cJSON_IsObject(value) ||
           fault(self, "dict_type", "Input should be a valid dictionary", value);
}

static bool read_bias(reader *self, const cJSON *value) {
    const cJSON *item;
    size_t length = strlen(self->location);
    double number;
    if (!check_object(self, value)) return false;
    cJSON_ArrayForEach(item, value) {
        snprintf(self->location + length, sizeof self->location - length, ".%.60s",
                 item->string);
        if (!read_number(self, item, &number)) return false;
        self->location[length] = '\0';
    }
    return true;
}

/* A member that must be there, whose place is added to the location. */
static const cJSON *member(reader *self, const cJSON *object, const char *name) {
    size_t length = strlen(self->location);
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, name);
    snprintf(self->location + length, sizeof self->location - length, ".%s", name);
    if (!value) fault(self, "missing", "Field required", object);
    return value;
}

/* A member that is a text where it is there. */
static bool check_member_text(reader *self, const cJSON *object, const char *name,
                              bool or_null) {
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, name);
    const char *text;
    size_t length = strlen(self->location);
    if (!value || (or_null && cJSON_IsNull(value))) return true;
    snprintf(self->location + length, sizeof self->location - length, ".%s", name);
    bool fine = read_text(self, value, &text);
    self->location[length] = '\0';
    return fine;
}

/* ... and where it has to be. */
static bool need_member_text(reader *self, const cJSON *object, const char *name) {
    size_t length = strlen(self->location);
    const cJSON *value = member(self, object, name);
    self->location[length] = '\0';
    return value && check_member_text(self, object, name, false);
}

/* Of a role that OpenAI's API knows: its types are checked to the last text. */
static bool check_known_part(reader *self, const cJSON *part) {
    if (!check_object(self, part) || !need_member_text(self, part, "type")) return false;
    const char *type = cJSON_GetObjectItemCaseSensitive(part, "type")->valuestring;
    if (!strcmp(type, "text")) return need_member_text(self, part, "text");
    if (strcmp(type, "input_text") != 0 && strcmp(type, "output_text") != 0) return true;
    return fault(self, "literal_error", "Input should be 'text'", part);
}

/* Any other role's parts may be texts, and say less. */
static bool check_part(reader *self, const cJSON *part) {
    return cJSON_IsString(part) ||
           (check_object(self, part) && need_member_text(self, part, "type"));
}

static bool check_call(reader *self, const cJSON *call) {
    if (!check_object(self, call) || !need_member_text(self, call, "id") ||
        !need_member_text(self, call, "type"))
        return false;
    if (strcmp(cJSON_GetObjectItemCaseSensitive(call, "type")->valuestring, "function"))
        return fault(self, "literal_error", "Input should be 'function'", call);
    size_t length = strlen(self->location);
    const cJSON *function = member(self, call, "function");
    bool fine = function && check_object(self, function) &&
                need_member_text(self, function, "name") &&
                need_member_text(self, function, "arguments");
    self->location[length] = '\0';
    return fine;
}

/* Runs check on a member that is there. */
static bool check_member(reader *self, const cJSON *object, const char *name,
                         bool (*check)(reader *self, const cJSON *item)) {
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, name);
    size_t length = strlen(self->location);
    if (!value) return true;
    snprintf(self->location + length, sizeof self->location - length, ".%s", name);
    bool fine = check_list(self, value) && each(self, value, check);
    self->location[length] = '\0';
    return fine;
}

static bool check_content(reader *self, const cJSON *message, const char *role) {
    static const char *const known[] = {"developer", "system", "user", "assistant",
                                        "tool"};
    const cJSON *content = cJSON_GetObjectItemCaseSensitive(message, "content");
    size_t length = strlen(self->location);
    bool is_known = false;
    for (size_t i = 0; i < COUNT(known); i++)
        is_known = is_known || !strcmp(role, known[i]);
    if (cJSON_IsArray(content))
        return check_member(self, message, "content",
                            is_known ? check_known_part : check_part);
    if (!content || cJSON_IsString(content)) return true;
    if (cJSON_IsNull(content) && !strcmp(role, "assistant")) return true;
    snprintf(self->location + length, sizeof self->location - length, ".content");
    fault(self, "string_type", "Input should be a valid string", content);
    fault(self, "iterable_type", "Input should be iterable", content);
    self->location[length] = '\0';
    return false;
}

static bool check_message(reader *self, const cJSON *message) {
    if (!check_object(self, message) || !need_member_text(self, message, "role"))
        return false;
    const char *role = cJSON_GetObjectItemCaseSensitive(message, "role")->valuestring;
    if (!check_content(self, message, role) ||
        !check_member_text(self, message, "name", false) ||
        !check_member_text(self, message, "tool_call_id", true))
        return false;
    /* null passes beside a text. */
    const cJSON *calls = cJSON_GetObjectItemCaseSensitive(message, "tool_calls");
    const cJSON *content = cJSON_GetObjectItemCaseSensitive(message, "content");
    if (strcmp(role, "assistant") != 0 ||
        (cJSON_IsNull(calls) && cJSON_IsString(content)))
        return true;
    return check_member(self, message, "tool_calls", check_call);
}

static bool check_tool(reader *self, const cJSON *tool) {
    if (!check_object(self, tool)) return false;
    size_t length = strlen(self->location);
    const cJSON *function = member(self, tool, "function");
    bool fine = function && check_object(self, function);
    const cJSON *name = fine ? member(self, function, "name") : NULL;
    fine = name && check_word(self, name);
    self->location[length] = '\0';
    return fine;
}

/* ---- reading ----------------------------------------------------------------------- */

static bool read_whole(reader *self, const field *at, const cJSON *value,
                       cohort_value *out) {
    char message[64], context[24];
    int least = at->flags & LEAST_IS_1 ? 1 : at->flags & LEAST_IS_0 ? 0 : -1;
    bool has_least = at->flags & (LEAST_IS_MINUS_1 | LEAST_IS_0 | LEAST_IS_1);
    double number = cJSON_IsNumber(value) ? value->valuedouble : 0;
    if (at->flags & CLAMPED && isfinite(number) && fabs(number) >= 0x1p63)
        out->whole = number < 0 ? INT64_MIN : INT64_MAX;
    else if (!read_integer(self, value, &out->whole))
        return false;
    out->real = (double)out->whole;
    if (!has_least || out->whole >= least) return true;
    snprintf(message, sizeof message, "Input should be greater than or equal to %d",
             least);
    snprintf(context, sizeof context, "'ge': %d", least);
    cohort_api_fault(self->error, "greater_than_equal", self->location, message, value,
                     context);
    return false;
}

static bool read_literal(reader *self, const field *at, const cJSON *value,
                         cohort_value *out) {
    char quoted[32], message[120], context[120];
    const char *text = cJSON_GetStringValue(value);
    snprintf(quoted, sizeof quoted, "'%.20s'", text ? text : "");
    if (text && strlen(text) <= 20 && strstr(at->type, quoted)) {
        out->text = text;
        return true;
    }
    snprintf(message, sizeof message, "Input should be %s", at->type);
    snprintf(context, sizeof context, "'expected': \"%s\"", at->type);
    cohort_api_fault(self->error, "literal_error", self->location, message, value,
                     context);
    return false;
}

static bool read_field(reader *self, const field *at, const cJSON *value,
                       cohort_value *out) {
    out->json = value;
    switch (at->kind) {
    case INTEGER: return read_whole(self, at, value, out);
    case LITERAL: return read_literal(self, at, value, out);
    case NUMBER: return read_number(self, value, &out->real);
    case TRUTH: return read_truth(self, value, &out->whole);
    case TEXT: return read_text(self, value, &out->text);
    case LIST: return check_list(self, value) && each(self, value, check_object);
    case WORDS: return check_words(self, value);
    case IDS: return check_list(self, value) && each(self, value, check_whole);
    case PROMPT: return read_prompt(self, value);
    case STOP: return read_stop(self, value);
    case BIAS: return read_bias(self, value);
    case MESSAGES: return check_list(self, value) && each(self, value, check_message);
    case TOOLS: return check_list(self, value) && each(self, value, check_tool);
    case CHOICE: return true; /* tools.c */
    case OBJECT:
    case FORMAT:
    case STRUCT: return check_object(self, value);
    case TEXT_OR_IDS: return true;
    }
    return true;
}

static void set_standard(const field *at, cohort_value *out) {
    if (!at->standard) return;
    out->whole = !strcmp(at->standard, "true") ? 1 : strtoll(at->standard, NULL, 10);
    out->real = strtod(at->standard, NULL);
}

/* Refused only where it asks for something: false, [] and the like are what happens
 * anyway. */
static bool asks_for_nothing(const field *at, const cohort_value *value) {
    if (at->kind == TRUTH) return !value->whole;
    if (cJSON_IsArray(value->json)) return !value->json->child;
    if (!strcmp(at->name, "thinking_token_budget")) return value->whole == -1;
    /* repetition_detection looks for patterns of up to so many tokens. */
    const cJSON *most = cJSON_GetObjectItemCaseSensitive(value->json, "max_pattern_size");
    return !strcmp(at->name, "repetition_detection") && cJSON_IsObject(value->json) &&
           (!most || most->valuedouble == 0);
}

/* parent: "body", or of a field's own fields "body.NAME". */
static void read_row(reader *self, const char *parent, const field *at,
                     const cJSON *object, const cJSON *value, cohort_api_request *out) {
    cohort_value ignored = {0};
    bool is_idle = at->offset == TO(other);
    cohort_value *to = is_idle ? &ignored : (void *)((char *)out + at->offset);
    set_standard(at, to);
    snprintf(self->location, sizeof self->location, "%s.%s", parent, at->name);
    if (!value) {
        if (at->flags & REQUIRED) fault(self, "missing", "Field required", object);
        return;
    }
    to->is_null = cJSON_IsNull(value) && (at->flags & NULLABLE);
    if (to->is_null) return;
    to->is_set = read_field(self, at, value, to);
    if (to->is_set && (at->flags & REFUSED) && !asks_for_nothing(at, to))
        cohort_api_refuse(self->error, 400, at->name, "%s is not supported", at->name);
}

/* The position of an error is in the place of a field, as FastAPI does it. */
static bool refuse_text(cohort_api_error *error, const cohort_server_json_fault *broken) {
    char location[40], context[120];
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
    cohort_server_json_fault broken;
    if (size == 0) {
        cohort_api_fault_text(error, "missing", "body", "Field required", "None", NULL);
        return false;
    }
    if (!cohort_server_json_scan(text, size, &broken)) return refuse_text(error, &broken);
    out->json = cJSON_ParseWithLength(text, size);
    if (!out->json) {
        /* cJSON refuses what JSON allows only where surrogates do not pair up. */
        if (!cohort_server_json_has_lone_surrogate(text, size))
            return cohort_api_refuse(error, 503, NULL,
                                     "memory is short; try again later");
        broken = (cohort_server_json_fault){"Invalid \\uXXXX escape", 0};
        return refuse_text(error, &broken);
    }
    if (cJSON_IsObject(out->json)) return true;
    cohort_api_fault(error, "model_attributes_type", "body",
                     "Input should be a valid dictionary or object to extract fields "
                     "from",
                     out->json, NULL);
    return false;
}

static void read_rows(reader *self, const char *parent, const field *fields,
                      size_t n_fields, const cJSON *object, cohort_api_request *out) {
    const cJSON *values[80] = {0}, *item;
    _Static_assert(COUNT(chat_fields) <= 80, "values has 80");
    _Static_assert(COUNT(completion_fields) <= 80, "values has 80");
    /* Of a name that is there twice the last counts, as in Python. */
    cJSON_ArrayForEach(item, object) for (size_t i = 0; i < n_fields; i++) {
        if (strcmp(item->string, fields[i].name)) continue;
        values[i] = item;
        break;
    }
    for (size_t i = 0; i < n_fields; i++)
        read_row(self, parent, &fields[i], object, values[i], out);
}

bool cohort_api_request_read(cohort_api_request *out, cohort_schema schema,
                             const char *text, size_t size, cohort_api_error *error) {
    *out = (cohort_api_request){0};
    if (!parse(out, text, size, error)) return false;
    if (schema == COHORT_SCHEMA_TOKENIZE && cJSON_HasObjectItem(out->json, "messages") &&
        !cJSON_HasObjectItem(out->json, "prompt"))
        schema = COHORT_SCHEMA_TOKENIZE_CHAT; /* one route takes either */
    cohort_chat_keep_numbers(out->json, text, size);
    if (!cohort_server_json_unite_members(out->json, NULL))
        return cohort_api_refuse(error, 503, NULL, "memory is short; try again later");
    reader self = {.error = error};
    const struct schema *of = &schemas[schema];
    read_rows(&self, "body", of->fields, of->n_fields, out->json, out);
    if (out->stream_options.is_set)
        read_rows(&self, "body.stream_options", stream_option_fields,
                  COUNT(stream_option_fields), out->stream_options.json, out);
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

void cohort_api_request_deinit(cohort_api_request *request) {
    cJSON_Delete(request->json);
    *request = (cohort_api_request){0};
}

/* ---- openapi ----------------------------------------------------------------------- */

#define ARRAY_OF(inside) "{\"type\":\"array\",\"items\":" inside "}"
#define ID               "{\"type\":\"integer\",\"minimum\":0}"
#define STRING           "{\"type\":\"string\"}"

/* Alternatives, as members of anyOf; a single one stands alone. */
static const char *kind_schema(const field *at) {
    switch (at->kind) {
    case INTEGER: return "{\"type\":\"integer\"}";
    case NUMBER: return "{\"type\":\"number\"}";
    case TRUTH: return "{\"type\":\"boolean\"}";
    case TEXT:
    case LITERAL: return STRING;
    case LIST:
    case TOOLS:
    case MESSAGES: return ARRAY_OF("{\"type\":\"object\"}");
    case OBJECT: return "{\"type\":\"object\"}";
    case WORDS: return ARRAY_OF(STRING);
    case IDS: return ARRAY_OF("{\"type\":\"integer\"}");
    case PROMPT:
        return ARRAY_OF(ID) "," ARRAY_OF(ARRAY_OF(ID)) "," STRING "," ARRAY_OF(STRING);
    case TEXT_OR_IDS: return STRING "," ARRAY_OF(STRING);
    case STOP: return STRING "," ARRAY_OF(STRING);
    case BIAS:
        return "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"number\"}}";
    case FORMAT:
        return "{\"$ref\":\"#/components/schemas/ResponseFormat\"},{\"$ref\":\"#/"
               "components/schemas/StructuralTagResponseFormat\"},{\"$ref\":\"#/"
               "components/schemas/LegacyStructuralTagResponseFormat\"}";
    case CHOICE:
        return "{\"type\":\"string\",\"const\":\"none\"},{\"type\":\"string\",\"const\":"
               "\"auto\"},{\"type\":\"string\",\"const\":\"required\"},{\"$ref\":\"#/"
               "components/schemas/ChatCompletionNamedToolChoiceParam\"}";
    case STRUCT: return NULL;
    }
    return NULL;
}

static bool has_alternatives(const field *at) {
    return at->flags & NULLABLE || at->kind == PROMPT || at->kind == STOP ||
           at->kind == CHOICE || at->kind == TEXT_OR_IDS;
}

static void write_field(cohort_body *out, const field *at) {
    const char *shape = kind_schema(at);
    bool many = has_alternatives(at);
    cohort_body_printf(out, "\"%s\":{", at->name);
    if (many) cohort_body_puts(out, "\"anyOf\":[");
    if (!shape)
        cohort_body_printf(out, "%s\"$ref\":\"#/components/schemas/%s\"%s",
                           many ? "{" : "", at->type, many ? "}" : "");
    else if (many)
        cohort_body_puts(out, shape);
    else /* without its braces */
        cohort_body_add(out, shape + 1, strlen(shape) - 2);
    if (at->flags & NULLABLE) cohort_body_puts(out, ",{\"type\":\"null\"}");
    if (many) cohort_body_puts(out, "]");
    if (at->standard) cohort_body_printf(out, ",\"default\":%s", at->standard);
    cohort_body_puts(out, "}");
}

static void write_properties(cohort_body *out, const field *fields, size_t n_fields) {
    cohort_body_puts(out, "{\"type\":\"object\",\"properties\":{");
    for (size_t i = 0; i < n_fields; i++) {
        if (i) cohort_body_puts(out, ",");
        write_field(out, &fields[i]);
    }
    cohort_body_puts(out, "}");
}

static void write_named(cohort_body *out) {
    static const char *const names[] = {"StructuredOutputsParams",
                                        "RepetitionDetectionParams",
                                        "ResponseFormat",
                                        "StructuralTagResponseFormat",
                                        "LegacyStructuralTagResponseFormat",
                                        "ChatCompletionNamedToolChoiceParam"};
    for (size_t i = 0; i < COUNT(names); i++)
        cohort_body_printf(out, "%s\"%s\":{\"type\":\"object\"}", i ? "," : "", names[i]);
}

void cohort_schema_write(cohort_body *out) {
    cohort_body_puts(out, "{");
    write_named(out);
    cohort_body_puts(out, ",\"StreamOptions\":");
    write_properties(out, stream_option_fields, COUNT(stream_option_fields));
    cohort_body_puts(out, "}");
    for (size_t s = 0; s < COHORT_N_SCHEMAS; s++) {
        bool has_required = false;
        cohort_body_printf(out, ",\"%s\":", schemas[s].name);
        write_properties(out, schemas[s].fields, schemas[s].n_fields);
        for (size_t i = 0; i < schemas[s].n_fields; i++) {
            if (!(schemas[s].fields[i].flags & REQUIRED)) continue;
            cohort_body_printf(out, "%s\"%s\"", has_required ? "," : ",\"required\":[",
                               schemas[s].fields[i].name);
            has_required = true;
        }
        cohort_body_puts(out, has_required ? "]}" : "}");
    }
    cohort_body_puts(out, "}");
}
