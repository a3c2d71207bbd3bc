/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "floor.h"

void *floor_share(size_t size) {
    void *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) exit(1);
    return memory;
}

static uint32_t turn_of(floor_mailbox *box) {
    return atomic_load_explicit(&box->turn, memory_order_acquire);
}

uint32_t floor_mailbox_await_other(floor_mailbox *box, uint32_t turn) {
    cohort_wait wait = cohort_wait_begin(COHORT_WAIT_SPIN_NS);
    uint32_t found;
    while ((found = turn_of(box)) == turn) {
        if (cohort_wait_spin(&wait)) continue;
        uint32_t ticket = cohort_event_prepare(&box->event);
        if (turn_of(box) != turn)
            cohort_event_leave(&box->event);
        else
            cohort_event_sleep(&box->event, ticket, 50000000);
    }
    return found;
}

void floor_mailbox_await(floor_mailbox *box, uint32_t turn) {
    for (uint32_t found = turn_of(box); found != turn;)
        found = floor_mailbox_await_other(box, found);
}

void floor_mailbox_await_flag(floor_mailbox *box, uint32_t turn) {
    cohort_wait wait = cohort_wait_begin(COHORT_WAIT_SPIN_NS);
    while (atomic_load_explicit(&box->turn, memory_order_acquire) != turn)
        if (!cohort_wait_spin(&wait)) wait = cohort_wait_begin(COHORT_WAIT_SPIN_NS);
}

void floor_mailbox_post(floor_mailbox *box, uint32_t turn, const void *bytes, size_t size,
                        bool wake) {
    memcpy(box->payload, bytes, size);
    atomic_store_explicit(&box->turn, turn, memory_order_release);
    if (wake) cohort_event_signal(&box->event);
}
