/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/engine_options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "executor/executor_options.h"
#include "option_rows.h"
#include "worker/runner_options.h"

static void every_row_of_engine_and_executor_round_trips(void **state) {
    (void)state;
    expect_rows_round_trip(&cohort_engine_option_table, sizeof(cohort_engine_options));
    expect_rows_round_trip(&cohort_executor_option_table,
                           sizeof(cohort_executor_options));
}

static void the_library_has_the_defaults_of_the_command(void **state) {
    (void)state;
    const int64_t second = INT64_C(1000000000);
    const cohort_engine_options engine = cohort_engine_defaults();
    const cohort_executor_options executor = cohort_executor_defaults();
    const cohort_executor_options *both[] = {&engine.executor, &executor};
    for (int i = 0; i < 2; i++) {
        assert_null(both[i]->backend);
        assert_int_equal(both[i]->tp, 1);
        assert_int_equal(both[i]->pp, 1);
        assert_int_equal(both[i]->connect_timeout_ns, 60 * second);
        assert_int_equal(both[i]->load_timeout_ns, 1800 * second);
        assert_int_equal(both[i]->execute_timeout_ns, 300 * second);
        assert_int_equal(both[i]->hang_timeout_ns, 10 * second);
        assert_int_equal(both[i]->shutdown_timeout_ns, 5 * second);
        assert_int_equal(both[i]->max_rank_restarts, 5);
        assert_int_equal(both[i]->ray.placement_timeout_ns, 300 * second);
        assert_string_equal(both[i]->ray.strategy, "PACK");
        assert_string_equal(both[i]->ray.resource, "CPU=1");
    }
    assert_true(engine.executor.async_scheduling);
    assert_true(engine.enable_prefix_caching);
    assert_false(engine.priority_scheduling);
    assert_string_equal(engine.generation_config, "auto");
}

/* What ranks are told is the user's: a row that the engine lacks would be lost. */
static void the_engine_has_a_row_for_all_that_workers_are_told(void **state) {
    (void)state;
    for (size_t i = 0; i < cohort_runner_option_table.n; i++) {
        const cohort_option *told = &cohort_runner_option_table.rows[i];
        const cohort_option *row = NULL;
        for (size_t k = 0; !row && k < cohort_engine_option_table.n; k++)
            if (!strcmp(cohort_engine_option_table.rows[k].name, told->name))
                row = &cohort_engine_option_table.rows[k];
        if (!told->help) continue; /* the engine's own choice */
        assert_non_null(row);
        assert_int_equal(row->type, told->type);
        assert_int_equal(row->size, told->size);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_of_engine_and_executor_round_trips),
        cmocka_unit_test(the_library_has_the_defaults_of_the_command),
        cmocka_unit_test(the_engine_has_a_row_for_all_that_workers_are_told),
    };
    return cmocka_run_group_tests_name("engine/engine_options", tests, NULL, NULL);
}
