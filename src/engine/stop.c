/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/stop.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

static cohort_status reserve(cohort_stop_text *text, size_t size_bytes) {
    if (size_bytes <= text->capacity_bytes) return COHORT_OK;
    size_t grown = size_bytes * 2 + 256;
    char *larger = realloc(text->text, grown);
    if (!larger) return COHORT_FAIL(COHORT_E_NOMEM, "a text of %zu bytes", size_bytes);
    text->text = larger;
    text->capacity_bytes = grown;
    return COHORT_OK;
}

/* The stop string that ends first of those that reach into the last new_bytes: had they
 * come one by one, it would have been the first to be seen.  Of two that end together
 * the first of the list counts. */
static int32_t find(const cohort_stop_text *text, size_t new_bytes, size_t *out_at) {
    int32_t found = -1;
    size_t end = SIZE_MAX;
    for (uint32_t i = 0; i < text->n_stop; i++) {
        size_t length = strlen(text->stop[i]);
        size_t window = new_bytes + length - 1;
        size_t from = text->size_bytes > window ? text->size_bytes - window : 0;
        const char *hit =
            memmem(text->text + from, text->size_bytes - from, text->stop[i], length);
        if (!hit || (size_t)(hit - text->text) + length >= end) continue;
        *out_at = (size_t)(hit - text->text);
        end = *out_at + length;
        found = (int32_t)i;
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
    text->size_bytes += size_bytes;
    size_t at;
    if (!may_stop) return COHORT_OK;
    *out_stop = find(text, size_bytes, &at);
    if (*out_stop < 0) return COHORT_OK;
    if (text->include) at += strlen(text->stop[*out_stop]);
    text->size_bytes = at;
    return COHORT_OK;
}

/* Bytes at the end that are the beginning of a stop string. */
static size_t held_back(const cohort_stop_text *text) {
    size_t held = 0;
    if (text->include) return 0;
    for (uint32_t i = 0; i < text->n_stop; i++) {
        size_t n = strlen(text->stop[i]) - 1;
        if (n > text->size_bytes) n = text->size_bytes;
        for (; n > held; n--)
            if (!memcmp(text->text + text->size_bytes - n, text->stop[i], n)) held = n;
    }
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
    text->text = NULL;
    text->size_bytes = text->capacity_bytes = text->taken_bytes = 0;
}
