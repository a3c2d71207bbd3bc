/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/frame.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"

/* Design notes.
 *
 * The header is a struct of fixed-width members that is copied in and out: alignment of
 * the message does not matter to the decoder, only to the reader of a body.  The machines
 * we run on are little-endian, which is asserted rather than swapped for. */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "frames are little-endian");

#define MAGIC UINT32_C(0x31464843) /* "CHF1" */

typedef struct header {
    uint32_t magic;
    uint16_t version;
    uint16_t kind;
    uint64_t epoch;
    uint64_t call;
    int32_t rank;
    int32_t status;
    uint32_t body_bytes;   /* without the method */
    uint32_t method_bytes; /* padded to 8; 0: no method */
    uint64_t reserved;
} header;
_Static_assert(sizeof(header) == COHORT_FRAME_HEADER_BYTES, "on the wire");

const char *cohort_frame_kind_name(uint32_t kind) {
    switch (kind) {
#define X(name, value, text) \
    case name: return text;
        COHORT_FRAME_KIND_MAP(X)
#undef X
    }
    return "unknown";
}

static size_t padded(size_t size_bytes) { return (size_bytes + 7) & ~(size_t)7; }

static size_t padded_method_bytes(const char *method) {
    if (!method || !method[0]) return 0;
    return padded(strlen(method) + 1);
}

size_t cohort_frame_prefix_bytes(const char *method) {
    return sizeof(header) + padded_method_bytes(method);
}

void cohort_frame_encode_prefix(const cohort_frame *frame, void *out_bytes) {
    size_t method_bytes = padded_method_bytes(frame->method);
    assert(method_bytes <= COHORT_METHOD_CHARS + 1 && frame->body_bytes <= UINT32_MAX);
    header head = {.magic = MAGIC,
                   .version = COHORT_FRAME_VERSION,
                   .kind = (uint16_t)frame->kind,
                   .epoch = frame->epoch,
                   .call = frame->call,
                   .rank = frame->rank,
                   .status = frame->status,
                   .body_bytes = (uint32_t)frame->body_bytes,
                   .method_bytes = (uint32_t)method_bytes};
    memcpy(out_bytes, &head, sizeof head);
    if (!method_bytes) return;
    char *name = (char *)out_bytes + sizeof head;
    memset(name, 0, method_bytes);
    memcpy(name, frame->method, strlen(frame->method));
}

size_t cohort_frame_encode(const cohort_frame *frame, void *out_bytes) {
    size_t prefix_bytes = cohort_frame_prefix_bytes(frame->method);
    cohort_frame_encode_prefix(frame, out_bytes);
    if (frame->body_bytes)
        memcpy((uint8_t *)out_bytes + prefix_bytes, frame->body, frame->body_bytes);
    return prefix_bytes + frame->body_bytes;
}

cohort_status cohort_frame_decode(const void *bytes, size_t size_bytes,
                                  cohort_frame *out_frame) {
    header head;
    if (size_bytes < sizeof head)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a frame of %zu bytes", size_bytes);
    memcpy(&head, bytes, sizeof head);
    if (head.magic != MAGIC)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "frame magic %08x", head.magic);
    if (head.version != COHORT_FRAME_VERSION)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "frame version %u, not %d", head.version,
                           COHORT_FRAME_VERSION);
    if (head.kind < 1 || head.kind > COHORT_FRAME_LAST_KIND)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "frame kind %u", head.kind);
    if (head.status > 0 || head.status < COHORT_E_LAST)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "frame status %d", head.status);
    if (head.reserved)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "frame with reserved bits set");
    if (head.method_bytes % 8 || head.method_bytes > COHORT_METHOD_CHARS + 1 ||
        size_bytes - sizeof head != (uint64_t)head.method_bytes + head.body_bytes)
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "frame of %zu bytes announces %u of method and %u of body",
                           size_bytes, head.method_bytes, head.body_bytes);
    const char *method = (const char *)bytes + sizeof head;
    if (head.method_bytes && (!method[0] || !memchr(method, 0, head.method_bytes)))
        return COHORT_FAIL(COHORT_E_PROTOCOL, "frame with a malformed method name");
    *out_frame = (cohort_frame){.kind = head.kind,
                                .rank = head.rank,
                                .epoch = head.epoch,
                                .call = head.call,
                                .status = head.status,
                                .method = head.method_bytes ? method : "",
                                .body = method + head.method_bytes,
                                .body_bytes = head.body_bytes};
    return COHORT_OK;
}

typedef struct nested {
    uint32_t size_bytes; /* of the frame behind it; zeros up to a multiple of 8 follow */
    uint32_t reserved;
} nested;

static size_t frame_bytes(const cohort_frame *frame) {
    return cohort_frame_prefix_bytes(frame->method) + frame->body_bytes;
}

size_t cohort_frame_nested_bytes(const cohort_frame *frame) {
    return sizeof(nested) + padded(frame_bytes(frame));
}

size_t cohort_frame_nest(const cohort_frame *frame, void *out_bytes) {
    uint8_t *bytes = out_bytes;
    size_t size_bytes = frame_bytes(frame);
    nested head = {.size_bytes = (uint32_t)size_bytes};
    memcpy(bytes, &head, sizeof head);
    cohort_frame_encode(frame, bytes + sizeof head);
    memset(bytes + sizeof head + size_bytes, 0, padded(size_bytes) - size_bytes);
    return sizeof head + padded(size_bytes);
}

cohort_status cohort_frame_next(const cohort_frame *outer, size_t *offset,
                                cohort_frame *out_frame) {
    nested head;
    size_t left_bytes = outer->body_bytes - *offset;
    const uint8_t *at = (const uint8_t *)outer->body + *offset;
    if (!left_bytes) return COHORT_PENDING;
    if (left_bytes < sizeof head)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "%zu bytes behind a frame's last frame",
                           left_bytes);
    memcpy(&head, at, sizeof head);
    left_bytes -= sizeof head;
    if (head.reserved || padded(head.size_bytes) > left_bytes)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a frame of %u bytes within %zu",
                           head.size_bytes, left_bytes);
    COHORT_TRY(cohort_frame_decode(at + sizeof head, head.size_bytes, out_frame));
    *offset += sizeof head + padded(head.size_bytes);
    return COHORT_OK;
}

static cohort_status expect(const cohort_frame *frame, cohort_frame_kind kind,
                            size_t least_bytes, bool is_exact) {
    if (frame->kind != kind)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a %s frame where %s was due",
                           cohort_frame_kind_name(frame->kind),
                           cohort_frame_kind_name(kind));
    if (frame->body_bytes < least_bytes || (is_exact && frame->body_bytes != least_bytes))
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a %s frame with a body of %zu bytes",
                           cohort_frame_kind_name(kind), frame->body_bytes);
    return COHORT_OK;
}

cohort_status cohort_frame_read_hello(const cohort_frame *frame,
                                      cohort_frame_hello *out_hello) {
    COHORT_TRY(expect(frame, COHORT_FRAME_HELLO, sizeof *out_hello, true));
    memcpy(out_hello, frame->body, sizeof *out_hello);
    out_hello->build_id[sizeof out_hello->build_id - 1] = '\0';
    if (out_hello->pid < 1)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a hello of pid %d", out_hello->pid);
    return COHORT_OK;
}

static cohort_status check_configure(const cohort_frame_configure *configure) {
    enum { MAX_SIDE = 1024 };
    if (configure->tp < 1 || configure->tp > MAX_SIDE || configure->pp < 1 ||
        configure->pp > MAX_SIDE || configure->tp * configure->pp > MAX_SIDE)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "configure with tp %d and pp %d",
                           configure->tp, configure->pp);
    if (configure->rank < 0 || configure->rank >= configure->tp * configure->pp)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "configure with rank %d of %d",
                           configure->rank, configure->tp * configure->pp);
    if (configure->local_rank < 0 ||
        configure->local_rank >= configure->local_world_size ||
        configure->local_world_size > configure->tp * configure->pp)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "configure with local rank %d of %d",
                           configure->local_rank, configure->local_world_size);
    if (configure->n_config > COHORT_CONFIG_MAX_PAIRS)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "configure with %u options",
                           configure->n_config);
    if (configure->heartbeat_ns < 1000000 || configure->connect_timeout_ns < 0)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "configure with a heartbeat of %lld ns",
                           (long long)configure->heartbeat_ns);
    if (configure->survives_peers > 1 ||
        configure->keeps > (COHORT_KEEP_WEIGHTS | COHORT_KEEP_KV))
        return COHORT_FAIL(COHORT_E_PROTOCOL,
                           "configure with survives_peers %u, keeps %u",
                           configure->survives_peers, configure->keeps);
    if (!memchr(configure->listen_host, 0, sizeof configure->listen_host))
        return COHORT_FAIL(COHORT_E_PROTOCOL, "configure with an endless listen_host");
    if (configure->max_step_bytes > UINT32_MAX || configure->max_reply_bytes > UINT32_MAX)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "configure with messages of 4 GiB");
    return COHORT_OK;
}

cohort_status cohort_frame_read_configure(const cohort_frame *frame,
                                          cohort_frame_configure *out_configure,
                                          const char **out_config) {
    COHORT_TRY(expect(frame, COHORT_FRAME_CONFIGURE, sizeof *out_configure, false));
    memcpy(out_configure, frame->body, sizeof *out_configure);
    COHORT_TRY(check_configure(out_configure));
    const char *next = (const char *)frame->body + sizeof *out_configure;
    const char *end = (const char *)frame->body + frame->body_bytes;
    for (uint32_t i = 0; i < out_configure->n_config; i++) {
        const char *nul = memchr(next, 0, (size_t)(end - next));
        if (!nul || !memchr(next, '=', (size_t)(nul - next)))
            return COHORT_FAIL(COHORT_E_PROTOCOL, "configure option %u is no key=value",
                               i);
        out_config[i] = next;
        next = nul + 1;
    }
    if (next != end)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "configure with %zu bytes too many",
                           (size_t)(end - next));
    out_config[out_configure->n_config] = NULL;
    return COHORT_OK;
}

cohort_status cohort_frame_read_publish(const cohort_frame *frame,
                                        cohort_frame_publish *out_publish) {
    COHORT_TRY(expect(frame, COHORT_FRAME_PUBLISH, sizeof *out_publish, true));
    memcpy(out_publish, frame->body, sizeof *out_publish);
    return COHORT_OK;
}

cohort_status cohort_frame_read_row(const cohort_frame *frame,
                                    cohort_frame_row *out_row) {
    COHORT_TRY(expect(frame, COHORT_FRAME_ROW, sizeof *out_row, true));
    memcpy(out_row, frame->body, sizeof *out_row);
    out_row->row.text[sizeof out_row->row.text - 1] = '\0';
    return COHORT_OK;
}

cohort_status cohort_frame_read_keep(const cohort_frame *frame,
                                     cohort_frame_keep *out_keep) {
    COHORT_TRY(expect(frame, COHORT_FRAME_KEEP, sizeof *out_keep, true));
    memcpy(out_keep, frame->body, sizeof *out_keep);
    if ((out_keep->what == COHORT_KEEP_WEIGHTS || out_keep->what == COHORT_KEEP_KV) &&
        out_keep->was_kept <= 1)
        return COHORT_OK;
    return COHORT_FAIL(COHORT_E_PROTOCOL, "kept memory of kind %u, was_kept %u",
                       out_keep->what, out_keep->was_kept);
}

cohort_status cohort_frame_take_keep(const cohort_frame *frame, int fd,
                                     cohort_frame_keep *out_keep) {
    cohort_status status = cohort_frame_read_keep(frame, out_keep);
    if (status >= 0 && fd < 0)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "kept memory without its descriptor");
    if (status < 0 && fd >= 0) close(fd);
    return status;
}

cohort_status cohort_frame_read_ready(const cohort_frame *frame,
                                      cohort_frame_ready *out_ready) {
    *out_ready = (cohort_frame_ready){0};
    if (frame->kind == COHORT_FRAME_READY && !frame->body_bytes) return COHORT_OK;
    COHORT_TRY(expect(frame, COHORT_FRAME_READY, sizeof *out_ready, true));
    memcpy(out_ready, frame->body, sizeof *out_ready);
    const char *choice = out_ready->choice;
    if (memchr(choice, 0, sizeof out_ready->choice) && (!*choice || strchr(choice, '=')))
        return COHORT_OK;
    return COHORT_FAIL(COHORT_E_PROTOCOL, "a rank's choice that is no key=value");
}

cohort_status cohort_frame_read_table(const cohort_frame *frame,
                                      cohort_frame_table *out_table,
                                      const cohort_mesh_handle **out_meshes) {
    COHORT_TRY(expect(frame, COHORT_FRAME_TABLE, sizeof *out_table, false));
    memcpy(out_table, frame->body, sizeof *out_table);
    if (frame->body_bytes - sizeof *out_table !=
        (uint64_t)out_table->world_size * sizeof(cohort_mesh_handle))
        return COHORT_FAIL(COHORT_E_PROTOCOL, "a table of %u ranks in %zu bytes",
                           out_table->world_size, frame->body_bytes);
    /* Bytes all of it: no alignment to care for. */
    *out_meshes =
        (const cohort_mesh_handle *)((const uint8_t *)frame->body + sizeof *out_table);
    return COHORT_OK;
}

cohort_status cohort_frame_read_error(const cohort_frame *frame,
                                      cohort_error *out_error) {
    if (frame->kind != COHORT_FRAME_REPLY && frame->kind != COHORT_FRAME_POISON &&
        frame->kind != COHORT_FRAME_REFUSED)
        COHORT_TRY(expect(frame, COHORT_FRAME_ERROR, sizeof *out_error, true));
    if (frame->body_bytes != sizeof *out_error)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "an error of %zu bytes", frame->body_bytes);
    memcpy(out_error, frame->body, sizeof *out_error);
    out_error->message[sizeof out_error->message - 1] = '\0';
    out_error->place[sizeof out_error->place - 1] = '\0';
    if (out_error->code >= 0 || out_error->code < COHORT_E_LAST)
        return COHORT_FAIL(COHORT_E_PROTOCOL, "an error of code %d", out_error->code);
    return COHORT_OK;
}
