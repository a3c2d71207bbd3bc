/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/vllm_options.h"

#include <stdio.h>
#include <string.h>

#include "cli/option_words.h"

/* fine: values that are taken: "1|auto" without a word, as they are what happens anyway;
 * ANY: whatever it is, with a line that it has no effect; NULL: none.  why: what there is
 * to say where it has none, or is refused. */
struct cli_vllm_option {
    const char *name, *alias;
    bool is_flag;
    const char *fine;
    const char *why;
};

#define ANY "*"
#define FLAG(name, alias, fine, why) \
    { name, alias, true, fine, why }
#define VALUE(name, alias, fine, why) \
    { name, alias, false, fine, why }

static const char one_server[] = "one process serves, beside its ranks";
static const char no_replicas[] =
    "there are no replicas; start servers and put a balancer before them";
static const char no_peers[] =
    "ranks find each other; over several hosts with --distributed-executor-backend ray";
static const char no_lora[] = "LoRA is not supported";
static const char no_connector[] = "no KV cache leaves this engine";
static const char no_experts[] = "experts are sharded as layers are, by "
                                 "--tensor-parallel-size";
static const char no_traces[] = "/metrics and `cohort stat` tell how it does";
static const char nothing_compiled[] = "nothing is compiled; see --enforce-eager";
static const char no_images[] = "there is only text";

static const cli_vllm_option options[] = {
    VALUE("api-server-count", "asc", "1", one_server),
    FLAG("headless", NULL, "false", one_server),
    FLAG("grpc", NULL, "false", "it is HTTP that is served"),
    FLAG("disable-log-requests", NULL, "true", "use --enable-log-requests"),
    /* Frontend */
    FLAG("enable-server-load-tracking", NULL, ANY, "/load always counts"),
    VALUE("max-log-len", NULL, ANY, "prompts are not logged"),
    FLAG("enable-log-outputs", NULL, "false", "answers are not logged"),
    FLAG("enable-log-deltas", NULL, ANY, "answers are not logged"),
    FLAG("log-error-stack", NULL, ANY, "errors name the rank and the cause"),
    VALUE("log-config-file", NULL, NULL, "use --log-level"),
    VALUE("middleware", NULL, "[]", "no code of others runs in the server"),
    VALUE("tool-server", NULL, NULL, "tools are the clients' business"),
    VALUE("tool-parser-plugin", NULL, NULL, "no code of others runs in the server"),
    VALUE("reasoning-parser-plugin", NULL, NULL, "no code of others runs in the server"),
    FLAG("disable-fastapi-docs", NULL, "false", "/openapi.json is always served"),
    FLAG("enable-offline-docs", NULL, "false", "there is no /docs"),
    FLAG("enable-tokenizer-info-endpoint", NULL, "false", "there is no such route"),
    FLAG("exclude-tools-when-tool-choice-none", NULL, "false",
         "templates are shown the tools of a request"),
    VALUE("h11-max-incomplete-event-size", NULL, ANY, "a request's head has 64 KiB"),
    VALUE("h11-max-header-count", NULL, ANY, "a request's head has 64 KiB"),
    VALUE("ssl-ca-certs", NULL, NULL, "clients are not asked for certificates"),
    VALUE("ssl-cert-reqs", NULL, "0", "clients are not asked for certificates"),
    FLAG("enable-ssl-refresh", NULL, "false", "certificates are read at the start"),
    /* Model */
    FLAG("trust-remote-code", NULL, ANY, "no code of a checkpoint is ever run"),
    VALUE("quantization", "q", "int8", "it is made when weights are loaded"),
    VALUE("convert", NULL, "auto|none", "models generate"),
    VALUE("runner", NULL, "auto|generate", "models generate"),
    VALUE("task", NULL, "auto|generate", "models generate"),
    VALUE("model-impl", NULL, "auto|vllm", "every model runs in C"),
    VALUE("config-format", NULL, "auto|hf", "config.json is what is read"),
    VALUE("hf-overrides", NULL, "{}", "edit the model's config.json"),
    VALUE("hf-config-path", NULL, NULL, "config.json lies with the model"),
    VALUE("hf-token", NULL, NULL, "set HF_TOKEN"),
    VALUE("code-revision", NULL, ANY, "no code of a checkpoint is ever run"),
    VALUE("tokenizer-mode", NULL, "auto|hf|slow", "tokenizer.json is what is read"),
    VALUE("tokenizer-revision", NULL, "main", "give --tokenizer a directory"),
    VALUE("logprobs-mode", NULL, "raw_logprobs", "logprobs are those before sampling"),
    FLAG("enable-sleep-mode", NULL, "false", "weights stay where they are"),
    FLAG("enable-prompt-embeds", NULL, "false", "prompts are text or token ids"),
    FLAG("disable-sliding-window", NULL, "false", "windows are as the model has them"),
    FLAG("disable-cascade-attn", NULL, ANY, "there is no cascade attention"),
    VALUE("attention-backend", NULL, "auto|CPU_ATTN|TORCH_SDPA", "--isa is the choice"),
    VALUE("logits-processors", NULL, NULL, "no code of others runs in the server"),
    VALUE("limit-mm-per-prompt", NULL, ANY, no_images),
    VALUE("mm-processor-kwargs", NULL, ANY, no_images),
    VALUE("mm-processor-cache-gb", NULL, ANY, no_images),
    VALUE("media-io-kwargs", NULL, ANY, no_images),
    VALUE("allowed-local-media-path", NULL, ANY, no_images),
    FLAG("language-model-only", NULL, ANY, no_images),
    /* Loading */
    VALUE("safetensors-load-strategy", NULL, "auto|lazy|eager|prefetch",
          "weights are packed out of the mapped files"),
    VALUE("model-loader-extra-config", NULL, "{}",
          "weights are packed out of the mapped files"),
    VALUE("ignore-patterns", NULL, ANY, "only what is needed is fetched"),
    VALUE("max-parallel-loading-workers", NULL, ANY, "ranks load their shards at once"),
    FLAG("use-tqdm-on-load", NULL, ANY, "there is no bar for loading"),
    /* Ranks */
    VALUE("data-parallel-size-local", "dpl", "0|1", no_replicas),
    VALUE("data-parallel-start-rank", "dpr", "0", no_replicas),
    VALUE("data-parallel-address", "dpa", ANY, no_replicas),
    VALUE("data-parallel-rpc-port", "dpp", ANY, no_replicas),
    VALUE("data-parallel-backend", "dpb", "mp|ray", no_replicas),
    FLAG("data-parallel-external-lb", "dpe", "true|false", no_replicas),
    FLAG("data-parallel-hybrid-lb", "dph", "false", no_replicas),
    VALUE("decode-context-parallel-size", "dcp", "1", "a rank keeps whole sequences"),
    VALUE("prefill-context-parallel-size", "pcp", "1", "a rank keeps whole sequences"),
    FLAG("enable-expert-parallel", "ep", "false", no_experts),
    FLAG("enable-eplb", NULL, "false", no_experts),
    FLAG("enable-elastic-ep", NULL, "false", no_experts),
    FLAG("enable-dbo", NULL, "false", no_experts),
    VALUE("eplb-config", NULL, "{}", no_experts),
    VALUE("all2all-backend", NULL, ANY, no_experts),
    VALUE("expert-placement-strategy", NULL, ANY, no_experts),
    FLAG("disable-custom-all-reduce", NULL, ANY, "there is one all-reduce"),
    VALUE("distributed-timeout-seconds", NULL, ANY,
          "see --connect-timeout and --execute-model-timeout"),
    VALUE("master-addr", NULL, ANY, no_peers),
    VALUE("master-port", NULL, ANY, no_peers),
    VALUE("nnodes", "n", "1", no_peers),
    VALUE("node-rank", "r", "0", no_peers),
    FLAG("numa-bind", NULL, "false", "use --cpu-threads-bind"),
    VALUE("worker-cls", NULL, "auto", "see --worker-extension-cls"),
    /* Cache */
    VALUE("gpu-memory-utilization", NULL, ANY,
          "the KV cache takes of the memory that is free; see --kv-cache-memory-bytes"),
    VALUE("kv-cache-dtype", NULL, "auto",
          "keys and values are kept in the model's dtype"),
    VALUE("kv-offloading-size", NULL, "0", no_connector),
    VALUE("kv-offloading-backend", NULL, ANY, no_connector),
    VALUE("cpu-offload-gb", NULL, "0", "weights stay where they are"),
    VALUE("swap-space", NULL, ANY, "what is preempted is computed anew"),
    FLAG("calculate-kv-scales", NULL, "false", "keys and values are not scaled"),
    FLAG("kv-sharing-fast-prefill", NULL, "false", "layers share no keys and values"),
    VALUE("prefix-caching-hash-algo", NULL,
          "sha256|sha256_cbor|xxhash|xxhash_cbor|builtin", "it is keyed BLAKE2b"),
    FLAG("disable-hybrid-kv-cache-manager", NULL, ANY, "all layers' blocks are alike"),
    /* LoRA */
    FLAG("enable-lora", NULL, "false", no_lora),
    VALUE("lora-modules", NULL, NULL, no_lora),
    VALUE("max-loras", NULL, ANY, no_lora),
    VALUE("max-lora-rank", NULL, ANY, no_lora),
    /* Watching */
    VALUE("otlp-traces-endpoint", NULL, NULL, no_traces),
    VALUE("collect-detailed-traces", NULL, NULL, no_traces),
    VALUE("show-hidden-metrics-for-version", NULL, ANY, "no metric is hidden"),
    FLAG("enable-mfu-metrics", NULL, "false", "no arithmetic is counted"),
    FLAG("kv-cache-metrics", NULL, "false", "no block's life is measured"),
    VALUE("profiler-config", NULL, "{}", "`cohort bench` tells where time goes"),
    /* Scheduling */
    FLAG("enable-chunked-prefill", NULL, "true", "long prompts always come in chunks"),
    VALUE("long-prefill-token-threshold", NULL, "0",
          "a prompt's chunk leaves what others need"),
    VALUE("max-num-partial-prefills", NULL, "1", "prompts are taken in order"),
    VALUE("max-long-partial-prefills", NULL, "1", "prompts are taken in order"),
    VALUE("scheduler-cls", NULL, NULL, "no code of others runs in the server"),
    FLAG("scheduler-reserve-full-isl", NULL, ANY, "who runs out of blocks waits"),
    /* The rest */
    VALUE("additional-config", NULL, "{}", "there are no plugins"),
    VALUE("compilation-config", "cc", ANY, nothing_compiled),
    VALUE("optimization-level", "O", ANY, nothing_compiled),
    VALUE("performance-mode", NULL, ANY, "there is one mode"),
    VALUE("kv-events-config", NULL, NULL, "no events of blocks are published"),
    VALUE("kv-transfer-config", NULL, NULL, no_connector),
    VALUE("ec-transfer-config", NULL, NULL, no_connector),
    VALUE("weight-transfer-config", NULL, NULL, "weights stay as they were loaded"),
    VALUE("speculative-config", "sc", NULL, "tokens are not guessed ahead"),
    VALUE("structured-outputs-config", NULL, "{}|auto", "there is one backend"),
};

enum { N_OPTIONS = sizeof options / sizeof *options };

static bool is_level(const char *word) {
    return word[0] == '-' && word[1] == 'O' && word[2] >= '0' && word[2] <= '3' &&
           !word[3];
}

const char *cli_vllm_value(const char *word) {
    const char *equals = strchr(word, '=');
    return equals ? equals + 1 : is_level(word) ? word + 2 : NULL;
}

const cli_vllm_option *cli_vllm_find(const char *word) {
    bool is_long = word[1] == '-';
    const char *name = is_level(word) ? "O" : word + (is_long ? 2 : 1);
    const char *negated = cli_negated_name(word);
    for (int i = 0; i < N_OPTIONS; i++) {
        const cli_vllm_option *at = &options[i];
        if (cli_is_named(name, "=.", is_long ? at->name : at->alias)) return at;
        if (at->is_flag && negated && cli_is_named(negated, "=.", at->name)) return at;
    }
    return NULL;
}

int cli_vllm_complete(const char *word, const char **out_name) {
    const char *negated = cli_negated_name(word);
    int count = 0;
    for (int i = 0; i < N_OPTIONS; i++) {
        const cli_vllm_option *at = &options[i];
        if (negated ? !at->is_flag || !cli_abbreviates(negated, at->name)
                    : !cli_abbreviates(word + 2, at->name))
            continue;
        *out_name = at->name;
        count++;
    }
    return count;
}

bool cli_vllm_takes_value(const cli_vllm_option *option) { return !option->is_flag; }

bool cli_vllm_take(const cli_vllm_option *option, const char *command, const char *word,
                   const char *value) {
    if (option->is_flag && !value) value = "true";
    if (option->is_flag && cli_negated_name(word)) {
        bool is_true = !strcasecmp(value, "true"), is_false = !strcasecmp(value, "false");
        value = is_true ? "false" : is_false ? "true" : value;
    }
    if (!option->is_flag && value && cli_is_none(value)) return true;
    if (option->fine && strcmp(option->fine, ANY) != 0 &&
        cli_is_among(value, option->fine, strncasecmp))
        return true;
    bool is_taken = option->fine && !strcmp(option->fine, ANY);
    fprintf(stderr, "cohort %s: --%s", command, option->name);
    if (is_taken)
        fprintf(stderr, " has no effect: %s\n", option->why);
    else if (option->is_flag)
        fprintf(stderr, "=%s is not supported: %s\n", value, option->why);
    else
        fprintf(stderr, " %.80s is not supported%s%s: %s\n", value,
                option->fine ? "; it may be " : "", option->fine ? option->fine : "",
                option->why);
    return is_taken;
}

void cli_vllm_each(void (*each)(void *user_data, const char *text), void *user_data) {
    for (int i = 0; i < N_OPTIONS; i++) {
        const cli_vllm_option *at = &options[i];
        char text[120];
        bool is_plain = at->is_flag || !at->fine || !strcmp(at->fine, ANY);
        if (!at->fine || !*at->fine) continue;
        if (at->is_flag && !strcmp(at->fine, "false")) continue;
        snprintf(text, sizeof text, "--%s%s%s", at->name, is_plain ? "" : " ",
                 is_plain ? "" : at->fine);
        each(user_data, text);
    }
}
