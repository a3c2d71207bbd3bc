/* SPDX-License-Identifier: Apache-2.0 */
/* What all commands with an engine do: log, start it, tell what was started and what
 * failed. */
#include "base/log.h"
#include "cli/options.h"
#include "cli/signals.h"

/* Errors reach the user by whoever fails; what is only odd, or takes long, by nobody. */
static void show_warning(void *user_data, cohort_log_level level, const char *line) {
    if (level == COHORT_LOG_WARNING) cohort_log_to_stderr(user_data, level, line);
}

int cli_engine_options(const cli_options *options, cohort_engine_options *out_options) {
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
    *out_options = options->engine;
    out_options->model = options->model_dir;
    out_options->tokenizer = options->tokenizer_dir;
    return CLI_OK;
}

int cli_fail(const char *what) {
    const cohort_error *error = cohort_last_error();
    fprintf(stderr, "cohort: %s: %s\n", what, error->message);
    cohort_log_place("cli", error);
    if (error->code == COHORT_E_CANCELLED && cli_signals_first())
        return 128 + cli_signals_first();
    return error->code == COHORT_E_INVALID ? CLI_USAGE : CLI_FAILED;
}

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
