/* SPDX-License-Identifier: Apache-2.0 */
/* server/responses_input.h - what a body of /v1/responses asks for, as a chat.
 *
 * Instructions become the system's message, items become messages: those of one turn of
 * the assistant (thoughts, text, calls) are one.  Tools that OpenAI would run itself are
 * passed over, as in vLLM; a custom tool is a function with one text, "input".
 */
#ifndef COHORT_SERVER_RESPONSES_INPUT_H
#define COHORT_SERVER_RESPONSES_INPUT_H

#include "server/schema.h"

/* history: {"messages":[...],"items":[...]} of the response before, what its model was
 * told and what it said; NULL: there is none.  False: error says what is wrong. */
bool cohort_responses_translate(cohort_api_request *api, const cJSON *history,
                                cohort_api_error *error);

#endif /* COHORT_SERVER_RESPONSES_INPUT_H */
