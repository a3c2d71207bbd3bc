/* SPDX-License-Identifier: Apache-2.0 */
#include "ray/rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX = 8 };

static const cohort_ray_demand one_gpu = {.key = "GPU", .amount = 1};

/* Bundles on the nodes that letters name, "a" the driver's; amounts of 1 unless said. */
static int32_t make_bundles(const char *nodes, const double *amounts,
                            cohort_ray_bundle *out_bundles) {
    static const char *const ids[] = {"node_a", "node_b", "node_c"};
    int32_t n = (int32_t)strlen(nodes);
    for (int32_t i = 0; i < n; i++)
        out_bundles[i] = (cohort_ray_bundle){.index = i,
                                             .node_id = ids[nodes[i] - 'a'],
                                             .amount = amounts ? amounts[i] : 1};
    return n;
}

static void expect_order(const char *nodes, const double *amounts, int32_t world_size,
                         const int32_t *expected) {
    cohort_ray_bundle bundles[MAX];
    int32_t positions[MAX];
    int32_t n = make_bundles(nodes, amounts, bundles);
    assert_int_equal(
        cohort_ray_order_bundles(bundles, n, &one_gpu, "node_a", world_size, positions),
        COHORT_OK);
    for (int32_t i = 0; i < world_size; i++)
        assert_int_equal(positions[i], expected[i]);
}

#define ORDER(...) ((const int32_t[]){__VA_ARGS__})

/* ---- the cases of vLLM's tests/utils_/test_ray_utils.py ------------------------- */

static void test_get_bundles_sorted_by_node(void **state) {
    (void)state;
    expect_order("cabcab", NULL, 6, ORDER(1, 4, 2, 5, 0, 3));
    expect_order("bbaa", NULL, 4, ORDER(2, 3, 0, 1));
    expect_order("cbcb", NULL, 4, ORDER(1, 3, 0, 2)); /* none on the driver's node */
    expect_order("aaa", NULL, 3, ORDER(0, 1, 2));
    expect_order("a", NULL, 1, ORDER(0));
    expect_order("", NULL, 0, ORDER(0));
    expect_order("abab", NULL, 2, ORDER(0, 2)); /* V2 sorts, and takes what it needs */
    expect_order("aba", (const double[]){0, 1, 1}, 2, ORDER(2, 1));
}

static void r16b_surplus_bundles_are_not_counted(void **state) {
    (void)state;
    cohort_ray_bundle bundles[MAX];
    int32_t positions[MAX] = {0};
    int32_t n = make_bundles("bcbabc", NULL, bundles);
    positions[2] = 77;
    assert_int_equal(
        cohort_ray_order_bundles(bundles, n, &one_gpu, "node_a", 2, positions),
        COHORT_OK);
    assert_int_equal(positions[2], 77);
    cohort_ray_seat seats[2] = {{.node_id = bundles[positions[0]].node_id},
                                {.node_id = bundles[positions[1]].node_id}};
    cohort_ray_number_seats(seats, 2);
    assert_int_equal(seats[0].local_world_size, 1);
    assert_int_equal(seats[1].local_world_size, 1);
}

static void r16b_the_drivers_node_is_taken_before_lower_indices(void **state) {
    (void)state;
    expect_order("bbaa", NULL, 2, ORDER(2, 3));
    expect_order("bbaa", NULL, 3, ORDER(2, 3, 0));
    expect_order("cbcb", NULL, 1, ORDER(1));
    expect_order("bcabac", NULL, 4, ORDER(2, 4, 0, 3));
    expect_order("bbaa", (const double[]){1, 1, 0, 1}, 2, ORDER(3, 0));
}

static void too_few_bundles_say_how_many_are_there(void **state) {
    (void)state;
    cohort_ray_bundle bundles[MAX];
    int32_t positions[MAX];
    int32_t n = make_bundles("aab", (const double[]){1, 0.5, 1}, bundles);
    assert_int_equal(
        cohort_ray_order_bundles(bundles, n, &one_gpu, "node_a", 3, positions),
        COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "2 bundles with 1 GPU, and 3"));
}

static void bundles_that_our_starter_holds_are_left_to_it(void **state) {
    (void)state;
    cohort_ray_bundle bundles[MAX];
    int32_t positions[MAX];
    int32_t n = make_bundles("aab", NULL, bundles);
    assert_int_equal(cohort_ray_leave_held(NULL, &one_gpu, bundles, n), COHORT_OK);
    assert_int_equal(
        cohort_ray_leave_held("CPU/1=1,GPU/0=0.5,GPU/7=1", &one_gpu, bundles, n),
        COHORT_OK);
    assert_int_equal(
        cohort_ray_order_bundles(bundles, n, &one_gpu, "node_a", 2, positions),
        COHORT_OK);
    assert_int_equal(positions[0], 1);
    assert_int_equal(positions[1], 2);
    const char *const bad[] = {"GPU",  "GPU/0", "GPU/x=1",  "GPU/0=1;",
                               "/0=1", ",",     "GPU/0=-1", "GPU/0=nan"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(cohort_ray_leave_held(bad[i], &one_gpu, bundles, n),
                         COHORT_E_INVALID);
        assert_non_null(strstr(cohort_last_error()->message, bad[i]));
    }
}

/* Ray counts in ten-thousandths: what is left of tenths in binary is a tenth all the
 * same, and half a ten-thousandth less is less. */
static void fractions_that_do_not_add_up_in_binary_do_here(void **state) {
    (void)state;
    static const struct {
        const char *held;
        double amount;
        cohort_status expected;
    } cases[] = {{"GPU/0=0.3,GPU/0=0.3,GPU/0=0.3", 0.1, COHORT_OK},
                 {"GPU/0=0.9", 0.1, COHORT_OK},
                 {"GPU/0=0.1,GPU/0=0.2", 0.7, COHORT_OK},
                 {"GPU/0=0.9", 0.1001, COHORT_E_INVALID},
                 {"GPU/0=0.9001", 0.1, COHORT_E_INVALID},
                 {"GPU/0=0.00004", 1, COHORT_OK},
                 {"GPU/0=0.00006", 1, COHORT_E_INVALID}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const cohort_ray_demand demand = {.key = "GPU", .amount = cases[i].amount};
        cohort_ray_bundle bundles[MAX];
        int32_t positions[MAX];
        int32_t n = make_bundles("a", NULL, bundles);
        assert_int_equal(cohort_ray_leave_held(cases[i].held, &demand, bundles, n),
                         COHORT_OK);
        assert_int_equal(
            cohort_ray_order_bundles(bundles, n, &demand, "node_a", 1, positions),
            cases[i].expected);
    }
}

static void expect_refused(const char *indices, int32_t world_size, const char *text) {
    cohort_ray_bundle bundles[MAX];
    int32_t positions[MAX];
    int32_t n = make_bundles("aabb", (const double[]){1, 1, 1, 0}, bundles);
    assert_int_equal(
        cohort_ray_name_bundles(indices, bundles, n, &one_gpu, world_size, positions),
        COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, text));
}

static void test_ray_v2_bundle_indices_env(void **state) {
    (void)state;
    cohort_ray_bundle bundles[MAX];
    int32_t positions[MAX];
    int32_t n = make_bundles("aabb", NULL, bundles);
    assert_int_equal(cohort_ray_name_bundles("2,3", bundles, n, &one_gpu, 2, positions),
                     COHORT_OK);
    assert_int_equal(positions[0], 2);
    assert_int_equal(positions[1], 3);
    assert_int_equal(cohort_ray_name_bundles("3, 2", bundles, n, &one_gpu, 2, positions),
                     COHORT_OK);
    assert_int_equal(positions[0], 3);
    assert_int_equal(positions[1], 2);
}

static void test_ray_v2_invalid_bundle_indices(void **state) {
    (void)state;
    expect_refused("1,1", 2, "cannot have duplicate values,");
    expect_refused("0,1,2", 2, "must have the same size");
    expect_refused("0", 2, "must have the same size");
    expect_refused("0,7", 2, "bundle index 7: the placement group has 4 bundles");
    expect_refused("0,-1", 2, "bundle index -1");
    expect_refused("0,99999999999999999999", 2, "bundle index");
    expect_refused("0,x", 2, "write numbers");
    expect_refused("0,,1", 2, "write numbers");
    expect_refused("0,1,", 2, "write numbers");
    expect_refused("", 1, "write numbers");
    expect_refused("0,3", 2, "name another bundle");
}

static void vllm_names_the_same_variable(void **state) {
    (void)state;
    char ours[] = "COHORT_RAY_BUNDLE_INDICES=2,1";
    char theirs[] = "VLLM_RAY_BUNDLE_INDICES=0,3";
    char empty[] = "COHORT_RAY_BUNDLE_INDICES=";
    char *both[] = {theirs, ours, NULL};
    char *one[] = {empty, theirs, NULL};
    char *none[] = {empty, NULL};
    assert_string_equal(cohort_ray_bundle_indices(both), "2,1");
    assert_string_equal(cohort_ray_bundle_indices(one), "0,3");
    assert_null(cohort_ray_bundle_indices(none));
}

/* ---- seats -------------------------------------------------------------------- */

/* Devices as strings in one text, with commas. */
static cohort_ray_seat seat_on(const char *node_id, char *const *ids, int32_t n) {
    return (cohort_ray_seat){.node_id = node_id, .device_ids = ids, .n_devices = n};
}

static char id_0[] = "0", id_1[] = "1", id_2[] = "2", id_10[] = "10";
static char uuid_a[] = "GPU-aa", uuid_b[] = "GPU-bb";

/* Of its device among the engine's on its node; -1: it has none. */
static int32_t place_of(const cohort_ray_seat *seats, int32_t n_seats, int32_t rank) {
    char map[COHORT_RAY_MAP_BYTES];
    const char *id = cohort_ray_device_of(seats, n_seats, rank);
    if (!id) return -1;
    assert_int_equal(cohort_ray_device_map(seats, n_seats, rank, map, sizeof map),
                     COHORT_OK);
    int32_t place = 0;
    for (char *at = strtok(map, ","); at && strcmp(at, id); at = strtok(NULL, ","))
        place++;
    return place;
}

static void local_ranks_count_on_each_node(void **state) {
    (void)state;
    cohort_ray_seat seats[5] = {{.node_id = "x"},
                                {.node_id = "y"},
                                {.node_id = "x"},
                                {.node_id = "z"},
                                {.node_id = "y"}};
    const int32_t local_ranks[] = {0, 0, 1, 0, 1};
    const int32_t local_sizes[] = {2, 2, 2, 1, 2};
    cohort_ray_number_seats(seats, 5);
    assert_int_equal(cohort_ray_count_nodes(seats, 1), 1);
    assert_int_equal(cohort_ray_count_nodes(seats, 5), 3);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(seats[i].local_rank, local_ranks[i]);
        assert_int_equal(seats[i].local_world_size, local_sizes[i]);
    }
}

static void r14_every_rank_sees_all_devices_of_its_node(void **state) {
    (void)state;
    char *first[] = {id_1};
    char *second[] = {id_0};
    char *other[] = {id_2};
    char mask[COHORT_RAY_MAP_BYTES];
    cohort_ray_seat seats[3] = {seat_on("x", first, 1), seat_on("x", second, 1),
                                seat_on("y", other, 1)};
    for (int32_t rank = 0; rank < 2; rank++) {
        assert_int_equal(cohort_ray_device_map(seats, 3, rank, mask, sizeof mask),
                         COHORT_OK);
        assert_string_equal(mask, "0,1");
    }
    assert_int_equal(place_of(seats, 3, 0), 1);
    assert_int_equal(place_of(seats, 3, 1), 0);
    assert_int_equal(cohort_ray_device_map(seats, 3, 2, mask, sizeof mask), COHORT_OK);
    assert_string_equal(mask, "2");
    assert_int_equal(place_of(seats, 3, 2), 0);
}

static void r15_device_ids_sort_as_numbers(void **state) {
    (void)state;
    char *first[] = {id_10, id_2};
    char *second[] = {id_1};
    char mask[COHORT_RAY_MAP_BYTES];
    cohort_ray_seat seats[2] = {seat_on("x", first, 2), seat_on("x", second, 1)};
    assert_int_equal(cohort_ray_device_map(seats, 2, 0, mask, sizeof mask), COHORT_OK);
    assert_string_equal(mask, "1,2,10");
    assert_int_equal(place_of(seats, 2, 0), 1);
    assert_int_equal(place_of(seats, 2, 1), 0);
}

/* One that begins as another does is another; numbers go by value, before names. */
static void device_names_of_unequal_length_are_told_apart(void **state) {
    (void)state;
    static char long_a[] = "GPU-aaa", a[] = "GPU-a", number[] = "007", nine[] = "9";
    char *first[] = {long_a, uuid_a, id_10};
    char *second[] = {a, nine, number};
    char mask[COHORT_RAY_MAP_BYTES];
    const cohort_ray_demand demand = {.key = "GPU", .amount = 3};
    cohort_ray_seat seats[2] = {seat_on("x", first, 3), seat_on("x", second, 3)};
    assert_int_equal(cohort_ray_device_map(seats, 2, 0, mask, sizeof mask), COHORT_OK);
    assert_string_equal(mask, "007,9,10,GPU-a,GPU-aa,GPU-aaa");
    assert_int_equal(place_of(seats, 2, 0), 2);
    assert_int_equal(place_of(seats, 2, 1), 0);
    assert_int_equal(cohort_ray_check_placement(seats, 2, COHORT_RAY_PACK, &demand),
                     COHORT_OK); /* nothing is shared */
    assert_int_equal(cohort_ray_device_map(seats, 2, 0, mask, 30), COHORT_OK);
    assert_int_equal(cohort_ray_device_map(seats, 2, 0, mask, 29), COHORT_E_INVALID);
}

static void r15_shared_devices_stand_once_in_the_mask(void **state) {
    (void)state;
    char *low[] = {id_0};
    char *high[] = {id_1};
    char mask[COHORT_RAY_MAP_BYTES];
    const cohort_ray_demand half = {.key = "GPU", .amount = 0.5};
    cohort_ray_seat seats[4] = {seat_on("x", low, 1), seat_on("x", low, 1),
                                seat_on("x", high, 1), seat_on("x", high, 1)};
    const int32_t ordinals[] = {0, 0, 1, 1};
    assert_int_equal(cohort_ray_device_map(seats, 4, 3, mask, sizeof mask), COHORT_OK);
    assert_string_equal(mask, "0,1");
    for (int32_t rank = 0; rank < 4; rank++)
        assert_int_equal(place_of(seats, 4, rank), ordinals[rank]);
    assert_int_equal(cohort_ray_check_placement(seats, 4, COHORT_RAY_PACK, &half),
                     COHORT_OK);
    assert_int_equal(cohort_ray_check_placement(seats, 4, COHORT_RAY_PACK, &one_gpu),
                     COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "given device 0"));
}

static void devices_may_be_named_or_none(void **state) {
    (void)state;
    char *named[] = {uuid_b, uuid_a};
    char mask[COHORT_RAY_MAP_BYTES];
    cohort_ray_seat seats[2] = {seat_on("x", named, 2), seat_on("y", NULL, 0)};
    assert_int_equal(cohort_ray_device_map(seats, 2, 0, mask, sizeof mask), COHORT_OK);
    assert_string_equal(mask, "GPU-aa,GPU-bb");
    assert_int_equal(cohort_ray_device_map(seats, 2, 1, mask, sizeof mask), COHORT_OK);
    assert_string_equal(mask, "");
    assert_int_equal(place_of(seats, 2, 1), -1);
    assert_int_equal(cohort_ray_device_map(seats, 2, 0, mask, 8), COHORT_E_INVALID);
}

static void r16_placement_is_checked_against_the_request(void **state) {
    (void)state;
    cohort_ray_seat apart[2] = {{.node_id = "x"}, {.node_id = "y"}};
    cohort_ray_seat together[2] = {{.node_id = "x"}, {.node_id = "x"}};
    const struct {
        cohort_ray_strategy strategy;
        const cohort_ray_seat *seats;
        cohort_status expected;
    } cases[] = {{COHORT_RAY_PACK, apart, COHORT_OK},
                 {COHORT_RAY_SPREAD, together, COHORT_OK},
                 {COHORT_RAY_STRICT_PACK, together, COHORT_OK},
                 {COHORT_RAY_STRICT_SPREAD, apart, COHORT_OK},
                 {COHORT_RAY_STRICT_PACK, apart, COHORT_E_INVALID},
                 {COHORT_RAY_STRICT_SPREAD, together, COHORT_E_INVALID}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(
            cohort_ray_check_placement(cases[i].seats, 2, cases[i].strategy, &one_gpu),
            cases[i].expected);
}

static void r16_a_rank_sits_where_its_bundle_is(void **state) {
    (void)state;
    cohort_ray_seat seats[2] = {{.node_id = "x", .bundle_node = "x", .bundle = 4},
                                {.node_id = "y", .bundle_node = "z", .bundle = 7}};
    assert_int_equal(cohort_ray_check_placement(seats, 2, COHORT_RAY_PACK, &one_gpu),
                     COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message,
                           "rank 1 came to node y, and its bundle 7 is on node z"));
    seats[1].node_id = "z";
    assert_int_equal(cohort_ray_check_placement(seats, 2, COHORT_RAY_PACK, &one_gpu),
                     COHORT_OK);
}

/* ---- resources and names -------------------------------------------------------- */

static void r17_resource_and_amount_are_the_users(void **state) {
    (void)state;
    cohort_ray_demand demand;
    assert_int_equal(cohort_ray_parse_demand("GPU", &demand), COHORT_OK);
    assert_string_equal(demand.key, "GPU");
    assert_true(demand.amount == 1);
    assert_int_equal(cohort_ray_parse_demand("TPU=4", &demand), COHORT_OK);
    assert_string_equal(demand.key, "TPU");
    assert_true(demand.amount == 4);
    assert_int_equal(cohort_ray_parse_demand("GPU=0.25", &demand), COHORT_OK);
    assert_true(demand.amount == 0.25);
    const char *const wrong[] = {"",       "=1",      "GPU=",    "GPU=x",  "GPU=0",
                                 "GPU=-1", "GPU=1.5", "GPU=nan", "GPU=1 ", "GPU=1e300"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(cohort_ray_parse_demand(wrong[i], &demand), COHORT_E_INVALID);
}

static void strategies_have_rays_names(void **state) {
    (void)state;
    cohort_ray_strategy strategy;
    for (int i = COHORT_RAY_PACK; i <= COHORT_RAY_STRICT_SPREAD; i++) {
        assert_int_equal(cohort_ray_parse_strategy(
                             cohort_ray_strategy_name((cohort_ray_strategy)i), &strategy),
                         COHORT_OK);
        assert_int_equal(strategy, i);
    }
    assert_int_equal(cohort_ray_parse_strategy("strict_pack", &strategy), COHORT_OK);
    assert_int_equal(strategy, COHORT_RAY_STRICT_PACK);
    assert_int_equal(cohort_ray_parse_strategy("TIGHT", &strategy), COHORT_E_INVALID);
}

static void expect_name(const cohort_ray_identity *identity, int32_t rank,
                        const char *expected) {
    char name[COHORT_RAY_NAME_BYTES];
    assert_int_equal(cohort_ray_actor_name(identity, rank, 1, name, sizeof name),
                     COHORT_OK);
    assert_string_equal(name, expected);
}

static void r1_names_differ_between_engines_and_ranks(void **state) {
    (void)state;
    char seen[16][COHORT_RAY_NAME_BYTES];
    int n = 0;
    for (int32_t dp = 0; dp < 4; dp++)
        for (int32_t rank = 0; rank < 4; rank++, n++) {
            /* Data-parallel engines are copies: one instance name. */
            cohort_ray_identity identity = {
                .instance = "ab12", .dp_rank = dp, .tp = 2, .pp = 2};
            assert_int_equal(
                cohort_ray_actor_name(&identity, rank, 1, seen[n], sizeof seen[n]),
                COHORT_OK);
            for (int i = 0; i < n; i++)
                assert_string_not_equal(seen[i], seen[n]);
        }
    expect_name(&(cohort_ray_identity){"ab12", 3, 2, 2}, 3,
                "cohort_Worker_ab12_DP3_TP1_PP1");
    expect_name(&(cohort_ray_identity){"ab12", -1, 2, 1}, 1, "cohort_Worker_ab12_TP1");
    expect_name(&(cohort_ray_identity){"ab12", -1, 1, 2}, 1, "cohort_Worker_ab12_PP1");
    expect_name(&(cohort_ray_identity){"ab12", -1, 1, 1}, 0, "cohort_Worker_ab12");
    char again[COHORT_RAY_NAME_BYTES];
    assert_int_equal(cohort_ray_actor_name(&(cohort_ray_identity){"ab12", -1, 2, 1}, 1, 3,
                                           again, sizeof again),
                     COHORT_OK);
    assert_string_equal(again, "cohort_Worker_ab12_TP1_L3");
    char small[16];
    assert_int_equal(cohort_ray_actor_name(&(cohort_ray_identity){"ab12", -1, 1, 1}, 0, 1,
                                           small, sizeof small),
                     COHORT_E_INVALID);
}

static void a_lost_nodes_rank_goes_where_there_is_room(void **state) {
    (void)state;
    const cohort_ray_demand demand = {.key = "CPU", .amount = 2};
    const cohort_ray_bundle rooms[] = {{.node_id = "a", .amount = 8},
                                       {.node_id = "b", .amount = 1},
                                       {.node_id = "c", .amount = 2},
                                       {.node_id = "d", .amount = 3},
                                       {.node_id = "e", .amount = 2}};
    int32_t at = -1;
    /* The lost one may look empty; the driver's node comes first, then the emptiest. */
    assert_int_equal(cohort_ray_pick_room(rooms, 5, &demand, "a", "c", &at), COHORT_OK);
    assert_int_equal(at, 2);
    assert_int_equal(cohort_ray_pick_room(rooms, 5, &demand, "a", "e", &at), COHORT_OK);
    assert_int_equal(at, 4);
    assert_int_equal(cohort_ray_pick_room(rooms, 5, &demand, "a", "b", &at), COHORT_OK);
    assert_int_equal(at, 3);
    assert_int_equal(cohort_ray_pick_room(rooms, 2, &demand, "a", "b", &at),
                     COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "its node is lost"));
}

/* ---- environment ---------------------------------------------------------------- */

static void test_env_var_and_runtime_env_propagation_rules(void **state) {
    (void)state;
    const char *const following[] = {
        "NCCL_DEBUG",           "HF_TOKEN", "VLLM_LOGGING_LEVEL",
        "COHORT_LOGGING_LEVEL", "MY_OWN",   "LANG"};
    for (size_t i = 0; i < sizeof following / sizeof *following; i++)
        assert_int_equal(cohort_ray_travel_of(following[i], NULL), COHORT_RAY_FOLLOWS);
}

static void r8_what_is_read_early_goes_into_the_runtime_env(void **state) {
    (void)state;
    const char *const early[] = {"LD_PRELOAD",
                                 "LD_LIBRARY_PATH",
                                 "OMP_NUM_THREADS",
                                 "OMP_PROC_BIND",
                                 "MALLOC_ARENA_MAX",
                                 "GLIBC_TUNABLES",
                                 "VLLM_USE_BREAKABLE_CUDAGRAPH"};
    for (size_t i = 0; i < sizeof early / sizeof *early; i++)
        assert_int_equal(cohort_ray_travel_of(early[i], NULL), COHORT_RAY_PRECEDES);
}

static bool is_in_lib(const char *path, void *user_data) {
    (void)user_data;
    return !strncmp(path, "/lib", 4);
}

/* What a node without a value of its own gets; NULL: nothing. */
static const char *merged(const char *name, const char *value) {
    static char out[128];
    return cohort_ray_env_merge(name, NULL, value, is_in_lib, NULL, out) ? out : NULL;
}

static void r9_paths_that_a_node_lacks_are_dropped(void **state) {
    (void)state;
    assert_true(cohort_ray_env_is_path_list("LD_LIBRARY_PATH"));
    assert_true(cohort_ray_env_is_path_list("TVM_LIBRARY_PATH"));
    assert_true(cohort_ray_env_is_path_list("CUTE_DSL_LIBS"));
    assert_false(cohort_ray_env_is_path_list("LD_LIBRARY_PATH_X"));
    assert_false(cohort_ray_env_is_path_list("TVM_HOME"));
    assert_string_equal(merged("LD_LIBRARY_PATH", "/opt/x:/lib/a::/lib/b:/opt/y"),
                        "/lib/a:/lib/b");
    assert_string_equal(merged("LD_LIBRARY_PATH", "/opt/a b:/lib/a b"), "/lib/a b");
    assert_null(merged("LD_LIBRARY_PATH", "/opt/x:/opt/y"));
    assert_null(merged("LD_LIBRARY_PATH", ""));
    /* Of a list that is none of paths nothing is dropped. */
    assert_string_equal(merged("GLIBC_TUNABLES", "a=1:b=2"), "a=1:b=2");
}

static void r9_what_the_loader_looks_for_itself_is_kept(void **state) {
    (void)state;
    assert_string_equal(merged("LD_PRELOAD", "/opt/x.so libjemalloc.so.2 /lib/a.so"),
                        "libjemalloc.so.2:/lib/a.so");
    assert_string_equal(merged("LD_PRELOAD", "/usr/$LIB/x.so"), "/usr/$LIB/x.so");
    assert_string_equal(merged("LD_LIBRARY_PATH", "$ORIGIN/../lib:lib"),
                        "$ORIGIN/../lib");
}

static void r9_the_launchers_own_state_does_not_leak(void **state) {
    (void)state;
    const char *const own[] = {"RAY_ADDRESS",
                               "RAY_JOB_ID",
                               "RAY_RAYLET_PID",
                               "RAY_AUTH_TOKEN",
                               "VIRTUAL_ENV",
                               "PYTHONPATH",
                               "PATH",
                               "PWD",
                               "SHLVL",
                               "_",
                               "HOSTNAME",
                               "LISTEN_FDS",
                               ""};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        assert_int_equal(cohort_ray_travel_of(own[i], NULL), COHORT_RAY_STAYS);
}

static void r10_no_platforms_device_mask_travels(void **state) {
    (void)state;
    const char *const masks[] = {
        "CUDA_VISIBLE_DEVICES",      "HIP_VISIBLE_DEVICES",    "ROCR_VISIBLE_DEVICES",
        "ASCEND_RT_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS",
        "NEURON_RT_VISIBLE_CORES",   "HABANA_VISIBLE_MODULES", "GPU_DEVICE_ORDINAL",
        "ZE_AFFINITY_MASK",          "ONEAPI_DEVICE_SELECTOR", "MUSA_VISIBLE_DEVICES"};
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++)
        assert_int_equal(cohort_ray_travel_of(masks[i], NULL), COHORT_RAY_STAYS);
}

static void r11_what_names_a_host_or_a_rank_is_never_copied(void **state) {
    (void)state;
    const char *const names[] = {"VLLM_HOST_IP",     "VLLM_HOST_PORT",
                                 "COHORT_HOST_IP",   "VLLM_NIXL_SIDE_CHANNEL_HOST",
                                 "COHORT_DEVICE_ID", "COHORT_DEVICE_SHARED_BY",
                                 "LOCAL_RANK",       "RANK",
                                 "MASTER_ADDR",      "MASTER_PORT",
                                 "VLLM_PORT"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(cohort_ray_travel_of(names[i], NULL), COHORT_RAY_STAYS);
}

static void users_exclusions_hold(void **state) {
    (void)state;
    assert_int_equal(cohort_ray_travel_of("HF_TOKEN", "AWS_*, HF_TOKEN"),
                     COHORT_RAY_STAYS);
    assert_int_equal(cohort_ray_travel_of("AWS_KEY", "AWS_*, HF_TOKEN"),
                     COHORT_RAY_STAYS);
    assert_int_equal(cohort_ray_travel_of("OMP_NUM_THREADS", "OMP_NUM_THREADS,"),
                     COHORT_RAY_STAYS);
    assert_int_equal(cohort_ray_travel_of("HF_HOME", "AWS_*, HF_TOKEN"),
                     COHORT_RAY_FOLLOWS);
    assert_int_equal(cohort_ray_travel_of("HF_HOME", ", ,"), COHORT_RAY_FOLLOWS);
}

static void r11_node_local_values_win(void **state) {
    (void)state;
    char out[128] = "";
    const char *const names[] = {"NCCL_IB_HCA", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX",
                                 "LD_LIBRARY_PATH"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_false(
            cohort_ray_env_merge(names[i], "own", "/lib/x", is_in_lib, NULL, out));
        /* Empty is a value. */
        assert_false(cohort_ray_env_merge(names[i], "", "/lib/x", is_in_lib, NULL, out));
        assert_string_equal(out, "");
        assert_string_equal(merged(names[i], "/lib/x"), "/lib/x");
    }
}

/* ---- ends ------------------------------------------------------------------------ */

static void ray_tells_what_it_did_itself(void **state) {
    (void)state;
    /* As Ray 2.60 has them, cut where they get long. */
    const struct {
        const char *page, *reason;
    } cases[] = {
        {"ActorDiedError: The actor died unexpectedly before finishing this task. "
         "class_name: Worker pid: 14560 ip: 127.0.0.2 The actor is dead because it was "
         "killed by `ray.kill`.",
         "ray.kill"},
        {"ActorDiedError: The actor is dead because its worker process has died. Worker "
         "exit type: INTENDED_SYSTEM_EXIT Worker exit detail: Destroying worker since "
         "its "
         "placement group was removed. Placement group id: 8191f845",
         "placement group"},
        {"ActorDiedError: The actor died because its node has died. Node Id: 12",
         "node died"},
        {"OutOfMemoryError: Task was killed due to the node running low on memory.",
         "low on memory"},
        {"ActorUnavailableError: The actor 9e6f is unavailable: The actor is temporarily "
         "unavailable: RpcError: RPC error: Socket closed rpc_code: 14.",
         "does not reach"},
        {"ActorDiedError: The actor is dead because its owner has died. Owner Id: 01",
         "sidecar"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *reason = cohort_ray_reason(cases[i].page);
        assert_non_null(reason);
        assert_non_null(strstr(reason, cases[i].reason));
    }
}

static void rays_guesses_are_no_reason(void **state) {
    (void)state;
    assert_null(cohort_ray_reason(
        "ActorDiedError: Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
        "unexpectedly exits with a connection error code 2. End of file. Some common "
        "causes include: (1) the process was killed by the OOM killer due to high memory "
        "usage, (2) ray stop --force was called, or (3) the worker crashed unexpectedly "
        "due to SIGSEGV or another unexpected error. If the process was killed by the "
        "kernel OOM killer, consider enabling resource isolation to prevent node deaths "
        "by resource contention and significant loss of progress"));
    assert_null(cohort_ray_reason(""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get_bundles_sorted_by_node),
        cmocka_unit_test(r16b_surplus_bundles_are_not_counted),
        cmocka_unit_test(r16b_the_drivers_node_is_taken_before_lower_indices),
        cmocka_unit_test(too_few_bundles_say_how_many_are_there),
        cmocka_unit_test(bundles_that_our_starter_holds_are_left_to_it),
        cmocka_unit_test(fractions_that_do_not_add_up_in_binary_do_here),
        cmocka_unit_test(test_ray_v2_bundle_indices_env),
        cmocka_unit_test(test_ray_v2_invalid_bundle_indices),
        cmocka_unit_test(vllm_names_the_same_variable),
        cmocka_unit_test(local_ranks_count_on_each_node),
        cmocka_unit_test(r14_every_rank_sees_all_devices_of_its_node),
        cmocka_unit_test(r15_device_ids_sort_as_numbers),
        cmocka_unit_test(device_names_of_unequal_length_are_told_apart),
        cmocka_unit_test(r15_shared_devices_stand_once_in_the_mask),
        cmocka_unit_test(devices_may_be_named_or_none),
        cmocka_unit_test(r16_placement_is_checked_against_the_request),
        cmocka_unit_test(r16_a_rank_sits_where_its_bundle_is),
        cmocka_unit_test(r17_resource_and_amount_are_the_users),
        cmocka_unit_test(strategies_have_rays_names),
        cmocka_unit_test(a_lost_nodes_rank_goes_where_there_is_room),
        cmocka_unit_test(r1_names_differ_between_engines_and_ranks),
        cmocka_unit_test(test_env_var_and_runtime_env_propagation_rules),
        cmocka_unit_test(r8_what_is_read_early_goes_into_the_runtime_env),
        cmocka_unit_test(r9_paths_that_a_node_lacks_are_dropped),
        cmocka_unit_test(r9_what_the_loader_looks_for_itself_is_kept),
        cmocka_unit_test(r9_the_launchers_own_state_does_not_leak),
        cmocka_unit_test(r10_no_platforms_device_mask_travels),
        cmocka_unit_test(r11_what_names_a_host_or_a_rank_is_never_copied),
        cmocka_unit_test(users_exclusions_hold),
        cmocka_unit_test(r11_node_local_values_win),
        cmocka_unit_test(ray_tells_what_it_did_itself),
        cmocka_unit_test(rays_guesses_are_no_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
