/* SPDX-License-Identifier: Apache-2.0 */
/* usage: TARGET_seeds DIRECTORY - what the fuzzer begins with is still what it was: every
 * seed is valid, but for those whose name says "refused-".  A struct that has grown would
 * refuse all of the old ones at its first check, and the fuzzer would begin with nothing.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

/* In memory of exactly its size: a sanitizer sees what reads beyond. */
static uint8_t *read_seed(const char *path, size_t *out_size) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) return NULL;
    size_t size = (size_t)ftell(file);
    uint8_t *bytes = malloc(size ? size : 1);
    rewind(file);
    *out_size = bytes ? fread(bytes, 1, size, file) : 0;
    fclose(file);
    if (bytes && *out_size == size) return bytes;
    free(bytes);
    return NULL;
}

static bool is_as_named(const char *directory, const char *name) {
    char path[4096];
    size_t size;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    uint8_t *bytes = read_seed(path, &size);
    bool is_refused = !strncmp(name, "refused-", strlen("refused-"));
    fuzz_is_valid = false;
    if (bytes) LLVMFuzzerTestOneInput(bytes, size);
    bool is_fine = bytes && fuzz_is_valid != is_refused;
    if (!is_fine)
        printf("%s: %s\n", path,
               !bytes       ? "cannot be read"
               : is_refused ? "is valid now: take refused- from its name"
                            : "is refused now: make it anew, as what it tests is");
    free(bytes);
    return is_fine;
}

int main(int argc, char **argv) {
    DIR *directory = argc == 2 ? opendir(argv[1]) : NULL;
    const struct dirent *entry;
    int n_seeds = 0, n_faults = 0;
    while (directory && (entry = readdir(directory)))
        if (entry->d_name[0] != '.') {
            n_seeds++;
            n_faults += !is_as_named(argv[1], entry->d_name);
        }
    if (directory) closedir(directory);
    printf("%d seeds, %d not as their names say\n", n_seeds, n_faults);
    return n_seeds && !n_faults ? EXIT_SUCCESS : EXIT_FAILURE;
}
