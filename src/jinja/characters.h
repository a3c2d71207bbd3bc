/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/characters.h - characters of UTF-8; places are counted in them, as Python does.
 */
#ifndef COHORT_JINJA_CHARACTERS_H
#define COHORT_JINJA_CHARACTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

size_t cohort_jinja_n_chars(const char *bytes, size_t size);
/* Where character number n begins; size where there are fewer. */
size_t cohort_jinja_char_at(const char *bytes, size_t size, size_t n);
/* The character at a place and its length in bytes. */
int32_t cohort_jinja_char(const char *bytes, size_t size, size_t *out_length);
size_t cohort_jinja_encode(int32_t character, char *out_bytes); /* of 4 */
bool cohort_jinja_is_space(int32_t character);
bool cohort_jinja_is_cased(int32_t character);
bool cohort_jinja_is_printable(int32_t character);

#endif /* COHORT_JINJA_CHARACTERS_H */
