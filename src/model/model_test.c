/* SPDX-License-Identifier: Apache-2.0 */
/* What the reference checkpoints don't show: variants of the architectures (on dummy
 * weights, one rank against many), damaged checkpoints, bad batches, no allocation. */
#include "model/model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fail.h"
#include "cohort/clock.h"
#include "ranks.h"

enum {
    VOCAB = 1003,
    HIDDEN = 66,
    N_PROMPT = 37,
    N_STEPS = 4,
    BLOCK_SIZE = 16,
    N_BLOCKS = 8
};

/* ---- counting allocations ---------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS 0
#else
#define COUNTS_ALLOCATIONS 1
/* glibc's own allocator, under names that let a program count what goes through. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
#endif

static _Atomic int64_t n_allocations; /* by any thread; relaxed: read after joins only */

#if COUNTS_ALLOCATIONS
static void count(void) {
    atomic_fetch_add_explicit(&n_allocations, 1, memory_order_relaxed);
}
void *malloc(size_t size) {
    count();
    return __libc_malloc(size);
}
void *calloc(size_t n, size_t size) {
    count();
    return __libc_calloc(n, size);
}
void *realloc(void *old, size_t size) {
    count();
    return __libc_realloc(old, size);
}
void *aligned_alloc(size_t alignment, size_t size) {
    count();
    return __libc_memalign(alignment, size);
}
int posix_memalign(void **out, size_t alignment, size_t size) {
    count();
    *out = __libc_memalign(alignment, size);
    return *out ? 0 : 12;
}
#endif

/* ---- a model directory and a run over it ------------------------------------------- */

static char dir[] = "/tmp/cohort-model-XXXXXX";

static void write_file(const char *name, const void *bytes, size_t n) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static void write_config(const char *architecture, const char *more) {
    char text[2048];
    int n = snprintf(text, sizeof text,
                     "{\"architectures\": [\"%s\"], \"vocab_size\": %d, "
                     "\"hidden_size\": %d, \"num_hidden_layers\": 4, "
                     "\"num_attention_heads\": 6, \"intermediate_size\": 112, "
                     "\"ffn_dim\": 112, \"max_position_embeddings\": 256, "
                     "\"dtype\": \"float32\", %s}",
                     architecture, VOCAB, HIDDEN, more);
    assert_true(n > 0 && (size_t)n < sizeof text);
    write_file("config.json", text, (size_t)n);
}

static int make_dir(void **state) {
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/config.json", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    unlink(path);
    return rmdir(dir);
}

static cohort_model_options options_of(const char *model_dir) {
    return (cohort_model_options){.model_dir = model_dir,
                                  .max_num_batched_tokens = 64,
                                  .max_num_seqs = 4,
                                  .block_size = BLOCK_SIZE,
                                  .tp_size = 1,
                                  .pp_size = 1,
                                  .backend = cohort_backend_cpu()};
}

struct run {
    float logits[N_STEPS][VOCAB]; /* of the last row of each step */
    int64_t allocated[RANKS_MAX]; /* by anyone, while steps after the first ran */
};

static cohort_status keep_logits(void *user_data, int32_t row_begin, int32_t n_rows,
                                 float *logits, int32_t vocab_size) {
    (void)row_begin;
    (void)n_rows;
    memcpy(user_data, logits, (size_t)vocab_size * sizeof *logits);
    return COHORT_OK;
}

/* A prompt in one step, then one token at a time. */
static cohort_status run_steps(cohort_model *model, struct run *run, int32_t index) {
    const int32_t table[] = {5, 2, 7};
    int32_t done = 0;
    for (int32_t step = 0; step < N_STEPS; step++) {
        int32_t n_rows = step == 0 ? N_PROMPT : 1, ids[N_PROMPT], n_logits = 1;
        for (int32_t i = 0; i < n_rows; i++)
            ids[i] = (done + i) * 131 % VOCAB;
        const cohort_sequence sequence = {
            .n_rows = n_rows, .n_computed = done, .block_table = table};
        const cohort_batch batch = {.token_ids = ids,
                                    .n_rows = n_rows,
                                    .sequences = &sequence,
                                    .n_logit_rows = &n_logits,
                                    .n_sequences = 1,
                                    .deadline_ns = cohort_deadline_ms(60000)};
        int64_t before = atomic_load(&n_allocations);
        cohort_status status =
            cohort_model_forward(model, &batch, keep_logits, run->logits[step]);
        if (status < 0) return status;
        if (step > 0) run->allocated[index] += atomic_load(&n_allocations) - before;
        done += n_rows;
    }
    return COHORT_OK;
}

static const char *quantization; /* of the runs of a test */

static cohort_status run_rank(void *user_data, const ranks_place *place) {
    cohort_model_options options = options_of(dir);
    options.quantization = quantization;
    options.dummy_weights = true;
    options.seed = 42;
    options.tp_rank = place->tp_rank;
    options.tp_size = place->tp_size;
    options.pp_rank = place->pp_rank;
    options.pp_size = place->pp_size;
    options.tp_group = place->tp;
    options.pp_group = place->pp;
    const int64_t deadline = cohort_deadline_ms(60000);
    cohort_model *model = NULL;
    cohort_status status = cohort_model_open(&options, &model);
    if (status >= 0) status = cohort_model_load(model, NULL, NULL);
    if (status >= 0) status = cohort_model_kv_create(model, N_BLOCKS);
    /* Everybody is past start-up before anybody's allocations are counted. */
    if (status >= 0 && place->tp) status = cohort_barrier(place->tp, deadline);
    if (status >= 0 && place->pp) status = cohort_barrier(place->pp, deadline);
    if (status >= 0) status = run_steps(model, user_data, place->index);
    cohort_model_close(model);
    return status;
}

static void run_layout(int32_t tp_size, int32_t pp_size, struct run *out) {
    memset(out, 0, sizeof *out);
    cohort_error error;
    if (!ranks_run(tp_size, pp_size, run_rank, out, &error))
        fail_msg("tp %d, pp %d: %s", tp_size, pp_size, error.message);
}

/* ---- every layout is the same model ------------------------------------------------ */

static void assert_layouts_agree(const char *architecture, const char *more) {
    static struct run alone, shared;
    const int32_t layouts[][2] = {{2, 1}, {3, 1}, {1, 2}, {1, 4}, {2, 2}};
    write_config(architecture, more);
    run_layout(1, 1, &alone);
    double spread = 0;
    for (int32_t i = 0; i < VOCAB; i++)
        spread = fmax(spread, fabs((double)(alone.logits[0][i] - alone.logits[0][0])));
    assert_true(spread > 1e-3); /* the model says something */
    for (size_t l = 0; l < sizeof layouts / sizeof *layouts; l++) {
        run_layout(layouts[l][0], layouts[l][1], &shared);
        for (int32_t step = 0; step < N_STEPS; step++)
            for (int32_t i = 0; i < VOCAB; i++)
                if (!(fabsf(alone.logits[step][i] - shared.logits[step][i]) <= 1e-5F))
                    fail_msg("tp %d, pp %d, step %d: logit %d is %g, not %g",
                             layouts[l][0], layouts[l][1], step, i,
                             (double)shared.logits[step][i],
                             (double)alone.logits[step][i]);
    }
}

static void llama_with_all_biases_is_one_model_on_every_layout(void **state) {
    (void)state;
    assert_layouts_agree("LlamaForCausalLM",
                         "\"num_key_value_heads\": 3, \"head_dim\": 16, "
                         "\"attention_bias\": true, \"mlp_bias\": true");
}

static void tied_llama_is_one_model_on_every_layout(void **state) {
    (void)state;
    assert_layouts_agree("LlamaForCausalLM",
                         "\"num_key_value_heads\": 3, \"head_dim\": 16, "
                         "\"tie_word_embeddings\": true");
}

static void opt_with_norms_after_is_one_model_on_every_layout(void **state) {
    (void)state;
    assert_layouts_agree("OPTForCausalLM", "\"do_layer_norm_before\": false");
}

static void opt_without_biases_is_one_model_on_every_layout(void **state) {
    (void)state;
    assert_layouts_agree("OPTForCausalLM", "\"enable_bias\": false, "
                                           "\"tie_word_embeddings\": false");
}

static void qwen_with_windows_on_some_layers_is_one_model(void **state) {
    (void)state;
    assert_layouts_agree("Qwen2ForCausalLM",
                         "\"num_key_value_heads\": 3, \"head_dim\": 16, "
                         "\"use_sliding_window\": true, \"sliding_window\": 5, "
                         "\"layer_types\": [\"full_attention\", \"sliding_attention\", "
                         "\"full_attention\", \"sliding_attention\"]");
}

static void sparse_and_dense_layers_are_one_model(void **state) {
    (void)state;
    assert_layouts_agree("Qwen3MoeForCausalLM",
                         "\"num_key_value_heads\": 3, \"head_dim\": 16, "
                         "\"num_experts\": 5, \"num_experts_per_tok\": 2, "
                         "\"moe_intermediate_size\": 40, \"decoder_sparse_step\": 1, "
                         "\"mlp_only_layers\": [0, 2]");
}

/* A row's scale is taken over all its columns, whoever has a part of them. */
static void a_quantized_model_is_one_on_every_layout_and_near_the_plain(void **state) {
    (void)state;
    static struct run plain, quantized;
    const char *config = "\"num_key_value_heads\": 3, \"head_dim\": 16";
    quantization = "int8";
    assert_layouts_agree("Qwen3ForCausalLM", config);
    run_layout(1, 1, &quantized);
    quantization = NULL;
    run_layout(1, 1, &plain);
    double error = 0, square = 0;
    for (int32_t i = 0; i < VOCAB; i++) {
        error += pow((double)(quantized.logits[0][i] - plain.logits[0][i]), 2);
        square += pow((double)plain.logits[0][i], 2);
    }
    assert_true(error > 0 && error < 1e-3 * square);
}

static void windows_change_the_result(void **state) {
    (void)state;
    static struct run narrow, wide;
    write_config("MistralForCausalLM", "\"head_dim\": 16, \"sliding_window\": 5");
    run_layout(1, 1, &narrow);
    write_config("MistralForCausalLM", "\"head_dim\": 16, \"sliding_window\": null");
    run_layout(1, 1, &wide);
    assert_memory_not_equal(narrow.logits, wide.logits, sizeof wide.logits);
}

/* ---- drawing ----------------------------------------------------------------------- */

struct draws {
    bool told; /* what was drawn last; else it is named by its slot */
    int32_t tokens[RANKS_MAX][N_STEPS];
    int32_t n_awaited[RANKS_MAX];
};

static const uint32_t only_some[] = {0, 0xffff0000}; /* tokens 48 to 63 */

struct late_mask {
    cohort_sample_row *row;
    int32_t *n_awaited;
};

/* The mask comes when all before the draw is under way. */
static cohort_status bring_mask(void *user_data, int64_t *deadline_ns) {
    const struct late_mask *late = user_data;
    late->row->mask = only_some;
    late->row->n_mask_words = 2;
    ++*late->n_awaited;
    *deadline_ns = cohort_deadline_ms(60000);
    return COHORT_OK;
}

static cohort_status draw_tokens(void *user_data, const ranks_place *place) {
    struct draws *draws = user_data;
    cohort_model_options options = options_of(dir);
    options.dummy_weights = options.share_tokens = true;
    options.tp_rank = place->tp_rank;
    options.tp_size = place->tp_size;
    options.tp_group = place->tp;
    cohort_sampling_params params = cohort_sampling_defaults();
    params.n_logprobs = -1;
    int32_t *tokens = draws->tokens[place->index], ids[N_PROMPT + N_STEPS] = {0},
            n_logits = 1;
    const int32_t table[] = {5, 2, 7};
    for (int32_t i = 0; i < N_PROMPT; i++)
        ids[i] = i * 131 % VOCAB;
    cohort_model *model = NULL;
    cohort_status status = cohort_model_open(&options, &model);
    if (status >= 0) status = cohort_model_load(model, NULL, NULL);
    if (status >= 0) status = cohort_model_kv_create(model, N_BLOCKS);
    for (int32_t step = 0, done = 0; status >= 0 && step < N_STEPS; step++) {
        int32_t n_rows = step ? 1 : N_PROMPT;
        if (step) ids[0] = draws->told ? tokens[step - 1] : COHORT_LAST_TOKEN;
        const cohort_sequence sequence = {
            .n_rows = n_rows, .n_computed = done, .block_table = table, .slot = 3};
        cohort_sample_row row = {.params = &params,
                                 .tokens = ids, /* no penalties: only counted */
                                 .n_tokens = done + n_rows,
                                 .n_prompt_tokens = N_PROMPT,
                                 .slot = 3,
                                 .out_token = &tokens[step]};
        struct late_mask late = {&row, &draws->n_awaited[place->index]};
        const cohort_batch batch = {.token_ids = ids,
                                    .n_rows = n_rows,
                                    .sequences = &sequence,
                                    .n_logit_rows = &n_logits,
                                    .n_sequences = 1,
                                    .samples = &row,
                                    .await_masks = step == 1 ? bring_mask : NULL,
                                    .user_data = &late,
                                    .deadline_ns = cohort_deadline_ms(60000)};
        status = cohort_model_forward(model, &batch, NULL, NULL);
        done += n_rows;
    }
    cohort_model_close(model);
    return status;
}

static void what_was_drawn_need_not_be_told_and_masks_may_come_late(void **state) {
    (void)state;
    static struct draws by_id, by_slot;
    cohort_error error;
    write_config("LlamaForCausalLM", "\"num_key_value_heads\": 3, \"head_dim\": 16");
    memset(&by_id, 0, sizeof by_id);
    memset(&by_slot, 0, sizeof by_slot);
    by_id.told = true;
    if (!ranks_run(2, 1, draw_tokens, &by_id, &error) ||
        !ranks_run(2, 1, draw_tokens, &by_slot, &error))
        fail_msg("%s", error.message);
    assert_memory_equal(by_slot.tokens, by_id.tokens, sizeof by_id.tokens);
    assert_memory_equal(by_id.tokens[1], by_id.tokens[0], sizeof by_id.tokens[0]);
    assert_true(by_id.tokens[0][1] >= 48 && by_id.tokens[0][1] < 64);
    assert_int_equal(by_id.n_awaited[0], 1);
}

static cohort_status leave(void *user_data) {
    int32_t *n_allowed = user_data;
    if ((*n_allowed)--) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INTERRUPTED, "leave");
}

/* Wherever it was left, what it had before is there, and what follows is the same. */
static void a_step_is_left_before_any_layer_and_taken_again(void **state) {
    (void)state;
    static struct run whole, again;
    write_config("LlamaForCausalLM", "\"num_key_value_heads\": 3, \"head_dim\": 16");
    cohort_model_options options = options_of(dir);
    options.dummy_weights = true;
    cohort_model *model = NULL;
    assert_int_equal(cohort_model_open(&options, &model), COHORT_OK);
    assert_int_equal(cohort_model_load(model, NULL, NULL), COHORT_OK);
    assert_int_equal(cohort_model_kv_create(model, N_BLOCKS), COHORT_OK);
    assert_int_equal(run_steps(model, &whole, 0), COHORT_OK);
    int32_t n_layers = cohort_model_config_of(model)->n_layers, n_logits = 1;
    const int32_t table[] = {5, 2, 7}, id = 3;
    float logits[VOCAB];
    for (int32_t i = 0; i <= n_layers; i++) {
        const cohort_sequence sequence = {.n_rows = 1, .block_table = table};
        int32_t n_allowed = i;
        const cohort_batch batch = {.token_ids = &id,
                                    .n_rows = 1,
                                    .sequences = &sequence,
                                    .n_logit_rows = &n_logits,
                                    .n_sequences = 1,
                                    .check = leave,
                                    .user_data = &n_allowed,
                                    .deadline_ns = COHORT_NEVER};
        assert_int_equal(cohort_model_forward(model, &batch, keep_logits, logits),
                         i < n_layers ? COHORT_E_INTERRUPTED : COHORT_OK);
        cohort_model_regroup(model, NULL, NULL);
        assert_int_equal(run_steps(model, &again, 0), COHORT_OK);
        assert_memory_equal(again.logits, whole.logits, sizeof whole.logits);
    }
    cohort_model_close(model);
}

static void forward_does_not_allocate(void **state) {
    (void)state;
    if (!COUNTS_ALLOCATIONS) skip();
    static struct run run;
    write_config("Qwen3MoeForCausalLM",
                 "\"num_key_value_heads\": 3, \"head_dim\": 16, \"num_experts\": 5, "
                 "\"num_experts_per_tok\": 2, \"moe_intermediate_size\": 40, "
                 "\"mlp_only_layers\": [0]");
    run_layout(1, 1, &run);
    assert_true(atomic_load(&n_allocations) > 0); /* the counter counts */
    assert_int_equal(run.allocated[0], 0);
    run_layout(2, 2, &run);
    for (int32_t i = 0; i < 4; i++)
        assert_int_equal(run.allocated[i], 0);
}

/* ---- refusals ---------------------------------------------------------------------- */

static void golden_dir(const char *name, char *out, size_t limit) {
    snprintf(out, limit, "%s/tests/golden/%s", COHORT_SOURCE_DIR, name);
}

static void assert_not_opened(const cohort_model_options *options, const char *words) {
    cohort_model *model;
    assert_int_equal(cohort_model_open(options, &model), COHORT_E_INVALID);
    assert_null(model);
    const char *message = cohort_last_error()->message;
    if (!strstr(message, words)) fail_msg("'%s' lacks '%s'", message, words);
}

static void impossible_options_are_refused(void **state) {
    (void)state;
    char path[512];
    golden_dir("qwen2-float32", path, sizeof path);
    cohort_model_options options = options_of(path);
    options.dtype = "int8";
    assert_not_opened(&options, "dtype int8");
    options.dtype = NULL;
    options.quantization = "awq";
    assert_not_opened(&options, "quantization awq is not supported (int8");
    options.quantization = NULL;
    options.max_model_len = 2049;
    assert_not_opened(&options, "max_model_len 2049 is more than the model's 2048");
    options.max_model_len = 0;
    options.max_num_seqs = 0;
    assert_not_opened(&options, "max_num_seqs is 0");
    options.max_num_seqs = 4;
    options.pp_size = 5;
    options.pp_rank = 4;
    assert_not_opened(&options, "the pp group is not that of rank 4 of 5");
    options.pp_rank = options.pp_size = 1;
    assert_not_opened(&options, "no place");
    options.pp_rank = 0;
    options.layer_partition = "1,3";
    assert_not_opened(&options, "has 2 parts");
}

/* A tiny Llama, written tensor by tensor; `without` is left out, `broken` is one row
 * short, `odd` gets a type that cannot be read. */
static void write_checkpoint(const char *without, const char *broken, const char *odd) {
    static const struct {
        const char *name;
        int32_t rows, columns;
    } tensors[] = {{"lm_head.weight", 8, 4},
                   {"model.embed_tokens.weight", 8, 4},
                   {"model.layers.0.input_layernorm.weight", 4, 0},
                   {"model.layers.0.mlp.down_proj.weight", 4, 6},
                   {"model.layers.0.mlp.gate_proj.weight", 6, 4},
                   {"model.layers.0.mlp.up_proj.weight", 6, 4},
                   {"model.layers.0.post_attention_layernorm.weight", 4, 0},
                   {"model.layers.0.self_attn.k_proj.weight", 4, 4},
                   {"model.layers.0.self_attn.o_proj.weight", 4, 4},
                   {"model.layers.0.self_attn.q_proj.weight", 4, 4},
                   {"model.layers.0.self_attn.v_proj.weight", 4, 4},
                   {"model.norm.weight", 4, 0}};
    static char bytes[16384];
    size_t n = 8, data = 0;
    n += (size_t)sprintf(bytes + n, "{");
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        const char *name = tensors[i].name;
        if (without && strcmp(name, without) == 0) continue;
        int32_t rows = tensors[i].rows - (broken && strcmp(name, broken) == 0);
        bool is_odd = odd && strcmp(name, odd) == 0;
        size_t size = (size_t)rows *
                      (size_t)(tensors[i].columns ? tensors[i].columns : 1) *
                      (is_odd ? 1 : 4);
        char shape[32];
        snprintf(shape, sizeof shape, tensors[i].columns ? "%d, %d" : "%d", rows,
                 tensors[i].columns);
        n += (size_t)sprintf(bytes + n,
                             "%s\"%s\": {\"dtype\": \"%s\", \"shape\": [%s], "
                             "\"data_offsets\": [%zu, %zu]}",
                             data ? ", " : "", name, is_odd ? "F8_E4M3" : "F32", shape,
                             data, data + size);
        data += size;
    }
    n += (size_t)sprintf(bytes + n, "}");
    memset(bytes, 0, 8);
    bytes[0] = (char)((n - 8) & 0xff);
    bytes[1] = (char)((n - 8) >> 8);
    memset(bytes + n, 0, data);
    write_file("model.safetensors", bytes, n + data);
    const char *config =
        "{\"architectures\": [\"LlamaForCausalLM\"], \"vocab_size\": 8, \"hidden_size\": "
        "4, "
        "\"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"intermediate_size\": 6, "
        "\"max_position_embeddings\": 16}";
    write_file("config.json", config, strlen(config));
}

static cohort_status open_and_load(void) {
    cohort_model_options options = options_of(dir);
    cohort_model *model = NULL;
    cohort_status status = cohort_model_open(&options, &model);
    if (status >= 0) status = cohort_model_load(model, NULL, NULL);
    cohort_model_close(model);
    return status;
}

static void assert_not_loaded(const char *words) {
    assert_int_equal(open_and_load(), COHORT_E_INVALID);
    const char *message = cohort_last_error()->message;
    if (!strstr(message, words)) fail_msg("'%s' lacks '%s'", message, words);
}

static void damaged_checkpoints_are_refused_by_tensor(void **state) {
    (void)state;
    const char *name = "model.layers.0.self_attn.k_proj.weight";
    write_checkpoint(NULL, NULL, NULL);
    assert_int_equal(open_and_load(), COHORT_OK);
    write_checkpoint(name, NULL, NULL);
    assert_not_loaded("no file has tensor model.layers.0.self_attn.k_proj.weight");
    write_checkpoint(NULL, name, NULL);
    assert_not_loaded("k_proj.weight has 2 sizes, [3, 4]; config.json makes it [4, 4]");
    write_checkpoint(NULL, NULL, name);
    assert_not_loaded("k_proj.weight is F8_E4M3");
    write_checkpoint(NULL, NULL, NULL);
    char path[128];
    struct stat info;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(truncate(path, info.st_size - 1), 0);
    assert_not_loaded("model.safetensors is cut short: tensor model.norm.weight");
    assert_int_equal(unlink(path), 0);
    assert_not_loaded("has neither model.safetensors nor");
}

static void bad_batches_are_errors_not_accidents(void **state) {
    (void)state;
    char path[512];
    golden_dir("llama-float32", path, sizeof path);
    cohort_model_options options = options_of(path);
    options.max_model_len = 40;
    cohort_model *model;
    assert_int_equal(cohort_model_open(&options, &model), COHORT_OK);
    const int32_t table[] = {0, 1, 2};
    int32_t ids[65] = {0}, n_logits = 1;
    cohort_sequence sequence = {.n_rows = 2, .block_table = table};
    cohort_batch batch = {.token_ids = ids,
                          .n_rows = 2,
                          .sequences = &sequence,
                          .n_logit_rows = &n_logits,
                          .n_sequences = 1,
                          .deadline_ns = COHORT_NEVER};
    static float logits[1024];
#define REFUSED()                                                              \
    assert_int_equal(cohort_model_forward(model, &batch, keep_logits, logits), \
                     COHORT_E_INVALID)
    REFUSED(); /* neither weights nor cache */
    assert_int_equal(cohort_model_load(model, NULL, NULL), COHORT_OK);
    assert_int_equal(cohort_model_load(model, NULL, NULL), COHORT_E_INVALID);
    assert_int_equal(cohort_model_kv_create(model, 0), COHORT_E_INVALID);
    assert_int_equal(cohort_model_kv_create(model, 2), COHORT_OK);
    assert_int_equal(cohort_model_forward(model, &batch, NULL, NULL), COHORT_E_INVALID);
    assert_int_equal(cohort_model_forward(model, &batch, keep_logits, logits), COHORT_OK);
    ids[1] = 1024;
    REFUSED();
    ids[1] = -1;
    REFUSED();
    ids[1] = 0;
    sequence.n_computed = 39; /* 41 tokens */
    REFUSED();
    sequence.n_computed = 31; /* 33 tokens: block 2 of 2 */
    REFUSED();
    assert_non_null(strstr(cohort_last_error()->message, "block 2 is none of 2"));
    sequence.n_computed = 0;
    sequence.n_rows = 1;
    REFUSED();
    sequence.n_rows = 3;
    REFUSED();
    sequence.n_rows = 2;
    sequence.row_begin = 1;
    REFUSED();
    sequence.row_begin = 0;
    n_logits = 3;
    REFUSED();
    n_logits = 0;
    batch.n_rows = sequence.n_rows = 65;
    REFUSED();
#undef REFUSED
    cohort_model_close(model);
}

/* ---- what callers are told --------------------------------------------------------- */

struct progress {
    int32_t n_calls, shard, n_shards;
    size_t done, total;
};

static cohort_status follow(void *user_data, int32_t shard, int32_t n_shards,
                            size_t done_bytes, size_t total_bytes) {
    struct progress *progress = user_data;
    assert_true(shard >= progress->shard && done_bytes >= progress->done);
    *progress = (struct progress){progress->n_calls + 1, shard, n_shards, done_bytes,
                                  total_bytes};
    return COHORT_OK;
}

static void progress_counts_files_and_bytes_to_the_end(void **state) {
    (void)state;
    char path[512];
    golden_dir("qwen3-bfloat16", path, sizeof path);
    cohort_model_options options = options_of(path);
    cohort_model *model;
    struct progress progress = {0};
    assert_int_equal(cohort_model_open(&options, &model), COHORT_OK);
    assert_int_equal(cohort_model_load(model, follow, &progress), COHORT_OK);
    assert_int_equal(progress.shard, 7);
    assert_int_equal(progress.n_shards, 7);
    assert_int_equal(progress.done, progress.total);
    assert_int_equal(progress.total, 1280192); /* total_size of the index */
    assert_int_equal(cohort_model_max_len(model), 2048);
    /* 2 (k, v) x 4 layers x 16 tokens x 4 heads x 32 x bf16 */
    assert_int_equal(cohort_model_kv_block_bytes(model), 2 * 4 * 16 * 4 * 32 * 2);
    assert_true(cohort_model_is_output_rank(model));
    cohort_model_close(model);
}

static size_t weight_bytes(const char *more) {
    write_config("LlamaForCausalLM", more);
    cohort_model_options options = options_of(dir);
    options.dummy_weights = true;
    cohort_model *model;
    assert_int_equal(cohort_model_open(&options, &model), COHORT_OK);
    assert_int_equal(cohort_model_load(model, NULL, NULL), COHORT_OK);
    size_t bytes = cohort_model_weight_bytes(model);
    cohort_model_close(model);
    return bytes;
}

static void tied_embeddings_are_held_once(void **state) {
    (void)state;
    size_t untied = weight_bytes("\"head_dim\": 16, \"tie_word_embeddings\": false");
    size_t tied = weight_bytes("\"head_dim\": 16, \"tie_word_embeddings\": true");
    assert_true(untied - tied >= (size_t)VOCAB * HIDDEN * sizeof(float));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_with_all_biases_is_one_model_on_every_layout),
        cmocka_unit_test(tied_llama_is_one_model_on_every_layout),
        cmocka_unit_test(opt_with_norms_after_is_one_model_on_every_layout),
        cmocka_unit_test(opt_without_biases_is_one_model_on_every_layout),
        cmocka_unit_test(qwen_with_windows_on_some_layers_is_one_model),
        cmocka_unit_test(sparse_and_dense_layers_are_one_model),
        cmocka_unit_test(a_quantized_model_is_one_on_every_layout_and_near_the_plain),
        cmocka_unit_test(windows_change_the_result),
        cmocka_unit_test(what_was_drawn_need_not_be_told_and_masks_may_come_late),
        cmocka_unit_test(a_step_is_left_before_any_layer_and_taken_again),
        cmocka_unit_test(forward_does_not_allocate),
        cmocka_unit_test(impossible_options_are_refused),
        cmocka_unit_test(damaged_checkpoints_are_refused_by_tensor),
        cmocka_unit_test(bad_batches_are_errors_not_accidents),
        cmocka_unit_test(progress_counts_files_and_bytes_to_the_end),
        cmocka_unit_test(tied_embeddings_are_held_once),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
