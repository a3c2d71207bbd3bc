/* SPDX-License-Identifier: Apache-2.0 */
/* What a model writes, behind a byte of options and one that says how it is cut and in
 * which form its calls are: the
 * parts of it are the same in one piece and in many. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "chat/output.h"
#include "fuzz.h"

bool fuzz_is_valid;

/* Every byte that was told, behind its kind and call. */
typedef struct told {
    uint8_t *bytes;
    size_t size;
} told;

static void note(void *user_data, cohort_output_kind kind, int32_t call, const char *text,
                 size_t size) {
    told *out = user_data;
    out->bytes = realloc(out->bytes, out->size + 3 * size);
    if (!out->bytes) abort();
    for (size_t i = 0; i < size; i++) {
        out->bytes[out->size++] = (uint8_t)kind;
        out->bytes[out->size++] = kind < COHORT_OUTPUT_CALL ? 0 : (uint8_t)call;
        out->bytes[out->size++] = (uint8_t)text[i];
    }
}

static told take_apart(const cohort_output_options *options, const char *text,
                       size_t size, size_t step) {
    cohort_output *output;
    told out = {0};
    if (cohort_output_create(options, note, &out, &output) < 0) abort();
    for (size_t at = 0; at < size; at += step)
        cohort_output_feed(output, text + at, size - at < step ? size - at : step);
    if (cohort_output_finish(output) < 0) abort();
    cohort_output_destroy(output);
    return out;
}

static const char *const formats[] = {"hermes",      "llama3_json", "mistral",
                                      "qwen3_coder", "deepseek_v3", "deepseek_v31",
                                      "kimi_k2",     "granite",     "phi4_mini_json",
                                      "jamba",       "internlm"};

/* As bad as a request may bring them, beside one that is right. */
static const char tools_text[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":"
    "{"
    "\"a\":{\"type\":\"integer\"},\"b\":{\"anyOf\":[{\"type\":[\"null\",\"object\"]},1,[]"
    "]}}}"
    "}},{\"function\":{\"name\":\"g\",\"parameters\":{\"properties\":[\"a\",{}]}}},"
    "{\"function\":{\"name\":\"h\",\"parameters\":[{}]}},{\"function\":[\"f\"]},\"g\","
    "null]";

enum { N_FORMATS = sizeof formats / sizeof *formats };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 3) return 0;
    cohort_output_options options = {.reasoning = (cohort_reasoning)(data[0] % 3),
                                     .begins_in_content = data[0] & 64,
                                     .finds_calls = data[0] & 128};
    const char *text = (const char *)data + 2;
    static cJSON *tools; /* kept: the same for every input */
    if (!tools) tools = cJSON_Parse(tools_text);
    if (!tools) abort();
    options.tools = tools;
    size_t step = 1 + data[1] % 16;
    if (data[1] / 16 < N_FORMATS &&
        cohort_output_format_find(formats[data[1] / 16], &options.format) < 0)
        abort();
    told whole = take_apart(&options, text, size - 2, size);
    told cut = take_apart(&options, text, size - 2, step), calls = {0};
    if (whole.size != cut.size ||
        (whole.size && memcmp(whole.bytes, cut.bytes, whole.size) != 0))
        abort();
    if (!cohort_output_find_calls(text, size - 2, false, note, &calls) && calls.size)
        abort();
    fuzz_is_valid = whole.size > 0;
    free(whole.bytes);
    free(cut.bytes);
    free(calls.bytes);
    return 0;
}
