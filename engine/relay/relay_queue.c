#include "engine/relay/relay_queue.h"
#include "engine/relay/bounce.h"
#include "engine/relay/relay_parking.h"
#include "queue/sched/operator.h"
#include <stdio.h>
#include <stdlib.h>

static void tally_add(uint64_t *counter, uint64_t more)
{
    __atomic_store_n(counter, *counter + more, __ATOMIC_RELAXED);
}

static const char *lobby_name(const struct relay_site *site)
{
    if (site->route == &site->relay->conf->route_standard) {
        return "transport_maps"; /* it waits for what they say */
    }
    switch ((enum conf_via)site->route->via) {
    case CONF_VIA_DISCARD:
        return "discard";
    case CONF_VIA_ERROR:
        return "error";
    case CONF_VIA_MX:
    case CONF_VIA_SMTP:
    case CONF_VIA_LMTP:
        break;
    }
    return "dns"; /* it waits for an answer */
}

struct slice relay_site_name(struct relay_site *site)
{
    char text[ENDPOINT_TEXT_MAX] = "";
    if (site->route == NULL && site->name == NULL) {
        return slice_text(""); /* of a former configuration: it is being emptied */
    }
    if (site->name == NULL && site->destination != NULL && site->destination->host_count > 0) {
        site->name = strdup(site->destination->hosts[0].name);
    } else if (site->name == NULL && site->route->to_count > 0) {
        endpoint_format(&site->route->to[0], text);
        site->name = strdup(text);
    } else if (site->name == NULL) {
        site->name = strdup(lobby_name(site));
    }
    return slice_text(site->name != NULL ? site->name : "");
}

/* ---- What is known of recipients ---- */

void relay_queue_facts(struct relay *relay, const struct message *message, uint32_t from,
                       uint32_t count, struct queue_facts *facts)
{
    (void)relay;
    for (const struct sched_delivery *delivery = message->owner; delivery != NULL;
         delivery = sched_next_of_message(delivery)) {
        struct sched_view view;
        sched_view_delivery(delivery, &view);
        const struct queue_facts known = {
            .site = relay_site_name(sched_site_owner(sched_site_of(delivery))),
            .reason = view.reason,
            .deferred = (view.attempts > 0 || view.reason.size > 0) && !view.active,
        };
        const uint32_t *indexes = sched_indexes(delivery);
        for (uint32_t i = 0; i < delivery->count; i++) {
            if (indexes[i] >= from && indexes[i] - from < count) {
                facts[indexes[i] - from] = known;
            }
        }
    }
}

/* Its turn may not have come yet, and it waits for its next attempt or in its site: it will be suspended then. */
static void view_suspended(struct relay *relay, const struct message *message, uint32_t index,
                           struct relay_recipient_view *view)
{
    uint64_t now_ns = relay->shard->now_ns, until_ns = relay_parking_until(relay, message, index);
    if (until_ns > now_ns && view->filed && !view->active) {
        uint64_t left_s = (until_ns - now_ns) / 1000000000ull;
        view->suspended = true;
        view->next_attempt_s = view->next_attempt_s > left_s ? view->next_attempt_s : left_s;
    }
}

void relay_queue_view(struct relay *relay, const struct message *message, uint32_t from,
                      uint32_t count, struct relay_recipient_view *views)
{
    uint64_t now_ns = relay->shard->now_ns;
    for (uint32_t i = 0; i < count; i++) {
        views[i] = (struct relay_recipient_view){.found = relay->owed.starting};
    }
    for (const struct sched_delivery *delivery = message->owner; delivery != NULL;
         delivery = sched_next_of_message(delivery)) {
        struct sched_view found;
        sched_view_delivery(delivery, &found);
        bool never = found.next_attempt_ns == SCHED_NEVER;
        uint64_t due_ns =
            !never && found.next_attempt_ns > now_ns ? found.next_attempt_ns - now_ns : 0;
        const struct relay_recipient_view view = {
            .filed = true,
            .active = found.active,
            .held = found.held,
            .suspended = found.suspended,
            .never = never,
            .attempts = found.attempts,
            .reason = found.reason,
            .site = relay_site_name(sched_site_owner(sched_site_of(delivery))),
            .next_attempt_s = due_ns / 1000000000ull,
        };
        const uint32_t *indexes = sched_indexes(delivery);
        for (uint32_t i = 0; i < delivery->count; i++) {
            if (indexes[i] >= from && indexes[i] - from < count) {
                views[indexes[i] - from] = view;
                view_suspended(relay, message, indexes[i], &views[indexes[i] - from]);
            }
        }
    }
}

/* ---- Taking recipients out of the scheduler ---- */

enum where { ELSEWHERE, TAKEN }; /* under way, or its report is being written */

/* The place of a recipient in the group, or the group's count: it is not meant. */
static uint32_t place_of(const struct queue_group *group, uint32_t index)
{
    uint32_t low = 0, high = group->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (group->indexes[middle] < index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < group->count && group->indexes[low] == index ? low : group->count;
}

bool queue_group_has(const struct queue_group *group, uint32_t index)
{
    return place_of(group, index) < group->count;
}

void relay_queue_count(struct relay_queue_tally *tally, uint64_t done, uint64_t busy)
{
    tally_add(&tally->done, done);
    tally_add(&tally->busy, busy);
}

/* Those of the group leave this delivery, unless it is under way. */
static void withdraw(struct sched_delivery *delivery, const struct queue_group *group,
                     uint8_t *where, uint32_t *keep)
{
    const uint32_t *indexes = sched_indexes(delivery);
    uint32_t count = delivery->count, kept = 0;
    if (delivery->state == SCHED_ACTIVE) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t place = place_of(group, indexes[i]);
        if (place == group->count) {
            keep[kept++] = indexes[i];
        } else {
            where[place] = TAKEN;
        }
    }
    if (kept < count) {
        struct relay_site *site = sched_site_owner(sched_site_of(delivery));
        int status = sched_withdraw(delivery, keep, kept);
        check(status == 0);
        relay_site_touch(site);
    }
}

/* The recipients of the group that are ours now; the caller frees them. The others are busy. NULL with
 * *count 0: none, or memory is short. */
static uint32_t *take(const struct queue_group *group, struct relay_queue_tally *tally,
                      uint32_t *count)
{
    struct message *message = group->message;
    uint32_t *taken = calloc(group->count, sizeof(*taken) + 1);
    uint32_t *keep = calloc(message->recipient_count, sizeof(*keep));
    uint8_t *where = taken != NULL ? (uint8_t *)(taken + group->count) : NULL;
    *count = 0;
    if (taken == NULL || keep == NULL) {
        free(taken);
        free(keep);
        tally_add(&tally->busy, group->count);
        return NULL;
    }
    for (struct sched_delivery *delivery = message->owner, *next; delivery != NULL;
         delivery = next) {
        next = sched_next_of_message(delivery);
        withdraw(delivery, group, where, keep);
    }
    free(keep);
    for (uint32_t i = 0; i < group->count; i++) {
        if (where[i] == TAKEN) {
            taken[(*count)++] = group->indexes[i];
        }
    }
    tally_add(&tally->busy, group->count - *count);
    tally_add(&tally->done, *count);
    return taken;
}

uint8_t relay_queue_priority(const struct relay *relay, const struct message *message)
{
    uint32_t marks = (message_flags(message) & SPOOL_MARKS) >> SPOOL_MARKS_SHIFT;
    return relay_conf_priority(relay->conf, message_reverse_path(message),
                               (uint8_t)(marks ^ CONF_PRIORITY_NORMAL));
}

uint32_t relay_queue_priority_marks(uint8_t priority)
{
    return (uint32_t)(priority ^ CONF_PRIORITY_NORMAL) << SPOOL_MARKS_SHIFT;
}

/* ---- For good ---- */

void relay_queue_delete(struct relay *relay, const struct queue_group *group,
                        struct relay_queue_tally *tally)
{
    struct message *message = group->message;
    char id[MESSAGE_ID_TEXT];
    uint32_t count;
    uint32_t *taken = take(group, tally, &count);
    message_id_format(message->id, id);
    if (count == message->waiting_count) {
        logger_line(relay->logger, LOGGER_INFO, "queue: %s: removed", id);
    } else if (count > 0) {
        logger_line(relay->logger, LOGGER_INFO, "queue: %s: removed %u of %u recipients", id, count,
                    message->waiting_count);
    }
    spool_message_hold(message);
    for (uint32_t i = 0; i < count; i++) {
        spool_recipient_finished(relay->spool, message, taken[i], RECIPIENT_FAILED);
    }
    spool_message_release(relay->spool, message);
    free(taken);
}

bool relay_queue_may_bounce(const struct relay *relay)
{
    return bounce_count(relay) < RELAY_QUEUE_BOUNCES_MAX;
}

static void bounce_log(struct relay *relay, const struct message *message, uint32_t index,
                       const char *text)
{
    char id[MESSAGE_ID_TEXT];
    struct slice path = message_forward_path(message, index);
    message_id_format(message->id, id);
    logger_line(relay->logger, LOGGER_INFO,
                "queue: %s: to=<%.*s>, relay=none, dsn=5.7.0, status=bounced (%s)", id,
                (int)path.size, (const char *)path.bytes, text);
}

void relay_queue_bounce(struct relay *relay, const struct queue_group *group, const char *text,
                        struct relay_queue_tally *tally)
{
    struct message *message = group->message;
    struct relay_outcome *failures = calloc(group->count, sizeof(*failures));
    uint32_t count = 0;
    if (failures == NULL) {
        tally_add(&tally->busy, group->count);
        return;
    }
    uint32_t *taken = take(group, tally, &count);
    for (uint32_t i = 0; i < count; i++) {
        failures[i].index = taken[i];
        failures[i].status = (struct smtp_status){5, 7, 0};
        snprintf(failures[i].text, sizeof(failures[i].text), "%s", text);
        bounce_log(relay, message, taken[i], text);
    }
    if (count > 0) {
        spool_message_hold(message);
        if (bounce_send(relay, message, failures, count) < 0) {
            logger_line(relay->logger, LOGGER_ERROR, "queue: out of memory; not bounced");
            relay_file(relay, message, taken, count, message->attempts);
        }
        spool_message_release(relay->spool, message);
    }
    free(taken);
    free(failures);
}

/* ---- Flush: tried at once ---- */

void relay_queue_flush(struct relay *relay, const struct queue_group *group,
                       struct relay_queue_tally *tally)
{
    uint32_t done = 0;
    (void)relay;
    if ((message_flags(group->message) & SPOOL_HELD) != 0) {
        return; /* it is to be released first */
    }
    for (struct sched_delivery *delivery = group->message->owner; delivery != NULL;
         delivery = sched_next_of_message(delivery)) {
        const uint32_t *indexes = sched_indexes(delivery);
        uint32_t meant = 0;
        for (uint32_t i = 0; i < delivery->count; i++) {
            meant += place_of(group, indexes[i]) < group->count;
        }
        if (meant > 0 && sched_hurry(delivery) == 0) {
            relay_site_touch(sched_site_owner(sched_site_of(delivery)));
            done += meant;
        }
    }
    tally_add(&tally->done, done);
    tally_add(&tally->busy, group->count - done);
}

uint64_t relay_queue_flush_all(struct relay *relay)
{
    relay_flush_queue(relay);
    return sched_recipient_count(relay->sched);
}

static void sites_touch(const struct message *message)
{
    for (const struct sched_delivery *delivery = message->owner; delivery != NULL;
         delivery = sched_next_of_message(delivery)) {
        relay_site_touch(sched_site_owner(sched_site_of(delivery)));
    }
}

static void hold_log(struct relay *relay, const struct message *message, const char *what)
{
    char id[MESSAGE_ID_TEXT];
    message_id_format(message->id, id);
    logger_line(relay->logger, LOGGER_INFO, "queue: %s: %s", id, what);
}

void relay_queue_hold(struct relay *relay, const struct queue_group *group,
                      struct relay_queue_tally *tally)
{
    struct message *message = group->message;
    if ((message_flags(message) & SPOOL_HELD) != 0) {
        return;
    }
    sched_hold(message);
    spool_note_held(relay->spool, message, SPOOL_HELD);
    tally_add(&tally->done, message->waiting_count);
    hold_log(relay, message, "placed on hold");
    sites_touch(message);
}

void relay_queue_release(struct relay *relay, const struct queue_group *group,
                         struct relay_queue_tally *tally)
{
    struct message *message = group->message;
    if ((message_flags(message) & SPOOL_HELD) == 0) {
        return;
    }
    sched_release(message, relay->shard->now_ns);
    spool_note_held(relay->spool, message, 0);
    tally_add(&tally->done, message->waiting_count);
    hold_log(relay, message, "released from hold");
    sites_touch(message);
}
