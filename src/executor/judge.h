/* SPDX-License-Identifier: Apache-2.0 */
/* executor/judge.h - which death did what, who is late, and what is to be done: pure.
 *
 * A state and a step: an event goes in, actions come out.  There is no clock, descriptor
 * or thread in it; time comes with the event.  The monitor turns descriptors into events
 * and carries the actions out; a test does the same with time that it makes up.
 *
 *   place -> configure -> connect -> load -> ready -> stopping -> closed
 *
 * Where ranks may be started again, a death after the first ready is no verdict: a new
 * epoch begins, in which the same phases are gone through once more.
 *
 * Threads: one at a time, the monitor's.   Errors: none; verdicts are cohort_error.
 */
#ifndef COHORT_EXECUTOR_JUDGE_H
#define COHORT_EXECUTOR_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/launch.h"
#include "cohort/status.h"
#include "executor/verdict.h"
#include "launcher/launcher.h"

/* What the executor is doing; the counters file shows it. */
typedef enum executor_state {
    EXECUTOR_PLACE,
    EXECUTOR_CONFIGURE,
    EXECUTOR_CONNECT,
    EXECUTOR_LOAD,
    EXECUTOR_READY,
    EXECUTOR_STOPPING,
    EXECUTOR_CLOSED
} executor_state;

typedef enum judge_event_kind {
    JUDGE_STARTED,  /* the rank is there; who */
    JUDGE_REACHED,  /* the rank has finished the phase before `reached` */
    JUDGE_DRAINED,  /* nobody uses the queues of the epoch before any more */
    JUDGE_LINKED,   /* the driver has its ends of all queues */
    JUDGE_REPORTED, /* the rank told of an error, perhaps of another's */
    JUDGE_UNLINKED, /* the rank's control link ended; is_living: its process did not */
    JUDGE_BROKEN,   /* the rank said nonsense, or could not be told something */
    JUDGE_ENDED,    /* the rank's process ended; is_crash, is_killed: by a signal,
                     * is_fault: by its own doing */
    JUDGE_EXAMINED, /* the rank, which is hung: who says where it is */
    JUDGE_FAILED,   /* the executor has failed by another's word */
    JUDGE_STOP,     /* shutdown was asked for */
    JUDGE_TICK,     /* time has passed; the views are filled */
} judge_event_kind;

typedef struct judge_event {
    judge_event_kind kind;
    int32_t rank; /* or COHORT_RANK_LOCAL */
    int64_t now_ns;
    executor_state reached;
    bool is_living, is_crash, is_killed, is_fault;
    const cohort_error *error; /* REPORTED, UNLINKED, BROKEN, ENDED, FAILED */
    const char *who;           /* STARTED, EXAMINED */
    uint64_t n_completed;      /* steps so far, with any event */
    uint64_t n_explained;      /* times that what killed ranks was found; the same */
    uint64_t pending_call;     /* TICK: the oldest step that nobody answered, or 0 */
    int64_t pending_ns;        /* when it was sent */
} judge_event;

typedef enum judge_action_kind {
    JUDGE_DO_ENTER,     /* a phase: tell all ranks; state */
    JUDGE_DO_CONFIGURE, /* the rank, which has said hello */
    JUDGE_DO_INTERRUPT, /* all calls: the next epoch begins; cause says why */
    JUDGE_DO_REJOIN,    /* the rank, into this epoch */
    JUDGE_DO_EXAMINE,   /* the rank, which is hung and will be convicted: where is it? */
    JUDGE_DO_KILL,      /* the rank, which is started again once it has ended */
    JUDGE_DO_START,     /* the rank again */
    JUDGE_DO_FAIL,      /* the verdict is the executor's failure */
    JUDGE_DO_TELL,      /* poison for all ranks, the failure callback */
    JUDGE_DO_ASK,       /* the rank to stop */
    JUDGE_DO_POISON,    /* the rank, which was asked in vain */
    JUDGE_DO_SIGNAL,    /* the rank; signal */
    JUDGE_DO_CLOSE,     /* all have ended, or stayed_rank has not in time */
} judge_action_kind;

typedef struct judge_action {
    judge_action_kind kind;
    int32_t rank;
    int32_t signal;
    executor_state state;
} judge_action;

enum { JUDGE_WHO_BYTES = COHORT_LAUNCH_NAME_BYTES + COHORT_HOST_BYTES + 32 };

typedef struct judge_rank {
    char who[JUDGE_WHO_BYTES]; /* "pid 4711", for texts */
    executor_state reached;    /* the phase that it has finished, plus one */
    bool is_started, has_ended;
    bool has_reported;  /* an error of its own: it leaves because of that */
    bool is_configured; /* in this life */
    bool is_doomed;     /* was killed by us, and is started again */
    int64_t rejoin_ns;  /* when it was told to rejoin; 0: it was not */
    int64_t start_ns;   /* not to be started again before */
    int32_t n_vain;     /* times it was started again since a step was completed */
    int32_t n_window;   /* the same since window_ns */
    int64_t window_ns;
    cohort_error window_cause; /* the first one since */
    /* What may be another's death, but names nobody else; code 0: there is none. */
    cohort_error told;
    uint64_t progress;
    int64_t progress_ns;
} judge_rank;

typedef struct cohort_judge {
    const cohort_executor_options *options; /* limits */
    int32_t world_size;
    bool closes_world; /* the launcher needs a part of shutdown's limit */
    bool can_restart;  /* and knows how to start a rank again */
    executor_state state;
    judge_rank *ranks;
    cohort_rank_view *views; /* filled before TICK */
    bool is_linked, is_drained;
    int64_t opened_ns, phase_ns, tick_ns, resumed_ns;

    bool is_failed, is_told;
    cohort_error verdict;
    bool has_suspect; /* an error that may be another rank's death */
    cohort_error suspect;
    int64_t suspect_until_ns;

    bool is_examined; /* hang.rank, before the verdict */
    cohort_hang hang;

    bool was_ready;
    uint64_t n_epochs; /* that began after the first */
    uint64_t n_deaths; /* that were no verdict */
    uint64_t n_faults; /* of them, while ready: what was computed may have caused it */
    uint64_t n_completed, n_explained;
    cohort_error first_cause, cause; /* since a step was completed; the last one */

    int32_t stop_stage; /* 1: asked, 2: SIGTERM, 3: SIGKILL */
    int64_t stop_ns;
    int32_t stayed_rank; /* -1, or who could not be ended in time: late says so */
    cohort_error late;   /* or of a rank that crashed after it was asked to stop */

    size_t n_actions; /* of the last step */
    judge_action *actions;
} cohort_judge;

cohort_status judge_open(cohort_judge *self, const cohort_executor_options *options,
                         int32_t world_size, int64_t now_ns);
/* Are deaths after the first ready no verdict?  Then ranks outlive their peers. */
bool judge_restarts(const cohort_judge *self);
/* Of an epoch after the first, before it is ready. */
bool judge_recovers(const cohort_judge *self);
/* Has it told of an error that may be its own?  Then it leaves because of that. */
bool judge_has_reported(const cohort_judge *self, int32_t rank);
void judge_close(cohort_judge *self);
/* The actions are in self until the next step. */
void judge_step(cohort_judge *self, const judge_event *event);
/* How long it may go without a TICK. */
int32_t judge_tick_ms(const cohort_judge *self);
const char *executor_state_name(executor_state state);

#endif /* COHORT_EXECUTOR_JUDGE_H */
