/* What surrounds TCP: ARP, ICMP, UDP; what happens when buffers are out; sessions that leave. */
#include "engine/net/checksum.h"
#include "engine/shard/memory.h"
#include "tests/unit/net_peer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct net_peer peer;

/* ---- ARP ---- */

static void arp_put(uint16_t operation, uint32_t sender, uint32_t target, uint8_t last_of_mac)
{
    uint8_t frame[60] = {255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, last_of_mac, 8, 6};
    struct rte_arp_hdr *arp = (struct rte_arp_hdr *)(frame + ETH_BYTES);
    *arp = (struct rte_arp_hdr){.arp_hardware = htons(RTE_ARP_HRD_ETHER),
                                .arp_protocol = htons(RTE_ETHER_TYPE_IPV4),
                                .arp_hlen = 6,
                                .arp_plen = 4,
                                .arp_opcode = htons(operation)};
    memcpy(arp->arp_data.arp_sha.addr_bytes, frame + 6, 6);
    arp->arp_data.arp_sip = htonl(sender);
    arp->arp_data.arp_tip = htonl(target);
    net_peer_inject(&peer, frame, sizeof(frame));
    net_peer_round(&peer);
}

static unsigned count_arp(uint16_t operation)
{
    uint8_t frame[NET_PEER_FRAME_BYTES];
    unsigned count = 0;
    while (net_peer_frame(&peer, frame) > 0) {
        const struct rte_arp_hdr *arp = (const struct rte_arp_hdr *)(frame + ETH_BYTES);
        count += frame[12] == 8 && frame[13] == 6 && arp->arp_opcode == htons(operation);
    }
    return count;
}

static void a_question_for_us_is_answered_and_others_are_not(void **state)
{
    (void)state;
    uint8_t frame[NET_PEER_FRAME_BYTES];
    net_peer_open(&peer, NULL);
    peer.keep_frames = true;
    arp_put(RTE_ARP_OP_REQUEST, 0x0a000009, 0x0a000001, 9);
    assert_int_equal(net_peer_frame(&peer, frame), 42);
    const struct rte_arp_hdr *arp = (const struct rte_arp_hdr *)(frame + ETH_BYTES);
    assert_int_equal(arp->arp_opcode, htons(RTE_ARP_OP_REPLY));
    assert_int_equal(arp->arp_data.arp_sip, htonl(0x0a000001));
    assert_int_equal(arp->arp_data.arp_tip, htonl(0x0a000009));
    assert_int_equal(frame[5], 9);
    arp_put(RTE_ARP_OP_REQUEST, 0, 0x0a000001, 9); /* a probe: RFC 5227 */
    assert_int_equal(count_arp(RTE_ARP_OP_REPLY), 1);
    arp_put(RTE_ARP_OP_REQUEST, 0x0a000009, 0x0a000005, 9);
    arp_put(RTE_ARP_OP_REQUEST, 0x0b000009, 0x0a000001, 9); /* of another network */
    arp_put(RTE_ARP_OP_REQUEST, 0x0a000009, 0x0a000001, 1); /* with our own Ethernet address */
    arp_put(RTE_ARP_OP_REQUEST, 0x0a000001, 0x0a000001, 9); /* with our own IP address */
    assert_int_equal(count_arp(RTE_ARP_OP_REPLY), 0);
    assert_int_equal(peer.stack->counters.arp_conflicts, 1);
    assert_int_equal(peer.stack->counters.arp_refused, 2);
    net_peer_close(&peer);
}

static void an_answer_that_was_not_asked_for_teaches_nothing(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    peer.silent_arp = true;
    arp_put(RTE_ARP_OP_REPLY, 0x0a000002, 0x0a000001, 66);
    net_peer_connect(&peer, 0);
    net_peer_expect_none(&peer); /* it waits for an answer */
    arp_put(RTE_ARP_OP_REPLY, 0x0a000002, 0x0a000001, 2);
    net_peer_expect(&peer, TCP_SYN);
    net_peer_close(&peer);
}

static void who_does_not_answer_is_asked_each_second_and_cannot_be_reached(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    peer.silent_arp = peer.keep_frames = true;
    net_peer_connect(&peer, 60 * SECOND_NS);
    net_peer_wait(&peer, 500 * MS_NS);
    assert_int_equal(count_arp(RTE_ARP_OP_REQUEST), 1);
    net_peer_wait(&peer, 1000 * MS_NS);
    assert_int_equal(count_arp(RTE_ARP_OP_REQUEST), 1);
    net_peer_wait(&peer, 10 * SECOND_NS);
    assert_int_equal(net_peer_last(&peer)->error, -EHOSTUNREACH);
    assert_int_equal(peer.stack->neighbours.waiting_count, 0);
    net_peer_close(&peer);
}

static void packets_that_wait_for_an_address_are_bounded(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    peer.silent_arp = true;
    for (uint16_t i = 0; i < 200; i++) {
        const struct net_segment syn = {
            .port = (uint16_t)(5000 + i), .seq = 1, .flags = TCP_SYN, .window = 1000};
        net_peer_send(&peer, &syn);
    }
    assert_int_equal(peer.stack->neighbours.waiting_count, NEIGHBOUR_WAITING_MAX);
    assert_int_equal(peer.stack->counters.arp_unresolved_lost, 200 - NEIGHBOUR_WAITING_MAX);
    arp_put(RTE_ARP_OP_REPLY, 0x0a000002, 0x0a000001, 2);
    assert_int_equal(peer.count, NEIGHBOUR_WAITING_MAX);
    for (unsigned i = 0; i < 40; i++) {
        net_peer_forget(&peer);
        net_peer_wait(&peer, SECOND_NS);
    }
    net_peer_close(&peer);
}

static void a_neighbour_that_has_aged_is_asked_again_and_used_meanwhile(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    peer.keep_frames = peer.silent_arp = true;
    net_peer_wait(&peer, 61 * SECOND_NS);
    net_peer_write(&peer, "x");
    assert_int_equal(peer.count, 2);      /* the question, and the segment */
    net_peer_wait(&peer, 45 * SECOND_NS); /* retransmissions ask too, until it is given up */
    assert_true(count_arp(RTE_ARP_OP_REQUEST) >= 5);
    assert_true(peer.stack->counters.arp_unresolved_lost > 0);
    peer.silent_arp = peer.keep_frames = false;
    net_peer_wait(&peer, 62 * SECOND_NS);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK | TCP_PSH).size, 1);
    net_peer_close(&peer);
}

static void the_last_question_to_an_aged_neighbour_is_waited_for_too(void **state)
{
    (void)state;
    struct net_segment syn = {.seq = 1, .flags = TCP_SYN, .window = 1000};
    net_peer_open_plain(&peer);
    peer.silent_arp = true;
    net_peer_wait(&peer, 61 * SECOND_NS);
    uint64_t asked = peer.stack->counters.arp_out;
    for (unsigned i = 0; i < 5; i++) {
        syn.port = (uint16_t)(5000 + i);
        net_peer_wait(&peer, 1100 * MS_NS);
        net_peer_forget(&peer);
        net_peer_send(&peer, &syn);
        net_peer_expect(&peer, TCP_SYN | TCP_ACK);
    }
    assert_int_equal(peer.stack->counters.arp_out, asked + 5);
    syn.port = 6000;
    net_peer_forget(&peer);
    net_peer_send(&peer, &syn);
    net_peer_expect(&peer, TCP_SYN | TCP_ACK);
    net_peer_wait(&peer, 1100 * MS_NS);
    net_peer_forget(&peer);
    syn.port = 6001;
    net_peer_send(&peer, &syn);
    net_peer_expect_none(&peer);
    arp_put(RTE_ARP_OP_REPLY, 0x0a000002, 0x0a000001, 2);
    for (unsigned i = 0; i < 80; i++) {
        net_peer_forget(&peer);
        net_peer_wait(&peer, SECOND_NS);
    }
    net_peer_close(&peer);
}

/* ---- ICMP and UDP ---- */

static void ping(uint32_t bytes)
{
    uint8_t frame[NET_PEER_FRAME_BYTES] = {0};
    struct rte_icmp_hdr *icmp = (struct rte_icmp_hdr *)(frame + ETH_BYTES + IPV4_BYTES);
    *icmp = (struct rte_icmp_hdr){.icmp_type = RTE_IP_ICMP_ECHO_REQUEST, .icmp_ident = 7};
    memset(icmp + 1, 0x5a, bytes);
    icmp->icmp_cksum = checksum_finish(checksum_add(0, icmp, 8 + bytes));
    net_peer_ipv4(frame, IPPROTO_ICMP, 8 + bytes);
    net_peer_inject(&peer, frame, ETH_BYTES + IPV4_BYTES + 8 + bytes);
    net_peer_round(&peer);
}

static void an_echo_is_returned_whole(void **state)
{
    (void)state;
    uint8_t frame[NET_PEER_FRAME_BYTES];
    net_peer_open_plain(&peer);
    peer.keep_frames = true;
    for (uint32_t bytes = 0; bytes <= 1472; bytes += 184) {
        ping(bytes);
        assert_int_equal(net_peer_frame(&peer, frame), ETH_BYTES + IPV4_BYTES + 8 + bytes);
        const struct rte_icmp_hdr *icmp =
            (const struct rte_icmp_hdr *)(frame + ETH_BYTES + IPV4_BYTES);
        assert_int_equal(icmp->icmp_type, RTE_IP_ICMP_ECHO_REPLY);
        assert_int_equal(icmp->icmp_ident, 7);
        assert_int_equal(checksum_finish(checksum_add(0, icmp, 8 + bytes)), 0);
        assert_int_equal(frame[5], 2);
    }
    net_peer_close(&peer);
}

static void echoes_are_bounded_in_time(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    for (unsigned i = 0; i < 1100; i++) {
        ping(10);
    }
    assert_int_equal(peer.stack->counters.icmp_out, 1000);
    net_peer_wait(&peer, SECOND_NS);
    ping(10);
    assert_int_equal(peer.stack->counters.icmp_out, 1001);
    net_peer_close(&peer);
}

static void udp_is_told_that_nobody_listens(void **state)
{
    (void)state;
    uint8_t frame[NET_PEER_FRAME_BYTES] = {0}, answer[NET_PEER_FRAME_BYTES];
    net_peer_open_plain(&peer);
    peer.keep_frames = true;
    net_peer_ipv4(frame, IPPROTO_UDP, 30);
    memset(frame + ETH_BYTES + IPV4_BYTES, 0x11, 30);
    memcpy(frame + ETH_BYTES + IPV4_BYTES + 4, "\0\36\0\0", 4); /* its length; no checksum */
    net_peer_inject(&peer, frame, ETH_BYTES + IPV4_BYTES + 30);
    net_peer_round(&peer);
    assert_int_equal(net_peer_frame(&peer, answer), ETH_BYTES + IPV4_BYTES + 8 + IPV4_BYTES + 8);
    const uint8_t *icmp = answer + ETH_BYTES + IPV4_BYTES;
    assert_int_equal(icmp[0], 3);
    assert_int_equal(icmp[1], 3);
    assert_memory_equal(icmp + 8, frame + ETH_BYTES, IPV4_BYTES + 8);
    net_peer_close(&peer);
}

/* An ICMP error that quotes a segment of the last stream. */
static void icmp_error(uint8_t type, uint8_t code, uint16_t mtu, uint32_t seq)
{
    uint8_t frame[NET_PEER_FRAME_BYTES] = {0};
    const struct tcp_conn *conn = net_peer_conn(&peer);
    struct rte_icmp_hdr *icmp = (struct rte_icmp_hdr *)(frame + ETH_BYTES + IPV4_BYTES);
    struct rte_ipv4_hdr *quoted = (struct rte_ipv4_hdr *)(icmp + 1);
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(quoted + 1);
    *icmp = (struct rte_icmp_hdr){.icmp_type = type, .icmp_code = code, .icmp_seq_nb = htons(mtu)};
    ipv4_header_fill(quoted, &conn->tuple.local, &conn->tuple.remote, IPPROTO_TCP, 20);
    tcp->src_port = htons(conn->tuple.local_port);
    tcp->dst_port = htons(conn->tuple.remote_port);
    tcp->sent_seq = htonl(seq);
    icmp->icmp_cksum = checksum_finish(checksum_add(0, icmp, 8 + IPV4_BYTES + 8));
    net_peer_ipv4(frame, IPPROTO_ICMP, 8 + IPV4_BYTES + 8);
    net_peer_inject(&peer, frame, ETH_BYTES + IPV4_BYTES + 8 + IPV4_BYTES + 8);
    net_peer_round(&peer);
}

static void an_unreachable_port_ends_an_attempt_when_it_quotes_our_syn(void **state)
{
    (void)state;
    net_peer_open(&peer, NULL);
    net_peer_connect(&peer, 0);
    uint32_t seq = net_peer_expect(&peer, TCP_SYN).seq;
    icmp_error(3, 3, 0, seq + 1);
    icmp_error(3, 3, 0, seq - 1);
    assert_int_equal(net_peer_last(&peer)->events, 0);
    assert_int_equal(peer.stack->counters.icmp_in_errors, 2);
    icmp_error(3, 3, 0, seq);
    assert_int_equal(net_peer_last(&peer)->error, -ECONNREFUSED);
    net_peer_connect(&peer, 0);
    icmp_error(3, 1, 0, net_peer_expect(&peer, TCP_SYN).seq);
    assert_int_equal(net_peer_last(&peer)->error, -EHOSTUNREACH);
    net_peer_close(&peer);
}

static void an_unreachable_host_never_ends_a_connection_but_explains_its_end(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    net_peer_write(&peer, "hello");
    uint32_t seq = net_peer_expect(&peer, TCP_ACK | TCP_PSH).seq;
    icmp_error(3, 1, 0, seq);
    assert_int_equal(net_peer_last(&peer)->events, 0);
    net_peer_wait(&peer, 362 * SECOND_NS);
    assert_int_equal(net_peer_last(&peer)->error, -EHOSTUNREACH);
    net_peer_forget(&peer);
    net_peer_close(&peer);
}

static void a_narrow_path_makes_segments_smaller_but_not_for_a_guess(void **state)
{
    (void)state;
    net_peer_open_plain(&peer);
    static const uint8_t text[3000];
    assert_int_equal(stream_write(net_peer_last(&peer)->stream, slice_of(text, 3000)), 0);
    net_peer_round(&peer);
    uint32_t seq = net_peer_expect(&peer, TCP_ACK).seq;
    net_peer_forget(&peer);
    icmp_error(3, 4, 1000, seq + 3000); /* not under way */
    assert_int_equal(net_peer_conn(&peer)->mss, 1460);
    icmp_error(3, 4, 1000, seq);
    assert_int_equal(net_peer_conn(&peer)->mss, 960);
    struct net_segment again = net_peer_expect(&peer, TCP_ACK);
    assert_int_equal(again.seq, seq);
    assert_int_equal(again.size, 960);
    icmp_error(3, 4, 68, seq); /* below what any path must carry: no lower than this */
    assert_int_equal(net_peer_conn(&peer)->mss, TCP_MSS_DEFAULT - 40);
    icmp_error(3, 4, 1400, seq); /* never up */
    assert_int_equal(net_peer_conn(&peer)->mss, TCP_MSS_DEFAULT - 40);
    net_peer_close(&peer);
}

/* ---- buffers ---- */

static void without_data_buffers_arp_ping_and_reset_are_still_answered(void **state)
{
    (void)state;
    static struct rte_mbuf *taken[1023];
    unsigned count = 0;
    net_peer_open_plain(&peer);
    peer.keep_frames = true;
    while (count < RTE_DIM(taken) && (taken[count] = rte_pktmbuf_alloc(peer.pool)) != NULL) {
        count++;
    }
    assert_null(rte_pktmbuf_alloc(peer.pool));
    assert_int_equal(stream_write(net_peer_last(&peer)->stream, slice_text("x")), -ENOMEM);
    arp_put(RTE_ARP_OP_REQUEST, 0x0a000009, 0x0a000001, 9);
    assert_int_equal(count_arp(RTE_ARP_OP_REPLY), 1);
    ping(1000);
    assert_int_equal(peer.count, 1);
    net_peer_forget(&peer);
    const struct net_segment stray = {.to = 999, .seq = 1, .ack = 77, .flags = TCP_ACK};
    net_peer_send(&peer, &stray);
    assert_int_equal(net_peer_expect(&peer, TCP_RST).seq, 77);
    while (count > 0) {
        rte_pktmbuf_free(taken[--count]);
    }
    net_peer_wait(&peer, 10 * MS_NS);
    assert_int_equal(net_peer_last(&peer)->events & STREAM_WRITABLE, STREAM_WRITABLE);
    net_peer_close(&peer);
}

static void without_control_buffers_what_is_lost_comes_again(void **state)
{
    (void)state;
    static struct rte_mbuf *taken[4096];
    unsigned count = 0;
    net_peer_open_plain(&peer);
    while ((taken[count] = rte_pktmbuf_alloc(peer.stack->segments)) != NULL) {
        count++;
    }
    net_peer_conn(&peer)->quick_acks = 0;
    assert_int_equal(stream_write(net_peer_last(&peer)->stream, slice_text("hello")), 0);
    peer.network->ops->flush(peer.network, peer.world.now_ns);
    assert_true(peer.stack->counters.frames_out_no_buffer > 0);
    while (count > 0) {
        rte_pktmbuf_free(taken[--count]);
    }
    net_peer_round(&peer);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK | TCP_PSH).size, 5);
    net_peer_close(&peer);
}

/* ---- sessions that leave while references are out ---- */

static unsigned dropped;

static void reference_end(struct ref *ref)
{
    (void)ref;
    dropped++;
}

static void an_aborted_stream_gives_its_references_back_when_the_port_has(void **state)
{
    (void)state;
    struct ref ref;
    uint8_t *bytes = memory_take("bytes", 2000, 64);
    net_peer_open_plain(&peer);
    peer.link.faults.dma_ns = MS_NS; /* until the port reads what it was given */
    dropped = 0;
    ref_init(&ref, reference_end);
    struct stream *stream = net_peer_last(&peer)->stream;
    assert_int_equal(stream_write_ref(stream, slice_of(bytes, 2000), &ref), 0);
    ref_drop(&ref);
    peer.network->ops->flush(peer.network, peer.world.now_ns);
    assert_true(rte_mempool_in_use_count(peer.stack->segments) > 0);
    stream_abort(stream);
    assert_int_equal(dropped, 0);
    net_peer_wait(&peer, 5 * MS_NS);
    assert_int_equal(dropped, 1);
    assert_int_equal(net_peer_last(&peer)->events, STREAM_CLOSED);
    assert_int_equal(net_peer_last(&peer)->error, -ECONNABORTED);
    struct net_segment segment;
    while (net_peer_take(&peer, &segment)) {
    }
    assert_int_equal(segment.flags, 0);
    assert_int_equal(stream_write(stream, slice_text("x")), -EPIPE);
    net_peer_close(&peer);
    memory_give(bytes);
}

static void a_released_stream_keeps_its_references_until_they_are_acknowledged(void **state)
{
    (void)state;
    struct ref ref;
    uint8_t *bytes = memory_take("bytes", 2000, 64);
    net_peer_open_plain(&peer);
    struct net_segment ack = net_peer_next(&peer, TCP_ACK);
    dropped = 0;
    ref_init(&ref, reference_end);
    assert_int_equal(stream_write_ref(net_peer_last(&peer)->stream, slice_of(bytes, 2000), &ref),
                     0);
    ref_drop(&ref);
    net_peer_let_go(&peer);
    assert_int_equal(net_peer_expect(&peer, TCP_ACK).size, 1460);
    struct net_segment last = net_peer_expect(&peer, TCP_ACK | TCP_PSH | TCP_FIN);
    assert_int_equal(last.size, 540);
    ack.ack = last.seq + 100;
    net_peer_send(&peer, &ack);
    assert_int_equal(dropped, 0);
    ack.ack = last.seq + 541;
    net_peer_send(&peer, &ack);
    assert_int_equal(dropped, 1);
    net_peer_wait(&peer, 61 * SECOND_NS);
    net_peer_close(&peer);
    memory_give(bytes);
}

static void a_connection_in_the_clear_says_so_whatever_was_there_before(void **state)
{
    struct stream_facts facts;
    (void)state;
    memset(&facts, 0xff, sizeof(facts));
    net_peer_open_plain(&peer);
    stream_facts(net_peer_last(&peer)->stream, &facts);
    assert_null(facts.tls);
    assert_string_equal(facts.transport, "dpdk");
    assert_int_equal(facts.remote.port, 4000);
    net_peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_in_the_clear_says_so_whatever_was_there_before),
        cmocka_unit_test(a_question_for_us_is_answered_and_others_are_not),
        cmocka_unit_test(an_answer_that_was_not_asked_for_teaches_nothing),
        cmocka_unit_test(who_does_not_answer_is_asked_each_second_and_cannot_be_reached),
        cmocka_unit_test(packets_that_wait_for_an_address_are_bounded),
        cmocka_unit_test(a_neighbour_that_has_aged_is_asked_again_and_used_meanwhile),
        cmocka_unit_test(the_last_question_to_an_aged_neighbour_is_waited_for_too),
        cmocka_unit_test(an_echo_is_returned_whole),
        cmocka_unit_test(echoes_are_bounded_in_time),
        cmocka_unit_test(udp_is_told_that_nobody_listens),
        cmocka_unit_test(an_unreachable_port_ends_an_attempt_when_it_quotes_our_syn),
        cmocka_unit_test(an_unreachable_host_never_ends_a_connection_but_explains_its_end),
        cmocka_unit_test(a_narrow_path_makes_segments_smaller_but_not_for_a_guess),
        cmocka_unit_test(without_data_buffers_arp_ping_and_reset_are_still_answered),
        cmocka_unit_test(without_control_buffers_what_is_lost_comes_again),
        cmocka_unit_test(an_aborted_stream_gives_its_references_back_when_the_port_has),
        cmocka_unit_test(a_released_stream_keeps_its_references_until_they_are_acknowledged),
    };
    return cmocka_run_group_tests(tests, net_peer_set_up, net_peer_tear_down);
}
