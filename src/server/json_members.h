/* SPDX-License-Identifier: Apache-2.0 */
/* server/json_members.h - of a name that is there twice the last value counts, as in
 * Python, in the place of the first.
 *
 * cJSON keeps both and finds the first.  Costs n log n of all members.
 */
#ifndef COHORT_SERVER_JSON_MEMBERS_H
#define COHORT_SERVER_JSON_MEMBERS_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

/* In the object and all that is in it.  False: memory is short.  n_compared, which may be
 * NULL, counts comparisons of names. */
bool cohort_server_json_unite_members(cJSON *json, uint64_t *n_compared);

#endif /* COHORT_SERVER_JSON_MEMBERS_H */
