/*
 * maildir: messages into Maildirs, durable before they are reported, by one writer thread.
 *
 * The shard that receives a message hands over its text in pieces; the writer thread puts it into a
 * file of the staging folder, and at the commit syncs it, links it into new/ of each recipient and
 * syncs those folders. Commits that wait together are synced together. One file serves all
 * recipients of a message (hard links).
 *
 *   PATH/.staging/NAME        a message being received; left-overs of a crash are removed at start; of
 *                             further shards .staging.1 and so on
 *   PATH/USER/new/TIME.UNIQUE.HOST,S=BYTES,W=BYTES-WITH-CRLF
 *
 * A message is in new/ whole or not at all, after any crash. A crash can leave it with some of its
 * recipients; those were not answered. Nothing is followed through symbolic links, and nothing is
 * written outside PATH.
 *
 * All calls come from one thread; only `wake` is called by the writer thread. One process at a time
 * for a PATH, with a store for each of its shards: no user is of two of them. A store that is `driven` has no thread: maildir_write does the same when it is called.
 *
 * Source: https://cr.yp.to/proto/maildir.html; ",S=" and ",W=" as Dovecot writes them.
 */
#pragma once
#include "engine/core/list.h"
#include "engine/core/slice.h"
#include "engine/core/world.h"
#include "queue/mailbox/maildir_files.h"
#include "queue/mailbox/user_name.h"
#include <sys/types.h>

struct maildir;
struct maildir_draft; /* a message being received */

struct maildir_settings {
    const char *path;                  /* made when it is missing, its parent must exist */
    const char *hostname;              /* part of the file names */
    const struct world *world;         /* borrowed, as long as the store */
    const struct maildir_files *files; /* borrowed, as long as the store */
    bool driven;                       /* no writer thread: the simulator calls maildir_write */
    uint32_t process_id;               /* part of the file names */
    unsigned shard;                    /* whose staging folder it is */
    bool durable;                      /* false: for benchmarks */
    size_t pending_bytes_max;          /* text that waits for the writer, of all drafts */
    uint64_t quota_bytes;              /* of each user; 0: none */
    void (*wake)(void *owner); /* any thread: something has completed, call maildir_reap soon */
    void *owner;
};

struct maildir_waiter {
    struct list_node node;
    void (*done)(struct maildir_waiter *waiter);
};

/* A recipient of a commit. */
struct maildir_delivery {
    char user[USER_NAME_BYTES]; /* from user_name_of_mailbox */
    int status; /* 0: durable; -EDQUOT: over quota; -ENOSPC; -EIO or another errno: not stored */
};

struct maildir_commit {
    struct maildir_waiter waiter; /* done: every delivery has its status */
    struct maildir_delivery *deliveries;
    uint32_t count;
};

/* Blocks: makes folders, removes what a crash left. 0 or -errno; -EBUSY: another process has it. */
int maildir_open(struct maildir **store, const struct maildir_settings *settings);
/* Waits for the writer to finish what it has been given; no waiter is run. */
void maildir_close(struct maildir *store);

/* 0, -ENOMEM, or -ENOBUFS: so many are received already that memory for another might never come. Each has a chunk of
 * its own as long as it is received, since a few that share one can keep each other from ever ending. */
int maildir_begin(struct maildir *store, struct maildir_draft **draft);
/* The unique part of its file's name, for trace lines and logs. Borrowed until the draft is given. */
struct slice maildir_draft_id(const struct maildir_draft *draft);
/* So far, with lines ending in CRLF. */
uint64_t maildir_draft_bytes(const struct maildir_draft *draft);
/* Copies text in wire form (CRLF, dot-stuffed). Returns how many bytes were taken; fewer than
 * given: no more memory now, see maildir_when_room. Negative: a write failed (-ENOSPC, -EIO...),
 * abort. */
ssize_t maildir_append(struct maildir_draft *draft, struct slice wire);
/* The waiter runs once, from maildir_reap, when maildir_append may take more.
 * list_remove(&waiter->node) cancels. */
void maildir_when_room(struct maildir *store, struct maildir_waiter *waiter);
/* The draft is given. commit is borrowed until its waiter runs. */
void maildir_commit(struct maildir_draft *draft, struct maildir_commit *commit);
void maildir_abort(struct maildir_draft *draft);

/* Once a round: hands what was queued to the writer. */
void maildir_flush(struct maildir *store);
/* Runs the waiters of what has completed; returns how many completions there were. */
unsigned maildir_reap(struct maildir *store);
/* Of a store that is driven: the writer's work on all that was handed over. */
void maildir_write(struct maildir *store);
/* Is there such work? */
bool maildir_has_work(struct maildir *store);

struct maildir_counters {
    uint64_t messages, deliveries, refused_quota, failed, bytes, batches, syncs;
};
void maildir_read_counters(struct maildir *store, struct maildir_counters *counters);
