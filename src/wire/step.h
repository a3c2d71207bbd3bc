/* SPDX-License-Identifier: Apache-2.0 */
/* wire/step.h - what a scheduling step says, the masks that follow it, what comes back.
 *
 * A step names requests by slot, an index below max_num_seqs that the scheduler hands
 * out. Every worker keeps, per slot, the token history and the block table; a step
 * carries what is new to them: whole requests once, then tokens and blocks as they are
 * added.  All ranks receive all of it; only the output rank samples and answers.
 *
 * Layout: little-endian, 8-byte aligned sections behind a fixed header with magic,
 * version and bounded counts.  A decoded view points into the message and lives as long
 * as it. Threads: none of its own.   Errors: COHORT_E_PROTOCOL names the field.
 */
#ifndef COHORT_WIRE_STEP_H
#define COHORT_WIRE_STEP_H

#include <stddef.h>
#include <stdint.h>

#include "cohort/sampling.h"
#include "cohort/status.h"

/* Bit id % 32 of word id / 32 is set for each token in it. */
typedef struct cohort_token_set {
    uint32_t n_words;
    const uint32_t *words;
} cohort_token_set;

typedef struct cohort_step_request {
    uint64_t request_id;
    uint32_t slot;
    uint32_t n_prompt_tokens; /* of the tokens below; the rest was generated earlier */
    uint32_t n_tokens;
    const int32_t *tokens;
    cohort_sampling_params sampling; /* the model's eos among its stop tokens */
    cohort_token_set allowed;        /* what may come; no words: any */
} cohort_step_request;

enum {
    COHORT_ENTRY_SAMPLE = 1, /* the chunk ends the known tokens: sample the next, */
    COHORT_ENTRY_MASKED = 2, /* and what may be sampled comes in a message of masks */
};

typedef struct cohort_step_entry {
    uint32_t slot;
    uint32_t flags;
    uint32_t n_computed_tokens;  /* in the KV cache before this step */
    uint32_t n_scheduled_tokens; /* computed by this step */
    uint32_t n_new_tokens;       /* appended to the slot's history first */
    uint32_t n_new_blocks;       /* appended to the slot's block table first */
    const int32_t *new_tokens;
    const int32_t *new_blocks;
} cohort_step_entry;

typedef struct cohort_step {
    uint32_t n_finished; /* slots to forget, before anything else */
    uint32_t n_requests;
    uint32_t n_entries;
    const uint32_t *finished;
    const cohort_step_request *requests;
    const cohort_step_entry *entries;
} cohort_step;

/* Which tokens an entry of a step may sample: those whose bit is set, id % 32 of word
 * id / 32. */
typedef struct cohort_step_mask {
    uint32_t entry;
    uint32_t n_words;
    const uint32_t *words;
} cohort_step_mask;

/* Follows a step that has masked entries, as the next message: so the ranks compute while
 * the masks are made.  In order of the entries; one that is masked and not among them may
 * sample anything. */
typedef struct cohort_step_masks {
    uint32_t n_masks;
    const cohort_step_mask *masks;
} cohort_step_masks;

/* In the place of a token that was sampled: no logit was a finite number. */
enum { COHORT_TOKEN_OF_NO_NUMBERS = -2 };

typedef struct cohort_step_result {
    uint64_t request_id;
    uint32_t slot;
    int32_t token_id;     /* -1: nothing was sampled, a middle chunk of a prompt */
    uint32_t n_positions; /* prompt logprobs of this chunk, then the sampled token's */
    const cohort_position_logprobs *positions;
} cohort_step_result;

typedef struct cohort_step_output {
    uint32_t n_results; /* one per entry of the step, in its order */
    const cohort_step_result *results;
} cohort_step_output;

/* Views that decode fills; grown as needed and reused, freed by _deinit. Zero-initialise.
 */
typedef struct cohort_step_view {
    cohort_step step;
    void *storage;
    size_t storage_bytes;
} cohort_step_view;

typedef struct cohort_step_masks_view {
    cohort_step_masks masks;
    void *storage;
    size_t storage_bytes;
} cohort_step_masks_view;

typedef struct cohort_step_output_view {
    cohort_step_output output;
    void *storage;
    size_t storage_bytes;
} cohort_step_output_view;

size_t cohort_step_encoded_bytes(const cohort_step *step);
/* Its part of the message; arrays are not read. */
size_t cohort_step_request_bytes(const cohort_step_request *request);
/* At most, of a step without requests: each entry with a token and its share of n_blocks,
 * and as many slots to forget. */
size_t cohort_step_entries_bytes(uint32_t n_entries, uint32_t n_blocks);
/* Writes exactly cohort_step_encoded_bytes(step) to an 8-byte aligned buffer. */
void cohort_step_encode(const cohort_step *step, void *out_bytes);
/* bytes must be 8-byte aligned and outlive the view. */
cohort_status cohort_step_decode(const void *bytes, size_t size_bytes,
                                 cohort_step_view *out_view);
void cohort_step_view_deinit(cohort_step_view *view);

/* Of so many masks with n_words each. */
size_t cohort_step_masks_bytes(uint32_t n_masks, uint32_t n_words);
/* As of steps. */
size_t cohort_step_masks_encoded_bytes(const cohort_step_masks *masks);
void cohort_step_masks_encode(const cohort_step_masks *masks, void *out_bytes);
cohort_status cohort_step_masks_decode(const void *bytes, size_t size_bytes,
                                       cohort_step_masks_view *out_view);
void cohort_step_masks_view_deinit(cohort_step_masks_view *view);

size_t cohort_step_output_encoded_bytes(const cohort_step_output *output);
/* At most, of so many results and positions with n_logprobs beside the token's own. */
size_t cohort_step_results_bytes(uint32_t n_results, uint32_t n_positions,
                                 uint32_t n_logprobs);
void cohort_step_output_encode(const cohort_step_output *output, void *out_bytes);
cohort_status cohort_step_output_decode(const void *bytes, size_t size_bytes,
                                        cohort_step_output_view *out_view);
void cohort_step_output_view_deinit(cohort_step_output_view *view);

#endif /* COHORT_WIRE_STEP_H */
