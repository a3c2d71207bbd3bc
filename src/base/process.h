/* SPDX-License-Identifier: Apache-2.0 */
/* base/process.h - what this process uses; zeros where the system does not tell. */
#ifndef COHORT_BASE_PROCESS_H
#define COHORT_BASE_PROCESS_H

typedef struct cohort_process_usage {
    double virtual_bytes, resident_bytes;
    double started_s; /* since 1970 */
    double cpu_s;
    double n_fds, max_fds;
} cohort_process_usage;

cohort_process_usage cohort_process_measure(void);

#endif /* COHORT_BASE_PROCESS_H */
