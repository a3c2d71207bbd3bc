/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/worker.h"
#include "cli/options.h"
#include "worker/worker_main.h"

static cohort_status open_nothing(const cohort_worker_info *info, void **out_context) {
    (void)info;
    *out_context = NULL;
    return COHORT_OK;
}

static cohort_status load_nothing(void *context) {
    (void)context;
    return COHORT_OK;
}

static cohort_status execute_nothing(void *context, const void *payload,
                                     size_t size_bytes, cohort_worker_reply *reply) {
    (void)context;
    (void)payload;
    (void)size_bytes;
    (void)reply;
    return COHORT_OK;
}

static const cohort_worker_ops no_model_ops = {
    .open = open_nothing, .load = load_nothing, .execute = execute_nothing};

int cli_worker(int argc, char **argv) {
    cli_options options;
    int result = cli_options_parse(&options, CLI_WORKER, "worker", argc, argv);
    if (result != CLI_OK) return result == CLI_HELP ? CLI_OK : result;
    if (options.control_fd < 0) {
        fprintf(stderr, "cohort worker: no --control-fd; a driver starts workers, as "
                        "`cohort generate` does\n");
        return CLI_USAGE;
    }
    return cohort_worker_main((int)options.control_fd, options.no_model
                                                           ? &no_model_ops
                                                           : cohort_worker_model_ops());
}
