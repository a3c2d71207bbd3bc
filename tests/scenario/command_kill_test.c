/* SPDX-License-Identifier: Apache-2.0 */
/* What a user sees of `cohort generate` on two processes when one of them is killed or
 * stopped, in every phase from spawn to shutdown: one line that names rank and signal,
 * exit code 1, within a second, and nothing left behind. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cohort/clock.h"
#include "killer.h"

enum { N_RANKS = 2, PROMPT_TOKENS = 1000, N_LINES = 400 };

typedef enum moment { SPAWN, CONNECT, LOAD, PREFILL, DECODE, SHUTDOWN, N_MOMENTS } moment;

static const char *const moment_names[] = {"spawn",   "connect", "load",
                                           "prefill", "decode",  "shutdown"};

static char long_prompts[64], short_prompts[64];

static void write_prompts(char *out_path, const char *name, int n_tokens) {
    snprintf(out_path, 64, "%s/%s", getenv("XDG_RUNTIME_DIR"), name);
    FILE *file = fopen(out_path, "w");
    assert_non_null(file);
    for (int line = 0; line < N_LINES; line++) {
        fprintf(file, "{\"prompt_token_ids\":[%d", 5 + line % 500);
        for (int i = 1; i < n_tokens; i++)
            fprintf(file, ",%d", 5 + (line + i * 7) % 1000);
        fprintf(file, "]}\n");
    }
    fclose(file);
}

/* All its steps are prefill, or (but for one a prompt) decode, for seconds; up to the
 * other moments a single token gets one fastest. */
static pid_t start_command(const char *instance, moment at, int *out_errors) {
    extern char **environ;
    int ends[2];
    const char *input = at == PREFILL ? long_prompts : short_prompts;
    const char *max_tokens = at == DECODE ? "1000" : "1";
    char *argv[] = {COHORT_BUILD_DIR "/cohort",
                    "generate",
                    COHORT_SOURCE_DIR "/tests/golden/llama-bfloat16",
                    "-tp",
                    "2",
                    "--distributed-executor-backend",
                    "mp",
                    "--instance",
                    (char *)instance,
                    "--max-num-seqs",
                    "1",
                    "--max-num-batched-tokens",
                    "16",
                    "--ignore-eos",
                    "--kv-cache-memory-bytes",
                    "4MiB",
                    "--max-rank-restarts",
                    "0",
                    "--max-tokens",
                    (char *)max_tokens,
                    at == PREFILL || at == DECODE ? "--input" : "--prompt-token-ids",
                    at == PREFILL || at == DECODE ? (char *)input : "5,6",
                    NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
    assert_int_equal(posix_spawn(&pid, argv[0], &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    *out_errors = ends[0];
    return pid;
}

/* Everything that the command says on standard error, up to its end. */
static int await_command(pid_t pid, int errors, char *out_text, size_t size) {
    size_t used = 0;
    ssize_t got;
    int status = 0;
    while ((got = read(errors, out_text + used, size - 1 - used)) > 0)
        used += (size_t)got;
    out_text[used] = '\0';
    close(errors);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int n_lines(const char *text) {
    int n = 0;
    for (; (text = strchr(text, '\n')); text++)
        n++;
    return n;
}

static int64_t kill_once(uint64_t seed, uint64_t number, int at) {
    static killer_moment *const is_time[] = {killer_at_spawn,   killer_at_connect,
                                             killer_at_load,    killer_at_execute,
                                             killer_at_execute, killer_at_shutdown};
    static const uint64_t spread_us[] = {3000, 500, 300, 100000, 100000, 300};
    killer self;
    char text[4096];
    char rank[32];
    int errors;
    killer_start(&self, is_time[at], N_RANKS, spread_us[at], seed, number);
    pid_t pid = start_command(self.instance, at, &errors);
    int status = await_command(pid, errors, text, sizeof text);
    int64_t done_ns = cohort_clock_ns();
    killer_finish(&self);
    if (has_children() || count_counters())
        fail_msg(
            "killed rank %d in %s (kill %llu): something is left; status 0x%x, said: %s",
            self.rank, moment_names[at], (unsigned long long)number, (unsigned)status,
            text);
    /* The moment may pass before the signal comes: then all must be well. */
    if (!status && (!self.has_killed || self.is_late)) return 0;
    snprintf(rank, sizeof rank, "rank %d (pid ", self.rank);
    if (!self.has_killed || !WIFEXITED(status) || WEXITSTATUS(status) != 1 ||
        n_lines(text) != 1 || !strstr(text, rank) || !strstr(text, "signal 9"))
        fail_msg("killed rank %d in %s (kill %llu): status 0x%x, said: %s", self.rank,
                 moment_names[at], (unsigned long long)number, (unsigned)status, text);
    return done_ns - self.killed_ns;
}

static void random_kills_end_the_command_in_order(void **state) {
    (void)state;
    write_prompts(long_prompts, "long.jsonl", PROMPT_TOKENS);
    write_prompts(short_prompts, "short.jsonl", 1);
    killer_run(moment_names, N_MOMENTS, kill_once);
    unlink(long_prompts);
    unlink(short_prompts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_kills_end_the_command_in_order),
    };
    return cmocka_run_group_tests(tests, killer_enter_home, killer_leave_home);
}
