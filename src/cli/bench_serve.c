/* SPDX-License-Identifier: Apache-2.0 */
/* `cohort bench serve`: a load of requests against a running server, measured by the
 * rules of vLLM's client (0.32, benchmarks/serve.py): a chunk with choices is a token, a
 * request's latency ends with its last one, counts come from the usage chunk.  Unlike
 * there, a stream that breaks off or carries an error has failed. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/random.h"
#include "cli/bench_serve.h"
#include "cohort/clock.h"
#include "wire/sampling_options.h"

enum { RETRY_MS = 500 };

/* ---- one request ------------------------------------------------------------------- */

static void fail_request(bench_request *self, const char *why) {
    if (!self->error && !(self->error = strdup(why))) abort();
}

static void take_choice(bench_request *self, const cJSON *choice, int64_t now_ns) {
    const cJSON *of = self->run->is_chat ? cJSON_GetObjectItem(choice, "delta") : choice;
    const char *text = cJSON_GetStringValue(
        cJSON_GetObjectItem(of, self->run->is_chat ? "content" : "text"));
    if (self->first_ns)
        cli_series_add(&self->itls, bench_seconds(self->last_ns, now_ns));
    else
        self->first_ns = now_ns;
    self->last_ns = now_ns;
    if (text) cohort_body_puts(&self->text, text);
}

static void take_event(void *user_data, const char *data, size_t size) {
    bench_request *self = user_data;
    int64_t now_ns = cohort_clock_ns();
    if (!strcmp(data, "[DONE]")) return;
    cJSON *json = cJSON_ParseWithLength(data, size);
    const cJSON *choice = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "choices"), 0);
    const cJSON *usage = cJSON_GetObjectItem(json, "usage");
    const cJSON *error = cJSON_GetObjectItem(json, "error");
    if (choice) {
        take_choice(self, choice, now_ns);
    } else if (cJSON_IsObject(usage)) {
        const cJSON *n = cJSON_GetObjectItem(usage, "completion_tokens");
        const cJSON *n_prompt = cJSON_GetObjectItem(usage, "prompt_tokens");
        if (cJSON_IsNumber(n)) self->output_tokens = (int64_t)n->valuedouble;
        if (cJSON_IsNumber(n_prompt)) self->prompt_len = (int32_t)n_prompt->valuedouble;
    }
    if (error) fail_request(self, data);
    if (!json) fail_request(self, "an event is no JSON");
    cJSON_Delete(json);
}

static void take_end(void *user_data, const cohort_client_result *result) {
    bench_request *self = user_data;
    cohort_body why = {0};
    if (result->status == 0)
        fail_request(self, result->error);
    else if (result->status != 200) {
        cohort_body_printf(&why, "%s %.400s", result->reason, result->body);
        fail_request(self, why.bytes ? why.bytes : result->reason);
    } else if (!self->first_ns)
        fail_request(self, "no token came");
    if (!self->last_ns) self->last_ns = cohort_clock_ns();
    cohort_body_deinit(&why);
    self->run->n_active--;
    self->run->n_done += self->is_counted;
}

static char *request_body(const bench_request *self) {
    const cli_options *options = self->run->options;
    cJSON *body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "model", self->run->model_name);
    if (self->run->is_chat) {
        cJSON *message = cJSON_CreateObject(), *part = cJSON_CreateObject();
        cJSON_AddItemToArray(cJSON_AddArrayToObject(body, "messages"), message);
        cJSON_AddStringToObject(message, "role", "user");
        cJSON_AddItemToArray(cJSON_AddArrayToObject(message, "content"), part);
        cJSON_AddStringToObject(part, "type", "text");
        cJSON_AddStringToObject(part, "text", self->prompt);
        cJSON_AddNumberToObject(body, "max_completion_tokens", self->output_len);
    } else {
        cJSON_AddStringToObject(body, "prompt", self->prompt);
        cJSON_AddNumberToObject(body, "repetition_penalty", 1);
        cJSON_AddNumberToObject(body, "max_tokens", self->output_len);
        if (cli_options_given(options, &options->load.logprobs))
            cJSON_AddNumberToObject(body, "logprobs", (double)options->load.logprobs);
        else
            cJSON_AddNullToObject(body, "logprobs");
    }
    cJSON_AddTrueToObject(body, "stream");
    cJSON_AddTrueToObject(cJSON_AddObjectToObject(body, "stream_options"),
                          "include_usage");
    if (options->load.ignore_eos || !strcmp(options->load.dataset, "random"))
        cJSON_AddTrueToObject(body, "ignore_eos");
    cli_options_add_given(body, options, &cohort_choice_option_table,
                          &options->request.sampling);
    cJSON *extra =
        options->load.extra_body ? cJSON_Parse(options->load.extra_body) : NULL;
    for (cJSON *item = extra ? extra->child : NULL; item; item = item->next) {
        cJSON_DeleteItemFromObjectCaseSensitive(body, item->string);
        cJSON_AddItemToObject(body, item->string, cJSON_Duplicate(item, true));
    }
    char *text = cJSON_PrintUnformatted(body);
    cJSON_Delete(extra);
    cJSON_Delete(body);
    if (!text) abort();
    return text;
}

static void send_request(bench_request *self, int64_t number) {
    char id[128];
    const char *headers[] = {id, NULL};
    char *body = request_body(self);
    snprintf(id, sizeof id, "x-request-id: %s%lld", self->run->id_prefix,
             (long long)number);
    const cohort_client_request request = {.url = self->run->url,
                                           .body = body,
                                           .body_bytes = strlen(body),
                                           .headers = headers,
                                           .on_event = take_event,
                                           .on_done = take_end,
                                           .user_data = self};
    self->run->n_active++;
    self->start_ns = cohort_clock_ns();
    if (cohort_client_send(self->run->client, &request) < 0) {
        const cohort_client_result none = {.error = cohort_last_error()->message};
        take_end(self, &none);
    }
    free(body);
}

/* ---- all of them ------------------------------------------------------------------- */

/* Requests like the first, whose answers are not counted: the last one's error, or NULL;
 * the caller frees. */
static char *send_uncounted(bench_run *run, int64_t n) {
    bench_request *extra = calloc((size_t)n, sizeof *extra);
    const bench_request *model = &run->requests[0];
    int64_t most = run->options->load.max_concurrency, sent = 0;
    char *error = NULL;
    if (!extra) abort();
    while (sent < n || run->n_active) {
        while (sent < n && (!most || run->n_active < most)) {
            extra[sent].run = run;
            extra[sent].prompt = model->prompt;
            extra[sent].output_len = model->output_len;
            send_request(&extra[sent], sent);
            sent++;
        }
        if (cohort_client_run(run->client, COHORT_NEVER) < 0) abort();
    }
    for (int64_t i = 0; i < n; i++) {
        if (extra[i].error) {
            free(error);
            error = extra[i].error;
        }
        cli_series_deinit(&extra[i].itls);
        cohort_body_deinit(&extra[i].text);
    }
    free(extra);
    return error;
}

static int check_ready(bench_run *run) {
    int64_t timeout_s = run->options->load.ready_timeout_s;
    int64_t end_ns = cohort_deadline_ms(timeout_s * 1000);
    if (!timeout_s) {
        printf("Skipping endpoint ready check.\n");
        return CLI_OK;
    }
    printf("Waiting for endpoint to become up in %lld seconds\n", (long long)timeout_s);
    fflush(stdout);
    for (;;) {
        char *error = send_uncounted(run, 1);
        if (!error) break;
        if (cohort_clock_ns() > end_ns) {
            fprintf(stderr, "cohort bench serve: no answer in %lld s: %s\n",
                    (long long)timeout_s, error);
            free(error);
            return CLI_FAILED;
        }
        free(error);
        usleep(RETRY_MS * 1000);
    }
    printf("Initial test run completed.\n");
    return CLI_OK;
}

static void show_progress(const bench_run *run) {
    if (run->options->load.disable_tqdm || !isatty(STDERR_FILENO)) return;
    fprintf(stderr, "\r%lld/%lld%s", (long long)run->n_done, (long long)run->n_requests,
            run->n_done == run->n_requests ? "\n" : "");
}

/* A ramp's whole rates, with the time at which each was reached. */
static void note_rate(bench_run *run, double rate) {
    char when[40];
    struct timespec now;
    struct tm at;
    if (!run->changes) run->last_rps = run->options->load.ramp_start_rps - 1;
    while (run->last_rps < (int64_t)(rate + 1e-9)) {
        char *longer;
        clock_gettime(CLOCK_REALTIME, &now);
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", localtime_r(&now.tv_sec, &at));
        run->last_rps++;
        if (asprintf(&longer, "%s%s{\"rps\": %lld, \"timestamp\": \"%s.%06ld\"}",
                     run->changes ? run->changes : "", run->changes ? ", " : "",
                     (long long)run->last_rps, when, now.tv_nsec / 1000) < 0)
            abort();
        free(run->changes);
        run->changes = longer;
    }
}

static void run_all(bench_run *run) {
    int64_t begin_ns = cohort_clock_ns(), shown = -1;
    int64_t most = run->options->load.max_concurrency;
    while (run->n_done < run->n_requests) {
        int64_t now_ns = cohort_clock_ns(), next_ns = COHORT_NEVER;
        for (; run->n_due < run->n_requests; run->n_due++) {
            bench_request *request = &run->requests[run->n_due];
            int64_t due_ns = begin_ns + (int64_t)(request->due_s * 1e9);
            next_ns = due_ns;
            if (due_ns > now_ns) break;
            request->arrived_ns = now_ns;
            if (run->options->load.ramp_strategy) note_rate(run, request->rate);
            next_ns = COHORT_NEVER;
        }
        for (; run->n_sent < run->n_due && (!most || run->n_active < most);
             run->n_sent++) {
            run->requests[run->n_sent].is_counted = true;
            send_request(&run->requests[run->n_sent], run->n_sent);
        }
        if (run->n_done != shown) show_progress(run);
        shown = run->n_done;
        if (run->n_done == run->n_requests) break;
        if (cohort_client_run(run->client, next_ns) < 0) abort();
    }
    run->duration_s = bench_seconds(begin_ns, cohort_clock_ns());
    if (run->n_done != shown) show_progress(run);
}

/* ---- the command ------------------------------------------------------------------- */

static void take_models(void *user_data, const cohort_client_result *result) {
    bench_run *run = user_data;
    cJSON *json = cJSON_ParseWithLength(result->body, result->body_bytes);
    const cJSON *first = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "data"), 0);
    const char *id = cJSON_GetStringValue(cJSON_GetObjectItem(first, "id"));
    const char *root = cJSON_GetStringValue(cJSON_GetObjectItem(first, "root"));
    if (!id && result->status != 200) {
        const char *why = result->status ? result->reason : result->error;
        run->fetch_error = strdup(why);
    }
    if (id) run->fetched_name = strdup(id);
    if (id) run->fetched_id = strdup(root ? root : id);
    cJSON_Delete(json);
}

static int find_model(bench_run *run, const char *base_url) {
    const cli_options *options = run->options;
    run->model_id = options->load.model;
    run->model_name = options->load.served_name;
    if (!run->model_id) {
        char url[1024];
        snprintf(url, sizeof url, "%s/v1/models", base_url);
        const cohort_client_request request = {
            .url = url, .on_done = take_models, .user_data = run};
        printf("Model not specified, fetching first model from server...\n");
        if (cohort_client_send(run->client, &request) < 0) return cli_fail("asking");
        while (cohort_client_n_running(run->client))
            if (cohort_client_run(run->client, COHORT_NEVER) < 0)
                return cli_fail("asking");
        if (!run->fetched_id) {
            const char *why = run->fetch_error ? run->fetch_error : "it names no model";
            fprintf(stderr, "cohort bench serve: %s: %s; %s\n", url, why,
                    !strcmp(why, "Unauthorized") ? "OPENAI_API_KEY brings a key"
                                                 : "is it a server of models?");
            return CLI_FAILED;
        }
        run->model_id = run->fetched_id;
        run->model_name = run->fetched_name;
        printf("First model name: %s, first model id: %s\n", run->model_name,
               run->model_id);
    }
    if (!run->model_name) run->model_name = run->model_id;
    if (!options->load.skip_tokenizer_init)
        run->tokenizer =
            options->load.tokenizer ? options->load.tokenizer : run->model_id;
    return CLI_OK;
}

static const char *ramp_fault(const cli_load_options *load) {
    if (!load->ramp_strategy) return NULL;
    if (strcmp(load->ramp_strategy, "linear") &&
        strcmp(load->ramp_strategy, "exponential"))
        return "--ramp-up-strategy is linear or exponential";
    if (!isinf(load->request_rate))
        return "a ramp has its own rates: leave --request-rate away";
    if (load->ramp_start_rps && load->ramp_end_rps >= load->ramp_start_rps) return NULL;
    return "--ramp-up-strategy needs --ramp-up-start-rps, and a --ramp-up-end-rps that "
           "is "
           "no less";
}

static int check_options(const cli_options *options) {
    const cli_load_options *load = &options->load;
    const char *fault = NULL;
    bool is_chat = !strcmp(load->backend, "openai-chat");
    const char *suffix = is_chat ? "chat/completions" : "completions";
    size_t n = strlen(load->endpoint), n_suffix = strlen(suffix);
    cJSON *extra = load->extra_body ? cJSON_Parse(load->extra_body) : NULL;
    if (!is_chat && strcmp(load->backend, "openai") && strcmp(load->backend, "vllm"))
        fault = "--backend is openai, vllm or openai-chat";
    else if (n < n_suffix || strcmp(load->endpoint + n - n_suffix, suffix) != 0)
        fault = is_chat ? "--endpoint of openai-chat ends in chat/completions"
                        : "--endpoint ends in completions";
    else
        fault = ramp_fault(load);
    if (!fault && load->extra_body && !cJSON_IsObject(extra))
        fault = "--extra-body is no JSON object";
    cJSON_Delete(extra);
    if (!fault) {
        int result = bench_check_prompts(load);
        return result == CLI_OK ? bench_check_report(options) : result;
    }
    fprintf(stderr, "cohort bench serve: %s\n", fault);
    return CLI_USAGE;
}

static int measure(bench_run *run) {
    const cli_load_options *load = &run->options->load;
    printf("Starting initial single prompt test run...\n");
    int result = check_ready(run);
    if (result != CLI_OK) return result;
    if (load->num_warmups) {
        printf("Warming up with %lld requests...\n", (long long)load->num_warmups);
        free(send_uncounted(run, load->num_warmups));
        printf("Warmup run completed.\n");
    }
    cohort_body line = {0};
    printf("Starting main benchmark run...\n");
    if (load->ramp_strategy)
        cohort_body_printf(
            &line,
            "Traffic ramp-up strategy: %s.\nWill increase RPS from %lld to "
            "%lld RPS over the duration of the benchmark.\n",
            load->ramp_strategy, (long long)load->ramp_start_rps,
            (long long)load->ramp_end_rps);
    else if (isinf(load->request_rate))
        cohort_body_puts(&line, "Traffic request rate: inf\n");
    else {
        cohort_body_puts(&line, "Traffic request rate: ");
        cohort_body_json_real(&line, load->request_rate);
        cohort_body_puts(&line, "\n");
    }
    cohort_body_puts(&line, "Burstiness factor: ");
    if (isinf(load->burstiness))
        cohort_body_puts(&line, "inf");
    else
        cohort_body_json_real(&line, load->burstiness);
    cohort_body_printf(&line, " (%s)\n",
                       load->burstiness == 1 ? "Poisson process" : "Gamma distribution");
    fputs(line.bytes, stdout);
    cohort_body_deinit(&line);
    if (load->max_concurrency)
        printf("Maximum request concurrency: %lld\n", (long long)load->max_concurrency);
    else
        printf("Maximum request concurrency: None\n");
    fflush(stdout);
    run_all(run);
    return bench_report(run);
}

/* "a=b" as "a: b" for each; what it returned is freed item by item. */
static int take_headers(const char *const *list, char **headers) {
    for (int i = 0; list[i]; i++) {
        const char *equals = strchr(list[i], '=');
        if (!equals) {
            fprintf(stderr, "cohort bench serve: --header takes NAME=VALUE, not '%s'\n",
                    list[i]);
            return CLI_USAGE;
        }
        if (asprintf(&headers[i], "%.*s: %s", (int)(equals - list[i]), list[i],
                     equals + 1) < 0)
            abort();
    }
    return CLI_OK;
}

static int prepare(bench_run *run) {
    const cli_options *options = run->options;
    char base_url[512];
    uint64_t number = cohort_random_u64((uint64_t)cohort_clock_ns(), (uint64_t)getpid());
    if (options->load.base_url)
        snprintf(base_url, sizeof base_url, "%s", options->load.base_url);
    else
        snprintf(base_url, sizeof base_url,
                 strchr(options->load.host, ':') ? "http://[%s]:%lld" : "http://%s:%lld",
                 options->load.host, (long long)options->load.port);
    for (size_t n = strlen(base_url); n && base_url[n - 1] == '/'; n--)
        base_url[n - 1] = '\0';
    snprintf(run->url, sizeof run->url, "%s%s", base_url, options->load.endpoint);
    if (options->load.request_id_prefix)
        snprintf(run->id_prefix, sizeof run->id_prefix, "%s",
                 options->load.request_id_prefix);
    else
        snprintf(run->id_prefix, sizeof run->id_prefix, "bench-%08x-", (uint32_t)number);
    run->is_chat = !strcmp(options->load.backend, "openai-chat");
    int result = find_model(run, base_url);
    if (result == CLI_OK) result = bench_make_prompts(run);
    if (result == CLI_OK) bench_make_times(run);
    return result;
}

int cli_bench_serve(int argc, char **argv) {
    cli_options options;
    bench_run run = {.options = &options};
    char *headers[CLI_MAX_LIST + 1] = {NULL};
    int result = cli_options_parse(&options, CLI_BENCH_SERVE, "bench serve", argc, argv);
    if (result != CLI_OK) return result == CLI_HELP ? CLI_OK : result;
    result = check_options(&options);
    if (result == CLI_OK) result = take_headers(options.load.headers, headers);
    const cohort_client_options client = {.bearer = getenv("OPENAI_API_KEY"),
                                          .headers = (const char *const *)headers,
                                          .insecure = options.load.insecure};
    if (result == CLI_OK && cohort_client_create(&client, &run.client) < 0)
        result = cli_fail("starting");
    if (result == CLI_OK) result = prepare(&run);
    if (result == CLI_OK &&
        !cli_options_given(&options, &options.request.sampling.temperature))
        printf("WARNING: no --temperature: the server's own is used, which need not be "
               "greedy.\n");
    if (result == CLI_OK) result = measure(&run);
    for (int64_t i = 0; i < run.n_requests && run.requests; i++) {
        free(run.requests[i].prompt);
        free(run.requests[i].error);
        cli_series_deinit(&run.requests[i].itls);
        cohort_body_deinit(&run.requests[i].text);
    }
    for (int i = 0; i < CLI_MAX_LIST; i++)
        free(headers[i]);
    free(run.requests);
    free(run.changes);
    free(run.fetched_id);
    free(run.fetched_name);
    free(run.fetch_error);
    cohort_client_destroy(run.client);
    return result;
}
