/*
 * wheel: hierarchical timer wheel, one per shard. 1 ms ticks, any horizon.
 *
 * A timer is inside the object it belongs to and costs nothing while idle. Timers never fire
 * early and at most one tick late when wheel_run is called often enough. `fire` runs from
 * wheel_run only, may arm and disarm any timer, and may free the object the timer is in.
 *
 * Deadlines that move often (retransmission) are kept by the owner; the timer is left where it is
 * and checked when it fires.
 */
#pragma once
#include "engine/core/list.h"
#include <stdint.h>

#define WHEEL_TICK_NS 1000000ull
#define WHEEL_NEVER UINT64_MAX

struct timer {
    struct list_node node;
    uint64_t due_ns;
    void (*fire)(struct timer *timer, uint64_t now_ns);
};

struct wheel;

/* Owned by the caller until wheel_close. NULL when memory is short. */
struct wheel *wheel_open(uint64_t now_ns);
void wheel_close(struct wheel *wheel); /* armed timers are unlinked, not fired */

void timer_init(struct timer *timer, void (*fire)(struct timer *, uint64_t now_ns));
static inline int timer_armed(const struct timer *timer)
{
    return !list_empty(&timer->node);
}
void wheel_arm(struct wheel *wheel, struct timer *timer,
               uint64_t due_ns); /* moves it when armed; WHEEL_NEVER disarms */
void wheel_disarm(struct wheel *wheel, struct timer *timer);

/* Fires what is due; returns how many. */
unsigned wheel_run(struct wheel *wheel, uint64_t now_ns);
/* No timer fires before this time (it may be earlier than the first due); WHEEL_NEVER when none is armed. */
uint64_t wheel_next_ns(const struct wheel *wheel);
