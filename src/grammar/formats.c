/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "grammar/schema_internal.h"

/* Design notes.
 *
 * Formats as patterns, each as its standard has it: RFC 3339 (dates, times, and ISO
 * 8601's durations; the last part of one may have a fraction), 3986 and 3987, 4122, 4291,
 * 5321, 1123, 6570, 6901.  "regex" is an annotation: no pattern knows which are.  What a
 * pattern can't count (a host's name of at most 253 bytes) is left.
 *
 * Beside bounds of the length, or a pattern, every state comes as often as the other has
 * states.  So there the rarest spellings go: leap seconds by offset, addresses in
 * brackets, quoted names of mailboxes; and lengths end where counting costs too much. */

#define YEAR   "(000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
#define FOURTH "(0[48]|[2468][048]|[13579][26])"
#define DATE                                                                             \
    "(" YEAR "-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]" \
    "|30)|02-(0[1-9]|1[0-9]|2[0-8]))|([0-9]{2}" FOURTH "|" FOURTH "00)-02-29)"
#define OFFSET "([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define PART   "(\\.[0-9]+)?"
#define TIME                                                         \
    "(([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]" PART OFFSET "|23:59" \
    ":60" PART "[Zz])"

#define OCTET "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define IPV4  "(" OCTET "\\.){3}" OCTET
#define GROUP "[0-9A-Fa-f]{1,4}"
#define LAST  "(" GROUP ":" GROUP "|" IPV4 ")"
#define IPV6                                                                            \
    "((" GROUP ":){6}" LAST "|::(" GROUP ":){5}" LAST "|(" GROUP ")?::(" GROUP          \
    ":){4}" LAST "|((" GROUP ":){0,1}" GROUP ")?::(" GROUP ":){3}" LAST "|((" GROUP     \
    ":){0,2}" GROUP ")?::(" GROUP ":){2}" LAST "|((" GROUP ":){0,3}" GROUP ")?::" GROUP \
    ":" LAST "|((" GROUP ":){0,4}" GROUP ")?::" LAST "|((" GROUP ":){0,5}" GROUP        \
    ")?::" GROUP "|((" GROUP ":){0,6}" GROUP ")?::)"

#define DAYS  "[0-9]+D"
#define SECS  "[0-9]+(\\.[0-9]+)?S"
#define CLOCK "T([0-9]+H([0-9]+M(" SECS ")?)?|[0-9]+M(" SECS ")?|" SECS ")"
#define DURATION                                                                        \
    "P(((" DAYS "|[0-9]+M(" DAYS ")?|[0-9]+Y([0-9]+M(" DAYS ")?)?)(" CLOCK ")?)|" CLOCK \
    "|[0-9]+W)"

#define LABEL    "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define HOSTNAME LABEL "(\\." LABEL ")*"
#define ATOM     "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
#define MAILBOX  ATOM "(\\." ATOM ")*"
#define QUOTED   "\"([ !#-\\[\\]-~]|\\\\[ -~])*\""

/* Of RFC 3986, and with more characters of 3987; SUB: what a host's name may have. */
#define PERCENT           "%[0-9A-Fa-f]{2}"
#define SUB               "A-Za-z0-9._~!$&'()*+,;=\\-"
#define CHARS(more)       "([" SUB more "]|" PERCENT ")"
#define PLAIN_HOST(more)  "(" CHARS(more ":") "*@)?" CHARS(more) "*(:[0-9]*)?"
#define LITERAL           "\\[(" IPV6 "|[vV][0-9A-Fa-f]+\\.[" SUB ":]+)\\]"
#define HOST(more)        "(" CHARS(more ":") "*@)?(" CHARS(more) "*|" LITERAL ")(:[0-9]*)?"
#define SEGMENTS(more)    "(/" CHARS(more ":@") "*)*"
#define ROOTED(more)      "/(" CHARS(more ":@") "+" SEGMENTS(more) ")?"
#define TAIL(more, extra) "(\\?" CHARS(more extra ":@/?") "*)?(#" CHARS(more ":@/?") "*)?"
#define SCHEME            "[A-Za-z][A-Za-z0-9+.-]*:"
#define ABSOLUTE(host, more, extra)                                                      \
    SCHEME "(//" host SEGMENTS(more) "|" ROOTED(more) "|" CHARS(more ":@") "+" SEGMENTS( \
        more) ")?" TAIL(more, extra)
#define RELATIVE(host, more, extra)                                              \
    "(//" host SEGMENTS(more) "|" ROOTED(more) "|" CHARS(more "@") "+" SEGMENTS( \
        more) ")?" TAIL(more, extra)
/* The same in fewer states, without addresses in brackets. */
#define ANY(more) CHARS(more ":@/?")
#define SHORT(more)                                                             \
    SCHEME "(//" PLAIN_HOST(more) "([/?]" ANY(more) "*)?|/?(" CHARS(more ":@?") \
        ANY(more) "*)?)(#" ANY(more) "*)?"
#define PRIVATE \
    "\\ue000-\\uf8ff\xf3\xb0\x80\x80-\xf3\xbf\xbf\xbd\xf4\x80\x80\x80-\xf4\x8f\xbf\xbd"
#define UNICODE                                                                      \
    "\\u00a0-\\ud7ff\\uf900-\\ufdcf\\ufdf0-\\uffef\xf0\x90\x80\x80-\xf0\x9f\xbf\xbd" \
    "\xf0\xa0\x80\x80-\xf0\xaf\xbf\xbd\xf0\xb0\x80\x80-\xf0\xbf\xbf\xbd"             \
    "\xf1\x80\x80\x80-\xf1\x8f\xbf\xbd\xf1\x90\x80\x80-\xf1\x9f\xbf\xbd"             \
    "\xf1\xa0\x80\x80-\xf1\xaf\xbf\xbd\xf1\xb0\x80\x80-\xf1\xbf\xbf\xbd"             \
    "\xf2\x80\x80\x80-\xf2\x8f\xbf\xbd\xf2\x90\x80\x80-\xf2\x9f\xbf\xbd"             \
    "\xf2\xa0\x80\x80-\xf2\xaf\xbf\xbd\xf2\xb0\x80\x80-\xf2\xbf\xbf\xbd"             \
    "\xf3\x80\x80\x80-\xf3\x8f\xbf\xbd\xf3\x90\x80\x80-\xf3\x9f\xbf\xbd"             \
    "\xf3\xa1\x80\x80-\xf3\xaf\xbf\xbd"
#define POINTER "(/([^~/]|~[01])*)*"
/* RFC 6570, with the apostrophe that an erratum of it lets in. */
#define NAME_CHAR "([A-Za-z0-9_]|" PERCENT ")"
#define VARIABLE  NAME_CHAR "(\\.?" NAME_CHAR ")*(:[1-9][0-9]{0,3}|\\*)?"
#define TEMPLATE                                                           \
    "([!#$&'()*+,\\-./0-9:;=?@A-Z\\[\\]_a-z~" UNICODE PRIVATE "]|" PERCENT \
    "|\\{[+#./;?&]?" VARIABLE "(," VARIABLE ")*\\})*"

static const struct {
    const char *name, *pattern, *beside; /* beside bounds or a pattern; NULL: the same */
    int32_t most;                        /* bytes, where they are counted; 0: any */
} formats[] = {
    {"date", DATE, NULL, 0},
    {"time", TIME, NULL, 0},
    {"date-time", DATE "[Tt]" TIME, NULL, 0},
    {"duration", DURATION, NULL, 0},
    {"uuid", "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", NULL, 0},
    {"ipv4", IPV4, NULL, 0},
    {"ipv6", IPV6, NULL, 0},
    {"hostname", HOSTNAME, NULL, 253},
    {"email", "(" MAILBOX "|" QUOTED ")@(" HOSTNAME "|\\[(" IPV4 "|IPv6:" IPV6 ")\\])",
     MAILBOX "@" HOSTNAME, 254},
    {"uri", ABSOLUTE(HOST(""), "", ""), SHORT(""), 2083},
    {"uri-reference", "(" ABSOLUTE(HOST(""), "", "") "|" RELATIVE(HOST(""), "", "") ")",
     "(" ABSOLUTE(PLAIN_HOST(""), "", "") "|" RELATIVE(PLAIN_HOST(""), "", "") ")", 2083},
    {"iri", ABSOLUTE(HOST(UNICODE), UNICODE, PRIVATE), SHORT(UNICODE), 255},
    {"uri-template", TEMPLATE, NULL, 2083},
    {"json-pointer", POINTER, NULL, 1000},
    {"relative-json-pointer", "(0|[1-9][0-9]*)(#|" POINTER ")", NULL, 1000},
};

static int find(const char *name) {
    for (size_t i = 0; name && i < sizeof formats / sizeof *formats; i++)
        if (!strcmp(formats[i].name, name)) return (int)i;
    return -1;
}

bool cohort_schema_knows_format(const char *name) { return find(name) >= 0; }

int32_t cohort_schema_format_most(const char *name, int32_t most) {
    int32_t longest = formats[find(name)].most;
    return longest && most > longest ? longest : most;
}

/* A leap second is 23:59:60 in UTC: by offset (whole and half hours), other hours. */
static void leap_seconds(FILE *out) {
    for (int hour = 0; hour < 24; hour++) {
        int before = 23 - hour;
        fprintf(out,
                "|%02d:(59:60" PART "(\\+%02d:00|-%02d:00)|29:60" PART
                "(\\+%02d:30|-%02d:30))",
                hour, (hour + 1) % 24, before, hour, before);
    }
}

cohort_expr cohort_schema_format(cohort_builder *builder, const char *name,
                                 bool is_beside) {
    const cohort_regex_options options = {.in_json = true, .name = "format"};
    char text[16384];
    int index = find(name);
    if (index < 0) return COHORT_EXPR_NEVER;
    const char *pattern = formats[index].pattern;
    if (is_beside && formats[index].beside) pattern = formats[index].beside;
    bool is_time = !strcmp(name, "time") || !strcmp(name, "date-time");
    FILE *out = fmemopen(text, sizeof text, "w");
    if (!out) {
        COHORT_BUILDER_FAIL(builder, COHORT_E_NOMEM, "a format");
        return COHORT_EXPR_NEVER;
    }
    if (is_time && !is_beside) {
        fputs(strcmp(name, "time") ? DATE "[Tt](" TIME : "(" TIME, out);
        leap_seconds(out);
        fputc(')', out);
    } else {
        fputs(pattern, out);
    }
    fclose(out);
    return cohort_regex_parse(builder, text, strlen(text), &options);
}
