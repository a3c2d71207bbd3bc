/* SPDX-License-Identifier: Apache-2.0 */
/* chat/output.h - what a model wrote, taken apart: thoughts, content, calls of tools.
 *
 *   <think>hm</think>Well. <tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>
 *          REASONING CONTENT                   CALL               ARGUMENTS
 *
 * Text comes in pieces of any size and is told as soon as it is sure what it is: of a tag
 * that may be on its way nothing is told, and all of it once it turns out to be none.
 * Names and rules are those of vLLM 0.32: thoughts come first, also without a tag that
 * opens them; a call's arguments are passed on as the model spells them; behind the first
 * call there is no content.  Of formats other than Hermes' a call is told once it is
 * whole.  What stands between the tags and names no function is
 * content as it was written, where vLLM's stream loses it; and so is all that follows
 * where very much was read as calls in vain.
 *
 * Ownership: texts handed to a sink live as long as its call.
 * Threads:   an output belongs to one thread.
 * Errors:    short memory is kept and told by finish; the sink hears nothing from then
 * on.
 */
#ifndef COHORT_CHAT_OUTPUT_H
#define COHORT_CHAT_OUTPUT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/status.h"

typedef enum cohort_reasoning {
    COHORT_REASONING_NONE,
    COHORT_REASONING_DEEPSEEK_R1,
    COHORT_REASONING_QWEN3, /* a call ends thoughts as well */
} cohort_reasoning;

typedef enum cohort_output_kind {
    COHORT_OUTPUT_REASONING,
    COHORT_OUTPUT_CONTENT,
    COHORT_OUTPUT_CALL,      /* a call begins: the whole name of its function */
    COHORT_OUTPUT_ARGUMENTS, /* of the last call, in pieces: JSON */
    COHORT_OUTPUT_CALL_ID,   /* of the last call, before its arguments: as written */
} cohort_output_kind;

/* call: which one, from 0; of no meaning for text. */
typedef void (*cohort_output_sink)(void *user_data, cohort_output_kind kind, int32_t call,
                                   const char *text, size_t size);

/* How calls are written; NULL: as Hermes does. */
typedef struct cohort_output_format cohort_output_format;

typedef struct cohort_output_options {
    const cohort_output_format *format;
    const cJSON *tools; /* of the chat, for formats that use types; borrowed */
    cohort_reasoning reasoning;
    bool begins_in_content; /* the prompt has ended the thoughts already */
    bool finds_calls;       /* else their tags are content */
    bool only_calls;        /* a grammar held it to calls: there is no content */
} cohort_output_options;

typedef struct cohort_output cohort_output;

cohort_status cohort_output_create(const cohort_output_options *options,
                                   cohort_output_sink sink, void *user_data,
                                   cohort_output **out_output);
void cohort_output_feed(cohort_output *output, const char *text, size_t size);
/* There is no more: what was held back is told. */
cohort_status cohort_output_finish(cohort_output *output);
void cohort_output_destroy(cohort_output *output); /* accepts NULL */

/* By its name as --tool-call-parser has it; NULL and "": none. */
cohort_status cohort_output_format_find(const char *name,
                                        const cohort_output_format **out_format);
/* That a chat template speaks of; NULL: none is known. */
const cohort_output_format *cohort_output_format_of_template(const char *text);
/* Hermes' own; NULL is, too. */
bool cohort_output_format_is_hermes(const cohort_output_format *format);
const char *cohort_output_format_name(const cohort_output_format *format);
/* Is a value what the schema of its parameter says?  NULL: no. */
bool cohort_output_format_uses_types(const cohort_output_format *format);
/* Must ids of calls be nine letters and digits?  NULL: no. */
bool cohort_output_format_has_short_ids(const cohort_output_format *format);

/* "deepseek_r1" or "qwen3", NULL and "": none. */
cohort_status cohort_reasoning_parse(const char *name, cohort_reasoning *out_reasoning);
/* Has a prompt ended the thoughts that its answer might begin with? */
bool cohort_reasoning_ends_in(cohort_reasoning reasoning, const char *prompt,
                              size_t size);

/* All calls of a whole content, which must all be right: JSON with a name and arguments,
 * which are spelt anew as Python's json.dumps does (numbers as they were).  False: there
 * are none, the text is content, and the sink has heard nothing.  only_calls: those that
 * are whole are told though the last was cut off, which is content no more. */
bool cohort_output_find_calls(const char *content, size_t size, bool only_calls,
                              cohort_output_sink sink, void *user_data);

#endif /* COHORT_CHAT_OUTPUT_H */
