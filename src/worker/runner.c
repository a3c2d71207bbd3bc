/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/runner.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/log.h"
#include "cohort/clock.h"
#include "model/model.h"
#include "model/profile.h"
#include "wire/step.h"
#include "worker/memory.h"
#include "worker/runner_options.h"
#include "worker/threads.h"
#include "worker/worker.h"

/* Design notes.
 *
 * Every rank keeps, per slot, the token history and the block table that the steps tell
 * of.  With them it says, before the step is computed, what is wanted of each row of
 * logits; the backend draws on the output rank, where the results come out.
 *
 * A step is checked before it touches anything that a wrong one could break: it comes
 * from a driver of the same build, so what is wrong with it is a bug, and the rank fails
 * (COHORT_E_PROTOCOL) rather than compute with half of it.
 *
 * Masks come while a step is computed: who draws waits for them before it does, the
 * others when they are through, since all read the same queue.  What lies in the step's
 * message is gone by then.
 *
 * Nothing is allocated in a step, except that a slot's history and the results grow until
 * they are as long as they get. */

struct slot {
    bool is_used;
    uint64_t request_id;
    int32_t n_prompt_tokens, n_tokens, n_blocks;
    int32_t *tokens;
    int32_t capacity_tokens;
    cohort_sampling_params sampling; /* points to the arrays below */
    cohort_token_bias bias[COHORT_MAX_LOGIT_BIAS];
    int32_t stop_tokens[COHORT_MAX_STOP_TOKENS];
    int32_t bad_word_ids[COHORT_MAX_BAD_WORD_IDS];
    int32_t logprob_token_ids[COHORT_MAX_LOGPROBS];
    uint32_t *allowed; /* a bit for each token of the vocabulary; NULL: not needed yet */
    uint32_t n_allowed_words; /* 0: any may come */
};

struct runner {
    const cohort_worker_info *info;
    cohort_model *model;
    const char *device;            /* its backend's name */
    bool is_output;                /* results are made here */
    cohort_runner_options options; /* point into info's configuration */
    int32_t max_model_len, vocab_size;
    int32_t blocks_per_slot;

    struct slot *slots;
    int32_t *block_tables; /* max_num_seqs * blocks_per_slot */

    /* The step under way. */
    cohort_step_view view;
    cohort_step_masks_view masks_view;
    bool awaits_masks;
    int64_t deadline_ns;
    int32_t *token_ids; /* max_num_batched_tokens */
    cohort_sequence *sequences;
    int32_t *n_logit_rows;
    cohort_step_result *results;
    cohort_sample_row *samples; /* max_num_batched_tokens: one a row of logits */
    cohort_sample_row **drawn;  /* by entry: the one that its token is drawn from */
    int32_t *sampled;           /* by entry; -1: nothing was */
    cohort_position_logprobs *positions;
    cohort_token_logprob *logprobs;
    size_t n_positions, positions_capacity, n_logprobs, logprobs_capacity;
};

/* ---- opening ----------------------------------------------------------------------- */

static cohort_status open_model(struct runner *runner, const cohort_worker_info *info) {
    const cohort_runner_options *told = &runner->options;
    const char *format = told->load_format;
    bool is_dummy = !strcmp(format, "dummy");
    if (*format && !is_dummy && strcmp(format, "auto") != 0 &&
        strcmp(format, "safetensors") != 0)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "load_format %.40s is not supported (auto, safetensors and "
                           "dummy are)",
                           format);
    cohort_cpu_list cpus;
    const cohort_backend_ops *backend;
    COHORT_TRY(cohort_backend_find(told->device, &backend));
    runner->device = backend->name;
    COHORT_TRY(cohort_threads_of_rank(info, told->cpu_threads_bind, &cpus));
    const cohort_cpu_options cpu = {
        .cpus = cpus.cpus, .n_threads = cpus.n, .isa = told->isa};
    const char *sharing = getenv("COHORT_DEVICE_SHARED_BY");
    const cohort_cuda_options cuda = {.ordinal = info->local_rank,
                                      .n_ranks = info->local_world_size,
                                      .id = getenv("COHORT_DEVICE_ID"),
                                      .n_sharing = sharing ? atoi(sharing) : 1,
                                      .enforce_eager = told->enforce_eager,
                                      .graph_sizes = told->cuda_graph_sizes};
    cohort_model_options options = {
        .model_dir = told->model,
        .dummy_weights = is_dummy,
        .dtype = told->dtype,
        .quantization = told->quantization,
        .seed = told->seed,
        .max_model_len = told->max_model_len,
        .max_num_batched_tokens = told->max_num_batched_tokens,
        .max_num_seqs = told->max_num_seqs,
        .block_size = told->block_size,
        .tp_rank = info->tp_rank,
        .tp_size = info->tp,
        .pp_rank = info->pp_rank,
        .pp_size = info->pp,
        .layer_partition = told->layer_partition,
        .tp_group = info->tp_group,
        .pp_group = info->pp_group,
        .share_tokens = told->keep_tokens,
        .keeper = info->keeper,
        .forgets_kv = !info->keeps_kv,
        .backend = backend,
        .device = strcmp(backend->name, "cuda") == 0 ? (const void *)&cuda : &cpu,
    };
    if (!options.model_dir)
        return COHORT_FAIL(COHORT_E_INVALID, "no model in the worker's configuration");
    COHORT_TRY(cohort_model_open(&options, &runner->model));
    runner->max_model_len = cohort_model_max_len(runner->model);
    runner->vocab_size = cohort_model_config_of(runner->model)->vocab_size;
    runner->is_output = cohort_model_is_output_rank(runner->model);
    if (backend == cohort_backend_cpu())
        cohort_worker_choose(info->worker, "isa", cohort_model_device(runner->model));
    cohort_log(COHORT_LOG_INFO, "worker", info->rank,
               "event=model_opened device=%s threads=%d isa=%s", backend->name, cpus.n,
               cohort_model_device(runner->model));
    return COHORT_OK;
}

static cohort_status allocate(struct runner *runner) {
    size_t slots = (size_t)runner->options.max_num_seqs;
    runner->blocks_per_slot = (runner->max_model_len + runner->options.block_size - 1) /
                              runner->options.block_size;
    runner->slots = calloc(slots, sizeof *runner->slots);
    runner->block_tables =
        calloc(slots * (size_t)runner->blocks_per_slot, sizeof *runner->block_tables);
    runner->token_ids =
        calloc((size_t)runner->options.max_num_batched_tokens, sizeof *runner->token_ids);
    runner->sequences = calloc(slots, sizeof *runner->sequences);
    runner->n_logit_rows = calloc(slots, sizeof *runner->n_logit_rows);
    runner->results = calloc(slots, sizeof *runner->results);
    runner->sampled = calloc(slots, sizeof *runner->sampled);
    runner->drawn = calloc(slots, sizeof *runner->drawn);
    runner->samples =
        calloc((size_t)runner->options.max_num_batched_tokens, sizeof *runner->samples);
    if (!runner->slots || !runner->block_tables || !runner->token_ids ||
        !runner->sequences || !runner->n_logit_rows || !runner->results ||
        !runner->sampled || !runner->drawn || !runner->samples)
        return COHORT_FAIL(COHORT_E_NOMEM, "state of %zu sequences", slots);
    return COHORT_OK;
}

static cohort_status runner_open(const cohort_worker_info *info, void **out_context) {
    struct runner *runner = calloc(1, sizeof *runner);
    *out_context = runner; /* close takes it from any point on */
    if (!runner) return COHORT_FAIL(COHORT_E_NOMEM, "a model runner");
    runner->info = info;
    COHORT_TRY(cohort_options_from_pairs(
        &cohort_runner_option_table, &runner->options, info->config,
        cohort_worker_config(info, COHORT_EXTENSION_KEY) != NULL)); /* may be its own */
    if (runner->options.keep_tokens && info->pp > 1)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "tokens are kept with one stage, not with %d", info->pp);
    COHORT_TRY(open_model(runner, info));
    return allocate(runner);
}

/* The model and its cache stay; who is in which slot is told anew. */
static cohort_status runner_rejoin(void *context) {
    struct runner *runner = context;
    for (int32_t i = 0; i < runner->options.max_num_seqs; i++)
        runner->slots[i].is_used = false;
    runner->awaits_masks = false;
    cohort_model_regroup(runner->model, runner->info->tp_group, runner->info->pp_group);
    return COHORT_OK;
}

static void runner_close(void *context) {
    struct runner *runner = context;
    if (!runner) return;
    for (int32_t i = 0; runner->slots && i < runner->options.max_num_seqs; i++) {
        free(runner->slots[i].tokens);
        free(runner->slots[i].allowed);
    }
    free(runner->slots);
    free(runner->block_tables);
    free(runner->token_ids);
    free(runner->sequences);
    free(runner->n_logit_rows);
    free(runner->results);
    free(runner->sampled);
    free(runner->drawn);
    free(runner->samples);
    free(runner->positions);
    free(runner->logprobs);
    cohort_step_view_deinit(&runner->view);
    cohort_step_masks_view_deinit(&runner->masks_view);
    cohort_model_close(runner->model);
    free(runner);
}

/* Each call is a sign of life besides. */
static cohort_status loading(void *user_data, int32_t shard, int32_t n_shards,
                             size_t done_bytes, size_t total_bytes) {
    struct runner *runner = user_data;
    (void)shard;
    (void)n_shards;
    cohort_worker_progress(runner->info->worker, done_bytes, total_bytes);
    return cohort_worker_check(runner->info->worker);
}

static cohort_status runner_load(void *context) {
    struct runner *runner = context;
    COHORT_TRY(cohort_model_load(runner->model, loading, runner));
    cohort_log(COHORT_LOG_INFO, "worker", runner->info->rank,
               "event=model_loaded weight_bytes=%zu",
               cohort_model_weight_bytes(runner->model));
    return COHORT_OK;
}

static cohort_status runner_keep(void *context) {
    return cohort_model_memory_move(((struct runner *)context)->model);
}

/* ---- the KV cache ------------------------------------------------------------------ */

/* Nine tenths of what a device of its own has left; else half of what is free, shared
 * among the ranks of the host, and never more than vLLM's CPU backend takes by default.
 */
static uint64_t cache_bytes(const struct runner *runner) {
    const uint64_t most = UINT64_C(4) << 30;
    if (runner->options.kv_cache_memory_bytes)
        return (uint64_t)runner->options.kv_cache_memory_bytes;
    uint64_t of_device = cohort_model_device_free_bytes(runner->model);
    if (of_device) return of_device / 10 * 9;
    uint64_t share =
        cohort_worker_available_bytes() / 2 / (uint64_t)runner->info->local_world_size;
    return share < most ? share : most;
}

static cohort_status determine_available_memory(void *context, const void *payload,
                                                size_t size_bytes,
                                                cohort_worker_reply *reply) {
    struct runner *runner = context;
    (void)payload;
    (void)size_bytes;
    cohort_runner_memory memory = {
        .available_bytes = cache_bytes(runner),
        .block_bytes = cohort_model_kv_block_bytes(runner->model),
        .weight_bytes = cohort_model_weight_bytes(runner->model),
        .max_model_len = runner->max_model_len,
        .vocab_size = runner->vocab_size,
    };
    snprintf(memory.isa, sizeof memory.isa, "%s", cohort_model_device(runner->model));
    snprintf(memory.device, sizeof memory.device, "%s", runner->device);
    if (reply->capacity_bytes < sizeof memory)
        return COHORT_FAIL(COHORT_E_INVALID, "replies of %zu bytes hold no memory report",
                           reply->capacity_bytes);
    memcpy(reply->bytes, &memory, sizeof memory);
    reply->size_bytes = sizeof memory;
    return COHORT_OK;
}

static cohort_status initialize_from_config(void *context, const void *payload,
                                            size_t size_bytes,
                                            cohort_worker_reply *reply) {
    struct runner *runner = context;
    cohort_runner_cache cache;
    (void)reply;
    if (size_bytes != sizeof cache)
        return COHORT_FAIL(COHORT_E_INVALID, "%zu bytes are no cache configuration",
                           size_bytes);
    memcpy(&cache, payload, sizeof cache);
    if (cache.n_blocks < 1 || cache.n_blocks > INT32_MAX)
        return COHORT_FAIL(COHORT_E_INVALID, "a KV cache of %llu blocks cannot be",
                           (unsigned long long)cache.n_blocks);
    return cohort_model_kv_create(runner->model, (int64_t)cache.n_blocks);
}

/* ---- taking a step in -------------------------------------------------------------- */

/* NULL, with an error, where the step is wrong about the slot. */
static struct slot *slot_of(struct runner *runner, uint32_t index, bool is_used) {
    if (index >= (uint32_t)runner->options.max_num_seqs) {
        COHORT_FAIL(COHORT_E_PROTOCOL, "slot %u of a step is none of %d", index,
                    runner->options.max_num_seqs);
        return NULL;
    }
    if (runner->slots[index].is_used == is_used) return &runner->slots[index];
    COHORT_FAIL(COHORT_E_PROTOCOL, "slot %u of a step is %s", index,
                is_used ? "not in use" : "in use already");
    return NULL;
}

static cohort_status append_tokens(const struct runner *runner, struct slot *slot,
                                   const int32_t *tokens, uint32_t n_tokens) {
    if (n_tokens > (uint32_t)(runner->max_model_len - slot->n_tokens))
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "%u tokens after %d of request %llu exceed max_model_len %d",
                           n_tokens, slot->n_tokens, (unsigned long long)slot->request_id,
                           runner->max_model_len);
    for (uint32_t i = 0; i < n_tokens; i++)
        if (tokens[i] < 0 || tokens[i] >= runner->vocab_size)
            return COHORT_FAIL(COHORT_E_PROTOCOL,
                               "token %d of request %llu is outside the vocabulary of %d",
                               tokens[i], (unsigned long long)slot->request_id,
                               runner->vocab_size);
    int32_t needed = slot->n_tokens + (int32_t)n_tokens;
    if (needed > slot->capacity_tokens) {
        int64_t grown = (int64_t)needed + needed / 2 + 64;
        if (grown > runner->max_model_len) grown = runner->max_model_len;
        int32_t *larger = realloc(slot->tokens, (size_t)grown * sizeof *larger);
        if (!larger) return COHORT_FAIL(COHORT_E_NOMEM, "a history of %d tokens", needed);
        slot->tokens = larger;
        slot->capacity_tokens = (int32_t)grown;
    }
    if (n_tokens)
        memcpy(slot->tokens + slot->n_tokens, tokens, n_tokens * sizeof *tokens);
    slot->n_tokens = needed;
    return COHORT_OK;
}

static cohort_status append_blocks(struct runner *runner, struct slot *slot,
                                   const int32_t *blocks, uint32_t n_blocks) {
    if (n_blocks > (uint32_t)(runner->blocks_per_slot - slot->n_blocks))
        return COHORT_FAIL(COHORT_E_PROTOCOL, "%u blocks after %d exceed a table of %d",
                           n_blocks, slot->n_blocks, runner->blocks_per_slot);
    int32_t *table = runner->block_tables +
                     (slot - runner->slots) * runner->blocks_per_slot + slot->n_blocks;
    if (n_blocks) memcpy(table, blocks, n_blocks * sizeof *blocks);
    slot->n_blocks += (int32_t)n_blocks;
    return COHORT_OK;
}

static cohort_status take_allowed(struct runner *runner, struct slot *slot,
                                  const cohort_token_set *allowed) {
    size_t n_words = ((size_t)runner->vocab_size + 31) / 32;
    slot->n_allowed_words = allowed->n_words;
    if (allowed->n_words == 0) return COHORT_OK;
    if (allowed->n_words > n_words)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "%u words of allowed tokens, for %zu",
                           allowed->n_words, n_words);
    if (!slot->allowed) slot->allowed = malloc(n_words * sizeof *slot->allowed);
    if (!slot->allowed) return COHORT_FAIL(COHORT_E_NOMEM, "allowed tokens");
    memcpy(slot->allowed, allowed->words, allowed->n_words * sizeof *slot->allowed);
    return COHORT_OK;
}

static cohort_status take_request(struct runner *runner,
                                  const cohort_step_request *request) {
    struct slot *slot = slot_of(runner, request->slot, false);
    if (!slot) return COHORT_E_PROTOCOL;
    slot->is_used = true;
    slot->request_id = request->request_id;
    slot->n_prompt_tokens = (int32_t)request->n_prompt_tokens;
    slot->n_tokens = slot->n_blocks = 0;
    slot->sampling = request->sampling;
    /* The decoder holds the counts within the arrays. */
    if (slot->sampling.n_bias)
        memcpy(slot->bias, request->sampling.bias,
               slot->sampling.n_bias * sizeof *slot->bias);
    if (slot->sampling.n_stop_tokens)
        memcpy(slot->stop_tokens, request->sampling.stop_tokens,
               slot->sampling.n_stop_tokens * sizeof *slot->stop_tokens);
    if (slot->sampling.n_bad_word_ids)
        memcpy(slot->bad_word_ids, request->sampling.bad_word_ids,
               slot->sampling.n_bad_word_ids * sizeof *slot->bad_word_ids);
    if (slot->sampling.n_logprob_token_ids)
        memcpy(slot->logprob_token_ids, request->sampling.logprob_token_ids,
               slot->sampling.n_logprob_token_ids * sizeof *slot->logprob_token_ids);
    COHORT_TRY(take_allowed(runner, slot, &request->allowed));
    slot->sampling.bias = slot->bias;
    slot->sampling.stop_tokens = slot->stop_tokens;
    slot->sampling.bad_word_ids = slot->bad_word_ids;
    slot->sampling.logprob_token_ids = slot->logprob_token_ids;
    return append_tokens(runner, slot, request->tokens, request->n_tokens);
}

/* Rows whose logits are wanted: all of a chunk with prompt tokens to come, where their
 * logprobs are; else the last if it is to be sampled from. */
static int32_t logit_rows(const struct slot *slot, const cohort_step_entry *entry) {
    if (slot->sampling.n_prompt_logprobs >= 0 &&
        (int32_t)entry->n_computed_tokens + 1 < slot->n_prompt_tokens)
        return (int32_t)entry->n_scheduled_tokens;
    return entry->flags & COHORT_ENTRY_SAMPLE ? 1 : 0;
}

static cohort_status take_entry(struct runner *runner, uint32_t index, int32_t *n_rows) {
    const cohort_step_entry *entry = &runner->view.step.entries[index];
    struct slot *slot = slot_of(runner, entry->slot, true);
    if (!slot) return COHORT_E_PROTOCOL;
    COHORT_TRY(append_tokens(runner, slot, entry->new_tokens, entry->n_new_tokens));
    COHORT_TRY(append_blocks(runner, slot, entry->new_blocks, entry->n_new_blocks));
    int64_t end = (int64_t)entry->n_computed_tokens + entry->n_scheduled_tokens;
    if (end > slot->n_tokens ||
        end > (int64_t)slot->n_blocks * runner->options.block_size ||
        (int64_t)entry->n_scheduled_tokens >
            runner->options.max_num_batched_tokens - *n_rows)
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "a step computes tokens %u to %lld of request %llu, which has "
                           "%d and %d blocks, in a batch of %d",
                           entry->n_computed_tokens, (long long)end,
                           (unsigned long long)slot->request_id, slot->n_tokens,
                           slot->n_blocks, runner->options.max_num_batched_tokens);
    memcpy(runner->token_ids + *n_rows, slot->tokens + entry->n_computed_tokens,
           entry->n_scheduled_tokens * sizeof *runner->token_ids);
    runner->sequences[index] = (cohort_sequence){
        .row_begin = *n_rows,
        .n_rows = (int32_t)entry->n_scheduled_tokens,
        .n_computed = (int32_t)entry->n_computed_tokens,
        .block_table =
            runner->block_tables + (slot - runner->slots) * runner->blocks_per_slot,
        .slot = (int32_t)entry->slot,
    };
    runner->n_logit_rows[index] = logit_rows(slot, entry);
    *n_rows += (int32_t)entry->n_scheduled_tokens;
    return COHORT_OK;
}

static cohort_status take_step(struct runner *runner, int32_t *out_n_rows) {
    const cohort_step *step = &runner->view.step;
    if (step->n_entries < 1 || step->n_entries > (uint32_t)runner->options.max_num_seqs)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a step of %u entries; 1 to %d can be",
                           step->n_entries, runner->options.max_num_seqs);
    for (uint32_t i = 0; i < step->n_finished; i++) {
        struct slot *slot = slot_of(runner, step->finished[i], true);
        if (!slot) return COHORT_E_PROTOCOL;
        slot->is_used = false;
    }
    for (uint32_t i = 0; i < step->n_requests; i++)
        COHORT_TRY(take_request(runner, &step->requests[i]));
    *out_n_rows = 0;
    runner->awaits_masks = false;
    for (uint32_t i = 0; i < step->n_entries; i++) {
        COHORT_TRY(take_entry(runner, i, out_n_rows));
        runner->awaits_masks |= step->entries[i].flags & COHORT_ENTRY_MASKED;
    }
    return COHORT_OK;
}

static void set_deadline(struct runner *runner) {
    runner->deadline_ns = runner->options.execute_timeout_ns
                              ? cohort_clock_ns() + runner->options.execute_timeout_ns
                              : COHORT_NEVER;
}

/* A stage computes for long without meeting anybody. */
static cohort_status check_wanted(void *user_data) {
    const struct runner *runner = user_data;
    return cohort_worker_check(runner->info->worker);
}

static cohort_status await_masks(void *user_data, int64_t *out_deadline_ns) {
    struct runner *runner = user_data;
    const cohort_step *step = &runner->view.step;
    const void *bytes;
    size_t size_bytes;
    if (!runner->awaits_masks) return COHORT_OK;
    runner->awaits_masks = false;
    COHORT_TRY(cohort_worker_await_masks(runner->info->worker, &bytes, &size_bytes));
    COHORT_TRY(cohort_step_masks_decode(bytes, size_bytes, &runner->masks_view));
    for (uint32_t i = 0; i < runner->masks_view.masks.n_masks; i++) {
        const cohort_step_mask *mask = &runner->masks_view.masks.masks[i];
        if (mask->entry >= step->n_entries ||
            !(step->entries[mask->entry].flags & COHORT_ENTRY_MASKED))
            return COHORT_FAIL(COHORT_E_PROTOCOL, "a mask for entry %u of %u",
                               mask->entry, step->n_entries);
        cohort_sample_row *row = runner->drawn[mask->entry];
        if (!row) continue; /* its token comes in a later step */
        row->mask = mask->words;
        row->n_mask_words = mask->n_words;
    }
    set_deadline(runner); /* the driver took its time, not the ranks */
    *out_deadline_ns = runner->deadline_ns;
    return COHORT_OK;
}

/* ---- results ----------------------------------------------------------------------- */

static cohort_status grow(void *items, size_t *capacity, size_t needed,
                          size_t item_bytes) {
    if (needed <= *capacity) return COHORT_OK;
    size_t grown = needed + needed / 2;
    void *old, *larger;
    memcpy(&old, items, sizeof old);
    larger = realloc(old, grown * item_bytes);
    if (!larger) return COHORT_FAIL(COHORT_E_NOMEM, "%zu logprobs of a step", grown);
    memcpy(items, &larger, sizeof larger);
    *capacity = grown;
    return COHORT_OK;
}

/* Room for all that the rows of this step can give: pointers into it stay. */
static cohort_status begin_results(struct runner *runner) {
    const cohort_step *step = &runner->view.step;
    size_t n_positions = 0, n_logprobs = 0;
    for (uint32_t i = 0; i < step->n_entries; i++) {
        const struct slot *slot = &runner->slots[step->entries[i].slot];
        const cohort_sampling_params *sampling = &slot->sampling;
        int32_t per_row = sampling->n_logprobs > sampling->n_prompt_logprobs
                              ? sampling->n_logprobs
                              : sampling->n_prompt_logprobs;
        runner->results[i] = (cohort_step_result){.request_id = slot->request_id,
                                                  .slot = step->entries[i].slot,
                                                  .token_id = -1};
        if (per_row < 0) continue;
        n_positions += (size_t)runner->n_logit_rows[i];
        n_logprobs += (size_t)runner->n_logit_rows[i] * ((size_t)per_row + 1);
    }
    runner->n_positions = runner->n_logprobs = 0;
    COHORT_TRY(grow(&runner->positions, &runner->positions_capacity, n_positions,
                    sizeof *runner->positions));
    return grow(&runner->logprobs, &runner->logprobs_capacity, n_logprobs,
                sizeof *runner->logprobs);
}

/* The next position of an entry's result, with room for 1 + n logprobs. */
static cohort_token_logprob *add_position(struct runner *runner,
                                          cohort_step_result *result, int32_t position,
                                          int32_t n) {
    cohort_token_logprob *entries = runner->logprobs + runner->n_logprobs;
    cohort_position_logprobs *added = &runner->positions[runner->n_positions++];
    runner->n_logprobs += (size_t)n + 1;
    if (result->n_positions++ == 0) result->positions = added;
    *added = (cohort_position_logprobs){
        .position = (uint32_t)position, .n = (uint32_t)n + 1, .entries = entries};
    return entries;
}

/* What is wanted of the logits behind a token of an entry. */
static cohort_sample_row sample_row(struct runner *runner, uint32_t index,
                                    int32_t token) {
    const cohort_step_entry *entry = &runner->view.step.entries[index];
    const struct slot *slot = &runner->slots[entry->slot];
    cohort_step_result *result = &runner->results[index];
    const cohort_sampling_params *sampling = &slot->sampling;
    int32_t next = token + 1; /* the position that these logits are about */
    cohort_sample_row row = {.slot = (int32_t)entry->slot};
    if (sampling->n_prompt_logprobs >= 0 && next < slot->n_prompt_tokens) {
        row.known = slot->tokens[next];
        row.n_logprobs = sampling->n_prompt_logprobs;
        row.out_logprobs = add_position(runner, result, next, row.n_logprobs);
        return row;
    }
    bool is_last =
        next == (int32_t)(entry->n_computed_tokens + entry->n_scheduled_tokens);
    if (!is_last || !(entry->flags & COHORT_ENTRY_SAMPLE)) return row;
    row.params = sampling;
    row.allowed = (cohort_token_set){slot->n_allowed_words, slot->allowed};
    row.tokens = slot->tokens;
    row.n_tokens = next;
    row.n_prompt_tokens = slot->n_prompt_tokens;
    row.out_token = &runner->sampled[index];
    if (sampling->n_logprobs >= 0) {
        row.n_logprobs = sampling->n_logprobs;
        row.out_logprobs = add_position(runner, result, next, row.n_logprobs);
    }
    return row;
}

static void list_samples(struct runner *runner) {
    size_t n = 0;
    for (uint32_t i = 0; i < runner->view.step.n_entries; i++) {
        const cohort_sequence *sequence = &runner->sequences[i];
        int32_t end = sequence->n_computed + sequence->n_rows;
        runner->sampled[i] = -1;
        runner->drawn[i] = NULL;
        for (int32_t token = end - runner->n_logit_rows[i]; token < end; token++) {
            runner->samples[n] = sample_row(runner, i, token);
            if (runner->samples[n].params) runner->drawn[i] = &runner->samples[n];
            n++;
        }
    }
}

static cohort_status reply_results(const struct runner *runner,
                                   cohort_worker_reply *reply) {
    const cohort_step_output output = {.n_results = runner->view.step.n_entries,
                                       .results = runner->results};
    size_t size_bytes = cohort_step_output_encoded_bytes(&output);
    if (size_bytes > reply->capacity_bytes)
        return COHORT_FAIL(COHORT_E_NOMEM,
                           "a step's output of %zu bytes is more than max_reply_bytes "
                           "%zu; ask for fewer logprobs",
                           size_bytes, reply->capacity_bytes);
    cohort_step_output_encode(&output, reply->bytes);
    reply->size_bytes = size_bytes;
    return COHORT_OK;
}

static void take_results(struct runner *runner) {
    const cohort_step *step = &runner->view.step;
    for (uint32_t i = 0; i < step->n_entries; i++)
        if (step->entries[i].flags & COHORT_ENTRY_SAMPLE)
            runner->results[i].token_id =
                runner->sampled[i] < 0 ? COHORT_TOKEN_OF_NO_NUMBERS : runner->sampled[i];
}

/* What was sampled, added to the requests of every rank. */
static cohort_status keep_tokens(struct runner *runner) {
    const cohort_step *step = &runner->view.step;
    for (uint32_t i = 0; i < step->n_entries; i++) {
        /* Of one that ends here some token is computed that nobody reads. */
        int32_t token = runner->sampled[i] < 0 ? 0 : runner->sampled[i];
        if (step->entries[i].flags & COHORT_ENTRY_SAMPLE)
            COHORT_TRY(
                append_tokens(runner, &runner->slots[step->entries[i].slot], &token, 1));
    }
    return COHORT_OK;
}

static cohort_status runner_execute(void *context, const void *payload, size_t size_bytes,
                                    cohort_worker_reply *reply) {
    struct runner *runner = context;
    int32_t n_rows = 0;
    COHORT_TRY(cohort_step_decode(payload, size_bytes, &runner->view));
    COHORT_TRY(take_step(runner, &n_rows));
    COHORT_TRY(begin_results(runner));
    list_samples(runner);
    set_deadline(runner);
    const cohort_batch batch = {
        .token_ids = runner->token_ids,
        .n_rows = n_rows,
        .sequences = runner->sequences,
        .n_logit_rows = runner->n_logit_rows,
        .n_sequences = (int32_t)runner->view.step.n_entries,
        .samples = runner->samples,
        .await_masks = await_masks,
        .check = check_wanted,
        .user_data = runner,
        .deadline_ns = runner->deadline_ns,
    };
    COHORT_TRY(cohort_model_forward(runner->model, &batch, NULL, NULL));
    COHORT_TRY(await_masks(runner, &runner->deadline_ns));
    if (runner->is_output) take_results(runner);
    if (runner->options.keep_tokens) COHORT_TRY(keep_tokens(runner));
    cohort_worker_count_tokens(runner->info->worker, (uint64_t)n_rows);
    return runner->is_output ? reply_results(runner, reply) : COHORT_OK;
}

static cohort_status start_profile(void *context, const void *payload, size_t size_bytes,
                                   cohort_worker_reply *reply) {
    struct runner *runner = context;
    (void)payload;
    (void)size_bytes;
    (void)reply;
    return cohort_model_profile_begin(runner->model);
}

static cohort_status stop_profile(void *context, const void *payload, size_t size_bytes,
                                  cohort_worker_reply *reply) {
    struct runner *runner = context;
    (void)payload;
    (void)size_bytes;
    return cohort_model_profile_end(runner->model, reply->bytes, reply->capacity_bytes,
                                    &reply->size_bytes);
}

static const cohort_worker_method methods[] = {
    {COHORT_RUNNER_DETERMINE_MEMORY, determine_available_memory},
    {COHORT_RUNNER_INITIALIZE, initialize_from_config},
    {COHORT_RUNNER_START_PROFILE, start_profile},
    {COHORT_RUNNER_STOP_PROFILE, stop_profile},
    {NULL, NULL},
};

const cohort_worker_ops *cohort_worker_model_ops(void) {
    static const cohort_worker_ops ops = {.open = runner_open,
                                          .load = runner_load,
                                          .execute = runner_execute,
                                          .keep = runner_keep,
                                          .rejoin = runner_rejoin,
                                          .methods = methods,
                                          .close = runner_close};
    return &ops;
}
