/* SPDX-License-Identifier: Apache-2.0 */
#include "ray/sidecar.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/poll.h"
#include "cohort/clock.h"
#include "launcher/child.h"
#include "link/link.h"
#include "ray/event.h"

/* Design notes.
 *
 * What if we die here?  The socket closes, and the sidecar leaves by itself.  What if it
 * dies?  Ray ends the actors of a driver that is gone, we see the end of the socket.
 *
 * It leads a process group: ^C at the terminal is ours alone, and what Ray started in it
 * (a local cluster's helpers) can be killed with it before its pid is reaped. */

enum {
    MAX_MESSAGE_BYTES = 4 << 20,
    SEND_TIMEOUT_MS = 5000,
    MAX_VARIABLES = 4096,
    PATH_BYTES = 4096,
};

struct cohort_sidecar {
    pid_t pid; /* stays, for messages of the receiver's thread */
    int pidfd; /* -1 before and after its life */
    cohort_link *link;
    pthread_mutex_t send_lock;
    char *buffer; /* MAX_MESSAGE_BYTES; the receiver's */
};

extern char **environ;

/* ---- what is where ------------------------------------------------------------ */

static void cut_to_folder(char *path) {
    char *slash = strrchr(path, '/');
    if (slash) *slash = '\0';
}

static void command_folder(char *out_folder, size_t size) {
    ssize_t length = readlink("/proc/self/exe", out_folder, size - 1);
    out_folder[length > 0 ? length : 0] = '\0';
    cut_to_folder(out_folder);
}

/* The libcohort.so that this is a part of; false where it is linked into the command. */
static bool own_library(char out_path[PATH_MAX]) {
    Dl_info self;
    /* The address of a function of ours tells which file we were loaded from. */
    union {
        cohort_status (*function)(char *, size_t);
        const void *address;
    } here = {.function = cohort_sidecar_find_library};
    return dladdr(here.address, &self) && self.dli_fname &&
           strstr(self.dli_fname, "libcohort.so") && realpath(self.dli_fname, out_path);
}

static bool join_path(char *out_path, size_t size, const char *folder, const char *rest) {
    return (size_t)snprintf(out_path, size, "%s/%s", folder, rest) < size;
}

static void find_python(char *out_path, size_t size) {
    char folder[PATH_BYTES];
    const char *named = getenv("COHORT_PYTHON");
    const char *venv = getenv("VIRTUAL_ENV");
    if (named && named[0]) {
        snprintf(out_path, size, "%s", named);
        return;
    }
    if (venv && venv[0] && join_path(out_path, size, venv, "bin/python") &&
        !access(out_path, X_OK))
        return;
    command_folder(folder, sizeof folder);
    if (join_path(out_path, size, folder, "python3") && !access(out_path, X_OK)) return;
    snprintf(out_path, size, "python3");
}

/* Where cohort_ray lies beside us rather than in the Python's own packages: the build
 * tree, an installation as seen from its bin or lib, and from its lib/x86_64-linux-gnu.
 */
static bool find_package(char *out_path, size_t size) {
    static const char *const places[] = {"../../python", "../share/cohort/python",
                                         "../../share/cohort/python"};
    char folder[PATH_MAX];
    char probe[PATH_BYTES + 64];
    if (own_library(folder))
        cut_to_folder(folder);
    else
        command_folder(folder, sizeof folder);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (join_path(out_path, size, folder, places[i]) &&
            join_path(probe, sizeof probe, out_path, "cohort_ray/driver.py") &&
            !access(probe, R_OK))
            return true;
    return false;
}

cohort_status cohort_sidecar_find_library(char *out_path, size_t size) {
    /* The build tree, an installation, the wheel. */
    static const char *const places[] = {"libcohort.so", "../lib/libcohort.so.0",
                                         "../lib/x86_64-linux-gnu/libcohort.so.0",
                                         "../lib/libcohort.so"};
    char folder[PATH_MAX];
    const char *named = getenv("COHORT_LIBRARY");
    if (named && named[0]) {
        snprintf(out_path, size, "%s", named);
        return COHORT_OK;
    }
    if (own_library(folder)) {
        snprintf(out_path, size, "%s", folder);
        return COHORT_OK;
    }
    command_folder(folder, sizeof folder);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (join_path(out_path, size, folder, places[i]) && !access(out_path, R_OK))
            return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INVALID,
                       "no libcohort.so beside the command in %.120s; set COHORT_LIBRARY "
                       "to its path",
                       folder);
}

/* ---- starting it -------------------------------------------------------------- */

/* Our environment with two variables more.  The strings added are the caller's. */
static size_t build_environment(const char **out_variables, const char *path_variable) {
    size_t n = 0;
    for (char **entry = environ; *entry && n < MAX_VARIABLES; entry++) {
        if (path_variable && !strncmp(*entry, "PYTHONPATH=", 11)) continue;
        out_variables[n++] = *entry;
    }
    /* Else it tries to reach a host outside. */
    if (!getenv("RAY_USAGE_STATS_ENABLED"))
        out_variables[n++] = "RAY_USAGE_STATS_ENABLED=0";
    if (path_variable) out_variables[n++] = path_variable;
    out_variables[n] = NULL;
    return n;
}

static cohort_status start_child(cohort_sidecar *sidecar) {
    cohort_child child;
    char python[PATH_BYTES];
    char package[PATH_BYTES];
    char path_variable[2 * PATH_BYTES];
    const char *words[] = {python, "-m", "cohort_ray.driver", NULL};
    const char **variables = calloc(MAX_VARIABLES + 3, sizeof *variables);
    if (!variables) return COHORT_FAIL(COHORT_E_NOMEM, "allocating an environment");
    find_python(python, sizeof python);
    bool has_package = find_package(package, sizeof package);
    const char *inherited = getenv("PYTHONPATH");
    snprintf(path_variable, sizeof path_variable, "PYTHONPATH=%s%s%s", package,
             inherited ? ":" : "", inherited ? inherited : "");
    build_environment(variables, has_package ? path_variable : NULL);
    cohort_status status = cohort_child_start(
        words, variables, "set COHORT_PYTHON to a Python that has Ray", &child);
    free(variables);
    if (status < 0) return status;
    sidecar->pid = child.pid;
    sidecar->pidfd = child.pidfd;
    status = cohort_link_adopt(child.control_fd, &sidecar->link);
    if (status < 0) close(child.control_fd); /* it cannot be told to end, but killed */
    return status;
}

cohort_status cohort_sidecar_start(cohort_sidecar **out_sidecar) {
    cohort_sidecar *sidecar = calloc(1, sizeof *sidecar);
    if (!sidecar) return COHORT_FAIL(COHORT_E_NOMEM, "allocating a sidecar");
    sidecar->pidfd = -1;
    pthread_mutex_init(&sidecar->send_lock, NULL);
    sidecar->buffer = malloc(MAX_MESSAGE_BYTES);
    cohort_status status = COHORT_OK;
    if (!sidecar->buffer) status = COHORT_FAIL(COHORT_E_NOMEM, "allocating messages");
    if (status >= 0) status = start_child(sidecar);
    if (status < 0) {
        cohort_error error = *cohort_last_error();
        cohort_sidecar_end(sidecar, 0);
        cohort_sidecar_free(sidecar);
        return cohort_fail_adopt(&error);
    }
    *out_sidecar = sidecar;
    return COHORT_OK;
}

int32_t cohort_sidecar_pid(const cohort_sidecar *sidecar) {
    return (int32_t)sidecar->pid;
}

int cohort_sidecar_fd(const cohort_sidecar *sidecar) {
    return cohort_link_fd(sidecar->link);
}

/* ---- messages ----------------------------------------------------------------- */

cohort_status cohort_sidecar_send(cohort_sidecar *sidecar, cJSON *order) {
    char *text = order ? cJSON_PrintUnformatted(order) : NULL;
    cJSON_Delete(order);
    if (!text) return COHORT_FAIL(COHORT_E_NOMEM, "writing an order for the sidecar");
    size_t length = strlen(text);
    cohort_status status = COHORT_OK;
    if (length > MAX_MESSAGE_BYTES)
        status = COHORT_FAIL(COHORT_E_INVALID,
                             "an order of %zu bytes for the Ray sidecar; at most %d: is "
                             "the environment that large?",
                             length, MAX_MESSAGE_BYTES);
    pthread_mutex_lock(&sidecar->send_lock);
    if (status >= 0)
        status = cohort_link_send_frame(sidecar->link, text, length,
                                        cohort_deadline_ms(SEND_TIMEOUT_MS));
    pthread_mutex_unlock(&sidecar->send_lock);
    free(text);
    return status;
}

cohort_status cohort_sidecar_receive(cohort_sidecar *sidecar, int64_t deadline_ns,
                                     cJSON **out_event) {
    size_t size_bytes = 0;
    cohort_status status = cohort_link_recv_frame(
        sidecar->link, sidecar->buffer, MAX_MESSAGE_BYTES, &size_bytes, deadline_ns);
    /* A length that cannot be: nobody knows where the next message begins. */
    if (status == COHORT_E_PROTOCOL) {
        cohort_error error = *cohort_last_error();
        return COHORT_FAIL(COHORT_E_IO, "the Ray sidecar (pid %d) is out of step: %.120s",
                           (int)sidecar->pid, error.message);
    }
    if (status == COHORT_E_PEER_DIED)
        return COHORT_FAIL(COHORT_E_PEER_DIED,
                           "the Ray sidecar (pid %d) ended; what it said is above",
                           (int)sidecar->pid);
    COHORT_TRY(status);
    return cohort_ray_event_parse(sidecar->buffer, size_bytes, out_event);
}

/* ---- ending it ---------------------------------------------------------------- */

static void await_end(cohort_sidecar *sidecar, int64_t deadline_ns) {
    struct pollfd ended = {.fd = sidecar->pidfd, .events = POLLIN};
    int ready;
    do
        ready = poll(&ended, 1, cohort_poll_timeout_ms(deadline_ns));
    while ((ready < 0 && errno == EINTR) ||
           (ready == 0 && cohort_clock_ns() < deadline_ns));
}

void cohort_sidecar_end(cohort_sidecar *sidecar, int64_t deadline_ns) {
    siginfo_t ignored;
    if (sidecar->pidfd >= 0 && sidecar->link) {
        cJSON *order = cJSON_CreateObject();
        cJSON_AddStringToObject(order, "op", "close");
        /* One that has ended already cannot be told, and need not. */
        cohort_sidecar_send(sidecar, order);
        await_end(sidecar, deadline_ns);
    }
    if (sidecar->pidfd >= 0) {
        /* Without pidfds by the pid, which is its own until we reap it. */
        if (syscall(SYS_pidfd_send_signal, sidecar->pidfd, SIGKILL, NULL, 0) &&
            errno != ESRCH &&
            !waitid(P_PID, (id_t)sidecar->pid, &ignored, WEXITED | WNOHANG | WNOWAIT))
            kill(sidecar->pid, SIGKILL);
        cohort_child_reap(sidecar->pid, sidecar->pidfd, &ignored);
        sidecar->pidfd = -1;
    }
    /* What else holds the socket's other end must not keep a reader waiting. */
    if (sidecar->link) cohort_link_shutdown(sidecar->link);
}

void cohort_sidecar_free(cohort_sidecar *sidecar) {
    if (!sidecar) return;
    cohort_link_close(sidecar->link);
    pthread_mutex_destroy(&sidecar->send_lock);
    free(sidecar->buffer);
    free(sidecar);
}
