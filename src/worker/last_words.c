/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/last_words.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cohort/clock.h"
#include "wire/frame.h"

/* Design notes.
 *
 * A handler may call little: stores, send(2), and backtrace(), which is safe once it has
 * loaded its library (install calls it for that).  Frames are offsets in our own module,
 * which is the driver's build too, so addr2line finds them on any host; the way there
 * through others' code is left out.
 *
 * A frame that another thread is just sending over the link may be cut by ours: then the
 * driver sees a broken link, which is what it would have seen anyway. */

enum { STACK_BYTES = 64 * 1024, MAX_FRAMES = 48 };

static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};

enum { N_SIGNALS = sizeof signals / sizeof *signals };

static struct sigaction before[N_SIGNALS], before_asked;
static char stack[STACK_BYTES];
static cohort_counters_row *_Atomic own_row; /* NULL: not installed */
static bool awaits_exit;                     /* on_exit cannot be taken back */
static int32_t own_rank;
static pid_t own_pid; /* a forked child has our handlers, too */
static stack_t stack_before;
static uintptr_t module_base, module_end; /* others' may lie right behind it */
static int link_fd = -1;

/* A frame as link.c sends it, ready but for the row. */
static struct {
    uint32_t size_bytes;
    uint8_t header[COHORT_FRAME_HEADER_BYTES];
    cohort_frame_row body;
} __attribute__((packed)) message;

static bool is_ours(const void *frame) {
    uintptr_t at = (uintptr_t)frame;
    return at >= module_base && at < module_end;
}

/* The first of ours are the handler's, up to the C library's return from it. */
static void note_frames(cohort_counters_row *row) {
    void *frames[MAX_FRAMES];
    int n = backtrace(frames, MAX_FRAMES), first = 0;
    int32_t kept = 0;
    while (first < n && is_ours(frames[first]))
        first++;
    for (int i = first < n ? first : 0; i < n && kept < COHORT_CRASH_FRAMES; i++)
        if (is_ours(frames[i]))
            row->crash_frames[kept++] = (uintptr_t)frames[i] - module_base;
    if (kept < COHORT_CRASH_FRAMES) row->crash_frames[kept] = 0;
}

static void send_row(const cohort_counters_row *row) {
    if (link_fd < 0) return;
    message.body.sent_ns = cohort_clock_ns();
    memcpy(&message.body.row, row, sizeof message.body.row);
    ssize_t ignored =
        send(link_fd, &message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)ignored;
}

static void on_crash(int number) {
    cohort_counters_row *row = own_row;
    if (row && own_pid == getpid() && !row->crash_signal) {
        note_frames(row);
        /* Release: the driver that sees the signal sees the frames. */
        atomic_store_explicit(&row->crash_signal, number, memory_order_release);
        send_row(row);
    }
    for (int i = 0; i < N_SIGNALS; i++)
        if (signals[i] == number) sigaction(number, &before[i], NULL);
    raise(number); /* blocked until we return */
}

/* The driver asks this thread where it is. */
static void on_asked(int number) {
    cohort_counters_row *row = own_row;
    int before_errno = errno;
    (void)number;
    if (row && own_pid == getpid() && !row->crash_signal) {
        /* Acquire: not after; who reads another one's frames is to notice. */
        atomic_exchange_explicit(&row->stack_thread, 0, memory_order_acquire);
        note_frames(row);
        /* Release: the driver that sees the thread sees the frames. */
        atomic_store_explicit(&row->stack_thread, (int32_t)gettid(),
                              memory_order_release);
    }
    errno = before_errno;
}

/* A library that gives up calls exit() behind everybody's back. */
static void on_exit_called(int status, void *unused) {
    cohort_counters_row *row = own_row;
    (void)unused;
    if (!row || own_pid != getpid()) return;
    atomic_store_explicit(&row->exited, 1U + (uint8_t)status, memory_order_release);
    send_row(row);
}

static const void *address_of_ours(void) {
    union {
        void (*function)(int);
        const void *address;
    } here = {.function = on_crash};
    return here.address;
}

static int find_end(struct dl_phdr_info *module, size_t size, void *unused) {
    uintptr_t here = (uintptr_t)address_of_ours(), end = 0;
    bool is_own = false;
    (void)size;
    (void)unused;
    for (int i = 0; i < module->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &module->dlpi_phdr[i];
        uintptr_t first = module->dlpi_addr + part->p_vaddr;
        if (part->p_type != PT_LOAD) continue;
        is_own |= here >= first && here - first < part->p_memsz;
        if (first + part->p_memsz > end) end = first + part->p_memsz;
    }
    if (is_own) module_end = end;
    return is_own;
}

static void find_module(void) {
    Dl_info self;
    module_base = dladdr(address_of_ours(), &self) ? (uintptr_t)self.dli_fbase : 0;
    module_end = module_base;
    dl_iterate_phdr(find_end, NULL);
}

static void encode_prefix(int32_t rank, uint64_t epoch) {
    cohort_frame frame = {.kind = COHORT_FRAME_ROW,
                          .rank = rank,
                          .epoch = epoch,
                          .body_bytes = sizeof message.body};
    own_rank = rank;
    cohort_frame_encode_prefix(&frame, message.header);
}

void cohort_last_words_epoch(uint64_t epoch) { encode_prefix(own_rank, epoch); }

void cohort_last_words_install(cohort_counters_row *row, int fd, int32_t rank,
                               uint64_t epoch) {
    void *frames[MAX_FRAMES];
    stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_ONSTACK};
    backtrace(frames, MAX_FRAMES);
    own_row = row;
    own_pid = getpid();
    link_fd = fd;
    find_module();
    message.size_bytes = sizeof message - sizeof message.size_bytes;
    encode_prefix(rank, epoch);
    sigaltstack(&own, &stack_before);
    for (int i = 0; i < N_SIGNALS; i++)
        sigaction(signals[i], &action, &before[i]);
    action =
        (struct sigaction){.sa_handler = on_asked, .sa_flags = SA_ONSTACK | SA_RESTART};
    sigaction(SIGURG, &action, &before_asked);
    if (!awaits_exit) awaits_exit = !on_exit(on_exit_called, NULL);
}

void cohort_last_words_uninstall(void) {
    if (!own_row) return;
    for (int i = 0; i < N_SIGNALS; i++)
        sigaction(signals[i], &before[i], NULL);
    sigaction(SIGURG, &before_asked, NULL);
    sigaltstack(&stack_before, NULL);
    own_row = NULL;
    link_fd = -1;
}
