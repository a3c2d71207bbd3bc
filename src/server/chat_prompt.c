/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "server/generation.h"

/* What is asked of the model in a chat, whichever API its messages came by. */

/* What the answers are to be taken apart into, where the server or the request knows more
 * than content; and where in them the grammar begins. */
static bool open_messages(cohort_generation *generation, const char *prompt, size_t size,
                          cohort_api_error *error) {
    const cohort_server *server = generation->server;
    const cohort_api_request *api = &generation->api;
    cohort_params *params = &generation->params;
    if (params->tool_choice != COHORT_TOOLS_NONE &&
        cohort_output_format_uses_types(server->tool_format))
        generation->tools =
            cohort_api_take_tools(&generation->api, &generation->own_bytes);
    const cohort_message_options options = {
        .reasoning = server->reasoning,
        .format = server->tool_format,
        .tools = generation->tools,
        .begins_in_content = cohort_reasoning_ends_in(server->reasoning, prompt, size),
        .finds_calls = params->tool_choice != COHORT_TOOLS_NONE,
        .only_calls = params->tool_choice >= COHORT_TOOLS_REQUIRED,
        .only_first_call =
            api->parallel_tool_calls.is_set && !api->parallel_tool_calls.whole,
        .is_stream = params->is_stream};
    if (!options.reasoning && !server->options.tool_call_parser && !options.finds_calls)
        return true;
    if (options.reasoning && !options.begins_in_content && api->include_reasoning.whole)
        params->request.grammar_after = "</think>";
    generation->is_parsed = true;
    /* Nothing of hidden thoughts may show. */
    generation->hides_reasoning = !api->include_reasoning.whole;
    if (generation->hides_reasoning) generation->returns_token_ids = false;
    for (int32_t i = 0; i < generation->n_choices; i++)
        if (!cohort_message_open(&generation->choices[i].message, &options))
            return cohort_api_refuse(error, 503, NULL, "out of memory");
    return true;
}

bool cohort_generation_read_chat(cohort_generation *generation, cohort_api_error *error) {
    const cohort_api_request *api = &generation->api;
    char *text;
    size_t size;
    if (!cohort_generation_set_prompts(generation, 1, error) ||
        !cohort_render_messages(generation->server, api, &text, &size, error))
        return false;
    cohort_prompt *prompt = &generation->prompts[0];
    bool done = open_messages(generation, text, size, error) &&
                cohort_generation_tokenize(generation, prompt, text, size,
                                           api->add_special_tokens.whole, error);
    if (api->return_prompt_text.whole) {
        prompt->text = text;
        prompt->text_bytes = size;
    } else {
        free(text);
    }
    return done && cohort_generation_check_prompt(generation, prompt, error);
}
