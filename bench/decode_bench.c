/* SPDX-License-Identifier: Apache-2.0 */
/* All products of one decode step of Qwen3-0.6B (28 layers and the head, bf16, one row),
 * against bare threads that read the same bytes: the very panels, front to back.  Random
 * weights; making them, and all but the products, is outside the timed window.
 *
 * usage: decode_bench [THREADS [LAYERS [ROWS]]] */
#include <inttypes.h>

#include "bench.h"
#include "cohort/clock.h"
#include "model/cpu/cpu_internal.h"

enum {
    HIDDEN = 1024,
    QKV = (16 + 8 + 8) * 128,
    HEADS = 16 * 128,
    INNER = 3072,
    VOCAB = 151936,
    ROUNDS = 7,
    MOST_LAYERS = 28,
    MOST_LINEARS = 4 * MOST_LAYERS + 1,
    MOST_THREADS = 64,
    SOURCE_ROWS = 512, /* random rows, used again and again */
};

typedef uint64_t lanes __attribute__((vector_size(64), aligned(64)));

struct model {
    cohort_backend *backend;
    cohort_linear *linears[MOST_LINEARS];
    int32_t n_linears;
    int64_t rows;
    size_t bytes;
    float *x, *y;
    uint64_t sums[MOST_THREADS * 8]; /* keeps the reading from being left out */
};

static void add_linear(struct model *model, int64_t n_out, int64_t n_in,
                       const uint16_t *source) {
    cohort_linear **linear = &model->linears[model->n_linears++];
    if (cohort_cpu_linear_create(model->backend, n_out, n_in, COHORT_BF16, linear) < 0)
        exit(1);
    for (int64_t row = 0; row < n_out; row += SOURCE_ROWS)
        cohort_cpu_linear_set(*linear, row,
                              n_out - row < SOURCE_ROWS ? n_out - row : SOURCE_ROWS,
                              source, COHORT_BF16, n_in);
    model->bytes += cohort_cpu_linear_bytes(*linear);
}

static void make_model(struct model *model, int32_t n_threads, int32_t n_layers) {
    int32_t cpus[MOST_THREADS];
    for (int32_t i = 0; i < n_threads; i++)
        cpus[i] = i % bench_cpus();
    cohort_cpu_options cpu = {.cpus = cpus, .n_threads = n_threads, .isa = "avx512_bf16"};
    const cohort_backend_options options = {.bf16_activations = true, .device = &cpu};
    uint16_t *source = malloc(SOURCE_ROWS * INNER * sizeof *source);
    /* Both ways where there are both, whichever an engine would take. */
    if (cohort_backend_cpu()->create(&options, &model->backend) < 0) cpu.isa = NULL;
    if (!source ||
        (!cpu.isa && cohort_backend_cpu()->create(&options, &model->backend) < 0))
        exit(1);
    uint32_t state = 1;
    for (int32_t i = 0; i < SOURCE_ROWS * INNER; i++) {
        state = state * 1664525 + 1013904223;
        source[i] = (uint16_t)(0x3c00 | (state >> 16 & 0x80ff)); /* small, either sign */
    }
    int64_t begin_ns = cohort_clock_ns();
    for (int32_t i = 0; i < n_layers; i++) {
        add_linear(model, QKV, HIDDEN, source);
        add_linear(model, HIDDEN, HEADS, source);
        add_linear(model, (int64_t)2 * INNER, HIDDEN, source);
        add_linear(model, HIDDEN, INNER, source);
    }
    add_linear(model, VOCAB, HIDDEN, source);
    double s = (double)(cohort_clock_ns() - begin_ns) * 1e-9;
    printf("packing: %.2f GB of weights in %.2f s, %.1f GB/s\n",
           (double)model->bytes * 1e-9, s, (double)model->bytes * 1e-9 / s);
    free(source);
    size_t rows = (size_t)model->rows;
    model->x = cohort_cpu_map(rows * INNER * sizeof *model->x);
    model->y = cohort_cpu_map(rows * VOCAB * sizeof *model->y);
    if (!model->x || !model->y) exit(1);
    for (size_t i = 0; i < rows * INNER; i++)
        model->x[i] = (float)(i % 17) * 0.1f - 0.8f;
}

static void free_model(struct model *model) {
    for (int32_t i = 0; i < model->n_linears; i++)
        cohort_cpu_linear_destroy(model->linears[i]);
    cohort_cpu_unmap(model->x, (size_t)model->rows * INNER * sizeof *model->x);
    cohort_cpu_unmap(model->y, (size_t)model->rows * VOCAB * sizeof *model->y);
    cohort_backend_cpu()->destroy(model->backend);
}

static void read_share(void *context, int32_t thread, int32_t n_threads) {
    struct model *model = context;
    lanes sums[8] = {0};
    for (int32_t i = 0; i < model->n_linears; i++) {
        const cohort_linear *linear = model->linears[i];
        cohort_cpu_range share =
            cohort_cpu_share((int64_t)(linear->bytes / sizeof(lanes)), thread, n_threads);
        const lanes *at = (const lanes *)(const void *)linear->panels;
        for (int64_t j = share.begin; j + 8 <= share.end; j += 8)
            for (int64_t l = 0; l < 8; l++) {
                __builtin_prefetch((const char *)&at[j + l] + COHORT_CPU_FETCH_BYTES);
                sums[l] += at[j + l];
            }
    }
    for (int l = 0; l < 8; l++)
        model->sums[thread * 8 + l] += sums[l][0] + sums[l][7];
}

static double read_us(struct model *model) {
    int64_t begin_ns = cohort_clock_ns();
    cohort_pool_run(model->backend->pool, read_share, model);
    return (double)(cohort_clock_ns() - begin_ns) * 1e-3;
}

static double step_us(struct model *model, bool bf16_activations) {
    model->backend->bf16_activations = bf16_activations && model->backend->isa.dot;
    int64_t begin_ns = cohort_clock_ns();
    for (int32_t i = 0; i < model->n_linears; i++) {
        const cohort_linear *linear = model->linears[i];
        cohort_cpu_linear(model->backend, linear, NULL, model->x, linear->n_in, model->y,
                          linear->n_out, model->rows);
    }
    return (double)(cohort_clock_ns() - begin_ns) * 1e-3;
}

static void report(const char *name, const struct model *model, double *us,
                   const double *floor_us, double goal) {
    double ratios[ROUNDS];
    for (int i = 0; i < ROUNDS; i++)
        ratios[i] = floor_us[i] / us[i];
    double p50_us = bench_percentile(us, ROUNDS, 0.5);
    double ratio = bench_percentile(ratios, ROUNDS, 0.5);
    printf("%-18s %8.2f ms (%.2f - %.2f)  %6.1f GB/s  %3.0f %% of the bare read "
           "(%.0f - %.0f)",
           name, p50_us * 1e-3, us[0] * 1e-3, us[ROUNDS - 1] * 1e-3,
           (double)model->bytes * 1e-3 / p50_us, 100 * ratio, 100 * ratios[0],
           100 * ratios[ROUNDS - 1]);
    if (goal > 0)
        printf(", >= %.0f %%: %s", 100 * goal, ratio >= goal ? "met" : "MISSED");
    printf("\n");
}

int main(int argc, char **argv) {
    int32_t n_threads = argc > 1 ? atoi(argv[1]) : bench_cpus() < 2 ? 1 : 2;
    int32_t n_layers = argc > 2 ? atoi(argv[2]) : MOST_LAYERS;
    static struct model model;
    model.rows = argc > 3 ? atoi(argv[3]) : 1;
    if (n_threads < 1 || n_threads > MOST_THREADS || n_layers < 0 ||
        n_layers > MOST_LAYERS || model.rows < 1)
        return 2;
    bench_print_machine();
    make_model(&model, n_threads, n_layers);
    printf("one step of %" PRId64 " rows, %d threads, %s; median of %d rounds (least - "
           "greatest)\n",
           model.rows, n_threads, model.backend->isa.name, ROUNDS);
    double bare[ROUNDS], f32[ROUNDS], bf16[ROUNDS], copy[ROUNDS];
    read_us(&model); /* warm-up */
    step_us(&model, false);
    for (int i = 0; i < ROUNDS; i++) {
        bare[i] = read_us(&model);
        f32[i] = step_us(&model, false);
        bf16[i] = step_us(&model, true);
    }
    memcpy(copy, bare, sizeof copy);
    report("bare read", &model, copy, bare, 0);
    report("f32 activations", &model, f32, bare, 0.6);
    report("bf16 activations", &model, bf16, bare, 0.6);
    free_model(&model);
    return 0;
}
