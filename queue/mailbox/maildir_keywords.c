#include "queue/mailbox/maildir_keywords.h"
#include <errno.h>
#include <stdio.h>

#define KEYWORDS_TEMPORARY "dovecot-keywords.lock" /* as Dovecot calls it */
#define FILE_BYTES_MAX (MAILDIR_KEYWORDS_MAX * (MAILDIR_KEYWORD_BYTES_MAX + 5))

/* An atom that is no flag: RFC 9051's flag-keyword, and any byte from 0x80 on, as peers use UTF-8. */
static bool is_keyword(struct slice name)
{
    if (name.size == 0 || name.size > MAILDIR_KEYWORD_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < name.size; i++) {
        uint8_t byte = name.bytes[i];
        if (byte <= ' ' || byte == 0x7f || strchr("(){%*\"\\", byte) != NULL) {
            return false;
        }
    }
    return true;
}

int maildir_keywords_find(const struct maildir_keywords *keywords, struct slice name)
{
    for (int i = 0; i < MAILDIR_KEYWORDS_MAX; i++) {
        if (keywords->names[i][0] != 0 &&
            slice_equal_nocase(slice_text(keywords->names[i]), name)) {
            return i;
        }
    }
    return -ENOENT;
}

static void set(struct maildir_keywords *keywords, int index, struct slice name)
{
    memcpy(keywords->names[index], name.bytes, name.size);
    keywords->names[index][name.size] = 0;
}

int maildir_keywords_add(struct maildir_keywords *keywords, struct slice name)
{
    int found = maildir_keywords_find(keywords, name);
    if (found >= 0) {
        return found;
    }
    if (!is_keyword(name)) {
        return -EINVAL;
    }
    for (int i = 0; i < MAILDIR_KEYWORDS_MAX; i++) {
        if (keywords->names[i][0] == 0) {
            set(keywords, i, name);
            keywords->changed = true;
            return i;
        }
    }
    return -ENOSPC;
}

void maildir_keywords_complete(struct maildir_keywords *keywords, uint32_t used)
{
    for (int i = 0; i < MAILDIR_KEYWORDS_MAX; i++) {
        if ((used >> i & 1) == 0 || keywords->names[i][0] != 0) {
            continue;
        }
        char name[MAILDIR_KEYWORD_BYTES_MAX + 1];
        int size = snprintf(name, sizeof name, "unknown-%d", i);
        while (maildir_keywords_find(keywords, slice_of(name, (size_t)size)) >= 0) {
            name[size++] = '?';
        }
        set(keywords, i, slice_of(name, (size_t)size));
        keywords->changed = true;
    }
}

/* ---- the file ---- */

void maildir_keywords_take(struct maildir_keywords *keywords, struct slice text)
{
    memset(keywords->names, 0, sizeof keywords->names);
    while (text.size > 0) {
        const uint8_t *end = memchr(text.bytes, '\n', text.size);
        struct slice line = slice_first(text, end == NULL ? text.size : (size_t)(end - text.bytes));
        text = slice_from(text, line.size + 1);
        unsigned index = 0;
        size_t at = 0;
        while (at < line.size && at < 2 && line.bytes[at] >= '0' && line.bytes[at] <= '9') {
            index = index * 10 + (line.bytes[at++] - (unsigned)'0');
        }
        struct slice name = slice_from(line, at + 1);
        if (at > 0 && at < line.size && line.bytes[at] == ' ' && index < MAILDIR_KEYWORDS_MAX &&
            is_keyword(name) && maildir_keywords_find(keywords, name) < 0) {
            set(keywords, (int)index, name);
        }
    }
}

int maildir_keywords_read(struct maildir_keywords *keywords, const struct maildir_files *files,
                          int at)
{
    uint8_t text[FILE_BYTES_MAX];
    struct maildir_file_facts facts;
    *keywords = (struct maildir_keywords){0};
    int file = files->open_file(files->self, at, MAILDIR_KEYWORDS);
    if (file < 0) {
        return file == -ENOENT ? 0 : file;
    }
    size_t size = 0;
    ssize_t got = 1;
    while (got > 0 && size < sizeof text) {
        got = files->read(files->self, file, size, text + size, sizeof text - size);
        size += got > 0 ? (size_t)got : 0;
    }
    int status = got < 0 ? (int)got : files->facts_of_open(files->self, file, &facts);
    files->close(files->self, file);
    if (status == 0) {
        keywords->modified_s = facts.modified_s;
        maildir_keywords_take(keywords, slice_of(text, size));
    }
    return status;
}

int maildir_keywords_write(struct maildir_keywords *keywords, const struct maildir_files *files,
                           int at, int64_t wall_s)
{
    char text[FILE_BYTES_MAX];
    size_t size = 0, written = 0;
    if (!keywords->changed) {
        return 0;
    }
    for (int i = 0; i < MAILDIR_KEYWORDS_MAX; i++) {
        if (keywords->names[i][0] != 0) {
            size +=
                (size_t)snprintf(text + size, sizeof text - size, "%d %s\n", i, keywords->names[i]);
        }
    }
    files->remove(files->self, at, KEYWORDS_TEMPORARY);
    int file = files->make_file(files->self, at, KEYWORDS_TEMPORARY);
    int status = file < 0 ? file : 0;
    while (status == 0 && written < size) {
        ssize_t sent = files->write(files->self, file, text + written, size - written);
        status = sent < 0 ? (int)sent : 0;
        written += sent < 0 ? 0 : (size_t)sent;
    }
    int64_t modified_s = wall_s > keywords->modified_s ? wall_s : keywords->modified_s + 1;
    status =
        status < 0 ? status : files->set_modified(files->self, at, KEYWORDS_TEMPORARY, modified_s);
    status = status < 0 ? status : files->sync(files->self, file);
    if (file >= 0) {
        files->close(files->self, file);
    }
    status =
        status < 0 ? status : files->replace(files->self, at, KEYWORDS_TEMPORARY, MAILDIR_KEYWORDS);
    status = status < 0 ? status : files->sync(files->self, at);
    if (status == 0) {
        keywords->modified_s = modified_s;
        keywords->changed = false;
    }
    return status;
}
