/* SPDX-License-Identifier: Apache-2.0 */
#include "server/clerk.h"

#include <pthread.h>
#include <stdlib.h>

struct cohort_clerk {
    cohort_clerk_take serve, refuse;
    void *user_data;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t n, capacity;
    bool is_closed, has_thread;
    cohort_exchange *line[]; /* the first one is served next */
};

static _Thread_local bool is_here;

bool cohort_clerk_is_here(void) { return is_here; }

/* Under the lock: clients that left need no place. */
static void drop_gone(cohort_clerk *clerk) {
    size_t n = 0;
    for (size_t i = 0; i < clerk->n; i++)
        if (cohort_exchange_is_gone(clerk->line[i]))
            cohort_exchange_release(clerk->line[i]);
        else
            clerk->line[n++] = clerk->line[i];
    clerk->n = n;
}

/* NULL: closed. */
static cohort_exchange *take_first(cohort_clerk *clerk) {
    cohort_exchange *first = NULL;
    pthread_mutex_lock(&clerk->lock);
    for (;;) {
        drop_gone(clerk);
        if (clerk->n || clerk->is_closed) break;
        pthread_cond_wait(&clerk->changed, &clerk->lock);
    }
    if (clerk->n) {
        first = clerk->line[0];
        clerk->n--;
        for (size_t i = 0; i < clerk->n; i++)
            clerk->line[i] = clerk->line[i + 1];
    }
    pthread_mutex_unlock(&clerk->lock);
    return first;
}

static void *work(void *user_data) {
    cohort_clerk *clerk = user_data;
    is_here = true;
    for (cohort_exchange *first; (first = take_first(clerk));)
        clerk->serve(clerk->user_data, first);
    return NULL;
}

cohort_status cohort_clerk_start(size_t capacity, cohort_clerk_take serve,
                                 cohort_clerk_take refuse, void *user_data,
                                 cohort_clerk **out_clerk) {
    *out_clerk = NULL;
    cohort_clerk *clerk = calloc(1, sizeof *clerk + capacity * sizeof *clerk->line);
    if (!clerk) return COHORT_FAIL(COHORT_E_NOMEM, "a clerk");
    clerk->capacity = capacity;
    clerk->serve = serve;
    clerk->refuse = refuse;
    clerk->user_data = user_data;
    pthread_mutex_init(&clerk->lock, NULL);
    pthread_cond_init(&clerk->changed, NULL);
    if (pthread_create(&clerk->thread, NULL, work, clerk)) {
        cohort_clerk_destroy(clerk);
        return COHORT_FAIL(COHORT_E_NOMEM, "a thread for requests that take long");
    }
    clerk->has_thread = true;
    pthread_setname_np(clerk->thread, "cohort-clerk");
    *out_clerk = clerk;
    return COHORT_OK;
}

bool cohort_clerk_hand_over(cohort_clerk *clerk, cohort_exchange *exchange) {
    pthread_mutex_lock(&clerk->lock);
    if (clerk->n == clerk->capacity) drop_gone(clerk);
    bool takes = clerk->n < clerk->capacity && !clerk->is_closed;
    if (takes) clerk->line[clerk->n++] = exchange;
    pthread_cond_signal(&clerk->changed);
    pthread_mutex_unlock(&clerk->lock);
    return takes;
}

void cohort_clerk_close(cohort_clerk *clerk) {
    if (!clerk) return;
    pthread_mutex_lock(&clerk->lock);
    clerk->is_closed = true;
    size_t n = clerk->n; /* nobody else looks at the line from here on */
    clerk->n = 0;
    pthread_cond_signal(&clerk->changed);
    pthread_mutex_unlock(&clerk->lock);
    for (size_t i = 0; i < n; i++)
        clerk->refuse(clerk->user_data, clerk->line[i]);
}

void cohort_clerk_stop(cohort_clerk *clerk) {
    if (!clerk) return;
    cohort_clerk_close(clerk);
    if (clerk->has_thread) pthread_join(clerk->thread, NULL);
    clerk->has_thread = false;
}

void cohort_clerk_destroy(cohort_clerk *clerk) {
    if (!clerk) return;
    cohort_clerk_stop(clerk);
    pthread_cond_destroy(&clerk->changed);
    pthread_mutex_destroy(&clerk->lock);
    free(clerk);
}
