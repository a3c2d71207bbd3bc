/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/fail.h"
#include "model/arch/arch.h"

cohort_status cohort_arch_expect(const cohort_json_source *source, const char *key,
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
            cohort_arch_set_bit(out->full_layers, layer);
        else if (strcmp(type, "sliding_attention") != 0)
            return COHORT_FAIL(
                COHORT_E_INVALID,
                "%s: layer type %.40s is not supported (full_attention and "
                "sliding_attention are)",
                source->name, type);
    }
    return COHORT_OK;
}

cohort_status cohort_arch_read_windows(const cohort_json_source *source,
                                       cohort_model_config *out) {
    bool use = false;
    int32_t first_window_layer = 0;
    COHORT_TRY(cohort_json_bool(source, "use_sliding_window", false, &use));
    if (!use) return COHORT_OK;
    bool named =
        cJSON_GetObjectItemCaseSensitive(source->object, "sliding_window") != NULL;
    COHORT_TRY(cohort_json_int(source, "sliding_window", 1, COHORT_ARCH_MAX_POSITIONS,
                               named ? 0 : 4096, &out->sliding_window));
    if (!out->sliding_window) return COHORT_OK;
    COHORT_TRY(
        cohort_json_int(source, "max_window_layers", 0, 4096, 28, &first_window_layer));
    for (int32_t i = 0; i < out->n_layers && i < first_window_layer; i++)
        cohort_arch_set_bit(out->full_layers, i);
    return read_layer_types(source, out);
}

cohort_status cohort_arch_read_decoder(const cohort_json_source *source,
                                       cohort_model_config *out) {
    COHORT_TRY(cohort_arch_expect(source, "hidden_act", "silu", "silu"));
    COHORT_TRY(cohort_json_int(source, "intermediate_size", 1, COHORT_ARCH_MAX_WIDTH,
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
    COHORT_TRY(cohort_json_int(source, "head_dim", 2, COHORT_ARCH_MAX_HEAD_DIM,
                               out->hidden_size / out->n_heads, &out->head_dim));
    if (out->head_dim < 2 || out->head_dim > COHORT_ARCH_MAX_HEAD_DIM ||
        out->head_dim % 2)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: head_dim %d is not an even number to %d", source->name,
                           out->head_dim, COHORT_ARCH_MAX_HEAD_DIM);
    double eps = 0;
    COHORT_TRY(cohort_json_real(source, "rms_norm_eps", 0, 1, 1e-6, &eps));
    out->norm_eps = (float)eps;
    out->final_norm = true;
    COHORT_TRY(cohort_json_bool(source, "tie_word_embeddings", false,
                                &out->tie_word_embeddings));
    return cohort_rope_read(source, out);
}
