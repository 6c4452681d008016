/*
 * disk: durable or not, nothing between.
 *
 * A completion says what is true of the device, not of a cache. Completions come in any order, from
 * disk_reap (or the shard's io_uring), never from inside the call. A short read or write is an error
 * (-EIO). After an error nothing is known about those blocks, and nothing is retried here.
 *
 * Offsets, sizes and memory of write and read are multiples of DISK_BLOCK_BYTES.
 * Names are relative to the disk's folder, may hold one level of folder ("0/000001.segment"),
 * never "..". Folders are made by prepare.
 */
#pragma once
#include "engine/core/list.h"
#include "engine/core/slice.h"
#include <errno.h>

#define DISK_BLOCK_BYTES 4096u
#define DISK_DURABLE 1u /* the bytes survive power loss when disk_done runs */

struct disk_done {
    void (*run)(struct disk_done *done, int result); /* >= 0, or -errno */
    struct list_node node;                           /* the disk's while under way */
};

struct disk_space { /* of the file system */
    uint64_t total_bytes;
    uint64_t free_bytes; /* for us */
    uint64_t free_files; /* so many more may be made */
};

struct disk;
struct disk_ops {
    int (*write)(struct disk *, int file, const void *block, size_t bytes, uint64_t offset,
                 uint32_t flags, struct disk_done *);
    int (*read)(struct disk *, int file, void *block, size_t bytes, uint64_t offset,
                struct disk_done *);
    /* Made, full of zeros on the device, durable with its folder; result: its file number. -ENOSPC leaves nothing behind. */
    int (*prepare)(struct disk *, const char *name, uint64_t bytes, struct disk_done *);
    int (*remove)(struct disk *, const char *name, struct disk_done *); /* durable when done */
    int (*space)(struct disk *, struct disk_space *space,
                 struct disk_done *); /* filled when done */
    /* At start only; these block. open syncs file and folder before answering, so that what is read is on the device. */
    int (*open)(struct disk *, const char *name, uint64_t *bytes); /* file number or -errno */
    int (*list)(struct disk *, const char *folder, void (*visit)(void *owner, const char *name),
                void *owner);
    void (*forget)(struct disk *, int file); /* closes it */
    /* Memory that writes will come from, pinned where that helps; at most once. */
    int (*pin)(struct disk *, void *memory, size_t bytes);
    unsigned (*reap)(struct disk *); /* runs what has completed; once a round */
    void (*submit)(struct disk *);   /* hands over what was queued; once a round */
    int (*arm)(struct disk *);       /* as shard_part.arm */
    void (*close)(struct disk *);
};
struct disk {
    const struct disk_ops *ops;
    bool direct; /* O_DIRECT works here */
};

/* Production. `folder` must exist. Both report whether O_DIRECT works in disk->direct; neither logs. */
struct uring;
int disk_open_uring(struct disk **disk, struct uring *uring, const char *folder);
int disk_open_thread(struct disk **disk,
                     const char *folder); /* pwritev2(RWF_DSYNC) on a writer thread */

/* A disk in memory that lies, for tests and the simulator: engine/disk/disk_fault.h */
