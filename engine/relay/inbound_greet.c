/*
 * The banner. A client speaks when it has been greeted (RFC 5321 §3.1); programs that only send spam often do not
 * wait. As Postfix's postscreen: a listener may keep them waiting, and says what becomes of those who talk.
 */
#include "engine/relay/inbound_private.h"

#define EARLY_TEXT_BYTES 100 /* that the log has of it */

const struct smtp_verdict inbound_protocol_error = {
    550, "5.5.1", {(const uint8_t *)"Protocol error", sizeof("Protocol error") - 1}};

static void banner_give(struct inbound *in)
{
    if (in->relay->draining) {
        inbound_verdict(in, 421, "4.3.2", "Service is ending");
    } else if (!in->counted) {
        inbound_verdict(in, 421, "4.7.0", "Too many connections from your address");
    } else {
        smtp_server_verdict(&in->server, NULL);
    }
}

/* How much a client has said before its turn; the beginning goes into `text`. */
static size_t early_bytes(struct inbound *in, struct slice *text)
{
    struct slice slices[INBOUND_SLICES];
    size_t count = stream_peek(in->stream, slices, INBOUND_SLICES), bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += slices[i].size;
    }
    *text = count > 0 ? slice_first(slices[0], EARLY_TEXT_BYTES) : slice_of(NULL, 0);
    return bytes;
}

static void early_note(struct inbound *in, size_t bytes, struct slice text)
{
    uint64_t waited_ns = in->relay->shard->now_ns - in->greet_from_ns;
    char from[ENDPOINT_TEXT_MAX];
    size_t size = endpoint_format_address(&in->facts.remote, from);
    in->relay->counters.connections_pregreet++;
    logger_line(in->relay->logger, LOGGER_INFO,
                "smtp: PREGREET %zu after %.2f from [%.*s]:%u: %.*s", bytes,
                (double)waited_ns / 1e9, (int)size, from, in->facts.remote.port, (int)text.size,
                (const char *)text.bytes);
}

/* In place of the wait. */
static void early_judge(struct inbound *in)
{
    switch ((enum conf_greet_action)in->greet_action) {
    case CONF_GREET_IGNORE:
        banner_give(in);
        return;
    case CONF_GREET_ENFORCE:
        in->outcast = true;
        banner_give(in);
        return;
    case CONF_GREET_DROP:
        inbound_verdict(in, 521, "5.5.1", "Protocol error");
        return;
    }
}

/* True: the client has talked, and has its answer. */
static bool early_heard(struct inbound *in)
{
    struct slice text;
    size_t bytes = early_bytes(in, &text);
    if (bytes == 0) {
        return false;
    }
    early_note(in, bytes, text);
    early_judge(in);
    return true;
}

bool inbound_greet(struct inbound *in)
{
    in->greet_from_ns = in->relay->shard->now_ns;
    if (in->trusted || in->relay->draining || !in->counted) {
        banner_give(in);
        return true;
    }
    if (early_heard(in)) {
        return true;
    }
    if (in->greet_wait_ns > 0) {
        in->state = INBOUND_GREETING;
        return false;
    }
    banner_give(in);
    return true;
}

void inbound_greet_look(struct inbound *in)
{
    if (early_heard(in)) {
        in->state = INBOUND_READING;
    } else if (in->finished) {
        in->state = INBOUND_CLOSING; /* it has not waited for us to say anything */
    }
}

void inbound_greet_over(struct inbound *in)
{
    in->state = INBOUND_READING;
    banner_give(in);
    inbound_run(in);
}
