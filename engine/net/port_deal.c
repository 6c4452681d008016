#include "engine/net/port_deal.h"
#include "engine/core/check.h"
#include <errno.h>
#include <rte_atomic.h>
#include <rte_ring.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RING_FRAMES 1024u /* from one shard to one other; full: dropped, as a NIC's ring would */
#define BURST 32u
#define ETHERTYPE_ARP 0x0806u
#define ETHERTYPE_IPV6 0x86ddu
#define ICMPV6_NEIGHBOUR_ADVERTISEMENT 136u

struct deal_shard {
    struct rte_ring *arriving[PORT_DEAL_SHARDS_MAX]; /* [from]: frames for this shard's stack */
    struct rte_ring
        *leaving[PORT_DEAL_SHARDS_MAX]; /* [from]: frames for this shard's device queue */
    uint16_t first_ring;                /* where the next look begins, so that none is starved */
    int epoll_fd; /* over the device's descriptor and wake_fd; -1: not yet made */
    int wake_fd;
    struct port_deal_counters counters;
    alignas(64) atomic_bool asleep; /* the only word that others write */
};

struct port_deal {
    struct port port;
    struct port *inner;
    uint16_t shard_count;
    uint16_t door_count; /* queues of the device in use: doors 0..door_count-1 */
    struct deal_shard *shards;
};

static struct port_deal *deal_of(const struct port *port)
{
    return (struct port_deal *)(uintptr_t)port; /* its first member */
}

/* A shard that sleeps is woken after its ring was filled; the fence orders that with its last look
 * in arm. */
static void wake(struct deal_shard *to)
{
    rte_smp_mb();
    if (atomic_load_explicit(&to->asleep, memory_order_relaxed)) {
        uint64_t one = 1;
        ssize_t written = write(to->wake_fd, &one, sizeof(one));
        (void)written; /* it is full only when a wake is already waiting there */
    }
}

/* ARP replies and neighbour advertisements are answers that any shard may be waiting for; what all
 * nodes are told (routers, listener queries) and who else wants an address concerns each. */
bool port_deal_is_for_all(const uint8_t *frame, uint32_t bytes)
{
    uint32_t at = 12;
    if (bytes < at + 2) {
        return false;
    }
    uint32_t type = (uint32_t)frame[at] << 8 | frame[at + 1];
    if (type == 0x8100 && bytes >= at + 6) {
        at += 4;
        type = (uint32_t)frame[at] << 8 | frame[at + 1];
    }
    at += 2;
    if (type == ETHERTYPE_ARP) {
        return bytes >= at + 8 && frame[at + 6] == 0 && frame[at + 7] == 2;
    }
    static const uint8_t all_nodes[6] = {0x33, 0x33, 0, 0, 0, 1}, unspecified[16];
    if (type != ETHERTYPE_IPV6 || bytes <= at + 40) {
        return false;
    }
    return memcmp(frame, all_nodes, sizeof(all_nodes)) == 0 ||
           (frame[at + 6] == 58 && (frame[at + 40] == ICMPV6_NEIGHBOUR_ADVERTISEMENT ||
                                    memcmp(frame + at + 8, unspecified, 16) == 0));
}

static void hand_to(struct port_deal *self, uint16_t from, uint16_t to, struct rte_mbuf *frame)
{
    struct deal_shard *door = &self->shards[from];
    if (rte_ring_sp_enqueue(self->shards[to].arriving[from], frame) == 0) {
        door->counters.dealt++;
    } else {
        door->counters.dealt_lost++;
        rte_pktmbuf_free(frame);
    }
}

static void copy_to_others(struct port_deal *self, uint16_t from, struct rte_mbuf *frame)
{
    for (uint16_t to = 0; to < self->shard_count; to++) {
        struct rte_mbuf *copy =
            to == from ? NULL : rte_pktmbuf_copy(frame, frame->pool, 0, UINT32_MAX);
        if (copy != NULL) {
            hand_to(self, from, to, copy);
        }
    }
}

/* Reads this shard's door; keeps what is its own and deals the rest. Returns how many were kept. */
static uint16_t door_read(struct port_deal *self, uint16_t shard, struct rte_mbuf **frames,
                          uint16_t count)
{
    struct rte_mbuf *burst[BURST];
    uint16_t kept = 0;
    uint64_t told = 0; /* shards to wake, a bit each */
    uint16_t got =
        self->inner->ops->receive(self->inner, shard, burst, count < BURST ? count : BURST);
    for (uint16_t i = 0; i < got; i++) {
        struct rss_tuple tuple;
        const uint8_t *bytes = rte_pktmbuf_mtod(burst[i], const uint8_t *);
        uint32_t size = rte_pktmbuf_data_len(burst[i]);
        uint16_t owner = 0;
        if (port_deal_is_for_all(bytes, size)) {
            copy_to_others(self, shard, burst[i]);
            told = UINT64_MAX;
            owner = shard;
        } else if (rss_tuple_of_frame(&tuple, bytes, size)) {
            owner = rss_queue_of(&self->port.facts.rss, &tuple);
        }
        if (owner == shard) {
            frames[kept++] = burst[i];
        } else {
            hand_to(self, shard, owner, burst[i]);
            told |= 1ull << owner;
        }
    }
    for (uint16_t to = 0; told != 0 && to < self->shard_count; to++) {
        if (to != shard && (told >> to & 1) != 0) {
            wake(&self->shards[to]);
        }
    }
    self->shards[shard].counters.kept += kept;
    return kept;
}

/* Sends what shards without a queue have left for this door. */
static void door_send(struct port_deal *self, uint16_t shard)
{
    struct deal_shard *door = &self->shards[shard];
    for (uint16_t from = self->door_count; from < self->shard_count; from++) {
        struct rte_mbuf *burst[BURST];
        if (door->leaving[from] == NULL) {
            continue;
        }
        unsigned count =
            rte_ring_sc_dequeue_burst(door->leaving[from], (void **)burst, BURST, NULL);
        uint16_t sent =
            count == 0 ? 0 : self->inner->ops->transmit(self->inner, shard, burst, (uint16_t)count);
        door->counters.sent_lost += count - sent;
        while (sent < count) {
            rte_pktmbuf_free(burst[sent++]);
        }
    }
}

static uint16_t deal_receive(struct port *port, uint16_t shard, struct rte_mbuf **frames,
                             uint16_t count)
{
    struct port_deal *self = deal_of(port);
    struct deal_shard *own = &self->shards[shard];
    uint16_t got = 0;
    if (atomic_load_explicit(&own->asleep, memory_order_relaxed)) {
        atomic_store_explicit(&own->asleep, false, memory_order_relaxed);
        uint64_t wakes;
        ssize_t taken = read(own->wake_fd, &wakes, sizeof(wakes));
        (void)taken; /* nothing there: something else ended the sleep */
    }
    if (shard < self->door_count) {
        door_send(self, shard);
        got = door_read(self, shard, frames, count);
    }
    for (uint16_t i = 0; i < self->door_count && got < count; i++) {
        uint16_t from = (uint16_t)((own->first_ring + i) % self->door_count);
        if (own->arriving[from] != NULL) {
            got += (uint16_t)rte_ring_sc_dequeue_burst(own->arriving[from], (void **)(frames + got),
                                                       (unsigned)(count - got), NULL);
        }
    }
    own->first_ring++;
    return got;
}

/* External and indirect segments are counted by plain integers of this shard: another must never
 * free them. */
static bool refers_to_shard_memory(const struct rte_mbuf *frame)
{
    for (; frame != NULL; frame = frame->next) {
        if (!RTE_MBUF_DIRECT(frame)) {
            return true;
        }
    }
    return false;
}

static uint16_t deal_transmit(struct port *port, uint16_t shard, struct rte_mbuf **frames,
                              uint16_t count)
{
    struct port_deal *self = deal_of(port);
    if (shard < self->door_count) {
        return self->inner->ops->transmit(self->inner, shard, frames, count);
    }
    struct deal_shard *own = &self->shards[shard], *door = &self->shards[shard % self->door_count];
    uint16_t sent = 0;
    for (; sent < count; sent++) {
        struct rte_mbuf *frame = frames[sent];
        bool copied = refers_to_shard_memory(frame);
        if (copied) {
            frame = rte_pktmbuf_copy(frames[sent], frames[sent]->pool, 0, UINT32_MAX);
        }
        if (frame == NULL) {
            break;
        }
        if (rte_ring_sp_enqueue(door->leaving[shard], frame) != 0) {
            if (copied) {
                rte_pktmbuf_free(frame);
            }
            break;
        }
        if (copied) {
            rte_pktmbuf_free(frames[sent]);
            own->counters.sent_copied++;
        }
    }
    own->counters.sent_through += sent;
    if (sent > 0) {
        wake(door);
    }
    return sent;
}

static bool rings_empty(const struct port_deal *self, uint16_t shard)
{
    const struct deal_shard *own = &self->shards[shard];
    for (uint16_t from = 0; from < self->shard_count; from++) {
        if ((own->arriving[from] != NULL && !rte_ring_empty(own->arriving[from])) ||
            (own->leaving[from] != NULL && !rte_ring_empty(own->leaving[from]))) {
            return false;
        }
    }
    return true;
}

/* One descriptor for both the device and the rings; the device's stays the same from call to call.
 */
static int watch_both(struct deal_shard *own, int device_fd)
{
    if (own->epoll_fd < 0) {
        struct epoll_event event = {.events = EPOLLIN};
        own->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (own->epoll_fd < 0 ||
            epoll_ctl(own->epoll_fd, EPOLL_CTL_ADD, own->wake_fd, &event) < 0 ||
            epoll_ctl(own->epoll_fd, EPOLL_CTL_ADD, device_fd, &event) < 0) {
            return -ENOTSUP;
        }
    }
    return own->epoll_fd;
}

static int deal_arm(struct port *port, uint16_t shard)
{
    struct port_deal *self = deal_of(port);
    struct deal_shard *own = &self->shards[shard];
    int fd = own->wake_fd;
    if (shard < self->door_count) {
        int device_fd =
            self->inner->ops->arm == NULL ? -ENOTSUP : self->inner->ops->arm(self->inner, shard);
        if (device_fd < 0) {
            return device_fd;
        }
        fd = watch_both(own, device_fd);
    }
    atomic_store_explicit(&own->asleep, true, memory_order_relaxed);
    rte_smp_mb();
    return rings_empty(self, shard) ? fd : -EAGAIN;
}

static void ring_free(struct rte_ring *ring)
{
    void *frame;
    while (ring != NULL && rte_ring_sc_dequeue(ring, &frame) == 0) {
        rte_pktmbuf_free(frame);
    }
    free(ring);
}

static void shards_free(struct port_deal *self)
{
    for (uint16_t i = 0; self->shards != NULL && i < self->shard_count; i++) {
        struct deal_shard *shard = &self->shards[i];
        for (uint16_t from = 0; from < self->shard_count; from++) {
            ring_free(shard->arriving[from]);
            ring_free(shard->leaving[from]);
        }
        if (shard->epoll_fd >= 0) {
            close(shard->epoll_fd);
        }
        if (shard->wake_fd >= 0) {
            close(shard->wake_fd);
        }
    }
    free(self->shards);
    free(self);
}

static void deal_close(struct port *port)
{
    struct port_deal *self = deal_of(port);
    self->inner->ops->close(self->inner);
    shards_free(self);
}

static const struct port_ops deal_ops = {
    .receive = deal_receive,
    .transmit = deal_transmit,
    .arm = deal_arm,
    .close = deal_close,
};

static struct rte_ring *ring_make(void)
{
    ssize_t bytes = rte_ring_get_memsize(RING_FRAMES);
    void *memory = NULL;
    if (bytes < 0 || posix_memalign(&memory, RTE_CACHE_LINE_SIZE, (size_t)bytes) != 0) {
        return NULL;
    }
    check(rte_ring_init(memory, "deal", RING_FRAMES, RING_F_SP_ENQ | RING_F_SC_DEQ) == 0);
    return memory;
}

static int shard_set_up(struct port_deal *self, uint16_t index)
{
    struct deal_shard *shard = &self->shards[index];
    shard->epoll_fd = -1;
    shard->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (shard->wake_fd < 0) {
        return -ENOMEM;
    }
    for (uint16_t door = 0; door < self->door_count; door++) {
        if (door != index && (shard->arriving[door] = ring_make()) == NULL) {
            return -ENOMEM;
        }
    }
    for (uint16_t from = self->door_count; index < self->door_count && from < self->shard_count;
         from++) {
        if (from % self->door_count == index && (shard->leaving[from] = ring_make()) == NULL) {
            return -ENOMEM;
        }
    }
    return 0;
}

int port_deal_open(struct port **port, struct port *inner, uint16_t shard_count)
{
    check(shard_count > 0);
    if (shard_count > PORT_DEAL_SHARDS_MAX) {
        return -EINVAL;
    }
    struct port_deal *self = calloc(1, sizeof(*self));
    void *shards = NULL;
    if (self == NULL || posix_memalign(&shards, alignof(struct deal_shard),
                                       shard_count * sizeof(struct deal_shard)) != 0) {
        free(self);
        return -ENOMEM;
    }
    memset(shards, 0, shard_count * sizeof(struct deal_shard));
    self->shards = shards;
    self->inner = inner;
    self->shard_count = shard_count;
    self->door_count =
        inner->facts.queue_count < shard_count ? inner->facts.queue_count : shard_count;
    self->port.ops = &deal_ops;
    self->port.facts = inner->facts;
    self->port.facts.queue_count = shard_count;
    rss_init(&self->port.facts.rss, shard_count);
    self->port.facts.rss.mode = RSS_PROVEN; /* it is our own doing */
    for (uint16_t i = 0; i < shard_count; i++) {
        self->shards[i].epoll_fd = self->shards[i].wake_fd = -1;
    }
    for (uint16_t i = 0; i < shard_count; i++) {
        if (shard_set_up(self, i) < 0) {
            shards_free(self);
            return -ENOMEM;
        }
    }
    *port = &self->port;
    return 0;
}

int port_deal_among(struct port **port, uint16_t shard_count)
{
    struct port *inner = *port;
    *port = NULL;
    int status = port_deal_open(port, inner, shard_count);
    if (status < 0) {
        inner->ops->close(inner);
    }
    return status;
}

void port_deal_counters(const struct port *port, uint16_t shard,
                        struct port_deal_counters *counters)
{
    *counters = deal_of(port)->shards[shard].counters;
}
