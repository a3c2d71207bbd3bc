/* SPDX-License-Identifier: Apache-2.0 */
#include "client/curl_api.h"

#include <dlfcn.h>
#include <string.h>

#include "base/fail.h"

cohort_status cohort_curl_load(cohort_curl *out_curl) {
    static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4"};
    void *library = NULL;
    for (size_t i = 0; !library && i < sizeof names / sizeof *names; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "libcurl is needed for this: install it (%s)", dlerror());
    void *symbol;
#define X(name)                                                                        \
    symbol = dlsym(library, "curl_" #name);                                            \
    if (!symbol)                                                                       \
        return COHORT_FAIL(COHORT_E_INVALID, "libcurl is too old: no curl_%s", #name); \
    memcpy(&out_curl->name, &symbol, sizeof symbol);
    COHORT_CURL_MAP(X)
#undef X
    if (out_curl->global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_NOMEM, "libcurl does not start");
}
