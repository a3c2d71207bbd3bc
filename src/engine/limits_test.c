/* SPDX-License-Identifier: Apache-2.0 */
/* What an engine asks of its executor: how many steps, and until when.  The linker puts
 * what is here before the real one (CMakeLists.txt). */
#include "engine_world.h"

static int32_t max_in_flight;   /* that the executor says; 0: what is so */
static int64_t load_timeout_ns; /* 0: none */
static int32_t n_calls;

int32_t __real_cohort_executor_max_in_flight(const cohort_executor *executor);
int32_t __wrap_cohort_executor_max_in_flight(const cohort_executor *executor);
int32_t __wrap_cohort_executor_max_in_flight(const cohort_executor *executor) {
    return max_in_flight ? max_in_flight : __real_cohort_executor_max_in_flight(executor);
}

cohort_status __real_cohort_collective_rpc(cohort_executor *executor,
                                           const cohort_rpc *rpc, int64_t deadline_ns,
                                           cohort_future **out_future);
cohort_status __wrap_cohort_collective_rpc(cohort_executor *executor,
                                           const cohort_rpc *rpc, int64_t deadline_ns,
                                           cohort_future **out_future);
/* The timeout of loading counts from a moment before this call. */
cohort_status __wrap_cohort_collective_rpc(cohort_executor *executor,
                                           const cohort_rpc *rpc, int64_t deadline_ns,
                                           cohort_future **out_future) {
    n_calls++;
    if (load_timeout_ns)
        assert_true(deadline_ns <= cohort_clock_ns() + load_timeout_ns);
    else
        assert_true(deadline_ns == COHORT_NEVER);
    return __real_cohort_collective_rpc(executor, rpc, deadline_ns, out_future);
}

static void calls_of_the_start_end_with_the_timeout_of_loading(void **state) {
    (void)state;
    cohort_engine_options options = small_options();
    load_timeout_ns = options.executor.load_timeout_ns;
    assert_true(load_timeout_ns > 0);
    cohort_engine_destroy(start(&options));
    assert_true(n_calls > 0);
    n_calls = 0;
    load_timeout_ns = options.executor.load_timeout_ns = 0; /* none */
    cohort_engine_destroy(start(&options));
    assert_true(n_calls > 0);
}

static void no_more_steps_are_under_way_than_there_is_room_for(void **state) {
    (void)state;
    cohort_engine_options options = small_options();
    load_timeout_ns = options.executor.load_timeout_ns;
    for (int32_t more = -1; more <= 1; more++) {
        max_in_flight = COHORT_MAX_IN_FLIGHT + more;
        cohort_engine *engine = start(&options);
        assert_int_equal(engine->max_in_flight,
                         more < 0 ? max_in_flight : COHORT_MAX_IN_FLIGHT);
        cohort_engine_destroy(engine);
    }
    max_in_flight = 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_of_the_start_end_with_the_timeout_of_loading),
        cmocka_unit_test(no_more_steps_are_under_way_than_there_is_room_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
