/* SPDX-License-Identifier: Apache-2.0 */
/* support/forbid.h - a sandbox that forbids system calls, as containers have them. */
#ifndef COHORT_TEST_FORBID_H
#define COHORT_TEST_FORBID_H

#include <stdbool.h>
#include <stddef.h>

/* From now on each of the calls fails with err in this process and in what it starts.
 * False where the kernel has no seccomp. */
bool forbid_calls(const int *numbers, size_t n, int err);

#endif /* COHORT_TEST_FORBID_H */
