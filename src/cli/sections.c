/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/sections.h"

#include "engine/engine_options.h"
#include "executor/executor_options.h"
#include "server/server_options.h"
#include "wire/sampling_options.h"

#define OPTIONS_OF cli_options

static const cohort_option start_rows[] = {
    OPTION_TEXT("revision", revision, "main",
                "branch, tag or commit of a model that is given by name"),
    OPTION_TEXT("download-dir", download_dir, NULL,
                "cache of such models (default: HF_HUB_CACHE, or hub in HF_HOME)"),
    OPTION_ROW(TEXT, "log-level", log_level, NULL, 0, 0,
               "debug, info, warning or error: log to standard error; without it "
               "warnings alone",
               .words = "debug|info|warning|error"),
    OPTION_FLAG("verbose", verbose, NULL, "show start-up phases and ranks"),
    OPTION_FLAG("fail-on-environ-validation", check_environment, NULL,
                "refuse variables VLLM_* that vLLM does not have, in place of a warning"),
};

static const cohort_option config_rows[] = {
    OPTION_TEXT("config", config_file, NULL,
                "YAML file of options, as name: value; the command line goes before it"),
};

static const cohort_option doctor_rows[] = {
    OPTION_SECONDS("timeout", engine.executor.ray.placement_timeout_ns, "120", 0.001, 1e6,
                   "for every node to answer"),
};

static const cohort_option generate_rows[] = {
    OPTION_TEXT("prompt", prompt, NULL,
                "what to say to the model; text to continue where the model has no chat "
                "template, and with --skip-chat-template"),
    OPTION_FLAG("skip-chat-template", skip_chat_template, NULL,
                "continue --prompt as it is"),
    OPTION_TEXT("prompt-token-ids", prompt_token_ids, NULL,
                "the same as token ids: 1,2,3"),
    OPTION_TEXT("input", input, NULL,
                "file of JSON lines with \"messages\" of a chat, or \"prompt\" or "
                "\"prompt_token_ids\" to continue; -: standard input"),
    OPTION_TEXT("logit-bias", logit_bias, NULL,
                "JSON object: token id to what is added to its logit"),
    OPTION_ROW(EACH, "stop", stop, NULL, 0, 0,
               "string that ends the text; may be given again", .alias = NULL),
    OPTION_TEXT("stop-token-ids", stop_token_ids, NULL,
                "token ids that end the text: 1,2,3"),
    OPTION_FLAG("no-skip-special-tokens", keep_special, NULL,
                "show special tokens in the text"),
    OPTION_FLAG("json", json, NULL, "one JSON line a completion"),
};

static const cohort_option worker_rows[] = {
    OPTION_COUNT("control-fd", control_fd, "-1", -1, 1 << 20,
                 "the driver's socket; only a driver starts workers"),
    OPTION_FLAG(
        "no-model", no_model, NULL,
        "load nothing, answer noop and echo only, as `cohort bench rpc` wants it"),
};

static const cohort_option bench_rows[] = {
    OPTION_COUNT("input-len", input_len, "32", 1, 1 << 24, "tokens of each prompt"),
    OPTION_COUNT("output-len", output_len, "128", 1, 1 << 24, "tokens of each answer"),
    OPTION_TEXT("output-json", output_json, NULL, "file for the results"),
};

static const cohort_option latency_rows[] = {
    OPTION_COUNT("batch-size", batch_size, "8", 1, 65536, "prompts at a time"),
    OPTION_COUNT("num-iters", num_iters, "30", 1, 1 << 20, "rounds"),
    OPTION_COUNT("num-iters-warmup", num_iters_warmup, "1", 0, 1 << 20,
                 "rounds before the count"),
    OPTION_FLAG("profile", profile, NULL,
                "show what every operation takes, and its share of what memory and "
                "processor can do"),
    OPTION_TEXT("profile-trace", profile_trace, NULL,
                "file for a trace that Perfetto and Chrome open, a line a rank"),
    OPTION_TEXT("profile-roofline", profile_roofline, NULL,
                "file for a picture (SVG) of operations beneath these limits"),
};

static const cohort_option throughput_rows[] = {
    OPTION_COUNT("num-prompts", num_prompts, "100", 1, 1 << 20, "prompts, all at once"),
};

static const cohort_option serve_rows[] = {
    OPTION_SECONDS("shutdown-timeout", drain_timeout_s, "30", 0, 1e6,
                   "for running requests to finish after SIGTERM; 0: they end at once"),
    OPTION_SECONDS("drain-timeout", drain_timeout_s, "30", 0, 1e6, "the same"),
    OPTION_FLAG(
        "stop-with-stdin", stop_with_stdin, NULL,
        "stop, as after SIGTERM, when standard input ends: who started it is gone"),
    OPTION_FLAG("keep-alive-on-engine-death", outlive_engine, NULL,
                "when the engine has failed, go on to answer 503 in place of ending"),
    OPTION_FLAG("disable-uvicorn-access-log", no_access_log, NULL,
                "no line for each answer"),
    OPTION_WORD("uvicorn-log-level", http_log_level, "info",
                "critical|error|warning|info|debug|trace",
                "warning, error and critical: no line for each answer, too"),
    OPTION_FLAG("disable-log-stats", no_stats, NULL, "no throughput lines"),
};

static const cohort_option talk_rows[] = {
    OPTION_TEXT("url", url, "http://localhost:8000/v1", "of the running server's API"),
    OPTION_TEXT("model-name", model_name, NULL,
                "model to ask (default: the server's first)"),
    OPTION_ROW(TEXT, "api-key", client_key, NULL, 0, 0,
               "that the server wants (default: OPENAI_API_KEY)",
               .flags = COHORT_OPTION_SECRET),
    OPTION_ROW(TEXT, "quick", quick, NULL, 0, 0,
               "ask this one thing, print the answer, end", .alias = "q"),
    OPTION_FLAG("stats", stats, NULL,
                "time to the first token and tokens a second, after each answer"),
};

static const cohort_option chat_rows[] = {
    OPTION_TEXT("system-prompt", system_prompt, NULL,
                "what the conversation begins with"),
};

static const cohort_option stat_rows[] = {
    OPTION_FLAG("watch", watch, NULL, "show it again and again, with tokens a second"),
    OPTION_SECONDS("interval", interval_ns, "1", 0.01, 1e6, "between looks of --watch"),
};

static const cohort_option batch_rows[] = {
    OPTION_ROW(TEXT, "input-file", batch_input, NULL, 0, 0,
               "OpenAI batch file, a request a line; -: standard input", .alias = "i"),
    OPTION_ROW(TEXT, "output-file", batch_output, NULL, 0, 0,
               "for the answers, in the order of the requests; -: standard output",
               .alias = "o"),
};

static const cohort_option_table start_table = OPTION_TABLE(start_rows);
static const cohort_option_table config_table = OPTION_TABLE(config_rows);
static const cohort_option_table doctor_table = OPTION_TABLE(doctor_rows);
static const cohort_option_table generate_table = OPTION_TABLE(generate_rows);
static const cohort_option_table worker_table = OPTION_TABLE(worker_rows);
static const cohort_option_table bench_table = OPTION_TABLE(bench_rows);
static const cohort_option_table latency_table = OPTION_TABLE(latency_rows);
static const cohort_option_table throughput_table = OPTION_TABLE(throughput_rows);
static const cohort_option_table serve_table = OPTION_TABLE(serve_rows);
static const cohort_option_table talk_table = OPTION_TABLE(talk_rows);
static const cohort_option_table chat_table = OPTION_TABLE(chat_rows);
static const cohort_option_table stat_table = OPTION_TABLE(stat_rows);
static const cohort_option_table batch_table = OPTION_TABLE(batch_rows);

/* What sections are over. */
#define AT(field) offsetof(cli_options, field)
enum { NOBODY = 0, NO_MORE = 0, HERE = 0 };

/* In the order of --help. */
enum {
    PROMPTS,
    MODEL,
    LOAD,
    PARALLEL,
    DEVICE,
    CACHE,
    SCHEDULER,
    SAMPLING,
    FRONTEND,
    RECOVERY,
    RAY,
    LOGGING,
    BENCH,
    CLIENT
};
const cli_group cli_groups[] = {
    [PROMPTS] = {"Prompts", "what is asked, and where answers go", ""},
    [MODEL] = {"ModelConfig", "the model, and what its checkpoint does not say", ""},
    [LOAD] = {"LoadConfig", "where weights come from",
              "load-format|revision|download-dir"},
    [PARALLEL] = {"ParallelConfig", "how many ranks there are, and what they are",
                  "pp-layer-partition"},
    [DEVICE] = {"DeviceConfig", "what ranks compute on", "device|isa|cpu-threads-bind"},
    [CACHE] = {"CacheConfig", "the KV cache",
               "block-size|kv-cache-memory-bytes|num-gpu-blocks-override|"
               "enable-prefix-caching"},
    [SCHEDULER] = {"SchedulerConfig", "what goes into a step",
                   "max-num-seqs|max-num-batched-tokens|async-scheduling|"
                   "scheduling-policy|max-num-waiting"},
    [SAMPLING] = {"Sampling", "how tokens are chosen", ""},
    [FRONTEND] = {"Frontend", "the HTTP server and its API", ""},
    [RECOVERY] =
        {"Recovery", "deadlines, and what a rank's death leads to",
         "connect-timeout|load-timeout|execute-model-timeout|hang-timeout|"
         "worker-shutdown-timeout|max-rank-restarts|rank-restart-window|kept-kv"},
    [RAY] = {"Ray", "ranks that are actors of a Ray cluster",
             "ray-address|ray-node-address|ray-placement-group|ray-namespace|"
             "ray-placement-strategy|ray-worker-resource|ray-bundle-indices|"
             "ray-excluded-env|ray-runtime-env|spare-workers|ray-log-to-driver|ray-"
             "workers-use-nsight|"
             "ray-placement-timeout"},
    [LOGGING] = {"Logging", "what is told, and how this run is found", "instance"},
    [BENCH] = {"Benchmark", "what is measured, and what is kept of it", ""},
    [CLIENT] = {"Client", "who is asked, and what is shown", ""},
};
const size_t cli_n_groups = sizeof cli_groups / sizeof *cli_groups;

const cli_section cli_sections[] = {
    {CLI_ENGINE, &cohort_engine_option_table, AT(engine), NO_MORE, NULL, NULL, MODEL},
    {CLI_SERVE | CLI_BATCH, &config_table, HERE, NO_MORE, NULL, NULL, MODEL},
    {CLI_ENGINE, &start_table, HERE, NO_MORE, NULL, NULL, LOGGING},
    {CLI_ENGINE, &cohort_executor_option_table, AT(engine.executor), CLI_DOCTOR,
     "ray-address|ray-node-address", NULL, PARALLEL},
    {CLI_DOCTOR, &doctor_table, HERE, NO_MORE, NULL, NULL, RAY},
    {CLI_GENERATE, &generate_table, HERE, NO_MORE, NULL, NULL, PROMPTS},
    {NOBODY, &cohort_request_option_table, AT(request), CLI_GENERATE, "max-tokens",
     "to the model's end", SAMPLING},
    {NOBODY, &cohort_request_option_table, AT(request), CLI_GENERATE,
     "n|include-stop-str-in-output|ignore-eos", NULL, SAMPLING},
    {CLI_GENERATE, &cohort_choice_option_table, AT(request.sampling), NO_MORE, NULL,
     "the model's", SAMPLING},
    {CLI_GENERATE, &cohort_report_option_table, AT(request.sampling), NO_MORE, NULL, NULL,
     SAMPLING},
    {CLI_WORKER, &worker_table, HERE, NO_MORE, NULL, NULL, BENCH},
    {CLI_LATENCY | CLI_THROUGHPUT, &bench_table, HERE, NO_MORE, NULL, NULL, BENCH},
    {CLI_LATENCY, &latency_table, HERE, NO_MORE, NULL, NULL, BENCH},
    {CLI_THROUGHPUT, &throughput_table, HERE, NO_MORE, NULL, NULL, BENCH},
    {CLI_SERVE, &cohort_server_option_table, AT(server), NO_MORE, NULL, NULL, FRONTEND},
    {CLI_SERVE, &serve_table, HERE, NO_MORE, NULL, NULL, FRONTEND},
    {CLI_SERVE | CLI_BATCH, &cohort_api_option_table, AT(server), CLI_GENERATE,
     "chat-template|chat-template-content-format", NULL, FRONTEND},
    {CLI_BENCH_SERVE, &cli_load_option_table, AT(load), NO_MORE, NULL, NULL, BENCH},
    {CLI_BENCH_SERVE, &cohort_choice_option_table, AT(request.sampling),
     CLI_COMPLETE | CLI_CHAT, "temperature", "the server's", SAMPLING},
    {NOBODY, &cohort_request_option_table, AT(request), CLI_COMPLETE | CLI_CHAT,
     "max-tokens", "the server's", SAMPLING},
    {CLI_COMPLETE | CLI_CHAT, &talk_table, HERE, NO_MORE, NULL, NULL, CLIENT},
    {CLI_CHAT, &chat_table, HERE, NO_MORE, NULL, NULL, CLIENT},
    {CLI_BATCH, &batch_table, HERE, NO_MORE, NULL, NULL, PROMPTS},
    {CLI_STAT, &stat_table, HERE, NO_MORE, NULL, NULL, CLIENT},
};
const size_t cli_n_sections = sizeof cli_sections / sizeof *cli_sections;
