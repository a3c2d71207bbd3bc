/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

typedef struct seen {
    sigset_t blocked;
} seen;

static void *look(void *argument) {
    seen *self = argument;
    pthread_sigmask(SIG_SETMASK, NULL, &self->blocked);
    return NULL;
}

static void threads_leave_signals_to_the_application(void **state) {
    (void)state;
    static const int asynchronous[] = {SIGINT, SIGTERM, SIGCHLD, SIGUSR1, SIGALRM};
    seen self = {0};
    sigset_t before = {0}, after = {0}; /* the kernel fills a part of them */
    pthread_t thread;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_int_equal(cohort_thread_start("cohort-looker", look, &self, &thread),
                     COHORT_OK);
    pthread_join(thread, NULL);
    for (size_t i = 0; i < sizeof asynchronous / sizeof *asynchronous; i++)
        assert_true(sigismember(&self.blocked, asynchronous[i]));
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_memory_equal(&before, &after, sizeof before);
}

/* Else a crash in one of them leaves no last words. */
static void threads_answer_for_their_own_faults(void **state) {
    (void)state;
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    seen self = {0};
    pthread_t thread;
    assert_int_equal(cohort_thread_start("cohort-looker", look, &self, &thread),
                     COHORT_OK);
    pthread_join(thread, NULL);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        assert_false(sigismember(&self.blocked, faults[i]));
}

static void threads_hear_what_they_were_told_to(void **state) {
    (void)state;
    for (int number = SIGURG; number >= 0; number -= SIGURG) {
        seen self = {0};
        pthread_t thread;
        cohort_thread_hear(number);
        assert_int_equal(cohort_thread_start("cohort-looker", look, &self, &thread),
                         COHORT_OK);
        pthread_join(thread, NULL);
        assert_int_equal(sigismember(&self.blocked, SIGURG), !number);
        assert_true(sigismember(&self.blocked, SIGTERM));
    }
}

static void *hold(void *argument) {
    pthread_mutex_lock(argument);
    pthread_mutex_unlock(argument);
    return NULL;
}

static void threads_have_their_name(void **state) {
    (void)state;
    char name[16];
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    pthread_t thread;
    pthread_mutex_lock(&gate);
    assert_int_equal(cohort_thread_start("cohort-holder", hold, &gate, &thread),
                     COHORT_OK);
    assert_int_equal(pthread_getname_np(thread, name, sizeof name), 0);
    assert_string_equal(name, "cohort-holder");
    pthread_mutex_unlock(&gate);
    pthread_join(thread, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_leave_signals_to_the_application),
        cmocka_unit_test(threads_hear_what_they_were_told_to),
        cmocka_unit_test(threads_answer_for_their_own_faults),
        cmocka_unit_test(threads_have_their_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
