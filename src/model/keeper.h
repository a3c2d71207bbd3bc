/* SPDX-License-Identifier: Apache-2.0 */
/* model/keeper.h - memory of a model that outlives the process that made it. */
#ifndef COHORT_MODEL_KEEPER_H
#define COHORT_MODEL_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "cohort/status.h"

/* Who keeps memory for when this process is gone: a caller's.  take gives the descriptor
 * that was kept under a name, which is the backend's then, or -1; keep is lent one, to
 * be duplicated.  was_kept: it is the one of take, as it was; else its generation is a
 * new one. */
typedef struct cohort_keeper {
    void *self;
    int (*take)(void *self, const char *name);
    cohort_status (*keep)(void *self, const char *name, int fd, uint64_t generation,
                          bool was_kept);
} cohort_keeper;

#endif /* COHORT_MODEL_KEEPER_H */
