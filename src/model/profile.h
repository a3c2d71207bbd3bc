/* SPDX-License-Identifier: Apache-2.0 */
/* model/profile.h - what every operation of a rank takes.
 *
 *   begin -> forward* -> end
 *
 * Between them the forward pass runs on a table that notes, around each operation of the
 * device's own, when it began and ended, what it moved and what it computed.  That says
 * something only where an operation is done when its call returns.
 *
 * Bytes are what an operation moves where nothing lies in a cache (what does can be
 * faster than memory): weights, keys and
 * values once, activations in and out.  FLOPs are those of its definition.
 */
#ifndef COHORT_MODEL_PROFILE_H
#define COHORT_MODEL_PROFILE_H

#include "model/model.h"

typedef enum cohort_profile_op {
    COHORT_PROFILE_STEP, /* from step_begin to step_end: all others lie in one */
    COHORT_PROFILE_EMBED,
    COHORT_PROFILE_LINEAR,
    COHORT_PROFILE_NORM,
    COHORT_PROFILE_ADD,
    COHORT_PROFILE_ROTATE,
    COHORT_PROFILE_STORE,
    COHORT_PROFILE_ATTEND,
    COHORT_PROFILE_ACTIVATE,
    COHORT_PROFILE_ROUTE,
    COHORT_PROFILE_EXPERTS,
    COHORT_PROFILE_TAKE,
    COHORT_PROFILE_SAMPLE,
    COHORT_PROFILE_ALL_REDUCE,
    COHORT_PROFILE_RECEIVE,
    COHORT_PROFILE_SEND,
    COHORT_PROFILE_GATHER,
    COHORT_PROFILE_OPS
} cohort_profile_op;

const char *cohort_profile_name(cohort_profile_op op);

/* On the wire, both: little-endian, of one build. */
typedef struct cohort_profile_event {
    int64_t begin_ns, end_ns; /* cohort_clock_ns() */
    int64_t bytes, flops;
    int32_t op, layer;   /* layer -1: of none */
    int32_t n_rows;      /* tokens, or rows of logits */
    int32_t n_out, n_in; /* of a product's weights; else 0 */
    int32_t n_sequences; /* of the step */
} cohort_profile_event;
_Static_assert(sizeof(cohort_profile_event) == 56, "wire layout");

typedef struct cohort_profile_head {
    uint64_t n_events, n_dropped;         /* those beyond COHORT_PROFILE_EVENTS */
    double read_bytes_per_s, flops_per_s; /* limits, measured at the end; 0: unknown */
    char device[32];
} cohort_profile_head;
_Static_assert(sizeof(cohort_profile_head) == 64, "wire layout");

enum { COHORT_PROFILE_EVENTS = 1 << 18 };

/* COHORT_E_INVALID where it is on already, or cannot be. */
cohort_status cohort_model_profile_begin(cohort_model *model);
/* A head and its events into out_bytes, as many as there is room for. */
cohort_status cohort_model_profile_end(cohort_model *model, void *out_bytes,
                                       size_t capacity_bytes, size_t *out_size_bytes);

/* forward.c: the table and the backend that it runs on meanwhile. */
typedef struct cohort_profile cohort_profile;
const cohort_backend_ops *cohort_profile_ops(void);
cohort_backend *cohort_profile_backend(cohort_profile *profile);
void cohort_profile_destroy(cohort_profile *profile); /* accepts NULL */

#endif /* COHORT_MODEL_PROFILE_H */
