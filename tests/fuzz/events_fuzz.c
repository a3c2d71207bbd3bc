/* SPDX-License-Identifier: Apache-2.0 */
/* A server's event stream: how the bytes were cut into pieces changes nothing. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/events.h"
#include "fuzz.h"

bool fuzz_is_valid;

static void note(void *user_data, const char *data, size_t size) {
    cohort_body_printf(user_data, "%zu:", size);
    cohort_body_add(user_data, data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cohort_events whole = {0}, parts = {0};
    cohort_body of_whole = {0}, of_parts = {0};
    const char *bytes = (const char *)data;
    if (!size) return 0;
    size_t piece = 1 + data[0] % 16;
    if (cohort_events_feed(&whole, bytes, size, note, &of_whole) != COHORT_OK) abort();
    for (size_t at = 0; at < size; at += piece)
        if (cohort_events_feed(&parts, bytes + at, piece < size - at ? piece : size - at,
                               note, &of_parts) != COHORT_OK)
            abort();
    if (of_whole.size != of_parts.size ||
        (of_whole.size && memcmp(of_whole.bytes, of_parts.bytes, of_whole.size) != 0))
        abort();
    fuzz_is_valid = of_whole.size > 0;
    cohort_body_deinit(&of_whole);
    cohort_body_deinit(&of_parts);
    cohort_events_deinit(&whole);
    cohort_events_deinit(&parts);
    return 0;
}
