/*
 * cost: what the stack itself takes of a processor, without any driver: two stacks in one thread, a wire that passes
 * buffers as they are, a clock that the measurement moves.
 *
 * Cycles are those of the time-stamp counter while one stack's part of a round runs (poll, timers, flush, and the
 * plain sessions of exchange.h on top), for a receiver of bulk data, its sender, both ends of small exchanges, and a
 * stack with nothing but idle connections.
 */
#pragma once
#include <stdbool.h>

/* Prints a table, or one JSON object. 0 or -errno. */
int cost_run(bool as_json);
