/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "http/http.h"

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

/* Of both lists the first name, as Python sorts them, behind `before`; NULL: none. */
static const char *next_name(const cohort_cors *cors, const char *before) {
    const char *const *const lists[] = {plain_headers, cors->headers};
    const char *next = NULL;
    for (int l = 0; l < 2; l++)
        for (size_t i = 0; lists[l][i]; i++)
            if (strcmp(lists[l][i], before) > 0 &&
                (!next || strcmp(lists[l][i], next) < 0))
                next = lists[l][i];
    return next;
}

static void add_allowed_headers(const cohort_cors *cors, cohort_exchange *exchange) {
    cohort_body value = {0};
    for (const char *name = next_name(cors, ""); name; name = next_name(cors, name))
        cohort_body_printf(&value, "%s%s", value.size ? ", " : "", name);
    add_header(exchange, "Access-Control-Allow-Headers", &value);
}

/* "a, B" asks for nothing that is not allowed. */
static bool allows_headers(const cohort_cors *cors, const char *asked) {
    for (size_t size;; asked += size + 1) {
        const char *name = asked;
        size = strcspn(asked, ",");
        size_t length = size;
        while (length && strchr(" \t", name[0]))
            name++, length--;
        while (length && strchr(" \t", name[length - 1]))
            length--;
        if (!has(plain_headers, name, length, true) &&
            !has(cors->headers, name, length, true))
            return false;
        if (!asked[size]) return true;
    }
}

static void answer_first(const cohort_cors *cors, cohort_exchange *exchange,
                         const char *origin, bool is_allowed, const char *method) {
    bool takes_all = has_all(cors->headers);
    bool is_plain = has_all(cors->origins) && !cors->allow_credentials;
    const char *const *methods = has_all(cors->methods) ? every_method : cors->methods;
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
        add_allowed_headers(cors, exchange);
    else if (asked)
        cohort_exchange_add_header(exchange, "Access-Control-Allow-Headers", asked);
    if (cors->allow_credentials)
        cohort_exchange_add_header(exchange, "Access-Control-Allow-Credentials", "true");
    const char *const refused[] = {
        is_allowed ? NULL : "origin",
        has(methods, method, strlen(method), false) ? NULL : "method",
        !asked || takes_all || allows_headers(cors, asked) ? NULL : "headers"};
    for (int i = 0; i < 3; i++)
        if (refused[i])
            cohort_body_printf(&failures, "%s%s",
                               failures.size ? ", " : "Disallowed CORS ", refused[i]);
    int status = failures.size ? 400 : 200;
    if (!failures.size) cohort_body_puts(&failures, "OK");
    cohort_exchange_reply(exchange, status, "text/plain; charset=utf-8", &failures);
    cohort_exchange_release(exchange);
}

bool cohort_exchange_answer_origin(cohort_exchange *exchange, const cohort_cors *cors) {
    const char *const *origins = cors->origins;
    const char *origin = cohort_exchange_header(exchange, "Origin");
    if (!origin) return false;
    bool takes_all = has_all(origins);
    bool is_allowed = takes_all || has(origins, origin, strlen(origin), false);
    const char *method =
        cohort_exchange_header(exchange, "Access-Control-Request-Method");
    if (method && !strcmp(cohort_exchange_method(exchange), "OPTIONS")) {
        answer_first(cors, exchange, origin, is_allowed, method);
        return true;
    }
    /* Browsers do not take "*" where cookies were sent. */
    bool names_it = !takes_all || cohort_exchange_header(exchange, "Cookie");
    if (is_allowed)
        cohort_exchange_add_header(exchange, "Access-Control-Allow-Origin",
                                   names_it ? origin : "*");
    if (is_allowed && names_it) cohort_exchange_add_header(exchange, "Vary", "Origin");
    if (cors->allow_credentials)
        cohort_exchange_add_header(exchange, "Access-Control-Allow-Credentials", "true");
    return false;
}
