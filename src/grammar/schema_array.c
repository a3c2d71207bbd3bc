/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "base/fail.h"
#include "grammar/schema_internal.h"

/* Design notes.
 *
 * A state for each number of items, and in each for how many of them `contains` was
 * counted.  Items that must differ are of few values, with a state for each set of those
 * that were written. */

enum { MAX_UNIQUE = 8, MAX_CONTAINED = 64 };

struct items {
    const cJSON *prefix; /* the first of prefixItems that was not yet written */
    const cJSON *rest, *contained;
    int32_t n_prefix, least, most;
    int32_t n_least, n_most; /* of those that are contained */
};

static cohort_expr literal(cohort_schema_compiler *self, const char *text) {
    return cohort_expr_literal(self->builder, text, strlen(text));
}

static cohort_expr concat(cohort_schema_compiler *self, cohort_expr a, cohort_expr b) {
    return cohort_expr_concat(self->builder, a, b);
}

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
    }
    if (!cohort_schema_size(self, schema, "minItems", 0, &out->least) ||
        !cohort_schema_size(self, schema, "maxItems", COHORT_UNBOUNDED, &out->most) ||
        !cohort_schema_size(self, schema, "minContains", 1, &out->n_least) ||
        !cohort_schema_size(self, schema, "maxContains", COHORT_UNBOUNDED, &out->n_most))
        return false;
    if (prefix && !cJSON_IsArray(prefix))
        return cohort_schema_refuse(self, "'prefixItems' must be a list");
    out->prefix = prefix ? prefix->child : NULL;
    out->n_prefix = prefix ? cJSON_GetArraySize(prefix) : 0;
    out->contained = cohort_schema_get(schema, "contains");
    if (!out->contained) out->n_least = 0;
    if (!out->contained) out->n_most = COHORT_UNBOUNDED;
    out->rest = rest;
    /* Items that nobody speaks of are written where they must be. */
    if (!rest && (!prefix || out->least > out->n_prefix || out->contained))
        out->rest = cohort_schema_literal(self, true);
    if (out->n_least > MAX_CONTAINED || out->n_most > MAX_CONTAINED)
        return cohort_schema_refuse(
            self, "'minContains' and 'maxContains' of more than %d are not supported",
            MAX_CONTAINED);
    return self->builder->status >= 0;
}

/* An item that is counted, and one that is not. */
struct item {
    cohort_expr counted, other;
};

static struct item item_of(cohort_schema_compiler *self, const struct items *items,
                           const cJSON *schema) {
    struct item item = {COHORT_EXPR_NEVER, COHORT_EXPR_NEVER};
    if (!schema) return item;
    if (!items->contained) {
        item.other = cohort_schema_value(self, schema);
        return item;
    }
    const cJSON *both = cohort_schema_both(self, schema, items->contained);
    const cJSON *other = schema;
    if (items->n_most != COHORT_UNBOUNDED)
        other = cohort_schema_except(self, schema, items->contained);
    if (both) item.counted = cohort_schema_value(self, both);
    if (other) item.other = cohort_schema_value(self, other);
    return item;
}

static void add_items(cohort_schema_compiler *self, cohort_nfa *nfa, struct items *items,
                      uint32_t open, uint32_t end) {
    cohort_builder *builder = self->builder;
    cohort_expr space = cohort_grammar_json_white_space(builder);
    cohort_expr comma = concat(self, literal(self, ","), space);
    cohort_expr close = literal(self, "]");
    uint32_t at[MAX_CONTAINED + 1], next[MAX_CONTAINED + 1];
    bool is_capped = items->n_most == COHORT_UNBOUNDED;
    int32_t last = is_capped ? items->n_least : items->n_most;
    for (int32_t c = 0; c <= last; c++)
        at[c] = c ? cohort_nfa_state(builder, nfa) : open;
    /* So many states one after the other; the last is come back to where there is no end.
     */
    int32_t n = items->most;
    if (n == COHORT_UNBOUNDED)
        n = items->least > items->n_prefix ? items->least : items->n_prefix;
    if (n == 0 && items->most == COHORT_UNBOUNDED) n = 1;
    struct item rest = item_of(self, items, items->rest);
    for (int32_t i = 0; i <= n && builder->status >= 0; i++) {
        struct item item = items->prefix ? item_of(self, items, items->prefix) : rest;
        if (items->prefix) items->prefix = items->prefix->next;
        for (int32_t c = items->n_least; c <= last && i >= items->least; c++)
            cohort_nfa_add(builder, nfa, i ? concat(self, space, close) : close, at[c],
                           end);
        if (i == n && items->most != COHORT_UNBOUNDED) break;
        for (int32_t c = 0; c <= last; c++)
            next[c] = i < n ? cohort_nfa_state(builder, nfa) : at[c];
        if (i > 0) item.counted = concat(self, comma, item.counted);
        if (i > 0) item.other = concat(self, comma, item.other);
        for (int32_t c = 0; c <= last && builder->status >= 0; c++) {
            cohort_nfa_add(builder, nfa, item.other, at[c], next[c]);
            if (c < last || is_capped)
                cohort_nfa_add(builder, nfa, item.counted, at[c],
                               next[c < last ? c + 1 : last]);
        }
        memcpy(at, next, ((size_t)last + 1) * sizeof *at);
    }
}

/* Values that items may have, where they are few. */
struct values {
    const cJSON *items[MAX_UNIQUE];
    cohort_expr exprs[MAX_UNIQUE];
    int n;
};

/* False: they are too many. */
static bool add_value(cohort_schema_compiler *self, const cJSON *schema,
                      const cJSON *value, struct values *out) {
    cohort_expr expr = cohort_schema_listed(self, schema, value);
    int i = 0;
    if (cohort_expr_is_never(self->builder, expr)) return true;
    while (i < out->n && !cohort_schema_are_same(self, out->items[i], value))
        i++;
    if (i == MAX_UNIQUE) return false;
    if (i == out->n) {
        out->items[out->n] = value;
        out->exprs[out->n++] = COHORT_EXPR_NEVER;
    }
    out->exprs[i] = cohort_expr_either(self->builder, expr, out->exprs[i]);
    return true;
}

static bool add_made(cohort_schema_compiler *self, const cJSON *schema, cJSON *value,
                     struct values *out) {
    cJSON *holder = cohort_schema_make(self);
    if (holder && cJSON_AddItemToObject(holder, "const", value))
        return add_value(self, schema, value, out);
    cJSON_Delete(value);
    return false;
}

/* Both of booleans, null, and whole numbers between bounds. */
static bool add_typed(cohort_schema_compiler *self, const cJSON *schema,
                      struct values *out) {
    int types;
    if (!cohort_schema_types(self, schema, &types) || types & COHORT_TYPE_NUMBER ||
        types & ~(COHORT_TYPE_INTEGER | COHORT_TYPE_BOOLEAN | COHORT_TYPE_NULL))
        return false;
    if (types & COHORT_TYPE_BOOLEAN &&
        (!add_made(self, schema, cJSON_CreateBool(false), out) ||
         !add_made(self, schema, cJSON_CreateBool(true), out)))
        return false;
    if (types & COHORT_TYPE_NULL && !add_made(self, schema, cJSON_CreateNull(), out))
        return false;
    if (!(types & COHORT_TYPE_INTEGER)) return true;
    const cJSON *least = cohort_schema_get(schema, "minimum");
    const cJSON *most = cohort_schema_get(schema, "maximum");
    if (!least) least = cohort_schema_get(schema, "exclusiveMinimum");
    if (!most) most = cohort_schema_get(schema, "exclusiveMaximum");
    if (!cJSON_IsNumber(least) || !cJSON_IsNumber(most) ||
        !(most->valuedouble - least->valuedouble <= MAX_UNIQUE + 1))
        return false;
    /* From 0, not from -0. */
    for (double value = ceil(least->valuedouble) + 0.0; value <= most->valuedouble;
         value += 1)
        if (!add_made(self, schema, cJSON_CreateNumber(value), out)) return false;
    return true;
}

static bool add_values(cohort_schema_compiler *self, const cJSON *schema,
                       struct values *out);

static bool add_branches(cohort_schema_compiler *self, const cJSON *flat,
                         struct values *out) {
    const cJSON *rest = cohort_schema_without(self, flat, "anyOf"), *item;
    bool fits = rest != NULL;
    cJSON_ArrayForEach(item, cohort_schema_get(flat, "anyOf")) {
        const cJSON *branch = fits ? cohort_schema_both(self, rest, item) : NULL;
        fits = fits && (!branch || add_values(self, branch, out));
    }
    return fits;
}

/* False: there are too many, or nobody can count them. */
static bool add_values(cohort_schema_compiler *self, const cJSON *schema,
                       struct values *out) {
    const cJSON *flat = cohort_schema_flatten(self, schema), *item;
    const cJSON *many = flat ? cohort_schema_get(flat, "enum") : NULL;
    const cJSON *one = flat ? cohort_schema_get(flat, "const") : NULL;
    bool fits = flat && ++self->depth <= COHORT_GRAMMAR_MAX_NESTING;
    if (!fits) return false;
    if (cJSON_IsFalse(flat)) {
        /* there are none */
    } else if (cohort_schema_get(flat, "anyOf")) {
        fits = add_branches(self, flat, out);
    } else if (many || one) {
        cJSON_ArrayForEach(item, many) fits = fits && add_value(self, flat, item, out);
        if (!many) fits = add_value(self, flat, one, out);
    } else {
        fits = add_typed(self, flat, out);
    }
    self->depth--;
    return fits;
}

/* Each of few values at most once; false: they are too many. */
static bool add_unique(cohort_schema_compiler *self, cohort_nfa *nfa,
                       const struct items *items, uint32_t open, uint32_t end) {
    cohort_builder *builder = self->builder;
    struct values values = {0};
    uint32_t states[1 << MAX_UNIQUE];
    if (!items->rest || items->prefix || items->contained ||
        !add_values(self, items->rest, &values))
        return false;
    int n = values.n;
    cohort_expr space = cohort_grammar_json_white_space(builder);
    cohort_expr comma = concat(self, literal(self, ","), space);
    cohort_expr close = literal(self, "]");
    for (uint32_t set = 0; set < 1u << n; set++)
        states[set] = set ? cohort_nfa_state(builder, nfa) : open;
    for (uint32_t set = 0; set < 1u << n && builder->status >= 0; set++) {
        int32_t size = __builtin_popcount(set);
        if (size >= items->least && (items->most < 0 || size <= items->most))
            cohort_nfa_add(builder, nfa, size ? concat(self, space, close) : close,
                           states[set], end);
        for (int i = 0; i < n; i++) {
            if (set >> i & 1 || (items->most >= 0 && size >= items->most)) continue;
            cohort_nfa_add(builder, nfa,
                           size ? concat(self, comma, values.exprs[i]) : values.exprs[i],
                           states[set], states[set | 1u << i]);
        }
    }
    return true;
}

cohort_expr cohort_schema_array(cohort_schema_compiler *self, const cJSON *schema) {
    static const char *const keys[] = {"items", "prefixItems", "minItems", "maxItems",
                                       "contains"};
    cohort_builder *builder = self->builder;
    struct items items = {0};
    bool is_unique = cJSON_IsTrue(cohort_schema_get(schema, "uniqueItems"));
    bool is_any = !is_unique;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        is_any = is_any && !cohort_schema_get(schema, keys[i]);
    if (is_any) return cohort_grammar_json_any_array(builder);
    if (!read_items(self, schema, &items)) return COHORT_EXPR_NEVER;
    uint32_t rule = cohort_rule_reserve(builder);
    cohort_nfa nfa = {0};
    uint32_t start = cohort_nfa_state(builder, &nfa);
    uint32_t end = cohort_nfa_state(builder, &nfa);
    uint32_t open = cohort_nfa_state(builder, &nfa);
    cohort_nfa_add(
        builder, &nfa,
        concat(self, literal(self, "["), cohort_grammar_json_white_space(builder)), start,
        open);
    if (!is_unique || (items.most >= 0 && items.most <= 1))
        add_items(self, &nfa, &items, open, end);
    else if (!add_unique(self, &nfa, &items, open, end))
        cohort_schema_refuse(self,
                             "'uniqueItems' is supported for items of at most %d values "
                             "('enum', 'boolean', an 'integer' between bounds), or with "
                             "'maxItems' 1",
                             MAX_UNIQUE);
    cohort_rule_make(builder, rule, &nfa, start, end);
    return cohort_expr_call(builder, rule);
}
