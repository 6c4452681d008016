/*
 * tcp_send_queue: bytes that are written and not yet acknowledged, where they lie.
 *
 * Two kinds of pieces: chunks, mbufs of 2 KiB that write() copies into, taken when there is
 * something to send and given back when it is acknowledged; and references to memory that somebody
 * holds by a struct ref. Segments, also repeated ones, point into either: an mbuf that a port still
 * holds keeps its piece alive through the piece's count, however long after the acknowledgement.
 */
#pragma once
#include "engine/core/list.h"
#include "engine/core/ref.h"
#include "engine/core/slice.h"
#include "engine/net/slab.h"
#include <rte_mbuf.h>

#define TCP_PIECES_MAX 1024u /* of one connection; more: -EAGAIN */
#define TCP_CHUNK_BYTES 2048u

/* Of one stack. Outlives it while ports hold mbufs that point to pieces, without the owners. */
struct tcp_pieces {
    struct slab slab; /* of references */
    struct rte_mempool *chunks;
    uint32_t chunk_count, chunk_max;
    struct list_node linked; /* references: in queues or in mbufs */
    bool closed;
    struct { /* memory that the port may read by DMA: the last range that was asked for */
        const uint8_t *begin, *end;
    } known;
};

struct tcp_piece {
    struct rte_mbuf_ext_shared_info
        shared; /* its count: the queue, and each mbuf that points here */
    struct tcp_piece *next;
    struct list_node link; /* of a reference */
    const uint8_t *bytes;
    uint32_t size;
    uint32_t index;         /* in the slab; SLAB_NONE: a chunk */
    struct ref *owner;      /* of referenced bytes; NULL: the stack is closed */
    struct rte_mbuf *chunk; /* the mbuf that a chunk lies in, together with this struct */
    struct tcp_pieces *pieces;
    bool readable_by_port;
};

struct tcp_send_queue {
    struct tcp_piece *head, *tail;
    uint32_t head_skip; /* bytes of the head that are acknowledged */
    uint32_t bytes;     /* not acknowledged */
    uint32_t piece_count;
    uint32_t cursor_offset;   /* of the cursor piece's first byte, counted from the head's first */
    struct tcp_piece *cursor; /* where the last look ended: sending goes forward */
};

/* Of at most `max` references and `chunk_max` chunks. */
struct tcp_pieces *tcp_pieces_open(struct rte_mempool *chunks, uint32_t max, uint32_t chunk_max);
/* The queues are empty. Lets go of every owner: what a port still holds is of connections that are over. */
void tcp_pieces_close(struct tcp_pieces *pieces);

/* All or nothing. 0, -ENOMEM, or -EAGAIN: too many pieces. */
int tcp_send_queue_copy(struct tcp_pieces *pieces, struct tcp_send_queue *queue,
                        struct slice bytes);
int tcp_send_queue_refer(struct tcp_pieces *pieces, struct tcp_send_queue *queue,
                         struct slice bytes, struct ref *owner);
void tcp_send_queue_acked(struct tcp_send_queue *queue, uint32_t bytes);
void tcp_send_queue_clear(struct tcp_send_queue *queue);
/* The piece that holds byte number `offset` (< queue->bytes, 0: the first not acknowledged), and
 * where in it. */
struct tcp_piece *tcp_send_queue_at(struct tcp_send_queue *queue, uint32_t offset, uint32_t *skip);
