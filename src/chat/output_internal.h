/* SPDX-License-Identifier: Apache-2.0 */
/* chat/output_internal.h - what the two readers of calls share; private to the folder. */
#ifndef COHORT_CHAT_OUTPUT_INTERNAL_H
#define COHORT_CHAT_OUTPUT_INTERNAL_H

#include "chat/output.h"

#define OUTPUT_CALL_BEGIN "<tool_call>"
#define OUTPUT_CALL_END   "</tool_call>"

/* Growing bytes.  Once memory was short nothing is added any more. */
typedef struct output_text {
    char *bytes;
    size_t size, capacity;
    bool is_short;
} output_text;

void cohort_output_text_add(output_text *text, const char *bytes, size_t size);

/* A call, while it is read; deinit frees. */
typedef struct output_call {
    output_text name, arguments;
    output_text id; /* empty: the model writes none */
    bool has_arguments;
} output_call;

void cohort_output_call_deinit(output_call *call);
/* output_calls.c: an object with a name and arguments; parameters are as good where
 * takes_parameters.  *at is behind it then. */
bool cohort_output_read_call(const char **at, const char *end, bool takes_parameters,
                             output_call *out);
/* output_calls.c: reads one value of JSON at *at, strictly (NaN and Infinity are
 * none), and writes it to out as
 * json.dumps(ensure_ascii=False) would; NULL: nowhere. */
bool cohort_output_copy_json(const char **at, const char *end, output_text *out);
/* The same of a string; out: what it means, not how it is spelt. */
bool cohort_output_read_string(const char **at, const char *end, output_text *out);

#endif /* COHORT_CHAT_OUTPUT_INTERNAL_H */
