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

#include <pthread.h>
#include <stdatomic.h>

#include "cohort/engine.h"
#include "engine/quarantine.h"
#include "engine/scheduler.h"
#include "engine/stop.h"
#include "grammar/grammar.h"
#include "model/model_config.h"
#include "text/tokenizer.h"
#include "wire/step.h"

enum {
    COHORT_MAX_IN_FLIGHT = 64,
    COHORT_MAX_KEPT_GRAMMARS = 32,
    COHORT_MAX_KEPT_GRAMMAR_BYTES = 128 << 20, /* with their texts and masks */
};

/* What the sequences of one request share. */
typedef struct engine_request {
    cohort_request_id id;
    struct engine_sequence *first;       /* whose end is still to be reported; or NULL */
    struct engine_request *next_in_head; /* of engine_requests */
    int32_t n_left;                      /* sequences not yet freed */
    int32_t n_prompt_tokens;
    int32_t *prompt;
    int32_t max_tokens;
    int32_t min_tokens;
    int32_t priority;
    cohort_block_key salt;  /* before the first block's key */
    cohort_block_key *keys; /* of the prompt's full blocks; NULL: no cache */
    int32_t n_keys;
    bool ignore_eos, include_stop, skip_special, detokenize;
    cohort_sampling_params sampling; /* points to the arrays below */
    cohort_token_bias *bias;
    int32_t *stop_tokens;       /* the request's own, and then the model's eos */
    uint32_t n_own_stop_tokens; /* of sampling.n_stop_tokens */
    int32_t *bad_word_ids, *logprob_token_ids;
    uint32_t *allowed; /* a bit for each token that may come; NULL: any */
    uint32_t n_allowed_words;
    char **stop; /* as they were given */
    uint32_t n_stop;
    cohort_stops stops;
    cohort_grammar *grammar; /* acquired; NULL: anything may be written */
    char grammar_after[COHORT_MAX_GRAMMAR_AFTER_BYTES + 1]; /* "": at once */
} engine_request;

typedef struct engine_sequence {
    cohort_scheduler_request
        scheduled; /* first: the scheduler hands out pointers to it */
    engine_request *request;
    int32_t index;
    uint64_t wire_id; /* among the ranks */
    uint64_t seed;
    /* Prompt and output, and keys of full blocks where there is a cache, for max_tokens;
     * NULL while it was in no step yet: many may wait. */
    int32_t *tokens;
    int32_t n_tokens;
    cohort_block_key *keys;
    cohort_detokenizer *detokenizer; /* NULL without text */
    cohort_stop_text text;
    cohort_position_logprobs *prompt_logprobs; /* of positions 1 and up; NULL: unasked */
    cohort_token_logprob *prompt_entries;
    int32_t n_prompt_logprobs; /* that came in */
    /* Where the output is in the request's grammar; NULL: none, or not yet. */
    cohort_matcher *matcher;
    bool is_stuck;     /* nothing may follow: what is sampled next does not count */
    bool is_fulfilled; /* of one that is stuck: its grammar has all it demands, */
    bool has_diverged; /* or never began, as the text went on otherwise */
    /* The end of what was written before the grammar begins. */
    char before[COHORT_MAX_GRAMMAR_AFTER_BYTES];
    size_t before_bytes;
    bool is_cancelled, is_convicted;
    struct engine_sequence *next_cancelled;
    cohort_suspicion suspicion;
    int32_t n_under_way; /* tokens that steps lost with a rank would have computed */
    bool is_quarantined;
    int64_t submitted_ns, scheduled_ns;
    struct engine_sequence *previous, *next; /* in order of submission */
} engine_sequence;

/* requests.c: requests by their id, of which some sequence's end is to be reported. */
typedef struct engine_requests {
    engine_request **heads;
    size_t n, n_heads; /* a power of two */
    uint64_t n_looks;  /* requests and sequences looked at, for tests */
} engine_requests;

cohort_status cohort_engine_requests_reserve(engine_requests *requests);
void cohort_engine_requests_add(engine_requests *requests, engine_request *request);
void cohort_engine_requests_remove(engine_requests *requests, engine_request *request);
/* NULL: none. */
engine_request *cohort_engine_requests_find(engine_requests *requests, uint64_t id);

/* constrain.c: grammars by their text, and what they need of the tokenizer. */
typedef struct engine_grammars {
    pthread_mutex_t lock;          /* over all but what a step needs */
    cohort_vocabulary *vocabulary; /* NULL: no request needed it yet */
    struct kept_grammar {
        cohort_grammar_kind kind;
        char *text;
        size_t size;
        cohort_grammar *grammar;
        uint64_t last_use;
    } kept[COHORT_MAX_KEPT_GRAMMARS];
    uint64_t n_uses;
    atomic_size_t kept_bytes;
    /* Of a step, for max_num_seqs: stride words each; NULL: not needed yet. */
    uint32_t *words;
    cohort_step_mask *masks;
    uint8_t *message;
    size_t stride;
    uint32_t n_words; /* that are sent: the model's vocabulary */
} engine_grammars;

struct cohort_engine {
    cohort_engine_options options; /* no pointers in it are kept */
    cohort_engine_info info;
    char isa[32], device[16];
    cohort_model_config config;
    cohort_model_defaults defaults;
    cohort_tokenizer *tokenizer; /* NULL: token ids only */
    int32_t eos_token_id;        /* the tokenizer's; -1: none */
    cohort_executor *executor;
    cohort_scheduler *scheduler;
    int32_t max_in_flight;
    int64_t max_new_bytes;    /* of a step, for requests that are new to the ranks */
    bool ranks_keep_tokens;   /* steps go out before the last one's tokens are known */
    uint8_t block_secret[32]; /* so that nobody can make two prompts' keys alike */
    uint64_t last_id, last_wire_id;
    bool is_failed;
    cohort_error failure;
    /* A rank died: nothing is sent until all are ready again. */
    bool is_interrupted, is_rolled_back;
    bool is_paused;         /* by cohort_engine_pause */
    int32_t n_stopped;      /* completions that ran then */
    uint64_t n_faults;      /* of the executor, that were judged */
    bool are_many;          /* requests that those steps computed */
    engine_sequence *alone; /* in quarantine; NULL: none is */
    cohort_convicts convicts;
    uint64_t n_convicted;
    uint64_t n_recoveries, n_recovered, n_recomputed_tokens;

    engine_sequence *first, *last; /* whose end is still to be reported */
    engine_sequence *ended;        /* reported; freed when no step holds them */
    engine_sequence *cancelled;    /* since the last step; the last one first */
    engine_requests by_id;
    engine_grammars *grammars;

    cohort_future *futures[COHORT_MAX_IN_FLIGHT]; /* a ring, oldest first */
    int32_t first_future, n_futures;
    cohort_future *reported; /* what the last outputs point into */

    /* The masked entries of the step sent last, while it waits for their masks. */
    struct masked_entry {
        engine_sequence *sequence;
        uint32_t entry;
    } * masked; /* max_num_seqs */
    int32_t n_masked;

    /* Scratch of a step. */
    cohort_step_request *requests; /* max_num_seqs each */
    cohort_step_entry *entries;
    uint8_t *message;
    size_t message_capacity;
    cohort_step_output_view view;
    cohort_completion *completions;
    size_t n_completions, completions_capacity;
    int32_t n_step_tokens; /* of the step reported last */
    int64_t reported_ns;   /* when what is reported came */
    uint64_t n_steps, n_computed_tokens, n_corrupted;
    int64_t schedule_ns, wait_ns, output_ns, caller_ns; /* of cohort_engine_stats */
    int64_t returned_ns; /* by the last step, which left something to do; 0 */
};

/* keys.c: adds the keys of the blocks that the tokens fill; how many there are then. */
int32_t cohort_engine_extend_keys(const cohort_engine *engine, cohort_block_key salt,
                                  const int32_t *tokens, int32_t n_tokens,
                                  cohort_block_key *keys, int32_t n_keys);

/* constrain.c */
cohort_status cohort_engine_grammars_create(cohort_engine *engine);
void cohort_engine_grammars_destroy(cohort_engine *engine);
/* Where the request has a grammar, the sequence gets a matcher. */
cohort_status cohort_engine_constrain(const cohort_engine *engine,
                                      engine_sequence *sequence);
/* The masks of engine->masked, as a message in engine->grammars; all tokens before them
 * are known. */
cohort_status cohort_engine_make_masks(cohort_engine *engine, size_t *out_size_bytes);
/* The sequence has a token more that is no stop token.  STOP: and with it, it ends;
 * ERROR: its grammar does not have it; NONE. */
cohort_status cohort_engine_follow(const cohort_engine *engine, engine_sequence *sequence,
                                   int32_t token, cohort_finish_reason *out_reason);

/* recover.c: after a call of the executor ended with COHORT_E_INTERRUPTED, and no older
 * step is left that may have come back before.  OK: the ranks are ready, and the next
 * step goes on behind the last one that came back; COHORT_PENDING: not by the deadline.
 */
cohort_status cohort_engine_recover(cohort_engine *engine, int64_t deadline_ns);
/* The step came back, and all its results were taken. */
void cohort_engine_acquit(cohort_engine *engine, const cohort_schedule *schedule);
/* The sequence ended: the next one in quarantine runs, or all do. */
void cohort_engine_leave_quarantine(cohort_engine *engine, engine_sequence *sequence);
/* INVALID: the same killed ranks lately. */
cohort_status cohort_engine_check_convicts(const cohort_engine *engine,
                                           const engine_request *request);

/* submit.c: ends all its sequences; the next step says so. */
void cohort_engine_end_request(cohort_engine *engine, const engine_request *request,
                               bool is_convicted);

/* ---- sequence.c -------------------------------------------------------------------- */

/* What the ranks are told of a sequence that they don't know. */
cohort_step_request cohort_engine_request_of(const engine_sequence *sequence);
/* Accepts NULL, and one that is half made. */
void cohort_engine_request_free(engine_request *request);
/* The request goes with its last sequence. */
void cohort_engine_sequence_free(engine_sequence *sequence);

/* submit.c: before it is in a step for the first time. */
cohort_status cohort_engine_seat(const cohort_engine *engine, engine_sequence *sequence);
#endif /* COHORT_ENGINE_ENGINE_INTERNAL_H */
