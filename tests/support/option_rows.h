/* SPDX-License-Identifier: Apache-2.0 */
/* tests/support/option_rows.h - what has to be true of every row of a table of options.
 */
#ifndef OPTION_ROWS_H
#define OPTION_ROWS_H

#include "base/option.h"

/* Of a table over a struct of so many bytes: defaults, the edges of ranges, words, flags
 * and lists go from text into the field, from there over the wire into another struct,
 * and are the same; what is outside is refused, and no name stands twice. */
void expect_rows_round_trip(const cohort_option_table *table, size_t struct_bytes);

#endif /* OPTION_ROWS_H */
