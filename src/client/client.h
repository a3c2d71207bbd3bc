/* SPDX-License-Identifier: Apache-2.0 */
/* client/client.h - many HTTP requests at once, on one thread; knows nothing of models.
 *
 *   create -> (send* -> run*)* -> destroy
 *
 * send only begins a request; everything moves inside run, which calls back: with every
 * event of a stream as it arrives, and once with the request's end.  A callback may send
 * further requests.  libcurl does the talking; connections are used again.
 *
 * Ownership: what send is given is copied, callbacks' arguments are theirs for the call.
 * Threads:   one client, one thread.
 */
#ifndef COHORT_CLIENT_CLIENT_H
#define COHORT_CLIENT_CLIENT_H

#include "client/events.h"

typedef struct cohort_client cohort_client;

typedef struct cohort_client_options {
    const char *bearer;         /* Authorization: Bearer ...; NULL: none */
    const char *unix_socket;    /* talk over this one, whatever the URL's host; NULL */
    const char *const *headers; /* of every request, "Name: value", NULL-terminated */
    bool insecure;              /* believe any certificate */
} cohort_client_options;

typedef struct cohort_client_result {
    int status;         /* of HTTP; 0 where no whole answer came, and error says why */
    const char *reason; /* the words beside the status */
    const char *error;  /* "" */
    const char *body;   /* what was no event; "" */
    size_t body_bytes;
} cohort_client_result;

typedef struct cohort_client_request {
    const char *url;
    const char *body; /* JSON to post; NULL: GET */
    size_t body_bytes;
    const char *const *headers; /* as above; NULL: none */
    cohort_on_event on_event;   /* events of a 200; NULL: they are a body too */
    void (*on_done)(void *user_data, const cohort_client_result *result);
    void *user_data;
} cohort_client_request;

cohort_status cohort_client_create(const cohort_client_options *options,
                                   cohort_client **out_client);
cohort_status cohort_client_send(cohort_client *client,
                                 const cohort_client_request *request);
/* Moves what can be moved; waits for something to do so until the deadline. */
cohort_status cohort_client_run(cohort_client *client, int64_t deadline_ns);
int32_t cohort_client_n_running(const cohort_client *client);
/* What is under way is dropped without a call.  Accepts NULL. */
void cohort_client_destroy(cohort_client *client);

#endif /* COHORT_CLIENT_CLIENT_H */
