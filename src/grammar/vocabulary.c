/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "grammar/grammar_internal.h"

enum { MAX_WORD_BYTES = 1024 };

struct sorted_word {
    const char *bytes;
    uint32_t size;
    int32_t token;
};

static int compare_words(const void *a, const void *b) {
    const struct sorted_word *x = a, *y = b;
    uint32_t shared = x->size < y->size ? x->size : y->size;
    int order = memcmp(x->bytes, y->bytes, shared);
    if (order) return order;
    if (x->size != y->size) return x->size < y->size ? -1 : 1;
    return (x->token > y->token) - (x->token < y->token);
}

static cohort_status read_words(const cohort_tokenizer *tokenizer,
                                cohort_vocabulary *self) {
    size_t size = 0, capacity = 0;
    self->words = calloc((size_t)self->n_tokens + 1, sizeof *self->words);
    if (!self->words) return COHORT_FAIL(COHORT_E_NOMEM, "%d words", self->n_tokens);
    for (int32_t id = 0; id < self->n_tokens; id++) {
        char *bytes;
        size_t length;
        COHORT_TRY(cohort_tokenizer_token_bytes(tokenizer, id, &bytes, &length));
        if (length > MAX_WORD_BYTES) length = 0;
        if (size + length > capacity) {
            capacity = (size + length) * 2 + 4096;
            char *larger = realloc(self->bytes, capacity);
            if (!larger) {
                free(bytes);
                return COHORT_FAIL(COHORT_E_NOMEM, "%zu bytes of words", capacity);
            }
            self->bytes = larger;
        }
        if (length) memcpy(self->bytes + size, bytes, length);
        free(bytes);
        self->words[id] = (struct vocabulary_word){(uint32_t)size, (uint32_t)length};
        if (length > self->longest) self->longest = (uint32_t)length;
        size += length;
    }
    return COHORT_OK;
}

/* Closes the nodes that are not on the way to the next word. */
static void close_nodes(cohort_vocabulary *self, uint32_t *open, uint32_t from,
                        uint32_t to) {
    for (uint32_t depth = from; depth > to; depth--)
        self->nodes[open[depth]].end = (uint32_t)self->n_nodes;
}

static void add_words(cohort_vocabulary *self, const struct sorted_word *words,
                      size_t count, uint32_t *open) {
    uint32_t depth = 0, n_tokens = 0;
    self->nodes[0] = (cohort_trie_node){0};
    self->n_nodes = 1;
    open[0] = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t shared = 0, size = words[i].size;
        while (i > 0 && shared < depth && shared < size &&
               words[i].bytes[shared] == words[i - 1].bytes[shared])
            shared++;
        close_nodes(self, open, depth, shared);
        for (depth = shared; depth < size;) {
            uint8_t byte = (uint8_t)words[i].bytes[depth++];
            open[depth] = (uint32_t)self->n_nodes;
            self->nodes[self->n_nodes++] = (cohort_trie_node){
                .first_token = n_tokens, .depth = (uint16_t)depth, .byte = byte};
        }
        self->tokens[n_tokens++] = words[i].token;
    }
    close_nodes(self, open, depth, 0);
    self->nodes[0].end = (uint32_t)self->n_nodes;
    self->nodes[self->n_nodes] = (cohort_trie_node){.first_token = n_tokens};
}

static cohort_status make_trie(cohort_vocabulary *self) {
    size_t count = 0, n_bytes = 0;
    struct sorted_word *sorted = calloc((size_t)self->n_tokens + 1, sizeof *sorted);
    uint32_t *open = calloc((size_t)self->longest + 1, sizeof *open);
    cohort_status status = COHORT_OK;
    for (int32_t id = 0; sorted && id < self->n_tokens; id++) {
        const struct vocabulary_word *word = &self->words[id];
        if (!word->size) continue;
        sorted[count++] = (struct sorted_word){self->bytes + word->begin, word->size, id};
        n_bytes += word->size;
    }
    self->nodes = malloc((n_bytes + 2) * sizeof *self->nodes);
    self->tokens = malloc((count + 1) * sizeof *self->tokens);
    if (sorted && open && self->nodes && self->tokens) {
        qsort(sorted, count, sizeof *sorted, compare_words);
        add_words(self, sorted, count, open);
        cohort_trie_node *fitting =
            realloc(self->nodes, (self->n_nodes + 1) * sizeof *fitting);
        if (fitting) self->nodes = fitting;
    } else {
        status = COHORT_FAIL(COHORT_E_NOMEM, "a vocabulary of %zu words", count);
    }
    free(sorted);
    free(open);
    return status;
}

cohort_status cohort_vocabulary_create(const cohort_tokenizer *tokenizer,
                                       cohort_vocabulary **out_vocabulary) {
    cohort_vocabulary *self = calloc(1, sizeof *self);
    *out_vocabulary = NULL;
    if (!self) return COHORT_FAIL(COHORT_E_NOMEM, "a vocabulary");
    self->n_tokens = cohort_tokenizer_vocab_size(tokenizer);
    cohort_status status = read_words(tokenizer, self);
    if (status >= 0) status = make_trie(self);
    if (status >= 0) status = cohort_vocabulary_learn_strings(self);
    if (status < 0) {
        cohort_vocabulary_destroy(self);
        return status;
    }
    *out_vocabulary = self;
    return COHORT_OK;
}

void cohort_vocabulary_destroy(cohort_vocabulary *vocabulary) {
    if (!vocabulary) return;
    free(vocabulary->nodes);
    free(vocabulary->tokens);
    free(vocabulary->words);
    free(vocabulary->bytes);
    free(vocabulary->strings.inside);
    free(vocabulary->strings.by_need);
    free(vocabulary->strings.ends);
    free(vocabulary);
}

size_t cohort_vocabulary_mask_words(const cohort_vocabulary *vocabulary) {
    return cohort_mask_words(vocabulary);
}
