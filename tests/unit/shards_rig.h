/*
 * shards_rig: several shards of a mailbox service in one thread, each with a store of its own, round by round; what they
 * send each other comes in order, and now and then late. One at a time.
 *
 * Whoever uses it wraps crossing_send. LMTP sessions are on shard 0.
 */
#pragma once
#include "engine/mailbox/session.h"
#include "queue/mailbox/maildir.h"
#include "tests/unit/mailstore_rig.h"

#define SHARDS_RIG_MAX 3u
#define SHARDS_RIG_USERS 6u /* of each shard */

struct shards_rig_shard {
    struct mailstore_rig store;
    struct world world;
    struct shard shard;
    struct mailbox mailbox;
    bool ended; /* its mailbox is closed: it runs no rounds */
    char users[SHARDS_RIG_USERS][16];
    struct crossing_note *first[SHARDS_RIG_MAX], **last[SHARDS_RIG_MAX]; /* of each sender */
};

struct shards_rig {
    unsigned count;
    struct shards_rig_shard shards[SHARDS_RIG_MAX];
    struct mailbox_group group;
    struct logger logger;
    struct mailboxd_conf *conf;
    uint64_t random;
    uint32_t late_percent; /* chance of a sender's notes to wait a round more */
    uint64_t notes;        /* sent */
    bool *part_begins;     /* NULL, or: does a message begin on a shard, by a note? */
    char maildirs[64];     /* the folder; "": mail comes into the stores */
    struct maildir_files files;
    bool writers_stand; /* of the Maildirs */

    struct network *network;
    struct mailbox_door door;
    struct stream *client;
    char heard[65536];
    size_t heard_bytes;
};

extern struct shards_rig shards_rig;

/* change: of a shard's store before it starts; NULL: nothing. */
void shards_rig_open(unsigned count, uint64_t seed,
                     void (*change)(unsigned shard, struct mailstore_rig *store));
/* Mail without a detail comes into Maildirs, by each shard's own writer, which has so many bytes of text at a time. */
void shards_rig_maildirs(size_t pending_bytes);
/* All that was under way has been given back, or is dropped. */
void shards_rig_close(void);
unsigned shards_rig_round(void);
void shards_rig_run(void); /* until nothing happens */
uint32_t shards_rig_below(uint32_t limit);
/* The shard ends, as mailbox_close has it; the others go on. */
void shards_rig_end(unsigned shard);
/* Notes on their way. */
unsigned shards_rig_notes(void);

/* Each message of a user on a shard. */
void shards_rig_each(unsigned shard, const char *user,
                     void (*visit)(void *owner, struct slice mailbox, struct slice text),
                     void *owner);

/* A client of LMTP. */
void shards_rig_connect(void);
void shards_rig_say(const char *text);
/* Says it, and runs; what was heard since the last time, until the next. */
const char *shards_rig_talk(const char *text);

void __wrap_crossing_send(struct crossing *crossing, struct shard *to, struct crossing_note *note);
