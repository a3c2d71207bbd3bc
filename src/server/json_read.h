/* SPDX-License-Identifier: Apache-2.0 */
/* server/json_read.h - looks at members of a parsed body. */
#ifndef COHORT_SERVER_JSON_READ_H
#define COHORT_SERVER_JSON_READ_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <string.h>

/* NULL: there is none. */
static inline const cJSON *cohort_server_json_member(const cJSON *object,
                                                     const char *name) {
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

/* NULL: there is none, or it is no string. */
static inline const char *cohort_server_json_text(const cJSON *object, const char *name) {
    return cJSON_GetStringValue(cohort_server_json_member(object, name));
}

/* text may be NULL. */
static inline bool cohort_server_is_word(const char *text, const char *word) {
    return text && !strcmp(text, word);
}

#endif /* COHORT_SERVER_JSON_READ_H */
