/* SPDX-License-Identifier: Apache-2.0 */
#include "mock_device.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

/* Design notes.
 *
 * Commands queue up in an array.  Whoever waits wakes the device's thread, which runs
 * them all on a CPU backend, translating handles, and sleeps again.  The two threads are
 * never at work at once, and the mutex orders them.
 *
 * Handles index one table of the process, since some calls name no backend. */

enum { MOST_HANDLES = 1 << 14, MOST_COMMANDS = 1 << 14 };

enum kind {
    STEP_BEGIN,
    STEP_END,
    AT_LAYER,
    EMBED,
    LINEAR,
    NORM,
    ADD,
    ROTATE,
    STORE,
    ATTEND,
    ACTIVATE,
    ROUTE,
    EXPERTS,
    TAKE,
    SAMPLE,
    ALL_REDUCE,
    RECEIVE,
    SEND,
    GATHER,
    NORM_LINEAR,
    NORM_LINEAR_ACTIVATE,
    LINEAR_ADD,
};

struct command {
    enum kind kind;
    bool has_norm;
    int32_t layer;
    cohort_view view;
    int64_t count;
    cohort_batch *batch;
    cohort_op_norm norm;
    cohort_op_linear linear;
    cohort_op_activate activate;
    union {
        cohort_op_embed embed;
        cohort_op_add add;
        cohort_op_rotate rotate;
        cohort_op_attention attention;
        cohort_op_route route;
        cohort_op_experts experts;
        cohort_op_take take;
        cohort_op_sample sample;
        cohort_op_gather gather;
    } op;
};

/* The CPU backend's is another struct of this name. */
struct cohort_backend {
    cohort_backend *inner;
    cohort_backend_options options;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_running, is_ending;
    struct command *commands;
    int32_t n_commands;
    int32_t layer;
    cohort_error error; /* of the device's thread; read while it sleeps */
};

struct handle {
    void *object; /* of the inner backend */
    cohort_backend *backend;
    int64_t count; /* elements of a buffer; output rows of a matrix */
};

static struct handle handles[MOST_HANDLES];
static pthread_mutex_t handles_mutex = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int64_t fails_at;

static const cohort_backend_ops *cpu(void) { return cohort_backend_cpu(); }

void mock_device_fail_at(int64_t n) { atomic_store(&fails_at, n); }

/* ---- handles ----------------------------------------------------------------------- */

static void *add_handle(cohort_backend *backend, void *object, int64_t count) {
    pthread_mutex_lock(&handles_mutex);
    uintptr_t i = 1;
    while (i < MOST_HANDLES && handles[i].object)
        i++;
    if (i == MOST_HANDLES) abort();
    handles[i] = (struct handle){object, backend, count};
    pthread_mutex_unlock(&handles_mutex);
    return (void *)(i * 8 + 1); /* no address, and not aligned either */
}

static struct handle handle_of(const void *handle) {
    uintptr_t i = (uintptr_t)handle / 8;
    if (i >= MOST_HANDLES || !handle) abort();
    pthread_mutex_lock(&handles_mutex);
    struct handle found = handles[i];
    pthread_mutex_unlock(&handles_mutex);
    if (!found.object) abort();
    return found;
}

static struct handle drop_handle(const void *handle) {
    struct handle found = handle_of(handle);
    pthread_mutex_lock(&handles_mutex);
    handles[(uintptr_t)handle / 8] = (struct handle){0};
    pthread_mutex_unlock(&handles_mutex);
    return found;
}

static cohort_view inner_view(cohort_view view) {
    if (view.buffer) view.buffer = handle_of(view.buffer).object;
    return view;
}

static void *inner_of(const void *handle) {
    return handle ? handle_of(handle).object : NULL;
}

/* ---- the device -------------------------------------------------------------------- */

static void poison(cohort_backend *backend, cohort_view view, int64_t stride,
                   int64_t n_rows, int64_t n_columns) {
    float *nans = malloc((size_t)n_columns * sizeof *nans);
    if (!nans) abort();
    for (int64_t i = 0; i < n_columns; i++)
        nans[i] = NAN;
    for (int64_t r = 0; r < n_rows; r++, view.at += stride)
        cpu()->upload(backend->inner, view, nans, n_columns);
    free(nans);
}

static cohort_op_norm inner_norm(cohort_op_norm op) {
    op.weight = inner_of(op.weight);
    op.bias = inner_of(op.bias);
    op.x = inner_view(op.x);
    op.y = inner_view(op.y);
    return op;
}

static cohort_op_linear inner_linear(cohort_op_linear op) {
    op.weight = inner_of(op.weight);
    op.bias = inner_of(op.bias);
    op.x = inner_view(op.x);
    op.y = inner_view(op.y);
    return op;
}

static cohort_op_activate inner_activate(cohort_op_activate op) {
    op.x = inner_view(op.x);
    op.y = inner_view(op.y);
    return op;
}

static void run_experts(cohort_backend *backend, cohort_op_experts op) {
    size_t bytes = (size_t)op.n_experts * sizeof(cohort_linear *);
    cohort_linear **gate_up = malloc(bytes), **down = malloc(bytes);
    if (!gate_up || !down) abort();
    for (int32_t e = 0; e < op.n_experts; e++) {
        gate_up[e] = inner_of(op.gate_up[e]);
        down[e] = inner_of(op.down[e]);
    }
    op.gate_up = gate_up;
    op.down = down;
    op.ids = inner_view(op.ids);
    op.weights = inner_view(op.weights);
    op.x = inner_view(op.x);
    op.y = inner_view(op.y);
    cpu()->experts(backend->inner, &op);
    free(gate_up);
    free(down);
}

static void run_linear_add(cohort_backend *backend, const struct command *command) {
    cohort_op_linear linear = inner_linear(command->linear);
    int64_t n_out = handle_of(command->linear.weight).count;
    cohort_buffer *sum;
    if (linear.y_stride != n_out ||
        cpu()->buffer_create(backend->inner, COHORT_F32, n_out * linear.n_rows, &sum) < 0)
        abort();
    const cohort_op_add add = {
        .y = linear.y, .x = {sum, 0}, .count = n_out * linear.n_rows};
    linear.y = add.x;
    cpu()->linear(backend->inner, &linear);
    cpu()->add(backend->inner, &add);
    cpu()->buffer_destroy(sum);
}

/* norm, product and activation, those that are there. */
static void run_fused(cohort_backend *backend, const struct command *command) {
    const cohort_op_norm norm = inner_norm(command->norm);
    const cohort_op_linear linear = inner_linear(command->linear);
    const cohort_op_activate activate = inner_activate(command->activate);
    if (command->has_norm) cpu()->norm(backend->inner, &norm);
    cpu()->linear(backend->inner, &linear);
    if (command->has_norm)
        poison(backend, norm.y, norm.n_columns, norm.n_rows, norm.n_columns);
    if (command->kind == NORM_LINEAR) return;
    cpu()->activate(backend->inner, &activate);
    poison(backend, linear.y, linear.y_stride, linear.n_rows, linear.y_stride);
}

static void run_attention(cohort_backend *backend, enum kind kind,
                          cohort_op_attention op) {
    op.kv = inner_of(op.kv);
    op.qkv = inner_view(op.qkv);
    op.out = inner_view(op.out);
    (kind == STORE ? cpu()->store : cpu()->attend)(backend->inner, &op);
}

static void run_rotate(cohort_backend *backend, cohort_op_rotate op) {
    op.qkv = inner_view(op.qkv);
    op.q_norm = inner_of(op.q_norm);
    op.k_norm = inner_of(op.k_norm);
    op.cos = inner_of(op.cos);
    op.sin = inner_of(op.sin);
    cpu()->rotate(backend->inner, &op);
}

static void run_between_ranks(cohort_backend *backend, struct command *command) {
    cohort_view view = inner_view(command->view);
    cohort_op_gather *gather = &command->op.gather;
    switch (command->kind) {
    case ALL_REDUCE: cpu()->all_reduce(backend->inner, view, command->count); break;
    case RECEIVE: cpu()->receive(backend->inner, view, command->count); break;
    case SEND: cpu()->send(backend->inner, view, command->count); break;
    default:
        gather->x = inner_view(gather->x);
        gather->y = inner_view(gather->y);
        cpu()->gather(backend->inner, gather);
    }
}

static void run_rows(cohort_backend *backend, struct command *command) {
    const cohort_op_norm norm = inner_norm(command->norm);
    const cohort_op_linear linear = inner_linear(command->linear);
    const cohort_op_activate activate = inner_activate(command->activate);
    cohort_op_add *add = &command->op.add;
    cohort_op_route *route = &command->op.route;
    cohort_op_take *take = &command->op.take;
    switch (command->kind) {
    case LINEAR: cpu()->linear(backend->inner, &linear); break;
    case NORM: cpu()->norm(backend->inner, &norm); break;
    case ACTIVATE: cpu()->activate(backend->inner, &activate); break;
    case ADD:
        add->x = inner_view(add->x);
        add->y = inner_view(add->y);
        cpu()->add(backend->inner, add);
        break;
    case ROUTE:
        route->logits = inner_view(route->logits);
        route->ids = inner_view(route->ids);
        route->weights = inner_view(route->weights);
        cpu()->route(backend->inner, route);
        break;
    default:
        take->x = inner_view(take->x);
        take->y = inner_view(take->y);
        cpu()->take(backend->inner, take);
    }
}

static void run_step(cohort_backend *backend, const struct command *command) {
    cohort_batch *batch = command->batch;
    switch (command->kind) {
    case STEP_BEGIN:
        cpu()->step_begin(backend->inner, batch);
        free((void *)(uintptr_t)batch->sequences);
        free(batch);
        break;
    case STEP_END: cpu()->step_end(backend->inner); break;
    default:
        backend->layer = command->layer;
        cpu()->at_layer(backend->inner, command->layer);
    }
}

static void run(cohort_backend *backend, struct command *command) {
    switch (command->kind) {
    case STEP_BEGIN:
    case STEP_END:
    case AT_LAYER: run_step(backend, command); break;
    case EMBED:
        command->op.embed.table = inner_of(command->op.embed.table);
        command->op.embed.y = inner_view(command->op.embed.y);
        cpu()->embed(backend->inner, &command->op.embed);
        break;
    case ROTATE: run_rotate(backend, command->op.rotate); break;
    case STORE:
    case ATTEND: run_attention(backend, command->kind, command->op.attention); break;
    case EXPERTS: run_experts(backend, command->op.experts); break;
    case SAMPLE:
        command->op.sample.logits = inner_view(command->op.sample.logits);
        cpu()->sample(backend->inner, &command->op.sample);
        break;
    case ALL_REDUCE:
    case RECEIVE:
    case SEND:
    case GATHER: run_between_ranks(backend, command); break;
    case NORM_LINEAR:
    case NORM_LINEAR_ACTIVATE: run_fused(backend, command); break;
    case LINEAR_ADD: run_linear_add(backend, command); break;
    default: run_rows(backend, command);
    }
}

static void keep_error(cohort_backend *backend, cohort_status status) {
    if (status < 0 && backend->error.code >= 0) backend->error = *cohort_last_error();
}

static void inject_fault(cohort_backend *backend) {
    cohort_status status =
        COHORT_FAIL(COHORT_E_IO, "an operation of the mock device was told to fail");
    if (backend->layer >= 0)
        cohort_fail_while(status, "computing layer %d", backend->layer);
    keep_error(backend, status);
}

static void run_all(cohort_backend *backend) {
    for (int32_t i = 0; i < backend->n_commands; i++) {
        struct command *command = &backend->commands[i];
        bool is_op = command->kind > AT_LAYER;
        if (is_op && backend->error.code < 0) continue;
        if (is_op && atomic_load(&fails_at) > 0 && atomic_fetch_sub(&fails_at, 1) == 1)
            inject_fault(backend);
        else
            run(backend, command);
        keep_error(backend, cpu()->check(backend->inner));
    }
    backend->n_commands = 0;
}

static void *work(void *context) {
    cohort_backend *backend = context;
    pthread_mutex_lock(&backend->mutex);
    while (!backend->is_ending) {
        if (backend->is_running) {
            run_all(backend);
            backend->is_running = false;
            pthread_cond_broadcast(&backend->changed);
        }
        if (!backend->is_ending) pthread_cond_wait(&backend->changed, &backend->mutex);
    }
    pthread_mutex_unlock(&backend->mutex);
    return NULL;
}

/* Until all is done that was enqueued. */
static cohort_status await(cohort_backend *backend) {
    pthread_mutex_lock(&backend->mutex);
    backend->is_running = true;
    pthread_cond_broadcast(&backend->changed);
    while (backend->is_running)
        pthread_cond_wait(&backend->changed, &backend->mutex);
    pthread_mutex_unlock(&backend->mutex);
    return backend->error.code < 0 ? cohort_fail_adopt(&backend->error) : COHORT_OK;
}

static struct command *enqueue(cohort_backend *backend, enum kind kind) {
    if (backend->n_commands == MOST_COMMANDS) abort();
    struct command *command = &backend->commands[backend->n_commands++];
    memset(command, 0, sizeof *command);
    command->kind = kind;
    return command;
}

/* ---- the table --------------------------------------------------------------------- */

static void destroy(cohort_backend *backend) {
    if (!backend) return;
    pthread_mutex_lock(&backend->mutex);
    backend->is_ending = true;
    pthread_cond_broadcast(&backend->changed);
    pthread_mutex_unlock(&backend->mutex);
    pthread_join(backend->thread, NULL);
    cpu()->destroy(backend->inner);
    pthread_cond_destroy(&backend->changed);
    pthread_mutex_destroy(&backend->mutex);
    free(backend->commands);
    free(backend);
}

static cohort_status create(const cohort_backend_options *options,
                            cohort_backend **out_backend) {
    cohort_backend *backend = calloc(1, sizeof *backend);
    *out_backend = NULL;
    if (!backend) abort();
    cohort_status status = cpu()->create(options, &backend->inner);
    if (status < 0) {
        free(backend);
        return status;
    }
    backend->options = *options;
    backend->layer = -1;
    backend->commands = malloc(MOST_COMMANDS * sizeof *backend->commands);
    pthread_mutex_init(&backend->mutex, NULL);
    pthread_cond_init(&backend->changed, NULL);
    if (!backend->commands || pthread_create(&backend->thread, NULL, work, backend))
        abort();
    *out_backend = backend;
    return COHORT_OK;
}

static const char *describe(const cohort_backend *backend) {
    (void)backend;
    return "mock device";
}

static cohort_status buffer_create(cohort_backend *backend, cohort_dtype dtype,
                                   int64_t count, cohort_buffer **out_buffer) {
    cohort_buffer *inner;
    COHORT_TRY(cpu()->buffer_create(backend->inner, dtype, count, &inner));
    if (dtype == COHORT_F32) poison(backend, (cohort_view){inner, 0}, 0, 1, count);
    *out_buffer = add_handle(backend, inner, count);
    return COHORT_OK;
}

static void buffer_destroy(cohort_buffer *buffer) {
    cpu()->buffer_destroy(drop_handle(buffer).object);
}

static cohort_status upload(cohort_backend *backend, cohort_view to, const void *from,
                            int64_t count) {
    COHORT_TRY(await(backend));
    return cpu()->upload(backend->inner, inner_view(to), from, count);
}

static cohort_status download(cohort_backend *backend, cohort_view from, void *to,
                              int64_t count) {
    COHORT_TRY(await(backend));
    return cpu()->download(backend->inner, inner_view(from), to, count);
}

static cohort_status linear_create(cohort_backend *backend, int64_t n_out, int64_t n_in,
                                   const cohort_format *format,
                                   cohort_linear **out_linear) {
    cohort_linear *inner;
    *out_linear = NULL;
    COHORT_TRY(cpu()->linear_create(backend->inner, n_out, n_in, format, &inner));
    *out_linear = add_handle(backend, inner, n_out);
    return COHORT_OK;
}

static cohort_status linear_set(cohort_linear *linear, cohort_plane plane,
                                int64_t row_begin, int64_t n_rows, const void *src,
                                cohort_dtype src_dtype, int64_t src_stride) {
    return cpu()->linear_set(inner_of(linear), plane, row_begin, n_rows, src, src_dtype,
                             src_stride);
}

static void linear_destroy(cohort_linear *linear) {
    cpu()->linear_destroy(drop_handle(linear).object);
}

static size_t linear_bytes(const cohort_linear *linear) {
    return cpu()->linear_bytes(inner_of(linear));
}

static size_t kv_block_bytes(const cohort_backend *backend,
                             const cohort_kv_shape *shape) {
    return cpu()->kv_block_bytes(backend->inner, shape);
}

static cohort_status kv_create(cohort_backend *backend, const cohort_kv_shape *shape,
                               int64_t n_blocks, cohort_kv **out_kv) {
    cohort_kv *inner;
    *out_kv = NULL;
    COHORT_TRY(cpu()->kv_create(backend->inner, shape, n_blocks, &inner));
    *out_kv = add_handle(backend, inner, n_blocks);
    return COHORT_OK;
}

static void kv_destroy(cohort_kv *kv) { cpu()->kv_destroy(drop_handle(kv).object); }

/* A deep copy in two allocations: the batch, and all its arrays. */
static cohort_batch *copy_batch(const cohort_batch *batch, int32_t block_size) {
    size_t n_sequences = (size_t)batch->n_sequences, n_rows = (size_t)batch->n_rows;
    size_t n_blocks = 0;
    for (size_t i = 0; i < n_sequences; i++) {
        const cohort_sequence *sequence = &batch->sequences[i];
        n_blocks += (size_t)((sequence->n_computed + sequence->n_rows + block_size - 1) /
                             block_size);
    }
    cohort_batch *copy = malloc(sizeof *copy);
    cohort_sequence *sequences =
        malloc(n_sequences * sizeof *sequences +
               (n_rows + n_sequences + n_blocks) * sizeof(int32_t));
    if (!copy || !sequences) abort();
    int32_t *ids = (int32_t *)(void *)(sequences + n_sequences);
    int32_t *n_logit_rows = ids + n_rows, *blocks = n_logit_rows + n_sequences;
    memcpy(ids, batch->token_ids, n_rows * sizeof *ids);
    memcpy(n_logit_rows, batch->n_logit_rows, n_sequences * sizeof *n_logit_rows);
    for (size_t i = 0; i < n_sequences; i++) {
        const cohort_sequence *from = &batch->sequences[i];
        int32_t n = (from->n_computed + from->n_rows + block_size - 1) / block_size;
        sequences[i] = *from;
        sequences[i].block_table =
            memcpy(blocks, from->block_table, (size_t)n * sizeof *blocks);
        blocks += n;
    }
    *copy = *batch;
    copy->token_ids = ids;
    copy->n_logit_rows = n_logit_rows;
    copy->sequences = sequences;
    return copy;
}

static cohort_status step_begin(cohort_backend *backend, const cohort_batch *batch) {
    if (backend->error.code < 0) return cohort_fail_adopt(&backend->error);
    enqueue(backend, STEP_BEGIN)->batch = copy_batch(batch, backend->options.block_size);
    return COHORT_OK;
}

static cohort_status step_end(cohort_backend *backend) {
    enqueue(backend, STEP_END);
    return await(backend);
}

static cohort_status check(const cohort_backend *backend) {
    return backend->error.code < 0 ? cohort_fail_adopt(&backend->error) : COHORT_OK;
}

static void at_layer(cohort_backend *backend, int32_t layer) {
    enqueue(backend, AT_LAYER)->layer = layer;
}

#define ENQUEUES(name, type, kind, field)                         \
    static void name(cohort_backend *backend, const type *told) { \
        enqueue(backend, kind)->field = *told;                    \
    }
ENQUEUES(embed, cohort_op_embed, EMBED, op.embed)
ENQUEUES(linear, cohort_op_linear, LINEAR, linear)
ENQUEUES(norm, cohort_op_norm, NORM, norm)
ENQUEUES(add, cohort_op_add, ADD, op.add)
ENQUEUES(rotate, cohort_op_rotate, ROTATE, op.rotate)
ENQUEUES(store, cohort_op_attention, STORE, op.attention)
ENQUEUES(attend, cohort_op_attention, ATTEND, op.attention)
ENQUEUES(activate, cohort_op_activate, ACTIVATE, activate)
ENQUEUES(route, cohort_op_route, ROUTE, op.route)
ENQUEUES(experts, cohort_op_experts, EXPERTS, op.experts)
ENQUEUES(take, cohort_op_take, TAKE, op.take)
ENQUEUES(sample, cohort_op_sample, SAMPLE, op.sample)
ENQUEUES(gather, cohort_op_gather, GATHER, op.gather)
ENQUEUES(linear_add, cohort_op_linear, LINEAR_ADD, linear)
#undef ENQUEUES

static void enqueue_values(cohort_backend *backend, enum kind kind, cohort_view view,
                           int64_t count) {
    struct command *command = enqueue(backend, kind);
    command->view = view;
    command->count = count;
}

static void all_reduce(cohort_backend *backend, cohort_view values, int64_t count) {
    enqueue_values(backend, ALL_REDUCE, values, count);
}

static void receive(cohort_backend *backend, cohort_view to, int64_t count) {
    enqueue_values(backend, RECEIVE, to, count);
}

static void send_on(cohort_backend *backend, cohort_view from, int64_t count) {
    enqueue_values(backend, SEND, from, count);
}

static void regroup(cohort_backend *backend, cohort_group *tp_group,
                    cohort_group *pp_group) {
    backend->error = (cohort_error){0};
    cpu()->regroup(backend->inner, tp_group, pp_group);
}

static void norm_linear(cohort_backend *backend, const cohort_op_norm *norm_op,
                        const cohort_op_linear *linear_op) {
    struct command *command = enqueue(backend, NORM_LINEAR);
    command->has_norm = true;
    command->norm = *norm_op;
    command->linear = *linear_op;
}

static void norm_linear_activate(cohort_backend *backend, const cohort_op_norm *norm_op,
                                 const cohort_op_linear *linear_op,
                                 const cohort_op_activate *activate_op) {
    struct command *command = enqueue(backend, NORM_LINEAR_ACTIVATE);
    command->has_norm = norm_op != NULL;
    if (norm_op) command->norm = *norm_op;
    command->linear = *linear_op;
    command->activate = *activate_op;
}

static void rotate_store(cohort_backend *backend, const cohort_op_rotate *rotate_op,
                         const cohort_op_attention *store_op) {
    rotate(backend, rotate_op);
    store(backend, store_op);
}

#define PLAIN                                                                           \
    .name = "mock", .create = create, .destroy = destroy, .describe = describe,         \
    .buffer_create = buffer_create, .buffer_destroy = buffer_destroy, .upload = upload, \
    .download = download, .linear_create = linear_create, .linear_set = linear_set,     \
    .linear_destroy = linear_destroy, .linear_bytes = linear_bytes,                     \
    .kv_block_bytes = kv_block_bytes, .kv_create = kv_create, .kv_destroy = kv_destroy, \
    .step_begin = step_begin, .step_end = step_end, .at_layer = at_layer,               \
    .check = check, .embed = embed, .linear = linear, .norm = norm, .add = add,         \
    .rotate = rotate, .store = store, .attend = attend, .activate = activate,           \
    .route = route, .experts = experts, .take = take, .sample = sample,                 \
    .all_reduce = all_reduce, .receive = receive, .send = send_on, .gather = gather,    \
    .regroup = regroup

const cohort_backend_ops *mock_device(void) {
    static const cohort_backend_ops ops = {PLAIN};
    return &ops;
}

const cohort_backend_ops *mock_device_that_fuses(void) {
    static const cohort_backend_ops ops = {
        PLAIN, .norm_linear = norm_linear, .norm_linear_activate = norm_linear_activate,
        .linear_add = linear_add, .rotate_store = rotate_store};
    return &ops;
}
