/* SPDX-License-Identifier: Apache-2.0 */
/* server/status.h - the page for people, and what it shows. */
#ifndef COHORT_SERVER_STATUS_H
#define COHORT_SERVER_STATUS_H

#include "server/server_internal.h"

void cohort_serve_page(cohort_server *server, cohort_exchange *exchange);
void cohort_serve_status(cohort_server *server, cohort_exchange *exchange);

#endif /* COHORT_SERVER_STATUS_H */
