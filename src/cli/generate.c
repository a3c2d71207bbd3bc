/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/body.h"
#include "cli/progress.h"
#include "cli/request.h"
#include "cli/signals.h"
#include "cohort/clock.h"

/* Design notes.
 *
 * One loop: take the lines that are there, step the engine, print what it gave.  While
 * requests run, input is only looked at; with none left it is waited for.  A bad line is
 * reported and costs only itself, but the exit code remembers it. */

enum { SLICE_MS = 100, MAX_LINE_BYTES = 64 << 20 };

/* One completion under way. */
typedef struct answer {
    uint64_t request_id;
    int64_t index; /* of the line */
    int32_t n;     /* of the completion */
    cJSON *token_ids, *logprobs, *prompt_logprobs;
    char *text;
    size_t text_bytes;
    struct answer *next;
} answer;

typedef struct session {
    const cli_options *options;
    cohort_engine *engine;
    cohort_chat *chat; /* once there are messages */
    answer *answers;
    int64_t n_lines;
    bool streams; /* a single completion: its text is printed as it comes */
    int input_fd; /* -1: none, or ended */
    char *buffer;
    size_t n_buffered, capacity;
    int result;
    /* Of a file, whose lines can be counted. */
    cli_progress bar;
    int64_t n_all, n_done; /* requests; n_all 0: unknown */
} session;

/* ---- requests ---------------------------------------------------------------------- */

static void complain(session *self, const char *why) {
    cli_progress_clear();
    if (self->options->input)
        fprintf(stderr, "cohort generate: line %lld: %s\n", (long long)self->n_lines,
                why);
    else
        fprintf(stderr, "cohort generate: %s\n", why);
    self->result = CLI_USAGE;
}

static void submit(session *self, const cohort_request *request, int64_t index) {
    cohort_request_id id;
    if (cohort_engine_submit(self->engine, request, &id) < 0) {
        complain(self, cohort_last_error()->message);
        self->n_done++;
        return;
    }
    for (int32_t i = 0; i < request->n; i++) {
        answer *added = calloc(1, sizeof *added);
        if (!added) abort();
        *added = (answer){.request_id = id.value, .index = index, .n = i};
        added->token_ids = cJSON_CreateArray();
        added->text = calloc(1, 1);
        if (request->sampling.n_logprobs >= 0) added->logprobs = cJSON_CreateArray();
        if (request->sampling.n_prompt_logprobs >= 0)
            added->prompt_logprobs = cJSON_CreateArray();
        added->next = self->answers;
        self->answers = added;
    }
}

static void take_line(session *self, const char *line, size_t size) {
    char why[400];
    cli_request request;
    int64_t index = self->n_lines++;
    if (strspn(line, " \t\r") >= size) return; /* an empty line still has its number */
    if (cli_request_from_line(&request, self->engine, self->options, &self->chat, line,
                              size, why, sizeof why) == CLI_OK)
        submit(self, &request.request, index);
    else {
        complain(self, why);
        self->n_done++;
    }
    cli_request_deinit(&request);
}

static void take_lines(session *self, bool at_end) {
    size_t done = 0;
    for (char *end; (end = memchr(self->buffer + done, '\n', self->n_buffered - done));) {
        *end = '\0';
        take_line(self, self->buffer + done, (size_t)(end - self->buffer) - done);
        done = (size_t)(end - self->buffer) + 1;
    }
    if (at_end && done < self->n_buffered) {
        self->buffer[self->n_buffered] = '\0';
        take_line(self, self->buffer + done, self->n_buffered - done);
        done = self->n_buffered;
    }
    memmove(self->buffer, self->buffer + done, self->n_buffered - done);
    self->n_buffered -= done;
}

/* Reads what is there; waits for it where the engine has nothing to do. */
static void read_input(session *self) {
    struct pollfd poll_fd = {.fd = self->input_fd, .events = POLLIN};
    int wait_ms = cohort_engine_has_unfinished(self->engine) ? 0 : SLICE_MS;
    if (self->input_fd < 0 || poll(&poll_fd, 1, wait_ms) <= 0) return;
    if (self->capacity - self->n_buffered < 65537) {
        self->capacity = self->capacity * 2 + 131072;
        self->buffer = realloc(self->buffer, self->capacity);
        if (!self->buffer) abort();
    }
    ssize_t got = read(self->input_fd, self->buffer + self->n_buffered, 65536);
    if (got < 0 && errno == EINTR) return;
    if (got > 0) self->n_buffered += (size_t)got;
    take_lines(self, got <= 0);
    if (self->n_buffered > MAX_LINE_BYTES) {
        complain(self, "a line of more than 64 MiB");
        got = 0;
    }
    if (got > 0) return;
    if (got < 0) complain(self, strerror(errno));
    if (self->input_fd != STDIN_FILENO) close(self->input_fd);
    self->input_fd = -1;
}

/* ---- answers ----------------------------------------------------------------------- */

static answer *find_answer(session *self, const cohort_completion *completion) {
    for (answer *at = self->answers; at; at = at->next)
        if (at->request_id == completion->request_id.value && at->n == completion->index)
            return at;
    return NULL;
}

static cJSON *logprobs_json(const cohort_position_logprobs *position) {
    cJSON *object = cJSON_CreateObject();
    cJSON_AddNumberToObject(object, "token_id", position->entries[0].token_id);
    cJSON_AddNumberToObject(object, "logprob", (double)position->entries[0].logprob);
    cJSON *top = cJSON_AddArrayToObject(object, "top");
    for (uint32_t i = 1; i < position->n; i++) {
        if (position->entries[i].token_id < 0) continue;
        cJSON *pair = cJSON_CreateArray();
        cJSON_AddItemToArray(pair, cJSON_CreateNumber(position->entries[i].token_id));
        cJSON_AddItemToArray(pair,
                             cJSON_CreateNumber((double)position->entries[i].logprob));
        cJSON_AddItemToArray(top, pair);
    }
    return object;
}

static void collect(answer *to, const cohort_completion *completion) {
    for (int32_t i = 0; i < completion->n_token_ids; i++) {
        cJSON_AddItemToArray(to->token_ids, cJSON_CreateNumber(completion->token_ids[i]));
        if (to->logprobs && completion->logprobs)
            cJSON_AddItemToArray(to->logprobs, logprobs_json(&completion->logprobs[i]));
    }
    if (to->prompt_logprobs && completion->n_prompt_logprobs) {
        cJSON_AddItemToArray(to->prompt_logprobs, cJSON_CreateNull());
        for (int32_t i = 0; i < completion->n_prompt_logprobs; i++)
            cJSON_AddItemToArray(to->prompt_logprobs,
                                 logprobs_json(&completion->prompt_logprobs[i]));
    }
    if (!completion->text_bytes) return;
    to->text = realloc(to->text, to->text_bytes + completion->text_bytes + 1);
    if (!to->text) abort();
    memcpy(to->text + to->text_bytes, completion->text, completion->text_bytes);
    to->text_bytes += completion->text_bytes;
    to->text[to->text_bytes] = '\0';
}

static void print_json(const answer *from, const cohort_completion *completion) {
    cJSON *line = cJSON_CreateObject();
    cJSON_AddNumberToObject(line, "index", (double)from->index);
    cJSON_AddNumberToObject(line, "n", from->n);
    cJSON_AddItemToObject(line, "prompt_token_ids",
                          cJSON_CreateIntArray(completion->prompt_token_ids,
                                               completion->n_prompt_token_ids));
    cJSON_AddItemReferenceToObject(line, "token_ids", from->token_ids);
    cohort_body quoted = {0}; /* of any characters, NUL among them */
    cohort_body_json(&quoted, from->text, from->text_bytes);
    if (quoted.is_short) abort();
    cJSON_AddRawToObject(line, "text", quoted.bytes);
    cohort_body_deinit(&quoted);
    cJSON_AddStringToObject(line, "finish_reason",
                            cohort_finish_reason_name(completion->finish_reason));
    if (from->logprobs) cJSON_AddItemReferenceToObject(line, "logprobs", from->logprobs);
    if (from->prompt_logprobs)
        cJSON_AddItemReferenceToObject(line, "prompt_logprobs", from->prompt_logprobs);
    char *text = cJSON_PrintUnformatted(line);
    printf("%s\n", text);
    free(text);
    cJSON_Delete(line);
}

static void forget(session *self, answer *gone) {
    answer **at = &self->answers;
    while (*at != gone)
        at = &(*at)->next;
    *at = gone->next;
    cJSON_Delete(gone->token_ids);
    cJSON_Delete(gone->logprobs);
    cJSON_Delete(gone->prompt_logprobs);
    free(gone->text);
    free(gone);
}

static void print_text(const answer *from) {
    printf("[%lld.%d]%s", (long long)from->index, from->n,
           from->text[0] == ' ' ? "" : " ");
    fwrite(from->text, 1, from->text_bytes, stdout);
    printf("\n");
}

static void print_finished(const session *self, const answer *from,
                           const cohort_completion *completion) {
    if (self->options->json)
        print_json(from, completion);
    else if (self->streams)
        printf("\n");
    else
        print_text(from);
}

static void take_output(session *self, const cohort_completion *completion) {
    answer *to = find_answer(self, completion);
    if (!to) return;
    collect(to, completion);
    if (self->streams && !self->options->json)
        fwrite(completion->text, 1, completion->text_bytes, stdout);
    if (completion->finish_reason != COHORT_FINISH_NONE) {
        cli_progress_clear();
        print_finished(self, to, completion);
        self->n_done += to->n == 0;
        forget(self, to);
    }
    if (fflush(stdout)) cli_signals_note(SIGPIPE); /* nobody reads any more */
}

/* ---- the command ------------------------------------------------------------------- */

static int run(session *self) {
    while (!cli_signals_first()) {
        read_input(self);
        bool busy = cohort_engine_has_unfinished(self->engine);
        if (!busy && self->input_fd < 0) return self->result;
        if (!busy) {
            cohort_error error;
            if (cohort_executor_failure(cohort_engine_executor(self->engine), &error) <
                0) {
                cli_progress_clear();
                fprintf(stderr, "cohort: generating: %s\n", error.message);
                return CLI_FAILED;
            }
            continue;
        }
        cohort_engine_outputs outputs;
        cohort_status status =
            cohort_engine_step(self->engine, cohort_deadline_ms(SLICE_MS), &outputs);
        if (status == COHORT_E_TIMEOUT || status == COHORT_PENDING) continue;
        if (status < 0) {
            cli_progress_clear();
            cli_fail("generating");
            return CLI_FAILED;
        }
        for (size_t i = 0; i < outputs.n_completions; i++)
            take_output(self, &outputs.completions[i]);
        if (self->n_all) cli_progress_show(&self->bar, self->n_done, self->n_all);
    }
    return 128 + cli_signals_first();
}

/* Of a file that can be read twice, the lines that say something. */
static int64_t count_lines(const char *path) {
    struct stat found;
    int64_t n = 0;
    char *line = NULL;
    size_t capacity = 0;
    if (stat(path, &found) < 0 || !S_ISREG(found.st_mode)) return 0;
    FILE *file = fopen(path, "re");
    for (ssize_t size; file && (size = getline(&line, &capacity, file)) >= 0;)
        n += strspn(line, " \t\r\n") < (size_t)size;
    if (file) fclose(file);
    free(line);
    return n;
}

static int open_input(session *self) {
    const cli_options *options = self->options;
    self->input_fd = -1;
    int sources = !!options->prompt + !!options->prompt_token_ids + !!options->input;
    if (sources != 1) {
        fprintf(stderr,
                "cohort generate: give one of --prompt, --prompt-token-ids, --input\n");
        return CLI_USAGE;
    }
    if (!options->input) return CLI_OK;
    bool standard = !strcmp(options->input, "-");
    self->input_fd = standard ? STDIN_FILENO : open(options->input, O_RDONLY | O_CLOEXEC);
    if (self->input_fd >= 0) return CLI_OK;
    fprintf(stderr, "cohort generate: cannot open --input %s: %s\n", options->input,
            strerror(errno));
    return CLI_USAGE;
}

static int start(session *self) {
    int result = open_input(self);
    if (result == CLI_OK) result = cli_start_engine(self->options, NULL, &self->engine);
    if (result != CLI_OK) return result;
    if (self->options->verbose) cli_print_start(self->engine);
    if (self->options->input) {
        self->n_all = count_lines(self->options->input);
        self->bar = (cli_progress){.unit = "requests"};
        if (self->n_all) cli_progress_begin(&self->bar, "Answering");
        return CLI_OK;
    }
    char why[400];
    cli_request request;
    if (cli_request_from_options(&request, self->engine, self->options, &self->chat, why,
                                 sizeof why))
        complain(self, why);
    else
        submit(self, &request.request, 0);
    self->streams = request.request.n == 1;
    cli_request_deinit(&request);
    return self->result;
}

int cli_generate(int argc, char **argv) {
    cli_options options;
    int result =
        cli_options_parse(&options, CLI_ENGINE | CLI_GENERATE, "generate", argc, argv);
    if (result != CLI_OK) return result == CLI_HELP ? CLI_OK : result;
    session self = {.options = &options, .input_fd = -1};
    result = cli_catch_signals(&options);
    if (result == CLI_OK) result = cli_find_model(&options);
    if (result == CLI_OK) result = start(&self);
    if (result == CLI_OK) result = run(&self);
    cli_progress_clear();
    if (self.engine &&
        cohort_executor_shutdown(cohort_engine_executor(self.engine)) < 0 &&
        result == CLI_OK)
        result = cli_fail("shutting down");
    while (self.answers)
        forget(&self, self.answers);
    cohort_engine_destroy(self.engine);
    cohort_chat_close(self.chat);
    free(self.buffer);
    return result;
}
