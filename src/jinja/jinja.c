/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/jinja.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jinja/jinja_internal.h"

enum {
    CHUNK_BYTES = 1 << 14,
    MAX_SOURCE_BYTES = 1 << 20,
    MAX_TEMPLATE_BYTES = 64 << 20, /* of nodes */
    MAX_RENDER_BYTES = 256 << 20,
    MAX_OUTPUT_BYTES = 32 << 20,
    MAX_STEPS = 20000000,
    MAX_DEPTH = 200,
};

struct jinja_chunk {
    jinja_chunk *next;
    max_align_t bytes[];
};

struct cohort_jinja {
    jinja_arena arena;
    const jinja_node *body;
    const jinja_token *tokens;
    bool wants_parts;
};

/* ---- arena ------------------------------------------------------------------------- */

void *cohort_jinja_alloc(jinja_arena *arena, size_t size) {
    size = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    if (size > arena->size - arena->used) {
        size_t room = size > CHUNK_BYTES ? size : CHUNK_BYTES;
        if (room > arena->most - arena->total)
            cohort_jinja_fail(arena, "the template takes more than %zu MiB of memory",
                              arena->most >> 20);
        jinja_chunk *chunk = malloc(sizeof *chunk + room);
        if (!chunk) cohort_jinja_fail(arena, "out of memory");
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
        COHORT_FAIL(COHORT_E_INVALID, "line %d: %s", arena->line, message);
    else
        COHORT_FAIL(COHORT_E_INVALID, "%s", message);
    longjmp(arena->escape, 1);
}

void cohort_jinja_step(jinja_arena *arena, int64_t n) {
    if (arena->steps_left < n)
        cohort_jinja_fail(arena, "the template takes more than %d steps", MAX_STEPS);
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

/* ---- life -------------------------------------------------------------------------- */

cohort_status cohort_jinja_compile(const char *source, size_t size_bytes,
                                   cohort_jinja **out_template) {
    *out_template = NULL;
    if (size_bytes > MAX_SOURCE_BYTES)
        return COHORT_FAIL(COHORT_E_INVALID, "a template of %zu bytes; %d are the most",
                           size_bytes, MAX_SOURCE_BYTES);
    cohort_jinja *self = calloc(1, sizeof *self);
    if (!self) return COHORT_FAIL(COHORT_E_NOMEM, "a template");
    self->arena.most = MAX_TEMPLATE_BYTES;
    self->arena.steps_left = INT64_MAX;
    if (setjmp(self->arena.escape)) {
        cohort_jinja_destroy(self);
        return COHORT_E_INVALID;
    }
    self->tokens = cohort_jinja_lex(&self->arena, source, size_bytes);
    self->body = cohort_jinja_parse(&self->arena, self->tokens);
    self->wants_parts = cohort_jinja_reads_parts(self->body);
    *out_template = self;
    return COHORT_OK;
}

bool cohort_jinja_mentions(const cohort_jinja *template_, const char *name) {
    for (const jinja_token *token = template_->tokens; token->kind != TOKEN_END; token++)
        if (token->kind == TOKEN_NAME && !strcmp(token->text, name)) return true;
    return false;
}

bool cohort_jinja_wants_parts(const cohort_jinja *template_) {
    return template_->wants_parts;
}

void cohort_jinja_destroy(cohort_jinja *template_) {
    if (!template_) return;
    cohort_jinja_arena_free(&template_->arena);
    free(template_);
}

static void render(jinja_arena *arena, const cohort_jinja *template_,
                   const cJSON *variables, jinja_text *out) {
    jinja_scope globals = {0};
    jinja_scope given = {.parent = &globals}, scope = {.parent = &given};
    jinja_run run = {.arena = arena, .scope = &globals, .out = out};
    cohort_jinja_add_globals(&run);
    const cJSON *item;
    jinja_value *dict = cohort_jinja_dict(arena, JINJA_DICT);
    if (cJSON_IsObject(variables))
        cJSON_ArrayForEach(item, variables)
            cohort_jinja_put(arena, dict, cohort_jinja_word(arena, item->string),
                             cohort_jinja_from_json(arena, item));
    given.given = dict;
    run.scope = &scope;
    cohort_jinja_append(out, "", 0);
    cohort_jinja_execute(&run, template_->body);
}

cohort_status cohort_jinja_render(const cohort_jinja *template_, const cJSON *variables,
                                  int64_t now_s, char **out_text,
                                  size_t *out_size_bytes) {
    jinja_arena arena = {
        .most = MAX_RENDER_BYTES, .steps_left = MAX_STEPS, .now_s = now_s};
    jinja_text out = {.arena = &arena};
    *out_text = NULL;
    if (setjmp(arena.escape)) {
        cohort_jinja_arena_free(&arena);
        return COHORT_E_INVALID;
    }
    render(&arena, template_, variables, &out);
    *out_text = malloc(out.size + 1);
    *out_size_bytes = out.size;
    if (*out_text) memcpy(*out_text, out.bytes, out.size + 1);
    cohort_jinja_arena_free(&arena);
    return *out_text ? COHORT_OK : COHORT_FAIL(COHORT_E_NOMEM, "a rendered template");
}
