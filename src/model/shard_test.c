/* SPDX-License-Identifier: Apache-2.0 */
#include "model/shard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static cohort_model_config shape(int32_t n_heads, int32_t n_kv_heads, int32_t mlp,
                                 int32_t vocab, int32_t n_layers) {
    return (cohort_model_config){.n_heads = n_heads,
                                 .n_kv_heads = n_kv_heads,
                                 .intermediate_size = mlp,
                                 .vocab_size = vocab,
                                 .n_layers = n_layers};
}

static cohort_shard plan(const cohort_model_config *config, int32_t tp_rank,
                         int32_t tp_size) {
    cohort_shard shard;
    assert_int_equal(cohort_shard_plan(config, tp_rank, tp_size, 0, 1, NULL, &shard),
                     COHORT_OK);
    return shard;
}

static void assert_refused(const cohort_model_config *config, int32_t tp_size,
                           int32_t pp_size, const char *partition, const char *words) {
    cohort_shard shard;
    assert_int_equal(cohort_shard_plan(config, 0, tp_size, 0, pp_size, partition, &shard),
                     COHORT_E_INVALID);
    const char *message = cohort_last_error()->message;
    if (!strstr(message, words)) fail_msg("'%s' lacks '%s'", message, words);
}

static int32_t follow(cohort_span span, int32_t position) {
    assert_int_equal(span.begin, position);
    assert_true(span.end > span.begin);
    return span.end;
}

/* Every share of every size from 1 to the KV heads: nothing twice, nothing left out,
 * nobody empty, and query heads lie with their KV heads. */
static void shares_cover_everything_once(void **state) {
    (void)state;
    const cohort_model_config shapes[] = {
        shape(9, 3, 1536, 49152, 30),    shape(9, 3, 132, 1024, 2),
        shape(32, 8, 14336, 128256, 32), shape(14, 2, 4864, 151936, 24),
        shape(12, 12, 3072, 50272, 12),  shape(4, 4, 5, 7, 2),
        shape(64, 8, 25600, 50257, 64),
    };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const cohort_model_config *config = &shapes[s];
        int32_t group = config->n_heads / config->n_kv_heads;
        for (int32_t tp = 1; tp <= config->n_kv_heads; tp++) {
            int32_t heads = 0, kv = 0, mlp = 0, vocab = 0;
            for (int32_t rank = 0; rank < tp; rank++) {
                cohort_shard shard = plan(config, rank, tp);
                heads = follow(shard.heads, heads);
                kv = follow(shard.kv_heads, kv);
                mlp = follow(shard.mlp, mlp);
                vocab = follow(shard.vocab, vocab);
                assert_int_equal(shard.heads.begin, shard.kv_heads.begin * group);
                assert_int_equal(shard.heads.end, shard.kv_heads.end * group);
            }
            assert_int_equal(heads, config->n_heads);
            assert_int_equal(kv, config->n_kv_heads);
            assert_int_equal(mlp, config->intermediate_size);
            assert_int_equal(vocab, config->vocab_size);
        }
    }
}

static void columns_are_whole_granules(void **state) {
    (void)state;
    cohort_model_config config = shape(9, 3, 1536, 49152, 30);
    assert_int_equal(plan(&config, 0, 2).mlp.end, 768);
    config.intermediate_size = 132; /* granules of 4 */
    assert_int_equal(plan(&config, 0, 3).mlp.end, 44);
    config.intermediate_size = 48; /* 3 granules of 16 for 2 ranks */
    assert_int_equal(plan(&config, 0, 2).mlp.end, 32);
    config.vocab_size = 50257; /* the last rank has the broken granule */
    assert_int_equal(plan(&config, 0, 2).vocab.end % 16, 0);
    assert_int_equal(plan(&config, 1, 2).vocab.end, 50257);
}

static void kv_heads_are_copied_where_ranks_are_more(void **state) {
    (void)state;
    cohort_model_config config = shape(8, 2, 96, 1024, 4);
    for (int32_t rank = 0; rank < 4; rank++) {
        cohort_shard shard = plan(&config, rank, 4);
        assert_int_equal(shard.kv_heads.begin, rank / 2);
        assert_int_equal(shard.kv_heads.end, rank / 2 + 1);
        assert_int_equal(shard.heads.begin, rank * 2);
        assert_int_equal(shard.heads.end, rank * 2 + 2);
    }
    config = shape(14, 2, 4864, 151936, 24); /* groups of 7 on 2 ranks each: 4 and 3 */
    assert_int_equal(plan(&config, 2, 4).heads.begin, 7);
    assert_int_equal(plan(&config, 2, 4).heads.end, 11);
    assert_int_equal(plan(&config, 3, 4).heads.end, 14);
}

static void ranks_that_cannot_be_are_refused_with_the_numbers(void **state) {
    (void)state;
    cohort_model_config config = shape(9, 3, 1536, 49152, 30);
    assert_refused(&config, 4, 1, NULL,
                   "tensor_parallel_size 4 does not fit 9 query and 3");
    assert_refused(&config, 12, 1, NULL, "up to 9");
    config.n_experts = 8;
    config.moe_intermediate_size = 2;
    assert_refused(&config, 3, 1, NULL, "moe_intermediate_size 2");
    config = shape(9, 3, 1536, 49152, 30);
    assert_refused(&config, 1, 31, NULL, "31 is more than the model's 30");
}

static cohort_span stage(const cohort_model_config *config, int32_t rank, int32_t size,
                         const char *partition) {
    cohort_shard shard;
    assert_int_equal(cohort_shard_plan(config, 0, 1, rank, size, partition, &shard),
                     COHORT_OK);
    assert_int_equal(shard.first_stage, rank == 0);
    assert_int_equal(shard.last_stage, rank == size - 1);
    return shard.layers;
}

static void layers_left_over_go_before_the_last_stage(void **state) {
    (void)state;
    cohort_model_config config = shape(9, 3, 1536, 49152, 30);
    const int32_t sizes[] = {7, 8, 8, 7};
    int32_t position = 0;
    for (int32_t i = 0; i < 4; i++) {
        cohort_span layers = stage(&config, i, 4, NULL);
        position = follow(layers, position);
        assert_int_equal(cohort_span_size(layers), sizes[i]);
    }
    assert_int_equal(position, 30);
}

static void partition_names_layers_per_stage(void **state) {
    (void)state;
    cohort_model_config config = shape(9, 3, 1536, 49152, 30);
    assert_int_equal(stage(&config, 0, 3, "1,20,9").end, 1);
    assert_int_equal(stage(&config, 1, 3, "1,20,9").end, 21);
    assert_int_equal(stage(&config, 2, 3, "1,20,9").end, 30);
    assert_int_equal(stage(&config, 1, 2, "").begin, 15);
    assert_refused(&config, 1, 2, "10,10,10", "has 3 parts");
    assert_refused(&config, 1, 3, "10,10,11", "adds up to 31");
    assert_refused(&config, 1, 2, "0,30", "at least 1");
    assert_refused(&config, 1, 2, "15,15,", "at least 1");
    assert_refused(&config, 1, 2, "-1,31", "at least 1");
    assert_refused(&config, 1, 2, "15;15", "at least 1");
    assert_refused(&config, 1, 2, "99999999999999999999,1", "at least 1");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_cover_everything_once),
        cmocka_unit_test(columns_are_whole_granules),
        cmocka_unit_test(kv_heads_are_copied_where_ranks_are_more),
        cmocka_unit_test(ranks_that_cannot_be_are_refused_with_the_numbers),
        cmocka_unit_test(layers_left_over_go_before_the_last_stage),
        cmocka_unit_test(partition_names_layers_per_stage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
