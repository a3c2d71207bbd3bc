/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/fail.h"
#include "model/cuda/cuda_internal.h"

/* ---- buffers ----------------------------------------------------------------------- */

static size_t bytes_of(const cohort_buffer *buffer, int64_t count) {
    bool wide = buffer->dtype == COHORT_F32 || buffer->dtype == COHORT_I32;
    return (size_t)count * (wide ? sizeof(float) : sizeof(uint16_t));
}

static cohort_status buffer_create(cohort_backend *backend, cohort_dtype dtype,
                                   int64_t count, cohort_buffer **out_buffer) {
    *out_buffer = NULL;
    cohort_buffer *buffer = calloc(1, sizeof *buffer);
    if (!buffer) return COHORT_FAIL(COHORT_E_NOMEM, "a buffer");
    *buffer =
        (cohort_buffer){.backend = backend, .dtype = dtype, .count = count, .wide = true};
    size_t bytes = count > 0 ? bytes_of(buffer, count) : 1;
    cohort_status status =
        cohort_cuda_allocate(backend, bytes, "activations", &buffer->memory);
    if (status < 0) {
        free(buffer);
        return status;
    }
    *out_buffer = buffer;
    return COHORT_OK;
}

static void buffer_destroy(cohort_buffer *buffer) {
    if (!buffer) return;
    cohort_cuda_release(buffer->backend, &buffer->memory);
    cohort_cuda_release(buffer->backend, &buffer->narrow);
    free(buffer);
}

static cohort_status check(const cohort_backend *backend) {
    return cohort_cuda_failed(backend) ? cohort_fail_adopt(&backend->error) : COHORT_OK;
}

/* Everything enqueued before runs first, and this is done when it returns. */
static cohort_status copy(cohort_backend *backend, CUresult result, const char *what) {
    if (result == CUDA_SUCCESS)
        result = backend->cuda->StreamSynchronize(backend->stream);
    cohort_cuda_fail(backend, cohort_cuda_status(backend->cuda, result, what));
    return check(backend);
}

static cohort_status upload(cohort_backend *backend, cohort_view to, const void *from,
                            int64_t count) {
    cohort_cuda_flush(backend);
    COHORT_TRY(check(backend));
    CUdeviceptr at = (CUdeviceptr)cohort_cuda_write(to);
    return copy(backend,
                backend->cuda->MemcpyHtoDAsync_v2(at, from, bytes_of(to.buffer, count),
                                                  backend->stream),
                "copying to it");
}

static cohort_status download(cohort_backend *backend, cohort_view from, void *to,
                              int64_t count) {
    cohort_cuda_flush(backend);
    cohort_cuda_record_end(backend);
    COHORT_TRY(check(backend));
    CUdeviceptr at = (CUdeviceptr)cohort_cuda_read(from);
    return copy(backend,
                backend->cuda->MemcpyDtoHAsync_v2(to, at, bytes_of(from.buffer, count),
                                                  backend->stream),
                "copying from it");
}

/* ---- the object -------------------------------------------------------------------- */

enum { STAGING_BYTES = 64 << 20 }; /* weights on their way, a part at a time */

static void destroy(cohort_backend *backend) {
    if (!backend) return;
    if (backend->context) {
        /* What was enqueued may still read the host's memory. */
        if (backend->stream) backend->cuda->StreamSynchronize(backend->stream);
        cohort_cuda_graphs_destroy(backend);
        cohort_cuda_step_destroy(backend);
        cohort_cuda_release(backend, &backend->scratch);
        cohort_cuda_release(backend, &backend->squares);
        cohort_cuda_release(backend, &backend->staging);
    }
    cohort_cuda_close(backend);
    free(backend->exchange);
    free(backend);
}

static cohort_status set_up(cohort_backend *backend,
                            const cohort_backend_options *options) {
    const cohort_cuda_options first = {.n_ranks = 1},
                              *cuda = options->device ? options->device : &first;
    backend->options = *options;
    backend->options.device = NULL;
    backend->layer = -1;
    backend->square_columns = COHORT_CUDA_TILE;
    if (options->max_rows > 65535) /* a grid has no more along y and z */
        return COHORT_FAIL(COHORT_E_INVALID,
                           "device cuda takes up to 65535 tokens a step, not %d; lower "
                           "max_num_batched_tokens",
                           options->max_rows);
    COHORT_TRY(cohort_cuda_open(backend, cuda));
    COHORT_TRY(cohort_cuda_allocate(backend, STAGING_BYTES, "weights on their way",
                                    &backend->staging));
    COHORT_TRY(cohort_cuda_graphs_create(backend, cuda));
    return cohort_cuda_step_create(backend);
}

static cohort_status create(const cohort_backend_options *options,
                            cohort_backend **out_backend) {
    *out_backend = NULL;
    cohort_backend *backend = calloc(1, sizeof *backend);
    if (!backend) return COHORT_FAIL(COHORT_E_NOMEM, "a CUDA backend");
    cohort_status status = set_up(backend, options);
    if (status < 0) {
        destroy(backend);
        return status;
    }
    *out_backend = backend;
    return COHORT_OK;
}

static const char *describe(const cohort_backend *backend) { return backend->name; }

static uint64_t free_bytes(const cohort_backend *backend) {
    size_t left = 0, all = 0;
    if (backend->cuda->MemGetInfo_v2(&left, &all) != CUDA_SUCCESS) return 1; /* none */
    return left / (uint64_t)backend->n_sharing;
}

static void at_layer(cohort_backend *backend, int32_t layer) { backend->layer = layer; }

const cohort_backend_ops *cohort_backend_cuda(void) {
    static const cohort_backend_ops ops = {
        .name = "cuda",
        .create = create,
        .destroy = destroy,
        .describe = describe,
        .free_bytes = free_bytes,
        .buffer_create = buffer_create,
        .buffer_destroy = buffer_destroy,
        .upload = upload,
        .download = download,
        .linear_create = cohort_cuda_linear_create,
        .linear_set = cohort_cuda_linear_set,
        .linear_destroy = cohort_cuda_linear_destroy,
        .linear_bytes = cohort_cuda_linear_bytes,
        .kv_block_bytes = cohort_cuda_kv_block_bytes,
        .kv_create = cohort_cuda_kv_create,
        .kv_destroy = cohort_cuda_kv_destroy,
        .step_begin = cohort_cuda_step_begin,
        .step_end = cohort_cuda_step_end,
        .replay = cohort_cuda_replay,
        .at_layer = at_layer,
        .check = check,
        .embed = cohort_cuda_op_embed,
        .linear = cohort_cuda_op_linear,
        .norm = cohort_cuda_op_norm,
        .add = cohort_cuda_op_add,
        .rotate = cohort_cuda_op_rotate,
        .store = cohort_cuda_op_store,
        .attend = cohort_cuda_op_attend,
        .activate = cohort_cuda_op_activate,
        .take = cohort_cuda_op_take,
        .sample = cohort_cuda_op_sample,
        .all_reduce = cohort_cuda_all_reduce,
        .receive = cohort_cuda_receive,
        .send = cohort_cuda_send,
        .gather = cohort_cuda_gather,
        .regroup = cohort_cuda_regroup,
        .norm_linear = cohort_cuda_op_norm_linear,
        .norm_linear_activate = cohort_cuda_op_norm_linear_activate,
        .linear_add = cohort_cuda_op_linear_add,
        .rotate_store = cohort_cuda_op_rotate_store,
    };
    return &ops;
}
