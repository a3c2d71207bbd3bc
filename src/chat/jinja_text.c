/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "chat/jinja_internal.h"

/* Strings and dicts as objects: what Python calls their methods. */

/* ---- characters -------------------------------------------------------------------- */

int32_t cohort_jinja_char(const char *bytes, size_t size, size_t *out_length) {
    utf8proc_int32_t character;
    utf8proc_ssize_t length =
        utf8proc_iterate((const utf8proc_uint8_t *)bytes,
                         size > 4 ? 4 : (utf8proc_ssize_t)size, &character);
    *out_length = length > 0 ? (size_t)length : 1;
    return length > 0 ? character : 0xfffd;
}

size_t cohort_jinja_n_chars(const char *bytes, size_t size) {
    size_t n = 0, length;
    for (size_t at = 0; at < size; at += length, n++)
        cohort_jinja_char(bytes + at, size - at, &length);
    return n;
}

size_t cohort_jinja_char_at(const char *bytes, size_t size, size_t n) {
    size_t at = 0, length;
    for (; n > 0 && at < size; at += length, n--)
        cohort_jinja_char(bytes + at, size - at, &length);
    return at;
}

bool cohort_jinja_is_space(int32_t c) {
    if ((c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85) return true;
    utf8proc_category_t category = utf8proc_category(c);
    return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
           category == UTF8PROC_CATEGORY_ZP;
}

static bool is_in(int32_t c, const jinja_value *chars) {
    size_t length;
    if (!chars) return cohort_jinja_is_space(c);
    for (size_t at = 0; at < chars->string.size; at += length)
        if (cohort_jinja_char(chars->string.bytes + at, chars->string.size - at,
                              &length) == c)
            return true;
    return false;
}

/* Where the last character of a text begins. */
static size_t last_char(const char *bytes, size_t size) {
    size_t at = size - 1;
    while (at > 0 && size - at < 4 && ((unsigned char)bytes[at] & 0xc0) == 0x80)
        at--;
    return at;
}

const jinja_value *cohort_jinja_strip(jinja_arena *arena, const jinja_value *string,
                                      const jinja_value *chars, bool left, bool right) {
    const char *bytes = string->string.bytes;
    size_t begin = 0, end = string->string.size, length;
    while (left && begin < end &&
           is_in(cohort_jinja_char(bytes + begin, end - begin, &length), chars))
        begin += length;
    while (right && begin < end) {
        size_t at = begin + last_char(bytes + begin, end - begin);
        if (!is_in(cohort_jinja_char(bytes + at, end - at, &length), chars)) break;
        end = at;
    }
    return cohort_jinja_string(arena, bytes + begin, end - begin);
}

static void append_char(jinja_text *out, int32_t c) {
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t n = utf8proc_encode_char(c, bytes);
    cohort_jinja_append(out, (const char *)bytes, n > 0 ? (size_t)n : 0);
}

static bool is_cased(int32_t c) {
    return utf8proc_toupper(c) != c || utf8proc_tolower(c) != c;
}

const jinja_value *cohort_jinja_recase(jinja_arena *arena, const jinja_value *string,
                                       jinja_case to) {
    jinja_text out = {.arena = arena};
    size_t length;
    bool begins = true;
    cohort_jinja_step(arena, (int64_t)string->string.size);
    for (size_t at = 0; at < string->string.size; at += length) {
        int32_t c = cohort_jinja_char(string->string.bytes + at, string->string.size - at,
                                      &length);
        bool upper = to == JINJA_UPPER || (begins && to != JINJA_LOWER);
        if (upper && c == 0xdf)
            cohort_jinja_append(&out, to == JINJA_UPPER ? "SS" : "Ss", 2);
        else
            append_char(&out, !upper              ? utf8proc_tolower(c)
                              : to == JINJA_UPPER ? utf8proc_toupper(c)
                                                  : utf8proc_totitle(c));
        begins = to == JINJA_TITLE && !is_cased(c);
    }
    return cohort_jinja_taken(&out);
}

/* ---- parts ------------------------------------------------------------------------- */

/* The next place of needle, or NULL. */
static const char *find(const char *at, const char *end, const jinja_value *needle) {
    return memmem(at, (size_t)(end - at), needle->string.bytes, needle->string.size);
}

const jinja_value *cohort_jinja_replace(jinja_arena *arena, const jinja_value *string,
                                        const jinja_value *from, const jinja_value *to,
                                        int64_t count) {
    jinja_text out = {.arena = arena};
    const char *at = string->string.bytes, *end = at + string->string.size, *found;
    bool everywhere = from->string.size == 0; /* before each character, and at the end */
    cohort_jinja_step(arena, (int64_t)string->string.size);
    while (count != 0 && at <= end && (found = find(at, end, from))) {
        cohort_jinja_append(&out, at, (size_t)(found - at));
        cohort_jinja_append(&out, to->string.bytes, to->string.size);
        at = found + from->string.size;
        count--;
        if (!everywhere) continue;
        if (at == end) return cohort_jinja_taken(&out);
        size_t length;
        cohort_jinja_char(at, (size_t)(end - at), &length);
        cohort_jinja_append(&out, at, length);
        at += length;
    }
    cohort_jinja_append(&out, at, (size_t)(end - at));
    return cohort_jinja_taken(&out);
}

typedef struct parts {
    jinja_arena *arena;
    const jinja_value **items;
    size_t n, capacity;
} parts;

static void add_part(parts *self, const char *begin, const char *end) {
    if (self->n == self->capacity) {
        size_t capacity = self->capacity * 2 + 8;
        const jinja_value **grown =
            cohort_jinja_alloc(self->arena, capacity * sizeof *grown);
        if (self->n) memcpy(grown, self->items, self->n * sizeof *grown);
        self->items = grown;
        self->capacity = capacity;
    }
    cohort_jinja_step(self->arena, 1);
    self->items[self->n++] =
        cohort_jinja_string(self->arena, begin, (size_t)(end - begin));
}

static const jinja_value *list_of(const parts *self) {
    jinja_value *list = cohort_jinja_list(self->arena, JINJA_LIST, self->n);
    if (self->n) memcpy(list->list.items, self->items, self->n * sizeof *self->items);
    return list;
}

static bool space_at(const char *at, const char *end, size_t *length) {
    return cohort_jinja_is_space(cohort_jinja_char(at, (size_t)(end - at), length));
}

static const jinja_value *split_at_spaces(jinja_arena *arena, const jinja_value *string,
                                          int64_t most) {
    parts out = {.arena = arena};
    const char *at = string->string.bytes, *end = at + string->string.size;
    size_t length;
    for (;;) {
        while (at < end && space_at(at, end, &length))
            at += length;
        if (at == end) return list_of(&out);
        const char *begin = at;
        if (most-- == 0) {
            add_part(&out, at, end);
            return list_of(&out);
        }
        while (at < end && !space_at(at, end, &length))
            at += length;
        add_part(&out, begin, at);
    }
}

static const jinja_value *split(jinja_arena *arena, const jinja_value *string,
                                const jinja_value *separator, int64_t most) {
    parts out = {.arena = arena};
    const char *at = string->string.bytes, *end = at + string->string.size, *found;
    while (most != 0 && (found = find(at, end, separator))) {
        add_part(&out, at, found);
        at = found + separator->string.size;
        most--;
    }
    add_part(&out, at, end);
    return list_of(&out);
}

/* From the right: all places, then the left ones joined again. */
static const jinja_value *split_from_right(jinja_arena *arena, const jinja_value *string,
                                           const jinja_value *separator, int64_t most) {
    const jinja_value *all = split(arena, string, separator, -1);
    size_t n = all->list.n;
    if (most < 0 || n <= (size_t)most + 1) return all;
    parts out = {.arena = arena};
    const char *begin = string->string.bytes, *end = begin + string->string.size;
    for (size_t i = n - (size_t)most; i < n; i++)
        end -= all->list.items[i]->string.size + separator->string.size;
    add_part(&out, begin, end);
    for (size_t i = n - (size_t)most; i < n; i++)
        add_part(&out, all->list.items[i]->string.bytes,
                 all->list.items[i]->string.bytes + all->list.items[i]->string.size);
    return list_of(&out);
}

/* ---- % ----------------------------------------------------------------------------- */

static void format_number(jinja_arena *arena, jinja_text *out, const char *spec,
                          char kind, const jinja_value *value) {
    char whole_spec[40];
    if (!cohort_jinja_is_number(value))
        cohort_jinja_fail(arena, "%%%c format: a real number is required, not %s", kind,
                          cohort_jinja_type_name(value));
    if (strchr("feEgG", kind)) {
        snprintf(whole_spec, sizeof whole_spec, "%s%c", spec, kind);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* flags and digits of ours only */
        cohort_jinja_print(out, whole_spec, cohort_jinja_real(value));
        return;
    }
    int64_t whole =
        value->kind == JINJA_FLOAT ? (int64_t)value->real : cohort_jinja_whole(value);
    snprintf(whole_spec, sizeof whole_spec, "%s" PRId64, spec);
    whole_spec[strlen(whole_spec) - 1] = kind == 'i' || kind == 'u' ? 'd' : kind;
    cohort_jinja_print(out, whole_spec, whole);
#pragma GCC diagnostic pop
}

/* "%-5.2f": at the percent sign; returns what is behind it. */
static const char *format_one(jinja_arena *arena, jinja_text *out, const char *at,
                              const char *end, const jinja_value *value) {
    char spec[16] = "%";
    size_t n = 1;
    for (at++; at < end && strchr("-+ #0123456789.", *at) && n < 8; at++)
        spec[n++] = *at;
    if (at == end) cohort_jinja_fail(arena, "incomplete format");
    if (!value) cohort_jinja_fail(arena, "not enough arguments for format string");
    char kind = *at++;
    if (kind == 's' || kind == 'r') {
        jinja_text text = {.arena = arena};
        if (n > 1) cohort_jinja_fail(arena, "widths of %%%c are not supported", kind);
        if (kind == 's')
            cohort_jinja_write(&text, value);
        else
            cohort_jinja_write_repr(&text, value);
        cohort_jinja_append(out, text.bytes, text.size);
    } else if (kind && strchr("diufeEgGxXo", kind)) {
        format_number(arena, out, spec, kind, value);
    } else {
        cohort_jinja_fail(arena, "the format %%%c is not supported", kind);
    }
    return at;
}

const jinja_value *cohort_jinja_format(jinja_arena *arena, const jinja_value *format,
                                       const jinja_value *values) {
    jinja_text out = {.arena = arena};
    const char *at = format->string.bytes, *end = at + format->string.size;
    bool is_tuple = values->kind == JINJA_TUPLE;
    size_t n = is_tuple ? values->list.n : 1, used = 0;
    while (at < end) {
        const char *sign = memchr(at, '%', (size_t)(end - at));
        cohort_jinja_append(&out, at, (size_t)((sign ? sign : end) - at));
        if (!sign) break;
        if (sign + 1 < end && sign[1] == '%') {
            cohort_jinja_append(&out, "%", 1);
            at = sign + 2;
            continue;
        }
        const jinja_value *value = used >= n  ? NULL
                                   : is_tuple ? values->list.items[used]
                                              : values;
        used++;
        at = format_one(arena, &out, sign, end, value);
    }
    if (used < n && (is_tuple || values->kind != JINJA_DICT))
        cohort_jinja_fail(arena, "not all arguments converted during string formatting");
    return cohort_jinja_taken(&out);
}

/* ---- methods of strings ------------------------------------------------------------ */

#define METHOD(name)                                                        \
    static const jinja_value *name(jinja_run *run, const jinja_value *self, \
                                   const jinja_args *args)

/* A string argument; NULL where it is missing or None. */
static const jinja_value *text_arg(jinja_run *run, const jinja_args *args, size_t index,
                                   const char *name) {
    const jinja_value *value = cohort_jinja_arg(args, index, name);
    if (!value || value->kind == JINJA_NONE) return NULL;
    if (value->kind != JINJA_STRING)
        cohort_jinja_fail(run->arena, "a string is required, not %s",
                          cohort_jinja_type_name(value));
    return value;
}

static const jinja_value *need_text(jinja_run *run, const jinja_args *args,
                                    size_t index) {
    const jinja_value *value = text_arg(run, args, index, NULL);
    if (!value) cohort_jinja_fail(run->arena, "a string argument is missing");
    return value;
}

static int64_t whole_arg(jinja_run *run, const jinja_args *args, size_t index,
                         const char *name, int64_t otherwise) {
    const jinja_value *value = cohort_jinja_arg(args, index, name);
    if (!value) return otherwise;
    if (value->kind != JINJA_INT && value->kind != JINJA_BOOL)
        cohort_jinja_fail(run->arena, "'%s' object cannot be interpreted as an integer",
                          cohort_jinja_type_name(value));
    return cohort_jinja_whole(value);
}

METHOD(text_strip) {
    return cohort_jinja_strip(run->arena, self, text_arg(run, args, 0, NULL), true, true);
}
METHOD(text_lstrip) {
    return cohort_jinja_strip(run->arena, self, text_arg(run, args, 0, NULL), true,
                              false);
}
METHOD(text_rstrip) {
    return cohort_jinja_strip(run->arena, self, text_arg(run, args, 0, NULL), false,
                              true);
}
METHOD(text_upper) {
    (void)args;
    return cohort_jinja_recase(run->arena, self, JINJA_UPPER);
}
METHOD(text_lower) {
    (void)args;
    return cohort_jinja_recase(run->arena, self, JINJA_LOWER);
}
METHOD(text_title) {
    (void)args;
    return cohort_jinja_recase(run->arena, self, JINJA_TITLE);
}
METHOD(text_capitalize) {
    (void)args;
    return cohort_jinja_recase(run->arena, self, JINJA_CAPITALIZE);
}

static const jinja_value *any_split(jinja_run *run, const jinja_value *self,
                                    const jinja_args *args, bool from_right) {
    const jinja_value *separator = text_arg(run, args, 0, "sep");
    int64_t most = whole_arg(run, args, 1, "maxsplit", -1);
    if (!separator && from_right && most >= 0)
        cohort_jinja_fail(run->arena, "rsplit at white space, so many times, is not "
                                      "supported");
    if (!separator) return split_at_spaces(run->arena, self, most);
    if (!separator->string.size) cohort_jinja_fail(run->arena, "empty separator");
    return from_right ? split_from_right(run->arena, self, separator, most)
                      : split(run->arena, self, separator, most);
}
METHOD(text_split) { return any_split(run, self, args, false); }
METHOD(text_rsplit) { return any_split(run, self, args, true); }

METHOD(text_splitlines) {
    parts out = {.arena = run->arena};
    const jinja_value *keep = cohort_jinja_arg(args, 0, "keepends");
    bool keeps = keep && cohort_jinja_is_true(keep);
    const char *at = self->string.bytes, *end = at + self->string.size;
    while (at < end) {
        const char *line = at;
        size_t length = 0;
        int32_t c = 0;
        for (; at < end; at += length) {
            c = cohort_jinja_char(at, (size_t)(end - at), &length);
            if ((c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 ||
                c == 0x2028 || c == 0x2029)
                break;
        }
        const char *text_end = at;
        if (at < end) at += length + (c == '\r' && at + 1 < end && at[1] == '\n');
        add_part(&out, line, keeps ? at : text_end);
    }
    return list_of(&out);
}

static bool has_affix(const jinja_value *text, const jinja_value *affix, bool at_end) {
    size_t n = affix->string.size, size = text->string.size;
    return n <= size &&
           !memcmp(text->string.bytes + (at_end ? size - n : 0), affix->string.bytes, n);
}

static const jinja_value *test_affix(jinja_run *run, const jinja_value *self,
                                     const jinja_args *args, bool at_end) {
    const jinja_value *affix = cohort_jinja_arg(args, 0, NULL);
    if (affix && affix->kind == JINJA_TUPLE) {
        for (size_t i = 0; i < affix->list.n; i++)
            if (affix->list.items[i]->kind == JINJA_STRING &&
                has_affix(self, affix->list.items[i], at_end))
                return &cohort_jinja_true;
        return &cohort_jinja_false;
    }
    return cohort_jinja_bool(has_affix(self, need_text(run, args, 0), at_end));
}
METHOD(text_startswith) { return test_affix(run, self, args, false); }
METHOD(text_endswith) { return test_affix(run, self, args, true); }
METHOD(text_removeprefix) {
    const jinja_value *affix = need_text(run, args, 0);
    size_t n = has_affix(self, affix, false) ? affix->string.size : 0;
    return cohort_jinja_string(run->arena, self->string.bytes + n, self->string.size - n);
}
METHOD(text_removesuffix) {
    const jinja_value *affix = need_text(run, args, 0);
    size_t n = has_affix(self, affix, true) ? affix->string.size : 0;
    return cohort_jinja_string(run->arena, self->string.bytes, self->string.size - n);
}

METHOD(text_replace) {
    const jinja_value *from = need_text(run, args, 0), *to = need_text(run, args, 1);
    return cohort_jinja_replace(run->arena, self, from, to,
                                whole_arg(run, args, 2, "count", -1));
}

/* In characters; -1 where it is not. */
static int64_t position(const jinja_value *text, const jinja_value *needle,
                        bool from_right) {
    const char *begin = text->string.bytes, *end = begin + text->string.size;
    const char *found = find(begin, end, needle), *again = found;
    while (from_right && again && again < end) {
        found = again;
        again = find(again + 1, end, needle);
    }
    if (from_right && again) found = again;
    return found ? (int64_t)cohort_jinja_n_chars(begin, (size_t)(found - begin)) : -1;
}
METHOD(text_find) {
    return cohort_jinja_int(run->arena, position(self, need_text(run, args, 0), false));
}
METHOD(text_rfind) {
    return cohort_jinja_int(run->arena, position(self, need_text(run, args, 0), true));
}
METHOD(text_index) {
    int64_t at = position(self, need_text(run, args, 0), false);
    if (at < 0) cohort_jinja_fail(run->arena, "substring not found");
    return cohort_jinja_int(run->arena, at);
}
METHOD(text_count) {
    const jinja_value *needle = need_text(run, args, 0);
    const char *at = self->string.bytes, *end = at + self->string.size, *found;
    int64_t n = 0;
    if (!needle->string.size)
        return cohort_jinja_int(run->arena,
                                (int64_t)cohort_jinja_n_chars(at, self->string.size) + 1);
    for (; (found = find(at, end, needle)); at = found + needle->string.size)
        n++;
    return cohort_jinja_int(run->arena, n);
}

METHOD(text_join) {
    const jinja_value *of = cohort_jinja_arg(args, 0, NULL);
    if (!of) cohort_jinja_fail(run->arena, "join takes exactly one argument");
    const jinja_value *items = cohort_jinja_elements(run->arena, of);
    jinja_text out = {.arena = run->arena};
    for (size_t i = 0; i < items->list.n; i++) {
        if (items->list.items[i]->kind != JINJA_STRING)
            cohort_jinja_fail(run->arena,
                              "sequence item %zu: expected str instance, %s found", i,
                              cohort_jinja_type_name(items->list.items[i]));
        if (i) cohort_jinja_write(&out, self);
        cohort_jinja_write(&out, items->list.items[i]);
    }
    return cohort_jinja_taken(&out);
}

METHOD(text_zfill) {
    int64_t width = whole_arg(run, args, 0, "width", 0);
    int64_t n = (int64_t)cohort_jinja_n_chars(self->string.bytes, self->string.size);
    jinja_text out = {.arena = run->arena};
    size_t sign = self->string.size && strchr("+-", self->string.bytes[0]) ? 1 : 0;
    cohort_jinja_append(&out, self->string.bytes, sign);
    cohort_jinja_step(run->arena, width > n ? width - n : 0);
    for (; n < width; n++)
        cohort_jinja_append(&out, "0", 1);
    cohort_jinja_append(&out, self->string.bytes + sign, self->string.size - sign);
    return cohort_jinja_taken(&out);
}

/* All characters are of a kind, and there are some. */
static const jinja_value *all_are(const jinja_value *self, bool (*is)(int32_t)) {
    size_t length;
    for (size_t at = 0; at < self->string.size; at += length)
        if (!is(cohort_jinja_char(self->string.bytes + at, self->string.size - at,
                                  &length)))
            return &cohort_jinja_false;
    return cohort_jinja_bool(self->string.size > 0);
}
static bool is_letter(int32_t c) {
    utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}
static bool is_digit(int32_t c) { return utf8proc_category(c) == UTF8PROC_CATEGORY_ND; }
static bool is_letter_or_digit(int32_t c) { return is_letter(c) || is_digit(c); }
METHOD(text_isalpha) { return (void)run, (void)args, all_are(self, is_letter); }
METHOD(text_isdigit) { return (void)run, (void)args, all_are(self, is_digit); }
METHOD(text_isalnum) { return (void)run, (void)args, all_are(self, is_letter_or_digit); }
METHOD(text_isspace) {
    return (void)run, (void)args, all_are(self, cohort_jinja_is_space);
}

static const jinja_value *has_case(jinja_run *run, const jinja_value *self,
                                   jinja_case case_) {
    bool same = cohort_jinja_equal(run->arena, self,
                                   cohort_jinja_recase(run->arena, self, case_));
    jinja_case other = case_ == JINJA_UPPER ? JINJA_LOWER : JINJA_UPPER;
    bool cased = !cohort_jinja_equal(run->arena, self,
                                     cohort_jinja_recase(run->arena, self, other));
    return cohort_jinja_bool(same && cased);
}
METHOD(text_isupper) { return (void)args, has_case(run, self, JINJA_UPPER); }
METHOD(text_islower) { return (void)args, has_case(run, self, JINJA_LOWER); }

/* ---- methods of dicts and lists ------------------------------------------------------
 */

METHOD(dict_items) {
    (void)args;
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, self->dict.n);
    for (size_t i = 0; i < self->dict.n; i++) {
        jinja_value *pair = cohort_jinja_list(run->arena, JINJA_TUPLE, 2);
        pair->list.items[0] = self->dict.pairs[i].key;
        pair->list.items[1] = self->dict.pairs[i].value;
        list->list.items[i] = pair;
    }
    return list;
}
METHOD(dict_keys) { return (void)args, cohort_jinja_elements(run->arena, self); }
METHOD(dict_values) {
    (void)args;
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, self->dict.n);
    for (size_t i = 0; i < self->dict.n; i++)
        list->list.items[i] = self->dict.pairs[i].value;
    return list;
}
METHOD(dict_get) {
    const jinja_value *key = cohort_jinja_arg(args, 0, NULL);
    const jinja_value *otherwise = cohort_jinja_arg(args, 1, "default");
    if (!key) cohort_jinja_fail(run->arena, "get expected at least 1 argument, got 0");
    const jinja_value *value = cohort_jinja_get(run->arena, self, key);
    return value ? value : otherwise ? otherwise : &cohort_jinja_none;
}
METHOD(dict_copy) { return (void)run, (void)args, self; }
METHOD(list_index) {
    const jinja_value *value = cohort_jinja_arg(args, 0, NULL);
    for (size_t i = 0; value && i < self->list.n; i++)
        if (cohort_jinja_equal(run->arena, self->list.items[i], value))
            return cohort_jinja_int(run->arena, (int64_t)i);
    cohort_jinja_fail(run->arena, "the value is not in the list");
}
METHOD(list_count) {
    const jinja_value *value = cohort_jinja_arg(args, 0, NULL);
    int64_t n = 0;
    for (size_t i = 0; value && i < self->list.n; i++)
        n += cohort_jinja_equal(run->arena, self->list.items[i], value);
    return cohort_jinja_int(run->arena, n);
}
_Noreturn static const jinja_value *refuse_change(jinja_run *run, const jinja_value *self,
                                                  const jinja_args *args) {
    (void)args;
    cohort_jinja_fail(run->arena, "a %s cannot be changed; use a namespace",
                      cohort_jinja_type_name(self));
}

jinja_function *cohort_jinja_find_method(const jinja_value *of, const char *name) {
    static const struct {
        jinja_kind kind;
        const char *name;
        jinja_function *function;
    } methods[] = {{JINJA_STRING, "strip", text_strip},
                   {JINJA_STRING, "lstrip", text_lstrip},
                   {JINJA_STRING, "rstrip", text_rstrip},
                   {JINJA_STRING, "upper", text_upper},
                   {JINJA_STRING, "lower", text_lower},
                   {JINJA_STRING, "title", text_title},
                   {JINJA_STRING, "capitalize", text_capitalize},
                   {JINJA_STRING, "split", text_split},
                   {JINJA_STRING, "rsplit", text_rsplit},
                   {JINJA_STRING, "splitlines", text_splitlines},
                   {JINJA_STRING, "startswith", text_startswith},
                   {JINJA_STRING, "endswith", text_endswith},
                   {JINJA_STRING, "removeprefix", text_removeprefix},
                   {JINJA_STRING, "removesuffix", text_removesuffix},
                   {JINJA_STRING, "replace", text_replace},
                   {JINJA_STRING, "find", text_find},
                   {JINJA_STRING, "rfind", text_rfind},
                   {JINJA_STRING, "index", text_index},
                   {JINJA_STRING, "count", text_count},
                   {JINJA_STRING, "join", text_join},
                   {JINJA_STRING, "zfill", text_zfill},
                   {JINJA_STRING, "isalpha", text_isalpha},
                   {JINJA_STRING, "isdigit", text_isdigit},
                   {JINJA_STRING, "isalnum", text_isalnum},
                   {JINJA_STRING, "isspace", text_isspace},
                   {JINJA_STRING, "isupper", text_isupper},
                   {JINJA_STRING, "islower", text_islower},
                   {JINJA_DICT, "items", dict_items},
                   {JINJA_DICT, "keys", dict_keys},
                   {JINJA_DICT, "values", dict_values},
                   {JINJA_DICT, "get", dict_get},
                   {JINJA_DICT, "copy", dict_copy},
                   {JINJA_DICT, "pop", refuse_change},
                   {JINJA_DICT, "update", refuse_change},
                   {JINJA_DICT, "setdefault", refuse_change},
                   {JINJA_DICT, "clear", refuse_change},
                   {JINJA_LIST, "index", list_index},
                   {JINJA_LIST, "count", list_count},
                   {JINJA_LIST, "copy", dict_copy},
                   {JINJA_LIST, "append", refuse_change},
                   {JINJA_LIST, "extend", refuse_change},
                   {JINJA_LIST, "insert", refuse_change},
                   {JINJA_LIST, "pop", refuse_change},
                   {JINJA_LIST, "remove", refuse_change},
                   {JINJA_LIST, "reverse", refuse_change},
                   {JINJA_LIST, "sort", refuse_change},
                   {JINJA_TUPLE, "index", list_index},
                   {JINJA_TUPLE, "count", list_count}};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (methods[i].kind == of->kind && !strcmp(methods[i].name, name))
            return methods[i].function;
    return NULL;
}
