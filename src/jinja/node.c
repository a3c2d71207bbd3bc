/* SPDX-License-Identifier: Apache-2.0 */
#include "jinja/node.h"

/* Chains grow to the left without the parser going deeper: `a|d|d|d`, `a.b.b`, `a + a +
 * a`. Whatever walks the tree later goes as deep as it is: it must not be deeper than an
 * evaluation may be. */
void cohort_jinja_check_depth(jinja_arena *arena, const jinja_node *node) {
    if (!node) return;
    arena->line = node->line;
    cohort_jinja_enter(arena);
    cohort_jinja_check_depth(arena, node->a);
    cohort_jinja_check_depth(arena, node->b);
    cohort_jinja_check_depth(arena, node->c);
    cohort_jinja_check_depth(arena, node->d);
    for (size_t i = 0; i < node->n_kids; i++)
        cohort_jinja_check_depth(arena, node->kids[i]);
    cohort_jinja_leave(arena);
}

_Noreturn void cohort_jinja_refuse_unknown(jinja_arena *arena, const jinja_node *node) {
    cohort_jinja_fail(arena, "the %s '%s' is not supported",
                      node->kind == NODE_TEST ? "test" : "filter", node->name);
}
