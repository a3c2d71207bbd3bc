/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/series.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void cli_series_add(cli_series *to, double seconds) {
    if (to->count == to->capacity) {
        to->capacity = to->capacity * 2 + 256;
        to->seconds = realloc(to->seconds, to->capacity * sizeof(double));
        if (!to->seconds) abort();
    }
    to->seconds[to->count++] = seconds;
}

void cli_series_deinit(cli_series *of) {
    free(of->seconds);
    *of = (cli_series){0};
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double cli_series_percentile(const cli_series *of, double p, double none) {
    if (!of->count) return none;
    double *sorted = malloc(of->count * sizeof *sorted);
    if (!sorted) abort();
    memcpy(sorted, of->seconds, of->count * sizeof *sorted);
    qsort(sorted, of->count, sizeof *sorted, ascending);
    double at = p / 100 * (double)(of->count - 1);
    size_t low = (size_t)at;
    size_t high = low + 1 < of->count ? low + 1 : low;
    double value = sorted[low] + (at - (double)low) * (sorted[high] - sorted[low]);
    free(sorted);
    return value;
}

double cli_series_mean(const cli_series *of, double none) {
    double sum = 0;
    for (size_t i = 0; i < of->count; i++)
        sum += of->seconds[i];
    return of->count ? sum / (double)of->count : none;
}

double cli_series_deviation(const cli_series *of, double none) {
    double mean = cli_series_mean(of, none), sum = 0;
    for (size_t i = 0; i < of->count; i++)
        sum += (of->seconds[i] - mean) * (of->seconds[i] - mean);
    return of->count ? sqrt(sum / (double)of->count) : none;
}
