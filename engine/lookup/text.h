/*
 * text: files of lines in Postfix's manner: "#" begins a comment line, a line that begins with a blank goes on with the
 * one before it, empty lines say nothing.
 */
#pragma once
#include "engine/core/slice.h"
#include "engine/lookup/map.h"

#define TEXT_FILE_MAX (256u << 20) /* bytes; longer: -EFBIG */

/* The whole file, in memory of its own. 0 or -errno. */
int text_read(const char *path, char **text, size_t *bytes);

/* Takes the next logical line off *rest, joined in place; its number is that of its first line. False: there is none.
 * *line has no blanks at either end. */
bool text_line(struct slice *rest, struct slice *line, unsigned *number, unsigned *next_number);

/* Splits "key value" at the first blank that is not in double quotes. False: there is no value. */
bool text_split(struct slice line, struct slice *key, struct slice *value);

struct slice text_trim(struct slice text);

/* "name = value" lines, as the files of databases have them. */
#define TEXT_SETTINGS_MAX 32u
struct text_settings {
    char *text; /* the file; names and values point into it and are terminated */
    const char *path;
    struct text_setting {
        const char *name, *value;
        unsigned line;
        bool used;
    } all[TEXT_SETTINGS_MAX];
    unsigned count;
};
/* 0; -EINVAL and `problem`; -errno. The caller's to free by text_settings_free. `path` is borrowed. */
int text_settings_read(struct text_settings *settings, const char *path,
                       char problem[MAP_PROBLEM_MAX]);
/* `otherwise` when it is not there. */
const char *text_setting(struct text_settings *settings, const char *name, const char *otherwise);
/* -EINVAL and `problem` when one was given that nobody has asked for. */
int text_settings_all_used(const struct text_settings *settings, char problem[MAP_PROBLEM_MAX]);
void text_settings_free(struct text_settings *settings);
