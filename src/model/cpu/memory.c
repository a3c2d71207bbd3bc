/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fail.h"
#include "model/cpu/cpu_internal.h"

enum { HUGE_PAGE = COHORT_CPU_HUGE_PAGE };

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

/* ---- buffers ----------------------------------------------------------------------- */

cohort_status cohort_cpu_buffer_create(cohort_backend *backend, cohort_dtype dtype,
                                       int64_t count, cohort_buffer **out_buffer) {
    size_t each = cohort_cpu_bytes(dtype);
    *out_buffer = NULL;
    cohort_buffer *buffer = calloc(1, sizeof *buffer);
    if (buffer && count >= 0 && (uint64_t)count <= SIZE_MAX / 2 / each) {
        buffer->bytes = ((size_t)count * each + COHORT_CPU_ALIGN) / COHORT_CPU_ALIGN *
                        COHORT_CPU_ALIGN;
        buffer->is_kept = backend->making.base;
        buffer->memory = buffer->is_kept ? cohort_cpu_take(backend, buffer->bytes)
                                         : aligned_alloc(COHORT_CPU_ALIGN, buffer->bytes);
    }
    if (!buffer || !buffer->memory) {
        free(buffer);
        return COHORT_FAIL(COHORT_E_NOMEM, "a buffer of %lld numbers", (long long)count);
    }
    buffer->dtype = dtype;
    *out_buffer = buffer;
    return COHORT_OK;
}

void cohort_cpu_buffer_destroy(cohort_buffer *buffer) {
    if (!buffer) return;
    if (buffer->is_kept)
        cohort_cpu_unmap(buffer->memory, buffer->bytes);
    else
        free(buffer->memory);
    free(buffer);
}

static char *place(cohort_view view) {
    return (char *)view.buffer->memory +
           (size_t)view.at * cohort_cpu_bytes(view.buffer->dtype);
}

float *cohort_cpu_floats(cohort_view view) {
    return view.buffer ? (float *)(void *)place(view) : NULL;
}

const float *cohort_cpu_vector(const cohort_buffer *buffer) {
    return buffer ? buffer->memory : NULL;
}

static size_t bytes_of(cohort_view view, int64_t count) {
    return (size_t)count * cohort_cpu_bytes(view.buffer->dtype);
}

cohort_status cohort_cpu_upload(cohort_backend *backend, cohort_view to, const void *from,
                                int64_t count) {
    COHORT_TRY(cohort_cpu_check(backend));
    memcpy(place(to), from, bytes_of(to, count));
    return COHORT_OK;
}

cohort_status cohort_cpu_download(cohort_backend *backend, cohort_view from, void *to,
                                  int64_t count) {
    COHORT_TRY(cohort_cpu_check(backend));
    memcpy(to, place(from), bytes_of(from, count));
    return COHORT_OK;
}
