/* SPDX-License-Identifier: Apache-2.0 */
/* chat/json_text.h - JSON of strangers, as Python's json module takes it.
 *
 *   bytes --decode--> UTF-8 --load--> a tree
 *
 * cJSON's own parser says neither where a text goes wrong nor that it does.  It also has
 * no NaN, no number of more digits than a double has, and no NUL.  So its trees are built
 * here, and are cJSON's in all else:
 *
 *   numbers  where a number is more than its double, the item's valuestring has it as it
 *            was written: digits, NaN, Infinity or -Infinity
 *   NUL      is the two bytes C0 80 in every text, as in Java's modified UTF-8: no other
 *            text has them.  The tokenizer, templates, stop strings and answers turn it
 *            back.
 *
 * Ownership: who loads a tree deletes it.
 */
#ifndef COHORT_CHAT_JSON_TEXT_H
#define COHORT_CHAT_JSON_TEXT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    COHORT_CHAT_JSON_MAX_DEPTH = 990,  /* cJSON's own limit is 1000; Python's is near */
    COHORT_CHAT_JSON_MAX_DIGITS = 4300 /* of a whole number: Python's */
};

typedef enum cohort_chat_json_fault_kind {
    COHORT_CHAT_JSON_BROKEN,     /* no JSON: message and position have Python's words */
    COHORT_CHAT_JSON_UNREADABLE, /* no text, or beyond a bound */
    COHORT_CHAT_JSON_NO_MEMORY
} cohort_chat_json_fault_kind;

typedef struct cohort_chat_json_fault {
    cohort_chat_json_fault_kind kind;
    const char *message; /* static text; "Expecting value" */
    size_t position;     /* in characters, as Python counts */
} cohort_chat_json_fault;

/* The text in UTF-8: bytes itself or a part of it, or out_copy, which the caller frees
 * (NULL: there is none).  What was sent may begin with a byte order mark, and may be
 * UTF-16 or UTF-32. */
bool cohort_chat_json_decode(const char *bytes, size_t size, char **out_copy,
                             const char **out_text, size_t *out_size,
                             cohort_chat_json_fault *out_fault);
/* At most so many values and members are in it, whether it is JSON or not. */
size_t cohort_chat_json_most_values(const char *text, size_t size);
bool cohort_chat_json_load(const char *text, size_t size, cJSON **out_json,
                           cohort_chat_json_fault *out_fault);

#endif /* COHORT_CHAT_JSON_TEXT_H */
