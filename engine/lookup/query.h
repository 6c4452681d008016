/*
 * query: what maps in databases have in common: the question made of a key, the answer made of values.
 *
 * As in Postfix: %s the key, %u what is before its last "@", %d what is behind it, %1 to %9 the labels of its domain
 * from the right, %% a percent sign. In a result's format these are of the value, and %S %U %D %[1-9] of the key.
 */
#pragma once
#include "engine/lookup/text.h"

#define QUERY_BYTES_MAX 8192u

struct query_settings {
    const char *query;         /* with % */
    const char *result_format; /* "%s" */
    const char *domains;       /* only keys of these are asked for; "": all */
    unsigned expansion_limit;  /* values; more: a failure. 0: no limit */
};

/* The file that says where the database is and what to ask. What it says lives as long as it. */
struct query_file {
    struct text_settings text;
    struct query_settings query;
};
/* What one kind wants to know besides. 0 or -EINVAL and `problem`. */
typedef int query_settings_own(struct query_file *file, char problem[MAP_PROBLEM_MAX]);
/* `query` is under `query_name`; whatever the file says and nobody has asked for is wrong. 0; -EINVAL and `problem`;
 * -errno. To be closed when it was opened. */
int query_file_open(struct query_file *file, const char *where, const char *query_name,
                    query_settings_own *own, char problem[MAP_PROBLEM_MAX]);
void query_file_close(struct query_file *file);
/* A setting that must be there. 0 or -EINVAL and `problem`. */
int query_file_required(struct query_file *file, const char *name, const char **value,
                        char problem[MAP_PROBLEM_MAX]);

/* Is a question to be asked for this key at all? Not for a part that it has not, nor for another domain. */
bool query_wanted(const struct query_settings *settings, struct slice key);

/* Writes bytes of the key so that they are data and nothing else; returns how many, SIZE_MAX: they do not fit. */
typedef size_t query_escape(void *owner, char *to, size_t room, struct slice from);
/* The question, terminated. 0 or -E2BIG. */
int query_make(const struct query_settings *settings, struct slice key, query_escape *escape,
               void *owner, char question[QUERY_BYTES_MAX]);

/* One more value of the answer. Before the first the result says absent. */
void query_value(const struct query_settings *settings, struct slice key, struct slice value,
                 unsigned *count, struct map_result *result);
