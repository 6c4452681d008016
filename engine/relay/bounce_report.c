/* Writing a report: into a draft of the spool, with the original behind it. */
#include "engine/relay/bounce_private.h"
#include <stdlib.h>
#include <string.h>

#define BOUNCE_RETRY_NS (5ull * 1000000000ull) /* the disk was full, or buffers were out */
#define COPY_BYTES_MAX (1024u * 1024)          /* of an original, in one go */

void bounce_report_leave(struct bounce *bounce)
{
    struct relay *relay = bounce->relay;
    if (bounce->fetching) {
        spool_fetch_cancel(relay->spool, &bounce->fetch);
        bounce->fetching = false;
    }
    if (bounce->waits_for_room) {
        spool_room_cancel(relay->spool, &bounce->room);
        bounce->waits_for_room = false;
    }
    if (bounce->draft != NULL) {
        spool_abort(bounce->draft);
        bounce->draft = NULL;
    }
    bounce->copying = false;
    wheel_disarm(relay->shard->wheel, &bounce->retry);
}

static void go_on_at(struct bounce *bounce, uint64_t after_ns)
{
    struct shard *shard = bounce->relay->shard;
    wheel_arm(shard->wheel, &bounce->retry, shard->now_ns + after_ns);
}

void bounce_report_again(struct bounce *bounce)
{
    bounce_report_leave(bounce);
    go_on_at(bounce, BOUNCE_RETRY_NS);
}

/* ---- What it says ---- */

/* `recipients` has room for all. */
static void report_fill(const struct bounce *bounce, struct dsn_report *report,
                        struct dsn_recipient *recipients, char ids[2][MESSAGE_ID_TEXT])
{
    const struct relay *relay = bounce->relay;
    const struct message *message = bounce->message;
    for (uint32_t i = 0; i < bounce->count; i++) {
        const struct relay_outcome *outcome = &bounce->outcomes[i];
        recipients[i] = (struct dsn_recipient){
            .forward_path = message_forward_path(message, outcome->index),
            .orcpt = message_orcpt(message, outcome->index),
            .action = outcome->action,
            .status = outcome->status,
            .remote_mta = slice_text(outcome->remote),
            .code = outcome->code,
            .text = slice_text(outcome->text),
        };
    }
    message_id_format(message->id, ids[0]);
    message_id_format(spool_draft_id(bounce->draft), ids[1]);
    *report = (struct dsn_report){
        .hostname = slice_text(relay->conf->hostname),
        .reverse_path = bounce->postmaster != NULL ? slice_text(bounce->postmaster)
                                                   : message_reverse_path(message),
        .message_id = slice_text(ids[1]),
        .queue_id = slice_text(ids[0]),
        .envid = message_envid(message),
        .arrival_wall_s = message_arrival_wall_s(message),
        .expires_wall_s = bounce->until_wall_s,
        .now_wall_s = bounce->now_wall_s,
        .recipients = recipients,
        .recipient_count = bounce->count,
        .original_is_8bit = (message_flags(message) & (SPOOL_8BITMIME | SPOOL_SMTPUTF8)) != 0,
        .original_is_utf8 = (message_flags(message) & SPOOL_SMTPUTF8) != 0,
    };
    memcpy(report->random, bounce->random, sizeof(report->random));
}

/* RFC 3461 §4.3: RET is about failures; who is served or waits has not lost the message. Nobody who has not asked for all
 * of it gets 8-bit text, which a server on the way back may refuse. */
static bool returns_full(const struct bounce *bounce, const struct dsn_report *report)
{
    enum spool_ret ret = message_ret(bounce->message);
    return bounce->outcomes[0].action == DSN_FAILED && bounce->postmaster == NULL &&
           !bounce->headers_only && bounce->message->body_bytes > 0 &&
           bounce->message->body_bytes <= bounce->relay->conf->bounce.full_bytes_max &&
           dsn_may_return_full(report) &&
           (ret == SPOOL_RET_FULL || (ret == SPOOL_RET_NONE && !report->original_is_8bit));
}

static int draft_write(void *owner, struct slice bytes)
{
    struct bounce *bounce = owner;
    return spool_append(bounce->draft, &bytes, 1);
}

/* A report makes no reports (NOTIFY=NEVER): its reverse-path is null. */
static int report_commit(struct bounce *bounce, const struct dsn_report *report)
{
    unsigned needs = dsn_needs(report);
    const struct envelope envelope = {
        .flags = SPOOL_BOUNCE | (bounce->postmaster != NULL ? SPOOL_DOUBLE_BOUNCE : 0u) |
                 ((needs & DSN_NEEDS_8BITMIME) ? SPOOL_8BITMIME : 0u) |
                 ((needs & DSN_NEEDS_SMTPUTF8) ? SPOOL_SMTPUTF8 : 0u),
        .arrival_wall_s = bounce->now_wall_s,
    };
    const struct envelope_recipient told = {.forward_path = report->reverse_path,
                                            .notify = SPOOL_NOTIFY_NEVER};
    struct spool_draft *draft = bounce->draft;
    bounce->draft = NULL;
    bounce->committing = true;
    int status = spool_commit(draft, &envelope, &told, 1, &bounce->report, &bounce->durable);
    bounce->committing = status == 0;
    return status;
}

/* ---- All of the original ---- */

static void copy_go_on(struct bounce *bounce);

static void copy_fetched(struct spool_waiter *waiter, int status)
{
    struct bounce *bounce = list_entry(waiter, struct bounce, fetch.waiter);
    (void)status; /* spool_read says it again */
    bounce->fetching = false;
    copy_go_on(bounce);
}

static void room_came(struct spool_waiter *waiter, int status)
{
    struct bounce *bounce = list_entry(waiter, struct bounce, room);
    (void)status;
    bounce->waits_for_room = false;
    copy_go_on(bounce);
}

/* The next piece. 0: written; 1: it goes on by itself; or -errno. */
static int copy_piece(struct bounce *bounce)
{
    struct spool *spool = bounce->relay->spool;
    struct slice bytes;
    struct ref *owner;
    bounce->fetch.waiter.done = copy_fetched;
    int status = spool_read(spool, bounce->message, bounce->offset, &bytes, &owner, &bounce->fetch);
    if (status == -EINPROGRESS) {
        bounce->fetching = true;
        return 1;
    }
    if (status < 0) {
        bounce->headers_only = status != -EAGAIN; /* damaged: the report goes without the rest */
        return status;
    }
    bytes = slice_first(bytes, SPOOL_APPEND_BYTES_MAX);
    status = spool_append(bounce->draft, &bytes, 1);
    ref_drop(owner);
    if (status == 0) {
        bounce->offset += bytes.size;
    } else if (status == -EAGAIN) {
        bounce->waits_for_room = true;
        bounce->room.done = room_came;
        spool_when_room(spool, &bounce->room);
        return 1;
    }
    return status;
}

static int copy_end(struct bounce *bounce)
{
    struct dsn_recipient *recipients = calloc(bounce->count, sizeof(*recipients));
    struct dsn_report report;
    char ids[2][MESSAGE_ID_TEXT];
    if (recipients == NULL) {
        return -ENOMEM;
    }
    report_fill(bounce, &report, recipients, ids);
    report.full = true;
    int status = dsn_end(&report, draft_write, bounce);
    status = status == 0 ? report_commit(bounce, &report) : status;
    free(recipients);
    return status;
}

static void copy_go_on(struct bounce *bounce)
{
    uint64_t from = bounce->offset;
    int status = 0;
    while (status == 0 && bounce->offset < bounce->message->body_bytes) {
        if (bounce->offset - from >= COPY_BYTES_MAX) {
            go_on_at(bounce, WHEEL_TICK_NS); /* others have their turn */
            return;
        }
        status = copy_piece(bounce);
    }
    if (status == 1) {
        return;
    }
    bounce->copying = status == 0;
    status = status == 0 ? copy_end(bounce) : status;
    bounce->copying = false;
    if (status < 0) {
        bounce_report_again(bounce);
    }
}

/* ---- From the beginning ---- */

/* original: its first bytes. */
static int report_begin(struct bounce *bounce, struct slice original)
{
    struct dsn_recipient *recipients = calloc(bounce->count, sizeof(*recipients));
    struct dsn_report report;
    char ids[2][MESSAGE_ID_TEXT];
    if (recipients == NULL) {
        return -ENOMEM;
    }
    report_fill(bounce, &report, recipients, ids);
    report.full = returns_full(bounce, &report);
    report.original = &original;
    report.original_count = original.size > 0 ? 1 : 0;
    int status;
    if (report.full) {
        status = dsn_begin(&report, draft_write, bounce);
        bounce->copying = status == 0;
        bounce->offset = 0;
    } else {
        status = dsn_build(&report, draft_write, bounce);
        status = status == 0 ? report_commit(bounce, &report) : status;
    }
    free(recipients);
    return status;
}

static void begin_fetched(struct spool_waiter *waiter, int status)
{
    struct bounce *bounce = list_entry(waiter, struct bounce, fetch.waiter);
    (void)status;
    bounce->fetching = false;
    bounce_report_write(bounce);
}

void bounce_report_write(struct bounce *bounce)
{
    struct relay *relay = bounce->relay;
    struct slice original = {0};
    struct ref *owner = NULL;
    int status = 0;
    if (bounce->copying) {
        copy_go_on(bounce);
        return;
    }
    bounce->fetch.waiter.done = begin_fetched;
    if (bounce->message->body_bytes > 0) {
        status = spool_read(relay->spool, bounce->message, 0, &original, &owner, &bounce->fetch);
    }
    if (status == -EINPROGRESS) {
        bounce->fetching = true;
        return;
    }
    if (status == -EAGAIN) {
        bounce_report_again(bounce);
        return;
    }
    if (status < 0) {
        original = slice_of(NULL, 0); /* damaged: the report goes without it */
        owner = NULL;
        bounce->headers_only = true;
    }
    status = spool_begin(relay->spool, &bounce->draft);
    if (status == 0) {
        status = report_begin(bounce, original);
    }
    if (owner != NULL) {
        ref_drop(owner);
    }
    if (status < 0) {
        bounce_report_again(bounce);
    } else if (bounce->copying) {
        copy_go_on(bounce);
    }
}
