/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/eval.h"

#include <string.h>

#include "jinja/access.h"
#include "jinja/arguments.h"
#include "jinja/filters.h"
#include "jinja/operate.h"
#include "jinja/write.h"

/* Design notes.
 *
 * What Python would do with the same values, error texts included where a person sees
 * them.  A loop's body, a macro and a block that captures its output have a scope of
 * their own; an `if` has none.  What is set in a scope is gone with it: that is why
 * templates use namespaces. */

/* The member of a recursive loop that is called with it: no name that can be written. */
#define CALL_OF_LOOP "()"

typedef enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;

static const jinja_value *eval(jinja_run *run, const jinja_node *node);
static flow execute(jinja_run *run, const jinja_node *node);

/* One of begin, end, step of a slice: Python clips them to the length. */
static bool slice_part(jinja_run *run, const jinja_node *node, int64_t *out_value) {
    if (!node) return false;
    const jinja_value *value = cohort_jinja_defined(run, eval(run, node));
    if (value->kind == JINJA_NONE) return false;
    if (value->kind != JINJA_INT && value->kind != JINJA_BOOL)
        cohort_jinja_fail(run->arena, "slice indices must be integers or None");
    *out_value = cohort_jinja_whole(value);
    return true;
}

static int64_t clip(int64_t index, int64_t n, int64_t least, int64_t most) {
    if (index < 0) index = index < -n ? least : index + n;
    return index < least ? least : index > most ? most : index;
}

static const jinja_value *eval_slice(jinja_run *run, const jinja_node *node) {
    const jinja_value *of = cohort_jinja_defined(run, eval(run, node->a));
    bool is_string = of->kind == JINJA_STRING;
    if (!is_string && !cohort_jinja_is_list(of))
        cohort_jinja_fail(run->arena, "'%s' object is not subscriptable",
                          cohort_jinja_type_name(of));
    const jinja_value *all = cohort_jinja_elements(run->arena, of);
    int64_t n = (int64_t)all->list.n, step = 1, begin, end;
    slice_part(run, node->kids[2], &step);
    if (!step) cohort_jinja_fail(run->arena, "slice step cannot be zero");
    int64_t least = step > 0 ? 0 : -1, most = step > 0 ? n : n - 1;
    begin = slice_part(run, node->kids[0], &begin) ? clip(begin, n, least, most)
            : step > 0                             ? 0
                                                   : n - 1;
    end = slice_part(run, node->kids[1], &end) ? clip(end, n, least, most)
          : step > 0                           ? n
                                               : -1;
    size_t count = 0;
    if (step > n || step < -n) step = step > 0 ? n + 1 : -n - 1; /* no overflow */
    for (int64_t i = begin; step > 0 ? i < end : i > end; i += step)
        count++;
    jinja_value *list =
        cohort_jinja_list(run->arena, is_string ? JINJA_LIST : of->kind, count);
    count = 0;
    for (int64_t i = begin; step > 0 ? i < end : i > end; i += step)
        list->list.items[count++] = all->list.items[i];
    if (!is_string) return list;
    jinja_text text = {.arena = run->arena};
    for (size_t i = 0; i < count; i++)
        cohort_jinja_write(&text, list->list.items[i]);
    return cohort_jinja_like(run->arena, of, cohort_jinja_taken(&text));
}

static const jinja_value *eval_binary(jinja_run *run, const jinja_node *node) {
    const jinja_value *a = eval(run, node->a), *b = eval(run, node->b);
    run->arena->line = node->line;
    return cohort_jinja_operate(run, node->operator_, a, b);
}

static const jinja_value *eval_sign(jinja_run *run, const jinja_node *node) {
    const jinja_value *value = cohort_jinja_defined(run, eval(run, node->a));
    bool is_negative = node->kind == NODE_NEGATIVE;
    if (!cohort_jinja_is_number(value))
        cohort_jinja_fail(run->arena, "bad operand type for unary %c: '%s'",
                          is_negative ? '-' : '+', cohort_jinja_type_name(value));
    if (value->kind == JINJA_FLOAT)
        return cohort_jinja_float(run->arena, is_negative ? -value->real : value->real);
    int64_t whole = cohort_jinja_whole(value);
    if (is_negative && __builtin_sub_overflow(0, whole, &whole))
        cohort_jinja_fail(run->arena, "a number is longer than 64 bits");
    return cohort_jinja_int(run->arena, whole);
}

static const jinja_value *eval_comparison(jinja_run *run, const jinja_node *node) {
    const jinja_value *a = eval(run, node->a);
    for (size_t i = 0; i < node->n_kids; i++) {
        const jinja_value *b = eval(run, node->kids[i]);
        run->arena->line = node->line;
        if (!cohort_jinja_compares(run, node->names[i], a, b)) return &cohort_jinja_false;
        a = b;
    }
    return &cohort_jinja_true;
}

/* ---- calls ------------------------------------------------------------------------- */

/* Room for one more is kept: a call block has a caller to add. */
static void grow_arguments(jinja_run *run, jinja_args *args, size_t n_more) {
    const jinja_args old = *args;
    size_t room = old.n + n_more + 1;
    cohort_jinja_step(run->arena, (int64_t)n_more);
    args->values = cohort_jinja_alloc(run->arena, room * sizeof *args->values);
    args->names = cohort_jinja_alloc(run->arena, room * sizeof *args->names);
    if (!old.n) return;
    memcpy(args->values, old.values, old.n * sizeof *old.values);
    memcpy(args->names, old.names, old.n * sizeof *old.names);
}

/* "*list" */
static void add_elements(jinja_run *run, jinja_args *args, const jinja_value *of) {
    const jinja_value *items = cohort_jinja_elements(run->arena, of);
    grow_arguments(run, args, items->list.n);
    for (size_t i = 0; i < items->list.n; i++)
        args->values[args->n++] = items->list.items[i];
}

/* "**dict" */
static void add_members(jinja_run *run, jinja_args *args, const jinja_value *of) {
    if (of->kind != JINJA_DICT)
        cohort_jinja_fail(run->arena, "argument after ** must be a mapping, not %s",
                          cohort_jinja_type_name(of));
    grow_arguments(run, args, of->dict.n);
    for (size_t i = 0; i < of->dict.n; i++) {
        const jinja_value *key = of->dict.pairs[i].key;
        if (key->kind != JINJA_STRING)
            cohort_jinja_fail(run->arena, "keywords must be strings");
        cohort_jinja_step(run->arena, (int64_t)(args->n / 16));
        for (size_t p = 0; p < args->n; p++)
            if (args->names[p] && !strcmp(args->names[p], key->string.bytes))
                cohort_jinja_fail(run->arena,
                                  "got multiple values for keyword argument '%.60s'",
                                  key->string.bytes);
        args->names[args->n] = key->string.bytes;
        args->values[args->n++] = of->dict.pairs[i].value;
    }
}

static jinja_args eval_arguments(jinja_run *run, const jinja_node *node) {
    jinja_args args = {0};
    grow_arguments(run, &args, node->n_kids);
    for (size_t i = 0; i < node->n_kids; i++) {
        const char *name = node->names[i];
        const jinja_value *value = eval(run, node->kids[i]);
        bool is_many = name && name[0] == '*';
        if (is_many && name[1])
            add_members(run, &args, value);
        else if (is_many)
            add_elements(run, &args, value);
        if (is_many) { /* the rest behind it */
            grow_arguments(run, &args, node->n_kids - i);
            continue;
        }
        args.names[args.n] = name;
        args.values[args.n++] = value;
    }
    return args;
}

/* What the body prints, as a string. */
static const jinja_value *capture(jinja_run *run, const jinja_node *body) {
    jinja_text text = {.arena = run->arena}, *out = run->out;
    run->out = &text;
    execute(run, body);
    run->out = out;
    return cohort_jinja_taken(&text);
}

static const jinja_value *capture_in_scope(jinja_run *run, const jinja_node *body) {
    jinja_scope *outer = cohort_jinja_open_scope(run, run->scope);
    const jinja_value *text = capture(run, body);
    run->scope = outer;
    return text;
}

static void check_arguments(jinja_run *run, const jinja_node *macro,
                            const jinja_args *args) {
    cohort_jinja_step(run->arena, (int64_t)(args->n * macro->n_names / 16));
    for (size_t i = 0; i < args->n; i++) {
        bool known = args->names[i] ? macro->takes_kwargs
                                    : i < macro->n_names || macro->takes_varargs;
        for (size_t p = 0; args->names[i] && p < macro->n_names; p++)
            known |= !strcmp(args->names[i], macro->names[p]);
        known |= args->names[i] && !strcmp(args->names[i], "caller");
        if (!known && args->names[i])
            cohort_jinja_fail(run->arena, "macro '%s' takes no keyword argument '%.60s'",
                              macro->name, args->names[i]);
        if (!known)
            cohort_jinja_fail(run->arena,
                              "macro '%s' takes not more than %zu argument(s)",
                              macro->name, macro->n_names);
    }
}

static bool is_parameter(const jinja_node *macro, const char *name) {
    for (size_t i = 0; i < macro->n_names; i++)
        if (!strcmp(macro->names[i], name)) return true;
    return !strcmp(name, "caller");
}

/* Arguments that no parameter takes, by the names that a macro asks for them by. */
static void set_rest(jinja_run *run, const jinja_node *macro, const jinja_args *args) {
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_TUPLE, args->n);
    jinja_value *dict = cohort_jinja_dict(run->arena, JINJA_DICT);
    list->list.n = 0;
    for (size_t i = 0; i < args->n; i++)
        if (!args->names[i] && i >= macro->n_names)
            list->list.items[list->list.n++] = args->values[i];
        else if (args->names[i] && !is_parameter(macro, args->names[i]))
            cohort_jinja_put(run->arena, dict,
                             cohort_jinja_word(run->arena, args->names[i]),
                             args->values[i]);
    if (macro->takes_varargs) cohort_jinja_set(run, "varargs", list);
    if (macro->takes_kwargs) cohort_jinja_set(run, "kwargs", dict);
}

static const jinja_value *call_loop(jinja_run *run, const jinja_value *callee,
                                    const jinja_args *args);

static const jinja_value *call_macro(jinja_run *run, const jinja_value *callee,
                                     const jinja_args *args) {
    const jinja_node *macro = callee->callable.macro;
    size_t n_required = macro->n_names - macro->n_kids;
    if (macro->kind == NODE_FOR) return call_loop(run, callee, args);
    check_arguments(run, macro, args);
    jinja_scope *outer = cohort_jinja_open_scope(run, callee->callable.scope);
    if (macro->takes_varargs || macro->takes_kwargs) set_rest(run, macro, args);
    for (size_t i = 0; i < macro->n_names; i++) {
        const jinja_value *value = cohort_jinja_arg(args, i, macro->names[i]);
        if (!value && i >= n_required) value = eval(run, macro->kids[i - n_required]);
        if (!value) value = cohort_jinja_undefined(run->arena, macro->names[i], NULL);
        cohort_jinja_set(run, macro->names[i], value);
    }
    const jinja_value *caller = cohort_jinja_arg(args, SIZE_MAX, "caller");
    if (caller) cohort_jinja_set(run, "caller", caller);
    const jinja_value *text = capture(run, macro->b);
    run->scope = outer;
    return text;
}

const jinja_value *cohort_jinja_call(jinja_run *run, const jinja_value *callee,
                                     const jinja_args *args) {
    cohort_jinja_defined(run, callee);
    if (callee->kind == JINJA_NAMESPACE) { /* a loop, perhaps */
        const jinja_value *call = cohort_jinja_member(callee, CALL_OF_LOOP);
        if (call) callee = call;
    }
    if (callee->kind != JINJA_CALLABLE)
        cohort_jinja_fail(run->arena, "'%s' object is not callable",
                          cohort_jinja_type_name(callee));
    cohort_jinja_step(run->arena, 1);
    cohort_jinja_enter(run->arena);
    const jinja_value *self = callee->callable.self;
    const jinja_value *result =
        callee->callable.macro
            ? call_macro(run, callee, args)
            : cohort_jinja_apply(run, callee->callable.builtin, self, args);
    if (self)
        result = cohort_jinja_like(run->arena, self,
                                   result); /* all methods of markup make markup */
    cohort_jinja_leave(run->arena);
    return result;
}

static const jinja_value *eval_call(jinja_run *run, const jinja_node *node) {
    const jinja_value *callee = eval(run, node->a);
    const jinja_args args = eval_arguments(run, node);
    run->arena->line = node->line;
    return cohort_jinja_call(run, callee, &args);
}

/* value: instead of the node's own operand, of a filter over a block. */
static const jinja_value *eval_filter(jinja_run *run, const jinja_node *node,
                                      const jinja_value *value) {
    if (!node->a)
        ; /* the block's output */
    else if (value)
        value = eval_filter(run, node->a, value);
    else
        value = eval(run, node->a);
    const jinja_args args = eval_arguments(run, node);
    run->arena->line = node->line;
    if (!node->builtin) cohort_jinja_refuse_unknown(run->arena, node);
    return cohort_jinja_apply(run, node->builtin, value, &args);
}

static const jinja_value *eval_test(jinja_run *run, const jinja_node *node) {
    const jinja_value *value = eval(run, node->a);
    const jinja_args args = eval_arguments(run, node);
    run->arena->line = node->line;
    if (!node->builtin) cohort_jinja_refuse_unknown(run->arena, node);
    return cohort_jinja_apply(run, node->builtin, value, &args);
}

/* ---- expressions ------------------------------------------------------------------- */

static const jinja_value *eval_items(jinja_run *run, const jinja_node *node) {
    jinja_kind kind = node->kind == NODE_TUPLE ? JINJA_TUPLE : JINJA_LIST;
    jinja_value *list = cohort_jinja_list(run->arena, kind, node->n_kids);
    for (size_t i = 0; i < node->n_kids; i++)
        list->list.items[i] = eval(run, node->kids[i]);
    return list;
}

static const jinja_value *eval_dict(jinja_run *run, const jinja_node *node) {
    jinja_value *dict = cohort_jinja_dict(run->arena, JINJA_DICT);
    for (size_t i = 0; i < node->n_kids; i += 2) {
        const jinja_value *key = eval(run, node->kids[i]);
        cohort_jinja_need_hashable(run->arena, key);
        cohort_jinja_put(run->arena, dict, key, eval(run, node->kids[i + 1]));
    }
    return dict;
}

static const jinja_value *eval_concatenation(jinja_run *run, const jinja_node *node) {
    jinja_text text = {.arena = run->arena};
    for (size_t i = 0; i < node->n_kids; i++)
        cohort_jinja_write(&text, eval(run, node->kids[i]));
    return cohort_jinja_taken(&text);
}

static const jinja_value *eval_choice(jinja_run *run, const jinja_node *node) {
    if (cohort_jinja_is_true(eval(run, node->a))) return eval(run, node->b);
    return node->c ? eval(run, node->c)
                   : cohort_jinja_undefined(run->arena, "the inline if-expression", NULL);
}

static const jinja_value *eval_kind(jinja_run *run, const jinja_node *node) {
    const jinja_value *a;
    switch (node->kind) {
    case NODE_LITERAL: return node->literal;
    case NODE_NAME: return cohort_jinja_look_up(run, node->name);
    case NODE_LIST:
    case NODE_TUPLE: return eval_items(run, node);
    case NODE_DICT: return eval_dict(run, node);
    case NODE_ATTRIBUTE:
        a = eval(run, node->a);
        run->arena->line = node->line;
        return cohort_jinja_attribute(run, a, node->name);
    case NODE_ITEM:
        a = eval(run, node->a);
        return cohort_jinja_item(run, a, eval(run, node->b));
    case NODE_SLICE: return eval_slice(run, node);
    case NODE_CALL: return eval_call(run, node);
    case NODE_FILTER: return eval_filter(run, node, NULL);
    case NODE_TEST: return eval_test(run, node);
    case NODE_NOT: return cohort_jinja_bool(!cohort_jinja_is_true(eval(run, node->a)));
    case NODE_NEGATIVE:
    case NODE_POSITIVE: return eval_sign(run, node);
    case NODE_BINARY: return eval_binary(run, node);
    case NODE_CONCAT: return eval_concatenation(run, node);
    case NODE_COMPARE: return eval_comparison(run, node);
    case NODE_AND:
        a = eval(run, node->a);
        return cohort_jinja_is_true(a) ? eval(run, node->b) : a;
    case NODE_OR:
        a = eval(run, node->a);
        return cohort_jinja_is_true(a) ? a : eval(run, node->b);
    case NODE_CHOICE: return eval_choice(run, node);
    default: cohort_jinja_fail(run->arena, "no expression");
    }
}

static const jinja_value *eval(jinja_run *run, const jinja_node *node) {
    cohort_jinja_step(run->arena, 1);
    cohort_jinja_enter(run->arena);
    run->arena->line = node->line;
    const jinja_value *value = eval_kind(run, node);
    cohort_jinja_leave(run->arena);
    return value;
}

/* ---- statements -------------------------------------------------------------------- */

/* One value to one name, or its elements to several. */
static void assign(jinja_run *run, const jinja_node *node, const jinja_value *value) {
    if (node->n_names == 1) {
        cohort_jinja_set(run, node->names[0], value);
        return;
    }
    const jinja_value *parts =
        cohort_jinja_elements(run->arena, cohort_jinja_defined(run, value));
    if (parts->list.n != node->n_names)
        cohort_jinja_fail(run->arena, "%s values to unpack (expected %zu, got %zu)",
                          parts->list.n < node->n_names ? "not enough" : "too many",
                          node->n_names, parts->list.n);
    for (size_t i = 0; i < node->n_names; i++)
        cohort_jinja_set(run, node->names[i], parts->list.items[i]);
}

static void execute_set(jinja_run *run, const jinja_node *node) {
    const jinja_value *value;
    if (node->b) {
        value = capture_in_scope(run, node->b);
        if (node->a) value = eval_filter(run, node->a, value);
    } else {
        value = eval(run, node->a);
    }
    if (!node->name) {
        assign(run, node, value);
        return;
    }
    const jinja_value *space = cohort_jinja_look_up(run, node->name);
    if (space->kind != JINJA_NAMESPACE)
        cohort_jinja_fail(run->arena,
                          "cannot assign attribute on non-namespace object '%.60s'",
                          node->name);
    jinja_value *namespace_;
    memcpy(&namespace_, &space, sizeof namespace_); /* the one kind that changes */
    cohort_jinja_put(run->arena, namespace_,
                     cohort_jinja_word(run->arena, node->attribute), value);
}

/* ---- loops ------------------------------------------------------------------------- */

/* What `loop` is in one turn. */
static const jinja_value *cycle(jinja_run *run, const jinja_value *loop,
                                const jinja_args *args) {
    if (!args->n) cohort_jinja_fail(run->arena, "no items for cycling given");
    const jinja_value *index = cohort_jinja_member(loop, "index0");
    return args->values[(size_t)index->whole % args->n];
}

static const jinja_value *changed(jinja_run *run, const jinja_value *loop,
                                  const jinja_args *args) {
    const jinja_value *memory = cohort_jinja_member(loop, "memory");
    jinja_value *now = cohort_jinja_list(run->arena, JINJA_TUPLE, args->n), *space;
    memcpy(now->list.items, args->values, args->n * sizeof *args->values);
    memcpy(&space, &memory, sizeof space);
    const jinja_value *last = cohort_jinja_member(memory, "last");
    bool is_same = last && cohort_jinja_equal(run->arena, last, now);
    cohort_jinja_put(run->arena, space, cohort_jinja_word(run->arena, "last"), now);
    return cohort_jinja_bool(!is_same);
}

static void put_word(jinja_run *run, jinja_value *dict, const char *name,
                     const jinja_value *value) {
    /* Of a fresh dict: nothing to look for. */
    jinja_pair *pair = &dict->dict.pairs[dict->dict.n++];
    pair->key = cohort_jinja_word(run->arena, name);
    pair->value = value;
}

static const jinja_builtin cycle_builtin = {"cycle", "*", cycle};
static const jinja_builtin changed_builtin = {"changed", "*", changed};

static jinja_value *loop_of(jinja_run *run, const jinja_value *items, size_t i,
                            const jinja_value *memory, int64_t depth) {
    enum { FIELDS = 16 };
    jinja_arena *arena = run->arena;
    int64_t n = (int64_t)items->list.n, at = (int64_t)i;
    jinja_value *loop = cohort_jinja_dict(arena, JINJA_NAMESPACE);
    loop->dict.pairs = cohort_jinja_alloc(arena, FIELDS * sizeof *loop->dict.pairs);
    loop->dict.capacity = FIELDS;
    put_word(run, loop, "index", cohort_jinja_int(arena, at + 1));
    put_word(run, loop, "index0", cohort_jinja_int(arena, at));
    put_word(run, loop, "revindex", cohort_jinja_int(arena, n - at));
    put_word(run, loop, "revindex0", cohort_jinja_int(arena, n - at - 1));
    put_word(run, loop, "first", cohort_jinja_bool(at == 0));
    put_word(run, loop, "last", cohort_jinja_bool(at == n - 1));
    put_word(run, loop, "length", cohort_jinja_int(arena, n));
    put_word(run, loop, "depth", cohort_jinja_int(arena, depth + 1));
    put_word(run, loop, "depth0", cohort_jinja_int(arena, depth));
    put_word(run, loop, "previtem",
             i ? items->list.items[i - 1]
               : cohort_jinja_undefined(arena, "there is no previous item", NULL));
    put_word(run, loop, "nextitem",
             i + 1 < items->list.n
                 ? items->list.items[i + 1]
                 : cohort_jinja_undefined(arena, "there is no next item", NULL));
    put_word(run, loop, "memory", memory);
    put_word(run, loop, "cycle", cohort_jinja_bind(run, loop, &cycle_builtin));
    put_word(run, loop, "changed", cohort_jinja_bind(run, loop, &changed_builtin));
    return loop;
}

/* The items that the loop's condition lets through. */
static const jinja_value *filtered(jinja_run *run, const jinja_node *node,
                                   const jinja_value *items) {
    if (!node->d) return items;
    jinja_value *kept = cohort_jinja_list(run->arena, JINJA_LIST, items->list.n);
    jinja_scope *outer = run->scope;
    kept->list.n = 0;
    for (size_t i = 0; i < items->list.n; i++) {
        cohort_jinja_open_scope(run, outer);
        assign(run, node, items->list.items[i]);
        if (cohort_jinja_is_true(eval(run, node->d)))
            kept->list.items[kept->list.n++] = items->list.items[i];
    }
    run->scope = outer;
    return kept;
}

/* What loop(items) calls: the same loop in the same scope, one deeper. */
static const jinja_value *recursion_of(jinja_run *run, const jinja_node *node,
                                       int64_t depth) {
    jinja_value *call = cohort_jinja_alloc(run->arena, sizeof *call);
    call->kind = JINJA_CALLABLE;
    call->callable.macro = node;
    call->callable.scope = run->scope;
    call->callable.self = cohort_jinja_int(run->arena, depth + 1);
    return call;
}

static void loop_over(jinja_run *run, const jinja_node *node, const jinja_value *value,
                      int64_t depth) {
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    items = filtered(run, node, items);
    const jinja_value *memory = cohort_jinja_dict(run->arena, JINJA_NAMESPACE);
    const jinja_value *call = node->is_recursive ? recursion_of(run, node, depth) : NULL;
    jinja_scope *outer = run->scope;
    flow flow_ = FLOW_ON;
    for (size_t i = 0; i < items->list.n && flow_ != FLOW_BREAK; i++) {
        cohort_jinja_open_scope(run, outer);
        cohort_jinja_step(run->arena, 1);
        assign(run, node, items->list.items[i]);
        jinja_value *loop = loop_of(run, items, i, memory, depth);
        if (call) put_word(run, loop, CALL_OF_LOOP, call);
        cohort_jinja_set(run, "loop", loop);
        flow_ = execute(run, node->b);
    }
    run->scope = outer;
    if (!items->list.n && node->c) execute(run, node->c);
}

static void execute_for(jinja_run *run, const jinja_node *node) {
    loop_over(run, node, eval(run, node->a), 0);
}

static const jinja_value *call_loop(jinja_run *run, const jinja_value *callee,
                                    const jinja_args *args) {
    jinja_text text = {.arena = run->arena}, *out = run->out;
    jinja_scope *outer = run->scope;
    if (args->n != 1 || args->names[0])
        cohort_jinja_fail(run->arena, "loop() takes what to loop over");
    run->out = &text;
    run->scope = callee->callable.scope;
    loop_over(run, callee->callable.macro, args->values[0], callee->callable.self->whole);
    run->scope = outer;
    run->out = out;
    return cohort_jinja_taken(&text);
}

/* ---- blocks ------------------------------------------------------------------------ */

static const jinja_value *macro_of(jinja_run *run, const jinja_node *node) {
    jinja_value *macro = cohort_jinja_alloc(run->arena, sizeof *macro);
    macro->kind = JINJA_CALLABLE;
    macro->callable.macro = node;
    macro->callable.scope = run->scope;
    return macro;
}

static void execute_call_block(jinja_run *run, const jinja_node *node) {
    const jinja_node *call = node->a;
    const jinja_value *callee = eval(run, call->a);
    jinja_args args = eval_arguments(run, call);
    args.names[args.n] = "caller";
    args.values[args.n++] = macro_of(run, node);
    cohort_jinja_write(run->out, cohort_jinja_call(run, callee, &args));
}

static flow execute_with(jinja_run *run, const jinja_node *node) {
    jinja_scope *outer = cohort_jinja_open_scope(run, run->scope);
    for (size_t i = 0; i < node->n_kids; i++) /* each sees those before it */
        cohort_jinja_set(run, node->names[i], eval(run, node->kids[i]));
    flow flow_ = execute(run, node->b);
    run->scope = outer;
    return flow_;
}

static flow execute_body(jinja_run *run, const jinja_node *body) {
    flow flow_ = FLOW_ON;
    for (size_t i = 0; i < body->n_kids && flow_ == FLOW_ON; i++)
        flow_ = execute(run, body->kids[i]);
    return flow_;
}

static flow execute_kind(jinja_run *run, const jinja_node *node) {
    switch (node->kind) {
    case NODE_TEXT:
        cohort_jinja_append(run->out, node->literal->string.bytes,
                            node->literal->string.size);
        break;
    case NODE_OUTPUT: cohort_jinja_write(run->out, eval(run, node->a)); break;
    case NODE_BODY: return execute_body(run, node);
    case NODE_IF:
        if (cohort_jinja_is_true(eval(run, node->a))) return execute(run, node->b);
        return node->c ? execute(run, node->c) : FLOW_ON;
    case NODE_FOR: execute_for(run, node); break;
    case NODE_SET: execute_set(run, node); break;
    case NODE_MACRO: cohort_jinja_set(run, node->name, macro_of(run, node)); break;
    case NODE_CALL_BLOCK: execute_call_block(run, node); break;
    case NODE_FILTER_BLOCK:
        cohort_jinja_write(run->out,
                           eval_filter(run, node->a, capture_in_scope(run, node->b)));
        break;
    case NODE_WITH: return execute_with(run, node);
    case NODE_BREAK: return FLOW_BREAK;
    case NODE_CONTINUE: return FLOW_CONTINUE;
    default: cohort_jinja_fail(run->arena, "no statement");
    }
    return FLOW_ON;
}

static flow execute(jinja_run *run, const jinja_node *node) {
    cohort_jinja_step(run->arena, 1);
    cohort_jinja_enter(run->arena);
    run->arena->line = node->line;
    flow flow_ = execute_kind(run, node);
    cohort_jinja_leave(run->arena);
    return flow_;
}

void cohort_jinja_execute(jinja_run *run, const jinja_node *body) { execute(run, body); }
