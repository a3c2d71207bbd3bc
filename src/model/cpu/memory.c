/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "model/cpu/cpu_internal.h"

/* Design notes.
 *
 * Where there is a keeper, what is created between memory_begin and memory_end lies in
 * one memfd, each allocation a mapping of its own, one behind the other.  A later process
 * of the same identity creates the same in the same order, and so finds everything in its
 * place; nothing needs a table.  The first page says whose it is; that it is whole is
 * written last, so that memory of a process that died on the way is not taken for it.
 *
 * What is kept has small pages unless the system collapses them, which costs decoding a
 * sixth of its speed: without a keeper memory is anonymous, in huge pages. */

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

/* ---- kept memory ------------------------------------------------------------------- */

enum { PAGE = 4096, IDENTITY_BYTES = 1024 };

struct kept_header {
    char magic[8];
    uint64_t generation, used_bytes;
    uint64_t is_whole;
    char identity[IDENTITY_BYTES];
};
_Static_assert(sizeof(struct kept_header) <= PAGE, "the first page");

static const char magic[8] = "cohortK1";

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* Bytes of others are checked: whoever kept them may hand out what it likes. */
static bool is_ours(int fd, const char *identity, struct kept_header *out) {
    struct stat info;
    return fstat(fd, &info) == 0 && info.st_size >= PAGE &&
           pread(fd, out, sizeof *out, 0) == (ssize_t)sizeof *out &&
           memcmp(out->magic, magic, sizeof magic) == 0 && out->is_whole == 1 &&
           out->used_bytes <= (uint64_t)info.st_size &&
           strncmp(out->identity, identity, IDENTITY_BYTES) == 0;
}

cohort_status cohort_cpu_memory_begin(cohort_backend *backend, const char *name,
                                      const char *identity, bool *out_was_kept) {
    const cohort_keeper *keeper = backend->options.keeper;
    cohort_cpu_kept *kept = &backend->kept;
    struct kept_header header = {0};
    *out_was_kept = false;
    if (!keeper) return COHORT_OK;
    if (strlen(identity) >= IDENTITY_BYTES)
        return COHORT_FAIL(COHORT_E_INVALID, "an identity of kept memory of %zu bytes",
                           strlen(identity));
    cohort_cpu_memory_drop(backend); /* of a load that failed */
    int fd = keeper->take(keeper->self, name);
    *kept = (cohort_cpu_kept){.name = name, .fd = fd, .used_bytes = PAGE};
    if (fd >= 0 && is_ours(fd, identity, &header)) {
        kept->was_kept = *out_was_kept = true;
        kept->whole_bytes = header.used_bytes;
        kept->generation = header.generation;
        return COHORT_OK;
    }
    if (memcmp(header.magic, magic, sizeof magic) != 0) header.generation = 0;
    kept->generation = header.generation + 1;
    if (fd >= 0) close(fd);
    kept->fd = memfd_create(name, MFD_CLOEXEC);
    if (kept->fd < 0) return COHORT_OK; /* forbidden here: then nothing is kept */
    memcpy(header.magic, magic, sizeof magic);
    header.generation = kept->generation;
    header.is_whole = 0;
    memset(header.identity, 0, sizeof header.identity);
    memcpy(header.identity, identity, strlen(identity));
    if (ftruncate(kept->fd, PAGE) < 0 ||
        pwrite(kept->fd, &header, sizeof header, 0) != (ssize_t)sizeof header)
        return COHORT_FAIL_SYS(errno, "writing to kept memory %s", name);
    return COHORT_OK;
}

void *cohort_cpu_take(cohort_backend *backend, size_t bytes) {
    cohort_cpu_kept *kept = &backend->kept;
    if (kept->fd < 0) return cohort_cpu_map(bytes);
    size_t begin = round_up(kept->used_bytes, PAGE);
    if (bytes > SIZE_MAX / 4) return NULL;
    size_t end = begin + round_up(bytes, PAGE);
    if (kept->was_kept ? end > round_up(kept->whole_bytes, PAGE)
                       : ftruncate(kept->fd, (off_t)end) < 0)
        return NULL;
    void *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, kept->fd, (off_t)begin);
    if (memory == MAP_FAILED) return NULL;
    kept->used_bytes = end;
    return memory;
}

cohort_status cohort_cpu_memory_end(cohort_backend *backend) {
    const cohort_keeper *keeper = backend->options.keeper;
    cohort_cpu_kept *kept = &backend->kept;
    if (kept->fd < 0) return COHORT_OK;
    struct kept_header header;
    if (pread(kept->fd, &header, sizeof header, 0) != (ssize_t)sizeof header)
        return COHORT_FAIL_SYS(errno, "reading kept memory %s", kept->name);
    header.used_bytes = kept->used_bytes;
    header.is_whole = 1;
    /* Last, and by a system call: whoever sees it sees what was written before. */
    if (pwrite(kept->fd, &header, sizeof header, 0) != (ssize_t)sizeof header)
        return COHORT_FAIL_SYS(errno, "writing to kept memory %s", kept->name);
    cohort_status status = keeper->keep(keeper->self, kept->name, kept->fd,
                                        kept->generation, kept->was_kept);
    cohort_cpu_memory_drop(backend);
    return status;
}

void cohort_cpu_memory_drop(cohort_backend *backend) {
    if (backend->kept.fd >= 0) close(backend->kept.fd);
    backend->kept = (cohort_cpu_kept){.fd = -1};
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
        buffer->is_kept = backend->kept.fd >= 0;
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
