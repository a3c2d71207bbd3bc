/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "chat/output_format.h"

/* Qwen3-Coder's tags:
 *
 *   <tool_call>
 *   <function=NAME>
 *   <parameter=KEY>
 *   VALUE
 *   </parameter>
 *   </function>
 *   </tool_call>
 *
 * A value is a text; where the schema of its parameter asks for another type that the
 * text can be, it is that, in vLLM's order: null, whole number, number, truth, object,
 * list. */

#define FUNCTION      "<function="
#define FUNCTION_END  "</function>"
#define PARAMETER     "<parameter="
#define PARAMETER_END "</parameter>"

typedef struct span {
    const char *at;
    size_t size;
} span;

/* ---- types ------------------------------------------------------------------------- */

static bool is_named(const cJSON *item, span name) {
    const char *own =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "name"));
    return own && strlen(own) == name.size && !memcmp(own, name.at, name.size);
}

/* The schemas of a function's parameters; NULL: there are none. */
static const cJSON *find_parameters(const cJSON *tools, span name) {
    const cJSON *tool;
    cJSON_ArrayForEach(tool, tools) {
        const cJSON *function = cJSON_GetObjectItemCaseSensitive(tool, "function");
        if (is_named(function, name))
            return cJSON_GetObjectItemCaseSensitive(
                cJSON_GetObjectItemCaseSensitive(function, "parameters"), "properties");
    }
    return NULL;
}

static const cJSON *find_schema(const cJSON *parameters, span key) {
    const cJSON *item;
    cJSON_ArrayForEach(item, parameters) {
        if (strlen(item->string) == key.size && !memcmp(item->string, key.at, key.size))
            return item;
    }
    return NULL;
}

/* May a value of this schema be of a type? */
static bool allows(const cJSON *schema, const char *type, int depth) {
    static const char *const choices[] = {"anyOf", "oneOf", "allOf"};
    const cJSON *given = cJSON_GetObjectItemCaseSensitive(schema, "type"), *item;
    if (cJSON_IsString(given) && !strcmp(given->valuestring, type)) return true;
    if (cJSON_IsArray(given)) cJSON_ArrayForEach(item, given) {
            if (cJSON_IsString(item) && !strcmp(item->valuestring, type)) return true;
        }
    for (size_t i = 0; depth < 8 && i < sizeof choices / sizeof *choices; i++)
        cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(schema, choices[i])) {
            if (allows(item, type, depth + 1)) return true;
        }
    return false;
}

static bool is_word(span text, const char *word) {
    return text.size == strlen(word) && !strncasecmp(text.at, word, text.size);
}

static span trimmed(span text) {
    while (text.size && strchr(" \n\t\r", *text.at))
        text.at++, text.size--;
    while (text.size && strchr(" \n\t\r", text.at[text.size - 1]))
        text.size--;
    return text;
}

/* All of it, as JSON that begins with one of the characters. */
static bool copy_as(span text, const char *first, output_text *out) {
    const char *at = text.at, *end = text.at + text.size;
    size_t before = out->size;
    if (!text.size || !*at || !strchr(first, *at)) return false;
    if (cohort_output_copy_json(&at, end, out) && at == end) return true;
    out->size = before;
    return false;
}

static bool is_whole(span text) {
    for (size_t i = text.size && *text.at == '-'; i < text.size; i++)
        if (text.at[i] < '0' || text.at[i] > '9') return false;
    return true;
}

static void put(output_text *out, const char *text) {
    cohort_output_text_add(out, text, strlen(text));
}

static void put_text(output_text *out, span text) {
    static const char digits[] = "0123456789abcdef";
    put(out, "\"");
    for (size_t i = 0; i < text.size; i++) {
        static const char special[] = "\"\\\n\r\t\f\b", letters[] = "\"\\nrtfb";
        unsigned char c = (unsigned char)text.at[i];
        const char *found = c ? strchr(special, c) : NULL;
        if (found) {
            const char escape[] = {'\\', letters[found - special]};
            cohort_output_text_add(out, escape, 2);
        } else if (c < 0x20) {
            const char escape[] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};
            cohort_output_text_add(out, escape, sizeof escape);
        } else {
            cohort_output_text_add(out, &text.at[i], 1);
        }
    }
    put(out, "\"");
}

static void put_value(output_text *out, const cJSON *schema, span value) {
    static const char number[] = "-0123456789";
    span word = trimmed(value);
    bool is_true = is_word(word, "true") || is_word(word, "1");
    if (allows(schema, "null", 0) && is_word(value, "null"))
        put(out, "null");
    else if ((allows(schema, "integer", 0) && is_whole(word) &&
              copy_as(word, number, out)) ||
             (allows(schema, "number", 0) && copy_as(word, number, out)))
        return;
    else if (allows(schema, "boolean", 0) &&
             (is_true || is_word(word, "false") || is_word(word, "0")))
        put(out, is_true ? "true" : "false");
    else if (!(allows(schema, "object", 0) || allows(schema, "array", 0)) ||
             !copy_as(word, "{[", out))
        put_text(out, value);
}

/* ---- reading ----------------------------------------------------------------------- */

/* What stands before the next of a word, or all of it. */
static size_t find(span text, const char *word) {
    const char *found = memmem(text.at, text.size, word, strlen(word));
    return found ? (size_t)(found - text.at) : text.size;
}

static span behind(span text, size_t size) {
    if (size > text.size) size = text.size;
    return (span){text.at + size, text.size - size};
}

/* The line feeds are the template's. */
static span unwrapped(span value) {
    if (value.size && *value.at == '\n') value = behind(value, 1);
    if (value.size && value.at[value.size - 1] == '\n') value.size--;
    return value;
}

static void read_parameters(span body, const cJSON *parameters, output_text *out) {
    bool is_first = true;
    put(out, "{");
    for (;;) {
        body = behind(body, find(body, PARAMETER) + strlen(PARAMETER));
        size_t key_size = find(body, ">");
        if (!body.size || key_size == body.size) break;
        span key = {body.at, key_size};
        body = behind(body, key_size + 1);
        size_t to_end = find(body, PARAMETER_END), to_next = find(body, PARAMETER);
        size_t size = to_end < to_next ? to_end : to_next;
        if (!is_first) put(out, ", ");
        put_text(out, key);
        put(out, ": ");
        put_value(out, find_schema(parameters, key), unwrapped((span){body.at, size}));
        body = behind(body, size);
        is_first = false;
    }
    put(out, "}");
}

static format_found read(const cohort_output_format *self, format_source *from,
                         output_call *out) {
    static const char *const tags[] = {OUTPUT_CALL_END, OUTPUT_CALL_BEGIN};
    const char *at = from->at;
    bool may = false, may_be_tag = false;
    (void)self;
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        cohort_output_skip(&at, from->end, "");
        cohort_output_take(&at, from->end, tags[i], &may);
        may_be_tag |= may;
    }
    cohort_output_skip(&at, from->end, "");
    if (!cohort_output_take(&at, from->end, FUNCTION, &may))
        return may || may_be_tag ? FORMAT_MORE : FORMAT_NONE;
    span text = {at, (size_t)(from->end - at)};
    size_t size = find(text, FUNCTION_END), name_size = find(text, ">");
    if (size == text.size) return FORMAT_MORE;
    if (name_size > size) name_size = size;
    span name = trimmed((span){at, name_size});
    if (!name.size) return FORMAT_NONE;
    cohort_output_text_add(&out->name, name.at, name.size);
    span body = {at + name_size, size - name_size};
    read_parameters(body, find_parameters(from->tools, name), &out->arguments);
    from->at = at + size + strlen(FUNCTION_END);
    return FORMAT_CALL;
}

#define TAGS                                                                        \
    .begins = {OUTPUT_CALL_BEGIN, FUNCTION}, .read = read, .in_template = FUNCTION, \
    .uses_types = true

const cohort_output_format cohort_output_format_qwen3_coder = {.name = "qwen3_coder",
                                                               TAGS};
const cohort_output_format cohort_output_format_qwen3_xml = {.name = "qwen3_xml", TAGS};
