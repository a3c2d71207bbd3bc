/* SPDX-License-Identifier: Apache-2.0 */
#include "client/events.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void note(void *user_data, const char *data, size_t size) {
    assert_int_equal(strlen(data), size);
    cohort_body_printf(user_data, "[%s]", data);
}

/* The events of a stream that comes in pieces of so many bytes. */
static void expect(const char *stream, size_t piece, const char *expected) {
    cohort_events events = {0};
    cohort_body seen = {0};
    size_t size = strlen(stream);
    for (size_t at = 0; at < size; at += piece)
        assert_int_equal(cohort_events_feed(&events, stream + at,
                                            piece < size - at ? piece : size - at, note,
                                            &seen),
                         COHORT_OK);
    assert_string_equal(seen.bytes ? seen.bytes : "", expected);
    cohort_body_deinit(&seen);
    cohort_events_deinit(&events);
}

static void pieces_of_any_size_give_the_same_events(void **state) {
    (void)state;
    const char *stream =
        "data: {\"a\": 1}\n\n: ping\n\nevent: x\r\ndata:b\r\ndata:  c\r\n"
        "\r\ndata\n\nid: 7\n\rdata: [DONE]\r\rdata: cut off\n";
    for (size_t piece = 1; piece < 80; piece++)
        expect(stream, piece, "[{\"a\": 1}][b\n c][][[DONE]]");
}

static void an_endless_event_is_refused(void **state) {
    (void)state;
    static char part[1 << 20];
    cohort_events events = {0};
    cohort_status status = COHORT_OK;
    memset(part, 'x', sizeof part);
    for (int i = 0; i < 17 && status == COHORT_OK; i++)
        status = cohort_events_feed(&events, part, sizeof part, note, NULL);
    assert_int_equal(status, COHORT_E_PROTOCOL);
    cohort_events_deinit(&events);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_of_any_size_give_the_same_events),
        cmocka_unit_test(an_endless_event_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
