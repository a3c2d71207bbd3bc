/* SPDX-License-Identifier: Apache-2.0 */
#include "server/api_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MAX_FAULTS = 50, MAX_SHOWN_BYTES = 200 };

void cohort_api_error_deinit(cohort_api_error *error) {
    cohort_body_deinit(&error->message);
    *error = (cohort_api_error){0};
}

const char *cohort_api_error_type(int status) {
    switch (status) {
    case 401: return "AuthenticationError";
    case 404: return "NotFoundError";
    case 413: return "PayloadTooLargeError";
    case 500: return "InternalServerError";
    case 501: return "NotImplementedError";
    case 503: return "ServiceUnavailableError";
    default: return "BadRequestError";
    }
}

COHORT_PRINTF(4, 0)
static void set(cohort_api_error *error, int status, const char *param,
                const char *format, va_list args) {
    char text[1024];
    vsnprintf(text, sizeof text, format, args);
    error->status = status;
    error->type = cohort_api_error_type(status);
    snprintf(error->param, sizeof error->param, "%s", param ? param : "");
    cohort_body_puts(&error->message, text);
}

bool cohort_api_refuse(cohort_api_error *error, int status, const char *param,
                       const char *format, ...) {
    if (error->status) return false;
    va_list args;
    va_start(args, format);
    set(error, status, param, format, args);
    va_end(args);
    return false;
}

bool cohort_api_refuse_value(cohort_api_error *error, const char *param,
                             const char *value, const char *format, ...) {
    if (error->status) return false;
    va_list args;
    va_start(args, format);
    set(error, 400, param, format, args);
    va_end(args);
    if (value)
        cohort_body_printf(&error->message, " (parameter=%s, value=%s)", param, value);
    else
        cohort_body_printf(&error->message, " (parameter=%s)", param);
    return false;
}

bool cohort_api_refuse_unread(cohort_api_error *error, const char *why) {
    error->is_detail = true;
    return cohort_api_refuse(error, 400, NULL, "There was an error parsing the body: %s",
                             why);
}

/* ---- faults of form ---------------------------------------------------------------- */

/* 'text' as Python's repr, cut where it is long. */
static void add_repr(cohort_body *out, const char *text) {
    bool doubles = strchr(text, '\'') && !strchr(text, '"');
    const char *quote = doubles ? "\"" : "'";
    size_t shown = strlen(text);
    if (shown > MAX_SHOWN_BYTES)
        for (shown = MAX_SHOWN_BYTES; shown && ((text[shown] & 0xc0) == 0x80);)
            shown--;
    cohort_body_puts(out, quote);
    for (size_t i = 0; i < shown; i++) {
        char c = text[i];
        if (c == '\n')
            cohort_body_puts(out, "\\n");
        else if (c == '\\' || (c == '\'' && !doubles))
            cohort_body_printf(out, "\\%c", c);
        else
            cohort_body_add(out, &c, 1);
    }
    if (text[shown]) cohort_body_puts(out, "...");
    cohort_body_puts(out, quote);
}

static void name_input(const cJSON *input, char *out, size_t size) {
    if (!input || cJSON_IsNull(input))
        snprintf(out, size, "None");
    else if (cJSON_IsBool(input))
        snprintf(out, size, "%s", cJSON_IsTrue(input) ? "True" : "False");
    else if (cJSON_IsArray(input))
        snprintf(out, size, "<list of %d items>", cJSON_GetArraySize(input));
    else if (cJSON_IsObject(input))
        snprintf(out, size, "<dict of %d items>", cJSON_GetArraySize(input));
    else
        snprintf(out, size, "%.17g", input->valuedouble);
}

void cohort_api_fault(cohort_api_error *error, const char *kind, const char *location,
                      const char *message, const cJSON *input, const char *context) {
    char text[64];
    const char *shown = cJSON_GetStringValue(input);
    if (!shown) name_input(input, text, sizeof text);
    cohort_api_fault_text(error, kind, location, message, shown ? shown : text, context);
}

void cohort_api_fault_text(cohort_api_error *error, const char *kind,
                           const char *location, const char *message, const char *input,
                           const char *context) {
    if (error->status && !error->n_faults) return;
    if (!error->n_faults) snprintf(error->param, sizeof error->param, "%s", location);
    error->status = 400;
    error->type = "Bad Request";
    if (++error->n_faults > MAX_FAULTS) return;
    cohort_body *out = &error->message;
    cohort_body_printf(out, "\n  {'type': '%s', 'loc': '%s', 'msg': ", kind, location);
    add_repr(out, message);
    cohort_body_puts(out, ", 'input': ");
    add_repr(out, input);
    if (context) cohort_body_printf(out, ", 'ctx': {%s}", context);
    cohort_body_puts(out, "}");
}

void cohort_api_error_write(const cohort_api_error *error, cohort_body *out) {
    cohort_body message = {0};
    if (error->is_detail) {
        cohort_body_puts(out, "{\"detail\":");
        cohort_body_json(out, error->message.bytes, error->message.size);
        cohort_body_puts(out, "}");
        return;
    }
    if (error->n_faults)
        cohort_body_printf(&message, "%d validation error%s:", error->n_faults,
                           error->n_faults == 1 ? "" : "s");
    cohort_body_add(&message, error->message.bytes, error->message.size);
    bool is_anthropic = error->shape == COHORT_ERROR_ANTHROPIC;
    cohort_body_puts(out, is_anthropic ? "{\"type\":\"error\",\"error\":{\"message\":"
                                       : "{\"error\":{\"message\":");
    cohort_body_json(out, message.bytes ? message.bytes : "", message.size);
    cohort_body_puts(out, ",\"type\":");
    cohort_body_json_or_null(out, error->type);
    if (!is_anthropic) {
        cohort_body_puts(out, ",\"param\":");
        cohort_body_json_or_null(out, *error->param ? error->param : NULL);
        cohort_body_printf(out, ",\"code\":%d", error->status);
    }
    cohort_body_puts(out, "}}");
    cohort_body_deinit(&message);
}

const char *cohort_api_float(double value, char *out, size_t size) {
    snprintf(out, size, "%.15g", value);
    if (!strpbrk(out, ".en")) snprintf(out + strlen(out), size - strlen(out), ".0");
    return out;
}
