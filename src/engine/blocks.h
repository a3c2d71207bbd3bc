/* SPDX-License-Identifier: Apache-2.0 */
/* engine/blocks.h - who owns which block of the KV cache.
 *
 * The ranks' caches have the same number of blocks, each block_size tokens long; this is
 * the one account of them.  Pure: no clock, no I/O, no allocation after init.
 *
 * Ownership: storage is the caller's; a block taken twice or given back by another than
 *            its owner is a bug and aborts.   Threads: none of its own.
 */
#ifndef COHORT_ENGINE_BLOCKS_H
#define COHORT_ENGINE_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "cohort/status.h"

enum { COHORT_BLOCK_FREE = -1 };

typedef struct cohort_blocks {
    int32_t n_blocks;
    int32_t n_free;
    int32_t *free; /* a stack; the block given back last is the warmest */
    int32_t *owner;
} cohort_blocks;

cohort_status cohort_blocks_init(cohort_blocks *blocks, int32_t n_blocks);
void cohort_blocks_deinit(cohort_blocks *blocks);

/* n blocks for the owner (0 or more), or none at all: false. */
bool cohort_blocks_take(cohort_blocks *blocks, int32_t owner, int32_t n,
                        int32_t *out_blocks);
void cohort_blocks_give_back(cohort_blocks *blocks, int32_t owner, int32_t n,
                             const int32_t *ids);

#endif /* COHORT_ENGINE_BLOCKS_H */
