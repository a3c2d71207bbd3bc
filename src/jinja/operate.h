/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/operate.h - arithmetic and comparisons, as Python has them. */
#ifndef COHORT_JINJA_OPERATE_H
#define COHORT_JINJA_OPERATE_H

#include "jinja/node.h"
#include "jinja/value.h"

const jinja_value *cohort_jinja_operate(jinja_run *run, jinja_operator operator_,
                                        const jinja_value *a, const jinja_value *b);
/* a + b */
const jinja_value *cohort_jinja_add(jinja_run *run, const jinja_value *a,
                                    const jinja_value *b);
/* sign: "<", "not in" and their like. */
bool cohort_jinja_compares(jinja_run *run, const char *sign, const jinja_value *a,
                           const jinja_value *b);

#endif /* COHORT_JINJA_OPERATE_H */
