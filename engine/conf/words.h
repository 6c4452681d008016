/*
 * words: what the tables of keys are written in: a macro for each kind of key, and the words that
 * both configurations know.
 *
 * type, member: where the value goes. standard: the default's text, or NULL.
 */
#pragma once
#include "engine/conf/reader.h"

extern const struct reader_word word_protocols[];    /* enum conf_protocol */
extern const struct reader_word word_durabilities[]; /* enum conf_durability */
extern const struct reader_word word_urings[];       /* enum conf_uring */
extern const struct reader_word word_levels[];       /* enum conf_log_level */
extern const struct reader_word word_switches[];     /* bool */

#define KEY_INTEGER(key, of_kind, type, member, text, least, most)                                 \
    {                                                                                              \
        .name = (key), .kind = (of_kind), READER_AT(type, member), .standard = (text),             \
        .min = (least), .max = (most)                                                              \
    }
#define KEY_NUMBER(key, type, member, text, least, most)                                           \
    KEY_INTEGER(key, READER_NUMBER, type, member, text, least, most)
#define KEY_SIZE(key, type, member, text, least, most)                                             \
    KEY_INTEGER(key, READER_SIZE, type, member, text, least, most)
#define KEY_DURATION(key, type, member, text, least, most)                                         \
    KEY_INTEGER(key, READER_DURATION, type, member, text, least, most)
#define KEY_PERMISSIONS(key, type, member, text)                                                   \
    KEY_INTEGER(key, READER_PERMISSIONS, type, member, text, 0, 07777)
#define KEY_WORD(key, type, member, text, list)                                                    \
    {                                                                                              \
        .name = (key), .kind = READER_WORD, READER_AT(type, member), .standard = (text),           \
        .words = (list)                                                                            \
    }
#define KEY_ADDRESS(key, type, member)                                                             \
    {                                                                                              \
        .name = (key), .kind = READER_ADDRESS, READER_AT(type, member)                             \
    }
/* Further members may follow: .required, .standard. */
#define KEY_TEXT(key, type, member, test, text, ...)                                               \
    {                                                                                              \
        .name = (key), .kind = READER_TEXT, READER_AT(type, member), .good = (test),               \
        .expected = (text), ##__VA_ARGS__                                                          \
    }
#define KEY_SECTION(key, below)                                                                    \
    {                                                                                              \
        .name = (key), .kind = READER_SECTION, .keys = (below)                                     \
    }
#define KEY_ROWS(key, type, member, columns, text)                                                 \
    {                                                                                              \
        .name = (key), .kind = READER_ROWS, READER_MANY(type, member), .keys = (columns),          \
        .standard = (text)                                                                         \
    }
/* Further members follow: .min, .max, .required, .standard. */
#define KEY_LIST(key, type, member, of_kind, ...)                                                  \
    {                                                                                              \
        .name = (key), .kind = READER_LIST, .item_kind = (of_kind), READER_MANY(type, member),     \
        __VA_ARGS__                                                                                \
    }
#define KEY_END                                                                                    \
    {                                                                                              \
        .name = NULL                                                                               \
    }
