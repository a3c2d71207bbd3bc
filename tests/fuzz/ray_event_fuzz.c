/* SPDX-License-Identifier: Apache-2.0 */
/* What the Ray sidecar says (ray/event.h), and what follows from it: no bytes of
 * it may be believed beyond their bounds. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "ray/doctor.h"
#include "ray/env.h"
#include "ray/event.h"

bool fuzz_is_valid;

enum { WORLD = 4 };

static void read_bundles(const cJSON *event) {
    static const cohort_ray_demand demand = {.key = "CPU", .amount = 1};
    cohort_ray_bundle *bundles = NULL;
    int32_t n = 0;
    int32_t positions[WORLD];
    if (cohort_ray_event_bundles(event, "CPU", &bundles, &n) < 0) return;
    for (int32_t i = 1; i < n; i++)
        if (bundles[i].index < bundles[i - 1].index) abort();
    if (cohort_ray_order_bundles(bundles, n, &demand, "a", WORLD, positions) >= 0)
        for (int i = 0; i < WORLD; i++)
            if (positions[i] < 0 || positions[i] >= n) abort();
    fuzz_is_valid = true;
    free(bundles);
}

static void read_rest(const cJSON *event) {
    cohort_ray_connected connected;
    cohort_ray_seated seated;
    cohort_ray_ended ended;
    if (cohort_ray_event_connected(event, &connected) >= 0) {
        fuzz_is_valid = true;
        if (strlen(connected.node) >= COHORT_RAY_NODE_BYTES) abort();
    }
    if (cohort_ray_event_seated(event, WORLD, &seated) >= 0) {
        fuzz_is_valid = true;
        if (seated.rank < 0 || seated.rank >= WORLD || seated.pid < 1) abort();
        for (int32_t i = 0; i < seated.n_devices; i++)
            if (strlen(seated.devices[i]) >= COHORT_RAY_DEVICE_BYTES) abort();
    }
    if (cohort_ray_event_ended(event, WORLD, &ended) >= 0) {
        fuzz_is_valid = true;
        if (ended.rank < 0 || ended.rank >= WORLD) abort();
        cohort_ray_reason(ended.text);
    }
    double amount = cohort_ray_event_amount(event, "total", "CPU");
    if (!(amount >= 0)) abort();
    fuzz_is_valid |= amount > 0;
}

static void read_looked(const cJSON *event) {
    static char path[] = "LD_LIBRARY_PATH=/a:/b", threads[] = "OMP_NUM_THREADS=4";
    static char *const environment[] = {path, threads, NULL};
    cohort_ray_env env;
    if (cohort_ray_env_read(environment, NULL, &env) < 0) return;
    cJSON *set = cohort_ray_env_on_node(&env, cohort_ray_event_looked(event, "a"));
    if (cJSON_GetArraySize(set) > 2) abort();
    fuzz_is_valid |= cJSON_GetArraySize(set) > 0;
    cJSON_Delete(set);
    cohort_ray_env_free(&env);
}

static void ignore(void *user_data, bool is_fault, const char *text) {
    (void)user_data;
    (void)is_fault;
    (void)text;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes) {
    cJSON *event = NULL;
    cohort_doctor_tally tally;
    if (cohort_ray_event_parse((const char *)bytes, size_bytes, &event) < 0) return 0;
    read_bundles(event);
    read_rest(event);
    read_looked(event);
    cohort_ray_judge(event, ignore, NULL, &tally);
    cJSON_Delete(event);
    return 0;
}
