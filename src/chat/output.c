/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/output.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "chat/output_format.h"

/* Design notes.
 *
 * What was not told yet is in `pending` from `at` on.  Outside of calls that is at most
 * the beginning of a tag.  Inside of one it is all of it until its name is known, since
 * it may turn out to be none; from then on it is told byte by byte.
 *
 * A call is read by its end tag first and its JSON second: a tag in a string ends it too,
 * as it does in vLLM.  The JSON is watched rather than checked: where the arguments begin
 * and end is all that must be known to pass them on. */

/* Bytes that may be read as calls that turn out to be none.  Each tag in them is looked
 * at again: whoever makes a model write <tool_call>{": a hundred thousand times would
 * keep the engine busy for minutes. */
enum { MAX_BYTES_IN_VAIN = 16 << 20 };

#define THINK_BEGIN "<think>"
#define THINK_END   "</think>"

typedef enum phase { REASONING, CONTENT, CALL, FORMATTED_CALLS } phase;

typedef enum call_state {
    BEFORE_OBJECT,
    BEFORE_KEY,
    IN_KEY,
    BEFORE_COLON,
    BEFORE_VALUE,
    IN_VALUE,
    BEHIND_VALUE,
    BEHIND_OBJECT,
    BROKEN,
} call_state;

typedef enum call_member { OTHER, NAME, ARGUMENTS } call_member;

/* One call, while it is read.  Offsets are into pending. */
typedef struct call_reader {
    call_state state;
    call_member member;
    size_t scan;  /* the next byte to look at */
    size_t begin; /* of the key or value that scan is in */
    size_t arguments_begin, arguments_end;
    int64_t depth;
    bool in_string, is_escaped;
    bool has_name, has_arguments;
} call_reader;

struct cohort_output {
    cohort_output_options options;
    cohort_output_sink sink;
    void *user_data;
    phase phase;
    output_text pending;
    size_t at;
    call_reader call;
    int32_t n_calls;
    size_t bytes_in_vain;
    /* The next end of a call, or how far there is none: it is looked for once, however
     * many calls might begin before it. */
    bool has_end;
    size_t end, no_end_before;
    /* Of calls in another format than Hermes': */
    bool is_within; /* there was one, or what goes with them */
    size_t wanted;  /* bytes from at on that are worth another look */
};

/* ---- telling ----------------------------------------------------------------------- */

static void tell(cohort_output *self, cohort_output_kind kind, const char *text,
                 size_t size) {
    if (kind == COHORT_OUTPUT_CONTENT && (self->n_calls || self->options.only_calls))
        return;
    if (size) self->sink(self->user_data, kind, self->n_calls - 1, text, size);
}

/* Tells what is up to a place in pending. */
static void tell_until(cohort_output *self, cohort_output_kind kind, size_t end) {
    tell(self, kind, self->pending.bytes + self->at, end - self->at);
    self->at = end;
}

/* ---- tags -------------------------------------------------------------------------- */

/* How much of a tag may be at the end of a text. */
static size_t overlap(const char *text, size_t size, const char *tag) {
    size_t most = strlen(tag) - 1;
    for (size_t n = most < size ? most : size; n; n--)
        if (!memcmp(text + size - n, tag, n)) return n;
    return 0;
}

/* The first of the tags from at on: where, and which (-1: none is whole; where then is
 * what is sure to be in none). */
static int find_tag(const cohort_output *self, size_t at, const char *const *tags,
                    int n_tags, size_t *out_where) {
    const char *text = self->pending.bytes + at;
    size_t size = self->pending.size - at, held = 0, where = size;
    int which = -1;
    for (int i = 0; size && i < n_tags; i++) {
        const char *found = memmem(text, size, tags[i], strlen(tags[i]));
        if (found && (size_t)(found - text) < where) {
            where = (size_t)(found - text);
            which = i;
        }
        size_t part = overlap(text, size, tags[i]);
        if (part > held) held = part;
    }
    *out_where = at + (which < 0 ? size - held : where);
    return which;
}

/* ---- one call ---------------------------------------------------------------------- */

static void begin_call(cohort_output *self) {
    self->phase = CALL;
    self->call = (call_reader){.scan = self->at};
}

/* The next end tag, or what is sure to be in none, from a place on in the call. */
static bool find_end(cohort_output *self, size_t at, size_t *out_where) {
    static const char *const tags[] = {OUTPUT_CALL_END};
    if (!self->has_end || self->end < at) {
        size_t from = at > self->no_end_before ? at : self->no_end_before;
        self->has_end = find_tag(self, from, tags, 1, &self->end) == 0;
        self->no_end_before = self->end;
    }
    *out_where = self->end;
    return self->has_end;
}

/* It was none: its tag is content, and what follows is looked at again. */
static void give_up_call(cohort_output *self) {
    self->bytes_in_vain += self->call.scan - self->at;
    if (self->bytes_in_vain > MAX_BYTES_IN_VAIN) self->options.finds_calls = false;
    tell(self, COHORT_OUTPUT_CONTENT, OUTPUT_CALL_BEGIN, strlen(OUTPUT_CALL_BEGIN));
    self->phase = CONTENT;
}

/* Told from here on: nothing of it can be content any more. */
static void take_name(cohort_output *self, size_t end) {
    call_reader *call = &self->call;
    output_text name = {0};
    const char *at = self->pending.bytes + call->begin;
    if (!cohort_output_read_string(&at, self->pending.bytes + end, &name) || !name.size) {
        call->state = BROKEN;
    } else {
        self->n_calls++;
        call->has_name = true;
        tell(self, COHORT_OUTPUT_CALL, name.bytes, name.size);
        if (call->has_arguments)
            tell(self, COHORT_OUTPUT_ARGUMENTS,
                 self->pending.bytes + call->arguments_begin,
                 call->arguments_end - call->arguments_begin);
        self->at = end;
    }
    self->pending.is_short |= name.is_short;
    free(name.bytes);
}

static void end_value(cohort_output *self, size_t end) {
    call_reader *call = &self->call;
    call->state = BEHIND_VALUE;
    if (call->member == NAME) {
        take_name(self, end);
    } else if (call->member == ARGUMENTS) {
        call->has_arguments = true;
        call->arguments_begin = call->begin;
        call->arguments_end = end;
        if (call->has_name) tell_until(self, COHORT_OUTPUT_ARGUMENTS, end);
    }
}

static void end_key(cohort_output *self, size_t end) {
    call_reader *call = &self->call;
    const char *key = self->pending.bytes + call->begin;
    size_t size = end - call->begin;
    call->state = BEFORE_COLON;
    call->member = OTHER;
    if (size == strlen("\"name\"") && !memcmp(key, "\"name\"", size) && !call->has_name)
        call->member = NAME;
    if (size == strlen("\"arguments\"") && !memcmp(key, "\"arguments\"", size) &&
        !call->has_arguments)
        call->member = ARGUMENTS;
}

/* Is the string that c belongs to at its end? */
static bool ends_string(call_reader *call, char c) {
    if (call->is_escaped || c == '\\')
        call->is_escaped = !call->is_escaped;
    else if (c == '"')
        return true;
    return false;
}

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

/* What comes between values; a value that ended before c came is among it. */
static void scan_mark(call_reader *call, char c) {
    if (is_space(c)) return;
    if (call->state == BEFORE_OBJECT && c == '{')
        call->state = BEFORE_KEY;
    else if (call->state == BEFORE_COLON && c == ':')
        call->state = BEFORE_VALUE;
    else if (call->state == BEHIND_VALUE && c == ',')
        call->state = BEFORE_KEY;
    else if (call->state == BEHIND_VALUE && c == '}')
        call->state = BEHIND_OBJECT;
    else
        call->state = BROKEN;
}

static void scan_value(cohort_output *self, char c) {
    call_reader *call = &self->call;
    bool is_over = false;
    if (call->in_string) {
        call->in_string = !ends_string(call, c);
        is_over = !call->in_string && !call->depth;
    } else if (c == '"') {
        call->in_string = true;
    } else if (c == '{' || c == '[') {
        call->depth++;
    } else if ((c == '}' || c == ']') && call->depth) {
        is_over = --call->depth == 0;
    } else if (!call->depth && (c == '}' || c == ',' || is_space(c))) {
        end_value(self, call->scan); /* a number, true, false or null */
        if (call->state != BROKEN) scan_mark(call, c);
    }
    if (is_over) end_value(self, call->scan + 1);
}

static void scan_byte(cohort_output *self, char c) {
    call_reader *call = &self->call;
    switch (call->state) {
    case BEFORE_KEY:
        if (is_space(c)) return;
        call->begin = call->scan;
        call->state = c == '"' ? IN_KEY : BROKEN;
        return;
    case IN_KEY:
        if (ends_string(call, c)) end_key(self, call->scan + 1);
        return;
    case BEFORE_VALUE:
        if (is_space(c)) return;
        call->begin = call->scan;
        call->state = IN_VALUE;
        if (strchr(",:]}", c) || (call->member == NAME && c != '"'))
            call->state = BROKEN;
        else if (call->member == ARGUMENTS && call->has_name)
            self->at = call->scan;
        if (call->state == IN_VALUE) scan_value(self, c);
        return;
    case IN_VALUE: scan_value(self, c); return;
    case BROKEN: return;
    default: scan_mark(call, c);
    }
}

/* Tags count outside of strings alone: an argument may be a text with a tag in it. */
static bool is_in_text(const call_reader *call) {
    return call->state == IN_KEY || (call->state == IN_VALUE && call->in_string);
}

/* Scans up to the tag that ends the call, or as far as is sure to be no tag.  True: there
 * it is. */
static bool scan_call(cohort_output *self, bool is_end) {
    const size_t tag_size = strlen(OUTPUT_CALL_END);
    call_reader *call = &self->call;
    for (; call->scan < self->pending.size && call->state != BROKEN; call->scan++) {
        const char *at = self->pending.bytes + call->scan;
        size_t left = self->pending.size - call->scan;
        size_t size = left < tag_size ? left : tag_size;
        if (*at == '<' && !is_in_text(call) && !memcmp(at, OUTPUT_CALL_END, size) &&
            (size == tag_size || !is_end))
            return size == tag_size;
        scan_byte(self, *at);
    }
    if (call->state != BROKEN || !call->has_name) return false;
    bool has_end = find_end(self, call->scan, &call->scan);
    if (!has_end && is_end) call->scan = self->pending.size;
    return has_end;
}

/* False: pending says no more for now. */
static bool read_call(cohort_output *self, bool is_end) {
    call_reader *call = &self->call;
    bool has_tag = scan_call(self, is_end);
    if (!call->has_name && (has_tag || is_end || call->state == BROKEN)) {
        give_up_call(self);
        return true;
    }
    if (call->has_name) {
        if (call->state == IN_VALUE && call->member == ARGUMENTS)
            tell_until(self, COHORT_OUTPUT_ARGUMENTS, call->scan);
        /* A key is read whole. */
        self->at = call->state == IN_KEY ? call->begin : call->scan;
    }
    if (!has_tag && !is_end) return false;
    if (has_tag) self->at += strlen(OUTPUT_CALL_END);
    self->phase = CONTENT;
    return true;
}

/* ---- text -------------------------------------------------------------------------- */

static bool read_reasoning(cohort_output *self, bool is_end) {
    static const char *const tags[] = {THINK_BEGIN, THINK_END, OUTPUT_CALL_BEGIN};
    size_t where;
    int n_tags = self->options.reasoning == COHORT_REASONING_QWEN3 ? 3 : 2;
    int which = find_tag(self, self->at, tags, n_tags, &where);
    if (which < 0 && is_end) where = self->pending.size;
    tell_until(self, COHORT_OUTPUT_REASONING, where);
    if (which < 0) return false;
    if (which > 0) self->phase = CONTENT;
    if (which < 2) self->at += strlen(tags[which]);
    return true;
}

static bool read_content(cohort_output *self, bool is_end) {
    static const char *const tags[] = {OUTPUT_CALL_BEGIN};
    const cohort_output_format *format = self->options.format;
    bool is_hermes = cohort_output_format_is_hermes(format);
    int n_tags = is_hermes ? 1 : format->begins[1] ? 2 : 1, which;
    size_t where;
    which = find_tag(self, self->at, is_hermes ? tags : format->begins,
                     self->options.finds_calls ? n_tags : 0, &where);
    if (which < 0 && is_end) where = self->pending.size;
    tell_until(self, COHORT_OUTPUT_CONTENT, where);
    if (which < 0) return false;
    if (!is_hermes) {
        self->phase = FORMATTED_CALLS;
        self->is_within = false;
        self->wanted = 0;
        return true;
    }
    self->at += strlen(OUTPUT_CALL_BEGIN);
    begin_call(self);
    return true;
}

/* What began is no call: what the reader has passed, or its first character, is content,
 * and what follows is looked at again. */
static void give_up_formatted(cohort_output *self, size_t n_looked_at, size_t passed) {
    self->phase = CONTENT;
    if (passed > self->at) {
        tell_until(self, COHORT_OUTPUT_CONTENT, passed);
        return;
    }
    self->bytes_in_vain += n_looked_at;
    if (self->bytes_in_vain > MAX_BYTES_IN_VAIN) self->options.finds_calls = false;
    if (!self->is_within) tell_until(self, COHORT_OUTPUT_CONTENT, self->at + 1);
}

/* A call that may have megabytes of arguments is looked at anew when it has grown by a
 * sixteenth, not for every token. */
static bool read_formatted(cohort_output *self, bool is_end) {
    const cohort_output_format *format = self->options.format;
    const char *text = self->pending.bytes;
    size_t n_there = self->pending.size - self->at;
    if (!is_end && n_there < self->wanted) return false;
    format_source from = {.at = text + self->at,
                          .end = text + self->pending.size,
                          .is_within = self->is_within,
                          .tools = self->options.tools};
    output_call call = {0};
    format_found found = format->read(format, &from, &call);
    self->pending.is_short |=
        call.name.is_short || call.arguments.is_short || call.id.is_short;
    self->wanted = 0;
    if (found == FORMAT_MORE && !is_end) {
        self->wanted = n_there + n_there / 16 + 1;
    } else if (found == FORMAT_CALL || found == FORMAT_SKIP) {
        self->at = (size_t)(from.at - text);
        self->is_within = true;
    } else {
        give_up_formatted(self, n_there, (size_t)(from.at - text));
    }
    if (found == FORMAT_CALL) {
        self->n_calls++;
        tell(self, COHORT_OUTPUT_CALL, call.name.bytes, call.name.size);
        tell(self, COHORT_OUTPUT_CALL_ID, call.id.bytes, call.id.size);
        tell(self, COHORT_OUTPUT_ARGUMENTS, call.arguments.bytes, call.arguments.size);
    }
    cohort_output_call_deinit(&call);
    return !self->wanted;
}

static void advance(cohort_output *self, bool is_end) {
    bool goes_on = true;
    while (goes_on && !self->pending.is_short) {
        if (self->phase == REASONING)
            goes_on = read_reasoning(self, is_end);
        else if (self->phase == CONTENT)
            goes_on = read_content(self, is_end);
        else if (self->phase == CALL)
            goes_on = read_call(self, is_end);
        else
            goes_on = read_formatted(self, is_end);
    }
}

/* Forgets what was told: what begins in it is not looked at again. */
static void shift(cohort_output *self) {
    call_reader *call = &self->call;
    size_t *const offsets[] = {&call->scan,          &call->begin, &call->arguments_begin,
                               &call->arguments_end, &self->end,   &self->no_end_before};
    if (!self->at) return;
    self->has_end &= self->end >= self->at;
    self->pending.size -= self->at;
    memmove(self->pending.bytes, self->pending.bytes + self->at, self->pending.size);
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++)
        *offsets[i] -= *offsets[i] < self->at ? *offsets[i] : self->at;
    self->at = 0;
}

/* ---- from outside ------------------------------------------------------------------ */

cohort_status cohort_output_create(const cohort_output_options *options,
                                   cohort_output_sink sink, void *user_data,
                                   cohort_output **out_output) {
    cohort_output *self = calloc(1, sizeof *self);
    *out_output = self;
    if (!self) return COHORT_FAIL(COHORT_E_NOMEM, "a reader of a model's output");
    *self = (cohort_output){.options = *options, .sink = sink, .user_data = user_data};
    bool thinks = options->reasoning && !options->begins_in_content;
    self->phase = thinks ? REASONING : CONTENT;
    return COHORT_OK;
}

void cohort_output_feed(cohort_output *output, const char *text, size_t size) {
    shift(output);
    cohort_output_text_add(&output->pending, text, size);
    advance(output, false);
}

cohort_status cohort_output_finish(cohort_output *output) {
    shift(output);
    advance(output, true);
    return output->pending.is_short
               ? COHORT_FAIL(COHORT_E_NOMEM, "taking a model's output apart")
               : COHORT_OK;
}

void cohort_output_destroy(cohort_output *output) {
    if (!output) return;
    free(output->pending.bytes);
    free(output);
}

cohort_status cohort_reasoning_parse(const char *name, cohort_reasoning *out_reasoning) {
    *out_reasoning = COHORT_REASONING_NONE;
    if (!name || !*name) return COHORT_OK;
    if (!strcmp(name, "deepseek_r1"))
        *out_reasoning = COHORT_REASONING_DEEPSEEK_R1;
    else if (!strcmp(name, "qwen3"))
        *out_reasoning = COHORT_REASONING_QWEN3;
    else
        return COHORT_FAIL(COHORT_E_INVALID,
                           "no reasoning parser is called '%.60s'; there are deepseek_r1 "
                           "and qwen3",
                           name);
    return COHORT_OK;
}

/* Where the last of them begins, 0 where there is none; one more than that else. */
static size_t find_last(const char *text, size_t size, const char *word) {
    size_t length = strlen(word);
    for (size_t at = size >= length ? size - length + 1 : 0; at; at--)
        if (!memcmp(text + at - 1, word, length)) return at;
    return 0;
}

bool cohort_reasoning_ends_in(cohort_reasoning reasoning, const char *prompt,
                              size_t size) {
    size_t end = find_last(prompt, size, THINK_END);
    if (!reasoning || end < find_last(prompt, size, THINK_BEGIN)) return false;
    /* Of an earlier turn, in the format that Qwen's templates write. */
    if (reasoning == COHORT_REASONING_QWEN3 &&
        end < find_last(prompt, size, "<|im_start|>"))
        return false;
    return end > 0;
}
