/* SPDX-License-Identifier: Apache-2.0 */
/* cli/request.h - one request of `cohort generate`: from flags, then from a JSON line. */
#ifndef COHORT_CLI_REQUEST_H
#define COHORT_CLI_REQUEST_H

#include <cjson/cJSON.h>

#include "chat/chat.h"
#include "cli/options.h"

typedef struct cli_request {
    cohort_request request; /* points into the following, and into the options */
    cJSON *line;            /* what its texts belong to */
    int32_t *prompt_ids, *stop_ids, *allowed_ids;
    const char **bad_words;
    cohort_token_bias *bias;
    const char *stop[CLI_MAX_STOP];
} cli_request;

/* The request that the flags describe, without a prompt where they have none.  On
 * CLI_USAGE out_why says what is wrong; deinit frees in either case.  chat: NULL until it
 * is asked for, then the model's, which the caller closes. */
int cli_request_from_options(cli_request *out, const cohort_engine *engine,
                             const cli_options *options, cohort_chat **chat,
                             char *out_why, size_t why_size);
/* The same, overridden by the fields of a line. */
int cli_request_from_line(cli_request *out, const cohort_engine *engine,
                          const cli_options *options, cohort_chat **chat,
                          const char *line, size_t size, char *out_why, size_t why_size);
void cli_request_deinit(cli_request *request);

#endif /* COHORT_CLI_REQUEST_H */
