/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/random.h"
#include "model/arch/arch.h"
#include "model/model_internal.h"
#include "model/safetensors.h"
#include "model/tensor_value.h"

/* Design notes.
 *
 * Loading is a list of parts: "rows r and columns c of tensor T become rows from d on of
 * this matrix".  The list is made first, after the architecture's names, and checked as a
 * whole, so that a missing tensor is reported before gigabytes were read; then it is
 * sorted by place in the files and carried out, which reads every file once, forwards, a
 * slab at a time: but for that slab, nothing but the packed weights is held.
 *
 * Dummy weights take the same road, with the generator instead of a file.  A value
 * depends on seed, tensor name and place in the whole tensor alone: every layout of ranks
 * computes the same model. */

enum {
    SLAB_BYTES = 1 << 20, /* should still be in the cache when it is packed */
    AHEAD_BYTES = 64 << 20,
    NAME_BYTES = 96,
    BASE_BYTES = 40, /* of what the names of a layer begin with */
};

struct part {
    char name[NAME_BYTES];
    cohort_linear *linear; /* or: */
    cohort_buffer *vector;
    bool is_quantized;         /* the linear's format is the model's, not dense */
    int64_t to;                /* first row of the destination */
    int64_t n_rows, n_columns; /* of the whole tensor; a vector has 0 columns */
    cohort_span rows, columns; /* what is taken of it */
    const cohort_tensor *tensor;
};

struct loader {
    cohort_model *model;
    cohort_safetensors *checkpoint; /* NULL: dummy weights */
    struct part *parts;
    size_t n_parts, capacity;
    size_t done_bytes, total_bytes;
    int32_t n_files, files_done;
    float *row; /* of what is quantized */
    int8_t *quantized;
    float *slab; /* SLAB_BYTES of a file or of dummy values, and one row at least */
    cohort_load_progress progress;
    void *user_data;
};

/* ---- making the list --------------------------------------------------------------- */

static cohort_span whole(int32_t n) { return (cohort_span){0, n}; }

static cohort_span times(cohort_span span, int32_t factor) {
    return (cohort_span){span.begin * factor, span.end * factor};
}

COHORT_PRINTF(3, 4)
static cohort_status add(struct loader *loader, struct part part, const char *format,
                         ...) {
    if (loader->n_parts == loader->capacity) {
        size_t capacity = loader->capacity ? 2 * loader->capacity : 256;
        struct part *grown = realloc(loader->parts, capacity * sizeof *grown);
        if (!grown) return COHORT_FAIL(COHORT_E_NOMEM, "list of %zu weights", capacity);
        loader->parts = grown;
        loader->capacity = capacity;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(part.name, sizeof part.name, format, args);
    va_end(args);
    loader->parts[loader->n_parts++] = part;
    return COHORT_OK;
}

static cohort_status new_linear_of(struct loader *loader, int64_t n_out, int64_t n_in,
                                   const cohort_format *format, cohort_linear **out) {
    cohort_model *model = loader->model;
    COHORT_TRY_WHILE(model->ops->linear_create(model->backend, n_out, n_in, format, out),
                     "making room for a matrix of %lld x %lld", (long long)n_out,
                     (long long)n_in);
    model->weight_bytes += model->ops->linear_bytes(*out);
    return COHORT_OK;
}

static cohort_status new_linear(struct loader *loader, int64_t n_out, int64_t n_in,
                                cohort_linear **out) {
    return new_linear_of(loader, n_out, n_in, cohort_format_dense(loader->model->dtype),
                         out);
}

static cohort_status new_vector(struct loader *loader, int64_t n, cohort_buffer **out) {
    cohort_model *model = loader->model;
    COHORT_TRY(model->ops->buffer_create(model->backend, COHORT_F32, n, out));
    model->weight_bytes += (size_t)n * sizeof(float);
    return COHORT_OK;
}

/* A vector of n values that every rank holds. */
#define ADD_VECTOR(loader, out, n, ...)                                                  \
    do {                                                                                 \
        COHORT_TRY(new_vector((loader), (n), (out)));                                    \
        COHORT_TRY(add((loader),                                                         \
                       (struct part){.vector = *(out), .n_rows = (n), .rows = whole(n)}, \
                       __VA_ARGS__));                                                    \
    } while (0)

static const cohort_arch_tensors *names_of(const struct loader *loader) {
    return &loader->model->config.arch->tensors;
}

static bool is_quantized(const cohort_model *model) {
    return model->format->planes[COHORT_SCALES].is_there;
}

/* The fused query, key and value rows of this rank's heads. */
static cohort_status list_qkv(struct loader *loader, const char *base,
                              cohort_model_layer *layer) {
    const cohort_model *model = loader->model;
    const cohort_model_config *config = &model->config;
    const cohort_arch_tensors *names = names_of(loader);
    int32_t dim = config->head_dim;
    const struct {
        const char *name;
        cohort_span rows;
        int32_t n_rows;
    } projections[] = {
        {names->q, times(model->shard.heads, dim), config->n_heads * dim},
        {names->k, times(model->shard.kv_heads, dim), config->n_kv_heads * dim},
        {names->v, times(model->shard.kv_heads, dim), config->n_kv_heads * dim},
    };
    int64_t n_out = 0;
    for (int i = 0; i < 3; i++)
        n_out += cohort_span_size(projections[i].rows);
    COHORT_TRY(
        new_linear_of(loader, n_out, config->hidden_size, model->format, &layer->qkv));
    if (config->attention_bias) COHORT_TRY(new_vector(loader, n_out, &layer->qkv_bias));
    int64_t to = 0;
    for (int i = 0; i < 3; i++) {
        struct part part = {.linear = layer->qkv,
                            .is_quantized = is_quantized(model),
                            .to = to,
                            .n_rows = projections[i].n_rows,
                            .n_columns = config->hidden_size,
                            .rows = projections[i].rows,
                            .columns = whole(config->hidden_size)};
        COHORT_TRY(add(loader, part, "%s.%s.weight", base, projections[i].name));
        part.linear = NULL;
        part.vector = layer->qkv_bias;
        part.n_columns = 0;
        if (config->attention_bias)
            COHORT_TRY(add(loader, part, "%s.%s.bias", base, projections[i].name));
        to += cohort_span_size(projections[i].rows);
    }
    return COHORT_OK;
}

static cohort_status list_attention(struct loader *loader, const char *base,
                                    cohort_model_layer *layer) {
    const cohort_model *model = loader->model;
    const cohort_model_config *config = &model->config;
    const cohort_arch_tensors *names = names_of(loader);
    int32_t dim = config->head_dim;
    COHORT_TRY(list_qkv(loader, base, layer));
    cohort_span columns = times(model->shard.heads, dim);
    COHORT_TRY(new_linear_of(loader, config->hidden_size, cohort_span_size(columns),
                             model->format, &layer->out));
    struct part part = {.linear = layer->out,
                        .is_quantized = is_quantized(model),
                        .n_rows = config->hidden_size,
                        .n_columns = config->n_heads * dim,
                        .rows = whole(config->hidden_size),
                        .columns = columns};
    COHORT_TRY(add(loader, part, "%s.%s.weight", base, names->out));
    if (config->attention_out_bias && model->options.tp_rank == 0)
        ADD_VECTOR(loader, &layer->out_bias, config->hidden_size, "%s.%s.bias", base,
                   names->out);
    if (names->q_norm)
        ADD_VECTOR(loader, &layer->q_norm, dim, "%s.%s.weight", base, names->q_norm);
    if (names->k_norm)
        ADD_VECTOR(loader, &layer->k_norm, dim, "%s.%s.weight", base, names->k_norm);
    return COHORT_OK;
}

/* gate and up one below the other (or up alone), and down: an MLP, or one expert. */
static cohort_status list_gated(struct loader *loader, const char *base,
                                const cohort_format *format, cohort_span inner,
                                int32_t n_inner, const char *const names[3],
                                cohort_linear **gate_up, cohort_linear **down) {
    int32_t hidden = loader->model->config.hidden_size;
    int32_t width = cohort_span_size(inner);
    int32_t n_up = names[0] ? 2 : 1;
    COHORT_TRY(new_linear_of(loader, (int64_t)width * n_up, hidden, format, gate_up));
    COHORT_TRY(new_linear_of(loader, hidden, width, format, down));
    bool quantized = format->planes[COHORT_SCALES].is_there;
    struct part part = {.linear = *gate_up,
                        .is_quantized = quantized,
                        .n_rows = n_inner,
                        .n_columns = hidden,
                        .rows = inner,
                        .columns = whole(hidden)};
    for (int32_t i = 2 - n_up; i < 2; i++, part.to += width)
        COHORT_TRY(add(loader, part, "%s.%s.weight", base, names[i]));
    part = (struct part){.linear = *down,
                         .is_quantized = quantized,
                         .n_rows = hidden,
                         .n_columns = n_inner,
                         .rows = whole(hidden),
                         .columns = inner};
    return add(loader, part, "%s.%s.weight", base, names[2]);
}

static cohort_status list_mlp(struct loader *loader, const char *base,
                              cohort_model_layer *layer) {
    const cohort_model *model = loader->model;
    const cohort_model_config *config = &model->config;
    const cohort_arch_tensors *tensors = names_of(loader);
    const char *const names[3] = {tensors->gate, tensors->up, tensors->down};
    cohort_span inner = model->shard.mlp;
    COHORT_TRY(list_gated(loader, base, model->format, inner, config->intermediate_size,
                          names, &layer->gate_up, &layer->down));
    if (!config->mlp_bias) return COHORT_OK;
    int32_t width = cohort_span_size(inner), n_up = names[0] ? 2 : 1;
    COHORT_TRY(new_vector(loader, (int64_t)width * n_up, &layer->gate_up_bias));
    struct part part = {.vector = layer->gate_up_bias,
                        .n_rows = config->intermediate_size,
                        .rows = inner};
    for (int32_t i = 2 - n_up; i < 2; i++, part.to += width)
        COHORT_TRY(add(loader, part, "%s.%s.bias", base, names[i]));
    if (model->options.tp_rank == 0)
        ADD_VECTOR(loader, &layer->down_bias, config->hidden_size, "%s.%s.bias", base,
                   names[2]);
    return COHORT_OK;
}

static cohort_status list_experts(struct loader *loader, const char *base,
                                  cohort_model_layer *layer) {
    const cohort_model_config *config = &loader->model->config;
    const cohort_arch_tensors *tensors = names_of(loader);
    const char *const names[3] = {tensors->expert_gate, tensors->expert_up,
                                  tensors->expert_down};
    int32_t n = config->n_experts, hidden = config->hidden_size;
    layer->expert_gate_up = calloc((size_t)n, sizeof *layer->expert_gate_up);
    layer->expert_down = calloc((size_t)n, sizeof *layer->expert_down);
    if (!layer->expert_gate_up || !layer->expert_down)
        return COHORT_FAIL(COHORT_E_NOMEM, "table of %d experts", n);
    COHORT_TRY(new_linear(loader, n, hidden, &layer->router));
    struct part part = {.linear = layer->router,
                        .n_rows = n,
                        .n_columns = hidden,
                        .rows = whole(n),
                        .columns = whole(hidden)};
    COHORT_TRY(add(loader, part, "%s.%s.weight", base, tensors->router));
    for (int32_t e = 0; e < n; e++) {
        char expert[NAME_BYTES];
        snprintf(expert, sizeof expert, "%s.%s.%d", base, tensors->experts, e);
        COHORT_TRY(list_gated(loader, expert, cohort_format_dense(loader->model->dtype),
                              loader->model->shard.experts_mlp,
                              config->moe_intermediate_size, names,
                              &layer->expert_gate_up[e], &layer->expert_down[e]));
    }
    return COHORT_OK;
}

static cohort_status list_norm(struct loader *loader, const char *name,
                               cohort_buffer **weight, cohort_buffer **bias) {
    int32_t hidden = loader->model->config.hidden_size;
    ADD_VECTOR(loader, weight, hidden, "%s.weight", name);
    if (loader->model->config.arch->centred_norms)
        ADD_VECTOR(loader, bias, hidden, "%s.bias", name);
    return COHORT_OK;
}

static cohort_status list_layer(struct loader *loader, int32_t index,
                                cohort_model_layer *layer) {
    const cohort_model_config *config = &loader->model->config;
    const cohort_arch_tensors *names = names_of(loader);
    char base[BASE_BYTES], norm[NAME_BYTES];
    snprintf(base, sizeof base, "%s.%d", names->layers, index);
    snprintf(norm, sizeof norm, "%s.%s", base, names->attention_norm);
    COHORT_TRY(
        list_norm(loader, norm, &layer->attention_norm, &layer->attention_norm_bias));
    snprintf(norm, sizeof norm, "%s.%s", base, names->mlp_norm);
    COHORT_TRY(list_norm(loader, norm, &layer->mlp_norm, &layer->mlp_norm_bias));
    COHORT_TRY(list_attention(loader, base, layer));
    if (config->n_experts && !cohort_layer_bit(config->dense_layers, index))
        return list_experts(loader, base, layer);
    return list_mlp(loader, base, layer);
}

static cohort_status list_vocabulary(struct loader *loader, const char *name,
                                     cohort_linear **out) {
    const cohort_model *model = loader->model;
    int32_t hidden = model->config.hidden_size;
    cohort_span rows = model->shard.vocab;
    COHORT_TRY(new_linear(loader, cohort_span_size(rows), hidden, out));
    struct part part = {.linear = *out,
                        .n_rows = model->config.vocab_size,
                        .n_columns = hidden,
                        .rows = rows,
                        .columns = whole(hidden)};
    return add(loader, part, "%s.weight", name);
}

static cohort_status list_positions(struct loader *loader) {
    cohort_model *model = loader->model;
    const cohort_model_config *config = &model->config;
    int32_t n = config->max_position_embeddings + config->arch->position_shift;
    COHORT_TRY(new_linear(loader, n, config->hidden_size, &model->positions));
    struct part part = {.linear = model->positions,
                        .n_rows = n,
                        .n_columns = config->hidden_size,
                        .rows = whole(n),
                        .columns = whole(config->hidden_size)};
    return add(loader, part, "%s.weight", names_of(loader)->positions);
}

static cohort_status list_all(struct loader *loader) {
    cohort_model *model = loader->model;
    const cohort_model_config *config = &model->config;
    const cohort_arch_tensors *names = names_of(loader);
    if (model->shard.first_stage) {
        COHORT_TRY(list_vocabulary(loader, names->embedding, &model->embedding));
        if (names->positions) COHORT_TRY(list_positions(loader));
    }
    for (int32_t i = model->shard.layers.begin; i < model->shard.layers.end; i++)
        COHORT_TRY(list_layer(loader, i, &model->layers[i - model->shard.layers.begin]));
    if (!model->shard.last_stage) return COHORT_OK;
    if (config->final_norm)
        COHORT_TRY(list_norm(loader, names->final_norm, &model->final_norm,
                             &model->final_norm_bias));
    if (config->tie_word_embeddings && model->embedding) {
        model->head = model->embedding;
        return COHORT_OK;
    }
    return list_vocabulary(loader,
                           config->tie_word_embeddings ? names->embedding : names->head,
                           &model->head);
}

/* ---- checking it against the checkpoint -------------------------------------------- */

static size_t part_elements(const struct part *part) {
    size_t columns = part->n_columns ? (size_t)cohort_span_size(part->columns) : 1;
    return (size_t)cohort_span_size(part->rows) * columns;
}

static cohort_status find_tensor(const struct loader *loader, struct part *part) {
    const char *name = part->name;
    const cohort_tensor *tensor = cohort_safetensors_find(loader->checkpoint, name);
    /* Checkpoints of the bare model, without its head, lack the prefix. */
    if (!tensor && strncmp(name, "model.", 6) == 0)
        tensor = cohort_safetensors_find(loader->checkpoint, name + 6);
    if (!tensor)
        return COHORT_FAIL(COHORT_E_INVALID, "%s: no file has tensor %s",
                           loader->model->model_dir, name);
    const char *file = cohort_safetensors_file_name(loader->checkpoint, tensor->file);
    if (!tensor->readable)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: tensor %s is %s; F64, F32, BF16 and F16 are read", file,
                           name, tensor->type);
    int32_t n_dims = part->n_columns ? 2 : 1;
    if (tensor->n_dims != n_dims || tensor->shape[0] != part->n_rows ||
        (n_dims == 2 && tensor->shape[1] != part->n_columns))
        return COHORT_FAIL(
            COHORT_E_INVALID,
            "%s: tensor %s has %d sizes, [%lld, %lld]; config.json makes it "
            "[%lld, %lld]",
            file, name, tensor->n_dims,
            (long long)(tensor->n_dims > 0 ? tensor->shape[0] : 0),
            (long long)(tensor->n_dims > 1 ? tensor->shape[1] : 0),
            (long long)part->n_rows, (long long)part->n_columns);
    part->tensor = tensor;
    return COHORT_OK;
}

static int by_place(const void *left, const void *right) {
    const struct part *a = left, *b = right;
    if (a->tensor->file != b->tensor->file)
        return a->tensor->file < b->tensor->file ? -1 : 1;
    if (a->tensor->begin != b->tensor->begin)
        return a->tensor->begin < b->tensor->begin ? -1 : 1;
    return 0;
}

static cohort_status check_parts(struct loader *loader) {
    for (size_t i = 0; i < loader->n_parts; i++) {
        struct part *part = &loader->parts[i];
        if (loader->checkpoint) COHORT_TRY(find_tensor(loader, part));
        loader->total_bytes += part_elements(part) *
                               (part->tensor ? part->tensor->element_bytes
                                             : cohort_dtype_bytes(loader->model->dtype));
    }
    loader->n_files = 1;
    if (!loader->checkpoint) return COHORT_OK;
    qsort(loader->parts, loader->n_parts, sizeof *loader->parts, by_place);
    for (size_t i = 1; i < loader->n_parts; i++)
        loader->n_files +=
            loader->parts[i].tensor->file != loader->parts[i - 1].tensor->file;
    return COHORT_OK;
}

/* ---- carrying it out --------------------------------------------------------------- */

static cohort_status report(struct loader *loader) {
    if (!loader->progress) return COHORT_OK;
    return loader->progress(loader->user_data, loader->files_done, loader->n_files,
                            loader->done_bytes, loader->total_bytes);
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* n elements from the first on into the slab, as linear_set reads them: aligned, and F64
 * as F32. */
static cohort_status read_elements(struct loader *loader, const cohort_tensor *tensor,
                                   int64_t first, int64_t n) {
    size_t size = tensor->element_bytes;
    COHORT_TRY(cohort_safetensors_read(loader->checkpoint, tensor->file,
                                       tensor->begin + (uint64_t)first * size,
                                       loader->slab, (size_t)n * size));
    for (int64_t i = 0; cohort_tensor_is_double(tensor) && i < n;
         i++) /* none before it is read */
        loader->slab[i] = cohort_tensor_value(loader->slab, tensor, (size_t)i);
    return COHORT_OK;
}

static cohort_status load_vector(struct loader *loader, const struct part *part) {
    const cohort_tensor *tensor = part->tensor;
    const cohort_backend_ops *ops = loader->model->ops;
    const int64_t most = SLAB_BYTES / 16; /* of 8 bytes in the file and 4 here */
    size_t size = tensor->element_bytes;
    char *read = (char *)loader->slab + SLAB_BYTES / 2;
    for (int64_t i = part->rows.begin, n; i < part->rows.end; i += n) {
        cohort_view to = {part->vector, part->to + i - part->rows.begin};
        n = least(most, part->rows.end - i);
        COHORT_TRY(cohort_safetensors_read(loader->checkpoint, tensor->file,
                                           tensor->begin + (uint64_t)i * size, read,
                                           (size_t)n * size));
        for (int64_t k = 0; k < n; k++)
            loader->slab[k] = cohort_tensor_rounded(
                cohort_tensor_value(read, tensor, (size_t)k), loader->model->dtype);
        COHORT_TRY(ops->upload(loader->model->backend, to, loader->slab, n));
    }
    loader->done_bytes += part_elements(part) * tensor->element_bytes;
    return COHORT_OK;
}

/* A row of the whole tensor, so that its scale is the same on every layout of ranks. */
static cohort_status set_quantized(struct loader *loader, const struct part *part,
                                   int64_t row) {
    const cohort_model *model = loader->model;
    float scale = cohort_int8_of_row(loader->row, part->n_columns, loader->quantized);
    int64_t to = part->to + row - part->rows.begin;
    COHORT_TRY(model->ops->linear_set(part->linear, COHORT_SCALES, to, 1, &scale,
                                      COHORT_F32, 1));
    return model->ops->linear_set(part->linear, COHORT_VALUES, to, 1,
                                  loader->quantized + part->columns.begin, COHORT_I8,
                                  part->n_columns);
}

static cohort_status load_quantized(struct loader *loader, const struct part *part) {
    const cohort_tensor *tensor = part->tensor;
    bool is_float = cohort_tensor_is_double(tensor) || tensor->dtype == COHORT_F32;
    for (int32_t row = part->rows.begin; row < part->rows.end; row++) {
        COHORT_TRY(read_elements(loader, tensor, (int64_t)row * part->n_columns,
                                 part->n_columns));
        for (int64_t i = 0; i < part->n_columns; i++)
            loader->row[i] = is_float
                                 ? loader->slab[i]
                                 : cohort_tensor_value(loader->slab, tensor, (size_t)i);
        COHORT_TRY(set_quantized(loader, part, row));
    }
    loader->done_bytes += part_elements(part) * tensor->element_bytes;
    return report(loader);
}

static cohort_status load_part(struct loader *loader, const struct part *part) {
    const cohort_tensor *tensor = part->tensor;
    size_t size = tensor->element_bytes, width = cohort_dtype_bytes(tensor->dtype);
    if (part->vector) return load_vector(loader, part);
    if (part->is_quantized) return load_quantized(loader, part);
    int64_t row_bytes = part->n_columns * (int64_t)size;
    int64_t slab = row_bytes < SLAB_BYTES ? SLAB_BYTES / row_bytes : 1;
    for (int64_t row = part->rows.begin; row < part->rows.end; row += slab) {
        int64_t n = least(slab, part->rows.end - row);
        COHORT_TRY(
            read_elements(loader, tensor, row * part->n_columns, n * part->n_columns));
        const char *rows = (const char *)loader->slab;
        COHORT_TRY(loader->model->ops->linear_set(
            part->linear, COHORT_VALUES, part->to + row - part->rows.begin, n,
            rows + part->columns.begin * (int64_t)width, tensor->dtype, part->n_columns));
        loader->done_bytes += (size_t)n * (size_t)cohort_span_size(part->columns) * size;
        COHORT_TRY(report(loader));
    }
    return COHORT_OK;
}

/* Asks for the parts after i, as far as AHEAD_BYTES reach; *ahead is the first that was
 * not asked for. */
static void prefetch(struct loader *loader, size_t i, size_t *ahead) {
    uint64_t bytes = 0;
    if (*ahead < i) *ahead = i;
    for (size_t k = i; k < loader->n_parts && bytes < AHEAD_BYTES; k++) {
        const struct part *part = &loader->parts[k];
        uint64_t row_bytes = (part->n_columns ? (uint64_t)part->n_columns : 1) *
                             part->tensor->element_bytes;
        uint64_t begin = part->tensor->begin + (uint64_t)part->rows.begin * row_bytes;
        uint64_t end = part->tensor->begin + (uint64_t)part->rows.end * row_bytes;
        bytes += end - begin;
        if (k < *ahead) continue;
        cohort_safetensors_prefetch(loader->checkpoint, part->tensor->file, begin, end);
        *ahead = k + 1;
    }
}

static cohort_status load_files(struct loader *loader) {
    size_t ahead = 0;
    for (size_t i = 0; i < loader->n_parts; i++) {
        prefetch(loader, i, &ahead);
        COHORT_TRY(load_part(loader, &loader->parts[i]));
        if (i + 1 == loader->n_parts ||
            loader->parts[i + 1].tensor->file != loader->parts[i].tensor->file) {
            cohort_safetensors_release(loader->checkpoint, loader->parts[i].tensor->file);
            loader->files_done++;
            COHORT_TRY(report(loader));
        }
    }
    return COHORT_OK;
}

/* ---- dummy weights ----------------------------------------------------------------- */

/* About a normal distribution of sigma 0.02: four 16-bit uniforms of one draw added up
 * (variance 4 / 12). */
static float dummy_value(uint64_t stream, uint64_t index) {
    uint64_t bits = cohort_random_u64(stream, index);
    int32_t sum = (int32_t)((bits & 0xffff) + (bits >> 16 & 0xffff) +
                            (bits >> 32 & 0xffff) + (bits >> 48));
    return (float)(sum - 2 * 65535) * (0.02F * 1.7320508F / 65536.0F);
}

static bool is_norm(const char *name) {
    return strstr(name, "norm.weight") != NULL; /* layer_norm, layernorm, q_norm, norm */
}

static cohort_status make_quantized(struct loader *loader, const struct part *part,
                                    uint64_t stream) {
    for (int32_t row = part->rows.begin; row < part->rows.end; row++) {
        uint64_t first = (uint64_t)row * (uint64_t)part->n_columns;
        for (int64_t c = 0; c < part->n_columns; c++)
            loader->row[c] = dummy_value(stream, first + (uint64_t)c);
        COHORT_TRY(set_quantized(loader, part, row));
    }
    loader->done_bytes += part_elements(part) * cohort_dtype_bytes(loader->model->dtype);
    return report(loader);
}

static cohort_status make_part(struct loader *loader, const struct part *part) {
    uint64_t stream = cohort_random_stream(loader->model->options.seed, part->name);
    if (part->vector) {
        for (int32_t i = part->rows.begin; i < part->rows.end; i++)
            loader->slab[i - part->rows.begin] =
                is_norm(part->name) ? 1 : dummy_value(stream, (uint64_t)i);
        cohort_view to = {part->vector, part->to};
        return loader->model->ops->upload(loader->model->backend, to, loader->slab,
                                          cohort_span_size(part->rows));
    }
    if (part->is_quantized) return make_quantized(loader, part, stream);
    int64_t width = cohort_span_size(part->columns);
    int64_t slab = SLAB_BYTES / (int64_t)sizeof(float) / width + 1;
    for (int64_t row = part->rows.begin; row < part->rows.end; row += slab) {
        int64_t n = least(slab, part->rows.end - row);
        for (int64_t r = 0; r < n; r++) {
            uint64_t first =
                (uint64_t)((row + r) * part->n_columns + part->columns.begin);
            for (int64_t c = 0; c < width; c++)
                loader->slab[r * width + c] = dummy_value(stream, first + (uint64_t)c);
        }
        COHORT_TRY(loader->model->ops->linear_set(part->linear, COHORT_VALUES,
                                                  part->to + row - part->rows.begin, n,
                                                  loader->slab, COHORT_F32, width));
        loader->done_bytes +=
            (size_t)(n * width) * cohort_dtype_bytes(loader->model->dtype);
        COHORT_TRY(report(loader));
    }
    return COHORT_OK;
}

static cohort_status make_dummies(struct loader *loader) {
    for (size_t i = 0; i < loader->n_parts; i++)
        COHORT_TRY(make_part(loader, &loader->parts[i]));
    loader->done_bytes = loader->total_bytes;
    loader->files_done = 1;
    return report(loader);
}

static cohort_status make_slab(struct loader *loader) {
    size_t widest = 0;
    for (size_t i = 0; i < loader->n_parts; i++) {
        const struct part *part = &loader->parts[i];
        size_t element = part->tensor ? part->tensor->element_bytes : sizeof(float);
        size_t row = part->n_columns
                         ? (size_t)part->n_columns * element
                         : (size_t)cohort_span_size(part->rows) * sizeof(float);
        if (row > widest) widest = row;
    }
    loader->slab = malloc(SLAB_BYTES + widest);
    /* What is not used takes no memory. */
    loader->row = malloc(COHORT_ARCH_MAX_WIDTH * sizeof *loader->row);
    loader->quantized = malloc(COHORT_ARCH_MAX_WIDTH);
    return loader->slab && loader->row && loader->quantized
               ? COHORT_OK
               : COHORT_FAIL(COHORT_E_NOMEM, "buffer of %zu bytes for loading",
                             SLAB_BYTES + widest);
}

static cohort_status run_loader(struct loader *loader) {
    bool was_kept;
    COHORT_TRY(cohort_model_memory_begin(loader->model, "weights", 0, &was_kept));
    if (!loader->model->options.dummy_weights && !was_kept)
        COHORT_TRY(
            cohort_safetensors_open(loader->model->model_dir, &loader->checkpoint));
    COHORT_TRY(list_all(loader));
    if (was_kept) return cohort_model_memory_end(loader->model);
    COHORT_TRY(check_parts(loader));
    COHORT_TRY(make_slab(loader));
    COHORT_TRY(loader->checkpoint ? load_files(loader) : make_dummies(loader));
    return cohort_model_memory_end(loader->model);
}

cohort_status cohort_model_weights_load(cohort_model *model,
                                        cohort_load_progress progress, void *user_data) {
    struct loader loader = {.model = model, .progress = progress, .user_data = user_data};
    cohort_status status = run_loader(&loader);
    cohort_safetensors_close(loader.checkpoint);
    free(loader.slab);
    free(loader.row);
    free(loader.quantized);
    free(loader.parts);
    if (status < 0) cohort_model_weights_destroy(model);
    return status;
}

static void destroy_layer(cohort_model *model, cohort_model_layer *layer) {
    const cohort_backend_ops *ops = model->ops;
    cohort_linear *linears[] = {layer->qkv, layer->out, layer->gate_up, layer->down,
                                layer->router};
    cohort_buffer *vectors[] = {layer->attention_norm, layer->attention_norm_bias,
                                layer->mlp_norm,       layer->mlp_norm_bias,
                                layer->qkv_bias,       layer->gate_up_bias,
                                layer->out_bias,       layer->down_bias,
                                layer->q_norm,         layer->k_norm};
    for (size_t i = 0; i < sizeof linears / sizeof *linears; i++)
        if (linears[i]) ops->linear_destroy(linears[i]);
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        if (vectors[i]) ops->buffer_destroy(vectors[i]);
    for (int32_t e = 0; e < model->config.n_experts; e++) {
        if (layer->expert_gate_up && layer->expert_gate_up[e])
            ops->linear_destroy(layer->expert_gate_up[e]);
        if (layer->expert_down && layer->expert_down[e])
            ops->linear_destroy(layer->expert_down[e]);
    }
    free(layer->expert_gate_up);
    free(layer->expert_down);
    *layer = (cohort_model_layer){0};
}

void cohort_model_weights_destroy(cohort_model *model) {
    for (int32_t i = 0; model->layers && i < cohort_span_size(model->shard.layers); i++)
        destroy_layer(model, &model->layers[i]);
    if (model->head && model->head != model->embedding)
        model->ops->linear_destroy(model->head);
    if (model->embedding) model->ops->linear_destroy(model->embedding);
    if (model->positions) model->ops->linear_destroy(model->positions);
    if (model->final_norm) model->ops->buffer_destroy(model->final_norm);
    if (model->final_norm_bias) model->ops->buffer_destroy(model->final_norm_bias);
    model->head = model->embedding = model->positions = NULL;
    model->final_norm = model->final_norm_bias = NULL;
    model->weight_bytes = 0;
}
