/*
 * delivery_spread: a message whose recipients' mail is on several shards: what delivery_shards.c, on the session's shard,
 * and delivery_part.c, on each of the recipients' shards, share. Nobody else includes it.
 *
 *   session's shard                              a part's shard: one for each that has recipients
 *   append   ── begin, with the first chunk ───► delivery_here's begin, as soon as it can
 *            ── chunk, the same for all parts ─► append
 *            ◄───────────────────────── chunk ── is read
 *            ◄──────────────────────── failed ── its begin or append: its own recipients are not served; at most once
 *   commit   ── end ───────────────────────────► commit, when all chunks are read
 *   or abort                                     abort, now
 *            ◄────────────────────────── gone ── once, after `end`, and the last: recipients have their statuses
 *
 * All of it is the session's shard's memory, given back there. What a part's shard uses of a part is its own from `begin`
 * until `gone`, and of the rest it reads what was written before. When the shards have ended, notes that nobody reads are
 * dropped, in one thread, and give back the same: who has not heard of `gone` hears then that it, or `end`, was dropped.
 *
 * All mailboxes of a group are closed before the first crossing is, and no shard runs a round behind its mailbox's end.
 */
#pragma once
#include "engine/mailbox/crossing.h"
#include "engine/mailbox/delivery_store.h"

/* Of one message: what scripts say instead of taking it, a line for each recipient. */
#define DELIVERY_REFUSALS_BYTES_MAX (1024u * 1024)

struct delivery_spread;
struct delivery_part;
struct delivery_chunk;

/* A chunk on its way to a part, or back. */
struct delivery_passing {
    struct crossing_note note; /* first */
    struct delivery_chunk *chunk;
    struct delivery_part *part;
    struct delivery_passing *next; /* that the part has not read */
};

struct delivery_chunk {
    struct delivery_spread *spread;
    uint32_t used, room, holds; /* holds: parts that have not given it back */
    uint8_t *bytes;
    struct delivery_passing passing[]; /* to each part; `bytes` lie behind them */
};

enum delivery_part_state {
    DELIVERY_PART_BEGINNING, /* waits until its store can begin a message */
    DELIVERY_PART_RECEIVING,
    DELIVERY_PART_COMMITTING,
    DELIVERY_PART_CLOSED, /* it has nothing of its shard any more; recipients have their statuses */
};

struct delivery_part {
    struct delivery_spread *spread;
    struct shard *shard;
    /* Of the session's shard. */
    bool failed;   /* it has said so */
    bool commits;  /* what `end` says; else: abort */
    uint32_t told; /* recipients whose answers were taken over */
    /* Of the part's. */
    enum delivery_part_state state;
    bool waits; /* for its store's room */
    bool ended; /* `end` has come */
    int failure;
    struct list_node node;     /* in mailbox->parts */
    struct delivery_text text; /* recipients: of the session's shard's memory */
    struct crossing *crossing;
    struct delivery_passing *first, **last; /* to be read */
    size_t read;                            /* of the first */
    struct arena refusals;
    struct crossing_note begin, end, has_failed, gone;
};

struct delivery_spread {
    struct delivery_text *text; /* the session's; NULL: it has what it wanted */
    struct crossing *crossing;  /* of its shard: */
    struct shard *shard;
    const struct mailbox_group *group;
    uint32_t holds;               /* of the text, each part until `gone`, and each chunk */
    uint32_t serving, unanswered; /* parts that have not failed; that are not gone */
    int failure;                  /* of the part that failed first */
    uint64_t id;
    struct delivery_chunk *open; /* being filled; NULL: none */
    size_t under_way;            /* bytes of chunks, `open` too */
    bool wants_room;
    bool has_begun; /* a chunk was made */
    bool started;   /* `begin` was sent */
    uint8_t reverse_path[SMTP_ADDRESS_BYTES_MAX];
    uint8_t part_of[CONF_SHARDS_MAX];
    uint32_t part_count;
    struct delivery_part parts[];
};

/* delivery_shards.c, run by notes. */
void delivery_chunk_returned(struct shard_message *message, struct shard *here);
void delivery_chunk_dropped(struct shard_message *message);
void delivery_part_failed(struct shard_message *message, struct shard *here);
void delivery_part_gone(struct shard_message *message, struct shard *here);
void delivery_part_end_dropped(struct shard_message *message);
void delivery_part_gone_dropped(struct shard_message *message);

/* delivery_part.c, the same. */
void delivery_part_begin(struct shard_message *message, struct shard *here);
void delivery_part_read(struct shard_message *message, struct shard *here);
void delivery_part_end(struct shard_message *message, struct shard *here);
