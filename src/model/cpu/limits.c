/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>

#include "cohort/clock.h"
#include "model/cpu/cpu_internal.h"

/* What the backend's threads reach at most, for a profile to be held against: all of them
 * at once, and all ranks that are asked at the same time.  The best of some trials
 * counts: others may use the processor, too. */

enum {
    READ_TRIALS = 5,
    READ_PIECE = 1 << 14, /* floats; it is only read, so this is no cache's size */
    PEAK_TRIALS = 256,
    PEAK_TURNS = 32,
    PEAK_K = 128,
    PEAK_PANELS = 2
};
static const size_t READ_BYTES = (size_t)256 << 20;

/* ---- reading ----------------------------------------------------------------------- */

struct reading {
    const cohort_backend *backend;
    float *memory;
    bool fills; /* first: memory that nobody wrote is one page */
};

static void read_share(void *context, int32_t thread, int32_t n_threads) {
    const struct reading *reading = context;
    float maxima[READ_PIECE / COHORT_SAMPLE_TILE];
    cohort_cpu_range share = cohort_cpu_share(
        (int64_t)(READ_BYTES / sizeof(float) / READ_PIECE), thread, n_threads);
    for (int64_t i = share.begin; i < share.end; i++) {
        float *piece = reading->memory + i * READ_PIECE;
        if (reading->fills)
            memset(piece, 1, READ_PIECE * sizeof *piece);
        else
            reading->backend->isa.logits->maxima(piece, READ_PIECE, maxima);
    }
}

static double read_bytes_per_s(cohort_backend *backend) {
    struct reading reading = {backend, cohort_cpu_map(READ_BYTES), true};
    if (!reading.memory) return 0;
    cohort_pool_run(backend->pool, read_share, &reading);
    reading.fills = false;
    int64_t best_ns = INT64_MAX;
    for (int i = 0; i < READ_TRIALS; i++) {
        int64_t begin_ns = cohort_clock_ns();
        cohort_pool_run(backend->pool, read_share, &reading);
        int64_t ns = cohort_clock_ns() - begin_ns;
        if (ns < best_ns) best_ns = ns;
    }
    cohort_cpu_unmap(reading.memory, READ_BYTES);
    return (double)READ_BYTES / (double)best_ns * 1e9;
}

/* ---- multiplying ------------------------------------------------------------------- */

struct peak {
    const cohort_backend *backend;
    _Atomic int64_t flops_per_s; /* of all threads */
};

/* The kernel that products take, on a tile that stays in L1. */
static void peak_share(void *context, int32_t thread, int32_t n_threads) {
    (void)thread;
    (void)n_threads;
    struct peak *peak = context;
    const cohort_backend *backend = peak->backend;
    const cohort_cpu_dot *dot = backend->bf16_activations ? backend->isa.dot : NULL;
    _Alignas(64) unsigned char weights[PEAK_PANELS * PEAK_K * COHORT_CPU_PANEL * 2] = {0};
    _Alignas(64) float x[COHORT_CPU_TILE_ROWS * PEAK_K] = {0};
    _Alignas(64) float c[COHORT_CPU_TILE_ROWS * PEAK_PANELS * COHORT_CPU_PANEL];
    const cohort_cpu_product product = {.x = x,
                                        .rows = dot ? dot->tile_rows
                                                    : backend->kernels->tile_rows,
                                        .n_panels = PEAK_PANELS,
                                        .panels = weights,
                                        .panel_bytes = sizeof weights / PEAK_PANELS,
                                        .k = PEAK_K,
                                        .c = c,
                                        .c_stride = PEAK_PANELS * COHORT_CPU_PANEL};
    int64_t best_ns = INT64_MAX;
    if (dot && dot->begin) dot->begin();
    for (int i = 0; i < PEAK_TRIALS; i++) {
        int64_t begin_ns = cohort_clock_ns();
        for (int j = 0; j < PEAK_TURNS; j++)
            (dot ? dot->multiply : backend->kernels->multiply[COHORT_BF16])(&product);
        int64_t ns = cohort_clock_ns() - begin_ns;
        if (ns < best_ns) best_ns = ns;
    }
    if (dot && dot->end) dot->end();
    double flops =
        2.0 * PEAK_TURNS * product.rows * PEAK_PANELS * COHORT_CPU_PANEL * PEAK_K;
    atomic_fetch_add_explicit(&peak->flops_per_s,
                              (int64_t)(flops / (double)best_ns * 1e9),
                              memory_order_relaxed);
}

void cohort_cpu_limits(cohort_backend *backend, double *out_read_bytes_per_s,
                       double *out_flops_per_s) {
    struct peak peak = {.backend = backend};
    cohort_pool_run(backend->pool, peak_share, &peak);
    *out_flops_per_s =
        (double)atomic_load_explicit(&peak.flops_per_s, memory_order_relaxed);
    *out_read_bytes_per_s = read_bytes_per_s(backend);
}
