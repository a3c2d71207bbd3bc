/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/profile.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "cohort/clock.h"
#include "worker/runner.h"

/* ---- asking the ranks -------------------------------------------------------------- */

static int call(cohort_executor *executor, const char *method,
                cohort_future **out_future) {
    const cohort_rpc rpc = {.method = method, .reply_rank = COHORT_ALL_RANKS};
    return cohort_collective_rpc(executor, &rpc, COHORT_NEVER, out_future) < 0
               ? cli_fail("profiling")
               : CLI_OK;
}

int cli_profile_start(cohort_executor *executor) {
    cohort_future *future = NULL;
    int result = call(executor, COHORT_RUNNER_START_PROFILE, &future);
    cohort_future_destroy(future);
    return result;
}

static bool take_reply(const cohort_future *reply, int32_t index, cli_rank_profile *out) {
    const void *bytes;
    size_t size_bytes;
    cohort_future_reply(reply, index, &out->rank, &bytes, &size_bytes);
    if (size_bytes < sizeof out->head) return false;
    memcpy(&out->head, bytes, sizeof out->head);
    size_t rest = size_bytes - sizeof out->head;
    out->events = (const void *)((const char *)bytes + sizeof out->head);
    out->head.device[sizeof out->head.device - 1] = 0;
    if (rest % sizeof *out->events || rest / sizeof *out->events != out->head.n_events)
        return false;
    for (uint64_t i = 0; i < out->head.n_events; i++)
        if (out->events[i].op < 0 || out->events[i].op >= COHORT_PROFILE_OPS ||
            out->events[i].end_ns < out->events[i].begin_ns)
            return false;
    return true;
}

int cli_profile_stop(cohort_executor *executor, cli_profile *out_profile) {
    *out_profile = (cli_profile){0};
    int result = call(executor, COHORT_RUNNER_STOP_PROFILE, &out_profile->reply);
    if (result != CLI_OK) return result;
    int32_t n = cohort_future_reply_count(out_profile->reply);
    out_profile->ranks = calloc((size_t)n + 1, sizeof *out_profile->ranks);
    if (!out_profile->ranks) abort();
    for (; out_profile->n_ranks < n; out_profile->n_ranks++) {
        cli_rank_profile *rank = &out_profile->ranks[out_profile->n_ranks];
        if (take_reply(out_profile->reply, out_profile->n_ranks, rank)) continue;
        fprintf(stderr, "cohort bench: what rank %d answers is no profile\n", rank->rank);
        cli_profile_deinit(out_profile);
        return CLI_FAILED;
    }
    return CLI_OK;
}

void cli_profile_deinit(cli_profile *profile) {
    free(profile->ranks);
    cohort_future_destroy(profile->reply);
    *profile = (cli_profile){0};
}

/* ---- the table --------------------------------------------------------------------- */

static cli_profile_row *row_of(cli_profile_row *rows, int32_t *n,
                               const cohort_profile_event *event) {
    for (int32_t i = 0; i < *n; i++)
        if (rows[i].op == event->op && rows[i].n_out == event->n_out &&
            rows[i].n_in == event->n_in)
            return &rows[i];
    if (*n == CLI_PROFILE_ROWS) return &rows[*n - 1];
    cli_profile_row *row = &rows[(*n)++];
    *row = (cli_profile_row){.op = event->op, .n_out = event->n_out, .n_in = event->n_in};
    const char *name = cohort_profile_name((cohort_profile_op)event->op);
    if (event->n_out)
        snprintf(row->name, sizeof row->name, "%s %d x %d", name, event->n_out,
                 event->n_in);
    else
        snprintf(row->name, sizeof row->name, "%s", name);
    return row;
}

static int by_time(const void *a, const void *b) {
    double x = ((const cli_profile_row *)a)->seconds,
           y = ((const cli_profile_row *)b)->seconds;
    return (x < y) - (x > y);
}

int32_t cli_profile_rows(const cli_rank_profile *of, cli_profile_row *out_rows) {
    int32_t n = 0;
    for (uint64_t i = 0; i < of->head.n_events; i++) {
        const cohort_profile_event *event = &of->events[i];
        if (event->op == COHORT_PROFILE_STEP) continue;
        cli_profile_row *row = row_of(out_rows, &n, event);
        row->n_calls++;
        row->seconds += (double)(event->end_ns - event->begin_ns) / 1e9;
        row->bytes += (double)event->bytes;
        row->flops += (double)event->flops;
    }
    qsort(out_rows, (size_t)n, sizeof *out_rows, by_time);
    return n;
}

double cli_profile_least_s(const cli_rank_profile *of, const cli_profile_row *row) {
    double read = of->head.read_bytes_per_s, flops = of->head.flops_per_s;
    double reading_s = read > 0 ? row->bytes / read : 0;
    double computing_s = flops > 0 ? row->flops / flops : 0;
    return reading_s > computing_s ? reading_s : computing_s;
}

/* Steps, and from the first's begin to the last's end. */
struct steps {
    int64_t n, inside_ns, begin_ns, end_ns;
};

static struct steps steps_of(const cli_rank_profile *of) {
    struct steps steps = {0};
    for (uint64_t i = 0; i < of->head.n_events; i++) {
        const cohort_profile_event *event = &of->events[i];
        if (event->op != COHORT_PROFILE_STEP) continue;
        if (!steps.n++) steps.begin_ns = event->begin_ns;
        steps.inside_ns += event->end_ns - event->begin_ns;
        steps.end_ns = event->end_ns;
    }
    return steps;
}

static void print_line(const char *name, int64_t n_calls, double seconds, double all_s) {
    printf("  %-24s %8" PRId64 " %10.3f %6.1f", name, n_calls, seconds * 1e3,
           all_s > 0 ? 100 * seconds / all_s : 0);
}

static void print_rank(const cli_rank_profile *of) {
    cli_profile_row rows[CLI_PROFILE_ROWS];
    int32_t n = cli_profile_rows(of, rows);
    struct steps steps = steps_of(of);
    double all_s = (double)(steps.end_ns - steps.begin_ns) / 1e9, inside_s = 0;
    printf(
        "Rank %d, %s: reads at most %.1f GB/s and computes %.1f GFLOP/s, measured just "
        "now\n",
        of->rank, of->head.device, of->head.read_bytes_per_s / 1e9,
        of->head.flops_per_s / 1e9);
    printf("  %-24s %8s %10s %6s %9s %9s %6s\n", "operation", "calls", "ms", "%", "GB/s",
           "GFLOP/s", "limit");
    for (int32_t i = 0; i < n; i++) {
        double s = rows[i].seconds > 0 ? rows[i].seconds : 1e-9;
        print_line(rows[i].name, rows[i].n_calls, rows[i].seconds, all_s);
        printf(" %9.2f %9.2f %4.0f %%\n", rows[i].bytes / s / 1e9,
               rows[i].flops / s / 1e9, 100 * cli_profile_least_s(of, &rows[i]) / s);
        inside_s += rows[i].seconds;
    }
    double in_steps_s = (double)steps.inside_ns / 1e9;
    print_line("between operations", steps.n, in_steps_s - inside_s, all_s);
    printf("\n");
    print_line("between steps", steps.n, all_s - in_steps_s, all_s);
    printf("\n");
    if (of->head.n_dropped)
        printf("  %" PRIu64 " operations came after the last one that was noted\n",
               of->head.n_dropped);
}

void cli_profile_print(const cli_profile *profile) {
    for (int32_t i = 0; i < profile->n_ranks; i++)
        print_rank(&profile->ranks[i]);
}

/* ---- the trace --------------------------------------------------------------------- */

/* As the others of bench: whole or not at all. */
static int close_file(FILE *file, const char *temporary, const char *path) {
    bool written = !ferror(file);
    if (fclose(file)) written = false;
    if (written && !rename(temporary, path)) return CLI_OK;
    fprintf(stderr, "cohort bench: cannot write %s\n", path);
    remove(temporary);
    return CLI_USAGE;
}

static FILE *open_file(const char *path, char *temporary, size_t size) {
    snprintf(temporary, size, "%s.part", path);
    FILE *file = fopen(temporary, "we");
    if (!file) fprintf(stderr, "cohort bench: cannot write %s\n", path);
    return file;
}

/* Chrome's trace event format: complete events, microseconds, a thread a rank. */
static void trace_rank(FILE *file, const cli_rank_profile *of, int64_t zero_ns) {
    fprintf(file,
            "%s{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":1,\"tid\":%d,"
            "\"args\":{\"name\":\"rank %d\"}}",
            of->rank ? ",\n" : "", of->rank, of->rank);
    for (uint64_t i = 0; i < of->head.n_events; i++) {
        const cohort_profile_event *event = &of->events[i];
        fprintf(file, ",\n{\"ph\":\"X\",\"name\":\"%s",
                cohort_profile_name((cohort_profile_op)event->op));
        if (event->n_out) fprintf(file, " %d x %d", event->n_out, event->n_in);
        fprintf(file,
                "\",\"pid\":1,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,\"args\":{\"layer\":%d,"
                "\"rows\":%d,\"sequences\":%d,\"bytes\":%" PRId64 ",\"flops\":%" PRId64
                "}}",
                of->rank, (double)(event->begin_ns - zero_ns) / 1e3,
                (double)(event->end_ns - event->begin_ns) / 1e3, event->layer,
                event->n_rows, event->n_sequences, event->bytes, event->flops);
    }
}

int cli_profile_trace(const cli_profile *profile, const char *path) {
    char temporary[CLI_PATH_BYTES];
    FILE *file = open_file(path, temporary, sizeof temporary);
    if (!file) return CLI_USAGE;
    int64_t zero_ns = INT64_MAX;
    for (int32_t i = 0; i < profile->n_ranks; i++) {
        struct steps steps = steps_of(&profile->ranks[i]);
        if (steps.n && steps.begin_ns < zero_ns) zero_ns = steps.begin_ns;
    }
    fprintf(file, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
    for (int32_t i = 0; i < profile->n_ranks; i++)
        trace_rank(file, &profile->ranks[i], zero_ns);
    fprintf(file, "\n]}\n");
    return close_file(file, temporary, path);
}

/* ---- the roofline ------------------------------------------------------------------ */

/* Both axes are logarithms of 10: what lies outside is drawn at the edge. */
enum { WIDTH = 900, HEIGHT = 560, LEFT = 70, TOP = 40, RIGHT = 20, BOTTOM = 60 };
static const double LEAST_X = -1.5, MOST_X = 3.5, LEAST_Y = -1, MOST_Y = 4;

static double clamp(double value, double least, double most) {
    return value < least ? least : value > most ? most : value;
}

static double x_of(double flops_a_byte) {
    double at = clamp(log10(flops_a_byte), LEAST_X, MOST_X);
    return LEFT + (at - LEAST_X) / (MOST_X - LEAST_X) * (WIDTH - LEFT - RIGHT);
}

static double y_of(double gflops) {
    double at = clamp(log10(gflops), LEAST_Y, MOST_Y);
    return TOP + (MOST_Y - at) / (MOST_Y - LEAST_Y) * (HEIGHT - TOP - BOTTOM);
}

static void draw_axes(FILE *file) {
    for (int at = (int)LEAST_X; at <= (int)MOST_X; at++)
        fprintf(file,
                "<line class=\"grid\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>"
                "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n",
                x_of(pow(10, at)), TOP, x_of(pow(10, at)), HEIGHT - BOTTOM,
                x_of(pow(10, at)), HEIGHT - BOTTOM + 18, pow(10, at));
    for (int at = (int)LEAST_Y; at <= (int)MOST_Y; at++)
        fprintf(file,
                "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>"
                "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                LEFT, y_of(pow(10, at)), WIDTH - RIGHT, y_of(pow(10, at)), LEFT - 8,
                y_of(pow(10, at)) + 4, pow(10, at));
    fprintf(file,
            "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">FLOPs a byte</text>\n"
            "<text x=\"%d\" y=\"%d\">GFLOP/s</text>\n",
            (LEFT + WIDTH) / 2, HEIGHT - 16, LEFT, TOP - 14);
}

static void draw_roof(FILE *file, const cohort_profile_head *head) {
    double peak = head->flops_per_s / 1e9, read = head->read_bytes_per_s / 1e9;
    if (!(peak > 0 && read > 0)) return;
    double left = pow(10, LEAST_X), right = pow(10, MOST_X), ridge = peak / read;
    fprintf(file,
            "<polyline class=\"roof\" points=\"%.1f,%.1f %.1f,%.1f %.1f,%.1f\"/>\n"
            "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.0f GFLOP/s</text>\n"
            "<text x=\"%.1f\" y=\"%.1f\">%.1f GB/s</text>\n",
            x_of(left), y_of(read * left), x_of(ridge), y_of(peak), x_of(right),
            y_of(peak), x_of(right), y_of(peak) - 6, peak, x_of(left) + 6,
            y_of(read * left) - 10, read);
}

/* An operation's circle has the area of its share of the time, and the number of its line
 * in the list. */
static void draw_rows(FILE *file, const cli_rank_profile *of) {
    cli_profile_row rows[CLI_PROFILE_ROWS];
    int32_t n = cli_profile_rows(of, rows), number = 0;
    double all_s = 0;
    for (int32_t i = 0; i < n; i++)
        all_s += rows[i].seconds;
    for (int32_t i = 0; i < n; i++) {
        if (!(rows[i].flops > 0 && rows[i].bytes > 0 && rows[i].seconds > 0)) continue;
        double x = x_of(rows[i].flops / rows[i].bytes),
               y = y_of(rows[i].flops / rows[i].seconds / 1e9);
        number++;
        fprintf(file,
                "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"/>"
                "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%d</text>"
                "<text x=\"%d\" y=\"%d\">%d  %s: %.1f %% of the time, %.0f %% of the "
                "limit</text>\n",
                x, y, 6 + 30 * sqrt(rows[i].seconds / all_s), x, y + 4, number, LEFT + 12,
                TOP + 4 + 16 * number, number, rows[i].name,
                100 * rows[i].seconds / all_s,
                100 * cli_profile_least_s(of, &rows[i]) / rows[i].seconds);
    }
}

/* Of rank 0: the others do the same on their part. */
int cli_profile_roofline(const cli_profile *profile, const char *path) {
    char temporary[CLI_PATH_BYTES];
    FILE *file = open_file(path, temporary, sizeof temporary);
    if (!file) return CLI_USAGE;
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\">\n<style>"
            "text{font:12px sans-serif}.grid{stroke:#ddd}.roof{fill:none;stroke:#c33;"
            "stroke-width:2}circle{fill:#369;fill-opacity:.5}</style>\n"
            "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT);
    draw_axes(file);
    if (profile->n_ranks) {
        draw_roof(file, &profile->ranks[0].head);
        draw_rows(file, &profile->ranks[0]);
    }
    fprintf(file, "</svg>\n");
    return close_file(file, temporary, path);
}
