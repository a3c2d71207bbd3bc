/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/jinja.h - templates in Jinja's language, as chat templates use it.
 *
 * The environment is that of transformers: trim_blocks, lstrip_blocks, loop controls, the
 * generation tag, tojson without escapes, raise_exception and strftime_now, and values
 * that a template cannot change.  What is left out (inheritance, imports, autoescape,
 * targets in targets) is refused by name when the template is compiled; and no
 * filter, test, method or function takes an argument without heeding it.
 *
 * A template comes from a stranger: rendering is bounded in steps, depth, memory and
 * output, and ends with an error at any of these.
 *
 * Ownership: compile copies the source; a rendered text is malloc's, the caller frees it.
 * Threads:   a template is immutable: any number of threads render it at once.
 * Errors:    COHORT_E_INVALID, "line N: ..."; what raise_exception said, as it said it.
 */
#ifndef COHORT_JINJA_H
#define COHORT_JINJA_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/status.h"

typedef struct cohort_jinja cohort_jinja;

cohort_status cohort_jinja_compile(const char *source, size_t size_bytes,
                                   cohort_jinja **out_template);
/* variables: an object whose members the template sees by name.  now_s: what
 * strftime_now tells, seconds since 1970. */
cohort_status cohort_jinja_render(const cohort_jinja *template_, const cJSON *variables,
                                  int64_t now_s, char **out_text, size_t *out_size_bytes);
/* Does it loop over the content of messages, which then must be a list of parts? */
bool cohort_jinja_wants_parts(const cohort_jinja *template_);
void cohort_jinja_destroy(cohort_jinja *template_);

#endif /* COHORT_JINJA_H */
