/* SPDX-License-Identifier: Apache-2.0 */
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/build_id.h"
#include "cli/commands.h"
#include "cli/options.h"

const cli_command cli_commands[] = {
    {"generate", cli_generate, CLI_ENGINE | CLI_GENERATE, "MODEL",
     "ask a model, or let it continue texts",
     "One prompt is given by an option, many as JSON lines, which may carry parameters "
     "of "
     "their own. A single completion is printed as it comes. A --prompt is a message to "
     "a "
     "model that has a chat template; so are \"messages\" of a line, while its "
     "\"prompt\" is continued as it is. Answers end where the model ends them."},
    {"serve", cli_serve, CLI_ENGINE | CLI_SERVE, "MODEL",
     "serve a model over HTTP, as OpenAI's API",
     "The port opens when the model can answer. SIGTERM lets running requests finish "
     "while new ones get 503; a second signal ends. At / there is a page with a box to "
     "talk to the model and a picture of the ranks."},
    {"complete", cli_complete, CLI_COMPLETE, NULL, "let a running server continue a text",
     "Every line of the standard input is a prompt. An interrupt ends the answer, not "
     "the "
     "command."},
    {"chat", cli_chat, CLI_CHAT, NULL, "talk to a running server",
     "Every line of the standard input is a message of one conversation. An interrupt "
     "ends the answer, not the command. At a terminal lines are edited as in shells and "
     "kept in $XDG_STATE_HOME/cohort/chat_history, what is pasted is one message, "
     "and /help lists commands."},
    {"run-batch", cli_run_batch, CLI_ENGINE | CLI_BATCH, "MODEL",
     "answer the requests of an OpenAI batch file",
     "Every line of the input is {\"custom_id\", \"method\": \"POST\", \"url\", "
     "\"body\"}; the answers come in the order of the lines. The output takes its name "
     "once it is whole; the exit status is 1 where a request was refused. Where the "
     "engine fails, the answers that there are stay in "
     "OUTPUT.part, and the requests without one go to OUTPUT.rest, to be given again."},
    {"bench", cli_bench, 0, NULL, "measure: latency, throughput, a running server", NULL},
    {"bench latency", NULL, CLI_ENGINE | CLI_LATENCY, "MODEL",
     "time batches of equal prompts, one after another", NULL},
    {"bench throughput", NULL, CLI_ENGINE | CLI_THROUGHPUT, "MODEL",
     "time many prompts, given all at once", NULL},
    {"bench serve", NULL, CLI_BENCH_SERVE, NULL,
     "load a running server and report its latencies",
     "Flags, table and JSON are those of vllm bench serve; flags that are not listed are "
     "refused."},
    {"stat", cli_stat, CLI_STAT, NULL,
     "show what running and crashed instances were doing",
     "A line an instance: its driver, what it serves and where, and its ranks. With "
     "--watch also tokens computed a second, prompts' among them; an interrupt ends it."},
    {"doctor", cli_doctor, 0, NULL, "examine what ranks would run on: ray", NULL},
    {"doctor ray", NULL, CLI_DOCTOR, NULL, "examine a Ray cluster that runs",
     "A line a finding: versions, builds of libcohort, clocks, resources, and whether "
     "nodes "
     "reach each other. The status is 1 where one is a FAULT."},
    {"config", cli_config, 0, "[COMMAND]",
     "print every option with its value and variable", NULL},
    {"worker", cli_worker, CLI_WORKER, NULL,
     "be one rank; started by a driver, not by hand", NULL},
    {"man", cli_man, 0, "[COMMAND]", "print a man page", NULL},
    {"completion", cli_completion, 0, "SHELL", "print a completion for bash, zsh or fish",
     NULL},
};
const size_t cli_n_commands = sizeof cli_commands / sizeof *cli_commands;

static int usage(FILE *out) {
    fprintf(out, "usage: cohort COMMAND [options]\n\n");
    for (size_t i = 0; i < cli_n_commands; i++)
        if (cli_commands[i].run)
            fprintf(out, "  %-10s %s\n", cli_commands[i].name, cli_commands[i].help);
    fprintf(out, "\ncohort COMMAND --help shows a command's options; cohort --version\n");
    return out == stdout ? CLI_OK : CLI_USAGE;
}

static int run(int argc, char **argv) {
    if (argc < 2) return usage(stderr);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
        return usage(stdout);
    if (!strcmp(argv[1], "--version")) {
        printf("cohort %s (build %.12s)\n", COHORT_VERSION, cohort_build_id());
        return CLI_OK;
    }
    for (size_t i = 0; i < cli_n_commands; i++)
        if (cli_commands[i].run && !strcmp(argv[1], cli_commands[i].name))
            return cli_commands[i].run(argc - 1, argv + 1);
    return cli_complain_command(argv[1]);
}

/* Is it a pipe that nobody reads any more, or closed? */
static bool has_left(int fd) {
    struct pollfd out = {.fd = fd};
    return poll(&out, 1, 0) > 0 && out.revents & (POLLERR | POLLHUP | POLLNVAL);
}

/* What could not be printed is told, once; a reader that has seen enough is none of that.
 */
static int end(int code) {
    bool is_done = code == CLI_OK || code == 128 + SIGPIPE;
    if ((!fflush(stdout) && !ferror(stdout)) || !is_done) return code;
    if (has_left(STDOUT_FILENO)) return code;
    fprintf(stderr, "cohort: writing the standard output failed; is the disk full?\n");
    return CLI_FAILED;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); /* a reader that leaves is a failed write, not our death */
    return end(run(argc, argv));
}
