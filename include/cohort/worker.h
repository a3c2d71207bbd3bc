/* SPDX-License-Identifier: Apache-2.0 */
/* cohort/worker.h - code of yours in every worker: a shared object that workers load.
 *
 *   cc -shared -fPIC mine.c -o mine.so
 *   cohort serve MODEL --worker-extension-cls ./mine.so:install
 *
 * Each rank calls the function named behind the colon once, when the ranks are connected
 * and before the model is opened: to set the process up, and to add methods that
 * cohort_collective_rpc then reaches.  This header is all that it needs; it links
 * nothing.  Over Ray the file is to be under the same path on every node.
 *
 * Ownership: the extension struct is lent for that one call.  The file is never unloaded.
 * Threads:   all calls of a rank come on one thread; with "uni" each rank is a thread of
 *            one process, and the function is called once for each of them.
 * Errors:    a status below 0.  Where fail() was called, its code and text are what the
 *            caller reads, whatever the status; else the status itself.
 */
#ifndef COHORT_WORKER_EXTENSION_H
#define COHORT_WORKER_EXTENSION_H

#include <stddef.h>
#include <stdint.h>

#include "cohort/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where a call writes its reply: at bytes, 8-byte aligned, up to capacity_bytes;
 * size_bytes is 0 at first. */
typedef struct cohort_worker_reply {
    uint8_t *bytes;
    size_t capacity_bytes;
    size_t size_bytes;
} cohort_worker_reply;

/* COHORT_E_INVALID means that the call is refused and nothing was done: it fails the
 * caller's call only.  Any other error fails the rank and with it the executor. */
typedef cohort_status (*cohort_worker_call)(void *context, const void *payload,
                                            size_t size_bytes,
                                            cohort_worker_reply *reply);

typedef void (*cohort_worker_rejoined)(void *context, uint64_t epoch);

typedef struct cohort_worker_extension {
    size_t struct_bytes; /* of the build that runs; fields are only ever added */
    int32_t rank;
    int32_t world_size;
    int32_t local_rank; /* among the ranks of this host */
    int32_t local_world_size;
    int32_t tp_rank;
    int32_t tp;
    int32_t pp_rank;
    int32_t pp;
    const char *const *config; /* "key=value" of the engine, NULL-terminated */
    /* A name of up to 63 characters that no method has; copied. */
    cohort_status (*add_method)(const struct cohort_worker_extension *self,
                                const char *name, cohort_worker_call call, void *context);
    /* return worker->fail(COHORT_E_INVALID, "no layer of that number"); from methods,
     * too: keep the pointer. */
    cohort_status (*fail)(cohort_status code, const char *text);
    void *own; /* the worker's */
    /* 1 when an engine starts.  More: this rank takes the place of one that died, and has
     * been told none of the calls that others had. */
    uint64_t epoch;
    /* Once: to be called whenever this rank lives on while another is replaced; calls
     * that were under way then may have ended anywhere. */
    cohort_status (*on_rejoin)(const struct cohort_worker_extension *self,
                               cohort_worker_rejoined rejoined, void *context);
} cohort_worker_extension;

/* What SYMBOL is; COHORT_API before it where a build hides what is not marked. */
typedef cohort_status (*cohort_worker_extension_install)(
    const cohort_worker_extension *worker);

#ifdef __cplusplus
}
#endif

#endif /* COHORT_WORKER_EXTENSION_H */
