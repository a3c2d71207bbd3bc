/* SPDX-License-Identifier: Apache-2.0 */
/* model/cpu/cpu_test.h - what the tests of the CPU backend share: a backend for every
 * instruction set of this machine, numbers, and a scalar reference's comparison.
 */
#ifndef COHORT_MODEL_CPU_CPU_TEST_H
#define COHORT_MODEL_CPU_CPU_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/backend.h"

static const char *const isa_names[] = {"portable", "avx2", "avx512", "avx512_bf16",
                                        "amx"};
enum { N_ISAS = 5 };

/* NULL where the machine lacks it. */
static inline cohort_backend *open_backend(const char *isa, int32_t n_threads,
                                           bool bf16_activations) {
    const cohort_cpu_options cpu = {.n_threads = n_threads, .isa = isa};
    const cohort_backend_options options = {.bf16_activations = bf16_activations,
                                            .device = &cpu};
    cohort_backend *backend;
    if (cohort_backend_cpu()->create(&options, &backend) < 0) return NULL;
    return backend;
}

typedef void backend_test(cohort_backend *backend);

/* With one thread and with three. */
static inline void on_every_isa(backend_test *test) {
    for (int i = 0; i < N_ISAS; i++)
        for (int32_t n_threads = 1; n_threads <= 3; n_threads += 2) {
            cohort_backend *backend = open_backend(isa_names[i], n_threads, false);
            if (!backend) continue;
            test(backend);
            cohort_backend_cpu()->destroy(backend);
        }
}

/* Where the processor has those of bf16. */
static inline void on_dot_products(backend_test *test) {
    for (int i = N_ISAS - 2; i < N_ISAS; i++)
        for (int32_t n_threads = 1; n_threads <= 3; n_threads += 2) {
            cohort_backend *backend = open_backend(isa_names[i], n_threads, true);
            if (!backend) continue;
            test(backend);
            cohort_backend_cpu()->destroy(backend);
        }
}

/* A uniform number in (-1, 1); tests are the same every time. */
static inline float noise(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(*state >> 32) * 0x1p-31f;
}

static inline float *noise_floats(int64_t n, uint64_t seed) {
    float *floats = malloc((size_t)(n ? n : 1) * sizeof *floats);
    assert_non_null(floats);
    for (int64_t i = 0; i < n; i++)
        floats[i] = noise(&seed);
    return floats;
}

static inline uint16_t bf16_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float of_bf16(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#define assert_near(actual, expected, tolerance)                               \
    do {                                                                       \
        double near_a = (actual), near_e = (expected), near_t = (tolerance);   \
        if (!(fabs(near_a - near_e) <= near_t))                                \
            fail_msg("%.9g is not within %g of %.9g", near_a, near_t, near_e); \
    } while (0)

#endif /* COHORT_MODEL_CPU_CPU_TEST_H */
