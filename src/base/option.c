/* SPDX-License-Identifier: Apache-2.0 */
#include "base/option.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/fail.h"

enum { MAX_NUMBER_CHARS = 40, MAX_NAME_CHARS = 80 };

#define NANOSECONDS 1e9

/* ---- fields ------------------------------------------------------------------------ */

static void *field_of(const cohort_option *option, void *options) {
    return (char *)options + option->offset;
}

static const void *const_field_of(const cohort_option *option, const void *options) {
    return (const char *)options + option->offset;
}

static bool is_duration(const cohort_option *option) {
    return option->kind == COHORT_KIND_SECONDS && option->type == COHORT_FIELD_INT64;
}

static bool is_text(const cohort_option *option) {
    return option->type == COHORT_FIELD_TEXT || option->type == COHORT_FIELD_TEXTS;
}

/* Of a number that is no text. */
static double value_of(const cohort_option *option, const void *options) {
    const void *field = const_field_of(option, options);
    switch (option->type) {
    case COHORT_FIELD_BOOL: return *(const bool *)field;
    case COHORT_FIELD_INT32: return *(const int32_t *)field;
    case COHORT_FIELD_UINT32: return *(const uint32_t *)field;
    case COHORT_FIELD_INT64: return (double)*(const int64_t *)field;
    case COHORT_FIELD_UINT64: return (double)*(const uint64_t *)field;
    case COHORT_FIELD_FLOAT: return (double)*(const float *)field;
    case COHORT_FIELD_DOUBLE: return *(const double *)field;
    case COHORT_FIELD_TEXT:
    case COHORT_FIELD_TEXTS: break;
    }
    return 0;
}

static void set_real(const cohort_option *option, void *options, double value) {
    void *field = field_of(option, options);
    if (is_duration(option))
        *(int64_t *)field = llround(value * NANOSECONDS);
    else if (option->type == COHORT_FIELD_FLOAT)
        *(float *)field = (float)value;
    else
        *(double *)field = value;
}

/* The bits of a whole number, which are those of a negative one, too. */
static void set_whole(const cohort_option *option, void *options, uint64_t bits) {
    void *field = field_of(option, options);
    switch (option->type) {
    case COHORT_FIELD_BOOL: *(bool *)field = bits != 0; return;
    case COHORT_FIELD_INT32:
    case COHORT_FIELD_UINT32: *(uint32_t *)field = (uint32_t)bits; return;
    case COHORT_FIELD_INT64:
    case COHORT_FIELD_UINT64: *(uint64_t *)field = bits; return;
    case COHORT_FIELD_TEXT:
    case COHORT_FIELD_TEXTS:
    case COHORT_FIELD_FLOAT:
    case COHORT_FIELD_DOUBLE: assert(!"a field for whole numbers");
    }
}

void cohort_option_clear(const cohort_option *option, void *options) {
    memset(field_of(option, options), 0, option->size);
}

size_t cohort_option_room(const cohort_option *option) {
    return option->size / sizeof(const char *) - 1; /* the last is the end */
}

/* ---- texts ------------------------------------------------------------------------- */

/* "4096", "4k", "2.5GiB": vLLM takes the same. */
static bool parse_scaled(const char *text, double *out_value) {
    static const char units[] = "kmgt";
    char *end;
    errno = 0;
    *out_value = strtod(text, &end);
    if (end == text || errno || !isfinite(*out_value)) return false;
    const char *unit = *end ? strchr(units, tolower((unsigned char)*end)) : NULL;
    if (!unit) return *end == '\0';
    bool binary = isupper((unsigned char)*end) || end[1] == 'i';
    for (const char *u = units; u <= unit; u++)
        *out_value *= binary ? 1024 : 1000;
    const char *rest = end + 1;
    return !*rest || !strcmp(rest, "i") || !strcmp(rest, "iB") || !strcmp(rest, "B");
}

static bool is_within(const cohort_option *option, double value) {
    return value >= option->least && value <= option->most;
}

/* Digits alone keep all their bits; what is scaled is a double's. */
static bool parse_whole(const cohort_option *option, void *options, const char *text) {
    double value;
    char *end;
    if (option->flags & COHORT_OPTION_AUTO &&
        (!strcmp(text, "-1") || !strcasecmp(text, "auto")))
        text = "0";
    if (!parse_scaled(text, &value) || value != floor(value) || !is_within(option, value))
        return false;
    errno = 0;
    unsigned long long bits = strtoull(text, &end, 10);
    if (*end || errno) return cohort_option_set_number(option, options, value);
    set_whole(option, options, bits);
    return true;
}

bool cohort_option_set_number(const cohort_option *option, void *options, double value) {
    bool is_whole =
        option->kind == COHORT_KIND_COUNT || option->kind == COHORT_KIND_BYTES;
    if (!is_within(option, value)) return false;
    if (is_whole && (value != floor(value) || value >= 0x1p64)) return false;
    if (is_whole)
        set_whole(option, options,
                  value < 0 ? (uint64_t)(int64_t)value : (uint64_t)value);
    else
        set_real(option, options, value);
    return true;
}

double cohort_option_number(const cohort_option *option, const void *options) {
    return value_of(option, options) / (is_duration(option) ? NANOSECONDS : 1);
}

static bool parse_real(const cohort_option *option, void *options, const char *text) {
    char *end;
    double value = strtod(text, &end);
    return end != text && !*end && cohort_option_set_number(option, options, value);
}

bool cohort_flag_parse(const char *text, bool *out_flag) {
    bool is_set =
        !strcmp(text, "1") || !strcasecmp(text, "true") || !strcasecmp(text, "yes");
    bool is_clear =
        !strcmp(text, "0") || !strcasecmp(text, "false") || !strcasecmp(text, "no");
    if (is_set || is_clear) *out_flag = is_set;
    return is_set || is_clear;
}

/* Which of "a|b|c", or -1. */
static int64_t find_word(const char *words, const char *text) {
    for (int64_t i = 0;; i++) {
        size_t size = strcspn(words, "|");
        if (strlen(text) == size && !strncmp(words, text, size)) return i;
        if (!words[size]) return -1;
        words += size + 1;
    }
}

static bool parse_word(const cohort_option *option, void *options, const char *text) {
    int64_t which = find_word(option->words, text);
    if (which < 0) return false;
    if (option->type == COHORT_FIELD_TEXT)
        *(const char **)field_of(option, options) = text;
    else
        set_whole(option, options, (uint64_t)which);
    return true;
}

static bool add_word(const cohort_option *option, void *options, const char *text) {
    const char **words = field_of(option, options);
    size_t n = 0, room = cohort_option_room(option);
    while (n < room && words[n])
        n++;
    if (n == room) return false;
    words[n] = text;
    return true;
}

bool cohort_option_parse(const cohort_option *option, void *options, const char *text) {
    switch (option->kind) {
    case COHORT_KIND_TEXT: *(const char **)field_of(option, options) = text; return true;
    case COHORT_KIND_COUNT:
    case COHORT_KIND_BYTES: return parse_whole(option, options, text);
    case COHORT_KIND_SECONDS:
    case COHORT_KIND_NUMBER: return parse_real(option, options, text);
    case COHORT_KIND_FLAG: return cohort_flag_parse(text, field_of(option, options));
    case COHORT_KIND_LIST:
    case COHORT_KIND_EACH: return add_word(option, options, text);
    case COHORT_KIND_WORD: return parse_word(option, options, text);
    case COHORT_N_KINDS: break;
    }
    return false;
}

/* The shortest that reads back the same. */
static void format_real(const cohort_option *option, const void *options, char *out,
                        size_t size) {
    double value = value_of(option, options);
    bool is_float = option->type == COHORT_FIELD_FLOAT;
    if (is_duration(option)) value /= NANOSECONDS;
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(out, size, "%.*g", digits, value);
        double back = strtod(out, NULL);
        if (back == value || (is_float && (float)back == (float)value)) return;
    }
}

static void format_word(const char *words, int64_t which, char *out, size_t size) {
    while (which-- > 0)
        words += strcspn(words, "|") + 1;
    snprintf(out, size, "%.*s", (int)strcspn(words, "|"), words);
}

bool cohort_option_format(const cohort_option *option, const void *options, size_t index,
                          char *out, size_t size) {
    const void *field = const_field_of(option, options);
    const char *const *texts = field;
    if (option->type == COHORT_FIELD_TEXTS) {
        if (index > cohort_option_room(option) || !texts[index]) return false;
        snprintf(out, size, "%s", texts[index]);
        return true;
    }
    if (index > 0 || (option->type == COHORT_FIELD_TEXT && !*texts)) return false;
    if (option->type == COHORT_FIELD_TEXT)
        snprintf(out, size, "%s", *texts);
    else if (option->kind == COHORT_KIND_WORD)
        format_word(option->words, (int64_t)value_of(option, options), out, size);
    else if (option->kind == COHORT_KIND_FLAG)
        snprintf(out, size, "%s", *(const bool *)field ? "true" : "false");
    else if (option->kind == COHORT_KIND_SECONDS || option->kind == COHORT_KIND_NUMBER)
        format_real(option, options, out, size);
    else if (option->type == COHORT_FIELD_UINT64)
        snprintf(out, size, "%llu", (unsigned long long)*(const uint64_t *)field);
    else if (option->type == COHORT_FIELD_INT64)
        snprintf(out, size, "%lld", (long long)*(const int64_t *)field);
    else
        snprintf(out, size, "%.0f", value_of(option, options));
    return true;
}

static void describe_words(const char *words, char *out, size_t size) {
    size_t used = 0;
    while (*words && used < size) {
        size_t length = strcspn(words, "|");
        const char *rest = words[length] ? words + length + 1 : "";
        bool is_last = !*rest, is_next_last = !strchr(rest, '|');
        used += (size_t)snprintf(out + used, size - used, "%.*s%s", (int)length, words,
                                 is_last        ? ""
                                 : is_next_last ? " or "
                                                : ", ");
        words = rest;
    }
}

void cohort_option_describe(const cohort_option *option, char *out, size_t size) {
    if (option->kind == COHORT_KIND_FLAG)
        snprintf(out, size, "true or false");
    else if (option->kind == COHORT_KIND_WORD)
        describe_words(option->words, out, size);
    else if (option->type == COHORT_FIELD_TEXTS)
        snprintf(out, size, "at most %zu words, or a JSON list of them",
                 cohort_option_room(option));
    else if (option->type == COHORT_FIELD_TEXT)
        snprintf(out, size, "a text");
    else if (option->most >= 0x1p53)
        snprintf(out, size, "a number from %g", option->least);
    else
        snprintf(out, size, "a number from %.10g to %.10g", option->least, option->most);
}

/* ---- tables ------------------------------------------------------------------------ */

void cohort_options_set_defaults(const cohort_option_table *table, void *options) {
    for (size_t i = 0; i < table->n; i++)
        if (table->rows[i].standard)
            cohort_option_parse(&table->rows[i], options, table->rows[i].standard);
}

void cohort_option_key(const cohort_option *option, char *out, size_t size) {
    snprintf(out, size, "%s", option->name);
    for (char *c = out; *c; c++)
        if (*c == '-') *c = '_';
}

void cohort_option_copy(const cohort_option *option, void *to, const void *from) {
    memcpy(field_of(option, to), const_field_of(option, from), option->size);
}

cohort_status cohort_options_check(const cohort_option_table *table, const void *options,
                                   cohort_status code) {
    for (size_t i = 0; i < table->n; i++) {
        const cohort_option *option = &table->rows[i];
        char range[80], value[MAX_NUMBER_CHARS], name[MAX_NAME_CHARS];
        if (is_text(option) || option->most <= option->least) continue; /* no range */
        if (is_within(option, cohort_option_number(option, options))) continue;
        cohort_option_describe(option, range, sizeof range);
        cohort_option_format(option, options, 0, value, sizeof value);
        cohort_option_key(option, name, sizeof name);
        return COHORT_FAIL(code, "%s is %s, must be %s", name, value, range);
    }
    return COHORT_OK;
}

/* Words of a name are parted by - or by _. */
static bool is_letter(char a, char b) {
    return a == b || (a == '-' && b == '_') || (a == '_' && b == '-');
}

static const cohort_option *find(const cohort_option_table *table, const char *name,
                                 size_t size) {
    for (size_t i = 0; i < table->n; i++) {
        const char *row = table->rows[i].name;
        size_t n = 0;
        while (n < size && row[n] && is_letter(row[n], name[n]))
            n++;
        if (n == size && !row[n]) return &table->rows[i];
    }
    return NULL;
}

static bool is_same_name(const char *a, const char *b) {
    while (*a && is_letter(*a, *b))
        a++, b++;
    return *a == *b;
}

const cohort_option *cohort_options_find(const cohort_option_table *table,
                                         const char *name) {
    for (size_t i = 0; i < table->n; i++)
        if (is_same_name(table->rows[i].name, name)) return &table->rows[i];
    return NULL;
}

void cohort_options_copy(const cohort_option_table *to_table, void *to,
                         const cohort_option_table *from_table, const void *from) {
    for (size_t i = 0; i < to_table->n; i++) {
        const cohort_option *option = &to_table->rows[i];
        const cohort_option *source =
            find(from_table, option->name, strlen(option->name));
        if (!source) continue;
        assert(source->type == option->type && source->size == option->size);
        memcpy(field_of(option, to), const_field_of(source, from), option->size);
    }
}

bool cohort_options_copy_texts(const cohort_option_table *table, void *options) {
    bool is_whole = true;
    for (size_t i = 0; i < table->n; i++) {
        const char **text = field_of(&table->rows[i], options);
        if (table->rows[i].type != COHORT_FIELD_TEXT || !*text) continue;
        *text = strdup(*text);
        is_whole = is_whole && *text;
    }
    return is_whole;
}

void cohort_options_free_texts(const cohort_option_table *table, void *options) {
    for (size_t i = 0; i < table->n; i++) {
        const char **text = field_of(&table->rows[i], options);
        if (table->rows[i].type == COHORT_FIELD_TEXT) free((void *)(uintptr_t)*text);
    }
}

/* The text of a pair, or where a text lies. */
static const char *text_of(const cohort_option *option, const void *options, size_t index,
                           char number[MAX_NUMBER_CHARS]) {
    const char *const *texts = const_field_of(option, options);
    if (option->type == COHORT_FIELD_TEXTS)
        return index < cohort_option_room(option) ? texts[index] : NULL;
    if (option->type == COHORT_FIELD_TEXT) return index ? NULL : *texts;
    bool is_there =
        cohort_option_format(option, options, index, number, MAX_NUMBER_CHARS);
    return is_there ? number : NULL;
}

const char **cohort_options_to_pairs(const cohort_option_table *table,
                                     const void *options) {
    char number[MAX_NUMBER_CHARS];
    const char **pairs = NULL;
    char *next = NULL;
    size_t n = 0, bytes = 0;
    for (int writes = 0; writes <= 1; writes++) { /* counts first */
        if (writes && !(pairs = malloc((n + 1) * sizeof *pairs + bytes))) return NULL;
        if (writes) next = (char *)(pairs + n + 1);
        n = 0;
        for (size_t i = 0; i < table->n; i++) {
            const cohort_option *option = &table->rows[i];
            const char *text;
            for (size_t k = 0; (text = text_of(option, options, k, number)); k++, n++) {
                bytes += strlen(option->name) + strlen(text) + 2;
                if (!writes) continue;
                pairs[n] = next;
                next += sprintf(next, "%s=%s", option->name, text) + 1;
            }
        }
    }
    pairs[n] = NULL;
    return pairs;
}

cohort_status cohort_options_from_pairs(const cohort_option_table *table, void *options,
                                        const char *const *pairs, bool takes_others) {
    const cohort_option *last = NULL;
    cohort_options_set_defaults(table, options);
    for (; *pairs; pairs++) {
        size_t size = strcspn(*pairs, "=");
        const cohort_option *option = find(table, *pairs, size);
        char range[80];
        if (takes_others && (!option || !(*pairs)[size])) continue;
        if (!option)
            return COHORT_FAIL(COHORT_E_INVALID,
                               "there is no option %.*s; is its name right?",
                               (int)(size < 60 ? size : 60), *pairs);
        if (!(*pairs)[size])
            return COHORT_FAIL(COHORT_E_INVALID, "%s has no value: %s=VALUE is wanted",
                               *pairs, option->name);
        if (option->type == COHORT_FIELD_TEXTS && option != last)
            cohort_option_clear(option, options); /* in place of the default */
        last = option;
        if (cohort_option_parse(option, options, *pairs + size + 1)) continue;
        cohort_option_describe(option, range, sizeof range);
        return COHORT_FAIL(COHORT_E_INVALID, "%s is '%.40s', must be %s", option->name,
                           *pairs + size + 1, range);
    }
    return COHORT_OK;
}
