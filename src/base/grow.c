/* SPDX-License-Identifier: Apache-2.0 */
#include "base/grow.h"

#include <stdint.h>
#include <stdlib.h>

enum { FEWEST = 16 };

void *cohort_grow_now(void *items, size_t count, size_t *capacity, size_t item_bytes) {
    size_t more = *capacity > SIZE_MAX / 2 ? count : *capacity * 2;
    if (more < count) more = count;
    if (more < FEWEST) more = FEWEST;
    if (more > SIZE_MAX / 2 / item_bytes) return NULL;
    void *grown = realloc(items, more * item_bytes);
    if (grown) *capacity = more;
    return grown;
}
