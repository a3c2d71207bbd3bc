/* SPDX-License-Identifier: Apache-2.0 */
/* base/body.h - growing bytes, and JSON written into them.
 *
 * Answers are written straight as text: no tree is built, keys keep the order they are
 * written in, and floats read as Python prints them, because clients were written against
 * a server in Python.
 *
 * Ownership: zero-initialise, deinit frees.  Once memory was short, is_short stays set
 * and nothing more is added: check it once, at the end.
 */
#ifndef COHORT_BASE_BODY_H
#define COHORT_BASE_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/fail.h"

typedef struct cohort_body {
    char *bytes; /* NUL-terminated where there are any */
    size_t size, capacity;
    bool is_short;
} cohort_body;

void cohort_body_deinit(cohort_body *body);
void cohort_body_add(cohort_body *body, const void *bytes, size_t size);
static inline void cohort_body_puts(cohort_body *body, const char *text) {
    cohort_body_add(body, text, strlen(text)); /* here, where it mostly is a constant */
}
/* In decimal; what every chunk of a stream has must not take printf. */
void cohort_body_whole(cohort_body *body, int64_t value);
void cohort_body_printf(cohort_body *body, const char *format, ...) COHORT_PRINTF(2, 3);

/* "text" with its quotes; what is not UTF-8 becomes U+FFFD, but for C0 80, which is a NUL
 * (chat/json_text.h), the rest stays as it is. */
void cohort_body_json(cohort_body *body, const char *text, size_t size);
/* As a terminal or log may have it: what is no UTF-8, and every character that controls
 * (C0, C1, lines, directions), as \xHH or \uHHHH. */
void cohort_body_printable(cohort_body *body, const char *text);
/* A string, or null where text is NULL. */
void cohort_body_json_or_null(cohort_body *body, const char *text);
/* The shortest that reads back the same, with a point in it; JSON has no infinity, so
 * that becomes -9999.0, vLLM's word for a logprob of minus infinity. */
void cohort_body_json_real(cohort_body *body, double value);
void cohort_body_json_ids(cohort_body *body, const int32_t *ids, size_t count);

#endif /* COHORT_BASE_BODY_H */
