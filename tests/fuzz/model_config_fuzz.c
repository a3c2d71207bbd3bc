/* SPDX-License-Identifier: Apache-2.0 */
/* config.json and generation_config.json of strangers; a NUL byte lies between the two.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "model/model_config.h"
#include "model/shard.h"

bool fuzz_is_valid;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *split = size ? memchr(data, 0, size) : NULL;
    size_t config_bytes = split ? (size_t)(split - data) : size;
    const char *generation = split ? (const char *)split + 1 : NULL;
    cohort_model_config config;
    cohort_model_defaults defaults;
    if (cohort_model_config_parse((const char *)data, config_bytes, generation,
                                  split ? size - config_bytes - 1 : 0, "config.json",
                                  &config, &defaults) < 0)
        return 0;
    if (config.n_heads % config.n_kv_heads || config.n_eos > COHORT_MAX_EOS ||
        cohort_model_config_max_len(&config) < 0)
        abort();
    fuzz_is_valid = true;
    cohort_shard shard; /* what was accepted can be planned, whatever the numbers */
    for (int32_t tp = 1; tp <= 3; tp++)
        cohort_shard_plan(&config, tp - 1, tp, 0, 1, NULL, &shard);
    return 0;
}
