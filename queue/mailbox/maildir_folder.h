/*
 * maildir_folder: the folders of users, as the writer thread of the Maildir store sees them.
 *
 * Makes them at the first delivery, opens them without following symbolic links, counts what a user
 * has where there is a quota, and syncs at once those that a batch has touched. Blocks; one thread.
 */
#pragma once
#include "queue/mailbox/maildir_files.h"

struct folders;
struct folder; /* of one user; stays valid until folders_settle */

/* files and root_fd are borrowed. 0 or -ENOMEM. */
int folders_open(struct folders **folders, const struct maildir_files *files, int root_fd,
                 bool durable, uint64_t quota_bytes);
void folders_close(struct folders *folders); /* NULL is fine */

/* The user's folder, made when it is missing. 0 or -errno. */
int folders_find(struct folders *folders, const char *user, struct folder **folder);
/* Descriptor of new/. */
int folder_new_fd(const struct folder *folder);
/* Would `bytes` more be over the quota? 0 or -EDQUOT. */
int folder_check_quota(struct folders *folders, struct folder *folder, uint64_t bytes);
/* A message was put there. */
void folder_added(struct folder *folder, uint64_t bytes);

/* Makes durable what was put into new/ since the last time, many at once by syncing their whole file
 * system where that tells of failures; then folder_status tells which have failed. Returns how many
 * syncs were made. */
unsigned folders_sync(struct folders *folders);
int folder_status(const struct folder *folder);
/* The batch is over: closes descriptors. */
void folders_settle(struct folders *folders);
/* How many are open. */
unsigned folders_touched(const struct folders *folders);
