/*
 * remembered: what has lately been seen of a user's mail: to whom he was said to be away, what his scripts took for
 * duplicates, which Message-IDs came in. Durable, and bounded.
 *
 * Things are digests in properties of their user ("seen/KIND/BUCKET"), REMEMBERED_BUCKETS of each kind with
 * REMEMBERED_OF_BUCKET each; of a full one the thing goes that would be forgotten first. A thing counts from
 * remembered_add on, and is durable somewhat later: a crash may forget the last ones.
 *
 * One a shard, of mailbox.c; delivery_actions.c asks and adds.
 */
#pragma once
#include "queue/mailbox/mailstore.h"

#define REMEMBERED_BUCKETS 64u
#define REMEMBERED_OF_BUCKET 64u
#define REMEMBERED_PENDING_MAX 10000u /* on their way to the disk; more are not remembered */

enum remembered_kind {
    REMEMBERED_VACATION = 'v',
    REMEMBERED_DUPLICATE = 'd',
    REMEMBERED_MESSAGE = 'm',
};

struct remembered_thing {
    uint8_t kind; /* enum remembered_kind */
    uint8_t digest[16];
};

struct remembered;

/* 0, -ENOMEM. */
int remembered_open(struct remembered **remembered, struct mailstore *store);
/* What is on its way is not told about. */
void remembered_close(struct remembered *remembered); /* NULL is fine */

/* Of two texts, both counted. False: memory is short. */
bool remembered_make(struct remembered_thing *thing, enum remembered_kind kind, struct slice first,
                     struct slice second);
/* Is it remembered at now_s? False also when that cannot be read. */
bool remembered_has(struct remembered *remembered, const struct mailstore_user *user,
                    const struct remembered_thing *thing, uint64_t now_s);
/* Until until_s; again: from now on until then. 0; -ENOMEM, -EIO, -ENOSPC..: it is not. */
int remembered_add(struct remembered *remembered, struct mailstore_user *user,
                   const struct remembered_thing *thing, uint64_t now_s, uint64_t until_s);
