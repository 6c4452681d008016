#include "engine/core/wheel.h"
#include "engine/core/check.h"
#include <stdlib.h>

/*
 * Eight levels of 64 slots are 2^48 ticks, more than 64 bits of nanoseconds hold. A tick number is
 * read as digits of 6 bits. A timer lies at the level of the highest digit in which its tick
 * differs from the wheel's, in the slot of that digit. So everything at a level is due before
 * anything at a higher one, slots before the wheel's own digit are empty, and the next thing to do
 * is the first occupied slot of the lowest level that has any: time without timers costs nothing.
 */
#define DIGIT_BITS 6
#define SLOTS 64
#define LEVELS 8

struct wheel {
    uint64_t tick;             /* all timers up to it have been handed to fire */
    uint64_t occupied[LEVELS]; /* one bit a slot */
    struct list_node overdue;  /* armed for a time that is over; fire at the next run */
    struct list_node firing;   /* of the slot that is being run */
    struct list_node slots[LEVELS][SLOTS];
};

static uint64_t tick_at_or_after(uint64_t ns)
{
    return ns / WHEEL_TICK_NS + (ns % WHEEL_TICK_NS != 0);
}

struct wheel *wheel_open(uint64_t now_ns)
{
    struct wheel *wheel = calloc(1, sizeof(*wheel));
    if (wheel == NULL) {
        return NULL;
    }
    wheel->tick = now_ns / WHEEL_TICK_NS;
    list_init(&wheel->overdue);
    list_init(&wheel->firing);
    for (unsigned level = 0; level < LEVELS; level++) {
        for (unsigned slot = 0; slot < SLOTS; slot++) {
            list_init(&wheel->slots[level][slot]);
        }
    }
    return wheel;
}

static void unlink_all(struct list_node *head)
{
    while (list_pop(head) != NULL) {
    }
}

void wheel_close(struct wheel *wheel)
{
    if (wheel == NULL) {
        return;
    }
    unlink_all(&wheel->overdue);
    unlink_all(&wheel->firing);
    for (unsigned level = 0; level < LEVELS; level++) {
        for (unsigned slot = 0; slot < SLOTS; slot++) {
            unlink_all(&wheel->slots[level][slot]);
        }
    }
    free(wheel);
}

void timer_init(struct timer *timer, void (*fire)(struct timer *, uint64_t now_ns))
{
    list_init(&timer->node);
    timer->due_ns = WHEEL_NEVER;
    timer->fire = fire;
}

static void place(struct wheel *wheel, struct timer *timer)
{
    uint64_t due_tick = tick_at_or_after(timer->due_ns);
    if (due_tick <= wheel->tick) {
        list_append(&wheel->overdue, &timer->node);
        return;
    }
    unsigned level = (63 - (unsigned)__builtin_clzll(due_tick ^ wheel->tick)) / DIGIT_BITS;
    unsigned slot = (due_tick >> (level * DIGIT_BITS)) % SLOTS;
    list_append(&wheel->slots[level][slot], &timer->node);
    wheel->occupied[level] |= UINT64_C(1) << slot;
}

void wheel_disarm(struct wheel *wheel, struct timer *timer)
{
    struct list_node *head = timer->node.next;
    bool alone = head == timer->node.prev;
    list_remove(&timer->node);
    struct list_node *first = &wheel->slots[0][0];
    if (alone && head >= first && head < first + LEVELS * SLOTS) {
        size_t index = (size_t)(head - first);
        wheel->occupied[index / SLOTS] &= ~(UINT64_C(1) << index % SLOTS);
    }
}

void wheel_arm(struct wheel *wheel, struct timer *timer, uint64_t due_ns)
{
    check(timer->fire != NULL);
    wheel_disarm(wheel, timer);
    timer->due_ns = due_ns;
    if (due_ns != WHEEL_NEVER) {
        place(wheel, timer);
    }
}

/* The first occupied slot: its tick, and where it is. False when no slot holds a timer. */
static bool next_slot(const struct wheel *wheel, unsigned *level, unsigned *slot, uint64_t *tick)
{
    for (unsigned l = 0; l < LEVELS; l++) {
        if (wheel->occupied[l] != 0) {
            unsigned shift = l * DIGIT_BITS;
            uint64_t above = wheel->tick >> shift >> DIGIT_BITS << DIGIT_BITS;
            *level = l;
            *slot = (unsigned)__builtin_ctzll(wheel->occupied[l]);
            *tick = (above | *slot) << shift;
            return true;
        }
    }
    return false;
}

static unsigned fire_all(struct wheel *wheel, uint64_t now_ns)
{
    unsigned fired = 0;
    struct list_node *node;
    while ((node = list_pop(&wheel->firing)) != NULL) {
        struct timer *timer = list_entry(node, struct timer, node);
        fired++;
        timer->fire(timer, now_ns);
    }
    return fired;
}

unsigned wheel_run(struct wheel *wheel, uint64_t now_ns)
{
    uint64_t now_tick = now_ns / WHEEL_TICK_NS;
    list_splice(&wheel->firing, &wheel->overdue);
    unsigned fired = fire_all(wheel, now_ns);

    unsigned level, slot;
    uint64_t tick;
    while (next_slot(wheel, &level, &slot, &tick) && tick <= now_tick) {
        check(tick > wheel->tick);
        wheel->tick = tick;
        wheel->occupied[level] &= ~(UINT64_C(1) << slot);
        struct list_node arrived;
        list_init(&arrived);
        list_splice(&arrived, &wheel->slots[level][slot]);
        struct list_node *node;
        while ((node = list_pop(&arrived)) != NULL) {
            struct timer *timer = list_entry(node, struct timer, node);
            if (tick_at_or_after(timer->due_ns) <= tick) {
                list_append(&wheel->firing, node);
            } else {
                place(wheel, timer);
            }
        }
        fired += fire_all(wheel, now_ns);
    }
    if (now_tick > wheel->tick) {
        wheel->tick = now_tick;
    }
    return fired;
}

uint64_t wheel_next_ns(const struct wheel *wheel)
{
    if (!list_empty(&wheel->overdue)) {
        return wheel->tick * WHEEL_TICK_NS;
    }
    unsigned level, slot;
    uint64_t tick;
    if (!next_slot(wheel, &level, &slot, &tick)) {
        return WHEEL_NEVER;
    }
    return tick > WHEEL_NEVER / WHEEL_TICK_NS ? WHEEL_NEVER : tick * WHEEL_TICK_NS;
}
