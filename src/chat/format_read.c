/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "chat/output_format.h"

/* What the readers of forms share. */

void cohort_output_skip(const char **at, const char *end, const char *more) {
    while (*at < end && **at && (strchr(" \n\t\r", **at) || strchr(more, **at)))
        ++*at;
}

bool cohort_output_take(const char **at, const char *end, const char *word,
                        bool *out_may) {
    size_t size = strlen(word), left = (size_t)(end - *at);
    *out_may = left < size && !memcmp(*at, word, left);
    if (left < size || memcmp(*at, word, size) != 0) return false;
    *at += size;
    return true;
}

size_t cohort_output_extent(const char *text, const char *end) {
    size_t depth = 0;
    bool in_string = false, is_escaped = false;
    for (const char *at = text; at < end; at++) {
        if (in_string) {
            if (is_escaped || *at == '\\')
                is_escaped = !is_escaped;
            else if (*at == '"')
                in_string = false;
        } else if (*at == '"') {
            in_string = true;
        } else if (*at == '{' || *at == '[') {
            depth++;
        } else if ((*at == '}' || *at == ']') && --depth == 0) {
            return (size_t)(at + 1 - text);
        }
    }
    return 0;
}

format_found cohort_output_read_object(const char **at, const char *end,
                                       output_call *out) {
    size_t size = cohort_output_extent(*at, end);
    const char *from = *at;
    if (!size) return FORMAT_MORE;
    *at += size;
    return cohort_output_read_call(&from, *at, true, out) && from == *at ? FORMAT_CALL
                                                                         : FORMAT_NONE;
}
