/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/fail.h"
#include "grammar/schema_internal.h"

/* JSON as a schema, or a list of texts, is held. */

static bool is_utf8(const char *text, size_t size) {
    for (size_t at = 0; at < size;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t length = utf8proc_iterate((const utf8proc_uint8_t *)text + at,
                                                   (utf8proc_ssize_t)(size - at), &code);
        if (length <= 0) return false;
        at += (size_t)length;
    }
    return true;
}

struct named_item {
    cJSON *item;
    size_t index;
};

static int compare_names(const void *a, const void *b) {
    const struct named_item *x = a, *y = b;
    int order = strcmp(x->item->string, y->item->string);
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

/* Of members with one name, leaves the last's value in the first's place. */
static void keep_last(cJSON *object, const struct named_item *same, size_t count) {
    for (size_t i = 1; i + 1 < count; i++)
        cJSON_Delete(cJSON_DetachItemViaPointer(object, same[i].item));
    if (count < 2) return;
    cJSON *last = cJSON_DetachItemViaPointer(object, same[count - 1].item);
    cJSON_ReplaceItemViaPointer(object, same[0].item, last);
}

/* A member that comes twice has its last value, as in Python. */
static void drop_repeated(cohort_builder *builder, cJSON *json) {
    cJSON *item;
    size_t n = 0, begin = 0;
    cJSON_ArrayForEach(item, json) {
        drop_repeated(builder, item);
        n++;
    }
    if (!cJSON_IsObject(json) || n < 2) return;
    struct named_item *items = malloc(n * sizeof *items);
    if (!items) {
        COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "%zu members", n);
        return;
    }
    n = 0;
    cJSON_ArrayForEach(item, json) {
        items[n] = (struct named_item){item, n};
        n++;
    }
    qsort(items, n, sizeof *items, compare_names);
    for (size_t i = 1; i <= n; i++) {
        if (i < n && !strcmp(items[i].item->string, items[begin].item->string)) continue;
        keep_last(json, items + begin, i - begin);
        begin = i;
    }
    free(items);
}

/* ---- whole numbers that no double is ----------------------------------------------- */

/* The next number of a JSON text that is one; NULL: none. */
static const char *next_number(const char *text, const char *end, size_t *out_size) {
    for (; text < end; text++) {
        if (*text == '"') {
            for (text++; text < end && *text != '"'; text++)
                text += *text == '\\';
        } else if (*text == '-' || (*text >= '0' && *text <= '9')) {
            *out_size = strspn(text, "+-.0123456789eE");
            return text;
        }
    }
    return NULL;
}

/* Numbers come in the text as they do in the tree; cJSON frees what is kept.  It takes
 * leading zeros, which JSON has not: digits behind such ones are none to compare. */
static void keep_digits(cohort_builder *builder, cJSON *json, const char **at,
                        const char *end) {
    cJSON *item;
    size_t size = 0;
    if (cJSON_IsNumber(json)) {
        const char *number = next_number(*at, end, &size);
        if (!number) return;
        *at = number + size;
        if (fabs(json->valuedouble) < 0x1p53 || size > COHORT_SCHEMA_MAX_DIGITS ||
            strcspn(number, ".eE") < size || number[*number == '-'] == '0')
            return;
        char *digits = cJSON_malloc(size + 1);
        if (!digits) {
            COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "%zu digits", size);
            return;
        }
        memcpy(digits, number, size);
        digits[size] = '\0';
        json->valuestring = digits;
    }
    cJSON_ArrayForEach(item, json) { keep_digits(builder, item, at, end); }
}

const char *cohort_schema_digits(const cJSON *number) {
    const char *digits = cJSON_IsNumber(number) ? number->valuestring : NULL;
    return digits ? digits + (*digits == '-') : NULL;
}

int cohort_schema_compare_numbers(const cJSON *a, const cJSON *b) {
    if (a->valuedouble != b->valuedouble) return a->valuedouble < b->valuedouble ? -1 : 1;
    const char *x = cohort_schema_digits(a), *y = cohort_schema_digits(b);
    if (!x || !y) return 0;
    int order = strlen(x) != strlen(y) ? (strlen(x) < strlen(y) ? -1 : 1) : strcmp(x, y);
    return a->valuedouble < 0 ? -order : order;
}

/* ---- parsing ----------------------------------------------------------------------- */

cJSON *cohort_schema_parse(cohort_builder *builder, const char *name, const char *text,
                           size_t size) {
    const char *end = NULL;
    /* A NUL behind it: cJSON before 1.7.18 looks one byte too far. */
    char *copy = malloc(size + 1);
    if (!copy) {
        COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "%s of %zu bytes", name, size);
        return NULL;
    }
    memcpy(copy, text, size);
    copy[size] = '\0';
    cJSON *json = NULL;
    if (memmem(copy, size, "\\u0000", 6))
        COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID, "%s: \\u0000 is not supported",
                            name);
    else if (!is_utf8(copy, size) ||
             !(json = cJSON_ParseWithLengthOpts(copy, size + 1, &end, true)))
        COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID, "%s is not valid JSON", name);
    const char *at = copy;
    keep_digits(builder, json, &at, copy + size);
    free(copy);
    drop_repeated(builder, json);
    return json;
}
