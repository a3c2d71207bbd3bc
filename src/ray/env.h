/* SPDX-License-Identifier: Apache-2.0 */
/* ray/env.h - our environment, as the ranks get it.
 *
 *   environ --> follows: set by the rank itself, unless its node has a value
 *           --> precedes: into the runtime_env of the actors of a node, unless that node
 *               has a value, which is asked before (R8, R9, R11)
 *
 * Messages are JSON, so UTF-8: a variable that is not is left out, and named.
 * Objects are the caller's, by cJSON_Delete.   Threads: any.
 */
#ifndef COHORT_RAY_ENV_H
#define COHORT_RAY_ENV_H

#include <cjson/cJSON.h>

#include "cohort/status.h"

typedef struct cohort_ray_env {
    cJSON *follows, *precedes; /* name to value */
    char left_out[256];        /* names, with commas; "": none was */
} cohort_ray_env;

/* "A,B_*" and behind it the names in the user's ray_non_carry_over_env_vars.json, a list
 * of texts in VLLM_CONFIG_ROOT, else in vllm of XDG_CONFIG_HOME or of ~/.config.  A file
 * that is none is warned of and read as empty, as vLLM does.  The caller frees. */
cohort_status cohort_ray_env_excluded(const char *excluded, char **out_names);

/* excluded as in cohort_ray_travel_of. */
cohort_status cohort_ray_env_read(char *const *environment, const char *excluded,
                                  cohort_ray_env *out_env);
void cohort_ray_env_free(cohort_ray_env *env);

/* The names, and the paths in the values, of what precedes: what a node is asked about.
 * Both are arrays. */
cJSON *cohort_ray_env_names(const cohort_ray_env *env);
cJSON *cohort_ray_env_paths(const cohort_ray_env *env);
/* What of it goes into the runtime_env on a node that has "env", by name, and of the
 * paths those in "there". */
cJSON *cohort_ray_env_on_node(const cohort_ray_env *env, const cJSON *looked);

/* ---- the user's runtime_env ----------------------------------------------------- */

/* An object of one, whose env_vars are texts; of NULL or "" an empty one. */
cohort_status cohort_ray_env_parse(const char *text, cJSON **out_runtime_env);
/* A copy with our variables beneath its env_vars, which go before them; takes them over.
 */
cJSON *cohort_ray_env_under(const cJSON *runtime_env, cJSON *variables);

#endif /* COHORT_RAY_ENV_H */
