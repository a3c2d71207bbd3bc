/* SPDX-License-Identifier: Apache-2.0 */
/* The random data sets of `cohort bench serve`, made as vLLM makes them (0.32,
 * benchmarks/datasets): ids decoded to text and encoded again until the length is right;
 * "random" takes runs of neighbouring ids from a random offset.  The random numbers are
 * our own, so the texts are not vLLM's. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "cli/bench_serve.h"
#include "text/tokenizer.h"

enum { MAX_TRIES = 10 };

typedef struct maker {
    cohort_tokenizer *tokenizer;
    int32_t *allowed; /* ids that are no special tokens */
    size_t n_allowed;
    uint64_t stream, n_drawn;
} maker;

static uint64_t draw_below(maker *self, uint64_t n) {
    return cohort_random_u64(self->stream, self->n_drawn++) % n;
}

static bool find_allowed(maker *self) {
    int32_t size = cohort_tokenizer_vocab_size(self->tokenizer);
    self->allowed = malloc(sizeof(int32_t) * (size_t)size);
    if (!self->allowed) abort();
    for (int32_t id = 0; id < size; id++) {
        char *plain = NULL, *whole = NULL;
        size_t n_plain = 0, n_whole = 0;
        if (cohort_tokenizer_decode(self->tokenizer, &id, 1, true, &plain, &n_plain) ==
                COHORT_OK &&
            cohort_tokenizer_decode(self->tokenizer, &id, 1, false, &whole, &n_whole) ==
                COHORT_OK &&
            n_plain > 0 && !memchr(plain, 0, n_plain))
            self->allowed[self->n_allowed++] = id;
        free(plain);
        free(whole);
    }
    return self->n_allowed > 0;
}

/* Makes text of ids that encodes to *n of them, or nearly; ids has room for as many and
 * gets what the text encodes to. */
static cohort_status settle(maker *self, int32_t *ids, size_t *inout_n, char **out_text,
                            size_t *out_size) {
    size_t n = *inout_n, count = n;
    for (int left = MAX_TRIES;; left--) {
        int32_t *again;
        char *text;
        size_t size, n_again;
        COHORT_TRY(
            cohort_tokenizer_decode(self->tokenizer, ids, count, false, &text, &size));
        cohort_status status =
            cohort_tokenizer_encode(self->tokenizer, text, size, false, &again, &n_again);
        if (status < 0) {
            free(text);
            return status;
        }
        count = n_again < n ? n_again : n;
        if (count) memcpy(ids, again, count * sizeof *ids);
        free(again);
        if (n_again == n || left == 0) {
            *inout_n = count;
            *out_text = text;
            *out_size = size;
            return COHORT_OK;
        }
        free(text);
        for (; count < n; count++)
            ids[count] = self->allowed[draw_below(self, self->n_allowed)];
    }
}

static int64_t draw_length(maker *self, int64_t standard, double ratio, int64_t least) {
    double low = floor((double)standard * (1 - ratio));
    double high = ceil((double)standard * (1 + ratio));
    int64_t length = (int64_t)low + (int64_t)draw_below(self, (uint64_t)(high - low) + 1);
    return length < least ? least : length;
}

/* "0.3", or {"input": 0.3, "output": 0.5}; from 0 to under 1. */
static bool read_ratios(const char *text, double *out_input, double *out_output) {
    cJSON *json = cJSON_Parse(text);
    const cJSON *input = cJSON_IsObject(json) ? cJSON_GetObjectItem(json, "input") : json;
    const cJSON *output =
        cJSON_IsObject(json) ? cJSON_GetObjectItem(json, "output") : json;
    bool fine = cJSON_IsNumber(input) && cJSON_IsNumber(output);
    if (fine) {
        *out_input = input->valuedouble;
        *out_output = output->valuedouble;
        fine = *out_input >= 0 && *out_input < 1 && *out_output >= 0 && *out_output < 1;
    }
    cJSON_Delete(json);
    return fine;
}

static cohort_status make_random(bench_run *run, maker *self) {
    const cli_load_options *load = &run->options->load;
    int64_t input = load->input_len ? load->input_len : load->random_input_len;
    int64_t output = load->output_len ? load->output_len : load->random_output_len;
    size_t prefix = (size_t)load->random_prefix_len, n_special = 0;
    double input_ratio = 0, output_ratio = 0;
    int32_t *ids = NULL;
    read_ratios(load->random_range_ratio, &input_ratio, &output_ratio);
    COHORT_TRY(cohort_tokenizer_encode(self->tokenizer, "", 0, true, &ids, &n_special));
    free(ids);
    input = input > (int64_t)n_special ? input - (int64_t)n_special : 1;
    ids = malloc(sizeof *ids * (prefix + (size_t)input * 2 + 2));
    int32_t *shared = malloc(sizeof *ids * (prefix + 1));
    if (!ids || !shared) abort();
    for (size_t i = 0; i < prefix; i++)
        shared[i] = self->allowed[draw_below(self, self->n_allowed)];
    cohort_status status = COHORT_OK;
    bench_reserve(run, load->num_prompts);
    for (int64_t r = 0; r < run->n_requests && status == COHORT_OK; r++) {
        bench_request *request = &run->requests[r];
        size_t own = (size_t)draw_length(self, input, input_ratio, 1), n = prefix + own;
        uint64_t offset = draw_below(self, self->n_allowed) + (uint64_t)r;
        if (prefix) memcpy(ids, shared, prefix * sizeof *ids);
        for (size_t i = 0; i < own; i++)
            ids[prefix + i] = self->allowed[(offset + i) % self->n_allowed];
        request->prompt_len = (int32_t)n;
        request->output_len = (int32_t)draw_length(self, output, output_ratio, 1);
        status = settle(self, ids, &n, &request->prompt, &request->prompt_bytes);
    }
    free(ids);
    free(shared);
    return status;
}

/* n random ids which text keeps as they are; *out_n: or nearly as many. */
static cohort_status draw_ids(maker *self, int32_t *ids, size_t n, size_t *out_n) {
    char *text;
    size_t size;
    for (size_t i = 0; i < n; i++)
        ids[i] = self->allowed[draw_below(self, self->n_allowed)];
    *out_n = n;
    COHORT_TRY(settle(self, ids, out_n, &text, &size));
    free(text);
    return COHORT_OK;
}

static cohort_status make_repeated(bench_run *run, maker *self) {
    const cli_load_options *load = &run->options->load;
    int64_t each = load->num_prompts / load->num_prefixes;
    int64_t output = load->output_len ? load->output_len : load->prefix_output_len;
    size_t n_prefix = 0, n_suffix = 0;
    int32_t *ids = malloc(sizeof *ids * (size_t)(load->prefix_len + load->suffix_len));
    cohort_status status = COHORT_OK;
    if (!ids) abort();
    bench_reserve(run, each * load->num_prefixes);
    for (int64_t r = 0; r < run->n_requests && status == COHORT_OK; r++) {
        bench_request *request = &run->requests[r];
        if (r % each == 0)
            status = draw_ids(self, ids, (size_t)load->prefix_len, &n_prefix);
        if (status == COHORT_OK)
            status = draw_ids(self, ids + n_prefix, (size_t)load->suffix_len, &n_suffix);
        if (status == COHORT_OK)
            status =
                cohort_tokenizer_decode(self->tokenizer, ids, n_prefix + n_suffix, false,
                                        &request->prompt, &request->prompt_bytes);
        request->prompt_len = (int32_t)(n_prefix + n_suffix);
        request->output_len = (int32_t)output;
    }
    for (int64_t r = run->n_requests; r > 1 && !load->disable_shuffle; r--) {
        uint64_t other = draw_below(self, (uint64_t)r);
        bench_request kept = run->requests[other];
        run->requests[other] = run->requests[r - 1];
        run->requests[r - 1] = kept;
    }
    free(ids);
    return status;
}

static int make_prompts(bench_run *run, maker *self) {
    bool repeats = !strcmp(run->options->load.dataset, "prefix_repetition");
    if (!find_allowed(self)) {
        fprintf(stderr, "cohort bench serve: %s has special tokens only\n",
                run->tokenizer);
        return CLI_USAGE;
    }
    if ((repeats ? make_repeated : make_random)(run, self) < 0)
        return cli_fail("making prompts");
    return CLI_OK;
}

void bench_reserve(bench_run *run, int64_t n) {
    run->n_requests = n;
    run->requests = calloc((size_t)n + 1, sizeof *run->requests);
    if (!run->requests) abort();
    for (int64_t i = 0; i < n; i++)
        run->requests[i].run = run;
}

int bench_make_prompts(bench_run *run) {
    maker self = {
        .stream = cohort_random_stream((uint64_t)run->options->load.seed, "bench serve")};
    if (!run->tokenizer) return bench_read_prompts(run, NULL);
    int result = cli_find_tokenizer(run->options, run->tokenizer, run->tokenizer_dir);
    if (result != CLI_OK) return result;
    if (cohort_tokenizer_open(run->tokenizer_dir, &self.tokenizer) < 0) {
        fprintf(stderr, "cohort bench serve: %s; give --tokenizer the directory of one\n",
                cohort_last_error()->message);
        return CLI_USAGE;
    }
    result = run->options->load.dataset_path ? bench_read_prompts(run, self.tokenizer)
                                             : make_prompts(run, &self);
    free(self.allowed);
    cohort_tokenizer_close(self.tokenizer);
    return result;
}

static const char *fault_of(const cli_load_options *load) {
    double input, output;
    cJSON *extra = load->template_kwargs ? cJSON_Parse(load->template_kwargs) : NULL;
    bool is_custom = !strcmp(load->dataset, "custom");
    bool reads = is_custom || !strcmp(load->dataset, "sharegpt");
    bool repeats = !strcmp(load->dataset, "prefix_repetition");
    bool has_extra = cJSON_IsObject(extra);
    cJSON_Delete(extra);
    if (!reads && !repeats && strcmp(load->dataset, "random") != 0)
        return "--dataset-name is random, prefix_repetition, sharegpt or custom; the "
               "others of vLLM's are not here";
    if (reads && !load->dataset_path)
        return "--dataset-name sharegpt and custom need --dataset-path FILE";
    if (!reads && load->dataset_path)
        return "--dataset-path needs --dataset-name sharegpt or custom";
    if (!load->num_prompts && !is_custom)
        return "--num-prompts 0 needs a custom data set";
    if (load->skip_tokenizer_init && !is_custom)
        return "only --dataset-name custom does without a tokenizer";
    if (repeats && load->num_prompts < load->num_prefixes)
        return "--num-prompts is less than --prefix-repetition-num-prefixes";
    if (load->custom_output_len == 0) return "--custom-output-len is no 0";
    if (strcmp(load->tokenizer_mode, "auto") && strcmp(load->tokenizer_mode, "hf"))
        return "--tokenizer-mode is auto or hf; the others of vLLM's are not here";
    if (load->template_kwargs && !has_extra)
        return "--chat-template-kwargs is no JSON object";
    if (!read_ratios(load->random_range_ratio, &input, &output))
        return "--random-range-ratio is a number from 0 to under 1, or {\"input\": X, "
               "\"output\": X}";
    return NULL;
}

int bench_check_prompts(const cli_load_options *load) {
    const char *fault = fault_of(load);
    if (!fault) return CLI_OK;
    fprintf(stderr, "cohort bench serve: %s\n", fault);
    return CLI_USAGE;
}

/* ---- times ------------------------------------------------------------------------- */

typedef struct dice {
    uint64_t stream, n_drawn;
} dice;

static double unit(dice *of) { /* in (0, 1) */
    return cohort_random_unit(of->stream, of->n_drawn++) * (1 - 0x1p-52) + 0x1p-54;
}

static double normal(dice *of) {
    double radius = sqrt(-2 * log(unit(of)));
    return radius * cos(6.283185307179586 * unit(of));
}

/* Marsaglia and Tsang's method; a shape below one is drawn one higher and scaled. */
static double gamma_of(dice *of, double shape) {
    if (shape < 1) return gamma_of(of, shape + 1) * pow(unit(of), 1 / shape);
    double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = normal(of), v = 1 + c * x;
        if (v <= 0) continue;
        v = v * v * v;
        if (log(unit(of)) < 0.5 * x * x + d - d * v + d * log(v)) return d * v;
    }
}

/* Of the request, between the first's and the last's. */
static double ramp_rate(const cli_load_options *load, int64_t r, int64_t n) {
    double start = (double)load->ramp_start_rps, end = (double)load->ramp_end_rps;
    double done = (double)r / (double)(n > 1 ? n - 1 : 1);
    if (!strcmp(load->ramp_strategy, "linear")) return start + (end - start) * done;
    return start * pow(end / start, done);
}

/* Scaled, as vLLM does, so that the last is due when the rate says; a ramp is not. */
void bench_make_times(bench_run *run) {
    const cli_load_options *load = &run->options->load;
    dice of = {.stream = cohort_random_stream((uint64_t)load->seed, "arrivals")};
    double at_s = 0;
    for (int64_t r = 0; r < run->n_requests; r++) {
        bench_request *request = &run->requests[r];
        request->rate = load->ramp_strategy ? ramp_rate(load, r, run->n_requests)
                                            : load->request_rate;
        if (isinf(request->rate)) continue;
        double of_mean = isinf(load->burstiness)
                             ? 1
                             : gamma_of(&of, load->burstiness) / load->burstiness;
        request->due_s = at_s += of_mean / request->rate;
    }
    if (load->ramp_strategy || at_s <= 0) return;
    double scale = (double)run->n_requests / load->request_rate / at_s;
    for (int64_t r = 0; r < run->n_requests; r++)
        run->requests[r].due_s *= scale;
}
