/* SPDX-License-Identifier: Apache-2.0 */
/* engine/quarantine.h - which request kills ranks, and what becomes of it.
 *
 *   a death     its step's requests go on as before
 *   the second  with the same request: it goes on alone, the others wait
 *   alone       it is convicted: ended, and refused for a while when it comes again
 *
 * Only deaths count that a request can cause; whoever gets past the step that a rank died
 * of is cleared.  So one that always kills does so three times at most, twice where it is
 * alone from the start.  Pure: no clock, no I/O.
 */
#ifndef COHORT_ENGINE_QUARANTINE_H
#define COHORT_ENGINE_QUARANTINE_H

#include <stdbool.h>
#include <stdint.h>

/* Of one sequence; zero at first. */
typedef struct cohort_suspicion {
    int32_t n_deaths;
    int32_t n_tokens; /* computed, and it is cleared */
} cohort_suspicion;

typedef enum cohort_sentence {
    COHORT_SENTENCE_NONE,
    COHORT_SENTENCE_ALONE,
    COHORT_SENTENCE_ENDED,
} cohort_sentence;

/* A rank died while steps computed it up to n_tokens; is_alone: and no other request. */
cohort_sentence cohort_suspect(cohort_suspicion *suspicion, int32_t n_tokens,
                               bool is_alone);
/* A step that computed it up to n_tokens came back.  True: it is cleared by that. */
bool cohort_suspicion_clear(cohort_suspicion *suspicion, int32_t n_tokens);

enum { COHORT_MAX_CONVICTS = 64 };

typedef struct cohort_convicts {
    struct {
        uint64_t digest[2]; /* of what was asked for */
        int64_t until_ns;   /* 0: none is here */
    } rows[COHORT_MAX_CONVICTS];
    uint32_t n; /* ever; the oldest make room */
} cohort_convicts;

void cohort_convicts_add(cohort_convicts *convicts, const uint64_t digest[2],
                         int64_t until_ns);
bool cohort_convicts_have(const cohort_convicts *convicts, const uint64_t digest[2],
                          int64_t now_ns);

#endif /* COHORT_ENGINE_QUARANTINE_H */
