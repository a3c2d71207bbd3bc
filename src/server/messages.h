/* SPDX-License-Identifier: Apache-2.0 */
/* server/messages.h - the body of Anthropic's messages, made a chat's; private to the
 * folder. */
#ifndef COHORT_SERVER_MESSAGES_H
#define COHORT_SERVER_MESSAGES_H

#include "server/server_internal.h"

/* What follows from the server's template, too.  False: error. */
bool cohort_messages_read(const cohort_server *server, cohort_api_request *api,
                          cohort_api_error *error);

#endif /* COHORT_SERVER_MESSAGES_H */
