/* SPDX-License-Identifier: Apache-2.0 */
/* `cohort complete` and `cohort chat`: a running server from the terminal, with vLLM's
 * flags.  An interrupt ends the answer, and a second one, or one while nothing is under
 * way, the command. */
#include <cjson/cJSON.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/line_reader.h"
#include "cli/talk.h"
#include "cli/terminal.h"
#include "cohort/clock.h"
#include "engine/engine_options.h"
#include "wire/sampling_options.h"

enum { SLICE_MS = 50 };

static volatile sig_atomic_t interrupted;

/* SIGINT may end an answer alone: it does not stand in for what ends the command. */
static void on_signal(int number) {
    if (number != SIGINT || !interrupted) interrupted = number;
}

static int connect_client(talk *self) {
    const cohort_client_options options = {.bearer = self->bearer};
    cohort_client_destroy(self->client);
    self->client = NULL;
    if (cohort_client_create(&options, &self->client) < 0) return cli_fail("starting");
    return CLI_OK;
}

/* The message of vLLM's error envelope, or all of it. */
static void print_error(const char *what, const char *body) {
    cJSON *json = cJSON_Parse(body);
    const char *message = cJSON_GetStringValue(
        cJSON_GetObjectItem(cJSON_GetObjectItem(json, "error"), "message"));
    fprintf(stderr, "cohort: %s: %s\n", what, message ? message : body);
    cJSON_Delete(json);
}

/* ---- answers ----------------------------------------------------------------------- */

static void print_text(talk *self, const char *text, bool is_thought) {
    if (!text || !*text) return;
    if (!self->first_ns) self->first_ns = cohort_clock_ns();
    if (self->prose.columns)
        cli_prose_put(&self->prose, text, is_thought);
    else
        fputs(text, stdout);
    fflush(stdout);
}

/* Reasoning between tags where it goes to a file, as vLLM's client shows it. */
static void print_tag(talk *self, bool begins) {
    if (self->thinks != begins && !self->prose.columns)
        fputs(begins ? "<think>\n" : "\n</think>\n", stdout);
    self->thinks = begins;
}

/* Thoughts are no part of the conversation. */
static void take_delta(talk *self, const cJSON *delta) {
    const char *thought = cJSON_GetStringValue(cJSON_GetObjectItem(delta, "reasoning"));
    const char *content = cJSON_GetStringValue(cJSON_GetObjectItem(delta, "content"));
    if (thought && *thought) {
        print_tag(self, true);
        print_text(self, thought, true);
    }
    if (content && *content) {
        print_tag(self, false);
        print_text(self, content, false);
        cohort_body_puts(&self->text, content);
    }
}

static void take_event(void *user_data, const char *data, size_t size) {
    talk *self = user_data;
    if (!strcmp(data, "[DONE]")) return;
    cJSON *json = cJSON_ParseWithLength(data, size);
    const cJSON *choice = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "choices"), 0);
    const cJSON *n =
        cJSON_GetObjectItem(cJSON_GetObjectItem(json, "usage"), "completion_tokens");
    if (cJSON_GetObjectItem(json, "error")) {
        self->is_failed = true;
        printf("\n");
        fflush(stdout);
        print_error("the answer broke off", data);
    }
    if (cJSON_IsNumber(n)) self->n_tokens = (int64_t)n->valuedouble;
    if (self->is_chat)
        take_delta(self, cJSON_GetObjectItem(choice, "delta"));
    else
        print_text(self, cJSON_GetStringValue(cJSON_GetObjectItem(choice, "text")),
                   false);
    cJSON_Delete(json);
}

static void take_end(void *user_data, const cohort_client_result *result) {
    talk *self = user_data;
    self->is_done = true;
    if (result->status == 200) return;
    self->is_failed = true;
    if (result->status == 0)
        fprintf(stderr, "cohort: %s: %s%s\n", self->url, result->error,
                self->model ? "" : "; `cohort serve` starts a server, --url names one");
    else if (result->status == 404 && !self->model)
        fprintf(stderr, "cohort: %s/models: %s; an API's --url ends in /v1 as a rule\n",
                self->url, result->reason);
    else if (result->status == 401)
        fprintf(stderr, "cohort: %s: %s; --api-key or OPENAI_API_KEY brings a key\n",
                self->url, result->reason);
    else
        print_error(result->reason, result->body);
}

/* The first is the one to ask, unless somebody chose another. */
static void take_models(void *user_data, const cohort_client_result *result) {
    talk *self = user_data;
    cJSON *json = cJSON_ParseWithLength(result->body, result->body_bytes);
    const cJSON *list = cJSON_GetObjectItem(json, "data"), *entry;
    const char *id = NULL;
    self->models.size = 0;
    cJSON_ArrayForEach(entry, list) {
        const char *one = cJSON_GetStringValue(cJSON_GetObjectItem(entry, "id"));
        if (!one) continue;
        if (!id) id = one;
        cohort_body_printf(&self->models, "%s\n", one);
    }
    if (id && !self->model && !(self->model = strdup(id))) abort();
    take_end(user_data, result);
    if (!id && !self->is_failed)
        fprintf(stderr, "cohort: %s names no model; is it a server?\n", self->url);
    self->is_failed |= !id;
    cJSON_Delete(json);
}

/* Until the answer's end, or an interrupt. */
static int wait_for_end(talk *self) {
    while (!self->is_done && !interrupted)
        if (cohort_client_run(self->client, cohort_deadline_ms(SLICE_MS)) < 0)
            return cli_fail("waiting for the answer");
    if (!interrupted) return self->is_failed ? CLI_FAILED : CLI_OK;
    return 128 + interrupted;
}

static int ask(talk *self, const char *path, const char *body,
               void (*on_done)(void *user_data, const cohort_client_result *result)) {
    char url[TALK_URL_BYTES + 64];
    snprintf(url, sizeof url, "%s%s", self->url, path);
    const cohort_client_request request = {.url = url,
                                           .body = body,
                                           .body_bytes = body ? strlen(body) : 0,
                                           .on_event = body ? take_event : NULL,
                                           .on_done = on_done,
                                           .user_data = self};
    self->is_done = self->is_failed = self->thinks = false;
    self->first_ns = self->n_tokens = 0;
    self->text.size = 0;
    self->start_ns = cohort_clock_ns();
    if (cohort_client_send(self->client, &request) < 0) return cli_fail("asking");
    return wait_for_end(self);
}

void talk_add_message(talk *self, const char *role, const char *content) {
    cJSON *message = cJSON_CreateObject();
    cJSON_AddStringToObject(message, "role", role);
    cJSON_AddStringToObject(message, "content", content);
    cJSON_AddItemToArray(self->messages, message);
}

int talk_find_models(talk *self) { return ask(self, "/models", NULL, take_models); }

static char *request_body(talk *self, const char *input) {
    const cli_options *options = self->options;
    cJSON *body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "model", self->model);
    if (self->is_chat)
        cJSON_AddItemToObject(body, "messages", cJSON_Duplicate(self->messages, true));
    else
        cJSON_AddStringToObject(body, "prompt", input);
    cJSON_AddTrueToObject(body, "stream");
    cli_options_add_given(body, options, &cohort_request_option_table, &options->request);
    cli_options_add_given(body, options, &cohort_choice_option_table,
                          &options->request.sampling);
    if (options->stats || self->prose.columns)
        cJSON_AddTrueToObject(cJSON_AddObjectToObject(body, "stream_options"),
                              "include_usage");
    char *text = cJSON_PrintUnformatted(body);
    if (!text) abort();
    cJSON_Delete(body);
    return text;
}

/* A server may count several tokens to a piece, or send no usage: then none is told. */
static void print_short_stats(const talk *self, double total_s) {
    double first_s = (double)(self->first_ns - self->start_ns) / 1e9;
    printf("\033[2m(first token after %.2f s", first_s);
    if (self->n_tokens > 1 && total_s > first_s)
        printf(", then %.1f tokens/s, %lld tokens",
               (double)(self->n_tokens - 1) / (total_s - first_s),
               (long long)self->n_tokens);
    printf(")\033[0m\n");
}

static void print_stats(const talk *self) {
    double total_s = (double)(cohort_clock_ns() - self->start_ns) / 1e9;
    if (!self->first_ns || total_s <= 0) return;
    if (!self->options->stats) {
        print_short_stats(self, total_s);
        return;
    }
    printf("%-5s %.2f ms\n", "TTFT:", (double)(self->first_ns - self->start_ns) / 1e6);
    printf("%-5s %.2f tokens/s (%lld tokens in %.2fs)\n",
           "TPS:", (double)self->n_tokens / total_s, (long long)self->n_tokens, total_s);
}

/* One question and its answer, which a chat remembers. */
static int say(talk *self, const char *input) {
    self->prose.columns = cli_columns(STDOUT_FILENO);
    if (self->is_chat) talk_add_message(self, "user", input);
    char *body = request_body(self, input);
    int result =
        ask(self, self->is_chat ? "/chat/completions" : "/completions", body, take_end);
    free(body);
    if (self->prose.columns)
        cli_prose_end(&self->prose);
    else if (self->thinks)
        printf("\n</think>");
    if (self->first_ns || result == CLI_OK || result > 128) printf("\n");
    if (result == CLI_OK && (self->options->stats || self->prose.columns))
        print_stats(self);
    fflush(stdout);
    if (self->is_chat && (result == CLI_OK || result > 128))
        talk_add_message(self, "assistant", self->text.size ? self->text.bytes : "");
    else if (self->is_chat) /* a question without an answer was not asked */
        cJSON_DeleteItemFromArray(self->messages, cJSON_GetArraySize(self->messages) - 1);
    return result;
}

/* ---- the commands ------------------------------------------------------------------ */

/* The next line; NULL at the end, or after an interrupt with nothing typed. */
static const char *next_line(talk *self) {
    for (;;) {
        if (!self->is_typed) {
            printf("> ");
            fflush(stdout);
            ssize_t n = interrupted ? -1 : getline(&self->input, &self->capacity, stdin);
            if (n < 0) return NULL;
            if (n && self->input[n - 1] == '\n') self->input[n - 1] = '\0';
            return self->input;
        }
        int result = cli_line_read(&self->line, "> ", &interrupted);
        if (result == CLI_READ_LINE) return self->line.text;
        if (result == CLI_READ_END || !self->line.size || interrupted != SIGINT)
            return NULL;
        interrupted = 0; /* what was typed is thrown away, as shells do */
    }
}

/* Behind an interrupt, which ended one answer, the client begins anew. */
static int go_on(talk *self) {
    int result = connect_client(self);
    if (result == CLI_OK) interrupted = 0;
    return result;
}

/* Lines until the end of the input; what fails costs only itself. */
static int converse(talk *self) {
    int result = CLI_OK;
    printf(self->is_chat ? "Please enter a message for the chat model:\n"
                         : "Please enter prompt to complete:\n");
    if (isatty(STDIN_FILENO))
        fprintf(stderr, "(Ctrl-C ends an answer, Ctrl-D all of it%s)\n",
                self->is_chat && self->is_typed ? "; /help lists commands" : "");
    talk_load_history(self);
    for (const char *line; (line = next_line(self));) {
        if (!line[strspn(line, " \t\r\n")]) continue; /* nothing was said */
        if (self->is_typed && cli_line_remember(&self->line, line))
            talk_keep_line(self, line);
        int one = CLI_OK;
        if (!self->is_typed || !self->is_chat || !talk_command(self, line))
            one = say(self, line);
        if (self->has_ended) break;
        if (interrupted == SIGINT) one = go_on(self);
        if (one != CLI_OK) result = one;
    }
    printf("\n");
    return interrupted ? 128 + interrupted : result;
}

static int run(talk *self) {
    const cli_options *options = self->options;
    int result = connect_client(self);
    if (result == CLI_OK && options->model_name) {
        if (!(self->model = strdup(options->model_name))) abort();
    } else if (result == CLI_OK) {
        result = talk_find_models(self);
    }
    if (result != CLI_OK) return result;
    printf("Using model: %s\n", self->model);
    if (self->is_chat && options->system_prompt)
        talk_add_message(self, "system", options->system_prompt);
    return options->quick ? say(self, options->quick) : converse(self);
}

/* Each ends a read, too, so that the terminal has its own mode again. */
static void catch_signals(void) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    const struct sigaction action = {.sa_handler = on_signal};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct sigaction before;
        sigaction(numbers[i], NULL, &before);
        if (numbers[i] == SIGHUP && before.sa_handler == SIG_IGN) continue; /* nohup */
        sigaction(numbers[i], &action, NULL);
    }
}

static int talk_as(int commands, const char *name, int argc, char **argv) {
    cli_options options;
    int result = cli_options_parse(&options, commands, name, argc, argv);
    if (result != CLI_OK) return result == CLI_HELP ? CLI_OK : result;
    catch_signals();
    static talk self; /* of some KiB */
    self = (talk){.options = &options,
                  .is_chat = commands == CLI_CHAT,
                  .is_typed = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO),
                  .prose = {.out = stdout}};
    self.messages = cJSON_CreateArray();
    snprintf(self.url, sizeof self.url, "%s", options.url);
    for (size_t n = strlen(self.url); n && self.url[n - 1] == '/'; n--)
        self.url[n - 1] = '\0';
    self.bearer = options.client_key ? options.client_key : getenv("OPENAI_API_KEY");
    result = run(&self);
    cohort_client_destroy(self.client);
    cohort_body_deinit(&self.text);
    cohort_body_deinit(&self.models);
    cli_line_deinit(&self.line);
    free(self.input);
    cJSON_Delete(self.messages);
    free(self.model);
    return result;
}

int cli_complete(int argc, char **argv) {
    return talk_as(CLI_COMPLETE, "complete", argc, argv);
}

int cli_chat(int argc, char **argv) { return talk_as(CLI_CHAT, "chat", argc, argv); }
