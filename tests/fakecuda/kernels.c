/* SPDX-License-Identifier: Apache-2.0 */
/* What each kernel computes, in plain loops; model/cuda/kernels/params.h says it in
 * words. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "fakecuda.h"
#include "model/cpu/logits.h"
#include "model/cuda/kernels/params.h"

/* ---- numbers ----------------------------------------------------------------------- */

static float widen(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint16_t narrow(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (isnan(value)) return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

__extension__ typedef _Float16 f16;

static float from_f16(uint16_t half) {
    f16 value;
    memcpy(&value, &half, sizeof value);
    return (float)value;
}

static int64_t packed_index(int64_t row, int64_t column, int64_t n_steps) {
    int64_t in = column % 32, half = in / 16, pair = in % 16 / 8;
    int64_t lane = row % 8 * 4 + in % 8 / 2, reg = pair * 2 + row % 16 / 8;
    int64_t step = row / 16 * n_steps + column / 32;
    return ((step * 2 + half) * 32 + lane) * 8 + reg * 2 + (in & 1);
}

/* ---- rows -------------------------------------------------------------------------- */

static void embed(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_embed_params *p = params;
    for (unsigned row = 0; row < config->gridDimX; row++)
        for (int32_t i = 0; i < p->width; i++) {
            int32_t id = p->ids[row] + p->shift;
            float value = 0;
            if (id >= 0 && id < p->n_ids && p->is_bf16)
                value =
                    widen(((const uint16_t *)p->table)[packed_index(id, i, p->n_steps)]);
            else if (id >= 0 && id < p->n_ids)
                value = ((const float *)p->table)[(int64_t)id * p->width + i];
            p->y[(int64_t)row * p->width + i] = value;
        }
}

static void norm_rows(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_norm_params *p = params;
    for (unsigned row = 0; row < config->gridDimX; row++) {
        const float *x = p->x + row * p->x_stride;
        double mean = 0, squares = 0, scale = 1;
        for (int32_t i = 0; p->weight && p->centred && i < p->n_columns; i++)
            mean += (double)x[i] / p->n_columns;
        for (int32_t i = 0; p->weight && i < p->n_columns; i++)
            squares += ((double)x[i] - mean) * ((double)x[i] - mean);
        if (p->weight) scale = 1 / sqrt(squares / p->n_columns + (double)p->eps);
        int64_t columns = p->narrow ? p->narrow_stride : p->n_columns;
        for (int64_t i = 0; i < columns; i++) {
            double value = i < p->n_columns ? (double)x[i] : 0;
            if (p->weight && i < p->n_columns)
                value = (value - mean) * scale * (double)p->weight[i] +
                        (p->bias ? (double)p->bias[i] : 0);
            if (p->narrow) p->narrow[row * p->narrow_stride + i] = narrow((float)value);
            if (p->y && i < p->n_columns) p->y[row * p->y_stride + i] = (float)value;
        }
    }
}

static void linear_f32(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_linear_f32_params *p = params;
    (void)config;
    for (int64_t row = 0; row < p->n_rows; row++)
        for (int64_t out = 0; out < p->n_out; out++) {
            float sum = p->bias ? p->bias[out] : 0;
            for (int64_t i = 0; i < p->n_in; i++)
                sum += p->x[row * p->x_stride + i] * p->weights[out * p->n_in + i];
            float *y = p->y + row * p->y_stride + out;
            *y = p->adds ? *y + sum : sum;
        }
}

static void add(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_add_params *p = params;
    (void)config;
    for (int64_t i = 0; i < p->count; i++)
        p->y[i] += p->x[i];
}

static void widen_rows(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_widen_params *p = params;
    (void)config;
    for (int64_t i = 0; i < p->count; i++)
        p->y[i] = widen(p->x[i]);
}

static void activate(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_activate_params *p = params;
    (void)config;
    for (int64_t row = 0; row < p->n_rows; row++)
        for (int64_t i = 0; i < p->n; i++) {
            const float *x = p->x + row * p->n * (p->gated ? 2 : 1);
            float v = x[i];
            v = p->activation == 0   ? v / (1 + expf(-v))
                : p->activation == 1 ? fmaxf(v, 0)
                                     : 0.5F * v * (1 + erff(v * 0.70710678F));
            p->y[row * p->n + i] = p->gated ? v * x[p->n + i] : v;
        }
}

static void take(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_take_params *p = params;
    for (unsigned row = 0; row < config->gridDimY; row++)
        memcpy(p->y + row * p->n_columns, p->x + p->rows[row] * p->n_columns,
               (size_t)p->n_columns * sizeof *p->y);
}

static void pack(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_pack_params *p = params;
    (void)config;
    for (int64_t r = 0; r < p->n_rows; r++)
        for (int64_t i = 0; i < p->n_columns; i++) {
            int64_t at = r * p->n_columns + i, row = p->row_begin + r;
            float value = p->dtype == 0   ? ((const float *)p->from)[at]
                          : p->dtype == 1 ? widen(((const uint16_t *)p->from)[at])
                                          : from_f16(((const uint16_t *)p->from)[at]);
            if (p->rounds_f16) value = (float)(f16)value;
            if (p->is_bf16)
                ((uint16_t *)p->to)[packed_index(row, i, p->n_steps)] = narrow(value);
            else
                ((float *)p->to)[row * p->n_columns + i] = value;
        }
}

/* ---- products ---------------------------------------------------------------------- */

/* Row `row`'s product with output `out`, scaled, with bias. */
static float product(const cohort_cuda_linear_params *p, int32_t row, int32_t out) {
    const uint16_t *weights = p->weights;
    double squares = 0, sum = 0;
    for (int32_t i = 0; p->squares && i < p->n_squares; i++)
        squares += (double)p->squares[(int64_t)row * p->n_squares + i];
    for (int32_t i = 0; i < p->n_steps * COHORT_CUDA_STEP; i++)
        sum += (double)widen(weights[packed_index(out, i, p->n_steps)]) *
               (double)widen(p->x[(int64_t)row * p->x_stride + i]);
    if (p->squares) sum /= sqrt(squares / p->norm_width + (double)p->norm_eps);
    return (float)sum + (p->bias ? p->bias[out] : 0);
}

static void linear_store(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_linear_params *p = params;
    (void)config;
    for (int32_t row = 0; row < p->n_rows; row++)
        for (int32_t out = 0; out < p->n_out; out++)
            p->y[(int64_t)row * p->y_stride + out] = product(p, row, out);
}

static void linear_activate(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_linear_params *p = params;
    (void)config;
    for (int32_t row = 0; row < p->n_rows; row++)
        for (int32_t i = 0; i < p->n_out / 2; i++) {
            float gate = product(p, row, i), up = product(p, row, p->n_out / 2 + i);
            p->narrow[(int64_t)row * p->y_stride + i] =
                narrow(gate / (1 + expf(-gate)) * up);
        }
}

static void add_to_residual(const cohort_cuda_linear_params *p, int32_t n_squares,
                            int32_t each) {
    for (int32_t row = 0; row < p->n_rows; row++) {
        float *squares = p->next_squares + (int64_t)row * n_squares;
        memset(squares, 0, (size_t)n_squares * sizeof *squares);
        for (int32_t out = 0; out < p->n_out; out++) {
            int64_t at = (int64_t)row * p->y_stride + out;
            float now = p->y[at] + product(p, row, out);
            p->y[at] = now;
            p->narrow[at] = narrow(p->next_norm ? now * p->next_norm[out] : now);
            squares[out / each] += now * now;
        }
    }
}

static void linear_residual(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_linear_params *p = params;
    (void)config;
    add_to_residual(p, p->n_tiles, COHORT_CUDA_TILE);
}

/* The product of prompt_*; what is kept of its parameters is not aligned as they are. */
static cohort_cuda_linear_params product_of(const void *params) {
    cohort_cuda_prompt_params whole;
    memcpy(&whole, params, sizeof whole);
    return whole.of;
}

static void prompt_store(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_linear_params p = product_of(params);
    linear_store(&p, config);
}
static void prompt_activate(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_linear_params p = product_of(params);
    linear_activate(&p, config);
}

/* A CTA's outputs have one sum of squares; its shared memory says how many they are. */
static void prompt_residual(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_linear_params of = product_of(params), *p = &of;
    int32_t blocks = (p->n_rows + COHORT_CUDA_PROMPT_ROWS - 1) / COHORT_CUDA_PROMPT_ROWS;
    bool wide = config->sharedMemBytes >
                COHORT_CUDA_PROMPT_SHARED(COHORT_CUDA_PROMPT_STAGES_128, 128);
    int32_t each = wide ? 256 : 128;
    if ((int32_t)config->gridDimX != blocks * p->n_next_squares ||
        p->n_next_squares != (p->n_out + each - 1) / each)
        abort();
    add_to_residual(p, p->n_next_squares, each);
}

/* ---- the cache --------------------------------------------------------------------- */

static int64_t cache_index(const cohort_cuda_cache *c, int row, int head, int value,
                           int token, int dim) {
    int64_t block = c->block_tables[(int64_t)c->sequences[row] * c->table_stride +
                                    token / c->block_size];
    int in = token % c->block_size, at = in % 16;
    int64_t tile = block * c->tiles_of_block + in / 16;
    int64_t first = ((tile * c->n_kv_heads + head) * 2 + value) * 16 * c->head_dim;
    if (!c->packed) return first + at * c->head_dim + dim;
    if (!value) return first + packed_index(at, dim, c->head_dim / 32);
    int reg = dim % 16 / 8 + at / 8 * 2, lane = dim % 8 * 4 + at % 8 / 2;
    return first + (dim / 16 * 32 + lane) * 8 + reg * 2 + at % 2;
}

static float cached(const cohort_cuda_cache *c, int64_t at) {
    return c->is_bf16 ? widen(((const uint16_t *)c->tiles)[at])
                      : ((const float *)c->tiles)[at];
}

static void put(const cohort_cuda_cache *c, int64_t at, float value) {
    if (c->is_bf16)
        ((uint16_t *)c->tiles)[at] = narrow(value);
    else
        ((float *)c->tiles)[at] = value;
}

/* A head of x, normalised and turned, into y; x may be y. */
static void turn(const cohort_cuda_attention_params *p, const float *x, const float *norm,
                 int position, float *y) {
    int dim = p->cache.head_dim, half = dim / 2;
    double squares = 0, scale = 1;
    for (int i = 0; norm && i < dim; i++)
        squares += (double)x[i] * (double)x[i];
    if (norm) scale = 1 / sqrt(squares / dim + (double)p->norm_eps);
    for (int i = 0; i < half; i++) {
        double low = (double)x[i] * scale * (norm ? (double)norm[i] : 1);
        double high = (double)x[half + i] * scale * (norm ? (double)norm[half + i] : 1);
        int64_t at = (int64_t)position * half + i;
        double c = p->cos ? (double)p->cos[at] : 1, s = p->cos ? (double)p->sin[at] : 0;
        y[i] = (float)(low * c - high * s), y[half + i] = (float)(high * c + low * s);
    }
}

static void rotate(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_attention_params *p = params;
    const cohort_cuda_cache *c = &p->cache;
    for (unsigned row = 0; row < config->gridDimY; row++)
        for (int head = 0; head < c->n_heads + c->n_kv_heads; head++) {
            if (c->positions[row] < 0) break;
            float *x =
                (float *)p->qkv + (int64_t)row * p->qkv_stride + head * c->head_dim;
            turn(p, x, head < c->n_heads ? p->q_norm : p->k_norm, c->positions[row], x);
        }
}

static void store_row(const cohort_cuda_attention_params *p, unsigned row, bool raw) {
    const cohort_cuda_cache *c = &p->cache;
    for (int head = 0; head < c->n_kv_heads && c->positions[row] >= 0; head++) {
        const float *key =
            p->qkv + (int64_t)row * p->qkv_stride + (c->n_heads + head) * c->head_dim;
        const float *value = key + c->n_kv_heads * c->head_dim;
        float turned[1024];
        int position = c->positions[row];
        memcpy(turned, key, (size_t)c->head_dim * sizeof *turned);
        if (raw) turn(p, key, p->k_norm, position, turned);
        for (int i = 0; i < c->head_dim; i++) {
            put(c, cache_index(c, (int)row, head, 0, position, i), turned[i]);
            put(c, cache_index(c, (int)row, head, 1, position, i), value[i]);
        }
    }
}

static void store(const void *params, const CUlaunchConfig *config) {
    for (unsigned row = 0; row < config->gridDimY; row++)
        store_row(params, row, false);
}

/* What query head `head` of a row sees, into out[head_dim]. */
static void see(const cohort_cuda_attention_params *p, unsigned row, int head,
                const float *query, float *out) {
    const cohort_cuda_cache *c = &p->cache;
    int kv_head = head / (c->n_heads / c->n_kv_heads), position = c->positions[row];
    int window = p->sliding_window;
    int from = window && position >= window ? position - window + 1 : 0;
    double most = -INFINITY, mass = 0, sums[1024] = {0};
    double *scores = malloc((size_t)(position + 1) * sizeof *scores);
    for (int t = from; t <= position; t++) {
        scores[t] = 0;
        for (int i = 0; i < c->head_dim; i++)
            scores[t] += (double)query[i] *
                         (double)cached(c, cache_index(c, (int)row, kv_head, 0, t, i));
        scores[t] *= (double)p->scale;
        most = fmax(most, scores[t]);
    }
    for (int t = from; t <= position; t++) {
        double share = exp(scores[t] - most);
        mass += share;
        for (int i = 0; i < c->head_dim; i++)
            sums[i] +=
                share * (double)cached(c, cache_index(c, (int)row, kv_head, 1, t, i));
    }
    for (int i = 0; i < c->head_dim; i++)
        out[i] = (float)(sums[i] / mass);
    free(scores);
}

static void attend(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_attention_params *p = params;
    const cohort_cuda_cache *c = &p->cache;
    for (unsigned row = 0; row < config->gridDimY; row++)
        for (int head = 0; head < c->n_heads; head++) {
            if (c->positions[row] < 0) break;
            int64_t at = ((int64_t)row * c->n_heads + head) * c->head_dim;
            see(p, row, head, p->qkv + (int64_t)row * p->qkv_stride + head * c->head_dim,
                p->out + at);
        }
}

/* Queries are rounded to bf16, as the tensor cores take them. */
static void see_all(const cohort_cuda_attention_params *p, unsigned row) {
    const cohort_cuda_cache *c = &p->cache;
    for (int head = 0; head < c->n_heads; head++) {
        const float *x = p->qkv + (int64_t)row * p->qkv_stride + head * c->head_dim;
        float query[128], out[128];
        memcpy(query, x, (size_t)c->head_dim * sizeof *query);
        if (p->raw) turn(p, x, p->q_norm, c->positions[row], query);
        for (int i = 0; i < c->head_dim; i++)
            query[i] = widen(narrow(query[i]));
        see(p, row, head, query, out);
        for (int i = 0; i < c->head_dim; i++)
            p->narrow[((int64_t)row * c->n_heads + head) * c->head_dim + i] =
                narrow(out[i]);
    }
}

static void attention(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_attention_params *p = params;
    for (unsigned row = 0; row < config->gridDimZ; row++) {
        if (p->cache.positions[row] < 0) continue;
        if (p->raw) store_row(p, row, true);
        see_all(p, row);
    }
}

static void prompt_cache(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_attention_params *p = params;
    if ((int64_t)config->gridDimX * 8 < (int64_t)p->n_rows * p->cache.n_kv_heads) abort();
    for (int32_t i = 0; i < p->n_rows; i++)
        store_row(p, (unsigned)(p->first_row + i), true);
}

static void prompt_attention(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_attention_params *p = params;
    int group = p->cache.n_heads / p->cache.n_kv_heads;
    if ((int64_t)config->gridDimY * (COHORT_CUDA_PROMPT_COLUMNS / group) < p->n_rows)
        abort();
    for (int32_t i = 0; i < p->n_rows; i++)
        see_all(p, (unsigned)(p->first_row + i));
}

/* ---- sampling ---------------------------------------------------------------------- */

struct candidate {
    float logit;
    int32_t id;
    uint64_t mass;
};

/* Likelier first; of equals, the lower id. */
static int by_likelihood(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id - y->id;
}

static int by_id(const void *a, const void *b) {
    return ((const struct candidate *)a)->id - ((const struct candidate *)b)->id;
}

__extension__ typedef unsigned __int128 wide;

/* Of n, likeliest first: how many top-k, min-p and top-p let pass. */
static int32_t passing(const cohort_cuda_draw *how, const struct candidate *all,
                       int32_t n) {
    int32_t k = how->top_k;
    if (k > 0 && k < n) {
        while (k < n && all[k].logit == all[k - 1].logit)
            k++;
        n = k;
    }
    while (how->min_mass && n > 1 && all[n - 1].mass < how->min_mass)
        n--;
    if (how->top_p_parts >> 40) return n;
    uint64_t total = 0, sum = 0;
    for (int32_t i = 0; i < n; i++)
        total += all[i].mass;
    wide wanted = ((wide)how->top_p_parts * total + ((wide)1 << 40) - 1) >> 40;
    k = 0;
    do
        sum += all[k++].mass;
    while (k < n && sum < (uint64_t)wanted);
    return k;
}

static int32_t draw(const cohort_cuda_draw *how, const float *logits, int32_t n_logits) {
    struct candidate *all = malloc((size_t)n_logits * sizeof *all);
    int32_t n = 0, token = -1;
    for (int32_t i = 0; i < n_logits; i++)
        if (logits[i] > -INFINITY)
            all[n++] = (struct candidate){.logit = logits[i], .id = i};
    qsort(all, (size_t)n, sizeof *all, by_likelihood);
    if (n > 0 && !isinf(all[0].logit)) token = all[0].id;
    if (token >= 0 && how->steepness > 0) {
        const cohort_cpu_mass at = {all[0].logit, how->steepness};
        uint64_t total = 0, left;
        for (int32_t i = 0; i < n; i++)
            all[i].mass = cohort_cpu_mass_of(at, all[i].logit);
        n = passing(how, all, n);
        for (int32_t i = 0; i < n; i++)
            total += all[i].mass;
        qsort(all, (size_t)n, sizeof *all, by_id);
        left = (uint64_t)((wide)how->number * total >> 64);
        int32_t i = 0;
        while (left >= all[i].mass)
            left -= all[i++].mass;
        token = all[i].id;
    }
    free(all);
    return token;
}

static void sample(const void *params, const CUlaunchConfig *config) {
    const cohort_cuda_sample_params *p = params;
    for (unsigned row = 0; row < config->gridDimY; row++)
        if (p->rows[row].is_wanted)
            p->tokens[row] =
                draw(&p->rows[row], p->logits + (int64_t)row * p->n_logits, p->n_logits);
}

fake_kernel fake_kernel_find(const char *name, size_t *out_bytes) {
    static const struct {
        const char *name; /* its beginning */
        fake_kernel run;
        size_t bytes;
    } all[] = {
        {"embed", embed, sizeof(cohort_cuda_embed_params)},
        {"norm_rows", norm_rows, sizeof(cohort_cuda_norm_params)},
        {"linear_f32", linear_f32, sizeof(cohort_cuda_linear_f32_params)},
        {"linear_store_", linear_store, sizeof(cohort_cuda_linear_params)},
        {"linear_activate_", linear_activate, sizeof(cohort_cuda_linear_params)},
        {"linear_residual_", linear_residual, sizeof(cohort_cuda_linear_params)},
        {"prompt_store_", prompt_store, sizeof(cohort_cuda_prompt_params)},
        {"prompt_activate_", prompt_activate, sizeof(cohort_cuda_prompt_params)},
        {"prompt_residual_", prompt_residual, sizeof(cohort_cuda_prompt_params)},
        {"prompt_cache_", prompt_cache, sizeof(cohort_cuda_attention_params)},
        {"prompt_attention_", prompt_attention, sizeof(cohort_cuda_attention_params)},
        {"add", add, sizeof(cohort_cuda_add_params)},
        {"widen_rows", widen_rows, sizeof(cohort_cuda_widen_params)},
        {"activate", activate, sizeof(cohort_cuda_activate_params)},
        {"take", take, sizeof(cohort_cuda_take_params)},
        {"pack", pack, sizeof(cohort_cuda_pack_params)},
        {"rotate", rotate, sizeof(cohort_cuda_attention_params)},
        {"store", store, sizeof(cohort_cuda_attention_params)},
        {"attend", attend, sizeof(cohort_cuda_attention_params)},
        {"attention_", attention, sizeof(cohort_cuda_attention_params)},
        {"sample", sample, sizeof(cohort_cuda_sample_params)},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strncmp(name, all[i].name, strlen(all[i].name)) == 0) {
            *out_bytes = all[i].bytes;
            return all[i].run;
        }
    return NULL;
}
