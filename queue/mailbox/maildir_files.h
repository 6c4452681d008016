/*
 * maildir_files: the files and folders that the Maildir store works on, as it is handed them.
 *
 * Production's are the system's; the simulator's lie in memory and lose at a crash what a device may
 * lose. Only the writer calls these, and maildir_open and maildir_close while there is none. They block.
 *
 * Files and folders that are open are numbers >= 0. Names are relative to an open folder and never go
 * through a symbolic link. What fails is a negative errno. What survives a power loss: the text of a file
 * that was synced, the names in a folder that was synced; of anything else any part.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct maildir_file_facts {
    uint64_t bytes, inode, device, links;
    int64_t modified_s, changed_s;
};

struct maildir_files {
    void *self;
    /* The folder that everything is below; made when it is missing, its parent must exist. */
    int (*open_root)(void *self, const char *path);
    int (*open_folder)(void *self, int at, const char *name);
    int (*make_folder)(void *self, int at, const char *name); /* -EEXIST */
    int (*lock)(void *self, int folder);                      /* until it is closed; -EBUSY */
    /* Every name but "." and ".."; one may be removed when it is visited. */
    int (*list)(void *self, int folder, void (*visit)(void *owner, const char *name), void *owner);
    int (*make_file)(void *self, int at, const char *name); /* to be written; -EEXIST */
    ssize_t (*write)(void *self, int file, const void *bytes,
                     size_t size);                                      /* > 0: so many of them */
    int (*size)(void *self, int at, const char *name, uint64_t *bytes); /* -EINVAL: not a file */
    int (*link)(void *self, int from_at, const char *from, int to_at, const char *to);
    /* -EEXIST: replaces nothing. -EINVAL, -ENOSYS: this file system cannot do so. */
    int (*rename)(void *self, int from_at, const char *from, int to_at, const char *to);
    int (*remove)(void *self, int at, const char *name);
    /* What readers of Maildirs need beyond that; a store that only delivers never calls these. */
    int (*open_file)(void *self, int at, const char *name); /* to be read */
    int (*open_end)(void *self, int at, const char *name);  /* each write goes to the end */
    ssize_t (*read)(void *self, int file, uint64_t from, void *bytes, size_t size); /* 0: the end */
    int (*facts)(void *self, int at, const char *name, struct maildir_file_facts *facts);
    int (*facts_of_open)(void *self, int file, struct maildir_file_facts *facts);
    int (*replace)(void *self, int at, const char *from, const char *to); /* in one step */
    int (*set_modified)(void *self, int at, const char *name, int64_t modified_s);
    int (*remove_folder)(void *self, int at, const char *name); /* -ENOTEMPTY */
    bool (*process_lives)(void *self, uint32_t process_id);     /* on this machine */
    void (*pause)(void *self, uint64_t duration_ns);
    int (*sync)(void *self, int number);
    void (*sync_begin)(void *self, int file); /* a hint: it will be synced soon */
    /* All of the file system that the folder is on. */
    int (*sync_all)(void *self, int folder);
    bool sync_all_tells; /* sync_all reports writes that have failed before; else it is not used */
    void (*close)(void *self, int number);
};

/* So many files or folders are cheaper to sync by one sync_all (measured: 50 files 2.4 ms, by fsync each 12 to 32 ms; 1 file 1.4
 * and 0.4). */
#define MAILDIR_SYNC_ALL_AT_LEAST 8

/* The system's. For main and for tests of the store; stateless. */
void maildir_system_files(struct maildir_files *files);
