/* SPDX-License-Identifier: Apache-2.0 */
/* cli/serve.h - the server's options from the table; who runs a server asks for them. */
#ifndef COHORT_CLI_SERVE_H
#define COHORT_CLI_SERVE_H

#include "cli/options.h"
#include "server/server.h"

cohort_server_options cli_server_options(const cli_options *options);

#endif /* COHORT_CLI_SERVE_H */
