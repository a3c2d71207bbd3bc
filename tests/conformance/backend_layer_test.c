/* SPDX-License-Identifier: Apache-2.0 */
/* Two layers of a model on every backend, beside the CPU's portable kernels: operations
 * in the order in which a model asks for them, on buffers that begin with their rows,
 * which is where a backend may do several in one.  Steps are of one row a sequence, of
 * prompts, and of both. */
#include "backend_pair.h"

static const struct subject subjects[] = {
    {"portable", cohort_backend_cpu, {.n_threads = 3, .isa = "portable"}, .limit = 1e-9},
    {"fusing mock",
     mock_device_that_fuses,
     {.n_threads = 1, .isa = "portable"},
     .limit = 1e-9},
#if COHORT_HAVE_CUDA
    {"cuda", cohort_backend_cuda, .bf16 = true, .limit = 1e-3}, /* of any row */
#endif
};

enum { HIDDEN = 160, INNER = 96, LAYERS = 2, SEQUENCES = 4, CONTEXT = 256 };

struct geometry {
    int32_t n_heads, n_kv_heads, head_dim, window;
    bool normed;
};

struct layer {
    struct matrix qkv, out, gate_up, down;
    struct field bias, norms[2], head_norms[2];
};

struct model {
    struct geometry geometry;
    cohort_heads heads;
    int64_t qkv_width, heads_width;
    struct layer layers[LAYERS];
    struct field cos, sin, hidden, normed, qkv, heads_out, wide, narrow;
    cohort_kv *kv[BOTH];
};

static void open_layer(const struct model *m, struct layer *layer) {
    *layer = (struct layer){
        .qkv = matrix_of(m->qkv_width, HIDDEN, COHORT_BF16),
        .out = matrix_of(HIDDEN, m->heads_width, COHORT_BF16),
        .gate_up = matrix_of(2 * INNER, HIDDEN, COHORT_BF16),
        .down = matrix_of(HIDDEN, INNER, COHORT_BF16),
        .bias = vector(m->qkv_width),
        .norms = {vector(HIDDEN), vector(HIDDEN)},
        .head_norms = {vector(m->geometry.head_dim), vector(m->geometry.head_dim)}};
}

static void drop_layer(struct layer *layer) {
    drop_matrix(&layer->qkv);
    drop_matrix(&layer->out);
    drop_matrix(&layer->gate_up);
    drop_matrix(&layer->down);
    drop(&layer->bias);
    for (int i = 0; i < 2; i++) {
        drop(&layer->norms[i]);
        drop(&layer->head_norms[i]);
    }
}

/* Scores that leave no key all the weight: heads that are not normalised are large. */
static void open_model(struct model *m, const struct geometry *g) {
    int64_t rotations = (int64_t)CONTEXT * g->head_dim / 2;
    *m = (struct model){.geometry = *g,
                        .heads = {g->n_heads, g->n_kv_heads, g->head_dim,
                                  g->normed ? 0.1F : 0.0005F, g->window},
                        .qkv_width = (g->n_heads + 2 * g->n_kv_heads) * g->head_dim,
                        .heads_width = (int64_t)g->n_heads * g->head_dim,
                        .cos = vector(rotations),
                        .sin = vector(rotations),
                        .hidden = vector((int64_t)MAX_ROWS * HIDDEN),
                        .normed = vector((int64_t)MAX_ROWS * HIDDEN),
                        .wide = vector((int64_t)MAX_ROWS * 2 * INNER),
                        .narrow = vector((int64_t)MAX_ROWS * INNER)};
    m->qkv = vector(MAX_ROWS * m->qkv_width);
    m->heads_out = vector(MAX_ROWS * m->heads_width);
    for (int i = 0; i < LAYERS; i++)
        open_layer(m, &m->layers[i]);
    const cohort_kv_shape shape = {LAYERS, 16, g->n_kv_heads, g->head_dim, COHORT_BF16};
    for (int w = 0; w < BOTH; w++)
        assert_int_equal(ops[w]->kv_create(backends[w], &shape, 40, &m->kv[w]),
                         COHORT_OK);
}

static void drop_model(struct model *m) {
    struct field *all[] = {&m->cos,    &m->sin, &m->hidden,    &m->normed,
                           &m->narrow, &m->qkv, &m->heads_out, &m->wide};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        drop(all[i]);
    for (int i = 0; i < LAYERS; i++)
        drop_layer(&m->layers[i]);
    for (int w = 0; w < BOTH; w++)
        ops[w]->kv_destroy(m->kv[w]);
}

/* ---- as a model asks --------------------------------------------------------------- */

static cohort_view all_of(const struct field *field, int w) {
    return (cohort_view){field->buffers[w], 0};
}

static void norm_linear(int w, const cohort_op_norm *norm, const cohort_op_linear *op) {
    if (ops[w]->norm_linear) {
        ops[w]->norm_linear(backends[w], norm, op);
        return;
    }
    ops[w]->norm(backends[w], norm);
    ops[w]->linear(backends[w], op);
}

/* The product is added to y's rows; part: room for it alone. */
static void add_product(int w, cohort_op_linear *op, cohort_view part) {
    if (ops[w]->linear_add) {
        ops[w]->linear_add(backends[w], op);
        return;
    }
    const cohort_op_add add = {.y = op->y, .x = part, .count = op->n_rows * op->y_stride};
    op->y = part;
    ops[w]->linear(backends[w], op);
    ops[w]->add(backends[w], &add);
    op->y = add.y;
}

static void add_to_hidden(struct model *m, int w, const struct matrix *weight,
                          const struct field *x, int64_t n_in, int32_t rows) {
    cohort_op_linear op = {.weight = weight->linears[w],
                           .x = all_of(x, w),
                           .y = all_of(&m->hidden, w),
                           .x_stride = n_in,
                           .y_stride = HIDDEN,
                           .n_rows = rows};
    add_product(w, &op, all_of(&m->normed, w));
}

static void attend(struct model *m, int w, int32_t index) {
    const struct layer *layer = &m->layers[index];
    const cohort_op_rotate rotate = {
        .heads = m->heads,
        .qkv = all_of(&m->qkv, w),
        .qkv_stride = m->qkv_width,
        .q_norm = m->geometry.normed ? layer->head_norms[0].buffers[w] : NULL,
        .k_norm = m->geometry.normed ? layer->head_norms[1].buffers[w] : NULL,
        .eps = 1e-6F,
        .cos = m->cos.buffers[w],
        .sin = m->sin.buffers[w]};
    const cohort_op_attention attention = {.kv = m->kv[w],
                                           .layer = index,
                                           .heads = m->heads,
                                           .qkv = rotate.qkv,
                                           .qkv_stride = m->qkv_width,
                                           .out = all_of(&m->heads_out, w)};
    if (ops[w]->rotate_store) {
        ops[w]->rotate_store(backends[w], &rotate, &attention);
    } else {
        ops[w]->rotate(backends[w], &rotate);
        ops[w]->store(backends[w], &attention);
    }
    ops[w]->attend(backends[w], &attention);
}

static void mlp(struct model *m, int w, const struct layer *layer, int32_t rows) {
    const cohort_op_norm norm = {.weight = layer->norms[1].buffers[w],
                                 .eps = 1e-6F,
                                 .x = all_of(&m->hidden, w),
                                 .y = all_of(&m->normed, w),
                                 .n_rows = rows,
                                 .n_columns = HIDDEN};
    const cohort_op_linear up = {.weight = layer->gate_up.linears[w],
                                 .x = norm.y,
                                 .y = all_of(&m->wide, w),
                                 .x_stride = HIDDEN,
                                 .y_stride = 2 * INNER,
                                 .n_rows = rows};
    const cohort_op_activate activate = {
        .gated = true, .x = up.y, .y = all_of(&m->narrow, w), .n_rows = rows, .n = INNER};
    if (ops[w]->norm_linear_activate) {
        ops[w]->norm_linear_activate(backends[w], &norm, &up, &activate);
    } else {
        norm_linear(w, &norm, &up);
        ops[w]->activate(backends[w], &activate);
    }
    add_to_hidden(m, w, &layer->down, &m->narrow, INNER, rows);
}

static void run_layers(struct model *m, int w, int32_t rows) {
    for (int32_t i = 0; i < LAYERS; i++) {
        const struct layer *layer = &m->layers[i];
        const cohort_op_norm norm = {.weight = layer->norms[0].buffers[w],
                                     .eps = 1e-6F,
                                     .x = all_of(&m->hidden, w),
                                     .y = all_of(&m->normed, w),
                                     .n_rows = rows,
                                     .n_columns = HIDDEN};
        const cohort_op_linear qkv = {.weight = layer->qkv.linears[w],
                                      .bias = layer->bias.buffers[w],
                                      .x = norm.y,
                                      .y = all_of(&m->qkv, w),
                                      .x_stride = HIDDEN,
                                      .y_stride = m->qkv_width,
                                      .n_rows = rows};
        norm_linear(w, &norm, &qkv);
        attend(m, w, i);
        add_to_hidden(m, w, &layer->out, &m->heads_out, m->heads_width, rows);
        mlp(m, w, layer, rows);
    }
}

/* ---- steps ------------------------------------------------------------------------- */

/* Rows of each sequence, in the order in which a step has them. */
struct step {
    struct {
        int32_t sequence, n_rows;
    } of[SEQUENCES];
};

static void expect_rows_near(const struct field *field, int32_t width, int32_t rows,
                             const char *what) {
    size_t n = (size_t)rows * (size_t)width;
    float *values[BOTH];
    for (int w = 0; w < BOTH; w++) {
        values[w] = malloc(n * sizeof(float));
        assert_non_null(values[w]);
        assert_int_equal(
            ops[w]->download(backends[w], all_of(field, w), values[w], (int64_t)n),
            COHORT_OK);
    }
    for (int32_t r = 0; r < rows; r++) {
        double error = 0, square = 0;
        for (int32_t i = r * width; i < (r + 1) * width; i++) {
            double expected = (double)values[REFERENCE][i];
            double distance = (double)values[SUBJECT][i] - expected;
            error += distance * distance, square += expected * expected;
        }
        if (!(error <= subject->limit * square))
            fail_msg("%s: row %d of %d: errors are %.1e of the values", what, r, rows,
                     error / square);
    }
    free(values[REFERENCE]);
    free(values[SUBJECT]);
}

static void run_steps(struct model *m) {
    static const struct step steps[] = {
        {{{0, 100}, {1, 37}, {2, 130}}}, /* prompts */
        {{{1, 1}, {0, 1}, {2, 90}}},     /* one goes on */
        {{{0, 1}, {1, 1}, {2, 1}}},
        {{{0, 1}, {1, 20}}},
        {{{1, 66}, {0, 1}}},
        {{{1, 2}}},
        {{{3, 1}, {1, 1}}}, /* 3 has all of 1 in common, whose block fills in this step */
    };
    static const int32_t tables[SEQUENCES][MAX_BLOCKS] = {
        {3, 1, 4, 0, 5, 9, 2},
        {6, 7, 8, 10, 11, 12, 13, 14},
        {20, 19, 18, 17, 16, 15, 21, 22, 23, 24, 25, 26, 27, 28},
        {6, 7, 8, 10, 11, 12, 13, 14, 29}};
    const int32_t ids[MAX_ROWS] = {0}, n_logit_rows[SEQUENCES] = {0};
    int32_t n_computed[SEQUENCES] = {0, 0, 0, 128};
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
        cohort_sequence sequences[SEQUENCES];
        int32_t n = 0, rows = 0;
        for (; n < SEQUENCES && steps[s].of[n].n_rows; n++) {
            int32_t which = steps[s].of[n].sequence;
            sequences[n] = (cohort_sequence){.row_begin = rows,
                                             .n_rows = steps[s].of[n].n_rows,
                                             .n_computed = n_computed[which],
                                             .block_table = tables[which],
                                             .slot = which};
            rows += sequences[n].n_rows, n_computed[which] += sequences[n].n_rows;
        }
        const cohort_batch batch = {.token_ids = ids,
                                    .n_rows = rows,
                                    .sequences = sequences,
                                    .n_logit_rows = n_logit_rows,
                                    .n_sequences = n,
                                    .deadline_ns = COHORT_NEVER};
        float *values = malloc((size_t)rows * HIDDEN * sizeof *values);
        assert_non_null(values);
        for (int32_t i = 0; i < rows * HIDDEN; i++)
            values[i] = noise();
        for (int w = 0; w < BOTH; w++)
            assert_int_equal(
                ops[w]->upload(backends[w], all_of(&m->hidden, w), values, rows * HIDDEN),
                COHORT_OK);
        free(values);
        begin(&batch);
        for (int w = 0; w < BOTH; w++)
            run_layers(m, w, rows);
        end();
        char what[64];
        snprintf(what, sizeof what, "step %zu, heads of %d", s, m->geometry.head_dim);
        expect_rows_near(&m->hidden, HIDDEN, rows, what);
    }
}

/* An addition to rows as wide as a device does not have at once, then their norm. */
static void wide_residuals_are_near(void **state) {
    (void)state;
    need_subject();
    enum { WIDE = 5792, IN = 64, ROWS = 300, OUT = 20 };
    struct matrix down = matrix_of(WIDE, IN, COHORT_BF16),
                  up = matrix_of(OUT, WIDE, COHORT_BF16);
    struct field hidden = vector((int64_t)ROWS * WIDE), x = vector(ROWS * IN),
                 normed = vector((int64_t)ROWS * WIDE), weight = vector(WIDE),
                 part = vector((int64_t)ROWS * WIDE), y = vector(ROWS * OUT);
    begin_rows(ROWS);
    for (int w = 0; w < BOTH; w++) {
        cohort_op_linear add = {.weight = down.linears[w],
                                .x = all_of(&x, w),
                                .y = all_of(&hidden, w),
                                .x_stride = IN,
                                .y_stride = WIDE,
                                .n_rows = ROWS};
        const cohort_op_norm norm = {.weight = weight.buffers[w],
                                     .eps = 1e-6F,
                                     .x = add.y,
                                     .y = all_of(&normed, w),
                                     .n_rows = ROWS,
                                     .n_columns = WIDE};
        const cohort_op_linear linear = {.weight = up.linears[w],
                                         .x = norm.y,
                                         .y = all_of(&y, w),
                                         .x_stride = WIDE,
                                         .y_stride = OUT,
                                         .n_rows = ROWS};
        add_product(w, &add, all_of(&part, w));
        norm_linear(w, &norm, &linear);
    }
    end();
    expect_rows_near(&hidden, WIDE, ROWS, "residual rows");
    expect_rows_near(&y, OUT, ROWS, "rows of what is behind the norm");
    struct field *all[] = {&hidden, &x, &normed, &weight, &part, &y};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        drop(all[i]);
    drop_matrix(&down);
    drop_matrix(&up);
}

static void layers_are_near_whatever_a_step_holds(void **state) {
    (void)state;
    need_subject();
    static const struct geometry geometries[] = {{4, 2, 128, 0, true},
                                                 {3, 1, 64, 0, false},
                                                 {1, 1, 128, 40, true},
                                                 {5, 1, 64, 100, true},
                                                 {4, 2, 32, 0, true}};
    for (size_t i = 0; i < sizeof geometries / sizeof *geometries; i++) {
        static struct model model;
        open_model(&model, &geometries[i]);
        run_steps(&model);
        drop_model(&model);
    }
}

int main(void) {
    enum { N = sizeof subjects / sizeof *subjects };
    static const CMUnitTestFunction facts[] = {layers_are_near_whatever_a_step_holds,
                                               wide_residuals_are_near};
    static struct CMUnitTest tests[2 * N];
    for (size_t i = 0; i < 2 * N; i++)
        tests[i] =
            (struct CMUnitTest){.name = subjects[i / 2].name,
                                .test_func = facts[i % 2],
                                .setup_func = open_backends,
                                .teardown_func = close_backends,
                                .initial_state = (void *)(uintptr_t)&subjects[i / 2]};
    return _cmocka_run_group_tests("layers", tests, 2 * N, NULL, NULL);
}
