/*
 * bounce_private: what the two halves of a report share: bounce.c (who is told, and what happens then) and
 * bounce_report.c (writing it). Nobody else includes it.
 */
#pragma once
#include "engine/relay/bounce.h"
#include "engine/relay/relay_maps.h"
#include "proto/dsn/cut.h"

/*
 *       ┌────────────── not now: from the beginning, later ──────────────┐
 *       ▼                                                                │
 *  RESOLVES ──► MEASURES ──► BEGINS ──header only──────────────────► COMMITS ──► durable
 *                               └──all of the original──► COPIES ──► end ─►┘
 */
enum bounce_phase {
    BOUNCE_RESOLVES, /* the sender may be an alias of ours: the owner of a list is */
    BOUNCE_MEASURES, /* is there 8-bit text in the original? Only where all of it may come back. Or where to cut */
    BOUNCE_BEGINS,
    BOUNCE_COPIES,  /* the original into the report, or the report that is cut, from `offset` on */
    BOUNCE_COMMITS, /* `durable` runs, whatever happens */
};

struct bounce {
    struct list_node node; /* in relay->bounces */
    struct relay *relay;
    struct message *message; /* reported on; held */
    struct message *report;  /* while it is being committed */
    char *postmaster;        /* of a double bounce: whom to tell; else NULL */
    struct spool_draft *draft;
    struct rewrite_job whom;  /* its sender, or the postmaster */
    bool map_logged;          /* that a map does not say who that is; once is enough */
    struct spool_fetch fetch; /* of the original */
    struct spool_waiter durable, room_came;
    struct timer retry;
    enum bounce_phase phase;
    bool fetching, waits_for_room, abandoned;
    bool headers_only; /* the original cannot be read to its end, or is too large */
    bool is_8bit;      /* some was found in it */
    bool cuts; /* `message` is a report of ours: it goes again with its original's header alone */
    struct dsn_cut cut;
    uint64_t offset;
    int64_t now_wall_s, until_wall_s; /* of a delay: until then it is tried */
    uint8_t random[16];               /* drawn once: a report that is tried again is the same */
    uint32_t count, room;
    struct relay_outcome outcomes[];
};

/* Goes on with the report; what cannot be done now is done later. bounce->durable runs at the end. */
void bounce_report_write(struct bounce *bounce);
/* The disk did not take it: later, from the beginning. */
void bounce_report_again(struct bounce *bounce);
/* The maps are others from now on: nothing more is asked of the old ones. */
void bounce_report_reload(struct bounce *bounce);
/* The report that it cuts cannot be read: it is lost, as any that nobody takes. Frees the bounce. */
void bounce_cut_failed(struct bounce *bounce);
/* Gives up what is under way: the draft, waiting for the disk. Not while it is committing. */
void bounce_report_leave(struct bounce *bounce);
