/* SPDX-License-Identifier: Apache-2.0 */
/* executor/executor_internal.h - the one object that the files of this folder share.
 *
 * Three locks, taken in this order: send_lock (one call is sent at a time), lock (what
 * callers and monitor share), and the monitor's own state, which needs none.
 */
#ifndef COHORT_EXECUTOR_INTERNAL_H
#define COHORT_EXECUTOR_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "cohort/executor.h"
#include "cohort/queue.h"
#include "counters/counters.h"
#include "executor/carrier.h"
#include "executor/judge.h"
#include "executor/keep.h"
#include "executor/oom.h"
#include "launcher/launcher.h"
#include "link/link.h"
#include "wire/frame.h"

typedef struct executor_rank {
    cohort_launch launch;
    cohort_link *control; /* monitor thread's */
    cohort_link_inbox inbox;
    cohort_counters_row *row;
    cohort_queue *response; /* set under lock; read by the pumping thread */
    cohort_frame_publish publish;
    executor_kept kept;     /* the monitor's, then destroy's */
    bool has_link;          /* control is watched by epoll */
    int coming_fd;          /* of a rank that takes time to come into being, or -1 */
    bool is_untold;         /* what the judge has decided */
    uint64_t reported_done; /* to on_progress */
} executor_rank;

typedef struct reply_buffer {
    uint8_t *bytes;
    size_t size_bytes;
    size_t capacity_bytes;
} reply_buffer;

struct cohort_future {
    cohort_executor *executor;
    cohort_future *next; /* in the queue of pending calls, or the pool */
    uint64_t call;
    int64_t sent_ns;
    char method[COHORT_METHOD_CHARS + 1];
    int32_t first_rank, end_rank; /* the ranks that reply */
    int32_t next_rank;            /* all before it have replied */
    bool is_step;
    bool is_done;
    bool is_abandoned; /* destroyed by its owner: recycled when complete */
    cohort_status status;
    cohort_error error;
    reply_buffer *replies; /* world_size */
};

struct cohort_executor {
    cohort_executor_options options; /* strings and config are copies */
    int32_t world_size;
    int32_t output_rank;
    int32_t max_in_flight;
    uint64_t epoch; /* of the world; written by the monitor, under lock */
    const cohort_launcher *launcher;
    void *world;      /* what the launcher's open made; the monitor's */
    const char *host; /* to bind for ranks on other hosts, or NULL; the world's */
    cohort_counters *counters;
    executor_rank *ranks;
    const executor_carrier *carrier;
    cohort_queue *broadcast; /* the carrier's, as ranks' response; set under lock */
    cohort_queue *replies;   /* of a relay, in place of those; the same */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* state, failure, pumping, the monitor's end */
    executor_state state;
    bool is_linked; /* the driver's ends of all queues are there */
    bool is_failed;
    cohort_error failure;
    cohort_failure_callback callback;
    void *callback_data;
    bool is_told; /* the callback was or is being called */
    bool is_recovering;
    bool has_lost_kv;     /* a rank, in a recovery since the last step */
    bool has_stepped;     /* in this epoch: a death may be a request's */
    uint64_t seen_faults; /* of the judge's, in recovery or nobody's */
    cohort_executor_recovery recovery;
    uint64_t allowed_epoch; /* of steps: await_ready has told the caller of it */
    uint64_t n_completed;   /* steps */
    uint64_t n_explained;   /* of cohort_executor_forget_deaths */
    uint8_t *setup;         /* nested frames of calls for a rank that is started again */
    size_t setup_bytes;
    cohort_status shutdown_status;
    cohort_error shutdown_error;

    pthread_mutex_t send_lock;
    size_t one_slot_bytes;
    uint8_t *scratch;     /* frames that do not fit a slot; under send_lock */
    uint64_t calls_epoch; /* of the queues; changes while nobody sends or pumps */
    uint64_t last_call;
    /* The last step sent waits for its masks, which masks_owner sends next; under both
     * locks. */
    bool awaits_masks;
    pthread_t masks_owner;

    /* Pending calls, oldest first, under lock.  Whoever waits and finds nobody pumping
     * reads the response queues for all. */
    cohort_future *head, *tail, *pool;
    int32_t n_pending, n_steps, n_waiting;
    bool is_pumping;

    /* Makes the driver's ends of a later epoch's queues, beside the monitor. */
    pthread_t linker;
    bool has_linker, is_linking;
    int64_t unlinked_ns; /* when that failed in this epoch, or 0; under lock */
    cohort_error link_error;

    /* The monitor's. */
    pthread_t monitor;
    bool has_monitor, is_joined;
    int epoll_fd, wake_fd;
    int64_t started_ns, phase_ns;
    cohort_executor_phases phases;
    cohort_judge judge;
    executor_oom oom;
    bool is_carrying_out; /* what the judge has decided */
    bool has_examined;    /* a rank that is hung, of which the judge is to hear: */
    int32_t examined_rank;
    char examined[64];   /* where it is */
    cohort_error untold; /* why a rank could not be told that */
};

/* recovery.c.  With lock held: the next epoch begins, and all calls end. */
void executor_interrupt(cohort_executor *executor, const cohort_error *cause,
                        int64_t now_ns);
/* Closes the queues of the epoch before, once nobody uses them; false: not yet. */
bool executor_drain(cohort_executor *executor);
cohort_status executor_start_linking(cohort_executor *executor);
void executor_end_linking(cohort_executor *executor);
/* With lock held. */
void executor_end_recovery(cohort_executor *executor, int64_t now_ns);

/* setup.c, before the call and after it was OK. */
cohort_status executor_check_setup(cohort_executor *executor, const cohort_rpc *rpc,
                                   uint64_t *out_epoch);
/* COHORT_E_INTERRUPTED: the epoch, of before the call, is over; a rank may lack it. */
cohort_status executor_keep_setup(cohort_executor *executor, const cohort_rpc *rpc,
                                  uint64_t epoch);

/* monitor.c */
cohort_status executor_monitor_start(cohort_executor *executor);
/* What came over its control link, and its end. */
cohort_status executor_on_frame(cohort_executor *executor, int32_t rank,
                                const cohort_frame *frame);
void executor_on_ended(cohort_executor *executor, int32_t rank);

/* A rank comes into being, or again; where that takes time, coming_fd says when it is
 * there, or cannot be. */
void executor_on_come(cohort_executor *executor, int32_t rank);
void executor_place_rank(cohort_executor *executor, int32_t rank);
void executor_configure_rank(cohort_executor *executor, int32_t rank);
/* Tells ranks to begin a phase. */
void executor_enter_phase(cohort_executor *executor, executor_state state,
                          int64_t now_ns);

/* actions.c, on the monitor's thread: tells the judge, does as it says. */
void executor_judge(cohort_executor *executor, judge_event event);
/* The thread's last error is what became of a rank, or of its link. */
void executor_judge_last(cohort_executor *executor, judge_event_kind kind, int32_t rank);
/* While an action is carried out: it failed for that rank, as the thread's last error
 * says, which the judge hears afterwards. */
void executor_was_untold(cohort_executor *executor, int32_t rank);
/* now_ns: of cohort_clock_ns, or a test's. */
void executor_on_clock(cohort_executor *executor, int64_t now_ns);

/* calls.c */
/* COHORT_PENDING: a late reply of an older epoch, dropped. */
cohort_status executor_take_reply(cohort_executor *executor, cohort_future *future,
                                  int32_t rank, const void *bytes, size_t size_bytes);
/* By a rank that does not reply.  False where the call is not pending, or not yet. */
bool executor_refuse(cohort_executor *executor, uint64_t call, const cohort_error *error);
/* A queue broke, as the calling thread's last error says.  The monitor knows better why,
 * most of the time: it gets some time to say so before this error, by rank where it names
 * none, becomes the failure.  With lock held. */
void executor_await_verdict(cohort_executor *executor, int32_t rank);
void executor_free_futures(cohort_executor *executor);
/* With lock held: ends every pending call, if it has no future. */
bool executor_end_calls(cohort_executor *executor);
/* With lock held: why no call can be made, or OK. */
cohort_status executor_check_open(cohort_executor *executor);

#endif /* COHORT_EXECUTOR_INTERNAL_H */
