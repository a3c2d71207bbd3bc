/* SPDX-License-Identifier: Apache-2.0 */
/* executor/views.h - what is seen of ranks, for people and for verdict.h. */
#ifndef COHORT_EXECUTOR_VIEWS_H
#define COHORT_EXECUTOR_VIEWS_H

#include "executor/executor_internal.h"

/* "pid 4711", or with name and address. */
void executor_describe_rank(const cohort_launch *launch, char *out_text, size_t size);
void executor_fill_views(cohort_executor *executor, cohort_rank_view *views);

#endif /* COHORT_EXECUTOR_VIEWS_H */
