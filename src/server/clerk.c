/* SPDX-License-Identifier: Apache-2.0 */
#include "server/clerk.h"

#include <pthread.h>
#include <stdlib.h>

typedef struct errand {
    cohort_clerk_serve serve;
    cohort_exchange *exchange;
    struct errand *next;
} errand;

struct cohort_clerk {
    void *user_data;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    errand *first, *last;
    bool is_stopping;
};

static errand *take_errand(cohort_clerk *clerk) {
    pthread_mutex_lock(&clerk->lock);
    while (!clerk->first && !clerk->is_stopping)
        pthread_cond_wait(&clerk->changed, &clerk->lock);
    errand *taken = clerk->first;
    if (taken) clerk->first = taken->next;
    if (!clerk->first) clerk->last = NULL;
    pthread_mutex_unlock(&clerk->lock);
    return taken;
}

static void *work(void *user_data) {
    cohort_clerk *clerk = user_data;
    for (errand *taken; (taken = take_errand(clerk));) {
        taken->serve(clerk->user_data, taken->exchange);
        free(taken);
    }
    return NULL;
}

cohort_status cohort_clerk_start(void *user_data, cohort_clerk **out_clerk) {
    *out_clerk = NULL;
    cohort_clerk *clerk = calloc(1, sizeof *clerk);
    if (!clerk) return COHORT_FAIL(COHORT_E_NOMEM, "a clerk");
    clerk->user_data = user_data;
    pthread_mutex_init(&clerk->lock, NULL);
    pthread_cond_init(&clerk->changed, NULL);
    if (pthread_create(&clerk->thread, NULL, work, clerk)) {
        pthread_cond_destroy(&clerk->changed);
        pthread_mutex_destroy(&clerk->lock);
        free(clerk);
        return COHORT_FAIL(COHORT_E_NOMEM, "a thread for large bodies");
    }
    *out_clerk = clerk;
    return COHORT_OK;
}

bool cohort_clerk_hand_over(cohort_clerk *clerk, cohort_clerk_serve serve,
                            cohort_exchange *exchange) {
    errand *added = calloc(1, sizeof *added);
    if (!added) return false;
    *added = (errand){.serve = serve, .exchange = exchange};
    pthread_mutex_lock(&clerk->lock);
    *(clerk->last ? &clerk->last->next : &clerk->first) = added;
    clerk->last = added;
    pthread_cond_signal(&clerk->changed);
    pthread_mutex_unlock(&clerk->lock);
    return true;
}

void cohort_clerk_stop(cohort_clerk *clerk) {
    if (!clerk) return;
    pthread_mutex_lock(&clerk->lock);
    clerk->is_stopping = true;
    pthread_cond_signal(&clerk->changed);
    pthread_mutex_unlock(&clerk->lock);
    pthread_join(clerk->thread, NULL);
    pthread_cond_destroy(&clerk->changed);
    pthread_mutex_destroy(&clerk->lock);
    free(clerk);
}
