/* SPDX-License-Identifier: Apache-2.0 */
/* `cohort complete` and `cohort chat`: a running server from the terminal, with vLLM's
 * flags.  An interrupt ends the answer, and a second one, or one while nothing is under
 * way, the command. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/options.h"
#include "client/client.h"
#include "cohort/clock.h"
#include "engine/engine_options.h"
#include "wire/sampling_options.h"

enum { SLICE_MS = 50, URL_BYTES = 1024 };

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) { interrupted = number; }

typedef struct talk {
    const cli_options *options;
    bool is_chat, thinks;
    cohort_client *client;
    const char *bearer;
    char url[URL_BYTES]; /* of the API, without a slash at its end */
    char *model;
    cJSON *messages; /* of a chat */
    /* the answer under way */
    cohort_body text;
    int64_t start_ns, first_ns, n_tokens;
    bool is_done, is_failed;
} talk;

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

static void print_text(talk *self, const char *text) {
    if (!text || !*text) return;
    if (!self->first_ns) self->first_ns = cohort_clock_ns();
    fputs(text, stdout);
    fflush(stdout);
}

/* Reasoning between tags, as vLLM's client shows it; it is no part of the conversation.
 */
static void take_delta(talk *self, const cJSON *delta) {
    const char *thought = cJSON_GetStringValue(cJSON_GetObjectItem(delta, "reasoning"));
    const char *content = cJSON_GetStringValue(cJSON_GetObjectItem(delta, "content"));
    if (thought && *thought) {
        if (!self->thinks) printf("<think>\n");
        self->thinks = true;
        print_text(self, thought);
    }
    if (content && *content) {
        if (self->thinks) printf("\n</think>\n");
        self->thinks = false;
        print_text(self, content);
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
        print_text(self, cJSON_GetStringValue(cJSON_GetObjectItem(choice, "text")));
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

static void take_models(void *user_data, const cohort_client_result *result) {
    talk *self = user_data;
    cJSON *json = cJSON_ParseWithLength(result->body, result->body_bytes);
    const cJSON *first = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "data"), 0);
    const char *id = cJSON_GetStringValue(cJSON_GetObjectItem(first, "id"));
    if (id && !(self->model = strdup(id))) abort();
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
    char url[URL_BYTES + 64];
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

static void add_message(talk *self, const char *role, const char *content) {
    cJSON *message = cJSON_CreateObject();
    cJSON_AddStringToObject(message, "role", role);
    cJSON_AddStringToObject(message, "content", content);
    cJSON_AddItemToArray(self->messages, message);
}

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
    if (options->stats)
        cJSON_AddTrueToObject(cJSON_AddObjectToObject(body, "stream_options"),
                              "include_usage");
    char *text = cJSON_PrintUnformatted(body);
    if (!text) abort();
    cJSON_Delete(body);
    return text;
}

static void print_stats(const talk *self) {
    double total_s = (double)(cohort_clock_ns() - self->start_ns) / 1e9;
    if (!self->first_ns || total_s <= 0) return;
    printf("%-5s %.2f ms\n", "TTFT:", (double)(self->first_ns - self->start_ns) / 1e6);
    printf("%-5s %.2f tokens/s (%lld tokens in %.2fs)\n",
           "TPS:", (double)self->n_tokens / total_s, (long long)self->n_tokens, total_s);
}

/* One question and its answer, which a chat remembers. */
static int say(talk *self, const char *input) {
    if (self->is_chat) add_message(self, "user", input);
    char *body = request_body(self, input);
    int result =
        ask(self, self->is_chat ? "/chat/completions" : "/completions", body, take_end);
    free(body);
    if (self->thinks) printf("\n</think>");
    if (self->first_ns || result == CLI_OK || result > 128) printf("\n");
    if (result == CLI_OK && self->options->stats) print_stats(self);
    fflush(stdout);
    if (self->is_chat && (result == CLI_OK || result > 128))
        add_message(self, "assistant", self->text.bytes ? self->text.bytes : "");
    else if (self->is_chat) /* a question without an answer was not asked */
        cJSON_DeleteItemFromArray(self->messages, cJSON_GetArraySize(self->messages) - 1);
    return result;
}

/* ---- the commands ------------------------------------------------------------------ */

/* Until there is a line on the terminal, or an interrupt: one that comes just before a
 * read would not end it.  Elsewhere there may be lines in stdin's buffer. */
static bool wait_for_line(void) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    sigset_t own, before;
    if (!isatty(STDIN_FILENO)) return !interrupted;
    sigemptyset(&own);
    sigaddset(&own, SIGINT);
    sigprocmask(SIG_BLOCK, &own, &before);
    while (!interrupted && ppoll(&input, 1, NULL, &before) < 0 && errno == EINTR)
        continue;
    sigprocmask(SIG_SETMASK, &before, NULL);
    return !interrupted;
}

/* Lines until the end of the input; what fails costs only itself. */
static int converse(talk *self) {
    char *line = NULL;
    size_t capacity = 0;
    int result = CLI_OK;
    printf(self->is_chat ? "Please enter a message for the chat model:\n"
                         : "Please enter prompt to complete:\n");
    if (isatty(STDIN_FILENO))
        fprintf(stderr, "(Ctrl-C ends an answer, Ctrl-D all of it)\n");
    for (;;) {
        printf("> ");
        fflush(stdout);
        if (!wait_for_line()) break;
        ssize_t n = getline(&line, &capacity, stdin);
        if (n < 0) break;
        if (n && line[n - 1] == '\n') line[n - 1] = '\0';
        if (!line[strspn(line, " \t\r")]) continue; /* nothing was said */
        int one = say(self, line);
        if (one > 128 && (one = connect_client(self)) == CLI_OK) interrupted = 0;
        if (one != CLI_OK) result = one;
    }
    printf("\n");
    free(line);
    return interrupted ? 128 + interrupted : result;
}

static int run(talk *self) {
    const cli_options *options = self->options;
    int result = connect_client(self);
    if (result == CLI_OK && options->model_name) {
        if (!(self->model = strdup(options->model_name))) abort();
    } else if (result == CLI_OK) {
        result = ask(self, "/models", NULL, take_models);
    }
    if (result != CLI_OK) return result;
    printf("Using model: %s\n", self->model);
    if (self->is_chat && options->system_prompt)
        add_message(self, "system", options->system_prompt);
    return options->quick ? say(self, options->quick) : converse(self);
}

static int talk_as(int commands, const char *name, int argc, char **argv) {
    cli_options options;
    int result = cli_options_parse(&options, commands, name, argc, argv);
    if (result != CLI_OK) return result == CLI_HELP ? CLI_OK : result;
    struct sigaction action = {.sa_handler = on_interrupt}; /* ends a read, too */
    sigaction(SIGINT, &action, NULL);
    talk self = {.options = &options, .is_chat = commands == CLI_CHAT};
    self.messages = cJSON_CreateArray();
    snprintf(self.url, sizeof self.url, "%s", options.url);
    for (size_t n = strlen(self.url); n && self.url[n - 1] == '/'; n--)
        self.url[n - 1] = '\0';
    self.bearer = options.client_key ? options.client_key : getenv("OPENAI_API_KEY");
    result = run(&self);
    cohort_client_destroy(self.client);
    cohort_body_deinit(&self.text);
    cJSON_Delete(self.messages);
    free(self.model);
    return result;
}

int cli_complete(int argc, char **argv) {
    return talk_as(CLI_COMPLETE, "complete", argc, argv);
}

int cli_chat(int argc, char **argv) { return talk_as(CLI_CHAT, "chat", argc, argv); }
