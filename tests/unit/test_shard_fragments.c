/* What comes in fragments reaches its connection or socket, on whichever shard the fragments meet. */
#include "tests/unit/net_fragment.h"
#include "tests/unit/net_shards.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define STEP_BYTES 400u
#define SOCKETS 8u
#define ANSWER_BYTES 1200u

static uint32_t next_id;
static uint64_t cut_count;
static struct datagram_socket *clients[SOCKETS];

/* A router with a narrow link behind it: what is large is cut, and the last piece is the first to arrive. */
static bool cut(void *owner, unsigned side, uint8_t *frame, uint32_t size)
{
    const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(frame + ETH_BYTES);
    const uint32_t at = ETH_BYTES + IPV4_BYTES, payload_bytes = size - at;
    (void)owner;
    (void)side;
    if (frame[12] != 8 || frame[13] != 0 || size < at + 2 * STEP_BYTES) {
        return true;
    }
    struct net_fragment part = {.from = ip_address_of_ipv4(ip->src_addr),
                                .to = ip_address_of_ipv4(ip->dst_addr),
                                .id = ++next_id,
                                .protocol = ip->next_proto_id,
                                .payload = frame + at};
    for (uint32_t left = (payload_bytes + STEP_BYTES - 1) / STEP_BYTES; left-- > 0;) {
        uint8_t piece[NET_FRAGMENT_FRAME_BYTES];
        part.offset = left * STEP_BYTES;
        part.more = payload_bytes - part.offset > STEP_BYTES;
        part.bytes = part.more ? STEP_BYTES : payload_bytes - part.offset;
        uint32_t bytes = net_fragment_make(piece, &part);
        memcpy(piece, frame, 12);
        net_link_inject(&net_shards.link, 0, piece, bytes);
    }
    cut_count++;
    return false;
}

static void segments_in_fragments_reach_their_connection(void **state)
{
    (void)state;
    for (unsigned shard_count = 1; shard_count <= NET_SHARDS_MAX; shard_count *= 2) {
        for (enum net_shards_hash hash = HASH_AGREES; hash <= HASH_UNKNOWN; hash++) {
            net_shards_open(shard_count, hash, false);
            net_shards.link.ports[1].filter = cut;
            cut_count = 0;
            net_shards_converse();
            net_shards_run(20 * SECOND_NS);
            net_shards_all_said();
            assert_true(cut_count > 1000);
            /* The wire loses frames before they are cut, so each became whole. */
            assert_int_equal(NET_SHARDS_SUM(ip_reassembly_done), cut_count);
            assert_int_equal(NET_SHARDS_SUM(ip_reassembly_failed), 0);
            assert_int_equal(NET_SHARDS_SUM(tcp_handed_over) > 0, shard_count > 1);
            assert_int_equal(NET_SHARDS_SUM(tcp_handed_over), NET_SHARDS_SUM(tcp_taken_over));
            assert_int_equal(NET_SHARDS_SUM(tcp_out_resets), 0);
            net_shards_close();
        }
    }
}

/* ---- datagrams ---- */

static void notified(struct datagram_socket *socket, void *session)
{
    (void)socket;
    (void)session;
}

static struct datagram_socket *open_at(struct network *network, const char *at, const char *peer)
{
    struct datagram_request request = {.notify = notified};
    struct datagram_socket *socket;
    if (at != NULL) {
        request.at = net_endpoint(at);
    }
    if (peer != NULL) {
        request.peer = net_endpoint(peer);
    }
    assert_int_equal(udp_open(network, &request, &socket), 0);
    return socket;
}

static void answer_all(struct datagram_socket *server)
{
    static uint8_t answer[ANSWER_BYTES];
    struct datagram datagram;
    for (unsigned i = 0; i < SOCKETS; i++) {
        assert_int_equal(datagram_receive(server, &datagram), 1);
        memset(answer, datagram.bytes.bytes[0], sizeof(answer));
        const struct endpoint to = datagram.from;
        assert_int_equal(datagram_send(server, &to, slice_of(answer, sizeof(answer))), 0);
    }
}

static void datagrams_in_fragments_reach_their_socket(void **state)
{
    (void)state;
    for (unsigned shard_count = 1; shard_count <= NET_SHARDS_MAX; shard_count *= 2) {
        for (enum net_shards_hash hash = HASH_AGREES; hash <= HASH_UNKNOWN; hash++) {
            struct datagram datagram;
            net_shards_open(shard_count, hash, false);
            net_shards.link.faults.lost = 0;
            net_shards.link.ports[1].filter = cut;
            cut_count = 0;
            struct datagram_socket *server = open_at(net_shards.peer, "10.0.0.2:53", NULL);
            for (uint8_t i = 0; i < SOCKETS; i++) {
                struct network *ours = net_shards.shards[i % shard_count].network;
                clients[i] = open_at(ours, NULL, "10.0.0.2:53");
                assert_int_equal(datagram_send(clients[i], NULL, slice_of(&i, 1)), 0);
            }
            net_shards_run(10 * MS_NS);
            answer_all(server);
            net_shards_run(10 * MS_NS);
            for (uint8_t i = 0; i < SOCKETS; i++) {
                assert_int_equal(datagram_receive(clients[i], &datagram), 1);
                assert_int_equal(datagram.bytes.size, ANSWER_BYTES);
                assert_int_equal(datagram.bytes.bytes[0], i);
                assert_int_equal(datagram.bytes.bytes[ANSWER_BYTES - 1], i);
                datagram_close(clients[i]);
            }
            assert_int_equal(cut_count, SOCKETS);
            assert_int_equal(NET_SHARDS_SUM(ip_reassembly_done), SOCKETS);
            /* They met on one shard, which had its part of the sockets. */
            assert_int_equal(NET_SHARDS_SUM(udp_taken_over), SOCKETS - SOCKETS / shard_count);
            assert_int_equal(NET_SHARDS_SUM(udp_handed_over), NET_SHARDS_SUM(udp_taken_over));
            assert_int_equal(NET_SHARDS_SUM(udp_no_ports), 0);
            datagram_close(server);
            net_shards_close();
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_in_fragments_reach_their_connection),
        cmocka_unit_test(datagrams_in_fragments_reach_their_socket),
    };
    return cmocka_run_group_tests(tests, net_shards_set_up, net_shards_tear_down);
}
