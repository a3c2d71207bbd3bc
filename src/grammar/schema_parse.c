/* SPDX-License-Identifier: Apache-2.0 */
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
    free(copy);
    drop_repeated(builder, json);
    return json;
}
