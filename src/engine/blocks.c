/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/blocks.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

#undef NDEBUG /* a block used for two things corrupts answers silently: checked in every \
               * build */
#include <assert.h>

cohort_status cohort_blocks_init(cohort_blocks *blocks, int32_t n_blocks) {
    *blocks = (cohort_blocks){0};
    if (n_blocks < 1)
        return COHORT_FAIL(COHORT_E_INVALID, "a cache of %d blocks cannot be", n_blocks);
    size_t n_buckets = 1;
    while (n_buckets < (size_t)n_blocks)
        n_buckets *= 2;
    blocks->blocks = calloc((size_t)n_blocks, sizeof *blocks->blocks);
    blocks->buckets = malloc(n_buckets * sizeof *blocks->buckets);
    if (!blocks->blocks || !blocks->buckets) {
        cohort_blocks_deinit(blocks);
        return COHORT_FAIL(COHORT_E_NOMEM, "an account of %d blocks", n_blocks);
    }
    blocks->mask = (uint32_t)(n_buckets - 1);
    for (size_t i = 0; i < n_buckets; i++)
        blocks->buckets[i] = COHORT_BLOCK_NONE;
    blocks->n_blocks = blocks->n_free = n_blocks;
    for (int32_t i = 0; i < n_blocks; i++) {
        blocks->blocks[i].previous = i - 1;
        blocks->blocks[i].next = i + 1 < n_blocks ? i + 1 : COHORT_BLOCK_NONE;
    }
    blocks->last_free = n_blocks - 1;
    return COHORT_OK;
}

void cohort_blocks_deinit(cohort_blocks *blocks) {
    free(blocks->blocks);
    free(blocks->buckets);
    *blocks = (cohort_blocks){0};
}

/* ---- what is free, the longest free first ------------------------------------------ */

static void unlink_free(cohort_blocks *blocks, int32_t id) {
    cohort_block *block = &blocks->blocks[id];
    int32_t before = block->previous;
    int32_t after = block->next;
    *(before < 0 ? &blocks->first_free : &blocks->blocks[before].next) = after;
    *(after < 0 ? &blocks->last_free : &blocks->blocks[after].previous) = before;
    blocks->n_free--;
}

/* What nobody can find again is taken first, warm as it is. */
static void link_free(cohort_blocks *blocks, int32_t id) {
    cohort_block *block = &blocks->blocks[id];
    block->previous = block->is_published ? blocks->last_free : COHORT_BLOCK_NONE;
    block->next = block->is_published ? COHORT_BLOCK_NONE : blocks->first_free;
    int32_t before = block->previous;
    int32_t after = block->next;
    *(before < 0 ? &blocks->first_free : &blocks->blocks[before].next) = id;
    *(after < 0 ? &blocks->last_free : &blocks->blocks[after].previous) = id;
    blocks->n_free++;
}

/* ---- what is known by its key ------------------------------------------------------ */

static int32_t *bucket_of(const cohort_blocks *blocks, const cohort_block_key *key) {
    return &blocks->buckets[key->words[0] & blocks->mask];
}

int32_t cohort_blocks_find(const cohort_blocks *blocks, const cohort_block_key *key) {
    int32_t id = *bucket_of(blocks, key);
    while (id >= 0 && memcmp(&blocks->blocks[id].key, key, sizeof *key) != 0)
        id = blocks->blocks[id].next_in_bucket;
    return id;
}

void cohort_blocks_publish(cohort_blocks *blocks, int32_t id,
                           const cohort_block_key *key) {
    cohort_block *block = &blocks->blocks[id];
    assert(block->n_users > 0);
    if (block->is_published || cohort_blocks_find(blocks, key) >= 0) return;
    int32_t *bucket = bucket_of(blocks, key);
    block->key = *key;
    block->is_published = true;
    block->next_in_bucket = *bucket;
    *bucket = id;
}

void cohort_blocks_forget(cohort_blocks *blocks, int32_t id) {
    cohort_block *block = &blocks->blocks[id];
    if (!block->is_published) return;
    int32_t *link = bucket_of(blocks, &block->key);
    while (*link != id)
        link = &blocks->blocks[*link].next_in_bucket;
    *link = block->next_in_bucket;
    block->is_published = false;
}

void cohort_blocks_forget_all(cohort_blocks *blocks) {
    for (int32_t id = 0; id < blocks->n_blocks; id++)
        cohort_blocks_forget(blocks, id);
}

/* ---- users ------------------------------------------------------------------------- */

bool cohort_blocks_take(cohort_blocks *blocks, int32_t n, int32_t *out_blocks) {
    assert(n >= 0);
    if (n > blocks->n_free) return false;
    for (int32_t i = 0; i < n; i++) {
        int32_t id = blocks->first_free;
        assert(blocks->blocks[id].n_users == 0);
        unlink_free(blocks, id);
        cohort_blocks_forget(blocks, id);
        blocks->blocks[id].n_users = 1;
        out_blocks[i] = id;
    }
    return true;
}

int32_t cohort_blocks_n_users(const cohort_blocks *blocks, int32_t id) {
    return blocks->blocks[id].n_users;
}

void cohort_blocks_share(cohort_blocks *blocks, int32_t id) {
    assert(blocks->blocks[id].is_published);
    if (blocks->blocks[id].n_users++ == 0) unlink_free(blocks, id);
}

void cohort_blocks_give_back(cohort_blocks *blocks, int32_t n, const int32_t *ids) {
    for (int32_t i = n; i-- > 0;) {
        assert(ids[i] >= 0 && ids[i] < blocks->n_blocks);
        assert(blocks->blocks[ids[i]].n_users > 0);
        if (--blocks->blocks[ids[i]].n_users == 0) link_free(blocks, ids[i]);
    }
}
