/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/threads.h"

#include <sched.h>
#include <string.h>

#include "base/fail.h"
#include "base/log.h"
#include "worker/groups.h"

void cohort_threads_available(cohort_cpu_list *out_available) {
    cpu_set_t set;
    out_available->n = 0;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (int32_t cpu = 0; cpu < CPU_SETSIZE && cpu < COHORT_MAX_CPUS; cpu++)
            if (CPU_ISSET((size_t)cpu, &set))
                out_available->cpus[out_available->n++] = cpu;
    if (out_available->n == 0) out_available->cpus[out_available->n++] = -1;
}

void cohort_threads_limit(cohort_cpu_list *available, int32_t n) {
    if (n >= available->n) return;
    available->n = n > 1 ? n : 1;
    for (int32_t i = 0; i < available->n; i++)
        available->cpus[i] = -1;
}

bool cohort_threads_can_bind(void) {
    cpu_set_t set;
    return !sched_getaffinity(0, sizeof set, &set) &&
           !sched_setaffinity(0, sizeof set, &set);
}

/* An even share each; where there are more ranks than CPUs, one thread that the kernel
 * moves, because nobody knows which of the ranks will be idle. */
static void share_out(const cohort_cpu_list *available, int32_t local_rank,
                      int32_t local_world_size, bool pinned, cohort_cpu_list *out) {
    int64_t n = available->n;
    int32_t begin = (int32_t)(n * local_rank / local_world_size);
    int32_t end = (int32_t)(n * (local_rank + 1) / local_world_size);
    out->n = 0;
    if (n < local_world_size)
        out->cpus[out->n++] = -1;
    else
        for (int32_t i = begin; i < end; i++)
            out->cpus[out->n++] = pinned ? available->cpus[i] : -1;
}

/* One CPU number; returns past it, or NULL. */
static const char *parse_cpu(const char *at, int32_t *out_cpu) {
    int32_t cpu = 0;
    const char *begin = at;
    while (*at >= '0' && *at <= '9' && cpu < COHORT_MAX_CPUS)
        cpu = cpu * 10 + (*at++ - '0');
    *out_cpu = cpu;
    return at == begin || cpu >= COHORT_MAX_CPUS ? NULL : at;
}

/* "0-3,6" up to '|' or the end; returns past it, or NULL. */
static const char *parse_list(const char *at, cohort_cpu_list *out) {
    out->n = 0;
    for (;; at++) {
        int32_t first, last;
        if (!(at = parse_cpu(at, &first))) return NULL;
        last = first;
        if (*at == '-' && !(at = parse_cpu(at + 1, &last))) return NULL;
        for (int32_t cpu = first; cpu <= last; cpu++) {
            if (out->n == COHORT_MAX_CPUS) return NULL;
            out->cpus[out->n++] = cpu;
        }
        if (*at != ',') return last >= first && (*at == '|' || !*at) ? at : NULL;
        if (last < first) return NULL;
    }
}

static bool holds(const cohort_cpu_list *list, int32_t cpu) {
    for (int32_t i = 0; i < list->n; i++)
        if (list->cpus[i] == cpu) return true;
    return false;
}

cohort_status cohort_threads_place(const char *bind, const cohort_cpu_list *available,
                                   int32_t local_rank, int32_t local_world_size,
                                   cohort_cpu_list *out_cpus) {
    if (!bind || !*bind || !strcmp(bind, "auto") || !strcmp(bind, "nobind")) {
        share_out(available, local_rank, local_world_size, bind && *bind == 'n' ? 0 : 1,
                  out_cpus);
        return COHORT_OK;
    }
    const char *at = bind;
    for (int32_t rank = 0;; rank++, at++) {
        at = parse_list(at, out_cpus);
        if (!at)
            return COHORT_FAIL(COHORT_E_INVALID,
                               "cpu_threads_bind '%.80s' is neither auto, nobind nor a "
                               "list like 0-3|4-7",
                               bind);
        if (rank == local_rank) break;
        if (!*at)
            return COHORT_FAIL(COHORT_E_INVALID,
                               "cpu_threads_bind '%.80s' has CPUs for %d of %d ranks; "
                               "separate them with |",
                               bind, rank + 1, local_world_size);
    }
    for (int32_t i = 0; i < out_cpus->n; i++)
        if (!holds(available, out_cpus->cpus[i]))
            return COHORT_FAIL(COHORT_E_INVALID,
                               "cpu_threads_bind '%.80s': this process has no CPU %d",
                               bind, out_cpus->cpus[i]);
    return COHORT_OK;
}

cohort_status cohort_threads_of_rank(const cohort_worker_info *info, const char *bind,
                                     cohort_cpu_list *out_cpus) {
    cohort_cpu_list available;
    bool is_wish = !bind || !*bind || !strcmp(bind, "auto");
    cohort_threads_available(&available);
    if (is_wish || !strcmp(bind, "nobind"))
        cohort_threads_limit(&available, cohort_groups_cpus(""));
    COHORT_TRY(cohort_threads_place(bind, &available, info->local_rank,
                                    info->local_world_size, out_cpus));
    if (!is_wish || out_cpus->cpus[0] < 0 || cohort_threads_can_bind()) return COHORT_OK;
    cohort_log(COHORT_LOG_WARNING, "worker", info->rank,
               "event=threads_not_bound what=\"sched_setaffinity is not allowed here; "
               "the kernel places the threads\"");
    for (int32_t i = 0; i < out_cpus->n; i++)
        out_cpus->cpus[i] = -1;
    return COHORT_OK;
}
