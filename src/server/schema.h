/* SPDX-License-Identifier: Apache-2.0 */
/* server/schema.h - the fields of every request body, in one table per kind of body.
 *
 * Reading, the words of refusal, defaults and /openapi.json are all made from it.  What a
 * field may be written as is pydantic's business, so numbers come in strings too and
 * unknown fields pass.  A field that we know and do not do is refused by name.
 *
 * Ownership: a request owns the JSON it was read from; values point into it, and are
 *            unset where trim forgets theirs.
 */
#ifndef COHORT_SERVER_SCHEMA_H
#define COHORT_SERVER_SCHEMA_H

#include "server/api_error.h"

typedef enum cohort_server_schema {
    COHORT_SCHEMA_COMPLETION,
    COHORT_SCHEMA_CHAT,
    COHORT_SCHEMA_TOKENIZE,
    COHORT_SCHEMA_TOKENIZE_CHAT,
    COHORT_SCHEMA_DETOKENIZE,
    COHORT_SCHEMA_INSTRUCTION,
    COHORT_SCHEMA_RESPONSES,
    COHORT_SCHEMA_MESSAGES,
    COHORT_SCHEMA_COUNT_TOKENS,
    COHORT_N_SCHEMAS
} cohort_server_schema;

/* One field: what it holds depends on its kind. */
typedef struct cohort_value {
    bool is_set;   /* given, and not null */
    bool is_null;  /* given as null */
    int64_t whole; /* integers and truth; the default where it is not set */
    double real;
    const char *text;
    const cJSON *json; /* lists and objects */
} cohort_value;

typedef struct cohort_api_request {
    cJSON *json;
    size_t parsed_bytes; /* routes.c: that it is counted with */
    cohort_value model, prompt, messages, tokens, request_id, cache_salt;
    cohort_value max_tokens, max_completion_tokens, n, stream, stream_options, echo;
    cohort_value include_usage, continuous_usage_stats; /* of stream_options */
    cohort_value logprobs, top_logprobs, prompt_logprobs, logprob_token_ids;
    cohort_value priority, seed;
    cohort_value temperature, top_p, top_k, min_p, repetition_penalty, presence_penalty;
    cohort_value frequency_penalty, logit_bias, allowed_token_ids, bad_words;
    cohort_value stop, stop_token_ids, include_stop_str_in_output, ignore_eos, min_tokens;
    cohort_value skip_special_tokens, truncate_prompt_tokens, truncation_side;
    cohort_value add_special_tokens, return_token_ids, return_tokens_as_token_ids;
    cohort_value return_token_strs, return_prompt_text, suffix;
    cohort_value response_format, structured_outputs, tools, tool_choice;
    cohort_value parallel_tool_calls, include_reasoning, reasoning_effort;
    cohort_value add_generation_prompt, continue_final_message, documents;
    cohort_value chat_template, chat_template_kwargs;
    cohort_value stream_interval, routed_experts_prompt_start;
    cohort_value instruction;
    /* Of responses, beside those above. */
    cohort_value input, instructions, metadata, background, include, max_tool_calls;
    cohort_value previous_response_id, reasoning, service_tier, store, text, truncation;
    cohort_value user;
    /* Of messages. */
    cohort_value system, thinking, output_config;
    cohort_value other; /* accepted, without effect */
} cohort_api_request;

/* The text of a body, which may be UTF-16 or UTF-32 (json_text.h); the caller frees
 * out_copy. */
bool cohort_api_text(const char *bytes, size_t size, char **out_copy,
                     const char **out_text, size_t *out_size, cohort_api_error *error);
/* Reads it.  False: error says why; deinit frees in either case. */
bool cohort_api_request_read(cohort_api_request *out, cohort_server_schema schema,
                             const char *text, size_t size, cohort_api_error *error);
/* An item of a list of ids, which may be written as any integer; -1 where it is none. */
int64_t cohort_api_id(const cJSON *item);
/* The request was read: forgets all but stop and cache_salt, whose text the engine's
 * request borrows.  Returns how many bytes those take. */
size_t cohort_api_request_trim(cohort_api_request *request);
/* The tools, which are the caller's from here on, and whose bytes are added; NULL: there
 * are none. */
cJSON *cohort_api_take_tools(cohort_api_request *request, size_t *in_out_bytes);
void cohort_api_request_deinit(cohort_api_request *request);

/* What /openapi.json says: the members of "components"."schemas". */
void cohort_server_schema_write(cohort_body *out);
const char *cohort_server_schema_name(cohort_server_schema schema);

#endif /* COHORT_SERVER_SCHEMA_H */
