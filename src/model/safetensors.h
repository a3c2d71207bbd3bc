/* SPDX-License-Identifier: Apache-2.0 */
/* model/safetensors.h - the tensors of a checkpoint, by name.
 *
 *   8 bytes: n, little-endian | n bytes: JSON header | tensor bytes, contiguous
 *
 * Opening reads and checks the headers only: names once, known types, bytes = product of
 * the shape, ranges that neither overlap nor leave holes nor pass the end of the file.
 * What find() returns can be read without further checks; a file that is shortened or
 * replaced meanwhile is an error of the read.
 *
 * Ownership: tensors belong to their checkpoint.
 * Threads:   one at a time.
 * Errors:    COHORT_E_INVALID names file and tensor.
 */
#ifndef COHORT_MODEL_SAFETENSORS_H
#define COHORT_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/dtype.h"
#include "cohort/status.h"

enum { COHORT_TENSOR_DIMS = 8 };

typedef struct cohort_tensor {
    char *name;
    char type[12];          /* as the file spells it: "BF16" */
    bool readable;          /* dtype is valid: F32, BF16, F16, or F64 */
    cohort_dtype dtype;     /* of F64, which is converted when read: F32 */
    uint32_t element_bytes; /* 0: parts of a byte */
    int32_t file;           /* number of its file, in the order of reading */
    int32_t n_dims;
    int64_t shape[COHORT_TENSOR_DIMS];
    uint64_t begin, end; /* bytes within the file */
} cohort_tensor;

/* What one header says, sorted by position.  Zero-initialise; free with _deinit. */
typedef struct cohort_tensor_list {
    cohort_tensor *tensors;
    size_t n_tensors;
} cohort_tensor_list;

/* The first n_bytes of a file that is file_bytes long; n_bytes must reach over the
 * header. name is used in messages, file goes into the tensors. */
cohort_status cohort_safetensors_parse(const void *bytes, size_t n_bytes,
                                       uint64_t file_bytes, const char *name,
                                       int32_t file, cohort_tensor_list *out_list);
void cohort_tensor_list_deinit(cohort_tensor_list *list);

typedef struct cohort_safetensors cohort_safetensors;

/* As vLLM takes them: the files that model.safetensors.index.json names, without one
 * every *.safetensors of the folder. */
cohort_status cohort_safetensors_open(const char *model_dir, cohort_safetensors **out);
int32_t cohort_safetensors_n_files(const cohort_safetensors *checkpoint);
const char *cohort_safetensors_file_name(const cohort_safetensors *checkpoint,
                                         int32_t file);
/* NULL where there is none of this name. */
const cohort_tensor *cohort_safetensors_find(const cohort_safetensors *checkpoint,
                                             const char *name);
/* size_bytes from begin on, a place in the file. */
cohort_status cohort_safetensors_read(cohort_safetensors *checkpoint, int32_t file,
                                      uint64_t begin, void *to, size_t size_bytes);
/* A hint: bytes [begin, end) of the file are needed soon. */
void cohort_safetensors_prefetch(cohort_safetensors *checkpoint, int32_t file,
                                 uint64_t begin, uint64_t end);
/* The file is not read for now: it need not stay open. */
void cohort_safetensors_release(cohort_safetensors *checkpoint, int32_t file);
void cohort_safetensors_close(cohort_safetensors *checkpoint);

static inline size_t cohort_dtype_bytes(cohort_dtype dtype) {
    if (dtype == COHORT_I8) return 1;
    return dtype == COHORT_BF16 || dtype == COHORT_F16 ? 2 : 4;
}

#endif /* COHORT_MODEL_SAFETENSORS_H */
