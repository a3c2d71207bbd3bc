/* SPDX-License-Identifier: Apache-2.0 */
/* The products of one layer of Qwen3-0.6B over the rows of a prompt, weights in bf16,
 * against OpenBLAS' sgemm on the same weights widened to f32.  Widening and packing of
 * the weights is outside the timed window, packing of the activations inside.
 *
 * usage: prefill_bench [THREADS [ROWS]]
 *        prefill_bench --ask ISA THREADS   for bench/prefill_peers.py: says the kernels
 * and the peak of their instruction in registers, in GFLOP/s a thread; then every line
 * "N_OUT N_IN ROWS" of the input is one product, answered in us */
#include <errno.h>

#include "bench.h"
#include "cohort/clock.h"
#include "model/cpu/cpu_internal.h"
#include "peak.h"

#ifdef HAVE_OPENBLAS
#include <cblas.h>
#endif

enum { ROUNDS = 7 };

static const struct {
    const char *name;
    int64_t n_out, n_in;
} shapes[] = {{"qkv", 4096, 1024},
              {"out", 1024, 2048},
              {"gate_up", 6144, 1024},
              {"down", 1024, 3072}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

struct layer {
    cohort_backend *backend;
    int64_t rows;
    cohort_linear *linears[SHAPES];
    float *wide[SHAPES];
    float *x, *y;
};

static float *floats(size_t n) {
    float *at = malloc(n * sizeof *at);
    if (!at) exit(1);
    for (size_t i = 0; i < n; i++)
        at[i] = (float)((i * 7919) % 255) * 0.0078125f - 1; /* exact in bf16 */
    return at;
}

static void make_layer(struct layer *layer, int32_t n_threads) {
    static const char *const names[] = {"amx", "avx512_bf16", NULL};
    cohort_cpu_options cpu = {.n_threads = n_threads};
    const cohort_backend_options options = {.bf16_activations = true, .device = &cpu};
    /* Both ways where there are both, whichever an engine would take. */
    for (int i = 0; i < 3 && !layer->backend; i++) {
        cpu.isa = names[i];
        if (cohort_backend_cpu()->create(&options, &layer->backend) < 0 && !cpu.isa)
            exit(1);
    }
    for (int s = 0; s < SHAPES; s++) {
        int64_t n_out = shapes[s].n_out, n_in = shapes[s].n_in;
        layer->wide[s] = floats((size_t)(n_out * n_in));
        if (cohort_cpu_linear_create(layer->backend, n_out, n_in, COHORT_BF16,
                                     &layer->linears[s]) < 0)
            exit(1);
        cohort_cpu_linear_set(layer->linears[s], 0, n_out, layer->wide[s], COHORT_F32,
                              n_in);
    }
    layer->x = floats((size_t)layer->rows * 3072);
    layer->y = floats((size_t)layer->rows * 6144);
}

static double ours_us(struct layer *layer, int shape, bool bf16_activations) {
    layer->backend->bf16_activations = bf16_activations && layer->backend->isa.dot;
    int64_t begin_ns = cohort_clock_ns();
    cohort_cpu_linear(layer->backend, layer->linears[shape], NULL, layer->x,
                      shapes[shape].n_in, layer->y, shapes[shape].n_out, layer->rows);
    return (double)(cohort_clock_ns() - begin_ns) * 1e-3;
}

#ifdef HAVE_OPENBLAS
static double openblas_us(struct layer *layer, int shape) {
    blasint m = (blasint)layer->rows, n = (blasint)shapes[shape].n_out,
            k = (blasint)shapes[shape].n_in;
    int64_t begin_ns = cohort_clock_ns();
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, layer->x, k,
                layer->wide[shape], k, 0, layer->y, n);
    return (double)(cohort_clock_ns() - begin_ns) * 1e-3;
}
#else
static double openblas_us(struct layer *layer, int shape) {
    (void)layer;
    (void)shape;
    return 0;
}
#endif

static void report(const char *name, const struct layer *layer, double flops, double *us,
                   const double *theirs, double goal) {
    (void)layer;
    double ratios[ROUNDS];
    for (int i = 0; i < ROUNDS; i++)
        ratios[i] = theirs[i] / us[i];
    double p50_us = bench_percentile(us, ROUNDS, 0.5);
    double ratio = bench_percentile(ratios, ROUNDS, 0.5);
    printf("  %-18s %8.2f ms  %6.1f GFLOP/s", name, p50_us * 1e-3, flops * 1e-3 / p50_us);
    if (theirs[0] > 0)
        printf("  %.2f times OpenBLAS' speed (%.2f - %.2f)", ratio, ratios[0],
               ratios[ROUNDS - 1]);
    if (goal > 0 && theirs[0] > 0)
        printf(", >= %.2f: %s", goal, ratio >= goal ? "met" : "MISSED");
    printf("\n");
}

static void measure(struct layer *layer, double sums[3][ROUNDS], double *flops_sum) {
    for (int s = 0; s < SHAPES; s++) {
        double us[3][ROUNDS], copy[ROUNDS];
        double flops =
            2.0 * (double)layer->rows * (double)shapes[s].n_out * (double)shapes[s].n_in;
        ours_us(layer, s, false); /* warm-up */
        openblas_us(layer, s);
        for (int i = 0; i < ROUNDS; i++) {
            us[0][i] = openblas_us(layer, s);
            us[1][i] = ours_us(layer, s, false);
            us[2][i] = ours_us(layer, s, true);
            for (int j = 0; j < 3; j++)
                sums[j][i] += us[j][i];
        }
        *flops_sum += flops;
        printf("%s %lld x %lld\n", shapes[s].name, (long long)shapes[s].n_out,
               (long long)shapes[s].n_in);
        memcpy(copy, us[0], sizeof copy);
        if (copy[0] > 0) report("OpenBLAS sgemm", layer, flops, copy, us[0], 0);
        report("f32 activations", layer, flops, us[1], us[0], 0);
        report("bf16 activations", layer, flops, us[2], us[0], 0);
    }
}

/* ---- one product at a time --------------------------------------------------------- */

struct asked {
    long n_out, n_in, rows;
    cohort_linear *linear;
    float *x, *y;
};

static bool read_asked(struct asked *asked) {
    char line[128];
    if (!fgets(line, sizeof line, stdin)) return false;
    char *at = line;
    errno = 0;
    asked->n_out = strtol(at, &at, 10);
    asked->n_in = strtol(at, &at, 10);
    asked->rows = strtol(at, &at, 10);
    return !errno && asked->n_out > 0 && asked->n_in > 0 && asked->rows > 0;
}

/* The weights of the last shape stay, as a model's do. */
static void prepare(cohort_backend *backend, struct asked *last,
                    const struct asked *next) {
    if (last->n_out == next->n_out && last->n_in == next->n_in &&
        last->rows == next->rows)
        return;
    cohort_cpu_linear_destroy(last->linear);
    free(last->x);
    free(last->y);
    *last = *next;
    float *weights = floats((size_t)(last->n_out * last->n_in));
    last->x = floats((size_t)(last->rows * last->n_in));
    last->y = floats((size_t)(last->rows * last->n_out));
    bench_check(cohort_cpu_linear_create(backend, last->n_out, last->n_in, COHORT_BF16,
                                         &last->linear));
    cohort_cpu_linear_set(last->linear, 0, last->n_out, weights, COHORT_F32, last->n_in);
    free(weights);
}

static int answer(const char *isa, int32_t n_threads) {
    const cohort_cpu_options cpu = {.n_threads = n_threads,
                                    .isa = strcmp(isa, "best") ? isa : NULL};
    const cohort_backend_options options = {.bf16_activations = true, .device = &cpu};
    cohort_backend *backend;
    bench_check(cohort_backend_cpu()->create(&options, &backend));
    printf("%s %.1f\n", backend->isa.name, bench_peak_gflops(backend->isa.name));
    struct asked last = {0}, next = {0};
    while (fflush(stdout) == 0 && read_asked(&next)) {
        prepare(backend, &last, &next);
        double begin_us = bench_now_us(n_threads);
        cohort_cpu_linear(backend, last.linear, NULL, last.x, last.n_in, last.y,
                          last.n_out, last.rows);
        printf("%.1f\n", bench_now_us(n_threads) - begin_us);
    }
    cohort_cpu_linear_destroy(last.linear);
    free(last.x);
    free(last.y);
    cohort_backend_cpu()->destroy(backend);
    return 0;
}

/* ---- the layer --------------------------------------------------------------------- */

int main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[1], "--ask")) return answer(argv[2], atoi(argv[3]));
    /* OpenBLAS reads it before main: a kernel of another's choice is no floor. */
    if (getenv("OPENBLAS_CORETYPE")) {
        unsetenv("OPENBLAS_CORETYPE");
        execv("/proc/self/exe", argv);
    }
    int32_t n_threads = argc > 1 ? atoi(argv[1]) : bench_cpus() < 2 ? 1 : 2;
    struct layer layer = {.rows = argc > 2 ? atoi(argv[2]) : 512};
    if (n_threads < 1 || layer.rows < 1) return 2;
    bench_print_machine();
#ifdef HAVE_OPENBLAS
    openblas_set_num_threads(n_threads);
    printf("%s, its kernels for %s\n", openblas_get_config(), openblas_get_corename());
#else
    printf("built without OpenBLAS: no floor\n");
#endif
    make_layer(&layer, n_threads);
    cohort_cpu_isa taken;
    if (cohort_cpu_isa_find(NULL, &taken) < 0) return 1;
    printf("%lld rows, %d threads, %s (an engine takes %s); median of %d rounds "
           "(least - greatest)\n",
           (long long)layer.rows, n_threads, layer.backend->isa.name, taken.name, ROUNDS);
    double sums[3][ROUNDS] = {{0}}, copy[ROUNDS], flops = 0;
    measure(&layer, sums, &flops);
    printf("the layer\n");
    memcpy(copy, sums[0], sizeof copy);
    report("f32 activations", &layer, flops, sums[1], copy, taken.dot ? 0 : 1);
    report("bf16 activations", &layer, flops, sums[2], copy, taken.dot ? 1 : 0);
    for (int s = 0; s < SHAPES; s++) {
        cohort_cpu_linear_destroy(layer.linears[s]);
        free(layer.wide[s]);
    }
    cohort_backend_cpu()->destroy(layer.backend);
    free(layer.x);
    free(layer.y);
    return 0;
}
