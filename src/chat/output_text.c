/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"
#include "chat/output_internal.h"

void cohort_output_text_add(output_text *text, const char *bytes, size_t size) {
    if (text->is_short || !size) return;
    char *grown = cohort_grow(text->bytes, text->size + size, &text->capacity, 1);
    text->is_short = !grown;
    if (!grown) return;
    text->bytes = grown;
    memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
}

void cohort_output_call_deinit(output_call *call) {
    free(call->name.bytes);
    free(call->arguments.bytes);
    free(call->id.bytes);
    *call = (output_call){0};
}
