/* SPDX-License-Identifier: Apache-2.0 */
#include "ray/doctor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ray/actor.h"

static char said[4096];

static void tell(void *user_data, bool is_fault, const char *text) {
    (void)user_data;
    size_t used = strlen(said);
    snprintf(said + used, sizeof said - used, "%s %s\n", is_fault ? "FAULT" : "ok", text);
}

/* A node that is well, but for what is said more. */
static void add_node(cJSON *event, const char *address, const char *name,
                     const char *value) {
    cJSON *node = cJSON_CreateObject();
    cJSON_AddStringToObject(node, "node", address);
    cJSON_AddStringToObject(node, "address", address);
    cJSON_AddStringToObject(node, "build", cohort_ray_actor_build_id());
    cJSON_AddStringToObject(node, "ray", "2.60.0");
    cJSON_AddStringToObject(node, "python", "3.11.9");
    cJSON_AddNumberToObject(node, "clock_ms", 1.5);
    if (name) {
        cJSON_DeleteItemFromObject(node, name);
        cJSON_AddStringToObject(node, name, value);
    }
    cJSON_AddItemToArray(cJSON_GetObjectItem(event, "nodes"), node);
}

static cJSON *make_event(int ways) {
    cJSON *event = cJSON_CreateObject();
    cJSON_AddStringToObject(event, "version", "2.60.0");
    cJSON_AddStringToObject(event, "python", "3.11.7");
    cJSON_AddStringToObject(event, "here", "10.0.0.1");
    cJSON_AddNumberToObject(event, "ways", ways);
    cJSON_AddArrayToObject(event, "nodes");
    cJSON_AddArrayToObject(event, "broken");
    return event;
}

/* Judges, and takes the event away; how many faults. */
static int32_t judge(cJSON *event) {
    cohort_doctor_tally tally;
    said[0] = '\0';
    cohort_ray_judge(event, tell, NULL, &tally);
    cJSON_Delete(event);
    return tally.n_faults;
}

static void a_well_cluster_has_no_fault(void **state) {
    (void)state;
    cJSON *event = make_event(2);
    add_node(event, "10.0.0.1", NULL, NULL);
    add_node(event, "10.0.0.2", NULL, NULL);
    assert_int_equal(judge(event), 0);
    assert_non_null(strstr(said, "ok all 2 nodes reach each other"));
}

static void ways_that_nobody_tried_are_not_well(void **state) {
    (void)state;
    const char *const faults[][2] = {
        {"silent", "GetTimeoutError: Get timed out"},
        {"deaf", "OSError: Cannot assign requested address"}};
    for (int i = 0; i < 2; i++) {
        cJSON *event = make_event(2);
        add_node(event, "10.0.0.1", NULL, NULL);
        add_node(event, "10.0.0.2", NULL, NULL);
        add_node(event, "10.0.0.3", faults[i][0], faults[i][1]);
        assert_int_equal(judge(event), 2);
        assert_non_null(strstr(said, "FAULT node 10.0.0.3: "));
        assert_non_null(strstr(said, faults[i][1]));
        assert_non_null(
            strstr(said, "FAULT of 6 ways between nodes 4 could not be tried"));
        assert_null(strstr(said, "reach each other"));
    }
}

static void what_is_wrong_with_a_node_is_named(void **state) {
    (void)state;
    const char *const faults[][3] = {
        {"build", "0123456789abcdef",
         "FAULT node 10.0.0.2: libcohort of build 0123456789ab"},
        {"missing", "none.so: cannot open", "FAULT node 10.0.0.2: libcohort cannot be"},
        {"ray", "2.51.2", "FAULT node 10.0.0.2: Ray 2.51.2"},
        {"python", "3.12.1", "FAULT node 10.0.0.2: Ray 2.60.0 on Python 3.12.1"}};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        cJSON *event = make_event(2);
        add_node(event, "10.0.0.1", NULL, NULL);
        add_node(event, "10.0.0.2", faults[i][0], faults[i][1]);
        assert_int_equal(judge(event), 1);
        assert_non_null(strstr(said, faults[i][2]));
    }
}

static void a_clock_that_is_off_is_a_fault(void **state) {
    (void)state;
    cJSON *event = make_event(0);
    add_node(event, "10.0.0.1", NULL, NULL);
    cJSON *node = cJSON_GetArrayItem(cJSON_GetObjectItem(event, "nodes"), 0);
    cJSON_SetNumberValue(cJSON_GetObjectItem(node, "clock_ms"), -2500);
    assert_int_equal(judge(event), 1);
    assert_non_null(strstr(said, "FAULT node 10.0.0.1: clock -2500.0 ms"));
}

static void what_is_no_finding_of_a_sidecar_is_no_crash(void **state) {
    (void)state;
    const char *const wrong[] = {"{}", "{\"nodes\":7,\"ways\":\"x\",\"broken\":{}}",
                                 "{\"nodes\":[1,null,[]],\"broken\":[7]}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_true(judge(cJSON_Parse(wrong[i])) > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_well_cluster_has_no_fault),
        cmocka_unit_test(ways_that_nobody_tried_are_not_well),
        cmocka_unit_test(what_is_wrong_with_a_node_is_named),
        cmocka_unit_test(a_clock_that_is_off_is_a_fault),
        cmocka_unit_test(what_is_no_finding_of_a_sidecar_is_no_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
