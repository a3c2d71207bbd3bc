/* SPDX-License-Identifier: Apache-2.0 */
/* A stranger's template and, behind a NUL byte, its variables as JSON: whatever they are,
 * rendering ends within its bounds. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "jinja/jinja.h"

bool fuzz_is_valid;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *split = size ? memchr(data, 0, size) : NULL;
    size_t source_bytes = split ? (size_t)(split - data) : size;
    cJSON *variables =
        split ? cJSON_ParseWithLength((const char *)split + 1, size - source_bytes - 1)
              : NULL;
    cohort_jinja *compiled;
    char *text = NULL;
    size_t text_bytes;
    if (cohort_jinja_compile((const char *)data, source_bytes, &compiled) == COHORT_OK) {
        fuzz_is_valid = true;
        if (cohort_jinja_render(compiled, variables, 0, &text, &text_bytes) ==
                COHORT_OK &&
            text[text_bytes] != '\0')
            abort();
        free(text);
        cohort_jinja_destroy(compiled);
    }
    cJSON_Delete(variables);
    return 0;
}
