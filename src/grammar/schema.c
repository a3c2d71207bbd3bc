/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/grow.h"
#include "grammar/schema_internal.h"

/* Design notes.
 *
 * Every object, array and string is a rule; a $ref is a rule by its target, so that
 * schemas may refer to themselves.  What remains of a schema after flattening is read
 * type by type; the value is one of the types' expressions. */

enum { MAX_SCHEMA_BYTES = 256 << 10, MAX_LENGTH = 1 << 20 };

static cohort_expr string_of(cohort_schema_compiler *self, const cJSON *schema);
static cohort_expr number_of(cohort_schema_compiler *self, const cJSON *schema,
                             bool is_integer);
/* NULL: a format that we do not know. */

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
bool cohort_schema_size(cohort_schema_compiler *self, const cJSON *schema,
                        const char *key, int32_t fallback, int32_t *out) {
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
        return cohort_grammar_json_quoted(self->builder, value->valuestring,
                                          strlen(value->valuestring));
    if (cJSON_IsBool(value)) return literal(self, cJSON_IsTrue(value) ? "true" : "false");
    if (cJSON_IsNull(value)) return literal(self, "null");
    if (cJSON_IsNumber(value)) {
        double number = value->valuedouble;
        if (cohort_schema_digits(value)) return literal(self, value->valuestring);
        if (!(fabs(number) < 0x1p53)) {
            cohort_schema_refuse(self, "a listed number of 2^53 or more is not supported "
                                       "with a point or an exponent");
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
            one = concat(self,
                         cohort_grammar_json_quoted(self->builder, item->string,
                                                    strlen(item->string)),
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

/* Is it one of those that are not valid? */
static bool is_excluded(cohort_schema_compiler *self, const cJSON *schema,
                        const cJSON *value) {
    const cJSON *item;
    cJSON_ArrayForEach(item, cohort_schema_get(schema, COHORT_SCHEMA_NOT_ENUM)) {
        if (cohort_schema_are_same(self, item, value)) return true;
    }
    return false;
}

/* What the keywords beside it say of a listed value. */
static bool is_let_through(cohort_schema_compiler *self, const cJSON *schema,
                           const cJSON *value) {
    cohort_builder *builder = self->builder;
    int of = cohort_schema_keywords(schema, NULL);
    if (is_excluded(self, schema, value)) return false;
    if ((cJSON_IsObject(value) && of & COHORT_OF_OBJECT) ||
        (cJSON_IsArray(value) && of & COHORT_OF_ARRAY))
        return cohort_schema_refuse(self, "an object or a list in an 'enum' or 'const' "
                                          "beside what it must have is not supported");
    if (cJSON_IsString(value) && of & COHORT_OF_STRING) {
        cohort_expr text = COHORT_EXPR_EMPTY;
        for (size_t i = strlen(value->valuestring); i-- > 0;)
            text = concat(
                self, cohort_grammar_json_escaped(builder, value->valuestring[i]), text);
        return !cohort_expr_is_never(
            builder,
            cohort_expr_both(builder, text, cohort_schema_content(self, schema)));
    }
    if (cJSON_IsNumber(value) && of & COHORT_OF_NUMBER)
        return !cohort_expr_is_never(builder,
                                     cohort_expr_both(builder, constant(self, value),
                                                      number_of(self, schema, false)));
    return true;
}

cohort_expr cohort_schema_listed(cohort_schema_compiler *self, const cJSON *schema,
                                 const cJSON *value) {
    const cJSON *one = cohort_schema_get(schema, "const");
    int types;
    bool is_in = cohort_schema_types(self, schema, &types) && has_type(value, types) &&
                 (!one || cohort_schema_are_same(self, value, one)) &&
                 is_let_through(self, schema, value);
    return is_in ? constant(self, value) : COHORT_EXPR_NEVER;
}

static cohort_expr listed(cohort_schema_compiler *self, const cJSON *schema) {
    const cJSON *one = cohort_schema_get(schema, "const"), *item;
    const cJSON *many = cohort_schema_get(schema, "enum");
    cohort_expr expr = COHORT_EXPR_NEVER;
    if (many && !cJSON_IsArray(many)) {
        cohort_schema_refuse(self, "'enum' must be a list");
        return COHORT_EXPR_NEVER;
    }
    cJSON_ArrayForEach(item, many) expr =
        cohort_expr_either(self->builder, cohort_schema_listed(self, schema, item), expr);
    return many ? expr : cohort_schema_listed(self, schema, one);
}

/* ---- strings and numbers ----------------------------------------------------------- */

/* All of a pattern, or of a list of them. */
static cohort_expr and_patterns(cohort_schema_compiler *self, const cJSON *patterns,
                                bool is_not, cohort_expr content) {
    bool is_list = cJSON_IsArray(patterns);
    for (const cJSON *item = is_list ? patterns->child : patterns; item;
         item = is_list ? item->next : NULL) {
        if (!cJSON_IsString(item) || (is_list && !is_not && !patterns->child->next)) {
            cohort_schema_refuse(self, "'pattern' must be a string");
            return COHORT_EXPR_NEVER;
        }
        cohort_expr expr = cohort_schema_pattern(self, item->valuestring);
        if (is_not)
            content = cohort_expr_without(self->builder, content, expr);
        else
            content = content ? cohort_expr_both(self->builder, content, expr) : expr;
    }
    return content;
}

/* One character of a regex for each, so that it is spelled as patterns spell it. */
static cohort_expr spelled_as_patterns(cohort_schema_compiler *self, const char *text) {
    cohort_expr expr = COHORT_EXPR_EMPTY;
    const uint8_t *at = (const uint8_t *)text;
    utf8proc_int32_t code;
    for (utf8proc_ssize_t n; (n = utf8proc_iterate(at, -1, &code)) > 0 && code; at += n) {
        cohort_code_set set = {0};
        cohort_code_set_add(self->builder, &set, (uint32_t)code, (uint32_t)code);
        expr = concat(self, expr, cohort_expr_codes(self->builder, &set, true));
        cohort_code_set_deinit(&set);
    }
    return expr;
}

/* Of one value's. */
struct formats {
    const char *names[COHORT_MAX_KNOWN_FORMATS];
    size_t count;
};

/* Those of a "format", or of the list that allOf made of several, each once; one that we
 * do not know is an annotation. */
static struct formats formats_of(const cJSON *schema) {
    const cJSON *format = cohort_schema_get(schema, "format");
    bool is_list = cJSON_IsArray(format);
    struct formats found = {.count = 0};
    for (const cJSON *item = is_list ? format->child : format; item;
         item = is_list ? item->next : NULL) {
        const char *name = cJSON_GetStringValue(item);
        bool is_new = cohort_schema_knows_format(name);
        for (size_t i = 0; i < found.count && is_new; i++)
            is_new = strcmp(found.names[i], name) != 0;
        if (is_new) found.names[found.count++] = name;
    }
    return found;
}

/* Of a few formats only a character may be more than a byte. */
static cohort_expr unit_of(cohort_schema_compiler *self, const cJSON *pattern,
                           const struct formats *formats) {
    bool is_bytes = false;
    for (size_t i = 0; i < formats->count && !pattern; i++)
        is_bytes |= !strstr(formats->names[i], "pointer") &&
                    strcmp(formats->names[i], "iri") != 0;
    return is_bytes ? cohort_expr_range(self->builder, ' ', '~')
                    : cohort_grammar_json_character(self->builder);
}

cohort_expr cohort_schema_content(cohort_schema_compiler *self, const cJSON *schema) {
    cohort_builder *builder = self->builder;
    const cJSON *pattern = cohort_schema_get(schema, "pattern"), *item;
    const cJSON *not_pattern = cohort_schema_get(schema, COHORT_SCHEMA_NOT_PATTERN);
    const cJSON *not_enum = cohort_schema_get(schema, COHORT_SCHEMA_NOT_ENUM);
    const struct formats formats = formats_of(schema);
    int32_t least, most;
    if (!cohort_schema_size(self, schema, "minLength", 0, &least) ||
        !cohort_schema_size(self, schema, "maxLength", COHORT_UNBOUNDED, &most) ||
        (most != COHORT_UNBOUNDED && most < least))
        return COHORT_EXPR_NEVER;
    bool is_bounded = least > 0 || most != COHORT_UNBOUNDED;
    cohort_expr content = COHORT_EXPR_EMPTY;
    bool is_beside =
        pattern || not_pattern || not_enum || is_bounded || formats.count > 1;
    for (size_t i = 0; i < formats.count; i++) {
        cohort_expr one = cohort_schema_format(builder, formats.names[i], is_beside);
        content = i > 0 ? cohort_expr_both(builder, content, one) : one;
    }
    if (pattern) content = and_patterns(self, pattern, false, content);
    if (!formats.count && !pattern) content = cohort_schema_pattern(self, "^[\\s\\S]*$");
    if (not_pattern) content = and_patterns(self, not_pattern, true, content);
    cJSON_ArrayForEach(item, not_enum) {
        if (cJSON_IsString(item))
            content = cohort_expr_without(builder, content,
                                          spelled_as_patterns(self, item->valuestring));
    }
    if (!is_bounded) return content;
    for (size_t i = 0; i < formats.count; i++)
        most = cohort_schema_format_most(formats.names[i], most);
    return cohort_expr_bounded(builder, content, unit_of(self, pattern, &formats), least,
                               most);
}

static bool excludes(const cJSON *schema, bool (*is_of)(const cJSON *)) {
    const cJSON *item;
    cJSON_ArrayForEach(item, cohort_schema_get(schema, COHORT_SCHEMA_NOT_ENUM)) {
        if (is_of(item)) return true;
    }
    return false;
}

static bool is_string(const cJSON *item) { return cJSON_IsString(item); }

static bool is_number(const cJSON *item) { return cJSON_IsNumber(item); }

static cohort_expr string_of(cohort_schema_compiler *self, const cJSON *schema) {
    cohort_builder *builder = self->builder;
    const struct formats formats = formats_of(schema);
    int32_t least, most;
    bool is_more = formats.count > 1 || cohort_schema_get(schema, "pattern") ||
                   cohort_schema_get(schema, COHORT_SCHEMA_NOT_PATTERN) ||
                   excludes(schema, is_string);
    if (!cohort_schema_size(self, schema, "minLength", 0, &least) ||
        !cohort_schema_size(self, schema, "maxLength", COHORT_UNBOUNDED, &most))
        return COHORT_EXPR_NEVER;
    if (!is_more && !formats.count)
        return cohort_grammar_json_string(builder, least, most);
    for (size_t i = 0; i < self->n_formats && !is_more; i++) {
        const struct known_format *known = &self->formats[i];
        if (!strcmp(known->name, formats.names[0]) && known->least == least &&
            known->most == most)
            return cohort_expr_call(builder, known->rule);
    }
    cohort_expr content = cohort_schema_content(self, schema);
    uint32_t rule = cohort_rule_reserve(builder);
    cohort_rule_make_expr(builder, rule, quoted(self, content));
    if (!is_more && self->n_formats < COHORT_MAX_KNOWN_FORMATS)
        self->formats[self->n_formats++] =
            (struct known_format){formats.names[0], least, most, rule};
    return cohort_expr_call(builder, rule);
}

/* Plain decimals that are none of the listed numbers. */
static cohort_expr without_numbers(cohort_schema_compiler *self, const cJSON *schema,
                                   cohort_expr expr) {
    static const cohort_regex_options options = {.name = "schema: not"};
    char text[512];
    const cJSON *item;
    const char *plain = "-?[0-9]+(\\.[0-9]+)?";
    expr = cohort_expr_both(
        self->builder, expr,
        cohort_regex_parse(self->builder, plain, strlen(plain), &options));
    cJSON_ArrayForEach(item, cohort_schema_get(schema, COHORT_SCHEMA_NOT_ENUM)) {
        if (!cJSON_IsNumber(item)) continue;
        if (fabs(item->valuedouble) > 1e15) {
            cohort_schema_refuse(self, "'not' of a number above 1e15 is not supported");
            return COHORT_EXPR_NEVER;
        }
        int n = snprintf(text, sizeof text, "%s%.17g", item->valuedouble == 0 ? "-?" : "",
                         item->valuedouble);
        for (int places = 0; places <= 30; places++) {
            n = snprintf(text, sizeof text, "%s%.*f", item->valuedouble == 0 ? "-?" : "",
                         places, item->valuedouble);
            if (strtod(text + (*text == '-' && text[1] == '?' ? 2 : 0), NULL) ==
                item->valuedouble)
                break;
        }
        char *point = strchr(text, '.');
        if (point) { /* a regex */
            memmove(point + 1, point, strlen(point) + 1);
            *point = '\\';
        }
        snprintf(text + n + (point ? 1 : 0), 32, point ? "0*" : "(\\.0+)?");
        expr = cohort_expr_without(
            self->builder, expr,
            cohort_regex_parse(self->builder, text, strlen(text), &options));
    }
    return expr;
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
    if (cJSON_IsNumber(least)) range.least = least->valuedouble;
    if (cJSON_IsNumber(most)) range.most = most->valuedouble;
    range.least_digits = cohort_schema_digits(least);
    range.most_digits = cohort_schema_digits(most);
    /* Draft 4 says true beside the bound, later ones the bound itself. */
    range.above = cJSON_IsTrue(above);
    range.below = cJSON_IsTrue(below);
    bool has_least = cJSON_IsNumber(least), has_most = cJSON_IsNumber(most);
    if (cJSON_IsNumber(above) &&
        (!has_least || cohort_schema_compare_numbers(above, least) >= 0)) {
        range.least = above->valuedouble;
        range.least_digits = cohort_schema_digits(above);
        range.above = true;
    }
    if (cJSON_IsNumber(below) &&
        (!has_most || cohort_schema_compare_numbers(below, most) <= 0)) {
        range.most = below->valuedouble;
        range.most_digits = cohort_schema_digits(below);
        range.below = true;
    }
    cohort_expr expr = cohort_grammar_json_number(self->builder, is_integer, &range);
    for (const cJSON *item = cJSON_IsArray(step) ? step->child : step; item;
         item = item == step ? NULL : item->next) {
        if (is_integer && cJSON_IsNumber(item) && item->valuedouble == 1) continue;
        expr = cohort_expr_both(
            self->builder, expr,
            cohort_grammar_json_multiple(self->builder,
                                         cJSON_IsNumber(item) ? item->valuedouble : 0));
    }
    return excludes(schema, is_number) ? without_numbers(self, schema, expr) : expr;
}

/* ---- values ------------------------------------------------------------------------ */

static cohort_expr of_types(cohort_schema_compiler *self, const cJSON *schema,
                            int types) {
    cohort_builder *builder = self->builder;
    cohort_expr expr = COHORT_EXPR_NEVER;
    const cJSON *item;
    cJSON_ArrayForEach(item, cohort_schema_get(schema, COHORT_SCHEMA_NOT_ENUM)) {
        if ((cJSON_IsObject(item) && types & COHORT_TYPE_OBJECT) ||
            (cJSON_IsArray(item) && types & COHORT_TYPE_ARRAY)) {
            cohort_schema_refuse(self, "'not' of a listed object or list is not "
                                       "supported");
            return expr;
        }
    }
    if (types & COHORT_TYPE_OBJECT) expr = cohort_schema_object(self, schema);
    if (types & COHORT_TYPE_ARRAY)
        expr = cohort_expr_either(builder, cohort_schema_array(self, schema), expr);
    if (types & COHORT_TYPE_STRING)
        expr = cohort_expr_either(builder, string_of(self, schema), expr);
    if (types & COHORT_TYPE_NUMBER)
        expr = cohort_expr_either(builder, number_of(self, schema, false), expr);
    else if (types & COHORT_TYPE_INTEGER)
        expr = cohort_expr_either(builder, number_of(self, schema, true), expr);
    const cJSON holder = {.type = cJSON_NULL}, yes = {.type = cJSON_True},
                no = {.type = cJSON_False};
    if (types & COHORT_TYPE_BOOLEAN && !is_excluded(self, schema, &yes))
        expr = cohort_expr_either(builder, literal(self, "true"), expr);
    if (types & COHORT_TYPE_BOOLEAN && !is_excluded(self, schema, &no))
        expr = cohort_expr_either(builder, literal(self, "false"), expr);
    if (types & COHORT_TYPE_NULL && !is_excluded(self, schema, &holder))
        expr = cohort_expr_either(builder, literal(self, "null"), expr);
    return expr;
}

static cohort_expr branches_of(cohort_schema_compiler *self, const cJSON *schema) {
    const cJSON *list = cohort_schema_get(schema, "anyOf"), *item;
    cohort_expr expr = COHORT_EXPR_NEVER;
    if (!cJSON_IsArray(list) || !list->child) {
        cohort_schema_refuse(self, "'anyOf' and 'oneOf' must be lists of schemas");
        return expr;
    }
    const cJSON *rest = cohort_schema_without(self, schema, "anyOf");
    bool is_alone = rest && !(cohort_schema_keywords(rest, NULL) & ~COHORT_OF_NOTHING);
    bool is_sealed = cJSON_IsFalse(cohort_schema_get(rest, "unevaluatedProperties"));
    if (is_sealed) rest = cohort_schema_without(self, rest, "unevaluatedProperties");
    cJSON_ArrayForEach(item, list) {
        const cJSON *branch = item; /* as it was written: a $ref is compiled once */
        if (!is_alone) {
            branch = rest ? cohort_schema_flatten(self, item) : NULL;
            if (branch) branch = cohort_schema_merge(self, rest, branch);
            if (branch && is_sealed) branch = cohort_schema_seal(self, branch);
        }
        if (!branch || self->builder->status < 0) return COHORT_EXPR_NEVER;
        expr = cohort_expr_either(self->builder, cohort_schema_value(self, branch), expr);
    }
    return expr;
}

static cohort_expr reference_of(cohort_schema_compiler *self, const char *reference) {
    const cJSON *target = cohort_schema_follow(self, reference);
    if (!target) return COHORT_EXPR_NEVER;
    for (size_t i = 0; i < self->n_references; i++)
        if (self->references[i].target == target)
            return cohort_expr_call(self->builder, self->references[i].rule);
    struct schema_reference *larger =
        cohort_grow(self->references, self->n_references + 1, &self->references_capacity,
                    sizeof *larger);
    if (!larger) {
        COHORT_BUILDER_FAIL(self->builder, COHORT_E_NOMEM, "%zu references",
                            self->n_references + 1);
        return COHORT_EXPR_NEVER;
    }
    self->references = larger;
    uint32_t rule = cohort_rule_reserve(self->builder);
    self->references[self->n_references++] = (struct schema_reference){target, rule};
    cohort_rule_make_expr(self->builder, rule, cohort_schema_value(self, target));
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
    if (cJSON_IsTrue(schema)) return cohort_grammar_json_any(self->builder);
    if (cJSON_IsFalse(schema)) return COHORT_EXPR_NEVER;
    if (!check_keywords(self, schema)) return COHORT_EXPR_NEVER;
    if (cohort_schema_get(schema, "anyOf")) return branches_of(self, schema);
    if (!cohort_schema_types(self, schema, &types)) return COHORT_EXPR_NEVER;
    if (cohort_schema_get(schema, "enum") || cohort_schema_get(schema, "const"))
        return listed(self, schema);
    if (types == COHORT_TYPES_ALL &&
        !(cohort_schema_keywords(schema, "type") & ~COHORT_OF_NOTHING))
        return cohort_grammar_json_any(self->builder);
    return of_types(self, schema, types);
}

cohort_expr cohort_schema_value(cohort_schema_compiler *self, const cJSON *schema) {
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
    if (root && self.made)
        cohort_rule_make_expr(builder, rule, cohort_schema_value(&self, root));
    free(self.references);
    cJSON_Delete(self.made);
    cJSON_Delete(root);
    return rule;
}
