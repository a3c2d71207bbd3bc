/* SPDX-License-Identifier: Apache-2.0 */
/* What a scheduler costs, and how long its steps take over stages. */
#include "scheduler_world.h"

/* Time until all is done, of stages that take a step in order, each when the one before
 * has: a token costs 1 in all, a step 4 more. */
static double pipeline_time(struct world *world, int32_t stages) {
    double stage_free[4] = {0}, returned[8] = {0}, now = 0;
    int32_t first = 0, n = 0;
    cohort_schedule schedule;
    for (;;) {
        while (ranks_take_step(world, &schedule)) {
            double at = now, cost = ((double)schedule.n_tokens + 4) / stages;
            for (int32_t s = 0; s < stages; s++)
                at = stage_free[s] = (at > stage_free[s] ? at : stage_free[s]) + cost;
            returned[(first + n++) % 8] = at;
        }
        if (n == 0) break;
        now = returned[first];
        first = (first + 1) % 8;
        n--;
        step_returns(world);
    }
    return now;
}

static double time_of(int32_t stages, int32_t n_prompts, int32_t n_prompt,
                      int32_t n_generate) {
    const cohort_scheduler_limits limits = {.max_num_seqs = 16,
                                            .max_num_batched_tokens = 2048,
                                            .max_model_len = 1024,
                                            .block_size = 64,
                                            .n_blocks = 1024,
                                            .pp_size = stages,
                                            .max_in_flight = stages};
    struct world *world = malloc(sizeof *world);
    world_begin(world, &limits);
    for (int32_t i = 0; i < n_prompts; i++)
        add_job(world, n_prompt, n_generate);
    double time = pipeline_time(world, stages);
    world_end(world);
    free(world);
    return time;
}

static void stages_overlap(void **state) {
    (void)state;
    /* Four prompts of 512 over two stages: near twice as fast as one stage. */
    assert_true(time_of(1, 4, 512, 1) > 1.6 * time_of(2, 4, 512, 1));
    assert_true(time_of(1, 1, 1000, 1) > 1.5 * time_of(2, 1, 1000, 1));
    /* Eight decoding: the halves take turns in the stages. */
    assert_true(time_of(1, 8, 1, 200) > 1.3 * time_of(2, 8, 1, 200));
}

/* Comparisons for n requests that come in the worst order for a list, wait, and leave. */
static double looks_for(int32_t n) {
    const cohort_scheduler_limits limits = {.max_num_seqs = 1,
                                            .max_num_batched_tokens = 8,
                                            .max_model_len = 8,
                                            .block_size = 8,
                                            .n_blocks = 1,
                                            .pp_size = 1,
                                            .max_in_flight = 1};
    cohort_scheduler *scheduler;
    assert_int_equal(cohort_scheduler_create(&limits, &scheduler), COHORT_OK);
    cohort_scheduler_request *requests = calloc((size_t)n, sizeof *requests);
    assert_non_null(requests);
    for (int32_t i = 0; i < n; i++) {
        requests[i] = (cohort_scheduler_request){
            .n_tokens = 1, .max_tokens = 2, .priority = -i / 2};
        cohort_scheduler_add(scheduler, &requests[i]);
    }
    int32_t n_seen = 0;
    int32_t order = n - (n % 2 ? 1 : 2); /* the first of the last pair */
    for (const cohort_scheduler_request *at = &requests[order]; at; at = at->next) {
        assert_true(
            !at->next || at->priority < at->next->priority ||
            (at->priority == at->next->priority && at->arrival < at->next->arrival));
        n_seen++;
    }
    assert_in_range(n_seen, n - 1, n);
    for (int32_t i = 0; i < n; i++)
        cohort_scheduler_finish(scheduler, &requests[i]);
    assert_int_equal(cohort_scheduler_n_waiting(scheduler), 0);
    double looks = (double)cohort_scheduler_n_looks(scheduler);
    cohort_scheduler_destroy(scheduler);
    free(requests);
    return looks;
}

static void any_order_of_priorities_costs_little(void **state) {
    (void)state;
    for (int32_t n = 2000; n <= 64000; n *= 2)
        assert_true(looks_for(2 * n) < 3 * looks_for(n)); /* 4 where each walks a list */
    assert_true(looks_for(100000) < 100000 * 200.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_overlap),
        cmocka_unit_test(any_order_of_priorities_costs_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
