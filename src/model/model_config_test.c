/* SPDX-License-Identifier: Apache-2.0 */
#include "model/model_config.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/arch/arch.h"

static cohort_model_config config;
static cohort_model_defaults defaults;

/* A config.json of the given architecture with a few fields more, which come first and
 * win. */
static cohort_status parse(const char *architecture, const char *more) {
    char text[4096];
    snprintf(
        text, sizeof text,
        "{%s%s\"architectures\": [\"%s\"], \"vocab_size\": 1024, \"hidden_size\": 64, "
        "\"num_hidden_layers\": 6, \"num_attention_heads\": 4, "
        "\"intermediate_size\": 96, \"ffn_dim\": 96, "
        "\"max_position_embeddings\": 2048}",
        more, *more ? ", " : "", architecture);
    return cohort_model_config_parse(text, strlen(text), NULL, 0, "config.json", &config,
                                     &defaults);
}

static void assert_refused(const char *architecture, const char *more,
                           const char *words) {
    assert_int_equal(parse(architecture, more), COHORT_E_INVALID);
    const char *message = cohort_last_error()->message;
    if (!strstr(message, words)) fail_msg("'%s' lacks '%s'", message, words);
    assert_non_null(strstr(message, "config.json"));
}

static void both_spellings_of_rope_and_dtype_are_read(void **state) {
    (void)state;
    assert_int_equal(parse("LlamaForCausalLM",
                           "\"torch_dtype\": \"bfloat16\", \"rope_theta\": 5e5, "
                           "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}"),
                     COHORT_OK);
    assert_int_equal(config.dtype, COHORT_BF16);
    assert_int_equal(config.rope.type, COHORT_ROPE_LINEAR);
    assert_true(config.rope.theta == 5e5 && config.rope.factor == 4);
    assert_int_equal(cohort_model_config_max_len(&config), 8192);

    assert_int_equal(
        parse("LlamaForCausalLM",
              "\"dtype\": \"float16\", \"rope_parameters\": {\"rope_theta\": "
              "7e5, \"rope_type\": \"llama3\", \"factor\": 8, "
              "\"low_freq_factor\": 1, \"high_freq_factor\": 4, "
              "\"original_max_position_embeddings\": 512}"),
        COHORT_OK);
    assert_int_equal(config.dtype, COHORT_F16);
    assert_int_equal(config.rope.type, COHORT_ROPE_LLAMA3);
    assert_true(config.rope.theta == 7e5 && config.rope.high_freq_factor == 4);
    assert_int_equal(config.rope.original_max_position_embeddings, 512);
    assert_int_equal(cohort_model_config_max_len(&config), 2048);
}

static void yarn_derives_its_attention_factor(void **state) {
    (void)state;
    assert_int_equal(parse("Qwen3ForCausalLM",
                           "\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4, "
                           "\"original_max_position_embeddings\": 512}"),
                     COHORT_OK);
    assert_true(fabs(config.rope.attention_factor - (0.1 * log(4) + 1)) < 1e-12);
    assert_true(config.rope.beta_fast == 32 && config.rope.beta_slow == 1);
    assert_true(config.rope.truncate);
    assert_int_equal(cohort_model_config_max_len(&config), 2048);
}

/* What vLLM 0.32 says of the same files in /v1/models. */
static void yarn_of_positions_that_are_stretched_is_not_stretched_again(void **state) {
    (void)state;
    assert_int_equal(parse("LlamaForCausalLM",
                           "\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4, "
                           "\"original_max_position_embeddings\": 2048}"),
                     COHORT_OK);
    assert_int_equal(cohort_model_config_max_len(&config), 2048);
    assert_int_equal(parse("LlamaForCausalLM",
                           "\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4}"),
                     COHORT_OK);
    assert_int_equal(cohort_model_config_max_len(&config), 8192);
}

#define SIZES                                                               \
    "\"vocab_size\": 1024, \"hidden_size\": 64, \"num_hidden_layers\": 6, " \
    "\"num_attention_heads\": 4, \"intermediate_size\": 96"

static cohort_status parse_text(const char *text) {
    return cohort_model_config_parse(text, strlen(text), NULL, 0, "config.json", &config,
                                     &defaults);
}

/* OPT has no head_dim of its own: it is hidden_size over heads. */
static void heads_of_opt_are_bounded(void **state) {
    (void)state;
    static const struct {
        int hidden_size, n_heads;
        cohort_status expected;
    } cases[] = {{64, 32, COHORT_OK},
                 {64, 64, COHORT_E_INVALID},
                 {2048, 2, COHORT_OK},
                 {4096, 2, COHORT_E_INVALID}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512];
        snprintf(text, sizeof text,
                 "{\"architectures\": [\"OPTForCausalLM\"], \"vocab_size\": 1024, "
                 "\"hidden_size\": %d, \"num_hidden_layers\": 2, \"ffn_dim\": 96, "
                 "\"num_attention_heads\": %d, \"max_position_embeddings\": 64}",
                 cases[i].hidden_size, cases[i].n_heads);
        assert_int_equal(parse_text(text), cases[i].expected);
    }
}

static void architecture_is_the_first_that_is_known(void **state) {
    (void)state;
    static const struct {
        const char *text, *name;
    } cases[] = {
        {"\"architectures\": [\"Foo\", \"Qwen2ForCausalLM\", \"LlamaForCausalLM\"]",
         "Qwen2ForCausalLM"},
        {"\"architectures\": [\"LLaMAForCausalLM\"]", "LlamaForCausalLM"},
        {"\"model_type\": \"llama\"", "LlamaForCausalLM"},
        {"\"architectures\": null, \"model_type\": \"qwen3\"", "Qwen3ForCausalLM"},
        {"\"architectures\": [], \"model_type\": \"mistral\"", "MistralForCausalLM"},
    };
    char text[512];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(text, sizeof text, "{%s, " SIZES "}", cases[i].text);
        if (parse_text(text) < 0) fail_msg("%s", cohort_last_error()->message);
        assert_string_equal(cohort_model_config_architecture(&config), cases[i].name);
    }
    assert_int_equal(parse_text("{\"architectures\": [\"Foo\"], \"model_type\": "
                                "\"llama\", " SIZES "}"),
                     COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "Foo is not supported"));
    assert_int_equal(parse_text("{\"model_type\": \"gpt2\", " SIZES "}"),
                     COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "gpt2 is not supported"));
    assert_int_equal(parse_text("{" SIZES "}"), COHORT_E_INVALID);
}

static void missing_positions_are_those_of_the_class(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int32_t positions;
    } cases[] = {{"LlamaForCausalLM", 2048},
                 {"MistralForCausalLM", 131072},
                 {"Qwen2ForCausalLM", 32768},
                 {"Qwen3ForCausalLM", 32768}};
    char text[512];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(text, sizeof text, "{\"architectures\": [\"%s\"], " SIZES "}",
                 cases[i].name);
        assert_int_equal(parse_text(text), COHORT_OK);
        assert_int_equal(config.max_position_embeddings, cases[i].positions);
    }
}

/* All taken by vLLM 0.32's ModelConfig. */
static void what_python_takes_is_taken(void **state) {
    (void)state;
    static const char *const more[] = {
        "\"unused\": NaN, \"b\": [Infinity, -Infinity], \"c\": \"a \\\" NaN\"",
        "\"quantization_config\": {}",
        "\"quantization_config\": null",
        "\"eos_token_id\": -1",
        "\"eos_token_id\": [2, -1]",
    };
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (parse("LlamaForCausalLM", more[i]) < 0)
            fail_msg("%s: %s", more[i], cohort_last_error()->message);
    assert_int_equal(config.n_eos, 1);
    assert_int_equal(parse("LlamaForCausalLM", "\"rope_theta\": \"20000\""), COHORT_OK);
    assert_true(config.rope.theta == 20000);
    assert_refused("LlamaForCausalLM", "\"rope_theta\": \"many\"", "rope_theta");
    assert_refused("LlamaForCausalLM", "\"rope_theta\": \"0\"", "rope_theta");
    assert_refused("LlamaForCausalLM", "\"rms_norm_eps\": NaN", "rms_norm_eps");
    assert_refused("LlamaForCausalLM", "\"hidden_size\": Infinity", "hidden_size");
    assert_refused("LlamaForCausalLM", "\"bos_token_id\": [0]", "bos_token_id");
    assert_refused("LlamaForCausalLM",
                   "\"compression_config\": {\"quant_method\": \"compressed-tensors\"}",
                   "compressed-tensors");
}

static void what_would_change_results_is_refused_by_name(void **state) {
    (void)state;
    assert_refused("MixtralForCausalLM", "", "MixtralForCausalLM");
    assert_refused("LlamaForCausalLM", "\"hidden_act\": \"gelu_new\"", "gelu_new");
    assert_refused("LlamaForCausalLM",
                   "\"quantization_config\": {\"quant_method\": \"awq\"}", "awq");
    assert_refused("LlamaForCausalLM",
                   "\"rope_scaling\": {\"rope_type\": \"longrope\", \"factor\": 2}",
                   "longrope");
    assert_refused("LlamaForCausalLM", "\"rope_scaling\": {\"rope_type\": \"yarn\"}",
                   "factor");
    assert_refused("LlamaForCausalLM", "\"partial_rotary_factor\": 0.5",
                   "partial_rotary_factor");
    assert_refused("LlamaForCausalLM", "\"dtype\": \"float8_e4m3fn\"", "float8_e4m3fn");
    assert_refused("OPTForCausalLM", "\"activation_function\": \"gelu\"", "gelu");
    assert_refused("OPTForCausalLM", "\"word_embed_proj_dim\": 32", "project_in");
    assert_refused("Qwen3MoeForCausalLM",
                   "\"use_sliding_window\": true, \"sliding_window\": 8",
                   "use_sliding_window");
    assert_refused(
        "Qwen2ForCausalLM",
        "\"use_sliding_window\": true, \"sliding_window\": 8, \"layer_types\": "
        "[\"chunked\", \"a\", \"a\", \"a\", \"a\", \"a\"]",
        "chunked");
}

static void numbers_are_bounded(void **state) {
    (void)state;
    assert_refused("LlamaForCausalLM", "\"vocab_size\": 1e300", "vocab_size");
    assert_refused("LlamaForCausalLM", "\"hidden_size\": -64", "hidden_size");
    assert_refused("LlamaForCausalLM", "\"hidden_size\": 64.5", "hidden_size");
    assert_refused("LlamaForCausalLM", "\"num_hidden_layers\": 257", "num_hidden_layers");
    assert_refused("LlamaForCausalLM", "\"num_hidden_layers\": \"six\"",
                   "num_hidden_layers");
    assert_refused("LlamaForCausalLM", "\"num_key_value_heads\": 3",
                   "num_attention_heads 4");
    assert_refused("LlamaForCausalLM", "\"num_attention_heads\": 5", "hidden_size 64");
    assert_refused("LlamaForCausalLM", "\"head_dim\": 7", "head_dim");
    assert_refused("LlamaForCausalLM", "\"vocab_size\": null", "vocab_size is missing");
}

static void biases_follow_the_architecture(void **state) {
    (void)state;
    assert_int_equal(parse("Qwen2ForCausalLM", ""), COHORT_OK);
    assert_true(config.attention_bias && !config.attention_out_bias);
    assert_null(config.arch->tensors.q_norm);
    assert_int_equal(parse("Qwen3ForCausalLM", ""), COHORT_OK);
    assert_true(!config.attention_bias);
    assert_non_null(config.arch->tensors.q_norm);
    assert_int_equal(
        parse("LlamaForCausalLM", "\"attention_bias\": true, \"mlp_bias\": true"),
        COHORT_OK);
    assert_true(config.attention_bias && config.attention_out_bias && config.mlp_bias);
    assert_int_equal(parse("OPTForCausalLM", ""), COHORT_OK);
    assert_true(config.attention_bias && config.mlp_bias && config.tie_word_embeddings);
    assert_true(config.final_norm && !config.norm_after);
    assert_int_equal(config.rope.type, COHORT_ROPE_NONE);
    assert_int_equal(parse("OPTForCausalLM",
                           "\"do_layer_norm_before\": false, \"enable_bias\": false"),
                     COHORT_OK);
    assert_true(!config.attention_bias && config.norm_after && !config.final_norm);
}

static void windows_hold_where_the_architecture_uses_them(void **state) {
    (void)state;
    assert_int_equal(parse("MistralForCausalLM", "\"sliding_window\": 24"), COHORT_OK);
    assert_int_equal(config.sliding_window, 24);
    assert_int_equal(parse("MistralForCausalLM", "\"sliding_window\": null"), COHORT_OK);
    assert_int_equal(config.sliding_window, 0);
    assert_int_equal(parse("MistralForCausalLM", ""), COHORT_OK);
    assert_int_equal(config.sliding_window, 4096);
    assert_int_equal(parse("LlamaForCausalLM", "\"sliding_window\": 24"), COHORT_OK);
    assert_int_equal(config.sliding_window, 0);
    assert_int_equal(parse("Qwen2ForCausalLM", "\"sliding_window\": 24"), COHORT_OK);
    assert_int_equal(config.sliding_window, 0);
    assert_int_equal(parse("Qwen2ForCausalLM",
                           "\"sliding_window\": 24, \"use_sliding_window\": true, "
                           "\"max_window_layers\": 4"),
                     COHORT_OK);
    assert_int_equal(config.sliding_window, 24);
    assert_int_equal(config.full_layers[0], 0xf);
}

static void sparse_layers_are_counted_as_transformers_does(void **state) {
    (void)state;
    assert_int_equal(parse("Qwen3MoeForCausalLM",
                           "\"num_local_experts\": 8, \"num_experts_per_tok\": 3, "
                           "\"decoder_sparse_step\": 2, \"mlp_only_layers\": [1]"),
                     COHORT_OK);
    assert_int_equal(config.n_experts, 8);
    assert_int_equal(config.dense_layers[0], 0x17); /* sparse: 3 and 5 */
    assert_refused("Qwen3MoeForCausalLM",
                   "\"num_experts\": 4, \"num_experts_per_tok\": 5",
                   "num_experts_per_tok");
    assert_refused("Qwen3MoeForCausalLM", "\"mlp_only_layers\": [-1]", "mlp_only_layers");
}

static void generation_config_adds_stop_tokens_and_defaults(void **state) {
    (void)state;
    const char *text = "{\"architectures\": [\"LlamaForCausalLM\"], \"vocab_size\": 9, "
                       "\"hidden_size\": 4, \"num_hidden_layers\": 1, "
                       "\"num_attention_heads\": 1, \"intermediate_size\": 4, "
                       "\"max_position_embeddings\": 8, \"eos_token_id\": 2}";
    const char *generation = "{\"eos_token_id\": [2, 7], \"temperature\": 0.6, "
                             "\"top_k\": 20, \"top_p\": null}";
    assert_int_equal(cohort_model_config_parse(text, strlen(text), generation,
                                               strlen(generation), "config.json", &config,
                                               &defaults),
                     COHORT_OK);
    assert_int_equal(config.n_eos, 2);
    assert_int_equal(config.eos_token_ids[1], 7);
    assert_int_equal(config.bos_token_id, -1);
    assert_true(defaults.temperature == 0.6F && defaults.top_k == 20);
    assert_true(isnan(defaults.top_p) && defaults.max_new_tokens == -1);
}

static void damaged_json_is_an_error_with_its_place(void **state) {
    (void)state;
    const char *texts[] = {"", "{", "[]", "{} x", "{\"a\": }", "\xff\xfe"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(cohort_model_config_parse(texts[i], strlen(texts[i]), NULL, 0,
                                                   "config.json", &config, &defaults),
                         COHORT_E_INVALID);
        assert_non_null(strstr(cohort_last_error()->message, "config.json: not "));
    }
}

static void missing_directory_says_what_to_name(void **state) {
    (void)state;
    assert_int_equal(cohort_model_config_read("/nonexistent", &config, &defaults),
                     COHORT_E_INVALID);
    assert_non_null(
        strstr(cohort_last_error()->message, "/nonexistent has no config.json"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_spellings_of_rope_and_dtype_are_read),
        cmocka_unit_test(yarn_derives_its_attention_factor),
        cmocka_unit_test(yarn_of_positions_that_are_stretched_is_not_stretched_again),
        cmocka_unit_test(heads_of_opt_are_bounded),
        cmocka_unit_test(architecture_is_the_first_that_is_known),
        cmocka_unit_test(missing_positions_are_those_of_the_class),
        cmocka_unit_test(what_python_takes_is_taken),
        cmocka_unit_test(what_would_change_results_is_refused_by_name),
        cmocka_unit_test(numbers_are_bounded),
        cmocka_unit_test(biases_follow_the_architecture),
        cmocka_unit_test(windows_hold_where_the_architecture_uses_them),
        cmocka_unit_test(sparse_layers_are_counted_as_transformers_does),
        cmocka_unit_test(generation_config_adds_stop_tokens_and_defaults),
        cmocka_unit_test(damaged_json_is_an_error_with_its_place),
        cmocka_unit_test(missing_directory_says_what_to_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
