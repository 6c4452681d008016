#include "engine/core/system_world.h"
#include "engine/core/check.h"
#include <errno.h>
#include <sys/random.h>
#include <time.h>

static uint64_t system_now_ns(void *self)
{
    (void)self;
    struct timespec time;
    check(clock_gettime(CLOCK_MONOTONIC, &time) == 0);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int64_t system_wall_s(void *self)
{
    (void)self;
    struct timespec time;
    check(clock_gettime(CLOCK_REALTIME, &time) == 0);
    return time.tv_sec;
}

static void system_random(void *self, void *bytes, size_t count)
{
    (void)self;
    uint8_t *at = bytes;
    while (count > 0) {
        ssize_t got = getrandom(at, count, 0);
        /* Secrets rest on this: going on without randomness would be worse than stopping. */
        check(got > 0 || (got < 0 && errno == EINTR));
        if (got > 0) {
            at += got;
            count -= (size_t)got;
        }
    }
}

void system_world_fill(struct world *world)
{
    *world = (struct world){
        .now_ns = system_now_ns,
        .wall_s = system_wall_s,
        .random = system_random,
    };
}
