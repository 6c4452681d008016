#include "tests/unit/net_beside.h"
#include "engine/net/checksum.h"
#include "engine/net/port_deal.h"
#include "tests/unit/net_lone.h"
#include "tests/unit/net_pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct rte_mempool *all_pools[2];

int beside_set_up(void **state)
{
    (void)state;
    return net_memory_open(all_pools);
}

int beside_tear_down(void **state)
{
    (void)state;
    net_memory_close(all_pools);
    return 0;
}

/* ---- a port ---- */

static struct beside_port *port_of(struct port *port)
{
    return (struct beside_port *)port; /* its first member */
}

static uint16_t port_receive(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                             uint16_t count)
{
    struct beside_port *self = port_of(port);
    uint16_t got = 0;
    while (got < count && self->in_count[queue] > 0) {
        frames[got++] = self->in[queue][self->in_first[queue]];
        self->in_first[queue] = (self->in_first[queue] + 1) % BESIDE_FRAMES;
        self->in_count[queue]--;
    }
    return got;
}

static uint16_t port_transmit(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                              uint16_t count)
{
    struct beside_port *self = port_of(port);
    uint16_t taken = 0;
    for (; taken < count && self->room > 0; taken++, self->room--) {
        struct rte_mbuf *frame = frames[taken];
        assert_in_range(self->out_count, 0, BESIDE_FRAMES - 1);
        assert_in_range(frame->pkt_len, ETH_BYTES, BESIDE_BYTES);
        uint8_t *out = self->out[self->out_count];
        const void *whole = rte_pktmbuf_read(frame, 0, frame->pkt_len, out);
        if (whole != out) {
            memcpy(out, whole, frame->pkt_len);
        }
        self->out_bytes[self->out_count] = frame->pkt_len;
        self->out_queue[self->out_count++] = queue;
        rte_pktmbuf_free(frame);
    }
    return taken;
}

static int port_arm(struct port *port, uint16_t queue)
{
    const struct beside_port *self = port_of(port);
    return self->in_count[queue] > 0 ? -EAGAIN : self->armed;
}

static void port_close(struct port *port)
{
    (void)port;
}

static const struct port_ops port_ops = {
    .receive = port_receive, .transmit = port_transmit, .arm = port_arm, .close = port_close};

static void port_open(struct beside_port *self, uint16_t queues)
{
    self->port.ops = &port_ops;
    self->port.facts = (struct port_facts){
        .mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .queue_count = queues, .tx_segments = true};
    rss_init(&self->port.facts.rss, queues);
    self->room = BESIDE_FRAMES;
    self->armed = -ENOTSUP;
}

struct rte_mbuf *beside_put(struct beside *beside, struct beside_port *port, unsigned queue,
                            const void *frame, uint32_t bytes)
{
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(beside->pools[1]);
    assert_non_null(mbuf);
    assert_in_range(port->in_count[queue], 0, BESIDE_FRAMES - 1);
    memcpy(rte_pktmbuf_append(mbuf, (uint16_t)bytes), frame, bytes);
    port->in[queue][(port->in_first[queue] + port->in_count[queue]++) % BESIDE_FRAMES] = mbuf;
    return mbuf;
}

/* ---- shards ---- */

struct shard_owner {
    struct beside *beside;
    unsigned index;
};

static struct shard_owner owners[BESIDE_SHARDS_MAX];

static int hand_over(void *owner, struct rte_mbuf *frame)
{
    const struct shard_owner *shard = owner;
    struct beside *beside = shard->beside;
    assert_in_range(beside->wandering_count, 0, BESIDE_FRAMES - 1);
    beside->wandering[beside->wandering_count].origin = shard->index;
    beside->wandering[beside->wandering_count++].frame = frame;
    return 0;
}

static void wander(struct beside *beside)
{
    for (unsigned i = 0; i < beside->wandering_count; i++) {
        unsigned origin = beside->wandering[i].origin;
        bool taken = false;
        for (unsigned step = 1; step < beside->shards && !taken; step++) {
            taken = stack_frame_take(beside->networks[(origin + step) % beside->shards],
                                     beside->wandering[i].frame);
        }
        if (!taken) {
            stack_frame_refuse(beside->networks[origin], beside->wandering[i].frame);
        }
    }
    beside->wandering_count = 0;
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    struct beside *beside = owner;
    (void)listener;
    beside->accepted = stream;
}

static void shard_open(struct beside *beside, unsigned index, const struct beside_settings *given)
{
    static const char *const texts[] = {"10.0.0.1/24", "fd00::1/64"};
    static const char *const any[] = {"0.0.0.0:25", "[::]:25"};
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 2};
    struct network_prefix addresses[2];
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(network_prefix_parse(&addresses[i], slice_text(texts[i])), 0);
    }
    owners[index] = (struct shard_owner){beside, index};
    const struct stack_settings settings = {
        .port = beside->dealt != NULL ? beside->dealt : &beside->wire.port,
        .exception = given->alone ? NULL : &beside->kernel.port,
        .queue = (uint16_t)index,
        .shard_count = (uint16_t)beside->shards,
        .world = &beside->world.world,
        .wheel = beside->wheels[index] = wheel_open(beside->world.now_ns),
        .pool = beside->pools[0],
        .addresses = addresses,
        .address_count = 2,
        .skips_dad = true,
        .vlan = given->vlan,
        .hand_over = beside->shards > 1 ? hand_over : NULL,
        .owner = &owners[index],
    };
    assert_int_equal(stack_open(&beside->networks[index], &settings), 0);
    for (unsigned i = 0; i < 2; i++) {
        const struct listen_request request = {
            .at = net_endpoint(any[i]), .accepted = accepted, .owner = beside};
        struct listener *listener;
        struct endpoint peer = net_endpoint(i == 0 ? "10.0.0.2:1" : "[fd00::2]:1");
        struct network *network = beside->networks[index];
        assert_int_equal(network->ops->listen(network, &request, &listener), 0);
        stack_neighbour_learn(network, &peer, mac);
    }
}

void beside_open(struct beside *beside, const struct beside_settings *settings)
{
    memset(beside, 0, sizeof(*beside));
    beside->shards = settings->shards == 0 ? 1 : settings->shards;
    for (unsigned i = 0; i < 2; i++) {
        beside->pools[i] = all_pools[i];
        beside->in_use[i] = rte_mempool_in_use_count(all_pools[i]);
    }
    net_world_open(&beside->world, 1);
    port_open(&beside->wire, settings->dealt ? 1 : (uint16_t)beside->shards);
    port_open(&beside->kernel, (uint16_t)beside->shards);
    if (settings->dealt) {
        assert_int_equal(
            port_deal_open(&beside->dealt, &beside->wire.port, (uint16_t)beside->shards), 0);
    }
    for (unsigned i = 0; i < beside->shards; i++) {
        shard_open(beside, i, settings);
    }
    beside_round(beside);
    beside_forget(beside);
}

void beside_close(struct beside *beside)
{
    beside->wire.room = beside->kernel.room = BESIDE_FRAMES;
    beside_forget(beside);
    if (beside->accepted != NULL) {
        stream_abort(beside->accepted);
        stream_release(beside->accepted);
    }
    beside_round(beside);
    for (unsigned i = 0; i < beside->shards; i++) {
        beside->networks[i]->ops->close(beside->networks[i]);
        wheel_close(beside->wheels[i]);
    }
    if (beside->dealt != NULL) {
        beside->dealt->ops->close(beside->dealt);
    }
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(rte_mempool_in_use_count(beside->pools[i]), beside->in_use[i]);
    }
}

void beside_round(struct beside *beside)
{
    unsigned work = 1;
    for (unsigned rounds = 0; work > 0 && rounds < 100; rounds++) {
        work = 0;
        for (unsigned i = 0; i < beside->shards; i++) {
            struct network *network = beside->networks[i];
            work += network->ops->poll(network, beside->world.now_ns);
            work += beside->wandering_count;
            wander(beside);
            wheel_run(beside->wheels[i], beside->world.now_ns);
            network->ops->flush(network, beside->world.now_ns);
        }
    }
}

void beside_forget(struct beside *beside)
{
    beside->wire.out_count = beside->kernel.out_count = 0;
}

uint64_t beside_sum(const struct beside *beside, size_t counter_offset)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < beside->shards; i++) {
        sum += stack_counter_at(stack_counters(beside->networks[i]),
                                (unsigned)(counter_offset / sizeof(uint64_t)));
    }
    return sum;
}

/* ---- frames ---- */

static void target_put(uint8_t *frame, const struct ip_address *to)
{
    static const uint8_t ours[6] = {2, 0, 0, 0, 0, 1}, other[6] = {2, 0, 0, 0, 0, 2};
    const uint8_t *last = (const uint8_t *)&to->words[3];
    memcpy(frame, ours, 6);
    memcpy(frame + 6, other, 6);
    if (ip_address_is_ipv4(to) && to->words[3] == UINT32_MAX) {
        memset(frame, 0xff, 6);
    } else if (ip_address_is_ipv4(to) && last[0] >> 4 == 14) {
        memcpy(frame, (const uint8_t[]){1, 0, 0x5e, last[1] & 0x7f, last[2], last[3]}, 6);
    } else if (!ip_address_is_ipv4(to) && ip_address_is_multicast(to)) {
        memcpy(frame, (const uint8_t[]){0x33, 0x33, last[0], last[1], last[2], last[3]}, 6);
    }
}

static void checksum_put(uint8_t *payload, const struct beside_packet *packet,
                         const struct ip_address *from, const struct ip_address *to)
{
    unsigned place = packet->protocol == IPPROTO_TCP                                          ? 16
                     : packet->protocol == IPPROTO_UDP                                        ? 6
                     : packet->protocol == IPPROTO_ICMP || packet->protocol == IPPROTO_ICMPV6 ? 2
                                                                                              : 0;
    if (place == 0 || packet->bytes < place + 2) {
        return;
    }
    uint64_t sum = packet->protocol == IPPROTO_ICMP
                       ? 0
                       : ip_pseudo_sum(from, to, packet->protocol, packet->bytes);
    memset(payload + place, 0, 2);
    uint16_t checksum = checksum_finish(checksum_add(sum, payload, packet->bytes));
    memcpy(payload + place, &checksum, 2);
}

uint32_t beside_make(uint8_t *frame, const struct beside_packet *packet)
{
    struct ip_address from = net_address(packet->from), to = net_address(packet->to);
    uint8_t *payload = frame + ETH_BYTES + IPV4_BYTES;
    target_put(frame, &to);
    if (ip_address_is_ipv4(&to)) {
        memcpy(frame + 12, (const uint8_t[]){8, 0}, 2);
        ipv4_header_fill((struct rte_ipv4_hdr *)(frame + ETH_BYTES), &from, &to, packet->protocol,
                         (uint16_t)packet->bytes);
    } else {
        uint32_t bytes = packet->extension_bytes + packet->bytes;
        payload = frame + ETH_BYTES + IPV6_BYTES + packet->extension_bytes;
        memcpy(frame + 12, (const uint8_t[]){0x86, 0xdd, 0x60, 0, 0, 0}, 6);
        frame[18] = (uint8_t)(bytes >> 8);
        frame[19] = (uint8_t)bytes;
        frame[20] = packet->extension_bytes > 0 ? packet->first_extension : packet->protocol;
        frame[21] = packet->hop_limit == 0 ? 64 : packet->hop_limit;
        memcpy(frame + 22, from.words, 16);
        memcpy(frame + 38, to.words, 16);
        if (packet->extension_bytes > 0) {
            memcpy(frame + 54, packet->extensions, packet->extension_bytes);
        }
    }
    memcpy(payload, packet->payload, packet->bytes);
    checksum_put(payload, packet, &from, &to);
    return (uint32_t)(payload - frame) + packet->bytes;
}

static const char *const ours[2] = {"10.0.0.1", "fd00::1"};
static const char *const theirs[2] = {"10.0.0.2", "fd00::2"};

uint32_t beside_segment(uint8_t *frame, unsigned family, uint16_t from_port, uint16_t to_port,
                        uint8_t flags)
{
    const struct rte_tcp_hdr tcp = {.src_port = htons(from_port),
                                    .dst_port = htons(to_port),
                                    .sent_seq = htonl(1000),
                                    .recv_ack = htonl(77),
                                    .data_off = 5 << 4,
                                    .tcp_flags = flags,
                                    .rx_win = htons(1000)};
    const struct beside_packet packet = {theirs[family], ours[family], IPPROTO_TCP,
                                         &tcp,           sizeof(tcp),  .hop_limit = 64};
    return beside_make(frame, &packet);
}

uint32_t beside_datagram(uint8_t *frame, unsigned family, uint16_t to_port, const char *text)
{
    uint8_t udp[64] = {0x13, 0x88, (uint8_t)(to_port >> 8), (uint8_t)to_port};
    uint32_t bytes = 8 + (uint32_t)strlen(text);
    udp[5] = (uint8_t)bytes;
    memcpy(udp + 8, text, strlen(text));
    const struct beside_packet packet = {theirs[family], ours[family],   IPPROTO_UDP, udp,
                                         bytes,          .hop_limit = 64};
    return beside_make(frame, &packet);
}
