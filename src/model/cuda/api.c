/* SPDX-License-Identifier: Apache-2.0 */
#include "model/cuda/api.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "base/fail.h"

static struct {
    pthread_mutex_t lock;
    bool loaded;
    cohort_cuda_api api;
} driver = {.lock = PTHREAD_MUTEX_INITIALIZER};

static cohort_status find_functions(void *library) {
#define COHORT_CUDA_FIND(name)                                                         \
    {                                                                                  \
        void *symbol = dlsym(library, "cu" #name);                                     \
        if (!symbol)                                                                   \
            return COHORT_FAIL(COHORT_E_DEVICE,                                        \
                               "NVIDIA's driver is too old: libcuda.so.1 has no cu%s", \
                               #name);                                                 \
        memcpy(&driver.api.name, &symbol, sizeof symbol);                              \
    }
    COHORT_CUDA_FUNCTIONS(COHORT_CUDA_FIND)
#undef COHORT_CUDA_FIND
    return COHORT_OK;
}

static cohort_status load(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return COHORT_FAIL(COHORT_E_DEVICE, "no NVIDIA driver here: %s", dlerror());
    cohort_status status = find_functions(library);
    if (status == COHORT_OK) {
        CUresult result = driver.api.Init(0);
        const char *name = NULL;
        if (result != CUDA_SUCCESS) {
            driver.api.GetErrorName(result, &name);
            status = COHORT_FAIL(COHORT_E_DEVICE, "NVIDIA's driver does not start: %s",
                                 name ? name : "an unknown error");
        }
    }
    if (status != COHORT_OK) dlclose(library);
    return status;
}

cohort_status cohort_cuda_load(const cohort_cuda_api **out_api) {
    pthread_mutex_lock(&driver.lock);
    cohort_status status = driver.loaded ? COHORT_OK : load();
    if (status == COHORT_OK) driver.loaded = true;
    pthread_mutex_unlock(&driver.lock);
    if (status == COHORT_OK) *out_api = &driver.api;
    return status;
}
