/* SPDX-License-Identifier: Apache-2.0 */
/* bench/micro.h - `cohort bench queue|collective|rpc|launch`: a part of Cohort and its
 * floor, taken in turns in one run. */
#ifndef COHORT_BENCH_MICRO_H
#define COHORT_BENCH_MICRO_H

int bench_queue(int argc, char **argv);
int bench_collective(int argc, char **argv);
int bench_rpc(int argc, char **argv);
int bench_launch(int argc, char **argv);

#endif /* COHORT_BENCH_MICRO_H */
