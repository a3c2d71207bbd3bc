/* SPDX-License-Identifier: Apache-2.0 */
/* server/json_write.h - a value that a client sent, written into an answer again. */
#ifndef COHORT_SERVER_JSON_WRITE_H
#define COHORT_SERVER_JSON_WRITE_H

#include <cjson/cJSON.h>

#include "base/body.h"

/* Texts as they were (a NUL that json_text.h wrote as C0 80 included), numbers with all
 * their digits.  NULL: null. */
void cohort_server_json_write(cohort_body *out, const cJSON *value);

#endif /* COHORT_SERVER_JSON_WRITE_H */
