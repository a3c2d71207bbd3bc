/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/worker.h"
#include "cli/options.h"
#include "worker/worker_main.h"

int cli_worker(int argc, char **argv) {
    cli_options options;
    int result = cli_options_parse(&options, CLI_WORKER, "worker", argc, argv);
    if (result != CLI_OK) return result == CLI_HELP ? CLI_OK : result;
    if (options.control_fd < 0) {
        fprintf(stderr, "cohort worker: no --control-fd; a driver starts workers, as "
                        "`cohort generate` does\n");
        return CLI_USAGE;
    }
    return cohort_worker_main((int)options.control_fd, cohort_model_worker_ops());
}
