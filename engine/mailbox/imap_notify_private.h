/*
 * imap_notify_private: what the files imap_notify*.c share: what a client has asked to be told of, and what it was told.
 *
 *      the user's shard                                        another shard
 *   imap_notify_others ◄── what was told, what is now
 *                            ▲          ▲
 *        imap_notify_known, _owners   imap_notify_abroad ◄── agent ◄── imap_notify_feed ◄── _known, _owners
 *
 * A session remembers of each mailbox what its client was told last. Whatever has changed, and however often, the
 * difference is told when the client reads and no command is under way; so a slow client costs no more than that, and
 * what would be too much of it ends with NOTIFICATIONOVERFLOW.
 */
#pragma once
#include "engine/mailbox/imap_session.h"
#include "engine/mailbox/mailbox_group.h"

#define NOTIFY_MESSAGE_EVENTS                                                                      \
    (IMAP_NOTIFY_MESSAGE_NEW | IMAP_NOTIFY_MESSAGE_EXPUNGE | IMAP_NOTIFY_FLAG_CHANGE)
#define NOTIFY_OTHER_EVENTS                                                                        \
    (IMAP_NOTIFY_MAILBOX_NAME | IMAP_NOTIFY_SUBSCRIPTION_CHANGE |                                  \
     IMAP_NOTIFY_MAILBOX_METADATA_CHANGE | IMAP_NOTIFY_SERVER_METADATA_CHANGE)

/* Another user, some of whose mailboxes may be seen: he is open as long as they are watched. */
struct notify_owner {
    struct list_node node; /* of imap_notify_state.owners */
    struct imap_notify_state *state;
    struct mailstore_user *user;
    struct mailstore_watch watch;
    struct mailstore_waiter look; /* at his Maildir */
    bool looks;
    bool stale;     /* others may be seen than those that are known */
    bool is_of_use; /* some may be seen */
    uint64_t names; /* user->names, as it was when they were looked for */
};

/* A mailbox as it was told last, or the name of a subscription to none that may be seen (id 0). */
struct notify_known {
    uint64_t id, modseq;
    char *name; /* owned; what the user calls it */
    struct notify_owner
        *owner; /* NULL: his own. Not to be followed when it is of the list before */
    uint32_t name_bytes;
    uint32_t count, uidnext, uidvalidity, unseen_count;
    uint32_t properties; /* the box's, of which the rights are */
    uint16_t special_use;
    uint16_t rights; /* enum imap_right */
    bool subscribed;
    bool personal; /* in the namespace of the user's own */
    uint8_t shard; /* where it lies: ids are of a shard */
};
static_assert(IMAP_RIGHTS_ALL <= UINT16_MAX && IMAP_USE_UNKNOWN <= UINT16_MAX &&
                  CONF_SHARDS_MAX <= UINT8_MAX,
              "they are kept in so many bits");

struct notify_known_list {
    struct notify_known *all; /* owned; by shard, by id, then by name */
    uint32_t count, room;
    size_t bytes;
    bool failed; /* memory was short, or there are too many */
};

/* An entry whose value has changed, and the client was not told yet. */
struct notify_entry {
    uint64_t box; /* 0: of the server */
    char *name;   /* owned */
    uint32_t name_bytes;
    uint8_t shard; /* of the box */
};

struct notify_entries {
    struct notify_entry *all; /* owned */
    uint32_t count, room;
    bool failed; /* memory was short, or there are too many */
};

/* Another shard on which some mailboxes may be seen. Its agent tells what there is, and what changes. */
struct notify_watcher {
    struct imap_agent *agent;      /* NULL: nothing of that shard is asked for */
    unsigned awaited;              /* answers to come */
    uint32_t named_count;          /* users of that shard whom subscriptions have named so far */
    uint32_t said_count;           /* so many the agent knows of */
    struct notify_known_list seen; /* as it was told last; all have this shard */
    struct imap_writer response;   /* that has come so far */
};

/* A user of another shard, whom a subscription has named: he is watched until the next NOTIFY. In the arena. */
struct notify_named {
    struct notify_named *next;
    struct slice user;
    unsigned shard;
};

#define NOTIFY_STRANGERS_MAX 32u /* more: all are looked for again */

struct imap_notify_state {
    struct imap_session *session;
    struct mailstore_watch watch; /* of the user */
    struct mailstore_shares_watch shares;
    struct list_node owners; /* struct notify_owner */
    uint32_t owner_count;
    bool owners_failed;  /* memory was short, the store has failed, or there are too many */
    bool owners_missing; /* those that are asked for are to be looked for again */
    uint64_t names;      /* user->names, when it was told last */
    uint64_t strangers[NOTIFY_STRANGERS_MAX]; /* who have shared something, and are no owners yet */
    uint32_t stranger_count;
    struct arena arena;
    struct imap_notify set;                   /* in the arena */
    const struct imap_notify_group *selected; /* NULL: nothing is told of it */
    struct notify_known_list known;
    struct notify_entries entries;
    struct notify_watcher *watchers; /* owned, one a shard; NULL: nothing is watched abroad */
    struct notify_named *named;      /* the last first */
    uint64_t names_asked;    /* user->names, when subscriptions were looked through for these */
    struct slice said;       /* owned: the command, for agents that have the selected mailbox */
    struct imap_range moved; /* of the MOVE under way: as what its messages are there now */
    bool is_asked;           /* the watchers know what to watch */
    bool is_too_much;        /* what the watchers see, or have to look for */
    bool is_lost;            /* one of them has ended */
    bool feeds;         /* it is a watcher itself: what there is is told whole, not to a client */
    bool is_unfed;      /* nothing was told of it yet */
    bool changed;       /* something has, somewhere */
    uint32_t new_first; /* uids of messages whose items are to be told; 0: none */
    uint32_t new_last;
    uint32_t own_first; /* uids in the selected mailbox that the client itself has put there */
    uint32_t own_last;
    struct imap_fetch fetch; /* of these */
    struct imap_range range;
};

/* What a name is, for those who ask for such. */
enum notify_name {
    NOTIFY_NAME_SUBSCRIBED = 1 << 0,
    NOTIFY_NAME_PERSONAL = 1 << 1, /* in the namespace of the user's own */
};

/* ---- imap_notify.c ---- */
/* What is asked for of this mailbox: of each group that it is in (RFC 5465 §6). Bits of enum imap_notify_event.
 * what: of enum notify_name. */
uint32_t notify_events_of(const struct imap_notify_state *state, struct slice name, uint32_t what);
/* The same of no mailbox, in whichever group it stands. */
uint32_t notify_events_of_server(const struct imap_notify_state *state);
/* Something has changed, somewhere: it is told soon. */
void notify_changed(struct imap_notify_state *state);
/* An entry has another value, if this property of a mailbox (0: of the user) is one. */
void notify_property(struct imap_notify_state *state, uint64_t box, struct slice key);
void notify_state_free(struct imap_notify_state *state); /* or NULL */
/* It is the session's from now on: given. NULL: NONE. */
void notify_state_begin(struct imap_session *session, struct imap_notify_state *state);
/* RFC 5465 §5.8: from here on it is as after NOTIFY NONE. The session's state is gone. */
void notify_overflow(struct imap_session *session);

/* ---- imap_notify_known.c ---- */
void notify_known_free(struct notify_known_list *list);
/* What is there now, as state->known is what was. */
void notify_known_gather(struct imap_notify_state *state, struct notify_known_list *list);
/* If it may be seen. owner: NULL: it is his own. */
void notify_known_add(struct imap_notify_state *state, struct notify_known_list *list,
                      struct notify_owner *owner, struct mailstore_box *box);
static inline struct slice notify_known_name(const struct notify_known *known)
{
    return slice_of(known->name, known->name_bytes);
}
static inline uint32_t notify_known_events(const struct imap_notify_state *state,
                                           const struct notify_known *known)
{
    return notify_events_of(state, notify_known_name(known),
                            (known->subscribed ? NOTIFY_NAME_SUBSCRIBED : 0u) |
                                (known->personal ? NOTIFY_NAME_PERSONAL : 0u));
}
/* Of the list that was gathered last. NULL: it is there no more, or not under this name. */
struct mailstore_box *notify_known_box(const struct imap_notify_state *state,
                                       const struct notify_known *known);
/* Visits both lists; either is NULL when it was not, or is no more. */
void notify_known_compare(const struct notify_known_list *old, const struct notify_known_list *now,
                          void (*visit)(void *owner, struct notify_known *old,
                                        struct notify_known *now),
                          void *owner);
/* NULL: there is none. */
struct notify_known *notify_known_by_id(const struct notify_known_list *list, unsigned shard,
                                        uint64_t id);
/* One of another shard, whose name is copied. Behind all others. */
void notify_known_append(struct notify_known_list *list, const struct notify_known *known,
                         struct slice name);
/* In place of what it was, if it was there. */
void notify_known_put(struct notify_known_list *list, const struct notify_known *known,
                      struct slice name);
void notify_known_drop(struct notify_known_list *list, unsigned shard, uint64_t id);
/* The shard of the user, whose own mailboxes are on it. */
static inline unsigned notify_here(const struct imap_notify_state *state)
{
    return mailbox_index(state->session->session.mailbox);
}

/* The names that a command of the client has changed. */
struct notify_own {
    struct slice names[2];
    bool below; /* and what is below them */
};
/* *list becomes what is `now` of these names, and stays of the others. now: given. */
void notify_known_take(struct notify_known_list *list, struct notify_known_list *now,
                       const struct notify_own *own);

/* ---- imap_notify_owners.c ---- */
void notify_owners_begin(struct imap_notify_state *state);
void notify_owners_end(struct imap_notify_state *state); /* harmless twice */
/* NULL: he is not watched. */
struct notify_owner *notify_owner_of(const struct imap_notify_state *state, struct slice name);
/* Their mailboxes that may be seen now. */
void notify_owners_gather(struct imap_notify_state *state, struct notify_known_list *list);
/* What was gathered has been told; nothing that was known before is needed any more. */
void notify_owners_told(struct imap_notify_state *state);

/* Is there a subtree that has all of others' mailboxes in it? */
bool notify_wants_all(const struct imap_notify_state *state);

/* ---- imap_notify_abroad.c ---- */
/* Where the mailboxes of the user are whom the name names. -1: here, or nowhere. */
int notify_abroad_shard(const struct imap_notify_state *state, struct slice name);
/* One that is seen now. NULL: none of this name is. */
const struct notify_known *notify_abroad_find(const struct imap_notify_state *state,
                                              struct slice name);
/* The watchers are told what is asked for now, where that has changed. */
void notify_abroad_ask(struct imap_notify_state *state);
/* Takes what they have told. */
void notify_abroad_hear(struct imap_notify_state *state);
/* True: all of them have told what is there, as it is asked for now. */
bool notify_abroad_is_current(struct imap_notify_state *state);
/* Those of other shards that may be seen now. */
void notify_abroad_gather(struct imap_notify_state *state, struct notify_known_list *list);
void notify_abroad_end(struct imap_notify_state *state); /* harmless twice */

/* ---- imap_notify_wait.c ---- */
/* NOTIFY is answered when other shards have told what there is. False: nothing of it concerns them. True: state is given. */
bool notify_setting_begin(struct imap_session *session, struct imap_notify_state *state);

/* ---- imap_notify_feed.c ---- */
enum notify_fed_kind {
    NOTIFY_FED_ALL,   /* what was told before is nothing */
    NOTIFY_FED_BOX,   /* it has come, or changed */
    NOTIFY_FED_GONE,  /* it may be seen no more */
    NOTIFY_FED_ENTRY, /* of METADATA, which has changed: its name */
};
/* Each is followed by a name. They stand in a literal: "* FED {n}". */
struct notify_fed {
    uint64_t id, modseq;
    uint32_t kind; /* enum notify_fed_kind */
    uint32_t name_bytes;
    uint32_t count, uidnext, uidvalidity, unseen_count;
    uint32_t rights, zero;
};
#define NOTIFY_FED_BEGINS "* FED "
#define NOTIFY_FED_BYTES_MAX (1u << 20) /* in one response */
/* What has changed since the last. The state may be gone afterwards: that is told as well. */
void notify_feed(struct imap_notify_state *state);

/* ---- imap_notify_others.c ---- */
/* STATUS of what is told of from now on (§3.1), and which of it must not be read. */
void notify_others_begin(struct imap_notify_state *state);
/* What has become of the mailboxes. False: it is too much. */
bool notify_others_tell(struct imap_notify_state *state);

/* ---- imap_notify_entries.c ---- */
void notify_entries_free(struct notify_entries *entries);
void notify_entries_add(struct notify_entries *entries, unsigned shard, uint64_t box,
                        struct slice name);
/* Does he want to hear of its entries, and may he? */
bool notify_entries_wanted(const struct imap_notify_state *state, const struct notify_known *known);
/* METADATA without values (RFC 5464 §4.4.2), of what is there now. */
void notify_entries_tell(struct imap_notify_state *state, const struct notify_known_list *now,
                         struct imap_writer *writer);
