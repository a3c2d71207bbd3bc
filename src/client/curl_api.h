/* SPDX-License-Identifier: Apache-2.0 */
/* client/curl_api.h - libcurl, loaded when somebody first needs it.
 *
 * Workers are this same program.  Linked in, libcurl and the twenty libraries behind it
 * would cost every one of them 2 ms of its start, and memory, for nothing.
 *
 * Errors: COHORT_E_INVALID where it is not installed.
 */
#ifndef COHORT_CLIENT_CURL_API_H
#define COHORT_CLIENT_CURL_API_H

#include <curl/curl.h>

#include "cohort/status.h"

#define COHORT_CURL_MAP(X) \
    X(global_init)         \
    X(easy_init)           \
    X(easy_setopt)         \
    X(easy_getinfo)        \
    X(easy_perform)        \
    X(easy_cleanup)        \
    X(easy_strerror)       \
    X(easy_escape)         \
    X(free)                \
    X(slist_append)        \
    X(slist_free_all)      \
    X(multi_init)          \
    X(multi_add_handle)    \
    X(multi_remove_handle) \
    X(multi_perform)       \
    X(multi_poll)          \
    X(multi_info_read)     \
    X(multi_strerror)      \
    X(multi_cleanup)

typedef struct cohort_curl {
#define X(name) __typeof__(curl_##name) *name;
    COHORT_CURL_MAP(X)
#undef X
} cohort_curl;

/* It stays loaded until the process ends. */
cohort_status cohort_curl_load(cohort_curl *out_curl);

#endif /* COHORT_CLIENT_CURL_API_H */
