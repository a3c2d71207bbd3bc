/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "jinja/value.h"

/* What is sorted comes from strangers: a merge sort has no worst input. */

typedef struct sorter {
    jinja_arena *arena;
    bool reverse;
} sorter;

static void merge(const sorter *self, const jinja_pair *from, size_t n, size_t half,
                  jinja_pair *to) {
    size_t left = 0, right = half;
    for (size_t i = 0; i < n; i++) {
        bool takes_right = left == half;
        if (!takes_right && right < n) {
            int order =
                cohort_jinja_compare(self->arena, from[right].key, from[left].key, "<");
            takes_right = self->reverse ? order > 0 : order < 0;
        }
        to[i] = from[takes_right ? right++ : left++];
    }
}

void cohort_jinja_sort(jinja_arena *arena, jinja_pair *pairs, size_t n, bool reverse) {
    const sorter self = {arena, reverse};
    jinja_pair *scratch = cohort_jinja_alloc(arena, (n + 1) * sizeof *scratch);
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t at = 0; at < n; at += 2 * width) {
            size_t size = n - at < 2 * width ? n - at : 2 * width;
            merge(&self, pairs + at, size, size < width ? size : width, scratch + at);
        }
        memcpy(pairs, scratch, n * sizeof *pairs);
    }
}
