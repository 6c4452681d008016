/*
 * maildir_uidlist: which file of a Maildir folder has which UID: Dovecot's dovecot-uidlist.
 *
 *   3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1      UIDVALIDITY, next UID, 128 bits that name the mailbox
 *   25006 :1276528487.M364837P9451.host,S=1355,W=1394           a message; from ':' of its file's name on is left off
 *   25017 W2481 :1276533073.M242911P3632.host                   with fields: a capital letter and its value
 *
 * Version 1 ("1 UIDVALIDITY NEXT", lines "UID NAME") is read and becomes version 3 when it is written. Fields that
 * are not known are kept. Reading needs no lock; a last line without its end is still being written. Writing needs
 * the lock: lines are appended, all else is a new file that takes the old one's place. The header's N is not
 * changed by appending: a UID below it or below any line's is never given again.
 *
 * A line that cannot be read is passed over and counted, the others keep their UIDs: less than Dovecot loses, which
 * forgets all that follow. A file named twice has its last UID. The list is written anew after either.
 *
 * The scan calls this; one thread at a time. Strings belong to the list, until it is read anew or closed.
 */
#pragma once
#include "engine/core/arena.h"
#include "queue/mailbox/maildir_files.h"

#define MAILDIR_UIDLIST "dovecot-uidlist"
#define MAILDIR_UIDLIST_BYTES_MAX (1ull << 30) /* some ten million messages; more: -EFBIG */
#define MAILDIR_UIDLIST_LINE_MAX 2048          /* longer: damaged */

/* Where a scan has found the file. */
enum maildir_presence { MAILDIR_UNSEEN, MAILDIR_PRESENT, MAILDIR_GONE };

struct maildir_uid {
    uint32_t uid;
    uint32_t scan; /* the scan's: the last that has seen it */
    enum maildir_presence presence;
    bool in_new;
    const char *base;   /* with NUL */
    const char *fields; /* "W2481 S2400", or empty */
    const char *file;   /* the scan's: the whole name; NULL: not seen */
};

struct maildir_uidlist {
    uint32_t uidvalidity; /* 0: there is no list yet */
    uint32_t uid_next;
    char guid[33];            /* empty: none yet */
    const char *others;       /* of the header, not known to us */
    struct maildir_uid *uids; /* in order */
    size_t count, room;
    unsigned damaged;  /* lines passed over */
    bool must_rewrite; /* appending would not do */
    /* The module's. */
    unsigned version;
    bool header_read;
    uint32_t line_uid; /* of the line before */
    uint32_t *table;   /* by base: index + 1 */
    size_t table_room, table_used;
    struct arena text;
    int file; /* open, so that its inode is no other's; -1 */
    uint64_t read_bytes;
};

void maildir_uidlist_open(struct maildir_uidlist *list);
void maildir_uidlist_close(struct maildir_uidlist *list, const struct maildir_files *files);

/* Takes whole lines from the front. Returns bytes taken; -EBADMSG: the header is none, all is lost; -ENOMEM;
 * -EFBIG. */
ssize_t maildir_uidlist_take(struct maildir_uidlist *list, struct slice text);
struct maildir_uid *maildir_uidlist_find(const struct maildir_uidlist *list, struct slice base);
struct maildir_uid *maildir_uidlist_find_uid(const struct maildir_uidlist *list, uint32_t uid);
/* The number in a field, MAILDIR_SIZE_UNKNOWN's UINT64_MAX when there is none. */
uint64_t maildir_uid_field(const struct maildir_uid *uid, char key);
/* The next UID for it; its index is count - 1 then. -EOVERFLOW: there are no more; -ENOMEM; -EFBIG. */
int maildir_uidlist_add(struct maildir_uidlist *list, struct slice base);
/* Without those that are MAILDIR_GONE. */
void maildir_uidlist_drop_gone(struct maildir_uidlist *list);

/* maildir_uidlist_file.c: the file in the folder `at`. */

/* What has been written since; all of it when the file is another one. 0: also when there is none.
 * -EBADMSG: it is none; the list is empty then. */
int maildir_uidlist_refresh(struct maildir_uidlist *list, const struct maildir_files *files,
                            int at);
/* Under the lock, durable: the UIDs from index `first` on, or all in a new file. The list must have a UIDVALIDITY
 * and a GUID. */
int maildir_uidlist_append(struct maildir_uidlist *list, const struct maildir_files *files, int at,
                           size_t first);
int maildir_uidlist_replace(struct maildir_uidlist *list, const struct maildir_files *files,
                            int at);
