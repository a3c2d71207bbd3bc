/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/condition.h"
#include "base/fail.h"
#include "base/log.h"
#include "cohort/clock.h"
#include "cohort/executor.h"
#include "executor/executor_internal.h"
#include "executor/executor_options.h"
#include "executor/failure.h"
#include "executor/views.h"
#include "ray/ray.h"
#include "worker/worker.h"

/* Design notes.
 *
 * The starting thread does little: it makes the counters file, the broadcast queue and
 * the monitor thread, and then waits.  The monitor places the ranks and takes them from
 * phase to phase (monitor.c), so a death in any phase is noticed by the same few lines as
 * one in a step.  Only the queues' blocking handshakes are done here, while the monitor
 * watches.
 *
 * Whatever goes wrong at start-up goes through the same unwinding as an orderly end:
 * shutdown, then destroy, both of which accept a half-made executor.
 *
 * Queues are closed in destroy, which no call may run beside; shutdown only interrupts
 * them (vLLM's monitor closes them under a running collective_rpc, R29). */

cohort_executor_options cohort_executor_defaults(void) {
    cohort_executor_options options = {.max_step_bytes = 64 << 20,
                                       .max_reply_bytes = 64 << 20};
    cohort_options_set_defaults(&cohort_executor_option_table, &options);
    return options;
}

/* ---- checks and copies -------------------------------------------------------- */

static cohort_status check_sizes(const cohort_executor_options *options) {
    if (options->tp < 1 || options->pp < 1 || options->tp > COHORT_MAX_WORLD_SIZE ||
        options->pp > COHORT_MAX_WORLD_SIZE ||
        options->tp * options->pp > COHORT_MAX_WORLD_SIZE)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "tp %d and pp %d: at least 1 each, at most "
                           "%d ranks",
                           options->tp, options->pp, COHORT_MAX_WORLD_SIZE);
    if (!options->max_step_bytes || !options->max_reply_bytes ||
        options->max_step_bytes > UINT32_MAX / 2 ||
        options->max_reply_bytes > UINT32_MAX / 2)
        return COHORT_FAIL(COHORT_E_INVALID, "max_step_bytes and max_reply_bytes lie "
                                             "between 1 and 2 GiB");
    return COHORT_OK;
}

static cohort_status check_config(const char *const *config) {
    size_t n = 0;
    size_t bytes = 0;
    for (; config && config[n]; n++) {
        if (!strchr(config[n], '='))
            return COHORT_FAIL(COHORT_E_INVALID, "worker option '%.80s' is no key=value",
                               config[n]);
        bytes += strlen(config[n]) + 1;
    }
    if (n > COHORT_CONFIG_MAX_PAIRS - 2 ||
        /* for an extension, and a rank's choice */ bytes > COHORT_CONTROL_MAX_BYTES / 2)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%zu worker options of %zu bytes; at most %d", n, bytes,
                           COHORT_CONFIG_MAX_PAIRS - 2);
    return COHORT_OK;
}

static cohort_status check_extension(const char *spec) {
    const char *colon = spec ? strrchr(spec, ':') : NULL;
    if (!spec || (colon && colon != spec && colon[1] && strlen(spec) < PATH_MAX))
        return COHORT_OK;
    return COHORT_FAIL(
        COHORT_E_INVALID,
        "worker extension '%.120s' is no LIB.so:SYMBOL, as ./mine.so:install", spec);
}

static const char *copy_string(const char *text, bool *out_of_memory) {
    if (!text) return NULL;
    char *copy = strdup(text);
    if (!copy) *out_of_memory = true;
    return copy;
}

/* As a pair of the configuration.  Workers may run in another folder. */
static char *describe_extension(const char *spec) {
    char *pair = NULL;
    bool is_relative = spec[0] != '/' && strchr(spec, '/');
    char *here = is_relative ? getcwd(NULL, 0) : NULL;
    if (asprintf(&pair, "%s=%s%s%s", COHORT_EXTENSION_KEY, here ? here : "",
                 here ? "/" : "", spec) < 0)
        pair = NULL;
    free(here);
    return pair;
}

static cohort_status copy_options(cohort_executor *executor,
                                  const cohort_executor_options *options) {
    bool is_short = false;
    size_t n = 0;
    executor->options = *options;
    executor->options.backend = executor->launcher->name;
    executor->options.worker_command = copy_string(options->worker_command, &is_short);
    if (!cohort_options_copy_texts(&cohort_executor_option_table, &executor->options))
        is_short = true;
    while (options->config && options->config[n])
        n++;
    const char **config = calloc(n + 2, sizeof *config);
    executor->options.config = config;
    for (size_t i = 0; config && i < n; i++)
        config[i] = copy_string(options->config[i], &is_short);
    if (config && options->worker_extension) {
        config[n] = describe_extension(options->worker_extension);
        if (!config[n]) is_short = true;
    }
    if (is_short || !config)
        return COHORT_FAIL(COHORT_E_NOMEM, "copying the executor's options");
    return COHORT_OK;
}

static void free_options(cohort_executor_options *options) {
    for (size_t i = 0; options->config && options->config[i]; i++)
        free((void *)(uintptr_t)options->config[i]);
    free((void *)(uintptr_t)options->config);
    free((void *)(uintptr_t)options->worker_command);
    cohort_options_free_texts(&cohort_executor_option_table, options);
}

static cohort_status choose_launcher(const cohort_executor_options *options,
                                     const cohort_launcher **out_launcher) {
    bool is_alone = options->tp == 1 && options->pp == 1 && options->worker_ops;
    const char *backend = options->backend ? options->backend : is_alone ? "uni" : "mp";
    if (!strcmp(backend, "uni"))
        *out_launcher = &cohort_uni_launcher;
    else if (!strcmp(backend, "mp"))
        *out_launcher = &cohort_mp_launcher;
    else if (!strcmp(backend, "ray"))
        *out_launcher = &cohort_ray_launcher;
    else
        return COHORT_FAIL(COHORT_E_INVALID,
                           "executor backend '%.40s': use uni, mp or ray", backend);
    if (*out_launcher == &cohort_uni_launcher && !options->worker_ops)
        return COHORT_FAIL(COHORT_E_INVALID, "the uni backend needs worker_ops");
    return COHORT_OK;
}

/* ---- making it ---------------------------------------------------------------- */

static void init_sync(cohort_executor *executor) {
    cohort_condition_init(&executor->changed);
    pthread_mutex_init(&executor->lock, NULL);
    pthread_mutex_init(&executor->send_lock, NULL);
    executor->epoll_fd = -1;
    executor->wake_fd = -1;
    executor->judge.stayed_rank = -1;
}

static cohort_status make_ranks(cohort_executor *executor) {
    const cohort_executor_options *options = &executor->options;
    executor->world_size = options->tp * options->pp;
    executor->output_rank = (options->pp - 1) * options->tp;
    executor->max_in_flight = options->pp + options->async_scheduling;
    if (executor->max_in_flight > COHORT_MAX_PENDING_CALLS - 1)
        executor->max_in_flight = COHORT_MAX_PENDING_CALLS - 1;
    executor->epoch = executor->calls_epoch = executor->allowed_epoch = 1;
    executor->recovery =
        (cohort_executor_recovery){.epoch = 1, .rank = COHORT_RANK_LOCAL};
    executor->ranks = calloc((size_t)executor->world_size, sizeof *executor->ranks);
    if (!executor->ranks) return COHORT_FAIL(COHORT_E_NOMEM, "allocating ranks");
    cohort_counters_options counters_options = {.instance = options->instance,
                                                .backend = options->backend,
                                                .tp = options->tp,
                                                .pp = options->pp,
                                                .n_rows = executor->world_size};
    COHORT_TRY(cohort_counters_create(&counters_options, &executor->counters));
    cohort_counters_header *header = cohort_counters_header_of(executor->counters);
    atomic_store_explicit(&header->epoch, executor->epoch, memory_order_relaxed);
    for (int32_t i = 0; i < executor->world_size; i++)
        executor->ranks[i].row = cohort_counters_row_of(executor->counters, i);
    for (int32_t i = 0; i < executor->world_size; i++)
        executor->ranks[i].coming_fd = -1;
    COHORT_TRY(judge_open(&executor->judge, &executor->options, executor->world_size,
                          cohort_clock_ns()));
    executor->judge.closes_world = executor->launcher->close;
    executor->judge.can_restart =
        executor->launcher->can_restart && executor->carrier == &executor_queues;
    return COHORT_OK;
}

/* Until state, a failure or shutdown. */
static cohort_status await_state(cohort_executor *executor, executor_state state) {
    pthread_mutex_lock(&executor->lock);
    while (!executor->is_failed && executor->state < state)
        pthread_cond_wait(&executor->changed, &executor->lock);
    cohort_status status =
        executor->is_failed ? cohort_fail_adopt(&executor->failure) : COHORT_OK;
    pthread_mutex_unlock(&executor->lock);
    return status;
}

static cohort_status bring_up(cohort_executor *executor) {
    int64_t timeout_ns = executor->options.connect_timeout_ns;
    executor->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (executor->wake_fd < 0) return COHORT_FAIL_SYS(errno, "eventfd");
    struct pollfd cancel = {.fd = executor->options.cancel_fd, .events = POLLIN};
    if (cancel.fd > 0 && poll(&cancel, 1, 0) > 0)
        return COHORT_FAIL(COHORT_E_CANCELLED, "told to stop before any rank started");
    COHORT_TRY(make_ranks(executor));
    COHORT_TRY(executor_monitor_start(executor));
    COHORT_TRY(await_state(executor, EXECUTOR_CONNECT));
    int64_t deadline_ns = timeout_ns > 0 ? cohort_clock_ns() + timeout_ns : COHORT_NEVER;
    if (executor->carrier->link(executor, deadline_ns) < 0) {
        pthread_mutex_lock(&executor->lock);
        executor_await_verdict(executor, COHORT_RANK_LOCAL);
        pthread_mutex_unlock(&executor->lock);
        return await_state(executor, EXECUTOR_READY);
    }
    pthread_mutex_lock(&executor->lock);
    executor->is_linked = true;
    pthread_mutex_unlock(&executor->lock);
    executor_wake_monitor(executor);
    return await_state(executor, EXECUTOR_READY);
}

cohort_status cohort_executor_start(const cohort_executor_options *options,
                                    cohort_executor **out_executor) {
    const cohort_launcher *launcher = NULL;
    *out_executor = NULL;
    COHORT_TRY(check_sizes(options));
    COHORT_TRY(check_config(options->config));
    COHORT_TRY(check_extension(options->worker_extension));
    COHORT_TRY(choose_launcher(options, &launcher));
    cohort_executor *executor = calloc(1, sizeof *executor);
    if (!executor) return COHORT_FAIL(COHORT_E_NOMEM, "allocating an executor");
    init_sync(executor);
    executor->launcher = launcher;
    bool is_graph = launcher == &cohort_ray_launcher &&
                    options->ray.control_plane == COHORT_RAY_COMPILED_GRAPH;
    executor->carrier = is_graph ? &executor_relay : &executor_queues;
    executor->started_ns = cohort_clock_ns();
    cohort_status status = copy_options(executor, options);
    if (status >= 0) status = bring_up(executor);
    if (status >= 0) {
        *out_executor = executor;
        return COHORT_OK;
    }
    cohort_error error = *cohort_last_error();
    cohort_executor_destroy(executor);
    return cohort_fail_adopt(&error);
}

/* ---- failure ------------------------------------------------------------------ */

cohort_status cohort_executor_failure(cohort_executor *executor,
                                      cohort_error *out_error) {
    pthread_mutex_lock(&executor->lock);
    cohort_status status =
        executor->is_failed ? (cohort_status)executor->failure.code : COHORT_OK;
    if (status < 0 && out_error) *out_error = executor->failure;
    pthread_mutex_unlock(&executor->lock);
    return status;
}

/* Registered between a death and its notice, it is called by whoever comes second: the
 * flag and the callback are under one lock (vLLM's are not, R29). */
void cohort_executor_register_failure_callback(cohort_executor *executor,
                                               cohort_failure_callback callback,
                                               void *user_data) {
    pthread_mutex_lock(&executor->lock);
    executor->callback = callback;
    executor->callback_data = user_data;
    bool is_late = executor->is_failed && !executor->is_told;
    cohort_error error = executor->failure;
    if (is_late) executor->is_told = true;
    pthread_mutex_unlock(&executor->lock);
    if (is_late && callback) callback(user_data, &error);
}

cohort_status cohort_executor_check_health(cohort_executor *executor,
                                           int64_t deadline_ns) {
    cohort_rpc rpc = {.method = "check_health", .reply_rank = COHORT_ALL_RANKS};
    return cohort_collective_rpc(executor, &rpc, deadline_ns, NULL);
}

/* ---- ending it ---------------------------------------------------------------- */

cohort_status cohort_executor_shutdown(cohort_executor *executor) {
    if (!executor->has_monitor) return COHORT_OK;
    pthread_mutex_lock(&executor->lock);
    /* Of a joined thread the name may be another's by now, this one's for instance. */
    bool is_monitor = executor->state < EXECUTOR_CLOSED &&
                      pthread_equal(pthread_self(), executor->monitor);
    if (executor->state < EXECUTOR_STOPPING) {
        executor_set_state(executor, EXECUTOR_STOPPING);
        executor_wake_monitor(executor);
    }
    if (is_monitor) { /* the failure callback: never wait for oneself (R19) */
        pthread_mutex_unlock(&executor->lock);
        return COHORT_PENDING;
    }
    while (executor->state < EXECUTOR_CLOSED)
        pthread_cond_wait(&executor->changed, &executor->lock);
    bool is_joiner = !executor->is_joined;
    executor->is_joined = true;
    cohort_status status = executor->shutdown_status;
    cohort_error error = executor->shutdown_error;
    pthread_mutex_unlock(&executor->lock);
    if (is_joiner) pthread_join(executor->monitor, NULL);
    return status < 0 ? cohort_fail_adopt(&error) : COHORT_OK;
}

void cohort_executor_destroy(cohort_executor *executor) {
    if (!executor) return;
    cohort_executor_shutdown(executor);
    /* A thread of uni that never came back still uses all of it: then it stays. */
    if (executor->judge.stayed_rank >= 0 && executor->launcher == &cohort_uni_launcher)
        return;
    executor_free_futures(executor);
    for (int32_t i = 0; executor->ranks && i < executor->world_size; i++) {
        cohort_link_inbox_clear(&executor->ranks[i].inbox);
        executor_keep_close(&executor->ranks[i].kept);
        cohort_link_close(executor->ranks[i].control);
    }
    executor->carrier->close(executor);
    cohort_counters_close(executor->counters);
    if (executor->epoll_fd >= 0) close(executor->epoll_fd);
    if (executor->wake_fd >= 0) close(executor->wake_fd);
    pthread_cond_destroy(&executor->changed);
    pthread_mutex_destroy(&executor->send_lock);
    pthread_mutex_destroy(&executor->lock);
    free_options(&executor->options);
    free(executor->scratch);
    free(executor->setup);
    judge_close(&executor->judge);
    free(executor->ranks);
    free(executor);
}

/* ---- looking at it ------------------------------------------------------------ */

int32_t cohort_executor_world_size(const cohort_executor *executor) {
    return executor->world_size;
}

int32_t cohort_executor_output_rank(const cohort_executor *executor) {
    return executor->output_rank;
}

int32_t cohort_executor_max_in_flight(const cohort_executor *executor) {
    return executor->max_in_flight;
}

void cohort_executor_describe_rank(const cohort_executor *self, int32_t rank,
                                   cohort_rank_info *out_info) {
    cohort_executor *executor = (cohort_executor *)(uintptr_t)self; /* for its lock */
    cohort_counters_row *row = executor->ranks[rank].row;
    const cohort_launch *launch = &executor->ranks[rank].launch;
    uint32_t phase = atomic_load_explicit(&row->phase, memory_order_acquire);
    pthread_mutex_lock(&executor->lock);
    const char *transport = executor->broadcast && executor->is_linked
                                ? executor->carrier->transport(executor, rank)
                                : "not connected";
    *out_info = (cohort_rank_info){
        .rank = rank,
        .tp_rank = rank % executor->options.tp,
        .pp_rank = rank / executor->options.tp,
        .pid = launch->pid,
        .backend = executor->launcher->name,
        .transport = transport,
        .phase = cohort_rank_phase_name(phase),
        .call = atomic_load_explicit(&row->call, memory_order_relaxed)};
    /* Copies: the next life of the rank may be elsewhere. */
    _Static_assert(sizeof out_info->node >= sizeof launch->node &&
                       sizeof out_info->address >= sizeof launch->address &&
                       sizeof out_info->devices >= sizeof launch->devices,
                   "room for what a launcher says");
    memcpy(out_info->node, launch->node, sizeof launch->node);
    memcpy(out_info->address, launch->address, sizeof launch->address);
    memcpy(out_info->devices, launch->devices, sizeof launch->devices);
    pthread_mutex_unlock(&executor->lock);
}

void cohort_executor_get_phases(const cohort_executor *executor,
                                cohort_executor_phases *out_phases) {
    *out_phases = executor->phases;
}

void cohort_executor_describe_work(const cohort_executor *executor, int32_t rank,
                                   cohort_rank_work *out_work) {
    const cohort_counters_row *row = executor->ranks[rank].row;
    *out_work = (cohort_rank_work){
        .steps = atomic_load_explicit(&row->steps, memory_order_relaxed),
        .tokens = atomic_load_explicit(&row->tokens, memory_order_relaxed),
        .errors = atomic_load_explicit(&row->errors, memory_order_relaxed),
        .waits_for = atomic_load_explicit(&row->waits_for, memory_order_relaxed),
        .phase_ns = atomic_load_explicit(&row->phase_ns, memory_order_relaxed),
        .heartbeat_ns = atomic_load_explicit(&row->heartbeat_ns, memory_order_relaxed)};
}

void cohort_executor_set_title(cohort_executor *executor, const char *title) {
    cohort_counters_header *header = cohort_counters_header_of(executor->counters);
    snprintf(header->title, sizeof header->title, "%s", title);
}

const char *cohort_executor_counters_path(const cohort_executor *executor) {
    return cohort_counters_path(executor->counters);
}
