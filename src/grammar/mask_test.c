/* SPDX-License-Identifier: Apache-2.0 */
/* Masks, with all their shortcuts, beside bytes that are accepted one by one: random
 * grammars over a random vocabulary that is cut where it hurts, inside characters,
 * escapes and runs of spaces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "cohort/status.h"
#include "grammar/grammar.h"

enum {
    N_BYTES = 256,
    N_TOKENS = 900,
    N_GRAMMARS = 150,
    N_WIDE_GRAMMARS = 20,
    N_STEPS = 14,
    MAX_TEXT = 1024
};

static const uint64_t seed = 7;
static uint64_t n_draws;
static cohort_tokenizer *tokenizer;
static cohort_vocabulary *vocabulary;
static char words[N_TOKENS][64];

static uint64_t draw(uint64_t below) {
    return cohort_random_u64(seed, n_draws++) % below;
}

/* ---- a vocabulary ------------------------------------------------------------------ */

static const char *const pieces[] = {
    "\"",      "\"",   "\"",  "\\",       "\\\"",     "\\u",
    "\\ud83d", "d",    "de",  "00",       "8",        "a",
    "b",       "Zu",   "the", "\n",       " ",        "        ",
    "\xc3",    "\xa4", ",",   ":",        "{",        "}",
    "[",       "]",    "-",   "\xf0\x9f", "\x98\x80", "\xe2\x82\xac",
    "0",       "12",   ".",   "e",        "true",     "null",
    "{\""};

/* As byte-level tokenizers write it: every byte as a character that can be seen. */
static void write_byte(FILE *out, unsigned byte) {
    unsigned n_unseen = 0;
    for (unsigned i = 0; i <= byte; i++) {
        bool is_seen = (i > 0x20 && i < 0x7f) || (i > 0xa0 && i != 0xad);
        if (i == byte) fprintf(out, "\\u%04x", is_seen ? byte : 256 + n_unseen);
        n_unseen += !is_seen;
    }
}

static bool is_known(const char *word, int32_t count) {
    for (int32_t i = 1; i < count; i++)
        if (!strcmp(words[i], word)) return true;
    return false;
}

static void draw_word(int32_t token) {
    char *word = words[token];
    do {
        word[0] = '\0';
        for (uint64_t n = 1 + draw(5); n > 0; n--)
            strcat(word, pieces[draw(sizeof pieces / sizeof *pieces)]);
    } while (is_known(word, token));
}

static int open_vocabulary(void **state) {
    (void)state;
    char *json;
    size_t size;
    FILE *out = open_memstream(&json, &size);
    if (!out) return 1;
    fprintf(out, "{\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{");
    for (int32_t token = 0; token < N_TOKENS; token++) {
        if (token < N_BYTES)
            words[token][0] = (char)token;
        else
            draw_word(token);
        if (token == N_TOKENS - 1) strcpy(words[token], "[[[");
        fprintf(out, "%s\"", token ? "," : "");
        size_t length = token ? strlen(words[token]) : 1;
        for (size_t i = 0; i < length; i++)
            write_byte(out, (unsigned char)words[token][i]);
        fprintf(out, "\":%d", token);
    }
    fprintf(out,
            "}},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
            "\"use_regex\":true},\"decoder\":{\"type\":\"ByteLevel\"}}");
    fclose(out);
    bool fine = cohort_tokenizer_parse(json, size, "random", &tokenizer) == COHORT_OK &&
                cohort_vocabulary_create(tokenizer, &vocabulary) == COHORT_OK;
    if (!fine) fprintf(stderr, "%s\n", cohort_last_error()->message);
    free(json);
    return !fine;
}

static int close_vocabulary(void **state) {
    (void)state;
    cohort_vocabulary_destroy(vocabulary);
    cohort_tokenizer_close(tokenizer);
    return 0;
}

/* ---- grammars ---------------------------------------------------------------------- */

static void write_regex(FILE *out, bool in_json) {
    static const char *const atoms[] = {"[a-z ]", "[^a]",        "the",   "(Zu|\xc3\xa4)",
                                        ".",      "[0-9a-fA-F]", "\\\\d", "(de|[b-f]e)"};
    for (uint64_t n = 1 + draw(3); n > 0; n--) {
        const char *atom = atoms[draw(sizeof atoms / sizeof *atoms)];
        fputs(atom[0] == '\\' && !in_json ? atom + 1 : atom, out);
        uint64_t least = draw(6);
        if (draw(3) == 0)
            fputs(draw(2) ? "*" : "+", out);
        else
            fprintf(out, "{%d,%d}", (int)least, (int)(least + draw(12)));
    }
}

static void write_schema(FILE *out, int depth) {
    uint64_t least = draw(5);
    switch (draw(depth > 0 ? 7 : 4)) {
    case 0:
    case 1:
        least = draw(14);
        fprintf(out, "{\"type\":\"string\",\"minLength\":%d", (int)least);
        if (draw(4)) fprintf(out, ",\"maxLength\":%d", (int)(least + draw(50)));
        fputs("}", out);
        break;
    case 2:
        fprintf(out, "{\"type\":\"%s\",\"minimum\":-3,\"maximum\":%d}",
                draw(2) ? "integer" : "number", (int)draw(3000));
        break;
    case 3:
        fputs("{\"type\":\"string\",\"pattern\":\"^", out);
        write_regex(out, true);
        fputs("$\"}", out);
        break;
    case 4:
        fprintf(out, "{\"type\":\"array\",\"minItems\":%d,\"items\":", (int)least);
        write_schema(out, depth - 1);
        fputs("}", out);
        break;
    case 5:
        fputs("{\"anyOf\":[", out);
        write_schema(out, depth - 1);
        fputs(",{\"enum\":[\"the\",\"b\\\"\",null,12]}]}", out);
        break;
    default:
        fputs("{\"type\":\"object\",\"properties\":{\"the\":", out);
        write_schema(out, depth - 1);
        fputs(",\"b\":", out);
        write_schema(out, depth - 1);
        fprintf(out, "},\"required\":[%s],\"additionalProperties\":%s}",
                draw(2) ? "\"b\"" : "", draw(3) ? "false" : "true");
    }
}

/* Readings that go side by side: objects that begin alike, by the hundred. */
static void write_wide_schema(FILE *out) {
    static const char *const parts[] = {"a", "b", "d", "de", "e", "the", "Zu", "0", "8"};
    enum { N_PARTS = sizeof parts / sizeof *parts };
    bool are_alike = draw(4) == 0;
    uint64_t n = 60 + draw(71);
    fputs("{\"anyOf\":[", out);
    for (uint64_t i = 0; i < n; i++) {
        const char *name[2] = {parts[are_alike ? 0 : draw(N_PARTS)],
                               parts[are_alike ? 0 : draw(N_PARTS)]};
        fprintf(out,
                "%s{\"type\":\"object\",\"properties\":{\"%s%s\":{\"type\":\"%s\"}},"
                "\"required\":[\"%s%s\"]}",
                i ? "," : "", name[0], name[1], draw(3) ? "integer" : "null", name[0],
                name[1]);
    }
    fputs("]}", out);
}

static cohort_grammar *draw_grammar(char *text, size_t capacity, bool is_wide) {
    cohort_grammar_kind kind =
        is_wide || draw(3) ? COHORT_GRAMMAR_JSON_SCHEMA : COHORT_GRAMMAR_REGEX;
    cohort_grammar *grammar = NULL;
    FILE *out = fmemopen(text, capacity, "w");
    assert_non_null(out);
    if (is_wide)
        write_wide_schema(out);
    else if (kind == COHORT_GRAMMAR_REGEX)
        write_regex(out, false);
    else
        write_schema(out, 3);
    fclose(out);
    if (cohort_grammar_compile(kind, text, strlen(text), &grammar) < 0)
        fail_msg("%s: %s", text, cohort_last_error()->message);
    return grammar;
}

/* ---- masks ------------------------------------------------------------------------- */

static cohort_matcher *match(cohort_grammar *grammar, const char *text, size_t size) {
    cohort_matcher *matcher;
    assert_int_equal(cohort_matcher_create(grammar, vocabulary, &matcher), COHORT_OK);
    assert_true(cohort_matcher_accept_bytes(matcher, text, size));
    return matcher;
}

/* Every token, at one place of a text.  Returns one that may come, or -1. */
static int32_t check_mask(cohort_grammar *grammar, const char *grammar_text,
                          const uint32_t *mask, const char *text, size_t size) {
    int32_t chosen = -1, count = 0;
    cohort_matcher *plain = match(grammar, text, size);
    for (int32_t token = 0; token < N_TOKENS; token++) {
        bool is_allowed = mask[token / 32] >> token % 32 & 1;
        bool fits = cohort_matcher_accept_bytes(plain, words[token],
                                                token ? strlen(words[token]) : 1);
        if (is_allowed != fits)
            fail_msg("%s: '%s' after '%.*s' is %s", grammar_text, words[token], (int)size,
                     text, is_allowed ? "allowed and does not fit" : "not allowed");
        if (!fits) continue; /* and changed nothing */
        if (draw((uint64_t)++count) == 0) chosen = token;
        cohort_matcher_destroy(plain);
        plain = match(grammar, text, size);
    }
    cohort_matcher_destroy(plain);
    return chosen;
}

static void check_grammars(int count, bool are_wide) {
    uint32_t mask[(N_TOKENS + 31) / 32];
    assert_int_equal(cohort_vocabulary_mask_words(vocabulary),
                     sizeof mask / sizeof *mask);
    for (int i = 0; i < count; i++) {
        static char grammar_text[1 << 14];
        char text[MAX_TEXT];
        size_t size = 0;
        cohort_grammar *grammar =
            draw_grammar(grammar_text, sizeof grammar_text, are_wide);
        cohort_matcher *matcher = match(grammar, text, 0);
        for (int step = 0; step < N_STEPS; step++) {
            assert_int_equal(cohort_matcher_mask(matcher, mask), COHORT_OK);
            int32_t token = check_mask(grammar, grammar_text, mask, text, size);
            if (token < 0) break;
            size_t length = token ? strlen(words[token]) : 1;
            assert_true(cohort_matcher_accept(matcher, token));
            memcpy(text + size, words[token], length);
            size += length;
        }
        cohort_matcher_destroy(matcher);
        cohort_grammar_release(grammar);
    }
}

static void masks_are_what_is_accepted_byte_by_byte(void **state) {
    (void)state;
    check_grammars(N_GRAMMARS, false);
}

static void masks_of_wide_unions_are_too(void **state) {
    (void)state;
    check_grammars(N_WIDE_GRAMMARS, true);
}

/* What was found at a shallow place is used at deep ones as far as it is right there. */
static void check_depths(const char *schema) {
    enum { SHALLOW = 3, NEAR = COHORT_GRAMMAR_MAX_DEPTH - 10 };
    uint32_t mask[(N_TOKENS + 31) / 32];
    cohort_grammar *grammar;
    char text[COHORT_GRAMMAR_MAX_DEPTH];
    if (cohort_grammar_compile(COHORT_GRAMMAR_JSON_SCHEMA, schema, strlen(schema),
                               &grammar) < 0)
        fail_msg("%s: %s", schema, cohort_last_error()->message);
    memset(text, '[', sizeof text);
    for (size_t depth = 1; depth < sizeof text; depth++) {
        if (depth > SHALLOW && depth < NEAR) continue;
        cohort_matcher *matcher = match(grammar, text, depth);
        assert_int_equal(cohort_matcher_mask(matcher, mask), COHORT_OK);
        check_mask(grammar, schema, mask, text, depth);
        cohort_matcher_destroy(matcher);
    }
    cohort_grammar_release(grammar);
}

static void masks_near_the_depth_limit_are_too(void **state) {
    (void)state;
    check_depths("{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"type\":\"array\",\"items\":"
                 "{\"$ref\":\"#/$defs/a\"}}}}");
    /* A value that has to go four deeper behind what a short one begins with, too. */
    check_depths(
        "{\"$ref\":\"#/$defs/"
        "a\",\"$defs\":{\"a\":{\"type\":\"array\",\"items\":{\"anyOf\":"
        "[{\"$ref\":\"#/$defs/"
        "a\"},{\"const\":\"a\"},{\"type\":\"object\",\"properties\":{"
        "\"a\":{\"$ref\":\"#/$defs/b\"}},\"required\":[\"a\"]}]}},"
        "\"b\":{\"type\":\"array\",\"minItems\":1,\"items\":{\"$ref\":\"#/$defs/c\"}},"
        "\"c\":{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"array\","
        "\"items\":{}}}}}");
}

/* Patterns side by side that only their last letters tell apart: as many walks a token.
 */
static void what_costs_too_much_for_long_is_narrowed(void **state) {
    (void)state;
    enum { N_LETTERS = 25, N_DIGITS = 10, LONG = 200 };
    char *schema;
    size_t size;
    int n_first = 0, n_last = 0;
    uint32_t mask[(N_TOKENS + 31) / 32];
    cohort_grammar *grammar;
    FILE *out = open_memstream(&schema, &size);
    assert_non_null(out);
    for (int i = 0; i < N_LETTERS * N_DIGITS; i++)
        fprintf(out, "%s{\"pattern\":\"^[a-z ]{0,900}%c%d$\"}", i ? "," : "{\"anyOf\":[",
                'A' + i / N_DIGITS, i % N_DIGITS);
    fputs("]}", out);
    fclose(out);
    assert_int_equal(
        cohort_grammar_compile(COHORT_GRAMMAR_JSON_SCHEMA, schema, size, &grammar),
        COHORT_OK);
    cohort_matcher *matcher = match(grammar, "\"", 1);
    for (int step = 0; step < LONG; step++) {
        assert_int_equal(cohort_matcher_mask(matcher, mask), COHORT_OK);
        for (int letter = 'A'; letter < 'A' + N_LETTERS; letter++) {
            bool is_allowed = mask[letter / 32] >> letter % 32 & 1;
            n_first += step == 0 && is_allowed;
            n_last += step == LONG - 1 && is_allowed;
        }
        assert_true(cohort_matcher_accept(matcher, 'a'));
    }
    assert_int_equal(n_first, N_LETTERS);
    assert_in_range(n_last, 1, N_LETTERS * 2 / 3);
    /* What is left ends as it should. */
    assert_true(cohort_matcher_accept(matcher, 'A'));
    assert_true(cohort_matcher_accept(matcher, '0'));
    assert_true(cohort_matcher_accept(matcher, '"'));
    assert_true(cohort_matcher_is_finished(matcher));
    cohort_matcher_destroy(matcher);
    cohort_grammar_release(grammar);
    free(schema);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_are_what_is_accepted_byte_by_byte),
        cmocka_unit_test(masks_of_wide_unions_are_too),
        cmocka_unit_test(masks_near_the_depth_limit_are_too),
        cmocka_unit_test(what_costs_too_much_for_long_is_narrowed),
    };
    return cmocka_run_group_tests(tests, open_vocabulary, close_vocabulary);
}
