/* SPDX-License-Identifier: Apache-2.0 */
/* counters/counters.h - what a run is doing, in one mapped file that outlives a crash.
 *
 * The driver creates it, every rank maps it and writes its own row, `cohort stat` reads
 * it at any time without asking anybody.
 *
 *   | header: who runs, since when | row 0 | row 1 | ... |       512 bytes each
 *
 * $XDG_RUNTIME_DIR/cohort/INSTANCE.stat, or cohort-UID/INSTANCE.stat in TMPDIR, /tmp,
 * /var/tmp or /dev/shm: the first that can be written; the folders are 0700.  Without any
 * there is no file, and a warning in the log.  An orderly end removes it; what a crash
 * left is swept by the next create, which knows it by a lock that is gone.
 *
 * Ownership: close unmaps; the creator's close removes the file too.
 * Threads:   every word is atomic; a row has one writing process, its text excepted.
 * Errors:    COHORT_E_IO, COHORT_E_INVALID (a bad or running instance name),
 * COHORT_E_PROTOCOL (not such a file, or another version's).
 */
#ifndef COHORT_COUNTERS_H
#define COHORT_COUNTERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/status.h"

enum {
    COHORT_COUNTERS_VERSION = 1,
    COHORT_COUNTERS_ROW_BYTES = 512,
    COHORT_COUNTERS_TEXT_BYTES = 240,
    COHORT_COUNTERS_ADDRESS_BYTES = 46, /* INET6_ADDRSTRLEN */
    COHORT_INSTANCE_CHARS = 47,
    COHORT_COUNTERS_MAX_ROWS = 1024,
    COHORT_CRASH_FRAMES = 16,
};

/* What a rank does; the text is what messages and `cohort stat` print. */
#define COHORT_RANK_PHASE_MAP(X)             \
    X(COHORT_RANK_START, 0, "start")         \
    X(COHORT_RANK_CONFIGURE, 1, "configure") \
    X(COHORT_RANK_CONNECT, 2, "connect")     \
    X(COHORT_RANK_LOAD, 3, "load")           \
    X(COHORT_RANK_IDLE, 4, "idle")           \
    X(COHORT_RANK_EXECUTE, 5, "execute")     \
    X(COHORT_RANK_RPC, 6, "rpc")             \
    X(COHORT_RANK_REPLY, 7, "reply")         \
    X(COHORT_RANK_STOP, 8, "stop")           \
    X(COHORT_RANK_FAILED, 9, "failed")       \
    X(COHORT_RANK_DEAD, 10, "dead")

typedef enum cohort_rank_phase {
#define X(name, value, text) name = (value),
    COHORT_RANK_PHASE_MAP(X)
#undef X
} cohort_rank_phase;

typedef struct cohort_counters_row {
    _Atomic int32_t rank;
    _Atomic int32_t pid;
    _Atomic uint32_t phase;       /* cohort_rank_phase */
    _Atomic int32_t waits_for;    /* rank, or -1 */
    _Atomic uint64_t call;        /* number of the call it is at, or was last */
    _Atomic int64_t phase_ns;     /* when the phase or the call changed */
    _Atomic int64_t heartbeat_ns; /* watcher thread: the process runs */
    _Atomic uint64_t progress;    /* grows while a long operation gets on */
    _Atomic uint64_t done, total; /* of loading */
    _Atomic uint64_t steps, rpcs, tokens;
    _Atomic uint64_t bytes_in, bytes_out; /* of queue messages */
    _Atomic uint64_t errors;              /* the text is the first one's */
    _Atomic int32_t crash_signal;         /* 0: none */
    _Atomic uint32_t exited;              /* 1 + the status of an exit(); 0: none */
    /* Where the rank crashed, or stack_thread is, which was asked: offsets in the module
     * that has our code; 0 ends them. */
    uint64_t crash_frames[COHORT_CRASH_FRAMES];
    /* Where it runs, AF_INET or AF_INET6; the driver writes it before the pid.  0: here.
     */
    uint32_t address_family;
    uint8_t address[16];
    _Atomic int32_t stack_thread;
    char text[COHORT_COUNTERS_TEXT_BYTES];
} cohort_counters_row;
_Static_assert(sizeof(cohort_counters_row) == COHORT_COUNTERS_ROW_BYTES, "in a file");

typedef struct cohort_counters_header {
    uint64_t magic; /* written last */
    uint32_t version;
    uint32_t n_rows;
    int32_t tp, pp;
    int32_t driver_pid;
    uint32_t has_lock;     /* the driver lives as long as the file is locked */
    uint64_t driver_start; /* clock ticks after boot, tells a reused pid */
    int64_t started_unix_ns;
    _Atomic uint64_t epoch;
    _Atomic uint32_t state; /* of the executor; see executor.c */
    _Atomic uint32_t failed;
    char instance[COHORT_INSTANCE_CHARS + 1];
    char build_id[40];
    char backend[8];
    _Atomic uint64_t n_deaths;    /* of ranks that were started again */
    _Atomic uint64_t n_kept;      /* recoveries in which no KV cache was lost, */
    _Atomic uint64_t n_recovered; /* of so many */
    char title[88]; /* what is served, and where; written before others can ask there */
    char text[COHORT_COUNTERS_TEXT_BYTES]; /* why it failed, or the last rank died */
} cohort_counters_header;

_Static_assert(sizeof(cohort_counters_header) == COHORT_COUNTERS_ROW_BYTES, "in a file");

typedef struct cohort_counters cohort_counters;

typedef struct cohort_counters_options {
    const char *instance; /* letters, digits, '-', '_' and '.'; NULL: drawn */
    const char *backend;
    int32_t tp, pp;
    int32_t n_rows;
} cohort_counters_options;

/* Sweeps first; then creates the file of this process. */
cohort_status cohort_counters_create(const cohort_counters_options *options,
                                     cohort_counters **out_counters);
/* Maps a descriptor that another process sent: for writing the own row. */
cohort_status cohort_counters_map(int fd, cohort_counters **out_counters);
/* Maps a file for reading; foreign bytes are checked. */
cohort_status cohort_counters_open(const char *path, cohort_counters **out_counters);
/* Accepts NULL.  The creator removes the file. */
void cohort_counters_close(cohort_counters *counters);

/* Removes the creator's file; the mapping stays. */
void cohort_counters_unlink(cohort_counters *counters);

int cohort_counters_fd(const cohort_counters *counters);           /* the creator's */
const char *cohort_counters_path(const cohort_counters *counters); /* NULL: no file */
cohort_counters_header *cohort_counters_header_of(cohort_counters *counters);
/* NULL where there is no such row. */
cohort_counters_row *cohort_counters_row_of(cohort_counters *counters, int32_t rank);

/* What a rank elsewhere sent of its row.  Its times are of its own clock, which read
 * sent_ns when ours read now_ns; pid and rank stay. */
void cohort_counters_row_take(cohort_counters_row *row, const cohort_counters_row *sent,
                              int64_t sent_ns, int64_t now_ns);
/* Word by word, from a row that others write. */
void cohort_counters_row_copy(cohort_counters_row *row, const cohort_counters_row *from);
/* A numeric address; another text is forgotten. */
void cohort_counters_row_set_address(cohort_counters_row *row, const char *address);
/* "" where it has none. */
void cohort_counters_row_address(const cohort_counters_row *row,
                                 char out_address[COHORT_COUNTERS_ADDRESS_BYTES]);
/* Keeps the first text, counts the others. */
void cohort_counters_row_error(cohort_counters_row *row, const char *text);
const char *cohort_rank_phase_name(uint32_t phase);

/* Is the driver that made it still running? */
bool cohort_counters_is_alive(const cohort_counters *counters);
/* Removes the files of dead drivers; the number removed. */
int32_t cohort_counters_sweep(void);
/* The first folder that can have this user's files; created where it is missing. */
cohort_status cohort_counters_folder(char *out_path, size_t size);
/* Calls back with the path of every file there, in no order. */
void cohort_counters_list(void (*each)(void *user_data, const char *path),
                          void *user_data);

#endif /* COHORT_COUNTERS_H */
