/* SPDX-License-Identifier: Apache-2.0 */
/* The random data set of `cohort bench serve`, made as vLLM makes it (0.32,
 * benchmarks/datasets): runs of neighbouring ids from a random offset, decoded to text
 * and encoded again until the length is right.  The random numbers are our own, so the
 * texts are not vLLM's. */
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

/* Makes text of ids that encodes to n of them, or nearly; ids has room for n. */
static cohort_status settle(maker *self, int32_t *ids, size_t n, char **out_text,
                            size_t *out_size) {
    size_t count = n;
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

static cohort_status make_all(bench_run *run, maker *self) {
    const cli_load_options *load = &run->options->load;
    int64_t input = load->input_len ? load->input_len : load->random_input_len;
    int64_t output = load->output_len ? load->output_len : load->random_output_len;
    size_t prefix = (size_t)load->random_prefix_len, n_special = 0;
    int32_t *ids = NULL;
    COHORT_TRY(cohort_tokenizer_encode(self->tokenizer, "", 0, true, &ids, &n_special));
    free(ids);
    input = input > (int64_t)n_special ? input - (int64_t)n_special : 1;
    ids = malloc(sizeof *ids * (prefix + (size_t)input * 2 + 2));
    int32_t *shared = malloc(sizeof *ids * (prefix + 1));
    if (!ids || !shared) abort();
    for (size_t i = 0; i < prefix; i++)
        shared[i] = self->allowed[draw_below(self, self->n_allowed)];
    cohort_status status = COHORT_OK;
    for (int64_t r = 0; r < run->n_requests && status == COHORT_OK; r++) {
        bench_request *request = &run->requests[r];
        size_t own = (size_t)draw_length(self, input, load->random_range_ratio, 1);
        uint64_t offset = draw_below(self, self->n_allowed) + (uint64_t)r;
        if (prefix) memcpy(ids, shared, prefix * sizeof *ids);
        for (size_t i = 0; i < own; i++)
            ids[prefix + i] = self->allowed[(offset + i) % self->n_allowed];
        request->prompt_len = (int32_t)(prefix + own);
        request->output_len =
            (int32_t)draw_length(self, output, load->random_range_ratio, 1);
        status =
            settle(self, ids, prefix + own, &request->prompt, &request->prompt_bytes);
    }
    free(ids);
    free(shared);
    return status;
}

int bench_make_prompts(bench_run *run) {
    maker self = {
        .stream = cohort_random_stream((uint64_t)run->options->load.seed, "bench serve")};
    int found = cli_find_tokenizer(run->tokenizer, run->tokenizer_dir);
    if (found != CLI_OK) return found;
    if (cohort_tokenizer_open(run->tokenizer_dir, &self.tokenizer) < 0) {
        fprintf(stderr, "cohort bench serve: %s; give --tokenizer the directory of one\n",
                cohort_last_error()->message);
        return CLI_USAGE;
    }
    int result = CLI_OK;
    if (!find_allowed(&self)) {
        fprintf(stderr, "cohort bench serve: %s has special tokens only\n",
                run->tokenizer);
        result = CLI_USAGE;
    } else if (make_all(run, &self) < 0) {
        result = cli_fail("making prompts");
    }
    free(self.allowed);
    cohort_tokenizer_close(self.tokenizer);
    return result;
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
