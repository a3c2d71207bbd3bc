/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/mman.h>

#include "model/cpu/cpu_internal.h"

enum { HUGE_PAGE = 2 << 20 };

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

char *cohort_cpu_place(cohort_view view) {
    return (char *)view.buffer->memory +
           (size_t)view.at * cohort_cpu_bytes(view.buffer->dtype);
}

float *cohort_cpu_floats(cohort_view view) {
    return view.buffer ? (float *)(void *)cohort_cpu_place(view) : NULL;
}

const float *cohort_cpu_vector(const cohort_buffer *buffer) {
    return buffer ? buffer->memory : NULL;
}
