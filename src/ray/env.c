/* SPDX-License-Identifier: Apache-2.0 */
#include "ray/env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utf8proc.h>

#include "base/fail.h"
#include "base/files.h"
#include "base/log.h"
#include "ray/rules.h"

enum { NAME_BYTES = 256, PATH_BYTES = 4096, MAX_FILE_BYTES = 1 << 16 };

/* ---- what the user keeps from workers ------------------------------------------ */

static void path_of_file(char *out, size_t size) {
    static const char name[] = "ray_non_carry_over_env_vars.json";
    const char *root = getenv("VLLM_CONFIG_ROOT"), *xdg = getenv("XDG_CONFIG_HOME"),
               *home = getenv("HOME");
    if (root)
        snprintf(out, size, "%s/%s", root, name);
    else if (xdg)
        snprintf(out, size, "%s/vllm/%s", xdg, name);
    else
        snprintf(out, size, "%s/.config/vllm/%s", home ? home : "", name);
}

/* NULL: there is no such file, or what it has is no list of texts. */
static cJSON *read_names(const char *path) {
    char *text = malloc(MAX_FILE_BYTES);
    int fd = text ? cohort_file_open(path) : -1;
    ssize_t n = fd < 0 ? -1 : read(fd, text, MAX_FILE_BYTES - 1);
    if (fd >= 0) close(fd);
    if (n >= 0) text[n] = '\0';
    cJSON *names = n >= 0 ? cJSON_Parse(text) : NULL, *item;
    bool is_list = cJSON_IsArray(names);
    cJSON_ArrayForEach(item, names) is_list = is_list && cJSON_IsString(item);
    free(text);
    if (fd >= 0 && !is_list)
        cohort_log(
            COHORT_LOG_WARNING, "ray", COHORT_RANK_LOCAL,
            "event=environment_file path=\"%s\" text=\"it is no JSON list of names; "
            "none is kept from workers by it\"",
            path);
    if (is_list) return names;
    cJSON_Delete(names);
    return NULL;
}

cohort_status cohort_ray_env_excluded(const char *excluded, char **out_names) {
    char path[PATH_BYTES];
    path_of_file(path, sizeof path);
    cJSON *names = read_names(path), *item;
    size_t size = (excluded ? strlen(excluded) : 0) + 1, used;
    cJSON_ArrayForEach(item, names) size += strlen(item->valuestring) + 1;
    *out_names = malloc(size);
    if (*out_names) {
        used = (size_t)snprintf(*out_names, size, "%s", excluded ? excluded : "");
        cJSON_ArrayForEach(item, names) used +=
            (size_t)snprintf(*out_names + used, size - used, ",%s", item->valuestring);
    }
    cJSON_Delete(names);
    return *out_names ? COHORT_OK : COHORT_FAIL(COHORT_E_NOMEM, "allocating names");
}

/* ---- what goes there --------------------------------------------------------- */

static bool is_utf8(const char *text) {
    const utf8proc_uint8_t *at = (const utf8proc_uint8_t *)text;
    utf8proc_int32_t point;
    while (*at) {
        utf8proc_ssize_t length = utf8proc_iterate(at, -1, &point);
        if (length <= 0) return false;
        at += length;
    }
    return true;
}

/* "A,B": as many as there is room for. */
static void add_name(const char *name, char *list, size_t size) {
    const char *printable = is_utf8(name) ? name : "?";
    size_t used = strlen(list), bytes = strlen(printable) + 1;
    if (used + bytes + 1 > size) return;
    if (used) list[used++] = ',';
    memcpy(list + used, printable, bytes);
}

static cohort_status read_variable(const char *entry, const char *excluded,
                                   cohort_ray_env *env) {
    char name[NAME_BYTES];
    size_t length = strcspn(entry, "=");
    if (length == 0 || length >= sizeof name || !entry[length]) return COHORT_OK;
    memcpy(name, entry, length);
    name[length] = '\0';
    cohort_ray_travel travel = cohort_ray_travel_of(name, excluded);
    if (travel == COHORT_RAY_STAYS) return COHORT_OK;
    if (!is_utf8(entry)) {
        add_name(name, env->left_out, sizeof env->left_out);
        return COHORT_OK;
    }
    cJSON *into = travel == COHORT_RAY_FOLLOWS ? env->follows : env->precedes;
    /* getenv finds the first; http_proxy and HTTP_PROXY are two. */
    if (cJSON_GetObjectItemCaseSensitive(into, name)) return COHORT_OK;
    if (!cJSON_AddStringToObject(into, name, entry + length + 1))
        return COHORT_FAIL(COHORT_E_NOMEM, "allocating an environment");
    return COHORT_OK;
}

cohort_status cohort_ray_env_read(char *const *environment, const char *excluded,
                                  cohort_ray_env *out_env) {
    *out_env = (cohort_ray_env){.follows = cJSON_CreateObject(),
                                .precedes = cJSON_CreateObject()};
    cohort_status status = COHORT_OK;
    if (!out_env->follows || !out_env->precedes)
        status = COHORT_FAIL(COHORT_E_NOMEM, "allocating an environment");
    for (char *const *entry = environment; status >= 0 && *entry; entry++)
        status = read_variable(*entry, excluded, out_env);
    if (status < 0) cohort_ray_env_free(out_env);
    return status;
}

void cohort_ray_env_free(cohort_ray_env *env) {
    cJSON_Delete(env->follows);
    cJSON_Delete(env->precedes);
    env->follows = env->precedes = NULL;
}

/* ---- what a node is asked, and what follows ------------------------------------ */

cJSON *cohort_ray_env_names(const cohort_ray_env *env) {
    cJSON *names = cJSON_CreateArray();
    const cJSON *item;
    cJSON_ArrayForEach(item, env->precedes)
        cJSON_AddItemToArray(names, cJSON_CreateString(item->string));
    return names;
}

static bool note_path(const char *path, void *user_data) {
    cJSON_AddItemToArray(user_data, cJSON_CreateString(path));
    return true;
}

cJSON *cohort_ray_env_paths(const cohort_ray_env *env) {
    cJSON *paths = cJSON_CreateArray();
    const cJSON *item;
    cJSON_ArrayForEach(item, env->precedes) {
        char *value = malloc(strlen(item->valuestring) + 1);
        if (value)
            cohort_ray_env_merge(item->string, NULL, item->valuestring, note_path, paths,
                                 value);
        free(value);
    }
    return paths;
}

static bool is_there(const char *path, void *user_data) {
    const cJSON *item;
    cJSON_ArrayForEach(
        item, (const cJSON *)user_data) if (cJSON_IsString(item) &&
                                            !strcmp(item->valuestring, path)) return true;
    return false;
}

cJSON *cohort_ray_env_on_node(const cohort_ray_env *env, const cJSON *looked) {
    cJSON *set = cJSON_CreateObject();
    const cJSON *own = cJSON_GetObjectItemCaseSensitive(looked, "env");
    cJSON *there = cJSON_GetObjectItemCaseSensitive(looked, "there");
    const cJSON *item;
    cJSON_ArrayForEach(item, env->precedes) {
        const char *nodes =
            cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(own, item->string));
        char *value = malloc(strlen(item->valuestring) + 1);
        if (value && cohort_ray_env_merge(item->string, nodes, item->valuestring,
                                          is_there, there, value))
            cJSON_AddStringToObject(set, item->string, value);
        free(value);
    }
    return set;
}

/* ---- the user's runtime_env ------------------------------------------------------ */

cohort_status cohort_ray_env_parse(const char *text, cJSON **out_runtime_env) {
    cJSON *made = text && *text ? cJSON_Parse(text) : cJSON_CreateObject();
    const cJSON *variables = cJSON_GetObjectItemCaseSensitive(made, "env_vars"), *item;
    bool is_good = cJSON_IsObject(made) && (!variables || cJSON_IsObject(variables));
    cJSON_ArrayForEach(item, variables) is_good = is_good && cJSON_IsString(item);
    if (is_good) {
        *out_runtime_env = made;
        return COHORT_OK;
    }
    cJSON_Delete(made);
    return COHORT_FAIL(COHORT_E_INVALID,
                       "runtime_env '%.80s': write a JSON object, in which env_vars, if "
                       "there are any, is an object of texts",
                       text ? text : "");
}

cJSON *cohort_ray_env_under(const cJSON *runtime_env, cJSON *variables) {
    cJSON *made = cJSON_Duplicate(runtime_env, true);
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(made, "env_vars")) {
        cJSON_DeleteItemFromObjectCaseSensitive(variables, item->string);
        cJSON_AddStringToObject(variables, item->string, item->valuestring);
    }
    cJSON_DeleteItemFromObjectCaseSensitive(made, "env_vars");
    if (cJSON_GetArraySize(variables) > 0)
        cJSON_AddItemToObject(made, "env_vars", variables);
    else
        cJSON_Delete(variables);
    return made;
}
