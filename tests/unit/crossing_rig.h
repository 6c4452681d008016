/*
 * crossing_rig: shards in one thread on a clock of the test's own, a fake network on the first of them, and connections
 * whose sessions are on others. What travels is a pattern, so that every byte has its place. The rig itself takes no memory by
 * malloc, which tests may make short.
 */
#pragma once
#include "engine/core/world.h"
#include "engine/mailbox/crossing.h"
#include "engine/shard/shard.h"
#include "tests/unit/fake_network.h"

#define CROSSING_RIG_SHARDS_MAX 3
#define CROSSING_RIG_PATTERN_BYTES (1024u * 1024)
#define CROSSING_RIG_MS 1000000ull

/* The shards that a connection goes to, one after the other; the first may be its own. */
struct crossing_way {
    const unsigned *shards;
    unsigned count;
};
#define CROSSING_WAYS 4u
extern const struct crossing_way crossing_ways[CROSSING_WAYS];
extern const struct crossing_way *const crossing_to_other; /* to shard 1 */

struct crossing_rig;

struct crossing_end {
    struct crossing_rig *rig;
    struct stream *stream; /* NULL: not there yet, or released */
    uint8_t in, out;       /* which pattern it reads and writes */
    uint64_t read_bytes, written_bytes;
    uint32_t events; /* since somebody set it to 0 */
    unsigned told;   /* how often */
    bool finished, closed;
    int error;
};

struct crossing_rig {
    struct world world;
    uint64_t now_ns;
    struct logger logger;
    unsigned count;
    struct shard shards[CROSSING_RIG_SHARDS_MAX];
    struct crossing *crossings[CROSSING_RIG_SHARDS_MAX]; /* NULL: closed */
    struct network *network;                             /* of shard 0; NULL: closed */
    struct listener *listener;
    const struct crossing_way *way;
    bool finished; /* what crossing_pass is told */
    bool keep;     /* the carrier: nothing is passed */
    struct stream *kept;
    bool fails; /* crossing_pass did */
    struct crossing_end client, session;
    unsigned refs; /* struct crossing_ref that are there */
};

/* What is written by reference: a piece of the pattern, which is spoilt when the last ref is dropped. */
struct crossing_ref {
    struct ref ref;
    struct crossing_rig *rig;
    uint8_t bytes[];
};

/* room: of each direction of a connection. */
struct crossing_rig *cross_open(unsigned count, size_t room);
/* Everything, as a service does; what has been released or not. */
void cross_close(struct crossing_rig *rig);
void cross_close_network(struct crossing_rig *rig);
void cross_close_shard(struct crossing_rig *rig, unsigned index);

uint32_t cross_dice(uint64_t *seed);

/* A connection; its session is on the last of the way. */
void cross_connect(struct crossing_rig *rig, const struct crossing_way *way);
/* By the way of the rig, from shard 0. */
void cross_pass(struct crossing_rig *rig, struct stream *carrier);
/* Until nothing happens. */
void cross_run(struct crossing_rig *rig);
void cross_round(struct crossing_rig *rig);
/* Time goes by. */
void cross_wait(struct crossing_rig *rig, uint64_t ms);

/* The next bytes of the pattern. The stream's answer. */
int cross_write(struct crossing_end *end, size_t bytes);
int cross_write_ref(struct crossing_end *end, size_t bytes);
/* Reads and judges at most so many; how many. */
size_t cross_read(struct crossing_end *end, size_t bytes_max);
void cross_release(struct crossing_end *end);
