/* SPDX-License-Identifier: Apache-2.0 */
#include "model/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* A file of `data_bytes` zeros behind this header; returns its length. */
static size_t compose(const char *header, size_t data_bytes, uint8_t *out, size_t limit) {
    size_t n = strlen(header);
    assert_true(8 + n + data_bytes <= limit);
    memset(out, 0, 8 + n + data_bytes);
    out[0] = (uint8_t)n;
    out[1] = (uint8_t)(n >> 8);
    memcpy(out + 8, header, n);
    return 8 + n + data_bytes;
}

static cohort_status parse(const char *header, size_t data_bytes,
                           cohort_tensor_list *out) {
    uint8_t bytes[2048];
    size_t n = compose(header, data_bytes, bytes, sizeof bytes);
    return cohort_safetensors_parse(bytes, n, n, "m.safetensors", 3, out);
}

static void assert_refused(const char *header, size_t data_bytes, const char *words) {
    cohort_tensor_list list;
    assert_int_equal(parse(header, data_bytes, &list), COHORT_E_INVALID);
    assert_int_equal(list.n_tensors, 0);
    const char *message = cohort_last_error()->message;
    if (!strstr(message, words)) fail_msg("'%s' lacks '%s'", message, words);
    assert_non_null(strstr(message, "m.safetensors"));
}

#define A "\"a\": {\"dtype\": \"F32\", \"shape\": [2, 3], \"data_offsets\": [0, 24]}"

static void header_gives_names_types_shapes_and_ranges(void **state) {
    (void)state;
    cohort_tensor_list list;
    assert_int_equal(
        parse("{\"__metadata__\": {\"format\": \"pt\"}, \"b\": {\"dtype\": \"I64\", "
              "\"shape\": [], \"data_offsets\": [24, 32]}, " A "}",
              32, &list),
        COHORT_OK);
    assert_int_equal(list.n_tensors, 2);
    const cohort_tensor *a = &list.tensors[0], *b = &list.tensors[1];
    assert_string_equal(a->name, "a");
    assert_true(a->readable && a->dtype == COHORT_F32 && a->file == 3);
    assert_int_equal(a->n_dims, 2);
    assert_int_equal(a->shape[1], 3);
    assert_int_equal(a->end - a->begin, 24);
    assert_int_equal(b->begin, a->end);
    assert_false(b->readable);
    assert_int_equal(b->n_dims, 0);
    cohort_tensor_list_deinit(&list);
}

static void file_cut_short_names_the_first_tensor_without_bytes(void **state) {
    (void)state;
    assert_refused("{" A "}", 23, "cut short: tensor a ends at");
    uint8_t bytes[256];
    size_t n = compose("{" A "}", 24, bytes, sizeof bytes);
    cohort_tensor_list list;
    for (size_t length = 0; length < n; length++) {
        assert_int_equal(
            cohort_safetensors_parse(bytes, length, length, "m.safetensors", 0, &list),
            COHORT_E_INVALID);
        if (length >= 8)
            assert_non_null(strstr(cohort_last_error()->message, "cut short"));
    }
}

static void ranges_must_tile_the_file(void **state) {
    (void)state;
    assert_refused("{" A
                   ", \"b\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": "
                   "[20, 24]}}",
                   24, "b overlaps");
    assert_refused("{" A
                   ", \"b\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": "
                   "[28, 32]}}",
                   32, "b leaves a hole");
    assert_refused("{" A "}", 25, "follow the last tensor");
    assert_refused("{" A ", " A "}", 24, "a is there twice");
}

static void sizes_must_be_what_the_shape_needs(void **state) {
    (void)state;
    const char *bad[] = {
        "\"F32\", \"shape\": [2, 3], \"data_offsets\": [0, 23]",
        "\"F32\", \"shape\": [2, -3], \"data_offsets\": [0, 24]",
        "\"F32\", \"shape\": [2.5], \"data_offsets\": [0, 10]",
        "\"F32\", \"shape\": [9007199254740992, 9007199254740992], \"data_offsets\": [0, "
        "0]",
        "\"F32\", \"shape\": [9007199254740992, 9007199254740992, 0], \"data_offsets\": "
        "[0, 0]",
        "\"F32\", \"shape\": 6, \"data_offsets\": [0, 24]",
        "\"F32\", \"shape\": [6], \"data_offsets\": [24, 0]",
        "\"F32\", \"shape\": [6], \"data_offsets\": [0, 1e300]",
        "\"F32\", \"shape\": [6], \"data_offsets\": [0]",
        "\"F33\", \"shape\": [6], \"data_offsets\": [0, 24]",
        "7, \"shape\": [6], \"data_offsets\": [0, 24]",
        "\"F32\", \"shape\": [1,1,1,1,1,1,1,1,6], \"data_offsets\": [0, 24]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char header[512];
        snprintf(header, sizeof header, "{\"odd\": {\"dtype\": %s}}", bad[i]);
        assert_refused(header, 24, "tensor odd");
    }
}

static void what_is_no_header_is_refused(void **state) {
    (void)state;
    assert_refused("[]", 0, "not a JSON object");
    assert_refused("{\"a", 0, "not JSON");
    uint8_t huge[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, '{', '}'};
    uint8_t tiny[9] = {1, 0, 0, 0, 0, 0, 0, 0, '{'};
    cohort_tensor_list list;
    assert_int_equal(cohort_safetensors_parse(huge, 16, 16, "m", 0, &list),
                     COHORT_E_INVALID);
    assert_int_equal(cohort_safetensors_parse(tiny, 9, 9, "m", 0, &list),
                     COHORT_E_INVALID);
    assert_string_equal(cohort_last_error()->message,
                        "m is no safetensors file (9 bytes)");
    assert_int_equal(cohort_safetensors_parse(tiny, 7, 7, "m", 0, &list),
                     COHORT_E_INVALID);
    assert_string_equal(cohort_last_error()->message,
                        "m is no safetensors file (7 bytes)");
}

/* ---- whole checkpoints ------------------------------------------------------------- */

static char dir[] = "/tmp/cohort-safetensors-XXXXXX";

static void write_file(const char *name, const void *bytes, size_t n) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static void remove_file(const char *name) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    unlink(path);
}

static const char *const names[] = {"model.safetensors",
                                    "one.safetensors",
                                    "two.safetensors",
                                    "pytorch_model.safetensors",
                                    "model-00001-of-00002.safetensors",
                                    "model-00002-of-00002.safetensors",
                                    "model.safetensors.index.json"};

static int make_dir(void **state) {
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        remove_file(names[i]);
    return rmdir(dir);
}

static void assert_not_opened(const char *words) {
    cohort_safetensors *checkpoint;
    assert_int_not_equal(cohort_safetensors_open(dir, &checkpoint), COHORT_OK);
    assert_null(checkpoint);
    const char *message = cohort_last_error()->message;
    if (!strstr(message, words)) fail_msg("'%s' lacks '%s'", message, words);
}

static void write_index(const char *b_is_in) {
    char text[256];
    snprintf(text, sizeof text,
             "{\"weight_map\": {\"a\": \"one.safetensors\", \"b\": \"%s\"}}", b_is_in);
    write_file("model.safetensors.index.json", text, strlen(text));
}

/* Opens the directory; says how many files count. */
static cohort_safetensors *open_dir(int32_t n_files) {
    cohort_safetensors *checkpoint = NULL;
    if (cohort_safetensors_open(dir, &checkpoint) < 0)
        fail_msg("%s", cohort_last_error()->message);
    assert_int_equal(cohort_safetensors_n_files(checkpoint), n_files);
    return checkpoint;
}

static void assert_first_value(cohort_safetensors *checkpoint, const char *name,
                               float expected) {
    const cohort_tensor *tensor = cohort_safetensors_find(checkpoint, name);
    float value;
    assert_non_null(tensor);
    assert_int_equal(cohort_safetensors_read(checkpoint, tensor->file, tensor->begin,
                                             &value, sizeof value),
                     COHORT_OK);
    assert_true(value == expected);
}

#define ONE "\"one\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}"

static void write_value(const char *file, float value) {
    uint8_t bytes[256];
    size_t n = compose("{" ONE "}", 4, bytes, sizeof bytes);
    memcpy(bytes + n - 4, &value, sizeof value);
    write_file(file, bytes, n);
}

/* Which files count is vLLM's rule. */
static void without_an_index_all_files_of_the_folder_count(void **state) {
    (void)state;
    uint8_t bytes[256];
    assert_not_opened("has neither model.safetensors nor");
    size_t n = compose("{" A "}", 24, bytes, sizeof bytes);
    write_file("pytorch_model.safetensors", bytes, n);
    cohort_safetensors_close(open_dir(1));
    write_value("model-00001-of-00002.safetensors", 1);
    cohort_safetensors *checkpoint = open_dir(2);
    assert_first_value(checkpoint, "one", 1);
    assert_first_value(checkpoint, "a", 0);
    cohort_safetensors_close(checkpoint);
    write_value("model-00002-of-00002.safetensors", 2);
    checkpoint = open_dir(3);
    assert_first_value(checkpoint, "one", 2); /* the last of the two */
    cohort_safetensors_close(checkpoint);

    /* An index that names none that are there was left over when they were joined. */
    write_value("model.safetensors", 3);
    write_index("two.safetensors");
    checkpoint = open_dir(1);
    assert_first_value(checkpoint, "one", 3);
    cohort_safetensors_close(checkpoint);
    /* One that names some of them chooses, also beside model.safetensors. */
    const char *text =
        "{\"weight_map\": {\"one\": \"model-00001-of-00002.safetensors\"}}";
    write_file("model.safetensors.index.json", text, strlen(text));
    checkpoint = open_dir(1);
    assert_first_value(checkpoint, "one", 1);
    cohort_safetensors_close(checkpoint);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        remove_file(names[i]);
}

/* A test that hangs is a FIFO that is waited for. */
static void what_is_no_regular_file_is_refused_at_once(void **state) {
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_not_opened("is no safetensors file");
    unlink(path);
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_not_opened("not a regular file");
    unlink(path);
}

static void assert_not_read(cohort_safetensors *checkpoint, const char *words) {
    const cohort_tensor *one = cohort_safetensors_find(checkpoint, "one");
    float value;
    assert_int_equal(
        cohort_safetensors_read(checkpoint, one->file, one->begin, &value, sizeof value),
        COHORT_E_INVALID);
    if (!strstr(cohort_last_error()->message, words))
        fail_msg("%s", cohort_last_error()->message);
}

/* Under a mapping it would be the end of the process. */
static void a_file_that_shrinks_or_is_replaced_is_an_error(void **state) {
    (void)state;
    char path[128], other[128];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    snprintf(other, sizeof other, "%s/other", dir);
    write_value("model.safetensors", 1);
    cohort_safetensors *checkpoint = open_dir(1);
    assert_first_value(checkpoint, "one", 1);
    assert_int_equal(truncate(path, 12), 0);
    assert_not_read(checkpoint, "model.safetensors was shortened while it was read");
    cohort_safetensors_close(checkpoint);
    write_value("model.safetensors", 1);
    checkpoint = open_dir(1);
    write_value("other", 2);
    assert_int_equal(rename(other, path), 0);
    assert_not_read(checkpoint, "model.safetensors was replaced");
    cohort_safetensors_close(checkpoint);
    unlink(path);
}

static void index_joins_the_files_it_names(void **state) {
    (void)state;
    uint8_t bytes[512];
    size_t n = compose("{" A "}", 24, bytes, sizeof bytes);
    bytes[n - 1] = 0x3f; /* the last element: 0.5 */
    write_file("one.safetensors", bytes, n);
    write_index("two.safetensors");
    assert_not_opened("two.safetensors");
    n = compose(
        "{\"b\": {\"dtype\": \"BF16\", \"shape\": [2], \"data_offsets\": [0, 4]}}", 4,
        bytes, sizeof bytes);
    write_file("two.safetensors", bytes, n);

    cohort_safetensors *checkpoint;
    assert_int_equal(cohort_safetensors_open(dir, &checkpoint), COHORT_OK);
    assert_int_equal(cohort_safetensors_n_files(checkpoint), 2);
    const cohort_tensor *a = cohort_safetensors_find(checkpoint, "a");
    const cohort_tensor *b = cohort_safetensors_find(checkpoint, "b");
    assert_non_null(a);
    assert_non_null(b);
    assert_null(cohort_safetensors_find(checkpoint, "c"));
    assert_string_equal(cohort_safetensors_file_name(checkpoint, b->file),
                        "two.safetensors");
    float values[6];
    for (int again = 0; again < 2; again++) {
        cohort_safetensors_prefetch(checkpoint, a->file, a->begin, a->end);
        assert_int_equal(
            cohort_safetensors_read(checkpoint, a->file, a->begin, values, sizeof values),
            COHORT_OK);
        assert_true(values[5] == 0.5F && values[0] == 0);
        cohort_safetensors_release(checkpoint, a->file);
    }
    cohort_safetensors_close(checkpoint);

    /* Only the names of its files count: converters leave tensors there that they
     * dropped. */
    write_index("one.safetensors");
    cohort_safetensors_close(open_dir(1));
    write_index("../one.safetensors");
    assert_not_opened("no file beside it");
    write_index("two.safetensors");
    write_file("two.safetensors", bytes, n - 1);
    assert_not_opened("two.safetensors is cut short: tensor b");
    write_file("two.safetensors", bytes, 3);
    assert_not_opened("two.safetensors is no safetensors file");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_gives_names_types_shapes_and_ranges),
        cmocka_unit_test(file_cut_short_names_the_first_tensor_without_bytes),
        cmocka_unit_test(ranges_must_tile_the_file),
        cmocka_unit_test(sizes_must_be_what_the_shape_needs),
        cmocka_unit_test(what_is_no_header_is_refused),
        cmocka_unit_test(without_an_index_all_files_of_the_folder_count),
        cmocka_unit_test(what_is_no_regular_file_is_refused_at_once),
        cmocka_unit_test(a_file_that_shrinks_or_is_replaced_is_an_error),
        cmocka_unit_test(index_joins_the_files_it_names),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
