/* SPDX-License-Identifier: Apache-2.0 */
#include "server/response_store.h"

#include <pthread.h>
#include <stdlib.h>

typedef struct entry {
    struct entry *newer, *older;
    char *id;
    cohort_body text, history;
    size_t status_at;
    bool is_running, is_cancelled;
    void (*cancel)(void *user_data); /* NULL: was called, or it is whole */
    void *user_data;
} entry;

struct cohort_response_store {
    pthread_mutex_t lock;
    size_t most, most_bytes;
    entry *newest, *oldest;
    cohort_response_store_stats stats;
};

static size_t bytes_of(const entry *at) {
    return sizeof *at + strlen(at->id) + 1 + at->text.capacity + at->history.capacity;
}

static entry *find(const cohort_response_store *store, const char *id) {
    entry *at = store->newest;
    while (at && strcmp(at->id, id) != 0)
        at = at->older;
    return at;
}

static void attach(cohort_response_store *store, entry *at) {
    at->older = store->newest;
    at->newer = NULL;
    *(at->older ? &at->older->newer : &store->oldest) = at;
    store->newest = at;
    store->stats.n_kept++;
    store->stats.n_running += at->is_running;
    store->stats.kept_bytes += bytes_of(at);
}

static void detach(cohort_response_store *store, entry *at) {
    *(at->newer ? &at->newer->older : &store->newest) = at->older;
    *(at->older ? &at->older->newer : &store->oldest) = at->newer;
    store->stats.n_kept--;
    store->stats.n_running -= at->is_running;
    store->stats.kept_bytes -= bytes_of(at);
}

static void free_entry(entry *at) {
    if (!at) return;
    cohort_body_deinit(&at->text);
    cohort_body_deinit(&at->history);
    free(at->id);
    free(at);
}

static bool is_over(const cohort_response_store *store) {
    return store->stats.n_kept > store->most ||
           store->stats.kept_bytes > store->most_bytes;
}

/* The oldest that are whole go, as many as must. */
static void evict(cohort_response_store *store) {
    for (entry *at = store->oldest, *newer; at && is_over(store); at = newer) {
        newer = at->newer;
        if (at->is_running) continue;
        detach(store, at);
        free_entry(at);
        store->stats.n_evicted++;
    }
}

/* NULL: short memory. */
static entry *create_entry(const char *id) {
    entry *at = calloc(1, sizeof *at);
    if (at) at->id = strdup(id);
    if (at && at->id) return at;
    free_entry(at);
    return NULL;
}

/* False: short memory. */
static bool copy(cohort_body *to, const cohort_body *from) {
    cohort_body_deinit(to);
    if (from && from->size) cohort_body_add(to, from->bytes, from->size);
    to->is_short |= from && from->is_short;
    return !to->is_short;
}

cohort_status cohort_response_store_create(size_t most, size_t most_bytes,
                                           cohort_response_store **out_store) {
    cohort_response_store *store = *out_store = calloc(1, sizeof *store);
    if (!store) return COHORT_FAIL(COHORT_E_NOMEM, "a store of responses");
    store->most = most;
    store->most_bytes = most_bytes;
    pthread_mutex_init(&store->lock, NULL);
    return COHORT_OK;
}

void cohort_response_store_destroy(cohort_response_store *store) {
    if (!store) return;
    while (store->newest) {
        entry *at = store->newest;
        detach(store, at);
        free_entry(at);
    }
    pthread_mutex_destroy(&store->lock);
    free(store);
}

bool cohort_response_store_begin(cohort_response_store *store, const char *id,
                                 const cohort_body *text, size_t status_at,
                                 void (*cancel)(void *user_data), void *user_data) {
    entry *at = create_entry(id);
    if (!at || !copy(&at->text, text)) {
        free_entry(at);
        return false;
    }
    at->status_at = status_at;
    at->is_running = true;
    at->cancel = cancel;
    at->user_data = user_data;
    pthread_mutex_lock(&store->lock);
    bool is_taken = find(store, id) != NULL;
    if (!is_taken) {
        attach(store, at);
        evict(store);
        is_taken = is_over(store); /* with what is being made alone */
        if (is_taken) detach(store, at);
    }
    pthread_mutex_unlock(&store->lock);
    if (is_taken) free_entry(at);
    return !is_taken;
}

void cohort_response_store_put(cohort_response_store *store, const char *id,
                               const cohort_body *text, const cohort_body *history,
                               const void *maker) {
    pthread_mutex_lock(&store->lock);
    entry *at = find(store, id);
    bool is_taken = at && !(at->is_running && at->user_data == maker);
    if (at && !is_taken) detach(store, at);
    if (!at) at = create_entry(id);
    if (at && !is_taken) {
        at->is_running = false;
        at->cancel = NULL;
        bool fine =
            at->is_cancelled || (copy(&at->text, text) && copy(&at->history, history));
        if (fine) attach(store, at);
        if (!fine) free_entry(at);
        evict(store);
    }
    pthread_mutex_unlock(&store->lock);
}

void cohort_response_store_drop(cohort_response_store *store, const char *id) {
    pthread_mutex_lock(&store->lock);
    entry *at = find(store, id);
    if (at) detach(store, at);
    pthread_mutex_unlock(&store->lock);
    free_entry(at);
}

size_t cohort_response_store_history_size(cohort_response_store *store, const char *id) {
    pthread_mutex_lock(&store->lock);
    const entry *at = find(store, id);
    size_t size = at ? at->history.size : 0;
    pthread_mutex_unlock(&store->lock);
    return size;
}

bool cohort_response_store_get(cohort_response_store *store, const char *id,
                               cohort_body *out_text, cohort_body *out_history) {
    pthread_mutex_lock(&store->lock);
    const entry *at = find(store, id);
    if (at && out_text) cohort_body_add(out_text, at->text.bytes, at->text.size);
    if (at && out_history)
        cohort_body_add(out_history, at->history.bytes, at->history.size);
    pthread_mutex_unlock(&store->lock);
    return at != NULL;
}

/* "queued" becomes "cancelled" in its text. */
static void mark_cancelled(cohort_response_store *store, entry *at) {
    const size_t old_size = strlen("\"queued\"");
    cohort_body text = {0};
    cohort_body_add(&text, at->text.bytes, at->status_at);
    cohort_body_puts(&text, "\"cancelled\"");
    cohort_body_add(&text, at->text.bytes + at->status_at + old_size,
                    at->text.size - at->status_at - old_size);
    at->is_cancelled = true;
    if (text.is_short) {
        cohort_body_deinit(&text);
        return;
    }
    store->stats.kept_bytes += text.capacity - at->text.capacity;
    cohort_body_deinit(&at->text);
    at->text = text;
}

cohort_response_cancelled cohort_response_store_cancel(cohort_response_store *store,
                                                       const char *id,
                                                       cohort_body *out_text) {
    cohort_response_cancelled found = COHORT_RESPONSE_CANCELLED;
    pthread_mutex_lock(&store->lock);
    entry *at = find(store, id);
    if (!at) {
        found = COHORT_RESPONSE_UNKNOWN;
    } else if (!at->cancel) {
        found = COHORT_RESPONSE_IS_WHOLE;
    } else {
        at->cancel(at->user_data);
        at->cancel = NULL;
        mark_cancelled(store, at);
        cohort_body_add(out_text, at->text.bytes, at->text.size);
    }
    pthread_mutex_unlock(&store->lock);
    return found;
}

cohort_response_store_stats cohort_response_store_look(cohort_response_store *store) {
    pthread_mutex_lock(&store->lock);
    cohort_response_store_stats stats = store->stats;
    pthread_mutex_unlock(&store->lock);
    return stats;
}
