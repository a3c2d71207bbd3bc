/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"

/* Design notes.
 *
 * Seals keep a peer from shrinking what we have mapped, which would be a SIGBUS.  A file
 * has none, so it is taken only by a process that cannot make a memfd itself: peers are
 * in one sandbox, and of one user. */

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, PATH_BYTES = 512 };

/* Since Linux 6.3 an administrator may ask for memory that cannot be run. */
static int make_memfd(const char *name) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd;
}

static bool can_seal(void) {
    int fd = make_memfd("cohort-probe");
    if (fd >= 0) close(fd);
    return fd >= 0;
}

static int make_file_in(const char *folder) {
    char path[PATH_BYTES];
    int fd = open(folder, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) return fd;
    int length = snprintf(path, sizeof path, "%s/cohort-memory-XXXXXX", folder);
    if (length >= (int)sizeof path) return -1;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) unlink(path);
    return fd;
}

static int make_file(void) {
    const char *temporary = getenv("TMPDIR");
    const char *const folders[] = {"/dev/shm", temporary, "/tmp", "/var/tmp"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        int fd = folders[i] && folders[i][0] == '/' ? make_file_in(folders[i]) : -1;
        if (fd >= 0) return fd;
    }
    return -1;
}

static int write_zeros(int fd, size_t size_bytes) {
    static const char zeros[65536];
    for (size_t at = 0; at < size_bytes;) {
        size_t left = size_bytes - at;
        ssize_t n =
            pwrite(fd, zeros, left < sizeof zeros ? left : sizeof zeros, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? errno : ENOSPC;
        at += (size_t)n;
    }
    return 0;
}

cohort_status cohort_memory_reserve(int fd, size_t size_bytes) {
    int err;
    do
        err = fallocate(fd, 0, 0, (off_t)size_bytes) ? errno : 0;
    while (err == EINTR);
    /* Any other errno: this file system has no fallocate, or a sandbox forbids it. */
    if (err && err != ENOSPC && err != ENOMEM && err != EDQUOT && err != EFBIG &&
        err != EIO)
        err = write_zeros(fd, size_bytes);
    if (!err) return COHORT_OK;
    return err == ENOSPC || err == ENOMEM || err == EDQUOT
               ? COHORT_FAIL(COHORT_E_NOMEM, "no room for %zu bytes: %s", size_bytes,
                             strerrordesc_np(err))
               : COHORT_FAIL_SYS(err, "reserving %zu bytes", size_bytes);
}

cohort_status cohort_memory_create(const char *name, size_t size_bytes, int *out_fd) {
    int fd = make_memfd(name);
    bool is_memfd = fd >= 0;
    if (fd < 0 && errno != EMFILE && errno != ENFILE) {
        int err = errno;
        fd = make_file();
        if (fd < 0)
            return COHORT_FAIL_SYS(err,
                                   "memfd_create, and no file can be made in /dev/shm, "
                                   "TMPDIR, /tmp or /var/tmp either");
    } else if (fd < 0)
        return COHORT_FAIL_SYS(errno, "memfd_create");
    cohort_status status = ftruncate(fd, (off_t)size_bytes)
                               ? COHORT_FAIL_SYS(errno, "sizing %zu bytes", size_bytes)
                               : cohort_memory_reserve(fd, size_bytes);
    if (status >= 0 && is_memfd && fcntl(fd, F_ADD_SEALS, SEALS))
        status = COHORT_FAIL_SYS(errno, "sealing %zu bytes", size_bytes);
    if (status < 0)
        close(fd);
    else
        *out_fd = fd;
    return status;
}

bool cohort_memory_is_sealed(int fd, size_t size_bytes) {
    struct stat about;
    if (fstat(fd, &about) || about.st_size != (off_t)size_bytes) return false;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals >= 0 && (seals & SEALS) == SEALS) return true;
    return S_ISREG(about.st_mode) && about.st_uid == geteuid() && !about.st_nlink &&
           !can_seal();
}
