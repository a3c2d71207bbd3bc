/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/stop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"

/* Appends and takes; what was shown is added to out. */
static int32_t feed(cohort_stop_text *text, const char *bytes, char *out) {
    int32_t stop;
    const char *shown;
    size_t size;
    assert_int_equal(cohort_stop_text_append(text, bytes, strlen(bytes), true, &stop),
                     COHORT_OK);
    cohort_stop_text_take(text, stop >= 0, &shown, &size);
    strncat(out, shown, size);
    return stop;
}

static void a_stop_string_over_tokens_is_never_shown(void **state) {
    (void)state;
    const char *const stops[] = {"\nUser:", "###"};
    cohort_stops made;
    assert_int_equal(cohort_stops_create(stops, 2, &made), COHORT_OK);
    cohort_stop_text text = {.stops = &made};
    char out[100] = "";
    assert_int_equal(feed(&text, "Hello\n", out), -1);
    assert_string_equal(out, "Hello");
    assert_int_equal(feed(&text, "Us", out), -1);
    assert_string_equal(out, "Hello");
    assert_int_equal(feed(&text, "ed #", out), -1); /* it could not become one */
    assert_string_equal(out, "Hello\nUsed ");
    assert_int_equal(feed(&text, "#", out), -1);
    assert_int_equal(feed(&text, "# and more", out), 1);
    assert_string_equal(out, "Hello\nUsed ");
    cohort_stop_text_deinit(&text);
    cohort_stops_deinit(&made);
}

static void a_stop_string_may_be_included(void **state) {
    (void)state;
    const char *const stops[] = {"END"};
    cohort_stops made;
    assert_int_equal(cohort_stops_create(stops, 1, &made), COHORT_OK);
    cohort_stop_text text = {.stops = &made, .include = true};
    char out[100] = "";
    assert_int_equal(feed(&text, "x E", out), -1);
    assert_string_equal(out, "x E");
    assert_int_equal(feed(&text, "ND tail", out), 0);
    assert_string_equal(out, "x END");
    cohort_stop_text_deinit(&text);
    cohort_stops_deinit(&made);
}

static void what_is_held_back_comes_at_the_end(void **state) {
    (void)state;
    const char *const stops[] = {"abab"};
    cohort_stops made;
    assert_int_equal(cohort_stops_create(stops, 1, &made), COHORT_OK);
    cohort_stop_text text = {.stops = &made};
    char out[100] = "";
    const char *shown;
    size_t size;
    feed(&text, "xaba", out);
    assert_string_equal(out, "x");
    cohort_stop_text_take(&text, true, &shown, &size);
    assert_int_equal(size, 3);
    assert_memory_equal(shown, "aba", 3);
    cohort_stop_text_deinit(&text);
    cohort_stops_deinit(&made);
}

static void the_list_says_nothing_of_what_ends_earlier(void **state) {
    (void)state;
    const char *const stops[] = {"late", "early"};
    cohort_stops made;
    assert_int_equal(cohort_stops_create(stops, 2, &made), COHORT_OK);
    cohort_stop_text text = {.stops = &made};
    char out[100] = "";
    assert_int_equal(feed(&text, "an early and a late one", out), 1);
    assert_string_equal(out, "an ");
    cohort_stop_text_deinit(&text);
    cohort_stops_deinit(&made);
}

static void the_one_that_ends_first_counts(void **state) {
    (void)state;
    const char *const stops[] = {" Paris", "Par"};
    cohort_stops made;
    assert_int_equal(cohort_stops_create(stops, 2, &made), COHORT_OK);
    cohort_stop_text text = {.stops = &made};
    char out[100] = "";
    assert_int_equal(feed(&text, " Paris", out), 1);
    assert_string_equal(out, " ");
    cohort_stop_text_deinit(&text);
    cohort_stops_deinit(&made);
}

static void protected_text_does_not_stop(void **state) {
    (void)state;
    const char *const stops[] = {"stop"};
    cohort_stops made;
    assert_int_equal(cohort_stops_create(stops, 1, &made), COHORT_OK);
    cohort_stop_text text = {.stops = &made};
    int32_t stop;
    cohort_stop_text_append(&text, "stop st", 7, false, &stop);
    assert_int_equal(stop, -1);
    cohort_stop_text_append(&text, "op", 2, true, &stop);
    assert_int_equal(stop, 0); /* half of it is new */
    assert_int_equal(text.size_bytes, 5);
    cohort_stop_text_deinit(&text);
    cohort_stops_deinit(&made);
}

static void a_nul_is_two_bytes_in_a_stop_string(void **state) {
    (void)state;
    const char *const stops[] = {"b\xc0\x80", "\xc0\x80\xc0\x80"};
    cohort_stops made;
    assert_int_equal(cohort_stops_create(stops, 2, &made), COHORT_OK);
    cohort_stop_text text = {.stops = &made};
    int32_t stop;
    cohort_stop_text_append(&text, "a\0b\0c", 5, true, &stop);
    assert_int_equal(stop, 0);
    assert_int_equal(text.size_bytes, 2);
    cohort_stop_text_deinit(&text);
    cohort_stops_deinit(&made);
}

/* Looking from anew at each byte would take hours. */
static void the_longest_stop_string_costs_as_the_shortest(void **state) {
    (void)state;
    enum { LONGEST = 65535, TEXT = 1 << 20 };
    static char longest[LONGEST + 1];
    memset(longest, 'a', LONGEST - 1);
    longest[LONGEST - 1] = 'b';
    const char *const stops[] = {longest};
    cohort_stops made;
    assert_int_equal(cohort_stops_create(stops, 1, &made), COHORT_OK);
    cohort_stop_text text = {.stops = &made};
    size_t n_shown = 0;
    for (int i = 0; i <= TEXT; i++) {
        const char *shown;
        size_t size;
        int32_t stop;
        cohort_stop_text_append(&text, i < TEXT ? "a" : "b", 1, true, &stop);
        assert_int_equal(stop, i < TEXT ? -1 : 0);
        cohort_stop_text_take(&text, false, &shown, &size);
        n_shown += size;
    }
    assert_int_equal(n_shown, TEXT - (LONGEST - 1));
    cohort_stop_text_deinit(&text);
    cohort_stops_deinit(&made);
}

/* However the text is cut into pieces, the result is that of the whole. */
static void pieces_make_no_difference(void **state) {
    (void)state;
    const char *const stops[] = {"aab", "bbba", "c"};
    for (uint64_t seed = 0; seed < 3000; seed++) {
        char whole[41] = "", out[100] = "";
        for (uint64_t i = 0; i < 40; i++)
            whole[i] = "aaabbbbbbbbc"[cohort_random_u64(seed, i) % 12];
        size_t end = 40; /* where the first stop string ends, whichever it is */
        size_t cut = 40;
        for (int s = 0; s < 3; s++) {
            const char *hit = strstr(whole, stops[s]);
            if (!hit || (size_t)(hit - whole) + strlen(stops[s]) >= end + (end == 40))
                continue;
            end = (size_t)(hit - whole) + strlen(stops[s]);
            cut = (size_t)(hit - whole);
        }
        cohort_stops made;
        assert_int_equal(cohort_stops_create(stops, 3, &made), COHORT_OK);
        cohort_stop_text text = {.stops = &made};
        int32_t stop = -1;
        for (size_t at = 0; at < 40 && stop < 0; at++)
            stop = feed(&text, (char[]){whole[at], 0}, out);
        const char *rest;
        size_t rest_bytes;
        cohort_stop_text_take(&text, true, &rest, &rest_bytes);
        strncat(out, rest, rest_bytes);
        assert_int_equal(strlen(out), cut);
        assert_memory_equal(out, whole, cut);
        cohort_stop_text_deinit(&text);
        cohort_stops_deinit(&made);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_string_over_tokens_is_never_shown),
        cmocka_unit_test(a_stop_string_may_be_included),
        cmocka_unit_test(a_nul_is_two_bytes_in_a_stop_string),
        cmocka_unit_test(the_longest_stop_string_costs_as_the_shortest),
        cmocka_unit_test(what_is_held_back_comes_at_the_end),
        cmocka_unit_test(the_list_says_nothing_of_what_ends_earlier),
        cmocka_unit_test(the_one_that_ends_first_counts),
        cmocka_unit_test(protected_text_does_not_stop),
        cmocka_unit_test(pieces_make_no_difference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
