/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "cli/options.h"
#include "cli/signals.h"
#include "cohort/clock.h"
#include "counters/counters.h"

enum { MAX_WATCHED = 64 };

/* What an instance had done when it was looked at last. */
typedef struct seen {
    char instance[COHORT_INSTANCE_CHARS + 1];
    uint64_t tokens;
    int64_t at_ns;
} seen;

typedef struct looking {
    bool is_watching;
    int n; /* instances */
    seen before[MAX_WATCHED];
} looking;

static void print_rank(const cohort_counters_row *row, int32_t index) {
    int32_t waits_for = row->waits_for;
    char text[COHORT_COUNTERS_TEXT_BYTES], address[COHORT_COUNTERS_ADDRESS_BYTES];
    cohort_counters_row_address(row, address);
    snprintf(text, sizeof text, "%.*s", COHORT_COUNTERS_TEXT_BYTES - 1, row->text);
    printf("  %-5d %-8d %-10s %10llu %10llu %10llu %6llu", index, row->pid,
           cohort_rank_phase_name(row->phase), (unsigned long long)row->call,
           (unsigned long long)row->steps, (unsigned long long)row->tokens,
           (unsigned long long)row->errors);
    if (*address) printf("  on %s", address);
    if (waits_for >= 0) printf("  waits for rank %d", waits_for);
    printf("%s%s\n", *text ? "  " : "", text);
}

/* Every rank counts the tokens of every step: the one that has most is ahead. */
static uint64_t tokens_of(cohort_counters *counters) {
    uint64_t most = 0;
    for (int32_t r = 0; cohort_counters_row_of(counters, r); r++) {
        uint64_t tokens = cohort_counters_row_of(counters, r)->tokens;
        if (tokens > most) most = tokens;
    }
    return most;
}

/* Since the look before; -1: this is the first. */
static double tokens_a_second(looking *self, const char *instance, uint64_t tokens) {
    int64_t now_ns = cohort_clock_ns();
    seen *of = NULL, *oldest = &self->before[0]; /* it takes a free one for the oldest */
    for (int i = 0; i < MAX_WATCHED && !of; i++) {
        if (!strcmp(self->before[i].instance, instance)) of = &self->before[i];
        if (self->before[i].at_ns < oldest->at_ns) oldest = &self->before[i];
    }
    bool is_first = !of;
    if (is_first) of = oldest;
    double s = (double)(now_ns - of->at_ns) / 1e9;
    double rate = is_first || s <= 0 || tokens < of->tokens
                      ? -1
                      : (double)(tokens - of->tokens) / s;
    snprintf(of->instance, sizeof of->instance, "%s", instance);
    of->tokens = tokens;
    of->at_ns = now_ns;
    return rate;
}

/* What the ranks' deaths have cost; nothing where none has died. */
static void print_deaths(const cohort_counters_header *header) {
    uint64_t n_deaths = header->n_deaths, n_recovered = header->n_recovered;
    if (!n_deaths) return;
    printf("  epoch %llu: %llu deaths of ranks, %llu recoveries, %llu with the KV cache "
           "kept%s",
           (unsigned long long)header->epoch, (unsigned long long)n_deaths,
           (unsigned long long)n_recovered, (unsigned long long)header->n_kept,
           header->failed ? "\n" : "; the last: ");
    if (!header->failed) printf("%.*s\n", COHORT_COUNTERS_TEXT_BYTES - 1, header->text);
}

static void print_instance(void *user_data, const char *path) {
    looking *self = user_data;
    cohort_counters *counters = NULL;
    if (cohort_counters_open(path, &counters) < 0) return; /* gone, or not ours */
    self->n++;
    const cohort_counters_header *header = cohort_counters_header_of(counters);
    bool alive = cohort_counters_is_alive(counters);
    char instance[COHORT_INSTANCE_CHARS + 1];
    snprintf(instance, sizeof instance, "%.*s", COHORT_INSTANCE_CHARS, header->instance);
    printf("%s: %s, driver %d, tp %d, pp %d, backend %.8s%s%.*s%s%.*s", instance,
           alive ? "running" : "ended without a word", header->driver_pid, header->tp,
           header->pp, header->backend, header->title[0] ? ", serves " : "",
           (int)sizeof header->title - 1, header->title, header->failed ? ": " : "",
           header->failed ? COHORT_COUNTERS_TEXT_BYTES - 1 : 0, header->text);
    double rate = self->is_watching && alive
                      ? tokens_a_second(self, instance, tokens_of(counters))
                      : -1;
    if (rate >= 0) printf(", %.1f tokens/s", rate);
    printf("\n");
    print_deaths(header);
    printf("  %-5s %-8s %-10s %10s %10s %10s %6s\n", "rank", "pid", "phase", "call",
           "steps", "tokens", "errors");
    for (int32_t r = 0; cohort_counters_row_of(counters, r); r++)
        print_rank(cohort_counters_row_of(counters, r), r);
    cohort_counters_close(counters);
}

static void look(looking *self) {
    self->n = 0;
    cohort_counters_list(print_instance, self);
    if (!self->n) printf("no instance is running\n");
    fflush(stdout);
}

/* On a terminal in place of the look before, else below it. */
static int watch(looking *self, const cli_options *options) {
    bool is_terminal = isatty(STDOUT_FILENO);
    int result = cli_signals_catch();
    if (result != CLI_OK) return result;
    struct pollfd signals = {.fd = cli_signals_fd(), .events = POLLIN};
    self->is_watching = true;
    do {
        if (is_terminal) printf("\033[H\033[J");
        look(self);
        if (ferror(stdout)) return CLI_FAILED; /* main says why */
    } while (!poll(&signals, 1, (int)(options->interval_ns / 1000000)) ||
             !cli_signals_first());
    return cli_signals_first() == SIGINT ? CLI_OK : 128 + cli_signals_first();
}

int cli_stat(int argc, char **argv) {
    static looking self;
    cli_options options;
    int result = cli_options_parse(&options, CLI_STAT, "stat", argc, argv);
    if (result != CLI_OK) return result == CLI_HELP ? CLI_OK : result;
    if (options.watch) return watch(&self, &options);
    look(&self);
    return CLI_OK;
}
