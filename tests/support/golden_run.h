/* SPDX-License-Identifier: Apache-2.0 */
/* support/golden_run.h - a checkpoint on a layout of ranks, against transformers'
 * numbers.
 *
 * Ranks are threads of the test.  Greedy continuations are fed from the reference, so
 * that every rank knows every step beforehand; what the model would have chosen is
 * compared at each of them.  Prompts run one by one in one chunk, one by one in chunks of
 * 7, and together: staggered, prefill beside decode, and in chunks of 7.
 *
 * For the programs that include it, once each: everything is static.
 */
#ifndef COHORT_TESTS_GOLDEN_RUN_H
#define COHORT_TESTS_GOLDEN_RUN_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "cohort/clock.h"
#include "model/model_internal.h"
#include "model/rope.h"
#include "ranks.h"

enum {
    MAX_CASES = 8,
    MAX_PROMPT = 160,
    MAX_CHECKED = 1024,
    N_GREEDY = 24,
    N_BLOCKS = 128,
    BLOCK_SIZE = 16,
    SEQUENCE_BLOCKS = 13,
    MAX_ROWS = MAX_PROMPT,
};

struct golden_case {
    int32_t n_prompt;
    int32_t tokens[MAX_PROMPT + N_GREEDY]; /* prompt, then the greedy tokens */
    int32_t argmax[MAX_PROMPT];
    int32_t n_checked; /* logits after the prompt that the reference tells */
    int32_t checked_id[MAX_CHECKED];
    float checked_logit[MAX_CHECKED];
    float gap[N_GREEDY];
};

struct layout {
    const char *checkpoint; /* below tests/golden */
    int32_t tp_size, pp_size;
    const char *partition;
    const char *dtype;
    float tolerance;       /* of a logit */
    float tie;             /* a choice between logits closer than this is not compared */
    bool own_rope;         /* of a 16-bit checkpoint: leave out round_rope() */
    bool together_only;    /* leave out the prompts one by one: a large model */
    const char *model_dir; /* NULL: where golden.json is */
    const cohort_backend_ops *(*backend)(void); /* NULL: the CPU */
};

static struct golden_case cases[MAX_CASES];
static int32_t n_cases;

/* ---- reading golden.json ----------------------------------------------------------- */

static int32_t copy_ints(const cJSON *list, int32_t *out, int32_t limit) {
    assert_true(cJSON_IsArray(list) && cJSON_GetArraySize(list) <= limit);
    int32_t n = 0;
    for (const cJSON *item = list->child; item; item = item->next)
        out[n++] = (int32_t)item->valuedouble;
    return n;
}

static void copy_floats(const cJSON *list, float *out, int32_t n) {
    assert_true(cJSON_IsArray(list) && cJSON_GetArraySize(list) == n);
    for (const cJSON *item = list->child; item; item = item->next)
        *out++ = (float)item->valuedouble;
}

static void check_logit(struct golden_case *golden, int32_t id, double logit) {
    assert_true(golden->n_checked < MAX_CHECKED);
    golden->checked_id[golden->n_checked] = id;
    golden->checked_logit[golden->n_checked++] = (float)logit;
}

/* A whole row, or every 64th logit and the largest. */
static void read_logits(const cJSON *json, struct golden_case *golden) {
    const cJSON *list = cJSON_GetObjectItem(json, "logits_last");
    int32_t stride = list ? 1 : 64, id = 0;
    golden->n_checked = 0;
    if (!list) list = cJSON_GetObjectItem(json, "logits_every_64");
    assert_true(cJSON_IsArray(list));
    for (const cJSON *item = list->child; item; item = item->next, id += stride)
        check_logit(golden, id, item->valuedouble);
    const cJSON *top = cJSON_GetObjectItem(json, "top");
    for (const cJSON *pair = top ? top->child : NULL; pair; pair = pair->next)
        check_logit(golden, (int32_t)pair->child->valuedouble,
                    pair->child->next->valuedouble);
    assert_true(golden->n_checked >= 64);
}

static void read_golden(const char *checkpoint) {
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/%s/golden.json", COHORT_SOURCE_DIR,
             checkpoint);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    char *text = calloc(1, size + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, size, file), size);
    fclose(file);
    cJSON *json = cJSON_Parse(text);
    free(text);
    assert_non_null(json);
    n_cases = 0;
    const cJSON *list = cJSON_GetObjectItem(json, "cases");
    for (const cJSON *item = list->child; item; item = item->next) {
        assert_true(n_cases < MAX_CASES);
        struct golden_case *golden = &cases[n_cases++];
        golden->n_prompt =
            copy_ints(cJSON_GetObjectItem(item, "prompt"), golden->tokens, MAX_PROMPT);
        assert_int_equal(copy_ints(cJSON_GetObjectItem(item, "greedy"),
                                   golden->tokens + golden->n_prompt, N_GREEDY),
                         N_GREEDY);
        assert_int_equal(copy_ints(cJSON_GetObjectItem(item, "argmax_per_position"),
                                   golden->argmax, MAX_PROMPT),
                         golden->n_prompt);
        read_logits(item, golden);
        copy_floats(cJSON_GetObjectItem(item, "greedy_gap"), golden->gap, N_GREEDY);
    }
    cJSON_Delete(json);
    assert_true(n_cases >= 5);
}

/* ---- one rank ---------------------------------------------------------------------- */

struct rank {
    const struct layout *layout;
    cohort_model *model;
    int32_t vocab_size;
    /* What the rows of logits of the step are: token `position` of case `which`. */
    int32_t which[MAX_ROWS], position[MAX_ROWS];
    int32_t n_logit_rows, n_seen;
    const char *doing;
    int64_t n_compared;
    float worst; /* distance of a logit from the reference's */
    char failure[512];
};

static int32_t find_argmax(const float *logits, int32_t n) {
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static void complain(struct rank *rank, int32_t which, int32_t position, const char *what,
                     double got, double expected) {
    if (*rank->failure) return;
    snprintf(rank->failure, sizeof rank->failure,
             "%s, case %d, position %d: %s is %g, expected %g", rank->doing, which,
             position, what, got, expected);
}

static void compare_choice(struct rank *rank, int32_t which, int32_t position,
                           const float *logits, int32_t expected) {
    int32_t chosen = find_argmax(logits, rank->vocab_size);
    rank->n_compared++;
    if (chosen != expected && logits[chosen] - logits[expected] >= rank->layout->tie)
        complain(rank, which, position, "the likeliest token", chosen, expected);
}

/* Greedy steps count up to the first that is nearly a tie. */
static bool greedy_counts(const struct golden_case *golden, int32_t step, float tie) {
    for (int32_t i = 0; i <= step; i++)
        if (golden->gap[i] < tie) return false;
    return true;
}

static cohort_status compare_rows(void *user_data, int32_t row_begin, int32_t n_rows,
                                  float *logits, int32_t vocab_size) {
    struct rank *rank = user_data;
    if (row_begin != rank->n_seen || vocab_size != rank->vocab_size)
        complain(rank, -1, row_begin, "the next row of logits", row_begin, rank->n_seen);
    for (int32_t r = 0; r < n_rows && rank->n_seen < rank->n_logit_rows; r++) {
        int32_t which = rank->which[rank->n_seen];
        int32_t position = rank->position[rank->n_seen++];
        const struct golden_case *golden = &cases[which];
        const float *row = logits + (size_t)r * (size_t)vocab_size;
        int32_t step = position - (golden->n_prompt - 1);
        if (step < 0)
            compare_choice(rank, which, position, row, golden->argmax[position]);
        if (step >= 0 && greedy_counts(golden, step, rank->layout->tie))
            compare_choice(rank, which, position, row, golden->tokens[position + 1]);
        for (int32_t i = 0; step == 0 && i < golden->n_checked; i++) {
            float got = row[golden->checked_id[i]], expected = golden->checked_logit[i];
            float distance = fabsf(got - expected);
            if (distance > rank->worst) rank->worst = distance;
            if (!(distance <= rank->layout->tolerance))
                complain(rank, which, position, "a logit", (double)got, (double)expected);
        }
    }
    return COHORT_OK;
}

/* How a run shares tokens out to steps. */
struct plan {
    const char *name;
    int32_t first, n;   /* cases */
    int32_t chunk;      /* tokens of a prompt per step */
    int32_t stagger;    /* steps between the arrivals of two cases */
    bool all_positions; /* logits of every prompt token, not of the last alone */
};

static cohort_status run_step(struct rank *rank, const struct plan *plan, int32_t step,
                              int32_t *computed, int32_t *out_n_rows) {
    int32_t ids[MAX_ROWS], n_logits[MAX_CASES], tables[MAX_CASES][SEQUENCE_BLOCKS];
    cohort_sequence sequences[MAX_CASES];
    int32_t n_rows = 0, n_sequences = 0;
    rank->n_logit_rows = rank->n_seen = 0;
    for (int32_t i = plan->first; i < plan->first + plan->n; i++) {
        const struct golden_case *golden = &cases[i];
        int32_t end = golden->n_prompt + N_GREEDY - 1, done = computed[i];
        if (step < (i - plan->first) * plan->stagger || done == end) continue;
        int32_t rows = done < golden->n_prompt ? golden->n_prompt - done : 1;
        if (rows > plan->chunk) rows = plan->chunk;
        if (rows > MAX_ROWS - n_rows) continue;
        int32_t logits = plan->all_positions               ? rows
                         : done + rows >= golden->n_prompt ? 1
                                                           : 0;
        /* Blocks lie scattered, and elsewhere for every case. */
        for (int32_t b = 0; b < SEQUENCE_BLOCKS; b++)
            tables[i][b] = ((i * SEQUENCE_BLOCKS + b) * 37 + 11) % N_BLOCKS;
        n_logits[n_sequences] = logits;
        sequences[n_sequences++] = (cohort_sequence){.row_begin = n_rows,
                                                     .n_rows = rows,
                                                     .n_computed = done,
                                                     .block_table = tables[i]};
        for (int32_t r = 0; r < rows; r++)
            ids[n_rows++] = golden->tokens[done + r];
        computed[i] = done + rows;
        for (int32_t r = logits; r > 0; r--) {
            rank->which[rank->n_logit_rows] = i;
            rank->position[rank->n_logit_rows++] = computed[i] - r;
        }
    }
    *out_n_rows = n_rows;
    if (n_rows == 0) return COHORT_OK;
    cohort_batch batch = {.token_ids = ids,
                          .n_rows = n_rows,
                          .sequences = sequences,
                          .n_logit_rows = n_logits,
                          .n_sequences = n_sequences,
                          .deadline_ns = cohort_deadline_ms(60000)};
    cohort_status status = cohort_model_forward(rank->model, &batch, compare_rows, rank);
    if (status >= 0 && cohort_model_is_output_rank(rank->model) &&
        rank->n_seen != rank->n_logit_rows)
        complain(rank, -1, step, "the number of logit rows", rank->n_seen,
                 rank->n_logit_rows);
    return status;
}

static cohort_status run_plan(struct rank *rank, const struct plan *plan) {
    int32_t computed[MAX_CASES] = {0}, n_rows = 1;
    rank->doing = plan->name;
    for (int32_t step = 0; n_rows > 0; step++) {
        cohort_status status = run_step(rank, plan, step, computed, &n_rows);
        if (status < 0) return status;
        if (n_rows == 0 && step < (plan->n - 1) * plan->stagger) n_rows = 1;
    }
    return COHORT_OK;
}

static cohort_status run_plans(struct rank *rank) {
    for (int32_t i = 0; i < n_cases && !rank->layout->together_only; i++) {
        cohort_status status = run_plan(rank, &(struct plan){.name = "alone, one chunk",
                                                             .first = i,
                                                             .n = 1,
                                                             .chunk = MAX_ROWS,
                                                             .all_positions = true});
        if (status < 0) return status;
        status = run_plan(rank, &(struct plan){.name = "alone, chunks of 7",
                                               .first = i,
                                               .n = 1,
                                               .chunk = 7,
                                               .all_positions = true});
        if (status < 0) return status;
    }
    cohort_status status = run_plan(rank, &(struct plan){.name = "staggered in one batch",
                                                         .n = n_cases,
                                                         .chunk = 24,
                                                         .stagger = 2});
    if (status < 0) return status;
    return run_plan(rank, &(struct plan){.name = "prompts batched in chunks of 7",
                                         .n = n_cases,
                                         .chunk = 7,
                                         .all_positions = true});
}

static float round_to(double value, cohort_dtype dtype) {
    int exponent;
    double mantissa =
        frexp(value, &exponent); /* in [0.5, 1): 8 bits of bf16, 11 of f16 */
    double scale = dtype == COHORT_BF16 ? 0x1p8 : 0x1p11;
    return (float)ldexp(nearbyint(mantissa * scale) / scale, exponent);
}

/* The reference of 16-bit checkpoints was made by a model that had been cast as a whole,
 * its rope frequencies with it: bf16 or f16 numbers, which at position 129 turn a pair
 * by up to 129 / 512 of a radian too far.  Nobody loads checkpoints that way
 * (transformers' from_pretrained and vLLM keep frequencies in float32, as we do), so the
 * model has no such option: for the comparison its tables are overwritten. */
static void round_rope(const cohort_model *model) {
    const cohort_model_config *config = &model->config;
    int32_t n_pairs = config->head_dim / 2;
    double frequencies[512];
    if (config->dtype == COHORT_F32 || !model->cos) return;
    size_t bytes = (size_t)model->max_model_len * (size_t)n_pairs * sizeof(float);
    float *cosines = malloc(bytes), *sines = malloc(bytes);
    if (!cosines || !sines) abort();
    cohort_rope_frequencies(&config->rope, config->head_dim, frequencies);
    for (int32_t i = 0; i < n_pairs; i++) {
        /* f16's subnormals end at 2^-24; no frequency here is below 2^-14. */
        double frequency = (double)round_to(frequencies[i], config->dtype);
        for (int32_t p = 0; p < model->max_model_len; p++) {
            cosines[p * n_pairs + i] = (float)cos(p * frequency);
            sines[p * n_pairs + i] = (float)sin(p * frequency);
        }
    }
    const cohort_view to[2] = {{model->cos, 0}, {model->sin, 0}};
    int64_t n = (int64_t)model->max_model_len * n_pairs;
    if (model->ops->upload(model->backend, to[0], cosines, n) < 0 ||
        model->ops->upload(model->backend, to[1], sines, n) < 0)
        abort();
    free(cosines);
    free(sines);
}

struct world {
    const struct layout *layout;
    struct rank ranks[RANKS_MAX];
};

/* The CPU, or what the tester names: a GPU is not where the gate runs. */
static const cohort_backend_ops *backend_of_test(void) {
    const char *device = getenv("COHORT_TEST_DEVICE");
    const cohort_backend_ops *ops = NULL;
    if (cohort_backend_find(device && *device ? device : "cpu", &ops) < 0) abort();
    return ops;
}

static cohort_status run_rank(void *user_data, const ranks_place *place) {
    struct world *world = user_data;
    struct rank *rank = &world->ranks[place->index];
    const struct layout *layout = world->layout;
    char dir[512];
    snprintf(dir, sizeof dir, "%s/tests/golden/%s", COHORT_SOURCE_DIR,
             layout->checkpoint);
    const cohort_model_options options = {
        .model_dir = layout->model_dir ? layout->model_dir : dir,
        .dtype = layout->dtype,
        .max_model_len = MAX_PROMPT + N_GREEDY,
        .max_num_batched_tokens = MAX_ROWS,
        .max_num_seqs = MAX_CASES,
        .block_size = BLOCK_SIZE,
        .tp_rank = place->tp_rank,
        .tp_size = place->tp_size,
        .pp_rank = place->pp_rank,
        .pp_size = place->pp_size,
        .layer_partition = layout->partition,
        .tp_group = place->tp,
        .pp_group = place->pp,
        .backend = layout->backend ? layout->backend() : backend_of_test(),
    };
    rank->layout = layout;
    cohort_status status = cohort_model_open(&options, &rank->model);
    if (status >= 0) status = cohort_model_load(rank->model, NULL, NULL);
    if (status >= 0) rank->vocab_size = cohort_model_config_of(rank->model)->vocab_size;
    if (status >= 0 && !layout->own_rope) round_rope(rank->model);
    if (status >= 0) status = cohort_model_kv_create(rank->model, N_BLOCKS);
    if (status >= 0) status = run_plans(rank);
    cohort_model_close(rank->model);
    return status;
}

static void model_answers_as_the_reference_does(void **state) {
    static struct world world;
    memset(&world, 0, sizeof world);
    world.layout = *state;
    const char *device = getenv("COHORT_TEST_DEVICE");
    if (device && strcmp(device, "cuda") == 0 && strstr(world.layout->checkpoint, "moe"))
        skip(); /* not there yet */
    read_golden(world.layout->checkpoint);
    cohort_error error;
    if (!ranks_run(world.layout->tp_size, world.layout->pp_size, run_rank, &world,
                   &error))
        fail_msg("%s", error.message);
    int64_t n_compared = 0;
    for (int32_t i = 0; i < RANKS_MAX; i++) {
        const struct rank *rank = &world.ranks[i];
        if (rank->worst > 0)
            print_message("a logit is off by %.1e at most\n", (double)rank->worst);
        if (*rank->failure) fail_msg("%s", rank->failure);
        n_compared += rank->n_compared;
    }
    assert_true(n_compared > 180); /* all positions of 5 prompts, at the least */
}

#endif /* COHORT_TESTS_GOLDEN_RUN_H */
