/* SPDX-License-Identifier: Apache-2.0 */
#include "model/shard.h"

#include <stdlib.h>

#include "base/fail.h"

enum { GRANULE = 16, MAX_STAGES = COHORT_MAX_LAYERS };

/* Part i of n of `total` things; the first total % n parts have one more. */
static cohort_span share(int32_t total, int32_t i, int32_t n) {
    int32_t base = total / n, more = total % n;
    int32_t begin = i * base + (i < more ? i : more);
    return (cohort_span){begin, begin + base + (i < more)};
}

static int32_t at_most(int32_t a, int32_t b) { return a < b ? a : b; }

/* Part i of n of `total` columns in granules as large as they may be: 16 or a smaller
 * power of two, so that every part gets one and, where it can be had, all are whole. */
static cohort_status share_columns(int32_t total, bool whole, int32_t i, int32_t n,
                                   const char *what, cohort_span *out) {
    if (total < n)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "tensor_parallel_size %d is more than %s %d; use at most that",
                           n, what, total);
    int32_t granule = GRANULE;
    while (granule > 1 && ((whole && total % granule) || total / granule < n))
        granule /= 2;
    cohort_span units = share((total + granule - 1) / granule, i, n);
    *out = (cohort_span){units.begin * granule, at_most(units.end * granule, total)};
    return COHORT_OK;
}

static cohort_status share_heads(const cohort_model_config *config, int32_t tp_rank,
                                 int32_t tp_size, cohort_shard *out) {
    int32_t n_kv = config->n_kv_heads, group = config->n_heads / n_kv;
    if (tp_size <= n_kv) {
        out->kv_heads = share(n_kv, tp_rank, tp_size);
        out->heads =
            (cohort_span){out->kv_heads.begin * group, out->kv_heads.end * group};
        return COHORT_OK;
    }
    int32_t copies = tp_size / n_kv;
    if (tp_size % n_kv || copies > group)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "tensor_parallel_size %d does not fit %d query and %d KV "
                           "heads: use 1 to %d, or "
                           "a multiple of %d up to %d",
                           tp_size, config->n_heads, n_kv, n_kv, n_kv, config->n_heads);
    int32_t kv_head = tp_rank / copies;
    cohort_span part = share(group, tp_rank % copies, copies);
    out->kv_heads = (cohort_span){kv_head, kv_head + 1};
    out->heads = (cohort_span){kv_head * group + part.begin, kv_head * group + part.end};
    return COHORT_OK;
}

/* vLLM's get_pp_indices: what is left over goes to the stages before the last, since that
 * one has the head besides its layers. */
static cohort_span even_layers(int32_t n_layers, int32_t stage, int32_t n_stages) {
    int32_t base = n_layers / n_stages, more = n_layers % n_stages;
    int32_t begin = 0, size = 0;
    for (int32_t i = 0; i <= stage; i++) {
        begin += size;
        int32_t from_end = n_stages - i; /* 1: the last stage */
        size = base + (from_end >= 2 && from_end < 2 + more);
    }
    return (cohort_span){begin, begin + size};
}

static cohort_status listed_layers(const char *partition, int32_t n_layers, int32_t stage,
                                   int32_t n_stages, cohort_span *out) {
    const char *p = partition;
    int64_t sum = 0;
    int32_t n = 0;
    for (;; p++) {
        char *end = NULL;
        long layers = *p >= '0' && *p <= '9' ? strtol(p, &end, 10) : 0;
        if (layers < 1 || layers > COHORT_MAX_LAYERS || (*end != ',' && *end != '\0'))
            return COHORT_FAIL(COHORT_E_INVALID,
                               "layer partition '%.60s': not numbers of at least 1 with "
                               "commas between",
                               partition);
        if (n == stage) out->begin = (int32_t)sum;
        sum += layers;
        if (n == stage) out->end = (int32_t)sum;
        n++;
        p = end;
        if (*p == '\0' || n > MAX_STAGES) break;
    }
    if (n != n_stages)
        return COHORT_FAIL(
            COHORT_E_INVALID,
            "layer partition '%.60s' has %d parts, pipeline_parallel_size is "
            "%d",
            partition, n, n_stages);
    if (sum != n_layers)
        return COHORT_FAIL(
            COHORT_E_INVALID,
            "layer partition '%.60s' adds up to %lld layers, the model has "
            "%d",
            partition, (long long)sum, n_layers);
    return COHORT_OK;
}

cohort_status cohort_shard_plan(const cohort_model_config *config, int32_t tp_rank,
                                int32_t tp_size, int32_t pp_rank, int32_t pp_size,
                                const char *partition, cohort_shard *out_shard) {
    *out_shard = (cohort_shard){0};
    if (tp_size < 1 || tp_rank < 0 || tp_rank >= tp_size || pp_size < 1 || pp_rank < 0 ||
        pp_rank >= pp_size)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "tp rank %d of %d, pp rank %d of %d: no place", tp_rank,
                           tp_size, pp_rank, pp_size);
    if (pp_size > config->n_layers)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "pipeline_parallel_size %d is more than the model's %d layers",
                           pp_size, config->n_layers);
    if (partition && *partition)
        COHORT_TRY(listed_layers(partition, config->n_layers, pp_rank, pp_size,
                                 &out_shard->layers));
    else
        out_shard->layers = even_layers(config->n_layers, pp_rank, pp_size);
    out_shard->first_stage = pp_rank == 0;
    out_shard->last_stage = pp_rank == pp_size - 1;
    COHORT_TRY(share_heads(config, tp_rank, tp_size, out_shard));
    COHORT_TRY(share_columns(config->intermediate_size, true, tp_rank, tp_size,
                             "intermediate_size", &out_shard->mlp));
    if (config->n_experts)
        COHORT_TRY(share_columns(config->moe_intermediate_size, true, tp_rank, tp_size,
                                 "moe_intermediate_size", &out_shard->experts_mlp));
    /* Vocabularies are odd numbers (50257): the last rank has the broken granule. */
    return share_columns(config->vocab_size, false, tp_rank, tp_size, "vocab_size",
                         &out_shard->vocab);
}
