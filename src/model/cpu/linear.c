/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/fail.h"
#include "model/cpu/cpu_internal.h"
#include "model/cpu/transpose.h"
#include "model/half.h"

/* Design notes.
 *
 * Threads share out the panels (see kernels.h), so each reads its own part of the weights
 * and writes its own columns of y.
 *
 * A single row reads x as it lies.  More rows are cut into blocks of BLOCK_ROWS x BLOCK_K
 * that all threads pack together, tile by tile; then each thread takes its panels a group
 * at a time (the group's part of k stays in the L1 cache) and runs it against all tiles
 * of the block (which stay in L2).  y holds the sums between two blocks of k: they go on
 * where they stopped, in the same order as if k had not been cut.
 *
 * A kernel on tiles (`stretch` in its table) is faster than memory even for a hundred
 * rows: x is packed with all of its k, as many rows as L2 has room for, so that weights
 * are read as seldom as can be; what stays in L1 is a stretch of k of two panels. */

/* ---- weights ----------------------------------------------------------------------- */

cohort_status cohort_cpu_linear_create(cohort_backend *backend, int64_t n_out,
                                       int64_t n_in, cohort_dtype dtype,
                                       cohort_linear **out_linear) {
    *out_linear = NULL;
    if (n_out < 0 || n_in < 0 || n_out > COHORT_CPU_MOST_ROWS ||
        n_in > COHORT_CPU_MOST_ROWS || dtype == COHORT_I32)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "a weight matrix of %lld x %lld, dtype %d; rows and columns "
                           "are at most %d",
                           (long long)n_out, (long long)n_in, (int)dtype,
                           COHORT_CPU_MOST_ROWS);
    cohort_linear *linear = calloc(1, sizeof *linear);
    if (!linear) return COHORT_FAIL(COHORT_E_NOMEM, "a weight matrix");
    const cohort_cpu_dot *dot = backend->isa.dot;
    size_t step = dot && dtype == COHORT_BF16 ? (size_t)dot->k_step : 2;
    size_t padded = ((size_t)n_in + step - 1) / step * step; /* and in cache lines */
    *linear = (cohort_linear){
        .backend = backend,
        .dtype = dtype,
        .n_out = n_out,
        .n_in = n_in,
        .n_panels = (int32_t)((n_out + COHORT_CPU_PANEL - 1) / COHORT_CPU_PANEL),
        .panel_bytes = padded * COHORT_CPU_PANEL * cohort_cpu_bytes(dtype),
    };
    linear->bytes = (size_t)linear->n_panels * linear->panel_bytes;
    if (linear->bytes) linear->panels = cohort_cpu_take(backend, linear->bytes);
    if (linear->bytes && !linear->panels) {
        size_t bytes = linear->bytes;
        free(linear);
        return COHORT_FAIL(COHORT_E_NOMEM, "%zu bytes of weights", bytes);
    }
    *out_linear = linear;
    return COHORT_OK;
}

void cohort_cpu_linear_destroy(cohort_linear *linear) {
    if (!linear) return;
    cohort_cpu_unmap(linear->panels, linear->bytes);
    free(linear);
}

size_t cohort_cpu_linear_bytes(const cohort_linear *linear) { return linear->bytes; }

static uint16_t load_16(const unsigned char *p) {
    uint16_t bits;
    memcpy(&bits, p, sizeof bits);
    return bits;
}

/* src may be aligned to nothing: it lies in a file. */
static float load_float(cohort_dtype dtype, const unsigned char *src, int64_t i) {
    float value;
    switch (dtype) {
    case COHORT_BF16: return cohort_float_of_bf16(load_16(src + 2 * i));
    case COHORT_F16: return cohort_float_of_f16(load_16(src + 2 * i));
    default: memcpy(&value, src + 4 * i, sizeof value); return value;
    }
}

/* Where lane's value k lies in its panel. */
static int64_t item_of(cohort_dtype dtype, int64_t lane, int64_t k) {
    if (dtype == COHORT_BF16) return (k / 2 * COHORT_CPU_PANEL + lane) * 2 + k % 2;
    return k * COHORT_CPU_PANEL + lane;
}

enum { STRETCH = 64 };

/* Values [k, k + n) of up to 16 rows that lie side by side in a panel. */
struct stretch {
    cohort_dtype dtype;
    int64_t first, n_rows; /* lanes [first, first + n_rows) of the panel */
    int64_t k, n;
    const unsigned char *rows[COHORT_CPU_PANEL];
};

struct fill {
    cohort_linear *linear;
    int64_t row_begin, n_rows;
    const unsigned char *src;
    cohort_dtype src_dtype;
    int64_t src_stride;
};

/* Inlined with constant dtypes: a loop without branches, which the compiler widens. */
static inline __attribute__((always_inline)) void convert_as(cohort_dtype src,
                                                             cohort_dtype dst,
                                                             const unsigned char *from,
                                                             int64_t n,
                                                             unsigned char *to) {
    for (int64_t i = 0; i < n; i++) {
        float value = load_float(src, from, i);
        uint16_t half =
            dst == COHORT_BF16 ? cohort_bf16_of_float(value) : cohort_f16_of_float(value);
        if (dst == COHORT_F32)
            memcpy(to + 4 * i, &value, sizeof value);
        else
            memcpy(to + 2 * i, &half, sizeof half);
    }
}

/* Values [k, k + n) of a row in the matrix's dtype, which is not src's. */
static void convert(const struct fill *fill, const unsigned char *row, int64_t k,
                    int64_t n, unsigned char *to) {
    const unsigned char *from = row + (size_t)k * cohort_cpu_bytes(fill->src_dtype);
    bool from_f32 = fill->src_dtype == COHORT_F32;
    switch (fill->linear->dtype) {
    case COHORT_BF16:
        if (from_f32)
            convert_as(COHORT_F32, COHORT_BF16, from, n, to);
        else
            convert_as(COHORT_F16, COHORT_BF16, from, n, to);
        break;
    case COHORT_F16:
        if (from_f32)
            convert_as(COHORT_F32, COHORT_F16, from, n, to);
        else
            convert_as(COHORT_BF16, COHORT_F16, from, n, to);
        break;
    default:
        if (fill->src_dtype == COHORT_BF16)
            convert_as(COHORT_BF16, COHORT_F32, from, n, to);
        else
            convert_as(COHORT_F16, COHORT_F32, from, n, to);
    }
}

/* Places 16 rows of a stretch, already of the right dtype, into their panel. */
static void place_whole(const struct stretch *at, unsigned char *panel) {
    int64_t n_items = at->dtype == COHORT_F32 ? at->n : at->n / 2; /* of 32 bits */
    int64_t item = at->dtype == COHORT_F32 ? at->k : at->k / 2;
    const size_t line = COHORT_CPU_PANEL * 4;
    for (int64_t j = 0; j < n_items; j += 4)
        for (int64_t r = 0; r < COHORT_CPU_PANEL; r += 4)
            cohort_cpu_transpose_4(at->rows[r] + 4 * j, at->rows[r + 1] + 4 * j,
                                   at->rows[r + 2] + 4 * j, at->rows[r + 3] + 4 * j,
                                   panel + (size_t)(item + j) * line + 4 * r, line);
}

static void place_one_by_one(const struct stretch *at, unsigned char *panel) {
    for (int64_t i = 0; i < at->n; i++)
        for (int64_t r = 0; r < at->n_rows; r++) {
            size_t bytes = cohort_cpu_bytes(at->dtype);
            int64_t to = item_of(at->dtype, at->first + r, at->k + i);
            memcpy(panel + (size_t)to * bytes, at->rows[r] + (size_t)i * bytes, bytes);
        }
}

/* Rows [begin, end) of the matrix, all in one panel: a stretch of k at a time, so that
 * what is read, converted and written stays in the L1 cache. */
static void fill_panel(const struct fill *fill, int64_t begin, int64_t end) {
    const cohort_linear *linear = fill->linear;
    unsigned char *panel =
        linear->panels + (size_t)(begin / COHORT_CPU_PANEL) * linear->panel_bytes;
    const size_t bytes = cohort_cpu_bytes(fill->src_dtype);
    const unsigned char *src =
        fill->src + (size_t)((begin - fill->row_begin) * fill->src_stride) * bytes;
    unsigned char staged[COHORT_CPU_PANEL][STRETCH * 4];
    struct stretch at = {
        .dtype = linear->dtype, .first = begin % COHORT_CPU_PANEL, .n_rows = end - begin};
    for (; at.k < linear->n_in; at.k += at.n) {
        at.n = linear->n_in - at.k < STRETCH ? linear->n_in - at.k : STRETCH;
        for (int64_t r = 0; r < at.n_rows; r++) {
            const unsigned char *row = src + (size_t)(r * fill->src_stride) * bytes;
            at.rows[r] = staged[r];
            if (fill->src_dtype == linear->dtype)
                at.rows[r] = row + (size_t)at.k * bytes;
            else
                convert(fill, row, at.k, at.n, staged[r]);
        }
        bool whole = at.n_rows == COHORT_CPU_PANEL && at.n % 8 == 0;
        if (whole && at.dtype != COHORT_F16)
            place_whole(&at, panel);
        else
            place_one_by_one(&at, panel);
    }
}

static void fill_share(void *context, int32_t thread, int32_t n_threads) {
    const struct fill *fill = context;
    int64_t end = fill->row_begin + fill->n_rows;
    int64_t first_panel = fill->row_begin / COHORT_CPU_PANEL;
    int64_t last_panel = (end - 1) / COHORT_CPU_PANEL;
    cohort_cpu_range share =
        cohort_cpu_share(last_panel + 1 - first_panel, thread, n_threads);
    for (int64_t p = first_panel + share.begin; p < first_panel + share.end; p++) {
        int64_t from = p * COHORT_CPU_PANEL, to = from + COHORT_CPU_PANEL;
        if (from < fill->row_begin) from = fill->row_begin;
        if (to > end) to = end;
        fill_panel(fill, from, to);
    }
}

void cohort_cpu_linear_set(cohort_linear *linear, int64_t row_begin, int64_t n_rows,
                           const void *src, cohort_dtype src_dtype, int64_t src_stride) {
    if (n_rows <= 0 || linear->n_in == 0) return;
    struct fill fill = {linear, row_begin, n_rows, src, src_dtype, src_stride};
    cohort_pool_run(linear->backend->pool, fill_share, &fill);
}

/* ---- products ---------------------------------------------------------------------- */

struct job {
    const cohort_backend *backend;
    const cohort_linear *weight;
    const float *bias;
    const float *x;
    int64_t x_stride;
    const int32_t *ids;
    float *y;
    int64_t y_stride;
    /* the block at hand */
    int64_t row, n_rows;
    int64_t k, n_k;
    bool dot;    /* bf16 activations */
    bool direct; /* a single f32 row: nothing to pack */
};

static const float *x_row(const struct job *job, int64_t i) {
    int64_t row = job->row + i;
    return job->x + (job->ids ? job->ids[row] : row) * job->x_stride;
}

static int32_t tile_rows(const struct job *job) {
    const cohort_backend *backend = job->backend;
    return job->dot ? backend->isa.dot->tile_rows : backend->kernels->tile_rows;
}

/* Values of k that are packed together. */
static int64_t k_step(const struct job *job) {
    return job->dot ? job->backend->isa.dot->k_step : 2;
}

/* Bytes of n_k values of one row, packed; an odd end is padded. */
static size_t packed_bytes(const struct job *job, int64_t n_k) {
    int64_t step = k_step(job);
    return (size_t)((n_k + step - 1) / step * step) * (job->dot ? 2 : 4);
}

/* Packs this thread's stretch of k of all tiles. */
static void pack_share(void *context, int32_t thread, int32_t n_threads) {
    const struct job *job = context;
    int64_t step = k_step(job);
    cohort_cpu_range share =
        cohort_cpu_share((job->n_k + step - 1) / step, thread, n_threads);
    int64_t begin = step * share.begin, end = step * share.end;
    if (end > job->n_k) end = job->n_k;
    for (int64_t row = 0; row < job->n_rows && begin < end; row += tile_rows(job)) {
        int64_t left = job->n_rows - row;
        int32_t n = left < tile_rows(job) ? (int32_t)left : tile_rows(job);
        const float *rows[COHORT_CPU_TILE_ROWS];
        for (int32_t r = 0; r < n; r++)
            rows[r] = x_row(job, row + r) + job->k + begin;
        unsigned char *tile = (unsigned char *)job->backend->pack +
                              (size_t)row * packed_bytes(job, job->n_k);
        unsigned char *to = tile + (size_t)n * packed_bytes(job, begin);
        if (job->dot)
            job->backend->isa.dot->pack(rows, n, end - begin, to);
        else
            job->backend->kernels->pack(rows, n, end - begin, (float *)(void *)to);
    }
}

/* Columns of panels [panel, panel + n) have all of k in them now: scales and bias. */
static void finish(const struct job *job, int64_t panel, int64_t n) {
    const cohort_cpu_kernels *kernels = job->backend->kernels;
    int64_t begin = panel * COHORT_CPU_PANEL, end = (panel + n) * COHORT_CPU_PANEL;
    if (end > job->weight->n_out) end = job->weight->n_out;
    for (int64_t r = 0; r < job->n_rows; r++) {
        float *y = job->y + (job->row + r) * job->y_stride + begin;
        if (job->weight->scales)
            kernels->scale(y, job->weight->scales + begin, end - begin);
        if (job->bias) kernels->add(y, job->bias + begin, end - begin);
    }
}

/* The last panel may reach beyond y: its columns go through a tile of our own. */
static void multiply_edge(const struct job *job, cohort_cpu_product product, float *y,
                          int64_t n_columns,
                          void (*multiply)(const cohort_cpu_product *)) {
    float tile[COHORT_CPU_TILE_ROWS][COHORT_CPU_PANEL] = {{0}};
    size_t bytes = (size_t)n_columns * sizeof(float);
    for (int32_t r = 0; product.add && r < product.rows; r++)
        memcpy(tile[r], y + r * job->y_stride, bytes);
    product.c = tile[0];
    product.c_stride = COHORT_CPU_PANEL;
    product.n_panels = 1;
    multiply(&product);
    for (int32_t r = 0; r < product.rows; r++)
        memcpy(y + r * job->y_stride, tile[r], bytes);
}

/* Panels [panel, panel + n) against every tile of the block. */
static void multiply_group(const struct job *job, int64_t panel, int32_t n) {
    const cohort_linear *weight = job->weight;
    void (*multiply)(const cohort_cpu_product *) =
        job->dot ? job->backend->isa.dot->multiply
                 : job->backend->kernels->multiply[weight->dtype];
    int64_t n_whole = weight->n_out / COHORT_CPU_PANEL - panel;
    bool edge = n_whole < n;
    cohort_cpu_product product = {
        .panels = weight->panels + (size_t)panel * weight->panel_bytes +
                  (size_t)(job->k * COHORT_CPU_PANEL) * cohort_cpu_bytes(weight->dtype),
        .panel_bytes = weight->panel_bytes,
        .n_panels = edge ? n - 1 : n,
        .k = job->n_k,
        .c_stride = job->y_stride,
        .add = job->k > 0,
        .n_passes = (int32_t)((job->n_rows + tile_rows(job) - 1) / tile_rows(job)),
    };
    for (int64_t row = 0; row < job->n_rows; row += tile_rows(job), product.pass++) {
        int64_t left = job->n_rows - row;
        product.rows = left < tile_rows(job) ? (int32_t)left : tile_rows(job);
        product.again = row > 0;
        product.x = job->direct ? (const void *)(x_row(job, 0) + job->k)
                                : (const unsigned char *)job->backend->pack +
                                      (size_t)row * packed_bytes(job, job->n_k);
        float *y = job->y + (job->row + row) * job->y_stride;
        product.c = y + panel * COHORT_CPU_PANEL;
        if (product.n_panels) multiply(&product);
        if (!edge) continue;
        cohort_cpu_product last = product;
        last.panels += (size_t)product.n_panels * weight->panel_bytes;
        multiply_edge(job, last, product.c + product.n_panels * COHORT_CPU_PANEL,
                      weight->n_out % COHORT_CPU_PANEL, multiply);
    }
}

static int32_t group_of(const struct job *job) {
    const cohort_cpu_dot *dot = job->backend->isa.dot;
    if (job->dot && dot->packs_whole) return dot->panels;
    int64_t rows = job->n_rows < tile_rows(job) ? job->n_rows : tile_rows(job);
    return job->backend->kernels->group_panels[rows];
}

static void multiply_share(void *context, int32_t thread, int32_t n_threads) {
    const struct job *job = context;
    const cohort_cpu_dot *dot = job->dot ? job->backend->isa.dot : NULL;
    int32_t group = group_of(job);
    cohort_cpu_range share = cohort_cpu_share(job->weight->n_panels, thread, n_threads);
    bool last = job->k + job->n_k == job->weight->n_in;
    if (dot && dot->begin) dot->begin();
    for (int64_t panel = share.begin; panel < share.end; panel += group) {
        int64_t left = share.end - panel;
        int32_t n = left < group ? (int32_t)left : group;
        multiply_group(job, panel, n);
        if (last && (job->bias || job->weight->scales)) finish(job, panel, n);
    }
    if (dot && dot->end) dot->end();
}

/* A block is what is packed together: rows, in whole tiles, and values of k.  A tile of
 * few rows has room for a longer k: fewer blocks. */
static void size_block(const struct job *job, int64_t n_rows, int64_t *rows, int64_t *k) {
    const int64_t tile = tile_rows(job), step = k_step(job), n_in = job->weight->n_in;
    const int64_t most_k = COHORT_CPU_PACK_FLOATS / tile / step * step;
    *rows = COHORT_CPU_BLOCK_ROWS / tile * tile;
    *k = n_rows <= tile ? most_k : COHORT_CPU_BLOCK_K;
    if (!job->dot || !job->backend->isa.dot->packs_whole) return;
    *k = n_in < most_k ? (n_in + step - 1) / step * step : most_k;
    if (*k > 0) *rows = COHORT_CPU_PACK_FLOATS * 2 / *k / tile * tile;
    if (*rows > COHORT_CPU_WHOLE_ROWS) *rows = COHORT_CPU_WHOLE_ROWS;
}

void cohort_cpu_linear_rows(cohort_backend *backend, const cohort_linear *weight,
                            const float *bias, const float *x, int64_t x_stride,
                            const int32_t *ids, float *y, int64_t y_stride,
                            int64_t n_rows) {
    struct job job = {.backend = backend,
                      .weight = weight,
                      .bias = bias,
                      .x = x,
                      .x_stride = x_stride,
                      .ids = ids,
                      .y = y,
                      .y_stride = y_stride};
    job.dot = backend->bf16_activations && weight->dtype == COHORT_BF16;
    int64_t block_rows, block_k;
    size_block(&job, n_rows, &block_rows, &block_k);
    for (; job.row < n_rows; job.row += block_rows) {
        int64_t left = n_rows - job.row;
        job.n_rows = left < block_rows ? left : block_rows;
        job.direct = job.n_rows == 1 && !job.dot;
        int64_t step = job.direct ? weight->n_in : block_k;
        job.k = 0;
        do { /* at least once, so that y is set where n_in is 0 */
            job.n_k = weight->n_in - job.k < step ? weight->n_in - job.k : step;
            if (!job.direct) cohort_pool_run(backend->pool, pack_share, &job);
            cohort_pool_run(backend->pool, multiply_share, &job);
            job.k += job.n_k;
        } while (job.k < weight->n_in);
    }
}

void cohort_cpu_linear(cohort_backend *backend, const cohort_linear *weight,
                       const float *bias, const float *x, int64_t x_stride, float *y,
                       int64_t y_stride, int64_t n_rows) {
    cohort_cpu_linear_rows(backend, weight, bias, x, x_stride, NULL, y, y_stride, n_rows);
}

/* ---- embedding --------------------------------------------------------------------- */

struct lookup {
    const cohort_linear *table;
    const int32_t *ids;
    int64_t n_rows;
    float *y;
};

static void unpack_row(const cohort_linear *table, int64_t row, float *y) {
    const unsigned char *panel =
        table->panels + (size_t)(row / COHORT_CPU_PANEL) * table->panel_bytes;
    int64_t lane = row % COHORT_CPU_PANEL;
    for (int64_t k = 0; k < table->n_in; k++)
        y[k] = load_float(table->dtype, panel, item_of(table->dtype, lane, k));
}

static void lookup_share(void *context, int32_t thread, int32_t n_threads) {
    const struct lookup *lookup = context;
    const cohort_linear *table = lookup->table;
    cohort_cpu_range share = cohort_cpu_share(lookup->n_rows, thread, n_threads);
    for (int64_t i = share.begin; i < share.end; i++) {
        float *y = lookup->y + i * table->n_in;
        if (lookup->ids[i] < 0)
            memset(y, 0, (size_t)table->n_in * sizeof *y);
        else
            unpack_row(table, lookup->ids[i], y);
    }
}

void cohort_cpu_embed(cohort_backend *backend, const cohort_linear *table,
                      const int32_t *ids, int64_t n_rows, float *y) {
    struct lookup lookup = {table, ids, n_rows, y};
    if (n_rows > 1)
        cohort_pool_run(backend->pool, lookup_share, &lookup);
    else
        lookup_share(&lookup, 0, 1);
}
