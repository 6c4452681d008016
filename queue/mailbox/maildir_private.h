/*
 * maildir_private: what the two sides of the Maildir store share: the caller's (maildir.c) and the
 * writer thread's (maildir_writer.c, maildir_folder.c). Nobody else includes this.
 */
#pragma once
#include "queue/mailbox/maildir.h"
#include "queue/mailbox/unwire.h"
#include <pthread.h>

#define MAILDIR_CHUNK_BYTES 32768
#define MAILDIR_STAGING ".staging"
#define MAILDIR_NAME_BYTES 192

enum request_kind { REQUEST_WRITE, REQUEST_COMMIT, REQUEST_ABORT };

/* Goes to the writer and comes back when it is done. */
struct request {
    struct list_node node;
    enum request_kind kind;
    struct maildir_draft *draft;
    int status;
};

struct chunk {
    struct request request; /* first */
    size_t size;
    uint8_t bytes[MAILDIR_CHUNK_BYTES];
};

struct maildir_draft {
    struct request end; /* first; commit or abort */
    struct maildir *store;
    /* The caller's. */
    struct unwire unwire;
    struct chunk *open; /* being filled; it always has room for one more byte */
    int failed;         /* of an earlier write, as the writer has told */
    /* Handed over with the commit. */
    struct maildir_commit *commit;
    char name[MAILDIR_NAME_BYTES]; /* in staging; the final one has the sizes behind it */
    /* The writer's. */
    int fd; /* -1: not made yet */
    int error;
    uint64_t bytes, virtual_bytes;
    bool renamed; /* the staging file has become the first recipient's */
};

/* The writer's folders of users; see maildir_folder.h. */
struct folders;

struct maildir {
    struct maildir_settings settings;
    char *hostname;
    const struct maildir_files *files;
    int root_fd, staging_fd;

    /* The caller's. */
    struct list_node spare; /* chunks */
    size_t chunk_count, chunk_count_max;
    size_t draft_count;        /* that are received now, none without a chunk to hope for */
    struct list_node outgoing; /* requests not handed over yet */
    struct list_node waiting;  /* for room */
    uint32_t sequence;

    /* Shared, under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct list_node requests;
    struct list_node answers;
    struct maildir_counters counters;
    bool stopping;

    /* The writer's. */
    pthread_t writer;
    struct folders *folders;
};

/* The writer thread. */
void *maildir_writer_run(void *store);
/* Takes off what waits and works on it; returns false when nothing did. The thread's, or its caller's where
 * there is none. */
bool maildir_writer_round(struct maildir *store);
