/* SPDX-License-Identifier: Apache-2.0 */
/* server/tools.h - which tools a chat may call, and what holds the model to it.
 *
 * Rules and sentences are vLLM's.
 */
#ifndef COHORT_SERVER_TOOLS_H
#define COHORT_SERVER_TOOLS_H

#include "server/schema.h"

typedef enum cohort_tool_choice {
    COHORT_TOOLS_NONE,
    COHORT_TOOLS_AUTO,
    COHORT_TOOLS_REQUIRED,
    COHORT_TOOLS_NAMED,
} cohort_tool_choice;

/* auto_choice: --enable-auto-tool-choice.  False: error says why. */
bool cohort_tools_read(const cohort_api_request *api, bool auto_choice,
                       cohort_tool_choice *out_choice, cohort_api_error *error);

/* What must be called, as text for COHORT_GRAMMAR_TOOL_CALLS; the caller frees.  NULL:
 * short memory. */
char *cohort_tools_grammar(const cohort_api_request *api, cohort_tool_choice choice);

#endif /* COHORT_SERVER_TOOLS_H */
