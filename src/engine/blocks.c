/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/blocks.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

#undef NDEBUG /* a block owned twice corrupts answers silently: checked in every build \
               */
#include <assert.h>

cohort_status cohort_blocks_init(cohort_blocks *blocks, int32_t n_blocks) {
    *blocks = (cohort_blocks){0};
    if (n_blocks < 1)
        return COHORT_FAIL(COHORT_E_INVALID, "a cache of %d blocks cannot be", n_blocks);
    size_t size_bytes = (size_t)n_blocks * sizeof(int32_t);
    blocks->free = malloc(size_bytes);
    blocks->owner = malloc(size_bytes);
    if (!blocks->free || !blocks->owner) {
        cohort_blocks_deinit(blocks);
        return COHORT_FAIL(COHORT_E_NOMEM, "an account of %d blocks", n_blocks);
    }
    blocks->n_blocks = blocks->n_free = n_blocks;
    for (int32_t i = 0; i < n_blocks; i++) {
        blocks->free[i] = n_blocks - 1 - i; /* block 0 is taken first */
        blocks->owner[i] = COHORT_BLOCK_FREE;
    }
    return COHORT_OK;
}

void cohort_blocks_deinit(cohort_blocks *blocks) {
    free(blocks->free);
    free(blocks->owner);
    *blocks = (cohort_blocks){0};
}

bool cohort_blocks_take(cohort_blocks *blocks, int32_t owner, int32_t n,
                        int32_t *out_blocks) {
    assert(owner >= 0 && n >= 0);
    if (n > blocks->n_free) return false;
    for (int32_t i = 0; i < n; i++) {
        int32_t id = blocks->free[--blocks->n_free];
        assert(blocks->owner[id] == COHORT_BLOCK_FREE);
        blocks->owner[id] = owner;
        out_blocks[i] = id;
    }
    return true;
}

void cohort_blocks_give_back(cohort_blocks *blocks, int32_t owner, int32_t n,
                             const int32_t *ids) {
    for (int32_t i = n; i-- > 0;) {
        assert(ids[i] >= 0 && ids[i] < blocks->n_blocks);
        assert(blocks->owner[ids[i]] == owner);
        blocks->owner[ids[i]] = COHORT_BLOCK_FREE;
        blocks->free[blocks->n_free++] = ids[i];
    }
}
