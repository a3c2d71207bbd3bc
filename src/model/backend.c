/* SPDX-License-Identifier: Apache-2.0 */
#include "model/backend.h"

#include <string.h>

#include "base/fail.h"

cohort_status cohort_backend_find(const char *device,
                                  const cohort_backend_ops **out_ops) {
    bool any = !device || !*device || strcmp(device, "auto") == 0;
#if COHORT_HAVE_CUDA
    if (any ? cohort_cuda_is_there() : strcmp(device, "cuda") == 0) {
        *out_ops = cohort_backend_cuda();
        return COHORT_OK;
    }
#endif
    if (any || strcmp(device, "cpu") == 0) {
        *out_ops = cohort_backend_cpu();
        return COHORT_OK;
    }
    if (!COHORT_HAVE_CUDA && strcmp(device, "cuda") == 0)
        return COHORT_FAIL(
            COHORT_E_INVALID,
            "device 'cuda': this cohort was built without it (nvcc was not "
            "there; cmake -DCOHORT_CUDA=ON says what is missing)");
    return COHORT_FAIL(COHORT_E_INVALID,
                       "device '%.40s' is not supported (auto, cpu and cuda are)",
                       device);
}
