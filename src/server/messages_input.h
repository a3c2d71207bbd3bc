/* SPDX-License-Identifier: Apache-2.0 */
/* server/messages_input.h - what a body of Anthropic's /v1/messages asks for, as a chat.
 *
 * Blocks of a message are its parts: thinking is reasoning, tool_use a call, and every
 * tool_result a message of its own before it.
 */
#ifndef COHORT_SERVER_MESSAGES_INPUT_H
#define COHORT_SERVER_MESSAGES_INPUT_H

#include "server/schema.h"

/* Is there a system's message among the others? */
bool cohort_messages_have_system(const cohort_api_request *api);
/* merges_system: what those say goes to the first message.  False: error says what is
 * wrong. */
bool cohort_messages_translate(cohort_api_request *api, bool merges_system,
                               cohort_api_error *error);

#endif /* COHORT_SERVER_MESSAGES_INPUT_H */
