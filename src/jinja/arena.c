/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 1 << 14, MAX_OUTPUT_BYTES = 32 << 20, MAX_DEPTH = 200 };

struct jinja_chunk {
    jinja_chunk *next;
    max_align_t bytes[];
};

void *cohort_jinja_alloc(jinja_arena *arena, size_t size) {
    size = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    if (size > arena->size - arena->used) {
        size_t room = size > CHUNK_BYTES ? size : CHUNK_BYTES;
        if (room > arena->most - arena->total)
            cohort_jinja_fail(arena, "the template takes more than %zu MiB of memory",
                              arena->most >> 20);
        jinja_chunk *chunk = malloc(sizeof *chunk + room);
        if (!chunk) {
            arena->status = COHORT_FAIL(COHORT_E_NOMEM, "a template's %zu bytes", room);
            longjmp(arena->escape, 1);
        }
        chunk->next = arena->chunks;
        arena->chunks = chunk;
        arena->total += room;
        arena->size = room;
        arena->used = 0;
    }
    void *memory = (char *)arena->chunks->bytes + arena->used;
    arena->used += size;
    return memset(memory, 0, size);
}

void *cohort_jinja_grow(jinja_arena *arena, void *items, size_t count, size_t *capacity,
                        size_t item_bytes) {
    if (count < *capacity) return items;
    size_t larger = *capacity * 2 + 4;
    void *grown = cohort_jinja_alloc(arena, larger * item_bytes);
    if (count) memcpy(grown, items, count * item_bytes);
    *capacity = larger;
    return grown;
}

void cohort_jinja_arena_free(jinja_arena *arena) {
    while (arena->chunks) {
        jinja_chunk *next = arena->chunks->next;
        free(arena->chunks);
        arena->chunks = next;
    }
}

void cohort_jinja_fail(jinja_arena *arena, const char *format, ...) {
    char message[400];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (arena->line)
        arena->status =
            COHORT_FAIL(COHORT_E_INVALID, "line %d: %s", arena->line, message);
    else
        arena->status = COHORT_FAIL(COHORT_E_INVALID, "%s", message);
    longjmp(arena->escape, 1);
}

void cohort_jinja_step(jinja_arena *arena, int64_t n) {
    if (arena->steps_left < n)
        cohort_jinja_fail(arena, "the template takes more than %d steps",
                          JINJA_MAX_STEPS);
    arena->steps_left -= n;
}

void cohort_jinja_enter(jinja_arena *arena) {
    if (++arena->depth > MAX_DEPTH)
        cohort_jinja_fail(arena, "the template is nested deeper than %d", MAX_DEPTH);
}

void cohort_jinja_append(jinja_text *text, const char *bytes, size_t size) {
    if (size > MAX_OUTPUT_BYTES - text->size)
        cohort_jinja_fail(text->arena, "a text is longer than %d MiB",
                          MAX_OUTPUT_BYTES >> 20);
    cohort_jinja_step(text->arena, (int64_t)(size / 64));
    if (text->size + size + 1 > text->capacity) {
        size_t capacity = (text->size + size + 1) * 2;
        char *grown = cohort_jinja_alloc(text->arena, capacity);
        if (text->size) memcpy(grown, text->bytes, text->size);
        text->bytes = grown;
        text->capacity = capacity;
    }
    if (size) memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
    text->bytes[text->size] = '\0';
}

void cohort_jinja_print(jinja_text *text, const char *format, ...) {
    char piece[400];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(piece, sizeof piece, format, args);
    va_end(args);
    cohort_jinja_append(text, piece,
                        n < (int)sizeof piece ? (size_t)n : sizeof piece - 1);
}
