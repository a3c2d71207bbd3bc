/* SPDX-License-Identifier: Apache-2.0 */
/* The command where calls are forbidden, as containers and old kernels have it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "forbid.h"

#define COHORT COHORT_BUILD_DIR "/cohort"
#define MODEL  COHORT_SOURCE_DIR "/tests/golden/llama-float32"

enum { TEXT_BYTES = 65536, NO_SECCOMP = 77 };

typedef struct sandbox {
    const int *calls;
    size_t n_calls;
    int err;
    rlim_t max_files; /* 0: as it is */
    const char *bind; /* NULL: by default */
} sandbox;

static char before[TEXT_BYTES], answer[TEXT_BYTES], errors[TEXT_BYTES];

static void run_child(const sandbox *in, const int *out, const int *err) {
    const char *words[] = {COHORT,
                           "generate",
                           MODEL,
                           "-tp",
                           "2",
                           "--prompt",
                           "Hello",
                           "--max-tokens",
                           "8",
                           "--temperature",
                           "0",
                           "--cpu-threads-bind",
                           in->bind ? in->bind : "auto",
                           NULL};
    const struct rlimit files = {in->max_files, in->max_files};
    dup2(out[1], 1);
    dup2(err[1], 2);
    if (in->max_files && setrlimit(RLIMIT_NOFILE, &files)) _exit(1);
    if (in->n_calls && !forbid_calls(in->calls, in->n_calls, in->err)) _exit(NO_SECCOMP);
    execv(words[0], (char *const *)(uintptr_t)words);
    _exit(1);
}

static void read_all(int fd, char *text) {
    size_t used = 0;
    ssize_t n;
    while ((n = read(fd, text + used, TEXT_BYTES - 1 - used)) > 0)
        used += (size_t)n;
    text[used] = '\0';
    close(fd);
}

/* The exit code; what it said is in answer and errors, which both fit into a pipe. */
static int generate(const sandbox *in) {
    int out[2], err[2], status;
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (!pid) run_child(in, out, err);
    close(out[1]);
    close(err[1]);
    read_all(out[0], answer);
    read_all(err[0], errors);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NO_SECCOMP) skip();
    return WEXITSTATUS(status);
}

static void runs_in(const int *calls, size_t n, const char *warning) {
    static const int errnos[] = {EPERM, ENOSYS, EACCES, EOPNOTSUPP};
    for (size_t i = 0; i < sizeof errnos / sizeof *errnos; i++) {
        const sandbox in = {.calls = calls, .n_calls = n, .err = errnos[i]};
        int code = generate(&in);
        if (code) fail_msg("call %d, errno %d: %s", calls[0], errnos[i], errors);
        assert_string_equal(answer, before);
        if (warning ? !strstr(errors, warning) : *errors != '\0')
            fail_msg("call %d, errno %d says: %s", calls[0], errnos[i], errors);
    }
}

static void memory_is_a_file_without_memfd_create(void **state) {
    (void)state;
    runs_in((int[]){SYS_memfd_create}, 1, NULL);
}

static void a_thread_watches_children_without_pidfd_open(void **state) {
    (void)state;
    runs_in((int[]){SYS_pidfd_open, SYS_pidfd_send_signal}, 2, NULL);
}

static void bytes_are_written_without_fallocate(void **state) {
    (void)state;
    runs_in((int[]){SYS_fallocate}, 1, NULL);
}

static void threads_are_bound_only_where_they_may(void **state) {
    (void)state;
    static const int calls[] = {SYS_sched_setaffinity};
    runs_in(calls, 1, "sched_setaffinity is not allowed");
    const sandbox in = {.calls = calls, .n_calls = 1, .err = EPERM, .bind = "0|0"};
    assert_int_equal(generate(&in), 1); /* what somebody asked for is no wish */
    assert_non_null(strstr(errors, "binding a thread to CPU 0"));
}

static void all_of_them_together(void **state) {
    (void)state;
    runs_in((int[]){SYS_memfd_create, SYS_pidfd_open, SYS_fallocate,
                    SYS_sched_setaffinity, SYS_mkdir, SYS_link},
            6, "will not show this run");
}

static void too_few_open_files_are_told(void **state) {
    (void)state;
    for (rlim_t n = 16; n <= 64; n += 16) {
        const sandbox in = {.max_files = n};
        if (!generate(&in)) continue; /* enough for so small a model */
        if (!strstr(errors, "ulimit -n")) fail_msg("with %d: %s", (int)n, errors);
    }
}

static int run_free(void **state) {
    (void)state;
    static char home[] = "/tmp/cohort-sandbox-test-XXXXXX";
    const sandbox none = {0};
    if (!mkdtemp(home) || setenv("XDG_RUNTIME_DIR", home, 1) || generate(&none)) return 1;
    strcpy(before, answer);
    return 0;
}

static int leave(void **state) {
    (void)state;
    char folder[128];
    snprintf(folder, sizeof folder, "%s/cohort", getenv("XDG_RUNTIME_DIR"));
    return rmdir(folder) || rmdir(getenv("XDG_RUNTIME_DIR")); /* nothing is left */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_a_file_without_memfd_create),
        cmocka_unit_test(a_thread_watches_children_without_pidfd_open),
        cmocka_unit_test(bytes_are_written_without_fallocate),
        cmocka_unit_test(threads_are_bound_only_where_they_may),
        cmocka_unit_test(all_of_them_together),
        cmocka_unit_test(too_few_open_files_are_told),
    };
    return cmocka_run_group_tests(tests, run_free, leave);
}
