/* SPDX-License-Identifier: Apache-2.0 */
#include "link/proof.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* A proof that is right but for one bit, wherever it is, is none. */
static void every_byte_of_a_proof_counts(void **state) {
    (void)state;
    uint8_t secret[COHORT_SECRET_BYTES] = {1, 2, 3};
    cohort_challenge challenge, other;
    cohort_claim claim, changed;
    cohort_verdict verdict, told, unused;
    cohort_link_hello hello = {.purpose = COHORT_LINK_MESH, .rank = 2, .detail = 1};
    bool welcome = false;
    assert_int_equal(cohort_challenge_make(&challenge), COHORT_OK);
    assert_int_equal(cohort_claim_make(secret, &challenge, &hello, &claim), COHORT_OK);
    for (size_t i = 0; i < sizeof claim; i++) {
        changed = claim;
        ((uint8_t *)&changed)[i] ^= 0x80;
        assert_int_equal(
            cohort_claim_judge(secret, &challenge, &changed, &unused, &welcome),
            COHORT_E_PROTOCOL);
    }
    for (size_t i = 0; i < sizeof challenge.nonce; i++) { /* a claim played back */
        other = challenge;
        other.nonce[i] ^= 1;
        assert_int_equal(cohort_claim_judge(secret, &other, &claim, &unused, &welcome),
                         COHORT_E_PROTOCOL);
    }
    assert_int_equal(cohort_claim_judge(secret, &challenge, &claim, &verdict, &welcome),
                     COHORT_OK);
    for (size_t i = 0; i < sizeof verdict; i++) {
        told = verdict;
        ((uint8_t *)&told)[i] ^= 1;
        assert_int_equal(cohort_verdict_check(secret, &challenge, &claim, &told),
                         COHORT_E_PROTOCOL);
    }
    changed = claim; /* a verdict for somebody else */
    changed.nonce[31] ^= 1;
    assert_int_equal(cohort_verdict_check(secret, &challenge, &changed, &verdict),
                     COHORT_E_PROTOCOL);
    /* An answer to one side is none for the other. */
    memcpy(told.mac, claim.mac, sizeof told.mac);
    assert_int_equal(cohort_verdict_check(secret, &challenge, &claim, &told),
                     COHORT_E_PROTOCOL);
    assert_int_equal(cohort_verdict_check(secret, &challenge, &claim, &verdict),
                     COHORT_OK);
    challenge.magic[7] ^= 1;
    assert_int_equal(cohort_claim_make(secret, &challenge, &hello, &changed),
                     COHORT_E_PROTOCOL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_of_a_proof_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
