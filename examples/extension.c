/* SPDX-License-Identifier: Apache-2.0 */
/* Code of one's own in every worker: says where each runs, and answers an RPC.
 *
 *   cc -shared -fPIC $(pkg-config --cflags cohort) extension.c -o extension.so
 *   EXTENSION=./extension.so:install
 *   cohort generate MODEL_DIR -tp 2 --prompt Once --worker-extension-cls $EXTENSION
 *
 * A program that holds a cohort_executor calls "whereabouts" by cohort_collective_rpc. */
#include <stdio.h>
#include <unistd.h>

#include <cohort/worker.h>

static cohort_status whereabouts(void *context, const void *payload, size_t size_bytes,
                                 cohort_worker_reply *reply) {
    (void)context;
    (void)payload;
    (void)size_bytes;
    int n =
        snprintf((char *)reply->bytes, reply->capacity_bytes, "pid %d", (int)getpid());
    reply->size_bytes = (size_t)n;
    return COHORT_OK;
}

COHORT_API cohort_status install(const cohort_worker_extension *worker);

cohort_status install(const cohort_worker_extension *worker) {
    if (worker->struct_bytes < sizeof *worker)
        return worker->fail(COHORT_E_INVALID, "made for a newer cohort than this");
    fprintf(stderr, "extension: rank %d of %d is pid %d\n", worker->rank,
            worker->world_size, (int)getpid());
    return worker->add_method(worker, "whereabouts", whereabouts, NULL);
}
