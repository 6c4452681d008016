#include "engine/relay/inbound_private.h"
#include "engine/relay/relay_trace.h"

/* ---- Recipients ---- */

/* One of a list's addresses, or of the sender's own. */
static int address_make(struct inbound *in, const struct recipient_job *job, uint32_t index)
{
    struct slice address = job->addresses[index], owner = recipient_owner(job, index);
    const struct siphash_key *secret = lookup_secret(in->relay->lookup);
    struct inbound_letter *letter = &in->letters.own;
    struct envelope_recipient made = {.forward_path = address};
    char orcpt[ORCPT_ROOM];
    int status = owner.size > 0 ? inbound_letters_list(&in->letters, owner, &letter) : 0;
    if (status < 0) {
        return status;
    }
    status = inbound_paths_hold(&letter->paths, secret, address);
    if (status != 0) {
        return status < 0 ? status : 0;
    }
    if (owner.size == 0) {
        recipient_inherit(job, address, orcpt, &made);
    }
    return inbound_paths_forward(&letter->paths, &made);
}

int inbound_recipients_make(struct inbound *in, const struct recipient_job *job)
{
    struct inbound_paths *own = &in->letters.own.paths;
    const struct envelope_recipient told = {.forward_path = job->path.mailbox,
                                            .orcpt = job->xtext,
                                            .notify = SMTP_NOTIFY_SUCCESS,
                                            .state = (uint8_t)job->told};
    int status = 0;
    if (inbound_letters_recipients(&in->letters) + job->address_count >= INBOUND_RECIPIENTS_MAX) {
        return -E2BIG;
    }
    inbound_letters_mark(&in->letters);
    for (uint32_t i = 0; i < job->address_count && status == 0; i++) {
        status = address_make(in, job, i);
    }
    /* Nobody is told of what comes from the null reverse-path. */
    if (status == 0 && told.state != RECIPIENT_WAITING && own->reverse_bytes > 0) {
        status = inbound_paths_forward(own, &told);
    }
    if (status < 0) {
        inbound_letters_undo(&in->letters);
    }
    return status == -E2BIG && in->letters.list_count == 0 ? -EOVERFLOW : status;
}

/* ---- The text ---- */

static void body_refuse(struct inbound *in, int status)
{
    const struct smtp_verdict full = {452, "4.3.1", slice_text("Insufficient system storage")};
    const struct smtp_verdict broken = {451, "4.3.0", slice_text("Local error in processing")};
    const struct smtp_verdict large = {552, "5.3.4", slice_text("Message is too large")};
    inbound_letters_abort(&in->letters);
    in->receiving = false;
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
    smtp_server_waited(&in->server, in->relay->shard->now_ns - in->held_since_ns);
    if (in->state == INBOUND_GONE) {
        inbound_free(in);
        return;
    }
    in->state = INBOUND_READING;
    inbound_run(in);
}

bool inbound_body_take(struct inbound *in, struct slice piece)
{
    if (!in->receiving) {
        return true; /* refused already: the rest is thrown away */
    }
    int status = inbound_letters_append(&in->letters, piece);
    if (status == -EAGAIN) {
        in->held = piece;
        in->held_since_ns = in->relay->shard->now_ns;
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

/* The draft, with our trace line before what the client sends. The members of a list are nobody else's business. */
static int letter_begin(struct inbound *in, struct inbound_letter *letter)
{
    int status = spool_begin(in->relay->spool, &letter->draft);
    if (status < 0) {
        letter->draft = NULL;
        return status;
    }
    char id[MESSAGE_ID_TEXT] = "";
    message_id_format(spool_draft_id(letter->draft), id);
    char line[SMTP_RECEIVED_MAX];
    const struct smtp_received known = {
        .hostname = slice_text(in->relay->conf->hostname),
        .id = slice_text(id),
        .forward_path =
            letter == &in->letters.own ? inbound_paths_lone(&letter->paths) : slice_of(NULL, 0),
        .wall_s = in->envelope.arrival_wall_s,
    };
    size_t size = relay_trace_format(&in->server, &in->facts, &known, line);
    struct slice text = slice_of(line, size);
    return spool_append(letter->draft, &text, 1);
}

bool inbound_body_begin(struct inbound *in)
{
    int status = relay_has_room(in->relay, 0) ? 0 : -ENOSPC;
    struct inbound_letter *letter = &in->letters.own;
    in->receiving = true;
    in->envelope.arrival_wall_s = world_wall_s(in->relay->shard->world);
    for (; letter != NULL && status == 0; letter = letter->next) {
        status = letter->paths.count > 0 ? letter_begin(in, letter) : 0;
    }
    if (status < 0) {
        /* Not worth a wait of its own: the client comes again. */
        body_refuse(in, status);
    }
    return true;
}

/* ---- The end of data ---- */

static void commit_say(struct inbound *in, int status, const char *id)
{
    char text[64];
    uint32_t count = in->lmtp ? in->accepted_count : 1;
    snprintf(text, sizeof(text), "Ok: queued as %s", id);
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

static void commit_answer(struct inbound *in, int status, const char *id)
{
    commit_say(in, status, id);
    inbound_reset(in);
}

static void letter_accept(struct relay *relay, struct message *message)
{
    relay->counters.messages_in++;
    relay->counters.recipients_in += message->recipient_count;
    relay_schedule(relay, message);
}

/* It is durable, and another of its transaction is not, or its client was told that it is not: he sends all of it
 * again. */
static void letter_drop(struct relay *relay, struct message *message)
{
    spool_message_hold(message);
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        spool_recipient_finished(relay->spool, message, i, RECIPIENT_FAILED);
    }
    spool_message_release(relay->spool, message);
}

/* Of all letters it is known whether they are durable. */
static void commits_end(struct inbound *in)
{
    struct relay *relay = in->relay;
    char id[MESSAGE_ID_TEXT] = "";
    for (struct inbound_letter *letter = &in->letters.own, *next; letter != NULL; letter = next) {
        struct message *message = letter->message;
        next = letter->next;
        letter->message = NULL;
        if (message == NULL) {
            continue;
        }
        if (id[0] == '\0') {
            message_id_format(message->id, id);
        }
        if (in->commit_status == 0 && !in->disowned) {
            letter_accept(relay, message);
        } else {
            letter_drop(relay, message);
        }
    }
    if (in->commit_status < 0) {
        logger_line(relay->logger, LOGGER_ERROR, "spool: a message was refused: %s",
                    strerror(-in->commit_status));
    }
    if (in->state == INBOUND_GONE) {
        inbound_free(in);
        return;
    }
    in->state = INBOUND_READING;
    commit_answer(in, in->commit_status, id);
    inbound_run(in);
}

static void commit_done(struct spool_waiter *waiter, int status)
{
    struct inbound_letter *letter = list_entry(waiter, struct inbound_letter, durable);
    struct inbound *in = letter->in;
    if (status < 0) {
        letter->message = NULL;
        in->commit_status = status;
    }
    in->commit_count--;
    if (in->commit_count == 0) {
        commits_end(in);
    }
}

/* What a list sends is its owner's: nothing of the sender's wishes goes with it. */
static int letter_commit(struct inbound *in, struct inbound_letter *letter)
{
    struct envelope envelope = {.flags = in->envelope.flags,
                                .arrival_wall_s = in->envelope.arrival_wall_s};
    struct spool_draft *draft = letter->draft;
    if (letter == &in->letters.own) {
        envelope = in->envelope;
    }
    inbound_paths_settle(&letter->paths, &envelope);
    letter->in = in;
    letter->durable.done = commit_done;
    letter->draft = NULL;
    return spool_commit(draft, &envelope, letter->paths.forward, letter->paths.count,
                        &letter->message, &letter->durable);
}

void inbound_commit(struct inbound *in)
{
    if (!in->receiving) { /* the machine has the verdict of body_refuse */
        return;
    }
    in->receiving = false;
    in->commit_status = 0;
    in->commit_count = 0;
    for (struct inbound_letter *letter = &in->letters.own; letter != NULL && in->commit_status == 0;
         letter = letter->next) {
        if (letter->draft == NULL) {
            continue;
        }
        in->commit_status = letter_commit(in, letter);
        if (in->commit_status < 0) {
            letter->message = NULL;
        } else {
            in->commit_count++;
        }
    }
    inbound_letters_abort(&in->letters); /* those that were not asked for any more */
    if (in->commit_count == 0) {
        check(in->commit_status < 0); /* there was a recipient, so there was a letter */
        commit_answer(in, in->commit_status, "");
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
    commit_say(in, -ETIMEDOUT, "");
    inbound_leave(in);
}
