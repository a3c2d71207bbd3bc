/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"
#include "cohort/clock.h"
#include "counters/counters.h"

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
    cohort_counters *counters = NULL;
    if (cohort_counters_open(path, &counters) < 0) return; /* gone, or not ours */
    ++*(int *)user_data;
    const cohort_counters_header *header = cohort_counters_header_of(counters);
    bool alive = cohort_counters_is_alive(counters);
    printf("%.*s: %s, driver %d, tp %d, pp %d, backend %.8s%s%.*s\n",
           COHORT_INSTANCE_CHARS, header->instance,
           alive ? "running" : "ended without a word", header->driver_pid, header->tp,
           header->pp, header->backend, header->failed ? ": " : "",
           header->failed ? COHORT_COUNTERS_TEXT_BYTES - 1 : 0, header->text);
    print_deaths(header);
    printf("  %-5s %-8s %-10s %10s %10s %10s %6s\n", "rank", "pid", "phase", "call",
           "steps", "tokens", "errors");
    for (int32_t r = 0; cohort_counters_row_of(counters, r); r++)
        print_rank(cohort_counters_row_of(counters, r), r);
    cohort_counters_close(counters);
}

int cli_stat(int argc, char **argv) {
    cli_options options;
    int n = 0, result = cli_options_parse(&options, CLI_STAT, "stat", argc, argv);
    if (result != CLI_OK) return result == CLI_HELP ? CLI_OK : result;
    cohort_counters_list(print_instance, &n);
    if (!n) printf("no instance is running\n");
    return CLI_OK;
}
