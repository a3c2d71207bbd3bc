/* SPDX-License-Identifier: Apache-2.0 */
/* cli/vllm_variables.h - environment variables of vLLM's, VLLM_*.
 *
 * Whoever comes from there brings an environment that works.  A variable either sets an
 * option of ours, which goes before it wherever it is given; or what it says happens here
 * anyway; or it has no effect, which is said once.  One that vLLM does not know either is
 * warned of, as vLLM does.  The list is that of vLLM 0.32; docs/vllm-variables.md shows
 * it.
 */
#ifndef COHORT_CLI_VLLM_VARIABLES_H
#define COHORT_CLI_VLLM_VARIABLES_H

#include <stdbool.h>
#include <stddef.h>

/* How a variable's text becomes an option's. */
typedef enum cli_variable_form {
    CLI_AS_IT_IS,
    CLI_AS_FLAG,     /* any number but 0 is true */
    CLI_AS_GIB,      /* of the KV cache, where ranks may compute on the CPU */
    CLI_AS_GPUS,     /* of each rank, where they may compute on a GPU */
    CLI_AS_INTERVAL, /* 0 and less: the default */
} cli_variable_form;

typedef struct cli_vllm_variable {
    const char *names; /* "A|B" */
    const char *sets;  /* name of the option; NULL: none */
    cli_variable_form form;
    const char *fine; /* values that happen anyway, "1|true"; "*": all; NULL: none */
    const char *why;  /* it has no effect; of what sets an option: how, or NULL */
} cli_vllm_variable;

extern const cli_vllm_variable cli_vllm_variables[];
extern const size_t cli_n_vllm_variables;

/* NULL: vLLM 0.32 has no such variable. */
const cli_vllm_variable *cli_vllm_variable_find(const char *name);
/* Is it what happens anyway, or of no consequence? */
bool cli_vllm_variable_is_fine(const cli_vllm_variable *variable, const char *value);
/* The option's text; false where there is nothing to set. */
bool cli_vllm_variable_text(const cli_vllm_variable *variable, const char *value,
                            char *out, size_t size);
/* What Kubernetes puts into every pod beside a Service that is called vllm: it is no
 * variable of vLLM's. */
bool cli_vllm_variable_is_service_link(const char *name, const char *value);

#endif /* COHORT_CLI_VLLM_VARIABLES_H */
