/* SPDX-License-Identifier: Apache-2.0 */
/* server/generation.h - one request for text under way, and the answer it becomes.
 *
 *   body -> prompts -> engine -> (chunks)* -> answer, freed
 *
 * Completions and chats differ in how they read and write; what they share is here:
 * prompts, choices, counts, and the life between HTTP and engine.  Choice c belongs to
 * prompt c / n.
 *
 * Threads: filled on the HTTP thread, then the driver's alone.
 */
#ifndef COHORT_SERVER_GENERATION_H
#define COHORT_SERVER_GENERATION_H

#include "http/http.h"
#include "server/driver.h"
#include "server/message.h"
#include "server/params.h"
#include "server/server_internal.h"

typedef struct cohort_generation cohort_generation;
typedef struct cohort_server_choice cohort_server_choice;

/* How one kind of request reads and writes. */
typedef struct cohort_generation_kind {
    cohort_server_schema schema;
    const char *id_prefix, *object, *chunk_object;
    bool is_chat;
    cohort_api_error_shape error_shape;
    const char *idle; /* what a stream gets while nothing comes; NULL: a comment */
    /* Of a body that is no completion's or chat's: the fields of one, from its own; may
     * name the request (id) and keep what it needs (own, which discard frees).  NULL:
     * there is nothing to do.  False: error says why. */
    bool (*translate)(cohort_generation *generation, cohort_api_error *error);
    void (*discard)(void *own);
    /* The prompts.  False: error says why. */
    bool (*read)(cohort_generation *generation, cohort_api_error *error);
    /* Where a generation is_detached: what its client is told before it has begun, from
     * when on write_answer and break_stream find no exchange; and that it does not begin
     * after all.  False: error says why. */
    bool (*detach)(cohort_generation *generation, cohort_body *out,
                   cohort_api_error *error);
    void (*reattach)(cohort_generation *generation);
    /* The stream was accepted; NULL: nothing to say yet. */
    void (*begin)(cohort_generation *generation);
    void (*add)(cohort_generation *generation, cohort_server_choice *choice,
                const cohort_completion *completion);
    /* The whole answer; or the end of a stream, or an error that ends it. */
    void (*write_answer)(cohort_generation *generation, cohort_body *out);
    void (*end_stream)(cohort_generation *generation);
    void (*break_stream)(cohort_generation *generation, const cohort_api_error *error);
    /* Where choices.c writes it: a choice, and what follows the usage; NULL: nothing. */
    void (*write_choice)(cohort_generation *generation, cohort_server_choice *choice,
                         cohort_body *out);
    void (*write_more)(const cohort_generation *generation, cohort_body *out);
} cohort_generation_kind;

/* A character has at most so many bytes, and a token at least one. */
enum { COHORT_HELD_TOKENS = 3 };

/* The four lists of a completion's logprobs, or the one of a chat's, while they grow. */
typedef struct cohort_logprob_lists {
    cohort_body offsets, values, tokens, tops;
    int64_t offset;                   /* characters so far */
    int32_t held[COHORT_HELD_TOKENS]; /* the last ids, whose bytes are no character yet */
    int32_t n_held;
} cohort_logprob_lists;

typedef struct cohort_prompt {
    int32_t *ids;
    size_t n_ids;
    char *text; /* for echo or prompt_text; NULL where it was not asked for */
    size_t text_bytes;
    cohort_body logprobs;            /* its prompt_logprobs, as JSON; empty: none */
    cohort_logprob_lists echoed;     /* of its tokens, before each completion's */
    bool is_told;                    /* echoed is whole: its first completion came */
    int32_t n_shown;                 /* completions whose first chunk was written */
    int32_t n_ended, most_generated; /* of its completions */
    int32_t n_cached;                /* tokens that its first completion found */
    size_t held_bytes;               /* of its logprobs, as they are counted */
} cohort_prompt;

struct cohort_server_choice {
    int32_t index;
    cohort_prompt *prompt;
    cohort_body text;
    cohort_message message; /* of a chat: what the text is */
    cohort_logprob_lists logprobs;
    cohort_body token_ids;       /* "1,2,3" */
    bool has_begun;              /* its first token came */
    bool is_shown;               /* its first chunk was written */
    int32_t n_generated, n_sent; /* tokens; sent of a stream */
    int32_t n_unread;            /* tokens of text that message has not got yet */
    cohort_finish_reason finish_reason;
    int32_t stop_token_id;
    char *stop_string;
    int64_t first_ns, last_ns; /* when its tokens came; 0: none yet */
    size_t held_bytes;         /* of a whole answer, as they are counted */
};

struct cohort_generation {
    cohort_job job; /* first */
    cohort_server *server;
    cohort_exchange *exchange;
    const cohort_generation_kind *kind;
    cohort_api_request api; /* trimmed when it was read */
    cohort_params params;
    bool has_begun, returns_token_ids, tokens_as_ids;
    bool is_parsed, hides_reasoning; /* of a chat: more than content is told apart */
    /* Why it has to end with an error; NULL: it has not. */
    const char *broken;
    cohort_status broken_code;
    /* Of a chat: who answers, and what the answer goes on with. */
    cohort_body role, echo;
    cohort_body id;
    int64_t created_s, begin_ns;

    cohort_prompt *prompts;
    size_t n_prompts;
    cohort_request *requests; /* one per prompt */
    cohort_server_choice *choices;
    int32_t n_choices;
    int64_t n_prompt_tokens, n_completion_tokens;
    size_t held_bytes; /* of all choices and prompts */
    cohort_body head;  /* of every chunk of a stream */
    cJSON *tools;      /* of a chat whose calls are read by their types; NULL: others */
    void *own;         /* its kind's; NULL: nothing */
    size_t own_bytes;  /* that both take at first */
    size_t more_bytes; /* set by translate, which stopped: more than the HTTP thread has
                        * time to read, off it the request begins anew */
    size_t grown_bytes;
    bool is_detached; /* nobody waits for it: exchange is NULL once it has begun */
};

/* Answers a request: at once where it is refused, else when the engine has. */
void cohort_generation_serve(cohort_server *server, cohort_exchange *exchange,
                             const cohort_generation_kind *kind);

/* ---- for those who read ------------------------------------------------------------ */

bool cohort_generation_set_prompts(cohort_generation *generation, size_t n_prompts,
                                   cohort_api_error *error);
/* prompt.c: tokenizes; the special tokens of the tokenizer are added where add_special.
 */
bool cohort_generation_tokenize(cohort_generation *generation, cohort_prompt *prompt,
                                const char *text, size_t text_bytes, bool add_special,
                                cohort_api_error *error);
/* Truncates as asked, and checks lengths against the context. */
bool cohort_generation_check_prompt(cohort_generation *generation, cohort_prompt *prompt,
                                    cohort_api_error *error);

/* measure.c: tells the metrics what came. */
void cohort_generation_measure(cohort_generation *generation,
                               cohort_server_choice *choice,
                               const cohort_completion *completion);
/* ... and of choices that an error ended. */
void cohort_generation_measure_error(const cohort_generation *generation);

/* The logprobs of a prompt grew or went. */
void cohort_generation_count_prompt(cohort_generation *generation, cohort_prompt *prompt);

/* What own took more since it began. */
void cohort_generation_count_own(cohort_generation *generation, size_t bytes);

/* Of a stream: is what the choice has to be sent now?  The first token is, and the last;
 * those between in groups of stream_interval, as vLLM's output_processor.py does it. */
bool cohort_generation_is_due(const cohort_generation *generation,
                              cohort_server_choice *choice);

/* ---- for those who write ----------------------------------------------------------- */

/* All streams share one: its lines are in the cache when the second comes. */
cohort_body *cohort_generation_empty_chunk(const cohort_generation *generation);

/* ---- choices.c --------------------------------------------------------------------- */

typedef struct cohort_usage {
    int64_t n_prompt, n_completion;
    int64_t n_cached;    /* -1: not told */
    int64_t n_reasoning; /* -1: thoughts are not told from the rest */
} cohort_usage;

/* Of one choice so far, or (NULL) of the whole answer. */
cohort_usage cohort_generation_usage(const cohort_generation *generation,
                                     const cohort_server_choice *choice);

/* For the kinds of completions and chats. */
void cohort_choices_write_answer(cohort_generation *generation, cohort_body *out);
void cohort_choices_end_stream(cohort_generation *generation);
void cohort_choices_break_stream(cohort_generation *generation,
                                 const cohort_api_error *error);

/* "data: {"id":...,"object":...,"created":...,"model":...,"choices":[", to be gone on
 * with */
cohort_body *cohort_generation_open_chunk(cohort_generation *generation);
/* After the choices' "]": what usage and fingerprint this chunk has; pushes it.  With
 * continuous usage, that of the chunk's choice so far. */
void cohort_generation_close_chunk(cohort_generation *generation,
                                   const cohort_server_choice *choice, bool is_last,
                                   const char *more);
/* "finish_reason":...,"stop_reason":...; stop_reason only with a finish where lazy.
 * calls: the reason is that tools are called. */
void cohort_generation_write_reason(const cohort_server_choice *choice, bool lazy,
                                    bool calls, cohort_body *out);
/* ,"token_ids":[...] ,"prompt_token_ids":[...] ,"prompt_logprobs":[...]: null where they
 * were not asked for. */
void cohort_generation_write_ids(const cohort_generation *generation,
                                 const cohort_server_choice *choice, cohort_body *out);
void cohort_generation_write_prompt_ids(const cohort_prompt *prompt, bool is_asked,
                                        cohort_body *out);
void cohort_generation_write_prompt_logprobs(const cohort_prompt *prompt,
                                             cohort_body *out);

/* ---- chat_prompt.c, chat.c --------------------------------------------------------- */

/* The prompt of a chat, and its messages opened. */
bool cohort_generation_read_chat(cohort_generation *generation, cohort_api_error *error);
/* May the answer tell them?  Not those of thoughts that are hidden. */
bool cohort_generation_shows_logprobs(const cohort_generation *generation);
/* What came goes to the choice's message.  False: of a stream, it waits for more. */
bool cohort_generation_take_chat(cohort_generation *generation,
                                 cohort_server_choice *choice,
                                 const cohort_completion *completion);

/* ---- logprobs.c -------------------------------------------------------------------- */

void cohort_logprobs_add_completion(cohort_generation *generation,
                                    cohort_logprob_lists *lists,
                                    const cohort_position_logprobs *position,
                                    int32_t token_id);
/* The same of a prompt in two steps: what its ids say, and what the first of its
 * completions brings. */
void cohort_logprobs_add_prompt_tokens(cohort_generation *generation,
                                       cohort_prompt *prompt);
void cohort_logprobs_add_prompt_values(cohort_generation *generation,
                                       cohort_prompt *prompt,
                                       const cohort_completion *completion);
void cohort_logprobs_add_chat(cohort_generation *generation, cohort_logprob_lists *lists,
                              const cohort_position_logprobs *position);
/* {"text_offset":[...],...} or {"content":[...]}, and empties the lists. */
/* before: what goes before them, and stays; NULL: nothing. */
void cohort_logprobs_take_completion(const cohort_logprob_lists *before,
                                     cohort_logprob_lists *lists, cohort_body *out);
void cohort_logprobs_take_chat(cohort_logprob_lists *lists, cohort_body *out);
void cohort_logprobs_deinit(cohort_logprob_lists *lists);
size_t cohort_logprobs_bytes(const cohort_logprob_lists *lists);
/* [null,{"id":{"logprob":...,"rank":...,"decoded_token":...}},...] */
void cohort_logprobs_write_prompt(const cohort_server *server,
                                  const cohort_completion *completion, cohort_body *out);

#endif /* COHORT_SERVER_GENERATION_H */
