/* SPDX-License-Identifier: Apache-2.0 */
/* What it costs that weights and KV cache can outlive a rank: loading, and decode steps
 * behind a short and a long prompt, with a keeper; floor: the same without one.  Then a
 * load that takes up what was kept, against a load.  One thread, by its own clock.
 *
 * usage: keep_bench MODEL_DIR [ROUNDS] */
#include <sys/mman.h>

#include "bench.h"
#include "model/model.h"

enum { N_STEPS = 24, SHORT = 32, LONG = 1024, BLOCK = 16, N_BLOCKS = LONG / BLOCK + 8 };

static int fds[2] = {-1, -1}; /* of weights and cache */

static int take(void *self, const char *name) {
    (void)self;
    int fd = fds[strcmp(name, "kv") == 0];
    return fd < 0 ? -1 : dup(fd);
}

static cohort_status keep(void *self, const char *name, int fd, uint64_t generation,
                          bool was_kept) {
    (void)self;
    (void)generation;
    (void)was_kept;
    int *at = &fds[strcmp(name, "kv") == 0];
    if (*at >= 0) close(*at);
    *at = dup(fd);
    return COHORT_OK;
}

static void forget(void) {
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0) close(fds[i]);
        fds[i] = -1;
    }
}

static cohort_model *load(const char *dir, const cohort_keeper *keeper, double *out_us) {
    const cohort_model_options options = {.model_dir = dir,
                                          .max_model_len = LONG + N_STEPS + 1,
                                          .max_num_batched_tokens = 128,
                                          .max_num_seqs = 1,
                                          .block_size = BLOCK,
                                          .tp_size = 1,
                                          .pp_size = 1,
                                          .keeper = keeper,
                                          .backend = cohort_backend_cpu()};
    cohort_model *model;
    double begin_us = bench_now_us(1);
    bench_check(cohort_model_open(&options, &model));
    bench_check(cohort_model_load(model, NULL, NULL));
    bench_check(cohort_model_kv_create(model, N_BLOCKS));
    *out_us = bench_now_us(1) - begin_us;
    return model;
}

static cohort_status ignore(void *user_data, int32_t row_begin, int32_t n_rows,
                            float *logits, int32_t vocab_size) {
    (void)user_data;
    (void)row_begin;
    (void)n_rows;
    (void)logits;
    (void)vocab_size;
    return COHORT_OK;
}

static void compute(cohort_model *model, int32_t begin, int32_t end) {
    static int32_t table[N_BLOCKS], ids[128];
    int32_t n_logit_rows = 1;
    for (int32_t i = 0; i < N_BLOCKS; i++)
        table[i] = i;
    for (int32_t i = begin; i < end; i++)
        ids[i - begin] = i * 37 % 500;
    const cohort_sequence sequence = {
        .n_rows = end - begin, .n_computed = begin, .block_table = table};
    const cohort_batch batch = {.token_ids = ids,
                                .n_rows = end - begin,
                                .sequences = &sequence,
                                .n_logit_rows = &n_logit_rows,
                                .n_sequences = 1,
                                .deadline_ns = INT64_MAX};
    bench_check(cohort_model_forward(model, &batch, ignore, NULL));
}

static void prompt(cohort_model *model, int32_t n_tokens) {
    for (int32_t i = 0; i < n_tokens; i += 128)
        compute(model, i, i + 128 < n_tokens ? i + 128 : n_tokens);
}

static void decode(cohort_model *model, int32_t begin, int i, double *out_us) {
    double begin_us = bench_now_us(1);
    compute(model, begin + i, begin + i + 1);
    out_us[i] = bench_now_us(1) - begin_us;
}

/* Steps of both in turn. */
static void compare_steps(bench_pair *pair, cohort_model *kept, cohort_model *plain,
                          int32_t n_tokens) {
    double ours[N_STEPS], bare[N_STEPS];
    prompt(kept, n_tokens);
    prompt(plain, n_tokens);
    for (int i = 0; i < N_STEPS; i++) {
        decode(kept, n_tokens, i, ours);
        decode(plain, n_tokens, i, bare);
    }
    bench_add_round(pair, ours, N_STEPS, bare, N_STEPS);
}

int main(int argc, char **argv) {
    const char *dir = argc > 1 ? argv[1] : NULL;
    int rounds = dir ? bench_rounds(argc - 1, argv + 1) : 0;
    if (!rounds) {
        if (!dir) fprintf(stderr, "usage: keep_bench MODEL_DIR [ROUNDS]\n");
        return 2;
    }
    const cohort_keeper keeper = {NULL, take, keep};
    bench_pair loading = {.name = "load, to be kept"};
    bench_pair early = {.name = "decode at 32, before the move"};
    bench_pair near = {.name = "decode at 32, kept", .goal = 1.01};
    bench_pair far = {.name = "decode at 1024, kept", .goal = 1.01};
    bench_pair adopting = {.name = "load that takes up what was kept"};
    double moved_us[BENCH_MAX_ROUNDS], least_us[2] = {1e12, 1e12};
    for (int i = 0; i < rounds; i++) {
        double kept_us, plain_us, again_us;
        cohort_model *models[2];
        for (int k = 0; k < 2;
             k++) { /* in turn the first, whose memory is easier to get */
            bool is_kept = (k + i) % 2;
            models[is_kept] =
                load(dir, is_kept ? &keeper : NULL, is_kept ? &kept_us : &plain_us);
        }
        cohort_model *plain = models[0], *kept = models[1];
        least_us[0] = plain_us < least_us[0] ? plain_us : least_us[0];
        least_us[1] = kept_us < least_us[1] ? kept_us : least_us[1];
        bench_add_round(&loading, &kept_us, 1, &plain_us, 1);
        compare_steps(&early, kept, plain, SHORT);
        moved_us[i] = bench_now_us(1);
        cohort_status status;
        while ((status = cohort_model_memory_move(kept)) == COHORT_PENDING) {
        }
        bench_check(status);
        moved_us[i] = bench_now_us(1) - moved_us[i];
        compare_steps(&near, kept, plain, SHORT);
        compare_steps(&far, kept, plain, LONG);
        cohort_model_close(kept);
        kept = load(dir, &keeper, &again_us);
        bench_add_round(&adopting, &again_us, 1, &plain_us, 1);
        cohort_model_close(kept);
        cohort_model_close(plain);
        forget();
    }
    bench_print_header();
    bench_print_pair(&loading);
    bench_print_pair(&early);
    bench_print_pair(&near);
    bench_print_pair(&far);
    bench_print_pair(&adopting);
    printf("the fastest load: %.1f ms to be kept, %.1f ms else\n", least_us[1] / 1e3,
           least_us[0] / 1e3);
    printf("moving the weights beside steps: %.1f ms\n",
           bench_percentile(moved_us, (size_t)rounds, 0.5) / 1e3);
    return 0;
}
