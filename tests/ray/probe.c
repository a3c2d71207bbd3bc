/* SPDX-License-Identifier: Apache-2.0 */
/* ray_probe - one executor, driven line by line: what the tests in this folder hold on
 * to.
 *
 *   ray_probe backend=ray tp=2 model=DIR address=... group=... < commands > JSON lines
 *
 * The first line out is {"ready": true, ...} or {"error": text}.  Then, for a line in:
 *   rpc METHOD BYTES COUNT   calls in turn: how many replied, and their times
 *   arrays MAX_BYTES COUNT   echoes of arrays of any length up to that
 *   text WORDS               an echo of a string
 *   begin METHOD             a call in the background; its line comes when it completes
 *   register                 the failure callback; its line comes when it is called
 *   ranks | health | failure | shutdown
 *   destroy                  the executor; nothing may be asked of it after that
 * Payloads are random, and every reply to an echo is compared with what was sent.
 * The end of input destroys the executor.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "base/log.h"
#include "base/random.h"
#include "cohort/clock.h"
#include "cohort/executor.h"
#include "counters/counters.h"

static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER;

static void say(cJSON *line) {
    char *text = cJSON_PrintUnformatted(line);
    pthread_mutex_lock(&output);
    printf("%s\n", text);
    fflush(stdout);
    pthread_mutex_unlock(&output);
    cJSON_free(text);
    cJSON_Delete(line);
}

static void add_error(cJSON *line, const cohort_error *error) {
    cJSON_AddStringToObject(line, "error", error->message);
    cJSON_AddStringToObject(line, "code", cohort_status_name((cohort_status)error->code));
    cJSON_AddNumberToObject(line, "rank", error->rank);
    cJSON_AddNumberToObject(line, "at_ns", (double)cohort_clock_ns());
}

static void say_status(const char *name, cohort_status status) {
    cJSON *line = cJSON_CreateObject();
    cJSON_AddStringToObject(line, "did", name);
    if (status < 0) add_error(line, cohort_last_error());
    say(line);
}

static void on_failure(void *user_data, const cohort_error *error) {
    cJSON *line = cJSON_CreateObject();
    cJSON_AddStringToObject(line, "did", user_data);
    add_error(line, error);
    say(line);
}

/* What came in messages of the queue, as the rank counts it. */
static void add_counts(cohort_counters *counters, int32_t rank, cJSON *object) {
    cohort_counters_row *row = counters ? cohort_counters_row_of(counters, rank) : NULL;
    if (!row) return;
    cJSON_AddNumberToObject(object, "bytes_in", (double)row->bytes_in);
    cJSON_AddNumberToObject(object, "bytes_out", (double)row->bytes_out);
    cJSON_AddNumberToObject(object, "rpcs", (double)row->rpcs);
}

static void say_ranks(const cohort_executor *executor, cJSON *line) {
    cJSON *ranks = cJSON_AddArrayToObject(line, "ranks");
    cohort_counters *counters = NULL;
    cohort_counters_open(cohort_executor_counters_path(executor), &counters);
    for (int32_t r = 0; r < cohort_executor_world_size(executor); r++) {
        cohort_rank_info info;
        cohort_executor_describe_rank(executor, r, &info);
        cJSON *rank = cJSON_CreateObject();
        cJSON_AddNumberToObject(rank, "pid", info.pid);
        cJSON_AddStringToObject(rank, "node", info.node);
        cJSON_AddStringToObject(rank, "address", info.address);
        cJSON_AddStringToObject(rank, "devices", info.devices);
        cJSON_AddStringToObject(rank, "transport", info.transport);
        cJSON_AddStringToObject(rank, "phase", info.phase);
        add_counts(counters, r, rank);
        cJSON_AddItemToArray(ranks, rank);
    }
    cohort_counters_close(counters);
}

static void say_ready(const cohort_executor *executor) {
    cohort_executor_phases phases;
    cJSON *line = cJSON_CreateObject();
    cohort_executor_get_phases(executor, &phases);
    cJSON_AddTrueToObject(line, "ready");
    cJSON_AddNumberToObject(line, "pid", getpid());
    cJSON_AddNumberToObject(line, "world_size", cohort_executor_world_size(executor));
    cJSON_AddNumberToObject(line, "output_rank", cohort_executor_output_rank(executor));
    cJSON_AddNumberToObject(line, "max_in_flight",
                            cohort_executor_max_in_flight(executor));
    cJSON_AddNumberToObject(line, "place_ms", (double)phases.place_ns / 1e6);
    cJSON_AddNumberToObject(line, "total_ms", (double)phases.total_ns / 1e6);
    cJSON_AddStringToObject(line, "counters", cohort_executor_counters_path(executor));
    say_ranks(executor, line);
    say(line);
}

static int compare_ns(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

enum { CALL_MS = 30000, SEED = 20261126 };

static void fill(uint8_t *bytes, size_t size, uint64_t stream) {
    for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
        uint64_t value = cohort_random_u64(SEED + stream, i);
        memcpy(bytes + i, &value, size - i < sizeof value ? size - i : sizeof value);
    }
}

static void compare_echoes(const cohort_future *future, const uint8_t *payload,
                           size_t size, cJSON *line) {
    for (int32_t i = 0; i < cohort_future_reply_count(future); i++) {
        int32_t rank;
        const void *bytes;
        size_t size_bytes;
        cohort_future_reply(future, i, &rank, &bytes, &size_bytes);
        if (rank == i && size_bytes == size && (!size || !memcmp(bytes, payload, size)))
            continue;
        cJSON_AddNumberToObject(line, "differs", i);
    }
}

/* One call of all ranks; its replies' number and what is wrong with them into the line.
 */
static cohort_status call(cohort_executor *executor, const char *method,
                          const uint8_t *payload, size_t size, cJSON *line,
                          int64_t *out_spent_ns) {
    cohort_future *future = NULL;
    cohort_rpc rpc = {.method = method,
                      .payload = payload,
                      .size_bytes = size,
                      .reply_rank = COHORT_ALL_RANKS};
    int64_t from_ns = cohort_clock_ns();
    cohort_status status =
        cohort_collective_rpc(executor, &rpc, cohort_deadline_ms(CALL_MS), &future);
    *out_spent_ns = cohort_clock_ns() - from_ns;
    if (status >= 0) {
        if (!strcmp(method, "echo")) compare_echoes(future, payload, size, line);
        cJSON_DeleteItemFromObject(line, "replies");
        cJSON_AddNumberToObject(line, "replies", cohort_future_reply_count(future));
    }
    cohort_future_destroy(future);
    return status;
}

typedef struct round {
    const char *method;
    size_t max_bytes, count;
    bool is_any_length;
} round;

static void run_calls(cohort_executor *executor, const round *asked) {
    cJSON *line = cJSON_CreateObject();
    int64_t *spent_ns = calloc(asked->count + 1, sizeof *spent_ns);
    uint8_t *payload = malloc(asked->max_bytes + 1);
    cohort_status status = COHORT_OK;
    if (!spent_ns || !payload) abort();
    fill(payload, asked->max_bytes, 0);
    cJSON_AddStringToObject(line, "did", "rpc");
    for (size_t i = 0; status >= 0 && i < asked->count; i++) {
        size_t size = asked->max_bytes;
        if (asked->is_any_length) {
            size = 1 + cohort_random_u64(SEED, i) % asked->max_bytes;
            fill(payload, size, i);
        }
        status = call(executor, asked->method, payload, size, line, &spent_ns[i]);
    }
    if (status < 0) {
        add_error(line, cohort_last_error());
    } else {
        qsort(spent_ns, asked->count, sizeof *spent_ns, compare_ns);
        cJSON_AddNumberToObject(line, "p50_us", (double)spent_ns[asked->count / 2] / 1e3);
        cJSON_AddNumberToObject(line, "p99_us",
                                (double)spent_ns[asked->count * 99 / 100] / 1e3);
    }
    say(line);
    free(payload);
    free(spent_ns);
}

static void echo_text(cohort_executor *executor, const char *text) {
    cJSON *line = cJSON_CreateObject();
    int64_t spent_ns;
    cJSON_AddStringToObject(line, "did", "text");
    if (call(executor, "echo", (const uint8_t *)text, strlen(text) + 1, line, &spent_ns) <
        0)
        add_error(line, cohort_last_error());
    say(line);
}

typedef struct background {
    cohort_executor *executor;
    char method[64];
} background;

static void *background_main(void *argument) {
    background *self = argument;
    cohort_rpc rpc = {.method = self->method, .reply_rank = COHORT_ALL_RANKS};
    say_status("begin", cohort_collective_rpc(self->executor, &rpc,
                                              cohort_deadline_ms(CALL_MS), NULL));
    free(self);
    return NULL;
}

static void say_failure(cohort_executor *executor) {
    cohort_error error;
    cJSON *line = cJSON_CreateObject();
    cJSON_AddStringToObject(line, "did", "failure");
    if (cohort_executor_failure(executor, &error) < 0) add_error(line, &error);
    say(line);
}

static void obey(cohort_executor **held, const char *line) {
    cohort_executor *executor = *held;
    static char registered[] = "callback";
    char word[32] = "";
    char method[64] = "noop";
    size_t bytes = 0;
    size_t count = 1;
    sscanf(line, "%31s %63s %zu %zu", word, method, &bytes, &count);
    if (!strcmp(word, "rpc")) {
        run_calls(executor,
                  &(round){.method = method, .max_bytes = bytes, .count = count});
    } else if (!strcmp(word, "arrays") &&
               sscanf(line, "arrays %zu %zu", &bytes, &count) == 2 && bytes > 0) {
        run_calls(executor, &(round){.method = "echo",
                                     .max_bytes = bytes,
                                     .count = count,
                                     .is_any_length = true});
    } else if (!strcmp(word, "text")) {
        echo_text(executor, line + strlen("text "));
    } else if (!strcmp(word, "begin")) {
        pthread_t thread;
        background *self = calloc(1, sizeof *self);
        if (!self) abort();
        self->executor = executor;
        memcpy(self->method, method, sizeof method);
        if (pthread_create(&thread, NULL, background_main, self)) abort();
        pthread_detach(thread);
    } else if (!strcmp(word, "register")) {
        cohort_executor_register_failure_callback(executor, on_failure, registered);
    } else if (!strcmp(word, "health")) {
        say_status("health",
                   cohort_executor_check_health(executor, cohort_deadline_ms(10000)));
    } else if (!strcmp(word, "failure")) {
        say_failure(executor);
    } else if (!strcmp(word, "ranks")) {
        cJSON *ranks = cJSON_CreateObject();
        cJSON_AddStringToObject(ranks, "did", "ranks");
        say_ranks(executor, ranks);
        say(ranks);
    } else if (!strcmp(word, "shutdown")) {
        say_status("shutdown", cohort_executor_shutdown(executor));
    } else if (!strcmp(word, "destroy")) {
        cohort_executor_destroy(executor);
        *held = NULL;
        say_status("destroy", COHORT_OK);
    }
}

typedef struct setting {
    const char *name;
    const char **text;
    int32_t *number;
    int64_t *duration_ms;
} setting;

static void parse(cohort_executor_options *options, const char **model, int argc,
                  char **argv) {
    const setting settings[] = {
        {"backend", &options->backend, NULL, NULL},
        {"tp", NULL, &options->tp, NULL},
        {"pp", NULL, &options->pp, NULL},
        {"model", model, NULL, NULL},
        {"instance", &options->instance, NULL, NULL},
        {"extension", &options->worker_extension, NULL, NULL},
        {"address", &options->ray.address, NULL, NULL},
        {"node_address", &options->ray.node_address, NULL, NULL},
        {"group", &options->ray.placement_group, NULL, NULL},
        {"namespace", &options->ray.ray_namespace, NULL, NULL},
        {"strategy", &options->ray.strategy, NULL, NULL},
        {"resource", &options->ray.resource, NULL, NULL},
        {"indices", &options->ray.bundle_indices, NULL, NULL},
        {"excluded", &options->ray.excluded_env, NULL, NULL},
        {"runtime_env", &options->ray.runtime_env, NULL, NULL},
        {"restarts", NULL, &options->max_rank_restarts, NULL},
        {"dp", NULL, &options->data_parallel_size, NULL},
        {"dp_rank", NULL, &options->data_parallel_rank, NULL},
        {"placement_ms", NULL, NULL, &options->ray.placement_timeout_ns},
        {"connect_ms", NULL, NULL, &options->connect_timeout_ns},
        {"hang_ms", NULL, NULL, &options->hang_timeout_ns},
        {"shutdown_ms", NULL, NULL, &options->shutdown_timeout_ns}};
    for (int i = 1; i < argc; i++) {
        size_t length = strcspn(argv[i], "=");
        const char *value = argv[i][length] ? argv[i] + length + 1 : "1";
        if (!strncmp(argv[i], "async", length)) options->async_scheduling = true;
        if (!strncmp(argv[i], "graph", length))
            options->ray.control_plane = COHORT_RAY_COMPILED_GRAPH;
        if (!strncmp(argv[i], "log_to_driver", length)) options->ray.log_to_driver = true;
        for (size_t k = 0; k < sizeof settings / sizeof *settings; k++) {
            const setting *at = &settings[k];
            if (strlen(at->name) != length || strncmp(argv[i], at->name, length) != 0)
                continue;
            if (at->text) *at->text = value;
            if (at->number) *at->number = atoi(value);
            if (at->duration_ms) *at->duration_ms = atoll(value) * 1000000;
        }
    }
}

int main(int argc, char **argv) {
    cohort_executor_options options = cohort_executor_defaults();
    cohort_executor *executor = NULL;
    const char *model = "";
    char pair[4096];
    char line[512];
    cohort_log_level level;
    const char *named = getenv("COHORT_LOGGING_LEVEL");
    if (named && cohort_log_level_parse(named, &level))
        cohort_log_set_sink(cohort_log_to_stderr, level, NULL);
    options.connect_timeout_ns = INT64_C(60000000000);
    options.max_rank_restarts = 0; /* a death is the failure, unless restarts says else */
    parse(&options, &model, argc, argv);
    snprintf(pair, sizeof pair, "model=%s", model);
    const char *config[] = {pair,
                            "max_model_len=64",
                            "max_num_seqs=4",
                            "max_num_batched_tokens=64",
                            "block_size=16",
                            NULL};
    options.config = config;
    if (cohort_executor_start(&options, &executor) < 0) {
        cJSON *failed = cJSON_CreateObject();
        add_error(failed, cohort_last_error());
        say(failed);
        return 1;
    }
    say_ready(executor);
    while (fgets(line, sizeof line, stdin))
        obey(&executor, line);
    cohort_executor_destroy(executor);
    return 0;
}
