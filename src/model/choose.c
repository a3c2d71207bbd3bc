/* SPDX-License-Identifier: Apache-2.0 */
#include "model/choose.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/fail.h"

/* Design notes.
 *
 * A vocabulary has 150,000 entries, so nothing is sorted as a whole and little is read
 * twice.  The k-th largest of the tiles' maxima is a bound that at least k logits reach
 * and hardly more do: what reaches it is gathered from few tiles, and the k-th logit is
 * found among that.  For top-p, too, the best few are gathered first, and only if they
 * lack mass all above a guess that is taken from pieces of the row; a wrong guess costs
 * time and nothing else.  Among the gathered, a threshold is found as the k-th
 * of a quickselect, by count or by mass: its result does not depend on the pivots.
 *
 * The draw inverts the cumulated masses in the order of ids.  Sorted by probability, two
 * tokens whose logits differ by a rounding error might change places and with them the
 * answer; in the order of ids a rounding error moves the answer only where the random
 * number falls within that error of a boundary, so other rank layouts draw the same text.
 *
 * Behaviour is vLLM 0.10's (v1/sample/ops/topk_topp_sampler.py): ties of the k-th logit
 * all stay, a token stays under top-p while the mass before it is less than p; of those
 * that are equal, the lower ids. */

__extension__ typedef unsigned __int128 product; /* of two of 64 bits */

enum {
    FEW = 24,         /* sorted by insertion */
    AT_ONCE = 16,     /* weighed together, where a token is looked for */
    FIRST_GUESS = 64, /* tokens that hold most of a distribution, mostly */
    PIECES = 128,     /* of a row, of so many logits each: what it is guessed from */
    PIECE = 16
};

struct cohort_chooser {
    const cohort_cpu_logits *kernels;
    int32_t n, n_tiles;
    const float *row; /* looked at */
    float best;
    float *maxima, *spare; /* n_tiles */
    uint64_t *tile_masses; /* n_tiles */
    float *logits;         /* what was gathered, in the order of ids */
    int32_t *ids;          /* theirs */
    float *work;           /* of threshold */
};

/* ---- the object -------------------------------------------------------------------- */

void cohort_chooser_destroy(cohort_chooser *chooser) {
    if (!chooser) return;
    free(chooser->maxima);
    free(chooser->spare);
    free(chooser->tile_masses);
    free(chooser->logits);
    free(chooser->ids);
    free(chooser->work);
    free(chooser);
}

cohort_status cohort_chooser_create(int32_t vocab_size, const cohort_cpu_logits *kernels,
                                    cohort_chooser **out_chooser) {
    *out_chooser = NULL;
    if (vocab_size < 1 || vocab_size > 1 << (63 - COHORT_MASS_BITS))
        return COHORT_FAIL(COHORT_E_INVALID, "vocab_size %d must be from 1 to %d",
                           vocab_size, 1 << (63 - COHORT_MASS_BITS));
    cohort_chooser *chooser = calloc(1, sizeof *chooser);
    if (!chooser) return COHORT_FAIL(COHORT_E_NOMEM, "a chooser");
    chooser->kernels = kernels;
    chooser->n = vocab_size;
    chooser->n_tiles = (vocab_size + COHORT_SAMPLE_TILE - 1) / COHORT_SAMPLE_TILE;
    size_t n = (size_t)vocab_size + COHORT_SAMPLE_SLACK;
    size_t n_tiles = (size_t)chooser->n_tiles + COHORT_SAMPLE_SLACK;
    chooser->maxima = malloc(n_tiles * sizeof *chooser->maxima);
    chooser->spare = malloc(n_tiles * sizeof *chooser->spare);
    chooser->tile_masses = malloc(n_tiles * sizeof *chooser->tile_masses);
    chooser->logits = malloc(n * sizeof *chooser->logits);
    chooser->ids = malloc(n * sizeof *chooser->ids);
    chooser->work = malloc(n * sizeof *chooser->work);
    if (!chooser->maxima || !chooser->spare || !chooser->tile_masses ||
        !chooser->logits || !chooser->ids || !chooser->work) {
        cohort_chooser_destroy(chooser);
        return COHORT_FAIL(COHORT_E_NOMEM, "scratch to choose of %d tokens", vocab_size);
    }
    *out_chooser = chooser;
    return COHORT_OK;
}

/* ---- looking ----------------------------------------------------------------------- */

static int32_t tile_size(const cohort_chooser *chooser, int32_t tile) {
    int32_t left = chooser->n - tile * COHORT_SAMPLE_TILE;
    return left < COHORT_SAMPLE_TILE ? left : COHORT_SAMPLE_TILE;
}

int32_t cohort_chooser_look(cohort_chooser *chooser, const float *logits) {
    chooser->row = logits;
    chooser->kernels->maxima(logits, chooser->n, chooser->maxima);
    int32_t tile = 0;
    for (int32_t t = 1; t < chooser->n_tiles; t++)
        if (chooser->maxima[t] > chooser->maxima[tile]) tile = t;
    chooser->best = chooser->maxima[tile];
    if (isinf(chooser->best)) return -1;
    int32_t id = tile * COHORT_SAMPLE_TILE;
    while (!(logits[id] >= chooser->best))
        id++;
    return id;
}

/* All that is at least low, into logits and ids. */
static int32_t gather(cohort_chooser *chooser, float low) {
    int32_t m = 0;
    for (int32_t t = 0; t < chooser->n_tiles; t++) {
        if (!(chooser->maxima[t] >= low)) continue;
        int32_t begin = t * COHORT_SAMPLE_TILE;
        m += chooser->kernels->gather(chooser->row + begin, tile_size(chooser, t), begin,
                                      low, chooser->logits + m, chooser->ids + m);
    }
    return m;
}

/* ---- thresholds -------------------------------------------------------------------- */

/* By mass, or (NULL) by count. */
static uint64_t weigh(const cohort_chooser *chooser, const cohort_cpu_mass *mass,
                      const float *x, int32_t n, float low) {
    if (!mass) return (uint64_t)chooser->kernels->count(x, n, low);
    return chooser->kernels->masses(x, n, *mass, low, NULL);
}

static void sort_few(float *x, int32_t n) {
    for (int32_t i = 1; i < n; i++) {
        float moved = x[i];
        int32_t at = i;
        for (; at > 0 && x[at - 1] < moved; at--)
            x[at] = x[at - 1];
        x[at] = moved;
    }
}

/* A middle one of a few. */
static float pivot_of(const float *x, int32_t n) {
    enum { SAMPLES = 9 };
    float samples[SAMPLES];
    for (int32_t i = 0; i < SAMPLES; i++)
        samples[i] = x[(int64_t)n * (2 * i + 1) / (2 * SAMPLES)];
    sort_few(samples, SAMPLES);
    return samples[SAMPLES / 2];
}

static float threshold_of_few(const cohort_cpu_mass *mass, float *x, int32_t n,
                              uint64_t wanted, uint64_t *above) {
    sort_few(x, n);
    for (int32_t i = 0;;) {
        uint64_t weight = 0;
        int32_t j = i;
        for (; j < n && x[j] == x[i]; j++)
            weight += mass ? cohort_cpu_mass_of(*mass, x[j]) : 1;
        if (j == n || *above + weight >= wanted) return x[i];
        *above += weight;
        i = j;
    }
}

/* The greatest of x such that those at least as great weigh `wanted`, which all together
 * do; out_above is the weight of the greater ones.  x is lost. */
static float threshold(const cohort_chooser *chooser, const cohort_cpu_mass *mass,
                       float *x, int32_t n, uint64_t wanted, uint64_t *out_above) {
    uint64_t above = 0;
    while (n > FEW) {
        float pivot = pivot_of(x, n);
        uint64_t weight = weigh(chooser, mass, x, n, pivot);
        if (above + weight < wanted) {
            above += weight;
            n = chooser->kernels->keep(x, n, -INFINITY, pivot);
            continue;
        }
        int32_t kept = chooser->kernels->keep(x, n, pivot, INFINITY);
        if (kept < n) {
            n = kept;
            continue;
        }
        /* The pivot is the least: what is equal to it decides, or goes. */
        uint64_t equal = (uint64_t)n;
        float least = pivot;
        for (int32_t i = kept = 0; i < n; i++) {
            float value = x[i];
            x[kept] = value;
            kept += value > least;
        }
        equal -= (uint64_t)kept;
        weight -= equal * (mass ? cohort_cpu_mass_of(*mass, least) : 1);
        if (above + weight < wanted) {
            *out_above = above + weight;
            return least;
        }
        n = kept;
    }
    *out_above = above;
    return threshold_of_few(mass, x, n, wanted, out_above);
}

/* At least n logits reach it, if the row has so many; all numbers do where it would take
 * too many tiles. */
static float bound_of(cohort_chooser *chooser, int32_t n) {
    if (n > chooser->n_tiles / 2) return -FLT_MAX;
    int32_t m = 0;
    for (int32_t t = 0; t < chooser->n_tiles; t++) {
        chooser->spare[m] = chooser->maxima[t];
        m += chooser->maxima[t] > -INFINITY;
    }
    uint64_t above;
    return m < n ? -FLT_MAX
                 : threshold(chooser, NULL, chooser->spare, m, (uint64_t)n, &above);
}

/* The k-th largest logit; -FLT_MAX where there are fewer numbers. */
static float kth_largest(cohort_chooser *chooser, int32_t k) {
    int32_t m = gather(chooser, bound_of(chooser, k));
    if (m < k) return -FLT_MAX;
    memcpy(chooser->work, chooser->logits, (size_t)m * sizeof *chooser->work);
    uint64_t above;
    return threshold(chooser, NULL, chooser->work, m, (uint64_t)k, &above);
}

/* Floats in their order as integers, and back. */
static int64_t order_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits < 0 ? (int64_t)INT32_MIN - bits : bits;
}

static float of_order(int64_t order) {
    int32_t bits = (int32_t)(order < 0 ? INT32_MIN - order : order);
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The least logit of at least that mass, found by halving. */
static float logit_of_mass(cohort_cpu_mass mass, uint64_t wanted) {
    int64_t low = order_of(-FLT_MAX), high = order_of(mass.best);
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (cohort_cpu_mass_of(mass, of_order(middle)) >= wanted)
            high = middle;
        else
            low = middle + 1;
    }
    return of_order(high);
}

/* ---- top-p ------------------------------------------------------------------------- */

/* Two logits between which the least that passes lies, mostly: by what a few hundred
 * pieces of the row leave out.  false: the row is too short for that. */
static bool guess(const cohort_chooser *chooser, cohort_cpu_mass mass, uint64_t left_out,
                  float *out_low, float *out_high) {
    float pieces[PIECES * PIECE], copy[PIECES * PIECE];
    if (chooser->n < 16 * PIECES * PIECE) return false;
    for (int32_t i = 0; i < PIECES; i++)
        memcpy(pieces + i * PIECE, chooser->row + (int64_t)i * (chooser->n / PIECES),
               PIECE * sizeof *pieces);
    int32_t n = chooser->kernels->keep(pieces, PIECES * PIECE, -FLT_MAX, INFINITY);
    uint64_t total = weigh(chooser, &mass, pieces, n, -FLT_MAX);
    uint64_t share = left_out / (uint64_t)chooser->n * (PIECES * PIECE), above;
    if (share / 16 == 0 || share + share / 4 >= total) return false;
    memcpy(copy, pieces, (size_t)n * sizeof *copy);
    *out_low = threshold(chooser, &mass, copy, n, total - share + share / 5, &above);
    *out_high = threshold(chooser, &mass, pieces, n, total - share - share / 5, &above);
    return true;
}

/* Gathers from low on; whether that is `wanted` mass, and the least that passes lies
 * below high: then only what lies between them is looked at closely. */
static bool gather_between(cohort_chooser *chooser, cohort_cpu_mass mass, float low,
                           float high, uint64_t wanted, int32_t *out_m, float *out_least,
                           uint64_t *out_above) {
    int32_t m = gather(chooser, low);
    uint64_t over = weigh(chooser, &mass, chooser->logits, m, high);
    if (over >= wanted) return false;
    memcpy(chooser->work, chooser->logits, (size_t)m * sizeof *chooser->work);
    int32_t n = chooser->kernels->keep(chooser->work, m, low, high);
    if (over + weigh(chooser, &mass, chooser->work, n, -FLT_MAX) < wanted) return false;
    *out_m = m;
    *out_least = threshold(chooser, &mass, chooser->work, n, wanted - over, out_above);
    *out_above += over;
    return true;
}

/* Gathers at least what passes of a row, the likeliest, which hold `wanted` of `total`
 * together; out_least is the last of them, out_above the mass of those before it. */
static int32_t gather_mass(cohort_chooser *chooser, cohort_cpu_mass mass, uint64_t total,
                           uint64_t wanted, float *out_least, uint64_t *out_above) {
    int32_t m = gather(chooser, bound_of(chooser, FIRST_GUESS));
    if (weigh(chooser, &mass, chooser->logits, m, -FLT_MAX) < wanted) {
        float low, high;
        if (guess(chooser, mass, total - wanted, &low, &high) &&
            gather_between(chooser, mass, low, high, wanted, &m, out_least, out_above))
            return m;
        /* n of less than (total - wanted) / n each can all be left out. */
        uint64_t tail = (total - wanted) / (uint64_t)chooser->n;
        m = gather(chooser, logit_of_mass(mass, tail < 1 ? 1 : tail));
    }
    memcpy(chooser->work, chooser->logits, (size_t)m * sizeof *chooser->work);
    *out_least = threshold(chooser, &mass, chooser->work, m, wanted, out_above);
    return m;
}

/* Of those equal to the last that passes the first `n` stay; the others lose their mass.
 */
static void leave_out(cohort_chooser *chooser, int32_t m, float least, uint64_t n) {
    int32_t equal =
        chooser->kernels->count(chooser->logits, m, least) -
        chooser->kernels->count(chooser->logits, m, nextafterf(least, INFINITY));
    if ((uint64_t)equal <= n) return;
    for (int32_t i = 0; i < m; i++) {
        if (chooser->logits[i] != least) continue;
        if (n > 0)
            n--;
        else
            chooser->logits[i] = -INFINITY;
    }
}

/* The mass that those must have together which pass. */
static uint64_t mass_of_top_p(uint64_t total, float top_p) {
    /* In units of 2^-40; p is less than 1. */
    product part = (product)(uint64_t)((double)top_p * 0x1p40) * total;
    uint64_t wanted = (uint64_t)((part + (((uint64_t)1 << 40) - 1)) >> 40);
    return wanted < 1 ? 1 : wanted;
}

/* Gathers what passes of all that is at least low; returns how many, and the least. */
static int32_t keep_top_p(cohort_chooser *chooser, cohort_cpu_mass mass, float top_p,
                          float *low) {
    bool filtered = *low > -FLT_MAX; /* by top-k or min-p: few are left, mostly */
    int32_t m = filtered ? gather(chooser, *low) : 0;
    uint64_t above;
    uint64_t total = filtered ? weigh(chooser, &mass, chooser->logits, m, *low)
                              : weigh(chooser, &mass, chooser->row, chooser->n, *low);
    uint64_t wanted = mass_of_top_p(total, top_p);
    if (filtered) {
        memcpy(chooser->work, chooser->logits, (size_t)m * sizeof *chooser->work);
        *low = threshold(chooser, &mass, chooser->work, m, wanted, &above);
    } else {
        m = gather_mass(chooser, mass, total, wanted, low, &above);
    }
    uint64_t each = cohort_cpu_mass_of(mass, *low);
    leave_out(chooser, m, *low, each ? (wanted - above + each - 1) / each : UINT64_MAX);
    return m;
}

/* ---- the draw ---------------------------------------------------------------------- */

/* The index whose mass the target falls into, of those at least low. */
static int32_t find(const cohort_chooser *chooser, cohort_cpu_mass mass, const float *x,
                    int32_t n, float low, uint64_t total, uint64_t number) {
    uint64_t left = (uint64_t)((product)number * total >> 64);
    int32_t tile = 0;
    while (left >= chooser->tile_masses[tile])
        left -= chooser->tile_masses[tile++];
    int32_t i = tile * COHORT_SAMPLE_TILE;
    for (; i + AT_ONCE <= n; i += AT_ONCE) {
        uint64_t some = weigh(chooser, &mass, x + i, AT_ONCE, low);
        if (left < some) break;
        left -= some;
    }
    for (; i < n; i++) {
        uint64_t each = x[i] >= low ? cohort_cpu_mass_of(mass, x[i]) : 0;
        if (left < each) return i;
        left -= each;
    }
    return -1; /* not reached: left is less than the tile's mass */
}

/* The least logit that top-k and min-p let pass. */
static float least_of(cohort_chooser *chooser, const cohort_choice *choice,
                      cohort_cpu_mass mass) {
    float low = -FLT_MAX;
    if (choice->top_k > 0 && choice->top_k < chooser->n)
        low = kth_largest(chooser, choice->top_k);
    if (choice->min_p > 0) {
        double part = choice->min_p < 1 ? (double)choice->min_p : 1;
        float least =
            logit_of_mass(mass, (uint64_t)ceil(part * (double)(1ll << COHORT_MASS_BITS)));
        /* vLLM drops what min-p drops before top-k looks: the stricter of the two. */
        if (least > low) low = least;
    }
    return low;
}

int32_t cohort_chooser_draw(cohort_chooser *chooser, const cohort_choice *choice,
                            uint64_t number) {
    const cohort_cpu_mass mass = {
        chooser->best, (float)(1.4426950408889634 / (double)choice->temperature)};
    float low = least_of(chooser, choice, mass);
    bool all = false;
    int32_t m;
    if (choice->top_p < 1)
        m = keep_top_p(chooser, mass, choice->top_p, &low);
    else if (low > -FLT_MAX)
        m = gather(chooser, low);
    else
        all = true, m = chooser->n;
    const float *x = all ? chooser->row : chooser->logits;
    uint64_t total = chooser->kernels->masses(x, m, mass, low, chooser->tile_masses);
    int32_t i = find(chooser, mass, x, m, low, total, number);
    return all ? i : chooser->ids[i];
}

/* ---- logprobs ---------------------------------------------------------------------- */

double cohort_chooser_log_sum(cohort_chooser *chooser) {
    if (isinf(chooser->best)) return 0;
    const cohort_cpu_mass mass = {chooser->best, 1.44269504f};
    uint64_t total =
        chooser->kernels->masses(chooser->row, chooser->n, mass, -FLT_MAX, NULL);
    return (double)chooser->best + log((double)total * 0x1p-44);
}

int32_t cohort_chooser_rank(const cohort_chooser *chooser, float logit) {
    int32_t rank = 0;
    for (int32_t t = 0; t < chooser->n_tiles; t++)
        if (chooser->maxima[t] >= logit)
            rank += chooser->kernels->count(chooser->row + t * COHORT_SAMPLE_TILE,
                                            tile_size(chooser, t), logit);
    return rank;
}

/* Likelier first; of equals, the lower id. */
static int by_likelihood(const void *a, const void *b) {
    const cohort_ranked *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

int32_t cohort_chooser_top(cohort_chooser *chooser, int32_t n, cohort_ranked *out) {
    float least = kth_largest(chooser, n < chooser->n ? n : chooser->n);
    int32_t m = gather(chooser, least), found = 0, equals = n;
    for (int32_t i = 0; i < m; i++)
        equals -= chooser->logits[i] > least;
    for (int32_t i = 0; i < m; i++) {
        if (chooser->logits[i] == least && equals-- <= 0) continue;
        out[found++] = (cohort_ranked){chooser->logits[i], chooser->ids[i]};
    }
    qsort(out, (size_t)found, sizeof *out, by_likelihood);
    return found;
}
