/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/terminal.h"
#include "cohort/clock.h"

enum { BAR_CELLS = 24, LEAST_CELLS = 8, REDRAW_MS = 100, SAY_EVERY_S = 5 };

static atomic_bool is_drawn; /* a line without an end, on standard error */

/* ---- what a line says -------------------------------------------------------------- */

static void put_amounts(const cli_progress *self, int64_t done, int64_t total, char *out,
                        size_t size) {
    double divisor = total >= 1000000000 ? 1e9 : 1e6;
    if (self->unit)
        snprintf(out, size, "%lld/%lld %s", (long long)done, (long long)total,
                 self->unit);
    else
        snprintf(out, size, "%.1f/%.1f %s", (double)done / divisor,
                 (double)total / divisor, divisor > 1e6 ? "GB" : "MB");
}

static void put_rate(const cli_progress *self, double rate, char *out, size_t size) {
    if (self->unit)
        snprintf(out, size, "%.1f %s/s", rate, self->unit);
    else
        snprintf(out, size, "%.1f MB/s", rate / 1e6);
}

static void put_left(double s, char *out, size_t size) {
    if (s < 100)
        snprintf(out, size, "%.0f s left", s);
    else
        snprintf(out, size, "%.0f min left", s / 60);
}

void cli_progress_format(const cli_progress *self, int64_t done, int64_t total,
                         int64_t now_ns, int columns, char *out, size_t size) {
    enum { AMOUNTS, RATE, LEFT, N_PARTS };
    char parts[N_PARTS][48] = {"", "", ""}, bar[BAR_CELLS + 1];
    double s = (double)(now_ns - self->began_ns) / 1e9;
    double rate = s > 0 ? (double)(done - self->first_done) / s : 0;
    double share = total > 0 ? (double)done / (double)total : 1;
    if (share > 1) share = 1;
    put_amounts(self, done, total, parts[AMOUNTS], sizeof parts[AMOUNTS]);
    if (rate > 0) put_rate(self, rate, parts[RATE], sizeof parts[RATE]);
    if (rate > 0 && done < total)
        put_left((double)(total - done) / rate, parts[LEFT], sizeof parts[LEFT]);
    if (!columns) {
        snprintf(out, size, "%s: %.0f%% Completed | %s%s%s%s%s", self->what, share * 100,
                 parts[AMOUNTS], *parts[RATE] ? ", " : "", parts[RATE],
                 *parts[LEFT] ? ", " : "", parts[LEFT]);
        return;
    }
    int name = (int)strlen(self->what), room = columns - 1 - 5, n_parts = 0;
    if (name > columns / 2) name = columns / 2;
    if (name > room) name = room > 0 ? room : 0;
    int cells = room - name - 3 < LEAST_CELLS ? 0 : LEAST_CELLS;
    int left = room - name - (cells ? cells + 3 : 0);
    for (; n_parts < N_PARTS && *parts[n_parts]; n_parts++) {
        int width = (int)strlen(parts[n_parts]) + 2;
        if (left < width) break;
        left -= width;
    }
    if (cells) cells = left + cells < BAR_CELLS ? left + cells : BAR_CELLS;
    memset(bar, '-', BAR_CELLS);
    memset(bar, '#', (size_t)(share * cells));
    int used = snprintf(out, size, "%.*s", name, self->what);
    if (cells) used += snprintf(out + used, size - (size_t)used, " [%.*s]", cells, bar);
    used += snprintf(out + used, size - (size_t)used, " %3.0f%%", share * 100);
    for (int i = 0; i < n_parts; i++)
        used += snprintf(out + used, size - (size_t)used, "  %s", parts[i]);
}

/* ---- who sees it ------------------------------------------------------------------- */

static void draw(const char *line) {
    atomic_store(&is_drawn, true);
    fprintf(stderr, "\r%s\033[K", line);
}

void cli_progress_clear(void) {
    if (atomic_exchange(&is_drawn, false)) fputs("\r\033[K", stderr);
}

void cli_progress_begin(cli_progress *self, const char *what) {
    int columns = self->is_log ? 0 : cli_columns(STDERR_FILENO);
    snprintf(self->what, sizeof self->what, "%s", what);
    self->began_ns = self->shown_ns = cohort_clock_ns();
    self->has_first = false;
    if (columns) {
        char line[sizeof self->what + 8];
        snprintf(line, sizeof line, "%.*s ...", columns > 5 ? columns - 5 : 0, what);
        draw(line);
        self->shown_ns = 0;
    }
}

void cli_progress_show(cli_progress *self, int64_t done, int64_t total) {
    char line[400];
    int64_t now_ns = cohort_clock_ns();
    int columns = self->is_log ? 0 : cli_columns(STDERR_FILENO);
    int64_t every_ms = columns ? REDRAW_MS : SAY_EVERY_S * 1000;
    if (!self->has_first) {
        self->has_first = true;
        self->first_done = done;
        self->began_ns = now_ns;
    }
    if (now_ns - self->shown_ns < every_ms * INT64_C(1000000)) return;
    self->shown_ns = now_ns;
    cli_progress_format(self, done, total, now_ns, columns, line, sizeof line);
    if (columns)
        draw(line);
    else if (self->say)
        self->say(self->user_data, line);
    else
        fprintf(stderr, "%s\n", line);
}
