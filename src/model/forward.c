/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "base/fail.h"
#include "model/model_internal.h"

/* Design notes.
 *
 * Written once for all architectures: what one lacks (a bias, a norm, rope) is NULL.
 *
 * Between two all-reduces every tp rank holds the same residual rows, bit for bit,
 * because the reduction hands the same sums to everybody; each rank's heads and columns
 * give a part of the next sum.  Biases of such sums lie on tp rank 0 alone, so they are
 * added once.  The router of a mixture of experts is computed by every rank from those
 * same rows, with the same result.
 *
 * Only all-reduce, gather, send and recv wait, all with the batch's deadline.  Nothing
 * here allocates.
 *
 * Activations are f32 rows in memory that the host can read: collectives and the logits
 * sink take them from there. */

struct step {
    cohort_model *model;
    const cohort_backend_ops *ops;
    cohort_backend *backend;
    const cohort_batch *batch;
    int64_t rows, width; /* width: hidden_size */
    float *hidden;       /* the residual stream, [rows, width] */
    float *normed;       /* what a block reads, and then what it adds */
};

/* ---- the batch --------------------------------------------------------------------- */

static cohort_status check_sequence(const cohort_model *model, const cohort_batch *batch,
                                    int32_t i, int32_t row) {
    const cohort_sequence *sequence = &batch->sequences[i];
    int32_t block_size = model->options.block_size;
    if (sequence->row_begin != row || sequence->n_rows < 1 ||
        sequence->n_rows > batch->n_rows - row || batch->n_logit_rows[i] < 0 ||
        batch->n_logit_rows[i] > sequence->n_rows)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "sequence %d of the batch has %d rows from %d", i,
                           sequence->n_rows, sequence->row_begin);
    if (sequence->n_computed < 0 ||
        sequence->n_computed > model->max_model_len - sequence->n_rows)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "sequence %d of the batch: %d + %d tokens are more than "
                           "max_model_len %d",
                           i, sequence->n_computed, sequence->n_rows,
                           model->max_model_len);
    int32_t n_tokens = sequence->n_computed + sequence->n_rows;
    for (int32_t b = 0; b < (n_tokens + block_size - 1) / block_size; b++)
        if (sequence->block_table[b] < 0 || sequence->block_table[b] >= model->n_blocks)
            return COHORT_FAIL(COHORT_E_INVALID,
                               "sequence %d of the batch: block %d is none of %lld", i,
                               sequence->block_table[b], (long long)model->n_blocks);
    return COHORT_OK;
}

static cohort_status check_batch(const cohort_model *model, const cohort_batch *batch,
                                 cohort_logits_sink sink) {
    if (!model->loaded || !model->kv)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "forward before weights and cache are there");
    if (!sink && cohort_model_is_output_rank(model))
        return COHORT_FAIL(COHORT_E_INVALID, "the output rank needs a logits sink");
    if (batch->n_rows < 1 || batch->n_rows > model->options.max_num_batched_tokens)
        return COHORT_FAIL(COHORT_E_INVALID, "a batch of %d tokens; the limit is %d",
                           batch->n_rows, model->options.max_num_batched_tokens);
    if (batch->n_sequences < 1 || batch->n_sequences > model->options.max_num_seqs)
        return COHORT_FAIL(COHORT_E_INVALID, "a batch of %d sequences; the limit is %d",
                           batch->n_sequences, model->options.max_num_seqs);
    for (int32_t i = 0; i < batch->n_rows; i++)
        if (batch->token_ids[i] < 0 || batch->token_ids[i] >= model->config.vocab_size)
            return COHORT_FAIL(COHORT_E_INVALID,
                               "token %d is outside the vocabulary of %d",
                               batch->token_ids[i], model->config.vocab_size);
    int32_t row = 0;
    for (int32_t i = 0; i < batch->n_sequences; i++) {
        COHORT_TRY(check_sequence(model, batch, i, row));
        row += batch->sequences[i].n_rows;
    }
    if (row != batch->n_rows)
        return COHORT_FAIL(COHORT_E_INVALID, "a batch of %d tokens with %d in sequences",
                           batch->n_rows, row);
    return COHORT_OK;
}

/* ---- between ranks ----------------------------------------------------------------- */

static cohort_status sum_over_ranks(const struct step *step, float *values,
                                    int64_t count) {
    const cohort_model_options *options = &step->model->options;
    if (options->tp_size == 1) return COHORT_OK;
    return cohort_all_reduce(options->tp_group, COHORT_F32, COHORT_SUM, values,
                             (size_t)count, step->batch->deadline_ns);
}

static size_t hidden_bytes(const struct step *step) {
    return (size_t)(step->rows * step->width) * sizeof(float);
}

static cohort_status receive_hidden(const struct step *step) {
    const cohort_model_options *options = &step->model->options;
    COHORT_TRY_WHILE(cohort_recv(options->pp_group, options->pp_rank - 1, step->hidden,
                                 hidden_bytes(step), step->batch->deadline_ns),
                     "receiving activations from stage %d", options->pp_rank - 1);
    return COHORT_OK;
}

static cohort_status send_hidden(const struct step *step) {
    const cohort_model_options *options = &step->model->options;
    COHORT_TRY_WHILE(cohort_send(options->pp_group, options->pp_rank + 1, step->hidden,
                                 hidden_bytes(step), step->batch->deadline_ns),
                     "sending activations to stage %d", options->pp_rank + 1);
    return COHORT_OK;
}

/* ---- layers ------------------------------------------------------------------------ */

/* OPT's learned positions; every rank has the whole table. */
static void add_positions(const struct step *step) {
    cohort_model *model = step->model;
    for (int32_t i = 0; i < step->batch->n_sequences; i++) {
        const cohort_sequence *sequence = &step->batch->sequences[i];
        for (int32_t r = 0; r < sequence->n_rows; r++)
            model->ids[sequence->row_begin + r] =
                sequence->n_computed + r + COHORT_OPT_POSITIONS;
    }
    step->ops->embed(step->backend, model->positions, model->ids, step->rows,
                     step->normed);
    step->ops->add(step->backend, step->hidden, step->normed, step->rows * step->width);
}

static cohort_status embed(const struct step *step) {
    cohort_model *model = step->model;
    cohort_span vocab = model->shard.vocab;
    for (int64_t i = 0; i < step->rows; i++) {
        int32_t id = step->batch->token_ids[i];
        bool mine = id >= vocab.begin && id < vocab.end;
        model->ids[i] = mine ? id - vocab.begin : -1;
    }
    step->ops->embed(step->backend, model->embedding, model->ids, step->rows,
                     step->hidden);
    COHORT_TRY(sum_over_ranks(step, step->hidden, step->rows * step->width));
    if (model->positions) add_positions(step);
    return COHORT_OK;
}

static void normalise(const struct step *step, const float *weight, const float *bias,
                      const float *x, float *y, int64_t rows) {
    float eps = step->model->config.norm_eps;
    if (step->model->config.architecture == COHORT_ARCH_OPT)
        step->ops->layer_norm(step->backend, x, weight, bias, eps, y, rows, step->width);
    else
        step->ops->rms_norm(step->backend, x, weight, eps, y, rows, step->width);
}

/* What attention and MLP share: in `normed` lies the input, afterwards the sum to add. */
static cohort_status add_to_residual(struct step *step, float *sum, const float *norm,
                                     const float *norm_bias) {
    COHORT_TRY(sum_over_ranks(step, sum, step->rows * step->width));
    step->ops->add(step->backend, step->hidden, sum, step->rows * step->width);
    if (!step->model->config.norm_after) return COHORT_OK;
    normalise(step, norm, norm_bias, step->hidden, step->normed, step->rows);
    float *swap = step->hidden;
    step->hidden = step->normed;
    step->normed = swap;
    return COHORT_OK;
}

/* The rows a block reads: normed, or the residual itself where norms come after. */
static const float *block_input(const struct step *step, const float *norm,
                                const float *norm_bias) {
    if (step->model->config.norm_after) return step->hidden;
    normalise(step, norm, norm_bias, step->hidden, step->normed, step->rows);
    return step->normed;
}

static cohort_status attention(struct step *step, const cohort_model_layer *layer,
                               int32_t local) {
    cohort_model *model = step->model;
    const cohort_model_config *config = &model->config;
    bool full = cohort_layer_bit(config->full_layers, model->shard.layers.begin + local);
    const cohort_attention shape = {
        .sequences = step->batch->sequences,
        .n_sequences = step->batch->n_sequences,
        .n_heads = cohort_span_size(model->shard.heads),
        .n_kv_heads = cohort_span_size(model->shard.kv_heads),
        .head_dim = config->head_dim,
        .scale = (float)(1 / sqrt((double)config->head_dim)),
        .sliding_window = full ? 0 : config->sliding_window,
    };
    int64_t attended_width = (int64_t)shape.n_heads * shape.head_dim;
    int64_t qkv_width = attended_width + (int64_t)2 * shape.n_kv_heads * shape.head_dim;
    const float *input =
        block_input(step, layer->attention_norm, layer->attention_norm_bias);
    step->ops->linear(step->backend, layer->qkv, layer->qkv_bias, input, step->width,
                      model->qkv, qkv_width, step->rows);
    if (config->qk_norm || model->cos)
        step->ops->qk_norm_rope(step->backend, &shape, model->qkv, qkv_width,
                                layer->q_norm, layer->k_norm, config->norm_eps,
                                model->cos, model->sin);
    step->ops->attention(step->backend, model->kv, local, &shape, model->qkv, qkv_width,
                         model->attended);
    step->ops->linear(step->backend, layer->out, layer->out_bias, model->attended,
                      attended_width, step->normed, step->width, step->rows);
    return add_to_residual(step, step->normed, layer->attention_norm,
                           layer->attention_norm_bias);
}

/* A plain MLP on some rows; y may be x. */
static void mlp_rows(const struct step *step, const cohort_model_layer *layer,
                     const float *x, float *y, int64_t rows) {
    cohort_model *model = step->model;
    bool gated = model->config.architecture != COHORT_ARCH_OPT;
    int64_t inner = cohort_span_size(model->shard.mlp);
    int64_t wide = gated ? 2 * inner : inner;
    step->ops->linear(step->backend, layer->gate_up, layer->gate_up_bias, x, step->width,
                      model->wide, wide, rows);
    step->ops->activate(step->backend, gated ? COHORT_SILU : COHORT_RELU, gated,
                        model->wide, model->narrow, rows, inner);
    step->ops->linear(step->backend, layer->down, layer->down_bias, model->narrow, inner,
                      y, step->width, rows);
}

static void expert_rows(const struct step *step, const cohort_model_layer *layer,
                        const float *x, float *y, int64_t rows) {
    cohort_model *model = step->model;
    const cohort_model_config *config = &model->config;
    /* Backend memory has no type of its own: ids lie in what was allocated as floats. */
    int32_t *ids = (int32_t *)(void *)model->route_ids;
    step->ops->linear(step->backend, layer->router, NULL, x, step->width, model->wide,
                      config->n_experts, rows);
    step->ops->route(step->backend, model->wide, rows, config->n_experts,
                     config->n_experts_per_token, config->norm_topk_prob, ids,
                     model->route_weights);
    step->ops->experts(step->backend, layer->expert_gate_up, layer->expert_down,
                       config->n_experts, ids, model->route_weights,
                       config->n_experts_per_token, x, y, rows, step->width,
                       cohort_span_size(model->shard.experts_mlp));
}

static cohort_status mlp(struct step *step, const cohort_model_layer *layer) {
    const float *input = block_input(step, layer->mlp_norm, layer->mlp_norm_bias);
    float *sum = layer->router ? step->model->expert_sum : step->normed;
    for (int64_t row = 0; row < step->rows; row += COHORT_MLP_ROWS) {
        int64_t rows = step->rows - row;
        if (rows > COHORT_MLP_ROWS) rows = COHORT_MLP_ROWS;
        const float *x = input + row * step->width;
        float *y = sum + row * step->width;
        if (layer->router)
            expert_rows(step, layer, x, y, rows);
        else
            mlp_rows(step, layer, x, y, rows);
    }
    return add_to_residual(step, sum, layer->mlp_norm, layer->mlp_norm_bias);
}

/* ---- logits ------------------------------------------------------------------------ */

/* Final norm of the rows that give logits, one below the other into `normed`. */
static int32_t collect_logit_rows(const struct step *step) {
    const cohort_model *model = step->model;
    const cohort_batch *batch = step->batch;
    int32_t n = 0;
    for (int32_t i = 0; i < batch->n_sequences;) {
        int32_t end = batch->sequences[i].row_begin + batch->sequences[i].n_rows;
        int32_t begin = end - batch->n_logit_rows[i];
        /* Decoding sequences lie side by side: one call for a run of rows. */
        for (i++; i < batch->n_sequences &&
                  batch->n_logit_rows[i] == batch->sequences[i].n_rows;
             i++)
            end += batch->sequences[i].n_rows;
        if (begin == end) continue;
        const float *x = step->hidden + begin * step->width;
        float *y = step->normed + n * step->width;
        if (model->final_norm)
            normalise(step, model->final_norm, model->final_norm_bias, x, y, end - begin);
        else
            memcpy(y, x, (size_t)((end - begin) * step->width) * sizeof *y);
        n += end - begin;
    }
    return n;
}

/* Puts rows together on tp rank 0, one at a time: a gathered row is in vocabulary order
 * as it comes, and still in the cache when the sink reads it. */
static cohort_status gather_rows(const struct step *step, int32_t first, int32_t rows,
                                 cohort_logits_sink sink, void *user_data) {
    cohort_model *model = step->model;
    const cohort_model_options *options = &model->options;
    int64_t mine = cohort_span_size(model->shard.vocab);
    for (int32_t r = 0; r < rows; r++) {
        COHORT_TRY(cohort_gather(options->tp_group, 0, model->logits + r * mine,
                                 model->logit_bytes, model->logit_row,
                                 step->batch->deadline_ns));
        if (options->tp_rank == 0)
            COHORT_TRY(sink(user_data, first + r, 1, model->logit_row,
                            model->config.vocab_size));
    }
    return COHORT_OK;
}

static cohort_status head(const struct step *step, cohort_logits_sink sink,
                          void *user_data) {
    cohort_model *model = step->model;
    int64_t columns = cohort_span_size(model->shard.vocab);
    int32_t n = collect_logit_rows(step);
    for (int32_t row = 0; row < n; row += COHORT_LOGIT_ROWS) {
        int32_t rows = n - row < COHORT_LOGIT_ROWS ? n - row : COHORT_LOGIT_ROWS;
        step->ops->linear(step->backend, model->head, NULL,
                          step->normed + row * step->width, step->width, model->logits,
                          columns, rows);
        if (model->options.tp_size > 1)
            COHORT_TRY(gather_rows(step, row, rows, sink, user_data));
        else
            COHORT_TRY(
                sink(user_data, row, rows, model->logits, model->config.vocab_size));
    }
    return COHORT_OK;
}

cohort_status cohort_model_forward(cohort_model *model, const cohort_batch *batch,
                                   cohort_logits_sink sink, void *user_data) {
    COHORT_TRY(check_batch(model, batch, sink));
    struct step step = {.model = model,
                        .ops = model->ops,
                        .backend = model->backend,
                        .batch = batch,
                        .rows = batch->n_rows,
                        .width = model->config.hidden_size,
                        .hidden = model->hidden,
                        .normed = model->normed};
    COHORT_TRY(model->shard.first_stage ? embed(&step) : receive_hidden(&step));
    for (int32_t i = 0; i < cohort_span_size(model->shard.layers); i++) {
        COHORT_TRY_WHILE(attention(&step, &model->layers[i], i), "computing layer %d",
                         model->shard.layers.begin + i);
        COHORT_TRY_WHILE(mlp(&step, &model->layers[i]), "computing layer %d",
                         model->shard.layers.begin + i);
    }
    return model->shard.last_stage ? head(&step, sink, user_data) : send_hidden(&step);
}
