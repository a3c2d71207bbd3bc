/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/config_file.h"
#include "cli/signals.h"
#include "cli/vllm_options.h"

/* LIST: all words up to the next option; EACH: one word, and the option again for more.
 */
typedef enum value_kind {
    TEXT,
    COUNT,
    BYTES,
    SECONDS,
    NUMBER,
    FLAG,
    LIST,
    EACH
} value_kind;

typedef struct row {
    const char *name, *alias;
    value_kind kind;
    int commands;
    size_t offset;
    const char *standard; /* default */
    double least, most;
    const char *help;
} row;

#define AT(field) offsetof(cli_options, field)

static const row rows[] = {
    {"model", NULL, TEXT, CLI_ENGINE, AT(model), NULL, 0, 0,
     "Hugging Face model directory, or its name, Org/Name (also the word without "
     "dashes)"},
    {"config", NULL, TEXT, CLI_SERVE | CLI_BATCH, AT(config_file), NULL, 0, 0,
     "YAML file of options, as name: value; the command line goes before it"},
    {"revision", NULL, TEXT, CLI_ENGINE, AT(revision), "main", 0, 0,
     "branch, tag or commit of a model that is given by name"},
    {"download-dir", NULL, TEXT, CLI_ENGINE, AT(download_dir), NULL, 0, 0,
     "cache of such models (default: HF_HUB_CACHE, or hub in HF_HOME)"},
    {"tensor-parallel-size", "tp", COUNT, CLI_ENGINE, AT(tp), "1", 1, 1024,
     "ranks that share every layer"},
    {"pipeline-parallel-size", "pp", COUNT, CLI_ENGINE, AT(pp), "1", 1, 1024,
     "stages of layers"},
    {"distributed-executor-backend", NULL, TEXT, CLI_ENGINE, AT(backend), NULL, 0, 0,
     "uni: ranks are threads; mp: processes; ray: actors on a Ray cluster (default: uni "
     "for one rank, else mp)"},
    {"dtype", NULL, TEXT, CLI_ENGINE, AT(dtype), "auto", 0, 0,
     "auto (the checkpoint's), float32, bfloat16 or float16"},
    {"load-format", NULL, TEXT, CLI_ENGINE, AT(load_format), "auto", 0, 0,
     "auto, safetensors, or dummy: seeded random weights"},
    {"max-model-len", NULL, COUNT, CLI_ENGINE, AT(max_model_len), "0", 0, 1 << 24,
     "tokens of prompt and output together (0, auto: the model's, or what fits into "
     "memory)"},
    {"max-num-seqs", NULL, COUNT, CLI_ENGINE, AT(max_num_seqs), "0", 0, 65536,
     "sequences of a step at most (0: the engine's choice)"},
    {"max-num-batched-tokens", NULL, COUNT, CLI_ENGINE, AT(max_num_batched_tokens), "0",
     0, 1 << 20, "tokens of a step at most (0: the engine's choice)"},
    {"block-size", NULL, COUNT, CLI_ENGINE, AT(block_size), "16", 1, 1024,
     "tokens of a KV cache block"},
    {"kv-cache-memory-bytes", NULL, BYTES, CLI_ENGINE, AT(kv_cache_bytes), "0", 0, 0x1p60,
     "KV cache of each rank (0: from the memory there is)"},
    {"num-gpu-blocks-override", NULL, COUNT, CLI_ENGINE, AT(num_blocks), "0", 0, 1 << 30,
     "blocks of the KV cache, whatever memory there is"},
    {"enable-prefix-caching", NULL, FLAG, CLI_ENGINE, AT(prefix_caching), "true", 0, 0,
     "start prompts behind what others have in common"},
    {"async-scheduling", NULL, FLAG, CLI_ENGINE, AT(async_scheduling), "true", 0, 0,
     "send the next step while one computes"},
    {"scheduling-policy", NULL, TEXT, CLI_ENGINE, AT(scheduling_policy), "fcfs", 0, 0,
     "fcfs, or priority: a request's priority before its arrival"},
    {"seed", NULL, COUNT, CLI_ENGINE, AT(seed), "0", 0, 0x1p53,
     "of dummy weights and of sampling"},
    {"pp-layer-partition", NULL, TEXT, CLI_ENGINE, AT(layer_partition), NULL, 0, 0,
     "layers of each stage, as 7,8,8,7 (default: even)"},
    {"cpu-threads-bind", NULL, TEXT, CLI_ENGINE, AT(threads_bind), "auto", 0, 0,
     "cores of each rank, as 0-1|2-3; auto shares them out; nobind"},
    {"worker-extension-cls", NULL, TEXT, CLI_ENGINE, AT(worker_extension), NULL, 0, 0,
     "LIB.so:SYMBOL, which every worker loads and calls before its model "
     "(cohort/worker.h)"},
    {"quantization", "q", TEXT, CLI_ENGINE, AT(quantization), NULL, 0, 0,
     "int8: of attention's and MLPs' weights, made when they are loaded"},
    {"device", NULL, TEXT, CLI_ENGINE, AT(device), "auto", 0, 0,
     "what ranks compute on: auto, the fastest there is, or cpu"},
    {"isa", NULL, TEXT, CLI_ENGINE, AT(isa), NULL, 0, 0,
     "portable, avx2, avx512, avx512_bf16 or amx (default: the fastest here)"},
    {"tokenizer", NULL, TEXT, CLI_ENGINE, AT(tokenizer), NULL, 0, 0,
     "directory or name of the tokenizer (default: the model's)"},
    {"generation-config", NULL, TEXT, CLI_ENGINE, AT(generation_config), "auto", 0, 0,
     "defaults of requests: auto: of the model's generation_config.json; vllm: of none; "
     "or a folder with one"},
    {"override-generation-config", NULL, TEXT, CLI_ENGINE, AT(override_generation_config),
     NULL, 0, 0, "JSON object that goes before it: {\"temperature\": 0.5}"},
    {"skip-tokenizer-init", NULL, FLAG, CLI_ENGINE, AT(skip_tokenizer_init), NULL, 0, 0,
     "token ids in and out, no text"},
    {"connect-timeout", NULL, SECONDS, CLI_ENGINE, AT(connect_timeout_s), "60", 0.001,
     1e6, "for workers to start and find each other"},
    {"load-timeout", NULL, SECONDS, CLI_ENGINE, AT(load_timeout_s), "1800", 0.001, 1e6,
     "for loading weights"},
    {"execute-model-timeout", NULL, SECONDS, CLI_ENGINE, AT(execute_timeout_s), "300",
     0.001, 1e6, "a rank busy for so long without progress is hung"},
    {"hang-timeout", NULL, SECONDS, CLI_ENGINE, AT(hang_timeout_s), "10", 0.001, 1e6,
     "a rank without a heartbeat for so long is hung"},
    {"worker-shutdown-timeout", NULL, SECONDS, CLI_ENGINE, AT(shutdown_timeout_s), "5",
     0.001, 1e6, "for ending all workers"},
    {"ray-address", NULL, TEXT, CLI_ENGINE | CLI_DOCTOR, AT(ray.address), NULL, 0, 0,
     "of the cluster (default: RAY_ADDRESS, else the one that runs here, else a new "
     "one)"},
    {"ray-node-address", NULL, TEXT, CLI_ENGINE | CLI_DOCTOR, AT(ray.node_address), NULL,
     0, 0, "this host's address in the cluster (default: as Ray finds it)"},
    {"ray-placement-group", NULL, TEXT, CLI_ENGINE, AT(ray.placement_group), NULL, 0, 0,
     "id or name of a group to use and leave in place (default: a new one)"},
    {"ray-namespace", NULL, TEXT, CLI_ENGINE, AT(ray.ray_namespace), NULL, 0, 0,
     "Ray namespace, where a group's name is found (default: this run's own)"},
    {"ray-placement-strategy", NULL, TEXT, CLI_ENGINE, AT(ray.strategy), "PACK", 0, 0,
     "PACK, STRICT_PACK, SPREAD or STRICT_SPREAD"},
    {"ray-worker-resource", NULL, TEXT, CLI_ENGINE, AT(ray.resource), "CPU=1", 0, 0,
     "of each rank: CPU=2, GPU, GPU=0.5, or a resource of your cluster's"},
    {"ray-bundle-indices", NULL, TEXT, CLI_ENGINE, AT(ray.bundle_indices), NULL, 0, 0,
     "bundles for the ranks, in their order: 2,1 (VLLM_RAY_BUNDLE_INDICES is heeded "
     "too)"},
    {"ray-excluded-env", NULL, TEXT, CLI_ENGINE, AT(ray.excluded_env), NULL, 0, 0,
     "variables that workers shall not get: A,B_*"},
    {"ray-placement-timeout", NULL, SECONDS, CLI_ENGINE, AT(ray_placement_timeout_s),
     "300", 0.001, 1e6, "for the cluster to have room"},
    {"timeout", NULL, SECONDS, CLI_DOCTOR, AT(ray_placement_timeout_s), "120", 0.001, 1e6,
     "for every node to answer"},
    {"instance", NULL, TEXT, CLI_ENGINE, AT(instance), NULL, 0, 0,
     "name of this run for `cohort stat` (default: drawn)"},
    {"log-level", NULL, TEXT, CLI_ENGINE, AT(log_level), NULL, 0, 0,
     "debug, info, warning or error: log to standard error; without it warnings alone"},
    {"verbose", NULL, FLAG, CLI_ENGINE, AT(verbose), NULL, 0, 0,
     "show start-up phases and ranks"},

    {"prompt", NULL, TEXT, CLI_GENERATE, AT(prompt), NULL, 0, 0, "text to continue"},
    {"prompt-token-ids", NULL, TEXT, CLI_GENERATE, AT(prompt_token_ids), NULL, 0, 0,
     "the same as token ids: 1,2,3"},
    {"input", NULL, TEXT, CLI_GENERATE, AT(input), NULL, 0, 0,
     "file of JSON lines with \"prompt\" or \"prompt_token_ids\"; -: standard input"},
    {"max-tokens", NULL, COUNT, CLI_GENERATE, AT(max_tokens), "16", 1, 1 << 24,
     "tokens to generate at most"},
    {"n", NULL, COUNT, CLI_GENERATE, AT(n), "1", 1, COHORT_MAX_COMPLETIONS,
     "completions of each prompt"},
    {"temperature", NULL, NUMBER, CLI_GENERATE, AT(temperature), "1", 0, 100,
     "0: greedy (default: the model's)"},
    {"top-k", NULL, COUNT, CLI_GENERATE, AT(top_k), "0", -1, 1 << 24,
     "only the k likeliest; 0: off (default: the model's)"},
    {"top-p", NULL, NUMBER, CLI_GENERATE, AT(top_p), "1", 0, 1,
     "only the likeliest that make up p (default: the model's)"},
    {"min-p", NULL, NUMBER, CLI_GENERATE, AT(min_p), "0", 0, 1,
     "only those at least p times as likely as the likeliest"},
    {"repetition-penalty", NULL, NUMBER, CLI_GENERATE, AT(repetition_penalty), "1", 0.001,
     100, "over 1: less of what was there"},
    {"presence-penalty", NULL, NUMBER, CLI_GENERATE, AT(presence_penalty), "0", -2, 2,
     "less of what was generated"},
    {"frequency-penalty", NULL, NUMBER, CLI_GENERATE, AT(frequency_penalty), "0", -2, 2,
     "the same, for each time"},
    {"logit-bias", NULL, TEXT, CLI_GENERATE, AT(logit_bias), NULL, 0, 0,
     "JSON object: token id to what is added to its logit"},
    {"min-tokens", NULL, COUNT, CLI_GENERATE, AT(min_tokens), "0", 0, 1 << 24,
     "no end before so many"},
    {"stop", NULL, EACH, CLI_GENERATE, AT(stop), NULL, 0, 0,
     "string that ends the text; may be given again"},
    {"stop-token-ids", NULL, TEXT, CLI_GENERATE, AT(stop_token_ids), NULL, 0, 0,
     "token ids that end the text: 1,2,3"},
    {"include-stop-str-in-output", NULL, FLAG, CLI_GENERATE, AT(include_stop), NULL, 0, 0,
     "keep the stop string"},
    {"no-skip-special-tokens", NULL, FLAG, CLI_GENERATE, AT(keep_special), NULL, 0, 0,
     "show special tokens in the text"},
    {"ignore-eos", NULL, FLAG, CLI_GENERATE, AT(ignore_eos), NULL, 0, 0,
     "go on after the model's end"},
    {"logprobs", NULL, COUNT, CLI_GENERATE, AT(logprobs), "-1", -1, COHORT_MAX_LOGPROBS,
     "of each token, and of so many likeliest; -1: none"},
    {"prompt-logprobs", NULL, COUNT, CLI_GENERATE, AT(prompt_logprobs), "-1", -1,
     COHORT_MAX_LOGPROBS, "the same for the prompt"},
    {"json", NULL, FLAG, CLI_GENERATE, AT(json), NULL, 0, 0,
     "one JSON line a completion"},

    {"control-fd", NULL, COUNT, CLI_WORKER, AT(control_fd), "-1", 0, 1 << 20,
     "the driver's socket; only a driver starts workers"},
    {"no-model", NULL, FLAG, CLI_WORKER, AT(no_model), NULL, 0, 0,
     "load nothing, answer noop and echo only, as `cohort bench rpc` wants it"},

    {"input-len", NULL, COUNT, CLI_LATENCY | CLI_THROUGHPUT, AT(input_len), "32", 1,
     1 << 24, "tokens of each prompt"},
    {"output-len", NULL, COUNT, CLI_LATENCY | CLI_THROUGHPUT, AT(output_len), "128", 1,
     1 << 24, "tokens of each answer"},
    {"batch-size", NULL, COUNT, CLI_LATENCY, AT(batch_size), "8", 1, 65536,
     "prompts at a time"},
    {"num-iters", NULL, COUNT, CLI_LATENCY, AT(num_iters), "30", 1, 1 << 20, "rounds"},
    {"num-iters-warmup", NULL, COUNT, CLI_LATENCY, AT(num_iters_warmup), "1", 0, 1 << 20,
     "rounds before the count"},
    {"num-prompts", NULL, COUNT, CLI_THROUGHPUT, AT(num_prompts), "100", 1, 1 << 20,
     "prompts, all at once"},
    {"output-json", NULL, TEXT, CLI_LATENCY | CLI_THROUGHPUT, AT(output_json), NULL, 0, 0,
     "file for the results"},

    {"host", NULL, TEXT, CLI_SERVE, AT(host), NULL, 0, 0,
     "address to serve on (default: every one)"},
    {"port", NULL, COUNT, CLI_SERVE, AT(port), "8000", 0, 65535,
     "0: any that is free; the start-up line says which"},
    {"uds", NULL, TEXT, CLI_SERVE, AT(uds), NULL, 0, 0,
     "path of a unix socket, in place of host and port"},
    {"ssl-certfile", NULL, TEXT, CLI_SERVE, AT(ssl_certfile), NULL, 0, 0,
     "certificate, PEM"},
    {"ssl-keyfile", NULL, TEXT, CLI_SERVE, AT(ssl_keyfile), NULL, 0, 0, "its key, PEM"},
    {"chat-template", NULL, TEXT, CLI_SERVE | CLI_BATCH | CLI_GENERATE, AT(chat_template),
     NULL, 0, 0, "a file, or the template itself, instead of the model's"},
    {"chat-template-content-format", NULL, TEXT, CLI_SERVE | CLI_BATCH | CLI_GENERATE,
     AT(content_format), "auto", 0, 0,
     "what content is to it: string, openai (a list of parts), or auto: as it looks at "
     "it"},
    {"default-chat-template-kwargs", NULL, TEXT, CLI_SERVE | CLI_BATCH,
     AT(template_defaults), NULL, 0, 0,
     "JSON object of what templates are told where a request does not say: "
     "{\"enable_thinking\": false}"},
    {"trust-request-chat-template", NULL, FLAG, CLI_SERVE | CLI_BATCH,
     AT(trust_request_template), NULL, 0, 0,
     "requests may bring a template of their own"},
    {"reasoning-parser", NULL, TEXT, CLI_SERVE | CLI_BATCH, AT(reasoning_parser), NULL, 0,
     0, "tells <think>...</think> from the answer: qwen3 or deepseek_r1"},
    {"tool-call-parser", NULL, TEXT, CLI_SERVE | CLI_BATCH, AT(tool_call_parser), NULL, 0,
     0, "tells calls of tools from the answer: hermes"},
    {"enable-auto-tool-choice", NULL, FLAG, CLI_SERVE | CLI_BATCH, AT(auto_tool_choice),
     NULL, 0, 0, "the model may choose to call a tool; needs --tool-call-parser"},
    {"served-model-name", NULL, LIST, CLI_SERVE | CLI_BATCH, AT(served_names), NULL, 0, 0,
     "names that requests may use (default: the directory)"},
    {"api-key", NULL, LIST, CLI_SERVE, AT(api_keys), NULL, 0, 0,
     "requests of /v1, /tokenize, /detokenize and /cohort/status must bring one of "
     "these (default: VLLM_API_KEY, if it is set)"},
    {"stream-interval", NULL, COUNT, CLI_SERVE, AT(stream_interval), "1", 1, INT32_MAX,
     "tokens that a stream sends together, where its request does not say"},
    {"max-logprobs", NULL, COUNT, CLI_SERVE | CLI_BATCH, AT(max_logprobs), "20", 0,
     COHORT_MAX_LOGPROBS, "that a request may ask for"},
    {"max-held-bytes", NULL, BYTES, CLI_SERVE, AT(max_held_bytes), "4GiB", 1 << 20,
     0x1p50,
     "requests, what they parse into and answers not sent yet, in memory together; "
     "beyond it: 503"},
    {"max-body-bytes", NULL, BYTES, CLI_SERVE | CLI_BATCH, AT(max_body_bytes), "64MiB",
     1024, 0x1p32, "of a request; longer ones get 413"},
    {"max-connections", NULL, COUNT, CLI_SERVE, AT(max_connections), "4096", 1, 1 << 16,
     "clients at a time"},
    {"max-num-waiting", NULL, COUNT, CLI_SERVE, AT(max_waiting), "0", 0, 1 << 24,
     "requests beyond max-num-seqs that may wait; more get 503 (0: any number)"},
    {"idle-timeout", NULL, SECONDS, CLI_SERVE, AT(idle_timeout_s), "300", 0.1, 1e6,
     "for a connection on which nothing moves"},
    {"request-timeout", NULL, SECONDS, CLI_SERVE, AT(request_timeout_s), "60", 0.1, 1e6,
     "for a request's body to arrive"},
    {"shutdown-timeout", NULL, SECONDS, CLI_SERVE, AT(drain_timeout_s), "30", 0, 1e6,
     "for running requests to finish after SIGTERM; 0: they end at once"},
    {"drain-timeout", NULL, SECONDS, CLI_SERVE, AT(drain_timeout_s), "30", 0, 1e6,
     "the same"},
    {"stop-with-stdin", NULL, FLAG, CLI_SERVE, AT(stop_with_stdin), NULL, 0, 0,
     "stop, as after SIGTERM, when standard input ends: who started it is gone"},
    {"keep-alive-on-engine-death", NULL, FLAG, CLI_SERVE, AT(outlive_engine), NULL, 0, 0,
     "when a rank dies, go on to answer 503 in place of ending (default: "
     "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH)"},
    {"log-stats-interval", NULL, SECONDS, CLI_SERVE, AT(stats_interval_s), "10", 0, 1e6,
     "between throughput lines, while there is something to tell; 0: none"},
    {"disable-uvicorn-access-log", NULL, FLAG, CLI_SERVE, AT(no_access_log), NULL, 0, 0,
     "no line for each answer"},
    {"uvicorn-log-level", NULL, TEXT, CLI_SERVE, AT(http_log_level), "info", 0, 0,
     "warning, error and critical: no line for each answer, too"},
    {"enable-log-requests", NULL, FLAG, CLI_SERVE, AT(log_requests), NULL, 0, 0,
     "a line for each request, with its parameters"},
    {"disable-log-stats", NULL, FLAG, CLI_SERVE, AT(no_stats), NULL, 0, 0,
     "no throughput lines"},
    {"enable-prompt-tokens-details", NULL, FLAG, CLI_SERVE | CLI_BATCH,
     AT(prompt_tokens_details), NULL, 0, 0, "tell in the usage how many were cached"},
    {"enable-force-include-usage", NULL, FLAG, CLI_SERVE | CLI_BATCH, AT(force_usage),
     NULL, 0, 0, "tell every stream its usage"},
    {"response-role", NULL, TEXT, CLI_SERVE | CLI_BATCH, AT(response_role), "assistant",
     0, 0, "whose answers to chats are"},
    {"root-path", NULL, TEXT, CLI_SERVE, AT(root_path), NULL, 0, 0,
     "what a proxy puts before every path"},
    {"disable-access-log-for-endpoints", NULL, TEXT, CLI_SERVE, AT(quiet_paths), NULL, 0,
     0,
     "no line for answers of these paths: /health,/ping; /metrics and /cohort/status "
     "have none"},
    {"allowed-origins", NULL, LIST, CLI_SERVE, AT(allowed_origins), NULL, 0, 0,
     "of web pages that may ask: *, or https://example.org; lists may be JSON, too"},
    {"allowed-methods", NULL, LIST, CLI_SERVE, AT(allowed_methods), "*", 0, 0,
     "that they may use"},
    {"allowed-headers", NULL, LIST, CLI_SERVE, AT(allowed_headers), "*", 0, 0,
     "that they may send"},
    {"allow-credentials", NULL, FLAG, CLI_SERVE, AT(allow_credentials), NULL, 0, 0,
     "with cookies and keys"},
    {"enable-request-id-headers", NULL, FLAG, CLI_SERVE, AT(request_id_headers), NULL, 0,
     0, "send X-Request-Id"},
    {"return-tokens-as-token-ids", NULL, FLAG, CLI_SERVE | CLI_BATCH, AT(tokens_as_ids),
     NULL, 0, 0, "logprobs name tokens as token_id:N"},

    {"backend", NULL, TEXT, CLI_BENCH_SERVE, AT(load.backend), "openai", 0, 0,
     "openai or vllm: completions; openai-chat: chats"},
    {"base-url", NULL, TEXT, CLI_BENCH_SERVE, AT(base_url), NULL, 0, 0,
     "of the server, in place of host and port: http://HOST:PORT"},
    {"host", NULL, TEXT, CLI_BENCH_SERVE, AT(server_host), "127.0.0.1", 0, 0,
     "where the server is"},
    {"port", NULL, COUNT, CLI_BENCH_SERVE, AT(server_port), "8000", 1, 65535,
     "of the server"},
    {"endpoint", NULL, TEXT, CLI_BENCH_SERVE, AT(load.endpoint), "/v1/completions", 0, 0,
     "path to ask"},
    {"header", NULL, LIST, CLI_BENCH_SERVE, AT(load.headers), NULL, 0, 0,
     "headers of every request: NAME=VALUE"},
    {"insecure", NULL, FLAG, CLI_BENCH_SERVE, AT(load.insecure), NULL, 0, 0,
     "believe any certificate"},
    {"model", NULL, TEXT, CLI_BENCH_SERVE, AT(server_model), NULL, 0, 0,
     "name in requests, and the tokenizer's directory (default: ask the server)"},
    {"served-model-name", NULL, TEXT, CLI_BENCH_SERVE, AT(load.served_name), NULL, 0, 0,
     "name in requests, where it is not --model"},
    {"tokenizer", NULL, TEXT, CLI_BENCH_SERVE, AT(load.tokenizer), NULL, 0, 0,
     "directory of the tokenizer that prompts are made with (default: --model)"},
    {"tokenizer-mode", NULL, TEXT, CLI_BENCH_SERVE, AT(load.tokenizer_mode), "auto", 0, 0,
     "auto or hf, which are the same here"},
    {"skip-tokenizer-init", NULL, FLAG, CLI_BENCH_SERVE, AT(load.skip_tokenizer_init),
     NULL, 0, 0, "no tokenizer: custom prompts as they are, one token of answer each"},
    {"trust-remote-code", NULL, FLAG, CLI_BENCH_SERVE, AT(load.trust_remote_code), NULL,
     0, 0, "taken for vLLM's sake: no code of a model's is ever run"},
    {"dataset-name", NULL, TEXT, CLI_BENCH_SERVE, AT(load.dataset), "random", 0, 0,
     "random tokens; prefix_repetition: random beginnings, each for several prompts; "
     "sharegpt or custom: from --dataset-path"},
    {"dataset-path", NULL, TEXT, CLI_BENCH_SERVE, AT(load.dataset_path), NULL, 0, 0,
     "sharegpt: JSON of {\"conversations\": [{\"value\"}, ...]}; custom: JSON lines of "
     "{\"prompt\", \"output_tokens\"}"},
    {"num-prompts", NULL, COUNT, CLI_BENCH_SERVE, AT(load.num_prompts), "1000", 0,
     1 << 24, "requests; 0: all of a custom data set"},
    {"no-oversample", NULL, FLAG, CLI_BENCH_SERVE, AT(load.no_oversample), NULL, 0, 0,
     "fewer requests where the file has fewer, not some of them again"},
    {"disable-shuffle", NULL, FLAG, CLI_BENCH_SERVE, AT(load.disable_shuffle), NULL, 0, 0,
     "prompts in the file's order"},
    {"skip-chat-template", NULL, FLAG, CLI_BENCH_SERVE, AT(load.skip_chat_template), NULL,
     0, 0, "custom prompts as they are, not as a message of a chat"},
    {"chat-template-kwargs", NULL, TEXT, CLI_BENCH_SERVE, AT(load.template_kwargs), NULL,
     0, 0, "JSON object: variables for that template"},
    {"custom-output-len", NULL, COUNT, CLI_BENCH_SERVE, AT(load.custom_output_len), "256",
     -1, 1 << 24, "tokens of each answer; -1: as output_tokens says"},
    {"sharegpt-output-len", NULL, COUNT, CLI_BENCH_SERVE, AT(load.sharegpt_output_len),
     "0", 0, 1 << 24, "tokens of each answer (0: as many as that of the file has)"},
    {"prefix-repetition-prefix-len", NULL, COUNT, CLI_BENCH_SERVE, AT(load.prefix_len),
     "256", 1, 1 << 24, "tokens of each beginning"},
    {"prefix-repetition-suffix-len", NULL, COUNT, CLI_BENCH_SERVE, AT(load.suffix_len),
     "256", 1, 1 << 24, "tokens of each prompt behind it"},
    {"prefix-repetition-num-prefixes", NULL, COUNT, CLI_BENCH_SERVE,
     AT(load.num_prefixes), "10", 1, 1 << 24, "beginnings, of equally many prompts each"},
    {"prefix-repetition-output-len", NULL, COUNT, CLI_BENCH_SERVE,
     AT(load.prefix_output_len), "128", 1, 1 << 24, "tokens of each answer"},
    {"random-input-len", NULL, COUNT, CLI_BENCH_SERVE, AT(load.random_input_len), "1024",
     1, 1 << 24, "tokens of each prompt"},
    {"random-output-len", NULL, COUNT, CLI_BENCH_SERVE, AT(load.random_output_len), "128",
     1, 1 << 24, "tokens of each answer"},
    {"random-range-ratio", NULL, TEXT, CLI_BENCH_SERVE, AT(load.random_range_ratio), "0",
     0, 0, "lengths from (1 - r) to (1 + r) times these; {\"input\": r, \"output\": r}"},
    {"random-prefix-len", NULL, COUNT, CLI_BENCH_SERVE, AT(load.random_prefix_len), "0",
     0, 1 << 24, "tokens that all prompts begin with, beside their own"},
    {"input-len", NULL, COUNT, CLI_BENCH_SERVE, AT(load.input_len), "0", 0, 1 << 24,
     "the same as random-input-len"},
    {"output-len", NULL, COUNT, CLI_BENCH_SERVE, AT(load.output_len), "0", 0, 1 << 24,
     "the same as random-output-len, and for the other data sets"},
    {"request-rate", NULL, NUMBER, CLI_BENCH_SERVE, AT(load.request_rate), "inf", 1e-6,
     HUGE_VAL, "requests a second; inf: all at once"},
    {"burstiness", NULL, NUMBER, CLI_BENCH_SERVE, AT(load.burstiness), "1", 1e-3,
     HUGE_VAL, "1: a Poisson process; below: burstier, above: more even"},
    {"ramp-up-strategy", NULL, TEXT, CLI_BENCH_SERVE, AT(load.ramp_strategy), NULL, 0, 0,
     "linear or exponential: the rate grows from request to request"},
    {"ramp-up-start-rps", NULL, COUNT, CLI_BENCH_SERVE, AT(load.ramp_start_rps), "0", 1,
     1 << 20, "from so many requests a second"},
    {"ramp-up-end-rps", NULL, COUNT, CLI_BENCH_SERVE, AT(load.ramp_end_rps), "0", 1,
     1 << 20, "to so many"},
    {"max-concurrency", NULL, COUNT, CLI_BENCH_SERVE, AT(load.max_concurrency), "0", 1,
     1 << 20, "requests under way at most (default: any number)"},
    {"seed", NULL, COUNT, CLI_BENCH_SERVE, AT(load.seed), "0", 0, 0x1p53,
     "of prompts, lengths and times"},
    {"num-warmups", NULL, COUNT, CLI_BENCH_SERVE, AT(load.num_warmups), "0", 0, 1 << 20,
     "requests before the count"},
    {"ready-check-timeout-sec", NULL, COUNT, CLI_BENCH_SERVE, AT(load.ready_timeout_s),
     "0", 0, 1 << 20, "wait so long for the server's first answer; 0: no check"},
    {"ignore-eos", NULL, FLAG, CLI_BENCH_SERVE, AT(load.ignore_eos), NULL, 0, 0,
     "answers of full length; always so for random"},
    {"temperature", NULL, NUMBER, CLI_BENCH_SERVE, AT(load.temperature), "0", 0, 100,
     "0: greedy (default: the server's)"},
    {"top-k", NULL, COUNT, CLI_BENCH_SERVE, AT(load.top_k), "0", -1, 1 << 24,
     "only the k likeliest (default: the server's)"},
    {"top-p", NULL, NUMBER, CLI_BENCH_SERVE, AT(load.top_p), "1", 0, 1,
     "only the likeliest that make up p (default: the server's)"},
    {"min-p", NULL, NUMBER, CLI_BENCH_SERVE, AT(load.min_p), "0", 0, 1,
     "only those at least p times as likely as the likeliest (default: the server's)"},
    {"repetition-penalty", NULL, NUMBER, CLI_BENCH_SERVE, AT(load.repetition_penalty),
     "1", 0.001, 100, "over 1: less of what was there"},
    {"presence-penalty", NULL, NUMBER, CLI_BENCH_SERVE, AT(load.presence_penalty), "0",
     -2, 2, "less of what was generated (default: the server's)"},
    {"frequency-penalty", NULL, NUMBER, CLI_BENCH_SERVE, AT(load.frequency_penalty), "0",
     -2, 2, "the same, for each time (default: the server's)"},
    {"logprobs", NULL, COUNT, CLI_BENCH_SERVE, AT(load.logprobs), "0", 0, 1000,
     "ask for so many of each token (default: none)"},
    {"extra-body", NULL, TEXT, CLI_BENCH_SERVE, AT(load.extra_body), NULL, 0, 0,
     "JSON object: further fields of every request"},
    {"request-id-prefix", NULL, TEXT, CLI_BENCH_SERVE, AT(load.request_id_prefix), NULL,
     0, 0, "of x-request-id, before the number (default: drawn)"},
    {"percentile-metrics", NULL, TEXT, CLI_BENCH_SERVE, AT(load.percentile_metrics),
     "ttft,tpot,itl", 0, 0,
     "what to report: ttft, tpot, itl, e2el, client_queue_time, "
     "e2el_including_client_queue"},
    {"metric-percentiles", NULL, TEXT, CLI_BENCH_SERVE, AT(load.metric_percentiles), "99",
     0, 0, "of these: 25,50,99"},
    {"goodput", NULL, LIST, CLI_BENCH_SERVE, AT(load.goodput), NULL, 0, 0,
     "count requests within ttft:MS tpot:MS e2el:MS"},
    {"label", NULL, TEXT, CLI_BENCH_SERVE, AT(load.label), NULL, 0, 0,
     "name of the run in results (default: the backend)"},
    {"metadata", NULL, LIST, CLI_BENCH_SERVE, AT(load.metadata), NULL, 0, 0,
     "KEY=VALUE pairs for the results"},
    {"save-result", NULL, FLAG, CLI_BENCH_SERVE, AT(load.save_result), NULL, 0, 0,
     "write the results as JSON"},
    {"save-detailed", NULL, FLAG, CLI_BENCH_SERVE, AT(load.save_detailed), NULL, 0, 0,
     "every request's times and texts too"},
    {"append-result", NULL, FLAG, CLI_BENCH_SERVE, AT(load.append_result), NULL, 0, 0,
     "add to the file instead"},
    {"result-dir", NULL, TEXT, CLI_BENCH_SERVE, AT(load.result_dir), NULL, 0, 0,
     "folder for the results (default: this one)"},
    {"result-filename", NULL, TEXT, CLI_BENCH_SERVE, AT(load.result_filename), NULL, 0, 0,
     "(default: BACKEND-RATEqps-MODEL-TIME.json)"},
    {"disable-tqdm", NULL, FLAG, CLI_BENCH_SERVE, AT(load.disable_tqdm), NULL, 0, 0,
     "no progress"},

    {"url", NULL, TEXT, CLI_COMPLETE | CLI_CHAT, AT(url), "http://localhost:8000/v1", 0,
     0, "of the running server's API"},
    {"model-name", NULL, TEXT, CLI_COMPLETE | CLI_CHAT, AT(model_name), NULL, 0, 0,
     "model to ask (default: the server's first)"},
    {"api-key", NULL, TEXT, CLI_COMPLETE | CLI_CHAT, AT(client_key), NULL, 0, 0,
     "that the server wants (default: OPENAI_API_KEY)"},
    {"system-prompt", NULL, TEXT, CLI_CHAT, AT(system_prompt), NULL, 0, 0,
     "what the conversation begins with"},
    {"quick", "q", TEXT, CLI_COMPLETE | CLI_CHAT, AT(quick), NULL, 0, 0,
     "ask this one thing, print the answer, end"},
    {"max-tokens", NULL, COUNT, CLI_COMPLETE | CLI_CHAT, AT(max_tokens), "16", 1, 1 << 24,
     "tokens of an answer at most (default: the server's)"},
    {"temperature", NULL, NUMBER, CLI_COMPLETE | CLI_CHAT, AT(temperature), "1", 0, 100,
     "0: greedy (default: the server's)"},
    {"stats", NULL, FLAG, CLI_COMPLETE | CLI_CHAT, AT(stats), NULL, 0, 0,
     "time to the first token and tokens a second, after each answer"},

    {"input-file", "i", TEXT, CLI_BATCH, AT(batch_input), NULL, 0, 0,
     "OpenAI batch file, a request a line; -: standard input"},
    {"output-file", "o", TEXT, CLI_BATCH, AT(batch_output), NULL, 0, 0,
     "for the answers, in the order of the requests; -: standard output"},
};

enum { N_ROWS = sizeof rows / sizeof *rows };
_Static_assert((int)N_ROWS <= CLI_MAX_OPTIONS, "is_set has a place for each");

static void *field_of(cli_options *options, const row *at) {
    return (char *)options + at->offset;
}

bool cli_options_given(const cli_options *options, const void *field) {
    size_t offset = (size_t)((const char *)field - (const char *)options);
    for (size_t i = 0; i < N_ROWS; i++)
        if (rows[i].offset == offset && options->is_set[i]) return true;
    return false; /* several rows may set one field, each for its commands */
}

static bool add_word(cli_list *list, const char *text) {
    if (!text || list->n == CLI_MAX_LIST - 1) return false;
    list->items[list->n++] = text;
    return true;
}

/* One word, or vLLM's form of several: '["a", "b"]'. */
static bool add_words(cli_list *list, const char *text) {
    cJSON *json = *text == '[' ? cJSON_Parse(text) : NULL;
    if (!cJSON_IsArray(json)) {
        cJSON_Delete(json);
        return add_word(list, text);
    }
    bool fits = true;
    const cJSON *item;
    cJSON_ArrayForEach(item, json) fits =
        fits && cJSON_IsString(item) && add_word(list, cli_keep(item->valuestring));
    cJSON_Delete(json);
    return fits;
}

static bool parse_flag(const char *text, bool *out) {
    *out = !strcmp(text, "1") || !strcasecmp(text, "true") || !strcasecmp(text, "yes");
    return *out || !strcmp(text, "0") || !strcasecmp(text, "false") ||
           !strcasecmp(text, "no");
}

/* May it be left open, with None or an empty word? */
static bool is_optional(const row *at) {
    bool is_ours = at->kind == TEXT && !at->standard;
    bool is_free = (at->kind == COUNT || at->kind == BYTES) && at->standard &&
                   !strcmp(at->standard, "0");
    return (is_ours || is_free) && at->commands & (CLI_ENGINE | CLI_SERVE) &&
           strcmp(at->name, "model") != 0;
}

/* False where the text is no value of this row. */
static bool set_value(cli_options *options, const row *at, const char *text) {
    double value = 0;
    bool fits = !strcmp(at->name, "max-model-len") &&
                (!strcmp(text, "-1") || !strcasecmp(text, "auto"));
    if (fits) text = "0";
    if (is_optional(at) && cli_is_none(text)) {
        if (at->kind == TEXT)
            *(const char **)field_of(options, at) = NULL;
        else
            *(int64_t *)field_of(options, at) = 0;
        return true;
    }
    switch (at->kind) {
    case TEXT: *(const char **)field_of(options, at) = text; return true;
    case FLAG: return parse_flag(text, (bool *)field_of(options, at));
    case COUNT:
    case BYTES:
        if (!cli_parse_scaled(text, &value) || value != floor(value) ||
            value < at->least || value > at->most)
            return false;
        *(int64_t *)field_of(options, at) = (int64_t)value;
        return true;
    case SECONDS:
    case NUMBER: {
        char *end;
        value = strtod(text, &end);
        if (end == text || *end || !(value >= at->least && value <= at->most))
            return false;
        *(double *)field_of(options, at) = value;
        return true;
    }
    case LIST:
    case EACH: return add_words(field_of(options, at), text);
    }
    return false;
}

static bool is_list(const row *at) { return at->kind == LIST || at->kind == EACH; }

static void variable_of(const row *at, char *out, size_t size) {
    size_t n = (size_t)snprintf(out, size, "COHORT_");
    for (const char *c = at->name; *c && n + 1 < size; c++)
        out[n++] = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    out[n] = '\0';
}

static int complain_value(const row *at, const char *where, const char *text) {
    fprintf(stderr, "cohort: %s: '%s' is no value; it takes ", where, text);
    if (at->kind == FLAG)
        fprintf(stderr, "true or false\n");
    else if (is_list(at))
        fprintf(stderr, "at most %d words, or a JSON list of them\n", CLI_MAX_LIST - 1);
    else if (at->most >= 0x1p53)
        fprintf(stderr, "a number from %g\n", at->least);
    else
        fprintf(stderr, "a number from %.10g to %.10g\n", at->least, at->most);
    return CLI_USAGE;
}

/* COHORT_PORT=tcp://... in every pod beside a Kubernetes Service that is called cohort.
 */
static bool is_service_link(const row *at, const char *text) {
    return !strcmp(at->name, "port") && !strncmp(text, "tcp://", 6);
}

/* Defaults, those of other commands' rows for a field first, then the environment. */
static int set_standard(cli_options *options, int commands) {
    memset(options, 0, sizeof *options);
    for (int own = 0; own <= 1; own++)
        for (size_t i = 0; i < N_ROWS; i++)
            if (rows[i].standard && own == !!(rows[i].commands & commands))
                set_value(options, &rows[i], rows[i].standard);
    for (size_t i = 0; i < N_ROWS; i++) {
        const row *at = &rows[i];
        char variable[80];
        variable_of(at, variable, sizeof variable);
        const char *text = getenv(variable);
        if (!text || !(at->commands & commands) || is_service_link(at, text)) continue;
        if (is_list(at)) *(cli_list *)field_of(options, at) = (cli_list){0};
        if (!set_value(options, at, text)) return complain_value(at, variable, text);
        options->is_set[i] = true;
    }
    return CLI_OK;
}

static const row *find_row(const char *word, int commands) {
    bool is_long = word[1] == '-';
    const char *name = word + (is_long ? 2 : 1);
    for (size_t i = 0; i < N_ROWS; i++) {
        if (!(rows[i].commands & commands)) continue;
        if (is_long && cli_is_named(name, "=", rows[i].name)) return &rows[i];
        if (cli_is_named(name, "=", rows[i].alias)) return &rows[i];
    }
    return NULL;
}

/* "--no-NAME", for every flag. */
static const row *find_negated(const char *word, int commands) {
    char positive[80];
    const char *name = cli_negated_name(word);
    if (!name) return NULL;
    snprintf(positive, sizeof positive, "--%s", name);
    const row *at = find_row(positive, commands);
    return at && at->kind == FLAG ? at : NULL;
}

/* A flag's value under "--no-NAME"; what is no such value stays what it is. */
static const char *negate(const char *value) {
    bool flag;
    if (!parse_flag(value, &flag)) return value;
    return flag ? "0" : "1";
}

/* What `vllm serve` has and there is nothing to do for. */
static int take_vllm_option(const cli_vllm_option *option, const char *command, int argc,
                            char **argv, int *i) {
    const char *word = argv[*i], *value = cli_vllm_value(word);
    if (!value && cli_vllm_takes_value(option)) {
        if (*i + 1 == argc) {
            fprintf(stderr, "cohort %s: %s needs a value\n", command, word);
            return CLI_USAGE;
        }
        value = argv[++*i];
    }
    return cli_vllm_take(option, command, word, value) ? CLI_OK : CLI_USAGE;
}

static bool is_json(const row *at) {
    return at->kind == TEXT && (!strcmp(at->name, "override-generation-config") ||
                                !strcmp(at->name, "default-chat-template-kwargs"));
}

/* "--name.key value" of an option that is JSON: the object with that key set. */
static const row *find_json(const char *word, int commands) {
    for (size_t i = 0; i < N_ROWS; i++)
        if (rows[i].commands & commands && is_json(&rows[i]) &&
            cli_is_named(word + 2, ".", rows[i].name))
            return &rows[i];
    return NULL;
}

/* The only name of ours and vLLM's that a word abbreviates, spelled out; NULL: none. */
static const char *complete(const char *word, int commands) {
    const char *name = NULL, *negated = cli_negated_name(word);
    if (word[1] != '-' || !(commands & (CLI_SERVE | CLI_BATCH))) return NULL;
    int count = cli_vllm_complete(word, &name);
    for (size_t i = 0; i < N_ROWS; i++) {
        const row *at = &rows[i];
        if (!(at->commands & commands) || (negated && at->kind != FLAG) ||
            (name && !strcmp(at->name, name)) || /* vLLM's table has it, too */
            !cli_abbreviates(negated ? negated : word + 2, at->name))
            continue;
        name = at->name;
        count++;
    }
    return count == 1 ? cli_spell_out(word, name) : NULL;
}

static int parse_word(cli_options *options, int commands, const char *command, int argc,
                      char **argv, int *i) {
    char *word = argv[*i];
    if (word[0] != '-' || !word[1]) {
        if (!(commands & CLI_ENGINE) || options->is_set[0]) {
            fprintf(stderr, "cohort %s: '%s' is one word too many; see --help\n", command,
                    word);
            return CLI_USAGE;
        }
        options->model = word;
        options->is_set[0] = true;
        return CLI_OK;
    }
    const row *at = find_row(word, commands), *negated = NULL;
    if (!at) at = negated = find_negated(word, commands);
    const row *json = at ? NULL : find_json(word, commands);
    if (json) at = json;
    const cli_vllm_option *of_vllm =
        !at && commands & (CLI_SERVE | CLI_BATCH) ? cli_vllm_find(word) : NULL;
    if (of_vllm) return take_vllm_option(of_vllm, command, argc, argv, i);
    const char *whole = at ? NULL : complete(word, commands);
    if (whole) {
        argv[*i] = (char *)whole;
        return parse_word(options, commands, command, argc, argv, i);
    }
    if (!at) {
        fprintf(stderr, "cohort %s: unknown option '%s'; see cohort %s --help\n", command,
                word, command);
        return CLI_USAGE;
    }
    const char *value = strchr(word, '=');
    if (value)
        value++;
    else if (at->kind == FLAG)
        value = "1";
    else if (*i + 1 < argc)
        value = argv[++*i];
    else {
        fprintf(stderr, "cohort %s: %s needs a value\n", command, word);
        return CLI_USAGE;
    }
    /* Where vLLM's table has it, too, that tells the values that are taken. */
    const cli_vllm_option *both = cli_vllm_find(word);
    if (both && !cli_vllm_take(both, command, word, value)) return CLI_USAGE;
    if (negated) value = negate(value);
    if (json)
        value = cli_set_key(*(const char **)field_of(options, at), strchr(word, '.') + 1,
                            value);
    if (!value) return complain_value(at, word, "that key");
    /* The command line takes the place of the environment, word by word of a list. */
    if (is_list(at) && !options->is_given[at - rows])
        *(cli_list *)field_of(options, at) = (cli_list){0};
    options->is_set[at - rows] = options->is_given[at - rows] = true;
    if (!set_value(options, at, value)) return complain_value(at, word, value);
    while (at->kind == LIST && *i + 1 < argc && argv[*i + 1][0] != '-')
        if (!set_value(options, at, argv[++*i]))
            return complain_value(at, word, argv[*i]);
    return CLI_OK;
}

/* The file of --config, or of its variable. */
static int parse_config(cli_options *options, int commands, const char *command, int argc,
                        char **argv) {
    static cli_config_words words; /* some KiB */
    const char *path = options->config_file;
    for (int i = 1; i < argc && commands & (CLI_SERVE | CLI_BATCH); i++)
        if (!strncmp(argv[i], "--config=", 9))
            path = argv[i] + 9;
        else if (!strcmp(argv[i], "--config") && i + 1 < argc)
            path = argv[++i];
    if (!path) return CLI_OK;
    int result = cli_config_read(path, &words) ? CLI_OK : CLI_USAGE;
    for (int i = 0; i < words.n && result == CLI_OK; i++) {
        result = parse_word(options, commands, command, words.n, words.items, &i);
        if (result != CLI_OK)
            fprintf(stderr, "cohort %s: that is of %s\n", command, path);
    }
    memset(options->is_given, 0, sizeof options->is_given); /* not on the command line */
    return result;
}

static void print_vllm_option(void *user_data, const char *text) {
    size_t *column = user_data, size = strlen(text) + 1;
    bool is_first = *column == 0, breaks = *column + size > 90;
    printf("%s%s%s", is_first ? "" : ",", is_first || breaks ? "\n    " : " ", text);
    *column = is_first || breaks ? 4 + size : *column + size + 1;
}

/* In a few lines: nobody chooses these, they come with a command line of vLLM's. */
static void print_vllm_options(void) {
    size_t column = 0;
    printf(
        "\nalso taken, as vllm serve has them, without effect; where a value is named, "
        "for that\nonly:");
    cli_vllm_each(print_vllm_option, &column);
    printf("\n");
}

int cli_options_parse(cli_options *options, int commands, const char *command, int argc,
                      char **argv) {
    int result = set_standard(options, commands);
    if (result == CLI_OK) result = parse_config(options, commands, command, argc, argv);
    bool has_model = options->is_set[0];
    options->is_set[0] = false;
    for (int i = 1; result == CLI_OK && i < argc; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            printf("usage: cohort %s%s [options]\n\n", command,
                   commands & CLI_ENGINE ? " MODEL_DIR" : "");
            cli_options_print(stdout, commands);
            if (commands & (CLI_SERVE | CLI_BATCH)) print_vllm_options();
            return CLI_HELP;
        }
        result = parse_word(options, commands, command, argc, argv, &i);
    }
    options->is_set[0] |= has_model;
    return result;
}

void cli_options_print_value(FILE *out, const cli_options *options, size_t i) {
    const row *at = &rows[i];
    const void *field = (const char *)options + at->offset;
    if (!strcmp(at->name, "api-key")) /* who looks at a list need not see it */
        fprintf(out, "%s", options->is_set[i] ? "***" : "");
    else if (at->kind == TEXT)
        fprintf(out, "%s",
                *(const char *const *)field ? *(const char *const *)field : "");
    else if (at->kind == FLAG)
        fprintf(out, "%s", *(const bool *)field ? "true" : "false");
    else if (is_list(at))
        for (int n = 0; n < ((const cli_list *)field)->n; n++)
            fprintf(out, "%s%s", n ? " " : "", ((const cli_list *)field)->items[n]);
    else if (at->kind == COUNT || at->kind == BYTES)
        fprintf(out, "%lld", (long long)*(const int64_t *)field);
    else
        fprintf(out, "%g", *(const double *)field);
}

/* By value_kind. */
static const char *const units[] = {"TEXT", "N", "BYTES",   "SECONDS",
                                    "X",    "",  "TEXT...", "TEXT"};
_Static_assert(sizeof units / sizeof *units == EACH + 1, "a word for each kind");

void cli_options_print(FILE *out, int commands) {
    for (size_t i = 0; i < N_ROWS; i++) {
        const row *at = &rows[i];
        char name[80];
        if (!(at->commands & commands)) continue;
        snprintf(name, sizeof name, "%s%s%s--%s %s", at->alias ? "-" : "",
                 at->alias ? at->alias : "", at->alias ? ", " : "", at->name,
                 units[at->kind]);
        fprintf(out, "  %-36s %s", name, at->help);
        if (at->standard) fprintf(out, " [%s]", at->standard);
        fprintf(out, "\n");
    }
}

void cli_options_each(int commands,
                      void (*each)(void *user_data, const cli_option_text *option),
                      void *user_data) {
    for (size_t i = 0; i < N_ROWS; i++) {
        const row *at = &rows[i];
        if (!(at->commands & commands)) continue;
        cli_option_text text = {.name = at->name,
                                .alias = at->alias,
                                .value = units[at->kind],
                                .standard = at->standard,
                                .help = at->help,
                                .commands = at->commands,
                                .row = i};
        variable_of(at, text.variable, sizeof text.variable);
        each(user_data, &text);
    }
}

bool cli_parse_ids(const char *text, int32_t **out_ids, size_t *out_count) {
    size_t capacity = 1, n = 0;
    for (const char *c = text; *c; c++)
        capacity += *c == ',';
    int32_t *ids = malloc(capacity * sizeof *ids);
    for (const char *at = text; ids; at++) {
        char *end;
        errno = 0;
        long id = strtol(at, &end, 10);
        if (end == at || errno || id < 0 || id > INT32_MAX) break;
        ids[n++] = (int32_t)id;
        at = end;
        if (*at == '\0') {
            *out_ids = ids;
            *out_count = n;
            return true;
        }
        if (*at != ',') break;
    }
    free(ids);
    return false;
}

/* ---- the engine -------------------------------------------------------------------- */

static int64_t nanoseconds(double seconds) { return (int64_t)(seconds * 1e9); }

int cli_content_format(const cli_options *options, cohort_content_format *out_format) {
    static const char *const words[] = {"auto", "string", "openai"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(options->content_format, words[i])) {
            *out_format = (cohort_content_format)i;
            return CLI_OK;
        }
    fprintf(stderr,
            "cohort: --chat-template-content-format %s: it is auto, string or openai\n",
            options->content_format);
    return CLI_USAGE;
}

/* Errors reach the user by whoever fails; what is only odd, or takes long, by nobody. */
static void show_warning(void *user_data, cohort_log_level level, const char *line) {
    if (level == COHORT_LOG_WARNING) cohort_log_to_stderr(user_data, level, line);
}

int cli_engine_options(const cli_options *options, cohort_engine_options *out_options) {
    cohort_log_level level;
    if (options->log_level && !cohort_log_level_parse(options->log_level, &level)) {
        fprintf(stderr,
                "cohort: --log-level '%s' is none of debug, info, warning, error\n",
                options->log_level);
        return CLI_USAGE;
    }
    if (options->log_level)
        cohort_log_set_sink(cohort_log_to_stderr, level, NULL);
    else
        cohort_log_set_sink(show_warning, COHORT_LOG_WARNING, NULL);
    const char *backend = options->backend;
    if (!backend) backend = options->tp * options->pp > 1 ? "mp" : "uni";
    if (strcmp(backend, "uni") && strcmp(backend, "mp") && strcmp(backend, "ray")) {
        fprintf(stderr,
                "cohort: --distributed-executor-backend '%s' is none of uni, mp, ray\n",
                backend);
        return CLI_USAGE;
    }
    cohort_engine_options engine = cohort_engine_defaults();
    engine.executor.backend = backend;
    engine.executor.tp = (int32_t)options->tp;
    engine.executor.pp = (int32_t)options->pp;
    engine.executor.instance = options->instance;
    engine.executor.cancel_fd = options->cancel_fd;
    if (options->worker_extension && options->worker_extension[0])
        engine.executor.worker_extension = options->worker_extension;
    engine.executor.ray = options->ray;
    engine.executor.ray.placement_timeout_ns =
        nanoseconds(options->ray_placement_timeout_s);
    engine.executor.connect_timeout_ns = nanoseconds(options->connect_timeout_s);
    engine.executor.load_timeout_ns = nanoseconds(options->load_timeout_s);
    engine.executor.execute_timeout_ns = nanoseconds(options->execute_timeout_s);
    engine.executor.hang_timeout_ns = nanoseconds(options->hang_timeout_s);
    engine.executor.shutdown_timeout_ns = nanoseconds(options->shutdown_timeout_s);
    engine.model = options->model_dir;
    engine.tokenizer = options->tokenizer_dir;
    engine.generation_config = options->generation_config;
    engine.override_generation_config = options->override_generation_config;
    engine.dtype = options->dtype;
    engine.load_format = options->load_format;
    engine.seed = (uint64_t)options->seed;
    engine.max_model_len = (int32_t)options->max_model_len;
    engine.max_num_seqs = (int32_t)options->max_num_seqs;
    engine.max_num_batched_tokens = (int32_t)options->max_num_batched_tokens;
    engine.block_size = (int32_t)options->block_size;
    engine.kv_cache_memory_bytes = options->kv_cache_bytes;
    engine.num_blocks = options->num_blocks;
    engine.enable_prefix_caching = options->prefix_caching;
    engine.executor.async_scheduling = options->async_scheduling;
    engine.priority_scheduling = !strcmp(options->scheduling_policy, "priority");
    if (!engine.priority_scheduling && strcmp(options->scheduling_policy, "fcfs") != 0) {
        fprintf(stderr, "cohort: --scheduling-policy %s: it is fcfs or priority\n",
                options->scheduling_policy);
        return CLI_USAGE;
    }
    engine.layer_partition = options->layer_partition;
    engine.cpu_threads_bind = options->threads_bind;
    engine.quantization = options->quantization;
    engine.device = options->device;
    engine.isa = options->isa;
    engine.skip_tokenizer_init = options->skip_tokenizer_init;
    *out_options = engine;
    return CLI_OK;
}

int cli_fail(const char *what) {
    const cohort_error *error = cohort_last_error();
    fprintf(stderr, "cohort: %s: %s\n", what, error->message);
    cohort_log_place("cli", error);
    if (error->code == COHORT_E_CANCELLED && cli_signals_first())
        return 128 + cli_signals_first();
    return error->code == COHORT_E_INVALID ? CLI_USAGE : CLI_FAILED;
}

int cli_catch_signals(cli_options *options) {
    int result = cli_signals_catch();
    options->is_cancelled = cli_signals_seen;
    options->cancel_fd = cli_signals_fd();
    return result;
}

void cli_print_ranks(const cohort_executor *executor) {
    cohort_rank_info rank;
    cohort_executor_describe_rank(executor, 0, &rank);
    bool has_nodes = rank.node[0] != '\0';
    fprintf(stderr, "%-5s %-4s %-4s %-8s %-8s %-14s", "rank", "tp", "pp", "pid",
            "backend", "transport");
    fprintf(stderr, has_nodes ? " %-16s %-12s %s\n" : "\n", "address", "node", "devices");
    for (int32_t r = 0; r < cohort_executor_world_size(executor); r++) {
        cohort_executor_describe_rank(executor, r, &rank);
        fprintf(stderr, "%-5d %-4d %-4d %-8d %-8s %-14s", r, rank.tp_rank, rank.pp_rank,
                rank.pid, rank.backend, rank.transport);
        if (has_nodes)
            fprintf(stderr, " %-16s %-12.12s %s", rank.address, rank.node, rank.devices);
        fprintf(stderr, "\n");
    }
}

void cli_print_start(cohort_engine *engine) {
    cohort_engine_info info;
    cohort_executor_phases phases;
    cohort_executor *executor = cohort_engine_executor(engine);
    cohort_engine_describe(engine, &info);
    cohort_executor_get_phases(executor, &phases);
    const struct {
        const char *name;
        int64_t ns;
    } table[] = {{"config, tokenizer", info.open_ns},
                 {"place", phases.place_ns},
                 {"configure", phases.configure_ns},
                 {"connect", phases.connect_ns},
                 {"load", phases.load_ns},
                 {"KV cache", info.kv_cache_ns}};
    fprintf(stderr, "%-18s %10s\n", "phase", "ms");
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        fprintf(stderr, "%-18s %10.2f\n", table[i].name, (double)table[i].ns / 1e6);
    cli_print_ranks(executor);
    fprintf(stderr,
            "%s, %s, %.2f GiB weights, KV cache %lld tokens, maximum concurrency for %d "
            "tokens "
            "per request: %.2fx\n",
            info.architecture, info.isa, (double)info.weight_bytes / 0x1p30,
            (long long)(info.num_blocks * info.block_size), info.max_model_len,
            (double)(info.num_blocks * info.block_size) / (double)info.max_model_len);
}
