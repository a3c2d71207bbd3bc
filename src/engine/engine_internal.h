/* SPDX-License-Identifier: Apache-2.0 */
/* engine/engine_internal.h - what engine.c, submit.c and step.c share; private to them.
 *
 * A request that the user submits becomes n sequences, each with tokens, text and an end
 * of its own; the scheduler knows sequences only.
 *
 *   submit -> listed, in the scheduler -> finished -> reported -> freed by the next step
 */
#ifndef COHORT_ENGINE_ENGINE_INTERNAL_H
#define COHORT_ENGINE_ENGINE_INTERNAL_H

#include "cohort/engine.h"
#include "engine/scheduler.h"
#include "engine/stop.h"
#include "model/model_config.h"
#include "text/tokenizer.h"
#include "wire/step.h"

enum { COHORT_MAX_IN_FLIGHT = 64 };

/* What the sequences of one request share. */
typedef struct engine_request {
    cohort_request_id id;
    int32_t n_left; /* sequences not yet freed */
    int32_t n_prompt_tokens;
    int32_t *prompt;
    int32_t max_tokens;
    int32_t min_tokens;
    int32_t priority;
    cohort_block_key salt; /* before the first block's key */
    bool ignore_eos, include_stop, skip_special, detokenize;
    cohort_sampling_params sampling; /* points to the arrays below */
    cohort_token_bias *bias;
    int32_t *stop_tokens;       /* the request's own, and then the model's eos */
    uint32_t n_own_stop_tokens; /* of sampling.n_stop_tokens */
    char **stop;
    uint32_t n_stop;
} engine_request;

typedef struct engine_sequence {
    cohort_scheduler_request
        scheduled; /* first: the scheduler hands out pointers to it */
    engine_request *request;
    int32_t index;
    uint64_t wire_id; /* among the ranks */
    uint64_t seed;
    int32_t *tokens; /* prompt and output, allocated for max_tokens */
    int32_t n_tokens;
    cohort_block_key *keys; /* of full blocks, allocated for max_tokens; NULL: no cache */
    cohort_detokenizer *detokenizer; /* NULL without text */
    cohort_stop_text text;
    cohort_position_logprobs *prompt_logprobs; /* of positions 1 and up; NULL: unasked */
    cohort_token_logprob *prompt_entries;
    int32_t n_prompt_logprobs; /* that came in */
    bool is_cancelled;
    int64_t submitted_ns, scheduled_ns;
    struct engine_sequence *previous, *next; /* in order of submission */
} engine_sequence;

struct cohort_engine {
    cohort_engine_options options; /* no pointers in it are kept */
    cohort_engine_info info;
    char isa[32];
    cohort_model_config config;
    cohort_generation_defaults defaults;
    cohort_tokenizer *tokenizer; /* NULL: token ids only */
    cohort_executor *executor;
    cohort_scheduler *scheduler;
    int32_t max_in_flight;
    bool ranks_keep_tokens;   /* steps go out before the last one's tokens are known */
    uint8_t block_secret[32]; /* so that nobody can make two prompts' keys alike */
    uint64_t last_id, last_wire_id;
    bool is_failed;
    cohort_error failure;

    engine_sequence *first, *last; /* whose end is still to be reported */
    engine_sequence *ended;        /* reported; freed when no step holds them */
    bool has_cancelled;            /* some ended by cancel since the last step */

    cohort_future *futures[COHORT_MAX_IN_FLIGHT]; /* a ring, oldest first */
    int32_t first_future, n_futures;
    cohort_future *reported; /* what the last outputs point into */

    /* Scratch of a step. */
    cohort_step_request *requests; /* max_num_seqs each */
    cohort_step_entry *entries;
    uint8_t *message;
    size_t message_capacity;
    cohort_step_output_view view;
    cohort_completion *completions;
    size_t n_completions, completions_capacity;
    int32_t n_step_tokens; /* of the step reported last */
    uint64_t n_steps, n_computed_tokens;
};

/* keys.c: the keys of the blocks that the sequence's tokens have filled by now. */
void cohort_engine_extend_keys(const cohort_engine *engine, engine_sequence *sequence);

/* submit.c: the request goes with its last sequence. */
void cohort_engine_sequence_free(engine_sequence *sequence);

#endif /* COHORT_ENGINE_ENGINE_INTERNAL_H */
