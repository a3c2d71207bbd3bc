/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>
#include <stdlib.h>

#include "base/fail.h"
#include "model/cpu/cpu_internal.h"
#include "model/half.h"

/* Design notes.
 *
 * One unit of the cache is a block's part of one layer and KV head:
 *
 *   keys    [groups of 16 tokens][head_dim][16]     a vector holds 16 tokens' scores
 *   values  [block_size][head_dim, padded to 16]    a vector holds 16 dimensions
 *
 * so that neither scores nor sums need additions across a vector.  In bf16 two of the
 * middle index lie side by side, in 4 bytes: dimensions of a key, values of two tokens.
 * The last token of a step may be the first of such a pair; then it zeroes the other,
 * which a dot product multiplies with a weight of 0, and what lay there might be a NaN.
 * Keys and values of the step are stored first, all of them, and then read back like
 * older ones: a chunked prompt computes what the whole one does.
 *
 * The work is cut into tasks of one sequence, one KV head and up to QUERIES query vectors
 * (rows x query heads of the group), fewer where that leaves threads without a task.
 * Where few sequences decode with long contexts, it is cut along the contexts instead, at
 * the parts that sums are put together from in any case (kernels.h), so that nothing is
 * read twice.  Threads draw tasks from a counter, since later rows have more tokens to
 * look at; who computes a query, and how it was cut, does not matter to its result. */

enum { PARTS_FLOATS = 4 << 20 /* only what is touched takes memory */ };

struct cohort_kv {
    cohort_backend *backend;
    cohort_dtype dtype;
    int32_t n_layers, block_size, groups_per_block, n_kv_heads, head_dim, padded_dim;
    int64_t n_blocks;
    size_t value_bytes; /* from a unit's keys to its values */
    size_t unit_bytes;
    unsigned char *memory; /* [layer][block][KV head] units */
    size_t bytes;
    float *parts;   /* PARTS_FLOATS, of a step that is cut into them */
    float *scratch; /* a thread's queries, scores and sums, one after the other */
    size_t scratch_floats;
};

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* ---- the cache --------------------------------------------------------------------- */

static cohort_status map_kv(cohort_kv *kv) {
    size_t n_threads = (size_t)cohort_pool_size(kv->backend->pool);
    kv->scratch_floats = COHORT_CPU_QUERIES * (3 * (size_t)kv->padded_dim +
                                               COHORT_CPU_KV_TILE * COHORT_CPU_KV_GROUP);
    kv->scratch = cohort_cpu_map(n_threads * kv->scratch_floats * sizeof(float));
    size_t units;
    if (__builtin_mul_overflow((size_t)kv->n_layers * (size_t)kv->n_kv_heads,
                               (size_t)kv->n_blocks, &units) ||
        __builtin_mul_overflow(units, kv->unit_bytes, &kv->bytes))
        return COHORT_FAIL(COHORT_E_NOMEM, "a KV cache of %lld blocks",
                           (long long)kv->n_blocks);
    kv->memory = cohort_cpu_take(kv->backend, kv->bytes);
    kv->parts = cohort_cpu_map(PARTS_FLOATS * sizeof(float));
    if (!kv->memory || !kv->scratch || !kv->parts)
        return COHORT_FAIL(COHORT_E_NOMEM, "a KV cache of %zu bytes", kv->bytes);
    return COHORT_OK;
}

/* A unit is padded: to whole groups of tokens where it has keys, to whole vectors where
 * it has values. */
static cohort_kv lay_out(const cohort_kv_shape *shape) {
    int64_t padded_tokens = round_up(shape->block_size, COHORT_CPU_KV_GROUP);
    int64_t step = shape->dtype == COHORT_BF16 ? 2 : 1, element = 4 / step;
    cohort_kv kv = {
        .dtype = shape->dtype,
        .n_layers = shape->n_layers,
        .block_size = shape->block_size,
        .groups_per_block = (int32_t)(padded_tokens / COHORT_CPU_KV_GROUP),
        .n_kv_heads = shape->n_kv_heads,
        .head_dim = shape->head_dim,
        .padded_dim = (int32_t)round_up(shape->head_dim, COHORT_CPU_PANEL),
    };
    kv.value_bytes = (size_t)(padded_tokens * round_up(kv.head_dim, step) * element);
    kv.unit_bytes = kv.value_bytes +
                    (size_t)(round_up(kv.block_size, step) * kv.padded_dim * element);
    return kv;
}

size_t cohort_cpu_kv_block_bytes(const cohort_backend *backend,
                                 const cohort_kv_shape *shape) {
    (void)backend;
    return (size_t)shape->n_layers * (size_t)shape->n_kv_heads *
           lay_out(shape).unit_bytes;
}

cohort_status cohort_cpu_kv_create(cohort_backend *backend, const cohort_kv_shape *shape,
                                   int64_t n_blocks, cohort_kv **out_kv) {
    *out_kv = NULL;
    if (shape->n_layers < 1 || n_blocks < 1 || shape->block_size < 1 ||
        shape->block_size > 1 << 20 || shape->n_kv_heads < 1 || shape->head_dim < 1 ||
        shape->head_dim > 1 << 16 ||
        (shape->dtype != COHORT_F32 && shape->dtype != COHORT_BF16))
        return COHORT_FAIL(COHORT_E_INVALID,
                           "a KV cache of %lld blocks of %d tokens, %d heads of %d, "
                           "dtype %d",
                           (long long)n_blocks, shape->block_size, shape->n_kv_heads,
                           shape->head_dim, (int)shape->dtype);
    cohort_kv *kv = calloc(1, sizeof *kv);
    if (!kv) return COHORT_FAIL(COHORT_E_NOMEM, "a KV cache");
    *kv = lay_out(shape);
    kv->backend = backend;
    kv->n_blocks = n_blocks;
    cohort_status status = map_kv(kv);
    if (status < 0) {
        cohort_cpu_kv_destroy(kv);
        return status;
    }
    *out_kv = kv;
    return COHORT_OK;
}

size_t cohort_cpu_kv_bytes(const cohort_kv *kv) { return kv->bytes; }

void cohort_cpu_kv_destroy(cohort_kv *kv) {
    if (!kv) return;
    size_t n_threads = (size_t)cohort_pool_size(kv->backend->pool);
    cohort_cpu_unmap(kv->memory, kv->bytes);
    cohort_cpu_unmap(kv->scratch, n_threads * kv->scratch_floats * sizeof(float));
    cohort_cpu_unmap(kv->parts, PARTS_FLOATS * sizeof(float));
    free(kv);
}

static unsigned char *unit_at(const cohort_kv *kv, int32_t layer, int64_t block,
                              int32_t head) {
    int64_t unit = (layer * kv->n_blocks + block) * kv->n_kv_heads + head;
    return kv->memory + (size_t)unit * kv->unit_bytes;
}

/* ---- storing ----------------------------------------------------------------------- */

typedef uint16_t pair[2]; /* of bf16 */

struct work {
    cohort_kv *kv;
    int32_t layer;
    const cohort_attention *shape;
    const float *qkv;
    int64_t qkv_stride;
    float *out;
    int32_t n_queries; /* of a task, at most */
    bool joins;        /* in parts: they are there, and are put together */
    _Atomic int64_t next;
};

static void store_token(const struct work *work, const cohort_sequence *sequence,
                        int32_t row, int32_t head) {
    const cohort_kv *kv = work->kv;
    const cohort_attention *shape = work->shape;
    int32_t position = sequence->n_computed + row, dim = kv->head_dim;
    int32_t token = position % kv->block_size;
    unsigned char *unit =
        unit_at(kv, work->layer, sequence->block_table[position / kv->block_size], head);
    const float *key = work->qkv + (sequence->row_begin + row) * work->qkv_stride +
                       (int64_t)(shape->n_heads + head) * dim;
    const float *value = key + (int64_t)shape->n_kv_heads * dim;
    int64_t lane = token % COHORT_CPU_KV_GROUP, group = token / COHORT_CPU_KV_GROUP;
    void *values = unit + kv->value_bytes;
    if (kv->dtype == COHORT_F32) {
        float *keys = (float *)(void *)unit + group * dim * COHORT_CPU_KV_GROUP + lane;
        for (int32_t d = 0; d < dim; d++) {
            keys[(int64_t)d * COHORT_CPU_KV_GROUP] = key[d];
            ((float *)values)[(int64_t)token * kv->padded_dim + d] = value[d];
        }
        return;
    }
    pair *keys =
        (pair *)(void *)unit + group * ((dim + 1) / 2) * COHORT_CPU_KV_GROUP + lane;
    pair *both = (pair *)values + (int64_t)(token / 2) * kv->padded_dim;
    bool is_last = row + 1 == sequence->n_rows && token % 2 == 0;
    for (int32_t d = 0; d < dim; d++) {
        keys[(int64_t)(d / 2) * COHORT_CPU_KV_GROUP][d % 2] =
            cohort_bf16_of_float(key[d]);
        both[d][token % 2] = cohort_bf16_of_float(value[d]);
        if (is_last) both[d][1] = 0;
    }
}

static int64_t count_rows(const cohort_attention *shape) {
    int64_t n_rows = 0;
    for (int32_t i = 0; i < shape->n_sequences; i++)
        n_rows += shape->sequences[i].n_rows;
    return n_rows;
}

/* A share is rows of whole heads, so that two threads seldom write one cache line. */
static void store_share(void *context, int32_t thread, int32_t n_threads) {
    const struct work *work = context;
    const cohort_attention *shape = work->shape;
    int64_t n_rows = count_rows(shape), at = 0;
    cohort_cpu_range share =
        cohort_cpu_share(n_rows * shape->n_kv_heads, thread, n_threads);
    for (int32_t head = 0; head < shape->n_kv_heads; head++)
        for (int32_t i = 0; i < shape->n_sequences; i++) {
            const cohort_sequence *sequence = &shape->sequences[i];
            int64_t from = share.begin - at, to = share.end - at;
            if (from < 0) from = 0;
            if (to > sequence->n_rows) to = sequence->n_rows;
            for (int64_t r = from; r < to; r++)
                store_token(work, sequence, (int32_t)r, head);
            at += sequence->n_rows;
        }
}

/* ---- attending --------------------------------------------------------------------- */

static int32_t group_size(const struct work *work) {
    return work->shape->n_heads / work->shape->n_kv_heads;
}

/* Queries [query, query + n) of a sequence's KV head; query = row * group + head. */
static cohort_cpu_attend prepare(const struct work *work, const cohort_sequence *sequence,
                                 int32_t head, int64_t query, int32_t n, float *scratch) {
    const cohort_kv *kv = work->kv;
    const cohort_attention *shape = work->shape;
    int32_t group = group_size(work), dim = kv->head_dim;
    const size_t each = (size_t)COHORT_CPU_QUERIES * (size_t)kv->padded_dim;
    cohort_cpu_attend at = {
        .n_queries = n,
        .head_dim = dim,
        .padded_dim = kv->padded_dim,
        .queries = scratch,
        .dtype = kv->dtype,
        .block_size = kv->block_size,
        .groups_per_block = kv->groups_per_block,
        .cache = unit_at(kv, work->layer, 0, head),
        .block_bytes = (size_t)kv->n_kv_heads * kv->unit_bytes,
        .value_bytes = kv->value_bytes,
        .block_table = sequence->block_table,
        .sums = scratch + each,
        .totals = scratch + 2 * each,
        .scores = scratch + 3 * each,
    };
    for (int32_t i = 0; i < n; i++) {
        int64_t row = sequence->row_begin + (query + i) / group;
        int64_t query_head = (int64_t)head * group + (query + i) % group;
        const float *q = work->qkv + row * work->qkv_stride + query_head * dim;
        for (int32_t d = 0; d < dim; d++)
            at.queries[(int64_t)i * kv->padded_dim + d] = q[d] * shape->scale;
        if (dim % 2) at.queries[(int64_t)i * kv->padded_dim + dim] = 0;
        at.end[i] = sequence->n_computed + (int32_t)((query + i) / group) + 1;
        if (shape->sliding_window && at.end[i] > shape->sliding_window)
            at.begin[i] = at.end[i] - shape->sliding_window;
        at.out[i] = work->out + (row * shape->n_heads + query_head) * dim;
    }
    return at;
}

static void attend(const struct work *work, const cohort_cpu_attend *at) {
    const cohort_backend *backend = work->kv->backend;
    (backend->bf16_activations ? backend->isa.dot->attend : backend->kernels->attend)(at);
}

static int64_t tasks_of(const struct work *work, const cohort_sequence *sequence) {
    int64_t queries = (int64_t)sequence->n_rows * group_size(work);
    return (queries + work->n_queries - 1) / work->n_queries * work->shape->n_kv_heads;
}

static void attend_share(void *context, int32_t thread, int32_t n_threads) {
    (void)n_threads;
    struct work *work = context;
    const cohort_attention *shape = work->shape;
    float *scratch = work->kv->scratch + (size_t)thread * work->kv->scratch_floats;
    int32_t group = group_size(work);
    int64_t before = 0,
            task = atomic_fetch_add_explicit(&work->next, 1, memory_order_relaxed);
    for (int32_t i = 0; i < shape->n_sequences; i++) {
        const cohort_sequence *sequence = &shape->sequences[i];
        int64_t n_tasks = tasks_of(work, sequence);
        int64_t per_head = n_tasks / shape->n_kv_heads;
        int64_t n_queries = (int64_t)sequence->n_rows * group;
        while (task < before + n_tasks) {
            int64_t query = (task - before) % per_head * work->n_queries;
            int64_t left = n_queries - query;
            cohort_cpu_attend at = prepare(
                work, sequence, (int32_t)((task - before) / per_head), query,
                left < work->n_queries ? (int32_t)left : work->n_queries, scratch);
            attend(work, &at);
            task = atomic_fetch_add_explicit(&work->next, 1, memory_order_relaxed);
        }
        before += n_tasks;
    }
}

/* Queries a task: as many as share a pass over keys and values, but at least two tasks a
 * thread where there are queries enough. */
static int32_t task_queries(const struct work *work, int32_t n_threads) {
    const cohort_attention *shape = work->shape;
    int64_t n = count_rows(shape) * shape->n_heads;
    int64_t each = n / (2 * (int64_t)n_threads);
    if (n_threads == 1 || each > COHORT_CPU_QUERIES) return COHORT_CPU_QUERIES;
    return each < 1 ? 1 : (int32_t)each;
}

/* ---- in parts ---------------------------------------------------------------------- */

static int32_t part_at(const cohort_kv *kv, int32_t position) {
    int32_t group = position / kv->block_size * kv->groups_per_block +
                    position % kv->block_size / COHORT_CPU_KV_GROUP;
    return group / COHORT_CPU_KV_PART;
}

/* Parts of the cache that a sequence's rows see, from the first on. */
static int32_t count_parts(const struct work *work, const cohort_sequence *sequence,
                           int32_t *out_first) {
    int32_t begin = sequence->n_computed + 1 - work->shape->sliding_window;
    if (!work->shape->sliding_window || begin < 0) begin = 0;
    *out_first = part_at(work->kv, begin);
    return part_at(work->kv, sequence->n_computed + sequence->n_rows - 1) - *out_first +
           1;
}

/* Floats that the parts of one KV head of a sequence take. */
static int64_t head_floats(const struct work *work, const cohort_sequence *sequence,
                           int32_t n_parts) {
    return (int64_t)n_parts * sequence->n_rows * group_size(work) *
           cohort_cpu_part_floats(work->kv->padded_dim);
}

/* Few heads and long contexts: there are more parts than whole tasks, and room. */
static bool cuts_into_parts(const struct work *work, int32_t n_threads) {
    const cohort_attention *shape = work->shape;
    int64_t floats = 0, n_tasks = 0;
    if ((int64_t)shape->n_sequences * shape->n_kv_heads >= 2 * (int64_t)n_threads)
        return false;
    for (int32_t i = 0; i < shape->n_sequences; i++) {
        const cohort_sequence *sequence = &shape->sequences[i];
        int32_t first, n_parts = count_parts(work, sequence, &first);
        if (sequence->n_rows * group_size(work) > COHORT_CPU_QUERIES) return false;
        floats += shape->n_kv_heads * head_floats(work, sequence, n_parts);
        n_tasks += shape->n_kv_heads * n_parts;
    }
    return n_threads > 1 && floats <= PARTS_FLOATS &&
           n_tasks > (int64_t)shape->n_sequences * shape->n_kv_heads;
}

/* Tasks are the parts of every head of every sequence; or, to join them, the heads. */
static void part_share(void *context, int32_t thread, int32_t n_threads) {
    (void)n_threads;
    struct work *work = context;
    const cohort_attention *shape = work->shape;
    float *scratch = work->kv->scratch + (size_t)thread * work->kv->scratch_floats;
    float *parts = work->kv->parts;
    int64_t before = 0,
            task = atomic_fetch_add_explicit(&work->next, 1, memory_order_relaxed);
    for (int32_t i = 0; i < shape->n_sequences; i++) {
        const cohort_sequence *sequence = &shape->sequences[i];
        int32_t first, n_parts = count_parts(work, sequence, &first);
        int32_t per_head = work->joins ? 1 : n_parts;
        int64_t n_tasks = (int64_t)shape->n_kv_heads * per_head;
        int64_t floats = head_floats(work, sequence, n_parts);
        while (task < before + n_tasks) {
            int32_t head = (int32_t)((task - before) / per_head);
            int32_t part = (int32_t)((task - before) % per_head);
            cohort_cpu_attend at = prepare(work, sequence, head, 0,
                                           sequence->n_rows * group_size(work), scratch);
            at.first_part = first + part;
            at.parts = parts + head * floats + part * (floats / n_parts);
            at.n_parts = work->joins ? n_parts : 0;
            attend(work, &at);
            task = atomic_fetch_add_explicit(&work->next, 1, memory_order_relaxed);
        }
        before += n_tasks;
        parts += shape->n_kv_heads * floats;
    }
}

static void attend_in_parts(struct work *work, cohort_pool *pool) {
    cohort_pool_run(pool, part_share, work);
    work->joins = true;
    atomic_store_explicit(&work->next, 0, memory_order_relaxed);
    part_share(work, 0, 1); /* shorter than waking the others */
}

/* ---- the operations ---------------------------------------------------------------- */

void cohort_cpu_store(cohort_backend *backend, cohort_kv *kv, int32_t layer,
                      const cohort_attention *shape, const float *qkv,
                      int64_t qkv_stride) {
    struct work work = {
        .kv = kv, .layer = layer, .shape = shape, .qkv = qkv, .qkv_stride = qkv_stride};
    if (count_rows(shape) == 1)
        store_share(&work, 0, 1);
    else
        cohort_pool_run(backend->pool, store_share, &work);
}

void cohort_cpu_attention(cohort_backend *backend, cohort_kv *kv, int32_t layer,
                          const cohort_attention *shape, const float *qkv,
                          int64_t qkv_stride, float *out) {
    struct work work = {.kv = kv,
                        .layer = layer,
                        .shape = shape,
                        .qkv = qkv,
                        .qkv_stride = qkv_stride,
                        .out = out};
    int32_t n_threads = cohort_pool_size(backend->pool);
    if (cuts_into_parts(&work, n_threads)) {
        attend_in_parts(&work, backend->pool);
        return;
    }
    work.n_queries = task_queries(&work, n_threads);
    cohort_pool_run(backend->pool, attend_share, &work);
}
