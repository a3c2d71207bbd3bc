/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's thread over a tiny model: who leaves costs no step, and no block stays. */
#include "server/driver.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "cut_executor.h"

#define MODEL COHORT_SOURCE_DIR "/tests/golden/llama-float32"

enum { MAX_JOBS = 8, WAIT_MS = 60000 };

/* What one client asks for, and what it heard. */
struct client {
    cohort_job job; /* first */
    cohort_request request;
    int32_t n_tokens, n_aborted, n_ends, n_waits;
    int32_t end_step; /* world.n_steps when it ended */
    bool was_accepted, has_error;
};

/* The driver's thread's, once it runs. */
static struct world {
    cohort_driver *driver;
    cohort_engine_info info;
    struct client clients[MAX_JOBS];
    struct client *leaves;         /* this one does, with step leave_step */
    int32_t leave_step, free_step; /* ... and used_blocks were used by others only */
    int64_t used_blocks;
    _Atomic int32_t n_steps; /* that computed something */
} world;

static struct client *of_job(cohort_job *job) { return (struct client *)job; }

static void on_accepted(cohort_job *job) { of_job(job)->was_accepted = true; }

static void on_output(cohort_job *job, size_t which,
                      const cohort_completion *completion) {
    (void)which;
    of_job(job)->n_tokens += completion->n_token_ids;
    of_job(job)->n_aborted += completion->finish_reason == COHORT_FINISH_ABORT;
}

static void on_wait(cohort_job *job) { of_job(job)->n_waits++; }

static void on_end(cohort_job *job, const cohort_error *error) {
    of_job(job)->n_ends++;
    of_job(job)->has_error = error != NULL;
    of_job(job)->end_step = world.n_steps;
}

/* After each step. */
static void on_step(void *user_data, const cohort_engine_stats *stats,
                    const cohort_engine_outputs *outputs) {
    (void)user_data;
    world.n_steps += outputs && outputs->n_tokens > 0;
    if (!world.leaves) return;
    bool has_left = world.leave_step > 0;
    if (!has_left && world.leaves->n_tokens >= 40) {
        world.leave_step = world.n_steps;
        cohort_driver_cancel(world.driver, &world.leaves->job);
    }
    if (has_left && !world.free_step && world.leaves->n_ends &&
        world.info.num_blocks - stats->n_free_blocks <= world.used_blocks)
        world.free_step = world.n_steps;
}

static const int32_t prompt[] = {17, 301, 45, 722, 9, 88, 512, 33};

static cohort_engine *begin(int32_t max_num_seqs, int32_t max_jobs) {
    cohort_engine_options options = cohort_engine_defaults();
    options.executor.backend = "uni";
    options.model = MODEL;
    options.max_num_seqs = max_num_seqs;
    options.max_num_batched_tokens = 64;
    options.kv_cache_memory_bytes = 16 << 20;
    options.cpu_threads_bind = "nobind";
    cohort_engine *engine;
    if (cohort_engine_start(&options, &engine) < 0)
        fail_msg("%s", cohort_last_error()->message);
    memset(&world, 0, sizeof world);
    cohort_engine_describe(engine, &world.info);
    const cohort_driver_options driver = {
        .engine = engine, .max_jobs = max_jobs, .wait_ns = 1, .observer = on_step};
    assert_int_equal(cohort_driver_create(&driver, &world.driver), COHORT_OK);
    return engine;
}

static void end(cohort_engine *engine) {
    cohort_driver_stop(world.driver);
    cohort_engine_stats stats;
    cohort_engine_get_stats(engine, &stats);
    assert_int_equal(stats.n_free_blocks, world.info.num_blocks);
    cohort_engine_destroy(engine);
    cohort_driver_destroy(world.driver);
}

static struct client *ask(const cohort_engine *engine, int32_t which, int32_t n,
                          int32_t max_tokens) {
    struct client *client = &world.clients[which];
    client->request = cohort_engine_request_defaults(engine);
    client->request.prompt_token_ids = prompt;
    client->request.n_prompt_token_ids = sizeof prompt / sizeof *prompt;
    client->request.n = n;
    client->request.max_tokens = max_tokens;
    client->request.ignore_eos = true;
    client->request.sampling.temperature = 0;
    client->job = (cohort_job){.requests = &client->request,
                               .n_requests = 1,
                               .on_accepted = on_accepted,
                               .on_output = on_output,
                               .on_wait = on_wait,
                               .on_end = on_end};
    return client;
}

static void post(struct client *client) {
    assert_int_equal(cohort_driver_post(world.driver, &client->job), COHORT_OK);
}

static void wait_idle(void) {
    assert_int_equal(cohort_driver_wait_idle(world.driver, cohort_deadline_ms(WAIT_MS)),
                     COHORT_OK);
}

/* Steps under way when it leaves are all that it costs. */
static void who_leaves_is_gone_with_the_step(void **state) {
    (void)state;
    cohort_engine *engine = begin(8, 0);
    int32_t in_flight = cohort_executor_max_in_flight(cohort_engine_executor(engine));
    struct client *stays = ask(engine, 0, 1, 200), *leaves = ask(engine, 1, 4, 1000);
    int64_t most_tokens = 8 + 200;
    world.used_blocks = (most_tokens + world.info.block_size - 1) / world.info.block_size;
    world.leaves = leaves;
    post(stays);
    post(leaves);
    wait_idle();
    assert_int_equal(leaves->n_ends, 1);
    assert_int_equal(leaves->n_aborted, 4);
    assert_false(leaves->has_error);
    assert_true(world.leave_step > 0);
    assert_true(leaves->end_step - world.leave_step <= 1);
    assert_true(world.free_step > 0);
    assert_true(world.free_step - world.leave_step <= in_flight + 1);
    assert_int_equal(stays->n_tokens, 200);
    assert_int_equal(stays->n_ends, 1);
    end(engine);
}

/* Waiting for a slot, or not even with the engine yet. */
static void who_leaves_before_its_turn_gets_none(void **state) {
    (void)state;
    cohort_engine *engine = begin(1, 0);
    struct client *stays = ask(engine, 0, 1, 100);
    post(stays);
    for (int32_t i = 1; i < MAX_JOBS; i++) {
        struct client *leaves = ask(engine, i, 2, 100);
        if (i == 1) cohort_driver_cancel(world.driver, &leaves->job);
        post(leaves);
        if (i > 1) cohort_driver_cancel(world.driver, &leaves->job);
    }
    wait_idle();
    assert_int_equal(stays->n_tokens, 100);
    for (int32_t i = 1; i < MAX_JOBS; i++) {
        assert_int_equal(world.clients[i].n_ends, 1);
        assert_int_equal(world.clients[i].n_tokens, 0);
        assert_int_equal(world.clients[i].n_aborted, 2);
    }
    end(engine);
}

static void what_is_left_at_the_end_is_told_why(void **state) {
    (void)state;
    cohort_engine *engine = begin(1, 3);
    for (int32_t i = 0; i < 3; i++)
        post(ask(engine, i, 1, 1000));
    struct client *late = ask(engine, 3, 1, 1);
    assert_int_equal(cohort_driver_post(world.driver, &late->job), COHORT_E_NOMEM);
    cohort_driver_drain(world.driver);
    assert_int_equal(cohort_driver_post(world.driver, &late->job), COHORT_E_CLOSED);
    assert_int_equal(cohort_driver_wait_idle(world.driver, cohort_clock_ns()),
                     COHORT_E_TIMEOUT);
    cohort_driver_stop(world.driver);
    for (int32_t i = 0; i < 3; i++) {
        assert_int_equal(world.clients[i].n_ends, 1);
        assert_true(world.clients[i].has_error);
    }
    assert_int_equal(late->n_ends, 0);
    assert_int_equal(cohort_driver_n_jobs(world.driver), 0);
    cohort_engine_destroy(engine);
    cohort_driver_destroy(world.driver);
}

static void who_waits_for_a_rank_hears_so(void **state) {
    (void)state;
    plan_deaths(3, 15, true);
    cohort_engine *engine = begin(8, 0);
    struct client *client = ask(engine, 0, 2, 100);
    post(client);
    wait_idle();
    assert_int_equal(client->n_tokens, 200);
    assert_int_equal(client->n_ends, 1);
    assert_true(deaths.n > 1);
    assert_true(client->n_waits > 0);
    end(engine);
    plan_deaths(0, 0, true);
}

static void a_pause_keeps_jobs_until_its_end(void **state) {
    (void)state;
    cohort_engine *engine = begin(8, 0);
    cohort_driver_pause(world.driver, true);
    assert_true(cohort_driver_is_paused(world.driver));
    struct client *client = ask(engine, 0, 1, 50);
    post(client);
    assert_int_equal(cohort_driver_wait_idle(world.driver, cohort_deadline_ms(50)),
                     COHORT_E_TIMEOUT);
    assert_int_equal(world.n_steps, 0);
    cohort_driver_pause(world.driver, false);
    wait_idle();
    assert_int_equal(client->n_tokens, 50);
    assert_int_equal(client->n_waits, 0);
    end(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_leaves_is_gone_with_the_step),
        cmocka_unit_test(who_leaves_before_its_turn_gets_none),
        cmocka_unit_test(what_is_left_at_the_end_is_told_why),
        cmocka_unit_test(who_waits_for_a_rank_hears_so),
        cmocka_unit_test(a_pause_keeps_jobs_until_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
