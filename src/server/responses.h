/* SPDX-License-Identifier: Apache-2.0 */
/* server/responses.h - a response of /v1/responses: what is told of its request, and the
 * items of its output, whole or as the events of a stream; private to responses*.c.
 *
 * Ownership: a response belongs to its generation (own).
 */
#ifndef COHORT_SERVER_RESPONSES_H
#define COHORT_SERVER_RESPONSES_H

#include "server/generation.h"

/* Members that are told as the request had them. */
typedef enum cohort_response_told {
    COHORT_TOLD_INSTRUCTIONS,
    COHORT_TOLD_METADATA,
    COHORT_TOLD_TOOL_CHOICE,
    COHORT_TOLD_TOOLS,
    COHORT_TOLD_MAX_TOOL_CALLS,
    COHORT_TOLD_PREVIOUS,
    COHORT_TOLD_REASONING,
    COHORT_TOLD_TEXT,
    COHORT_TOLD_USER,
    COHORT_N_TOLD
} cohort_response_told;

typedef enum cohort_response_item {
    COHORT_ITEM_NONE,
    COHORT_ITEM_REASONING,
    COHORT_ITEM_MESSAGE,
    COHORT_ITEM_CALL,
    COHORT_ITEM_CUSTOM_CALL,
} cohort_response_item;

typedef struct cohort_response {
    cohort_body told[COHORT_N_TOLD]; /* JSON */
    const char *service_tier, *truncation;
    bool is_parallel, is_background, is_stored;
    cohort_body custom_names; /* of custom tools: each with a NUL behind it */
    cohort_body history;      /* {"messages":[...] of a chat: what the model was told */

    cohort_body items; /* of the output, those that are whole, with commas between */
    int64_t n_items;
    int64_t sequence;          /* of events */
    cohort_response_item open; /* the item under way */
    char item_id[24];
    cohort_body said, logprobs; /* by it so far */
    cohort_body call_name;
    char call_id[80];
    size_t status_at; /* in the response that was written last */
} cohort_response;

static inline cohort_response *cohort_response_of(const cohort_generation *generation) {
    return generation->own;
}

/* ---- responses_output.c ------------------------------------------------------------ */

/* The object; status: "in_progress" and the like; why: of a failure, else NULL. */
void cohort_response_write(const cohort_generation *generation, const char *status,
                           const char *why, cohort_body *out);
/* The whole output of a choice becomes items. */
void cohort_response_add_items(cohort_generation *generation,
                               cohort_server_choice *choice);

/* ---- responses_stream.c: events, appended to out ------------------------------------
 */

/* response.created and the like, with the response in it. */
void cohort_response_write_event(cohort_generation *generation, const char *type,
                                 const char *status, const char *why, cohort_body *out);
/* What a message has got since it was cleared. */
void cohort_response_write_deltas(cohort_generation *generation,
                                  cohort_server_choice *choice, cohort_body *out);
/* The item under way is whole. */
void cohort_response_close_item(cohort_response *response, cohort_body *out);

/* ---- items, for both --------------------------------------------------------------- */

/* Appends an item of the open kind, of what was said. */
void cohort_response_write_item(const cohort_response *response, const char *status,
                                cohort_body *out);
void cohort_response_write_custom_input(const cohort_body *said, cohort_body *out);
/* A new item: draws its id. */
void cohort_response_open_item(cohort_response *response, cohort_response_item kind);
void cohort_response_begin_call(cohort_response *response, const cohort_message *message,
                                const cohort_call_piece *piece);
/* The item joins those that are whole. */
void cohort_response_keep_item(cohort_response *response, const char *status);

#endif /* COHORT_SERVER_RESPONSES_H */
