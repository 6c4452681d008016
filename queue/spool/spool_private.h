/*
 * spool_private: what the files of the spool share. Nobody else includes it.
 *
 * spool.c          open, close, what becomes of a committed message
 * spool_draft.c    receiving a message, committing it
 * spool_fetch.c    reading bodies
 * spool_space.c    space: trimming the log, when to copy forward, how much more mail fits
 * spool_forward.c  copying forward what is in the way
 * spool_notes.c    what the log says of a message after its commit
 * spool_between.c  freeing dead segments that others are older than
 * spool_harvest.c  recovery
 * spool_found.c    giving what recovery has found
 * spool_adopt.c    folders of shards that are no more
 * spool_reader.c   folders that nobody works on, for tools
 * message.c        a message in memory
 * message_body.c   where its body and its commit lie
 * store.c          the memory of messages, and reverse-paths that many of them share
 * commit_record.c  the record that makes a message
 * message_table.c  messages by id
 */
#pragma once
#include "engine/core/near.h"
#include "queue/log/log.h"
#include "queue/spool/spool.h"
#include <assert.h>

enum spool_record {
    SPOOL_BODY = LOG_TYPE_OWNER_MIN, /* bytes of a body; tag: message id, as in all that follow */
    SPOOL_PART,                      /* bytes of an envelope that is too large for one record */
    SPOOL_COMMIT,                    /* makes a message; the newest one of an id counts */
    SPOOL_STATUS,                    /* one recipient is finished */
    SPOOL_ATTEMPT,                   /* a delivery was tried */
    SPOOL_HOLD = LOG_TYPE_OWNER_MIN + 16, /* held by the operator, or released */
    SPOOL_WARNED,                         /* the sender was told that a recipient must wait */
};

struct spool_status {
    uint32_t index;
    uint8_t state; /* enum recipient_state */
    uint8_t zero[3];
};
struct spool_attempt {
    int64_t wall_s;
    uint32_t attempts;
    uint32_t zero;
};

struct spool_hold {
    uint32_t held; /* SPOOL_HELD or 0 */
    uint32_t zero;
};

struct spool_warned {
    uint32_t index;
    uint32_t zero;
};

/* A record of one segment that says something of a message whose commit lies in another one. */
enum spool_note_kind { NOTE_STATUS, NOTE_ATTEMPT, NOTE_HOLD, NOTE_WARNED };
#define SPOOL_NOTE_NUMBER_MAX ((1u << 26) - 1)
struct spool_note {
    uint64_t id;
    uint32_t commit_sequence;
    uint32_t kind : 2;
    uint32_t state : 4;   /* NOTE_STATUS: enum recipient_state */
    uint32_t number : 26; /* NOTE_ATTEMPT: how many; NOTE_STATUS, NOTE_WARNED: the recipient */
};
static_assert(sizeof(struct spool_note) == 16, "there is one for each message that has left");

#define SPOOL_NOTES_MAX 131072u /* of a segment: 2 MiB */
struct spool_notes {            /* log_segment_live.notes */
    uint32_t count, capacity;   /* at most SPOOL_NOTES_MAX */
    uint32_t rest_until;        /* the segment in which mail goes on then: too many were needed */
    struct spool_note notes[];
};

#define DRAFT_EXTENTS_INLINE 8u
#define DRAFT_STAGE_BYTES 4096u
#define COMMIT_BYTES_MAX (768u * 1024) /* of envelope and extents: -EFBIG beyond */

struct
    spool_extent { /* body bytes [offset, offset + length) are the content of the record at lsn */
    uint64_t lsn;
    uint32_t length;
    uint32_t offset;
};

/* The extents of a message that has not just one, and the parts of a large commit. */
struct spool_extents {
    struct log_extent *parts; /* of the heap */
    uint32_t part_count;
    uint32_t count;
    struct spool_extent list[]; /* in order of the body */
};

struct spool_copy;
enum body_kind { BODY_EMPTY, BODY_ONE, BODY_MANY, BODY_COPIED };
union body_at {
    uint64_t lsn;               /* BODY_ONE: the whole body is the content of this record */
    struct spool_extents *many; /* BODY_MANY: of the heap */
    struct spool_copy *copy;    /* BODY_COPIED: has what was here, while it is copied forward */
};

#define MESSAGE_HOLDS_BITS 18 /* more than a message has recipients: 100,000 (limits.recipients) */
/* Bytes in the log that somebody wants: a draft's or a message's, of which the rest here is. */
struct spool_body {
    struct near_node member; /* of the oldest segment that holds any of it */
    union body_at at;
    uint32_t commit_bytes; /* content of its commit record */
    uint32_t holds : MESSAGE_HOLDS_BITS;
    uint32_t state : 2; /* enum spool_state */
    uint32_t kind : 2;  /* enum body_kind */
    uint32_t shares_sender : 1;
    uint32_t is_large : 1;  /* what else there is of it lies apart */
    uint32_t is_broken : 1; /* a part of the body is lost; only spool_reader keeps such */
    uint32_t is_draft : 1;
    uint32_t fetch : 6; /* of spool_forward's, + 1, while one runs for it; 0: none */
};

struct spool_draft {
    struct spool_body body;
    uint64_t id;
    struct spool *spool;
    struct spool_draft *next_free;
    uint64_t
        failures; /* of the log when it began: while there is no other, nothing of it is void */
    uint64_t received_bytes;
    uint32_t bytes; /* of them in the log; the rest is staged */
    uint32_t staged;
    struct spool_extent *extents; /* in order of the body */
    uint32_t extent_count, extent_capacity;
    struct spool_extent few[DRAFT_EXTENTS_INLINE];
    uint8_t stage[DRAFT_STAGE_BYTES]; /* crumbs, until they are worth a record */
};

/*
 *  PENDING ──room──► COMMITTING ──durable──► LIVE ──last recipient──► FORGOTTEN ──nobody holds it──► freed
 */
enum spool_state { MESSAGE_PENDING, MESSAGE_COMMITTING, MESSAGE_LIVE, MESSAGE_FORGOTTEN };

struct spool_place { /* of a commit: its last record, and those before it when it is large */
    uint64_t lsn;    /* 0: nowhere */
    uint32_t length; /* of its content */
    uint32_t part_count;
    struct log_extent *parts; /* of the heap */
};

/* What a message needs until its commit is durable, and no longer. */
struct spool_commit {
    struct log_waiter waiter;
    struct spool *spool;
    struct spool_message *message;
    struct spool_waiter *durable;
    struct spool_draft *draft; /* while pending */
    struct spool_commit *next_free;
};

#define MESSAGE_RET_SHIFT 24 /* enum spool_ret, two bits */
#define MESSAGE_RET_MASK 3u
enum message_own_flags { /* beside enum spool_flags, as in a commit */
                         MESSAGE_ENVID = 1 << 26,
                         MESSAGE_OWN_FLAGS = MESSAGE_ENVID | MESSAGE_RET_MASK << MESSAGE_RET_SHIFT
};

enum recipient_marks {
    RECIPIENT_ORCPT = 64,
    RECIPIENT_WARNED = 128
}; /* beside enum spool_notify */

static inline bool recipient_is_finished(uint8_t state)
{
    return state == RECIPIENT_DELIVERED || state == RECIPIENT_FAILED;
}
#define RECIPIENT_STATE_LAST RECIPIENT_TELL_LISTED

struct spool_recipient {
    uint16_t path_bytes;
    uint8_t state; /* enum recipient_state */
    uint8_t marks; /* enum spool_notify, enum recipient_marks */
};

struct spool_message {      /* there are millions: what only some need lies elsewhere */
    struct message message; /* owner: struct spool_commit until it is LIVE */
    struct spool_body body;
    uint64_t commit_lsn;
    struct spool_recipient recipients[];
};
static_assert(sizeof(struct spool_message) <= 72, "ten million of them wait");

/* message.next: in the table, pending, or to be adopted. */
static inline struct spool_message *message_next(const struct spool_message *message)
{
    return (struct spool_message *)near_at(message, message->message.next);
}

struct message_table {
    const void *span;                            /* of the heap in which the messages lie */
    uint32_t *buckets, *old;                     /* links */
    uint64_t bucket_count, old_count, old_moved; /* powers of two */
    uint64_t count;
};

struct fetch_buffer;
struct fetch_class {
    struct list_node idle; /* least recently used first */
    uint32_t bytes, count;
    struct fetch_buffer *buffers;
};

#define FETCH_READERS 4u

/* A message that is being copied forward: where it will be. */
struct spool_copy {
    struct log_waiter waiter;
    struct spool *spool;
    struct spool_message *message;
    struct spool_extent *extents; /* of the heap */
    struct spool_extents *many;   /* what the message will have, where it needs one */
    struct spool_place place;
    union body_at before; /* where the message is, and its enum body_kind */
    uint8_t before_kind;
    uint64_t failures; /* of the log when it began */
    uint64_t bytes;    /* of live_bytes, what counts twice for it */
    uint32_t head;     /* the segment that it leaves */
    uint32_t extent_count, extent_capacity;
    uint32_t done_count; /* the message's extents that were looked at */
    bool in_flight;      /* the commit is appended */
};
#define COPY_PIECES_MAX 3u /* that one extent becomes: the end of a frame, and the next ones */

/* How the log's space stands; spool_space.c. */
struct spool_space {
    bool copies;        /* the oldest segment is to be copied forward */
    uint32_t begun;     /* this one: there was room for it */
    uint32_t pass_end;  /* a pass over the whole log ends behind this segment; 0: none runs */
    uint64_t pass_used; /* when it began */
    uint64_t pass_bytes_in;
    uint64_t packed_live; /* a pass gained nothing while so much lived; 0: none did */
    uint64_t packed_bytes_in;
    uint64_t capacity_bytes; /* see struct spool_fill */
};
enum spool_between_state {
    BETWEEN_LOOKS,
    BETWEEN_SIFTS,
    BETWEEN_MOVES,
    BETWEEN_WAITS,
    BETWEEN_FREES
};
struct spool_between { /* see spool_between.c */
    struct log_waiter waiter;
    enum spool_between_state state;
    uint32_t sequence;
    uint32_t at, kept; /* notes of it */
    uint64_t failures; /* of the log when it began */
};

#define FORWARD_FETCHES_MAX 32u
struct spool_forward_fetch { /* a record that is read back, to be copied */
    struct spool_fetch fetch;
    struct spool_body *body; /* whose it is, unless that is gone */
    bool busy;
};
struct spool_forward {
    struct spool_forward_fetch fetches[FORWARD_FETCHES_MAX];
    uint32_t in_flight;
    uint32_t stuck_sequence; /* of this head something cannot be moved now */
    uint32_t rest;           /* rounds until it is tried again */
};

/* A reverse-path, once for many messages. */
struct spool_sender {
    uint32_t count; /* messages that hold it; the slot does not */
    uint16_t slot;
    uint16_t size;
    char text[];
};
#define SENDER_SLOTS 1024u
struct spool_store { /* of messages and drafts; it stays where it is */
    struct near_heap heap;
    struct sender_slot {
        struct spool_sender *sender; /* used here last; NULL: none */
        uint32_t missed;             /* the hash of one that was looked for and not found */
    } slots[SENDER_SLOTS];
    uint64_t sender_bytes;
};

/* What recovery has found and the owner does not know yet. */
struct spool_found {
    uint32_t *links; /* of messages, held; in order of arrival */
    size_t count, room, given;
};

struct spool {
    struct log *log;
    struct disk *disk;
    uint32_t shard;
    struct spool_settings settings;
    void (*found)(void *owner, struct message *message);
    void *found_owner;
    struct spool_found to_give;
    struct message_table table;
    struct spool_store store;
    struct spool_draft *free_drafts;
    struct spool_commit *free_commits;
    uint32_t draft_count;
    uint32_t id_sequence, id_count;
    uint64_t live_bytes;
    uint64_t held_live_bytes; /* of them, in segments that the log holds */
    uint64_t twice_bytes;     /* of them: copies that are under way */
    uint64_t memory_bytes;    /* of messages */
    struct spool_message *pending_first, *pending_last; /* commits that wait for room */
    struct list_node room;                              /* spool_when_room */
    struct log_waiter room_waiter;
    bool room_waits;
    struct fetch_class small, large;
    void *fetch_memory;                  /* ours, or NULL */
    uint64_t fetch_lasts[FETCH_READERS]; /* where those who read one behind the other are */
    uint32_t fetch_reader;               /* that gives way to the next one */
    struct spool_forward forward;
    struct spool_space space;
    struct spool_between between;
    bool rests;       /* spool_rest */
    uint8_t *scratch; /* COMMIT_BYTES_MAX: one record is made here */
    struct spool_counters counters;
};

static inline struct spool_message *message_private(struct message *message)
{
    return (struct spool_message *)(void *)message;
}

/* While it is not LIVE. */
static inline struct spool_commit *message_commit(const struct spool_message *message)
{
    check(message->body.state < MESSAGE_LIVE);
    return (struct spool_commit *)message->message.owner;
}

static inline uint64_t body_id(const struct spool_body *body)
{
    return body->is_draft ? list_entry(body, struct spool_draft, body)->id
                          : list_entry(body, struct spool_message, body)->message.id;
}

/* message.c */
/* What its text takes, with this reverse-path. sender: that is shared so; NULL: it is not. */
size_t message_sender_bytes(struct slice reverse_path, const struct spool_sender *sender,
                            struct slice envid);
/* Recipients and text (text_bytes) are written next, in this order. sender: given. NULL: no memory. */
struct spool_message *message_make(struct spool_store *store, size_t recipient_count,
                                   size_t text_bytes, struct spool_sender *sender);
void message_free(struct spool_message *message);
struct message_writer {
    struct spool_message *message;
    char *at;
    uint32_t recipients;
};
void message_write_begin(struct message_writer *writer, struct spool_message *message);
void message_write_sender(struct message_writer *writer, struct slice reverse_path,
                          struct slice envid);
void message_write_recipient(struct message_writer *writer, struct slice forward_path,
                             struct slice orcpt, uint8_t state, uint8_t marks);
/* From an envelope that fits, recipients waiting. */
struct spool_message *message_new(const struct envelope *envelope,
                                  const struct envelope_recipient *recipients, size_t count,
                                  struct spool_store *store);
void message_flags_set(struct message *message, uint32_t flags); /* as in a commit */
uint32_t message_flags_all(const struct message *message);
bool envelope_fits(const struct envelope *envelope, const struct envelope_recipient *recipients,
                   size_t count);
uint8_t message_marks(const struct message *message, uint32_t index);
/* False: nothing changes, since it goes only from WAITING to TELL and to the end. */
bool message_recipient_reached(struct message *message, uint32_t index, enum recipient_state state);
void message_mark_warned(struct message *message, uint32_t index);
void message_attempted(struct message *message, uint32_t attempts, uint32_t wall_s);

/* store.c */
int store_open(struct spool_store *store);   /* 0 or -ENOMEM */
void store_close(struct spool_store *store); /* what is in it is gone; fine when it is zeroed */
/* One more that holds it, or NULL: it is not worth it, or not known to be frequent. */
struct spool_sender *sender_share(struct spool_store *store, struct slice text);
void sender_drop(struct spool_sender *sender);

/* message_body.c */
struct extent_list {
    const struct spool_extent *first;
    uint32_t count;
    struct spool_extent one;
};
/* Of a draft or a message; valid until it changes, and as long as the list. */
void body_extents(const struct spool_body *body, struct extent_list *list);
/* What message_lies_at needs besides; *many NULL: nothing. 0 or -ENOMEM. */
int extents_make(const struct message *message, uint32_t count, struct spool_extents **many);
/* Its body and its commit lie there, and lay nowhere before. The place's parts and `many` are given. */
void message_lies_at(struct spool_message *message, const struct spool_extent *extents,
                     uint32_t count, const struct spool_place *place, struct spool_extents *many);
/* It lies nowhere. */
void message_lies_nowhere(struct spool_message *message);
const struct spool_extents *message_many(const struct spool_message *message); /* or NULL */
/* Where its commit lies; the parts are the message's. */
struct spool_place message_place(const struct spool_message *message);
size_t message_bytes(const struct spool_message *message); /* what it takes of memory */
static inline struct spool_copy *message_copy(const struct spool_message *message)
{
    return message->body.kind == BODY_COPIED ? message->body.at.copy : NULL;
}

/* spool.c */
void body_live_add(struct spool *spool, uint64_t lsn, uint32_t bytes);
void body_live_take(struct spool *spool, uint64_t lsn, uint32_t bytes);
void body_place(struct spool *spool, struct spool_body *body, const struct spool_place *place);
/* Out of the list of the segment that it is in, if any. */
void body_leave(struct spool_body *body);
/* What lives in a segment, none of it older: the one node of log_segment_live.members, while there is any. */
struct segment_bodies {
    struct list_node node;
    struct near_node bodies; /* by spool_body.member */
};
static inline struct segment_bodies *segment_bodies(const struct log_segment_live *live)
{
    return list_empty(&live->members) ? NULL
                                      : list_entry(live->members.next, struct segment_bodies, node);
}
void body_forget(struct spool *spool, struct spool_body *body); /* its bytes are dead */
void place_live_add(struct spool *spool, const struct spool_place *place);
void place_live_take(struct spool *spool, const struct spool_place *place);
/* A message that lies there counts, in memory too. */
void spool_message_count(struct spool *spool, struct spool_message *message);
void spool_message_free(struct spool *spool, struct spool_message *message);
void spool_message_settle(struct spool *spool, struct spool_message *message);
#define RECORD_COST 32u /* of a record, besides its content */

/* spool_draft.c */
int draft_room(struct spool_draft *draft, uint32_t extents);
/* Its extents are these, given. */
void draft_replace(struct spool_draft *draft, struct spool_extent *extents, uint32_t count,
                   uint32_t capacity);
void spool_wait_for_room(struct spool *spool);

/* spool_fetch.c */
int spool_fetch_open(struct spool *spool);
void spool_fetch_close(struct spool *spool);
int spool_read_extent(struct spool *spool, const struct log_extent *extent, struct slice *bytes,
                      struct ref **owner, struct spool_fetch *fetch);

void spool_commit_give(struct spool *spool, struct spool_commit *commit);

/* spool_found.c */
void spool_found_add(struct spool *spool, struct spool_message *message); /* given later, or now */
unsigned spool_found_round(struct spool *spool);
void spool_found_close(struct spool *spool); /* what was not given is not */

/* spool_space.c */
unsigned spool_space_round(struct spool *spool);

/* spool_forward.c */
unsigned spool_forward_round(struct spool *spool);
void spool_forward_leave(struct spool *spool, struct spool_body *body); /* it is gone */
/* The message is not wanted any more. False: its copy is on the way to the disk, wait. */
bool spool_forward_drop(struct spool *spool, struct spool_message *message);

/* spool_notes.c */
/* Appends and remembers what the message has reached. */
void spool_note(struct spool *spool, const struct spool_message *message, enum spool_note_kind kind,
                uint32_t number, uint8_t state);
/* Appends it once more, as mail. message: NULL for a NOTE_STATUS of one that is gone. 0, or as log_room. */
int spool_note_move(struct spool *spool, const struct spool_note *note,
                    const struct spool_message *message);
/* To the notes of a segment, of the heap. 0; -ENOMEM; -ENOSPC: it has too many. */
int notes_add(void **notes, const struct spool_note *note);

/* spool_between.c */
unsigned spool_between_round(struct spool *spool);

/* message_table.c */
int message_table_open(struct message_table *table, const struct spool_store *store);
void message_table_close(struct message_table *table); /* not the messages */
struct spool_message *message_table_find(const struct message_table *table, uint64_t id);
void message_table_add(struct message_table *table, struct spool_message *message);
void message_table_remove(struct message_table *table, struct spool_message *message);
void message_table_each(struct message_table *table,
                        void (*visit)(void *owner, struct spool_message *message), void *owner);
/* As spool_walk. */
uint64_t message_table_walk(const struct message_table *table, uint64_t cursor,
                            void (*visit)(void *owner, struct spool_message *message), void *owner);

/* commit_record.c */
/* May its record have parts? */
bool commit_is_large(const struct message *message, size_t extent_count);
/* Is there room for a commit with so many extents, and `more` bytes before it? As log_room, or -EFBIG
 * above COMMIT_BYTES_MAX. */
int commit_room(const struct spool *spool, const struct message *message, size_t extent_count,
                size_t more, uint32_t flags);
/* Appends it, in parts when it is large; commit_room was asked. flags: enum log_flags. 0 or -ENOMEM. */
int commit_append(struct spool *spool, const struct message *message,
                  const struct spool_extent *extents, uint32_t extent_count, uint8_t flags,
                  struct spool_place *place);
/* From bytes that may be anything. `parts` of a large one are looked up with `part` (content of the
 * part at this place, or -errno). 0, -EINVAL, -ENOMEM, or what `part` answers. */
struct commit_source {
    uint64_t id;
    struct log_extent record;
    struct slice content;
    int (*part)(void *owner, const struct log_extent *extent, struct slice *content);
    void *owner;
    struct spool_store *store;
};
int commit_read(const struct commit_source *source, struct spool_message **message);
