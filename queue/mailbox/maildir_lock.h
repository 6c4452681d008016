/*
 * maildir_lock: the lock file beside a file of Dovecot's, by Dovecot's rules.
 *
 *   dovecot-uidlist.lock        made so that it cannot exist already; holds "PID:HOST"; removed at the end
 *
 * Whoever assigns UIDs, renames messages or writes keywords holds dovecot-uidlist.lock; so do Dovecot's processes.
 * A lock is void when it names a process of this host that does not live, or when neither it nor the file that it
 * protects has changed for 120 seconds. One that names us is void only when it is older than this process: else
 * another of our threads has it. A void lock is taken aside first and looked at again, so that of two who find it
 * void, the second does not remove the first one's.
 *
 * The scan, keywords and subscriptions call this. Blocks; a holder shorter than 120 s needs no touch.
 */
#pragma once
#include "engine/core/world.h"
#include "queue/mailbox/maildir_files.h"
#include <stdatomic.h>

#define MAILDIR_LOCK_STALE_S 120
#define MAILDIR_LOCK_PATIENCE_S 122 /* a lock left by a crash elsewhere is outlived */

/* Who we are. Borrowed, as all in it, by what works on Maildirs. */
struct maildir_owner {
    const struct maildir_files *files;
    const struct world *world;
    const char *hostname;
    uint32_t process_id;
    int64_t started_wall_s;     /* of this process */
    const atomic_bool *hurries; /* true: it ends, who waits for a lock gives up; NULL: never */
};

/* For names of files: the second of the wall clock, and any microseconds, so that a process of the same number, or
 * another thread, does not make the same name. */
static inline int64_t maildir_owner_now_us(const struct maildir_owner *owner)
{
    int64_t fraction_us = (int64_t)(world_now_ns(owner->world) / 1000 % 1000000);
    return world_wall_s(owner->world) * 1000000 + fraction_us;
}

struct maildir_lock {
    const struct maildir_owner *owner;
    int at;
    const char *protected; /* borrowed; the lock has ".lock" behind it */
    int64_t stale_s;
    bool held;
    uint64_t inode, device; /* of the held lock */
    struct maildir_file_facts seen, seen_protected;
    int64_t changed_wall_s; /* when either was last seen to change; 0: not looked at yet */
};

/* 0: held. -EAGAIN: another has it; again later, with the same structure, which remembers what it saw. */
int maildir_lock_try(struct maildir_lock *lock);
/* Tries until patience_s has passed, or the owner hurries: -ETIMEDOUT. Not above 0: once. */
int maildir_lock_take(struct maildir_lock *lock, int64_t patience_s);
/* Is it still the one that was made? Others may have found it void. */
bool maildir_lock_holds(const struct maildir_lock *lock);
/* Removes it if it is ours. */
void maildir_lock_release(struct maildir_lock *lock);
