/* SPDX-License-Identifier: Apache-2.0 */
#include "server/request_queue.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/cancel.h"
#include "base/condition.h"

struct cohort_request_queue {
    cohort_request_queue_take serve, refuse;
    void *user_data;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t n, capacity;
    bool is_closed, has_thread, is_serving;
    atomic_bool gives_up;       /* what is being served is not waited for */
    cohort_exchange *waiting[]; /* the first one is served next */
};

static _Thread_local bool is_current_thread;

bool cohort_request_queue_is_current(void) { return is_current_thread; }

/* Under the lock: clients that left need no place. */
static void drop_gone(cohort_request_queue *queue) {
    size_t n = 0;
    for (size_t i = 0; i < queue->n; i++)
        if (cohort_exchange_is_gone(queue->waiting[i]))
            cohort_exchange_release(queue->waiting[i]);
        else
            queue->waiting[n++] = queue->waiting[i];
    queue->n = n;
}

/* NULL: closed. */
static cohort_exchange *take_first(cohort_request_queue *queue) {
    cohort_exchange *first = NULL;
    pthread_mutex_lock(&queue->lock);
    queue->is_serving = false;
    for (;;) {
        drop_gone(queue);
        pthread_cond_broadcast(&queue->changed); /* who waits for it to be idle */
        if (queue->n || queue->is_closed) break;
        pthread_cond_wait(&queue->changed, &queue->lock);
    }
    if (queue->n) {
        first = queue->waiting[0];
        queue->is_serving = true;
        queue->n--;
        for (size_t i = 0; i < queue->n; i++)
            queue->waiting[i] = queue->waiting[i + 1];
    }
    pthread_mutex_unlock(&queue->lock);
    return first;
}

typedef struct served {
    cohort_request_queue *queue;
    cohort_exchange *exchange;
} served;

static bool is_unwanted(void *user_data) {
    const served *one = user_data;
    return atomic_load(&one->queue->gives_up) || cohort_exchange_is_gone(one->exchange);
}

static void *work(void *user_data) {
    served one = {.queue = user_data};
    is_current_thread = true;
    while ((one.exchange = take_first(one.queue))) {
        cohort_cancel_set(is_unwanted, &one);
        one.queue->serve(one.queue->user_data, one.exchange);
    }
    return NULL;
}

cohort_status cohort_request_queue_start(size_t capacity, cohort_request_queue_take serve,
                                         cohort_request_queue_take refuse,
                                         void *user_data,
                                         cohort_request_queue **out_queue) {
    *out_queue = NULL;
    cohort_request_queue *queue =
        calloc(1, sizeof *queue + capacity * sizeof *queue->waiting);
    if (!queue) return COHORT_FAIL(COHORT_E_NOMEM, "a queue of requests");
    queue->capacity = capacity;
    queue->serve = serve;
    queue->refuse = refuse;
    queue->user_data = user_data;
    pthread_mutex_init(&queue->lock, NULL);
    cohort_condition_init(&queue->changed);
    if (pthread_create(&queue->thread, NULL, work, queue)) {
        cohort_request_queue_destroy(queue);
        return COHORT_FAIL(COHORT_E_NOMEM, "a thread for requests that take long");
    }
    queue->has_thread = true;
    pthread_setname_np(queue->thread, "cohort-requests");
    *out_queue = queue;
    return COHORT_OK;
}

bool cohort_request_queue_add(cohort_request_queue *queue, cohort_exchange *exchange) {
    pthread_mutex_lock(&queue->lock);
    if (queue->n == queue->capacity) drop_gone(queue);
    bool takes = queue->n < queue->capacity && !queue->is_closed;
    if (takes) queue->waiting[queue->n++] = exchange;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
    return takes;
}

bool cohort_request_queue_wait_idle(cohort_request_queue *queue, int64_t deadline_ns) {
    pthread_mutex_lock(&queue->lock);
    while ((queue->n || queue->is_serving) &&
           cohort_condition_wait(&queue->changed, &queue->lock, deadline_ns))
        ;
    bool is_idle = !queue->n && !queue->is_serving;
    pthread_mutex_unlock(&queue->lock);
    return is_idle;
}

void cohort_request_queue_close(cohort_request_queue *queue) {
    if (!queue) return;
    pthread_mutex_lock(&queue->lock);
    queue->is_closed = true;
    size_t n = queue->n; /* nobody else looks at the list from here on */
    queue->n = 0;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
    for (size_t i = 0; i < n; i++)
        queue->refuse(queue->user_data, queue->waiting[i]);
}

void cohort_request_queue_stop(cohort_request_queue *queue) {
    if (!queue) return;
    cohort_request_queue_close(queue);
    atomic_store(&queue->gives_up, true);
    if (queue->has_thread) pthread_join(queue->thread, NULL);
    queue->has_thread = false;
}

void cohort_request_queue_destroy(cohort_request_queue *queue) {
    if (!queue) return;
    cohort_request_queue_stop(queue);
    pthread_cond_destroy(&queue->changed);
    pthread_mutex_destroy(&queue->lock);
    free(queue);
}
