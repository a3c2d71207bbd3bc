/* SPDX-License-Identifier: Apache-2.0 */
#include "model/model.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/build_id.h"
#include "base/fail.h"
#include "base/random.h"
#include "model/model_internal.h"
#include "model/rope.h"

/* Design notes.
 *
 * --dtype decides how weights are stored and with them how exact a step is: bfloat16 lets
 * the backend round the inputs of matrix products to bf16 and keeps keys and values in
 * bf16.  float16 and float32 compute in f32 throughout and keep the cache in f32: a bf16
 * cache would lose three bits that float16 has. */

static cohort_status check_options(const cohort_model_options *options) {
    const struct {
        const char *name;
        int32_t value;
    } positive[] = {{"max_num_batched_tokens", options->max_num_batched_tokens},
                    {"max_num_seqs", options->max_num_seqs},
                    {"block_size", options->block_size}};
    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
        if (positive[i].value < 1 || positive[i].value > 1 << 20)
            return COHORT_FAIL(COHORT_E_INVALID, "%s is %d, must be from 1 to %d",
                               positive[i].name, positive[i].value, 1 << 20);
    if (options->tp_size > 1 &&
        (!options->tp_group || cohort_group_size(options->tp_group) != options->tp_size ||
         cohort_group_rank(options->tp_group) != options->tp_rank))
        return COHORT_FAIL(COHORT_E_INVALID, "the tp group is not that of rank %d of %d",
                           options->tp_rank, options->tp_size);
    if (options->pp_size > 1 &&
        (!options->pp_group || cohort_group_size(options->pp_group) != options->pp_size ||
         cohort_group_rank(options->pp_group) != options->pp_rank))
        return COHORT_FAIL(COHORT_E_INVALID, "the pp group is not that of rank %d of %d",
                           options->pp_rank, options->pp_size);
    return COHORT_OK;
}

static cohort_status choose_dtype(cohort_model *model, const char *name) {
    model->dtype = model->config.dtype;
    if (name && strcmp(name, "auto") != 0 && !cohort_dtype_parse(name, &model->dtype))
        return COHORT_FAIL(COHORT_E_INVALID,
                           "dtype %.40s is not supported (auto, float32, bfloat16 and "
                           "float16 are)",
                           name);
    model->kv_dtype = model->dtype == COHORT_BF16 ? COHORT_BF16 : COHORT_F32;
    return COHORT_OK;
}

static cohort_status choose_format(cohort_model *model, const char *quantization) {
    model->format = cohort_format_dense(model->dtype);
    if (!quantization || !*quantization || strcmp(quantization, "none") == 0)
        return COHORT_OK;
    model->format = cohort_format_int8();
    if (strcmp(quantization, model->format->name) == 0) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INVALID,
                       "quantization %.40s is not supported (int8, which is made when "
                       "weights are loaded, is)",
                       quantization);
}

static cohort_status choose_length(cohort_model *model, int32_t asked) {
    int32_t longest = cohort_model_config_max_len(&model->config);
    if (asked < 0 || asked > longest)
        return COHORT_FAIL(
            COHORT_E_INVALID,
            "max_model_len %d is more than the model's %d positions; use at "
            "most that",
            asked, longest);
    model->max_model_len = asked ? asked : longest;
    return COHORT_OK;
}

/* Where there is one rank no group is used. */
static cohort_group *tp_group_of(const cohort_model_options *options) {
    return options->tp_size > 1 ? options->tp_group : NULL;
}

static cohort_group *pp_group_of(const cohort_model_options *options) {
    return options->pp_size > 1 ? options->pp_group : NULL;
}

static cohort_status open_backend(cohort_model *model) {
    const cohort_model_options *options = &model->options;
    int32_t block_size = options->block_size;
    bool samples = cohort_model_is_output_rank(model) ||
                   (options->share_tokens && model->shard.last_stage);
    const cohort_backend_options backend = {
        .bf16_activations = model->dtype == COHORT_BF16,
        .max_rows = options->max_num_batched_tokens,
        .max_sequences = options->max_num_seqs,
        .block_size = block_size,
        .max_blocks = (model->max_model_len + block_size - 1) / block_size,
        .vocab_size = samples ? model->config.vocab_size : 0,
        .share_tokens = options->share_tokens,
        .keeper = options->keeper,
        .tp_group = tp_group_of(options),
        .pp_group = pp_group_of(options),
        .device = options->device,
    };
    model->ops = options->backend;
    return model->ops->create(&backend, &model->backend);
}

/* A rank may gather only what its peers give: all of them are planned. */
static cohort_status plan_shards(cohort_model *model,
                                 const cohort_model_options *options) {
    COHORT_TRY(cohort_shard_plan(&model->config, options->tp_rank, options->tp_size,
                                 options->pp_rank, options->pp_size,
                                 options->layer_partition, &model->shard));
    model->logit_bytes = calloc((size_t)options->tp_size, sizeof *model->logit_bytes);
    if (!model->logit_bytes) return COHORT_FAIL(COHORT_E_NOMEM, "table of ranks");
    for (int32_t i = 0; i < options->tp_size; i++) {
        cohort_shard peer;
        COHORT_TRY(cohort_shard_plan(&model->config, i, options->tp_size,
                                     options->pp_rank, options->pp_size,
                                     options->layer_partition, &peer));
        model->logit_bytes[i] = (size_t)cohort_span_size(peer.vocab) * sizeof(float);
    }
    return COHORT_OK;
}

static cohort_status open_model(cohort_model *model,
                                const cohort_model_options *options) {
    cohort_model_defaults defaults;
    COHORT_TRY(check_options(options));
    COHORT_TRY(cohort_model_config_read(options->model_dir, &model->config, &defaults));
    if (model->config.n_experts && !options->backend->experts)
        return COHORT_FAIL(
            COHORT_E_INVALID,
            "mixtures of experts do not run on device %s yet: use --device "
            "cpu",
            options->backend->name);
    COHORT_TRY(plan_shards(model, options));
    COHORT_TRY(choose_dtype(model, options->dtype));
    COHORT_TRY(choose_format(model, options->quantization));
    COHORT_TRY(choose_length(model, options->max_model_len));
    model->model_dir = strdup(options->model_dir);
    model->layers =
        calloc((size_t)cohort_span_size(model->shard.layers), sizeof *model->layers);
    if (!model->model_dir || !model->layers)
        return COHORT_FAIL(COHORT_E_NOMEM, "opening %s", options->model_dir);
    COHORT_TRY(open_backend(model));
    model->options.model_dir = NULL; /* the caller's texts may go away */
    model->options.dtype = model->options.layer_partition = NULL;
    model->options.quantization = NULL;
    model->options.device = NULL;
    return COHORT_OK;
}

cohort_status cohort_model_open(const cohort_model_options *options,
                                cohort_model **out_model) {
    *out_model = NULL;
    cohort_model *model = calloc(1, sizeof *model);
    if (!model) return COHORT_FAIL(COHORT_E_NOMEM, "opening %s", options->model_dir);
    model->options = *options;
    cohort_status status = open_model(model, options);
    if (status < 0) {
        cohort_model_close(model);
        return status;
    }
    *out_model = model;
    return COHORT_OK;
}

/* ---- kept memory ------------------------------------------------------------------- */

static bool is_of_checkpoint(const char *name) {
    const char *end = strrchr(name, '.');
    return strcmp(name, "config.json") == 0 || (end && strcmp(end, ".safetensors") == 0);
}

/* Of the files that the weights come from, in whichever order they are found: who they
 * are, how long, and when written.  Nothing of a model that has none. */
static uint64_t checkpoint_state(const char *model_dir) {
    uint64_t sum = 0;
    DIR *dir = opendir(model_dir);
    if (!dir) return 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        struct stat info;
        if (!is_of_checkpoint(entry->d_name) ||
            fstatat(dirfd(dir), entry->d_name, &info, 0) < 0)
            continue;
        char text[512];
        snprintf(text, sizeof text, "%.255s %llu %llu %lld %lld %lld", entry->d_name,
                 (unsigned long long)info.st_dev, (unsigned long long)info.st_ino,
                 (long long)info.st_size, (long long)info.st_mtim.tv_sec,
                 (long long)info.st_mtim.tv_nsec);
        sum += cohort_random_stream(0, text);
    }
    closedir(dir);
    return sum;
}

/* All that the bytes depend on, the layout that build and device choose included. */
static void tell_identity(const cohort_model *model, int64_t n_blocks, char *out,
                          size_t limit) {
    const cohort_model_options *options = &model->options;
    const cohort_shard *shard = &model->shard;
    snprintf(out, limit, "%s %s %s %d/%d %d-%d/%d %s %d %d %d %llu %d x %lld %llx %.512s",
             cohort_build_id(), model->ops->name, model->ops->describe(model->backend),
             options->tp_rank, options->tp_size, shard->layers.begin, shard->layers.end,
             options->pp_size, model->format->name, (int)model->dtype,
             (int)model->kv_dtype, (int)options->dummy_weights,
             (unsigned long long)options->seed, options->block_size, (long long)n_blocks,
             (unsigned long long)checkpoint_state(model->model_dir), model->model_dir);
}

cohort_status cohort_model_memory_begin(cohort_model *model, const char *name,
                                        int64_t n_blocks, bool *out_was_kept) {
    char identity[1024];
    *out_was_kept = false;
    if (!model->ops->memory_begin || (n_blocks && model->options.forgets_kv))
        return COHORT_OK;
    tell_identity(model, n_blocks, identity, sizeof identity);
    return model->ops->memory_begin(model->backend, name, identity, !n_blocks,
                                    out_was_kept);
}

cohort_status cohort_model_memory_end(cohort_model *model) {
    return model->ops->memory_end ? model->ops->memory_end(model->backend) : COHORT_OK;
}

cohort_status cohort_model_memory_move(cohort_model *model) {
    return model->ops->memory_move ? model->ops->memory_move(model->backend) : COHORT_OK;
}

/* ---- scratch ----------------------------------------------------------------------- */

static int32_t most(int32_t a, int32_t b) { return a > b ? a : b; }

static int64_t qkv_width(const cohort_model *model) {
    return (int64_t)model->config.head_dim *
           (cohort_span_size(model->shard.heads) +
            2 * cohort_span_size(model->shard.kv_heads));
}

static cohort_status alloc(cohort_model *model, cohort_dtype dtype, int64_t rows,
                           int64_t columns, cohort_buffer **out) {
    COHORT_TRY_WHILE(
        model->ops->buffer_create(model->backend, dtype, rows * columns, out),
        "making room for activations of %lld x %lld", (long long)rows,
        (long long)columns);
    return COHORT_OK;
}

static cohort_status make_head_scratch(cohort_model *model) {
    const cohort_model_options *options = &model->options;
    int64_t vocab_size = model->config.vocab_size;
    if (!model->shard.last_stage) return COHORT_OK;
    COHORT_TRY(alloc(model, COHORT_F32, COHORT_LOGIT_ROWS,
                     cohort_span_size(model->shard.vocab), &model->logits));
    if (options->tp_rank > 0) return COHORT_OK;
    if (options->tp_size > 1)
        COHORT_TRY(alloc(model, COHORT_F32, COHORT_LOGIT_ROWS, vocab_size,
                         &model->whole_logits));
    /* Takes memory only where it is used. */
    model->host_logits =
        malloc(COHORT_LOGIT_ROWS * (size_t)vocab_size * sizeof *model->host_logits);
    if (!model->host_logits) return COHORT_FAIL(COHORT_E_NOMEM, "logits");
    return COHORT_OK;
}

static cohort_status make_rope(cohort_model *model) {
    const cohort_model_config *config = &model->config;
    int64_t pairs = config->head_dim / 2, n = model->max_model_len * pairs;
    if (config->rope.type == COHORT_ROPE_NONE) return COHORT_OK;
    COHORT_TRY(alloc(model, COHORT_F32, model->max_model_len, pairs, &model->cos));
    COHORT_TRY(alloc(model, COHORT_F32, model->max_model_len, pairs, &model->sin));
    float *tables = malloc(2 * (size_t)n * sizeof *tables);
    if (!tables) return COHORT_FAIL(COHORT_E_NOMEM, "rope tables");
    cohort_rope_tables(&config->rope, config->head_dim, model->max_model_len, tables,
                       tables + n);
    cohort_status status =
        model->ops->upload(model->backend, (cohort_view){model->cos, 0}, tables, n);
    if (status >= 0)
        status = model->ops->upload(model->backend, (cohort_view){model->sin, 0},
                                    tables + n, n);
    free(tables);
    return status;
}

static cohort_status make_scratch(cohort_model *model) {
    const cohort_model_config *config = &model->config;
    int64_t rows = model->options.max_num_batched_tokens;
    int64_t mlp_rows = rows < COHORT_MLP_ROWS ? rows : COHORT_MLP_ROWS;
    int32_t mlp = cohort_span_size(model->shard.mlp);
    int64_t top_k = most(config->n_experts_per_token, 1);
    int64_t heads = (int64_t)config->head_dim * cohort_span_size(model->shard.heads);
    const struct {
        cohort_buffer **to;
        int64_t rows, columns;
    } parts[] = {
        {&model->hidden, rows, config->hidden_size},
        {&model->normed, rows, config->hidden_size},
        {&model->qkv, rows, qkv_width(model)},
        {&model->attended, rows, heads},
        {&model->wide, mlp_rows, most(2 * mlp, config->n_experts)},
        {&model->narrow, mlp_rows, mlp},
        {&model->route_weights, mlp_rows, top_k},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        COHORT_TRY(
            alloc(model, COHORT_F32, parts[i].rows, parts[i].columns, parts[i].to));
    COHORT_TRY(alloc(model, COHORT_I32, mlp_rows, top_k, &model->route_ids));
    if (config->n_experts)
        COHORT_TRY(
            alloc(model, COHORT_F32, rows, config->hidden_size, &model->expert_sum));
    COHORT_TRY(make_head_scratch(model));
    return make_rope(model);
}

cohort_status cohort_model_load(cohort_model *model, cohort_load_progress progress,
                                void *user_data) {
    if (model->loaded)
        return COHORT_FAIL(COHORT_E_INVALID, "the model is loaded already");
    COHORT_TRY_WHILE(cohort_model_weights_load(model, progress, user_data), "loading %s",
                     model->model_dir);
    COHORT_TRY(make_scratch(model));
    model->loaded = true;
    return COHORT_OK;
}

/* ---- cache, questions, end --------------------------------------------------------- */

static cohort_kv_shape kv_shape(const cohort_model *model) {
    return (cohort_kv_shape){.n_layers = cohort_span_size(model->shard.layers),
                             .block_size = model->options.block_size,
                             .n_kv_heads = cohort_span_size(model->shard.kv_heads),
                             .head_dim = model->config.head_dim,
                             .dtype = model->kv_dtype};
}

size_t cohort_model_kv_block_bytes(const cohort_model *model) {
    const cohort_kv_shape shape = kv_shape(model);
    return model->ops->kv_block_bytes(model->backend, &shape);
}

cohort_status cohort_model_kv_create(cohort_model *model, int64_t n_blocks) {
    const cohort_kv_shape shape = kv_shape(model);
    if (model->kv) return COHORT_FAIL(COHORT_E_INVALID, "the KV cache is there already");
    if (n_blocks < 1 || n_blocks > INT32_MAX)
        return COHORT_FAIL(COHORT_E_INVALID, "a KV cache of %lld blocks cannot be",
                           (long long)n_blocks);
    bool was_kept;
    COHORT_TRY(cohort_model_memory_begin(model, "kv", n_blocks, &was_kept));
    COHORT_TRY_WHILE(model->ops->kv_create(model->backend, &shape, n_blocks, &model->kv),
                     "making room for %lld KV blocks of %zu bytes", (long long)n_blocks,
                     cohort_model_kv_block_bytes(model));
    model->n_blocks = n_blocks;
    return cohort_model_memory_end(model);
}

void cohort_model_regroup(cohort_model *model, cohort_group *tp_group,
                          cohort_group *pp_group) {
    model->options.tp_group = tp_group;
    model->options.pp_group = pp_group;
    model->ops->regroup(model->backend, tp_group_of(&model->options),
                        pp_group_of(&model->options));
}

const cohort_model_config *cohort_model_config_of(const cohort_model *model) {
    return &model->config;
}

size_t cohort_model_weight_bytes(const cohort_model *model) {
    return model->weight_bytes;
}

int32_t cohort_model_max_len(const cohort_model *model) { return model->max_model_len; }

uint64_t cohort_model_device_free_bytes(const cohort_model *model) {
    return model->ops->free_bytes ? model->ops->free_bytes(model->backend) : 0;
}

const char *cohort_model_device(const cohort_model *model) {
    return model->ops->describe(model->backend);
}

bool cohort_model_is_output_rank(const cohort_model *model) {
    return model->shard.last_stage && model->options.tp_rank == 0;
}

void cohort_model_close(cohort_model *model) {
    if (!model) return;
    cohort_profile_destroy(model->profile);
    if (model->backend) {
        cohort_buffer *scratch[] = {
            model->hidden,     model->normed,       model->qkv,
            model->attended,   model->wide,         model->narrow,
            model->expert_sum, model->route_ids,    model->route_weights,
            model->logits,     model->whole_logits, model->cos,
            model->sin};
        if (model->kv) model->ops->kv_destroy(model->kv);
        for (size_t i = 0; i < sizeof scratch / sizeof *scratch; i++)
            if (scratch[i]) model->ops->buffer_destroy(scratch[i]);
        cohort_model_weights_destroy(model);
        model->ops->destroy(model->backend);
    }
    free(model->host_logits);
    free(model->logit_bytes);
    free(model->layers);
    free(model->model_dir);
    free(model);
}
