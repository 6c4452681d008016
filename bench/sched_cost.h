/*
 * sched_cost: what the scheduler takes of a processor and of memory while millions of recipients wait.
 *
 * Deliveries of one recipient each, of ten thousand senders, for a thousand sites of which one in ten is dead: filed,
 * deferred, and then the traffic of the healthy sites beside them. One thread, nothing but the scheduler; time is
 * virtual to it, nanoseconds are those that our thread had a processor.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* count: recipients that wait; 0: ten million. Prints a table, or one JSON object. 0 or -errno. */
int sched_cost_run(uint64_t count, bool as_json);
