/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <sodium.h>

#include "engine/engine_internal.h"

/* A block's key digests its tokens and the key before it: two blocks with one key have
 * the same tokens and the same past.  The secret is the engine's own, since prompts come
 * from strangers, and whoever could make two of them alike would read another's cache. */
int32_t cohort_engine_extend_keys(const cohort_engine *engine, cohort_block_key salt,
                                  const int32_t *tokens, int32_t n_tokens,
                                  cohort_block_key *keys, int32_t n_keys) {
    int32_t block_size = engine->options.block_size;
    static_assert(sizeof *keys >= crypto_generichash_BYTES_MIN, "a digest");
    static_assert(sizeof engine->block_secret == crypto_generichash_KEYBYTES, "a secret");
    for (; (n_keys + 1) * block_size <= n_tokens; n_keys++) {
        cohort_block_key *key = &keys[n_keys];
        crypto_generichash_state state;
        crypto_generichash_init(&state, engine->block_secret, sizeof engine->block_secret,
                                sizeof *key);
        crypto_generichash_update(&state, (const uint8_t *)(n_keys ? key - 1 : &salt),
                                  sizeof *key);
        crypto_generichash_update(&state, (const uint8_t *)(tokens + n_keys * block_size),
                                  (size_t)block_size * sizeof *tokens);
        crypto_generichash_final(&state, (uint8_t *)key, sizeof *key);
    }
    return n_keys;
}
