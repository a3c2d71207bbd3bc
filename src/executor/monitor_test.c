/* SPDX-License-Identifier: Apache-2.0 */
/* Who is blamed, whatever comes first: what ranks say, how they end, two at once. */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fail.h"
#include "cohort/clock.h"
#include "executor/executor_test.h"
#include "executor/frames.h"

static cohort_error error_about(int32_t rank, cohort_status code, const char *text) {
    cohort_error error = {.code = code, .rank = rank};
    snprintf(error.message, sizeof error.message, "%s", text);
    return error;
}

static cohort_status say(cohort_executor *executor, int32_t rank, uint32_t kind,
                         uint64_t epoch, const cohort_error *error) {
    const cohort_frame frame = {.kind = kind,
                                .rank = rank,
                                .epoch = epoch,
                                .call = 17,
                                .status = error ? error->code : 0,
                                .method = error ? "execute" : "",
                                .body = error,
                                .body_bytes = error ? sizeof *error : 0};
    return executor_on_frame(executor, rank, &frame);
}

static void die(cohort_executor *executor, int32_t rank, int signal_number, int status) {
    next_ending = (cohort_launch_ending){
        .is_known = true, .signal = signal_number, .status = status};
    executor_on_ended(executor, rank);
}

static void expect_blame(cohort_executor *executor, int32_t rank, cohort_status code,
                         const char *words) {
    assert_true(executor->is_failed);
    assert_int_equal(executor->failure.rank, rank);
    assert_int_equal(executor->failure.code, code);
    if (!strstr(executor->failure.message, words))
        fail_msg("%s", executor->failure.message);
    close_executor(executor);
}

static void frames_of_another_epoch_are_refused(void **state) {
    (void)state;
    static const uint32_t kinds[] = {COHORT_FRAME_CONNECTED, COHORT_FRAME_READY,
                                     COHORT_FRAME_BYE};
    cohort_executor *executor = open_executor(EXECUTOR_CONNECT);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        executor_state before = executor->judge.ranks[1].reached;
        assert_int_equal(say(executor, 1, kinds[i], 4, NULL), COHORT_E_PROTOCOL);
        assert_int_equal(say(executor, 1, kinds[i], 6, NULL), COHORT_E_PROTOCOL);
        assert_int_equal(executor->judge.ranks[1].reached, before);
        assert_int_equal(say(executor, 1, kinds[i], 5, NULL), COHORT_OK);
    }
    assert_int_equal(executor->judge.ranks[1].reached, EXECUTOR_READY);
    assert_int_equal(executor->judge.ranks[0].reached, EXECUTOR_CONNECT + 1);
    close_executor(executor);
}

/* Sets of instructions differ in the last bits: the next rank takes that of the one
 * before, whatever it would have chosen itself. */
static void choice_of_a_rank_is_told_to_the_next(void **state) {
    (void)state;
    static const char *const config[] = {"model=m", "isa=avx2", NULL};
    static uint8_t buffer[COHORT_FRAME_HEADER_BYTES + COHORT_CONTROL_MAX_BYTES];
    const char *told[COHORT_CONFIG_MAX_PAIRS + 1];
    cohort_executor *executor = open_executor(EXECUTOR_CONNECT);
    const cohort_frame_ready ready = {.choice = "isa=portable"};
    cohort_frame frame = {.kind = COHORT_FRAME_READY,
                          .rank = 1,
                          .epoch = 5,
                          .body = &ready,
                          .body_bytes = sizeof ready};
    assert_int_equal(executor_on_frame(executor, 1, &frame), COHORT_OK);
    executor->options.config = config;
    executor->options.tp = RANKS;
    executor->options.pp = 1;
    executor->options.max_step_bytes = executor->options.max_reply_bytes = 4096;
    for (int32_t rank = 0; rank < 2; rank++) {
        int ends[2];
        size_t size;
        cohort_link *peer;
        cohort_frame_configure configure;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        assert_int_equal(cohort_link_adopt(ends[0], &executor->ranks[rank].control),
                         COHORT_OK);
        assert_int_equal(cohort_link_adopt(ends[1], &peer), COHORT_OK);
        assert_int_equal(executor_send_configure(executor, rank, buffer), COHORT_OK);
        assert_int_equal(cohort_link_recv_frame(peer, buffer, sizeof buffer, &size,
                                                cohort_deadline_ms(20000)),
                         COHORT_OK);
        assert_int_equal(cohort_frame_decode(buffer, size, &frame), COHORT_OK);
        assert_int_equal(cohort_frame_read_configure(&frame, &configure, told),
                         COHORT_OK);
        assert_int_equal(configure.n_config, rank == 1 ? 3 : 2);
        if (rank == 1) assert_string_equal(told[2], "isa=portable");
        cohort_link_close(executor->ranks[rank].control);
        cohort_link_close(peer);
    }
    close_executor(executor);
}

static void rank_of_another_build_is_refused(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_PLACE);
    cohort_frame_hello hello = {.pid = 1001};
    cohort_frame frame = {.kind = COHORT_FRAME_HELLO,
                          .method = "",
                          .body = &hello,
                          .body_bytes = sizeof hello};
    executor->judge.ranks[1].reached = EXECUTOR_PLACE;
    memcpy(hello.build_id, cohort_build_id(), COHORT_BUILD_ID_CHARS);
    hello.build_id[COHORT_BUILD_ID_CHARS - 1] ^= 1;
    assert_int_equal(executor_on_frame(executor, 1, &frame), COHORT_E_PROTOCOL);
    assert_non_null(
        strstr(cohort_last_error()->message, "rank 1 (pid 1001) is of build"));
    assert_int_equal(executor->judge.ranks[1].reached, EXECUTOR_PLACE);
    memcpy(hello.build_id, cohort_build_id(), COHORT_BUILD_ID_CHARS);
    assert_int_equal(executor_on_frame(executor, 1, &frame), COHORT_OK);
    assert_int_equal(executor->judge.ranks[1].reached, EXECUTOR_CONFIGURE);
    close_executor(executor);
}

static void rank_with_an_error_of_its_own_is_named_at_once(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    cohort_error error = error_about(COHORT_RANK_LOCAL, COHORT_E_NOMEM, "no memory");
    assert_int_equal(say(executor, 2, COHORT_FRAME_ERROR, 5, &error), COHORT_OK);
    die(executor, 2, 0, 1); /* leaves because of it: no news */
    expect_blame(executor, 2, COHORT_E_NOMEM, "rank 2, execute (call 17): no memory");
}

/* Rank 0 says that 1 gave up because of 2; 0 and 1 are messengers. */
static void culprit_is_named_and_not_the_messenger(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    cohort_error error = error_about(2, COHORT_E_PEER_DIED, "rank 2 died");
    say(executor, 0, COHORT_FRAME_ERROR, 5, &error);
    assert_false(executor->is_failed); /* its death may say more */
    executor_on_clock(executor, executor->judge.suspect_until_ns);
    expect_blame(executor, 2, COHORT_E_PEER_DIED,
                 "rank 0, execute (call 17): rank 2 died");
}

static void death_is_told_instead_of_its_echo(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    cohort_error error = error_about(2, COHORT_E_PEER_DIED, "rank 2 died");
    executor->ranks[2].row->phase = COHORT_RANK_EXECUTE;
    executor->ranks[2].row->call = 17;
    say(executor, 0, COHORT_FRAME_ERROR, 5, &error);
    say(executor, 1, COHORT_FRAME_ERROR, 5, &error);
    die(executor, 2, SIGSEGV, 0);
    die(executor, 0, 0, 1);
    executor_on_clock(executor, executor->judge.suspect_until_ns);
    expect_blame(executor, 2, COHORT_E_PEER_DIED,
                 "rank 2 (pid 1002) was killed by signal 11 (Segmentation fault) during "
                 "execute (call 17)");
}

/* The messenger leaves before the death is known. */
static void messenger_that_leaves_is_not_blamed(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    cohort_error error = error_about(2, COHORT_E_PEER_DIED, "rank 2 died");
    say(executor, 0, COHORT_FRAME_ERROR, 5, &error);
    die(executor, 0, 0, 1);
    assert_false(executor->is_failed);
    die(executor, 2, SIGKILL, 0);
    expect_blame(executor, 2, COHORT_E_PEER_DIED, "rank 2 (pid 1002) was killed");
}

/* Whatever is about somebody else may be an echo, and so may what names nobody. */
static void errors_about_others_wait_for_a_death(void **state) {
    (void)state;
    static const struct {
        int32_t rank;
        cohort_status code;
    } echoes[] = {{1, COHORT_E_TIMEOUT},
                  {COHORT_RANK_LOCAL, COHORT_E_PEER_DIED},
                  {COHORT_RANK_LOCAL, COHORT_E_CLOSED},
                  {RANKS, COHORT_E_CLOSED}};
    for (size_t i = 0; i < sizeof echoes / sizeof *echoes; i++) {
        cohort_executor *executor = open_executor(EXECUTOR_READY);
        cohort_error error = error_about(echoes[i].rank, echoes[i].code, "echo");
        say(executor, 0, COHORT_FRAME_ERROR, 5, &error);
        assert_false(executor->is_failed);
        die(executor, 1, SIGKILL, 0);
        expect_blame(executor, 1, COHORT_E_PEER_DIED, "rank 1 (pid 1001) was killed");
    }
}

/* Each of the two that died together has heard of the other's end first. */
static void of_two_deaths_at_once_the_first_is_told(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    cohort_error error = error_about(1, COHORT_E_PEER_DIED, "rank 1 died");
    say(executor, 0, COHORT_FRAME_ERROR, 5, &error);
    die(executor, 2, SIGKILL, 0);
    die(executor, 1, SIGKILL, 0);
    executor_on_clock(executor, BEGIN + 1);
    executor_on_clock(executor, executor->judge.suspect_until_ns);
    assert_int_equal(n_told, 1);
    assert_int_equal(executor->ranks[1].row->phase, COHORT_RANK_DEAD);
    expect_blame(executor, 2, COHORT_E_PEER_DIED, "rank 2 (pid 1002) was killed");
}

static void exit_status_is_told(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_LOAD);
    die(executor, 1, 0, 3);
    expect_blame(executor, 1, COHORT_E_PEER_DIED,
                 "rank 1 (pid 1001) exited with status 3 during load");
}

/* Of a process that others reap the counters know. */
static void last_words_tell_what_nobody_reaped(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    executor->ranks[1].row->exited = 1 + 4;
    next_ending = (cohort_launch_ending){0};
    executor_on_ended(executor, 1);
    expect_blame(executor, 1, COHORT_E_PEER_DIED, "exited with status 4 while idle");
    executor = open_executor(EXECUTOR_READY);
    executor->ranks[1].row->crash_signal = SIGBUS;
    executor->ranks[1].row->crash_frames[0] = 0x12ab;
    executor->ranks[1].row->crash_frames[1] = 0x34cd;
    executor_on_ended(executor, 1);
    expect_blame(executor, 1, COHORT_E_PEER_DIED,
                 "signal 7 (Bus error) at +0x12ab +0x34cd");
}

/* A rank that crashes after it was asked to stop is told at the end; one that our own
 * SIGTERM ended is what was wanted. */
static void crash_during_shutdown_is_told_and_our_own_signal_is_not(void **state) {
    (void)state;
    for (int32_t stage = 1; stage <= 3; stage++) {
        cohort_executor *executor = open_executor(EXECUTOR_STOPPING);
        executor->judge.stop_stage = stage;
        die(executor, 0, 0, 0);
        die(executor, 1, stage == 1 ? SIGSEGV : SIGTERM, 0);
        die(executor, 2, 0, stage == 1 ? 1 : 0);
        executor_on_clock(executor, BEGIN);
        assert_int_equal(executor->state, EXECUTOR_CLOSED);
        assert_int_equal(executor->shutdown_status,
                         stage == 1 ? COHORT_E_PEER_DIED : COHORT_OK);
        if (stage == 1) assert_int_equal(executor->shutdown_error.rank, 1);
        assert_int_equal(n_told, 0);
        close_executor(executor);
    }
}

static cohort_status reply(cohort_executor *executor, cohort_future *future, int32_t rank,
                           uint64_t epoch, uint64_t call, uint32_t kind) {
    _Alignas(8) uint8_t bytes[128];
    const cohort_frame frame = {.kind = kind,
                                .rank = rank,
                                .epoch = epoch,
                                .call = call,
                                .method = "",
                                .body = "answer!",
                                .body_bytes = 8};
    size_t size = cohort_frame_encode(&frame, bytes);
    return executor_take_reply(executor, future, 1, bytes, size);
}

/* Only the reply of that rank, to that call, of this epoch. */
static void foreign_replies_are_not_taken(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    reply_buffer replies[RANKS] = {0};
    cohort_future future = {.executor = executor, .call = 9, .replies = replies};
    enum { REPLY = COHORT_FRAME_REPLY };
    assert_int_equal(reply(executor, &future, 1, 4, 9, REPLY), COHORT_PENDING);
    assert_int_equal(reply(executor, &future, 1, 6, 9, REPLY), COHORT_E_PROTOCOL);
    assert_int_equal(reply(executor, &future, 2, 5, 9, REPLY), COHORT_E_PROTOCOL);
    assert_int_equal(reply(executor, &future, 1, 5, 8, REPLY), COHORT_E_PROTOCOL);
    assert_int_equal(reply(executor, &future, 1, 5, 10, REPLY), COHORT_E_PROTOCOL);
    assert_int_equal(reply(executor, &future, 1, 5, 9, COHORT_FRAME_READY),
                     COHORT_E_PROTOCOL);
    assert_null(replies[1].bytes);
    assert_int_equal(reply(executor, &future, 1, 5, 9, REPLY), COHORT_OK);
    assert_int_equal(replies[1].size_bytes, 8);
    assert_string_equal((char *)replies[1].bytes, "answer!");
    free(replies[1].bytes);
    close_executor(executor);
}

/* Its caller may close it once start has returned, and the number is another file's. */
static void cancel_fd_is_left_alone_after_the_first_ready(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_LOAD);
    int fd = eventfd(0, EFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    executor->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    executor->options.cancel_fd = fd;
    assert_int_equal(epoll_ctl(executor->epoll_fd, EPOLL_CTL_ADD, fd, &event), 0);
    executor_enter_phase(executor, EXECUTOR_READY, BEGIN);
    assert_int_equal(epoll_ctl(executor->epoll_fd, EPOLL_CTL_ADD, fd, &event), 0);
    executor_enter_phase(executor, EXECUTOR_READY, BEGIN);
    assert_int_equal(epoll_ctl(executor->epoll_fd, EPOLL_CTL_DEL, fd, NULL), 0);
    close(fd);
    close(executor->epoll_fd);
    close_executor(executor);
}

/* ---- what a caller is told of recoveries ------------------------------------------ */

static cohort_executor *open_lasting(void) {
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    executor->options.max_rank_restarts = 10;
    executor->options.tp = RANKS;
    executor->judge.can_restart = executor->judge.was_ready = true;
    return executor;
}

static void recover(cohort_executor *executor) {
    executor->calls_epoch = executor->epoch;
    executor->state = executor->judge.state = EXECUTOR_READY;
    for (int32_t i = 0; i < RANKS; i++)
        executor->judge.ranks[i].has_ended = false;
    executor_end_recovery(executor, BEGIN);
}

/* As a step: it is allowed, and only then refused for another reason. */
static void expect_allowed(cohort_executor *executor) {
    assert_int_equal(cohort_execute_masks(executor, "", 0), COHORT_E_INVALID);
    assert_string_equal(cohort_last_error()->message, "no step waits for masks");
}

static void expect_recovery(cohort_executor *executor, bool kv_kept, uint64_t n_faults) {
    cohort_executor_recovery recovery;
    assert_int_equal(cohort_executor_await_ready(executor, 0), COHORT_OK);
    cohort_executor_get_recovery(executor, &recovery);
    assert_int_equal(recovery.kv_kept, kv_kept);
    assert_int_equal(recovery.n_faults, n_faults);
}

/* Even where a recovery comes between await_ready and get_recovery. */
static void lost_cache_is_told_until_a_step_was_allowed(void **state) {
    (void)state;
    const cohort_error later = {.code = COHORT_E_PEER_DIED, .rank = 2};
    cohort_executor *executor = open_lasting();
    expect_allowed(executor);
    die(executor, 1, SIGSEGV, 0);
    recover(executor);
    assert_int_equal(cohort_executor_await_ready(executor, 0), COHORT_OK);
    executor_interrupt(executor, &later, BEGIN); /* loses nothing */
    recover(executor);
    assert_int_equal(cohort_execute_masks(executor, "", 0), COHORT_E_INTERRUPTED);
    expect_recovery(executor, false, 1);
    expect_allowed(executor);
    executor_interrupt(executor, &later, BEGIN);
    recover(executor);
    expect_recovery(executor, true, 1);
    close_executor(executor);
}

/* Nobody's steps were lost with it. */
static void fault_before_a_step_is_no_requests(void **state) {
    (void)state;
    cohort_executor *executor = open_lasting();
    expect_allowed(executor);
    die(executor, 1, SIGKILL, 0);
    recover(executor);
    assert_int_equal(cohort_executor_await_ready(executor, 0), COHORT_OK);
    die(executor, 2, SIGSEGV, 0);
    assert_int_equal(executor->judge.n_faults, 1);
    recover(executor);
    expect_recovery(executor, false, 0);
    expect_allowed(executor);
    die(executor, 2, SIGSEGV, 0);
    recover(executor);
    expect_recovery(executor, false, 1);
    close_executor(executor);
}

/* Two may have been under way at once, and a rank may have died under one. */
static void setup_calls_are_kept_while_there_is_room_and_the_epoch_lasts(void **state) {
    (void)state;
    enum { MOST = COHORT_CONTROL_MAX_BYTES / 2 };
    static const char payload[MOST * 2 / 3];
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    const cohort_rpc rpc = {
        .method = "set", .payload = payload, .size_bytes = sizeof payload};
    uint64_t epoch = 0;
    assert_int_equal(executor_check_setup(executor, &rpc, &epoch), COHORT_OK);
    assert_int_equal(executor_check_setup(executor, &rpc, &epoch), COHORT_OK);
    assert_int_equal(epoch, 5);
    executor->epoch++;
    assert_int_equal(executor_keep_setup(executor, &rpc, epoch), COHORT_E_INTERRUPTED);
    assert_int_equal(executor->setup_bytes, 0);
    assert_int_equal(executor_keep_setup(executor, &rpc, 6), COHORT_OK);
    assert_int_equal(executor_keep_setup(executor, &rpc, 6), COHORT_E_INVALID);
    assert_true(executor->setup_bytes <= MOST);
    free(executor->setup);
    close_executor(executor);
}

/* ---- a process that nobody could watch -------------------------------------------- */

static size_t n_reaped;
static int unwatched_fd;

static cohort_status start_unwatched(const cohort_executor_options *options, int32_t rank,
                                     cohort_launch *out_launch) {
    (void)options;
    (void)rank;
    *out_launch = (cohort_launch){
        .pid = 4711, .is_process = true, .exit_fd = -1, .control_fd = unwatched_fd};
    return COHORT_OK;
}

static void count_reaped(cohort_launch *launch, cohort_launch_ending *out_ending) {
    *out_ending = (cohort_launch_ending){0};
    n_reaped += launch->pid == 4711;
}

static void process_that_cannot_be_watched_is_ended_at_once(void **state) {
    (void)state;
    static const cohort_launcher unwatched = {.name = "recorder",
                                              .start = start_unwatched,
                                              .signal = record_signal,
                                              .reap = count_reaped};
    cohort_executor *executor = open_executor(EXECUTOR_PLACE);
    executor->launcher = &unwatched;
    executor->judge.ranks[1].is_started = false;
    unwatched_fd = eventfd(0, EFD_CLOEXEC);
    executor_place_rank(executor, 1);
    assert_true(executor->ranks[1].is_untold);
    assert_false(executor->judge.ranks[1].is_started);
    assert_int_equal(n_signals, 1);
    assert_int_equal(signals[0].pid, 4711);
    assert_int_equal(signals[0].signal, SIGKILL);
    assert_int_equal(n_reaped, 1);
    close_executor(executor);
}

static cohort_status next_start;
static int coming_fd, come_control_fd;

static cohort_status start_later(const cohort_executor_options *options, int32_t rank,
                                 cohort_launch *out_launch) {
    (void)options;
    *out_launch = (cohort_launch){.pid = 4711, .exit_fd = coming_fd};
    out_launch->control_fd = come_control_fd;
    if (next_start >= 0) return next_start;
    return COHORT_FAIL(next_start, "no room for rank %d", rank);
}

/* It is none before, and one that could not be counts as ended. */
static void rank_that_takes_time_is_there_when_it_is(void **state) {
    (void)state;
    static const cohort_launcher slow = {
        .name = "recorder", .start = start_later, .signal = record_signal};
    cohort_executor *executor = open_executor(EXECUTOR_PLACE);
    judge_rank *rank = &executor->judge.ranks[1];
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    executor->launcher = &slow;
    executor->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    coming_fd = eventfd(0, EFD_CLOEXEC);
    come_control_fd = pair[0];
    rank->is_started = false;
    next_start = COHORT_PENDING;
    executor_place_rank(executor, 1);
    assert_int_equal(executor->ranks[1].coming_fd, coming_fd);
    assert_false(rank->is_started);
    next_start = COHORT_E_IO;
    executor_on_come(executor, 1);
    assert_int_equal(executor->ranks[1].coming_fd, -1);
    assert_true(rank->has_ended);
    assert_non_null(
        strstr(executor->failure.message, "no room for rank 1; while placing"));
    rank->has_ended = executor->judge.is_failed = false;
    next_start = COHORT_PENDING;
    executor_place_rank(executor, 1);
    next_start = COHORT_OK;
    executor_on_come(executor, 1);
    assert_true(rank->is_started);
    assert_int_equal(executor->ranks[1].launch.pid, 4711);
    cohort_link_close(executor->ranks[1].control);
    close(pair[1]);
    close(coming_fd);
    close(executor->epoll_fd);
    close_executor(executor);
}

/* Nobody would hear of it, or ask it to stop. */
static void rank_that_takes_time_is_none_unwatched_or_too_late(void **state) {
    (void)state;
    static const cohort_launcher slow = {
        .name = "recorder", .start = start_later, .signal = record_signal};
    cohort_executor *executor = open_executor(EXECUTOR_PLACE);
    judge_rank *rank = &executor->judge.ranks[1];
    executor->launcher = &slow;
    coming_fd = eventfd(0, EFD_CLOEXEC);
    rank->is_started = false;
    next_start = COHORT_PENDING;
    executor->epoll_fd = -1;
    executor_place_rank(executor, 1);
    assert_int_equal(executor->ranks[1].coming_fd, -1);
    executor->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    executor_place_rank(executor, 1);
    assert_int_equal(executor->ranks[1].coming_fd, coming_fd);
    executor->judge.state = EXECUTOR_STOPPING;
    next_start = COHORT_OK;
    executor_on_come(executor, 1);
    assert_int_equal(executor->ranks[1].coming_fd, -1);
    assert_false(rank->is_started);
    close(coming_fd);
    close(executor->epoll_fd);
    close_executor(executor);
}

/* Its memory is no longer of use to anybody, and destroy may be long in coming. */
static void failed_executor_holds_no_memory(void **state) {
    (void)state;
    cohort_executor *executor = open_executor(EXECUTOR_READY);
    int fd = eventfd(0, EFD_CLOEXEC);
    executor->ranks[0].kept.memory[1] =
        (struct executor_kept_memory){.is_held = true, .fd = fd};
    die(executor, 1, SIGKILL, 0);
    executor_on_clock(executor, BEGIN + 1);
    assert_int_equal(n_told, 1);
    assert_false(executor->ranks[0].kept.memory[1].is_held);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    close_executor(executor);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_of_another_epoch_are_refused),
        cmocka_unit_test(choice_of_a_rank_is_told_to_the_next),
        cmocka_unit_test(rank_of_another_build_is_refused),
        cmocka_unit_test(rank_with_an_error_of_its_own_is_named_at_once),
        cmocka_unit_test(culprit_is_named_and_not_the_messenger),
        cmocka_unit_test(death_is_told_instead_of_its_echo),
        cmocka_unit_test(messenger_that_leaves_is_not_blamed),
        cmocka_unit_test(errors_about_others_wait_for_a_death),
        cmocka_unit_test(of_two_deaths_at_once_the_first_is_told),
        cmocka_unit_test(exit_status_is_told),
        cmocka_unit_test(last_words_tell_what_nobody_reaped),
        cmocka_unit_test(crash_during_shutdown_is_told_and_our_own_signal_is_not),
        cmocka_unit_test(foreign_replies_are_not_taken),
        cmocka_unit_test(cancel_fd_is_left_alone_after_the_first_ready),
        cmocka_unit_test(lost_cache_is_told_until_a_step_was_allowed),
        cmocka_unit_test(fault_before_a_step_is_no_requests),
        cmocka_unit_test(setup_calls_are_kept_while_there_is_room_and_the_epoch_lasts),
        cmocka_unit_test(process_that_cannot_be_watched_is_ended_at_once),
        cmocka_unit_test(rank_that_takes_time_is_there_when_it_is),
        cmocka_unit_test(rank_that_takes_time_is_none_unwatched_or_too_late),
        cmocka_unit_test(failed_executor_holds_no_memory),
    };
    return run_with_counters(tests, sizeof tests / sizeof *tests);
}
