/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "base/random.h"
#include "model/cpu/logits.h"
#include "model/cuda/cuda_internal.h"
#include "model/draw.h"

/* Design notes.
 *
 * What is drawn from the logits as they are is drawn on the device: 4 bytes a row come to
 * the host.  Rows with penalties, biases, masks or logprobs come there as a whole, and
 * the host draws.  Which of both does not show: masses are whole numbers on both sides
 * (model/cpu/logits.h), so the same logits give the same token. */

/* ---- on the device ----------------------------------------------------------------- */

static bool is_for_device(const cohort_sample_row *row) {
    return row->params && !row->n_mask_words &&
           cohort_sample_is_plain(row->params, &row->allowed,
                                  row->n_tokens - row->n_prompt_tokens);
}

static cohort_cuda_draw draw_of(const cohort_sample_row *row, int32_t vocab_size) {
    const cohort_sampling_params *params = row->params;
    cohort_cuda_draw draw = {.top_p_parts = UINT64_C(1) << 40, .is_wanted = 1};
    if (cohort_sample_is_greedy(params)) return draw;
    draw.steepness = (float)(1.4426950408889634 / (double)params->temperature);
    draw.number = cohort_random_u64(params->seed, (uint64_t)row->n_tokens);
    if (params->top_k > 0 && params->top_k < vocab_size) draw.top_k = params->top_k;
    if (params->top_p < 1) draw.top_p_parts = (uint64_t)((double)params->top_p * 0x1p40);
    if (params->min_p > 0) {
        double part = params->min_p < 1 ? (double)params->min_p : 1;
        draw.min_mass = (uint64_t)ceil(part * (double)(INT64_C(1) << COHORT_MASS_BITS));
    }
    return draw;
}

/* As many CTAs share a row as all rows find room for at once. */
void cohort_cuda_sample(cohort_backend *backend, cohort_cuda_sample_params *p,
                        int32_t n_rows) {
    int32_t cluster = n_rows <= backend->n_clusters       ? 8
                      : n_rows <= 2 * backend->n_clusters ? 4
                                                          : 2;
    int32_t room = (backend->most_shared - COHORT_CUDA_SAMPLE_SHARED) / 4;
    p->n_kept = p->n_logits / cluster + 32; /* what falls to a CTA */
    if (p->n_kept > room) p->n_kept = room;
    cohort_cuda_launch(
        backend, COHORT_CUDA_sample,
        (cohort_cuda_grid){.x = cluster,
                           .y = n_rows,
                           .cluster = cluster,
                           .threads = COHORT_CUDA_SAMPLE_THREADS,
                           .shared = COHORT_CUDA_SAMPLE_SHARED + 4 * p->n_kept},
        p);
}

/* Draws what can be there; whether that is any row. */
static bool draw_there(cohort_backend *backend, const cohort_op_sample *op,
                       const cohort_sample_row *rows) {
    cohort_cuda_sample_params p = {.logits = cohort_cuda_read(op->logits),
                                   .tokens = backend->host_tokens,
                                   .n_logits = backend->options.vocab_size};
    bool any = false;
    for (int32_t i = 0; i < op->n_rows; i++) {
        if (!is_for_device(&rows[i])) continue;
        p.rows[i] = draw_of(&rows[i], p.n_logits);
        any = true;
    }
    if (any) cohort_cuda_sample(backend, &p, op->n_rows);
    return any;
}

/* ---- on the host ------------------------------------------------------------------- */

static bool is_for_host(const cohort_sample_row *row) {
    return !is_for_device(row) && (row->params || row->out_logprobs);
}

/* Brings rows of logits that the host draws from; whether that is any. */
static bool fetch(cohort_backend *backend, const cohort_op_sample *op,
                  const cohort_sample_row *rows) {
    int64_t vocab_size = backend->options.vocab_size;
    bool any = false;
    for (int32_t i = 0, n; i < op->n_rows; i += n) {
        for (n = 0; i + n < op->n_rows && is_for_host(&rows[i + n]);)
            n++;
        if (n == 0) {
            n = 1;
            continue;
        }
        any = true;
        const cohort_view from = {op->logits.buffer, op->logits.at + i * vocab_size};
        cohort_cuda_fail(backend, cohort_cuda_status(
                                      backend->cuda,
                                      backend->cuda->MemcpyDtoHAsync_v2(
                                          backend->host_logits + i * vocab_size,
                                          (CUdeviceptr)cohort_cuda_read(from),
                                          (size_t)n * (size_t)vocab_size * sizeof(float),
                                          backend->stream),
                                      "fetching logits"));
    }
    return any;
}

static void take_tokens(cohort_backend *backend, const cohort_op_sample *op,
                        const cohort_sample_row *rows) {
    int32_t vocab_size = backend->options.vocab_size, n = 0;
    for (int32_t i = 0; i < op->n_rows; i++) {
        float *logits = backend->host_logits + (int64_t)i * vocab_size;
        if (is_for_device(&rows[i]))
            backend->step.drawn[n++] = backend->host_tokens[i];
        else if (rows[i].params)
            backend->step.drawn[n++] =
                cohort_draw(backend->sampler, &rows[i], vocab_size, logits);
        else if (rows[i].out_logprobs)
            cohort_sampler_logprobs(backend->sampler, logits, rows[i].known,
                                    rows[i].n_logprobs, rows[i].out_logprobs);
    }
}

/* What rank 0 drew, told to its peers; each then has it as its slot's last token. */
static void share(cohort_backend *backend, const cohort_op_sample *op) {
    const cohort_backend_options *options = &backend->options;
    if (cohort_cuda_failed(backend)) return;
    cohort_cuda_fail(backend,
                     cohort_drawn_tell(options->share_tokens ? options->tp_group : NULL,
                                       backend->step.batch.samples + op->first,
                                       op->n_rows, backend->step.drawn,
                                       backend->step.last_tokens, op->deadline_ns));
}

void cohort_cuda_op_sample(cohort_backend *backend, const cohort_op_sample *op) {
    cohort_cuda_flush(backend);
    cohort_cuda_record_end(backend);
    if (cohort_cuda_failed(backend)) return;
    const cohort_sample_row *rows = backend->step.batch.samples + op->first;
    if (op->logits.buffer) {
        bool any = draw_there(backend, op, rows);
        if (fetch(backend, op, rows) || any)
            cohort_cuda_synchronise(backend, "computing logits");
        if (cohort_cuda_failed(backend)) return;
        take_tokens(backend, op, rows);
    }
    share(backend, op);
}
