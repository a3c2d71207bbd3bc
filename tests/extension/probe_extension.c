/* SPDX-License-Identifier: Apache-2.0 */
/* What tests let workers load, as a user's file: only the public header. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cohort/worker.h"

/* One for each rank: with uni they are threads of one process. */
typedef struct context {
    int32_t rank;
    uint64_t installed_in, lives_in; /* epochs */
    cohort_status (*fail)(cohort_status code, const char *text);
} context;

static context contexts[8];

/* payload: a rank; nothing: 0. */
static bool is_meant(const void *payload, size_t size_bytes, const context *self) {
    if (!size_bytes) return !self->rank;
    return size_bytes == sizeof self->rank &&
           !memcmp(payload, &self->rank, sizeof self->rank);
}

static cohort_status call_where(void *self, const void *payload, size_t size_bytes,
                                cohort_worker_reply *reply) {
    (void)payload;
    (void)size_bytes;
    int n = snprintf((char *)reply->bytes, reply->capacity_bytes, "rank %d",
                     ((context *)self)->rank);
    reply->size_bytes = (size_t)n;
    return COHORT_OK;
}

static cohort_status call_epochs(void *self, const void *payload, size_t size_bytes,
                                 cohort_worker_reply *reply) {
    (void)payload;
    (void)size_bytes;
    const context *mine = self;
    int n = snprintf(
        (char *)reply->bytes, reply->capacity_bytes, "installed in %llu, lives in %llu",
        (unsigned long long)mine->installed_in, (unsigned long long)mine->lives_in);
    reply->size_bytes = (size_t)n;
    return COHORT_OK;
}

static void take_epoch(void *self, uint64_t epoch) {
    ((context *)self)->lives_in = epoch;
}

static cohort_status call_exit(void *self, const void *payload, size_t size_bytes,
                               cohort_worker_reply *reply) {
    (void)reply;
    if (is_meant(payload, size_bytes, self)) exit(3);
    return COHORT_OK;
}

static cohort_status call_leave(void *self, const void *payload, size_t size_bytes,
                                cohort_worker_reply *reply) {
    (void)reply;
    if (is_meant(payload, size_bytes, self)) _exit(3);
    return COHORT_OK;
}

static cohort_status call_refuse(void *self, const void *payload, size_t size_bytes,
                                 cohort_worker_reply *reply) {
    (void)payload;
    (void)size_bytes;
    (void)reply;
    return ((context *)self)->fail(COHORT_E_INVALID, "not today");
}

static cohort_status call_fail_mutely(void *self, const void *payload, size_t size_bytes,
                                      cohort_worker_reply *reply) {
    (void)reply;
    return is_meant(payload, size_bytes, self) ? COHORT_E_DEVICE : COHORT_OK;
}

COHORT_API cohort_status install(const cohort_worker_extension *worker);
COHORT_API cohort_status install_on_0_only(const cohort_worker_extension *worker);
COHORT_API cohort_status install_taken(const cohort_worker_extension *worker);

cohort_status install(const cohort_worker_extension *worker) {
    static const struct {
        const char *name;
        cohort_worker_call call;
    } all[] = {{"ext_where", call_where},   {"ext_epochs", call_epochs},
               {"ext_exit", call_exit},     {"ext_leave", call_leave},
               {"ext_refuse", call_refuse}, {"ext_fail_mutely", call_fail_mutely}};
    if (worker->rank >= (int32_t)(sizeof contexts / sizeof *contexts))
        return worker->fail(COHORT_E_INVALID, "too many ranks");
    context *self = &contexts[worker->rank];
    *self = (context){.rank = worker->rank,
                      .installed_in = worker->epoch,
                      .lives_in = worker->epoch,
                      .fail = worker->fail};
    if (worker->on_rejoin(worker, take_epoch, self) < 0 ||
        worker->on_rejoin(worker, take_epoch, self) >= 0) /* once only */
        return COHORT_E_INVALID;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (worker->add_method(worker, all[i].name, all[i].call, self) < 0)
            return COHORT_E_INVALID; /* it has said why */
    return COHORT_OK;
}

cohort_status install_on_0_only(const cohort_worker_extension *worker) {
    if (!worker->rank) return COHORT_OK;
    char text[80];
    snprintf(text, sizeof text, "no room for rank %d of %d", worker->rank,
             worker->world_size);
    return worker->fail(COHORT_E_DEVICE, text);
}

cohort_status install_taken(const cohort_worker_extension *worker) {
    return worker->add_method(worker, "check_health", call_where, NULL);
}
