/* SPDX-License-Identifier: Apache-2.0 */
/* worker/extension.h - loads what cohort/worker.h describes, and keeps its methods.
 *
 * Threads: one, the rank's.
 */
#ifndef COHORT_WORKER_EXTENSION_TABLE_H
#define COHORT_WORKER_EXTENSION_TABLE_H

#include <stdbool.h>

#include "cohort/worker.h"
#include "wire/frame.h"
#include "worker/info.h"

typedef struct cohort_extension_method {
    char name[COHORT_METHOD_CHARS + 1];
    cohort_worker_call call;
    void *context;
} cohort_extension_method;

enum { COHORT_EXTENSION_MAX_METHODS = 64 };

typedef struct cohort_extension {
    cohort_extension_method methods[COHORT_EXTENSION_MAX_METHODS];
    int32_t n_methods;
    /* Names that the worker's own methods have. */
    bool (*is_taken)(cohort_worker *worker, const char *name);
    cohort_worker *worker;
    cohort_worker_rejoined rejoined; /* NULL: nobody asked */
    void *rejoined_context;
} cohort_extension;

/* spec: "LIB.so:SYMBOL". */
cohort_status cohort_extension_load(cohort_extension *extension, const char *spec,
                                    const cohort_worker_info *info);
/* NULL where there is none of that name. */
const cohort_extension_method *cohort_extension_find(const cohort_extension *extension,
                                                     const char *name);
/* Calls it; an error without words is given some. */
cohort_status cohort_extension_call(const cohort_extension_method *method,
                                    const void *payload, size_t size_bytes,
                                    cohort_worker_reply *reply);

/* The rank has come into that epoch alive. */
void cohort_extension_rejoined(const cohort_extension *extension, uint64_t epoch);

#endif /* COHORT_WORKER_EXTENSION_TABLE_H */
