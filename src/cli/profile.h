/* SPDX-License-Identifier: Apache-2.0 */
/* cli/profile.h - what `cohort bench latency --profile` shows of its ranks: a table of
 * operations, a trace that Perfetto and Chrome open, a roofline as SVG.
 *
 * Ranks are asked over the executor (worker/runner.h); what they answer is another
 * process' and checked.
 */
#ifndef COHORT_CLI_PROFILE_H
#define COHORT_CLI_PROFILE_H

#include "cohort/executor.h"
#include "model/profile.h"

typedef struct cli_rank_profile {
    int32_t rank;
    cohort_profile_head head;
    const cohort_profile_event *events; /* head.n_events */
} cli_rank_profile;

typedef struct cli_profile {
    cohort_future *reply; /* what the events lie in */
    cli_rank_profile *ranks;
    int32_t n_ranks;
} cli_profile;

/* CLI_OK, or it was said why not. */
int cli_profile_start(cohort_executor *executor);
int cli_profile_stop(cohort_executor *executor, cli_profile *out_profile);
void cli_profile_deinit(cli_profile *profile);

/* All operations of one kind and shape. */
typedef struct cli_profile_row {
    char name[64];
    int32_t op, n_out, n_in;
    int64_t n_calls;
    double seconds, bytes, flops;
} cli_profile_row;

enum { CLI_PROFILE_ROWS = 64 };

/* Of one rank, the longest first; returns how many.  Steps are not among them. */
int32_t cli_profile_rows(const cli_rank_profile *of, cli_profile_row *out_rows);
/* The least time that an operation could take, by the rank's limits. */
double cli_profile_least_s(const cli_rank_profile *of, const cli_profile_row *row);

void cli_profile_print(const cli_profile *profile);
int cli_profile_trace(const cli_profile *profile, const char *path);
int cli_profile_roofline(const cli_profile *profile, const char *path);

#endif /* COHORT_CLI_PROFILE_H */
