/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/config_file.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "cli/option_words.h"

/* libyaml makes a graph of nodes, in which an alias is the node that its anchor is at;
 * what is nested becomes JSON, which is the form that such options have on a command
 * line. Scalars mean what PyYAML takes them for, by the rules of YAML 1.1, but that
 * numbers keep their spelling; "<<" merges mappings as it does there.
 *
 * Aliases of aliases make much of little: every node counts each time it is come to. */

enum { MAX_DEPTH = 32, MAX_NODES = 10000 };

typedef struct reader {
    const char *path;
    yaml_document_t document;
    int n_nodes; /* that were come to */
    cli_config_words *out;
} reader;

/* A mapping with what it merges; of one name the last counts. */
typedef struct pairs {
    struct pair {
        const char *key;
        const yaml_node_t *value;
    } * items;
    size_t n;
} pairs;

static bool complain(const reader *self, const yaml_node_t *at, const char *what) {
    fprintf(stderr, "cohort: %s, line %zu: %s\n", self->path,
            at ? at->start_mark.line + 1 : 1, what);
    return false;
}

static const yaml_node_t *node(reader *self, int index) {
    return yaml_document_get_node(&self->document, index);
}

/* To be called of every node that is gone into. */
static bool enter(reader *self, const yaml_node_t *at, int depth) {
    if (depth > MAX_DEPTH) return complain(self, at, "it is nested too deep");
    return ++self->n_nodes <= MAX_NODES ||
           complain(self, at, "it is too much, with what its aliases stand for");
}

static const char *scalar_text(const yaml_node_t *at) {
    return (const char *)at->data.scalar.value;
}

static bool is_plain(const yaml_node_t *at, const char *words) {
    return at->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           cli_is_among(scalar_text(at), words, strncmp);
}

static bool is_null(const yaml_node_t *at) { return is_plain(at, "|~|null|Null|NULL"); }

static bool is_true(const yaml_node_t *at) {
    return is_plain(at, "true|True|TRUE|yes|Yes|YES|on|On|ON");
}

static bool is_false(const yaml_node_t *at) {
    return is_plain(at, "false|False|FALSE|no|No|NO|off|Off|OFF");
}

/* A whole number as YAML 1.1 has it, underscores, 0x, 0b and octal; in decimal. */
static bool whole_number(const yaml_node_t *at, char *out, size_t size) {
    const char *text = scalar_text(at);
    char digits[64];
    size_t n = 0;
    bool is_negative = *text == '-';
    if (at->data.scalar.style != YAML_PLAIN_SCALAR_STYLE) return false;
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

static cJSON *scalar_json(const yaml_node_t *at) {
    const char *text = scalar_text(at);
    if (is_null(at)) return cJSON_CreateNull();
    if (is_true(at)) return cJSON_CreateTrue();
    if (is_false(at)) return cJSON_CreateFalse();
    char number_text[32];
    if (whole_number(at, number_text, sizeof number_text))
        return cJSON_CreateRaw(number_text);
    bool is_plain = at->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    cJSON *number = is_plain ? cJSON_ParseWithOpts(text, NULL, true) : NULL;
    bool is_number = cJSON_IsNumber(number);
    cJSON_Delete(number);
    return is_number ? cJSON_CreateRaw(text) : cJSON_CreateString(text);
}

/* ---- mappings ---------------------------------------------------------------------- */

static bool put_pair(reader *self, pairs *to, const char *key, const yaml_node_t *value) {
    for (size_t i = 0; i < to->n; i++)
        if (!strcmp(to->items[i].key, key)) {
            to->items[i].value = value;
            return true;
        }
    struct pair *grown = realloc(to->items, (to->n + 1) * sizeof *grown);
    if (!grown) return complain(self, value, "no memory");
    to->items = grown;
    to->items[to->n++] = (struct pair){key, value};
    return true;
}

static bool flatten(reader *self, const yaml_node_t *at, int depth, pairs *out);

/* A mapping, or a list of some, of which the first counts most. */
static bool merge(reader *self, const yaml_node_t *at, int depth, pairs *out) {
    if (!enter(self, at, depth)) return false;
    if (at->type == YAML_MAPPING_NODE) return flatten(self, at, depth, out);
    if (at->type != YAML_SEQUENCE_NODE)
        return complain(self, at, "'<<' wants a mapping, or a list of mappings");
    const yaml_node_item_t *items = at->data.sequence.items.start;
    for (const yaml_node_item_t *item = at->data.sequence.items.top; item-- > items;)
        if (!merge(self, node(self, *item), depth + 1, out)) return false;
    return true;
}

static bool flatten(reader *self, const yaml_node_t *at, int depth, pairs *out) {
    const yaml_node_pair_t *begin = at->data.mapping.pairs.start;
    const yaml_node_pair_t *end = at->data.mapping.pairs.top;
    for (int own = 0; own < 2; own++)
        for (const yaml_node_pair_t *pair = begin; pair < end; pair++) {
            const yaml_node_t *key = node(self, pair->key);
            const yaml_node_t *value = node(self, pair->value);
            if (key->type != YAML_SCALAR_NODE)
                return complain(self, key, "a key must be a word");
            bool merges = is_plain(key, "<<");
            if (merges == own) continue;
            if (merges ? !merge(self, value, depth + 1, out)
                       : !put_pair(self, out, scalar_text(key), value))
                return false;
        }
    return true;
}

/* ---- JSON -------------------------------------------------------------------------- */

static cJSON *read_json(reader *self, const yaml_node_t *at, int depth);

static bool fill_mapping(reader *self, const yaml_node_t *at, int depth, cJSON *object) {
    pairs all = {0};
    bool fine = flatten(self, at, depth, &all);
    for (size_t i = 0; fine && i < all.n; i++) {
        cJSON *item = read_json(self, all.items[i].value, depth + 1);
        fine = item && cJSON_AddItemToObject(object, all.items[i].key, item);
    }
    free(all.items);
    return fine;
}

static bool fill_list(reader *self, const yaml_node_t *at, int depth, cJSON *list) {
    for (const yaml_node_item_t *item = at->data.sequence.items.start;
         item < at->data.sequence.items.top; item++) {
        cJSON *json = read_json(self, node(self, *item), depth + 1);
        if (!json || !cJSON_AddItemToArray(list, json)) return false;
    }
    return true;
}

static cJSON *read_json(reader *self, const yaml_node_t *at, int depth) {
    bool is_mapping = at->type == YAML_MAPPING_NODE;
    if (!enter(self, at, depth)) return NULL;
    if (at->type == YAML_SCALAR_NODE) return scalar_json(at);
    cJSON *list = is_mapping ? cJSON_CreateObject() : cJSON_CreateArray();
    if (list && (is_mapping ? fill_mapping(self, at, depth, list)
                            : fill_list(self, at, depth, list)))
        return list;
    cJSON_Delete(list);
    return NULL;
}

/* ---- options ----------------------------------------------------------------------- */

static bool add(reader *self, const yaml_node_t *at, const char *key, const char *value) {
    char *word;
    if (self->out->n == CLI_MAX_CONFIG_WORDS)
        return complain(self, at, "too many options");
    if (asprintf(&word, "--%s=%s", key, value) < 0)
        return complain(self, at, "no memory");
    self->out->items[self->out->n] = cli_keep(word);
    free(word);
    return self->out->items[self->out->n++] || complain(self, at, "no memory");
}

static bool add_scalar(reader *self, const yaml_node_t *at, const char *key) {
    char number[32];
    if (is_null(at)) return true; /* as if it were not there */
    if (whole_number(at, number, sizeof number)) return add(self, at, key, number);
    return add(self, at, key,
               is_true(at)    ? "true"
               : is_false(at) ? "false"
                              : scalar_text(at));
}

static bool add_json(reader *self, const yaml_node_t *at, const char *key) {
    cJSON *json = read_json(self, at, 0);
    char *text = json ? cJSON_PrintUnformatted(json) : NULL;
    bool fine = text && add(self, at, key, text);
    cJSON_Delete(json);
    free(text);
    return fine;
}

static bool add_option(reader *self, const yaml_node_t *at, const char *key) {
    if (at->type == YAML_SCALAR_NODE) return add_scalar(self, at, key);
    if (at->type != YAML_SEQUENCE_NODE) return add_json(self, at, key);
    for (const yaml_node_item_t *item = at->data.sequence.items.start;
         item < at->data.sequence.items.top; item++) {
        const yaml_node_t *one = node(self, *item);
        if (!(one->type == YAML_SCALAR_NODE ? add_scalar(self, one, key)
                                            : add_json(self, one, key)))
            return false;
    }
    return true;
}

/* Of an option that is there twice the last counts, with all of its list. */
static void forget(reader *self, const char *key) {
    cli_config_words *words = self->out;
    int kept = 0;
    for (int i = 0; i < words->n; i++) {
        const char *word = words->items[i] + 2;
        size_t n = 0;
        while (key[n] && (word[n] == key[n] ||
                          (word[n] && strchr("-_", word[n]) && strchr("-_", key[n]))))
            n++;
        if (key[n] || word[n] != '=') words->items[kept++] = words->items[i];
    }
    words->n = kept;
}

static bool read_options(reader *self) {
    const yaml_node_t *root = yaml_document_get_root_node(&self->document);
    pairs all = {0};
    if (!root || (root->type == YAML_SCALAR_NODE && is_null(root)))
        return true; /* empty */
    if (root->type != YAML_MAPPING_NODE)
        return complain(self, root, "options are wanted, as 'port: 8000'");
    bool fine = flatten(self, root, 0, &all);
    for (size_t i = 0; fine && i < all.n; i++) {
        forget(self, all.items[i].key); /* spelt with another dash */
        fine = add_option(self, all.items[i].value, all.items[i].key);
    }
    free(all.items);
    return fine;
}

static bool load(reader *self, yaml_parser_t *parser) {
    if (!yaml_parser_load(parser, &self->document)) {
        fprintf(stderr, "cohort: %s, line %zu: %s\n", self->path,
                parser->problem_mark.line + 1,
                parser->problem ? parser->problem : "no YAML");
        return false;
    }
    bool fine = read_options(self);
    yaml_document_delete(&self->document);
    return fine;
}

bool cli_config_read(const char *path, cli_config_words *out) {
    reader self = {.path = path, .out = out};
    yaml_parser_t parser;
    out->n = 0;
    FILE *file = fopen(path, "rbe");
    if (!file) {
        fprintf(stderr, "cohort: --config %s: %s\n", path, strerror(errno));
        return false;
    }
    bool fine = yaml_parser_initialize(&parser);
    if (fine) {
        yaml_parser_set_input_file(&parser, file);
        fine = load(&self, &parser);
        yaml_parser_delete(&parser);
    }
    fclose(file);
    return fine;
}
