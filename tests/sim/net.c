#include "tests/sim/net.h"
#include "engine/core/check.h"
#include "engine/net/checksum.h"
#include "tests/sim/pcap.h"
#include "tests/sim/wire.h"
#include <errno.h>
#include <rte_ether.h>
#include <rte_icmp.h>
#include <rte_ip.h>
#include <string.h>

#define ETH_BYTES 14u
#define IPV4_BYTES 20u
#define IPV6_BYTES 40u
#define ICMP_BYTES 8u
#define IPV6_MTU_MIN 1280u
#define CHAIN_FIRST_BYTES 134u /* the headers lie in one piece */
#define ETH_OVERHEAD_BYTES 24u /* preamble, checksum, gap */

struct sim_flight {
    uint64_t due_ns;
    uint64_t serial; /* those due at the same time arrive in the order of departure */
    uint64_t tag;
    uint64_t life; /* of the target's port */
    unsigned from;
    bool corrupted;
    uint32_t size;
    uint8_t bytes[];
};

/* ---- The heap ---- */

static bool sooner(const struct sim_flight *a, const struct sim_flight *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->serial < b->serial;
}

static void heap_push(struct sim_heap *heap, struct sim_flight *flight)
{
    if (heap->count == heap->room) {
        heap->room = heap->room == 0 ? 256 : heap->room * 2;
        heap->flights = realloc(heap->flights, heap->room * sizeof(heap->flights[0]));
        check(heap->flights != NULL);
    }
    uint32_t at = heap->count++;
    while (at > 0 && sooner(flight, heap->flights[(at - 1) / 2])) {
        heap->flights[at] = heap->flights[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap->flights[at] = flight;
}

static struct sim_flight *heap_take(struct sim_heap *heap)
{
    struct sim_flight *taken = heap->flights[0];
    struct sim_flight *last = heap->flights[--heap->count];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < heap->count && sooner(heap->flights[child + 1], heap->flights[child])) {
            child++;
        }
        if (child >= heap->count || !sooner(heap->flights[child], last)) {
            break;
        }
        heap->flights[at] = heap->flights[child];
        at = child;
    }
    heap->flights[at] = last;
    return taken;
}

static uint64_t heap_next_ns(const struct sim_heap *heap)
{
    return heap->count == 0 ? UINT64_MAX : heap->flights[0]->due_ns;
}

static void heap_clear(struct sim_heap *heap)
{
    while (heap->count > 0) {
        free(heap->flights[--heap->count]);
    }
}

/* ---- A way of a cable ---- */

static bool happens(struct sim_net *net, uint32_t chance)
{
    return chance > 0 && net_random_below(&net->random, SIM_PER_FRAMES) < chance;
}

static bool is_ipv4(const struct sim_flight *flight)
{
    return flight->size > ETH_BYTES + IPV4_BYTES && flight->bytes[12] == 0x08 &&
           flight->bytes[13] == 0;
}

static bool is_ipv6(const struct sim_flight *flight)
{
    return flight->size > ETH_BYTES + IPV6_BYTES && flight->bytes[12] == 0x86 &&
           flight->bytes[13] == 0xdd;
}

/* One bit, beyond the Ethernet header of an IP packet: what a frame check would have missed. IPv6 has
 * no checksum over the first bytes of its header: what nobody can find there is left as it is. */
static bool corrupt(struct sim_net *net, struct sim_flight *flight)
{
    if (!is_ipv4(flight) && !is_ipv6(flight)) {
        return false;
    }
    uint32_t first = ETH_BYTES + (is_ipv6(flight) ? 8 : 0);
    uint32_t at = first + net_random_below(&net->random, flight->size - first);
    flight->bytes[at] ^= (uint8_t)(1u << net_random_below(&net->random, 8));
    return true;
}

static bool way_loses(struct sim_net *net, struct sim_way *way)
{
    if (way->burst_begins > 0) {
        way->bad = way->bad ? !happens(net, way->burst_ends) : happens(net, way->burst_begins);
    }
    return happens(net, way->bad ? way->burst_lost : way->lost);
}

/* When the frame comes out at the other end; UINT64_MAX: never. */
static uint64_t way_pass(struct sim_net *net, struct sim_way *way, uint32_t size)
{
    uint64_t now_ns = net->world->now_ns;
    uint64_t start_ns = way->free_ns > now_ns ? way->free_ns : now_ns;
    if (way->bits_per_s > 0) {
        uint64_t waiting = (start_ns - now_ns) * way->bits_per_s / 8000000000ull;
        if (way->queue_bytes > 0 && waiting + size > way->queue_bytes && waiting > 0) {
            return UINT64_MAX;
        }
        start_ns += (size + ETH_OVERHEAD_BYTES) * 8000000000ull / way->bits_per_s;
        way->free_ns = start_ns;
    }
    uint64_t due_ns = start_ns + way->delay_ns;
    if (happens(net, way->reordered)) {
        due_ns += net_random_below(&net->random, (uint32_t)way->reorder_ns + 1);
    }
    return way_loses(net, way) ? UINT64_MAX : due_ns;
}

static struct sim_flight *flight_copy(const struct sim_flight *flight)
{
    struct sim_flight *copy = malloc(sizeof(*copy) + flight->size);
    check(copy != NULL);
    memcpy(copy, flight, sizeof(*copy) + flight->size);
    return copy;
}

/* Sends it along the way, once or twice, into `heap`. Given. */
static void way_send(struct sim_net *net, struct sim_way *way, struct sim_heap *heap,
                     struct sim_flight *flight)
{
    unsigned copies = happens(net, way->repeated) ? 2 : 1;
    for (unsigned i = 0; i < copies; i++) {
        uint64_t due_ns = way_pass(net, way, flight->size);
        if (due_ns == UINT64_MAX) {
            net->lost++;
            continue;
        }
        struct sim_flight *one = flight_copy(flight);
        one->due_ns = due_ns;
        one->serial = net->serial++;
        /* Once: two bits may make the checksum right again, and nobody could tell. */
        if (happens(net, way->corrupted) && !one->corrupted) {
            one->corrupted = corrupt(net, one);
        }
        heap_push(heap, one);
    }
    free(flight);
}

/* ---- Packets that are too long ---- */

/* RFC 8200 §5: who carries IPv6 over less than that puts it into pieces below. */
static bool is_too_long(const struct sim_way *way, const struct sim_flight *flight)
{
    uint32_t mtu = is_ipv6(flight) && way->mtu < IPV6_MTU_MIN ? IPV6_MTU_MIN : way->mtu;
    return way->mtu > 0 && flight->size > mtu + ETH_BYTES;
}

/* RFC 1191: fragmentation needed. Returns its size. */
static uint32_t told_ipv4(uint8_t *ip, const uint8_t *about, uint16_t mtu)
{
    enum { QUOTED = IPV4_BYTES + 8, SIZE = IPV4_BYTES + ICMP_BYTES + QUOTED };
    struct rte_ipv4_hdr header = {.version_ihl = 0x45,
                                  .total_length = rte_cpu_to_be_16(SIZE),
                                  .time_to_live = 63,
                                  .next_proto_id = IPPROTO_ICMP};
    memcpy(&header.src_addr, about + 16, 4); /* some router there */
    memcpy(&header.dst_addr, about + 12, 4);
    header.hdr_checksum = checksum_finish(checksum_add(0, &header, sizeof(header)));
    memcpy(ip, &header, sizeof(header));
    uint8_t *icmp = ip + IPV4_BYTES;
    icmp[0] = 3;
    icmp[1] = 4;
    icmp[6] = (uint8_t)(mtu >> 8);
    icmp[7] = (uint8_t)mtu;
    memcpy(icmp + ICMP_BYTES, about, QUOTED);
    uint16_t sum = checksum_finish(checksum_add(0, icmp, ICMP_BYTES + QUOTED));
    memcpy(icmp + 2, &sum, sizeof(sum));
    return SIZE;
}

/* RFC 4443 §3.2: packet too big. */
static uint32_t told_ipv6(uint8_t *ip, const uint8_t *about, uint16_t mtu)
{
    enum { QUOTED = IPV6_BYTES + 20, BYTES = ICMP_BYTES + QUOTED };
    ip[0] = 0x60;
    ip[5] = BYTES;
    ip[6] = IPPROTO_ICMPV6;
    ip[7] = 63;
    memcpy(ip + 8, about + 24, 16);
    memcpy(ip + 24, about + 8, 16);
    uint8_t *icmp = ip + IPV6_BYTES;
    icmp[0] = 2;
    icmp[6] = (uint8_t)(mtu >> 8);
    icmp[7] = (uint8_t)mtu;
    memcpy(icmp + ICMP_BYTES, about, QUOTED);
    uint64_t pseudo =
        checksum_add(0, ip + 8, 32) + rte_cpu_to_be_16(BYTES) + rte_cpu_to_be_16(IPPROTO_ICMPV6);
    uint16_t sum = checksum_finish(checksum_add(pseudo, icmp, BYTES));
    memcpy(icmp + 2, &sum, sizeof(sum));
    return IPV6_BYTES + BYTES;
}

/* The one who sent it is told, by a frame that can be lost as any other. */
static void too_long(struct sim_net *net, const struct sim_flight *flight, uint16_t mtu)
{
    enum { ROOM = 128 };
    struct sim_port *back = &net->ports[flight->from];
    bool ipv6 = is_ipv6(flight);
    if (!back->ways[SIM_UP].mtu_told || (!ipv6 && !is_ipv4(flight)) || flight->corrupted) {
        return;
    }
    struct sim_flight *told = calloc(1, sizeof(*told) + ETH_BYTES + ROOM);
    check(told != NULL);
    told->from = flight->from;
    told->life = back->life;
    memcpy(told->bytes, flight->bytes + 6, 6);
    memcpy(told->bytes + 6, flight->bytes, 6);
    memcpy(told->bytes + 12, flight->bytes + 12, 2);
    uint8_t *ip = told->bytes + ETH_BYTES;
    const uint8_t *about = flight->bytes + ETH_BYTES;
    mtu = ipv6 && mtu < IPV6_MTU_MIN ? IPV6_MTU_MIN : mtu;
    told->size = ETH_BYTES + (ipv6 ? told_ipv6(ip, about, mtu) : told_ipv4(ip, about, mtu));
    way_send(net, &back->ways[SIM_DOWN], &back->arriving, told);
}

/* ---- The switch ---- */

static void switch_pass(struct sim_net *net, struct sim_flight *flight)
{
    bool all = (flight->bytes[0] & 1) != 0;
    unsigned from = flight->from;
    for (unsigned to = 0; to < net->host_count; to++) {
        struct sim_port *port = &net->ports[to];
        struct sim_way *way = &port->ways[SIM_DOWN];
        if (to == from || (!all && memcmp(flight->bytes, port->port.facts.mac, 6) != 0)) {
            continue;
        }
        if (net->cut[from][to] || !port->plugged) {
            net->lost++;
            continue;
        }
        if (is_too_long(way, flight)) {
            net->lost++;
            too_long(net, flight, way->mtu);
            continue;
        }
        struct sim_flight *copy = flight_copy(flight);
        copy->life = port->life;
        way_send(net, way, &port->arriving, copy);
    }
    free(flight);
}

/* ---- Ports ---- */

static uint64_t digest_of(const uint8_t *bytes, uint32_t size)
{
    uint64_t digest = 14695981039346656037ull + size;
    for (; size >= 8; bytes += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        digest = (digest ^ word) * 1099511628211ull;
    }
    for (uint32_t i = 0; i < size; i++) {
        digest = (digest ^ bytes[i]) * 1099511628211ull;
    }
    return digest;
}

static const uint8_t *frame_read(const struct rte_mbuf *frame, uint8_t *buffer)
{
    check(frame->pkt_len >= ETH_BYTES && frame->pkt_len <= SIM_FRAME_BYTES_MAX);
    return rte_pktmbuf_read(frame, 0, frame->pkt_len, buffer);
}

/* The port reads a frame: it is on the cable. */
static void depart(struct sim_port *port, struct sim_given *given)
{
    struct sim_net *net = port->net;
    uint8_t buffer[SIM_FRAME_BYTES_MAX];
    uint32_t size = given->frame->pkt_len;
    const uint8_t *bytes = frame_read(given->frame, buffer);
    check(digest_of(bytes, size) == given->digest); /* nobody may touch what a device was given */
    struct sim_flight *flight = malloc(sizeof(*flight) + size);
    check(flight != NULL);
    *flight = (struct sim_flight){.tag = given->tag, .from = port->host, .size = size};
    memcpy(flight->bytes, bytes, size);
    rte_pktmbuf_free(given->frame);
    net->frames++;
    pcap_frame(net->world->now_ns, flight->bytes, size);
    if (net->filter != NULL && !net->filter(net->filter_owner, port->host, flight->bytes, size)) {
        net->lost++;
        free(flight);
        return;
    }
    struct sim_way *way = &port->ways[SIM_UP];
    if (is_too_long(way, flight)) {
        net->lost++;
        too_long(net, flight, way->mtu);
        free(flight);
        return;
    }
    way_send(net, way, &net->switching, flight);
}

void sim_net_run(struct sim_net *net)
{
    uint64_t now_ns = net->world->now_ns;
    for (unsigned i = 0; i < net->host_count; i++) {
        struct sim_port *port = &net->ports[i];
        while (port->given_count > 0 && port->given[port->given_first].read_ns <= now_ns) {
            struct sim_given *given = &port->given[port->given_first];
            port->given_first = (port->given_first + 1) % SIM_RING_MAX;
            port->given_count--;
            depart(port, given);
        }
    }
    while (heap_next_ns(&net->switching) <= now_ns) {
        switch_pass(net, heap_take(&net->switching));
    }
}

uint64_t sim_net_next_ns(const struct sim_net *net)
{
    uint64_t next_ns = heap_next_ns(&net->switching);
    for (unsigned i = 0; i < net->host_count; i++) {
        const struct sim_port *port = &net->ports[i];
        if (port->given_count > 0 && port->given[port->given_first].read_ns < next_ns) {
            next_ns = port->given[port->given_first].read_ns;
        }
    }
    return next_ns;
}

uint64_t sim_net_arrival_ns(const struct sim_net *net, unsigned host)
{
    return heap_next_ns(&net->ports[host].arriving);
}

uint32_t sim_net_flying(const struct sim_net *net)
{
    uint32_t count = net->switching.count;
    for (unsigned i = 0; i < net->host_count; i++) {
        count += net->ports[i].arriving.count + net->ports[i].given_count;
    }
    return count;
}

/* In one mbuf, or a chain of them. NULL: no buffers. */
static struct rte_mbuf *frame_make(struct sim_port *port, const struct sim_flight *flight)
{
    struct rte_mbuf *first = rte_pktmbuf_alloc(port->pool);
    bool chain = flight->size > CHAIN_FIRST_BYTES && happens(port->net, port->chained);
    uint32_t here = chain ? CHAIN_FIRST_BYTES : flight->size;
    if (first == NULL || rte_pktmbuf_tailroom(first) < here) {
        rte_pktmbuf_free(first);
        return NULL;
    }
    memcpy(rte_pktmbuf_append(first, (uint16_t)here), flight->bytes, here);
    for (uint32_t at = here; at < flight->size; at += here) {
        struct rte_mbuf *more = rte_pktmbuf_alloc(port->pool);
        here = 1 + net_random_below(&port->net->random, flight->size - at);
        if (more == NULL || rte_pktmbuf_tailroom(more) < here) {
            rte_pktmbuf_free(more);
            rte_pktmbuf_free(first);
            return NULL;
        }
        memcpy(rte_pktmbuf_append(more, (uint16_t)here), flight->bytes + at, here);
        check(rte_pktmbuf_chain(first, more) == 0);
    }
    return first;
}

static uint16_t port_receive(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                             uint16_t count)
{
    struct sim_port *self = (struct sim_port *)port;
    struct sim_net *net = self->net;
    uint16_t got = 0;
    (void)queue;
    while (got < count && heap_next_ns(&self->arriving) <= net->world->now_ns) {
        struct sim_flight *flight = heap_take(&self->arriving);
        struct rte_mbuf *frame = flight->life == self->life ? frame_make(self, flight) : NULL;
        if (frame == NULL) {
            net->lost++; /* as a device whose ring is empty */
        } else {
            frames[got++] = frame;
            if (!flight->corrupted) {
                sim_wire_delivered(net->wire, self->host, flight->bytes, flight->size, flight->tag);
            }
        }
        free(flight);
    }
    return got;
}

static uint16_t port_transmit(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                              uint16_t count)
{
    struct sim_port *self = (struct sim_port *)port;
    struct sim_net *net = self->net;
    uint32_t room = self->ring_frames == 0 ? SIM_RING_MAX : self->ring_frames;
    uint8_t buffer[SIM_FRAME_BYTES_MAX];
    uint64_t last_ns = net->world->now_ns;
    uint16_t taken = 0;
    (void)queue;
    if (!self->plugged) {
        for (; taken < count; taken++) {
            rte_pktmbuf_free(frames[taken]);
        }
        return count;
    }
    if (self->given_count > 0) {
        last_ns = self->given[(self->given_first + self->given_count - 1) % SIM_RING_MAX].read_ns;
    }
    for (; taken < count && self->given_count < room; taken++) {
        struct rte_mbuf *frame = frames[taken];
        uint64_t read_ns =
            net->world->now_ns + net_random_below(&net->random, (uint32_t)self->dma_ns + 1);
        const uint8_t *bytes = frame_read(frame, buffer);
        last_ns = read_ns > last_ns ? read_ns : last_ns; /* a ring is read in order */
        rte_mbuf_sanity_check(frame, 1);
        self->given[(self->given_first + self->given_count++) % SIM_RING_MAX] =
            (struct sim_given){.frame = frame,
                               .read_ns = last_ns,
                               .digest = digest_of(bytes, frame->pkt_len),
                               .tag = sim_wire_sent(net->wire, self->host, bytes, frame->pkt_len)};
    }
    return taken;
}

static int port_arm(struct port *port, uint16_t queue)
{
    (void)port;
    (void)queue;
    return -ENOTSUP;
}

static void port_close(struct port *port)
{
    (void)port;
}

static const struct port_ops port_ops = {
    .receive = port_receive, .transmit = port_transmit, .arm = port_arm, .close = port_close};

void sim_net_open(struct sim_net *net, const struct net_world *world, uint64_t seed,
                  unsigned host_count, struct rte_mempool *const *pools)
{
    memset(net, 0, sizeof(*net));
    net->world = world;
    net->random = seed * 7919 + 13;
    net->host_count = host_count;
    for (unsigned i = 0; i < host_count; i++) {
        struct sim_port *port = &net->ports[i];
        port->port.ops = &port_ops;
        port->port.facts = (struct port_facts){.mac = {2, 0, 0, 0, 0, (uint8_t)(1 + i)},
                                               .mtu = 1500,
                                               .queue_count = 1,
                                               .tx_segments = true};
        rss_init(&port->port.facts.rss, 1);
        port->net = net;
        port->host = i;
        port->pool = pools[i];
        port->plugged = true;
    }
}

void sim_net_plug(struct sim_net *net, unsigned host)
{
    net->ports[host].plugged = true;
}

void sim_net_unplug(struct sim_net *net, unsigned host)
{
    struct sim_port *port = &net->ports[host];
    for (; port->given_count > 0; port->given_count--) {
        rte_pktmbuf_free(port->given[port->given_first].frame);
        port->given_first = (port->given_first + 1) % SIM_RING_MAX;
    }
    heap_clear(&port->arriving);
    port->plugged = false;
    port->life++;
}

void sim_net_close(struct sim_net *net)
{
    for (unsigned i = 0; i < net->host_count; i++) {
        sim_net_unplug(net, i);
        free(net->ports[i].arriving.flights);
    }
    heap_clear(&net->switching);
    free(net->switching.flights);
}
