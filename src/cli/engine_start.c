/* SPDX-License-Identifier: Apache-2.0 */
/* What all commands with an engine do: log, start it, tell what was started and what
 * failed. */
#include <stdatomic.h>

#include "base/log.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/signals.h"

/* Errors reach the user by whoever fails; what is only odd, or takes long, by nobody. */
static void show_warning(void *user_data, cohort_log_level level, const char *line) {
    if (level != COHORT_LOG_WARNING) return;
    cli_progress_clear();
    cohort_log_to_stderr(user_data, level, line);
}

static int start_log(const cli_options *options) {
    cohort_log_level level;
    if (options->log_level && !cohort_log_level_parse(options->log_level, &level)) {
        fprintf(stderr,
                "cohort: --log-level '%s' is none of debug, info, warning, error\n",
                options->log_level);
        return CLI_USAGE;
    }
    if (options->log_level)
        cohort_log_set_sink(cohort_log_to_stderr, level, NULL);
    else
        cohort_log_set_sink(show_warning, COHORT_LOG_WARNING, NULL);
    return CLI_OK;
}

/* ---- loading ----------------------------------------------------------------------- */

/* As the executor's thread tells it; it may tell more of a rank that is started again,
 * long after the start. */
typedef struct loading {
    cli_progress bar;
    atomic_bool is_over;
    uint64_t done[COHORT_MAX_WORLD_SIZE], total[COHORT_MAX_WORLD_SIZE];
} loading;

static void show_loading(void *user_data, int32_t rank, uint64_t done, uint64_t total) {
    loading *self = user_data;
    uint64_t all_done = 0, all = 0;
    if (atomic_load(&self->is_over)) return;
    self->done[rank] = done;
    self->total[rank] = total;
    for (int i = 0; i < COHORT_MAX_WORLD_SIZE; i++) {
        all_done += self->done[i];
        all += self->total[i];
    }
    snprintf(self->bar.what, sizeof self->bar.what, "Loading weights");
    if (all) cli_progress_show(&self->bar, (int64_t)all_done, (int64_t)all);
}

int cli_start_engine(const cli_options *options,
                     void (*say)(void *user_data, const char *line),
                     cohort_engine **out_engine) {
    static loading self; /* lives as long as any engine */
    char what[160];
    int result = start_log(options);
    if (result != CLI_OK) return result;
    cohort_engine_options engine = options->engine;
    const cohort_executor_options *ranks = &engine.executor;
    engine.model = options->model_dir;
    engine.tokenizer = options->tokenizer_dir;
    self.bar = (cli_progress){.say = say, .is_log = options->log_level != NULL};
    engine.executor.on_progress = show_loading;
    engine.executor.user_data = &self;
    snprintf(what, sizeof what, "Starting %s, %d rank%s", options->engine.model,
             ranks->tp * ranks->pp, ranks->tp * ranks->pp == 1 ? "" : "s");
    cli_progress_begin(&self.bar, what);
    cohort_status status = cohort_engine_start(&engine, out_engine);
    atomic_store(&self.is_over, true);
    cli_progress_clear();
    return status < 0 ? cli_fail("starting") : CLI_OK;
}

/* ---- what failed ------------------------------------------------------------------- */

int cli_fail_advising(const char *what, const char *advice) {
    const cohort_error *error = cohort_last_error();
    cli_progress_clear();
    fprintf(stderr, "cohort: %s: %s%s\n", what, error->message, advice);
    cohort_log_place("cli", error);
    if (error->code == COHORT_E_CANCELLED && cli_signals_first())
        return 128 + cli_signals_first();
    return error->code == COHORT_E_INVALID ? CLI_USAGE : CLI_FAILED;
}

int cli_fail(const char *what) { return cli_fail_advising(what, ""); }

int cli_catch_signals(cli_options *options) {
    int result = cli_signals_catch();
    options->is_cancelled = cli_signals_seen;
    options->engine.executor.cancel_fd = cli_signals_fd();
    return result;
}

void cli_print_ranks(const cohort_executor *executor) {
    cohort_rank_info rank;
    cohort_executor_describe_rank(executor, 0, &rank);
    bool has_nodes = rank.node[0] != '\0';
    fprintf(stderr, "%-5s %-4s %-4s %-8s %-8s %-14s", "rank", "tp", "pp", "pid",
            "backend", "transport");
    fprintf(stderr, has_nodes ? " %-16s %-12s %s\n" : "\n", "address", "node", "devices");
    for (int32_t r = 0; r < cohort_executor_world_size(executor); r++) {
        cohort_executor_describe_rank(executor, r, &rank);
        fprintf(stderr, "%-5d %-4d %-4d %-8d %-8s %-14s", r, rank.tp_rank, rank.pp_rank,
                rank.pid, rank.backend, rank.transport);
        if (has_nodes)
            fprintf(stderr, " %-16s %-12.12s %s", rank.address, rank.node, rank.devices);
        fprintf(stderr, "\n");
    }
}

void cli_print_start(cohort_engine *engine) {
    cohort_engine_info info;
    cohort_executor_phases phases;
    cohort_executor *executor = cohort_engine_executor(engine);
    cohort_engine_describe(engine, &info);
    cohort_executor_get_phases(executor, &phases);
    const struct {
        const char *name;
        int64_t ns;
    } table[] = {{"config, tokenizer", info.open_ns},
                 {"place", phases.place_ns},
                 {"configure", phases.configure_ns},
                 {"connect", phases.connect_ns},
                 {"load", phases.load_ns},
                 {"KV cache", info.kv_cache_ns}};
    fprintf(stderr, "%-18s %10s\n", "phase", "ms");
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        fprintf(stderr, "%-18s %10.2f\n", table[i].name, (double)table[i].ns / 1e6);
    cli_print_ranks(executor);
    fprintf(stderr,
            "%s, %s, %.2f GiB weights, KV cache %lld tokens, maximum concurrency for %d "
            "tokens "
            "per request: %.2fx\n",
            info.architecture, info.isa, (double)info.weight_bytes / 0x1p30,
            (long long)(info.num_blocks * info.block_size), info.max_model_len,
            (double)(info.num_blocks * info.block_size) / (double)info.max_model_len);
}
