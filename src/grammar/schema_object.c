/* SPDX-License-Identifier: Apache-2.0 */

#include <stdlib.h>
#include <string.h>

#include "grammar/schema_internal.h"

/* Design notes.
 *
 * Members with a name come in the order of the schema, then those without one.  Where
 * the count of members matters, there is a state for each count.  A member without a
 * name matches one pattern of patternProperties and no other, or none; it may be written
 * twice, so that to minProperties all of them are one. */

enum { MAX_COUNTED = 256, MAX_PATTERNS = 16 };

struct member {
    const char *name;
    cohort_expr value;
    bool is_required;
};

struct members {
    struct member *items;
    size_t count;
    cohort_expr extra;   /* the value of those without a name here */
    cohort_expr unnamed; /* members, key and value */
    int32_t least, most; /* members that must and may be; COHORT_UNBOUNDED */
};

static cohort_expr literal(cohort_schema_compiler *self, const char *text) {
    return cohort_expr_literal(self->builder, text, strlen(text));
}

static cohort_expr concat(cohort_schema_compiler *self, cohort_expr a, cohort_expr b) {
    return cohort_expr_concat(self->builder, a, b);
}

static bool is_listed(cohort_schema_compiler *self, const cJSON *list, const char *name) {
    const cJSON *item;
    size_t n = 0;
    bool is_in = false;
    for (item = list ? list->child : NULL; item && !is_in; item = item->next, n++)
        is_in = cJSON_IsString(item) && !strcmp(item->valuestring, name);
    cohort_builder_work(self->builder, n / 2);
    return is_in;
}

/* Required members without a schema of their own. */
static void add_unnamed(cohort_schema_compiler *self, const cJSON *schema,
                        struct members *out) {
    const cJSON *item;
    cJSON_ArrayForEach(item, cohort_schema_get(schema, "required")) {
        const char *name = cJSON_GetStringValue(item);
        bool is_known = !name;
        cohort_builder_work(self->builder, out->count / 2);
        if (self->builder->status < 0) return;
        for (size_t i = 0; i < out->count && name; i++)
            is_known = is_known || !strcmp(out->items[i].name, name);
        if (!name) cohort_schema_refuse(self, "'required' must be a list of strings");
        if (is_known) continue;
        const cJSON *value = cohort_schema_rest(self, schema, name);
        out->items[out->count++] = (struct member){
            name, value ? cohort_schema_value(self, value) : out->extra, true};
    }
}

/* The names that propertyNames lets through; false: all. */
static bool read_names(cohort_schema_compiler *self, const cJSON *schema,
                       cohort_expr *out) {
    const cJSON *names = cohort_schema_get(schema, "propertyNames"), *item;
    const cJSON *flat = names ? cohort_schema_flatten(self, names) : NULL;
    if (!flat || cJSON_IsTrue(flat)) return false;
    const cJSON *one = cohort_schema_get(flat, "const");
    const cJSON *many = cohort_schema_get(flat, "enum");
    *out = COHORT_EXPR_NEVER;
    if (cJSON_IsFalse(flat)) return true;
    if (cohort_schema_get(flat, "anyOf")) {
        cohort_schema_refuse(self, "'propertyNames' with a choice is not supported");
        return true;
    }
    if (!one && !many) {
        int types;
        if (cohort_schema_types(self, flat, &types) && types & COHORT_TYPE_STRING)
            *out = cohort_schema_content(self, flat);
        return true;
    }
    cJSON_ArrayForEach(item, many) {
        if (cJSON_IsString(item))
            *out = cohort_expr_either(
                self->builder, cohort_schema_spelled(self, item->valuestring), *out);
    }
    if (cJSON_IsString(one)) *out = cohort_schema_spelled(self, one->valuestring);
    return true;
}

/* Strings without escapes that are none of the names: whoever reads the object must not
 * find one of those twice. */
static cohort_expr plain_names(cohort_schema_compiler *self,
                               const struct members *members) {
    cohort_builder *builder = self->builder;
    cohort_code_set plain = {0};
    cohort_code_set_add(builder, &plain, 0x20, 0x21);
    cohort_code_set_add(builder, &plain, 0x23, 0x5b);
    cohort_code_set_add(builder, &plain, 0x5d, 0x10ffff);
    cohort_expr text = cohort_expr_repeat(
        builder, cohort_expr_codes(builder, &plain, false), 0, COHORT_UNBOUNDED);
    cohort_code_set_deinit(&plain);
    cohort_expr names = COHORT_EXPR_NEVER;
    for (size_t i = 0; i < members->count; i++)
        names = cohort_expr_either(builder, literal(self, members->items[i].name), names);
    return members->count ? cohort_expr_without(builder, text, names) : text;
}

/* A member of one of these names. */
static void add_kind(cohort_schema_compiler *self, struct members *out, cohort_expr names,
                     cohort_expr value) {
    cohort_builder *builder = self->builder;
    if (value == COHORT_EXPR_NEVER || builder->status < 0) return;
    uint32_t rule = cohort_rule_reserve(builder);
    cohort_expr key =
        concat(self, literal(self, "\""), concat(self, names, literal(self, "\"")));
    cohort_rule_make_expr(builder, rule, key);
    cohort_expr colon =
        concat(self, literal(self, ":"), cohort_grammar_json_white_space(builder));
    out->unnamed = cohort_expr_either(
        builder,
        concat(self, cohort_expr_call(builder, rule), concat(self, colon, value)),
        out->unnamed);
}

static bool read_unnamed(cohort_schema_compiler *self, const cJSON *schema,
                         struct members *out) {
    const cJSON *patterns = cohort_schema_get(schema, "patternProperties"), *item;
    cohort_builder *builder = self->builder;
    cohort_expr of[MAX_PATTERNS], names;
    bool are_bound = read_names(self, schema, &names);
    size_t n = 0;
    out->unnamed = COHORT_EXPR_NEVER;
    for (size_t i = 0; are_bound && i < out->count; i++)
        if (!cohort_schema_is_named_by(self, names, out->items[i].name))
            out->items[i].value = COHORT_EXPR_NEVER;
    if (builder->status < 0) return false;
    if (!patterns && !are_bound && !out->count && out->extra != COHORT_EXPR_NEVER) {
        cohort_expr colon =
            concat(self, literal(self, ":"), cohort_grammar_json_white_space(builder));
        out->unnamed =
            concat(self, cohort_grammar_json_string(builder, 0, COHORT_UNBOUNDED),
                   concat(self, colon, out->extra));
        return true;
    }
    if (!patterns && out->extra == COHORT_EXPR_NEVER) return true;
    if (patterns &&
        (!cJSON_IsObject(patterns) || cJSON_GetArraySize(patterns) > MAX_PATTERNS))
        return cohort_schema_refuse(
            self, "'patternProperties' must be an object of at most %d", MAX_PATTERNS);
    cohort_expr all = plain_names(self, out);
    if (are_bound) all = cohort_expr_both(builder, all, names);
    cJSON_ArrayForEach(item, patterns) of[n++] =
        cohort_schema_pattern(self, item->string);
    n = 0;
    cJSON_ArrayForEach(item, patterns) {
        cohort_expr mine = cohort_expr_both(builder, all, of[n]);
        for (int i = 0; i < cJSON_GetArraySize(patterns); i++)
            if ((size_t)i != n) mine = cohort_expr_without(builder, mine, of[i]);
        add_kind(self, out, mine, cohort_schema_value(self, item));
        n++;
    }
    for (size_t i = 0; i < n; i++)
        all = cohort_expr_without(builder, all, of[i]);
    add_kind(self, out, all, out->extra);
    return builder->status >= 0;
}

static bool read_members(cohort_schema_compiler *self, const cJSON *schema,
                         struct members *out) {
    const cJSON *named = cohort_schema_get(schema, "properties"), *item;
    const cJSON *required = cohort_schema_get(schema, "required");
    const cJSON *extra = cohort_schema_get(schema, "additionalProperties");
    const cJSON *patterns = cohort_schema_get(schema, "patternProperties");
    int n_named = cJSON_GetArraySize(named), n_required = cJSON_GetArraySize(required);
    if ((named && !cJSON_IsObject(named)) || (required && !cJSON_IsArray(required)))
        return cohort_schema_refuse(
            self, "'properties' must be an object and 'required' a list");
    out->items = calloc((size_t)n_named + (size_t)n_required + 1, sizeof *out->items);
    if (!out->items) {
        COHORT_BUILDER_FAIL(self->builder, COHORT_E_NOMEM, "%d properties", n_named);
        return false;
    }
    cJSON_ArrayForEach(item, named) {
        if (self->builder->status < 0) return false;
        const cJSON *value =
            patterns ? cohort_schema_with_patterns(self, schema, item) : item;
        if (!value) return false;
        out->items[out->count++] =
            (struct member){item->string, cohort_schema_value(self, value),
                            is_listed(self, required, item->string)};
    }
    bool is_open = extra ? !cJSON_IsFalse(extra) : (!named && !patterns);
    bool lacks = false; /* a schema for what is required */
    cJSON_ArrayForEach(item, required) {
        if (lacks || self->builder->status < 0) break;
        cohort_builder_work(self->builder, (size_t)n_named / 2);
        lacks = !cohort_schema_get(named, cJSON_IsString(item) ? item->valuestring : "");
    }
    out->extra = COHORT_EXPR_NEVER;
    if (extra && !cJSON_IsTrue(extra) && !cJSON_IsFalse(extra))
        out->extra = cohort_schema_value(self, extra);
    else if (!cJSON_IsFalse(extra) && (is_open || lacks))
        out->extra = cohort_grammar_json_any(self->builder);
    add_unnamed(self, schema, out);
    if (!is_open) out->extra = COHORT_EXPR_NEVER;
    return self->builder->status >= 0 && read_unnamed(self, schema, out);
}

static bool read_counts(cohort_schema_compiler *self, const cJSON *schema,
                        struct members *out) {
    int32_t least, most, n_required = 0;
    if (!cohort_schema_size(self, schema, "minProperties", 0, &least) ||
        !cohort_schema_size(self, schema, "maxProperties", COHORT_UNBOUNDED, &most))
        return false;
    bool has_more = out->unnamed != COHORT_EXPR_NEVER;
    for (size_t i = 0; i < out->count; i++)
        n_required += out->items[i].is_required;
    if (least <= n_required) least = 0;
    if (!has_more && (most < 0 || (size_t)most >= out->count)) most = COHORT_UNBOUNDED;
    if (has_more && (size_t)least > out->count + 1)
        return cohort_schema_refuse(self, "'minProperties' of more than one member "
                                          "without a name is not supported");
    if (least > MAX_COUNTED || most > MAX_COUNTED)
        return cohort_schema_refuse(self,
                                    "'minProperties' and 'maxProperties' of more "
                                    "than %d are not supported",
                                    MAX_COUNTED);
    out->least = least;
    out->most = most;
    return true;
}

/* The states of a place between two members, by how many were written: the last of them
 * stands for all above, too, where there is no most. */
struct place {
    uint32_t by_count[MAX_COUNTED + 1];
};

static void make_place(cohort_builder *builder, cohort_nfa *nfa, int32_t last,
                       struct place *out) {
    for (int32_t i = 0; i <= last; i++)
        out->by_count[i] = cohort_nfa_state(builder, nfa);
}

/* A member, from each count to the next. */
static void add_member(cohort_schema_compiler *self, cohort_nfa *nfa, cohort_expr member,
                       const struct place *from, const struct place *to, int32_t first,
                       int32_t last, bool is_capped) {
    cohort_expr space = cohort_grammar_json_white_space(self->builder);
    cohort_expr comma = concat(self, literal(self, ","), space);
    for (int32_t i = first; i <= last && self->builder->status >= 0; i++) {
        if (i == last && !is_capped) break;
        cohort_nfa_add(self->builder, nfa, i ? concat(self, comma, member) : member,
                       from->by_count[i], to->by_count[i < last ? i + 1 : last]);
    }
}

static void add_members(cohort_schema_compiler *self, cohort_nfa *nfa,
                        const struct members *members, uint32_t open, uint32_t end) {
    cohort_builder *builder = self->builder;
    cohort_expr space = cohort_grammar_json_white_space(builder);
    cohort_expr colon = concat(self, literal(self, ":"), space);
    cohort_expr close = literal(self, "}");
    bool is_capped = members->most == COHORT_UNBOUNDED;
    int32_t last = is_capped ? members->least : members->most;
    if (is_capped && last < 1) last = 1;
    struct place at, next;
    make_place(builder, nfa, last, &at);
    at.by_count[0] = open;
    for (size_t i = 0; i < members->count && builder->status >= 0; i++) {
        const struct member *item = &members->items[i];
        cohort_expr key =
            cohort_grammar_json_quoted(builder, item->name, strlen(item->name));
        cohort_expr member = concat(self, key, concat(self, colon, item->value));
        make_place(builder, nfa, last, &next);
        add_member(self, nfa, member, &at, &next, 0, last, is_capped);
        for (int32_t n = 0; n <= last && !item->is_required; n++)
            cohort_nfa_add(builder, nfa, COHORT_EXPR_EMPTY, at.by_count[n],
                           next.by_count[n]);
        at = next;
    }
    for (int32_t n = members->least; n <= last; n++)
        cohort_nfa_add(builder, nfa, n ? concat(self, space, close) : close,
                       at.by_count[n], end);
    if (members->unnamed == COHORT_EXPR_NEVER) return;
    /* The first of those without a name is one more; others may be the same again. */
    make_place(builder, nfa, last, &next);
    add_member(self, nfa, members->unnamed, &at, &next,
               members->least > 0 ? members->least - 1 : 0, last, is_capped);
    add_member(self, nfa, members->unnamed, &next, &next, 1, last, is_capped);
    for (int32_t n = 1; n <= last; n++)
        cohort_nfa_add(builder, nfa, concat(self, space, close), next.by_count[n], end);
}

cohort_expr cohort_schema_object(cohort_schema_compiler *self, const cJSON *schema) {
    cohort_builder *builder = self->builder;
    struct members members = {0};
    int of = cohort_schema_keywords(schema, NULL);
    if (!(of & COHORT_OF_OBJECT)) return cohort_grammar_json_any_object(builder);
    uint32_t rule = cohort_rule_reserve(builder);
    cohort_nfa nfa = {0};
    if (read_members(self, schema, &members) && read_counts(self, schema, &members)) {
        uint32_t start = cohort_nfa_state(builder, &nfa);
        uint32_t end = cohort_nfa_state(builder, &nfa);
        uint32_t open = cohort_nfa_state(builder, &nfa);
        cohort_nfa_add(
            builder, &nfa,
            concat(self, literal(self, "{"), cohort_grammar_json_white_space(builder)),
            start, open);
        add_members(self, &nfa, &members, open, end);
        cohort_rule_make(builder, rule, &nfa, start, end);
    }
    free(members.items);
    return cohort_expr_call(builder, rule);
}
