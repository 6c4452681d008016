/*
 * net_link: two ports joined by a wire in memory that a seed makes lose, repeat, reorder, delay and
 * corrupt frames; and a world whose clock and random source the test holds.
 *
 * A port reads a transmitted frame some time after it was taken, as a device does by DMA, so that a
 * stack which touches it meanwhile is found out. Everything is decided by the seed.
 */
#pragma once
#include "engine/core/world.h"
#include "engine/net/port.h"

struct net_world {
    struct world world;
    uint64_t now_ns;
    uint64_t random; /* the state */
};

void net_world_open(struct net_world *world, uint64_t seed);
uint64_t net_random(uint64_t *state);
uint32_t net_random_below(uint64_t *state, uint32_t bound); /* 0 when bound is 0 */

struct net_faults { /* of 10,000 frames */
    uint32_t lost, repeated, reordered, corrupted;
    uint64_t delay_ns;    /* of every frame */
    uint64_t reorder_ns;  /* further, of those reordered: up to this */
    uint64_t dma_ns;      /* until a port reads what it was given: up to this */
    uint32_t ring_frames; /* that a port takes until it has read some; 0: no bound */
};

struct net_flight; /* a frame under way */

struct net_port {
    struct port port;
    struct net_link *link;
    unsigned side;
    struct rte_mempool *pool; /* received into */
    struct net_flight **heap; /* arriving, the soonest first */
    uint32_t heap_count, heap_room;
    struct rte_mbuf *given[1024];
    uint64_t given_ns[1024]; /* when it is read */
    uint32_t given_first, given_count;
    uint64_t sent, lost;
    /* Sees every frame that enters the wire; may change it, or drop it by answering false. */
    bool (*filter)(void *owner, unsigned side, uint8_t *frame, uint32_t size);
    void *filter_owner;
};

struct net_link {
    struct net_port ports[2];
    struct net_faults faults;
    const struct net_world *world;
    uint64_t random;
    uint64_t serial;
};

void net_link_open(struct net_link *link, const struct net_world *world, uint64_t seed,
                   struct rte_mempool *pool_0, struct rte_mempool *pool_1);
void net_link_close(struct net_link *link);
/* The ports read what is due; frames are put on the wire. Called once for every step of time. */
void net_link_run(struct net_link *link);
/* When something happens next on it; UINT64_MAX: nothing. */
uint64_t net_link_next_ns(const struct net_link *link);
/* Puts a frame on the wire towards port `side`, to arrive now. */
void net_link_inject(struct net_link *link, unsigned side, const void *frame, uint32_t size);

/* The EAL, and a pool for a stack's data and one that its port receives into. 0 or -1, as cmocka wants it. */
int net_memory_open(struct rte_mempool *pools[2]);
void net_memory_close(struct rte_mempool *pools[2]);
