/* SPDX-License-Identifier: Apache-2.0 */
/* wire/sampling_options.h - the numbers of cohort_sampling_params, a row each.
 *
 * What a parameter may be and what it is by default is said here and nowhere else: flags,
 * JSON lines, bodies of requests, the engine's checks and the step's layout go through
 * these rows.  In JSON a name has underscores.  They are in vLLM's order.
 */
#ifndef COHORT_WIRE_SAMPLING_OPTIONS_H
#define COHORT_WIRE_SAMPLING_OPTIONS_H

#include "base/option.h"
#include "cohort/sampling.h"

/* Of 4 bytes each. */
enum { COHORT_N_SAMPLING_OPTIONS = 10 };

extern const cohort_option_table cohort_sampling_option_table;
/* Those of them that choose a token, and the others: what is asked of it. */
extern const cohort_option_table cohort_choice_option_table;
extern const cohort_option_table cohort_report_option_table;

#endif /* COHORT_WIRE_SAMPLING_OPTIONS_H */
