/*
 * reader: reads a YAML file into a struct by one table of keys.
 *
 * The table says everything of a key once: name, kind, bounds, default, where its value goes. From
 * it the reader makes libcyaml's schema, reads, and writes the parsed values; documents and tests
 * list it. The programs' tables are in relay_conf.c and mailboxd_conf.c, the only callers.
 */
#pragma once
#include "engine/conf/conf.h"
#include "engine/conf/marks.h"

enum reader_kind {
    READER_TEXT,        /* const char * */
    READER_WORD,        /* uint8_t or bool; one of words */
    READER_NUMBER,      /* uint32_t or uint64_t */
    READER_SIZE,        /* uint32_t or uint64_t, bytes */
    READER_DURATION,    /* uint64_t, nanoseconds */
    READER_PERMISSIONS, /* uint32_t */
    READER_ENDPOINT,    /* struct endpoint, with port or unix path */
    READER_ADDRESS,     /* struct endpoint, port 0 */
    READER_NETWORK,     /* struct network_prefix */
    READER_SECTION,     /* keys below it, in the same struct */
    READER_LIST,        /* item_kind *, and a uint32_t count */
    READER_ROWS,        /* an array of structs with keys of their own, and a uint32_t count */
};

struct reader_word {
    const char *word; /* NULL ends the list */
    uint8_t value;
};

struct reader_key {
    const char *name; /* NULL ends the table */
    enum reader_kind kind;
    size_t offset, bytes; /* of the value in the struct (of the row, in rows) */
    size_t count_offset;  /* lists and rows */
    enum reader_kind item_kind;
    size_t item_bytes; /* of the element of lists and rows */
    /* What stands in when the key is absent, as it would be written; of a list: items separated by
     * blanks; of rows: one YAML flow sequence. NULL: nothing, and the value stays zero. */
    const char *standard;
    bool required;     /* of rows: an absent key is an error */
    uint64_t min, max; /* numbers and their like; of a list: how many items */
    const struct reader_word *words;
    const struct reader_key *keys;  /* sections and rows */
    const char *expected;           /* texts: what a good one is */
    bool (*good)(const char *text); /* texts: is it one? NULL: any that is not empty */
};

#define READER_AT(type, member)                                                                    \
    .offset = offsetof(type, member), .bytes = sizeof(((type *)0)->member)
#define READER_MANY(type, member)                                                                  \
    .offset = offsetof(type, member), .count_offset = offsetof(type, member##_count),              \
    .item_bytes = sizeof(*((type *)0)->member)

/* Memory that lives as long as the configuration. */
struct reader_memory {
    struct reader_block *blocks;
};
void *reader_take(struct reader_memory *memory, size_t bytes); /* zeroed; NULL: none left */
char *reader_copy(struct reader_memory *memory, const char *text);
void reader_memory_free(struct reader_memory *memory);

/* One file being read. */
struct reader {
    const char *file; /* its name in messages */
    struct reader_memory *memory;
    struct conf_report *report;
    struct marks marks;
    bool out_of_memory;
};

/* Fills *into, which is zeroed. path NULL: defaults only. 0, -EINVAL with the report, -ENOMEM, or
 * the errno of reading the file. The marks stay, for later checks, until reader_close. */
int reader_load(struct reader *reader, const struct reader_key *keys, const char *path, void *into);
void reader_close(struct reader *reader);

/* Fills *into, which is zeroed, with what stands in for each key that is absent: a row that says nothing. 0 or -ENOMEM. */
int reader_fill_standard(struct reader *reader, const struct reader_key *keys, void *into);

/* Reports a mistake at a key ("routes[1].to[0]"; NULL: the file as a whole). */
void reader_problem(struct reader *reader, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Does the file itself say something of this key? */
bool reader_given(const struct reader *reader, const char *key);

void reader_each_key(const struct reader_key *keys,
                     void (*visit)(void *owner, const char *key, const char *value), void *owner);
