/* SPDX-License-Identifier: Apache-2.0 */
/* `cohort bench latency` and `throughput`, with vLLM's flags and words.  Prompts are
 * random token ids, distinct, greedy, eos ignored.  Outside the timed window: start-up
 * and warm-up.  The others lie in bench/ with their floors. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "base/random.h"
#include "bench/micro.h"
#include "cli/options.h"
#include "cli/profile.h"
#include "cli/series.h"
#include "cli/suggest.h"
#include "cohort/clock.h"

static double seconds_since(int64_t start_ns) {
    return (double)(cohort_clock_ns() - start_ns) / 1e9;
}

/* What one round of requests took. */
typedef struct lap {
    double total_s, first_token_s; /* until every prompt had its first token */
    cli_series steps;              /* between outputs, once all prompts are done */
} lap;

static int submit_all(cohort_engine *engine, const cli_options *options, int64_t count,
                      uint64_t seed) {
    cohort_engine_info info;
    cohort_engine_describe(engine, &info);
    int32_t *ids = malloc(sizeof(int32_t) * (size_t)options->input_len);
    if (!ids) abort();
    int result = CLI_OK;
    for (int64_t p = 0; p < count && result == CLI_OK; p++) {
        for (int64_t i = 0; i < options->input_len; i++)
            ids[i] = (int32_t)(cohort_random_u64(seed + (uint64_t)p, (uint64_t)i) %
                               (uint64_t)info.vocab_size);
        cohort_request request = cohort_engine_request_defaults(engine);
        request.prompt_token_ids = ids;
        request.n_prompt_token_ids = (size_t)options->input_len;
        request.sampling = cohort_sampling_defaults();
        request.sampling.temperature = 0;
        request.max_tokens = (int32_t)options->output_len;
        request.ignore_eos = true;
        request.detokenize = false;
        cohort_request_id id;
        if (cohort_engine_submit(engine, &request, &id) < 0)
            result = cli_fail("submitting");
    }
    free(ids);
    return result;
}

static int run_round(cohort_engine *engine, const cli_options *options, int64_t count,
                     uint64_t seed, lap *out) {
    int64_t start_ns = cohort_clock_ns(), last_ns = 0, started = 0;
    int result = submit_all(engine, options, count, seed);
    while (result == CLI_OK && cohort_engine_has_unfinished(engine)) {
        cohort_engine_outputs outputs;
        cohort_status status = cohort_engine_step(engine, COHORT_NEVER, &outputs);
        if (status < 0) return cli_fail("measuring");
        for (size_t i = 0; status == COHORT_OK && i < outputs.n_completions; i++) {
            const cohort_completion *completion = &outputs.completions[i];
            started += completion->n_generated == completion->n_token_ids;
        }
        int64_t now_ns = cohort_clock_ns();
        if (last_ns) cli_series_add(&out->steps, (double)(now_ns - last_ns) / 1e9);
        if (started == count) {
            if (!last_ns) out->first_token_s = seconds_since(start_ns);
            last_ns = now_ns;
        }
    }
    out->total_s = seconds_since(start_ns);
    return result;
}

static int write_json(const char *path, cJSON *object) {
    int result = CLI_OK;
    char *text = cJSON_Print(object);
    char temporary[4096];
    snprintf(temporary, sizeof temporary, "%s.part", path);
    FILE *file = fopen(temporary, "we");
    bool written = file && fprintf(file, "%s\n", text) > 0;
    if (file && fclose(file)) written = false;
    if (!written || rename(temporary, path)) {
        fprintf(stderr, "cohort bench: cannot write --output-json %s\n", path);
        remove(temporary);
        result = CLI_USAGE;
    }
    free(text);
    return result;
}

static const double percents[] = {10, 25, 50, 75, 90, 99};
enum { N_PERCENTS = sizeof percents / sizeof *percents };

/* What a step took of the engine's thread, prompts' steps included. */
static void report_parts(const cohort_engine_stats *before,
                         const cohort_engine_stats *after, cJSON *object) {
    double steps = (double)(after->n_steps - before->n_steps);
    const struct {
        const char *name, *words;
        int64_t ns;
    } parts[] = {
        {"wait_s", "waiting for the ranks", after->wait_ns - before->wait_ns},
        {"schedule_s", "scheduling and sending",
         after->schedule_ns - before->schedule_ns},
        {"output_s", "taking results in", after->output_ns - before->output_ns},
        {"caller_s", "in the caller", after->caller_ns - before->caller_ns},
    };
    cJSON *table = cJSON_AddObjectToObject(object, "step_parts");
    printf("Where a step's time goes:\n");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        double seconds = (double)parts[i].ns / 1e9 / steps;
        printf("  %-24s %10.1f us\n", parts[i].words, seconds * 1e6);
        cJSON_AddNumberToObject(table, parts[i].name, seconds);
    }
}

static int report_latency(const cli_options *options, cli_series *totals,
                          cli_series *first, cli_series *steps,
                          const cohort_engine_stats *before,
                          const cohort_engine_stats *after) {
    double prefill = (double)(options->batch_size * options->input_len);
    double decode = (double)options->batch_size;
    cJSON *object = cJSON_CreateObject();
    printf("Avg latency: %.6f seconds\n", cli_series_mean(totals, NAN));
    cJSON_AddNumberToObject(object, "avg_latency", cli_series_mean(totals, NAN));
    cJSON *latencies = cJSON_AddArrayToObject(object, "latencies");
    for (size_t i = 0; i < totals->count; i++)
        cJSON_AddItemToArray(latencies, cJSON_CreateNumber(totals->seconds[i]));
    cJSON *table = cJSON_AddObjectToObject(object, "percentiles");
    for (int i = 0; i < N_PERCENTS; i++) {
        char name[16];
        snprintf(name, sizeof name, "%g", percents[i]);
        printf("%s%% percentile latency: %.6f seconds\n", name,
               cli_series_percentile(totals, percents[i], NAN));
        cJSON_AddNumberToObject(table, name,
                                cli_series_percentile(totals, percents[i], NAN));
    }
    printf("Prefill: %.1f tokens/s (time to first token %.3f ms)\n",
           prefill / cli_series_percentile(first, 50, NAN),
           cli_series_percentile(first, 50, NAN) * 1e3);
    cJSON_AddNumberToObject(object, "prefill_tokens_per_s",
                            prefill / cli_series_percentile(first, 50, NAN));
    if (steps->count) {
        printf("Decode: %.1f tokens/s (step p50 %.3f ms, p90 %.3f ms, p99 %.3f ms)\n",
               decode / cli_series_percentile(steps, 50, NAN),
               cli_series_percentile(steps, 50, NAN) * 1e3,
               cli_series_percentile(steps, 90, NAN) * 1e3,
               cli_series_percentile(steps, 99, NAN) * 1e3);
        cJSON_AddNumberToObject(object, "decode_tokens_per_s",
                                decode / cli_series_percentile(steps, 50, NAN));
        cJSON_AddNumberToObject(object, "step_p50_s",
                                cli_series_percentile(steps, 50, NAN));
        cJSON_AddNumberToObject(object, "step_p99_s",
                                cli_series_percentile(steps, 99, NAN));
    }
    report_parts(before, after, object);
    int result = options->output_json ? write_json(options->output_json, object) : CLI_OK;
    cJSON_Delete(object);
    return result;
}

static bool is_profiled(const cli_options *options) {
    return options->profile || options->profile_trace || options->profile_roofline;
}

static int report_profile(cohort_engine *engine, const cli_options *options) {
    cli_profile profile;
    int result = cli_profile_stop(cohort_engine_executor(engine), &profile);
    if (result != CLI_OK) return result;
    cli_profile_print(&profile);
    if (options->profile_trace)
        result = cli_profile_trace(&profile, options->profile_trace);
    if (result == CLI_OK && options->profile_roofline)
        result = cli_profile_roofline(&profile, options->profile_roofline);
    cli_profile_deinit(&profile);
    return result;
}

static int latency(cohort_engine *engine, const cli_options *options) {
    cli_series totals = {0}, first = {0}, steps = {0};
    cohort_engine_stats before = {0}, after;
    int result = CLI_OK;
    for (int64_t i = -options->num_iters_warmup;
         result == CLI_OK && i < options->num_iters; i++) {
        lap one = {0};
        if (i == 0 && is_profiled(options))
            result = cli_profile_start(cohort_engine_executor(engine));
        if (result != CLI_OK) break;
        if (i == 0) cohort_engine_get_stats(engine, &before);
        result = run_round(engine, options, options->batch_size,
                           (uint64_t)(i + 1000) << 20, &one);
        if (i >= 0 && result == CLI_OK) {
            cli_series_add(&totals, one.total_s);
            cli_series_add(&first, one.first_token_s);
            for (size_t s = 0; s < one.steps.count; s++)
                cli_series_add(&steps, one.steps.seconds[s]);
        }
        cli_series_deinit(&one.steps);
    }
    cohort_engine_get_stats(engine, &after);
    if (result == CLI_OK)
        result = report_latency(options, &totals, &first, &steps, &before, &after);
    if (result == CLI_OK && is_profiled(options))
        result = report_profile(engine, options);
    cli_series_deinit(&totals);
    cli_series_deinit(&first);
    cli_series_deinit(&steps);
    return result;
}

static int throughput(cohort_engine *engine, const cli_options *options) {
    lap one = {0};
    int result = run_round(engine, options, options->num_prompts, 77, &one);
    cli_series_deinit(&one.steps);
    if (result != CLI_OK) return result;
    double requests = (double)options->num_prompts;
    double output = requests * (double)options->output_len;
    double total = output + requests * (double)options->input_len;
    printf("Throughput: %.2f requests/s, %.2f total tokens/s, %.2f output tokens/s\n",
           requests / one.total_s, total / one.total_s, output / one.total_s);
    if (!options->output_json) return CLI_OK;
    cJSON *object = cJSON_CreateObject();
    cJSON_AddNumberToObject(object, "elapsed_time", one.total_s);
    cJSON_AddNumberToObject(object, "num_requests", requests);
    cJSON_AddNumberToObject(object, "total_num_tokens", total);
    cJSON_AddNumberToObject(object, "requests_per_second", requests / one.total_s);
    cJSON_AddNumberToObject(object, "tokens_per_second", total / one.total_s);
    result = write_json(options->output_json, object);
    cJSON_Delete(object);
    return result;
}

static const struct micro {
    const char *name;
    int (*run)(int argc, char **argv);
} micros[] = {{"queue", bench_queue},
              {"collective", bench_collective},
              {"rpc", bench_rpc},
              {"launch", bench_launch}};

int cli_bench(int argc, char **argv) {
    for (size_t i = 0; argc > 1 && i < sizeof micros / sizeof *micros; i++)
        if (!strcmp(argv[1], micros[i].name)) return micros[i].run(argc - 1, argv + 1);
    if (argc > 1 && !strcmp(argv[1], "serve")) return cli_bench_serve(argc - 1, argv + 1);
    bool is_latency = argc > 1 && !strcmp(argv[1], "latency");
    if (!is_latency && (argc < 2 || strcmp(argv[1], "throughput"))) {
        bool is_asked = argc > 1 && !strcmp(argv[1], "--help");
        cli_suggestion near = {.word = argc > 1 ? argv[1] : ""};
        cli_suggest_words(&near, "latency|throughput|serve|queue|collective|rpc|launch");
        if (argc > 1 && argv[1][0] != '-') {
            cli_suggest_command(" bench", &near);
            return CLI_USAGE;
        }
        fprintf(is_asked ? stdout : stderr,
                "usage: cohort bench latency|throughput MODEL_DIR [options]\n"
                "       cohort bench serve --model NAME --tokenizer DIR [options]\n"
                "       cohort bench queue|collective|rpc|launch [ROUNDS]\n");
        return is_asked ? CLI_OK : CLI_USAGE;
    }
    cli_options options;
    int commands = CLI_ENGINE | (is_latency ? CLI_LATENCY : CLI_THROUGHPUT);
    const char *command = is_latency ? "bench latency" : "bench throughput";
    int result = cli_options_parse(&options, commands, command, argc - 1, argv + 1);
    if (result != CLI_OK) return result == CLI_HELP ? CLI_OK : result;
    cohort_engine *engine = NULL;
    options.engine.skip_tokenizer_init = true; /* ids in, ids out */
    if (is_latency && !cli_options_given(&options, &options.engine.max_num_seqs))
        options.engine.max_num_seqs = (int32_t)options.batch_size;
    result = cli_find_model(&options);
    if (result != CLI_OK) return result;
    result = cli_start_engine(&options, NULL, &engine);
    if (result != CLI_OK) return result;
    if (options.verbose) cli_print_start(engine);
    result = is_latency ? latency(engine, &options) : throughput(engine, &options);
    cohort_engine_destroy(engine);
    return result;
}
