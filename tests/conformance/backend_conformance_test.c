/* SPDX-License-Identifier: Apache-2.0 */
/* Every operation of every backend against the CPU's portable kernels, which have tests
 * of their own against plain loops: random values, odd and edge shapes, outputs that are
 * NaN beforehand, guards on both sides of every buffer.
 *
 * A subject is a table of operations and its options; a new device is one more line. */
#include "backend_pair.h"

static const struct subject subjects[] = {
    {"portable", cohort_backend_cpu, {.n_threads = 3, .isa = "portable"}, false, 1e-11},
    {"avx2", cohort_backend_cpu, {.n_threads = 1, .isa = "avx2"}, false, 1e-11},
    {"avx2, three threads",
     cohort_backend_cpu,
     {.n_threads = 3, .isa = "avx2"},
     false,
     1e-11},
    {"avx512", cohort_backend_cpu, {.n_threads = 2, .isa = "avx512"}, false, 1e-11},
    {"avx512_bf16",
     cohort_backend_cpu,
     {.n_threads = 2, .isa = "avx512_bf16"},
     true,
     3e-5},
    {"amx", cohort_backend_cpu, {.n_threads = 2, .isa = "amx"}, true, 3e-5},
    {"mock", mock_device, {.n_threads = 1, .isa = "portable"}, false, 1e-11},
    {"fusing mock",
     mock_device_that_fuses,
     {.n_threads = 1, .isa = "portable"},
     false,
     1e-11},
#if COHORT_HAVE_CUDA
    {"cuda", cohort_backend_cuda, {0}, true, 3e-5}, /* skipped where there is no GPU */
#endif
};

/* ---- operations -------------------------------------------------------------------- */

static void transfers_keep_every_bit(void **state) {
    (void)state;
    need_subject();
    int32_t values[37], got[37];
    for (int32_t i = 0; i < 37; i++)
        values[i] = i * 0x01234567;
    for (int d = COHORT_F32; d <= COHORT_I32; d += COHORT_I32) {
        struct field field = field_of((cohort_dtype)d, values, 37);
        assert_int_equal(ops[SUBJECT]->upload(backends[SUBJECT], at(&field, SUBJECT, 5),
                                              values + 20, 3),
                         COHORT_OK);
        assert_int_equal(
            ops[SUBJECT]->download(backends[SUBJECT], at(&field, SUBJECT, 4), got, 5),
            COHORT_OK);
        const int32_t expected[] = {values[4], values[20], values[21], values[22],
                                    values[8]};
        assert_memory_equal(got, expected, sizeof expected);
        drop(&field);
    }
}

static void embed_finds_rows_and_gives_zeros_elsewhere(void **state) {
    (void)state;
    need_subject();
    enum { N = 37, WIDTH = 19, ROWS = 7 };
    for (int d = COHORT_F32; d <= COHORT_F16; d++) {
        struct matrix table = matrix_of(N, WIDTH, (cohort_dtype)d);
        const int32_t ids[ROWS] = {10, 46, 9, 47, 1000, 11, 45}, n_logit_rows[2] = {0};
        const cohort_sequence sequences[] = {
            {.n_rows = 4, .block_table = no_blocks},
            {.row_begin = 4, .n_rows = 3, .n_computed = 33, .block_table = no_blocks}};
        const cohort_batch batch = {.token_ids = ids,
                                    .n_rows = ROWS,
                                    .sequences = sequences,
                                    .n_logit_rows = n_logit_rows,
                                    .n_sequences = 2,
                                    .deadline_ns = COHORT_NEVER};
        struct field tokens = output(ROWS * WIDTH), positions = output(ROWS * WIDTH);
        begin(&batch);
        for (int w = 0; w < BOTH; w++) {
            ops[w]->embed(backends[w], &(cohort_op_embed){.table = table.linears[w],
                                                          .shift = -10,
                                                          .y = at(&tokens, w, 0)});
            ops[w]->embed(backends[w], &(cohort_op_embed){.table = table.linears[w],
                                                          .positions = true,
                                                          .shift = 2,
                                                          .y = at(&positions, w, 0)});
        }
        end();
        float *got = contents(&tokens, SUBJECT);
        for (int32_t i = 0; i < WIDTH; i++)
            assert_true(got[2 * WIDTH + i] == 0 && got[3 * WIDTH + i] == 0);
        free(got);
        expect_same(&tokens, "embedding");
        expect_same(&positions, "positions");
        drop_matrix(&table);
    }
}

static void product(int64_t n_out, int64_t n_in, cohort_dtype dtype, int64_t n_rows,
                    bool biased) {
    int64_t x_stride = n_in + 3, y_stride = n_out + 5;
    struct matrix matrix = matrix_of(n_out, n_in, dtype);
    struct field x = noisy(n_rows * x_stride), y = output(n_rows * y_stride);
    /* A GPU takes more than 64 rows otherwise; how many they are is all the same, too. */
    int64_t fewer = n_rows > 64 && !strcmp(subject->name, "cuda") ? 65 : 1;
    struct field alone = output(fewer * n_out), bias = vector(n_out);
    begin_rows((int32_t)n_rows);
    for (int w = 0; w < BOTH; w++) {
        cohort_op_linear op = {.weight = matrix.linears[w],
                               .bias = biased ? bias.buffers[w] : NULL,
                               .x = at(&x, w, 0),
                               .y = at(&y, w, 0),
                               .x_stride = x_stride,
                               .y_stride = y_stride,
                               .n_rows = n_rows};
        ops[w]->linear(backends[w], &op);
        op.x = at(&x, w, (n_rows - fewer) * x_stride);
        op.y = at(&alone, w, 0);
        op.y_stride = n_out;
        op.n_rows = fewer;
        ops[w]->linear(backends[w], &op);
    }
    end();
    float *all = contents(&y, SUBJECT), *one = contents(&alone, SUBJECT);
    if (memcmp(all + (n_rows - 1) * y_stride, one + (fewer - 1) * n_out,
               (size_t)n_out * sizeof *one) != 0)
        fail_msg("row %lld of %lld x %lld is not what it is among %lld",
                 (long long)n_rows - 1, (long long)n_out, (long long)n_in,
                 (long long)fewer);
    free(all);
    free(one);
    expect_near(&y, subject->limit, "product");
    drop(&alone);
    drop(&x);
    drop(&bias);
    drop_matrix(&matrix);
}

static void products_are_near_and_rows_do_not_depend_on_others(void **state) {
    (void)state;
    need_subject();
    const int64_t shapes[][2] = {{1, 1}, {16, 64}, {17, 33}, {96, 7}, {130, 1030}};
    const int64_t rows[] = {1, 2, 5, 12, 13, 97};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
            product(shapes[s][0], shapes[s][1], (cohort_dtype)((s + r) % 3), rows[r],
                    (s + r) % 2);
    product(48, 128, COHORT_BF16, 33, true);
    product(5792, 40, COHORT_BF16, 300, true); /* more than a device does at once */
    /* As wide as models are, for a device whose fast memory ends somewhere. */
    for (int64_t n_rows = 1; n_rows <= 8; n_rows += 7)
        product(17, 18944, COHORT_BF16, n_rows, false);
}

/* The reference multiplies with what the planes stand for. */
static void products_with_int8_are_near(void **state) {
    (void)state;
    need_subject();
    enum { N_OUT = 37, N_IN = 70, ROWS = 7 };
    static int8_t values[N_OUT][N_IN];
    static float wide[N_OUT][N_IN], scales[N_OUT];
    for (int32_t r = 0; r < N_OUT; r++) {
        scales[r] = 0.01F + 0.02F * fabsf(noise());
        for (int32_t k = 0; k < N_IN; k++) {
            values[r][k] = (int8_t)(127 * noise());
            wide[r][k] = (float)values[r][k] * scales[r];
        }
    }
    cohort_linear *linears[BOTH];
    assert_int_equal(ops[REFERENCE]->linear_create(backends[REFERENCE], N_OUT, N_IN,
                                                   cohort_format_dense(COHORT_F32),
                                                   &linears[REFERENCE]),
                     COHORT_OK);
    assert_int_equal(ops[REFERENCE]->linear_set(linears[REFERENCE], COHORT_VALUES, 0,
                                                N_OUT, wide, COHORT_F32, N_IN),
                     COHORT_OK);
    assert_int_equal(ops[SUBJECT]->linear_create(backends[SUBJECT], N_OUT, N_IN,
                                                 cohort_format_int8(), &linears[SUBJECT]),
                     COHORT_OK);
    assert_int_equal(ops[SUBJECT]->linear_set(linears[SUBJECT], COHORT_SCALES, 0, N_OUT,
                                              scales, COHORT_F32, 1),
                     COHORT_OK);
    assert_int_equal(ops[SUBJECT]->linear_set(linears[SUBJECT], COHORT_VALUES, 0, N_OUT,
                                              values, COHORT_I8, N_IN),
                     COHORT_OK);
    assert_true(ops[SUBJECT]->linear_bytes(linears[SUBJECT]) <
                ops[REFERENCE]->linear_bytes(linears[REFERENCE]) / 3);
    struct field x = noisy(ROWS * N_IN), y = output(ROWS * (N_OUT + 2)),
                 alone = output(N_OUT), bias = vector(N_OUT);
    begin_rows(ROWS);
    for (int w = 0; w < BOTH; w++) {
        cohort_op_linear op = {.weight = linears[w],
                               .bias = bias.buffers[w],
                               .x = at(&x, w, 0),
                               .y = at(&y, w, 0),
                               .x_stride = N_IN,
                               .y_stride = N_OUT + 2,
                               .n_rows = ROWS};
        ops[w]->linear(backends[w], &op);
        op.x = at(&x, w, 5 * N_IN);
        op.y = at(&alone, w, 0);
        op.n_rows = 1;
        ops[w]->linear(backends[w], &op);
    }
    end();
    float *all = contents(&y, SUBJECT), *one = contents(&alone, SUBJECT);
    assert_memory_equal(all + 5 * (N_OUT + 2), one, N_OUT * sizeof *one);
    free(all);
    free(one);
    expect_near(&y, 1e-11, "product with int8");
    drop(&alone);
    drop(&x);
    drop(&bias);
    for (int w = 0; w < BOTH; w++)
        ops[w]->linear_destroy(linears[w]);
}

static void norms_are_near_in_place_too(void **state) {
    (void)state;
    need_subject();
    const int64_t widths[] = {1, 2, 15, 16, 17, 64, 577};
    for (size_t i = 0; i < 2 * sizeof widths / sizeof *widths; i++) {
        int64_t n = widths[i / 2], rows = 1 + (int64_t)i * 3;
        struct field x = noisy(rows * n), y = output(rows * n), weight = vector(n),
                     bias = vector(n);
        begin_rows((int32_t)rows);
        for (int w = 0; w < BOTH; w++) {
            cohort_op_norm op = {.centred = i % 2,
                                 .weight = weight.buffers[w],
                                 .bias = i % 2 ? bias.buffers[w] : NULL,
                                 .eps = 1e-5F,
                                 .x = at(&x, w, 0),
                                 .y = at(&y, w, 0),
                                 .n_rows = rows,
                                 .n_columns = n};
            ops[w]->norm(backends[w], &op);
            op.y = op.x;
            ops[w]->norm(backends[w], &op);
        }
        end();
        expect_near(&y, 1e-11, "norm");
        expect_near(&x, 1e-11, "norm in place");
        drop(&weight);
        drop(&bias);
    }
}

static void sums_and_activations_are_near(void **state) {
    (void)state;
    need_subject();
    const int64_t widths[] = {1, 3, 16, 1000, 9001};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        int64_t n = widths[i], rows = 3;
        struct field x = noisy(2 * rows * n), y = noisy(2 * rows * n);
        begin_rows((int32_t)rows);
        for (int w = 0; w < BOTH; w++)
            ops[w]->add(backends[w], &(cohort_op_add){.y = at(&y, w, 0),
                                                      .x = at(&x, w, 0),
                                                      .count = 2 * rows * n});
        end();
        expect_same(&y, "sum");
        for (int kind = COHORT_SILU; kind <= COHORT_GELU; kind++)
            for (int gated = 0; gated < 2; gated++) {
                struct field out = output(rows * n);
                begin_rows((int32_t)rows);
                for (int w = 0; w < BOTH; w++)
                    ops[w]->activate(
                        backends[w],
                        &(cohort_op_activate){.activation = (cohort_activation)kind,
                                              .gated = gated,
                                              .x = at(&x, w, 0),
                                              .y = at(&out, w, 0),
                                              .n_rows = rows,
                                              .n = n});
                end();
                expect_near(&out, 1e-11, "activation");
            }
        drop(&x);
    }
}

/* ---- attention --------------------------------------------------------------------- */

struct geometry {
    int32_t n_heads, n_kv_heads, head_dim, window;
    cohort_dtype dtype;
    bool normed, rotated;
};

/* vectors: norms of q and k, cosines, sines. */
static void attend(int w, const struct geometry *g, cohort_kv *kv,
                   const struct field *vectors, cohort_view qkv, cohort_view out) {
    int64_t stride = (int64_t)(g->n_heads + 2 * g->n_kv_heads) * g->head_dim;
    const cohort_heads heads = {g->n_heads, g->n_kv_heads, g->head_dim, 0.3F, g->window};
    const cohort_op_rotate rotate = {.heads = heads,
                                     .qkv = qkv,
                                     .qkv_stride = stride,
                                     .q_norm = g->normed ? vectors[0].buffers[w] : NULL,
                                     .k_norm = g->normed ? vectors[1].buffers[w] : NULL,
                                     .eps = 1e-6F,
                                     .cos = g->rotated ? vectors[2].buffers[w] : NULL,
                                     .sin = g->rotated ? vectors[3].buffers[w] : NULL};
    const cohort_op_attention attention = {.kv = kv,
                                           .layer = 1,
                                           .heads = heads,
                                           .qkv = qkv,
                                           .qkv_stride = stride,
                                           .out = out};
    if (ops[w]->rotate_store) {
        ops[w]->rotate_store(backends[w], &rotate, &attention);
    } else {
        if (g->normed || g->rotated) ops[w]->rotate(backends[w], &rotate);
        ops[w]->store(backends[w], &attention);
    }
    ops[w]->attend(backends[w], &attention);
}

/* Two sequences, the first in two chunks, the second joining with the later. */
static void two_chunks(const struct geometry *g) {
    enum { FIRST = 35, SECOND = 18, THEN = 7, POSITIONS = FIRST + SECOND + THEN };
    int64_t stride = (int64_t)(g->n_heads + 2 * g->n_kv_heads) * g->head_dim;
    int64_t out_stride = (int64_t)g->n_heads * g->head_dim;
    const int32_t tables[2][4] = {{5, 0, 3, 1}, {2, 4, 0, 0}};
    const int32_t ids[FIRST + SECOND] = {0}, n_logit_rows[2] = {0};
    const cohort_kv_shape shape = {2, 16, g->n_kv_heads, g->head_dim, g->dtype};
    cohort_kv *kv[BOTH];
    struct field vectors[] = {vector(g->head_dim), vector(g->head_dim),
                              vector((int64_t)POSITIONS * g->head_dim / 2),
                              vector((int64_t)POSITIONS * g->head_dim / 2)};
    for (int w = 0; w < BOTH; w++) {
        assert_true(ops[w]->kv_block_bytes(backends[w], &shape) >=
                    (size_t)(2 * 2 * 16 * g->n_kv_heads * g->head_dim) *
                        (g->dtype == COHORT_F32 ? 4 : 2));
        assert_int_equal(ops[w]->kv_create(backends[w], &shape, 6, &kv[w]), COHORT_OK);
    }
    for (int32_t step = 0; step < 2; step++) {
        const cohort_sequence sequences[] = {
            {.n_rows = step ? THEN : FIRST,
             .n_computed = step ? FIRST : 0,
             .block_table = tables[0]},
            {.row_begin = THEN, .n_rows = SECOND, .block_table = tables[1], .slot = 1}};
        int32_t rows = step ? THEN + SECOND : FIRST;
        const cohort_batch batch = {.token_ids = ids,
                                    .n_rows = rows,
                                    .sequences = sequences,
                                    .n_logit_rows = n_logit_rows,
                                    .n_sequences = step + 1,
                                    .deadline_ns = COHORT_NEVER};
        struct field qkv = noisy(rows * stride), out = output(rows * out_stride);
        begin(&batch);
        for (int w = 0; w < BOTH; w++)
            attend(w, g, kv[w], vectors, at(&qkv, w, 0), at(&out, w, 0));
        end();
        expect_near(&qkv, 1e-11, "head norms and rotation");
        /* Keys that were rounded the other way in the cache weigh a little otherwise. */
        double limit = subject->bf16 || g->dtype == COHORT_F32 ? subject->limit : 1e-7;
        expect_near(&out, limit, "attention");
    }
    for (int w = 0; w < BOTH; w++)
        ops[w]->kv_destroy(kv[w]);
    for (int i = 0; i < 4; i++)
        drop(&vectors[i]);
}

static void attention_is_near_whatever_the_heads(void **state) {
    (void)state;
    need_subject();
    const struct geometry geometries[] = {
        {1, 1, 2, 0, COHORT_F32, false, true},
        {4, 2, 16, 0, COHORT_F32, true, true},
        {9, 3, 64, 0, COHORT_BF16, false, true},
        {6, 1, 20, 9, COHORT_F32, true, false},
        {5, 5, 13, 0, COHORT_F32, false, false},
        {16, 2, 128, 20, COHORT_BF16, true, true},
    };
    for (size_t i = 0; i < sizeof geometries / sizeof *geometries; i++)
        two_chunks(&geometries[i]);
}

/* ---- experts, logits --------------------------------------------------------------- */

static void mixtures_choose_the_same_experts(void **state) {
    (void)state;
    need_subject();
    enum { N_EXPERTS = 11, TOP_K = 3, WIDTH = 40, INNER = 24, ROWS = 29 };
    struct matrix gate_up[N_EXPERTS], down[N_EXPERTS];
    cohort_linear *ups[BOTH][N_EXPERTS], *downs[BOTH][N_EXPERTS];
    for (int32_t e = 0; e < N_EXPERTS; e++) {
        gate_up[e] = matrix_of(2 * INNER, WIDTH, COHORT_BF16);
        down[e] = matrix_of(WIDTH, INNER, COHORT_BF16);
        for (int w = 0; w < BOTH; w++) {
            ups[w][e] = gate_up[e].linears[w];
            downs[w][e] = down[e].linears[w];
        }
    }
    for (int renormalise = 0; renormalise < 2; renormalise++) {
        struct field logits = noisy(ROWS * N_EXPERTS), x = noisy(ROWS * WIDTH);
        struct field ids = field_of(COHORT_I32, NULL, ROWS * TOP_K);
        struct field weights = output(ROWS * TOP_K), y = output(ROWS * WIDTH);
        begin_rows(ROWS);
        for (int w = 0; w < BOTH; w++) {
            ops[w]->route(backends[w], &(cohort_op_route){.logits = at(&logits, w, 0),
                                                          .n_rows = ROWS,
                                                          .n_experts = N_EXPERTS,
                                                          .top_k = TOP_K,
                                                          .renormalise = renormalise,
                                                          .ids = at(&ids, w, 0),
                                                          .weights = at(&weights, w, 0)});
            ops[w]->experts(backends[w],
                            &(cohort_op_experts){.gate_up = ups[w],
                                                 .down = downs[w],
                                                 .n_experts = N_EXPERTS,
                                                 .top_k = TOP_K,
                                                 .ids = at(&ids, w, 0),
                                                 .weights = at(&weights, w, 0),
                                                 .x = at(&x, w, 0),
                                                 .y = at(&y, w, 0),
                                                 .n_rows = ROWS,
                                                 .n_in = WIDTH,
                                                 .n_inner = INNER});
        }
        end();
        expect_same(&ids, "experts chosen");
        expect_near(&weights, 1e-11, "weights of experts");
        expect_near(&y, subject->limit, "experts");
        drop(&logits);
        drop(&x);
    }
    for (int32_t e = 0; e < N_EXPERTS; e++) {
        drop_matrix(&gate_up[e]);
        drop_matrix(&down[e]);
    }
}

static void two_in_one_are_near_one_after_the_other(void **state) {
    (void)state;
    need_subject();
    enum { WIDTH = 66, INNER = 34, ROWS = 5 };
    struct matrix up = matrix_of(2 * INNER, WIDTH, COHORT_BF16),
                  down = matrix_of(WIDTH, INNER, COHORT_BF16);
    struct field x = noisy(ROWS * WIDTH), weight = vector(WIDTH),
                 normed = output(ROWS * WIDTH), wide = output(ROWS * 2 * INNER),
                 product_only = output(ROWS * 2 * INNER), narrow = output(ROWS * INNER);
    begin_rows(ROWS);
    for (int w = 0; w < BOTH; w++) {
        const cohort_op_norm norm = {.weight = weight.buffers[w],
                                     .eps = 1e-6F,
                                     .x = at(&x, w, 0),
                                     .y = at(&normed, w, 0),
                                     .n_rows = ROWS,
                                     .n_columns = WIDTH};
        cohort_op_linear linear = {.weight = up.linears[w],
                                   .x = norm.y,
                                   .y = at(&product_only, w, 0),
                                   .x_stride = WIDTH,
                                   .y_stride = 2 * INNER,
                                   .n_rows = ROWS};
        const cohort_op_activate activate = {.gated = true,
                                             .x = at(&wide, w, 0),
                                             .y = at(&narrow, w, 0),
                                             .n_rows = ROWS,
                                             .n = INNER};
        const cohort_op_linear sum = {.weight = down.linears[w],
                                      .x = activate.y,
                                      .y = at(&x, w, 0),
                                      .x_stride = INNER,
                                      .y_stride = WIDTH,
                                      .n_rows = ROWS};
        if (w == SUBJECT) {
            ops[w]->norm_linear(backends[w], &norm, &linear);
            linear.y = activate.x;
            ops[w]->norm_linear_activate(backends[w], &norm, &linear, &activate);
            ops[w]->linear_add(backends[w], &sum);
            continue;
        }
        ops[w]->norm(backends[w], &norm);
        ops[w]->linear(backends[w], &linear);
        linear.y = activate.x;
        ops[w]->linear(backends[w], &linear);
        ops[w]->activate(backends[w], &activate);
        cohort_op_linear part = sum;
        part.y = norm.y;
        ops[w]->linear(backends[w], &part);
        ops[w]->add(backends[w],
                    &(cohort_op_add){.y = sum.y, .x = norm.y, .count = ROWS * WIDTH});
    }
    end();
    expect_near(&product_only, subject->limit, "norm and product");
    expect_near(&narrow, subject->limit, "norm, product and activation");
    expect_near(&x, subject->limit, "product and residual");
    drop(&normed);
    drop(&wide);
    drop(&weight);
    drop_matrix(&up);
    drop_matrix(&down);
}

/* Rows of logits: greedy; drawn under a mask; logprobs of a known token; nothing; drawn
 * of NaNs. */
enum { SAMPLED_ROWS = 6, LOGITS = 5 };

static const uint32_t mask[] = {0xf0, 0, 0x3};
static const int32_t history[] = {1, 2, 3};

struct drawn {
    cohort_sampling_params greedy, warm;
    int32_t tokens[3];
    cohort_token_logprob logprobs[2][4];
    cohort_sample_row rows[LOGITS];
};

static void ask(struct drawn *drawn) {
    memset(drawn, 0, sizeof *drawn);
    drawn->greedy = drawn->warm = cohort_sampling_defaults();
    drawn->greedy.temperature = 0;
    drawn->greedy.n_logprobs = 3;
    drawn->warm.seed = 7;
    drawn->warm.n_logprobs = -1;
    for (int32_t i = 0; i < LOGITS; i++)
        drawn->rows[i] = (cohort_sample_row){
            .tokens = history, .n_tokens = 3, .n_prompt_tokens = 2, .slot = i};
    drawn->rows[0].params = &drawn->greedy;
    drawn->rows[0].out_token = &drawn->tokens[0];
    drawn->rows[0].n_logprobs = drawn->rows[2].n_logprobs = 3;
    drawn->rows[0].out_logprobs = drawn->logprobs[0];
    drawn->rows[1].params = drawn->rows[4].params = &drawn->warm;
    drawn->rows[1].mask = mask;
    drawn->rows[1].n_mask_words = 3;
    drawn->rows[1].out_token = &drawn->tokens[1];
    drawn->rows[2].known = 17;
    drawn->rows[2].out_logprobs = drawn->logprobs[1];
    drawn->rows[4].out_token = &drawn->tokens[2];
}

static void sample(struct drawn drawn[BOTH]) {
    struct field x = noisy(SAMPLED_ROWS * VOCAB), logits = output(LOGITS * VOCAB);
    float nans[VOCAB];
    for (int32_t i = 0; i < VOCAB; i++)
        nans[i] = NAN;
    const int32_t ids[SAMPLED_ROWS] = {0}, n_logit_rows[2] = {1, 4};
    const cohort_sequence sequences[] = {
        {.n_rows = 2, .block_table = no_blocks},
        {.row_begin = 2, .n_rows = 4, .block_table = no_blocks, .slot = 1}};
    cohort_batch batch = {.token_ids = ids,
                          .n_rows = SAMPLED_ROWS,
                          .sequences = sequences,
                          .n_logit_rows = n_logit_rows,
                          .n_sequences = 2,
                          .deadline_ns = COHORT_NEVER};
    for (int w = 0; w < BOTH; w++) {
        ask(&drawn[w]);
        batch.samples = drawn[w].rows;
        assert_int_equal(ops[w]->upload(backends[w], at(&x, w, 5 * VOCAB), nans, VOCAB),
                         COHORT_OK);
        assert_int_equal(ops[w]->step_begin(backends[w], &batch), COHORT_OK);
        cohort_op_take take = {
            .x = at(&x, w, 0), .y = at(&logits, w, 0), .n_columns = VOCAB, .n_rows = 2};
        ops[w]->take(backends[w], &take);
        take.y = at(&logits, w, 2 * VOCAB);
        take.first = 2;
        take.n_rows = 3;
        ops[w]->take(backends[w], &take);
        ops[w]->sample(backends[w], &(cohort_op_sample){.logits = at(&logits, w, 0),
                                                        .n_rows = LOGITS,
                                                        .deadline_ns = COHORT_NEVER});
    }
    end();
    drop(&x);
    drop(&logits);
}

static void drawn_tokens_and_logprobs_are_those_of_the_reference(void **state) {
    (void)state;
    need_subject();
    struct drawn drawn[BOTH];
    sample(drawn);
    const struct drawn *got = &drawn[SUBJECT], *expected = &drawn[REFERENCE];
    assert_memory_equal(got->tokens, expected->tokens, sizeof got->tokens);
    assert_true(got->tokens[1] >= 4 && got->tokens[1] < 66);
    assert_int_equal(got->tokens[2], -1);
    for (int32_t i = 0; i < 8; i++) {
        const cohort_token_logprob *a = &got->logprobs[i / 4][i % 4],
                                   *b = &expected->logprobs[i / 4][i % 4];
        assert_int_equal(a->token_id, b->token_id);
        assert_int_equal(a->rank, b->rank);
        assert_true(fabsf(a->logprob - b->logprob) < 1e-4F);
    }
}

static void a_slot_remembers_the_token_that_it_sampled(void **state) {
    (void)state;
    need_subject();
    struct drawn drawn[BOTH];
    sample(drawn);
    struct matrix table = matrix_of(VOCAB, 8, COHORT_F32);
    struct field rows = output(3 * 8);
    const int32_t ids[] = {COHORT_LAST_TOKEN, drawn[REFERENCE].tokens[0],
                           COHORT_LAST_TOKEN};
    const int32_t n_logit_rows[2] = {0};
    const cohort_sequence sequences[] = {
        {.n_rows = 2, .block_table = no_blocks},
        {.row_begin = 2, .n_rows = 1, .block_table = no_blocks, .slot = 1}};
    const cohort_batch batch = {.token_ids = ids,
                                .n_rows = 3,
                                .sequences = sequences,
                                .n_logit_rows = n_logit_rows,
                                .n_sequences = 2,
                                .deadline_ns = COHORT_NEVER};
    begin(&batch);
    for (int w = 0; w < BOTH; w++)
        ops[w]->embed(backends[w], &(cohort_op_embed){.table = table.linears[w],
                                                      .y = at(&rows, w, 0)});
    end();
    float *got = contents(&rows, SUBJECT);
    assert_memory_equal(got, got + 8, 8 * sizeof *got);
    assert_memory_not_equal(got, got + 16, 8 * sizeof *got);
    free(got);
    expect_same(&rows, "last tokens of slots");
    drop_matrix(&table);
}

/* ---- errors ------------------------------------------------------------------------ */

static void faults_surface_where_the_host_waits_and_stay(void **state) {
    (void)state;
    need_subject();
    const cohort_backend_ops *table = ops[SUBJECT];
    cohort_backend *backend = backends[SUBJECT];
    struct field x = noisy(8), y = noisy(8);
    float before[8], after[8];
    assert_int_equal(table->download(backend, at(&y, SUBJECT, 0), before, 8), COHORT_OK);
    mock_device_fail_at(1);
    begin_rows(1);
    table->at_layer(backend, 7);
    const cohort_op_add add = {
        .y = at(&y, SUBJECT, 0), .x = at(&x, SUBJECT, 0), .count = 8};
    table->add(backend, &add);
    table->at_layer(backend, -1);
    table->add(backend, &add);
    assert_int_equal(table->check(backend), COHORT_OK); /* it has not run yet */
    assert_int_equal(table->step_end(backend), COHORT_E_IO);
    assert_non_null(strstr(cohort_last_error()->message, "told to fail"));
    assert_non_null(strstr(cohort_last_error()->message, "computing layer 7"));
    assert_int_equal(table->check(backend), COHORT_E_IO);
    assert_int_equal(table->download(backend, at(&y, SUBJECT, 0), after, 8), COHORT_E_IO);
    assert_int_equal(table->step_begin(backend, &(cohort_batch){0}), COHORT_E_IO);
    mock_device_fail_at(0);
    drop(&x);
    drop(&y);
}

static bool fuses(const struct subject *asked) { return asked->ops()->norm_linear; }

static bool is_complete(const struct subject *asked) {
    return strcmp(asked->name, "cuda") != 0; /* not yet */
}

static bool is_mock(const struct subject *asked) {
    return asked->ops == mock_device || asked->ops == mock_device_that_fuses;
}

int main(void) {
    static const struct {
        const char *name;
        CMUnitTestFunction test;
        bool (*applies)(const struct subject *); /* NULL: to all */
    } all[] = {
#define FACT(name, applies_to) {#name, name, applies_to}
        FACT(transfers_keep_every_bit, NULL),
        FACT(embed_finds_rows_and_gives_zeros_elsewhere, NULL),
        FACT(products_are_near_and_rows_do_not_depend_on_others, NULL),
        FACT(products_with_int8_are_near, is_complete),
        FACT(norms_are_near_in_place_too, NULL),
        FACT(sums_and_activations_are_near, NULL),
        FACT(attention_is_near_whatever_the_heads, NULL),
        FACT(mixtures_choose_the_same_experts, is_complete),
        FACT(two_in_one_are_near_one_after_the_other, fuses),
        FACT(drawn_tokens_and_logprobs_are_those_of_the_reference, NULL),
        FACT(a_slot_remembers_the_token_that_it_sampled, NULL),
        FACT(faults_surface_where_the_host_waits_and_stay, is_mock),
    };
    enum {
        N_FACTS = sizeof all / sizeof *all,
        N_SUBJECTS = sizeof subjects / sizeof *subjects
    };
    static struct CMUnitTest tests[N_FACTS * N_SUBJECTS];
    static char names[N_FACTS * N_SUBJECTS][96];
    size_t n = 0;
    for (size_t s = 0; s < N_SUBJECTS; s++)
        for (size_t f = 0; f < N_FACTS; f++) {
            if (all[f].applies && !all[f].applies(&subjects[s])) continue;
            snprintf(names[n], sizeof names[n], "%s: %s", subjects[s].name, all[f].name);
            tests[n] =
                (struct CMUnitTest){.name = names[n],
                                    .test_func = all[f].test,
                                    .setup_func = open_backends,
                                    .teardown_func = close_backends,
                                    .initial_state = (void *)(uintptr_t)&subjects[s]};
            n++;
        }
    return _cmocka_run_group_tests("backend", tests, n, NULL, NULL);
}
