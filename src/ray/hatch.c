/* SPDX-License-Identifier: Apache-2.0 */
#include "ray/hatch.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/condition.h"
#include "base/fail.h"
#include "cohort/clock.h"

void ray_hatch_open(ray_hatch *hatch) {
    *hatch = (ray_hatch){.copy = hatch->copy, .copy_bytes = hatch->copy_bytes};
    pthread_mutex_init(&hatch->lock, NULL);
    cohort_condition_init(&hatch->changed);
}

void ray_hatch_close(ray_hatch *hatch) {
    pthread_mutex_lock(&hatch->lock);
    hatch->is_closed = true;
    pthread_cond_broadcast(&hatch->changed);
    pthread_mutex_unlock(&hatch->lock);
}

cohort_status ray_hatch_pass(ray_hatch *hatch, const void *call, size_t call_bytes,
                             const void **out_reply, size_t *out_reply_bytes) {
    cohort_status status = COHORT_OK;
    *out_reply = NULL;
    *out_reply_bytes = 0;
    if ((uintptr_t)call % 8 || !call_bytes)
        return COHORT_FAIL(COHORT_E_INVALID, "a call of %zu bytes at %p", call_bytes,
                           call);
    pthread_mutex_lock(&hatch->lock);
    hatch->call = call;
    hatch->call_bytes = call_bytes;
    hatch->reply_bytes = 0;
    pthread_cond_broadcast(&hatch->changed);
    while (hatch->call && !hatch->is_closed)
        cohort_condition_wait(&hatch->changed, &hatch->lock, COHORT_NEVER);
    if (hatch->call) status = COHORT_FAIL(COHORT_E_CLOSED, "the rank has ended");
    hatch->call = NULL;
    *out_reply = hatch->reply_bytes ? hatch->copy : NULL;
    *out_reply_bytes = hatch->reply_bytes;
    pthread_mutex_unlock(&hatch->lock);
    return status;
}

/* ---- the rank's side ------------------------------------------------------------ */

static cohort_status read_call(void *self, int64_t deadline_ns, const void **out_bytes,
                               size_t *out_size_bytes) {
    ray_hatch *hatch = self;
    cohort_status status = COHORT_OK;
    pthread_mutex_lock(&hatch->lock);
    while (!hatch->call && !hatch->is_interrupted && status == COHORT_OK)
        if (!cohort_condition_wait(&hatch->changed, &hatch->lock, deadline_ns) &&
            !hatch->call)
            status = COHORT_FAIL(COHORT_E_TIMEOUT, "no call came");
    if (hatch->is_interrupted)
        status = COHORT_FAIL(COHORT_E_CANCELLED, "the wait for a call was interrupted");
    hatch->is_interrupted = false;
    *out_bytes = hatch->call;
    *out_size_bytes = hatch->call_bytes;
    pthread_mutex_unlock(&hatch->lock);
    return status;
}

static void end_call(void *self) {
    ray_hatch *hatch = self;
    pthread_mutex_lock(&hatch->lock);
    hatch->call = NULL;
    pthread_cond_broadcast(&hatch->changed);
    pthread_mutex_unlock(&hatch->lock);
}

/* Nobody reads the copy: the pass that will waits for this call's end. */
static cohort_status reply(void *self, const void *bytes, size_t size_bytes) {
    ray_hatch *hatch = self;
    cohort_status status = COHORT_OK;
    pthread_mutex_lock(&hatch->lock);
    if (size_bytes > hatch->copy_bytes) {
        void *grown = realloc(hatch->copy, size_bytes);
        if (grown) {
            hatch->copy = grown;
            hatch->copy_bytes = size_bytes;
        } else {
            status = COHORT_FAIL(COHORT_E_NOMEM, "allocating %zu bytes of a reply",
                                 size_bytes);
        }
    }
    if (status >= 0 && size_bytes) memcpy(hatch->copy, bytes, size_bytes);
    if (status >= 0) hatch->reply_bytes = size_bytes;
    pthread_mutex_unlock(&hatch->lock);
    return status;
}

static void interrupt(void *self) {
    ray_hatch *hatch = self;
    pthread_mutex_lock(&hatch->lock);
    hatch->is_interrupted = true;
    pthread_cond_broadcast(&hatch->changed);
    pthread_mutex_unlock(&hatch->lock);
}

const cohort_worker_carrier ray_hatch_carrier = {
    .read = read_call, .read_end = end_call, .reply = reply, .interrupt = interrupt};
