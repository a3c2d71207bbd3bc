/* SPDX-License-Identifier: Apache-2.0 */
/* support/mock_device.h - a backend as unlike the CPU's as a GPU's is, on the CPU.
 *
 * Operations run when step_end or a transfer waits for them, and not before, on a thread
 * of the device; what the host told by address may be gone by then, and the step's arrays
 * are overwritten.  Handles are small numbers: who takes one for an address faults.
 * Buffers begin as NaNs.  What fails in an operation surfaces where the host waits.
 */
#ifndef COHORT_TESTS_MOCK_DEVICE_H
#define COHORT_TESTS_MOCK_DEVICE_H

#include "model/backend.h"

const cohort_backend_ops *mock_device(void);
/* The same with all operations that are two or three in one; what lies between those is
 * NaN afterwards. */
const cohort_backend_ops *mock_device_that_fuses(void);

/* The operation that is the n-th from now on (1: the next) fails, on any mock device.  0:
 * none does. */
void mock_device_fail_at(int64_t n);

#endif /* COHORT_TESTS_MOCK_DEVICE_H */
