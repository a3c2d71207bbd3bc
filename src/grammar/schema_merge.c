/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "grammar/schema_internal.h"

/* Design notes.
 *
 * A schema may say a thing in several places: $ref beside other keywords, allOf, a base
 * beside anyOf.  All of it is merged into one flat schema first.  Where two keywords
 * can't be said as one, or mean something else once they stand together
 * (additionalProperties knows only the properties beside it), the schema is refused:
 * never widened. */

/* Of 100 bytes each. */
enum { MAX_MADE = 20000, MAX_NODES = 200000 };

static const struct {
    const char *name;
    int of;
} keywords[] = {
    {"type", COHORT_OF_ANY},
    {"enum", COHORT_OF_ANY},
    {"const", COHORT_OF_ANY},
    {"$ref", COHORT_OF_ANY},
    {"anyOf", COHORT_OF_ANY},
    {"oneOf", COHORT_OF_ANY},
    {"allOf", COHORT_OF_ANY},
    {"properties", COHORT_OF_OBJECT},
    {"required", COHORT_OF_OBJECT},
    {"additionalProperties", COHORT_OF_OBJECT},
    {"unevaluatedProperties", COHORT_OF_OBJECT},
    {"minProperties", COHORT_OF_OBJECT},
    {"maxProperties", COHORT_OF_OBJECT},
    {"items", COHORT_OF_ARRAY},
    {"prefixItems", COHORT_OF_ARRAY},
    {"additionalItems", COHORT_OF_ARRAY},
    {"minItems", COHORT_OF_ARRAY},
    {"maxItems", COHORT_OF_ARRAY},
    {"uniqueItems", COHORT_OF_ARRAY},
    {"pattern", COHORT_OF_STRING},
    {"format", COHORT_OF_STRING},
    {"minLength", COHORT_OF_STRING},
    {"maxLength", COHORT_OF_STRING},
    {"minimum", COHORT_OF_NUMBER},
    {"maximum", COHORT_OF_NUMBER},
    {"exclusiveMinimum", COHORT_OF_NUMBER},
    {"exclusiveMaximum", COHORT_OF_NUMBER},
    {"multipleOf", COHORT_OF_NUMBER},
    {"not", COHORT_OF_ANY},
    {"if", COHORT_OF_ANY},
    {"then", COHORT_OF_ANY},
    {"else", COHORT_OF_ANY},
    {"patternProperties", COHORT_OF_OBJECT},
    {"propertyNames", COHORT_OF_OBJECT},
    {"dependentRequired", COHORT_OF_ANY},
    {"dependentSchemas", COHORT_OF_ANY},
    {"dependencies", COHORT_OF_ANY},
    {"contains", COHORT_OF_ARRAY},
    {"minContains", COHORT_OF_ARRAY},
    {"maxContains", COHORT_OF_ARRAY},
    {COHORT_SCHEMA_NOT_ENUM, COHORT_OF_ANY},
    {COHORT_SCHEMA_NOT_PATTERN, COHORT_OF_STRING},
};

/* Constraints that we do not do.  All other names are annotations, also those that nobody
 * knows (JSON Schema core, 6.5), and OpenAPI's nullable: to JSON Schema a null is not
 * valid there. */
static const char *const refused[] = {
    "unevaluatedItems",
    "$dynamicRef",
    "$recursiveRef",
};

const cJSON *cohort_schema_refuse(cohort_schema_compiler *self, const char *format, ...) {
    char text[COHORT_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    COHORT_BUILDER_FAIL(self->builder, COHORT_E_INVALID, "schema: %s", text);
    return NULL;
}

const cJSON *cohort_schema_get(const cJSON *schema, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(schema, key);
}

int cohort_schema_keyword(const char *key) {
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (!strcmp(keywords[i].name, key)) return keywords[i].of;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (!strcmp(refused[i], key)) return 0;
    return COHORT_OF_NOTHING;
}

int cohort_schema_keywords(const cJSON *schema, const char *except) {
    const cJSON *item;
    int of = 0;
    cJSON_ArrayForEach(item, schema) {
        if (!except || strcmp(item->string, except) != 0)
            of |= cohort_schema_keyword(item->string);
    }
    return of;
}

/* ---- types ------------------------------------------------------------------------- */

static int type_of_name(const char *name) {
    static const struct {
        const char *name;
        int type;
    } types[] = {
        {"object", COHORT_TYPE_OBJECT},
        {"array", COHORT_TYPE_ARRAY},
        {"string", COHORT_TYPE_STRING},
        {"number", COHORT_TYPE_NUMBER | COHORT_TYPE_INTEGER},
        {"integer", COHORT_TYPE_INTEGER},
        {"boolean", COHORT_TYPE_BOOLEAN},
        {"null", COHORT_TYPE_NULL},
    };
    for (size_t i = 0; name && i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, name)) return types[i].type;
    return 0;
}

static int type_of_value(const cJSON *value) {
    if (cJSON_IsObject(value)) return COHORT_TYPE_OBJECT;
    if (cJSON_IsArray(value)) return COHORT_TYPE_ARRAY;
    if (cJSON_IsString(value)) return COHORT_TYPE_STRING;
    if (cJSON_IsBool(value)) return COHORT_TYPE_BOOLEAN;
    if (cJSON_IsNull(value)) return COHORT_TYPE_NULL;
    return COHORT_TYPE_NUMBER | COHORT_TYPE_INTEGER;
}

bool cohort_schema_types(cohort_schema_compiler *self, const cJSON *schema, int *out) {
    const cJSON *type = cohort_schema_get(schema, "type"), *item;
    const cJSON *values = cohort_schema_get(schema, "enum");
    const cJSON *constant = cohort_schema_get(schema, "const");
    *out = 0;
    if (cJSON_IsArray(type)) {
        cJSON_ArrayForEach(item, type) {
            int one = type_of_name(cJSON_GetStringValue(item));
            if (!one) return cohort_schema_refuse(self, "'type' has an unknown name");
            *out |= one;
        }
    } else if (type) {
        *out = type_of_name(cJSON_GetStringValue(type));
        if (!*out)
            return cohort_schema_refuse(self, "'type' is '%.40s', which is none",
                                        cJSON_IsString(type) ? type->valuestring : "");
    } else if (constant) {
        *out = type_of_value(constant);
    } else if (values) {
        cJSON_ArrayForEach(item, values) *out |= type_of_value(item);
    } else {
        /* Its keywords say of what it is; strictly, everything else would be valid too.
         */
        int of = cohort_schema_keywords(schema, NULL);
        *out = (of & COHORT_OF_OBJECT ? COHORT_TYPE_OBJECT : 0) |
               (of & COHORT_OF_ARRAY ? COHORT_TYPE_ARRAY : 0) |
               (of & COHORT_OF_STRING ? COHORT_TYPE_STRING : 0) |
               (of & COHORT_OF_NUMBER ? COHORT_TYPE_NUMBER | COHORT_TYPE_INTEGER : 0);
        if (!*out) *out = COHORT_TYPES_ALL;
    }
    return true;
}

/* ---- references -------------------------------------------------------------------- */

/* One part of a JSON pointer, ~0 and ~1 and percent signs resolved. */
static bool pointer_part(const char *from, size_t size, char *out, size_t capacity) {
    size_t n = 0;
    for (size_t i = 0; i < size && n + 1 < capacity; i++) {
        unsigned code;
        if (from[i] == '~' && i + 1 < size &&
            (from[i + 1] == '0' || from[i + 1] == '1')) {
            out[n++] = from[++i] == '0' ? '~' : '/';
        } else if (from[i] == '%' && i + 2 < size &&
                   sscanf(from + i + 1, "%2x", &code) == 1) {
            out[n++] = (char)code;
            i += 2;
        } else {
            out[n++] = from[i];
        }
    }
    out[n] = '\0';
    return n + 1 < capacity;
}

/* Every member of the one is looked for among those of the other; NULL: one is. */
static bool look(cohort_schema_compiler *self, const cJSON *for_, const cJSON *among) {
    size_t n = (size_t)cJSON_GetArraySize(for_), m = 1;
    if (among) m += (size_t)cJSON_GetArraySize(among);
    cohort_builder_work(self->builder, n * m / 2 + 1);
    return self->builder->status >= 0;
}

const cJSON *cohort_schema_follow(cohort_schema_compiler *self, const char *reference) {
    const cJSON *at = self->root;
    const char *part = reference;
    if (!part || *part++ != '#' || (*part && *part != '/'))
        return cohort_schema_refuse(self,
                                    "$ref '%.80s' is not supported: '#' and '#/...' are",
                                    reference ? reference : "");
    while (at && *part == '/') {
        char name[256];
        look(self, at, NULL);
        size_t size = strcspn(++part, "/");
        if (!pointer_part(part, size, name, sizeof name)) break;
        part += size;
        at = cJSON_IsArray(at) ? cJSON_GetArrayItem(at, atoi(name))
                               : cohort_schema_get(at, name);
    }
    if (!at || *part)
        return cohort_schema_refuse(self, "$ref '%.80s' leads nowhere", reference);
    return at;
}

/* ---- comparing --------------------------------------------------------------------- */

/* cJSON_Compare takes twice as long for each level of objects. */
bool cohort_schema_are_same(cohort_schema_compiler *self, const cJSON *a,
                            const cJSON *b) {
    cohort_builder_work(self->builder, 1);
    if ((a->type & 0xff) != (b->type & 0xff) || self->builder->status < 0) return false;
    if (cJSON_IsNumber(a)) return !cohort_schema_compare_numbers(a, b);
    if (!a->child || !b->child) return cJSON_Compare(a, b, true);
    if (a->child == b->child) return true;
    if (cJSON_GetArraySize(a) != cJSON_GetArraySize(b)) return false;
    const cJSON *x = a->child, *y = b->child;
    for (; x; x = x->next, y = y->next) {
        const cJSON *other = y;
        if (cJSON_IsObject(a) && strcmp(x->string, y->string) != 0)
            other = look(self, b, NULL) ? cohort_schema_get(b, x->string) : NULL;
        if (!other || !cohort_schema_are_same(self, x, other)) return false;
    }
    return true;
}

/* ---- merging ----------------------------------------------------------------------- */

/* A new schema, kept until the compiler is done. */
cJSON *cohort_schema_make(cohort_schema_compiler *self) {
    if (self->n_made++ >= MAX_MADE) {
        cohort_schema_refuse(self, "it combines more than %d schemas", MAX_MADE);
        return NULL;
    }
    cJSON *made = cJSON_CreateObject();
    if (!made || !cJSON_AddItemToArray(self->made, made)) {
        COHORT_BUILDER_FAIL(self->builder, COHORT_E_NOMEM, "a schema");
        return NULL;
    }
    return made;
}

bool cohort_schema_count_node(cohort_schema_compiler *self) {
    if (self->n_nodes++ < MAX_NODES) return true;
    return cohort_schema_refuse(self,
                                "combining its parts takes more than %d members; make "
                                "allOf, anyOf, if and not of large schemas fewer",
                                MAX_NODES);
}

bool cohort_schema_refer(cohort_schema_compiler *self, cJSON *to, const char *key,
                         const cJSON *item) {
    cJSON *target;
    if (!cohort_schema_count_node(self)) return false;
    memcpy(&target, &item, sizeof target); /* cJSON takes no const; it copies the node */
    if (cJSON_AddItemReferenceToObject(to, key, target)) return true;
    COHORT_BUILDER_FAIL(self->builder, COHORT_E_NOMEM, "a schema");
    return false;
}

static cJSON *copy_without(cohort_schema_compiler *self, const cJSON *schema,
                           const char *key) {
    const cJSON *item;
    cJSON *made = look(self, schema, NULL) ? cohort_schema_make(self) : NULL;
    if (!made) return NULL;
    cJSON_ArrayForEach(item, schema) {
        if (strcmp(item->string, key) != 0 &&
            !cohort_schema_refer(self, made, item->string, item))
            return NULL;
    }
    return made;
}

const cJSON *cohort_schema_without(cohort_schema_compiler *self, const cJSON *schema,
                                   const char *key) {
    return copy_without(self, schema, key);
}

static bool has_branches(const cJSON *schema) {
    return cohort_schema_get(schema, "anyOf") || cohort_schema_get(schema, "oneOf");
}

/* Only where all that names members is in one place does it mean no others. */
const cJSON *cohort_schema_seal(cohort_schema_compiler *self, const cJSON *flat) {
    const char *key =
        has_branches(flat) ? "unevaluatedProperties" : "additionalProperties";
    if (!cJSON_IsObject(flat) || cohort_schema_get(flat, "additionalProperties") ||
        cohort_schema_get(flat, key))
        return flat; /* it says of all others what they are */
    cJSON *made = copy_without(self, flat, key);
    if (made && !cJSON_AddFalseToObject(made, key)) {
        COHORT_BUILDER_FAIL(self->builder, COHORT_E_NOMEM, "a schema");
        return NULL;
    }
    return made;
}

/* ---- members ----------------------------------------------------------------------- */

static const cJSON *and_patterns(cohort_schema_compiler *self, const cJSON *schema,
                                 const char *name, const cJSON *value) {
    const cJSON *item;
    cJSON_ArrayForEach(item, cohort_schema_get(schema, "patternProperties")) {
        if (self->builder->status < 0) return NULL;
        if (!cohort_schema_matches(self, item->string, name)) continue;
        value = value ? cohort_schema_both(self, value, item) : item;
        if (!value) return NULL;
    }
    return value;
}

const cJSON *cohort_schema_with_patterns(cohort_schema_compiler *self,
                                         const cJSON *schema, const cJSON *property) {
    return and_patterns(self, schema, property->string, property);
}

const cJSON *cohort_schema_rest(cohort_schema_compiler *self, const cJSON *schema,
                                const char *name) {
    const cJSON *value = and_patterns(self, schema, name, NULL);
    const cJSON *rest = cohort_schema_get(schema, "additionalProperties");
    if (value || self->builder->status < 0) return value;
    return rest && !cJSON_IsTrue(rest) ? rest : NULL;
}

/* The members that a names, as b sees them, too; those that both name are a's. */
static bool merge_named(cohort_schema_compiler *self, cJSON *out, const cJSON *a,
                        const cJSON *b, bool is_first) {
    const cJSON *named_a = cohort_schema_get(a, "properties"), *item;
    const cJSON *named_b = cohort_schema_get(b, "properties");
    if (!look(self, named_a, named_b)) return false;
    cJSON_ArrayForEach(item, named_a) {
        const cJSON *other = cohort_schema_get(named_b, item->string);
        if (other && !is_first) continue;
        if (!other) other = cohort_schema_rest(self, b, item->string);
        const cJSON *value = other ? cohort_schema_both(self, item, other) : item;
        if (self->builder->status < 0 || !out || !value ||
            !cohort_schema_refer(self, out, item->string, value))
            return false;
    }
    return true;
}

/* Patterns of a.  Where b has no members but its own, those of a say nothing more: they
 * were heeded where b names members. */
static bool merge_patterns(cohort_schema_compiler *self, cJSON *out, const cJSON *a,
                           const cJSON *b, bool is_first) {
    const cJSON *rest = cohort_schema_get(b, "additionalProperties"), *item;
    const cJSON *others = cohort_schema_get(b, "patternProperties");
    cJSON_ArrayForEach(item, cohort_schema_get(a, "patternProperties")) {
        const cJSON *other = cohort_schema_get(others, item->string);
        if (other && !is_first) continue;
        if (!other && cJSON_IsFalse(rest)) continue;
        if (!other && rest && !cJSON_IsTrue(rest))
            return cohort_schema_refuse(self, "'patternProperties' beside another part's "
                                              "'additionalProperties' is not supported");
        const cJSON *value = other ? cohort_schema_both(self, item, other) : item;
        if (!out || !value || !cohort_schema_refer(self, out, item->string, value))
            return false;
    }
    return true;
}

/* What both say of members, put together at once: each speaks of those that the other
 * names, too. */
static bool merge_members(cohort_schema_compiler *self, cJSON *made, const cJSON *a,
                          const cJSON *b) {
    static const char *const keys[] = {"properties", "patternProperties"};
    for (int i = 0; i < 2; i++) {
        if (!cohort_schema_get(a, keys[i]) && !cohort_schema_get(b, keys[i])) continue;
        cJSON *out = cJSON_AddObjectToObject(made, keys[i]);
        bool (*merge)(cohort_schema_compiler *, cJSON *, const cJSON *, const cJSON *,
                      bool) = i ? merge_patterns : merge_named;
        if (!merge(self, out, a, b, true) || !merge(self, out, b, a, false)) return false;
    }
    return true;
}

static bool merge_required(cohort_schema_compiler *self, cJSON *made, const cJSON *a,
                           const cJSON *b) {
    cJSON *out = cJSON_AddArrayToObject(made, "required");
    const cJSON *lists[] = {a, b}, *item;
    for (int i = 0; i < 2; i++)
        cJSON_ArrayForEach(item, lists[i]) {
            cJSON *target;
            memcpy(&target, &item, sizeof target);
            if (!out || !cJSON_AddItemReferenceToArray(out, target)) {
                COHORT_BUILDER_FAIL(self->builder, COHORT_E_NOMEM, "a schema");
                return false;
            }
        }
    return true;
}

static bool merge_types(cohort_schema_compiler *self, cJSON *made, const cJSON *a,
                        const cJSON *b) {
    static const char *const names[] = {"object",  "array",   "string", "number",
                                        "integer", "boolean", "null"};
    int left, right;
    if (!cohort_schema_types(self, a, &left) || !cohort_schema_types(self, b, &right))
        return false;
    cJSON *out = cJSON_AddArrayToObject(made, "type");
    for (size_t i = 0; out && i < sizeof names / sizeof *names; i++) {
        int type = type_of_name(names[i]);
        if ((left & right & type) == type)
            cJSON_AddItemToArray(out, cJSON_CreateString(names[i]));
    }
    return out;
}

static bool merge_enum(cohort_schema_compiler *self, cJSON *made, const cJSON *a,
                       const cJSON *b) {
    cJSON *out = cJSON_AddArrayToObject(made, "enum");
    const cJSON *x, *y;
    cJSON_ArrayForEach(x, a) {
        bool is_in = false;
        if (self->builder->status < 0) return false;
        cJSON_ArrayForEach(y, b) is_in = is_in || cohort_schema_are_same(self, x, y);
        cJSON *target;
        memcpy(&target, &x, sizeof target);
        if (out && is_in) cJSON_AddItemReferenceToArray(out, target);
    }
    return out;
}

static bool is_any_of(const char *key, const char *const *names) {
    while (*names && strcmp(*names, key) != 0)
        names++;
    return *names;
}

/* All of what a says and of what b says; one alone may stand for a list. */
static bool merge_lists(cohort_schema_compiler *self, cJSON *made, const char *key,
                        const cJSON *a, const cJSON *b) {
    cJSON *out = cJSON_AddArrayToObject(made, key);
    const cJSON *lists[] = {a, b}, *item;
    for (int i = 0; i < 2; i++) {
        bool is_list = cJSON_IsArray(lists[i]);
        for (item = is_list ? lists[i]->child : lists[i]; item;
             item = is_list ? item->next : NULL) {
            cJSON *target;
            memcpy(&target, &item, sizeof target);
            if (!out || !cohort_schema_count_node(self) ||
                !cJSON_AddItemReferenceToArray(out, target))
                return false;
        }
    }
    return true;
}

/* Each choice of a, with all choices of b. */
static bool merge_choices(cohort_schema_compiler *self, cJSON *made, const cJSON *a,
                          const cJSON *b) {
    cJSON *out = cJSON_AddArrayToObject(made, "anyOf"),
          *choice = cohort_schema_make(self);
    const cJSON *item;
    if (!out || !choice || !cohort_schema_refer(self, choice, "anyOf", b)) return false;
    cJSON_ArrayForEach(item, a) {
        const cJSON *both = cohort_schema_both(self, item, choice);
        cJSON *target;
        memcpy(&target, &both, sizeof target);
        if (!both || !cJSON_AddItemReferenceToArray(out, target)) return false;
    }
    return true;
}

/* One keyword that both have, and differently. */
static bool merge_keyword(cohort_schema_compiler *self, cJSON *made, const char *key,
                          const cJSON *schema_a, const cJSON *schema_b) {
    static const char *const schemas[] = {"items", "additionalProperties",
                                          "propertyNames", NULL};
    static const char *const lower[] = {"minimum",  "exclusiveMinimum", "minLength",
                                        "minItems", "minProperties",    NULL};
    static const char *const upper[] = {"maximum",  "exclusiveMaximum", "maxLength",
                                        "maxItems", "maxProperties",    NULL};
    const cJSON *a = cohort_schema_get(schema_a, key);
    const cJSON *b = cohort_schema_get(schema_b, key);
    bool are_numbers = cJSON_IsNumber(a) && cJSON_IsNumber(b);
    if (!strcmp(key, "required")) return merge_required(self, made, a, b);
    if (!strcmp(key, "type")) return merge_types(self, made, schema_a, schema_b);
    if (!strcmp(key, "enum")) return merge_enum(self, made, a, b);
    if (!strcmp(key, "const")) return cJSON_AddArrayToObject(made, "enum");
    if (!strcmp(key, COHORT_SCHEMA_NOT_ENUM) || !strcmp(key, COHORT_SCHEMA_NOT_PATTERN) ||
        !strcmp(key, "pattern") || !strcmp(key, "format") || !strcmp(key, "multipleOf"))
        return merge_lists(self, made, key, a, b);
    if (!strcmp(key, "anyOf")) return merge_choices(self, made, a, b);
    if (!strcmp(key, "uniqueItems"))
        return cohort_schema_refer(self, made, key, cJSON_IsTrue(a) ? a : b);
    if (is_any_of(key, schemas) && !cJSON_IsArray(a) && !cJSON_IsArray(b)) {
        const cJSON *value = cohort_schema_both(self, a, b);
        if (cJSON_IsBool(a)) value = cJSON_IsTrue(a) ? b : a;
        if (cJSON_IsBool(b)) value = cJSON_IsTrue(b) ? a : b;
        return value && cohort_schema_refer(self, made, key, value);
    }
    if (are_numbers && is_any_of(key, lower))
        return cohort_schema_refer(self, made, key,
                                   cohort_schema_compare_numbers(a, b) > 0 ? a : b);
    if (are_numbers && is_any_of(key, upper))
        return cohort_schema_refer(self, made, key,
                                   cohort_schema_compare_numbers(a, b) < 0 ? a : b);
    return cohort_schema_refuse(self,
                                "two different '%.40s' for one value are not "
                                "supported",
                                key);
}

/* What cannot be said as one. */
static bool check_closed(cohort_schema_compiler *self, const cJSON *a, const cJSON *b) {
    if (cohort_schema_get(a, "unevaluatedProperties") &&
        (cohort_schema_get(b, "properties") || has_branches(b)))
        return cohort_schema_refuse(self,
                                    "'unevaluatedProperties' with an anyOf or oneOf, "
                                    "beside another part's properties, is not supported");
    bool has_prefix =
        cohort_schema_get(a, "prefixItems") || cohort_schema_get(a, "items");
    if (has_prefix && cohort_schema_get(b, "prefixItems"))
        return cohort_schema_refuse(self,
                                    "'prefixItems' beside another part's 'items' is "
                                    "not supported");
    return true;
}

const cJSON *cohort_schema_merge(cohort_schema_compiler *self, const cJSON *a,
                                 const cJSON *b) {
    static const char *const of_members[] = {"properties", "patternProperties", NULL};
    const cJSON *item;
    if (cJSON_IsTrue(a) || cJSON_IsFalse(b)) return b;
    if (cJSON_IsTrue(b) || cJSON_IsFalse(a)) return a;
    if (!look(self, a, b) || !look(self, b, a)) return NULL;
    if (!check_closed(self, a, b) || !check_closed(self, b, a)) return NULL;
    cJSON *made = cohort_schema_make(self);
    if (!made || !merge_members(self, made, a, b)) return NULL;
    cJSON_ArrayForEach(item, a) {
        if (is_any_of(item->string, of_members)) continue;
        const cJSON *other = cohort_schema_get(b, item->string);
        bool is_same = !other || cohort_schema_are_same(self, item, other) ||
                       cohort_schema_keyword(item->string) == COHORT_OF_NOTHING;
        bool fine = is_same ? cohort_schema_refer(self, made, item->string, item)
                            : merge_keyword(self, made, item->string, a, b);
        if (!fine) return NULL;
    }
    cJSON_ArrayForEach(item, b) {
        if (!is_any_of(item->string, of_members) && !cohort_schema_get(a, item->string) &&
            !cohort_schema_refer(self, made, item->string, item))
            return NULL;
    }
    return made;
}

const cJSON *cohort_schema_flatten(cohort_schema_compiler *self, const cJSON *schema) {
    const cJSON *item, *flat = schema;
    if (cJSON_IsTrue(schema) || cJSON_IsFalse(schema)) return schema;
    if (!cJSON_IsObject(schema))
        return cohort_schema_refuse(self, "a schema must be an object, true or false");
    if (++self->depth > COHORT_GRAMMAR_MAX_NESTING)
        return cohort_schema_refuse(self, "it nests deeper than %d, or refers to itself",
                                    COHORT_GRAMMAR_MAX_NESTING);
    const cJSON *reference = cohort_schema_get(schema, "$ref");
    /* It knows what the parts name, and nothing that stands beside the schema. */
    bool is_sealed = cJSON_IsFalse(cohort_schema_get(schema, "unevaluatedProperties"));
    if (is_sealed) flat = cohort_schema_without(self, flat, "unevaluatedProperties");
    if (flat && reference) {
        flat = cohort_schema_without(self, flat, "$ref");
        const cJSON *target =
            flat ? cohort_schema_follow(self, cJSON_GetStringValue(reference)) : NULL;
        target = target ? cohort_schema_flatten(self, target) : NULL;
        flat = target ? cohort_schema_merge(self, flat, target) : NULL;
    }
    const cJSON *all = cohort_schema_get(flat, "allOf");
    if (flat && all) {
        flat = cohort_schema_without(self, flat, "allOf");
        cJSON_ArrayForEach(item, all) {
            const cJSON *part = flat ? cohort_schema_flatten(self, item) : NULL;
            flat = part ? cohort_schema_merge(self, flat, part) : NULL;
        }
    }
    if (flat) flat = cohort_schema_rewrite(self, flat);
    if (flat && is_sealed) flat = cohort_schema_seal(self, flat);
    self->depth--;
    return flat;
}
