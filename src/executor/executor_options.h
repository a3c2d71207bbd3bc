/* SPDX-License-Identifier: Apache-2.0 */
/* executor/executor_options.h - the rows of cohort_executor_options that a user may
 * set. */
#ifndef COHORT_EXECUTOR_OPTIONS_H
#define COHORT_EXECUTOR_OPTIONS_H

#include "base/option.h"
#include "cohort/executor.h"

extern const cohort_option_table cohort_executor_option_table;

#endif /* COHORT_EXECUTOR_OPTIONS_H */
