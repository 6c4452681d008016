#include "engine/conf/marks.h"
#include "engine/core/check.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#define MARKS_DEPTH_MAX 16
#define MARKS_COUNT_MAX 100000 /* keys and items of one file */

/* One mapping or sequence that is open, and where in it we are. */
struct level {
    bool is_list;
    bool has_key;      /* a mapping's key was read, its value comes next */
    size_t path_bytes; /* of the path that leads here */
    size_t item;       /* of a list */
    yaml_mark_t key_at;
};

struct walk {
    struct marks *marks;
    char path[MARK_PATH_MAX];
    struct level levels[MARKS_DEPTH_MAX];
    unsigned depth;
    unsigned documents;
};

static int problem_at(struct marks *marks, const char *problem, const yaml_mark_t *at)
{
    snprintf(marks->problem, sizeof marks->problem, "%s", problem);
    marks->line = at->line + 1;
    marks->column = at->column + 1;
    return -EINVAL;
}

static int add_mark(struct marks *marks, const char *path, const yaml_mark_t *at,
                    enum mark_kind kind)
{
    if (marks->count == MARKS_COUNT_MAX) {
        return problem_at(marks, "too many keys", at);
    }
    if (marks->count == marks->room) {
        size_t room = marks->room == 0 ? 64 : marks->room * 2;
        struct mark *all = realloc(marks->all, room * sizeof *all);
        if (all == NULL) {
            return -ENOMEM;
        }
        marks->all = all;
        marks->room = room;
    }
    char *copy = strdup(path);
    if (copy == NULL) {
        return -ENOMEM;
    }
    marks->all[marks->count++] =
        (struct mark){.path = copy, .line = at->line + 1, .column = at->column + 1, .kind = kind};
    return 0;
}

/* Appends to the path of the current level; a path that is too long is cut, and then simply not
 * found. */
static void extend_path(struct walk *walk, const struct level *level, const char *key)
{
    char *end = walk->path + level->path_bytes;
    size_t room = sizeof walk->path - level->path_bytes;
    if (level->is_list) {
        snprintf(end, room, "[%zu]", level->item);
    } else {
        snprintf(end, room, "%s%s", level->path_bytes > 0 ? "." : "", key);
    }
}

/* A value begins: of a key, of a list, or the whole document. */
static int value_begins(struct walk *walk, const yaml_mark_t *at, enum mark_kind kind)
{
    if (walk->depth == 0) {
        walk->marks->empty = kind == MARK_NOTHING;
        walk->marks->line = at->line + 1;
        walk->marks->column = at->column + 1;
        return 0;
    }
    struct level *level = &walk->levels[walk->depth - 1];
    if (level->is_list) {
        extend_path(walk, level, NULL);
        level->item++;
        return add_mark(walk->marks, walk->path, at, kind);
    }
    level->has_key = false;
    return add_mark(walk->marks, walk->path, &level->key_at, kind);
}

static int level_opens(struct walk *walk, const yaml_event_t *event, bool is_list)
{
    if (walk->depth > 0 && !walk->levels[walk->depth - 1].is_list &&
        !walk->levels[walk->depth - 1].has_key) {
        return problem_at(walk->marks, "a key that is not a plain word", &event->start_mark);
    }
    if (walk->depth == MARKS_DEPTH_MAX) {
        return problem_at(walk->marks, "nested too deeply", &event->start_mark);
    }
    int status = value_begins(walk, &event->start_mark, is_list ? MARK_LIST : MARK_SECTION);
    if (status < 0) {
        return status;
    }
    walk->levels[walk->depth] =
        (struct level){.is_list = is_list, .path_bytes = walk->depth == 0 ? 0 : strlen(walk->path)};
    walk->depth++;
    return 0;
}

static int scalar_met(struct walk *walk, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    if (strlen(text) != event->data.scalar.length) {
        return problem_at(walk->marks, "a NUL inside a text", &event->start_mark);
    }
    struct level *level = walk->depth > 0 ? &walk->levels[walk->depth - 1] : NULL;
    if (level != NULL && !level->is_list && !level->has_key) {
        level->has_key = true;
        level->key_at = event->start_mark;
        extend_path(walk, level, text);
        return 0;
    }
    bool nothing = text[0] == '\0' && event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return value_begins(walk, &event->start_mark, nothing ? MARK_NOTHING : MARK_TEXT);
}

static int event_met(struct walk *walk, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (walk->documents++ > 0) {
            return problem_at(walk->marks, "a second document in the file", &event->start_mark);
        }
        return 0;
    case YAML_ALIAS_EVENT:
        return problem_at(walk->marks, "an alias (*name), which is not supported here",
                          &event->start_mark);
    case YAML_SCALAR_EVENT:
        return scalar_met(walk, event);
    case YAML_SEQUENCE_START_EVENT:
        return level_opens(walk, event, true);
    case YAML_MAPPING_START_EVENT:
        return level_opens(walk, event, false);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        check(walk->depth > 0);
        walk->depth--;
        return 0;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        return 0;
    }
    return 0;
}

int marks_read(struct marks *marks, const char *text, size_t size)
{
    struct walk walk = {.marks = marks};
    yaml_parser_t parser;
    memset(marks, 0, sizeof *marks);
    marks->empty = true;
    if (!yaml_parser_initialize(&parser)) {
        return -ENOMEM;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    int status = 0;
    bool over = false;
    while (status == 0 && !over) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            status = parser.error == YAML_MEMORY_ERROR
                         ? -ENOMEM
                         : problem_at(marks, parser.problem, &parser.problem_mark);
            break;
        }
        over = event.type == YAML_STREAM_END_EVENT;
        status = event_met(&walk, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return status;
}

void marks_free(struct marks *marks)
{
    for (size_t i = 0; i < marks->count; i++) {
        free(marks->all[i].path);
    }
    free(marks->all);
    marks->all = NULL;
    marks->count = marks->room = 0;
}

const struct mark *marks_find(const struct marks *marks, const char *path)
{
    for (size_t i = 0; i < marks->count; i++) {
        if (strcmp(marks->all[i].path, path) == 0) {
            return &marks->all[i];
        }
    }
    return NULL;
}
