/*
 * Explicit congestion notification (RFC 3168): a router marks instead of dropping, the receiver
 * says so until it is told that the sender has slowed down.
 *
 * conn->ecn: both ends have agreed; marks are told and obeyed. conn->ect: our data may be marked.
 * The second is given up alone, when the path or the peer seems not to keep to the rules.
 */
#include "engine/net/stack_private.h"
#include "engine/net/tcp_frame.h"

#define MARKED_WINDOWS_MAX 10u /* in a row: not congestion, but somebody who marks everything */

bool tcp_ecn_syn_asks(const struct stack *stack, const struct tcp_segment *syn)
{
    const uint8_t both = TCP_ECE | TCP_CWR;
    /* A SYN is never marked (§6.1.1): who does it rewrites the field for all packets. */
    return stack->ecn != STACK_ECN_OFF && (syn->flags & both) == both && syn->ecn == TCP_NOT_ECT;
}

uint8_t tcp_ecn_syn_flags(struct tcp_conn *conn)
{
    if (conn->state == TCP_SYN_RECEIVED) {
        return conn->ecn ? TCP_ECE : 0;
    }
    /* A SYN that was lost may have been lost for these flags (§6.1.1.1). */
    conn->ecn_asked |= conn->backoff == 0 && conn->stack->ecn == STACK_ECN_ASK;
    return conn->ecn_asked && conn->backoff == 0 ? TCP_ECE | TCP_CWR : 0;
}

/* §6.1.1: who has sent a SYN without must not have his data marked, but obeys. */
void tcp_ecn_syn_answered(const struct tcp_conn *conn, const struct tcp_segment *answer,
                          struct tcp_agreed *agreed)
{
    if ((answer->flags & TCP_ACK) == 0) {
        agreed->ecn = tcp_ecn_syn_asks(conn->stack, answer);
    } else {
        agreed->ecn = conn->ecn_asked && (answer->flags & (TCP_ECE | TCP_CWR)) == TCP_ECE;
    }
    agreed->ect =
        agreed->ecn && conn->ecn_asked && conn->backoff == 0 && answer->ecn == TCP_NOT_ECT;
}

void tcp_ecn_open(struct tcp_conn *conn, const struct tcp_agreed *agreed)
{
    conn->ecn = agreed->ecn;
    conn->ect = agreed->ect;
    conn->ecn_recover = conn->iss;
    conn->stack->counters.tcp_ecn_agreed += agreed->ecn;
}

void tcp_ecn_payload(struct tcp_conn *conn, const struct tcp_segment *segment)
{
    if (!conn->ecn) {
        return;
    }
    conn->ece &= (segment->flags & TCP_CWR) == 0;
    if (segment->ecn == TCP_CE) {
        conn->stack->counters.tcp_ce_in++;
        if (!conn->ece) { /* the sooner it knows */
            conn->ece = true;
            conn->ack_now = true;
            tcp_output_wanted(conn);
        }
    }
}

/* §6.1.2: as a loss, but nothing needs to be sent again; once for each window of data. */
static void reduce(struct tcp_conn *conn)
{
    struct tcp_congestion *congestion = &conn->congestion;
    conn->stack->counters.tcp_ecn_reductions++;
    conn->cwr = true;
    conn->ecn_recover = conn->snd_max;
    if (conn->recovery == TCP_OPEN) { /* else it has been done */
        congestion->ops->lost(congestion, tcp_flight_size(conn), conn->stack->now_ns);
        congestion->cwnd = congestion->ssthresh;
    }
    if (++conn->ecn_marked >= MARKED_WINDOWS_MAX) {
        conn->ect = false;
        conn->stack->counters.tcp_ecn_given_up++;
    }
}

void tcp_ecn_ack(struct tcp_conn *conn, const struct tcp_segment *segment)
{
    if (!conn->ect || !seq_before(conn->ecn_recover, segment->ack)) {
        return; /* data that cannot be marked were not */
    }
    if ((segment->flags & TCP_ECE) != 0) {
        reduce(conn);
    } else {
        conn->ecn_marked = 0;
        conn->ecn_recover = segment->ack - 1; /* or it would lie ahead again after 2 GiB */
    }
}

/* §6.1.5: never what is sent again, nor a probe, nor an acknowledgement alone. */
void tcp_ecn_departs(struct tcp_conn *conn, struct tcp_departure *departure)
{
    if (!conn->ecn || departure->bytes == 0 || seq_before(departure->seq, conn->snd_max)) {
        return;
    }
    departure->ect = conn->ect;
    departure->flags |= conn->cwr ? TCP_CWR : 0;
}
