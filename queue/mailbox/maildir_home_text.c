/* Messages are read. */
#include "queue/mailbox/maildir_home_private.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES 65536u

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

ssize_t home_read(struct home *home, const struct home_text *text, uint64_t offset, void *bytes,
                  size_t size)
{
    struct home_folder *folder;
    int status = home_folder_need(home, text->mailbox, &folder);
    int file = status < 0 ? status : file_open(home, folder, text);
    if (status == 0 && file == -ENOENT) { /* its name is another by now */
        status = maildir_box_scan(&folder->box);
        file = status < 0 ? status : file_open(home, folder, text);
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
    if (reading.at.uid != text->uid || reading.at.uidvalidity != text->uidvalidity ||
        reading.at.offset > offset) {
        reading.at = (struct home_reading){.uid = text->uid, .uidvalidity = text->uidvalidity};
    }
    ssize_t got = file_read(&reading);
    folder->reading = reading.at;
    if (got < 0) {
        folder->reading.uid = 0;
    }
    reading.files->close(reading.files->self, file);
    return got;
}
