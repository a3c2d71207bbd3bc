/* SPDX-License-Identifier: Apache-2.0 */
#include "server/response_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static cohort_response_store *make(size_t most, size_t most_bytes) {
    cohort_response_store *store;
    assert_int_equal(cohort_response_store_create(most, most_bytes, &store), COHORT_OK);
    return store;
}

static void put_made(cohort_response_store *store, const char *id, const char *text,
                     const char *history, const void *maker) {
    cohort_body body = {0}, said = {0};
    cohort_body_puts(&body, text);
    cohort_body_puts(&said, history);
    cohort_response_store_put(store, id, &body, &said, maker);
    cohort_body_deinit(&body);
    cohort_body_deinit(&said);
}

static void put(cohort_response_store *store, const char *id, const char *text,
                const char *history) {
    put_made(store, id, text, history, NULL);
}

static bool has(cohort_response_store *store, const char *id) {
    return cohort_response_store_get(store, id, NULL, NULL);
}

static void assert_text(cohort_response_store *store, const char *id,
                        const char *expected) {
    cohort_body body = {0};
    assert_true(cohort_response_store_get(store, id, &body, NULL));
    assert_string_equal(body.bytes, expected);
    cohort_body_deinit(&body);
}

static void count_cancel(void *user_data) { ++*(int *)user_data; }

static const char queued[] = "{\"status\":\"queued\",\"more\":1}";

static bool begin(cohort_response_store *store, const char *id, int *n_cancelled) {
    cohort_body body = {0};
    cohort_body_puts(&body, queued);
    bool done = cohort_response_store_begin(store, id, &body, strlen("{\"status\":"),
                                            count_cancel, n_cancelled);
    cohort_body_deinit(&body);
    return done;
}

static void the_oldest_goes_beyond_the_number(void **state) {
    (void)state;
    cohort_response_store *store = make(2, 1 << 20);
    put(store, "a", "1", "x");
    put(store, "b", "2", "y");
    put(store, "a", "3", "zz"); /* the name is taken */
    assert_int_equal(cohort_response_store_history_size(store, "a"), 1);
    put(store, "c", "4", "");
    assert_false(has(store, "a"));
    assert_int_equal(cohort_response_store_history_size(store, "a"), 0);
    assert_text(store, "b", "2");
    assert_text(store, "c", "4");
    const cohort_response_store_stats stats = cohort_response_store_look(store);
    assert_int_equal(stats.n_kept, 2);
    assert_int_equal(stats.n_evicted, 1);
    cohort_response_store_destroy(store);
}

static void the_bytes_never_exceed_their_bound(void **state) {
    (void)state;
    enum { MOST = 20000 };
    cohort_response_store *store = make(1000, MOST);
    char id[16], *text = malloc(3001);
    memset(text, 'x', 3000);
    text[3000] = '\0';
    for (int i = 0; i < 50; i++) {
        snprintf(id, sizeof id, "r%d", i);
        put(store, id, text + i * 60, text + 2000);
        assert_true(cohort_response_store_look(store).kept_bytes <= MOST);
        assert_true(has(store, id));
    }
    assert_true(cohort_response_store_look(store).n_kept > 2);
    assert_false(has(store, "r0"));
    for (int i = 0; i < 50; i++) {
        snprintf(id, sizeof id, "r%d", i);
        cohort_response_store_drop(store, id);
    }
    assert_int_equal(cohort_response_store_look(store).kept_bytes, 0);
    free(text);
    cohort_response_store_destroy(store);
}

static void one_that_is_too_large_is_not_kept(void **state) {
    (void)state;
    cohort_response_store *store = make(10, 1024);
    char text[3000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    put(store, "large", text, "");
    assert_false(has(store, "large"));
    assert_int_equal(cohort_response_store_look(store).kept_bytes, 0);
    cohort_response_store_destroy(store);
}

static void what_is_being_made_stays_and_is_bounded(void **state) {
    (void)state;
    int n_cancelled = 0;
    cohort_response_store *store = make(2, 1 << 20);
    assert_true(begin(store, "a", &n_cancelled));
    assert_false(begin(store, "a", &n_cancelled));
    put(store, "b", "2", "");
    assert_true(begin(store, "c", &n_cancelled)); /* b goes */
    assert_false(has(store, "b"));
    assert_false(begin(store, "d", &n_cancelled));
    assert_false(has(store, "d"));
    put(store, "e", "5", ""); /* the only one that is whole */
    assert_false(has(store, "e"));
    assert_int_equal(cohort_response_store_look(store).n_running, 2);
    put(store, "a", "1", ""); /* of another request */
    assert_text(store, "a", queued);
    assert_int_equal(cohort_response_store_look(store).n_running, 2);
    put_made(store, "a", "1", "", &n_cancelled);
    assert_text(store, "a", "1");
    assert_true(begin(store, "d", &n_cancelled));
    assert_false(has(store, "a"));
    assert_int_equal(n_cancelled, 0);
    cohort_response_store_destroy(store);
}

static void what_was_cancelled_stays_so(void **state) {
    (void)state;
    int n_cancelled = 0;
    cohort_body body = {0};
    cohort_response_store *store = make(4, 1 << 20);
    assert_int_equal(cohort_response_store_cancel(store, "a", &body),
                     COHORT_RESPONSE_UNKNOWN);
    assert_true(begin(store, "a", &n_cancelled));
    assert_int_equal(cohort_response_store_cancel(store, "a", &body),
                     COHORT_RESPONSE_CANCELLED);
    assert_string_equal(body.bytes, "{\"status\":\"cancelled\",\"more\":1}");
    assert_int_equal(n_cancelled, 1);
    assert_int_equal(cohort_response_store_cancel(store, "a", &body),
                     COHORT_RESPONSE_IS_WHOLE);
    put_made(store, "a", "{\"status\":\"completed\"}", "", &n_cancelled);
    assert_text(store, "a", "{\"status\":\"cancelled\",\"more\":1}");
    assert_int_equal(cohort_response_store_look(store).n_running, 0);
    assert_int_equal(n_cancelled, 1);
    cohort_body_deinit(&body);
    cohort_response_store_destroy(store);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oldest_goes_beyond_the_number),
        cmocka_unit_test(the_bytes_never_exceed_their_bound),
        cmocka_unit_test(one_that_is_too_large_is_not_kept),
        cmocka_unit_test(what_is_being_made_stays_and_is_bounded),
        cmocka_unit_test(what_was_cancelled_stays_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
