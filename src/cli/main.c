/* SPDX-License-Identifier: Apache-2.0 */
#include <locale.h>
#include <signal.h>
#include <string.h>

#include "base/build_id.h"
#include "cli/options.h"

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"generate", cli_generate, "continue prompts with a model"},
    {"serve", cli_serve, "serve a model over HTTP, as OpenAI's API"},
    {"complete", cli_complete, "let a running server continue a text"},
    {"chat", cli_chat, "talk to a running server"},
    {"run-batch", cli_run_batch, "answer the requests of an OpenAI batch file"},
    {"bench", cli_bench, "measure: latency, throughput, a running server"},
    {"stat", cli_stat, "show what running and crashed instances were doing"},
    {"config", cli_config, "print every option with its value and variable"},
    {"worker", cli_worker, "be one rank; started by a driver, not by hand"},
};

static int usage(FILE *out) {
    fprintf(out, "usage: cohort COMMAND [options]\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
    fprintf(out, "\ncohort COMMAND --help shows a command's options; cohort --version\n");
    return out == stdout ? CLI_OK : CLI_USAGE;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); /* a reader that leaves is a failed write, not our death */
    if (argc < 2) return usage(stderr);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
        return usage(stdout);
    if (!strcmp(argv[1], "--version")) {
        printf("cohort %s (build %.12s)\n", COHORT_VERSION, cohort_build_id());
        return CLI_OK;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(argv[1], commands[i].name))
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "cohort: unknown command '%s'; see cohort --help\n", argv[1]);
    return CLI_USAGE;
}
