/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of decoding that are replayed as graphs: the same logits, bit for bit, as step
 * by step, and as many graphs as there should be. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "fakecuda.h"
#include "model/cuda/cuda_internal.h"
#include "model/model.h"

enum { SEQUENCES = 6, STEPS = 24, PROMPT = 3, BLOCKS = 2, MOST_LOGITS = 1024 };

static __typeof__(&fake_cuda_graphs) graphs;
static __typeof__(&fake_cuda_live) live;

static int find_the_double(void **state) {
    (void)state;
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return -1;
    void *symbols[] = {dlsym(library, "fake_cuda_graphs"),
                       dlsym(library, "fake_cuda_live")};
    if (!symbols[0] || !symbols[1]) return -1;
    memcpy(&graphs, &symbols[0], sizeof graphs);
    memcpy(&live, &symbols[1], sizeof live);
    return 0;
}

struct seen {
    int32_t n_rows, vocab_size;
    float logits[STEPS + 1][SEQUENCES][MOST_LOGITS];
    int32_t n_graphs[STEPS + 1]; /* launched in this step */
};

struct run {
    cohort_model *model;
    struct seen *seen;
    int32_t step, n_sequences;
};

static cohort_status keep(void *user_data, int32_t first, int32_t n, float *logits,
                          int32_t vocab_size) {
    struct run *run = user_data;
    assert_true(vocab_size <= MOST_LOGITS);
    for (int32_t i = 0; i < n; i++)
        memcpy(run->seen->logits[run->step][first + i],
               logits + (size_t)i * (size_t)vocab_size,
               (size_t)vocab_size * sizeof *logits);
    run->seen->n_rows = first + n;
    run->seen->vocab_size = vocab_size;
    return COHORT_OK;
}

/* Sequences [0, n) each have computed so many tokens. */
static void take_step(struct run *run, int32_t n, int32_t n_computed, int32_t n_rows) {
    int32_t ids[SEQUENCES * PROMPT], tables[SEQUENCES][BLOCKS], ones[SEQUENCES];
    cohort_sequence sequences[SEQUENCES];
    for (int32_t i = 0; i < n; i++) {
        tables[i][0] = i, tables[i][1] = SEQUENCES + i;
        ones[i] = 1;
        sequences[i] = (cohort_sequence){.row_begin = i * n_rows,
                                         .n_rows = n_rows,
                                         .n_computed = n_computed,
                                         .block_table = tables[i],
                                         .slot = i};
        for (int32_t r = 0; r < n_rows; r++)
            ids[i * n_rows + r] = 1 + (i * 31 + (n_computed + r) * 7) % 50;
    }
    const cohort_batch batch = {.token_ids = ids,
                                .n_rows = n * n_rows,
                                .sequences = sequences,
                                .n_logit_rows = ones,
                                .n_sequences = n,
                                .deadline_ns = COHORT_NEVER};
    int before = graphs();
    if (cohort_model_forward(run->model, &batch, keep, run) < 0)
        fail_msg("%s", cohort_last_error()->message);
    run->seen->n_graphs[run->step] = graphs() - before;
    assert_int_equal(run->seen->n_rows, n);
    run->step++;
}

/* All prompts in one step, then decoding: of how many each time, `numbers` says, the same
 * number from the first sequence on. */
static void decode(const char *checkpoint, const cohort_cuda_options *cuda,
                   const int32_t *numbers, int32_t n_steps, struct seen *seen) {
    char dir[512];
    snprintf(dir, sizeof dir, "%s/tests/golden/%s", COHORT_SOURCE_DIR, checkpoint);
    const cohort_model_options options = {.model_dir = dir,
                                          .max_model_len = 32,
                                          .max_num_batched_tokens = SEQUENCES * PROMPT,
                                          .max_num_seqs = SEQUENCES,
                                          .block_size = 16,
                                          .tp_size = 1,
                                          .pp_size = 1,
                                          .backend = cohort_backend_cuda(),
                                          .device = cuda};
    struct run run = {.seen = seen};
    memset(seen, 0, sizeof *seen);
    if (cohort_model_open(&options, &run.model) < 0 ||
        cohort_model_load(run.model, NULL, NULL) < 0 ||
        cohort_model_kv_create(run.model, SEQUENCES * BLOCKS) < 0)
        fail_msg("%s", cohort_last_error()->message);
    take_step(&run, SEQUENCES, 0, PROMPT);
    for (int32_t i = 0; i < n_steps; i++)
        take_step(&run, numbers[i], PROMPT + i, 1);
    cohort_model_close(run.model);
    assert_int_equal(live(), 0);
}

static struct seen one_by_one, replayed;

static void expect_the_same(int32_t n_steps) {
    assert_int_equal(one_by_one.vocab_size, replayed.vocab_size);
    for (int32_t step = 0; step <= n_steps; step++)
        assert_memory_equal(one_by_one.logits[step], replayed.logits[step],
                            sizeof one_by_one.logits[step]);
}

static const cohort_cuda_options eager = {.n_ranks = 1, .enforce_eager = true};
static const cohort_cuda_options usual = {.n_ranks = 1};

/* Sequences leave one after the other: what further rows of a bucket would store would be
 * found by those that remain. */
static void replayed_steps_give_the_same_logits(void **state) {
    (void)state;
    static const char *const checkpoints[] = {"qwen3-bfloat16", "llama-float32",
                                              "opt-float32", "mistral_swa-float32"};
    /* Of 8 rows, of 4, of 1, and 8 again. */
    static const int32_t numbers[] = {6, 6, 5, 6, 3, 4, 3, 1, 1, 1, 5, 3};
    static const int32_t expected[] = {0, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 1};
    enum { N = sizeof numbers / sizeof *numbers };
    for (size_t i = 0; i < sizeof checkpoints / sizeof *checkpoints; i++) {
        decode(checkpoints[i], &eager, numbers, N, &one_by_one);
        decode(checkpoints[i], &usual, numbers, N, &replayed);
        expect_the_same(N);
        for (int32_t step = 0; step <= N; step++) {
            assert_int_equal(one_by_one.n_graphs[step], 0);
            assert_int_equal(replayed.n_graphs[step], expected[step]);
        }
    }
}

static void sizes_are_those_that_were_said(void **state) {
    (void)state;
    static const int32_t numbers[] = {6, 6, 6, 3, 3, 3};
    enum { N = sizeof numbers / sizeof *numbers };
    static const char *const up_to_4[] = {"4", NULL}, *const two[] = {"6", "2", NULL};
    static const struct {
        const char *const *sizes;
        int32_t graphs[N + 1];
    } cases[] = {{up_to_4, {0, 0, 0, 0, 0, 1, 1}}, {two, {0, 0, 1, 1, 1, 1, 1}}};
    decode("qwen3-bfloat16", &eager, numbers, N, &one_by_one);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        decode("qwen3-bfloat16",
               &(cohort_cuda_options){.n_ranks = 1, .graph_sizes = cases[i].sizes},
               numbers, N, &replayed);
        expect_the_same(N);
        assert_memory_equal(replayed.n_graphs, cases[i].graphs, sizeof cases[i].graphs);
    }
}

static void wrong_sizes_are_named(void **state) {
    (void)state;
    static const char *const wrong[] = {"0", "513", "many", "4x", ""};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *const sizes[] = {"4", wrong[i], NULL};
        const cohort_cuda_options cuda = {.n_ranks = 1, .graph_sizes = sizes};
        const cohort_model_options options = {.model_dir = COHORT_SOURCE_DIR
                                              "/tests/golden/qwen3-bfloat16",
                                              .max_num_batched_tokens = 8,
                                              .max_num_seqs = 2,
                                              .block_size = 16,
                                              .tp_size = 1,
                                              .pp_size = 1,
                                              .backend = cohort_backend_cuda(),
                                              .device = &cuda};
        cohort_model *model = NULL;
        assert_int_equal(cohort_model_open(&options, &model), COHORT_E_INVALID);
        assert_non_null(strstr(cohort_last_error()->message, "cuda_graph_sizes"));
        assert_int_equal(live(), 0);
    }
}

static void decoding_is_not_rounded_up_to_a_prompt(void **state) {
    (void)state;
    cohort_cuda_graph buckets[] = {{.n_rows = 2}, {.n_rows = 64}, {.n_rows = 256}};
    struct cohort_backend backend = {.graphs = buckets, .n_graphs = 3};
    assert_ptr_equal(cohort_cuda_graph_for(&backend, 3), &buckets[1]);
    assert_ptr_equal(cohort_cuda_graph_for(&backend, 65), &buckets[2]);
    assert_null(cohort_cuda_graph_for(&backend, 257));
    backend.n_graphs = 1, buckets[0].n_rows = 256;
    assert_null(cohort_cuda_graph_for(&backend, 64));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_is_not_rounded_up_to_a_prompt),
        cmocka_unit_test(replayed_steps_give_the_same_logits),
        cmocka_unit_test(sizes_are_those_that_were_said),
        cmocka_unit_test(wrong_sizes_are_named),
    };
    return cmocka_run_group_tests(tests, find_the_double, NULL);
}
