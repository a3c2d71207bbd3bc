/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <utf8proc.h>

#include "grammar/grammar_internal.h"

/* \w, \d and \s: what is of them wherever, and what is of them nowhere. */

static bool is_word_somewhere(uint32_t code) {
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK: return false;
    default: return true; /* an older or newer table may know it */
    }
}

static bool is_digit_somewhere(uint32_t code) {
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NO:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_CN: return true;
    default: return false;
    }
}

static bool is_space_somewhere(uint32_t code) {
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return true;
    default:
        return (code >= 0x09 && code <= 0x0d) || (code >= 0x1c && code <= 0x1f) ||
               code == 0x85 || code == 0xfeff || code == 0x180e;
    }
}

/* Codes that are of a class nowhere, as ranges; found once, a million categories each. */
struct complement {
    bool (*is_in)(uint32_t code);
    pthread_once_t once;
    cohort_code_set set;
    bool has_failed;
};

static struct complement no_word = {.is_in = is_word_somewhere,
                                    .once = PTHREAD_ONCE_INIT};
static struct complement no_digit = {.is_in = is_digit_somewhere,
                                     .once = PTHREAD_ONCE_INIT};
static struct complement no_space = {.is_in = is_space_somewhere,
                                     .once = PTHREAD_ONCE_INIT};

static void find_complement(struct complement *self) {
    cohort_builder builder = {0};
    for (uint32_t code = 0, first; code <= 0x10ffff; code++) {
        if (self->is_in(code)) continue;
        first = code;
        while (code < 0x10ffff && !self->is_in(code + 1))
            code++;
        cohort_code_set_add(&builder, &self->set, first, code);
    }
    self->has_failed = builder.status < 0;
}

static void find_no_word(void) { find_complement(&no_word); }
static void find_no_digit(void) { find_complement(&no_digit); }
static void find_no_space(void) { find_complement(&no_space); }

void cohort_regex_add_outside(cohort_builder *builder, char letter,
                              cohort_code_set *set) {
    struct complement *found = letter == 'w'   ? &no_word
                               : letter == 'd' ? &no_digit
                                               : &no_space;
    pthread_once(&found->once, letter == 'w'   ? find_no_word
                               : letter == 'd' ? find_no_digit
                                               : find_no_space);
    if (found->has_failed)
        COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "a class of characters");
    for (size_t i = 0; i < found->set.count; i++)
        cohort_code_set_add(builder, set, found->set.items[i].first,
                            found->set.items[i].last);
}

void cohort_regex_add_narrow(cohort_builder *builder, char letter, cohort_code_set *set) {
    if (letter == 's') {
        cohort_code_set_add(builder, set, 0x09, 0x0d);
        cohort_code_set_add(builder, set, ' ', ' ');
        return;
    }
    cohort_code_set_add(builder, set, '0', '9');
    if (letter == 'd') return;
    cohort_code_set_add(builder, set, 'a', 'z');
    cohort_code_set_add(builder, set, 'A', 'Z');
    cohort_code_set_add(builder, set, '_', '_');
}
