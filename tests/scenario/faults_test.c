/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's n-th allocation or system call fails: over start, a step, the recovery
 * from a rank's death and shutdown.  Whatever it was, calls end in time with a status,
 * and nothing is left: no process, descriptor, thread or file.
 *
 * The linker puts what is here before the C library's (CMakeLists.txt).
 * COHORT_FAULTS: how many of each kind (8), drawn; 0: all of them, one by one.
 * COHORT_SEED: of the draw; printed, so that a failure can be repeated. */
#include <errno.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "killed_world.h"

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { N_DRAWN = 3 };
#else
enum { N_DRAWN = 8 };
#endif

typedef enum fault_kind { ALLOCATION, CALL, N_KINDS } fault_kind;

static const char *const kind_names[] = {"allocation", "system call"};

/* Of this process alone: a rank is another program. */
static _Atomic int64_t n_done[N_KINDS], fails_at[N_KINDS];
static _Atomic bool is_armed;

static bool fails(fault_kind kind) {
    return is_armed && atomic_fetch_add(&n_done[kind], 1) + 1 == fails_at[kind];
}

#define FAILING(kind, type, name, parameters, arguments, failure, error) \
    type __real_##name parameters;                                       \
    type __wrap_##name parameters;                                       \
    type __wrap_##name parameters {                                      \
        if (!fails(kind)) return __real_##name arguments;                \
        errno = error;                                                   \
        return failure;                                                  \
    }
#define FAILING_ALLOCATION(name, parameters, arguments) \
    FAILING(ALLOCATION, void *, name, parameters, arguments, NULL, ENOMEM)
#define FAILING_CALL(name, parameters, arguments) \
    FAILING(CALL, int, name, parameters, arguments, -1, EMFILE)
/* They return the error. */
#define FAILING_START(name, parameters, arguments) \
    FAILING(CALL, int, name, parameters, arguments, EAGAIN, EAGAIN)

FAILING_ALLOCATION(malloc, (size_t size), (size))
FAILING_ALLOCATION(calloc, (size_t n, size_t size), (n, size))
FAILING_ALLOCATION(realloc, (void *old, size_t size), (old, size))
FAILING_ALLOCATION(aligned_alloc, (size_t of, size_t size), (of, size))
FAILING(ALLOCATION, char *, strdup, (const char *text), (text), NULL, ENOMEM)
FAILING(CALL, void *, mmap,
        (void *at, size_t size, int protection, int flags, int fd, off_t offset),
        (at, size, protection, flags, fd, offset), MAP_FAILED, ENOMEM)
FAILING_CALL(socket, (int domain, int type, int protocol), (domain, type, protocol))
FAILING_CALL(socketpair, (int domain, int type, int protocol, int *fds),
             (domain, type, protocol, fds))
FAILING_CALL(epoll_create1, (int flags), (flags))
FAILING_CALL(epoll_ctl, (int set, int what, int fd, struct epoll_event *event),
             (set, what, fd, event))
FAILING_CALL(eventfd, (unsigned count, int flags), (count, flags))
FAILING_CALL(memfd_create, (const char *name, unsigned flags), (name, flags))
FAILING_CALL(ftruncate, (int fd, off_t size), (fd, size))
FAILING_CALL(dup, (int fd), (fd))
FAILING_CALL(bind, (int fd, const struct sockaddr *address, socklen_t size),
             (fd, address, size))
FAILING_CALL(listen, (int fd, int backlog), (fd, backlog))
FAILING_CALL(connect, (int fd, const struct sockaddr *address, socklen_t size),
             (fd, address, size))
FAILING_START(pthread_create,
              (pthread_t * out, const pthread_attr_t *attributes, void *(*run)(void *),
               void *argument),
              (out, attributes, run, argument))
FAILING_START(posix_spawnp,
              (pid_t * out, const char *path, const posix_spawn_file_actions_t *actions,
               const posix_spawnattr_t *attributes, char *const *words,
               char *const *environment),
              (out, path, actions, attributes, words, environment))

/* ---- a life ------------------------------------------------------------------------ */

/* After the start, where a failure may be a rank's end or the executor's. */
static cohort_status step_until_it_goes(cohort_executor *executor) {
    int64_t until_ns = patience();
    cohort_status status;
    do {
        status = one_step(executor);
        if (status == COHORT_E_INTERRUPTED)
            cohort_executor_await_ready(executor, until_ns);
        assert_true(cohort_clock_ns() < until_ns);
    } while ((status == COHORT_E_INTERRUPTED || status == COHORT_E_NOMEM) &&
             cohort_executor_failure(executor, NULL) == COHORT_OK);
    return status;
}

static void await_death(cohort_executor *executor) {
    int64_t until_ns = patience();
    kill(pid_of(executor, 1), SIGKILL);
    while (cohort_executor_epoch(executor) == 1 &&
           cohort_executor_failure(executor, NULL) == COHORT_OK) {
        assert_true(cohort_clock_ns() < until_ns);
        sleep_us(200);
    }
}

/* Descriptors after a life in which nothing failed, threads before. */
static int n_fds, n_threads;

static void *note_thread(void *out_id) {
    *(int *)out_id = gettid();
    return NULL;
}

/* After a first thread, with which a sanitizer starts its own. */
static int count_threads(void) {
    int id = 0;
    char path[64];
    pthread_t thread;
    int64_t until_ns = patience();
    assert_int_equal(pthread_create(&thread, NULL, note_thread, &id), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    snprintf(path, sizeof path, "/proc/self/task/%d", id);
    while (!access(path, F_OK) && cohort_clock_ns() < until_ns)
        sleep_us(200); /* a joined thread leaves a moment later */
    return count_entries("/proc/self/task");
}

static void live(fault_kind kind, int64_t n) {
    cohort_executor_options options = mp_options(2, 5, NULL);
    cohort_executor *executor = NULL;
    options.connect_timeout_ns = options.load_timeout_ns =
        INT64_C(2000000000); /* or it ends late */
    for (int k = 0; k < N_KINDS; k++)
        n_done[k] = fails_at[k] = 0;
    fails_at[kind] = n;
    is_armed = true;
    if (cohort_executor_start(&options, &executor) >= 0) {
        if (step_until_it_goes(executor) >= 0) {
            await_death(executor);
            step_until_it_goes(executor);
        }
        cohort_executor_shutdown(executor);
        cohort_executor_destroy(executor);
    } else {
        assert_null(executor);
        assert_true(cohort_last_error()->message[0] != '\0');
    }
    is_armed = false;
    assert_no_children();
    assert_int_equal(count_counters(), 0);
    if (!n) return;
    assert_int_equal(count_entries("/proc/self/fd"), n_fds);
    await_threads(n_threads);
}

static void whatever_fails_is_told_and_leaves_nothing(void **state) {
    (void)state;
    const char *asked = getenv("COHORT_FAULTS"), *given = getenv("COHORT_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)cohort_clock_ns();
    int64_t most[N_KINDS];
    n_threads = count_threads();
    live(ALLOCATION, 0);
    n_fds = count_entries("/proc/self/fd");
    for (int kind = 0; kind < N_KINDS; kind++)
        most[kind] = n_done[kind];
    for (int kind = 0; kind < N_KINDS; kind++) {
        int64_t n_faults = asked ? atoll(asked) : N_DRAWN;
        bool is_all = !n_faults;
        if (is_all) n_faults = most[kind];
        for (int64_t i = 0; i < n_faults; i++) {
            int64_t n = 1 + (is_all ? i
                                    : (int64_t)(cohort_random_u64(seed, (uint64_t)i) %
                                                (uint64_t)most[kind]));
            print_message("%s %lld of %lld, COHORT_SEED=%llu\n", kind_names[kind],
                          (long long)n, (long long)most[kind], (unsigned long long)seed);
            live((fault_kind)kind, n);
        }
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_fails_is_told_and_leaves_nothing),
    };
    if (test_worker_is_asked(argc, argv)) return test_worker_main(argv);
    return cmocka_run_group_tests(tests, killer_enter_home, killer_leave_home);
}
