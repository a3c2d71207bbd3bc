/* SPDX-License-Identifier: Apache-2.0 */
/* cli/options.h - what a command line, a file of --config and the environment say.
 *
 * Each component keeps the rows of its own options (base/option.h); sections.h says
 * which commands take them.  --help, man pages, completions, `cohort config`, parsing and
 * the environment variables are all made from the rows.  Names are vLLM's where it has
 * one; dashes and underscores are the same.  An option is taken from the command line,
 * else from the file of --config, else from COHORT_NAME in the environment, else its
 * default; variables of vLLM's come before that (vllm_variables.h).  Options of vLLM's
 * that leave nothing to do are in vllm_options.h.
 */
#ifndef COHORT_CLI_OPTIONS_H
#define COHORT_CLI_OPTIONS_H

#include <stdio.h>

#include "base/option.h"
#include "cohort/engine.h"
#include "server/server.h"

enum {
    CLI_MAX_OPTIONS = 256,
    CLI_MAX_STOP = 16,
    CLI_MAX_LIST = 16,
    CLI_PATH_BYTES = 4096,
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_HELP = -1
};

/* Which commands have an option. */
enum {
    CLI_ENGINE = 1, /* whatever starts an engine */
    CLI_GENERATE = 2,
    CLI_WORKER = 4,
    CLI_LATENCY = 8,
    CLI_THROUGHPUT = 16,
    CLI_STAT = 32,
    CLI_SERVE = 64,
    CLI_BENCH_SERVE = 128,
    CLI_COMPLETE = 256,
    CLI_CHAT = 512,
    CLI_BATCH = 1024,
    CLI_DOCTOR = 2048,
};

/* Words of an option that takes several: --header a b. */
typedef const char *cli_list[CLI_MAX_LIST + 1]; /* NULL-terminated */

/* Of `cohort bench serve`. */
typedef struct cli_load_options {
    const char *base_url, *host, *model;
    int64_t port;
    const char *backend, *endpoint, *dataset, *tokenizer, *served_name, *label;
    const char *percentile_metrics, *metric_percentiles, *result_dir, *result_filename;
    const char *extra_body, *request_id_prefix;
    const char *dataset_path, *template_kwargs, *tokenizer_mode, *random_range_ratio;
    int64_t custom_output_len, sharegpt_output_len;
    int64_t prefix_len, suffix_len, num_prefixes, prefix_output_len; /* repeated */
    int64_t random_input_len, random_output_len, random_prefix_len, input_len, output_len;
    int64_t num_prompts, max_concurrency, seed, num_warmups, logprobs;
    int64_t ready_timeout_s, ramp_start_rps, ramp_end_rps;
    const char *ramp_strategy;
    double request_rate, burstiness;
    cli_list metadata, goodput, headers;
    bool ignore_eos, save_result, save_detailed, append_result, disable_tqdm, insecure;
    bool no_oversample, disable_shuffle, skip_chat_template, skip_tokenizer_init;
    bool trust_remote_code; /* there is none */
} cli_load_options;

typedef struct cli_options {
    cohort_engine_options engine; /* its model and tokenizer as their user names them */
    cohort_server_options server;
    /* Once cli_find_model has found them; without --tokenizer it is the model's. */
    char model_dir[CLI_PATH_BYTES], tokenizer_dir[CLI_PATH_BYTES];
    bool (*is_cancelled)(void *unused); /* a signal came; NULL: not asked */
    const char *command;                /* that these are of: "bench latency" */
    const char *config_file, *revision, *download_dir, *log_level;
    bool verbose, check_environment;
    /* generate */
    cohort_request request; /* what of it was given; its numbers are clients', too */
    const char *prompt, *prompt_token_ids, *input, *stop_token_ids, *logit_bias;
    cli_list stop;
    bool json, keep_special, skip_chat_template;
    /* worker */
    int64_t control_fd;
    bool no_model;
    /* bench */
    int64_t input_len, output_len, batch_size, num_iters, num_iters_warmup, num_prompts;
    const char *output_json, *profile_trace, *profile_roofline;
    bool profile;
    /* clients */
    const char *url, *model_name, *client_key, *quick, *system_prompt;
    const char *batch_input, *batch_output;
    bool stats, watch;
    int64_t interval_ns; /* of watch */
    cli_load_options load;
    /* serve */
    const char *http_log_level;
    double drain_timeout_s;
    bool no_access_log, no_stats, stop_with_stdin, outlive_engine;
    /* By option: given on the command line or in the environment. */
    bool is_set[CLI_MAX_OPTIONS];
    bool is_given[CLI_MAX_OPTIONS]; /* on the command line */
} cli_options;

/* Parses argv[1..]; one word without dashes is the model.  CLI_OK, CLI_USAGE (said why on
 * stderr) or CLI_HELP (printed). */
int cli_options_parse(cli_options *options, int commands, const char *command, int argc,
                      char **argv);
/* Was this field of options given? */
bool cli_options_given(const cli_options *options, const void *field);
/* The same for the field of a row over one of the structs within. */
static inline bool cli_option_given(const cli_options *options, const cohort_option *row,
                                    const void *within) {
    return cli_options_given(options, (const char *)within + row->offset);
}
/* Adds to a JSON object the numbers of a table over within that were given. */
struct cJSON;
void cli_options_add_given(struct cJSON *object, const cli_options *options,
                           const cohort_option_table *table, const void *within);
/* One option, for whoever writes about them. */
typedef struct cli_option_text {
    const char *name, *alias; /* without dashes; alias: NULL, or after one dash */
    const char *value;        /* "N", "SECONDS"; "" for a flag */
    const char *words;        /* values to offer, "a|b"; or NULL */
    const char *standard;     /* default, or NULL */
    const char *help;
    char variable[80]; /* of the environment */
    int commands;      /* that have it */
    size_t index, group;
} cli_option_text;
void cli_options_each(int commands,
                      void (*each)(void *user_data, const cli_option_text *option),
                      void *user_data);
/* The value of the option with this index, as it would be written. */
void cli_options_print_value(FILE *out, const cli_options *options, size_t index);
/* "1,2,3"; false where it is no such list.  The caller frees. */
bool cli_parse_ids(const char *text, int32_t **out_ids, size_t *out_count);

/* Where the model is: its directory, or its snapshot in the cache, which is fetched if
 * need be.  CLI_OK, or an exit code with a line on stderr. */
int cli_find_model(cli_options *options);
/* The same for a tokenizer alone, without weights. */
int cli_find_tokenizer(const cli_options *options, const char *name,
                       char out_dir[CLI_PATH_BYTES]);
/* Prints the last error as one line; the exit code that goes with it, or with the signal
 * that it is due to. */
int cli_fail(const char *what);
/* The same, with more behind it: "; to fetch it: ...". */
int cli_fail_advising(const char *what, const char *advice);
/* cohort_engine_start with what cli_engine_options gives, and progress on stderr.  say:
 * where a line goes that is not for a terminal; NULL: there, too.  CLI_OK, or an exit
 * code with a line on stderr. */
int cli_start_engine(const cli_options *options,
                     void (*say)(void *user_data, const char *line),
                     cohort_engine **out_engine);
/* SIGINT and SIGTERM end the search for a model and the start of an engine (signals.h);
 * CLI_OK, or CLI_FAILED with a line on stderr. */
int cli_catch_signals(cli_options *options);
/* A table of where each rank is. */
void cli_print_ranks(const cohort_executor *executor);
/* --verbose: phases and ranks. */
void cli_print_start(cohort_engine *engine);

int cli_generate(int argc, char **argv);
int cli_worker(int argc, char **argv);
int cli_doctor(int argc, char **argv);
int cli_stat(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_bench_serve(int argc, char **argv);
int cli_serve(int argc, char **argv);
int cli_run_batch(int argc, char **argv);
int cli_complete(int argc, char **argv);
int cli_chat(int argc, char **argv);
int cli_config(int argc, char **argv);

#endif /* COHORT_CLI_OPTIONS_H */
