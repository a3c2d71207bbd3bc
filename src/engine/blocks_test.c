/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { N_BLOCKS = 6 };

static cohort_block_key key_of(uint64_t number) {
    return (cohort_block_key){{number, ~number}};
}

static void publish(cohort_blocks *blocks, int32_t id, uint64_t number) {
    const cohort_block_key key = key_of(number);
    cohort_blocks_publish(blocks, id, &key);
}

static int32_t find(const cohort_blocks *blocks, uint64_t number) {
    const cohort_block_key key = key_of(number);
    return cohort_blocks_find(blocks, &key);
}

/* All blocks, used once, each known by its number. */
static void fill(cohort_blocks *blocks, int32_t ids[N_BLOCKS]) {
    assert_int_equal(cohort_blocks_init(blocks, N_BLOCKS), COHORT_OK);
    assert_true(cohort_blocks_take(blocks, N_BLOCKS, ids));
    for (int32_t i = 0; i < N_BLOCKS; i++)
        publish(blocks, ids[i], (uint64_t)i);
}

/* Takes one at a time, and says whose keys are forgotten with it. */
static void expect_forgotten(cohort_blocks *blocks, const uint64_t *order, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        int32_t id;
        for (int32_t later = i; later < n; later++)
            assert_int_not_equal(find(blocks, order[later]), COHORT_BLOCK_NONE);
        assert_true(cohort_blocks_take(blocks, 1, &id));
        assert_int_equal(find(blocks, order[i]), COHORT_BLOCK_NONE);
    }
}

static void the_longest_free_is_forgotten_first(void **state) {
    (void)state;
    cohort_blocks blocks;
    int32_t ids[N_BLOCKS];
    fill(&blocks, ids);
    static const int32_t freed[] = {3, 0, 5, 1, 4, 2};
    for (int32_t i = 0; i < N_BLOCKS; i++)
        cohort_blocks_give_back(&blocks, 1, &ids[freed[i]]);
    expect_forgotten(&blocks, (const uint64_t[]){3, 0, 5, 1, 4, 2}, N_BLOCKS);
    cohort_blocks_deinit(&blocks);
}

/* A beginning without its end is of use; an end without its beginning is not. */
static void of_one_request_the_end_is_forgotten_first(void **state) {
    (void)state;
    cohort_blocks blocks;
    int32_t ids[N_BLOCKS];
    fill(&blocks, ids);
    cohort_blocks_give_back(&blocks, 3, ids);
    cohort_blocks_give_back(&blocks, 3, ids + 3);
    expect_forgotten(&blocks, (const uint64_t[]){2, 1, 0, 5, 4, 3}, N_BLOCKS);
    cohort_blocks_deinit(&blocks);
}

static void use_makes_young_again(void **state) {
    (void)state;
    cohort_blocks blocks;
    int32_t ids[N_BLOCKS];
    fill(&blocks, ids);
    for (int32_t i = 0; i < N_BLOCKS; i++)
        cohort_blocks_give_back(&blocks, 1, &ids[i]);
    int32_t found = find(&blocks, 1);
    assert_int_equal(found, ids[1]);
    assert_int_equal(cohort_blocks_n_users(&blocks, found), 0);
    cohort_blocks_share(&blocks, found);
    cohort_blocks_share(&blocks, found);
    assert_int_equal(blocks.n_free, N_BLOCKS - 1);
    cohort_blocks_give_back(&blocks, 1, &found);
    assert_int_equal(blocks.n_free, N_BLOCKS - 1); /* another uses it still */
    cohort_blocks_give_back(&blocks, 1, &found);
    expect_forgotten(&blocks, (const uint64_t[]){0, 2, 3, 4, 5, 1}, N_BLOCKS);
    cohort_blocks_deinit(&blocks);
}

static void what_nobody_can_find_goes_before_all(void **state) {
    (void)state;
    cohort_blocks blocks;
    int32_t ids[N_BLOCKS], again;
    fill(&blocks, ids);
    cohort_blocks_give_back(&blocks, 2, ids);
    assert_true(cohort_blocks_take(&blocks, 1, &again)); /* key 1 is forgotten */
    assert_int_equal(again, ids[1]);
    cohort_blocks_give_back(&blocks, 1, &again);
    assert_int_equal(find(&blocks, 0), ids[0]);
    assert_true(cohort_blocks_take(&blocks, 1, &again));
    assert_int_equal(again, ids[1]);
    assert_int_equal(find(&blocks, 0), ids[0]);
    cohort_blocks_deinit(&blocks);
}

static void of_two_alike_the_first_is_found(void **state) {
    (void)state;
    cohort_blocks blocks;
    int32_t ids[2];
    assert_int_equal(cohort_blocks_init(&blocks, N_BLOCKS), COHORT_OK);
    assert_true(cohort_blocks_take(&blocks, 2, ids));
    publish(&blocks, ids[0], 7);
    publish(&blocks, ids[1], 7);
    assert_int_equal(find(&blocks, 7), ids[0]);
    cohort_blocks_give_back(&blocks, 2, ids);
    assert_int_equal(find(&blocks, 7), ids[0]);
    int32_t all[N_BLOCKS];
    assert_true(cohort_blocks_take(&blocks, N_BLOCKS, all));
    assert_int_equal(find(&blocks, 7), COHORT_BLOCK_NONE);
    cohort_blocks_deinit(&blocks);
}

static void all_or_none_are_taken(void **state) {
    (void)state;
    cohort_blocks blocks;
    int32_t ids[N_BLOCKS + 1];
    assert_int_equal(cohort_blocks_init(&blocks, N_BLOCKS), COHORT_OK);
    assert_false(cohort_blocks_take(&blocks, N_BLOCKS + 1, ids));
    assert_int_equal(blocks.n_free, N_BLOCKS);
    assert_true(cohort_blocks_take(&blocks, 0, ids));
    assert_int_equal(cohort_blocks_init(&(cohort_blocks){0}, 0), COHORT_E_INVALID);
    cohort_blocks_deinit(&blocks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_free_is_forgotten_first),
        cmocka_unit_test(of_one_request_the_end_is_forgotten_first),
        cmocka_unit_test(use_makes_young_again),
        cmocka_unit_test(what_nobody_can_find_goes_before_all),
        cmocka_unit_test(of_two_alike_the_first_is_found),
        cmocka_unit_test(all_or_none_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
