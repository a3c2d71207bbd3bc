/* SPDX-License-Identifier: Apache-2.0 */
/* What a grammar costs to make, in what is looked at and not in time: strangers write
 * them, and one thread makes them for all. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cohort/status.h"
#include "grammar/grammar_internal.h"

/* What cJSON allocates for a schema and for all that is merged of it. */
static size_t n_allocations, n_live_bytes, n_most_bytes;

static void *count_malloc(size_t size) {
    void *bytes = malloc(size);
    n_allocations++;
    n_live_bytes += malloc_usable_size(bytes);
    if (n_live_bytes > n_most_bytes) n_most_bytes = n_live_bytes;
    return bytes;
}

static void count_free(void *bytes) {
    n_live_bytes -= malloc_usable_size(bytes);
    free(bytes);
}

typedef struct text {
    char *bytes;
    size_t size;
    FILE *out;
} text;

static void open_text(text *self) {
    self->out = open_memstream(&self->bytes, &self->size);
    assert_non_null(self->out);
}

/* Is it a grammar?  out_work: what it took; out_measuring: of that, to find its ends. */
static cohort_status make(text *self, size_t *out_work, size_t *out_measuring) {
    cohort_builder builder;
    fclose(self->out);
    cohort_builder_init(&builder);
    cohort_schema_compile(&builder, self->bytes, self->size);
    size_t before = builder.n_work;
    if (builder.status >= 0) cohort_rules_find_ends(&builder);
    *out_work = builder.n_work;
    *out_measuring = builder.n_work - before;
    cohort_status status = builder.status;
    cohort_builder_deinit(&builder);
    free(self->bytes);
    return status;
}

/* Any of n arrays, each of which holds the one before it. */
static void write_chain(FILE *out, int n) {
    fprintf(out, "{\"$defs\":{\"d0\":{\"type\":\"null\"}");
    for (int i = 1; i < n; i++)
        fprintf(out,
                ",\"d%d\":{\"type\":\"array\",\"minItems\":1,\"items\":{\"$ref\":"
                "\"#/$defs/d%d\"}}",
                i, i - 1);
    fprintf(out, "},\"anyOf\":[");
    for (int i = 0; i < n; i++)
        fprintf(out, "%s{\"$ref\":\"#/$defs/d%d\"}", i ? "," : "", i);
    fprintf(out, "]}");
}

static void rules_that_call_earlier_ones_are_measured_in_a_few_passes(void **state) {
    (void)state;
    enum { N = 1300 };
    size_t work, half = 0, whole = 0;
    for (int n = N; n <= 2 * N; n += N) {
        text schema;
        open_text(&schema);
        write_chain(schema.out, n);
        assert_int_equal(make(&schema, &work, n == N ? &half : &whole), COHORT_OK);
    }
    /* A pass for each link would be four times as much for twice the links. */
    assert_true(half > 0 && whole < half * 5 / 2);
    assert_true(whole < COHORT_GRAMMAR_MAX_WORK / 4);
}

/* A $ref and its array are a rule each. */
static void values_deeper_than_the_limit_are_none(void **state) {
    (void)state;
    size_t work, measuring;
    for (int depth = 50; depth <= 100; depth += 50) {
        text schema;
        open_text(&schema);
        fprintf(schema.out, "{\"$defs\":{\"d0\":{\"type\":\"null\"}");
        for (int i = 1; i <= depth; i++)
            fprintf(schema.out,
                    ",\"d%d\":{\"type\":\"array\",\"minItems\":1,\"items\":{\"$ref\":"
                    "\"#/$defs/d%d\"}}",
                    i, i - 1);
        fprintf(schema.out, "},\"type\":\"array\",\"prefixItems\":[");
        for (int i = 0; i <= depth; i++) /* in the order in which they can be made */
            fprintf(schema.out, "%s{\"$ref\":\"#/$defs/d%d\"}", i ? "," : "", i);
        fprintf(schema.out, "],\"minItems\":%d}", depth + 1);
        cohort_status status = make(&schema, &work, &measuring);
        assert_int_equal(status, depth == 50 ? COHORT_OK : COHORT_E_INVALID);
        if (status < 0)
            assert_non_null(strstr(cohort_last_error()->message, "nothing matches"));
    }
}

static void write_enum(FILE *out, int begin, int n) {
    fprintf(out, "{\"enum\":[%d", begin);
    for (int i = 1; i < n; i++)
        fprintf(out, ",%d", begin + i);
    fprintf(out, "]}");
}

static void write_names(FILE *out, const char *key, const char *value, int n) {
    bool is_list = !*value;
    fprintf(out, "\"%s\":%c", key, is_list ? '[' : '{');
    for (int i = 0; i < n; i++)
        fprintf(out, "%s\"%x\"%s%s", i ? "," : "", (unsigned)i, is_list ? "" : ":",
                value);
    fprintf(out, "%c", is_list ? ']' : '}');
}

/* Lists that are looked through for each of their elements. */
static void large_lists_cost_what_they_take(void **state) {
    (void)state;
    for (int i = 0; i < 5; i++) {
        text schema;
        size_t work, measuring;
        open_text(&schema);
        FILE *out = schema.out;
        fprintf(out, "{");
        if (i == 0) {
            fprintf(out, "\"allOf\":[");
            write_enum(out, 0, 15000);
            fprintf(out, ",");
            write_enum(out, 15000, 15000);
            fprintf(out, "]");
        } else if (i == 1) {
            write_names(out, "required", "", 36000);
        } else if (i == 2) {
            write_names(out, "properties", "{}", 9000);
            fprintf(out, ",");
            write_names(out, "required", "", 9000);
        } else { /* one target, merged with itself again and again */
            fprintf(out, "\"$defs\":{\"X\":{");
            write_names(out, i == 3 ? "properties" : "x-notes", "true", 8000);
            fprintf(out, "}},\"allOf\":[{}");
            for (int n = 0; n < 400; n++)
                fprintf(out, ",{\"$ref\":\"#/$defs/X\"}");
            fprintf(out, "]");
        }
        fprintf(out, "}");
        cohort_status status = make(&schema, &work, &measuring);
        if (i != 4) {
            assert_int_equal(status, COHORT_E_INVALID);
            assert_non_null(strstr(cohort_last_error()->message, "too complex"));
        } else {
            assert_int_equal(status, COHORT_OK); /* the same by reference */
        }
    }
}

static void write_many(FILE *out, const char *begin, const char *part, size_t count,
                       const char *end) {
    fputs(begin, out);
    for (size_t i = 0; i < count; i++)
        fputs(part, out);
    fputs(end, out);
}

/* What is short and would become gigabytes. */
static void what_multiplies_is_refused_early(void **state) {
    (void)state;
    static const struct {
        const char *begin, *part, *end;
    } cases[] = {
        {"{\"pattern\":\"^(b", "|a|b", "){10000}$\"}"},
        {"{\"type\":\"array\",\"maxItems\":1048576,\"items\":{\"enum\":[2", ",1,2",
         "]}}"},
        {"{\"pattern\":\"^[", "\\\\D", "]$\"}"},
        {"{\"pattern\":\"^[^", "\\\\w", "]$\"}"},
        {"{\"pattern\":\"^(\\\\W|", "\\\\W|", "\\\\W){900}$\"}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        text schema;
        size_t work, measuring;
        open_text(&schema);
        write_many(schema.out, cases[i].begin, cases[i].part, 15000, cases[i].end);
        assert_int_equal(make(&schema, &work, &measuring), COHORT_E_INVALID);
        if (!strstr(cohort_last_error()->message, "too complex"))
            fail_msg("%zu: %s", i, cohort_last_error()->message);
        assert_true(work < COHORT_GRAMMAR_MAX_WORK + COHORT_GRAMMAR_MAX_WORK / 10);
    }
}

static void write_deep(FILE *out, int depth) {
    for (int i = 0; i < depth; i++)
        fprintf(out, "{\"a\":");
    fprintf(out, "1");
    for (int i = 0; i < depth; i++)
        fprintf(out, "}");
}

/* Twice as long for each level would never end. */
static void deep_values_are_compared_in_one_pass(void **state) {
    (void)state;
    enum { DEPTH = 60 };
    static const struct {
        const char *parts[4]; /* the value between them */
        const char *words;    /* NULL: it compiles */
    } cases[] = {
        {{"{\"const\":", ",\"enum\":[", "]}"}, NULL},
        {{"{\"allOf\":[{\"enum\":[", ",1]},{\"enum\":[2,", "]}]}"}, NULL},
        {{"{\"oneOf\":[{\"const\":", "},{\"const\":", "}]}"}, NULL},
        {{"{\"oneOf\":[{\"enum\":[1,", "]},{\"enum\":[2,", "]}]}"}, NULL}, /* as anyOf */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        text schema;
        size_t work, measuring;
        open_text(&schema);
        for (int part = 0; cases[i].parts[part]; part++) {
            if (part) write_deep(schema.out, DEPTH);
            fputs(cases[i].parts[part], schema.out);
        }
        cohort_status status = make(&schema, &work, &measuring);
        assert_int_equal(status, cases[i].words ? COHORT_E_INVALID : COHORT_OK);
        if (cases[i].words)
            assert_non_null(strstr(cohort_last_error()->message, cases[i].words));
    }
}

/* n branches over 4n members, each of which would be gone through for each branch. */
static void write_branches(FILE *out, int n, const char *keyword, const char *before,
                           const char *behind) {
    fprintf(out, "{\"type\":\"object\",\"properties\":{");
    for (int i = 0; i < 4 * n; i++)
        fprintf(out, "%s\"a%d\":{}", i ? "," : "", i);
    fprintf(out, "},\"%s\":[", keyword);
    for (int i = 0; i < n; i++)
        fprintf(out, "%s%s%d%s", i ? "," : "", before, 4 * i, behind);
    fprintf(out, "]}");
}

/* 205 KB of it took 2.9 GB and 8 s once. */
static void many_branches_over_many_members_cost_little(void **state) {
    (void)state;
    static const struct {
        const char *keyword, *before, *behind;
    } kinds[] = {
        {"allOf", "{\"properties\":{\"a", "\":{\"type\":\"integer\"}}}"},
        {"anyOf", "{\"properties\":{\"a", "\":{\"type\":\"integer\"}}}"},
        {"oneOf", "{\"required\":[\"a", "\"]}"},
        {"allOf", "{\"not\":{\"required\":[\"a", "\"]}}"},
        {"allOf", "{\"anyOf\":[{\"required\":[\"a", "\"]},{\"type\":\"null\"}]}"},
        {"allOf", "{\"if\":{\"required\":[\"a", "\"]},\"then\":{\"minProperties\":2}}"},
    };
    cJSON_Hooks hooks = {.malloc_fn = count_malloc, .free_fn = count_free};
    cJSON_InitHooks(&hooks);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        size_t cost[2], work, measuring, size = 0;
        for (int half = 0; half < 2; half++) {
            text schema;
            open_text(&schema);
            write_branches(schema.out, half ? 2500 : 1250, kinds[k].keyword,
                           kinds[k].before, kinds[k].behind);
            fflush(schema.out);
            size = schema.size;
            n_allocations = n_most_bytes = 0;
            make(&schema, &work, &measuring); /* too large for some: then it says so */
            cost[half] = n_allocations + work;
        }
        assert_true(cost[1] < cost[0] * 5 / 2);
        assert_true(cost[1] < COHORT_GRAMMAR_MAX_WORK + 2000000);
        assert_true(n_most_bytes < 200 * size);
        assert_int_equal(n_live_bytes, 0);
    }
    cJSON_InitHooks(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_branches_over_many_members_cost_little),
        cmocka_unit_test(rules_that_call_earlier_ones_are_measured_in_a_few_passes),
        cmocka_unit_test(values_deeper_than_the_limit_are_none),
        cmocka_unit_test(large_lists_cost_what_they_take),
        cmocka_unit_test(what_multiplies_is_refused_early),
        cmocka_unit_test(deep_values_are_compared_in_one_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
