/* SPDX-License-Identifier: Apache-2.0 */
#include "server/params.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/sampling_options.h"

typedef struct reader {
    cohort_params *out;
    const cohort_api_request *api;
    const cohort_params_limits *limits;
    cohort_api_error *error;
    bool is_chat;
} reader;

/* What is colder, but not 0, is as warm as this: vLLM's _MAX_TEMP. */
#define LEAST_TEMPERATURE 0.01

enum { DEFAULT_MAX_TOKENS = 16 };

static bool out_of_memory(reader *self) {
    return cohort_api_refuse(self->error, 503, NULL, "out of memory");
}

/* ---- lists ------------------------------------------------------------------------- */

static bool read_stop(reader *self) {
    const cJSON *json = self->api->stop.json;
    cohort_request *request = &self->out->request;
    if (!self->api->stop.is_set) return true;
    bool is_list = cJSON_IsArray(json);
    size_t n = is_list ? (size_t)cJSON_GetArraySize(json) : 1, bytes = 0;
    if (n > COHORT_MAX_STOP_STRINGS)
        return cohort_api_refuse(self->error, 400, "stop",
                                 "stop has %zu strings, at most %d are supported", n,
                                 COHORT_MAX_STOP_STRINGS);
    self->out->stop = calloc(n + 1, sizeof *self->out->stop);
    if (!self->out->stop) return out_of_memory(self);
    for (const cJSON *item = is_list ? json->child : json; item;
         item = is_list ? item->next : NULL) {
        const char *text = cJSON_GetStringValue(item);
        if (!*text)
            return cohort_api_refuse(self->error, 400, NULL,
                                     "stop cannot contain an empty string.");
        self->out->stop[request->n_stop++] = text;
        bytes += strlen(text);
    }
    if (bytes > COHORT_MAX_STOP_BYTES)
        return cohort_api_refuse(
            self->error, 400, "stop",
            "the stop strings have %zu bytes together, at most %d are supported", bytes,
            COHORT_MAX_STOP_BYTES);
    request->stop = self->out->stop;
    return true;
}

static bool read_ids(reader *self, const char *name, const cohort_value *given,
                     int32_t **out_ids, size_t *out_count) {
    const cJSON *item;
    if (!given->is_set) return true;
    *out_ids = calloc((size_t)cJSON_GetArraySize(given->json) + 1, sizeof **out_ids);
    if (!*out_ids) return out_of_memory(self);
    cJSON_ArrayForEach(item, given->json) {
        int64_t id = cohort_api_id(item);
        if (id < 0 || id >= self->limits->vocab_size)
            return cohort_api_refuse(self->error, 400, name,
                                     "%s: token id %lld is out of vocabulary", name,
                                     (long long)id);
        (*out_ids)[(*out_count)++] = (int32_t)id;
    }
    return true;
}

static bool read_id_lists(reader *self) {
    cohort_params *out = self->out;
    cohort_request *request = &out->request;
    size_t n_stop = 0;
    if (!read_ids(self, "stop_token_ids", &self->api->stop_token_ids, &out->stop_ids,
                  &n_stop) ||
        !read_ids(self, "allowed_token_ids", &self->api->allowed_token_ids,
                  &out->allowed_ids, &request->n_allowed_token_ids))
        return false;
    if (n_stop > COHORT_MAX_OWN_STOP_TOKENS)
        return cohort_api_refuse(self->error, 400, "stop_token_ids",
                                 "stop_token_ids has %zu ids, at most %d are supported",
                                 n_stop, COHORT_MAX_OWN_STOP_TOKENS);
    request->sampling.stop_tokens = out->stop_ids;
    request->sampling.n_stop_tokens = (uint32_t)n_stop;
    request->allowed_token_ids = out->allowed_ids;
    if (out->allowed_ids && request->n_allowed_token_ids == 0)
        return cohort_api_refuse(self->error, 400, "allowed_token_ids",
                                 "allowed_token_ids is not None and empty!");
    return true;
}

static bool read_bad_words(reader *self) {
    const cJSON *json = self->api->bad_words.json, *item;
    cohort_request *request = &self->out->request;
    if (!self->api->bad_words.is_set) return true;
    self->out->bad_words =
        calloc((size_t)cJSON_GetArraySize(json) + 1, sizeof *self->out->bad_words);
    if (!self->out->bad_words) return out_of_memory(self);
    cJSON_ArrayForEach(item, json) {
        if (!*item->valuestring)
            return cohort_api_refuse(self->error, 400, NULL,
                                     "bad_words cannot contain an empty string.");
        self->out->bad_words[request->n_bad_words++] = item->valuestring;
    }
    request->bad_words = self->out->bad_words;
    return true;
}

/* As Python's int() takes it: blanks around, single underscores between digits. */
static bool read_python_int(const char *text, int64_t *out) {
    char digits[32];
    size_t n = 0;
    while (isspace((unsigned char)*text))
        text++;
    if (*text == '-' || *text == '+') digits[n++] = *text++;
    for (bool may_join = false;
         isdigit((unsigned char)*text) ||
         (may_join && *text == '_' && isdigit((unsigned char)text[1]));
         text++) {
        may_join = *text != '_';
        if (may_join && n < sizeof digits - 1) digits[n++] = *text;
    }
    digits[n] = '\0';
    while (isspace((unsigned char)*text))
        text++;
    *out = strtoll(digits, NULL, 10);
    return !*text && n && isdigit((unsigned char)digits[n - 1]);
}

static bool read_bias(reader *self) {
    const cJSON *json = self->api->logit_bias.json, *item;
    cohort_sampling_params *sampling = &self->out->request.sampling;
    if (!self->api->logit_bias.is_set) return true;
    self->out->bias =
        calloc((size_t)cJSON_GetArraySize(json) + 1, sizeof(*sampling->bias));
    if (!self->out->bias) return out_of_memory(self);
    cJSON_ArrayForEach(item, json) {
        int64_t id;
        if (!read_python_int(item->string, &id))
            return cohort_api_refuse(self->error, 400, "logit_bias",
                                     "logit_bias: '%.40s' is no token id", item->string);
        if (id < 0 || id >= self->limits->vocab_size)
            return cohort_api_refuse(self->error, 400, "logit_bias",
                                     "logit_bias: token id %lld is out of vocabulary",
                                     (long long)id);
        const char *text = cJSON_GetStringValue(item);
        double bias = text ? strtod(text, NULL) : item->valuedouble;
        /* OpenAI's range; vLLM clamps to it. */
        bias = bias < -100 ? -100 : bias > 100 ? 100 : bias;
        self->out->bias[sampling->n_bias++] =
            (cohort_token_bias){(int32_t)id, (float)bias};
    }
    if (sampling->n_bias > COHORT_MAX_LOGIT_BIAS)
        return cohort_api_refuse(self->error, 400, "logit_bias",
                                 "logit_bias has %u pairs, at most %d are supported",
                                 sampling->n_bias, COHORT_MAX_LOGIT_BIAS);
    sampling->bias = self->out->bias;
    return true;
}

/* ---- numbers ----------------------------------------------------------------------- */

static bool read_temperature(reader *self) {
    const cohort_value *given = &self->api->temperature;
    char text[40];
    if (!given->is_set) return true;
    cohort_api_float(given->real, text, sizeof text);
    if (!(given->real >= 0))
        return cohort_api_refuse_value(self->error, "temperature", text,
                                       "temperature must be non-negative, got %s.", text);
    if (given->real > 2)
        return cohort_api_refuse_value(self->error, "temperature", text,
                                       "temperature must be in [0, 2], got %s.", text);
    self->out->request.sampling.temperature = given->real == 0 ? 0
                                              : given->real < LEAST_TEMPERATURE
                                                  ? (float)LEAST_TEMPERATURE
                                                  : (float)given->real;
    return true;
}

static bool read_ranges(reader *self) {
    const cohort_api_request *api = self->api;
    cohort_sampling_params *sampling = &self->out->request.sampling;
    char text[40];
    const struct {
        const char *name;
        const cohort_value *given;
    } ranges[] = {{"presence_penalty", &api->presence_penalty},
                  {"frequency_penalty", &api->frequency_penalty},
                  {"min_p", &api->min_p}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        const cohort_option *row =
            cohort_options_find(&cohort_choice_option_table, ranges[i].name);
        double value = ranges[i].given->real;
        if (!ranges[i].given->is_set) continue;
        if (!cohort_option_set_number(row, sampling, value))
            return cohort_api_refuse(
                self->error, 400, NULL, "%s must be in [%g, %g], got %s.", ranges[i].name,
                row->least, row->most, cohort_api_float(value, text, sizeof text));
    }
    if (api->top_p.is_set) {
        cohort_api_float(api->top_p.real, text, sizeof text);
        if (!(api->top_p.real > 0 && api->top_p.real <= 1))
            return cohort_api_refuse_value(self->error, "top_p", text,
                                           "top_p must be in (0, 1], got %s.", text);
        sampling->top_p = (float)api->top_p.real;
    }
    if (api->repetition_penalty.is_set) {
        double value = api->repetition_penalty.real;
        if (!(value > 0 && isfinite(value)))
            return cohort_api_refuse(
                self->error, 400, NULL,
                "repetition_penalty must be greater than zero, got %s.",
                cohort_api_float(value, text, sizeof text));
        const cohort_option *row =
            cohort_options_find(&cohort_choice_option_table, "repetition_penalty");
        double least = row->least * (1 + 1e-6); /* as a float not below it */
        sampling->repetition_penalty = (float)(value < least       ? least
                                               : value > row->most ? row->most
                                                                   : value);
    }
    if (api->top_k.is_set) {
        int64_t k = api->top_k.whole;
        if (k < -1)
            return cohort_api_refuse(
                self->error, 400, NULL,
                "top_k must be 0 (disable), or at least 1, got %lld.", (long long)k);
        sampling->top_k = k > INT32_MAX ? INT32_MAX : (int32_t)k;
    }
    return true;
}

static bool read_max_tokens(reader *self) {
    const cohort_api_request *api = self->api;
    const cohort_value *given = api->max_completion_tokens.is_set
                                    ? &api->max_completion_tokens
                                    : &api->max_tokens;
    cohort_request *request = &self->out->request;
    char text[32];
    /* A completion has 16 by default, a chat what the model says, or what is left of the
     * context; so has a completion that says null. */
    bool is_open = self->is_chat || given->is_null;
    request->max_tokens = is_open ? 0 : DEFAULT_MAX_TOKENS;
    self->out->default_max_tokens = self->limits->default_max_tokens;
    if (!given->is_set) return true;
    snprintf(text, sizeof text, "%lld", (long long)given->whole);
    if (given->whole == 0 && self->out->echoes && !self->is_chat) {
        self->out->prompt_only = true;
        request->max_tokens = 1;
        return true;
    }
    if (given->whole < 1)
        return cohort_api_refuse_value(self->error, "max_tokens", text,
                                       "max_tokens must be at least 1, got %s.", text);
    if (given->whole > self->limits->max_model_len)
        return cohort_api_refuse_value(
            self->error, "max_tokens", text,
            "max_tokens=%s cannot be greater than max_model_len=%d. Please request fewer "
            "output tokens.",
            text, self->limits->max_model_len);
    request->max_tokens = (int32_t)given->whole;
    return true;
}

static bool read_counts(reader *self) {
    const cohort_api_request *api = self->api;
    cohort_request *request = &self->out->request;
    if (!read_max_tokens(self)) return false;
    int32_t most = self->limits->most_max_tokens;
    if (most && request->max_tokens > most) request->max_tokens = most;
    if (api->n.whole < 1)
        return cohort_api_refuse(self->error, 400, NULL,
                                 "n must be at least 1, got %lld.",
                                 (long long)api->n.whole);
    if (api->n.whole > COHORT_MAX_COMPLETIONS)
        return cohort_api_refuse(self->error, 400, "n", "n must be at most %d, got %lld.",
                                 COHORT_MAX_COMPLETIONS, (long long)api->n.whole);
    request->n = (int32_t)api->n.whole;
    if (request->n > 1 && request->sampling.temperature <= 0)
        return cohort_api_refuse(self->error, 400, NULL,
                                 "n must be 1 when using greedy sampling, got %d.",
                                 request->n);
    int64_t least = api->min_tokens.whole;
    if (least < 0)
        return cohort_api_refuse(
            self->error, 400, NULL,
            "min_tokens must be greater than or equal to 0, got %lld.", (long long)least);
    if (request->max_tokens && least > request->max_tokens)
        return cohort_api_refuse(
            self->error, 400, NULL,
            "min_tokens must be less than or equal to max_tokens=%d, got %lld.",
            request->max_tokens, (long long)least);
    request->sampling.min_tokens = least > INT32_MAX ? INT32_MAX : (int32_t)least;
    return true;
}

/* ---- logprobs ---------------------------------------------------------------------- */

static bool check_logprobs(reader *self, const char *param, const char *what,
                           int64_t asked) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)asked);
    if (asked < 0)
        return cohort_api_refuse_value(self->error, param, text,
                                       "`%s` must be a positive value.", param);
    if (asked > self->limits->max_logprobs)
        return cohort_api_refuse_value(
            self->error, param, text,
            "Requested %s logprobs of %s, which is greater than max allowed: %d", what,
            text, self->limits->max_logprobs);
    return true;
}

/* Of all whole numbers only these may not come in a string: vLLM compares them first. */
static bool is_whole(reader *self, const char *name, const cohort_value *given) {
    const char *text = given->is_set ? cJSON_GetStringValue(given->json) : NULL;
    return !text || cohort_api_refuse_value(self->error, name, text,
                                            "`%s` must be an integer.", name);
}

static bool read_logprobs(reader *self) {
    const cohort_api_request *api = self->api;
    if (!is_whole(self, "prompt_logprobs", &api->prompt_logprobs) ||
        !is_whole(self, "top_logprobs", &api->top_logprobs) ||
        (!self->is_chat && !is_whole(self, "logprobs", &api->logprobs)))
        return false;
    cohort_sampling_params *sampling = &self->out->request.sampling;
    sampling->n_logprobs = sampling->n_prompt_logprobs = -1;
    if (self->is_chat) {
        bool wants_top = api->top_logprobs.is_set && api->top_logprobs.whole != 0;
        if (wants_top && !api->logprobs.whole)
            return cohort_api_refuse_value(
                self->error, "top_logprobs", NULL,
                "when using `top_logprobs`, `logprobs` must be set to true.");
        if (api->top_logprobs.whole < 0)
            return check_logprobs(self, "top_logprobs", "sample",
                                  api->top_logprobs.whole);
        if (api->logprobs.whole) {
            if (!check_logprobs(self, "logprobs", "sample", api->top_logprobs.whole))
                return false;
            sampling->n_logprobs = (int32_t)api->top_logprobs.whole;
        }
    } else if (api->logprobs.is_set) {
        if (!check_logprobs(self, "logprobs", "sample", api->logprobs.whole))
            return false;
        sampling->n_logprobs = (int32_t)api->logprobs.whole;
    }
    if (api->prompt_logprobs.is_set) {
        if (self->out->is_stream && api->prompt_logprobs.whole != 0)
            return cohort_api_refuse_value(
                self->error, "prompt_logprobs", NULL,
                "`prompt_logprobs` are not available when `stream=True`.");
        if (!check_logprobs(self, "prompt_logprobs", "prompt",
                            api->prompt_logprobs.whole))
            return false;
        sampling->n_prompt_logprobs = (int32_t)api->prompt_logprobs.whole;
    } else if (self->out->echoes && !self->is_chat) {
        sampling->n_prompt_logprobs = sampling->n_logprobs;
    } else if (self->out->echoes && !self->out->is_stream) {
        /* As in vLLM, with or without logprobs. */
        if (!check_logprobs(self, "top_logprobs", "prompt", api->top_logprobs.whole))
            return false;
        sampling->n_prompt_logprobs = (int32_t)api->top_logprobs.whole;
    }
    return true;
}

/* In place of the likeliest; vLLM's ranges and words. */
static bool read_logprob_ids(reader *self) {
    const cohort_api_request *api = self->api;
    cohort_sampling_params *sampling = &self->out->request.sampling;
    const cohort_value *given = &api->logprob_token_ids;
    size_t n = 0;
    char text[32];
    if (!given->is_set || !cJSON_GetArraySize(given->json)) return true;
    if (self->is_chat ? !api->logprobs.whole : !api->logprobs.is_set)
        return cohort_api_refuse_value(
            self->error, "logprob_token_ids", NULL,
            "when using `logprob_token_ids`, `logprobs` must be set%s.",
            self->is_chat ? " to true" : "");
    if (self->out->prompt_only)
        return cohort_api_refuse_value(
            self->error, "logprob_token_ids", NULL,
            "`logprob_token_ids` is not supported when `echo=True` and `max_tokens=0` "
            "because no output tokens are generated.");
    snprintf(text, sizeof text, "%d", cJSON_GetArraySize(given->json));
    if (cJSON_GetArraySize(given->json) > COHORT_MAX_LOGPROBS)
        return cohort_api_refuse_value(self->error, "logprob_token_ids", text,
                                       "Requested logprob_token_ids of length %s, which "
                                       "is greater than max allowed: %d",
                                       text, COHORT_MAX_LOGPROBS);
    if (!read_ids(self, "logprob_token_ids", given, &self->out->logprob_ids, &n))
        return false;
    /* Each is told once. */
    size_t n_given = n;
    n = 0;
    for (size_t i = 0; i < n_given; i++) {
        int32_t id = self->out->logprob_ids[i];
        size_t at = 0;
        while (at < n && self->out->logprob_ids[at] != id)
            at++;
        self->out->logprob_ids[at] = id;
        n += at == n;
    }
    sampling->logprob_token_ids = self->out->logprob_ids;
    sampling->n_logprob_token_ids = (uint32_t)n;
    sampling->n_logprobs = (int32_t)n;
    return true;
}

/* ---- structured outputs ------------------------------------------------------------ */

static bool set_grammar(reader *self, cohort_grammar_kind kind, const char *text) {
    cohort_params *out = self->out;
    out->has_grammar = true;
    out->grammar_kind = kind;
    out->grammar_text = strdup(text);
    return out->grammar_text || out_of_memory(self);
}

static bool set_grammar_json(reader *self, cohort_grammar_kind kind, const cJSON *json) {
    /* A schema may come as text, too. */
    if (kind == COHORT_GRAMMAR_JSON_SCHEMA && cJSON_IsString(json))
        return set_grammar(self, kind, json->valuestring);
    self->out->has_grammar = true;
    self->out->grammar_kind = kind;
    self->out->grammar_text = cJSON_PrintUnformatted(json);
    return self->out->grammar_text || out_of_memory(self);
}

/* vLLM's rule: what has no ::= outside of comments is Lark's notation. */
static bool is_lark(const char *text) {
    for (; *text; text++) {
        if (*text == '#' || !strncmp(text, "//", 2)) text += strcspn(text, "\n");
        if (!strncmp(text, "::=", 3)) return false;
        if (!*text) break;
    }
    return true;
}

static bool read_grammar(reader *self, const cJSON *item) {
    const char *text = cJSON_GetStringValue(item);
    if (!text || !*text)
        return cohort_api_refuse(self->error, 400, "structured_outputs",
                                 "structured_outputs.grammar must be a string that is "
                                 "not empty");
    return set_grammar(self, is_lark(text) ? COHORT_GRAMMAR_LARK : COHORT_GRAMMAR_EBNF,
                       text);
}

/* One constraint of structured_outputs; what a client leaves null is not asked for. */
static bool read_constraint(reader *self, const cJSON *item) {
    static const char *const undone[] = {"whitespace_pattern", "disable_any_whitespace",
                                         "_backend"};
    const char *name = item->string;
    if (!strcmp(name, "json"))
        return set_grammar_json(self, COHORT_GRAMMAR_JSON_SCHEMA, item);
    if (!strcmp(name, "choice"))
        return set_grammar_json(self, COHORT_GRAMMAR_CHOICE, item);
    if (!strcmp(name, "json_object"))
        return !cJSON_IsTrue(item) || set_grammar(self, COHORT_GRAMMAR_JSON_OBJECT, "");
    if (!strcmp(name, "regex")) {
        const char *pattern = cJSON_GetStringValue(item);
        if (pattern) return set_grammar(self, COHORT_GRAMMAR_REGEX, pattern);
        return cohort_api_refuse(self->error, 400, "structured_outputs",
                                 "structured_outputs.regex must be a string");
    }
    if (!strcmp(name, "grammar")) return read_grammar(self, item);
    if (!strcmp(name, "structural_tag")) {
        const char *text = cJSON_GetStringValue(item);
        if (text) return set_grammar(self, COHORT_GRAMMAR_STRUCTURAL_TAG, text);
        return cohort_api_refuse(self->error, 400, "structured_outputs",
                                 "structured_outputs.structural_tag must be a string "
                                 "of JSON");
    }
    for (size_t i = 0; i < sizeof undone / sizeof *undone; i++)
        if (!strcmp(name, undone[i]) && !cJSON_IsFalse(item))
            return cohort_api_refuse(self->error, 400, "structured_outputs",
                                     "structured_outputs.%s is not supported", name);
    return true;
}

static bool read_structured(reader *self) {
    static const char *const kinds[] = {"json",    "regex",       "choice",
                                        "grammar", "json_object", "structural_tag"};
    const cJSON *json = self->api->structured_outputs.json, *item;
    int n_kinds = 0;
    if (!self->api->structured_outputs.is_set) return true;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        item = cJSON_GetObjectItemCaseSensitive(json, kinds[i]);
        n_kinds += item && !cJSON_IsNull(item) && !cJSON_IsFalse(item);
    }
    if (n_kinds > 1)
        return cohort_api_refuse(self->error, 400, "structured_outputs",
                                 "You can only use one kind of structured outputs "
                                 "constraint but multiple are specified");
    if (n_kinds == 0)
        return cohort_api_refuse(self->error, 400, "structured_outputs",
                                 "You must use one kind of structured outputs constraint "
                                 "but none are specified");
    cJSON_ArrayForEach(item, json) {
        if (!cJSON_IsNull(item) && !read_constraint(self, item)) return false;
    }
    return true;
}

static bool read_format(reader *self) {
    const cohort_api_request *api = self->api;
    const cJSON *format = api->response_format.json;
    const char *type =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(format, "type"));
    if (!api->response_format.is_set || (type && !strcmp(type, "text"))) return true;
    bool is_object = type && !strcmp(type, "json_object");
    bool is_tag = type && !strcmp(type, "structural_tag");
    if (!is_object && !is_tag && !(type && !strcmp(type, "json_schema")))
        return cohort_api_refuse(self->error, 400, "response_format",
                                 "response_format of type '%.40s' is not supported; "
                                 "'text', 'json_object', 'json_schema' and "
                                 "'structural_tag' are",
                                 type ? type : "");
    if (self->out->has_grammar)
        return cohort_api_refuse(self->error, 400, "response_format",
                                 "You can only use one kind of structured outputs "
                                 "constraint but multiple are specified");
    if (is_object) return set_grammar(self, COHORT_GRAMMAR_JSON_OBJECT, "");
    if (is_tag) return set_grammar_json(self, COHORT_GRAMMAR_STRUCTURAL_TAG, format);
    const cJSON *given = cJSON_GetObjectItemCaseSensitive(format, "json_schema");
    if (!cJSON_IsObject(given))
        return cohort_api_refuse_value(
            self->error, "response_format", NULL,
            "When response_format type is 'json_schema', the 'json_schema' field must be "
            "provided.");
    const cJSON *schema = cJSON_GetObjectItemCaseSensitive(given, "schema");
    if (schema && !cJSON_IsNull(schema))
        return set_grammar_json(self, COHORT_GRAMMAR_JSON_SCHEMA, schema);
    return cohort_api_refuse(self->error, 400, "response_format",
                             "response_format.json_schema must have a 'schema'");
}

/* Calls that must be made go before what else was asked for, as in vLLM. */
static bool read_tools(reader *self) {
    cohort_params *out = self->out;
    if (!self->is_chat) return true;
    if (!cohort_tools_read(self->api, self->limits->auto_tool_choice, &out->tool_choice,
                           self->error))
        return false;
    /* The tags of calls may be special tokens. */
    if (out->tool_choice != COHORT_TOOLS_NONE) out->request.skip_special_tokens = false;
    if (out->tool_choice < COHORT_TOOLS_REQUIRED) return true;
    free(out->grammar_text);
    out->has_grammar = true;
    out->grammar_kind = COHORT_GRAMMAR_TOOL_CALLS;
    out->grammar_text = cohort_tools_grammar(self->api, out->tool_choice);
    return out->grammar_text || out_of_memory(self);
}

/* ---- all of them ------------------------------------------------------------------- */

static bool read_stream(reader *self) {
    const cohort_api_request *api = self->api;
    cohort_params *out = self->out;
    out->is_stream = api->stream.whole;
    out->stream_interval = self->limits->stream_interval;
    if (api->stream_interval.is_set)
        out->stream_interval = api->stream_interval.whole > INT32_MAX
                                   ? INT32_MAX
                                   : (int32_t)api->stream_interval.whole;
    out->echoes = api->echo.whole;
    out->include_usage = out->is_stream && self->limits->force_include_usage;
    if (!api->stream_options.is_set) return true;
    if (!out->is_stream && !api->stream_options.json->child) return true;
    if (!out->is_stream)
        return cohort_api_refuse_value(
            self->error, "stream_options", NULL,
            "Stream options can only be defined when `stream=True`.");
    /* True by default, says the schema; but vLLM sends none unless it is asked to. */
    if (api->include_usage.is_set && api->include_usage.whole) out->include_usage = true;
    out->continuous_usage = out->include_usage && api->continuous_usage_stats.whole;
    return true;
}

static void read_flags(reader *self) {
    const cohort_api_request *api = self->api;
    cohort_request *request = &self->out->request;
    request->ignore_eos = api->ignore_eos.whole;
    request->cache_salt = api->cache_salt.is_set ? api->cache_salt.text : NULL;
    /* Without --scheduling-policy priority all are alike, as in vLLM. */
    request->priority = !self->limits->priority_scheduling ? 0
                        : api->priority.whole < INT32_MIN  ? INT32_MIN
                        : api->priority.whole > INT32_MAX  ? INT32_MAX
                                                           : (int32_t)api->priority.whole;
    request->include_stop_str_in_output = api->include_stop_str_in_output.whole;
    request->skip_special_tokens = api->skip_special_tokens.whole;
    if (!api->seed.is_set) return;
    request->has_seed = true;
    request->sampling.seed = (uint64_t)api->seed.whole;
}

static bool read_salt(reader *self) {
    const cohort_value *given = &self->api->cache_salt;
    if (!given->is_set || *given->text) return true;
    return cohort_api_refuse_value(
        self->error, "cache_salt", NULL,
        "Parameter 'cache_salt' must be a non-empty string if provided.");
}

bool cohort_params_read(cohort_params *out, const cohort_api_request *api, bool is_chat,
                        const cohort_request *defaults,
                        const cohort_params_limits *limits, cohort_api_error *error) {
    *out = (cohort_params){.request = *defaults};
    reader self = {out, api, limits, error, is_chat};
    read_flags(&self);
    return read_salt(&self) && read_stream(&self) && read_logprobs(&self) &&
           read_temperature(&self) && read_ranges(&self) && read_counts(&self) &&
           read_stop(&self) && read_id_lists(&self) && read_logprob_ids(&self) &&
           read_bias(&self) && read_bad_words(&self) && read_structured(&self) &&
           read_format(&self) && read_tools(&self);
}

void cohort_params_deinit(cohort_params *params) {
    free(params->stop);
    free(params->stop_ids);
    free(params->allowed_ids);
    free(params->logprob_ids);
    free(params->bad_words);
    free(params->bad_word_ids);
    free(params->bias);
    free(params->grammar_text);
    cohort_grammar_release(params->request.grammar);
    *params = (cohort_params){0};
}
