/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/fail.h"
#include "cli/option_words.h"
#include "cli/progress.h"
#include "cli/serve.h"
#include "cli/signals.h"
#include "cohort/clock.h"

/* Design notes.
 *
 * The main thread starts everything and then sleeps until a signal: the first drains, the
 * second ends at once.  While it starts the first ends that, in order.
 *
 * An engine that has failed never works again: whoever started us starts another, once
 * all who waited have been told.  So that ends us, too, unless we are to stay. */

enum { SLICE_MS = 50 };

/* Reads and forgets; its end is a signal like any other. */
static void *await_stdin_end(void *unused) {
    char bytes[512];
    ssize_t n;
    do
        n = read(STDIN_FILENO, bytes, sizeof bytes);
    while (n > 0 || (n < 0 && errno == EINTR));
    cli_signals_note(SIGTERM);
    return unused;
}

static int watch_stdin(void) {
    pthread_t thread;
    int err = pthread_create(&thread, NULL, await_stdin_end, NULL);
    if (err) {
        fprintf(stderr, "cohort serve: no thread: %s\n", strerror(err));
        return CLI_FAILED;
    }
    pthread_setname_np(thread, "cohort-stdin");
    pthread_detach(thread);
    return CLI_OK;
}

/* Whoever does not read what we print must not stop us: a line that finds no room in a
 * pipe is lost, and the next one says so. */
static void print_line(void *user_data, const char *line) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* which TSan knows */
    static int n_lost;                                       /* under it */
    char when[32], lost[48] = "";
    struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
    time_t now = time(NULL);
    struct tm at;
    (void)user_data;
    cli_progress_clear();
    strftime(when, sizeof when, "%m-%d %H:%M:%S", localtime_r(&now, &at));
    pthread_mutex_lock(&lock);
    if (poll(&room, 1, 0) == 1) { /* of a pipe: a page, more than any line has */
        if (n_lost) snprintf(lost, sizeof lost, "(%d lines had no reader) ", n_lost);
        fprintf(stderr, "INFO %s [serve] %s%s\n", when, lost, line);
        n_lost = 0;
    } else {
        n_lost++;
    }
    pthread_mutex_unlock(&lock);
}

/* systemd's protocol: a datagram to the socket that it names; nothing where it does not.
 */
static void notify_supervisor(const char *state, int flags) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    size_t length = path ? strlen(path) : 0;
    if (length < 2 || length >= sizeof to.sun_path) return;
    memcpy(to.sun_path, path, length);
    if (*path == '@') to.sun_path[0] = '\0'; /* an abstract one */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    sendto(fd, state, strlen(state), MSG_NOSIGNAL | flags, (struct sockaddr *)&to, size);
    close(fd);
}

/* systemd asks for a sign of life every so often; we give two.  -1: nobody asks. */
static int watchdog_ms(void) {
    const char *asked = getenv("WATCHDOG_USEC"), *of = getenv("WATCHDOG_PID");
    long long us = asked ? strtoll(asked, NULL, 10) : 0;
    if (us <= 0 || (of && strtoll(of, NULL, 10) != getpid())) return -1;
    long long ms = us / 2000;
    return ms < 1 ? 1 : ms > 3600000 ? 3600000 : (int)ms;
}

static int failure_fd = -1; /* readable once the engine has failed */

static void note_failure(void *unused) {
    const uint64_t one = 1;
    ssize_t ignored = write(failure_fd, &one, sizeof one);
    (void)ignored;
    (void)unused;
}

/* For a signal, or the engine's end where we do not outlive it. */
static void await_end(bool outlives) {
    enum { SIGNALS, FAILURE };
    struct pollfd wait[] = {{.fd = cli_signals_fd(), .events = POLLIN},
                            {.fd = failure_fd, .events = POLLIN}};
    const int every_ms = watchdog_ms();
    while (!cli_signals_take()) {
        int n = poll(wait, 2, wait[FAILURE].fd < 0 ? -1 : every_ms);
        if (n > 0 && wait[FAILURE].revents) {
            wait[FAILURE].fd = -1; /* once; and no sign of life any more */
            wait[FAILURE].revents = 0;
            if (!outlives) return;
        } else if (n == 0) {
            notify_supervisor("WATCHDOG=1", MSG_DONTWAIT); /* it has some unread */
        }
    }
}

/* What uvicorn says of each answer is info. */
static bool is_quiet(const char *http_log_level) {
    return cli_is_among(http_log_level, "critical|error|warning", strncmp);
}

cohort_server_options cli_server_options(const cli_options *options) {
    cohort_server_options server = options->server;
    server.model = options->engine.model;
    server.version = COHORT_VERSION;
    server.print = print_line;
    server.on_failure = note_failure;
    if (options->no_stats) server.stats_interval_s = 0;
    server.log_answers = !options->no_access_log && !is_quiet(options->http_log_level);
    return server;
}

/* Until everything has ended, the time is up or another signal came. */
static void drain(cohort_server *server, double timeout_s) {
    cohort_error failure;
    int64_t end_ns = cohort_clock_ns() + (int64_t)(timeout_s * 1e9);
    print_line(NULL,
               cohort_server_failure(server, &failure) < 0
                   ? "Shutting down: the engine has failed"
                   : "Shutting down: running requests may finish, new ones get 503");
    notify_supervisor("STOPPING=1", 0);
    cohort_server_drain(server);
    for (;;) {
        int64_t now_ns = cohort_clock_ns();
        int64_t slice_ns = now_ns + SLICE_MS * INT64_C(1000000);
        if (cohort_server_wait_idle(server, slice_ns < end_ns ? slice_ns : end_ns) ==
                COHORT_OK ||
            slice_ns >= end_ns || cli_signals_take())
            return;
    }
}

static void say(const char *format, ...) COHORT_PRINTF(1, 2);

static void say(const char *format, ...) {
    char line[800];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    print_line(NULL, line);
}

/* Before anything that takes long. */
static void print_first_words(const cli_options *options) {
    const cohort_executor_options *ranks = &options->engine.executor;
    say("Cohort %s: serving %.300s, tensor_parallel_size %d, pipeline_parallel_size %d",
        COHORT_VERSION, options->engine.model, ranks->tp, ranks->pp);
}

/* In vLLM's words. */
static void print_start(const cli_options *options, cohort_engine *engine,
                        int64_t begin_ns) {
    cohort_engine_info info;
    cohort_executor_phases phases;
    cohort_engine_describe(engine, &info);
    cohort_executor_get_phases(cohort_engine_executor(engine), &phases);
    say("Loading weights took %.2f seconds", (double)phases.load_ns / 1e9);
    say("Model loading took %.2f GiB memory and %.2f seconds",
        (double)info.weight_bytes / 0x1p30, (double)(cohort_clock_ns() - begin_ns) / 1e9);
    if (options->verbose) cli_print_start(engine);
}

static int serve(cli_options *options, cohort_server *server) {
    cohort_engine *engine;
    cohort_error failure;
    if (cohort_server_use_model(server, options->tokenizer_dir) < 0)
        return cli_fail("serving");
    int64_t begin_ns = cohort_clock_ns();
    int result = cli_start_engine(options, print_line, &engine);
    if (result != CLI_OK) return result;
    print_start(options, engine, begin_ns);
    if (cli_signals_take()) { /* nobody needs to be let in any more */
        cohort_engine_destroy(engine);
        return 128 + cli_signals_first();
    }
    cli_signals_count_all();
    if (cohort_server_open(server, engine) < 0) return cli_fail("serving");
    notify_supervisor("READY=1", 0);
    await_end(options->outlive_engine);
    drain(server, options->drain_timeout_s);
    if (cohort_server_failure(server, &failure) >= 0) return CLI_OK;
    fprintf(stderr, "cohort: serving: %s\n", failure.message);
    return CLI_FAILED;
}

/* An empty one would guard nothing. */
static int check_keys(const cli_options *options) {
    const char *const *keys = options->server.api_keys;
    for (int i = 0; keys[i]; i++)
        if (!*keys[i]) {
            fprintf(stderr, "cohort serve: an --api-key (COHORT_API_KEY) is empty; give "
                            "one, or leave it out to let everybody in\n");
            return CLI_USAGE;
        }
    return CLI_OK;
}

int cli_serve(int argc, char **argv) {
    cli_options options;
    int result = cli_options_parse(&options, CLI_ENGINE | CLI_SERVE, "serve", argc, argv);
    if (result != CLI_OK) return result == CLI_HELP ? CLI_OK : result;
    result = check_keys(&options);
    if (result == CLI_OK) result = cli_catch_signals(&options);
    if (result == CLI_OK && options.stop_with_stdin) result = watch_stdin();
    cohort_server *server;
    cohort_server_options server_at = cli_server_options(&options);
    if (result == CLI_OK && !options.engine.model)
        result = cli_find_model(&options); /* says */
    if (result != CLI_OK) return result;
    failure_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (failure_fd < 0) {
        fprintf(stderr, "cohort serve: eventfd: %s\n", strerror(errno));
        return CLI_FAILED;
    }
    if (cohort_server_bind(&server_at, &server) < 0) return cli_fail("serving");
    print_first_words(&options);
    result = cli_find_model(&options); /* may be a download of hours: after the port */
    if (result == CLI_OK) result = serve(&options, server);
    cohort_server_destroy(server);
    return result;
}
