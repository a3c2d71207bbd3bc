/* SPDX-License-Identifier: Apache-2.0 */
/* What streams under a grammar cost those without one beside them: steps of sixteen
 * streams of which eight write JSON, against the floor, steps in which nobody does.  What
 * the driver does for a step is apart: masks are made while the ranks compute, so that
 * their time is only seen where it exceeds a step.
 *
 * usage: masked_bench MODEL [THREADS] */
#include "bench.h"
#include "cohort/clock.h"
#include "cohort/engine.h"

enum {
    ROUNDS = 7,
    STREAMS = 16,
    MASKED = 8,
    TOKENS = 96,
    WARM_STEPS = 8,
    STEP_NS = 10000000, /* of the aim: eight masks take less than 5 % of it */
};

/* Endless, so that each stream is in every step. */
static const char schema[] =
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"minLength\":"
    "2000,"
    "\"maxLength\":4000}},\"required\":[\"name\"],\"additionalProperties\":false}";

struct figures {
    double step_ns, schedule_ns; /* of a step, the median and the mean */
};

static void submit(cohort_engine *engine, uint64_t seed, bool is_masked) {
    static const char prompt[] =
        "Write a long story about a machine that was never built.";
    cohort_request request = cohort_engine_request_defaults(engine);
    cohort_request_id id;
    request.prompt = prompt;
    request.prompt_bytes = sizeof prompt - 1;
    request.sampling = cohort_sampling_defaults();
    request.sampling.seed = seed;
    request.has_seed = true;
    request.ignore_eos = true;
    request.max_tokens = TOKENS;
    if (is_masked)
        bench_check(cohort_engine_compile_grammar(engine, COHORT_GRAMMAR_JSON_SCHEMA,
                                                  schema, sizeof schema - 1,
                                                  &request.grammar));
    bench_check(cohort_engine_submit(engine, &request, &id));
    cohort_grammar_release(request.grammar);
}

static struct figures run(cohort_engine *engine, uint64_t round, int n_masked) {
    double ns[TOKENS * 2];
    size_t n = 0;
    cohort_engine_outputs outputs;
    cohort_engine_stats begin = {0}, end;
    for (int i = 0; i < STREAMS; i++)
        submit(engine, round * STREAMS + (uint64_t)i, i % 2 && i / 2 < n_masked);
    int64_t last_ns = cohort_clock_ns();
    for (int step = 0; cohort_engine_has_unfinished(engine); step++) {
        bench_check(cohort_engine_step(engine, COHORT_NEVER, &outputs));
        int64_t now_ns = cohort_clock_ns();
        if (step == WARM_STEPS) cohort_engine_get_stats(engine, &begin);
        if (step > WARM_STEPS && outputs.n_completions == STREAMS)
            ns[n++] = (double)(now_ns - last_ns);
        last_ns = now_ns;
    }
    cohort_engine_get_stats(engine, &end);
    return (struct figures){.step_ns = bench_percentile(ns, n, 0.5),
                            .schedule_ns = (double)(end.schedule_ns - begin.schedule_ns) /
                                           (double)(end.n_steps - begin.n_steps)};
}

int main(int argc, char **argv) {
    double plain[ROUNDS], ratios[ROUNDS], masks[ROUNDS], masked[ROUNDS];
    cohort_engine *engine;
    cohort_engine_options options = cohort_engine_defaults();
    if (argc < 2) {
        fprintf(stderr, "usage: masked_bench MODEL [THREADS]\n");
        return 2;
    }
    setenv("COHORT_WORKER", COHORT_BUILD_DIR "/cohort", 1);
    options.model = argv[1];
    options.executor.backend = "mp";
    options.max_model_len = 512;
    options.max_num_seqs = STREAMS;
    options.cpu_threads_bind = argc > 2 ? argv[2] : "0"; /* a core is the driver's */
    bench_check(cohort_engine_start(&options, &engine));
    run(engine, ROUNDS, 0);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        struct figures without = run(engine, i, 0), with = run(engine, i, MASKED);
        plain[i] = without.step_ns;
        masked[i] = with.step_ns;
        ratios[i] = with.step_ns / without.step_ns;
        masks[i] = with.schedule_ns - without.schedule_ns;
    }
    cohort_engine_destroy(engine);
    double ratio = bench_percentile(ratios, ROUNDS, 0.5);
    double masks_ns = bench_percentile(masks, ROUNDS, 0.5);
    printf("a step of %d streams     %6.2f ms (%.2f - %.2f)\n", STREAMS,
           bench_percentile(plain, ROUNDS, 0.5) * 1e-6, plain[0] * 1e-6,
           plain[ROUNDS - 1] * 1e-6);
    printf("%d of them under a schema %6.2f ms (%.2f - %.2f)  ratio %.3f (%.3f - %.3f)\n",
           MASKED, bench_percentile(masked, ROUNDS, 0.5) * 1e-6, masked[0] * 1e-6,
           masked[ROUNDS - 1] * 1e-6, ratio, ratios[0], ratios[ROUNDS - 1]);
    printf(
        "their masks, made meanwhile %.3f ms (%.3f - %.3f), %.1f %% of 10 ms, <= 5: %s\n",
        masks_ns * 1e-6, masks[0] * 1e-6, masks[ROUNDS - 1] * 1e-6,
        masks_ns / STEP_NS * 100, masks_ns < STEP_NS * 0.05 ? "met" : "missed");
    return 0;
}
