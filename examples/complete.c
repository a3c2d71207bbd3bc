/* SPDX-License-Identifier: Apache-2.0 */
/* Continues one prompt on so many ranks, and prints the text as it comes.
 *
 *   cc complete.c $(pkg-config --cflags --libs cohort) -o complete
 *   ./complete MODEL_DIR 2 "Once upon a time"
 *
 * With more than one rank the ranks are processes of the `cohort` command, which is found
 * beside this program, in PATH or by $COHORT_WORKER. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cohort/clock.h>
#include <cohort/engine.h>

static int fail(void) {
    fprintf(stderr, "%s\n", cohort_last_error()->message);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s MODEL_DIR RANKS PROMPT\n", argv[0]);
        return 2;
    }
    cohort_engine_options options = cohort_engine_defaults();
    options.model = argv[1];
    options.executor.tp = atoi(argv[2]);
    options.executor.backend = options.executor.tp > 1 ? "mp" : "uni";
    cohort_engine *engine = NULL;
    if (cohort_engine_start(&options, &engine) < 0) return fail();

    cohort_request request = cohort_engine_request_defaults(engine);
    cohort_request_id id;
    request.prompt = argv[3];
    request.prompt_bytes = strlen(argv[3]);
    request.max_tokens = 24;
    request.sampling.temperature = 0;
    cohort_status status = cohort_engine_submit(engine, &request, &id);
    while (status >= 0 && cohort_engine_has_unfinished(engine)) {
        cohort_engine_outputs outputs;
        status = cohort_engine_step(engine, cohort_deadline_ms(60000), &outputs);
        for (size_t i = 0; status == COHORT_OK && i < outputs.n_completions; i++)
            fwrite(outputs.completions[i].text, 1, outputs.completions[i].text_bytes,
                   stdout);
        fflush(stdout);
    }
    printf("\n");
    int result = status < 0 ? fail() : 0;
    cohort_engine_destroy(engine);
    return result;
}
