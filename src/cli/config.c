/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"

int cli_config(int argc, char **argv) {
    cli_options options;
    int all = CLI_ENGINE | CLI_GENERATE | CLI_LATENCY | CLI_THROUGHPUT | CLI_SERVE;
    int result = cli_options_parse(&options, all, "config", argc, argv);
    if (result != CLI_OK) return result == CLI_HELP ? CLI_OK : result;
    cli_options_print(stdout, all, true, &options);
    return CLI_OK;
}
