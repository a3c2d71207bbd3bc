/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/extension.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "base/log.h"

/* Design notes.
 *
 * The file links nothing of ours: a worker is the command, an application or a Python
 * process, and a second copy of the library would have errors of its own.  What it needs
 * comes as function pointers.
 *
 * RTLD_NOW: a symbol that is missing fails the start, not a call in the night. */

static _Thread_local bool has_said; /* fail() was called since we looked */

static cohort_status say(cohort_status code, const char *text) {
    has_said = true;
    if (code >= 0 || (int)code < COHORT_E_LAST) code = COHORT_E_INVALID;
    return COHORT_FAIL(code, "%s", text ? text : "");
}

/* What of an extension's status is an error of ours. */
static cohort_status judge(cohort_status status, const char *what) {
    if (status >= 0 || has_said)
        return status >= 0 ? COHORT_OK : cohort_last_error()->code;
    return COHORT_FAIL((int)status < COHORT_E_LAST ? COHORT_E_INVALID : status,
                       "%s returned %d and did not say why", what, (int)status);
}

static cohort_status add_method(const cohort_worker_extension *self, const char *name,
                                cohort_worker_call call, void *context) {
    cohort_extension *extension = self->own;
    if (!name || !name[0] || strlen(name) > COHORT_METHOD_CHARS || !call)
        return say(COHORT_E_INVALID, "a method needs a function, and a name of 1 to 63 "
                                     "characters");
    char text[160];
    if (extension->is_taken(extension->worker, name) ||
        cohort_extension_find(extension, name)) {
        snprintf(text, sizeof text, "there is a method '%s' already", name);
        return say(COHORT_E_INVALID, text);
    }
    if (extension->n_methods == COHORT_EXTENSION_MAX_METHODS) {
        snprintf(text, sizeof text, "method '%s' is one too many; there may be %d", name,
                 COHORT_EXTENSION_MAX_METHODS);
        return say(COHORT_E_INVALID, text);
    }
    cohort_extension_method *method = &extension->methods[extension->n_methods++];
    *method = (cohort_extension_method){.call = call, .context = context};
    strcpy(method->name, name);
    return COHORT_OK;
}

static cohort_status on_rejoin(const cohort_worker_extension *self,
                               cohort_worker_rejoined rejoined, void *context) {
    cohort_extension *extension = self->own;
    if (!rejoined || extension->rejoined)
        return say(COHORT_E_INVALID, "on_rejoin takes one function, once");
    extension->rejoined = rejoined;
    extension->rejoined_context = context;
    return COHORT_OK;
}

void cohort_extension_rejoined(const cohort_extension *extension, uint64_t epoch) {
    if (extension->rejoined) extension->rejoined(extension->rejoined_context, epoch);
}

static cohort_status find_install(const char *spec,
                                  cohort_worker_extension_install *out_install) {
    char path[PATH_MAX];
    const char *colon = strrchr(spec, ':');
    if (!colon || colon == spec || !colon[1] || (size_t)(colon - spec) >= sizeof path)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "worker extension '%.120s' is no LIB.so:SYMBOL", spec);
    memcpy(path, spec, (size_t)(colon - spec));
    path[colon - spec] = '\0';
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const char *why = library ? NULL : dlerror();
    if (!library)
        return COHORT_FAIL(COHORT_E_INVALID, "opening the worker extension: %.180s",
                           why ? why : path);
    void *symbol = dlsym(library, colon + 1);
    if (!symbol)
        return COHORT_FAIL(COHORT_E_INVALID,
                           "the worker extension %.120s has no function '%.60s'", path,
                           colon + 1);
    memcpy(out_install, &symbol, sizeof symbol); /* ISO C has no cast for it */
    return COHORT_OK;
}

cohort_status cohort_extension_load(cohort_extension *extension, const char *spec,
                                    const cohort_worker_info *info) {
    cohort_worker_extension_install install;
    const cohort_worker_extension lent = {.struct_bytes = sizeof lent,
                                          .rank = info->rank,
                                          .world_size = info->world_size,
                                          .local_rank = info->local_rank,
                                          .local_world_size = info->local_world_size,
                                          .tp_rank = info->tp_rank,
                                          .tp = info->tp,
                                          .pp_rank = info->pp_rank,
                                          .pp = info->pp,
                                          .config = info->config,
                                          .add_method = add_method,
                                          .fail = say,
                                          .own = extension,
                                          .epoch = info->epoch,
                                          .on_rejoin = on_rejoin};
    COHORT_TRY(find_install(spec, &install));
    has_said = false;
    COHORT_TRY_WHILE(judge(install(&lent), "it"), "in worker extension %.80s", spec);
    cohort_log(COHORT_LOG_INFO, "worker", info->rank,
               "event=extension_installed methods=%d spec=%s", extension->n_methods,
               spec);
    return COHORT_OK;
}

const cohort_extension_method *cohort_extension_find(const cohort_extension *extension,
                                                     const char *name) {
    for (int32_t i = 0; i < extension->n_methods; i++)
        if (!strcmp(extension->methods[i].name, name)) return &extension->methods[i];
    return NULL;
}

cohort_status cohort_extension_call(const cohort_extension_method *method,
                                    const void *payload, size_t size_bytes,
                                    cohort_worker_reply *reply) {
    char what[COHORT_METHOD_CHARS + 16];
    snprintf(what, sizeof what, "method '%s'", method->name);
    has_said = false;
    return judge(method->call(method->context, payload, size_bytes, reply), what);
}
