/* SPDX-License-Identifier: Apache-2.0 */
#include "server/server_options.h"

#define OPTIONS_OF cohort_server_options

/* Whoever answers requests of the API, over HTTP or from a file. */
static const cohort_option api_rows[] = {
    OPTION_TEXT("chat-template", chat_template, NULL,
                "a file, or the template itself, instead of the model's"),
    OPTION_WORD("chat-template-content-format", content_format, "auto",
                "auto|string|openai",
                "what content is to it: string, openai (a list of parts), or auto: as it "
                "looks at it"),
    OPTION_ROW(TEXT, "default-chat-template-kwargs", default_template_kwargs, NULL, 0, 0,
               "JSON object of what templates are told where a request does not say: "
               "{\"enable_thinking\": false}",
               .flags = COHORT_OPTION_JSON),
    OPTION_FLAG("trust-request-chat-template", trust_request_chat_template, NULL,
                "requests may bring a template of their own"),
    OPTION_ROW(TEXT, "reasoning-parser", reasoning_parser, NULL, 0, 0,
               "tells <think>...</think> from the answer: qwen3 or deepseek_r1",
               .words = "qwen3|deepseek_r1"),
    OPTION_ROW(TEXT, "tool-call-parser", tool_call_parser, NULL, 0, 0,
               "the form of calls in the answer; auto: as the chat template has it; also "
               "qwen3_xml, deepseek_v3, deepseek_v31, kimi_k2, granite, phi4_mini_json, "
               "jamba and internlm",
               .words = "auto|hermes|llama3_json|mistral|qwen3_coder"),
    OPTION_FLAG("enable-auto-tool-choice", enable_auto_tool_choice, NULL,
                "the model may choose to call a tool; needs --tool-call-parser"),
    OPTION_LIST("served-model-name", served_names, NULL,
                "names that requests may use (default: the directory)"),
    OPTION_COUNT("max-logprobs", max_logprobs, "20", 0, COHORT_MAX_LOGPROBS,
                 "that a request may ask for"),
    OPTION_BYTES("max-body-bytes", max_body_bytes, "64MiB", 1024, 0x1p32,
                 "of a request; longer ones get 413"),
    OPTION_FLAG("enable-prompt-tokens-details", enable_prompt_tokens_details, NULL,
                "tell in the usage how many were cached"),
    OPTION_FLAG("enable-force-include-usage", force_include_usage, NULL,
                "tell every stream its usage"),
    OPTION_TEXT("response-role", response_role, "assistant",
                "whose answers to chats are"),
    OPTION_FLAG("return-tokens-as-token-ids", return_tokens_as_token_ids, NULL,
                "logprobs name tokens as token_id:N"),
};

static const cohort_option server_rows[] = {
    OPTION_TEXT("host", host, NULL, "address to serve on (default: every one)"),
    OPTION_COUNT("port", port, "8000", 0, 65535,
                 "0: any that is free; the start-up line says which"),
    OPTION_TEXT("uds", uds, NULL, "path of a unix socket, in place of host and port"),
    OPTION_TEXT("ssl-certfile", ssl_certfile, NULL, "certificate, PEM"),
    OPTION_TEXT("ssl-keyfile", ssl_keyfile, NULL, "its key, PEM"),
    OPTION_ROW(
        LIST, "api-key", api_keys, NULL, 0, 0,
        "requests of /v1, /tokenize, /detokenize and /cohort/status must bring one of "
        "these",
        .flags = COHORT_OPTION_SECRET),
    OPTION_COUNT("stream-interval", stream_interval, "1", 1, INT32_MAX,
                 "tokens that a stream sends together, where its request does not say"),
    OPTION_BYTES(
        "max-held-bytes", max_held_bytes, "4GiB", 1 << 20, 0x1p50,
        "requests, what they parse into and answers not sent yet, in memory together; "
        "beyond it: 503"),
    OPTION_COUNT(
        "max-stored-responses", max_responses, "1024", 0, 1 << 16,
        "of /v1/responses, kept to be retrieved or gone on from; the oldest goes "
        "first; 0: none"),
    OPTION_BYTES("stored-response-bytes", stored_response_bytes, "64MiB", 1024, 0x1p50,
                 "that they may take together"),
    OPTION_COUNT("max-connections", max_connections, "4096", 1, 1 << 16,
                 "clients at a time"),
    OPTION_COUNT(
        "max-num-waiting", max_waiting, "0", 0, 1 << 24,
        "requests beyond max-num-seqs that may wait; more get 503 (0: any number)"),
    OPTION_SECONDS("idle-timeout", idle_timeout_s, "300", 0.1, 1e6,
                   "for a connection on which nothing moves"),
    OPTION_SECONDS("request-timeout", request_timeout_s, "60", 0.1, 1e6,
                   "for a request's body to arrive"),
    OPTION_SECONDS("log-stats-interval", stats_interval_s, "10", 0, 1e6,
                   "between throughput lines, while there is something to tell; 0: none"),
    OPTION_FLAG("enable-log-requests", log_requests, NULL,
                "a line for each request, with its parameters"),
    OPTION_TEXT("root-path", root_path, NULL, "what a proxy puts before every path"),
    OPTION_TEXT(
        "disable-access-log-for-endpoints", quiet_paths, NULL,
        "no line for answers of these paths: /health,/ping; /metrics and /cohort/status "
        "have none"),
    OPTION_LIST(
        "allowed-origins", allowed_origins, NULL,
        "of web pages that may ask: *, or https://example.org; lists may be JSON, too"),
    OPTION_LIST("allowed-methods", allowed_methods, "*", "that they may use"),
    OPTION_LIST("allowed-headers", allowed_headers, "*", "that they may send"),
    OPTION_FLAG("allow-credentials", allow_credentials, NULL, "with cookies and keys"),
    OPTION_FLAG("enable-request-id-headers", enable_request_id_headers, NULL,
                "send X-Request-Id"),
};

const cohort_option_table cohort_api_option_table = OPTION_TABLE(api_rows);
const cohort_option_table cohort_server_option_table = OPTION_TABLE(server_rows);
