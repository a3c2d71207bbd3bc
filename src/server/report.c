/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/condition.h"
#include "cohort/clock.h"
#include "server/server_internal.h"

/* The thread that prints, and does nothing else: printing may block, and neither steps
 * nor clients shall wait for a terminal.  Lines that come faster than they go are
 * dropped, and counted. */

enum { MAX_LINES = 256, LINE_BYTES = 600 };

struct cohort_reporter {
    const cohort_server *server;
    int64_t interval_ns; /* COHORT_NEVER: none */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_stopping;
    char lines[MAX_LINES][LINE_BYTES]; /* a ring */
    uint32_t first, n_lines, n_dropped;
};

/* Under the lock, which is let go meanwhile. */
static void print_lines(cohort_reporter *self) {
    char line[LINE_BYTES];
    while (self->n_lines) {
        memcpy(line, self->lines[self->first], sizeof line);
        self->first = (self->first + 1) % MAX_LINES;
        self->n_lines--;
        uint32_t n_dropped = self->n_dropped;
        self->n_dropped = 0;
        pthread_mutex_unlock(&self->lock);
        if (n_dropped)
            cohort_server_print(self->server, "%u lines did not get here", n_dropped);
        cohort_server_print(self->server, "%s", line);
        pthread_mutex_lock(&self->lock);
    }
}

/* Prints what there is until then.  False once the reporter is to stop. */
static bool print_until(cohort_reporter *self, int64_t until_ns) {
    pthread_mutex_lock(&self->lock);
    bool is_early = true;
    print_lines(self);
    while (!self->is_stopping && is_early) {
        is_early = cohort_condition_wait(&self->changed, &self->lock, until_ns);
        print_lines(self);
    }
    bool goes_on = !self->is_stopping;
    pthread_mutex_unlock(&self->lock);
    return goes_on;
}

void cohort_reporter_say(cohort_reporter *self, const char *format, ...) {
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&self->lock);
    if (self->n_lines == MAX_LINES) {
        self->n_dropped++;
    } else {
        uint32_t at = (self->first + self->n_lines++) % MAX_LINES;
        vsnprintf(self->lines[at], LINE_BYTES, format, args);
        pthread_cond_signal(&self->changed);
    }
    pthread_mutex_unlock(&self->lock);
    va_end(args);
}

static void *report(void *user_data) {
    cohort_reporter *self = user_data;
    cohort_metrics_totals last, now;
    int64_t last_ns = cohort_clock_ns();
    bool was_idle = true;
    cohort_metrics_get_totals(self->server->metrics, &last);
    while (print_until(self, self->interval_ns == COHORT_NEVER
                                 ? COHORT_NEVER
                                 : last_ns + self->interval_ns)) {
        int64_t now_ns = cohort_clock_ns();
        double passed_s = (double)(now_ns - last_ns) / 1e9;
        cohort_metrics_get_totals(self->server->metrics, &now);
        bool is_idle = now.n_prompt_tokens == last.n_prompt_tokens &&
                       now.n_generated_tokens == last.n_generated_tokens &&
                       now.stats.n_running + now.stats.n_waiting == 0;
        /* Once more when it becomes idle: the last line shall not say it is busy. */
        if (!is_idle || !was_idle)
            cohort_server_print(
                self->server,
                "Engine 000: Avg prompt throughput: %.1f tokens/s, Avg generation "
                "throughput: %.1f tokens/s, Running: %d reqs, Waiting: %d reqs, %s KV "
                "cache usage: %.1f%%, Prefix cache hit rate: %.1f%%",
                (double)(now.n_prompt_tokens - last.n_prompt_tokens) / passed_s,
                (double)(now.n_generated_tokens - last.n_generated_tokens) / passed_s,
                now.stats.n_running, now.stats.n_waiting,
                cohort_server_cache_word(self->server), now.cache_usage * 100,
                now.stats.n_cache_queries ? 100 * (double)now.stats.n_cache_hits /
                                                (double)now.stats.n_cache_queries
                                          : 0);
        was_idle = is_idle;
        last = now;
        last_ns = now_ns;
    }
    return NULL;
}

cohort_status cohort_reporter_start(const cohort_server *server, double interval_s,
                                    cohort_reporter **out_reporter) {
    *out_reporter = NULL;
    cohort_reporter *self = calloc(1, sizeof *self);
    if (!self) return COHORT_FAIL(COHORT_E_NOMEM, "the throughput line");
    self->server = server;
    self->interval_ns = interval_s > 0 ? (int64_t)(interval_s * 1e9) : COHORT_NEVER;
    pthread_mutex_init(&self->lock, NULL);
    cohort_condition_init(&self->changed);
    if (pthread_create(&self->thread, NULL, report, self)) {
        pthread_cond_destroy(&self->changed);
        pthread_mutex_destroy(&self->lock);
        free(self);
        return COHORT_FAIL(COHORT_E_NOMEM, "a thread for the throughput line");
    }
    pthread_setname_np(self->thread, "cohort-report");
    *out_reporter = self;
    return COHORT_OK;
}

void cohort_reporter_stop(cohort_reporter *self) {
    if (!self) return;
    pthread_mutex_lock(&self->lock);
    self->is_stopping = true;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
    pthread_join(self->thread, NULL);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

void cohort_server_print(const cohort_server *server, const char *format, ...) {
    char line[600];
    va_list args;
    if (!server->options.print) return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    /* Some of it may be a stranger's: no line of ours may be written by them. */
    cohort_body printable = {0};
    cohort_body_printable(&printable, line);
    if (printable.bytes && !printable.is_short)
        server->options.print(server->options.user_data, printable.bytes);
    cohort_body_deinit(&printable);
}
