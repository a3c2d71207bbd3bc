/* SPDX-License-Identifier: Apache-2.0 */
/* model/cpu/kernels_impl.h - the text of the kernels; kernels_<isa>.c include it.
 *
 * Written with vectors of 16 floats, which the compiler maps to one AVX-512 register, two
 * of AVX2 or four of SSE.  The includer defines KERNELS (name of the table), ISA (text)
 * and TILE_ROWS (rows of x that share a load of weights: what the registers hold).
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "model/cpu/kernels.h"

typedef float vec __attribute__((vector_size(64)));
typedef int32_t vec_i32 __attribute__((vector_size(64)));
typedef uint32_t vec_u32 __attribute__((vector_size(64)));
typedef uint16_t vec_u16 __attribute__((vector_size(32)));

/* Vectors never cross a call that is not inlined, so their ABI is nobody's concern. */
#pragma GCC diagnostic ignored "-Wpsabi"

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *from) {
    vec value;
    memcpy(&value, from, sizeof value);
    return value;
}

INLINE void store(float *to, vec value) { memcpy(to, &value, sizeof value); }

INLINE vec pick(vec_i32 mask, vec yes, vec no) {
    return (vec)((mask & (vec_i32)yes) | (~mask & (vec_i32)no));
}

INLINE vec splat(float value) { return value - (vec){0}; }

INLINE vec widen_f16(const uint16_t *from);

/* Two steps of k of one panel, as floats. */
INLINE void load_pair(const void *at, cohort_dtype dtype, vec *out_even, vec *out_odd) {
    vec_u32 pair;
    memcpy(&pair, at, sizeof pair);
    if (dtype == COHORT_BF16) {
        *out_even = (vec)(pair << 16);
        *out_odd = (vec)(pair & 0xffff0000u);
        return;
    }
    uint16_t halves[2][16];
    vec_u16 low = __builtin_convertvector(pair, vec_u16);
    vec_u16 high = __builtin_convertvector(pair >> 16, vec_u16);
    memcpy(halves[0], &low, sizeof low);
    memcpy(halves[1], &high, sizeof high);
    *out_even = widen_f16(halves[0]);
    *out_odd = widen_f16(halves[1]);
}

/* R rows of x against P panels; R, P and dtype are constants where this is inlined. */
INLINE void tile(const cohort_product *in, cohort_dtype dtype, int64_t panel, int64_t row,
                 const int R, const int P) {
    vec sum[TILE_ROWS][4];
    const char *weights[4];
    const float *x[TILE_ROWS];
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
        x[r] = in->x + (row + r) * in->x_stride;
#pragma GCC unroll 12
        for (int p = 0; p < P; p++)
            sum[r][p] = (vec){0};
    }
#pragma GCC unroll 12
    for (int p = 0; p < P; p++)
        weights[p] = (const char *)in->panels + (size_t)(panel + p) * in->panel_bytes;
    int64_t pairs = in->n_in / 2;
    const int64_t step = dtype == COHORT_F32 ? 128 : 64;
    for (int64_t k = 0; k < pairs; k++) {
        vec even[4], odd[4];
#pragma GCC unroll 12
        for (int p = 0; p < P; p++) {
            const char *at = weights[p] + k * step;
            if (dtype == COHORT_F32) {
                even[p] = load((const float *)at);
                odd[p] = load((const float *)at + 16);
            } else {
                load_pair(at, dtype, &even[p], &odd[p]);
            }
        }
#pragma GCC unroll 12
        for (int r = 0; r < R; r++)
#pragma GCC unroll 12
            for (int p = 0; p < P; p++)
                sum[r][p] += x[r][2 * k] * even[p];
#pragma GCC unroll 12
        for (int r = 0; r < R; r++)
#pragma GCC unroll 12
            for (int p = 0; p < P; p++)
                sum[r][p] += x[r][2 * k + 1] * odd[p];
    }
    if (in->n_in % 2)
#pragma GCC unroll 12
        for (int p = 0; p < P; p++) {
            vec last, none;
            const char *at = weights[p] + pairs * step;
            if (dtype == COHORT_F32)
                last = load((const float *)at);
            else
                load_pair(at, dtype, &last, &none);
#pragma GCC unroll 12
            for (int r = 0; r < R; r++)
                sum[r][p] += x[r][in->n_in - 1] * last;
        }
#pragma GCC unroll 12
    for (int p = 0; p < P; p++) {
        int64_t first = (panel + p) * COHORT_PANEL;
        int64_t n = in->n_out - first < COHORT_PANEL ? in->n_out - first : COHORT_PANEL;
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) {
            float *y = in->y + (row + r) * in->y_stride + first;
            if (n == COHORT_PANEL) {
                store(y, in->bias ? sum[r][p] + load(in->bias + first) : sum[r][p]);
            } else {
                for (int64_t i = 0; i < n; i++)
                    y[i] = sum[r][p][i] + (in->bias ? in->bias[first + i] : 0.0f);
            }
        }
    }
}

/* Few rows read each weight once, in wide strides; many rows reuse what they loaded. */
INLINE void product_of(const cohort_product *in, cohort_dtype dtype) {
    int64_t panel = 0;
    if (in->n_rows < TILE_ROWS) {
        for (; panel + 4 <= in->n_panels; panel += 4)
            for (int64_t row = 0; row < in->n_rows; row++)
                tile(in, dtype, panel, row, 1, 4);
        for (; panel < in->n_panels; panel++)
            for (int64_t row = 0; row < in->n_rows; row++)
                tile(in, dtype, panel, row, 1, 1);
        return;
    }
    for (; panel + 2 <= in->n_panels; panel += 2) {
        int64_t row = 0;
        for (; row + TILE_ROWS <= in->n_rows; row += TILE_ROWS)
            tile(in, dtype, panel, row, TILE_ROWS, 2);
        for (; row < in->n_rows; row++)
            tile(in, dtype, panel, row, 1, 2);
    }
    for (; panel < in->n_panels; panel++)
        for (int64_t row = 0; row < in->n_rows; row++)
            tile(in, dtype, panel, row, 1, 1);
}

static void product(const cohort_product *in) {
    if (in->dtype == COHORT_F32)
        product_of(in, COHORT_F32);
    else if (in->dtype == COHORT_BF16)
        product_of(in, COHORT_BF16);
    else
        product_of(in, COHORT_F16);
}

/* e^x to about 1 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, and a polynomial of degree 6 for
 * e^r (Cephes' coefficients). */
INLINE vec exp_of(vec x) {
    const vec low = splat(-87.0f), high = splat(88.0f);
    x = pick(x < low, low, x);
    x = pick(x > high, high, x);
    vec shifted = x * 1.44269504088896341f + 12582912.0f; /* 1.5 * 2^23: rounds */
    vec n = shifted - 12582912.0f;
    vec r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    vec y = splat(1.9875691500e-4f);
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * (r * r) + r + 1.0f;
    return y * (vec)((__builtin_convertvector(n, vec_i32) + 127) << 23);
}

INLINE float sum_of(vec value) {
    float sum = 0;
    for (int i = 0; i < 16; i++)
        sum += value[i];
    return sum;
}

INLINE float max_of(vec value) {
    float most = value[0];
    for (int i = 1; i < 16; i++)
        most = value[i] > most ? value[i] : most;
    return most;
}

/* scores of 16 tokens; k is [head_dim][16] */
INLINE vec score(const float *q, const void *k, cohort_dtype dtype, int32_t head_dim) {
    vec sum = {0};
    for (int32_t d = 0; d < head_dim; d++) {
        vec row;
        if (dtype == COHORT_F32) {
            row = load((const float *)k + d * 16);
        } else {
            vec_u16 half;
            memcpy(&half, (const uint16_t *)k + d * 16, sizeof half);
            row = (vec)(__builtin_convertvector(half, vec_u32) << 16);
        }
        sum += q[d] * row;
    }
    return sum;
}

/* out[head_dim] += weights of 16 tokens times v[16][head_dim] */
INLINE void mix(float *out, vec weights, const void *v, cohort_dtype dtype,
                int32_t head_dim, int32_t n) {
    for (int32_t t = 0; t < n; t++) {
        float weight = weights[t];
        if (dtype == COHORT_F32) {
            const float *row = (const float *)v + t * head_dim;
            for (int32_t d = 0; d < head_dim; d++)
                out[d] += weight * row[d];
        } else {
            const uint16_t *row = (const uint16_t *)v + t * head_dim;
            for (int32_t d = 0; d < head_dim; d++)
                out[d] += weight * cohort_from_bf16(row[d]);
        }
    }
}

/* One row and head meets 16 tokens from position `token`; state is {max, sum, out...}. */
INLINE void meet(const cohort_attend *in, cohort_dtype dtype, const float *q,
                 float *state, const void *k, const void *v, int32_t token,
                 int32_t position) {
    int32_t first = in->sliding_window > 0 ? position - in->sliding_window + 1 : 0;
    if (token > position || token + COHORT_PANEL <= first) return;
    vec scores = score(q, k, dtype, in->head_dim) * in->scale;
    int32_t n = position - token + 1 < COHORT_PANEL ? position - token + 1 : COHORT_PANEL;
    for (int32_t t = 0; t < COHORT_PANEL; t++)
        if (t >= n || token + t < first) scores[t] = -FLT_MAX;
    float most = max_of(scores);
    if (most > state[0]) {
        float shrink = exp_of(splat(state[0] - most))[0];
        state[0] = most;
        state[1] *= shrink;
        for (int32_t d = 0; d < in->head_dim; d++)
            state[2 + d] *= shrink;
    }
    vec weights = exp_of(scores - state[0]);
    for (int32_t t = 0; t < COHORT_PANEL; t++)
        if (t >= n || token + t < first) weights[t] = 0;
    state[1] += sum_of(weights);
    mix(state + 2, weights, v, dtype, in->head_dim, n);
}

INLINE void attend_of(const cohort_attend *in, cohort_dtype dtype) {
    const size_t item = dtype == COHORT_F32 ? 4 : 2;
    const int32_t state_floats = in->head_dim + 2;
    for (int32_t i = 0; i < in->n_rows * in->n_heads; i++) {
        float *state = in->scratch + i * state_floats;
        memset(state, 0, sizeof(float) * (size_t)state_floats);
        state[0] = -FLT_MAX;
    }
    int32_t end = in->first_position + in->n_rows;
    int32_t begin = 0;
    if (in->sliding_window > 0 && in->first_position >= in->sliding_window)
        begin =
            (in->first_position - in->sliding_window + 1) / COHORT_PANEL * COHORT_PANEL;
    for (int32_t token = begin; token < end; token += COHORT_PANEL) {
        size_t block = (size_t)in->block_table[token / in->block_size];
        size_t at = block * in->block_stride_bytes +
                    (size_t)(token % in->block_size) * (size_t)in->head_dim * item;
        const void *k = (const char *)in->k + at, *v = (const char *)in->v + at;
        for (int32_t r = 0; r < in->n_rows; r++)
            for (int32_t h = 0; h < in->n_heads; h++)
                meet(in, dtype, in->q + r * in->q_stride + h * in->head_dim,
                     in->scratch + (r * in->n_heads + h) * state_floats, k, v, token,
                     in->first_position + r);
    }
    for (int32_t r = 0; r < in->n_rows; r++)
        for (int32_t h = 0; h < in->n_heads; h++) {
            const float *state = in->scratch + (r * in->n_heads + h) * state_floats;
            float *out = in->out + r * in->out_stride + h * in->head_dim;
            for (int32_t d = 0; d < in->head_dim; d++)
                out[d] = state[2 + d] / state[1];
        }
}

static void attend(const cohort_attend *in) {
    if (in->dtype == COHORT_F32)
        attend_of(in, COHORT_F32);
    else
        attend_of(in, COHORT_BF16);
}

INLINE vec activated(cohort_activation activation, vec x) {
    vec none = {0};
    if (activation == COHORT_RELU) return pick(x > none, x, none);
    if (activation == COHORT_SILU) return x / (1.0f + exp_of(-x));
    for (int i = 0; i < 16; i++)
        x[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
    return x;
}

static void activate(cohort_activation activation, bool gated, const float *x, float *y,
                     int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
        size_t bytes = sizeof(float) * (size_t)(n - i < 16 ? n - i : 16);
        vec value = {0}, factor = {0};
        memcpy(&value, x + i, bytes);
        value = activated(activation, value);
        if (gated) {
            memcpy(&factor, x + n + i, bytes);
            value *= factor;
        }
        memcpy(y + i, &value, bytes);
    }
}

static void rms_norm(const float *x, const float *weight, float eps, float *y,
                     int64_t n) {
    vec squares = {0};
    float sum = 0;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        squares += load(x + i) * load(x + i);
    for (; i < n; i++)
        sum += x[i] * x[i];
    float scale = 1.0f / sqrtf((sum + sum_of(squares)) / (float)n + eps);
    for (i = 0; i < n; i++)
        y[i] = x[i] * scale * weight[i];
}

static void layer_norm(const float *x, const float *weight, const float *bias, float eps,
                       float *y, int64_t n) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    double mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    double scale = 1.0 / sqrt(squares / (double)n + eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)((x[i] - mean) * scale) * weight[i] + bias[i];
}

const cohort_kernels KERNELS = {ISA, product, attend, activate, rms_norm, layer_norm};
