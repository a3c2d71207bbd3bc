/* SPDX-License-Identifier: Apache-2.0 */
#include "link/proof.h"

#include <sodium.h>
#include <string.h>

#include "base/fail.h"

_Static_assert(crypto_auth_BYTES == COHORT_MAC_BYTES, "one HMAC-SHA512-256");
_Static_assert(crypto_auth_KEYBYTES == COHORT_SECRET_BYTES, "its key");

static const uint8_t challenge_magic[8] = {'C', 'O', 'H', 'O', 'R', 'T', 'L', '1'};

cohort_status cohort_link_random_bytes(void *out_bytes, size_t size_bytes) {
    if (sodium_init() < 0) return COHORT_FAIL(COHORT_E_IO, "no source of random numbers");
    randombytes_buf(out_bytes, size_bytes);
    return COHORT_OK;
}

cohort_status cohort_challenge_make(cohort_challenge *out_challenge) {
    memcpy(out_challenge->magic, challenge_magic, sizeof challenge_magic);
    return cohort_link_random_bytes(out_challenge->nonce, sizeof out_challenge->nonce);
}

/* role keeps an answer to one side from being played back to the other. */
static void mac_start(crypto_auth_hmacsha512256_state *state, const uint8_t *secret,
                      const char role[4], const cohort_challenge *challenge,
                      const cohort_claim *claim) {
    crypto_auth_hmacsha512256_init(state, secret, COHORT_SECRET_BYTES);
    crypto_auth_hmacsha512256_update(state, (const uint8_t *)role, 4);
    crypto_auth_hmacsha512256_update(state, challenge->nonce, sizeof challenge->nonce);
    crypto_auth_hmacsha512256_update(state, claim->nonce, sizeof claim->nonce);
}

static void claim_mac(const uint8_t *secret, const cohort_challenge *challenge,
                      const cohort_claim *claim, uint8_t *out_mac) {
    crypto_auth_hmacsha512256_state state;
    mac_start(&state, secret, "clai", challenge, claim);
    crypto_auth_hmacsha512256_update(&state, (const uint8_t *)&claim->hello,
                                     sizeof claim->hello);
    crypto_auth_hmacsha512256_update(&state, (const uint8_t *)claim->build,
                                     sizeof claim->build);
    crypto_auth_hmacsha512256_final(&state, out_mac);
}

static void verdict_mac(const uint8_t *secret, const cohort_challenge *challenge,
                        const cohort_claim *claim, const cohort_verdict *verdict,
                        uint8_t *out_mac) {
    crypto_auth_hmacsha512256_state state;
    mac_start(&state, secret, "verd", challenge, claim);
    crypto_auth_hmacsha512256_update(&state, (const uint8_t *)&verdict->status,
                                     sizeof verdict->status);
    crypto_auth_hmacsha512256_update(&state, (const uint8_t *)verdict->build,
                                     sizeof verdict->build);
    crypto_auth_hmacsha512256_final(&state, out_mac);
}

cohort_status cohort_claim_make(const uint8_t *secret, const cohort_challenge *challenge,
                                const cohort_link_hello *hello, cohort_claim *out_claim) {
    if (memcmp(challenge->magic, challenge_magic, sizeof challenge_magic))
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "the listener does not speak cohort's "
                           "protocol; is the address another program's?");
    memset(out_claim, 0, sizeof *out_claim);
    COHORT_TRY(cohort_link_random_bytes(out_claim->nonce, sizeof out_claim->nonce));
    out_claim->hello = *hello;
    memcpy(out_claim->build, cohort_build_id(), sizeof out_claim->build);
    claim_mac(secret, challenge, out_claim, out_claim->mac);
    return COHORT_OK;
}

cohort_status cohort_claim_judge(const uint8_t *secret, const cohort_challenge *challenge,
                                 const cohort_claim *claim, cohort_verdict *out_verdict,
                                 bool *out_welcome) {
    uint8_t mac[COHORT_MAC_BYTES];
    claim_mac(secret, challenge, claim, mac);
    if (sodium_memcmp(mac, claim->mac, sizeof mac))
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a stranger without the run's secret");
    *out_welcome = !memcmp(claim->build, cohort_build_id(), sizeof claim->build);
    memset(out_verdict, 0, sizeof *out_verdict);
    out_verdict->status =
        *out_welcome ? COHORT_VERDICT_WELCOME : COHORT_VERDICT_OTHER_BUILD;
    memcpy(out_verdict->build, cohort_build_id(), sizeof out_verdict->build);
    verdict_mac(secret, challenge, claim, out_verdict, out_verdict->mac);
    return COHORT_OK;
}

cohort_status cohort_verdict_check(const uint8_t *secret,
                                   const cohort_challenge *challenge,
                                   const cohort_claim *claim,
                                   const cohort_verdict *verdict) {
    uint8_t mac[COHORT_MAC_BYTES];
    verdict_mac(secret, challenge, claim, verdict, mac);
    if (sodium_memcmp(mac, verdict->mac, sizeof mac))
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "the listener does not know the run's secret");
    if (verdict->status != COHORT_VERDICT_WELCOME)
        return COHORT_FAIL(
            COHORT_E_PROTOCOL,
            "the other end is build %.12s, this is build %.12s; install the "
            "same cohort on both",
            verdict->build, cohort_build_id());
    return COHORT_OK;
}
