/* SPDX-License-Identifier: Apache-2.0 */
/* Thread sanitizer sees no race in the ring, and would see one: this program runs itself
 * under it with the ring's own moves (silent) and with each of the orders A to D taken
 * away (reported; the letters are ring.c's).  All as threads over one mapping, because
 * the sanitizer sees nothing across two.  It knows no fences: E and F are
 * models/ring.pml's. The release build makes this one program with the sanitizer, so that
 * it runs in every gate. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "queue/ring.h"

#if defined(__SANITIZE_THREAD__)
enum { HAS_SANITIZER = 1 };
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
enum { HAS_SANITIZER = 1 };
#else
enum { HAS_SANITIZER = 0 };
#endif
#else
enum { HAS_SANITIZER = 0 };
#endif

enum { MESSAGES = 2000, RACE_EXIT = 66 };

static const cohort_ring_shape SHAPE = {
    .chunk_bytes = 64, .chunk_count = 4, .reader_count = 1};

typedef struct pair {
    cohort_ring *ring;
    char without; /* the order that is taken away, or 0 */
} pair;

static void publish(const pair *both, uint64_t published) {
    if (both->without == 'A')
        atomic_store_explicit(&both->ring->published, published, memory_order_relaxed);
    else
        cohort_ring_publish(both->ring, published);
}

static cohort_status look(const pair *both, uint64_t consumed, uint64_t *out_published) {
    if (both->without != 'B')
        return cohort_ring_look(both->ring, &SHAPE, consumed, out_published);
    *out_published = atomic_load_explicit(&both->ring->published, memory_order_relaxed);
    return COHORT_OK;
}

static void consume(const pair *both, uint64_t consumed) {
    if (both->without == 'C')
        atomic_store_explicit(&both->ring->seats[0].consumed, consumed,
                              memory_order_relaxed);
    else
        cohort_ring_consume(both->ring, 0, consumed);
}

static cohort_status seat_look(const pair *both, uint64_t published, uint64_t *consumed) {
    if (both->without != 'D')
        return cohort_ring_seat_look(both->ring, 0, published, consumed);
    *consumed =
        atomic_load_explicit(&both->ring->seats[0].consumed, memory_order_relaxed);
    return COHORT_OK;
}

static void *write_all(void *argument) {
    const pair *both = argument;
    uint64_t consumed = 0;
    for (uint64_t next = 0; next < MESSAGES; next++) {
        while (next - consumed == SHAPE.chunk_count) {
            if (seat_look(both, next, &consumed) < 0) return NULL;
            sched_yield();
        }
        cohort_slot *slot = cohort_ring_slot(both->ring, &SHAPE, next);
        slot->size_bytes = 8;
        memcpy(slot + 1, &next, sizeof next);
        publish(both, next + 1);
    }
    return NULL;
}

static int read_all(const pair *both) {
    uint64_t seen = 0;
    for (uint64_t next = 0; next < MESSAGES; next++) {
        while (seen == next) {
            if (look(both, next, &seen) < 0) return 1;
            sched_yield();
        }
        uint64_t value;
        const cohort_slot *slot = cohort_ring_slot(both->ring, &SHAPE, next);
        memcpy(&value, slot + 1, sizeof value);
        if (slot->size_bytes != 8 || value != next) return 1;
        consume(both, next + 1);
    }
    return 0;
}

static int play(char without) {
    size_t bytes = cohort_ring_bytes(&SHAPE);
    pair both = {.ring = aligned_alloc(4096, bytes), .without = without};
    if (!both.ring) return 1;
    memset(both.ring, 0, bytes);
    cohort_ring_format(both.ring, &SHAPE, 1);
    pthread_t thread;
    if (pthread_create(&thread, NULL, write_all, &both)) return 1;
    int failed = read_all(&both);
    pthread_join(thread, NULL);
    free(both.ring);
    return failed;
}

/* The exit code of this program run with that word; its complaints in out_text. */
static int run_child(const char *word, char *out_text, size_t size) {
    int pipes[2];
    if (pipe(pipes)) return -1;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipes[1], STDERR_FILENO);
        close(pipes[0]);
        close(pipes[1]);
        setenv("TSAN_OPTIONS", "exitcode=66 halt_on_error=0", 1);
        execl("/proc/self/exe", "queue-race", word, (char *)NULL);
        _exit(127);
    }
    close(pipes[1]);
    size_t got = 0;
    char rest[4096];
    for (;;) {
        bool room = got + 1 < size;
        ssize_t n = read(pipes[0], room ? out_text + got : rest,
                         room ? size - 1 - got : sizeof rest);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        if (room) got += (size_t)n;
    }
    out_text[got] = '\0';
    close(pipes[0]);
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return -1;
    return WEXITSTATUS(status);
}

/* One run without that order; true where the sanitizer reports it. */
static bool is_reported(const char *order) {
    static char text[65536];
    int exit_code = run_child(order, text, sizeof text);
    bool reported = exit_code == RACE_EXIT &&
                    strstr(text, "WARNING: ThreadSanitizer: data race") != NULL;
    printf("without %s: %s (exit code %d)\n", order,
           reported ? "reported" : "NOT reported", exit_code);
    return reported;
}

int main(int argc, char **argv) {
    static char text[65536];
    if (argc == 2) return play(strcmp(argv[1], "clean") != 0 ? argv[1][0] : 0);
    if (!HAS_SANITIZER) {
        printf("not built with thread sanitizer: nothing to show\n");
        return 77;
    }
    int clean = run_child("clean", text, sizeof text);
    if (clean != 0) printf("the ring itself: exit code %d\n%s\n", clean, text);
    bool all = is_reported("A");
    all = is_reported("B") && all;
    all = is_reported("C") && all;
    all = is_reported("D") && all;
    return clean == 0 && all ? 0 : 1;
}
