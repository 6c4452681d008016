#include "queue/mailbox/maildir_subscriptions.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HEADER "V\t2\n\n"

static bool is_second_version(struct slice text)
{
    return text.size >= 4 && memcmp(text.bytes, HEADER, 4) == 0;
}

/* The first line, without its end; *text goes on behind it. */
static struct slice line_take(struct slice *text)
{
    const uint8_t *end = memchr(text->bytes, '\n', text->size);
    struct slice line = slice_first(*text, end != NULL ? (size_t)(end - text->bytes) : text->size);
    *text = slice_from(*text, end != NULL ? line.size + 1 : line.size);
    return line;
}

/* Returns its size, without the NUL behind; -EINVAL. */
static ssize_t line_name(struct slice line, uint8_t separator, char *out)
{
    uint8_t folder[MAILDIR_FILE_NAME_MAX];
    if (line.size == 0 || line.size >= sizeof folder || memchr(line.bytes, 1, line.size) != NULL) {
        return -EINVAL; /* \001 begins what Dovecot had to escape: no folder of a Maildir is called so */
    }
    if (slice_equal_nocase(line, slice_text("INBOX"))) {
        memcpy(out, "INBOX", 6);
        return 5;
    }
    folder[0] = '.';
    for (size_t i = 0; i < line.size; i++) {
        folder[i + 1] = line.bytes[i] == separator ? '.' : line.bytes[i];
    }
    ssize_t size = maildir_folder_read(slice_of(folder, line.size + 1), out);
    if (size <= 0 || memchr(out, 0, (size_t)size) != NULL) {
        return -EINVAL;
    }
    out[size] = 0;
    return size;
}

char *maildir_subscriptions_names(struct slice text, size_t *used)
{
    char name[MAILDIR_FILE_NAME_MAX * 2 + 1];
    size_t room = text.size * 2 + 8;
    char *names = malloc(room);
    bool second = is_second_version(text);
    *used = 0;
    if (second) {
        line_take(&text);
    }
    while (names != NULL && text.size > 0) {
        ssize_t size = line_name(line_take(&text), second ? '\t' : '.', name);
        if (size > 0 && *used + (size_t)size + 1 <= room) {
            memcpy(names + *used, name, (size_t)size + 1);
            *used += (size_t)size + 1;
        }
    }
    return names;
}

/* The line that names it. */
static ssize_t name_line(const char *mailbox, char separator, char line[MAILDIR_FILE_NAME_MAX + 1])
{
    char folder[MAILDIR_FILE_NAME_MAX + 1];
    ssize_t size = maildir_folder_write(slice_text(mailbox), folder);
    if (size < 0) {
        return -EINVAL;
    }
    if (size == 0) {
        memcpy(line, "INBOX", 5);
        return 5;
    }
    for (ssize_t i = 1; i < size; i++) {
        line[i - 1] = (char)(folder[i] == '.' ? separator : folder[i]);
    }
    return size - 1;
}

static void line_put(char *out, size_t *used, struct slice line)
{
    memcpy(out + *used, line.bytes, line.size);
    *used += line.size;
    out[(*used)++] = '\n';
}

ssize_t maildir_subscriptions_change(struct slice text, const char *mailbox, bool subscribed,
                                     char *out)
{
    char name[MAILDIR_FILE_NAME_MAX + 1];
    bool fresh = text.size == 0;
    ssize_t size = name_line(mailbox, fresh || is_second_version(text) ? '\t' : '.', name);
    size_t used = 0;
    if (size < 0) {
        return size;
    }
    struct slice line = slice_of(name, (size_t)size);
    if (fresh) {
        memcpy(out, HEADER, strlen(HEADER));
        used = strlen(HEADER);
    }
    while (text.size > 0) {
        struct slice other = line_take(&text);
        if (!slice_equal(other, line)) {
            line_put(out, &used, other);
        }
    }
    if (subscribed) {
        line_put(out, &used, line);
    }
    return (ssize_t)used;
}
