/*
 * world: what a shard is handed instead of reaching for it.
 *
 * Production, tests and the simulator fill it differently. Nothing below main reads a clock or a
 * random source in any other way.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct world {
    uint64_t (*now_ns)(void *self); /* monotonic; the loop reads it once a round */
    int64_t (*wall_s)(void *self);  /* for dates only, never for schedules */
    void (*random)(void *self, void *bytes,
                   size_t count); /* unpredictable to others in production */
    void *self;
};

static inline uint64_t world_now_ns(const struct world *world)
{
    return world->now_ns(world->self);
}

static inline int64_t world_wall_s(const struct world *world)
{
    return world->wall_s(world->self);
}

static inline void world_random(const struct world *world, void *bytes, size_t count)
{
    world->random(world->self, bytes, count);
}
