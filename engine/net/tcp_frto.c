/*
 * F-RTO: was a timeout right? Without timestamps an acknowledgement does not tell which copy has
 * arrived. So after a timeout, and the acknowledgement of what was sent again, two new segments leave
 * before anything else that may be lost. If the next acknowledgement tells only of bytes that left
 * before the timeout and not since, they were late and not lost.
 *
 * Source: RFC 5682 §3.1, whose steps are named below.
 */
#include "engine/net/stack_private.h"

#define NEW_SEGMENTS_MAX 2u

/* Step 1. Timestamps tell with the first acknowledgement already: tcp_undo_by_timestamp. */
void tcp_frto_begin(struct tcp_conn *conn)
{
    conn->rack->frto = conn->timestamps ? TCP_FRTO_NONE : TCP_FRTO_HEAD;
    conn->rack->frto_new = 0;
    conn->rack->lost_arrived = false;
}

void tcp_frto_sent(struct tcp_rack *rack, bool again)
{
    if (rack->frto == TCP_FRTO_NEW && !again && ++rack->frto_new == NEW_SEGMENTS_MAX) {
        rack->frto = TCP_FRTO_WAIT;
    }
}

void tcp_frto_nothing_new(struct tcp_rack *rack)
{
    rack->frto = rack->frto_new > 0 ? TCP_FRTO_WAIT : TCP_FRTO_NONE;
}

/* Step 3a: it tells of what was sent after the timeout, so that what lies before is missing. */
static bool tells_of_new(const struct tcp_conn *conn, const struct tcp_segment *segment)
{
    bool any = seq_before(conn->recover, segment->ack);
    for (unsigned i = 0; i < segment->sack_count; i++) {
        any |= seq_before(conn->recover, segment->sacks[i].end);
    }
    return any;
}

bool tcp_frto_acked(struct tcp_conn *conn, const struct tcp_segment *segment, bool advanced)
{
    struct tcp_rack *rack = conn->rack;
    bool arrived = rack->lost_arrived;
    rack->lost_arrived = false;
    if (!advanced && segment->sack_count == 0) {
        return false; /* neither news nor a duplicate */
    }
    switch ((enum tcp_frto)rack->frto) {
    case TCP_FRTO_NONE:
        return false;
    case TCP_FRTO_HEAD: /* step 2: the second copy may have filled a gap, so it proves nothing */
        rack->frto = advanced ? TCP_FRTO_NEW : TCP_FRTO_HEAD;
        return false;
    case TCP_FRTO_NEW:
    case TCP_FRTO_WAIT:
        rack->frto = TCP_FRTO_NONE;
        return arrived && rack->undo.possible && !tells_of_new(conn, segment);
    }
    return false;
}
