/* SPDX-License-Identifier: Apache-2.0 */
/* Every decoder of wire/frame.h on hostile bytes, and the round trip of what it takes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "wire/frame.h"

bool fuzz_is_valid;

/* Kinds whose body is nothing, or another decoder's. */
static bool is_plain(const cohort_frame *frame) {
    switch (frame->kind) {
    case COHORT_FRAME_RPC:
    case COHORT_FRAME_EXECUTE:
    case COHORT_FRAME_MASKS: return true;
    case COHORT_FRAME_REPLY: return frame->status >= 0;
    case COHORT_FRAME_CONNECTED:
    case COHORT_FRAME_STOP:
    case COHORT_FRAME_BYE:
    case COHORT_FRAME_REJOIN: return !frame->body_bytes;
    default: return false;
    }
}

/* LOAD's frames; with none of them it is valid as well. */
static size_t read_nested(const cohort_frame *frame, bool *is_valid) {
    cohort_frame inner;
    cohort_status status = COHORT_OK;
    size_t touched = 0;
    for (size_t offset = 0;
         (status = cohort_frame_next(frame, &offset, &inner)) == COHORT_OK;)
        touched += strlen(inner.method) + inner.body_bytes;
    if (frame->kind == COHORT_FRAME_LOAD && status == COHORT_PENDING) *is_valid = true;
    return touched;
}

static void read_bodies(const cohort_frame *frame) {
    cohort_frame_hello hello;
    cohort_frame_configure configure;
    cohort_frame_publish publish;
    cohort_frame_table table;
    cohort_error error;
    cohort_frame_keep keep;
    cohort_frame_ready ready;
    const char *config[COHORT_CONFIG_MAX_PAIRS + 1];
    const cohort_mesh_handle *meshes = NULL;
    cohort_frame_row row;
    size_t touched = 0;
    bool is_valid = is_plain(frame);
    if (cohort_frame_read_hello(frame, &hello) >= 0) {
        touched += strlen(hello.build_id);
        is_valid = true;
    }
    if (cohort_frame_read_configure(frame, &configure, config) >= 0) {
        for (uint32_t i = 0; i < configure.n_config; i++)
            touched += strlen(config[i]);
        if (config[configure.n_config]) abort();
        if (configure.rank < 0 || configure.rank >= configure.tp * configure.pp) abort();
        is_valid = true;
    }
    if (cohort_frame_read_publish(frame, &publish) >= 0) {
        touched += publish.mesh.bytes[0];
        is_valid = true;
    }
    if (cohort_frame_read_table(frame, &table, &meshes) >= 0) {
        for (uint32_t i = 0; i < table.world_size; i++)
            touched += meshes[i].bytes[sizeof meshes[i].bytes - 1];
        is_valid = true;
    }
    if (cohort_frame_read_keep(frame, &keep) >= 0) {
        if (keep.what > COHORT_KEEP_KV) abort();
        is_valid = true;
    }
    if (cohort_frame_read_ready(frame, &ready) >= 0) {
        touched += strlen(ready.choice);
        is_valid = true;
    }
    if (cohort_frame_read_row(frame, &row) >= 0) {
        touched += strlen(row.row.text);
        is_valid = true;
    }
    touched += read_nested(frame, &is_valid);
    if (cohort_frame_read_error(frame, &error) >= 0) {
        touched += strlen(error.message);
        is_valid = true;
    }
    __asm__ volatile("" : : "r"(touched));
    fuzz_is_valid = is_valid;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes) {
    cohort_frame frame;
    if (cohort_frame_decode(bytes, size_bytes, &frame) < 0) return 0;
    read_bodies(&frame);
    uint8_t *again = malloc(cohort_frame_prefix_bytes(frame.method) + frame.body_bytes);
    cohort_frame second;
    if (!again) return 0;
    size_t again_bytes = cohort_frame_encode(&frame, again);
    if (cohort_frame_decode(again, again_bytes, &second) < 0) abort();
    if (second.kind != frame.kind || second.call != frame.call ||
        second.epoch != frame.epoch || second.rank != frame.rank ||
        second.status != frame.status || strcmp(second.method, frame.method) != 0 ||
        second.body_bytes != frame.body_bytes ||
        memcmp(second.body, frame.body, frame.body_bytes) != 0)
        abort();
    free(again);
    return 0;
}
