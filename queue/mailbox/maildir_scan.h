/*
 * maildir_scan: what is in one Maildir folder: its files, with the UIDs and keywords of Dovecot's lists.
 *
 * A scan holds Dovecot's lock, moves what is in new/ to cur/ (if it is to), gives new files UIDs in the order of their names, and
 * makes that durable before it returns. A folder's listing can miss a file that is renamed meanwhile by somebody
 * who takes no lock: what is missing is looked for a second time before it counts as gone. What is gone keeps its
 * line until a quarter of the list is such. A file that comes back after it was gone, and a second file of one base,
 * get a name and so a UID of their own: a UID that was seen to go may not come back (RFC 3501 §2.3.1.1).
 *
 * The mailbox backend, import and export call this; blocks; one thread at a time for a folder structure. Messages
 * are list.uids where presence is MAILDIR_PRESENT; pointers into it are valid until the next call.
 */
#pragma once
#include "queue/mailbox/maildir_keywords.h"
#include "queue/mailbox/maildir_lock.h"
#include "queue/mailbox/maildir_name.h"
#include "queue/mailbox/maildir_uidlist.h"

struct maildir_box {
    const struct maildir_owner *owner; /* borrowed */
    int folder, new_folder, cur_folder;
    struct maildir_uidlist list;
    struct maildir_keywords keywords;
    struct maildir_namer namer;
    struct arena names[2]; /* of this scan and of the one before */
    uint32_t scans, looks;
    unsigned renamed;           /* duplicates and what came back, so far */
    uint32_t uidvalidity_least; /* the caller's: of a list that is begun */
    bool leaves_new;            /* the caller's: what is in new/ stays there */
    int64_t patience_s; /* the caller's, for the lock; 0: MAILDIR_LOCK_PATIENCE_S; < 0: one try */
};

struct maildir_message {
    uint32_t uid;
    const char *file; /* borrowed */
    unsigned flags;   /* enum maildir_flag */
    uint32_t keywords;
    uint64_t bytes, virtual_bytes;    /* with line ends as they are; with all of them CRLF */
    int64_t internal_date_s, saved_s; /* wall clock: its mtime and its ctime, as Dovecot has them */
};

/* `name` below the open folder `at`; what is missing of cur/, new/ and tmp/ is made. 0 or -errno. */
int maildir_box_open(struct maildir_box *box, const struct maildir_owner *owner, int at,
                     const char *name);
void maildir_box_close(struct maildir_box *box);

/* 0; -ETIMEDOUT: the lock; other -errno: nothing that is not durable was given a UID. */
int maildir_box_scan(struct maildir_box *box);
/* Everything of one message; reads its file where no name and no list tells sizes that can be right. -ENOENT: it has
 * gone or was renamed: scan. */
int maildir_box_message(struct maildir_box *box, const struct maildir_uid *uid,
                        struct maildir_message *message);
/* The letter of a keyword, which is written down if it has none yet. -ENOSPC, -EINVAL: as maildir_keywords_add. */
int maildir_box_keyword(struct maildir_box *box, struct slice name);
/* -ENOENT: it has gone. */
int maildir_box_set(struct maildir_box *box, uint32_t uid, unsigned flags, uint32_t keywords);
int maildir_box_expunge(struct maildir_box *box, uint32_t uid);

/* Several changes under one lock, durable before it returns. Flags and keywords that differ between `before` and
 * `after` become as they are in `after`; the others stay as others may have made them. */
struct maildir_state {
    unsigned flags; /* enum maildir_flag */
    uint32_t keywords;
};
struct maildir_write {
    uint32_t uid;
    bool expunge;
    struct maildir_state before, after;
    int status;                /* 0; -ENOENT: it has gone; -errno */
    struct maildir_state left; /* result, unless it has gone: what the file has now */
};
/* 0; -ETIMEDOUT or another -errno: some may have been done, and none is reported. */
int maildir_box_write(struct maildir_box *box, struct maildir_write *writes, size_t count);

/* Files that become messages of the box, with UIDs in their order, without a gap. Durable, or none is there. */
struct maildir_put {
    int from_at;
    const char *from;
    bool links; /* `from` stays */
    char name[MAILDIR_FILE_NAME_MAX + 1];
    uint32_t uid; /* result */
};
/* Before the others were put the box is scanned. */
int maildir_box_put(struct maildir_box *box, struct maildir_put *puts, size_t count);
