/* SPDX-License-Identifier: Apache-2.0 */
/* cli/talk.h - a talk with a server: what `cohort chat` and `cohort complete` know, and
 * the commands that somebody who chats may type. */
#ifndef COHORT_CLI_TALK_H
#define COHORT_CLI_TALK_H

#include <cjson/cJSON.h>

#include "base/body.h"
#include "cli/line.h"
#include "cli/options.h"
#include "cli/prose.h"
#include "client/client.h"

enum { TALK_URL_BYTES = 1024 };

typedef struct talk {
    const cli_options *options;
    bool is_chat, thinks;
    bool is_typed;   /* by somebody at a terminal, who reads the answers there */
    bool has_ended;  /* a command said so */
    bool keeps_none; /* lines: the history cannot be written, which was said */
    cohort_client *client;
    const char *bearer;
    char url[TALK_URL_BYTES]; /* of the API, without a slash at its end */
    char *model;
    cohort_body models; /* the server's, a line each; once they were asked for */
    cJSON *messages;    /* of a chat */
    cli_line line;
    char *input; /* what is no terminal's */
    size_t capacity;
    /* the answer under way */
    cli_prose prose; /* columns 0: as it comes */
    cohort_body text;
    int64_t start_ns, first_ns, n_tokens;
    bool is_done, is_failed;
} talk;

void talk_add_message(talk *self, const char *role, const char *content);
/* Asks for the server's models; CLI_OK, or an exit code with a line on stderr. */
int talk_find_models(talk *self);

/* Was it a command, as "/help", rather than a message?  Carries it out. */
bool talk_command(talk *self, const char *line);
/* Of the lines that were typed: a file of this user's. */
void talk_load_history(talk *self);
void talk_keep_line(talk *self, const char *line);

#endif /* COHORT_CLI_TALK_H */
