/* What the clock does to an inbound session. */
#include "engine/relay/inbound_private.h"

void inbound_timer_set(struct inbound *in)
{
    uint64_t due = WHEEL_NEVER;
    switch (in->state) {
    case INBOUND_READING:
    case INBOUND_SECURING:
    case INBOUND_HANDSHAKE:
        due = smtp_server_deadline(&in->server);
        break;
    case INBOUND_GREETING:
        due = in->greet_from_ns + in->greet_wait_ns;
        break;
    case INBOUND_JUDGING:    /* the maps answer in any case */
    case INBOUND_LOGIN:      /* the login desk, too */
    case INBOUND_NO_ROOM:    /* and so does the spool */
    case INBOUND_COMMITTING: /* inbound_commit has set it */
    case INBOUND_CLOSING:
    case INBOUND_GONE:
        break;
    }
    if (due != WHEEL_NEVER && (!timer_armed(&in->timer) || in->timer.due_ns > due)) {
        wheel_arm(in->relay->shard->wheel, &in->timer, due);
    }
}

/* The client has let its time pass. */
static void expire(struct inbound *in, uint64_t now_ns)
{
    char from[ENDPOINT_TEXT_MAX];
    endpoint_format(&in->facts.remote, from);
    in->relay->counters.timeouts_in++;
    logger_line(in->relay->logger, LOGGER_INFO, "smtp: timeout after %s from %s",
                smtp_server_stage(&in->server), from);
    smtp_server_expire(&in->server, now_ns);
    in->state = INBOUND_CLOSING;
}

void inbound_timer_fired(struct timer *timer, uint64_t now_ns)
{
    struct inbound *in = list_entry(timer, struct inbound, timer);
    switch (in->state) {
    case INBOUND_CLOSING:
        stream_abort(in->stream); /* the client does not take our last words */
        return;
    case INBOUND_COMMITTING:
        inbound_commit_late(in);
        return;
    case INBOUND_GREETING:
        if (in->greet_from_ns + in->greet_wait_ns <= now_ns) {
            inbound_greet_over(in);
            return;
        }
        break;
    case INBOUND_READING:
    case INBOUND_SECURING:
    case INBOUND_HANDSHAKE:
        if (smtp_server_deadline(&in->server) <= now_ns) {
            expire(in, now_ns);
        }
        break;
    case INBOUND_JUDGING: /* it is we who keep the client waiting */
    case INBOUND_LOGIN:
    case INBOUND_NO_ROOM:
    case INBOUND_GONE:
        return;
    }
    inbound_run(in);
}
