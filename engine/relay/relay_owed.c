#include "engine/relay/relay_owed.h"
#include "engine/relay/bounce.h"
#include <stdlib.h>

#define OWED_BATCH 64u
#define SEARCH_MOST 256u /* parts of the walk in one tick */
#define SEARCH_AFTER_NS (60ull * 1000000000ull)

static void owed_do(struct relay *relay, const struct relay_owed_entry *entry)
{
    struct message *message = entry->message;
    uint32_t index = entry->index;
    spool_message_hold(message);
    if (index == RELAY_OWED_TOLD) {
        bounce_resume(relay, message);
    } else {
        relay_file(relay, message, &index, 1, message->attempts); /* the routes may have changed */
    }
    spool_message_release(relay->spool, message);
}

static void entries_drop(struct relay *relay)
{
    struct relay_owed *owed = &relay->owed;
    free(owed->entries);
    owed->entries = NULL;
    owed->count = owed->room = owed->done = 0;
}

static void owed_run(struct timer *timer, uint64_t now_ns)
{
    struct relay_owed *owed = list_entry(timer, struct relay_owed, timer);
    struct relay *relay = list_entry(owed, struct relay, owed);
    for (unsigned i = 0; i < OWED_BATCH && owed->done < owed->count && !relay->draining; i++) {
        owed_do(relay, &owed->entries[owed->done++]);
    }
    if (owed->done < owed->count && !relay->draining) {
        wheel_arm(relay->shard->wheel, &owed->timer, now_ns + WHEEL_TICK_NS);
        return;
    }
    entries_drop(relay);
}

/* ---- Success that nobody was told of ---- */

struct search {
    struct relay *relay;
    struct message *found[OWED_BATCH];
    unsigned count;
};

static void search_visit(void *owner, struct message *message)
{
    struct search *search = owner;
    if (!bounce_is_owed(search->relay, message)) {
        return;
    }
    if (search->count == OWED_BATCH) {
        search->relay->owed.again = true;
        return;
    }
    spool_message_hold(message);
    search->found[search->count++] = message;
}

static void search_run(struct timer *timer, uint64_t now_ns)
{
    struct relay_owed *owed = list_entry(timer, struct relay_owed, search);
    struct relay *relay = list_entry(owed, struct relay, owed);
    struct search search = {.relay = relay};
    unsigned parts = 0;
    if (relay->draining) {
        owed->searches = false;
        return;
    }
    if (owed->starting) {
        wheel_arm(relay->shard->wheel, timer, now_ns + SEARCH_AFTER_NS);
        return;
    }
    do {
        owed->cursor = spool_walk(relay->spool, owed->cursor, search_visit, &search);
    } while (owed->cursor != 0 && search.count == 0 && ++parts < SEARCH_MOST);
    for (unsigned i = 0; i < search.count; i++) {
        bounce_resume(relay, search.found[i]);
        spool_message_release(relay->spool, search.found[i]);
    }
    owed->searches = owed->cursor != 0 || owed->again;
    if (owed->cursor != 0) {
        wheel_arm(relay->shard->wheel, timer, now_ns + WHEEL_TICK_NS);
    } else if (owed->again) {
        owed->again = false;
        wheel_arm(relay->shard->wheel, timer, now_ns + SEARCH_AFTER_NS);
    }
}

void relay_owed_later(struct relay *relay)
{
    struct relay_owed *owed = &relay->owed;
    logger_line(relay->logger, LOGGER_ERROR, "bounce: out of memory; a report is made later");
    if (owed->searches) {
        owed->again = true;
        return;
    }
    owed->searches = true;
    wheel_arm(relay->shard->wheel, &owed->search, relay->shard->now_ns + SEARCH_AFTER_NS);
}

/* ---- What a start finds ---- */

void relay_owed_init(struct relay *relay)
{
    relay->owed = (struct relay_owed){.starting = true};
    timer_init(&relay->owed.timer, owed_run);
    timer_init(&relay->owed.search, search_run);
}

void relay_owed_add(struct relay *relay, struct message *message, uint32_t index)
{
    struct relay_owed *owed = &relay->owed;
    if (owed->count == owed->room) {
        size_t room = owed->room * 2 + 64;
        struct relay_owed_entry *grown = realloc(owed->entries, room * sizeof(*grown));
        if (grown == NULL && index == RELAY_OWED_TOLD) {
            relay_owed_later(relay);
            return;
        }
        if (grown == NULL) {
            logger_line(relay->logger, LOGGER_ERROR,
                        "relay: out of memory; a report waits for a restart");
            return;
        }
        owed->entries = grown;
        owed->room = room;
    }
    owed->entries[owed->count++] = (struct relay_owed_entry){message, index};
}

void relay_owed_begin(struct relay *relay)
{
    relay->owed.starting = false;
    if (relay->owed.count > 0) {
        struct shard *shard = relay->shard;
        wheel_arm(shard->wheel, &relay->owed.timer, shard->now_ns + WHEEL_TICK_NS);
    }
}

void relay_owed_close(struct relay *relay)
{
    struct relay_owed *owed = &relay->owed;
    if (owed->count > 0 && !owed->starting) {
        wheel_disarm(relay->shard->wheel, &owed->timer);
    }
    wheel_disarm(relay->shard->wheel, &owed->search);
    owed->searches = false;
    entries_drop(relay);
}
