/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/output_format.h"

#include <stdio.h>
#include <string.h>

#include "base/fail.h"

/* Hermes' own is read by output.c, piece by piece. */
static const cohort_output_format hermes = {
    .name = "hermes", .begins = {OUTPUT_CALL_BEGIN}, .in_template = OUTPUT_CALL_BEGIN};

/* In the order in which templates are asked: what is in several of them last. */
static const cohort_output_format *const formats[] = {
    &cohort_output_format_qwen3_coder,
    &cohort_output_format_qwen3_xml,
    &cohort_output_format_deepseek_v3,
    &cohort_output_format_deepseek_v31,
    &cohort_output_format_kimi_k2,
    &cohort_output_format_mistral,
    &cohort_output_format_phi4_mini_json,
    &cohort_output_format_internlm,
    &cohort_output_format_jamba,
    &cohort_output_format_granite,
    &hermes,
    &cohort_output_format_llama3_json,
};

enum { N_FORMATS = sizeof formats / sizeof *formats };

cohort_status cohort_output_format_find(const char *name,
                                        const cohort_output_format **out_format) {
    char names[300] = "";
    *out_format = NULL;
    if (!name || !*name) return COHORT_OK;
    for (int i = 0; i < N_FORMATS; i++) {
        size_t used = strlen(names);
        if (!strcmp(formats[i]->name, name)) *out_format = formats[i];
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "",
                 formats[i]->name);
    }
    if (*out_format) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INVALID,
                       "--tool-call-parser '%.80s' is not known; there are auto, %s",
                       name, names);
}

const cohort_output_format *cohort_output_format_of_template(const char *text) {
    for (int i = 0; text && i < N_FORMATS; i++)
        if (formats[i]->in_template && strstr(text, formats[i]->in_template))
            return formats[i];
    return NULL;
}

const char *cohort_output_format_name(const cohort_output_format *format) {
    return format->name;
}

bool cohort_output_format_uses_types(const cohort_output_format *format) {
    return format && format->uses_types;
}

bool cohort_output_format_has_short_ids(const cohort_output_format *format) {
    return format && format->has_short_ids;
}

bool cohort_output_format_is_hermes(const cohort_output_format *format) {
    return !format || format == &hermes;
}
