/* SPDX-License-Identifier: Apache-2.0 */
/* cohort/engine.h - prompts in, text out: requests over a model that an executor runs.
 *
 *   start -> (submit | cancel | step -> outputs)* -> destroy
 *
 * Requests are served together: each step computes what the scheduler picks of all of
 * them, prompts in chunks.  What a request answers depends on its own parameters and seed
 * alone, never on what runs beside it or on how many ranks there are (up to the rounding
 * of logits).
 *
 * Ownership: what is handed in is copied; outputs are the engine's until the next step.
 * Threads:   an engine belongs to one thread; describe, executor, tokenize, detokenize,
 *            token_string, bad_word_ids and compile_grammar are for any.
 * Errors:    a request that cannot be is refused by submit, with the numbers; a failed
 *            rank fails every step from then on, with that rank's error.
 */
#ifndef COHORT_ENGINE_H
#define COHORT_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/executor.h"
#include "cohort/grammar.h"
#include "cohort/sampling.h"
#include "cohort/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cohort_engine cohort_engine;

enum { COHORT_MAX_GRAPH_SIZES = 16 };

/* vLLM's engine arguments; what is 0 or NULL is chosen by the engine. */
typedef struct cohort_engine_options {
    /* Its config is the engine's to fill, and messages may be as large as its steps take;
     * its async_scheduling is on by default: the next step is scheduled and sent while
     * one computes. */
    cohort_executor_options executor;
    const char *model;       /* a Hugging Face directory */
    const char *tokenizer;   /* one with a tokenizer in place of the model's; NULL */
    const char *dtype;       /* "auto", "float32", "bfloat16", "float16" */
    const char *load_format; /* "auto", "safetensors", "dummy" */
    uint64_t seed;           /* of dummy weights and of requests without one */
    int32_t max_model_len;
    int32_t max_num_seqs;
    int32_t max_num_batched_tokens;
    int32_t block_size;            /* tokens of a KV block; 16 */
    int64_t kv_cache_memory_bytes; /* of each rank */
    int64_t num_blocks;            /* of the cache, whatever memory there is */
    bool enable_prefix_caching;    /* prompts start behind what others have in common */
    bool priority_scheduling;      /* a request's priority counts before its arrival */
    const char *layer_partition;   /* "7,8,8,7": layers of each pipeline stage */
    const char *cpu_threads_bind;  /* as VLLM_CPU_OMP_THREADS_BIND; "auto" */
    const char *quantization;      /* "int8", made of weights as they load; NULL: none */
    const char *device;            /* "auto" (NULL), the fastest here, or "cpu" */
    const char *isa;               /* "portable", "avx2", ...; NULL: the fastest here */
    /* On a GPU steps of decoding are recorded as graphs and replayed: not at all, or of
     * these numbers of rows (one: up to that; none: as many as there may be sequences).
     */
    bool enforce_eager;
    const char *cuda_graph_sizes[COHORT_MAX_GRAPH_SIZES + 1]; /* NULL-terminated */
    bool skip_tokenizer_init; /* token ids in, token ids out, no text */
    /* Defaults of requests: NULL or "auto": of the model's generation_config.json,
     * "vllm": of none, else of the one in this folder; and a JSON object that goes before
     * it. */
    const char *generation_config, *override_generation_config;
} cohort_engine_options;

COHORT_API cohort_engine_options cohort_engine_defaults(void);

/* Returns when all ranks have loaded and the KV cache is there; on an error nothing is
 * left. */
COHORT_API cohort_status cohort_engine_start(const cohort_engine_options *options,
                                             cohort_engine **out_engine);

typedef struct cohort_engine_info {
    int32_t max_model_len;
    int32_t max_num_seqs;
    int32_t max_num_batched_tokens;
    int32_t block_size;
    int64_t num_blocks;
    int64_t num_blocks_override; /* as it was asked for; 0: from the memory there was */
    int64_t kv_block_bytes;      /* of all ranks together */
    int64_t weight_bytes;        /* of all ranks together */
    bool prefix_caching, priority_scheduling;
    int32_t vocab_size;
    int32_t eos_token_id; /* the tokenizer's; -1: none */
    /* max_new_tokens of the generation config, 0: none; and where its user set it, what
     * no request is to exceed. */
    int32_t default_max_tokens, most_max_tokens;
    const char *architecture;
    const char *isa, *device; /* of rank 0; the device is "cpu" or "cuda" */
    int64_t open_ns;          /* durations: config and tokenizer, */
    int64_t executor_ns;
    int64_t kv_cache_ns;
} cohort_engine_info;

COHORT_API void cohort_engine_describe(const cohort_engine *engine,
                                       cohort_engine_info *out_info);
/* For health, phases and failure; the engine's own. */
COHORT_API cohort_executor *cohort_engine_executor(cohort_engine *engine);

typedef struct cohort_request_id {
    uint64_t value;
} cohort_request_id;

typedef struct cohort_request {
    /* The prompt as token ids; where they are NULL, as text, which gets the special
     * tokens that the tokenizer puts around it. */
    const int32_t *prompt_token_ids;
    size_t n_prompt_token_ids;
    const char *prompt;
    size_t prompt_bytes;

    cohort_sampling_params sampling;
    /* Texts that do not come; where sampling.bad_word_ids has none. */
    const char *const *bad_words;
    uint32_t n_bad_words;
    const int32_t *allowed_token_ids; /* no others come; NULL: any */
    size_t n_allowed_token_ids;
    bool has_seed;      /* sampling.seed is meant; else one is drawn from the engine's */
    int32_t n;          /* completions */
    int32_t max_tokens; /* 0: as many as max_model_len leaves */
    const char *const *stop; /* strings that end the text; C0 80 is a NUL in them */
    uint32_t n_stop;
    bool include_stop_str_in_output;
    bool ignore_eos;
    bool skip_special_tokens;
    int32_t priority; /* the smaller, the earlier; needs priority_scheduling */
    bool detokenize;  /* false: no text, and no stop strings */
    const char
        *cache_salt; /* prefixes are shared with requests of the same; NULL: none */
    /* What the output must match, and then ends; NULL: anything.  Needs a tokenizer; the
     * engine acquires it for as long as the request lives. */
    cohort_grammar *grammar;
    /* The text behind which the grammar begins, "</think>": before it anything may be
     * written.  NULL: at once. */
    const char *grammar_after;
} cohort_request;

enum {
    COHORT_MAX_STOP_STRINGS = 64,
    COHORT_MAX_STOP_BYTES = 65536, /* of all of them */
    COHORT_MAX_BAD_WORD_BYTES = 1024,
    COHORT_MAX_GRAMMAR_AFTER_BYTES = 31,
    COHORT_MAX_COMPLETIONS = 1024 /* n of a request */
};

/* n 1, max_tokens 16, special tokens skipped, text wanted where there is a tokenizer, and
 * cohort_sampling_defaults; what the generation config says goes before: temperature,
 * top_p, top_k, min_p, repetition_penalty, max_new_tokens. */
COHORT_API cohort_request cohort_engine_request_defaults(const cohort_engine *engine);

/* cohort_grammar_compile, but what was compiled lately is kept with what was computed for
 * it.  The caller releases it.  COHORT_E_INVALID also without a tokenizer. */
COHORT_API cohort_status cohort_engine_compile_grammar(const cohort_engine *engine,
                                                       cohort_grammar_kind kind,
                                                       const char *text,
                                                       size_t text_bytes,
                                                       cohort_grammar **out_grammar);

/* Queues a request.  COHORT_E_INVALID names the field and the numbers; nothing is queued
 * then. */
COHORT_API cohort_status cohort_engine_submit(cohort_engine *engine,
                                              const cohort_request *request,
                                              cohort_request_id *out_id);
/* Its completions end with COHORT_FINISH_ABORT in the next step.  Unknown and ended ids
 * are ignored. */
COHORT_API void cohort_engine_cancel(cohort_engine *engine, cohort_request_id id);
/* The same for so many requests that were submitted one after another. */
COHORT_API void cohort_engine_cancel_many(cohort_engine *engine, cohort_request_id first,
                                          size_t count);

typedef enum cohort_finish_reason {
    COHORT_FINISH_NONE, /* goes on */
    COHORT_FINISH_STOP, /* eos, a stop token or a stop string */
    COHORT_FINISH_LENGTH,
    COHORT_FINISH_ABORT,
    /* The output is a part of what its grammar demands, and no token may follow: the text
     * went on behind grammar_after in the same token, or the vocabulary lacks a byte. */
    COHORT_FINISH_ERROR,
    /* No logit of its next token was a finite number. */
    COHORT_FINISH_CORRUPTED,
    /* Its steps killed ranks, also where it was alone in them.  Where the same is
     * submitted within ten minutes, it is refused. */
    COHORT_FINISH_KILLER
} cohort_finish_reason;

/* "stop", "length", "abort", "error" (of all three kinds); NULL for none. */
COHORT_API const char *cohort_finish_reason_name(cohort_finish_reason reason);

/* What a step added to one completion. */
typedef struct cohort_completion {
    cohort_request_id request_id;
    int32_t index; /* of the completion: 0 to n - 1 */
    const int32_t *token_ids;
    int32_t n_token_ids;
    /* Whole characters; what may become a stop string is held back until it cannot. */
    const char *text;
    size_t text_bytes;
    const cohort_position_logprobs *logprobs; /* one a token, where asked for */
    /* Of prompt tokens 1 and up, where asked for: with the first token of completion 0 */
    const cohort_position_logprobs *prompt_logprobs;
    int32_t n_prompt_logprobs;
    cohort_finish_reason finish_reason;
    int32_t stop_token_id;           /* that ended it, but for the tokenizer's eos; -1 */
    const char *stop_string;         /* that ended it; NULL */
    const int32_t *prompt_token_ids; /* of the request */
    int32_t n_prompt_token_ids;
    int32_t n_generated;  /* tokens of this completion so far */
    int64_t submitted_ns; /* on cohort_clock_ns() */
    int64_t scheduled_ns; /* first time in a step; 0: never */
    int64_t reported_ns;  /* when the ranks' answer came; of a cancelled one, its end */
    int32_t n_preemptions;
    int32_t n_cached_tokens; /* of the prompt, found in the KV cache */
} cohort_completion;

typedef struct cohort_engine_outputs {
    const cohort_completion *completions; /* in the order of the requests */
    size_t n_completions;
    int32_t n_running, n_waiting; /* completions left */
    int32_t n_tokens;             /* that the step computed, of prompts too */
} cohort_engine_outputs;

/* Keeps the ranks busy and returns what the oldest step under way gave.  COHORT_PENDING:
 * nothing is left to do; COHORT_E_TIMEOUT: the deadline passed, call again.  Where the
 * executor replaces a rank that died, requests wait for it and go on as if nothing had
 * been: that is a timeout, too, where it takes longer than the deadline. */
COHORT_API cohort_status cohort_engine_step(cohort_engine *engine, int64_t deadline_ns,
                                            cohort_engine_outputs *out_outputs);
COHORT_API bool cohort_engine_has_unfinished(const cohort_engine *engine);
/* While paused no step is sent: those under way come back, then there is nothing left to
 * do until it goes on. */
COHORT_API void cohort_engine_pause(cohort_engine *engine, bool is_paused);

typedef struct cohort_engine_stats {
    int32_t n_running, n_waiting; /* completions */
    int64_t n_free_blocks;        /* of cohort_engine_info.num_blocks */
    uint64_t n_steps, n_computed_tokens, n_preemptions; /* since the start */
    uint64_t n_cache_queries, n_cache_hits; /* tokens: asked of the prefix cache, found */
    uint64_t n_corrupted; /* completions that ended with COHORT_FINISH_CORRUPTED */
    /* Ranks that died and were replaced: how often, completions that it stopped and that
     * went on, and tokens that were computed again for it. */
    uint64_t n_recoveries, n_recovered, n_recomputed_tokens;
    uint64_t n_convicted; /* requests that ended with COHORT_FINISH_KILLER */
    bool is_recovering;
    /* Of grammars, with their masks: of those kept for the next request, at most 128 MiB,
     * and of all in this process, at most 1 GiB and what is compiled just then. */
    int64_t kept_grammar_bytes, grammar_bytes;
    /* Where the time of the steps went, since the start: scheduling, encoding and
     * sending; waiting for the ranks; taking their results in; and in the caller between
     * two steps with something left to do.  What is not waiting is what the control plane
     * costs. */
    int64_t schedule_ns, wait_ns, output_ns, caller_ns;
} cohort_engine_stats;

COHORT_API void cohort_engine_get_stats(const cohort_engine *engine,
                                        cohort_engine_stats *out_stats);

/* Token ids of a text and back; COHORT_E_INVALID without a tokenizer.  The caller frees
 * what is returned. */
COHORT_API cohort_status cohort_engine_tokenize(const cohort_engine *engine,
                                                const char *text, size_t text_bytes,
                                                bool special, int32_t **out_ids,
                                                size_t *out_count);
COHORT_API cohort_status cohort_engine_detokenize(const cohort_engine *engine,
                                                  const int32_t *ids, size_t count,
                                                  bool skip_special, char **out_text,
                                                  size_t *out_text_bytes);
/* One token as the vocabulary spells it: "Ġthe". */
COHORT_API cohort_status cohort_engine_token_string(const cohort_engine *engine,
                                                    int32_t token_id, char **out_text,
                                                    size_t *out_text_bytes);

/* Texts as sampling.bad_word_ids, for requests that share them: each as it begins a text,
 * and as it stands behind a blank.  The caller frees them. */
COHORT_API cohort_status cohort_engine_bad_word_ids(const cohort_engine *engine,
                                                    const char *const *bad_words,
                                                    uint32_t n_bad_words,
                                                    int32_t **out_ids,
                                                    uint32_t *out_count);

/* Shuts the executor down.  Accepts NULL. */
COHORT_API void cohort_engine_destroy(cohort_engine *engine);

#ifdef __cplusplus
}
#endif

#endif /* COHORT_ENGINE_H */
