/*
 * maildir_name: names of message files and of Maildir++ folders, written and read as Dovecot does.
 *
 *   TIME.MmicrosecondsPpid.HOST,S=BYTES,W=BYTES-WITH-CRLF:2,FLAGS[,OTHERS]      a message; from ':' on it changes
 *   .Sent.2024                                                                  the folder Sent/2024
 *
 * What is before the first ':' is the base and identifies a message for ever. Flags stand in the order of their
 * ASCII codes; flags that are not known, and all behind a comma, are kept. The scan, who changes flags, the import
 * and the export call this. Pure; results are slices of what was given.
 *
 * Source: https://cr.yp.to/proto/maildir.html, Maildir++ (Courier), Dovecot 2.3's manual on its Maildirs.
 */
#pragma once
#include "engine/core/slice.h"
#include <sys/types.h>

#define MAILDIR_FILE_NAME_MAX 255 /* of every file system we meet; longer: -ENAMETOOLONG */
#define MAILDIR_KEYWORDS_MAX 26   /* letters a to z */

enum maildir_flag {
    MAILDIR_DRAFT = 1,
    MAILDIR_FLAGGED = 2,
    MAILDIR_PASSED = 4, /* forwarded; Dovecot keeps it and shows it to nobody */
    MAILDIR_REPLIED = 8,
    MAILDIR_SEEN = 16,
    MAILDIR_TRASHED = 32,
};

/* bytes, virtual_bytes: what is said of the size, with line ends as in the file and with all of them CRLF. */
#define MAILDIR_SIZE_UNKNOWN UINT64_MAX

struct maildir_name {
    struct slice base;
    uint64_t bytes, virtual_bytes; /* or MAILDIR_SIZE_UNKNOWN */
    unsigned flags;                /* enum maildir_flag */
    uint32_t keywords;             /* bit 0: letter a */
};

/* 0, or -EINVAL: not a message's: empty base, a dot in front, '/', NUL or a line end. */
int maildir_name_read(struct slice file, struct maildir_name *name);
/* The same file with other flags and keywords. Returns bytes written, without a NUL; -ENAMETOOLONG. */
ssize_t maildir_name_write(struct slice file, unsigned flags, uint32_t keywords,
                           char out[MAILDIR_FILE_NAME_MAX]);
/* In the order in which new files get their UIDs: by time, microseconds, base. */
int maildir_name_order(struct slice one, struct slice other);

/* Makes names that no other has: the time moves on by a microsecond where it would be the same. */
struct maildir_namer {
    int64_t last_us;
    uint32_t process_id;
    const char *hostname; /* borrowed; '/', ':' and ',' are replaced */
};
/* Sizes may be MAILDIR_SIZE_UNKNOWN. Returns bytes written, and a NUL behind; -ENAMETOOLONG. */
ssize_t maildir_namer_next(struct maildir_namer *namer, int64_t wall_us, uint64_t bytes,
                           uint64_t virtual_bytes, char out[MAILDIR_FILE_NAME_MAX + 1]);

/* A mailbox in UTF-8 with '/' between its levels, to the name of its folder; "INBOX" alone is the Maildir itself:
 * empty. Returns bytes written, and a NUL behind. -EINVAL: a level is empty, has a dot or is not UTF-8 without
 * NUL; -ENAMETOOLONG. */
ssize_t maildir_folder_write(struct slice mailbox, char out[MAILDIR_FILE_NAME_MAX + 1]);
/* Back. -EINVAL: not the name of a folder. Returns bytes written, at most MAILDIR_FILE_NAME_MAX * 2. */
ssize_t maildir_folder_read(struct slice folder, char out[MAILDIR_FILE_NAME_MAX * 2]);
