#include "engine/lookup/text.h"
#include "engine/core/check.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

struct slice text_trim(struct slice text)
{
    while (text.size > 0 && is_blank(text.bytes[text.size - 1])) {
        text.size--;
    }
    while (text.size > 0 && is_blank(text.bytes[0])) {
        text = slice_from(text, 1);
    }
    return text;
}

int text_read(const char *path, char **text, size_t *bytes)
{
    struct stat file;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* not to wait for a FIFO's writer */
    if (fd < 0) {
        return -errno;
    }
    int status = fstat(fd, &file) < 0 ? -errno : S_ISFIFO(file.st_mode) ? -EINVAL : 0;
    status = status == 0 && file.st_size > (off_t)TEXT_FILE_MAX ? -EFBIG : status;
    char *made = status == 0 ? malloc((size_t)file.st_size + 1) : NULL;
    size_t got = 0;
    status = status == 0 && made == NULL ? -ENOMEM : status;
    while (status == 0 && got < (size_t)file.st_size) {
        ssize_t more = read(fd, made + got, (size_t)file.st_size - got);
        if (more == 0) {
            break; /* it has become shorter: the next look finds it changed */
        }
        status = more < 0 && errno != EINTR ? -errno : status;
        got += more > 0 ? (size_t)more : 0;
    }
    close(fd);
    if (status < 0) {
        free(made);
        return status;
    }
    check(made != NULL);
    made[got] = '\0';
    *text = made;
    *bytes = got;
    return 0;
}

/* One line of the file, with what ends it. */
static struct slice raw_line(struct slice rest)
{
    const uint8_t *feed = rest.size == 0 ? NULL : memchr(rest.bytes, '\n', rest.size);
    return slice_first(rest, feed == NULL ? rest.size : (size_t)(feed - rest.bytes) + 1);
}

static bool is_comment(struct slice line)
{
    line = text_trim(line);
    return line.size == 0 || line.bytes[0] == '#';
}

bool text_line(struct slice *rest, struct slice *line, unsigned *number, unsigned *next_number)
{
    struct slice first = raw_line(*rest);
    while (first.size > 0 && is_comment(first)) {
        *rest = slice_from(*rest, first.size);
        ++*next_number;
        first = raw_line(*rest);
    }
    if (first.size == 0) {
        return false;
    }
    *number = (*next_number)++;
    *rest = slice_from(*rest, first.size);
    size_t size = first.size;
    for (struct slice more = raw_line(*rest); more.size > 0; more = raw_line(*rest)) {
        if (!is_comment(more) && !is_blank(more.bytes[0])) {
            break;
        }
        if (!is_comment(more)) {
            memmove((uint8_t *)(uintptr_t)first.bytes + size, more.bytes, more.size);
            size += more.size;
        }
        *rest = slice_from(*rest, more.size);
        ++*next_number;
    }
    /* Joined lines have their ends in them still. */
    for (size_t i = 0; i < size; i++) {
        uint8_t *byte = (uint8_t *)(uintptr_t)first.bytes + i;
        *byte = *byte == '\n' || *byte == '\r' ? ' ' : *byte;
    }
    *line = text_trim(slice_of(first.bytes, size));
    return true;
}

bool text_split(struct slice line, struct slice *key, struct slice *value)
{
    bool quoted = false;
    size_t at = 0;
    while (at < line.size && (quoted || !is_blank(line.bytes[at]))) {
        quoted ^= line.bytes[at] == '"';
        at += line.bytes[at] == '\\' && quoted && at + 1 < line.size ? 2 : 1;
    }
    *key = slice_first(line, at);
    *value = text_trim(slice_from(line, at));
    return key->size > 0 && value->size > 0;
}

/* ---- name = value ---- */

static int setting_add(struct text_settings *settings, struct slice line, unsigned number,
                       char problem[MAP_PROBLEM_MAX])
{
    const uint8_t *equals = memchr(line.bytes, '=', line.size);
    if (equals == NULL || settings->count == TEXT_SETTINGS_MAX) {
        snprintf(problem, MAP_PROBLEM_MAX, "%.150s:%u: %s", settings->path, number,
                 equals == NULL ? "\"name = value\" is expected" : "too many settings");
        return -EINVAL;
    }
    struct slice name = text_trim(slice_first(line, (size_t)(equals - line.bytes)));
    struct slice value = text_trim(slice_from(line, (size_t)(equals - line.bytes) + 1));
    char *name_text = (char *)(uintptr_t)name.bytes, *value_text = (char *)(uintptr_t)value.bytes;
    if (value.size > 0) {
        value_text[value.size] = '\0'; /* the blank behind it, or the end of the file's own */
    }
    name_text[name.size] = '\0';
    settings->all[settings->count++] =
        (struct text_setting){name_text, value.size > 0 ? value_text : "", number, false};
    return 0;
}

int text_settings_read(struct text_settings *settings, const char *path,
                       char problem[MAP_PROBLEM_MAX])
{
    size_t bytes = 0;
    *settings = (struct text_settings){.path = path};
    int status = text_read(path, &settings->text, &bytes);
    if (status < 0) {
        return status;
    }
    struct slice rest = slice_of(settings->text, bytes), line;
    unsigned number, next = 1;
    while (status == 0 && text_line(&rest, &line, &number, &next)) {
        status = setting_add(settings, line, number, problem);
    }
    if (status < 0) {
        text_settings_free(settings);
    }
    return status;
}

const char *text_setting(struct text_settings *settings, const char *name, const char *otherwise)
{
    for (unsigned i = 0; i < settings->count; i++) {
        struct text_setting *at = &settings->all[i];
        if (strcmp(at->name, name) == 0) {
            at->used = true;
            return at->value;
        }
    }
    return otherwise;
}

int text_settings_all_used(const struct text_settings *settings, char problem[MAP_PROBLEM_MAX])
{
    for (unsigned i = 0; i < settings->count; i++) {
        const struct text_setting *at = &settings->all[i];
        if (!at->used) {
            snprintf(problem, MAP_PROBLEM_MAX, "%.100s:%u: %.60s: is not known, or given twice",
                     settings->path, at->line, at->name);
            return -EINVAL;
        }
    }
    return 0;
}

void text_settings_free(struct text_settings *settings)
{
    free(settings->text);
    *settings = (struct text_settings){0};
}
