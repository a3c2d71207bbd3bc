/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/suggest.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int letter(char c) { return c == '_' ? '-' : tolower((unsigned char)c); }

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Letters to insert, drop, replace or swap with the next (optimal string alignment). */
static size_t distance(const char *a, size_t n_a, const char *b, size_t n_b) {
    size_t rows[3][CLI_SUGGESTION_BYTES];
    for (size_t k = 0; k <= n_b; k++)
        rows[0][k] = k;
    for (size_t i = 1; i <= n_a; i++) {
        size_t *now = rows[i % 3], *before = rows[(i + 2) % 3];
        const size_t *earlier = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t k = 1; k <= n_b; k++) {
            bool is_same = letter(a[i - 1]) == letter(b[k - 1]);
            now[k] = least(least(now[k - 1], before[k]) + 1, before[k - 1] + !is_same);
            if (i > 1 && k > 1 && letter(a[i - 1]) == letter(b[k - 2]) &&
                letter(a[i - 2]) == letter(b[k - 1]))
                now[k] = least(now[k], earlier[k - 2] + 1);
        }
    }
    return rows[n_a % 3][n_b];
}

void cli_suggest(cli_suggestion *self, const char *name, size_t size) {
    size_t typed = strcspn(self->word, "=");
    if (typed >= CLI_SUGGESTION_BYTES || size >= CLI_SUGGESTION_BYTES) return;
    size_t found = distance(self->word, typed, name, size);
    if (self->name[0] && found >= self->distance) return;
    self->distance = found;
    memcpy(self->name, name, size);
    self->name[size] = '\0';
}

void cli_suggest_words(cli_suggestion *self, const char *words) {
    for (size_t size;; words += size + 1) {
        size = strcspn(words, "|");
        cli_suggest(self, words, size);
        if (!words[size]) return;
    }
}

const char *cli_suggested(const cli_suggestion *self) {
    size_t typed = strcspn(self->word, "=");
    return self->name[0] && self->distance <= (typed + 2) / 3 ? self->name : NULL;
}

void cli_suggest_command(const char *group, const cli_suggestion *self) {
    const char *meant = cli_suggested(self);
    fprintf(stderr, "cohort%s: unknown command '%s'; ", group, self->word);
    if (meant) fprintf(stderr, "did you mean cohort%s %s? or ", group, meant);
    fprintf(stderr, "see cohort%s --help\n", group);
}
