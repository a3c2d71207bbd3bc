/* SPDX-License-Identifier: Apache-2.0 */
/* cli/config_file.h - options from a YAML file, as `vllm serve --config FILE` takes them.
 *
 *   model: /models/tiny             --model=/models/tiny
 *   enable-prefix-caching: false    --enable-prefix-caching=false
 *   served-model-name: [a, b]       --served-model-name=a --served-model-name=b
 *   override-generation-config:     --override-generation-config={"temperature":0.5}
 *     temperature: 0.5
 *
 * Of a key that is there twice the last counts.
 */
#ifndef COHORT_CLI_CONFIG_FILE_H
#define COHORT_CLI_CONFIG_FILE_H

#include <stdbool.h>

enum { CLI_MAX_CONFIG_WORDS = 512 };

typedef struct cli_config_words {
    char *items[CLI_MAX_CONFIG_WORDS];
    int n;
} cli_config_words;

/* False: stderr says why.  The words live as long as the process. */
bool cli_config_read(const char *path, cli_config_words *out);

#endif /* COHORT_CLI_CONFIG_FILE_H */
