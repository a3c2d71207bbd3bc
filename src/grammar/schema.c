/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "grammar/schema_internal.h"

/* Design notes.
 *
 * Every object, array and string is a rule; a $ref is a rule by its target, so that
 * schemas may refer to themselves.  What remains of a schema after flattening is read
 * type by type; the value is one of the types' expressions. */

enum { MAX_SCHEMA_BYTES = 256 << 10, MAX_ONE_OF = 128, MAX_LENGTH = 1 << 20 };

static cohort_expr value_of(cohort_schema_compiler *self, const cJSON *schema);

static cohort_expr literal(cohort_schema_compiler *self, const char *text) {
    return cohort_expr_literal(self->builder, text, strlen(text));
}

static cohort_expr concat(cohort_schema_compiler *self, cohort_expr a, cohort_expr b) {
    return cohort_expr_concat(self->builder, a, b);
}

static cohort_expr quoted(cohort_schema_compiler *self, cohort_expr content) {
    return concat(self, literal(self, "\""), concat(self, content, literal(self, "\"")));
}

static cohort_expr refuse(cohort_schema_compiler *self, const char *keyword) {
    cohort_schema_refuse(self, "'%.60s' is not supported", keyword);
    return COHORT_EXPR_NEVER;
}

/* A whole number of at least 0 that is not too large to count. */
static bool size_of(cohort_schema_compiler *self, const cJSON *schema, const char *key,
                    int32_t fallback, int32_t *out) {
    const cJSON *item = cohort_schema_get(schema, key);
    *out = fallback;
    if (!item) return true;
    double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(value >= 0 && value <= MAX_LENGTH && value == floor(value)))
        return cohort_schema_refuse(self, "'%s' must be a whole number from 0 to %d", key,
                                    MAX_LENGTH);
    *out = (int32_t)value;
    return true;
}

/* ---- values that are listed -------------------------------------------------------- */

static cohort_expr constant(cohort_schema_compiler *self, const cJSON *value) {
    cohort_expr expr = COHORT_EXPR_EMPTY, one;
    const cJSON *item;
    char text[40];
    if (cJSON_IsString(value))
        return cohort_json_quoted(self->builder, value->valuestring,
                                  strlen(value->valuestring));
    if (cJSON_IsBool(value)) return literal(self, cJSON_IsTrue(value) ? "true" : "false");
    if (cJSON_IsNull(value)) return literal(self, "null");
    if (cJSON_IsNumber(value)) {
        double number = value->valuedouble;
        if (!(fabs(number) < 0x1p53)) {
            cohort_schema_refuse(self,
                                 "a listed number of 2^53 or more is not supported");
            return COHORT_EXPR_NEVER;
        }
        snprintf(text, sizeof text, "%.0f", number);
        for (int digits = 1; digits <= 17 && strtod(text, NULL) != number; digits++)
            snprintf(text, sizeof text, "%.*g", digits, number);
        return literal(self, text);
    }
    /* From the end on, so that the expression leans to the right. */
    const cJSON *first = value->child;
    for (item = first ? first->prev : NULL; item;
         item = item == first ? NULL : item->prev) {
        one = constant(self, item);
        if (item->string)
            one = concat(
                self,
                cohort_json_quoted(self->builder, item->string, strlen(item->string)),
                concat(self, literal(self, ": "), one));
        if (item != first) one = concat(self, literal(self, ", "), one);
        expr = concat(self, one, expr);
    }
    return concat(self, literal(self, cJSON_IsArray(value) ? "[" : "{"),
                  concat(self, expr, literal(self, cJSON_IsArray(value) ? "]" : "}")));
}

static bool has_type(const cJSON *value, int types) {
    if (cJSON_IsNumber(value))
        return types & COHORT_TYPE_NUMBER ||
               (types & COHORT_TYPE_INTEGER &&
                value->valuedouble == floor(value->valuedouble));
    return types & (cJSON_IsObject(value)   ? COHORT_TYPE_OBJECT
                    : cJSON_IsArray(value)  ? COHORT_TYPE_ARRAY
                    : cJSON_IsString(value) ? COHORT_TYPE_STRING
                    : cJSON_IsBool(value)   ? COHORT_TYPE_BOOLEAN
                                            : COHORT_TYPE_NULL);
}

static cohort_expr listed(cohort_schema_compiler *self, const cJSON *schema, int types) {
    const cJSON *one = cohort_schema_get(schema, "const"), *item;
    const cJSON *many = cohort_schema_get(schema, "enum");
    cohort_expr expr = COHORT_EXPR_NEVER;
    cJSON_ArrayForEach(item, schema) {
        int of = cohort_schema_keyword(item->string);
        if (!strcmp(item->string, "format") &&
            !cohort_schema_knows_format(cJSON_GetStringValue(item)))
            continue;
        if (of != COHORT_OF_ANY && of != COHORT_OF_NOTHING) {
            cohort_schema_refuse(
                self, "'%.60s' beside 'enum' or 'const' is not supported", item->string);
            return COHORT_EXPR_NEVER;
        }
    }
    if (many && !cJSON_IsArray(many)) {
        cohort_schema_refuse(self, "'enum' must be a list");
        return COHORT_EXPR_NEVER;
    }
    cJSON_ArrayForEach(item, many) {
        if (has_type(item, types) && (!one || cohort_schema_are_same(self, item, one)))
            expr = cohort_expr_either(self->builder, constant(self, item), expr);
    }
    if (one && !many && has_type(one, types)) expr = constant(self, one);
    return expr;
}

/* ---- strings and numbers ----------------------------------------------------------- */

/* A pattern, or two that were merged. */
static cohort_expr pattern_of(cohort_schema_compiler *self, const cJSON *pattern) {
    const cohort_regex_options options = {
        .in_json = true, .is_search = true, .name = "schema: pattern"};
    const char *text = cJSON_GetStringValue(pattern);
    if (text) return cohort_regex_parse(self->builder, text, strlen(text), &options);
    const cJSON *first = cJSON_IsArray(pattern) ? pattern->child : NULL;
    if (!first || !first->next) {
        cohort_schema_refuse(self, "'pattern' must be a string");
        return COHORT_EXPR_NEVER;
    }
    cohort_expr expr = pattern_of(self, first);
    return cohort_expr_both(self->builder, expr, pattern_of(self, first->next));
}

/* Of a schema that has one of them, or both. */
static cohort_expr content_of(cohort_schema_compiler *self, const cJSON *pattern,
                              const char *format, int32_t least, int32_t most) {
    cohort_builder *builder = self->builder;
    cohort_expr content = COHORT_EXPR_NEVER, unit;
    bool is_bounded = least > 0 || most != COHORT_UNBOUNDED;
    if (format) content = cohort_schema_format(builder, format, pattern || is_bounded);
    if (pattern && format)
        content = cohort_expr_both(builder, pattern_of(self, pattern), content);
    else if (pattern)
        content = pattern_of(self, pattern);
    if (!is_bounded) return content;
    /* Of a few formats only a character may be more than a byte. */
    bool is_bytes =
        format && !pattern && !strstr(format, "pointer") && strcmp(format, "iri") != 0;
    unit =
        is_bytes ? cohort_expr_range(builder, ' ', '~') : cohort_json_character(builder);
    if (format) most = cohort_schema_format_most(format, most);
    return cohort_expr_bounded(builder, content, unit, least, most);
}

static cohort_expr string_of(cohort_schema_compiler *self, const cJSON *schema) {
    const cJSON *pattern = cohort_schema_get(schema, "pattern");
    const char *format = cJSON_GetStringValue(cohort_schema_get(schema, "format"));
    cohort_builder *builder = self->builder;
    int32_t least, most;
    if (!size_of(self, schema, "minLength", 0, &least) ||
        !size_of(self, schema, "maxLength", COHORT_UNBOUNDED, &most))
        return COHORT_EXPR_NEVER;
    /* One that we do not know is an annotation. */
    if (!cohort_schema_knows_format(format)) format = NULL;
    if (!pattern && !format) return cohort_json_string(builder, least, most);
    if (most != COHORT_UNBOUNDED && most < least) return COHORT_EXPR_NEVER;
    for (size_t i = 0; i < self->n_formats && !pattern; i++) {
        const struct known_format *known = &self->formats[i];
        if (!strcmp(known->name, format) && known->least == least && known->most == most)
            return cohort_expr_call(builder, known->rule);
    }
    cohort_expr content = content_of(self, pattern, format, least, most);
    uint32_t rule = cohort_rule_reserve(builder);
    cohort_rule_make_expr(builder, rule, quoted(self, content));
    if (!pattern && self->n_formats < COHORT_MAX_KNOWN_FORMATS)
        self->formats[self->n_formats++] =
            (struct known_format){format, least, most, rule};
    return cohort_expr_call(builder, rule);
}

static bool bound_of(cohort_schema_compiler *self, const cJSON *schema, const char *key,
                     const cJSON **out) {
    *out = cohort_schema_get(schema, key);
    if (!*out || cJSON_IsNumber(*out) || cJSON_IsBool(*out)) return true;
    return cohort_schema_refuse(self, "'%s' must be a number", key);
}

static cohort_expr number_of(cohort_schema_compiler *self, const cJSON *schema,
                             bool is_integer) {
    cohort_number_range range = {.least = -INFINITY, .most = INFINITY};
    const cJSON *least, *above, *most, *below;
    const cJSON *step = cohort_schema_get(schema, "multipleOf");
    if (!bound_of(self, schema, "minimum", &least) ||
        !bound_of(self, schema, "exclusiveMinimum", &above) ||
        !bound_of(self, schema, "maximum", &most) ||
        !bound_of(self, schema, "exclusiveMaximum", &below))
        return COHORT_EXPR_NEVER;
    if (step && !(is_integer && cJSON_IsNumber(step) && step->valuedouble == 1))
        return refuse(self, "multipleOf");
    if (cJSON_IsNumber(least)) range.least = least->valuedouble;
    if (cJSON_IsNumber(most)) range.most = most->valuedouble;
    /* Draft 4 says true beside the bound, later ones the bound itself. */
    range.above = cJSON_IsTrue(above);
    range.below = cJSON_IsTrue(below);
    if (cJSON_IsNumber(above) && above->valuedouble >= range.least) {
        range.least = above->valuedouble;
        range.above = true;
    }
    if (cJSON_IsNumber(below) && below->valuedouble <= range.most) {
        range.most = below->valuedouble;
        range.below = true;
    }
    return cohort_json_number(self->builder, is_integer, &range);
}

/* ---- arrays ------------------------------------------------------------------------ */

struct items {
    const cJSON *first; /* of prefixItems */
    cohort_expr rest;
    int32_t n_prefix, least, most;
};

static bool read_items(cohort_schema_compiler *self, const cJSON *schema,
                       struct items *out) {
    const cJSON *prefix = cohort_schema_get(schema, "prefixItems");
    const cJSON *rest = cohort_schema_get(schema, "items");
    if (cJSON_IsArray(rest)) { /* before 2020-12 */
        if (prefix)
            return cohort_schema_refuse(self, "'items' beside 'prefixItems' must "
                                              "be a schema");
        prefix = rest;
        rest = cohort_schema_get(schema, "additionalItems");
    } else if (cohort_schema_get(schema, "additionalItems") && rest) {
        return cohort_schema_refuse(self, "'additionalItems' is not supported");
    }
    if (cJSON_IsTrue(cohort_schema_get(schema, "uniqueItems")))
        return cohort_schema_refuse(self, "'uniqueItems' is not supported");
    if (!size_of(self, schema, "minItems", 0, &out->least) ||
        !size_of(self, schema, "maxItems", COHORT_UNBOUNDED, &out->most))
        return false;
    if (prefix && !cJSON_IsArray(prefix))
        return cohort_schema_refuse(self, "'prefixItems' must be a list");
    out->first = prefix ? prefix->child : NULL;
    out->n_prefix = prefix ? cJSON_GetArraySize(prefix) : 0;
    out->rest = COHORT_EXPR_NEVER;
    if (rest)
        out->rest = value_of(self, rest);
    else if (!prefix || out->least > out->n_prefix)
        out->rest = cohort_json_any(self->builder);
    return self->builder->status >= 0;
}

static cohort_expr array_of(cohort_schema_compiler *self, const cJSON *schema) {
    cohort_builder *builder = self->builder;
    struct items items = {0};
    if (!cohort_schema_get(schema, "items") &&
        !cohort_schema_get(schema, "prefixItems") &&
        !cohort_schema_get(schema, "minItems") &&
        !cohort_schema_get(schema, "maxItems") &&
        !cJSON_IsTrue(cohort_schema_get(schema, "uniqueItems")))
        return cohort_json_any_array(builder);
    if (!read_items(self, schema, &items)) return COHORT_EXPR_NEVER;
    cohort_expr space = cohort_json_white_space(builder);
    cohort_expr comma = concat(self, literal(self, ","), space);
    cohort_expr close = literal(self, "]");
    uint32_t rule = cohort_rule_reserve(builder);
    cohort_nfa nfa = {0};
    uint32_t start = cohort_nfa_state(builder, &nfa);
    uint32_t end = cohort_nfa_state(builder, &nfa);
    uint32_t at = cohort_nfa_state(builder, &nfa);
    cohort_nfa_add(builder, &nfa, concat(self, literal(self, "["), space), start, at);
    /* So many states one after the other; the last is come back to where there is no end.
     */
    int32_t n = items.most;
    if (n == COHORT_UNBOUNDED)
        n = items.least > items.n_prefix ? items.least : items.n_prefix;
    if (n == 0 && items.most == COHORT_UNBOUNDED) n = 1;
    const cJSON *prefix = items.first;
    for (int32_t i = 0; i <= n && builder->status >= 0; i++) {
        cohort_expr item = prefix ? value_of(self, prefix) : items.rest;
        if (prefix) prefix = prefix->next;
        if (i >= items.least)
            cohort_nfa_add(builder, &nfa, i ? concat(self, space, close) : close, at,
                           end);
        if (i > 0) item = concat(self, comma, item);
        uint32_t next = at;
        if (i < n) next = cohort_nfa_state(builder, &nfa);
        if (i < n || items.most == COHORT_UNBOUNDED)
            cohort_nfa_add(builder, &nfa, item, at, next);
        at = next;
    }
    cohort_rule_make(builder, rule, &nfa, start, end);
    return cohort_expr_call(builder, rule);
}

/* ---- objects ----------------------------------------------------------------------- */

struct member {
    const char *name;
    cohort_expr value;
    bool is_required;
};

struct members {
    struct member *items;
    size_t count;
    cohort_expr extra; /* the value of those without a name here */
};

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
static void add_unnamed(cohort_schema_compiler *self, const cJSON *required,
                        struct members *out) {
    const cJSON *item;
    cJSON_ArrayForEach(item, required) {
        const char *name = cJSON_GetStringValue(item);
        bool is_known = !name;
        cohort_builder_work(self->builder, out->count / 2);
        if (self->builder->status < 0) return;
        for (size_t i = 0; i < out->count && name; i++)
            is_known = is_known || !strcmp(out->items[i].name, name);
        if (!is_known) out->items[out->count++] = (struct member){name, out->extra, true};
        if (!name) cohort_schema_refuse(self, "'required' must be a list of strings");
    }
}

static bool read_members(cohort_schema_compiler *self, const cJSON *schema,
                         struct members *out) {
    const cJSON *named = cohort_schema_get(schema, "properties"), *item;
    const cJSON *required = cohort_schema_get(schema, "required");
    const cJSON *extra = cohort_schema_get(schema, "additionalProperties");
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
        out->items[out->count++] = (struct member){
            item->string, value_of(self, item), is_listed(self, required, item->string)};
    }
    bool is_open = extra ? !cJSON_IsFalse(extra) : !named;
    bool lacks = false; /* a schema for what is required */
    cJSON_ArrayForEach(item, required) {
        if (lacks || self->builder->status < 0) break;
        cohort_builder_work(self->builder, (size_t)n_named / 2);
        lacks = !cohort_schema_get(named, cJSON_IsString(item) ? item->valuestring : "");
    }
    out->extra = COHORT_EXPR_NEVER;
    if (extra && !cJSON_IsTrue(extra) && !cJSON_IsFalse(extra))
        out->extra = value_of(self, extra);
    else if (!cJSON_IsFalse(extra) && (is_open || lacks))
        out->extra = cohort_json_any(self->builder);
    add_unnamed(self, required, out);
    if (!is_open) out->extra = COHORT_EXPR_NEVER;
    return self->builder->status >= 0;
}

/* Strings without escapes that are none of the names: whoever reads the object must not
 * find one of those twice. */
static cohort_expr extra_key(cohort_schema_compiler *self,
                             const struct members *members) {
    cohort_builder *builder = self->builder;
    if (!members->count) return cohort_json_string(builder, 0, COHORT_UNBOUNDED);
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
    uint32_t rule = cohort_rule_reserve(builder);
    cohort_rule_make_expr(builder, rule,
                          quoted(self, cohort_expr_without(builder, text, names)));
    return cohort_expr_call(builder, rule);
}

/* Two states after each member: nothing was written yet, something was. */
static void add_members(cohort_schema_compiler *self, cohort_nfa *nfa,
                        const struct members *members, uint32_t at[2], uint32_t end) {
    cohort_builder *builder = self->builder;
    cohort_expr space = cohort_json_white_space(builder);
    cohort_expr comma = concat(self, literal(self, ","), space);
    cohort_expr colon = concat(self, literal(self, ":"), space);
    for (size_t i = 0; i < members->count && builder->status >= 0; i++) {
        const struct member *item = &members->items[i];
        cohort_expr key = cohort_json_quoted(builder, item->name, strlen(item->name));
        cohort_expr member = concat(self, key, concat(self, colon, item->value));
        uint32_t next[2] = {cohort_nfa_state(builder, nfa),
                            cohort_nfa_state(builder, nfa)};
        cohort_nfa_add(builder, nfa, member, at[0], next[1]);
        cohort_nfa_add(builder, nfa, concat(self, comma, member), at[1], next[1]);
        for (int any = 0; any < 2 && !item->is_required; any++)
            cohort_nfa_add(builder, nfa, COHORT_EXPR_EMPTY, at[any], next[any]);
        at[0] = next[0];
        at[1] = next[1];
    }
    if (members->extra != COHORT_EXPR_NEVER) {
        cohort_expr member =
            concat(self, extra_key(self, members), concat(self, colon, members->extra));
        uint32_t loop = cohort_nfa_state(builder, nfa);
        cohort_nfa_add(builder, nfa, COHORT_EXPR_EMPTY, at[1], loop);
        cohort_nfa_add(builder, nfa, member, at[0], loop);
        cohort_nfa_add(builder, nfa, concat(self, comma, member), loop, loop);
        at[1] = loop;
    }
    cohort_expr close = literal(self, "}");
    cohort_nfa_add(builder, nfa, close, at[0], end);
    cohort_nfa_add(builder, nfa, concat(self, space, close), at[1], end);
}

static bool check_counts(cohort_schema_compiler *self, const cJSON *schema,
                         const struct members *members) {
    int32_t least, most, n_required = 0;
    if (!size_of(self, schema, "minProperties", 0, &least) ||
        !size_of(self, schema, "maxProperties", COHORT_UNBOUNDED, &most))
        return false;
    for (size_t i = 0; i < members->count; i++)
        n_required += members->items[i].is_required;
    if (least > n_required)
        return cohort_schema_refuse(self, "'minProperties' of more than are required is "
                                          "not supported");
    if (most != COHORT_UNBOUNDED &&
        (members->extra != COHORT_EXPR_NEVER || (size_t)most < members->count))
        return cohort_schema_refuse(self, "'maxProperties' is not supported");
    return true;
}

static cohort_expr object_of(cohort_schema_compiler *self, const cJSON *schema) {
    cohort_builder *builder = self->builder;
    struct members members = {0};
    int of = cohort_schema_keywords(schema, NULL);
    if (!(of & COHORT_OF_OBJECT)) return cohort_json_any_object(builder);
    uint32_t rule = cohort_rule_reserve(builder);
    cohort_nfa nfa = {0};
    if (read_members(self, schema, &members) && check_counts(self, schema, &members)) {
        uint32_t start = cohort_nfa_state(builder, &nfa);
        uint32_t end = cohort_nfa_state(builder, &nfa);
        uint32_t open = cohort_nfa_state(builder, &nfa);
        uint32_t at[2] = {open, cohort_nfa_state(builder, &nfa)};
        cohort_nfa_add(builder, &nfa,
                       concat(self, literal(self, "{"), cohort_json_white_space(builder)),
                       start, open);
        add_members(self, &nfa, &members, at, end);
        cohort_rule_make(builder, rule, &nfa, start, end);
    }
    free(members.items);
    return cohort_expr_call(builder, rule);
}

/* ---- values ------------------------------------------------------------------------ */

static cohort_expr of_types(cohort_schema_compiler *self, const cJSON *schema,
                            int types) {
    cohort_builder *builder = self->builder;
    cohort_expr expr = COHORT_EXPR_NEVER;
    if (types & COHORT_TYPE_OBJECT) expr = object_of(self, schema);
    if (types & COHORT_TYPE_ARRAY)
        expr = cohort_expr_either(builder, array_of(self, schema), expr);
    if (types & COHORT_TYPE_STRING)
        expr = cohort_expr_either(builder, string_of(self, schema), expr);
    if (types & COHORT_TYPE_NUMBER)
        expr = cohort_expr_either(builder, number_of(self, schema, false), expr);
    else if (types & COHORT_TYPE_INTEGER)
        expr = cohort_expr_either(builder, number_of(self, schema, true), expr);
    if (types & COHORT_TYPE_BOOLEAN)
        expr =
            cohort_expr_either(builder, literal(self, "true"),
                               cohort_expr_either(builder, literal(self, "false"), expr));
    if (types & COHORT_TYPE_NULL)
        expr = cohort_expr_either(builder, literal(self, "null"), expr);
    return expr;
}

/* anyOf, or oneOf where no value is of two branches. */
static cohort_expr branches_of(cohort_schema_compiler *self, const cJSON *schema,
                               const char *key) {
    const cJSON *list = cohort_schema_get(schema, key), *item;
    const cJSON *branches[MAX_ONE_OF];
    bool is_one = !strcmp(key, "oneOf");
    cohort_expr expr = COHORT_EXPR_NEVER;
    size_t count = 0;
    if (!cJSON_IsArray(list) || !list->child) {
        cohort_schema_refuse(self, "'%s' must be a list of schemas", key);
        return expr;
    }
    const cJSON *rest = cohort_schema_without(self, schema, key);
    bool is_alone = rest && !(cohort_schema_keywords(rest, NULL) & ~COHORT_OF_NOTHING);
    bool is_sealed = cJSON_IsFalse(cohort_schema_get(rest, "unevaluatedProperties"));
    if (is_sealed) rest = cohort_schema_without(self, rest, "unevaluatedProperties");
    cJSON_ArrayForEach(item, list) {
        const cJSON *branch = item;
        if (is_one || !is_alone) {
            branch = rest ? cohort_schema_flatten(self, item) : NULL;
            if (branch && is_one && count < MAX_ONE_OF) branches[count++] = branch;
            if (branch && !is_alone) branch = cohort_schema_merge(self, rest, branch);
            if (branch && is_sealed) branch = cohort_schema_seal(self, branch);
        }
        if (!branch || self->builder->status < 0) return COHORT_EXPR_NEVER;
        /* As it was written where that is enough: a $ref is compiled once. */
        expr = cohort_expr_either(self->builder, value_of(self, is_alone ? item : branch),
                                  expr);
    }
    if (is_one && (size_t)cJSON_GetArraySize(list) > MAX_ONE_OF)
        cohort_schema_refuse(self, "'oneOf' of more than %d schemas", MAX_ONE_OF);
    else if (is_one && !cohort_schema_are_disjoint(self, branches, count))
        cohort_schema_refuse(self, "'oneOf' whose schemas may overlap is not supported; "
                                   "use 'anyOf', or a required property whose 'const' "
                                   "tells them apart");
    return expr;
}

static cohort_expr reference_of(cohort_schema_compiler *self, const char *reference) {
    const cJSON *target = cohort_schema_follow(self, reference);
    if (!target) return COHORT_EXPR_NEVER;
    for (size_t i = 0; i < self->n_references; i++)
        if (self->references[i].target == target)
            return cohort_expr_call(self->builder, self->references[i].rule);
    if (self->n_references == self->references_capacity) {
        size_t capacity = self->references_capacity ? self->references_capacity * 2 : 16;
        struct schema_reference *larger =
            realloc(self->references, capacity * sizeof *larger);
        if (!larger) {
            COHORT_BUILDER_FAIL(self->builder, COHORT_E_NOMEM, "%zu references",
                                capacity);
            return COHORT_EXPR_NEVER;
        }
        self->references = larger;
        self->references_capacity = capacity;
    }
    uint32_t rule = cohort_rule_reserve(self->builder);
    self->references[self->n_references++] = (struct schema_reference){target, rule};
    cohort_rule_make_expr(self->builder, rule, value_of(self, target));
    return cohort_expr_call(self->builder, rule);
}

static bool check_keywords(cohort_schema_compiler *self, const cJSON *schema) {
    const cJSON *item;
    cJSON_ArrayForEach(item, schema) {
        if (!cohort_schema_keyword(item->string)) {
            refuse(self, item->string);
            return false;
        }
    }
    const cJSON *unevaluated = cohort_schema_get(schema, "unevaluatedProperties");
    if (unevaluated && !cJSON_IsFalse(unevaluated)) {
        refuse(self, "unevaluatedProperties");
        return false;
    }
    return true;
}

static cohort_expr flat_value(cohort_schema_compiler *self, const cJSON *schema) {
    int types;
    if (cJSON_IsTrue(schema)) return cohort_json_any(self->builder);
    if (cJSON_IsFalse(schema)) return COHORT_EXPR_NEVER;
    if (!check_keywords(self, schema)) return COHORT_EXPR_NEVER;
    if (cohort_schema_get(schema, "anyOf")) return branches_of(self, schema, "anyOf");
    if (cohort_schema_get(schema, "oneOf")) return branches_of(self, schema, "oneOf");
    if (!cohort_schema_types(self, schema, &types)) return COHORT_EXPR_NEVER;
    if (cohort_schema_get(schema, "enum") || cohort_schema_get(schema, "const"))
        return listed(self, schema, types);
    if (types == COHORT_TYPES_ALL &&
        !(cohort_schema_keywords(schema, "type") & ~COHORT_OF_NOTHING))
        return cohort_json_any(self->builder);
    return of_types(self, schema, types);
}

static cohort_expr value_of(cohort_schema_compiler *self, const cJSON *schema) {
    cohort_expr expr = COHORT_EXPR_NEVER;
    if (self->builder->status < 0) return expr;
    if (++self->depth > COHORT_GRAMMAR_MAX_NESTING) {
        cohort_schema_refuse(self, "it nests deeper than %d", COHORT_GRAMMAR_MAX_NESTING);
        return expr;
    }
    const cJSON *reference = cohort_schema_get(schema, "$ref");
    /* A $ref beside nothing but annotations is its target. */
    bool is_plain = reference &&
                    !(cohort_schema_keywords(schema, "$ref") & ~COHORT_OF_NOTHING) &&
                    check_keywords(self, schema);
    if (is_plain) {
        expr = reference_of(self, cJSON_GetStringValue(reference));
    } else {
        const cJSON *flat = cohort_schema_flatten(self, schema);
        if (flat) expr = flat_value(self, flat);
    }
    self->depth--;
    return self->builder->status < 0 ? COHORT_EXPR_NEVER : expr;
}

uint32_t cohort_schema_compile(cohort_builder *builder, const char *text, size_t size) {
    uint32_t rule = cohort_rule_reserve(builder);
    if (size > MAX_SCHEMA_BYTES) {
        COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID,
                            "a schema of %zu bytes; at most %d can be", size,
                            MAX_SCHEMA_BYTES);
        return rule;
    }
    cJSON *root = cohort_schema_parse(builder, "the schema", text, size);
    cohort_schema_compiler self = {
        .builder = builder, .root = root, .made = cJSON_CreateArray()};
    if (!self.made) COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "a schema");
    if (root && self.made) cohort_rule_make_expr(builder, rule, value_of(&self, root));
    free(self.references);
    cJSON_Delete(self.made);
    cJSON_Delete(root);
    return rule;
}
