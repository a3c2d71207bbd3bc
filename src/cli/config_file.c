/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/config_file.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "cli/options.h"

/* libyaml tells what comes next; what is nested becomes JSON, which is the form that such
 * options have on a command line.  Scalars mean what PyYAML takes them for, by the rules
 * of YAML 1.1, but that numbers keep their spelling. */

enum { MAX_DEPTH = 32 };

typedef struct reader {
    const char *path;
    yaml_parser_t parser;
    yaml_event_t event; /* the one that is looked at */
    bool has_event;
    cli_config_words *out;
} reader;

static bool complain(const reader *self, const char *what) {
    fprintf(stderr, "cohort: %s, line %zu: %s\n", self->path,
            self->has_event ? self->event.start_mark.line + 1 : 1, what);
    return false;
}

static bool advance(reader *self) {
    if (self->has_event) yaml_event_delete(&self->event);
    self->has_event = yaml_parser_parse(&self->parser, &self->event);
    if (self->has_event) return true;
    fprintf(stderr, "cohort: %s, line %zu: %s\n", self->path,
            self->parser.problem_mark.line + 1,
            self->parser.problem ? self->parser.problem : "no YAML");
    return false;
}

static const char *scalar_text(const reader *self) {
    return (const char *)self->event.data.scalar.value;
}

static bool is_plain(const reader *self, const char *words) {
    return self->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           cli_is_among(scalar_text(self), words, strncmp);
}

static bool is_null(const reader *self) { return is_plain(self, "|~|null|Null|NULL"); }

static bool is_true(const reader *self) {
    return is_plain(self, "true|True|TRUE|yes|Yes|YES|on|On|ON");
}

static bool is_false(const reader *self) {
    return is_plain(self, "false|False|FALSE|no|No|NO|off|Off|OFF");
}

/* A whole number as YAML 1.1 has it, underscores, 0x, 0b and octal; in decimal. */
static bool whole_number(const reader *self, char *out, size_t size) {
    const char *text = scalar_text(self);
    char digits[64];
    size_t n = 0;
    bool is_negative = *text == '-';
    if (self->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE) return false;
    if (*text == '-' || *text == '+') text++;
    int base = text[0] != '0' || !text[1] ? 10
               : text[1] == 'x'           ? 16
               : text[1] == 'b'           ? 2
                                          : 8;
    if (base == 16 || base == 2) text += 2;
    if (*text == '_' && base == 10) return false;
    for (; *text; text++) {
        if (*text == '_') continue;
        if (n + 1 == sizeof digits) return false;
        digits[n++] = *text;
    }
    digits[n] = '\0';
    if (!n || strspn(digits, "0123456789abcdefABCDEF") != n) return false;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(digits, &end, base);
    if (errno || *end) return false;
    snprintf(out, size, "%s%llu", is_negative ? "-" : "", value);
    return true;
}

static cJSON *scalar_json(const reader *self) {
    const char *text = scalar_text(self);
    if (is_null(self)) return cJSON_CreateNull();
    if (is_true(self)) return cJSON_CreateTrue();
    if (is_false(self)) return cJSON_CreateFalse();
    char number_text[32];
    if (whole_number(self, number_text, sizeof number_text))
        return cJSON_CreateRaw(number_text);
    bool is_plain = self->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    cJSON *number = is_plain ? cJSON_ParseWithOpts(text, NULL, true) : NULL;
    bool is_number = cJSON_IsNumber(number);
    cJSON_Delete(number);
    return is_number ? cJSON_CreateRaw(text) : cJSON_CreateString(text);
}

static cJSON *read_json(reader *self, int depth);

/* From behind the beginning of a list or a mapping to its end. */
static bool fill(reader *self, cJSON *list, bool is_mapping, int depth) {
    const yaml_event_type_t end =
        is_mapping ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT;
    while (advance(self)) {
        if (self->event.type == end) return true;
        char *key = NULL;
        if (is_mapping) {
            if (self->event.type != YAML_SCALAR_EVENT)
                return complain(self, "a key must be a word");
            key = strdup(scalar_text(self));
            if (!key || !advance(self)) {
                free(key);
                return false;
            }
        }
        cJSON *item = read_json(self, depth + 1);
        if (key) cJSON_DeleteItemFromObjectCaseSensitive(list, key); /* the last counts */
        bool fine = item && (key ? cJSON_AddItemToObject(list, key, item)
                                 : cJSON_AddItemToArray(list, item));
        free(key);
        if (!fine) return false;
    }
    return false;
}

/* What begins with the event that is looked at; its last event is looked at then. */
static cJSON *read_json(reader *self, int depth) {
    bool is_mapping = self->event.type == YAML_MAPPING_START_EVENT;
    if (self->event.type == YAML_SCALAR_EVENT) return scalar_json(self);
    if (depth > MAX_DEPTH ||
        (!is_mapping && self->event.type != YAML_SEQUENCE_START_EVENT)) {
        complain(self, depth > MAX_DEPTH ? "it is nested too deep"
                                         : "anchors and aliases are not taken");
        return NULL;
    }
    cJSON *list = is_mapping ? cJSON_CreateObject() : cJSON_CreateArray();
    if (list && fill(self, list, is_mapping, depth)) return list;
    cJSON_Delete(list);
    return NULL;
}

static bool add(reader *self, const char *key, const char *value) {
    char *word;
    if (self->out->n == CLI_MAX_CONFIG_WORDS) return complain(self, "too many options");
    if (asprintf(&word, "--%s=%s", key, value) < 0) return complain(self, "no memory");
    self->out->items[self->out->n] = cli_keep(word);
    free(word);
    return self->out->items[self->out->n++] || complain(self, "no memory");
}

static bool add_scalar(reader *self, const char *key) {
    char number[32];
    if (is_null(self)) return true; /* as if it were not there */
    if (whole_number(self, number, sizeof number)) return add(self, key, number);
    return add(self, key,
               is_true(self)    ? "true"
               : is_false(self) ? "false"
                                : scalar_text(self));
}

static bool add_json(reader *self, const char *key) {
    cJSON *json = read_json(self, 0);
    char *text = json ? cJSON_PrintUnformatted(json) : NULL;
    bool fine = text && add(self, key, text);
    cJSON_Delete(json);
    free(text);
    return fine;
}

static bool add_option(reader *self, const char *key) {
    if (self->event.type == YAML_SCALAR_EVENT) return add_scalar(self, key);
    if (self->event.type != YAML_SEQUENCE_START_EVENT) return add_json(self, key);
    while (advance(self)) {
        if (self->event.type == YAML_SEQUENCE_END_EVENT) return true;
        bool is_scalar = self->event.type == YAML_SCALAR_EVENT;
        if (!(is_scalar ? add_scalar(self, key) : add_json(self, key))) return false;
    }
    return false;
}

/* Of a key that is there twice the last counts, as PyYAML has it, with all of its list.
 */
static void forget(reader *self, const char *key) {
    cli_config_words *words = self->out;
    int kept = 0;
    for (int i = 0; i < words->n; i++) {
        const char *word = words->items[i] + 2;
        size_t n = 0;
        while (key[n] &&
               (word[n] == key[n] || (strchr("-_", word[n]) && strchr("-_", key[n]))))
            n++;
        if (key[n] || word[n] != '=') words->items[kept++] = words->items[i];
    }
    words->n = kept;
}

static bool read_options(reader *self) {
    do {
        if (!advance(self)) return false;
        if (self->event.type == YAML_STREAM_END_EVENT) return true; /* empty */
    } while (self->event.type == YAML_STREAM_START_EVENT ||
             self->event.type == YAML_DOCUMENT_START_EVENT);
    if (self->event.type != YAML_MAPPING_START_EVENT)
        return complain(self, "options are wanted, as 'port: 8000'");
    while (advance(self)) {
        if (self->event.type == YAML_MAPPING_END_EVENT) return true;
        if (self->event.type != YAML_SCALAR_EVENT)
            return complain(self, "a key must be a word");
        char *key = strdup(scalar_text(self));
        if (key) forget(self, key);
        bool fine = key && advance(self) && add_option(self, key);
        free(key);
        if (!fine) return false;
    }
    return false;
}

bool cli_config_read(const char *path, cli_config_words *out) {
    reader self = {.path = path, .out = out};
    out->n = 0;
    FILE *file = fopen(path, "rbe");
    if (!file) {
        fprintf(stderr, "cohort: --config %s: %s\n", path, strerror(errno));
        return false;
    }
    bool fine = yaml_parser_initialize(&self.parser);
    if (fine) {
        yaml_parser_set_input_file(&self.parser, file);
        fine = read_options(&self);
        if (self.has_event) yaml_event_delete(&self.event);
        yaml_parser_delete(&self.parser);
    }
    fclose(file);
    return fine;
}
