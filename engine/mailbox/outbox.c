#include "engine/mailbox/outbox.h"
#include "engine/core/check.h"
#include "engine/core/limits.h"
#include <stdlib.h>

#define PIECE_BYTES 4096u  /* of one that copies are gathered in, its head included */
#define REF_BYTES_MIN 512u /* below that a copy is cheaper than a ref and a segment of its own */

struct piece {
    struct list_node node;
    struct ref *owner;  /* of what lies elsewhere, held; NULL: it lies here */
    struct slice bytes; /* that are left */
    size_t room;        /* behind them, of a copy */
    uint8_t copied[];
};

_Static_assert(OUTBOX_PLACE_MAX <= PIECE_BYTES - sizeof(struct piece), "a place fits a piece");

void outbox_open(struct outbox *outbox, size_t full_bytes)
{
    *outbox = (struct outbox){.full_bytes = full_bytes};
    list_init(&outbox->pieces);
}

static void piece_end(struct outbox *outbox, struct piece *piece)
{
    outbox->bytes -= piece->bytes.size;
    outbox->memory_bytes -= piece->owner != NULL ? sizeof(*piece) : PIECE_BYTES;
    list_remove(&piece->node);
    if (piece->owner != NULL) {
        ref_drop(piece->owner);
    }
    free(piece);
}

void outbox_close(struct outbox *outbox)
{
    while (!list_empty(&outbox->pieces)) {
        piece_end(outbox, list_entry(outbox->pieces.next, struct piece, node));
    }
    outbox->failed = false;
    outbox->was_full = false;
}

static struct piece *piece_add(struct outbox *outbox, size_t bytes)
{
    struct piece *piece = outbox->failed ? NULL : malloc(bytes);
    if (piece == NULL) {
        outbox->failed = true;
        return NULL;
    }
    *piece = (struct piece){.owner = NULL};
    list_init(&piece->node);
    list_append(&outbox->pieces, &piece->node);
    outbox->memory_bytes += bytes;
    return piece;
}

static struct piece *piece_last(const struct outbox *outbox)
{
    return list_empty(&outbox->pieces) ? NULL : list_entry(outbox->pieces.prev, struct piece, node);
}

/* With room for so much at its end. */
static struct piece *piece_with_room(struct outbox *outbox, size_t bytes)
{
    struct piece *piece = piece_last(outbox);
    if (outbox->failed || (piece != NULL && piece->owner == NULL && piece->room >= bytes)) {
        return outbox->failed ? NULL : piece;
    }
    piece = piece_add(outbox, PIECE_BYTES);
    if (piece != NULL) {
        piece->bytes = slice_of(piece->copied, 0);
        piece->room = PIECE_BYTES - sizeof(*piece);
    }
    return piece;
}

uint8_t *outbox_place(struct outbox *outbox, size_t bytes)
{
    check(bytes <= OUTBOX_PLACE_MAX);
    struct piece *piece = piece_with_room(outbox, bytes);
    return piece == NULL ? NULL : (uint8_t *)(uintptr_t)piece->bytes.bytes + piece->bytes.size;
}

void outbox_wrote(struct outbox *outbox, size_t bytes)
{
    struct piece *piece = piece_last(outbox);
    check(piece != NULL && piece->owner == NULL && bytes <= piece->room);
    piece->bytes.size += bytes;
    piece->room -= bytes;
    outbox->bytes += bytes;
}

void outbox_write(struct outbox *outbox, struct slice bytes)
{
    while (bytes.size > 0) {
        struct piece *piece = piece_with_room(outbox, 1);
        if (piece == NULL) {
            return;
        }
        size_t size = bytes.size < piece->room ? bytes.size : piece->room;
        memcpy((uint8_t *)(uintptr_t)piece->bytes.bytes + piece->bytes.size, bytes.bytes, size);
        outbox_wrote(outbox, size);
        bytes = slice_from(bytes, size);
    }
}

void outbox_write_ref(struct outbox *outbox, struct slice bytes, struct ref *owner)
{
    if (bytes.size < REF_BYTES_MIN) {
        outbox_write(outbox, bytes);
        return;
    }
    struct piece *piece = piece_add(outbox, sizeof(*piece));
    if (piece != NULL) {
        piece->bytes = bytes;
        piece->owner = ref_take(owner);
        outbox->bytes += bytes.size;
    }
}

void outbox_move(struct outbox *to, struct outbox *from)
{
    list_splice(&to->pieces, &from->pieces);
    to->bytes += from->bytes;
    to->memory_bytes += from->memory_bytes;
    to->failed = to->failed || from->failed;
    from->bytes = from->memory_bytes = 0;
}

struct slice outbox_first(const struct outbox *outbox)
{
    for (struct list_node *node = outbox->pieces.next; node != &outbox->pieces; node = node->next) {
        const struct piece *piece = list_entry(node, struct piece, node);
        if (piece->bytes.size > 0) {
            return piece->bytes;
        }
    }
    return slice_of(NULL, 0);
}

void outbox_sent(struct outbox *outbox, size_t bytes)
{
    while (!list_empty(&outbox->pieces)) {
        struct piece *piece = list_entry(outbox->pieces.next, struct piece, node);
        size_t some = piece->bytes.size < bytes ? piece->bytes.size : bytes;
        piece->bytes = slice_from(piece->bytes, some);
        outbox->bytes -= some;
        bytes -= some;
        if (piece->bytes.size > 0) {
            break;
        }
        piece_end(outbox, piece);
    }
    check(bytes == 0);
}

bool outbox_is_full(struct outbox *outbox)
{
    outbox->was_full = outbox->bytes >= outbox->full_bytes ||
                       (outbox->was_full && outbox->bytes > outbox->full_bytes / 2);
    return outbox->was_full;
}

static int piece_send(struct outbox *outbox, struct piece *piece, struct stream *stream)
{
    struct slice bytes = piece->bytes;
    int status;
    if (piece->owner != NULL) {
        status = stream_write_ref(stream, bytes, piece->owner);
    } else {
        bytes = slice_first(bytes, STREAM_WRITE_MAX);
        status = bytes.size == 0 ? 0 : stream_write(stream, bytes);
    }
    if (status == 0) {
        piece->bytes = slice_from(piece->bytes, bytes.size);
        outbox->bytes -= bytes.size;
    }
    return status;
}

int outbox_flush(struct outbox *outbox, struct stream *stream)
{
    int status = 0;
    while (status == 0 && !list_empty(&outbox->pieces)) {
        struct piece *piece = list_entry(outbox->pieces.next, struct piece, node);
        status = piece_send(outbox, piece, stream);
        if (status == 0 && piece->bytes.size == 0) {
            piece_end(outbox, piece);
        }
    }
    /* The stream's memory comes back with what it has sent. */
    status = status == -ENOMEM ? -EAGAIN : status;
    return status == 0 && outbox->failed ? -ENOMEM : status;
}
