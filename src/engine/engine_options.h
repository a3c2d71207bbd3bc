/* SPDX-License-Identifier: Apache-2.0 */
/* engine/engine_options.h - the rows of cohort_engine_options that a user may set; those
 * of its executor are that one's. */
#ifndef COHORT_ENGINE_OPTIONS_H
#define COHORT_ENGINE_OPTIONS_H

#include "base/option.h"
#include "cohort/engine.h"

extern const cohort_option_table cohort_engine_option_table;
/* Of a cohort_request, what is no list: over it, but for the numbers of its sampling
 * (wire/sampling_options.h). */
extern const cohort_option_table cohort_request_option_table;

#endif /* COHORT_ENGINE_OPTIONS_H */
