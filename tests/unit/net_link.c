#include "tests/unit/net_link.h"
#include "engine/shard/memory.h"
#include "engine/core/check.h"
#include "tests/unit/net_offload.h"
#include <errno.h>
#include <string.h>

#define FRAME_BYTES_MAX 9216u
#define ETH_BYTES 14u

struct net_flight {
    uint64_t due_ns;
    uint64_t serial; /* those due at the same time arrive in the order of departure */
    uint32_t size;
    uint8_t bytes[];
};

uint64_t net_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

uint32_t net_random_below(uint64_t *state, uint32_t bound)
{
    return bound == 0 ? 0 : (uint32_t)(net_random(state) % bound);
}

static uint64_t world_now(void *self)
{
    return ((struct net_world *)self)->now_ns;
}

static int64_t world_wall(void *self)
{
    return (int64_t)(((struct net_world *)self)->now_ns / 1000000000ull);
}

static void world_draw(void *self, void *bytes, size_t count)
{
    struct net_world *world = self;
    uint8_t *at = bytes;
    while (count-- > 0) {
        *at++ = (uint8_t)net_random(&world->random);
    }
}

void net_world_open(struct net_world *world, uint64_t seed)
{
    *world = (struct net_world){.now_ns = 1000000000ull + (seed % 1000) * 1000000ull,
                                .random = seed * 31 + 7};
    world->world = (struct world){
        .now_ns = world_now, .wall_s = world_wall, .random = world_draw, .self = world};
}

static bool sooner(const struct net_flight *a, const struct net_flight *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->serial < b->serial;
}

static void heap_push(struct net_port *port, struct net_flight *flight)
{
    if (port->heap_count == port->heap_room) {
        port->heap_room = port->heap_room == 0 ? 256 : port->heap_room * 2;
        port->heap = realloc(port->heap, port->heap_room * sizeof(port->heap[0]));
        check(port->heap != NULL);
    }
    uint32_t at = port->heap_count++;
    while (at > 0 && sooner(flight, port->heap[(at - 1) / 2])) {
        port->heap[at] = port->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    port->heap[at] = flight;
}

/* The soonest. */
static struct net_flight *heap_take(struct net_port *port)
{
    struct net_flight *taken = port->heap[0];
    struct net_flight *last = port->heap[--port->heap_count];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < port->heap_count && sooner(port->heap[child + 1], port->heap[child])) {
            child++;
        }
        if (child >= port->heap_count || !sooner(port->heap[child], last)) {
            break;
        }
        port->heap[at] = port->heap[child];
        at = child;
    }
    port->heap[at] = last;
    return taken;
}

static void launch(struct net_link *link, unsigned side, const uint8_t *bytes, uint32_t size,
                   uint64_t due_ns)
{
    struct net_flight *flight = malloc(sizeof(*flight) + size);
    check(flight != NULL);
    flight->due_ns = due_ns;
    flight->serial = link->serial++;
    flight->size = size;
    memcpy(flight->bytes, bytes, size);
    heap_push(&link->ports[side], flight);
}

void net_link_inject(struct net_link *link, unsigned side, const void *frame, uint32_t size)
{
    launch(link, side, frame, size, link->world->now_ns);
}

static bool happens(struct net_link *link, uint32_t of_10000)
{
    return net_random_below(&link->random, 10000) < of_10000;
}

/* One bit, beyond the Ethernet header of an IP packet: what a frame check would have missed. */
static void corrupt(struct net_link *link, uint8_t *bytes, uint32_t size)
{
    if (size > ETH_BYTES && bytes[12] == 0x08 && bytes[13] == 0x00) {
        uint32_t at = ETH_BYTES + net_random_below(&link->random, size - ETH_BYTES);
        bytes[at] ^= (uint8_t)(1u << net_random_below(&link->random, 8));
    }
}

/* A frame enters the wire. */
static void enter(void *owner, uint8_t *bytes, uint32_t size)
{
    struct net_port *from = owner;
    struct net_link *link = from->link;
    const struct net_faults *faults = &link->faults;
    check(size <= FRAME_BYTES_MAX);
    from->sent++;
    if ((from->filter != NULL && !from->filter(from->filter_owner, from->side, bytes, size)) ||
        happens(link, faults->lost)) {
        from->lost++;
        return;
    }
    if (happens(link, faults->corrupted)) {
        corrupt(link, bytes, size);
    }
    unsigned copies = happens(link, faults->repeated) ? 2 : 1;
    for (unsigned i = 0; i < copies; i++) {
        uint64_t due_ns = link->world->now_ns + faults->delay_ns;
        if (happens(link, faults->reordered)) {
            due_ns += net_random_below(&link->random, (uint32_t)faults->reorder_ns + 1);
        }
        launch(link, 1 - from->side, bytes, size, due_ns);
    }
}

static void depart(struct net_port *from, struct rte_mbuf *frame)
{
    net_offload(frame, enter, from);
    rte_pktmbuf_free(frame);
}

void net_link_run(struct net_link *link)
{
    for (unsigned side = 0; side < 2; side++) {
        struct net_port *port = &link->ports[side];
        while (port->given_count > 0 && port->given_ns[port->given_first] <= link->world->now_ns) {
            struct rte_mbuf *frame = port->given[port->given_first];
            port->given_first = (port->given_first + 1) % RTE_DIM(port->given);
            port->given_count--;
            depart(port, frame);
        }
    }
}

uint64_t net_link_next_ns(const struct net_link *link)
{
    uint64_t next_ns = UINT64_MAX;
    for (unsigned side = 0; side < 2; side++) {
        const struct net_port *port = &link->ports[side];
        if (port->heap_count > 0 && port->heap[0]->due_ns < next_ns) {
            next_ns = port->heap[0]->due_ns;
        }
        if (port->given_count > 0 && port->given_ns[port->given_first] < next_ns) {
            next_ns = port->given_ns[port->given_first];
        }
    }
    return next_ns;
}

static uint16_t link_receive(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                             uint16_t count)
{
    struct net_port *self = (struct net_port *)port;
    uint16_t got = 0;
    (void)queue;
    while (got < count && self->heap_count > 0 &&
           self->heap[0]->due_ns <= self->link->world->now_ns) {
        struct net_flight *flight = heap_take(self);
        struct rte_mbuf *frame = rte_pktmbuf_alloc(self->pool);
        if (frame != NULL && rte_pktmbuf_tailroom(frame) >= flight->size) {
            memcpy(rte_pktmbuf_append(frame, (uint16_t)flight->size), flight->bytes, flight->size);
            frames[got++] = frame;
        } else {
            rte_pktmbuf_free(frame); /* as a device whose ring is empty: lost */
            self->lost++;
        }
        free(flight);
    }
    return got;
}

static uint16_t link_transmit(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                              uint16_t count)
{
    struct net_port *self = (struct net_port *)port;
    const struct net_faults *faults = &self->link->faults;
    uint32_t room = faults->ring_frames == 0 ? RTE_DIM(self->given) : faults->ring_frames;
    uint16_t taken = 0;
    (void)queue;
    uint64_t last_ns = self->link->world->now_ns;
    if (self->given_count > 0) {
        last_ns =
            self->given_ns[(self->given_first + self->given_count - 1) % RTE_DIM(self->given)];
    }
    for (; taken < count && self->given_count < room; taken++) {
        uint32_t at = (self->given_first + self->given_count++) % RTE_DIM(self->given);
        uint64_t read_ns = self->link->world->now_ns +
                           net_random_below(&self->link->random, (uint32_t)faults->dma_ns + 1);
        last_ns = read_ns > last_ns ? read_ns : last_ns; /* a ring is read in order */
        self->given[at] = frames[taken];
        self->given_ns[at] = last_ns;
    }
    return taken;
}

static int link_arm(struct port *port, uint16_t queue)
{
    (void)port;
    (void)queue;
    return -ENOTSUP;
}

static void link_port_close(struct port *port)
{
    (void)port;
}

static const struct port_ops link_ops = {
    .receive = link_receive, .transmit = link_transmit, .arm = link_arm, .close = link_port_close};

void net_link_open(struct net_link *link, const struct net_world *world, uint64_t seed,
                   struct rte_mempool *pool_0, struct rte_mempool *pool_1)
{
    *link = (struct net_link){.world = world, .random = seed};
    for (unsigned side = 0; side < 2; side++) {
        struct net_port *port = &link->ports[side];
        port->port.ops = &link_ops;
        port->port.facts = (struct port_facts){.mac = {2, 0, 0, 0, 0, (uint8_t)(1 + side)},
                                               .mtu = 1500,
                                               .queue_count = 1,
                                               .tx_segments = true};
        rss_init(&port->port.facts.rss, 1);
        port->link = link;
        port->side = side;
        port->pool = side == 0 ? pool_0 : pool_1;
    }
}

void net_link_close(struct net_link *link)
{
    for (unsigned side = 0; side < 2; side++) {
        struct net_port *port = &link->ports[side];
        for (; port->given_count > 0; port->given_count--) {
            rte_pktmbuf_free(port->given[port->given_first]);
            port->given_first = (port->given_first + 1) % RTE_DIM(port->given);
        }
        while (port->heap_count > 0) {
            free(heap_take(port));
        }
        free(port->heap);
        port->heap = NULL;
    }
}

int net_memory_open(struct rte_mempool *pools[2])
{
    const struct memory_settings settings = {.program = "test", .megabytes = 256};
    if (memory_start(&settings) < 0) {
        return -1;
    }
    pools[0] = memory_pool_open("data", 1023, MEMORY_MBUF_BYTES);
    pools[1] = memory_pool_open("receive", 4095, MEMORY_MBUF_BYTES);
    return pools[0] == NULL || pools[1] == NULL ? -1 : 0;
}

void net_memory_close(struct rte_mempool *pools[2])
{
    memory_pool_close(pools[0]);
    memory_pool_close(pools[1]);
    memory_stop();
}
