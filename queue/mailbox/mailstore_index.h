/*
 * mailstore_index: the state of a store as rows by key, in LMDB and, the newest ones, in memory.
 *
 * What is put is read at once. Now and then all rows that were put are written together, by a thread, in one
 * transaction that is synced before it counts: so the file is always the state of one moment, after a loss of power
 * too. A file that is damaged is told by its errors, and made anew (index_renew).
 *
 * The file is mapped; of what was read of it at most some 16 MiB stay in the process's memory, and what lies beside it.
 *
 * Who calls: the store, on one thread. Keys have at most 511 bytes. An index that has failed (-EIO) goes on failing.
 */
#pragma once
#include "engine/core/slice.h"
#include "queue/mailbox/mailstore.h"

struct index;

/* 0 or -errno. damaged: it cannot be read as it is; renew it. */
int index_open(struct index **index, const struct mailstore_settings *settings, bool *damaged);
/* Throws away all rows, in memory and in the file. 0 or -errno. */
int index_renew(struct index *index);
/* Waits for the thread; rows in memory that are not written are lost. */
void index_close(struct index *index);

const char *index_path(const struct index *index); /* as long as it is open */

/* 0, -ENOENT, -EIO. The value is valid until index_put, index_remove, index_round. */
int index_get(struct index *index, struct slice key, struct slice *value);
int index_put(struct index *index, struct slice key, struct slice value); /* 0, -ENOMEM */
int index_remove(struct index *index, struct slice key);                  /* 0, -ENOMEM */

/* Rows whose keys begin with `prefix`, in order, from the key `from` on (empty: all). A walk; nothing may be put
 * before it ends: index_walk_end. */
struct index_walk {
    struct index *index;
    void *cursor, *rows[2];
    struct slice prefix;
    struct slice key, value; /* of the row where it stands */
    struct slice disk_key, disk_value;
    bool disk;
    int status;
};
/* True: it stands at a row. False: there is none (more); status: 0 or -EIO. */
bool index_walk_begin(struct index *index, struct index_walk *walk, struct slice prefix,
                      struct slice from);
bool index_walk_next(struct index_walk *walk);
void index_walk_end(struct index_walk *walk);

uint32_t index_waiting(const struct index *index); /* rows put and not given to be written */
size_t index_waiting_bytes(const struct index *index);
/* All rows, also those that were written and have not left yet. */
size_t index_memory_bytes(const struct index *index);
bool index_is_writing(const struct index *index);
/* All rows put so far are to be written. Not while it writes. 0 or -ENOMEM. */
int index_write(struct index *index);
/* 1: what was given by index_write is in the file since this call; 0: nothing new; -errno: it failed, and is
 * tried again by the next index_write or index_round. */
int index_round(struct index *index);
/* Waits until nothing is being written. As index_round. */
int index_wait(struct index *index);

/* The state that the file has now, for another thread: it may get and walk, nothing is put. As long as there is one the
 * file keeps all that it says, and grows (index_is_cramped). Begun, and ended, by the index's thread, or when that is
 * known to do nothing. 0, -ENOMEM, -EIO. */
int index_glance_begin(struct index *index, struct index **glance);
void index_glance_end(struct index *glance);
/* Somebody glances at it for too long: what is to be written had no room, and the file gets no more addresses meanwhile;
 * or it has grown twofold, and by 1 GiB (of 64 GiB of addresses), which it never gives back. */
bool index_is_cramped(const struct index *index);
