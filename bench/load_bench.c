/* SPDX-License-Identifier: Apache-2.0 */
/* Loading a checkpoint's weights, as the executor counts the phase; floor: the bytes of
 * its safetensors file, read by one thread into memory that is new, as theirs is.  The
 * file lies in the page cache.  Ours packs and converts on the way.
 *
 * usage: load_bench MODEL_DIR [ROUNDS] */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "bench.h"
#include "cohort/clock.h"
#include "cohort/engine.h"

static double read_us(const char *model) {
    char path[4096];
    struct stat file;
    snprintf(path, sizeof path, "%s/model.safetensors", model);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &file)) {
        fprintf(stderr, "load_bench: no %s\n", path);
        exit(2);
    }
    int64_t start_ns = cohort_clock_ns();
    size_t size = (size_t)file.st_size, done = 0;
    char *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) exit(1);
    madvise(memory, size, MADV_HUGEPAGE);
    while (done < size) {
        ssize_t got = read(fd, memory + done, size - done);
        if (got <= 0) exit(1);
        done += (size_t)got;
    }
    double us = (double)(cohort_clock_ns() - start_ns) / 1e3;
    munmap(memory, size);
    close(fd);
    return us;
}

static double load_us(const char *model, const char *backend, int32_t tp) {
    cohort_engine_options options = cohort_engine_defaults();
    cohort_executor_phases phases;
    cohort_engine *engine;
    options.executor.backend = backend;
    options.executor.tp = tp;
    options.model = model;
    options.max_model_len = 128;
    options.kv_cache_memory_bytes = INT64_C(16) << 20;
    options.skip_tokenizer_init = true;
    bench_check(cohort_engine_start(&options, &engine));
    cohort_executor_get_phases(cohort_engine_executor(engine), &phases);
    cohort_engine_destroy(engine);
    return (double)phases.load_ns / 1e3;
}

static void measure(const char *name, const char *model, int rounds, const char *backend,
                    int32_t tp) {
    bench_pair pair = {.name = name};
    for (int i = -1; i < rounds; i++) {
        double bare = read_us(model), ours = load_us(model, backend, tp);
        if (i >= 0) bench_add_round(&pair, &ours, 1, &bare, 1);
    }
    bench_print_pair(&pair);
}

int main(int argc, char **argv) {
    const char *model = argc > 1 ? argv[1] : NULL;
    int rounds = model ? bench_rounds(argc - 1, argv + 1) : 0;
    if (!rounds) {
        if (!model) fprintf(stderr, "usage: load_bench MODEL_DIR [ROUNDS]\n");
        return 2;
    }
    setenv("COHORT_WORKER", COHORT_BUILD_DIR "/cohort", 1);
    bench_print_header();
    measure("load, uni", model, rounds, "uni", 1);
    measure("load, mp", model, rounds, "mp", 1);
    measure("load, mp tp 2", model, rounds, "mp", 2);
    return 0;
}
