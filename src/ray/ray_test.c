/* SPDX-License-Identifier: Apache-2.0 */
/* The launcher beside a sidecar that says what no sidecar should: a Python in its place,
 * without Ray, on the same socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "cohort/executor.h"
#include "ray/actor.h"

static char path[] = "/tmp/cohort-sidecar-XXXXXX";

static const char head[] =
    "#!/usr/bin/env python3\n"
    "import socket, struct\n"
    "peer = socket.socket(fileno=3)\n"
    "def raw(data): peer.sendall(struct.pack('<I', len(data)) + data)\n"
    "def say(text): raw(text.encode())\n"
    "def seat(rank, node):\n"
    "    "
    "say('{\"event\":\"seated\",\"rank\":%d,\"life\":1,\"node\":\"%s\",\"address\":\"127."
    "0.0.1\","
    "\"pid\":1,\"build\":\"'\n        % (rank, node) + BUILD + '\",\"devices\":[]}')\n"
    "say('{\"event\":\"connected\",\"node\":\"n1\",\"address\":\"127.0.0.1\"}')\n";

static const char placed[] =
    "say('{\"event\":\"placed\",\"bundles\":[' + ','.join('{\"index\":%d,\"node\":\"n1\","
    "\"address\":\"127.0.0.1\",\"amounts\":{\"CPU\":1}}' % i for i in (0, 1)) + ']}')\n";

/* What follows it is not read: the socket's buffer takes it. */
static const char tail[] =
    "while b'\"op\":\"close\"' not in (got := peer.recv(1 << 20)):\n"
    "    assert got\n";

static void write_sidecar(const char *before, const char *said) {
    memcpy(path + sizeof path - 7, "XXXXXX", 6);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    /* The interpreter's line is the first. */
    const char *rest = strchr(head, '\n') + 1;
    assert_true(dprintf(fd, "%.*sBUILD = '%s'\n%s%s%s\n%s", (int)(rest - head), head,
                        cohort_ray_actor_build_id(), rest, before, said, tail) > 0);
    assert_int_equal(fchmod(fd, 0700), 0);
    close(fd);
    setenv("COHORT_PYTHON", path, 1);
}

static cohort_ray_control_plane plane;

/* Starting two ranks fails so when the sidecar says this. */
static void expect_failure(const char *before, const char *said, cohort_status expected,
                           const char *text, const char *group) {
    cohort_executor *executor = NULL;
    cohort_executor_options options = cohort_executor_defaults();
    options.backend = "ray";
    options.tp = 2;
    options.ray.placement_group = group;
    options.ray.control_plane = plane;
    int64_t from_ns = cohort_clock_ns();
    write_sidecar(before, said);
    cohort_status status = cohort_executor_start(&options, &executor);
    unlink(path);
    if (!strstr(cohort_last_error()->message, text)) print_error("%s\n", said);
    assert_non_null(strstr(cohort_last_error()->message, text));
    assert_int_equal(status, expected);
    assert_null(executor);
    /* Nothing hung; a Python started in that time, maybe on a busy machine. */
    assert_true(cohort_clock_ns() - from_ns < INT64_C(60) * 1000000000);
}

static void a_group_that_nobody_has_is_refused_at_once(void **state) {
    (void)state;
    const char *const id = "0123456789abcdef0123456789abcdef0123";
    expect_failure("", "say('{\"event\":\"waiting\",\"state\":\"UNKNOWN\"}')",
                   COHORT_E_INVALID, "no placement group '0123456789abcdef", id);
    expect_failure("", "say('{\"event\":\"waiting\",\"state\":\"REMOVED\"}')",
                   COHORT_E_INVALID, "is removed", id);
}

static void bundles_that_are_none_are_refused(void **state) {
    (void)state;
    expect_failure("", "say('{\"event\":\"placed\",\"bundles\":[{\"node\":\"n1\"}]}')",
                   COHORT_E_PROTOCOL, "'placed' has no good 'index'", NULL);
}

static void a_rank_is_seated_once(void **state) {
    (void)state;
    expect_failure(placed, "seat(0, 'n1')\nseat(0, 'n1')", COHORT_E_PROTOCOL,
                   "seated rank 0 twice", NULL);
    expect_failure(placed, "seat(0, 'n1')\nseat(2, 'n1')", COHORT_E_PROTOCOL,
                   "'seated' has no good 'rank'", NULL);
}

static void r16_a_rank_beside_its_bundle_is_refused(void **state) {
    (void)state;
    expect_failure(placed, "seat(0, 'n1')\nseat(1, 'n2')", COHORT_E_INVALID,
                   "rank 1 came to node n2, and its bundle 1 is on node n1", NULL);
}

static void what_failed_for_a_rank_names_it(void **state) {
    (void)state;
    expect_failure(placed,
                   "say('{\"event\":\"failed\",\"rank\":1,\"text\":\"OSError: x\"}')",
                   COHORT_E_IO, "rank 1 (bundle 1 on 127.0.0.1): OSError: x", NULL);
}

static void a_length_that_cannot_be_ends_the_start(void **state) {
    (void)state;
    const char *const broken = "peer.sendall(b'\\xff\\xff\\xff\\xff' + b'x' * 100)";
    char late[256];
    expect_failure("", broken, COHORT_E_IO, "out of step", NULL);
    /* And while ranks connect, which never will: the reader's thread does not go on. */
    snprintf(late, sizeof late, "seat(0, 'n1')\nseat(1, 'n1')\n%s", broken);
    expect_failure(placed, late, COHORT_E_PEER_DIED, "was given up", NULL);
}

static void r19_a_message_that_is_none_does_not_end_the_watch(void **state) {
    (void)state;
    expect_failure(
        placed,
        "seat(0, 'n1')\nseat(1, 'n1')\n"
        "raw(b'{\"ev'); raw(b''); raw(b'\\xff' * 1000); say('{\"event\":\"ended\"}')\n"
        "say('{\"event\":\"ended\",\"rank\":7,\"life\":1,\"text\":\"x\"}')\n"
        "say('{\"event\":\"ended\",\"rank\":1,\"life\":1,\"returned\":true,\"text\":"
        "\"no\"}')",
        COHORT_E_PEER_DIED, "gave up: no", NULL);
}

static void rays_reason_is_told(void **state) {
    (void)state;
    expect_failure(
        placed,
        "seat(0, 'n1')\nseat(1, 'n1')\nsay('{\"event\":\"ended\",\"rank\":0,\"life\":1,"
        "\"returned\":false,\"text\":\"the node running low on memory\"}')",
        COHORT_E_PEER_DIED, "vanished (Ray ended it as its node ran low on memory)",
        NULL);
}

/* With a compiled graph: where there is no queue to it, and where it breaks. */
static void what_becomes_of_a_graph_is_told(void **state) {
    (void)state;
    plane = COHORT_RAY_COMPILED_GRAPH;
    expect_failure(placed, "say('{\"event\":\"graph\",\"replies\":\"00\"}')",
                   COHORT_E_PROTOCOL, "told of no queue of its graph", NULL);
    expect_failure(placed, "say('{\"event\":\"failed\",\"text\":\"no ray.dag\"}')",
                   COHORT_E_IO, "preparing a compiled graph: no ray.dag", NULL);
    plane = COHORT_RAY_QUEUES;
    expect_failure(placed,
                   "seat(0, 'n1')\nseat(1, 'n1')\n"
                   "say('{\"event\":\"broken\",\"text\":\"RayChannelError: x\"}')",
                   COHORT_E_PEER_DIED,
                   "was given up: Ray's compiled graph broke: RayChannelError: x", NULL);
}

/* Role: a rank that Ray started, with what it was told there. */
static int rank_main(const char *spec) {
    char text[200];
    cohort_status status =
        cohort_ray_actor_run(spec, "{\"K\":\"v\",\"\":\"w\"}", text, sizeof text);
    const char *told = getenv("K"); /* a name of one letter */
    if (!told || strcmp(told, "v") != 0) return 71;
    return status < 0 ? 70 : 0;
}

/* It ends by itself, at once; one of this epoch, in the same place, does not. */
static void a_rank_of_an_older_epoch_is_sent_away(void **state) {
    (void)state;
    expect_failure(placed,
                   "import json, os, subprocess\n"
                   "def order():\n"
                   "    size, = struct.unpack('<I', peer.recv(4, socket.MSG_WAITALL))\n"
                   "    return json.loads(peer.recv(size, socket.MSG_WAITALL))\n"
                   "def start(rank, age):\n"
                   "    spec = json.loads(told['actors'][rank]['spec'])\n"
                   "    spec['epoch'] -= age\n"
                   "    return subprocess.Popen([os.readlink('/proc/%d/exe' % "
                   "os.getppid()), 'rank',\n"
                   "                             json.dumps(spec)])\n"
                   "seat(0, 'n1')\nseat(1, 'n1')\n"
                   "while (told := order())['op'] != 'run': pass\n"
                   "timely = start(0, 0)\n"
                   "say('{\"event\":\"failed\",\"text\":\"late %s, timely %s\"}'\n"
                   "    % (start(1, 1).wait(30), timely.poll()))\n",
                   COHORT_E_IO, "late 70, timely None", NULL);
}

/* A variable that must precede a process's start (OPENBLAS_*, say) would have nodes asked
 * for it, which these sidecars do not expect. */
static void forget_environment(void) {
    static const char *const kept[] = {"PATH",         "HOME",         "TMPDIR",
                                       "ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS"};
    enum { N_KEPT = sizeof kept / sizeof *kept };
    char *values[N_KEPT];
    for (size_t i = 0; i < N_KEPT; i++)
        values[i] = getenv(kept[i]) ? strdup(getenv(kept[i])) : NULL;
    clearenv();
    for (size_t i = 0; i < N_KEPT; i++) {
        if (values[i]) setenv(kept[i], values[i], 1);
        free(values[i]);
    }
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "rank")) return rank_main(argv[2]);
    forget_environment();
    setenv("COHORT_LIBRARY", "/not/looked/at", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_that_nobody_has_is_refused_at_once),
        cmocka_unit_test(bundles_that_are_none_are_refused),
        cmocka_unit_test(a_rank_is_seated_once),
        cmocka_unit_test(r16_a_rank_beside_its_bundle_is_refused),
        cmocka_unit_test(what_failed_for_a_rank_names_it),
        cmocka_unit_test(a_length_that_cannot_be_ends_the_start),
        cmocka_unit_test(r19_a_message_that_is_none_does_not_end_the_watch),
        cmocka_unit_test(rays_reason_is_told),
        cmocka_unit_test(what_becomes_of_a_graph_is_told),
        cmocka_unit_test(a_rank_of_an_older_epoch_is_sent_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
