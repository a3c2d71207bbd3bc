/* SPDX-License-Identifier: Apache-2.0 */
/* fakecuda/fakecuda.h - a double of libcuda, for machines without a GPU.
 *
 * The product loads it as it loads the real one.  Device memory is memory of the process;
 * kernels are C functions found by name.  Whatever is enqueued runs when the stream is
 * waited for and not before: a host that reads too early, or changes what is still to be
 * read, sees it.  Threads: a stream belongs to one thread; the rest is locked.
 */
#ifndef COHORT_TESTS_FAKECUDA_H
#define COHORT_TESTS_FAKECUDA_H

#include <stddef.h>

#include <cuda.h>

/* What a kernel does, for the whole grid at once. */
typedef void (*fake_kernel)(const void *params, const CUlaunchConfig *config);

/* NULL: there is none of that name; out_bytes: of its parameters. */
fake_kernel fake_kernel_find(const char *name, size_t *out_bytes);

/* The n-th call of this function from now on (1: the next) fails with this result; NULL:
 * none does.  A launch that fails by what runs fails where the stream is waited for. */
__attribute__((visibility("default"))) void fake_cuda_fail(const char *function, int n,
                                                           CUresult result);
/* What is there and what is not given back: allocations, contexts, streams, modules. */
__attribute__((visibility("default"))) int fake_cuda_live(void);
/* Graphs launched until now. */
__attribute__((visibility("default"))) int fake_cuda_graphs(void);
/* 0: no device. */
__attribute__((visibility("default"))) void fake_cuda_devices(int n,
                                                              int compute_capability);

#endif /* COHORT_TESTS_FAKECUDA_H */
