/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/write.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jinja/characters.h"
#include "jinja/node.h"

/* The fewest digits that read back as the same number, as Python spells it. */
static void write_float(jinja_text *out, double real) {
    char digits[40];
    int precision = 0;
    if (isnan(real) || isinf(real)) {
        cohort_jinja_print(out, "%s", isnan(real) ? "nan" : real < 0 ? "-inf" : "inf");
        return;
    }
    do
        snprintf(digits, sizeof digits, "%.*e", precision, real);
    while (strtod(digits, NULL) != real && precision++ < 17);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent < -4 || exponent >= 16) {
        *strchr(digits, 'e') = '\0';
        cohort_jinja_print(out, "%se%c%02d", digits, exponent < 0 ? '-' : '+',
                           abs(exponent));
        return;
    }
    int decimals = precision - exponent;
    cohort_jinja_print(out, "%.*f", decimals > 0 ? decimals : 1, real);
}

static void write_number(jinja_text *out, const jinja_value *value) {
    if (value->digits)
        cohort_jinja_append(out, value->digits, strlen(value->digits));
    else
        write_float(out, value->real);
}

static void write_string_repr(jinja_text *out, const jinja_value *value) {
    const char *bytes = value->string.bytes;
    size_t size = value->string.size, length;
    if (value->string.is_markup) cohort_jinja_append(out, "Markup(", 7);
    bool has_single = memchr(bytes, '\'', size), has_double = memchr(bytes, '"', size);
    char quote = has_single && !has_double ? '"' : '\'';
    cohort_jinja_append(out, &quote, 1);
    for (size_t at = 0; at < size; at += length) {
        int32_t c = cohort_jinja_char(bytes + at, size - at, &length);
        if (c == quote || c == '\\')
            cohort_jinja_print(out, "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            cohort_jinja_print(out, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (cohort_jinja_is_printable(c))
            cohort_jinja_append(out, bytes + at, length);
        else
            cohort_jinja_print(out,
                               c < 0x100     ? "\\x%02x"
                               : c < 0x10000 ? "\\u%04x"
                                             : "\\U%08x",
                               (unsigned)c);
    }
    cohort_jinja_append(out, &quote, 1);
    if (value->string.is_markup) cohort_jinja_append(out, ")", 1);
}

static void write_items_repr(jinja_text *out, const jinja_value *value) {
    bool is_tuple = value->kind == JINJA_TUPLE;
    cohort_jinja_append(out, is_tuple ? "(" : "[", 1);
    for (size_t i = 0; i < value->list.n; i++) {
        if (i) cohort_jinja_append(out, ", ", 2);
        cohort_jinja_write_repr(out, value->list.items[i]);
    }
    if (is_tuple && value->list.n == 1) cohort_jinja_append(out, ",", 1);
    cohort_jinja_append(out, is_tuple ? ")" : "]", 1);
}

static void write_dict_repr(jinja_text *out, const jinja_value *value) {
    cohort_jinja_append(out, "{", 1);
    for (size_t i = 0; i < value->dict.n; i++) {
        if (i) cohort_jinja_append(out, ", ", 2);
        cohort_jinja_write_repr(out, value->dict.pairs[i].key);
        cohort_jinja_append(out, ": ", 2);
        cohort_jinja_write_repr(out, value->dict.pairs[i].value);
    }
    cohort_jinja_append(out, "}", 1);
}

void cohort_jinja_write_repr(jinja_text *out, const jinja_value *value) {
    cohort_jinja_step(out->arena, 1);
    cohort_jinja_enter(out->arena);
    switch (value->kind) {
    case JINJA_UNDEFINED: cohort_jinja_print(out, "Undefined"); break;
    case JINJA_NONE: cohort_jinja_print(out, "None"); break;
    case JINJA_BOOL: cohort_jinja_print(out, value->truth ? "True" : "False"); break;
    case JINJA_INT: cohort_jinja_print(out, "%" PRId64, value->whole); break;
    case JINJA_FLOAT: write_number(out, value); break;
    case JINJA_STRING: write_string_repr(out, value); break;
    case JINJA_LIST:
    case JINJA_TUPLE: write_items_repr(out, value); break;
    case JINJA_GENERATOR: cohort_jinja_print(out, "<generator object>"); break;
    case JINJA_DICT: write_dict_repr(out, value); break;
    case JINJA_NAMESPACE:
        cohort_jinja_print(out, "<Namespace ");
        write_dict_repr(out, value);
        cohort_jinja_append(out, ">", 1);
        break;
    case JINJA_CALLABLE:
        cohort_jinja_print(out, "<%s>",
                           value->callable.macro ? value->callable.macro->name
                                                 : value->callable.builtin->name);
        break;
    }
    cohort_jinja_leave(out->arena);
}

void cohort_jinja_write(jinja_text *out, const jinja_value *value) {
    if (value->kind == JINJA_STRING)
        cohort_jinja_append(out, value->string.bytes, value->string.size);
    else if (value->kind != JINJA_UNDEFINED)
        cohort_jinja_write_repr(out, value);
}

const jinja_value *cohort_jinja_to_string(jinja_arena *arena, const jinja_value *value) {
    jinja_text text = {.arena = arena};
    if (value->kind == JINJA_STRING) return value;
    cohort_jinja_write(&text, value);
    return cohort_jinja_taken(&text);
}

/* ---- JSON -------------------------------------------------------------------------- */

/* "\u00e9", and two of them for what is beyond 16 bits. */
static void write_escape(jinja_text *out, int32_t c) {
    if (c >= 0x10000) {
        cohort_jinja_print(out, "\\u%04x", (unsigned)(0xd800 + ((c - 0x10000) >> 10)));
        c = 0xdc00 + ((c - 0x10000) & 0x3ff);
    }
    cohort_jinja_print(out, "\\u%04x", (unsigned)c);
}

static void write_json_string(jinja_text *out, const char *bytes, size_t size,
                              bool is_ascii) {
    static const char escaped[] = "\"\\\n\r\t\f\b", letters[] = "\"\\nrtfb";
    size_t plain = 0, length;
    cohort_jinja_append(out, "\"", 1);
    for (size_t i = 0; i < size; i += length) {
        const char *found = bytes[i] ? strchr(escaped, bytes[i]) : NULL;
        int32_t c = (unsigned char)bytes[i];
        length = 1;
        if (!found && c >= 0x20 && (c < 0x7f || !is_ascii)) continue;
        if (c >= 0x80) c = cohort_jinja_char(bytes + i, size - i, &length);
        cohort_jinja_append(out, bytes + plain, i - plain);
        if (found)
            cohort_jinja_print(out, "\\%c", letters[found - escaped]);
        else
            write_escape(out, c);
        plain = i + length;
    }
    cohort_jinja_append(out, bytes + plain, size - plain);
    cohort_jinja_append(out, "\"", 1);
}

static void write_break(jinja_text *out, const jinja_json_style *style, int level) {
    if (!style->indent) return;
    cohort_jinja_append(out, "\n", 1);
    for (int i = 0; i < level; i++)
        cohort_jinja_append(out, style->indent, strlen(style->indent));
}

static void write_json_list(jinja_text *out, const jinja_value *value,
                            const jinja_json_style *style, int level) {
    cohort_jinja_append(out, "[", 1);
    for (size_t i = 0; i < value->list.n; i++) {
        if (i)
            cohort_jinja_append(out, style->item_separator,
                                strlen(style->item_separator));
        write_break(out, style, level + 1);
        cohort_jinja_write_json(out, value->list.items[i], style, level + 1);
    }
    if (value->list.n) write_break(out, style, level);
    cohort_jinja_append(out, "]", 1);
}

static void write_json_key(jinja_text *out, const jinja_value *key,
                           const jinja_json_style *style) {
    if (key->kind == JINJA_STRING) {
        write_json_string(out, key->string.bytes, key->string.size, style->is_ascii);
        return;
    }
    if (!cohort_jinja_is_number(key) && key->kind != JINJA_NONE)
        cohort_jinja_fail(out->arena,
                          "keys must be str, int, float, bool or None, not %s",
                          cohort_jinja_type_name(key));
    cohort_jinja_append(out, "\"", 1);
    cohort_jinja_write_json(out, key, style, 0);
    cohort_jinja_append(out, "\"", 1);
}

static void write_json_dict(jinja_text *out, const jinja_value *value,
                            const jinja_json_style *style, int level) {
    size_t n = value->dict.n;
    jinja_pair *pairs = cohort_jinja_alloc(out->arena, (n + 1) * sizeof *pairs);
    if (n) memcpy(pairs, value->dict.pairs, n * sizeof *pairs);
    if (style->sort_keys) cohort_jinja_sort(out->arena, pairs, n, false);
    cohort_jinja_append(out, "{", 1);
    for (size_t i = 0; i < n; i++) {
        if (i)
            cohort_jinja_append(out, style->item_separator,
                                strlen(style->item_separator));
        write_break(out, style, level + 1);
        write_json_key(out, pairs[i].key, style);
        cohort_jinja_append(out, style->key_separator, strlen(style->key_separator));
        cohort_jinja_write_json(out, pairs[i].value, style, level + 1);
    }
    if (n) write_break(out, style, level);
    cohort_jinja_append(out, "}", 1);
}

void cohort_jinja_write_json(jinja_text *out, const jinja_value *value,
                             const jinja_json_style *style, int level) {
    cohort_jinja_step(out->arena, 1);
    cohort_jinja_enter(out->arena);
    switch (value->kind) {
    case JINJA_NONE: cohort_jinja_print(out, "null"); break;
    case JINJA_BOOL: cohort_jinja_print(out, value->truth ? "true" : "false"); break;
    case JINJA_INT: cohort_jinja_print(out, "%" PRId64, value->whole); break;
    case JINJA_FLOAT:
        if (isnan(value->real))
            cohort_jinja_print(out, "NaN");
        else if (isinf(value->real) && !value->digits)
            cohort_jinja_print(out, value->real < 0 ? "-Infinity" : "Infinity");
        else
            write_number(out, value);
        break;
    case JINJA_STRING:
        write_json_string(out, value->string.bytes, value->string.size, style->is_ascii);
        break;
    case JINJA_LIST:
    case JINJA_TUPLE: write_json_list(out, value, style, level); break;
    case JINJA_GENERATOR: /* Python refuses; the template of llama.cpp's DeepSeek does it
                           */
        write_json_list(out, cohort_jinja_elements(out->arena, value), style, level);
        break;
    case JINJA_DICT: write_json_dict(out, value, style, level); break;
    default:
        cohort_jinja_fail(out->arena, "Object of type %s is not JSON serializable",
                          cohort_jinja_type_name(value));
    }
    cohort_jinja_leave(out->arena);
}
