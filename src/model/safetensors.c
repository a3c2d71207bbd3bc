/* SPDX-License-Identifier: Apache-2.0 */
#include "model/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/files.h"
#include "model/json.h"

/* Design notes.
 *
 * The rules are those of the safetensors library (v0.4, tensor.rs: Metadata::validate),
 * so that we neither refuse what it writes nor read what it refuses.  A file cut short is
 * by far the commonest damage (a download that stopped): it is reported as that, with the
 * first tensor that is missing bytes, before any other complaint about ranges.
 *
 * Files are read, not mapped: one that is shortened under a mapping ends the process.
 *
 * Types that we cannot compute with (I64 position ids, F8) are an error only when
 * somebody asks for the tensor: checkpoints carry buffers that nobody reads. */

enum {
    HEADER_LIMIT_BYTES = 100 << 20, /* the library's own limit */
    INDEX_LIMIT_BYTES = 64 << 20,
    MAX_FILES = 4096,
};

struct checkpoint_file {
    char name[256];
    int fd; /* -1: not open */
    uint64_t size_bytes;
    dev_t device; /* with inode: whether it is still the same */
    ino_t inode;
};

struct cohort_safetensors {
    char *dir;
    struct checkpoint_file *files;
    int32_t n_files;
    cohort_tensor_list list; /* of all files, sorted by name */
};

static const struct {
    const char *name;
    uint32_t bits;
} types[] = {{"BOOL", 8},    {"U8", 8},   {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8},
             {"U16", 16},    {"I16", 16}, {"F16", 16}, {"BF16", 16},   {"U32", 32},
             {"I32", 32},    {"F32", 32}, {"U64", 64}, {"I64", 64},    {"F64", 64},
             {"F8_E8M0", 8}, {"F4", 4},   {"C64", 64}, {"F6_E2M3", 6}, {"F6_E3M2", 6}};

/* ---- header ------------------------------------------------------------------------ */

static cohort_status parse_type(const cJSON *item, const char *file, cohort_tensor *out,
                                uint32_t *out_bits) {
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(item, "dtype");
    const char *name = cJSON_IsString(type) ? type->valuestring : "";
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(name, types[i].name) != 0) continue;
        snprintf(out->type, sizeof out->type, "%s", types[i].name);
        *out_bits = types[i].bits;
        out->readable = true;
        out->element_bytes = types[i].bits / 8;
        if (strcmp(name, "F32") == 0 || strcmp(name, "F64") == 0)
            out->dtype = COHORT_F32;
        else if (strcmp(name, "BF16") == 0)
            out->dtype = COHORT_BF16;
        else if (strcmp(name, "F16") == 0)
            out->dtype = COHORT_F16;
        else
            out->readable = false;
        return COHORT_OK;
    }
    return COHORT_FAIL(COHORT_E_INVALID, "%s: tensor %.80s has the unknown dtype '%.20s'",
                       file, out->name, name);
}

/* Elements of the tensor; every partial product is checked, so 0 times huge is refused.
 */
static cohort_status parse_shape(const cJSON *item, const char *file, cohort_tensor *out,
                                 uint64_t *out_count) {
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(item, "shape");
    *out_count = 1;
    if (!cJSON_IsArray(shape) || cJSON_GetArraySize(shape) > COHORT_TENSOR_DIMS)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: tensor %.80s has no shape of at most %d sizes", file,
                           out->name, COHORT_TENSOR_DIMS);
    for (const cJSON *size = shape->child; size; size = size->next) {
        uint64_t value = 0;
        if (!cohort_json_is_size(size, &value) ||
            __builtin_mul_overflow(*out_count, value, out_count) ||
            *out_count > UINT64_MAX / 64)
            return COHORT_FAIL(COHORT_E_INVALID,
                               "%s: tensor %.80s has an impossible shape", file,
                               out->name);
        out->shape[out->n_dims++] = (int64_t)value;
    }
    return COHORT_OK;
}

static cohort_status parse_tensor(const cJSON *item, uint64_t data_begin,
                                  const char *file, cohort_tensor *out) {
    uint32_t bits = 0;
    uint64_t count = 0, begin = 0, end = 0;
    COHORT_TRY(parse_type(item, file, out, &bits));
    COHORT_TRY(parse_shape(item, file, out, &count));
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(item, "data_offsets");
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        !cohort_json_is_size(offsets->child, &begin) ||
        !cohort_json_is_size(offsets->child->next, &end) || begin > end)
        return COHORT_FAIL(COHORT_E_INVALID, "%s: tensor %.80s has no valid data_offsets",
                           file, out->name);
    if (count * bits % 8 || count * bits / 8 != end - begin)
        return COHORT_FAIL(
            COHORT_E_INVALID,
            "%s: tensor %.80s: %llu bytes are not what its shape of %s needs", file,
            out->name, (unsigned long long)(end - begin), out->type);
    out->begin = data_begin + begin;
    out->end = data_begin + end;
    return COHORT_OK;
}

static int by_position(const void *left, const void *right) {
    const cohort_tensor *a = left, *b = right;
    if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
    if (a->end != b->end) return a->end < b->end ? -1 : 1;
    return strcmp(a->name, b->name);
}

static int by_name(const void *left, const void *right) {
    const cohort_tensor *a = left, *b = right;
    return strcmp(a->name, b->name);
}

static cohort_status check_ranges(const cohort_tensor_list *list, uint64_t data_begin,
                                  uint64_t file_bytes, const char *file) {
    for (size_t i = 0; i < list->n_tensors; i++) {
        const cohort_tensor *tensor = &list->tensors[i];
        if (tensor->end > file_bytes)
            return COHORT_FAIL(
                COHORT_E_INVALID,
                "%s is cut short: tensor %.80s ends at byte %llu, the file "
                "at %llu; copy or download it again",
                file, tensor->name, (unsigned long long)tensor->end,
                (unsigned long long)file_bytes);
    }
    uint64_t position = data_begin;
    for (size_t i = 0; i < list->n_tensors; i++) {
        const cohort_tensor *tensor = &list->tensors[i];
        if (tensor->begin != position)
            return COHORT_FAIL(
                COHORT_E_INVALID, "%s: tensor %.80s %s at byte %llu (expected %llu)",
                file, tensor->name,
                tensor->begin < position ? "overlaps another" : "leaves a hole",
                (unsigned long long)tensor->begin, (unsigned long long)position);
        position = tensor->end;
    }
    if (position != file_bytes)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: %llu bytes follow the last tensor; the file is damaged",
                           file, (unsigned long long)(file_bytes - position));
    return COHORT_OK;
}

static cohort_status check_names(cohort_tensor_list *list, const char *file) {
    qsort(list->tensors, list->n_tensors, sizeof *list->tensors, by_name);
    for (size_t i = 1; i < list->n_tensors; i++)
        if (strcmp(list->tensors[i - 1].name, list->tensors[i].name) == 0)
            return COHORT_FAIL(COHORT_E_INVALID, "%s: tensor %.80s is there twice", file,
                               list->tensors[i].name);
    return COHORT_OK;
}

static cohort_status parse_tensors(const cJSON *json, uint64_t data_begin,
                                   uint64_t file_bytes, const char *name, int32_t file,
                                   cohort_tensor_list *out) {
    size_t capacity = (size_t)cJSON_GetArraySize(json);
    out->tensors = calloc(capacity ? capacity : 1, sizeof *out->tensors);
    if (!out->tensors)
        return COHORT_FAIL(COHORT_E_NOMEM, "%s: table of %zu tensors", name, capacity);
    for (const cJSON *item = json->child; item; item = item->next) {
        if (strcmp(item->string, "__metadata__") == 0) continue;
        cohort_tensor *tensor = &out->tensors[out->n_tensors];
        tensor->file = file;
        tensor->name = strdup(item->string);
        if (!tensor->name)
            return COHORT_FAIL(COHORT_E_NOMEM, "%s: a tensor's name", name);
        out->n_tensors++;
        COHORT_TRY(parse_tensor(item, data_begin, name, tensor));
    }
    COHORT_TRY(check_names(out, name));
    qsort(out->tensors, out->n_tensors, sizeof *out->tensors, by_position);
    return check_ranges(out, data_begin, file_bytes, name);
}

cohort_status cohort_safetensors_parse(const void *bytes, size_t n_bytes,
                                       uint64_t file_bytes, const char *name,
                                       int32_t file, cohort_tensor_list *out_list) {
    *out_list = (cohort_tensor_list){0};
    const uint8_t *p = bytes;
    uint64_t header_bytes = 0;
    for (size_t i = 0; i < 8 && n_bytes >= 8; i++)
        header_bytes |= (uint64_t)p[i] << (8 * i);
    if (n_bytes < 8 || header_bytes < 2)
        return COHORT_FAIL(COHORT_E_INVALID, "%s is no safetensors file (%llu bytes)",
                           name, (unsigned long long)file_bytes);
    if (header_bytes > HEADER_LIMIT_BYTES)
        return COHORT_FAIL(
            COHORT_E_INVALID,
            "%s is no safetensors file: its header would be %llu bytes long", name,
            (unsigned long long)header_bytes);
    if (header_bytes > n_bytes - 8)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s is cut short within its header of %llu bytes; copy or "
                           "download it again",
                           name, (unsigned long long)header_bytes);
    cJSON *json = NULL;
    COHORT_TRY(cohort_json_parse((const char *)p + 8, (size_t)header_bytes, name, &json));
    cohort_status status =
        parse_tensors(json, 8 + header_bytes, file_bytes, name, file, out_list);
    cJSON_Delete(json);
    if (status < 0) cohort_tensor_list_deinit(out_list);
    return status;
}

void cohort_tensor_list_deinit(cohort_tensor_list *list) {
    for (size_t i = 0; i < list->n_tensors; i++)
        free(list->tensors[i].name);
    free(list->tensors);
    *list = (cohort_tensor_list){0};
}

/* ---- files ------------------------------------------------------------------------- */

static cohort_status open_file(const cohort_safetensors *checkpoint,
                               struct checkpoint_file *file, struct stat *info) {
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/%s", checkpoint->dir, file->name);
    if (length < 0 || (size_t)length >= sizeof path)
        return COHORT_FAIL(COHORT_E_INVALID, "%s: its path is too long", file->name);
    /* A FIFO without a writer is refused, not waited for. */
    file->fd = cohort_file_open(path);
    if (file->fd < 0 && errno != ENXIO) return COHORT_FAIL_SYS(errno, "opening %s", path);
    if (file->fd < 0) /* a socket, or a device that is not there */
        return COHORT_FAIL(COHORT_E_INVALID, "%s is no safetensors file", path);
    if (fstat(file->fd, info) < 0) return COHORT_FAIL_SYS(errno, "%s", path);
    if (!S_ISREG(info->st_mode) || info->st_size < 8)
        return COHORT_FAIL(COHORT_E_INVALID, "%s is no safetensors file (%lld bytes)",
                           path, (long long)info->st_size);
    return COHORT_OK;
}

static void close_file(struct checkpoint_file *file) {
    if (file->fd >= 0) close(file->fd);
    file->fd = -1;
}

static cohort_status read_at(const struct checkpoint_file *file, uint64_t begin, void *to,
                             size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(file->fd, (char *)to + done, size - done,
                          (off_t)(begin + (uint64_t)done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return COHORT_FAIL_SYS(errno, "reading %s", file->name);
        if (n == 0)
            return COHORT_FAIL(COHORT_E_INVALID,
                               "%s was shortened while it was read: it had %llu bytes "
                               "and now ends before %llu",
                               file->name, (unsigned long long)file->size_bytes,
                               (unsigned long long)(begin + size));
        done += (size_t)n;
    }
    return COHORT_OK;
}

/* What its header says; the file is closed again. */
static cohort_status read_header(cohort_safetensors *checkpoint, int32_t number,
                                 cohort_tensor_list *out) {
    struct checkpoint_file *file = &checkpoint->files[number];
    struct stat info;
    uint8_t first[8];
    uint64_t size = 0;
    COHORT_TRY(open_file(checkpoint, file, &info));
    file->size_bytes = (uint64_t)info.st_size;
    file->device = info.st_dev;
    file->inode = info.st_ino;
    COHORT_TRY(read_at(file, 0, first, sizeof first));
    for (size_t i = 0; i < sizeof first; i++)
        size |= (uint64_t)first[i] << (8 * i);
    /* What is longer is refused without a look at it. */
    if (size > HEADER_LIMIT_BYTES) size = 0;
    if (size > file->size_bytes - sizeof first) size = file->size_bytes - sizeof first;
    uint8_t *bytes = malloc(sizeof first + (size_t)size);
    if (!bytes) return COHORT_FAIL(COHORT_E_NOMEM, "the header of %s", file->name);
    cohort_status status = read_at(file, 0, bytes, sizeof first + (size_t)size);
    if (status >= 0)
        status = cohort_safetensors_parse(bytes, sizeof first + (size_t)size,
                                          file->size_bytes, file->name, number, out);
    free(bytes);
    close_file(file);
    return status;
}

/* Moves the tensors of one file to the end of the checkpoint's list. */
static cohort_status append(cohort_tensor_list *all, cohort_tensor_list *list) {
    size_t n = all->n_tensors + list->n_tensors;
    cohort_tensor *grown = realloc(all->tensors, (n ? n : 1) * sizeof *grown);
    if (!grown) return COHORT_FAIL(COHORT_E_NOMEM, "table of %zu tensors", n);
    all->tensors = grown;
    memcpy(all->tensors + all->n_tensors, list->tensors, list->n_tensors * sizeof *grown);
    all->n_tensors = n;
    free(list->tensors);
    *list = (cohort_tensor_list){0};
    return COHORT_OK;
}

static int by_name_and_file(const void *left, const void *right) {
    const cohort_tensor *a = left, *b = right;
    int order = strcmp(a->name, b->name);
    return order ? order : (a->file > b->file) - (a->file < b->file);
}

/* Of a tensor that several files have the last is taken, as in vLLM, which copies one
 * after the other. */
static void drop_earlier(cohort_tensor_list *list) {
    size_t n = 0;
    qsort(list->tensors, list->n_tensors, sizeof *list->tensors, by_name_and_file);
    for (size_t i = 0; i < list->n_tensors; i++) {
        if (n && strcmp(list->tensors[n - 1].name, list->tensors[i].name) == 0)
            free(list->tensors[--n].name);
        list->tensors[n++] = list->tensors[i];
    }
    list->n_tensors = n;
}

static cohort_status open_files(cohort_safetensors *checkpoint) {
    for (int32_t i = 0; i < checkpoint->n_files; i++) {
        cohort_tensor_list list = {0};
        COHORT_TRY_WHILE(read_header(checkpoint, i, &list), "opening %s",
                         checkpoint->dir);
        cohort_status status = append(&checkpoint->list, &list);
        cohort_tensor_list_deinit(&list);
        COHORT_TRY(status);
    }
    drop_earlier(&checkpoint->list);
    return COHORT_OK;
}

static int by_file_name(const void *left, const void *right) {
    const struct checkpoint_file *a = left, *b = right;
    return strcmp(a->name, b->name);
}

static cohort_status add_file(cohort_safetensors *checkpoint, const char *dir,
                              const char *name) {
    if (checkpoint->n_files == MAX_FILES)
        return COHORT_FAIL(COHORT_E_INVALID, "%s: more than %d files", dir, MAX_FILES);
    struct checkpoint_file *file = &checkpoint->files[checkpoint->n_files++];
    snprintf(file->name, sizeof file->name, "%s", name);
    file->fd = -1;
    return COHORT_OK;
}

static bool has_file(const cohort_safetensors *checkpoint, const char *name) {
    for (int32_t i = 0; i < checkpoint->n_files; i++)
        if (strcmp(checkpoint->files[i].name, name) == 0) return true;
    return false;
}

/* The files an index names, each once.  Which tensors it says they hold is not looked at,
 * as in vLLM: converters leave names there that they dropped. */
static cohort_status collect_files(const cJSON *map, const char *index, const char *dir,
                                   cohort_safetensors *checkpoint) {
    if (!cJSON_IsObject(map) || !map->child)
        return COHORT_FAIL(COHORT_E_INVALID, "%s: weight_map is missing or empty", index);
    const char *last = ""; /* neighbours mostly lie in one file */
    for (const cJSON *item = map->child; item; item = item->next) {
        const char *name = cJSON_IsString(item) ? item->valuestring : "";
        if (!*name || strchr(name, '/') || *name == '.' ||
            strlen(name) >= sizeof checkpoint->files->name)
            return COHORT_FAIL(COHORT_E_INVALID,
                               "%s: '%.80s' of tensor %.80s is no file beside it", index,
                               name, item->string);
        if (strcmp(name, last) != 0 && !has_file(checkpoint, name))
            COHORT_TRY(add_file(checkpoint, dir, name));
        last = name;
    }
    return COHORT_OK;
}

static bool is_weights_name(const char *name) {
    const char *suffix = ".safetensors";
    size_t n = strlen(name), m = strlen(suffix);
    return *name != '.' && n > m && n < sizeof((struct checkpoint_file *)0)->name &&
           strcmp(name + n - m, suffix) == 0;
}

/* Without an index: every *.safetensors of the folder. */
static cohort_status list_files(cohort_safetensors *checkpoint, const char *dir) {
    DIR *folder = opendir(dir);
    if (!folder) return COHORT_FAIL_SYS(errno, "opening %s", dir);
    cohort_status status = COHORT_OK;
    for (const struct dirent *entry; status >= 0 && (entry = readdir(folder));)
        if (is_weights_name(entry->d_name))
            status = add_file(checkpoint, dir, entry->d_name);
    closedir(folder);
    if (status >= 0 && !checkpoint->n_files)
        status = COHORT_FAIL(COHORT_E_INVALID,
                             "%s has neither model.safetensors nor another *.safetensors "
                             "file; other formats are not read",
                             dir);
    return status;
}

/* model.safetensors beside an index of files that are not there: somebody joined them. */
static bool is_left_over(const cohort_safetensors *checkpoint, const char *dir) {
    char path[PATH_MAX];
    for (int32_t i = -1; i < checkpoint->n_files; i++) {
        const char *name = i < 0 ? "model.safetensors" : checkpoint->files[i].name;
        int length = snprintf(path, sizeof path, "%s/%s", dir, name);
        bool there =
            length > 0 && (size_t)length < sizeof path && access(path, F_OK) == 0;
        if (there != (i < 0)) return false;
    }
    return true;
}

static cohort_status choose_files(cohort_safetensors *checkpoint, const char *dir) {
    const char *index = "model.safetensors.index.json";
    char *text = NULL;
    size_t size = 0;
    cJSON *json = NULL;
    COHORT_TRY(cohort_json_read(dir, index, INDEX_LIMIT_BYTES, &text, &size));
    if (!text) return list_files(checkpoint, dir);
    cohort_status status = cohort_json_parse(text, size, index, &json);
    free(text);
    if (status < 0) return status;
    status = collect_files(cJSON_GetObjectItemCaseSensitive(json, "weight_map"), index,
                           dir, checkpoint);
    cJSON_Delete(json);
    if (status < 0 || !is_left_over(checkpoint, dir)) return status;
    checkpoint->n_files = 0;
    return add_file(checkpoint, dir, "model.safetensors");
}

static cohort_status open_checkpoint(cohort_safetensors *checkpoint, const char *dir) {
    checkpoint->files = calloc(MAX_FILES, sizeof *checkpoint->files);
    checkpoint->dir = strdup(dir);
    if (!checkpoint->files || !checkpoint->dir)
        return COHORT_FAIL(COHORT_E_NOMEM, "table of files");
    COHORT_TRY(choose_files(checkpoint, dir));
    qsort(checkpoint->files, (size_t)checkpoint->n_files, sizeof *checkpoint->files,
          by_file_name);
    return open_files(checkpoint);
}

cohort_status cohort_safetensors_open(const char *model_dir, cohort_safetensors **out) {
    *out = NULL;
    cohort_safetensors *checkpoint = calloc(1, sizeof *checkpoint);
    if (!checkpoint) return COHORT_FAIL(COHORT_E_NOMEM, "opening %s", model_dir);
    cohort_status status = open_checkpoint(checkpoint, model_dir);
    if (status < 0) {
        cohort_safetensors_close(checkpoint);
        return status;
    }
    *out = checkpoint;
    return COHORT_OK;
}

int32_t cohort_safetensors_n_files(const cohort_safetensors *checkpoint) {
    return checkpoint->n_files;
}

const char *cohort_safetensors_file_name(const cohort_safetensors *checkpoint,
                                         int32_t file) {
    return checkpoint->files[file].name;
}

const cohort_tensor *cohort_safetensors_find(const cohort_safetensors *checkpoint,
                                             const char *name) {
    size_t low = 0, high = checkpoint->list.n_tensors;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, checkpoint->list.tensors[middle].name);
        if (order == 0) return &checkpoint->list.tensors[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* Where it was closed since its header was read. */
static cohort_status open_again(cohort_safetensors *checkpoint,
                                struct checkpoint_file *file) {
    struct stat info;
    if (file->fd >= 0) return COHORT_OK;
    COHORT_TRY(open_file(checkpoint, file, &info));
    if (info.st_dev == file->device && info.st_ino == file->inode) return COHORT_OK;
    close_file(file);
    return COHORT_FAIL(COHORT_E_INVALID,
                       "%s/%s was replaced while the model was loaded; start again",
                       checkpoint->dir, file->name);
}

cohort_status cohort_safetensors_read(cohort_safetensors *checkpoint, int32_t file,
                                      uint64_t begin, void *to, size_t size_bytes) {
    struct checkpoint_file *from = &checkpoint->files[file];
    COHORT_TRY(open_again(checkpoint, from));
    return read_at(from, begin, to, size_bytes);
}

void cohort_safetensors_prefetch(cohort_safetensors *checkpoint, int32_t file,
                                 uint64_t begin, uint64_t end) {
    struct checkpoint_file *from = &checkpoint->files[file];
    if (open_again(checkpoint, from) >= 0)
        posix_fadvise(from->fd, (off_t)begin, (off_t)(end - begin), POSIX_FADV_WILLNEED);
}

void cohort_safetensors_release(cohort_safetensors *checkpoint, int32_t file) {
    close_file(&checkpoint->files[file]);
}

void cohort_safetensors_close(cohort_safetensors *checkpoint) {
    if (!checkpoint) return;
    for (int32_t i = 0; i < checkpoint->n_files; i++)
        close_file(&checkpoint->files[i]);
    free(checkpoint->files);
    free(checkpoint->dir);
    cohort_tensor_list_deinit(&checkpoint->list);
    free(checkpoint);
}
