/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/schema_internal.h"

/* Values as pydantic takes them: numbers also in texts, and what fits one of several
 * shapes. */

/* ---- plain values ------------------------------------------------------------------ */

bool cohort_server_schema_fault(schema_reader *self, const char *kind,
                                const char *message, const cJSON *value) {
    cohort_api_fault(self->error, kind, self->location, message, value, NULL);
    return false;
}

static bool is_blank(const char *text) {
    while (isspace((unsigned char)*text))
        text++;
    return !*text;
}

static bool read_number(schema_reader *self, const cJSON *value, double *out) {
    const char *text = cJSON_GetStringValue(value);
    if (cJSON_IsNumber(value) || cJSON_IsBool(value)) {
        *out = cJSON_IsNumber(value) ? value->valuedouble : cJSON_IsTrue(value);
        return true;
    }
    if (!text)
        return cohort_server_schema_fault(self, "float_type",
                                          "Input should be a valid number", value);
    char *end;
    *out = strtod(text, &end);
    if (end != text && is_blank(end)) return true;
    return cohort_server_schema_fault(
        self, "float_parsing",
        "Input should be a valid number, unable to parse string as a number", value);
}

/* The digits that the item has beside it, where a double has not all of them. */
static bool read_digits(const cJSON *value, int64_t *out) {
    char *end;
    if (!cJSON_IsNumber(value) || !value->valuestring) return false;
    errno = 0;
    *out = strtoll(value->valuestring, &end, 10);
    return !*end && !errno;
}

static bool read_integer(schema_reader *self, const cJSON *value, int64_t *out) {
    const char *text = cJSON_GetStringValue(value);
    double number;
    if (text) {
        char *end;
        errno = 0;
        long long parsed = strtoll(text, &end, 10);
        *out = parsed;
        if (end != text && !errno && is_blank(end)) return true;
        return cohort_server_schema_fault(
            self, "int_parsing",
            "Input should be a valid integer, unable to parse string as an integer",
            value);
    }
    if (!cJSON_IsNumber(value) && !cJSON_IsBool(value))
        return cohort_server_schema_fault(self, "int_type",
                                          "Input should be a valid integer", value);
    if (read_digits(value, out)) return true;
    number = cJSON_IsNumber(value) ? value->valuedouble : cJSON_IsTrue(value);
    if (number != floor(number))
        return cohort_server_schema_fault(
            self, "int_from_float",
            "Input should be a valid integer, got a number with a fractional part",
            value);
    if (!(fabs(number) < 0x1p63))
        return cohort_server_schema_fault(
            self, "int_parsing_size",
            "Unable to parse input string as an integer, exceeded maximum size", value);
    *out = (int64_t)number;
    return true;
}

int64_t cohort_api_id(const cJSON *item) {
    cohort_api_error none = {0};
    schema_reader quiet = {.error = &none};
    int64_t id;
    bool is_integer = read_integer(&quiet, item, &id);
    cohort_api_error_deinit(&none);
    return is_integer ? id : -1;
}

static bool read_truth(schema_reader *self, const cJSON *value, int64_t *out) {
    static const char *const words[] = {"false", "0", "off", "f", "no",  "n",
                                        "true",  "1", "on",  "t", "yes", "y"};
    const char *text = cJSON_GetStringValue(value);
    bool is_known = cJSON_IsBool(value);
    *out = cJSON_IsTrue(value);
    if (cJSON_IsNumber(value) && (value->valuedouble == 0 || value->valuedouble == 1)) {
        *out = value->valuedouble == 1;
        is_known = true;
    }
    for (int i = 0; text && i < 12; i++)
        if (!strcasecmp(text, words[i])) {
            *out = i >= 6;
            is_known = true;
        }
    if (is_known) return true;
    if (text || cJSON_IsNumber(value))
        return cohort_server_schema_fault(
            self, "bool_parsing",
            "Input should be a valid boolean, unable to interpret input", value);
    return cohort_server_schema_fault(self, "bool_type",
                                      "Input should be a valid boolean", value);
}

static bool read_text(schema_reader *self, const cJSON *value, const char **out) {
    *out = cJSON_GetStringValue(value);
    return *out || cohort_server_schema_fault(self, "string_type",
                                              "Input should be a valid string", value);
}

/* ---- values with parts ------------------------------------------------------------- */

/* Runs check on every item, at location.N; one bad item stands for all of its kind. */
static bool each(schema_reader *self, const cJSON *list,
                 bool (*check)(schema_reader *self, const cJSON *item)) {
    size_t length = strlen(self->location);
    const cJSON *item;
    int i = 0;
    bool fine = true;
    cJSON_ArrayForEach(item, list) {
        snprintf(self->location + length, sizeof self->location - length, ".%d", i++);
        fine = check(self, item);
        self->location[length] = '\0';
        if (!fine) break;
    }
    return fine;
}

static bool check_word(schema_reader *self, const cJSON *item) {
    const char *text;
    return read_text(self, item, &text);
}

static bool check_whole(schema_reader *self, const cJSON *item) {
    int64_t id;
    return read_integer(self, item, &id);
}

static bool check_id(schema_reader *self, const cJSON *item) {
    int64_t id;
    if (!read_integer(self, item, &id)) return false;
    if (id >= 0) return true;
    cohort_api_fault(self->error, "greater_than_equal", self->location,
                     "Input should be greater than or equal to 0", item, "'ge': 0");
    return false;
}

static bool check_list(schema_reader *self, const cJSON *value) {
    return cJSON_IsArray(value) ||
           cohort_server_schema_fault(self, "list_type", "Input should be a valid list",
                                      value);
}

static bool check_ids(schema_reader *self, const cJSON *value) {
    return check_list(self, value) && each(self, value, check_id);
}

static bool check_words(schema_reader *self, const cJSON *value) {
    return check_list(self, value) && each(self, value, check_word);
}

static bool check_id_lists(schema_reader *self, const cJSON *value) {
    return check_list(self, value) && each(self, value, check_ids);
}

/* What fits one of the shapes is fine; what fits none is told the faults of all. */
static bool read_union(schema_reader *self, const cJSON *value,
                       bool (*const shapes[])(schema_reader *self, const cJSON *value),
                       int n_shapes) {
    cohort_api_error none = {0};
    schema_reader quiet = *self;
    quiet.error = &none;
    bool fits = false;
    for (int i = 0; i < n_shapes && !fits; i++)
        fits = shapes[i](&quiet, value);
    cohort_api_error_deinit(&none);
    for (int i = 0; i < n_shapes && !fits; i++)
        shapes[i](self, value);
    return fits;
}

static bool read_prompt(schema_reader *self, const cJSON *value) {
    static bool (*const shapes[])(schema_reader *, const cJSON *) = {
        check_ids, check_id_lists, check_word, check_words};
    return read_union(self, value, shapes, 4);
}

static bool read_stop(schema_reader *self, const cJSON *value) {
    static bool (*const shapes[])(schema_reader *, const cJSON *) = {check_word,
                                                                     check_words};
    return read_union(self, value, shapes, 2);
}

static bool check_object(schema_reader *self, const cJSON *value) {
    return cJSON_IsObject(value) ||
           cohort_server_schema_fault(self, "dict_type",
                                      "Input should be a valid dictionary", value);
}

static bool check_objects(schema_reader *self, const cJSON *value) {
    return check_list(self, value) && each(self, value, check_object);
}

static bool read_input(schema_reader *self, const cJSON *value) {
    static bool (*const shapes[])(schema_reader *, const cJSON *) = {check_word,
                                                                     check_objects};
    return read_union(self, value, shapes, 2);
}

static bool read_bias(schema_reader *self, const cJSON *value) {
    const cJSON *item;
    size_t length = strlen(self->location);
    double number;
    if (!check_object(self, value)) return false;
    cJSON_ArrayForEach(item, value) {
        snprintf(self->location + length, sizeof self->location - length, ".%.60s",
                 item->string);
        if (!read_number(self, item, &number)) return false;
        self->location[length] = '\0';
    }
    return true;
}

/* A member that must be there, whose place is added to the location. */
static const cJSON *member(schema_reader *self, const cJSON *object, const char *name) {
    size_t length = strlen(self->location);
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, name);
    snprintf(self->location + length, sizeof self->location - length, ".%s", name);
    if (!value) cohort_server_schema_fault(self, "missing", "Field required", object);
    return value;
}

/* A member that is a text where it is there. */
static bool check_member_text(schema_reader *self, const cJSON *object, const char *name,
                              bool or_null) {
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, name);
    const char *text;
    size_t length = strlen(self->location);
    if (!value || (or_null && cJSON_IsNull(value))) return true;
    snprintf(self->location + length, sizeof self->location - length, ".%s", name);
    bool fine = read_text(self, value, &text);
    self->location[length] = '\0';
    return fine;
}

/* ... and where it has to be. */
static bool need_member_text(schema_reader *self, const cJSON *object, const char *name) {
    size_t length = strlen(self->location);
    const cJSON *value = member(self, object, name);
    self->location[length] = '\0';
    return value && check_member_text(self, object, name, false);
}

/* Of a role that OpenAI's API knows: its types are checked to the last text. */
static bool check_known_part(schema_reader *self, const cJSON *part) {
    if (!check_object(self, part) || !need_member_text(self, part, "type")) return false;
    const char *type = cJSON_GetObjectItemCaseSensitive(part, "type")->valuestring;
    if (!strcmp(type, "text")) return need_member_text(self, part, "text");
    if (strcmp(type, "input_text") != 0 && strcmp(type, "output_text") != 0) return true;
    return cohort_server_schema_fault(self, "literal_error", "Input should be 'text'",
                                      part);
}

/* Any other role's parts may be texts, and say less. */
static bool check_part(schema_reader *self, const cJSON *part) {
    return cJSON_IsString(part) ||
           (check_object(self, part) && need_member_text(self, part, "type"));
}

static bool check_call(schema_reader *self, const cJSON *call) {
    if (!check_object(self, call) || !need_member_text(self, call, "id") ||
        !need_member_text(self, call, "type"))
        return false;
    if (strcmp(cJSON_GetObjectItemCaseSensitive(call, "type")->valuestring, "function"))
        return cohort_server_schema_fault(self, "literal_error",
                                          "Input should be 'function'", call);
    size_t length = strlen(self->location);
    const cJSON *function = member(self, call, "function");
    bool fine = function && check_object(self, function) &&
                need_member_text(self, function, "name") &&
                need_member_text(self, function, "arguments");
    self->location[length] = '\0';
    return fine;
}

/* Runs check on a member that is there. */
static bool check_member(schema_reader *self, const cJSON *object, const char *name,
                         bool (*check)(schema_reader *self, const cJSON *item)) {
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, name);
    size_t length = strlen(self->location);
    if (!value) return true;
    snprintf(self->location + length, sizeof self->location - length, ".%s", name);
    bool fine = check_list(self, value) && each(self, value, check);
    self->location[length] = '\0';
    return fine;
}

static bool check_content(schema_reader *self, const cJSON *message, const char *role) {
    static const char *const known[] = {"developer", "system", "user", "assistant",
                                        "tool"};
    const cJSON *content = cJSON_GetObjectItemCaseSensitive(message, "content");
    size_t length = strlen(self->location);
    bool is_known = false;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        is_known = is_known || !strcmp(role, known[i]);
    if (cJSON_IsArray(content))
        return check_member(self, message, "content",
                            is_known ? check_known_part : check_part);
    if (!content || cJSON_IsString(content)) return true;
    if (cJSON_IsNull(content) && !strcmp(role, "assistant")) return true;
    snprintf(self->location + length, sizeof self->location - length, ".content");
    cohort_server_schema_fault(self, "string_type", "Input should be a valid string",
                               content);
    cohort_server_schema_fault(self, "iterable_type", "Input should be iterable",
                               content);
    self->location[length] = '\0';
    return false;
}

static bool check_message(schema_reader *self, const cJSON *message) {
    if (!check_object(self, message) || !need_member_text(self, message, "role"))
        return false;
    const char *role = cJSON_GetObjectItemCaseSensitive(message, "role")->valuestring;
    if (!check_content(self, message, role) ||
        !check_member_text(self, message, "name", false) ||
        !check_member_text(self, message, "tool_call_id", true))
        return false;
    /* null passes beside a text. */
    const cJSON *calls = cJSON_GetObjectItemCaseSensitive(message, "tool_calls");
    const cJSON *content = cJSON_GetObjectItemCaseSensitive(message, "content");
    if (strcmp(role, "assistant") != 0 ||
        (cJSON_IsNull(calls) && cJSON_IsString(content)))
        return true;
    return check_member(self, message, "tool_calls", check_call);
}

static bool check_tool(schema_reader *self, const cJSON *tool) {
    if (!check_object(self, tool)) return false;
    size_t length = strlen(self->location);
    const cJSON *function = member(self, tool, "function");
    bool fine = function && check_object(self, function);
    const cJSON *name = fine ? member(self, function, "name") : NULL;
    fine = name && check_word(self, name);
    self->location[length] = '\0';
    return fine;
}

/* ---- one field --------------------------------------------------------------------- */

static bool read_whole(schema_reader *self, const schema_field *at, const cJSON *value,
                       cohort_value *out) {
    char message[64], context[24];
    int least = at->flags & LEAST_IS_1 ? 1 : at->flags & LEAST_IS_0 ? 0 : -1;
    bool has_least = at->flags & (LEAST_IS_MINUS_1 | LEAST_IS_0 | LEAST_IS_1);
    double number = cJSON_IsNumber(value) ? value->valuedouble : 0;
    if (at->flags & CLAMPED && isfinite(number) && fabs(number) >= 0x1p63)
        out->whole = number < 0 ? INT64_MIN : INT64_MAX;
    else if (!read_integer(self, value, &out->whole))
        return false;
    out->real = (double)out->whole;
    if (!has_least || out->whole >= least) return true;
    snprintf(message, sizeof message, "Input should be greater than or equal to %d",
             least);
    snprintf(context, sizeof context, "'ge': %d", least);
    cohort_api_fault(self->error, "greater_than_equal", self->location, message, value,
                     context);
    return false;
}

static bool read_literal(schema_reader *self, const schema_field *at, const cJSON *value,
                         cohort_value *out) {
    char quoted[32], message[120], context[120];
    const char *text = cJSON_GetStringValue(value);
    snprintf(quoted, sizeof quoted, "'%.20s'", text ? text : "");
    bool is_word = text && strlen(text) <= 20 && !strpbrk(text, "', ");
    if (is_word && strstr(at->type, quoted)) {
        out->text = text;
        return true;
    }
    snprintf(message, sizeof message, "Input should be %s", at->type);
    snprintf(context, sizeof context, "'expected': \"%s\"", at->type);
    cohort_api_fault(self->error, "literal_error", self->location, message, value,
                     context);
    return false;
}

bool cohort_server_schema_read_value(schema_reader *self, const schema_field *at,
                                     const cJSON *value, cohort_value *out) {
    out->json = value;
    switch (at->kind) {
    case FIELD_INTEGER: return read_whole(self, at, value, out);
    case FIELD_LITERAL: return read_literal(self, at, value, out);
    case FIELD_NUMBER: return read_number(self, value, &out->real);
    case FIELD_TRUTH: return read_truth(self, value, &out->whole);
    case FIELD_TEXT: return read_text(self, value, &out->text);
    case FIELD_LIST: return check_objects(self, value);
    case FIELD_INPUT: return read_input(self, value);
    case FIELD_WORDS: return check_words(self, value);
    case FIELD_IDS: return check_list(self, value) && each(self, value, check_whole);
    case FIELD_PROMPT: return read_prompt(self, value);
    case FIELD_STOP: return read_stop(self, value);
    case FIELD_BIAS: return read_bias(self, value);
    case FIELD_MESSAGES:
        return check_list(self, value) && each(self, value, check_message);
    case FIELD_TOOLS: return check_list(self, value) && each(self, value, check_tool);
    case FIELD_CHOICE: return true; /* tools.c */
    case FIELD_OBJECT:
    case FIELD_FORMAT:
    case FIELD_STRUCT: return check_object(self, value);
    case FIELD_TEXT_OR_IDS: return true;
    }
    return true;
}
