/* SPDX-License-Identifier: Apache-2.0 */
#include "model/choose.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"
#include "model/cpu/kernels.h"

/* Every kernel set that runs here, against whole numbers that are sorted and added up one
 * by one: not a token may differ. */

enum { MOST = 33000, SETS = 3 };

static const char *const names[SETS] = {"portable", "avx2", "avx512"};

static const cohort_cpu_logits *set_of(int set) {
    cohort_cpu_isa isa;
    return cohort_cpu_isa_find(names[set], &isa) < 0 ? NULL : isa.logits;
}

static cohort_chooser *chooser_of(int set, int32_t n) {
    cohort_chooser *chooser;
    assert_int_equal(cohort_chooser_create(n, set_of(set), &chooser), COHORT_OK);
    return chooser;
}

static int by_likelihood(const void *a, const void *b) {
    const cohort_ranked *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id - y->id;
}

/* Numbers of the row, likeliest first; returns how many. */
static int32_t sorted(const float *row, int32_t n, cohort_ranked *out) {
    int32_t m = 0;
    for (int32_t i = 0; i < n; i++)
        if (row[i] > -INFINITY) out[m++] = (cohort_ranked){row[i], i};
    qsort(out, (size_t)m, sizeof *out, by_likelihood);
    return m;
}

static int32_t pass_k_and_min_p(const cohort_choice *choice, cohort_cpu_mass mass,
                                const cohort_ranked *all, int32_t m, int32_t n) {
    int32_t kept = m;
    if (choice->top_k > 0 && choice->top_k < n && choice->top_k < kept) {
        float kth = all[choice->top_k - 1].logit;
        while (all[kept - 1].logit < kth)
            kept--;
    }
    double least = (double)choice->min_p * 0x1p44;
    while (kept > 1 && (double)cohort_cpu_mass_of(mass, all[kept - 1].logit) < least)
        kept--;
    return kept;
}

static int32_t draw_slowly(const cohort_choice *choice, const float *row, int32_t n,
                           uint64_t number) {
    static cohort_ranked all[MOST];
    static uint64_t masses[MOST];
    int32_t m = sorted(row, n, all);
    const cohort_cpu_mass mass = {
        all[0].logit, (float)(1.4426950408889634 / (double)choice->temperature)};
    int32_t kept = pass_k_and_min_p(choice, mass, all, m, n);
    uint64_t total = 0, before = 0, passed = 0;
    for (int32_t i = 0; i < kept; i++)
        total += cohort_cpu_mass_of(mass, all[i].logit);
    memset(masses, 0, sizeof masses);
    for (int32_t i = 0; i < kept; i++) {
        uint64_t each = cohort_cpu_mass_of(mass, all[i].logit);
        /* before < p * total, in whole numbers: p has 40 bits after the point. */
        __extension__ unsigned __int128 bound =
            (unsigned __int128)(uint64_t)((double)choice->top_p * 0x1p40) * total;
        if (choice->top_p < 1 && i > 0 &&
            (__extension__(unsigned __int128) before << 40) >= bound)
            break;
        masses[all[i].id] = each;
        passed += each;
        before += each;
    }
    uint64_t left = (uint64_t)(__extension__(unsigned __int128) number * passed >> 64);
    int32_t id = 0;
    while (left >= masses[id])
        left -= masses[id++];
    return id;
}

/* ---- rows -------------------------------------------------------------------------- */

typedef enum row_shape {
    NORMAL,
    STEEP,
    COARSE,
    EQUAL,
    HOLED,
    HIGH_PIECES, /* where choose.c looks first, logits are not like the others */
    LOW_PIECES,
    SHAPES
} row_shape;

static void fill(float *row, int32_t n, row_shape shape, uint64_t seed) {
    for (int32_t i = 0; i < n; i++) {
        double sum = -6;
        for (uint64_t k = 0; k < 12; k++)
            sum += cohort_random_unit(seed, (uint64_t)i * 12 + k);
        switch (shape) {
        case STEEP: row[i] = (float)(sum * 9); break;
        case COARSE: row[i] = (float)(int)(sum * 2) / 2; break; /* ties everywhere */
        case EQUAL: row[i] = -3; break;
        default: row[i] = (float)(sum * 2); break;
        }
        if (n >= 128 && i % (n / 128) < 16) {
            if (shape == HIGH_PIECES) row[i] += 6;
            if (shape == LOW_PIECES) row[i] -= 6;
        }
        if (shape != HOLED) continue;
        uint64_t hole = cohort_random_u64(seed, (uint64_t)i) % 8;
        if (hole == 0) row[i] = NAN;
        if (hole == 1) row[i] = -INFINITY;
    }
}

static const int32_t sizes[] = {1, 2, 15, 17, 255, 256, 257, 5000, MOST};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* ---- tests ------------------------------------------------------------------------- */

static void vectors_weigh_what_one_logit_weighs(void **state) {
    (void)state;
    enum { N = 16 };
    for (int set = 0; set < SETS; set++) {
        if (!set_of(set)) continue;
        for (uint64_t i = 0; i < 20000; i++) {
            cohort_cpu_mass mass = {(float)(cohort_random_unit(1, i) * 40 - 20),
                                    (float)(cohort_random_unit(2, i) * 3)};
            float row[N];
            uint64_t sum = 0;
            for (uint64_t j = 0; j < N; j++) {
                row[j] = mass.best - (float)(cohort_random_unit(3 + i, j) * 40);
                if (i % 7 == 0) row[j] = j % 3 ? -INFINITY : NAN;
                sum += cohort_cpu_mass_of(mass, row[j]);
            }
            assert_true(set_of(set)->masses(row, N, mass, -3.4e38f, NULL) == sum);
        }
        cohort_cpu_mass mass = {1, 1.4426950f};
        assert_true(cohort_cpu_mass_of(mass, 1) == (uint64_t)1 << COHORT_MASS_BITS);
    }
}

static void masses_are_exponentials(void **state) {
    (void)state;
    const cohort_cpu_mass mass = {7, 1.44269504f};
    for (int i = 0; i < 100000; i++) {
        float logit = 7 - (float)i * 3e-4f;
        double expected = exp((double)logit - 7) * 0x1p44;
        double got = (double)cohort_cpu_mass_of(mass, logit);
        /* t in f32 is off by 2^-24 of itself, and the last is cut to a whole number. */
        assert_true(fabs(got - expected) < expected * 3e-6 + 1);
    }
}

static void draws_are_exact_on_every_kernel_set(void **state) {
    (void)state;
    const cohort_choice choices[] = {
        {1, 0, 1, 0},          {0.3f, 0, 1, 0},       {3, 0, 1, 0},
        {1, 1, 1, 0},          {1, 7, 1, 0},          {1, 100, 1, 0},
        {1, 3000, 1, 0},       {1, 0, 0.9f, 0},       {1, 0, 0, 0},
        {1, 0, 0.5f, 0},       {1, 0, 0.9999999f, 0}, {1, 0, 1, 0.05f},
        {0.8f, 50, 0.95f, 0},  {1, 0, 1, 1},          {2, 2000, 0.7f, 0.01f},
        {1.5f, 4999, 0.3f, 0},
    };
    static float row[MOST];
    for (int s = 0; s < SIZES; s++)
        for (row_shape shape = 0; shape < SHAPES; shape++) {
            fill(row, sizes[s], shape, (uint64_t)s);
            row[sizes[s] / 2] = 0.25f; /* a number, whatever else there is */
            for (size_t c = 0; c < sizeof choices / sizeof *choices; c++) {
                uint64_t number = cohort_random_u64(shape, c);
                if (c % 5 == 4) number = UINT64_MAX;
                int32_t expected = draw_slowly(&choices[c], row, sizes[s], number);
                for (int set = 0; set < SETS; set++) {
                    if (!set_of(set)) continue;
                    cohort_chooser *chooser = chooser_of(set, sizes[s]);
                    assert_true(cohort_chooser_look(chooser, row) >= 0);
                    int32_t got = cohort_chooser_draw(chooser, &choices[c], number);
                    if (got != expected)
                        fail_msg("%s drew %d, not %d: %d logits of shape %d, choice %zu",
                                 names[set], got, expected, sizes[s], (int)shape, c);
                    cohort_chooser_destroy(chooser);
                }
            }
        }
}

static void ranks_and_the_likeliest_are_exact(void **state) {
    (void)state;
    static float row[MOST];
    static cohort_ranked all[MOST];
    for (int s = 0; s < SIZES; s++)
        for (row_shape shape = 0; shape < SHAPES; shape++) {
            fill(row, sizes[s], shape, (uint64_t)s);
            row[sizes[s] / 2] = 0.25f;
            int32_t m = sorted(row, sizes[s], all);
            for (int set = 0; set < SETS; set++) {
                if (!set_of(set)) continue;
                cohort_chooser *chooser = chooser_of(set, sizes[s]);
                assert_int_equal(cohort_chooser_look(chooser, row), all[0].id);
                for (int32_t n = 1; n <= 128; n += 31) {
                    cohort_ranked best[128];
                    int32_t found = cohort_chooser_top(chooser, n, best);
                    assert_int_equal(found, n < m ? n : m);
                    for (int32_t i = 0; i < found; i++)
                        assert_int_equal(best[i].id, all[i].id);
                }
                for (int32_t i = 0; i < m; i += 1 + m / 9) {
                    int32_t rank = i + 1;
                    while (rank < m && all[rank].logit == all[i].logit)
                        rank++;
                    assert_int_equal(cohort_chooser_rank(chooser, all[i].logit), rank);
                }
                double sum = 0;
                for (int32_t i = 0; i < m; i++)
                    sum += exp((double)all[i].logit);
                assert_true(fabs(cohort_chooser_log_sum(chooser) - log(sum)) < 1e-6);
                cohort_chooser_destroy(chooser);
            }
        }
}

static void what_equals_the_last_passes_by_id(void **state) {
    (void)state;
    enum { N = 1000 };
    static float row[N];
    for (int32_t i = 0; i < N; i++)
        row[i] = i % 100 == 50 ? 1 : 0;
    /* Ten hold 10 e of 990 + 10 e; half of all takes these and 482 of the others. */
    const cohort_choice choice = {1, 0, 0.5f, 0};
    for (int set = 0; set < SETS; set++) {
        if (!set_of(set)) continue;
        cohort_chooser *chooser = chooser_of(set, N);
        cohort_chooser_look(chooser, row);
        int32_t last = cohort_chooser_draw(chooser, &choice, UINT64_MAX);
        assert_int_equal(last, 950); /* likelier than all beside it */
        int32_t most = 0;
        for (uint64_t i = 0; i < 4000; i++) {
            int32_t id = cohort_chooser_draw(chooser, &choice, cohort_random_u64(5, i));
            if (row[id] == 0 && id > most) most = id;
        }
        assert_true(most >= 480 && most <= 486);
        cohort_chooser_destroy(chooser);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_weigh_what_one_logit_weighs),
        cmocka_unit_test(masses_are_exponentials),
        cmocka_unit_test(draws_are_exact_on_every_kernel_set),
        cmocka_unit_test(ranks_and_the_likeliest_are_exact),
        cmocka_unit_test(what_equals_the_last_passes_by_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
