/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>
#include <stdlib.h>

#include "base/fail.h"
#include "model/cpu/cpu_internal.h"
#include "model/draw.h"

/* What rank 0 drew, told to its peers; each then has it as its slot's last token. */
static void share(cohort_backend *backend, const cohort_op_sample *op) {
    const cohort_backend_options *options = &backend->options;
    if (cohort_cpu_failed(backend)) return;
    cohort_cpu_fail(backend,
                    cohort_drawn_tell(options->share_tokens ? options->tp_group : NULL,
                                      backend->step.batch.samples + op->first, op->n_rows,
                                      backend->step.drawn, backend->step.last_tokens,
                                      op->deadline_ns));
}

/* Rows that something is wanted of, drawn from a counter: they take as long as their
 * parameters say. */
struct drawing {
    cohort_backend *backend;
    const cohort_sample_row *rows;
    float *logits;
    int32_t n_rows;
    _Atomic int32_t next;
};

static void draw_share(void *context, int32_t thread, int32_t n_threads) {
    (void)n_threads;
    struct drawing *drawing = context;
    cohort_backend *backend = drawing->backend;
    cohort_sampler *sampler = backend->samplers[thread];
    for (;;) {
        int32_t i = atomic_fetch_add_explicit(&drawing->next, 1, memory_order_relaxed);
        if (i >= drawing->n_rows) return;
        const cohort_sample_row *row = &drawing->rows[i];
        float *logits = drawing->logits + (int64_t)i * backend->options.vocab_size;
        if (row->params)
            backend->step.drawn[i] =
                cohort_draw(sampler, row, backend->options.vocab_size, logits);
        else if (row->out_logprobs)
            cohort_sampler_logprobs(sampler, logits, row->known, row->n_logprobs,
                                    row->out_logprobs);
    }
}

/* A small vocabulary is done before the others are awake. */
static void draw_rows(cohort_backend *backend, const cohort_op_sample *op,
                      float *logits) {
    struct drawing drawing = {.backend = backend,
                              .rows = backend->step.batch.samples + op->first,
                              .logits = logits,
                              .n_rows = op->n_rows};
    int64_t n_logits = (int64_t)op->n_rows * backend->options.vocab_size;
    if (op->n_rows == 1 || n_logits < COHORT_CPU_ALONE)
        draw_share(&drawing, 0, 1);
    else
        cohort_pool_run(backend->pool, draw_share, &drawing);
    int32_t n = 0;
    for (int32_t i = 0; i < op->n_rows; i++)
        if (drawing.rows[i].params) backend->step.drawn[n++] = backend->step.drawn[i];
}

void cohort_cpu_op_sample(cohort_backend *backend, const cohort_op_sample *op) {
    if (cohort_cpu_failed(backend)) return;
    float *logits = cohort_cpu_floats(op->logits);
    if (logits) draw_rows(backend, op, logits);
    share(backend, op);
}

/* ---- samplers ---------------------------------------------------------------------- */

void cohort_cpu_samplers_destroy(cohort_backend *backend) {
    for (int32_t i = 0; i < backend->n_samplers; i++)
        cohort_sampler_destroy(backend->samplers[i]);
    free(backend->samplers);
}

/* Their memory is the system's until rows are drawn on that thread. */
cohort_status cohort_cpu_samplers_create(cohort_backend *backend) {
    int32_t n_threads = cohort_pool_size(backend->pool);
    backend->samplers = calloc((size_t)n_threads, sizeof(cohort_sampler *));
    if (!backend->samplers) return COHORT_FAIL(COHORT_E_NOMEM, "samplers");
    for (; backend->n_samplers < n_threads; backend->n_samplers++)
        COHORT_TRY(cohort_sampler_create(backend->options.vocab_size,
                                         &backend->samplers[backend->n_samplers]));
    return COHORT_OK;
}
