/* SPDX-License-Identifier: Apache-2.0 */
#include "server/json_members.h"

#include <stdlib.h>
#include <string.h>

typedef struct member {
    cJSON *item;
    size_t place; /* among the members */
} member;

/* Names from strangers: a merge sort has no worst input. */
static bool comes_first(const member *a, const member *b, uint64_t *n_compared) {
    ++*n_compared;
    int order = strcmp(a->item->string, b->item->string);
    return order ? order < 0 : a->place < b->place;
}

static void merge(const member *from, size_t n, size_t half, member *to,
                  uint64_t *n_compared) {
    size_t left = 0, right = half;
    for (size_t i = 0; i < n; i++) {
        bool takes_left =
            right == n ||
            (left < half && comes_first(&from[left], &from[right], n_compared));
        to[i] = from[takes_left ? left++ : right++];
    }
}

static void sort(member *members, size_t n, member *scratch, uint64_t *n_compared) {
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t at = 0; at < n; at += 2 * width) {
            size_t size = n - at < 2 * width ? n - at : 2 * width;
            size_t half = size < width ? size : width;
            merge(members + at, size, half, scratch + at, n_compared);
        }
        memcpy(members, scratch, n * sizeof *members);
    }
}

static bool unite(cJSON *object, uint64_t *n_compared) {
    size_t n = 0;
    cJSON *item;
    cJSON_ArrayForEach(item, object) n++;
    if (n < 2) return true;
    member *members = malloc(2 * n * sizeof *members);
    if (!members) return false;
    n = 0;
    cJSON_ArrayForEach(item, object) {
        members[n] = (member){item, n};
        n++;
    }
    sort(members, n, members + n, n_compared);
    for (size_t first = 0, last; first < n; first = last + 1) {
        for (last = first; last + 1 < n && !strcmp(members[first].item->string,
                                                   members[last + 1].item->string);)
            last++;
        if (last == first) continue;
        for (size_t i = first + 1; i < last; i++)
            cJSON_Delete(cJSON_DetachItemViaPointer(object, members[i].item));
        item = cJSON_DetachItemViaPointer(object, members[last].item);
        cJSON_ReplaceItemViaPointer(object, members[first].item, item);
    }
    free(members);
    return true;
}

bool cohort_server_json_unite_members(cJSON *json, uint64_t *n_compared) {
    uint64_t ignored = 0;
    if (!n_compared) n_compared = &ignored;
    if (cJSON_IsObject(json) && !unite(json, n_compared)) return false;
    cJSON *item;
    cJSON_ArrayForEach(item, json) /* no deeper than json_text.h lets them be */
        if (!cohort_server_json_unite_members(item, n_compared)) return false;
    return true;
}
