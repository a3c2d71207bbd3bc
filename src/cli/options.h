/* SPDX-License-Identifier: Apache-2.0 */
/* cli/options.h - every option of every command, in one table: name, variable, default,
 * help.
 *
 * --help, `cohort config`, parsing and the environment variables are all made from it.
 * Names are vLLM's where it has one; dashes and underscores are the same.  An option is
 * taken from the command line, else from COHORT_NAME in the environment, else its
 * default.
 */
#ifndef COHORT_CLI_OPTIONS_H
#define COHORT_CLI_OPTIONS_H

#include <stdio.h>

#include "cohort/engine.h"

enum {
    CLI_MAX_OPTIONS = 160,
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
};

/* Words of an option that takes several: --api-key a b. */
typedef struct cli_list {
    const char *items[CLI_MAX_LIST];
    int n;
} cli_list;

/* Of `cohort bench serve`; whom it asks is with the other clients' options. */
typedef struct cli_load_options {
    const char *backend, *endpoint, *dataset, *tokenizer, *served_name, *label;
    const char *percentile_metrics, *metric_percentiles, *result_dir, *result_filename;
    const char *extra_body, *request_id_prefix;
    int64_t random_input_len, random_output_len, random_prefix_len, input_len, output_len;
    int64_t num_prompts, max_concurrency, seed, num_warmups, logprobs, top_k;
    int64_t ready_timeout_s, ramp_start_rps, ramp_end_rps;
    const char *ramp_strategy;
    double random_range_ratio, request_rate, burstiness;
    double temperature, top_p, min_p;
    double repetition_penalty, presence_penalty, frequency_penalty;
    cli_list metadata, goodput, headers;
    bool ignore_eos, save_result, save_detailed, append_result, disable_tqdm, insecure;
} cli_load_options;

typedef struct cli_options {
    /* engine */
    char model_dir[CLI_PATH_BYTES];     /* once cli_find_model has found it */
    bool (*is_cancelled)(void *unused); /* a signal came; NULL: not asked */
    const char *revision, *download_dir;
    const char *model, *backend, *dtype, *load_format, *layer_partition, *threads_bind,
        *isa;
    const char *log_level, *instance;
    int64_t tp, pp, max_model_len, max_num_seqs, max_num_batched_tokens, block_size, seed;
    int64_t kv_cache_bytes, num_blocks;
    double connect_timeout_s, load_timeout_s, execute_timeout_s, hang_timeout_s;
    double shutdown_timeout_s, ray_placement_timeout_s;
    cohort_ray_options ray;
    bool verbose, skip_tokenizer_init;
    bool prefix_caching, async_scheduling;
    const char *scheduling_policy;
    /* generate */
    const char *prompt, *prompt_token_ids, *input, *stop_token_ids, *logit_bias;
    cli_list stop;
    int64_t max_tokens, n, logprobs, prompt_logprobs, top_k, min_tokens;
    double temperature, top_p, min_p;
    double repetition_penalty, presence_penalty, frequency_penalty;
    bool json, ignore_eos, include_stop, keep_special;
    /* worker */
    int64_t control_fd;
    bool no_model;
    /* bench */
    int64_t input_len, output_len, batch_size, num_iters, num_iters_warmup, num_prompts;
    const char *output_json;
    /* clients */
    const char *base_url, *server_host, *server_model;
    int64_t server_port;
    const char *url, *model_name, *client_key, *quick, *system_prompt;
    const char *batch_input, *batch_output;
    bool stats;
    cli_load_options load;
    /* serve */
    const char *host, *uds, *ssl_certfile, *ssl_keyfile;
    const char *chat_template;
    cli_list served_names, api_keys, allowed_origins;
    int64_t port, max_logprobs, max_body_bytes, max_connections, max_waiting;
    double idle_timeout_s, request_timeout_s, drain_timeout_s, stats_interval_s;
    bool request_id_headers, tokens_as_ids, no_access_log;
    /* By row of the table: given on the command line or in the environment. */
    bool is_set[CLI_MAX_OPTIONS];
    bool is_given[CLI_MAX_OPTIONS]; /* on the command line */
} cli_options;

/* Parses argv[1..]; one word without dashes is the model.  CLI_OK, CLI_USAGE (said why on
 * stderr) or CLI_HELP (printed). */
int cli_options_parse(cli_options *options, int commands, const char *command, int argc,
                      char **argv);
/* Was this field of options given? */
bool cli_options_given(const cli_options *options, const void *field);
void cli_options_print(FILE *out, int commands, bool with_values,
                       const cli_options *options);
/* One option, for whoever writes about them. */
typedef struct cli_option_text {
    const char *name, *alias; /* without dashes; alias: NULL, or after one dash */
    const char *value;        /* "N", "SECONDS"; "" for a flag */
    const char *standard;     /* default, or NULL */
    const char *help;
    char variable[80]; /* of the environment */
} cli_option_text;
void cli_options_each(int commands,
                      void (*each)(void *user_data, const cli_option_text *option),
                      void *user_data);
/* "1,2,3"; false where it is no such list.  The caller frees. */
bool cli_parse_ids(const char *text, int32_t **out_ids, size_t *out_count);

/* Where the model is: its directory, or its snapshot in the cache, which is fetched if
 * need be.  CLI_OK, or an exit code with a line on stderr. */
int cli_find_model(cli_options *options);
/* The same for a tokenizer alone, without weights. */
int cli_find_tokenizer(const char *name, char out_dir[CLI_PATH_BYTES]);
/* Engine options from the table; CLI_OK, or CLI_USAGE with a line on stderr. */
int cli_engine_options(const cli_options *options, cohort_engine_options *out_options);
/* Prints the last error as one line; the exit code that goes with it. */
int cli_fail(const char *what);
/* A table of where each rank is. */
void cli_print_ranks(const cohort_executor *executor);
/* --verbose: phases and ranks. */
void cli_print_start(cohort_engine *engine);

int cli_generate(int argc, char **argv);
int cli_worker(int argc, char **argv);
int cli_stat(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_bench_serve(int argc, char **argv);
int cli_serve(int argc, char **argv);
int cli_run_batch(int argc, char **argv);
int cli_complete(int argc, char **argv);
int cli_chat(int argc, char **argv);
int cli_config(int argc, char **argv);

#endif /* COHORT_CLI_OPTIONS_H */
