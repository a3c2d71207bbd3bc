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

/* Tools are of strangers, and each parameter of a call looks into them on the engine's
 * thread: so many of their members and items are looked at for one call.  What is beyond
 * has no type. */
enum { MAX_LOOKS = 16 << 10 };

typedef enum type_bit {
    IS_NULL = 1,
    IS_INTEGER = 2,
    IS_NUMBER = 4,
    IS_BOOLEAN = 8,
    IS_OBJECT = 16,
    IS_ARRAY = 32,
} type_bit;

static bool is_text(const char *own, span text) {
    return own && strnlen(own, text.size + 1) == text.size &&
           !memcmp(own, text.at, text.size);
}

/* NULL, too, where it is no object: a list's items have no names. */
static const cJSON *member(const cJSON *object, span name, int *looks) {
    const cJSON *item;
    if (!cJSON_IsObject(object)) return NULL;
    cJSON_ArrayForEach(item, object) {
        if (--*looks < 0) return NULL;
        if (is_text(item->string, name)) return item;
    }
    return NULL;
}

#define MEMBER(object, name, looks) \
    member((object), (span){(name), strlen(name)}, (looks))

/* The schemas of a function's parameters; NULL: there are none. */
static const cJSON *find_parameters(const cJSON *tools, span name, int *looks) {
    const cJSON *tool;
    cJSON_ArrayForEach(tool, tools) {
        if (--*looks < 0) return NULL;
        const cJSON *function = MEMBER(tool, "function", looks);
        if (is_text(cJSON_GetStringValue(MEMBER(function, "name", looks)), name))
            return MEMBER(MEMBER(function, "parameters", looks), "properties", looks);
    }
    return NULL;
}

static unsigned type_of(const cJSON *name) {
    static const char *const names[] = {"null",    "integer", "number",
                                        "boolean", "object",  "array"};
    for (unsigned i = 0; cJSON_IsString(name) && i < sizeof names / sizeof *names; i++)
        if (!strcmp(name->valuestring, names[i])) return 1U << i;
    return 0;
}

/* All types that a value of this schema may be of, as bits. */
static unsigned types_of(const cJSON *schema, int depth, int *looks) {
    static const char *const choices[] = {"anyOf", "oneOf", "allOf"};
    const cJSON *given = MEMBER(schema, "type", looks), *item;
    unsigned types = type_of(given);
    if (cJSON_IsArray(given)) cJSON_ArrayForEach(item, given) {
            if (--*looks < 0) return 0;
            types |= type_of(item);
        }
    for (size_t i = 0; depth < 8 && i < sizeof choices / sizeof *choices; i++)
        cJSON_ArrayForEach(item, MEMBER(schema, choices[i], looks)) {
            if (--*looks < 0) return 0;
            types |= types_of(item, depth + 1, looks);
        }
    return *looks < 0 ? 0 : types;
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

static void put_value(output_text *out, unsigned types, span value) {
    static const char number[] = "-0123456789";
    span word = trimmed(value);
    bool is_true = is_word(word, "true") || is_word(word, "1");
    if (types & IS_NULL && is_word(value, "null"))
        put(out, "null");
    else if ((types & IS_INTEGER && is_whole(word) && copy_as(word, number, out)) ||
             (types & IS_NUMBER && copy_as(word, number, out)))
        return;
    else if (types & IS_BOOLEAN &&
             (is_true || is_word(word, "false") || is_word(word, "0")))
        put(out, is_true ? "true" : "false");
    else if (!(types & (IS_OBJECT | IS_ARRAY)) || !copy_as(word, "{[", out))
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

static void read_parameters(span body, span name, const cJSON *tools, output_text *out) {
    int looks = MAX_LOOKS;
    const cJSON *parameters = find_parameters(tools, name, &looks);
    bool is_first = true;
    put(out, "{");
    for (;;) {
        body = behind(body, find(body, PARAMETER) + strlen(PARAMETER));
        size_t key_size = find(body, ">");
        if (!body.size || key_size == body.size) break;
        span key = {body.at, key_size};
        body = behind(body, key_size + 1);
        size_t size = find((span){body.at, find(body, PARAMETER)}, PARAMETER_END);
        if (!is_first) put(out, ", ");
        put_text(out, key);
        put(out, ": ");
        unsigned types = types_of(member(parameters, key, &looks), 0, &looks);
        put_value(out, types, unwrapped((span){body.at, size}));
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
    read_parameters(body, name, from->tools, &out->arguments);
    from->at = at + size + strlen(FUNCTION_END);
    return FORMAT_CALL;
}

#define TAGS                                                                         \
    .begins = {OUTPUT_CALL_BEGIN, FUNCTION}, .read = read, .in_template = PARAMETER, \
    .uses_types = true

const cohort_output_format cohort_output_format_qwen3_coder = {.name = "qwen3_coder",
                                                               TAGS};
const cohort_output_format cohort_output_format_qwen3_xml = {.name = "qwen3_xml", TAGS};
