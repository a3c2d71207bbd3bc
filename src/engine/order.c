/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/order.h"

#include <sodium.h>

#include "base/random.h"

/* Design note: a treap beside the list finds the place of who comes: clients choose
 * priorities, so that any place must cost little. */

void cohort_scheduler_order_init(cohort_scheduler_order *order) {
    *order = (cohort_scheduler_order){0};
    randombytes_buf(&order->weight_seed, sizeof order->weight_seed);
}

static bool comes_before(const cohort_scheduler_request *a,
                         const cohort_scheduler_request *b) {
    return a->priority != b->priority ? a->priority < b->priority
                                      : a->arrival < b->arrival;
}

/* What comes before request, and what comes after it. */
static void split(cohort_scheduler_order *order, cohort_scheduler_request *root,
                  const cohort_scheduler_request *request,
                  cohort_scheduler_request **out_before,
                  cohort_scheduler_request **out_after) {
    while (root) {
        order->n_looks++;
        if (comes_before(root, request)) {
            *out_before = root;
            out_before = &root->higher;
            root = root->higher;
        } else {
            *out_after = root;
            out_after = &root->lower;
            root = root->lower;
        }
    }
    *out_before = *out_after = NULL;
}

/* All of before come before all of after. */
static cohort_scheduler_request *joined(cohort_scheduler_order *order,
                                        cohort_scheduler_request *before,
                                        cohort_scheduler_request *after) {
    cohort_scheduler_request *root = NULL, **link = &root;
    while (before && after) {
        order->n_looks++;
        if (before->weight > after->weight) {
            *link = before;
            link = &before->higher;
            before = before->higher;
        } else {
            *link = after;
            link = &after->lower;
            after = after->lower;
        }
    }
    *link = before ? before : after;
    return root;
}

void cohort_scheduler_order_insert(cohort_scheduler_order *order,
                                   cohort_scheduler_request *request) {
    cohort_scheduler_request *before = NULL, **link = &order->root;
    request->weight = cohort_random_u64(order->weight_seed, request->arrival);
    while (*link && (*link)->weight > request->weight) {
        order->n_looks++;
        bool follows = comes_before(*link, request);
        if (follows) before = *link;
        link = follows ? &(*link)->higher : &(*link)->lower;
    }
    split(order, *link, request, &request->lower, &request->higher);
    *link = request;
    for (cohort_scheduler_request *at = request->lower; at; at = at->higher)
        before = at;
    request->previous = before;
    request->next = before ? before->next : order->first;
    *(request->next ? &request->next->previous : &order->last) = request;
    *(before ? &before->next : &order->first) = request;
    order->n++;
}

void cohort_scheduler_order_remove(cohort_scheduler_order *order,
                                   cohort_scheduler_request *request) {
    cohort_scheduler_request **link = &order->root;
    while (*link != request) {
        order->n_looks++;
        link = comes_before(*link, request) ? &(*link)->higher : &(*link)->lower;
    }
    *link = joined(order, request->lower, request->higher);
    *(request->next ? &request->next->previous : &order->last) = request->previous;
    *(request->previous ? &request->previous->next : &order->first) = request->next;
    request->previous = request->next = request->lower = request->higher = NULL;
    order->n--;
}
