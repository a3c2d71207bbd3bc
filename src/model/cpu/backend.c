/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "model/cpu/cpu_internal.h"

/* ---- weights ----------------------------------------------------------------------- */

static cohort_status linear_create(cohort_backend *backend, int64_t n_out, int64_t n_in,
                                   const cohort_format *format,
                                   cohort_linear **out_linear) {
    if (format == cohort_format_int8())
        return cohort_cpu_int8_create(backend, n_out, n_in, out_linear);
    return cohort_cpu_linear_create(backend, n_out, n_in,
                                    format->planes[COHORT_VALUES].dtype, out_linear);
}

static cohort_status linear_set(cohort_linear *linear, cohort_plane plane,
                                int64_t row_begin, int64_t n_rows, const void *src,
                                cohort_dtype src_dtype, int64_t src_stride) {
    if (linear->scales)
        cohort_cpu_int8_set(linear, plane, row_begin, n_rows, src, src_stride);
    else
        cohort_cpu_linear_set(linear, row_begin, n_rows, src, src_dtype, src_stride);
    return COHORT_OK;
}

static void linear_destroy(cohort_linear *linear) {
    if (linear && linear->scales)
        cohort_cpu_unmap(linear->scales, cohort_cpu_scale_bytes(linear));
    cohort_cpu_linear_destroy(linear);
}

static size_t linear_bytes(const cohort_linear *linear) {
    return cohort_cpu_linear_bytes(linear) +
           (linear->scales ? cohort_cpu_scale_bytes(linear) : 0);
}

/* ---- the object -------------------------------------------------------------------- */

static void destroy(cohort_backend *backend) {
    if (!backend) return;
    cohort_pool_destroy(backend->pool);
    cohort_cpu_samplers_destroy(backend);
    cohort_cpu_step_destroy(backend);
    cohort_cpu_memory_drop(backend);
    cohort_cpu_unmap(backend->pack, COHORT_CPU_PACK_FLOATS * sizeof(float));
    cohort_cpu_unmap(backend->expert, COHORT_CPU_EXPERT_FLOATS * sizeof(float));
    free(backend);
}

static cohort_status set_up(cohort_backend *backend,
                            const cohort_backend_options *options) {
    const cohort_cpu_options defaults = {.n_threads = 1};
    const cohort_cpu_options *cpu = options->device ? options->device : &defaults;
    COHORT_TRY(cohort_cpu_isa_find(cpu->isa, &backend->isa));
    backend->options = *options;
    backend->options.device = NULL;
    backend->kernels = backend->isa.kernels;
    backend->bf16_activations = options->bf16_activations && backend->isa.dot;
    backend->layer = -1;
    backend->pack = cohort_cpu_map(COHORT_CPU_PACK_FLOATS * sizeof(float));
    backend->expert = cohort_cpu_map(COHORT_CPU_EXPERT_FLOATS * sizeof(float));
    if (!backend->pack || !backend->expert)
        return COHORT_FAIL(COHORT_E_NOMEM, "scratch of the CPU backend");
    COHORT_TRY(cohort_cpu_step_create(backend));
    COHORT_TRY(cohort_pool_create(cpu->cpus, cpu->n_threads ? cpu->n_threads : 1,
                                  &backend->pool));
    return options->vocab_size ? cohort_cpu_samplers_create(backend) : COHORT_OK;
}

static cohort_status create(const cohort_backend_options *options,
                            cohort_backend **out_backend) {
    *out_backend = NULL;
    cohort_backend *backend = calloc(1, sizeof *backend);
    if (!backend) return COHORT_FAIL(COHORT_E_NOMEM, "a CPU backend");
    backend->making.fd = backend->moving.fd = -1;
    cohort_status status = set_up(backend, options);
    if (status < 0) {
        destroy(backend);
        return status;
    }
    *out_backend = backend;
    return COHORT_OK;
}

static const char *describe(const cohort_backend *backend) { return backend->isa.name; }

const cohort_backend_ops *cohort_backend_cpu(void) {
    static const cohort_backend_ops ops = {
        .name = "cpu",
        .is_done_on_return = true,
        .create = create,
        .destroy = destroy,
        .describe = describe,
        .limits = cohort_cpu_limits,
        .buffer_create = cohort_cpu_buffer_create,
        .buffer_destroy = cohort_cpu_buffer_destroy,
        .upload = cohort_cpu_upload,
        .download = cohort_cpu_download,
        .memory_begin = cohort_cpu_memory_begin,
        .memory_end = cohort_cpu_memory_end,
        .memory_move = cohort_cpu_memory_move,
        .linear_create = linear_create,
        .linear_set = linear_set,
        .linear_destroy = linear_destroy,
        .linear_bytes = linear_bytes,
        .kv_block_bytes = cohort_cpu_kv_block_bytes,
        .kv_create = cohort_cpu_kv_create,
        .kv_destroy = cohort_cpu_kv_destroy,
        .step_begin = cohort_cpu_step_begin,
        .step_end = cohort_cpu_step_end,
        .at_layer = cohort_cpu_at_layer,
        .check = cohort_cpu_check,
        .embed = cohort_cpu_op_embed,
        .linear = cohort_cpu_op_linear,
        .norm = cohort_cpu_op_norm,
        .add = cohort_cpu_op_add,
        .rotate = cohort_cpu_op_rotate,
        .store = cohort_cpu_op_store,
        .attend = cohort_cpu_op_attend,
        .activate = cohort_cpu_op_activate,
        .route = cohort_cpu_op_route,
        .experts = cohort_cpu_op_experts,
        .take = cohort_cpu_op_take,
        .sample = cohort_cpu_op_sample,
        .all_reduce = cohort_cpu_all_reduce,
        .receive = cohort_cpu_receive,
        .send = cohort_cpu_send,
        .gather = cohort_cpu_gather,
        .regroup = cohort_cpu_regroup,
    };
    return &ops;
}
