/*
 * mailbox_group: the shards of a mailbox service, and which of them has a user's mail.
 *
 * A user's mail lies on one shard: where it was found at start (of several the first), else where users.placed of the configuration says, else where
 * the hash of his name does. Of Maildirs it is their state that lies there, and no other shard touches his. So a store may be given more shards than it had. Main makes the group before the shards' threads and closes it after them.
 *
 *   each shard: mailbox_open ─► mailbox_group_found ...      main: all are open ─► mailbox_group_settle ─► they listen
 *
 * What all shards count together is here too, under a lock: it is touched when a connection begins and ends, never by a
 * message.
 */
#pragma once
#include "engine/conf/conf.h"
#include "engine/core/list.h"
#include "engine/core/logger.h"
#include "engine/core/world.h"
#include "engine/mailbox/seats.h"
#include "engine/tls/tls.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct mailbox;

struct mailbox_group {
    unsigned count; /* of shards, 1 to CONF_SHARDS_MAX */
    const struct conf_placing *placed;
    uint32_t placed_count;
    struct mailbox *members
        [CONF_SHARDS_MAX];    /* filled by mailbox_open; all are there after mailbox_group_settle */
    pthread_mutex_t lock;     /* of what follows */
    struct seats addresses;   /* connections of each address, of all shards */
    struct list_node passing; /* sessions between two shards: session.c's */
    struct mailbox_elsewhere
        *elsewhere; /* users who are not where the hash says; by name once settled */
    size_t elsewhere_count, elsewhere_room;
    uint64_t *at_home; /* until settled: the hashes of users who are where they would be placed */
    size_t at_home_count, at_home_room;
    struct logger *logger; /* hears of users who are on several shards; NULL: nobody does */
    bool of_maildirs;      /* for what it hears */
    /* Of each shard: a mailbox there is, or was since the start, shared with somebody. */
    atomic_bool shares[CONF_SHARDS_MAX];
    atomic_uint sessions; /* of all shards, and those on their way from one to another */
    atomic_uint
        placings; /* imap_placing.c's: COPY and MOVE between two shards that are decided, and not over */
    uint8_t ticket_secret[TLS_SECRET_BYTES]; /* a TLS session is resumed on any shard */
};

void mailbox_group_open(struct mailbox_group *group, unsigned count, const struct world *world);
/* Before any shard is opened. placed: borrowed until mailbox_group_close. */
void mailbox_group_place(struct mailbox_group *group, const struct conf_placing *placed,
                         uint32_t placed_count);
void mailbox_group_close(struct mailbox_group *group);

/* From the shard's thread, before mailbox_group_settle: this user's mail lies on it. 0; -ENOMEM. Of several shards
 * that say so the first one counts, and the mail on the others is not seen: that is logged. */
int mailbox_group_found(struct mailbox_group *group, unsigned shard, const char *user);
void mailbox_group_settle(struct mailbox_group *group);
/* The shard of a user, by a name of user_name_of_mailbox. After mailbox_group_settle, from any thread. */
unsigned mailbox_group_shard(const struct mailbox_group *group, const char *user);

/* Room for one more connection, of all shards together: false where there are `limit` already. UINT32_MAX: none. */
bool mailbox_group_room_take(struct mailbox_group *group, uint32_t limit);
void mailbox_group_room_leave(struct mailbox_group *group);

/* A connection from there, of all shards: as seats_take and seats_leave. */
int mailbox_group_seat_take(struct mailbox_group *group, const struct endpoint *address,
                            uint32_t limit, struct seat **seat);
void mailbox_group_seat_leave(struct mailbox_group *group, struct seat **seat);
