/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "jinja/jinja_internal.h"

/* Filters, by Jinja's names.  What each takes is in the table at the end: arguments
 * arrive by position, NULL where they were not given. */

#define FILTER(name)                                                         \
    static const jinja_value *name(jinja_run *run, const jinja_value *value, \
                                   const jinja_args *args)

/* ---- arguments --------------------------------------------------------------------- */

static const jinja_value *text_of(jinja_run *run, const jinja_value *value) {
    return cohort_jinja_to_string(run->arena, value);
}

static bool flag(const jinja_args *args, size_t index) {
    return args->values[index] && cohort_jinja_is_true(args->values[index]);
}

/* An argument, where it was given and is not None. */
static const jinja_value *given(const jinja_args *args, size_t index) {
    const jinja_value *value = args->values[index];
    return value && value->kind != JINJA_NONE ? value : NULL;
}

static int64_t number(jinja_run *run, const jinja_args *args, size_t index,
                      int64_t otherwise) {
    return args->values[index] ? cohort_jinja_need_whole(run, args->values[index])
                               : otherwise;
}

/* One of a few words. */
static const char *word(jinja_run *run, const jinja_args *args, size_t index,
                        const char *const *words) {
    const jinja_value *value = args->values[index];
    if (!value) return words[0];
    for (size_t i = 0; words[i] && value->kind == JINJA_STRING; i++)
        if (!strcmp(words[i], value->string.bytes)) return words[i];
    cohort_jinja_fail(run->arena, "%.40s is none of the words that are known here: '%s'",
                      text_of(run, value)->string.bytes, words[0]);
}

static const jinja_value *need_text(jinja_run *run, const jinja_value *value) {
    if (value->kind != JINJA_STRING)
        cohort_jinja_fail(run->arena, "a string is required, not %s",
                          cohort_jinja_type_name(value));
    return value;
}

/* By another's method, of its text. */
static const jinja_value *by_method(jinja_run *run, const jinja_value *value,
                                    const char *name, const jinja_args *args) {
    const jinja_value *text = text_of(run, value);
    const jinja_builtin *method = cohort_jinja_find_method(text, name);
    return cohort_jinja_like(run->arena, value, method->function(run, text, args));
}

/* ---- of one value ------------------------------------------------------------------ */

FILTER(filter_trim) { return by_method(run, value, "strip", args); }
FILTER(filter_upper) { return by_method(run, value, "upper", args); }
FILTER(filter_lower) { return by_method(run, value, "lower", args); }
FILTER(filter_capitalize) { return by_method(run, value, "capitalize", args); }
FILTER(filter_center) {
    const jinja_value *values[] = {cohort_jinja_int(run->arena, number(run, args, 0, 80)),
                                   NULL};
    const jinja_args bound = {.values = values, .n = 2};
    return by_method(run, value, "center", &bound);
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
FILTER(filter_safe) {
    (void)args;
    return cohort_jinja_marked(run->arena, text_of(run, value));
}
FILTER(filter_escape) { return (void)args, cohort_jinja_escaped(run->arena, value); }

FILTER(filter_replace) {
    return cohort_jinja_replace(
        run->arena, text_of(run, value), text_of(run, args->values[0]),
        text_of(run, args->values[1]), given(args, 2) ? number(run, args, 2, -1) : -1);
}

FILTER(filter_format) {
    bool is_named = args->n && args->names[args->n - 1];
    if (is_named && !args->names[0])
        cohort_jinja_fail(
            run->arena, "can't handle positional and keyword arguments at the same time");
    jinja_value *values = is_named ? cohort_jinja_dict(run->arena, JINJA_DICT)
                                   : cohort_jinja_list(run->arena, JINJA_TUPLE, args->n);
    for (size_t i = 0; i < args->n; i++)
        if (is_named)
            cohort_jinja_put(run->arena, values,
                             cohort_jinja_word(run->arena, args->names[i]),
                             args->values[i]);
        else
            values->list.items[i] = args->values[i];
    return cohort_jinja_format(run->arena, text_of(run, value), values);
}

FILTER(filter_default) {
    bool is_missing =
        value->kind == JINJA_UNDEFINED || (flag(args, 1) && !cohort_jinja_is_true(value));
    if (!is_missing) return value;
    return args->values[0] ? args->values[0] : cohort_jinja_word(run->arena, "");
}

FILTER(filter_length) {
    (void)args;
    if (value->kind == JINJA_STRING)
        cohort_jinja_look_chars(run->arena, value->string.size);
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

/* Digits with single underscores between them; of a base that is 0: as a prefix says. */
static bool read_whole(const char *at, int64_t base, int64_t *out) {
    bool is_negative = *at == '-', overflow = false;
    if (*at == '-' || *at == '+') at++;
    int64_t prefix = at[0] != '0'                   ? 0
                     : at[1] == 'x' || at[1] == 'X' ? 16
                     : at[1] == 'o' || at[1] == 'O' ? 8
                     : at[1] == 'b' || at[1] == 'B' ? 2
                                                    : 0;
    bool is_prefixed = prefix && (base == 0 || base == prefix);
    bool no_zeros = base == 0 && !is_prefixed && at[0] == '0';
    if (is_prefixed) {
        base = prefix;
        at += at[2] == '_' ? 3 : 2;
    }
    if (base == 0) base = 10;
    *out = 0;
    for (const char *begin = at;; at++) {
        char c = *at;
        int64_t digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'z' ? c - 'a' + 10
                        : c >= 'A' && c <= 'Z' ? c - 'A' + 10
                                               : 99;
        if (c == '_' && at > begin && at[-1] != '_') continue;
        if (digit >= base) return !c && at > begin && at[-1] != '_' && !overflow;
        if (no_zeros && digit) return false; /* 010 is none to Python */
        overflow |= __builtin_mul_overflow(*out, base, out) ||
                    __builtin_add_overflow(*out, is_negative ? -digit : digit, out);
    }
}

/* What Python's float() reads: no hexadecimal digits. */
static bool read_real(const char *at, double *out) {
    static const char *const words[] = {"inf", "infinity", "nan"};
    const char *unsigned_ = at + (*at == '-' || *at == '+');
    char digits[128], *end;
    size_t n = 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcasecmp(unsigned_, words[i])) return *out = strtod(at, NULL), true;
    for (const char *c = at; *c; c++) {
        bool between =
            c > at && c[-1] >= '0' && c[-1] <= '9' && c[1] >= '0' && c[1] <= '9';
        if (*c == '_' && between) continue;
        if (!strchr("0123456789.+-eE", *c) || n + 1 == sizeof digits) return false;
        digits[n++] = *c;
    }
    digits[n] = '\0';
    *out = strtod(digits, &end);
    return n && !*end;
}

static const jinja_value *whole_of_real(jinja_run *run, double real) {
    if (!(fabs(real) < 0x1p63))
        cohort_jinja_fail(run->arena, "cannot convert a float of this size to integer");
    return cohort_jinja_int(run->arena, (int64_t)real);
}

static void need_defined(jinja_run *run, const jinja_value *value) {
    if (value->kind == JINJA_UNDEFINED)
        cohort_jinja_fail(run->arena, "'%.100s' is undefined", value->undefined.name);
}

FILTER(filter_int) {
    int64_t base = number(run, args, 1, 10), result;
    double real;
    need_defined(run, value);
    if (value->kind == JINJA_FLOAT && !isnan(value->real))
        return whole_of_real(run, value->real);
    if (cohort_jinja_is_number(value) && value->kind != JINJA_FLOAT)
        return cohort_jinja_int(run->arena, cohort_jinja_whole(value));
    if (value->kind == JINJA_STRING) {
        const jinja_value *text = cohort_jinja_strip(run->arena, value, NULL, true, true);
        const char *bytes = text->string.bytes;
        bool is_base = base == 0 || (base >= 2 && base <= 36);
        cohort_jinja_look_chars(run->arena, value->string.size);
        if (strlen(bytes) == text->string.size) {
            if (is_base && read_whole(bytes, base, &result))
                return cohort_jinja_int(run->arena, result);
            if (read_real(bytes, &real) && isfinite(real))
                return whole_of_real(run, real);
        }
    }
    return args->values[0] ? args->values[0] : cohort_jinja_int(run->arena, 0);
}

FILTER(filter_float) {
    double real;
    need_defined(run, value);
    if (cohort_jinja_is_number(value))
        return cohort_jinja_float(run->arena, cohort_jinja_real(value));
    if (value->kind == JINJA_STRING) {
        const jinja_value *text = cohort_jinja_strip(run->arena, value, NULL, true, true);
        cohort_jinja_look_chars(run->arena, value->string.size);
        if (strlen(text->string.bytes) == text->string.size &&
            read_real(text->string.bytes, &real))
            return cohort_jinja_float(run->arena, real);
    }
    return args->values[0] ? args->values[0] : cohort_jinja_float(run->arena, 0);
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
    int64_t of = cohort_jinja_whole(value);
    if (of == INT64_MIN) cohort_jinja_fail(run->arena, "a number is longer than 64 bits");
    return cohort_jinja_int(run->arena, of < 0 ? -of : of);
}

/* Half to even where that is what the number is exactly, as Python rounds. */
static const jinja_value *rounded_whole(jinja_run *run, int64_t of, int64_t precision) {
    int64_t scale = 1, up = 0;
    if (precision >= 0) return cohort_jinja_int(run->arena, of);
    if (precision < -19) return cohort_jinja_int(run->arena, 0);
    for (; precision < 0 && scale < INT64_MAX / 10; precision++)
        scale *= 10;
    int64_t rest = of % scale, down = of - rest;
    int64_t twice = rest < 0 ? -2 * rest : 2 * rest;
    bool away = twice > scale || (twice == scale && down / scale % 2);
    if (precision) /* to 10^19, which no number of ours is */
        away = of > 5 * scale || of < -5 * scale;
    if (precision && !away) return cohort_jinja_int(run->arena, 0);
    if (away && (precision || __builtin_add_overflow(down, of < 0 ? -scale : scale, &up)))
        cohort_jinja_fail(run->arena, "a number is longer than 64 bits");
    return cohort_jinja_int(run->arena, away ? up : down);
}

static const jinja_value *rounded(jinja_run *run, const jinja_value *value,
                                  int64_t precision, bool to_whole) {
    enum { SMALLEST = 323 }; /* the last digit that a float can have behind the point */
    char digits[1024];
    double real = value->real;
    if (value->kind != JINJA_FLOAT)
        return rounded_whole(run, cohort_jinja_whole(value), precision);
    if (to_whole) return whole_of_real(run, nearbyint(real));
    if (!isfinite(real) || precision > SMALLEST) return value;
    if (precision < 0) {
        double scale = precision < -308 ? INFINITY : pow(10, -(double)precision);
        return cohort_jinja_float(run->arena, isinf(scale)
                                                  ? copysign(0, real)
                                                  : nearbyint(real / scale) * scale);
    }
    snprintf(digits, sizeof digits, "%.*f", (int)precision, real);
    return cohort_jinja_float(run->arena, strtod(digits, NULL));
}

FILTER(filter_round) {
    static const char *const methods[] = {"common", "ceil", "floor", NULL};
    const char *method = word(run, args, 1, methods);
    bool to_whole = args->values[0] && args->values[0]->kind == JINJA_NONE;
    int64_t precision = to_whole ? 0 : number(run, args, 0, 0);
    need_number(run, value, "round");
    if (!strcmp(method, "common")) return rounded(run, value, precision, to_whole);
    double scale = pow(10, (double)precision), real = cohort_jinja_real(value) * scale;
    return cohort_jinja_float(
        run->arena, (!strcmp(method, "ceil") ? ceil(real) : floor(real)) / scale);
}

static const char *separator(jinja_run *run, const jinja_value *pair, size_t i,
                             const char *otherwise) {
    if (!pair) return otherwise;
    if (!cohort_jinja_is_list(pair) || pair->list.n != 2)
        cohort_jinja_fail(run->arena, "separators are two strings");
    return need_text(run, pair->list.items[i])->string.bytes;
}

FILTER(filter_tojson) {
    const jinja_value *indent = given(args, 1), *separators = given(args, 2);
    jinja_text out = {.arena = run->arena}, pad = {.arena = run->arena};
    cohort_jinja_append(&pad, "", 0);
    if (indent && indent->kind == JINJA_STRING)
        cohort_jinja_write(&pad, indent);
    else if (indent)
        cohort_jinja_pad(&pad, ' ', cohort_jinja_need_whole(run, indent));
    const jinja_json_style style = {
        .indent = indent ? pad.bytes : NULL,
        .is_ascii = flag(args, 0),
        .sort_keys = flag(args, 3),
        .item_separator = separator(run, separators, 0, indent ? "," : ", "),
        .key_separator = separator(run, separators, 1, ": ")};
    cohort_jinja_write_json(&out, value, &style, 0);
    return cohort_jinja_taken(&out);
}

FILTER(filter_indent) {
    const jinja_value *text = text_of(run, value), *width = args->values[0];
    bool first_too = flag(args, 1), blank = flag(args, 2);
    jinja_text pad = {.arena = run->arena}, out = {.arena = run->arena};
    if (width && width->kind == JINJA_STRING)
        cohort_jinja_write(&pad, width);
    else
        cohort_jinja_pad(&pad, ' ', number(run, args, 0, 4));
    const char *at = text->string.bytes, *end = at + text->string.size;
    for (bool first = true; first || at < end; first = false) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        if (!line_end) line_end = end;
        bool indents = first ? first_too : blank || line_end > at;
        if (!first) cohort_jinja_append(&out, "\n", 1);
        if (indents && pad.size) cohort_jinja_append(&out, pad.bytes, pad.size);
        cohort_jinja_append(&out, at, (size_t)(line_end - at));
        at = line_end < end ? line_end + 1 : end;
        if (line_end < end && at == end) {
            cohort_jinja_append(&out, "\n", 1);
            if (blank && pad.size) cohort_jinja_append(&out, pad.bytes, pad.size);
        }
    }
    return cohort_jinja_like(run->arena, value, cohort_jinja_taken(&out));
}

/* Where the last blank before a place is; the place itself where there is none. */
static size_t last_blank(const char *bytes, size_t size) {
    for (size_t at = size; at; at--)
        if (bytes[at - 1] == ' ') return at - 1;
    return size;
}

FILTER(filter_truncate) {
    int64_t length = number(run, args, 0, 255),
            leeway = given(args, 3) ? number(run, args, 3, 0) : 5;
    if (value->kind == JINJA_UNDEFINED) return value;
    const jinja_value *text = need_text(run, value);
    const jinja_value *end = args->values[2] ? need_text(run, args->values[2])
                                             : cohort_jinja_word(run->arena, "...");
    const char *bytes = text->string.bytes;
    size_t size = text->string.size;
    cohort_jinja_look_chars(run->arena, size + end->string.size);
    int64_t n = (int64_t)cohort_jinja_n_chars(bytes, size);
    int64_t n_end = (int64_t)cohort_jinja_n_chars(end->string.bytes, end->string.size);
    if (length < n_end || leeway < 0)
        cohort_jinja_fail(run->arena,
                          "truncate expects a length of at least %lld, and no leeway "
                          "below 0",
                          (long long)n_end);
    if (n <= length || n - length <= leeway) return value;
    size_t cut = cohort_jinja_char_at(bytes, size, (size_t)(length - n_end));
    if (!flag(args, 1)) cut = last_blank(bytes, cut);
    return cohort_jinja_add(
        run,
        cohort_jinja_like(run->arena, text, cohort_jinja_string(run->arena, bytes, cut)),
        end);
}

FILTER(filter_wordcount) {
    const jinja_value *text = text_of(run, value);
    int64_t n = 0;
    bool in_word = false;
    size_t length;
    (void)args;
    cohort_jinja_look_chars(run->arena, text->string.size);
    for (size_t at = 0; at < text->string.size; at += length) {
        int32_t c =
            cohort_jinja_char(text->string.bytes + at, text->string.size - at, &length);
        bool is_word = c == '_' || cohort_jinja_is_alnum(c);
        n += is_word && !in_word;
        in_word = is_word;
    }
    return cohort_jinja_int(run->arena, n);
}

/* An attribute that is no item. */
FILTER(filter_attr) {
    const jinja_value *name = need_text(run, args->values[0]);
    bool is_item =
        value->kind == JINJA_DICT && !cohort_jinja_find_method(value, name->string.bytes);
    return is_item ? cohort_jinja_undefined(run->arena, name->string.bytes,
                                            cohort_jinja_type_name(value))
                   : cohort_jinja_attribute(run, value, name->string.bytes);
}

/* ---- of several values ------------------------------------------------------------- */

static jinja_value *copied(jinja_run *run, const jinja_value *value) {
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, items->list.n);
    if (items->list.n)
        memcpy(list->list.items, items->list.items,
               items->list.n * sizeof *items->list.items);
    return list;
}

FILTER(filter_list) { return (void)args, copied(run, value); }

/* Can be read once, and is true, also where nothing is in it. */
static const jinja_value *generator(jinja_value *list) {
    list->kind = JINJA_GENERATOR;
    return list;
}

FILTER(filter_first) {
    (void)args;
    if (value->kind == JINJA_GENERATOR) {
        const jinja_value *next = cohort_jinja_next(value);
        return next ? next : cohort_jinja_undefined(run->arena, "the first item", NULL);
    }
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    return items->list.n ? items->list.items[0]
                         : cohort_jinja_undefined(run->arena, "the first item", NULL);
}

FILTER(filter_last) {
    (void)args;
    if (value->kind == JINJA_GENERATOR)
        cohort_jinja_fail(run->arena, "'generator' object is not reversible");
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    return items->list.n ? items->list.items[items->list.n - 1]
                         : cohort_jinja_undefined(run->arena, "the last item", NULL);
}

FILTER(filter_reverse) {
    jinja_value *items = copied(run, value);
    (void)args;
    for (size_t i = 0, n = items->list.n; i < n / 2; i++) {
        const jinja_value *other = items->list.items[n - 1 - i];
        items->list.items[n - 1 - i] = items->list.items[i];
        items->list.items[i] = other;
    }
    if (value->kind == JINJA_GENERATOR) return items;
    if (value->kind != JINJA_STRING) return generator(items);
    jinja_text out = {.arena = run->arena};
    for (size_t i = 0; i < items->list.n; i++)
        cohort_jinja_write(&out, items->list.items[i]);
    return cohort_jinja_like(run->arena, value, cohort_jinja_taken(&out));
}

static const jinja_value *or_else(const jinja_value *value,
                                  const jinja_value *otherwise) {
    return value->kind == JINJA_UNDEFINED && otherwise ? otherwise : value;
}

/* item.a.b, or item itself where there is no path; otherwise, if not NULL, where a part
 * of it is missing. */
static const jinja_value *follow_or(jinja_run *run, const jinja_value *item,
                                    const jinja_value *path,
                                    const jinja_value *otherwise) {
    if (!path || path->kind == JINJA_NONE) return item;
    if (path->kind != JINJA_STRING)
        return or_else(cohort_jinja_item(run, item, path), otherwise);
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
        item = or_else(item, otherwise);
        if (!dot) return item;
        at = dot + 1;
    }
}

static const jinja_value *follow(jinja_run *run, const jinja_value *item,
                                 const jinja_value *path) {
    return follow_or(run, item, path, NULL);
}

static jinja_args behind(const jinja_args *args, size_t n) {
    if (n >= args->n) return (jinja_args){0};
    return (jinja_args){args->values + n, args->names + n, args->n - n};
}

FILTER(filter_join) {
    const jinja_value *between = args->values[0], *path = args->values[1];
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    jinja_text out = {.arena = run->arena};
    for (size_t i = 0; i < items->list.n; i++) {
        if (i && between) cohort_jinja_write(&out, between);
        cohort_jinja_write(&out, follow(run, items->list.items[i], path));
    }
    return cohort_jinja_taken(&out);
}

/* What is none or 0 has no elements here, and nothing is asked of them. */
static const jinja_value *nothing(jinja_run *run) {
    return generator(cohort_jinja_list(run->arena, JINJA_LIST, 0));
}

/* With the arguments of the filter, or attribute= and default=. */
FILTER(filter_map) {
    if (!cohort_jinja_is_true(value)) return nothing(run);
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, items->list.n);
    bool is_named = args->n && args->names[0];
    const jinja_value *path = is_named ? cohort_jinja_arg(args, 0, "attribute") : NULL;
    const jinja_value *otherwise = path ? cohort_jinja_arg(args, 0, "default") : NULL;
    const jinja_value *name = args->n && !is_named ? args->values[0] : NULL;
    const jinja_builtin *filter = name && name->kind == JINJA_STRING
                                      ? cohort_jinja_find_filter(name->string.bytes)
                                      : NULL;
    if (!path && !filter)
        cohort_jinja_fail(run->arena, "map needs the name of a filter, or an attribute");
    if (path && args->n > 1 + (size_t)(otherwise != NULL))
        cohort_jinja_fail(run->arena, "map takes 'attribute' and 'default' by name only");
    if (otherwise && otherwise->kind == JINJA_NONE) otherwise = NULL;
    const jinja_args rest = behind(args, 1);
    for (size_t i = 0; i < items->list.n; i++) {
        const jinja_value *item = items->list.items[i];
        list->list.items[i] = path ? follow_or(run, item, path, otherwise)
                                   : cohort_jinja_apply(run, filter, item, &rest);
    }
    return generator(list);
}

/* select and reject: with the attribute first where by_attribute. */
static const jinja_value *choose(jinja_run *run, const jinja_value *value,
                                 const jinja_args *args, bool wanted, bool by_attribute) {
    if (!cohort_jinja_is_true(value)) return nothing(run);
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, items->list.n);
    const jinja_value *path = by_attribute ? cohort_jinja_arg(args, 0, NULL) : NULL;
    const jinja_value *name = cohort_jinja_arg(args, by_attribute, NULL);
    const jinja_args rest = behind(args, (size_t)by_attribute + 1);
    const jinja_builtin *test = name && name->kind == JINJA_STRING
                                    ? cohort_jinja_find_test(name->string.bytes)
                                    : NULL;
    if (by_attribute && !path)
        cohort_jinja_fail(run->arena, "the name of an attribute is missing");
    if (name && !test) cohort_jinja_fail(run->arena, "there is no such test");
    if (!name && args->n > (size_t)by_attribute)
        cohort_jinja_fail(run->arena,
                          "there are arguments, but the test for them is not");
    list->list.n = 0;
    for (size_t i = 0; i < items->list.n; i++) {
        const jinja_value *item = follow(run, items->list.items[i], path);
        if (test) item = cohort_jinja_apply(run, test, item, &rest);
        if (cohort_jinja_is_true(item) == wanted)
            list->list.items[list->list.n++] = items->list.items[i];
    }
    return generator(list);
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

/* By one attribute, or, where they may be several, by all of "a,b" in turn. */
typedef struct order {
    const jinja_value *path, *otherwise;
    bool fold, reverse, several;
} order;

static const jinja_value *key_of(jinja_run *run, const jinja_value *item,
                                 const order *by) {
    const jinja_value *path = by->path;
    if (!by->several || !path || path->kind != JINJA_STRING ||
        !memchr(path->string.bytes, ',', path->string.size))
        return folded(run, follow_or(run, item, path, by->otherwise), by->fold);
    const jinja_value *values[2] = {cohort_jinja_word(run->arena, ","), NULL};
    const jinja_args args = {.values = values, .n = 2};
    const jinja_value *paths =
        cohort_jinja_find_method(path, "split")->function(run, path, &args);
    jinja_value *keys = cohort_jinja_list(run->arena, JINJA_LIST, paths->list.n);
    for (size_t i = 0; i < paths->list.n; i++)
        keys->list.items[i] =
            folded(run, follow(run, item, paths->list.items[i]), by->fold);
    return keys;
}

/* keys of the items, in their order, where out_keys is not NULL. */
static const jinja_value *sorted(jinja_run *run, const jinja_value *items,
                                 const order *by, const jinja_value ***out_keys) {
    const jinja_value *list = copied(run, items);
    const jinja_value **keys =
        cohort_jinja_alloc(run->arena, (list->list.n + 1) * sizeof *keys);
    for (size_t i = 0; i < list->list.n; i++)
        keys[i] = key_of(run, list->list.items[i], by);
    sort(run, keys, list->list.items, list->list.n, by->reverse);
    if (out_keys) *out_keys = keys;
    return list;
}

FILTER(filter_sort) {
    const order by = {.path = args->values[2],
                      .fold = !flag(args, 1),
                      .reverse = flag(args, 0),
                      .several = true};
    return sorted(run, value, &by, NULL);
}

FILTER(filter_items) {
    (void)args;
    if (value->kind == JINJA_UNDEFINED) return nothing(run);
    if (value->kind != JINJA_DICT)
        cohort_jinja_fail(run->arena, "Can only get item pairs from a mapping.");
    return generator(copied(
        run, cohort_jinja_find_method(value, "items")->function(run, value, args)));
}

FILTER(filter_dictsort) {
    static const char *const ways[] = {"key", "value", NULL};
    bool by_value = !strcmp(word(run, args, 1, ways), "value");
    const order by = {.path = cohort_jinja_int(run->arena, by_value),
                      .fold = !flag(args, 0),
                      .reverse = flag(args, 2)};
    return sorted(run, filter_items(run, value, args), &by, NULL);
}

FILTER(filter_groupby) {
    const order by = {
        .path = args->values[0], .otherwise = given(args, 1), .fold = !flag(args, 2)};
    const jinja_value **keys, *items = sorted(run, value, &by, &keys);
    jinja_value *groups = cohort_jinja_list(run->arena, JINJA_LIST, items->list.n);
    groups->list.n = 0;
    for (size_t begin = 0, end; begin < items->list.n; begin = end) {
        for (end = begin + 1; end < items->list.n; end++)
            if (!cohort_jinja_equal(run->arena, keys[begin], keys[end])) break;
        jinja_value *group = cohort_jinja_list(run->arena, JINJA_TUPLE, 2);
        jinja_value *members = cohort_jinja_list(run->arena, JINJA_LIST, end - begin);
        memcpy(members->list.items, items->list.items + begin,
               (end - begin) * sizeof *items->list.items);
        group->list.is_group = true;
        group->list.items[0] =
            follow_or(run, items->list.items[begin], by.path, by.otherwise);
        group->list.items[1] = members;
        groups->list.items[groups->list.n++] = group;
    }
    return groups;
}

FILTER(filter_unique) {
    const jinja_value *path = args->values[1];
    bool fold = !flag(args, 0);
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, items->list.n);
    jinja_value *seen = cohort_jinja_list(run->arena, JINJA_LIST, items->list.n);
    list->list.n = seen->list.n = 0;
    for (size_t i = 0; i < items->list.n; i++) {
        const jinja_value *key =
            folded(run, follow(run, items->list.items[i], path), fold);
        cohort_jinja_need_hashable(run->arena, key);
        if (cohort_jinja_contains(run->arena, seen, key)) continue;
        seen->list.items[seen->list.n++] = key;
        list->list.items[list->list.n++] = items->list.items[i];
    }
    return generator(list);
}

static const jinja_value *extreme(jinja_run *run, const jinja_value *value,
                                  const jinja_args *args, bool is_most) {
    const order by = {
        .path = args->values[1], .fold = !flag(args, 0), .reverse = is_most};
    const jinja_value *items = sorted(run, value, &by, NULL);
    return items->list.n
               ? items->list.items[0]
               : cohort_jinja_undefined(run->arena, "an extreme of nothing", NULL);
}
FILTER(filter_min) { return extreme(run, value, args, false); }
FILTER(filter_max) { return extreme(run, value, args, true); }

FILTER(filter_sum) {
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    const jinja_value *sum =
        args->values[1] ? args->values[1] : cohort_jinja_int(run->arena, 0);
    if (sum->kind == JINJA_STRING)
        cohort_jinja_fail(run->arena, "sum() can't sum strings");
    for (size_t i = 0; i < items->list.n; i++)
        sum = cohort_jinja_add(run, sum,
                               follow(run, items->list.items[i], args->values[0]));
    return sum;
}

/* Of items begin to end, and one more where there is. */
static const jinja_value *part_of(jinja_run *run, const jinja_value *items, size_t begin,
                                  size_t end, const jinja_value *fill, size_t n_fill) {
    size_t n = end - begin;
    jinja_value *part =
        cohort_jinja_list(run->arena, JINJA_LIST, n + (fill ? n_fill : 0));
    if (n)
        memcpy(part->list.items, items->list.items + begin,
               n * sizeof *items->list.items);
    for (size_t i = n; i < part->list.n; i++)
        part->list.items[i] = fill;
    return part;
}

FILTER(filter_batch) {
    int64_t count = number(run, args, 0, 1);
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    size_t n = items->list.n, each = count > 0 ? (size_t)count : n + 1, at = 0;
    size_t n_parts = n / each + (n % each != 0);
    if (count <= 0 &&
        n) { /* as Python's: all of them, behind an empty one where it is 0 */
        jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, 1 + !count);
        list->list.items[0] = part_of(run, items, 0, 0, NULL, 0);
        list->list.items[!count] = part_of(run, items, 0, n, NULL, 0);
        return generator(list);
    }
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, n_parts);
    for (size_t i = 0; i < n_parts; i++, at += each) {
        size_t end = n - at < each ? n : at + each;
        list->list.items[i] =
            part_of(run, items, at, end, given(args, 1), each - (end - at));
    }
    return generator(list);
}

FILTER(filter_slice) {
    int64_t count = number(run, args, 0, 1);
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    if (count == 0) cohort_jinja_fail(run->arena, "integer division or modulo by zero");
    size_t n = items->list.n, slices = count > 0 ? (size_t)count : 0, at = 0;
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, slices);
    for (size_t i = 0; i < slices; i++) {
        bool has_more = i < n % slices;
        size_t end = at + n / slices + has_more;
        list->list.items[i] =
            part_of(run, items, at, end, has_more ? NULL : given(args, 1), 1);
        at = end;
    }
    return generator(list);
}

/* ---- the table --------------------------------------------------------------------- */

const jinja_builtin *cohort_jinja_find_filter(const char *name) {
    static const jinja_builtin filters[] = {
        {"abs", "", filter_abs},
        {"attr", "name", filter_attr},
        {"batch", "linecount fill_with?", filter_batch},
        {"capitalize", "", filter_capitalize},
        {"center", "width?", filter_center},
        {"count", "", filter_length},
        {"d", "default_value? boolean?", filter_default},
        {"default", "default_value? boolean?", filter_default},
        {"dictsort", "case_sensitive? by? reverse?", filter_dictsort},
        {"e", "", filter_escape},
        {"escape", "", filter_escape},
        {"first", "", filter_first},
        {"float", "default?", filter_float},
        {"format", "**", filter_format},
        {"groupby", "attribute default? case_sensitive?", filter_groupby},
        {"indent", "width? first? blank?", filter_indent},
        {"int", "default? base?", filter_int},
        {"items", "", filter_items},
        {"join", "d? attribute?", filter_join},
        {"last", "", filter_last},
        {"length", "", filter_length},
        {"list", "", filter_list},
        {"lower", "", filter_lower},
        {"map", "**", filter_map},
        {"max", "case_sensitive? attribute?", filter_max},
        {"min", "case_sensitive? attribute?", filter_min},
        {"reject", "**", filter_reject},
        {"rejectattr", "**", filter_rejectattr},
        {"replace", "old new count?", filter_replace},
        {"reverse", "", filter_reverse},
        {"round", "precision? method?", filter_round},
        {"safe", "", filter_safe},
        {"select", "**", filter_select},
        {"selectattr", "**", filter_selectattr},
        {"slice", "slices fill_with?", filter_slice},
        {"sort", "reverse? case_sensitive? attribute?", filter_sort},
        {"string", "", filter_string},
        {"sum", "attribute? start?", filter_sum},
        {"title", "", filter_title},
        {"tojson", "ensure_ascii? indent? separators? sort_keys?", filter_tojson},
        {"trim", "chars?", filter_trim},
        {"truncate", "length? killwords? end? leeway?", filter_truncate},
        {"unique", "case_sensitive? attribute?", filter_unique},
        {"upper", "", filter_upper},
        {"wordcount", "", filter_wordcount}};
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (!strcmp(filters[i].name, name)) return &filters[i];
    return NULL;
}
