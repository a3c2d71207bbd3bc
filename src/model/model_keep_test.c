/* SPDX-License-Identifier: Apache-2.0 */
/* Weights and cache that outlive a model: who opens it next goes on where it stopped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "model/model.h"

enum { VOCAB = 1024, N_PROMPT = 21, BLOCK_SIZE = 16, N_BLOCKS = 4 };

/* A driver's table of descriptors. */
struct shelf {
    const char *names[2];
    int fds[2];
    uint64_t generations[2];
    bool were_kept[2];
};

static int find(const struct shelf *shelf, const char *name) {
    return strcmp(shelf->names[0], name) == 0 ? 0 : 1;
}

static int take(void *self, const char *name) {
    const struct shelf *shelf = self;
    int fd = shelf->fds[find(shelf, name)];
    return fd < 0 ? -1 : dup(fd);
}

static cohort_status keep(void *self, const char *name, int fd, uint64_t generation,
                          bool was_kept) {
    struct shelf *shelf = self;
    int i = find(shelf, name);
    if (shelf->fds[i] >= 0) close(shelf->fds[i]);
    shelf->fds[i] = dup(fd);
    shelf->generations[i] = generation;
    shelf->were_kept[i] = was_kept;
    return COHORT_OK;
}

static struct shelf new_shelf(void) {
    return (struct shelf){.names = {"weights", "kv"}, .fds = {-1, -1}};
}

static void clear(struct shelf *shelf) {
    for (int i = 0; i < 2; i++)
        if (shelf->fds[i] >= 0) close(shelf->fds[i]);
}

static cohort_status count_calls(void *user_data, int32_t shard, int32_t n_shards,
                                 size_t done_bytes, size_t total_bytes) {
    (void)shard;
    (void)n_shards;
    (void)done_bytes;
    (void)total_bytes;
    ++*(int *)user_data;
    return COHORT_OK;
}

static cohort_model *open_model(const cohort_keeper *keeper, const char *quantization,
                                int *n_reports) {
    char dir[512];
    snprintf(dir, sizeof dir, "%s/tests/golden/llama-float32", COHORT_SOURCE_DIR);
    const cohort_model_options options = {.model_dir = dir,
                                          .quantization = quantization,
                                          .max_num_batched_tokens = 32,
                                          .max_num_seqs = 1,
                                          .block_size = BLOCK_SIZE,
                                          .tp_size = 1,
                                          .pp_size = 1,
                                          .keeper = keeper,
                                          .backend = cohort_backend_cpu()};
    cohort_model *model;
    *n_reports = 0;
    assert_int_equal(cohort_model_open(&options, &model), COHORT_OK);
    assert_int_equal(cohort_model_load(model, count_calls, n_reports), COHORT_OK);
    assert_int_equal(cohort_model_kv_create(model, N_BLOCKS), COHORT_OK);
    return model;
}

/* To the end of it; the system may refuse, and then there is nothing to be seen. */
static void move(cohort_model *model, const struct shelf *shelf) {
    cohort_status status;
    while ((status = cohort_model_memory_move(model)) == COHORT_PENDING) {
    }
    assert_int_equal(status, COHORT_OK);
    if (shelf->fds[0] < 0) skip(); /* no huge pages of a memfd's, or no memfd */
}

static cohort_status copy_logits(void *user_data, int32_t row_begin, int32_t n_rows,
                                 float *logits, int32_t vocab_size) {
    (void)row_begin;
    assert_int_equal(n_rows, 1);
    assert_true(vocab_size <= VOCAB);
    memcpy(user_data, logits, (size_t)vocab_size * sizeof *logits);
    return COHORT_OK;
}

/* Tokens [begin, end) of one sequence. */
static void compute(cohort_model *model, int32_t begin, int32_t end, float *logits) {
    const int32_t table[] = {2, 0};
    int32_t ids[N_PROMPT + 1], n_logit_rows = 1;
    for (int32_t i = begin; i < end; i++)
        ids[i - begin] = i * 37 % 500;
    const cohort_sequence sequence = {
        .n_rows = end - begin, .n_computed = begin, .block_table = table};
    const cohort_batch batch = {.token_ids = ids,
                                .n_rows = end - begin,
                                .sequences = &sequence,
                                .n_logit_rows = &n_logit_rows,
                                .n_sequences = 1,
                                .deadline_ns = COHORT_NEVER};
    assert_int_equal(cohort_model_forward(model, &batch, copy_logits, logits), COHORT_OK);
}

static void who_comes_next_goes_on_without_reading_or_recomputing(void **state) {
    static float expected[VOCAB], got[VOCAB];
    const char *quantization = *state;
    struct shelf shelf = new_shelf();
    const cohort_keeper keeper = {&shelf, take, keep};
    int n_reports;
    cohort_model *model = open_model(NULL, quantization, &n_reports);
    compute(model, 0, N_PROMPT, expected);
    compute(model, N_PROMPT, N_PROMPT + 1, expected);
    cohort_model_close(model);
    model = open_model(&keeper, quantization, &n_reports);
    assert_true(n_reports > 0);
    assert_true(!shelf.were_kept[0] && !shelf.were_kept[1]);
    assert_true(shelf.fds[0] < 0 && shelf.fds[1] >= 0);
    compute(model, 0, N_PROMPT, got);
    move(model, &shelf);
    compute(model, 0, N_PROMPT, got); /* from where the weights lie now */
    cohort_model_close(model);        /* its last words are in the cache */
    model = open_model(&keeper, quantization, &n_reports);
    assert_int_equal(n_reports, 0);
    assert_true(shelf.were_kept[0] && shelf.were_kept[1]);
    assert_int_equal(shelf.generations[0], 1);
    compute(model, N_PROMPT, N_PROMPT + 1, got);
    assert_memory_equal(got, expected, sizeof got);
    cohort_model_close(model);
    clear(&shelf);
}

static void what_is_of_another_model_is_not_taken(void **state) {
    (void)state;
    struct shelf shelf = new_shelf();
    const cohort_keeper keeper = {&shelf, take, keep};
    int n_reports;
    for (int i = 0; i < 2; i++) {
        cohort_model *model = open_model(&keeper, i ? "int8" : NULL, &n_reports);
        move(model, &shelf);
        cohort_model_close(model);
    }
    assert_true(n_reports > 0 && !shelf.were_kept[0]);
    assert_int_equal(shelf.generations[0], 2);
    clear(&shelf);
}

/* Nobody can write to weights that are kept, whoever has the descriptor; and whoever
 * adopts them computes without having to. */
static void kept_weights_are_sealed(void **state) {
    (void)state;
    struct shelf shelf = new_shelf();
    const cohort_keeper keeper = {&shelf, take, keep};
    int n_reports;
    cohort_model *model = open_model(&keeper, NULL, &n_reports);
    move(model, &shelf);
    assert_int_equal(pwrite(shelf.fds[0], "x", 1, 8192), -1);
    assert_int_equal(ftruncate(shelf.fds[0], 0), -1);
    assert_ptr_equal(
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, shelf.fds[0], 0),
        MAP_FAILED);
    cohort_model_close(model);
    clear(&shelf);
}

/* In place of the memory of that name; what it was is sealed. */
static int forge(int fd, int fault) {
    static char bytes[1 << 22];
    ssize_t n = pread(fd, bytes, sizeof bytes, 0);
    assert_in_range(n, 4096 * 2, sizeof bytes - 1);
    if (fault == 0) n = 4096 * 2; /* before the end of what is used */
    if (fault == 1) memcpy(bytes, "nonsense", 8);
    if (fault == 2) n = 0;
    int forged = memfd_create("forged", MFD_CLOEXEC);
    assert_int_equal(write(forged, bytes, (size_t)n), n);
    close(fd);
    return forged;
}

/* A process that died while it loaded leaves memory that was never whole; and bytes of
 * others may be anything. */
static void what_is_not_whole_is_not_taken(void **state) {
    (void)state;
    const char *faults[] = {"cut off", "nonsense", "empty"};
    for (int i = 0; i < 6; i++) {
        struct shelf shelf = new_shelf();
        const cohort_keeper keeper = {&shelf, take, keep};
        int n_reports, which = i % 2;
        cohort_model *model = open_model(&keeper, NULL, &n_reports);
        move(model, &shelf);
        cohort_model_close(model);
        shelf.fds[which] = forge(shelf.fds[which], i / 2);
        model = open_model(&keeper, NULL, &n_reports);
        move(model, &shelf);
        cohort_model_close(model);
        if (shelf.were_kept[which] || !shelf.were_kept[!which] ||
            (n_reports == 0) != (which == 1))
            fail_msg("%s that are %s were taken", shelf.names[which], faults[i / 2]);
        clear(&shelf);
    }
}

int main(void) {
    int probe = memfd_create("probe", MFD_CLOEXEC);
    if (probe < 0) return 77; /* forbidden here: then nothing is kept */
    close(probe);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_comes_next_goes_on_without_reading_or_recomputing),
        cmocka_unit_test_prestate(who_comes_next_goes_on_without_reading_or_recomputing,
                                  (void *)(uintptr_t) "int8"),
        cmocka_unit_test(what_is_of_another_model_is_not_taken),
        cmocka_unit_test(kept_weights_are_sealed),
        cmocka_unit_test(what_is_not_whole_is_not_taken),
    };
    return cmocka_run_group_tests_name("model/keep", tests, NULL, NULL);
}
