/* SPDX-License-Identifier: Apache-2.0 */
/* cli/series.h - measured times, and what one says of them.  Percentiles lie between two
 * values as numpy's do; the deviation is the population's. */
#ifndef COHORT_CLI_SERIES_H
#define COHORT_CLI_SERIES_H

#include <stddef.h>

typedef struct cli_series {
    double *seconds;
    size_t count, capacity;
} cli_series;

void cli_series_add(cli_series *to, double seconds);
void cli_series_deinit(cli_series *of);
/* These answer `none` where nothing was measured. */
double cli_series_percentile(const cli_series *of, double p, double none);
double cli_series_mean(const cli_series *of, double none);
double cli_series_deviation(const cli_series *of, double none);

#endif /* COHORT_CLI_SERIES_H */
