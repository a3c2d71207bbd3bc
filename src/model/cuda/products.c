/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "model/cuda/cuda_internal.h"

/* Design notes.
 *
 * A product wants its rows as bf16.  Where who wrote a buffer left them so, they are
 * taken; else they are made in scratch.
 *
 * An addition to the residual is held back until the next operation is known.  Where that
 * is a norm of all its rows with a product behind it, as nearly always, the addition also
 * leaves the rows times the norm's weight and the sums of their squares, and the product
 * divides by the root: the norm takes no kernel of its own. */

/* ---- weights ----------------------------------------------------------------------- */

static size_t packed_bytes(int64_t n_tiles, int64_t n_steps) {
    return (size_t)(n_tiles * COHORT_CUDA_TILE * n_steps * COHORT_CUDA_STEP) *
           sizeof(uint16_t);
}

/* Scratch for rows as wide as this matrix has columns. */
static cohort_status want_scratch(cohort_backend *backend, int64_t n_steps) {
    size_t bytes = (size_t)(backend->options.max_rows * n_steps * COHORT_CUDA_STEP) *
                   sizeof(uint16_t);
    if (bytes <= backend->scratch_bytes) return COHORT_OK;
    cohort_cuda_release(backend, &backend->scratch);
    backend->scratch_bytes = 0;
    COHORT_TRY(
        cohort_cuda_allocate(backend, bytes, "rows of a product", &backend->scratch));
    backend->scratch_bytes = bytes;
    return COHORT_OK;
}

cohort_status cohort_cuda_linear_create(cohort_backend *backend, int64_t n_out,
                                        int64_t n_in, const cohort_format *format,
                                        cohort_linear **out_linear) {
    cohort_dtype dtype = format->planes[COHORT_VALUES].dtype;
    *out_linear = NULL;
    if (format->planes[COHORT_SCALES].is_there)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "weights in %s do not run on device cuda yet: leave "
                           "--quantization out, or use --device cpu",
                           format->name);
    if (n_out < 1 || n_in < 1 || n_out > INT32_MAX / 32 || n_in > INT32_MAX / 32)
        return COHORT_FAIL(COHORT_E_INVALID, "weights of %lld by %lld", (long long)n_out,
                           (long long)n_in);
    cohort_linear *linear = calloc(1, sizeof *linear);
    if (!linear) return COHORT_FAIL(COHORT_E_NOMEM, "a matrix of weights");
    linear->backend = backend;
    linear->n_out = n_out, linear->n_in = n_in;
    linear->is_bf16 = dtype == COHORT_BF16;
    linear->rounds_f16 = dtype == COHORT_F16;
    linear->n_tiles = (int32_t)((n_out + COHORT_CUDA_TILE - 1) / COHORT_CUDA_TILE);
    linear->n_steps = (int32_t)((n_in + COHORT_CUDA_STEP - 1) / COHORT_CUDA_STEP);
    int64_t padded = (linear->n_tiles + COHORT_CUDA_GROUP_TILES - 1) /
                     COHORT_CUDA_GROUP_TILES * COHORT_CUDA_GROUP_TILES;
    size_t bytes = linear->is_bf16 ? packed_bytes(padded, linear->n_steps)
                                   : (size_t)(n_out * n_in) * sizeof(float);
    cohort_status status = want_scratch(backend, linear->n_steps);
    if (status >= 0)
        status = cohort_cuda_allocate(backend, bytes, "weights", &linear->memory);
    if (status < 0) {
        free(linear);
        return status;
    }
    *out_linear = linear;
    return COHORT_OK;
}

void cohort_cuda_linear_destroy(cohort_linear *linear) {
    if (!linear) return;
    cohort_cuda_release(linear->backend, &linear->memory);
    free(linear);
}

size_t cohort_cuda_linear_bytes(const cohort_linear *linear) {
    return linear->memory.bytes;
}

/* Rows go to the device as they are, a part at a time, and are packed there. */
cohort_status cohort_cuda_linear_set(cohort_linear *linear, cohort_plane plane,
                                     int64_t row_begin, int64_t n_rows, const void *src,
                                     cohort_dtype src_dtype, int64_t src_stride) {
    (void)plane; /* dense weights have but one */
    cohort_backend *backend = linear->backend;
    size_t each = src_dtype == COHORT_F32 ? sizeof(float) : sizeof(uint16_t);
    size_t row_bytes = (size_t)linear->n_in * each;
    int64_t at_once = (int64_t)(backend->staging.bytes / row_bytes);
    if (at_once < 1)
        return COHORT_FAIL(COHORT_E_INVALID, "a row of %lld weights is too long",
                           (long long)linear->n_in);
    for (int64_t r = 0; r < n_rows; r += at_once) {
        int64_t n = n_rows - r < at_once ? n_rows - r : at_once;
        const char *from = (const char *)src + (size_t)(r * src_stride) * each;
        COHORT_TRY(cohort_cuda_upload_rows(backend, backend->staging.at, from, n,
                                           row_bytes, (size_t)src_stride * each));
        cohort_cuda_pack_params p = {.from = (void *)backend->staging.at,
                                     .to = (void *)linear->memory.at,
                                     .row_begin = row_begin + r,
                                     .n_rows = n,
                                     .n_columns = linear->n_in,
                                     .dtype = src_dtype,
                                     .is_bf16 = linear->is_bf16,
                                     .rounds_f16 = linear->rounds_f16,
                                     .n_steps = linear->n_steps};
        const cohort_cuda_grid grid = {.x = (linear->n_in + COHORT_CUDA_THREADS - 1) /
                                            COHORT_CUDA_THREADS,
                                       .y = n < 65535 ? n : 65535};
        cohort_cuda_launch(backend, COHORT_CUDA_pack, grid, &p);
    }
    return cohort_cuda_failed(backend) ? cohort_fail_adopt(&backend->error) : COHORT_OK;
}

/* ---- rows as bf16 ------------------------------------------------------------------ */

/* Rows that a product reads. */
typedef struct narrow_rows {
    const uint16_t *x;
    int64_t stride;
    const float *squares; /* NULL: they are what they are */
    int32_t n_squares, width;
    float eps;
} narrow_rows;

static narrow_rows make_narrow(cohort_backend *backend, cohort_view x, int64_t x_stride,
                               int64_t n_rows, const cohort_linear *weight,
                               const cohort_op_norm *norm) {
    narrow_rows made = {.x = (const uint16_t *)backend->scratch.at,
                        .stride = (int64_t)weight->n_steps * COHORT_CUDA_STEP};
    cohort_cuda_norm_params p = {.x = cohort_cuda_read(norm ? norm->x : x),
                                 .weight = norm ? cohort_cuda_vector(norm->weight) : NULL,
                                 .bias = norm ? cohort_cuda_vector(norm->bias) : NULL,
                                 .narrow = (uint16_t *)backend->scratch.at,
                                 .x_stride = norm ? norm->n_columns : x_stride,
                                 .narrow_stride = made.stride,
                                 .n_columns = (int32_t)weight->n_in,
                                 .centred = norm && norm->centred,
                                 .eps = norm ? norm->eps : 0};
    cohort_cuda_launch(backend, COHORT_CUDA_norm_rows, (cohort_cuda_grid){.x = n_rows},
                       &p);
    return made;
}

static int64_t parts_of(int64_t n, int64_t each) { return (n + each - 1) / each; }

static bool is_whole(cohort_view view, int64_t n_rows, const cohort_backend *backend) {
    return view.at == 0 && n_rows == backend->step.batch.n_rows;
}

/* The rows that a product with this weight reads, normalised first where norm says so. */
static narrow_rows rows_of(cohort_backend *backend, cohort_view x, int64_t x_stride,
                           int64_t n_rows, const cohort_linear *weight,
                           const cohort_op_norm *norm) {
    const cohort_buffer *from = norm ? norm->x.buffer : x.buffer;
    bool fits = from->narrowed && from->narrowed == weight->n_in &&
                weight->n_in % COHORT_CUDA_STEP == 0;
    if (norm && fits && from->scaled_by == norm->weight &&
        is_whole(norm->x, n_rows, backend))
        return (narrow_rows){.x = (const uint16_t *)from->narrow.at,
                             .stride = weight->n_in,
                             .squares = (const float *)backend->squares.at,
                             .n_squares =
                                 (int32_t)parts_of(weight->n_in, backend->square_columns),
                             .width = (int32_t)weight->n_in,
                             .eps = norm->eps};
    if (!norm && fits && !from->scaled_by && x.at == 0 && x_stride == weight->n_in)
        return (narrow_rows){.x = (const uint16_t *)from->narrow.at,
                             .stride = weight->n_in};
    return make_narrow(backend, x, x_stride, n_rows, weight, norm);
}

/* Room for a buffer's rows as bf16; NULL, and the backend failed, where there is none. */
static uint16_t *narrow_of(cohort_buffer *buffer) {
    if (!buffer->narrow.at)
        cohort_cuda_fail(buffer->backend,
                         cohort_cuda_allocate(buffer->backend,
                                              (size_t)buffer->count * sizeof(uint16_t),
                                              "activations", &buffer->narrow));
    return (uint16_t *)buffer->narrow.at;
}

uint16_t *cohort_cuda_write_narrow(cohort_view view, int64_t width) {
    cohort_buffer *buffer = view.buffer;
    uint16_t *narrow = narrow_of(buffer);
    buffer->narrowed = width, buffer->scaled_by = NULL, buffer->wide = false;
    return narrow ? narrow + view.at : NULL;
}

/* ---- products ---------------------------------------------------------------------- */

typedef enum product_kind { STORE, ACTIVATE, RESIDUAL } product_kind;

static void launch_product(cohort_backend *backend, product_kind kind,
                           cohort_cuda_linear_params *p) {
    static const cohort_cuda_kernel kernels[][4] = {
        {COHORT_CUDA_linear_store_8, COHORT_CUDA_linear_store_16,
         COHORT_CUDA_linear_store_32, COHORT_CUDA_linear_store_64},
        {COHORT_CUDA_linear_activate_8, COHORT_CUDA_linear_activate_16,
         COHORT_CUDA_linear_activate_32, COHORT_CUDA_linear_activate_64},
        {COHORT_CUDA_linear_residual_8, COHORT_CUDA_linear_residual_16,
         COHORT_CUDA_linear_residual_32, COHORT_CUDA_linear_residual_64}};
    int32_t slice = (p->n_steps + 7) / 8, size = 0;
    while (p->n_rows > 8 << size)
        size++;
    int32_t pairs = kind == ACTIVATE ? p->n_tiles / 2 : (p->n_tiles + 1) / 2;
    /* All columns of x lie in one CTA's memory; or, too wide for that, in a cluster's. */
    int32_t shared_8 = COHORT_CUDA_SUMS_8 +
                       2 * (8 * p->n_rows + 1) * (slice * COHORT_CUDA_STEP + 8) +
                       (p->squares ? 4 * p->n_rows * p->n_squares : 0);
    if (size == 0 && shared_8 > backend->most_shared) size = 1;
    if (size == 0) {
        int32_t n = pairs < backend->n_processors ? pairs : backend->n_processors;
        cohort_cuda_launch(backend, kernels[kind][0],
                           (cohort_cuda_grid){.x = n, .shared = shared_8}, p);
        return;
    }
    int32_t width = 8 << size, groups = (pairs + 3) / 4;
    int32_t sums = 8 * 17 * 4 * width, fixed = slice * 64 * width + 4 * width;
    p->two_buffers = fixed + 2 * sums <= backend->most_shared;
    if (groups > backend->n_clusters) groups = backend->n_clusters;
    cohort_cuda_launch(backend, kernels[kind][size],
                       (cohort_cuda_grid){.x = groups * 8,
                                          .cluster = 8,
                                          .shared = fixed + (1 + p->two_buffers) * sums},
                       p);
}

/* Does the widest kernel hold a slice of such rows? */
static int64_t rows_at_once(const cohort_backend *backend, const cohort_linear *weight) {
    int64_t slice = (weight->n_steps + 7) / 8;
    for (int64_t rows = COHORT_CUDA_WIDE_ROWS; rows > 8; rows /= 2)
        if (slice * 64 * rows + 4 * rows + 8 * 17 * 4 * rows <= backend->most_shared)
            return rows;
    return 8;
}

/* Of many rows, a CTA takes 256 outputs, or 128 where it would have to take turns with
 * fewer CTAs: the wider one reads less, and is a tenth faster for that. */
static int32_t prompt_outputs(const cohort_backend *backend, product_kind kind,
                              const cohort_linear *weight, int64_t n_rows) {
    if (kind == ACTIVATE) return 256;
    int64_t blocks = parts_of(n_rows, COHORT_CUDA_PROMPT_ROWS), n = backend->n_processors;
    int64_t turns_128 = parts_of(parts_of(weight->n_out, 128) * blocks, n);
    int64_t turns_256 = parts_of(parts_of(weight->n_out, 256) * blocks, n);
    return turns_128 * 11 < turns_256 * 20 ? 128 : 256;
}

/* A matrix of `each` bytes an element, as the copy engine reads parts of it; zeros beyond
 * its end. */
static void map_matrix(cohort_backend *backend, const void *at, CUtensorMapDataType type,
                       const cuuint64_t size[2], cuuint64_t stride,
                       const cuuint32_t box[2], CUtensorMapSwizzle swizzle,
                       CUtensorMap *out_map) {
    const cuuint32_t each[2] = {1, 1};
    if (cohort_cuda_failed(backend)) return;
    CUresult result = backend->cuda->TensorMapEncodeTiled(
        out_map, type, 2, (void *)(uintptr_t)at, size, &stride, box, each,
        CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    cohort_cuda_fail(backend,
                     cohort_cuda_status(backend->cuda, result, "telling it of a matrix"));
}

/* A product's rows, and its weights by 8 bytes, of which a tile's step has 128. */
static void map_product(cohort_backend *backend, const cohort_cuda_linear_params *p,
                        cohort_cuda_prompt_params *out) {
    const cuuint64_t rows[2] = {(cuuint64_t)p->n_steps * COHORT_CUDA_STEP,
                                (cuuint64_t)p->n_rows},
                     weights[2] = {(cuuint64_t)p->n_steps * 128, (cuuint64_t)p->n_tiles};
    const cuuint32_t box[2] = {COHORT_CUDA_PROMPT_STAGE, COHORT_CUDA_PROMPT_ROWS},
                     tiles[2] = {256, 8};
    map_matrix(backend, p->x, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, rows,
               (cuuint64_t)p->x_stride * sizeof(uint16_t), box,
               CU_TENSOR_MAP_SWIZZLE_128B, &out->rows);
    map_matrix(backend, p->weights, CU_TENSOR_MAP_DATA_TYPE_FLOAT64, weights,
               (cuuint64_t)p->n_steps * 1024, tiles, CU_TENSOR_MAP_SWIZZLE_NONE,
               &out->weights);
}

static void run_prompt(cohort_backend *backend, product_kind kind,
                       const cohort_linear *weight, int64_t n_rows,
                       cohort_cuda_linear_params *p) {
    static const cohort_cuda_kernel kernels[][2] = {
        {COHORT_CUDA_prompt_store_128, COHORT_CUDA_prompt_store_256},
        {COHORT_CUDA_prompt_activate_256, COHORT_CUDA_prompt_activate_256},
        {COHORT_CUDA_prompt_residual_128, COHORT_CUDA_prompt_residual_256}};
    int32_t outputs = prompt_outputs(backend, kind, weight, n_rows);
    p->n_rows = (int32_t)n_rows;
    if (kind == RESIDUAL) {
        backend->square_columns = outputs;
        p->n_next_squares = (int32_t)parts_of(weight->n_out, outputs);
    }
    int32_t stages =
        outputs == 128 ? COHORT_CUDA_PROMPT_STAGES_128 : COHORT_CUDA_PROMPT_STAGES_256;
    cohort_cuda_prompt_params whole = {.of = *p};
    map_product(backend, p, &whole);
    cohort_cuda_launch(
        backend, kernels[kind][outputs / 256],
        (cohort_cuda_grid){.x = parts_of(weight->n_out, outputs) *
                                parts_of(n_rows, COHORT_CUDA_PROMPT_ROWS),
                           .shared = COHORT_CUDA_PROMPT_SHARED(stages, outputs)},
        &whole);
}

static void run_product(cohort_backend *backend, product_kind kind,
                        const cohort_linear *weight, const narrow_rows *x, int64_t n_rows,
                        cohort_cuda_linear_params p) {
    p.weights = (const void *)weight->memory.at;
    p.squares = x->squares, p.n_squares = x->n_squares;
    p.norm_width = x->width, p.norm_eps = x->eps;
    p.x_stride = (int32_t)x->stride;
    p.n_out = (int32_t)weight->n_out;
    p.n_tiles = weight->n_tiles, p.n_steps = weight->n_steps;
    if (n_rows > COHORT_CUDA_WIDE_ROWS) {
        p.x = x->x;
        run_prompt(backend, kind, weight, n_rows, &p);
        return;
    }
    if (kind == RESIDUAL) backend->square_columns = COHORT_CUDA_TILE;
    int64_t at_once = rows_at_once(backend, weight);
    for (int64_t row = 0; row < n_rows; row += at_once) {
        cohort_cuda_linear_params part = p;
        part.n_rows = (int32_t)(n_rows - row < at_once ? n_rows - row : at_once);
        part.x = x->x + row * x->stride;
        if (p.squares) part.squares += row * x->n_squares;
        if (p.y) part.y += row * p.y_stride;
        if (p.narrow) part.narrow += row * p.y_stride;
        if (p.next_squares) part.next_squares += row * weight->n_tiles;
        launch_product(backend, kind, &part);
    }
}

static void linear_f32(cohort_backend *backend, const cohort_op_linear *op, bool adds) {
    cohort_cuda_linear_f32_params p = {.weights = (const float *)op->weight->memory.at,
                                       .bias = cohort_cuda_vector(op->bias),
                                       .x = cohort_cuda_read(op->x),
                                       .y =
                                           adds ? (float *)cohort_cuda_read(op->y) : NULL,
                                       .x_stride = op->x_stride,
                                       .y_stride = op->y_stride,
                                       .n_rows = op->n_rows,
                                       .n_out = op->weight->n_out,
                                       .n_in = op->weight->n_in,
                                       .adds = adds};
    p.y = cohort_cuda_write(op->y);
    cohort_cuda_launch(backend, COHORT_CUDA_linear_f32,
                       (cohort_cuda_grid){.x = (p.n_out + 7) / 8, .y = op->n_rows}, &p);
}

void cohort_cuda_op_norm_linear(cohort_backend *backend, const cohort_op_norm *norm,
                                const cohort_op_linear *op) {
    cohort_cuda_flush_for(backend, norm);
    if (!op->weight->is_bf16) {
        if (norm) cohort_cuda_op_norm(backend, norm);
        linear_f32(backend, op, false);
        return;
    }
    narrow_rows x = rows_of(backend, op->x, op->x_stride, op->n_rows, op->weight, norm);
    run_product(backend, STORE, op->weight, &x, op->n_rows,
                (cohort_cuda_linear_params){.bias = cohort_cuda_vector(op->bias),
                                            .y = cohort_cuda_write(op->y),
                                            .y_stride = (int32_t)op->y_stride});
}

void cohort_cuda_op_linear(cohort_backend *backend, const cohort_op_linear *op) {
    cohort_cuda_op_norm_linear(backend, NULL, op);
}

void cohort_cuda_op_norm_linear_activate(cohort_backend *backend,
                                         const cohort_op_norm *norm,
                                         const cohort_op_linear *op,
                                         const cohort_op_activate *activate) {
    bool fused = op->weight->is_bf16 && activate->gated &&
                 activate->activation == COHORT_SILU &&
                 activate->n % COHORT_CUDA_STEP == 0 && activate->y.at == 0;
    if (!fused) {
        cohort_cuda_op_norm_linear(backend, norm, op);
        cohort_cuda_op_activate(backend, activate);
        return;
    }
    cohort_cuda_flush_for(backend, norm);
    narrow_rows x = rows_of(backend, op->x, op->x_stride, op->n_rows, op->weight, norm);
    run_product(backend, ACTIVATE, op->weight, &x, op->n_rows,
                (cohort_cuda_linear_params){
                    .bias = cohort_cuda_vector(op->bias),
                    .narrow = cohort_cuda_write_narrow(activate->y, activate->n),
                    .y_stride = (int32_t)activate->n});
}

/* ---- the residual ------------------------------------------------------------------ */

void cohort_cuda_op_linear_add(cohort_backend *backend, const cohort_op_linear *op) {
    cohort_cuda_flush(backend);
    if (op->weight->is_bf16)
        backend->pending = (cohort_cuda_pending){.there = true, .op = *op};
    else
        linear_f32(backend, op, true);
}

static float *squares_for(cohort_backend *backend, int64_t n_tiles) {
    size_t bytes = (size_t)(backend->options.max_rows * n_tiles) * sizeof(float);
    if (backend->squares.bytes < bytes) {
        cohort_cuda_release(backend, &backend->squares);
        cohort_cuda_fail(
            backend, cohort_cuda_allocate(backend, bytes, "squares", &backend->squares));
    }
    return (float *)backend->squares.at;
}

/* next: the norm's weight that the rows are wanted times, or NULL. */
static void add_pending(cohort_backend *backend, const cohort_buffer *next) {
    const cohort_op_linear op = backend->pending.op;
    backend->pending.there = false;
    if (cohort_cuda_failed(backend)) return;
    narrow_rows x = rows_of(backend, op.x, op.x_stride, op.n_rows, op.weight, NULL);
    cohort_buffer *y = op.y.buffer;
    uint16_t *narrow = narrow_of(y);
    cohort_cuda_linear_params p = {.bias = cohort_cuda_vector(op.bias),
                                   .y = (float *)cohort_cuda_read(op.y),
                                   .narrow = narrow + op.y.at,
                                   .next_norm = cohort_cuda_vector(next),
                                   .next_squares =
                                       squares_for(backend, op.weight->n_tiles),
                                   .y_stride = (int32_t)op.y_stride};
    cohort_cuda_write(op.y);
    if (next) y->narrowed = op.y_stride, y->scaled_by = next;
    if (cohort_cuda_failed(backend)) return;
    run_product(backend, RESIDUAL, op.weight, &x, op.n_rows, p);
}

void cohort_cuda_flush(cohort_backend *backend) {
    if (backend->pending.there) add_pending(backend, NULL);
}

void cohort_cuda_flush_for(cohort_backend *backend, const cohort_op_norm *norm) {
    if (!backend->pending.there) return;
    const cohort_op_linear *op = &backend->pending.op;
    bool takes = norm && !norm->centred && !norm->bias && norm->weight &&
                 norm->x.buffer == op->y.buffer && is_whole(op->y, op->n_rows, backend) &&
                 is_whole(norm->x, norm->n_rows, backend) &&
                 op->y_stride == op->weight->n_out &&
                 op->y_stride % COHORT_CUDA_STEP == 0;
    add_pending(backend, takes ? norm->weight : NULL);
}
