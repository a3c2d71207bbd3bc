/* SPDX-License-Identifier: Apache-2.0 */
/* server/json_scan.h - is this a JSON text, and if not, where and why.
 *
 * cJSON says neither where a text goes wrong nor that it does: it lets control
 * characters, bad numbers and what follows the value pass.  So a body is scanned first.
 * Faults have the words and the position of Python's json module, which clients see
 * today.
 */
#ifndef COHORT_SERVER_JSON_SCAN_H
#define COHORT_SERVER_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>

enum { COHORT_SERVER_JSON_MAX_DEPTH = 200 };

typedef struct cohort_server_json_fault {
    const char *message; /* static text; "Expecting value" */
    size_t position;     /* in characters, as Python counts */
} cohort_server_json_fault;

/* At most so many values and members are in it, whether it is JSON or not. */
size_t cohort_server_json_most_values(const char *text, size_t size);
/* Of what passed the scan: has it a \u of half a character without the other half? */
bool cohort_server_json_has_lone_surrogate(const char *text, size_t size);
bool cohort_server_json_scan(const char *text, size_t size,
                             cohort_server_json_fault *out_fault);

#endif /* COHORT_SERVER_JSON_SCAN_H */
