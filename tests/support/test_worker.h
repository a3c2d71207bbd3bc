/* SPDX-License-Identifier: Apache-2.0 */
/* support/test_worker.h - a worker that does little, and goes wrong when told to.
 *
 * The same binary is driver and worker: main() begins with
 *     if (test_worker_is_asked(argc, argv)) return test_worker_main(argv);
 *
 * Faults come by configuration: "fault=WHERE:RANK:WHAT", WHERE one of open, load,
 * execute, close; WHAT one of error, exit (status 3), kill (SIGKILL), stop (SIGSTOP),
 * spin (returns after spin_ms=N, a minute, without progress), children (starts a process
 * of its own).
 * "pause_ms=N" makes open, load and close take a while; "barrier=1" has the ranks meet in
 * each step.
 *
 * With TEST_WORKER_FOREIGN in its environment it is a worker of another build.
 *
 * A step's bytes come back from the output rank, its rank in front; in place of
 * TEST_MASKED the masks that follow it.  Methods: where,
 * fail, refuse, hold, fill, config, tell, told; see test_worker.c.
 */
#ifndef TEST_WORKER_H
#define TEST_WORKER_H

#include <stdbool.h>

#include "worker/worker.h"

#define TEST_MASKED "masked" /* NUL included */

typedef struct test_where { /* reply to "where" */
    int32_t rank, world_size, tp_rank, pp_rank, pid, is_output_rank;
} test_where;

const cohort_worker_ops *test_worker_ops(void);
bool test_worker_is_asked(int argc, char **argv);
int test_worker_main(char **argv);

#endif /* TEST_WORKER_H */
