/* Messages that come or are copied. */
#include "queue/mailbox/maildir_home_private.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES 65536u
#define COPIES_MAX 5                /* tries, while others rename what is copied */
#define COPIED_FILE "tubepost-copy" /* in tmp/, below our lock of the user's line */

/* ---- bytes ---- */

/* Where neither a link nor a rename is to be had: the bytes. */
static int bytes_copy(const struct maildir_files *files, int from, int to)
{
    uint8_t *piece = malloc(PIECE_BYTES);
    uint64_t at = 0;
    int status = piece == NULL ? -ENOMEM : 0;
    while (status == 0) {
        ssize_t size = files->read(files->self, from, at, piece, PIECE_BYTES);
        if (size <= 0) {
            status = size < 0 ? (int)size : files->sync(files->self, to);
            break;
        }
        at += (uint64_t)size;
        for (ssize_t done = 0; done < size && status == 0;) {
            ssize_t written = files->write(files->self, to, piece + done, (size_t)(size - done));
            status = written < 0 ? (int)written : 0;
            done += written;
        }
    }
    free(piece);
    return status;
}

int home_file_copy(const struct maildir_files *files, int from_at, const char *from, int to_at,
                   const char *to)
{
    struct maildir_file_facts facts;
    int source = files->open_file(files->self, from_at, from);
    int status = source < 0 ? source : files->facts_of_open(files->self, source, &facts);
    if (status == 0) {
        files->remove(files->self, to_at, to);
        int target = files->make_file(files->self, to_at, to);
        status = target < 0 ? target : bytes_copy(files, source, target);
        if (target >= 0) {
            files->close(files->self, target);
            status =
                status < 0 ? status : files->set_modified(files->self, to_at, to, facts.modified_s);
        }
    }
    if (source >= 0) {
        files->close(files->self, source);
    }
    return status;
}

/* `from` becomes a file of the box's tmp/ before. */
static int put_by_bytes(const struct maildir_files *files, struct maildir_box *box,
                        struct maildir_put *put)
{
    int tmp = files->open_folder(files->self, box->folder, "tmp");
    int status = tmp < 0 ? tmp : home_file_copy(files, put->from_at, put->from, tmp, COPIED_FILE);
    put->from_at = tmp;
    put->from = COPIED_FILE;
    put->links = false;
    status = status == 0 ? maildir_box_put(box, put, 1) : status;
    if (tmp >= 0) {
        if (status < 0) {
            files->remove(files->self, tmp, COPIED_FILE);
        }
        files->close(files->self, tmp);
    }
    return status;
}

bool home_has_no_links(int status)
{
    return status == -EXDEV || status == -EPERM || status == -EMLINK || status == -EOPNOTSUPP;
}

/* On another file system, or one without links: a file each, which becomes the message. All of them, or none. */
static int puts_by_bytes(const struct maildir_files *files, struct maildir_box *box,
                         struct maildir_put *puts, size_t count)
{
    size_t done = 0;
    int status = 0;
    while (done < count && status == 0) {
        struct maildir_put *put = &puts[done];
        status = put_by_bytes(files, box, put);
        done += status == 0;
        /* Others may have come between; who is told of ranges must not be told so. */
        if (status == 0 && put->uid != puts[0].uid + done - 1) {
            status = -EAGAIN;
        }
    }
    for (size_t i = 0; i < done && status < 0; i++) {
        maildir_box_expunge(box, puts[i].uid);
    }
    return status;
}

int home_puts(struct home *home, struct maildir_box *box, struct maildir_put *puts, size_t count)
{
    int status = maildir_box_put(box, puts, count);
    return home_has_no_links(status) ? puts_by_bytes(home_files(home), box, puts, count) : status;
}

/* ---- one message ---- */

/* A name for cur/, with sizes, flags and keywords. */
int home_name_make(struct home *home, const struct maildir_name *is, char *out)
{
    char base[MAILDIR_FILE_NAME_MAX + 1];
    ssize_t size = maildir_namer_next(&home->namer, maildir_owner_now_us(home->owner), is->bytes,
                                      is->virtual_bytes, base);
    size = size < 0
               ? size
               : maildir_name_write(slice_of(base, (size_t)size), is->flags, is->keywords, out);
    if (size < 0) {
        return (int)size;
    }
    out[size] = 0;
    return 0;
}

int home_put(struct home *home, const char *mailbox, struct home_message *message, uint32_t *uid,
             struct home_news **news)
{
    const struct maildir_files *files = home_files(home);
    struct home_folder *folder;
    struct maildir_put put = {.from_at = message->at, .from = message->name};
    struct maildir_name is = {.bytes = message->bytes,
                              .virtual_bytes = message->virtual_bytes,
                              .flags = home_flags_to_maildir(message->flags)};
    int status = home_folder_need(home, mailbox, &folder);
    for (unsigned i = 0; i < message->keyword_count && status == 0; i++) {
        int letter = maildir_box_keyword(&folder->box, slice_text(message->keywords[i]));
        bool kept = letter >= 0;
        is.keywords |= kept ? 1u << letter : 0;
        message->left_off |= !kept && i < 64 ? 1ull << i : 0;
        status = kept || letter == -ENOSPC || letter == -EINVAL ? 0 : letter;
    }
    status = status == 0 ? home_name_make(home, &is, put.name) : status;
    if (status == 0 && message->internal_s != 0) {
        status = files->set_modified(files->self, message->at, message->name, message->internal_s);
    }
    status = status == 0 ? maildir_box_put(&folder->box, &put, 1) : status;
    if (status == -EXDEV) {
        status = put_by_bytes(files, &folder->box, &put);
        if (status == 0) {
            files->remove(files->self, message->at, message->name);
        }
    }
    *uid = put.uid;
    return status == 0 ? home_folder_compare(home, folder, news) : status;
}

/* ---- copies ---- */

struct copying {
    struct home *home;
    struct home_copy *copy;
    struct home_folder *to;
    struct maildir_box *from;
    struct maildir_put *puts;
    char (*sources)[MAILDIR_FILE_NAME_MAX + 1];
};

static int source_take(struct copying *copying, const struct home_write *entry)
{
    struct home_copy *copy = copying->copy;
    const struct maildir_uid *uid = maildir_uidlist_find_uid(&copying->from->list, entry->uid);
    struct maildir_name is;
    uint32_t letters;
    if (uid == NULL || uid->presence != MAILDIR_PRESENT) {
        return 0;
    }
    maildir_name_read(slice_text(uid->file), &is);
    int status =
        home_letters_of(copying->to, copy->names, copy->name_count, entry->keywords, &letters);
    copy->left_off |= home_left_off(copying->to, copy->names, copy->name_count, entry->keywords);
    if (status < 0) {
        return status;
    }
    if (is.virtual_bytes == MAILDIR_SIZE_UNKNOWN) {
        is.virtual_bytes = maildir_uid_field(uid, 'W');
    }
    is.flags = home_flags_to_maildir(entry->flags);
    is.keywords = letters;
    size_t at = copy->copied_count;
    struct maildir_put *put = &copying->puts[at];
    *put = (struct maildir_put){.from_at = uid->in_new ? copying->from->new_folder
                                                       : copying->from->cur_folder,
                                .from = copying->sources[at],
                                .links = true};
    snprintf(copying->sources[at], sizeof copying->sources[at], "%s", uid->file);
    copy->copied[copy->copied_count++] = entry->uid;
    return home_name_make(copying->home, &is, put->name);
}

static int copies_put(struct copying *copying)
{
    struct home_copy *copy = copying->copy;
    int status = 0;
    copy->copied_count = 0;
    for (size_t i = 0; i < copy->count && status == 0; i++) {
        status = source_take(copying, &copy->entries[i]);
    }
    if (status != 0 || copy->copied_count == 0) {
        return status;
    }
    status = home_puts(copying->home, &copying->to->box, copying->puts, copy->copied_count);
    copy->first = copying->puts[0].uid;
    return status;
}

/* Another user's folder: read beside whoever works on it. */
static int foreign_open(struct home *home, const struct home_copy *copy, struct home **other,
                        struct home_folder **folder)
{
    const char *path = copy->path != NULL ? copy->path : home->path;
    int status = home_open(other, home->owner, path, copy->user);
    return status == 0 ? home_folder_need(*other, copy->from, folder) : status;
}

int home_copy(struct home *home, struct home_copy *copy, struct home_news **news)
{
    struct home *other = NULL;
    struct home_folder *from = NULL;
    struct copying copying = {.home = home, .copy = copy};
    int status = copy->user != NULL ? foreign_open(home, copy, &other, &from)
                                    : home_folder_need(home, copy->from, &from);
    bool gone = status == -ENOENT; /* -ENOENT is said of the target alone */
    status = status == 0 || gone ? home_folder_need(home, copy->to, &copying.to) : status;
    status = status == 0 && !gone ? maildir_box_scan(&from->box) : status;
    bool same = status == 0 && !gone && from->box.list.uidvalidity == copy->uidvalidity;
    copying.puts = calloc(copy->count + 1, sizeof copying.puts[0]);
    copying.sources = calloc(copy->count + 1, sizeof copying.sources[0]);
    if (copying.puts == NULL || copying.sources == NULL) {
        status = -ENOMEM;
    }
    copy->copied_count = 0;
    if (status == 0 && same) {
        copying.from = &from->box;
        status = copies_put(&copying);
        for (unsigned i = 1; status == -ENOENT && i < COPIES_MAX; i++) { /* names have changed */
            status = maildir_box_scan(&from->box);
            status = status == 0 ? copies_put(&copying) : status;
        }
        status = status == -ENOENT ? -EAGAIN : status;
    }
    if (status == 0 && copy->copied_count > 0) { /* else it may not have been scanned */
        status = home_folder_compare(home, copying.to, news);
    }
    free(copying.puts);
    free(copying.sources);
    home_close(other);
    return status;
}
