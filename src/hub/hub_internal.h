/* SPDX-License-Identifier: Apache-2.0 */
/* hub/hub_internal.h - one search for one model. */
#ifndef COHORT_HUB_HUB_INTERNAL_H
#define COHORT_HUB_HUB_INTERNAL_H

#include <limits.h>

#include "base/fail.h"
#include "hub/hub.h"

enum { HUB_COMMIT_CHARS = 40, HUB_MAX_FILES = 4096, HUB_DIGEST_CHARS = 64 };

typedef struct hub_file {
    char *name;
    char digest[HUB_DIGEST_CHARS + 1]; /* SHA-256, or git's SHA-1 of a blob */
    int64_t size_bytes;
    bool is_missing; /* was, and is not counted as done */
} hub_file;

typedef struct hub_search {
    const cohort_hub_options *options;
    const char *name, *revision;
    char endpoint[512]; /* no slash behind; "": none */
    char token[512];    /* "": none */
    char cache[COHORT_HUB_PATH_BYTES];
    char folder[COHORT_HUB_PATH_BYTES]; /* CACHE/models--Org--Name */
    char commit[HUB_COMMIT_CHARS + 1];
    hub_file *files;
    size_t n_files;
    /* Of what has to be fetched. */
    int64_t done_bytes, total_bytes;
    int32_t n_done, n_missing;
} hub_search;

bool hub_is_commit(const char *text);
/* May this be the name of a file in a snapshot's folder itself? */
bool hub_is_file_name(const char *name);

/* Asks the hub for the commit and the files of the revision. */
cohort_status hub_ask(hub_search *search);
/* Fills search from the hub's answer. */
cohort_status hub_read_answer(hub_search *search, const char *json, size_t size);
/* Has the cache the file's blob? */
bool hub_has_blob(const hub_search *search, const hub_file *file);
/* Tells what would help. */
void hub_advise(const hub_search *search, const char *assignment);
/* Brings the file's blob into the cache, unless it is there. */
cohort_status hub_fetch(const hub_search *search, const hub_file *file);
/* COHORT_OK, or COHORT_E_PROTOCOL where the file at path is another. */
cohort_status hub_check_digest(const char *path, const hub_file *file);
void hub_search_deinit(hub_search *search);

#endif /* COHORT_HUB_HUB_INTERNAL_H */
