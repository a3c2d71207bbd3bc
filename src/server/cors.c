/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "server/server_internal.h"

/* Which web pages of others may ask, told to their browsers as Starlette's CORSMiddleware
 * (0.50) tells it, which vLLM mounts. */

static const char *const every_method[] = {"DELETE", "GET",  "HEAD", "OPTIONS",
                                           "PATCH",  "POST", "PUT",  NULL};
/* What a page may send unasked. */
static const char *const plain_headers[] = {"Accept", "Accept-Language",
                                            "Content-Language", "Content-Type", NULL};

static bool has(const char *const *list, const char *word, size_t size, bool any_case) {
    for (size_t i = 0; list[i]; i++)
        if (strlen(list[i]) == size && (any_case ? strncasecmp(list[i], word, size)
                                                 : strncmp(list[i], word, size)) == 0)
            return true;
    return false;
}

static bool has_all(const char *const *list) { return has(list, "*", 1, false); }

static void add_words(cohort_body *out, const char *const *words) {
    for (size_t i = 0; words[i]; i++)
        cohort_body_printf(out, "%s%s", out->size ? ", " : "", words[i]);
}

static void add_header(cohort_exchange *exchange, const char *name, cohort_body *value) {
    cohort_exchange_add_header(exchange, name, value->size ? value->bytes : "");
    cohort_body_deinit(value);
}

/* Names in order, each once, as Python sorts them. */
static void add_allowed_headers(const cohort_server *server, cohort_exchange *exchange) {
    const char *names[COHORT_MAX_ORIGINS + sizeof plain_headers / sizeof *plain_headers];
    size_t n = 0;
    const char *const *lists[] = {plain_headers, server->options.allowed_headers};
    for (int l = 0; l < 2; l++)
        for (size_t i = 0; lists[l][i]; i++) {
            size_t at = n;
            while (at && strcmp(names[at - 1], lists[l][i]) > 0)
                at--;
            if (at && !strcmp(names[at - 1], lists[l][i])) continue;
            memmove(&names[at + 1], &names[at], (n++ - at) * sizeof *names);
            names[at] = lists[l][i];
        }
    names[n] = NULL;
    cohort_body value = {0};
    add_words(&value, names);
    add_header(exchange, "Access-Control-Allow-Headers", &value);
}

/* "a, B" asks for nothing that is not allowed. */
static bool allows_headers(const cohort_server *server, const char *asked) {
    for (size_t size;; asked += size + 1) {
        const char *name = asked;
        size = strcspn(asked, ",");
        size_t length = size;
        while (length && strchr(" \t", name[0]))
            name++, length--;
        while (length && strchr(" \t", name[length - 1]))
            length--;
        if (!has(plain_headers, name, length, true) &&
            !has(server->options.allowed_headers, name, length, true))
            return false;
        if (!asked[size]) return true;
    }
}

static void answer_first(const cohort_server *server, cohort_exchange *exchange,
                         const char *origin, bool is_allowed, const char *method) {
    const cohort_server_options *options = &server->options;
    bool takes_all = has_all(options->allowed_headers);
    bool is_plain = has_all(options->allowed_origins) && !options->allow_credentials;
    const char *const *methods =
        has_all(options->allowed_methods) ? every_method : options->allowed_methods;
    const char *asked =
        cohort_exchange_header(exchange, "Access-Control-Request-Headers");
    cohort_body failures = {0}, list = {0};
    if (!is_plain) cohort_exchange_add_header(exchange, "Vary", "Origin");
    if (is_plain || is_allowed)
        cohort_exchange_add_header(exchange, "Access-Control-Allow-Origin",
                                   is_plain ? "*" : origin);
    add_words(&list, methods);
    add_header(exchange, "Access-Control-Allow-Methods", &list);
    cohort_exchange_add_header(exchange, "Access-Control-Max-Age", "600");
    if (!takes_all)
        add_allowed_headers(server, exchange);
    else if (asked)
        cohort_exchange_add_header(exchange, "Access-Control-Allow-Headers", asked);
    if (options->allow_credentials)
        cohort_exchange_add_header(exchange, "Access-Control-Allow-Credentials", "true");
    const char *const refused[] = {
        is_allowed ? NULL : "origin",
        has(methods, method, strlen(method), false) ? NULL : "method",
        !asked || takes_all || allows_headers(server, asked) ? NULL : "headers"};
    for (int i = 0; i < 3; i++)
        if (refused[i])
            cohort_body_printf(&failures, "%s%s",
                               failures.size ? ", " : "Disallowed CORS ", refused[i]);
    cohort_reply_text(exchange, failures.size ? 400 : 200, "text/plain; charset=utf-8",
                      failures.size ? failures.bytes : "OK");
    cohort_body_deinit(&failures);
}

bool cohort_answer_origin(const cohort_server *server, cohort_exchange *exchange) {
    const cohort_server_options *options = &server->options;
    const char *const *origins = options->allowed_origins;
    const char *origin = cohort_exchange_header(exchange, "Origin");
    if (!origins[0] || !origin) return false;
    bool takes_all = has_all(origins);
    bool is_allowed = takes_all || has(origins, origin, strlen(origin), false);
    const char *method =
        cohort_exchange_header(exchange, "Access-Control-Request-Method");
    if (method && !strcmp(cohort_exchange_method(exchange), "OPTIONS")) {
        answer_first(server, exchange, origin, is_allowed, method);
        return true;
    }
    /* Browsers do not take "*" where cookies were sent. */
    bool names_it = !takes_all || cohort_exchange_header(exchange, "Cookie");
    if (is_allowed)
        cohort_exchange_add_header(exchange, "Access-Control-Allow-Origin",
                                   names_it ? origin : "*");
    if (is_allowed && names_it) cohort_exchange_add_header(exchange, "Vary", "Origin");
    if (options->allow_credentials)
        cohort_exchange_add_header(exchange, "Access-Control-Allow-Credentials", "true");
    return false;
}
