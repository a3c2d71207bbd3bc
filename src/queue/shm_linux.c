/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/memory.h"
#include "queue/shm.h"

/* Design notes.
 *
 * The table is the one thing here that belongs to the process: two mappings of one memfd
 * are different addresses, and thread sanitizer tracks addresses.  A child of fork()
 * inherits the table; its entries are the parent's by pid, so the child maps anew.
 *
 * Rings up to a few MiB are populated at once: a page fault costs as much as a message.
 */
enum { POPULATE_BYTES = 4 << 20 };

struct cohort_shm {
    uint64_t id;
    void *base;
    size_t size_bytes;
    int fd;
    int users;
    pid_t pid;
    cohort_shm *next;
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static cohort_shm *table;

static cohort_status make_memory(size_t size_bytes, int *out_fd) {
    cohort_status status = cohort_memory_create("cohort-queue", size_bytes, out_fd);
    if (status == COHORT_E_NOMEM)
        return COHORT_FAIL(COHORT_E_NOMEM,
                           "no memory for a ring of %zu bytes; lower chunk_bytes "
                           "or chunk_count",
                           size_bytes);
    return status < 0 ? cohort_fail_while(status, "making a ring") : COHORT_OK;
}

/* Takes the descriptor over.  The caller holds the lock. */
static cohort_status map_memory(uint64_t id, int fd, size_t size_bytes,
                                cohort_shm **out_shm) {
    cohort_shm *shm = calloc(1, sizeof *shm);
    void *base = MAP_FAILED;
    int flags = MAP_SHARED | (size_bytes <= POPULATE_BYTES ? MAP_POPULATE : 0);
    if (shm) base = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (base == MAP_FAILED) {
        cohort_status status =
            COHORT_FAIL(COHORT_E_NOMEM, "cannot map a ring of %zu bytes (errno %d)",
                        size_bytes, errno);
        close(fd);
        free(shm);
        return status;
    }
    *shm = (cohort_shm){.id = id,
                        .base = base,
                        .size_bytes = size_bytes,
                        .fd = fd,
                        .users = 1,
                        .pid = getpid(),
                        .next = table};
    table = shm;
    *out_shm = shm;
    return COHORT_OK;
}

cohort_status cohort_shm_create(uint64_t id, size_t size_bytes, cohort_shm **out_shm) {
    int fd = -1;
    COHORT_TRY(make_memory(size_bytes, &fd));
    pthread_mutex_lock(&table_lock);
    cohort_status status = map_memory(id, fd, size_bytes, out_shm);
    pthread_mutex_unlock(&table_lock);
    return status;
}

static cohort_status check_memory(int fd, size_t size_bytes) {
    if (!cohort_memory_is_sealed(fd, size_bytes))
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "the peer's descriptor is no sealed memory of %zu bytes",
                           size_bytes);
    return COHORT_OK;
}

cohort_status cohort_shm_attach(uint64_t id, int fd, size_t size_bytes,
                                cohort_shm **out_shm) {
    cohort_status status = check_memory(fd, size_bytes);
    if (status < 0) {
        close(fd);
        return status;
    }
    pthread_mutex_lock(&table_lock);
    cohort_shm *shm = table;
    while (shm &&
           (shm->id != id || shm->size_bytes != size_bytes || shm->pid != getpid()))
        shm = shm->next;
    if (shm) {
        shm->users++;
        close(fd);
        *out_shm = shm;
    } else {
        status = map_memory(id, fd, size_bytes, out_shm);
    }
    pthread_mutex_unlock(&table_lock);
    return status;
}

void *cohort_shm_base(const cohort_shm *shm) { return shm->base; }

int cohort_shm_fd(const cohort_shm *shm) { return shm->fd; }

void cohort_shm_release(cohort_shm *shm) {
    if (!shm) return;
    pthread_mutex_lock(&table_lock);
    if (--shm->users == 0) {
        cohort_shm **link = &table;
        while (*link != shm)
            link = &(*link)->next;
        *link = shm->next;
        munmap(shm->base, shm->size_bytes);
        close(shm->fd);
        free(shm);
    }
    pthread_mutex_unlock(&table_lock);
}
