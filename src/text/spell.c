/* SPDX-License-Identifier: Apache-2.0 */
#include <utf8proc.h>

#include "base/fail.h"
#include "text/text_internal.h"

/* GPT-2's stand-in for a byte: printable ones are themselves, the others follow from
 * U+0100 on, in order. */
static utf8proc_int32_t stand_in(unsigned char byte) {
    bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    if (printable) return byte;
    if (byte <= 0x20) return 0x100 + byte;
    return byte == 0xad ? 0x143 : 0x121 + (byte - 0x7f);
}

cohort_status cohort_tokenizer_spell(const cohort_tokenizer *tokenizer, int32_t id,
                                     char **out_text, size_t *out_size_bytes) {
    cohort_text text = {0};
    cohort_text_append(&text, "", 0);
    const cohort_token *token =
        id >= 0 && id < tokenizer->n_tokens ? &tokenizer->tokens[id] : NULL;
    for (size_t i = 0; token && token->bytes && i < token->size; i++) {
        utf8proc_uint8_t spelt[4];
        bool is_byte = tokenizer->byte_level && !token->added;
        if (is_byte)
            cohort_text_append(&text, (char *)spelt,
                               (size_t)utf8proc_encode_char(
                                   stand_in((unsigned char)token->bytes[i]), spelt));
        else
            cohort_text_append(&text, token->bytes + i, 1);
    }
    if (text.failed) {
        cohort_text_free(&text);
        return COHORT_FAIL(COHORT_E_NOMEM, "spelling token %d", id);
    }
    *out_text = text.bytes;
    *out_size_bytes = text.size;
    return COHORT_OK;
}
