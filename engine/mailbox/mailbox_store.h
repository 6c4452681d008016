/*
 * mailbox_store: the service's own store (queue/mailbox/mailstore.h) on a log: its folder, its disk, its part in the
 * round. mailbox.c opens it on the shard's thread where store.format is log.
 *
 *   PATH/0/NUMBER.segment          the log
 *   PATH/index, index-lock ...     the index, which is built again when it is missing
 *   PATH/search/                   full-text indexes (search_desk.h), the same
 *   PATH/1/..., index.1, search.1  those of the second shard, and so on; tmp and .outgoing, of Maildirs, lie with tmp.1
 *                                  and 1/.outgoing
 *
 * One process at a time: the folder is locked. One that holds Maildirs is refused, and one that has the mail of more
 * shards.
 *
 * Where store.format is maildir it is the state of Maildirs that are shared with others, and what is theirs alone, such as
 * scripts: PATH is then .tubepost in the folder that holds them. What the Maildirs tell is made again from them when it is lost.
 */
#pragma once
#include "engine/conf/conf.h"
#include "engine/disk/disk.h"
#include "engine/shard/shard.h"
#include "queue/log/log.h"
#include "queue/mailbox/maildir_files.h"
#include "queue/mailbox/mailstore.h"

struct mailbox_store;

/* Makes the folder of all shards' stores when it is missing, and locks it: a descriptor, to be closed when they are; or
 * -errno, which is logged. Before anything else is done there. */
int mailbox_store_claim(const struct mailboxd_conf *conf, struct logger *logger);
/* files: of Maildirs, borrowed until the store is closed; NULL: texts lie in the log. */
struct mailbox_store_files {
    const struct maildir_files *files;
    uint32_t process_id;
    bool driven; /* no threads */
};
/* Recovers: blocks. 0 or -errno; why is logged. conf: borrowed for the call. The folder has been claimed. */
int mailbox_store_open(struct mailbox_store **store, const struct mailboxd_conf *conf,
                       struct shard *shard, const struct mailbox_store_files *files);
struct mailstore *mailbox_store_texts(const struct mailbox_store *store);
const struct log_counters *mailbox_store_log_counters(const struct mailbox_store *store);
/* Of the log. */
uint64_t mailbox_store_id(const struct mailbox_store *store);
/* After the networks', so that what they brought in a round is on its way to the disk in the same. */
void mailbox_store_add_part(struct mailbox_store *store);
/* Nothing is begun any more. True when all that was given is on the disk. */
bool mailbox_store_rest(struct mailbox_store *store);
/* Waits until it has come to rest: waiters run. */
void mailbox_store_settle(struct mailbox_store *store);
/* It has come to rest, and nobody has a box, a draft or a waiter there. */
void mailbox_store_close(struct mailbox_store *store);

/* PATH. 0, -ENAMETOOLONG. */
#define MAILBOX_STORE_PATH_BYTES 4096u
int mailbox_store_folder(const struct mailboxd_conf *conf, char path[MAILBOX_STORE_PATH_BYTES]);
/* "PATH/NAME", or "PATH/NAME.N" of a further shard. 0, -ENAMETOOLONG. */
int mailbox_store_path(const struct mailboxd_conf *conf, const struct shard *shard,
                       const char *name, char path[MAILBOX_STORE_PATH_BYTES]);
