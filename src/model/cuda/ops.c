/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/fail.h"
#include "model/cuda/cuda_internal.h"

/* ---- buffers ----------------------------------------------------------------------- */

static CUdeviceptr place(cohort_view view) {
    size_t each = view.buffer->dtype == COHORT_F32 || view.buffer->dtype == COHORT_I32
                      ? sizeof(float)
                      : sizeof(uint16_t);
    return view.buffer->memory.at + (size_t)view.at * each;
}

const float *cohort_cuda_vector(const cohort_buffer *buffer) {
    return buffer ? (const float *)buffer->memory.at : NULL;
}

static int64_t blocks_of(int64_t count) {
    return (count + COHORT_CUDA_THREADS - 1) / COHORT_CUDA_THREADS;
}

const float *cohort_cuda_read(cohort_view view) {
    cohort_buffer *buffer = view.buffer;
    if (!buffer->wide) {
        cohort_cuda_widen_params p = {.y = (float *)buffer->memory.at,
                                      .x = (const uint16_t *)buffer->narrow.at,
                                      .count = buffer->count};
        buffer->wide = true;
        cohort_cuda_launch(buffer->backend, COHORT_CUDA_widen_rows,
                           (cohort_cuda_grid){.x = blocks_of(p.count)}, &p);
    }
    return (const float *)place(view);
}

float *cohort_cuda_write(cohort_view view) {
    view.buffer->wide = true;
    view.buffer->narrowed = 0;
    view.buffer->scaled_by = NULL;
    return (float *)place(view);
}

/* ---- rows -------------------------------------------------------------------------- */

void cohort_cuda_op_embed(cohort_backend *backend, const cohort_op_embed *op) {
    cohort_cuda_flush(backend);
    const cohort_cuda_step *step = &backend->step;
    const cohort_linear *table = op->table;
    cohort_cuda_embed_params p = {
        .table = (const void *)table->memory.at,
        .ids =
            cohort_cuda_on_device(backend, op->positions ? step->positions : step->ids),
        .y = cohort_cuda_write(op->y),
        .shift = op->shift,
        .n_ids = (int32_t)table->n_out,
        .width = (int32_t)table->n_in,
        .n_steps = table->n_steps,
        .is_bf16 = table->is_bf16};
    cohort_cuda_launch(
        backend, COHORT_CUDA_embed,
        (cohort_cuda_grid){.x = step->batch.n_rows, .y = blocks_of(table->n_in)}, &p);
}

void cohort_cuda_op_norm(cohort_backend *backend, const cohort_op_norm *op) {
    cohort_cuda_flush(backend);
    cohort_cuda_norm_params p = {.x = cohort_cuda_read(op->x),
                                 .weight = cohort_cuda_vector(op->weight),
                                 .bias = cohort_cuda_vector(op->bias),
                                 .x_stride = op->n_columns,
                                 .y_stride = op->n_columns,
                                 .n_columns = (int32_t)op->n_columns,
                                 .centred = op->centred,
                                 .eps = op->eps};
    p.y = cohort_cuda_write(op->y);
    cohort_cuda_launch(backend, COHORT_CUDA_norm_rows,
                       (cohort_cuda_grid){.x = op->n_rows}, &p);
}

void cohort_cuda_op_add(cohort_backend *backend, const cohort_op_add *op) {
    cohort_cuda_flush(backend);
    cohort_cuda_add_params p = {.x = cohort_cuda_read(op->x), .count = op->count};
    cohort_cuda_read(op->y);
    p.y = cohort_cuda_write(op->y);
    cohort_cuda_launch(backend, COHORT_CUDA_add,
                       (cohort_cuda_grid){.x = blocks_of(op->count)}, &p);
}

void cohort_cuda_op_activate(cohort_backend *backend, const cohort_op_activate *op) {
    cohort_cuda_flush(backend);
    cohort_cuda_activate_params p = {.x = cohort_cuda_read(op->x),
                                     .n_rows = op->n_rows,
                                     .n = op->n,
                                     .activation = op->activation,
                                     .gated = op->gated};
    p.y = cohort_cuda_write(op->y);
    cohort_cuda_launch(backend, COHORT_CUDA_activate,
                       (cohort_cuda_grid){.x = blocks_of(op->n), .y = op->n_rows}, &p);
}

void cohort_cuda_op_take(cohort_backend *backend, const cohort_op_take *op) {
    cohort_cuda_flush(backend);
    cohort_cuda_take_params p = {
        .x = cohort_cuda_read(op->x),
        .rows = cohort_cuda_on_device(backend, backend->step.logit_rows + op->first),
        .n_columns = op->n_columns};
    p.y = cohort_cuda_write(op->y);
    cohort_cuda_launch(backend, COHORT_CUDA_take,
                       (cohort_cuda_grid){.x = blocks_of(op->n_columns), .y = op->n_rows},
                       &p);
}

/* ---- the cache --------------------------------------------------------------------- */

static bool is_packed(const cohort_kv_shape *shape) {
    return shape->dtype == COHORT_BF16 &&
           (shape->head_dim == 64 || shape->head_dim == 128) &&
           shape->block_size % COHORT_CUDA_TILE == 0;
}

static size_t tile_bytes(const cohort_kv_shape *shape) {
    size_t each = shape->dtype == COHORT_BF16 ? sizeof(uint16_t) : sizeof(float);
    return (size_t)2 * COHORT_CUDA_TILE * (size_t)shape->n_kv_heads *
           (size_t)shape->head_dim * each;
}

static int32_t tiles_of_block(const cohort_kv_shape *shape) {
    return (shape->block_size + COHORT_CUDA_TILE - 1) / COHORT_CUDA_TILE;
}

size_t cohort_cuda_kv_block_bytes(const cohort_backend *backend,
                                  const cohort_kv_shape *shape) {
    (void)backend;
    return (size_t)shape->n_layers * (size_t)tiles_of_block(shape) * tile_bytes(shape);
}

cohort_status cohort_cuda_kv_create(cohort_backend *backend, const cohort_kv_shape *shape,
                                    int64_t n_blocks, cohort_kv **out_kv) {
    *out_kv = NULL;
    if (shape->head_dim > COHORT_CUDA_MOST_HEAD)
        return COHORT_FAIL(COHORT_E_INVALID, "a head of %d; device cuda takes up to %d",
                           shape->head_dim, COHORT_CUDA_MOST_HEAD);
    cohort_kv *kv = calloc(1, sizeof *kv);
    if (!kv) return COHORT_FAIL(COHORT_E_NOMEM, "a cache");
    kv->backend = backend, kv->shape = *shape;
    kv->packed = is_packed(shape);
    kv->tiles_of_block = tiles_of_block(shape);
    kv->layer_bytes = (size_t)n_blocks * (size_t)kv->tiles_of_block * tile_bytes(shape);
    cohort_status status = cohort_cuda_allocate(
        backend, kv->layer_bytes * (size_t)shape->n_layers, "the KV cache", &kv->memory);
    if (status < 0) {
        free(kv);
        return status;
    }
    *out_kv = kv;
    return COHORT_OK;
}

void cohort_cuda_kv_destroy(cohort_kv *kv) {
    if (!kv) return;
    cohort_cuda_release(kv->backend, &kv->memory);
    free(kv);
}

/* ---- attention --------------------------------------------------------------------- */

static cohort_cuda_cache cache_of(const cohort_backend *backend, const cohort_kv *kv,
                                  int32_t layer, const cohort_heads *heads) {
    const cohort_cuda_step *step = &backend->step;
    cohort_cuda_cache cache = {
        .block_tables = cohort_cuda_on_device(backend, step->tables),
        .sequences = cohort_cuda_on_device(backend, step->sequences),
        .positions = cohort_cuda_on_device(backend, step->positions),
        .table_stride = backend->options.max_blocks,
        .n_heads = heads->n_heads,
        .n_kv_heads = heads->n_kv_heads,
        .head_dim = heads->head_dim};
    if (!kv) return cache; /* of a rotation */
    cache.tiles = (void *)(kv->memory.at + (size_t)layer * kv->layer_bytes);
    cache.block_size = kv->shape.block_size;
    cache.tiles_of_block = kv->tiles_of_block;
    cache.is_bf16 = kv->shape.dtype == COHORT_BF16;
    cache.packed = kv->packed;
    return cache;
}

static cohort_cuda_attention_params attention_of(const cohort_backend *backend,
                                                 const cohort_op_attention *op) {
    return (cohort_cuda_attention_params){
        .cache = cache_of(backend, op->kv, op->layer, &op->heads),
        .qkv = cohort_cuda_read(op->qkv),
        .qkv_stride = (int32_t)op->qkv_stride,
        .sliding_window = op->heads.sliding_window,
        .scale = op->heads.scale};
}

static void add_rotation(cohort_cuda_attention_params *p, const cohort_op_rotate *op) {
    p->q_norm = cohort_cuda_vector(op->q_norm);
    p->k_norm = cohort_cuda_vector(op->k_norm);
    p->cos = cohort_cuda_vector(op->cos);
    p->sin = cohort_cuda_vector(op->sin);
    p->norm_eps = op->eps;
}

void cohort_cuda_op_rotate(cohort_backend *backend, const cohort_op_rotate *op) {
    cohort_cuda_flush(backend);
    cohort_cuda_attention_params p = {.cache = cache_of(backend, NULL, 0, &op->heads),
                                      .qkv = cohort_cuda_read(op->qkv),
                                      .qkv_stride = (int32_t)op->qkv_stride};
    add_rotation(&p, op);
    cohort_cuda_write(op->qkv);
    cohort_cuda_launch(backend, COHORT_CUDA_rotate,
                       (cohort_cuda_grid){.x = op->heads.n_heads + op->heads.n_kv_heads,
                                          .y = backend->step.batch.n_rows,
                                          .threads = 32},
                       &p);
}

void cohort_cuda_op_store(cohort_backend *backend, const cohort_op_attention *op) {
    cohort_cuda_flush(backend);
    cohort_cuda_attention_params p = attention_of(backend, op);
    cohort_cuda_launch(backend, COHORT_CUDA_store,
                       (cohort_cuda_grid){.x = op->heads.n_kv_heads,
                                          .y = backend->step.batch.n_rows,
                                          .threads = 64},
                       &p);
}

/* May attention_64 or _128 take it? */
static bool is_fast(const cohort_op_attention *op) {
    return op->kv->packed && op->heads.n_heads / op->heads.n_kv_heads <= 8 &&
           op->out.at == 0;
}

/* More rows than products of decoding take, some of them neighbours of one sequence. */
static bool is_prompt(const cohort_backend *backend) {
    return backend->step.batch.n_rows > COHORT_CUDA_WIDE_ROWS &&
           !backend->step.one_row_each;
}

/* Rotation and store are left to the attention behind them where each row is a sequence
 * of its own, and none reads what another of this step stores.  A prompt's attention has
 * a kernel for them. */
void cohort_cuda_op_rotate_store(cohort_backend *backend, const cohort_op_rotate *rotate,
                                 const cohort_op_attention *store) {
    if ((backend->step.one_row_each || is_prompt(backend)) &&
        !backend->step.reads_stored && is_fast(store)) {
        cohort_cuda_flush(backend);
        backend->rotation = *rotate;
        backend->has_rotation = true;
        return;
    }
    cohort_cuda_op_rotate(backend, rotate);
    cohort_cuda_op_store(backend, store);
}

/* Rows that are their sequence's only ones. */
static void attend_singles(cohort_backend *backend, cohort_cuda_attention_params *p,
                           int32_t rows) {
    int32_t dim = p->cache.head_dim, n_kv_heads = p->cache.n_kv_heads;
    int32_t most = 2 * backend->n_processors; /* CTAs at once */
    int32_t cluster = COHORT_CUDA_ROUNDS;
    while (cluster > 1 && rows * n_kv_heads * cluster > most)
        cluster /= 2;
    cohort_cuda_launch(backend,
                       dim == 64 ? COHORT_CUDA_attention_64 : COHORT_CUDA_attention_128,
                       (cohort_cuda_grid){.x = cluster,
                                          .y = n_kv_heads,
                                          .z = rows,
                                          .cluster = cluster,
                                          .shared = COHORT_CUDA_ATTENTION_SHARED(dim)},
                       p);
}

/* The rows from `first` on: with what this step stores of their sequences. */
static void attend_prompts(cohort_backend *backend, cohort_cuda_attention_params *p,
                           int32_t first) {
    bool is_64 = p->cache.head_dim == 64;
    int32_t n_kv_heads = p->cache.n_kv_heads;
    int32_t at_once = COHORT_CUDA_PROMPT_COLUMNS / (p->cache.n_heads / n_kv_heads);
    p->first_row = first, p->n_rows = backend->step.batch.n_rows - first;
    if (p->raw)
        cohort_cuda_launch(
            backend, is_64 ? COHORT_CUDA_prompt_cache_64 : COHORT_CUDA_prompt_cache_128,
            (cohort_cuda_grid){.x = ((int64_t)p->n_rows * n_kv_heads + 7) / 8}, p);
    cohort_cuda_launch(
        backend,
        is_64 ? COHORT_CUDA_prompt_attention_64 : COHORT_CUDA_prompt_attention_128,
        (cohort_cuda_grid){.x = n_kv_heads,
                           .y = (p->n_rows + at_once - 1) / at_once,
                           .threads = COHORT_CUDA_PROMPT_COLUMNS * 2,
                           .shared =
                               COHORT_CUDA_PROMPT_ATTENTION_SHARED(p->cache.head_dim)},
        p);
}

static void attend_fast(cohort_backend *backend, const cohort_op_attention *op,
                        cohort_cuda_attention_params *p) {
    int32_t rows = backend->step.batch.n_rows, singles = rows;
    if (is_prompt(backend)) singles = backend->step.n_single_first;
    p->narrow = cohort_cuda_write_narrow(op->out,
                                         (int64_t)op->heads.n_heads * op->heads.head_dim);
    if (backend->has_rotation) add_rotation(p, &backend->rotation);
    p->raw = backend->has_rotation;
    backend->has_rotation = false;
    if (singles < rows) attend_prompts(backend, p, singles);
    if (singles > 0) attend_singles(backend, p, singles);
}

void cohort_cuda_op_attend(cohort_backend *backend, const cohort_op_attention *op) {
    cohort_cuda_flush(backend);
    cohort_cuda_attention_params p = attention_of(backend, op);
    if (is_fast(op)) {
        attend_fast(backend, op, &p);
        return;
    }
    p.out = cohort_cuda_write(op->out);
    cohort_cuda_launch(
        backend, COHORT_CUDA_attend,
        (cohort_cuda_grid){.x = op->heads.n_heads, .y = backend->step.batch.n_rows}, &p);
}
