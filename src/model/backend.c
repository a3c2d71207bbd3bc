/* SPDX-License-Identifier: Apache-2.0 */
#include "model/backend.h"

#include <string.h>

#include "base/fail.h"

cohort_status cohort_backend_find(const char *device,
                                  const cohort_backend_ops **out_ops) {
    /* The fastest first. */
    const cohort_backend_ops *const all[] = {cohort_backend_cpu()};
    bool any = !device || !*device || strcmp(device, "auto") == 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (!any && strcmp(device, all[i]->name) != 0) continue;
        *out_ops = all[i];
        return COHORT_OK;
    }
    return COHORT_FAIL(COHORT_E_INVALID,
                       "device '%.40s' is not supported (auto and cpu are)", device);
}
