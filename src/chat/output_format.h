/* SPDX-License-Identifier: Apache-2.0 */
/* chat/output_format.h - the forms in which models write calls of tools, beside Hermes';
 * private to the folder.
 *
 * output.c looks for what begins calls; from there on a form's read is asked, again with
 * more text where it could not say yet.  A call is told once it is whole.
 */
#ifndef COHORT_CHAT_OUTPUT_FORMAT_H
#define COHORT_CHAT_OUTPUT_FORMAT_H

#include "chat/output_internal.h"

typedef enum format_found {
    FORMAT_MORE, /* that depends on what follows */
    FORMAT_CALL, /* at is behind it */
    FORMAT_SKIP, /* what is before at belongs to calls, and is none */
    FORMAT_NONE, /* no call: whatever follows; at may be behind what has none in it */
} format_found;

typedef struct format_source {
    const char *at, *end;
    bool is_within;     /* behind a call or what was skipped; else at the beginning */
    const cJSON *tools; /* those of the chat, or NULL */
} format_source;

struct cohort_output_format {
    const char *name;      /* as --tool-call-parser has it */
    const char *begins[3]; /* each with an ASCII character first; up to a NULL */
    format_found (*read)(const cohort_output_format *self, format_source *from,
                         output_call *out);
    /* What only templates of such models have; NULL: no template tells. */
    const char *in_template;
    /* Of the forms that share a reader: what stands around. */
    const char *open, *middle, *close, *end;
    bool uses_types;    /* of parameters: it needs the tools */
    bool has_short_ids; /* its templates take ids of nine letters and digits alone */
};

/* Skips spaces and what there is of a set of other characters. */
void cohort_output_skip(const char **at, const char *end, const char *more);
/* Takes a word that is there.  False: it is not; out_may: it may be on its way. */
bool cohort_output_take(const char **at, const char *end, const char *word,
                        bool *out_may);
/* Bytes of the object or list that begins at text; 0: it has no end yet. */
size_t cohort_output_extent(const char *text, const char *end);
/* The object at *at, which has a name and arguments or parameters. */
format_found cohort_output_read_object(const char **at, const char *end,
                                       output_call *out);

extern const cohort_output_format cohort_output_format_llama3_json,
    cohort_output_format_granite, cohort_output_format_phi4_mini_json,
    cohort_output_format_jamba, cohort_output_format_internlm;
extern const cohort_output_format cohort_output_format_mistral;
extern const cohort_output_format cohort_output_format_deepseek_v3,
    cohort_output_format_deepseek_v31, cohort_output_format_kimi_k2;
extern const cohort_output_format cohort_output_format_qwen3_coder,
    cohort_output_format_qwen3_xml;

#endif /* COHORT_CHAT_OUTPUT_FORMAT_H */
