/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz.h - what every target is.  libFuzzer calls it with inputs of its own; seeds.c
 * calls it with those of tests/fuzz/corpus, in every build. */
#ifndef COHORT_TESTS_FUZZ_H
#define COHORT_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Set by the target where its input was taken for what it is, and not refused. */
extern bool fuzz_is_valid;

#endif
