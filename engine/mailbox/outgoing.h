/*
 * outgoing: mail that the service itself sends: what scripts redirect, answers to who has written to somebody away,
 * notices of rejection. It goes to one relay, by SMTP.
 *
 * A letter lies in the store before anybody is told of it, and is sent again from there after a crash:
 *
 *   outgoing_put ──► record durable ──┐
 *                                     ├──► ready ──► sending ──► the relay's 250: record and text are dropped
 *   commit of its text ── settle ─────┘      ▲          ├──► 4xx, no connection: later, for keep_trying
 *                                            └──────────┘
 *                                                       └──► 5xx, or too old: a redirected message goes back into its
 *                                                            user's INBOX, an answer is dropped
 *
 * Records are properties of OUTGOING_USER; a redirected text has an entry in that user's INBOX while records name it. A
 * crash between the relay's 250 and the drop sends a letter twice, and nothing else does.
 *
 * One a shard, of mailbox.c, on its thread. delivery_actions.c puts letters into it.
 */
#pragma once
#include "engine/mailbox/outgoing_letter.h"
#include "engine/shard/shard.h"
#include "engine/stream.h"
#include "queue/mailbox/mailstore.h"

#define OUTGOING_USER ".outgoing"   /* no address names him: see user_name.h */
#define OUTGOING_LETTERS_MAX 10000u /* that wait; then -EAGAIN */
#define OUTGOING_SESSIONS_MAX 4u    /* connections to the relay */
#define OUTGOING_RETRY_NS                                                                          \
    1000000000ull /* after the first failure; twice that after the next, ... */
#define OUTGOING_RETRY_NS_MAX (300ull * 1000000000ull)

struct outgoing;
struct outgoing_item; /* a letter that was put in */

struct outgoing_settings {
    struct shard *shard;
    struct network *network;
    struct mailstore *store;
};
/* Borrowed for as long as they are in force, but for `relay`. */
struct outgoing_conf {
    struct slice hostname; /* ours, for EHLO */
    struct endpoint relay; /* family ENDPOINT_NONE: nothing can be sent */
    uint64_t keep_trying_ns;
};

struct outgoing_counters {
    uint64_t sent, deferred, returned, dropped, connections;
    uint32_t waiting; /* letters, now */
};

/* Finds what was left to be sent. 0, -ENOMEM, -EIO. */
int outgoing_open(struct outgoing **outgoing, const struct outgoing_settings *settings,
                  const struct outgoing_conf *conf);
void outgoing_reload(struct outgoing *outgoing, const struct outgoing_conf *conf);
/* Is there a relay to send by? */
bool outgoing_can_send(const struct outgoing *outgoing);

/* Writes the letter's record; slices are borrowed for the call. With letter->text, *item is given to the caller until
 * outgoing_settle, and the text's commit, which follows, has a place from outgoing_place. Without it, item may be NULL: it
 * goes by itself. 0; -EAGAIN: too many wait, or there is no room now; -ENOSPC; -ENOMEM; -E2BIG; -ENOTCONN: no relay. */
int outgoing_put(struct outgoing *outgoing, const struct outgoing_letter *letter,
                 struct outgoing_item **item);
struct mailstore_place outgoing_place(void);
/* The text was committed, or was not. 0: the letter is durable, and will be sent; -errno: it will not be. */
int outgoing_settle(struct outgoing *outgoing, struct outgoing_item *item, bool committed);

/* Begins nothing any more; letters that are being sent are finished. */
void outgoing_rest(struct outgoing *outgoing);
bool outgoing_is_quiet(const struct outgoing *outgoing);
void outgoing_abort(struct outgoing *outgoing); /* connections end now, and nothing is begun */
/* After outgoing_abort, when the store has come to rest. */
void outgoing_close(struct outgoing *outgoing); /* NULL is fine */

const struct outgoing_counters *outgoing_counters(const struct outgoing *outgoing);
