/* SPDX-License-Identifier: Apache-2.0 */
#include "cohort/engine.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/log.h"
#include "cohort/clock.h"
#include "engine/engine_internal.h"
#include "engine/engine_options.h"
#include "model/json.h"
#include "model/shard.h"
#include "worker/runner.h"
#include "worker/runner_options.h"
#include "worker/worker.h"

/* Design notes.
 *
 * What can be refused is refused before a process is started: config, shards of every
 * rank and tokenizer are read here first, in a few milliseconds. */

#define TOKENIZER_CONFIG "tokenizer_config.json"

enum { DEFAULT_BLOCK_SIZE = 16, DEFAULT_NUM_SEQS = 256, DEFAULT_BATCHED_TOKENS = 2048 };

cohort_engine_options cohort_engine_defaults(void) {
    cohort_engine_options options = {.executor = cohort_executor_defaults()};
    cohort_options_set_defaults(&cohort_engine_option_table, &options);
    return options;
}

const char *cohort_finish_reason_name(cohort_finish_reason reason) {
    switch (reason) {
    case COHORT_FINISH_NONE: return NULL;
    case COHORT_FINISH_STOP: return "stop";
    case COHORT_FINISH_LENGTH: return "length";
    case COHORT_FINISH_ABORT: return "abort";
    case COHORT_FINISH_ERROR:
    case COHORT_FINISH_CORRUPTED:
    case COHORT_FINISH_KILLER: return "error";
    }
    return NULL;
}

/* ---- options ----------------------------------------------------------------------- */

static cohort_status resolve_options(cohort_engine *engine) {
    cohort_engine_options *options = &engine->options;
    if (!options->block_size) options->block_size = DEFAULT_BLOCK_SIZE;
    if (!options->max_num_batched_tokens)
        options->max_num_batched_tokens = DEFAULT_BATCHED_TOKENS;
    if (!options->max_num_seqs)
        options->max_num_seqs = options->max_num_batched_tokens < DEFAULT_NUM_SEQS
                                    ? options->max_num_batched_tokens
                                    : DEFAULT_NUM_SEQS;
    if (options->max_num_seqs > options->max_num_batched_tokens)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "max_num_batched_tokens %d must be greater than or equal to "
                           "max_num_seqs %d",
                           options->max_num_batched_tokens, options->max_num_seqs);
    return cohort_options_check(&cohort_engine_option_table, options, COHORT_E_INVALID);
}

static cohort_status check_layout(const cohort_engine *engine) {
    const cohort_engine_options *options = &engine->options;
    int32_t tp = options->executor.tp, pp = options->executor.pp;
    cohort_shard shard;
    for (int32_t rank = 0; rank < tp * pp && rank < COHORT_MAX_WORLD_SIZE; rank++)
        COHORT_TRY(cohort_shard_plan(&engine->config, rank % tp, tp, rank / tp, pp,
                                     options->layer_partition, &shard));
    int32_t longest = cohort_model_config_max_len(&engine->config);
    if (options->max_model_len > longest)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "max_model_len %d is more than the model's %d positions; use "
                           "at most that",
                           options->max_model_len, longest);
    return COHORT_OK;
}

/* -1: tokenizer_config.json names no token of the vocabulary. */
static cohort_status read_tokenizer_eos(const char *dir,
                                        const cohort_tokenizer *tokenizer,
                                        int32_t *out_eos) {
    enum { LIMIT_BYTES = 64 << 20 };
    char *text = NULL;
    size_t size = 0;
    cJSON *json = NULL;
    *out_eos = -1;
    COHORT_TRY(cohort_json_read(dir, TOKENIZER_CONFIG, LIMIT_BYTES, &text, &size));
    cohort_status status =
        text ? cohort_json_parse(text, size, TOKENIZER_CONFIG, &json) : COHORT_OK;
    free(text);
    const cJSON *token = cJSON_GetObjectItemCaseSensitive(json, "eos_token");
    if (cJSON_IsObject(token)) token = cJSON_GetObjectItemCaseSensitive(token, "content");
    if (cJSON_IsString(token))
        *out_eos = cohort_tokenizer_find(tokenizer, token->valuestring);
    cJSON_Delete(json);
    return status;
}

/* To vLLM the eos is the tokenizer's: it ends a sequence whatever the model's configs
 * say, and without a stop_reason, which those of the configs have (its
 * update_from_generation_config).  Where the tokenizer names none, its class has one that
 * we do not know: the configs' first is the likeliest. */
static cohort_status open_tokenizer(cohort_engine *engine) {
    const cohort_engine_options *options = &engine->options;
    const char *dir = options->tokenizer ? options->tokenizer : options->model;
    cohort_model_config *config = &engine->config;
    COHORT_TRY(cohort_tokenizer_open(dir, &engine->tokenizer));
    COHORT_TRY_WHILE(read_tokenizer_eos(dir, engine->tokenizer, &engine->eos_token_id),
                     "reading %s", dir);
    if (engine->eos_token_id >= config->vocab_size) engine->eos_token_id = -1;
    if (engine->eos_token_id >= 0)
        return cohort_model_config_add_eos(config, TOKENIZER_CONFIG,
                                           engine->eos_token_id);
    if (config->n_eos) engine->eos_token_id = config->eos_token_ids[0];
    return COHORT_OK;
}

static cohort_status open_files(cohort_engine *engine) {
    const cohort_engine_options *options = &engine->options;
    if (!options->model) return COHORT_FAIL(COHORT_E_INVALID, "no model is named");
    COHORT_TRY(
        cohort_model_config_read(options->model, &engine->config, &engine->defaults));
    COHORT_TRY(cohort_model_defaults_choose(options->generation_config,
                                            options->override_generation_config,
                                            &engine->config, &engine->defaults));
    COHORT_TRY(check_layout(engine));
    engine->eos_token_id = -1;
    return options->skip_tokenizer_init ? COHORT_OK : open_tokenizer(engine);
}

/* ---- the executor ------------------------------------------------------------------ */

/* What is needed, where that is more than was asked for; up to the 2 GiB that a message
 * may have, which the logprobs of a million tokens at once would take. */
static size_t enlarge(size_t asked_bytes, size_t needed_bytes) {
    if (asked_bytes >= needed_bytes) return asked_bytes;
    return needed_bytes < UINT32_MAX / 2 ? needed_bytes : UINT32_MAX / 2;
}

/* A step must hold what any schedule can have, and one request at its longest beside; a
 * reply the logprobs of every token.  Many new requests at once are the scheduler's. */
static void size_messages(cohort_engine *engine) {
    cohort_engine_options *options = &engine->options;
    cohort_executor_options *executor = &options->executor;
    int32_t max_len = options->max_model_len
                          ? options->max_model_len
                          : cohort_model_config_max_len(&engine->config);
    uint32_t n_words = ((uint32_t)engine->config.vocab_size + 31) / 32;
    uint32_t n_seqs = (uint32_t)options->max_num_seqs;
    uint32_t n_tokens = (uint32_t)options->max_num_batched_tokens;
    const cohort_step_request longest = {
        .n_tokens = (uint32_t)max_len,
        .sampling = {.n_bias = COHORT_MAX_LOGIT_BIAS,
                     .n_stop_tokens = COHORT_MAX_STOP_TOKENS,
                     .n_bad_word_ids = COHORT_MAX_BAD_WORD_IDS,
                     .n_logprob_token_ids = COHORT_MAX_LOGPROBS},
        .allowed = {.n_words = n_words}};
    size_t blocks_bytes =
        ((size_t)max_len / (size_t)options->block_size + 2) * sizeof(int32_t);
    size_t request_bytes = cohort_step_request_bytes(&longest) + blocks_bytes;
    size_t entries_bytes =
        cohort_step_entries_bytes(n_seqs, n_tokens / (uint32_t)options->block_size + 1);
    size_t reply_bytes =
        cohort_step_results_bytes(n_seqs, n_tokens + n_seqs, COHORT_MAX_LOGPROBS);
    executor->max_step_bytes =
        enlarge(executor->max_step_bytes, entries_bytes + request_bytes);
    executor->max_step_bytes =
        enlarge(executor->max_step_bytes, cohort_step_masks_bytes(n_seqs, n_words));
    executor->max_reply_bytes = enlarge(executor->max_reply_bytes, reply_bytes);
    engine->max_new_bytes = (int64_t)(executor->max_step_bytes - entries_bytes);
}

static cohort_status start_executor(cohort_engine *engine) {
    const cohort_engine_options *options = &engine->options;
    int64_t timeout_ns = options->executor.execute_timeout_ns;
    cohort_runner_options told = {0};
    cohort_options_copy(&cohort_runner_option_table, &told, &cohort_engine_option_table,
                        options);
    told.keep_tokens = engine->ranks_keep_tokens;
    told.execute_timeout_ns = timeout_ns > 0 ? timeout_ns : 0;
    cohort_executor_options executor = options->executor;
    executor.config = cohort_options_to_pairs(&cohort_runner_option_table, &told);
    if (!executor.config) return COHORT_FAIL(COHORT_E_NOMEM, "configuring workers");
    if (!executor.worker_ops) executor.worker_ops = cohort_worker_model_ops();
    cohort_status status = cohort_executor_start(&executor, &engine->executor);
    free((void *)(uintptr_t)executor.config);
    return status;
}

/* ---- the KV cache ------------------------------------------------------------------ */

static cohort_status call(cohort_engine *engine, const char *method, const void *payload,
                          size_t size_bytes, cohort_future **out_future) {
    const cohort_rpc rpc = {.method = method,
                            .payload = payload,
                            .size_bytes = size_bytes,
                            .reply_rank = COHORT_ALL_RANKS,
                            .is_setup = !out_future};
    int64_t timeout_ns = engine->options.executor.load_timeout_ns;
    int64_t deadline_ns = timeout_ns > 0 ? cohort_clock_ns() + timeout_ns : COHORT_NEVER;
    return cohort_collective_rpc(engine->executor, &rpc, deadline_ns, out_future);
}

/* Blocks that the rank with the least room has; sums up what the ranks say. */
static cohort_status gather_memory(cohort_engine *engine, int64_t *out_blocks) {
    cohort_future *future = NULL;
    cohort_status status = call(engine, COHORT_RUNNER_DETERMINE_MEMORY, NULL, 0, &future);
    *out_blocks = INT64_MAX;
    for (int32_t i = 0; status >= 0 && i < cohort_future_reply_count(future); i++) {
        int32_t rank;
        const void *bytes;
        size_t size_bytes;
        cohort_runner_memory memory;
        cohort_future_reply(future, i, &rank, &bytes, &size_bytes);
        if (size_bytes != sizeof memory) {
            status =
                COHORT_FAIL(COHORT_E_PROTOCOL, "rank %d reports its memory in %zu bytes",
                            rank, size_bytes);
            break;
        }
        memcpy(&memory, bytes, sizeof memory);
        const uint64_t most = UINT64_C(1) << 48; /* so that sums of ranks fit, too */
        if (memory.block_bytes == 0 || memory.block_bytes > most ||
            memory.weight_bytes > most || memory.max_model_len < 1) {
            status = COHORT_FAIL(
                COHORT_E_PROTOCOL,
                "rank %d reports KV blocks of %llu bytes, weights of %llu "
                "and max_model_len %d",
                rank, (unsigned long long)memory.block_bytes,
                (unsigned long long)memory.weight_bytes, memory.max_model_len);
            break;
        }
        int64_t blocks = (int64_t)(memory.available_bytes / memory.block_bytes);
        if (blocks < *out_blocks) *out_blocks = blocks;
        engine->info.kv_block_bytes += (int64_t)memory.block_bytes;
        engine->info.weight_bytes += (int64_t)memory.weight_bytes;
        engine->info.max_model_len = memory.max_model_len;
        if (i) continue;
        memory.isa[sizeof memory.isa - 1] = '\0';
        memory.device[sizeof memory.device - 1] = '\0';
        snprintf(engine->isa, sizeof engine->isa, "%s", memory.isa);
        snprintf(engine->device, sizeof engine->device, "%s", memory.device);
    }
    cohort_future_destroy(future);
    return status;
}

/* As many blocks as fit, and no more than all sequences can use at their longest. */
static cohort_status choose_blocks(cohort_engine *engine, int64_t fitting) {
    const cohort_engine_options *options = &engine->options;
    cohort_engine_info *info = &engine->info;
    int64_t block_size = options->block_size;
    int64_t per_sequence = (info->max_model_len + block_size - 1) / block_size;
    int64_t useful = per_sequence * options->max_num_seqs;
    info->num_blocks = fitting < useful ? fitting : useful;
    if (options->num_blocks) info->num_blocks = options->num_blocks;
    if (info->num_blocks > INT32_MAX) info->num_blocks = INT32_MAX;
    if (info->num_blocks >= per_sequence) return COHORT_OK;
    if (options->max_model_len || info->num_blocks < 1)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "to serve one request of max_model_len %d, the KV cache needs "
                           "%lld blocks and has room for %lld; raise "
                           "kv_cache_memory_bytes, or lower max_model_len to %lld (auto: "
                           "what fits)",
                           info->max_model_len, (long long)per_sequence,
                           (long long)info->num_blocks,
                           (long long)(info->num_blocks * block_size));
    /* Nobody asked for the model's whole length: what fits is the length. */
    int32_t asked = info->max_model_len;
    info->max_model_len = (int32_t)(info->num_blocks * block_size);
    cohort_log(COHORT_LOG_WARNING, "engine", COHORT_RANK_LOCAL,
               "event=max_model_len_reduced from=%d max_model_len=%d num_blocks=%lld",
               asked, info->max_model_len, (long long)info->num_blocks);
    return COHORT_OK;
}

static cohort_status create_cache(cohort_engine *engine) {
    int64_t fitting;
    COHORT_TRY(gather_memory(engine, &fitting));
    COHORT_TRY(choose_blocks(engine, fitting));
    const cohort_runner_cache cache = {.n_blocks = (uint64_t)engine->info.num_blocks};
    COHORT_TRY(call(engine, COHORT_RUNNER_INITIALIZE, &cache, sizeof cache, NULL));
    cohort_log(COHORT_LOG_INFO, "engine", COHORT_RANK_LOCAL,
               "event=kv_cache_ready blocks=%lld block_size=%d tokens=%lld",
               (long long)engine->info.num_blocks, engine->info.block_size,
               (long long)engine->info.num_blocks * engine->info.block_size);
    return COHORT_OK;
}

static cohort_status create_scheduler(cohort_engine *engine) {
    const cohort_engine_options *options = &engine->options;
    engine->max_in_flight = cohort_executor_max_in_flight(engine->executor);
    if (engine->max_in_flight > COHORT_MAX_IN_FLIGHT)
        engine->max_in_flight = COHORT_MAX_IN_FLIGHT;
    const cohort_scheduler_limits limits = {
        .max_num_seqs = options->max_num_seqs,
        .max_num_batched_tokens = options->max_num_batched_tokens,
        .max_model_len = engine->info.max_model_len,
        .block_size = options->block_size,
        .n_blocks = (int32_t)engine->info.num_blocks,
        .pp_size = options->executor.pp,
        .max_in_flight = engine->max_in_flight,
        .ranks_keep_tokens = engine->ranks_keep_tokens,
        .max_new_bytes = engine->max_new_bytes};
    size_t n = (size_t)options->max_num_seqs;
    engine->requests = calloc(n, sizeof *engine->requests);
    engine->entries = calloc(n, sizeof *engine->entries);
    engine->masked = calloc(n, sizeof *engine->masked);
    engine->completions = calloc(n, sizeof *engine->completions);
    if (!engine->requests || !engine->entries || !engine->masked || !engine->completions)
        return COHORT_FAIL(COHORT_E_NOMEM, "an engine of %zu sequences", n);
    engine->completions_capacity = n;
    return cohort_scheduler_create(&limits, &engine->scheduler);
}

/* ---- life -------------------------------------------------------------------------- */

/* -1 and 0 of a config: no limit. */
static int32_t limit_of(int32_t value) { return value > 0 ? value : 0; }

static cohort_status start(cohort_engine *engine) {
    int64_t begin_ns = cohort_clock_ns();
    COHORT_TRY(resolve_options(engine));
    COHORT_TRY(open_files(engine));
    if (sodium_init() < 0) return COHORT_FAIL(COHORT_E_IO, "no source of random numbers");
    randombytes_buf(engine->block_secret, sizeof engine->block_secret);
    /* With stages the ranks that need a token are not those that sample it. */
    engine->ranks_keep_tokens =
        engine->options.executor.async_scheduling && engine->options.executor.pp == 1;
    size_messages(engine);
    int64_t opened_ns = cohort_clock_ns();
    COHORT_TRY(start_executor(engine));
    int64_t loaded_ns = cohort_clock_ns();
    cohort_engine_info *info = &engine->info;
    *info = (cohort_engine_info){
        .max_num_seqs = engine->options.max_num_seqs,
        .max_num_batched_tokens = engine->options.max_num_batched_tokens,
        .block_size = engine->options.block_size,
        .num_blocks_override = engine->options.num_blocks,
        .prefix_caching = engine->options.enable_prefix_caching,
        .priority_scheduling = engine->options.priority_scheduling,
        .vocab_size = engine->config.vocab_size,
        .eos_token_id = engine->eos_token_id,
        .default_max_tokens = limit_of(engine->defaults.max_new_tokens),
        .most_max_tokens = limit_of(engine->defaults.most_new_tokens),
        .architecture = cohort_model_config_architecture(&engine->config),
        .isa = engine->isa,
        .device = engine->device,
        .open_ns = opened_ns - begin_ns,
        .executor_ns = loaded_ns - opened_ns};
    COHORT_TRY_WHILE(create_cache(engine), "creating the KV cache");
    info->kv_cache_ns = cohort_clock_ns() - loaded_ns;
    return create_scheduler(engine);
}

cohort_status cohort_engine_start(const cohort_engine_options *options,
                                  cohort_engine **out_engine) {
    *out_engine = NULL;
    cohort_engine *engine = calloc(1, sizeof *engine);
    if (!engine) return COHORT_FAIL(COHORT_E_NOMEM, "an engine");
    engine->options = *options;
    cohort_status status = cohort_engine_grammars_create(engine);
    if (status >= 0) status = start(engine);
    if (status < 0) {
        cohort_error error = *cohort_last_error();
        cohort_engine_destroy(engine);
        return cohort_fail_adopt(&error);
    }
    /* The caller's texts may go away. */
    engine->options.model = engine->options.dtype = engine->options.load_format = NULL;
    engine->options.layer_partition = engine->options.cpu_threads_bind = NULL;
    engine->options.quantization = engine->options.device = engine->options.isa = NULL;
    engine->options.cuda_graph_sizes[0] = NULL;
    engine->options.tokenizer = engine->options.generation_config = NULL;
    engine->options.override_generation_config = NULL;
    engine->options.executor = (cohort_executor_options){0};
    *out_engine = engine;
    return COHORT_OK;
}

static void free_sequences(engine_sequence *sequence) {
    while (sequence) {
        engine_sequence *next = sequence->next;
        cohort_engine_sequence_free(sequence);
        sequence = next;
    }
}

void cohort_engine_destroy(cohort_engine *engine) {
    if (!engine) return;
    if (engine->executor) cohort_executor_shutdown(engine->executor);
    cohort_future_destroy(engine->reported);
    for (int32_t i = 0; i < engine->n_futures; i++)
        cohort_future_destroy(
            engine->futures[(engine->first_future + i) % COHORT_MAX_IN_FLIGHT]);
    cohort_executor_destroy(engine->executor);
    cohort_scheduler_destroy(engine->scheduler);
    free_sequences(engine->first);
    free_sequences(engine->ended);
    free(engine->by_id.heads);
    cohort_engine_grammars_destroy(engine);
    cohort_tokenizer_close(engine->tokenizer);
    cohort_step_output_view_deinit(&engine->view);
    free(engine->requests);
    free(engine->entries);
    free(engine->masked);
    free(engine->completions);
    free(engine->message);
    free(engine);
}

void cohort_engine_describe(const cohort_engine *engine, cohort_engine_info *out_info) {
    *out_info = engine->info;
}

cohort_executor *cohort_engine_executor(cohort_engine *engine) {
    return engine->executor;
}

/* ---- text -------------------------------------------------------------------------- */

static cohort_status need_tokenizer(const cohort_engine *engine) {
    if (engine->tokenizer) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INVALID,
                       "there is no tokenizer; start without skip_tokenizer_init or use "
                       "token ids");
}

cohort_status cohort_engine_tokenize(const cohort_engine *engine, const char *text,
                                     size_t text_bytes, bool special, int32_t **out_ids,
                                     size_t *out_count) {
    COHORT_TRY(need_tokenizer(engine));
    return cohort_tokenizer_encode(engine->tokenizer, text, text_bytes, special, out_ids,
                                   out_count);
}

cohort_status cohort_engine_detokenize(const cohort_engine *engine, const int32_t *ids,
                                       size_t count, bool skip_special, char **out_text,
                                       size_t *out_text_bytes) {
    COHORT_TRY(need_tokenizer(engine));
    return cohort_tokenizer_decode(engine->tokenizer, ids, count, skip_special, out_text,
                                   out_text_bytes);
}

cohort_status cohort_engine_token_string(const cohort_engine *engine, int32_t token_id,
                                         char **out_text, size_t *out_text_bytes) {
    COHORT_TRY(need_tokenizer(engine));
    return cohort_tokenizer_spell(engine->tokenizer, token_id, out_text, out_text_bytes);
}
