/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks with a model that die and are started again: whose cache goes to the next one,
 * and that the driver holds no descriptor longer than the executor lives. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "cohort/executor.h"
#include "killer.h"
#include "worker/runner.h"

enum { PATIENCE_MS = 60000 };

static int count_fds(void) {
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static cohort_executor *start(cohort_kept_kv kept_kv) {
    static const char *const config[] = {"model=" COHORT_SOURCE_DIR
                                         "/tests/golden/llama-float32",
                                         "max_num_seqs=2",
                                         "max_num_batched_tokens=64",
                                         "max_model_len=64",
                                         "cpu_threads_bind=nobind",
                                         NULL};
    cohort_executor_options options = cohort_executor_defaults();
    cohort_executor *executor = NULL;
    options.tp = 2;
    options.config = config;
    options.worker_command = COHORT_BUILD_DIR "/cohort";
    options.max_rank_restarts = 100;
    options.kept_kv = kept_kv;
    if (cohort_executor_start(&options, &executor) < 0)
        fail_msg("%s", cohort_last_error()->message);
    return executor;
}

static void make_cache(cohort_executor *executor) {
    const cohort_runner_cache cache = {.n_blocks = 8};
    const cohort_rpc rpc = {.method = COHORT_RUNNER_INITIALIZE,
                            .payload = &cache,
                            .size_bytes = sizeof cache,
                            .reply_rank = COHORT_ALL_RANKS,
                            .is_setup = true};
    assert_int_equal(
        cohort_collective_rpc(executor, &rpc, cohort_deadline_ms(PATIENCE_MS), NULL),
        COHORT_OK);
}

static void await_next_epoch(cohort_executor *executor, uint64_t epoch) {
    int64_t until_ns = cohort_deadline_ms(PATIENCE_MS);
    while (cohort_executor_epoch(executor) == epoch) {
        assert_true(cohort_clock_ns() < until_ns);
        sleep_us(200);
    }
}

static void end_rank(cohort_executor *executor, int32_t rank, int signal_number) {
    cohort_rank_info info;
    uint64_t epoch = cohort_executor_epoch(executor);
    cohort_executor_describe_rank(executor, rank, &info);
    assert_int_equal(kill(info.pid, signal_number), 0);
    await_next_epoch(executor, epoch);
}

static bool await_ready(cohort_executor *executor) {
    cohort_executor_recovery recovery;
    if (cohort_executor_await_ready(executor, cohort_deadline_ms(PATIENCE_MS)) < 0)
        fail_msg("%s", cohort_last_error()->message);
    cohort_executor_get_recovery(executor, &recovery);
    /* As a step, it is allowed, and only then refused: what was lost until then counts no
     * more. */
    assert_int_equal(cohort_execute_masks(executor, "", 0), COHORT_E_INVALID);
    return recovery.kv_kept;
}

static void end(cohort_executor *executor) {
    assert_int_equal(cohort_executor_shutdown(executor), COHORT_OK);
    cohort_executor_destroy(executor);
    assert_false(has_children());
}

static void next_rank_has_the_cache_of_the_one_before(void **state) {
    (void)state;
    cohort_executor *executor = start(COHORT_KEPT_KV_AUTO);
    make_cache(executor);
    for (int i = 0; i < 3; i++) {
        end_rank(executor, i % 2, SIGKILL);
        assert_true(await_ready(executor));
    }
    end_rank(executor, 1, SIGSEGV); /* it may have written anywhere */
    assert_false(await_ready(executor));
    end_rank(executor, 1, SIGKILL); /* but the one that was made since is good */
    assert_true(await_ready(executor));
    end(executor);
}

/* Two deaths that nobody has asked about: it takes one to lose a cache. */
static void one_cache_that_is_lost_is_told_until_it_is_heard(void **state) {
    (void)state;
    cohort_executor *executor = start(COHORT_KEPT_KV_AUTO);
    cohort_executor_recovery recovery;
    make_cache(executor);
    end_rank(executor, 0, SIGSEGV);
    do
        cohort_executor_get_recovery(executor, &recovery);
    while (recovery.is_recovering);
    assert_false(recovery.kv_kept);
    end_rank(executor, 1, SIGKILL);
    assert_false(await_ready(executor));
    end_rank(executor, 1, SIGKILL);
    assert_true(await_ready(executor));
    end(executor);
}

static void caches_are_kept_as_was_asked(void **state) {
    (void)state;
    cohort_executor *executor = start(COHORT_KEPT_KV_NEVER);
    make_cache(executor);
    end_rank(executor, 0, SIGKILL);
    assert_false(await_ready(executor));
    end(executor);
    executor = start(COHORT_KEPT_KV_ALWAYS);
    make_cache(executor);
    end_rank(executor, 0, SIGSEGV);
    assert_true(await_ready(executor));
    end(executor);
}

static bool put_line(const char *path, const char *text) {
    FILE *file = fopen(path, "we");
    if (!file) return false;
    fputs(text, file);
    return !fclose(file);
}

/* A group of version 1 for this process and the ranks to be, with so much memory; false:
 * we may not. */
static bool enter_group(const char *group, const char *bytes) {
    char path[128];
    if (mkdir(group, 0700)) return false;
    snprintf(path, sizeof path, "%s/memory.limit_in_bytes", group);
    bool is_limited = put_line(path, bytes);
    snprintf(path, sizeof path, "%s/cgroup.procs", group);
    if (is_limited && put_line(path, "0")) return true;
    rmdir(group);
    return false;
}

/* Back to where all began; who is in the group goes as well. */
static void leave_group(const char *group, const char *before) {
    char path[512];
    snprintf(path, sizeof path, "/sys/fs/cgroup/memory%s/cgroup.procs", before);
    assert_true(put_line(path, "0"));
    assert_int_equal(rmdir(group), 0);
}

static bool find_group(char *out_path, size_t size) {
    char line[512];
    bool is_found = false;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file && !is_found && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        const char *at = strstr(line, ":memory:");
        is_found = at != NULL;
        if (at) snprintf(out_path, size, "%s", at + strlen(":memory:"));
    }
    if (file) fclose(file);
    return is_found;
}

/* Where memory runs out they are killed before this process. */
static void offer_ranks(cohort_executor *executor) {
    for (int32_t rank = 0; rank < 2; rank++) {
        char path[64];
        cohort_rank_info info;
        cohort_executor_describe_rank(executor, rank, &info);
        snprintf(path, sizeof path, "/proc/%d/oom_score_adj", info.pid);
        assert_true(put_line(path, "1000"));
    }
}

static int count_kills(const char *group) {
    char path[128], line[128];
    int n = 0;
    snprintf(path, sizeof path, "%s/memory.oom_control", group);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        sscanf(line, "oom_kill %d", &n);
    fclose(file);
    return n;
}

/* Up to the first kill, and no further: the next one might be this process.  False: there
 * is so much (there may be swap) that it takes none. */
static bool run_out_of_memory(cohort_executor *executor, const char *group) {
    enum { PAGE = 4096, LOOK = 1 << 20 };
    size_t size = (size_t)4 << 30;
    bool is_out = false;
    uint64_t epoch = cohort_executor_epoch(executor);
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    for (size_t at = 0; at < size; at += PAGE) {
        is_out = at % LOOK == 0 && count_kills(group);
        if (is_out) break;
        memory[at] = 1;
    }
    assert_int_equal(munmap(memory, size), 0);
    if (is_out) await_next_epoch(executor, epoch);
    return is_out;
}

static void a_rank_killed_for_want_of_memory_leaves_no_cache(void **state) {
    (void)state;
    char group[64], before[384];
    snprintf(group, sizeof group, "/sys/fs/cgroup/memory/kept_test.%d", getpid());
    if (!find_group(before, sizeof before) || !enter_group(group, "768M")) skip();
    cohort_executor *executor = start(COHORT_KEPT_KV_AUTO);
    cohort_executor_recovery recovery;
    make_cache(executor);
    end_rank(executor, 0, SIGKILL);
    assert_true(await_ready(executor));
    cohort_executor_get_recovery(executor, &recovery);
    assert_null(strstr(recovery.cause.message, "memory"));
    offer_ranks(executor);
    if (!run_out_of_memory(executor, group)) {
        end(executor);
        leave_group(group, before);
        skip();
    }
    assert_false(await_ready(executor));
    cohort_executor_get_recovery(executor, &recovery);
    if (!strstr(recovery.cause.message, "as memory ran out"))
        fail_msg("%s", recovery.cause.message);
    end(executor);
    leave_group(group, before);
}

static int count_before(void **state) {
    static int n_fds;
    n_fds = count_fds();
    *state = &n_fds;
    return 0;
}

static int nothing_is_left(void **state) {
    assert_int_equal(count_fds(), *(int *)*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(next_rank_has_the_cache_of_the_one_before,
                                        count_before, nothing_is_left),
        cmocka_unit_test_setup_teardown(one_cache_that_is_lost_is_told_until_it_is_heard,
                                        count_before, nothing_is_left),
        cmocka_unit_test_setup_teardown(caches_are_kept_as_was_asked, count_before,
                                        nothing_is_left),
        cmocka_unit_test_setup_teardown(a_rank_killed_for_want_of_memory_leaves_no_cache,
                                        count_before, nothing_is_left),
    };
    return cmocka_run_group_tests_name("scenario/kept", tests, NULL, NULL);
}
