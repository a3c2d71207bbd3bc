/* SPDX-License-Identifier: Apache-2.0 */
/* The table's operations: handles become addresses, the step's batch is added, and what
 * comes after an error is left out. */
#include "model/cpu/cpu_internal.h"

static cohort_attention of_step(const cohort_backend *backend,
                                const cohort_heads *heads) {
    return (cohort_attention){.sequences = backend->step.sequences,
                              .n_sequences = backend->step.batch.n_sequences,
                              .n_heads = heads->n_heads,
                              .n_kv_heads = heads->n_kv_heads,
                              .head_dim = heads->head_dim,
                              .scale = heads->scale,
                              .sliding_window = heads->sliding_window};
}

void cohort_cpu_op_embed(cohort_backend *backend, const cohort_op_embed *op) {
    if (cohort_cpu_failed(backend)) return;
    const cohort_cpu_step *step = &backend->step;
    const int32_t *from = op->positions ? step->positions : step->ids;
    for (int32_t i = 0; i < step->batch.n_rows; i++) {
        int64_t row = (int64_t)from[i] + op->shift;
        step->lookup[i] = row >= 0 && row < op->table->n_out ? (int32_t)row : -1;
    }
    cohort_cpu_embed(backend, op->table, step->lookup, step->batch.n_rows,
                     cohort_cpu_floats(op->y));
}

void cohort_cpu_op_linear(cohort_backend *backend, const cohort_op_linear *op) {
    if (cohort_cpu_failed(backend)) return;
    cohort_cpu_linear(backend, op->weight, cohort_cpu_vector(op->bias),
                      cohort_cpu_floats(op->x), op->x_stride, cohort_cpu_floats(op->y),
                      op->y_stride, op->n_rows);
}

void cohort_cpu_op_norm(cohort_backend *backend, const cohort_op_norm *op) {
    if (cohort_cpu_failed(backend)) return;
    const float *x = cohort_cpu_floats(op->x);
    float *y = cohort_cpu_floats(op->y);
    if (op->centred)
        cohort_cpu_layer_norm(backend, x, cohort_cpu_vector(op->weight),
                              cohort_cpu_vector(op->bias), op->eps, y, op->n_rows,
                              op->n_columns);
    else
        cohort_cpu_rms_norm(backend, x, cohort_cpu_vector(op->weight), op->eps, y,
                            op->n_rows, op->n_columns);
}

void cohort_cpu_op_add(cohort_backend *backend, const cohort_op_add *op) {
    if (cohort_cpu_failed(backend)) return;
    cohort_cpu_add(backend, cohort_cpu_floats(op->y), cohort_cpu_floats(op->x),
                   op->count);
}

void cohort_cpu_op_rotate(cohort_backend *backend, const cohort_op_rotate *op) {
    if (cohort_cpu_failed(backend)) return;
    const cohort_attention shape = of_step(backend, &op->heads);
    cohort_cpu_qk_norm_rope(backend, &shape, cohort_cpu_floats(op->qkv), op->qkv_stride,
                            cohort_cpu_vector(op->q_norm), cohort_cpu_vector(op->k_norm),
                            op->eps, cohort_cpu_vector(op->cos),
                            cohort_cpu_vector(op->sin));
}

void cohort_cpu_op_store(cohort_backend *backend, const cohort_op_attention *op) {
    if (cohort_cpu_failed(backend)) return;
    const cohort_attention shape = of_step(backend, &op->heads);
    cohort_cpu_store(backend, op->kv, op->layer, &shape, cohort_cpu_floats(op->qkv),
                     op->qkv_stride);
}

void cohort_cpu_op_attend(cohort_backend *backend, const cohort_op_attention *op) {
    if (cohort_cpu_failed(backend)) return;
    const cohort_attention shape = of_step(backend, &op->heads);
    cohort_cpu_attention(backend, op->kv, op->layer, &shape, cohort_cpu_floats(op->qkv),
                         op->qkv_stride, cohort_cpu_floats(op->out));
}

void cohort_cpu_op_activate(cohort_backend *backend, const cohort_op_activate *op) {
    if (cohort_cpu_failed(backend)) return;
    cohort_cpu_activate(backend, op->activation, op->gated, cohort_cpu_floats(op->x),
                        cohort_cpu_floats(op->y), op->n_rows, op->n);
}

static int32_t *ids_at(cohort_view view) {
    return (int32_t *)(void *)cohort_cpu_floats(view); /* 4 bytes, too */
}

void cohort_cpu_op_route(cohort_backend *backend, const cohort_op_route *op) {
    if (cohort_cpu_failed(backend)) return;
    cohort_cpu_route(backend, cohort_cpu_floats(op->logits), op->n_rows, op->n_experts,
                     op->top_k, op->renormalise, ids_at(op->ids),
                     cohort_cpu_floats(op->weights));
}

void cohort_cpu_op_experts(cohort_backend *backend, const cohort_op_experts *op) {
    if (cohort_cpu_failed(backend)) return;
    cohort_cpu_experts(backend, op->gate_up, op->down, op->n_experts, ids_at(op->ids),
                       cohort_cpu_floats(op->weights), op->top_k,
                       cohort_cpu_floats(op->x), cohort_cpu_floats(op->y), op->n_rows,
                       op->n_in, op->n_inner);
}

void cohort_cpu_op_take(cohort_backend *backend, const cohort_op_take *op) {
    if (cohort_cpu_failed(backend)) return;
    const float *x = cohort_cpu_floats(op->x);
    float *y = cohort_cpu_floats(op->y);
    for (int32_t i = 0; i < op->n_rows; i++)
        memcpy(y + i * op->n_columns,
               x + backend->step.logit_rows[op->first + i] * op->n_columns,
               (size_t)op->n_columns * sizeof *y);
}
