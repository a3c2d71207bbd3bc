/* SPDX-License-Identifier: Apache-2.0 */
/* worker/runner_options.h - what every rank is told of the model that it runs a part of.
 *
 * The rows are the engine's and the worker's: over the engine's options they are what a
 * user may say, over cohort_runner_options what a worker reads.  One row, and a field of
 * the same name in each, is all that an option takes which ranks are to know.
 */
#ifndef COHORT_WORKER_RUNNER_OPTIONS_H
#define COHORT_WORKER_RUNNER_OPTIONS_H

#include "base/option.h"

typedef struct cohort_runner_options {
    const char *model;
    const char *dtype;
    const char *load_format;
    int32_t max_model_len; /* 0: the model's */
    int32_t max_num_seqs;
    int32_t max_num_batched_tokens;
    int32_t block_size;
    int64_t kv_cache_memory_bytes; /* 0: from the memory there is */
    uint64_t seed;
    const char *layer_partition;
    const char *cpu_threads_bind;
    const char *quantization;
    const char *device;
    const char *isa;
    bool enforce_eager;
    const char *cuda_graph_sizes[17]; /* the engine's 16 at most, NULL-terminated */
    /* Not the user's: what the engine has chosen. */
    bool keep_tokens; /* sampled ones, for the next step */
    int64_t execute_timeout_ns;
} cohort_runner_options;

#define COHORT_RUNNER_ROWS                                                              \
    OPTION_ROW(TEXT, "model", model, NULL, 0, 0,                                        \
               "Hugging Face model directory, or its name, Org/Name (also the word "    \
               "without dashes)",                                                       \
               .flags = COHORT_OPTION_NEEDED),                                          \
        OPTION_ROW(TEXT, "dtype", dtype, "auto", 0, 0,                                  \
                   "auto (the checkpoint's), float32, bfloat16 or float16",             \
                   .words = "auto|float32|bfloat16|float16"),                           \
        OPTION_ROW(TEXT, "load-format", load_format, "auto", 0, 0,                      \
                   "auto, safetensors, or dummy: seeded random weights",                \
                   .words = "auto|safetensors|dummy"),                                  \
        OPTION_ROW(                                                                     \
            COUNT, "max-model-len", max_model_len, "0", 0, 1 << 24,                     \
            "tokens of prompt and output together (0, auto: the model's, or what "      \
            "fits into memory)",                                                        \
            .flags = COHORT_OPTION_AUTO),                                               \
        OPTION_COUNT("max-num-seqs", max_num_seqs, "0", 0, 65536,                       \
                     "sequences of a step at most (0: the engine's choice)"),           \
        OPTION_COUNT("max-num-batched-tokens", max_num_batched_tokens, "0", 0, 1 << 20, \
                     "tokens of a step at most (0: the engine's choice)"),              \
        OPTION_COUNT("block-size", block_size, "16", 1, 1024,                           \
                     "tokens of a KV cache block"),                                     \
        OPTION_BYTES("kv-cache-memory-bytes", kv_cache_memory_bytes, "0", 0, 0x1p60,    \
                     "KV cache of each rank (0: from the memory there is)"),            \
        OPTION_COUNT("seed", seed, "0", 0, 0x1p64, "of dummy weights and of sampling"), \
        OPTION_TEXT("pp-layer-partition", layer_partition, NULL,                        \
                    "layers of each stage, as 7,8,8,7 (default: even)"),                \
        OPTION_ROW(TEXT, "cpu-threads-bind", cpu_threads_bind, "auto", 0, 0,            \
                   "cores of each rank, as 0-1|2-3; auto shares them out; nobind",      \
                   .words = "auto|nobind"),                                             \
        OPTION_ROW(TEXT, "quantization", quantization, NULL, 0, 0,                      \
                   "int8: of attention's and MLPs' weights, made when they are "        \
                   "loaded",                                                            \
                   .alias = "q", .words = "int8"),                                      \
        OPTION_ROW(TEXT, "device", device, "auto", 0, 0,                                \
                   "what ranks compute on: auto, the fastest there is, cpu or cuda",    \
                   .words = "auto|cpu|cuda"),                                           \
        OPTION_ROW(TEXT, "isa", isa, NULL, 0, 0,                                        \
                   "portable, avx2, avx512, avx512_bf16 or amx (default: the fastest "  \
                   "here)",                                                             \
                   .words = "portable|avx2|avx512|avx512_bf16|amx"),                    \
        OPTION_FLAG("enforce-eager", enforce_eager, NULL,                               \
                    "on a GPU, record no steps as graphs"),                             \
        OPTION_LIST("cuda-graph-sizes", cuda_graph_sizes, NULL,                         \
                    "rows of the steps that are recorded; one number: 1, 2, 4, 8 and "  \
                    "on by 8, up to it (default: twice --max-num-seqs, at most 512)")

/* Over cohort_runner_options. */
extern const cohort_option_table cohort_runner_option_table;

#endif /* COHORT_WORKER_RUNNER_OPTIONS_H */
