/* SPDX-License-Identifier: Apache-2.0 */
/* model/cuda/api.h - the driver's functions, found when the program runs.
 *
 * Nothing links with libcuda: the same program runs where there is none.  Callers write
 * cuda->MemCreate(...), which is cuMemCreate.
 *
 * Threads: any; the table never changes once it is there.
 * Errors: E_DEVICE says in one line why there is no device here. */
#ifndef COHORT_MODEL_CUDA_API_H
#define COHORT_MODEL_CUDA_API_H

#include <cuda.h>

#include "cohort/status.h"

/* X(name): every function of libcuda that is used. */
#define COHORT_CUDA_FUNCTIONS(X)   \
    X(Init)                        \
    X(GetErrorName)                \
    X(DeviceGetCount)              \
    X(DeviceGet)                   \
    X(DeviceGetName)               \
    X(DeviceGetUuid_v2)            \
    X(DeviceGetAttribute)          \
    X(DevicePrimaryCtxRetain)      \
    X(DevicePrimaryCtxRelease_v2)  \
    X(CtxSetCurrent)               \
    X(MemGetInfo_v2)               \
    X(MemAddressReserve)           \
    X(MemAddressFree)              \
    X(MemCreate)                   \
    X(MemRelease)                  \
    X(MemMap)                      \
    X(MemUnmap)                    \
    X(MemSetAccess)                \
    X(MemGetAllocationGranularity) \
    X(MemHostAlloc)                \
    X(MemFreeHost)                 \
    X(MemcpyHtoDAsync_v2)          \
    X(MemcpyDtoHAsync_v2)          \
    X(Memcpy2DAsync_v2)            \
    X(MemsetD8Async)               \
    X(ModuleLoadData)              \
    X(ModuleUnload)                \
    X(ModuleGetFunction)           \
    X(FuncGetAttribute)            \
    X(FuncSetAttribute)            \
    X(LaunchKernelEx)              \
    X(TensorMapEncodeTiled)        \
    X(OccupancyMaxActiveClusters)  \
    X(StreamCreate)                \
    X(StreamDestroy_v2)            \
    X(StreamSynchronize)           \
    X(StreamBeginCapture_v2)       \
    X(StreamEndCapture)            \
    X(GraphInstantiateWithFlags)   \
    X(GraphLaunch)                 \
    X(GraphDestroy)                \
    X(GraphExecDestroy)

typedef struct cohort_cuda_api {
#define COHORT_CUDA_FIELD(name) __typeof__(&cu##name) name;
    COHORT_CUDA_FUNCTIONS(COHORT_CUDA_FIELD)
#undef COHORT_CUDA_FIELD
} cohort_cuda_api;

/* The table, loaded and initialised by the first call; it lives as long as the process.
 */
cohort_status cohort_cuda_load(const cohort_cuda_api **out_api);

#endif /* COHORT_MODEL_CUDA_API_H */
