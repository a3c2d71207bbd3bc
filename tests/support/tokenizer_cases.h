/* SPDX-License-Identifier: Apache-2.0 */
/* support/tokenizer_cases.h - holds a tokenizer to cases that scripts/tokenizer_cases.py
 * wrote: encoding with and without special tokens, decoding with and without them, and
 * the same decoding bit by bit.
 */
#ifndef COHORT_TEST_TOKENIZER_CASES_H
#define COHORT_TEST_TOKENIZER_CASES_H

#include "text/tokenizer.h"

/* Checks every case of dir/cases.jsonl against dir/tokenizer.json; says on stderr what
 * differs. The number of cases that differ, at once 20 at most; *out_count: how many were
 * checked. */
int test_tokenizer_cases(const char *dir, int *out_count);

/* Decodes ids one by one.  The pieces must be UTF-8; what they add up to is malloc'ed. */
char *test_detokenize(const cohort_tokenizer *tokenizer, const int32_t *ids, size_t count,
                      bool skip_special, size_t *out_size);

#endif /* COHORT_TEST_TOKENIZER_CASES_H */
