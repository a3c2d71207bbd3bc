/* SPDX-License-Identifier: Apache-2.0 */
/* What a queue owes whatever the transport: no trace left, no stranger let in, and
 * failures that say what is wrong.  Named after the requirements they keep. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "link/link_internal.h"
#include "queue/queue_internal.h"
#include "queue_table.h"

static const transport SHM = {"shm", NULL, 2, 2, true};
static const transport TCP = {"tcp", "127.0.0.1", 2, 0, true};
static const transport MIXED = {"mixed", "127.0.0.1", 2, 1, true};
static const transport THREADS = {"threads", "127.0.0.1", 2, 1, false};

static int count_entries(const char *folder) {
    DIR *dir = opendir(folder);
    if (!dir) return -1;
    int count = 0;
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static cohort_ticket ticket_of(const cohort_queue_handle *handle) {
    cohort_ticket ticket;
    memcpy(&ticket, handle->bytes, sizeof ticket);
    return ticket;
}

static cohort_address address_of(const cohort_queue_handle *handle) {
    cohort_ticket ticket = ticket_of(handle);
    cohort_address address;
    assert_int_equal(cohort_address_read(&ticket.address, &address), COHORT_OK);
    return address;
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* The writer's process: from the first write on the kernel kills it for any system call
 * but read, write and exit. */
static void write_without_system_calls(int fd, int32_t count) {
    cohort_queue *writer = NULL;
    cohort_queue_handle handle;
    cohort_queue_options options = {.reader_count = 1,
                                    .local_reader_count = 1,
                                    .chunk_bytes = 1024,
                                    .chunk_count = 512,
                                    .spin_ns = INT64_C(60000000000)};
    uint8_t bytes[1000] = {0};
    char go;
    if (cohort_queue_create(&options, &writer) < 0 ||
        cohort_queue_export(writer, &handle) < 0 ||
        write(fd, &handle, sizeof handle) != (ssize_t)sizeof handle ||
        cohort_queue_wait_ready(writer, patience()) < 0 || read(fd, &go, 1) != 1 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
        _exit(1);
    for (int32_t i = 0; i < count; i++) {
        memcpy(bytes, &i, sizeof i);
        if (cohort_queue_write(writer, bytes, sizeof bytes, COHORT_NEVER) < 0)
            syscall(SYS_exit, 2);
    }
    syscall(SYS_exit, 0);
}

static void r28_writer_makes_no_system_call_while_readers_are_awake(void **state) {
    (void)state;
    enum { COUNT = 400 };
    int fds[2];
    cohort_queue_handle handle;
    cohort_queue *reader = NULL;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    pid_t pid = fork();
    if (pid == 0) write_without_system_calls(fds[1], COUNT);
    assert_true(pid > 0);
    close(fds[1]);
    assert_int_equal(recv(fds[0], &handle, sizeof handle, MSG_WAITALL), sizeof handle);
    assert_int_equal(cohort_queue_attach(&handle, 0, &reader), COHORT_OK);
    assert_int_equal(cohort_queue_wait_ready(reader, patience()), COHORT_OK);
    assert_int_equal(write(fds[0], "g", 1), 1);
    for (int32_t i = 0; i < COUNT; i++) {
        const void *payload;
        size_t size_bytes;
        assert_int_equal(
            cohort_queue_read_begin(reader, patience(), &payload, &size_bytes),
            COHORT_OK);
        assert_memory_equal(payload, &i, sizeof i);
        cohort_queue_read_end(reader);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    cohort_queue_close(reader);
    close(fds[0]);
}
#endif

static void r34_ring_memory_is_reserved_when_it_is_made(void **state) {
    (void)state;
    cohort_shm *shm = NULL;
    struct stat about;
    size_t size_bytes = 3u << 20;
    assert_int_equal(cohort_shm_create(77, size_bytes, &shm), COHORT_OK);
    assert_int_equal(fstat(cohort_shm_fd(shm), &about), 0);
    assert_true((size_t)about.st_blocks * 512 >= size_bytes);
    /* Nor can anybody take it away: an access never faults. */
    assert_int_equal(ftruncate(cohort_shm_fd(shm), 4096), -1);
    cohort_shm_release(shm);
}

static void r34_shape_that_cannot_be_is_refused_by_its_number(void **state) {
    (void)state;
    cohort_queue *queue = NULL;
    cohort_queue_options options = {.reader_count = 1,
                                    .local_reader_count = 1,
                                    .chunk_bytes = 1000,
                                    .chunk_count = 4};
    assert_int_equal(cohort_queue_create(&options, &queue), COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "1000"));
    options.chunk_bytes = 1 << 30;
    options.chunk_count = 65536;
    assert_int_equal(cohort_queue_create(&options, &queue), COHORT_E_INVALID);
    options.chunk_bytes = 1024;
    options.chunk_count = 0;
    assert_int_equal(cohort_queue_create(&options, &queue), COHORT_E_INVALID);
    options.chunk_count = 4;
    options.max_message_bytes = 10;
    assert_int_equal(cohort_queue_create(&options, &queue), COHORT_E_INVALID);
    options.max_message_bytes = 0;
    options.reader_count = 0;
    assert_int_equal(cohort_queue_create(&options, &queue), COHORT_E_INVALID);
    options.reader_count = 2; /* one is remote, but where to listen? */
    assert_int_equal(cohort_queue_create(&options, &queue), COHORT_E_INVALID);
    assert_non_null(strstr(cohort_last_error()->message, "listen_host"));
    assert_null(queue);
}

/* Full lives, orderly and not, over every transport: no name, no descriptor stays. */
static void r35_nothing_is_left_behind(void **state) {
    (void)state;
    const transport *all[] = {&SHM, &TCP, &MIXED, &THREADS};
    int shm_before = count_entries("/dev/shm");
    int fds_before = count_entries("/proc/self/fd");
    for (int kill_one = 0; kill_one < 2; kill_one++) {
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
            table at;
            if (kill_one && !all[i]->processes) continue;
            table_set(&at, all[i], 4096, 4, 65536);
            assert_int_equal(table_write(&at, 0, 9999, patience()), COHORT_OK);
            if (kill_one) agent_kill(&at.readers[0]);
            table_clear(&at);
        }
        table never_met;
        table_create(&never_met, &MIXED, 4096, 4, 0);
        cohort_queue_close(never_met.writer);
    }
    assert_int_equal(count_entries("/dev/shm"), shm_before);
    assert_int_equal(count_entries("/proc/self/fd"), fds_before);
}

static void r36_failure_to_attach_is_loud(void **state) {
    (void)state;
    const transport *all[] = {&SHM, &TCP};
    for (size_t i = 0; i < 2; i++) {
        table at;
        cohort_queue *reader = NULL;
        table_create(&at, all[i], 4096, 4, 0);
        assert_int_equal(cohort_queue_attach(&at.handle, 2, &reader), COHORT_E_INVALID);
        assert_int_equal(cohort_queue_attach(&at.handle, -1, &reader), COHORT_E_INVALID);
        cohort_queue_handle other = at.handle;
        other.bytes[4] ^= 1; /* another version */
        assert_int_equal(cohort_queue_attach(&other, 0, &reader), COHORT_E_PROTOCOL);
        memset(&other, 0xab, sizeof other);
        assert_int_equal(cohort_queue_attach(&other, 0, &reader), COHORT_E_PROTOCOL);
        assert_null(reader);
        cohort_queue_close(at.writer); /* gone before the reader came */
        assert_int_equal(cohort_queue_attach(&at.handle, 0, &reader), COHORT_OK);
        const void *payload;
        size_t size_bytes;
        assert_int_equal(
            cohort_queue_read_begin(reader, patience(), &payload, &size_bytes),
            COHORT_E_INVALID);
        assert_int_equal(cohort_queue_wait_ready(reader, patience()), COHORT_E_IO);
        assert_non_null(strstr(cohort_last_error()->message, "queue 'suite'"));
        cohort_queue_close(reader);
    }
}

typedef struct host {
    cohort_queue *writer;
    cohort_status status;
} host;

static void *host_main(void *argument) {
    host *self = argument;
    self->status = cohort_queue_wait_ready(self->writer, patience());
    return NULL;
}

static void seat_agent(table *at, int32_t reader) {
    agent *self = &at->readers[reader];
    agent_start(self, true);
    agent_order attach = {.verb = AGENT_ATTACH, .count = reader, .handle = at->handle};
    assert_int_equal(agent_do(self, &attach).status, COHORT_OK);
    agent_tell(self, &(agent_order){.verb = AGENT_WAIT_READY,
                                    .count = reader,
                                    .timeout_ms = PATIENCE_MS});
}

/* Dies while the others are awaited; another process takes its seat. */
static void r38_reader_that_dies_before_ready_can_be_replaced(void **state) {
    (void)state;
    const transport *all[] = {&SHM, &TCP};
    for (size_t i = 0; i < 2; i++) {
        table at;
        table_create(&at, all[i], 4096, 4, 0);
        host self = {.writer = at.writer};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, host_main, &self), 0);
        seat_agent(&at, 0);
        struct timespec pause = {.tv_nsec = 30000000}; /* admitted or not: both must do */
        nanosleep(&pause, NULL);
        agent_kill(&at.readers[0]);
        seat_agent(&at, 1);
        nanosleep(&pause, NULL);
        seat_agent(&at, 0);
        pthread_join(thread, NULL);
        assert_int_equal(self.status, COHORT_OK);
        for (int32_t k = 0; k < 2; k++)
            assert_int_equal(agent_hear(&at.readers[k]).status, COHORT_OK);
        assert_int_equal(table_write(&at, 3, 9, patience()), COHORT_OK);
        for (int32_t k = 0; k < 2; k++)
            table_take(&at, k, 1, 3);
        table_clear(&at);
    }
}

static void r40_only_the_given_address_is_bound(void **state) {
    (void)state;
    table at;
    table_create(&at, &TCP, 4096, 4, 0);
    cohort_address address = address_of(&at.handle);
    assert_int_equal(address.tcp_family, AF_INET);
    assert_memory_equal(address.tcp_addr, ((uint8_t[]){127, 0, 0, 1}), 4);
    assert_true(address.tcp_port >= 1024);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(address.tcp_port)};
    inet_pton(AF_INET, "127.0.0.2", &to.sin_addr); /* also this host's, but not given */
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(fd);
    table_clear(&(table){.over = &(transport){.readers = 0}, .writer = at.writer});
    cohort_queue *queue = NULL;
    cohort_queue_options foreign = {.reader_count = 1,
                                    .chunk_bytes = 4096,
                                    .chunk_count = 4,
                                    .listen_host = "203.0.113.9"};
    assert_true(cohort_queue_create(&foreign, &queue) < 0);
    assert_non_null(strstr(cohort_last_error()->message, "203.0.113.9"));
}

static void r41_ipv6_address_travels_in_the_handle(void **state) {
    (void)state;
    static const transport v6 = {"tcp v6", "::1", 1, 0, true};
    cohort_listener *probe = NULL;
    if (cohort_listener_open("::1", &probe) < 0) skip(); /* a host without IPv6 */
    cohort_listener_close(probe);
    table at;
    char text[64];
    table_create(&at, &v6, 4096, 4, 0);
    cohort_ticket ticket = ticket_of(&at.handle);
    cohort_link_describe(&ticket.address, text, sizeof text);
    assert_int_equal(strncmp(text, "[::1]:", 6), 0);
    table_seat(&at);
    assert_int_equal(table_write(&at, 1, 4096, patience()), COHORT_OK);
    table_take(&at, 0, 1, 1);
    table_clear(&at);
}

static int dial(const cohort_address *address) {
    struct sockaddr_storage to;
    socklen_t length = cohort_address_tcp(address, &to);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, length), 0);
    return fd;
}

/* All that comes until the end of the stream. */
static size_t hear_out(int fd, void *bytes, size_t capacity) {
    size_t got = 0;
    ssize_t n;
    struct pollfd in = {.fd = fd, .events = POLLIN};
    while (got < capacity && poll(&in, 1, PATIENCE_MS) == 1 &&
           (n = recv(fd, (uint8_t *)bytes + got, capacity - got, 0)) > 0)
        got += (size_t)n;
    return got;
}

/* The claim of a process that knows the secret but was built from other sources. */
static cohort_claim foreign_claim(const cohort_address *address, uint64_t id,
                                  const cohort_challenge *challenge) {
    cohort_claim claim;
    cohort_link_hello hello = {.purpose = COHORT_LINK_QUEUE, .detail = id};
    assert_int_equal(cohort_claim_make(address->secret, challenge, &hello, &claim),
                     COHORT_OK);
    claim.build[0] = claim.build[0] == 'a' ? 'b' : 'a';
    crypto_auth_hmacsha512256_state mac;
    crypto_auth_hmacsha512256_init(&mac, address->secret, COHORT_SECRET_BYTES);
    crypto_auth_hmacsha512256_update(&mac, (const uint8_t *)"clai", 4);
    crypto_auth_hmacsha512256_update(&mac, challenge->nonce, sizeof challenge->nonce);
    crypto_auth_hmacsha512256_update(&mac, claim.nonce, sizeof claim.nonce);
    crypto_auth_hmacsha512256_update(&mac, (const uint8_t *)&claim.hello,
                                     sizeof claim.hello);
    crypto_auth_hmacsha512256_update(&mac, (const uint8_t *)claim.build,
                                     sizeof claim.build);
    crypto_auth_hmacsha512256_final(&mac, claim.mac);
    return claim;
}

static void expect_nothing_for_strangers(const cohort_address *address, uint64_t id) {
    uint8_t bytes[4096];
    int fd = dial(address);
    assert_int_equal(send(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, MSG_NOSIGNAL), 27);
    memset(bytes, 'x', sizeof bytes);
    send(fd, bytes, sizeof bytes, MSG_NOSIGNAL);
    /* The challenge, the same for everybody, and not one byte more. */
    assert_int_equal(hear_out(fd, bytes, sizeof bytes), sizeof(cohort_challenge));
    close(fd);
    fd = dial(address);
    cohort_challenge challenge;
    cohort_verdict verdict;
    assert_int_equal(hear_out(fd, &challenge, sizeof challenge), sizeof challenge);
    cohort_claim claim = foreign_claim(address, id, &challenge);
    assert_int_equal(send(fd, &claim, sizeof claim, MSG_NOSIGNAL), sizeof claim);
    assert_int_equal(hear_out(fd, &verdict, sizeof verdict), sizeof verdict);
    assert_int_equal(verdict.status, COHORT_VERDICT_OTHER_BUILD);
    assert_int_equal(hear_out(fd, bytes, sizeof bytes), 0); /* and the door is shut */
    close(fd);
}

/* While the writer waits: strangers, a wrong secret, another build, a seat that does not
 * exist.  Then the right readers come and all is well. */
static void r43_strangers_are_refused_and_readers_served(void **state) {
    (void)state;
    for (int over_tcp = 0; over_tcp < 2; over_tcp++) {
        table at;
        const transport *over = over_tcp ? &TCP : &MIXED;
        table_create(&at, over, 4096, 4, 0);
        host self = {.writer = at.writer};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, host_main, &self), 0);
        cohort_address address = address_of(&at.handle);
        expect_nothing_for_strangers(&address, ticket_of(&at.handle).id);

        cohort_queue *reader = NULL;
        cohort_queue_handle handle = at.handle;
        handle.bytes[offsetof(cohort_ticket, address) + offsetof(cohort_address, secret) +
                     3] ^= 1;
        assert_int_equal(cohort_queue_attach(&handle, 0, &reader), COHORT_OK);
        assert_true(cohort_queue_wait_ready(reader, patience()) < 0);
        cohort_queue_close(reader);

        cohort_link_hello hello = {
            .purpose = COHORT_LINK_QUEUE, .rank = 9, .detail = ticket_of(&at.handle).id};
        cohort_ticket ticket = ticket_of(&at.handle);
        cohort_link *link = NULL;
        assert_int_equal(
            cohort_link_connect(&ticket.address, true, &hello, patience(), -1, &link),
            COHORT_OK);
        uint8_t byte;
        assert_int_equal(cohort_link_recv(link, &byte, 1, patience()),
                         COHORT_E_PEER_DIED);
        cohort_link_close(link);

        table seated = at; /* the writer already waits, in its thread */
        for (int32_t i = 0; i < over->readers; i++)
            seat_agent(&seated, i);
        pthread_join(thread, NULL);
        assert_int_equal(self.status, COHORT_OK);
        for (int32_t i = 0; i < over->readers; i++)
            assert_int_equal(agent_hear(&seated.readers[i]).status, COHORT_OK);
        assert_int_equal(table_write(&seated, 4, 100, patience()), COHORT_OK);
        for (int32_t i = 0; i < over->readers; i++)
            table_take(&seated, i, 1, 4);
        /* Nobody can come any more. */
        assert_int_equal(
            cohort_link_connect(&ticket.address, true, &hello, patience(), -1, &link),
            COHORT_E_IO);
        table_clear(&seated);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(r28_writer_makes_no_system_call_while_readers_are_awake),
#endif
        cmocka_unit_test(r34_ring_memory_is_reserved_when_it_is_made),
        cmocka_unit_test(r34_shape_that_cannot_be_is_refused_by_its_number),
        cmocka_unit_test(r35_nothing_is_left_behind),
        cmocka_unit_test(r36_failure_to_attach_is_loud),
        cmocka_unit_test(r38_reader_that_dies_before_ready_can_be_replaced),
        cmocka_unit_test(r40_only_the_given_address_is_bound),
        cmocka_unit_test(r41_ipv6_address_travels_in_the_handle),
        cmocka_unit_test(r43_strangers_are_refused_and_readers_served),
    };
    int exit_code;
    if (agent_main(argc, argv, &exit_code)) return exit_code;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
