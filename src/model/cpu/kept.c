/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/log.h"
#include "model/cpu/cpu_internal.h"

/* Design notes.
 *
 * Where there is a keeper, what is created between memory_begin and memory_end lies one
 * behind the other in an arena: a range of addresses that is reserved at once, whose
 * distance from its begin is the place in the memfd.  A later process of the same
 * identity creates the same in the same order, and so finds everything in its place;
 * nothing needs a table.  The first page says whose it is; that it is whole is written
 * last, so that memory of a process that died on the way is not taken for it.
 *
 * A cache is written all the time, so it lies in its memfd from the beginning.  Weights
 * are constant once they are there, and that is worth a lot: they are loaded into
 * anonymous memory, in huge pages, as fast as where nothing is kept, and moved later,
 * beside the steps, 2 MiB at a time: copied into the memfd, made a huge page there, and
 * mapped in place of what lay at that address.  Whoever reads meanwhile reads the same
 * bytes from the one or the other.  Then the memfd is sealed: nobody can write to it any
 * more, a wild store of this process included.
 *
 * Small pages cost decoding a sixth of its speed.  Where the system makes no huge page of
 * a memfd's (MADV_COLLAPSE, Linux 6.1), weights stay where they are, and are read anew
 * after a death.
 *
 * What if this process dies while it moves them?  The keeper has no descriptor yet, and
 * the memfd goes with us. */

enum { PAGE = 4096, HUGE_PAGE = COHORT_CPU_HUGE_PAGE, IDENTITY_BYTES = 1024 };

struct header {
    char magic[8];
    uint64_t generation, used_bytes;
    uint64_t is_whole;
    char identity[IDENTITY_BYTES];
};
_Static_assert(sizeof(struct header) <= PAGE, "the first page");

static const char magic[8] = "cohortK2";

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Not the library's, of which the thread sanitizer thinks that it writes to the range. */
static bool map_over(void *at, size_t bytes, int protection, int fd, size_t offset) {
    long result = syscall(SYS_mmap, at, bytes, protection, MAP_SHARED | MAP_FIXED, fd,
                          (off_t)offset);
    return result != -1;
}

/* Addresses alone, from a huge page's begin on, twice as many as there can be memory for;
 * NULL: not to be had (a limit on addresses). */
static char *reserve(size_t *out_bytes) {
    size_t bytes =
        round_up(2 * (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE),
                 HUGE_PAGE) +
        HUGE_PAGE;
    char *memory =
        mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    size_t before = (HUGE_PAGE - (uintptr_t)memory % HUGE_PAGE) % HUGE_PAGE;
    if (before) munmap(memory, before);
    *out_bytes = bytes - before;
    return memory + before;
}

/* ---- making and adopting ----------------------------------------------------------- */

/* Bytes of others are checked: whoever kept them may hand out what it likes. */
static bool is_ours(int fd, const char *identity, struct header *out) {
    struct stat info;
    return fstat(fd, &info) == 0 && info.st_size >= PAGE &&
           pread(fd, out, sizeof *out, 0) == (ssize_t)sizeof *out &&
           memcmp(out->magic, magic, sizeof magic) == 0 && out->is_whole == 1 &&
           out->used_bytes >= PAGE && out->used_bytes <= (uint64_t)info.st_size &&
           strncmp(out->identity, identity, IDENTITY_BYTES) == 0;
}

static cohort_status write_header(const cohort_cpu_kept *kept, bool is_whole) {
    struct header header = {.generation = kept->generation,
                            .used_bytes = kept->used_bytes,
                            .is_whole = is_whole};
    memcpy(header.magic, magic, sizeof magic);
    memcpy(header.identity, kept->identity, strlen(kept->identity));
    if (pwrite(kept->fd, &header, sizeof header, 0) != (ssize_t)sizeof header)
        return COHORT_FAIL_SYS(errno, "writing to kept memory %s", kept->name);
    return COHORT_OK;
}

static bool make_memory(cohort_cpu_kept *kept) {
    kept->fd = memfd_create(kept->name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return kept->fd >= 0;
}

/* Ends what is being made, or what is being moved; the parts are their owners'. */
static void drop(cohort_cpu_kept *kept) {
    if (kept->fd >= 0) close(kept->fd);
    if (kept->base && !kept->is_trimmed) {
        munmap(kept->base, PAGE);
        munmap(kept->base + kept->used_bytes, kept->reserved_bytes - kept->used_bytes);
    }
    free(kept->identity);
    *kept = (cohort_cpu_kept){.fd = -1};
}

void cohort_cpu_memory_drop(cohort_backend *backend) {
    drop(&backend->making);
    drop(&backend->moving);
}

cohort_status cohort_cpu_memory_begin(cohort_backend *backend, const char *name,
                                      const char *identity, bool is_constant,
                                      bool *out_was_kept) {
    const cohort_keeper *keeper = backend->options.keeper;
    cohort_cpu_kept *kept = &backend->making;
    struct header header = {0};
    *out_was_kept = false;
    if (!keeper) return COHORT_OK;
    if (strlen(identity) >= IDENTITY_BYTES)
        return COHORT_FAIL(COHORT_E_INVALID, "an identity of kept memory of %zu bytes",
                           strlen(identity));
    drop(kept); /* of a load that failed */
    *kept = (cohort_cpu_kept){.name = name,
                              .fd = keeper->take(keeper->self, name),
                              .is_constant = is_constant,
                              .used_bytes = PAGE,
                              .identity = strdup(identity)};
    kept->base = reserve(&kept->reserved_bytes);
    bool fits = kept->identity && kept->base && kept->fd >= 0;
    if (fits && is_ours(kept->fd, identity, &header) &&
        header.used_bytes <= kept->reserved_bytes) {
        kept->generation = header.generation;
        kept->whole_bytes = header.used_bytes;
        kept->was_kept = *out_was_kept = true;
        return COHORT_OK;
    }
    if (memcmp(header.magic, magic, sizeof magic) != 0) header.generation = 0;
    kept->generation = header.generation + 1;
    if (kept->fd >= 0) close(kept->fd);
    kept->fd = -1;
    /* No addresses, or no memfd: then nothing is kept. */
    if (!kept->identity || !kept->base || (!is_constant && !make_memory(kept)))
        drop(kept);
    return COHORT_OK;
}

/* A part that goes on where the last one ended. */
static bool map_part(const cohort_cpu_kept *kept, size_t begin, size_t end) {
    char *at = kept->base + begin;
    if (kept->was_kept)
        return end <= round_up(kept->whole_bytes, PAGE) &&
               map_over(at, end - begin,
                        kept->is_constant ? PROT_READ : PROT_READ | PROT_WRITE, kept->fd,
                        begin);
    if (kept->is_constant) return mprotect(at, end - begin, PROT_READ | PROT_WRITE) == 0;
    return ftruncate(kept->fd, (off_t)end) == 0 &&
           map_over(at, end - begin, PROT_READ | PROT_WRITE, kept->fd, begin);
}

void *cohort_cpu_take(cohort_backend *backend, size_t bytes) {
    cohort_cpu_kept *kept = &backend->making;
    if (!kept->base) return cohort_cpu_map(bytes);
    if (!bytes || bytes > kept->reserved_bytes - kept->used_bytes - PAGE) return NULL;
    size_t begin = kept->used_bytes, end = begin + round_up(bytes, PAGE);
    if (!map_part(kept, begin, end)) return NULL;
    char *part = kept->base + begin;
    /* Wishes: huge pages, and a core dump that is not as large as the model. */
    if (kept->is_constant && !kept->was_kept) madvise(part, end - begin, MADV_HUGEPAGE);
    madvise(part, end - begin, MADV_DONTDUMP);
    kept->used_bytes = end;
    return part;
}

/* Of the addresses only what the parts lie at stays. */
static void trim(cohort_cpu_kept *kept) {
    munmap(kept->base, PAGE);
    munmap(kept->base + kept->used_bytes, kept->reserved_bytes - kept->used_bytes);
    kept->is_trimmed = true;
}

/* Hands the descriptor out: from here on it is whole. */
static cohort_status hand_over(const cohort_backend *backend,
                               const cohort_cpu_kept *kept) {
    const cohort_keeper *keeper = backend->options.keeper;
    /* Last, and by a system call: whoever sees it sees what was written before. */
    if (!kept->was_kept) COHORT_TRY(write_header(kept, true));
    if (kept->is_constant && !kept->was_kept)
        fcntl(kept->fd, F_ADD_SEALS,
              F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    return keeper->keep(keeper->self, kept->name, kept->fd, kept->generation,
                        kept->was_kept);
}

cohort_status cohort_cpu_memory_end(cohort_backend *backend) {
    cohort_cpu_kept *kept = &backend->making;
    if (!kept->base) return COHORT_OK;
    trim(kept);
    if (kept->is_constant && !kept->was_kept) {
        backend->moving = *kept;
        *kept = (cohort_cpu_kept){.fd = -1};
        return COHORT_OK;
    }
    /* Page tables at once, rather than one by one in the first step. */
    if (kept->is_constant)
        madvise(kept->base + PAGE, kept->used_bytes - PAGE, MADV_POPULATE_READ);
    cohort_status status = hand_over(backend, kept);
    drop(kept);
    return status;
}

/* ---- moving ------------------------------------------------------------------------ */

static cohort_status copy(const cohort_cpu_kept *kept, size_t begin, size_t end) {
    while (begin < end) {
        ssize_t n = pwrite(kept->fd, kept->base + begin, end - begin, (off_t)begin);
        if (n > 0)
            begin += (size_t)n;
        else if (errno != EINTR)
            return COHORT_FAIL_SYS(errno, "copying to kept memory %s", kept->name);
    }
    return COHORT_OK;
}

/* An extent of the memfd becomes a huge page, through a window that is closed again. */
static int make_huge(const cohort_cpu_kept *kept, size_t begin) {
    char *memory = mmap(NULL, 2 * (size_t)HUGE_PAGE, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return errno;
    char *window = memory + (HUGE_PAGE - (uintptr_t)memory % HUGE_PAGE) % HUGE_PAGE;
    int error = 0;
    if (!map_over(window, HUGE_PAGE, PROT_READ, kept->fd, begin) ||
        madvise(window, HUGE_PAGE, MADV_COLLAPSE) < 0)
        error = errno;
    munmap(memory, 2 * (size_t)HUGE_PAGE);
    return error;
}

/* No warning: the model computes as it did, and nobody may ever miss it. */
static cohort_status give_up(cohort_backend *backend, const char *why) {
    cohort_log(COHORT_LOG_INFO, "model", COHORT_RANK_LOCAL,
               "event=memory_not_kept name=%s what=\"%s: it is made anew after a death\"",
               backend->moving.name, why);
    drop(&backend->moving);
    return COHORT_OK;
}

cohort_status cohort_cpu_memory_move(cohort_backend *backend) {
    cohort_cpu_kept *kept = &backend->moving;
    if (!kept->base) return COHORT_OK;
    if (kept->fd < 0) {
        if (!make_memory(kept) ||
            ftruncate(kept->fd, (off_t)round_up(kept->used_bytes, HUGE_PAGE)) < 0)
            return give_up(backend, "this system gives no memfd");
        kept->moved_bytes = PAGE;
    }
    size_t begin = kept->moved_bytes, first = begin / HUGE_PAGE * HUGE_PAGE;
    size_t end = least(first + HUGE_PAGE, kept->used_bytes);
    if (begin == end) {
        cohort_status status = hand_over(backend, kept);
        drop(kept);
        return status;
    }
    COHORT_TRY(copy(kept, begin, end));
    int error = make_huge(kept, first);
    if (error && error != ENOMEM && error != EAGAIN && error != EBUSY)
        return give_up(backend, "this system makes no huge page of it");
    if (!map_over(kept->base + begin, end - begin, PROT_READ, kept->fd, begin))
        return COHORT_FAIL_SYS(errno, "mapping kept memory %s", kept->name);
    madvise(kept->base + begin, end - begin, MADV_DONTDUMP);
    madvise(kept->base + begin, end - begin, MADV_POPULATE_READ);
    kept->moved_bytes = end;
    return COHORT_PENDING;
}
