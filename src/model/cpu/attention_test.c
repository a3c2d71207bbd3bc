/* SPDX-License-Identifier: Apache-2.0 */
#include "model/cpu/cpu_internal.h"
#include "model/cpu/cpu_test.h"

/* Paged attention against a softmax in double over keys and values kept flat. */

enum { MOST_TOKENS = 620, MOST_SEQUENCES = 4 };

struct geometry {
    int32_t n_heads, n_kv_heads, head_dim, block_size, window;
    cohort_dtype dtype;
};

/* One sequence: all its qkv rows, computed from a seed, and its scattered blocks. */
struct story {
    int32_t n_tokens;
    float *qkv; /* [n_tokens][width] */
    float *out; /* [n_tokens][n_heads * head_dim] */
    int32_t blocks[MOST_TOKENS];
};

struct cache {
    cohort_backend *backend;
    cohort_kv *kv;
    struct geometry g;
    int64_t width, out_width;
};

static double kept(cohort_dtype dtype, float value) {
    return dtype == COHORT_BF16 ? (double)of_bf16(bf16_of(value)) : (double)value;
}

/* Do dot products round queries and weights? */
static bool rounds(const struct cache *cache) {
    return cache->backend->bf16_activations && cache->g.dtype == COHORT_BF16;
}

static void reference_head(const struct cache *cache, const struct story *story,
                           int32_t token, int32_t head, double *out) {
    const struct geometry *g = &cache->g;
    const float *q = story->qkv + token * cache->width + (int64_t)head * g->head_dim;
    int64_t key_at = (g->n_heads + head / (g->n_heads / g->n_kv_heads)) * g->head_dim;
    int64_t value_at = key_at + (int64_t)g->n_kv_heads * g->head_dim;
    int32_t first = g->window && token >= g->window ? token - g->window + 1 : 0;
    double weights[MOST_TOKENS], most = -1e300, sum = 0;
    for (int32_t t = first; t <= token; t++) {
        const float *row = story->qkv + t * cache->width;
        weights[t] = 0;
        for (int32_t d = 0; d < g->head_dim; d++)
            weights[t] += kept(rounds(cache) ? COHORT_BF16 : COHORT_F32, q[d] * 1.5f) *
                          kept(g->dtype, row[key_at + d]);
        most = fmax(most, weights[t]);
    }
    for (int32_t d = 0; d < g->head_dim; d++)
        out[d] = 0;
    for (int32_t t = first; t <= token; t++) {
        double weight = exp(weights[t] - most);
        sum += weight;
        for (int32_t d = 0; d < g->head_dim; d++)
            out[d] +=
                weight * kept(g->dtype, story->qkv[t * cache->width + value_at + d]);
    }
    for (int32_t d = 0; d < g->head_dim; d++)
        out[d] /= sum;
}

/* A weight that is rounded to bf16 is off by 1/512 at most. */
static double bound_of(const struct cache *cache) { return rounds(cache) ? 2e-3 : 4e-6; }

static void check_story(const struct cache *cache, const struct story *story,
                        double tolerance) {
    double *expected = malloc((size_t)cache->g.head_dim * sizeof *expected);
    for (int32_t t = 0; t < story->n_tokens; t += t % 5 ? 3 : 1)
        for (int32_t h = 0; h < cache->g.n_heads; h++) {
            reference_head(cache, story, t, h, expected);
            const float *out =
                story->out + t * cache->out_width + (int64_t)h * cache->g.head_dim;
            for (int32_t d = 0; d < cache->g.head_dim; d++)
                assert_near(out[d], expected[d], tolerance);
        }
    free(expected);
}

/* Tokens [done, done + n) of each story in one call. */
static void step(struct cache *cache, struct story *stories, const int32_t *done,
                 const int32_t *n, int32_t n_stories) {
    const struct geometry *g = &cache->g;
    cohort_sequence sequences[MOST_SEQUENCES];
    float *qkv =
        malloc(MOST_SEQUENCES * MOST_TOKENS * (size_t)cache->width * sizeof *qkv);
    float *out =
        malloc(MOST_SEQUENCES * MOST_TOKENS * (size_t)cache->out_width * sizeof *out);
    int32_t rows = 0;
    for (int32_t i = 0; i < n_stories; i++) {
        sequences[i] = (cohort_sequence){.row_begin = rows,
                                         .n_rows = n[i],
                                         .n_computed = done[i],
                                         .block_table = stories[i].blocks};
        memcpy(qkv + rows * cache->width, stories[i].qkv + done[i] * cache->width,
               (size_t)(n[i] * cache->width) * sizeof *qkv);
        rows += n[i];
    }
    const cohort_attention shape = {sequences,   n_stories, g->n_heads, g->n_kv_heads,
                                    g->head_dim, 1.5f,      g->window};
    cohort_cpu_store(cache->backend, cache->kv, 1, &shape, qkv, cache->width);
    cohort_cpu_attention(cache->backend, cache->kv, 1, &shape, qkv, cache->width, out);
    for (int32_t i = 0; i < n_stories; i++)
        memcpy(stories[i].out + done[i] * cache->out_width,
               out + sequences[i].row_begin * cache->out_width,
               (size_t)(n[i] * cache->out_width) * sizeof *out);
    free(out);
    free(qkv);
}

static void open_cache(struct cache *cache, cohort_backend *backend, struct geometry g,
                       struct story *stories, const int32_t *lengths, int32_t n) {
    *cache = (struct cache){.backend = backend, .g = g};
    cache->width = (int64_t)(g.n_heads + 2 * g.n_kv_heads) * g.head_dim;
    cache->out_width = (int64_t)g.n_heads * g.head_dim;
    int32_t n_blocks = 0;
    for (int32_t i = 0; i < n; i++) {
        stories[i].n_tokens = lengths[i];
        stories[i].qkv = noise_floats(lengths[i] * cache->width, 100 + (uint64_t)i);
        stories[i].out = calloc((size_t)(lengths[i] * cache->out_width), sizeof(float));
        n_blocks += (lengths[i] + g.block_size - 1) / g.block_size;
    }
    /* Blocks are dealt out in turns, from the last to the first. */
    int32_t next = n_blocks;
    for (int32_t b = 0; next > 0; b++)
        for (int32_t i = 0; i < n; i++)
            if (b * g.block_size < lengths[i]) stories[i].blocks[b] = --next;
    const cohort_kv_shape shape = {2, g.block_size, g.n_kv_heads, g.head_dim, g.dtype};
    assert_int_equal(cohort_cpu_kv_create(backend, &shape, n_blocks, &cache->kv),
                     COHORT_OK);
}

static void close_cache(struct cache *cache, struct story *stories, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        free(stories[i].qkv);
        free(stories[i].out);
    }
    cohort_cpu_kv_destroy(cache->kv);
}

static const struct geometry geometries[] = {
    {4, 2, 16, 16, 0, COHORT_F32},   {9, 3, 64, 16, 0, COHORT_BF16},
    {2, 2, 128, 16, 20, COHORT_F32}, {6, 1, 20, 5, 0, COHORT_F32},
    {8, 1, 8, 32, 7, COHORT_BF16},   {4, 1, 7, 5, 0, COHORT_BF16},
    {1, 1, 80, 24, 100, COHORT_F32},
};
enum { N_GEOMETRIES = sizeof geometries / sizeof *geometries };

/* Whole prompts in one step; the same prompts in chunks of 7 beside sequences that are
 * elsewhere; then token by token, alone: right, and the same bits. */
static void chunks_and_company(cohort_backend *backend) {
    const int32_t lengths[3] = {130, 33, 70};
    for (int i = 0; i < N_GEOMETRIES; i++) {
        struct story whole[3], parts[3];
        struct cache cache;
        open_cache(&cache, backend, geometries[i], whole, lengths, 3);
        step(&cache, whole, (int32_t[3]){0}, lengths, 3);
        for (int s = 0; s < 3; s++)
            check_story(&cache, &whole[s], bound_of(&cache));

        struct cache second;
        open_cache(&second, backend, geometries[i], parts, lengths, 3);
        int32_t done[3] = {0};
        while (done[0] < lengths[0]) {
            struct story now[3];
            int32_t at[3], n[3], which[3], n_now = 0;
            for (int32_t s = 0; s < 3; s++) {
                int32_t left = lengths[s] - done[s], chunk = s == 1 ? 1 : 7;
                if (!left) continue;
                now[n_now] = parts[s];
                at[n_now] = done[s];
                n[n_now] = left < chunk ? left : chunk;
                which[n_now++] = s;
            }
            step(&second, now, at, n, n_now);
            for (int32_t j = 0; j < n_now; j++)
                done[which[j]] += n[j];
        }
        while (done[1] < lengths[1]) {
            step(&second, &parts[1], &done[1], &(int32_t){1}, 1);
            done[1]++;
        }
        for (int s = 0; s < 3; s++)
            assert_memory_equal(whole[s].out, parts[s].out,
                                (size_t)(lengths[s] * cache.out_width) * sizeof(float));
        close_cache(&cache, whole, 3);
        close_cache(&second, parts, 3);
    }
}

/* Contexts of several parts: a prompt at once, the same in two steps and token by token
 * at its end, alone (cut into parts where there are threads) and with three others. */
static void long_contexts(cohort_backend *backend) {
    enum { LENGTH = 600, LAST = 596 };
    static const struct geometry g[] = {{6, 2, 32, 16, 0, COHORT_BF16},
                                        {2, 1, 16, 5, 0, COHORT_F32},
                                        {4, 2, 16, 16, 300, COHORT_F32}};
    const int32_t lengths[4] = {LENGTH, LENGTH, 40, 530};
    for (size_t i = 0; i < sizeof g / sizeof *g; i++) {
        struct story whole[4], parts[4];
        struct cache cache, second;
        open_cache(&cache, backend, g[i], whole, lengths, 4);
        step(&cache, whole, (int32_t[4]){0}, lengths, 4);
        check_story(&cache, &whole[0], bound_of(&cache));
        open_cache(&second, backend, g[i], parts, lengths, 4);
        step(&second, parts, (int32_t[1]){0}, (int32_t[1]){513}, 1);
        step(&second, parts, (int32_t[1]){513}, (int32_t[1]){LAST - 513}, 1);
        for (int32_t t = LAST; t < LENGTH; t++)
            step(&second, parts, &t, (int32_t[1]){1}, 1);
        step(&second, parts + 1, (int32_t[3]){0}, (int32_t[3]){LAST, 39, 529}, 3);
        step(&second, parts + 1, (int32_t[3]){LAST, 39, 529},
             (int32_t[3]){LENGTH - LAST, 1, 1}, 3);
        for (int s = 0; s < 4; s++)
            assert_memory_equal(whole[s].out, parts[s].out,
                                (size_t)(lengths[s] * cache.out_width) * sizeof(float));
        close_cache(&cache, whole, 4);
        close_cache(&second, parts, 4);
    }
}

static void long_contexts_are_right_however_they_are_cut(void **state) {
    (void)state;
    on_every_isa(long_contexts);
    on_dot_products(long_contexts);
}

static void attention_is_right_and_the_same_in_chunks_and_company(void **state) {
    (void)state;
    on_every_isa(chunks_and_company);
    on_dot_products(chunks_and_company);
}

/* What a block held before must not leak into a sequence that got it later, not even a
 * NaN. */
static void old_blocks_are_not_seen(cohort_backend *backend, cohort_dtype dtype) {
    const struct geometry g = {2, 1, 16, 16, 0, dtype};
    struct story stories[1];
    struct cache cache;
    open_cache(&cache, backend, g, stories, (int32_t[1]){60}, 1);
    float *good = stories[0].qkv;
    stories[0].qkv = malloc((size_t)(60 * cache.width) * sizeof(float));
    for (int64_t i = 0; i < 60 * cache.width; i++)
        stories[0].qkv[i] = NAN;
    step(&cache, stories, (int32_t[1]){0}, (int32_t[1]){60}, 1);
    free(stories[0].qkv);
    stories[0].qkv = good;
    for (int32_t t = 0; t < 60; t += 3)
        step(&cache, stories, &t, (int32_t[1]){3}, 1);
    check_story(&cache, &stories[0], bound_of(&cache));
    close_cache(&cache, stories, 1);
}

static void old_f32_blocks_are_not_seen(cohort_backend *backend) {
    old_blocks_are_not_seen(backend, COHORT_F32);
}

static void old_bf16_blocks_are_not_seen(cohort_backend *backend) {
    old_blocks_are_not_seen(backend, COHORT_BF16);
}

static void old_blocks_do_not_leak(void **state) {
    (void)state;
    on_every_isa(old_f32_blocks_are_not_seen);
    on_every_isa(old_bf16_blocks_are_not_seen);
    on_dot_products(old_bf16_blocks_are_not_seen);
}

/* Scores of hundreds, and of both signs: the running maximum moves by more than exp's
 * range.
 */
static void large_scores_do_not_overflow(void **state) {
    (void)state;
    for (int i = 0; i < N_ISAS; i++) {
        cohort_backend *backend = open_backend(isa_names[i], 2, false);
        if (!backend) continue;
        const struct geometry g = {2, 1, 16, 16, 0, COHORT_F32};
        struct story stories[1];
        struct cache cache;
        int32_t length = 200;
        open_cache(&cache, backend, g, stories, &length, 1);
        for (int32_t t = 0; t < length; t++)
            for (int32_t d = 0; d < 3 * g.head_dim; d++)
                stories[0].qkv[t * cache.width + d] *= 8;
        step(&cache, stories, &(int32_t){0}, &length, 1);
        check_story(&cache, &stories[0], 2e-4);
        close_cache(&cache, stories, 1);
        cohort_backend_cpu()->destroy(backend);
    }
}

/* What --kv-cache-memory is divided by has to be what is taken in the end. */
static void a_block_takes_the_bytes_it_is_accounted_for(void **state) {
    (void)state;
    cohort_backend *backend = open_backend(NULL, 1, false);
    const int32_t block_sizes[] = {1, 8, 16, 17, 256};
    for (size_t i = 0; i < sizeof block_sizes / sizeof *block_sizes; i++)
        for (int32_t head_dim = 20; head_dim <= 64; head_dim += 44)
            for (int d = COHORT_F32; d <= COHORT_BF16; d++) {
                const cohort_kv_shape shape = {3, block_sizes[i], 2, head_dim,
                                               (cohort_dtype)d};
                cohort_kv *kv;
                assert_int_equal(cohort_cpu_kv_create(backend, &shape, 5, &kv),
                                 COHORT_OK);
                assert_int_equal(cohort_cpu_kv_bytes(kv),
                                 5 * cohort_cpu_kv_block_bytes(backend, &shape));
                cohort_cpu_kv_destroy(kv);
            }
    /* Keys come in groups of 16 tokens: 1 token takes the keys of 16 and its value. */
    const cohort_kv_shape whole = {1, 16, 1, 64, COHORT_F32},
                          single = {1, 1, 1, 64, COHORT_F32};
    assert_int_equal(cohort_cpu_kv_block_bytes(backend, &whole), 2 * 16 * 64 * 4);
    assert_int_equal(cohort_cpu_kv_block_bytes(backend, &single), (16 + 1) * 64 * 4);
    cohort_backend_cpu()->destroy(backend);
}

static void impossible_caches_are_refused(void **state) {
    (void)state;
    cohort_backend *backend = open_backend(NULL, 1, false);
    cohort_kv *kv;
    const cohort_kv_shape half = {1, 16, 1, 16, COHORT_F16}, small = {1, 16, 1, 16, 0},
                          large = {1 << 20, 16, 64, 128, COHORT_F32};
    assert_int_equal(cohort_cpu_kv_create(backend, &half, 4, &kv), COHORT_E_INVALID);
    assert_int_equal(cohort_cpu_kv_create(backend, &small, 0, &kv), COHORT_E_INVALID);
    assert_int_equal(cohort_cpu_kv_create(backend, &large, 1LL << 40, &kv),
                     COHORT_E_NOMEM);
    assert_null(kv);
    cohort_backend_cpu()->destroy(backend);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_is_right_and_the_same_in_chunks_and_company),
        cmocka_unit_test(long_contexts_are_right_however_they_are_cut),
        cmocka_unit_test(old_blocks_do_not_leak),
        cmocka_unit_test(large_scores_do_not_overflow),
        cmocka_unit_test(a_block_takes_the_bytes_it_is_accounted_for),
        cmocka_unit_test(impossible_caches_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
