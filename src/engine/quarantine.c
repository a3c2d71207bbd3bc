/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/quarantine.h"

#include <string.h>

cohort_sentence cohort_suspect(cohort_suspicion *suspicion, int32_t n_tokens,
                               bool is_alone) {
    suspicion->n_deaths++;
    if (suspicion->n_tokens < n_tokens) suspicion->n_tokens = n_tokens;
    if (suspicion->n_deaths < 2) return COHORT_SENTENCE_NONE;
    return is_alone ? COHORT_SENTENCE_ENDED : COHORT_SENTENCE_ALONE;
}

bool cohort_suspicion_clear(cohort_suspicion *suspicion, int32_t n_tokens) {
    if (!suspicion->n_deaths || n_tokens < suspicion->n_tokens) return false;
    *suspicion = (cohort_suspicion){0};
    return true;
}

void cohort_convicts_add(cohort_convicts *convicts, const uint64_t digest[2],
                         int64_t until_ns) {
    uint32_t at = convicts->n++ % COHORT_MAX_CONVICTS;
    memcpy(convicts->rows[at].digest, digest, sizeof convicts->rows[at].digest);
    convicts->rows[at].until_ns = until_ns;
}

bool cohort_convicts_have(const cohort_convicts *convicts, const uint64_t digest[2],
                          int64_t now_ns) {
    for (uint32_t i = 0; i < COHORT_MAX_CONVICTS && i < convicts->n; i++)
        if (convicts->rows[i].until_ns > now_ns &&
            !memcmp(convicts->rows[i].digest, digest, sizeof convicts->rows[i].digest))
            return true;
    return false;
}
