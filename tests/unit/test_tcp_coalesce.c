/* Segments that continue each other in a burst become one, and nothing changes but the cost. */
#include "tests/unit/net_peer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct net_peer peer;

static uint8_t byte_at(uint32_t offset)
{
    return (uint8_t)(offset * 11 + (offset >> 8));
}

/* For the next round: `size` bytes that lie `offset` behind `base`. */
static struct net_segment piece(uint32_t base, uint32_t offset, uint32_t size)
{
    struct net_segment data = net_peer_next(&peer, TCP_ACK);
    data.seq = base + offset;
    data.size = size;
    for (uint32_t i = 0; i < size; i++) {
        data.bytes[i] = byte_at(offset + i);
    }
    return data;
}

static void put(uint32_t base, uint32_t offset, uint32_t size)
{
    struct net_segment data = piece(base, offset, size);
    net_peer_put(&peer, &data);
}

static void assert_received(struct stream *stream, uint32_t count)
{
    struct slice slices[64];
    uint32_t at = 0;
    size_t pieces = stream_peek(stream, slices, 64);
    for (size_t i = 0; i < pieces; i++) {
        for (size_t j = 0; j < slices[i].size; j++, at++) {
            assert_int_equal(slices[i].bytes[j], byte_at(at));
        }
    }
    assert_int_equal(at, count);
}

static uint64_t joined(void)
{
    return peer.stack->counters.tcp_rx_coalesced;
}

static void a_burst_in_order_is_one_segment_to_tcp(void **state)
{
    (void)state;
    net_peer_open_with_options(&peer);
    struct tcp_conn *conn = net_peer_conn(&peer);
    uint32_t base = conn->rcv_nxt;
    uint64_t before = peer.stack->counters.tcp_in_segments;
    for (uint32_t i = 0; i < 10; i++) {
        put(base, i * 1400, 1400);
    }
    net_peer_round(&peer);
    assert_int_equal(joined(), 9);
    assert_int_equal(peer.stack->counters.tcp_in_segments, before + 10);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, base + 14000);
    net_peer_expect_none(&peer);
    assert_int_equal(conn->rcv_mss, 1400);
    assert_int_equal(conn->quick_acks, 16 - 10);
    assert_received(&conn->stream, 14000);
    stream_consume(&conn->stream, 14000);
    net_peer_close(&peer);
}

static void every_second_full_segment_still_counts(void **state)
{
    (void)state;
    net_peer_open_with_options(&peer);
    struct tcp_conn *conn = net_peer_conn(&peer);
    uint32_t base = conn->rcv_nxt;
    conn->quick_acks = 0;
    conn->rcv_mss = 1400;
    put(base, 0, 700);
    put(base, 700, 700);
    net_peer_round(&peer);
    assert_int_equal(joined(), 1);
    net_peer_expect_none(&peer); /* one full segment's worth */
    assert_int_equal(conn->rcv_mss, 1400);
    put(base, 1400, 700);
    put(base, 2100, 700);
    net_peer_round(&peer);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, base + 2800);
    net_peer_close(&peer);
}

enum change {
    CHANGE_ACK,
    CHANGE_WINDOW,
    CHANGE_TIME,
    CHANGE_ECHO,
    CHANGE_FIN,
    CHANGE_MARK,
    CHANGE_GAP,
    CHANGE_SACK,
    CHANGE_PORT
};

static void what_says_something_else_is_seen_by_itself(void **state)
{
    (void)state;
    for (enum change change = CHANGE_ACK; change <= CHANGE_PORT; change++) {
        net_peer_open_with_options(&peer);
        uint32_t base = net_peer_conn(&peer)->rcv_nxt;
        struct net_segment other = piece(base, 1000, 1000);
        put(base, 0, 1000);
        switch (change) {
        case CHANGE_ACK:
            other.ack--;
            break;
        case CHANGE_WINDOW:
            other.window--;
            break;
        case CHANGE_TIME:
            other.ts_value++;
            break;
        case CHANGE_ECHO:
            other.ts_echo++;
            break;
        case CHANGE_FIN:
            other.flags |= TCP_FIN;
            break;
        case CHANGE_MARK:
            other.ecn = TCP_CE;
            break;
        case CHANGE_GAP:
            other.seq++;
            break;
        case CHANGE_SACK:
            other.range_count = 1;
            break;
        case CHANGE_PORT:
            other.port = 4001;
            break;
        }
        net_peer_put(&peer, &other);
        net_peer_round(&peer);
        assert_int_equal(joined(), 0);
        net_peer_close(&peer);
    }
}

static void runs_of_several_connections_may_be_interleaved(void **state)
{
    (void)state;
    struct net_segment syns[3] = {{.port = 4000}, {.port = 4001}, {.port = 4002}};
    uint32_t bases[3];
    net_peer_open(&peer, NULL);
    for (unsigned i = 0; i < 3; i++) {
        net_peer_shake_hands(&peer, &syns[i]);
        bases[i] = net_peer_conn(&peer)->rcv_nxt;
    }
    for (uint32_t i = 0; i < 10; i++) {
        for (unsigned j = 0; j < 3; j++) {
            struct net_segment data = piece(bases[j], i * 1000, 1000);
            data.port = syns[j].port;
            data.ack = ((struct tcp_conn *)peer.streams[j].stream)->snd_max;
            net_peer_put(&peer, &data);
        }
    }
    net_peer_round(&peer);
    for (unsigned j = 0; j < 3; j++) {
        assert_received(peer.streams[j].stream, 10000);
    }
    assert_true(joined() >= 18); /* two of them may share a place */
    net_peer_close(&peer);
}

static void segments_of_nobody_are_not_joined(void **state)
{
    (void)state;
    struct net_segment data = {.port = 4009, .seq = 1, .ack = 1, .flags = TCP_ACK, .size = 100};
    net_peer_open_plain(&peer);
    net_peer_put(&peer, &data);
    data.seq += 100;
    net_peer_put(&peer, &data);
    net_peer_round(&peer);
    net_peer_expect(&peer, TCP_RST); /* each may have to go to another shard, as it came */
    net_peer_expect(&peer, TCP_RST);
    assert_int_equal(joined(), 0);
    net_peer_close(&peer);
}

static void without_sack_early_ones_are_answered_one_by_one_though_joined(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    uint32_t base = net_peer_conn(&peer)->rcv_nxt;
    for (uint32_t i = 1; i <= 3; i++) {
        put(base, i * 1000, 1000);
    }
    net_peer_round(&peer);
    assert_int_equal(joined(), 2);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, base);
    }
    net_peer_close(&peer);
}

static void of_a_run_as_much_is_taken_as_there_are_buffers_for(void **state)
{
    (void)state;
    const struct stack_limits limits = {.held_mbuf_max = 4};
    struct net_segment syn = {0};
    net_peer_open(&peer, &limits);
    net_peer_shake_hands(&peer, &syn);
    struct tcp_conn *conn = net_peer_conn(&peer);
    uint32_t base = conn->rcv_nxt;
    for (uint32_t i = 0; i < 6; i++) {
        put(base, i * 1000, 1000);
    }
    net_peer_round(&peer);
    assert_int_equal(joined(), 5);
    assert_int_equal(peer.stack->tcp.held_mbufs, 4);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, base + 4000);
    assert_received(&conn->stream, 4000);
    net_peer_close(&peer);
}

/* ---- a port that coalesces by itself ---- */

static struct rte_mbuf *arriving;

static uint16_t receive_one(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                            uint16_t count)
{
    (void)port;
    (void)queue;
    (void)count;
    frames[0] = arriving;
    arriving = NULL;
    return frames[0] != NULL;
}

static struct rte_mbuf *mbuf_of(const void *bytes, uint32_t size)
{
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(peer.pool);
    assert_non_null(mbuf);
    memcpy(rte_pktmbuf_append(mbuf, (uint16_t)size), bytes, size);
    return mbuf;
}

/* Ten segments of 1400 bytes as one packet of 14,000, in a chain whose first holds the headers. */
static struct rte_mbuf *large_packet(uint32_t seq)
{
    const struct tcp_conn *conn = net_peer_conn(&peer);
    uint8_t bytes[ETH_BYTES + IPV4_BYTES + TCP_HEADER_BYTES + 1400] = {0};
    uint32_t headers = sizeof(bytes) - 1400;
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(bytes + ETH_BYTES + IPV4_BYTES);
    *tcp = (struct rte_tcp_hdr){.src_port = htons(conn->tuple.remote_port),
                                .dst_port = htons(conn->tuple.local_port),
                                .sent_seq = htonl(seq),
                                .recv_ack = htonl(conn->snd_max),
                                .data_off = 5 << 4,
                                .tcp_flags = TCP_ACK,
                                .rx_win = UINT16_MAX};
    net_peer_ipv4(bytes, IPPROTO_TCP, TCP_HEADER_BYTES + 14000);
    struct rte_mbuf *frame = NULL;
    for (uint32_t i = 0; i < 10; i++) {
        for (uint32_t j = 0; j < 1400; j++) {
            bytes[headers + j] = byte_at(i * 1400 + j);
        }
        struct rte_mbuf *mbuf =
            i == 0 ? mbuf_of(bytes, sizeof(bytes)) : mbuf_of(bytes + headers, 1400);
        if (frame == NULL) {
            frame = mbuf;
        } else {
            assert_int_equal(rte_pktmbuf_chain(frame, mbuf), 0);
        }
    }
    frame->ol_flags = RTE_MBUF_F_RX_L4_CKSUM_GOOD | RTE_MBUF_F_RX_LRO;
    return frame;
}

static void a_packet_that_the_port_has_joined_is_taken_as_what_it_was(void **state)
{
    (void)state;
    for (unsigned told = 0; told < 2; told++) {
        net_peer_open_plain(&peer);
        struct tcp_conn *conn = net_peer_conn(&peer);
        struct port *port = &peer.link.ports[0].port;
        const struct port_ops *ops = port->ops;
        struct port_ops with_lro = *ops;
        uint32_t base = conn->rcv_nxt;
        with_lro.receive = receive_one;
        arriving = large_packet(base);
        arriving->tso_segsz = told != 0 ? 1400 : 0;
        port->ops = &with_lro;
        net_peer_round(&peer);
        port->ops = ops;
        assert_int_equal(net_peer_expect(&peer, TCP_ACK).ack, base + 14000);
        net_peer_expect_none(&peer);
        assert_int_equal(conn->rcv_mss, told != 0 ? 1400 : 1460);
        assert_int_equal(conn->quick_acks, 16 - 10);
        assert_received(&conn->stream, 14000);
        net_peer_close(&peer);
    }
}

/* Any cut, order, repetition and burst: what comes out is what was sent. */
static void any_bursts_come_out_byte_by_byte(void **state)
{
    (void)state;
    uint64_t random = 5, any = 0;
    for (unsigned turn = 0; turn < 200; turn++) {
        net_peer_open_with_options(&peer);
        struct tcp_conn *conn = net_peer_conn(&peer);
        uint32_t base = conn->rcv_nxt, sent = 0;
        while (conn->received.bytes < 40000) {
            for (uint32_t burst = net_random_below(&random, 40); burst > 0; burst--) {
                uint32_t done = conn->received.bytes;
                bool stray = net_random_below(&random, 8) == 0;
                uint32_t at = stray ? done + net_random_below(&random, 9000) : sent;
                uint32_t size = 1 + net_random_below(&random, 1400);
                at = at < 40000 ? at : done;
                size = at + size < 40000 ? size : 40000 - at;
                if (size > 0) {
                    put(base, at, size);
                }
                sent = stray ? sent : at + size;
            }
            sent = net_random_below(&random, 2) == 0 ? conn->received.bytes : sent;
            net_peer_round(&peer);
            net_peer_forget(&peer);
        }
        uint32_t at = 0;
        while (conn->received.bytes > 0) {
            struct slice slice;
            assert_int_equal(stream_peek(&conn->stream, &slice, 1), 1);
            for (size_t i = 0; i < slice.size; i++, at++) {
                assert_int_equal(slice.bytes[i], byte_at(at));
            }
            stream_consume(&conn->stream, slice.size);
        }
        assert_int_equal(at, 40000);
        any += joined();
        net_peer_close(&peer);
    }
    assert_true(any > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_in_order_is_one_segment_to_tcp),
        cmocka_unit_test(every_second_full_segment_still_counts),
        cmocka_unit_test(what_says_something_else_is_seen_by_itself),
        cmocka_unit_test(runs_of_several_connections_may_be_interleaved),
        cmocka_unit_test(segments_of_nobody_are_not_joined),
        cmocka_unit_test(without_sack_early_ones_are_answered_one_by_one_though_joined),
        cmocka_unit_test(of_a_run_as_much_is_taken_as_there_are_buffers_for),
        cmocka_unit_test(a_packet_that_the_port_has_joined_is_taken_as_what_it_was),
        cmocka_unit_test(any_bursts_come_out_byte_by_byte),
    };
    return cmocka_run_group_tests(tests, net_peer_set_up, net_peer_tear_down);
}
