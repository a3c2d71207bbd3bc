/* SPDX-License-Identifier: Apache-2.0 */
/* The data sets of `cohort bench serve` that lie in files, taken as vLLM takes them
 * (0.32, benchmarks/datasets): what is too short or too long for a sharegpt request is
 * left out, custom prompts become a chat's message, and what is missing is drawn from
 * what there is.  A list of JSON and JSON lines do for both.  The random numbers are our
 * own: without --disable-shuffle the order is not vLLM's. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "chat/chat.h"
#include "cli/bench_serve.h"

enum { MIN_TOKENS = 4, MAX_PROMPT_TOKENS = 1024, MAX_TOTAL_TOKENS = 2048 };

typedef struct file_reader {
    bench_run *run;
    const cohort_tokenizer *tokenizer;
    cohort_chat *chat;
    cJSON *extra; /* variables of its template */
    cJSON *list;
    const cJSON **entries;
    int64_t n_entries;
    uint64_t stream, n_drawn;
} file_reader;

/* entry: NULL for the line of this number. */
static int refuse(const file_reader *self, const cJSON *entry, int64_t number,
                  const char *why) {
    const cJSON *other = entry ? self->list->child : NULL;
    if (entry) number = 1;
    for (; other && other != entry; other = other->next)
        number++;
    fprintf(stderr, "cohort bench serve: %s: %s %lld: %s\n",
            self->run->options->load.dataset_path, entry ? "entry" : "line",
            (long long)number, why);
    return CLI_USAGE;
}

static int64_t draw_below(file_reader *self, int64_t n) {
    return (int64_t)(cohort_random_u64(self->stream, self->n_drawn++) % (uint64_t)n);
}

/* ---- the file ---------------------------------------------------------------------- */

static char *read_whole(const char *path, size_t *out_size) {
    FILE *file = fopen(path, "re");
    size_t size = 0, capacity = 0, got = 1;
    char *text = NULL;
    while (file && got > 0) {
        if (size == capacity) {
            capacity = capacity * 2 + 65536;
            text = realloc(text, capacity);
            if (!text) abort();
        }
        got = fread(text + size, 1, capacity - size, file);
        size += got;
    }
    if (!file || ferror(file)) {
        fprintf(stderr, "cohort bench serve: cannot read --dataset-path %s: %s\n", path,
                strerror(errno));
        free(text);
        text = NULL;
    }
    if (file) fclose(file);
    *out_size = size;
    return text;
}

/* A list, or a value in each line. */
static int parse(file_reader *self, const char *text, size_t size) {
    const char *end = text + size;
    int64_t number = 0;
    while (text < end && strchr(" \t\r\n", *text))
        text++;
    if (text < end && *text == '[') {
        self->list = cJSON_ParseWithLength(text, (size_t)(end - text));
        return self->list ? CLI_OK
                          : refuse(self, NULL, 1, "the list that begins here is no JSON");
    }
    self->list = cJSON_CreateArray();
    while (text < end) {
        const char *line_end = memchr(text, '\n', (size_t)(end - text));
        size_t n = (size_t)((line_end ? line_end : end) - text);
        number++;
        size_t blank = 0;
        while (blank < n && strchr(" \t\r", text[blank]))
            blank++;
        if (blank < n) {
            cJSON *one = cJSON_ParseWithLength(text, n);
            if (!one) return refuse(self, NULL, number, "it is no JSON");
            cJSON_AddItemToArray(self->list, one);
        }
        text += n + 1;
    }
    return CLI_OK;
}

static void shuffle(file_reader *self) {
    const cJSON *entry;
    self->entries = malloc(sizeof(void *) * ((size_t)cJSON_GetArraySize(self->list) + 1));
    if (!self->entries) abort();
    cJSON_ArrayForEach(entry, self->list) self->entries[self->n_entries++] = entry;
    if (self->run->options->load.disable_shuffle) return;
    for (int64_t n = self->n_entries; n > 1; n--) {
        int64_t other = draw_below(self, n);
        const cJSON *kept = self->entries[other];
        self->entries[other] = self->entries[n - 1];
        self->entries[n - 1] = kept;
    }
}

/* ---- requests ---------------------------------------------------------------------- */

static int64_t count_tokens(const file_reader *self, const char *text, size_t size) {
    int32_t *ids;
    size_t n;
    if (cohort_tokenizer_encode(self->tokenizer, text, size, true, &ids, &n) < 0)
        return -1;
    free(ids);
    return (int64_t)n;
}

static void put(file_reader *self, char *prompt, int64_t prompt_len, int64_t output_len) {
    bench_request *to = &self->run->requests[self->run->n_requests++];
    to->prompt = prompt;
    to->prompt_bytes = strlen(prompt);
    to->prompt_len = (int32_t)prompt_len;
    to->output_len = (int32_t)output_len;
}

static int take_sharegpt(file_reader *self, const cJSON *entry) {
    const cli_load_options *load = &self->run->options->load;
    const cJSON *turns = cJSON_GetObjectItem(entry, "conversations");
    int64_t fixed = load->output_len ? load->output_len : load->sharegpt_output_len;
    if (cJSON_GetArraySize(turns) < 2) return CLI_OK;
    const char *asked =
        cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetArrayItem(turns, 0), "value"));
    const char *answered =
        cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetArrayItem(turns, 1), "value"));
    if (!asked || !answered)
        return refuse(self, entry, 0, "its conversation has a turn without a \"value\"");
    int64_t n_asked = count_tokens(self, asked, strlen(asked));
    int64_t n_answered = fixed ? fixed : count_tokens(self, answered, strlen(answered));
    if (n_asked < 0 || n_answered < 0) return cli_fail("encoding a conversation");
    if (n_asked < MIN_TOKENS || n_asked > MAX_PROMPT_TOKENS ||
        (!fixed && n_answered < MIN_TOKENS) || n_asked + n_answered > MAX_TOTAL_TOKENS)
        return CLI_OK;
    char *prompt = strdup(asked);
    if (!prompt) abort();
    put(self, prompt, n_asked, n_answered);
    return CLI_OK;
}

/* The prompt as the model's template has it, or as it is. */
static cohort_status render(file_reader *self, const char *prompt, char **out_text) {
    size_t size;
    if (!self->chat) {
        *out_text = strdup(prompt);
        if (!*out_text) abort();
        return COHORT_OK;
    }
    cJSON *messages = cJSON_CreateArray(), *message = cJSON_CreateObject();
    cJSON_AddItemToArray(messages, message);
    cJSON_AddStringToObject(message, "role", "user");
    cJSON_AddStringToObject(message, "content", prompt);
    const cohort_conversation conversation = {
        .messages = messages, .extra = self->extra, .add_generation_prompt = true};
    cohort_status status = cohort_chat_render(self->chat, &conversation, out_text, &size);
    cJSON_Delete(messages);
    return status;
}

static int take_custom(file_reader *self, const cJSON *entry) {
    const cli_load_options *load = &self->run->options->load;
    const char *prompt = cJSON_GetStringValue(cJSON_GetObjectItem(entry, "prompt"));
    const cJSON *own = cJSON_GetObjectItem(entry, "output_tokens");
    int64_t output = load->output_len ? load->output_len : load->custom_output_len;
    char *text;
    if (!prompt) return refuse(self, entry, 0, "it has no \"prompt\"");
    if (output == -1) {
        if (!cJSON_IsNumber(own) || !(own->valuedouble >= 1 && own->valuedouble < 1e9))
            return refuse(self, entry, 0,
                          "it has no \"output_tokens\", as --custom-output-len -1 wants");
        output = (int64_t)own->valuedouble;
    }
    if (!self->tokenizer) output = 1; /* as vLLM has it */
    if (render(self, prompt, &text) < 0)
        return cli_fail("the chat of a prompt (--skip-chat-template does without)");
    int64_t n = self->tokenizer ? count_tokens(self, text, strlen(text)) : 1;
    put(self, text, n < 0 ? 0 : n, output);
    return n < 0 ? cli_fail("encoding a prompt") : CLI_OK;
}

static int take_all(file_reader *self) {
    const cli_load_options *load = &self->run->options->load;
    bool is_custom = !strcmp(load->dataset, "custom");
    int64_t wanted = load->num_prompts ? load->num_prompts : self->n_entries;
    int result = CLI_OK;
    bench_reserve(self->run, wanted);
    self->run->n_requests = 0;
    for (int64_t i = 0; i < self->n_entries && self->run->n_requests < wanted; i++) {
        result = (is_custom ? take_custom : take_sharegpt)(self, self->entries[i]);
        if (result != CLI_OK) return result;
    }
    int64_t n = self->run->n_requests;
    if (!n) {
        fprintf(stderr, "cohort bench serve: %s has no %s\n", load->dataset_path,
                is_custom ? "prompts" : "conversations of a length that vLLM would take");
        return CLI_USAGE;
    }
    while (self->run->n_requests < wanted && !load->no_oversample) {
        const bench_request *again = &self->run->requests[draw_below(self, n)];
        char *prompt = strdup(again->prompt);
        if (!prompt) abort();
        put(self, prompt, again->prompt_len, again->output_len);
    }
    return CLI_OK;
}

int bench_read_prompts(bench_run *run, const cohort_tokenizer *tokenizer) {
    const cli_load_options *load = &run->options->load;
    file_reader self = {.run = run,
                        .tokenizer = tokenizer,
                        .stream = cohort_random_stream((uint64_t)load->seed, "file")};
    size_t size;
    char *text = read_whole(load->dataset_path, &size);
    if (!text) return CLI_USAGE;
    int result = parse(&self, text, size);
    free(text);
    if (result == CLI_OK) shuffle(&self);
    if (load->template_kwargs) self.extra = cJSON_Parse(load->template_kwargs);
    if (result == CLI_OK && tokenizer && !strcmp(load->dataset, "custom") &&
        !load->skip_chat_template &&
        cohort_chat_open(run->tokenizer_dir, NULL, COHORT_CONTENT_AUTO, &self.chat) < 0)
        result = cli_fail("the tokenizer's chat template");
    if (result == CLI_OK) result = take_all(&self);
    cohort_chat_close(self.chat);
    cJSON_Delete(self.extra);
    cJSON_Delete(self.list);
    free(self.entries);
    return result;
}
