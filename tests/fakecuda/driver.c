/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fakecuda.h"

#define DRIVER __attribute__((visibility("default")))

enum { PAGE = 2 << 20, MOST_SHARED = 232448, PROCESSORS = 132 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char function[48];
    int left; /* calls until it fails; 0: never */
    CUresult result;
} fault;
static int live, n_graphs, n_devices = 1, capability = 90;

void fake_cuda_fail(const char *function, int n, CUresult result) {
    pthread_mutex_lock(&lock);
    memset(fault.function, 0, sizeof fault.function);
    if (function) strncpy(fault.function, function, sizeof fault.function - 1);
    fault.left = n, fault.result = result;
    pthread_mutex_unlock(&lock);
}

int fake_cuda_live(void) {
    pthread_mutex_lock(&lock);
    int n = live;
    pthread_mutex_unlock(&lock);
    return n;
}

int fake_cuda_graphs(void) {
    pthread_mutex_lock(&lock);
    int n = n_graphs;
    pthread_mutex_unlock(&lock);
    return n;
}

void fake_cuda_devices(int n, int compute_capability) {
    n_devices = n, capability = compute_capability;
}

static CUresult called(const char *function) {
    pthread_mutex_lock(&lock);
    bool hit =
        fault.left > 0 && strcmp(fault.function, function) == 0 && --fault.left == 0;
    CUresult result = hit ? fault.result : CUDA_SUCCESS;
    pthread_mutex_unlock(&lock);
    return result;
}

static void count(int change) {
    pthread_mutex_lock(&lock);
    live += change;
    pthread_mutex_unlock(&lock);
}

/* Fails where the test said so. */
#define CALL(function)                           \
    do {                                         \
        CUresult fails = called(#function);      \
        if (fails != CUDA_SUCCESS) return fails; \
    } while (0)

/* ---- what is there ----------------------------------------------------------------- */

DRIVER CUresult cuInit(unsigned flags) {
    (void)flags;
    CALL(Init);
    return CUDA_SUCCESS;
}
DRIVER CUresult cuGetErrorName(CUresult error, const char **out) {
    *out = error == CUDA_ERROR_OUT_OF_MEMORY     ? "CUDA_ERROR_OUT_OF_MEMORY"
           : error == CUDA_ERROR_ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS"
                                                 : "CUDA_ERROR_UNKNOWN";
    return CUDA_SUCCESS;
}
DRIVER CUresult cuDeviceGetCount(int *out) {
    CALL(DeviceGetCount);
    *out = n_devices;
    return CUDA_SUCCESS;
}
DRIVER CUresult cuDeviceGet(CUdevice *out, int ordinal) {
    CALL(DeviceGet);
    if (ordinal < 0 || ordinal >= n_devices) return CUDA_ERROR_INVALID_DEVICE;
    *out = ordinal;
    return CUDA_SUCCESS;
}
DRIVER CUresult cuDeviceGetName(char *name, int size, CUdevice device) {
    CALL(DeviceGetName);
    snprintf(name, (size_t)size, "double %d", device);
    return CUDA_SUCCESS;
}
DRIVER CUresult cuDeviceGetUuid_v2(CUuuid *out, CUdevice device) {
    CALL(DeviceGetUuid_v2);
    memset(out->bytes, 0x10 + device, sizeof out->bytes);
    return CUDA_SUCCESS;
}
DRIVER CUresult cuDeviceGetAttribute(int *out, CUdevice_attribute which,
                                     CUdevice device) {
    (void)device;
    CALL(DeviceGetAttribute);
    switch (which) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *out = capability / 10; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *out = capability % 10; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *out = PROCESSORS; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *out = MOST_SHARED; break;
    default: return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}
DRIVER CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device) {
    (void)device;
    CALL(DevicePrimaryCtxRetain);
    *out = (CUcontext)(uintptr_t)1;
    count(1);
    return CUDA_SUCCESS;
}
DRIVER CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    (void)device;
    count(-1);
    return CUDA_SUCCESS;
}
DRIVER CUresult cuCtxSetCurrent(CUcontext context) {
    (void)context;
    CALL(CtxSetCurrent);
    return CUDA_SUCCESS;
}

/* ---- memory ------------------------------------------------------------------------ */

DRIVER CUresult cuMemGetInfo_v2(size_t *out_free, size_t *out_all) {
    *out_free = (size_t)1 << 30, *out_all = (size_t)2 << 30;
    return CUDA_SUCCESS;
}
DRIVER CUresult cuMemGetAllocationGranularity(size_t *out,
                                              const CUmemAllocationProp *shape,
                                              CUmemAllocationGranularity_flags flags) {
    (void)flags;
    CALL(MemGetAllocationGranularity);
    if (shape->requestedHandleTypes != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return CUDA_ERROR_INVALID_VALUE;
    *out = PAGE;
    return CUDA_SUCCESS;
}
DRIVER CUresult cuMemAddressReserve(CUdeviceptr *out, size_t bytes, size_t align,
                                    CUdeviceptr at, unsigned long long flags) {
    (void)align, (void)at, (void)flags;
    CALL(MemAddressReserve);
    void *memory =
        mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
    *out = (CUdeviceptr)memory;
    count(1);
    return CUDA_SUCCESS;
}
DRIVER CUresult cuMemAddressFree(CUdeviceptr at, size_t bytes) {
    munmap((void *)at, bytes);
    count(-1);
    return CUDA_SUCCESS;
}
DRIVER CUresult cuMemCreate(CUmemGenericAllocationHandle *out, size_t bytes,
                            const CUmemAllocationProp *shape, unsigned long long flags) {
    (void)shape, (void)flags;
    CALL(MemCreate);
    if (bytes % PAGE) return CUDA_ERROR_INVALID_VALUE;
    *out = bytes;
    count(1);
    return CUDA_SUCCESS;
}
DRIVER CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
    (void)handle;
    count(-1);
    return CUDA_SUCCESS;
}
DRIVER CUresult cuMemMap(CUdeviceptr at, size_t bytes, size_t offset,
                         CUmemGenericAllocationHandle handle, unsigned long long flags) {
    (void)at, (void)offset, (void)flags;
    CALL(MemMap);
    return bytes == handle ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
DRIVER CUresult cuMemUnmap(CUdeviceptr at, size_t bytes) {
    mprotect((void *)at, bytes, PROT_NONE);
    return CUDA_SUCCESS;
}
DRIVER CUresult cuMemSetAccess(CUdeviceptr at, size_t bytes,
                               const CUmemAccessDesc *access, size_t n) {
    (void)access, (void)n;
    CALL(MemSetAccess);
    /* Whoever relies on zeros that it did not write will see. */
    if (mprotect((void *)at, bytes, PROT_READ | PROT_WRITE) < 0)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memset((void *)at, 0x7f, bytes < PAGE ? bytes : PAGE);
    return CUDA_SUCCESS;
}
DRIVER CUresult cuMemHostAlloc(void **out, size_t bytes, unsigned flags) {
    (void)flags;
    CALL(MemHostAlloc);
    *out = malloc(bytes);
    if (!*out) return CUDA_ERROR_OUT_OF_MEMORY;
    count(1);
    return CUDA_SUCCESS;
}
DRIVER CUresult cuMemFreeHost(void *memory) {
    free(memory);
    count(-1);
    return CUDA_SUCCESS;
}

/* ---- streams ----------------------------------------------------------------------- */

/* What is still to be done: a kernel, a copy of rows, or a fill. */
struct task {
    struct task *next;
    fake_kernel kernel;
    CUlaunchConfig config;
    char *to;
    const char *from; /* NULL: fill */
    size_t bytes, rows, to_pitch, from_pitch;
    int value;
    CUresult result; /* what waiting for it says */
    size_t params_bytes;
    _Alignas(16) unsigned char params[];
};

struct tasks {
    struct task *first, **last;
};

/* Recorded; and what can be launched of it. */
struct CUgraph_st {
    struct tasks tasks;
};
struct CUgraphExec_st {
    struct tasks tasks;
};

struct CUstream_st {
    struct tasks tasks;
    CUgraph records; /* NULL: it does not */
    CUresult broken; /* for good, as on a device */
};

static void add(struct tasks *tasks, struct task *new) {
    *tasks->last = new;
    tasks->last = &new->next;
}

static void drop(struct tasks *tasks) {
    while (tasks->first) {
        struct task *task = tasks->first;
        tasks->first = task->next;
        free(task);
    }
    tasks->last = &tasks->first;
}

static bool add_copies(struct tasks *to, const struct tasks *from) {
    for (const struct task *task = from->first; task; task = task->next) {
        size_t bytes = sizeof *task + task->params_bytes;
        struct task *same = malloc(bytes);
        if (!same) return false;
        memcpy(same, task, bytes);
        same->next = NULL;
        add(to, same);
    }
    return true;
}

static CUresult push(CUstream stream, struct task *new) {
    if (!new) return CUDA_ERROR_OUT_OF_MEMORY;
    add(stream->records ? &stream->records->tasks : &stream->tasks, new);
    return CUDA_SUCCESS;
}

DRIVER CUresult cuStreamCreate(CUstream *out, unsigned flags) {
    (void)flags;
    CALL(StreamCreate);
    CUstream stream = calloc(1, sizeof *stream);
    if (!stream) return CUDA_ERROR_OUT_OF_MEMORY;
    stream->tasks.last = &stream->tasks.first;
    *out = stream;
    count(1);
    return CUDA_SUCCESS;
}

static void run(const struct task *task) {
    if (task->kernel)
        task->kernel(task->params, &task->config);
    else
        for (size_t r = 0; r < task->rows; r++) {
            char *to = task->to + r * task->to_pitch;
            if (task->from)
                memcpy(to, task->from + r * task->from_pitch, task->bytes);
            else
                memset(to, task->value, task->bytes);
        }
}

DRIVER CUresult cuStreamSynchronize(CUstream stream) {
    CUresult fails = called("StreamSynchronize");
    if (fails != CUDA_SUCCESS) stream->broken = fails;
    if (stream->records) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    for (struct task *task = stream->tasks.first; task; task = task->next) {
        if (stream->broken == CUDA_SUCCESS) stream->broken = task->result;
        if (stream->broken == CUDA_SUCCESS) run(task);
    }
    drop(&stream->tasks);
    return stream->broken;
}
DRIVER CUresult cuStreamDestroy_v2(CUstream stream) {
    cuStreamSynchronize(stream);
    drop(&stream->tasks);
    free(stream);
    count(-1);
    return CUDA_SUCCESS;
}

static CUresult copy(CUstream stream, void *to, size_t to_pitch, const void *from,
                     size_t from_pitch, size_t bytes, size_t rows) {
    struct task *task = calloc(1, sizeof *task);
    if (task) {
        task->to = to, task->from = from, task->bytes = bytes, task->rows = rows;
        task->to_pitch = to_pitch, task->from_pitch = from_pitch;
    }
    return push(stream, task);
}
DRIVER CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes,
                                     CUstream stream) {
    CALL(MemcpyHtoDAsync_v2);
    return copy(stream, (void *)to, 0, from, 0, bytes, 1);
}
DRIVER CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes,
                                     CUstream stream) {
    CALL(MemcpyDtoHAsync_v2);
    return copy(stream, to, 0, (const void *)from, 0, bytes, 1);
}
DRIVER CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *of, CUstream stream) {
    CALL(Memcpy2DAsync_v2);
    return copy(stream, (void *)of->dstDevice, of->dstPitch, of->srcHost, of->srcPitch,
                of->WidthInBytes, of->Height);
}
DRIVER CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes,
                                CUstream stream) {
    CALL(MemsetD8Async);
    struct task *task = calloc(1, sizeof *task);
    if (task)
        task->to = (char *)to, task->bytes = bytes, task->rows = 1, task->value = value;
    return push(stream, task);
}

/* ---- graphs ------------------------------------------------------------------------ */

static CUgraph new_graph(void) {
    CUgraph graph = calloc(1, sizeof *graph);
    if (!graph) return NULL;
    graph->tasks.last = &graph->tasks.first;
    count(1);
    return graph;
}

DRIVER CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
    (void)mode;
    CALL(StreamBeginCapture_v2);
    if (stream->records) return CUDA_ERROR_ILLEGAL_STATE;
    stream->records = new_graph();
    return stream->records ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
/* A recording that fails is over, too. */
DRIVER CUresult cuStreamEndCapture(CUstream stream, CUgraph *out) {
    CUgraph graph = stream->records;
    stream->records = NULL;
    *out = NULL;
    if (!graph) return CUDA_ERROR_ILLEGAL_STATE;
    CUresult fails = called("StreamEndCapture");
    if (fails == CUDA_SUCCESS)
        *out = graph;
    else
        cuGraphDestroy(graph);
    return fails;
}
DRIVER CUresult cuGraphDestroy(CUgraph graph) {
    drop(&graph->tasks);
    free(graph);
    count(-1);
    return CUDA_SUCCESS;
}
DRIVER CUresult cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph graph,
                                            unsigned long long flags) {
    (void)flags;
    CALL(GraphInstantiateWithFlags);
    CUgraphExec exec = calloc(1, sizeof *exec);
    if (!exec) return CUDA_ERROR_OUT_OF_MEMORY;
    exec->tasks.last = &exec->tasks.first;
    count(1);
    if (!add_copies(&exec->tasks, &graph->tasks)) {
        cuGraphExecDestroy(exec);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *out = exec;
    return CUDA_SUCCESS;
}
DRIVER CUresult cuGraphExecDestroy(CUgraphExec exec) {
    drop(&exec->tasks);
    free(exec);
    count(-1);
    return CUDA_SUCCESS;
}
DRIVER CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
    CALL(GraphLaunch);
    pthread_mutex_lock(&lock);
    n_graphs++;
    pthread_mutex_unlock(&lock);
    if (stream->records) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    return add_copies(&stream->tasks, &exec->tasks) ? CUDA_SUCCESS
                                                    : CUDA_ERROR_OUT_OF_MEMORY;
}

/* ---- kernels ----------------------------------------------------------------------- */

struct CUfunc_st {
    fake_kernel run;
    size_t bytes;
    int most_shared;
};

DRIVER CUresult cuModuleLoadData(CUmodule *out, const void *image) {
    CALL(ModuleLoadData);
    if (memcmp(image, "\177ELF", 4) != 0) return CUDA_ERROR_INVALID_IMAGE;
    *out = (CUmodule)(uintptr_t)1;
    count(1);
    return CUDA_SUCCESS;
}
DRIVER CUresult cuModuleUnload(CUmodule module) {
    (void)module;
    count(-1);
    return CUDA_SUCCESS;
}
DRIVER CUresult cuModuleGetFunction(CUfunction *out, CUmodule module, const char *name) {
    static struct CUfunc_st all[64];
    static char names[64][48];
    (void)module;
    CALL(ModuleGetFunction);
    CUresult result = CUDA_ERROR_NOT_FOUND;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < 64 && result != CUDA_SUCCESS; i++) {
        if (*names[i] && strcmp(names[i], name) != 0) continue;
        strncpy(names[i], name, sizeof names[i] - 1);
        all[i].run = fake_kernel_find(name, &all[i].bytes);
        *out = &all[i];
        result = all[i].run ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
        if (!all[i].run) break;
    }
    pthread_mutex_unlock(&lock);
    return result;
}
DRIVER CUresult cuFuncGetAttribute(int *out, CUfunction_attribute which,
                                   CUfunction function) {
    (void)which, (void)function;
    *out = 0;
    return CUDA_SUCCESS;
}
DRIVER CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute which,
                                   int value) {
    CALL(FuncSetAttribute);
    if (which == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
        if (value > MOST_SHARED) return CUDA_ERROR_INVALID_VALUE;
        function->most_shared = value;
    }
    return CUDA_SUCCESS;
}
DRIVER CUresult cuOccupancyMaxActiveClusters(int *out, CUfunction function,
                                             const CUlaunchConfig *config) {
    (void)function, (void)config;
    CALL(OccupancyMaxActiveClusters);
    *out = 15;
    return CUDA_SUCCESS;
}
/* What the real one would refuse is; the kernels' doubles read rows where they lie. */
DRIVER CUresult cuTensorMapEncodeTiled(
    CUtensorMap *out, CUtensorMapDataType type, cuuint32_t rank, void *at,
    const cuuint64_t *size, const cuuint64_t *stride, const cuuint32_t *box,
    const cuuint32_t *each, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
    CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
    (void)interleave, (void)promotion, (void)fill;
    CALL(TensorMapEncodeTiled);
    memset(out, 0, sizeof *out);
    cuuint64_t bytes = type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16  ? 2
                       : type == CU_TENSOR_MAP_DATA_TYPE_FLOAT64 ? 8
                                                                 : 0;
    bool fits = swizzle != CU_TENSOR_MAP_SWIZZLE_128B || box[0] * bytes <= 128;
    if ((uintptr_t)out % 64 || (uintptr_t)at % 16 || rank != 2 || !bytes || !fits ||
        box[0] * bytes % 16 || !box[0] || !box[1] || box[0] > 256 || box[1] > 256 ||
        each[0] != 1 || each[1] != 1 || !size[0] || !size[1] || stride[0] % 16 ||
        stride[0] < size[0] * bytes)
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}
DRIVER CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function,
                                 void **params, void **extra) {
    (void)extra;
    if (config->gridDimX < 1 || config->gridDimY < 1 || config->gridDimZ < 1 ||
        config->gridDimY > 65535 || config->gridDimZ > 65535 ||
        config->blockDimX > 1024 ||
        config->sharedMemBytes > (unsigned)function->most_shared)
        return CUDA_ERROR_INVALID_VALUE;
    struct task *task = calloc(1, sizeof *task + function->bytes);
    if (!task) return CUDA_ERROR_OUT_OF_MEMORY;
    task->kernel = function->run, task->config = *config;
    task->params_bytes = function->bytes;
    memcpy(task->params, params[0], function->bytes);
    task->result = called("LaunchKernelEx");
    return push(config->hStream, task);
}
