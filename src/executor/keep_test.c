/* SPDX-License-Identifier: Apache-2.0 */
#include "executor/keep.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"

enum {
    WEIGHTS = COHORT_KEEP_WEIGHTS,
    BOTH = COHORT_KEEP_WEIGHTS | COHORT_KEEP_KV,
    PATIENCE_MS = 20000
};

static int count_fds(void) {
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static cohort_status take(executor_kept *kept, uint32_t what, bool was_kept,
                          uint64_t generation, int fd) {
    const cohort_frame_keep body = {
        .what = what, .was_kept = was_kept, .generation = generation};
    const cohort_frame frame = {
        .kind = COHORT_FRAME_KEEP, .body = &body, .body_bytes = sizeof body};
    return executor_keep_take(kept, &frame, fd);
}

static int memory_of(const char *text) {
    int fd = memfd_create("kept", MFD_CLOEXEC);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    return fd;
}

static void cache_is_trusted_only_where_nobody_can_have_spoilt_it(void **state) {
    (void)state;
    static const struct {
        int32_t signal;
        bool has_reported, is_oom;
        uint32_t trusted[3]; /* auto, always, never */
    } cases[] = {
        {SIGKILL, false, false, {BOTH, BOTH, WEIGHTS}},
        {SIGKILL, false, true, {WEIGHTS, BOTH, WEIGHTS}},
        {SIGTERM, false, false, {BOTH, BOTH, WEIGHTS}},
        {0, false, false, {BOTH, BOTH, WEIGHTS}},
        {SIGSEGV, false, false, {WEIGHTS, BOTH, WEIGHTS}},
        {SIGBUS, false, false, {WEIGHTS, BOTH, WEIGHTS}},
        {SIGILL, false, false, {WEIGHTS, BOTH, WEIGHTS}},
        {SIGFPE, false, false, {WEIGHTS, BOTH, WEIGHTS}},
        {SIGABRT, false, false, {WEIGHTS, BOTH, WEIGHTS}},
        {0, true, false, {WEIGHTS, BOTH, WEIGHTS}},
    };
    static const cohort_kept_kv words[] = {COHORT_KEPT_KV_AUTO, COHORT_KEPT_KV_ALWAYS,
                                           COHORT_KEPT_KV_NEVER};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int w = 0; w < 3; w++)
            assert_int_equal(
                executor_keep_trusted(words[w], executor_death_of(cases[i].signal,
                                                                  cases[i].has_reported,
                                                                  cases[i].is_oom)),
                cases[i].trusted[w]);
    assert_int_equal(executor_keep_asked(COHORT_KEPT_KV_AUTO), BOTH);
    assert_int_equal(executor_keep_asked(COHORT_KEPT_KV_NEVER), WEIGHTS);
}

static void what_is_replaced_or_not_trusted_is_closed(void **state) {
    (void)state;
    executor_kept kept = {0};
    int before = count_fds();
    assert_int_equal(take(&kept, WEIGHTS, false, 1, memory_of("w")), COHORT_OK);
    assert_int_equal(take(&kept, COHORT_KEEP_KV, false, 1, memory_of("a")), COHORT_OK);
    assert_int_equal(take(&kept, COHORT_KEEP_KV, false, 2, memory_of("b")), COHORT_OK);
    assert_int_equal(count_fds(), before + 2);
    assert_int_equal(take(&kept, 7, false, 1, memory_of("x")), COHORT_E_PROTOCOL);
    assert_int_equal(take(&kept, WEIGHTS, false, 2, -1), COHORT_E_PROTOCOL);
    assert_int_equal(count_fds(), before + 2);
    executor_keep_only(&kept, WEIGHTS);
    assert_int_equal(count_fds(), before + 1);
    assert_true(kept.memory[0].is_held && !kept.memory[1].is_held);
    executor_keep_close(&kept);
    executor_keep_close(&kept);
    assert_int_equal(count_fds(), before);
}

static void next_rank_gets_what_is_held_and_says_what_it_took(void **state) {
    (void)state;
    executor_kept kept = {0};
    int ends[2], fd, before = count_fds();
    cohort_link *driver = NULL, *rank = NULL;
    _Alignas(8) uint8_t bytes[256];
    size_t size;
    int64_t deadline_ns = cohort_deadline_ms(PATIENCE_MS);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(cohort_link_adopt(ends[0], &driver), COHORT_OK);
    assert_int_equal(cohort_link_adopt(ends[1], &rank), COHORT_OK);
    take(&kept, WEIGHTS, true, 4, memory_of("w"));
    take(&kept, COHORT_KEEP_KV, true, 9, memory_of("k"));
    executor_keep_only(&kept, BOTH);
    assert_false(executor_keep_has_kv(&kept)); /* nobody has taken it yet */
    assert_int_equal(executor_keep_give(&kept, driver, 3, 8, deadline_ns), COHORT_OK);
    for (int i = 0; i < 2; i++) {
        cohort_frame frame;
        cohort_frame_keep body;
        char byte;
        assert_int_equal(
            cohort_link_recv_frame_fd(rank, bytes, sizeof bytes, &size, &fd, deadline_ns),
            COHORT_OK);
        assert_int_equal(cohort_frame_decode(bytes, size, &frame), COHORT_OK);
        assert_int_equal(cohort_frame_read_keep(&frame, &body), COHORT_OK);
        assert_int_equal(frame.rank, 3);
        assert_int_equal(frame.epoch, 8);
        assert_int_equal(body.what, i ? COHORT_KEEP_KV : WEIGHTS);
        assert_int_equal(body.generation, i ? 9 : 4);
        assert_int_equal(pread(fd, &byte, 1, 0), 1);
        assert_int_equal(byte, "wk"[i]);
        take(&kept, body.what, i, body.generation, fd);
    }
    assert_true(executor_keep_has_kv(&kept));
    executor_keep_settle(&kept); /* nobody is to be given anything any more */
    assert_int_equal(executor_keep_give(&kept, driver, 3, 8, deadline_ns), COHORT_OK);
    assert_int_equal(recv(ends[1], bytes, 1, MSG_DONTWAIT), -1);
    executor_keep_close(&kept);
    cohort_link_close(driver);
    cohort_link_close(rank);
    assert_int_equal(count_fds(), before);
}

/* Two deaths in one recovery: the second one takes up a cache, but that of the first. */
static void cache_that_was_made_on_the_way_is_not_the_one_of_before(void **state) {
    (void)state;
    for (int lost = 0; lost < 3; lost++) {
        executor_kept kept = {0};
        take(&kept, COHORT_KEEP_KV, false, 1, memory_of("k"));
        assert_true(executor_keep_has_kv(&kept)); /* nobody was replaced */
        executor_keep_only(&kept, lost == 1 ? WEIGHTS : BOTH);
        assert_false(executor_keep_has_kv(&kept));
        if (lost < 2) take(&kept, COHORT_KEEP_KV, lost == 0, 1, memory_of("k"));
        if (lost == 2) take(&kept, COHORT_KEEP_KV, false, 2, memory_of("n"));
        executor_keep_only(&kept, BOTH);
        take(&kept, COHORT_KEEP_KV, true, 1, memory_of("k"));
        assert_int_equal(executor_keep_has_kv(&kept), lost == 0);
        executor_keep_settle(&kept);
        executor_keep_only(&kept, BOTH); /* the next recovery is another */
        take(&kept, COHORT_KEEP_KV, true, 1, memory_of("k"));
        assert_true(executor_keep_has_kv(&kept));
        executor_keep_close(&kept);
    }
}

static void choice_of_a_rank_is_remembered(void **state) {
    (void)state;
    executor_kept kept = {0};
    cohort_frame_ready ready = {.choice = "isa=avx2"};
    cohort_frame frame = {
        .kind = COHORT_FRAME_READY, .body = &ready, .body_bytes = sizeof ready};
    assert_int_equal(executor_keep_choice(&kept, &frame), COHORT_OK);
    assert_string_equal(kept.choice, "isa=avx2");
    strcpy(ready.choice, "no pair");
    assert_int_equal(executor_keep_choice(&kept, &frame), COHORT_E_PROTOCOL);
    assert_string_equal(kept.choice, "isa=avx2");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cache_is_trusted_only_where_nobody_can_have_spoilt_it),
        cmocka_unit_test(what_is_replaced_or_not_trusted_is_closed),
        cmocka_unit_test(next_rank_gets_what_is_held_and_says_what_it_took),
        cmocka_unit_test(cache_that_was_made_on_the_way_is_not_the_one_of_before),
        cmocka_unit_test(choice_of_a_rank_is_remembered),
    };
    return cmocka_run_group_tests_name("executor/keep", tests, NULL, NULL);
}
