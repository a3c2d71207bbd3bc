/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/request.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "chat/json_text.h"
#include "engine/engine_options.h"
#include "wire/sampling_options.h"

typedef struct reader {
    cli_request *out;
    char *why;
    size_t why_size;
} reader;

#define REFUSE(self, ...) (snprintf((self)->why, (self)->why_size, __VA_ARGS__), false)

static bool read_bias(reader *self, const cJSON *object) {
    int n = cJSON_GetArraySize(object);
    if (!cJSON_IsObject(object)) return REFUSE(self, "logit_bias is no object");
    if (n > COHORT_MAX_LOGIT_BIAS)
        return REFUSE(self, "logit_bias has %d entries, at most %d", n,
                      COHORT_MAX_LOGIT_BIAS);
    free(self->out->bias);
    self->out->bias = calloc((size_t)n + 1, sizeof *self->out->bias);
    if (!self->out->bias) return REFUSE(self, "out of memory");
    cohort_sampling_params *sampling = &self->out->request.sampling;
    sampling->bias = self->out->bias;
    sampling->n_bias = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, object) {
        char *end;
        long id = strtol(item->string, &end, 10);
        if (end == item->string || *end || id < 0 || id > INT32_MAX ||
            !cJSON_IsNumber(item))
            return REFUSE(self, "logit_bias '%.40s' is no token id with a number",
                          item->string);
        self->out->bias[sampling->n_bias++] =
            (cohort_token_bias){(int32_t)id, (float)item->valuedouble};
    }
    return true;
}

static bool read_ids(reader *self, const char *name, const cJSON *list, int32_t **ids,
                     size_t *count) {
    if (!cJSON_IsArray(list)) return REFUSE(self, "%s is no list", name);
    free(*ids);
    *ids = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof **ids);
    if (!*ids) return REFUSE(self, "out of memory");
    *count = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, list) {
        double id = item->valuedouble;
        if (!cJSON_IsNumber(item) || id < 0 || id > INT32_MAX || id != floor(id))
            return REFUSE(self, "%s holds something that is no token id", name);
        (*ids)[(*count)++] = (int32_t)id;
    }
    return true;
}

static bool add_stop(reader *self, const char *text) {
    cohort_request *request = &self->out->request;
    if (!text || !*text) return REFUSE(self, "stop holds something that is no text");
    if (request->n_stop == CLI_MAX_STOP)
        return REFUSE(self, "more than %d stop strings", CLI_MAX_STOP);
    self->out->stop[request->n_stop++] = text;
    request->stop = self->out->stop;
    return true;
}

static bool read_stop(reader *self, const cJSON *value) {
    const cJSON *item;
    self->out->request.n_stop = 0;
    if (!cJSON_IsArray(value)) return add_stop(self, cJSON_GetStringValue(value));
    cJSON_ArrayForEach(
        item, value) if (!add_stop(self, cJSON_GetStringValue(item))) return false;
    return true;
}

static bool read_bad_words(reader *self, const cJSON *list) {
    cohort_request *request = &self->out->request;
    const cJSON *item;
    if (!cJSON_IsArray(list)) return REFUSE(self, "bad_words is no list");
    free(self->out->bad_words);
    self->out->bad_words =
        calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof *self->out->bad_words);
    if (!self->out->bad_words) return REFUSE(self, "out of memory");
    request->bad_words = self->out->bad_words;
    request->n_bad_words = 0;
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsString(item) || !*item->valuestring)
            return REFUSE(self, "bad_words holds something that is no text");
        self->out->bad_words[request->n_bad_words++] = item->valuestring;
    }
    return true;
}

/* A number or a truth. */
static bool read_plain(reader *self, const cohort_option *row, void *of,
                       const cJSON *value) {
    bool is_whole = row->kind == COHORT_KIND_COUNT;
    if (row->kind == COHORT_KIND_FLAG) {
        if (!cJSON_IsBool(value))
            return REFUSE(self, "%s is neither true nor false", value->string);
        return cohort_option_parse(row, of, cJSON_IsTrue(value) ? "true" : "false");
    }
    if (cJSON_IsNumber(value) && cohort_option_set_number(row, of, value->valuedouble))
        return true;
    return REFUSE(self, "%s must be a%s number from %g to %g", value->string,
                  is_whole ? " whole" : "", row->least, row->most);
}

/* The row of a name with underscores, as JSON has it, and what it is over. */
static const cohort_option *find_plain(cohort_request *request, const char *name,
                                       void **of) {
    const cohort_option *row = cohort_options_find(&cohort_request_option_table, name);
    *of = row ? (void *)request : &request->sampling;
    if (!row) row = cohort_options_find(&cohort_sampling_option_table, name);
    return row && !strchr(name, '-') ? row : NULL;
}

/* ---- chats ------------------------------------------------------------------------- */

static const char *const chat_fields[] = {"messages",
                                          "tools",
                                          "documents",
                                          "chat_template_kwargs",
                                          "add_generation_prompt",
                                          "continue_final_message"};

static bool open_chat(reader *self, const cli_options *options, cohort_chat **chat) {
    if (*chat) return true;
    if (cohort_chat_open(options->tokenizer_dir, options->server.chat_template,
                         options->server.content_format, chat) < 0)
        return REFUSE(self, "%s", cohort_last_error()->message);
    return true;
}

/* The prompt that the messages become. */
static bool read_chat(reader *self, const cohort_engine *engine,
                      const cohort_chat *chat) {
    const cJSON *line = self->out->line;
    const cJSON *adds = cJSON_GetObjectItemCaseSensitive(line, "add_generation_prompt");
    cohort_request *request = &self->out->request;
    const cohort_conversation conversation = {
        .messages = cJSON_GetObjectItemCaseSensitive(line, "messages"),
        .tools = cJSON_GetObjectItemCaseSensitive(line, "tools"),
        .documents = cJSON_GetObjectItemCaseSensitive(line, "documents"),
        .extra = cJSON_GetObjectItemCaseSensitive(line, "chat_template_kwargs"),
        .add_generation_prompt = !adds || cJSON_IsTrue(adds),
        .continue_final_message = cJSON_IsTrue(
            cJSON_GetObjectItemCaseSensitive(line, "continue_final_message"))};
    char *text;
    size_t size;
    if (conversation.add_generation_prompt && conversation.continue_final_message)
        return REFUSE(self, "continue_final_message needs add_generation_prompt false");
    if (!cJSON_IsArray(conversation.messages)) return REFUSE(self, "messages is no list");
    if (request->prompt || request->prompt_token_ids)
        return REFUSE(self, "both messages and a prompt");
    if (cohort_chat_render(chat, &conversation, &text, &size) < 0)
        return REFUSE(self, "%s", cohort_last_error()->message);
    cohort_status status = cohort_engine_tokenize(
        engine, text, size, false, &self->out->prompt_ids, &request->n_prompt_token_ids);
    free(text);
    if (status < 0) return REFUSE(self, "%s", cohort_last_error()->message);
    request->prompt_token_ids = self->out->prompt_ids;
    return true;
}

/* ---- all of a request -------------------------------------------------------------- */

static bool read_field(reader *self, const cJSON *value) {
    cohort_request *request = &self->out->request;
    const char *name = value->string;
    if (cJSON_IsNull(value)) return true;
    if (!strcmp(name, "prompt")) {
        request->prompt = cJSON_GetStringValue(value);
        if (!request->prompt) return REFUSE(self, "prompt is no text");
        request->prompt_bytes = strlen(request->prompt);
        return true;
    }
    if (!strcmp(name, "prompt_token_ids")) {
        bool read = read_ids(self, name, value, &self->out->prompt_ids,
                             &request->n_prompt_token_ids);
        request->prompt_token_ids = self->out->prompt_ids;
        return read;
    }
    for (size_t i = 0; i < sizeof chat_fields / sizeof *chat_fields; i++)
        if (!strcmp(name, chat_fields[i])) return true; /* together, behind the others */
    if (!strcmp(name, "logit_bias")) return read_bias(self, value);
    if (!strcmp(name, "stop")) return read_stop(self, value);
    if (!strcmp(name, "seed")) {
        if (!cJSON_IsNumber(value) || value->valuedouble < 0 ||
            value->valuedouble > 0x1p53)
            return REFUSE(self, "seed must be a whole number from 0 to 2^53");
        request->has_seed = true;
        request->sampling.seed = (uint64_t)value->valuedouble;
        return true;
    }
    if (!strcmp(name, "stop_token_ids")) {
        size_t n = 0;
        if (!read_ids(self, name, value, &self->out->stop_ids, &n)) return false;
        request->sampling.stop_tokens = self->out->stop_ids;
        request->sampling.n_stop_tokens = (uint32_t)n;
        return true;
    }
    if (!strcmp(name, "allowed_token_ids")) {
        bool read = read_ids(self, name, value, &self->out->allowed_ids,
                             &request->n_allowed_token_ids);
        request->allowed_token_ids = self->out->allowed_ids;
        return read;
    }
    if (!strcmp(name, "bad_words")) return read_bad_words(self, value);
    void *of;
    const cohort_option *row = find_plain(request, name, &of);
    return row ? read_plain(self, row, of, value)
               : REFUSE(self, "unknown field '%.60s'", name);
}

/* What was not given of the sampling stays the model's own default. */
static void take_numbers(cohort_request *request, const cli_options *options) {
    const cohort_request *given = &options->request;
    for (size_t i = 0; i < cohort_sampling_option_table.n; i++) {
        const cohort_option *row = &cohort_sampling_option_table.rows[i];
        if (cli_option_given(options, row, &given->sampling))
            cohort_option_copy(row, &request->sampling, &given->sampling);
    }
    cohort_options_copy(&cohort_request_option_table, request,
                        &cohort_request_option_table, given);
    request->skip_special_tokens = !options->keep_special;
    request->detokenize = !options->engine.skip_tokenizer_init;
}

/* One message; or, where no template makes a chat of it, a text to continue. */
static bool read_prompt(reader *self, const cohort_engine *engine,
                        const cli_options *options, cohort_chat **chat) {
    cohort_request *request = &self->out->request;
    bool is_text = options->skip_chat_template || options->engine.skip_tokenizer_init;
    if (!is_text && !open_chat(self, options, chat)) return false;
    if (is_text || !cohort_chat_has_template(*chat)) {
        request->prompt = options->prompt;
        request->prompt_bytes = strlen(options->prompt);
        return true;
    }
    cJSON *message = cJSON_CreateObject();
    self->out->line = cJSON_CreateObject();
    cJSON_AddStringToObject(message, "role", "user");
    cJSON_AddStringToObject(message, "content", options->prompt);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(self->out->line, "messages"), message);
    return read_chat(self, engine, *chat);
}

static bool read_options(reader *self, const cohort_engine *engine,
                         const cli_options *options, cohort_chat **chat) {
    cohort_request *request = &self->out->request;
    size_t n = 0;
    for (int i = 0; options->stop[i]; i++)
        if (!add_stop(self, options->stop[i])) return false;
    if (options->stop_token_ids) {
        if (!cli_parse_ids(options->stop_token_ids, &self->out->stop_ids, &n))
            return REFUSE(self, "--stop-token-ids '%s' is no list as 1,2,3",
                          options->stop_token_ids);
        request->sampling.stop_tokens = self->out->stop_ids;
        request->sampling.n_stop_tokens = (uint32_t)n;
    }
    if (options->logit_bias) {
        cJSON *bias = cJSON_Parse(options->logit_bias);
        bool read = read_bias(self, bias);
        cJSON_Delete(bias);
        if (!read) return false;
    }
    if (options->prompt_token_ids) {
        if (!cli_parse_ids(options->prompt_token_ids, &self->out->prompt_ids,
                           &request->n_prompt_token_ids))
            return REFUSE(self, "--prompt-token-ids '%s' is no list as 1,2,3",
                          options->prompt_token_ids);
        request->prompt_token_ids = self->out->prompt_ids;
    }
    return !options->prompt || read_prompt(self, engine, options, chat);
}

int cli_request_from_options(cli_request *out, const cohort_engine *engine,
                             const cli_options *options, cohort_chat **chat,
                             char *out_why, size_t why_size) {
    *out = (cli_request){.request = cohort_engine_request_defaults(engine)};
    reader self = {out, out_why, why_size};
    take_numbers(&out->request, options);
    cohort_engine_info info;
    cohort_engine_describe(engine, &info);
    if (!cli_options_given(options, &options->request.max_tokens))
        out->request.max_tokens = info.default_max_tokens; /* 0: all that fit */
    return read_options(&self, engine, options, chat) ? CLI_OK : CLI_USAGE;
}

int cli_request_from_line(cli_request *out, const cohort_engine *engine,
                          const cli_options *options, cohort_chat **chat,
                          const char *line, size_t size, char *out_why, size_t why_size) {
    reader self = {out, out_why, why_size};
    int result = cli_request_from_options(out, engine, options, chat, out_why, why_size);
    if (result != CLI_OK) return result;
    cohort_chat_json_fault broken;
    if (!cohort_chat_json_load(line, size, &out->line, &broken) ||
        !cJSON_IsObject(out->line)) {
        snprintf(out_why, why_size, "not a JSON object: %.*s",
                 (int)(size < 60 ? size : 60), line);
        return CLI_USAGE;
    }
    const cJSON *value;
    cJSON_ArrayForEach(value, out->line) if (!read_field(&self, value)) return CLI_USAGE;
    if (cJSON_GetObjectItemCaseSensitive(out->line, "messages"))
        return open_chat(&self, options, chat) && read_chat(&self, engine, *chat)
                   ? CLI_OK
                   : CLI_USAGE;
    if (!out->request.prompt && !out->request.prompt_token_ids) {
        snprintf(out_why, why_size,
                 "none of \"prompt\", \"prompt_token_ids\" and \"messages\"");
        return CLI_USAGE;
    }
    return CLI_OK;
}

void cli_request_deinit(cli_request *request) {
    cJSON_Delete(request->line);
    free(request->prompt_ids);
    free(request->stop_ids);
    free(request->allowed_ids);
    free(request->bad_words);
    free(request->bias);
}
