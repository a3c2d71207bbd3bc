/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/output_format.h"

#include <string.h>

/* Mistral's, of both ages of its tokenizers:
 *
 *   [TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]
 *   [TOOL_CALLS]name{...}[TOOL_CALLS]name[ARGS]{...}
 */

#define MARK "[TOOL_CALLS]"
#define ARGS "[ARGS]"

/* name{...}: up to the brace it is the name. */
static format_found read_named(const char **at, const char *end, output_call *out) {
    const char *brace = memchr(*at, '{', (size_t)(end - *at));
    if (!brace) return FORMAT_MORE;
    size_t name_size = (size_t)(brace - *at), size = cohort_output_extent(brace, end);
    if (!size) return FORMAT_MORE;
    const char *args = memmem(*at, name_size, ARGS, strlen(ARGS)), *from = brace;
    if (args) name_size = (size_t)(args - *at);
    while (name_size && strchr(" \n", (*at)[name_size - 1]))
        name_size--;
    cohort_output_text_add(&out->name, *at, name_size);
    *at = brace + size;
    bool is_right =
        name_size && cohort_output_copy_json(&from, *at, &out->arguments) && from == *at;
    return is_right ? FORMAT_CALL : FORMAT_NONE;
}

static format_found read(const cohort_output_format *self, format_source *from,
                         output_call *out) {
    const char *at = from->at;
    bool may, is_marked;
    if (from->is_within) cohort_output_skip(&at, from->end, ",]");
    is_marked = cohort_output_take(&at, from->end, self->begins[0], &may);
    if (may || at == from->end) return FORMAT_MORE;
    if (is_marked) cohort_output_skip(&at, from->end, "[");
    if (at == from->end) return FORMAT_MORE;
    /* Within a list objects follow each other; a name needs the mark. */
    if (!is_marked && *at != '{') return FORMAT_NONE;
    format_found found = *at == '{' ? cohort_output_read_object(&at, from->end, out)
                                    : read_named(&at, from->end, out);
    if (found == FORMAT_CALL) from->at = at;
    return found;
}

const cohort_output_format cohort_output_format_mistral = {.name = "mistral",
                                                           .begins = {MARK},
                                                           .read = read,
                                                           .in_template = MARK,
                                                           .has_short_ids = true};
