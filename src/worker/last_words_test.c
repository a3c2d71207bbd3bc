/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/last_words.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "link/link.h"
#include "wire/frame.h"

/* What a child does that shares the row with us. */
typedef void (*ending)(void);

static void call_exit(void) { exit(3); }
static void call_exit_0(void) { exit(0); }
static void leave_at_once(void) { _exit(3); }
static void crash(void) { raise(SIGSEGV); }

static void uninstall_and_exit(void) {
    cohort_last_words_uninstall();
    exit(3);
}

static void uninstall_and_crash(void) {
    cohort_last_words_uninstall();
    raise(SIGSEGV);
}

static void reinstall_and_exit(void) {
    cohort_counters_row other = {0};
    cohort_last_words_uninstall();
    cohort_last_words_install(&other, -1, 0, 1);
    exit(3);
}

static void end_grandchild(ending end) {
    pid_t pid = fork();
    if (!pid) end();
    _exit(waitpid(pid, NULL, 0) == pid ? 5 : 99);
}

/* What a rank forks is not the rank. */
static void fork_and_exit(void) { end_grandchild(call_exit); }
static void fork_and_crash(void) { end_grandchild(crash); }

/* A stack for signals that the process had before, as a sanitizer's does. */
static void restore_stack(void) {
    static char bytes[65536];
    stack_t other = {.ss_sp = bytes, .ss_size = sizeof bytes};
    stack_t found = {0};
    cohort_counters_row row = {0};
    cohort_last_words_uninstall();
    sigaltstack(&other, NULL);
    cohort_last_words_install(&row, -1, 0, 1);
    cohort_last_words_uninstall();
    sigaltstack(NULL, &found);
    _exit(found.ss_sp == bytes && !(found.ss_flags & SS_DISABLE) ? 6 : 99);
}

static cohort_counters_row *share_row(void) {
    cohort_counters_row *row = mmap(NULL, sizeof *row, PROT_READ | PROT_WRITE,
                                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(row != MAP_FAILED);
    return row;
}

static int end_child(cohort_counters_row *row, int fd, ending end) {
    int status = 0;
    pid_t pid = fork();
    if (!pid) {
        struct rlimit no_core = {0};
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGSEGV, SIG_DFL);
        cohort_last_words_install(row, fd, 1, 7);
        end();
        _exit(99);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void endings_leave_what_they_can(void **state) {
    static const struct {
        ending end;
        int signal, status;
        uint32_t exited;
        int32_t crash;
    } cases[] = {{call_exit, 0, 3, 4, 0},
                 {call_exit_0, 0, 0, 1, 0},
                 {leave_at_once, 0, 3, 0, 0},
                 {crash, SIGSEGV, 0, 0, SIGSEGV},
                 {uninstall_and_exit, 0, 3, 0, 0},
                 {reinstall_and_exit, 0, 3, 0, 0},
                 {uninstall_and_crash, SIGSEGV, 0, 0, 0},
                 {fork_and_exit, 0, 5, 0, 0},
                 {fork_and_crash, 0, 5, 0, 0},
                 {restore_stack, 0, 6, 0, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cohort_counters_row *row = share_row();
        int status = end_child(row, -1, cases[i].end);
        print_message("case %zu\n", i);
        assert_int_equal(WIFSIGNALED(status) ? WTERMSIG(status) : 0, cases[i].signal);
        if (!cases[i].signal) assert_int_equal(WEXITSTATUS(status), cases[i].status);
        assert_int_equal(row->exited, cases[i].exited);
        assert_int_equal(row->crash_signal, cases[i].crash);
        assert_int_equal(row->crash_frames[0] != 0, cases[i].crash != 0);
        munmap(row, sizeof *row);
    }
}

/* Where the driver cannot see the row. */
static void exit_is_told_over_the_link(void **state) {
    (void)state;
    int fds[2];
    const void *bytes;
    size_t size;
    cohort_link *link;
    cohort_link_inbox inbox = {0};
    cohort_frame frame;
    cohort_frame_row sent;
    cohort_counters_row *row = share_row();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    end_child(row, fds[1], call_exit);
    assert_int_equal(cohort_link_adopt(fds[0], &link), COHORT_OK);
    assert_int_equal(cohort_link_take_frame(link, &inbox, &bytes, &size), COHORT_OK);
    assert_int_equal(cohort_frame_decode(bytes, size, &frame), COHORT_OK);
    assert_int_equal(frame.kind, COHORT_FRAME_ROW);
    assert_int_equal(frame.rank, 1);
    assert_int_equal(frame.epoch, 7);
    assert_int_equal(cohort_frame_read_row(&frame, &sent), COHORT_OK);
    cohort_counters_row taken = {0};
    cohort_counters_row_take(&taken, &sent.row, sent.sent_ns, cohort_clock_ns());
    assert_int_equal(taken.exited, 4);
    cohort_link_close(link);
    close(fds[1]);
    munmap(row, sizeof *row);
}

/* Two threads of a process that do not get on, for as long as somebody likes. */
static int ready_fd;

__attribute__((noinline)) static void *spin(void *unused) {
    const struct timespec moment = {.tv_nsec = 100000};
    int32_t thread = (int32_t)gettid();
    if (write(ready_fd, &thread, sizeof thread) != sizeof thread) _exit(1);
    for (;;) /* a sanitizer hands on signals in calls alone */
        nanosleep(&moment, NULL);
    return unused;
}

static void spin_twice(void) {
    pthread_t other;
    if (pthread_create(&other, NULL, spin, NULL)) _exit(1);
    spin(NULL);
}

/* Whoever it is, and as often as one asks. */
static void a_thread_that_is_asked_tells_where_it_is(void **state) {
    (void)state;
    int ends[2];
    int32_t threads[2];
    cohort_counters_row *row = share_row();
    assert_int_equal(pipe(ends), 0);
    ready_fd = ends[1];
    pid_t pid = fork();
    if (!pid) {
        cohort_last_words_install(row, -1, 1, 7);
        spin_twice();
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(read(ends[0], &threads[i], sizeof *threads), sizeof *threads);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(syscall(SYS_tgkill, pid, threads[i % 2], SIGURG), 0);
        while (atomic_load(&row->stack_thread) != threads[i % 2])
            sched_yield();
        assert_true(row->crash_frames[0] != 0);
        assert_int_equal(row->crash_signal, 0);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(ends[0]);
    close(ends[1]);
    munmap(row, sizeof *row);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endings_leave_what_they_can),
        cmocka_unit_test(exit_is_told_over_the_link),
        cmocka_unit_test(a_thread_that_is_asked_tells_where_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
