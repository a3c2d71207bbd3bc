/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 1024 };

static cohort_log_sink log_sink;
static cohort_log_level log_least;
static void *log_user_data;

static const char *const level_names[] = {"debug", "info", "warning", "error"};

void cohort_log_set_sink(cohort_log_sink sink, cohort_log_level least, void *user_data) {
    log_sink = sink;
    log_least = least;
    log_user_data = user_data;
}

bool cohort_log_level_parse(const char *name, cohort_log_level *out_level) {
    static const struct {
        const char *name;
        cohort_log_level level;
    } of_python[] = {{"notset", COHORT_LOG_DEBUG},
                     {"warn", COHORT_LOG_WARNING},
                     {"critical", COHORT_LOG_ERROR},
                     {"fatal", COHORT_LOG_ERROR}};
    for (unsigned i = 0; i < 4; i++) {
        bool is_ours = !strcasecmp(name, level_names[i]);
        if (!is_ours && strcasecmp(name, of_python[i].name)) continue;
        *out_level = is_ours ? (cohort_log_level)i : of_python[i].level;
        return true;
    }
    return false;
}

void cohort_log_to_stderr(void *user_data, cohort_log_level level, const char *line) {
    (void)user_data;
    (void)level;
    char text[LINE_BYTES + 1];
    int length = snprintf(text, sizeof text, "%s\n", line);
    if (length >= (int)sizeof text) length = (int)sizeof text - 1;
    ssize_t ignored = write(STDERR_FILENO, text, (size_t)length);
    (void)ignored;
}

void cohort_log(cohort_log_level level, const char *component, int32_t rank,
                const char *format, ...) {
    if (!log_sink || level < log_least) return;
    char line[LINE_BYTES];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int used = snprintf(line, sizeof line, "t=%lld.%03ld level=%s component=%s pid=%d ",
                        (long long)now.tv_sec, now.tv_nsec / 1000000, level_names[level],
                        component, (int)getpid());
    if (rank != COHORT_RANK_LOCAL)
        used += snprintf(line + used, sizeof line - (size_t)used, "rank=%d ", rank);
    va_list args;
    va_start(args, format);
    vsnprintf(line + used, sizeof line - (size_t)used, format, args);
    va_end(args);
    log_sink(log_user_data, level, line);
}

void cohort_log_place(const char *component, const cohort_error *error) {
    if (error->place[0])
        cohort_log(COHORT_LOG_DEBUG, component, error->rank,
                   "event=error_place code=%s place=%s",
                   cohort_status_name((cohort_status)error->code), error->place);
}
