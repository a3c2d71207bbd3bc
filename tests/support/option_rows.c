/* SPDX-License-Identifier: Apache-2.0 */
#include "option_rows.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct world {
    const cohort_option *row;
    cohort_option_table one; /* that row alone */
    size_t bytes;
    void *there, *back;
} world;

static void expect_same(const world *self) {
    char a[400], b[400];
    for (size_t i = 0;; i++) {
        bool is_there = cohort_option_format(self->row, self->there, i, a, sizeof a);
        assert_int_equal(is_there,
                         cohort_option_format(self->row, self->back, i, b, sizeof b));
        if (!is_there) break;
        assert_string_equal(a, b);
    }
    if (self->row->type != COHORT_FIELD_TEXT && self->row->type != COHORT_FIELD_TEXTS)
        assert_memory_equal((char *)self->there + self->row->offset,
                            (char *)self->back + self->row->offset, self->row->size);
}

/* Takes the texts, and what it made of them travels. */
static void expect_taken(const world *self, const char *const *texts, size_t n) {
    memset(self->there, 0, self->bytes);
    memset(self->back, 0, self->bytes);
    for (size_t i = 0; i < n; i++)
        if (!cohort_option_parse(self->row, self->there, texts[i]))
            fail_msg("--%s does not take '%s'", self->row->name, texts[i]);
    const char **pairs = cohort_options_to_pairs(&self->one, self->there);
    assert_non_null(pairs);
    assert_int_equal(cohort_options_from_pairs(&self->one, self->back, pairs, false),
                     COHORT_OK);
    expect_same(self);
    free(pairs);
}

static void expect_one(const world *self, const char *text) {
    expect_taken(self, &text, 1);
}

static void expect_refused(const world *self, const char *text) {
    char pair[200], before[400], after[400];
    memset(self->there, 0, self->bytes);
    if (self->row->standard)
        cohort_option_parse(self->row, self->there, self->row->standard);
    bool had = cohort_option_format(self->row, self->there, 0, before, sizeof before);
    if (cohort_option_parse(self->row, self->there, text))
        fail_msg("--%s takes '%s'", self->row->name, text);
    assert_int_equal(cohort_option_format(self->row, self->there, 0, after, sizeof after),
                     had);
    if (had) assert_string_equal(after, before);
    snprintf(pair, sizeof pair, "%s=%s", self->row->name, text);
    assert_int_equal(cohort_options_from_pairs(&self->one, self->back,
                                               (const char *const[]){pair, NULL}, false),
                     COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, self->row->name));
}

static void expect_number(const world *self) {
    const cohort_option *row = self->row;
    bool is_whole = row->kind == COHORT_KIND_COUNT || row->kind == COHORT_KIND_BYTES;
    char text[60];
    assert_true(row->least <= row->most);
    if (row->type == COHORT_FIELD_INT32) assert_true(row->most <= INT32_MAX);
    if (row->type == COHORT_FIELD_UINT64) assert_true(row->least >= 0);
    snprintf(text, sizeof text, is_whole ? "%.0f" : "%.17g", row->least);
    expect_one(self, text);
    double below = row->flags & COHORT_OPTION_AUTO ? -2 : row->least - 1;
    snprintf(text, sizeof text, "%.17g",
             is_whole ? below : nextafter(row->least, -HUGE_VAL));
    expect_refused(self, text);
    if (row->most < 0x1p53) {
        snprintf(text, sizeof text, is_whole ? "%.0f" : "%.17g", row->most);
        expect_one(self, text);
        snprintf(text, sizeof text, "%.17g",
                 is_whole ? row->most + 1 : nextafter(row->most, HUGE_VAL));
        expect_refused(self, text);
    }
    static const char *const no_numbers[] = {"", "x", "1x", "nan", "--1", "1 2"};
    for (size_t i = 0; i < sizeof no_numbers / sizeof *no_numbers; i++)
        expect_refused(self, no_numbers[i]);
    if (is_whole) expect_refused(self, "0.5");
}

static void expect_words(const world *self) {
    char word[60], all[400];
    cohort_option_describe(self->row, all, sizeof all);
    for (const char *at = self->row->words; *at;) {
        size_t length = strcspn(at, "|");
        snprintf(word, sizeof word, "%.*s", (int)length, at);
        expect_one(self, word);
        assert_non_null(strstr(all, word));
        word[length - 1] = '\0'; /* a near miss */
        if (length > 1) expect_refused(self, word);
        at += length + (at[length] == '|');
    }
    expect_refused(self, "");
    expect_refused(self, self->row->words);
}

static void expect_list(const world *self) {
    size_t room = cohort_option_room(self->row);
    const char **texts = calloc(room + 1, sizeof *texts);
    assert_non_null(texts);
    for (size_t i = 0; i <= room; i++)
        texts[i] = i % 2 ? "a=b c" : "";
    for (size_t n = 1; n <= room; n++)
        expect_taken(self, texts, n);
    assert_false(cohort_option_parse(self->row, self->there, "one more"));
    free(texts);
}

static void expect_row(const world *self) {
    switch (self->row->kind) {
    case COHORT_KIND_TEXT: expect_one(self, "a=b, \"c\" \xc3\xa9"); break;
    case COHORT_KIND_FLAG:
        expect_one(self, "Yes");
        expect_one(self, "0");
        expect_refused(self, "maybe");
        break;
    case COHORT_KIND_WORD: expect_words(self); break;
    case COHORT_KIND_LIST:
    case COHORT_KIND_EACH: expect_list(self); break;
    case COHORT_KIND_COUNT:
    case COHORT_KIND_BYTES:
    case COHORT_KIND_SECONDS:
    case COHORT_KIND_NUMBER: expect_number(self); break;
    case COHORT_N_KINDS: fail();
    }
    if (self->row->standard) expect_one(self, self->row->standard);
    bool is_text =
        self->row->type == COHORT_FIELD_TEXT || self->row->type == COHORT_FIELD_TEXTS;
    if (is_text && !self->row->standard) expect_taken(self, NULL, 0); /* stays open */
}

void expect_rows_round_trip(const cohort_option_table *table, size_t struct_bytes) {
    world self = {.bytes = struct_bytes,
                  .there = malloc(struct_bytes),
                  .back = malloc(struct_bytes)};
    assert_non_null(self.there);
    assert_non_null(self.back);
    assert_true(table->n > 0);
    for (size_t i = 0; i < table->n; i++) {
        self.row = &table->rows[i];
        self.one = (cohort_option_table){self.row, 1};
        assert_true(self.row->offset + self.row->size <= struct_bytes);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(self.row->name, table->rows[k].name);
        assert_null(strchr(self.row->name, '_'));
        expect_row(&self);
    }
    free(self.there);
    free(self.back);
}
