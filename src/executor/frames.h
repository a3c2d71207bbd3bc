/* SPDX-License-Identifier: Apache-2.0 */
/* executor/frames.h - what the monitor says to ranks over their control links. */
#ifndef COHORT_EXECUTOR_FRAMES_H
#define COHORT_EXECUTOR_FRAMES_H

#include "executor/executor_internal.h"

cohort_status executor_send_frame(cohort_executor *executor, int32_t rank,
                                  cohort_frame frame, uint8_t *buffer);
cohort_status executor_send_configure(cohort_executor *executor, int32_t rank,
                                      uint8_t *buffer);
cohort_status executor_send_table(cohort_executor *executor, int32_t rank,
                                  uint8_t *buffer);
/* With the set-up calls, which a rank that was loaded before passes over. */
cohort_status executor_send_load(cohort_executor *executor, int32_t rank,
                                 uint8_t *buffer);
/* A frame with an error or without; who cannot be told is dead or will be killed. */
void executor_send_small(cohort_executor *executor, int32_t rank, cohort_frame_kind kind,
                         const cohort_error *error);

#endif /* COHORT_EXECUTOR_FRAMES_H */
