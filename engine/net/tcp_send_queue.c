#include "engine/net/tcp_send_queue.h"
#include "engine/core/check.h"
#include <errno.h>
#include <rte_memory.h>

struct tcp_pieces *tcp_pieces_open(struct rte_mempool *chunks, uint32_t max, uint32_t chunk_max)
{
    struct tcp_pieces *pieces = calloc(1, sizeof(*pieces));
    if (pieces == NULL || slab_open(&pieces->slab, sizeof(struct tcp_piece), max) < 0) {
        free(pieces);
        return NULL;
    }
    list_init(&pieces->linked);
    pieces->chunks = chunks;
    pieces->chunk_max = chunk_max;
    return pieces;
}

static void pieces_free(struct tcp_pieces *pieces)
{
    slab_close(&pieces->slab);
    free(pieces);
}

void tcp_pieces_close(struct tcp_pieces *pieces)
{
    if (pieces == NULL) {
        return;
    }
    pieces->closed = true;
    for (struct list_node *node = pieces->linked.next; node != &pieces->linked; node = node->next) {
        struct tcp_piece *piece = list_entry(node, struct tcp_piece, link);
        ref_drop(piece->owner);
        piece->owner = NULL;
    }
    if (list_empty(&pieces->linked)) {
        pieces_free(pieces);
    }
}

/* Nobody points to the referenced bytes any more. Called from wherever the last mbuf is freed. */
static void reference_end(void *bytes, void *opaque)
{
    struct tcp_piece *piece = opaque;
    struct tcp_pieces *pieces = piece->pieces;
    (void)bytes;
    if (piece->owner != NULL) {
        ref_drop(piece->owner);
    }
    list_remove(&piece->link);
    slab_give(&pieces->slab, piece->index);
    if (pieces->closed && list_empty(&pieces->linked)) {
        pieces_free(pieces);
    }
}

static void piece_drop(struct tcp_piece *piece)
{
    if (piece->index == SLAB_NONE) {
        piece->pieces->chunk_count--;
        rte_pktmbuf_free(piece->chunk);
    } else if (rte_mbuf_ext_refcnt_update(&piece->shared, -1) == 0) {
        reference_end(NULL, piece);
    }
}

static void append(struct tcp_send_queue *queue, struct tcp_piece *piece)
{
    piece->next = NULL;
    if (queue->tail == NULL) {
        queue->head = piece;
        queue->head_skip = 0;
        queue->cursor = NULL;
    } else {
        queue->tail->next = piece;
    }
    queue->tail = piece;
    queue->piece_count++;
}

static struct tcp_piece *chunk_take(struct tcp_pieces *pieces)
{
    if (pieces->chunk_count >= pieces->chunk_max) {
        return NULL;
    }
    struct rte_mbuf *chunk = rte_pktmbuf_alloc(pieces->chunks);
    if (chunk == NULL) {
        return NULL;
    }
    static_assert(sizeof(struct tcp_piece) <= RTE_PKTMBUF_HEADROOM, "it lies before the bytes");
    struct tcp_piece *piece = chunk->buf_addr;
    *piece = (struct tcp_piece){.bytes = rte_pktmbuf_mtod(chunk, const uint8_t *),
                                .index = SLAB_NONE,
                                .chunk = chunk,
                                .pieces = pieces,
                                .readable_by_port = true};
    pieces->chunk_count++;
    return piece;
}

static uint32_t chunk_room(const struct tcp_piece *piece)
{
    return piece != NULL && piece->index == SLAB_NONE ? rte_pktmbuf_tailroom(piece->chunk) : 0;
}

/* Bytes after those that were sent may be written though a port holds the ones before. */
static size_t chunk_fill(struct tcp_piece *piece, struct slice bytes)
{
    size_t count = chunk_room(piece);
    count = count < bytes.size ? count : bytes.size;
    memcpy(rte_pktmbuf_mtod_offset(piece->chunk, uint8_t *, piece->size), bytes.bytes, count);
    piece->chunk->data_len = (uint16_t)(piece->chunk->data_len + count);
    piece->chunk->pkt_len = piece->chunk->data_len;
    piece->size += (uint32_t)count;
    return count;
}

int tcp_send_queue_copy(struct tcp_pieces *pieces, struct tcp_send_queue *queue, struct slice bytes)
{
    struct tcp_piece *taken = NULL, **end = &taken, *piece;
    uint32_t room = chunk_room(queue->tail);
    while (room < bytes.size) {
        piece = chunk_take(pieces);
        if (piece == NULL) {
            while ((piece = taken) != NULL) {
                taken = piece->next;
                piece_drop(piece);
            }
            return -ENOMEM;
        }
        *end = piece;
        end = &piece->next;
        room += chunk_room(piece);
    }
    queue->bytes += (uint32_t)bytes.size;
    if (chunk_room(queue->tail) > 0) {
        bytes = slice_from(bytes, chunk_fill(queue->tail, bytes));
    }
    while ((piece = taken) != NULL) {
        taken = piece->next;
        bytes = slice_from(bytes, chunk_fill(piece, bytes));
        append(queue, piece);
    }
    check(bytes.size == 0);
    return 0;
}

/* Only memory of the EAL has addresses that a device knows. */
static bool readable_by_port(struct tcp_pieces *pieces, struct slice bytes)
{
    const uint8_t *end = bytes.bytes + bytes.size;
    if (bytes.bytes < pieces->known.begin || end > pieces->known.end) {
        const struct rte_memseg_list *list = rte_mem_virt2memseg_list(bytes.bytes);
        if (list == NULL) {
            return false;
        }
        pieces->known.begin = list->base_va;
        pieces->known.end = pieces->known.begin + list->len;
    }
    return bytes.bytes >= pieces->known.begin && end <= pieces->known.end;
}

int tcp_send_queue_refer(struct tcp_pieces *pieces, struct tcp_send_queue *queue,
                         struct slice bytes, struct ref *owner)
{
    if (queue->piece_count >= TCP_PIECES_MAX) {
        return -EAGAIN;
    }
    uint32_t index = slab_take(&pieces->slab);
    if (index == SLAB_NONE) {
        return -ENOMEM;
    }
    struct tcp_piece *piece = slab_at(&pieces->slab, index);
    *piece = (struct tcp_piece){.shared = {.free_cb = reference_end, .fcb_opaque = piece},
                                .bytes = bytes.bytes,
                                .size = (uint32_t)bytes.size,
                                .index = index,
                                .owner = ref_take(owner),
                                .pieces = pieces,
                                .readable_by_port = readable_by_port(pieces, bytes)};
    rte_mbuf_ext_refcnt_set(&piece->shared, 1);
    list_append(&pieces->linked, &piece->link);
    append(queue, piece);
    queue->bytes += piece->size;
    return 0;
}

void tcp_send_queue_acked(struct tcp_send_queue *queue, uint32_t bytes)
{
    check(bytes <= queue->bytes);
    queue->bytes -= bytes;
    queue->head_skip += bytes;
    while (queue->head != NULL && queue->head_skip >= queue->head->size) {
        struct tcp_piece *piece = queue->head;
        queue->head_skip -= piece->size;
        queue->cursor_offset -= piece->size;
        if (queue->cursor == piece) {
            queue->cursor = NULL;
        }
        queue->head = piece->next;
        queue->piece_count--;
        piece_drop(piece);
    }
    if (queue->head == NULL) {
        queue->tail = NULL;
        queue->cursor = NULL;
        check(queue->head_skip == 0);
    }
}

void tcp_send_queue_clear(struct tcp_send_queue *queue)
{
    while (queue->head != NULL) {
        struct tcp_piece *piece = queue->head;
        queue->head = piece->next;
        piece_drop(piece);
    }
    *queue = (struct tcp_send_queue){0};
}

struct tcp_piece *tcp_send_queue_at(struct tcp_send_queue *queue, uint32_t offset, uint32_t *skip)
{
    check(offset < queue->bytes);
    offset += queue->head_skip;
    if (queue->cursor == NULL || offset < queue->cursor_offset) {
        queue->cursor = queue->head;
        queue->cursor_offset = 0;
    }
    while (offset - queue->cursor_offset >= queue->cursor->size) {
        queue->cursor_offset += queue->cursor->size;
        queue->cursor = queue->cursor->next;
    }
    *skip = offset - queue->cursor_offset;
    return queue->cursor;
}
