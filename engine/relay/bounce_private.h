/*
 * bounce_private: what the two halves of a report share: bounce.c (who is told, and what happens then) and
 * bounce_report.c (writing it). Nobody else includes it.
 */
#pragma once
#include "engine/relay/bounce.h"

/*
 *            ┌── not now: from the beginning, later ──┐
 *            ▼                                        │
 *  begin ──► header ──► (all of the original ──► end) ──► COMMITTING ──► durable
 */
struct bounce {
    struct list_node node; /* in relay->bounces */
    struct relay *relay;
    struct message *message; /* reported on; held */
    struct message *report;  /* while it is being committed */
    char *postmaster;        /* of a double bounce: whom to tell; else NULL */
    struct spool_draft *draft;
    struct spool_fetch fetch; /* of the original */
    struct spool_waiter durable, room;
    struct timer retry;
    bool fetching, waits_for_room, committing, abandoned;
    bool headers_only; /* the original could not be read to its end */
    bool copying;      /* it is being written into the report, from `offset` on */
    uint64_t offset;
    int64_t now_wall_s, until_wall_s; /* of a delay: until then it is tried */
    uint8_t random[16];               /* drawn once: a report that is tried again is the same */
    uint32_t count;
    struct relay_outcome outcomes[];
};

/* Writes the report and commits it; what cannot be done now is done later. bounce->durable runs at the end. */
void bounce_report_write(struct bounce *bounce);
/* The disk did not take it: later, from the beginning. */
void bounce_report_again(struct bounce *bounce);
/* Gives up what is under way: the draft, waiting for the disk. Not while it is committing. */
void bounce_report_leave(struct bounce *bounce);
