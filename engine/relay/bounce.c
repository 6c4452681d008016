#include "engine/relay/bounce_private.h"
#include "engine/relay/relay_owed.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void bounce_free(struct bounce *bounce)
{
    struct relay *relay = bounce->relay;
    wheel_disarm(relay->shard->wheel, &bounce->retry);
    list_remove(&bounce->node);
    spool_message_release(relay->spool, bounce->message);
    rewrite_job_end(&bounce->whom);
    free(bounce->postmaster);
    free(bounce);
}

static void bounce_retry(struct timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    bounce_report_write(list_entry(timer, struct bounce, retry));
}

/* ---- When it is durable ---- */

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
                bounce->cuts ? "sent again without the message, as 8-bit text is not taken"
                : bounce->postmaster != NULL ? "postmaster non-delivery notification"
                : action == DSN_FAILED       ? "sender non-delivery notification"
                : action == DSN_DELAYED      ? "sender delay notification"
                                             : "sender delivery status notification",
                report_id);
}

static void bounce_durable(struct spool_waiter *waiter, int status)
{
    struct bounce *bounce = list_entry(waiter, struct bounce, durable);
    struct relay *relay = bounce->relay;
    struct message *report = bounce->report;
    if (status < 0) {
        if (bounce->abandoned) {
            bounce_free(bounce);
        } else {
            bounce_report_again(bounce);
        }
        return;
    }
    switch ((enum dsn_action)bounce->outcomes[0].action) {
    case DSN_FAILED:
        relay->counters.bounces += !bounce->cuts;
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
    bounce_free(bounce);
    relay_schedule(relay, report);
}

/* ---- Who is told ---- */

/* Reports on one message, as many as its outcomes need. */
struct telling {
    struct relay *relay;
    struct message *message;
    struct list_node reports; /* the last has room, while there is any */
};

/* Holds the message. NULL: no memory. */
static struct bounce *bounce_new(const struct telling *telling, const char *postmaster,
                                 uint32_t room)
{
    struct relay *relay = telling->relay;
    struct bounce *bounce = calloc(1, sizeof(*bounce) + room * sizeof(bounce->outcomes[0]));
    char *copy = bounce != NULL && postmaster != NULL ? strdup(postmaster) : NULL;
    if (bounce == NULL || (postmaster != NULL && copy == NULL)) {
        free(bounce);
        return NULL;
    }
    bounce->relay = relay;
    bounce->message = telling->message;
    bounce->postmaster = copy;
    bounce->room = room;
    bounce->durable.done = bounce_durable;
    bounce->now_wall_s = world_wall_s(relay->shard->world);
    world_random(relay->shard->world, bounce->random, sizeof(bounce->random));
    timer_init(&bounce->retry, bounce_retry);
    list_init(&bounce->node);
    spool_message_hold(telling->message);
    return bounce;
}

static void telling_drop(struct telling *telling)
{
    for (struct list_node *node; (node = list_pop(&telling->reports)) != NULL;) {
        bounce_free(list_entry(node, struct bounce, node));
    }
}

/* All the memory that it needs, before anything is changed. -ENOMEM: none is taken. */
static int telling_open(struct telling *telling, struct relay *relay, struct message *message,
                        const char *postmaster, uint32_t count)
{
    *telling = (struct telling){.relay = relay, .message = message};
    list_init(&telling->reports);
    for (uint32_t room; count > 0; count -= room) {
        room = count < BOUNCE_RECIPIENTS_MAX ? count : BOUNCE_RECIPIENTS_MAX;
        struct bounce *bounce = bounce_new(telling, postmaster, room);
        if (bounce == NULL) {
            telling_drop(telling);
            return -ENOMEM;
        }
        list_append(&telling->reports, &bounce->node);
    }
    return 0;
}

/* The place of one more outcome. */
static struct relay_outcome *telling_add(struct telling *telling)
{
    struct bounce *bounce = list_entry(telling->reports.next, struct bounce, node);
    if (bounce->count == bounce->room) { /* the next of them has its turn */
        list_remove(&bounce->node);
        list_append(&telling->reports, &bounce->node);
        bounce = list_entry(telling->reports.next, struct bounce, node);
    }
    check(bounce->count < bounce->room);
    return &bounce->outcomes[bounce->count++];
}

/* While the relay ends nothing is begun: what is to be told is in the spool, for the next start. */
static void telling_begin(struct telling *telling)
{
    struct relay *relay = telling->relay;
    if (relay->draining) {
        telling_drop(telling);
        return;
    }
    for (struct list_node *node; (node = list_pop(&telling->reports)) != NULL;) {
        list_append(&relay->bounces, node);
        bounce_report_write(list_entry(node, struct bounce, node));
    }
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
                              const struct relay_outcome *failure, const char *fate)
{
    char id[MESSAGE_ID_TEXT];
    message_id_format(message->id, id);
    struct slice path = message_forward_path(message, failure->index);
    relay->counters.double_bounces++;
    logger_line(relay->logger, LOGGER_WARNING, "bounce: %s: double bounce, %s: to=<%.*s> (%s)", id,
                fate, (int)path.size, (const char *)path.bytes, failure->text);
}

/* What a failure leads to. */
enum fate { FATE_FINISHED, FATE_TOLD, FATE_CUT, FATE_COUNT };

/* RFC 3463 §3.7: X.6.Y, of what the message holds. Only a report with all of an original needs 8BITMIME. */
static bool may_cut(const struct message *message, const struct relay_outcome *failure)
{
    uint32_t mine = SPOOL_BOUNCE | SPOOL_8BITMIME;
    return (message_flags(message) & (mine | SPOOL_SMTPUTF8)) == mine &&
           failure->status.subject == 6;
}

static enum fate fate_of(const struct relay *relay, const struct message *message,
                         const struct relay_outcome *failure)
{
    bool is_double = message_reverse_path(message).size == 0;
    if (is_double && may_cut(message, failure)) {
        return FATE_CUT;
    }
    bool is_told =
        is_double ? postmaster_wants(relay, message) : failure_wanted(message, failure->index);
    return is_told ? FATE_TOLD : FATE_FINISHED;
}

/* 0; -ENOMEM: none is open. */
static int tellings_open(struct telling tellings[FATE_COUNT], struct relay *relay,
                         struct message *message, const struct relay_outcome *failures,
                         uint32_t count)
{
    bool is_double = message_reverse_path(message).size == 0;
    const char *postmaster = is_double ? relay->conf->bounce.postmaster : NULL;
    uint32_t counts[FATE_COUNT] = {0};
    for (uint32_t i = 0; i < count; i++) {
        counts[fate_of(relay, message, &failures[i])]++;
    }
    if (telling_open(&tellings[FATE_TOLD], relay, message, postmaster, counts[FATE_TOLD]) < 0) {
        return -ENOMEM;
    }
    if (telling_open(&tellings[FATE_CUT], relay, message, NULL, counts[FATE_CUT]) < 0) {
        telling_drop(&tellings[FATE_TOLD]);
        return -ENOMEM;
    }
    struct list_node *cuts = &tellings[FATE_CUT].reports;
    for (struct list_node *node = cuts->next; node != cuts; node = node->next) {
        list_entry(node, struct bounce, node)->cuts = true;
    }
    return 0;
}

int bounce_send(struct relay *relay, struct message *message, const struct relay_outcome *failures,
                uint32_t count)
{
    struct telling tellings[FATE_COUNT];
    if (tellings_open(tellings, relay, message, failures, count) < 0) {
        return -ENOMEM;
    }
    spool_message_hold(message);
    for (uint32_t i = 0; i < count; i++) {
        enum fate fate = fate_of(relay, message, &failures[i]);
        relay->counters.failed += fate != FATE_CUT;
        if (fate != FATE_CUT && message_reverse_path(message).size == 0) {
            double_bounce_log(relay, message, &failures[i],
                              fate == FATE_TOLD ? "reported to the postmaster" : "dropped");
        }
        if (fate == FATE_FINISHED) {
            spool_recipient_finished(relay->spool, message, failures[i].index, RECIPIENT_FAILED);
        } else {
            *telling_add(&tellings[fate]) = failures[i];
        }
    }
    telling_begin(&tellings[FATE_TOLD]);
    telling_begin(&tellings[FATE_CUT]);
    spool_message_release(relay->spool, message);
    return 0;
}

void bounce_cut_failed(struct bounce *bounce)
{
    struct relay *relay = bounce->relay;
    bounce_report_leave(bounce);
    relay->counters.failed += bounce->count;
    for (uint32_t i = 0; i < bounce->count; i++) {
        double_bounce_log(relay, bounce->message, &bounce->outcomes[i], "dropped");
    }
    outcomes_finish(relay, bounce);
    bounce_free(bounce);
}

bool bounce_success_wanted(const struct message *message, uint32_t index)
{
    return (message_notify(message, index) & SPOOL_NOTIFY_SUCCESS) != 0 &&
           message_reverse_path(message).size > 0;
}

static enum recipient_state state_of_served(uint8_t action)
{
    return action == DSN_RELAYED ? RECIPIENT_TELL_RELAYED : RECIPIENT_TELL_DELIVERED;
}

void bounce_owe(struct relay *relay, struct message *message, uint32_t index,
                enum dsn_action action)
{
    spool_recipient_finished(relay->spool, message, index, state_of_served((uint8_t)action));
    relay_owed_later(relay);
}

void bounce_served(struct relay *relay, struct message *message,
                   const struct relay_outcome *outcomes, uint32_t count)
{
    struct telling telling;
    uint32_t wanted = 0;
    for (uint32_t i = 0; i < count; i++) {
        wanted += bounce_success_wanted(message, outcomes[i].index);
    }
    bool has_memory = telling_open(&telling, relay, message, NULL, wanted) == 0;
    if (!has_memory) {
        relay_owed_later(relay);
    }
    spool_message_hold(message);
    for (uint32_t i = 0; i < count; i++) {
        bool is_wanted = bounce_success_wanted(message, outcomes[i].index);
        spool_recipient_finished(relay->spool, message, outcomes[i].index,
                                 is_wanted ? state_of_served(outcomes[i].action)
                                           : RECIPIENT_DELIVERED);
        if (is_wanted && has_memory) {
            *telling_add(&telling) = outcomes[i];
        }
    }
    telling_begin(&telling);
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
    case RECIPIENT_TELL_LISTED: /* RFC 3461 §5.2.7.1: that is its delivery */
        outcome->action = DSN_DELIVERED;
        text = "given to the mailing list";
        break;
    }
    snprintf(outcome->text, sizeof(outcome->text), "%s", text);
    return true;
}

bool bounce_is_owed(const struct relay *relay, const struct message *message)
{
    struct relay_outcome outcome;
    uint32_t i = 0;
    while (i < message->recipient_count &&
           !outcome_of_state(message_recipient_state(message, i), &outcome)) {
        i++;
    }
    bool is_owed = i < message->recipient_count;
    const struct list_node *node = relay->bounces.next;
    for (; is_owed && node != &relay->bounces; node = node->next) {
        is_owed = list_entry(node, struct bounce, node)->message != message;
    }
    return is_owed;
}

void bounce_resume(struct relay *relay, struct message *message)
{
    bool has_sender = message_reverse_path(message).size > 0;
    struct relay_outcome outcome;
    struct telling telling;
    uint32_t count = 0;
    for (uint32_t i = 0; i < message->recipient_count && has_sender; i++) {
        count += outcome_of_state(message_recipient_state(message, i), &outcome);
    }
    if (telling_open(&telling, relay, message, NULL, count) < 0) {
        relay_owed_later(relay);
        return;
    }
    spool_message_hold(message);
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        outcome = (struct relay_outcome){.index = i};
        if (!outcome_of_state(message_recipient_state(message, i), &outcome)) {
            continue;
        }
        if (has_sender) {
            *telling_add(&telling) = outcome;
        } else { /* there is nobody who could be told */
            spool_recipient_finished(relay->spool, message, i, RECIPIENT_DELIVERED);
        }
    }
    telling_begin(&telling);
    spool_message_release(relay->spool, message);
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
    uint64_t left_s = (until_ns > now_ns ? until_ns - now_ns : 0) / 1000000000ull;
    struct telling telling;
    uint32_t wanted = 0;
    for (uint32_t i = 0; i < count; i++) {
        wanted += delay_wanted(relay, message, indexes[i]);
    }
    if (telling_open(&telling, relay, message, NULL, wanted) < 0) {
        logger_line(relay->logger, LOGGER_ERROR,
                    "bounce: out of memory; a sender is not told of a delay");
        return;
    }
    for (struct list_node *node = telling.reports.next; node != &telling.reports;
         node = node->next) {
        struct bounce *bounce = list_entry(node, struct bounce, node);
        bounce->until_wall_s = bounce->now_wall_s + (int64_t)left_s;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!delay_wanted(relay, message, indexes[i])) {
            continue;
        }
        struct relay_outcome *outcome = telling_add(&telling);
        *outcome =
            (struct relay_outcome){.index = indexes[i], .action = DSN_DELAYED, .status = {4, 4, 7}};
        snprintf(outcome->text, sizeof(outcome->text), "%.*s", (int)reason.size,
                 (const char *)reason.bytes);
        if (reason.size == 0) {
            snprintf(outcome->text, sizeof(outcome->text), "no answer of a server is known");
        }
    }
    telling_begin(&telling);
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

void bounce_reload(struct relay *relay)
{
    struct list_node *next;
    for (struct list_node *node = relay->bounces.next; node != &relay->bounces; node = next) {
        next = node->next;
        bounce_report_reload(list_entry(node, struct bounce, node));
    }
}

void bounce_abandon_all(struct relay *relay)
{
    struct list_node waiting;
    list_init(&waiting);
    list_splice(&waiting, &relay->bounces);
    for (struct list_node *node; (node = list_pop(&waiting)) != NULL;) {
        struct bounce *bounce = list_entry(node, struct bounce, node);
        if (bounce->phase == BOUNCE_COMMITS) {
            bounce->abandoned = true; /* bounce_durable frees it */
            continue;
        }
        bounce_report_leave(bounce);
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
