/* SPDX-License-Identifier: Apache-2.0 */
/* The queue by itself: one writer, two reading processes, messages in shared memory.
 *
 *   cc broadcast.c $(pkg-config --cflags --libs cohort) -o broadcast && ./broadcast */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cohort/clock.h>
#include <cohort/queue.h>

enum { N_READERS = 2, N_MESSAGES = 1000 };

static int fail(void) {
    fprintf(stderr, "%s\n", cohort_last_error()->message);
    return 1;
}

/* Counts messages until the writer closes. */
static int read_all(const cohort_queue_handle *handle, int reader) {
    cohort_queue *queue = NULL;
    const void *payload;
    size_t size_bytes;
    int n = 0;
    if (cohort_queue_attach(handle, reader, &queue) < 0 ||
        cohort_queue_wait_ready(queue, cohort_deadline_ms(10000)) < 0)
        return fail();
    while (!cohort_queue_read_begin(queue, cohort_deadline_ms(10000), &payload,
                                    &size_bytes)) {
        n++;
        cohort_queue_read_end(queue);
    }
    printf("reader %d: %d messages over %s\n", reader, n,
           cohort_queue_transport(queue, reader));
    fflush(stdout);
    cohort_queue_close(queue);
    return n != N_MESSAGES;
}

int main(void) {
    cohort_queue_options options = {.reader_count = N_READERS,
                                    .local_reader_count = N_READERS,
                                    .chunk_bytes = 4096,
                                    .chunk_count = 16,
                                    .spin_ns = -1};
    cohort_queue *queue = NULL;
    cohort_queue_handle handle;
    if (cohort_queue_create(&options, &queue) < 0 ||
        cohort_queue_export(queue, &handle) < 0)
        return fail();
    for (int i = 0; i < N_READERS; i++) {
        pid_t pid = fork();
        if (!pid) _exit(read_all(&handle, i));
    }
    cohort_status status = cohort_queue_wait_ready(queue, cohort_deadline_ms(10000));
    for (int i = 0; status >= 0 && i < N_MESSAGES; i++)
        status = cohort_queue_write(queue, &i, sizeof i, cohort_deadline_ms(10000));
    int result = status < 0 ? fail() : 0;
    cohort_queue_close(queue);
    for (int i = 0, ended; i < N_READERS; i++)
        result |= wait(&ended) < 0 || ended;
    return result;
}
