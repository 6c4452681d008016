/*
 * crossing_private: what the notes (crossing.c) and the streams (crossing_near.c, crossing_far.c) share. Nobody else
 * includes it.
 *
 * A passage is one piece of memory with two halves, and each shard touches its own half alone:
 *
 *      near (the carrier's shard)                     far (the session's)
 *         ── chunk of what was received ──────────────►  consumed: it goes home, and its room with it
 *         ◄────────────────────────── chunk to be sent ──  when the carrier has let go of it: home
 *         ── word: finished, closed; the last: farewell ─►
 *         ◄──────────────── word: shut, aborted, released ──
 *
 * A chunk is made and freed by the shard that fills it, and refs of what it points to are dropped there. Each half has one
 * word: it goes to the other half and comes home before it goes again, so that it needs no memory. Chunks and words of a
 * half go through one queue and one ring: they stay in order.
 *
 * The end: the far end says `released`; the near half sends what is left, lets go of the carrier, waits until every chunk
 * and its word are home, and says farewell: after it nothing of the passage is under way, and the far half frees it.
 * If the shards end before, what is in the rings is dropped, and who is last frees the passage: passage_forget.
 */
#pragma once
#include "engine/core/limits.h"
#include "engine/core/wheel.h"
#include "engine/mailbox/crossing.h"

#define SECOND_NS 1000000000ull

struct passage;

struct crossing_queue { /* to one shard */
    struct shard *to;
    struct crossing_note *first, **last;
};

struct crossing {
    struct shard *shard;
    /* Near halves: made in this round, at work, and those whose session has gone and whose carrier has still to send. */
    struct list_node fresh, passages, lingering;
    struct list_node far_ends;
    struct list_node filling; /* far ends with a chunk to be sent in this round */
    struct list_node ready;   /* far ends with events to be told */
    struct list_node waiting; /* the same, that no session has taken */
    struct timer starved;     /* memory was short */
    struct timer linger;
    unsigned queue_count;
    struct crossing_queue queues[]; /* by the receiver's index */
};

struct chunk {
    struct crossing_note note; /* first; its `next` is of whoever has the chunk */
    struct passage *passage;
    struct slice bytes; /* not yet consumed; of a chunk to be sent all of them */
    size_t cost;        /* that it takes of the window */
    size_t room_bytes;  /* of what is copied */
    /* Of a chunk to be sent: */
    struct ref ref;        /* the near half's and the carrier's */
    struct ref *owner;     /* home's; NULL: the bytes are below */
    struct list_node sent; /* home's, in far->sent */
    bool refused;          /* the carrier did not take it */
    bool drained;          /* and has sent all that it was given */
    uint8_t room[];
};

#define CROSSING_RESUME_BYTES                                                                      \
    (CROSSING_WINDOW_BYTES / 4 * 3) /* under way, when a full window opens */

#define CHUNK_BYTES (16384u - sizeof(struct chunk))    /* of one that is received, at most */
#define CHUNK_BYTES_MIN (1024u - sizeof(struct chunk)) /* that are allocated for small writes */

struct chunk_list { /* a queue by note.next */
    struct chunk *first, *last;
};

enum passage_says {
    /* near */
    PASSAGE_BEGUN = 1,
    PASSAGE_FINISHED = 2, /* the peer's FIN; nothing is left to be read */
    PASSAGE_CLOSED = 4,
    PASSAGE_FAREWELL = 8,
    /* far */
    PASSAGE_SHUT = 16,
    PASSAGE_ABORTED = 32,
    PASSAGE_RELEASED = 64,
};

struct passage_word {
    struct crossing_note note; /* first */
    bool away;                 /* it has not come home */
    uint8_t wanted, said;      /* enum passage_says; the half's own */
    uint8_t says;              /* the half's while at home, else the other's */
};

struct passage_near {
    struct crossing *crossing;
    struct list_node node;
    struct stream *carrier; /* NULL: let go */
    struct chunk_list pending;
    struct chunk *last;   /* the carrier has let go of it and not said STREAM_DRAINED */
    uint32_t window_used; /* by chunks of what was received */
    uint32_t held;        /* chunks to be sent that are here, or with the carrier */
    struct passage_word word;
    uint32_t linger_due_s;       /* of the shard's clock: then a lingering one is cut */
    int error;                   /* with PASSAGE_CLOSED */
    bool finished : 1, over : 1; /* STREAM_HALF_CLOSED, STREAM_CLOSED */
    bool shut : 1, shut_done : 1, released : 1; /* the session's wish; it was carried out */
    bool drained : 1;                           /* the carrier has sent all that it was given */
    bool window_closed : 1, starved : 1;
};

struct passage_far {
    struct crossing *crossing;
    struct list_node node; /* in far_ends, from the first that is heard of the half on its shard */
    struct list_node to_fill; /* in filling */
    struct chunk_list received;
    struct chunk *chunk;   /* that is being filled; NULL: none */
    struct list_node sent; /* chunks that are not home; struct chunk.sent */
    uint64_t sent_bytes;   /* in them */
    uint64_t window_used;  /* by them */
    struct passage_word word;
    bool shut, closed, released, read_stopped, write_waits, starved;
    bool broken; /* the carrier takes nothing more */
};

/* Facts without the endpoints, which are behind the passage. */
struct passage_facts {
    const char *transport;
    const struct tls_facts *tls;
    uint32_t user;
    bool user_known;
};

struct passage {
    struct stream stream; /* first: the far end */
    struct passage_far far;
    struct passage_near near;
    struct shard *near_shard, *far_shard;
    struct passage_facts facts;
    uint8_t endpoints[]; /* local and remote, cut: a path is there of unix sockets alone */
};
_Static_assert(sizeof(struct passage) + 2 * offsetof(struct endpoint, path) <= 384,
               "10,000 idle passages fit in 4 MB");

static inline bool chunks_empty(const struct chunk_list *list)
{
    return list->first == NULL;
}

static inline void chunks_append(struct chunk_list *list, struct chunk *chunk)
{
    chunk->note.next = NULL;
    if (list->first == NULL) {
        list->first = chunk;
    } else {
        list->last->note.next = &chunk->note;
    }
    list->last = chunk;
}

static inline struct chunk *chunks_after(const struct chunk *chunk)
{
    return (struct chunk *)(void *)chunk->note.next; /* its first member */
}

static inline struct chunk *chunks_pop(struct chunk_list *list)
{
    struct chunk *chunk = list->first;
    if (chunk != NULL) {
        list->first = chunks_after(chunk);
    }
    return chunk;
}

/* crossing.c */
/* passage_near_fed and passage_far_fed, for all of the shard's, when there may be memory. */
void crossing_retry_later(struct crossing *crossing);
/* There is a passage that lingers. */
void crossing_linger(struct crossing *crossing);
/* Has this said, too, as soon as the word is at home. */
void passage_say_near(struct passage *passage, uint8_t says);
void passage_say_far(struct passage *passage, uint8_t says);
/* After the threads have ended: frees the passage if neither half is in a list and no word of it is under way. */
void passage_forget(struct passage *passage);
/* Frees it, and lets go of what it points to. */
void chunk_dropped(struct shard_message *message);

/* crossing_near.c: on the carrier's shard. The first three, and a chunk, may end the passage. */
/* Moves what can be moved, and says what is to be said. */
void passage_near_go_on(struct passage *passage);
void passage_near_hear(struct passage *passage, uint8_t says);
void passage_near_word_home(struct passage *passage);
/* The carrier is aborted, whatever is left to be sent. May end the passage. */
void passage_near_cut(struct passage *passage);
void passage_near_take(struct passage *passage);
void passage_near_begin(struct passage *passage);
void passage_near_fed(struct passage *passage);
void passage_near_close(struct passage *passage);
/* Messages: a chunk to be sent has come; one of what was received has come home. */
void passage_near_chunk_arrives(struct shard_message *message, struct shard *shard);
void passage_near_chunk_home(struct shard_message *message, struct shard *shard);

/* crossing_far.c: on the session's shard */
extern const struct stream_ops passage_far_operations;
/* Tells the session what has come. 1; 0: nothing has. */
unsigned passage_far_tell(struct passage *passage);
void passage_far_hear(struct passage *passage, uint8_t says);
/* Sends the chunk that was being filled. */
void passage_far_flush(struct passage *passage);
void passage_far_fed(struct passage *passage);
/* Of what was written by reference, without waiting for it. */
void passage_far_let_go(struct passage *passage);
void passage_far_close(struct passage *passage);
void passage_far_chunk_arrives(struct shard_message *message, struct shard *shard);
void passage_far_chunk_home(struct shard_message *message, struct shard *shard);
