/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/step.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "wire/sampling_options.h"

/* Design notes.
 *
 * A message is a header and then records, each followed at once by the arrays it counts,
 * every part padded with zeros to 8 bytes:
 *
 *   step    header | finished slots | request, tokens, bias, stop tokens, bad words,
 *           allowed, logprob tokens | ... | entry, new tokens, new blocks | ...
 *   masks   header | mask, words | ...
 *   output  header | result | position, logprobs | position, logprobs | ... result ...
 *
 * The encoder is written once over a cursor that either counts or writes, so that the two
 * can't disagree.  The decoder takes parts off the front and never reads what it has not
 * taken; arrays are used where they lie.  What a view allocates is bounded by the length
 * of the message, because every count is first held against the bytes that are left. */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "arrays are used in place");

enum {
    STEP_MAGIC = 0x50545343,   /* "CSTP" */
    MASKS_MAGIC = 0x4b534d43,  /* "CMSK" */
    OUTPUT_MAGIC = 0x54554f43, /* "COUT" */
    STEP_VERSION = 6,
    PART_BYTES = 8,
};

struct step_header {
    uint32_t magic;
    uint32_t version;
    uint64_t size_bytes; /* of the whole message */
    uint32_t n_finished;
    uint32_t n_requests;
    uint32_t n_entries;
    uint32_t zero;
};
_Static_assert(sizeof(struct step_header) == 32, "wire layout");

struct request_record {
    uint64_t request_id;
    uint64_t seed;
    uint32_t slot;
    uint32_t n_prompt_tokens;
    uint32_t n_tokens;
    uint32_t n_bias;
    uint32_t n_stop_tokens;
    uint32_t n_bad_word_ids;
    uint32_t n_allowed_words;
    uint32_t n_logprob_token_ids;
    uint32_t sampling[COHORT_N_SAMPLING_OPTIONS]; /* the bits of each, in their order */
};
_Static_assert(sizeof(struct request_record) == 88, "wire layout");

struct entry_record {
    uint32_t slot;
    uint32_t flags;
    uint32_t n_computed_tokens;
    uint32_t n_scheduled_tokens;
    uint32_t n_new_tokens;
    uint32_t n_new_blocks;
};
_Static_assert(sizeof(struct entry_record) == 24, "wire layout");

struct masks_header {
    uint32_t magic;
    uint32_t version;
    uint64_t size_bytes;
    uint32_t n_masks;
    uint32_t zero;
};
_Static_assert(sizeof(struct masks_header) == 24, "wire layout");

struct mask_record {
    uint32_t entry;
    uint32_t n_words;
};
_Static_assert(sizeof(struct mask_record) == 8, "wire layout");

struct output_header {
    uint32_t magic;
    uint32_t version;
    uint64_t size_bytes;
    uint32_t n_results;
    uint32_t n_positions; /* of all results together */
};
_Static_assert(sizeof(struct output_header) == 24, "wire layout");

struct result_record {
    uint64_t request_id;
    uint32_t slot;
    int32_t token_id;
    uint32_t n_positions;
    uint32_t zero;
};
_Static_assert(sizeof(struct result_record) == 24, "wire layout");

struct position_record {
    uint32_t position;
    uint32_t n;
};
_Static_assert(sizeof(struct position_record) == 8, "wire layout");
_Static_assert(sizeof(cohort_token_bias) == 8, "used in place");
_Static_assert(sizeof(cohort_token_logprob) == 12, "used in place");

/* ---- encoding ---------------------------------------------------------------------- */

struct cursor {
    uint8_t *bytes; /* NULL: only counts */
    size_t size_bytes;
};

static void put(struct cursor *cursor, const void *part, size_t size_bytes) {
    size_t padding = (PART_BYTES - size_bytes % PART_BYTES) % PART_BYTES;
    if (cursor->bytes) {
        uint8_t *at = cursor->bytes + cursor->size_bytes;
        if (size_bytes) memcpy(at, part, size_bytes);
        memset(at + size_bytes, 0, padding);
    }
    cursor->size_bytes += size_bytes + padding;
}

static void put_request(struct cursor *cursor, const cohort_step_request *request) {
    const cohort_sampling_params *sampling = &request->sampling;
    struct request_record record = {
        .request_id = request->request_id,
        .seed = sampling->seed,
        .slot = request->slot,
        .n_prompt_tokens = request->n_prompt_tokens,
        .n_tokens = request->n_tokens,
        .n_bias = sampling->n_bias,
        .n_stop_tokens = sampling->n_stop_tokens,
        .n_bad_word_ids = sampling->n_bad_word_ids,
        .n_allowed_words = request->allowed.n_words,
        .n_logprob_token_ids = sampling->n_logprob_token_ids,
    };
    for (size_t i = 0; i < COHORT_N_SAMPLING_OPTIONS; i++)
        memcpy(&record.sampling[i],
               (const char *)sampling + cohort_sampling_option_table.rows[i].offset,
               sizeof record.sampling[i]);
    put(cursor, &record, sizeof record);
    put(cursor, request->tokens, request->n_tokens * sizeof *request->tokens);
    put(cursor, sampling->bias, sampling->n_bias * sizeof *sampling->bias);
    put(cursor, sampling->stop_tokens,
        sampling->n_stop_tokens * sizeof *sampling->stop_tokens);
    put(cursor, sampling->bad_word_ids,
        sampling->n_bad_word_ids * sizeof *sampling->bad_word_ids);
    put(cursor, request->allowed.words,
        request->allowed.n_words * sizeof *request->allowed.words);
    put(cursor, sampling->logprob_token_ids,
        sampling->n_logprob_token_ids * sizeof *sampling->logprob_token_ids);
}

static void put_entry(struct cursor *cursor, const cohort_step_entry *entry) {
    const struct entry_record record = {
        .slot = entry->slot,
        .flags = entry->flags,
        .n_computed_tokens = entry->n_computed_tokens,
        .n_scheduled_tokens = entry->n_scheduled_tokens,
        .n_new_tokens = entry->n_new_tokens,
        .n_new_blocks = entry->n_new_blocks,
    };
    put(cursor, &record, sizeof record);
    put(cursor, entry->new_tokens, entry->n_new_tokens * sizeof *entry->new_tokens);
    put(cursor, entry->new_blocks, entry->n_new_blocks * sizeof *entry->new_blocks);
}

static void put_step(struct cursor *cursor, const cohort_step *step) {
    const struct step_header header = {
        .magic = STEP_MAGIC,
        .version = STEP_VERSION,
        .n_finished = step->n_finished,
        .n_requests = step->n_requests,
        .n_entries = step->n_entries,
    };
    put(cursor, &header, sizeof header);
    put(cursor, step->finished, step->n_finished * sizeof *step->finished);
    for (uint32_t i = 0; i < step->n_requests; i++)
        put_request(cursor, &step->requests[i]);
    for (uint32_t i = 0; i < step->n_entries; i++)
        put_entry(cursor, &step->entries[i]);
}

size_t cohort_step_request_bytes(const cohort_step_request *request) {
    struct cursor cursor = {0};
    put_request(&cursor, request);
    return cursor.size_bytes;
}

static size_t padded(size_t size_bytes) {
    return (size_bytes + PART_BYTES - 1) / PART_BYTES * PART_BYTES;
}

size_t cohort_step_entries_bytes(uint32_t n_entries, uint32_t n_blocks) {
    /* A token and the blocks of an entry are padded by less than a part each. */
    size_t entry_bytes = sizeof(struct entry_record) + 2 * PART_BYTES;
    return sizeof(struct step_header) + padded(n_entries * sizeof(uint32_t)) +
           n_entries * entry_bytes + n_blocks * sizeof(int32_t);
}

size_t cohort_step_encoded_bytes(const cohort_step *step) {
    struct cursor cursor = {0};
    put_step(&cursor, step);
    return cursor.size_bytes;
}

/* The length is known at the end; it lies at the same place in all headers. */
static void put_size(struct cursor *cursor) {
    uint64_t size_bytes = cursor->size_bytes;
    _Static_assert(offsetof(struct step_header, size_bytes) ==
                           offsetof(struct output_header, size_bytes) &&
                       offsetof(struct step_header, size_bytes) ==
                           offsetof(struct masks_header, size_bytes),
                   "wire layout");
    memcpy(cursor->bytes + offsetof(struct step_header, size_bytes), &size_bytes,
           sizeof size_bytes);
}

void cohort_step_encode(const cohort_step *step, void *out_bytes) {
    struct cursor cursor = {.bytes = out_bytes};
    put_step(&cursor, step);
    put_size(&cursor);
}

static void put_masks(struct cursor *cursor, const cohort_step_masks *masks) {
    const struct masks_header header = {
        .magic = MASKS_MAGIC, .version = STEP_VERSION, .n_masks = masks->n_masks};
    put(cursor, &header, sizeof header);
    for (uint32_t i = 0; i < masks->n_masks; i++) {
        const cohort_step_mask *mask = &masks->masks[i];
        const struct mask_record record = {mask->entry, mask->n_words};
        put(cursor, &record, sizeof record);
        put(cursor, mask->words, mask->n_words * sizeof *mask->words);
    }
}

size_t cohort_step_masks_bytes(uint32_t n_masks, uint32_t n_words) {
    return sizeof(struct masks_header) +
           n_masks * (sizeof(struct mask_record) + padded(n_words * sizeof(uint32_t)));
}

size_t cohort_step_masks_encoded_bytes(const cohort_step_masks *masks) {
    struct cursor cursor = {0};
    put_masks(&cursor, masks);
    return cursor.size_bytes;
}

void cohort_step_masks_encode(const cohort_step_masks *masks, void *out_bytes) {
    struct cursor cursor = {.bytes = out_bytes};
    put_masks(&cursor, masks);
    put_size(&cursor);
}

static void put_output(struct cursor *cursor, const cohort_step_output *output) {
    struct output_header header = {
        .magic = OUTPUT_MAGIC,
        .version = STEP_VERSION,
        .n_results = output->n_results,
    };
    for (uint32_t i = 0; i < output->n_results; i++)
        header.n_positions += output->results[i].n_positions;
    put(cursor, &header, sizeof header);
    for (uint32_t i = 0; i < output->n_results; i++) {
        const cohort_step_result *result = &output->results[i];
        const struct result_record record = {
            .request_id = result->request_id,
            .slot = result->slot,
            .token_id = result->token_id,
            .n_positions = result->n_positions,
        };
        put(cursor, &record, sizeof record);
        for (uint32_t p = 0; p < result->n_positions; p++) {
            const cohort_position_logprobs *position = &result->positions[p];
            const struct position_record head = {position->position, position->n};
            put(cursor, &head, sizeof head);
            put(cursor, position->entries, position->n * sizeof *position->entries);
        }
    }
}

size_t cohort_step_results_bytes(uint32_t n_results, uint32_t n_positions,
                                 uint32_t n_logprobs) {
    size_t entries_bytes = ((size_t)n_logprobs + 1) * sizeof(cohort_token_logprob);
    return sizeof(struct output_header) + n_results * sizeof(struct result_record) +
           n_positions * (sizeof(struct position_record) + padded(entries_bytes));
}

size_t cohort_step_output_encoded_bytes(const cohort_step_output *output) {
    struct cursor cursor = {0};
    put_output(&cursor, output);
    return cursor.size_bytes;
}

void cohort_step_output_encode(const cohort_step_output *output, void *out_bytes) {
    struct cursor cursor = {.bytes = out_bytes};
    put_output(&cursor, output);
    put_size(&cursor);
}

/* ---- decoding ---------------------------------------------------------------------- */

struct message {
    const uint8_t *at;
    size_t left_bytes;
};

/* Takes count items off the front; NULL, with an error, where there are fewer left. */
static const void *take(struct message *message, size_t item_bytes, uint32_t count,
                        const char *what) {
    /* 32 bits times the size of a record: no overflow. */
    size_t size_bytes = padded(item_bytes * count);
    if (size_bytes > message->left_bytes) {
        COHORT_FAIL(COHORT_E_PROTOCOL, "%u %s need %zu bytes, the message has %zu left",
                    count, what, size_bytes, message->left_bytes);
        return NULL;
    }
    const void *part = message->at;
    message->at += size_bytes;
    message->left_bytes -= size_bytes;
    return part;
}

static cohort_status check_frame(const void *bytes, size_t size_bytes, uint32_t magic,
                                 size_t header_bytes, const char *what) {
    uint32_t head[2];
    uint64_t said;
    if (size_bytes < header_bytes || (uintptr_t)bytes % PART_BYTES)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a %s of %zu bytes is cut short", what,
                           size_bytes);
    memcpy(head, bytes, sizeof head);
    memcpy(&said, (const uint8_t *)bytes + sizeof head, sizeof said);
    if (head[0] != magic)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "magic %08x is not that of a %s", head[0],
                           what);
    if (head[1] != STEP_VERSION)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "version %u of a %s; this build has %d",
                           head[1], what, STEP_VERSION);
    if (said != size_bytes)
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "size_bytes of a %s is %llu, but %zu arrived", what,
                           (unsigned long long)said, size_bytes);
    return COHORT_OK;
}

static cohort_status check_end(const struct message *message, const char *what) {
    if (message->left_bytes)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "%zu bytes follow the end of a %s",
                           message->left_bytes, what);
    return COHORT_OK;
}

/* Contents are not kept. */
static cohort_status reserve(void **storage, size_t *storage_bytes, size_t size_bytes) {
    if (size_bytes <= *storage_bytes) return COHORT_OK;
    size_t grown = size_bytes + size_bytes / 2;
    free(*storage);
    *storage_bytes = 0;
    *storage = malloc(grown);
    if (!*storage) return COHORT_FAIL(COHORT_E_NOMEM, "%zu bytes for a view", grown);
    *storage_bytes = grown;
    return COHORT_OK;
}

static cohort_status check_counts(const struct request_record *record) {
    const struct {
        const char *name;
        uint32_t value, least, most;
    } ranges[] = {
        {"n_bias", record->n_bias, 0, COHORT_MAX_LOGIT_BIAS},
        {"n_stop_tokens", record->n_stop_tokens, 0, COHORT_MAX_STOP_TOKENS},
        {"n_bad_word_ids", record->n_bad_word_ids, 0, COHORT_MAX_BAD_WORD_IDS},
        {"n_prompt_tokens", record->n_prompt_tokens, 0, record->n_tokens},
        {"n_tokens", record->n_tokens, 1, INT32_MAX},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (ranges[i].value < ranges[i].least || ranges[i].value > ranges[i].most)
            return COHORT_FAIL(COHORT_E_PROTOCOL, "%s of request %llu is %u",
                               ranges[i].name, (unsigned long long)record->request_id,
                               ranges[i].value);
    return COHORT_OK;
}

static cohort_status take_sampling(const struct request_record *record,
                                   cohort_sampling_params *out) {
    for (size_t i = 0; i < COHORT_N_SAMPLING_OPTIONS; i++)
        memcpy((char *)out + cohort_sampling_option_table.rows[i].offset,
               &record->sampling[i], sizeof record->sampling[i]);
    COHORT_TRY_WHILE(
        cohort_options_check(&cohort_sampling_option_table, out, COHORT_E_PROTOCOL),
        "reading request %llu", (unsigned long long)record->request_id);
    if (out->n_logprob_token_ids && (int64_t)out->n_logprob_token_ids != out->n_logprobs)
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "logprobs of request %llu is %d, of %u token ids",
                           (unsigned long long)record->request_id, out->n_logprobs,
                           out->n_logprob_token_ids);
    return COHORT_OK;
}

/* Each has as many tokens as it says, and one at least. */
static cohort_status check_words(const cohort_sampling_params *sampling) {
    for (uint32_t i = 0; i < sampling->n_bad_word_ids;) {
        int32_t n = sampling->bad_word_ids[i++];
        if (n < 1 || (uint32_t)n > sampling->n_bad_word_ids - i)
            return COHORT_FAIL(COHORT_E_PROTOCOL, "a bad word of %d tokens", n);
        i += (uint32_t)n;
    }
    return COHORT_OK;
}

static cohort_status take_lists(struct message *message, cohort_step_request *out) {
    cohort_sampling_params *sampling = &out->sampling;
    if (!(out->tokens = take(message, sizeof *out->tokens, out->n_tokens, "tokens")))
        return COHORT_E_PROTOCOL;
    if (!(sampling->bias =
              take(message, sizeof *sampling->bias, sampling->n_bias, "bias")))
        return COHORT_E_PROTOCOL;
    if (!(sampling->stop_tokens = take(message, sizeof *sampling->stop_tokens,
                                       sampling->n_stop_tokens, "stop tokens")))
        return COHORT_E_PROTOCOL;
    if (!(sampling->bad_word_ids = take(message, sizeof *sampling->bad_word_ids,
                                        sampling->n_bad_word_ids, "bad words")))
        return COHORT_E_PROTOCOL;
    if (!(out->allowed.words = take(message, sizeof *out->allowed.words,
                                    out->allowed.n_words, "allowed tokens")))
        return COHORT_E_PROTOCOL;
    if (!(sampling->logprob_token_ids =
              take(message, sizeof *sampling->logprob_token_ids,
                   sampling->n_logprob_token_ids, "logprob tokens")))
        return COHORT_E_PROTOCOL;
    for (uint32_t i = 0; i < sampling->n_bias; i++)
        if (!isfinite(sampling->bias[i].bias))
            return COHORT_FAIL(COHORT_E_PROTOCOL, "bias of token %d is not a number",
                               sampling->bias[i].token_id);
    return check_words(sampling);
}

static cohort_status take_request(struct message *message, cohort_step_request *out) {
    const struct request_record *record = take(message, sizeof *record, 1, "requests");
    if (!record) return COHORT_E_PROTOCOL;
    COHORT_TRY(check_counts(record));
    *out = (cohort_step_request){
        .request_id = record->request_id,
        .slot = record->slot,
        .n_prompt_tokens = record->n_prompt_tokens,
        .n_tokens = record->n_tokens,
        .allowed = {.n_words = record->n_allowed_words},
        .sampling =
            {
                .seed = record->seed,
                .n_bias = record->n_bias,
                .n_stop_tokens = record->n_stop_tokens,
                .n_bad_word_ids = record->n_bad_word_ids,
                .n_logprob_token_ids = record->n_logprob_token_ids,
            },
    };
    COHORT_TRY(take_sampling(record, &out->sampling));
    return take_lists(message, out);
}

static cohort_status take_entry(struct message *message, cohort_step_entry *out) {
    const struct entry_record *record = take(message, sizeof *record, 1, "entries");
    if (!record) return COHORT_E_PROTOCOL;
    *out = (cohort_step_entry){
        .slot = record->slot,
        .flags = record->flags,
        .n_computed_tokens = record->n_computed_tokens,
        .n_scheduled_tokens = record->n_scheduled_tokens,
        .n_new_tokens = record->n_new_tokens,
        .n_new_blocks = record->n_new_blocks,
    };
    if (out->flags != 0 && out->flags != COHORT_ENTRY_SAMPLE &&
        out->flags != (COHORT_ENTRY_SAMPLE | COHORT_ENTRY_MASKED))
        return COHORT_FAIL(COHORT_E_PROTOCOL, "flags of an entry are %x", out->flags);
    if (out->n_scheduled_tokens < 1 || out->n_scheduled_tokens > INT32_MAX ||
        out->n_computed_tokens > INT32_MAX - out->n_scheduled_tokens)
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "n_scheduled_tokens of an entry is %u after %u",
                           out->n_scheduled_tokens, out->n_computed_tokens);
    if (!(out->new_tokens =
              take(message, sizeof *out->new_tokens, out->n_new_tokens, "new tokens")))
        return COHORT_E_PROTOCOL;
    if (!(out->new_blocks =
              take(message, sizeof *out->new_blocks, out->n_new_blocks, "new blocks")))
        return COHORT_E_PROTOCOL;
    return COHORT_OK;
}

cohort_status cohort_step_decode(const void *bytes, size_t size_bytes,
                                 cohort_step_view *out_view) {
    out_view->step = (cohort_step){0};
    COHORT_TRY(
        check_frame(bytes, size_bytes, STEP_MAGIC, sizeof(struct step_header), "step"));
    struct message message = {bytes, size_bytes};
    const struct step_header *header = take(&message, sizeof *header, 1, "headers");
    if (!header) return COHORT_E_PROTOCOL;
    cohort_step step = {0};
    if (!(step.finished = take(&message, sizeof *step.finished, header->n_finished,
                               "finished slots")))
        return COHORT_E_PROTOCOL;
    if (header->n_requests > message.left_bytes / sizeof(struct request_record) ||
        header->n_entries > message.left_bytes / sizeof(struct entry_record))
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "%u requests and %u entries cannot lie in %zu bytes",
                           header->n_requests, header->n_entries, message.left_bytes);
    size_t requests_bytes = header->n_requests * sizeof *step.requests;
    COHORT_TRY(reserve(&out_view->storage, &out_view->storage_bytes,
                       requests_bytes + header->n_entries * sizeof *step.entries + 1));
    cohort_step_request *requests = out_view->storage;
    cohort_step_entry *entries = (void *)((uint8_t *)out_view->storage + requests_bytes);
    for (uint32_t i = 0; i < header->n_requests; i++)
        COHORT_TRY(take_request(&message, &requests[i]));
    for (uint32_t i = 0; i < header->n_entries; i++)
        COHORT_TRY(take_entry(&message, &entries[i]));
    COHORT_TRY(check_end(&message, "step"));
    step.n_finished = header->n_finished;
    step.n_requests = header->n_requests;
    step.n_entries = header->n_entries;
    step.requests = requests;
    step.entries = entries;
    out_view->step = step;
    return COHORT_OK;
}

void cohort_step_view_deinit(cohort_step_view *view) {
    free(view->storage);
    *view = (cohort_step_view){0};
}

static cohort_status take_mask(struct message *message, cohort_step_mask *out) {
    const struct mask_record *record = take(message, sizeof *record, 1, "masks");
    if (!record) return COHORT_E_PROTOCOL;
    *out = (cohort_step_mask){.entry = record->entry, .n_words = record->n_words};
    out->words = take(message, sizeof *out->words, out->n_words, "mask words");
    return out->words ? COHORT_OK : COHORT_E_PROTOCOL;
}

cohort_status cohort_step_masks_decode(const void *bytes, size_t size_bytes,
                                       cohort_step_masks_view *out_view) {
    out_view->masks = (cohort_step_masks){0};
    COHORT_TRY(check_frame(bytes, size_bytes, MASKS_MAGIC, sizeof(struct masks_header),
                           "message of masks"));
    struct message message = {bytes, size_bytes};
    const struct masks_header *header = take(&message, sizeof *header, 1, "headers");
    if (!header) return COHORT_E_PROTOCOL;
    if (header->n_masks > message.left_bytes / sizeof(struct mask_record))
        return COHORT_FAIL(COHORT_E_PROTOCOL, "%u masks cannot lie in %zu bytes",
                           header->n_masks, message.left_bytes);
    COHORT_TRY(reserve(&out_view->storage, &out_view->storage_bytes,
                       header->n_masks * sizeof(cohort_step_mask) + 1));
    cohort_step_mask *masks = out_view->storage;
    for (uint32_t i = 0; i < header->n_masks; i++) {
        COHORT_TRY(take_mask(&message, &masks[i]));
        if (i > 0 && masks[i].entry <= masks[i - 1].entry)
            return COHORT_FAIL(COHORT_E_PROTOCOL, "a mask of entry %u follows that of %u",
                               masks[i].entry, masks[i - 1].entry);
    }
    COHORT_TRY(check_end(&message, "message of masks"));
    out_view->masks = (cohort_step_masks){header->n_masks, masks};
    return COHORT_OK;
}

void cohort_step_masks_view_deinit(cohort_step_masks_view *view) {
    free(view->storage);
    *view = (cohort_step_masks_view){0};
}

static cohort_status take_result(struct message *message, uint32_t *positions_left,
                                 cohort_position_logprobs *positions,
                                 cohort_step_result *out) {
    const struct result_record *record = take(message, sizeof *record, 1, "results");
    if (!record) return COHORT_E_PROTOCOL;
    if (record->n_positions > *positions_left)
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "n_positions of a result is %u, the output has %u left",
                           record->n_positions, *positions_left);
    *positions_left -= record->n_positions;
    *out = (cohort_step_result){
        .request_id = record->request_id,
        .slot = record->slot,
        .token_id = record->token_id,
        .n_positions = record->n_positions,
        .positions = positions,
    };
    for (uint32_t p = 0; p < record->n_positions; p++) {
        const struct position_record *head = take(message, sizeof *head, 1, "positions");
        if (!head) return COHORT_E_PROTOCOL;
        if (head->n < 1 || head->n > COHORT_MAX_LOGPROBS + 1)
            return COHORT_FAIL(COHORT_E_PROTOCOL, "position %u has %u logprobs",
                               head->position, head->n);
        positions[p].position = head->position;
        positions[p].n = head->n;
        if (!(positions[p].entries =
                  take(message, sizeof *positions[p].entries, head->n, "logprobs")))
            return COHORT_E_PROTOCOL;
    }
    return COHORT_OK;
}

cohort_status cohort_step_output_decode(const void *bytes, size_t size_bytes,
                                        cohort_step_output_view *out_view) {
    out_view->output = (cohort_step_output){0};
    COHORT_TRY(check_frame(bytes, size_bytes, OUTPUT_MAGIC, sizeof(struct output_header),
                           "step output"));
    struct message message = {bytes, size_bytes};
    const struct output_header *header = take(&message, sizeof *header, 1, "headers");
    if (!header) return COHORT_E_PROTOCOL;
    if (header->n_results > message.left_bytes / sizeof(struct result_record) ||
        header->n_positions > message.left_bytes / sizeof(struct position_record))
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "%u results and %u positions cannot lie in %zu bytes",
                           header->n_results, header->n_positions, message.left_bytes);
    size_t results_bytes = header->n_results * sizeof(cohort_step_result);
    COHORT_TRY(reserve(&out_view->storage, &out_view->storage_bytes,
                       results_bytes +
                           header->n_positions * sizeof(cohort_position_logprobs) + 1));
    cohort_step_result *results = out_view->storage;
    cohort_position_logprobs *positions =
        (void *)((uint8_t *)out_view->storage + results_bytes);
    uint32_t positions_left = header->n_positions;
    for (uint32_t i = 0; i < header->n_results; i++) {
        COHORT_TRY(take_result(&message, &positions_left, positions, &results[i]));
        positions += results[i].n_positions;
    }
    if (positions_left)
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "n_positions of a step output is %u too many", positions_left);
    COHORT_TRY(check_end(&message, "step output"));
    out_view->output = (cohort_step_output){header->n_results, results};
    return COHORT_OK;
}

void cohort_step_output_view_deinit(cohort_step_output_view *view) {
    free(view->storage);
    *view = (cohort_step_output_view){0};
}
