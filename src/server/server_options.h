/* SPDX-License-Identifier: Apache-2.0 */
/* server/server_options.h - the rows of cohort_server_options that a user may set. */
#ifndef COHORT_SERVER_OPTIONS_H
#define COHORT_SERVER_OPTIONS_H

#include "base/option.h"
#include "server/server.h"

/* Of the API: whoever answers its requests, over HTTP or from a file. */
extern const cohort_option_table cohort_api_option_table;
/* Of what listens. */
extern const cohort_option_table cohort_server_option_table;

#endif /* COHORT_SERVER_OPTIONS_H */
