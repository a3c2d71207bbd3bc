/* SPDX-License-Identifier: Apache-2.0 */
/* server/as_chat.h - the fields of a chat, made of the body of another API.
 *
 *   messages = begin -> add_message, add_call... -> set_tools, set_format
 *
 * Ownership: all that is made belongs to the request's JSON.
 * Errors:    short memory leaves out what there was no room for, as elsewhere with cJSON.
 */
#ifndef COHORT_SERVER_AS_CHAT_H
#define COHORT_SERVER_AS_CHAT_H

#include "server/schema.h"

/* The list of messages of a request that has the other fields of a chat as their
 * defaults are; it is empty.  NULL: short memory, error says so. */
cJSON *cohort_as_chat_begin(cohort_api_request *api, cohort_api_error *error);

/* A message; content NULL: none yet. */
cJSON *cohort_as_chat_add_message(cJSON *messages, const char *role, const char *content);
/* The last message where it is the assistant's, or a new one of theirs. */
cJSON *cohort_as_chat_assistant(cJSON *messages);
void cohort_as_chat_add_call(cJSON *message, const char *id, const char *name,
                             const char *arguments);

/* Appends a function to a list of tools; description, parameters and strict may be NULL.
 */
void cohort_as_chat_add_tool(cJSON *tools, const char *name, const cJSON *description,
                             const cJSON *parameters, const cJSON *strict);
/* Takes both lists.  choice: "auto", "required", "none"; NULL: not said.  name: of the
 * one function to call, before choice; NULL: none. */
void cohort_as_chat_set_tools(cohort_api_request *api, cJSON *tools, const char *choice,
                              const char *name);
/* The answer is to match a schema; NULL: to be any object. */
void cohort_as_chat_set_format(cohort_api_request *api, const cJSON *schema);

#endif /* COHORT_SERVER_AS_CHAT_H */
