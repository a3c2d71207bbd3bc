/* SPDX-License-Identifier: Apache-2.0 */
/* A rank with a model that is killed between two steps; the next process gets what the
 * driver, which is this file, held of it, and goes on with the same tokens. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "rank_driver.h"
#include "wire/step.h"
#include "worker/runner.h"

enum { N_PROMPT = 21, N_STEPS = 6 };

typedef struct world {
    rank_driver driver; /* first: on_keep knows the world by it */
    pid_t pid;
    uint32_t keeps;
    uint64_t call;
    int fds[2]; /* of weights and cache; -1: none */
    cohort_frame_keep kept[2];
    char choice[64];
} world;

static int count_fds(void) {
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void hold(rank_driver *driver, const cohort_frame *frame, int fd) {
    world *self = (world *)driver;
    cohort_frame_keep keep;
    assert_int_equal(cohort_frame_read_keep(frame, &keep), COHORT_OK);
    assert_true(fd >= 0);
    int i = keep.what == COHORT_KEEP_KV;
    if (self->fds[i] >= 0) close(self->fds[i]);
    self->fds[i] = fd;
    self->kept[i] = keep;
}

static void start_rank(world *self) {
    int fd = open_control(&self->driver);
    self->pid = fork();
    assert_true(self->pid >= 0);
    if (self->pid == 0) {
        const cohort_worker_options options = {.control_fd = fd,
                                               .ops = cohort_worker_model_ops()};
        cohort_link_close(self->driver.control);
        for (int i = 0; i < 2; i++) /* what it gets comes over the link */
            if (self->fds[i] >= 0) close(self->fds[i]);
        _exit(cohort_worker_run(&options) < 0);
    }
    close(fd);
}

static void give_kept(world *self) {
    for (int i = 0; i < 2; i++)
        if (self->fds[i] >= 0)
            tell_with(&self->driver,
                      (cohort_frame){.kind = COHORT_FRAME_KEEP,
                                     .body = &self->kept[i],
                                     .body_bytes = sizeof self->kept[i]},
                      self->fds[i]);
}

/* The cache comes with the load, as for a rank that takes another's place. */
static void load(world *self) {
    _Alignas(8) uint8_t body[256];
    const cohort_runner_cache cache = {.n_blocks = 8};
    const cohort_frame call = {.kind = COHORT_FRAME_RPC,
                               .rank = COHORT_ALL_RANKS,
                               .method = COHORT_RUNNER_INITIALIZE,
                               .body = &cache,
                               .body_bytes = sizeof cache};
    tell(&self->driver, (cohort_frame){.kind = COHORT_FRAME_LOAD,
                                       .body = body,
                                       .body_bytes = cohort_frame_nest(&call, body)});
    cohort_frame frame = hear(&self->driver, COHORT_FRAME_READY);
    cohort_frame_ready ready;
    assert_int_equal(cohort_frame_read_ready(&frame, &ready), COHORT_OK);
    memcpy(self->choice, ready.choice, sizeof self->choice);
}

static void raise_rank(world *self, const char *quantization) {
    char config[1024];
    uint32_t n = 6;
    int used = snprintf(config, sizeof config,
                        "model=%s/tests/golden/llama-float32%cmax_num_seqs=2%c"
                        "max_num_batched_tokens=64%cblock_size=16%cmax_model_len=64%c"
                        "cpu_threads_bind=nobind",
                        COHORT_SOURCE_DIR, 0, 0, 0, 0, 0) +
               1;
    const char *more[] = {quantization ? "quantization=int8" : NULL,
                          *self->choice ? self->choice : NULL};
    for (int i = 0; i < 2; i++)
        if (more[i]) {
            used += snprintf(config + used, sizeof config - (size_t)used, "%s", more[i]);
            used++, n++;
        }
    start_rank(self);
    configure(&self->driver,
              (cohort_frame_configure){
                  .survives_peers = 1, .keeps = self->keeps, .n_config = n},
              config, (size_t)used);
    connect_queues(&self->driver);
    give_kept(self);
    load(self);
}

static void bury_rank(world *self) {
    kill(self->pid, SIGKILL);
    assert_int_equal(waitpid(self->pid, NULL, 0), self->pid);
    close_links(&self->driver);
}

/* One step of one request, whose first n_known tokens the rank is told anew in a first
 * step; the token that it samples. */
static int32_t run_step(world *self, const int32_t *tokens, uint32_t n_computed,
                        uint32_t n_known, bool is_first) {
    static const int32_t blocks[] = {3, 1, 5};
    const cohort_step_request request = {.request_id = 9,
                                         .slot = 1,
                                         .n_prompt_tokens = N_PROMPT,
                                         .n_tokens = n_known,
                                         .tokens = tokens,
                                         .sampling = cohort_sampling_defaults()};
    const cohort_step_entry entry = {.slot = 1,
                                     .flags = COHORT_ENTRY_SAMPLE,
                                     .n_computed_tokens = n_computed,
                                     .n_scheduled_tokens = n_known - n_computed,
                                     .n_new_tokens = is_first ? 0 : 1,
                                     .new_tokens = tokens + n_known - 1,
                                     .n_new_blocks = is_first ? 3 : 0,
                                     .new_blocks = blocks};
    const cohort_step step = {
        .n_requests = is_first, .requests = &request, .n_entries = 1, .entries = &entry};
    _Alignas(8) uint8_t body[4096];
    size_t size = cohort_step_encoded_bytes(&step);
    assert_true(size <= sizeof body);
    cohort_step_encode(&step, body);
    cohort_frame frame = {.kind = COHORT_FRAME_EXECUTE,
                          .epoch = EPOCH,
                          .call = ++self->call,
                          .body = body,
                          .body_bytes = size};
    size = cohort_frame_encode(&frame, self->driver.bytes);
    assert_int_equal(
        cohort_queue_write(self->driver.broadcast, self->driver.bytes, size, patience()),
        COHORT_OK);
    const void *bytes;
    cohort_error error;
    cohort_step_output_view view = {0};
    assert_int_equal(
        cohort_queue_read_begin(self->driver.response, patience(), &bytes, &size),
        COHORT_OK);
    assert_int_equal(cohort_frame_decode(bytes, size, &frame), COHORT_OK);
    if (frame.status < 0 && cohort_frame_read_error(&frame, &error) >= 0)
        fail_msg("%s", error.message);
    assert_int_equal(cohort_step_output_decode(frame.body, frame.body_bytes, &view),
                     COHORT_OK);
    int32_t token = view.output.results[0].token_id;
    cohort_step_output_view_deinit(&view);
    cohort_queue_read_end(self->driver.response);
    return token;
}

/* N_STEPS steps from where tokens end, n_computed of which are in the cache.  is_new: the
 * rank does not know the request. */
static void generate(world *self, int32_t *tokens, uint32_t n_computed,
                     uint32_t *n_tokens, bool is_new) {
    for (int i = 0; i < N_STEPS; i++) {
        tokens[*n_tokens] =
            run_step(self, tokens, n_computed, *n_tokens, is_new && i == 0);
        n_computed = (*n_tokens)++;
    }
}

static void await_weights(world *self) {
    while (self->fds[0] < 0)
        hear(&self->driver, COHORT_FRAME_KEEP);
}

static void begin(world *self, uint32_t keeps) {
    memset(self, 0, sizeof *self);
    self->keeps = keeps;
    self->fds[0] = self->fds[1] = -1;
    self->driver.on_keep = hold;
    open_counters(&self->driver);
}

static void end(world *self) {
    for (int i = 0; i < 2; i++)
        if (self->fds[i] >= 0) close(self->fds[i]);
    cohort_counters_close(self->driver.counters);
}

static void fill_prompt(int32_t *tokens) {
    for (int32_t i = 0; i < N_PROMPT; i++)
        tokens[i] = i * 37 % 500;
}

static world self;

static void killed_rank_is_followed_by_one_that_goes_on(void **state) {
    (void)state;
    int32_t expected[64], got[64];
    uint32_t n = N_PROMPT;
    int before = count_fds();
    fill_prompt(expected);
    fill_prompt(got);
    begin(&self, 0);
    raise_rank(&self, NULL);
    generate(&self, expected, 0, &n, true);
    generate(&self, expected, n - 1, &n, false);
    bury_rank(&self);
    assert_true(self.fds[0] < 0 && self.fds[1] < 0); /* nothing was asked for */
    assert_int_equal(strncmp(self.choice, "isa=", 4), 0);
    end(&self);
    begin(&self, COHORT_KEEP_WEIGHTS | COHORT_KEEP_KV);
    raise_rank(&self, NULL);
    n = N_PROMPT;
    generate(&self, got, 0, &n, true);
    await_weights(&self);
    assert_true(self.fds[1] >= 0 && !self.kept[0].was_kept && !self.kept[1].was_kept);
    bury_rank(&self);
    /* Only the last token is computed: the rest of it is in the cache, or is wrong. */
    raise_rank(&self, NULL);
    assert_true(self.kept[0].was_kept && self.kept[1].was_kept);
    assert_int_equal(self.kept[1].generation, 1);
    generate(&self, got, n - 1, &n, true);
    assert_memory_equal(got, expected, (N_PROMPT + 2 * N_STEPS) * sizeof *got);
    bury_rank(&self);
    end(&self);
    assert_int_equal(count_fds(), before);
}

/* The cache is not among what is kept, and another format is another identity. */
static void what_was_not_kept_is_made_anew(void **state) {
    (void)state;
    begin(&self, COHORT_KEEP_WEIGHTS);
    raise_rank(&self, NULL);
    await_weights(&self);
    assert_true(self.fds[1] < 0);
    bury_rank(&self);
    raise_rank(&self, "int8");
    int32_t tokens[64];
    uint32_t n = N_PROMPT;
    fill_prompt(tokens);
    generate(&self, tokens, 0, &n, true);
    while (self.kept[0].generation == 1)
        hear(&self.driver, COHORT_FRAME_KEEP);
    assert_true(!self.kept[0].was_kept);
    assert_int_equal(self.kept[0].generation, 2);
    bury_rank(&self);
    end(&self);
}

static void memory_without_its_descriptor_ends_the_rank(void **state) {
    (void)state;
    const cohort_frame_keep body = {.what = COHORT_KEEP_KV};
    begin(&self, COHORT_KEEP_KV);
    raise_rank(&self, NULL);
    tell(&self.driver, (cohort_frame){.kind = COHORT_FRAME_KEEP,
                                      .body = &body,
                                      .body_bytes = sizeof body});
    /* The link is of no more use, says the watcher; the rank's end is all there is. */
    int status;
    assert_int_equal(waitpid(self.pid, &status, 0), self.pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    close_links(&self.driver);
    end(&self);
}

/* Where this system makes no huge page of a memfd's, weights are not kept. */
static bool can_keep(void) {
    enum { HUGE_PAGE = 2 << 20, COLLAPSE = 25 };
    int fd = memfd_create("probe", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, HUGE_PAGE) < 0 || pwrite(fd, "x", 1, 0) != 1)
        return false;
    char *memory =
        mmap(NULL, 2 * HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *at = memory + (HUGE_PAGE - (uintptr_t)memory % HUGE_PAGE) % HUGE_PAGE;
    bool can = mmap(at, HUGE_PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == at &&
               madvise(at, HUGE_PAGE, COLLAPSE) == 0;
    munmap(memory, 2 * HUGE_PAGE);
    close(fd);
    return can;
}

int main(void) {
    if (!can_keep()) return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_rank_is_followed_by_one_that_goes_on),
        cmocka_unit_test(what_was_not_kept_is_made_anew),
        cmocka_unit_test(memory_without_its_descriptor_ends_the_rank),
    };
    return cmocka_run_group_tests_name("worker/kept", tests, NULL, NULL);
}
