/* SPDX-License-Identifier: Apache-2.0 */
/* What `cohort bench serve` prints and writes: vLLM's layout, its keys in its order, and
 * its arithmetic (0.32, benchmarks/serve.py). */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cli/bench_serve.h"

enum { WIDTH = 50, MAX_PERCENTILES = 16, N_SLOS = 3, PATH_BYTES = 2048 };

typedef struct totals {
    int64_t completed, failed, input_tokens, output_tokens;
    double goodput; /* NAN: nobody asked */
    double peak_tokens;
    int64_t peak_requests;
    cli_series ttft, tpot, itl, e2el, queue, e2el_queue;
    double percentiles[MAX_PERCENTILES];
    int n_percentiles;
} totals;

static double slo_seconds[N_SLOS]; /* of the command line; see read_slos */
static const char *const slo_names[N_SLOS] = {"ttft", "tpot", "e2el"};

static double ttft_of(const bench_request *of) {
    return of->first_ns ? bench_seconds(of->start_ns, of->first_ns) : 0;
}

static double latency_of(const bench_request *of) {
    return bench_seconds(of->start_ns, of->last_ns);
}

/* A server that sends no usage is taken at one token a chunk. */
static int64_t output_of(const bench_request *of) {
    if (of->error) return 0;
    return of->output_tokens ? of->output_tokens : (int64_t)of->itls.count + 1;
}

static double tpot_of(const bench_request *of) {
    int64_t n = output_of(of);
    return n > 1 ? (latency_of(of) - ttft_of(of)) / (double)(n - 1) : 0;
}

static bool read_slos(const char *const *list) {
    for (int s = 0; s < N_SLOS; s++)
        slo_seconds[s] = INFINITY;
    for (int i = 0; list[i]; i++) {
        const char *colon = strchr(list[i], ':');
        char *end = NULL;
        double ms = colon ? strtod(colon + 1, &end) : -1;
        int s = 0;
        while (s < N_SLOS && colon &&
               (strncmp(list[i], slo_names[s], 4) != 0 || colon != list[i] + 4))
            s++;
        if (!colon || s == N_SLOS || ms < 0 || *end) {
            fprintf(stderr,
                    "cohort bench serve: --goodput takes ttft:MS, tpot:MS or e2el:MS, "
                    "not '%s'\n",
                    list[i]);
            return false;
        }
        slo_seconds[s] = ms / 1000;
    }
    return true;
}

static bool read_percentiles(const char *text, totals *out) {
    for (const char *at = text;; at++) {
        char *end;
        double p = strtod(at, &end);
        if (end == at || !(p >= 0 && p <= 100) || out->n_percentiles == MAX_PERCENTILES)
            return false;
        out->percentiles[out->n_percentiles++] = p;
        if (!*end) return true;
        if (*end != ',') return false;
        at = end;
    }
}

/* ---- adding up --------------------------------------------------------------------- */

static void count_peaks(const bench_run *run, totals *to) {
    int64_t begin_ns = INT64_MAX, end_ns = 0;
    for (int64_t i = 0; i < run->n_requests; i++) {
        const bench_request *of = &run->requests[i];
        if (of->error) continue;
        if (of->start_ns < begin_ns) begin_ns = of->start_ns;
        if (of->last_ns > end_ns) end_ns = of->last_ns;
    }
    if (!to->completed) return;
    size_t n = (size_t)ceil(bench_seconds(begin_ns, end_ns)) + 1;
    double *tokens = calloc(n + 1, sizeof *tokens);
    int64_t *requests = calloc(n + 1, sizeof *requests);
    if (!tokens || !requests) abort();
    for (int64_t i = 0; i < run->n_requests; i++) {
        const bench_request *of = &run->requests[i];
        if (of->error) continue;
        double at = bench_seconds(begin_ns, of->first_ns);
        for (size_t t = 0;; t++) {
            if ((size_t)at < n) tokens[(size_t)at]++;
            if (t == of->itls.count) break;
            at += of->itls.seconds[t];
        }
        size_t last = (size_t)bench_seconds(begin_ns, of->last_ns);
        for (size_t s = (size_t)bench_seconds(begin_ns, of->start_ns);
             s <= last && s <= n; s++)
            requests[s]++;
    }
    for (size_t s = 0; s <= n; s++) {
        if (tokens[s] > to->peak_tokens) to->peak_tokens = tokens[s];
        if (requests[s] > to->peak_requests) to->peak_requests = requests[s];
    }
    free(tokens);
    free(requests);
}

static void add_up(const bench_run *run, totals *to) {
    int64_t good = 0;
    for (int64_t i = 0; i < run->n_requests; i++) {
        const bench_request *of = &run->requests[i];
        if (of->error) {
            to->failed++;
            continue;
        }
        double queue_s = bench_seconds(of->arrived_ns, of->start_ns);
        to->completed++;
        to->input_tokens += of->prompt_len;
        to->output_tokens += output_of(of);
        if (output_of(of) > 1) cli_series_add(&to->tpot, tpot_of(of));
        for (size_t t = 0; t < of->itls.count; t++)
            cli_series_add(&to->itl, of->itls.seconds[t]);
        cli_series_add(&to->ttft, ttft_of(of));
        cli_series_add(&to->e2el, latency_of(of));
        cli_series_add(&to->queue, queue_s);
        cli_series_add(&to->e2el_queue, latency_of(of) + queue_s);
        good += ttft_of(of) <= slo_seconds[0] && tpot_of(of) <= slo_seconds[1] &&
                latency_of(of) <= slo_seconds[2];
    }
    to->goodput = run->options->load.goodput[0] ? (double)good / run->duration_s : NAN;
    count_peaks(run, to);
}

/* ---- JSON -------------------------------------------------------------------------- */

static void key(cohort_body *out, const char *name) {
    if (out->size && out->bytes[out->size - 1] != '{') cohort_body_puts(out, ", ");
    cohort_body_json(out, name, strlen(name));
    cohort_body_puts(out, ": ");
}

static void put_text(cohort_body *out, const char *name, const char *value) {
    key(out, name);
    cohort_body_json_or_null(out, value);
}

static void put_count(cohort_body *out, const char *name, int64_t value) {
    key(out, name);
    cohort_body_printf(out, "%lld", (long long)value);
}

static void put_real(cohort_body *out, const char *name, double value) {
    key(out, name);
    if (isnan(value))
        cohort_body_puts(out, "null");
    else
        cohort_body_json_real(out, value);
}

static void put_list(cohort_body *out, const char *name, const bench_run *run,
                     void (*put)(cohort_body *out, const bench_request *of)) {
    key(out, name);
    cohort_body_puts(out, "[");
    for (int64_t i = 0; i < run->n_requests; i++) {
        if (i) cohort_body_puts(out, ", ");
        put(out, &run->requests[i]);
    }
    cohort_body_puts(out, "]");
}

static void put_input(cohort_body *out, const bench_request *of) {
    cohort_body_printf(out, "%d", of->prompt_len);
}
static void put_output(cohort_body *out, const bench_request *of) {
    cohort_body_printf(out, "%lld", (long long)output_of(of));
}
static void put_ttft(cohort_body *out, const bench_request *of) {
    cohort_body_json_real(out, ttft_of(of));
}
static void put_itl(cohort_body *out, const bench_request *of) {
    cohort_body_puts(out, "[");
    for (size_t t = 0; t < of->itls.count; t++) {
        if (t) cohort_body_puts(out, ", ");
        cohort_body_json_real(out, of->itls.seconds[t]);
    }
    cohort_body_puts(out, "]");
}
static void put_latency(cohort_body *out, const bench_request *of) {
    cohort_body_json_real(out, latency_of(of));
}
static void put_start(cohort_body *out, const bench_request *of) {
    cohort_body_json_real(out, (double)of->start_ns / 1e9);
}
static void put_queue(cohort_body *out, const bench_request *of) {
    cohort_body_json_real(out, bench_seconds(of->arrived_ns, of->start_ns));
}
static void put_generated(cohort_body *out, const bench_request *of) {
    cohort_body_json(out, of->text.bytes ? of->text.bytes : "", of->text.size);
}
static void put_error(cohort_body *out, const bench_request *of) {
    const char *error = of->error ? of->error : "";
    cohort_body_json(out, error, strlen(error));
}

static void put_head(cohort_body *out, const bench_run *run, const char *when) {
    const cli_load_options *load = &run->options->load;
    put_text(out, "date", when);
    put_text(out, "endpoint_type", load->backend);
    put_text(out, "backend", load->backend);
    put_text(out, "label", load->label);
    put_text(out, "model_id", run->model_id);
    put_text(out, "tokenizer_id", run->tokenizer);
    put_count(out, "num_prompts", load->num_prompts);
    for (int i = 0; load->metadata[i]; i++) {
        const char *pair = load->metadata[i], *equals = strchr(pair, '=');
        char name[256];
        if (!equals) continue; /* refused by bench_report */
        snprintf(name, sizeof name, "%.*s", (int)(equals - pair), pair);
        put_text(out, name, equals + 1);
    }
    if (isinf(load->request_rate))
        put_text(out, "request_rate", "inf");
    else
        put_real(out, "request_rate", load->request_rate);
    if (isinf(load->burstiness)) { /* as Python's json writes it */
        key(out, "burstiness");
        cohort_body_puts(out, "Infinity");
    } else
        put_real(out, "burstiness", load->burstiness);
    if (load->max_concurrency)
        put_count(out, "max_concurrency", load->max_concurrency);
    else
        put_text(out, "max_concurrency", NULL);
    if (!load->ramp_strategy) return;
    put_text(out, "ramp_up_strategy", load->ramp_strategy);
    put_count(out, "ramp_up_start_rps", load->ramp_start_rps);
    put_count(out, "ramp_up_end_rps", load->ramp_end_rps);
}

static void put_totals(cohort_body *out, const bench_run *run, const totals *of) {
    bool detailed = run->options->load.save_detailed;
    double s = run->duration_s;
    put_real(out, "duration", s);
    put_count(out, "completed", of->completed);
    put_count(out, "failed", of->failed);
    put_count(out, "total_input_tokens", of->input_tokens);
    put_count(out, "total_output_tokens", of->output_tokens);
    put_real(out, "request_throughput", (double)of->completed / s);
    put_real(out, "request_goodput", of->goodput);
    put_real(out, "output_throughput", (double)of->output_tokens / s);
    put_real(out, "total_token_throughput",
             (double)(of->input_tokens + of->output_tokens) / s);
    if (detailed) {
        put_list(out, "input_lens", run, put_input);
        put_list(out, "output_lens", run, put_output);
        put_list(out, "ttfts", run, put_ttft);
        put_list(out, "itls", run, put_itl);
    }
    put_list(out, "latencies", run, put_latency);
    if (detailed) put_list(out, "start_times", run, put_start);
    put_list(out, "queue_times", run, put_queue);
    if (detailed) {
        put_list(out, "generated_texts", run, put_generated);
        put_list(out, "errors", run, put_error);
    }
    put_real(out, "max_output_tokens_per_s", of->peak_tokens);
    put_count(out, "max_concurrent_requests", of->peak_requests);
    put_real(out, "rtfx", 0);
    if (!run->changes) return;
    key(out, "rps_change_events");
    cohort_body_puts(out, "[");
    cohort_body_puts(out, run->changes);
    cohort_body_puts(out, "]");
}

/* ---- the terminal ------------------------------------------------------------------ */

static void print_bar(const char *title, char fill) {
    size_t n = strlen(title), left = n < WIDTH ? (WIDTH - n) / 2 : 0;
    size_t right = n < WIDTH ? WIDTH - n - left : 0;
    for (size_t i = 0; i < left; i++)
        putchar(fill);
    printf("%s", title);
    for (size_t i = 0; i < right; i++)
        putchar(fill);
    putchar('\n');
}

static void print_count(const char *name, int64_t value) {
    printf("%-40s %-10lld\n", name, (long long)value);
}

static void print_real(const char *name, double value) {
    printf("%-40s %-10.2f\n", name, value);
}

static void print_totals(const bench_run *run, const totals *of) {
    const cli_load_options *load = &run->options->load;
    double s = run->duration_s;
    print_bar(" Serving Benchmark Result ", '=');
    print_count("Successful requests:", of->completed);
    print_count("Failed requests:", of->failed);
    if (load->max_concurrency)
        print_count("Maximum request concurrency:", load->max_concurrency);
    if (!isinf(load->request_rate))
        print_real("Request rate configured (RPS):", load->request_rate);
    print_real("Benchmark duration (s):", s);
    print_count("Total input tokens:", of->input_tokens);
    print_count("Total generated tokens:", of->output_tokens);
    print_real("Request throughput (req/s):", (double)of->completed / s);
    if (!isnan(of->goodput)) print_real("Request goodput (req/s):", of->goodput);
    print_real("Output token throughput (tok/s):", (double)of->output_tokens / s);
    print_real("Peak output token throughput (tok/s):", of->peak_tokens);
    print_real("Peak concurrent requests:", (double)of->peak_requests);
    print_real("Total token throughput (tok/s):",
               (double)(of->input_tokens + of->output_tokens) / s);
}

/* Is name one of the list's words? */
static bool is_selected(const char *list, const char *name) {
    size_t n = strlen(name);
    for (const char *at = list; at; at = strchr(at, ',')) {
        if (*at == ',') at++;
        if (!strncmp(at, name, n) && (at[n] == ',' || !at[n])) return true;
    }
    return false;
}

static void report_metric(const bench_run *run, const totals *all, cohort_body *json,
                          const char *name, const char *shown, const char *title,
                          const cli_series *of) {
    char text[96], word[32];
    if (!is_selected(run->options->load.percentile_metrics, name)) return;
    double mean = cli_series_mean(of, 0) * 1000;
    double median = cli_series_percentile(of, 50, 0) * 1000;
    print_bar(title, '-');
    snprintf(text, sizeof text, "Mean %s (ms):", shown);
    print_real(text, mean);
    snprintf(text, sizeof text, "Median %s (ms):", shown);
    print_real(text, median);
    snprintf(text, sizeof text, "mean_%s_ms", name);
    put_real(json, text, mean);
    snprintf(text, sizeof text, "median_%s_ms", name);
    put_real(json, text, median);
    snprintf(text, sizeof text, "std_%s_ms", name);
    put_real(json, text, cli_series_deviation(of, 0) * 1000);
    for (int i = 0; i < all->n_percentiles; i++) {
        double value = cli_series_percentile(of, all->percentiles[i], 0) * 1000;
        snprintf(word, sizeof word, "%.10g", all->percentiles[i]);
        snprintf(text, sizeof text, "P%s %s (ms):", word, shown);
        print_real(text, value);
        snprintf(text, sizeof text, "p%s_%s_ms", word, name);
        put_real(json, text, value);
    }
}

static void report_metrics(const bench_run *run, const totals *of, cohort_body *json) {
    const cli_load_options *load = &run->options->load;
    report_metric(run, of, json, "ttft", "TTFT", "Time to First Token", &of->ttft);
    report_metric(run, of, json, "tpot", "TPOT",
                  "Time per Output Token (excl. 1st token)", &of->tpot);
    report_metric(run, of, json, "itl", "ITL", "Inter-token Latency", &of->itl);
    report_metric(run, of, json, "e2el", "E2EL", "End-to-end Latency", &of->e2el);
    if (load->max_concurrency)
        report_metric(run, of, json, "client_queue_time", "Client Queue Time",
                      "Client-side Queueing", &of->queue);
    if (load->max_concurrency && !isinf(load->request_rate))
        report_metric(run, of, json, "e2el_including_client_queue",
                      "E2EL incl. Client Queue", "Queue-inclusive End-to-end Latency",
                      &of->e2el_queue);
}

/* ---- the file ---------------------------------------------------------------------- */

static int save(const bench_run *run, const cohort_body *json, const char *when) {
    const cli_load_options *load = &run->options->load;
    const char *slash = strrchr(run->model_id, '/');
    cohort_body path = {0};
    if (load->result_dir) {
        if (mkdir(load->result_dir, 0777) < 0 && errno != EEXIST) {
            fprintf(stderr, "cohort bench serve: --result-dir %s: %s\n", load->result_dir,
                    strerror(errno));
            return CLI_USAGE;
        }
        cohort_body_printf(&path, "%s/", load->result_dir);
    }
    if (load->result_filename)
        cohort_body_puts(&path, load->result_filename);
    else {
        cohort_body_printf(&path, "%s-", load->label ? load->label : load->backend);
        if (load->ramp_strategy)
            cohort_body_printf(&path, "ramp-up-%s-%lldqps-%lld", load->ramp_strategy,
                               (long long)load->ramp_start_rps,
                               (long long)load->ramp_end_rps);
        else if (isinf(load->request_rate))
            cohort_body_puts(&path, "inf");
        else
            cohort_body_json_real(&path, load->request_rate);
        cohort_body_puts(&path, "qps");
        if (load->max_concurrency)
            cohort_body_printf(&path, "-concurrency%lld",
                               (long long)load->max_concurrency);
        cohort_body_printf(&path, "-%s-%s.json", slash ? slash + 1 : run->model_id, when);
    }
    int result = CLI_OK;
    FILE *file = fopen(path.bytes, load->append_result ? "ae" : "we");
    bool fine = file != NULL;
    if (fine && load->append_result && ftell(file) != 0) fine = fputc('\n', file) == '\n';
    if (fine) fine = fwrite(json->bytes, 1, json->size, file) == json->size;
    if (file && fclose(file)) fine = false;
    if (!fine) {
        fprintf(stderr, "cohort bench serve: cannot write %s: %s\n", path.bytes,
                strerror(errno));
        result = CLI_FAILED;
    }
    cohort_body_deinit(&path);
    return result;
}

static void print_failures(const bench_run *run) {
    int shown = 0;
    for (int64_t i = 0; i < run->n_requests && shown < 10; i++) {
        if (!run->requests[i].error) continue;
        if (!shown)
            printf("Failed requests during benchmark run detected (capping to 10):\n");
        printf("Error %d: %s\n", shown++, run->requests[i].error);
    }
}

int bench_check_report(const cli_options *options) {
    totals none = {0};
    const char *const *metadata = options->load.metadata;
    if (!read_slos(options->load.goodput)) return CLI_USAGE;
    if (!read_percentiles(options->load.metric_percentiles, &none)) {
        fprintf(stderr,
                "cohort bench serve: --metric-percentiles takes numbers from 0 to 100, "
                "at most %d: 50,99\n",
                MAX_PERCENTILES);
        return CLI_USAGE;
    }
    for (int i = 0; metadata[i]; i++) {
        if (strchr(metadata[i], '=')) continue;
        fprintf(stderr, "cohort bench serve: --metadata takes KEY=VALUE, not '%s'\n",
                metadata[i]);
        return CLI_USAGE;
    }
    return CLI_OK;
}

int bench_report(const bench_run *run) {
    const cli_load_options *load = &run->options->load;
    totals all = {0};
    cohort_body json = {0};
    char when[32];
    time_t now = time(NULL);
    struct tm at;
    strftime(when, sizeof when, "%Y%m%d-%H%M%S", localtime_r(&now, &at));
    read_percentiles(load->metric_percentiles, &all);
    add_up(run, &all);
    print_failures(run);
    print_totals(run, &all);
    cohort_body_puts(&json, "{");
    put_head(&json, run, when);
    put_totals(&json, run, &all);
    report_metrics(run, &all, &json);
    cohort_body_puts(&json, "}");
    print_bar("", '=');
    int result = CLI_OK;
    if (load->save_result || load->append_result) result = save(run, &json, when);
    if (result == CLI_OK && all.completed == 0) result = CLI_FAILED;
    cli_series *const all_series[] = {&all.ttft, &all.tpot,  &all.itl,
                                      &all.e2el, &all.queue, &all.e2el_queue};
    for (size_t i = 0; i < sizeof all_series / sizeof *all_series; i++)
        cli_series_deinit(all_series[i]);
    cohort_body_deinit(&json);
    return result;
}
