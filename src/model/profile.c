/* SPDX-License-Identifier: Apache-2.0 */
#include "model/profile.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "cohort/clock.h"
#include "model/model_internal.h"
#include "model/safetensors.h"

const char *cohort_profile_name(cohort_profile_op op) {
    static const char *const names[COHORT_PROFILE_OPS] = {
        "step",   "embed",      "linear",   "norm",  "add",     "rotate",
        "store",  "attend",     "activate", "route", "experts", "take",
        "sample", "all-reduce", "receive",  "send",  "gather"};
    return (int)op >= 0 && op < COHORT_PROFILE_OPS ? names[op] : "?";
}

/* What stands between the forward pass and the device. */
struct cohort_backend {
    const cohort_backend_ops *ops; /* the device's */
    cohort_backend *device;
    const cohort_model *model;
    int64_t step_ns; /* when it began */
    int32_t layer, n_rows, n_sequences;
    const cohort_sequence *sequences; /* the caller's, until step_end */
    uint64_t n_events, n_dropped;
    cohort_profile_event *events; /* COHORT_PROFILE_EVENTS */
};

struct cohort_profile {
    cohort_backend backend;
};

/* ---- what an operation costs ------------------------------------------------------- */

static int64_t size_of(cohort_dtype dtype) { return (int64_t)cohort_dtype_bytes(dtype); }

static cohort_profile_event cost_of(int64_t bytes, int64_t flops, int64_t n_rows) {
    return (cohort_profile_event){
        .bytes = bytes, .flops = flops, .n_rows = (int32_t)n_rows};
}

static cohort_profile_event cost_of_embed(const cohort_backend *at,
                                          const cohort_op_embed *op) {
    (void)op;
    int64_t bytes = size_of(at->model->dtype) + (int64_t)sizeof(float);
    return cost_of(bytes * at->n_rows * at->model->config.hidden_size, 0, at->n_rows);
}

/* The forward pass has its rows side by side: strides are widths. */
static cohort_profile_event cost_of_linear(const cohort_backend *at,
                                           const cohort_op_linear *op) {
    int64_t activations = op->n_rows * (op->x_stride + op->y_stride);
    int64_t bytes =
        (int64_t)at->ops->linear_bytes(op->weight) + activations * (int64_t)sizeof(float);
    cohort_profile_event cost =
        cost_of(bytes, 2 * op->n_rows * op->x_stride * op->y_stride, op->n_rows);
    cost.n_out = (int32_t)op->y_stride;
    cost.n_in = (int32_t)op->x_stride;
    return cost;
}

static cohort_profile_event cost_of_norm(const cohort_backend *at,
                                         const cohort_op_norm *op) {
    (void)at;
    int64_t n = op->n_rows * op->n_columns;
    return cost_of(8 * n, 4 * n, op->n_rows);
}

static cohort_profile_event cost_of_add(const cohort_backend *at,
                                        const cohort_op_add *op) {
    return cost_of(12 * op->count, op->count, at->n_rows);
}

static cohort_profile_event cost_of_rotate(const cohort_backend *at,
                                           const cohort_op_rotate *op) {
    int64_t n = (int64_t)at->n_rows * (op->heads.n_heads + op->heads.n_kv_heads) *
                op->heads.head_dim;
    return cost_of(8 * n, 3 * n, at->n_rows);
}

/* Of one token in one layer: its keys and values. */
static int64_t kv_values(const cohort_heads *heads) {
    return (int64_t)2 * heads->n_kv_heads * heads->head_dim;
}

static cohort_profile_event cost_of_store(const cohort_backend *at,
                                          const cohort_op_attention *op) {
    int64_t each = size_of(at->model->kv_dtype) + (int64_t)sizeof(float);
    return cost_of(at->n_rows * kv_values(&op->heads) * each, 0, at->n_rows);
}

/* A sequence's cache is read once for all of its rows; what is beyond the window of all
 * of them is not. */
static cohort_profile_event cost_of_attend(const cohort_backend *at,
                                           const cohort_op_attention *op) {
    const cohort_heads *heads = &op->heads;
    int64_t read = 0, seen = 0, width = (int64_t)heads->n_heads * heads->head_dim;
    for (int32_t i = 0; i < at->n_sequences; i++) {
        const cohort_sequence *sequence = &at->sequences[i];
        int64_t n = sequence->n_computed + sequence->n_rows, window = n;
        if (heads->sliding_window && heads->sliding_window < window)
            window = heads->sliding_window;
        int64_t most = window + sequence->n_rows - 1;
        read += most < n ? most : n;
        for (int32_t r = 0; r < sequence->n_rows; r++) {
            int64_t before = sequence->n_computed + r + 1;
            seen += before < window ? before : window;
        }
    }
    int64_t cache = read * kv_values(heads) * size_of(at->model->kv_dtype);
    return cost_of(cache + 8 * at->n_rows * width, 4 * seen * width, at->n_rows);
}

static cohort_profile_event cost_of_activate(const cohort_backend *at,
                                             const cohort_op_activate *op) {
    (void)at;
    int64_t n = op->n_rows * op->n;
    return cost_of((op->gated ? 12 : 8) * n, 5 * n, op->n_rows);
}

static cohort_profile_event cost_of_route(const cohort_backend *at,
                                          const cohort_op_route *op) {
    (void)at;
    int64_t n = op->n_rows * op->n_experts;
    return cost_of(4 * n, 3 * n, op->n_rows);
}

static cohort_profile_event cost_of_experts(const cohort_backend *at,
                                            const cohort_op_experts *op) {
    int64_t uses = op->n_rows * op->top_k, each = 3 * op->n_in * op->n_inner;
    int64_t used = uses < op->n_experts ? uses : op->n_experts;
    return cost_of(used * each * size_of(at->model->dtype) + 8 * op->n_rows * op->n_in,
                   2 * uses * each, op->n_rows);
}

static cohort_profile_event cost_of_take(const cohort_backend *at,
                                         const cohort_op_take *op) {
    (void)at;
    return cost_of(8 * op->n_rows * op->n_columns, 0, op->n_rows);
}

static cohort_profile_event cost_of_sample(const cohort_backend *at,
                                           const cohort_op_sample *op) {
    return cost_of((int64_t)sizeof(float) * op->n_rows * at->model->config.vocab_size, 0,
                   op->n_rows);
}

static cohort_profile_event cost_of_gather(const cohort_backend *at,
                                           const cohort_op_gather *op) {
    return cost_of((int64_t)sizeof(float) * op->n_rows * at->model->config.vocab_size, 0,
                   op->n_rows);
}

/* ---- the table --------------------------------------------------------------------- */

static void note(cohort_backend *at, cohort_profile_op op, int64_t begin_ns,
                 cohort_profile_event cost) {
    if (at->n_events == COHORT_PROFILE_EVENTS) {
        at->n_dropped++;
        return;
    }
    cost.op = (int32_t)op;
    cost.layer = at->layer;
    cost.n_sequences = at->n_sequences;
    cost.begin_ns = begin_ns;
    cost.end_ns = cohort_clock_ns();
    at->events[at->n_events++] = cost;
}

#define NOTED(name, argument, OP)                                        \
    static void name(cohort_backend *at, const argument *op) {           \
        int64_t begin_ns = cohort_clock_ns();                            \
        at->ops->name(at->device, op);                                   \
        note(at, COHORT_PROFILE_##OP, begin_ns, cost_of_##name(at, op)); \
    }
NOTED(embed, cohort_op_embed, EMBED)
NOTED(linear, cohort_op_linear, LINEAR)
NOTED(norm, cohort_op_norm, NORM)
NOTED(add, cohort_op_add, ADD)
NOTED(rotate, cohort_op_rotate, ROTATE)
NOTED(store, cohort_op_attention, STORE)
NOTED(attend, cohort_op_attention, ATTEND)
NOTED(activate, cohort_op_activate, ACTIVATE)
NOTED(route, cohort_op_route, ROUTE)
NOTED(experts, cohort_op_experts, EXPERTS)
NOTED(take, cohort_op_take, TAKE)
NOTED(sample, cohort_op_sample, SAMPLE)
NOTED(gather, cohort_op_gather, GATHER)

#define NOTED_TRANSFER(name, OP)                                            \
    static void name(cohort_backend *at, cohort_view view, int64_t count) { \
        int64_t begin_ns = cohort_clock_ns();                               \
        at->ops->name(at->device, view, count);                             \
        note(at, COHORT_PROFILE_##OP, begin_ns,                             \
             cost_of((int64_t)sizeof(float) * count, 0, at->n_rows));       \
    }
NOTED_TRANSFER(all_reduce, ALL_REDUCE)
NOTED_TRANSFER(receive, RECEIVE)
NOTED_TRANSFER(send, SEND)

static cohort_status step_begin(cohort_backend *at, const cohort_batch *batch) {
    at->step_ns = cohort_clock_ns();
    at->layer = -1;
    at->n_rows = batch->n_rows;
    at->n_sequences = batch->n_sequences;
    at->sequences = batch->sequences;
    return at->ops->step_begin(at->device, batch);
}

static cohort_status step_end(cohort_backend *at) {
    cohort_status status = at->ops->step_end(at->device);
    at->layer = -1;
    note(at, COHORT_PROFILE_STEP, at->step_ns, cost_of(0, 0, at->n_rows));
    at->sequences = NULL;
    return status;
}

static void at_layer(cohort_backend *at, int32_t layer) {
    at->layer = layer;
    at->ops->at_layer(at->device, layer);
}

static cohort_status check(const cohort_backend *at) {
    return at->ops->check(at->device);
}

static cohort_status download(cohort_backend *at, cohort_view from, void *to,
                              int64_t count) {
    return at->ops->download(at->device, from, to, count);
}

/* What the forward pass calls of a table, and no more. */
const cohort_backend_ops *cohort_profile_ops(void) {
    static const cohort_backend_ops ops = {
        .name = "profile",
        .download = download,
        .step_begin = step_begin,
        .step_end = step_end,
        .at_layer = at_layer,
        .check = check,
        .embed = embed,
        .linear = linear,
        .norm = norm,
        .add = add,
        .rotate = rotate,
        .store = store,
        .attend = attend,
        .activate = activate,
        .route = route,
        .experts = experts,
        .take = take,
        .sample = sample,
        .all_reduce = all_reduce,
        .receive = receive,
        .send = send,
        .gather = gather,
    };
    return &ops;
}

cohort_backend *cohort_profile_backend(cohort_profile *profile) {
    return &profile->backend;
}

/* ---- begin and end ----------------------------------------------------------------- */

cohort_status cohort_model_profile_begin(cohort_model *model) {
    if (model->profile)
        return COHORT_FAIL(COHORT_E_INVALID, "this rank is profiled already");
    if (!model->ops->is_done_on_return)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "operations on %s are only enqueued, so that their calls say "
                           "nothing of their time; profile it with its vendor's tool",
                           model->ops->name);
    cohort_profile *profile = calloc(1, sizeof *profile);
    size_t bytes = COHORT_PROFILE_EVENTS * sizeof(cohort_profile_event);
    if (profile) profile->backend.events = malloc(bytes);
    if (!profile || !profile->backend.events) {
        cohort_profile_destroy(profile);
        return COHORT_FAIL(COHORT_E_INVALID, "no memory for a profile of %zu bytes",
                           bytes);
    }
    memset(profile->backend.events, 0, bytes); /* no page comes while it is measured */
    profile->backend.ops = model->ops;
    profile->backend.device = model->backend;
    profile->backend.model = model;
    model->profile = profile;
    return COHORT_OK;
}

cohort_status cohort_model_profile_end(cohort_model *model, void *out_bytes,
                                       size_t capacity_bytes, size_t *out_size_bytes) {
    cohort_profile *profile = model->profile;
    if (!profile) return COHORT_FAIL(COHORT_E_INVALID, "this rank is not profiled");
    cohort_profile_head head = {.n_events = profile->backend.n_events,
                                .n_dropped = profile->backend.n_dropped};
    if (capacity_bytes < sizeof head)
        return COHORT_FAIL(COHORT_E_INVALID, "replies of %zu bytes hold no profile",
                           capacity_bytes);
    size_t room = (capacity_bytes - sizeof head) / sizeof *profile->backend.events;
    if (head.n_events > room) {
        head.n_dropped += head.n_events - room;
        head.n_events = room;
    }
    strncpy(head.device, model->ops->describe(model->backend), sizeof head.device - 1);
    if (model->ops->limits)
        model->ops->limits(model->backend, &head.read_bytes_per_s, &head.flops_per_s);
    size_t bytes = head.n_events * sizeof *profile->backend.events;
    memcpy(out_bytes, &head, sizeof head);
    memcpy((char *)out_bytes + sizeof head, profile->backend.events, bytes);
    *out_size_bytes = sizeof head + bytes;
    cohort_profile_destroy(profile);
    model->profile = NULL;
    return COHORT_OK;
}

void cohort_profile_destroy(cohort_profile *profile) {
    if (!profile) return;
    free(profile->backend.events);
    free(profile);
}
