/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "model/cuda/cuda_internal.h"

/* ---- what a step is told ----------------------------------------------------------- */

/* One block, pinned on the host and once more on the device: what each row is, then the
 * block tables.  Its arrays are as long as the step has rows: little travels. */
static void lay_out(cohort_cuda_step *step, int32_t n_rows) {
    step->positions = step->ids + n_rows;
    step->sequences = step->positions + n_rows;
    step->logit_rows = step->sequences + n_rows;
    step->tables = step->logit_rows + n_rows;
}

cohort_status cohort_cuda_step_create(cohort_backend *backend) {
    cohort_cuda_step *step = &backend->step;
    const cohort_backend_options *options = &backend->options;
    size_t rows = (size_t)options->max_rows, sequences = (size_t)options->max_sequences;
    step->table_bytes = (size_t)options->max_blocks * sizeof(int32_t);
    step->bytes = 4 * rows * sizeof(int32_t) + sequences * step->table_bytes;
    void *host = NULL;
    COHORT_TRY(cohort_cuda_status(backend->cuda,
                                  backend->cuda->MemHostAlloc(&host, step->bytes, 0),
                                  "pinning memory for a step"));
    memset(host, 0, step->bytes);
    step->ids = host;
    step->last_tokens = calloc(sequences, sizeof *step->last_tokens);
    step->drawn = calloc(rows, sizeof *step->drawn);
    if (!step->last_tokens || !step->drawn)
        return COHORT_FAIL(COHORT_E_NOMEM, "a step of %zu rows", rows);
    COHORT_TRY(cohort_cuda_allocate(backend, step->bytes, "a step", &step->memory));
    if (!options->vocab_size) return COHORT_OK;
    void *logits = NULL;
    COHORT_TRY(cohort_cuda_status(
        backend->cuda,
        backend->cuda->MemHostAlloc(&logits,
                                    (size_t)COHORT_CUDA_LOGIT_ROWS *
                                        (size_t)options->vocab_size * sizeof(float),
                                    0),
        "pinning memory for logits"));
    backend->host_logits = logits;
    void *tokens = NULL;
    COHORT_TRY(cohort_cuda_status(
        backend->cuda,
        backend->cuda->MemHostAlloc(&tokens, COHORT_CUDA_LOGIT_ROWS * sizeof(int32_t), 0),
        "pinning memory for tokens"));
    backend->host_tokens = tokens;
    return cohort_sampler_create(options->vocab_size, &backend->sampler);
}

void cohort_cuda_step_destroy(cohort_backend *backend) {
    cohort_cuda_step *step = &backend->step;
    if (step->ids) backend->cuda->MemFreeHost(step->ids);
    if (backend->host_logits) backend->cuda->MemFreeHost(backend->host_logits);
    if (backend->host_tokens) backend->cuda->MemFreeHost(backend->host_tokens);
    cohort_cuda_release(backend, &step->memory);
    cohort_sampler_destroy(backend->sampler);
    free(step->last_tokens);
    free(step->drawn);
}

const int32_t *cohort_cuda_on_device(const cohort_backend *backend, const int32_t *host) {
    const cohort_cuda_step *step = &backend->step;
    return (const int32_t *)(step->memory.at + (size_t)(host - step->ids) * sizeof *host);
}

static void take_sequence(cohort_backend *backend, const cohort_batch *batch, int32_t i) {
    cohort_cuda_step *step = &backend->step;
    const cohort_sequence *from = &batch->sequences[i];
    int32_t each = backend->options.block_size;
    int32_t n_blocks = (from->n_computed + from->n_rows + each - 1) / each;
    memcpy(step->tables + (int64_t)i * backend->options.max_blocks, from->block_table,
           (size_t)n_blocks * sizeof *step->tables);
    if (from->n_rows == 1 && from->row_begin == step->n_single_first)
        step->n_single_first++;
    for (int32_t r = 0; r < from->n_rows; r++) {
        int32_t row = from->row_begin + r, id = batch->token_ids[row];
        step->ids[row] = id == COHORT_LAST_TOKEN ? step->last_tokens[from->slot] : id;
        step->positions[row] = from->n_computed + r;
        step->sequences[row] = i;
        if (from->n_rows - r <= batch->n_logit_rows[i])
            step->logit_rows[step->n_logit_rows++] = row;
    }
}

static bool all_give_logits(const cohort_batch *batch) {
    for (int32_t i = 0; i < batch->n_sequences; i++)
        if (batch->n_logit_rows[i] == 0) return false;
    return true;
}

/* Does a sequence read what another stores in this very step?  The scheduler may share a
 * block as soon as it enters the rows that fill it.  Who shares it has just begun, at the
 * start of a block, and has all that was before in common. */
static bool reads_stored(const cohort_batch *batch, int32_t block_size) {
    for (int32_t i = 0; i < batch->n_sequences; i++) {
        const cohort_sequence *reader = &batch->sequences[i];
        if (reader->n_computed == 0 || reader->n_computed % block_size) continue;
        for (int32_t j = 0; j < batch->n_sequences; j++) {
            const cohort_sequence *writer = &batch->sequences[j];
            int32_t block = writer->n_computed / block_size;
            if (j != i && block < reader->n_computed / block_size &&
                reader->block_table[block] == writer->block_table[block])
                return true;
        }
    }
    return false;
}

/* Rows that are nobody's; see graph.c. */
static void fill_up(cohort_cuda_step *step, int32_t n_rows) {
    for (int32_t row = step->batch.n_rows; row < n_rows; row++) {
        step->ids[row] = step->positions[row] = -1;
        step->sequences[row] = 0;
        step->logit_rows[row] = row;
    }
}

static cohort_status check(const cohort_backend *backend) {
    return cohort_cuda_failed(backend) ? cohort_fail_adopt(&backend->error) : COHORT_OK;
}

cohort_status cohort_cuda_step_begin(cohort_backend *backend, const cohort_batch *batch) {
    cohort_cuda_step *step = &backend->step;
    COHORT_TRY(check(backend));
    step->n_logit_rows = step->n_single_first = 0;
    step->one_row_each = batch->n_sequences == batch->n_rows;
    step->reads_stored = reads_stored(batch, backend->options.block_size);
    step->graph = step->one_row_each && !step->reads_stored && all_give_logits(batch)
                      ? cohort_cuda_graph_for(backend, batch->n_rows)
                      : NULL;
    lay_out(step, step->graph ? step->graph->n_rows : batch->n_rows);
    for (int32_t i = 0; i < batch->n_sequences; i++)
        take_sequence(backend, batch, i);
    step->batch = *batch;
    if (step->graph) fill_up(step, step->graph->n_rows);
    size_t used = (size_t)(step->tables - step->ids) * sizeof(int32_t) +
                  (size_t)batch->n_sequences * step->table_bytes;
    cohort_cuda_fail(backend, cohort_cuda_status(
                                  backend->cuda,
                                  backend->cuda->MemcpyHtoDAsync_v2(
                                      step->memory.at, step->ids, used, backend->stream),
                                  "telling it a step"));
    return check(backend);
}

void cohort_cuda_synchronise(cohort_backend *backend, const char *what) {
    if (cohort_cuda_failed(backend)) return;
    cohort_cuda_fail(backend,
                     cohort_cuda_status(backend->cuda,
                                        backend->cuda->StreamSynchronize(backend->stream),
                                        what));
}

cohort_status cohort_cuda_step_end(cohort_backend *backend) {
    cohort_cuda_flush(backend);
    cohort_cuda_record_drop(backend);
    cohort_cuda_synchronise(backend, "computing a step");
    backend->step.batch = (cohort_batch){0};
    return check(backend);
}

/* ---- between ranks: by way of the host --------------------------------------------- */

/* Room for what ranks exchange; NULL, and the backend failed, where there is none. */
static float *room_for(cohort_backend *backend, int64_t count) {
    if (count > backend->exchange_count) {
        free(backend->exchange);
        backend->exchange = malloc((size_t)count * sizeof(float));
        backend->exchange_count = backend->exchange ? count : 0;
        if (!backend->exchange)
            cohort_cuda_fail(backend, COHORT_FAIL(COHORT_E_NOMEM, "what ranks exchange"));
    }
    return cohort_cuda_failed(backend) ? NULL : backend->exchange;
}

/* Floats of a view on the host, in that room. */
static float *to_host(cohort_backend *backend, cohort_view view, int64_t count) {
    cohort_cuda_flush(backend);
    if (!room_for(backend, count)) return NULL;
    cohort_cuda_fail(
        backend,
        cohort_cuda_status(backend->cuda,
                           backend->cuda->MemcpyDtoHAsync_v2(
                               backend->exchange, (CUdeviceptr)cohort_cuda_read(view),
                               (size_t)count * sizeof(float), backend->stream),
                           "fetching activations"));
    cohort_cuda_synchronise(backend, "computing activations");
    return cohort_cuda_failed(backend) ? NULL : backend->exchange;
}

static void to_device(cohort_backend *backend, cohort_view view, int64_t count) {
    if (cohort_cuda_failed(backend)) return;
    cohort_cuda_fail(
        backend,
        cohort_cuda_status(backend->cuda,
                           backend->cuda->MemcpyHtoDAsync_v2(
                               (CUdeviceptr)cohort_cuda_write(view), backend->exchange,
                               (size_t)count * sizeof(float), backend->stream),
                           "putting activations back"));
    cohort_cuda_synchronise(backend, "putting activations back");
}

void cohort_cuda_regroup(cohort_backend *backend, cohort_group *tp_group,
                         cohort_group *pp_group) {
    backend->options.tp_group = tp_group;
    backend->options.pp_group = pp_group;
    backend->error = (cohort_error){0};
    backend->step.batch = (cohort_batch){0};
}

void cohort_cuda_all_reduce(cohort_backend *backend, cohort_view values, int64_t count) {
    float *host = to_host(backend, values, count);
    if (!host) return;
    cohort_cuda_fail(backend, cohort_all_reduce(backend->options.tp_group, COHORT_F32,
                                                COHORT_SUM, host, (size_t)count,
                                                backend->step.batch.deadline_ns));
    to_device(backend, values, count);
}

void cohort_cuda_receive(cohort_backend *backend, cohort_view to, int64_t count) {
    float *host = room_for(backend, count);
    if (!host) return;
    cohort_group *group = backend->options.pp_group;
    int32_t stage = cohort_group_rank(group) - 1;
    cohort_status status = cohort_recv(group, stage, host, (size_t)count * sizeof(float),
                                       backend->step.batch.deadline_ns);
    if (status < 0)
        cohort_fail_while(status, "receiving activations from stage %d", stage);
    cohort_cuda_fail(backend, status);
    to_device(backend, to, count);
}

void cohort_cuda_send(cohort_backend *backend, cohort_view from, int64_t count) {
    const float *host = to_host(backend, from, count);
    if (!host) return;
    cohort_group *group = backend->options.pp_group;
    int32_t stage = cohort_group_rank(group) + 1;
    cohort_status status = cohort_send(group, stage, host, (size_t)count * sizeof(float),
                                       backend->step.batch.deadline_ns);
    if (status < 0) cohort_fail_while(status, "sending activations to stage %d", stage);
    cohort_cuda_fail(backend, status);
}

/* One row at a time: it comes in vocabulary order. */
void cohort_cuda_gather(cohort_backend *backend, const cohort_op_gather *op) {
    cohort_group *group = backend->options.tp_group;
    int32_t rank = cohort_group_rank(group);
    size_t width = 0, mine = op->part_bytes[rank] / sizeof(float);
    for (int32_t i = 0; i < cohort_group_size(group); i++)
        width += op->part_bytes[i] / sizeof(float);
    for (int32_t r = 0; r < op->n_rows; r++) {
        const cohort_view x = {op->x.buffer, op->x.at + (int64_t)((size_t)r * mine)};
        if (!room_for(backend, (int64_t)(mine + width))) return;
        float *host = to_host(backend, x, (int64_t)mine);
        if (!host) return;
        float *whole = rank == 0 ? host + mine : NULL;
        cohort_cuda_fail(backend, cohort_gather(group, 0, host, op->part_bytes, whole,
                                                backend->step.batch.deadline_ns));
        if (rank != 0 || cohort_cuda_failed(backend)) continue;
        memmove(host, whole, width * sizeof(float));
        to_device(backend,
                  (cohort_view){op->y.buffer, op->y.at + (int64_t)((size_t)r * width)},
                  (int64_t)width);
    }
}
