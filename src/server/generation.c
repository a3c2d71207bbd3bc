/* SPDX-License-Identifier: Apache-2.0 */
#include "server/generation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cohort/clock.h"

enum { MAX_CHOICES = 4096 };

static cohort_generation *of_job(cohort_job *job) { return (cohort_generation *)job; }

/* ---- making one -------------------------------------------------------------------- */

/* "cmpl-" and what the client calls the request, or chance. */
static void name_request(cohort_generation *generation) {
    const char *given = cohort_exchange_header(generation->exchange, "X-Request-Id");
    char drawn[17];
    if (!given) given = generation->api.request_id.text;
    if (!given) cohort_draw_id(drawn);
    snprintf(generation->id, sizeof generation->id, "%s-%s", generation->kind->id_prefix,
             given ? given : drawn);
}

cohort_generation *cohort_generation_create(cohort_server *server,
                                            cohort_exchange *exchange,
                                            const cohort_generation_kind *kind,
                                            cohort_api_error *error) {
    cohort_generation *generation = calloc(1, sizeof *generation);
    if (!generation) {
        cohort_api_refuse(error, 503, NULL, "out of memory");
        return NULL;
    }
    generation->server = server;
    generation->exchange = exchange;
    generation->kind = kind;
    generation->begin_ns = cohort_exchange_begin_ns(exchange);
    generation->created_s = time(NULL);
    const cohort_params_limits limits = {
        .max_model_len = server->info.max_model_len,
        .max_logprobs = server->options.max_logprobs,
        .vocab_size = server->info.vocab_size,
        .priority_scheduling = server->info.priority_scheduling,
    };
    if (!cohort_read_body(exchange, kind->schema, &generation->api, error) ||
        !cohort_check_model(server, &generation->api, error) ||
        !cohort_params_read(&generation->params, &generation->api, kind->is_chat,
                            &server->defaults, &limits, error)) {
        cohort_generation_destroy(generation);
        return NULL;
    }
    name_request(generation);
    generation->returns_token_ids = generation->api.return_token_ids.whole;
    generation->tokens_as_ids = generation->api.return_tokens_as_token_ids.is_set
                                    ? generation->api.return_tokens_as_token_ids.whole
                                    : server->options.return_tokens_as_token_ids;
    return generation;
}

void cohort_generation_destroy(cohort_generation *generation) {
    if (!generation) return;
    for (size_t i = 0; generation->prompts && i < generation->n_prompts; i++) {
        free(generation->prompts[i].ids);
        free(generation->prompts[i].text);
        cohort_body_deinit(&generation->prompts[i].logprobs);
    }
    for (int32_t i = 0; generation->choices && i < generation->n_choices; i++) {
        cohort_choice *choice = &generation->choices[i];
        cohort_body_deinit(&choice->text);
        cohort_body_deinit(&choice->token_ids);
        cohort_logprobs_deinit(&choice->logprobs);
        free(choice->stop_string);
    }
    cohort_body_deinit(&generation->chunk);
    cohort_params_deinit(&generation->params);
    cohort_api_request_deinit(&generation->api);
    free(generation->prompts);
    free(generation->requests);
    free(generation->choices);
    free(generation);
}

bool cohort_generation_set_prompts(cohort_generation *generation, size_t n_prompts,
                                   cohort_api_error *error) {
    size_t n = (size_t)generation->params.request.n;
    if (n_prompts * n > MAX_CHOICES)
        return cohort_api_refuse(error, 400, "prompt",
                                 "%zu prompts with n=%zu make more than %d completions",
                                 n_prompts, n, MAX_CHOICES);
    generation->prompts = calloc(n_prompts, sizeof *generation->prompts);
    generation->requests = calloc(n_prompts, sizeof *generation->requests);
    generation->choices = calloc(n_prompts * n, sizeof *generation->choices);
    if (!generation->prompts || !generation->requests || !generation->choices)
        return cohort_api_refuse(error, 503, NULL, "out of memory");
    generation->n_prompts = n_prompts;
    generation->n_choices = (int32_t)(n_prompts * n);
    for (int32_t i = 0; i < generation->n_choices; i++)
        generation->choices[i] =
            (cohort_choice){.index = i,
                            .prompt = &generation->prompts[(size_t)i / n],
                            .stop_token_id = -1};
    return true;
}

/* ---- prompts ----------------------------------------------------------------------- */

static bool refuse_length(const cohort_generation *generation, size_t n_ids,
                          cohort_api_error *error) {
    int32_t limit = generation->server->info.max_model_len;
    int32_t wanted = generation->params.request.max_tokens;
    char count[24];
    /* Counting stops one past the limit, as it does in vLLM. */
    size_t shown = n_ids > (size_t)limit ? (size_t)limit + 1 : n_ids;
    snprintf(count, sizeof count, "%zu", shown);
    if (n_ids >= (size_t)limit)
        return cohort_api_refuse_value(
            error, "input_tokens", count,
            "This model's maximum context length is %d tokens. However, your prompt "
            "contains at least %s input tokens, which exceeds this limit even without "
            "any output tokens. Please reduce the length of the input prompt.",
            limit, count);
    return cohort_api_refuse_value(
        error, "input_tokens", count,
        "This model's maximum context length is %d tokens. However, you requested %d "
        "output tokens and your prompt contains at least %s input tokens, for a total of "
        "at least %d tokens. Please reduce the length of the input prompt or the number "
        "of requested output tokens.",
        limit, wanted, count, (int32_t)shown + wanted);
}

bool cohort_generation_tokenize(cohort_generation *generation, cohort_prompt *prompt,
                                const char *text, size_t text_bytes, bool add_special,
                                cohort_api_error *error) {
    enum { BYTES_PER_TOKEN = 64 };
    const cohort_engine *engine = generation->server->engine;
    size_t limit = (size_t)generation->server->info.max_model_len;
    bool truncates = generation->api.truncate_prompt_tokens.is_set;
    /* What is far too long is known by its beginning: megabytes need not be tokenized
     * to refuse them. */
    if (text_bytes > (limit + 1) * BYTES_PER_TOKEN && !truncates) {
        int32_t *ids;
        size_t n = 0;
        if (cohort_engine_tokenize(engine, text, (limit + 1) * BYTES_PER_TOKEN,
                                   add_special, &ids, &n) >= 0)
            free(ids);
        if (n > limit + 16) return refuse_length(generation, n, error);
    }
    if (cohort_engine_tokenize(engine, text, text_bytes, add_special, &prompt->ids,
                               &prompt->n_ids) < 0)
        return cohort_api_refuse(error, 400, NULL, "%s", cohort_last_error()->message);
    return true;
}

static void truncate(cohort_generation *generation, cohort_prompt *prompt) {
    const cohort_api_request *api = &generation->api;
    if (!api->truncate_prompt_tokens.is_set) return;
    int64_t keep = api->truncate_prompt_tokens.whole;
    if (keep < 0) keep = generation->server->info.max_model_len - 1;
    if (prompt->n_ids <= (size_t)keep) return;
    bool from_right =
        api->truncation_side.is_set && !strcmp(api->truncation_side.text, "right");
    if (!from_right)
        memmove(prompt->ids, prompt->ids + (prompt->n_ids - (size_t)keep),
                (size_t)keep * sizeof *prompt->ids);
    prompt->n_ids = (size_t)keep;
}

bool cohort_generation_check_prompt(cohort_generation *generation, cohort_prompt *prompt,
                                    cohort_api_error *error) {
    const cohort_server *server = generation->server;
    size_t limit = (size_t)server->info.max_model_len;
    truncate(generation, prompt);
    for (size_t i = 0; i < prompt->n_ids; i++)
        if (prompt->ids[i] >= server->info.vocab_size)
            return cohort_api_refuse(error, 400, NULL, "Token id %d is out of vocabulary",
                                     prompt->ids[i]);
    if (prompt->n_ids == 0)
        return cohort_api_refuse(error, 400, NULL, "The decoder prompt cannot be empty");
    if (prompt->n_ids >= limit ||
        prompt->n_ids + (size_t)generation->params.request.max_tokens > limit)
        return refuse_length(generation, prompt->n_ids, error);
    generation->n_prompt_tokens += (int64_t)prompt->n_ids;
    return true;
}

/* ---- what the engine tells --------------------------------------------------------- */

static void on_accepted(cohort_job *job) {
    cohort_generation *generation = of_job(job);
    if (!generation->params.is_stream) return;
    generation->has_begun = true;
    cohort_exchange_begin(generation->exchange, 200, "text/event-stream; charset=utf-8");
    if (generation->kind->begin) generation->kind->begin(generation);
}

static void note_end(cohort_choice *choice, const cohort_completion *completion) {
    choice->finish_reason = completion->finish_reason;
    choice->stop_token_id = completion->stop_token_id;
    if (completion->stop_string) choice->stop_string = strdup(completion->stop_string);
}

static void on_output(cohort_job *job, size_t which,
                      const cohort_completion *completion) {
    cohort_generation *generation = of_job(job);
    cohort_choice *choice =
        &generation->choices[which * (size_t)generation->params.request.n +
                             (size_t)completion->index];
    choice->n_generated += completion->n_token_ids;
    generation->n_completion_tokens += completion->n_token_ids;
    cohort_generation_measure(generation, choice, completion);
    if (completion->finish_reason != COHORT_FINISH_NONE) note_end(choice, completion);
    if (completion->n_prompt_logprobs ||
        (completion->index == 0 && completion->n_generated == 1 &&
         generation->params.request.sampling.n_prompt_logprobs >= 0))
        cohort_logprobs_write_prompt(generation->server, completion,
                                     &choice->prompt->logprobs);
    generation->kind->add(generation, choice, completion);
}

static int status_of(const cohort_error *error) {
    if (error->code == COHORT_E_INVALID) return 400;
    return error->code == COHORT_E_CLOSED || error->code == COHORT_E_NOMEM ? 503 : 500;
}

static void answer_error(cohort_generation *generation, const cohort_error *error) {
    cohort_api_error refused = {0};
    cohort_body body = {0};
    cohort_exchange *exchange = generation->exchange;
    cohort_generation_measure_error(generation);
    cohort_api_refuse(&refused, status_of(error), NULL, "%s", error->message);
    cohort_api_error_write(&refused, &body);
    if (generation->has_begun) {
        generation->chunk.size = 0;
        cohort_body_puts(&generation->chunk, "data: ");
        cohort_body_add(&generation->chunk, body.bytes, body.size);
        cohort_body_puts(&generation->chunk, "\n\ndata: [DONE]\n\n");
        cohort_exchange_push(exchange, &generation->chunk);
        cohort_exchange_end(exchange, true);
        cohort_body_deinit(&body);
    } else {
        cohort_exchange_reply(exchange, refused.status, "application/json", &body);
    }
    cohort_api_error_deinit(&refused);
}

static void write_usage_chunk(cohort_generation *generation) {
    cohort_generation_open_chunk(generation);
    cohort_body_printf(
        &generation->chunk,
        "],\"usage\":{\"prompt_tokens\":%lld,\"total_tokens\":%lld,"
        "\"completion_tokens\":%lld},\"system_fingerprint\":\"%s\"}\n\n",
        (long long)generation->n_prompt_tokens,
        (long long)(generation->n_prompt_tokens + generation->n_completion_tokens),
        (long long)generation->n_completion_tokens, generation->server->fingerprint);
}

static void answer(cohort_generation *generation) {
    cohort_exchange *exchange = generation->exchange;
    cohort_body body = {0};
    if (generation->params.is_stream) {
        generation->chunk.size = 0;
        if (generation->params.include_usage) write_usage_chunk(generation);
        cohort_body_puts(&generation->chunk, "data: [DONE]\n\n");
        cohort_exchange_push(exchange, &generation->chunk);
        cohort_exchange_end(exchange, true);
        return;
    }
    generation->kind->finish(generation, &body);
    cohort_exchange_reply(exchange, 200, "application/json", &body);
}

static void on_end(cohort_job *job, const cohort_error *error) {
    cohort_generation *generation = of_job(job);
    if (error)
        answer_error(generation, error);
    else
        answer(generation);
    cohort_exchange_release(generation->exchange);
    cohort_generation_destroy(generation);
}

static void on_gone(void *user_data) {
    cohort_generation *generation = user_data;
    cohort_driver_cancel(generation->server->driver, &generation->job);
}

bool cohort_generation_start(cohort_generation *generation, cohort_api_error *error) {
    cohort_server *server = generation->server;
    for (size_t i = 0; i < generation->n_prompts; i++) {
        generation->requests[i] = generation->params.request;
        generation->requests[i].prompt_token_ids = generation->prompts[i].ids;
        generation->requests[i].n_prompt_token_ids = generation->prompts[i].n_ids;
    }
    if (server->options.enable_request_id_headers)
        cohort_exchange_add_header(generation->exchange, "X-Request-Id",
                                   strchr(generation->id, '-') + 1);
    generation->job = (cohort_job){.requests = generation->requests,
                                   .n_requests = generation->n_prompts,
                                   .on_accepted = on_accepted,
                                   .on_output = on_output,
                                   .on_end = on_end};
    cohort_exchange_on_gone(generation->exchange, on_gone, generation);
    cohort_status status = cohort_driver_post(server->driver, &generation->job);
    if (status >= 0) return true;
    cohort_exchange_on_gone(generation->exchange, NULL, NULL);
    const cohort_error *failure = cohort_last_error();
    if (status == COHORT_E_NOMEM) cohort_metrics_count_rejection(server->metrics);
    int code = status == COHORT_E_INVALID ? 500 : 503;
    return cohort_api_refuse(error, code, NULL, "%s", failure->message);
}

/* ---- writing ----------------------------------------------------------------------- */

void cohort_generation_write_head(const cohort_generation *generation, cohort_body *out) {
    const cohort_generation_kind *kind = generation->kind;
    const char *object = generation->params.is_stream ? kind->chunk_object : kind->object;
    cohort_body_puts(out, "{\"id\":");
    cohort_body_json_or_null(out, generation->id);
    cohort_body_printf(out, ",\"object\":\"%s\",\"created\":%lld,\"model\":", object,
                       (long long)generation->created_s);
    cohort_body_json_or_null(out, generation->server->options.served_names[0]);
    cohort_body_puts(out, ",\"choices\":[");
}

void cohort_generation_write_tail(const cohort_generation *generation, cohort_body *out) {
    cohort_body_printf(
        out,
        "\"service_tier\":null,\"system_fingerprint\":\"%s\",\"usage\":{"
        "\"prompt_tokens\":%lld,\"total_tokens\":%lld,\"completion_tokens\":%lld,",
        generation->server->fingerprint, (long long)generation->n_prompt_tokens,
        (long long)(generation->n_prompt_tokens + generation->n_completion_tokens),
        (long long)generation->n_completion_tokens);
    cohort_body_puts(
        out, "\"prompt_tokens_details\":null,\"completion_tokens_details\":null}");
}

void cohort_generation_open_chunk(cohort_generation *generation) {
    generation->chunk.size = 0;
    cohort_body_puts(&generation->chunk, "data: ");
    cohort_generation_write_head(generation, &generation->chunk);
}

void cohort_generation_close_chunk(cohort_generation *generation, bool is_last,
                                   const char *more) {
    cohort_body *out = &generation->chunk;
    cohort_body_puts(out, "]");
    if (more) cohort_body_puts(out, more);
    if (generation->params.continuous_usage)
        cohort_body_printf(
            out,
            ",\"usage\":{\"prompt_tokens\":%lld,\"total_tokens\":%lld,"
            "\"completion_tokens\":%lld}",
            (long long)generation->n_prompt_tokens,
            (long long)(generation->n_prompt_tokens + generation->n_completion_tokens),
            (long long)generation->n_completion_tokens);
    /* The fingerprint is on the last chunk that a choice has; where a chunk with the
     * usage follows, on that one. */
    if (is_last && !generation->params.include_usage)
        cohort_body_printf(out, ",\"system_fingerprint\":\"%s\"",
                           generation->server->fingerprint);
    cohort_body_puts(out, "}\n\n");
    cohort_exchange_push(generation->exchange, out);
}

void cohort_generation_write_reason(const cohort_choice *choice, bool lazy,
                                    cohort_body *out) {
    const char *reason = cohort_finish_reason_name(choice->finish_reason);
    cohort_body_puts(out, "\"finish_reason\":");
    cohort_body_json_or_null(out, reason);
    if (lazy && !reason) return;
    cohort_body_puts(out, ",\"stop_reason\":");
    if (choice->stop_token_id >= 0)
        cohort_body_printf(out, "%d", choice->stop_token_id);
    else
        cohort_body_json_or_null(out, choice->stop_string);
}
