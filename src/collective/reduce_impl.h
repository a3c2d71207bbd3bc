/* SPDX-License-Identifier: Apache-2.0 */
/* collective/reduce_impl.h - the text of the reducers; reduce_<isa>.c include it.
 *
 * Vectors of 16 elements, which the compiler maps to one AVX-512 register, two of AVX2 or
 * four of SSE.  The includer defines REDUCERS (name of the table) and ISA (text).
 */
#include <string.h>

#include "collective/reduce.h"

typedef float vec_f32 __attribute__((vector_size(64)));
typedef int32_t vec_i32 __attribute__((vector_size(64)));
typedef uint32_t vec_u32 __attribute__((vector_size(64)));
typedef uint16_t vec_u16 __attribute__((vector_size(32)));

/* Vectors never cross a call that is not inlined, so their ABI is nobody's concern. */
#pragma GCC diagnostic ignored "-Wpsabi"

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };

INLINE vec_u32 load_32(const void *from, size_t i) {
    vec_u32 value;
    memcpy(&value, (const uint8_t *)from + 4 * i, sizeof value);
    return value;
}

INLINE vec_f32 load_bf16(const void *from, size_t i) {
    vec_u16 bits;
    memcpy(&bits, (const uint8_t *)from + 2 * i, sizeof bits);
    return (vec_f32)(__builtin_convertvector(bits, vec_u32) << 16);
}

/* Rounds to nearest, ties to even; a NaN stays one. */
INLINE void store_bf16(void *to, size_t i, vec_f32 value) {
    vec_u32 word = (vec_u32)value;
    vec_u32 rounded = (word + 0x7fff + ((word >> 16) & 1)) >> 16;
    vec_u32 is_nan = (vec_u32)((vec_i32)(word & 0x7fffffff) > (int32_t)0x7f800000);
    vec_u32 bits = (rounded & ~is_nan) | (0x7fc0 & is_nan);
    vec_u16 narrow = __builtin_convertvector(bits, vec_u16);
    memcpy((uint8_t *)to + 2 * i, &narrow, sizeof narrow);
}

INLINE vec_f32 add_f32(vec_f32 a, vec_f32 b, cohort_reduce_op op) {
    if (op == COHORT_SUM) return a + b;
    vec_i32 greater = b > a;
    return (vec_f32)(((vec_i32)b & greater) | ((vec_i32)a & ~greater));
}

INLINE vec_i32 add_i32(vec_i32 a, vec_i32 b, cohort_reduce_op op) {
    if (op == COHORT_SUM) return (vec_i32)((vec_u32)a + (vec_u32)b); /* wraps */
    vec_i32 greater = b > a;
    return (b & greater) | (a & ~greater);
}

/* One vector of each type; n_parts and op are constants where this is inlined. */
INLINE void one_f32(void *out, const void *const *parts, int32_t n_parts, size_t i,
                    cohort_reduce_op op) {
    vec_f32 sum = (vec_f32)load_32(parts[0], i);
    for (int32_t p = 1; p < n_parts; p++)
        sum = add_f32(sum, (vec_f32)load_32(parts[p], i), op);
    memcpy((uint8_t *)out + 4 * i, &sum, sizeof sum);
}

INLINE void one_bf16(void *out, const void *const *parts, int32_t n_parts, size_t i,
                     cohort_reduce_op op) {
    vec_f32 sum = load_bf16(parts[0], i);
    for (int32_t p = 1; p < n_parts; p++)
        sum = add_f32(sum, load_bf16(parts[p], i), op);
    store_bf16(out, i, sum);
}

INLINE void one_i32(void *out, const void *const *parts, int32_t n_parts, size_t i,
                    cohort_reduce_op op) {
    vec_i32 sum = (vec_i32)load_32(parts[0], i);
    for (int32_t p = 1; p < n_parts; p++)
        sum = add_i32(sum, (vec_i32)load_32(parts[p], i), op);
    memcpy((uint8_t *)out + 4 * i, &sum, sizeof sum);
}

typedef void (*one_vector)(void *out, const void *const *parts, int32_t n_parts, size_t i,
                           cohort_reduce_op op);

/* The last, incomplete vector goes through a full one of copies: the same instructions.
 */
INLINE void tail(one_vector one, size_t item, void *out, const void *const *parts,
                 int32_t n_parts, size_t i, size_t n, cohort_reduce_op op) {
    /* Two at a time, so that no number of parts needs memory: sum op next. */
    _Alignas(64) uint8_t sum[64] = {0}, next[64] = {0};
    size_t bytes = (n - i) * item;
    memcpy(sum, (const uint8_t *)parts[0] + i * item, bytes);
    if (item == 4) {
        const void *const pair[] = {sum, next};
        for (int32_t p = 1; p < n_parts; p++) {
            memcpy(next, (const uint8_t *)parts[p] + i * item, bytes);
            one(sum, pair, 2, 0, op);
        }
    } else { /* bf16 is rounded once, after the last */
        vec_f32 total = load_bf16(sum, 0);
        for (int32_t p = 1; p < n_parts; p++) {
            memcpy(next, (const uint8_t *)parts[p] + i * item, bytes);
            total = add_f32(total, load_bf16(next, 0), op);
        }
        store_bf16(sum, 0, total);
    }
    memcpy((uint8_t *)out + i * item, sum, bytes);
}

INLINE void all(one_vector one, size_t item, void *out, const void *const *parts,
                int32_t n_parts, size_t n, cohort_reduce_op op) {
    size_t i = 0;
    if (n_parts == 2) /* the commonest group, with nothing left to loop over inside */
        for (const void *const pair[] = {parts[0], parts[1]}; i + LANES <= n; i += LANES)
            one(out, pair, 2, i, op);
    else
        for (; i + LANES <= n; i += LANES)
            one(out, parts, n_parts, i, op);
    if (i < n) tail(one, item, out, parts, n_parts, i, n, op);
}

#define DEFINE(name, one, item)                                                      \
    static void name(void *out, const void *const *parts, int32_t n_parts, size_t n, \
                     cohort_reduce_op op) {                                          \
        if (op == COHORT_SUM)                                                        \
            all(one, item, out, parts, n_parts, n, COHORT_SUM);                      \
        else                                                                         \
            all(one, item, out, parts, n_parts, n, COHORT_MAX);                      \
    }

DEFINE(reduce_f32, one_f32, 4)
DEFINE(reduce_bf16, one_bf16, 2)
DEFINE(reduce_i32, one_i32, 4)

const cohort_reducers REDUCERS = {
    .isa = ISA, .f32 = reduce_f32, .bf16 = reduce_bf16, .i32 = reduce_i32};
