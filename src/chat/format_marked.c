/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/output_format.h"

#include <string.h>

/* A name and arguments, each between marks of its own:
 *
 *   deepseek_v31   BEGIN name SEP {...} END
 *   deepseek_v3    BEGIN function SEP name \n```json\n {...} \n``` END
 *   kimi_k2        BEGIN functions.name:0 ARGUMENT {...} END
 *
 * with a mark before the first and one behind the last of them.  Arguments are passed on
 * as they are written, where they are JSON. */

#define DEEPSEEK(word) "<\xef\xbd\x9ctool\xe2\x96\x81" word "\xef\xbd\x9c>"
#define FENCE          "\n```json\n"

typedef struct span {
    const char *at;
    size_t size;
} span;

static span trimmed(span text) {
    while (text.size && strchr(" \n\t", *text.at))
        text.at++, text.size--;
    while (text.size && strchr(" \n\t", text.at[text.size - 1]))
        text.size--;
    return text;
}

/* What is before a word, which goes with it. */
static bool cut(span *rest, const char *word, span *out_before) {
    const char *found = memmem(rest->at, rest->size, word, strlen(word));
    if (!found) return false;
    *out_before = (span){rest->at, (size_t)(found - rest->at)};
    rest->size -= out_before->size + strlen(word);
    rest->at = found + strlen(word);
    return true;
}

/* One value, whole. */
static bool is_json(span text) {
    const char *at = text.at, *end = text.at + text.size;
    return cohort_output_copy_json(&at, end, NULL) && at == end;
}

/* functions.name:0 */
static span function_name(span id) {
    static const char before[] = "functions.";
    const char *colon = memrchr(id.at, ':', id.size);
    if (colon) id.size = (size_t)(colon - id.at);
    if (id.size > strlen(before) && !memcmp(id.at, before, strlen(before)))
        id = (span){id.at + strlen(before), id.size - strlen(before)};
    return id;
}

static bool take_apart(const cohort_output_format *self, span body, output_call *out) {
    span name, kind;
    if (!cut(&body, self->middle, &name)) return false;
    if (self == &cohort_output_format_deepseek_v3) {
        kind = name; /* always "function" */
        if (!cut(&body, FENCE, &name)) return false;
        span fence = body;
        if (cut(&fence, "\n```", &kind)) body = kind;
    } else if (self == &cohort_output_format_kimi_k2) {
        name = trimmed(name);
        cohort_output_text_add(&out->id, name.at, name.size);
        name = function_name(name);
    }
    name = trimmed(name);
    body = trimmed(body);
    if (!body.size) body = (span){"{}", 2};
    if (!is_json(body)) return false;
    cohort_output_text_add(&out->name, name.at, name.size);
    cohort_output_text_add(&out->arguments, body.at, body.size);
    return name.size;
}

static format_found read(const cohort_output_format *self, format_source *from,
                         output_call *out) {
    const char *at = from->at;
    bool may;
    if (!from->is_within) cohort_output_take(&at, from->end, self->begins[0], &may);
    cohort_output_skip(&at, from->end, "");
    if (at == from->end) return FORMAT_MORE;
    if (cohort_output_take(&at, from->end, self->end, &may)) {
        from->at = at;
        return FORMAT_SKIP;
    }
    bool may_end = may;
    if (!cohort_output_take(&at, from->end, self->open, &may))
        return may || may_end ? FORMAT_MORE : FORMAT_NONE;
    const char *close =
        memmem(at, (size_t)(from->end - at), self->close, strlen(self->close));
    if (!close) return FORMAT_MORE;
    if (!take_apart(self, (span){at, (size_t)(close - at)}, out)) return FORMAT_NONE;
    from->at = close + strlen(self->close);
    return FORMAT_CALL;
}

const cohort_output_format cohort_output_format_deepseek_v3 = {
    .name = "deepseek_v3",
    .begins = {DEEPSEEK("calls\xe2\x96\x81"
                        "begin")},
    .read = read,
    .in_template = DEEPSEEK("sep") "' + tool['function']['name'] + '\\n' + '```json'",
    .open = DEEPSEEK("call\xe2\x96\x81"
                     "begin"),
    .middle = DEEPSEEK("sep"),
    .close = DEEPSEEK("call\xe2\x96\x81"
                      "end"),
    .end = DEEPSEEK("calls\xe2\x96\x81"
                    "end")};

const cohort_output_format cohort_output_format_deepseek_v31 = {
    .name = "deepseek_v31",
    .begins = {DEEPSEEK("calls\xe2\x96\x81"
                        "begin")},
    .read = read,
    .in_template = DEEPSEEK("sep"),
    .open = DEEPSEEK("call\xe2\x96\x81"
                     "begin"),
    .middle = DEEPSEEK("sep"),
    .close = DEEPSEEK("call\xe2\x96\x81"
                      "end"),
    .end = DEEPSEEK("calls\xe2\x96\x81"
                    "end")};

const cohort_output_format cohort_output_format_kimi_k2 = {
    .name = "kimi_k2",
    .begins = {"<|tool_calls_section_begin|>"},
    .read = read,
    .in_template = "<|tool_calls_section_begin|>",
    .open = "<|tool_call_begin|>",
    .middle = "<|tool_call_argument_begin|>",
    .close = "<|tool_call_end|>",
    .end = "<|tool_calls_section_end|>"};
