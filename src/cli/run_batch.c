/* SPDX-License-Identifier: Apache-2.0 */
/* `cohort run-batch`: OpenAI's batch files.
 *
 * Design notes.
 *
 * The requests go to a server of this very process, on loopback behind a key that is
 * drawn: so a line of a batch is answered by what answers the same request under
 * `cohort serve`, and a crash leaves nothing behind.  All lines are read before a model
 * is loaded; answers are written in the order of the lines, into a file that takes its
 * name once it is whole; where there is something else than a file (a device, a pipe, a
 * link), straight into that.  An engine that fails ends the batch: requests that it
 * leaves without an answer are no answers, and go to a file of their own, to be asked
 * again. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/random.h"
#include "cli/progress.h"
#include "cli/serve.h"
#include "cli/signals.h"
#include "client/client.h"
#include "cohort/clock.h"

enum { MAX_ACTIVE = 512, SLICE_MS = 100, PATH_BYTES = 4096 };

typedef struct batch_line {
    struct batch *batch;
    char *custom_id, *url, *body;
    char *answer; /* the line of the output, once it is there */
} batch_line;

typedef struct batch {
    const cli_options *options;
    batch_line *lines;
    size_t n_lines, capacity, n_sent, n_written, n_refused;
    int32_t n_active;
    uint64_t stream, n_drawn; /* of ids */
    cohort_server *server;
    cohort_client *client;
    char key[33];
    FILE *out;
    int write_err;         /* of the first answer that could not be written */
    char part[PATH_BYTES]; /* what takes the output's name in the end; "": nothing */
    bool has_failed, keeps_part; /* the engine; what there is of the output */
} batch;

/* ---- the input --------------------------------------------------------------------- */

static int refuse(size_t number, const char *why) {
    fprintf(stderr, "cohort run-batch: line %zu: %s\n", number, why);
    return CLI_USAGE;
}

/* Where the value of "body" begins and ends in a text that has been parsed; as written,
 * since a parsed number may have lost digits.  NULL: its name is spelled with escapes. */
static char *copy_body(const char *text, size_t size) {
    static const char name[] = "\"body\"";
    int depth = 0;
    size_t start = 0, string_at = 0;
    bool is_next = false, in_string = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\') i++;
            if (c != '"') continue;
            in_string = false;
            is_next = depth == 1 && !is_next && i + 1 - string_at == strlen(name) &&
                      !memcmp(text + string_at, name, strlen(name));
        } else if (c == '"') {
            in_string = true;
            string_at = i;
        } else if (c == '{' || c == '[') {
            if (++depth == 2 && is_next) start = i;
        } else if (c == '}' || c == ']') {
            if (--depth == 1 && start) return strndup(text + start, i + 1 - start);
        } else if (c == ',' && depth == 1)
            is_next = false;
    }
    return NULL;
}

static int take_line(batch *self, const char *text, size_t size, size_t number) {
    cJSON *json = cJSON_ParseWithLength(text, size);
    const char *id = cJSON_GetStringValue(cJSON_GetObjectItem(json, "custom_id"));
    const char *method = cJSON_GetStringValue(cJSON_GetObjectItem(json, "method"));
    const char *url = cJSON_GetStringValue(cJSON_GetObjectItem(json, "url"));
    const cJSON *body = cJSON_GetObjectItem(json, "body");
    const char *fault = NULL;
    if (!cJSON_IsObject(json))
        fault = "it is no JSON object";
    else if (!id)
        fault = "it has no \"custom_id\"";
    else if (!method || strcmp(method, "POST") != 0)
        fault = "its \"method\" is not \"POST\"";
    else if (!url || url[0] != '/')
        fault = "it has no \"url\" that begins with /";
    else if (!cJSON_IsObject(body))
        fault = "its \"body\" is no JSON object";
    if (fault) {
        cJSON_Delete(json);
        return refuse(number, fault);
    }
    if (self->n_lines == self->capacity) {
        self->capacity = self->capacity * 2 + 64;
        self->lines = realloc(self->lines, self->capacity * sizeof *self->lines);
        if (!self->lines) abort();
    }
    batch_line *added = &self->lines[self->n_lines++];
    *added = (batch_line){.batch = self,
                          .custom_id = strdup(id),
                          .url = strdup(url),
                          .body = copy_body(text, size)};
    if (!added->body) added->body = cJSON_PrintUnformatted(body);
    if (!added->custom_id || !added->url || !added->body) abort();
    cJSON_Delete(json);
    return CLI_OK;
}

static int read_input(batch *self) {
    const char *path = self->options->batch_input;
    bool standard = !strcmp(path, "-");
    FILE *file = standard ? stdin : fopen(path, "re");
    char *text = NULL;
    size_t capacity = 0, number = 0;
    int result = CLI_OK;
    if (!file) {
        fprintf(stderr, "cohort run-batch: cannot open --input-file %s: %s\n", path,
                strerror(errno));
        return CLI_USAGE;
    }
    for (ssize_t n; result == CLI_OK && (n = getline(&text, &capacity, file)) >= 0;) {
        number++;
        if (strspn(text, " \t\r\n") < (size_t)n)
            result = take_line(self, text, (size_t)n, number);
    }
    if (result == CLI_OK && ferror(file)) result = refuse(number + 1, strerror(errno));
    free(text);
    if (!standard) fclose(file);
    return result;
}

/* ---- answers ----------------------------------------------------------------------- */

static void put_id(batch *self, cohort_body *out) {
    uint64_t high = cohort_random_u64(self->stream, self->n_drawn++);
    uint64_t low = cohort_random_u64(self->stream, self->n_drawn++);
    cohort_body_printf(out, "%016llx%016llx", (unsigned long long)high,
                       (unsigned long long)low);
}

/* Whole lines from the first on; the answers behind a gap wait. */
static void write_ready(batch *self) {
    for (; self->n_written < self->n_lines && self->lines[self->n_written].answer;
         self->n_written++) {
        batch_line *line = &self->lines[self->n_written];
        if (fprintf(self->out, "%s\n", line->answer) < 0 && !self->write_err)
            self->write_err = errno;
        free(line->answer);
        line->answer = NULL;
    }
    if (fflush(self->out) && !self->write_err) self->write_err = errno;
}

static void take_answer(void *user_data, const cohort_client_result *result) {
    batch_line *line = user_data;
    batch *self = line->batch;
    cohort_body out = {0};
    cohort_error failure;
    self->n_active--;
    if ((result->status == 0 || result->status >= 500) &&
        cohort_server_failure(self->server, &failure) < 0) {
        self->has_failed = true;
        return;
    }
    bool is_json = result->body_bytes && (result->body[0] == '{');
    int status = result->status ? result->status : 500;
    cohort_body_puts(&out, "{\"id\": \"vllm-");
    put_id(self, &out);
    cohort_body_puts(&out, "\", \"custom_id\": ");
    cohort_body_json(&out, line->custom_id, strlen(line->custom_id));
    cohort_body_printf(&out, ", \"response\": {\"status_code\": %d, \"request_id\": ",
                       is_json || !result->status ? status : 400);
    cohort_body_puts(&out, "\"vllm-batch-");
    put_id(self, &out);
    cohort_body_puts(&out, "\", \"body\": ");
    if (status == 200 && is_json) {
        cohort_body_add(&out, result->body, result->body_bytes);
        cohort_body_puts(&out, "}, \"error\": null}");
    } else {
        self->n_refused++;
        const char *why =
            result->status ? "Request must not be sent in stream mode" : result->error;
        cohort_body_puts(&out, "null}, \"error\": ");
        if (is_json)
            cohort_body_add(&out, result->body, result->body_bytes);
        else
            cohort_body_json(&out, why, strlen(why));
        cohort_body_puts(&out, "}");
    }
    if (out.is_short) abort();
    line->answer = out.bytes;
    write_ready(self);
}

static int send_line(batch *self, batch_line *line) {
    char url[PATH_BYTES];
    snprintf(url, sizeof url, "%s%s", cohort_server_url(self->server), line->url);
    const cohort_client_request request = {.url = url,
                                           .body = line->body,
                                           .body_bytes = strlen(line->body),
                                           .on_done = take_answer,
                                           .user_data = line};
    self->n_active++;
    if (cohort_client_send(self->client, &request) < 0) return cli_fail("asking");
    return CLI_OK;
}

static int answer_all(batch *self) {
    cli_progress bar = {.unit = "requests"};
    cli_progress_begin(&bar, "Answering");
    while (self->n_written < self->n_lines && !cli_signals_first() && !self->write_err &&
           !(self->has_failed && !self->n_active)) {
        for (; self->n_sent < self->n_lines && self->n_active < MAX_ACTIVE &&
               !self->has_failed;
             self->n_sent++) {
            int result = send_line(self, &self->lines[self->n_sent]);
            if (result != CLI_OK) return result;
        }
        if (cohort_client_run(self->client, cohort_deadline_ms(SLICE_MS)) < 0)
            return cli_fail("waiting for answers");
        cli_progress_show(&bar, (int64_t)self->n_written, (int64_t)self->n_lines);
    }
    cli_progress_clear();
    if (self->n_refused)
        fprintf(stderr,
                "cohort run-batch: %zu of %zu requests were refused; their lines "
                "of the output say why\n",
                self->n_refused, self->n_lines);
    return cli_signals_first() ? 128 + cli_signals_first() : CLI_OK;
}

/* A file of our own in the place of an older one; a link there is not followed, and what
 * is no file is left alone. */
static FILE *open_new(const char *path) {
    struct stat found;
    if (lstat(path, &found) == 0 && S_ISREG(found.st_mode)) unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    if (fd >= 0 && !file) close(fd);
    return file;
}

/* Behind a failure: the answers that wait for earlier ones, and elsewhere, if there is a
 * file, the requests without one.  Their number, and the first. */
static size_t part_lines(batch *self, FILE *rest, const batch_line **out_first) {
    size_t n_lost = 0;
    cohort_body text = {0};
    for (size_t i = self->n_written; i < self->n_lines; i++) {
        const batch_line *line = &self->lines[i];
        if (line->answer) {
            fprintf(self->out, "%s\n", line->answer);
            continue;
        }
        if (!n_lost++) *out_first = line;
        cohort_body_puts(&text, "{\"custom_id\": ");
        cohort_body_json(&text, line->custom_id, strlen(line->custom_id));
        cohort_body_puts(&text, ", \"method\": \"POST\", \"url\": ");
        cohort_body_json(&text, line->url, strlen(line->url));
        cohort_body_printf(&text, ", \"body\": %s}\n", line->body);
    }
    if (text.is_short) abort();
    if (rest && n_lost) fwrite(text.bytes, 1, text.size, rest);
    cohort_body_deinit(&text);
    return n_lost;
}

static int tell_failure(batch *self) {
    char path[PATH_BYTES + 8];
    const batch_line *first = NULL;
    cohort_error failure;
    cohort_server_failure(self->server, &failure);
    snprintf(path, sizeof path, "%s.rest", self->options->batch_output);
    FILE *rest = self->part[0] ? open_new(path) : NULL;
    int err = rest ? 0 : errno;
    size_t n_lost = part_lines(self, rest, &first);
    if (rest && fclose(rest)) err = errno;
    self->keeps_part = true;
    fprintf(stderr,
            "cohort run-batch: %s: %zu of %zu requests have no answer, \"%.60s\" the "
            "first",
            failure.message, n_lost, self->n_lines, first ? first->custom_id : "");
    if (rest && !err)
        fprintf(stderr,
                "; they are in %s, which --input-file takes, and the answers that there "
                "are in %s",
                path, self->part);
    else if (self->part[0])
        fprintf(stderr,
                "; the answers that there are in %s, and %s cannot be written: %s",
                self->part, path, strerror(err));
    fprintf(stderr, "\n");
    return CLI_FAILED;
}

/* ---- the command ------------------------------------------------------------------- */

static int start(batch *self) {
    cohort_engine *engine;
    uint8_t raw[24];
    if (getrandom(raw, sizeof raw, 0) != (ssize_t)sizeof raw) return CLI_FAILED;
    for (int i = 0; i < 16; i++)
        snprintf(self->key + 2 * i, 3, "%02x", raw[i]);
    memcpy(&self->stream, raw + 16, sizeof self->stream);
    cohort_server_options server = cli_server_options(self->options);
    server.host = "127.0.0.1";
    server.port = 0;
    server.uds = NULL;
    server.print = NULL;
    server.log_answers = false;
    server.max_connections = MAX_ACTIVE + 16;
    server.idle_timeout_s = 1e6; /* an answer may take its time */
    server.api_keys[0] = self->key;
    server.api_keys[1] = NULL;
    if (cohort_server_bind(&server, &self->server) < 0) return cli_fail("starting");
    if (cohort_server_use_model(self->server, self->options->tokenizer_dir) < 0)
        return cli_fail("starting");
    int result = cli_start_engine(self->options, NULL, &engine);
    if (result != CLI_OK) return result;
    if (self->options->verbose) cli_print_start(engine);
    if (cohort_server_open(self->server, engine) < 0) return cli_fail("starting");
    const cohort_client_options client = {.bearer = self->key};
    if (cohort_client_create(&client, &self->client) < 0) return cli_fail("starting");
    return CLI_OK;
}

static int open_output(batch *self) {
    const char *path = self->options->batch_output;
    if (!strcmp(path, "-")) {
        self->out = stdout;
        return CLI_OK;
    }
    struct stat found;
    const char *where = path;
    if (lstat(path, &found) == 0 && !S_ISREG(found.st_mode)) {
        self->out = fopen(path, "we");
    } else {
        int n = snprintf(self->part, sizeof self->part, "%s.part", path);
        where = self->part;
        errno = ENAMETOOLONG;
        if (n > 0 && (size_t)n < sizeof self->part) self->out = open_new(where);
    }
    if (self->out) return CLI_OK;
    fprintf(stderr, "cohort run-batch: cannot write --output-file %s: %s\n", where,
            strerror(errno));
    self->part[0] = '\0';
    return CLI_USAGE;
}

static bool is_there(const char *path, const char *suffix, struct stat *out) {
    char whole[PATH_BYTES + 8];
    snprintf(whole, sizeof whole, "%s%s", path, suffix);
    return stat(whole, out) == 0;
}

/* What a batch that failed left behind is nowhere else. */
static int check_left_over(const batch *self) {
    const char *path = self->options->batch_output;
    struct stat part, rest;
    if (!strcmp(path, "-") || !is_there(path, ".part", &part) ||
        !is_there(path, ".rest", &rest))
        return CLI_OK;
    fprintf(stderr,
            "cohort run-batch: %s.part and %s.rest are of a batch that failed, and would "
            "be written over; move both away, or give another --output-file\n",
            path, path);
    return CLI_USAGE;
}

/* Every request has its answer: those of an earlier run that had none are no news, if
 * they are not our input. */
static void drop_rest(const batch *self) {
    char path[PATH_BYTES + 8];
    struct stat rest, input;
    if (!is_there(self->options->batch_output, ".rest", &rest)) return;
    if (stat(self->options->batch_input, &input) == 0 && input.st_dev == rest.st_dev &&
        input.st_ino == rest.st_ino)
        return;
    snprintf(path, sizeof path, "%s.rest", self->options->batch_output);
    remove(path);
}

static int close_output(batch *self, int result) {
    if (!self->out) return result;
    bool is_file = self->part[0];
    bool fine = !self->write_err && !ferror(self->out);
    if ((self->out != stdout ? fclose(self->out) : fflush(self->out)) != 0) fine = false;
    if (result == CLI_OK && fine && is_file)
        fine = rename(self->part, self->options->batch_output) == 0;
    if (result == CLI_OK && fine && is_file) drop_rest(self);
    if (result == CLI_OK && !fine) {
        fprintf(stderr, "cohort run-batch: writing --output-file %s: %s\n",
                self->options->batch_output,
                strerror(self->write_err ? self->write_err : errno));
        result = CLI_FAILED;
    }
    if (is_file && result != CLI_OK && !self->keeps_part) remove(self->part);
    return result;
}

int cli_run_batch(int argc, char **argv) {
    cli_options options;
    int result =
        cli_options_parse(&options, CLI_ENGINE | CLI_BATCH, "run-batch", argc, argv);
    if (result != CLI_OK) return result == CLI_HELP ? CLI_OK : result;
    if (!options.batch_input || !options.batch_output) {
        fprintf(stderr, "cohort run-batch: give --input-file and --output-file\n");
        return CLI_USAGE;
    }
    batch self = {.options = &options};
    result = cli_catch_signals(&options);
    if (result == CLI_OK) result = check_left_over(&self);
    if (result == CLI_OK) result = read_input(&self);
    if (result == CLI_OK) result = cli_find_model(&options);
    if (result == CLI_OK) result = open_output(&self);
    if (result == CLI_OK) result = start(&self);
    if (result == CLI_OK) result = answer_all(&self);
    if (result == CLI_OK && self.n_written < self.n_lines && !self.write_err)
        result = tell_failure(&self);
    result = close_output(&self, result);
    if (result == CLI_OK && self.n_refused) result = CLI_FAILED;
    cohort_client_destroy(self.client);
    cohort_server_destroy(self.server);
    for (size_t i = 0; i < self.n_lines; i++) {
        free(self.lines[i].custom_id);
        free(self.lines[i].url);
        free(self.lines[i].body);
        free(self.lines[i].answer);
    }
    free(self.lines);
    return result;
}
