/* SPDX-License-Identifier: Apache-2.0 */
/* jinja/arena.h - the memory of a template or a rendering, its limits, and its end.
 *
 * Everything lies in an arena that goes as a whole, and every error leaves through one
 * longjmp to compile or render: no function of this folder but those of jinja.h returns a
 * status, and none frees.
 */
#ifndef COHORT_JINJA_ARENA_H
#define COHORT_JINJA_ARENA_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fail.h"

enum { JINJA_MAX_STEPS = 20000000 }; /* of a rendering */

typedef struct jinja_chunk jinja_chunk;

typedef struct jinja_arena {
    jinja_chunk *chunks;
    size_t used, size;  /* of the newest chunk */
    size_t total, most; /* bytes of all */
    int line;           /* of the template, where we are: for messages */
    int64_t steps_left; /* of rendering */
    int depth;          /* of nested expressions, blocks and calls */
    int64_t now_s;
    jmp_buf escape;
    cohort_status status; /* why it was taken */
} jinja_arena;

void *cohort_jinja_alloc(jinja_arena *arena, size_t size); /* zeroed */
/* Room for one more item behind count; where the items are then. */
void *cohort_jinja_grow(jinja_arena *arena, void *items, size_t count, size_t *capacity,
                        size_t item_bytes);
_Noreturn void cohort_jinja_fail(jinja_arena *arena, const char *format, ...)
    COHORT_PRINTF(2, 3);
void cohort_jinja_arena_free(jinja_arena *arena);
/* Counts down; fails where there were too many steps. */
void cohort_jinja_step(jinja_arena *arena, int64_t n);
/* Steps for bytes that are looked at, where nothing that is made of them counts; one for
 * so many as take about as long as a step. */
static inline void cohort_jinja_look(jinja_arena *arena, size_t size_bytes) {
    cohort_jinja_step(arena, (int64_t)(size_bytes / 64));
}
/* ... character by character. */
static inline void cohort_jinja_look_chars(jinja_arena *arena, size_t size_bytes) {
    cohort_jinja_step(arena, (int64_t)(size_bytes / 8));
}
void cohort_jinja_enter(jinja_arena *arena);
static inline void cohort_jinja_leave(jinja_arena *arena) { arena->depth--; }

typedef struct jinja_text {
    jinja_arena *arena;
    char *bytes;
    size_t size, capacity;
} jinja_text;

void cohort_jinja_append(jinja_text *text, const char *bytes, size_t size);
void cohort_jinja_print(jinja_text *text, const char *format, ...) COHORT_PRINTF(2, 3);

#endif /* COHORT_JINJA_ARENA_H */
