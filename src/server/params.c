/* SPDX-License-Identifier: Apache-2.0 */
#include "server/params.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct reader {
    cohort_params *out;
    const cohort_api_request *api;
    const cohort_params_limits *limits;
    cohort_api_error *error;
    bool is_chat;
} reader;

/* Colder is greedy: vLLM's _SAMPLING_EPS. */
#define GREEDY_TEMPERATURE 1e-5

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
    size_t n = is_list ? (size_t)cJSON_GetArraySize(json) : 1;
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
        if (strlen(text) > COHORT_MAX_STOP_STRING_BYTES)
            return cohort_api_refuse(
                self->error, 400, "stop",
                "a stop string has %zu bytes, at most %d are supported", strlen(text),
                COHORT_MAX_STOP_STRING_BYTES);
        self->out->stop[request->n_stop++] = text;
    }
    request->stop = self->out->stop;
    return true;
}

static bool read_stop_ids(reader *self) {
    const cJSON *json = self->api->stop_token_ids.json, *item;
    cohort_sampling_params *sampling = &self->out->request.sampling;
    if (!self->api->stop_token_ids.is_set) return true;
    self->out->stop_ids = calloc((size_t)cJSON_GetArraySize(json) + 1, sizeof(int32_t));
    if (!self->out->stop_ids) return out_of_memory(self);
    cJSON_ArrayForEach(item, json) {
        /* Numbers in strings passed the schema. */
        const char *text = cJSON_GetStringValue(item);
        double id = text ? strtod(text, NULL) : item->valuedouble;
        if (!(id >= 0 && id < self->limits->vocab_size))
            return cohort_api_refuse(self->error, 400, "stop_token_ids",
                                     "stop_token_ids: token id %.0f is out of vocabulary",
                                     id);
        self->out->stop_ids[sampling->n_stop_tokens++] = (int32_t)id;
    }
    sampling->stop_tokens = self->out->stop_ids;
    return true;
}

static bool read_bias(reader *self) {
    const cJSON *json = self->api->logit_bias.json, *item;
    cohort_sampling_params *sampling = &self->out->request.sampling;
    if (!self->api->logit_bias.is_set) return true;
    self->out->bias =
        calloc((size_t)cJSON_GetArraySize(json) + 1, sizeof(*sampling->bias));
    if (!self->out->bias) return out_of_memory(self);
    cJSON_ArrayForEach(item, json) {
        char *end;
        long id = strtol(item->string, &end, 10);
        if (end == item->string || *end)
            return cohort_api_refuse(self->error, 400, "logit_bias",
                                     "logit_bias: '%.40s' is no token id", item->string);
        if (id < 0 || id >= self->limits->vocab_size)
            return cohort_api_refuse(self->error, 400, "logit_bias",
                                     "logit_bias: token id %ld is out of vocabulary", id);
        const char *text = cJSON_GetStringValue(item);
        double bias = text ? strtod(text, NULL) : item->valuedouble;
        /* OpenAI's range; vLLM clamps to it. */
        bias = bias < -100 ? -100 : bias > 100 ? 100 : bias;
        self->out->bias[sampling->n_bias++] =
            (cohort_token_bias){(int32_t)id, (float)bias};
    }
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
    self->out->request.sampling.temperature =
        given->real < GREEDY_TEMPERATURE ? 0 : (float)given->real;
    return true;
}

static bool read_ranges(reader *self) {
    const cohort_api_request *api = self->api;
    cohort_sampling_params *sampling = &self->out->request.sampling;
    char text[40];
    const struct {
        const char *name;
        const cohort_value *given;
        float *to;
        double least, most;
    } ranges[] = {
        {"presence_penalty", &api->presence_penalty, &sampling->presence_penalty, -2, 2},
        {"frequency_penalty", &api->frequency_penalty, &sampling->frequency_penalty, -2,
         2},
        {"min_p", &api->min_p, &sampling->min_p, 0, 1},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        double value = ranges[i].given->real;
        if (!ranges[i].given->is_set) continue;
        if (!(value >= ranges[i].least && value <= ranges[i].most))
            return cohort_api_refuse(self->error, 400, NULL,
                                     "%s must be in [%g, %g], got %s.", ranges[i].name,
                                     ranges[i].least, ranges[i].most,
                                     cohort_api_float(value, text, sizeof text));
        *ranges[i].to = (float)value;
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
        if (!(value > 0 && value <= 1e6))
            return cohort_api_refuse(
                self->error, 400, NULL,
                "repetition_penalty must be greater than zero, got %s.",
                cohort_api_float(value, text, sizeof text));
        sampling->repetition_penalty = (float)value;
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
    /* A completion has 16 by default, a chat what is left of the context. */
    request->max_tokens = self->is_chat ? 0 : DEFAULT_MAX_TOKENS;
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

static bool read_logprobs(reader *self) {
    const cohort_api_request *api = self->api;
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
        if (self->out->is_stream)
            return cohort_api_refuse_value(
                self->error, "prompt_logprobs", NULL,
                "`prompt_logprobs` are not available when `stream=True`.");
        if (!check_logprobs(self, "prompt_logprobs", "prompt",
                            api->prompt_logprobs.whole))
            return false;
        sampling->n_prompt_logprobs = (int32_t)api->prompt_logprobs.whole;
    } else if (self->out->echoes && !self->is_chat) {
        sampling->n_prompt_logprobs = sampling->n_logprobs;
    }
    return true;
}

/* ---- all of them ------------------------------------------------------------------- */

static bool read_stream(reader *self) {
    const cohort_api_request *api = self->api;
    cohort_params *out = self->out;
    out->is_stream = api->stream.whole;
    out->echoes = api->echo.whole;
    if (!api->stream_options.is_set) return true;
    if (!out->is_stream)
        return cohort_api_refuse_value(
            self->error, "stream_options", NULL,
            "Stream options can only be defined when `stream=True`.");
    const cJSON *options = api->stream_options.json;
    out->include_usage = cJSON_IsTrue(cJSON_GetObjectItem(options, "include_usage"));
    out->continuous_usage =
        out->include_usage &&
        cJSON_IsTrue(cJSON_GetObjectItem(options, "continuous_usage_stats"));
    return true;
}

static void read_flags(reader *self) {
    const cohort_api_request *api = self->api;
    cohort_request *request = &self->out->request;
    request->ignore_eos = api->ignore_eos.whole;
    request->cache_salt = api->cache_salt.is_set ? api->cache_salt.text : NULL;
    request->priority = api->priority.whole < INT32_MIN   ? INT32_MIN
                        : api->priority.whole > INT32_MAX ? INT32_MAX
                                                          : (int32_t)api->priority.whole;
    request->include_stop_str_in_output = api->include_stop_str_in_output.whole;
    request->skip_special_tokens = api->skip_special_tokens.whole;
    if (!api->seed.is_set) return;
    request->has_seed = true;
    request->sampling.seed = (uint64_t)api->seed.whole;
}

/* What would be answered wrongly is refused by name. */
static bool refuse_undone(reader *self) {
    const cohort_api_request *api = self->api;
    const cJSON *kind =
        cJSON_GetObjectItemCaseSensitive(api->response_format.json, "type");
    const char *name = cJSON_GetStringValue(kind);
    if (api->structured_outputs.is_set)
        return cohort_api_refuse(self->error, 400, "structured_outputs",
                                 "structured_outputs is not supported");
    if (api->response_format.is_set && !(name && !strcmp(name, "text")))
        return cohort_api_refuse(self->error, 400, "response_format",
                                 "response_format of type '%.40s' is not supported; "
                                 "'text' is",
                                 name ? name : "");
    if (api->priority.whole && !self->limits->priority_scheduling)
        return cohort_api_refuse(
            self->error, 400, "priority",
            "Got priority %lld but Priority scheduling is not enabled.",
            (long long)api->priority.whole);
    return true;
}

bool cohort_params_read(cohort_params *out, const cohort_api_request *api, bool is_chat,
                        const cohort_request *defaults,
                        const cohort_params_limits *limits, cohort_api_error *error) {
    *out = (cohort_params){.request = *defaults};
    reader self = {out, api, limits, error, is_chat};
    read_flags(&self);
    return refuse_undone(&self) && read_stream(&self) && read_logprobs(&self) &&
           read_temperature(&self) && read_ranges(&self) && read_counts(&self) &&
           read_stop(&self) && read_stop_ids(&self) && read_bias(&self);
}

void cohort_params_deinit(cohort_params *params) {
    free(params->stop);
    free(params->stop_ids);
    free(params->bias);
    *params = (cohort_params){0};
}
