/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/format.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jinja/access.h"
#include "jinja/characters.h"
#include "jinja/scope.h"
#include "jinja/text.h"
#include "jinja/write.h"

/* Design notes.
 *
 * Python's two ways to format, "%-5.2f" % x and "{:<5.2f}".format(x): both read what they
 * are told into one `spec` and write by it.  What is left out is refused by name. */

enum { MOST_WIDTH = 1 << 20, MOST_PRECISION = 60 };

typedef struct spec {
    int32_t fill;   /* a character */
    char align;     /* '<', '>', '^', '=' (behind the sign); '\0': as the type has it */
    char sign;      /* '+', ' ', '\0': only of negative numbers */
    bool alternate; /* "0x" */
    char group;     /* ',' or '_' between thousands */
    int64_t width;  /* the least, in characters */
    int64_t precision; /* -1: not said */
    char type;         /* '\0': not said */
} spec;

void cohort_jinja_pad(jinja_text *out, int32_t fill, int64_t count) {
    char bytes[8];
    size_t n = cohort_jinja_encode(fill, bytes);
    cohort_jinja_step(out->arena, count > 0 ? count / 4 : 0);
    for (; count > 0; count--)
        cohort_jinja_append(out, bytes, n);
}

/* ---- writing ----------------------------------------------------------------------- */

static void write_aligned(jinja_text *out, const spec *how, const char *sign,
                          const char *body, size_t size, char align) {
    int64_t used = (int64_t)(strlen(sign) + cohort_jinja_n_chars(body, size));
    int64_t blank = how->width > used ? how->width - used : 0;
    int64_t before = align == '>' ? blank : align == '^' ? blank / 2 : 0;
    cohort_jinja_look_chars(out->arena, size);
    cohort_jinja_pad(out, how->fill, before);
    cohort_jinja_append(out, sign, strlen(sign));
    if (align == '=') cohort_jinja_pad(out, how->fill, blank);
    cohort_jinja_append(out, body, size);
    if (align == '<' || align == '^') cohort_jinja_pad(out, how->fill, blank - before);
}

static void write_text(jinja_text *out, const spec *how, const jinja_value *text) {
    size_t size = text->string.size;
    if (how->precision >= 0)
        size = cohort_jinja_char_at(text->string.bytes, size, (size_t)how->precision);
    write_aligned(out, how, "", text->string.bytes, size, how->align ? how->align : '<');
}

static const char *sign_of(const spec *how, bool is_negative) {
    return is_negative ? "-" : how->sign == '+' ? "+" : how->sign == ' ' ? " " : "";
}

/* Digits up to the first that is none, with a mark between each `each` of them. */
static void write_grouped(jinja_text *out, const char *digits, char mark, size_t each) {
    size_t n = strspn(digits, "0123456789abcdefABCDEF");
    if (each == 3) n = strspn(digits, "0123456789");
    for (size_t i = 0; i < n; i++) {
        if (mark && i && (n - i) % each == 0) cohort_jinja_append(out, &mark, 1);
        cohort_jinja_append(out, digits + i, 1);
    }
    cohort_jinja_append(out, digits + n, strlen(digits + n));
}

static void write_whole(jinja_text *out, const spec *how, int64_t whole) {
    char digits[72], sign[4] = "", *at = digits + sizeof digits - 1;
    uint64_t rest = whole < 0 ? 0 - (uint64_t)whole : (uint64_t)whole;
    char type = how->type ? how->type : 'd';
    unsigned base = type == 'x' || type == 'X' ? 16
                    : type == 'o'              ? 8
                    : type == 'b'              ? 2
                                               : 10;
    int64_t n = 0;
    *at = '\0';
    do {
        *--at = (type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[rest % base];
        rest /= base;
        n++;
    } while (rest);
    strcat(sign, sign_of(how, whole < 0));
    if (how->alternate && base != 10) {
        size_t length = strlen(sign);
        memcpy(sign + length, (char[]){'0', type, '\0'}, 3);
    }
    jinja_text body = {.arena = out->arena};
    cohort_jinja_pad(&body, '0', how->precision - n); /* of % only */
    write_grouped(&body, at, how->group, base == 10 ? 3 : 4);
    write_aligned(out, how, sign, body.bytes, body.size, how->align ? how->align : '>');
}

/* As %g, but with a digit behind the point, for which one less is left before it. */
static void write_general(char *digits, size_t size, int precision, double real) {
    int most = precision ? precision : 1;
    snprintf(digits, size, "%.*e", most - 1, real);
    char *exponent = strchr(digits, 'e');
    if (!exponent || atoi(exponent + 1) != most - 1) {
        snprintf(digits, size, "%.*g", precision, real);
        if (!strpbrk(digits, ".en")) strcat(digits, ".0");
        return;
    }
    char *end = exponent;
    while (memchr(digits, '.', (size_t)(end - digits)) && strchr("0.", end[-1]))
        end--;
    memmove(end, exponent, strlen(exponent) + 1);
}

static void write_real(jinja_text *out, const spec *how, double real) {
    char digits[512], type = how->type ? how->type : 'g';
    const char pattern[] = {'%', how->alternate ? '#' : '-', '.',
                            '*', type == '%' ? 'f' : type,   '\0'};
    int precision = how->precision < 0 ? 6 : (int)how->precision;
    if (how->precision > MOST_PRECISION)
        cohort_jinja_fail(out->arena, "more than %d digits behind a point",
                          MOST_PRECISION);
    if (!how->type && how->precision < 0) {
        jinja_text plain = {.arena = out->arena};
        cohort_jinja_write(&plain, cohort_jinja_float(out->arena, fabs(real)));
        snprintf(digits, sizeof digits, "%s", plain.bytes);
    } else if (!how->type) {
        write_general(digits, sizeof digits, precision, fabs(real));
    } else {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* one of ours */
        snprintf(digits, sizeof digits, pattern, precision,
                 fabs(real) * (type == '%' ? 100 : 1));
#pragma GCC diagnostic pop
        if (type == '%') strcat(digits, "%");
    }
    jinja_text body = {.arena = out->arena};
    write_grouped(&body, digits, how->group, 3);
    write_aligned(out, how, sign_of(how, signbit(real) && !isnan(real)), body.bytes,
                  body.size, how->align ? how->align : '>');
}

/* ---- % ----------------------------------------------------------------------------- */

static int64_t read_number(jinja_arena *arena, const char **at, const char *end) {
    int64_t number = 0;
    for (; *at < end && **at >= '0' && **at <= '9'; ++*at)
        if ((number = number * 10 + (**at - '0')) > MOST_WIDTH)
            cohort_jinja_fail(arena, "a format is wider than %d", MOST_WIDTH);
    return number;
}

static bool is_at(const char *at, const char *end, const char *any) {
    return at < end && *at && strchr(any, *at);
}

/* "-+ #0", width and precision; *at is at the type then. */
static spec read_percent_spec(jinja_arena *arena, const char **at, const char *end) {
    spec how = {.fill = ' ', .precision = -1};
    for (; is_at(*at, end, "-+ #0"); ++*at) {
        if (**at == '-') how.align = '<';
        if (**at == '+' || (**at == ' ' && !how.sign)) how.sign = **at;
        if (**at == '#') how.alternate = true;
        if (**at == '0') how.fill = '0';
    }
    if (how.align) how.fill = ' ';
    how.width = read_number(arena, at, end);
    if (is_at(*at, end, ".")) {
        ++*at;
        how.precision = read_number(arena, at, end);
    }
    if (is_at(*at, end, "*"))
        cohort_jinja_fail(arena, "widths by '*' are not supported in formats");
    if (is_at(*at, end, "hlL")) ++*at;
    if (*at == end) cohort_jinja_fail(arena, "incomplete format");
    how.type = *(*at)++;
    return how;
}

static void write_percent_number(jinja_text *out, spec *how, const jinja_value *value) {
    bool needs_whole = strchr("xXo", how->type);
    if (!cohort_jinja_is_number(value) || (needs_whole && value->kind == JINJA_FLOAT))
        cohort_jinja_fail(out->arena, "%%%c format: %s is required, not %s", how->type,
                          needs_whole ? "an integer" : "a real number",
                          cohort_jinja_type_name(value));
    if (how->fill == '0') how->align = '=';
    if (strchr("feEFgG", how->type)) {
        write_real(out, how, cohort_jinja_real(value));
        return;
    }
    if (value->kind == JINJA_FLOAT && !(fabs(value->real) < 0x1p63))
        cohort_jinja_fail(out->arena, "a number is longer than 64 bits");
    write_whole(out, how,
                value->kind == JINJA_FLOAT ? (int64_t)value->real
                                           : cohort_jinja_whole(value));
}

static void write_percent_text(jinja_text *out, spec *how, const jinja_value *value,
                               bool escapes) {
    jinja_text text = {.arena = out->arena};
    if (how->type == 's')
        cohort_jinja_write(&text, value);
    else
        cohort_jinja_write_repr(&text, value);
    const jinja_value *word = cohort_jinja_taken(&text);
    if (escapes && !(how->type == 's' && cohort_jinja_is_markup(value)))
        word = cohort_jinja_escaped(out->arena, word);
    how->fill = ' ';
    if (!how->align) how->align = '>';
    write_text(out, how, word);
}

typedef struct percent_values {
    const jinja_value *all;
    size_t n, used;
} percent_values;

/* Of "%(name)s", where at is behind the bracket then; or the next of a tuple. */
static const jinja_value *percent_value(jinja_arena *arena, percent_values *from,
                                        const char **at, const char *end) {
    bool is_tuple = from->all->kind == JINJA_TUPLE;
    if (!is_at(*at, end, "(")) return NULL;
    const char *close = memchr(*at, ')', (size_t)(end - *at));
    if (!close) cohort_jinja_fail(arena, "incomplete format key");
    if (is_tuple || from->all->kind != JINJA_DICT)
        cohort_jinja_fail(arena, "format requires a mapping");
    const jinja_value *key =
        cohort_jinja_string(arena, *at + 1, (size_t)(close - *at - 1));
    const jinja_value *value = cohort_jinja_get(arena, from->all, key);
    if (!value)
        cohort_jinja_fail(arena, "there is no '%.60s' to format", key->string.bytes);
    *at = close + 1;
    from->used = from->n;
    return value;
}

static const jinja_value *next_percent_value(jinja_arena *arena, percent_values *from) {
    if (from->used >= from->n)
        cohort_jinja_fail(arena, "not enough arguments for format string");
    bool is_tuple = from->all->kind == JINJA_TUPLE;
    return is_tuple ? from->all->list.items[from->used++] : (from->used++, from->all);
}

/* "%-5.2f": behind the percent sign; returns what is behind it. */
static const char *format_percent(jinja_text *out, const char *at, const char *end,
                                  percent_values *from, bool escapes) {
    jinja_arena *arena = out->arena;
    const jinja_value *value = percent_value(arena, from, &at, end);
    spec how = read_percent_spec(arena, &at, end);
    if (how.type == '%') {
        cohort_jinja_append(out, "%", 1);
        return at;
    }
    if (!how.type || !strchr("srdiufeEFgGxXo", how.type))
        cohort_jinja_fail(arena, "the format %%%c is not supported", how.type);
    if (!value) value = next_percent_value(arena, from);
    if (how.type == 's' || how.type == 'r')
        write_percent_text(out, &how, value, escapes);
    else
        write_percent_number(out, &how, value);
    return at;
}

const jinja_value *cohort_jinja_format(jinja_arena *arena, const jinja_value *format,
                                       const jinja_value *values) {
    jinja_text out = {.arena = arena};
    const char *at = format->string.bytes, *end = at + format->string.size, *sign;
    bool is_tuple = values->kind == JINJA_TUPLE;
    percent_values from = {.all = values, .n = is_tuple ? values->list.n : 1};
    while ((sign = memchr(at, '%', (size_t)(end - at)))) {
        cohort_jinja_append(&out, at, (size_t)(sign - at));
        at = format_percent(&out, sign + 1, end, &from, format->string.is_markup);
    }
    cohort_jinja_append(&out, at, (size_t)(end - at));
    if (from.used < from.n && (is_tuple || values->kind != JINJA_DICT))
        cohort_jinja_fail(arena, "not all arguments converted during string formatting");
    return cohort_jinja_like(arena, format, cohort_jinja_taken(&out));
}

/* ---- format() ---------------------------------------------------------------------- */

/* "*<+#010,.2f"; a 0 before the width fills, where no other character does. */
static spec read_spec(jinja_arena *arena, const char *at, const char *end, bool of_text) {
    spec how = {.fill = ' ', .precision = -1};
    size_t length = 0;
    int32_t first = at < end ? cohort_jinja_char(at, (size_t)(end - at), &length) : 0;
    bool is_filled = at < end && is_at(at + length, end, "<>^=");
    if (is_filled) {
        how.fill = first;
        at += length;
    }
    if (is_at(at, end, "<>^=")) how.align = *at++;
    if (is_at(at, end, "+- ")) how.sign = *at++;
    if (is_at(at, end, "#")) how.alternate = *at++ == '#';
    if (!is_filled && is_at(at, end, "0")) {
        how.fill = '0';
        if (!how.align && !of_text) how.align = '=';
        at++;
    }
    how.width = read_number(arena, &at, end);
    if (is_at(at, end, ",_")) how.group = *at++;
    if (is_at(at, end, ".")) {
        at++;
        if (!is_at(at, end, "0123456789"))
            cohort_jinja_fail(arena, "Format specifier missing precision");
        how.precision = read_number(arena, &at, end);
    }
    if (at < end) how.type = *at++;
    if (at < end) cohort_jinja_fail(arena, "Invalid format specifier");
    if (how.group && how.align == '=' && how.fill == '0')
        cohort_jinja_fail(arena, "zeros before grouped digits are not supported");
    return how;
}

static void write_by_spec(jinja_text *out, spec *how, const jinja_value *value) {
    bool is_whole = value->kind == JINJA_INT || value->kind == JINJA_BOOL;
    bool is_real_type = how->type && strchr("eEfFgG%", how->type);
    bool is_whole_type = !how->type || strchr("dxXob", how->type);
    if (value->kind == JINJA_STRING && (!how->type || how->type == 's') &&
        how->align != '=' && !how->sign && !how->alternate && !how->group) {
        write_text(out, how, value);
    } else if (is_whole && is_whole_type && how->precision < 0 &&
               !(how->group == ',' && how->type && how->type != 'd')) {
        write_whole(out, how, cohort_jinja_whole(value));
    } else if ((is_whole && is_real_type) ||
               (value->kind == JINJA_FLOAT && (is_real_type || !how->type))) {
        if (how->alternate && !how->type)
            cohort_jinja_fail(out->arena,
                              "'#' of floats is not supported without a type");
        write_real(out, how, cohort_jinja_real(value));
    } else {
        cohort_jinja_fail(out->arena, "a format of this kind is not supported for '%s'",
                          cohort_jinja_type_name(value));
    }
}

typedef struct fields {
    jinja_run *run;
    const jinja_args *args;
    size_t next;
    bool is_numbered, counts; /* "{0}" was there, "{}" was */
} fields;

static const jinja_value *field_root(fields *self, const char *name, size_t size) {
    jinja_arena *arena = self->run->arena;
    size_t at = 0;
    bool is_index = strspn(name, "0123456789") >= size;
    if (!size)
        at = self->next++;
    else if (is_index)
        at = strtoul(name, NULL, 10);
    self->is_numbered |= size && is_index;
    self->counts |= !size;
    if (self->is_numbered && self->counts)
        cohort_jinja_fail(arena, "cannot switch between '{}' and '{0}' in one format");
    for (size_t i = 0; i < self->args->n; i++) {
        const char *given = self->args->names[i];
        if (is_index ? !given && i == at
                     : given && strlen(given) == size && !memcmp(given, name, size))
            return self->args->values[i];
    }
    if (is_index)
        cohort_jinja_fail(arena,
                          "Replacement index %zu out of range for positional args "
                          "tuple",
                          at);
    cohort_jinja_fail(arena, "there is no '%.60s' to format",
                      cohort_jinja_string(arena, name, size)->string.bytes);
}

/* "user.name[0]" */
static const jinja_value *field_value(fields *self, const char *at, const char *end) {
    jinja_run *run = self->run;
    size_t size = 0;
    while (at + size < end && !strchr(".[", at[size]))
        size++;
    const jinja_value *value = field_root(self, at, size);
    for (at += size; at < end; at += size) {
        bool is_item = *at++ == '[';
        for (size = 0; at + size < end && !strchr(is_item ? "]" : ".[", at[size]);)
            size++;
        if (!size || (is_item && at + size == end))
            cohort_jinja_fail(run->arena, "a field of a format is not well made");
        const jinja_value *key = cohort_jinja_string(run->arena, at, size);
        if (is_item && strspn(key->string.bytes, "0123456789") == size)
            key = cohort_jinja_int(run->arena, strtoll(key->string.bytes, NULL, 10));
        value = cohort_jinja_item(run, value, key);
        size += is_item;
    }
    return value;
}

/* What is between braces. */
static void format_field(fields *self, jinja_text *out, const char *at, const char *end,
                         bool escapes) {
    jinja_arena *arena = self->run->arena;
    const char *name_end = at;
    bool in_item = false;
    for (; name_end < end && (in_item || !strchr("!:", *name_end)); name_end++)
        in_item = *name_end == '[' || (in_item && *name_end != ']');
    const jinja_value *value = field_value(self, at, name_end);
    at = name_end;
    if (is_at(at, end, "!")) {
        jinja_text text = {.arena = arena};
        if (!is_at(at + 1, end, "rs") || (at + 2 < end && at[2] != ':'))
            cohort_jinja_fail(arena,
                              "conversions other than !r and !s are not supported");
        if (at[1] == 'r')
            cohort_jinja_write_repr(&text, value);
        else
            cohort_jinja_write(&text, value);
        value = cohort_jinja_taken(&text);
        at += 2;
    }
    if (at < end) at++;
    jinja_text text = {.arena = arena};
    spec how = read_spec(arena, at, end, value->kind == JINJA_STRING);
    if (at == end)
        cohort_jinja_write(&text, value);
    else
        write_by_spec(&text, &how, value);
    const jinja_value *word = cohort_jinja_taken(&text);
    if (escapes && !cohort_jinja_is_markup(value))
        word = cohort_jinja_escaped(arena, word);
    cohort_jinja_write(out, word);
}

const jinja_value *cohort_jinja_format_fields(jinja_run *run, const jinja_value *format,
                                              const jinja_args *args) {
    jinja_text out = {.arena = run->arena};
    fields self = {.run = run, .args = args};
    const char *at = format->string.bytes, *end = at + format->string.size;
    while (at < end) {
        size_t plain = strcspn(at, "{}");
        if (plain > (size_t)(end - at)) plain = (size_t)(end - at);
        cohort_jinja_append(&out, at, plain);
        at += plain;
        if (at >= end) break;
        if (!*at) { /* a NUL byte of the text's own */
            cohort_jinja_append(&out, at++, 1);
        } else if (at + 1 < end && at[1] == *at) {
            cohort_jinja_append(&out, at, 1);
            at += 2;
        } else {
            const char *close = memchr(at, '}', (size_t)(end - at));
            if (*at == '}' || !close)
                cohort_jinja_fail(run->arena, "Single '%c' encountered in format string",
                                  *at);
            if (memchr(at + 1, '{', (size_t)(close - at - 1)))
                cohort_jinja_fail(run->arena, "fields in fields of a format are not "
                                              "supported");
            format_field(&self, &out, at + 1, close, format->string.is_markup);
            at = close + 1;
        }
    }
    return cohort_jinja_taken(&out);
}
