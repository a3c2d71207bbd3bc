/* SPDX-License-Identifier: Apache-2.0 */
/* base/option.h - one row says all there is to know of one option: its name, where it
 * lies, its default, its range and its help.
 *
 * A component keeps a table of its own options over its own struct, in its own folder.
 * The command line, --help, man pages, completions, the environment, files of --config
 * and what workers are told all go through these rows, and an option has one text
 * whichever of them it comes from: "name=text" is also how it travels.
 *
 * Ownership: texts are borrowed, from whoever is parsed.
 */
#ifndef COHORT_BASE_OPTION_H
#define COHORT_BASE_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cohort/status.h"

typedef enum cohort_option_kind {
    COHORT_KIND_TEXT,
    COHORT_KIND_COUNT,
    COHORT_KIND_BYTES,
    COHORT_KIND_SECONDS, /* in an int64_t: nanoseconds */
    COHORT_KIND_NUMBER,
    COHORT_KIND_FLAG,
    COHORT_KIND_LIST, /* all words up to the next option; as a field, NULL-terminated */
    COHORT_KIND_EACH, /* one word, and the option again for more */
    COHORT_KIND_WORD, /* one of several; as a number, which of them */
    COHORT_N_KINDS
} cohort_option_kind;

typedef enum cohort_field_type {
    COHORT_FIELD_TEXT,
    COHORT_FIELD_TEXTS,
    COHORT_FIELD_BOOL,
    COHORT_FIELD_INT32,
    COHORT_FIELD_UINT32, /* an enum, too */
    COHORT_FIELD_INT64,
    COHORT_FIELD_UINT64,
    COHORT_FIELD_FLOAT,
    COHORT_FIELD_DOUBLE
} cohort_field_type;

enum {
    COHORT_OPTION_NEEDED = 1, /* may not be left open by an empty text */
    COHORT_OPTION_AUTO = 2,   /* "auto" and -1 are 0 */
    COHORT_OPTION_JSON = 4,   /* a JSON object, whose keys can be set one by one */
    COHORT_OPTION_SECRET = 8, /* is not shown */
};

typedef struct cohort_option {
    const char *name;  /* with dashes */
    const char *alias; /* behind one dash; NULL: none */
    cohort_option_kind kind;
    int flags;
    cohort_field_type type;
    size_t size, offset;  /* of the field */
    const char *standard; /* default; NULL: 0, false, none */
    double least, most;   /* of numbers */
    const char *words;    /* of a WORD: "auto|string|openai"; of a TEXT: usual ones */
    const char *help;     /* NULL: not the user's to set */
} cohort_option;

typedef struct cohort_option_table {
    const cohort_option *rows;
    size_t n;
} cohort_option_table;

#define COHORT_FIELD_TYPE_OF(field) \
    _Generic((field),                        \
        const char *: COHORT_FIELD_TEXT,     \
        const char **: COHORT_FIELD_TEXTS,   \
        bool: COHORT_FIELD_BOOL,             \
        int32_t: COHORT_FIELD_INT32,         \
        uint32_t: COHORT_FIELD_UINT32,       \
        int64_t: COHORT_FIELD_INT64,         \
        uint64_t: COHORT_FIELD_UINT64,       \
        float: COHORT_FIELD_FLOAT,           \
        double: COHORT_FIELD_DOUBLE)

/* Rows; a file defines OPTIONS_OF as the struct that its table is over.  OPTION_ROW is
 * for what the others do not say: more, as .alias = "tp". */
#define OPTION_ROW(kind_, name_, field_, standard_, least_, most_, help_, ...) \
    {                                                                          \
        .name = (name_), .kind = COHORT_KIND_##kind_,                          \
        .type = COHORT_FIELD_TYPE_OF(((OPTIONS_OF *)0)->field_),               \
        .size = sizeof(((OPTIONS_OF *)0)->field_),                             \
        .offset = offsetof(OPTIONS_OF, field_), .standard = (standard_),       \
        .least = (least_), .most = (most_), .help = (help_), __VA_ARGS__       \
    }
#define OPTION_TEXT(name, field, standard, help) \
    OPTION_ROW(TEXT, name, field, standard, 0, 0, help, .alias = NULL)
#define OPTION_WORD(name, field, standard, words_, help) \
    OPTION_ROW(WORD, name, field, standard, 0, 0, help, .words = (words_))
#define OPTION_FLAG(name, field, standard, help) \
    OPTION_ROW(FLAG, name, field, standard, 0, 0, help, .alias = NULL)
#define OPTION_LIST(name, field, standard, help) \
    OPTION_ROW(LIST, name, field, standard, 0, 0, help, .alias = NULL)
#define OPTION_COUNT(name, field, standard, least, most, help) \
    OPTION_ROW(COUNT, name, field, standard, least, most, help, .alias = NULL)
#define OPTION_BYTES(name, field, standard, least, most, help) \
    OPTION_ROW(BYTES, name, field, standard, least, most, help, .alias = NULL)
#define OPTION_SECONDS(name, field, standard, least, most, help) \
    OPTION_ROW(SECONDS, name, field, standard, least, most, help, .alias = NULL)
#define OPTION_NUMBER(name, field, standard, least, most, help) \
    OPTION_ROW(NUMBER, name, field, standard, least, most, help, .alias = NULL)

#define OPTION_TABLE(rows) \
    { rows, sizeof(rows) / sizeof *(rows) }

/* Sets the field; of a list, adds to it.  False where the text is no value of it: numbers
 * may be "4k" or "2.5GiB", flags "true", "1" or "yes" and their contraries. */
bool cohort_option_parse(const cohort_option *option, void *options, const char *text);
/* 0, false, NULL, an empty list. */
void cohort_option_clear(const cohort_option *option, void *options);
/* The text that parse makes the same value of, of a list item index; false where there is
 * none: an open text, the end of a list.  A text that out cannot hold is no fault of the
 * rows: size is the caller's to know. */
bool cohort_option_format(const cohort_option *option, const void *options, size_t index,
                          char *out, size_t size);
/* Words that a list takes. */
size_t cohort_option_room(const cohort_option *option);
/* "a number from 0 to 1", "uni, mp or ray": what the option takes. */
void cohort_option_describe(const cohort_option *option, char *out, size_t size);
bool cohort_flag_parse(const char *text, bool *out_flag);

/* Every field that has a default. */
void cohort_options_set_defaults(const cohort_option_table *table, void *options);
/* Are numbers within their ranges?  code, with the option's name and its range. */
cohort_status cohort_options_check(const cohort_option_table *table, const void *options,
                                   cohort_status code);
/* The row of that name, dashes and underscores the same; NULL: none. */
const cohort_option *cohort_options_find(const cohort_option_table *table,
                                         const char *name);
/* The name with underscores, as JSON and the library have it. */
void cohort_option_key(const cohort_option *option, char *out, size_t size);
void cohort_option_copy(const cohort_option *option, void *to, const void *from);
/* A COUNT's, BYTES', SECONDS' or NUMBER's value; false where it is out of range, or of
 * whole ones has a fraction. */
bool cohort_option_set_number(const cohort_option *option, void *options, double value);
double cohort_option_number(const cohort_option *option, const void *options);
/* Fields of the same name, which are of the same type. */
void cohort_options_copy(const cohort_option_table *to_table, void *to,
                         const cohort_option_table *from_table, const void *from);

/* Every text becomes a copy; false where memory is short: then some are NULL.  free_texts
 * frees them. */
bool cohort_options_copy_texts(const cohort_option_table *table, void *options);
void cohort_options_free_texts(const cohort_option_table *table, void *options);

/* "name=text" of every field that has one, NULL-terminated, in one block that the caller
 * frees; NULL: no memory. */
const char **cohort_options_to_pairs(const cohort_option_table *table,
                                     const void *options);
/* Defaults, and over them the pairs (words of a name may be parted by _, too), whose
 * items of a list follow one another.  takes_others: pairs that the table has no row for
 * are somebody else's, not an error.  options: zero before; its texts point into the
 * pairs. */
cohort_status cohort_options_from_pairs(const cohort_option_table *table, void *options,
                                        const char *const *pairs, bool takes_others);

#endif /* COHORT_BASE_OPTION_H */
