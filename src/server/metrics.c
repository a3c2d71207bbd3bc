/* SPDX-License-Identifier: Apache-2.0 */
#include "server/metrics.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/process.h"

/* Design notes.
 *
 * One lock: a step takes it a few times a completion, for some additions.  Names, helps
 * and buckets are vLLM 0.32's (v1/metrics/loggers.py); those of HTTP are of
 * prometheus_fastapi_instrumentator, which vLLM mounts.  What vLLM counts and we do not
 * have (a connector's cache, images) is told as the zero it is; so are the estimates of
 * arithmetic and traffic, which vLLM too leaves at 0 without --enable-mfu-metrics. */

enum { MAX_BOUNDS = 28, MAX_HANDLERS = 24, N_METHODS = 3, N_CLASSES = 5, N_CAUSES = 3 };

typedef struct histogram {
    const double *bounds;
    int n_bounds;
    uint64_t counts[MAX_BOUNDS + 1]; /* the last: above all bounds */
    double sum;
} histogram;

typedef struct handler {
    const char *path;
    uint64_t requests[N_METHODS][N_CLASSES];
    uint64_t n, request_bytes, response_bytes;
    histogram durations[N_METHODS];
} handler;

struct cohort_metrics {
    pthread_mutex_t lock;
    char labels[600]; /* engine="0",model_name="..." */
    char model_label[600];
    cohort_engine_info info;
    double decades[MAX_BOUNDS]; /* 1, 2, 5, 10, ... up to max_model_len */
    histogram histograms[COHORT_N_HISTOGRAMS];
    histogram durations; /* of all HTTP requests */
    handler handlers[MAX_HANDLERS];
    int n_handlers;
    uint64_t endings[COHORT_N_ENDINGS];
    uint64_t n_rejections, n_prompt_tokens, n_cached_tokens, n_generated_tokens;
    cohort_engine_stats stats;
    cohort_executor_recovery recovery;
    int32_t n_ranks;
    uint64_t deaths[COHORT_MAX_WORLD_SIZE][N_CAUSES];
    histogram recoveries; /* how long they took */
    double started_s;
};

/* ---- buckets ----------------------------------------------------------------------- */

static const double step_tokens[] = {1,   8,    16,   32,   64,   128,  256,
                                     512, 1024, 2048, 4096, 8192, 16384};
static const double few[] = {1, 2, 5, 10, 20};
static const double preemptions[] = {1, 2, 3, 4, 5, 10, 20};
static const double first_token[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
                                     0.25,  0.5,   0.75, 1,    2.5,  5,    7.5,  10,
                                     20,    40,    80,   160,  640,  2560};
static const double next_token[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,
                                    0.3,  0.4,   0.5,  0.75,  1,   2.5,  5,
                                    7.5,  10,    20,   40,    80};
static const double request_time[] = {0.3, 0.5, 0.8, 1,   1.5, 2,    2.5,
                                      5,   10,  15,  20,  30,  40,   50,
                                      60,  120, 240, 480, 960, 1920, 7680};
static const double recovery_time[] = {0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5,
                                       1,    2,    5,    10,   30,  60};
static const double http_few[] = {0.1, 0.5, 1};
static const double http_many[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5,
                                   0.75, 1,     1.5,  2,     2.5, 3,    3.5,
                                   4,    4.5,   5,    7.5,   10,  30,   60};

#define BOUNDS(list) list, (int)(sizeof(list) / sizeof *(list))

static const struct histogram_row {
    const char *name;
    const double *bounds; /* NULL: decades */
    int n_bounds;
    const char *help;
} rows[COHORT_N_HISTOGRAMS] = {
    [COHORT_REQUEST_PROMPT_TOKENS] = {"request_prompt_tokens", NULL, 0,
                                      "Number of prefill tokens processed."},
    [COHORT_REQUEST_GENERATION_TOKENS] = {"request_generation_tokens", NULL, 0,
                                          "Number of generation tokens processed."},
    [COHORT_ITERATION_TOKENS] = {"iteration_tokens_total", BOUNDS(step_tokens),
                                 "Histogram of number of tokens per engine_step."},
    [COHORT_REQUEST_MAX_GENERATION_TOKENS] =
        {"request_max_num_generation_tokens", NULL, 0,
         "Histogram of maximum number of requested generation tokens."},
    [COHORT_REQUEST_N] = {"request_params_n", BOUNDS(few),
                          "Histogram of the n request parameter."},
    [COHORT_REQUEST_MAX_TOKENS] = {"request_params_max_tokens", NULL, 0,
                                   "Histogram of the max_tokens request parameter."},
    [COHORT_TIME_TO_FIRST_TOKEN] = {"time_to_first_token_seconds", BOUNDS(first_token),
                                    "Histogram of time to first token in seconds."},
    [COHORT_INTER_TOKEN_LATENCY] = {"inter_token_latency_seconds", BOUNDS(next_token),
                                    "Histogram of inter-token latency in seconds."},
    [COHORT_TIME_PER_OUTPUT_TOKEN] =
        {"request_time_per_output_token_seconds", BOUNDS(next_token),
         "Histogram of time_per_output_token_seconds per request."},
    [COHORT_E2E_LATENCY] = {"e2e_request_latency_seconds", BOUNDS(request_time),
                            "Histogram of e2e request latency in seconds."},
    [COHORT_QUEUE_TIME] = {"request_queue_time_seconds", BOUNDS(request_time),
                           "Histogram of time spent in WAITING phase for request."},
    [COHORT_INFERENCE_TIME] = {"request_inference_time_seconds", BOUNDS(request_time),
                               "Histogram of time spent in RUNNING phase for request."},
    [COHORT_PREFILL_TIME] = {"request_prefill_time_seconds", BOUNDS(request_time),
                             "Histogram of time spent in PREFILL phase for request."},
    [COHORT_DECODE_TIME] = {"request_decode_time_seconds", BOUNDS(request_time),
                            "Histogram of time spent in DECODE phase for request."},
    [COHORT_REQUEST_PREEMPTIONS] =
        {"request_num_preemptions", BOUNDS(preemptions),
         "Histogram of the number of times a request was preempted."},
    [COHORT_REQUEST_COMPUTED_TOKENS] =
        {"request_prefill_kv_computed_tokens", NULL, 0,
         "Histogram of new KV tokens computed during prefill (excluding cached tokens)."},
};

static const char *const ending_names[COHORT_N_ENDINGS] = {"stop", "length", "abort",
                                                           "error", "repetition"};

/* ---- life -------------------------------------------------------------------------- */

/* vLLM's build_1_2_5_buckets. */
static int fill_decades(double *decades, int32_t most) {
    int n = 0;
    for (double unit = 1; n + 3 <= MAX_BOUNDS; unit *= 10)
        for (int i = 0; i < 3; i++) {
            double bound = unit * (i == 0 ? 1 : i == 1 ? 2 : 5);
            if (bound > most) return n;
            decades[n++] = bound;
        }
    return n;
}

/* As Prometheus escapes a label's value; of a long one the beginning, in whole
 * characters, which escaped has at most 500 bytes. */
static void write_label(cohort_body *out, const char *text) {
    size_t size = strnlen(text, 250);
    while (size && text[size] && ((unsigned char)text[size] & 0xc0) == 0x80)
        size--;
    for (const char *c = text; c < text + size; c++)
        if (*c == '\n')
            cohort_body_puts(out, "\\n");
        else if (*c == '"' || *c == '\\')
            cohort_body_printf(out, "\\%c", *c);
        else
            cohort_body_add(out, c, 1);
}

cohort_status cohort_metrics_create(const char *model_name,
                                    const cohort_engine_info *info, int32_t n_ranks,
                                    cohort_metrics **out_metrics) {
    cohort_metrics *metrics = calloc(1, sizeof *metrics);
    cohort_body label = {0};
    *out_metrics = metrics;
    if (!metrics) return COHORT_FAIL(COHORT_E_NOMEM, "metrics");
    pthread_mutex_init(&metrics->lock, NULL);
    metrics->info = *info;
    metrics->n_ranks = n_ranks;
    /* Once: from clocks that are read one after another it is another every time. */
    metrics->started_s = cohort_process_measure().started_s;
    metrics->stats.n_free_blocks = info->num_blocks;
    write_label(&label, model_name);
    snprintf(metrics->model_label, sizeof metrics->model_label, "model_name=\"%.500s\"",
             label.bytes ? label.bytes : "");
    snprintf(metrics->labels, sizeof metrics->labels, "engine=\"0\",%.580s",
             metrics->model_label);
    cohort_body_deinit(&label);
    int n_decades = fill_decades(metrics->decades, info->max_model_len);
    for (int i = 0; i < COHORT_N_HISTOGRAMS; i++)
        metrics->histograms[i] =
            (histogram){.bounds = rows[i].bounds ? rows[i].bounds : metrics->decades,
                        .n_bounds = rows[i].bounds ? rows[i].n_bounds : n_decades};
    metrics->recovery.rank = COHORT_RANK_LOCAL;
    metrics->recovery.epoch = 1;
    metrics->recoveries =
        (histogram){.bounds = recovery_time,
                    .n_bounds = sizeof recovery_time / sizeof *recovery_time};
    metrics->durations = (histogram){.bounds = http_many,
                                     .n_bounds = sizeof http_many / sizeof *http_many};
    return COHORT_OK;
}

void cohort_metrics_destroy(cohort_metrics *metrics) {
    if (!metrics) return;
    pthread_mutex_destroy(&metrics->lock);
    free(metrics);
}

/* ---- events ------------------------------------------------------------------------ */

static void observe(histogram *to, double value) {
    int i = 0;
    while (i < to->n_bounds && value > to->bounds[i])
        i++;
    to->counts[i]++;
    to->sum += value;
}

void cohort_metrics_observe(cohort_metrics *metrics, cohort_histogram at, double value) {
    pthread_mutex_lock(&metrics->lock);
    observe(&metrics->histograms[at], value);
    pthread_mutex_unlock(&metrics->lock);
}

void cohort_metrics_add_tokens(cohort_metrics *metrics, int32_t n_prompt,
                               int32_t n_cached, int32_t n_generated, cohort_histogram at,
                               double value) {
    pthread_mutex_lock(&metrics->lock);
    observe(&metrics->histograms[at], value);
    metrics->n_prompt_tokens += (uint64_t)n_prompt;
    metrics->n_cached_tokens += (uint64_t)n_cached;
    metrics->n_generated_tokens += (uint64_t)n_generated;
    pthread_mutex_unlock(&metrics->lock);
}

void cohort_metrics_count_ending(cohort_metrics *metrics, cohort_ending ending) {
    pthread_mutex_lock(&metrics->lock);
    metrics->endings[ending]++;
    pthread_mutex_unlock(&metrics->lock);
}

void cohort_metrics_count_rejection(cohort_metrics *metrics) {
    pthread_mutex_lock(&metrics->lock);
    metrics->n_rejections++;
    pthread_mutex_unlock(&metrics->lock);
}

void cohort_metrics_set_stats(cohort_metrics *metrics, const cohort_engine_stats *stats) {
    pthread_mutex_lock(&metrics->lock);
    metrics->stats = *stats;
    pthread_mutex_unlock(&metrics->lock);
}

static int cause_of(const cohort_error *cause) {
    return cause->code == COHORT_E_PEER_DIED ? 0 : cause->code == COHORT_E_HUNG ? 1 : 2;
}

void cohort_metrics_set_recovery(cohort_metrics *metrics,
                                 const cohort_executor_recovery *recovery) {
    pthread_mutex_lock(&metrics->lock);
    const cohort_executor_recovery *last = &metrics->recovery;
    /* Two threads tell, each what it looked at before. */
    if (recovery->epoch < last->epoch || recovery->n_deaths < last->n_deaths ||
        (recovery->epoch == last->epoch && recovery->is_recovering &&
         !last->is_recovering)) {
        pthread_mutex_unlock(&metrics->lock);
        return;
    }
    if (recovery->n_deaths > last->n_deaths && recovery->rank >= 0 &&
        recovery->rank < COHORT_MAX_WORLD_SIZE)
        metrics->deaths[recovery->rank][cause_of(&recovery->cause)] +=
            recovery->n_deaths - last->n_deaths;
    bool is_over = !recovery->is_recovering && recovery->took_ns > 0;
    if (is_over && (recovery->epoch != last->epoch || last->is_recovering))
        observe(&metrics->recoveries, (double)recovery->took_ns / 1e9);
    metrics->recovery = *recovery;
    pthread_mutex_unlock(&metrics->lock);
}

static handler *find_handler(cohort_metrics *metrics, const char *path) {
    for (int i = 0; i < metrics->n_handlers; i++)
        if (!strcmp(metrics->handlers[i].path, path)) return &metrics->handlers[i];
    if (metrics->n_handlers == MAX_HANDLERS) return NULL;
    handler *added = &metrics->handlers[metrics->n_handlers++];
    *added = (handler){.path = path};
    for (int i = 0; i < N_METHODS; i++)
        added->durations[i] = (histogram){.bounds = http_few,
                                          .n_bounds = sizeof http_few / sizeof *http_few};
    return added;
}

void cohort_metrics_count_http(cohort_metrics *metrics, const char *path,
                               const cohort_http_record *record) {
    double seconds = (double)record->duration_ns / 1e9;
    int method = !strcmp(record->method, "GET")    ? 0
                 : !strcmp(record->method, "POST") ? 1
                                                   : 2;
    int class = record->status / 100 - 1;
    if (class < 0 || class >= N_CLASSES) class = N_CLASSES - 1;
    pthread_mutex_lock(&metrics->lock);
    observe(&metrics->durations, seconds);
    handler *at = find_handler(metrics, path ? path : "none");
    if (at) {
        at->n++;
        at->requests[method][class]++;
        at->request_bytes += record->request_bytes;
        at->response_bytes += record->response_bytes;
        observe(&at->durations[method], seconds);
    }
    pthread_mutex_unlock(&metrics->lock);
}

static double cache_usage(const cohort_metrics *metrics) {
    double all = (double)metrics->info.num_blocks;
    return all > 0 ? (all - (double)metrics->stats.n_free_blocks) / all : 0;
}

void cohort_metrics_get_totals(cohort_metrics *metrics,
                               cohort_metrics_totals *out_totals) {
    pthread_mutex_lock(&metrics->lock);
    *out_totals =
        (cohort_metrics_totals){.n_prompt_tokens = metrics->n_prompt_tokens,
                                .n_generated_tokens = metrics->n_generated_tokens,
                                .stats = metrics->stats,
                                .cache_usage = cache_usage(metrics)};
    pthread_mutex_unlock(&metrics->lock);
}

/* ---- the text ---------------------------------------------------------------------- */

/* kind of a whole family: its HELP and TYPE lines. */
static void write_head(cohort_body *out, const char *name, const char *kind,
                       const char *help) {
    cohort_body_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

static void write_sample(cohort_body *out, const char *name, const char *labels,
                         double value) {
    cohort_body_printf(out, *labels ? "%s{%s} " : "%s%s ", name, labels);
    cohort_body_json_real(out, value);
    cohort_body_puts(out, "\n");
}

static void write_one(cohort_body *out, const char *name, const char *kind,
                      const char *labels, double value, const char *help) {
    write_head(out, name, kind, help);
    write_sample(out, name, labels, value);
}

static void write_histogram(cohort_body *out, const char *name, const char *labels,
                            const histogram *from) {
    uint64_t count = 0;
    const char *comma = *labels ? "," : "";
    for (int i = 0; i <= from->n_bounds; i++) {
        cohort_body_printf(out, "%s_bucket{%s%sle=\"", name, labels, comma);
        if (i == from->n_bounds)
            cohort_body_puts(out, "+Inf");
        else
            cohort_body_json_real(out, from->bounds[i]);
        count += from->counts[i];
        cohort_body_printf(out, "\"} %llu.0\n", (unsigned long long)count);
    }
    char full[120];
    snprintf(full, sizeof full, "%s_count", name);
    write_sample(out, full, labels, (double)count);
    snprintf(full, sizeof full, "%s_sum", name);
    write_sample(out, full, labels, from->sum);
}

static void write_process(const cohort_metrics *metrics, cohort_body *out) {
    const cohort_process_usage usage = cohort_process_measure();
    write_one(out, "process_virtual_memory_bytes", "gauge", "", usage.virtual_bytes,
              "Virtual memory size in bytes.");
    write_one(out, "process_resident_memory_bytes", "gauge", "", usage.resident_bytes,
              "Resident memory size in bytes.");
    write_one(out, "process_start_time_seconds", "gauge", "", metrics->started_s,
              "Start time of the process since unix epoch in seconds.");
    write_one(out, "process_cpu_seconds_total", "counter", "", usage.cpu_s,
              "Total user and system CPU time spent in seconds.");
    write_one(out, "process_open_fds", "gauge", "", usage.n_fds,
              "Number of open file descriptors.");
    write_one(out, "process_max_fds", "gauge", "", usage.max_fds,
              "Maximum number of open file descriptors.");
}

/* A sample of a family whose labels go on. */
static void write_with(cohort_body *out, const char *name, const char *labels,
                       const char *key, const char *word, double value) {
    char all[700];
    snprintf(all, sizeof all, "%s,%s=\"%s\"", labels, key, word);
    write_sample(out, name, all, value);
}

static void write_gauges(const cohort_metrics *metrics, cohort_body *out) {
    const char *labels = metrics->labels;
    const cohort_engine_stats *stats = &metrics->stats;
    write_one(out, "vllm:num_requests_running", "gauge", labels, stats->n_running,
              "Number of requests in model execution batches.");
    write_one(out, "vllm:num_requests_waiting", "gauge", labels, stats->n_waiting,
              "Number of requests waiting to be processed.");
    write_head(out, "vllm:num_requests_waiting_by_reason", "gauge",
               "Number of waiting requests by reason.");
    write_with(out, "vllm:num_requests_waiting_by_reason", labels, "reason", "capacity",
               stats->n_waiting);
    write_with(out, "vllm:num_requests_waiting_by_reason", labels, "reason", "deferred",
               0);
    write_head(out, "vllm:engine_sleep_state", "gauge", "Engine sleep state.");
    static const char *const states[] = {"awake", "weights_offloaded", "discard_all"};
    for (int i = 0; i < 3; i++)
        write_with(out, "vllm:engine_sleep_state", labels, "sleep_state", states[i],
                   i == 0);
    write_one(out, "vllm:kv_cache_usage_perc", "gauge", labels, cache_usage(metrics),
              "KV-cache usage. 1 means 100 percent usage.");
}

static void write_counters(const cohort_metrics *metrics, cohort_body *out) {
    const cohort_engine_stats *stats = &metrics->stats;
    const struct {
        const char *name;
        double value;
        const char *help;
    } counters[] = {
        {"prefix_cache_queries", (double)stats->n_cache_queries,
         "Prefix cache queries, in terms of number of queried tokens."},
        {"prefix_cache_hits", (double)stats->n_cache_hits,
         "Prefix cache hits, in terms of number of cached tokens."},
        {"external_prefix_cache_queries", 0,
         "External prefix cache queries from KV connector cross-instance cache sharing, "
         "in terms of number of queried tokens."},
        {"external_prefix_cache_hits", 0,
         "External prefix cache hits from KV connector cross-instance cache sharing, in "
         "terms of number of cached tokens."},
        {"mm_cache_queries", 0,
         "Multi-modal cache queries, in terms of number of queried items."},
        {"mm_cache_hits", 0,
         "Multi-modal cache hits, in terms of number of cached items."},
        {"corrupted_requests", (double)stats->n_corrupted,
         "Corrupted requests, in terms of total number of requests with NaNs in logits."},
        {"num_preemptions", (double)stats->n_preemptions,
         "Cumulative number of preemption from the engine."},
        {"prompt_tokens", (double)metrics->n_prompt_tokens,
         "Number of prefill tokens processed."},
        {"prompt_tokens_cached", (double)metrics->n_cached_tokens,
         "Number of cached prompt tokens (local + external)."},
        {"generation_tokens", (double)metrics->n_generated_tokens,
         "Number of generation tokens processed."},
        {"estimated_flops_per_gpu", 0,
         "Estimated number of floating point operations per GPU (for Model Flops "
         "Utilization calculations)."},
        {"estimated_read_bytes_per_gpu", 0,
         "Estimated number of bytes read from memory per GPU (for Model Flops "
         "Utilization calculations)."},
        {"estimated_write_bytes_per_gpu", 0,
         "Estimated number of bytes written to memory per GPU (for Model Flops "
         "Utilization calculations)."},
    };
    char name[80];
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++) {
        snprintf(name, sizeof name, "vllm:%s_total", counters[i].name);
        write_one(out, name, "counter", metrics->labels, counters[i].value,
                  counters[i].help);
    }
}

/* Those that are told apart by a label of their own. */
static void write_labelled_counters(const cohort_metrics *metrics, cohort_body *out) {
    const struct {
        const char *name;
        uint64_t n_tokens;
    } sources[] = {{"local_compute", metrics->n_prompt_tokens - metrics->n_cached_tokens},
                   {"local_cache_hit", metrics->n_cached_tokens},
                   {"external_kv_transfer", 0}};
    write_head(out, "vllm:prompt_tokens_by_source_total", "counter",
               "Number of prompt tokens by source.");
    for (int i = 0; i < 3; i++)
        write_with(out, "vllm:prompt_tokens_by_source_total", metrics->labels, "source",
                   sources[i].name, (double)sources[i].n_tokens);
    /* There is one tier, the cache that the ranks compute with. */
    static const char *const tiers[] = {"device", "host", "disk", "p2p",
                                        "external_unspecified"};
    write_head(out, "vllm:prompt_tokens_cached_by_source_total", "counter",
               "Prefix-cache hit tokens by the cache tier that supplied them.");
    for (int i = 0; i < 5; i++)
        write_with(out, "vllm:prompt_tokens_cached_by_source_total", metrics->labels,
                   "source", tiers[i], i == 0 ? (double)metrics->n_cached_tokens : 0);
    write_head(out, "vllm:request_success_total", "counter",
               "Count of successfully processed requests.");
    for (int i = 0; i < COHORT_N_ENDINGS; i++)
        write_with(out, "vllm:request_success_total", metrics->labels, "finished_reason",
                   ending_names[i], (double)metrics->endings[i]);
    write_head(out, "vllm:admission_rejections_total", "counter",
               "Number of admission attempts rejected by a queue limit, by reason.");
    write_with(out, "vllm:admission_rejections_total", metrics->model_label, "reason",
               "queue_full", (double)metrics->n_rejections);
}

static void write_step_times(const cohort_metrics *metrics, cohort_body *out) {
    const struct {
        const char *part;
        int64_t ns;
    } times[] = {{"schedule", metrics->stats.schedule_ns},
                 {"wait", metrics->stats.wait_ns},
                 {"output", metrics->stats.output_ns},
                 {"answer", metrics->stats.caller_ns}};
    write_head(
        out, "cohort:engine_step_seconds_total", "counter",
        "Where the steps' time went: scheduling and sending, waiting for the ranks, "
        "taking in what they gave, answering clients.");
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        write_with(out, "cohort:engine_step_seconds_total", metrics->labels, "part",
                   times[i].part, (double)times[i].ns / 1e9);
}

/* Of vLLM's CacheConfig; its other fields are of features that are not here. */
static void write_cache_info(const cohort_metrics *metrics, cohort_body *out) {
    static const char *const none[] = {"cache_hit_alignment_tokens",
                                       "gpu_memory_utilization",
                                       "kv_cache_dtype_skip_layers",
                                       "kv_cache_layout",
                                       "kv_offloading_backend",
                                       "kv_offloading_size",
                                       "mamba_block_size",
                                       "mamba_cache_dtype",
                                       "mamba_cache_mode",
                                       "mamba_page_size_padded",
                                       "mamba_ssm_cache_dtype",
                                       "num_cpu_blocks",
                                       "prefix_cache_retention_interval",
                                       "replayssm_buffer_len",
                                       "skip_page_size_padded",
                                       "sliding_window",
                                       "user_specified_block_size"};
    static const char *const off[] = {"enable_mamba_shared_prefix_checkpoint",
                                      "is_attention_free",
                                      "kv_sharing_fast_prefill",
                                      "swa_bounded_replay",
                                      "use_kda_recoverssm",
                                      "use_replayssm"};
    static const char *const sizes[] = {"block_size", "effective_attention_block_size",
                                        "hash_block_size", "prefix_match_unit"};
    const cohort_engine_info *info = &metrics->info;
    double tokens = (double)info->num_blocks * info->block_size;
    cohort_body labels = {0};
    cohort_body_printf(&labels,
                       "engine=\"0\",_block_size_resolved=\"True\",cache_dtype=\"auto\","
                       "enable_prefix_caching=\"%s\","
                       "kv_cache_max_concurrency=\"%.2f\",kv_cache_memory_bytes=\"%lld\","
                       "kv_cache_size_tokens=\"%.0f\",num_gpu_blocks=\"%lld\","
                       "prefix_caching_hash_algo=\"blake2b\"",
                       info->prefix_caching ? "True" : "False",
                       tokens / info->max_model_len,
                       (long long)(info->num_blocks * info->kv_block_bytes), tokens,
                       (long long)info->num_blocks);
    if (info->num_blocks_override)
        cohort_body_printf(&labels, ",num_gpu_blocks_override=\"%lld\"",
                           (long long)info->num_blocks_override);
    else
        cohort_body_puts(&labels, ",num_gpu_blocks_override=\"None\"");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        cohort_body_printf(&labels, ",%s=\"%d\"", sizes[i], info->block_size);
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        cohort_body_printf(&labels, ",%s=\"None\"", none[i]);
    for (size_t i = 0; i < sizeof off / sizeof *off; i++)
        cohort_body_printf(&labels, ",%s=\"False\"", off[i]);
    if (!labels.is_short)
        write_one(out, "vllm:cache_config_info", "gauge", labels.bytes, 1,
                  "Information of the LLMEngine CacheConfig");
    cohort_body_deinit(&labels);
}

static void write_recovery(const cohort_metrics *metrics, cohort_body *out) {
    static const char *const causes[N_CAUSES] = {"died", "hung", "error"};
    const cohort_engine_stats *stats = &metrics->stats;
    char labels[700];
    write_head(out, "cohort:rank_deaths_total", "counter",
               "Ranks that died and were replaced.");
    for (int r = 0; r < metrics->n_ranks; r++)
        for (int i = 0; i < N_CAUSES; i++) {
            snprintf(labels, sizeof labels, "%s,rank=\"%d\",cause=\"%s\"",
                     metrics->labels, r, causes[i]);
            write_sample(out, "cohort:rank_deaths_total", labels,
                         (double)metrics->deaths[r][i]);
        }
    write_one(out, "cohort:recoveries_total", "counter", metrics->labels,
              (double)stats->n_recoveries, "Recoveries after which requests went on.");
    write_head(out, "cohort:recovery_seconds", "histogram",
               "How long the ranks were not ready.");
    write_histogram(out, "cohort:recovery_seconds", metrics->labels,
                    &metrics->recoveries);
    write_one(out, "cohort:requests_recovered_total", "counter", metrics->labels,
              (double)stats->n_recovered,
              "Completions that ran when a rank died, and went on.");
    write_one(out, "cohort:requests_convicted_total", "counter", metrics->labels,
              (double)stats->n_convicted,
              "Requests whose steps killed ranks, and that were ended for it.");
    write_one(out, "cohort:tokens_recomputed_total", "counter", metrics->labels,
              (double)stats->n_recomputed_tokens,
              "Tokens that were computed again because a rank died.");
    write_one(out, "cohort:rank_epoch", "gauge", metrics->labels,
              (double)metrics->recovery.epoch,
              "1, and one more with every recovery of the ranks.");
    write_one(out, "cohort:recovering", "gauge", metrics->labels,
              metrics->recovery.is_recovering, "1 while a rank is replaced.");
}

static void write_engine(const cohort_metrics *metrics, cohort_body *out) {
    char name[80];
    for (int i = 0; i < COHORT_N_HISTOGRAMS; i++) {
        snprintf(name, sizeof name, "vllm:%s", rows[i].name);
        write_head(out, name, "histogram", rows[i].help);
        write_histogram(out, name, metrics->labels, &metrics->histograms[i]);
    }
    write_cache_info(metrics, out);
    write_one(out, "cohort:engine_steps_total", "counter", metrics->labels,
              (double)metrics->stats.n_steps, "Steps that came back from the ranks.");
    write_one(out, "cohort:computed_tokens_total", "counter", metrics->labels,
              (double)metrics->stats.n_computed_tokens,
              "Tokens that steps computed, of prompts, outputs and anew.");
    write_one(out, "cohort:grammar_cache_bytes", "gauge", metrics->labels,
              (double)metrics->stats.kept_grammar_bytes,
              "Bytes of the grammars that are kept for the next request.");
    write_one(out, "cohort:grammar_bytes", "gauge", metrics->labels,
              (double)metrics->stats.grammar_bytes,
              "Bytes of all grammars, of requests and kept.");
    write_step_times(metrics, out);
    write_recovery(metrics, out);
}

static void write_http_durations(const cohort_metrics *metrics, cohort_body *out) {
    static const char *const methods[] = {"GET", "POST", "OTHER"};
    char labels[120];
    write_head(out, "http_request_duration_highr_seconds", "histogram",
               "Latency with many buckets but no API specific labels.");
    write_histogram(out, "http_request_duration_highr_seconds", "", &metrics->durations);
    write_head(out, "http_request_duration_seconds", "histogram",
               "Latency with only few buckets by handler.");
    for (int i = 0; i < metrics->n_handlers; i++)
        for (int method = 0; method < N_METHODS; method++) {
            const handler *at = &metrics->handlers[i];
            uint64_t n = 0;
            for (int class = 0; class < N_CLASSES; class ++)
                n += at->requests[method][class];
            if (!n) continue;
            snprintf(labels, sizeof labels, "handler=\"%s\",method=\"%s\"", at->path,
                     methods[method]);
            write_histogram(out, "http_request_duration_seconds", labels,
                            &at->durations[method]);
        }
}

static void write_http(const cohort_metrics *metrics, cohort_body *out) {
    static const char *const methods[] = {"GET", "POST", "OTHER"};
    char labels[120];
    write_head(out, "http_requests_total", "counter",
               "Total number of requests by method, status and handler.");
    for (int i = 0; i < metrics->n_handlers; i++)
        for (int cell = 0; cell < N_METHODS * N_CLASSES; cell++) {
            const handler *at = &metrics->handlers[i];
            uint64_t n = at->requests[cell / N_CLASSES][cell % N_CLASSES];
            if (!n) continue;
            snprintf(labels, sizeof labels,
                     "handler=\"%s\",method=\"%s\",status=\"%dxx\"", at->path,
                     methods[cell / N_CLASSES], cell % N_CLASSES + 1);
            write_sample(out, "http_requests_total", labels, (double)n);
        }
    for (int side = 0; side < 2; side++) {
        const char *name = side ? "http_response_size_bytes" : "http_request_size_bytes";
        char full[60];
        write_head(out, name, "summary",
                   side ? "Content length of outgoing responses by handler."
                        : "Content length of incoming requests by handler.");
        for (int i = 0; i < metrics->n_handlers; i++) {
            const handler *at = &metrics->handlers[i];
            snprintf(labels, sizeof labels, "handler=\"%s\"", at->path);
            snprintf(full, sizeof full, "%s_count", name);
            write_sample(out, full, labels, (double)at->n);
            snprintf(full, sizeof full, "%s_sum", name);
            write_sample(out, full, labels,
                         (double)(side ? at->response_bytes : at->request_bytes));
        }
    }
    write_http_durations(metrics, out);
}

void cohort_metrics_write(cohort_metrics *metrics, cohort_body *out) {
    write_process(metrics, out);
    pthread_mutex_lock(&metrics->lock);
    write_gauges(metrics, out);
    write_counters(metrics, out);
    write_labelled_counters(metrics, out);
    write_engine(metrics, out);
    write_http(metrics, out);
    pthread_mutex_unlock(&metrics->lock);
}
