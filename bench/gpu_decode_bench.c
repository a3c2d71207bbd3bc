/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on a GPU, on the shape of Qwen3-8B: each kind of product over all layers'
 * weights, a layer's four in turn, and for prompts their attention.  Up to 64 rows stand
 * beside the fastest read of the same bytes, more are told in TFLOP/s.
 *
 *   gpu_decode_bench [ROWS...]    (default: 1 8 16 32 64; up to 8192)
 *
 * Weights are random.  Times are from the first launch to the end of the last, the best
 * of 5 rounds; the read is measured before and behind each number of rows. */
#include <stdio.h>
#include <stdlib.h>

#include "cohort/clock.h"
#include "model/cuda/cuda_internal.h"

enum {
    HIDDEN = 4096,
    LAYERS = 36,
    QKV = 6144,
    INNER = 12288,
    VOCAB = 151936,
    HEADS = 32,
    KV_HEADS = 8,
    HEAD_DIM = 128,
    MOST_ROWS = 8192,
    DECODED = 64, /* rows of logits, and of decoding */
    ROUNDS = 5,
    READ_GRID = 1056
};

__asm__(".pushsection .rodata\n.balign 16\nread_cubin:\n.incbin \"" COHORT_READ_CUBIN
        "\"\n.popsection\n");
extern const unsigned char read_cubin[];

static struct { cohort_linear *qkv, *out, *gate_up, *down; } layers[LAYERS];
static cohort_linear *head;
static cohort_buffer *hidden, *narrow, *heads, *wide, *norm, *qkv, *logits;
static cohort_kv *kv;
static const cohort_backend_ops *ops;
static cohort_backend *backend;
static CUfunction read_kernel;
static int64_t rows;

static void must(cohort_status status) {
    if (status >= 0) return;
    fprintf(stderr, "%s\n", cohort_last_error()->message);
    exit(1);
}

/* The same random rows for all: only where they lie differs. */
static cohort_linear *make_weights(int64_t n_out, int64_t n_in) {
    static uint16_t part[512 * INNER];
    static bool filled;
    uint64_t state = 1;
    for (size_t i = 0; !filled && i < sizeof part / sizeof *part; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        part[i] = (uint16_t)(0x3c00 | (state >> 33 & 0x807f)); /* around +-0.01 */
    }
    filled = true;
    cohort_linear *linear;
    must(ops->linear_create(backend, n_out, n_in, cohort_format_dense(COHORT_BF16),
                            &linear));
    for (int64_t row = 0; row < n_out; row += 512) {
        int64_t n = n_out - row < 512 ? n_out - row : 512;
        must(ops->linear_set(linear, COHORT_VALUES, row, n, part, COHORT_BF16, n_in));
    }
    return linear;
}

static cohort_buffer *make_buffer(int64_t n_rows, int64_t columns) {
    cohort_buffer *buffer;
    must(ops->buffer_create(backend, COHORT_F32, n_rows * columns, &buffer));
    return buffer;
}

static void set_up(void) {
    const cohort_backend_options options = {.max_rows = MOST_ROWS,
                                            .max_sequences = 64,
                                            .block_size = 16,
                                            .max_blocks = MOST_ROWS / 16};
    ops = cohort_backend_cuda();
    must(ops->create(&options, &backend));
    for (int32_t i = 0; i < LAYERS; i++) {
        layers[i].qkv = make_weights(QKV, HIDDEN);
        layers[i].out = make_weights(HIDDEN, HIDDEN);
        layers[i].gate_up = make_weights(2 * INNER, HIDDEN);
        layers[i].down = make_weights(HIDDEN, INNER);
    }
    head = make_weights(VOCAB, HIDDEN);
    hidden = make_buffer(MOST_ROWS, HIDDEN), narrow = make_buffer(MOST_ROWS, INNER);
    heads = make_buffer(MOST_ROWS, HEADS * HEAD_DIM), norm = make_buffer(1, HIDDEN);
    wide = make_buffer(MOST_ROWS, 2 * INNER), qkv = make_buffer(MOST_ROWS, QKV);
    logits = make_buffer(DECODED, VOCAB);
    const cohort_kv_shape shape = {1, 16, KV_HEADS, HEAD_DIM, COHORT_BF16};
    must(ops->kv_create(backend, &shape, MOST_ROWS / 16, &kv));
    CUmodule module;
    must(cohort_cuda_status(backend->cuda,
                            backend->cuda->ModuleLoadData(&module, read_cubin), "floor"));
    must(cohort_cuda_status(
        backend->cuda, backend->cuda->ModuleGetFunction(&read_kernel, module, "read_all"),
        "floor"));
}

/* ---- what is timed ----------------------------------------------------------------- */

static cohort_op_linear product(const cohort_linear *weight, cohort_buffer *x,
                                cohort_buffer *y) {
    return (cohort_op_linear){.weight = weight,
                              .x = {x, 0},
                              .y = {y, 0},
                              .x_stride = weight->n_in,
                              .y_stride = weight->n_out,
                              .n_rows = rows};
}

static void run_qkv(int32_t i) {
    const cohort_op_norm op = {
        .weight = norm, .x = {hidden, 0}, .n_rows = rows, .n_columns = HIDDEN};
    const cohort_op_linear linear = product(layers[i].qkv, hidden, qkv);
    ops->norm_linear(backend, &op, &linear);
}

static void run_out(int32_t i) {
    const cohort_op_linear linear = product(layers[i].out, heads, hidden);
    ops->linear_add(backend, &linear);
}

static void run_gate_up(int32_t i) {
    const cohort_op_norm op = {
        .weight = norm, .x = {hidden, 0}, .n_rows = rows, .n_columns = HIDDEN};
    const cohort_op_linear linear = product(layers[i].gate_up, hidden, wide);
    const cohort_op_activate activate = {.activation = COHORT_SILU,
                                         .gated = true,
                                         .x = {wide, 0},
                                         .y = {narrow, 0},
                                         .n_rows = rows,
                                         .n = INNER};
    ops->norm_linear_activate(backend, &op, &linear, &activate);
}

static void run_down(int32_t i) {
    const cohort_op_linear linear = product(layers[i].down, narrow, hidden);
    ops->linear_add(backend, &linear);
}

static void run_layer(int32_t i) { run_qkv(i), run_out(i), run_gate_up(i), run_down(i); }

static void run_head(int32_t i) {
    (void)i;
    const cohort_op_norm op = {
        .weight = norm, .x = {hidden, 0}, .n_rows = rows, .n_columns = HIDDEN};
    const cohort_op_linear linear = product(head, hidden, logits);
    ops->norm_linear(backend, &op, &linear);
}

static void run_attention(int32_t i) {
    (void)i;
    const cohort_heads shape = {HEADS, KV_HEADS, HEAD_DIM, 0.088F, 0};
    const cohort_op_rotate rotate = {
        .heads = shape, .qkv = {qkv, 0}, .qkv_stride = QKV, .eps = 1e-6F};
    const cohort_op_attention attention = {
        .kv = kv, .heads = shape, .qkv = {qkv, 0}, .qkv_stride = QKV, .out = {heads, 0}};
    ops->rotate_store(backend, &rotate, &attention);
    ops->attend(backend, &attention);
}

/* Reads the head's weights. */
static void run_read(int32_t i) {
    (void)i;
    const void *values = (const void *)head->memory.at;
    uint64_t count = (uint64_t)VOCAB * HIDDEN * 2 / 16;
    void *sink = (void *)hidden->memory.at, *params[] = {&values, &count, &sink};
    const CUlaunchConfig config = {.gridDimX = READ_GRID,
                                   .gridDimY = 1,
                                   .gridDimZ = 1,
                                   .blockDimX = 512,
                                   .blockDimY = 1,
                                   .blockDimZ = 1,
                                   .hStream = backend->stream};
    must(cohort_cuda_status(
        backend->cuda, backend->cuda->LaunchKernelEx(&config, read_kernel, params, NULL),
        "reading"));
}

/* Nanoseconds of one of LAYERS calls. */
static double time_of(void (*body)(int32_t)) {
    double best = 1e18;
    for (int32_t round = 0; round < ROUNDS; round++) {
        static int32_t ids[MOST_ROWS], table[MOST_ROWS / 16], no_logits[1];
        for (int32_t i = 0; i < MOST_ROWS / 16; i++)
            table[i] = i;
        const cohort_sequence sequence = {.n_rows = (int32_t)rows, .block_table = table};
        const cohort_batch batch = {.token_ids = ids,
                                    .n_rows = (int32_t)rows,
                                    .sequences = &sequence,
                                    .n_logit_rows = no_logits,
                                    .n_sequences = 1};
        must(ops->step_begin(backend, &batch));
        must(cohort_cuda_status(
            backend->cuda, backend->cuda->StreamSynchronize(backend->stream), "wait"));
        int64_t begin = cohort_clock_ns();
        for (int32_t i = 0; i < LAYERS; i++)
            body(i);
        must(ops->step_end(backend));
        double each = (double)(cohort_clock_ns() - begin) / LAYERS;
        if (each < best) best = each;
    }
    return best;
}

static double read_rate(void) { return (double)VOCAB * HIDDEN * 2 / time_of(run_read); }

static void measure(int64_t n_rows) {
    static const struct {
        const char *name;
        void (*run)(int32_t);
        double weights;
    } all[] = {{"qkv", run_qkv, 1.0 * QKV * HIDDEN},
               {"out", run_out, 1.0 * HIDDEN * HIDDEN},
               {"gate_up", run_gate_up, 2.0 * INNER * HIDDEN},
               {"down", run_down, 1.0 * HIDDEN * INNER},
               {"layer", run_layer, 1.0 * HIDDEN * (QKV + HIDDEN + 3.0 * INNER)},
               {"head", run_head, 1.0 * VOCAB * HIDDEN}};
    rows = n_rows;
    bool is_prompt = rows > DECODED;
    double attention = is_prompt ? time_of(run_attention) : 0;
    double before = read_rate(), times[8];
    const int32_t n = is_prompt ? 5 : 6;
    for (int32_t i = 0; i < n; i++)
        times[i] = time_of(all[i].run);
    double floor = (before + read_rate()) / 2;
    printf("%lld rows; read %.0f GB/s\n", (long long)rows, floor);
    for (int32_t i = 0; i < n; i++) {
        printf("  %-9s %7.1f us", all[i].name, times[i] / 1e3);
        if (is_prompt)
            printf("  %4.0f TFLOP/s\n",
                   2 * all[i].weights * (double)rows / times[i] / 1e3);
        else
            printf("  %5.0f GB/s  %3.0f %% of the read\n", 2 * all[i].weights / times[i],
                   200 * all[i].weights / times[i] / floor);
    }
    if (!is_prompt) return;
    printf("  %-9s %7.1f us  %4.0f TFLOP/s of what is seen\n", "attention",
           attention / 1e3,
           2.0 * HEADS * HEAD_DIM * (double)rows * (double)rows / attention / 1e3);
}

int main(int argc, char **argv) {
    static const int64_t usual[] = {1, 8, 16, 32, 64};
    set_up();
    printf("%s\n", ops->describe(backend));
    for (int i = 1; i < argc; i++) {
        int64_t asked = atoll(argv[i]);
        measure(asked < 1 || asked > MOST_ROWS ? MOST_ROWS : asked);
    }
    for (size_t i = 0; argc < 2 && i < sizeof usual / sizeof *usual; i++)
        measure(usual[i]);
    return 0;
}
