/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/filters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "jinja/access.h"
#include "jinja/arguments.h"
#include "jinja/characters.h"
#include "jinja/format.h"
#include "jinja/methods.h"
#include "jinja/operate.h"
#include "jinja/scope.h"
#include "jinja/text.h"
#include "jinja/write.h"

/* Filters, by Jinja's names.  What each takes is in the table at the end: arguments
 * arrive by position, NULL where they were not given. */

FILTER(filter_trim) { return cohort_jinja_by_method(run, value, "strip", args); }
FILTER(filter_upper) { return cohort_jinja_by_method(run, value, "upper", args); }
FILTER(filter_lower) { return cohort_jinja_by_method(run, value, "lower", args); }
FILTER(filter_capitalize) {
    return cohort_jinja_by_method(run, value, "capitalize", args);
}
FILTER(filter_center) {
    const jinja_value *values[] = {
        cohort_jinja_int(run->arena, cohort_jinja_whole_arg(run, args, 0, 80)), NULL};
    const jinja_args bound = {.values = values, .n = 2};
    return cohort_jinja_by_method(run, value, "center", &bound);
}

static const jinja_value *capitalized(jinja_run *run, const jinja_value *text,
                                      size_t begin, size_t end) {
    const jinja_value *word =
        cohort_jinja_string(run->arena, text->string.bytes + begin, end - begin);
    return cohort_jinja_recase(run->arena, word, JINJA_CAPITALIZE);
}

/* Words as Jinja cuts them, which is not as the method does. */
FILTER(filter_title) {
    const jinja_value *text = cohort_jinja_to_string(run->arena, value);
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
FILTER(filter_string) { return (void)args, cohort_jinja_to_string(run->arena, value); }
FILTER(filter_safe) {
    (void)args;
    return cohort_jinja_marked(run->arena, cohort_jinja_to_string(run->arena, value));
}
FILTER(filter_escape) { return (void)args, cohort_jinja_escaped(run->arena, value); }

FILTER(filter_replace) {
    return cohort_jinja_replace(
        run->arena, cohort_jinja_to_string(run->arena, value),
        cohort_jinja_to_string(run->arena, args->values[0]),
        cohort_jinja_to_string(run->arena, args->values[1]),
        cohort_jinja_given_arg(args, 2) ? cohort_jinja_whole_arg(run, args, 2, -1) : -1);
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
    return cohort_jinja_format(run->arena, cohort_jinja_to_string(run->arena, value),
                               values);
}

FILTER(filter_default) {
    bool is_missing = value->kind == JINJA_UNDEFINED ||
                      (cohort_jinja_flag_arg(args, 1) && !cohort_jinja_is_true(value));
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
    int64_t base = cohort_jinja_whole_arg(run, args, 1, 10), result;
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
    const char *method = cohort_jinja_word_arg(run, args, 1, methods);
    bool to_whole = args->values[0] && args->values[0]->kind == JINJA_NONE;
    int64_t precision = to_whole ? 0 : cohort_jinja_whole_arg(run, args, 0, 0);
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
    return cohort_jinja_need_text(run, pair->list.items[i])->string.bytes;
}

FILTER(filter_tojson) {
    const jinja_value *indent = cohort_jinja_given_arg(args, 1),
                      *separators = cohort_jinja_given_arg(args, 2);
    jinja_text out = {.arena = run->arena}, pad = {.arena = run->arena};
    cohort_jinja_append(&pad, "", 0);
    if (indent && indent->kind == JINJA_STRING)
        cohort_jinja_write(&pad, indent);
    else if (indent)
        cohort_jinja_pad(&pad, ' ', cohort_jinja_need_whole(run, indent));
    const jinja_json_style style = {
        .indent = indent ? pad.bytes : NULL,
        .is_ascii = cohort_jinja_flag_arg(args, 0),
        .sort_keys = cohort_jinja_flag_arg(args, 3),
        .item_separator = separator(run, separators, 0, indent ? "," : ", "),
        .key_separator = separator(run, separators, 1, ": ")};
    cohort_jinja_write_json(&out, value, &style, 0);
    return cohort_jinja_taken(&out);
}

FILTER(filter_indent) {
    const jinja_value *text = cohort_jinja_to_string(run->arena, value),
                      *width = args->values[0];
    bool first_too = cohort_jinja_flag_arg(args, 1),
         blank = cohort_jinja_flag_arg(args, 2);
    jinja_text pad = {.arena = run->arena}, out = {.arena = run->arena};
    if (width && width->kind == JINJA_STRING)
        cohort_jinja_write(&pad, width);
    else
        cohort_jinja_pad(&pad, ' ', cohort_jinja_whole_arg(run, args, 0, 4));
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
    int64_t length = cohort_jinja_whole_arg(run, args, 0, 255),
            leeway = cohort_jinja_given_arg(args, 3)
                         ? cohort_jinja_whole_arg(run, args, 3, 0)
                         : 5;
    if (value->kind == JINJA_UNDEFINED) return value;
    const jinja_value *text = cohort_jinja_need_text(run, value);
    const jinja_value *end = args->values[2]
                                 ? cohort_jinja_need_text(run, args->values[2])
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
    if (!cohort_jinja_flag_arg(args, 1)) cut = last_blank(bytes, cut);
    return cohort_jinja_add(
        run,
        cohort_jinja_like(run->arena, text, cohort_jinja_string(run->arena, bytes, cut)),
        end);
}

FILTER(filter_wordcount) {
    const jinja_value *text = cohort_jinja_to_string(run->arena, value);
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
    const jinja_value *name = cohort_jinja_need_text(run, args->values[0]);
    bool is_item =
        value->kind == JINJA_DICT && !cohort_jinja_find_method(value, name->string.bytes);
    return is_item ? cohort_jinja_undefined(run->arena, name->string.bytes,
                                            cohort_jinja_type_name(value))
                   : cohort_jinja_attribute(run, value, name->string.bytes);
}

const jinja_builtin *cohort_jinja_find_filter(const char *name) {
    static const jinja_builtin filters[] = {
        {"abs", "", filter_abs},
        {"attr", "name", filter_attr},
        {"capitalize", "", filter_capitalize},
        {"center", "width?", filter_center},
        {"count", "", filter_length},
        {"d", "default_value? boolean?", filter_default},
        {"default", "default_value? boolean?", filter_default},
        {"e", "", filter_escape},
        {"escape", "", filter_escape},
        {"float", "default?", filter_float},
        {"format", "**", filter_format},
        {"indent", "width? first? blank?", filter_indent},
        {"int", "default? base?", filter_int},
        {"length", "", filter_length},
        {"lower", "", filter_lower},
        {"replace", "old new count?", filter_replace},
        {"round", "precision? method?", filter_round},
        {"safe", "", filter_safe},
        {"string", "", filter_string},
        {"title", "", filter_title},
        {"tojson", "ensure_ascii? indent? separators? sort_keys?", filter_tojson},
        {"trim", "chars?", filter_trim},
        {"truncate", "length? killwords? end? leeway?", filter_truncate},
        {"upper", "", filter_upper},
        {"wordcount", "", filter_wordcount}};
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (!strcmp(filters[i].name, name)) return &filters[i];
    return cohort_jinja_find_list_filter(name);
}
