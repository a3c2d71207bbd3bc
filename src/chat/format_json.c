/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/output_format.h"

#include <string.h>

/* Objects of JSON with a name, and arguments or parameters, behind a mark: one, or a
 * list, or some with ; between them.
 *
 *   llama3_json      <|python_tag|>{...}; {...}      or the object alone
 *   granite          <|tool_call|>[{...}, {...}]
 *   phi4_mini_json   functools[{...}]
 *   jamba            <tool_calls>[{...}]</tool_calls>
 *   internlm         <|action_start|><|plugin|>{...}<|action_end|>
 */

static format_found read(const cohort_output_format *self, format_source *from,
                         output_call *out) {
    const char *at = from->at;
    bool may = false;
    for (int i = 0; !from->is_within && self->begins[i]; i++)
        if (self->begins[i][0] != '{' &&
            cohort_output_take(&at, from->end, self->begins[i], &may))
            break;
    cohort_output_skip(&at, from->end, "");
    if (!from->is_within && self->middle &&
        !cohort_output_take(&at, from->end, self->middle, &may) && may)
        return FORMAT_MORE;
    cohort_output_skip(&at, from->end, from->is_within ? ",;]" : "[");
    if (from->is_within && self->close) {
        if (!cohort_output_take(&at, from->end, self->close, &may) && may)
            return FORMAT_MORE;
        cohort_output_skip(&at, from->end, "");
    }
    if (at == from->end) return FORMAT_MORE;
    if (*at != '{') return FORMAT_NONE;
    format_found found = cohort_output_read_object(&at, from->end, out);
    /* An object that is whole and no call has none in it, either. */
    if (found != FORMAT_MORE) from->at = at;
    return found;
}

const cohort_output_format cohort_output_format_llama3_json = {
    .name = "llama3_json",
    .begins = {"<|python_tag|>", "{"},
    .read = read,
    .in_template = "\"parameters\": dictionary"};

const cohort_output_format cohort_output_format_granite = {.name = "granite",
                                                           .begins = {"<|tool_call|>"},
                                                           .read = read,
                                                           .in_template =
                                                               "<|tool_call|>"};

const cohort_output_format cohort_output_format_phi4_mini_json = {
    .name = "phi4_mini_json",
    .begins = {"functools["},
    .read = read,
    .in_template = "functools["};

const cohort_output_format cohort_output_format_jamba = {.name = "jamba",
                                                         .begins = {"<tool_calls>"},
                                                         .read = read,
                                                         .in_template = "<tool_calls>",
                                                         .close = "</tool_calls>"};

const cohort_output_format cohort_output_format_internlm = {
    .name = "internlm",
    .begins = {"<|action_start|>"},
    .read = read,
    .in_template = "<|action_start|>",
    .middle = "<|plugin|>",
    .close = "<|action_end|>"};
