/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/value.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "jinja/characters.h"

const jinja_value cohort_jinja_none = {.kind = JINJA_NONE};
const jinja_value cohort_jinja_true = {.kind = JINJA_BOOL, .truth = true};
const jinja_value cohort_jinja_false = {.kind = JINJA_BOOL, .truth = false};

/* ---- making ------------------------------------------------------------------------ */

static jinja_value *make(jinja_arena *arena, jinja_kind kind) {
    jinja_value *value = cohort_jinja_alloc(arena, sizeof *value);
    value->kind = kind;
    return value;
}

const jinja_value *cohort_jinja_bool(bool truth) {
    return truth ? &cohort_jinja_true : &cohort_jinja_false;
}

const jinja_value *cohort_jinja_int(jinja_arena *arena, int64_t whole) {
    jinja_value *value = make(arena, JINJA_INT);
    value->whole = whole;
    return value;
}

const jinja_value *cohort_jinja_float(jinja_arena *arena, double real) {
    jinja_value *value = make(arena, JINJA_FLOAT);
    value->real = real;
    return value;
}

const jinja_value *cohort_jinja_string(jinja_arena *arena, const char *bytes,
                                       size_t size) {
    jinja_value *value = make(arena, JINJA_STRING);
    char *copy = cohort_jinja_alloc(arena, size + 1);
    if (size) memcpy(copy, bytes, size);
    value->string.bytes = copy;
    value->string.size = size;
    return value;
}

const jinja_value *cohort_jinja_word(jinja_arena *arena, const char *text) {
    return cohort_jinja_string(arena, text, strlen(text));
}

const jinja_value *cohort_jinja_taken(jinja_text *text) {
    jinja_value *value = make(text->arena, JINJA_STRING);
    cohort_jinja_append(text, "", 0);
    value->string.bytes = text->bytes;
    value->string.size = text->size;
    return value;
}

const jinja_value *cohort_jinja_marked(jinja_arena *arena, const jinja_value *value) {
    for (size_t i = 0; value->kind == JINJA_LIST && i < value->list.n; i++)
        value->list.items[i] = cohort_jinja_marked(arena, value->list.items[i]);
    if (value->kind != JINJA_STRING || value->string.is_markup) return value;
    jinja_value *marked = make(arena, JINJA_STRING);
    marked->string = value->string;
    marked->string.is_markup = true;
    return marked;
}

const jinja_value *cohort_jinja_undefined(jinja_arena *arena, const char *name,
                                          const char *of) {
    jinja_value *value = make(arena, JINJA_UNDEFINED);
    value->undefined.name = name;
    value->undefined.of = of;
    return value;
}

jinja_value *cohort_jinja_list(jinja_arena *arena, jinja_kind kind, size_t n) {
    jinja_value *value = make(arena, kind);
    cohort_jinja_step(arena, (int64_t)n);
    value->list.items = cohort_jinja_alloc(arena, (n + 1) * sizeof *value->list.items);
    value->list.n = n;
    return value;
}

jinja_value *cohort_jinja_dict(jinja_arena *arena, jinja_kind kind) {
    return make(arena, kind);
}

/* Members come from strangers: a hash without a secret would let them choose keys that
 * collide.  Keys other than strings come from templates, are few, and share one. */
static unsigned char secret[crypto_shorthash_KEYBYTES];

static void draw_secret(void) { randombytes_buf(secret, sizeof secret); }

static uint64_t hash_of(const char *bytes, size_t size) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    unsigned char hash[crypto_shorthash_BYTES];
    uint64_t value;
    pthread_once(&once, draw_secret);
    crypto_shorthash(hash, (const unsigned char *)bytes, size, secret);
    memcpy(&value, hash, sizeof value);
    return value;
}

static uint64_t hash_of_key(const jinja_value *key) {
    return key->kind == JINJA_STRING ? hash_of(key->string.bytes, key->string.size) : 0;
}

static void note_place(jinja_value *dict, size_t i) {
    size_t mask = dict->dict.n_places - 1;
    size_t at = hash_of_key(dict->dict.pairs[i].key) & mask;
    while (dict->dict.places[at])
        at = (at + 1) & mask;
    dict->dict.places[at] = (uint32_t)(i + 1);
}

/* After a pair was added. */
static void extend_places(jinja_arena *arena, jinja_value *dict) {
    enum { FEWEST_PAIRS = 16 }; /* below, a walk is as fast */
    size_t n = dict->dict.n;
    if (n < FEWEST_PAIRS || n >= UINT32_MAX) return;
    if (dict->dict.n_places >= 2 * n) {
        note_place(dict, n - 1);
        return;
    }
    size_t n_places = dict->dict.n_places ? dict->dict.n_places : 2 * FEWEST_PAIRS;
    while (n_places < 2 * n)
        n_places *= 2;
    n_places *= 2;
    dict->dict.places = cohort_jinja_alloc(arena, n_places * sizeof(uint32_t));
    dict->dict.n_places = n_places;
    for (size_t i = 0; i < n; i++)
        note_place(dict, i);
}

/* NULL: it has no such key. */
static jinja_pair *find_pair(jinja_arena *arena, const jinja_value *dict,
                             const jinja_value *key) {
    if (!dict->dict.n_places) {
        for (size_t i = 0; i < dict->dict.n; i++)
            if (cohort_jinja_equal(arena, dict->dict.pairs[i].key, key))
                return &dict->dict.pairs[i];
        return NULL;
    }
    size_t mask = dict->dict.n_places - 1;
    for (size_t at = hash_of_key(key) & mask; dict->dict.places[at];
         at = (at + 1) & mask) {
        jinja_pair *pair = &dict->dict.pairs[dict->dict.places[at] - 1];
        if (cohort_jinja_equal(arena, pair->key, key)) return pair;
    }
    return NULL;
}

void cohort_jinja_put(jinja_arena *arena, jinja_value *dict, const jinja_value *key,
                      const jinja_value *value) {
    jinja_pair *old = find_pair(arena, dict, key);
    if (old) {
        old->value = value;
        return;
    }
    dict->dict.pairs = cohort_jinja_grow(arena, dict->dict.pairs, dict->dict.n,
                                         &dict->dict.capacity, sizeof *dict->dict.pairs);
    dict->dict.pairs[dict->dict.n++] = (jinja_pair){key, value};
    extend_places(arena, dict);
}

const jinja_value *cohort_jinja_get(jinja_arena *arena, const jinja_value *dict,
                                    const jinja_value *key) {
    const jinja_pair *pair = find_pair(arena, dict, key);
    return pair ? pair->value : NULL;
}

static const jinja_value *value_if_named(const jinja_pair *pair, const char *name,
                                         size_t size) {
    return pair->key->kind == JINJA_STRING && pair->key->string.size == size &&
                   !memcmp(pair->key->string.bytes, name, size)
               ? pair->value
               : NULL;
}

const jinja_value *cohort_jinja_member(const jinja_value *dict, const char *name) {
    const jinja_value *value = NULL;
    size_t size = strlen(name);
    if (!dict->dict.n_places) {
        for (size_t i = 0; i < dict->dict.n && !value; i++)
            value = value_if_named(&dict->dict.pairs[i], name, size);
        return value;
    }
    size_t mask = dict->dict.n_places - 1;
    for (size_t at = hash_of(name, size) & mask; dict->dict.places[at] && !value;
         at = (at + 1) & mask)
        value = value_if_named(&dict->dict.pairs[dict->dict.places[at] - 1], name, size);
    return value;
}

/* An int of any length is a float that knows its digits: templates print such numbers,
 * none counts with them. */
static const jinja_value *long_int(jinja_arena *arena, const char *digits, double near) {
    jinja_value *value = make(arena, JINJA_FLOAT);
    size_t size = strlen(digits) + 1;
    value->real = near;
    value->digits = memcpy(cohort_jinja_alloc(arena, size), digits, size);
    return value;
}

/* As it was written, where that is kept (json_text.h); else JSON has one kind of number,
 * and what is whole is an int. */
static const jinja_value *from_number(jinja_arena *arena, const cJSON *json) {
    const char *digits = json->valuestring;
    double number = json->valuedouble;
    bool is_word = digits && strspn(digits, "-0123456789.eE+") != strlen(digits);
    if (digits && (is_word || strpbrk(digits, ".eE")))
        return cohort_jinja_float(arena, number);
    if (digits) {
        errno = 0;
        int64_t whole = strtoll(digits, NULL, 10);
        return errno ? long_int(arena, digits, number) : cohort_jinja_int(arena, whole);
    }
    if (number == floor(number) && fabs(number) < 0x1p63)
        return cohort_jinja_int(arena, (int64_t)number);
    return cohort_jinja_float(arena, number);
}

/* A text of JSON's, in which two bytes are a NUL (json_text.h). */
static const jinja_value *from_text(jinja_arena *arena, const char *text) {
    static const char nul[] = "\xc0\x80";
    size_t size = strlen(text);
    char *to = strstr(text, nul) ? cohort_jinja_alloc(arena, size) : NULL;
    if (!to) return cohort_jinja_string(arena, text, size);
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        bool is_nul = !strncmp(text + i, nul, 2);
        to[n++] = is_nul ? '\0' : text[i];
        i += is_nul;
    }
    return cohort_jinja_string(arena, to, n);
}

const jinja_value *cohort_jinja_from_json(jinja_arena *arena, const cJSON *json) {
    const cJSON *item;
    const jinja_value *value = &cohort_jinja_none;
    cohort_jinja_enter(arena);
    if (cJSON_IsBool(json)) {
        value = cohort_jinja_bool(cJSON_IsTrue(json));
    } else if (cJSON_IsNumber(json)) {
        value = from_number(arena, json);
    } else if (cJSON_IsString(json)) {
        value = from_text(arena, json->valuestring);
    } else if (cJSON_IsArray(json)) {
        size_t n = 0;
        cJSON_ArrayForEach(item, json) n++;
        jinja_value *list = cohort_jinja_list(arena, JINJA_LIST, n);
        n = 0;
        cJSON_ArrayForEach(item, json) list->list.items[n++] =
            cohort_jinja_from_json(arena, item);
        value = list;
    } else if (cJSON_IsObject(json)) {
        jinja_value *dict = cohort_jinja_dict(arena, JINJA_DICT);
        cJSON_ArrayForEach(item, json)
            cohort_jinja_put(arena, dict, from_text(arena, item->string),
                             cohort_jinja_from_json(arena, item));
        value = dict;
    }
    cohort_jinja_leave(arena);
    return value;
}

/* ---- asking ------------------------------------------------------------------------ */

const char *cohort_jinja_type_name(const jinja_value *value) {
    static const char *const names[] = {"Undefined", "NoneType", "bool",      "int",
                                        "float",     "str",      "list",      "tuple",
                                        "generator", "dict",     "Namespace", "function"};
    return names[value->kind];
}

bool cohort_jinja_is_true(const jinja_value *value) {
    switch (value->kind) {
    case JINJA_UNDEFINED:
    case JINJA_NONE: return false;
    case JINJA_BOOL: return value->truth;
    case JINJA_INT: return value->whole != 0;
    case JINJA_FLOAT: return value->real != 0;
    case JINJA_STRING: return value->string.size > 0;
    case JINJA_LIST:
    case JINJA_TUPLE: return value->list.n > 0;
    case JINJA_DICT: return value->dict.n > 0;
    case JINJA_GENERATOR:
    case JINJA_NAMESPACE:
    case JINJA_CALLABLE: return true;
    }
    return false;
}

double cohort_jinja_real(const jinja_value *number) {
    return number->kind == JINJA_FLOAT ? number->real
                                       : (double)cohort_jinja_whole(number);
}

int64_t cohort_jinja_whole(const jinja_value *number) {
    return number->kind == JINJA_BOOL ? number->truth : number->whole;
}

static bool same_dict(jinja_arena *arena, const jinja_value *a, const jinja_value *b) {
    if (a->dict.n != b->dict.n) return false;
    for (size_t i = 0; i < a->dict.n; i++) {
        const jinja_value *other = cohort_jinja_get(arena, b, a->dict.pairs[i].key);
        if (!other || !cohort_jinja_equal(arena, a->dict.pairs[i].value, other))
            return false;
    }
    return true;
}

static bool same_list(jinja_arena *arena, const jinja_value *a, const jinja_value *b) {
    if (a->list.n != b->list.n) return false;
    for (size_t i = 0; i < a->list.n; i++)
        if (!cohort_jinja_equal(arena, a->list.items[i], b->list.items[i])) return false;
    return true;
}

static bool equal_of_one_kind(jinja_arena *arena, const jinja_value *a,
                              const jinja_value *b) {
    switch (a->kind) {
    case JINJA_UNDEFINED:
    case JINJA_NONE: return true;
    case JINJA_STRING:
        return a->string.size == b->string.size &&
               !memcmp(a->string.bytes, b->string.bytes, a->string.size);
    case JINJA_LIST:
    case JINJA_TUPLE: return same_list(arena, a, b);
    case JINJA_DICT: return same_dict(arena, a, b);
    default: return false;
    }
}

bool cohort_jinja_equal(jinja_arena *arena, const jinja_value *a, const jinja_value *b) {
    if (a == b) return true;
    cohort_jinja_step(arena, 1);
    if (cohort_jinja_is_number(a) && cohort_jinja_is_number(b)) {
        if (a->kind != JINJA_FLOAT && b->kind != JINJA_FLOAT)
            return cohort_jinja_whole(a) == cohort_jinja_whole(b);
        return cohort_jinja_real(a) == cohort_jinja_real(b);
    }
    if (a->kind != b->kind) return false;
    if (a->kind == JINJA_STRING) cohort_jinja_look(arena, a->string.size);
    cohort_jinja_enter(arena);
    bool equal = equal_of_one_kind(arena, a, b);
    cohort_jinja_leave(arena);
    return equal;
}

static int sign_of(double difference) { return (difference > 0) - (difference < 0); }

static int compare_strings(const jinja_value *a, const jinja_value *b) {
    size_t least = a->string.size < b->string.size ? a->string.size : b->string.size;
    int order = memcmp(a->string.bytes, b->string.bytes, least);
    return order ? order
                 : (a->string.size > b->string.size) - (a->string.size < b->string.size);
}

/* By the first items that differ. */
static int compare_lists(jinja_arena *arena, const jinja_value *a, const jinja_value *b,
                         const char *operation) {
    size_t i = 0, n = a->list.n < b->list.n ? a->list.n : b->list.n;
    while (i < n && cohort_jinja_equal(arena, a->list.items[i], b->list.items[i]))
        i++;
    if (i == n) return (a->list.n > b->list.n) - (a->list.n < b->list.n);
    cohort_jinja_enter(arena);
    int order =
        cohort_jinja_compare(arena, a->list.items[i], b->list.items[i], operation);
    cohort_jinja_leave(arena);
    return order;
}

int cohort_jinja_compare(jinja_arena *arena, const jinja_value *a, const jinja_value *b,
                         const char *operation) {
    cohort_jinja_step(arena, 1);
    if (cohort_jinja_is_number(a) && cohort_jinja_is_number(b)) {
        if (a->kind == JINJA_FLOAT || b->kind == JINJA_FLOAT)
            return sign_of(cohort_jinja_real(a) - cohort_jinja_real(b));
        int64_t x = cohort_jinja_whole(a), y = cohort_jinja_whole(b);
        return (x > y) - (x < y);
    }
    if (a->kind == JINJA_STRING && b->kind == JINJA_STRING) {
        cohort_jinja_look(arena, a->string.size);
        return compare_strings(a, b);
    }
    if (cohort_jinja_is_list(a) && a->kind == b->kind)
        return compare_lists(arena, a, b, operation);
    cohort_jinja_fail(arena, "'%s' not supported between instances of '%s' and '%s'",
                      operation, cohort_jinja_type_name(a), cohort_jinja_type_name(b));
}

void cohort_jinja_need_hashable(jinja_arena *arena, const jinja_value *value) {
    if (value->kind == JINJA_LIST || value->kind == JINJA_DICT)
        cohort_jinja_fail(arena, "unhashable type: '%s'", cohort_jinja_type_name(value));
    cohort_jinja_enter(arena);
    for (size_t i = 0; value->kind == JINJA_TUPLE && i < value->list.n; i++)
        cohort_jinja_need_hashable(arena, value->list.items[i]);
    cohort_jinja_leave(arena);
}

bool cohort_jinja_contains(jinja_arena *arena, const jinja_value *in,
                           const jinja_value *value) {
    if (in->kind == JINJA_STRING) {
        if (value->kind != JINJA_STRING)
            cohort_jinja_fail(arena,
                              "'in <string>' requires string as left operand, not %s",
                              cohort_jinja_type_name(value));
        cohort_jinja_look(arena, in->string.size);
        return memmem(in->string.bytes, in->string.size, value->string.bytes,
                      value->string.size);
    }
    if (in->kind == JINJA_DICT) {
        cohort_jinja_need_hashable(arena, value);
        return cohort_jinja_get(arena, in, value);
    }
    const jinja_value *item;
    if (in->kind == JINJA_GENERATOR) {
        while ((item = cohort_jinja_next(in)))
            if (cohort_jinja_equal(arena, item, value)) return true;
        return false;
    }
    const jinja_value *elements = cohort_jinja_elements(arena, in);
    for (size_t i = 0; i < elements->list.n; i++)
        if (cohort_jinja_equal(arena, elements->list.items[i], value)) return true;
    return false;
}

static const jinja_value *characters(jinja_arena *arena, const jinja_value *string) {
    const char *bytes = string->string.bytes;
    size_t size = string->string.size, at = 0, length;
    size_t n = cohort_jinja_n_chars(bytes, size);
    jinja_value *list = cohort_jinja_list(arena, JINJA_LIST, n);
    for (size_t i = 0; i < n; i++, at += length) {
        cohort_jinja_char(bytes + at, size - at, &length);
        list->list.items[i] = cohort_jinja_string(arena, bytes + at, length);
    }
    return list;
}

/* A generator changes by being read. */
static jinja_value *read_from(const jinja_value *generator) {
    jinja_value *changed;
    memcpy(&changed, &generator, sizeof changed);
    return changed;
}

const jinja_value *cohort_jinja_next(const jinja_value *generator) {
    if (!generator->list.n) return NULL;
    read_from(generator)->list.n--;
    return *read_from(generator)->list.items++;
}

const jinja_value *cohort_jinja_elements(jinja_arena *arena, const jinja_value *value) {
    if (cohort_jinja_is_list(value)) {
        cohort_jinja_look(arena, value->list.n * sizeof *value->list.items);
        return value;
    }
    if (value->kind == JINJA_GENERATOR) {
        jinja_value *list = make(arena, JINJA_LIST);
        list->list = value->list;
        read_from(value)->list.n = 0;
        return list;
    }
    if (value->kind == JINJA_STRING) return characters(arena, value);
    if (value->kind == JINJA_UNDEFINED) return cohort_jinja_list(arena, JINJA_LIST, 0);
    if (value->kind != JINJA_DICT)
        cohort_jinja_fail(arena, "'%s' object is not iterable",
                          cohort_jinja_type_name(value));
    jinja_value *keys = cohort_jinja_list(arena, JINJA_LIST, value->dict.n);
    for (size_t i = 0; i < value->dict.n; i++)
        keys->list.items[i] = value->dict.pairs[i].key;
    return keys;
}
