/* SPDX-License-Identifier: Apache-2.0 */
/* worker/control.h - the row of counters and the control link of a rank. */
#ifndef COHORT_WORKER_CONTROL_H
#define COHORT_WORKER_CONTROL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "counters/counters.h"
#include "link/link.h"
#include "wire/frame.h"
#include "worker/extension.h"
#include "worker/kept.h"
#include "worker/worker.h"

struct cohort_worker {
    const cohort_worker_options *options;
    cohort_link *control;
    pthread_mutex_t send_lock;
    pthread_t watcher;
    int wake_fd;
    bool has_watcher;

    pthread_mutex_t lock; /* the mailbox, the poison, the epoch, and the pointers that the
                             watcher interrupts */
    pthread_cond_t changed;
    uint8_t *mail; /* NULL: empty */
    size_t mail_bytes;
    uint32_t mail_kind;
    uint64_t told_epoch; /* the newest that the driver told of */
    int counters_fd;
    bool is_stopping;
    bool is_poisoned;
    cohort_error poison;
    cohort_mesh *mesh;
    const cohort_worker_carrier *carrier;
    void *carrier_self;
    cohort_queue *broadcast; /* these two: of cohort_worker_queues */
    cohort_queue *response;

    _Atomic int64_t heartbeat_ns; /* interval */
    cohort_counters *counters;
    cohort_counters_row *_Atomic row; /* spare_row until the counters are mapped */
    cohort_counters_row spare_row;
    _Atomic bool sends_row; /* the driver's counters cannot be mapped from here */
    int64_t row_sent_ns;    /* the watcher's */

    cohort_worker_info info; /* the main thread's, but for what configure says */
    _Atomic uint64_t epoch;  /* info.epoch, for frames of the watcher */
    bool is_extended, is_loaded;
    uint8_t *configure; /* the frame that info.config points into */
    const char *config[COHORT_CONFIG_MAX_PAIRS + 1];
    cohort_frame_configure settings;
    cohort_extension extension;
    void *context;
    worker_kept kept;
    cohort_frame_ready ready;            /* what it tells of itself */
    uint8_t *reply;                      /* prefix and reply */
    char doing[COHORT_METHOD_CHARS + 1]; /* phase or method, for errors */
    uint64_t call;
    bool holds_message; /* read_begin without its end */
};

/* queues.c; self: the worker. */
extern const cohort_worker_carrier cohort_worker_queues;

cohort_counters_row *worker_row_of(cohort_worker *worker);
void worker_beat(cohort_worker *worker);
void worker_set_phase(cohort_worker *worker, cohort_rank_phase phase, uint64_t call);
void worker_add(_Atomic uint64_t *counter, uint64_t amount);
cohort_status worker_send_control(cohort_worker *worker, cohort_frame frame);
/* With a descriptor, lent, where fd >= 0. */
cohort_status worker_send_control_fd(void *worker, cohort_frame frame, int fd);
void worker_send_error(cohort_worker *worker, cohort_frame_kind kind);
void *worker_watcher_main(void *argument);
cohort_status worker_check_poison(cohort_worker *worker);
bool worker_is_stopping(cohort_worker *worker);
/* Waits for the next phase frame, or for what cohort_worker_check says instead.  The
 * caller frees *out_bytes, which the frame points into. */
cohort_status worker_await_phase(cohort_worker *worker, cohort_frame_kind kind,
                                 uint8_t **out_bytes, cohort_frame *out_frame);
void worker_set_doing(cohort_worker *worker, const char *what, uint64_t call);

#endif /* COHORT_WORKER_CONTROL_H */
