/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/fail.h"
#include "model/cuda/cuda_internal.h"

/* Design notes.
 *
 * A step in which each row is a sequence of its own and gives a row of logits enqueues
 * the same kernels with the same parameters whenever it has as many rows: all that
 * differs lies in the step's block.  Such steps are replayed as one graph.  Their number
 * of rows is rounded up to one of a few (a bucket); a row that only fills it up has token
 * -1 at position -1, for which no kernel stores anything.
 *
 * The first step of a bucket is enqueued operation by operation, so that whatever has to
 * be allocated is; the second is recorded; from then on the host makes one call.  What
 * comes behind the logits is not in it: a mask may come late. */

/* ---- how many rows ----------------------------------------------------------------- */

enum { MOST_SIZES = 512 / 8 + 4 };

static int by_size(const void *a, const void *b) {
    return *(const int32_t *)a - *(const int32_t *)b;
}

/* 1, 2, 4, and from 8 to `most` by 8. */
static int32_t sizes_up_to(int64_t most, int32_t *out) {
    int32_t n = 0;
    for (int32_t size = 1; size <= most && n < MOST_SIZES; size += size < 8 ? size : 8)
        out[n++] = size;
    return n;
}

/* vLLM's rules: none: twice as many as there are sequences, up to 512; one: up to that;
 * several: these. */
static cohort_status sizes_of(const cohort_cuda_options *told, int32_t max_sequences,
                              int32_t *out, int32_t *out_n) {
    int64_t most = 2 * (int64_t)max_sequences < 512 ? 2 * (int64_t)max_sequences : 512;
    int32_t n = 0;
    for (; told->graph_sizes && told->graph_sizes[n]; n++) {
        char *end;
        long size = strtol(told->graph_sizes[n], &end, 10);
        if (*end || end == told->graph_sizes[n] || size < 1 || size > 512 ||
            n == MOST_SIZES)
            return COHORT_FAIL(COHORT_E_INVALID,
                               "cuda_graph_sizes: %.40s is no number of rows from 1 to "
                               "512",
                               told->graph_sizes[n]);
        out[n] = (int32_t)size;
    }
    if (n == 1) most = out[0];
    if (n <= 1) n = sizes_up_to(most, out);
    qsort(out, (size_t)n, sizeof *out, by_size);
    *out_n = n;
    return COHORT_OK;
}

cohort_status cohort_cuda_graphs_create(cohort_backend *backend,
                                        const cohort_cuda_options *told) {
    const cohort_backend_options *options = &backend->options;
    int32_t sizes[MOST_SIZES], n;
    COHORT_TRY(sizes_of(told, options->max_sequences, sizes, &n));
    /* Ranks meet by way of the host, in the middle of a step. */
    if (told->enforce_eager || options->tp_group || options->pp_group) return COHORT_OK;
    backend->graphs = calloc((size_t)n, sizeof *backend->graphs);
    if (!backend->graphs) return COHORT_FAIL(COHORT_E_NOMEM, "graphs of steps");
    for (int32_t i = 0; i < n && sizes[i] <= options->max_rows; i++)
        backend->graphs[backend->n_graphs++].n_rows = sizes[i];
    return COHORT_OK;
}

void cohort_cuda_graphs_forget(cohort_backend *backend) {
    for (int32_t i = 0; i < backend->n_graphs; i++) {
        cohort_cuda_graph *graph = &backend->graphs[i];
        if (graph->exec) backend->cuda->GraphExecDestroy(graph->exec);
        graph->exec = NULL, graph->was_seen = false;
    }
}

void cohort_cuda_graphs_destroy(cohort_backend *backend) {
    cohort_cuda_graphs_forget(backend);
    free(backend->graphs);
    backend->graphs = NULL, backend->n_graphs = 0;
}

/* A step of decoding keeps its kernels, whose bits are not those of a prompt's. */
cohort_cuda_graph *cohort_cuda_graph_for(const cohort_backend *backend, int32_t n_rows) {
    for (int32_t i = 0; i < backend->n_graphs; i++) {
        cohort_cuda_graph *graph = &backend->graphs[i];
        if (graph->n_rows < n_rows) continue;
        bool other_kernels =
            n_rows <= COHORT_CUDA_WIDE_ROWS && graph->n_rows > COHORT_CUDA_WIDE_ROWS;
        return other_kernels ? NULL : graph;
    }
    return NULL;
}

/* ---- recording --------------------------------------------------------------------- */

static void run(cohort_backend *backend, CUresult result, const char *what) {
    cohort_cuda_fail(backend, cohort_cuda_status(backend->cuda, result, what));
}

bool cohort_cuda_replay(cohort_backend *backend, int64_t *rows) {
    cohort_cuda_graph *graph = backend->step.graph;
    if (!graph || cohort_cuda_failed(backend)) return false;
    *rows = backend->step.batch.n_rows = graph->n_rows;
    if (graph->exec) {
        run(backend, backend->cuda->GraphLaunch(graph->exec, backend->stream),
            "starting a recorded step");
        return true;
    }
    if (graph->was_seen) {
        run(backend,
            backend->cuda->StreamBeginCapture_v2(backend->stream,
                                                 CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
            "recording a step");
        backend->is_recording = !cohort_cuda_failed(backend);
    }
    graph->was_seen = true;
    return false;
}

/* Ends a recording: what it came to, or NULL. */
static CUgraph recorded(cohort_backend *backend) {
    CUgraph graph = NULL;
    if (!backend->is_recording) return NULL;
    backend->is_recording = false;
    run(backend, backend->cuda->StreamEndCapture(backend->stream, &graph),
        "recording a step");
    return graph;
}

void cohort_cuda_record_end(cohort_backend *backend) {
    const cohort_cuda_api *cuda = backend->cuda;
    CUgraph graph = recorded(backend);
    if (!graph) return;
    CUgraphExec *exec = &backend->step.graph->exec;
    if (!cohort_cuda_failed(backend))
        run(backend, cuda->GraphInstantiateWithFlags(exec, graph, 0),
            "making a graph of a step");
    cuda->GraphDestroy(graph);
    if (!cohort_cuda_failed(backend))
        run(backend, cuda->GraphLaunch(*exec, backend->stream),
            "starting a recorded step");
}

void cohort_cuda_record_drop(cohort_backend *backend) {
    CUgraph graph = recorded(backend);
    if (graph) backend->cuda->GraphDestroy(graph);
}
