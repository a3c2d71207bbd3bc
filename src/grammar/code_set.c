/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/grow.h"
#include "grammar/grammar_internal.h"

void cohort_code_set_add(cohort_builder *builder, cohort_code_set *set, uint32_t first,
                         uint32_t last) {
    if (builder->status < 0 || first > last) return;
    cohort_builder_work(builder, 4); /* it is sorted, and \W has hundreds */
    if (builder->status < 0) return;
    struct code_range *larger =
        cohort_grow(set->items, set->count + 1, &set->capacity, sizeof *larger);
    if (!larger) {
        COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "%zu ranges", set->count + 1);
        return;
    }
    set->items = larger;
    set->items[set->count++] = (struct code_range){first, last};
}

void cohort_code_set_deinit(cohort_code_set *set) {
    free(set->items);
    *set = (cohort_code_set){0};
}

static int compare_ranges(const void *a, const void *b) {
    uint32_t x = ((const struct code_range *)a)->first;
    uint32_t y = ((const struct code_range *)b)->first;
    return (x > y) - (x < y);
}

/* Sorted, and no two that touch. */
void cohort_code_set_tidy(cohort_code_set *set) {
    size_t kept = 0;
    if (!set->count) return;
    qsort(set->items, set->count, sizeof *set->items, compare_ranges);
    for (size_t i = 1; i < set->count; i++) {
        struct code_range *last = &set->items[kept];
        if (set->items[i].first > last->last + 1)
            set->items[++kept] = set->items[i];
        else if (set->items[i].last > last->last)
            last->last = set->items[i].last;
    }
    set->count = kept + 1;
}

void cohort_code_set_invert(cohort_builder *builder, cohort_code_set *set) {
    cohort_code_set out = {0};
    uint32_t from = 0;
    cohort_code_set_tidy(set);
    for (size_t i = 0; i < set->count; i++) {
        if (set->items[i].first > from)
            cohort_code_set_add(builder, &out, from, set->items[i].first - 1);
        from = set->items[i].last + 1;
    }
    cohort_code_set_add(builder, &out, from, COHORT_LAST_CODE);
    cohort_code_set_deinit(set);
    *set = out;
}
