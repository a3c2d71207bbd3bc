/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/content.h"

#include <string.h>

/* Does a template go over the parts of a message's content?  Decided as vLLM does
 * (renderers/hf.py, _detect_content_format), by names alone and not by scopes: names that
 * are set to the messages, loops over these, and in any loop `message.content`. */

enum { MAX_NAMES = 64 };

typedef struct names {
    const char *items[MAX_NAMES];
    size_t n;
} names;

typedef struct search {
    names lists, messages;
    bool is_found;
} search;

static void add(names *to, const char *name) {
    for (size_t i = 0; i < to->n; i++)
        if (!strcmp(to->items[i], name)) return;
    if (to->n < MAX_NAMES) to->items[to->n++] = name;
}

static bool is_variable(const jinja_node *node, const char *name) {
    return node->kind == NODE_NAME && !strcmp(node->name, name);
}

/* name, or name.key where there is one; through filters, tests and slices. */
static bool is_access(const jinja_node *node, const char *name, const char *key) {
    while (node && (node->kind == NODE_FILTER || node->kind == NODE_TEST ||
                    node->kind == NODE_SLICE))
        node = node->a;
    if (!node) return false;
    if (!key) return is_variable(node, name);
    if (node->kind == NODE_ATTRIBUTE)
        return is_variable(node->a, name) && !strcmp(node->name, key);
    if (node->kind != NODE_ITEM || node->b->kind != NODE_LITERAL) return false;
    const jinja_value *literal = node->b->literal;
    return is_variable(node->a, name) && literal->kind == JINJA_STRING &&
           !strcmp(literal->string.bytes, key);
}

static bool is_any(const jinja_node *node, const names *of, const char *key) {
    for (size_t i = 0; i < of->n; i++)
        if (is_access(node, of->items[i], key)) return true;
    return false;
}

typedef void visitor(search *self, const jinja_node *node);

static void walk(search *self, const jinja_node *node, visitor *visit) {
    if (!node) return;
    visit(self, node);
    walk(self, node->a, visit);
    walk(self, node->b, visit);
    walk(self, node->c, visit);
    walk(self, node->d, visit);
    for (size_t i = 0; i < node->n_kids; i++)
        walk(self, node->kids[i], visit);
}

static void find_lists(search *self, const jinja_node *node) {
    if (node->kind == NODE_SET && !node->name && !node->b && node->n_names == 1 &&
        is_any(node->a, &self->lists, NULL))
        add(&self->lists, node->names[0]);
}

static void find_messages(search *self, const jinja_node *node) {
    if (node->kind == NODE_FOR && node->n_names == 1 &&
        is_any(node->a, &self->lists, NULL))
        add(&self->messages, node->names[0]);
}

static void find_parts(search *self, const jinja_node *node) {
    self->is_found |=
        node->kind == NODE_FOR && is_any(node->a, &self->messages, "content");
}

bool cohort_jinja_reads_parts(const jinja_node *body) {
    search self = {.lists = {{"messages"}, 1}};
    size_t before;
    do { /* until no more are found: one may be made of another that is set behind it */
        before = self.lists.n;
        walk(&self, body, find_lists);
    } while (self.lists.n > before);
    walk(&self, body, find_messages);
    walk(&self, body, find_parts);
    return self.is_found;
}
