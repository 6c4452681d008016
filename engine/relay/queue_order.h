/*
 * queue_order: what an operator asks of the queue: a request of the control socket with its words read.
 *
 *   list       FILTER page=N cursor=SHARD.PLACE
 *   show       id=A from=RECIPIENT          one message, with its recipients from there on
 *   body       id=A from=BYTE               its text, a piece
 *   summary    FILTER by=domain|site|sender top=N
 *   hold, release, flush, delete, bounce    FILTER; bounce: text=WORDS
 *   reroute    FILTER to=NEXT-HOP
 *   suspend    site=S, sender=S, domain=D, recipient=R or pattern=RE, for=DURATION text=WORDS
 *   resume     the same, or all
 *   suspensions, jobs
 *   job, cancel  job=N
 *
 * FILTER as queue_filter has it. Pure: nothing here looks at the queue.
 */
#pragma once
#include "engine/control/control.h"
#include "engine/relay/queue_filter.h"

#define QUEUE_ORDER_TEXT_MAX 200u
#define QUEUE_PAGE_DEFAULT 200u
#define QUEUE_PAGE_MAX 1000u
#define QUEUE_TOP_DEFAULT 20u
#define QUEUE_TOP_MAX 1000u
#define QUEUE_FOR_DEFAULT_S 300u
#define QUEUE_FOR_MAX_S (366u * 86400u)

enum queue_by { QUEUE_BY_DOMAIN, QUEUE_BY_SITE, QUEUE_BY_SENDER };

struct queue_order {
    enum control_verb verb;
    struct queue_filter filter; /* owned */
    uint32_t shard;             /* list: of the cursor */
    uint64_t place;
    uint32_t page, top, job;
    uint64_t from;
    uint64_t for_s;
    uint8_t by;                          /* enum queue_by */
    char text[QUEUE_ORDER_TEXT_MAX + 1]; /* or the next hop */
};

/* 0, or -EINVAL: `problem` says what is wrong; nothing is owned then. */
int queue_order_read(struct queue_order *order, const struct control_request *request,
                     char problem[QUEUE_FILTER_PROBLEM_MAX]);
void queue_order_free(struct queue_order *order); /* what it owns */
