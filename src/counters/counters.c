/* SPDX-License-Identifier: Apache-2.0 */
#include "counters/counters.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/build_id.h"
#include "base/fail.h"
#include "base/log.h"
#include "base/memory.h"

/* Design notes.
 *
 * A file appears under its final name complete: it is written as PID-START.new and
 * linked.  So a reader, and a sweeper in another process, never meets half a header.
 * A crash between the two leaves a .new file, whose name says by itself who made it.
 *
 * A file's owner lives as long as it holds a lock on the file: a pid says nothing to
 * somebody in another pid namespace who has the same folder.  The lock is on a
 * descriptor of its own, because workers inherit the other one and their mappings keep
 * it.  Where the file system has no locks the pid and its start decide.
 *
 * Nothing but statistics needs a file: where no folder can be had there is memory
 * without a name, and a warning.
 *
 * Two starts may sweep at once: unlink of a file that is gone is no error.  A sweeper
 * could only remove a live file if the name changed owner between its look and its
 * unlink: names hold the pid unless the user chose one, and a chosen name is taken over
 * only by create, which looks again.
 *
 * Readers trust nothing: the size is checked against the header, n_rows is copied once,
 * texts are cut at their end. */

#define MAGIC UINT64_C(0x3174617473686f63) /* "cohstat1" */

enum { PATH_BYTES = 512 };

struct cohort_counters {
    uint8_t *bytes;
    size_t size_bytes;
    int32_t n_rows;
    int fd;
    int life_fd; /* the owner's lock is on it; a reader asks by it */
    bool is_owner;
    char path[PATH_BYTES];
};

const char *cohort_rank_phase_name(uint32_t phase) {
    switch (phase) {
#define X(name, value, text) \
    case name: return text;
        COHORT_RANK_PHASE_MAP(X)
#undef X
    }
    return "unknown";
}

/* Field 22 of /proc/PID/stat; 0 where there is no such process, or only its zombie. */
static uint64_t process_start(int32_t pid) {
    char path[64];
    char text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0) return 0;
    text[length] = '\0';
    /* The name may hold anything, parentheses too: fields are counted from the last. */
    char *field = strrchr(text, ')');
    if (!field || field[1] != ' ' || field[2] == 'Z' || field[2] == 'X') return 0;
    field++;
    for (int i = 2; i < 21 && field; i++)
        field = strchr(field + 1, ' ');
    return field ? strtoull(field + 1, NULL, 10) : 0;
}

static bool is_process(int32_t pid, uint64_t start) {
    return pid > 0 && start && process_start(pid) == start;
}

/* 1: somebody holds it, 0: nobody, -1: cannot be known. */
static int is_locked(int fd) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fd < 0 || fcntl(fd, F_OFD_GETLK, &lock)) return -1;
    return lock.l_type != F_UNLCK;
}

bool cohort_counters_is_alive(const cohort_counters *counters) {
    const cohort_counters_header *header =
        (const cohort_counters_header *)counters->bytes;
    if (counters->is_owner) return true;
    int locked = header->has_lock ? is_locked(counters->life_fd) : -1;
    return locked >= 0 ? locked : is_process(header->driver_pid, header->driver_start);
}

/* NULL, or why it cannot be.  What goes on without a folder leaves no error behind. */
static const char *make_folder(const char *path) {
    struct stat found;
    if (mkdir(path, 0700) && errno != EEXIST) return strerrordesc_np(errno);
    if (lstat(path, &found)) return strerrordesc_np(errno);
    /* In a temporary directory somebody else may have been here first. */
    if (!S_ISDIR(found.st_mode) || found.st_uid != geteuid() || (found.st_mode & 0022))
        return "it is not a folder that this user alone can write";
    return NULL;
}

enum { N_FOLDERS = 5 };

/* The folders that may have our files, best first; false where there is no such one. */
static bool name_folder(int index, char *out_path, size_t size) {
    const char *const parents[N_FOLDERS] = {getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"),
                                            "/tmp", "/var/tmp", "/dev/shm"};
    const char *parent = parents[index];
    if (!parent || parent[0] != '/' || access(parent, W_OK | X_OK)) return false;
    for (int i = 0; i < index; i++)
        if (parents[i] && !strcmp(parents[i], parent)) return false;
    int length = index == 0 ? snprintf(out_path, size, "%s/cohort", parent)
                            : snprintf(out_path, size, "%s/cohort-%u", parent, geteuid());
    return length >= 0 && (size_t)length < size;
}

static bool find_folder(char *out_path, size_t size) {
    for (int i = 0; i < N_FOLDERS; i++)
        if (name_folder(i, out_path, size) && !make_folder(out_path)) return true;
    return false;
}

cohort_status cohort_counters_folder(char *out_path, size_t size) {
    if (find_folder(out_path, size)) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_IO, "no temporary folder can be written; set "
                                    "XDG_RUNTIME_DIR or TMPDIR to one");
}

static bool has_suffix(const char *name, const char *suffix) {
    size_t length = strlen(name);
    size_t end = strlen(suffix);
    return length > end && !strcmp(name + length - end, suffix);
}

static void list_folder(const char *folder,
                        void (*each)(void *user_data, const char *path),
                        void *user_data) {
    DIR *directory = opendir(folder);
    if (!directory) return;
    struct dirent *entry;
    while ((entry = readdir(directory))) {
        char path[PATH_BYTES + 256];
        if (!has_suffix(entry->d_name, ".stat")) continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        each(user_data, path);
    }
    closedir(directory);
}

void cohort_counters_list(void (*each)(void *user_data, const char *path),
                          void *user_data) {
    char folder[PATH_BYTES];
    if (find_folder(folder, sizeof folder)) list_folder(folder, each, user_data);
}

static void sweep_one(void *user_data, const char *path) {
    int32_t *n_swept = user_data;
    cohort_counters *counters = NULL;
    if (cohort_counters_open(path, &counters) < 0) return;
    bool is_alive = cohort_counters_is_alive(counters);
    cohort_counters_close(counters);
    if (!is_alive && !unlink(path)) ++*n_swept;
}

static bool is_held(int folder_fd, const char *name) {
    int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int locked = is_locked(fd);
    if (fd >= 0) close(fd);
    return locked > 0;
}

/* PID-START.new of a process that is gone. */
static int32_t sweep_unfinished(const char *folder) {
    int32_t n_swept = 0;
    DIR *directory = opendir(folder);
    if (!directory) return 0;
    struct dirent *entry;
    while ((entry = readdir(directory))) {
        int32_t pid = 0;
        unsigned long long start = 0;
        if (!has_suffix(entry->d_name, ".new") ||
            sscanf(entry->d_name, "%d-%llu-", &pid, &start) != 2 ||
            is_process(pid, start) || is_held(dirfd(directory), entry->d_name))
            continue;
        if (!unlinkat(dirfd(directory), entry->d_name, 0)) n_swept++;
    }
    closedir(directory);
    return n_swept;
}

static int32_t sweep_folder(const char *folder) {
    int32_t n_swept = 0;
    list_folder(folder, sweep_one, &n_swept);
    return n_swept + sweep_unfinished(folder);
}

int32_t cohort_counters_sweep(void) {
    char folder[PATH_BYTES];
    return find_folder(folder, sizeof folder) ? sweep_folder(folder) : 0;
}

/* "." and ".." and hidden names are out too: a name starts with a letter or digit. */
static bool is_instance_name(const char *name) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789-_.";
    size_t length = strlen(name);
    return length && length <= COHORT_INSTANCE_CHARS && strspn(name, allowed) == length &&
           !strchr("-_.", name[0]);
}

static cohort_status map_file(int fd, size_t size_bytes, bool is_writable,
                              cohort_counters **out_counters) {
    cohort_counters *counters = calloc(1, sizeof *counters);
    if (!counters) return COHORT_FAIL(COHORT_E_NOMEM, "allocating the counters");
    void *bytes = mmap(NULL, size_bytes, is_writable ? PROT_READ | PROT_WRITE : PROT_READ,
                       MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED) {
        free(counters);
        return COHORT_FAIL_SYS(errno, "mapping %zu bytes of counters", size_bytes);
    }
    counters->bytes = bytes;
    counters->size_bytes = size_bytes;
    counters->n_rows = (int32_t)(size_bytes / COHORT_COUNTERS_ROW_BYTES) - 1;
    counters->fd = -1;
    counters->life_fd = -1;
    *out_counters = counters;
    return COHORT_OK;
}

static void fill_header(cohort_counters *counters, const cohort_counters_options *options,
                        const char *instance) {
    cohort_counters_header *header = cohort_counters_header_of(counters);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    header->version = COHORT_COUNTERS_VERSION;
    header->has_lock = counters->life_fd >= 0;
    header->n_rows = (uint32_t)options->n_rows;
    header->tp = options->tp;
    header->pp = options->pp;
    header->driver_pid = getpid();
    header->driver_start = process_start(getpid());
    header->started_unix_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    snprintf(header->instance, sizeof header->instance, "%s", instance);
    snprintf(header->build_id, sizeof header->build_id, "%s", cohort_build_id());
    snprintf(header->backend, sizeof header->backend, "%s", options->backend);
    cohort_counters_row *row = (cohort_counters_row *)(header + 1);
    for (int32_t rank = 0; rank < options->n_rows; rank++, row++) {
        atomic_store_explicit(&row->rank, rank, memory_order_relaxed);
        atomic_store_explicit(&row->waits_for, COHORT_RANK_LOCAL, memory_order_relaxed);
    }
    header->magic = MAGIC;
}

/* On a descriptor of its own; -1 where the file system has no locks. */
static int lock_file(const char *path) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || !fcntl(fd, F_OFD_SETLK, &lock)) return fd;
    close(fd);
    return -1;
}

static cohort_status reserve_and_map(int fd, int32_t n_rows,
                                     cohort_counters **out_counters) {
    size_t size_bytes = (size_t)(n_rows + 1) * COHORT_COUNTERS_ROW_BYTES;
    cohort_status status = cohort_memory_reserve(fd, size_bytes);
    if (status >= 0) status = map_file(fd, size_bytes, true, out_counters);
    if (status < 0)
        close(fd);
    else
        (*out_counters)->fd = fd;
    return status;
}

/* Creates FOLDER/PID-START-CHANCE.new of the right size, mapped and locked. */
static cohort_status create_unfinished(const char *folder, int32_t n_rows, char *out_path,
                                       cohort_counters **out_counters) {
    uint32_t chance = 0;
    if (getrandom(&chance, sizeof chance, 0) != sizeof chance)
        return COHORT_FAIL_SYS(errno, "getrandom");
    snprintf(out_path, PATH_BYTES + 64, "%s/%d-%llu-%08x.new", folder, (int)getpid(),
             (unsigned long long)process_start(getpid()), chance);
    int fd = open(out_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return COHORT_FAIL_SYS(errno, "creating %s", out_path);
    int life_fd = lock_file(out_path);
    cohort_status status = reserve_and_map(fd, n_rows, out_counters);
    if (status < 0) {
        if (life_fd >= 0) close(life_fd);
        unlink(out_path);
        return cohort_fail_while(status, "making %s", out_path);
    }
    (*out_counters)->life_fd = life_fd;
    return COHORT_OK;
}

/* COHORT_E_INVALID where a running instance has the name. */
static cohort_status create_in(const char *folder, const cohort_counters_options *options,
                               const char *instance, cohort_counters **out_counters) {
    char unfinished[PATH_BYTES + 64];
    COHORT_TRY(create_unfinished(folder, options->n_rows, unfinished, out_counters));
    cohort_counters *counters = *out_counters;
    fill_header(counters, options, instance);
    snprintf(counters->path, sizeof counters->path, "%s/%s.stat", folder, instance);
    int err = link(unfinished, counters->path) ? errno : 0;
    unlink(unfinished);
    if (!err) {
        counters->is_owner = true;
        return COHORT_OK;
    }
    cohort_status status =
        err == EEXIST
            ? COHORT_FAIL(
                  COHORT_E_INVALID,
                  "instance '%s' is running already (%.120s); choose another name",
                  instance, counters->path)
            : COHORT_FAIL_SYS(err, "naming %s", counters->path);
    cohort_counters_close(counters);
    *out_counters = NULL;
    return status;
}

/* For this process and its workers alone. */
static cohort_status create_unnamed(const cohort_counters_options *options,
                                    const char *instance,
                                    cohort_counters **out_counters) {
    int fd = -1;
    size_t size_bytes = (size_t)(options->n_rows + 1) * COHORT_COUNTERS_ROW_BYTES;
    COHORT_TRY(cohort_memory_create("cohort-counters", size_bytes, &fd));
    cohort_status status = map_file(fd, size_bytes, true, out_counters);
    if (status < 0) {
        close(fd);
        return status;
    }
    (*out_counters)->fd = fd;
    fill_header(*out_counters, options, instance);
    return COHORT_OK;
}

static cohort_status create_anywhere(const cohort_counters_options *options,
                                     const char *instance,
                                     cohort_counters **out_counters) {
    for (int i = 0; i < N_FOLDERS; i++) {
        char folder[PATH_BYTES - 64];
        if (!name_folder(i, folder, sizeof folder) || make_folder(folder)) continue;
        sweep_folder(folder);
        cohort_status status = create_in(folder, options, instance, out_counters);
        if (status >= 0 || status == COHORT_E_INVALID) return status;
        cohort_log(COHORT_LOG_WARNING, "counters", COHORT_RANK_LOCAL,
                   "event=no_counters_file folder=%s why=\"%s\"", folder,
                   cohort_last_error()->message); /* `cohort stat` looks here alone */
    }
    cohort_log(COHORT_LOG_WARNING, "counters", COHORT_RANK_LOCAL,
               "event=no_counters what=\"no temporary folder can be written: `cohort "
               "stat` will not show this run; set XDG_RUNTIME_DIR or TMPDIR to one\"");
    return create_unnamed(options, instance, out_counters);
}

cohort_status cohort_counters_create(const cohort_counters_options *options,
                                     cohort_counters **out_counters) {
    char drawn[COHORT_INSTANCE_CHARS + 1];
    if (options->n_rows < 1 || options->n_rows > COHORT_COUNTERS_MAX_ROWS)
        return COHORT_FAIL(COHORT_E_INVALID, "counters of %d ranks", options->n_rows);
    const char *instance = options->instance;
    if (!instance) {
        uint32_t chance = 0;
        if (getrandom(&chance, sizeof chance, 0) != sizeof chance)
            return COHORT_FAIL_SYS(errno, "getrandom");
        snprintf(drawn, sizeof drawn, "%d-%08x", (int)getpid(), chance);
        instance = drawn;
    }
    if (!is_instance_name(instance))
        return COHORT_FAIL(COHORT_E_INVALID,
                           "instance name '%.60s': use up to %d letters, digits, '-', "
                           "'_' and '.', a letter or digit first",
                           instance, COHORT_INSTANCE_CHARS);
    return create_anywhere(options, instance, out_counters);
}

static cohort_status map_checked(int fd, bool is_writable,
                                 cohort_counters **out_counters) {
    struct stat found;
    if (fstat(fd, &found)) return COHORT_FAIL_SYS(errno, "stat of the counters file");
    size_t size_bytes = (size_t)found.st_size;
    if (!S_ISREG(found.st_mode) || size_bytes % COHORT_COUNTERS_ROW_BYTES ||
        size_bytes < 2 * COHORT_COUNTERS_ROW_BYTES ||
        size_bytes > (COHORT_COUNTERS_MAX_ROWS + 1) * (size_t)COHORT_COUNTERS_ROW_BYTES)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "not a counters file: %zu bytes",
                           size_bytes);
    COHORT_TRY(map_file(fd, size_bytes, is_writable, out_counters));
    const cohort_counters_header *header = cohort_counters_header_of(*out_counters);
    if (header->magic == MAGIC && header->version == COHORT_COUNTERS_VERSION &&
        header->n_rows == (uint32_t)(*out_counters)->n_rows)
        return COHORT_OK;
    cohort_counters_close(*out_counters);
    *out_counters = NULL;
    return COHORT_FAIL(COHORT_E_PROTOCOL, "not a counters file of version %d",
                       COHORT_COUNTERS_VERSION);
}

cohort_status cohort_counters_map(int fd, cohort_counters **out_counters) {
    return map_checked(fd, true, out_counters);
}

cohort_status cohort_counters_open(const char *path, cohort_counters **out_counters) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return COHORT_FAIL_SYS(errno, "opening %.160s", path);
    cohort_status status = map_checked(fd, false, out_counters);
    if (status < 0) {
        close(fd);
        return cohort_fail_while(status, "reading %.160s", path);
    }
    (*out_counters)->life_fd = fd;
    memcpy((*out_counters)->path, path, strnlen(path, PATH_BYTES - 1));
    return COHORT_OK;
}

/* Once: the name may be somebody else's afterwards. */
void cohort_counters_unlink(cohort_counters *counters) {
    if (counters->is_owner) unlink(counters->path);
    counters->is_owner = false;
}

void cohort_counters_close(cohort_counters *counters) {
    if (!counters) return;
    cohort_counters_unlink(counters);
    if (counters->fd >= 0) close(counters->fd);
    if (counters->life_fd >= 0) close(counters->life_fd);
    munmap(counters->bytes, counters->size_bytes);
    free(counters);
}

int cohort_counters_fd(const cohort_counters *counters) { return counters->fd; }

const char *cohort_counters_path(const cohort_counters *counters) {
    return counters->path[0] ? counters->path : NULL;
}

cohort_counters_header *cohort_counters_header_of(cohort_counters *counters) {
    return (cohort_counters_header *)counters->bytes;
}

cohort_counters_row *cohort_counters_row_of(cohort_counters *counters, int32_t rank) {
    if (rank < 0 || rank >= counters->n_rows) return NULL;
    return (cohort_counters_row *)(counters->bytes +
                                   ((size_t)rank + 1) * COHORT_COUNTERS_ROW_BYTES);
}

/* X(field): the words of a row that are copied as they are. */
#define ROW_WORD_MAP(X) \
    X(waits_for)        \
    X(call)             \
    X(progress)         \
    X(done)             \
    X(total)            \
    X(steps)            \
    X(rpcs)             \
    X(tokens)           \
    X(bytes_in)         \
    X(bytes_out)        \
    X(exited)           \
    X(errors)

static void copy_words(cohort_counters_row *row, const cohort_counters_row *from) {
#define X(field)                                                                    \
    atomic_store_explicit(&row->field,                                              \
                          atomic_load_explicit(&from->field, memory_order_relaxed), \
                          memory_order_relaxed);
    ROW_WORD_MAP(X)
#undef X
    int32_t crash = atomic_load_explicit(&from->crash_signal, memory_order_acquire);
    if (crash) memcpy(row->crash_frames, from->crash_frames, sizeof row->crash_frames);
    atomic_store_explicit(&row->crash_signal, crash, memory_order_release);
    /* Acquire: pairs with row_error's release, so that the text is whole. */
    if (atomic_load_explicit(&from->errors, memory_order_acquire))
        snprintf(row->text, sizeof row->text, "%s", from->text);
}

void cohort_counters_row_copy(cohort_counters_row *row, const cohort_counters_row *from) {
    uint32_t phase = atomic_load_explicit(&from->phase, memory_order_acquire);
    copy_words(row, from);
    atomic_store_explicit(&row->phase, phase, memory_order_relaxed);
    atomic_store_explicit(&row->phase_ns,
                          atomic_load_explicit(&from->phase_ns, memory_order_relaxed),
                          memory_order_relaxed);
}

void cohort_counters_row_take(cohort_counters_row *row, const cohort_counters_row *sent,
                              int64_t sent_ns, int64_t now_ns) {
    int64_t age_ns =
        sent_ns - atomic_load_explicit(&sent->phase_ns, memory_order_relaxed);
    if (age_ns < 0 || age_ns > now_ns) age_ns = 0;
    copy_words(row, sent);
    atomic_store_explicit(&row->phase_ns, now_ns - age_ns, memory_order_relaxed);
    atomic_store_explicit(&row->heartbeat_ns, now_ns, memory_order_relaxed);
    atomic_store_explicit(&row->phase,
                          atomic_load_explicit(&sent->phase, memory_order_relaxed),
                          memory_order_release);
}

void cohort_counters_row_set_address(cohort_counters_row *row, const char *address) {
    row->address_family = inet_pton(AF_INET, address, row->address) == 1    ? AF_INET
                          : inet_pton(AF_INET6, address, row->address) == 1 ? AF_INET6
                                                                            : 0;
}

void cohort_counters_row_address(const cohort_counters_row *row,
                                 char out_address[COHORT_COUNTERS_ADDRESS_BYTES]) {
    if (!row->address_family || !inet_ntop((int)row->address_family, row->address,
                                           out_address, COHORT_COUNTERS_ADDRESS_BYTES))
        out_address[0] = '\0';
}

void cohort_counters_row_error(cohort_counters_row *row, const char *text) {
    /* One thread reports errors; the count says that the text is there. */
    if (!atomic_load_explicit(&row->errors, memory_order_relaxed))
        snprintf(row->text, sizeof row->text, "%s", text);
    atomic_fetch_add_explicit(&row->errors, 1, memory_order_release);
}
