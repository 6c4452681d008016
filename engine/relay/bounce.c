#include "engine/relay/bounce.h"
#include "proto/dsn/dsn.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOUNCE_RETRY_NS (5ull * 1000000000ull) /* the disk was full, or buffers were out */

struct bounce {
    struct list_node node; /* in relay->bounces */
    struct relay *relay;
    struct message *message; /* reported on; held */
    struct message *report;  /* while it is being committed */
    char *postmaster;        /* of a double bounce: whom to tell; else NULL */
    struct spool_draft *draft;
    struct spool_fetch fetch; /* of the original's first bytes */
    struct spool_waiter durable;
    struct timer retry;
    bool fetching, committing, abandoned;
    uint8_t random[16]; /* drawn once, so that a report that is tried again is the same */
    uint32_t count;
    struct relay_failure failures[];
};

static void bounce_try(struct bounce *bounce);

static void bounce_free(struct bounce *bounce)
{
    struct relay *relay = bounce->relay;
    wheel_disarm(relay->shard->wheel, &bounce->retry);
    list_remove(&bounce->node);
    free(bounce->postmaster);
    free(bounce);
}

static void bounce_retry(struct timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    bounce_try(list_entry(timer, struct bounce, retry));
}

static void bounce_later(struct bounce *bounce)
{
    struct shard *shard = bounce->relay->shard;
    if (bounce->draft != NULL) {
        spool_abort(bounce->draft);
        bounce->draft = NULL;
    }
    wheel_arm(shard->wheel, &bounce->retry, shard->now_ns + BOUNCE_RETRY_NS);
}

/* The failed recipients are done with; after the last one the spool forgets the message. */
static void failures_finish(struct relay *relay, struct message *message,
                            const struct relay_failure *failures, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        spool_recipient_finished(relay->spool, message, failures[i].index, RECIPIENT_FAILED);
    }
}

static void bounce_durable(struct spool_waiter *waiter, int status)
{
    struct bounce *bounce = list_entry(waiter, struct bounce, durable);
    struct relay *relay = bounce->relay;
    struct message *report = bounce->report;
    bounce->committing = false;
    if (bounce->abandoned) {
        spool_message_release(relay->spool, bounce->message);
        bounce_free(bounce);
        return;
    }
    if (status < 0) {
        bounce_later(bounce);
        return;
    }
    relay->counters.bounces++;
    struct message *message = bounce->message;
    failures_finish(relay, message, bounce->failures, bounce->count);
    spool_message_release(relay->spool, message);
    bounce_free(bounce);
    relay_schedule(relay, report);
}

static int report_write(void *owner, struct slice bytes)
{
    struct bounce *bounce = owner;
    return spool_append(bounce->draft, &bytes, 1);
}

static int report_build(struct bounce *bounce, struct slice original)
{
    struct relay *relay = bounce->relay;
    struct dsn_recipient *recipients = calloc(bounce->count, sizeof(*recipients));
    if (recipients == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < bounce->count; i++) {
        const struct relay_failure *failure = &bounce->failures[i];
        recipients[i] = (struct dsn_recipient){
            .forward_path = message_forward_path(bounce->message, failure->index),
            .status = failure->status,
            .remote_mta = slice_text(failure->remote),
            .code = failure->code,
            .text = slice_text(failure->text),
        };
    }
    char id[MESSAGE_ID_TEXT];
    char report_id[MESSAGE_ID_TEXT];
    message_id_format(bounce->message->id, id);
    message_id_format(spool_draft_id(bounce->draft), report_id);
    struct dsn_report report = {
        .hostname = slice_text(relay->conf->hostname),
        .reverse_path = bounce->postmaster != NULL ? slice_text(bounce->postmaster)
                                                   : message_reverse_path(bounce->message),
        .message_id = slice_text(report_id),
        .queue_id = slice_text(id),
        .action = DSN_FAILED,
        .arrival_wall_s = message_arrival_wall_s(bounce->message),
        .now_wall_s = world_wall_s(relay->shard->world),
        .recipients = recipients,
        .recipient_count = bounce->count,
        .original = &original,
        .original_count = original.size > 0 ? 1 : 0,
    };
    memcpy(report.random, bounce->random, sizeof(report.random));
    int status = dsn_build(&report, report_write, bounce);
    if (status == 0) {
        unsigned needs = dsn_needs(&report);
        struct envelope envelope = {
            .flags = SPOOL_BOUNCE | (bounce->postmaster != NULL ? SPOOL_DOUBLE_BOUNCE : 0u) |
                     ((needs & DSN_NEEDS_8BITMIME) ? SPOOL_8BITMIME : 0u) |
                     ((needs & DSN_NEEDS_SMTPUTF8) ? SPOOL_SMTPUTF8 : 0u),
            .arrival_wall_s = report.now_wall_s,
        };
        const struct envelope_recipient told = {.forward_path = report.reverse_path};
        struct spool_draft *draft = bounce->draft;
        bounce->draft = NULL;
        bounce->durable.done = bounce_durable;
        bounce->committing = true;
        status = spool_commit(draft, &envelope, &told, 1, &bounce->report, &bounce->durable);
        bounce->committing = status == 0;
    }
    free(recipients);
    return status;
}

static void original_fetched(struct spool_waiter *waiter, int status)
{
    struct bounce *bounce = list_entry(waiter, struct bounce, fetch.waiter);
    bounce->fetching = false;
    (void)status; /* spool_read says it again */
    bounce_try(bounce);
}

static void bounce_try(struct bounce *bounce)
{
    struct relay *relay = bounce->relay;
    struct slice original = {0};
    struct ref *owner = NULL;
    bounce->fetch.waiter.done = original_fetched;
    int status = spool_read(relay->spool, bounce->message, 0, &original, &owner, &bounce->fetch);
    if (status == -EINPROGRESS) {
        bounce->fetching = true;
        return;
    }
    if (status == -EAGAIN) {
        bounce_later(bounce);
        return;
    }
    if (status < 0) {
        original = slice_of(NULL, 0); /* damaged: the report goes without it */
        owner = NULL;
    }
    status = spool_begin(relay->spool, &bounce->draft);
    if (status == 0) {
        status = report_build(bounce, original);
    }
    if (owner != NULL) {
        ref_drop(owner);
    }
    if (status < 0) {
        bounce_later(bounce);
    }
}

/* Does the postmaster hear of it? */
static bool postmaster_wants(const struct relay *relay, const struct message *message)
{
    return relay->conf->bounce.doubles == CONF_DOUBLE_POSTMASTER &&
           (message_flags(message) & (SPOOL_BOUNCE | SPOOL_DOUBLE_BOUNCE)) == SPOOL_BOUNCE;
}

static void double_bounce_log(struct relay *relay, const struct message *message,
                              const struct relay_failure *failures, uint32_t count)
{
    const char *fate = postmaster_wants(relay, message) ? "reported to the postmaster" : "dropped";
    char id[MESSAGE_ID_TEXT];
    message_id_format(message->id, id);
    for (uint32_t i = 0; i < count; i++) {
        struct slice path = message_forward_path(message, failures[i].index);
        relay->counters.double_bounces++;
        logger_line(relay->logger, LOGGER_WARNING, "bounce: %s: double bounce, %s: to=<%.*s> (%s)",
                    id, fate, (int)path.size, (const char *)path.bytes, failures[i].text);
    }
}

void bounce_send(struct relay *relay, struct message *message, const struct relay_failure *failures,
                 uint32_t count)
{
    relay->counters.failed += count;
    bool is_double = message_reverse_path(message).size == 0;
    if (is_double) {
        double_bounce_log(relay, message, failures, count);
        if (!postmaster_wants(relay, message)) {
            failures_finish(relay, message, failures, count);
            return;
        }
    }
    struct bounce *bounce = calloc(1, sizeof(*bounce) + count * sizeof(*failures));
    char *postmaster = is_double ? strdup(relay->conf->bounce.postmaster) : NULL;
    if (bounce == NULL || (is_double && postmaster == NULL)) {
        free(bounce);
        free(postmaster);
        /* They wait in the spool; the next start tries them again. */
        logger_line(relay->logger, LOGGER_ERROR,
                    "bounce: out of memory; the recipients wait for a restart");
        return;
    }
    bounce->relay = relay;
    bounce->message = message;
    bounce->postmaster = postmaster;
    bounce->count = count;
    memcpy(bounce->failures, failures, count * sizeof(*failures));
    world_random(relay->shard->world, bounce->random, sizeof(bounce->random));
    timer_init(&bounce->retry, bounce_retry);
    list_init(&bounce->node);
    list_append(&relay->bounces, &bounce->node);
    spool_message_hold(message);
    bounce_try(bounce);
}

/* A restart forgets the last answer, and mail of a suspended site may never have had one. */
void bounce_expired(struct relay_failure *failure, uint32_t index, struct slice reason)
{
    *failure = (struct relay_failure){.index = index, .status = {4, 4, 7}};
    if (reason.size == 0) {
        snprintf(failure->text, sizeof(failure->text),
                 "Not delivered in time; no answer of a server is known");
        return;
    }
    snprintf(failure->text, sizeof(failure->text),
             "Not delivered in time; the last answer was: %.*s", (int)reason.size,
             (const char *)reason.bytes);
}

void bounce_abandon_all(struct relay *relay)
{
    struct list_node waiting;
    list_init(&waiting);
    list_splice(&waiting, &relay->bounces);
    for (struct list_node *node; (node = list_pop(&waiting)) != NULL;) {
        struct bounce *bounce = list_entry(node, struct bounce, node);
        if (bounce->fetching) {
            spool_fetch_cancel(relay->spool, &bounce->fetch);
            bounce->fetching = false;
        }
        if (bounce->committing) {
            bounce->abandoned = true; /* bounce_durable frees it */
            continue;
        }
        spool_message_release(relay->spool, bounce->message);
        bounce_free(bounce);
    }
}

uint32_t bounce_count(const struct relay *relay)
{
    uint32_t count = 0;
    for (const struct list_node *node = relay->bounces.next; node != &relay->bounces;
         node = node->next) {
        count++;
    }
    return count;
}
