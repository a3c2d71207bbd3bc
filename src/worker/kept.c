/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/kept.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/log.h"
#include "base/thread.h"
#include "cohort/clock.h"

/* Design notes.
 *
 * The driver holds descriptors and maps nothing: when this process is killed, the kernel
 * frees what is ours, and not what a descriptor elsewhere stands for.
 *
 * What has to be done beside steps takes at most a fifth of a core while there are any:
 * after each few milliseconds the thread sleeps four times as long, or until the rank is
 * idle.
 *
 * That something cannot be kept is no error of the rank: it is logged, and a rank that
 * takes its place loads anew. */

enum { SLICE_NS = 500000, SLEEP_TIMES = 4 };

static int index_of(uint32_t what) { return what == COHORT_KEEP_KV; }

static uint32_t what_is(const char *name) {
    return strcmp(name, "kv") == 0 ? COHORT_KEEP_KV : COHORT_KEEP_WEIGHTS;
}

static int take(void *self, const char *name) {
    worker_kept *kept = self;
    pthread_mutex_lock(&kept->lock);
    int *at = &kept->fds[index_of(what_is(name))], fd = *at;
    *at = -1;
    pthread_mutex_unlock(&kept->lock);
    return fd;
}

static cohort_status keep(void *self, const char *name, int fd, uint64_t generation,
                          bool was_kept) {
    worker_kept *kept = self;
    const cohort_frame_keep body = {
        .what = what_is(name), .was_kept = was_kept, .generation = generation};
    return kept->send(kept->self,
                      (cohort_frame){.kind = COHORT_FRAME_KEEP,
                                     .body = &body,
                                     .body_bytes = sizeof body},
                      fd);
}

void worker_kept_init(worker_kept *kept) {
    kept->keeper = (cohort_keeper){.self = kept, .take = take, .keep = keep};
    for (int i = 0; i < WORKER_KEPT_KINDS; i++)
        kept->fds[i] = -1;
    atomic_init(&kept->is_stopping, false);
    pthread_mutex_init(&kept->lock, NULL);
}

static void drop_all(worker_kept *kept) {
    pthread_mutex_lock(&kept->lock);
    for (int i = 0; i < WORKER_KEPT_KINDS; i++) {
        if (kept->fds[i] >= 0) close(kept->fds[i]);
        kept->fds[i] = -1;
    }
    pthread_mutex_unlock(&kept->lock);
}

void worker_kept_deinit(worker_kept *kept) {
    drop_all(kept);
    pthread_mutex_destroy(&kept->lock);
}

cohort_status worker_kept_put(worker_kept *kept, const cohort_frame *frame, int fd) {
    cohort_frame_keep body;
    COHORT_TRY(cohort_frame_take_keep(frame, fd, &body));
    pthread_mutex_lock(&kept->lock);
    int *at = &kept->fds[index_of(body.what)];
    if (*at >= 0) close(*at);
    *at = fd;
    pthread_mutex_unlock(&kept->lock);
    return COHORT_OK;
}

/* ---- beside steps -------------------------------------------------------------- */

static bool is_idle(const worker_kept *kept) {
    return atomic_load_explicit(&kept->row->phase, memory_order_relaxed) ==
           COHORT_RANK_IDLE;
}

static void yield_to_steps(worker_kept *kept, int64_t spent_ns) {
    int64_t until_ns = cohort_clock_ns() + SLEEP_TIMES * spent_ns;
    while (!atomic_load(&kept->is_stopping) && !is_idle(kept) &&
           cohort_clock_ns() < until_ns) {
        const struct timespec slice = {.tv_nsec = SLICE_NS};
        nanosleep(&slice, NULL);
    }
}

static void say_in_vain(void) {
    cohort_log(COHORT_LOG_INFO, "worker", COHORT_RANK_LOCAL,
               "event=memory_not_kept text=\"%s\"", cohort_last_error()->message);
}

static void *keep_main(void *argument) {
    worker_kept *kept = argument;
    cohort_status status = COHORT_PENDING;
    int64_t begin_ns = cohort_clock_ns(), spent_ns = 0;
    while (status == COHORT_PENDING && !atomic_load(&kept->is_stopping)) {
        int64_t now_ns = cohort_clock_ns();
        status = kept->work(kept->context);
        now_ns = cohort_clock_ns() - now_ns;
        spent_ns += now_ns;
        yield_to_steps(kept, now_ns);
    }
    if (status < 0)
        say_in_vain();
    else if (status == COHORT_OK)
        cohort_log(COHORT_LOG_INFO, "worker", COHORT_RANK_LOCAL,
                   "event=memory_kept us=%lld of_us=%lld", (long long)(spent_ns / 1000),
                   (long long)((cohort_clock_ns() - begin_ns) / 1000));
    return NULL;
}

void worker_kept_start(worker_kept *kept, cohort_status (*work)(void *context),
                       void *context, const cohort_counters_row *row) {
    drop_all(kept);
    if (kept->has_thread || !work) return;
    kept->work = work;
    kept->context = context;
    kept->row = row;
    kept->has_thread =
        cohort_thread_start("cohort-keep", keep_main, kept, &kept->thread) >= 0;
    if (!kept->has_thread) say_in_vain();
}

void worker_kept_stop(worker_kept *kept) {
    atomic_store(&kept->is_stopping, true);
    if (kept->has_thread) pthread_join(kept->thread, NULL);
    kept->has_thread = false;
}
