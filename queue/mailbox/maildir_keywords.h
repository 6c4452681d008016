/*
 * maildir_keywords: which letter in the names of a folder's files stands for which IMAP keyword: dovecot-keywords.
 *
 *   0 $Forwarded         letter a
 *   1 $Junk              letter b
 *
 * A folder has 26 at most; a keyword more is not kept (-ENOSPC), which IMAP allows to say in PERMANENTFLAGS. Names
 * differ regardless of case. A letter that has no line is called "unknown-N", as Dovecot calls it. Reading needs no
 * lock; writing needs that of dovecot-uidlist. Dovecot reads the file again only when its time in whole seconds has
 * changed, so it is moved on with every change. The scan calls this; one thread at a time.
 */
#pragma once
#include "engine/core/slice.h"
#include "queue/mailbox/maildir_files.h"
#include "queue/mailbox/maildir_name.h"

#define MAILDIR_KEYWORDS "dovecot-keywords"
#define MAILDIR_KEYWORD_BYTES_MAX 128 /* longer: -EINVAL, or no keyword where it is read */

struct maildir_keywords {
    char names[MAILDIR_KEYWORDS_MAX][MAILDIR_KEYWORD_BYTES_MAX + 1]; /* empty: none */
    int64_t modified_s;                                              /* of the file that was read */
    bool changed;                                                    /* not written yet */
};

/* Pure: the text of such a file. Lines that are none are passed over. */
void maildir_keywords_take(struct maildir_keywords *keywords, struct slice text);
/* 0: also when there is none. */
int maildir_keywords_read(struct maildir_keywords *keywords, const struct maildir_files *files,
                          int at);
/* Its number; -ENOENT. */
int maildir_keywords_find(const struct maildir_keywords *keywords, struct slice name);
/* The same, and adds it. -ENOSPC: 26 others are there; -EINVAL: no keyword. */
int maildir_keywords_add(struct maildir_keywords *keywords, struct slice name);
/* Gives names to the letters that lack one. */
void maildir_keywords_complete(struct maildir_keywords *keywords, uint32_t used);
/* Durable, if there is anything to write. */
int maildir_keywords_write(struct maildir_keywords *keywords, const struct maildir_files *files,
                           int at, int64_t wall_s);
