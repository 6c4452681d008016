/*
 * crew: threads that do what blocks for a shard, in lines: jobs of a line one after the other, those of different lines
 * at once.
 *
 * The mailbox store on Maildirs (mailstore_files.c) calls it from the shard's thread; `work` runs on one of the crew,
 * `done` on the shard's thread, from crew_reap. A crew without threads works in crew_reap itself (tests).
 */
#pragma once
#include "engine/core/list.h"
#include <stdbool.h>

struct crew;
struct crew_job {
    struct list_node node;              /* the crew's; needs no initialising */
    void (*work)(struct crew_job *job); /* the crew's thread; may block */
    void (*done)(struct crew_job *job); /* the shard's; may free the job and give others */
    struct crew_line *line;             /* the crew's */
};
struct crew_line { /* crew_line_open before its first use; it stays where it is while it has jobs */
    struct list_node jobs, node;
    bool busy;
};

/* wake: any thread: call crew_reap soon. 0, -ENOMEM, -EAGAIN. */
int crew_open(struct crew **crew, unsigned thread_count, void (*wake)(void *owner), void *owner);
/* Waits for all that was given; `done` runs for none of it. NULL is fine. */
void crew_close(struct crew *crew);
void crew_line_open(struct crew_line *line);
void crew_give(struct crew *crew, struct crew_line *line, struct crew_job *job);
/* Returns how many jobs have ended. */
unsigned crew_reap(struct crew *crew);
/* Nothing is given that has not been reaped. */
bool crew_is_idle(const struct crew *crew);
