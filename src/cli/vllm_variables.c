/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/vllm_variables.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/option_words.h"

#define ANY "*"

const cli_vllm_variable cli_vllm_variables[] = {
    {"VLLM_API_KEY", "api-key", CLI_AS_IT_IS, NULL, NULL},
    {"VLLM_HOST_IP", "ray-node-address", CLI_AS_IT_IS, NULL,
     "of the driver's host; workers have their nodes'"},
    {"VLLM_PP_LAYER_PARTITION", "pp-layer-partition", CLI_AS_IT_IS, NULL, NULL},
    {"VLLM_CPU_KVCACHE_SPACE", "kv-cache-memory-bytes", CLI_AS_GIB, NULL,
     "in GiB, of each rank, unless --device is cuda"},
    {"VLLM_CPU_OMP_THREADS_BIND", "cpu-threads-bind", CLI_AS_IT_IS, NULL, NULL},
    {"VLLM_LOGGING_LEVEL", "log-level", CLI_AS_IT_IS, NULL,
     "of the ranks, too, where COHORT_LOGGING_LEVEL is not set"},
    {"VLLM_LOG_STATS_INTERVAL", "log-stats-interval", CLI_AS_INTERVAL, NULL, NULL},
    {"VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", "execute-model-timeout", CLI_AS_IT_IS, NULL,
     NULL},
    {"VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS", "worker-shutdown-timeout", CLI_AS_IT_IS,
     NULL, NULL},
    {"VLLM_ENGINE_READY_TIMEOUT_S", "load-timeout", CLI_AS_IT_IS, NULL, NULL},
    {"VLLM_KEEP_ALIVE_ON_ENGINE_DEATH", "keep-alive-on-engine-death", CLI_AS_FLAG, NULL,
     NULL},
    {"VLLM_RAY_BUNDLE_INDICES", "ray-bundle-indices", CLI_AS_IT_IS, NULL, NULL},
    {"VLLM_DP_SIZE", "data-parallel-size", CLI_AS_IT_IS, NULL, NULL},
    {"VLLM_DP_RANK", "data-parallel-rank", CLI_AS_IT_IS, NULL, NULL},
    {"VLLM_RAY_PER_WORKER_GPUS", "ray-worker-resource", CLI_AS_GPUS, NULL,
     "as GPU=N, unless --device is cpu"},
    {"VLLM_CONFIG_ROOT", NULL, CLI_AS_IT_IS, ANY,
     "ray_non_carry_over_env_vars.json is read there (docs/ray.md)"},
    {"VLLM_NO_USAGE_STATS|VLLM_DO_NOT_TRACK|VLLM_USAGE_STATS_SERVER|"
     "VLLM_USAGE_SOURCE",
     NULL, CLI_AS_IT_IS, ANY, "nothing is ever reported to anybody"},
    {"VLLM_DISABLE_LOG_LOGO", NULL, CLI_AS_IT_IS, ANY, "there is no logo"},
    {"VLLM_TARGET_DEVICE|VLLM_MAIN_CUDA_VERSION|VLLM_USE_PRECOMPILED|"
     "VLLM_USE_PRECOMPILED_RUST|VLLM_SKIP_PRECOMPILED_VERSION_SUFFIX|"
     "VLLM_DOCKER_BUILD_CONTEXT|VLLM_BUILD_COMMIT|VLLM_BUILD_PIPELINE|"
     "VLLM_BUILD_URL|VLLM_IMAGE_TAG|VLLM_SKIP_VERSION_SUFFIX|"
     "VLLM_NCCL_INCLUDE_PATH",
     NULL, CLI_AS_IT_IS, ANY, "it is of vLLM's own build"},
    {"VLLM_WORKER_MULTIPROC_METHOD|VLLM_ENABLE_V1_MULTIPROCESSING|"
     "VLLM_USE_V2_MODEL_RUNNER|VLLM_USE_RUST_FRONTEND|VLLM_USE_RUST_BENCH|"
     "VLLM_RUST_FRONTEND_PATH|VLLM_USE_SPINLOOP_EXT|VLLM_USE_FASTOKENS|"
     "VLLM_V1_OUTPUT_PROC_CHUNK_SIZE|VLLM_USE_LAYERNAME|"
     "VLLM_DISTRIBUTED_USE_SPLIT_GROUP",
     NULL, CLI_AS_IT_IS, ANY, "there is one way, in C"},
    {"VLLM_CACHE_ROOT|VLLM_XLA_CACHE_PATH|VLLM_DISABLE_COMPILE_CACHE|"
     "VLLM_USE_STANDALONE_COMPILE|VLLM_ENABLE_PREGRAD_PASSES|"
     "VLLM_USE_BREAKABLE_CUDAGRAPH|VLLM_PATTERN_MATCH_DEBUG|"
     "VLLM_USE_AOT_COMPILE|VLLM_USE_BYTECODE_HOOK|VLLM_FORCE_AOT_LOAD|"
     "VLLM_USE_MEGA_AOT_ARTIFACT|VLLM_COMPILE_CACHE_SAVE_FORMAT|"
     "VLLM_ENABLE_INDUCTOR_MAX_AUTOTUNE|"
     "VLLM_ENABLE_INDUCTOR_COORDINATE_DESCENT_TUNING|VLLM_ENABLE_CUDAGRAPH_GC|"
     "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS|VLLM_ENABLE_STARTUP_PLAN|"
     "VLLM_TRITON_JIT_WARMUP_NUM_THREADS|VLLM_TRITON_FORCE_FIRST_CONFIG|"
     "VLLM_DEEP_GEMM_WARMUP|VLLM_TUNED_CONFIG_FOLDER|"
     "VLLM_XLA_CHECK_RECOMPILATION",
     NULL, CLI_AS_IT_IS, ANY, "nothing is compiled or captured at a start"},
    {"VLLM_RAY_EXTRA_ENV_VAR_PREFIXES_TO_COPY|VLLM_RAY_EXTRA_ENV_VARS_TO_COPY", NULL,
     CLI_AS_IT_IS, ANY,
     "every variable goes to the workers but what is a host's own (docs/ray.md)"},
    {"VLLM_USE_RAY_V2_EXECUTOR_BACKEND", NULL, CLI_AS_IT_IS, "1|true",
     "steps go to ranks through queues, not through a compiled graph of Ray's"},
    {"VLLM_USE_RAY_COMPILED_DAG_CHANNEL_TYPE|"
     "VLLM_USE_RAY_COMPILED_DAG_OVERLAP_COMM|VLLM_USE_RAY_WRAPPED_PP_COMM",
     NULL, CLI_AS_IT_IS, NULL, "no step goes through a compiled graph of Ray's"},
    {"VLLM_DP_RANK_LOCAL|VLLM_DP_MASTER_IP|VLLM_DP_MASTER_PORT|VLLM_RANDOMIZE_DP_DUMMY_"
     "INPUTS|"
     "VLLM_RAY_DP_PACK_STRATEGY|VLLM_RAY_DP_PLACEMENT_NODE_IPS",
     NULL, CLI_AS_IT_IS, NULL, "replicas do not speak with each other"},
    {"VLLM_PORT|VLLM_LOOPBACK_IP|VLLM_RPC_BASE_PATH", NULL, CLI_AS_IT_IS, NULL,
     "who listens takes a port that is free and publishes it"},
    {"VLLM_MQ_MAX_CHUNK_BYTES_MB|VLLM_RINGBUFFER_WARNING_INTERVAL|"
     "VLLM_MSGPACK_ZERO_COPY_THRESHOLD|VLLM_OBJECT_STORAGE_SHM_BUFFER_NAME",
     NULL, CLI_AS_IT_IS, NULL, "queues are as long as the longest step wants"},
    {"VLLM_ALLOW_INSECURE_SERIALIZATION", NULL, CLI_AS_IT_IS, "0",
     "no code travels between processes"},
    {"VLLM_CPU_NUM_OF_RESERVED_CPU", NULL, CLI_AS_IT_IS, "0",
     "no CPU is kept free; use --cpu-threads-bind"},
    {"VLLM_CPU_CI_ENV|VLLM_CPU_ATTN_SPLIT_KV|VLLM_ZENTORCH_WEIGHT_PREPACK|"
     "VLLM_CPU_INT4_W4A8",
     NULL, CLI_AS_IT_IS, NULL, "--isa is the choice of kernels"},
    {"VLLM_FLOAT32_MATMUL_PRECISION", NULL, CLI_AS_IT_IS, "highest",
     "float32 is computed as such"},
    {"VLLM_BATCH_INVARIANT", NULL, CLI_AS_IT_IS, "1",
     "a sequence's bits never depend on its batch"},
    {"VLLM_CONFIGURE_LOGGING", NULL, CLI_AS_IT_IS, "1", "use --log-level"},
    {"VLLM_LOGGING_CONFIG_PATH|VLLM_LOGGING_STREAM|VLLM_LOGGING_PREFIX|"
     "VLLM_LOGGING_COLOR|VLLM_TRACE_FUNCTION|VLLM_LOG_BATCHSIZE_INTERVAL|"
     "VLLM_LOG_MODEL_INSPECTION|VLLM_DEBUG_MFU_METRICS|VLLM_DEBUG_WORKSPACE|"
     "VLLM_DEBUG_DUMP_PATH|VLLM_GC_DEBUG|VLLM_GPU_SYNC_CHECK|"
     "VLLM_CUSTOM_SCOPES_FOR_PROFILING|VLLM_NVTX_SCOPES_FOR_PROFILING",
     NULL, CLI_AS_IT_IS, NULL, "logs go to standard error; see --log-level"},
    {"VLLM_DEBUG_LOG_API_SERVER_RESPONSE", NULL, CLI_AS_IT_IS, "0|false",
     "answers are not logged"},
    {"VLLM_PROCESS_NAME_PREFIX", NULL, CLI_AS_IT_IS, NULL,
     "processes are called as they are"},
    {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE", NULL, CLI_AS_IT_IS, NULL, "see --idle-timeout"},
    {"VLLM_SERVER_DEV_MODE", NULL, CLI_AS_IT_IS, "0",
     "there are no routes for developers"},
    {"VLLM_MAX_N_SEQUENCES|VLLM_MAX_COMPLETION_PROMPTS|VLLM_MAX_STOP_STRINGS|"
     "VLLM_MAX_NUM_BAD_WORDS|VLLM_MAX_BAD_WORDS_TOTAL_TOKENS",
     NULL, CLI_AS_IT_IS, NULL, "requests have the limits of this build"},
    {"VLLM_ALLOW_LONG_MAX_MODEL_LEN", NULL, CLI_AS_IT_IS, "0|false",
     "a model's own length is the most that it gets"},
    {"VLLM_SKIP_MODEL_NAME_VALIDATION", NULL, CLI_AS_IT_IS, "0|false",
     "see --served-model-name"},
    {"VLLM_CHAT_TEMPLATE_RENDER_TIMEOUT|VLLM_REGEX_COMPILATION_TIMEOUT_S|"
     "VLLM_TOOL_PARSE_REGEX_TIMEOUT_SECONDS|VLLM_XGRAMMAR_CACHE_MB|"
     "VLLM_V1_USE_OUTLINES_CACHE",
     NULL, CLI_AS_IT_IS, NULL,
     "templates and grammars are bounded by their work, not by time"},
    {"VLLM_ENFORCE_STRICT_TOOL_CALLING|VLLM_TOOL_JSON_ERROR_AUTOMATIC_RETRY|"
     "VLLM_USE_EXPERIMENTAL_PARSER_CONTEXT",
     NULL, CLI_AS_IT_IS, NULL, "--tool-call-parser is the choice"},
    {"VLLM_GPT_OSS_SYSTEM_TOOL_MCP_LABELS|"
     "VLLM_GPT_OSS_HARMONY_SYSTEM_INSTRUCTIONS|VLLM_SYSTEM_START_DATE",
     NULL, CLI_AS_IT_IS, NULL, "no template has such a system message"},
    {"VLLM_ENABLE_RESPONSES_API_STORE", NULL, CLI_AS_IT_IS, "1",
     "see --max-stored-responses"},
    {"VLLM_ENABLE_COHERE_API", NULL, CLI_AS_IT_IS, "0",
     "the routes are those of /openapi.json"},
    {"VLLM_DISABLE_REQUEST_ID_RANDOMIZATION", NULL, CLI_AS_IT_IS, NULL,
     "a request has the id that it is given"},
    {"VLLM_USE_MODELSCOPE", NULL, CLI_AS_IT_IS, "0|false",
     "models come from Hugging Face, or HF_ENDPOINT"},
    {"VLLM_MODEL_REDIRECT_PATH", NULL, CLI_AS_IT_IS, NULL, "give the model's directory"},
    {"VLLM_TEST_FORCE_LOAD_FORMAT|VLLM_FASTSAFETENSORS_QUEUE_SIZE|"
     "VLLM_ASSETS_CACHE|VLLM_ASSETS_CACHE_MODEL_CLEAN",
     NULL, CLI_AS_IT_IS, NULL, "weights are packed out of the mapped files"},
    {"VLLM_PLUGINS|VLLM_LORA_RESOLVER_CACHE_DIR|VLLM_LORA_RESOLVER_HF_REPO_LIST|"
     "VLLM_ALLOW_RUNTIME_LORA_UPDATING|VLLM_LORA_DISABLE_PDL|"
     "VLLM_LORA_ENABLE_DUAL_STREAM",
     NULL, CLI_AS_IT_IS, NULL, "there are neither plugins nor LoRA"},
    {"VLLM_KV_CACHE_LAYOUT|VLLM_SSM_CONV_STATE_LAYOUT|"
     "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE|VLLM_REPLICATE_EMBED|"
     "VLLM_MLA_DISABLE",
     NULL, CLI_AS_IT_IS, NULL, "a model has one layout"},
    {"VLLM_COMPUTE_NANS_IN_LOGITS|VLLM_RAISE_ON_LOGIT_NANS", NULL, CLI_AS_IT_IS, "0",
     "logits are not looked through for NaN"},
    {"VLLM_KV_OFFLOAD_MAX_BATCH_DESCRIPTORS|VLLM_USE_SIMPLE_KV_OFFLOAD|"
     "VLLM_WEIGHT_OFFLOADING_DISABLE_PIN_MEMORY|"
     "VLLM_WEIGHT_OFFLOADING_DISABLE_UVA|VLLM_WSL2_ENABLE_PIN_MEMORY|"
     "VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES",
     NULL, CLI_AS_IT_IS, NULL, "weights and KV cache stay where they are"},
    {"VLLM_NIXL_SIDE_CHANNEL_HOST|VLLM_NIXL_SIDE_CHANNEL_PORT|"
     "VLLM_P2P_SIDE_CHANNEL_HOST|VLLM_P2P_SIDE_CHANNEL_PORT|VLLM_P2P_MAX_PEERS|"
     "VLLM_P2P_HANDSHAKE_TIMEOUT_S|VLLM_P2P_IDLE_TIMEOUT_S|"
     "VLLM_EC_SIDE_CHANNEL_HOST|VLLM_EC_SIDE_CHANNEL_PORT|"
     "VLLM_MOONCAKE_CONNECTOR_TIMEOUT|VLLM_MOONCAKE_BOOTSTRAP_PORT|"
     "VLLM_MOONCAKE_STORE_TIER_LOG|VLLM_MOONCAKE_LOAD_RECV_THREADS|"
     "VLLM_MOONCAKE_DISK_STAGING_USABLE_RATIO|"
     "VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT",
     NULL, CLI_AS_IT_IS, NULL, "no KV cache leaves this engine"},
    {"VLLM_IMAGE_FETCH_TIMEOUT|VLLM_VIDEO_FETCH_TIMEOUT|"
     "VLLM_AUDIO_FETCH_TIMEOUT|VLLM_MEDIA_CACHE|VLLM_MEDIA_CACHE_MAX_SIZE_MB|"
     "VLLM_MEDIA_CACHE_TTL_HOURS|VLLM_MEDIA_FETCH_MAX_RETRIES|"
     "VLLM_MAX_MEDIA_DOWNLOAD_SIZE_MB|VLLM_MEDIA_URL_ALLOW_REDIRECTS|"
     "VLLM_MEDIA_LOADING_THREAD_COUNT|VLLM_MAX_AUDIO_CLIP_FILESIZE_MB|"
     "VLLM_MAX_AUDIO_DECODE_DURATION_S|VLLM_MAX_AUDIO_DECODE_BYTES|"
     "VLLM_MAX_EMBED_DECODE_BYTES|VLLM_MAX_AUDIO_PREPROCESS_WORKERS|"
     "VLLM_MAX_IMAGE_PIXELS|VLLM_VIDEO_LOADER_BACKEND|VLLM_MEDIA_CONNECTOR",
     NULL, CLI_AS_IT_IS, NULL, "there is only text"},
    {"VLLM_NCCL_SO_PATH|VLLM_DISABLE_PYNCCL|VLLM_SKIP_P2P_CHECK|"
     "VLLM_USE_NCCL_SYMM_MEM|VLLM_ALLREDUCE_USE_SYMM_MEM|"
     "VLLM_ALLREDUCE_USE_FLASHINFER|VLLM_ALLREDUCE_USE_FLASHINFER_PCIE_IPC|"
     "VLLM_FLASHINFER_ALLREDUCE_BACKEND|VLLM_GPU_NIC_PCIE_MAPPING|"
     "VLLM_NIC_SELECTION_VARS",
     NULL, CLI_AS_IT_IS, NULL, "collectives are this project's own"},
    {"VLLM_CUDART_SO_PATH|VLLM_ENABLE_CUDA_COMPATIBILITY|"
     "VLLM_CUDA_COMPATIBILITY_PATH",
     NULL, CLI_AS_IT_IS, NULL,
     "the driver's library alone is loaded, as the loader finds it"},
    {"VLLM_ELASTIC_EP_SCALE_UP_LAUNCH|VLLM_ELASTIC_EP_DRAIN_REQUESTS|"
     "VLLM_DEEPEPLL_NVFP4_DISPATCH|VLLM_DEEPEP_BUFFER_SIZE_MB|"
     "VLLM_DEEPEP_HIGH_THROUGHPUT_FORCE_INTRA_NODE|"
     "VLLM_DEEPEP_LOW_LATENCY_USE_MNNVL|VLLM_DEEPEP_V2_ALLOW_HYBRID_MODE|"
     "VLLM_DEEPEP_V2_PREFER_OVERLAP|VLLM_DEEPEP_V2_ALLOW_MULTIPLE_REDUCTION|"
     "VLLM_DBO_COMM_SMS|VLLM_MOE_ROUTING_SIMULATION_STRATEGY|"
     "VLLM_USE_DIRECT_DCP_A2A|VLLM_USE_DIRECT_DCP_Q_GATHER|"
     "VLLM_USE_DIRECT_DCP_KV_GATHER|VLLM_DCP_Q_REPLICATE",
     NULL, CLI_AS_IT_IS, NULL,
     "experts are sharded as layers are, by --tensor-parallel-size"},
    {"VLLM_ROCM_SLEEP_MEM_CHUNK_SIZE|VLLM_ROCM_USE_AITER|"
     "VLLM_ROCM_USE_AITER_CUSTOM_AR|VLLM_ROCM_USE_AITER_LINEAR|"
     "VLLM_ROCM_USE_AITER_LINEAR_HIPBMM|VLLM_ROCM_USE_AITER_MOE|"
     "VLLM_ROCM_USE_AITER_MOE_SITUV2|VLLM_ROCM_USE_AITER_MOE_A4W4_DSV4|"
     "VLLM_ROCM_AITER_MOE_DISPATCH_POLICY|VLLM_ROCM_USE_AITER_RMSNORM|"
     "VLLM_ROCM_USE_AITER_MLA|VLLM_ROCM_AITER_MLA_DCP_VERIFY|"
     "VLLM_ROCM_AITER_MLA_ASM_PADDING|VLLM_ROCM_USE_AITER_MHA|"
     "VLLM_ROCM_USE_AITER_FP4_ASM_GEMM|VLLM_ROCM_USE_AITER_TRITON_SPARSE_MLA|"
     "VLLM_ROCM_USE_AITER_TRITON_ROPE|VLLM_ROCM_USE_AITER_FP8BMM|"
     "VLLM_ROCM_USE_AITER_FP4BMM|VLLM_ROCM_USE_AITER_UNIFIED_ATTENTION|"
     "VLLM_ROCM_USE_AITER_FUSION_SHARED_EXPERTS|"
     "VLLM_ROCM_AITER_MEGA_MOE_FUSE_SHARED_EXPERTS|VLLM_ROCM_MONO_DECODE|"
     "VLLM_ROCM_USE_AITER_TRITON_GEMM|VLLM_ROCM_USE_SKINNY_GEMM|"
     "VLLM_ROCM_FP8_PADDING|VLLM_ROCM_MOE_PADDING|"
     "VLLM_ROCM_SHUFFLE_KV_CACHE_LAYOUT|VLLM_ROCM_QUICK_REDUCE_QUANTIZATION|"
     "VLLM_ROCM_QUICK_REDUCE_CAST_BF16_TO_FP16|"
     "VLLM_ROCM_QUICK_REDUCE_MAX_SIZE_BYTES_MB|"
     "VLLM_ROCM_QUICK_REDUCE_MIN_SIZE_BYTES_MB|"
     "VLLM_ROCM_QUICK_REDUCE_QUANTIZATION_MIN_SIZE_KB|"
     "VLLM_ROCM_FP8_MFMA_PAGE_ATTN",
     NULL, CLI_AS_IT_IS, NULL, "there is no ROCm here"},
    {"VLLM_XPU_PP_MICROBATCH|VLLM_XLA_USE_SPMD|VLLM_TPU_USING_PATHWAYS|"
     "VLLM_XPU_FORCE_N_CONTIG_WEIGHT|VLLM_XPU_USE_SAMPLER_KERNEL|"
     "VLLM_XPU_INC_WNA16_BACKEND",
     NULL, CLI_AS_IT_IS, NULL, "there are neither TPUs nor XPUs here"},
    {"VLLM_TRITON_USE_TD|VLLM_USE_FLASHINFER_SAMPLER|"
     "VLLM_SPARSE_INDEXER_MAX_LOGITS_MB|"
     "VLLM_ADAPTIVE_VERIFICATION_PROFILE_CONTEXT_LEN|VLLM_USE_TRITON_AWQ|"
     "VLLM_DISABLED_KERNELS|VLLM_USE_HW_AGNOSTIC|"
     "VLLM_ENABLE_FLA_PACKED_RECURRENT_DECODE|VLLM_GDN_DECODE_KERNEL|"
     "VLLM_USE_OINK_OPS|VLLM_MXFP4_EMULATION_DEQUANT_AT_LOAD|"
     "VLLM_MXFP8_EMULATION_DEQUANT_AT_LOAD|VLLM_MARLIN_USE_ATOMIC_ADD|"
     "VLLM_MARLIN_INPUT_DTYPE|VLLM_HUMMING_ONLINE_QUANT_CONFIG|"
     "VLLM_HUMMING_INPUT_QUANT_CONFIG|VLLM_HUMMING_USE_F16_ACCUM|"
     "VLLM_HUMMING_MOE_GEMM_TYPE|VLLM_USE_DEEP_GEMM|VLLM_MOE_USE_DEEP_GEMM|"
     "VLLM_USE_DEEP_GEMM_E8M0|VLLM_USE_DEEP_GEMM_TMA_ALIGNED_SCALES|"
     "VLLM_USE_FUSED_MOE_GROUPED_TOPK|VLLM_MOE_SKIP_PADDING|"
     "VLLM_KIMI_K3_SHARD_SP_SHARED_EXPERT|VLLM_KIMI_K3_AUX_ATTN_RES_STREAM|"
     "VLLM_KIMI_K3_GEMM_AR|VLLM_ENABLE_GEMM_RS|"
     "VLLM_BLOCKSCALE_FP8_GEMM_FLASHINFER|VLLM_B12X_MOE_FP4_FORCE_A16|"
     "VLLM_USE_FLASHINFER_MOE_INT4|VLLM_FLASHINFER_AUTOTUNE_CACHE_DIR|"
     "VLLM_FLASHINFER_AUTOTUNE_SKIP_OPS|VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE|"
     "VLLM_FLASHINFER_MOE_A2A_LOW_PRECISION_COMBINE|"
     "VLLM_MAX_TOKENS_PER_EXPERT_FP4_MOE|VLLM_HAS_FLASHINFER_CUBIN|"
     "VLLM_DISABLE_SHARED_EXPERTS_STREAM|"
     "VLLM_DISABLE_DSV4_MEGAMOE_SHARED_EXPERT_FUSION|"
     "VLLM_SHARED_EXPERTS_STREAM_TOKEN_THRESHOLD|"
     "VLLM_MULTI_STREAM_GEMM_TOKEN_THRESHOLD|VLLM_ENABLE_HPC_OPS",
     NULL, CLI_AS_IT_IS, NULL, "there is one set of kernels for a device"},
};
const size_t cli_n_vllm_variables =
    sizeof cli_vllm_variables / sizeof *cli_vllm_variables;

const cli_vllm_variable *cli_vllm_variable_find(const char *name) {
    for (size_t i = 0; i < cli_n_vllm_variables; i++)
        if (cli_is_among(name, cli_vllm_variables[i].names, strncmp))
            return &cli_vllm_variables[i];
    return NULL;
}

bool cli_vllm_variable_is_fine(const cli_vllm_variable *variable, const char *value) {
    if (!*value) return true;
    return variable->fine && (!strcmp(variable->fine, ANY) ||
                              cli_is_among(value, variable->fine, strncasecmp));
}

/* False where the text is no number. */
static bool read_number(const char *text, double *out_number) {
    char *end;
    *out_number = strtod(text, &end);
    return end != text && !*end && isfinite(*out_number);
}

bool cli_vllm_variable_text(const cli_vllm_variable *variable, const char *value,
                            char *out, size_t size) {
    double number = 0;
    bool is_number = read_number(value, &number);
    const char *unit = "", *before = "";
    if (!*value || strlen(value) + 8 > size) return false;
    /* What is no number is the option's to refuse. */
    if (variable->form == CLI_AS_INTERVAL && is_number && number <= 0) return false;
    if (variable->form == CLI_AS_FLAG && is_number) value = number != 0 ? "1" : "0";
    if (variable->form == CLI_AS_GIB) unit = "GiB";
    if (variable->form == CLI_AS_GPUS) before = "GPU=";
    snprintf(out, size, "%s%s%s", before, value, unit);
    return true;
}

/* VLLM_SERVICE_HOST=10.0.0.7, VLLM_PORT=tcp://10.0.0.7:80, VLLM_PORT_80_TCP_ADDR=... */
bool cli_vllm_variable_is_service_link(const char *name, const char *value) {
    const char *port = strstr(name, "_PORT_");
    return !strncmp(value, "tcp://", 6) || strstr(name, "_SERVICE_HOST") ||
           strstr(name, "_SERVICE_PORT") || (port && strstr(port, "_TCP"));
}
