#include "engine/relay/bounce_private.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    bounce_report_write(list_entry(timer, struct bounce, retry));
}

/* ---- When it is durable ---- */

/* The failed recipients are done with; after the last one the spool forgets the message. */
static void failures_finish(struct relay *relay, struct message *message,
                            const struct relay_outcome *failures, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        spool_recipient_finished(relay->spool, message, failures[i].index, RECIPIENT_FAILED);
    }
}

/* What was told of needs no telling any more. */
static void outcomes_finish(struct relay *relay, struct bounce *bounce)
{
    struct message *message = bounce->message;
    for (uint32_t i = 0; i < bounce->count; i++) {
        uint32_t index = bounce->outcomes[i].index;
        switch ((enum dsn_action)bounce->outcomes[i].action) {
        case DSN_FAILED:
            spool_recipient_finished(relay->spool, message, index, RECIPIENT_FAILED);
            break;
        case DSN_DELAYED:
            if (message_recipient_state(message, index) == RECIPIENT_WAITING) {
                spool_note_warned(relay->spool, message, index);
            }
            break;
        case DSN_DELIVERED:
        case DSN_RELAYED:
        case DSN_EXPANDED:
            spool_recipient_finished(relay->spool, message, index, RECIPIENT_DELIVERED);
            break;
        }
    }
}

static void told_log(const struct relay *relay, const struct bounce *bounce)
{
    uint8_t action = bounce->outcomes[0].action;
    char id[MESSAGE_ID_TEXT], report_id[MESSAGE_ID_TEXT];
    message_id_format(bounce->message->id, id);
    message_id_format(bounce->report->id, report_id);
    logger_line(relay->logger, LOGGER_INFO, "bounce: %s: %s: %s", id,
                bounce->postmaster != NULL ? "postmaster non-delivery notification"
                : action == DSN_FAILED     ? "sender non-delivery notification"
                : action == DSN_DELAYED    ? "sender delay notification"
                                           : "sender delivery status notification",
                report_id);
}

static void bounce_durable(struct spool_waiter *waiter, int status)
{
    struct bounce *bounce = list_entry(waiter, struct bounce, durable);
    struct relay *relay = bounce->relay;
    struct message *report = bounce->report, *message = bounce->message;
    bounce->committing = false;
    if (bounce->abandoned) {
        spool_message_release(relay->spool, message);
        bounce_free(bounce);
        return;
    }
    if (status < 0) {
        bounce_report_again(bounce);
        return;
    }
    switch ((enum dsn_action)bounce->outcomes[0].action) {
    case DSN_FAILED:
        relay->counters.bounces++;
        break;
    case DSN_DELAYED:
        relay->counters.delay_reports++;
        break;
    case DSN_DELIVERED:
    case DSN_RELAYED:
    case DSN_EXPANDED:
        relay->counters.success_reports++;
        break;
    }
    told_log(relay, bounce);
    outcomes_finish(relay, bounce);
    spool_message_release(relay->spool, message);
    bounce_free(bounce);
    relay_schedule(relay, report);
}

/* ---- Who is told ---- */

static void memory_log(const struct relay *relay)
{
    logger_line(relay->logger, LOGGER_ERROR, "bounce: out of memory; a report waits for a restart");
}

/* NULL: no memory; what is to be told is still in the spool, for the next start. */
static struct bounce *bounce_new(struct relay *relay, struct message *message, uint32_t count)
{
    struct bounce *bounce = calloc(1, sizeof(*bounce) + count * sizeof(bounce->outcomes[0]));
    if (bounce == NULL) {
        memory_log(relay);
        return NULL;
    }
    bounce->relay = relay;
    bounce->message = message;
    bounce->durable.done = bounce_durable;
    bounce->now_wall_s = world_wall_s(relay->shard->world);
    world_random(relay->shard->world, bounce->random, sizeof(bounce->random));
    timer_init(&bounce->retry, bounce_retry);
    list_init(&bounce->node);
    return bounce;
}

static void bounce_begin(struct bounce *bounce)
{
    list_append(&bounce->relay->bounces, &bounce->node);
    spool_message_hold(bounce->message);
    bounce_report_write(bounce);
}

static bool failure_wanted(const struct message *message, uint32_t index)
{
    uint8_t notify = message_notify(message, index);
    return notify == 0 || (notify & SPOOL_NOTIFY_FAILURE) != 0;
}

/* Does the postmaster hear of it? */
static bool postmaster_wants(const struct relay *relay, const struct message *message)
{
    return relay->conf->bounce.doubles == CONF_DOUBLE_POSTMASTER &&
           (message_flags(message) & (SPOOL_BOUNCE | SPOOL_DOUBLE_BOUNCE)) == SPOOL_BOUNCE;
}

static void double_bounce_log(struct relay *relay, const struct message *message,
                              const struct relay_outcome *failures, uint32_t count)
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

void bounce_send(struct relay *relay, struct message *message, const struct relay_outcome *failures,
                 uint32_t count)
{
    bool is_double = message_reverse_path(message).size == 0;
    char *postmaster = NULL;
    relay->counters.failed += count;
    if (is_double) {
        double_bounce_log(relay, message, failures, count);
        if (!postmaster_wants(relay, message)) {
            failures_finish(relay, message, failures, count);
            return;
        }
        postmaster = strdup(relay->conf->bounce.postmaster);
        if (postmaster == NULL) {
            memory_log(relay);
            return;
        }
    }
    struct bounce *bounce = bounce_new(relay, message, count);
    if (bounce == NULL) {
        free(postmaster);
        return;
    }
    bounce->postmaster = postmaster;
    spool_message_hold(message);
    for (uint32_t i = 0; i < count; i++) {
        if (is_double || failure_wanted(message, failures[i].index)) {
            bounce->outcomes[bounce->count++] = failures[i];
        } else {
            failures_finish(relay, message, &failures[i], 1);
        }
    }
    if (bounce->count > 0) {
        bounce_begin(bounce);
    } else {
        bounce_free(bounce);
    }
    spool_message_release(relay->spool, message);
}

bool bounce_success_wanted(const struct message *message, uint32_t index)
{
    return (message_notify(message, index) & SPOOL_NOTIFY_SUCCESS) != 0 &&
           message_reverse_path(message).size > 0;
}

void bounce_served(struct relay *relay, struct message *message,
                   const struct relay_outcome *outcomes, uint32_t count)
{
    struct bounce *bounce = NULL;
    uint32_t wanted = 0;
    for (uint32_t i = 0; i < count; i++) {
        wanted += bounce_success_wanted(message, outcomes[i].index);
    }
    bounce = wanted > 0 ? bounce_new(relay, message, wanted) : NULL;
    spool_message_hold(message);
    for (uint32_t i = 0; i < count; i++) {
        bool is_wanted = bounce_success_wanted(message, outcomes[i].index);
        spool_recipient_finished(relay->spool, message, outcomes[i].index,
                                 !is_wanted                          ? RECIPIENT_DELIVERED
                                 : outcomes[i].action == DSN_RELAYED ? RECIPIENT_TELL_RELAYED
                                                                     : RECIPIENT_TELL_DELIVERED);
        if (is_wanted && bounce != NULL) {
            bounce->outcomes[bounce->count++] = outcomes[i];
        }
    }
    if (bounce != NULL) {
        bounce_begin(bounce);
    }
    spool_message_release(relay->spool, message);
}

/* What is known of one that is to be told of. False: it is not. */
static bool outcome_of_state(enum recipient_state state, struct relay_outcome *outcome)
{
    const char *text = "";
    outcome->status = (struct smtp_status){2, 0, 0};
    switch (state) {
    case RECIPIENT_WAITING:
    case RECIPIENT_DELIVERED:
    case RECIPIENT_FAILED:
        return false;
    case RECIPIENT_TELL_DELIVERED:
        outcome->action = DSN_DELIVERED;
        text = "the answer is not known any more";
        break;
    case RECIPIENT_TELL_RELAYED:
        outcome->action = DSN_RELAYED;
        text = "the answer is not known any more";
        break;
    case RECIPIENT_TELL_EXPANDED:
        outcome->action = DSN_EXPANDED;
        text = "sent on to those that this address stands for";
        break;
    }
    snprintf(outcome->text, sizeof(outcome->text), "%s", text);
    return true;
}

void bounce_resume(struct relay *relay, struct message *message)
{
    struct relay_outcome outcome = {0};
    uint32_t count = 0;
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        count += outcome_of_state(message_recipient_state(message, i), &outcome);
    }
    struct bounce *bounce = count > 0 ? bounce_new(relay, message, count) : NULL;
    if (bounce == NULL) {
        return;
    }
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        outcome = (struct relay_outcome){.index = i};
        if (outcome_of_state(message_recipient_state(message, i), &outcome)) {
            bounce->outcomes[bounce->count++] = outcome;
        }
    }
    bounce_begin(bounce);
}

/* Without a word of the sender the operator decides (RFC 3461 §4.1). */
static bool delay_wanted(const struct relay *relay, const struct message *message, uint32_t index)
{
    uint8_t notify = message_notify(message, index);
    return !message_warned(message, index) && message_reverse_path(message).size > 0 &&
           (notify == 0 ? relay->conf->bounce.delay_warning > 0
                        : (notify & SPOOL_NOTIFY_DELAY) != 0);
}

void bounce_delayed(struct relay *relay, struct message *message, const uint32_t *indexes,
                    uint32_t count, struct slice reason, uint64_t until_ns)
{
    uint64_t now_ns = relay->shard->now_ns;
    uint32_t wanted = 0;
    for (uint32_t i = 0; i < count; i++) {
        wanted += delay_wanted(relay, message, indexes[i]);
    }
    struct bounce *bounce = wanted > 0 ? bounce_new(relay, message, wanted) : NULL;
    if (bounce == NULL) {
        return;
    }
    bounce->until_wall_s =
        bounce->now_wall_s + (int64_t)((until_ns > now_ns ? until_ns - now_ns : 0) / 1000000000ull);
    for (uint32_t i = 0; i < count; i++) {
        if (!delay_wanted(relay, message, indexes[i])) {
            continue;
        }
        struct relay_outcome *outcome = &bounce->outcomes[bounce->count++];
        *outcome =
            (struct relay_outcome){.index = indexes[i], .action = DSN_DELAYED, .status = {4, 4, 7}};
        snprintf(outcome->text, sizeof(outcome->text), "%.*s", (int)reason.size,
                 (const char *)reason.bytes);
        if (reason.size == 0) {
            snprintf(outcome->text, sizeof(outcome->text), "no answer of a server is known");
        }
    }
    bounce_begin(bounce);
}

/* A restart forgets the last answer, and mail of a suspended site may never have had one. */
void bounce_expired(struct relay_outcome *failure, uint32_t index, struct slice reason)
{
    *failure = (struct relay_outcome){.index = index, .status = {4, 4, 7}};
    if (reason.size == 0) {
        snprintf(failure->text, sizeof(failure->text),
                 "Not delivered in time; no answer of a server is known");
        return;
    }
    snprintf(failure->text, sizeof(failure->text),
             "Not delivered in time; the last answer was: %.*s", (int)reason.size,
             (const char *)reason.bytes);
}

/* ---- The end ---- */

void bounce_abandon_all(struct relay *relay)
{
    struct list_node waiting;
    list_init(&waiting);
    list_splice(&waiting, &relay->bounces);
    for (struct list_node *node; (node = list_pop(&waiting)) != NULL;) {
        struct bounce *bounce = list_entry(node, struct bounce, node);
        if (bounce->committing) {
            bounce->abandoned = true; /* bounce_durable frees it */
            continue;
        }
        bounce_report_leave(bounce);
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
