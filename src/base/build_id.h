/* SPDX-License-Identifier: Apache-2.0 */
/* base/build_id.h - tells two ends of one run whether they are the same build. */
#ifndef COHORT_BASE_BUILD_ID_H
#define COHORT_BASE_BUILD_ID_H

enum { COHORT_BUILD_ID_CHARS = 32 };

/* Hex digest of the library's sources: COHORT_BUILD_ID_CHARS characters and a NUL. */
const char *cohort_build_id(void);

#endif /* COHORT_BASE_BUILD_ID_H */
