/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"
#include "text/text_internal.h"

void cohort_text_append(cohort_text *text, const char *bytes, size_t size) {
    if (text->failed) return;
    char *grown = cohort_grow(text->bytes, text->size + size + 1, &text->capacity, 1);
    if (!grown) {
        text->failed = true;
        return;
    }
    text->bytes = grown;
    if (size) memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
    text->bytes[text->size] = '\0';
}

void cohort_text_free(cohort_text *text) {
    free(text->bytes);
    *text = (cohort_text){0};
}

/* The second byte's range depends on the first (no overlong forms, no surrogates). */
static void second_range(unsigned char first, unsigned char *out_low,
                         unsigned char *out_high) {
    *out_low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    *out_high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
}

size_t cohort_utf8_length(const char *bytes, size_t size, size_t *out_bad,
                          bool *out_truncated) {
    const unsigned char *at = (const unsigned char *)bytes;
    unsigned char low, high;
    *out_truncated = false;
    *out_bad = 1;
    if (at[0] < 0x80) return 1;
    size_t length = at[0] >= 0xc2 && at[0] <= 0xdf   ? 2
                    : at[0] >= 0xe0 && at[0] <= 0xef ? 3
                    : at[0] >= 0xf0 && at[0] <= 0xf4 ? 4
                                                     : 0;
    if (!length) return 0;
    second_range(at[0], &low, &high);
    for (size_t i = 1; i < length; i++, low = 0x80, high = 0xbf) {
        *out_bad = i;
        *out_truncated = i >= size;
        if (i >= size || at[i] < low || at[i] > high) return 0;
    }
    return length;
}

bool cohort_utf8_is_valid(const char *bytes, size_t size) {
    size_t bad;
    bool truncated;
    for (size_t i = 0, length; i < size; i += length)
        if (!(length = cohort_utf8_length(bytes + i, size - i, &bad, &truncated)))
            return false;
    return true;
}

void cohort_utf8_clean(cohort_text *out, const char *bytes, size_t size) {
    size_t good = 0;
    for (size_t i = 0; i < size;) {
        size_t bad;
        bool truncated;
        size_t length = cohort_utf8_length(bytes + i, size - i, &bad, &truncated);
        if (length) {
            i += length;
            continue;
        }
        bool is_nul = size - i >= 2 && !memcmp(bytes + i, "\xc0\x80", 2);
        cohort_text_append(out, bytes + good, i - good);
        if (is_nul)
            cohort_text_append(out, "", 1);
        else
            cohort_text_append(out, "\xef\xbf\xbd", 3);
        good = i += is_nul ? 2 : bad;
    }
    cohort_text_append(out, bytes + good, size - good);
}
