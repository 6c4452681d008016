/* What connections cost while they are idle, and what happens when buffers run out. */
#include "tests/unit/net_pair.h"
#include "tests/unit/net_peer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct net_peer peer;

/* ---- idle ---- */

#define IDLE_COUNT 100000u
#define PORTS_EACH 50000u

static struct stream *idle[IDLE_COUNT];
static uint32_t idle_count;

static void idle_notified(struct stream *stream, uint32_t events, void *session)
{
    (void)stream;
    (void)events;
    (void)session;
}

static void idle_accepted(void *owner, struct listener *listener, struct stream *stream)
{
    (void)owner;
    (void)listener;
    stream->notify = idle_notified;
    idle[idle_count++] = stream;
}

static uint64_t slab_bytes(const struct slab *slab)
{
    return ((uint64_t)slab->block_count << slab->block_shift) * slab->object_bytes +
           ((uint64_t)(slab->max >> slab->block_shift) + 1) * sizeof(slab->blocks[0]);
}

static uint64_t state_bytes(const struct tcp *tcp)
{
    return slab_bytes(&tcp->conns) + slab_bytes(&tcp->half_opens) + slab_bytes(&tcp->time_waits) +
           slab_bytes(&tcp->pieces->slab) +
           ((uint64_t)tcp->table.mask + 1) * sizeof(tcp->table.slots[0]);
}

static void listen_at(uint16_t port)
{
    struct listen_request request = {.accepted = idle_accepted};
    struct listener *listener;
    assert_int_equal(endpoint_parse(&request.at, slice_text("10.0.0.1:25")), 0);
    request.at.port = port;
    assert_int_equal(peer.network->ops->listen(peer.network, &request, &listener), 0);
}

/* A session that has said something and been answered; now both are silent. */
static void open_idle(uint16_t port, uint16_t to, bool talks)
{
    struct net_segment segment = {.port = port,
                                  .to = to,
                                  .seq = 1000,
                                  .flags = TCP_SYN,
                                  .window = 65535,
                                  .scale = 8,
                                  .sack_permitted = true,
                                  .timestamp = true,
                                  .ts_value = 7};
    struct net_segment answer;
    net_peer_send(&peer, &segment);
    assert_true(net_peer_take(&peer, &answer));
    segment.flags = TCP_ACK;
    segment.seq++;
    segment.ack = answer.seq + 1;
    segment.ts_echo = answer.ts_value;
    segment.size = talks ? 100 : 0;
    net_peer_send(&peer, &segment);
    if (talks) {
        struct stream *stream = idle[idle_count - 1];
        stream_consume(stream, 100);
        assert_int_equal(stream_write(stream, slice_text("220 ready\r\n")), 0);
        net_peer_round(&peer);
        segment.seq += segment.size;
        segment.ack += 11;
        segment.size = 0;
        net_peer_send(&peer, &segment);
    }
    net_peer_forget(&peer);
}

static void a_hundred_thousand_idle_connections_cost_a_kilobyte_each_and_no_buffer(void **state)
{
    (void)state;
    const struct stack_limits limits = {
        .connection_max = IDLE_COUNT, .half_open_max = 1024, .time_wait_max = 1024};
    net_peer_open(&peer, &limits);
    listen_at(1025);
    listen_at(1026);
    idle_count = 0;
    for (uint32_t i = 0; i < IDLE_COUNT; i++) {
        open_idle((uint16_t)(2000 + i % PORTS_EACH), (uint16_t)(1025 + i / PORTS_EACH),
                  i % 10 == 0);
    }
    struct tcp *tcp = &peer.stack->tcp;
    assert_int_equal(idle_count, IDLE_COUNT);
    assert_int_equal(tcp->conns.used, IDLE_COUNT);
    assert_int_equal(tcp->half_opens.used, 0);
    assert_int_equal(tcp->held_mbufs, 0);
    assert_int_equal(rte_mempool_in_use_count(peer.pool), peer.in_use[0]);
    assert_true(rte_mempool_full(peer.stack->control));
    assert_true(rte_mempool_full(peer.stack->segments));
    assert_in_range(state_bytes(tcp) / IDLE_COUNT, sizeof(struct tcp_conn), 1024);
    for (uint32_t i = 0; i < IDLE_COUNT; i++) {
        stream_abort(idle[i]);
        stream_release(idle[i]);
        if (i % 256 == 0) {
            net_peer_round(&peer);
            net_peer_forget(&peer);
        }
    }
    net_peer_round(&peer);
    net_peer_forget(&peer);
    net_peer_close(&peer);
}

static bool swallow(void *owner, unsigned side, uint8_t *frame, uint32_t size)
{
    (void)owner;
    (void)side;
    (void)frame;
    (void)size;
    return false;
}

static void a_handshake_costs_a_cache_line_until_it_is_done(void **state)
{
    (void)state;
    const struct stack_limits limits = {.half_open_max = 2048};
    struct net_segment syn = {.seq = 1, .flags = TCP_SYN, .timestamp = true, .scale = 8};
    net_peer_open(&peer, &limits);
    for (uint32_t i = 0; i < 2048; i++) {
        syn.port = (uint16_t)(2000 + i);
        net_peer_send(&peer, &syn);
        net_peer_forget(&peer);
    }
    struct tcp *tcp = &peer.stack->tcp;
    assert_int_equal(tcp->half_opens.used, 2048);
    assert_int_equal(tcp->conns.block_count, 0);
    assert_int_equal(rte_mempool_in_use_count(peer.pool), peer.in_use[0]);
    assert_in_range(slab_bytes(&tcp->half_opens) / 2048, 1, 64);
    peer.link.ports[0].filter = swallow; /* the answers that are sent again meanwhile */
    net_peer_close(&peer);
}

static void a_connection_that_is_over_costs_a_cache_line_for_a_minute(void **state)
{
    (void)state;
    const struct stack_limits limits = {.time_wait_max = 2048};
    struct net_segment syn = {.scale = 8, .timestamp = true, .ts_value = 7};
    net_peer_open(&peer, &limits);
    for (uint32_t i = 0; i < 2048; i++) {
        syn.port = (uint16_t)(2000 + i);
        peer.stream_count = 0;
        net_peer_shake_hands(&peer, &syn);
        struct tcp_conn *conn = net_peer_conn(&peer);
        stream_shut(&conn->stream);
        net_peer_round(&peer);
        net_peer_send_next(&peer, TCP_FIN | TCP_ACK);
        net_peer_forget(&peer);
        net_peer_let_go(&peer);
    }
    struct tcp *tcp = &peer.stack->tcp;
    assert_int_equal(tcp->time_waits.used, 2048);
    assert_int_equal(tcp->conns.used, 0);
    assert_int_equal(rte_mempool_in_use_count(peer.pool), peer.in_use[0]);
    assert_in_range(slab_bytes(&tcp->time_waits) / 2048, 1, 64);
    net_peer_close(&peer);
}

/* ---- buffers run out, one watermark after the other ---- */

static const struct stack_limits scarce = {.held_mbuf_max = 80};
static struct net_peer_stream *sessions[3];

/* `segments` of 1000 bytes from the peer's `port`, `skip` bytes after what is there. */
static void data_arrive(uint16_t port, unsigned index, uint32_t skip, unsigned segments)
{
    struct tcp_conn *conn = (struct tcp_conn *)sessions[index]->stream;
    struct net_segment data = {.port = port,
                               .seq = conn->rcv_nxt + skip,
                               .ack = conn->snd_max,
                               .flags = TCP_ACK,
                               .window = 65535,
                               .size = 1000};
    for (unsigned i = 0; i < segments; i++) {
        net_peer_send(&peer, &data);
        data.seq += 1000;
    }
}

static void open_three(void)
{
    net_peer_open(&peer, &scarce);
    for (unsigned i = 0; i < 3; i++) {
        struct net_segment syn = {.port = (uint16_t)(4001 + i), .sack_permitted = true};
        net_peer_shake_hands(&peer, &syn);
        sessions[i] = net_peer_last(&peer);
    }
    net_peer_forget(&peer);
}

static struct tcp_conn *conn_of(unsigned index)
{
    return (struct tcp_conn *)sessions[index]->stream;
}

static bool syn_is_answered(uint16_t port)
{
    const struct net_segment syn = {.port = port, .seq = 1, .flags = TCP_SYN};
    net_peer_forget(&peer);
    net_peer_send(&peer, &syn);
    bool answered = peer.count > 0;
    net_peer_forget(&peer);
    return answered;
}

static uint32_t room_of(unsigned index)
{
    return conn_of(index)->rcv_edge - conn_of(index)->rcv_nxt;
}

static void as_buffers_become_short_windows_close_then_syns_are_refused_then_data(void **state)
{
    (void)state;
    open_three();
    struct tcp *tcp = &peer.stack->tcp;
    data_arrive(4001, 0, 0, 39);
    assert_true(room_of(0) > 20000);
    data_arrive(4002, 1, 0, 20); /* more than half: no window opens any further */
    assert_int_equal(conn_of(1)->rcv_edge, conn_of(1)->irs + 1 + 65535);
    stream_consume(&conn_of(1)->stream, 5000);
    net_peer_round(&peer);
    assert_int_equal(conn_of(1)->rcv_edge, conn_of(1)->irs + 1 + 65535);
    assert_true(syn_is_answered(5001));
    data_arrive(4002, 1, 0, 20);
    assert_int_equal(tcp->held_mbufs, 74); /* above seven eighths */
    assert_false(syn_is_answered(5002));
    assert_int_equal(peer.stack->counters.tcp_syns_refused, 1);
    data_arrive(4003, 2, 0, 10);
    assert_int_equal(tcp->held_mbufs, 80);
    assert_int_equal(conn_of(2)->received.bytes, 6000);
    assert_int_equal(peer.stack->counters.tcp_receive_pruned, 1); /* the rest: behind a gap */
    net_peer_forget(&peer);
    data_arrive(4003, 2, 0, 1); /* what is refused is answered, so that it comes again */
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, conn_of(2)->irs + 1 + 6000);
    stream_consume(&conn_of(1)->stream, 35000);
    stream_consume(&conn_of(0)->stream, 39000);
    net_peer_round(&peer);
    assert_true(syn_is_answered(5002)); /* and all is as before */
    data_arrive(4003, 2, 0, 10);
    assert_int_equal(conn_of(2)->received.bytes, 16000);
    assert_int_equal(conn_of(0)->rcv_edge - conn_of(0)->rcv_nxt, 65535);
    net_peer_close(&peer);
}

static void early_bytes_give_way_to_those_in_order_and_hold_up_nobody(void **state)
{
    (void)state;
    open_three();
    struct tcp *tcp = &peer.stack->tcp;
    data_arrive(4001, 0, 1000, 50); /* behind a gap that is never filled */
    assert_int_equal(tcp->early_mbufs, 50);
    data_arrive(4002, 1, 1000, 20); /* above three quarters the oldest give way */
    assert_int_equal(conn_of(0)->received.early_count, 0);
    assert_int_equal(conn_of(1)->received.early_count, 20);
    assert_int_equal(peer.stack->counters.tcp_out_of_order_pruned, 50);
    data_arrive(4001, 0, 1000, 40);
    assert_int_equal(tcp->early_mbufs, 60);
    assert_true(syn_is_answered(5001)); /* they do not count: they can go at any time */
    data_arrive(4003, 2, 0, 60);
    assert_int_equal(conn_of(2)->received.bytes, 60000);
    assert_int_equal(conn_of(1)->received.early_count, 0);
    assert_true(peer.stack->counters.tcp_receive_pruned == 0);
    stream_consume(&conn_of(2)->stream, 60000);
    data_arrive(4001, 0, 0, 10); /* what was dropped comes again, and is taken */
    assert_true(conn_of(0)->received.bytes >= 10000);
    net_peer_close(&peer);
}

/* ---- pools that are empty now and then ---- */

#define TALKERS 40u

static struct rte_mempool *pools[2];
static struct net_talker talkers[2][TALKERS];
static unsigned accepted_count;

static void talker_accepted(void *owner, struct listener *listener, struct stream *stream)
{
    (void)owner;
    (void)listener;
    struct net_talker *talker = &talkers[0][accepted_count++];
    talker->connected = true;
    net_talker_attach(talker, stream);
}

struct hoard {
    struct rte_mbuf *taken[8192];
    unsigned count;
};

static void hoard_take(struct hoard *hoard, struct rte_mempool *pool)
{
    while (hoard->count < RTE_DIM(hoard->taken) &&
           (hoard->taken[hoard->count] = rte_pktmbuf_alloc(pool)) != NULL) {
        hoard->count++;
    }
}

static void hoard_give(struct hoard *hoard)
{
    while (hoard->count > 0) {
        rte_pktmbuf_free(hoard->taken[--hoard->count]);
    }
}

static bool all_done(void)
{
    for (unsigned i = 0; i < TALKERS; i++) {
        if (!net_talker_done(&talkers[0][i]) || !net_talker_done(&talkers[1][i])) {
            return false;
        }
    }
    return true;
}

/* kind 0: data, 1: control, 2: segments with payload; of both hosts in turn. */
static void starve(struct net_pair *pair, unsigned kind)
{
    static struct hoard hoard;
    uint64_t random = kind;
    for (unsigned turn = 0; turn < 20000 && !all_done(); turn++) {
        struct stack *stack = stack_of(pair->hosts[turn % 2].network);
        struct rte_mempool *const victims[3] = {stack->pool, stack->control, stack->segments};
        hoard_take(&hoard, victims[kind]);
        net_pair_run(pair, 30 * MS_NS);
        hoard_give(&hoard);
        /* Not in step with timers that double. */
        net_pair_run(pair, 50 * MS_NS + net_random_below(&random, 40) * MS_NS);
        for (unsigned i = 0; i < 2 * TALKERS; i++) {
            net_talker_go(&talkers[i % 2][i / 2]);
        }
    }
    assert_true(all_done());
}

static void after_a_pool_was_empty_everything_goes_on_and_nothing_is_lost(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 3; kind++) {
        static struct net_pair pair;
        struct net_pair_settings settings = {.seed = 40 + kind,
                                             .faults = {.delay_ns = MS_NS, .lost = 20},
                                             .tx_segments = {true, true}};
        struct listen_request request = {.at = net_endpoint("10.0.0.1:25"),
                                         .accepted = talker_accepted};
        struct listener *listener;
        settings.limits[0].held_mbuf_max = 60;
        accepted_count = 0;
        net_pair_open(&pair, &settings, pools);
        struct network *server = pair.hosts[0].network, *client = pair.hosts[1].network;
        assert_int_equal(server->ops->listen(server, &request, &listener), 0);
        for (unsigned i = 0; i < TALKERS; i++) {
            struct connect_request to = {.to = net_endpoint("10.0.0.1:25")};
            struct stream *stream;
            net_talker_open(&talkers[0][i], &pair.world, 7, 0, 100000, 100000);
            net_talker_open(&talkers[1][i], &pair.world, 7, 1, 100000, 100000);
            talkers[0][i].holds_back = true;
            assert_int_equal(client->ops->connect(client, &to, &stream), 0);
            net_talker_attach(&talkers[1][i], stream);
        }
        starve(&pair, kind);
        for (unsigned i = 0; i < TALKERS; i++) {
            assert_false(talkers[0][i].wrong || talkers[1][i].wrong);
            assert_int_equal(talkers[0][i].error, 0);
            assert_int_equal(talkers[1][i].error, 0);
        }
        net_pair_run(&pair, 200 * SECOND_NS);
        for (unsigned side = 0; side < 2; side++) {
            struct stack *stack = stack_of(pair.hosts[side].network);
            assert_int_equal(stack->tcp.held_mbufs, 0);
            assert_int_equal(stack->tcp.conns.used, 0);
            assert_true(rte_mempool_full(stack->control));
            assert_true(rte_mempool_full(stack->segments));
            assert_true(rte_mempool_full(stack->pool));
        }
        net_pair_close(&pair);
    }
}

static int set_up(void **state)
{
    return net_peer_set_up(state) < 0 || net_pools_open(pools, 1023) < 0 ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hundred_thousand_idle_connections_cost_a_kilobyte_each_and_no_buffer),
        cmocka_unit_test(a_handshake_costs_a_cache_line_until_it_is_done),
        cmocka_unit_test(a_connection_that_is_over_costs_a_cache_line_for_a_minute),
        cmocka_unit_test(as_buffers_become_short_windows_close_then_syns_are_refused_then_data),
        cmocka_unit_test(early_bytes_give_way_to_those_in_order_and_hold_up_nobody),
        cmocka_unit_test(after_a_pool_was_empty_everything_goes_on_and_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, set_up, net_peer_tear_down);
}
