/* SPDX-License-Identifier: Apache-2.0 */
/* engine/stop.h - text that grows, and the strings that end it.
 *
 * Bytes are appended as tokens become text and taken as they may be shown: never a part
 * of a stop string, which is held back until it is whole or cannot become one.
 *
 * Matching is vLLM's (v1/engine/detokenizer.py, check_stop_strings): of several stop
 * strings the one that ends first wins, and of those that end together the first in the
 * list.
 *
 * A byte costs as much as there are stop strings, however long those are.
 *
 * Ownership: the stops are copies of what they are made of, and borrowed by the texts;
 *            a text is its own, grown as needed.
 * Threads:   none of its own.
 */
#ifndef COHORT_ENGINE_STOP_H
#define COHORT_ENGINE_STOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/status.h"

typedef struct cohort_stops {
    struct cohort_stop_string *strings;
    uint32_t n;
} cohort_stops;

/* None of the texts may be empty; each is shorter than 4 GiB, and has C0 80 for a NUL. */
cohort_status cohort_stops_create(const char *const *texts, uint32_t n,
                                  cohort_stops *out);
void cohort_stops_deinit(cohort_stops *stops);

typedef struct cohort_stop_text {
    const cohort_stops *stops; /* NULL: none */
    bool include;              /* the stop string belongs to the text */
    /* Its own; zero at first. */
    char *text;
    uint32_t *matched; /* of each stop: so much of its beginning ends the text */
    size_t size_bytes, capacity_bytes;
    size_t taken_bytes;
} cohort_stop_text;

/* may_stop: false for what min_tokens protects.  out_stop: index of the string that ends
 * the text, which is then cut, or -1. */
cohort_status cohort_stop_text_append(cohort_stop_text *text, const char *bytes,
                                      size_t size_bytes, bool may_stop,
                                      int32_t *out_stop);
/* What was not taken yet and may be shown; is_final: there is no more to come.  Valid
 * until the next append. */
void cohort_stop_text_take(cohort_stop_text *text, bool is_final, const char **out_bytes,
                           size_t *out_size_bytes);
void cohort_stop_text_deinit(cohort_stop_text *text);

#endif /* COHORT_ENGINE_STOP_H */
