/* SPDX-License-Identifier: Apache-2.0 */
#include "ray/event.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "wire/frame.h"

enum { MAX_BUNDLES = 65536 };

static const cJSON *item_of(const cJSON *object, const char *name) {
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

const char *cohort_ray_event_text(const cJSON *object, const char *name) {
    const char *text = cJSON_GetStringValue(item_of(object, name));
    return text ? text : "";
}

bool cohort_ray_event_is(const cJSON *event, const char *name) {
    return !strcmp(cohort_ray_event_text(event, "event"), name);
}

static cohort_status bad_event(const cJSON *event, const char *field) {
    return COHORT_FAIL(COHORT_E_PROTOCOL,
                       "the Ray sidecar's event '%.40s' has no good '%s'",
                       cohort_ray_event_text(event, "event"), field);
}

/* A text that is there, and fits. */
static bool read_text(const cJSON *object, const char *name, size_t size,
                      const char **out_text) {
    *out_text = cohort_ray_event_text(object, name);
    return **out_text && strlen(*out_text) < size;
}

/* A whole number from least to most. */
static bool read_number(const cJSON *object, const char *name, int32_t least,
                        int32_t most, int32_t *out_number) {
    const cJSON *item = item_of(object, name);
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= least) ||
        !(item->valuedouble <= most) || item->valuedouble != floor(item->valuedouble))
        return false;
    *out_number = (int32_t)item->valuedouble;
    return true;
}

cohort_status cohort_ray_event_parse(const char *bytes, size_t size_bytes,
                                     cJSON **out_event) {
    cJSON *event = cJSON_ParseWithLength(bytes, size_bytes);
    if (cJSON_IsObject(event) && cJSON_IsString(item_of(event, "event"))) {
        *out_event = event;
        return COHORT_OK;
    }
    cJSON_Delete(event);
    return COHORT_FAIL(COHORT_E_PROTOCOL,
                       "the Ray sidecar sent %zu bytes that are no event", size_bytes);
}

static double amount_in(const cJSON *amounts, const char *key) {
    const cJSON *item = item_of(amounts, key);
    bool is_amount =
        cJSON_IsNumber(item) && isfinite(item->valuedouble) && item->valuedouble > 0;
    return is_amount ? item->valuedouble : 0;
}

double cohort_ray_event_amount(const cJSON *event, const char *object, const char *key) {
    return amount_in(item_of(event, object), key);
}

int32_t cohort_ray_event_rank(const cJSON *event, int32_t world_size) {
    int32_t rank;
    return read_number(event, "rank", 0, world_size - 1, &rank) ? rank : -1;
}

cohort_status cohort_ray_event_connected(const cJSON *event,
                                         cohort_ray_connected *out_connected) {
    if (!read_text(event, "node", COHORT_RAY_NODE_BYTES, &out_connected->node))
        return bad_event(event, "node");
    if (!read_text(event, "address", COHORT_HOST_BYTES, &out_connected->address))
        return bad_event(event, "address");
    out_connected->version = cohort_ray_event_text(event, "version");
    return COHORT_OK;
}

static cohort_status read_bundle(const cJSON *event, const cJSON *item, const char *key,
                                 int32_t least, cohort_ray_bundle *out_bundle) {
    if (!read_number(item, "index", least, INT32_MAX, &out_bundle->index))
        return bad_event(event, "index");
    if (!read_text(item, "node", COHORT_RAY_NODE_BYTES, &out_bundle->node_id))
        return bad_event(event, "node");
    if (!read_text(item, "address", COHORT_HOST_BYTES, &out_bundle->address))
        return bad_event(event, "address");
    out_bundle->amount = amount_in(item_of(item, "amounts"), key);
    return COHORT_OK;
}

cohort_status cohort_ray_event_bundles(const cJSON *event, const char *key,
                                       cohort_ray_bundle **out_bundles,
                                       int32_t *out_n_bundles) {
    const cJSON *list = item_of(event, "bundles");
    int32_t n_bundles = cJSON_GetArraySize(list);
    if (!cJSON_IsArray(list) || n_bundles > MAX_BUNDLES)
        return bad_event(event, "bundles");
    cohort_ray_bundle *bundles = calloc((size_t)n_bundles + 1, sizeof *bundles);
    if (!bundles) return COHORT_FAIL(COHORT_E_NOMEM, "allocating bundles");
    int32_t n = 0;
    int32_t least = 0; /* indices ascend: none comes twice */
    const cJSON *item;
    cJSON_ArrayForEach(item, list) {
        cohort_status status = read_bundle(event, item, key, least, &bundles[n]);
        if (status < 0) {
            free(bundles);
            return status;
        }
        least = bundles[n].index < INT32_MAX ? bundles[n].index + 1 : INT32_MAX;
        n++;
    }
    *out_bundles = bundles;
    *out_n_bundles = n;
    return COHORT_OK;
}

cohort_status cohort_ray_event_seated(const cJSON *event, int32_t world_size,
                                      cohort_ray_seated *out_seated) {
    const cJSON *devices = item_of(event, "devices");
    const cJSON *device;
    out_seated->rank = cohort_ray_event_rank(event, world_size);
    if (out_seated->rank < 0) return bad_event(event, "rank");
    if (!read_number(event, "life", 1, INT32_MAX, &out_seated->life))
        return bad_event(event, "life");
    if (!read_number(event, "pid", 1, INT32_MAX, &out_seated->pid))
        return bad_event(event, "pid");
    if (!read_text(event, "node", COHORT_RAY_NODE_BYTES, &out_seated->node))
        return bad_event(event, "node");
    if (!read_text(event, "address", COHORT_HOST_BYTES, &out_seated->address))
        return bad_event(event, "address");
    out_seated->build = cohort_ray_event_text(event, "build");
    out_seated->n_devices = 0;
    if (!cJSON_IsArray(devices)) return bad_event(event, "devices");
    cJSON_ArrayForEach(device, devices) {
        if (!cJSON_IsString(device) || !device->valuestring[0] ||
            strlen(device->valuestring) >= COHORT_RAY_DEVICE_BYTES ||
            out_seated->n_devices == COHORT_RAY_MAX_DEVICES)
            return bad_event(event, "devices");
        out_seated->devices[out_seated->n_devices++] = device->valuestring;
    }
    return COHORT_OK;
}

cohort_status cohort_ray_event_ended(const cJSON *event, int32_t world_size,
                                     cohort_ray_ended *out_ended) {
    out_ended->rank = cohort_ray_event_rank(event, world_size);
    if (out_ended->rank < 0) return bad_event(event, "rank");
    if (!read_number(event, "life", 1, INT32_MAX, &out_ended->life))
        return bad_event(event, "life");
    out_ended->has_returned = cJSON_IsTrue(item_of(event, "returned"));
    out_ended->text = cohort_ray_event_text(event, "text");
    return COHORT_OK;
}

cohort_status cohort_ray_event_lost(const cJSON *event, int32_t world_size,
                                    cohort_ray_lost *out_lost) {
    out_lost->rank = cohort_ray_event_rank(event, world_size);
    if (out_lost->rank < 0) return bad_event(event, "rank");
    if (!read_number(event, "life", 1, INT32_MAX, &out_lost->life))
        return bad_event(event, "life");
    out_lost->moved_to = cohort_ray_event_text(event, "moved_to");
    return COHORT_OK;
}

const cJSON *cohort_ray_event_looked(const cJSON *event, const char *node) {
    const cJSON *item;
    cJSON_ArrayForEach(
        item, item_of(event, "nodes")) if (!strcmp(cohort_ray_event_text(item, "node"),
                                                   node)) return item;
    return NULL;
}
