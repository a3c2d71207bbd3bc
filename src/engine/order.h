/* SPDX-License-Identifier: Apache-2.0 */
/* engine/order.h - requests by priority, and by arrival within one.
 *
 * Ownership: requests are the scheduler's caller's; one is in one order at most, and
 * keeps priority and arrival meanwhile. Threads:   none of its own.
 */
#ifndef COHORT_ENGINE_ORDER_H
#define COHORT_ENGINE_ORDER_H

#include <stdint.h>

#include "engine/scheduler.h"

typedef struct cohort_scheduler_order {
    cohort_scheduler_request *first, *last;
    cohort_scheduler_request *root; /* parents weigh more than their children */
    int32_t n;
    uint64_t weight_seed; /* that no client can guess, or else the tree could be a list */
    uint64_t n_looks;     /* comparisons, for tests */
} cohort_scheduler_order;

void cohort_scheduler_order_init(cohort_scheduler_order *order);
void cohort_scheduler_order_insert(cohort_scheduler_order *order,
                                   cohort_scheduler_request *request);
void cohort_scheduler_order_remove(cohort_scheduler_order *order,
                                   cohort_scheduler_request *request);

#endif /* COHORT_ENGINE_ORDER_H */
