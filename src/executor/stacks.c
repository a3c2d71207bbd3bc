/* SPDX-License-Identifier: Apache-2.0 */
#include "executor/stacks.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cohort/clock.h"

enum {
    MAX_THREADS = 64,
    FRAMES_MS = 100, /* for all threads; */
    FRAME_MS = 30,   /* for one */
    LOOK_NS = 200000,
};

typedef struct thread_place {
    int32_t thread;
    char name[20], state, wait[48], call[16];
    uint64_t frames[COHORT_CRASH_FRAMES]; /* 0 ends them */
} thread_place;

/* The first line, without its end; "" where there is none. */
static void read_line(int32_t pid, int32_t thread, const char *name, char *out_line,
                      size_t size) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/%s", pid, thread, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, out_line, size - 1);
    if (fd >= 0) close(fd);
    out_line[length > 0 ? length : 0] = '\0';
    out_line[strcspn(out_line, "\n")] = '\0';
}

static void ask_kernel(int32_t pid, thread_place *place) {
    char line[512];
    read_line(pid, place->thread, "comm", place->name, sizeof place->name);
    read_line(pid, place->thread, "wchan", place->wait, sizeof place->wait);
    read_line(pid, place->thread, "syscall", line, sizeof line);
    snprintf(place->call, sizeof place->call, "%.*s", (int)strcspn(line, " "), line);
    read_line(pid, place->thread, "stat", line, sizeof line);
    const char *end = strrchr(line, ')'); /* of the name, which may have any in it */
    place->state = '?';
    if (end && end[1] == ' ' && end[2]) place->state = end[2];
}

static bool is_stopped(const thread_place *place) {
    return place->state == 'T' || place->state == 't';
}

static void ask_thread(int32_t pid, cohort_counters_row *row, int64_t until_ns,
                       thread_place *place) {
    const struct timespec pause = {.tv_nsec = LOOK_NS};
    int64_t own_until_ns = cohort_deadline_ms(FRAME_MS);
    if (own_until_ns > until_ns) own_until_ns = until_ns;
    atomic_store_explicit(&row->stack_thread, 0, memory_order_relaxed);
    if (syscall(SYS_tgkill, pid, place->thread, SIGURG)) return;
    /* Acquire: pairs with the handler's release, its frames are there. */
    while (atomic_load_explicit(&row->stack_thread, memory_order_acquire) !=
           place->thread) {
        if (cohort_clock_ns() >= own_until_ns) return;
        nanosleep(&pause, NULL);
    }
    memcpy(place->frames, row->crash_frames, sizeof place->frames);
    /* Another one, asked before, may have answered meanwhile.  Release: not before. */
    if (atomic_exchange_explicit(&row->stack_thread, 0, memory_order_acq_rel) !=
        place->thread)
        place->frames[0] = 0;
}

void executor_describe_frames(const uint64_t *frames, size_t most, char *out_text,
                              size_t size) {
    size_t used = 0;
    out_text[0] = '\0';
    for (size_t i = 0; i < most && frames[i] && used < size; i++)
        used += (size_t)snprintf(out_text + used, size - used, "%s+0x%llx",
                                 used ? " " : "", (unsigned long long)frames[i]);
}

static void describe(const thread_place *place, char *out_text, size_t size) {
    enum { SHOWN = 3 };
    char frames[64];
    executor_describe_frames(place->frames, SHOWN, frames, sizeof frames);
    if (is_stopped(place))
        snprintf(out_text, size, "its process is stopped");
    else if (*frames)
        snprintf(out_text, size, "at %s", frames);
    else
        snprintf(out_text, size, "in state %c, %s", place->state,
                 *place->wait ? place->wait : "0");
}

void executor_write_stacks(int32_t pid, int32_t rank, cohort_counters_row *row,
                           cohort_log_level level, char *out_text, size_t size) {
    char path[64], frames[COHORT_CRASH_FRAMES * 20];
    int64_t until_ns = cohort_deadline_ms(FRAMES_MS);
    int n = 0;
    out_text[0] = '\0';
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *threads = opendir(path);
    for (const struct dirent *entry; threads && n < MAX_THREADS;) {
        if (!(entry = readdir(threads))) break;
        thread_place place = {.thread = (int32_t)strtol(entry->d_name, NULL, 10)};
        if (place.thread <= 0) continue;
        ask_kernel(pid, &place);
        if (!is_stopped(&place)) ask_thread(pid, row, until_ns, &place);
        executor_describe_frames(place.frames, COHORT_CRASH_FRAMES, frames,
                                 sizeof frames);
        cohort_log(level, "executor", rank,
                   "event=stack thread=%d name=%s state=%c wait=%s call=%s at=\"%s\"",
                   place.thread, place.name, place.state, place.wait, place.call, frames);
        if (n++ == 0) describe(&place, out_text, size);
    }
    if (threads) closedir(threads);
}
