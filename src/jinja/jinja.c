/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/jinja.h"

#include <stdlib.h>
#include <string.h>

#include "jinja/content.h"
#include "jinja/eval.h"
#include "jinja/globals.h"
#include "jinja/lexer.h"
#include "jinja/parser.h"

enum {
    MAX_SOURCE_BYTES = 1 << 20,
    MAX_TEMPLATE_BYTES = 64 << 20, /* of nodes */
    MAX_RENDER_BYTES = 256 << 20,
};

struct cohort_jinja {
    jinja_arena arena;
    const jinja_node *body;
    const jinja_token *tokens;
    bool wants_parts;
};

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
        cohort_status status = self->arena.status;
        cohort_jinja_destroy(self);
        return status;
    }
    self->tokens = cohort_jinja_lex(&self->arena, source, size_bytes);
    self->body = cohort_jinja_parse(&self->arena, self->tokens);
    self->wants_parts = cohort_jinja_reads_parts(self->body);
    *out_template = self;
    return COHORT_OK;
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
        .most = MAX_RENDER_BYTES, .steps_left = JINJA_MAX_STEPS, .now_s = now_s};
    jinja_text out = {.arena = &arena};
    *out_text = NULL;
    if (setjmp(arena.escape)) {
        cohort_jinja_arena_free(&arena);
        return arena.status;
    }
    render(&arena, template_, variables, &out);
    *out_text = malloc(out.size + 1);
    *out_size_bytes = out.size;
    if (*out_text) memcpy(*out_text, out.bytes, out.size + 1);
    cohort_jinja_arena_free(&arena);
    return *out_text ? COHORT_OK : COHORT_FAIL(COHORT_E_NOMEM, "a rendered template");
}
