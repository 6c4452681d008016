/*
 * files: a file system in memory that keeps at a power loss what POSIX promises, and of the rest what
 * chance leaves: see queue/mailbox/maildir_files.h.
 *
 * The text of a file that was not synced may be shorter, or have holes of zeros; after a sync of it that
 * has failed no later one helps. A name that was made or removed in a folder that was not synced may be
 * there or not, whatever became of other names. A rename is a name made and a name removed.
 */
#pragma once
#include "engine/core/slice.h"
#include "queue/mailbox/maildir_files.h"

struct sim_files;

struct sim_files_settings {
    uint32_t errors;         /* of 10,000 operations: -EIO */
    uint32_t sync_errors;    /* of 10,000 syncs */
    uint32_t short_writes;   /* of 100: in part only */
    uint64_t capacity_bytes; /* -ENOSPC beyond; 0: no limit */
    bool no_rename;          /* it cannot rename without replacing */
};

struct sim_files *sim_files_open(uint64_t seed);
void sim_files_close(struct sim_files *files);
const struct maildir_files *sim_files_table(struct sim_files *files);
void sim_files_set(struct sim_files *files, const struct sim_files_settings *settings);

/* After so many more changes nothing changes any more, and whatever is tried fails. */
void sim_files_stop_after(struct sim_files *files, uint32_t changes);
bool sim_files_stopped(const struct sim_files *files);

enum sim_files_end { SIM_FILES_KILLED, SIM_FILES_POWER_LOST };
/* Who had it open is gone. It works again, with what was there when it stopped, or what is left of it. */
void sim_files_crash(struct sim_files *files, enum sim_files_end end);

/* What is in a folder ("" or "u1/new"), as it is now. False: there is no such folder. */
bool sim_files_each(struct sim_files *files, const char *folder,
                    void (*visit)(void *owner, const char *name, struct slice text), void *owner);
unsigned sim_files_open_count(const struct sim_files *files);
/* Removals that have failed since the last crash, while it did not stop. */
unsigned sim_files_unremoved(const struct sim_files *files);
