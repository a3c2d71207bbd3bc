/* SPDX-License-Identifier: Apache-2.0 */
/* A rank that waits for peers to meet it leaves at once when it is told to. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "collective/mesh.h"

enum { WORLD = 2, PATIENCE_MS = 60000 };

typedef struct world {
    cohort_mesh *meshes[WORLD];
    cohort_mesh_handle handles[WORLD];
    int connects; /* this rank */
    cohort_status ended;
} world;

static void *connect_main(void *argument) {
    world *self = argument;
    self->ended = cohort_mesh_connect(self->meshes[self->connects], self->handles,
                                      cohort_deadline_ms(PATIENCE_MS));
    return NULL;
}

static int set_up(void **state) {
    static world self;
    *state = &self;
    for (int r = 0; r < WORLD; r++) {
        const cohort_mesh_options options = {
            .rank = r, .world_size = WORLD, .spin_ns = -1};
        assert_int_equal(cohort_mesh_open(&options, &self.meshes[r]), COHORT_OK);
        assert_int_equal(cohort_mesh_export(self.meshes[r], &self.handles[r]), COHORT_OK);
    }
    return 0;
}

static int tear_down(void **state) {
    world *self = *state;
    for (int r = 0; r < WORLD; r++)
        cohort_mesh_close(self->meshes[r]);
    return 0;
}

static void poison_while_connecting(world *self, int rank) {
    pthread_t thread;
    const cohort_error error = {
        .code = COHORT_E_INTERRUPTED, .rank = COHORT_RANK_LOCAL, .message = "leave"};
    self->connects = rank;
    assert_int_equal(pthread_create(&thread, NULL, connect_main, self), 0);
    cohort_mesh_poison(self->meshes[rank], &error);
    pthread_join(thread, NULL);
    assert_int_equal(self->ended, COHORT_E_INTERRUPTED);
}

static void poison_ends_who_dials_a_peer_that_lets_nobody_in(void **state) {
    poison_while_connecting(*state, 1);
}

static void poison_ends_who_waits_for_a_peer_to_dial(void **state) {
    poison_while_connecting(*state, 0);
}

static void *dial_main(void *argument) {
    const world *self = argument;
    cohort_link_address address;
    cohort_link *link = NULL;
    const cohort_link_hello hello = {.purpose = COHORT_LINK_MESH, .rank = 1};
    memcpy(&address, self->handles[0].bytes, sizeof address);
    if (cohort_link_connect(&address, false, &hello, cohort_deadline_ms(PATIENCE_MS), -1,
                            &link) < 0)
        return NULL;
    return link;
}

/* The peer's link is there; its outbox never comes. */
static void poison_ends_who_waits_for_an_outbox(void **state) {
    world *self = *state;
    pthread_t acceptor, dialer;
    void *link;
    char byte;
    const cohort_error error = {
        .code = COHORT_E_INTERRUPTED, .rank = COHORT_RANK_LOCAL, .message = "leave"};
    self->connects = 0;
    assert_int_equal(pthread_create(&acceptor, NULL, connect_main, self), 0);
    assert_int_equal(pthread_create(&dialer, NULL, dial_main, self), 0);
    pthread_join(dialer, &link);
    assert_non_null(link);
    assert_int_equal(cohort_link_recv(link, &byte, 1, cohort_deadline_ms(PATIENCE_MS)),
                     COHORT_OK); /* with its outbox, so that it waits for ours */
    cohort_mesh_poison(self->meshes[0], &error);
    pthread_join(acceptor, NULL);
    assert_int_equal(self->ended, COHORT_E_INTERRUPTED);
    cohort_link_close(link);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(poison_ends_who_dials_a_peer_that_lets_nobody_in,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(poison_ends_who_waits_for_a_peer_to_dial, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(poison_ends_who_waits_for_an_outbox, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
