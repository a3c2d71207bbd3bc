/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/methods.h"

#include <string.h>
#include <utf8proc.h>

#include "jinja/arguments.h"
#include "jinja/characters.h"
#include "jinja/format.h"
#include "jinja/scope.h"
#include "jinja/text.h"
#include "jinja/write.h"

/* Methods of strings, dicts and lists, by Python's names.  What each takes is in the
 * table at the end: arguments arrive by position, NULL where they were not given. */

#define METHOD(name)                                                        \
    static const jinja_value *name(jinja_run *run, const jinja_value *self, \
                                   const jinja_args *args)

typedef struct parts {
    jinja_arena *arena;
    const jinja_value **items;
    size_t n, capacity;
} parts;

static void add_part(parts *self, const char *begin, const char *end) {
    self->items = cohort_jinja_grow(self->arena, self->items, self->n, &self->capacity,
                                    sizeof *self->items);
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
    cohort_jinja_look_chars(arena, string->string.size);
    for (;;) {
        while (at < end && space_at(at, end, &length))
            at += length;
        if (at == end) return list_of(&out);
        const char *begin = at;
        if (most == 0) {
            add_part(&out, at, end);
            return list_of(&out);
        }
        if (most > 0) most--; /* less than 0: no end */
        while (at < end && !space_at(at, end, &length))
            at += length;
        add_part(&out, begin, at);
    }
}

static const jinja_value *split(jinja_arena *arena, const jinja_value *string,
                                const jinja_value *separator, int64_t most) {
    parts out = {.arena = arena};
    const char *at = string->string.bytes, *end = at + string->string.size, *found;
    while (most != 0 && (found = cohort_jinja_seek(at, end, separator))) {
        add_part(&out, at, found);
        at = found + separator->string.size;
        if (most > 0) most--;
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

/* From the right, at white space. */
static const jinja_value *split_at_last_spaces(jinja_arena *arena,
                                               const jinja_value *string, int64_t most) {
    const jinja_value *all = split_at_spaces(arena, string, -1);
    size_t n = all->list.n;
    if (most < 0 || n <= (size_t)most) return all;
    const char *begin = string->string.bytes, *end = begin + string->string.size;
    size_t kept = n - (size_t)most;
    const char *at = begin;
    for (size_t i = 0; i < kept; i++) { /* to the end of the words that stay together */
        const jinja_value *word = all->list.items[i];
        at = cohort_jinja_seek(at, end, word) + word->string.size;
    }
    parts out = {.arena = arena};
    add_part(&out, begin, at);
    for (size_t i = kept; i < n; i++)
        add_part(&out, all->list.items[i]->string.bytes,
                 all->list.items[i]->string.bytes + all->list.items[i]->string.size);
    return list_of(&out);
}

/* ---- arguments --------------------------------------------------------------------- */

/* A string; NULL where it was not given, or is None. */
static const jinja_value *text_arg(jinja_run *run, const jinja_args *args, size_t index) {
    const jinja_value *value = args->values[index];
    if (!value || value->kind == JINJA_NONE) return NULL;
    if (value->kind != JINJA_STRING)
        cohort_jinja_fail(run->arena, "a string is required, not %s",
                          cohort_jinja_type_name(value));
    return value;
}

static const jinja_value *need_text(jinja_run *run, const jinja_args *args,
                                    size_t index) {
    const jinja_value *value = text_arg(run, args, index);
    if (!value) cohort_jinja_fail(run->arena, "a string is required, not NoneType");
    return value;
}

/* A place among n; as Python's slices have it, None and all. */
static int64_t place_arg(jinja_run *run, const jinja_args *args, size_t index, int64_t n,
                         int64_t otherwise) {
    const jinja_value *value = args->values[index];
    if (!value || value->kind == JINJA_NONE) return otherwise;
    int64_t place = cohort_jinja_need_whole(run, value);
    if (place < 0) place = place < -n ? 0 : place + n;
    return place;
}

/* ---- methods of strings ------------------------------------------------------------ */

METHOD(text_strip) {
    return cohort_jinja_strip(run->arena, self, text_arg(run, args, 0), true, true);
}
METHOD(text_lstrip) {
    return cohort_jinja_strip(run->arena, self, text_arg(run, args, 0), true, false);
}
METHOD(text_rstrip) {
    return cohort_jinja_strip(run->arena, self, text_arg(run, args, 0), false, true);
}

#define RECASED(name, to)                                 \
    METHOD(name) {                                        \
        (void)args;                                       \
        return cohort_jinja_recase(run->arena, self, to); \
    }
RECASED(text_upper, JINJA_UPPER)
RECASED(text_lower, JINJA_LOWER)
RECASED(text_title, JINJA_TITLE)
RECASED(text_capitalize, JINJA_CAPITALIZE)
RECASED(text_swapcase, JINJA_SWAP)
RECASED(text_casefold, JINJA_FOLD)

static const jinja_value *any_split(jinja_run *run, const jinja_value *self,
                                    const jinja_args *args, bool from_right) {
    const jinja_value *separator = text_arg(run, args, 0);
    int64_t most = cohort_jinja_whole_arg(run, args, 1, -1);
    if (!separator)
        return from_right ? split_at_last_spaces(run->arena, self, most)
                          : split_at_spaces(run->arena, self, most);
    if (!separator->string.size) cohort_jinja_fail(run->arena, "empty separator");
    return from_right ? split_from_right(run->arena, self, separator, most)
                      : split(run->arena, self, separator, most);
}
METHOD(text_split) { return any_split(run, self, args, false); }
METHOD(text_rsplit) { return any_split(run, self, args, true); }

METHOD(text_splitlines) {
    parts out = {.arena = run->arena};
    const jinja_value *keep = args->values[0];
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

/* What of a text a search looks at. */
typedef struct window {
    const char *begin, *end;
    int64_t first; /* the character that begins it */
} window;

/* False: not even nothing is in it. */
static bool window_of(jinja_run *run, const jinja_value *self, const jinja_args *args,
                      window *out) {
    const char *bytes = self->string.bytes;
    size_t size = self->string.size;
    *out = (window){.begin = bytes, .end = bytes + size};
    if (!args->values[1] && !args->values[2]) return true;
    cohort_jinja_look_chars(run->arena, size);
    int64_t n = (int64_t)cohort_jinja_n_chars(bytes, size);
    int64_t end = place_arg(run, args, 2, n, n);
    if (end > n) end = n;
    out->first = place_arg(run, args, 1, n, 0);
    if (out->first > end) return false;
    out->begin += cohort_jinja_char_at(bytes, size, (size_t)out->first);
    out->end = bytes + cohort_jinja_char_at(bytes, size, (size_t)end);
    return true;
}

static bool has_affix(jinja_run *run, const window *in, const jinja_value *affix,
                      bool at_end) {
    size_t n = affix->string.size, size = (size_t)(in->end - in->begin);
    cohort_jinja_look(run->arena, n);
    return n <= size && !memcmp(at_end ? in->end - n : in->begin, affix->string.bytes, n);
}

static const jinja_value *test_affix(jinja_run *run, const jinja_value *self,
                                     const jinja_args *args, bool at_end) {
    const jinja_value *affix = args->values[0];
    window in;
    bool is_within = window_of(run, self, args, &in);
    if (affix->kind != JINJA_TUPLE) {
        need_text(run, args, 0);
        return cohort_jinja_bool(is_within && has_affix(run, &in, affix, at_end));
    }
    for (size_t i = 0; i < affix->list.n; i++) {
        if (affix->list.items[i]->kind != JINJA_STRING)
            cohort_jinja_fail(run->arena, "a tuple of strings is required, not of %s",
                              cohort_jinja_type_name(affix->list.items[i]));
        if (is_within && has_affix(run, &in, affix->list.items[i], at_end))
            return &cohort_jinja_true;
    }
    return &cohort_jinja_false;
}
METHOD(text_startswith) { return test_affix(run, self, args, false); }
METHOD(text_endswith) { return test_affix(run, self, args, true); }

static window all_of(const jinja_value *self) {
    return (window){self->string.bytes, self->string.bytes + self->string.size, 0};
}
METHOD(text_removeprefix) {
    const jinja_value *affix = need_text(run, args, 0);
    window in = all_of(self);
    size_t n = has_affix(run, &in, affix, false) ? affix->string.size : 0;
    return cohort_jinja_string(run->arena, in.begin + n, self->string.size - n);
}
METHOD(text_removesuffix) {
    const jinja_value *affix = need_text(run, args, 0);
    window in = all_of(self);
    size_t n = has_affix(run, &in, affix, true) ? affix->string.size : 0;
    return cohort_jinja_string(run->arena, in.begin, self->string.size - n);
}

METHOD(text_replace) {
    const jinja_value *from = need_text(run, args, 0), *to = need_text(run, args, 1);
    if (self->string.is_markup) to = cohort_jinja_escaped(run->arena, to);
    return cohort_jinja_replace(run->arena, self, from, to,
                                cohort_jinja_whole_arg(run, args, 2, -1));
}

/* The last place of a needle, or NULL. */
static const char *seek_last(jinja_run *run, const window *in,
                             const jinja_value *needle) {
    size_t n = needle->string.size;
    if ((size_t)(in->end - in->begin) < n) return NULL;
    for (const char *at = in->end - n; at >= in->begin; at--) {
        if (!memcmp(at, needle->string.bytes, n)) return at;
        cohort_jinja_step(run->arena, 1);
        cohort_jinja_look(run->arena, n);
    }
    return NULL;
}

/* In characters; -1 where it is not. */
static int64_t position(jinja_run *run, const jinja_value *self, const jinja_args *args,
                        bool from_right) {
    const jinja_value *needle = need_text(run, args, 0);
    window in;
    if (!window_of(run, self, args, &in)) return -1;
    cohort_jinja_look_chars(run->arena, self->string.size);
    const char *found = from_right ? seek_last(run, &in, needle)
                                   : cohort_jinja_seek(in.begin, in.end, needle);
    if (!found) return -1;
    return in.first + (int64_t)cohort_jinja_n_chars(in.begin, (size_t)(found - in.begin));
}

static const jinja_value *found_at(jinja_run *run, int64_t at, bool must_be) {
    if (at < 0 && must_be) cohort_jinja_fail(run->arena, "substring not found");
    return cohort_jinja_int(run->arena, at);
}
METHOD(text_find) { return found_at(run, position(run, self, args, false), false); }
METHOD(text_rfind) { return found_at(run, position(run, self, args, true), false); }
METHOD(text_index) { return found_at(run, position(run, self, args, false), true); }
METHOD(text_rindex) { return found_at(run, position(run, self, args, true), true); }

METHOD(text_count) {
    const jinja_value *needle = need_text(run, args, 0);
    const char *found;
    window in;
    int64_t n = 0;
    if (!window_of(run, self, args, &in)) return cohort_jinja_int(run->arena, 0);
    cohort_jinja_look_chars(run->arena, self->string.size);
    if (!needle->string.size)
        return cohort_jinja_int(
            run->arena,
            (int64_t)cohort_jinja_n_chars(in.begin, (size_t)(in.end - in.begin)) + 1);
    for (; (found = cohort_jinja_seek(in.begin, in.end, needle)); n++)
        in.begin = found + needle->string.size;
    return cohort_jinja_int(run->arena, n);
}

/* (before, separator, behind); where is NULL: all of it and two empty strings. */
static const jinja_value *parted(jinja_run *run, const jinja_value *self,
                                 const jinja_value *separator, const char *where,
                                 bool from_right) {
    const char *begin = self->string.bytes, *end = begin + self->string.size;
    size_t length = where ? separator->string.size : 0;
    if (!where) where = from_right ? begin : end;
    jinja_value *three = cohort_jinja_list(run->arena, JINJA_TUPLE, 3);
    const char *const cuts[] = {begin, where, where + length, end};
    for (size_t i = 0; i < 3; i++)
        three->list.items[i] = cohort_jinja_like(
            run->arena, self,
            cohort_jinja_string(run->arena, cuts[i], (size_t)(cuts[i + 1] - cuts[i])));
    return three;
}
static const jinja_value *partition(jinja_run *run, const jinja_value *self,
                                    const jinja_args *args, bool from_right) {
    const jinja_value *separator = need_text(run, args, 0);
    window in = all_of(self);
    if (!separator->string.size) cohort_jinja_fail(run->arena, "empty separator");
    cohort_jinja_look(run->arena, self->string.size);
    return parted(run, self, separator,
                  from_right ? seek_last(run, &in, separator)
                             : cohort_jinja_seek(in.begin, in.end, separator),
                  from_right);
}
METHOD(text_partition) { return partition(run, self, args, false); }
METHOD(text_rpartition) { return partition(run, self, args, true); }

METHOD(text_join) {
    const jinja_value *of = args->values[0];
    const jinja_value *items = cohort_jinja_elements(run->arena, of);
    jinja_text out = {.arena = run->arena};
    for (size_t i = 0; i < items->list.n; i++) {
        const jinja_value *item = items->list.items[i];
        if (self->string.is_markup) item = cohort_jinja_escaped(run->arena, item);
        if (item->kind != JINJA_STRING)
            cohort_jinja_fail(run->arena,
                              "sequence item %zu: expected str instance, %s found", i,
                              cohort_jinja_type_name(item));
        if (i) cohort_jinja_write(&out, self);
        cohort_jinja_write(&out, item);
    }
    return cohort_jinja_taken(&out);
}

METHOD(text_format) { return cohort_jinja_format_fields(run, self, args); }

/* Blanks, or others, that make it as wide as is asked. */
static const jinja_value *padded(jinja_run *run, const jinja_value *self, int64_t left,
                                 int64_t right, int32_t fill) {
    jinja_text out = {.arena = run->arena};
    cohort_jinja_pad(&out, fill, left);
    cohort_jinja_append(&out, self->string.bytes, self->string.size);
    cohort_jinja_pad(&out, fill, right);
    return cohort_jinja_taken(&out);
}

static int64_t lacking(jinja_run *run, const jinja_value *self, int64_t width) {
    cohort_jinja_look_chars(run->arena, self->string.size);
    int64_t n = (int64_t)cohort_jinja_n_chars(self->string.bytes, self->string.size);
    return width > n ? width - n : 0;
}

static int32_t fill_arg(jinja_run *run, const jinja_args *args) {
    size_t length = 0;
    if (!args->values[1]) return ' ';
    const jinja_value *fill = need_text(run, args, 1);
    int32_t c = cohort_jinja_char(fill->string.bytes, fill->string.size, &length);
    if (!fill->string.size || length != fill->string.size)
        cohort_jinja_fail(run->arena,
                          "The fill character must be exactly one character long");
    return c;
}

METHOD(text_ljust) {
    int64_t n = lacking(run, self, cohort_jinja_whole_arg(run, args, 0, 0));
    return padded(run, self, 0, n, fill_arg(run, args));
}
METHOD(text_rjust) {
    int64_t n = lacking(run, self, cohort_jinja_whole_arg(run, args, 0, 0));
    return padded(run, self, n, 0, fill_arg(run, args));
}
METHOD(text_center) {
    int64_t width = cohort_jinja_whole_arg(run, args, 0, 0),
            n = lacking(run, self, width);
    int64_t left = n / 2 + (n & width & 1); /* as Python halves what is odd */
    return padded(run, self, left, n - left, fill_arg(run, args));
}

METHOD(text_zfill) {
    int64_t n = lacking(run, self, cohort_jinja_whole_arg(run, args, 0, 0));
    jinja_text out = {.arena = run->arena};
    size_t sign = self->string.size && strchr("+-", self->string.bytes[0]) ? 1 : 0;
    cohort_jinja_append(&out, self->string.bytes, sign);
    cohort_jinja_pad(&out, '0', n);
    cohort_jinja_append(&out, self->string.bytes + sign, self->string.size - sign);
    return cohort_jinja_taken(&out);
}

METHOD(text_expandtabs) {
    int64_t every = cohort_jinja_whole_arg(run, args, 0, 8), column = 0;
    jinja_text out = {.arena = run->arena};
    size_t length;
    cohort_jinja_look_chars(run->arena, self->string.size);
    for (size_t at = 0; at < self->string.size; at += length) {
        const char *byte = self->string.bytes + at;
        int32_t c = cohort_jinja_char(byte, self->string.size - at, &length);
        if (c == '\t') {
            int64_t n = every > 0 ? every - column % every : 0;
            cohort_jinja_pad(&out, ' ', n);
            column += n;
            continue;
        }
        cohort_jinja_append(&out, byte, length);
        column = c == '\n' || c == '\r' ? 0 : column + 1;
    }
    return cohort_jinja_taken(&out);
}

/* ---- kinds of characters ----------------------------------------------------------- */

/* All characters are of a kind; of none: as it says. */
static const jinja_value *all_are(jinja_run *run, const jinja_value *self,
                                  bool (*is)(int32_t), bool if_empty) {
    size_t length;
    cohort_jinja_look_chars(run->arena, self->string.size);
    for (size_t at = 0; at < self->string.size; at += length)
        if (!is(cohort_jinja_char(self->string.bytes + at, self->string.size - at,
                                  &length)))
            return &cohort_jinja_false;
    return cohort_jinja_bool(self->string.size > 0 || if_empty);
}
static bool is_letter(int32_t c) {
    utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}
static bool is_decimal(int32_t c) { return utf8proc_category(c) == UTF8PROC_CATEGORY_ND; }
/* Superscripts and subscripts, and digits in circles and the like. */
static bool is_digit(int32_t c) {
    return is_decimal(c) || c == 0xb2 || c == 0xb3 || c == 0xb9 || c == 0x2070 ||
           (c >= 0x2074 && c <= 0x2079) || (c >= 0x2080 && c <= 0x2089) ||
           (c >= 0x2460 && c <= 0x2468) || (c >= 0x2474 && c <= 0x247c) ||
           (c >= 0x2488 && c <= 0x2490);
}
/* Ideographs that are numbers are letters here. */
static bool is_numeric(int32_t c) {
    utf8proc_category_t category = utf8proc_category(c);
    return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
           category == UTF8PROC_CATEGORY_NO;
}
static bool is_ascii(int32_t c) { return c < 0x80; }

bool cohort_jinja_is_alnum(int32_t c) { return is_letter(c) || is_numeric(c); }

#define ALL_ARE(name, is, if_empty) \
    METHOD(name) { return (void)args, all_are(run, self, is, if_empty); }
ALL_ARE(text_isalpha, is_letter, false)
ALL_ARE(text_isdecimal, is_decimal, false)
ALL_ARE(text_isdigit, is_digit, false)
ALL_ARE(text_isnumeric, is_numeric, false)
ALL_ARE(text_isalnum, cohort_jinja_is_alnum, false)
ALL_ARE(text_isspace, cohort_jinja_is_space, false)
ALL_ARE(text_isprintable, cohort_jinja_is_printable, true)
ALL_ARE(text_isascii, is_ascii, true)

static const jinja_value *has_case(jinja_run *run, const jinja_value *self,
                                   jinja_case case_, jinja_case other) {
    bool same = cohort_jinja_equal(run->arena, self,
                                   cohort_jinja_recase(run->arena, self, case_));
    bool cased = !cohort_jinja_equal(run->arena, self,
                                     cohort_jinja_recase(run->arena, self, other));
    return cohort_jinja_bool(same && cased);
}
METHOD(text_isupper) { return (void)args, has_case(run, self, JINJA_UPPER, JINJA_LOWER); }
METHOD(text_islower) { return (void)args, has_case(run, self, JINJA_LOWER, JINJA_UPPER); }
METHOD(text_istitle) { return (void)args, has_case(run, self, JINJA_TITLE, JINJA_SWAP); }

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
    cohort_jinja_need_hashable(run->arena, args->values[0]);
    const jinja_value *value = cohort_jinja_get(run->arena, self, args->values[0]);
    return value ? value : args->values[1] ? args->values[1] : &cohort_jinja_none;
}
METHOD(same_copy) { return (void)run, (void)args, self; } /* nobody can change either */
METHOD(list_index) {
    int64_t n = (int64_t)self->list.n, end = place_arg(run, args, 2, n, n);
    for (int64_t i = place_arg(run, args, 1, n, 0); i < n && i < end; i++)
        if (cohort_jinja_equal(run->arena, self->list.items[i], args->values[0]))
            return cohort_jinja_int(run->arena, i);
    cohort_jinja_fail(run->arena, "the value is not in the list");
}
METHOD(list_count) {
    int64_t n = 0;
    for (size_t i = 0; i < self->list.n; i++)
        n += cohort_jinja_equal(run->arena, self->list.items[i], args->values[0]);
    return cohort_jinja_int(run->arena, n);
}
_Noreturn static const jinja_value *refuse_change(jinja_run *run, const jinja_value *self,
                                                  const jinja_args *args) {
    (void)args;
    cohort_jinja_fail(run->arena, "a %s cannot be changed; use a namespace",
                      cohort_jinja_type_name(self));
}

/* ---- the table --------------------------------------------------------------------- */

#define WINDOW "start? end? /"

static const struct {
    jinja_kind kind;
    jinja_builtin builtin;
} methods[] = {{JINJA_STRING, {"strip", "chars? /", text_strip}},
               {JINJA_STRING, {"lstrip", "chars? /", text_lstrip}},
               {JINJA_STRING, {"rstrip", "chars? /", text_rstrip}},
               {JINJA_STRING, {"upper", "", text_upper}},
               {JINJA_STRING, {"lower", "", text_lower}},
               {JINJA_STRING, {"title", "", text_title}},
               {JINJA_STRING, {"capitalize", "", text_capitalize}},
               {JINJA_STRING, {"swapcase", "", text_swapcase}},
               {JINJA_STRING, {"casefold", "", text_casefold}},
               {JINJA_STRING, {"split", "sep? maxsplit?", text_split}},
               {JINJA_STRING, {"rsplit", "sep? maxsplit?", text_rsplit}},
               {JINJA_STRING, {"splitlines", "keepends?", text_splitlines}},
               {JINJA_STRING, {"partition", "sep /", text_partition}},
               {JINJA_STRING, {"rpartition", "sep /", text_rpartition}},
               {JINJA_STRING, {"startswith", "prefix " WINDOW, text_startswith}},
               {JINJA_STRING, {"endswith", "suffix " WINDOW, text_endswith}},
               {JINJA_STRING, {"removeprefix", "prefix /", text_removeprefix}},
               {JINJA_STRING, {"removesuffix", "suffix /", text_removesuffix}},
               {JINJA_STRING, {"replace", "old new count? /", text_replace}},
               {JINJA_STRING, {"find", "sub " WINDOW, text_find}},
               {JINJA_STRING, {"rfind", "sub " WINDOW, text_rfind}},
               {JINJA_STRING, {"index", "sub " WINDOW, text_index}},
               {JINJA_STRING, {"rindex", "sub " WINDOW, text_rindex}},
               {JINJA_STRING, {"count", "sub " WINDOW, text_count}},
               {JINJA_STRING, {"join", "iterable /", text_join}},
               {JINJA_STRING, {"format", "**", text_format}},
               {JINJA_STRING, {"ljust", "width fillchar? /", text_ljust}},
               {JINJA_STRING, {"rjust", "width fillchar? /", text_rjust}},
               {JINJA_STRING, {"center", "width fillchar? /", text_center}},
               {JINJA_STRING, {"zfill", "width /", text_zfill}},
               {JINJA_STRING, {"expandtabs", "tabsize?", text_expandtabs}},
               {JINJA_STRING, {"isalpha", "", text_isalpha}},
               {JINJA_STRING, {"isdecimal", "", text_isdecimal}},
               {JINJA_STRING, {"isdigit", "", text_isdigit}},
               {JINJA_STRING, {"isnumeric", "", text_isnumeric}},
               {JINJA_STRING, {"isalnum", "", text_isalnum}},
               {JINJA_STRING, {"isspace", "", text_isspace}},
               {JINJA_STRING, {"isprintable", "", text_isprintable}},
               {JINJA_STRING, {"isascii", "", text_isascii}},
               {JINJA_STRING, {"isupper", "", text_isupper}},
               {JINJA_STRING, {"islower", "", text_islower}},
               {JINJA_STRING, {"istitle", "", text_istitle}},
               {JINJA_DICT, {"items", "", dict_items}},
               {JINJA_DICT, {"keys", "", dict_keys}},
               {JINJA_DICT, {"values", "", dict_values}},
               {JINJA_DICT, {"get", "key default? /", dict_get}},
               {JINJA_DICT, {"copy", "", same_copy}},
               {JINJA_DICT, {"pop", "**", refuse_change}},
               {JINJA_DICT, {"popitem", "**", refuse_change}},
               {JINJA_DICT, {"update", "**", refuse_change}},
               {JINJA_DICT, {"setdefault", "**", refuse_change}},
               {JINJA_DICT, {"clear", "**", refuse_change}},
               {JINJA_LIST, {"index", "value start? stop? /", list_index}},
               {JINJA_LIST, {"count", "value /", list_count}},
               {JINJA_LIST, {"copy", "", same_copy}},
               {JINJA_LIST, {"append", "**", refuse_change}},
               {JINJA_LIST, {"extend", "**", refuse_change}},
               {JINJA_LIST, {"insert", "**", refuse_change}},
               {JINJA_LIST, {"pop", "**", refuse_change}},
               {JINJA_LIST, {"remove", "**", refuse_change}},
               {JINJA_LIST, {"reverse", "**", refuse_change}},
               {JINJA_LIST, {"sort", "**", refuse_change}},
               {JINJA_LIST, {"clear", "**", refuse_change}},
               {JINJA_TUPLE, {"index", "value start? stop? /", list_index}},
               {JINJA_TUPLE, {"count", "value /", list_count}}};

const jinja_builtin *cohort_jinja_find_method(const jinja_value *of, const char *name) {
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (methods[i].kind == of->kind && !strcmp(methods[i].builtin.name, name))
            return &methods[i].builtin;
    return NULL;
}

const jinja_value *cohort_jinja_by_method(jinja_run *run, const jinja_value *value,
                                          const char *name, const jinja_args *args) {
    const jinja_value *text = cohort_jinja_to_string(run->arena, value);
    const jinja_builtin *method = cohort_jinja_find_method(text, name);
    return cohort_jinja_like(run->arena, value, method->function(run, text, args));
}
