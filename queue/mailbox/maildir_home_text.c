/* Messages are read; the list of subscriptions is read and written. */
#include "queue/mailbox/maildir_home_private.h"
#include "engine/core/utf7.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES 65536u
#define SUBSCRIPTIONS "subscriptions"
#define SUBSCRIPTIONS_BYTES_MAX (4u << 20)
#define SUBSCRIPTIONS_TEMPORARY "subscriptions.tubepost"

/* ---- texts ---- */

struct reading {
    const struct maildir_files *files;
    int file;
    struct home_reading at;
    uint8_t *out;
    size_t size, used;
    uint64_t wanted; /* offset of the first byte that is */
};

static bool is_full(const struct reading *reading)
{
    return reading->used == reading->size;
}

static void byte_out(struct reading *reading, uint8_t byte)
{
    if (reading->at.offset++ >= reading->wanted) {
        reading->out[reading->used++] = byte;
    }
}

/* Returns how many bytes of the piece were used: all, or fewer when it is full. */
static size_t piece_convert(struct reading *reading, const uint8_t *piece, size_t size)
{
    size_t i = 0;
    while (i < size && !is_full(reading)) {
        bool lone = piece[i] == '\n' && !reading->at.carriage;
        if (lone) { /* the LF itself in the next turn */
            byte_out(reading, '\r');
            reading->at.carriage = true;
            continue;
        }
        byte_out(reading, piece[i]);
        reading->at.carriage = piece[i] == '\r';
        i++;
    }
    return i;
}

static ssize_t file_read(struct reading *reading)
{
    uint8_t *piece = malloc(PIECE_BYTES);
    ssize_t size = piece == NULL ? -ENOMEM : 1;
    while (size > 0 && !is_full(reading)) {
        size = reading->files->read(reading->files->self, reading->file, reading->at.at, piece,
                                    PIECE_BYTES);
        if (size > 0) {
            reading->at.at += piece_convert(reading, piece, (size_t)size);
        }
    }
    free(piece);
    return size < 0 ? size : (ssize_t)reading->used;
}

static int file_open(struct home *home, struct home_folder *folder, uint32_t number)
{
    const struct maildir_files *files = home_files(home);
    const struct maildir_uid *uid = maildir_uidlist_find_uid(&folder->box.list, number);
    if (uid == NULL || uid->presence != MAILDIR_PRESENT || uid->file == NULL) {
        return -ENOENT;
    }
    return files->open_file(
        files->self, uid->in_new ? folder->box.new_folder : folder->box.cur_folder, uid->file);
}

ssize_t home_read(struct home *home, const char *mailbox, uint32_t uid, uint64_t offset,
                  void *bytes, size_t size)
{
    struct home_folder *folder;
    int status = home_folder_need(home, mailbox, &folder);
    int file = status < 0 ? status : file_open(home, folder, uid);
    if (status == 0 && file == -ENOENT) { /* its name is another by now */
        status = maildir_box_scan(&folder->box);
        file = status < 0 ? status : file_open(home, folder, uid);
    }
    if (file < 0) {
        return file;
    }
    struct reading reading = {.files = home_files(home),
                              .file = file,
                              .out = bytes,
                              .size = size,
                              .wanted = offset,
                              .at = folder->reading};
    if (reading.at.uid != uid || reading.at.offset > offset) {
        reading.at = (struct home_reading){.uid = uid};
    }
    ssize_t got = file_read(&reading);
    folder->reading = reading.at;
    if (got < 0) {
        folder->reading.uid = 0;
    }
    reading.files->close(reading.files->self, file);
    return got;
}

/* ---- subscriptions ---- */

/* The whole file, of the heap, with NUL behind. */
static int text_read(struct home *home, char **text, size_t *size)
{
    const struct maildir_files *files = home_files(home);
    struct maildir_file_facts facts = {0};
    int file = files->open_file(files->self, home->root, SUBSCRIPTIONS);
    int status = file < 0 ? file : files->facts_of_open(files->self, file, &facts);
    size_t room =
        facts.bytes < SUBSCRIPTIONS_BYTES_MAX ? (size_t)facts.bytes : SUBSCRIPTIONS_BYTES_MAX;
    *text = calloc(1, room + 1);
    *size = 0;
    status = *text == NULL ? -ENOMEM : status == -ENOENT ? 0 : status;
    while (status == 0 && file >= 0 && *size < room) {
        ssize_t got = files->read(files->self, file, *size, *text + *size, room - *size);
        if (got <= 0) {
            status = (int)got;
            break;
        }
        *size += (size_t)got;
    }
    if (file >= 0) {
        files->close(files->self, file);
    }
    if (status < 0) {
        free(*text);
        *text = NULL;
    }
    return status;
}

static bool is_version_2(const char *text)
{
    return strncmp(text, "V\t2\n", 4) == 0;
}

/* A line as a mailbox's name: levels are split by tabs, of the older version by dots. */
static ssize_t line_name(const char *line, size_t size, char separator, char *out)
{
    char folder[MAILDIR_FILE_NAME_MAX + 1];
    if (size == 0 || size + 1 > MAILDIR_FILE_NAME_MAX || memchr(line, 1, size) != NULL) {
        return -EINVAL;
    }
    if (size == 5 && strncasecmp(line, "INBOX", 5) == 0) {
        memcpy(out, "INBOX", 6);
        return 5;
    }
    folder[0] = '.';
    for (size_t i = 0; i < size; i++) {
        folder[i + 1] = (char)(line[i] == separator ? '.' : line[i]);
    }
    ssize_t read = maildir_folder_read(slice_of(folder, size + 1), out);
    if (read > 0) {
        out[read] = 0;
    }
    return read;
}

static char *names_of(const char *text, size_t size, size_t *used)
{
    char *names = malloc(size * 2 + 8), name[HOME_MAILBOX_BYTES + 1];
    bool second = is_version_2(text);
    *used = 0;
    for (size_t at = second ? 4 : 0; names != NULL && at < size;) {
        size_t end = at;
        while (end < size && text[end] != '\n') {
            end++;
        }
        ssize_t read = line_name(text + at, end - at, second ? '\t' : '.', name);
        if (read > 0 && *used + (size_t)read + 1 <= size * 2 + 8) {
            memcpy(names + *used, name, (size_t)read + 1);
            *used += (size_t)read + 1;
        }
        at = end + 1;
    }
    return names;
}

int home_subscribed(struct home *home, char **names, size_t *size)
{
    const struct maildir_files *files = home_files(home);
    struct maildir_file_facts facts = {0};
    struct home_facts now = {0};
    int64_t now_s = world_wall_s(home->owner->world);
    int status = home_root(home);
    if (status < 0) {
        return status;
    }
    if (files->facts(files->self, home->root, SUBSCRIPTIONS, &facts) == 0) {
        now.modified_s[0] = facts.modified_s;
        now.bytes[0] = facts.bytes;
        now.inodes[0] = facts.inode;
    }
    if (home->subscriptions_s != 0 && memcmp(&now, &home->subscriptions, sizeof now) == 0 &&
        facts.modified_s + 2 <= home->subscriptions_s) {
        return -EALREADY;
    }
    char *text;
    size_t bytes;
    status = text_read(home, &text, &bytes);
    if (status < 0) {
        return status;
    }
    *names = names_of(text, bytes, size);
    free(text);
    home->subscriptions = now;
    home->subscriptions_s = now_s;
    return *names == NULL ? -ENOMEM : 0;
}

/* The name as a line of the second version has it. */
static int name_line(const char *mailbox, char separator, char *line)
{
    char folder[MAILDIR_FILE_NAME_MAX + 1];
    ssize_t size = maildir_folder_write(slice_text(mailbox), folder);
    if (size < 0) {
        return -EINVAL;
    }
    if (size == 0) {
        memcpy(line, "INBOX", 6);
        return 5;
    }
    for (ssize_t i = 1; i <= size; i++) {
        line[i - 1] = (char)(folder[i] == '.' ? separator : folder[i]);
    }
    return (int)size - 1;
}

static int file_write(struct home *home, const char *text, size_t size)
{
    const struct maildir_files *files = home_files(home);
    files->remove(files->self, home->root, SUBSCRIPTIONS_TEMPORARY);
    int file = files->make_file(files->self, home->root, SUBSCRIPTIONS_TEMPORARY);
    int status = file < 0 ? file : 0;
    for (size_t done = 0; done < size && status == 0;) {
        ssize_t written = files->write(files->self, file, text + done, size - done);
        status = written < 0 ? (int)written : 0;
        done += written > 0 ? (size_t)written : 0;
    }
    status = status == 0 ? files->sync(files->self, file) : status;
    if (file >= 0) {
        files->close(files->self, file);
    }
    status = status == 0
                 ? files->replace(files->self, home->root, SUBSCRIPTIONS_TEMPORARY, SUBSCRIPTIONS)
                 : status;
    return status == 0 ? files->sync(files->self, home->root) : status;
}

/* Its lines, those of this name left off, and one more at the end. What of others cannot be read stays. */
static int list_change(struct home *home, const char *mailbox, bool subscribed)
{
    char *text, line[MAILDIR_FILE_NAME_MAX + 1];
    size_t size, used = 0;
    int status = text_read(home, &text, &size);
    if (status < 0) {
        return status;
    }
    bool second = size == 0 || is_version_2(text);
    int length = name_line(mailbox, second ? '\t' : '.', line);
    char *out = malloc(size + sizeof line + 16);
    status = out == NULL ? -ENOMEM : length < 0 ? length : 0;
    if (status == 0 && size == 0) {
        memcpy(out, "V\t2\n\n", 5);
        used = 5;
    }
    for (size_t at = 0; at < size && status == 0;) {
        const char *found = memchr(text + at, '\n', size - at);
        size_t bytes = found != NULL ? (size_t)(found - text) - at : size - at;
        bool same = bytes == (size_t)length && memcmp(text + at, line, bytes) == 0;
        if (!same) {
            memcpy(out + used, text + at, bytes);
            used += bytes;
            out[used++] = '\n';
        }
        at += bytes + 1;
    }
    if (status == 0 && subscribed) {
        memcpy(out + used, line, (size_t)length);
        used += (size_t)length;
        out[used++] = '\n';
    }
    status = status == 0 ? file_write(home, out, used) : status;
    free(out);
    free(text);
    return status;
}

int home_subscribe(struct home *home, const char *mailbox, bool subscribed)
{
    int status = home_root(home);
    struct maildir_lock lock = {.owner = home->owner,
                                .at = home->root,
                                .protected = SUBSCRIPTIONS,
                                .stale_s = MAILDIR_LOCK_STALE_S};
    status = status == 0 ? maildir_lock_take(&lock, MAILDIR_LOCK_PATIENCE_S) : status;
    if (status == 0) {
        status = list_change(home, mailbox, subscribed);
        maildir_lock_release(&lock);
    }
    return status;
}
