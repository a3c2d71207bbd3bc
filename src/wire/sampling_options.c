/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/sampling_options.h"

#define OPTIONS_OF cohort_sampling_params

enum { N_CHOICES = 7 };

static const cohort_option rows[] = {
    OPTION_NUMBER("presence-penalty", presence_penalty, "0", -2, 2,
                  "less of what was generated"),
    OPTION_NUMBER("frequency-penalty", frequency_penalty, "0", -2, 2,
                  "the same, for each time"),
    OPTION_NUMBER("repetition-penalty", repetition_penalty, "1", 1e-6, 1e6,
                  "over 1: less of what was there"),
    OPTION_NUMBER("temperature", temperature, "1", 0, 1e6, "0: greedy"),
    OPTION_NUMBER("top-p", top_p, "1", 1e-30, 1, "only the likeliest that make up p"),
    OPTION_COUNT("top-k", top_k, "0", -1, INT32_MAX, "only the k likeliest; 0: off"),
    OPTION_NUMBER("min-p", min_p, "0", 0, 1,
                  "only those at least p times as likely as the likeliest"),
    OPTION_COUNT("min-tokens", min_tokens, "0", 0, INT32_MAX, "no end before so many"),
    OPTION_COUNT("logprobs", n_logprobs, "-1", -1, COHORT_MAX_LOGPROBS,
                 "of each token, and of so many likeliest; -1: none"),
    OPTION_COUNT("prompt-logprobs", n_prompt_logprobs, "-1", -1, COHORT_MAX_LOGPROBS,
                 "the same for the prompt"),
};
_Static_assert(sizeof rows / sizeof *rows == COHORT_N_SAMPLING_OPTIONS, "a word each");

const cohort_option_table cohort_sampling_option_table = OPTION_TABLE(rows);
const cohort_option_table cohort_choice_option_table = {rows, N_CHOICES};
const cohort_option_table cohort_report_option_table = {
    rows + N_CHOICES, COHORT_N_SAMPLING_OPTIONS - N_CHOICES};

cohort_sampling_params cohort_sampling_defaults(void) {
    cohort_sampling_params params = {0};
    cohort_options_set_defaults(&cohort_sampling_option_table, &params);
    return params;
}
