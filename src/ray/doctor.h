/* SPDX-License-Identifier: Apache-2.0 */
/* ray/doctor.h - the judgement behind cohort_ray_examine, without a cluster. */
#ifndef COHORT_RAY_DOCTOR_H
#define COHORT_RAY_DOCTOR_H

#include <cjson/cJSON.h>

#include "ray/ray.h"

/* The findings of what a sidecar saw; pure. */
void cohort_ray_judge(const cJSON *event,
                      void (*tell)(void *user_data, bool is_fault, const char *text),
                      void *user_data, cohort_doctor_tally *out_tally);

#endif /* COHORT_RAY_DOCTOR_H */
