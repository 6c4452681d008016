/*
 * mailstore: the mailboxes of a shard's users, on a log.
 *
 * The log is the truth: a change is one record, and it happens when that record is durable, in the order of the
 * log. What a change does (which uid, which modseq, whether a quota refuses it) is decided at that moment, from the
 * state that all changes before it have left; so nothing is told, read or counted that a crash could take back, two
 * changes never race, and reading the log again comes to the same state. The index (LMDB) holds that state as it
 * was at some record; it is a cache, and is built again from the log when it is missing, damaged or too old.
 *
 * Who calls: engine/mailbox, from the shard's one thread. Once a round:
 *   disk reap ──► waiters run, watchers are told    log_round, mailstore_round    ... changes ...    log_flush
 * What touches many entries is done over several rounds, in order: parts of it are seen before its waiter runs.
 * Nothing blocks after mailstore_open but reads of the index's pages; the index is written by a thread of the store.
 *
 * A text is a message's bytes in plain form: CRLF lines, not dot-stuffed. It is written once, whoever has it; an
 * entry is a text in a mailbox. Texts are never changed and their ids never used again, nor are those of mailboxes.
 *
 * Slices that are given in are borrowed for the call unless it says otherwise.
 * Errors: -ENOSPC: the disk is full, nothing is done; -EIO; -ENOMEM; -EAGAIN: ask again when mailstore_when_room runs.
 *
 * Source: RFC 9051, RFC 7162 (CONDSTORE, QRESYNC), RFC 8474 (OBJECTID), RFC 8514 (SAVEDATE).
 */
#pragma once
#include "engine/core/list.h"
#include "engine/core/ref.h"
#include "engine/core/slice.h"
#include "queue/mailbox/user_name.h"
#include <assert.h>
#include <errno.h>

#define MAILSTORE_KEYWORDS_MAX 64u /* of one mailbox */
#define MAILSTORE_KEYWORD_BYTES_MAX 128u
#define MAILSTORE_NAME_BYTES_MAX 480u /* of a mailbox */
#define MAILSTORE_USER_BYTES_MAX 255u
#define MAILSTORE_PROPERTY_KEY_BYTES_MAX 400u
#define MAILSTORE_PROPERTY_BYTES_MAX (64u * 1024)
#define MAILSTORE_PROPERTIES_MAX 256u            /* of one mailstore_properties_set; more: -E2BIG */
#define MAILSTORE_APPEND_BYTES_MAX (768u * 1024) /* one mailstore_append */
#define MAILSTORE_PLACES_MAX                                                                       \
    1000u /* one mailstore_commit; their users' names: 120,000 bytes, else -E2BIG */
#define MAILSTORE_CACHE_BYTES_MAX (64u * 1024)

struct log;
struct maildir_owner;
struct mailstore;
struct mailstore_draft; /* a text being received */

/* Maildirs, shared with Dovecot and others. Texts lie in them and not in the log; the log and its index hold what else
 * there is, and follow what others do there. A message that comes is answered when it lies there durably; flags and
 * expunges are durable in the log, and are written to the Maildir behind that, again by a later start if need be.
 * What is kept after expunge is a file of the user's. All of it borrowed until mailstore_close. */
struct mailstore_maildirs {
    const char *path;    /* PATH/USER/{cur,new,tmp} */
    const char *staging; /* a folder of the same file system for messages that come */
    /* A user of the service's own, whose Maildir is OWN_PATH/OWN_USER; NULL: there is none. */
    const char *own_user, *own_path;
    const struct maildir_owner *owner; /* queue/mailbox/maildir_lock.h */
    uint32_t
        open_users_max; /* of more users who are there, files are closed after each use; 0: 64 */
    unsigned
        thread_count; /* that read, write and wait for locks; 0: mailstore_round itself does (tests) */
    void (*wake)(void *owner); /* any thread: call mailstore_round soon */
    /* From a round, once until it is otherwise: a look at this user's Maildir has failed; 0: the next one has not. NULL:
     * nobody wants to know. */
    void (*trouble)(void *owner, const char *user, int status);
    void *wake_owner; /* of both */
};

struct mailstore_settings {
    const struct mailstore_maildirs *maildirs; /* NULL: texts lie in the log, unless: */
    /* It is the log of Maildirs that are left alone: for who reads it again and closes it (check, rebuild). */
    bool of_maildirs;
    const char *index_path;   /* the index's file; its folder must exist */
    uint64_t index_bytes_max; /* of addresses for it; 0: 64 GiB */
    bool driven; /* no thread: mailstore_round writes the index itself (tests, the simulator) */
    bool index_unsafe; /* tests: the index is not synced */
    uint32_t
        index_changes_max; /* rows in memory that are not in the index yet, before it is written; 0: 65,536 */
    uint32_t
        keep_expunged_s; /* lazy expunge: for so long an expunged entry can be restored; 0: gone at once */
    uint64_t text_bytes_max;   /* of one text; below 4 GiB; 0: 128 MiB */
    uint32_t draft_count_max;  /* 0: 4096 */
    uint32_t box_idle_max;     /* mailboxes that nobody has open and that stay loaded; 0: 64 */
    size_t fetch_memory_bytes; /* for texts that are read back; at least 1 MiB; 0: 16 MiB */
    uint64_t
        clean_bytes_min; /* while the log is smaller it is not cleaned for order's sake; 0: 8 segments */
    uint64_t wall_s; /* now: of changes before the first round */
};

/* Recovers: the log was opened and not recovered. Blocks. 0 or -errno: -EINVAL, -ENOMEM, -EBUSY (the index is open
 * elsewhere), -EIO (the disk refuses a part of the log that the index does not have: nothing may be promised by what is
 * left), -EBADMSG (the index was marked, mailstore_audit.h, and the log from which it was to be built is damaged: the next
 * open has the index as it was), or what the index's folder answers. The log is borrowed until mailstore_close. */
int mailstore_open(struct mailstore **store, struct log *log,
                   const struct mailstore_settings *settings);
const char *mailstore_open_trouble(int status); /* what it means, in words */
/* Nothing is begun any more (housekeeping, index). Then, when mailstore_is_quiet and the log is quiet: close. */
void mailstore_rest(struct mailstore *store);
bool mailstore_is_quiet(const struct mailstore *store);
/* 0; -errno: memory was short, or the index failed, while a change was done that is durable. What the mailboxes are is
 * not known until it is opened again, which does that change and those behind it; their waiters are told nothing. All
 * other changes answer this errno. */
int mailstore_state(const struct mailstore *store);
/* The LSN of the newest change that is done. */
uint64_t mailstore_applied(const struct mailstore *store);
/* Writes the index (blocks). Whoever still waits for a change is not told. Boxes, users, drafts and views must have been given back; else they are dangling. */
void mailstore_close(struct mailstore *store);
/* Once a round, after log_round. wall_s: for dates, and for what is kept a while. Returns how much was done. */
unsigned mailstore_round(struct mailstore *store, uint64_t wall_s);

struct mailstore_waiter {
    /* 0: it is durable and done; -errno: nothing of it has happened, and no later start will find it. Once, never from
     * inside the call that took it. Later than else while that is not known: a write has failed, and the disk does not
     * take a record that says so. Never when it is durable and cannot be done by this process: see mailstore_state. */
    void (*done)(struct mailstore_waiter *waiter, int status);
    struct list_node node; /* the store's while it waits; needs no initialising */
    void *private;         /* the store's */
};
/* Its owner goes away: it is not told, and results are not written. The change itself goes on. */
void mailstore_waiter_cancel(struct mailstore *store, struct mailstore_waiter *waiter);
/* `room` runs once when what answered -EAGAIN may succeed. */
void mailstore_when_room(struct mailstore *store, struct mailstore_waiter *room);

/* ── Users and mailboxes ─────────────────────────────────────────────────────────────────────── */

struct mailstore_totals { /* of a user, what is kept after expunge left out */
    uint64_t bytes, messages;
    uint32_t boxes;
};

/* Read-only outside the store; durable things only. */
struct mailstore_user {
    uint64_t id; /* 0: nothing of it is stored yet */
    struct mailstore_totals totals;
    struct mailstore_totals coming; /* on its way into his Maildir, or there and not found yet */
    uint64_t names; /* grows when the list of mailboxes, or that of subscriptions, is another */
    const char *name;
};

enum mailstore_flag { /* RFC 9051 §2.3.2; keywords are others */
                      MAILSTORE_SEEN = 1,
                      MAILSTORE_ANSWERED = 2,
                      MAILSTORE_FLAGGED = 4,
                      MAILSTORE_DELETED = 8,
                      MAILSTORE_DRAFT = 16,
};
#define MAILSTORE_FLAGS_ALL 31u

/* A message in a mailbox. A million of them are held by who has such a mailbox open. */
struct mailstore_entry {
    uint64_t text;     /* EMAILID */
    uint64_t keywords; /* bits: see mailstore_keyword */
    uint64_t modseq : 44;
    uint64_t flags : 8;    /* enum mailstore_flag */
    int64_t zone_min : 12; /* of the internal date: minutes east of UTC */
    uint32_t uid;
    uint32_t bytes;      /* RFC822.SIZE */
    uint32_t internal_s; /* INTERNALDATE; until 2106 */
    uint32_t saved_s;    /* SAVEDATE */
};
static_assert(sizeof(struct mailstore_entry) == 40, "a million of them must fit in 48 MiB");

enum mailstore_box_state { MAILSTORE_BOX_LIVE, MAILSTORE_BOX_DELETED };

/* A mailbox. Read-only outside the store; durable things only. Valid while its user is open, or it itself is. */
struct mailstore_box {
    uint64_t id; /* MAILBOXID */
    struct mailstore_user *user;
    enum mailstore_box_state
        state;         /* DELETED: while somebody has it open; every change answers -ENOENT */
    struct slice name; /* "INBOX", "Archive/2026": UTF-8; changes with a rename */
    uint32_t uidvalidity, uidnext;
    uint64_t modseq;       /* HIGHESTMODSEQ */
    uint64_t modseq_flags; /* the last change of flags, or later */
    uint64_t
        modseq_floor; /* of what is expunged at a lower modseq or the same one not all is known any more */
    uint32_t special_use; /* bits that say nothing to the store */
    /* For STATUS, at once: */
    uint32_t count, unseen_count, deleted_count;
    uint64_t bytes, deleted_bytes;
    /* While it is open: by uid. Moves when something becomes durable: do not keep pointers over a round. */
    const struct mailstore_entry *entries; /* `count` of them */
    /* Bits of `keywords` that have a name. */
    uint32_t keyword_count;
    uint32_t open_count;
    bool of_inbox;       /* a RENAME of INBOX has made it, since the user was loaded */
    uint64_t generation; /* grows with each expunge: sequence numbers of before may be others now */
    uint64_t
        properties; /* grows when one of its properties changes, or its special use with them */
    struct list_node watches;
};

/* Loads the user's list of mailboxes; one that is not known is empty, and comes to be with its first change. Counted:
 * as many closes. name: as user_name_of_mailbox gives it, or with a domain. 0; -EINVAL; -ENOMEM; -EIO. */
int mailstore_user_open(struct mailstore *store, struct slice name, struct mailstore_user **user);
/* The same for one that has been stored; -ENOENT: there is none with this id. */
int mailstore_user_open_by_id(struct mailstore *store, uint64_t id, struct mailstore_user **user);
void mailstore_user_close(struct mailstore *store, struct mailstore_user *user);
/* What others have changed in the user's Maildir before this call is known when the waiter runs; it is then followed
 * while the user is open. 0, or -errno at once. -EALREADY: there is no Maildir, and nobody else changes anything. The
 * waiter's status is that of the look: the mailboxes are there as they were known in any case. */
int mailstore_refresh(struct mailstore *store, struct mailstore_user *user,
                      struct mailstore_waiter *waiter);
/* The same for who shows the user nothing: what is new to him stays so to other programs (\Recent). */
int mailstore_peek(struct mailstore *store, struct mailstore_user *user,
                   struct mailstore_waiter *waiter);
bool mailstore_has_maildirs(const struct mailstore *store);
/* Could a mailbox be called so? Not all that is UTF-8 can be the name of a Maildir's folder. */
bool mailstore_can_name(const struct mailstore *store, struct slice name);
/* There may be news in the Maildir of this user; nothing is done when nobody has him open. */
void mailstore_poke(struct mailstore *store, struct slice user);
/* A message of so many bytes comes into the Maildir of the user, and is among `coming` until mailstore_came says that it is
 * not there, or until a look that began after it was there has found it. 0, -ENOMEM: it is not counted. */
int mailstore_comes(struct mailstore *store, struct mailstore_user *user, uint64_t bytes);
/* Once for each that was counted. */
void mailstore_came(struct mailstore *store, struct slice user, uint64_t bytes, bool stored);

/* NULL: none of this name. "INBOX" in any letters is INBOX, also as the first level. */
struct mailstore_box *mailstore_box_find(struct mailstore_user *user, struct slice name);
/* The nearest one above this name, which need not be there; NULL: none. */
struct mailstore_box *mailstore_box_above(struct mailstore_user *user, struct slice name);
struct mailstore_box *mailstore_box_by_id(struct mailstore_user *user, uint64_t id);
/* In order of the names' bytes, INBOX first: the one behind `box`; NULL: the first, and none behind the last. */
struct mailstore_box *mailstore_box_next(struct mailstore_user *user,
                                         const struct mailstore_box *box);
/* Loads some of its entries: 0: they are all there, and mailstore_box_open loads nothing; -EINPROGRESS: ask again in a later round,
 * by its id: it may have gone; -ENOENT: it has; -ENOMEM, -EIO. Nothing has to be given back. */
int mailstore_box_load(struct mailstore *store, struct mailstore_box *box);
/* Loads its entries, all that are not there yet. Counted. It keeps the user open. 0, -ENOMEM, -EIO. */
int mailstore_box_open(struct mailstore *store, struct mailstore_box *box);
void mailstore_box_close(struct mailstore *store, struct mailstore_box *box);

/* Of an open mailbox: the index in entries of this uid, or of the next higher one (count: none). */
uint32_t mailstore_entry_index(const struct mailstore_box *box, uint32_t uid);
const struct mailstore_entry *mailstore_entry_find(const struct mailstore_box *box, uint32_t uid);
/* The name of bit `index`, below keyword_count; borrowed while the user is open. */
struct slice mailstore_keyword(const struct mailstore_box *box, uint32_t index);
int mailstore_keyword_bit(const struct mailstore_box *box,
                          struct slice name); /* in any letters; -1: none */

/* What is gone since a modseq (QRESYNC, RFC 7162 §3.2.5.2): visits (first, last) ranges of uids, ascending, that may
 * hold gaps' uids too which were never assigned. -ESTALE: not known that far back (since < modseq_floor): then all
 * uids below uidnext that are not there are to be named. Of an open mailbox. */
int mailstore_vanished(const struct mailstore_box *box, uint64_t since,
                       void (*visit)(void *owner, uint32_t first, uint32_t last), void *owner);

/* Told at most once in a round, when something durable has changed in the box (entries, flags, name, its end). */
struct mailstore_watch {
    struct list_node node; /* list_init before mailstore_watch_end may be called */
    void (*changed)(struct mailstore_watch *watch);
    /* Of a box: this uid is about to go from entries. May be NULL; may not call the store. */
    void (*expunged)(struct mailstore_watch *watch, uint32_t uid);
    /* Of a user: this property of a box (0: of the user) has another value. May be NULL; may not call the store. */
    void (*property)(struct mailstore_watch *watch, uint64_t box, struct slice key);
};
void mailstore_watch_begin(struct mailstore_box *box, struct mailstore_watch *watch);
void mailstore_watch_end(struct mailstore_watch *watch); /* harmless twice */

/* The same for a user: its list of mailboxes, subscriptions, properties, or any box's counts (NOTIFY, STATUS). */
void mailstore_user_watch_begin(struct mailstore_user *user, struct mailstore_watch *watch);

/* ── Receiving ───────────────────────────────────────────────────────────────────────────────── */

/* 0; -EAGAIN: too many drafts, or no room now; -ENOSPC; -EIO. */
int mailstore_begin(struct mailstore *store, struct mailstore_draft **draft);
uint64_t mailstore_draft_id(const struct mailstore_draft *draft); /* will be the text's */
uint64_t mailstore_draft_bytes(const struct mailstore_draft *draft);
/* All or nothing. 0; -EAGAIN; -ENOSPC, -EIO; -EFBIG above text_bytes_max. After another error than -EAGAIN: abort. */
int mailstore_append(struct mailstore_draft *draft, const struct slice *parts, size_t count);
void mailstore_abort(struct mailstore_draft *draft);

enum mailstore_place_option {
    MAILSTORE_AUTOCREATE = 1, /* the mailbox comes to be; INBOX always does */
    MAILSTORE_SUBSCRIBE = 2,  /* and is subscribed then */
    MAILSTORE_OR_INBOX = 4,   /* a mailbox that is not there: into INBOX */
    /* Nobody waits for box, uid and uidvalidity. In a Maildir it has none then when the waiter runs: it is an entry when the
     * store has looked there next. Of several places there, those without this are of one mailbox. */
    MAILSTORE_NO_UID = 8,
};
/* Where a message goes. Slices are borrowed for the call, the place itself until the waiter has run. */
struct mailstore_place {
    struct slice user;
    struct slice mailbox; /* empty: INBOX */
    uint32_t options;     /* enum mailstore_place_option */
    uint8_t flags;
    const struct slice *keywords; /* names; those that find no bit are left off */
    uint32_t keyword_count;
    uint32_t internal_s; /* 0: now */
    int16_t zone_min;
    uint64_t quota_bytes, quota_messages; /* of the user; would it have more: -EDQUOT; 0: none */
    /* A message of the same user that is expunged when this one comes: both happen, or neither (REPLACE, RFC 8508). It
     * does not count against the quota. NULL: none. */
    const struct mailstore_box *replaces;
    uint32_t replaces_uid;
    /* Results, when the waiter runs: */
    int status; /* 0; -ENOENT: no such mailbox; -ESTALE: what it replaces is gone; -EDQUOT; -EINVAL: its name;
                 * -EOVERFLOW: uids are used up; or as the waiter's */
    uint64_t box;
    uint32_t uid, uidvalidity;
    uint64_t replaces_modseq; /* of the expunge */
};
/* The draft is given, and is gone whatever the answer. The waiter's 0 says that each place has its status; all places that
 * have 0 hold the message then, or none (crash). thread: THREADID, or 0: the text's own id. */
int mailstore_commit(struct mailstore_draft *draft, uint64_t thread, struct mailstore_place *places,
                     uint32_t count, struct mailstore_waiter *waiter);

/* ── Changes ─────────────────────────────────────────────────────────────────────────────────── */

struct
    mailstore_uids { /* [first, last]; a list of them ascends, without overlap. Uids that are not there are passed over. */
    uint32_t first, last;
};

enum mailstore_flags_op { MAILSTORE_ADD, MAILSTORE_REMOVE, MAILSTORE_REPLACE };
#define MAILSTORE_ALWAYS UINT64_MAX
struct
    mailstore_flags { /* slices and uids borrowed for the call, itself until the waiter has run */
    const struct mailstore_uids *uids;
    uint32_t uid_count;
    enum mailstore_flags_op op;
    uint8_t flags;
    const struct slice *keywords;
    uint32_t keyword_count;
    uint64_t unchanged_since; /* RFC 7162 §3.1.3; MAILSTORE_ALWAYS */
    /* Of MAILSTORE_REPLACE, for who may not change all: these flags, and the keywords, stay as they are. */
    uint8_t flags_kept;
    bool keywords_kept;
    /* Results: */
    struct mailstore_uids *failed; /* MODIFIED: of the heap, free() it; NULL: none */
    uint32_t failed_count;
    uint64_t modseq; /* of the change; 0: nothing was changed by it */
};
/* The box need not be open. 0 and the waiter runs later, or an error at once; so it is with all changes. */
int mailstore_flags(struct mailstore *store, struct mailstore_box *box,
                    struct mailstore_flags *change, struct mailstore_waiter *waiter);

struct mailstore_copy { /* as above; the target's slices are borrowed for the call */
    const struct mailstore_uids *uids;
    uint32_t uid_count;
    struct slice user; /* empty: the box's own */
    struct slice mailbox;
    uint32_t options;   /* enum mailstore_place_option */
    uint8_t flags_lost; /* that the copies do not have, whatever their sources have */
    bool keywords_lost;
    uint64_t quota_bytes,
        quota_messages; /* of a copy, or a move to another user; -EDQUOT: none is copied */
    /* Results, for COPYUID: the n-th uid of `sources` is the n-th of target_first.. */
    struct mailstore_uids *sources; /* of the heap, free() it; NULL: none was there any more */
    uint32_t source_count;
    uint32_t target_uidvalidity, target_first, target_last;
    uint64_t target_box;
};
/* The box must be open. -ENOENT (at once or later): no such target. All or none. The text is not copied. */
int mailstore_copy(struct mailstore *store, struct mailstore_box *box, struct mailstore_copy *copy,
                   struct mailstore_waiter *waiter);
int mailstore_move(struct mailstore *store, struct mailstore_box *box, struct mailstore_copy *copy,
                   struct mailstore_waiter *waiter);

struct mailstore_expunge {
    const struct mailstore_uids *uids; /* NULL: all */
    uint32_t uid_count;
    bool deleted_only; /* of them those that are \Deleted when it happens */
    bool at_once;      /* not kept for keep_expunged_s */
    /* They have been carried elsewhere: who copies or moves passes over them from now on, and is not told which have gone
     * twice. Of uids. */
    bool carried;
    uint32_t expunged_count; /* result */
    uint64_t modseq;         /* result; 0: none */
    /* Results, of `carried`: those that it has expunged, and nobody before it. Of the heap, free() it; NULL: none, or memory was
     * short (expunged_count says which). */
    struct mailstore_uids *gone;
    uint32_t gone_count;
};
int mailstore_expunge(struct mailstore *store, struct mailstore_box *box,
                      struct mailstore_expunge *expunge, struct mailstore_waiter *waiter);

/* Expunged and kept: an entry (its modseq: of the expunge; saved_s: when). `visit` in order of expunge. Blocks no
 * longer than reading the index does. 0, -ENOMEM, -EIO. */
int mailstore_expunged(struct mailstore *store, struct mailstore_box *box,
                       void (*visit)(void *owner, const struct mailstore_entry *entry),
                       void *owner);
/* They are entries again, with other uids. restored_count and the uids: results. */
struct mailstore_restore {
    const struct mailstore_uids *uids; /* those that they had */
    uint32_t uid_count;
    uint32_t restored_count, first, last; /* results */
};
int mailstore_restore(struct mailstore *store, struct mailstore_box *box,
                      struct mailstore_restore *restore, struct mailstore_waiter *waiter);

/* Names: UTF-8, parts separated by '/', none empty; -EINVAL else. -EEXIST, -ENOENT: at once or later. */
struct mailstore_create {
    struct slice mailbox;
    uint32_t special_use;
    bool subscribe;
    uint64_t box; /* result */
    uint32_t uidvalidity;
};
int mailstore_box_create(struct mailstore *store, struct mailstore_user *user,
                         struct mailstore_create *create, struct mailstore_waiter *waiter);
/* Children stay. What is in it is gone; INBOX is refused by who asks, not here. */
int mailstore_box_delete(struct mailstore *store, struct mailstore_box *box,
                         struct mailstore_waiter *waiter);
/* With children; they keep ids, uids and UIDVALIDITY, as it does. INBOX: its messages go into a new mailbox of the
 * name, which has its properties, too, but for MAILSTORE_SHARE_KEY; INBOX stays and is empty, and so do its children
 * (RFC 9051 §6.3.6, RFC 5464 §4.1). Subscriptions stay as they are. */
int mailstore_box_rename(struct mailstore *store, struct mailstore_box *box, struct slice name,
                         struct mailstore_waiter *waiter);
/* The same of a name that is no mailbox and has some below it: those. -ENOENT: there are none. INBOX: before its first
 * message. */
int mailstore_names_rename(struct mailstore *store, struct mailstore_user *user, struct slice from,
                           struct slice name, struct mailstore_waiter *waiter);
int mailstore_box_special_use(struct mailstore *store, struct mailstore_box *box,
                              uint32_t special_use, struct mailstore_waiter *waiter);

/* A name of which there need not be a mailbox. */
int mailstore_subscribe(struct mailstore *store, struct mailstore_user *user, struct slice name,
                        bool subscribed, struct mailstore_waiter *waiter);
bool mailstore_is_subscribed(const struct mailstore_user *user, struct slice name);
void mailstore_each_subscribed(const struct mailstore_user *user,
                               void (*visit)(void *owner, struct slice name), void *owner);

/* A property of a mailbox whose key begins so says who may see it: the name stands behind. A mailbox that comes to be has
 * those of the nearest one above it (RFC 4314 §4). */
#define MAILSTORE_SHARE_KEY "acl/"
/* The mailboxes that have such a property for this name, in no order: ids. visit may not call the store. 0, -EIO. */
int mailstore_each_shared(struct mailstore *store, struct slice name,
                          void (*visit)(void *owner, uint64_t user, uint64_t box), void *owner);
/* The same of one user's mailboxes. */
int mailstore_each_shared_by(struct mailstore *store, const struct mailstore_user *user,
                             struct slice name,
                             void (*visit)(void *owner, uint64_t user, uint64_t box), void *owner);
/* Told when a mailbox gets such a property, or another value of it, whoever its user is. May not call the store, or end a
 * watch. */
struct mailstore_shares_watch {
    struct list_node node; /* list_init before mailstore_shares_watch_end may be called */
    void (*shared)(struct mailstore_shares_watch *watch, const struct mailstore_user *user,
                   struct slice name);
};
void mailstore_shares_watch_begin(struct mailstore *store, struct mailstore_shares_watch *watch);
void mailstore_shares_watch_end(struct mailstore_shares_watch *watch); /* harmless twice */
/* Is there any such? 1, 0; -EIO. */
int mailstore_has_shared(struct mailstore *store);

/* Rows of a user (box: NULL) or of a mailbox, gone with it: ACL, METADATA, a sieve script, ... Borrowed for the call. */
struct mailstore_property {
    struct mailstore_box *box; /* NULL: of the user itself */
    struct slice key;
    struct slice value; /* empty: there is none */
};
int mailstore_property_set(struct mailstore *store, struct mailstore_user *user,
                           const struct mailstore_property *property,
                           struct mailstore_waiter *waiter);

enum mailstore_property_op {
    MAILSTORE_PROPERTY_SET, /* to this value; an empty one: it goes */
    MAILSTORE_PROPERTY_INCLUDE, /* the value is a set of bytes, kept in ascending order: these are in it */
    MAILSTORE_PROPERTY_EXCLUDE, /* and these are not */
};
struct mailstore_property_change {
    enum mailstore_property_op op;
    struct slice key, value;
};
/* Of those whose keys begin so there may be as many; who would add more is refused, who takes some away is not. */
struct mailstore_property_family {
    struct slice prefix;
    uint32_t count_max;
};
/* Several properties of a user (box: NULL) or of a mailbox in one change. Borrowed for the call. */
struct mailstore_properties {
    struct mailstore_box *box;
    const struct mailstore_property_change *changes; /* no key twice */
    uint32_t change_count;
    const struct mailstore_property_family *families;
    uint32_t family_count;
    bool special_use_given; /* of the mailbox, in the same change */
    uint32_t special_use;
};
/* All or none. -EINVAL: a key or a value; -E2BIG; -EDQUOT, later: a family would be too large. */
int mailstore_properties_set(struct mailstore *store, struct mailstore_user *user,
                             const struct mailstore_properties *properties,
                             struct mailstore_waiter *waiter);
/* property->value is a result, of the heap: free its bytes. 0; -ENOENT; -ENOMEM; -EIO. */
int mailstore_property_get(struct mailstore *store, const struct mailstore_user *user,
                           struct mailstore_property *property);
/* Those whose keys begin with property->key, in order of bytes. */
int mailstore_property_each(struct mailstore *store, const struct mailstore_user *user,
                            const struct mailstore_property *property,
                            void (*visit)(void *owner, struct slice key, struct slice value),
                            void *owner);

/* All mailboxes, subscriptions, properties and messages. What must not come again (UIDVALIDITY) is remembered.
 * -EOPNOTSUPP: of Maildirs. */
int mailstore_user_delete(struct mailstore *store, struct mailstore_user *user,
                          struct mailstore_waiter *waiter);
/* Every user of the shard, in no order. 0, -ENOMEM, -EIO. */
int mailstore_each_user(struct mailstore *store, void (*visit)(void *owner, struct slice name),
                        void *owner);
/* At most so many of them, behind `after` (empty: from the first), in order of their names' bytes, until `visit` returns
 * false. Returns how many were visited, or -EIO. */
int mailstore_users_after(struct mailstore *store, struct slice after, unsigned count,
                          bool (*visit)(void *owner, struct slice name), void *owner);

/* ── Reading ─────────────────────────────────────────────────────────────────────────────────── */

/* A text stays while somebody holds it, also when its last entry is expunged. 0; -ENOENT: it is gone. */
struct mailstore_text { /* zeroed before */
    uint64_t id;
    uint32_t bytes;
    void *private;
};
int mailstore_text_open(struct mailstore *store, uint64_t id, struct mailstore_text *text);
void mailstore_text_close(struct mailstore *store,
                          struct mailstore_text *text); /* harmless when it is not open */

struct mailstore_fetch { /* zeroed before its first use; waiter.done is the caller's */
    struct mailstore_waiter waiter;
    void *private;
};
/* Bytes from `offset` (below text->bytes), as many as lie together, held by *owner, taken for the caller: ref_drop it
 * when they are sent. 0; -EINPROGRESS: being fetched, fetch->waiter.done runs, then ask again; -EAGAIN: fetch memory
 * is out, try later; -EIO. */
int mailstore_read(struct mailstore *store, struct mailstore_text *text, uint32_t offset,
                   struct slice *bytes, struct ref **owner, struct mailstore_fetch *fetch);
void mailstore_fetch_cancel(struct mailstore *store, struct mailstore_fetch *fetch);
/* The text will be read soon, from its beginning: that is fetched, if it is not there, and nobody is told. It may be gone
 * again by then. > 0: so many bytes are being read for it since this call; 0: none need be, or it cannot be read; -EAGAIN:
 * fetch memory is out. */
int mailstore_expect(struct mailstore *store, uint64_t text);

/* THREADID of an entry. 0; -ENOENT, -EIO. */
int mailstore_thread(struct mailstore *store, const struct mailstore_box *box, uint32_t uid,
                     uint64_t *thread);

/* What the engine computes of a text and would like to find again; may be lost at any time, and goes with the text.
 * kind: several for one text. get: 0, and *value is valid until the next call of the store; -ENOENT. */
int mailstore_cache_get(struct mailstore *store, uint64_t text, uint8_t kind, struct slice *value);
void mailstore_cache_put(struct mailstore *store, uint64_t text, uint8_t kind, struct slice value);

/* ── Figures ─────────────────────────────────────────────────────────────────────────────────── */

struct mailstore_counters {
    uint64_t delivered, texts_committed, bytes_in, changes, changes_failed, refused_quota;
    uint64_t entries_expunged, entries_restored, texts_dropped;
    uint64_t fetches, fetch_failures;
    uint64_t segments_cleaned, copied_bytes, carried_records, snapshots, snapshot_bytes;
    uint64_t index_writes, index_rows;
    uint64_t replayed_records, rebuilds, damaged_bytes;
    uint64_t live_bytes;   /* of texts, as they lie in the log */
    uint64_t memory_bytes; /* of rows not in the index yet, and of loaded mailboxes */
    uint32_t users_loaded, boxes_loaded, drafts;
};
const struct mailstore_counters *mailstore_counters(const struct mailstore *store);

struct mailstore_fill {
    uint64_t live_bytes, capacity_bytes, disk_free_bytes;
};
void mailstore_fill(const struct mailstore *store, struct mailstore_fill *fill);
