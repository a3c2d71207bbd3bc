/* SPDX-License-Identifier: Apache-2.0 */
/* bench/floor.h - the least that the same work can cost: bare memory, a bare socket.
 *
 * They wait with base/wait.h, as ours does, are pinned alike and copy payloads alike;
 * they know nothing of deadlines, death or a third reader.
 */
#ifndef COHORT_BENCH_FLOOR_H
#define COHORT_BENCH_FLOOR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/wait.h"

enum { FLOOR_MAX_PAYLOAD = 8192, FLOOR_MAX_FLOATS = 16384 };

/* Zeroed memory that children share. */
void *floor_share(size_t size);

/* A word that one side sets and the other waits for, and the payload that it covers. */
typedef struct floor_mailbox {
    _Alignas(128) _Atomic uint32_t turn;
    _Alignas(128) cohort_event event;
    _Alignas(128) uint8_t payload[FLOOR_MAX_PAYLOAD];
} floor_mailbox;

/* The bare yield-then-futex loop. */
void floor_mailbox_await(floor_mailbox *box, uint32_t turn);
/* Any other turn than this one, which is returned. */
uint32_t floor_mailbox_await_other(floor_mailbox *box, uint32_t turn);
/* A flag without futex: an awake reader. */
void floor_mailbox_await_flag(floor_mailbox *box, uint32_t turn);
/* wake: also him who sleeps in await. */
void floor_mailbox_post(floor_mailbox *box, uint32_t turn, const void *bytes, size_t size,
                        bool wake);

/* One of the two ends of a TCP connection over loopback; the first tells the other
 * through control_fd where it listens. */
int floor_socket_open(bool first, int control_fd);
void floor_socket_send(int fd, const uint8_t *bytes, size_t size);
void floor_socket_receive(int fd, uint8_t *bytes, size_t size);

/* One-shot all-reduce of two: copy to one's own slot of two, a flag, add the peer's. */
typedef struct floor_side {
    _Alignas(128) _Atomic uint32_t posted;
    _Alignas(128) float slots[2][FLOOR_MAX_FLOATS];
} floor_side;

/* step: from 0, one more at each call. */
void floor_all_reduce(floor_side sides[2], int rank, uint32_t step, float *data,
                      size_t count);

#endif /* COHORT_BENCH_FLOOR_H */
