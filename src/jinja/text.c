/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/text.h"

#include <string.h>
#include <utf8proc.h>

#include "jinja/characters.h"
#include "jinja/write.h"

/* Strings, character by character. */

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
    size_t each = chars ? chars->string.size + 1 : 1;
    while (left && begin < end &&
           is_in(cohort_jinja_char(bytes + begin, end - begin, &length), chars)) {
        begin += length;
        cohort_jinja_step(arena, 1);
        cohort_jinja_look_chars(arena, each);
    }
    while (right && begin < end) {
        cohort_jinja_step(arena, 1);
        cohort_jinja_look_chars(arena, each);
        size_t at = begin + last_char(bytes + begin, end - begin);
        if (!is_in(cohort_jinja_char(bytes + at, end - at, &length), chars)) break;
        end = at;
    }
    return cohort_jinja_string(arena, bytes + begin, end - begin);
}

static void append_char(jinja_text *out, int32_t c) {
    char bytes[4];
    cohort_jinja_append(out, bytes, cohort_jinja_encode(c, bytes));
}

/* One character of a word, where that has begun, or is to. */
static void append_recased(jinja_text *out, int32_t c, jinja_case to, bool begins) {
    utf8proc_int32_t folded[8];
    int bound = 0;
    bool upper = to == JINJA_UPPER ||
                 (begins && (to == JINJA_TITLE || to == JINJA_CAPITALIZE)) ||
                 (to == JINJA_SWAP && (c == 0xdf || utf8proc_toupper(c) != c));
    if (to == JINJA_FOLD) {
        utf8proc_ssize_t n =
            utf8proc_decompose_char(c, folded, 8, UTF8PROC_CASEFOLD, &bound);
        for (utf8proc_ssize_t i = 0; i < n && i < 8; i++)
            append_char(out, folded[i]);
    } else if (upper && c == 0xdf) {
        cohort_jinja_append(out, to == JINJA_UPPER || to == JINJA_SWAP ? "SS" : "Ss", 2);
    } else {
        append_char(out, !upper                                  ? utf8proc_tolower(c)
                         : to == JINJA_UPPER || to == JINJA_SWAP ? utf8proc_toupper(c)
                                                                 : utf8proc_totitle(c));
    }
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
        append_recased(&out, c, to, begins);
        begins = to == JINJA_TITLE && !cohort_jinja_is_cased(c);
    }
    return cohort_jinja_taken(&out);
}

const jinja_value *cohort_jinja_escaped(jinja_arena *arena, const jinja_value *value) {
    static const char signs[] = "&<>'\"";
    static const char *const names[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    const jinja_value *text = cohort_jinja_to_string(arena, value);
    if (text->string.is_markup) return text;
    jinja_text out = {.arena = arena};
    for (size_t i = 0; i < text->string.size; i++) {
        char c = text->string.bytes[i];
        const char *found = c ? strchr(signs, c) : NULL;
        if (found)
            cohort_jinja_print(&out, "%s", names[found - signs]);
        else
            cohort_jinja_append(&out, &c, 1);
    }
    return cohort_jinja_marked(arena, cohort_jinja_taken(&out));
}

const jinja_value *cohort_jinja_replace(jinja_arena *arena, const jinja_value *string,
                                        const jinja_value *from, const jinja_value *to,
                                        int64_t count) {
    jinja_text out = {.arena = arena};
    const char *at = string->string.bytes, *end = at + string->string.size, *found;
    bool everywhere = from->string.size == 0; /* before each character, and at the end */
    cohort_jinja_step(arena, (int64_t)string->string.size);
    while (count != 0 && at <= end && (found = cohort_jinja_seek(at, end, from))) {
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
