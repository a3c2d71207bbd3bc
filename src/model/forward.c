/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "base/fail.h"
#include "model/arch/arch.h"
#include "model/model_internal.h"

/* Design notes.
 *
 * Written once for all architectures and devices: what one lacks (a bias, a norm, rope)
 * is NULL.  Operations are enqueued in order; nothing here waits, but step_end at the
 * end, and what a sink is to see.  Nothing allocates.
 *
 * Between two all-reduces every tp rank holds the same residual rows, bit for bit,
 * because the reduction hands the same sums to everybody; each rank's heads and columns
 * give a part of the next sum.  Biases of such sums lie on tp rank 0 alone, so they are
 * added once.  The router of a mixture of experts is computed by every rank from those
 * same rows, with the same result.
 *
 * A device may do in one operation what is two or three here: see the compositions. */

struct step {
    const cohort_model *model;
    const cohort_backend_ops *ops;
    cohort_backend *backend;
    const cohort_batch *batch;
    int64_t rows, width;   /* rows: of the batch, or more; width: hidden_size */
    bool is_replayed;      /* all is enqueued up to the first rows of logits */
    cohort_buffer *hidden; /* the residual stream, [rows, width] */
    cohort_buffer *normed; /* what a block reads, and then what it adds */
    int64_t draw_deadline_ns;
    bool has_masks;
};

static cohort_view from_row(cohort_buffer *buffer, int64_t row, int64_t width) {
    return (cohort_view){buffer, row * width};
}

static cohort_view all_of(cohort_buffer *buffer) { return (cohort_view){buffer, 0}; }

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
    if (sequence->slot < 0 || sequence->slot >= model->options.max_num_seqs)
        return COHORT_FAIL(COHORT_E_INVALID, "sequence %d of the batch: slot %d of %d", i,
                           sequence->slot, model->options.max_num_seqs);
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
    if (!sink && !batch->samples && cohort_model_is_output_rank(model))
        return COHORT_FAIL(COHORT_E_INVALID,
                           "the output rank needs samples or a logits sink");
    if (batch->n_rows < 1 || batch->n_rows > model->options.max_num_batched_tokens)
        return COHORT_FAIL(COHORT_E_INVALID, "a batch of %d tokens; the limit is %d",
                           batch->n_rows, model->options.max_num_batched_tokens);
    if (batch->n_sequences < 1 || batch->n_sequences > model->options.max_num_seqs)
        return COHORT_FAIL(COHORT_E_INVALID, "a batch of %d sequences; the limit is %d",
                           batch->n_sequences, model->options.max_num_seqs);
    for (int32_t i = 0; i < batch->n_rows; i++)
        if (batch->token_ids[i] != COHORT_LAST_TOKEN &&
            (batch->token_ids[i] < 0 || batch->token_ids[i] >= model->config.vocab_size))
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

/* ---- compositions ------------------------------------------------------------------ */

/* norm NULL: none. */
static void norm_linear(const struct step *step, const cohort_op_norm *norm,
                        const cohort_op_linear *linear) {
    if (norm && step->ops->norm_linear) {
        step->ops->norm_linear(step->backend, norm, linear);
        return;
    }
    if (norm) step->ops->norm(step->backend, norm);
    step->ops->linear(step->backend, linear);
}

static void norm_linear_activate(const struct step *step, const cohort_op_norm *norm,
                                 const cohort_op_linear *linear,
                                 const cohort_op_activate *activate) {
    if (step->ops->norm_linear_activate) {
        step->ops->norm_linear_activate(step->backend, norm, linear, activate);
        return;
    }
    norm_linear(step, norm, linear);
    step->ops->activate(step->backend, activate);
}

static void rotate_store(const struct step *step, const cohort_op_rotate *rotate,
                         const cohort_op_attention *store) {
    bool rotates = rotate->q_norm || rotate->cos;
    if (rotates && step->ops->rotate_store) {
        step->ops->rotate_store(step->backend, rotate, store);
        return;
    }
    if (rotates) step->ops->rotate(step->backend, rotate);
    step->ops->store(step->backend, store);
}

/* May products add to the residual themselves?  Not where ranks have a part each. */
static bool adds_at_once(const struct step *step) {
    return step->ops->linear_add && step->model->options.tp_size == 1;
}

/* ---- layers ------------------------------------------------------------------------ */

static void sum_over_ranks(const struct step *step, cohort_buffer *values) {
    if (step->model->options.tp_size > 1)
        step->ops->all_reduce(step->backend, all_of(values), step->rows * step->width);
}

static void embed(const struct step *step) {
    const cohort_model *model = step->model;
    const cohort_op_embed tokens = {.table = model->embedding,
                                    .shift = -model->shard.vocab.begin,
                                    .y = all_of(step->hidden)};
    step->ops->embed(step->backend, &tokens);
    sum_over_ranks(step, step->hidden);
    if (!model->positions) return;
    /* Learned positions; every rank has the whole table. */
    const cohort_op_embed positions = {.table = model->positions,
                                       .positions = true,
                                       .shift = model->config.arch->position_shift,
                                       .y = all_of(step->normed)};
    const cohort_op_add add = {.y = all_of(step->hidden),
                               .x = all_of(step->normed),
                               .count = step->rows * step->width};
    step->ops->embed(step->backend, &positions);
    step->ops->add(step->backend, &add);
}

static cohort_op_norm norm_of(const struct step *step, const cohort_buffer *weight,
                              const cohort_buffer *bias, int64_t row, int64_t rows) {
    return (cohort_op_norm){.centred = step->model->config.arch->centred_norms,
                            .weight = weight,
                            .bias = bias,
                            .eps = step->model->config.norm_eps,
                            .x = from_row(step->hidden, row, step->width),
                            .y = from_row(step->normed, row, step->width),
                            .n_rows = rows,
                            .n_columns = step->width};
}

/* What attention and MLP share: a sum goes to the residual, which is normalised here
 * where norms come after.  Where products added at once, sum is NULL. */
static void add_to_residual(struct step *step, cohort_buffer *sum,
                            const cohort_buffer *norm, const cohort_buffer *bias) {
    if (sum) {
        const cohort_op_add add = {.y = all_of(step->hidden),
                                   .x = all_of(sum),
                                   .count = step->rows * step->width};
        sum_over_ranks(step, sum);
        step->ops->add(step->backend, &add);
    }
    if (!step->model->config.norm_after) return;
    const cohort_op_norm after = norm_of(step, norm, bias, 0, step->rows);
    step->ops->norm(step->backend, &after);
    cohort_buffer *swap = step->hidden;
    step->hidden = step->normed;
    step->normed = swap;
}

/* A product whose result is part of a sum for the residual, rows of it from one on. */
static void linear_to_sum(const struct step *step, cohort_op_linear linear,
                          cohort_buffer *sum, int64_t row) {
    bool at_once = adds_at_once(step);
    linear.y = from_row(at_once ? step->hidden : sum, row, step->width);
    linear.y_stride = step->width;
    (at_once ? step->ops->linear_add : step->ops->linear)(step->backend, &linear);
}

static void attention(struct step *step, const cohort_model_layer *layer, int32_t local) {
    const cohort_model *model = step->model;
    const cohort_model_config *config = &model->config;
    bool full = cohort_layer_bit(config->full_layers, model->shard.layers.begin + local);
    const cohort_heads heads = {
        .n_heads = cohort_span_size(model->shard.heads),
        .n_kv_heads = cohort_span_size(model->shard.kv_heads),
        .head_dim = config->head_dim,
        .scale = (float)(1 / sqrt((double)config->head_dim)),
        .sliding_window = full ? 0 : config->sliding_window,
    };
    int64_t attended_width = (int64_t)heads.n_heads * heads.head_dim;
    int64_t qkv_width = attended_width + (int64_t)2 * heads.n_kv_heads * heads.head_dim;
    const cohort_op_norm norm =
        norm_of(step, layer->attention_norm, layer->attention_norm_bias, 0, step->rows);
    const cohort_op_linear qkv = {.weight = layer->qkv,
                                  .bias = layer->qkv_bias,
                                  .x = config->norm_after ? norm.x : norm.y,
                                  .x_stride = step->width,
                                  .y = all_of(model->qkv),
                                  .y_stride = qkv_width,
                                  .n_rows = step->rows};
    const cohort_op_rotate rotate = {.heads = heads,
                                     .qkv = all_of(model->qkv),
                                     .qkv_stride = qkv_width,
                                     .q_norm = layer->q_norm,
                                     .k_norm = layer->k_norm,
                                     .eps = config->norm_eps,
                                     .cos = model->cos,
                                     .sin = model->sin};
    const cohort_op_attention attend = {.kv = model->kv,
                                        .layer = local,
                                        .heads = heads,
                                        .qkv = all_of(model->qkv),
                                        .qkv_stride = qkv_width,
                                        .out = all_of(model->attended)};
    const cohort_op_linear out = {.weight = layer->out,
                                  .bias = layer->out_bias,
                                  .x = all_of(model->attended),
                                  .x_stride = attended_width,
                                  .n_rows = step->rows};
    norm_linear(step, config->norm_after ? NULL : &norm, &qkv);
    rotate_store(step, &rotate, &attend);
    step->ops->attend(step->backend, &attend);
    linear_to_sum(step, out, step->normed, 0);
    add_to_residual(step, adds_at_once(step) ? NULL : step->normed, layer->attention_norm,
                    layer->attention_norm_bias);
}

/* A plain MLP on some rows. */
static void mlp_rows(const struct step *step, const cohort_model_layer *layer,
                     const cohort_op_norm *norm, cohort_view x, int64_t row,
                     int64_t rows) {
    const cohort_model *model = step->model;
    const cohort_arch *arch = model->config.arch;
    bool gated = arch->tensors.gate != NULL;
    int64_t inner = cohort_span_size(model->shard.mlp);
    const cohort_op_linear gate_up = {.weight = layer->gate_up,
                                      .bias = layer->gate_up_bias,
                                      .x = x,
                                      .x_stride = step->width,
                                      .y = all_of(model->wide),
                                      .y_stride = gated ? 2 * inner : inner,
                                      .n_rows = rows};
    const cohort_op_activate activate = {.activation = arch->activation,
                                         .gated = gated,
                                         .x = all_of(model->wide),
                                         .y = all_of(model->narrow),
                                         .n_rows = rows,
                                         .n = inner};
    const cohort_op_linear down = {.weight = layer->down,
                                   .bias = layer->down_bias,
                                   .x = all_of(model->narrow),
                                   .x_stride = inner,
                                   .n_rows = rows};
    norm_linear_activate(step, norm, &gate_up, &activate);
    linear_to_sum(step, down, step->normed, row);
}

static void expert_rows(const struct step *step, const cohort_model_layer *layer,
                        const cohort_op_norm *norm, cohort_view x, int64_t row,
                        int64_t rows) {
    const cohort_model *model = step->model;
    const cohort_model_config *config = &model->config;
    const cohort_op_linear router = {.weight = layer->router,
                                     .x = x,
                                     .x_stride = step->width,
                                     .y = all_of(model->wide),
                                     .y_stride = config->n_experts,
                                     .n_rows = rows};
    const cohort_op_route route = {.logits = all_of(model->wide),
                                   .n_rows = rows,
                                   .n_experts = config->n_experts,
                                   .top_k = config->n_experts_per_token,
                                   .renormalise = config->norm_topk_prob,
                                   .ids = all_of(model->route_ids),
                                   .weights = all_of(model->route_weights)};
    const cohort_op_experts experts = {.gate_up = layer->expert_gate_up,
                                       .down = layer->expert_down,
                                       .n_experts = config->n_experts,
                                       .top_k = config->n_experts_per_token,
                                       .ids = all_of(model->route_ids),
                                       .weights = all_of(model->route_weights),
                                       .x = x,
                                       .y = from_row(model->expert_sum, row, step->width),
                                       .n_rows = rows,
                                       .n_in = step->width,
                                       .n_inner =
                                           cohort_span_size(model->shard.experts_mlp)};
    /* Router and experts both read what was normalised. */
    if (norm) step->ops->norm(step->backend, norm);
    step->ops->linear(step->backend, &router);
    step->ops->route(step->backend, &route);
    step->ops->experts(step->backend, &experts);
}

static void mlp(struct step *step, const cohort_model_layer *layer) {
    bool after = step->model->config.norm_after;
    for (int64_t row = 0; row < step->rows; row += COHORT_MLP_ROWS) {
        int64_t rows = step->rows - row;
        if (rows > COHORT_MLP_ROWS) rows = COHORT_MLP_ROWS;
        const cohort_op_norm norm =
            norm_of(step, layer->mlp_norm, layer->mlp_norm_bias, row, rows);
        (layer->router ? expert_rows : mlp_rows)(step, layer, after ? NULL : &norm,
                                                 after ? norm.x : norm.y, row, rows);
    }
    cohort_buffer *sum = layer->router ? step->model->expert_sum : step->normed;
    if (!layer->router && adds_at_once(step)) sum = NULL;
    add_to_residual(step, sum, layer->mlp_norm, layer->mlp_norm_bias);
}

/* ---- logits ------------------------------------------------------------------------ */

static cohort_status give_logits(const struct step *step, cohort_buffer *logits,
                                 int32_t first, int32_t rows, cohort_logits_sink sink,
                                 void *user_data) {
    const cohort_model *model = step->model;
    int32_t vocab_size = model->config.vocab_size;
    if (!cohort_model_is_output_rank(model)) return COHORT_OK;
    COHORT_TRY(step->ops->download(step->backend, all_of(logits), model->host_logits,
                                   (int64_t)rows * vocab_size));
    return sink(user_data, first, rows, model->host_logits, vocab_size);
}

static cohort_status draw(struct step *step, cohort_buffer *logits, int32_t first,
                          int32_t rows) {
    const cohort_model *model = step->model;
    if (!cohort_model_is_output_rank(model) && !model->options.share_tokens)
        return COHORT_OK;
    COHORT_TRY(step->ops->check(step->backend));
    if (step->batch->await_masks && !step->has_masks)
        COHORT_TRY(
            step->batch->await_masks(step->batch->user_data, &step->draw_deadline_ns));
    step->has_masks = true;
    const cohort_op_sample sample = {.logits = all_of(logits),
                                     .first = first,
                                     .n_rows = rows,
                                     .deadline_ns = step->draw_deadline_ns};
    step->ops->sample(step->backend, &sample);
    return COHORT_OK;
}

/* The head of a few logit rows, and what becomes of those that are wanted. */
static cohort_status head_rows(struct step *step, int32_t first, int32_t rows,
                               int32_t wanted, cohort_logits_sink sink, void *user_data) {
    const cohort_model *model = step->model;
    bool parts = model->options.tp_size > 1;
    const cohort_op_take take = {.x = all_of(step->hidden),
                                 .y = all_of(step->normed),
                                 .n_columns = step->width,
                                 .first = first,
                                 .n_rows = rows};
    cohort_op_norm norm =
        norm_of(step, model->final_norm, model->final_norm_bias, 0, rows);
    norm.x = norm.y;
    const cohort_op_linear head = {.weight = model->head,
                                   .x = norm.y,
                                   .x_stride = step->width,
                                   .y = all_of(model->logits),
                                   .y_stride = cohort_span_size(model->shard.vocab),
                                   .n_rows = rows};
    const cohort_op_gather gather = {.x = all_of(model->logits),
                                     .y = all_of(model->whole_logits),
                                     .part_bytes = model->logit_bytes,
                                     .n_rows = rows};
    cohort_buffer *logits = parts ? model->whole_logits : model->logits;
    if (!step->is_replayed || first > 0) {
        step->ops->take(step->backend, &take);
        norm_linear(step, model->final_norm ? &norm : NULL, &head);
        if (parts) step->ops->gather(step->backend, &gather);
    }
    if (!step->batch->samples)
        return give_logits(step, logits, first, wanted, sink, user_data);
    return draw(step, logits, first, wanted);
}

static int32_t in_one_go(int32_t rows) {
    return rows < COHORT_LOGIT_ROWS ? rows : COHORT_LOGIT_ROWS;
}

static cohort_status head(struct step *step, cohort_logits_sink sink, void *user_data) {
    int32_t n = 0, more = (int32_t)step->rows - step->batch->n_rows;
    for (int32_t i = 0; i < step->batch->n_sequences; i++)
        n += step->batch->n_logit_rows[i];
    for (int32_t row = 0; row < n; row += COHORT_LOGIT_ROWS) {
        int32_t rows = in_one_go(n + more - row), wanted = in_one_go(n - row);
        COHORT_TRY(head_rows(step, row, rows, wanted, sink, user_data));
    }
    return COHORT_OK;
}

static cohort_status layers(struct step *step) {
    const cohort_model *model = step->model;
    int64_t count = step->rows * step->width;
    if (model->shard.first_stage)
        embed(step);
    else
        step->ops->receive(step->backend, all_of(step->hidden), count);
    for (int32_t i = 0; i < cohort_span_size(model->shard.layers); i++) {
        if (step->batch->check) COHORT_TRY(step->batch->check(step->batch->user_data));
        step->ops->at_layer(step->backend, model->shard.layers.begin + i);
        attention(step, &model->layers[i], i);
        mlp(step, &model->layers[i]);
    }
    step->ops->at_layer(step->backend, -1);
    if (!model->shard.last_stage)
        step->ops->send(step->backend, all_of(step->hidden), count);
    return COHORT_OK;
}

static cohort_status compute(struct step *step, cohort_logits_sink sink,
                             void *user_data) {
    step->is_replayed =
        step->ops->replay && step->ops->replay(step->backend, &step->rows);
    if (!step->is_replayed) COHORT_TRY(layers(step));
    return step->model->shard.last_stage ? head(step, sink, user_data) : COHORT_OK;
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
                        .normed = model->normed,
                        .draw_deadline_ns = batch->deadline_ns};
    if (model->profile) {
        step.ops = cohort_profile_ops();
        step.backend = cohort_profile_backend(model->profile);
    }
    COHORT_TRY(step.ops->step_begin(step.backend, batch));
    cohort_status status = compute(&step, sink, user_data);
    cohort_status ended = step.ops->step_end(step.backend);
    return status < 0 ? status : ended;
}
