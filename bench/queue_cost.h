/*
 * queue_cost: what a queue costs: memory of each recipient that waits, and the time of a restart.
 *
 * A log, a spool and a scheduler as a shard has them, on a real disk, filled with messages of one
 * recipient each, for a thousand sites; then closed, and opened again until every recipient is filed
 * under its site. Resident memory is the kernel's figure.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct queue_cost_settings {
    const char *folder; /* must exist; what is in it of an earlier run is queued too */
    uint64_t count;     /* messages */
    uint32_t body_bytes;
};

/* Prints a table, or one JSON object. 0 or -errno. */
int queue_cost_run(const struct queue_cost_settings *settings, bool as_json);
