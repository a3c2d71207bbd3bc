/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/fail.h"
#include "engine/engine_internal.h"

/* Ids count up, so that their low bits spread them evenly. */

enum { FEWEST_HEADS = 64 };

static engine_request **head_of(const engine_requests *requests, uint64_t id) {
    return &requests->heads[id & (requests->n_heads - 1)];
}

cohort_status cohort_engine_requests_reserve(engine_requests *requests) {
    if (requests->n < requests->n_heads) return COHORT_OK;
    engine_requests larger = *requests;
    larger.n_heads = requests->n_heads ? requests->n_heads * 2 : FEWEST_HEADS;
    larger.heads = calloc(larger.n_heads, sizeof *larger.heads);
    if (!larger.heads)
        return COHORT_FAIL(COHORT_E_NOMEM, "an index of %zu requests", larger.n_heads);
    for (size_t i = 0; i < requests->n_heads; i++)
        for (engine_request *request = requests->heads[i], *next; request;
             request = next) {
            next = request->next_in_head;
            request->next_in_head = *head_of(&larger, request->id.value);
            *head_of(&larger, request->id.value) = request;
        }
    free(requests->heads);
    *requests = larger;
    return COHORT_OK;
}

void cohort_engine_requests_add(engine_requests *requests, engine_request *request) {
    engine_request **head = head_of(requests, request->id.value);
    request->next_in_head = *head;
    *head = request;
    requests->n++;
}

void cohort_engine_requests_remove(engine_requests *requests, engine_request *request) {
    engine_request **link = head_of(requests, request->id.value);
    for (; *link != request; link = &(*link)->next_in_head)
        requests->n_looks++;
    *link = request->next_in_head;
    requests->n--;
}

engine_request *cohort_engine_requests_find(engine_requests *requests, uint64_t id) {
    if (!requests->n) return NULL;
    engine_request *request = *head_of(requests, id);
    while (request && request->id.value != id) {
        requests->n_looks++;
        request = request->next_in_head;
    }
    return request;
}
