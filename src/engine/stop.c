/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/stop.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/grow.h"

/* Design notes.
 *
 * Knuth, Morris and Pratt: of each stop string is known how much of its beginning the
 * text ends with.  So every byte is looked at once per string, however long those are,
 * and what is held back is known without looking. */

struct cohort_stop_string {
    size_t size;
    char *bytes;
    uint32_t *back; /* after so many bytes, as many at most when the next does not fit */
};

/* A NUL is two bytes in a text that ends at one (cohort/engine.h). */
static size_t unescape(char *bytes) {
    size_t n = 0;
    for (size_t i = 0; bytes[i]; i++) {
        bool is_nul = !strncmp(bytes + i, "\xc0\x80", 2);
        bytes[n++] = is_nul ? '\0' : bytes[i];
        i += is_nul;
    }
    return n;
}

static uint32_t follow(const struct cohort_stop_string *stop, uint32_t matched, char c) {
    while (matched && stop->bytes[matched] != c)
        matched = stop->back[matched];
    return matched + (stop->bytes[matched] == c);
}

static bool prepare(struct cohort_stop_string *stop, const char *text) {
    stop->bytes = strdup(text);
    if (!stop->bytes) return false;
    stop->size = unescape(stop->bytes);
    stop->back = calloc(stop->size + 1, sizeof *stop->back);
    if (!stop->back) return false;
    for (uint32_t i = 1, matched = 0; i < stop->size; i++)
        stop->back[i + 1] = matched = follow(stop, matched, stop->bytes[i]);
    return true;
}

cohort_status cohort_stops_create(const char *const *texts, uint32_t n,
                                  cohort_stops *out) {
    *out = (cohort_stops){.strings = calloc((size_t)n + 1, sizeof *out->strings)};
    if (!out->strings) return COHORT_FAIL(COHORT_E_NOMEM, "%u stop strings", n);
    for (; out->n < n; out->n++)
        if (!prepare(&out->strings[out->n], texts[out->n])) {
            out->n++;
            cohort_stops_deinit(out);
            return COHORT_FAIL(COHORT_E_NOMEM, "%u stop strings", n);
        }
    return COHORT_OK;
}

void cohort_stops_deinit(cohort_stops *stops) {
    for (uint32_t i = 0; i < stops->n; i++) {
        free(stops->strings[i].bytes);
        free(stops->strings[i].back);
    }
    free(stops->strings);
    *stops = (cohort_stops){0};
}

static uint32_t n_stops(const cohort_stop_text *text) {
    return text->stops ? text->stops->n : 0;
}

static cohort_status reserve(cohort_stop_text *text, size_t size_bytes) {
    if (n_stops(text) && !text->matched) {
        text->matched = calloc(n_stops(text), sizeof *text->matched);
        if (!text->matched)
            return COHORT_FAIL(COHORT_E_NOMEM, "%u stop strings", n_stops(text));
    }
    if (!size_bytes) return COHORT_OK;
    char *larger = cohort_grow(text->text, size_bytes, &text->capacity_bytes, 1);
    if (!larger) return COHORT_FAIL(COHORT_E_NOMEM, "a text of %zu bytes", size_bytes);
    text->text = larger;
    return COHORT_OK;
}

/* One byte more: the first string of the list that ends with it, or -1. */
static int32_t step(cohort_stop_text *text, char c) {
    int32_t found = -1;
    for (uint32_t i = 0; i < n_stops(text); i++) {
        const struct cohort_stop_string *stop = &text->stops->strings[i];
        uint32_t matched = follow(stop, text->matched[i], c);
        bool is_whole = matched == stop->size;
        text->matched[i] = is_whole ? stop->back[matched] : matched;
        if (is_whole && found < 0) found = (int32_t)i;
    }
    return found;
}

cohort_status cohort_stop_text_append(cohort_stop_text *text, const char *bytes,
                                      size_t size_bytes, bool may_stop,
                                      int32_t *out_stop) {
    *out_stop = -1;
    if (size_bytes == 0) return COHORT_OK;
    COHORT_TRY(reserve(text, text->size_bytes + size_bytes));
    memcpy(text->text + text->size_bytes, bytes, size_bytes);
    for (size_t i = 0; i < size_bytes; i++) {
        int32_t found = step(text, bytes[i]);
        if (found < 0 || !may_stop) continue;
        *out_stop = found;
        text->size_bytes += i + 1;
        if (!text->include) text->size_bytes -= text->stops->strings[found].size;
        return COHORT_OK;
    }
    text->size_bytes += size_bytes;
    return COHORT_OK;
}

/* Bytes at the end that are the beginning of a stop string. */
static size_t held_back(const cohort_stop_text *text) {
    size_t held = 0;
    if (text->include || !text->matched) return 0;
    for (uint32_t i = 0; i < n_stops(text); i++)
        if (text->matched[i] > held) held = text->matched[i];
    return held;
}

void cohort_stop_text_take(cohort_stop_text *text, bool is_final, const char **out_bytes,
                           size_t *out_size_bytes) {
    size_t end = text->size_bytes - (is_final ? 0 : held_back(text));
    /* What min_tokens let pass may have been shown already. */
    if (end < text->taken_bytes) end = text->taken_bytes;
    *out_bytes = text->text ? text->text + text->taken_bytes : "";
    *out_size_bytes = end - text->taken_bytes;
    text->taken_bytes = end;
}

void cohort_stop_text_deinit(cohort_stop_text *text) {
    free(text->text);
    free(text->matched);
    text->text = NULL;
    text->matched = NULL;
    text->size_bytes = text->capacity_bytes = text->taken_bytes = 0;
}
