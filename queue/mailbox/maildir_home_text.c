/* Messages are read. */
#include "queue/mailbox/maildir_home_private.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES 65536u

/* ---- texts ---- */

struct reading {
    const struct maildir_files *files;
    struct home_reading *at;
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
    if (reading->at->offset++ >= reading->wanted) {
        reading->out[reading->used++] = byte;
    }
}

/* Returns how many bytes of the piece were used: all, or fewer when it is full. */
static size_t piece_convert(struct reading *reading, const uint8_t *piece, size_t size)
{
    size_t i = 0;
    while (i < size && !is_full(reading)) {
        bool lone = piece[i] == '\n' && !reading->at->carriage;
        if (lone) { /* the LF itself in the next turn */
            byte_out(reading, '\r');
            reading->at->carriage = true;
            continue;
        }
        byte_out(reading, piece[i]);
        reading->at->carriage = piece[i] == '\r';
        i++;
    }
    return i;
}

static ssize_t file_read(struct reading *reading)
{
    uint8_t *piece = malloc(PIECE_BYTES);
    ssize_t size = piece == NULL ? -ENOMEM : 1;
    while (size > 0 && !is_full(reading)) {
        size = reading->files->read(reading->files->self, reading->at->file, reading->at->at, piece,
                                    PIECE_BYTES);
        if (size > 0) {
            reading->at->at += piece_convert(reading, piece, (size_t)size);
        }
    }
    free(piece);
    return size < 0 ? size : (ssize_t)reading->used;
}

static int file_open(struct home *home, struct home_folder *folder, const struct home_text *text)
{
    const struct maildir_files *files = home_files(home);
    const struct maildir_uid *uid = maildir_uidlist_find_uid(&folder->box.list, text->uid);
    if (folder->box.list.uidvalidity != text->uidvalidity || uid == NULL ||
        uid->presence != MAILDIR_PRESENT || uid->file == NULL) {
        return -ENOENT;
    }
    return files->open_file(
        files->self, uid->in_new ? folder->box.new_folder : folder->box.cur_folder, uid->file);
}

/* ---- who reads on ---- */

static void reading_end(struct home *home, struct home_reading *reading)
{
    if (reading->mailbox != NULL) {
        home_files(home)->close(home_files(home)->self, reading->file);
        free(reading->mailbox);
        reading->mailbox = NULL;
    }
}

void home_readings_close(struct home *home, int64_t since_s)
{
    for (unsigned i = 0; i < HOME_READINGS; i++) {
        if (home->readings[i].used_s < since_s) {
            reading_end(home, &home->readings[i]);
        }
    }
}

/* NULL: none has come so far, or it is behind. */
static struct home_reading *reading_find(struct home *home, const struct home_text *text,
                                         uint64_t offset)
{
    for (unsigned i = 0; i < HOME_READINGS; i++) {
        struct home_reading *reading = &home->readings[i];
        if (reading->mailbox != NULL && reading->uid == text->uid &&
            reading->uidvalidity == text->uidvalidity && reading->offset <= offset &&
            strcmp(reading->mailbox, text->mailbox) == 0) {
            return reading;
        }
    }
    return NULL;
}

static int message_open(struct home *home, const struct home_text *text)
{
    struct home_folder *folder;
    int status = home_folder_need(home, text->mailbox, &folder);
    int file = status < 0 ? status : file_open(home, folder, text);
    if (status == 0 && file == -ENOENT) { /* its name is another by now */
        status = maildir_box_scan(&folder->box);
        file = status < 0 ? status : file_open(home, folder, text);
    }
    return file;
}

/* In the place of the one that was not needed for longest. */
static int reading_begin(struct home *home, const struct home_text *text,
                         struct home_reading **begun)
{
    struct home_reading *oldest = &home->readings[0];
    for (unsigned i = 0; i < HOME_READINGS; i++) {
        struct home_reading *reading = &home->readings[i];
        oldest = reading->mailbox == NULL ||
                         (oldest->mailbox != NULL && reading->used_s < oldest->used_s)
                     ? reading
                     : oldest;
    }
    reading_end(home, oldest);
    int file = message_open(home, text);
    if (file < 0) {
        return file;
    }
    *oldest = (struct home_reading){.mailbox = strdup(text->mailbox),
                                    .uid = text->uid,
                                    .uidvalidity = text->uidvalidity,
                                    .file = file};
    if (oldest->mailbox == NULL) {
        home_files(home)->close(home_files(home)->self, file);
        return -ENOMEM;
    }
    *begun = oldest;
    return 0;
}

ssize_t home_read(struct home *home, const struct home_text *text, uint64_t offset, void *bytes,
                  size_t size)
{
    struct home_reading *at = reading_find(home, text, offset);
    int status = at == NULL ? reading_begin(home, text, &at) : 0;
    if (status < 0) {
        return status;
    }
    struct reading reading = {
        .files = home_files(home), .at = at, .out = bytes, .size = size, .wanted = offset};
    at->used_s = world_wall_s(home->owner->world);
    ssize_t got = file_read(&reading);
    if (got < (ssize_t)size) { /* that was its end */
        reading_end(home, at);
    }
    return got;
}
