/* SPDX-License-Identifier: Apache-2.0 */
#include "model/sample.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/random.h"

/* Design notes.
 *
 * A vocabulary has 150,000 entries and a step may end in many rows, so nothing is sorted
 * as a whole.  Top-k is a heap of k (or, where k is large, a radix sort of the one
 * histogram bin that the k-th value falls into), top-p a histogram of probability mass
 * over the distance from the best logit, of which again one bin only is sorted.  What
 * passes is kept in the order of token ids.
 *
 * The draw inverts the cumulated distribution in that order.  Sorted by probability, two
 * tokens whose logits differ by a rounding error might change places and with them the
 * answer; in the order of ids a rounding error moves the answer only where the random
 * number falls within that error of a boundary, so other rank layouts draw the same text.
 *
 * Sums are taken in a fixed order by one thread: same logits, same token.  Exponentials
 * are our own so that the compiler can vectorise them; relative error 3e-7.
 *
 * Behaviour is vLLM 0.10's (v1/sample/sampler.py, ops/topk_topp_sampler.py,
 * ops/penalties.py, ops/logprobs.py): ties of the k-th logit all stay, a token stays
 * under top-p while the mass before it is less than p, a rank counts the logits that are
 * not less. */

/* vLLM's _SAMPLING_EPS: below it, temperature means greedy. */
#define GREEDY_TEMPERATURE 1e-5f

enum {
    BLOCK = 64,         /* entries looked at together */
    HEAP_MAX = 1024,    /* larger k are found by histogram */
    BINS = 4096,        /* of the histograms */
    BINS_PER_UNIT = 128 /* of a logit's distance from the best */
};

struct ranked {
    float logit;
    int32_t id;
};

struct cohort_sampler {
    int32_t vocab_size;
    int32_t *uses;   /* per token, 0 between calls: counts of penalties */
    int32_t *ids;    /* candidates in order of id */
    float *weights;  /* of candidates: exp(logit - best) */
    float *row;      /* a copy of the logits, where the raw ones are wanted too */
    double *mass;    /* BINS */
    int32_t *counts; /* BINS */
    struct ranked *sorted, *spare;
    struct ranked *heap; /* HEAP_MAX */
};

cohort_status cohort_sampler_create(int32_t vocab_size, cohort_sampler **out_sampler) {
    *out_sampler = NULL;
    if (vocab_size < 1)
        return COHORT_FAIL(COHORT_E_INVALID, "vocab_size %d must be positive",
                           vocab_size);
    size_t n = (size_t)vocab_size;
    cohort_sampler *sampler = calloc(1, sizeof *sampler);
    if (!sampler) return COHORT_FAIL(COHORT_E_NOMEM, "sampler");
    sampler->vocab_size = vocab_size;
    sampler->uses = calloc(n, sizeof *sampler->uses);
    sampler->ids = malloc(n * sizeof *sampler->ids);
    sampler->weights = malloc(n * sizeof *sampler->weights);
    sampler->row = malloc(n * sizeof *sampler->row);
    sampler->mass = malloc(BINS * sizeof *sampler->mass);
    sampler->counts = malloc(BINS * sizeof *sampler->counts);
    sampler->sorted = malloc(n * sizeof *sampler->sorted);
    sampler->spare = malloc(n * sizeof *sampler->spare);
    sampler->heap = malloc(HEAP_MAX * sizeof *sampler->heap);
    if (!sampler->uses || !sampler->ids || !sampler->weights || !sampler->row ||
        !sampler->mass || !sampler->counts || !sampler->sorted || !sampler->spare ||
        !sampler->heap) {
        cohort_sampler_destroy(sampler);
        return COHORT_FAIL(COHORT_E_NOMEM, "sampler for %d tokens", vocab_size);
    }
    *out_sampler = sampler;
    return COHORT_OK;
}

void cohort_sampler_destroy(cohort_sampler *sampler) {
    if (!sampler) return;
    free(sampler->uses);
    free(sampler->ids);
    free(sampler->weights);
    free(sampler->row);
    free(sampler->mass);
    free(sampler->counts);
    free(sampler->sorted);
    free(sampler->spare);
    free(sampler->heap);
    free(sampler);
}

/* ---- passes over a row ------------------------------------------------------------- */

/* Of BLOCK values; NaN counts as less than everything. */
static float block_max(const float *x) {
    enum { WIDE = 16 };
    float best[WIDE];
    for (int j = 0; j < WIDE; j++)
        best[j] = -INFINITY;
    for (int i = 0; i < BLOCK; i += WIDE)
        for (int j = 0; j < WIDE; j++)
            best[j] = x[i + j] > best[j] ? x[i + j] : best[j];
    for (int j = 1; j < WIDE; j++)
        best[0] = best[j] > best[0] ? best[j] : best[0];
    return best[0];
}

/* The first of the largest; -1 where no logit is a finite number. */
static int32_t argmax(const float *logits, int32_t n) {
    float best = -INFINITY;
    int32_t begin = -1, i = 0; /* begin of the block that has the best */
    for (; i + BLOCK <= n; i += BLOCK) {
        float value = block_max(logits + i);
        if (value > best) {
            best = value;
            begin = i;
        }
    }
    for (; i < n; i++)
        if (logits[i] > best) {
            best = logits[i];
            begin = i;
        }
    if (begin < 0 || isinf(best)) return -1;
    while (!(logits[begin] >= best))
        begin++;
    return begin;
}

/* Four floats; gcc and clang know them on every target. */
typedef float floats __attribute__((vector_size(16)));
typedef int32_t masks __attribute__((vector_size(16)));
enum { LANES = 4 };

static inline floats load(const float *from) {
    floats x;
    memcpy(&x, from, sizeof x);
    return x;
}

/* exp(x) for x <= 0; 0 below -87, where it would be denormal, and for NaN.  Cephes'
 * polynomial. */
static inline floats exp_negative(floats x) {
    masks near = x > -87.0f;
    masks bits = near & (masks)x;
    floats clamped = (floats)bits; /* others become 0, and are masked again below */
    /* Adding 1.5 * 2^23 rounds to a whole number, which is then in the low bits. */
    floats shifted = clamped * 1.44269504f + 12582912.0f;
    floats n = shifted - 12582912.0f;
    floats f = clamped - n * 0.693359375f + n * 2.12194440e-4f;
    floats p = f * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * f * f + f + 1.0f;
    masks scale = ((masks)shifted - (0x4b400000 - 127)) << 23;
    return (floats)((masks)(p * (floats)scale) & near);
}

static inline float exp_negative_one(float x) {
    return exp_negative((floats){x, x, x, x})[0];
}

/* out[i] = exp(logits[i] - best) */
static void exponentials(const float *logits, int32_t n, float best, float *out) {
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        floats e = exp_negative(load(logits + i) - best);
        memcpy(out + i, &e, sizeof e);
    }
    for (; i < n; i++)
        out[i] = exp_negative_one(logits[i] - best);
}

/* Of BLOCK values. */
static double block_sum(const float *x) {
    floats sum[4] = {{0}, {0}, {0}, {0}};
    for (int i = 0; i < BLOCK; i += 4 * LANES)
        for (int j = 0; j < 4; j++)
            sum[j] += load(x + i + j * LANES);
    floats all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    return (double)(all[0] + all[1]) + (double)(all[2] + all[3]);
}

static double sum_of(const float *x, int32_t n) {
    double total = 0;
    int32_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK)
        total += block_sum(x + i);
    for (; i < n; i++)
        total += (double)x[i];
    return total;
}

static double sum_of_exponentials(const float *logits, int32_t n, float best) {
    double total = 0;
    float part[BLOCK];
    for (int32_t i = 0; i < n; i += BLOCK) {
        int32_t count = n - i < BLOCK ? n - i : BLOCK;
        exponentials(logits + i, count, best, part);
        total += sum_of(part, count);
    }
    return total;
}

/* ---- the best few ------------------------------------------------------------------ */

/* Likelier first; of equals, the lower id. */
static bool before(struct ranked a, struct ranked b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* heap[0] is the least likely. */
static void sift_down(struct ranked *heap, int32_t n, int32_t at) {
    struct ranked moved = heap[at];
    for (int32_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && before(heap[child], heap[child + 1])) child++;
        if (!before(moved, heap[child])) break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

/* The k likeliest as a heap; returns how many there are (logits that are NaN or -inf are
 * left out). */
static int32_t heap_of_best(const float *logits, int32_t n, int32_t k,
                            struct ranked *heap) {
    int32_t filled = 0;
    for (int32_t begin = 0; begin < n; begin += BLOCK) {
        int32_t end = begin + BLOCK < n ? begin + BLOCK : n;
        if (filled == k && end - begin == BLOCK &&
            !(block_max(logits + begin) > heap[0].logit))
            continue;
        for (int32_t i = begin; i < end; i++) {
            if (filled < k) {
                if (!(logits[i] > -INFINITY)) continue;
                heap[filled++] = (struct ranked){logits[i], i};
                if (filled == k)
                    for (int32_t at = k / 2; at-- > 0;)
                        sift_down(heap, k, at);
            } else if (logits[i] > heap[0].logit) {
                heap[0] = (struct ranked){logits[i], i};
                sift_down(heap, k, 0);
            }
        }
    }
    if (filled < k)
        for (int32_t at = filled / 2; at-- > 0;)
            sift_down(heap, filled, at);
    return filled;
}

/* Likeliest first. */
static void sort_heap(struct ranked *heap, int32_t n) {
    while (n > 1) {
        struct ranked least = heap[0];
        heap[0] = heap[--n];
        heap[n] = least;
        sift_down(heap, n, 0);
    }
}

/* A key that ascends as the logit descends. */
static uint32_t descending_key(float logit) {
    uint32_t bits;
    float plain = logit + 0.0f; /* -0 becomes 0: they are equal */
    memcpy(&bits, &plain, sizeof bits);
    return bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
}

/* Likeliest first, stable: linear whatever the values, without allocating. */
static void radix_sort(struct ranked *items, struct ranked *spare, int32_t n) {
    enum { BITS = 11, BUCKETS = 1 << BITS };
    for (int pass = 0; pass < 3; pass++) {
        int32_t starts[BUCKETS] = {0};
        int shift = pass * BITS;
        for (int32_t i = 0; i < n; i++)
            starts[descending_key(items[i].logit) >> shift & (BUCKETS - 1)]++;
        for (int32_t b = 0, at = 0; b < BUCKETS; b++) {
            int32_t count = starts[b];
            starts[b] = at;
            at += count;
        }
        for (int32_t i = 0; i < n; i++)
            spare[starts[descending_key(items[i].logit) >> shift & (BUCKETS - 1)]++] =
                items[i];
        struct ranked *swap = items;
        items = spare;
        spare = swap;
    }
    memcpy(spare, items, (size_t)n * sizeof *items); /* after 3 passes it is the other */
}

/* ---- processing of logits ---------------------------------------------------------- */

static bool known(const cohort_sampler *sampler, int32_t token) {
    return token >= 0 && token < sampler->vocab_size;
}

static void apply_penalties(cohort_sampler *sampler, const cohort_sampling_params *params,
                            const int32_t *tokens, int32_t n_tokens,
                            int32_t n_prompt_tokens, float *logits) {
    if (params->repetition_penalty == 1.0f && params->presence_penalty == 0.0f &&
        params->frequency_penalty == 0.0f)
        return;
    int32_t *uses = sampler->uses;
    for (int32_t i = n_prompt_tokens; i < n_tokens; i++)
        if (known(sampler, tokens[i])) uses[tokens[i]]++;
    for (int32_t i = 0; i < n_tokens; i++) {
        int32_t token = tokens[i];
        if (!known(sampler, token) || uses[token] < 0) continue;
        float logit = logits[token];
        logit = logit > 0 ? logit / params->repetition_penalty
                          : logit * params->repetition_penalty;
        logit -= params->frequency_penalty * (float)uses[token];
        if (uses[token] > 0) logit -= params->presence_penalty;
        logits[token] = logit;
        uses[token] = -1; /* done */
    }
    for (int32_t i = 0; i < n_tokens; i++)
        if (known(sampler, tokens[i])) uses[tokens[i]] = 0;
}

/* ---- what may not come --------------------------------------------------------------
 */

static bool is_left(float logit) { return logit > -INFINITY; }

/* The first token from here on that may still come; vocab_size: none. */
static int32_t next_left(const cohort_sampler *sampler, const float *logits,
                         int32_t token) {
    while (token < sampler->vocab_size && !is_left(logits[token]))
        token++;
    return token;
}

/* left: the first token that may come.  The last one is not taken away: a request that
 * forbids everything must not look like a model that computes nonsense. */
static void forbid(const cohort_sampler *sampler, float *logits, int32_t token,
                   int32_t *left) {
    if (!known(sampler, token)) return;
    if (token == *left) {
        int32_t next = next_left(sampler, logits, token + 1);
        if (next == sampler->vocab_size) return;
        *left = next;
    }
    logits[token] = -INFINITY;
}

static void apply_allowed(const cohort_sampler *sampler,
                          const cohort_sampling_params *params, float *logits) {
    bool has_any = false;
    for (int32_t pass = 0; pass < 2; pass++)
        for (int32_t i = 0; i < sampler->vocab_size; i++) {
            uint32_t word = (uint32_t)i / 32;
            bool is_allowed =
                word < params->n_allowed_words && params->allowed[word] >> i % 32 & 1;
            if (pass == 0)
                has_any |= is_allowed && is_left(logits[i]);
            else if (has_any && !is_allowed)
                logits[i] = -INFINITY;
        }
}

/* The last token of each word whose others end the output. */
static void forbid_bad_words(const cohort_sampler *sampler,
                             const cohort_sampling_params *params, const int32_t *output,
                             int32_t n_output, float *logits, int32_t *left) {
    const int32_t *at = params->bad_word_ids, *end = at + params->n_bad_word_ids;
    while (at < end) {
        int32_t n = *at++ - 1;
        if (n <= n_output &&
            (n == 0 || !memcmp(at, output + n_output - n, (size_t)n * sizeof *at)))
            forbid(sampler, logits, at[n], left);
        at += n + 1;
    }
}

static void process(cohort_sampler *sampler, const cohort_sampling_params *params,
                    const int32_t *tokens, int32_t n_tokens, int32_t n_prompt_tokens,
                    float *logits) {
    if (params->n_allowed_words) apply_allowed(sampler, params, logits);
    int32_t left = next_left(sampler, logits, 0);
    forbid_bad_words(sampler, params, tokens + n_prompt_tokens,
                     n_tokens - n_prompt_tokens, logits, &left);
    if (n_tokens - n_prompt_tokens < params->min_tokens)
        for (uint32_t i = 0; i < params->n_stop_tokens; i++)
            forbid(sampler, logits, params->stop_tokens[i], &left);
    for (uint32_t i = 0; i < params->n_bias; i++)
        if (known(sampler, params->bias[i].token_id))
            logits[params->bias[i].token_id] += params->bias[i].bias;
    apply_penalties(sampler, params, tokens, n_tokens, n_prompt_tokens, logits);
}

/* ---- what may be drawn ------------------------------------------------------------- */

static int32_t bin_of(float best, float logit) {
    float distance = (best - logit) * BINS_PER_UNIT;
    return distance < BINS - 1 ? (int32_t)distance : BINS - 1;
}

/* The k-th largest logit, or -inf where fewer are finite. */
static float kth_largest(cohort_sampler *sampler, const float *logits, float best,
                         int32_t k) {
    int32_t n = sampler->vocab_size;
    if (k <= HEAP_MAX) {
        int32_t found = heap_of_best(logits, n, k, sampler->heap);
        return found < k ? -INFINITY : sampler->heap[0].logit;
    }
    memset(sampler->counts, 0, BINS * sizeof *sampler->counts);
    for (int32_t i = 0; i < n; i++)
        if (logits[i] > -INFINITY) sampler->counts[bin_of(best, logits[i])]++;
    int32_t above = 0, bin = 0;
    while (bin < BINS && above + sampler->counts[bin] < k)
        above += sampler->counts[bin++];
    if (bin == BINS) return -INFINITY;
    int32_t m = 0;
    for (int32_t i = 0; i < n; i++)
        if (logits[i] > -INFINITY && bin_of(best, logits[i]) == bin)
            sampler->sorted[m++] = (struct ranked){logits[i], i};
    radix_sort(sampler->sorted, sampler->spare, m);
    return sampler->sorted[k - above - 1].logit;
}

/* Candidates: ids whose logit is a number of at least least.  Returns how many. */
static int32_t collect(cohort_sampler *sampler, const float *logits, float least) {
    int32_t n = sampler->vocab_size, m = 0;
    for (int32_t begin = 0; begin < n; begin += BLOCK) {
        int32_t end = begin + BLOCK < n ? begin + BLOCK : n;
        if (end - begin == BLOCK && !(block_max(logits + begin) >= least)) continue;
        for (int32_t i = begin; i < end; i++) {
            sampler->ids[m] = i; /* one past the last at most: i < n, m <= i */
            m += logits[i] >= least;
        }
    }
    return m;
}

/* The last candidate that top-p lets pass, in the order of likelihood: the mass before it
 * is less than wanted. */
static struct ranked last_of_top_p(cohort_sampler *sampler, const float *logits,
                                   float best, int32_t m, double wanted) {
    double above = 0;
    memset(sampler->mass, 0, BINS * sizeof *sampler->mass);
    for (int32_t i = 0; i < m; i++)
        sampler->mass[bin_of(best, logits[sampler->ids[i]])] +=
            (double)sampler->weights[i];
    int32_t bin = 0;
    while (bin < BINS - 1 && above + sampler->mass[bin] < wanted)
        above += sampler->mass[bin++];
    int32_t n_sorted = 0;
    for (int32_t i = 0; i < m; i++) {
        int32_t id = sampler->ids[i];
        if (bin_of(best, logits[id]) == bin)
            sampler->sorted[n_sorted++] = (struct ranked){logits[id], id};
    }
    /* Rounding may ask for more than there is, in a last bin that is empty. */
    if (n_sorted == 0) return (struct ranked){-INFINITY, INT32_MAX};
    radix_sort(sampler->sorted, sampler->spare, n_sorted);
    int32_t i = 0;
    above += (double)exp_negative_one(sampler->sorted[0].logit - best);
    while (i + 1 < n_sorted && above < wanted)
        above += (double)exp_negative_one(sampler->sorted[++i].logit - best);
    return sampler->sorted[i];
}

/* m candidates of at most (1 - p) / m of the mass hold no more than 1 - p together, so
 * that none of them passes: most of a vocabulary is gone in one pass. */
static int32_t drop_tail(cohort_sampler *sampler, int32_t m, float bound) {
    int32_t kept = 0;
    for (int32_t i = 0; i < m; i++) {
        float weight = sampler->weights[i];
        sampler->ids[kept] = sampler->ids[i];
        sampler->weights[kept] = weight;
        kept += weight > bound;
    }
    return kept;
}

static int32_t keep_top_p(cohort_sampler *sampler, const float *logits, float best,
                          int32_t m, float top_p) {
    double total = sum_of(sampler->weights, m);
    m = drop_tail(sampler, m, (float)(0.999 * (1 - (double)top_p) * total / m));
    struct ranked last = last_of_top_p(sampler, logits, best, m, (double)top_p * total);
    int32_t kept = 0;
    for (int32_t i = 0; i < m; i++) {
        struct ranked item = {logits[sampler->ids[i]], sampler->ids[i]};
        if (before(last, item)) continue;
        sampler->ids[kept] = item.id;
        sampler->weights[kept++] = sampler->weights[i];
    }
    return kept;
}

static int32_t draw(const cohort_sampler *sampler, int32_t m, double unit) {
    const float *weights = sampler->weights;
    double target = unit * sum_of(weights, m), sum = 0;
    int32_t i = 0, last = 0;
    for (; i + BLOCK <= m; i += BLOCK) {
        double block = block_sum(weights + i);
        if (sum + block > target) break;
        sum += block;
        if (block > 0) last = i + BLOCK - 1;
    }
    for (; i < m && sum <= target; i++)
        if (weights[i] > 0) {
            last = i;
            sum += (double)weights[i];
        }
    /* Rounding may leave the end out of reach, on tokens too unlikely to be drawn. */
    while (last > 0 && !(weights[last] > 0))
        last--;
    return sampler->ids[last];
}

static int32_t sample_random(cohort_sampler *sampler,
                             const cohort_sampling_params *params, int32_t best_id,
                             int32_t position, float *logits) {
    int32_t n = sampler->vocab_size;
    float temperature = params->temperature;
    if (temperature != 1.0f)
        for (int32_t i = 0; i < n; i++)
            logits[i] /= temperature;
    float best = logits[best_id], least = -INFINITY;
    if (params->top_k > 0 && params->top_k < n)
        least = kth_largest(sampler, logits, best, params->top_k);
    if (params->min_p > 0) {
        float bound = best + logf(params->min_p);
        if (bound > best) bound = best;
        /* vLLM drops what min-p drops before top-k looks: the stricter of the two. */
        if (bound > least) least = bound;
    }
    /* Never -inf: what is masked is no candidate. */
    int32_t m = collect(sampler, logits, fmaxf(least, best - 87.0f));
    for (int32_t i = 0; i < m; i++)
        sampler->weights[i] = logits[sampler->ids[i]];
    exponentials(sampler->weights, m, best, sampler->weights);
    if (params->top_p < 1) m = keep_top_p(sampler, logits, best, m, params->top_p);
    return draw(sampler, m, cohort_random_unit(params->seed, (uint64_t)position));
}

/* ---- logprobs ---------------------------------------------------------------------- */

/* vLLM's batched_count_greater_than: how many are not less. */
static int32_t rank_of(const float *logits, int32_t n, float logit) {
    int32_t rank = 0;
    for (int32_t i = 0; i < n; i++)
        rank += logits[i] >= logit;
    return rank;
}

/* log(sum(exp)): subtracted from a logit, it makes a logprob. */
static double log_sum(const cohort_sampler *sampler, const float *logits) {
    int32_t best_id = argmax(logits, sampler->vocab_size);
    if (best_id < 0) return 0;
    float best = logits[best_id];
    return (double)best + log(sum_of_exponentials(logits, sampler->vocab_size, best));
}

/* Entries 1 to n: the likeliest. */
static void top_logprobs(cohort_sampler *sampler, const float *logits, double norm,
                         int32_t n, cohort_token_logprob *out) {
    int32_t found = heap_of_best(logits, sampler->vocab_size, n, sampler->heap);
    sort_heap(sampler->heap, found);
    for (int32_t i = 0; i < n; i++) {
        if (i < found)
            out[i] = (cohort_token_logprob){
                .token_id = sampler->heap[i].id,
                .logprob = (float)((double)sampler->heap[i].logit - norm),
                .rank = i + 1};
        else /* a vocabulary smaller than n, or one all masked */
            out[i] = (cohort_token_logprob){
                .token_id = -1, .logprob = -INFINITY, .rank = i + 1};
    }
}

static cohort_token_logprob token_logprob(const cohort_sampler *sampler,
                                          const float *logits, double norm,
                                          int32_t token_id) {
    return (cohort_token_logprob){
        .token_id = token_id,
        .logprob = (float)((double)logits[token_id] - norm),
        .rank = rank_of(logits, sampler->vocab_size, logits[token_id])};
}

void cohort_sampler_logprobs(cohort_sampler *sampler, const float *logits,
                             int32_t token_id, int32_t n,
                             cohort_token_logprob *out_logprobs) {
    double norm = log_sum(sampler, logits);
    out_logprobs[0] = token_logprob(sampler, logits, norm, token_id);
    if (n > 0) top_logprobs(sampler, logits, norm, n, out_logprobs + 1);
}

/* ---- sampling ---------------------------------------------------------------------- */

static void logprobs_of(const cohort_sampler *sampler,
                        const cohort_sampling_params *params, const float *logits,
                        int32_t token_id, cohort_token_logprob *out_logprobs) {
    double norm = log_sum(sampler, logits);
    out_logprobs[0] = token_logprob(sampler, logits, norm, token_id);
    for (uint32_t i = 0; i < params->n_logprob_token_ids; i++) {
        int32_t id = params->logprob_token_ids[i];
        out_logprobs[1 + i] = known(sampler, id)
                                  ? token_logprob(sampler, logits, norm, id)
                                  : (cohort_token_logprob){.token_id = -1};
    }
}

int32_t cohort_sample(cohort_sampler *sampler, const cohort_sampling_params *params,
                      const int32_t *tokens, int32_t n_tokens, int32_t n_prompt_tokens,
                      float *logits, cohort_token_logprob *out_logprobs) {
    int32_t n = sampler->vocab_size;
    float *row = logits;
    if (params->n_logprobs >= 0) { /* the raw ones are needed afterwards */
        row = sampler->row;
        memcpy(row, logits, (size_t)n * sizeof *row);
    }
    process(sampler, params, tokens, n_tokens, n_prompt_tokens, row);
    int32_t token = argmax(row, n);
    if (token < 0) return -1;
    if (params->temperature >= GREEDY_TEMPERATURE)
        token = sample_random(sampler, params, token, n_tokens, row);
    if (params->n_logprob_token_ids)
        logprobs_of(sampler, params, logits, token, out_logprobs);
    else if (params->n_logprobs >= 0)
        cohort_sampler_logprobs(sampler, logits, token, params->n_logprobs, out_logprobs);
    return token;
}

cohort_sampling_params cohort_sampling_defaults(void) {
    return (cohort_sampling_params){.temperature = 1,
                                    .top_p = 1,
                                    .repetition_penalty = 1,
                                    .n_logprobs = -1,
                                    .n_prompt_logprobs = -1};
}
