/* SPDX-License-Identifier: Apache-2.0 */
#include "grammar/grammar_internal.h"

static atomic_size_t held_bytes;

void cohort_grammar_hold(int64_t bytes) {
    atomic_fetch_add_explicit(&held_bytes, (size_t)bytes, memory_order_relaxed);
}

size_t cohort_grammar_held_bytes(void) {
    return atomic_load_explicit(&held_bytes, memory_order_relaxed);
}
