/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of strangers' requests, from JSON to the engine's parameters: the first byte
 * chooses the schema, and whether calls may be made at will.  What is refused is told in
 * an envelope that is JSON itself. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "chat/json_text.h"
#include "fuzz.h"
#include "server/messages_input.h"
#include "server/params.h"
#include "server/responses_input.h"

bool fuzz_is_valid;

_Static_assert(COHORT_N_SCHEMAS <= 16, "the first byte has 16");

static void check_refusal(const cohort_api_error *error) {
    cohort_body body = {0};
    cohort_chat_json_fault fault;
    cJSON *json;
    cohort_api_error_write(error, &body);
    if (error->status != 400 ||
        !cohort_chat_json_load(body.bytes, body.size, &json, &fault) ||
        !cJSON_IsString(
            error->is_detail
                ? cJSON_GetObjectItem(json, "detail")
                : cJSON_GetObjectItem(cJSON_GetObjectItem(json, "error"), "message")))
        abort();
    cJSON_Delete(json);
    cohort_body_deinit(&body);
}

/* Calls that must be made are JSON that names what may be called. */
static void check_calls(const cohort_params *params) {
    if (params->tool_choice < COHORT_TOOLS_REQUIRED) return;
    cJSON *json = cJSON_Parse(params->grammar_text);
    const cJSON *tools = cJSON_GetObjectItem(json, "tools"), *tool;
    if (!cJSON_GetArraySize(tools)) abort();
    if (params->tool_choice == COHORT_TOOLS_NAMED && cJSON_GetArraySize(tools) != 1)
        abort();
    cJSON_ArrayForEach(tool, tools) {
        if (!cJSON_IsString(cJSON_GetObjectItem(tool, "name"))) abort();
    }
    cJSON_Delete(json);
}

/* What was accepted is within the bounds that the engine is promised. */
static void check_params(const cohort_params *params) {
    const cohort_request *request = &params->request;
    if (request->n < 1 || request->n > COHORT_MAX_COMPLETIONS ||
        request->max_tokens < 0 || request->max_tokens > 100 ||
        request->n_stop > COHORT_MAX_STOP_STRINGS || request->sampling.n_logprobs > 20 ||
        !(request->sampling.temperature >= 0) || !(request->sampling.temperature <= 2))
        abort();
    for (uint32_t i = 0; i < request->sampling.n_stop_tokens; i++)
        if (request->sampling.stop_tokens[i] < 0 ||
            request->sampling.stop_tokens[i] >= 1000)
            abort();
}

/* Bodies of other APIs become a chat's. */
static bool translate(cohort_api_request *api, cohort_server_schema schema,
                      bool merges_system, cohort_api_error *error) {
    if (schema == COHORT_SCHEMA_RESPONSES)
        return cohort_responses_translate(api, NULL, error);
    if (schema == COHORT_SCHEMA_MESSAGES || schema == COHORT_SCHEMA_COUNT_TOKENS)
        return cohort_messages_translate(api, merges_system, error);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size) return 0;
    cohort_server_schema schema = data[0] % 16 % COHORT_N_SCHEMAS;
    cohort_api_request api = {0};
    cohort_api_error error = {0};
    cohort_params params = {0};
    const cohort_params_limits limits = {.max_model_len = 100,
                                         .max_logprobs = 20,
                                         .vocab_size = 1000,
                                         .auto_tool_choice = data[0] / 16 % 2};
    const cohort_request defaults = {.sampling = cohort_sampling_defaults(), .n = 1};
    bool is_chat = schema == COHORT_SCHEMA_CHAT || schema == COHORT_SCHEMA_RESPONSES ||
                   schema == COHORT_SCHEMA_MESSAGES;
    char *copy;
    const char *text;
    bool fine =
        cohort_api_text((const char *)data + 1, size - 1, &copy, &text, &size, &error) &&
        cohort_api_request_read(&api, schema, text, size, &error);
    if (fine) fine = translate(&api, schema, data[0] & 128, &error);
    if (fine && (is_chat || schema == COHORT_SCHEMA_COMPLETION)) {
        fine = cohort_params_read(&params, &api, is_chat, &defaults, &limits, &error);
        if (fine) {
            check_params(&params);
            check_calls(&params);
        }
    }
    fuzz_is_valid = fine;
    if (fine != (error.status == 0)) abort();
    if (!fine) check_refusal(&error);
    cohort_params_deinit(&params);
    cohort_api_request_deinit(&api);
    cohort_api_error_deinit(&error);
    free(copy);
    return 0;
}
