/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/engine_options.h"

#include "worker/runner_options.h"

#define OPTIONS_OF cohort_engine_options

static const cohort_option rows[] = {
    COHORT_RUNNER_ROWS,
    OPTION_TEXT("tokenizer", tokenizer, NULL,
                "directory or name of the tokenizer (default: the model's)"),
    OPTION_FLAG("skip-tokenizer-init", skip_tokenizer_init, NULL,
                "token ids in and out, no text"),
    OPTION_ROW(TEXT, "generation-config", generation_config, "auto", 0, 0,
               "defaults of requests: auto: of the model's generation_config.json; "
               "vllm: of none; or a folder with one",
               .words = "auto|vllm"),
    OPTION_ROW(TEXT, "override-generation-config", override_generation_config, NULL, 0, 0,
               "JSON object that goes before it: {\"temperature\": 0.5}",
               .flags = COHORT_OPTION_JSON),
    OPTION_COUNT("num-gpu-blocks-override", num_blocks, "0", 0, 1 << 30,
                 "blocks of the KV cache, whatever memory there is"),
    OPTION_FLAG("enable-prefix-caching", enable_prefix_caching, "true",
                "start prompts behind what others have in common"),
    OPTION_FLAG("async-scheduling", executor.async_scheduling, "true",
                "send the next step while one computes"),
    OPTION_WORD("scheduling-policy", priority_scheduling, "fcfs", "fcfs|priority",
                "fcfs, or priority: a request's priority before its arrival"),
};

const cohort_option_table cohort_engine_option_table = OPTION_TABLE(rows);

#undef OPTIONS_OF
#define OPTIONS_OF cohort_request

static const cohort_option request_rows[] = {
    OPTION_COUNT("max-tokens", max_tokens, "16", 1, 1 << 24,
                 "tokens to generate at most"),
    OPTION_COUNT("n", n, "1", 1, COHORT_MAX_COMPLETIONS, "completions of each prompt"),
    OPTION_FLAG("include-stop-str-in-output", include_stop_str_in_output, NULL,
                "keep the stop string"),
    OPTION_FLAG("skip-special-tokens", skip_special_tokens, "true",
                "leave special tokens out of the text"),
    OPTION_FLAG("ignore-eos", ignore_eos, NULL, "go on after the model's end"),
};

const cohort_option_table cohort_request_option_table = OPTION_TABLE(request_rows);
