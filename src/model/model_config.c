/* SPDX-License-Identifier: Apache-2.0 */
#include "model/model_config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "model/json.h"

/* Design notes.
 *
 * The file comes from strangers: every number has bounds, so that no product of two of
 * them can leave 64 bits, and what would change results without our knowing how (an
 * activation, a rope type, a quantization) is an error that names the value.  Fields that
 * only training or other programs look at are not read.  Defaults are those of
 * transformers' config classes (4.57 and 5), cited where they surprise. */

enum {
    CONFIG_LIMIT_BYTES = 4 << 20,
    MAX_VOCAB = 1 << 24,
    MAX_WIDTH = 1 << 20,
    MAX_HEAD_DIM = 1024,
    MAX_POSITIONS = 1 << 24,
};

/* alias: another spelling in vLLM's registry, or NULL.  positions: the config class's own
 * max_position_embeddings. */
static const struct architecture {
    const char *name, *alias, *model_type;
    cohort_architecture architecture;
    int32_t positions;
} architectures[] = {
    {"LlamaForCausalLM", "LLaMAForCausalLM", "llama", COHORT_ARCH_LLAMA, 2048},
    {"MistralForCausalLM", NULL, "mistral", COHORT_ARCH_MISTRAL, 131072},
    {"Qwen2ForCausalLM", NULL, "qwen2", COHORT_ARCH_QWEN2, 32768},
    {"Qwen3ForCausalLM", NULL, "qwen3", COHORT_ARCH_QWEN3, 32768},
    {"Qwen3MoeForCausalLM", NULL, "qwen3_moe", COHORT_ARCH_QWEN3_MOE, 32768},
    {"OPTForCausalLM", NULL, "opt", COHORT_ARCH_OPT, 2048},
};

static void set_layer_bit(uint64_t bits[4], int32_t layer) {
    bits[layer / 64] |= UINT64_C(1) << (layer % 64);
}

bool cohort_dtype_parse(const char *name, cohort_dtype *out_dtype) {
    static const struct {
        const char *name;
        cohort_dtype dtype;
    } names[] = {{"float32", COHORT_F32},
                 {"float", COHORT_F32},
                 {"bfloat16", COHORT_BF16},
                 {"float16", COHORT_F16},
                 {"half", COHORT_F16}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i].name) != 0) continue;
        *out_dtype = names[i].dtype;
        return true;
    }
    return false;
}

static const struct architecture *find_architecture(const cJSON *item, bool by_type) {
    const char *name = cJSON_IsString(item) ? item->valuestring : "";
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++) {
        const struct architecture *known = &architectures[i];
        if (by_type ? !strcmp(name, known->model_type)
                    : !strcmp(name, known->name) ||
                          (known->alias && !strcmp(name, known->alias)))
            return known;
    }
    return NULL;
}

/* The first that is known, as vLLM's registry takes them; where none is named, what
 * model_type stands for. */
static cohort_status read_architecture(const cohort_json_source *source,
                                       cohort_model_config *out, int32_t *out_positions) {
    const cJSON *list = cohort_json_field(source, "architectures");
    const cJSON *type = cohort_json_field(source, "model_type");
    const cJSON *first = cJSON_IsArray(list) ? list->child : list;
    const struct architecture *known = NULL;
    if (!first) known = find_architecture(first = type, true);
    for (const cJSON *item = first; item && !known; item = item->next)
        known = item == type ? NULL : find_architecture(item, false);
    if (known) {
        out->architecture = known->architecture;
        *out_positions = known->positions;
        snprintf(out->architecture_name, sizeof out->architecture_name, "%s",
                 known->name);
        return COHORT_OK;
    }
    if (!cJSON_IsString(first))
        return COHORT_FAIL(COHORT_E_INVALID, "%s: architectures names no architecture",
                           source->name);
    return COHORT_FAIL(COHORT_E_INVALID,
                       "%s: architecture %.60s is not supported (Llama, Mistral, Qwen2, "
                       "Qwen3, Qwen3Moe and OPT are)",
                       source->name, first->valuestring);
}

static cohort_status read_dtype(const cohort_json_source *source,
                                cohort_model_config *out) {
    const char *name = NULL;
    COHORT_TRY(cohort_json_text(source, "dtype", NULL, &name));
    if (!name) COHORT_TRY(cohort_json_text(source, "torch_dtype", "float32", &name));
    if (strncmp(name, "torch.", 6) == 0) name += 6;
    if (cohort_dtype_parse(name, &out->dtype)) return COHORT_OK;
    return COHORT_FAIL(
        COHORT_E_INVALID,
        "%s: dtype %.40s is not supported (float32, bfloat16 and float16 are)",
        source->name, name);
}

/* What Python takes for false says that nothing is quantized. */
static bool is_empty(const cJSON *item) {
    return !item || cJSON_IsFalse(item) ||
           ((cJSON_IsObject(item) || cJSON_IsArray(item)) && !item->child) ||
           (cJSON_IsNumber(item) && item->valuedouble == 0) ||
           (cJSON_IsString(item) && !*item->valuestring);
}

/* What changes results wherever it is set, whatever the architecture. */
static cohort_status refuse_unsupported(const cohort_json_source *source) {
    const cJSON *quantization = cohort_json_field(source, "quantization_config");
    if (is_empty(quantization))
        quantization = cohort_json_field(source, "compression_config");
    if (!is_empty(quantization)) {
        const cJSON *method =
            cJSON_GetObjectItemCaseSensitive(quantization, "quant_method");
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: quantization_config (%.40s) is not supported; use a "
                           "checkpoint of float32, bfloat16 or float16 weights",
                           source->name,
                           cJSON_IsString(method) ? method->valuestring : "no method");
    }
    double rotary = 1;
    COHORT_TRY(cohort_json_real(source, "partial_rotary_factor", 0, 1, 1, &rotary));
    if (rotary < 1)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: partial_rotary_factor %g is not supported", source->name,
                           rotary);
    return COHORT_OK;
}

static cohort_status expect_activation(const cohort_json_source *source, const char *key,
                                       const char *expected, const char *fallback) {
    const char *name = NULL;
    COHORT_TRY(cohort_json_text(source, key, fallback, &name));
    /* transformers knows SiLU by two names. */
    if (strcmp(name, expected) == 0 ||
        (strcmp(expected, "silu") == 0 && strcmp(name, "swish") == 0))
        return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INVALID, "%s: %s %.40s is not supported (%s is)",
                       source->name, key, name, expected);
}

/* ---- rope -------------------------------------------------------------------------- */

static double yarn_mscale(double scale, double mscale) {
    return scale <= 1 ? 1 : 0.1 * mscale * log(scale) + 1;
}

/* transformers' modeling_rope_utils.py, _compute_yarn_parameters. */
static cohort_status read_yarn(const cohort_json_source *rope, cohort_rope *out) {
    double mscale = 0, mscale_all_dim = 0;
    COHORT_TRY(cohort_json_real(rope, "beta_fast", 1e-3, 1e6, 32, &out->beta_fast));
    COHORT_TRY(cohort_json_real(rope, "beta_slow", 1e-3, 1e6, 1, &out->beta_slow));
    COHORT_TRY(cohort_json_real(rope, "mscale", 0, 1e3, 0, &mscale));
    COHORT_TRY(cohort_json_real(rope, "mscale_all_dim", 0, 1e3, 0, &mscale_all_dim));
    COHORT_TRY(cohort_json_bool(rope, "truncate", true, &out->truncate));
    double derived =
        mscale > 0 && mscale_all_dim > 0
            ? yarn_mscale(out->factor, mscale) / yarn_mscale(out->factor, mscale_all_dim)
            : yarn_mscale(out->factor, 1);
    return cohort_json_real(rope, "attention_factor", 1e-3, 1e3, derived,
                            &out->attention_factor);
}

static cohort_status read_llama3(const cohort_json_source *rope, cohort_rope *out) {
    COHORT_TRY(
        cohort_json_real(rope, "low_freq_factor", 1e-3, 1e6, 0, &out->low_freq_factor));
    COHORT_TRY(
        cohort_json_real(rope, "high_freq_factor", 1e-3, 1e6, 0, &out->high_freq_factor));
    if (out->high_freq_factor > out->low_freq_factor && out->low_freq_factor > 0)
        return COHORT_OK;
    return COHORT_FAIL(
        COHORT_E_INVALID,
        "%s: rope llama3 needs low_freq_factor below high_freq_factor, not "
        "%g and %g",
        rope->name, out->low_freq_factor, out->high_freq_factor);
}

static cohort_status read_rope_scaling(const cohort_json_source *rope, const char *type,
                                       const cohort_model_config *config,
                                       cohort_rope *out) {
    if (strcmp(type, "default") == 0) return COHORT_OK;
    bool llama3 = strcmp(type, "llama3") == 0;
    if (strcmp(type, "linear") == 0)
        out->type = COHORT_ROPE_LINEAR;
    else if (llama3)
        out->type = COHORT_ROPE_LLAMA3;
    else if (strcmp(type, "yarn") == 0)
        out->type = COHORT_ROPE_YARN;
    else
        return COHORT_FAIL(
            COHORT_E_INVALID,
            "%s: rope type %.40s is not supported (default, linear, llama3 "
            "and yarn are)",
            rope->name, type);
    out->is_stretched =
        cohort_json_field(rope, "original_max_position_embeddings") != NULL;
    if (!cohort_json_field(rope, "factor"))
        return COHORT_FAIL(COHORT_E_INVALID, "%s: rope type %s needs a factor",
                           rope->name, type);
    COHORT_TRY(cohort_json_real(rope, "factor", 1, 1e6, 1, &out->factor));
    COHORT_TRY(
        cohort_json_int(rope, "original_max_position_embeddings", 1, MAX_POSITIONS,
                        llama3 ? COHORT_JSON_REQUIRED : config->max_position_embeddings,
                        &out->original_max_position_embeddings));
    if (llama3) return read_llama3(rope, out);
    if (out->type == COHORT_ROPE_YARN) return read_yarn(rope, out);
    return COHORT_OK;
}

/* A text is taken for its number, as Python's float() takes it. */
static cohort_status read_theta(const cohort_json_source *source, cohort_rope *rope) {
    const cJSON *item = cohort_json_field(source, "rope_theta");
    char *end = NULL;
    double value = cJSON_IsString(item) ? strtod(item->valuestring, &end) : 0;
    if (!end || end == item->valuestring || *end)
        return cohort_json_real(source, "rope_theta", 1.001, 1e12, rope->theta,
                                &rope->theta);
    if (!(value >= 1.001 && value <= 1e12))
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: rope_theta must be a number from 1.001 to 1e+12",
                           source->name);
    rope->theta = value;
    return COHORT_OK;
}

/* transformers 5 has all of it in rope_parameters; 4 has rope_theta beside rope_scaling,
 * whose type may still be called "type". */
static cohort_status read_rope(const cohort_json_source *source,
                               cohort_model_config *out) {
    cohort_rope *rope = &out->rope;
    *rope =
        (cohort_rope){.type = COHORT_ROPE_DEFAULT,
                      .theta = 10000,
                      .factor = 1,
                      .attention_factor = 1,
                      .truncate = true,
                      .original_max_position_embeddings = out->max_position_embeddings};
    COHORT_TRY(read_theta(source, rope));
    const cJSON *item = cohort_json_field(source, "rope_parameters");
    if (!item) item = cohort_json_field(source, "rope_scaling");
    if (!item) return COHORT_OK;
    if (!cJSON_IsObject(item))
        return COHORT_FAIL(COHORT_E_INVALID, "%s: rope parameters are not an object",
                           source->name);
    cohort_json_source inner = {item, source->name};
    COHORT_TRY(refuse_unsupported(&inner));
    COHORT_TRY(read_theta(&inner, rope));
    const char *type = NULL;
    COHORT_TRY(cohort_json_text(&inner, "rope_type", NULL, &type));
    if (!type) COHORT_TRY(cohort_json_text(&inner, "type", "default", &type));
    return read_rope_scaling(&inner, type, out, rope);
}

/* ---- architectures ----------------------------------------------------------------- */

static cohort_status read_layer_types(const cohort_json_source *source,
                                      cohort_model_config *out) {
    const cJSON *list = cohort_json_field(source, "layer_types");
    if (!list) return COHORT_OK;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != out->n_layers)
        return COHORT_FAIL(COHORT_E_INVALID, "%s: layer_types has not %d entries",
                           source->name, out->n_layers);
    memset(out->full_layers, 0, sizeof out->full_layers);
    int32_t layer = 0;
    for (const cJSON *item = list->child; item; item = item->next, layer++) {
        const char *type = cJSON_IsString(item) ? item->valuestring : "";
        if (strcmp(type, "full_attention") == 0)
            set_layer_bit(out->full_layers, layer);
        else if (strcmp(type, "sliding_attention") != 0)
            return COHORT_FAIL(
                COHORT_E_INVALID,
                "%s: layer type %.40s is not supported (full_attention and "
                "sliding_attention are)",
                source->name, type);
    }
    return COHORT_OK;
}

/* Mistral's window holds for all layers (and is 4096 where the key is missing, null being
 * none); Qwen's is used only where use_sliding_window says so, from layer
 * max_window_layers on or as layer_types says. */
static cohort_status read_sliding_window(const cohort_json_source *source,
                                         cohort_model_config *out) {
    bool mistral = out->architecture == COHORT_ARCH_MISTRAL;
    if (!mistral && out->architecture == COHORT_ARCH_LLAMA) return COHORT_OK;
    bool use = mistral;
    if (!mistral) COHORT_TRY(cohort_json_bool(source, "use_sliding_window", false, &use));
    if (!use) return COHORT_OK;
    if (out->architecture == COHORT_ARCH_QWEN3_MOE)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: use_sliding_window of Qwen3-MoE is not supported",
                           source->name);
    bool named =
        cJSON_GetObjectItemCaseSensitive(source->object, "sliding_window") != NULL;
    COHORT_TRY(cohort_json_int(source, "sliding_window", 1, MAX_POSITIONS,
                               named ? 0 : 4096, &out->sliding_window));
    if (mistral || !out->sliding_window) return COHORT_OK;
    int32_t first_window_layer = 0;
    COHORT_TRY(
        cohort_json_int(source, "max_window_layers", 0, 4096, 28, &first_window_layer));
    for (int32_t i = 0; i < out->n_layers && i < first_window_layer; i++)
        set_layer_bit(out->full_layers, i);
    return read_layer_types(source, out);
}

static cohort_status read_experts(const cohort_json_source *source,
                                  cohort_model_config *out) {
    const char *key =
        cohort_json_field(source, "num_experts") ? "num_experts" : "num_local_experts";
    COHORT_TRY(cohort_json_int(source, key, 1, COHORT_MAX_EXPERTS, 128, &out->n_experts));
    COHORT_TRY(cohort_json_int(source, "num_experts_per_tok", 1, out->n_experts, 8,
                               &out->n_experts_per_token));
    COHORT_TRY(cohort_json_int(source, "moe_intermediate_size", 1, MAX_WIDTH, 768,
                               &out->moe_intermediate_size));
    COHORT_TRY(cohort_json_int(source, "decoder_sparse_step", 1, COHORT_MAX_LAYERS, 1,
                               &out->decoder_sparse_step));
    COHORT_TRY(cohort_json_bool(source, "norm_topk_prob", false, &out->norm_topk_prob));
    for (int32_t i = 0; i < out->n_layers; i++)
        if ((i + 1) % out->decoder_sparse_step) set_layer_bit(out->dense_layers, i);
    const cJSON *dense = cohort_json_field(source, "mlp_only_layers");
    if (dense && !cJSON_IsArray(dense))
        return COHORT_FAIL(COHORT_E_INVALID, "%s: mlp_only_layers is not a list",
                           source->name);
    for (const cJSON *item = dense ? dense->child : NULL; item; item = item->next) {
        uint64_t layer = 0;
        if (!cohort_json_is_size(item, &layer) || layer >= COHORT_MAX_LAYERS)
            return COHORT_FAIL(COHORT_E_INVALID,
                               "%s: mlp_only_layers holds what is no layer's number",
                               source->name);
        set_layer_bit(out->dense_layers, (int32_t)layer);
    }
    return COHORT_OK;
}

static cohort_status read_decoder(const cohort_json_source *source,
                                  cohort_model_config *out) {
    COHORT_TRY(expect_activation(source, "hidden_act", "silu", "silu"));
    COHORT_TRY(cohort_json_int(source, "intermediate_size", 1, MAX_WIDTH,
                               COHORT_JSON_REQUIRED, &out->intermediate_size));
    COHORT_TRY(cohort_json_int(source, "num_key_value_heads", 1, out->n_heads,
                               out->n_heads, &out->n_kv_heads));
    if (out->n_heads % out->n_kv_heads)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: num_attention_heads %d is no multiple of "
                           "num_key_value_heads %d",
                           source->name, out->n_heads, out->n_kv_heads);
    bool explicit_head_dim = cohort_json_field(source, "head_dim") != NULL;
    if (!explicit_head_dim && out->hidden_size % out->n_heads)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: hidden_size %d is no multiple of num_attention_heads %d, "
                           "and head_dim is not given",
                           source->name, out->hidden_size, out->n_heads);
    COHORT_TRY(cohort_json_int(source, "head_dim", 2, MAX_HEAD_DIM,
                               out->hidden_size / out->n_heads, &out->head_dim));
    if (out->head_dim < 2 || out->head_dim > MAX_HEAD_DIM || out->head_dim % 2)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: head_dim %d is not an even number to %d", source->name,
                           out->head_dim, MAX_HEAD_DIM);
    double eps = 0;
    COHORT_TRY(cohort_json_real(source, "rms_norm_eps", 0, 1, 1e-6, &eps));
    out->norm_eps = (float)eps;
    out->final_norm = true;
    COHORT_TRY(cohort_json_bool(source, "tie_word_embeddings", false,
                                &out->tie_word_embeddings));
    bool qwen3 = out->architecture == COHORT_ARCH_QWEN3 ||
                 out->architecture == COHORT_ARCH_QWEN3_MOE;
    out->qk_norm = qwen3;
    if (out->architecture == COHORT_ARCH_LLAMA || qwen3) {
        COHORT_TRY(
            cohort_json_bool(source, "attention_bias", false, &out->attention_bias));
        out->attention_out_bias = out->attention_bias;
    }
    if (out->architecture == COHORT_ARCH_LLAMA)
        COHORT_TRY(cohort_json_bool(source, "mlp_bias", false, &out->mlp_bias));
    if (out->architecture == COHORT_ARCH_QWEN2) out->attention_bias = true;
    COHORT_TRY(read_sliding_window(source, out));
    if (out->architecture == COHORT_ARCH_QWEN3_MOE) COHORT_TRY(read_experts(source, out));
    return read_rope(source, out);
}

static cohort_status read_opt(const cohort_json_source *source,
                              cohort_model_config *out) {
    COHORT_TRY(expect_activation(source, "activation_function", "relu", "relu"));
    COHORT_TRY(cohort_json_int(source, "ffn_dim", 1, MAX_WIDTH, COHORT_JSON_REQUIRED,
                               &out->intermediate_size));
    int32_t embedding = 0;
    COHORT_TRY(cohort_json_int(source, "word_embed_proj_dim", 1, MAX_WIDTH,
                               out->hidden_size, &embedding));
    if (embedding != out->hidden_size)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: word_embed_proj_dim %d differs from hidden_size %d: "
                           "project_in and project_out are not supported",
                           source->name, embedding, out->hidden_size);
    if (out->hidden_size % out->n_heads)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: hidden_size %d is no multiple of num_attention_heads %d",
                           source->name, out->hidden_size, out->n_heads);
    bool affine = true, before = true, removed = false, bias = true;
    COHORT_TRY(cohort_json_bool(source, "layer_norm_elementwise_affine", true, &affine));
    COHORT_TRY(cohort_json_bool(source, "do_layer_norm_before", true, &before));
    COHORT_TRY(cohort_json_bool(source, "_remove_final_layer_norm", false, &removed));
    COHORT_TRY(cohort_json_bool(source, "enable_bias", true, &bias));
    COHORT_TRY(
        cohort_json_bool(source, "tie_word_embeddings", true, &out->tie_word_embeddings));
    if (!affine)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: layer_norm_elementwise_affine false is not supported",
                           source->name);
    out->n_kv_heads = out->n_heads;
    out->head_dim = out->hidden_size / out->n_heads;
    if (out->head_dim < 2 || out->head_dim > MAX_HEAD_DIM)
        return COHORT_FAIL(COHORT_E_INVALID, "%s: heads of %d values are not supported",
                           source->name, out->head_dim);
    out->norm_eps = 1e-5F; /* nn.LayerNorm's default: the config has no field for it */
    out->norm_after = !before;
    out->final_norm = before && !removed;
    out->attention_bias = out->attention_out_bias = out->mlp_bias = bias;
    out->rope =
        (cohort_rope){.type = COHORT_ROPE_NONE, .factor = 1, .attention_factor = 1};
    return COHORT_OK;
}

/* ---- tokens, generation defaults --------------------------------------------------- */

cohort_status cohort_model_config_add_eos(cohort_model_config *config, const char *name,
                                          int32_t id) {
    for (int32_t i = 0; i < config->n_eos; i++)
        if (config->eos_token_ids[i] == id) return COHORT_OK;
    if (config->n_eos == COHORT_MAX_EOS)
        return COHORT_FAIL(COHORT_E_INVALID, "%s: eos_token_id has more than %d tokens",
                           name, COHORT_MAX_EOS);
    config->eos_token_ids[config->n_eos++] = id;
    return COHORT_OK;
}

static cohort_status add_eos(const char *name, const cJSON *item,
                             cohort_model_config *out) {
    uint64_t id = 0;
    if (cJSON_IsNumber(item) && item->valuedouble == -1) return COHORT_OK; /* none */
    if (!cohort_json_is_size(item, &id) || id >= MAX_VOCAB)
        return COHORT_FAIL(COHORT_E_INVALID, "%s: eos_token_id is no token's number",
                           name);
    return cohort_model_config_add_eos(out, name, (int32_t)id);
}

/* config.json's and generation_config.json's are both honoured, as vLLM does. */
static cohort_status read_eos(const cohort_json_source *source,
                              cohort_model_config *out) {
    const cJSON *item = cohort_json_field(source, "eos_token_id");
    if (!item) return COHORT_OK;
    if (!cJSON_IsArray(item)) return add_eos(source->name, item, out);
    for (const cJSON *id = item->child; id; id = id->next)
        COHORT_TRY(add_eos(source->name, id, out));
    return COHORT_OK;
}

static cohort_status read_generation(const cohort_json_source *source,
                                     cohort_model_config *config,
                                     cohort_generation_defaults *out) {
    double temperature = NAN, top_p = NAN, min_p = NAN, penalty = NAN;
    COHORT_TRY(read_eos(source, config));
    if (config->bos_token_id < 0)
        COHORT_TRY(cohort_json_int(source, "bos_token_id", -1, MAX_VOCAB, -1,
                                   &config->bos_token_id));
    COHORT_TRY(cohort_json_real(source, "temperature", 0, 100, NAN, &temperature));
    COHORT_TRY(cohort_json_real(source, "top_p", 0, 1, NAN, &top_p));
    COHORT_TRY(cohort_json_real(source, "min_p", 0, 1, NAN, &min_p));
    COHORT_TRY(cohort_json_real(source, "repetition_penalty", 1e-3, 1e3, NAN, &penalty));
    COHORT_TRY(cohort_json_int(source, "top_k", -1, INT32_MAX, -1, &out->top_k));
    COHORT_TRY(cohort_json_int(source, "max_new_tokens", 1, INT32_MAX, -1,
                               &out->max_new_tokens));
    out->temperature = (float)temperature;
    out->top_p = (float)top_p;
    out->min_p = (float)min_p;
    out->repetition_penalty = (float)penalty;
    return COHORT_OK;
}

/* ---- entry points ------------------------------------------------------------------ */

static const cohort_generation_defaults no_defaults = {.temperature = NAN,
                                                       .top_p = NAN,
                                                       .min_p = NAN,
                                                       .repetition_penalty = NAN,
                                                       .top_k = -1,
                                                       .max_new_tokens = -1,
                                                       .most_new_tokens = -1};

static cohort_status read_config(const cohort_json_source *source,
                                 cohort_model_config *out) {
    int32_t positions = 0;
    COHORT_TRY(read_architecture(source, out, &positions));
    COHORT_TRY(refuse_unsupported(source));
    COHORT_TRY(read_dtype(source, out));
    COHORT_TRY(cohort_json_int(source, "vocab_size", 1, MAX_VOCAB, COHORT_JSON_REQUIRED,
                               &out->vocab_size));
    COHORT_TRY(cohort_json_int(source, "hidden_size", 1, MAX_WIDTH, COHORT_JSON_REQUIRED,
                               &out->hidden_size));
    COHORT_TRY(cohort_json_int(source, "num_hidden_layers", 1, COHORT_MAX_LAYERS,
                               COHORT_JSON_REQUIRED, &out->n_layers));
    COHORT_TRY(cohort_json_int(source, "num_attention_heads", 1, COHORT_MAX_HEADS,
                               COHORT_JSON_REQUIRED, &out->n_heads));
    COHORT_TRY(cohort_json_int(source, "max_position_embeddings", 1, MAX_POSITIONS,
                               positions, &out->max_position_embeddings));
    COHORT_TRY(
        cohort_json_int(source, "bos_token_id", -1, MAX_VOCAB, -1, &out->bos_token_id));
    COHORT_TRY(read_eos(source, out));
    return out->architecture == COHORT_ARCH_OPT ? read_opt(source, out)
                                                : read_decoder(source, out);
}

cohort_status cohort_model_config_parse(const char *config, size_t config_bytes,
                                        const char *generation, size_t generation_bytes,
                                        const char *name, cohort_model_config *out_config,
                                        cohort_generation_defaults *out_defaults) {
    memset(out_config, 0, sizeof *out_config);
    *out_defaults = no_defaults;
    cJSON *json = NULL;
    COHORT_TRY(cohort_json_parse(config, config_bytes, name, &json));
    cohort_json_source source = {json, name};
    cohort_status status = read_config(&source, out_config);
    cJSON_Delete(json);
    if (status < 0 || !generation) return status;
    const char *generation_name = "generation_config.json";
    COHORT_TRY(cohort_json_parse(generation, generation_bytes, generation_name, &json));
    source = (cohort_json_source){json, generation_name};
    status = read_generation(&source, out_config, out_defaults);
    cJSON_Delete(json);
    return status;
}

cohort_status cohort_model_config_read(const char *model_dir,
                                       cohort_model_config *out_config,
                                       cohort_generation_defaults *out_defaults) {
    char *config = NULL, *generation = NULL;
    size_t config_bytes = 0, generation_bytes = 0;
    COHORT_TRY(cohort_json_read(model_dir, "config.json", CONFIG_LIMIT_BYTES, &config,
                                &config_bytes));
    if (!config)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s has no config.json; name the directory of a Hugging Face "
                           "checkpoint",
                           model_dir);
    cohort_status status =
        cohort_json_read(model_dir, "generation_config.json", CONFIG_LIMIT_BYTES,
                         &generation, &generation_bytes);
    if (status >= 0)
        status =
            cohort_model_config_parse(config, config_bytes, generation, generation_bytes,
                                      "config.json", out_config, out_defaults);
    free(config);
    free(generation);
    if (status < 0) return cohort_fail_while(status, "reading %s", model_dir);
    return status;
}

static cohort_status parse_generation(const char *text, size_t size, const char *name,
                                      cohort_model_config *config,
                                      cohort_generation_defaults *out) {
    cJSON *json = NULL;
    *out = no_defaults;
    COHORT_TRY(cohort_json_parse(text, size, name, &json));
    const cohort_json_source source = {json, name};
    cohort_status status = read_generation(&source, config, out);
    cJSON_Delete(json);
    return status;
}

static cohort_status read_folder(const char *folder, cohort_model_config *config,
                                 cohort_generation_defaults *out) {
    char *text = NULL;
    size_t size = 0;
    const char *name = "generation_config.json";
    COHORT_TRY(cohort_json_read(folder, name, CONFIG_LIMIT_BYTES, &text, &size));
    if (!text)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s has no %s; --generation-config takes auto, vllm or a "
                           "folder with one",
                           folder, name);
    cohort_status status = parse_generation(text, size, name, config, out);
    free(text);
    return status;
}

cohort_status cohort_generation_defaults_choose(const char *where, const char *overrides,
                                                cohort_model_config *config,
                                                cohort_generation_defaults *defaults) {
    cohort_generation_defaults given = no_defaults;
    bool is_folder = where && strcmp(where, "auto") != 0 && strcmp(where, "vllm") != 0;
    if (where && !strcmp(where, "vllm")) *defaults = no_defaults;
    if (is_folder) COHORT_TRY(read_folder(where, config, defaults));
    if (overrides)
        COHORT_TRY(parse_generation(overrides, strlen(overrides),
                                    "--override-generation-config", config, &given));
    if (!isnan(given.temperature)) defaults->temperature = given.temperature;
    if (!isnan(given.top_p)) defaults->top_p = given.top_p;
    if (!isnan(given.min_p)) defaults->min_p = given.min_p;
    if (!isnan(given.repetition_penalty))
        defaults->repetition_penalty = given.repetition_penalty;
    if (given.top_k >= 0) defaults->top_k = given.top_k;
    if (given.max_new_tokens > 0) defaults->max_new_tokens = given.max_new_tokens;
    defaults->most_new_tokens =
        is_folder ? defaults->max_new_tokens : given.max_new_tokens;
    return COHORT_OK;
}

/* As vLLM 0.32 derives it: linear multiplies what is there, llama3's
 * max_position_embeddings is stretched already, and so is yarn's where the file also says
 * what it was before. */
int32_t cohort_model_config_max_len(const cohort_model_config *config) {
    double length = config->max_position_embeddings;
    bool is_yarn = config->rope.type == COHORT_ROPE_YARN;
    if (config->rope.type == COHORT_ROPE_LINEAR ||
        (is_yarn && !config->rope.is_stretched))
        length *= config->rope.factor;
    return (int32_t)fmin(length, MAX_POSITIONS);
}
