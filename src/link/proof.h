/* SPDX-License-Identifier: Apache-2.0 */
/* link/proof.h - the fixed-size messages by which two ends prove the run's secret.
 *
 *   accepting side                        connecting side
 *   challenge {magic, nonce_s}  ------->
 *                               <-------  claim {nonce_c, hello, build, mac(nonces, ...)}
 *   verdict {status, build, mac} ------>
 *
 * The mac is keyed by the secret (HMAC-SHA512-256); the verdict carries one too, so that
 * the connecting side knows whom it found.  Nothing of a claim is looked at before its
 * mac. Pure functions on plain bytes; the sockets are link.c's.
 */
#ifndef COHORT_LINK_PROOF_H
#define COHORT_LINK_PROOF_H

#include "base/build_id.h"
#include "link/link.h"

enum { COHORT_SECRET_BYTES = 32, COHORT_NONCE_BYTES = 32, COHORT_MAC_BYTES = 32 };

typedef struct cohort_challenge {
    uint8_t magic[8];
    uint8_t nonce[COHORT_NONCE_BYTES];
} cohort_challenge;
_Static_assert(sizeof(cohort_challenge) == 40, "wire");

typedef struct cohort_claim {
    uint8_t nonce[COHORT_NONCE_BYTES];
    cohort_link_hello hello;
    char build[COHORT_BUILD_ID_CHARS];
    uint8_t mac[COHORT_MAC_BYTES];
} cohort_claim;
_Static_assert(sizeof(cohort_claim) == 120, "wire");

enum { COHORT_VERDICT_WELCOME = 0, COHORT_VERDICT_OTHER_BUILD = 1 };

typedef struct cohort_verdict {
    uint32_t status;
    char build[COHORT_BUILD_ID_CHARS];
    uint8_t mac[COHORT_MAC_BYTES];
} cohort_verdict;
_Static_assert(sizeof(cohort_verdict) == 68, "wire");

cohort_status cohort_link_random_bytes(void *out_bytes, size_t size_bytes);
cohort_status cohort_challenge_make(cohort_challenge *out_challenge);
/* PROTOCOL where the other end speaks something else. */
cohort_status cohort_claim_make(const uint8_t *secret, const cohort_challenge *challenge,
                                const cohort_link_hello *hello, cohort_claim *out_claim);
/* PROTOCOL where the secret is wrong: no verdict is owed.  Else a verdict, good or bad;
 * out_welcome says which. */
cohort_status cohort_claim_judge(const uint8_t *secret, const cohort_challenge *challenge,
                                 const cohort_claim *claim, cohort_verdict *out_verdict,
                                 bool *out_welcome);
cohort_status cohort_verdict_check(const uint8_t *secret,
                                   const cohort_challenge *challenge,
                                   const cohort_claim *claim,
                                   const cohort_verdict *verdict);

#endif /* COHORT_LINK_PROOF_H */
