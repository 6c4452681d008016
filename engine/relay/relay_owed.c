#include "engine/relay/relay_owed.h"
#include "engine/relay/bounce.h"
#include <stdlib.h>

#define OWED_BATCH 64u

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
    relay_owed_close(relay);
}

void relay_owed_init(struct relay *relay)
{
    relay->owed = (struct relay_owed){.starting = true};
    timer_init(&relay->owed.timer, owed_run);
}

void relay_owed_add(struct relay *relay, struct message *message, uint32_t index)
{
    struct relay_owed *owed = &relay->owed;
    if (owed->count == owed->room) {
        size_t room = owed->room * 2 + 64;
        struct relay_owed_entry *grown = realloc(owed->entries, room * sizeof(*grown));
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
    free(owed->entries);
    owed->entries = NULL;
    owed->count = owed->room = owed->done = 0;
}
