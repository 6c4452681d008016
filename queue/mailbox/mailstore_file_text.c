/*
 * Texts are read from Maildirs by helpers, a piece at a time; the newest pieces stay a while.
 *
 *  READING ──done──► READY or BAD ──► gone, when another needs its place
 */
#include "queue/mailbox/mailstore_files.h"
#include <stdio.h>
#include <stdlib.h>

#define PIECE_BYTES 65536u

enum piece_state { PIECE_READING, PIECE_READY, PIECE_BAD };

struct text_piece {
    struct ref ref;        /* first; readers, while it is READY */
    struct list_node node; /* of files->texts, unless somebody reads it */
    struct crew_job job;
    struct list_node waiters;
    struct files *files;
    struct mirror *mirror; /* while it is READING */
    enum piece_state state;
    uint64_t text;
    uint32_t offset, uidvalidity, uid;
    ssize_t size;
    char mailbox[MAILSTORE_NAME_BYTES_MAX + 1];
    uint8_t bytes[PIECE_BYTES];
};

static void piece_release(struct ref *ref)
{
    struct text_piece *piece = (struct text_piece *)(void *)ref;
    list_remove(&piece->node);
    list_append(&piece->files->texts, &piece->node);
}

static void piece_work(struct crew_job *job)
{
    struct text_piece *piece = list_entry(job, struct text_piece, job);
    const struct home_text text = {
        .mailbox = piece->mailbox, .uidvalidity = piece->uidvalidity, .uid = piece->uid};
    piece->size =
        home_read(piece->mirror->home, &text, piece->offset, piece->bytes, sizeof piece->bytes);
}

static void piece_done(struct crew_job *job)
{
    struct text_piece *piece = list_entry(job, struct text_piece, job);
    struct mailstore *store = piece->files->store;
    struct list_node told;
    struct mirror *mirror = piece->mirror;
    piece->mirror = NULL;
    if (--mirror->readers == 0) {
        mirror_free_again(mirror);
    }
    piece->state = piece->size > 0 ? PIECE_READY : PIECE_BAD;
    store->counters.fetch_failures += piece->size <= 0;
    list_init(&told);
    list_splice(&told, &piece->waiters);
    for (struct list_node *node; (node = list_pop(&told)) != NULL;) {
        struct mailstore_waiter *waiter = list_entry(node, struct mailstore_waiter, node);
        list_entry(waiter, struct mailstore_fetch, waiter)->private = NULL;
        waiter->done(waiter, piece->state == PIECE_READY ? 0 : -EIO);
    }
}

static bool piece_has(const struct text_piece *piece, uint64_t text, uint32_t offset)
{
    if (piece->text != text || offset < piece->offset) {
        return false;
    }
    uint32_t size = piece->state == PIECE_READY ? (uint32_t)piece->size : 1;
    return offset - piece->offset < size;
}

static struct text_piece *piece_find(const struct files *files, uint64_t text, uint32_t offset)
{
    for (struct list_node *node = files->texts.prev; node != &files->texts; node = node->prev) {
        struct text_piece *piece = list_entry(node, struct text_piece, node);
        if (piece_has(piece, text, offset)) {
            return piece;
        }
    }
    return NULL;
}

/* One that is there and that nobody reads, when there are as many as there may be. */
static struct text_piece *piece_new(struct files *files)
{
    uint32_t most = (uint32_t)(files->store->settings.fetch_memory_bytes / PIECE_BYTES);
    struct text_piece *piece = NULL;
    if (files->text_count < most) {
        piece = calloc(1, sizeof *piece);
        files->text_count += piece != NULL;
        if (piece != NULL) {
            list_init(&piece->node);
        }
        return piece;
    }
    for (struct list_node *node = files->texts.next; node != &files->texts; node = node->next) {
        piece = list_entry(node, struct text_piece, node);
        if (piece->state != PIECE_READING && piece->ref.count == 0) {
            list_remove(&piece->node);
            return piece;
        }
    }
    return NULL;
}

/* fetch: NULL: nobody is told. */
static int piece_wait(struct text_piece *piece, struct mailstore_fetch *fetch)
{
    if (fetch != NULL) {
        list_init(&fetch->waiter.node);
        list_append(&piece->waiters, &fetch->waiter.node);
        fetch->private = piece;
    }
    return -EINPROGRESS;
}

static int piece_fetch(struct mirror *mirror, const struct box *box, const struct text_file *file,
                       struct text_piece *piece)
{
    list_init(&piece->waiters);
    piece->files = mirror->files;
    piece->mirror = mirror;
    piece->state = PIECE_READING;
    piece->uidvalidity = box->pub.uidvalidity;
    piece->uid = file->uid;
    snprintf(piece->mailbox, sizeof piece->mailbox, "%.*s", (int)box->pub.name.size,
             (const char *)box->pub.name.bytes);
    list_append(&mirror->files->texts, &piece->node);
    mirror->readers++;
    mirror->files->store->counters.fetches++;
    piece->job = (struct crew_job){.work = piece_work, .done = piece_done};
    crew_give(mirror->files->crew, &mirror->line, &piece->job);
    return 0;
}

static int piece_begin(struct mailstore *store, const struct text_row *row, uint64_t text,
                       uint32_t offset, struct mailstore_fetch *fetch)
{
    struct text_file file = text_file_of(row);
    struct user *user;
    int status = user_get_by_id(store, file.user, &user);
    if (status != 0) {
        return -EIO;
    }
    const struct box *box = user_box_by_id(user, file.box);
    struct mirror *mirror = box != NULL ? mirror_get(user) : NULL;
    struct text_piece *piece = mirror != NULL ? piece_new(store->files) : NULL;
    status = mirror == NULL ? -EIO : piece == NULL ? -EAGAIN : 0;
    if (status == 0) {
        piece->text = text;
        piece->offset = offset;
        piece_fetch(mirror, box, &file, piece);
        status = piece_wait(piece, fetch);
    }
    user_drop(user);
    return status;
}

int files_read(struct mailstore *store, const struct mailstore_text *text,
               const struct text_row *row, uint32_t offset, struct slice *bytes, struct ref **owner,
               struct mailstore_fetch *fetch)
{
    struct text_piece *piece = piece_find(store->files, text->id, offset);
    if (piece == NULL) {
        return piece_begin(store, row, text->id, offset, fetch);
    }
    switch (piece->state) {
    case PIECE_READING:
        return piece_wait(piece, fetch);
    case PIECE_READY:
        if (piece->ref.count == 0) {
            ref_init(&piece->ref, piece_release);
        } else {
            ref_take(&piece->ref);
        }
        *owner = &piece->ref;
        uint32_t skip = offset - piece->offset;
        *bytes = slice_of(piece->bytes + skip, (size_t)piece->size - skip);
        *bytes = slice_first(*bytes, text->bytes - offset); /* a file that has grown */
        return 0;
    case PIECE_BAD: /* said once; who asks again has it read again */
        piece->text = 0;
        return -EIO;
    }
    return -EIO;
}

int files_expect(struct mailstore *store, uint64_t text, const struct text_row *row)
{
    int status = row->bytes == 0 || piece_find(store->files, text, 0) != NULL
                     ? 0
                     : piece_begin(store, row, text, 0, NULL);
    return status == -EINPROGRESS ? (int)PIECE_BYTES : status == -EAGAIN ? -EAGAIN : 0;
}

void file_texts_close(struct mailstore *store)
{
    for (struct list_node *node; (node = list_pop(&store->files->texts)) != NULL;) {
        free(list_entry(node, struct text_piece, node));
    }
}
