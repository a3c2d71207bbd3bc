/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "http/http_internal.h"

/* Is a socket of that name still there, though it may not listen yet?  Its server loads a
 * model.  The kernel keeps a line for each: seven columns and the name as it was bound.
 */
static bool is_bound(const char *path) {
    char line[256];
    size_t length = strlen(path);
    bool found = false;
    FILE *file = fopen("/proc/net/unix", "re");
    while (file && !found && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        size_t n = strlen(line);
        found =
            n > length && line[n - length - 1] == ' ' && !strcmp(line + n - length, path);
    }
    if (file) fclose(file);
    return found;
}

/* A socket file that nobody has bound was left by a crash. */
static cohort_status remove_stale(const struct sockaddr_un *address) {
    struct stat found;
    if (lstat(address->sun_path, &found) < 0) return COHORT_OK;
    if (!S_ISSOCK(found.st_mode))
        return COHORT_FAIL(COHORT_E_INVALID, "--uds %s exists and is no socket",
                           address->sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return COHORT_FAIL_SYS(errno, "socket");
    int result = connect(fd, (const struct sockaddr *)address, sizeof *address);
    int err = errno;
    close(fd);
    if (result == 0 || err != ECONNREFUSED || is_bound(address->sun_path))
        return COHORT_FAIL_SYS(EADDRINUSE, "--uds %s", address->sun_path);
    unlink(address->sun_path);
    return COHORT_OK;
}

static cohort_status bind_unix(cohort_http *http) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = http->options.uds;
    if (strlen(path) >= sizeof address.sun_path)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "--uds %s is too long; a socket's path has %zu bytes at most",
                           path, sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    COHORT_TRY(remove_stale(&address));
    http->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (http->listen_fd < 0) return COHORT_FAIL_SYS(errno, "socket");
    if (bind(http->listen_fd, (struct sockaddr *)&address, sizeof address) < 0)
        return COHORT_FAIL_SYS(errno, "binding --uds %s", path);
    http->uds = strdup(path);
    if (!http->uds) {
        unlink(path);
        return COHORT_FAIL(COHORT_E_NOMEM, "binding --uds %s", path);
    }
    snprintf(http->url, sizeof http->url, "unix:%s", path);
    return COHORT_OK;
}

/* Beside connections of an earlier server that are still closing. */
void cohort_http_reuse(int fd, bool on) {
    int value = on;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, sizeof value);
}

static bool try_bind(cohort_http *http, const struct addrinfo *to) {
    int zero = 0;
    int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return false;
    cohort_http_reuse(fd, true);
    /* "Every address" means IPv4 too. */
    if (to->ai_family == AF_INET6 && !http->options.host)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    if (bind(fd, to->ai_addr, to->ai_addrlen) < 0) {
        int err = errno;
        close(fd);
        errno = err;
        return false;
    }
    /* Until it listens, a second server that is as tolerant could bind it as well. */
    cohort_http_reuse(fd, false);
    http->listen_fd = fd;
    return true;
}

static void name_port(cohort_http *http) {
    struct sockaddr_storage bound;
    socklen_t length = sizeof bound;
    char service[16] = "0";
    if (getsockname(http->listen_fd, (struct sockaddr *)&bound, &length) == 0)
        getnameinfo((struct sockaddr *)&bound, length, NULL, 0, service, sizeof service,
                    NI_NUMERICSERV);
    const char *host = http->options.host ? http->options.host : "0.0.0.0";
    bool is_v6 = strchr(host, ':') != NULL;
    snprintf(http->url, sizeof http->url, "%s://%s%s%s:%s",
             http->options.ssl_certfile ? "https" : "http", is_v6 ? "[" : "", host,
             is_v6 ? "]" : "", service);
}

static cohort_status bind_tcp(cohort_http *http) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    char port[8];
    const char *host = http->options.host;
    snprintf(port, sizeof port, "%u", http->options.port);
    int failed = getaddrinfo(host, port, &hints, &found);
    if (failed)
        return COHORT_FAIL(COHORT_E_INVALID, "--host %s: %s", host ? host : "",
                           gai_strerror(failed));
    /* Without a host the IPv6 wildcard goes first: it takes IPv4 as well. */
    bool bound = false;
    int err = EADDRNOTAVAIL;
    for (int pass = 0; pass < 2 && !bound; pass++)
        for (const struct addrinfo *at = found; at && !bound; at = at->ai_next) {
            bool in_turn = host ? pass == 0 : (at->ai_family == AF_INET6) == (pass == 0);
            if (!in_turn) continue;
            errno = 0;
            bound = try_bind(http, at);
            if (!bound) err = errno;
        }
    freeaddrinfo(found);
    if (!bound)
        return COHORT_FAIL_SYS(err, "binding %s port %s; choose another --port",
                               host ? host : "every address,", port);
    name_port(http);
    return COHORT_OK;
}

cohort_status cohort_http_bind_socket(cohort_http *http) {
    return http->options.uds ? bind_unix(http) : bind_tcp(http);
}
