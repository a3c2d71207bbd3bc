/* SPDX-License-Identifier: Apache-2.0 */
#include "model/model_config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "model/arch/arch.h"
#include "model/json.h"

/* Design notes.
 *
 * The file comes from strangers: every number has bounds, so that no product of two of
 * them can leave 64 bits, and what would change results without our knowing how (an
 * activation, a rope type, a quantization) is an error that names the value.  Fields that
 * only training or other programs look at are not read.  Defaults are those of
 * transformers' config classes (4.57 and 5), cited where they surprise. */

enum { CONFIG_LIMIT_BYTES = 4 << 20, MAX_VOCAB = 1 << 24 };

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

/* The first that is known, as vLLM's registry takes them; where none is named, what
 * model_type stands for. */
static cohort_status find_architecture(const cohort_json_source *source,
                                       const cohort_arch **out) {
    const cJSON *list = cohort_json_field(source, "architectures");
    const cJSON *type = cohort_json_field(source, "model_type");
    const cJSON *first = cJSON_IsArray(list) ? list->child : list;
    *out = NULL;
    if (!first) {
        first = type;
        if (cJSON_IsString(type)) *out = cohort_arch_of_type(type->valuestring);
    } else {
        for (const cJSON *item = first; item && !*out; item = item->next)
            if (cJSON_IsString(item)) *out = cohort_arch_find(item->valuestring);
    }
    if (*out) return COHORT_OK;
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

static cohort_status refuse_quantization(const cohort_json_source *source) {
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
                                     cohort_model_defaults *out) {
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

static const cohort_model_defaults no_defaults = {.temperature = NAN,
                                                  .top_p = NAN,
                                                  .min_p = NAN,
                                                  .repetition_penalty = NAN,
                                                  .top_k = -1,
                                                  .max_new_tokens = -1,
                                                  .most_new_tokens = -1};

static cohort_status read_config(const cohort_json_source *source,
                                 cohort_model_config *out) {
    COHORT_TRY(find_architecture(source, &out->arch));
    COHORT_TRY(refuse_quantization(source));
    COHORT_TRY(cohort_rope_refuse_partial(source));
    COHORT_TRY(read_dtype(source, out));
    COHORT_TRY(cohort_json_int(source, "vocab_size", 1, MAX_VOCAB, COHORT_JSON_REQUIRED,
                               &out->vocab_size));
    COHORT_TRY(cohort_json_int(source, "hidden_size", 1, COHORT_ARCH_MAX_WIDTH,
                               COHORT_JSON_REQUIRED, &out->hidden_size));
    COHORT_TRY(cohort_json_int(source, "num_hidden_layers", 1, COHORT_MAX_LAYERS,
                               COHORT_JSON_REQUIRED, &out->n_layers));
    COHORT_TRY(cohort_json_int(source, "num_attention_heads", 1, COHORT_MAX_HEADS,
                               COHORT_JSON_REQUIRED, &out->n_heads));
    COHORT_TRY(cohort_json_int(source, "max_position_embeddings", 1,
                               COHORT_ARCH_MAX_POSITIONS, out->arch->positions,
                               &out->max_position_embeddings));
    COHORT_TRY(
        cohort_json_int(source, "bos_token_id", -1, MAX_VOCAB, -1, &out->bos_token_id));
    COHORT_TRY(read_eos(source, out));
    return out->arch->read(source, out);
}

const char *cohort_model_config_architecture(const cohort_model_config *config) {
    return config->arch->name;
}

cohort_status cohort_model_config_parse(const char *config, size_t config_bytes,
                                        const char *generation, size_t generation_bytes,
                                        const char *name, cohort_model_config *out_config,
                                        cohort_model_defaults *out_defaults) {
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
                                       cohort_model_defaults *out_defaults) {
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
                                      cohort_model_defaults *out) {
    cJSON *json = NULL;
    *out = no_defaults;
    COHORT_TRY(cohort_json_parse(text, size, name, &json));
    const cohort_json_source source = {json, name};
    cohort_status status = read_generation(&source, config, out);
    cJSON_Delete(json);
    return status;
}

static cohort_status read_folder(const char *folder, cohort_model_config *config,
                                 cohort_model_defaults *out) {
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

cohort_status cohort_model_defaults_choose(const char *where, const char *overrides,
                                           cohort_model_config *config,
                                           cohort_model_defaults *defaults) {
    cohort_model_defaults given = no_defaults;
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
    return (int32_t)fmin(length, COHORT_ARCH_MAX_POSITIONS);
}
