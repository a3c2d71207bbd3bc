/* SPDX-License-Identifier: Apache-2.0 */
/* model/json.h - fields of a JSON object, with bounds and with errors that name them.
 *
 * A source is an object and the name of its file; every reader's message starts with that
 * name.  A field that is null counts as absent, as it does in transformers.
 *
 * Ownership: the caller frees what a parse returns by cJSON_Delete; sources borrow.
 * Errors:    COHORT_E_INVALID; a file that cannot be read is COHORT_E_IO.
 */
#ifndef COHORT_MODEL_JSON_H
#define COHORT_MODEL_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "cohort/status.h"

typedef struct cohort_json_source {
    const cJSON *object;
    const char *name;
} cohort_json_source;

/* For the fallback of integers: the field must be there. */
#define COHORT_JSON_REQUIRED INT64_MIN

/* The text need not end in NUL; what it holds must be one object. */
cohort_status cohort_json_parse(const char *text, size_t text_bytes, const char *name,
                                cJSON **out_json);
/* Reads dir/file of at most limit_bytes; *out_text is malloc'ed, NULL where there is no
 * such file.  A file that is there and cannot be read is an error. */
cohort_status cohort_json_read(const char *dir, const char *file, size_t limit_bytes,
                               char **out_text, size_t *out_bytes);

/* NULL where the field is absent or null. */
const cJSON *cohort_json_field(const cohort_json_source *source, const char *key);

cohort_status cohort_json_int(const cohort_json_source *source, const char *key,
                              int64_t least, int64_t most, int64_t fallback,
                              int32_t *out_value);
cohort_status cohort_json_real(const cohort_json_source *source, const char *key,
                               double least, double most, double fallback,
                               double *out_value);
cohort_status cohort_json_bool(const cohort_json_source *source, const char *key,
                               bool fallback, bool *out_value);
/* Borrowed from the source. */
cohort_status cohort_json_text(const cohort_json_source *source, const char *key,
                               const char *fallback, const char **out_value);
/* A whole number of at least 0 that a double holds exactly. */
bool cohort_json_is_size(const cJSON *item, uint64_t *out_value);

#endif /* COHORT_MODEL_JSON_H */
