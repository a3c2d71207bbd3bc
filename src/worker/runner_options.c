/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/runner_options.h"

#define OPTIONS_OF cohort_runner_options

static const cohort_option rows[] = {
    COHORT_RUNNER_ROWS,
    OPTION_FLAG("keep-tokens", keep_tokens, NULL, NULL),
    OPTION_SECONDS("execute-model-timeout", execute_timeout_ns, "300", 0, 1e9, NULL),
};

const cohort_option_table cohort_runner_option_table = OPTION_TABLE(rows);
