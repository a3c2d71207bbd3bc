/* SPDX-License-Identifier: Apache-2.0 */
/* executor/oom.h - was it the kernel, for want of memory, that sent a SIGKILL?
 *
 * It counts such kills before it sends the signal: memory.events of a cgroup (v2),
 * memory.oom_control (v1), or /proc/vmstat for the whole system where there is neither.
 * Who is killed by others while the kernel kills beside it is taken for the kernel's.
 *
 * Threads: the monitor's.
 */
#ifndef COHORT_EXECUTOR_OOM_H
#define COHORT_EXECUTOR_OOM_H

#include <stdbool.h>
#include <stdint.h>

typedef struct executor_oom {
    char path[512]; /* "": nothing can be known */
    uint64_t n_kills;
    uint64_t n_open; /* of them, whose victim nobody has asked for yet */
    int64_t seen_ns; /* when the last of them was read */
    int64_t read_ns;
    bool kills_all; /* memory.oom.group: one kill ends all that is in the cgroup */
} executor_oom;

/* Of this process and its children.  root: "", but for tests. */
void executor_oom_open(executor_oom *self, const char *root);
/* From time to time, or an old kill is taken for a new one; reads once a second. */
void executor_oom_look(executor_oom *self, int64_t now_ns);
/* A process died of SIGKILL: was that the kernel?  Each of its kills has one victim, who
 * is heard of within a second of the first. */
bool executor_oom_has_killed(executor_oom *self, int64_t now_ns);

#endif /* COHORT_EXECUTOR_OOM_H */
