/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "chat/jinja_internal.h"

/* Filters, tests and functions, by Jinja's names. */

#define FILTER(name)                                                         \
    static const jinja_value *name(jinja_run *run, const jinja_value *value, \
                                   const jinja_args *args)

/* ---- arguments --------------------------------------------------------------------- */

static const jinja_value *text_of(jinja_run *run, const jinja_value *value) {
    return cohort_jinja_to_string(run->arena, value);
}

static bool flag(const jinja_args *args, size_t index, const char *name, bool otherwise) {
    const jinja_value *value = cohort_jinja_arg(args, index, name);
    return value ? cohort_jinja_is_true(value) : otherwise;
}

static int64_t number(jinja_run *run, const jinja_args *args, size_t index,
                      const char *name, int64_t otherwise) {
    const jinja_value *value = cohort_jinja_arg(args, index, name);
    if (!value || value->kind == JINJA_NONE) return otherwise;
    if (!cohort_jinja_is_number(value) || value->kind == JINJA_FLOAT)
        cohort_jinja_fail(run->arena, "%s must be a whole number", name);
    return cohort_jinja_whole(value);
}

static jinja_args behind(const jinja_args *args, size_t n) {
    if (n >= args->n) return (jinja_args){0};
    return (jinja_args){args->values + n, args->names + n, args->n - n};
}

/* ---- of one value ------------------------------------------------------------------ */

FILTER(filter_trim) {
    const jinja_value *chars = cohort_jinja_arg(args, 0, "chars");
    if (chars && chars->kind != JINJA_STRING) chars = NULL;
    return cohort_jinja_strip(run->arena, text_of(run, value), chars, true, true);
}
FILTER(filter_upper) {
    (void)args;
    return cohort_jinja_recase(run->arena, text_of(run, value), JINJA_UPPER);
}
FILTER(filter_lower) {
    (void)args;
    return cohort_jinja_recase(run->arena, text_of(run, value), JINJA_LOWER);
}
FILTER(filter_capitalize) {
    (void)args;
    return cohort_jinja_recase(run->arena, text_of(run, value), JINJA_CAPITALIZE);
}
static const jinja_value *capitalized(jinja_run *run, const jinja_value *text,
                                      size_t begin, size_t end) {
    const jinja_value *word =
        cohort_jinja_string(run->arena, text->string.bytes + begin, end - begin);
    return cohort_jinja_recase(run->arena, word, JINJA_CAPITALIZE);
}

/* Words as Jinja cuts them, which is not as the method does. */
FILTER(filter_title) {
    const jinja_value *text = text_of(run, value);
    jinja_text out = {.arena = run->arena};
    size_t begin = 0, at = 0, length;
    (void)args;
    for (; at < text->string.size; at += length) {
        const char *byte = text->string.bytes + at;
        int32_t c = cohort_jinja_char(byte, text->string.size - at, &length);
        if (!cohort_jinja_is_space(c) && !(*byte && strchr("-({[<", *byte))) continue;
        cohort_jinja_write(&out, capitalized(run, text, begin, at));
        cohort_jinja_append(&out, byte, length);
        begin = at + length;
    }
    cohort_jinja_write(&out, capitalized(run, text, begin, at));
    return cohort_jinja_taken(&out);
}
FILTER(filter_string) { return (void)args, text_of(run, value); }
FILTER(filter_safe) { return (void)run, (void)args, value; }

FILTER(filter_escape) {
    static const char signs[] = "&<>'\"";
    static const char *const names[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    const jinja_value *text = text_of(run, value);
    jinja_text out = {.arena = run->arena};
    (void)args;
    for (size_t i = 0; i < text->string.size; i++) {
        char c = text->string.bytes[i];
        const char *found = c ? strchr(signs, c) : NULL;
        if (found)
            cohort_jinja_print(&out, "%s", names[found - signs]);
        else
            cohort_jinja_append(&out, &c, 1);
    }
    return cohort_jinja_taken(&out);
}

FILTER(filter_replace) {
    const jinja_value *from = cohort_jinja_arg(args, 0, "old");
    const jinja_value *to = cohort_jinja_arg(args, 1, "new");
    if (!from || !to)
        cohort_jinja_fail(run->arena, "replace takes what to replace, and with what");
    return cohort_jinja_replace(run->arena, text_of(run, value), text_of(run, from),
                                text_of(run, to), number(run, args, 2, "count", -1));
}

FILTER(filter_format) {
    jinja_value *values = cohort_jinja_list(run->arena, JINJA_TUPLE, args->n);
    if (args->n) memcpy(values->list.items, args->values, args->n * sizeof *args->values);
    return cohort_jinja_format(run->arena, text_of(run, value), values);
}

FILTER(filter_default) {
    const jinja_value *otherwise = cohort_jinja_arg(args, 0, "default_value");
    bool is_missing = value->kind == JINJA_UNDEFINED ||
                      (flag(args, 1, "boolean", false) && !cohort_jinja_is_true(value));
    if (!is_missing) return value;
    return otherwise ? otherwise : cohort_jinja_word(run->arena, "");
}

FILTER(filter_length) {
    (void)args;
    if (value->kind == JINJA_STRING)
        return cohort_jinja_int(run->arena, (int64_t)cohort_jinja_n_chars(
                                                value->string.bytes, value->string.size));
    if (value->kind == JINJA_DICT)
        return cohort_jinja_int(run->arena, (int64_t)value->dict.n);
    if (!cohort_jinja_is_list(value) && value->kind != JINJA_UNDEFINED)
        cohort_jinja_fail(run->arena, "object of type '%s' has no len()",
                          cohort_jinja_type_name(value));
    return cohort_jinja_int(run->arena,
                            (int64_t)cohort_jinja_elements(run->arena, value)->list.n);
}

FILTER(filter_int) {
    int64_t otherwise = number(run, args, 0, "default", 0);
    if (value->kind == JINJA_STRING) {
        const jinja_value *text = cohort_jinja_strip(run->arena, value, NULL, true, true);
        char *end;
        double real = strtod(text->string.bytes, &end);
        bool is_number = text->string.size && !*end && fabs(real) < 0x1p63;
        return cohort_jinja_int(run->arena, is_number ? (int64_t)real : otherwise);
    }
    if (value->kind == JINJA_FLOAT && fabs(value->real) < 0x1p63)
        return cohort_jinja_int(run->arena, (int64_t)value->real);
    bool is_whole = value->kind == JINJA_INT || value->kind == JINJA_BOOL;
    return cohort_jinja_int(run->arena, is_whole ? cohort_jinja_whole(value) : otherwise);
}

FILTER(filter_float) {
    const jinja_value *otherwise = cohort_jinja_arg(args, 0, "default");
    if (cohort_jinja_is_number(value))
        return cohort_jinja_float(run->arena, cohort_jinja_real(value));
    if (value->kind == JINJA_STRING) {
        char *end;
        double real = strtod(value->string.bytes, &end);
        if (value->string.size && !*end) return cohort_jinja_float(run->arena, real);
    }
    return otherwise ? otherwise : cohort_jinja_float(run->arena, 0);
}

static const jinja_value *need_number(jinja_run *run, const jinja_value *value,
                                      const char *name) {
    if (!cohort_jinja_is_number(value))
        cohort_jinja_fail(run->arena, "%s takes a number, not %s", name,
                          cohort_jinja_type_name(value));
    return value;
}

FILTER(filter_abs) {
    (void)args;
    need_number(run, value, "abs");
    if (value->kind == JINJA_FLOAT)
        return cohort_jinja_float(run->arena, fabs(value->real));
    int64_t whole = cohort_jinja_whole(value);
    return cohort_jinja_int(run->arena, whole < 0 && whole > INT64_MIN ? -whole : whole);
}

/* Half to even, as Python's round does. */
FILTER(filter_round) {
    const jinja_value *method = cohort_jinja_arg(args, 1, "method");
    int64_t precision = number(run, args, 0, "precision", 0);
    double scale = pow(10, (double)precision);
    double real = cohort_jinja_real(need_number(run, value, "round")) * scale;
    const char *how = method && method->kind == JINJA_STRING ? method->string.bytes : "";
    real = !strcmp(how, "ceil")    ? ceil(real)
           : !strcmp(how, "floor") ? floor(real)
                                   : nearbyint(real);
    return cohort_jinja_float(run->arena, real / scale);
}

FILTER(filter_tojson) {
    const jinja_value *indent = cohort_jinja_arg(args, 1, "indent");
    const jinja_value *separators = cohort_jinja_arg(args, 2, "separators");
    jinja_json_style style = {.indent = -1,
                              .sort_keys = flag(args, 3, "sort_keys", false),
                              .item_separator = ", ",
                              .key_separator = ": "};
    jinja_text out = {.arena = run->arena};
    if (indent && cohort_jinja_is_number(indent)) {
        int64_t width = number(run, args, 1, "indent", 0);
        style.indent = width < 0 ? 0 : width > 64 ? 64 : (int)width;
        style.item_separator = ",";
    }
    if (separators && cohort_jinja_is_list(separators) && separators->list.n == 2) {
        style.item_separator = text_of(run, separators->list.items[0])->string.bytes;
        style.key_separator = text_of(run, separators->list.items[1])->string.bytes;
    }
    cohort_jinja_write_json(&out, value, &style, 0);
    return cohort_jinja_taken(&out);
}

FILTER(filter_indent) {
    const jinja_value *text = text_of(run, value);
    const jinja_value *width = cohort_jinja_arg(args, 0, "width");
    bool blank = flag(args, 2, "blank", false);
    jinja_text pad = {.arena = run->arena}, out = {.arena = run->arena};
    if (width && width->kind == JINJA_STRING)
        cohort_jinja_write(&pad, width);
    else
        for (int64_t n = number(run, args, 0, "width", 4); n > 0; n--)
            cohort_jinja_append(&pad, " ", 1);
    const char *at = text->string.bytes, *end = at + text->string.size;
    for (bool first = true; first || at < end; first = false) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        if (!line_end) line_end = end;
        bool indents = first ? flag(args, 1, "first", false) : blank || line_end > at;
        if (!first) cohort_jinja_append(&out, "\n", 1);
        if (indents && pad.size) cohort_jinja_append(&out, pad.bytes, pad.size);
        cohort_jinja_append(&out, at, (size_t)(line_end - at));
        at = line_end < end ? line_end + 1 : end;
        if (line_end < end && at == end) cohort_jinja_append(&out, "\n", 1);
    }
    return cohort_jinja_taken(&out);
}

/* ---- of several values ------------------------------------------------------------- */

FILTER(filter_list) {
    (void)args;
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, items->list.n);
    if (items->list.n)
        memcpy(list->list.items, items->list.items,
               items->list.n * sizeof *items->list.items);
    return list;
}

FILTER(filter_first) {
    (void)args;
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    return items->list.n ? items->list.items[0]
                         : cohort_jinja_undefined(run->arena, "the first item", NULL);
}

FILTER(filter_last) {
    (void)args;
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    return items->list.n ? items->list.items[items->list.n - 1]
                         : cohort_jinja_undefined(run->arena, "the last item", NULL);
}

FILTER(filter_reverse) {
    const jinja_value *items = filter_list(run, value, args);
    for (size_t i = 0, n = items->list.n; i < n / 2; i++) {
        const jinja_value *other = items->list.items[n - 1 - i];
        items->list.items[n - 1 - i] = items->list.items[i];
        items->list.items[i] = other;
    }
    if (value->kind != JINJA_STRING) return items;
    jinja_text out = {.arena = run->arena};
    for (size_t i = 0; i < items->list.n; i++)
        cohort_jinja_write(&out, items->list.items[i]);
    return cohort_jinja_taken(&out);
}

/* item.a.b, or item itself where there is no path. */
static const jinja_value *follow(jinja_run *run, const jinja_value *item,
                                 const jinja_value *path) {
    if (!path || path->kind == JINJA_NONE) return item;
    if (path->kind != JINJA_STRING) return cohort_jinja_item(run, item, path);
    const char *at = path->string.bytes, *end = at + path->string.size;
    for (;;) {
        const char *dot = memchr(at, '.', (size_t)(end - at));
        const jinja_value *name =
            cohort_jinja_string(run->arena, at, (size_t)((dot ? dot : end) - at));
        bool is_index = name->string.size &&
                        strspn(name->string.bytes, "0123456789") == name->string.size;
        item = cohort_jinja_item(
            run, item,
            is_index ? cohort_jinja_int(run->arena, strtoll(name->string.bytes, NULL, 10))
                     : name);
        if (!dot) return item;
        at = dot + 1;
    }
}

FILTER(filter_join) {
    const jinja_value *separator = cohort_jinja_arg(args, 0, "d");
    const jinja_value *path = cohort_jinja_arg(args, 1, "attribute");
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    jinja_text out = {.arena = run->arena};
    for (size_t i = 0; i < items->list.n; i++) {
        if (i && separator) cohort_jinja_write(&out, separator);
        cohort_jinja_write(&out, follow(run, items->list.items[i], path));
    }
    return cohort_jinja_taken(&out);
}

FILTER(filter_map) {
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, items->list.n);
    const jinja_value *path = cohort_jinja_arg(args, SIZE_MAX, "attribute");
    const jinja_value *otherwise = cohort_jinja_arg(args, SIZE_MAX, "default");
    const jinja_value *name = cohort_jinja_arg(args, 0, NULL);
    jinja_function *function = NULL;
    const jinja_args rest = behind(args, 1);
    if (!path) {
        function = name && name->kind == JINJA_STRING
                       ? cohort_jinja_find_filter(name->string.bytes)
                       : NULL;
        if (!function) cohort_jinja_fail(run->arena, "map needs the name of a filter");
    }
    for (size_t i = 0; i < items->list.n; i++) {
        const jinja_value *item = items->list.items[i];
        item = path ? follow(run, item, path) : function(run, item, &rest);
        list->list.items[i] =
            item->kind == JINJA_UNDEFINED && otherwise ? otherwise : item;
    }
    return list;
}

/* select and reject: with the attribute first where by_attribute. */
static const jinja_value *choose(jinja_run *run, const jinja_value *value,
                                 const jinja_args *args, bool wanted, bool by_attribute) {
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, items->list.n);
    const jinja_value *path = by_attribute ? cohort_jinja_arg(args, 0, NULL) : NULL;
    const jinja_value *name = cohort_jinja_arg(args, by_attribute, NULL);
    const jinja_args rest = behind(args, (size_t)by_attribute + 1);
    jinja_test *test = name && name->kind == JINJA_STRING
                           ? cohort_jinja_find_test(name->string.bytes)
                           : NULL;
    if (by_attribute && !path)
        cohort_jinja_fail(run->arena, "the name of an attribute is missing");
    if (name && !test) cohort_jinja_fail(run->arena, "there is no such test");
    list->list.n = 0;
    for (size_t i = 0; i < items->list.n; i++) {
        const jinja_value *item = follow(run, items->list.items[i], path);
        bool holds = test ? test(run, item, &rest) : cohort_jinja_is_true(item);
        if (holds == wanted) list->list.items[list->list.n++] = items->list.items[i];
    }
    return list;
}
FILTER(filter_select) { return choose(run, value, args, true, false); }
FILTER(filter_reject) { return choose(run, value, args, false, false); }
FILTER(filter_selectattr) { return choose(run, value, args, true, true); }
FILTER(filter_rejectattr) { return choose(run, value, args, false, true); }

static const jinja_value *folded(jinja_run *run, const jinja_value *value, bool fold) {
    return fold && value->kind == JINJA_STRING
               ? cohort_jinja_recase(run->arena, value, JINJA_LOWER)
               : value;
}

/* Stable; the keys are beside the items. */
static void sort(jinja_run *run, const jinja_value **keys, const jinja_value **items,
                 size_t n, bool reverse) {
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0; j--) {
            int order = cohort_jinja_compare(run->arena, keys[j], keys[j - 1], "<");
            if (reverse ? order <= 0 : order >= 0) break;
            const jinja_value *key = keys[j], *item = items[j];
            keys[j] = keys[j - 1];
            keys[j - 1] = key;
            items[j] = items[j - 1];
            items[j - 1] = item;
        }
}

static const jinja_value *sorted(jinja_run *run, const jinja_value *items,
                                 const jinja_value *path, bool fold, bool reverse) {
    const jinja_args none = {0};
    const jinja_value *list = filter_list(run, items, &none);
    const jinja_value **keys =
        cohort_jinja_alloc(run->arena, (list->list.n + 1) * sizeof *keys);
    for (size_t i = 0; i < list->list.n; i++)
        keys[i] = folded(run, follow(run, list->list.items[i], path), fold);
    sort(run, keys, list->list.items, list->list.n, reverse);
    return list;
}

FILTER(filter_sort) {
    return sorted(run, value, cohort_jinja_arg(args, 2, "attribute"),
                  !flag(args, 1, "case_sensitive", false),
                  flag(args, 0, "reverse", false));
}

FILTER(filter_items) {
    const jinja_args none = {0};
    (void)args;
    if (value->kind == JINJA_UNDEFINED)
        return cohort_jinja_list(run->arena, JINJA_LIST, 0);
    if (value->kind != JINJA_DICT)
        cohort_jinja_fail(run->arena, "Can only get item pairs from a mapping.");
    return cohort_jinja_find_method(value, "items")(run, value, &none);
}

FILTER(filter_dictsort) {
    const jinja_value *by = cohort_jinja_arg(args, 1, "by");
    bool by_value = by && by->kind == JINJA_STRING && !strcmp(by->string.bytes, "value");
    return sorted(
        run, filter_items(run, value, args), cohort_jinja_int(run->arena, by_value),
        !flag(args, 0, "case_sensitive", false), flag(args, 2, "reverse", false));
}

static void need_hashable(jinja_run *run, const jinja_value *value) {
    if (value->kind == JINJA_LIST || value->kind == JINJA_DICT)
        cohort_jinja_fail(run->arena, "unhashable type: '%s'",
                          cohort_jinja_type_name(value));
    for (size_t i = 0; value->kind == JINJA_TUPLE && i < value->list.n; i++)
        need_hashable(run, value->list.items[i]);
}

FILTER(filter_unique) {
    const jinja_value *path = cohort_jinja_arg(args, 1, "attribute");
    bool fold = !flag(args, 0, "case_sensitive", false);
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, items->list.n);
    jinja_value *seen = cohort_jinja_list(run->arena, JINJA_LIST, items->list.n);
    list->list.n = seen->list.n = 0;
    for (size_t i = 0; i < items->list.n; i++) {
        const jinja_value *key =
            folded(run, follow(run, items->list.items[i], path), fold);
        need_hashable(run, key);
        if (cohort_jinja_contains(run->arena, seen, key)) continue;
        seen->list.items[seen->list.n++] = key;
        list->list.items[list->list.n++] = items->list.items[i];
    }
    return list;
}

static const jinja_value *extreme(jinja_run *run, const jinja_value *value,
                                  const jinja_args *args, int sign) {
    const jinja_value *items = sorted(run, value, cohort_jinja_arg(args, 1, "attribute"),
                                      !flag(args, 0, "case_sensitive", false), sign > 0);
    return items->list.n
               ? items->list.items[0]
               : cohort_jinja_undefined(run->arena, "an extreme of nothing", NULL);
}
FILTER(filter_min) { return extreme(run, value, args, -1); }
FILTER(filter_max) { return extreme(run, value, args, 1); }

FILTER(filter_sum) {
    const jinja_value *path = cohort_jinja_arg(args, 0, "attribute");
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    double real = (double)number(run, args, 1, "start", 0);
    int64_t whole = number(run, args, 1, "start", 0);
    bool is_real = false;
    for (size_t i = 0; i < items->list.n; i++) {
        const jinja_value *item =
            need_number(run, follow(run, items->list.items[i], path), "sum");
        is_real |= item->kind == JINJA_FLOAT;
        real += cohort_jinja_real(item);
        if (item->kind != JINJA_FLOAT &&
            __builtin_add_overflow(whole, cohort_jinja_whole(item), &whole))
            cohort_jinja_fail(run->arena, "a number is longer than 64 bits");
    }
    return is_real ? cohort_jinja_float(run->arena, real)
                   : cohort_jinja_int(run->arena, whole);
}

jinja_function *cohort_jinja_find_filter(const char *name) {
    static const struct {
        const char *name;
        jinja_function *function;
    } filters[] = {{"abs", filter_abs},         {"capitalize", filter_capitalize},
                   {"count", filter_length},    {"d", filter_default},
                   {"default", filter_default}, {"dictsort", filter_dictsort},
                   {"e", filter_escape},        {"escape", filter_escape},
                   {"first", filter_first},     {"float", filter_float},
                   {"format", filter_format},   {"indent", filter_indent},
                   {"int", filter_int},         {"items", filter_items},
                   {"join", filter_join},       {"last", filter_last},
                   {"length", filter_length},   {"list", filter_list},
                   {"lower", filter_lower},     {"map", filter_map},
                   {"max", filter_max},         {"min", filter_min},
                   {"reject", filter_reject},   {"rejectattr", filter_rejectattr},
                   {"replace", filter_replace}, {"reverse", filter_reverse},
                   {"round", filter_round},     {"safe", filter_safe},
                   {"select", filter_select},   {"selectattr", filter_selectattr},
                   {"sort", filter_sort},       {"string", filter_string},
                   {"sum", filter_sum},         {"title", filter_title},
                   {"tojson", filter_tojson},   {"trim", filter_trim},
                   {"unique", filter_unique},   {"upper", filter_upper}};
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (!strcmp(filters[i].name, name)) return filters[i].function;
    return NULL;
}

/* ---- tests ------------------------------------------------------------------------- */

#define TEST(name) \
    static bool name(jinja_run *run, const jinja_value *value, const jinja_args *args)
#define TEST_OF(name, truth) \
    TEST(name) { return (void)run, (void)args, (truth); }

TEST_OF(is_defined, value->kind != JINJA_UNDEFINED)
TEST_OF(is_undefined, value->kind == JINJA_UNDEFINED)
TEST_OF(is_none, value->kind == JINJA_NONE)
TEST_OF(is_string, value->kind == JINJA_STRING)
TEST_OF(is_number, cohort_jinja_is_number(value))
TEST_OF(is_integer, value->kind == JINJA_INT)
TEST_OF(is_float, value->kind == JINJA_FLOAT)
TEST_OF(is_boolean, value->kind == JINJA_BOOL)
TEST_OF(is_true, value->kind == JINJA_BOOL && value->truth)
TEST_OF(is_false, value->kind == JINJA_BOOL && !value->truth)
TEST_OF(is_mapping, value->kind == JINJA_DICT)
TEST_OF(is_callable, value->kind == JINJA_CALLABLE)
TEST_OF(is_iterable, value->kind == JINJA_STRING || value->kind == JINJA_DICT ||
                         value->kind == JINJA_UNDEFINED || cohort_jinja_is_list(value))
TEST_OF(is_sequence, value->kind == JINJA_STRING || value->kind == JINJA_DICT ||
                         value->kind == JINJA_UNDEFINED || cohort_jinja_is_list(value))
TEST_OF(is_lower, cohort_jinja_is_true(cohort_jinja_find_method(
                      text_of(run, value), "islower")(run, text_of(run, value), args)))
TEST_OF(is_upper, cohort_jinja_is_true(cohort_jinja_find_method(
                      text_of(run, value), "isupper")(run, text_of(run, value), args)))

static int64_t whole_of(jinja_run *run, const jinja_value *value, const char *name) {
    if (need_number(run, value, name)->kind == JINJA_FLOAT) return (int64_t)value->real;
    return cohort_jinja_whole(value);
}
TEST_OF(is_odd, whole_of(run, value, "odd") % 2 != 0)
TEST_OF(is_even, whole_of(run, value, "even") % 2 == 0)

static const jinja_value *operand(jinja_run *run, const jinja_args *args) {
    if (!args->n) cohort_jinja_fail(run->arena, "a test lacks its argument");
    return args->values[0];
}
TEST(is_divisibleby) {
    int64_t by = whole_of(run, operand(run, args), "divisibleby");
    if (by == 0) cohort_jinja_fail(run->arena, "division by zero");
    return by == -1 || whole_of(run, value, "divisibleby") % by == 0;
}
TEST(is_equal) { return cohort_jinja_equal(run->arena, value, operand(run, args)); }
TEST(is_unequal) { return !is_equal(run, value, args); }
TEST(is_sameas) {
    const jinja_value *other = operand(run, args);
    return value == other || (value->kind == other->kind && value->kind <= JINJA_INT &&
                              cohort_jinja_equal(run->arena, value, other));
}
TEST(is_in) { return cohort_jinja_contains(run->arena, operand(run, args), value); }
TEST(is_less) {
    return cohort_jinja_compare(run->arena, value, operand(run, args), "<") < 0;
}
TEST(is_at_most) {
    return cohort_jinja_compare(run->arena, value, operand(run, args), "<=") <= 0;
}
TEST(is_greater) {
    return cohort_jinja_compare(run->arena, value, operand(run, args), ">") > 0;
}
TEST(is_at_least) {
    return cohort_jinja_compare(run->arena, value, operand(run, args), ">=") >= 0;
}

jinja_test *cohort_jinja_find_test(const char *name) {
    static const struct {
        const char *name;
        jinja_test *test;
    } tests[] = {{"boolean", is_boolean},
                 {"callable", is_callable},
                 {"defined", is_defined},
                 {"divisibleby", is_divisibleby},
                 {"eq", is_equal},
                 {"equalto", is_equal},
                 {"even", is_even},
                 {"false", is_false},
                 {"float", is_float},
                 {"ge", is_at_least},
                 {"greaterthan", is_greater},
                 {"gt", is_greater},
                 {"in", is_in},
                 {"integer", is_integer},
                 {"iterable", is_iterable},
                 {"le", is_at_most},
                 {"lessthan", is_less},
                 {"lower", is_lower},
                 {"lt", is_less},
                 {"mapping", is_mapping},
                 {"ne", is_unequal},
                 {"none", is_none},
                 {"number", is_number},
                 {"odd", is_odd},
                 {"sameas", is_sameas},
                 {"sequence", is_sequence},
                 {"string", is_string},
                 {"true", is_true},
                 {"undefined", is_undefined},
                 {"upper", is_upper}};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (!strcmp(tests[i].name, name)) return tests[i].test;
    return NULL;
}

/* ---- functions --------------------------------------------------------------------- */

FILTER(call_raise) {
    const jinja_value *text = cohort_jinja_arg(args, 0, "message");
    (void)value;
    run->arena->line = 0; /* what the template says, as it says it */
    cohort_jinja_fail(run->arena, "%.300s",
                      text ? text_of(run, text)->string.bytes : "the template gave up");
}

FILTER(call_strftime) {
    const jinja_value *format = cohort_jinja_arg(args, 0, "format");
    time_t now = (time_t)run->arena->now_s;
    char text[256];
    struct tm parts;
    (void)value;
    if (!format || format->kind != JINJA_STRING || format->string.size > 100)
        cohort_jinja_fail(run->arena, "strftime_now takes a short format");
    localtime_r(&now, &parts);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* of strftime: it reads no memory \
                                                      */
    size_t n = strftime(text, sizeof text, format->string.bytes, &parts);
#pragma GCC diagnostic pop
    return cohort_jinja_string(run->arena, text, n);
}

FILTER(call_range) {
    enum { MOST = 100000 };
    int64_t begin = number(run, args, 0, "start", 0);
    int64_t end = number(run, args, 1, "stop", 0), step = number(run, args, 2, "step", 1);
    (void)value;
    if (args->n < 2) {
        end = begin;
        begin = 0;
    }
    if (!args->n || !step)
        cohort_jinja_fail(run->arena, "range() takes an end, and a step other than 0");
    double wide = ((double)end - (double)begin) / (double)step;
    if (wide > MOST)
        cohort_jinja_fail(run->arena, "a range of more than %d numbers", MOST);
    size_t n = wide > 0 ? (size_t)ceil(wide) : 0;
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, n);
    for (size_t i = 0; i < n; i++)
        list->list.items[i] = cohort_jinja_int(run->arena, begin + (int64_t)i * step);
    return list;
}

static const jinja_value *named(jinja_run *run, const jinja_args *args, jinja_kind kind) {
    jinja_value *dict = cohort_jinja_dict(run->arena, kind);
    for (size_t i = 0; i < args->n; i++) {
        const jinja_value *given = args->values[i];
        if (args->names[i]) {
            cohort_jinja_put(run->arena, dict,
                             cohort_jinja_word(run->arena, args->names[i]), given);
            continue;
        }
        if (given->kind != JINJA_DICT)
            cohort_jinja_fail(run->arena, "a mapping is required, not %s",
                              cohort_jinja_type_name(given));
        for (size_t p = 0; p < given->dict.n; p++)
            cohort_jinja_put(run->arena, dict, given->dict.pairs[p].key,
                             given->dict.pairs[p].value);
    }
    return dict;
}
FILTER(call_namespace) { return (void)value, named(run, args, JINJA_NAMESPACE); }
FILTER(call_dict) { return (void)value, named(run, args, JINJA_DICT); }

void cohort_jinja_add_globals(jinja_run *run) {
    static const struct {
        const char *name;
        jinja_function *function;
    } globals[] = {{"raise_exception", call_raise},
                   {"strftime_now", call_strftime},
                   {"range", call_range},
                   {"namespace", call_namespace},
                   {"dict", call_dict}};
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++) {
        jinja_value *function = cohort_jinja_alloc(run->arena, sizeof *function);
        function->kind = JINJA_CALLABLE;
        function->callable.function = globals[i].function;
        function->callable.name = globals[i].name;
        cohort_jinja_set(run, globals[i].name, function);
    }
}
