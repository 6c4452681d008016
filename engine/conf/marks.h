/*
 * marks: where in a YAML file each key and list item stands.
 *
 * libcyaml does not keep positions, so the file is read a second time, events only. The same pass
 * refuses what libcyaml lets through: a NUL inside a text, a second document.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define MARK_PATH_MAX 256

enum mark_kind { MARK_TEXT, MARK_NOTHING, MARK_LIST, MARK_SECTION };

struct mark {
    char *path;          /* "spool.path", "routes[1].to[0]" */
    size_t line, column; /* counted from 1; of the key, or of a list's item */
    enum mark_kind kind;
};

struct marks {
    struct mark *all; /* in the order of the file */
    size_t count, room;
    bool empty; /* the file says nothing at all */
    /* Of a file that is no YAML we read: what is wrong, and where. Otherwise: where it begins. */
    char problem[128];
    size_t line, column;
};

/* 0, -EINVAL with marks->problem, or -ENOMEM. marks_free in any case. */
int marks_read(struct marks *marks, const char *text, size_t size);
void marks_free(struct marks *marks);
const struct mark *marks_find(const struct marks *marks, const char *path);
