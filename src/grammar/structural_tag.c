/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "grammar/grammar_internal.h"

/* Design notes.
 *
 * Text that is free until a trigger is written; from there on it is one of the tags that
 * begin with it, and free again behind that.  Free text is what has no trigger in it, so
 * it is made by subtracting, and the place of the first trigger is as certain as in a
 * search from left to right. */

typedef struct tagger {
    cohort_builder *builder;
    int depth;
} tagger;

static cohort_expr refuse(tagger *self, const char *what, const char *name) {
    COHORT_BUILDER_FAIL(self->builder, COHORT_E_INVALID, "structural_tag: %s '%.60s'",
                        what, name ? name : "");
    return COHORT_EXPR_NEVER;
}

static const cJSON *member(const cJSON *json, const char *name) {
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(json, name);
    return cJSON_IsNull(found) ? NULL : found;
}

static bool is_true(const cJSON *json, const char *name) {
    return cJSON_IsTrue(member(json, name));
}

/* "" and a failure where there is no such string. */
static const char *string_of(tagger *self, const cJSON *json, const char *name) {
    const char *text = cJSON_GetStringValue(member(json, name));
    if (!text) refuse(self, "a string is missing:", name);
    return text ? text : "";
}

static const cJSON *list_of(tagger *self, const cJSON *json, const char *name) {
    const cJSON *list = member(json, name);
    if (cJSON_IsArray(list) && list->child) return list;
    refuse(self, "a list of at least one is missing:", name);
    return NULL;
}

static cohort_expr literal(tagger *self, const char *text) {
    return cohort_expr_literal(self->builder, text, strlen(text));
}

static cohort_expr concat(tagger *self, cohort_expr a, cohort_expr b) {
    return cohort_expr_concat(self->builder, a, b);
}

static cohort_expr many(tagger *self, cohort_expr expr, int32_t least) {
    return cohort_expr_repeat(self->builder, expr, least, COHORT_UNBOUNDED);
}

/* ---- free text --------------------------------------------------------------------- */

static cohort_expr any_character(tagger *self) {
    cohort_code_set set = {0};
    cohort_code_set_add(self->builder, &set, 0, 0x10ffff);
    cohort_expr expr = cohort_expr_codes(self->builder, &set, false);
    cohort_code_set_deinit(&set);
    return expr;
}

/* One of a list of strings, or of one, none of them empty. */
static cohort_expr any_of(tagger *self, const cJSON *strings) {
    cohort_expr expr = COHORT_EXPR_NEVER;
    const cJSON *item = cJSON_IsArray(strings) ? strings->child : strings;
    for (; item; item = cJSON_IsArray(strings) ? item->next : NULL) {
        const char *text = cJSON_GetStringValue(item);
        if (!text || !*text)
            return refuse(self, "triggers and ends must be strings, not empty:", text);
        expr = cohort_expr_either(self->builder, literal(self, text), expr);
    }
    return expr;
}

/* Text without any of what may end it; NEVER: any text. */
static cohort_expr text_without(tagger *self, cohort_expr ends) {
    cohort_expr all = many(self, any_character(self), 0);
    if (ends == COHORT_EXPR_NEVER) return all;
    return cohort_expr_without(self->builder, all,
                               concat(self, all, concat(self, ends, all)));
}

/* Text up to the first of the ends, which is this one. */
static cohort_expr text_until(tagger *self, cohort_expr ends, const char *end) {
    cohort_expr one = any_character(self), all = many(self, one, 0);
    cohort_expr early = concat(self, all, concat(self, ends, many(self, one, 1)));
    return cohort_expr_without(self->builder, concat(self, all, literal(self, end)),
                               early);
}

/* ---- formats ----------------------------------------------------------------------- */

/* end: what ends the tag around; NEVER: nothing. */
static cohort_expr format_of(tagger *self, const cJSON *json, cohort_expr end);

static cohort_expr schema_of(tagger *self, const cJSON *schema) {
    if (!schema) return refuse(self, "a schema is missing:", "json_schema");
    char *text = cJSON_PrintUnformatted(schema);
    if (!text) {
        COHORT_BUILDER_FAIL(self->builder, COHORT_E_NOMEM, "a schema");
        return COHORT_EXPR_NEVER;
    }
    uint32_t rule = cohort_schema_compile(self->builder, text, strlen(text));
    free(text);
    return cohort_expr_call(self->builder, rule);
}

/* A tag without the first bytes of its begin. */
static cohort_expr tag_of(tagger *self, const cJSON *tag, size_t without) {
    const char *begin = string_of(self, tag, "begin");
    const cJSON *ends = member(tag, "end"), *content = member(tag, "content");
    cohort_expr end = COHORT_EXPR_EMPTY;
    if (!ends) refuse(self, "a string is missing:", "end");
    if (self->builder->status < 0) return COHORT_EXPR_NEVER;
    bool is_open = cJSON_IsString(ends) && !*ends->valuestring;
    if (!is_open) end = any_of(self, ends);
    /* The older form has a schema in place of a content. */
    cohort_expr inside = content
                             ? format_of(self, content, is_open ? COHORT_EXPR_NEVER : end)
                             : schema_of(self, member(tag, "schema"));
    return concat(self, literal(self, begin + without), concat(self, inside, end));
}

static bool starts_with(const char *text, const char *prefix) {
    return !strncmp(text, prefix, strlen(prefix));
}

static cohort_expr any_tag(tagger *self, const cJSON *tags) {
    cohort_expr expr = COHORT_EXPR_NEVER;
    for (const cJSON *tag = tags ? tags->child : NULL; tag && self->builder->status >= 0;
         tag = tag->next)
        expr = cohort_expr_either(self->builder, tag_of(self, tag, 0), expr);
    return expr;
}

/* The tags of one trigger, with the text before them. */
static cohort_expr tags_of(tagger *self, const cJSON *tags, const char *trigger,
                           cohort_expr ends) {
    cohort_expr rest = COHORT_EXPR_NEVER;
    cohort_builder_work(self->builder, (size_t)cJSON_GetArraySize(tags));
    for (const cJSON *tag = tags->child; tag && self->builder->status >= 0;
         tag = tag->next)
        if (starts_with(string_of(self, tag, "begin"), trigger))
            rest = cohort_expr_either(self->builder, tag_of(self, tag, strlen(trigger)),
                                      rest);
    return concat(self, text_until(self, ends, trigger), rest);
}

static void check_triggers(tagger *self, const cJSON *triggers, const cJSON *tags) {
    const cJSON *tag, *trigger;
    cJSON_ArrayForEach(tag, tags) {
        const char *begin = string_of(self, tag, "begin");
        bool has_trigger = false;
        cohort_builder_work(self->builder, (size_t)cJSON_GetArraySize(triggers));
        if (self->builder->status < 0) return;
        cJSON_ArrayForEach(trigger, triggers) has_trigger |=
            starts_with(begin, cJSON_GetStringValue(trigger));
        if (!has_trigger) refuse(self, "no trigger begins the tag", begin);
    }
}

static cohort_expr triggered(tagger *self, const cJSON *json, const char *tags_name,
                             cohort_expr end) {
    const cJSON *triggers = list_of(self, json, "triggers");
    const cJSON *tags = list_of(self, json, tags_name), *trigger;
    cohort_expr known = triggers ? any_of(self, triggers) : COHORT_EXPR_NEVER;
    cohort_expr one = COHORT_EXPR_NEVER;
    bool is_one = is_true(json, "stop_after_first");
    if (self->builder->status < 0) return COHORT_EXPR_NEVER;
    check_triggers(self, triggers, tags);
    cohort_expr ends = cohort_expr_either(self->builder, end, known);
    if (is_true(json, "at_least_one")) one = any_tag(self, tags);
    if (is_one && is_true(json, "at_least_one")) return one;
    cohort_expr first = is_true(json, "at_least_one") ? one : COHORT_EXPR_EMPTY;
    one = COHORT_EXPR_NEVER;
    cJSON_ArrayForEach(trigger, triggers) {
        if (self->builder->status < 0) return COHORT_EXPR_NEVER;
        one = cohort_expr_either(self->builder,
                                 tags_of(self, tags, trigger->valuestring, ends), one);
    }
    cohort_expr text = text_without(self, ends);
    if (is_one) return cohort_expr_either(self->builder, one, text);
    return concat(self, first, concat(self, many(self, one, 0), text));
}

static cohort_expr separated(tagger *self, const cJSON *json) {
    cohort_expr tag = any_tag(self, list_of(self, json, "tags"));
    cohort_expr more =
        concat(self, literal(self, string_of(self, json, "separator")), tag);
    cohort_expr all =
        is_true(json, "stop_after_first") ? tag : concat(self, tag, many(self, more, 0));
    return is_true(json, "at_least_one") ? all
                                         : cohort_expr_repeat(self->builder, all, 0, 1);
}

/* From the last on, so that the expression leans to the right. */
static cohort_expr elements_of(tagger *self, const cJSON *json, bool is_either,
                               cohort_expr end) {
    const cJSON *list = list_of(self, json, "elements");
    cohort_expr expr = is_either ? COHORT_EXPR_NEVER : COHORT_EXPR_EMPTY;
    const cJSON *item = list ? list->child->prev : NULL;
    while (item && self->builder->status >= 0) {
        cohort_expr one = format_of(self, item, end);
        expr = is_either ? cohort_expr_either(self->builder, one, expr)
                         : concat(self, one, expr);
        item = item == list->child ? NULL : item->prev;
    }
    return expr;
}

static cohort_expr regex_of(tagger *self, const cJSON *json) {
    static const cohort_regex_options options = {.name = "structural_tag: regex"};
    const char *pattern = string_of(self, json, "pattern");
    return cohort_regex_parse(self->builder, pattern, strlen(pattern), &options);
}

static cohort_expr grammar_of(tagger *self, const cJSON *json) {
    const char *text = string_of(self, json, "grammar");
    if (self->builder->status < 0) return COHORT_EXPR_NEVER;
    return cohort_expr_call(self->builder,
                            cohort_ebnf_compile(self->builder, text, strlen(text)));
}

static cohort_expr format_inside(tagger *self, const cJSON *json, cohort_expr end) {
    const char *type = string_of(self, json, "type");
    if (self->builder->status < 0) return COHORT_EXPR_NEVER;
    if (!strcmp(type, "const_string"))
        return literal(self, string_of(self, json, "value"));
    if (!strcmp(type, "json_schema")) return schema_of(self, member(json, "json_schema"));
    if (!strcmp(type, "regex")) return regex_of(self, json);
    if (!strcmp(type, "grammar")) return grammar_of(self, json);
    if (!strcmp(type, "any_text")) return text_without(self, end);
    if (!strcmp(type, "sequence")) return elements_of(self, json, false, end);
    if (!strcmp(type, "or")) return elements_of(self, json, true, end);
    if (!strcmp(type, "tag")) return tag_of(self, json, 0);
    if (!strcmp(type, "triggered_tags")) return triggered(self, json, "tags", end);
    if (!strcmp(type, "tags_with_separator")) return separated(self, json);
    return refuse(self, "a format that is not supported:", type);
}

static cohort_expr format_of(tagger *self, const cJSON *json, cohort_expr end) {
    if (++self->depth > COHORT_GRAMMAR_MAX_NESTING)
        return refuse(self, "formats nest too deep:", "format");
    cohort_expr expr = format_inside(self, json, end);
    self->depth--;
    return expr;
}

void cohort_structural_tag_compile(cohort_builder *builder, const char *text,
                                   size_t size) {
    tagger self = {.builder = builder};
    uint32_t rule = cohort_rule_reserve(builder);
    cJSON *json = cohort_schema_parse(builder, "structural_tag", text, size);
    const cJSON *format = member(json, "format");
    if (!json) return;
    cohort_expr expr = format ? format_of(&self, format, COHORT_EXPR_NEVER)
                              : triggered(&self, json, "structures", COHORT_EXPR_NEVER);
    cJSON_Delete(json);
    cohort_rule_make_expr(builder, rule, expr);
}
