/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "model/arch/arch.h"

/* Rotary embeddings as config.json tells of them. */

cohort_status cohort_rope_refuse_partial(const cohort_json_source *source) {
    double rotary = 1;
    COHORT_TRY(cohort_json_real(source, "partial_rotary_factor", 0, 1, 1, &rotary));
    if (rotary < 1)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: partial_rotary_factor %g is not supported", source->name,
                           rotary);
    return COHORT_OK;
}

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
    COHORT_TRY(cohort_json_int(
        rope, "original_max_position_embeddings", 1, COHORT_ARCH_MAX_POSITIONS,
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
cohort_status cohort_rope_read(const cohort_json_source *source,
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
    COHORT_TRY(cohort_rope_refuse_partial(&inner));
    COHORT_TRY(read_theta(&inner, rope));
    const char *type = NULL;
    COHORT_TRY(cohort_json_text(&inner, "rope_type", NULL, &type));
    if (!type) COHORT_TRY(cohort_json_text(&inner, "type", "default", &type));
    return read_rope_scaling(&inner, type, out, rope);
}
