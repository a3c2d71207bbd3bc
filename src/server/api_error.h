/* SPDX-License-Identifier: Apache-2.0 */
/* server/api_error.h - what a refused request is told, in vLLM's shapes.
 *
 * A fault in the meaning is a BadRequestError with one sentence; faults in the form are
 * collected, each with its place in the body, as pydantic words them.  Both end in one
 * envelope: {"error":{"message","type","param","code"}}.  What cannot be read at all has
 * FastAPI's.
 *
 * Ownership: zero-initialise, deinit frees.
 */
#ifndef COHORT_SERVER_API_ERROR_H
#define COHORT_SERVER_API_ERROR_H

#include <cjson/cJSON.h>

#include "base/body.h"

typedef enum cohort_api_error_shape {
    COHORT_ERROR_OPENAI,
    COHORT_ERROR_ANTHROPIC, /* {"type":"error","error":{"type","message"}} */
} cohort_api_error_shape;

typedef struct cohort_api_error {
    int status; /* 0: none yet */
    const char *type;
    char param[160]; /* "": null */
    cohort_body message;
    int32_t n_faults; /* of form; message holds their lines only */
    bool is_detail;   /* FastAPI's own shape: {"detail":...} */
    cohort_api_error_shape shape;
} cohort_api_error;

void cohort_api_error_deinit(cohort_api_error *error);

/* The first one stays.  param may be NULL.  Always false, for `return`. */
bool cohort_api_refuse(cohort_api_error *error, int status, const char *param,
                       const char *format, ...) COHORT_PRINTF(4, 5);
/* 400, with " (parameter=NAME, value=VALUE)" appended, as vLLM does. */
bool cohort_api_refuse_value(cohort_api_error *error, const char *param,
                             const char *value, const char *format, ...)
    COHORT_PRINTF(4, 5);

/* 400, of a body that is no text, or beyond a bound: as FastAPI tells it, and why. */
bool cohort_api_refuse_unread(cohort_api_error *error, const char *why);

/* A fault of form: location is "body.max_tokens"; input: what was there, NULL: nothing;
 * context: the inside of 'ctx', or NULL. */
void cohort_api_fault(cohort_api_error *error, const char *kind, const char *location,
                      const char *message, const cJSON *input, const char *context);
/* The same where the input is no JSON, or a text of its own. */
void cohort_api_fault_text(cohort_api_error *error, const char *kind,
                           const char *location, const char *message, const char *input,
                           const char *context);

/* The envelope. */
void cohort_api_error_write(const cohort_api_error *error, cohort_body *out);
/* "NotFoundError" for 404 and so on. */
const char *cohort_api_error_type(int status);
/* 3.0, as Python prints a float. */
const char *cohort_api_float(double value, char *out, size_t size);

#endif /* COHORT_SERVER_API_ERROR_H */
