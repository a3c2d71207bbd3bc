/* SPDX-License-Identifier: Apache-2.0 */
#include "ray/relay.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "cohort/clock.h"
#include "cohort/queue.h"
#include "worker/worker.h"

_Static_assert(sizeof(cohort_queue_handle) * 2 + 1 == COHORT_RAY_HANDLE_HEX_BYTES,
               "a handle in hex");

struct cohort_ray_relay {
    cohort_queue *calls, *replies;
};

static cohort_status open_ends(cohort_ray_relay *relay, const char *calls,
                               uint64_t max_reply_bytes, char *out_replies) {
    cohort_queue_handle handle;
    size_t size = 0;
    if (sodium_init() < 0)
        return COHORT_FAIL(COHORT_E_IO, "libsodium has no random numbers");
    if (sodium_hex2bin(handle.bytes, sizeof handle.bytes, calls, strlen(calls), NULL,
                       &size, NULL) ||
        size != sizeof handle.bytes)
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "what the sidecar was told is no queue's handle");
    cohort_queue_options options =
        cohort_worker_queue_options("replies of the graph", max_reply_bytes, 1);
    COHORT_TRY(cohort_queue_attach(&handle, 0, &relay->calls));
    COHORT_TRY(cohort_queue_create(&options, &relay->replies));
    COHORT_TRY(cohort_queue_export(relay->replies, &handle));
    sodium_bin2hex(out_replies, COHORT_RAY_HANDLE_HEX_BYTES, handle.bytes,
                   sizeof handle.bytes);
    return COHORT_OK;
}

cohort_ray_relay *cohort_ray_relay_open(const char *calls, uint64_t max_reply_bytes,
                                        char *out_replies) {
    cohort_ray_relay *relay = calloc(1, sizeof *relay);
    if (!relay) {
        COHORT_FAIL(COHORT_E_NOMEM, "allocating a relay");
        return NULL;
    }
    if (open_ends(relay, calls, max_reply_bytes, out_replies) >= 0) return relay;
    cohort_ray_relay_close(relay);
    return NULL;
}

int cohort_ray_relay_await(cohort_ray_relay *relay, int64_t timeout_ms) {
    int64_t deadline_ns = timeout_ms > 0 ? cohort_deadline_ms(timeout_ms) : COHORT_NEVER;
    COHORT_TRY(cohort_queue_wait_ready(relay->calls, deadline_ns));
    return cohort_queue_wait_ready(relay->replies, deadline_ns);
}

int cohort_ray_relay_read(cohort_ray_relay *relay, const void **out_bytes,
                          size_t *out_size_bytes) {
    return cohort_queue_read_begin(relay->calls, COHORT_NEVER, out_bytes, out_size_bytes);
}

void cohort_ray_relay_read_end(cohort_ray_relay *relay) {
    cohort_queue_read_end(relay->calls);
}

int cohort_ray_relay_reply(cohort_ray_relay *relay, const void *bytes,
                           size_t size_bytes) {
    return cohort_queue_write(relay->replies, bytes, size_bytes, COHORT_NEVER);
}

void cohort_ray_relay_close(cohort_ray_relay *relay) {
    if (!relay) return;
    cohort_queue_close(relay->calls);
    cohort_queue_close(relay->replies);
    free(relay);
}

const char *cohort_ray_relay_error(void) { return cohort_last_error()->message; }
