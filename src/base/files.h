/* SPDX-License-Identifier: Apache-2.0 */
/* base/files.h - opening what should be a file, and may be anything. */
#ifndef COHORT_BASE_FILES_H
#define COHORT_BASE_FILES_H

/* open(2) for reading that waits for no writer of a FIFO, and for whoever holds a lease
 * on a file.  Whether it is one is for the caller to see. */
int cohort_file_open(const char *path);

#endif /* COHORT_BASE_FILES_H */
