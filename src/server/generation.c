/* SPDX-License-Identifier: Apache-2.0 */
#include "server/generation.h"
#include "wire/sampling_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "cohort/clock.h"

enum { MAX_CHOICES = 4096 };

static cohort_generation *of_job(cohort_job *job) { return (cohort_generation *)job; }

/* ---- making one -------------------------------------------------------------------- */

/* "cmpl-" and what the client calls the request, or is told that it is called, or chance.
 */
static bool name_request(cohort_generation *generation, cohort_api_error *error) {
    if (generation->id.size) return true; /* its kind has */
    const cohort_exchange *exchange = generation->exchange;
    const char *name = cohort_exchange_header(exchange, COHORT_REQUEST_ID);
    char drawn[17];
    if (!name) name = generation->api.request_id.text;
    if (name && strlen(name) > COHORT_MAX_REQUEST_ID_BYTES)
        return cohort_api_refuse(error, 400, "request_id",
                                 "request_id has %zu bytes, at most %d are supported",
                                 strlen(name), COHORT_MAX_REQUEST_ID_BYTES);
    if (!name) name = cohort_exchange_added_header(exchange, COHORT_REQUEST_ID);
    if (!name) cohort_draw_id(drawn);
    cohort_body_printf(&generation->id, "%s-%s", generation->kind->id_prefix,
                       name ? name : drawn);
    return !generation->id.is_short ||
           cohort_api_refuse(error, 503, NULL, "out of memory");
}

/* A schema is compiled for some milliseconds, a hostile one for more, unless it was not
 * long ago; a template that the request brings may do anything that its limits allow. */
static bool takes_long(const cohort_generation *generation) {
    return generation->more_bytes || generation->params.has_grammar ||
           (generation->api.chat_template.is_set &&
            generation->server->options.trust_request_chat_template);
}

/* Why the engine could not make what a request needs. */
static bool refuse_last(cohort_api_error *error, const char *param) {
    const cohort_error *failure = cohort_last_error();
    if (failure->code == COHORT_E_INVALID)
        return cohort_api_refuse(error, 400, param, "%s", failure->message);
    if (failure->code == COHORT_E_CLOSED) return cohort_refuse_text(error);
    return cohort_api_refuse(error, 503, NULL, "out of memory: %s", failure->message);
}

static bool compile(cohort_generation *generation, cohort_api_error *error) {
    cohort_params *params = &generation->params;
    if (!params->has_grammar) return true;
    const char *text = params->grammar_text ? params->grammar_text : "";
    if (strstr(text, "\xc0\x80")) /* json_text.h */
        return cohort_api_refuse(error, 400, NULL,
                                 "\\u0000 is not supported in what constrains an output");
    cohort_status status =
        cohort_engine_compile_grammar(generation->server->engine, params->grammar_kind,
                                      text, strlen(text), &params->request.grammar);
    const char *param = params->tool_choice >= COHORT_TOOLS_REQUIRED ? "tools"
                        : generation->api.structured_outputs.is_set ? "structured_outputs"
                                                                    : "response_format";
    free(params->grammar_text);
    params->grammar_text = NULL;
    return status >= 0 || refuse_last(error, param);
}

/* Once for all prompts, and not on the engine's thread. */
static bool tokenize_bad_words(cohort_generation *generation, cohort_api_error *error) {
    cohort_params *params = &generation->params;
    cohort_request *request = &params->request;
    if (!request->n_bad_words) return true;
    cohort_status status = cohort_engine_bad_word_ids(
        generation->server->engine, request->bad_words, request->n_bad_words,
        &params->bad_word_ids, &request->sampling.n_bad_word_ids);
    request->sampling.bad_word_ids = params->bad_word_ids;
    request->n_bad_words = 0;
    return status >= 0 || refuse_last(error, "bad_words");
}

static void destroy(cohort_generation *generation) {
    if (!generation) return;
    for (size_t i = 0; generation->prompts && i < generation->n_prompts; i++) {
        free(generation->prompts[i].ids);
        free(generation->prompts[i].text);
        cohort_body_deinit(&generation->prompts[i].logprobs);
        cohort_logprobs_deinit(&generation->prompts[i].echoed);
    }
    for (int32_t i = 0; generation->choices && i < generation->n_choices; i++) {
        cohort_server_choice *choice = &generation->choices[i];
        cohort_body_deinit(&choice->text);
        cohort_body_deinit(&choice->token_ids);
        cohort_message_deinit(&choice->message);
        cohort_logprobs_deinit(&choice->logprobs);
        free(choice->stop_string);
    }
    if (generation->own) generation->kind->discard(generation->own);
    cJSON_Delete(generation->tools);
    if (generation->held_bytes)
        cohort_http_hold(generation->server->http, -(int64_t)generation->held_bytes);
    cohort_body_deinit(&generation->head);
    cohort_body_deinit(&generation->id);
    cohort_body_deinit(&generation->role);
    cohort_body_deinit(&generation->echo);
    cohort_params_deinit(&generation->params);
    cohort_release_body(generation->server, &generation->api);
    cohort_api_request_deinit(&generation->api);
    free(generation->prompts);
    free(generation->requests);
    free(generation->choices);
    free(generation);
}

/* NULL: error says why. */
static cohort_generation *create(cohort_server *server, cohort_exchange *exchange,
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
        .stream_interval = server->options.stream_interval,
        .vocab_size = server->info.vocab_size,
        .priority_scheduling = server->info.priority_scheduling,
        .auto_tool_choice = server->options.enable_auto_tool_choice,
        .force_include_usage = server->options.force_include_usage,
        .default_max_tokens = server->info.default_max_tokens,
        .most_max_tokens = server->info.most_max_tokens,
    };
    if (!cohort_read_body(server, exchange, kind->schema, &generation->api, error) ||
        !cohort_check_model(server, &generation->api, error) ||
        (kind->translate && !kind->translate(generation, error)) ||
        (!generation->more_bytes &&
         (!cohort_params_read(&generation->params, &generation->api, kind->is_chat,
                              &server->defaults, &limits, error) ||
          !name_request(generation, error)))) {
        destroy(generation);
        return NULL;
    }
    generation->returns_token_ids = generation->api.return_token_ids.whole;
    generation->tokens_as_ids = generation->api.return_tokens_as_token_ids.is_set
                                    ? generation->api.return_tokens_as_token_ids.whole
                                    : server->options.return_tokens_as_token_ids;
    return generation;
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
            (cohort_server_choice){.index = i,
                                   .prompt = &generation->prompts[(size_t)i / n],
                                   .stop_token_id = -1};
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

cohort_body *cohort_generation_empty_chunk(const cohort_generation *generation) {
    cohort_body *chunk = &generation->server->chunk;
    chunk->size = 0;
    chunk->is_short = false;
    return chunk;
}

/* Mostly a comment of the event stream: clients skip it, and nothing between takes the
 * connection for dead. */
static void on_wait(cohort_job *job) {
    const cohort_generation *generation = of_job(job);
    cohort_body *chunk = cohort_generation_empty_chunk(generation);
    if (!generation->has_begun) return;
    const char *idle = generation->kind->idle;
    cohort_body_puts(chunk, idle ? idle : ": recovering\n\n");
    cohort_exchange_push(generation->exchange, chunk);
}

static void note_end(cohort_server_choice *choice, const cohort_completion *completion) {
    choice->finish_reason = completion->finish_reason;
    choice->stop_token_id = completion->stop_token_id;
    if (completion->stop_string) choice->stop_string = strdup(completion->stop_string);
}

/* A part of an answer must not pass for the whole: all of it ends, as in vLLM. */
static void break_off(cohort_generation *generation, cohort_status code,
                      const char *why) {
    if (generation->broken) return;
    generation->broken = why;
    generation->broken_code = code;
    cohort_driver_cancel(generation->server->driver, &generation->job);
}

static void hold(cohort_generation *generation, size_t *held_bytes, size_t bytes) {
    if (bytes == *held_bytes) return;
    int64_t more = (int64_t)bytes - (int64_t)*held_bytes;
    *held_bytes = bytes;
    generation->held_bytes += (size_t)more;
    if (!cohort_http_hold(generation->server->http, more) && more > 0 &&
        generation->held_bytes > COHORT_FAIR_BYTES)
        break_off(generation, COHORT_E_NOMEM,
                  "answers that are not sent yet take all that --max-held-bytes allows; "
                  "ask for fewer choices or logprobs, or for a stream");
}

void cohort_generation_count_own(cohort_generation *generation, size_t bytes) {
    hold(generation, &generation->grown_bytes, bytes);
}

/* Of what is there once, but will be written for every choice. */
static size_t repeated_bytes(const cohort_generation *generation,
                             const cohort_prompt *prompt) {
    return generation->kind->is_chat ? generation->echo.size
                                     : prompt->text_bytes + prompt->held_bytes;
}

/* A whole answer is kept until it is sent, which may be many choices with logprobs. */
static void count_held(cohort_generation *generation, cohort_server_choice *choice) {
    const cohort_message *message = &choice->message;
    size_t bytes = choice->text.capacity + choice->token_ids.capacity +
                   cohort_message_bytes(message) +
                   cohort_logprobs_bytes(&choice->logprobs) +
                   repeated_bytes(generation, choice->prompt);
    hold(generation, &choice->held_bytes, bytes);
}

void cohort_generation_count_prompt(cohort_generation *generation,
                                    cohort_prompt *prompt) {
    hold(generation, &prompt->held_bytes,
         prompt->logprobs.capacity + cohort_logprobs_bytes(&prompt->echoed));
    int32_t n = generation->params.request.n;
    cohort_server_choice *first =
        &generation->choices[(prompt - generation->prompts) * n];
    for (int32_t i = 0; !generation->params.is_stream && i < n; i++)
        count_held(generation, &first[i]);
}

/* A stream does not show them. */
static void add_prompt_logprobs(cohort_generation *generation, cohort_prompt *prompt,
                                const cohort_completion *completion) {
    if (generation->params.is_stream) return;
    cohort_logprobs_write_prompt(generation->server, completion, &prompt->logprobs);
    cohort_generation_count_prompt(generation, prompt);
}

bool cohort_generation_is_due(const cohort_generation *generation,
                              cohort_server_choice *choice) {
    bool is_due =
        !choice->n_sent || choice->finish_reason != COHORT_FINISH_NONE ||
        choice->n_generated - choice->n_sent >= generation->params.stream_interval;
    if (is_due) choice->n_sent = choice->n_generated;
    return is_due;
}

static void add_ids(cohort_body *list, const cohort_completion *completion) {
    for (int32_t i = 0; i < completion->n_token_ids; i++)
        cohort_body_printf(list, list->size ? ",%d" : "%d", completion->token_ids[i]);
}

static void on_output(cohort_job *job, size_t which,
                      const cohort_completion *completion) {
    cohort_generation *generation = of_job(job);
    cohort_server_choice *choice =
        &generation->choices[which * (size_t)generation->params.request.n +
                             (size_t)completion->index];
    choice->n_generated += completion->n_token_ids;
    generation->n_completion_tokens += completion->n_token_ids;
    cohort_generation_measure(generation, choice, completion);
    if (completion->finish_reason != COHORT_FINISH_NONE) note_end(choice, completion);
    if (completion->finish_reason == COHORT_FINISH_ERROR)
        break_off(generation, COHORT_E_PROTOCOL,
                  "the output came to where no token could go on with what its "
                  "structured output or tool call demands");
    if (completion->finish_reason == COHORT_FINISH_CORRUPTED)
        break_off(generation, COHORT_E_DEVICE,
                  "the model's logits for the next token of this request are not finite "
                  "numbers; other requests go on");
    if (completion->finish_reason == COHORT_FINISH_KILLER)
        break_off(generation, COHORT_E_PEER_DIED,
                  "worker_killed: steps of this request killed workers, the last one "
                  "with no other request in it; other requests go on");
    if (generation->broken) return;
    if (completion->index == 0) choice->prompt->n_cached = completion->n_cached_tokens;
    if (completion->n_prompt_logprobs ||
        (completion->index == 0 && completion->n_generated == 1 &&
         generation->params.request.sampling.n_prompt_logprobs >= 0))
        add_prompt_logprobs(generation, choice->prompt, completion);
    if (generation->returns_token_ids && !generation->params.prompt_only)
        add_ids(&choice->token_ids, completion);
    generation->kind->add(generation, choice, completion);
    if (!generation->params.is_stream) count_held(generation, choice);
}

static int status_of(const cohort_error *error) {
    if (error->code == COHORT_E_INVALID) return 400;
    return error->code == COHORT_E_CLOSED || error->code == COHORT_E_NOMEM ? 503 : 500;
}

static void answer_error(cohort_generation *generation, const cohort_error *error) {
    cohort_api_error refused = {.shape = generation->kind->error_shape};
    cohort_body body = {0};
    cohort_exchange *exchange = generation->exchange;
    cohort_generation_measure_error(generation);
    cohort_log_place("server", error);
    cohort_api_refuse(&refused, status_of(error), NULL, "%s", error->message);
    if (!exchange) {
        generation->kind->break_stream(generation, &refused);
    } else if (generation->has_begun) {
        generation->kind->break_stream(generation, &refused);
        cohort_exchange_end(exchange, true);
    } else {
        cohort_api_error_write(&refused, &body);
        cohort_exchange_reply(exchange, refused.status, "application/json", &body);
    }
    cohort_api_error_deinit(&refused);
}

static void answer(cohort_generation *generation) {
    const cohort_generation_kind *kind = generation->kind;
    cohort_exchange *exchange = generation->exchange;
    cohort_body body = {0};
    if (generation->params.is_stream) {
        kind->end_stream(generation);
        cohort_exchange_end(exchange, true);
        return;
    }
    kind->write_answer(generation, &body);
    if (exchange)
        cohort_exchange_reply(exchange, 200, "application/json", &body);
    else
        cohort_body_deinit(&body);
}

static void on_end(cohort_job *job, const cohort_error *error) {
    cohort_generation *generation = of_job(job);
    cohort_error broken = {.code = generation->broken_code, .rank = COHORT_RANK_LOCAL};
    if (!error && generation->broken) {
        snprintf(broken.message, sizeof broken.message, "%s", generation->broken);
        error = &broken;
    }
    if (error)
        answer_error(generation, error);
    else
        answer(generation);
    if (generation->exchange) cohort_exchange_release(generation->exchange);
    destroy(generation);
}

static void on_gone(void *user_data) {
    cohort_generation *generation = user_data;
    cohort_driver_cancel(generation->server->driver, &generation->job);
}

/* "top_p=1, top_k=0" of the rows of a table, with ", " behind each. */
static void describe(const cohort_option_table *table, const void *of, char *out,
                     size_t size) {
    size_t used = 0;
    for (size_t i = 0; i < table->n && used < size; i++) {
        char name[40], value[40];
        cohort_option_key(&table->rows[i], name, sizeof name);
        cohort_option_format(&table->rows[i], of, 0, value, sizeof value);
        used += (size_t)snprintf(out + used, size - used, "%s=%s, ", name, value);
    }
}

/* Whose words vLLM's users grep for; of prompts only lengths. */
static void log_request(const cohort_generation *generation) {
    const cohort_request *request = &generation->requests[0];
    const cohort_sampling_params *sampling = &request->sampling;
    char seed[24] = "None", choice[300], report[120];
    char id[200]; /* of a stranger: it shall write no line of ours */
    snprintf(id, sizeof id, "%s", generation->id.bytes);
    for (char *c = id; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    if (request->has_seed) snprintf(seed, sizeof seed, "%lld", (long long)sampling->seed);
    describe(&cohort_choice_option_table, sampling, choice, sizeof choice);
    describe(&cohort_report_option_table, sampling, report, sizeof report);
    cohort_reporter_say(generation->server->reporter,
                        "Received request %s: params: SamplingParams(n=%d, %sseed=%s, "
                        "max_tokens=%d, %sstream=%s), prompts: %zu, prompt tokens: %lld",
                        id, request->n, choice, seed, request->max_tokens, report,
                        generation->params.is_stream ? "True" : "False",
                        generation->n_prompts, (long long)generation->n_prompt_tokens);
}

/* Forgets what was sent but for what is needed, and counts that.  False: error. */
static bool keep(cohort_generation *generation, cohort_api_error *error) {
    size_t n_prompts = generation->n_prompts, texts = 0;
    size_t bytes = n_prompts * sizeof *generation->prompts +
                   n_prompts * sizeof *generation->requests +
                   (size_t)generation->n_choices * sizeof *generation->choices;
    for (size_t i = 0; i < n_prompts; i++) {
        bytes += generation->prompts[i].n_ids * sizeof *generation->prompts[i].ids;
        texts += generation->prompts[i].text_bytes;
    }
    bytes *= 2; /* the engine has as much again */
    bytes += texts + generation->role.capacity + generation->echo.capacity +
             generation->params.request.n_allowed_token_ids * sizeof(int32_t) +
             generation->own_bytes + cohort_api_request_trim(&generation->api);
    cohort_release_body(generation->server, &generation->api);
    if (!generation->is_detached)
        return cohort_exchange_keep(generation->exchange, bytes) ||
               cohort_refuse_crowd(generation->server, error);
    generation->held_bytes += bytes; /* its exchange will not be there */
    return cohort_http_hold(generation->server->http, (int64_t)bytes) ||
           bytes <= COHORT_FAIR_BYTES || cohort_refuse_crowd(generation->server, error);
}

/* The client is told so much, and no more; the generation may have ended meanwhile. */
static void tell_detached(cohort_exchange *exchange, cohort_body *told) {
    cohort_exchange_reply(exchange, 200, "application/json", told);
    cohort_exchange_release(exchange);
}

/* False: error says why, and the generation is the caller's. */
static bool post(cohort_generation *generation, cohort_api_error *error) {
    cohort_server *server = generation->server;
    const cohort_generation_kind *kind = generation->kind;
    cohort_exchange *exchange = generation->exchange;
    bool is_detached = generation->is_detached;
    cohort_body told = {0};
    if (is_detached && !kind->detach(generation, &told, error)) {
        cohort_body_deinit(&told);
        return false;
    }
    if (is_detached)
        generation->exchange = NULL;
    else
        cohort_exchange_on_gone(exchange, on_gone, generation);
    cohort_status status = cohort_driver_post(server->driver, &generation->job);
    if (status >= 0) {
        if (is_detached) tell_detached(exchange, &told);
        return true;
    }
    generation->exchange = exchange;
    if (is_detached) kind->reattach(generation);
    cohort_body_deinit(&told);
    cohort_exchange_on_gone(exchange, NULL, NULL);
    const cohort_error *failure = cohort_last_error();
    cohort_log_place("server", failure);
    if (status == COHORT_E_NOMEM) cohort_metrics_count_rejection(server->metrics);
    int code = status == COHORT_E_INVALID ? 500 : 503;
    return cohort_api_refuse(error, code, NULL, "%s", failure->message);
}

/* False: error says why, and the generation is still the caller's. */
static bool start(cohort_generation *generation, cohort_api_error *error) {
    cohort_server *server = generation->server;
    if (!keep(generation, error)) return false;
    for (size_t i = 0; i < generation->n_prompts; i++) {
        cohort_request *request = &generation->requests[i];
        *request = generation->params.request;
        request->prompt_token_ids = generation->prompts[i].ids;
        request->n_prompt_token_ids = generation->prompts[i].n_ids;
        int32_t left = server->info.max_model_len - (int32_t)generation->prompts[i].n_ids;
        int32_t wanted = generation->params.default_max_tokens;
        if (!request->max_tokens && wanted)
            request->max_tokens = wanted < left ? wanted : left;
    }
    if (server->options.log_requests) log_request(generation);
    generation->job = (cohort_job){.requests = generation->requests,
                                   .n_requests = generation->n_prompts,
                                   .on_accepted = on_accepted,
                                   .on_wait = on_wait,
                                   .on_output = on_output,
                                   .on_end = on_end};
    return post(generation, error);
}

void cohort_generation_serve(cohort_server *server, cohort_exchange *exchange,
                             const cohort_generation_kind *kind) {
    cohort_api_error error = {.shape = kind->error_shape};
    cohort_generation *generation = create(server, exchange, kind, &error);
    bool moves =
        generation && takes_long(generation) && !cohort_request_queue_is_current();
    if (moves) cohort_release_body(server, &generation->api); /* it is read once more */
    if (moves && cohort_hand_over(server, exchange, generation->more_bytes)) {
        destroy(generation);
        return;
    }
    if (!generation || !compile(generation, &error) ||
        !tokenize_bad_words(generation, &error) || !kind->read(generation, &error) ||
        !start(generation, &error)) {
        /* Before: who hears of it may ask again. */
        if (generation) cohort_release_body(server, &generation->api);
        cohort_reply_error(exchange, &error);
        destroy(generation);
    }
}
