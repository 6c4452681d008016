/* maildir_uidlist_file: the list as a file: read as far as it has grown, appended to, replaced. */
#include "engine/core/check.h"
#include "queue/mailbox/maildir_uidlist.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define UIDLIST_TEMPORARY "dovecot-uidlist.tmp" /* as Dovecot calls it */
#define PIECE_BYTES 65536u

/* ---- reading ---- */

/* Begins anew; what was given stays given as long as UIDVALIDITY is the same. */
static void forget(struct maildir_uidlist *list, const struct maildir_files *files)
{
    uint32_t uidvalidity = list->uidvalidity, uid_next = list->uid_next;
    maildir_uidlist_close(list, files);
    list->uidvalidity = uidvalidity;
    list->uid_next = uid_next;
}

static int read_on(struct maildir_uidlist *list, const struct maildir_files *files)
{
    uint8_t *piece = malloc(PIECE_BYTES);
    if (piece == NULL) {
        return -ENOMEM;
    }
    ssize_t status;
    size_t held = 0;
    while ((status = files->read(files->self, list->file, list->read_bytes + held, piece + held,
                                 PIECE_BYTES - held)) > 0) {
        held += (size_t)status;
        status = maildir_uidlist_take(list, slice_of(piece, held));
        if (status < 0) {
            break;
        }
        if (status == 0 && held == PIECE_BYTES) { /* no line is so long: its end is looked for */
            list->damaged++;
            list->must_rewrite = true;
            status = (ssize_t)held;
        }
        list->read_bytes += (uint64_t)status;
        held -= (size_t)status;
        memmove(piece, piece + status, held);
    }
    free(piece);
    return status < 0 ? (int)status : 0;
}

static bool is_same(const struct maildir_uidlist *list, const struct maildir_files *files, int at)
{
    struct maildir_file_facts now, ours;
    return list->file >= 0 && files->facts(files->self, at, MAILDIR_UIDLIST, &now) == 0 &&
           files->facts_of_open(files->self, list->file, &ours) == 0 && now.inode == ours.inode &&
           now.device == ours.device && now.bytes >= list->read_bytes;
}

int maildir_uidlist_refresh(struct maildir_uidlist *list, const struct maildir_files *files, int at)
{
    if (!is_same(list, files, at)) {
        forget(list, files);
        list->file = files->open_file(files->self, at, MAILDIR_UIDLIST);
        if (list->file < 0) {
            int status = list->file;
            list->file = -1;
            return status == -ENOENT ? 0 : status;
        }
    }
    int status = read_on(list, files);
    if (status == -EBADMSG) {
        maildir_uidlist_close(list, files);
    }
    return status;
}

/* ---- writing ---- */

struct output {
    const struct maildir_files *files;
    int file, status;
    size_t used;
    char bytes[PIECE_BYTES];
};

static void output_flush(struct output *output)
{
    size_t sent = 0;
    while (output->status == 0 && sent < output->used) {
        ssize_t written = output->files->write(output->files->self, output->file,
                                               output->bytes + sent, output->used - sent);
        output->status = written < 0 ? (int)written : 0;
        sent += written < 0 ? 0 : (size_t)written;
    }
    output->used = 0;
}

static void lines_write(struct output *output, const struct maildir_uidlist *list, size_t first)
{
    for (size_t i = first; i < list->count; i++) {
        const struct maildir_uid *uid = &list->uids[i];
        if (output->used > PIECE_BYTES - 2 * MAILDIR_UIDLIST_LINE_MAX) {
            output_flush(output);
        }
        if (uid->base[0] != 0) {
            output->used += (size_t)snprintf(
                output->bytes + output->used, PIECE_BYTES - output->used, "%" PRIu32 "%s%s :%s\n",
                uid->uid, uid->fields[0] != 0 ? " " : "", uid->fields, uid->base);
        }
    }
    output_flush(output);
    if (output->status == 0) {
        output->status = output->files->sync(output->files->self, output->file);
    }
}

/* From now on it is the file that is read on. */
static int take_over(struct maildir_uidlist *list, const struct maildir_files *files, int at)
{
    int file = files->open_file(files->self, at, MAILDIR_UIDLIST);
    struct maildir_file_facts facts;
    int status = file < 0 ? file : files->facts_of_open(files->self, file, &facts);
    if (status < 0) {
        return status;
    }
    if (list->file >= 0) {
        files->close(files->self, list->file);
    }
    list->file = file;
    list->read_bytes = facts.bytes;
    list->header_read = true;
    list->version = 3;
    list->line_uid = list->count == 0 ? 0 : list->uids[list->count - 1].uid;
    list->must_rewrite = false;
    list->damaged = 0;
    return 0;
}

int maildir_uidlist_append(struct maildir_uidlist *list, const struct maildir_files *files, int at,
                           size_t first)
{
    struct maildir_file_facts facts;
    int status = list->file < 0 ? -ENOENT : files->facts_of_open(files->self, list->file, &facts);
    /* Behind a line without its end, what is appended would be part of it. */
    if (list->must_rewrite || status < 0 || facts.bytes != list->read_bytes) {
        return maildir_uidlist_replace(list, files, at);
    }
    struct output *output = malloc(sizeof *output);
    if (output == NULL) {
        return -ENOMEM;
    }
    output->files = files;
    output->status = 0;
    output->used = 0;
    output->file = files->open_end(files->self, at, MAILDIR_UIDLIST);
    status = output->file;
    if (output->file >= 0) {
        lines_write(output, list, first);
        files->close(files->self, output->file);
        status = output->status;
    }
    free(output);
    return status < 0 ? status : take_over(list, files, at);
}

int maildir_uidlist_replace(struct maildir_uidlist *list, const struct maildir_files *files, int at)
{
    check(list->uidvalidity != 0 && list->guid[0] != 0);
    struct output *output = malloc(sizeof *output);
    if (output == NULL) {
        return -ENOMEM;
    }
    maildir_uidlist_drop_gone(list);
    files->remove(files->self, at, UIDLIST_TEMPORARY); /* a crash left it; the lock is ours */
    output->files = files;
    output->status = 0;
    output->file = files->make_file(files->self, at, UIDLIST_TEMPORARY);
    int status = output->file;
    if (output->file >= 0) {
        output->used =
            (size_t)snprintf(output->bytes, PIECE_BYTES, "3 V%" PRIu32 " N%" PRIu32 " G%s%s\n",
                             list->uidvalidity, list->uid_next, list->guid, list->others);
        lines_write(output, list, 0);
        files->close(files->self, output->file);
        status = output->status;
        status = status < 0 ? status
                            : files->replace(files->self, at, UIDLIST_TEMPORARY, MAILDIR_UIDLIST);
        status = status < 0 ? status : files->sync(files->self, at);
    }
    free(output);
    return status < 0 ? status : take_over(list, files, at);
}
