/* SPDX-License-Identifier: Apache-2.0 */
/* base/grow.h - room for more items of a list that is in one piece. */
#ifndef COHORT_BASE_GROW_H
#define COHORT_BASE_GROW_H

#include <stddef.h>

/* What cohort_grow does where there is no room. */
void *cohort_grow_now(void *items, size_t count, size_t *capacity, size_t item_bytes);

/* Room for count items, 1 or more, where there is room for *capacity: where that is less
 * it is at least doubled, so that adding one by one costs their number.  Returns where
 * the items are now; NULL, and nothing has changed, where memory is short.
 *
 *   int *grown = cohort_grow(list->items, list->n + 1, &list->capacity, sizeof *grown);
 *   if (!grown) return out_of_memory();
 *   list->items = grown;
 */
static inline void *cohort_grow(void *items, size_t count, size_t *capacity,
                                size_t item_bytes) {
    return count <= *capacity ? items
                              : cohort_grow_now(items, count, capacity, item_bytes);
}

#endif /* COHORT_BASE_GROW_H */
