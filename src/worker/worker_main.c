/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/worker_main.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.h"

enum { EXIT_DRIVER_GONE = 70 };

/* On the watcher thread, while the main thread may be anywhere: nothing is unwound, the
 * kernel takes everything back (R32). */
static void end_process(void) { _exit(EXIT_DRIVER_GONE); }

/* Errors go to the driver, which tells them; what is only odd is told here. */
static void show_warning(void *user_data, cohort_log_level level, const char *line) {
    if (level == COHORT_LOG_WARNING) cohort_log_to_stderr(user_data, level, line);
}

static cohort_status run(int control_fd, const cohort_worker_ops *ops,
                         const cohort_worker_carrier *carrier, void *carrier_self) {
    signal(SIGPIPE, SIG_IGN);
    const char *level_name = getenv("COHORT_LOGGING_LEVEL");
    cohort_log_level level;
    if (!level_name) level_name = getenv("VLLM_LOGGING_LEVEL");
    if (level_name && cohort_log_level_parse(level_name, &level))
        cohort_log_set_sink(cohort_log_to_stderr, level, NULL);
    else
        cohort_log_set_sink(show_warning, COHORT_LOG_WARNING, NULL);
    const cohort_worker_options options = {.control_fd = control_fd,
                                           .ops = ops,
                                           .driver_gone = end_process,
                                           .owns_process = true,
                                           .carrier = carrier,
                                           .carrier_self = carrier_self};
    return cohort_worker_run(&options);
}

cohort_status cohort_worker_guest_main(int control_fd, const cohort_worker_ops *ops,
                                       const cohort_worker_carrier *carrier,
                                       void *carrier_self) {
    return run(control_fd, ops, carrier, carrier_self);
}

int cohort_worker_main(int control_fd, const cohort_worker_ops *ops) {
    /* A stopped process cannot read its link: this ends it all the same when the driver's
     * thread that spawned it is gone, which lives as long as the executor. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    return run(control_fd, ops, NULL, NULL) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
