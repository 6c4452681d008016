#include "engine/relay/inbound_private.h"
#include "engine/relay/relay_trace.h"

static void body_refuse(struct inbound *in, int status)
{
    const struct smtp_verdict full = {452, "4.3.1", slice_text("Insufficient system storage")};
    const struct smtp_verdict broken = {451, "4.3.0", slice_text("Local error in processing")};
    const struct smtp_verdict large = {552, "5.3.4", slice_text("Message is too large")};
    if (in->draft != NULL) {
        spool_abort(in->draft);
        in->draft = NULL;
    }
    in->relay->counters.refused_messages++;
    smtp_server_body_refuse(&in->server, status == -ENOSPC || status == -EAGAIN ? &full
                                         : status == -EFBIG                     ? &large
                                                                                : &broken);
}

static void room_came(struct spool_waiter *waiter, int status)
{
    struct inbound *in = list_entry(waiter, struct inbound, room);
    (void)status; /* whatever it is, spool_append says it again */
    in->room_waited = false;
    if (in->state == INBOUND_GONE) {
        inbound_free(in);
        return;
    }
    in->state = INBOUND_READING;
    inbound_run(in);
}

bool inbound_body_take(struct inbound *in, struct slice piece)
{
    if (in->draft == NULL) {
        return true; /* refused already: the rest is thrown away */
    }
    int status = spool_append(in->draft, &piece, 1);
    if (status == -EAGAIN) {
        in->held = piece;
        in->state = INBOUND_NO_ROOM;
        in->room_waited = true;
        in->room.done = room_came;
        spool_when_room(in->relay->spool, &in->room);
        return false;
    }
    if (status < 0) {
        body_refuse(in, status);
    } else {
        in->relay->counters.bytes_in += piece.size;
    }
    return true;
}

bool inbound_body_begin(struct inbound *in)
{
    int status = relay_has_room(in->relay, 0) ? spool_begin(in->relay->spool, &in->draft) : -ENOSPC;
    if (status < 0) {
        in->draft = NULL;
        body_refuse(in, status);
        return true;
    }
    in->envelope.arrival_wall_s = world_wall_s(in->relay->shard->world);
    char id[MESSAGE_ID_TEXT] = "";
    message_id_format(spool_draft_id(in->draft), id);
    char line[SMTP_RECEIVED_MAX];
    const struct smtp_received known = {
        .hostname = slice_text(in->relay->conf->hostname),
        .id = slice_text(id),
        .forward_path = inbound_paths_lone(&in->paths),
        .wall_s = in->envelope.arrival_wall_s,
    };
    size_t size = relay_trace_format(&in->server, &in->facts, &known, line);
    struct slice text = slice_of(line, size);
    status = spool_append(in->draft, &text, 1);
    if (status < 0) {
        /* Not worth a wait of its own: the client comes again. */
        body_refuse(in, status);
    }
    return true;
}

static void commit_say(struct inbound *in, int status)
{
    char id[MESSAGE_ID_TEXT];
    char text[64];
    uint32_t count = in->lmtp ? in->accepted_count : 1;
    if (status == 0) {
        message_id_format(in->message->id, id);
        snprintf(text, sizeof(text), "Ok: queued as %s", id);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (status == 0) {
            inbound_verdict(in, 250, "2.0.0", text);
        } else if (status == -ENOSPC) {
            inbound_verdict(in, 452, "4.3.1", "Insufficient system storage");
        } else {
            inbound_verdict(in, 451, "4.3.0", "The message could not be kept, try again later");
        }
    }
}

static void commit_answer(struct inbound *in, int status)
{
    commit_say(in, status);
    in->message = NULL;
    inbound_reset(in);
}

/* Its client was told that it is not kept, and sends it again. */
static void message_drop(struct relay *relay, struct message *message)
{
    spool_message_hold(message);
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        spool_recipient_finished(relay->spool, message, i, RECIPIENT_FAILED);
    }
    spool_message_release(relay->spool, message);
}

static void commit_done(struct spool_waiter *waiter, int status)
{
    struct inbound *in = list_entry(waiter, struct inbound, durable);
    struct relay *relay = in->relay;
    struct message *message = in->message;
    bool gone = in->state == INBOUND_GONE, disowned = in->disowned;
    if (gone) {
        inbound_free(in);
    } else {
        in->state = INBOUND_READING;
        commit_answer(in, status);
    }
    if (status == 0 && disowned) {
        message_drop(relay, message);
    } else if (status == 0) {
        relay->counters.messages_in++;
        relay->counters.recipients_in += message->recipient_count;
        relay_schedule(relay, message);
    } else {
        logger_line(relay->logger, LOGGER_ERROR, "spool: a message was refused: %s",
                    strerror(-status));
    }
    if (!gone) {
        inbound_run(in);
    }
}

void inbound_commit(struct inbound *in)
{
    if (in->draft == NULL) { /* the machine has the verdict of body_refuse */
        return;
    }
    inbound_paths_settle(&in->paths, &in->envelope);
    in->durable.done = commit_done;
    struct spool_draft *draft = in->draft;
    in->draft = NULL;
    int status = spool_commit(draft, &in->envelope, in->paths.forward, in->paths.count,
                              &in->message, &in->durable);
    if (status < 0) {
        commit_answer(in, status);
        return;
    }
    in->state = INBOUND_COMMITTING;
    wheel_arm(in->relay->shard->wheel, &in->timer,
              in->relay->shard->now_ns + in->relay->conf->timeouts.commit);
}

void inbound_commit_late(struct inbound *in)
{
    logger_line(in->relay->logger, LOGGER_ERROR,
                "spool: a message was refused: the disk does not answer");
    in->relay->counters.refused_messages++;
    in->disowned = true;
    commit_say(in, -ETIMEDOUT);
    inbound_leave(in);
}
