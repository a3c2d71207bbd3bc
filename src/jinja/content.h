/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/content.h - does a template go over the parts of a message's content? */
#ifndef COHORT_JINJA_CONTENT_H
#define COHORT_JINJA_CONTENT_H

#include "jinja/node.h"

bool cohort_jinja_reads_parts(const jinja_node *body);

#endif /* COHORT_JINJA_CONTENT_H */
