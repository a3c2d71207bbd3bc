/* SPDX-License-Identifier: Apache-2.0 */
/* The framing of a sidecar's messages, with a shell in Python's place that says what is
 * wanted on the socket: hostile bytes are a process's, not a buffer's. */
#include "ray/sidecar.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "ray/event.h"

enum { SOON_MS = 20000 };

static char path[] = "/tmp/cohort-sidecar-XXXXXX";

/* A sidecar whose whole life is these commands of a shell, with >&3 as its socket. */
static cohort_sidecar *start(const char *commands) {
    cohort_sidecar *sidecar = NULL;
    memcpy(path + sizeof path - 7, "XXXXXX", 6);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_true(dprintf(fd, "#!/bin/sh\n%s\n", commands) > 0);
    assert_int_equal(fchmod(fd, 0700), 0);
    close(fd);
    setenv("COHORT_PYTHON", path, 1);
    cohort_status status = cohort_sidecar_start(&sidecar);
    unsetenv("COHORT_PYTHON");
    assert_int_equal(status, COHORT_OK);
    return sidecar;
}

static cohort_status receive(cohort_sidecar *sidecar, cJSON **out_event) {
    *out_event = NULL;
    return cohort_sidecar_receive(sidecar, cohort_deadline_ms(SOON_MS), out_event);
}

static void expect_event(cohort_sidecar *sidecar, const char *name) {
    cJSON *event;
    assert_int_equal(receive(sidecar, &event), COHORT_OK);
    assert_true(cohort_ray_event_is(event, name));
    cJSON_Delete(event);
}

static void finish(cohort_sidecar *sidecar) {
    cohort_sidecar_end(sidecar, 0);
    cohort_sidecar_free(sidecar);
    unlink(path);
}

#define SHELL_WAITS "exec sleep 100 3>&3"

static void events_come_one_by_one(void **state) {
    (void)state;
    /* 13 bytes: \015; the second arrives in pieces. */
    cohort_sidecar *sidecar = start("printf '\\015\\000\\000\\000{\"event\":\"a\"}' >&3\n"
                                    "printf '\\015\\000' >&3; sleep 0.1\n"
                                    "printf '\\000\\000{\"event\"' >&3; sleep 0.1\n"
                                    "printf ':\"b\"}' >&3\n" SHELL_WAITS);
    expect_event(sidecar, "a");
    expect_event(sidecar, "b");
    finish(sidecar);
}

static void a_message_that_is_none_does_not_spoil_the_next(void **state) {
    (void)state;
    cJSON *event;
    cohort_sidecar *sidecar =
        start("printf '\\003\\000\\000\\000{\"e' >&3\n"
              "printf '\\000\\000\\000\\000' >&3\n"
              "printf '\\004\\000\\000\\000\\377\\000{}' >&3\n"
              "printf '\\015\\000\\000\\000{\"event\":\"b\"}' >&3\n" SHELL_WAITS);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(receive(sidecar, &event), COHORT_E_PROTOCOL);
        assert_null(event);
    }
    expect_event(sidecar, "b");
    finish(sidecar);
}

static void a_length_that_cannot_be_is_the_end(void **state) {
    (void)state;
    cJSON *event;
    /* Were the reader to go on, it would take what follows for a message. */
    cohort_sidecar *sidecar =
        start("printf '\\001\\000\\100\\000' >&3\n" /* 4 MiB + 1 */
              "printf '\\015\\000\\000\\000{\"event\":\"b\"}' >&3\n" SHELL_WAITS);
    assert_int_equal(receive(sidecar, &event), COHORT_E_IO);
    assert_non_null(strstr(cohort_last_error()->message, "out of step"));
    assert_int_equal(cohort_last_error()->code, COHORT_E_IO);
    finish(sidecar);
}

static void half_a_message_and_an_end_is_an_end(void **state) {
    (void)state;
    const char *const last[] = {"printf '\\015\\000' >&3",
                                "printf '\\015\\000\\000\\000{\"event' >&3", "exit 0"};
    for (size_t i = 0; i < sizeof last / sizeof *last; i++) {
        cJSON *event;
        cohort_sidecar *sidecar = start(last[i]);
        assert_int_equal(receive(sidecar, &event), COHORT_E_PEER_DIED);
        assert_non_null(strstr(cohort_last_error()->message, "the Ray sidecar (pid "));
        finish(sidecar);
    }
}

static int n_kills; /* also in place of libc's, for the library in this program */
int kill(pid_t pid, int signal_number) {
    n_kills++;
    return (int)syscall(SYS_kill, pid, signal_number);
}

static void what_it_started_ends_with_it(void **state) {
    (void)state;
    cJSON *event;
    int status = 0;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    cohort_sidecar *sidecar =
        start("sleep 100 3>&- & printf '\\031\\000\\000\\000{\"event\":\"a\",\"n\":%7d}'"
              " $! >&3");
    assert_int_equal(receive(sidecar, &event), COHORT_OK);
    pid_t helper = (pid_t)cJSON_GetObjectItemCaseSensitive(event, "n")->valuedouble;
    cJSON_Delete(event);
    n_kills = 0;
    finish(sidecar);
    assert_int_equal(n_kills, 1);
    assert_int_equal(waitpid(helper, &status, 0), helper);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* The kernel has reaped it: its pid may be anybody's. */
static void a_pid_that_is_free_is_not_killed(void **state) {
    (void)state;
    cJSON *event;
    signal(SIGCHLD, SIG_IGN);
    cohort_sidecar *sidecar = start("sleep 0.2");
    assert_int_equal(receive(sidecar, &event), COHORT_E_PEER_DIED);
    while (!kill(cohort_sidecar_pid(sidecar), 0))
        usleep(1000);
    n_kills = 0;
    finish(sidecar);
    signal(SIGCHLD, SIG_DFL);
    assert_int_equal(n_kills, 0);
}

static void an_order_that_is_too_long_is_not_sent(void **state) {
    (void)state;
    enum { LONG = 5 << 20 };
    cohort_sidecar *sidecar = start("exec cat <&3 >/dev/null");
    char *text = malloc(LONG);
    assert_non_null(text);
    memset(text, 'x', LONG - 1);
    text[LONG - 1] = '\0';
    cJSON *order = cJSON_CreateObject();
    cJSON_AddStringToObject(order, "op", text);
    free(text);
    assert_int_equal(cohort_sidecar_send(sidecar, order), COHORT_E_INVALID);
    finish(sidecar);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_come_one_by_one),
        cmocka_unit_test(a_message_that_is_none_does_not_spoil_the_next),
        cmocka_unit_test(a_length_that_cannot_be_is_the_end),
        cmocka_unit_test(half_a_message_and_an_end_is_an_end),
        cmocka_unit_test(what_it_started_ends_with_it),
        cmocka_unit_test(a_pid_that_is_free_is_not_killed),
        cmocka_unit_test(an_order_that_is_too_long_is_not_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
