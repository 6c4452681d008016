/*
 * map: a table that an operator keeps: from a key to a value, both text.
 *
 * "KIND:WHERE" names one, as in Postfix: texthash:/etc/tubepost/virtual, aliases:/etc/aliases, pcre:FILE, cidr:FILE,
 * lmdb:FILE, sqlite:FILE, pgsql:FILE, ldap:FILE, inline:{a=1, b=2}; "include:" is of files that are named by keys. The files have Postfix's formats. One file of
 * code a kind; a kind is a struct map_kind and nothing else.
 *
 * Everything here may block, so it runs on helper threads only, or while a program starts. A map may be asked by
 * several threads: it guards itself. When the file behind it changes it is read again before the next answer (looked
 * at once a second at most); a file that has become wrong leaves the old content in force, of which `problem` tells.
 *
 * Keys and values come from outside and are text only: a kind that builds a query or a filter of them escapes them.
 */
#pragma once
#include "engine/core/slice.h"
#include <errno.h>

#define MAP_KEY_MAX 512u     /* a longer key is in no map */
#define MAP_VALUE_MAX 65536u /* of a longer value no part is given */
#define MAP_PROBLEM_MAX 256u

enum map_answer {
    MAP_FOUND,
    MAP_ABSENT,
    MAP_FAILED,   /* not known now: to be asked again later, never to be taken for absent */
    MAP_TOO_LONG, /* it is there, and will not be shorter when it is asked for again */
};

struct map_result {
    enum map_answer answer;
    size_t bytes;                  /* of the value */
    char problem[MAP_PROBLEM_MAX]; /* of MAP_FAILED and MAP_TOO_LONG */
    char value[MAP_VALUE_MAX];     /* not terminated */
};

struct map_source; /* what a kind keeps */

struct map_kind {
    const char *name;
    bool is_file;     /* `where` names a file whose content is all: opened again when it changes */
    bool of_patterns; /* keys are matched as they are: no other case, no parts of them */
    /* 0; -EINVAL: `problem` says what and in which line; -ENOMEM; another errno: the file cannot be read. */
    int (*open)(struct map_source **source, const char *where, char problem[MAP_PROBLEM_MAX]);
    void (*close)(struct map_source *source);
    /* One thread at a time, but for kinds of files, whose content never changes. Fills answer, bytes, value, problem. */
    void (*find)(struct map_source *source, struct slice key, struct map_result *result);
};

extern const struct map_kind map_inline, map_texthash, map_aliases, map_pcre, map_cidr, map_lmdb,
    map_sqlite, map_pgsql, map_ldap, map_include;

struct map;

/* name: "KIND:WHERE". The caller's to close; whoever still has it taken keeps it. Errors as a kind's open; -EINVAL for a
 * kind that does not exist. A database that does not answer is no error here: it is asked when it is needed. */
int map_open(struct map **map, const char *name, char problem[MAP_PROBLEM_MAX]);
void map_close(struct map *map);
struct map *map_take(struct map *map); /* any thread; given back by map_close */
const char *map_name(const struct map *map);
bool map_of_patterns(const struct map *map);
bool map_of_networks(const struct map *map); /* also of patterns: its keys are addresses of IP */

/* Any helper thread. now_ns: of the monotonic clock, to look at the file now and then. Keys in capitals are asked for in
 * small letters, but of patterns. */
void map_find(struct map *map, struct slice key, uint64_t now_ns, struct map_result *result);
/* Counts up each time the content may have changed: what was answered before is not to be believed. Any thread. */
uint64_t map_generation(const struct map *map);
/* The last trouble with reading it again; "": none. Any helper thread; copied. */
void map_problem(struct map *map, char problem[MAP_PROBLEM_MAX]);

/* ---- for the kinds ---- */

static inline void map_absent(struct map_result *result)
{
    result->answer = MAP_ABSENT;
    result->bytes = 0;
}

/* MAP_FOUND, or MAP_TOO_LONG. */
void map_found(struct map_result *result, struct slice value);
void map_failed(struct map_result *result, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void map_too_long(struct map_result *result, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
