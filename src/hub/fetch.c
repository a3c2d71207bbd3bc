/* SPDX-License-Identifier: Apache-2.0 */
/* Design notes.
 *
 * A file is appended to its .incomplete blob.  A transfer that breaks off is begun again
 * from there, for as long as every attempt brings something; a process that dies leaves
 * the same file to its successor.  The lock is huggingface_hub's (flock), held by one
 * process at a time and gone with it.  Nothing is believed of a resumed file until the
 * digest of the whole is right; where it is not, it is fetched once more, whole, and a
 * file that is wrong then is thrown away. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/curl_api.h"
#include "hub/hub_internal.h"

enum {
    MAX_ANSWER_BYTES = 32 << 20,
    MAX_ATTEMPTS = 5, /* in a row, that brought nothing */
    CONNECT_TIMEOUT_S = 10,
    ASK_TIMEOUT_S = 60,
    STALL_TIMEOUT_S = 30,
    LOCK_RETRY_US = 100000,
    RETRY_US = 200000,
    URL_BYTES = 2048,
};

/* One transfer: into memory, or onto the end of a file. */
typedef struct transfer {
    const hub_search *search;
    cohort_curl curl;
    CURL *easy;
    struct curl_slist *headers;
    char error[CURL_ERROR_SIZE];
    char *text; /* what is not for the file */
    size_t text_bytes;
    const hub_file *file;
    int fd;
    int64_t done_bytes, resumed_bytes;
    bool is_checked; /* the status of this answer was looked at */
    cohort_status failure;
} transfer;

static bool is_cancelled(const hub_search *search) {
    const cohort_hub_options *options = search->options;
    return options->is_cancelled && options->is_cancelled(options->user_data);
}

static void tell(const transfer *self, bool is_done) {
    const hub_search *search = self->search;
    const cohort_hub_options *options = search->options;
    const cohort_hub_progress progress = {.file = self->file->name,
                                          .done_bytes = self->done_bytes,
                                          .total_bytes = self->file->size_bytes,
                                          .resumed_bytes = self->resumed_bytes,
                                          .is_done = is_done,
                                          .all_done_bytes =
                                              search->done_bytes + self->done_bytes,
                                          .all_total_bytes = search->total_bytes,
                                          .n_done = search->n_done + is_done,
                                          .n_files = search->n_missing};
    if (options->on_progress) options->on_progress(options->user_data, &progress);
}

/* ---- what libcurl calls ------------------------------------------------------------ */

static int watch(void *user_data, curl_off_t total, curl_off_t now, curl_off_t up_total,
                 curl_off_t up_now) {
    transfer *self = user_data;
    (void)total, (void)now, (void)up_total, (void)up_now;
    if (self->file) tell(self, false);
    return is_cancelled(self->search);
}

static size_t keep_text(transfer *self, const char *bytes, size_t n) {
    if (self->text_bytes + n > MAX_ANSWER_BYTES) return 0;
    char *longer = realloc(self->text, self->text_bytes + n + 1);
    if (!longer) return 0;
    memcpy(longer + self->text_bytes, bytes, n);
    self->text = longer;
    self->text_bytes += n;
    longer[self->text_bytes] = '\0';
    return n;
}

/* The whole file in place of its rest: from the beginning then. */
static bool start_over(transfer *self) {
    self->done_bytes = self->resumed_bytes = 0;
    if (ftruncate(self->fd, 0) == 0 && lseek(self->fd, 0, SEEK_SET) == 0) return true;
    self->failure = COHORT_FAIL_SYS(errno, "starting over");
    return false;
}

static size_t take_bytes(char *bytes, size_t one, size_t n, void *user_data) {
    transfer *self = user_data;
    long status = 0;
    (void)one; /* is 1 */
    self->curl.easy_getinfo(self->easy, CURLINFO_RESPONSE_CODE, &status);
    if (self->fd < 0 || status < 200 || status > 299) return keep_text(self, bytes, n);
    if (!self->is_checked && status != 206 && self->done_bytes && !start_over(self))
        return 0;
    self->is_checked = true;
    if (self->done_bytes + (int64_t)n > self->file->size_bytes) {
        self->failure = COHORT_FAIL(COHORT_E_PROTOCOL,
                                    "the hub sends more than the %lld bytes it announced",
                                    (long long)self->file->size_bytes);
        return 0;
    }
    for (size_t at = 0; at < n;) {
        ssize_t put = write(self->fd, bytes + at, n - at);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) {
            self->failure = COHORT_FAIL_SYS(errno, "writing");
            return 0;
        }
        at += (size_t)put;
        self->done_bytes += put;
    }
    return n;
}

/* ---- asking ------------------------------------------------------------------------ */

static void transfer_deinit(transfer *self) {
    const cohort_curl *curl = &self->curl;
    if (self->easy) curl->easy_cleanup(self->easy);
    if (self->headers) curl->slist_free_all(self->headers);
    free(self->text);
}

/* libcurl keeps the token from hosts that the hub redirects to. */
static cohort_status transfer_init(transfer *self, const char *url) {
    char authorization[sizeof self->search->token + 32];
    const cohort_curl *curl = &self->curl;
    COHORT_TRY(cohort_curl_load(&self->curl));
    CURL *easy = self->easy = curl->easy_init();
    bool fine = easy != NULL;
    if (fine && self->search->token[0]) {
        snprintf(authorization, sizeof authorization, "Authorization: Bearer %s",
                 self->search->token);
        self->headers = curl->slist_append(NULL, authorization);
        fine =
            self->headers && !curl->easy_setopt(easy, CURLOPT_HTTPHEADER, self->headers);
    }
    fine = fine && !curl->easy_setopt(easy, CURLOPT_URL, url) &&
           !curl->easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") &&
           !curl->easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https") &&
           !curl->easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L) &&
           !curl->easy_setopt(easy, CURLOPT_MAXREDIRS, 10L) &&
           !curl->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) &&
           !curl->easy_setopt(easy, CURLOPT_USERAGENT, "cohort") &&
           !curl->easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S) &&
           !curl->easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L) &&
           !curl->easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)STALL_TIMEOUT_S) &&
           !curl->easy_setopt(easy, CURLOPT_ERRORBUFFER, self->error) &&
           !curl->easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_bytes) &&
           !curl->easy_setopt(easy, CURLOPT_WRITEDATA, self) &&
           !curl->easy_setopt(easy, CURLOPT_NOPROGRESS, 0L) &&
           !curl->easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, watch) &&
           !curl->easy_setopt(easy, CURLOPT_XFERINFODATA, self);
    if (fine) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_INVALID, "'%.120s' is no address to fetch from", url);
}

/* COHORT_OK for a 2xx; COHORT_E_IO where another attempt may help. */
static cohort_status perform(transfer *self) {
    const cohort_curl *curl = &self->curl;
    long status = 0;
    self->is_checked = false;
    self->failure = COHORT_OK;
    self->error[0] = '\0';
    CURLcode code = curl->easy_perform(self->easy);
    curl->easy_getinfo(self->easy, CURLINFO_RESPONSE_CODE, &status);
    if (is_cancelled(self->search))
        return COHORT_FAIL(COHORT_E_CANCELLED, "cancelled; what came is kept");
    if (self->failure < 0) return self->failure;
    if (code != CURLE_OK)
        return COHORT_FAIL(COHORT_E_IO, "%.150s",
                           self->error[0] ? self->error : curl->easy_strerror(code));
    if (status >= 200 && status <= 299) return COHORT_OK;
    /* What is here reaches beyond what the hub has: anew, another time. */
    if (status == 416 && self->fd >= 0 && self->done_bytes)
        return start_over(self) ? COHORT_FAIL(COHORT_E_IO, "the hub answers 416")
                                : self->failure;
    if (status == 401 || status == 403) {
        hub_advise(self->search, "HF_TOKEN=hf_...");
        return COHORT_FAIL(COHORT_E_INVALID,
                           "the hub answers %ld: set HF_TOKEN to a token that may read "
                           "it, and accept the model's terms there",
                           status);
    }
    if (status == 404)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "the hub answers 404: it has no such model, revision or file");
    return COHORT_FAIL(status >= 500 || status == 429 ? COHORT_E_IO : COHORT_E_PROTOCOL,
                       "the hub answers %ld", status);
}

static bool take_file(hub_file *out, const cJSON *entry) {
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(entry, "rfilename"));
    const cJSON *lfs = cJSON_GetObjectItem(entry, "lfs");
    const cJSON *size = cJSON_GetObjectItem(entry, "size");
    const char *digest = cJSON_GetStringValue(cJSON_GetObjectItem(entry, "blobId"));
    if (cJSON_IsObject(lfs)) {
        digest = cJSON_GetStringValue(cJSON_GetObjectItem(lfs, "sha256"));
        if (cJSON_GetObjectItem(lfs, "size")) size = cJSON_GetObjectItem(lfs, "size");
    }
    if (!name || !digest || !cJSON_IsNumber(size) || !(size->valuedouble >= 0) ||
        size->valuedouble > 0x1p52)
        return false;
    size_t n = strlen(digest);
    if (n != (cJSON_IsObject(lfs) ? 64 : 40) || strspn(digest, "0123456789abcdef") != n)
        return false;
    *out = (hub_file){.size_bytes = (int64_t)size->valuedouble};
    memcpy(out->digest, digest, n + 1);
    return (out->name = strdup(name)) != NULL;
}

cohort_status hub_read_answer(hub_search *self, const char *json, size_t size) {
    cJSON *answer = cJSON_ParseWithLength(json, size);
    const char *commit = cJSON_GetStringValue(cJSON_GetObjectItem(answer, "sha"));
    const cJSON *list = cJSON_GetObjectItem(answer, "siblings"), *entry;
    int n = cJSON_GetArraySize(list);
    cohort_status status = COHORT_OK;
    if (!commit || !hub_is_commit(commit) || n < 1 || n > HUB_MAX_FILES) {
        status = COHORT_FAIL(COHORT_E_PROTOCOL,
                             "the hub's answer names no commit and files; is HF_ENDPOINT "
                             "(%.80s) a hub?",
                             self->endpoint);
    } else {
        memcpy(self->commit, commit, HUB_COMMIT_CHARS + 1);
        self->files = calloc((size_t)n, sizeof *self->files);
        if (!self->files) status = COHORT_FAIL(COHORT_E_NOMEM, "no memory for files");
    }
    cJSON_ArrayForEach(entry, list) {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(entry, "rfilename"));
        /* Names with folders are of no use here, and a name is a path for nobody. */
        if (status < 0 || !name || !hub_is_file_name(name)) continue;
        if (take_file(&self->files[self->n_files], entry))
            self->n_files++;
        else
            status = COHORT_FAIL(COHORT_E_PROTOCOL,
                                 "the hub gives no size and digest for %.80s", name);
    }
    cJSON_Delete(answer);
    return status;
}

cohort_status hub_ask(hub_search *self) {
    char url[URL_BYTES];
    transfer of = {.search = self, .fd = -1};
    COHORT_TRY(cohort_curl_load(&of.curl));
    char *revision = of.curl.easy_escape(NULL, self->revision, 0);
    int n = snprintf(url, sizeof url, "%s/api/models/%s/revision/%s?blobs=true",
                     self->endpoint, self->name, revision ? revision : "main");
    of.curl.free(revision);
    if (n < 0 || (size_t)n >= sizeof url)
        return COHORT_FAIL(COHORT_E_INVALID, "HF_ENDPOINT is too long");
    cohort_status status = transfer_init(&of, url);
    if (status == COHORT_OK) {
        of.curl.easy_setopt(of.easy, CURLOPT_TIMEOUT, (long)ASK_TIMEOUT_S);
        status = perform(&of);
    }
    if (status == COHORT_OK)
        status = hub_read_answer(self, of.text ? of.text : "", of.text_bytes);
    transfer_deinit(&of);
    if (status < 0)
        return cohort_fail_while(status, "asking %.60s for %s at %s", self->endpoint,
                                 self->name, self->revision);
    return COHORT_OK;
}

/* ---- digests ----------------------------------------------------------------------- */

cohort_status hub_check_digest(const char *path, const hub_file *file) {
    enum { PIECE = 1 << 18 };
    bool is_git = strlen(file->digest) == 40;
    uint8_t raw[32];
    char head[64], text[65];
    gnutls_hash_hd_t hash;
    gnutls_digest_algorithm_t kind = is_git ? GNUTLS_DIG_SHA1 : GNUTLS_DIG_SHA256;
    FILE *from = fopen(path, "re");
    if (!from) return COHORT_FAIL_SYS(errno, "opening %s", path);
    char *piece = malloc(PIECE);
    if (!piece || gnutls_hash_init(&hash, kind) < 0) {
        fclose(from);
        free(piece);
        return COHORT_FAIL(COHORT_E_NOMEM, "no digest of %s", path);
    }
    if (is_git) { /* git hashes a blob behind its size */
        int n = snprintf(head, sizeof head, "blob %lld", (long long)file->size_bytes);
        gnutls_hash(hash, head, (size_t)n + 1);
    }
    for (size_t got; (got = fread(piece, 1, PIECE, from)) > 0;)
        gnutls_hash(hash, piece, got);
    bool fine = !ferror(from);
    gnutls_hash_deinit(hash, raw);
    fclose(from);
    free(piece);
    if (!fine) return COHORT_FAIL(COHORT_E_IO, "reading %s", path);
    for (size_t i = 0; i < strlen(file->digest) / 2; i++)
        snprintf(text + 2 * i, 3, "%02x", raw[i]);
    if (!strcmp(text, file->digest)) return COHORT_OK;
    return COHORT_FAIL(COHORT_E_PROTOCOL, "its digest is %.16s..., not %.16s...", text,
                       file->digest);
}

/* ---- one file ---------------------------------------------------------------------- */

/* Appends what is missing; attempts that bring something are free. */
static cohort_status append_rest(transfer *self) {
    cohort_status status = COHORT_OK;
    for (int failed = 0; self->done_bytes < self->file->size_bytes;) {
        int64_t before_bytes = self->done_bytes;
        char rest[32]; /* not RESUME_FROM: that fails where a hub has no ranges */
        snprintf(rest, sizeof rest, "%lld-", (long long)before_bytes);
        self->curl.easy_setopt(self->easy, CURLOPT_RANGE, before_bytes ? rest : NULL);
        status = perform(self);
        if (status < 0 && status != COHORT_E_IO) return status;
        failed = self->done_bytes > before_bytes ? 0 : failed + 1;
        if (status == COHORT_OK && self->done_bytes < self->file->size_bytes)
            status = COHORT_FAIL(COHORT_E_IO, "the hub sent %lld of %lld bytes",
                                 (long long)self->done_bytes,
                                 (long long)self->file->size_bytes);
        if (failed == MAX_ATTEMPTS) return status;
        if (status < 0) usleep(RETRY_US);
    }
    return COHORT_OK;
}

static cohort_status fill(transfer *self, const char *incomplete, const char *blob) {
    struct stat found;
    if (fstat(self->fd, &found) < 0 || lseek(self->fd, 0, SEEK_END) < 0)
        return COHORT_FAIL_SYS(errno, "looking at %s", incomplete);
    self->done_bytes = self->resumed_bytes = found.st_size;
    if (self->done_bytes > self->file->size_bytes && !start_over(self))
        return self->failure;
    COHORT_TRY(append_rest(self));
    cohort_status status = hub_check_digest(incomplete, self->file);
    /* What was there may have come from elsewhere: once more, without it. */
    if (status == COHORT_E_PROTOCOL && self->resumed_bytes) {
        if (!start_over(self)) return self->failure;
        COHORT_TRY(append_rest(self));
        status = hub_check_digest(incomplete, self->file);
    }
    if (status == COHORT_E_PROTOCOL) unlink(incomplete); /* nothing to resume from */
    COHORT_TRY(status);
    if (fsync(self->fd) < 0 || rename(incomplete, blob) < 0)
        return COHORT_FAIL_SYS(errno, "keeping %s", blob);
    tell(self, true);
    return COHORT_OK;
}

/* Waits for others that fetch the same. */
static cohort_status lock(const hub_search *search, const hub_file *file, int *out_fd) {
    char path[COHORT_HUB_PATH_BYTES + 256];
    snprintf(path, sizeof path, "%s/.locks/%s/%s.lock", search->cache,
             strrchr(search->folder, '/') + 1, file->digest);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return COHORT_FAIL_SYS(errno, "opening %s", path);
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int err = errno;
        bool leave = is_cancelled(search);
        if ((err == EWOULDBLOCK || err == EINTR) && !leave) {
            usleep(LOCK_RETRY_US);
            continue;
        }
        close(fd);
        if (leave) return COHORT_FAIL(COHORT_E_CANCELLED, "cancelled");
        return COHORT_FAIL_SYS(err, "locking %s", path);
    }
    *out_fd = fd;
    return COHORT_OK;
}

static cohort_status fetch_locked(const hub_search *search, const hub_file *file,
                                  const char *blob) {
    char incomplete[COHORT_HUB_PATH_BYTES + 300], url[URL_BYTES];
    transfer self = {.search = search, .file = file, .fd = -1};
    snprintf(incomplete, sizeof incomplete, "%s.incomplete", blob);
    snprintf(url, sizeof url, "%s/%s/resolve/%s/%s", search->endpoint, search->name,
             search->commit, file->name);
    self.fd = open(incomplete, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (self.fd < 0) return COHORT_FAIL_SYS(errno, "opening %s", incomplete);
    cohort_status status = transfer_init(&self, url);
    if (status == COHORT_OK) status = fill(&self, incomplete, blob);
    transfer_deinit(&self);
    close(self.fd);
    return status;
}

bool hub_has_blob(const hub_search *search, const hub_file *file) {
    char blob[COHORT_HUB_PATH_BYTES + 256];
    struct stat found;
    snprintf(blob, sizeof blob, "%s/blobs/%s", search->folder, file->digest);
    return stat(blob, &found) == 0 && found.st_size == file->size_bytes;
}

cohort_status hub_fetch(const hub_search *search, const hub_file *file) {
    char blob[COHORT_HUB_PATH_BYTES + 256];
    int fd = -1;
    snprintf(blob, sizeof blob, "%s/blobs/%s", search->folder, file->digest);
    if (hub_has_blob(search, file)) return COHORT_OK;
    COHORT_TRY(lock(search, file, &fd));
    cohort_status status = COHORT_OK;
    if (!hub_has_blob(search, file)) status = fetch_locked(search, file, blob);
    close(fd);
    return status;
}
