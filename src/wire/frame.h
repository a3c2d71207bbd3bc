/* SPDX-License-Identifier: Apache-2.0 */
/* wire/frame.h - what driver and workers say to each other.
 *
 * Every message is one frame: a fixed header, then a body that its kind defines.  Calls
 * and replies travel through the queues, the rest over a rank's control link.
 *
 *   0 magic  4 version  6 kind  8 epoch  16 call  24 rank  28 status  32 body  36 method
 *   40 reserved  | body
 *
 * Little-endian, 8-byte aligned, lengths bounded.  An epoch numbers a configuration of
 * the world: a frame of an older one is late, of one that nobody announced foreign.  A
 * decoded frame points into the message and lives as long as it.
 *
 * An epoch begins for a rank with CONFIGURE, or with REJOIN where it lives on from an
 * older one: the frame's epoch is the new one, and PUBLISH, TABLE, CONNECTED, LOAD and
 * READY follow as the first time.  REJOIN may come in any phase, also of such an epoch.
 *
 * LOAD holds the calls (RPC) that a rank carries out between loading and READY, without
 * replies: what the world was told before this rank came.  Who has loaded skips them.
 *
 * Threads: none of its own.   Errors: COHORT_E_PROTOCOL names the field.
 */
#ifndef COHORT_WIRE_FRAME_H
#define COHORT_WIRE_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/build_id.h"
#include "cohort/collective.h"
#include "cohort/queue.h"
#include "cohort/status.h"
#include "counters/counters.h"

enum {
    COHORT_FRAME_VERSION = 1,
    COHORT_FRAME_HEADER_BYTES = 48,
    COHORT_METHOD_CHARS = 63,
    COHORT_CONTROL_MAX_BYTES = 1024 * 1024, /* longest frame on a control link */
    COHORT_CONFIG_MAX_PAIRS = 256,
    COHORT_HOST_BYTES = 64, /* of an address or a name */
};

/* X(name, value, text): direction and body in the comments. */
#define COHORT_FRAME_KIND_MAP(X)                                                      \
    X(COHORT_FRAME_RPC, 1, "rpc")             /* to all: method name, then payload */ \
    X(COHORT_FRAME_EXECUTE, 2, "execute")     /* to all: a step */                    \
    X(COHORT_FRAME_REPLY, 3, "reply")         /* to driver: bytes, or an error */     \
    X(COHORT_FRAME_HELLO, 4, "hello")         /* to driver: cohort_frame_hello */     \
    X(COHORT_FRAME_CONFIGURE, 5, "configure") /* to worker: cohort_frame_configure */ \
    X(COHORT_FRAME_PUBLISH, 6, "publish")     /* to driver: cohort_frame_publish */   \
    X(COHORT_FRAME_TABLE, 7, "table")         /* to worker: handles */                \
    X(COHORT_FRAME_CONNECTED, 8, "connected") /* to driver: nothing */                \
    X(COHORT_FRAME_LOAD, 9, "load")           /* to worker: frames; see below */      \
    X(COHORT_FRAME_READY, 10, "ready")        /* to driver: cohort_frame_ready */     \
    X(COHORT_FRAME_ERROR, 11, "error")        /* to driver: method, cohort_error */   \
    X(COHORT_FRAME_POISON, 12, "poison")      /* to worker: cohort_error */           \
    X(COHORT_FRAME_STOP, 13, "stop")          /* to worker: nothing */                \
    X(COHORT_FRAME_BYE, 14, "bye")            /* to driver: nothing */                \
    X(COHORT_FRAME_REFUSED, 15, "refused")    /* to driver: method, cohort_error */   \
    X(COHORT_FRAME_ROW, 16, "row")            /* to driver: cohort_frame_row */       \
    X(COHORT_FRAME_MASKS, 17, "masks")        /* to all: of the step before it */     \
    X(COHORT_FRAME_REJOIN, 18, "rejoin")      /* to worker: nothing; see below */     \
    X(COHORT_FRAME_KEEP, 19, "keep")          /* both ways: cohort_frame_keep */

typedef enum cohort_frame_kind {
#define X(name, value, text) name = (value),
    COHORT_FRAME_KIND_MAP(X)
#undef X
} cohort_frame_kind;

enum { COHORT_FRAME_LAST_KIND = COHORT_FRAME_KEEP };

typedef struct cohort_frame {
    uint32_t kind; /* cohort_frame_kind */
    int32_t
        rank; /* RPC: the only rank to reply, or -1; else the sender's or receiver's */
    uint64_t epoch;
    uint64_t call;      /* number of the call; 0 where there is none */
    int32_t status;     /* REPLY, ERROR: a cohort_status */
    const char *method; /* RPC, ERROR; NUL-terminated, else "" */
    const void *body;   /* without the method; 8-byte aligned if the message is */
    size_t body_bytes;
} cohort_frame;

/* Bytes before the body: header and padded method name. */
size_t cohort_frame_prefix_bytes(const char *method);
/* Writes the prefix for frame->body_bytes of body, which the caller puts behind it.
 * The method is at most COHORT_METHOD_CHARS long. */
void cohort_frame_encode_prefix(const cohort_frame *frame, void *out_bytes);
/* The whole frame, its body copied; returns its size.  out_bytes holds prefix and body.
 */
size_t cohort_frame_encode(const cohort_frame *frame, void *out_bytes);
cohort_status cohort_frame_decode(const void *bytes, size_t size_bytes,
                                  cohort_frame *out_frame);
const char *cohort_frame_kind_name(uint32_t kind);

/* Frames within a body, one behind the other: each begins with its length. */
size_t cohort_frame_nested_bytes(const cohort_frame *frame);
/* At out_bytes, 8-byte aligned as the next one is; returns cohort_frame_nested_bytes. */
size_t cohort_frame_nest(const cohort_frame *frame, void *out_bytes);
/* The one at *offset, which is 0 at first and then moves on; COHORT_PENDING: no more. */
cohort_status cohort_frame_next(const cohort_frame *outer, size_t *offset,
                                cohort_frame *out_frame);

/* Bodies.  Each is a fixed struct in the message, or starts with one. */
typedef struct cohort_frame_hello {
    char build_id[40]; /* COHORT_BUILD_ID_CHARS and NULs */
    int32_t pid;
    uint32_t reserved;
} cohort_frame_hello;

typedef struct cohort_frame_configure {
    int32_t rank, tp, pp;
    int32_t local_rank, local_world_size;
    uint32_t n_config;
    int64_t connect_timeout_ns; /* 0: never */
    int64_t heartbeat_ns;
    uint64_t max_step_bytes;
    uint64_t max_reply_bytes;
    uint32_t survives_peers; /* 1: after the death of another rank it awaits REJOIN */
    uint32_t keeps; /* COHORT_KEEP_*: lies in memory that the driver is to hold */
    char listen_host[COHORT_HOST_BYTES]; /* to bind for ranks elsewhere; "": none are */
} cohort_frame_configure;                /* then n_config NUL-terminated strings */

typedef struct cohort_frame_publish {
    cohort_mesh_handle mesh;
    cohort_queue_handle response_queue;
} cohort_frame_publish;

typedef struct cohort_frame_table {
    uint32_t world_size;
    uint32_t reserved;
    cohort_queue_handle broadcast_queue;
} cohort_frame_table; /* then world_size mesh handles */

/* The counters of a rank that cannot map the driver's file, every heartbeat.  Its times
 * are of its own clock. */
typedef struct cohort_frame_row {
    int64_t sent_ns;
    cohort_counters_row row;
} cohort_frame_row;

/* Memory that outlives a rank: its descriptor comes with the frame.  Of a rank, at any
 * time and in any epoch: the driver is to hold it, in place of what it holds of the same.
 * Of the driver, before LOAD: the rank's to take up, if it finds it to be what it would
 * make. */
enum { COHORT_KEEP_WEIGHTS = 1, COHORT_KEEP_KV = 2 };
typedef struct cohort_frame_keep {
    uint32_t what;     /* one COHORT_KEEP_* */
    uint32_t was_kept; /* 1: it is that of the rank before, as it was */
    uint64_t generation;
} cohort_frame_keep;

/* What a rank chose by itself and its replacement is to be told: "key=value", or "". May
 * be left out. */
typedef struct cohort_frame_ready {
    char choice[64];
} cohort_frame_ready;

_Static_assert(sizeof(cohort_frame_keep) == 16 && sizeof(cohort_frame_ready) == 64,
               "on the wire");
_Static_assert(sizeof(cohort_frame_hello) == 48 &&
                   sizeof(cohort_frame_configure) == 128 && sizeof(cohort_error) == 304,
               "on the wire");

/* Each checks the body's size and every field, and copies the fixed part. */
cohort_status cohort_frame_read_hello(const cohort_frame *frame,
                                      cohort_frame_hello *out_hello);
/* out_config[COHORT_CONFIG_MAX_PAIRS + 1]: the strings, NULL-terminated. */
cohort_status cohort_frame_read_configure(const cohort_frame *frame,
                                          cohort_frame_configure *out_configure,
                                          const char **out_config);
cohort_status cohort_frame_read_publish(const cohort_frame *frame,
                                        cohort_frame_publish *out_publish);
/* out_meshes: world_size handles in the message. */
cohort_status cohort_frame_read_table(const cohort_frame *frame,
                                      cohort_frame_table *out_table,
                                      const cohort_mesh_handle **out_meshes);
cohort_status cohort_frame_read_row(const cohort_frame *frame, cohort_frame_row *out_row);
cohort_status cohort_frame_read_keep(const cohort_frame *frame,
                                     cohort_frame_keep *out_keep);
/* The same with the descriptor that came along, or -1; an error closes it. */
cohort_status cohort_frame_take_keep(const cohort_frame *frame, int fd,
                                     cohort_frame_keep *out_keep);
cohort_status cohort_frame_read_ready(const cohort_frame *frame,
                                      cohort_frame_ready *out_ready);
/* ERROR, REFUSED, POISON, and REPLY with a negative status. */
cohort_status cohort_frame_read_error(const cohort_frame *frame, cohort_error *out_error);

#endif /* COHORT_WIRE_FRAME_H */
