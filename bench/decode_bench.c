/* SPDX-License-Identifier: Apache-2.0 */
/* All products of one decode step of Qwen3-0.6B (28 layers and the head, bf16, one row),
 * against bare threads that read the same bytes, pinned as ours: the very panels, in huge
 * pages where there are any.  They are read in several ways (fetched ahead or not, past
 * the caches, one stream a thread or four), and the floor of a round is the fastest of
 * them, so that it is no floor that can be beaten.  Random weights; making them, and all
 * but the products, is outside the timed window.
 *
 * usage: decode_bench [THREADS [LAYERS [ROWS [ISA]]]] */
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
    ROUNDS = 9,
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

/* Both ways where there are both, whichever an engine would take. */
static void open_backend(struct model *model, cohort_cpu_options *cpu, const char *isa) {
    const cohort_backend_options options = {.bf16_activations = true, .device = cpu};
    const char *const names[] = {isa, "amx", "avx512_bf16", NULL};
    for (int i = isa ? 0 : 1; i < 4 && !model->backend; i++) {
        cpu->isa = names[i];
        if (cohort_backend_cpu()->create(&options, &model->backend) < 0 && isa) break;
    }
    if (!model->backend) bench_check(COHORT_E_INVALID);
}

static void make_model(struct model *model, int32_t n_threads, int32_t n_layers,
                       const char *isa) {
    int32_t cpus[MOST_THREADS];
    for (int32_t i = 0; i < n_threads; i++)
        cpus[i] = i % bench_cpus();
    cohort_cpu_options cpu = {.cpus = cpus, .n_threads = n_threads};
    uint16_t *source = malloc(SOURCE_ROWS * INNER * sizeof *source);
    if (!source) exit(1);
    open_backend(model, &cpu, isa);
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

/* ---- reading ----------------------------------------------------------------------- */

static inline __attribute__((always_inline)) void fetch(const lanes *at, size_t ahead,
                                                        bool once) {
    if (!ahead) return;
    if (once)
        __builtin_prefetch((const char *)at + ahead, 0, 0);
    else
        __builtin_prefetch((const char *)at + ahead, 0, 3);
}

/* Lines [begin, end) in `streams` parts side by side; the rest is left out. */
static inline __attribute__((always_inline)) void read_lines(const lanes *at,
                                                             int64_t begin, int64_t end,
                                                             int streams, size_t ahead,
                                                             bool once, uint64_t *sum) {
    enum { TOGETHER = 8 };
    lanes sums[TOGETHER] = {{0}};
    int64_t part = (end - begin) / streams;
    for (int64_t j = begin; j + TOGETHER <= begin + part; j += TOGETHER)
        for (int s = 0; s < streams; s++)
            for (int64_t l = 0; l < TOGETHER; l++) {
                const lanes *line = &at[j + s * part + l];
                fetch(line, ahead, once);
                sums[l] += *line;
            }
    for (int l = 1; l < TOGETHER; l++)
        sums[0] += sums[l];
    *sum += sums[0][0] + sums[0][7];
}

#if defined __x86_64__ && !defined __clang__
#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDEST
#endif
#define READER(name, streams, ahead, once)                               \
    WIDEST static void name(const lanes *at, int64_t begin, int64_t end, \
                            uint64_t *sum) {                             \
        read_lines(at, begin, end, streams, ahead, once, sum);           \
    }
READER(read_plainly, 1, 0, false)
READER(read_1k_ahead, 1, 1024, false)
READER(read_4k_ahead, 1, 4096, false)
READER(read_past_caches, 1, 2048, true)
READER(read_four, 4, 0, false)
READER(read_four_ahead, 4, 2048, false)

static const struct reader {
    const char *name;
    void (*read)(const lanes *at, int64_t begin, int64_t end, uint64_t *sum);
} readers[] = {
    {"as it comes", read_plainly},         {"fetched 1 KB ahead", read_1k_ahead},
    {"fetched 4 KB ahead", read_4k_ahead}, {"past the caches", read_past_caches},
    {"four streams", read_four},           {"four streams, fetched", read_four_ahead}};
enum { READERS = sizeof readers / sizeof *readers };

struct reading {
    struct model *model;
    const struct reader *reader;
};

static void read_share(void *context, int32_t thread, int32_t n_threads) {
    const struct reading *reading = context;
    struct model *model = reading->model;
    for (int32_t i = 0; i < model->n_linears; i++) {
        const cohort_linear *linear = model->linears[i];
        cohort_cpu_range share =
            cohort_cpu_share((int64_t)(linear->bytes / sizeof(lanes)), thread, n_threads);
        reading->reader->read((const lanes *)(const void *)linear->panels, share.begin,
                              share.end, &model->sums[thread * 8]);
    }
}

/* The fastest way's time, and how often each was. */
static double read_us(struct model *model, int wins[READERS]) {
    double best_us = 0;
    int best = -1;
    for (int r = 0; r < READERS; r++) {
        struct reading reading = {model, &readers[r]};
        int32_t n_threads = cohort_pool_size(model->backend->pool);
        double us = -bench_now_us(n_threads);
        cohort_pool_run(model->backend->pool, read_share, &reading);
        us += bench_now_us(n_threads);
        if (best >= 0 && us >= best_us) continue;
        best_us = us;
        best = r;
    }
    wins[best]++;
    return best_us;
}

/* ---- ours -------------------------------------------------------------------------- */

static double step_us(struct model *model, bool bf16_activations) {
    model->backend->bf16_activations = bf16_activations && model->backend->isa.dot;
    int32_t n_threads = cohort_pool_size(model->backend->pool);
    double begin_us = bench_now_us(n_threads);
    for (int32_t i = 0; i < model->n_linears; i++) {
        const cohort_linear *linear = model->linears[i];
        cohort_cpu_linear(model->backend, linear, NULL, model->x, linear->n_in, model->y,
                          linear->n_out, model->rows);
    }
    return bench_now_us(n_threads) - begin_us;
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
        n_layers > MOST_LAYERS || model.rows < 1 || argc > 5)
        return 2;
    bench_print_machine();
    make_model(&model, n_threads, n_layers, argc > 4 ? argv[4] : NULL);
    printf("one step of %" PRId64 " rows, %d threads, %s; median of %d rounds (least - "
           "greatest)\n",
           model.rows, n_threads, model.backend->isa.name, ROUNDS);
    double bare[ROUNDS], f32[ROUNDS], bf16[ROUNDS], copy[ROUNDS];
    int wins[READERS] = {0}, fastest = 0;
    read_us(&model, wins); /* warm-up */
    memset(wins, 0, sizeof wins);
    step_us(&model, false);
    for (int i = 0; i < ROUNDS; i++) {
        bare[i] = read_us(&model, wins);
        f32[i] = step_us(&model, false);
        bf16[i] = step_us(&model, true);
    }
    memcpy(copy, bare, sizeof copy);
    for (int r = 1; r < READERS; r++)
        if (wins[r] > wins[fastest]) fastest = r;
    printf("fastest of %d ways to read: %s, in %d of %d rounds\n", READERS,
           readers[fastest].name, wins[fastest], ROUNDS);
    report("bare read", &model, copy, bare, 0);
    report("f32 activations", &model, f32, bare, 0.6);
    report("bf16 activations", &model, bf16, bare, 0.6);
    free_model(&model);
    return 0;
}
