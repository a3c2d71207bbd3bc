/* SPDX-License-Identifier: Apache-2.0 */
#include "ray/doctor.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "cohort/clock.h"
#include "ray/actor.h"
#include "ray/event.h"
#include "ray/sidecar.h"

enum {
    TEXT_BYTES = 640,
    CLOCK_MS = 1000, /* logs of nodes further apart cannot be read side by side */
    VISIT_S = 30,    /* for all nodes at once; a Python may have to start there */
};

typedef struct doctor {
    void (*tell)(void *user_data, bool is_fault, const char *text);
    void *user_data;
    cohort_doctor_tally tally;
} doctor;

__attribute__((format(printf, 3, 4))) static void find(doctor *self, bool is_fault,
                                                       const char *format, ...) {
    char text[TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    self->tally.n_findings++;
    self->tally.n_faults += is_fault;
    self->tell(self->user_data, is_fault, text);
}

/* Python's 3.11.7 and 3.11.9 get on, 3.11 and 3.12 do not (Ray refuses them itself). */
static bool is_same_minor(const char *a, const char *b) {
    const char *dot = strchr(a, '.');
    size_t length = dot ? (size_t)(dot - a) + 1 + strcspn(dot + 1, ".") : strlen(a);
    return !strncmp(a, b, length) && (b[length] == '\0' || b[length] == '.');
}

static void examine_clock(doctor *self, const cJSON *node, const char *address) {
    const cJSON *clock = cJSON_GetObjectItemCaseSensitive(node, "clock_ms");
    if (!cJSON_IsNumber(clock)) return;
    bool is_far = fabs(clock->valuedouble) > CLOCK_MS;
    find(self, is_far, "node %s: clock %+.1f ms from this host's%s", address,
         clock->valuedouble,
         is_far ? "; set both by NTP, or logs and metrics cannot be compared" : "");
}

static void examine_node(doctor *self, const cJSON *event, const cJSON *node) {
    const char *address = cohort_ray_event_text(node, "address");
    const char *build = cohort_ray_event_text(node, "build");
    const char *ours = cohort_ray_actor_build_id();
    bool is_here = !strcmp(cohort_ray_event_text(node, "node"),
                           cohort_ray_event_text(event, "here"));
    if (cohort_ray_event_text(node, "silent")[0]) {
        find(self, true, "node %s: no answer (%s); look at the raylet's log there",
             address, cohort_ray_event_text(node, "silent"));
        return;
    }
    if (cohort_ray_event_text(node, "missing")[0])
        find(self, true,
             "node %s: libcohort cannot be loaded (%s); install Cohort there, or set "
             "COHORT_LIBRARY where its raylet is started",
             address, cohort_ray_event_text(node, "missing"));
    else if (strcmp(build, ours) != 0)
        find(self, true,
             "node %s: libcohort of build %.12s, this host %.12s; install one build on "
             "every "
             "node",
             address, build, ours);
    else
        find(self, false, "node %s%s: libcohort of build %.12s", address,
             is_here ? " (this host's)" : "", build);
    if (strcmp(cohort_ray_event_text(node, "ray"),
               cohort_ray_event_text(event, "version")) != 0 ||
        !is_same_minor(cohort_ray_event_text(event, "python"),
                       cohort_ray_event_text(node, "python")))
        find(self, true,
             "node %s: Ray %s on Python %s, this host Ray %s on Python %s; "
             "install the same",
             address, cohort_ray_event_text(node, "ray"),
             cohort_ray_event_text(node, "python"),
             cohort_ray_event_text(event, "version"),
             cohort_ray_event_text(event, "python"));
    if (cohort_ray_event_text(node, "deaf")[0])
        find(self, true,
             "node %s: nothing can listen on that address (%s); start Ray there with the "
             "--node-ip-address of an interface of its own",
             address, cohort_ray_event_text(node, "deaf"));
    examine_clock(self, node, address);
}

static void examine_resources(doctor *self, const cJSON *event) {
    const cJSON *total = cJSON_GetObjectItemCaseSensitive(event, "total");
    const cJSON *free_now = cJSON_GetObjectItemCaseSensitive(event, "free");
    const cJSON *item;
    cJSON_ArrayForEach(item, total) {
        const cJSON *left = cJSON_GetObjectItemCaseSensitive(free_now, item->string);
        /* Memory is no rank's demand, and a node's own name no resource. */
        if (!cJSON_IsNumber(item) || strchr(item->string, ':') ||
            strstr(item->string, "memory") || strstr(item->string, "_group_"))
            continue;
        double free_amount = cJSON_IsNumber(left) ? left->valuedouble : 0;
        find(self, false, "resource %s: %g, of which %g are free", item->string,
             item->valuedouble, free_amount);
    }
}

/* What nobody tried is not known to be well. */
static void examine_ways(doctor *self, const cJSON *event, int32_t n_nodes) {
    const cJSON *broken = cJSON_GetObjectItemCaseSensitive(event, "broken");
    const cJSON *ways = cJSON_GetObjectItemCaseSensitive(event, "ways");
    const cJSON *way;
    int64_t n_ways = (int64_t)n_nodes * (n_nodes - 1);
    int64_t n_tried = cJSON_IsNumber(ways) ? ways->valueint : 0;
    cJSON_ArrayForEach(way, broken)
        find(self, true,
             "node %s does not reach %s (%s); let every TCP port through between nodes",
             cohort_ray_event_text(way, "from"), cohort_ray_event_text(way, "to"),
             cohort_ray_event_text(way, "text"));
    if (n_tried < n_ways)
        find(self, true, "of %lld ways between nodes %lld could not be tried",
             (long long)n_ways, (long long)(n_ways - n_tried));
    else if (n_nodes > 1 && cJSON_GetArraySize(broken) == 0)
        find(self, false, "all %d nodes reach each other over TCP", n_nodes);
}

void cohort_ray_judge(const cJSON *event,
                      void (*tell)(void *user_data, bool is_fault, const char *text),
                      void *user_data, cohort_doctor_tally *out_tally) {
    doctor made = {.tell = tell, .user_data = user_data};
    doctor *self = &made;
    const cJSON *nodes = cJSON_GetObjectItemCaseSensitive(event, "nodes");
    const cJSON *node;
    int32_t n_nodes = cJSON_GetArraySize(nodes);
    find(self, false, "Ray %s, Python %s (%s)", cohort_ray_event_text(event, "version"),
         cohort_ray_event_text(event, "python"),
         cohort_ray_event_text(event, "executable"));
    find(self, n_nodes == 0, "%d node%s", n_nodes, n_nodes == 1 ? "" : "s");
    examine_resources(self, event);
    cJSON_ArrayForEach(node, nodes) examine_node(self, event, node);
    examine_ways(self, event, n_nodes);
    *out_tally = made.tally;
}

static cohort_status ask(cohort_sidecar *sidecar, const cohort_ray_options *options,
                         int64_t deadline_ns, cJSON **out_event) {
    char library[4096];
    const char *address = options->address ? options->address : getenv("RAY_ADDRESS");
    double half_s = (double)(deadline_ns - cohort_clock_ns()) * 1e-9 / 2;
    COHORT_TRY(cohort_sidecar_find_library(library, sizeof library));
    cJSON *order = cJSON_CreateObject();
    cJSON_AddStringToObject(order, "op", "doctor");
    cJSON_AddStringToObject(order, "namespace", "cohort_doctor");
    cJSON_AddStringToObject(order, "library", library);
    cJSON_AddNumberToObject(order, "visit_s", half_s < VISIT_S ? half_s : VISIT_S);
    if (address && address[0]) cJSON_AddStringToObject(order, "address", address);
    if (options->node_address && options->node_address[0])
        cJSON_AddStringToObject(order, "node_address", options->node_address);
    COHORT_TRY(cohort_sidecar_send(sidecar, order));
    cohort_status status = cohort_sidecar_receive(sidecar, deadline_ns, out_event);
    if (status == COHORT_E_TIMEOUT)
        return COHORT_FAIL(COHORT_E_TIMEOUT,
                           "no answer from Ray in time: is the address right, and the "
                           "cluster up?");
    COHORT_TRY(status);
    if (strcmp(cohort_ray_event_text(*out_event, "event"), "examined") != 0)
        return COHORT_FAIL(COHORT_E_IO, "%s", cohort_ray_event_text(*out_event, "text"));
    return COHORT_OK;
}

cohort_status cohort_ray_examine(const cohort_ray_options *options, int64_t deadline_ns,
                                 void (*tell)(void *user_data, bool is_fault,
                                              const char *text),
                                 void *user_data, cohort_doctor_tally *out_tally) {
    cohort_sidecar *sidecar;
    cJSON *event = NULL;
    *out_tally = (cohort_doctor_tally){0};
    COHORT_TRY(cohort_sidecar_start(&sidecar));
    cohort_status status = ask(sidecar, options, deadline_ns, &event);
    cohort_error error = status < 0 ? *cohort_last_error() : (cohort_error){0};
    if (status >= 0) cohort_ray_judge(event, tell, user_data, out_tally);
    cJSON_Delete(event);
    cohort_sidecar_end(sidecar, cohort_deadline_ms(6000));
    cohort_sidecar_free(sidecar);
    return status < 0 ? cohort_fail_adopt(&error) : COHORT_OK;
}
