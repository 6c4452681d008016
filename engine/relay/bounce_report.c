/* Writing a report: into a draft of the spool, with the original behind it. */
#include "engine/relay/bounce_private.h"
#include <stdlib.h>
#include <string.h>

#define BOUNCE_RETRY_NS (5ull * 1000000000ull) /* the disk was full, or buffers were out */
#define GOES_ON 1                              /* by itself, later */
#define PIECES_BYTES_MAX (1024u * 1024)        /* of an original, in one go */

void bounce_report_leave(struct bounce *bounce)
{
    struct relay *relay = bounce->relay;
    if (bounce->fetching) {
        spool_fetch_cancel(relay->spool, &bounce->fetch);
        bounce->fetching = false;
    }
    if (bounce->waits_for_room) {
        spool_room_cancel(relay->spool, &bounce->room_came);
        bounce->waits_for_room = false;
    }
    if (bounce->draft != NULL) {
        spool_abort(bounce->draft);
        bounce->draft = NULL;
    }
    rewrite_job_end(&bounce->whom);
    bounce->phase = BOUNCE_RESOLVES;
    bounce->offset = 0;
    bounce->cut = (struct dsn_cut){0};
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
            .remote_address = slice_text(outcome->address),
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
        .original_is_utf8 = (message_flags(message) & SPOOL_SMTPUTF8) != 0,
        .full_is_8bit = bounce->is_8bit,
    };
    memcpy(report->random, bounce->random, sizeof(report->random));
}

/* Runs `write` on the report as it stands. */
static int with_report(struct bounce *bounce,
                       int (*write)(struct bounce *bounce, struct dsn_report *report))
{
    struct dsn_recipient *recipients = calloc(bounce->count, sizeof(*recipients));
    struct dsn_report report;
    char ids[2][MESSAGE_ID_TEXT];
    if (recipients == NULL) {
        return -ENOMEM;
    }
    report_fill(bounce, &report, recipients, ids);
    int status = write(bounce, &report);
    free(recipients);
    return status;
}

/* May all of it come back? RFC 3461 §4.3: RET is about failures; who is served or waits has not lost the message. A server
 * on the way back may refuse 8-bit text, and the report with it (RFC 6152 §3): then it goes again with the header alone
 * (`cuts`). */
static bool returns_full(const struct bounce *bounce)
{
    const struct message *message = bounce->message;
    const struct dsn_report about = {.reverse_path = message_reverse_path(message),
                                     .original_is_utf8 =
                                         (message_flags(message) & SPOOL_SMTPUTF8) != 0};
    return bounce->outcomes[0].action == DSN_FAILED && bounce->postmaster == NULL &&
           !bounce->cuts && !bounce->headers_only && message->body_bytes > 0 &&
           message->body_bytes <= bounce->relay->conf->bounce.full_bytes_max &&
           message_ret(message) != SPOOL_RET_HDRS && dsn_may_return_full(&about);
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
    uint32_t count = bounce->cuts                     ? bounce->count
                     : bounce->whom.address_count > 0 ? bounce->whom.address_count
                                                      : 1;
    struct envelope_recipient *told = calloc(count, sizeof(*told));
    if (told == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        told[i].forward_path = bounce->cuts                     ? report->recipients[i].forward_path
                               : bounce->whom.address_count > 0 ? bounce->whom.addresses[i]
                                                                : report->reverse_path;
        told[i].notify = SPOOL_NOTIFY_NEVER;
    }
    struct spool_draft *draft = bounce->draft;
    bounce->draft = NULL;
    bounce->phase = BOUNCE_COMMITS;
    int status = spool_commit(draft, &envelope, told, count, &bounce->report, &bounce->durable);
    free(told);
    return status;
}

/* ---- Whom it goes to ---- */

static void map_log(struct bounce *bounce)
{
    char id[MESSAGE_ID_TEXT];
    if (!bounce->map_logged) {
        bounce->map_logged = true;
        message_id_format(bounce->message->id, id);
        logger_line(bounce->relay->logger, LOGGER_WARNING,
                    "bounce: %s: rewriting the address that hears of it: %s%s", id,
                    bounce->whom.reason,
                    bounce->whom.status == REWRITE_FAILED ? "; trying again" : "");
    }
}

/* What an alias cannot be made of is written to as it is; and a map that does not answer is asked again. */
static int resolved(struct bounce *bounce)
{
    if (bounce->whom.status != REWRITE_OK) {
        map_log(bounce);
    }
    if (bounce->whom.status == REWRITE_FAILED) {
        return -EAGAIN;
    }
    if (bounce->whom.status != REWRITE_OK) {
        rewrite_job_end(&bounce->whom);
    }
    bounce->phase = BOUNCE_MEASURES;
    return 0;
}

static void resolve_done(struct rewrite_job *whom)
{
    struct bounce *bounce = list_entry(whom, struct bounce, whom);
    if (resolved(bounce) == 0) {
        bounce_report_write(bounce);
    } else {
        bounce_report_again(bounce);
    }
}

static int resolve(struct bounce *bounce)
{
    const struct relay *relay = bounce->relay;
    struct slice path = bounce->postmaster != NULL ? slice_text(bounce->postmaster)
                                                   : message_reverse_path(bounce->message);
    if (bounce->cuts || relay->maps == NULL || !relay->maps->rewrites_recipients) {
        bounce->phase = BOUNCE_MEASURES;
        return 0;
    }
    bounce->whom.done = resolve_done;
    int status = rewrite_recipient(&bounce->whom, relay->lookup, &relay->maps->rules, path);
    if (status == -EINPROGRESS) {
        return GOES_ON;
    }
    return status == 0 ? resolved(bounce) : status;
}

void bounce_report_reload(struct bounce *bounce)
{
    if (bounce->phase == BOUNCE_RESOLVES) {
        bounce_report_again(bounce);
    }
}

/* ---- The original ---- */

static void fetched(struct spool_waiter *waiter, int status)
{
    struct bounce *bounce = list_entry(waiter, struct bounce, fetch.waiter);
    (void)status; /* spool_read says it again */
    bounce->fetching = false;
    bounce_report_write(bounce);
}

static void room_came(struct spool_waiter *waiter, int status)
{
    struct bounce *bounce = list_entry(waiter, struct bounce, room_came);
    (void)status;
    bounce->waits_for_room = false;
    bounce_report_write(bounce);
}

/* Its next piece. 0; GOES_ON; or -errno. */
static int piece_read(struct bounce *bounce, struct slice *bytes, struct ref **owner)
{
    bounce->fetch.waiter.done = fetched;
    int status = spool_read(bounce->relay->spool, bounce->message, bounce->offset, bytes, owner,
                            &bounce->fetch);
    if (status == -EINPROGRESS) {
        bounce->fetching = true;
        return GOES_ON;
    }
    if (status < 0 && status != -EAGAIN) {
        bounce->headers_only = true; /* damaged: the report goes without the rest */
    }
    return status;
}

static int measure_piece(struct bounce *bounce)
{
    struct slice bytes;
    struct ref *owner;
    int status = piece_read(bounce, &bytes, &owner);
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < bytes.size && !bounce->is_8bit; i++) {
        bounce->is_8bit = bytes.bytes[i] >= 0x80;
    }
    bounce->offset += bytes.size;
    ref_drop(owner);
    return 0;
}

/* How far it is copied. */
static uint64_t copy_end(const struct bounce *bounce)
{
    return bounce->cuts && bounce->phase == BOUNCE_COPIES ? bounce->cut.report_bytes
                                                          : bounce->message->body_bytes;
}

/* Looks for the place. */
static int cut_piece(struct bounce *bounce)
{
    struct slice bytes;
    struct ref *owner;
    int status = piece_read(bounce, &bytes, &owner);
    if (status != 0) {
        return status;
    }
    dsn_cut_read(&bounce->cut, bytes);
    bounce->offset = bounce->cut.found ? bounce->message->body_bytes : bounce->offset + bytes.size;
    ref_drop(owner);
    return 0;
}

static int copy_piece(struct bounce *bounce)
{
    struct spool *spool = bounce->relay->spool;
    struct slice bytes;
    struct ref *owner;
    int status = piece_read(bounce, &bytes, &owner);
    if (status != 0) {
        return status;
    }
    bytes = slice_first(bytes, SPOOL_APPEND_BYTES_MAX);
    if (bytes.size > copy_end(bounce) - bounce->offset) {
        bytes.size = (size_t)(copy_end(bounce) - bounce->offset);
    }
    status = spool_append(bounce->draft, &bytes, 1);
    ref_drop(owner);
    if (status == 0) {
        bounce->offset += bytes.size;
    } else if (status == -EAGAIN) {
        bounce->waits_for_room = true;
        bounce->room_came.done = room_came;
        spool_when_room(spool, &bounce->room_came);
        return GOES_ON;
    } else if (status == -EFBIG) {
        bounce->headers_only = true; /* the limits have changed since the spool was opened */
    }
    return status;
}

/* All of it, but for what others need of this round. 0; GOES_ON; or -errno. */
static int pieces_take(struct bounce *bounce, int (*take)(struct bounce *bounce))
{
    uint64_t from = bounce->offset;
    int status = 0;
    while (status == 0 && bounce->offset < copy_end(bounce)) {
        if (bounce->offset - from >= PIECES_BYTES_MAX) {
            go_on_at(bounce, WHEEL_TICK_NS);
            return GOES_ON;
        }
        status = take(bounce);
    }
    return status;
}

/* ---- The phases ---- */

static int measure(struct bounce *bounce)
{
    int status = bounce->cuts                               ? pieces_take(bounce, cut_piece)
                 : returns_full(bounce) && !bounce->is_8bit ? pieces_take(bounce, measure_piece)
                                                            : 0;
    if (status == 0 || bounce->headers_only) {
        bounce->phase = BOUNCE_BEGINS;
        bounce->offset = 0;
        return 0;
    }
    return status;
}

static int end_write(struct bounce *bounce, struct dsn_report *report)
{
    report->full = true;
    int status = dsn_end(report, draft_write, bounce);
    return status == 0 ? report_commit(bounce, report) : status;
}

/* The original's header, as far as the piece goes in which it begins. */
static int cut_write(struct bounce *bounce, struct dsn_report *report)
{
    struct slice original = {0};
    struct ref *owner = NULL;
    bounce->offset = bounce->cut.original_begin;
    int status = piece_read(bounce, &original, &owner);
    if (status != 0) {
        return status;
    }
    memcpy(report->random, bounce->cut.random, sizeof(report->random));
    report->original = &original;
    report->original_count = 1;
    status = dsn_end_header(report, draft_write, bounce);
    ref_drop(owner);
    return status == 0 ? report_commit(bounce, report) : status;
}

static int copy(struct bounce *bounce)
{
    int status = pieces_take(bounce, copy_piece);
    return status == 0 ? with_report(bounce, bounce->cuts ? cut_write : end_write) : status;
}

static int full_write(struct bounce *bounce, struct dsn_report *report)
{
    report->full = true;
    bounce->phase = BOUNCE_COPIES;
    return dsn_begin(report, draft_write, bounce);
}

/* With the original's header, as far as its first piece goes. */
static int header_write(struct bounce *bounce, struct dsn_report *report)
{
    struct slice original = {0};
    struct ref *owner = NULL;
    if (bounce->message->body_bytes > 0) {
        int status = piece_read(bounce, &original, &owner);
        if (status == GOES_ON || status == -EAGAIN) {
            return status;
        }
        report->original = &original;
        report->original_count = status == 0 ? 1 : 0;
    }
    int status = dsn_build(report, draft_write, bounce);
    if (report->original_count > 0) {
        ref_drop(owner);
    }
    return status == 0 ? report_commit(bounce, report) : status;
}

static int begin(struct bounce *bounce)
{
    int status = bounce->draft == NULL ? spool_begin(bounce->relay->spool, &bounce->draft) : 0;
    if (status == 0 && bounce->cuts) {
        bounce->phase = BOUNCE_COPIES;
    } else if (status == 0) {
        status = with_report(bounce, returns_full(bounce) ? full_write : header_write);
    }
    return status == 0 && bounce->phase == BOUNCE_COPIES ? copy(bounce) : status;
}

void bounce_report_write(struct bounce *bounce)
{
    int status = bounce->phase == BOUNCE_RESOLVES ? resolve(bounce) : 0;
    if (status == 0 && bounce->phase == BOUNCE_MEASURES) {
        status = measure(bounce);
    }
    if (bounce->cuts &&
        (bounce->headers_only || (bounce->phase == BOUNCE_BEGINS && !bounce->cut.found))) {
        bounce_cut_failed(bounce);
        return;
    }
    if (status == 0) {
        status = bounce->phase == BOUNCE_COPIES ? copy(bounce) : begin(bounce);
    }
    if (status < 0) {
        bounce_report_again(bounce);
    }
}
