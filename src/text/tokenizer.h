/* SPDX-License-Identifier: Apache-2.0 */
/* text/tokenizer.h - tokenizer.json, both directions.
 *
 * Byte-level BPE (GPT-2 and its heirs) and SentencePiece-style BPE with byte fallback, as
 * the `tokenizers` library runs them.  What a file asks for and we do not have is refused
 * by name when it is opened, never approximated.
 *
 * Ownership: results are allocated with malloc; the caller frees them.
 * Threads:   a tokenizer is immutable after open: any number of threads; a detokenizer
 *            belongs to one.
 * Errors:    COHORT_E_INVALID names the file, the component and the type.
 */
#ifndef COHORT_TEXT_TOKENIZER_H
#define COHORT_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/status.h"

typedef struct cohort_tokenizer cohort_tokenizer;

/* tokenizer.json as transformers 5 reads it: with what tokenizer_config.json and
 * config.json, where there are such, say of the class and of added tokens. */
cohort_status cohort_tokenizer_open(const char *model_dir,
                                    cohort_tokenizer **out_tokenizer);
/* The same from memory; name is used in messages. */
cohort_status cohort_tokenizer_parse(const char *json, size_t size_bytes,
                                     const char *name, cohort_tokenizer **out_tokenizer);
void cohort_tokenizer_close(cohort_tokenizer *tokenizer);

/* One more than the largest id. */
int32_t cohort_tokenizer_vocab_size(const cohort_tokenizer *tokenizer);
/* -1 where the token is unknown. */
int32_t cohort_tokenizer_find(const cohort_tokenizer *tokenizer, const char *token);

/* text need not be valid UTF-8 (invalid bytes become U+FFFD, as a client's JSON would;
 * but C0 80, as in modified UTF-8, is a NUL).
 * Work that is cancelled (base/cancel.h) ends with COHORT_E_CLOSED.
 * special: let the post-processor add its tokens (<s> and the like). */
cohort_status cohort_tokenizer_encode(const cohort_tokenizer *tokenizer, const char *text,
                                      size_t size_bytes, bool special, int32_t **out_ids,
                                      size_t *out_count);
cohort_status cohort_tokenizer_decode(const cohort_tokenizer *tokenizer,
                                      const int32_t *ids, size_t count, bool skip_special,
                                      char **out_text, size_t *out_size_bytes);
/* One token as the vocabulary spells it, stand-in characters and all: "Ġthe"; "" where
 * the id is unused. */
cohort_status cohort_tokenizer_spell(const cohort_tokenizer *tokenizer, int32_t id,
                                     char **out_text, size_t *out_size_bytes);

/* What a token writes in the middle of a text: maybe part of a character.  "" for added
 * tokens, special or not, and where the id is unused. */
cohort_status cohort_tokenizer_token_bytes(const cohort_tokenizer *tokenizer, int32_t id,
                                           char **out_bytes, size_t *out_size_bytes);

/* Incremental decoding: what each further token adds to the text.  Never half a
 * character: bytes that may still become one are held back until they do or cannot; of
 * those at the end there is no text, as in vLLM. */
typedef struct cohort_detokenizer cohort_detokenizer;

/* prompt: the tokens before the output, or none: only at the very beginning of a text is
 * a leading space dropped. */
cohort_status cohort_detokenizer_create(const cohort_tokenizer *tokenizer,
                                        const int32_t *prompt, size_t count,
                                        bool skip_special,
                                        cohort_detokenizer **out_detokenizer);
/* out_text is owned by the detokenizer and valid until its next call. */
cohort_status cohort_detokenizer_append(cohort_detokenizer *detokenizer, int32_t id,
                                        const char **out_text, size_t *out_size_bytes);
void cohort_detokenizer_destroy(cohort_detokenizer *detokenizer);

#endif /* COHORT_TEXT_TOKENIZER_H */
