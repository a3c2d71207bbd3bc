/* SPDX-License-Identifier: Apache-2.0 */
/* engine/blocks.h - who uses which block of the KV cache, and what free ones still hold.
 *
 * The ranks' caches have the same number of blocks, each block_size tokens long; this is
 * the one account of them.  A block may have several users; one without users is free,
 * and keeps what it holds, known by a key, until it is taken for something else: the one
 * that has been free for longest first.  Pure: no clock, no I/O, no allocation after
 * init.
 *
 * Ownership: storage is the caller's; a block given back by nobody who uses it is a bug
 *            and aborts.   Threads: none of its own.
 */
#ifndef COHORT_ENGINE_BLOCKS_H
#define COHORT_ENGINE_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "cohort/status.h"

/* Of a block's tokens and of all before them: a digest, so that equal keys are equal
 * tokens. */
typedef struct cohort_block_key {
    uint64_t words[2];
} cohort_block_key;

enum { COHORT_BLOCK_NONE = -1 };

typedef struct cohort_block {
    cohort_block_key key;
    int32_t n_users;
    int32_t previous, next; /* among the free ones */
    int32_t next_in_bucket;
    bool is_published;
} cohort_block;

typedef struct cohort_blocks {
    int32_t n_blocks;
    int32_t n_free;
    int32_t first_free, last_free; /* taken from the front */
    cohort_block *blocks;
    int32_t *buckets; /* a power of two of them */
    uint32_t mask;
} cohort_blocks;

cohort_status cohort_blocks_init(cohort_blocks *blocks, int32_t n_blocks);
void cohort_blocks_deinit(cohort_blocks *blocks);

/* n blocks (0 or more) with one user each and nothing in them, or none at all: false. */
bool cohort_blocks_take(cohort_blocks *blocks, int32_t n, int32_t *out_blocks);
/* One user less of each.  The last of them is forgotten first. */
void cohort_blocks_give_back(cohort_blocks *blocks, int32_t n, const int32_t *ids);

/* From now on found by its key; no change where another block is. */
void cohort_blocks_publish(cohort_blocks *blocks, int32_t id,
                           const cohort_block_key *key);
/* No longer found: what it holds is not what its key says. */
void cohort_blocks_forget(cohort_blocks *blocks, int32_t id);
void cohort_blocks_forget_all(cohort_blocks *blocks);
/* The block with that key, or COHORT_BLOCK_NONE. */
int32_t cohort_blocks_find(const cohort_blocks *blocks, const cohort_block_key *key);
int32_t cohort_blocks_n_users(const cohort_blocks *blocks, int32_t id);
/* One more user of a block that was found. */
void cohort_blocks_share(cohort_blocks *blocks, int32_t id);

#endif /* COHORT_ENGINE_BLOCKS_H */
