/* SPDX-License-Identifier: Apache-2.0 */
/* cut_executor.h - an executor whose calls are cut off at any moment, as by the death of
 * a rank.  The linker puts what is here before the real one (CMakeLists.txt), whose ranks
 * carry lost steps out or not.
 */
#ifndef CUT_EXECUTOR_H
#define CUT_EXECUTOR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fail.h"
#include "base/random.h"
#include "cohort/clock.h"
#include "cohort/executor.h"
#include "wire/step.h"

enum { MAX_SLOTS = 64 };

static struct deaths {
    uint64_t seed, draws;
    uint64_t one_in; /* a call of so many is cut off; 0: none */
    bool keeps_kv;
    bool is_dead, is_forgotten; /* until await_ready; until the next step */
    bool awaits_masks;
    cohort_future *killer; /* the step in which the rank died: it does not come back */
    int32_t n_waits;       /* to come that time out */
    int32_t n_at_rest;     /* faults to come before the next step is sent */
    bool is_used[MAX_SLOTS];
    int32_t n;
    /* Requests that begin with this token kill with their tokens behind the first
     * n_harmless; 0: none does. */
    int32_t poison, n_harmless;
    bool is_poison[MAX_SLOTS];
    int32_t n_faults, n_forgotten;
    int32_t n_in_a_row, most_in_a_row; /* faults that nothing explained */
    cohort_executor_recovery recovery;
} deaths;

static inline void plan_deaths(uint64_t seed, uint64_t one_in, bool keeps_kv) {
    deaths = (struct deaths){.seed = seed, .one_in = one_in, .keeps_kv = keeps_kv};
}

static cohort_status interrupted(void) {
    return COHORT_FAIL(COHORT_E_INTERRUPTED, "rank 0 died");
}

static bool dies_now(void) {
    if (deaths.is_dead) return true;
    if (!deaths.one_in || cohort_random_u64(deaths.seed, deaths.draws++) % deaths.one_in)
        return false;
    deaths.is_dead = true;
    deaths.n++;
    deaths.n_waits = deaths.n % 3;
    return true;
}

/* ---- the executor ------------------------------------------------------------------ */

cohort_status __real_cohort_execute_model(cohort_executor *executor, const void *step,
                                          size_t size_bytes, cohort_future **out_future);
cohort_status __real_cohort_execute_masked_model(cohort_executor *executor,
                                                 const void *step, size_t size_bytes,
                                                 cohort_future **out_future);
cohort_status __real_cohort_execute_masks(cohort_executor *executor, const void *masks,
                                          size_t size_bytes);
cohort_status __real_cohort_future_wait(cohort_future *future, int64_t deadline_ns);

/* What the ranks know; after a death nothing, which is told to them as the end of all
 * that they knew. */
static void follow_slots(cohort_step *step) {
    static uint32_t forgotten[MAX_SLOTS];
    if (deaths.is_forgotten) {
        assert_int_equal(step->n_finished, 0);
        for (uint32_t slot = 0; slot < MAX_SLOTS; slot++)
            if (deaths.is_used[slot]) forgotten[step->n_finished++] = slot;
        step->finished = forgotten;
    }
    deaths.is_forgotten = false;
    for (uint32_t i = 0; i < step->n_finished; i++)
        deaths.is_used[step->finished[i]] = false;
    for (uint32_t i = 0; i < step->n_requests; i++)
        deaths.is_used[step->requests[i].slot] = true;
    for (uint32_t i = 0; i < step->n_entries; i++)
        assert_true(deaths.is_used[step->entries[i].slot]);
}

static bool kills(const cohort_step *step) {
    for (uint32_t i = 0; i < step->n_requests; i++)
        deaths.is_poison[step->requests[i].slot] =
            deaths.poison && step->requests[i].tokens[0] == deaths.poison;
    bool kills = false;
    for (uint32_t i = 0; i < step->n_entries; i++)
        kills |= deaths.is_poison[step->entries[i].slot] &&
                 (int32_t)(step->entries[i].n_computed_tokens +
                           step->entries[i].n_scheduled_tokens) > deaths.n_harmless;
    deaths.is_dead |= kills;
    deaths.n += kills;
    deaths.n_faults += kills;
    deaths.n_in_a_row += kills;
    if (deaths.most_in_a_row < deaths.n_in_a_row)
        deaths.most_in_a_row = deaths.n_in_a_row;
    return kills;
}

static cohort_status send_step(cohort_executor *executor, const void *bytes,
                               size_t size_bytes, bool is_masked,
                               cohort_future **out_future) {
    static uint64_t message[1 << 15];
    cohort_step_view view = {0};
    if (dies_now()) return interrupted();
    assert_int_equal(cohort_step_decode(bytes, size_bytes, &view), COHORT_OK);
    bool is_killer = kills(&view.step); /* once it was sent, as others are */
    follow_slots(&view.step);
    size_bytes = cohort_step_encoded_bytes(&view.step);
    assert_true(size_bytes <= sizeof message);
    cohort_step_encode(&view.step, (uint8_t *)message);
    cohort_step_view_deinit(&view);
    deaths.awaits_masks = is_masked;
    cohort_status status =
        (is_masked ? __real_cohort_execute_masked_model : __real_cohort_execute_model)(
            executor, message, size_bytes, out_future);
    if (is_killer) deaths.killer = *out_future;
    return status;
}

cohort_status __wrap_cohort_execute_model(cohort_executor *executor, const void *step,
                                          size_t size_bytes, cohort_future **out_future);
cohort_status __wrap_cohort_execute_model(cohort_executor *executor, const void *step,
                                          size_t size_bytes, cohort_future **out_future) {
    return send_step(executor, step, size_bytes, false, out_future);
}

cohort_status __wrap_cohort_execute_masked_model(cohort_executor *executor,
                                                 const void *step, size_t size_bytes,
                                                 cohort_future **out_future);
cohort_status __wrap_cohort_execute_masked_model(cohort_executor *executor,
                                                 const void *step, size_t size_bytes,
                                                 cohort_future **out_future) {
    return send_step(executor, step, size_bytes, true, out_future);
}

cohort_status __wrap_cohort_execute_masks(cohort_executor *executor, const void *masks,
                                          size_t size_bytes);
cohort_status __wrap_cohort_execute_masks(cohort_executor *executor, const void *masks,
                                          size_t size_bytes) {
    if (dies_now()) return interrupted();
    deaths.awaits_masks = false;
    return __real_cohort_execute_masks(executor, masks, size_bytes);
}

cohort_status __wrap_cohort_future_wait(cohort_future *future, int64_t deadline_ns);
cohort_status __wrap_cohort_future_wait(cohort_future *future, int64_t deadline_ns) {
    /* What was sent before a death may have come back all the same. */
    bool came_back =
        deaths.is_dead && !deaths.awaits_masks && deaths.n % 2 && future != deaths.killer;
    if (!came_back && dies_now()) return interrupted();
    cohort_status status = __real_cohort_future_wait(future, deadline_ns);
    if (status == COHORT_OK) deaths.n_in_a_row = 0;
    return status;
}

cohort_status __wrap_cohort_executor_await_ready(cohort_executor *executor,
                                                 int64_t deadline_ns);
cohort_status __wrap_cohort_executor_await_ready(cohort_executor *executor,
                                                 int64_t deadline_ns) {
    (void)deadline_ns;
    if (deaths.n_waits-- > 0) return COHORT_PENDING;
    if (deaths.awaits_masks) {
        cohort_step_masks none = {0};
        uint64_t message[16];
        cohort_step_masks_encode(&none, (uint8_t *)message);
        assert_int_equal(__real_cohort_execute_masks(
                             executor, message, cohort_step_masks_encoded_bytes(&none)),
                         COHORT_OK);
    }
    deaths.awaits_masks = false;
    deaths.is_dead = deaths.n_at_rest > 0;
    deaths.n_at_rest -= deaths.is_dead;
    deaths.n += deaths.is_dead;
    deaths.n_faults += deaths.is_dead;
    deaths.is_forgotten = true;
    deaths.killer = NULL;
    /* After all steps before it. */
    return cohort_executor_check_health(executor, cohort_deadline_ms(60000));
}

void __wrap_cohort_executor_forget_deaths(cohort_executor *executor);
void __wrap_cohort_executor_forget_deaths(cohort_executor *executor) {
    (void)executor;
    deaths.n_in_a_row = 0;
    deaths.n_forgotten++;
}

void __wrap_cohort_executor_get_recovery(cohort_executor *executor,
                                         cohort_executor_recovery *out_recovery);
void __wrap_cohort_executor_get_recovery(cohort_executor *executor,
                                         cohort_executor_recovery *out_recovery) {
    (void)executor;
    *out_recovery = (cohort_executor_recovery){.epoch = 1 + (uint64_t)deaths.n,
                                               .n_deaths = (uint64_t)deaths.n,
                                               .n_faults = (uint64_t)deaths.n_faults,
                                               .kv_kept = deaths.keeps_kv};
}

#endif /* CUT_EXECUTOR_H */
