/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "chat/chat.h"

/* Numbers are in the text in the order of the tree, which has members and elements as
 * they were written, names that are there twice too.  Where a number is more than its
 * double, it keeps its digits as the item's string, which cJSON copies and frees with the
 * item and does not look at otherwise. */

typedef struct reader {
    const char *at, *end;
} reader;

/* The next number outside of strings; NULL: there is none. */
static const char *next_number(reader *self, size_t *out_size) {
    bool in_string = false;
    for (; self->at < self->end; self->at++) {
        char c = *self->at;
        if (in_string && c == '\\') {
            self->at++;
        } else if (c == '"') {
            in_string = !in_string;
        } else if (!in_string && ((c >= '0' && c <= '9') || c == '-')) {
            const char *begin = self->at;
            while (self->at < self->end && strchr("+-.0123456789eE", *self->at) &&
                   *self->at)
                self->at++;
            *out_size = (size_t)(self->at - begin);
            return begin;
        }
    }
    return NULL;
}

static bool is_more_than_double(const char *digits, size_t size) {
    enum { EXACT = 15 };
    return size > EXACT || memchr(digits, '.', size) || memchr(digits, 'e', size) ||
           memchr(digits, 'E', size);
}

static void keep(reader *self, cJSON *json) {
    size_t size;
    const char *digits;
    cJSON *item;
    if (cJSON_IsNumber(json) && (digits = next_number(self, &size)) &&
        is_more_than_double(digits, size) && !json->valuestring) {
        json->valuestring = cJSON_malloc(size + 1);
        if (!json->valuestring) return; /* the double will do */
        memcpy(json->valuestring, digits, size);
        json->valuestring[size] = '\0';
    }
    cJSON_ArrayForEach(item, json) keep(self, item);
}

void cohort_chat_keep_numbers(cJSON *json, const char *text, size_t size_bytes) {
    reader self = {text, text + size_bytes};
    keep(&self, json);
}
