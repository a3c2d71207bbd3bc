/* SPDX-License-Identifier: Apache-2.0 */
/* A model whose weights are drawn, over layouts of ranks on two cores:
 *
 *   decode   one sequence, bf16; what the weights' bytes over the step's time are of what
 *            two bare threads read of as many bytes.  uni with two threads, mp with tp 2.
 *   prefill  four prompts of 512 tokens, one a step: mp with pp 2 against one rank with
 *            one thread.
 *
 * All take turns within a round.  Outside the timed window: start-up, a warming round.
 *
 * usage: layout_bench MODEL_DIR [ROUNDS] */
#include <sys/mman.h>

#include "bench.h"
#include "cohort/clock.h"
#include "cohort/engine.h"
#include "model/cpu/pool.h"

enum { PROMPT = 512, PROMPTS = 4, DECODE_PROMPT = 32, TOKENS = 16, LANES = 8 };

typedef uint64_t lanes __attribute__((vector_size(64), aligned(64)));

typedef struct bare_read {
    cohort_pool *pool;
    lanes *memory;
    size_t count;
    lanes sums[2][LANES]; /* keep the reading from being left out */
} bare_read;

static void read_half(void *context, int32_t thread, int32_t n_threads) {
    bare_read *self = context;
    size_t share = self->count / (size_t)n_threads / LANES * LANES;
    const lanes *at = self->memory + share * (size_t)thread;
    lanes sums[LANES] = {0};
    for (size_t i = 0; i < share; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            sums[k] += at[i + k];
    memcpy(self->sums[thread], sums, sizeof sums);
}

static void open_read(bare_read *self, size_t bytes) {
    bytes = bytes >> 21 << 21;
    self->count = bytes / sizeof(lanes);
    self->memory = aligned_alloc(2 << 20, self->count * sizeof(lanes));
    if (!self->memory) exit(1);
    madvise(self->memory, bytes, MADV_HUGEPAGE); /* as the weights lie */
    memset(self->memory, 1, self->count * sizeof(lanes));
    bench_check(cohort_pool_create((int32_t[]){0, 1}, 2, &self->pool));
}

static double read_ms(bare_read *self) {
    int64_t start_ns = cohort_clock_ns();
    cohort_pool_run(self->pool, read_half, self);
    return (double)(cohort_clock_ns() - start_ns) / 1e6;
}

static cohort_engine *start(const char *model, const char *backend, int32_t tp,
                            int32_t pp, const char *bind) {
    cohort_engine_options options = cohort_engine_defaults();
    options.executor.backend = backend;
    options.executor.tp = tp;
    options.executor.pp = pp;
    options.model = model;
    options.dtype = "bfloat16";
    options.load_format = "dummy";
    options.max_model_len = 2 * PROMPT;
    options.max_num_seqs = PROMPTS;
    options.max_num_batched_tokens = PROMPT;
    options.kv_cache_memory_bytes = INT64_C(512) << 20;
    options.cpu_threads_bind = bind;
    options.skip_tokenizer_init = true;
    options.enable_prefix_caching = false; /* prompts come again in every round */
    cohort_engine *engine;
    int64_t start_ns = cohort_clock_ns();
    bench_check(cohort_engine_start(&options, &engine));
    printf("%s tp%d pp%d, threads %s: ready in %.2f s\n", backend, tp, pp, bind,
           (double)(cohort_clock_ns() - start_ns) / 1e9);
    return engine;
}

static void submit(cohort_engine *engine, int32_t seed, size_t n_prompt, int32_t tokens) {
    int32_t ids[PROMPT];
    cohort_request_id id;
    for (size_t i = 0; i < n_prompt; i++)
        ids[i] = (int32_t)((size_t)seed * 7919 + i * 31) % 30000;
    cohort_request request = cohort_engine_request_defaults(engine);
    request.prompt_token_ids = ids;
    request.n_prompt_token_ids = n_prompt;
    request.sampling.temperature = 0;
    request.max_tokens = tokens;
    request.ignore_eos = true;
    request.detokenize = false;
    bench_check(cohort_engine_submit(engine, &request, &id));
}

static void step(cohort_engine *engine) {
    cohort_engine_outputs outputs;
    bench_check(cohort_engine_step(engine, COHORT_NEVER, &outputs));
}

/* The median step, the first token's left out. */
static double decode_ms(cohort_engine *engine) {
    double ms[TOKENS];
    size_t n = 0;
    submit(engine, 1, DECODE_PROMPT, TOKENS);
    step(engine);
    while (cohort_engine_has_unfinished(engine) && n < TOKENS) {
        int64_t start_ns = cohort_clock_ns();
        step(engine);
        ms[n++] = (double)(cohort_clock_ns() - start_ns) / 1e6;
    }
    return bench_percentile(ms, n, 0.5);
}

static double prefill_ms(cohort_engine *engine) {
    int64_t start_ns = cohort_clock_ns();
    for (int32_t i = 0; i < PROMPTS; i++)
        submit(engine, i, PROMPT, 1);
    while (cohort_engine_has_unfinished(engine))
        step(engine);
    return (double)(cohort_clock_ns() - start_ns) / 1e6;
}

static void report(const char *name, const double *ms, const double *base_ms, int rounds,
                   double goal) {
    double sorted[BENCH_MAX_ROUNDS], ratios[BENCH_MAX_ROUNDS];
    memcpy(sorted, ms, sizeof(double) * (size_t)rounds);
    for (int i = 0; i < rounds; i++)
        ratios[i] = base_ms[i] / ms[i];
    double p50_ms = bench_percentile(sorted, (size_t)rounds, 0.5);
    double ratio = bench_percentile(ratios, (size_t)rounds, 0.5);
    printf("%-24s %9.2f ms (%.2f - %.2f)", name, p50_ms, sorted[0], sorted[rounds - 1]);
    if (goal > 0)
        printf("  ratio %.2f (%.2f - %.2f), >= %.2f: %s", ratio, ratios[0],
               ratios[rounds - 1], goal, ratio >= goal ? "met" : "MISSED");
    printf("\n");
}

static void measure_decode(const char *model, int rounds) {
    double bare[BENCH_MAX_ROUNDS], uni[BENCH_MAX_ROUNDS], mp[BENCH_MAX_ROUNDS];
    cohort_engine *threads = start(model, "uni", 1, 1, "0-1");
    cohort_engine *ranks = start(model, "mp", 2, 1, "0|1");
    cohort_engine_info info;
    bare_read floor = {0};
    cohort_engine_describe(threads, &info);
    open_read(&floor, (size_t)info.weight_bytes);
    for (int i = -1; i < rounds; i++) {
        double one[] = {read_ms(&floor), decode_ms(threads), decode_ms(ranks)};
        if (i < 0) continue;
        bare[i] = one[0];
        uni[i] = one[1];
        mp[i] = one[2];
    }
    printf("decode, %.2f GB of weights a token; ratio: of the bare read's speed\n",
           (double)info.weight_bytes / 1e9);
    report("two threads read", bare, bare, rounds, 0);
    report("uni, two threads", uni, bare, rounds, 0.6);
    report("mp, tp 2", mp, bare, rounds, 0.6);
    cohort_pool_destroy(floor.pool);
    free(floor.memory);
    cohort_engine_destroy(threads);
    cohort_engine_destroy(ranks);
}

static void measure_prefill(const char *model, int rounds) {
    double one[BENCH_MAX_ROUNDS], two[BENCH_MAX_ROUNDS];
    cohort_engine *rank = start(model, "mp", 1, 1, "0");
    cohort_engine *stages = start(model, "mp", 1, 2, "0|1");
    for (int i = -1; i < rounds; i++) {
        double ms[] = {prefill_ms(rank), prefill_ms(stages)};
        if (i < 0) continue;
        one[i] = ms[0];
        two[i] = ms[1];
    }
    printf("prefill of %d prompts of %d tokens; ratio: times one rank's speed\n", PROMPTS,
           PROMPT);
    report("one rank, one thread", one, one, rounds, 0);
    report("mp, pp 2", two, one, rounds, 1.5);
    cohort_engine_destroy(rank);
    cohort_engine_destroy(stages);
}

int main(int argc, char **argv) {
    const char *model = argc > 1 ? argv[1] : NULL;
    int rounds = model ? bench_rounds(argc - 1, argv + 1) : 0;
    if (!rounds) {
        if (!model) fprintf(stderr, "usage: layout_bench MODEL_DIR [ROUNDS]\n");
        return 2;
    }
    setenv("COHORT_WORKER", COHORT_BUILD_DIR "/cohort", 1);
    measure_decode(model, rounds);
    measure_prefill(model, rounds);
    return 0;
}
