/* SPDX-License-Identifier: Apache-2.0 */
/* hub/hub.h - a model's directory by the model's name: from the Hugging Face cache, or
 * from a hub into it.
 *
 *   CACHE/models--Org--Name/refs/main                 the commit
 *                          /snapshots/COMMIT/FILE  -> ../../blobs/DIGEST
 *                          /blobs/DIGEST              or DIGEST.incomplete
 *
 * The layout, the locks and the variables are huggingface_hub's, so both can share a
 * cache, also at the same time.  A file is written under its .incomplete name, resumed
 * from there after whatever happened, and renamed once its size and digest are right.  A
 * snapshot's links come when all of its files are there, the ref last, and a snapshot is
 * looked over before it is used.
 *
 * Asked online, the hub says what the revision is today; where it cannot be reached, or
 * something else answers in its place, a whole snapshot in the cache will do.
 * Threads:   any; processes wait for each other, file by file.
 * Errors:    COHORT_E_INVALID names what to set or correct; COHORT_E_IO the network or
 * the disk; COHORT_E_PROTOCOL a hub whose words or digests are wrong; COHORT_E_CANCELLED.
 */
#ifndef COHORT_HUB_HUB_H
#define COHORT_HUB_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/status.h"

enum { COHORT_HUB_PATH_BYTES = 3072 };

typedef struct cohort_hub_progress {
    const char *file;
    int64_t done_bytes, total_bytes; /* of the file */
    int64_t resumed_bytes;           /* that were there before */
    bool is_done;
    /* Of all the files that were not here. */
    int64_t all_done_bytes, all_total_bytes;
    int32_t n_done, n_files;
} cohort_hub_progress;

typedef struct cohort_hub_options {
    const char *revision; /* branch, tag or commit; NULL: main */
    const char *cache;    /* folder; NULL: HF_HUB_CACHE, HF_HOME/hub, ~/.cache/... */
    const char *endpoint; /* NULL: HF_ENDPOINT, or what the build was given */
    const char *token;    /* NULL: HF_TOKEN, or HF_HOME/token */
    bool offline;         /* also by HF_HUB_OFFLINE */
    bool without_weights; /* the tokenizer and configs will do */
    /* What config.json says, before any weight is fetched: an error ends the search. */
    cohort_status (*check_config)(void *user_data, const char *text, size_t size);
    void (*on_progress)(void *user_data, const cohort_hub_progress *progress);
    void (*on_note)(void *user_data, const char *text); /* for people; NULL: nobody */
    /* Before an error: a variable that, set so, would have had it found or fetched; "":
     * the network failed, and another attempt goes on where this one was. */
    void (*on_remedy)(void *user_data, const char *assignment);
    bool (*is_cancelled)(void *user_data);
    void *user_data;
} cohort_hub_options;

/* "Org/Name" or "Name", as a hub has them. */
bool cohort_hub_is_name(const char *name);
/* The folder of the cache. */
cohort_status cohort_hub_cache(const cohort_hub_options *options, char *out_path,
                               size_t size);
/* out_dir: the snapshot's directory, whole. */
cohort_status cohort_hub_find(const char *name, const cohort_hub_options *options,
                              char *out_dir, size_t size);

#endif /* COHORT_HUB_HUB_H */
