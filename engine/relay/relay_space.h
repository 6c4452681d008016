/*
 * relay_space: is there room for another message, on the disk and in memory? One a shard.
 *
 * Sessions ask at MAIL and when a body begins, and answer 452 4.3.1 before the log would have to
 * refuse. Reports to senders do not ask: they use the space between the two, and free more than they
 * take. Each mark is said once in the log when it is crossed, and once when that is over.
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct relay;

struct relay_space { /* the relay's; zeroed */
    bool disk_is_full, memory_is_full;
};

/* bytes: as MAIL announced it; 0: it did not. */
bool relay_has_room(const struct relay *relay, uint64_t bytes);
void relay_space_round(struct relay *relay);
/* Fill levels of this shard, for the operator. */
void relay_space_gauges(const struct relay *relay, json_t *gauges);
