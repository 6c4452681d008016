/*
 * imap_notify_private: what the files imap_notify*.c share: what a client has asked to be told of, and what it was told.
 *
 * A session remembers of each mailbox what its client was told last. Whatever has changed, and however often, the
 * difference is told when the client reads and no command is under way; so a slow client costs no more than that, and
 * what would be too much of it ends with NOTIFICATIONOVERFLOW.
 */
#pragma once
#include "engine/mailbox/imap_session.h"

#define NOTIFY_MESSAGE_EVENTS                                                                      \
    (IMAP_NOTIFY_MESSAGE_NEW | IMAP_NOTIFY_MESSAGE_EXPUNGE | IMAP_NOTIFY_FLAG_CHANGE)
#define NOTIFY_OTHER_EVENTS                                                                        \
    (IMAP_NOTIFY_MAILBOX_NAME | IMAP_NOTIFY_SUBSCRIPTION_CHANGE |                                  \
     IMAP_NOTIFY_MAILBOX_METADATA_CHANGE | IMAP_NOTIFY_SERVER_METADATA_CHANGE)

/* A mailbox as it was told last, or the name of a subscription to none (id 0). */
struct notify_known {
    uint64_t id, modseq;
    char *name; /* owned */
    uint32_t name_bytes;
    uint32_t count, uidnext;
    uint32_t special_use;
    bool subscribed;
};

struct notify_known_list {
    struct notify_known *all; /* owned; by id, then by name */
    uint32_t count, room;
    size_t bytes;
    bool failed; /* memory was short, or there are too many */
};

/* An entry whose value has changed, and the client was not told yet. */
struct notify_entry {
    uint64_t box; /* 0: of the server */
    char *name;   /* owned */
    uint32_t name_bytes;
};

struct notify_entries {
    struct notify_entry *all; /* owned */
    uint32_t count, room;
    bool failed; /* memory was short, or there are too many */
};

struct imap_notify_state {
    struct imap_session *session;
    struct mailstore_watch watch; /* of the user */
    struct arena arena;
    struct imap_notify set;                   /* in the arena */
    const struct imap_notify_group *selected; /* NULL: nothing is told of it */
    struct notify_known_list known;
    struct notify_entries entries;
    bool changed;       /* something has, somewhere */
    uint32_t new_first; /* uids of messages whose items are to be told; 0: none */
    uint32_t new_last;
    uint32_t own_first; /* uids in the selected mailbox that the client itself has put there */
    uint32_t own_last;
    struct imap_fetch fetch; /* of these */
    struct imap_range range;
};

/* ---- imap_notify.c ---- */
/* What is asked for of this mailbox: of each group that it is in (RFC 5465 §6). Bits of enum imap_notify_event. */
uint32_t notify_events_of(const struct imap_notify_state *state, struct slice name,
                          bool subscribed);
/* The same of no mailbox, in whichever group it stands. */
uint32_t notify_events_of_server(const struct imap_notify_state *state);

/* ---- imap_notify_known.c ---- */
void notify_known_free(struct notify_known_list *list);
void notify_known_gather(struct mailstore_user *user, struct notify_known_list *list);
static inline struct slice notify_known_name(const struct notify_known *known)
{
    return slice_of(known->name, known->name_bytes);
}
/* Visits both lists; either is NULL when it was not, or is no more. */
void notify_known_compare(const struct notify_known_list *old, const struct notify_known_list *now,
                          void (*visit)(void *owner, struct notify_known *old,
                                        struct notify_known *now),
                          void *owner);
/* NULL: there is none. */
struct notify_known *notify_known_by_id(const struct notify_known_list *list, uint64_t id);

/* The names that a command of the client has changed. */
struct notify_own {
    struct slice names[2];
    bool below; /* and what is below them */
};
/* *list becomes what is `now` of these names, and stays of the others. now: given. */
void notify_known_take(struct notify_known_list *list, struct notify_known_list *now,
                       const struct notify_own *own);

/* ---- imap_notify_others.c ---- */
/* STATUS of what is told of from now on (§3.1), and which of it must not be read. */
void notify_others_begin(struct imap_notify_state *state);
/* What has become of the mailboxes. False: it is too much. */
bool notify_others_tell(struct imap_notify_state *state);

/* ---- imap_notify_entries.c ---- */
void notify_entries_free(struct notify_entries *entries);
void notify_entries_add(struct notify_entries *entries, uint64_t box, struct slice name);
/* METADATA without values (RFC 5464 §4.4.2). */
void notify_entries_tell(struct imap_notify_state *state, struct imap_writer *writer);
