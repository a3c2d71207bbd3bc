/* SPDX-License-Identifier: Apache-2.0 */
#include "client/events.h"

#include <string.h>

static void clear(cohort_body *body) {
    body->size = 0;
    if (body->bytes) body->bytes[0] = '\0';
}

static void end_line(cohort_events *self, cohort_on_event on_event, void *user_data) {
    const char *line = self->line.bytes ? self->line.bytes : "";
    size_t size = self->line.size;
    if (size == 0) {
        if (self->has_data)
            on_event(user_data, self->data.bytes ? self->data.bytes : "",
                     self->data.size);
        self->has_data = false;
        clear(&self->data);
    } else if (size >= 4 && !memcmp(line, "data", 4) && (size == 4 || line[4] == ':')) {
        size_t at = size == 4 ? 4 : line[5] == ' ' ? 6 : 5;
        if (self->has_data) cohort_body_add(&self->data, "\n", 1);
        cohort_body_add(&self->data, line + at, size - at);
        self->has_data = true;
    }
    clear(&self->line);
}

cohort_status cohort_events_feed(cohort_events *self, const char *bytes, size_t size,
                                 cohort_on_event on_event, void *user_data) {
    for (size_t at = 0; at < size;) {
        if (self->after_return && bytes[at] == '\n') { /* \r\n is one end */
            self->after_return = false;
            at++;
            continue;
        }
        self->after_return = false;
        size_t end = at;
        while (end < size && bytes[end] != '\n' && bytes[end] != '\r')
            end++;
        cohort_body_add(&self->line, bytes + at, end - at);
        if (self->line.size + self->data.size > COHORT_MAX_EVENT_BYTES)
            return COHORT_FAIL(COHORT_E_PROTOCOL, "an event is longer than %d bytes",
                               COHORT_MAX_EVENT_BYTES);
        if (end < size) {
            self->after_return = bytes[end] == '\r';
            end_line(self, on_event, user_data);
        }
        at = end + 1;
    }
    if (self->line.is_short || self->data.is_short)
        return COHORT_FAIL(COHORT_E_NOMEM, "no memory for an event");
    return COHORT_OK;
}

void cohort_events_deinit(cohort_events *self) {
    cohort_body_deinit(&self->line);
    cohort_body_deinit(&self->data);
}
