/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/characters.h"

#include <utf8proc.h>

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

size_t cohort_jinja_encode(int32_t c, char *out_bytes) {
    utf8proc_ssize_t n = utf8proc_encode_char(c, (utf8proc_uint8_t *)out_bytes);
    return n > 0 ? (size_t)n : 0;
}

bool cohort_jinja_is_cased(int32_t c) {
    return utf8proc_toupper(c) != c || utf8proc_tolower(c) != c;
}

bool cohort_jinja_is_printable(int32_t character) {
    switch (utf8proc_category(character)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    case UTF8PROC_CATEGORY_ZS: return character == ' ';
    default: return true;
    }
}
