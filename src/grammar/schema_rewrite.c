/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "grammar/schema_internal.h"

/* Design notes.
 *
 * What says "if" or "not" is written as an anyOf of plain schemas, so that one way of
 * reading is left.  The contrary of a schema is that one of its keywords does not hold;
 * only what is surely not valid for it is written, and members without a name are not. */

/* ---- making schemas ---------------------------------------------------------------- */

static bool is_made(cohort_schema_compiler *self, const void *item) {
    if (item) return true;
    COHORT_BUILDER_FAIL(self->builder, COHORT_E_NOMEM, "a schema");
    return false;
}

/* {"type": type}; NULL: of any. */
static cJSON *typed(cohort_schema_compiler *self, const char *type) {
    cJSON *made = cohort_schema_make(self);
    if (made && type && !is_made(self, cJSON_AddStringToObject(made, "type", type)))
        return NULL;
    return made;
}

const cJSON *cohort_schema_literal(cohort_schema_compiler *self, bool value) {
    cJSON *holder = cohort_schema_make(self);
    return holder ? cJSON_AddBoolToObject(holder, "value", value) : NULL;
}

static cJSON *with_list(cohort_schema_compiler *self, cJSON *made, const char *key) {
    cJSON *list = made ? cJSON_AddArrayToObject(made, key) : NULL;
    return is_made(self, list) ? list : NULL;
}

static bool append(cohort_schema_compiler *self, cJSON *list, const cJSON *item) {
    cJSON *target;
    memcpy(&target, &item, sizeof target);
    if (!list || !item || !cohort_schema_count_node(self)) return false;
    return is_made(self, cJSON_AddItemReferenceToArray(list, target) ? list : NULL);
}

/* {key: item} */
static const cJSON *wrapped(cohort_schema_compiler *self, const char *type,
                            const char *key, const cJSON *item) {
    cJSON *made = typed(self, type);
    return made && item && cohort_schema_refer(self, made, key, item) ? made : NULL;
}

const cJSON *cohort_schema_both(cohort_schema_compiler *self, const cJSON *a,
                                const cJSON *b) {
    cJSON *made = typed(self, NULL), *list = with_list(self, made, "allOf");
    return append(self, list, a) && append(self, list, b) ? made : NULL;
}

static const cJSON *any_of(cohort_schema_compiler *self, const cJSON *a, const cJSON *b) {
    cJSON *made = typed(self, NULL), *list = with_list(self, made, "anyOf");
    return append(self, list, a) && append(self, list, b) ? made : NULL;
}

static const cJSON *with_number(cohort_schema_compiler *self, const char *type,
                                const char *key, double value) {
    cJSON *made = typed(self, type);
    return made && is_made(self, cJSON_AddNumberToObject(made, key, value)) ? made : NULL;
}

/* An object that has the member (value NULL: any), or that has it not. */
static const cJSON *having(cohort_schema_compiler *self, const char *name,
                           const cJSON *value) {
    cJSON *made = typed(self, "object"), *list = with_list(self, made, "required");
    cJSON *string = list ? cJSON_CreateString(name) : NULL;
    if (!string || !cJSON_AddItemToArray(list, string)) return NULL;
    const cJSON *named = value ? wrapped(self, NULL, name, value) : NULL;
    if (value && (!named || !cohort_schema_refer(self, made, "properties", named)))
        return NULL;
    return made;
}

static const cJSON *lacking(cohort_schema_compiler *self, const char *name) {
    return wrapped(self, "object", "properties",
                   wrapped(self, NULL, name, cohort_schema_literal(self, false)));
}

/* ---- the contrary ------------------------------------------------------------------ */

static const cJSON *contrary_type(cohort_schema_compiler *self, const cJSON *schema) {
    static const struct {
        const char *name;
        int type;
    } names[] = {{"object", COHORT_TYPE_OBJECT},   {"array", COHORT_TYPE_ARRAY},
                 {"string", COHORT_TYPE_STRING},   {"number", COHORT_TYPE_INTEGER},
                 {"boolean", COHORT_TYPE_BOOLEAN}, {"null", COHORT_TYPE_NULL}};
    int types;
    cJSON *made = typed(self, NULL), *list = with_list(self, made, "type");
    if (!list || !cohort_schema_types(self, schema, &types)) return NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!(types & names[i].type))
            cJSON_AddItemToArray(list, cJSON_CreateString(names[i].name));
    return made;
}

static bool contrary_members(cohort_schema_compiler *self, const char *key,
                             const cJSON *value, cJSON *out) {
    const cJSON *item;
    bool is_named = !strcmp(key, "properties");
    cJSON_ArrayForEach(item, value) {
        if (!is_named && !cJSON_IsString(item)) continue;
        const cJSON *one =
            is_named ? having(self, item->string, wrapped(self, NULL, "not", item))
                     : lacking(self, item->valuestring);
        if (!append(self, out, one)) return false;
    }
    return true;
}

/* The contrary of a list of schemas: of all of anyOf's, of one of allOf's. */
static bool contrary_list(cohort_schema_compiler *self, bool is_any, const cJSON *value,
                          cJSON *out) {
    const cJSON *item;
    cJSON *made = is_any ? typed(self, NULL) : NULL;
    cJSON *list = is_any ? with_list(self, made, "allOf") : out;
    cJSON_ArrayForEach(item, value) {
        if (!append(self, list, wrapped(self, NULL, "not", item))) return false;
    }
    return !is_any || append(self, out, made);
}

/* A bound: one more or less than what it lets through. */
static const cJSON *contrary_bound(cohort_schema_compiler *self, const cJSON *schema,
                                   const cJSON *bound) {
    static const struct {
        const char *key, *contrary, *type;
        double step;
    } sizes[] = {{"minLength", "maxLength", "string", -1},
                 {"maxLength", "minLength", "string", 1},
                 {"minItems", "maxItems", "array", -1},
                 {"maxItems", "minItems", "array", 1},
                 {"minProperties", "maxProperties", "object", -1},
                 {"maxProperties", "minProperties", "object", 1},
                 {"minimum", "exclusiveMaximum", "number", 0},
                 {"maximum", "exclusiveMinimum", "number", 0},
                 {"exclusiveMinimum", "maximum", "number", 0},
                 {"exclusiveMaximum", "minimum", "number", 0}};
    bool is_out = (!strcmp(bound->string, "minimum") &&
                   cJSON_IsTrue(cohort_schema_get(schema, "exclusiveMinimum"))) ||
                  (!strcmp(bound->string, "maximum") &&
                   cJSON_IsTrue(cohort_schema_get(schema, "exclusiveMaximum")));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (strcmp(sizes[i].key, bound->string) != 0) continue;
        const char *key = sizes[i].contrary;
        double value = bound->valuedouble + sizes[i].step;
        if (is_out) key = !strcmp(bound->string, "minimum") ? "maximum" : "minimum";
        if (sizes[i].step == 0) return wrapped(self, sizes[i].type, key, bound);
        if (value < 0) return cohort_schema_literal(self, false);
        return with_number(self, sizes[i].type, key, value);
    }
    return NULL;
}

static bool contrary_keyword(cohort_schema_compiler *self, const cJSON *schema,
                             const cJSON *item, cJSON *out) {
    const char *key = item->string;
    int of = cohort_schema_keyword(key);
    if (of == COHORT_OF_NOTHING) return true;
    if (!strcmp(key, "type")) return append(self, out, contrary_type(self, schema));
    if (!strcmp(key, "enum"))
        return append(self, out, wrapped(self, NULL, COHORT_SCHEMA_NOT_ENUM, item));
    if (!strcmp(key, "const")) {
        cJSON *made = typed(self, NULL);
        return append(self, with_list(self, made, COHORT_SCHEMA_NOT_ENUM), item) &&
               append(self, out, made);
    }
    if (!strcmp(key, "properties") || !strcmp(key, "required"))
        return contrary_members(self, key, item, out);
    if (!strcmp(key, "anyOf") || !strcmp(key, "oneOf") || !strcmp(key, "allOf"))
        return contrary_list(self, strcmp(key, "allOf") != 0, item, out);
    if (!strcmp(key, "not")) return append(self, out, item);
    if (!strcmp(key, "$ref")) {
        const cJSON *target = cohort_schema_follow(self, cJSON_GetStringValue(item));
        return append(self, out, wrapped(self, NULL, "not", target));
    }
    if (!strcmp(key, "pattern") && cJSON_IsString(item)) {
        cJSON *made = typed(self, "string");
        return append(self, with_list(self, made, COHORT_SCHEMA_NOT_PATTERN), item) &&
               append(self, out, made);
    }
    if (!strcmp(key, "contains") && !cohort_schema_get(schema, "minContains") &&
        !cohort_schema_get(schema, "maxContains"))
        return append(self, out,
                      wrapped(self, "array", "items", wrapped(self, NULL, "not", item)));
    if (!strcmp(key, "items") && !cJSON_IsArray(item) &&
        !cohort_schema_get(schema, "prefixItems"))
        return append(
            self, out,
            wrapped(self, "array", "contains", wrapped(self, NULL, "not", item)));
    if (!strcmp(key, "additionalProperties") || !strcmp(key, "patternProperties") ||
        !strcmp(key, "propertyNames") || cJSON_IsBool(item))
        return true; /* of members without a name, or said by the bound beside it */
    const cJSON *bound = cJSON_IsNumber(item) ? contrary_bound(self, schema, item) : NULL;
    if (bound) return append(self, out, bound);
    if (self->builder->status < 0) return false;
    return cohort_schema_refuse(self, "'%.60s' in a 'not' or 'if' is not supported", key);
}

static const cJSON *contrary(cohort_schema_compiler *self, const cJSON *schema) {
    const cJSON *item;
    if (cJSON_IsBool(schema)) return cohort_schema_literal(self, cJSON_IsFalse(schema));
    if (!cJSON_IsObject(schema))
        return cohort_schema_refuse(self, "'not' must be a schema");
    cJSON *made = typed(self, NULL), *list = with_list(self, made, "anyOf");
    if (!list) return NULL;
    cJSON_ArrayForEach(item, schema) {
        if (!contrary_keyword(self, schema, item, list)) return NULL;
    }
    if (!list->child) return cohort_schema_literal(self, false); /* everything is valid */
    return list->child->next ? made : list->child;
}

/* ---- if, and what depends on a member ---------------------------------------------- */

static const cJSON *conditional(cohort_schema_compiler *self, const cJSON *schema) {
    const cJSON *test = cohort_schema_get(schema, "if");
    const cJSON *then = cohort_schema_get(schema, "then");
    const cJSON *other = cohort_schema_get(schema, "else");
    if (!test || (!then && !other)) return cohort_schema_literal(self, true);
    const cJSON *contrary_of_test = wrapped(self, NULL, "not", test);
    const cJSON *yes = then ? cohort_schema_both(self, test, then) : test;
    const cJSON *no =
        other ? cohort_schema_both(self, contrary_of_test, other) : contrary_of_test;
    return any_of(self, yes, no);
}

/* Each member that others depend on is not there, or they are, too. */
static const cJSON *dependent(cohort_schema_compiler *self, const cJSON *list) {
    const cJSON *item, *name;
    cJSON *made = typed(self, NULL), *all = with_list(self, made, "allOf");
    cJSON_ArrayForEach(item, list) {
        const cJSON *there = having(self, item->string, NULL), *rest = item;
        if (cJSON_IsArray(item)) {
            cJSON *copy = typed(self, "object");
            cJSON *names = with_list(self, copy, "required");
            cJSON_ArrayForEach(name, item) {
                if (!append(self, names, name)) return NULL;
            }
            rest = copy;
        }
        const cJSON *both = there ? cohort_schema_both(self, there, rest) : NULL;
        const cJSON *absent = lacking(self, item->string);
        const cJSON *either = both && absent ? any_of(self, absent, both) : NULL;
        if (!append(self, all, either)) return NULL;
    }
    return made;
}

const cJSON *cohort_schema_except(cohort_schema_compiler *self, const cJSON *a,
                                  const cJSON *b) {
    const cJSON *other = wrapped(self, NULL, "not", b);
    return other ? cohort_schema_both(self, a, other) : NULL;
}

const cJSON *cohort_schema_rewrite(cohort_schema_compiler *self, const cJSON *flat) {
    static const char *const keys[] = {"not", "if", "dependentRequired",
                                       "dependentSchemas", "dependencies"};
    for (size_t i = 0; flat && i < sizeof keys / sizeof *keys; i++) {
        const cJSON *item = cohort_schema_get(flat, keys[i]);
        if (!item) continue;
        const cJSON *said = i == 0   ? contrary(self, item)
                            : i == 1 ? conditional(self, flat)
                                     : dependent(self, item);
        flat = said ? cohort_schema_without(self, flat, keys[i]) : NULL;
        if (flat && i == 1) flat = cohort_schema_without(self, flat, "then");
        if (flat && i == 1) flat = cohort_schema_without(self, flat, "else");
        said = flat ? cohort_schema_flatten(self, said) : NULL;
        flat = said ? cohort_schema_merge(self, flat, said) : NULL;
    }
    if (!flat || !cohort_schema_get(flat, "oneOf")) return flat;
    /* Strictly, what is valid for two of them is not; as others do, it is let through. */
    const cJSON *one = wrapped(self, NULL, "anyOf", cohort_schema_get(flat, "oneOf"));
    flat = one ? cohort_schema_without(self, flat, "oneOf") : NULL;
    return flat ? cohort_schema_merge(self, flat, one) : NULL;
}
