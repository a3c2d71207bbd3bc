/* SPDX-License-Identifier: Apache-2.0 */
#include "server/json_write.h"

#include <math.h>

static void write_number(cohort_body *out, const cJSON *value) {
    double number = value->valuedouble;
    if (value->valuestring) /* where a double has not all digits */
        cohort_body_puts(out, value->valuestring);
    else if (number == floor(number) && fabs(number) < 0x1p53)
        cohort_body_whole(out, (int64_t)number);
    else
        cohort_body_json_real(out, number);
}

static void write_text(cohort_body *out, const char *text) {
    cohort_body_json(out, text, strlen(text));
}

void cohort_server_json_write(cohort_body *out, const cJSON *value) {
    bool is_object = cJSON_IsObject(value);
    if (cJSON_IsString(value)) {
        write_text(out, value->valuestring);
    } else if (cJSON_IsNumber(value)) {
        write_number(out, value);
    } else if (cJSON_IsBool(value)) {
        cohort_body_puts(out, cJSON_IsTrue(value) ? "true" : "false");
    } else if (is_object || cJSON_IsArray(value)) {
        cohort_body_puts(out, is_object ? "{" : "[");
        for (const cJSON *item = value->child; item; item = item->next) {
            if (item != value->child) cohort_body_puts(out, ",");
            if (is_object) write_text(out, item->string);
            if (is_object) cohort_body_puts(out, ":");
            cohort_server_json_write(out, item);
        }
        cohort_body_puts(out, is_object ? "}" : "]");
    } else {
        cohort_body_puts(out, "null");
    }
}
