/* SPDX-License-Identifier: Apache-2.0 */
#include "ray/actor.h"

#include <cjson/cJSON.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/build_id.h"
#include "base/fail.h"
#include "base/log.h"
#include "cohort/clock.h"
#include "link/link.h"
#include "ray/hatch.h"
#include "ray/rules.h"
#include "worker/worker_main.h"

/* Design notes.
 *
 * The environment is set before anything of the model runs, and after Python started:
 * what must come earlier was in the runtime_env (R8).  Names go to the log, values do
 * not: some are secrets. */

/* Of the process's only rank; opened before it connects, and so before the first call. */
static ray_hatch hatch;

typedef struct actor_spec {
    cohort_link_address link;
    cohort_link_hello hello;
    int64_t timeout_ms;
    const cJSON *env;
    const char *device, *devices; /* NULL: there are none */
    int64_t device_shared_by;
    bool has_graph;
} actor_spec;

const char *cohort_ray_actor_build_id(void) { return cohort_build_id(); }

static bool read_number(const cJSON *object, const char *name, int64_t *out_number) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!cJSON_IsNumber(item) || item->valuedouble < 0 || item->valuedouble > 0x1p53)
        return false;
    *out_number = (int64_t)item->valuedouble;
    return true;
}

static cohort_status read_spec(const cJSON *object, const cJSON *env,
                               actor_spec *out_spec) {
    int64_t rank = 0;
    int64_t epoch = 0;
    size_t size = 0;
    const char *hex =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, "link"));
    bool is_good = hex &&
                   !sodium_hex2bin(out_spec->link.bytes, sizeof out_spec->link.bytes, hex,
                                   strlen(hex), NULL, &size, NULL) &&
                   size == sizeof out_spec->link.bytes &&
                   read_number(object, "rank", &rank) && rank <= INT32_MAX &&
                   read_number(object, "epoch", &epoch) &&
                   read_number(object, "timeout_ms", &out_spec->timeout_ms);
    out_spec->env = env;
    out_spec->has_graph = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, "graph"));
    out_spec->device =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, "device"));
    out_spec->devices =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, "devices"));
    if (out_spec->device)
        is_good = is_good && out_spec->devices &&
                  read_number(object, "device_shared_by", &out_spec->device_shared_by);
    if (!is_good || !cJSON_IsObject(out_spec->env))
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "what the actor was told is no rank's spec");
    out_spec->hello = (cohort_link_hello){
        .purpose = COHORT_LINK_CONTROL, .rank = (int32_t)rank, .epoch = (uint64_t)epoch};
    return COHORT_OK;
}

/* ---- environment -------------------------------------------------------------- */

static bool is_there(const char *path, void *user_data) {
    (void)user_data;
    return !access(path, F_OK);
}

/* False where the node's own value stays, or no path of it is here. */
static bool set_variable(const char *name, const char *value) {
    char *merged = malloc(strlen(value) + 1);
    bool is_set =
        merged && cohort_ray_env_merge(name, getenv(name), value, is_there, NULL, merged);
    if (is_set) setenv(name, merged, 1);
    free(merged);
    return is_set;
}

static void merge_environment(const actor_spec *spec) {
    const cJSON *item;
    char set[512] = "";
    size_t used = 0;
    int32_t n_kept = 0;
    cJSON_ArrayForEach(item, spec->env) {
        if (!cJSON_IsString(item) || !item->string || !item->string[0]) continue;
        if (!set_variable(item->string, item->valuestring)) {
            n_kept++;
            continue;
        }
        int n = snprintf(set + used, sizeof set - used, "%s%s", used ? "," : "",
                         item->string);
        used += (size_t)n < sizeof set - used ? (size_t)n : 0;
    }
    cohort_log(COHORT_LOG_INFO, "ray", spec->hello.rank,
               "event=environment kept=%d set=%s", n_kept, set);
}

/* What the worker binds (model/backend.h).  Ray's numbers are those of the bus; what is
 * visible here stays as Ray and the node have it. */
static void tell_device(const actor_spec *spec) {
    char shared_by[24];
    if (!spec->device) return;
    snprintf(shared_by, sizeof shared_by, "%lld", (long long)spec->device_shared_by);
    setenv("COHORT_DEVICE_ID", spec->device, 1);
    setenv("COHORT_DEVICE_SHARED_BY", shared_by, 1);
    setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 0);
    const char *mask = getenv("CUDA_VISIBLE_DEVICES");
    cohort_log(COHORT_LOG_INFO, "ray", spec->hello.rank,
               "event=device id=%s shared_by=%s devices=%s visible=%s", spec->device,
               shared_by, spec->devices, mask ? mask : "all");
}

/* ---- the rank ----------------------------------------------------------------- */

static void start_log(const actor_spec *spec) {
    const cJSON *named =
        cJSON_GetObjectItemCaseSensitive(spec->env, "COHORT_LOGGING_LEVEL");
    cohort_log_level level;
    if (!named) named = cJSON_GetObjectItemCaseSensitive(spec->env, "VLLM_LOGGING_LEVEL");
    if (cJSON_IsString(named) && cohort_log_level_parse(named->valuestring, &level))
        cohort_log_set_sink(cohort_log_to_stderr, level, NULL);
}

static cohort_status be_rank(const char *text, const char *env_text) {
    actor_spec spec = {0};
    cohort_link *link = NULL;
    cJSON *object = cJSON_Parse(text);
    cJSON *env = cJSON_Parse(env_text);
    cohort_status status =
        sodium_init() < 0 ? COHORT_FAIL(COHORT_E_IO, "libsodium has no random numbers")
                          : read_spec(object, env, &spec);
    if (status >= 0) {
        start_log(&spec);
        merge_environment(&spec);
        tell_device(&spec);
        if (spec.has_graph) ray_hatch_open(&hatch);
        status = cohort_link_connect(&spec.link, false, &spec.hello,
                                     cohort_deadline_ms(spec.timeout_ms), -1, &link);
    }
    cJSON_Delete(object);
    cJSON_Delete(env);
    if (status < 0) return cohort_fail_while(status, "connecting to the driver");
    if (!spec.has_graph)
        return cohort_worker_guest_main(cohort_link_release(link),
                                        cohort_worker_model_ops(), NULL, NULL);
    status = cohort_worker_guest_main(
        cohort_link_release(link), cohort_worker_model_ops(), &ray_hatch_carrier, &hatch);
    ray_hatch_close(&hatch);
    return status;
}

int cohort_ray_actor_step(const void *call, size_t call_bytes, const void **out_reply,
                          size_t *out_reply_bytes) {
    return ray_hatch_pass(&hatch, call, call_bytes, out_reply, out_reply_bytes);
}

/* Ray starts workers at nice 15: a rank would wait for whatever else runs here, and the
 * driver, which is as nice as its user, for the rank.  Who may not, stays. */
static void be_as_urgent_as_others(void) {
    if (getpriority(PRIO_PROCESS, 0) > 0) setpriority(PRIO_PROCESS, 0, 0);
}

int cohort_ray_actor_run(const char *spec, const char *env, char *out_text, size_t size) {
    be_as_urgent_as_others();
    cohort_status status = be_rank(spec, env);
    snprintf(out_text, size, "%s", status < 0 ? cohort_last_error()->message : "");
    return status;
}
