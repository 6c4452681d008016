/*
 * mailstore_files: what the files of the mailbox store share that work on Maildirs. Nobody else includes it.
 *
 * A mirror follows the Maildir of one user who is there. What is to be done in it is an op; a mirror has one at work:
 *
 *   queued ──► told, what it needs ──► at work, on a helper's thread ──► its news are changes, one after the other ──► ends
 *
 * so that what the Maildir tells comes into the log in the order in which it was found.
 */
#pragma once
#include "queue/mailbox/crew.h"
#include "queue/mailbox/mailstore_private.h"
#include "queue/mailbox/maildir_home.h"

#define FILES_STAGED_BYTES_MAX (16u << 20) /* of messages that come, in memory */
#define STAGED_PIECE_BYTES 32768u
#define STAGED_NAME_BYTES 32u

enum op_kind {
    OP_LOOK,
    OP_PUT,
    OP_COPY,
    OP_CREATE,
    OP_DELETE,
    OP_RENAME,
    OP_SUBSCRIBE,
    OP_RESTORE,
    OP_INBOX
};

struct op_writes { /* of a mailbox, for the Maildir */
    struct op_writes *next;
    struct home_writes what;
    char mailbox[MAILSTORE_NAME_BYTES_MAX + 1];
    struct home_write *writes;
    char (*names)[MAILDIR_KEYWORD_BYTES_MAX + 1];
};

struct op {
    struct mailstore_asked asked; /* first */
    struct list_node node;
    struct mirror *mirror;
    struct crew_job job;
    enum op_kind kind;
    struct op *rides; /* OP_LOOK: that one's look is this one's too */
    /* What it is about. */
    char mailbox[MAILSTORE_NAME_BYTES_MAX + 1], to[MAILSTORE_NAME_BYTES_MAX + 1];
    bool
        flag; /* a copy moves; a name is subscribed; created with a subscription; renamed without a mailbox */
    uint64_t box; /* that is deleted, renamed, copied from; whose message is replaced */
    uint32_t special_use, uidvalidity;
    struct staged *staged;
    struct home_message message;
    char (*keywords)[MAILDIR_KEYWORD_BYTES_MAX + 1];
    struct home_copy copy;
    char *copy_user;
    struct home_restore restore;
    struct mailstore_uids *uids; /* that are to be restored */
    uint32_t uid_count;
    int refused; /* why nothing is done */
    /* What comes to be more, and may be at most: of the user, when it is its turn. */
    struct mailstore_totals adds;
    uint64_t quota_bytes, quota_messages;
    unsigned looks;                 /* that it has waited for, to know what there is */
    bool counted;                   /* adds, in user->coming */
    struct op *judges;              /* OP_LOOK: who waits for it so; next in line */
    bool leaves_new;                /* OP_LOOK: nobody reads what is there */
    struct mailstore_totals covers; /* OP_LOOK: of what has landed, what it finds */
    uint64_t text;                  /* the id that the text is to have; 0: any */
    /* What the Maildir is told before. */
    bool forgets, rests;
    bool tidies; /* what is kept after expunge: the ids of texts, ascending */
    uint64_t *kept;
    size_t kept_count;
    unsigned asks; /* again: something is to be told first */
    struct home_stale stale;
    struct home_told *told;
    struct op_writes *writes;
    /* What it has answered. */
    int status;
    struct home_news *news;
    size_t said;      /* items of the first news that are changes by now */
    char *subscribed; /* names, each with NUL */
    size_t subscribed_size;
    const char **listed; /* the same in order, to find one: there can be thousands */
    size_t listed_count;
    uint32_t uid;
    unsigned named; /* keywords that were seen to, and the change for one */
    struct mailstore_flags naming;
    struct mailstore_waiter durable; /* of the change that is on its way */
    struct mailstore_expunge expunge;
    bool ending; /* that change is the last one */
};

struct mirror {
    struct list_node node; /* of files->mirrors */
    struct files *files;
    struct user *user; /* held */
    struct home *home; /* the threads', while an op is at work */
    struct crew_line line;
    struct list_node ops;
    struct op *active;
    bool told;   /* the home knows all that the store has */
    bool rests;  /* it did, and says of which mailboxes it is to be told again */
    bool writes; /* there are rows to be written */
    bool tidies; /* something kept after expunge may be there that is not kept any more */
    bool poked;
    struct list_node poked_node; /* of files->poked, when it may be looked at */
    uint64_t looked_s, used_s;
    struct mailstore_totals comers; /* that mailstore_came says nothing of yet */
    struct mailstore_totals landed; /* that are there, since the last look began */
    int trouble;                    /* that was told of */
    uint32_t readers;               /* jobs that read texts */
};

struct staged { /* a text that becomes a file */
    struct files *files;
    struct crew_line line;
    char name[STAGED_NAME_BYTES];
    struct staged_piece *open; /* being filled */
    uint32_t pieces;           /* at work */
    bool short_of_memory;
    struct mirror *mirror; /* of who waits for the last piece */
    struct crew_job end;
    /* The threads'. */
    int file; /* -1: none yet */
    int error;
    bool carriage,
        doubled; /* the byte before is a CR that is not written yet; one more is before that */
    uint64_t bytes, virtual_bytes;
    uint8_t last; /* that was written */
};

struct files {
    struct mailstore *store;
    struct mailstore_maildirs settings;
    struct crew *crew;
    int staging;
    struct list_node mirrors, poked;
    uint32_t mirror_count;
    uint64_t polled_s;
    size_t staged_bytes;
    uint32_t staged_count;
    struct list_node texts; /* pieces of files that were read, least recently used first */
    uint32_t text_count;
    struct list_node stalled;  /* ops whose next change found no room */
    struct list_node delivers; /* struct deliver */
};

/* mailstore_files.c. The folder that holds the user's Maildir. */
const char *files_path(const struct files *files, const char *user);
/* NULL: memory is short. */
struct mirror *mirror_get(struct user *user);
/* It is looked at as soon as it has nothing else to do. */
void mirror_poke(struct mirror *mirror);
void mirror_free_again(struct mirror *mirror); /* it has one thing less to do */
struct op *op_new(struct user *user, enum op_kind kind, struct mailstore_waiter *waiter,
                  void *result);
void op_queue(struct op *op);
void op_end(struct op *op, int status);
void mirror_next(struct mirror *mirror); /* begins the next op, if it can be */
void op_free(struct op *op);
/* The quota that it has; past: what is counted besides, which a look may have found already. */
bool op_is_over(const struct op *op, struct mailstore_totals past);

/* mailstore_files_end.c */
void op_go_on(struct op *op); /* after its work, or when its next change may find room */

/* mailstore_mirror.c */
/* What the op needs to know of the store, on the shard. 0, -ENOMEM, -EIO. */
int op_prepare(struct op *op);
void op_work(struct crew_job *job); /* a thread's */
/* The next change of its news: 0; -EALREADY: there is none left; -EAGAIN; -errno. */
int op_say(struct op *op);
void op_writes_free(struct op_writes *writes);

/* mailstore_files_ask.c */
void op_name_keep(char out[MAILSTORE_NAME_BYTES_MAX + 1], struct slice name); /* canonical */
/* What of the box is to be copied, and its bytes besides. 0, -ENOMEM. */
int op_copy_fill(struct op *op, const struct box *box, const struct mailstore_copy *copy,
                 uint64_t *bytes);

/* mailstore_files_keywords.c: the next change for what the Maildir had no letter for; as op_say. */
int op_keywords_say(struct op *op);

/* mailstore_files_inbox.c */
int inbox_work(struct op *op); /* a thread's */
int inbox_end(struct op *op);  /* as op_finish */

/* mailstore_files_kept.c: 0, -ENOENT, -ENOMEM, -EIO. */
int op_tidy_prepare(struct op *op);
int op_restore_prepare(struct op *op);
int restore_end(struct op *op); /* as op_finish */
void op_kept_free(struct op *op);
/* mailstore_files_deliver.c */
void delivers_close(struct files *files); /* those that are left, untold */

/* mailstore_staged.c */
/* Nothing more comes. When `pieces` is 0 all of it is in the file, and the mirror (NULL: none) goes on. */
void staged_finish(struct staged *staged, struct mirror *mirror);
void staged_free(struct staged *staged); /* whose file has gone or become a message */
