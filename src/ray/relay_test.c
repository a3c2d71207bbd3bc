/* SPDX-License-Identifier: Apache-2.0 */
/* The sidecar's ends, on a thread, against a driver's: short messages and long ones. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "cohort/clock.h"
#include "cohort/queue.h"
#include "ray/relay.h"
#include "worker/worker.h"

enum { LONGEST = 1 << 18, PATIENCE_MS = 60000 };

static void *echo_all(void *argument) {
    cohort_ray_relay *relay = argument;
    const void *bytes;
    size_t size_bytes;
    assert_int_equal(cohort_ray_relay_await(relay, PATIENCE_MS), COHORT_OK);
    while (cohort_ray_relay_read(relay, &bytes, &size_bytes) >= 0) {
        assert_int_equal(cohort_ray_relay_reply(relay, bytes, size_bytes), COHORT_OK);
        cohort_ray_relay_read_end(relay);
    }
    return NULL;
}

static void calls_and_replies_pass(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 100, 5000, LONGEST};
    static uint8_t message[LONGEST];
    cohort_queue *calls = NULL, *replies = NULL;
    cohort_queue_handle handle;
    char hex[COHORT_RAY_HANDLE_HEX_BYTES], back[COHORT_RAY_HANDLE_HEX_BYTES];
    pthread_t sidecar;
    cohort_queue_options options = cohort_worker_queue_options("calls", LONGEST, 1);
    assert_int_equal(cohort_queue_create(&options, &calls), COHORT_OK);
    assert_int_equal(cohort_queue_export(calls, &handle), COHORT_OK);
    sodium_bin2hex(hex, sizeof hex, handle.bytes, sizeof handle.bytes);
    cohort_ray_relay *relay = cohort_ray_relay_open(hex, LONGEST, back);
    assert_non_null(relay);
    assert_int_equal(sodium_hex2bin(handle.bytes, sizeof handle.bytes, back, strlen(back),
                                    NULL, NULL, NULL),
                     0);
    assert_int_equal(cohort_queue_attach(&handle, 0, &replies), COHORT_OK);
    assert_int_equal(pthread_create(&sidecar, NULL, echo_all, relay), 0);
    int64_t deadline_ns = cohort_deadline_ms(PATIENCE_MS);
    assert_int_equal(cohort_queue_wait_ready(calls, deadline_ns), COHORT_OK);
    assert_int_equal(cohort_queue_wait_ready(replies, deadline_ns), COHORT_OK);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const void *bytes;
        size_t size_bytes;
        memset(message, (int)i + 1, sizes[i]);
        assert_int_equal(cohort_queue_write(calls, message, sizes[i], deadline_ns),
                         COHORT_OK);
        assert_int_equal(
            cohort_queue_read_begin(replies, deadline_ns, &bytes, &size_bytes),
            COHORT_OK);
        assert_int_equal(size_bytes, sizes[i]);
        assert_memory_equal(bytes, message, sizes[i]);
        cohort_queue_read_end(replies);
    }
    cohort_queue_close(calls); /* the sidecar's loop ends */
    pthread_join(sidecar, NULL);
    cohort_ray_relay_close(relay);
    cohort_queue_close(replies);
}

static void what_is_no_handle_is_refused(void **state) {
    (void)state;
    char back[COHORT_RAY_HANDLE_HEX_BYTES];
    assert_null(cohort_ray_relay_open("", LONGEST, back));
    assert_non_null(strstr(cohort_ray_relay_error(), "no queue's handle"));
    assert_null(cohort_ray_relay_open("zz", LONGEST, back));
    assert_null(cohort_ray_relay_open("00ff", LONGEST, back));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_and_replies_pass),
        cmocka_unit_test(what_is_no_handle_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
