/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/fail.h"
#include "model/cpu/cpu_internal.h"

/* ---- what is kept of a step -------------------------------------------------------- */

static size_t cache_lines(size_t bytes) {
    return (bytes + COHORT_CPU_ALIGN - 1) / COHORT_CPU_ALIGN * COHORT_CPU_ALIGN;
}

cohort_status cohort_cpu_step_create(cohort_backend *backend) {
    cohort_cpu_step *step = &backend->step;
    const cohort_backend_options *options = &backend->options;
    size_t rows = (size_t)options->max_rows, sequences = (size_t)options->max_sequences;
    size_t tables = sequences * (size_t)options->max_blocks;
    const struct {
        void *to;
        size_t bytes;
    } parts[] = {
        {&step->ids, rows * sizeof *step->ids},
        {&step->positions, rows * sizeof *step->positions},
        {&step->logit_rows, rows * sizeof *step->logit_rows},
        {&step->lookup, rows * sizeof *step->lookup},
        {&step->sequences, sequences * sizeof *step->sequences},
        {&step->last_tokens, sequences * sizeof *step->last_tokens},
        {&step->drawn, rows * sizeof *step->drawn},
        {&step->block_tables, tables * sizeof *step->block_tables},
    };
    const size_t n_parts = sizeof parts / sizeof *parts;
    size_t bytes = COHORT_CPU_ALIGN;
    for (size_t i = 0; i < n_parts; i++)
        bytes += cache_lines(parts[i].bytes);
    unsigned char *memory = aligned_alloc(COHORT_CPU_ALIGN, bytes);
    if (!memory) return COHORT_FAIL(COHORT_E_NOMEM, "a step of %zu rows", rows);
    memset(memory, 0, bytes - cache_lines(tables * sizeof *step->block_tables));
    for (size_t i = 0; i < n_parts; i++) {
        memcpy(parts[i].to, &memory, sizeof memory);
        memory += cache_lines(parts[i].bytes);
    }
    return COHORT_OK;
}

void cohort_cpu_step_destroy(cohort_backend *backend) { free(backend->step.ids); }

static void take_sequence(cohort_backend *backend, const cohort_batch *batch, int32_t i) {
    cohort_cpu_step *step = &backend->step;
    const cohort_sequence *from = &batch->sequences[i];
    int32_t *table = step->block_tables + (int64_t)i * backend->options.max_blocks;
    int32_t n_tokens = from->n_computed + from->n_rows,
            each = backend->options.block_size;
    memcpy(table, from->block_table,
           (size_t)((n_tokens + each - 1) / each) * sizeof *table);
    step->sequences[i] = *from;
    step->sequences[i].block_table = table;
    for (int32_t r = 0; r < from->n_rows; r++) {
        int32_t row = from->row_begin + r, id = batch->token_ids[row];
        step->ids[row] = id == COHORT_LAST_TOKEN ? step->last_tokens[from->slot] : id;
        step->positions[row] = from->n_computed + r;
        if (from->n_rows - r <= batch->n_logit_rows[i])
            step->logit_rows[step->n_logit_rows++] = row;
    }
}

cohort_status cohort_cpu_check(const cohort_backend *backend) {
    return cohort_cpu_failed(backend) ? cohort_fail_adopt(&backend->error) : COHORT_OK;
}

cohort_status cohort_cpu_step_begin(cohort_backend *backend, const cohort_batch *batch) {
    cohort_cpu_step *step = &backend->step;
    COHORT_TRY(cohort_cpu_check(backend));
    step->n_logit_rows = 0;
    for (int32_t i = 0; i < batch->n_sequences; i++)
        take_sequence(backend, batch, i);
    step->batch = *batch;
    step->batch.token_ids = step->ids;
    step->batch.sequences = step->sequences;
    step->batch.n_logit_rows = NULL; /* they are in logit_rows now */
    return COHORT_OK;
}

cohort_status cohort_cpu_step_end(cohort_backend *backend) {
    backend->step.batch = (cohort_batch){0};
    return cohort_cpu_check(backend);
}

void cohort_cpu_at_layer(cohort_backend *backend, int32_t layer) {
    backend->layer = layer;
}

void cohort_cpu_fail(cohort_backend *backend, cohort_status status) {
    if (status >= 0 || cohort_cpu_failed(backend)) return;
    if (backend->layer >= 0)
        cohort_fail_while(status, "computing layer %d", backend->layer);
    backend->error = *cohort_last_error();
}

/* ---- between ranks ----------------------------------------------------------------- */

void cohort_cpu_regroup(cohort_backend *backend, cohort_group *tp_group,
                        cohort_group *pp_group) {
    backend->options.tp_group = tp_group;
    backend->options.pp_group = pp_group;
    backend->error = (cohort_error){0};
    backend->step.batch = (cohort_batch){0};
}

void cohort_cpu_all_reduce(cohort_backend *backend, cohort_view values, int64_t count) {
    if (cohort_cpu_failed(backend)) return;
    cohort_cpu_fail(backend,
                    cohort_all_reduce(backend->options.tp_group, COHORT_F32, COHORT_SUM,
                                      cohort_cpu_floats(values), (size_t)count,
                                      backend->step.batch.deadline_ns));
}

void cohort_cpu_receive(cohort_backend *backend, cohort_view to, int64_t count) {
    if (cohort_cpu_failed(backend)) return;
    cohort_group *group = backend->options.pp_group;
    int32_t stage = cohort_group_rank(group) - 1;
    cohort_status status =
        cohort_recv(group, stage, cohort_cpu_floats(to), (size_t)count * sizeof(float),
                    backend->step.batch.deadline_ns);
    if (status < 0)
        cohort_fail_while(status, "receiving activations from stage %d", stage);
    cohort_cpu_fail(backend, status);
}

void cohort_cpu_send(cohort_backend *backend, cohort_view from, int64_t count) {
    if (cohort_cpu_failed(backend)) return;
    cohort_group *group = backend->options.pp_group;
    int32_t stage = cohort_group_rank(group) + 1;
    cohort_status status =
        cohort_send(group, stage, cohort_cpu_floats(from), (size_t)count * sizeof(float),
                    backend->step.batch.deadline_ns);
    if (status < 0) cohort_fail_while(status, "sending activations to stage %d", stage);
    cohort_cpu_fail(backend, status);
}

/* One row at a time: it comes in vocabulary order. */
void cohort_cpu_gather(cohort_backend *backend, const cohort_op_gather *op) {
    cohort_group *group = backend->options.tp_group;
    int32_t rank = cohort_group_rank(group);
    size_t width = 0, mine = op->part_bytes[rank] / sizeof(float);
    for (int32_t i = 0; i < cohort_group_size(group); i++)
        width += op->part_bytes[i] / sizeof(float);
    for (int32_t r = 0; r < op->n_rows && !cohort_cpu_failed(backend); r++) {
        const float *x = cohort_cpu_floats(op->x) + (size_t)r * mine;
        float *y = rank == 0 ? cohort_cpu_floats(op->y) + (size_t)r * width : NULL;
        cohort_cpu_fail(backend, cohort_gather(group, 0, x, op->part_bytes, y,
                                               backend->step.batch.deadline_ns));
    }
}
