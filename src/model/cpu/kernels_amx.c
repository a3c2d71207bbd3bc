/* SPDX-License-Identifier: Apache-2.0 */
#include "model/cpu/cpu_internal.h"

/* Products on AMX' tiles of bf16.
 *
 * A tile of weights is 16 pairs of k of a panel, as they lie; one of activations up to 16
 * rows of 32 values; one of sums 16 rows of 16 columns.  Up to 16 rows are multiplied
 * with four panels at once (weights are what is waited for), more with two, two tiles of
 * rows at a time, so that every tile that is loaded is used twice.
 *
 * Order of addition: within a block of 32 values of k the even and the odd ones are two
 * chains that begin at 0; their sum is added to the element.  Subnormal numbers count as
 * 0.  The same for one row as for many: a single row goes through tiles, too.
 *
 * kernels_amx_test.c compiles this file with tiles of its own, in plain C. */

#ifndef TILES
#include <immintrin.h>
/* gcc 12 takes a configuration's first 8 bytes for all that is read. */
#define TILE_CONFIGURE(config)             \
    do {                                   \
        __asm__ volatile("" ::: "memory"); \
        _tile_loadconfig(config);          \
    } while (0)
#define TILE_RELEASE()             _tile_release()
#define TILE_ZERO(t)               _tile_zero(t)
#define TILE_LOAD(t, from, stride) _tile_loadd(t, from, stride)
#define TILE_STORE(t, to, stride)  _tile_stored(t, to, stride)
#define TILE_DOT(sums, x, w)       _tile_dpbf16ps(sums, x, w)
#define AMX_TABLE                  cohort_cpu_dot_amx

/* 32 values, to nearest, ties to even; subnormal ones become 0, as which they count. */
static inline void round_line(const float *from, uint16_t *to) {
    __m512bh line =
        _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + 16), _mm512_loadu_ps(from));
    memcpy(to, &line, sizeof line);
}
#endif

enum {
    ROWS = 16,  /* of a tile */
    LINE = 64,  /* bytes of a row of a tile */
    BLOCK = 32, /* values of k */
    TILE_BYTES = ROWS * LINE,
};

struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* Once for a task's products, since it takes as long as sixteen tiles do.  All tiles are
 * whole: what a row beyond the last gives is left out.  0 to 3 are sums. */
static void begin(void) {
    struct tile_config config = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        config.rows[t] = ROWS;
        config.row_bytes[t] = LINE;
    }
    TILE_CONFIGURE(&config);
}

/* A thread that has tiles is slower to be switched, and its core to rest. */
static void end(void) { TILE_RELEASE(); }

/* A tile of weights that is read later comes into L2: the processor sees no pattern in
 * tiles that it could run ahead of. */
static inline void fetch(const unsigned char *w) {
    for (int line = 0; line < TILE_BYTES; line += LINE)
        __builtin_prefetch(w + COHORT_CPU_FETCH_BYTES + line, 0, 2);
}

static int64_t count_blocks(int64_t k) { return (k + BLOCK - 1) / BLOCK; }

/* [block][row][32]; what is beyond k is 0. */
static void pack(const float *const *rows, int32_t n_rows, int64_t k, void *out) {
    uint16_t *to = out;
    for (int64_t from = 0; from < k; from += BLOCK) {
        int64_t n = k - from;
        for (int32_t r = 0; r < n_rows; r++, to += BLOCK) {
            if (n >= BLOCK) {
                round_line(rows[r] + from, to);
                continue;
            }
            float values[BLOCK] = {0};
            memcpy(values, rows[r] + from, (size_t)n * sizeof *values);
            round_line(values, to);
        }
    }
}

/* Sums of 16 rows: in c where it has so many, else in a place of their own. */
struct sums {
    float *c;
    int64_t stride; /* in floats */
    float own[ROWS * 2 * COHORT_CPU_PANEL];
};

static void copy_sums(const float *from, int64_t from_stride, float *to,
                      int64_t to_stride, int32_t rows, int32_t columns) {
    for (int32_t r = 0; r < rows; r++)
        memcpy(to + r * to_stride, from + r * from_stride, (size_t)columns * sizeof *to);
}

static void take_sums(struct sums *sums, const cohort_cpu_product *at, float *c,
                      int32_t rows, int32_t columns) {
    sums->c = rows < ROWS ? sums->own : c;
    sums->stride = rows < ROWS ? columns : at->c_stride;
    if (rows < ROWS && at->add)
        copy_sums(c, at->c_stride, sums->own, columns, rows, columns);
}

static void give_sums(const struct sums *sums, const cohort_cpu_product *at, float *c,
                      int32_t rows, int32_t columns) {
    if (rows < ROWS) copy_sums(sums->own, columns, c, at->c_stride, rows, columns);
}

/* Two tiles of rows, the first whole: panels [panel, panel + 2). */
static void multiply_2(const cohort_cpu_product *at, int32_t panel) {
    const unsigned char *x = at->x;
    const unsigned char *w = at->panels + (size_t)panel * at->panel_bytes;
    const size_t next = at->panel_bytes, c_bytes = (size_t)at->c_stride * sizeof(float);
    float *c = at->c + (int64_t)panel * COHORT_CPU_PANEL,
          *below = c + ROWS * at->c_stride;
    struct sums sums;
    take_sums(&sums, at, below, at->rows - ROWS, 2 * COHORT_CPU_PANEL);
    const size_t stride = (size_t)sums.stride * sizeof(float);
    if (at->add) {
        TILE_LOAD(0, c, c_bytes);
        TILE_LOAD(1, c + 16, c_bytes);
        TILE_LOAD(2, sums.c, stride);
        TILE_LOAD(3, sums.c + 16, stride);
    } else {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    }
    for (int64_t b = count_blocks(at->k); b > 0; b--, w += TILE_BYTES) {
        TILE_LOAD(4, x, LINE);
        TILE_LOAD(6, w, LINE);
        TILE_DOT(0, 4, 6);
        TILE_LOAD(7, w + next, LINE);
        TILE_DOT(1, 4, 7);
        TILE_LOAD(5, x + TILE_BYTES, LINE);
        TILE_DOT(2, 5, 6);
        TILE_DOT(3, 5, 7);
        x += at->rows * LINE;
        if (at->again) continue;
        fetch(w);
        fetch(w + next);
    }
    TILE_STORE(0, c, c_bytes);
    TILE_STORE(1, c + 16, c_bytes);
    TILE_STORE(2, sums.c, stride);
    TILE_STORE(3, sums.c + 16, stride);
    give_sums(&sums, at, below, at->rows - ROWS, 2 * COHORT_CPU_PANEL);
}

/* One panel, a tile of rows after the other. */
static void multiply_1(const cohort_cpu_product *at, int32_t panel) {
    for (int32_t row = 0; row < at->rows; row += ROWS) {
        const unsigned char *x = (const unsigned char *)at->x + row * LINE;
        const unsigned char *w = at->panels + (size_t)panel * at->panel_bytes;
        float *c = at->c + row * at->c_stride + (int64_t)panel * COHORT_CPU_PANEL;
        int32_t rows = at->rows - row < ROWS ? at->rows - row : ROWS;
        struct sums sums;
        take_sums(&sums, at, c, rows, COHORT_CPU_PANEL);
        const size_t stride = (size_t)sums.stride * sizeof(float);
        if (at->add)
            TILE_LOAD(0, sums.c, stride);
        else
            TILE_ZERO(0);
        for (int64_t b = count_blocks(at->k); b > 0; b--, w += TILE_BYTES) {
            if (!at->again && row == 0) fetch(w);
            TILE_LOAD(4, x, LINE);
            x += at->rows * LINE;
            TILE_LOAD(5, w, LINE);
            TILE_DOT(0, 4, 5);
        }
        TILE_STORE(0, sums.c, stride);
        give_sums(&sums, at, c, rows, COHORT_CPU_PANEL);
    }
}

static void multiply(const cohort_cpu_product *at) {
    int32_t panel = 0;
    for (; at->rows > ROWS && panel + 2 <= at->n_panels; panel += 2)
        multiply_2(at, panel);
    for (; panel < at->n_panels; panel++)
        multiply_1(at, panel);
}

const cohort_cpu_dot AMX_TABLE = {
    .pack = pack,
    .begin = begin,
    .multiply = multiply,
    .end = end,
    .attend = cohort_cpu_attend_avx512bf16,
    .tile_rows = 2 * ROWS,
    .k_step = BLOCK,
    .packs_whole = true,
    .panels = 2,
};
