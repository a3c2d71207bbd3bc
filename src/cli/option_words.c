/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/option_words.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *cli_keep(const char *text) {
    static struct kept {
        struct kept *next;
        char text[];
    } * all;
    struct kept *added = malloc(sizeof *added + strlen(text) + 1);
    if (!added) return NULL;
    added->next = all;
    all = added;
    return strcpy(added->text, text);
}

bool cli_is_named(const char *text, const char *ends, const char *name) {
    size_t size = strcspn(text, ends);
    if (!name || strlen(name) != size) return false;
    for (size_t i = 0; i < size; i++)
        if (text[i] != name[i] && !(text[i] == '_' && name[i] == '-')) return false;
    return true;
}

const char *cli_negated_name(const char *word) {
    bool is_negated = !strncmp(word, "--no-", 5) || !strncmp(word, "--no_", 5);
    return is_negated ? word + 5 : NULL;
}

bool cli_is_among(const char *text, const char *words,
                  int (*compare)(const char *a, const char *b, size_t size)) {
    for (size_t size;; words += size + 1) {
        size = strcspn(words, "|");
        if (strlen(text) == size && !compare(words, text, size)) return true;
        if (!words[size]) return false;
    }
}

bool cli_is_none(const char *text) { return !*text || !strcmp(text, "None"); }

bool cli_abbreviates(const char *text, const char *name) {
    size_t size = strcspn(text, "=.");
    for (size_t i = 0; i < size; i++)
        if (!name[i] || (text[i] != name[i] && !(text[i] == '_' && name[i] == '-')))
            return false;
    return size > 0;
}

const char *cli_spell_out(const char *word, const char *full) {
    char text[512];
    const char *negated = cli_negated_name(word);
    const char *rest = negated ? negated : word + 2;
    rest += strcspn(rest, "=.");
    int n = snprintf(text, sizeof text, "--%s%s%s", negated ? "no-" : "", full, rest);
    return n > 0 && (size_t)n < sizeof text ? cli_keep(text) : NULL;
}

const char *cli_set_key(const char *json, const char *path, const char *value) {
    cJSON *root = json ? cJSON_Parse(json) : NULL;
    if (!cJSON_IsObject(root)) {
        cJSON_Delete(root);
        root = cJSON_CreateObject();
    }
    cJSON *at = root, *leaf = cJSON_ParseWithOpts(value, NULL, true);
    if (!leaf) leaf = cJSON_CreateString(value);
    char key[128];
    for (;; path++) {
        size_t size = strcspn(path, ".=");
        if (!at || !size || size >= sizeof key) break;
        snprintf(key, sizeof key, "%.*s", (int)size, path);
        path += size;
        if (*path != '.') {
            cJSON_DeleteItemFromObjectCaseSensitive(at, key);
            if (cJSON_AddItemToObject(at, key, leaf)) leaf = NULL;
            break;
        }
        cJSON *inner = cJSON_GetObjectItemCaseSensitive(at, key);
        if (!cJSON_IsObject(inner)) {
            cJSON_DeleteItemFromObjectCaseSensitive(at, key);
            inner = cJSON_AddObjectToObject(at, key);
        }
        at = inner;
    }
    char *text = leaf ? NULL : cJSON_PrintUnformatted(root);
    const char *kept = text ? cli_keep(text) : NULL;
    free(text);
    cJSON_Delete(leaf);
    cJSON_Delete(root);
    return kept;
}
