/* SPDX-License-Identifier: Apache-2.0 */
#include "collective/outbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/memory.h"

/* Design notes.
 *
 * Pipe: the sender stores bytes, then head (release); the receiver loads head (acquire),
 * copies, then stores tail (release); the sender loads tail (acquire) before it
 * overwrites.  If either dies its position stays where it is: the other sees a pipe that
 * is full or empty, and the pulse of the link tells it why.
 *
 * models/ring.pml has both, with -DBELL.
 *
 * Doorbell: Dekker's handshake, as in base/wait.c.  The owner stores asleep, fences, and
 * looks a last time at what it waits for; whoever changes that fences and loads asleep.
 * An owner that is killed in its sleep leaves asleep set: rings then cost a write to an
 * eventfd that nobody reads, no more.
 *
 * The memfd is sealed against shrinking, so that no reader can be given a SIGBUS. */

/* What this process has mapped.  The list is the only mutable thing shared by meshes; it
 * is walked when a mesh opens, connects and closes. */
typedef struct mapping {
    struct mapping *next;
    cohort_outbox *outbox;
    size_t size_bytes;
    dev_t device;
    ino_t inode;
    int32_t users;
} mapping;

static pthread_mutex_t mappings_mutex = PTHREAD_MUTEX_INITIALIZER;
static mapping *mappings;

static size_t outbox_bytes(int32_t world_size) {
    return sizeof(cohort_outbox) +
           sizeof(cohort_pipe) * COHORT_CHANNELS * (size_t)world_size;
}

static cohort_status map_new(int fd, const struct stat *file, mapping **out_mapping) {
    mapping *entry = calloc(1, sizeof *entry);
    if (!entry) return COHORT_FAIL(COHORT_E_NOMEM, "mapping an outbox");
    entry->size_bytes = (size_t)file->st_size;
    void *at = mmap(NULL, entry->size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        free(entry);
        return COHORT_FAIL_SYS(errno, "mapping an outbox of %lld bytes",
                               (long long)file->st_size);
    }
    entry->outbox = at;
    entry->device = file->st_dev;
    entry->inode = file->st_ino;
    entry->next = mappings;
    mappings = entry;
    *out_mapping = entry;
    return COHORT_OK;
}

static cohort_status map(int fd, int32_t world_size, cohort_outbox **out_outbox) {
    struct stat file;
    if (fstat(fd, &file)) return COHORT_FAIL_SYS(errno, "fstat of an outbox");
    if (!cohort_memory_is_sealed(fd, outbox_bytes(world_size)))
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "a file of %lld bytes is no outbox of a world of %d",
                           (long long)file.st_size, world_size);
    pthread_mutex_lock(&mappings_mutex);
    mapping *entry = mappings;
    while (entry && (entry->device != file.st_dev || entry->inode != file.st_ino))
        entry = entry->next;
    cohort_status status = entry ? COHORT_OK : map_new(fd, &file, &entry);
    if (status >= 0) {
        entry->users++;
        *out_outbox = entry->outbox;
    }
    pthread_mutex_unlock(&mappings_mutex);
    return status;
}

cohort_status cohort_outbox_create(int32_t rank, int32_t world_size, int *out_fd,
                                   cohort_outbox **out_outbox) {
    size_t bytes = outbox_bytes(world_size);
    int fd = -1;
    cohort_status status = cohort_memory_create("cohort-outbox", bytes, &fd);
    if (status < 0) return cohort_fail_while(status, "making an outbox");
    status = map(fd, world_size, out_outbox);
    if (status < 0) {
        close(fd);
        return status;
    }
    cohort_outbox *outbox = *out_outbox;
    outbox->rank = rank;
    outbox->world_size = world_size;
    atomic_store_explicit(&outbox->parting, COHORT_PARTING_NOT, memory_order_relaxed);
    /* Acquired in cohort_outbox_attach. */
    atomic_store_explicit(&outbox->magic, COHORT_OUTBOX_MAGIC, memory_order_release);
    *out_fd = fd;
    return COHORT_OK;
}

cohort_status cohort_outbox_attach(int fd, int32_t rank, int32_t world_size,
                                   cohort_outbox **out_outbox) {
    cohort_outbox *outbox = NULL;
    COHORT_TRY(map(fd, world_size, &outbox));
    /* Acquires the release in cohort_outbox_create. */
    uint32_t magic = atomic_load_explicit(&outbox->magic, memory_order_acquire);
    if (magic != COHORT_OUTBOX_MAGIC || outbox->rank != rank ||
        outbox->world_size != world_size) {
        cohort_outbox_detach(outbox);
        return COHORT_FAIL(COHORT_E_PROTOCOL, "rank %d's outbox is not its own", rank);
    }
    *out_outbox = outbox;
    return COHORT_OK;
}

void cohort_outbox_detach(cohort_outbox *outbox) {
    if (!outbox) return;
    pthread_mutex_lock(&mappings_mutex);
    mapping **at = &mappings;
    while ((*at)->outbox != outbox)
        at = &(*at)->next;
    mapping *entry = *at;
    if (--entry->users == 0) {
        *at = entry->next;
        munmap(entry->outbox, entry->size_bytes);
        free(entry);
    }
    pthread_mutex_unlock(&mappings_mutex);
}

void cohort_bell_ring(cohort_outbox *outbox, int bell_fd) {
    /* Pairs with the fence in cohort_mesh_await. */
    atomic_thread_fence(memory_order_seq_cst);
    if (!atomic_load_explicit(&outbox->asleep, memory_order_relaxed)) return;
    uint64_t one = 1;
    ssize_t written = write(bell_fd, &one, sizeof one);
    (void)written; /* EAGAIN: it rings already */
}

static cohort_status broken(uint64_t head, uint64_t tail) {
    return COHORT_FAIL(COHORT_E_PROTOCOL, "a pipe at %llu of %llu bytes",
                       (unsigned long long)tail, (unsigned long long)head);
}

static size_t lesser(size_t a, size_t b) { return a < b ? a : b; }

int64_t cohort_pipe_put(cohort_pipe *pipe, const void *bytes, size_t size_bytes) {
    uint64_t head = atomic_load_explicit(&pipe->head, memory_order_relaxed); /* ours */
    /* Acquires the receiver's release of the space. */
    uint64_t tail = atomic_load_explicit(&pipe->tail, memory_order_acquire);
    if (head - tail > COHORT_PIPE_BYTES) return broken(head, tail);
    size_t n = lesser(size_bytes, COHORT_PIPE_BYTES - (size_t)(head - tail));
    if (!n) return 0;
    size_t at = (size_t)(head % COHORT_PIPE_BYTES);
    size_t first = lesser(n, COHORT_PIPE_BYTES - at);
    memcpy(pipe->bytes + at, bytes, first);
    memcpy(pipe->bytes, (const uint8_t *)bytes + first, n - first);
    atomic_store_explicit(&pipe->head, head + n, memory_order_release);
    return (int64_t)n;
}

int64_t cohort_pipe_take(cohort_pipe *pipe, void *bytes, size_t size_bytes) {
    uint64_t tail = atomic_load_explicit(&pipe->tail, memory_order_relaxed); /* ours */
    /* Acquires the sender's release of the bytes. */
    uint64_t head = atomic_load_explicit(&pipe->head, memory_order_acquire);
    if (head - tail > COHORT_PIPE_BYTES) return broken(head, tail);
    size_t n = lesser(size_bytes, (size_t)(head - tail));
    if (!n) return 0;
    size_t at = (size_t)(tail % COHORT_PIPE_BYTES);
    size_t first = lesser(n, COHORT_PIPE_BYTES - at);
    memcpy(bytes, pipe->bytes + at, first);
    memcpy((uint8_t *)bytes + first, pipe->bytes, n - first);
    atomic_store_explicit(&pipe->tail, tail + n, memory_order_release);
    return (int64_t)n;
}
