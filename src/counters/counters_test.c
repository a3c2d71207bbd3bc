/* SPDX-License-Identifier: Apache-2.0 */
#include "counters/counters.h"

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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "forbid.h"
#include "leftovers.h"

static char home[] = "/tmp/cohort-counters-test-XXXXXX";

static cohort_counters *create(const char *instance) {
    cohort_counters_options options = {
        .instance = instance, .backend = "mp", .tp = 2, .pp = 1, .n_rows = 2};
    cohort_counters *counters = NULL;
    assert_int_equal(cohort_counters_create(&options, &counters), COHORT_OK);
    return counters;
}

static void reader_sees_what_the_writer_counts(void **state) {
    (void)state;
    cohort_counters *writer = create("one");
    cohort_counters *worker = NULL;
    cohort_counters *reader = NULL;
    assert_int_equal(cohort_counters_map(dup(cohort_counters_fd(writer)), &worker),
                     COHORT_OK);
    assert_int_equal(cohort_counters_open(cohort_counters_path(writer), &reader),
                     COHORT_OK);
    cohort_counters_row *row = cohort_counters_row_of(worker, 1);
    atomic_store(&row->tokens, 77);
    cohort_counters_row_error(row, "the first");
    cohort_counters_row_error(row, "the second");
    const cohort_counters_row *seen = cohort_counters_row_of(reader, 1);
    assert_int_equal(atomic_load(&seen->tokens), 77);
    assert_int_equal(atomic_load(&seen->errors), 2);
    assert_string_equal(seen->text, "the first");
    assert_int_equal(atomic_load(&seen->rank), 1);
    assert_null(cohort_counters_row_of(reader, 2));
    assert_null(cohort_counters_row_of(reader, -1));
    assert_string_equal(cohort_counters_header_of(reader)->instance, "one");
    assert_true(cohort_counters_is_alive(reader));
    cohort_counters_close(worker);
    assert_int_equal(count_counters(), 1);
    cohort_counters_close(writer);
    assert_int_equal(count_counters(), 0);
    cohort_counters_close(reader);
}

static void a_rank_has_the_address_that_it_was_given(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"10.77.0.3", "10.77.0.3"},
                                           {"fe80::1:2", "fe80::1:2"},
                                           {"somewhere", ""},
                                           {"", ""}};
    char address[COHORT_COUNTERS_ADDRESS_BYTES];
    cohort_counters_row row = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cohort_counters_row_set_address(&row, cases[i][0]);
        cohort_counters_row_address(&row, address);
        assert_string_equal(address, cases[i][1]);
    }
}

static void folder_and_file_are_the_users_alone(void **state) {
    (void)state;
    struct stat found;
    char folder[512];
    cohort_counters *counters = create(NULL);
    assert_int_equal(cohort_counters_folder(folder, sizeof folder), COHORT_OK);
    assert_int_equal(stat(folder, &found), 0);
    assert_int_equal(found.st_mode & 0777, 0700);
    assert_int_equal(stat(cohort_counters_path(counters), &found), 0);
    assert_int_equal(found.st_mode & 0777, 0600);
    cohort_counters_close(counters);
    /* What others can write is passed over, and no reason not to start. */
    char other[512];
    assert_int_equal(chmod(folder, 0777), 0);
    assert_int_equal(cohort_counters_folder(other, sizeof other), COHORT_OK);
    assert_string_not_equal(other, folder);
    assert_int_equal(chmod(folder, 0700), 0);
}

static void running_instance_keeps_its_name(void **state) {
    (void)state;
    cohort_counters *first = create("same");
    cohort_counters *second = NULL;
    cohort_counters_options options = {
        .instance = "same", .backend = "uni", .tp = 1, .pp = 1, .n_rows = 1};
    assert_int_equal(cohort_counters_create(&options, &second), COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "same"));
    assert_null(second);
    cohort_counters_close(first);
    cohort_counters_close(create("same"));
}

static void bad_names_are_refused(void **state) {
    (void)state;
    const char *const names[] = {"",
                                 ".",
                                 "../x",
                                 "a/b",
                                 "-x",
                                 "a b",
                                 "a123456789012345678901234567890123456789012345678"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        cohort_counters *counters = NULL;
        cohort_counters_options options = {
            .instance = names[i], .backend = "mp", .tp = 1, .pp = 1, .n_rows = 1};
        assert_int_equal(cohort_counters_create(&options, &counters), COHORT_E_INVALID);
    }
    assert_int_equal(count_counters(), 0);
}

/* r35: what a killed driver left is readable, known to be dead, and swept. */
static void r35_files_of_a_killed_driver_are_swept(void **state) {
    (void)state;
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (!pid) {
        cohort_counters_options options = {
            .instance = "crashed", .backend = "mp", .tp = 1, .pp = 1, .n_rows = 1};
        cohort_counters *counters = NULL;
        if (cohort_counters_create(&options, &counters) < 0) _exit(1);
        if (write(ready[1], "x", 1) != 1) _exit(1);
        pause();
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(cohort_counters_sweep(), 0); /* it lives */
    assert_int_equal(count_counters(), 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    char path[600];
    char folder[512];
    assert_int_equal(cohort_counters_folder(folder, sizeof folder), COHORT_OK);
    snprintf(path, sizeof path, "%s/crashed.stat", folder);
    cohort_counters *reader = NULL;
    assert_int_equal(cohort_counters_open(path, &reader), COHORT_OK);
    assert_false(cohort_counters_is_alive(reader));
    cohort_counters_close(reader);
    snprintf(path, sizeof path, "%s/%d-1-00000000.new", folder, (int)pid);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    cohort_counters_close(create("next")); /* a start sweeps by itself */
    assert_int_equal(count_counters(), 0);
    assert_int_equal(access(path, F_OK), -1);
    close(ready[0]);
    close(ready[1]);
}

static char said[2048];

static void keep_line(void *user_data, cohort_log_level level, const char *line) {
    (void)user_data;
    (void)level;
    strncat(said, line, sizeof said - strlen(said) - 1);
}

/* No folder that is named can be written, and what stands in a folder's place is a file:
 * the next one is taken, and what is written is the same. */
static void a_folder_that_cannot_be_made_is_passed_over(void **state) {
    (void)state;
    char blocked[128], wanted[128];
    snprintf(blocked, sizeof blocked, "%s/blocked", home);
    snprintf(wanted, sizeof wanted, "%s/blocked/cohort-%u/", home, geteuid());
    assert_int_equal(mkdir(blocked, 0700), 0);
    setenv("XDG_RUNTIME_DIR", "/nonexistent", 1);
    setenv("TMPDIR", blocked, 1);
    cohort_counters *counters = create("one");
    assert_int_equal(strncmp(cohort_counters_path(counters), wanted, strlen(wanted)), 0);
    cohort_counters_close(counters);
    wanted[strlen(wanted) - 1] = '\0';
    assert_int_equal(rmdir(wanted), 0);
    int fd = open(wanted, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    counters = create("one");
    assert_null(strstr(cohort_counters_path(counters), home));
    cohort_counters_close(counters);
    unlink(wanted);
    rmdir(blocked);
    unsetenv("TMPDIR");
    setenv("XDG_RUNTIME_DIR", home, 1);
}

/* A root that is read-only: no file can be made anywhere.  Folders may have been. */
static void without_a_file_there_are_counters_and_a_warning(void **state) {
    (void)state;
    int status;
    pid_t pid = fork();
    if (!pid) {
        static const int calls[] = {SYS_link, SYS_linkat};
        cohort_counters_options options = {
            .instance = "none", .backend = "mp", .tp = 1, .pp = 1, .n_rows = 1};
        cohort_counters *counters = NULL, *worker = NULL;
        if (!forbid_calls(calls, 2, EROFS)) _exit(0); /* no seccomp here */
        cohort_log_set_sink(keep_line, COHORT_LOG_WARNING, NULL);
        if (cohort_counters_create(&options, &counters) < 0) _exit(1);
        if (cohort_counters_path(counters)) _exit(2);
        if (!strstr(said, "XDG_RUNTIME_DIR or TMPDIR")) _exit(3);
        if (cohort_counters_map(dup(cohort_counters_fd(counters)), &worker) < 0) _exit(4);
        atomic_store(&cohort_counters_row_of(worker, 0)->steps, 5);
        if (atomic_load(&cohort_counters_row_of(counters, 0)->steps) != 5) _exit(5);
        if (!cohort_counters_is_alive(counters)) _exit(6);
        cohort_counters_close(worker);
        cohort_counters_close(counters);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* What somebody in another pid namespace sees: a pid that says nothing. */
static void a_file_lives_as_long_as_its_lock(void **state) {
    (void)state;
    cohort_counters *writer = create("far");
    cohort_counters *reader = NULL;
    cohort_counters_header_of(writer)->driver_pid = 1 << 22; /* more than there may be */
    assert_int_equal(cohort_counters_sweep(), 0);
    assert_int_equal(cohort_counters_open(cohort_counters_path(writer), &reader),
                     COHORT_OK);
    assert_true(cohort_counters_is_alive(reader));
    /* And a pid that says too much: of a process that is not its driver. */
    cohort_counters_header_of(writer)->driver_pid = (int32_t)getpid();
    cohort_counters *worker = NULL;
    assert_int_equal(cohort_counters_map(dup(cohort_counters_fd(writer)), &worker),
                     COHORT_OK);
    char path[512], kept[520];
    snprintf(path, sizeof path, "%s", cohort_counters_path(writer));
    snprintf(kept, sizeof kept, "%s.kept", path);
    assert_int_equal(link(path, kept), 0);
    cohort_counters_close(writer);
    assert_int_equal(rename(kept, path), 0);
    assert_false(cohort_counters_is_alive(reader)); /* a worker's mapping is no life */
    assert_int_equal(cohort_counters_sweep(), 1);
    cohort_counters_close(worker);
    cohort_counters_close(reader);
}

static void foreign_files_are_refused(void **state) {
    (void)state;
    char path[64];
    uint8_t bytes[2048];
    memset(bytes, 0xff, sizeof bytes);
    snprintf(path, sizeof path, "%s/x.stat", home);
    for (size_t size = 0; size <= sizeof bytes; size += 256) {
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        assert_int_equal(fwrite(bytes, 1, size, file), size);
        assert_int_equal(fclose(file), 0);
        cohort_counters *counters = NULL;
        assert_int_equal(cohort_counters_open(path, &counters), COHORT_E_PROTOCOL);
        assert_null(counters);
    }
    unlink(path);
}

static int enter_home(void **state) {
    (void)state;
    return !mkdtemp(home) || setenv("XDG_RUNTIME_DIR", home, 1);
}

static int leave_home(void **state) {
    (void)state;
    char folder[64];
    snprintf(folder, sizeof folder, "%s/cohort", home);
    return rmdir(folder) || rmdir(home); /* fails where a file was left */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reader_sees_what_the_writer_counts),
        cmocka_unit_test(a_rank_has_the_address_that_it_was_given),
        cmocka_unit_test(folder_and_file_are_the_users_alone),
        cmocka_unit_test(running_instance_keeps_its_name),
        cmocka_unit_test(bad_names_are_refused),
        cmocka_unit_test(r35_files_of_a_killed_driver_are_swept),
        cmocka_unit_test(a_folder_that_cannot_be_made_is_passed_over),
        cmocka_unit_test(without_a_file_there_are_counters_and_a_warning),
        cmocka_unit_test(a_file_lives_as_long_as_its_lock),
        cmocka_unit_test(foreign_files_are_refused),
    };
    return cmocka_run_group_tests(tests, enter_home, leave_home);
}
