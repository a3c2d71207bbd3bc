/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli/options.h"
#include "cli/suggest.h"
#include "cohort/clock.h"
#include "ray/ray.h"

static void print_finding(void *user_data, bool is_fault, const char *text) {
    (void)user_data;
    printf("%-5s %s\n", is_fault ? "FAULT" : "ok", text);
}

int cli_doctor(int argc, char **argv) {
    cli_options options;
    cohort_doctor_tally tally;
    if (argc < 2 || (strcmp(argv[1], "ray") != 0 && argv[1][0] != '-')) {
        cli_suggestion near = {.word = argc > 1 ? argv[1] : ""};
        cli_suggest(&near, "ray", 3);
        if (argc > 1)
            cli_suggest_command(" doctor", &near);
        else
            fprintf(stderr, "cohort doctor: say what to examine: ray\n");
        return CLI_USAGE;
    }
    bool is_named = argv[1][0] != '-';
    int result = cli_options_parse(&options, CLI_DOCTOR, "doctor ray", argc - is_named,
                                   argv + is_named);
    if (result != CLI_OK) return result == CLI_HELP ? CLI_OK : result;
    const cohort_ray_options *ray = &options.engine.executor.ray;
    int64_t deadline_ns = cohort_clock_ns() + ray->placement_timeout_ns;
    if (cohort_ray_examine(ray, deadline_ns, print_finding, NULL, &tally) < 0)
        return cli_fail("examining the Ray cluster");
    return tally.n_faults ? CLI_FAILED : CLI_OK;
}
