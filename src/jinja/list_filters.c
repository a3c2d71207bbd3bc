/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "jinja/access.h"
#include "jinja/arguments.h"
#include "jinja/filters.h"
#include "jinja/methods.h"
#include "jinja/operate.h"
#include "jinja/scope.h"
#include "jinja/text.h"
#include "jinja/write.h"

/* Filters that take several values, by Jinja's names. */

static jinja_value *copied(jinja_run *run, const jinja_value *value) {
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, items->list.n);
    if (items->list.n)
        memcpy(list->list.items, items->list.items,
               items->list.n * sizeof *items->list.items);
    return list;
}

FILTER(filter_list) { return (void)args, copied(run, value); }

/* Can be read once, and is true, also where nothing is in it. */
static const jinja_value *generator(jinja_value *list) {
    list->kind = JINJA_GENERATOR;
    return list;
}

FILTER(filter_first) {
    (void)args;
    if (value->kind == JINJA_GENERATOR) {
        const jinja_value *next = cohort_jinja_next(value);
        return next ? next : cohort_jinja_undefined(run->arena, "the first item", NULL);
    }
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    return items->list.n ? items->list.items[0]
                         : cohort_jinja_undefined(run->arena, "the first item", NULL);
}

FILTER(filter_last) {
    (void)args;
    if (value->kind == JINJA_GENERATOR)
        cohort_jinja_fail(run->arena, "'generator' object is not reversible");
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    return items->list.n ? items->list.items[items->list.n - 1]
                         : cohort_jinja_undefined(run->arena, "the last item", NULL);
}

FILTER(filter_reverse) {
    jinja_value *items = copied(run, value);
    (void)args;
    for (size_t i = 0, n = items->list.n; i < n / 2; i++) {
        const jinja_value *other = items->list.items[n - 1 - i];
        items->list.items[n - 1 - i] = items->list.items[i];
        items->list.items[i] = other;
    }
    if (value->kind == JINJA_GENERATOR) return items;
    if (value->kind != JINJA_STRING) return generator(items);
    jinja_text out = {.arena = run->arena};
    for (size_t i = 0; i < items->list.n; i++)
        cohort_jinja_write(&out, items->list.items[i]);
    return cohort_jinja_like(run->arena, value, cohort_jinja_taken(&out));
}

static const jinja_value *or_else(const jinja_value *value,
                                  const jinja_value *otherwise) {
    return value->kind == JINJA_UNDEFINED && otherwise ? otherwise : value;
}

/* item.a.b, or item itself where there is no path; otherwise, if not NULL, where a part
 * of it is missing. */
static const jinja_value *follow_or(jinja_run *run, const jinja_value *item,
                                    const jinja_value *path,
                                    const jinja_value *otherwise) {
    if (!path || path->kind == JINJA_NONE) return item;
    if (path->kind != JINJA_STRING)
        return or_else(cohort_jinja_item(run, item, path), otherwise);
    const char *at = path->string.bytes, *end = at + path->string.size;
    for (;;) {
        const char *dot = memchr(at, '.', (size_t)(end - at));
        const jinja_value *name =
            cohort_jinja_string(run->arena, at, (size_t)((dot ? dot : end) - at));
        bool is_index = name->string.size &&
                        strspn(name->string.bytes, "0123456789") == name->string.size;
        item = cohort_jinja_item(
            run, item,
            is_index ? cohort_jinja_int(run->arena, strtoll(name->string.bytes, NULL, 10))
                     : name);
        item = or_else(item, otherwise);
        if (!dot) return item;
        at = dot + 1;
    }
}

static const jinja_value *follow(jinja_run *run, const jinja_value *item,
                                 const jinja_value *path) {
    return follow_or(run, item, path, NULL);
}

static jinja_args behind(const jinja_args *args, size_t n) {
    if (n >= args->n) return (jinja_args){0};
    return (jinja_args){args->values + n, args->names + n, args->n - n};
}

FILTER(filter_join) {
    const jinja_value *between = args->values[0], *path = args->values[1];
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    jinja_text out = {.arena = run->arena};
    for (size_t i = 0; i < items->list.n; i++) {
        if (i && between) cohort_jinja_write(&out, between);
        cohort_jinja_write(&out, follow(run, items->list.items[i], path));
    }
    return cohort_jinja_taken(&out);
}

/* What is none or 0 has no elements here, and nothing is asked of them. */
static const jinja_value *nothing(jinja_run *run) {
    return generator(cohort_jinja_list(run->arena, JINJA_LIST, 0));
}

/* With the arguments of the filter, or attribute= and default=. */
FILTER(filter_map) {
    if (!cohort_jinja_is_true(value)) return nothing(run);
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, items->list.n);
    bool is_named = args->n && args->names[0];
    const jinja_value *path = is_named ? cohort_jinja_arg(args, 0, "attribute") : NULL;
    const jinja_value *otherwise = path ? cohort_jinja_arg(args, 0, "default") : NULL;
    const jinja_value *name = args->n && !is_named ? args->values[0] : NULL;
    const jinja_builtin *filter = name && name->kind == JINJA_STRING
                                      ? cohort_jinja_find_filter(name->string.bytes)
                                      : NULL;
    if (!path && !filter)
        cohort_jinja_fail(run->arena, "map needs the name of a filter, or an attribute");
    if (path && args->n > 1 + (size_t)(otherwise != NULL))
        cohort_jinja_fail(run->arena, "map takes 'attribute' and 'default' by name only");
    if (otherwise && otherwise->kind == JINJA_NONE) otherwise = NULL;
    const jinja_args rest = behind(args, 1);
    for (size_t i = 0; i < items->list.n; i++) {
        const jinja_value *item = items->list.items[i];
        list->list.items[i] = path ? follow_or(run, item, path, otherwise)
                                   : cohort_jinja_apply(run, filter, item, &rest);
    }
    return generator(list);
}

/* select and reject: with the attribute first where by_attribute. */
static const jinja_value *choose(jinja_run *run, const jinja_value *value,
                                 const jinja_args *args, bool wanted, bool by_attribute) {
    if (!cohort_jinja_is_true(value)) return nothing(run);
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, items->list.n);
    const jinja_value *path = by_attribute ? cohort_jinja_arg(args, 0, NULL) : NULL;
    const jinja_value *name = cohort_jinja_arg(args, by_attribute, NULL);
    const jinja_args rest = behind(args, (size_t)by_attribute + 1);
    const jinja_builtin *test = name && name->kind == JINJA_STRING
                                    ? cohort_jinja_find_test(name->string.bytes)
                                    : NULL;
    if (by_attribute && !path)
        cohort_jinja_fail(run->arena, "the name of an attribute is missing");
    if (name && !test) cohort_jinja_fail(run->arena, "there is no such test");
    if (!name && args->n > (size_t)by_attribute)
        cohort_jinja_fail(run->arena,
                          "there are arguments, but the test for them is not");
    list->list.n = 0;
    for (size_t i = 0; i < items->list.n; i++) {
        const jinja_value *item = follow(run, items->list.items[i], path);
        if (test) item = cohort_jinja_apply(run, test, item, &rest);
        if (cohort_jinja_is_true(item) == wanted)
            list->list.items[list->list.n++] = items->list.items[i];
    }
    return generator(list);
}
FILTER(filter_select) { return choose(run, value, args, true, false); }
FILTER(filter_reject) { return choose(run, value, args, false, false); }
FILTER(filter_selectattr) { return choose(run, value, args, true, true); }
FILTER(filter_rejectattr) { return choose(run, value, args, false, true); }

static const jinja_value *folded(jinja_run *run, const jinja_value *value, bool fold) {
    return fold && value->kind == JINJA_STRING
               ? cohort_jinja_recase(run->arena, value, JINJA_LOWER)
               : value;
}

/* By one attribute, or, where they may be several, by all of "a,b" in turn. */
typedef struct order {
    const jinja_value *path, *otherwise;
    bool fold, reverse, several;
} order;

static const jinja_value *key_of(jinja_run *run, const jinja_value *item,
                                 const order *by) {
    const jinja_value *path = by->path;
    if (!by->several || !path || path->kind != JINJA_STRING ||
        !memchr(path->string.bytes, ',', path->string.size))
        return folded(run, follow_or(run, item, path, by->otherwise), by->fold);
    const jinja_value *values[2] = {cohort_jinja_word(run->arena, ","), NULL};
    const jinja_args args = {.values = values, .n = 2};
    const jinja_value *paths =
        cohort_jinja_find_method(path, "split")->function(run, path, &args);
    jinja_value *keys = cohort_jinja_list(run->arena, JINJA_LIST, paths->list.n);
    for (size_t i = 0; i < paths->list.n; i++)
        keys->list.items[i] =
            folded(run, follow(run, item, paths->list.items[i]), by->fold);
    return keys;
}

/* keys of the items, in their order, where out_keys is not NULL. */
static const jinja_value *sorted(jinja_run *run, const jinja_value *items,
                                 const order *by, const jinja_value ***out_keys) {
    const jinja_value *list = copied(run, items);
    size_t n = list->list.n;
    const jinja_value **keys = cohort_jinja_alloc(run->arena, (n + 1) * sizeof *keys);
    jinja_pair *pairs = cohort_jinja_alloc(run->arena, (n + 1) * sizeof *pairs);
    for (size_t i = 0; i < n; i++)
        pairs[i] =
            (jinja_pair){key_of(run, list->list.items[i], by), list->list.items[i]};
    cohort_jinja_sort(run->arena, pairs, n, by->reverse);
    for (size_t i = 0; i < n; i++) {
        keys[i] = pairs[i].key;
        list->list.items[i] = pairs[i].value;
    }
    if (out_keys) *out_keys = keys;
    return list;
}

FILTER(filter_sort) {
    const order by = {.path = args->values[2],
                      .fold = !cohort_jinja_flag_arg(args, 1),
                      .reverse = cohort_jinja_flag_arg(args, 0),
                      .several = true};
    return sorted(run, value, &by, NULL);
}

FILTER(filter_items) {
    (void)args;
    if (value->kind == JINJA_UNDEFINED) return nothing(run);
    if (value->kind != JINJA_DICT)
        cohort_jinja_fail(run->arena, "Can only get item pairs from a mapping.");
    return generator(copied(
        run, cohort_jinja_find_method(value, "items")->function(run, value, args)));
}

FILTER(filter_dictsort) {
    static const char *const ways[] = {"key", "value", NULL};
    bool by_value = !strcmp(cohort_jinja_word_arg(run, args, 1, ways), "value");
    const order by = {.path = cohort_jinja_int(run->arena, by_value),
                      .fold = !cohort_jinja_flag_arg(args, 0),
                      .reverse = cohort_jinja_flag_arg(args, 2)};
    return sorted(run, filter_items(run, value, args), &by, NULL);
}

FILTER(filter_groupby) {
    const order by = {.path = args->values[0],
                      .otherwise = cohort_jinja_given_arg(args, 1),
                      .fold = !cohort_jinja_flag_arg(args, 2)};
    const jinja_value **keys, *items = sorted(run, value, &by, &keys);
    jinja_value *groups = cohort_jinja_list(run->arena, JINJA_LIST, items->list.n);
    groups->list.n = 0;
    for (size_t begin = 0, end; begin < items->list.n; begin = end) {
        for (end = begin + 1; end < items->list.n; end++)
            if (!cohort_jinja_equal(run->arena, keys[begin], keys[end])) break;
        jinja_value *group = cohort_jinja_list(run->arena, JINJA_TUPLE, 2);
        jinja_value *members = cohort_jinja_list(run->arena, JINJA_LIST, end - begin);
        memcpy(members->list.items, items->list.items + begin,
               (end - begin) * sizeof *items->list.items);
        group->list.is_group = true;
        group->list.items[0] =
            follow_or(run, items->list.items[begin], by.path, by.otherwise);
        group->list.items[1] = members;
        groups->list.items[groups->list.n++] = group;
    }
    return groups;
}

FILTER(filter_unique) {
    const jinja_value *path = args->values[1];
    bool fold = !cohort_jinja_flag_arg(args, 0);
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, items->list.n);
    jinja_value *seen = cohort_jinja_list(run->arena, JINJA_LIST, items->list.n);
    list->list.n = seen->list.n = 0;
    for (size_t i = 0; i < items->list.n; i++) {
        const jinja_value *key =
            folded(run, follow(run, items->list.items[i], path), fold);
        cohort_jinja_need_hashable(run->arena, key);
        if (cohort_jinja_contains(run->arena, seen, key)) continue;
        seen->list.items[seen->list.n++] = key;
        list->list.items[list->list.n++] = items->list.items[i];
    }
    return generator(list);
}

static const jinja_value *extreme(jinja_run *run, const jinja_value *value,
                                  const jinja_args *args, bool is_most) {
    const order by = {.path = args->values[1],
                      .fold = !cohort_jinja_flag_arg(args, 0),
                      .reverse = is_most};
    const jinja_value *items = sorted(run, value, &by, NULL);
    return items->list.n
               ? items->list.items[0]
               : cohort_jinja_undefined(run->arena, "an extreme of nothing", NULL);
}
FILTER(filter_min) { return extreme(run, value, args, false); }
FILTER(filter_max) { return extreme(run, value, args, true); }

FILTER(filter_sum) {
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    const jinja_value *sum =
        args->values[1] ? args->values[1] : cohort_jinja_int(run->arena, 0);
    if (sum->kind == JINJA_STRING)
        cohort_jinja_fail(run->arena, "sum() can't sum strings");
    for (size_t i = 0; i < items->list.n; i++)
        sum = cohort_jinja_add(run, sum,
                               follow(run, items->list.items[i], args->values[0]));
    return sum;
}

/* Of items begin to end, and one more where there is. */
static const jinja_value *part_of(jinja_run *run, const jinja_value *items, size_t begin,
                                  size_t end, const jinja_value *fill, size_t n_fill) {
    size_t n = end - begin;
    jinja_value *part =
        cohort_jinja_list(run->arena, JINJA_LIST, n + (fill ? n_fill : 0));
    if (n)
        memcpy(part->list.items, items->list.items + begin,
               n * sizeof *items->list.items);
    for (size_t i = n; i < part->list.n; i++)
        part->list.items[i] = fill;
    return part;
}

FILTER(filter_batch) {
    int64_t count = cohort_jinja_whole_arg(run, args, 0, 1);
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    size_t n = items->list.n, each = count > 0 ? (size_t)count : n + 1, at = 0;
    size_t n_parts = n / each + (n % each != 0);
    if (count <= 0 &&
        n) { /* as Python's: all of them, behind an empty one where it is 0 */
        jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, 1 + !count);
        list->list.items[0] = part_of(run, items, 0, 0, NULL, 0);
        list->list.items[!count] = part_of(run, items, 0, n, NULL, 0);
        return generator(list);
    }
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, n_parts);
    for (size_t i = 0; i < n_parts; i++, at += each) {
        size_t end = n - at < each ? n : at + each;
        list->list.items[i] = part_of(run, items, at, end,
                                      cohort_jinja_given_arg(args, 1), each - (end - at));
    }
    return generator(list);
}

FILTER(filter_slice) {
    int64_t count = cohort_jinja_whole_arg(run, args, 0, 1);
    const jinja_value *items = cohort_jinja_elements(run->arena, value);
    if (count == 0) cohort_jinja_fail(run->arena, "integer division or modulo by zero");
    size_t n = items->list.n, slices = count > 0 ? (size_t)count : 0, at = 0;
    jinja_value *list = cohort_jinja_list(run->arena, JINJA_LIST, slices);
    for (size_t i = 0; i < slices; i++) {
        bool has_more = i < n % slices;
        size_t end = at + n / slices + has_more;
        list->list.items[i] = part_of(
            run, items, at, end, has_more ? NULL : cohort_jinja_given_arg(args, 1), 1);
        at = end;
    }
    return generator(list);
}

const jinja_builtin *cohort_jinja_find_list_filter(const char *name) {
    static const jinja_builtin filters[] = {
        {"batch", "linecount fill_with?", filter_batch},
        {"dictsort", "case_sensitive? by? reverse?", filter_dictsort},
        {"first", "", filter_first},
        {"groupby", "attribute default? case_sensitive?", filter_groupby},
        {"items", "", filter_items},
        {"join", "d? attribute?", filter_join},
        {"last", "", filter_last},
        {"list", "", filter_list},
        {"map", "**", filter_map},
        {"max", "case_sensitive? attribute?", filter_max},
        {"min", "case_sensitive? attribute?", filter_min},
        {"reject", "**", filter_reject},
        {"rejectattr", "**", filter_rejectattr},
        {"reverse", "", filter_reverse},
        {"select", "**", filter_select},
        {"selectattr", "**", filter_selectattr},
        {"slice", "slices fill_with?", filter_slice},
        {"sort", "reverse? case_sensitive? attribute?", filter_sort},
        {"sum", "attribute? start?", filter_sum},
        {"unique", "case_sensitive? attribute?", filter_unique}};
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (!strcmp(filters[i].name, name)) return &filters[i];
    return NULL;
}
