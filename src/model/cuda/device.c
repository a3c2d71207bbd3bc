/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/fail.h"
#include "model/cuda/cuda_internal.h"

/* ---- errors ------------------------------------------------------------------------ */

cohort_status cohort_cuda_status(const cohort_cuda_api *cuda, CUresult result,
                                 const char *what) {
    if (result == CUDA_SUCCESS) return COHORT_OK;
    const char *name = NULL;
    cuda->GetErrorName(result, &name);
    return COHORT_FAIL(result == CUDA_ERROR_OUT_OF_MEMORY ? COHORT_E_NOMEM
                                                          : COHORT_E_DEVICE,
                       "the GPU, %s: %s", what, name ? name : "an unknown error");
}

void cohort_cuda_fail(cohort_backend *backend, cohort_status status) {
    if (status >= 0 || cohort_cuda_failed(backend)) return;
    if (backend->layer >= 0)
        cohort_fail_while(status, "computing layer %d", backend->layer);
    backend->error = *cohort_last_error();
}

/* ---- memory ------------------------------------------------------------------------ */

enum { ARENA_BYTES = 32 << 20, SMALL_BYTES = 1 << 20, ALIGN = 256 };

/* Small memory comes out of arenas, which live as long as the backend. */
struct arena {
    cohort_cuda_memory memory;
    size_t used;
    struct arena *next;
};

static cohort_status map(cohort_backend *backend, size_t bytes, const char *what,
                         cohort_cuda_memory *out) {
    const cohort_cuda_api *cuda = backend->cuda;
    const CUmemAllocationProp shape = {
        .type = CU_MEM_ALLOCATION_TYPE_PINNED,
        .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
        .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = backend->device}};
    const CUmemAccessDesc access = {.location = shape.location,
                                    .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    size_t each = 0;
    COHORT_TRY(
        cohort_cuda_status(cuda,
                           cuda->MemGetAllocationGranularity(
                               &each, &shape, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED),
                           "asked for the size of its pages"));
    cohort_cuda_memory memory = {.bytes = (bytes + each - 1) / each * each};
    CUresult result = cuda->MemAddressReserve(&memory.at, memory.bytes, 0, 0, 0);
    if (result == CUDA_SUCCESS) {
        result = cuda->MemCreate(&memory.handle, memory.bytes, &shape, 0);
        if (result == CUDA_SUCCESS) {
            result = cuda->MemMap(memory.at, memory.bytes, 0, memory.handle, 0);
            if (result == CUDA_SUCCESS) {
                result = cuda->MemSetAccess(memory.at, memory.bytes, &access, 1);
                if (result == CUDA_SUCCESS) {
                    *out = memory;
                    return COHORT_OK;
                }
                cuda->MemUnmap(memory.at, memory.bytes);
            }
            cuda->MemRelease(memory.handle);
        }
        cuda->MemAddressFree(memory.at, memory.bytes);
    }
    size_t free_bytes = 0, all = 0;
    cuda->MemGetInfo_v2(&free_bytes, &all);
    cohort_status status = cohort_cuda_status(cuda, result, "asked for memory");
    cohort_fail_while(status, "allocating %zu MiB for %s (%zu of %zu MiB are free)",
                      bytes >> 20, what, free_bytes >> 20, all >> 20);
    return status;
}

static void unmap(cohort_backend *backend, cohort_cuda_memory *memory) {
    if (!memory->handle) return;
    backend->cuda->MemUnmap(memory->at, memory->bytes);
    backend->cuda->MemRelease(memory->handle);
    backend->cuda->MemAddressFree(memory->at, memory->bytes);
}

static cohort_status allocate_small(cohort_backend *backend, size_t bytes,
                                    cohort_cuda_memory *out) {
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    struct arena *arena = backend->arenas;
    if (!arena || arena->used + bytes > arena->memory.bytes) {
        arena = calloc(1, sizeof *arena);
        if (!arena) return COHORT_FAIL(COHORT_E_NOMEM, "an arena of device memory");
        cohort_status status =
            map(backend, ARENA_BYTES, "norms, biases and rows", &arena->memory);
        if (status < 0) {
            free(arena);
            return status;
        }
        arena->next = backend->arenas;
        backend->arenas = arena;
    }
    *out = (cohort_cuda_memory){.at = arena->memory.at + arena->used, .bytes = bytes};
    arena->used += bytes;
    return COHORT_OK;
}

cohort_status cohort_cuda_allocate(cohort_backend *backend, size_t bytes,
                                   const char *what, cohort_cuda_memory *out_memory) {
    *out_memory = (cohort_cuda_memory){0};
    if (bytes < SMALL_BYTES)
        COHORT_TRY(allocate_small(backend, bytes, out_memory));
    else
        COHORT_TRY(map(backend, bytes, what, out_memory));
    cohort_status status = cohort_cuda_status(
        backend->cuda,
        backend->cuda->MemsetD8Async(out_memory->at, 0, bytes, backend->stream),
        "clearing memory");
    if (status < 0) cohort_cuda_release(backend, out_memory);
    return status;
}

void cohort_cuda_release(cohort_backend *backend, cohort_cuda_memory *memory) {
    if (memory->handle) {
        backend->cuda->StreamSynchronize(backend->stream);
        cohort_cuda_graphs_forget(backend);
    }
    unmap(backend, memory);
    *memory = (cohort_cuda_memory){0};
}

cohort_status cohort_cuda_upload_rows(cohort_backend *backend, CUdeviceptr to,
                                      const void *from, int64_t n_rows, size_t row_bytes,
                                      size_t stride_bytes) {
    const CUDA_MEMCPY2D copy = {.srcMemoryType = CU_MEMORYTYPE_HOST,
                                .srcHost = from,
                                .srcPitch = stride_bytes,
                                .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                                .dstDevice = to,
                                .dstPitch = row_bytes,
                                .WidthInBytes = row_bytes,
                                .Height = (size_t)n_rows};
    COHORT_TRY(cohort_cuda_status(backend->cuda,
                                  backend->cuda->Memcpy2DAsync_v2(&copy, backend->stream),
                                  "copying weights to it"));
    return cohort_cuda_status(backend->cuda,
                              backend->cuda->StreamSynchronize(backend->stream),
                              "copying weights to it");
}

/* ---- the device -------------------------------------------------------------------- */

#define COHORT_CUDA_DECLARE(name) extern const unsigned char cohort_cubin_##name[];
COHORT_CUDA_MODULES(COHORT_CUDA_DECLARE)
#undef COHORT_CUDA_DECLARE

/* Per cent of an SM's memory that are shared: 132 KiB, or more where a kernel takes more.
 * The same for all, because an SM must be empty to change it. */
enum { CARVE_OUT = 58 };

static cohort_status load_kernels(cohort_backend *backend) {
    const cohort_cuda_api *cuda = backend->cuda;
#define COHORT_CUDA_IMAGE(name) cohort_cubin_##name,
    static const unsigned char *const images[] = {COHORT_CUDA_MODULES(COHORT_CUDA_IMAGE)};
#undef COHORT_CUDA_IMAGE
    static const struct {
        const char *name;
        cohort_cuda_module module;
    } kernels[] = {
#define COHORT_CUDA_ROW(module, name) {#name, COHORT_CUDA_MODULE_##module},
        COHORT_CUDA_KERNELS(COHORT_CUDA_ROW)
#undef COHORT_CUDA_ROW
    };
    for (int32_t i = 0; i < COHORT_CUDA_N_MODULES; i++)
        COHORT_TRY(cohort_cuda_status(
            cuda, cuda->ModuleLoadData(&backend->modules[i], images[i]),
            "loading kernels"));
    for (int32_t i = 0; i < COHORT_CUDA_N_KERNELS; i++) {
        CUfunction *kernel = &backend->kernels[i];
        int fixed = 0;
        COHORT_TRY_WHILE(
            cohort_cuda_status(
                cuda,
                cuda->ModuleGetFunction(kernel, backend->modules[kernels[i].module],
                                        kernels[i].name),
                "looking for a kernel"),
            "looking for %s", kernels[i].name);
        cuda->FuncGetAttribute(&fixed, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, *kernel);
        COHORT_TRY(cohort_cuda_status(
            cuda,
            cuda->FuncSetAttribute(*kernel,
                                   CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                   backend->most_shared - fixed),
            "giving a kernel its shared memory"));
        COHORT_TRY(cohort_cuda_status(
            cuda,
            cuda->FuncSetAttribute(
                *kernel, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, CARVE_OUT),
            "giving a kernel its shared memory"));
    }
    return COHORT_OK;
}

static cohort_status attribute(cohort_backend *backend, CUdevice_attribute which,
                               int32_t *out) {
    return cohort_cuda_status(
        backend->cuda, backend->cuda->DeviceGetAttribute(out, which, backend->device),
        "asked what it is");
}

static cohort_status describe(cohort_backend *backend) {
    char name[64] = "";
    int32_t major = 0, minor = 0;
    COHORT_TRY(cohort_cuda_status(
        backend->cuda, backend->cuda->DeviceGetName(name, sizeof name, backend->device),
        "asked for its name"));
    COHORT_TRY(attribute(backend, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &major));
    COHORT_TRY(attribute(backend, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &minor));
    snprintf(backend->name, sizeof backend->name, "%s (sm_%d%d)", name, major, minor);
    if (major != 9 || minor != 0)
        return COHORT_FAIL(COHORT_E_DEVICE,
                           "%s: kernels are there for sm_90 alone (H100, H200)",
                           backend->name);
    COHORT_TRY(attribute(backend, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
                         &backend->n_processors));
    return attribute(backend, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
                     &backend->most_shared);
}

/* How many clusters of 8 CTAs run at once, each with an SM of its own. */
static cohort_status count_clusters(cohort_backend *backend) {
    CUlaunchAttribute of = {.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
                            .value.clusterDim = {8, 1, 1}};
    const CUlaunchConfig config = {.gridDimX = 8,
                                   .gridDimY = 1,
                                   .gridDimZ = 1,
                                   .blockDimX = COHORT_CUDA_THREADS,
                                   .blockDimY = 1,
                                   .blockDimZ = 1,
                                   .sharedMemBytes =
                                       (unsigned)backend->most_shared / 2 + 1,
                                   .attrs = &of,
                                   .numAttrs = 1};
    int n = 0;
    COHORT_TRY(cohort_cuda_status(
        backend->cuda,
        backend->cuda->OccupancyMaxActiveClusters(
            &n, backend->kernels[COHORT_CUDA_linear_store_64], &config),
        "asked for its clusters"));
    backend->n_clusters = n > 0 ? n : 1;
    return COHORT_OK;
}

/* ---- which one --------------------------------------------------------------------- */

/* "GPU-5ad0..." or as much of it as is said. */
static bool is_uuid(const cohort_cuda_api *cuda, int ordinal, const char *id) {
    CUdevice device;
    CUuuid uuid;
    char text[48] = "GPU-";
    if (cuda->DeviceGet(&device, ordinal) != CUDA_SUCCESS ||
        cuda->DeviceGetUuid_v2(&uuid, device) != CUDA_SUCCESS)
        return false;
    for (size_t i = 0, used = 4; i < sizeof uuid.bytes; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%02x",
                                 i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                                 (unsigned char)uuid.bytes[i]);
    return strlen(id) > 4 && !strncasecmp(text, id, strlen(id));
}

/* Its place in CUDA_VISIBLE_DEVICES; -1: it is not there. */
static int place_in_mask(const char *mask, const char *id) {
    for (int place = 0;; place++) {
        size_t size = strcspn(mask, ",");
        if (size == strlen(id) && !strncmp(mask, id, size)) return place;
        if (!mask[size]) return -1;
        mask += size + 1;
    }
}

/* A launcher names devices as its host does, and this process may see some of them. */
static cohort_status find_device(const cohort_cuda_api *cuda, const char *id, int n,
                                 int *out_ordinal) {
    const char *mask = getenv("CUDA_VISIBLE_DEVICES");
    char *end;
    for (*out_ordinal = 0; *out_ordinal < n; ++*out_ordinal)
        if (is_uuid(cuda, *out_ordinal, id)) return COHORT_OK;
    long number = strtol(id, &end, 10);
    int ordinal = mask && *mask                      ? place_in_mask(mask, id)
                  : end != id && !*end && number < n ? (int)number
                                                     : -1;
    *out_ordinal = ordinal;
    if (ordinal >= 0 && ordinal < n) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_DEVICE,
                       "GPU %.60s is none of the %d that this process sees%s%.100s", id,
                       n, mask ? "; CUDA_VISIBLE_DEVICES is " : "", mask ? mask : "");
}

static cohort_status choose(cohort_backend *backend, const cohort_cuda_options *at,
                            int n) {
    int ordinal = at->ordinal % n;
    /* Ordinals are counted round: so many fall on this one. */
    backend->n_sharing = (at->n_ranks - ordinal + n - 1) / n;
    if (at->id && *at->id) {
        COHORT_TRY(find_device(backend->cuda, at->id, n, &ordinal));
        backend->n_sharing = at->n_sharing;
    }
    if (backend->n_sharing < 1) backend->n_sharing = 1;
    return cohort_cuda_status(backend->cuda,
                              backend->cuda->DeviceGet(&backend->device, ordinal),
                              "asked for a device");
}

cohort_status cohort_cuda_open(cohort_backend *backend, const cohort_cuda_options *at) {
    COHORT_TRY(cohort_cuda_load(&backend->cuda));
    const cohort_cuda_api *cuda = backend->cuda;
    int n = 0;
    COHORT_TRY(
        cohort_cuda_status(cuda, cuda->DeviceGetCount(&n), "asked whether it is there"));
    if (n < 1) return COHORT_FAIL(COHORT_E_DEVICE, "NVIDIA's driver shows no GPU here");
    COHORT_TRY(choose(backend, at, n));
    COHORT_TRY(describe(backend));
    COHORT_TRY(cohort_cuda_status(
        cuda, cuda->DevicePrimaryCtxRetain(&backend->context, backend->device),
        "making a context"));
    COHORT_TRY(
        cohort_cuda_status(cuda, cuda->CtxSetCurrent(backend->context), "entering it"));
    COHORT_TRY(cohort_cuda_status(
        cuda, cuda->StreamCreate(&backend->stream, CU_STREAM_NON_BLOCKING),
        "making a stream"));
    COHORT_TRY(load_kernels(backend));
    return count_clusters(backend);
}

bool cohort_cuda_is_there(void) {
    const cohort_cuda_api *cuda;
    int n = 0;
    CUdevice device;
    int32_t major = 0, minor = -1;
    if (cohort_cuda_load(&cuda) < 0 || cuda->DeviceGetCount(&n) != CUDA_SUCCESS ||
        n < 1 || cuda->DeviceGet(&device, 0) != CUDA_SUCCESS)
        return false;
    cuda->DeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                             device);
    cuda->DeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                             device);
    return major == 9 && minor == 0;
}

void cohort_cuda_close(cohort_backend *backend) {
    const cohort_cuda_api *cuda = backend->cuda;
    if (!cuda || !backend->context) return;
    if (backend->stream) cuda->StreamSynchronize(backend->stream);
    while (backend->arenas) {
        struct arena *arena = backend->arenas;
        backend->arenas = arena->next;
        unmap(backend, &arena->memory);
        free(arena);
    }
    for (int32_t i = 0; i < COHORT_CUDA_N_MODULES; i++)
        if (backend->modules[i]) cuda->ModuleUnload(backend->modules[i]);
    if (backend->stream) cuda->StreamDestroy_v2(backend->stream);
    cuda->DevicePrimaryCtxRelease_v2(backend->device);
}

/* ---- launches ---------------------------------------------------------------------- */

void cohort_cuda_launch(cohort_backend *backend, cohort_cuda_kernel kernel,
                        cohort_cuda_grid grid, void *params) {
    if (cohort_cuda_failed(backend) || grid.x < 1) return;
    CUlaunchAttribute attributes[2] = {
        {.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
         .value.programmaticStreamSerializationAllowed = 1},
        {.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
         .value.clusterDim = {(unsigned)grid.cluster, 1, 1}}};
    const CUlaunchConfig config = {.gridDimX = (unsigned)grid.x,
                                   .gridDimY = grid.y ? (unsigned)grid.y : 1,
                                   .gridDimZ = grid.z ? (unsigned)grid.z : 1,
                                   .blockDimX = grid.threads ? (unsigned)grid.threads
                                                             : COHORT_CUDA_THREADS,
                                   .blockDimY = 1,
                                   .blockDimZ = 1,
                                   .sharedMemBytes = (unsigned)grid.shared,
                                   .hStream = backend->stream,
                                   .attrs = attributes,
                                   .numAttrs = grid.cluster > 1 ? 2 : 1};
    void *arguments[] = {params};
    cohort_cuda_fail(backend, cohort_cuda_status(
                                  backend->cuda,
                                  backend->cuda->LaunchKernelEx(
                                      &config, backend->kernels[kernel], arguments, NULL),
                                  "starting a kernel"));
}
