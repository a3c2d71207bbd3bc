/* SPDX-License-Identifier: Apache-2.0 */
#include "model/json.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/files.h"

/* What Python's json writes for numbers that JSON has not, as a number that cJSON reads:
 * beyond every bound, so that whoever looks at it refuses it; most are in fields that
 * nobody reads. */
static const char *python_number(const char *text, size_t left, size_t *out_length) {
    static const char *const words[][2] = {{"NaN", "-1e999"}, {"Infinity", "1e999"}};
    for (size_t i = 0; i < 2; i++) {
        *out_length = strlen(words[i][0]);
        if (left >= *out_length && !memcmp(text, words[i][0], *out_length))
            return words[i][1];
    }
    return NULL;
}

/* Copies a text with those numbers replaced; out has room for twice as much. */
static size_t copy_numbers(const char *text, size_t text_bytes, char *out) {
    size_t n = 0, length = 0;
    bool quoted = false;
    for (size_t i = 0; i < text_bytes; i++) {
        bool may = !quoted && (text[i] == 'N' || text[i] == 'I');
        const char *number =
            may ? python_number(text + i, text_bytes - i, &length) : NULL;
        if (number) {
            memcpy(out + n, number, strlen(number));
            n += strlen(number);
            i += length - 1;
            continue;
        }
        if (quoted && text[i] == '\\' && i + 1 < text_bytes)
            out[n++] = text[i++];
        else if (text[i] == '"')
            quoted = !quoted;
        out[n++] = text[i];
    }
    return n;
}

cohort_status cohort_json_parse(const char *text, size_t text_bytes, const char *name,
                                cJSON **out_json) {
    *out_json = NULL;
    /* cJSON before 1.7.18 looks one byte past the length it was given: give it a NUL
     * there. */
    char *copy = malloc(2 * text_bytes + 1); /* a NaN becomes longer */
    if (!copy)
        return COHORT_FAIL(COHORT_E_NOMEM, "%s: %zu bytes of JSON", name, text_bytes);
    size_t copy_bytes = copy_numbers(text, text_bytes, copy);
    copy[copy_bytes] = '\0';
    const char *end = NULL;
    cJSON *json = cJSON_ParseWithLengthOpts(copy, copy_bytes, &end, false);
    size_t offset = end ? (size_t)(end - copy) : 0;
    bool rest = false;
    for (size_t i = offset; json && i < copy_bytes; i++)
        rest = rest || !strchr(" \t\r\n", copy[i]) || !copy[i];
    free(copy);
    if (json && !rest && cJSON_IsObject(json)) {
        *out_json = json;
        return COHORT_OK;
    }
    bool object = json && !rest;
    cJSON_Delete(json);
    if (object) return COHORT_FAIL(COHORT_E_INVALID, "%s: not a JSON object", name);
    if (offset > text_bytes) offset = text_bytes;
    return COHORT_FAIL(COHORT_E_INVALID, "%s: not JSON at byte %zu of %zu", name, offset,
                       text_bytes);
}

static cohort_status read_all(int fd, const char *path, size_t limit_bytes,
                              char **out_text, size_t *out_bytes) {
    struct stat info;
    if (fstat(fd, &info) < 0) return COHORT_FAIL_SYS(errno, "%s", path);
    if (!S_ISREG(info.st_mode))
        return COHORT_FAIL(COHORT_E_INVALID, "%s: not a regular file", path);
    if ((uint64_t)info.st_size > limit_bytes)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "%s: %lld bytes are more than the %zu we read", path,
                           (long long)info.st_size, limit_bytes);
    size_t size_bytes = (size_t)info.st_size, done = 0;
    char *text = malloc(size_bytes + 1);
    if (!text) return COHORT_FAIL(COHORT_E_NOMEM, "%s: %zu bytes", path, size_bytes);
    while (done < size_bytes) {
        ssize_t got = read(fd, text + done, size_bytes - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            int error = errno;
            free(text);
            return COHORT_FAIL_SYS(error, "reading %s", path);
        }
        if (got == 0) break;
        done += (size_t)got;
    }
    text[done] = '\0';
    *out_text = text;
    *out_bytes = done;
    return COHORT_OK;
}

cohort_status cohort_json_read(const char *dir, const char *file, size_t limit_bytes,
                               char **out_text, size_t *out_bytes) {
    *out_text = NULL;
    *out_bytes = 0;
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/%s", dir, file);
    if (length < 0 || (size_t)length >= sizeof path)
        return COHORT_FAIL(COHORT_E_INVALID, "model directory: its path is too long");
    /* A FIFO without a writer is refused, not waited for. */
    int fd = cohort_file_open(path);
    if (fd < 0 && errno == ENXIO)
        return COHORT_FAIL(COHORT_E_INVALID, "%s: not a regular file", path);
    if (fd < 0 && errno == ENOENT) return COHORT_OK;
    if (fd < 0) return COHORT_FAIL_SYS(errno, "%s", path);
    cohort_status status = read_all(fd, path, limit_bytes, out_text, out_bytes);
    close(fd);
    return status;
}

const cJSON *cohort_json_field(const cohort_json_source *source, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(source->object, key);
    return item && !cJSON_IsNull(item) ? item : NULL;
}

bool cohort_json_is_size(const cJSON *item, uint64_t *out_value) {
    if (!cJSON_IsNumber(item)) return false;
    double value = item->valuedouble;
    if (!(value >= 0 && value <= 0x1p53) || value != floor(value)) return false;
    *out_value = (uint64_t)value;
    return true;
}

cohort_status cohort_json_int(const cohort_json_source *source, const char *key,
                              int64_t least, int64_t most, int64_t fallback,
                              int32_t *out_value) {
    const cJSON *item = cohort_json_field(source, key);
    if (!item && fallback == COHORT_JSON_REQUIRED)
        return COHORT_FAIL(COHORT_E_INVALID, "%s: %s is missing", source->name, key);
    if (!item) {
        *out_value = (int32_t)fallback;
        return COHORT_OK;
    }
    double value = cJSON_IsNumber(item) ? item->valuedouble : NAN;
    if (!(value == floor(value)))
        return COHORT_FAIL(COHORT_E_INVALID, "%s: %s is not a whole number", source->name,
                           key);
    if (value < (double)least || value > (double)most)
        return COHORT_FAIL(COHORT_E_INVALID, "%s: %s is %.17g, must be from %lld to %lld",
                           source->name, key, value, (long long)least, (long long)most);
    *out_value = (int32_t)value;
    return COHORT_OK;
}

cohort_status cohort_json_real(const cohort_json_source *source, const char *key,
                               double least, double most, double fallback,
                               double *out_value) {
    const cJSON *item = cohort_json_field(source, key);
    *out_value = fallback;
    if (!item) return COHORT_OK;
    double value = cJSON_IsNumber(item) ? item->valuedouble : NAN;
    if (!(value >= least && value <= most))
        return COHORT_FAIL(COHORT_E_INVALID, "%s: %s must be a number from %g to %g",
                           source->name, key, least, most);
    *out_value = value;
    return COHORT_OK;
}

cohort_status cohort_json_bool(const cohort_json_source *source, const char *key,
                               bool fallback, bool *out_value) {
    const cJSON *item = cohort_json_field(source, key);
    *out_value = fallback;
    if (!item) return COHORT_OK;
    if (!cJSON_IsBool(item))
        return COHORT_FAIL(COHORT_E_INVALID, "%s: %s is not true or false", source->name,
                           key);
    *out_value = cJSON_IsTrue(item);
    return COHORT_OK;
}

cohort_status cohort_json_text(const cohort_json_source *source, const char *key,
                               const char *fallback, const char **out_value) {
    const cJSON *item = cohort_json_field(source, key);
    *out_value = fallback;
    if (!item) return COHORT_OK;
    if (!cJSON_IsString(item))
        return COHORT_FAIL(COHORT_E_INVALID, "%s: %s is not a text", source->name, key);
    *out_value = item->valuestring;
    return COHORT_OK;
}
