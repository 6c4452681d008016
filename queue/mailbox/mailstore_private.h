/*
 * mailstore_private: what the files of the mailbox store share. Nobody else includes it, but tests.
 *
 * mailstore.c          open, close, a round, figures
 * mailstore_record.c   the records of changes: writing them, taking them apart
 * mailstore_change.c   a change on its way to the log, and its end
 * mailstore_ask.c      the calls that change something
 * mailstore_apply.c    what a change does, once it is durable
 * mailstore_box.c      ... to the entries of a mailbox
 * mailstore_names.c    ... to the list of mailboxes
 * mailstore_property.c properties: asked for, done, read
 * mailstore_user.c     users and mailboxes in memory
 * mailstore_entry.c    the entries of a mailbox, in rows and in memory
 * mailstore_text.c     where texts lie, who needs them
 * mailstore_draft.c    receiving a text
 * mailstore_taken.c    what has changed in a Maildir, as a change; what is to be written there, in rows
 * mailstore_files.c    the Maildirs of users who are there: what is to be done in them, one after the other
 * mailstore_files_ask.c, mailstore_files_end.c ... what that is, and what comes of it
 * mailstore_mirror.c   ... what the Maildir is told, and what it tells
 * mailstore_staged.c   ... texts on their way there
 * mailstore_files_kept.c ... what is kept after expunge
 * mailstore_files_inbox.c ... INBOX is renamed
 * mailstore_file_text.c ... texts are read from there
 * mailstore_fetch.c    reading texts
 * mailstore_recover.c  the log read again
 * mailstore_torn.c     ... and deliveries of which not all was written
 * mailstore_clean.c    space comes back
 * mailstore_check.c    two indexes against each other
 * mailstore_audit.c    ... one of them built beside a store that runs
 * mailstore_index.c    rows in LMDB and in memory (mailstore_rows.c)
 */
#pragma once
#include "queue/log/log.h"
#include "queue/mailbox/mailstore.h"
#include "queue/mailbox/mailstore_check.h"
#include "queue/mailbox/mailstore_index.h"
#include "queue/mailbox/mailstore_records.h"

/* ── State in memory ─────────────────────────────────────────────────────────────────────────── */

struct box {
    struct mailstore_box pub;
    struct user *user;
    struct mailstore_entry *entries;
    uint32_t room;
    bool loaded, dirty;
    bool loads; /* a piece was loaded since idle ones were let go */
    uint32_t loading_count,
        loading_row;         /* until it is loaded: entries that are there, and where they end */
    uint32_t vanished_count; /* rows */
    struct list_node idle;   /* loaded, and nobody has it open */
    struct list_node node;   /* of store->changed_boxes */
    char *name;
    char *keywords[MAILSTORE_KEYWORDS_MAX];
};

struct files;
struct mirror;
struct staged;

struct user {
    struct mailstore_user pub;
    struct mailstore *store;
    struct user *next; /* in the table */
    struct list_node idle;
    uint32_t refs;
    struct box **boxes; /* by name */
    uint32_t box_count, box_room;
    char **subscribed; /* by bytes */
    uint32_t subscribed_count, subscribed_room;
    uint32_t uidvalidity_next;
    uint64_t base;           /* a snapshot says all up to this record; 0: none */
    uint64_t floor;          /* records below are not needed for it */
    uint64_t state_bytes;    /* of records for it since then, or about */
    uint64_t snapshot_bytes; /* that snapshot's */
    bool dirty, exists;
    bool snapshots;                 /* one is on its way */
    struct mirror *mirror;          /* of its Maildir; NULL: nobody follows it */
    struct list_node watches, node; /* of store->changed_users */
    char name[];
};

struct text_hold { /* who reads it, or is about to refer to it */
    struct text_hold *next;
    uint64_t text;
    uint32_t count;
};
#define HOLD_BUCKETS 1024u
#define USER_BUCKETS 4096u

struct mailstore_draft {
    struct mailstore *store;
    struct staged *file; /* it becomes a file; else NULL */
    uint64_t id;
    uint64_t
        failures;   /* of the log when it began: while there is no other, nothing of it is void */
    uint32_t bytes; /* in the log */
    uint32_t staged;
    struct text_extent *extents;
    uint32_t extent_count, extent_room;
    struct list_node node;
    bool said;           /* its extents, in the change that commits it */
    uint8_t stage[4096]; /* crumbs, until they are worth a record */
};

/* A change on its way: waits for room, is written, waits until it is durable. */
struct mailstore_asked { /* of who waits; waiter->private points here */
    struct mailstore_waiter *told;
    void *result;
};
struct change {
    struct mailstore_asked asked; /* first */
    struct log_waiter waiter;
    struct list_node node;
    struct mailstore *store;
    struct change_head head;
    struct writer content; /* users, then the body */
    uint64_t id;
    size_t written;
    uint64_t *part_lsns;
    uint32_t part_count;
    uint64_t lsn;
    uint64_t box; /* whose entries it takes away: */
    struct mailstore_uids *leaving;
    uint32_t leaving_count;
    bool copies; /* counted in store->copies */
    struct change_steps steps;
    uint32_t sum;
    struct mailstore_draft *draft;
    bool replaces; /* the draft's text must be durable before this is written */
    void (*internal)(struct mailstore *store, int status); /* the store's own */
};

struct segment_books {    /* log_segment_live.notes */
    uint64_t state_bytes; /* of records of changes in it that may be needed */
    uint32_t drafts;      /* extents of texts that are being received */
    uint32_t
        rest_until; /* the segment in which mail goes on then: cleaning it now gains too little */
};

struct fetch_pool;
struct cleaner;
struct mailstore_audit;

struct mailstore {
    struct log *log;
    struct mailstore_settings settings;
    struct index *index;
    uint64_t wall_s;
    int sick; /* memory or index failed inside a change: nothing is changed any more, a start will put it right */
    uint64_t applied;                   /* the newest change */
    uint32_t applied_sum;               /* crc32c of what it says */
    uint64_t writing;                   /* as `applied`: of the index being written */
    uint64_t safe;                      /* of the one on the device */
    uint64_t writes_begun, writes_done; /* of the index */
    uint64_t changes_written;           /* counters.changes, then */
    uint64_t index_retry_s;             /* it has failed */
    bool replays, rebuilds;
    bool has_kept; /* the index that is built anew: better than one that a damaged log says */
    uint64_t replays_from; /* the first record that is read then */
    struct torn *torn;     /* while it replays */
    bool rests;

    struct user *users[USER_BUCKETS];
    struct list_node idle_users, idle_boxes;
    uint32_t user_count, idle_user_count, idle_box_count;
    struct text_hold *holds[HOLD_BUCKETS];
    struct list_node drafts;
    uint32_t draft_count;
    uint32_t id_sequence, id_count;

    struct list_node queue;   /* changes that wait for room; the first may be written in part */
    struct list_node flight;  /* that wait to be durable */
    struct list_node durable; /* that wait to be done, or to be done on: the first */
    struct list_node undone;  /* durable, and the store is sick: nobody is told */
    bool
        midway; /* some of the steps of the first durable one are done: this is the state behind no change */
    uint32_t step_costs;   /* of this round */
    struct list_node room; /* mailstore_when_room */
    struct list_node changed_boxes, changed_users;
    struct list_node share_watches;
    uint32_t copies;   /* on their way: until they are done no text goes */
    bool unused_waits; /* some would have gone */

    struct fetch_pool *fetches;
    struct files *files; /* Maildirs; NULL: texts lie in the log */
    struct cleaner *cleaner;
    struct mailstore_audit *audit; /* NULL: there is none */
    uint64_t purge_at_s;
    struct writer scratch;
    struct mailstore_counters counters;
};

/* What the log says means what it does of Maildirs, also while nobody looks at them. */
static inline bool store_is_of_maildirs(const struct mailstore *store)
{
    return store->settings.maildirs != NULL || store->settings.of_maildirs;
}

static inline struct box *box_private(const struct mailstore_box *box)
{
    return (struct box *)(uintptr_t)box;
}
static inline struct user *user_private(const struct mailstore_user *user)
{
    return (struct user *)(uintptr_t)user;
}

/* ── Rows ────────────────────────────────────────────────────────────────────────────────────── */

/* The first byte of a key; numbers behind it have their highest byte first. */
enum row_kind {
    ROW_HEADER = 'h',
    ROW_SEGMENTS = 'g',   /* struct segment_row, of those in which changes are */
    ROW_USER_NAME = 'U',  /* name: id */
    ROW_USER = 'u',       /* id */
    ROW_BOX = 'b',        /* user, box */
    ROW_SUBSCRIBED = 's', /* user, name */
    ROW_PROPERTY = 'p',   /* user, box or 0, key */
    ROW_SHARED = 'a',     /* name, NUL, user, box: what ROW_PROPERTY says, found by name */
    ROW_ENTRIES = 'e',    /* box, uid / ENTRIES_EACH: struct stored_entry, ascending */
    ROW_VANISHED = 'x',   /* box, modseq, first uid: last uid */
    ROW_KEPT = 'k', /* user, box, modseq, uid: struct stored_entry; saved_s: when it was expunged */
    ROW_TEXT = 't', /* text: struct text_row */
    ROW_UNUSED = 'z', /* text, that no entry has */
    ROW_CACHE = 'c',  /* text, kind */
    ROW_WRITE = 'w',  /* user, box, uid: struct write_row */
};
#define ROW_KEY_BYTES 511u
#define ENTRIES_EACH 32u
#define VANISHED_MAX 8192u

struct key {
    uint8_t bytes[ROW_KEY_BYTES + 1];
    uint32_t size;
};
void key_begin(struct key *key, enum row_kind kind);
void key_u64(struct key *key, uint64_t value);
void key_u32(struct key *key, uint32_t value);
void key_text(struct key *key, struct slice text);
static inline struct slice key_slice(const struct key *key)
{
    return slice_of(key->bytes, key->size);
}
uint64_t key_read_u64(struct slice key, size_t at);
uint32_t key_read_u32(struct slice key, size_t at);

/* Of all rows whose keys begin so; visit may put others. 0, or what visit answered, -ENOMEM, -EIO. */
typedef int rows_visit(struct mailstore *store, void *owner, struct slice key, struct slice value);
int rows_remove(struct mailstore *store, const struct key *prefix, rows_visit *visit, void *owner);
struct rows_removal {
    const struct key *prefix;
    rows_visit *visit;
    void *owner;
};
/* Some of them, from `from` on, where the next ones begin then. -EINPROGRESS: there may be more. */
int rows_remove_some(struct mailstore *store, const struct rows_removal *removal, struct key *from);

/* mailstore_user.c */
int user_get(struct mailstore *store, struct slice name, struct user **user); /* + 1 ref */
int user_get_by_id(struct mailstore *store, uint64_t id, struct user **user); /* + 1 ref */
void user_drop(struct user *user);
struct user *user_known(struct mailstore *store, struct slice name); /* in memory; else NULL */
void kept_key(struct key *key, const struct box *box);
struct box *user_box(const struct user *user, struct slice name);
/* Behind it by name; behind NULL: the first. NULL: there is none, or it has left the list. */
struct box *user_box_next(const struct user *user, const struct box *box);
struct box *user_box_by_id(const struct user *user, uint64_t id);
struct box *box_new(struct user *user, uint64_t id, struct slice name); /* in its user's list */
void box_unlist(struct box *box);                                       /* no more in it */
void box_free(struct box *box);
int box_name_set(struct box *box, struct slice name);               /* 0, -ENOMEM */
int box_keyword_bit(struct box *box, struct slice name, bool make); /* -ENOENT, -ENOSPC, -ENOMEM */
bool name_is_good(struct slice name);
/* INBOX, also as the first level, in capitals; empty is INBOX. As it was, or in the text. */
struct slice name_canonical(struct slice name, char text[MAILSTORE_NAME_BYTES_MAX]);
void name_write(struct writer *writer, struct slice name);              /* canonical */
int user_subscribed_set(struct user *user, struct slice name, bool on); /* in memory */
int user_reload(struct user *user); /* its rows are others now */
void user_changed(struct user *user);
void box_changed(struct box *box);
int user_row_put(struct user *user);
int users_flush(struct mailstore *store); /* what is dirty, to rows */
void users_tell(struct mailstore *store); /* watches */
void box_expunge_tell(const struct box *box, uint32_t uid);
void users_trim(struct mailstore *store);
void mailstore_users_close(struct mailstore *store);

/* mailstore_entry.c */
/* 0: all of them are there; -EINPROGRESS: some more; -ENOMEM, -EIO. */
int box_load_some(struct mailstore *store, struct box *box);
void box_unload(struct box *box);
int entry_add(struct mailstore *store, struct box *box, const struct stored_entry *stored);
int entry_stored(struct mailstore *store, const struct box *box, uint32_t uid,
                 struct stored_entry *stored);
/* Rows of entries are changed in ascending order of uids: the patch holds one. */
struct patch {
    struct mailstore *store;
    struct box *box;
    uint32_t number; /* of the row, + 1; 0: none */
    uint32_t count;
    bool changed;
    struct stored_entry entries[ENTRIES_EACH];
};
int patch_find(struct patch *patch, uint32_t uid, struct stored_entry **stored);
void patch_remove(struct patch *patch, struct stored_entry *stored);
int patch_end(struct patch *patch);
void box_count_add(struct box *box, const struct mailstore_entry *entry, int sign);

/* mailstore_text.c */
enum text_kind { TEXT_LOG, TEXT_FILE };
struct text_row {
    uint32_t refs, bytes;
    uint32_t extent_count, kind; /* enum text_kind */
    struct text_extent extents[];
};
struct text_file { /* in the place of extents: whose message it is or was */
    uint64_t user, box;
    uint32_t uid, zero;
};
struct text_file text_file_of(const struct text_row *row);
/* Of an entry that is about to be. */
int text_file_make(struct mailstore *store, uint64_t text, uint32_t bytes,
                   const struct text_file *file);
bool text_is_held(struct mailstore *store, uint64_t text);
/* 0, -ENOENT, -EIO, -ENOMEM. The row is a copy in store->scratch, until the next call of these. */
int text_get(struct mailstore *store, uint64_t text, struct text_row **row);
int text_put(struct mailstore *store, uint64_t text, const struct text_row *row);
int text_make(struct mailstore *store, uint64_t text, uint32_t bytes,
              const struct text_extent *extents, uint32_t count);
int text_refer(struct mailstore *store, uint64_t text, uint32_t bytes, int change);
int text_chunk(struct mailstore *store, uint64_t text, const struct text_extent *extent, bool make);
bool text_hold_take(struct mailstore *store, uint64_t text);
void text_hold_drop(struct mailstore *store, uint64_t text);
int texts_sweep(struct mailstore *store);  /* those that would have gone */
int texts_settle(struct mailstore *store); /* after recovery: the unused go, the rest is counted */
void live_add(struct mailstore *store, uint64_t lsn, uint64_t bytes);
void live_take(struct mailstore *store, uint64_t lsn, uint64_t bytes);
#define EXTENT_COST 48u /* of a chunk's record beside its bytes, or about */
struct segment_books *segment_books(struct mailstore *store, uint32_t sequence);
struct segment_row { /* what a start cannot count which does not read the segment */
    uint64_t state_bytes;
    uint32_t sequence, zero;
};
int segments_put(struct mailstore *store);
/* Of those below `before`, from the row's content, which was read when the start began. */
void segments_take(struct mailstore *store, struct slice row, uint32_t before);

/* mailstore_draft.c */
int id_make(struct mailstore *store, uint64_t *id);
void draft_free(struct mailstore_draft *draft, bool lives);
bool draft_is_void(const struct mailstore_draft *draft);
int draft_flush(struct mailstore_draft *draft,
                size_t more); /* what is staged; room for `more` too */

/* mailstore_change.c */
struct change *change_new(struct mailstore *store, enum change_kind kind, void *result,
                          struct mailstore_waiter *told);
/* Given. Users and body are in change->content, users_bytes is set. 0 or -errno: gone. */
int change_submit(struct change *change);
void change_user(struct change *change, struct slice name); /* all of them before the body */
unsigned changes_round(struct mailstore *store);
void changes_close(struct mailstore *store); /* all that are left, untold */
/* The first record that a change needs which is not done yet. */
uint64_t changes_floor(const struct mailstore *store);
bool changes_leave(const struct mailstore *store, uint64_t box, uint32_t uid);

/* mailstore_ask.c */
struct change *user_change(struct mailstore *store, const struct mailstore_user *user,
                           enum change_kind kind, void *result, struct mailstore_waiter *waiter);
int mailstore_expunge_untold(struct mailstore *store, struct mailstore_box *box,
                             struct mailstore_expunge *expunge);
int mailstore_purge(struct mailstore *store, struct box *box, uint32_t until_s);

/* mailstore_apply.c. 0, or why it is refused; -EINPROGRESS: a step of it is done, ask again; store->sick is set when the
 * state cannot be told any more. */
int mailstore_apply(struct mailstore *store, const struct change_said *said);
bool said_is_known(const struct user *user, const struct change_said *said); /* by a snapshot */

/* mailstore_box.c: all of these: 0, > 0: the change is refused with this errno; < 0: the store is sick. */
int apply_flags(struct box *box, const struct change_said *said, struct reader *body);
int apply_expunge(struct box *box, const struct change_said *said, struct reader *body);
int apply_restore(struct box *box, const struct change_said *said, struct reader *body);
int apply_purge(struct box *box, const struct change_said *said, struct reader *body);
int apply_unkeep(struct box *box, const struct change_said *said, struct reader *body);
/* Is the uid in one of them? They ascend. */
bool uids_have(const struct mailstore_uids *uids, uint32_t count, uint32_t uid);
struct removal {
    const struct mailstore_uids *uids; /* NULL: all */
    uint32_t uid_count;
    uint32_t first, last; /* of the entries: indexes [first, last) are looked at */
    bool deleted_only;
    bool keeps;
    bool taken; /* their files have gone, so nobody has to remove them */
    uint32_t wall_s;
    struct writer *gone; /* the ranges of uids that it removes are added; NULL: nobody asks */
    uint32_t count;      /* result */
    uint64_t modseq;     /* result; 0: none */
};
int entries_remove(struct box *box, struct removal *removal);
/* Loads it for a change, or for who will open it; it stays a while. */
int box_need(struct box *box);
int box_need_step(struct box *box, struct change_steps *steps);
int box_need_some(struct box *box); /* -EINPROGRESS: ask again in a later round, or step */
uint64_t keywords_read(struct box *box, struct reader *body); /* bits of their names */
int vanished_trim(struct mailstore *store, struct box *box);
int entries_vanish(struct mailstore *store, struct box *box, uint64_t modseq,
                   const struct mailstore_uids *range);

/* mailstore_taken.c */
struct write_row { /* what the Maildir has of a message that we have changed */
    uint64_t keywords, text;
    uint8_t flags, expunged;
    uint8_t zero[6];
};
int apply_take(struct user *user, const struct change_said *said, struct reader *body);
/* Before the entry changes, or goes. Nothing where there are no Maildirs. */
int write_note(struct box *box, const struct mailstore_entry *entry, bool expunged);
void write_key(struct key *key, const struct box *box); /* without the uid */

/* mailstore_files.c: the calls answer when there are Maildirs only. */
int files_open(struct mailstore *store);
void files_close(struct mailstore *store);
bool files_are_quiet(const struct mailstore *store);
bool files_have_room(const struct mailstore *store);
unsigned files_round(struct mailstore *store);
/* There is a row to be written of this box. */
void files_wanted(struct box *box);
void files_box_opened(struct box *box);
/* mailstore_files_ask.c */
int files_refresh(struct mailstore *store, struct user *user, struct mailstore_waiter *waiter,
                  bool reads);
int files_commit(struct mailstore_draft *draft, struct mailstore_place *place,
                 struct mailstore_waiter *waiter);
/* mailstore_files_deliver.c: of several places, or of one without a uid. The draft is given. */
int files_deliver(struct mailstore_draft *draft, struct mailstore_place *places, uint32_t count,
                  struct mailstore_waiter *waiter);
int files_copy(struct box *box, struct mailstore_copy *copy, bool moves,
               struct mailstore_waiter *waiter);
int files_create(struct user *user, struct mailstore_create *create,
                 struct mailstore_waiter *waiter);
int files_delete(struct box *box, struct mailstore_waiter *waiter);
/* box: NULL: what is below the name. */
int files_rename(struct user *user, struct box *box, struct slice from, struct slice name,
                 struct mailstore_waiter *waiter);
int files_subscribe(struct user *user, struct slice name, bool subscribed,
                    struct mailstore_waiter *waiter);
/* mailstore_files_inbox.c */
int files_inbox_rename(struct user *user, struct slice name, struct mailstore_waiter *waiter);
/* mailstore_files_kept.c */
int files_restore(struct box *box, struct mailstore_restore *restore,
                  struct mailstore_waiter *waiter);
/* Something is not kept any more. Nothing where there are no Maildirs. */
void files_tidy(struct user *user);
/* mailstore_file_text.c */
int files_read(struct mailstore *store, const struct mailstore_text *text,
               const struct text_row *row, uint32_t offset, struct slice *bytes, struct ref **owner,
               struct mailstore_fetch *fetch);
/* As mailstore_expect. */
int files_expect(struct mailstore *store, uint64_t text, const struct text_row *row);
void file_texts_close(struct mailstore *store);

/* mailstore_staged.c */
int staged_begin(struct mailstore_draft *draft);
int staged_append(struct mailstore_draft *draft, const struct slice *parts, size_t count);
void staged_abort(struct staged *staged);

/* mailstore_names.c */
int apply_create(struct user *user, const struct change_said *said, struct reader *body);
int apply_delete(struct user *user, const struct change_said *said, struct reader *body);
int apply_rename(struct user *user, const struct change_said *said, struct reader *body);
int apply_subscribe(struct user *user, const struct change_said *said, struct reader *body);
int user_subscribe(struct user *user, struct slice name, bool on);
int user_exist(struct user *user, uint64_t id); /* from now on */
int box_make(struct user *user, const struct change_said *said, struct slice name,
             struct box **box);
int user_rows_remove(struct user *user);
void user_forget_boxes(struct user *user);
uint64_t said_id(const struct user *user, const struct change_said *said); /* of what it makes */

/* mailstore_property.c */
int apply_property(struct user *user, const struct change_said *said, struct reader *body);
/* Of a row of a property that was put, or has gone. 0, -ENOMEM. */
int shared_row_put(struct mailstore *store, struct slice key);
rows_visit shared_row_remove;
/* A mailbox that has come to be: who may see the one above it may see it. */
int shares_inherit(struct user *user, struct box *box);
/* All that does not say who may see it. */
int annotations_copy(struct user *user, const struct box *from, const struct box *to);
int apply_properties(struct user *user, const struct change_said *said, struct reader *body);

/* mailstore_fetch.c */
bool fetch_pool_is_quiet(const struct mailstore *store);
int fetch_pool_open(struct mailstore *store);
void fetch_pool_close(struct mailstore *store);

/* mailstore_torn.c */
/* What power loss has left of the last deliveries: the commit, but not all of the text. Nobody was told of them. */
struct torn_entry {
    uint64_t user, box, missing; /* ids, and where bytes of it should be */
    uint32_t uid;
};
struct torn {
    uint64_t from;    /* texts up to here are not asked for: the index has seen them */
    uint64_t *chunks; /* LSNs of those found behind, ascending */
    size_t chunk_count, chunk_room;
    struct damaged {
        uint64_t lsn, bytes;
    } * damaged; /* was there once: whoever has such a text keeps what is left of it */
    size_t damaged_count, damaged_room;
    struct torn_entry *entries;
    size_t entry_count, entry_room;
    bool failed; /* memory was short */
};
void torn_chunk(struct torn *torn, uint64_t lsn);
void torn_damaged(struct torn *torn, uint64_t lsn, uint64_t bytes);
/* The LSN of a part that is not there; 0: all is. */
uint64_t torn_missing(struct mailstore *store, uint64_t text, const struct text_extent *extents,
                      uint32_t count);
void torn_add(struct torn *torn, struct torn_entry entry);
int torn_expunge(struct mailstore *store); /* blocks */
void torn_free(struct torn *torn);

/* mailstore.c: a store that has an index, and users, of its own, and a log in name; for mailstore_build. */
int store_beside_open(struct mailstore **store, struct log *log,
                      const struct mailstore_settings *settings);
void store_beside_close(struct mailstore *store);

/* mailstore_recover.c. stale: the index is not to be believed, whatever it says. */
int mailstore_recover(struct mailstore *store, bool stale);
struct log_visitor;
struct mailstore_building {
    uint64_t until;        /* the newest change that counts */
    uint64_t memory_bytes; /* for changes that are gathered; more of them: -E2BIG */
    /* All records. 0 or -errno. */
    int (*read)(struct mailstore_building *building, const struct log_visitor *visitor);
    /* After each change that was done of them. Not 0: no more, that is the answer. */
    int (*built)(struct mailstore_building *building, uint64_t done, uint64_t all);
};
/* The state as of a change, from records of another's log, into an index that may have rows; the store has a log in name
 * (queue/log/log_reading.h), and nothing else. Blocks. */
int mailstore_build(struct mailstore *store, struct mailstore_building *building);
int mailstore_checkpoint(struct mailstore *store); /* begins to write the index */
void mailstore_index_round(struct mailstore *store);
bool index_is_behind(const struct mailstore *store); /* too far: nothing more is taken */
bool index_is_busy(const struct mailstore *store);   /* what need not be kept is not */

/* mailstore_clean.c */
int cleaner_open(struct mailstore *store);
void cleaner_close(struct mailstore *store);
unsigned cleaner_round(struct mailstore *store);
bool cleaner_is_quiet(const struct mailstore *store);
bool cleaner_waits_for_log(const struct mailstore *store);
void snapshot_wanted(struct user *user);
bool cleaner_is_short(const struct mailstore *store); /* of space, or soon */

/* mailstore_check.c */
struct index_comparison {
    void (*visit)(void *owner, const struct mailstore_difference *difference);
    int (*row)(
        void *owner); /* after each row; not 0: no more of them, that is the answer. May be NULL */
    void *owner;
};
int indexes_compare(struct index *first, struct index *second,
                    const struct index_comparison *comparison);

/* mailstore_audit.c */
unsigned audit_round(struct mailstore *store);
bool audit_is_quiet(const struct mailstore *store);
void audit_take(struct mailstore *store);    /* the index is not being written */
void audit_written(struct mailstore *store); /* it is on the device, and the next one not begun */
/* The cleaner needs what is kept for it. False: there is none. */
bool audit_yield(struct mailstore *store);
void audit_forget(const struct mailstore_settings *settings); /* files of one that was cut off */
bool index_is_marked(const struct mailstore_settings *settings);
int index_unmark(const struct mailstore_settings *settings);
/* The file of an index that is to be built anew stays beside it, INDEX.kept, until there is another. False: it cannot. */
bool index_keep(const struct mailstore_settings *settings);
void index_let_go(const struct mailstore_settings *settings);
bool index_restore(const struct mailstore_settings *settings); /* of one that is closed */
