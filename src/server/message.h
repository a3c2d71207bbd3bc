/* SPDX-License-Identifier: Apache-2.0 */
/* server/message.h - what a choice of a chat has said: thoughts, content, calls of tools.
 *
 *   open -> (add -> written -> clear)* for the deltas of a stream
 *   open -> add* -> written            for a whole message
 *
 * Without an open all text is content.
 *
 * Ownership: zero-initialise, deinit frees.   Threads: belongs to one.
 */
#ifndef COHORT_SERVER_MESSAGE_H
#define COHORT_SERVER_MESSAGE_H

#include "base/body.h"
#include "chat/output.h"

typedef struct cohort_message_options {
    cohort_reasoning reasoning;
    const cohort_output_format *format; /* of calls; NULL: Hermes' */
    const cJSON *tools;                 /* borrowed, until the last text is added */
    bool begins_in_content;             /* the prompt has ended the thoughts */
    bool finds_calls, only_first_call;
    bool only_calls; /* a grammar holds it to calls */
    bool is_stream;
} cohort_message_options;

/* What came of a call: its name, and then its arguments, of a stream in any number of
 * pieces. */
typedef struct cohort_call_piece {
    int32_t call; /* which one, from 0 */
    bool is_name;
    size_t begin, size; /* of call_text */
    char id[80];        /* of the call; where it is a name */
} cohort_call_piece;

typedef struct cohort_message {
    cohort_message_options options;
    cohort_output *output; /* NULL: not open */
    cohort_body content, reasoning;
    cohort_body call_text;
    cohort_call_piece *pieces; /* of calls, in order; since clear */
    size_t n_pieces, pieces_capacity;
    bool has_calls; /* since open */
    int64_t n_reasoning_tokens;
} cohort_message;

/* False: short memory. */
bool cohort_message_open(cohort_message *message, const cohort_message_options *options);
/* The text of n_tokens more; is_last: there is no more. */
void cohort_message_add(cohort_message *message, const char *text, size_t size,
                        int32_t n_tokens, bool is_last);
/* The pieces as the inside of OpenAI's tool_calls: JSON objects with commas between. */
void cohort_message_write_calls(const cohort_message *message, cohort_body *out);
size_t cohort_message_bytes(const cohort_message *message);
/* What was added is written; calls that have begun go on. */
void cohort_message_clear(cohort_message *message);
void cohort_message_deinit(cohort_message *message);

#endif /* COHORT_SERVER_MESSAGE_H */
