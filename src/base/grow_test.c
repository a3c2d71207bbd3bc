/* SPDX-License-Identifier: Apache-2.0 */
#include "base/grow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void items_stay_as_a_list_grows(void **state) {
    (void)state;
    int *items = NULL;
    size_t capacity = 0;
    int n_moves = 0;
    for (int n = 0; n < 100000; n++) {
        size_t before = capacity;
        int *grown = cohort_grow(items, (size_t)n + 1, &capacity, sizeof *grown);
        assert_non_null(grown);
        assert_true(capacity > (size_t)n);
        n_moves += capacity != before;
        items = grown;
        items[n] = n;
    }
    assert_in_range(n_moves, 2, 20);
    for (int n = 0; n < 100000; n++)
        assert_int_equal(items[n], n);
    free(items);
}

static void room_that_is_there_is_left_alone(void **state) {
    (void)state;
    char room[8];
    size_t capacity = sizeof room;
    assert_ptr_equal(cohort_grow(room, 8, &capacity, 1), room);
    assert_int_equal(capacity, 8);
}

static void what_no_memory_has_changes_nothing(void **state) {
    (void)state;
    size_t capacity = 1;
    void *items = malloc(16);
    /* In all no byte, and nearly as many as there are addresses. */
    assert_null(cohort_grow(items, SIZE_MAX / 16 + 1, &capacity, 16));
    assert_null(cohort_grow(items, SIZE_MAX / 16, &capacity, 16));
    assert_int_equal(capacity, 1);
    free(items);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_stay_as_a_list_grows),
        cmocka_unit_test(room_that_is_there_is_left_alone),
        cmocka_unit_test(what_no_memory_has_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
