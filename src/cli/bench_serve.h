/* SPDX-License-Identifier: Apache-2.0 */
/* cli/bench_serve.h - `cohort bench serve`: what was sent, when, and what came of it. */
#ifndef COHORT_CLI_BENCH_SERVE_H
#define COHORT_CLI_BENCH_SERVE_H

#include "cli/options.h"
#include "cli/series.h"
#include "client/client.h"
#include "text/tokenizer.h"

typedef struct bench_request {
    /* the plan */
    char *prompt;
    size_t prompt_bytes;
    int32_t prompt_len, output_len;
    double due_s; /* after the beginning */
    double rate;  /* of requests, where it was planned */
    /* what came of it; times are of the monotonic clock */
    struct bench_run *run;
    int64_t arrived_ns, start_ns, first_ns, last_ns; /* due, sent, first and last token */
    int64_t output_tokens;
    cli_series itls;
    cohort_body text;
    char *error; /* NULL: it succeeded, once it is done */
    bool is_counted;
} bench_request;

typedef struct bench_run {
    const cli_options *options;
    cohort_client *client;
    const char *model_id, *model_name, *tokenizer;
    char *fetched_id, *fetched_name, *fetch_error;
    char tokenizer_dir[CLI_PATH_BYTES];
    char *changes; /* of a ramp's rate, as JSON objects */
    int64_t last_rps;
    char url[1024], id_prefix[64];
    bool is_chat;
    bench_request *requests;
    int64_t n_requests, n_due, n_sent, n_done, n_active;
    double duration_s;
} bench_run;

static inline double bench_seconds(int64_t from_ns, int64_t to_ns) {
    return (double)(to_ns - from_ns) / 1e9;
}

/* Prompts and lengths, drawn by the seed or read.  CLI_OK, or CLI_USAGE with a line on
 * stderr, as for the next two. */
int bench_make_prompts(bench_run *run);
/* Those of --dataset-path; tokenizer: NULL, where nobody wants one. */
int bench_read_prompts(bench_run *run, const cohort_tokenizer *tokenizer);
/* Are the options of the data set in order? */
int bench_check_prompts(const cli_load_options *load);
/* Room for so many requests. */
void bench_reserve(bench_run *run, int64_t n);
/* When each is to be sent. */
void bench_make_times(bench_run *run);
/* Are the options of the report in order? */
int bench_check_report(const cli_options *options);
/* Prints, and writes the file that was asked for. */
int bench_report(const bench_run *run);

#endif /* COHORT_CLI_BENCH_SERVE_H */
