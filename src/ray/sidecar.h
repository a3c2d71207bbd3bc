/* SPDX-License-Identifier: Apache-2.0 */
/* ray/sidecar.h - the Python process that speaks to Ray for one executor.
 *
 * `python -m cohort_ray.driver` is started with one end of a socketpair.  Both sides send
 * JSON objects behind a length: orders with "op" go there, events with "event" come back.
 * It outlives nobody: when this process or the socket is gone, it takes down all that is
 * ours and ends.
 *
 * Ownership: a received message is the caller's, by cJSON_Delete.
 * Threads:   send from any; one receives.   Errors: COHORT_E_PEER_DIED once it has ended.
 */
#ifndef COHORT_RAY_SIDECAR_H
#define COHORT_RAY_SIDECAR_H

#include <cjson/cJSON.h>
#include <stdint.h>

#include "cohort/status.h"

typedef struct cohort_sidecar cohort_sidecar;

/* Starts the Python of COHORT_PYTHON, of an active venv, beside this command, or in PATH.
 */
cohort_status cohort_sidecar_start(cohort_sidecar **out_sidecar);
int32_t cohort_sidecar_pid(const cohort_sidecar *sidecar);
int cohort_sidecar_fd(const cohort_sidecar *sidecar); /* for poll */
/* Takes order over, also where it fails. */
cohort_status cohort_sidecar_send(cohort_sidecar *sidecar, cJSON *order);
/* The next event, an object with a text "event".  COHORT_E_PROTOCOL: a message that is
 * none; the next one may be.  COHORT_E_IO: no more messages can be told apart. */
cohort_status cohort_sidecar_receive(cohort_sidecar *sidecar, int64_t deadline_ns,
                                     cJSON **out_event);
/* Asks it to end, waits, kills what is left of its group; whoever receives sees the end.
 */
void cohort_sidecar_end(cohort_sidecar *sidecar, int64_t deadline_ns);
/* After end, once nobody receives.  Accepts NULL. */
void cohort_sidecar_free(cohort_sidecar *sidecar);

/* Path of libcohort.so as this host has it, for the actors; COHORT_LIBRARY first. */
cohort_status cohort_sidecar_find_library(char *out_path, size_t size);

#endif /* COHORT_RAY_SIDECAR_H */
