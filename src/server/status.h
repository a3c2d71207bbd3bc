/* SPDX-License-Identifier: Apache-2.0 */
/* server/status.h - the page for people, and what it shows. */
#ifndef COHORT_SERVER_STATUS_H
#define COHORT_SERVER_STATUS_H

#include "server/server_internal.h"

void cohort_serve_page(cohort_server *server, cohort_exchange *exchange);
void cohort_serve_status(cohort_server *server, cohort_exchange *exchange);

/* fault_tolerance.c */
void cohort_serve_fault_tolerance(cohort_server *server, cohort_exchange *exchange);
void cohort_serve_instruction(cohort_server *server, cohort_exchange *exchange);
/* Epoch, deaths and the last cause, as an object. */
void cohort_write_recovery(const cohort_executor_recovery *recovery, cohort_body *out);

#endif /* COHORT_SERVER_STATUS_H */
