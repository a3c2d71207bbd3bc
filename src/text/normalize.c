/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/fail.h"
#include "text/text_internal.h"

/* Design notes.
 *
 * utf8proc_map does the same, but orders combining marks by exchanging neighbours: a run
 * of 31 KB of them costs a second.  Here a run is ordered by counting, so that the whole
 * is linear; characters are taken apart and put together by utf8proc as ever. */

enum { N_CLASSES = 256, SHORT_RUN = 16 };

static size_t class_of(int32_t code) {
    return (size_t)utf8proc_get_property(code)->combining_class;
}

static size_t order_short(int32_t *codes, size_t n) {
    size_t n_moves = 0;
    for (size_t i = 1; i < n; i++) {
        int32_t code = codes[i];
        size_t at = i;
        for (; at > 0 && class_of(codes[at - 1]) > class_of(code); at--, n_moves++)
            codes[at] = codes[at - 1];
        codes[at] = code;
    }
    return n_moves;
}

static size_t order_long(int32_t *codes, size_t n, int32_t *scratch) {
    size_t begins[N_CLASSES + 1] = {0};
    for (size_t i = 0; i < n; i++)
        begins[(class_of(codes[i]) & (N_CLASSES - 1)) + 1]++;
    for (size_t i = 1; i < N_CLASSES; i++)
        begins[i] += begins[i - 1];
    for (size_t i = 0; i < n; i++)
        scratch[begins[class_of(codes[i]) & (N_CLASSES - 1)]++] = codes[i];
    memcpy(codes, scratch, n * sizeof *codes);
    return n;
}

size_t cohort_order_marks(int32_t *codes, size_t n, int32_t *scratch) {
    size_t n_moves = 0;
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i; end < n && class_of(codes[end]) > 0;)
            end++;
        n_moves += end - i > SHORT_RUN ? order_long(codes + i, end - i, scratch)
                                       : order_short(codes + i, end - i);
        if (end == i) end++;
    }
    return n_moves;
}

/* The code points of bytes, each taken apart; out may be NULL to count them. */
static utf8proc_ssize_t take_apart(const utf8proc_uint8_t *bytes, utf8proc_ssize_t size,
                                   int flags, int32_t *out, utf8proc_ssize_t room) {
    utf8proc_ssize_t n = 0;
    int boundary = UTF8PROC_BOUNDCLASS_START;
    for (utf8proc_ssize_t at = 0, length; at < size; at += length) {
        utf8proc_int32_t code;
        length = utf8proc_iterate(bytes + at, size - at, &code);
        if (length <= 0) return UTF8PROC_ERROR_INVALIDUTF8;
        utf8proc_ssize_t more =
            utf8proc_decompose_char(code, out ? out + n : NULL, out ? room - n : 0,
                                    (utf8proc_option_t)flags, &boundary);
        if (more < 0) return more;
        n += more;
    }
    return n;
}

cohort_status cohort_normalize_unicode(cohort_text *out, const char *bytes, size_t size,
                                       int flags) {
    if (!size) return COHORT_OK;
    const utf8proc_uint8_t *text = (const utf8proc_uint8_t *)bytes;
    utf8proc_ssize_t n = take_apart(text, (utf8proc_ssize_t)size, flags, NULL, 0);
    if (n < 0)
        return COHORT_FAIL(COHORT_E_INVALID, "normalizing: %s", utf8proc_errmsg(n));
    int32_t *codes = malloc(((size_t)n + 1) * sizeof *codes);
    int32_t *scratch = malloc(((size_t)n + 1) * sizeof *scratch);
    utf8proc_ssize_t encoded = UTF8PROC_ERROR_NOMEM;
    if (codes && scratch) {
        n = take_apart(text, (utf8proc_ssize_t)size, flags, codes, n);
        cohort_order_marks(codes, (size_t)n, scratch);
        encoded = utf8proc_reencode(codes, n, (utf8proc_option_t)flags);
    }
    free(scratch);
    if (encoded > 0) cohort_text_append(out, (const char *)codes, (size_t)encoded);
    free(codes);
    if (encoded >= 0) return COHORT_OK;
    return COHORT_FAIL(encoded == UTF8PROC_ERROR_NOMEM ? COHORT_E_NOMEM
                                                       : COHORT_E_INVALID,
                       "normalizing: %s", utf8proc_errmsg(encoded));
}
