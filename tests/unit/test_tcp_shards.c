/* One port, several shards: each connection finds its shard, whatever the port's hash is like. */
#include "engine/core/check.h"
#include "engine/net/checksum.h"
#include "engine/net/port_deal.h"
#include "engine/net/stack_private.h"
#include "engine/shard/memory.h"
#include "tests/unit/net_pair.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SHARDS_MAX 4u
#define TALKERS 40u
#define QUEUE_FRAMES 4096u
#define WANDERING_MAX 4096u

enum hash {
    HASH_AGREES,
    HASH_IS_ANOTHER, /* what the mbufs carry is not what the key gives */
    HASH_MISDEALS,   /* what they carry is right, but the table is not followed */
    HASH_UNKNOWN,    /* the port says nothing, and deals by another one */
};

struct fifo {
    struct rte_mbuf *frames[QUEUE_FRAMES];
    unsigned first, count;
};

struct wandering {
    unsigned origin;
    struct rte_mbuf *frame;
};

struct rig;

struct rig_shard {
    struct rig *rig;
    unsigned index;
    struct network *network;
    struct wheel *wheel;
};

struct rig {
    struct port port; /* several queues before the one of the link */
    enum hash hash;
    unsigned shard_count;
    struct rig_shard shards[SHARDS_MAX];
    struct fifo fifos[SHARDS_MAX];
    struct wandering wandering[WANDERING_MAX];
    unsigned wandering_count;
    struct net_world world;
    struct net_link link;
    struct network *peer;
    struct wheel *peer_wheel;
    struct port *dealt; /* by port_deal; NULL: not */
};

static struct rte_mempool *pools[2];
static struct rig rig;
static struct net_talker talkers[2][2 * TALKERS]; /* ours, the peer's; the first half we call */
static unsigned accepted_count[2];

/* ---- a port of several queues ---- */

static void fifo_put(unsigned queue, struct rte_mbuf *frame)
{
    struct fifo *fifo = &rig.fifos[queue];
    check(fifo->count < QUEUE_FRAMES);
    fifo->frames[(fifo->first + fifo->count++) % QUEUE_FRAMES] = frame;
}

static void deal(struct rte_mbuf *frame)
{
    struct rss_tuple tuple;
    const uint8_t *bytes = rte_pktmbuf_mtod(frame, const uint8_t *);
    if (!rss_tuple_of_frame(&tuple, bytes, frame->data_len)) {
        fifo_put(0, frame);
        return;
    }
    if (bytes[ETH_BYTES + 9] == IPPROTO_ICMP) { /* the device sees the router's address only */
        fifo_put(rig.shard_count - 1, frame);
        return;
    }
    uint32_t hash = rss_hash(&rig.port.facts.rss, &tuple);
    uint32_t other = hash * 2654435761u >> 8;
    unsigned queue = rss_queue_of_hash(&rig.port.facts.rss, hash);
    frame->ol_flags |= RTE_MBUF_F_RX_RSS_HASH;
    frame->hash.rss = hash;
    switch (rig.hash) {
    case HASH_AGREES:
        break;
    case HASH_IS_ANOTHER:
        frame->hash.rss = other;
        queue = other % rig.shard_count;
        break;
    case HASH_MISDEALS:
        queue = other % rig.shard_count;
        break;
    case HASH_UNKNOWN:
        frame->ol_flags &= ~RTE_MBUF_F_RX_RSS_HASH;
        queue = other % rig.shard_count;
        break;
    }
    fifo_put(queue, frame);
}

static uint16_t rig_receive(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                            uint16_t count)
{
    struct port *wire = &rig.link.ports[0].port;
    struct rte_mbuf *arrived[32];
    struct fifo *fifo = &rig.fifos[queue];
    uint16_t got;
    (void)port;
    while ((got = wire->ops->receive(wire, 0, arrived, 32)) > 0) {
        for (uint16_t i = 0; i < got; i++) {
            deal(arrived[i]);
        }
    }
    for (got = 0; got < count && fifo->count > 0; fifo->count--) {
        frames[got++] = fifo->frames[fifo->first];
        fifo->first = (fifo->first + 1) % QUEUE_FRAMES;
    }
    return got;
}

static uint16_t rig_transmit(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                             uint16_t count)
{
    struct port *wire = &rig.link.ports[0].port;
    (void)port;
    (void)queue;
    return wire->ops->transmit(wire, 0, frames, count);
}

static int rig_arm(struct port *port, uint16_t queue)
{
    (void)port;
    return rig.fifos[queue].count > 0 ? -EAGAIN : -ENOTSUP;
}

static void rig_port_close(struct port *port)
{
    (void)port;
}

static const struct port_ops rig_ops = {
    .receive = rig_receive, .transmit = rig_transmit, .arm = rig_arm, .close = rig_port_close};

/* ---- what goes from shard to shard ---- */

static int hand_over(void *owner, struct rte_mbuf *frame)
{
    const struct rig_shard *shard = owner;
    if (rig.wandering_count == WANDERING_MAX) {
        return -ENOBUFS;
    }
    rig.wandering[rig.wandering_count++] = (struct wandering){shard->index, frame};
    return 0;
}

static void wander(void)
{
    for (unsigned i = 0; i < rig.wandering_count; i++) {
        struct wandering *one = &rig.wandering[i];
        bool taken = false;
        for (unsigned step = 1; step < rig.shard_count && !taken; step++) {
            unsigned at = (one->origin + step) % rig.shard_count;
            taken = stack_frame_take(rig.shards[at].network, one->frame);
        }
        if (!taken) {
            stack_frame_refuse(rig.shards[one->origin].network, one->frame);
        }
    }
    rig.wandering_count = 0;
}

static int ask_neighbour(void *owner, const struct endpoint *address)
{
    (void)owner;
    stack_neighbour_wanted(rig.shards[0].network, address);
    return 0;
}

static void share_neighbour(void *owner, const struct endpoint *address, const uint8_t mac[6])
{
    const struct rig_shard *shard = owner;
    for (unsigned i = 0; i < rig.shard_count; i++) {
        if (i != shard->index && rig.shards[i].network != NULL) {
            stack_neighbour_learn(rig.shards[i].network, address, mac);
        }
    }
}

/* ---- the rig ---- */

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    unsigned side = (unsigned)(uintptr_t)owner;
    (void)listener;
    /* We call with the first half, so the peer accepts those, and the other way round. */
    unsigned index = accepted_count[side]++ + (side == 0 ? TALKERS : 0);
    check(index < 2 * TALKERS);
    net_talker_attach(&talkers[side][index], stream);
}

static void listen_at(struct network *network, const char *at, unsigned side)
{
    struct listen_request request = {
        .at = net_endpoint(at), .accepted = accepted, .owner = (void *)(uintptr_t)side};
    struct listener *listener;
    assert_int_equal(network->ops->listen(network, &request, &listener), 0);
}

static void open_shard(unsigned index, struct port *port)
{
    struct rig_shard *shard = &rig.shards[index];
    struct network_prefix address;
    *shard = (struct rig_shard){.rig = &rig, .index = index};
    shard->wheel = wheel_open(rig.world.now_ns);
    assert_int_equal(network_prefix_parse(&address, slice_text("10.0.0.1/24")), 0);
    const struct stack_settings settings = {
        .port = port,
        .queue = (uint16_t)index,
        .shard_count = (uint16_t)rig.shard_count,
        .world = &rig.world.world,
        .wheel = shard->wheel,
        .pool = pools[0],
        .addresses = &address,
        .address_count = 1,
        .hand_over = hand_over,
        .ask_neighbour = index > 0 ? ask_neighbour : NULL,
        .share_neighbour = share_neighbour,
        .owner = shard,
    };
    assert_int_equal(stack_open(&shard->network, &settings), 0);
    listen_at(shard->network, "10.0.0.1:25", 0);
}

static void open_peer(void)
{
    struct network_prefix address;
    rig.peer_wheel = wheel_open(rig.world.now_ns);
    assert_int_equal(network_prefix_parse(&address, slice_text("10.0.0.2/24")), 0);
    const struct stack_settings settings = {.port = &rig.link.ports[1].port,
                                            .world = &rig.world.world,
                                            .wheel = rig.peer_wheel,
                                            .pool = pools[1],
                                            .addresses = &address,
                                            .address_count = 1};
    assert_int_equal(stack_open(&rig.peer, &settings), 0);
    listen_at(rig.peer, "10.0.0.2:25", 1);
}

static void claim(struct rss *rss, unsigned queue_count)
{
    uint16_t table[128];
    for (unsigned i = 0; i < RTE_DIM(table); i++) {
        table[i] = (uint16_t)(i % queue_count);
    }
    rss_init(rss, (uint16_t)queue_count);
    if (queue_count > 1) {
        assert_int_equal(
            rss_claim(rss, rss_key_symmetric, RSS_KEY_BYTES_MAX, table, RTE_DIM(table)), 0);
    }
}

static void open_rig(unsigned shard_count, enum hash hash, bool dealt)
{
    memset(&rig, 0, sizeof(rig));
    memset(accepted_count, 0, sizeof(accepted_count));
    rig.hash = hash;
    rig.shard_count = shard_count;
    net_world_open(&rig.world, 5);
    net_link_open(&rig.link, &rig.world, 5, pools[0], pools[1]);
    rig.link.faults = (struct net_faults){.delay_ns = MS_NS, .lost = 20};
    rig.port.ops = &rig_ops;
    rig.port.facts = rig.link.ports[0].port.facts;
    rig.port.facts.queue_count = (uint16_t)shard_count;
    claim(&rig.port.facts.rss, shard_count);
    struct port *port = &rig.port;
    if (dealt) {
        assert_int_equal(port_deal_open(&rig.dealt, &rig.link.ports[0].port, (uint16_t)shard_count),
                         0);
        port = rig.dealt;
    } else if (hash == HASH_UNKNOWN) {
        rig.port.facts.rss.mode = RSS_UNKNOWN;
    }
    for (unsigned i = 0; i < shard_count; i++) {
        open_shard(i, port);
    }
    open_peer();
}

static void round_of(struct network *network, struct wheel *wheel)
{
    network->ops->poll(network, rig.world.now_ns);
    wheel_run(wheel, rig.world.now_ns);
    network->ops->flush(network, rig.world.now_ns);
}

static void run(uint64_t for_ns)
{
    for (uint64_t until_ns = rig.world.now_ns + for_ns; rig.world.now_ns < until_ns;) {
        rig.world.now_ns += 100000;
        net_link_run(&rig.link);
        for (unsigned i = 0; i < rig.shard_count; i++) {
            round_of(rig.shards[i].network, rig.shards[i].wheel);
        }
        wander();
        round_of(rig.peer, rig.peer_wheel);
    }
}

static void close_rig(void)
{
    for (unsigned i = 0; i < rig.shard_count; i++) {
        rig.shards[i].network->ops->close(rig.shards[i].network);
        wheel_close(rig.shards[i].wheel);
    }
    rig.peer->ops->close(rig.peer);
    wheel_close(rig.peer_wheel);
    if (rig.dealt != NULL) {
        rig.dealt->ops->close(rig.dealt);
    }
    for (unsigned i = 0; i < rig.shard_count; i++) {
        for (; rig.fifos[i].count > 0; rig.fifos[i].count--) {
            rte_pktmbuf_free(rig.fifos[i].frames[rig.fifos[i].first]);
            rig.fifos[i].first = (rig.fifos[i].first + 1) % QUEUE_FRAMES;
        }
    }
    net_link_close(&rig.link);
    assert_true(rte_mempool_full(pools[0]));
    assert_true(rte_mempool_full(pools[1]));
}

static uint64_t sum_of(size_t offset)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < rig.shard_count; i++) {
        uint64_t value;
        memcpy(&value, (const uint8_t *)stack_counters(rig.shards[i].network) + offset,
               sizeof(value));
        sum += value;
    }
    return sum;
}

#define SUM(name) sum_of(offsetof(struct stack_counters, name))

static struct stream *call(struct network *network, const char *to)
{
    struct connect_request request = {.to = net_endpoint(to)};
    struct stream *stream;
    assert_int_equal(network->ops->connect(network, &request, &stream), 0);
    return stream;
}

static void converse(void)
{
    for (unsigned i = 0; i < 2 * TALKERS; i++) {
        net_talker_open(&talkers[0][i], &rig.world, 7, 0, 50000, 50000);
        net_talker_open(&talkers[1][i], &rig.world, 7, 1, 50000, 50000);
    }
    for (unsigned i = 0; i < TALKERS; i++) {
        struct network *ours = rig.shards[i % rig.shard_count].network;
        net_talker_attach(&talkers[0][i], call(ours, "10.0.0.2:25"));
        net_talker_attach(&talkers[1][TALKERS + i], call(rig.peer, "10.0.0.1:25"));
        run(MS_NS);
    }
}

static void assert_all_said(void)
{
    for (unsigned i = 0; i < 2 * TALKERS; i++) {
        for (unsigned side = 0; side < 2; side++) {
            assert_false(talkers[side][i].wrong);
            assert_int_equal(talkers[side][i].error, 0);
            assert_true(net_talker_done(&talkers[side][i]));
        }
    }
}

/* ---- */

static void every_connection_finds_its_shard_whatever_the_hash(void **state)
{
    (void)state;
    for (unsigned shard_count = 1; shard_count <= SHARDS_MAX; shard_count *= 2) {
        for (enum hash hash = HASH_AGREES; hash <= HASH_UNKNOWN; hash++) {
            open_rig(shard_count, hash, false);
            converse();
            run(10 * SECOND_NS);
            assert_all_said();
            bool home = shard_count == 1 || hash == HASH_AGREES;
            assert_int_equal(SUM(tcp_handed_over) > 0, !home);
            assert_int_equal(SUM(tcp_handed_over), SUM(tcp_taken_over));
            assert_int_equal(SUM(tcp_out_resets), 0);
            for (unsigned i = 0; i < shard_count; i++) { /* and all of them work */
                assert_true(stack_counters(rig.shards[i].network)->tcp_passive_opens > 0);
            }
            close_rig();
        }
    }
}

static void a_hash_that_lies_is_found_out_by_those_who_see_it(void **state)
{
    (void)state;
    open_rig(4, HASH_IS_ANOTHER, false);
    converse();
    run(SECOND_NS);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(stack_of(rig.shards[i].network)->rss.mode, RSS_UNKNOWN);
    }
    close_rig();
}

static void a_hash_that_agrees_is_proven_to_all(void **state)
{
    (void)state;
    open_rig(4, HASH_AGREES, false);
    converse();
    run(SECOND_NS);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(stack_of(rig.shards[i].network)->rss.mode, RSS_PROVEN);
    }
    run(10 * SECOND_NS);
    assert_all_said();
    assert_int_equal(SUM(tcp_hand_overs_lost), 0);
    close_rig();
}

static void through_one_queue_frames_are_dealt_to_their_shards(void **state)
{
    (void)state;
    for (unsigned shard_count = 2; shard_count <= SHARDS_MAX; shard_count *= 2) {
        struct port_deal_counters counters;
        uint64_t dealt = 0;
        open_rig(shard_count, HASH_AGREES, true);
        converse();
        run(10 * SECOND_NS);
        assert_all_said();
        assert_int_equal(SUM(tcp_handed_over), 0);
        for (unsigned i = 0; i < shard_count; i++) {
            port_deal_counters(rig.dealt, (uint16_t)i, &counters);
            dealt += counters.dealt;
            assert_int_equal(counters.dealt_lost, 0);
            assert_true(stack_counters(rig.shards[i].network)->tcp_passive_opens > 0);
        }
        assert_true(dealt > 1000);
        close_rig();
    }
}

/* ---- ICMP errors ---- */

static void inject_unreachable(const struct tcp_conn *conn)
{
    uint8_t frame[ETH_BYTES + IPV4_BYTES + 8 + IPV4_BYTES + TCP_HEADER_BYTES] = {
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0};
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + ETH_BYTES);
    struct rte_icmp_hdr *icmp = (struct rte_icmp_hdr *)(ip + 1);
    struct rte_ipv4_hdr *quoted = (struct rte_ipv4_hdr *)(icmp + 1);
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(quoted + 1);
    struct ip_address router = ip_address_of_ipv4(htonl(0x0a000009));
    uint16_t bytes = (uint16_t)(sizeof(frame) - ETH_BYTES - IPV4_BYTES);
    ipv4_header_fill(ip, &router, &conn->tuple.local, IPPROTO_ICMP, bytes);
    ipv4_header_fill(quoted, &conn->tuple.local, &conn->tuple.remote, IPPROTO_TCP,
                     TCP_HEADER_BYTES);
    tcp->src_port = htons(conn->tuple.local_port);
    tcp->dst_port = htons(conn->tuple.remote_port);
    tcp->sent_seq = htonl(conn->iss);
    icmp->icmp_type = 3;
    icmp->icmp_code = 3;
    icmp->icmp_cksum = checksum_finish(checksum_add(0, icmp, bytes));
    net_link_inject(&rig.link, 0, frame, sizeof(frame));
}

static bool drop_all(void *owner, unsigned side, uint8_t *frame, uint32_t size)
{
    (void)owner;
    (void)side;
    (void)size;
    return frame[12] == 8 && frame[13] == 6; /* but ARP */
}

static void an_icmp_error_finds_the_connection_that_it_quotes(void **state)
{
    (void)state;
    for (enum hash hash = HASH_AGREES; hash <= HASH_UNKNOWN; hash++) {
        open_rig(4, hash, false);
        rig.link.ports[1].filter = drop_all;
        for (unsigned i = 0; i < 4; i++) {
            net_talker_open(&talkers[0][i], &rig.world, 7, 0, 100, 100);
            struct stream *stream = call(rig.shards[i].network, "10.0.0.2:26");
            net_talker_attach(&talkers[0][i], stream);
            run(10 * MS_NS);
            inject_unreachable((struct tcp_conn *)stream);
            run(10 * MS_NS);
            assert_true(talkers[0][i].closed);
            assert_int_equal(talkers[0][i].error, -ECONNREFUSED);
        }
        assert_int_equal(SUM(tcp_handed_over), 3); /* one lived where they arrive */
        assert_int_equal(SUM(tcp_taken_over), 3);
        /* One of nobody's is looked at by all, and that is all. */
        struct tcp_conn nobody = {.tuple = {.local = ip_address_of_ipv4(htonl(0x0a000001)),
                                            .remote = ip_address_of_ipv4(htonl(0x0a000002)),
                                            .local_port = 7,
                                            .remote_port = 8}};
        inject_unreachable(&nobody);
        run(10 * MS_NS);
        assert_int_equal(SUM(tcp_handed_over), 4);
        assert_int_equal(SUM(tcp_taken_over), 3);
        assert_int_equal(SUM(icmp_in_errors), 1);
        close_rig();
    }
}

/* ---- a flood on one shard ---- */

#define STRAY_BYTES (ETH_BYTES + IPV4_BYTES + TCP_HEADER_BYTES)

/* An acknowledgement of no connection, from anybody. */
static void stray_make(uint8_t *frame, uint16_t port, uint64_t *dice)
{
    static const uint8_t ethernet[ETH_BYTES] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0};
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + ETH_BYTES);
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(ip + 1);
    struct ip_address from = ip_address_of_ipv4(htonl(0x0a000003 + net_random_below(dice, 200)));
    struct ip_address to = ip_address_of_ipv4(htonl(0x0a000001));
    memset(frame, 0, STRAY_BYTES);
    memcpy(frame, ethernet, ETH_BYTES);
    ipv4_header_fill(ip, &from, &to, IPPROTO_TCP, TCP_HEADER_BYTES);
    tcp->src_port = htons((uint16_t)(1024 + net_random_below(dice, 60000)));
    tcp->dst_port = htons(port);
    tcp->data_off = 5 << 4;
    tcp->tcp_flags = TCP_ACK;
    tcp->sent_seq = (uint32_t)net_random(dice);
    uint64_t sum =
        (uint64_t)ip->src_addr + ip->dst_addr + htons(IPPROTO_TCP) + htons(TCP_HEADER_BYTES);
    tcp->cksum = checksum_finish(checksum_add(sum, tcp, TCP_HEADER_BYTES));
}

static void stray_to(unsigned queue, uint64_t *dice)
{
    uint8_t frame[STRAY_BYTES];
    stray_make(frame, (uint16_t)(32768 + net_random_below(dice, 28000)), dice);
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pools[0]);
    assert_non_null(mbuf);
    memcpy(rte_pktmbuf_append(mbuf, sizeof(frame)), frame, sizeof(frame));
    fifo_put(queue, mbuf);
}

static void where_the_hash_is_proven_strays_are_reset_at_home(void **state)
{
    (void)state;
    uint8_t frame[STRAY_BYTES];
    uint64_t dice = 3;
    open_rig(4, HASH_AGREES, false);
    converse();
    run(20 * SECOND_NS);
    assert_all_said();
    for (unsigned i = 0; i < 100; i++) {
        stray_make(frame, 26, &dice);
        net_link_inject(&rig.link, 0, frame, sizeof(frame));
    }
    run(10 * MS_NS);
    assert_int_equal(SUM(tcp_out_resets), 100);
    assert_int_equal(SUM(tcp_handed_over), 0);
    /* What could be of an outgoing connection is asked for nevertheless. */
    stray_make(frame, 40000, &dice);
    net_link_inject(&rig.link, 0, frame, sizeof(frame));
    run(10 * MS_NS);
    assert_int_equal(SUM(tcp_handed_over), 1);
    assert_int_equal(SUM(tcp_out_resets), 101);
    close_rig();
}

static void a_flood_on_one_shard_leaves_the_others_alone(void **state)
{
    (void)state;
    for (enum hash hash = HASH_AGREES; hash <= HASH_UNKNOWN; hash++) {
        uint64_t dice = 1;
        open_rig(4, hash, false);
        converse();
        uint64_t start_ns = rig.world.now_ns;
        for (unsigned i = 0; i < 2000; i++) {
            for (unsigned j = 0; j < 100; j++) { /* a million in a second */
                stray_to(1, &dice);
            }
            run(100000);
        }
        uint64_t passed_ms = (rig.world.now_ns - start_ns) / MS_NS;
        const struct stack_counters *flooded = stack_counters(rig.shards[1].network);
        assert_true(flooded->tcp_hand_overs_lost > 100000);
        /* Each of the others has looked at no more than this. */
        assert_in_range(flooded->tcp_handed_over, 1, passed_ms * 200 + 2000);
        run(100 * SECOND_NS);
        assert_all_said();
        close_rig();
    }
}

static int set_up(void **state)
{
    const struct memory_settings settings = {.program = "test", .megabytes = 512};
    (void)state;
    return memory_start(&settings) < 0 || net_pools_open(pools, 16383) < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    memory_pool_close(pools[0]);
    memory_pool_close(pools[1]);
    memory_stop();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_connection_finds_its_shard_whatever_the_hash),
        cmocka_unit_test(a_hash_that_lies_is_found_out_by_those_who_see_it),
        cmocka_unit_test(a_hash_that_agrees_is_proven_to_all),
        cmocka_unit_test(where_the_hash_is_proven_strays_are_reset_at_home),
        cmocka_unit_test(through_one_queue_frames_are_dealt_to_their_shards),
        cmocka_unit_test(an_icmp_error_finds_the_connection_that_it_quotes),
        cmocka_unit_test(a_flood_on_one_shard_leaves_the_others_alone),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
