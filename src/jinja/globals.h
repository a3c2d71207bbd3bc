/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/globals.h - functions that every template has. */
#ifndef COHORT_JINJA_GLOBALS_H
#define COHORT_JINJA_GLOBALS_H

#include "jinja/scope.h"

void cohort_jinja_add_globals(jinja_run *run);

#endif /* COHORT_JINJA_GLOBALS_H */
