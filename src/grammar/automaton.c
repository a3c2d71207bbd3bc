/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"
#include "grammar/grammar_internal.h"

/* Design notes.
 *
 * Thompson's construction and the subset construction, with a call of another rule as one
 * more symbol beside the bytes: what is regular inside a rule becomes deterministic, and
 * only calls are left as choices.  Patterns are strangers' text: states and cells are
 * counted against limits while they are made, so that a pattern that blows up ends in an
 * error and not in memory. */

enum expr_kind { EMPTY, NEVER, BYTES, CONCAT, EITHER, REPEAT, CALL, AUTOMATON };

struct expr_node {
    enum expr_kind kind;
    uint32_t a, b; /* parts; a: the rule or the automaton */
    int32_t least, most;
    cohort_byte_set set;
};

enum { EDGE_EMPTY, EDGE_BYTES, EDGE_CALL };

struct nfa_edge {
    uint32_t from, to;
    uint32_t rule;
    uint8_t kind, first, last;
};

/* ---- growing ----------------------------------------------------------------------- */

/* Room for one more item, or the builder fails. */
static void *grown(cohort_builder *builder, void *items, size_t count, size_t *capacity,
                   size_t item_bytes) {
    void *larger = cohort_grow(items, count + 1, capacity, item_bytes);
    if (larger) return larger;
    COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "a grammar of %zu parts", count + 1);
    return items;
}

void cohort_builder_init(cohort_builder *builder) {
    *builder = (cohort_builder){
        .white_space = UINT32_MAX, .any_object = UINT32_MAX, .any_array = UINT32_MAX};
    builder->exprs = calloc(64, sizeof *builder->exprs);
    if (!builder->exprs) {
        COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "a grammar");
        return;
    }
    builder->exprs_capacity = 64;
    builder->exprs[COHORT_EXPR_EMPTY].kind = EMPTY;
    builder->exprs[COHORT_EXPR_NEVER].kind = NEVER;
    builder->n_exprs = 2;
}

static void rule_deinit(cohort_rule *rule) {
    cohort_automaton_deinit(&rule->automaton);
    free(rule->heights);
}

void cohort_builder_deinit(cohort_builder *builder) {
    for (size_t i = 0; i < builder->n_automata; i++)
        cohort_automaton_deinit(&builder->automata[i]);
    for (size_t i = 0; i < builder->n_rules; i++)
        rule_deinit(&builder->rules[i]);
    for (size_t i = 0; i < builder->n_classes; i++)
        cohort_code_set_deinit(&builder->classes[i].set);
    free(builder->automata);
    free(builder->rules);
    free(builder->exprs);
    *builder = (cohort_builder){0};
}

/* ---- expressions ------------------------------------------------------------------- */

static cohort_expr add_expr(cohort_builder *builder, const struct expr_node *node) {
    if (builder->status < 0) return COHORT_EXPR_NEVER;
    if (builder->n_exprs >= COHORT_GRAMMAR_MAX_CELLS) {
        COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID, "the grammar is too large");
        return COHORT_EXPR_NEVER;
    }
    builder->exprs = grown(builder, builder->exprs, builder->n_exprs,
                           &builder->exprs_capacity, sizeof *builder->exprs);
    if (builder->status < 0) return COHORT_EXPR_NEVER;
    builder->exprs[builder->n_exprs] = *node;
    return (cohort_expr)builder->n_exprs++;
}

cohort_expr cohort_expr_bytes(cohort_builder *builder, const cohort_byte_set *set) {
    return add_expr(builder, &(struct expr_node){.kind = BYTES, .set = *set});
}

cohort_expr cohort_expr_range(cohort_builder *builder, uint8_t first, uint8_t last) {
    cohort_byte_set set = {{0}};
    for (unsigned byte = first; byte <= last; byte++)
        set.bits[byte / 64] |= UINT64_C(1) << byte % 64;
    return cohort_expr_bytes(builder, &set);
}

/* Written from the end, so that the rest of a text is always the second part: adding
 * it to an nfa is a loop, not a recursion. */
cohort_expr cohort_expr_literal(cohort_builder *builder, const char *bytes, size_t size) {
    cohort_expr expr = COHORT_EXPR_EMPTY;
    for (size_t i = size; i-- > 0 && builder->status >= 0;)
        expr = cohort_expr_concat(
            builder, cohort_expr_range(builder, (uint8_t)bytes[i], (uint8_t)bytes[i]),
            expr);
    return expr;
}

cohort_expr cohort_expr_concat(cohort_builder *builder, cohort_expr a, cohort_expr b) {
    if (a == COHORT_EXPR_NEVER || b == COHORT_EXPR_NEVER) return COHORT_EXPR_NEVER;
    if (a == COHORT_EXPR_EMPTY) return b;
    if (b == COHORT_EXPR_EMPTY) return a;
    return add_expr(builder, &(struct expr_node){.kind = CONCAT, .a = a, .b = b});
}

cohort_expr cohort_expr_either(cohort_builder *builder, cohort_expr a, cohort_expr b) {
    if (a == COHORT_EXPR_NEVER || a == b) return b;
    if (b == COHORT_EXPR_NEVER) return a;
    return add_expr(builder, &(struct expr_node){.kind = EITHER, .a = a, .b = b});
}

cohort_expr cohort_expr_repeat(cohort_builder *builder, cohort_expr a, int32_t least,
                               int32_t most) {
    if (a == COHORT_EXPR_EMPTY || most == 0) return COHORT_EXPR_EMPTY;
    if (least == 1 && most == 1) return a;
    return add_expr(builder, &(struct expr_node){
                                 .kind = REPEAT, .a = a, .least = least, .most = most});
}

cohort_expr cohort_expr_call(cohort_builder *builder, uint32_t rule) {
    return add_expr(builder, &(struct expr_node){.kind = CALL, .a = rule});
}

cohort_expr cohort_expr_automaton(cohort_builder *builder, cohort_automaton *automaton) {
    if (builder->status >= 0)
        builder->automata = grown(builder, builder->automata, builder->n_automata,
                                  &builder->automata_capacity, sizeof *builder->automata);
    if (builder->status < 0) {
        cohort_automaton_deinit(automaton);
        return COHORT_EXPR_NEVER;
    }
    builder->automata[builder->n_automata] = *automaton;
    *automaton = (cohort_automaton){0};
    return add_expr(builder, &(struct expr_node){.kind = AUTOMATON,
                                                 .a = (uint32_t)builder->n_automata++});
}

static size_t at_most_parts(size_t size) {
    return size < COHORT_GRAMMAR_MAX_PARTS ? size : COHORT_GRAMMAR_MAX_PARTS;
}

/* Over second parts it is a loop, as lists are long. */
size_t cohort_expr_measure(const cohort_builder *builder, cohort_expr expr,
                           bool *out_is_nullable) {
    const struct expr_node *node = &builder->exprs[expr];
    bool is_nullable = true, part = false, any = false;
    size_t size = 1;
    for (; node->kind == CONCAT; node = &builder->exprs[node->b]) {
        size = at_most_parts(size + cohort_expr_measure(builder, node->a, &part));
        is_nullable = is_nullable && part;
    }
    for (; node->kind == EITHER; node = &builder->exprs[node->b]) {
        size = at_most_parts(size + cohort_expr_measure(builder, node->a, &part));
        any = any || part;
    }
    part = false;
    switch (node->kind) {
    case EMPTY: part = true; break;
    case CONCAT:
        size += cohort_expr_measure(builder, (cohort_expr)(node - builder->exprs), &part);
        break;
    case REPEAT: {
        int32_t times = node->most > node->least ? node->most : node->least;
        size += cohort_expr_measure(builder, node->a, &part) * ((size_t)times + 2);
        part = part || !node->least;
        break;
    }
    case AUTOMATON:
        size += builder->automata[node->a].n_states;
        part = builder->automata[node->a].accepts[0];
        break;
    default: break;
    }
    *out_is_nullable = is_nullable && (any || part);
    return at_most_parts(size);
}

/* ---- nfa --------------------------------------------------------------------------- */

static void refuse_size(cohort_builder *builder) {
    COHORT_BUILDER_FAIL(builder, COHORT_E_INVALID,
                        "the grammar is too complex: it takes more than %d parts, %d "
                        "edges, %d states of one value or %d table cells; make lists "
                        "and repetitions smaller",
                        COHORT_GRAMMAR_MAX_PARTS, COHORT_GRAMMAR_MAX_EDGES,
                        COHORT_GRAMMAR_MAX_STATES, COHORT_GRAMMAR_MAX_CELLS);
}

void cohort_builder_work(cohort_builder *builder, size_t n) {
    builder->n_work += n;
    if (builder->n_work > COHORT_GRAMMAR_MAX_WORK) refuse_size(builder);
}

void cohort_builder_cells(cohort_builder *builder, size_t n) {
    builder->n_cells += n;
    if (builder->n_cells > COHORT_GRAMMAR_MAX_CELLS) refuse_size(builder);
}

uint32_t cohort_nfa_state(cohort_builder *builder, cohort_nfa *nfa) {
    if (nfa->n_states >= COHORT_GRAMMAR_MAX_PARTS) {
        refuse_size(builder);
        return 0;
    }
    return nfa->n_states++;
}

static void add_edge(cohort_builder *builder, cohort_nfa *nfa,
                     const struct nfa_edge *edge) {
    cohort_builder_work(builder, 1);
    if (nfa->n_edges >= COHORT_GRAMMAR_MAX_EDGES) refuse_size(builder);
    if (builder->status < 0) return;
    nfa->edges = grown(builder, nfa->edges, nfa->n_edges, &nfa->edges_capacity,
                       sizeof *nfa->edges);
    if (builder->status >= 0) nfa->edges[nfa->n_edges++] = *edge;
}

static void add_empty(cohort_builder *builder, cohort_nfa *nfa, uint32_t from,
                      uint32_t to) {
    add_edge(builder, nfa, &(struct nfa_edge){.from = from, .to = to});
}

static bool has_byte(const cohort_byte_set *set, unsigned byte) {
    return set->bits[byte / 64] >> byte % 64 & 1;
}

static void add_bytes(cohort_builder *builder, cohort_nfa *nfa,
                      const cohort_byte_set *set, uint32_t from, uint32_t to) {
    for (unsigned byte = 0; byte < 256; byte++) {
        if (!has_byte(set, byte)) continue;
        unsigned last = byte;
        while (last < 255 && has_byte(set, last + 1))
            last++;
        add_edge(builder, nfa,
                 &(struct nfa_edge){.from = from,
                                    .to = to,
                                    .kind = EDGE_BYTES,
                                    .first = (uint8_t)byte,
                                    .last = (uint8_t)last});
        byte = last;
    }
}

static void add_repeat(cohort_builder *builder, cohort_nfa *nfa,
                       const struct expr_node *node, uint32_t from, uint32_t to) {
    for (int32_t i = 0; i < node->least && builder->status >= 0; i++) {
        uint32_t next = cohort_nfa_state(builder, nfa);
        cohort_nfa_add(builder, nfa, node->a, from, next);
        from = next;
    }
    if (node->most == COHORT_UNBOUNDED) {
        /* A state of its own: a loop on a shared one would lead back into others. */
        uint32_t loop = cohort_nfa_state(builder, nfa);
        add_empty(builder, nfa, from, loop);
        cohort_nfa_add(builder, nfa, node->a, loop, loop);
        from = loop;
    }
    for (int32_t i = node->least; i < node->most && builder->status >= 0; i++) {
        uint32_t next = cohort_nfa_state(builder, nfa);
        add_empty(builder, nfa, from, to);
        cohort_nfa_add(builder, nfa, node->a, from, next);
        from = next;
    }
    add_empty(builder, nfa, from, to);
}

static void add_automaton(cohort_builder *builder, cohort_nfa *nfa,
                          const cohort_automaton *automaton, uint32_t from, uint32_t to) {
    uint32_t base = nfa->n_states;
    for (uint32_t i = 0; i < automaton->n_states; i++)
        cohort_nfa_state(builder, nfa);
    if (builder->status < 0) return;
    add_empty(builder, nfa, from, base);
    for (uint32_t state = 0; state < automaton->n_states; state++) {
        const int32_t *row = automaton->next + (size_t)state * automaton->n_classes;
        if (automaton->accepts[state]) add_empty(builder, nfa, base + state, to);
        for (unsigned byte = 0, last; byte < 256; byte = last + 1) {
            int32_t next = row[automaton->classes[byte]];
            for (last = byte; last < 255 && row[automaton->classes[last + 1]] == next;)
                last++;
            if (next < 0) continue;
            add_edge(builder, nfa,
                     &(struct nfa_edge){.from = base + state,
                                        .to = base + (uint32_t)next,
                                        .kind = EDGE_BYTES,
                                        .first = (uint8_t)byte,
                                        .last = (uint8_t)last});
        }
    }
}

void cohort_nfa_add(cohort_builder *builder, cohort_nfa *nfa, cohort_expr expr,
                    uint32_t from, uint32_t to) {
    while (builder->status >= 0) {
        cohort_builder_work(builder, 1); /* some add nothing */
        const struct expr_node node = builder->exprs[expr];
        switch (node.kind) {
        case NEVER: return;
        case EMPTY: add_empty(builder, nfa, from, to); return;
        case BYTES: add_bytes(builder, nfa, &node.set, from, to); return;
        case REPEAT: add_repeat(builder, nfa, &node, from, to); return;
        case CALL:
            add_edge(builder, nfa,
                     &(struct nfa_edge){
                         .from = from, .to = to, .kind = EDGE_CALL, .rule = node.a});
            return;
        case AUTOMATON:
            add_automaton(builder, nfa, &builder->automata[node.a], from, to);
            return;
        case EITHER:
            cohort_nfa_add(builder, nfa, node.a, from, to);
            expr = node.b;
            break;
        case CONCAT: {
            uint32_t middle = cohort_nfa_state(builder, nfa);
            cohort_nfa_add(builder, nfa, node.a, from, middle);
            from = middle;
            expr = node.b;
            break;
        }
        }
    }
}

void cohort_nfa_deinit(cohort_nfa *nfa) {
    free(nfa->edges);
    *nfa = (cohort_nfa){0};
}

/* ---- the subset construction ------------------------------------------------------- */

struct subset {
    uint32_t begin, count; /* into members, sorted */
};

/* A target of one symbol: bytes first, then calls. */
struct target {
    uint32_t symbol, state;
};

struct making {
    cohort_builder *builder;
    cohort_automaton *out;
    const struct nfa_edge *edges; /* by state of origin */
    uint32_t *first_edge;         /* n_states + 1 */
    uint32_t end;
    uint32_t *members;
    size_t n_members, members_capacity;
    struct subset *subsets; /* by state of the automaton */
    size_t n_subsets, subsets_capacity;
    uint32_t *table; /* hash of subsets: index + 1 */
    size_t table_mask;
    uint32_t *stamps, stamp; /* by nfa state: last seen in this closure */
    uint32_t *pending;       /* closure's stack, and its result behind it */
    struct target *targets;
    size_t n_targets, targets_capacity;
    size_t n_calls, calls_capacity, next_capacity, first_call_capacity, accepts_capacity;
};

static int compare_edges(const void *a, const void *b) {
    uint32_t x = ((const struct nfa_edge *)a)->from,
             y = ((const struct nfa_edge *)b)->from;
    return (x > y) - (x < y);
}

static int compare_targets(const void *a, const void *b) {
    const struct target *x = a, *y = b;
    if (x->symbol != y->symbol) return x->symbol < y->symbol ? -1 : 1;
    return (x->state > y->state) - (x->state < y->state);
}

static int compare_numbers(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Bytes that every edge treats alike are one class. */
static void make_classes(struct making *self, size_t n_edges) {
    bool begins[257] = {[0] = true};
    for (size_t i = 0; i < n_edges; i++) {
        if (self->edges[i].kind != EDGE_BYTES) continue;
        begins[self->edges[i].first] = true;
        begins[self->edges[i].last + 1] = true;
    }
    uint32_t class = 0;
    for (unsigned byte = 0; byte < 256; byte++) {
        if (byte && begins[byte]) class ++;
        self->out->classes[byte] = (uint8_t) class;
    }
    self->out->n_classes = class + 1;
}

static size_t hash_of(const uint32_t *members, size_t count) {
    uint64_t hash = 1469598103934665603u;
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ members[i]) * 1099511628211u;
    return (size_t)(hash ^ hash >> 29);
}

static void rehash(struct making *self) {
    size_t slots = (self->table_mask + 1) * 2;
    free(self->table);
    self->table = calloc(slots, sizeof *self->table);
    self->table_mask = slots - 1;
    if (!self->table) {
        COHORT_BUILDER_FAIL(self->builder, COHORT_E_NOMEM, "%zu states", slots);
        return;
    }
    for (size_t i = 0; i < self->n_subsets; i++) {
        const struct subset *subset = &self->subsets[i];
        size_t at = hash_of(self->members + subset->begin, subset->count);
        while (self->table[at & self->table_mask])
            at++;
        self->table[at & self->table_mask] = (uint32_t)i + 1;
    }
}

static void grow_states(struct making *self) {
    cohort_builder *builder = self->builder;
    cohort_automaton *out = self->out;
    size_t n = self->n_subsets, row_bytes = out->n_classes * sizeof *out->next;
    cohort_builder_cells(builder, out->n_classes);
    if (n >= COHORT_GRAMMAR_MAX_STATES) refuse_size(builder);
    if (builder->status < 0) return;
    out->next = grown(builder, out->next, n, &self->next_capacity, row_bytes);
    out->accepts =
        grown(builder, out->accepts, n, &self->accepts_capacity, sizeof *out->accepts);
    out->first_call = grown(builder, out->first_call, n + 1, &self->first_call_capacity,
                            sizeof *out->first_call);
    self->subsets =
        grown(builder, self->subsets, n, &self->subsets_capacity, sizeof *self->subsets);
}

/* The state of the automaton for sorted members, made where it is new; -1: failed. */
static int32_t state_of(struct making *self, const uint32_t *members, size_t count) {
    cohort_builder *builder = self->builder;
    if (self->n_subsets * 2 > self->table_mask) rehash(self);
    if (builder->status < 0) return -1;
    size_t at = hash_of(members, count);
    for (uint32_t index; (index = self->table[at & self->table_mask]); at++) {
        const struct subset *known = &self->subsets[index - 1];
        if (known->count == count &&
            !memcmp(self->members + known->begin, members, count * sizeof *members))
            return (int32_t)index - 1;
    }
    grow_states(self);
    for (size_t i = 0; i < count && builder->status >= 0; i++) {
        if (self->n_members >= (size_t)COHORT_GRAMMAR_MAX_CELLS * 4) refuse_size(builder);
        self->members = grown(builder, self->members, self->n_members,
                              &self->members_capacity, sizeof *self->members);
        if (builder->status >= 0) self->members[self->n_members++] = members[i];
    }
    if (builder->status < 0) return -1;
    self->subsets[self->n_subsets] =
        (struct subset){(uint32_t)(self->n_members - count), (uint32_t)count};
    bool accepts = false;
    for (size_t i = 0; i < count; i++)
        accepts |= members[i] == self->end;
    self->out->accepts[self->n_subsets] = accepts;
    self->table[at & self->table_mask] = (uint32_t)++self->n_subsets;
    return (int32_t)self->n_subsets - 1;
}

/* States reached from those of targets without a byte.  Those that only lead on by empty
 * edges say nothing that their ends do not: they are left out. */
static int32_t closure_of(struct making *self, const struct target *targets,
                          size_t count) {
    uint32_t *stack = self->pending, *found = self->pending + self->out->n_states;
    size_t depth = 0, n_found = 0;
    self->stamp++;
    for (size_t i = 0; i < count; i++) {
        if (self->stamps[targets[i].state] == self->stamp) continue;
        self->stamps[targets[i].state] = self->stamp;
        stack[depth++] = targets[i].state;
    }
    while (depth > 0) {
        uint32_t state = stack[--depth];
        bool matters = state == self->end;
        for (uint32_t e = self->first_edge[state]; e < self->first_edge[state + 1]; e++) {
            const struct nfa_edge *edge = &self->edges[e];
            matters |= edge->kind != EDGE_EMPTY;
            if (edge->kind != EDGE_EMPTY || self->stamps[edge->to] == self->stamp)
                continue;
            self->stamps[edge->to] = self->stamp;
            stack[depth++] = edge->to;
        }
        if (matters) found[n_found++] = state;
        self->builder->n_work += self->first_edge[state + 1] - self->first_edge[state];
    }
    if (!n_found) return -1;
    qsort(found, n_found, sizeof *found, compare_numbers);
    return state_of(self, found, n_found);
}

static void add_target(struct making *self, uint32_t symbol, uint32_t state) {
    self->builder->n_work += 4; /* it is sorted */
    self->targets = grown(self->builder, self->targets, self->n_targets,
                          &self->targets_capacity, sizeof *self->targets);
    if (self->builder->status >= 0)
        self->targets[self->n_targets++] = (struct target){symbol, state};
}

/* All edges of a state of the automaton; symbols: classes, then rules. */
static void expand(struct making *self, uint32_t state) {
    cohort_automaton *out = self->out;
    const struct subset subset = self->subsets[state];
    self->n_targets = 0;
    /* Ambiguous patterns have few states of very many members each. */
    cohort_builder_work(self->builder, subset.count);
    for (uint32_t i = 0; i < subset.count && self->builder->status >= 0; i++) {
        uint32_t member = self->members[subset.begin + i];
        for (uint32_t e = self->first_edge[member]; e < self->first_edge[member + 1];
             e++) {
            const struct nfa_edge *edge = &self->edges[e];
            if (edge->kind == EDGE_CALL)
                add_target(self, out->n_classes + edge->rule, edge->to);
            if (edge->kind != EDGE_BYTES) continue;
            for (uint32_t c = out->classes[edge->first]; c <= out->classes[edge->last];
                 c++)
                add_target(self, c, edge->to);
        }
    }
    if (self->n_targets)
        qsort(self->targets, self->n_targets, sizeof *self->targets, compare_targets);
    for (uint32_t c = 0; c < out->n_classes; c++)
        out->next[(size_t)state * out->n_classes + c] = -1;
    out->first_call[state] = (uint32_t)self->n_calls;
    for (size_t i = 0, j; i < self->n_targets && self->builder->status >= 0; i = j) {
        uint32_t symbol = self->targets[i].symbol;
        for (j = i; j < self->n_targets && self->targets[j].symbol == symbol;)
            j++;
        int32_t next = closure_of(self, self->targets + i, j - i);
        if (next < 0) continue;
        if (symbol < out->n_classes) {
            out->next[(size_t)state * out->n_classes + symbol] = next;
            continue;
        }
        out->calls = grown(self->builder, out->calls, self->n_calls,
                           &self->calls_capacity, sizeof *out->calls);
        if (self->builder->status >= 0)
            out->calls[self->n_calls++] =
                (cohort_rule_call){.rule = symbol - out->n_classes, .next = next};
    }
}

static void sort_edges(struct making *self, const cohort_nfa *nfa) {
    if (nfa->n_edges) qsort(nfa->edges, nfa->n_edges, sizeof *nfa->edges, compare_edges);
    self->edges = nfa->edges;
    for (size_t i = 0; i < nfa->n_edges; i++)
        self->first_edge[nfa->edges[i].from + 1]++;
    for (uint32_t i = 0; i < nfa->n_states; i++)
        self->first_edge[i + 1] += self->first_edge[i];
    make_classes(self, nfa->n_edges);
}

void cohort_automaton_make(cohort_builder *builder, const cohort_nfa *nfa, uint32_t start,
                           uint32_t end, cohort_automaton *out_automaton) {
    *out_automaton = (cohort_automaton){.n_states = nfa->n_states};
    if (builder->status < 0) return;
    struct making self = {
        .builder = builder, .out = out_automaton, .end = end, .table_mask = 63};
    self.first_edge = calloc((size_t)nfa->n_states + 1, sizeof *self.first_edge);
    self.stamps = calloc((size_t)nfa->n_states, sizeof *self.stamps);
    self.pending = malloc((size_t)nfa->n_states * 2 * sizeof *self.pending);
    if (!self.first_edge || !self.stamps || !self.pending)
        COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "%u states", nfa->n_states);
    if (builder->status >= 0) {
        sort_edges(&self, nfa);
        rehash(&self);
        if (builder->status >= 0 &&
            closure_of(&self, &(struct target){0, start}, 1) < 0 && builder->status >= 0)
            state_of(&self, &start, 1); /* one state that leads nowhere */
        for (uint32_t i = 0; i < self.n_subsets && builder->status >= 0; i++)
            expand(&self, i);
    }
    if (builder->status >= 0)
        out_automaton->first_call[self.n_subsets] = (uint32_t)self.n_calls;
    out_automaton->n_states = (uint32_t)self.n_subsets;
    free(self.first_edge);
    free(self.stamps);
    free(self.pending);
    free(self.members);
    free(self.subsets);
    free(self.table);
    free(self.targets);
    if (builder->status < 0) cohort_automaton_deinit(out_automaton);
}

void cohort_automaton_deinit(cohort_automaton *automaton) {
    free(automaton->next);
    free(automaton->accepts);
    free(automaton->first_call);
    free(automaton->calls);
    *automaton = (cohort_automaton){0};
}
