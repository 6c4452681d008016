/*
 * maildir_home: a user's Maildir as the mailbox store follows it: which folders there are, and what has changed in them
 * since the store was told.
 *
 *   PATH/USER/{cur,new,tmp}      INBOX             PATH/USER/.Sent.2024/{cur,new,tmp}      Sent/2024
 *   PATH/USER/subscriptions      as Dovecot 2.3 writes it
 *   PATH/USER/tubepost-kept      what is kept after expunge
 *
 * The store (mailstore_files.c) has each call made on a helper's thread, one at a time for a home; they block. What a
 * call answers as news counts as told from then on, unless the store says otherwise (home_forget). Mailboxes are named in
 * UTF-8, as in mailstore.h; flags are enum mailstore_flag; keywords are the letters of the folder, bit 0 is a.
 */
#pragma once
#include "queue/mailbox/maildir_scan.h"

struct home;

enum home_kind { HOME_ADDED, HOME_CHANGED, HOME_GONE };
struct home_item {
    uint32_t uid;
    uint8_t kind;                       /* enum home_kind */
    uint8_t flags_before, flags;        /* before: what both have gone out from */
    uint32_t keywords_before, keywords; /* letters */
    uint32_t bytes; /* lines ending in CRLF; of one that was added, as what follows */
    uint32_t internal_s, saved_s;
};
struct home_news { /* of a folder; of the heap */
    struct home_news *next;
    bool gone; /* the folder itself */
    uint32_t uidvalidity,
        uid_next; /* another UIDVALIDITY than was told: none of what was told is there */
    char (*keywords)[MAILDIR_KEYWORD_BYTES_MAX + 1]; /* MAILDIR_KEYWORDS_MAX of them */
    struct home_item *items; /* those added stand behind the others; both ascend */
    size_t count, room;
    char mailbox[MAILDIR_FILE_NAME_MAX * 2 + 1];
};
void home_news_free(struct home_news *news); /* the whole list */

/* What the store has of a mailbox, as it was in the Maildir when it was last told. */
struct home_seen {
    uint32_t uid;
    uint8_t flags;
    uint64_t keywords; /* bits of `names`; letters, once the home has it */
};
struct home_told { /* of the heap; given */
    struct home_told *next;
    char mailbox[MAILDIR_FILE_NAME_MAX * 2 + 1];
    uint32_t uidvalidity, uid_next;
    struct home_seen *seen; /* ascending */
    size_t count;
    unsigned name_count;
    char (*names)[MAILDIR_KEYWORD_BYTES_MAX + 1];
};
void home_told_free(struct home_told *told);

/* owner: borrowed as long as the home. 0, -ENOMEM. */
int home_open(struct home **home, const struct maildir_owner *owner, const char *path,
              const char *user);
void home_close(struct home *home); /* NULL is fine */
/* The files that are open are given back, and the memory for what was told. While a folder's times are as they were nothing
 * needs to be told again; when they are not it is stale (home_look), and before anything is put there it is to be told. */
void home_rest(struct home *home);
/* How long a lock of another is waited for from now on; 0: as long as it may be somebody's. */
void home_patience(struct home *home, int64_t patience_s);
/* Does what is found in new/ from now on stay there, where it is \Recent to others? */
void home_leave_new(struct home *home, bool leaves);
/* The lowest UIDVALIDITY that a folder may be given. */
void home_uidvalidity(struct home *home, uint32_t least);
/* Given. Replaces what the home knew of this mailbox. */
void home_tell(struct home *home, struct home_told *told);
/* Nothing of it was told. */
void home_forget(struct home *home);

/* A change of the store's that is to be in the Maildir: from `before` to `after`. */
struct home_write {
    uint32_t uid;
    bool expunge;
    uint8_t flags_before, flags;
    uint64_t keywords_before, keywords; /* bits of the list's names */
    uint64_t kept; /* of what is expunged: it is kept as this, see home_state; 0: it is not */
};
struct home_writes { /* of one mailbox; borrowed */
    const char *mailbox;
    const struct home_write *writes;
    size_t count;
    unsigned name_count;
    char (*names)[MAILDIR_KEYWORD_BYTES_MAX + 1];
};
/* What was written comes as news: HOME_CHANGED, with what it was to become as `before`, or HOME_GONE. 0 or -errno. */
int home_write(struct home *home, const struct home_writes *writes, struct home_news **news);

/* Which folders there are, and in those that have changed, what. 0; or -errno of one of them: the news of others stand.
 * -ESTALE: the same, and *stale are folders that rest and have changed: names, each with NUL, of the heap, *size bytes. Of
 * them there is no news before they are told. */
struct home_stale {
    char *names;
    size_t size;
};
int home_look(struct home *home, struct home_news **news, struct home_stale *stale);

/* A message from the file `name` in the open folder `at`, which goes. */
struct home_message {
    int at;
    const char *name;
    uint64_t bytes, virtual_bytes;
    int64_t internal_s; /* 0: now */
    uint8_t flags;
    const char (
        *keywords)[MAILDIR_KEYWORD_BYTES_MAX + 1]; /* those that find no letter are left off */
    unsigned keyword_count;
    uint64_t left_off; /* result: bits of the first 64 */
};
/* Durable when it returns 0; it is in the news. -ENOENT: no such folder. */
int home_put(struct home *home, const char *mailbox, struct home_message *message, uint32_t *uid,
             struct home_news **news);

/* Where a message is whose name is not on the disk yet. */
struct home_unsynced {
    int folder; /* open, on the file system of the letter's `at`; the caller's to close. -1: the name is on the disk */
    char name[MAILDIR_FILE_NAME_MAX + 1];
};

/* A message that is delivered from the file `name` in the open folder `at`, which is on the disk. */
struct home_letter {
    int at;
    const char *name;
    const char *base; /* of its file's name, sizes too: unique */
    const char *mailbox;
    bool create, subscribe; /* it comes to be when it is not there, and is subscribed then */
    bool or_inbox;          /* a mailbox that is not there, or has no folder's name: INBOX */
    bool gives;             /* `name` may go */
    bool hurries;           /* no lock is waited for */
    bool given;             /* result: and has */
    struct home_unsynced
        *unsynced; /* result: the folder that the caller syncs; NULL: he does not */
    uint8_t flags;
    const char (*keywords)[MAILDIR_KEYWORD_BYTES_MAX + 1]; /* as home_message's */
    unsigned keyword_count;
};
/* Of a home that nobody tells anything: the store's own finds it at its next look. Durable when it returns 0, or when the
 * `unsynced` folder is. -ENOENT: no such mailbox; -EINVAL: it cannot be made of this name; -ETIMEDOUT: another has a lock
 * that a new keyword or folder needs. */
int home_deliver(struct home *home, struct home_letter *letter);

struct home_copy {
    const char *path; /* where that user's home is; NULL: as the home's own */
    const char *user; /* whose the source is; NULL: the home's own */
    const char *from, *to;
    uint32_t uidvalidity;             /* of `from`: with another, none of them is there */
    const struct home_write *entries; /* uid, flags and keywords that the copies are to have */
    size_t count;
    unsigned name_count;
    char (*names)[MAILDIR_KEYWORD_BYTES_MAX + 1];
    /* Results: those that were there, in order: their copies have the uids from `first` on. */
    uint32_t *copied; /* room for `count`; the caller's */
    size_t copied_count;
    uint32_t first;
    uint64_t left_off; /* bits of the list's names: those that find no letter there */
};
/* All that are there, or none; by links where the file system has them. */
int home_copy(struct home *home, struct home_copy *copy, struct home_news **news);

/* What was kept after expunge becomes messages of its mailbox again, with its flags and its mtime. */
struct home_kept {
    uint64_t kept, keywords; /* bits of the list's names */
    uint32_t uid, bytes;     /* that it had */
    uint8_t flags;
};
struct home_restore {
    const char *mailbox;
    uint32_t uidvalidity;
    const struct home_kept *entries;
    size_t count;
    unsigned name_count;
    char (*names)[MAILDIR_KEYWORD_BYTES_MAX + 1];
    /* Results: those that were there; they have the uids from `first` on. */
    uint32_t *restored; /* room for `count`; the caller's */
    size_t restored_count;
    uint32_t first;
    uint64_t left_off; /* as home_copy's */
};
/* Durable, all that are there or none; they stay kept, too, until home_tidy. -ENOENT: no such folder. */
int home_restore(struct home *home, struct home_restore *restore, struct home_news **news);

/* Of which state of the store what is kept is: another numbers it anew. Before the first that is kept. */
void home_state(struct home *home, uint64_t state);
struct home_tidy {
    const uint64_t *ids; /* that are kept in this state; ascending */
    size_t count;
    uint32_t keep_s; /* so long, of another state */
};
/* What is not kept any more is removed. */
int home_tidy(struct home *home, const struct home_tidy *tidy);

/* -EEXIST; -EINVAL: no name of a folder. */
int home_create(struct home *home, const char *mailbox, struct home_news **news);
/* -ENOENT. */
int home_delete(struct home *home, const char *mailbox);
/* One that was made and is not wanted after all; but it stays when others have put something there, and the next look finds it. */
void home_withdraw(struct home *home, const char *mailbox);
/* With all below it, or only those. -ENOENT, -EEXIST, -EINVAL. */
int home_rename(struct home *home, const char *from, const char *to);

struct home_text {
    const char *mailbox;
    uint32_t uidvalidity; /* a folder that was made again has others of the same UIDs */
    uint32_t uid;
};
/* Bytes of a message, lines ending in CRLF, from `offset` on. Returns how many, 0: behind its end; -ENOENT: it has gone. */
ssize_t home_read(struct home *home, const struct home_text *text, uint64_t offset, void *bytes,
                  size_t size);

/* The file `subscriptions`: names, each with NUL, of the heap. *size: of all. 0; -EALREADY: as it was. */
int home_subscribed(struct home *home, char **names, size_t *size);
int home_subscribe(struct home *home, const char *mailbox, bool subscribed);
