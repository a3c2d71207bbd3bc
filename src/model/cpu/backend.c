/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <sys/mman.h>

#include "base/fail.h"
#include "model/cpu/cpu_internal.h"

enum { HUGE_PAGE = 2 << 20 };

/* ---- memory ------------------------------------------------------------------------ */

/* A big mapping begins on a huge page, or its first 2 MiB would be small ones: more is
 * asked for than needed, and the ends are given back. */
void *cohort_cpu_map(size_t bytes) {
    size_t slack = bytes >= HUGE_PAGE ? HUGE_PAGE : 0;
    char *memory = mmap(NULL, bytes + slack, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    if (!slack) return memory;
    size_t before = (HUGE_PAGE - (uintptr_t)memory % HUGE_PAGE) % HUGE_PAGE;
    char *begin = memory + before;
    char *end = begin + (bytes + 4095) / 4096 * 4096;
    if (before) munmap(memory, before);
    if (end < memory + bytes + slack) munmap(end, (size_t)(memory + bytes + slack - end));
    madvise(begin, bytes, MADV_HUGEPAGE); /* a wish; without it we are merely slower */
    return begin;
}

void cohort_cpu_unmap(void *memory, size_t bytes) {
    if (memory) munmap(memory, bytes);
}

static cohort_status alloc_floats(cohort_backend *backend, size_t count,
                                  float **out_floats) {
    (void)backend;
    size_t bytes =
        (count * sizeof(float) + COHORT_CPU_ALIGN) / COHORT_CPU_ALIGN * COHORT_CPU_ALIGN;
    *out_floats = count < SIZE_MAX / 8 ? aligned_alloc(COHORT_CPU_ALIGN, bytes) : NULL;
    if (!*out_floats) return COHORT_FAIL(COHORT_E_NOMEM, "%zu floats", count);
    return COHORT_OK;
}

static void free_floats(cohort_backend *backend, float *floats) {
    (void)backend;
    free(floats);
}

/* ---- the object -------------------------------------------------------------------- */

static void destroy(cohort_backend *backend) {
    if (!backend) return;
    cohort_pool_destroy(backend->pool);
    cohort_cpu_unmap(backend->pack, COHORT_CPU_PACK_FLOATS * sizeof(float));
    cohort_cpu_unmap(backend->expert, COHORT_CPU_EXPERT_FLOATS * sizeof(float));
    free(backend);
}

static cohort_status set_up(cohort_backend *backend,
                            const cohort_backend_options *options) {
    COHORT_TRY(cohort_cpu_isa_find(options->isa, &backend->isa));
    backend->kernels = backend->isa.kernels;
    backend->bf16_activations = options->bf16_activations && backend->isa.dot;
    backend->pack = cohort_cpu_map(COHORT_CPU_PACK_FLOATS * sizeof(float));
    backend->expert = cohort_cpu_map(COHORT_CPU_EXPERT_FLOATS * sizeof(float));
    if (!backend->pack || !backend->expert)
        return COHORT_FAIL(COHORT_E_NOMEM, "scratch of the CPU backend");
    return cohort_pool_create(options->cpus, options->n_threads, &backend->pool);
}

static cohort_status create(const cohort_backend_options *options,
                            cohort_backend **out_backend) {
    *out_backend = NULL;
    cohort_backend *backend = calloc(1, sizeof *backend);
    if (!backend) return COHORT_FAIL(COHORT_E_NOMEM, "a CPU backend");
    cohort_status status = set_up(backend, options);
    if (status < 0) {
        destroy(backend);
        return status;
    }
    *out_backend = backend;
    return COHORT_OK;
}

static const char *isa(const cohort_backend *backend) { return backend->isa.name; }

const cohort_backend_ops *cohort_backend_cpu(void) {
    static const cohort_backend_ops ops = {
        .name = "cpu",
        .create = create,
        .destroy = destroy,
        .isa = isa,
        .alloc = alloc_floats,
        .free = free_floats,
        .linear_create = cohort_cpu_linear_create,
        .linear_set = cohort_cpu_linear_set,
        .linear_destroy = cohort_cpu_linear_destroy,
        .linear_bytes = cohort_cpu_linear_bytes,
        .linear = cohort_cpu_linear,
        .embed = cohort_cpu_embed,
        .rms_norm = cohort_cpu_rms_norm,
        .layer_norm = cohort_cpu_layer_norm,
        .add = cohort_cpu_add,
        .qk_norm_rope = cohort_cpu_qk_norm_rope,
        .activate = cohort_cpu_activate,
        .kv_block_bytes = cohort_cpu_kv_block_bytes,
        .kv_create = cohort_cpu_kv_create,
        .kv_destroy = cohort_cpu_kv_destroy,
        .attention = cohort_cpu_attention,
        .route = cohort_cpu_route,
        .experts = cohort_cpu_experts,
    };
    return &ops;
}
