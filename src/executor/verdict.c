/* SPDX-License-Identifier: Apache-2.0 */
#include "executor/verdict.h"

#include <stdio.h>

#include "counters/counters.h"

static bool is_over(int64_t since_ns, int64_t limit_ns, int64_t now_ns) {
    return limit_ns > 0 && now_ns - since_ns > limit_ns;
}

static bool is_stuck(const cohort_rank_view *rank, const cohort_hang_limits *limits,
                     int64_t now_ns) {
    return rank->is_watched && rank->phase == COHORT_RANK_EXECUTE &&
           is_over(rank->progress_ns, limits->execute_ns, now_ns);
}

/* Has it not even taken the step that we have been waiting for all the time? */
static bool is_absent(const cohort_rank_view *rank, const cohort_hang_limits *limits,
                      int64_t now_ns) {
    return rank->is_watched && limits->pending_call &&
           rank->call < limits->pending_call && rank->phase != COHORT_RANK_REPLY &&
           is_over(limits->pending_ns, limits->execute_ns, now_ns) &&
           is_over(rank->progress_ns, limits->execute_ns, now_ns);
}

/* From one stuck rank along waits_for; n_ranks hops end a circle. */
static int32_t end_of_chain(const cohort_rank_view *ranks, int32_t n_ranks,
                            int32_t rank) {
    for (int32_t hops = 0; hops < n_ranks; hops++) {
        int32_t next = ranks[rank].waits_for;
        if (next < 0 || next >= n_ranks || next == rank || !ranks[next].is_watched) break;
        rank = next;
    }
    return rank;
}

cohort_hang cohort_find_hang(const cohort_rank_view *ranks, int32_t n_ranks,
                             const cohort_hang_limits *limits, int64_t now_ns) {
    int32_t found = -1;
    for (int32_t i = 0; i < n_ranks; i++)
        if (ranks[i].is_watched &&
            is_over(ranks[i].heartbeat_ns, limits->heartbeat_ns, now_ns))
            return (cohort_hang){
                .rank = i, .is_silent = true, .since_ns = ranks[i].heartbeat_ns};
    for (int32_t i = 0; i < n_ranks; i++)
        if (is_absent(&ranks[i], limits, now_ns))
            return (cohort_hang){.rank = i, .since_ns = limits->pending_ns};
    for (int32_t i = 0; i < n_ranks; i++) {
        if (!is_stuck(&ranks[i], limits, now_ns)) continue;
        if (found < 0 || ranks[i].call < ranks[found].call ||
            (ranks[i].call == ranks[found].call &&
             ranks[i].progress_ns < ranks[found].progress_ns))
            found = i;
    }
    if (found < 0) return (cohort_hang){.rank = -1};
    int64_t since_ns = ranks[found].progress_ns;
    return (cohort_hang){.rank = end_of_chain(ranks, n_ranks, found),
                         .since_ns = since_ns};
}

void cohort_describe_ranks(const cohort_rank_view *ranks, int32_t n_ranks, char *out_text,
                           size_t size) {
    size_t used = 0;
    if (size) out_text[0] = '\0';
    for (int32_t i = 0; i < n_ranks && used < size; i++) {
        const cohort_rank_view *rank = &ranks[i];
        char waits[32] = "";
        if (rank->waits_for >= 0)
            snprintf(waits, sizeof waits, " waits for rank %d", rank->waits_for);
        int length =
            snprintf(out_text + used, size - used, "%srank %d%s in %s (call %llu)",
                     used ? ", " : "", i, waits, cohort_rank_phase_name(rank->phase),
                     (unsigned long long)rank->call);
        used += length > 0 ? (size_t)length : 0;
    }
}
