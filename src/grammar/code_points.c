/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grammar/grammar_internal.h"

enum { FIRST_SURROGATE = 0xd800, LAST_SURROGATE = 0xdfff };

cohort_expr cohort_grammar_json_escaped(cohort_builder *builder, char byte) {
    static const char names[] = "\bb\ff\nn\rr\tt\"\"\\\\";
    char escaped[8] = {byte};
    for (const char *name = names; *name; name += 2)
        if (*name == byte) snprintf(escaped, sizeof escaped, "\\%c", name[1]);
    if ((unsigned char)escaped[0] < 0x20)
        snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)byte);
    return cohort_expr_literal(builder, escaped, strlen(escaped));
}

/* ---- UTF-8 ------------------------------------------------------------------------- */

static int encode(uint32_t code, uint8_t out[4]) {
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    int n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, code >>= 6)
        out[i] = (uint8_t)(0x80 | (code & 0x3f));
    out[0] = (uint8_t)((0xf00 >> n & 0xff) | code);
    return n;
}

/* Codes of one encoded length: cut until every byte is a range by itself. */
static cohort_expr utf8_range(cohort_builder *builder, uint32_t first, uint32_t last) {
    uint8_t low[4], high[4];
    int n = encode(first, low);
    encode(last, high);
    for (int i = 1; i < n; i++) {
        uint32_t mask = (1u << 6 * i) - 1;
        if ((first & ~mask) == (last & ~mask)) continue;
        if (first & mask)
            return cohort_expr_either(builder, utf8_range(builder, first, first | mask),
                                      utf8_range(builder, (first | mask) + 1, last));
        if ((last & mask) != mask)
            return cohort_expr_either(builder,
                                      utf8_range(builder, first, (last & ~mask) - 1),
                                      utf8_range(builder, last & ~mask, last));
    }
    cohort_expr expr = COHORT_EXPR_EMPTY;
    for (int i = n; i-- > 0;)
        expr = cohort_expr_concat(builder, cohort_expr_range(builder, low[i], high[i]),
                                  expr);
    return expr;
}

static cohort_expr codes(cohort_builder *builder, uint32_t first, uint32_t last) {
    static const uint32_t ends[] = {0x7f, 0x7ff, FIRST_SURROGATE - 1, 0xffff,
                                    COHORT_LAST_CODE};
    cohort_expr expr = COHORT_EXPR_NEVER;
    for (size_t i = 0; i < sizeof ends / sizeof *ends && first <= last; i++) {
        if (first > ends[i]) continue;
        if (first >= FIRST_SURROGATE && first <= LAST_SURROGATE)
            first = LAST_SURROGATE + 1;
        uint32_t end = last < ends[i] ? last : ends[i];
        if (first <= end)
            expr = cohort_expr_either(builder, utf8_range(builder, first, end), expr);
        if (ends[i] + 1 > first) first = ends[i] + 1;
    }
    return expr;
}

/* ---- sets of many ranges ------------------------------------------------------------
 */

/* A class such as \W has a thousand ranges, but few different blocks of 64 codes, which
 * is what the last byte chooses from: an automaton of some hundred states, that shares
 * them on every level, where a thousand alternatives would become tens of thousands. */

enum {
    BLOCKS = (COHORT_LAST_CODE + 1) / 64,
    GROUPS = BLOCKS / 64, /* of 64 blocks: what the last two bytes choose from */
    N_LEADS = 5,          /* of four bytes: 64 groups each */
};

struct code_map {
    cohort_builder *builder;
    uint64_t blocks[BLOCKS];
    uint32_t block_states[BLOCKS]; /* 0: empty */
    uint32_t group_states[GROUPS];
    cohort_automaton automaton; /* of 256 classes; 0: the start, 1: the end */
    size_t capacity;
};

static int32_t *row_of(const struct code_map *map, uint32_t state) {
    return map->automaton.next + (size_t)state * 256;
}

static uint32_t add_state(struct code_map *map) {
    cohort_automaton *automaton = &map->automaton;
    if (automaton->n_states == map->capacity) {
        size_t capacity = map->capacity ? map->capacity * 2 : 64;
        int32_t *next = realloc(automaton->next, capacity * 256 * sizeof *next);
        if (next) automaton->next = next;
        uint8_t *accepts = realloc(automaton->accepts, capacity);
        if (accepts) automaton->accepts = accepts;
        if (!next || !accepts) {
            COHORT_BUILDER_FAIL(map->builder, COHORT_E_NOMEM, "%zu states", capacity);
            return 0;
        }
        map->capacity = capacity;
    }
    cohort_builder_cells(map->builder, 256);
    uint32_t state = automaton->n_states++;
    automaton->accepts[state] = state == 1;
    for (int byte = 0; byte < 256; byte++)
        row_of(map, state)[byte] = -1;
    return state;
}

/* A state that leads on by the 64 bytes from 0x80, one of those before where it is the
 * same; 0: it would lead nowhere. */
static uint32_t state_of(struct code_map *map, const int32_t targets[64],
                         uint32_t first_state) {
    bool is_empty = true;
    for (int i = 0; i < 64; i++)
        is_empty = is_empty && targets[i] < 0;
    if (is_empty || map->builder->status < 0) return 0;
    for (uint32_t state = first_state; state < map->automaton.n_states; state++)
        if (!memcmp(row_of(map, state) + 0x80, targets, 64 * sizeof *targets))
            return state;
    uint32_t state = add_state(map);
    if (map->builder->status >= 0)
        memcpy(row_of(map, state) + 0x80, targets, 64 * sizeof *targets);
    return state;
}

static void map_blocks(struct code_map *map) {
    for (uint32_t block = 2; block < BLOCKS && map->builder->status >= 0; block++) {
        int32_t targets[64];
        /* The one before is the likeliest to be the same. */
        if (block > 2 && map->blocks[block] == map->blocks[block - 1]) {
            map->block_states[block] = map->block_states[block - 1];
            continue;
        }
        for (int i = 0; i < 64; i++)
            targets[i] = map->blocks[block] >> i & 1 ? 1 : -1;
        map->block_states[block] = state_of(map, targets, 2);
    }
}

static void map_groups(struct code_map *map) {
    uint32_t first = map->automaton.n_states;
    for (uint32_t group = 0; group < GROUPS && map->builder->status >= 0; group++) {
        int32_t targets[64];
        for (uint32_t i = 0; i < 64; i++) {
            uint32_t state = map->block_states[group * 64 + i];
            /* The first 32 blocks take fewer bytes. */
            targets[i] = state && (group || i >= 32) ? (int32_t)state : -1;
        }
        map->group_states[group] = state_of(map, targets, first);
    }
}

static void map_leads(struct code_map *map) {
    uint32_t first = map->automaton.n_states;
    for (uint32_t code = 0; code < 0x80; code++)
        if (map->blocks[code / 64] >> code % 64 & 1) row_of(map, 0)[code] = 1;
    for (uint32_t block = 2; block < 32; block++)
        if (map->block_states[block])
            row_of(map, 0)[0xc0 + block] = (int32_t)map->block_states[block];
    for (uint32_t group = 0; group < 16; group++)
        if (map->group_states[group])
            row_of(map, 0)[0xe0 + group] = (int32_t)map->group_states[group];
    for (uint32_t lead = 0; lead < N_LEADS && map->builder->status >= 0; lead++) {
        int32_t targets[64];
        for (uint32_t i = 0; i < 64; i++) {
            uint32_t group = lead * 64 + i;
            bool is_long = group >= 16 && group < GROUPS && map->group_states[group];
            targets[i] = is_long ? (int32_t)map->group_states[group] : -1;
        }
        uint32_t state = state_of(map, targets, first);
        if (state) row_of(map, 0)[0xf0 + lead] = (int32_t)state;
    }
}

static cohort_expr mapped(cohort_builder *builder, const cohort_code_set *set) {
    struct code_map *map = calloc(1, sizeof *map);
    if (!map) {
        COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "a class of characters");
        return COHORT_EXPR_NEVER;
    }
    map->builder = builder;
    for (size_t i = 0; i < set->count; i++)
        for (uint32_t code = set->items[i].first; code <= set->items[i].last; code++)
            if (code < FIRST_SURROGATE || code > LAST_SURROGATE)
                map->blocks[code / 64] |= UINT64_C(1) << code % 64;
    for (int byte = 0; byte < 256; byte++)
        map->automaton.classes[byte] = (uint8_t)byte;
    map->automaton.n_classes = 256;
    add_state(map);
    add_state(map);
    map_blocks(map);
    map_groups(map);
    if (builder->status >= 0) map_leads(map);
    cohort_expr expr = cohort_expr_automaton(builder, &map->automaton);
    free(map);
    return expr;
}

/* Patterns name one class again and again. */
static cohort_expr mapped_once(cohort_builder *builder, const cohort_code_set *set) {
    for (size_t i = 0; i < builder->n_classes; i++) {
        const struct known_class *known = &builder->classes[i];
        if (known->set.count == set->count &&
            !memcmp(known->set.items, set->items, set->count * sizeof *set->items))
            return known->expr;
    }
    cohort_expr expr = mapped(builder, set);
    if (builder->status < 0 || builder->n_classes == COHORT_MAX_KNOWN_CLASSES)
        return expr;
    struct known_class *known = &builder->classes[builder->n_classes];
    known->expr = expr;
    for (size_t i = 0; i < set->count; i++)
        cohort_code_set_add(builder, &known->set, set->items[i].first,
                            set->items[i].last);
    builder->n_classes++;
    return expr;
}

/* ---- sets ---------------------------------------------------------------------------
 */

enum { FEW_RANGES = 12 };

static bool contains(const cohort_code_set *set, uint32_t code) {
    for (size_t i = 0; i < set->count; i++)
        if (code >= set->items[i].first && code <= set->items[i].last) return true;
    return false;
}

static cohort_expr as_utf8(cohort_builder *builder, const cohort_code_set *set) {
    cohort_expr expr = COHORT_EXPR_NEVER;
    if (set->count > FEW_RANGES) return mapped_once(builder, set);
    for (size_t i = 0; i < set->count; i++)
        expr = cohort_expr_either(
            builder, codes(builder, set->items[i].first, set->items[i].last), expr);
    return expr;
}

cohort_expr cohort_expr_codes(cohort_builder *builder, cohort_code_set *set,
                              bool in_json) {
    /* Themselves, but for those that a string must escape. */
    static const struct code_range plain[] = {
        {0x20, 0x21}, {0x23, 0x5b}, {0x5d, COHORT_LAST_CODE}};
    cohort_code_set_tidy(set);
    if (!in_json) return as_utf8(builder, set);
    cohort_code_set raw = {0};
    for (size_t i = 0; i < set->count; i++)
        for (size_t p = 0; p < sizeof plain / sizeof *plain; p++) {
            const struct code_range *range = &set->items[i];
            uint32_t first =
                range->first > plain[p].first ? range->first : plain[p].first;
            uint32_t last = range->last < plain[p].last ? range->last : plain[p].last;
            cohort_code_set_add(builder, &raw, first, last);
        }
    cohort_expr expr = as_utf8(builder, &raw);
    cohort_code_set_deinit(&raw);
    for (uint32_t code = 0; code <= '\\'; code++) {
        bool is_plain = code >= 0x20 && code != '"' && code != '\\';
        if (is_plain || !contains(set, code)) continue;
        expr = cohort_expr_either(builder,
                                  cohort_grammar_json_escaped(builder, (char)code), expr);
    }
    return expr;
}
