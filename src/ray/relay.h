/* SPDX-License-Identifier: Apache-2.0 */
/* ray/relay.h - what python/cohort_ray/graph.py calls through ctypes: the sidecar's ends
 * of the two queues between it and the driver.
 *
 *   driver --calls--> sidecar ~~compiled graph of Ray's~~> ranks ~~> sidecar --replies-->
 *
 * Threads: await by one; then read and read_end by one, reply by another, at the same
 * time.  Errors: a status below 0, and its text on the thread that got it.
 */
#ifndef COHORT_RAY_RELAY_H
#define COHORT_RAY_RELAY_H

#include <stddef.h>
#include <stdint.h>

#include "cohort/status.h"

enum { COHORT_RAY_HANDLE_HEX_BYTES = 513 }; /* of a queue's handle, with the NUL */

typedef struct cohort_ray_relay cohort_ray_relay;

/* calls: the driver's handle.  out_replies holds COHORT_RAY_HANDLE_HEX_BYTES.  NULL: an
 * error. */
COHORT_API cohort_ray_relay *cohort_ray_relay_open(const char *calls,
                                                   uint64_t max_reply_bytes,
                                                   char *out_replies);
/* Until the driver has connected, too, for timeout_ms; 0: without end. */
COHORT_API int cohort_ray_relay_await(cohort_ray_relay *relay, int64_t timeout_ms);
/* The next call, lent until read_end; COHORT_E_CLOSED once the driver has closed. */
COHORT_API int cohort_ray_relay_read(cohort_ray_relay *relay, const void **out_bytes,
                                     size_t *out_size_bytes);
COHORT_API void cohort_ray_relay_read_end(cohort_ray_relay *relay);
COHORT_API int cohort_ray_relay_reply(cohort_ray_relay *relay, const void *bytes,
                                      size_t size_bytes);
COHORT_API void cohort_ray_relay_close(cohort_ray_relay *relay);
COHORT_API const char *cohort_ray_relay_error(void);

#endif /* COHORT_RAY_RELAY_H */
