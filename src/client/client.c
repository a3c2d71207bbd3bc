/* SPDX-License-Identifier: Apache-2.0 */
#include "client/client.h"

#include <stdlib.h>
#include <string.h>

#include "client/curl_api.h"
#include "cohort/clock.h"

enum { MAX_BODY_BYTES = 256 << 20, LONGEST_WAIT_MS = 1000, REASON_BYTES = 64 };

typedef struct transfer {
    struct transfer *next, **link;
    cohort_client *client;
    cohort_client_request request;
    CURL *easy;
    struct curl_slist *headers;
    char *body;
    cohort_events events;
    cohort_body answer;
    bool too_much;
    char reason[REASON_BYTES];
    char error[CURL_ERROR_SIZE];
} transfer;

struct cohort_client {
    cohort_curl curl;
    CURLM *multi;
    struct curl_slist *headers;
    char *unix_socket;
    bool insecure;
    int32_t n_running;
    transfer *transfers;
};

static void free_transfer(transfer *of) {
    const cohort_curl *curl = &of->client->curl;
    if (of->easy) {
        curl->multi_remove_handle(of->client->multi, of->easy);
        curl->easy_cleanup(of->easy);
    }
    curl->slist_free_all(of->headers);
    free(of->body);
    cohort_events_deinit(&of->events);
    cohort_body_deinit(&of->answer);
    free(of);
}

static bool add_header(const cohort_curl *curl, struct curl_slist **list,
                       const char *header) {
    struct curl_slist *longer = curl->slist_append(*list, header);
    if (longer) *list = longer;
    return longer != NULL;
}

static bool add_headers(const cohort_curl *curl, struct curl_slist **list,
                        const char *const *headers) {
    for (; headers && *headers; headers++)
        if (!add_header(curl, list, *headers)) return false;
    return true;
}

cohort_status cohort_client_create(const cohort_client_options *options,
                                   cohort_client **out_client) {
    cohort_client *self = calloc(1, sizeof *self);
    char authorization[4096];
    if (!self) return COHORT_FAIL(COHORT_E_NOMEM, "no memory for a client");
    cohort_status loaded = cohort_curl_load(&self->curl);
    if (loaded < 0) {
        free(self);
        return loaded;
    }
    const cohort_curl *curl = &self->curl;
    self->multi = curl->multi_init();
    self->insecure = options->insecure;
    /* "Expect:" switches off a round trip before long bodies. */
    bool fine = self->multi && add_header(curl, &self->headers, "Expect:") &&
                add_header(curl, &self->headers, "Content-Type: application/json") &&
                add_headers(curl, &self->headers, options->headers);
    if (fine && options->bearer) {
        snprintf(authorization, sizeof authorization, "Authorization: Bearer %s",
                 options->bearer);
        fine = add_header(curl, &self->headers, authorization);
    }
    if (fine && options->unix_socket)
        fine = (self->unix_socket = strdup(options->unix_socket)) != NULL;
    if (!fine) {
        cohort_client_destroy(self);
        return COHORT_FAIL(COHORT_E_NOMEM, "no memory for a client");
    }
    *out_client = self;
    return COHORT_OK;
}

/* ---- what libcurl calls ------------------------------------------------------------ */

static size_t take_bytes(char *bytes, size_t one, size_t n, void *user_data) {
    transfer *self = user_data;
    long status = 0;
    (void)one; /* is 1 */
    self->client->curl.easy_getinfo(self->easy, CURLINFO_RESPONSE_CODE, &status);
    if (self->request.on_event && status == 200) {
        cohort_status fed = cohort_events_feed(
            &self->events, bytes, n, self->request.on_event, self->request.user_data);
        self->too_much = fed < 0;
    } else {
        cohort_body_add(&self->answer, bytes, n);
        self->too_much = self->answer.size > MAX_BODY_BYTES || self->answer.is_short;
    }
    return self->too_much ? 0 : n;
}

/* The words of "HTTP/1.1 404 Not Found". */
static size_t take_header(char *bytes, size_t one, size_t n, void *user_data) {
    transfer *self = user_data;
    (void)one;
    if (n < 5 || memcmp(bytes, "HTTP/", 5) != 0) return n;
    const char *end = bytes + n, *at = memchr(bytes, ' ', n);
    at = at ? memchr(at + 1, ' ', (size_t)(end - at - 1)) : NULL;
    size_t size = at ? (size_t)(end - at - 1) : 0;
    while (size && strchr("\r\n", at[size]))
        size--;
    if (size >= REASON_BYTES) size = REASON_BYTES - 1;
    if (size) memcpy(self->reason, at + 1, size);
    self->reason[size] = '\0';
    return n;
}

static bool prepare(transfer *self, const cohort_client_request *request) {
    cohort_client *client = self->client;
    const cohort_curl *curl = &client->curl;
    CURL *easy = self->easy = curl->easy_init();
    if (!easy) return false;
    for (struct curl_slist *h = client->headers; h; h = h->next)
        if (!add_header(curl, &self->headers, h->data)) return false;
    if (!add_headers(curl, &self->headers, request->headers)) return false;
    bool fine = !curl->easy_setopt(easy, CURLOPT_URL, request->url) &&
                !curl->easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") &&
                !curl->easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1) &&
                !curl->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) &&
                !curl->easy_setopt(easy, CURLOPT_PRIVATE, self) &&
                !curl->easy_setopt(easy, CURLOPT_HTTPHEADER, self->headers) &&
                !curl->easy_setopt(easy, CURLOPT_ERRORBUFFER, self->error) &&
                !curl->easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_bytes) &&
                !curl->easy_setopt(easy, CURLOPT_WRITEDATA, self) &&
                !curl->easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header) &&
                !curl->easy_setopt(easy, CURLOPT_HEADERDATA, self);
    if (fine && request->body) {
        self->body = malloc(request->body_bytes + 1);
        if (!self->body) return false;
        memcpy(self->body, request->body, request->body_bytes);
        fine = !curl->easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                                  (curl_off_t)request->body_bytes) &&
               !curl->easy_setopt(easy, CURLOPT_POSTFIELDS, self->body);
    }
    if (fine && client->unix_socket)
        fine = !curl->easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, client->unix_socket);
    if (fine && client->insecure)
        fine = !curl->easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L) &&
               !curl->easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    return fine;
}

cohort_status cohort_client_send(cohort_client *self,
                                 const cohort_client_request *request) {
    transfer *added = calloc(1, sizeof *added);
    if (!added) return COHORT_FAIL(COHORT_E_NOMEM, "no memory for a request");
    added->client = self;
    added->request = *request;
    if (!prepare(added, request) ||
        self->curl.multi_add_handle(self->multi, added->easy)) {
        free_transfer(added);
        return COHORT_FAIL(COHORT_E_INVALID, "'%s' is no address to ask", request->url);
    }
    added->next = self->transfers;
    added->link = &self->transfers;
    if (added->next) added->next->link = &added->next;
    self->transfers = added;
    self->n_running++;
    return COHORT_OK;
}

static void finish(transfer *of, CURLcode code) {
    cohort_client_result result = {.reason = of->reason, .error = "", .body = ""};
    const cohort_curl *curl = &of->client->curl;
    long status = 0;
    curl->easy_getinfo(of->easy, CURLINFO_RESPONSE_CODE, &status);
    if (of->answer.bytes) result.body = of->answer.bytes;
    result.body_bytes = of->answer.size;
    if (code == CURLE_OK)
        result.status = (int)status;
    else if (of->too_much)
        result.error = "the answer is too long";
    else
        result.error = of->error[0] ? of->error : curl->easy_strerror(code);
    *of->link = of->next;
    if (of->next) of->next->link = of->link;
    of->client->n_running--;
    if (of->request.on_done) of->request.on_done(of->request.user_data, &result);
    free_transfer(of);
}

cohort_status cohort_client_run(cohort_client *self, int64_t deadline_ns) {
    const cohort_curl *curl = &self->curl;
    int running = 0, left;
    CURLMcode code = curl->multi_perform(self->multi, &running);
    const CURLMsg *message = curl->multi_info_read(self->multi, &left);
    if (code == CURLM_OK && !message) {
        int64_t wait_ns = deadline_ns - cohort_clock_ns();
        int64_t wait_ms = wait_ns <= 0 ? 0 : (wait_ns + 999999) / 1000000;
        if (wait_ms > LONGEST_WAIT_MS) wait_ms = LONGEST_WAIT_MS;
        code = curl->multi_poll(self->multi, NULL, 0, (int)wait_ms, NULL);
        if (code == CURLM_OK) code = curl->multi_perform(self->multi, &running);
        message = curl->multi_info_read(self->multi, &left);
    }
    for (; message; message = curl->multi_info_read(self->multi, &left)) {
        transfer *of = NULL;
        if (message->msg != CURLMSG_DONE) continue;
        CURLcode how = message->data.result;
        curl->easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &of);
        finish(of, how);
    }
    if (code == CURLM_OK) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_IO, "waiting for answers: %s",
                       curl->multi_strerror(code));
}

int32_t cohort_client_n_running(const cohort_client *self) { return self->n_running; }

void cohort_client_destroy(cohort_client *self) {
    if (!self) return;
    while (self->transfers) {
        transfer *of = self->transfers;
        self->transfers = of->next;
        free_transfer(of);
    }
    if (self->multi) self->curl.multi_cleanup(self->multi);
    self->curl.slist_free_all(self->headers);
    free(self->unix_socket);
    free(self);
}
