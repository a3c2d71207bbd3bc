/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cli/serve.h"
#include "cohort/clock.h"

/* Design notes.
 *
 * The main thread starts everything and then sleeps until a signal: the first drains, the
 * second ends at once.  Handlers only count; signals are not blocked, because workers
 * would inherit that. */

enum { SLICE_MS = 50 };

static sem_t signals;

static void on_signal(int number) {
    (void)number;
    int err = errno;
    sem_post(&signals);
    errno = err;
}

static bool is_signalled(void *unused) {
    int n = 0;
    (void)unused;
    sem_getvalue(&signals, &n);
    return n > 0;
}

static void print_line(void *user_data, const char *line) {
    char when[32];
    time_t now = time(NULL);
    struct tm at;
    (void)user_data;
    strftime(when, sizeof when, "%m-%d %H:%M:%S", localtime_r(&now, &at));
    fprintf(stderr, "INFO %s [serve] %s\n", when, line);
}

/* systemd's protocol: a datagram to the socket that it names; nothing where it does not.
 */
static void notify_supervisor(const char *state) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    size_t length = path ? strlen(path) : 0;
    if (length < 2 || length >= sizeof to.sun_path) return;
    memcpy(to.sun_path, path, length);
    if (*path == '@') to.sun_path[0] = '\0'; /* an abstract one */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to, size);
    close(fd);
}

static void copy_list(const char **to, const cli_list *from) {
    for (int i = 0; i < from->n; i++)
        to[i] = from->items[i];
}

cohort_server_options cli_server_options(const cli_options *options) {
    cohort_server_options server = cohort_server_defaults();
    _Static_assert((int)CLI_MAX_LIST <= (int)COHORT_MAX_SERVED_NAMES, "names fit");
    _Static_assert((int)CLI_MAX_LIST <= (int)COHORT_MAX_API_KEYS, "keys fit");
    _Static_assert((int)CLI_MAX_LIST <= (int)COHORT_MAX_ORIGINS, "origins fit");
    server.host = options->host;
    server.port = (int32_t)options->port;
    server.uds = options->uds;
    server.ssl_certfile = options->ssl_certfile;
    server.ssl_keyfile = options->ssl_keyfile;
    server.max_body_bytes = options->max_body_bytes;
    server.max_connections = (int32_t)options->max_connections;
    server.max_waiting = (int32_t)options->max_waiting;
    server.idle_timeout_s = options->idle_timeout_s;
    server.request_timeout_s = options->request_timeout_s;
    server.stats_interval_s = options->stats_interval_s;
    server.model = options->model;
    server.max_logprobs = (int32_t)options->max_logprobs;
    server.version = COHORT_VERSION;
    server.enable_request_id_headers = options->request_id_headers;
    server.return_tokens_as_token_ids = options->tokens_as_ids;
    server.print = print_line;
    server.chat_template = options->chat_template;
    copy_list(server.served_names, &options->served_names);
    server.log_requests = !options->no_access_log;
    copy_list(server.allowed_origins, &options->allowed_origins);
    copy_list(server.api_keys, &options->api_keys);
    return server;
}

/* Until everything has ended, the time is up or another signal came. */
static void drain(cohort_server *server, double timeout_s) {
    int64_t end_ns = cohort_clock_ns() + (int64_t)(timeout_s * 1e9);
    print_line(NULL, "Shutting down: running requests may finish, new ones get 503");
    notify_supervisor("STOPPING=1");
    cohort_server_drain(server);
    for (;;) {
        int64_t now_ns = cohort_clock_ns();
        int64_t slice_ns = now_ns + SLICE_MS * INT64_C(1000000);
        if (cohort_server_wait_idle(server, slice_ns < end_ns ? slice_ns : end_ns) ==
                COHORT_OK ||
            slice_ns >= end_ns || sem_trywait(&signals) == 0)
            return;
    }
}

static int serve(cli_options *options, cohort_server *server) {
    cohort_engine_options engine_options;
    cohort_engine *engine;
    cohort_error failure;
    int result = cli_find_model(options);
    if (result == CLI_OK) result = cli_engine_options(options, &engine_options);
    if (result != CLI_OK) return result;
    if (cohort_engine_start(&engine_options, &engine) < 0) return cli_fail("starting");
    if (options->verbose) cli_print_start(engine);
    if (sem_trywait(&signals) == 0) { /* nobody needs to be let in any more */
        cohort_engine_destroy(engine);
        return 128 + SIGTERM;
    }
    if (cohort_server_open(server, engine) < 0) return cli_fail("serving");
    notify_supervisor("READY=1");
    while (sem_wait(&signals) < 0)
        continue;
    drain(server, options->drain_timeout_s);
    if (cohort_server_failure(server, &failure) >= 0) return CLI_OK;
    fprintf(stderr, "cohort: serving: %s\n", failure.message);
    return CLI_FAILED;
}

int cli_serve(int argc, char **argv) {
    cli_options options;
    int result = cli_options_parse(&options, CLI_ENGINE | CLI_SERVE, "serve", argc, argv);
    if (result != CLI_OK) return result == CLI_HELP ? CLI_OK : result;
    sem_init(&signals, 0, 0);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    options.is_cancelled = is_signalled;
    cohort_server *server;
    const cohort_server_options server_at = cli_server_options(&options);
    if (cohort_server_bind(&server_at, &server) < 0) return cli_fail("serving");
    result = serve(&options, server);
    cohort_server_destroy(server);
    return result;
}
