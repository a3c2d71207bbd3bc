/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/eval.h - what a node comes to. */
#ifndef COHORT_JINJA_EVAL_H
#define COHORT_JINJA_EVAL_H

#include "jinja/node.h"
#include "jinja/scope.h"

void cohort_jinja_execute(jinja_run *run, const jinja_node *body);
const jinja_value *cohort_jinja_call(jinja_run *run, const jinja_value *callee,
                                     const jinja_args *args);

#endif /* COHORT_JINJA_EVAL_H */
