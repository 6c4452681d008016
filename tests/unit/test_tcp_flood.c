/* Floods, and blind attacks on connections whose addresses and ports are known, while a thousand
 * honest sessions go on: none of them fails, and none loses a byte. */
#include "engine/core/check.h"
#include "engine/net/checksum.h"
#include "engine/net/stack_private.h"
#include "tests/unit/net_pair.h"
#include "engine/shard/memory.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define HONEST 1000u
#define HEADERS_BYTES (ETH_BYTES + IPV4_BYTES + TCP_HEADER_BYTES + TCP_TIMESTAMP_BYTES)
#define PAYLOAD_BYTES 100u

static struct rte_mempool *pools[2];
static struct net_pair pair;
static struct net_talker talkers[2][HONEST];
static unsigned accepted_count;
static uint64_t dice;
static unsigned attack_count;

static uint32_t any(void)
{
    return (uint32_t)net_random(&dice);
}

static uint32_t below(uint32_t bound)
{
    return net_random_below(&dice, bound);
}

/* ---- the honest ---- */

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    (void)owner;
    (void)listener;
    assert_in_range(accepted_count, 0, HONEST - 1);
    net_talker_attach(&talkers[0][accepted_count++], stream);
}

static void open_pair(uint64_t seed, const struct stack_limits *limits)
{
    struct net_pair_settings settings = {.seed = seed,
                                         .faults = {.delay_ns = MS_NS, .lost = 20},
                                         .tx_segments = {true, true},
                                         .routed = true};
    struct listen_request request = {.at = net_endpoint("10.0.0.1:25"), .accepted = accepted};
    struct listener *listener;
    settings.limits[0] = *limits;
    net_pair_open(&pair, &settings, pools);
    dice = seed;
    accepted_count = 0;
    for (unsigned side = 0; side < 2;
         side++) { /* or most SYNs would be lost to the first question */
        struct endpoint other = net_endpoint(side == 0 ? "10.0.0.2:1" : "10.0.0.1:1");
        stack_neighbour_learn(pair.hosts[side].network, &other,
                              pair.link.ports[1 - side].port.facts.mac);
    }
    assert_int_equal(pair.hosts[0].network->ops->listen(pair.hosts[0].network, &request, &listener),
                     0);
}

/* All of them exchange the same bytes, so that it does not matter who is accepted first. */
static void connect_honest(uint64_t bytes)
{
    struct network *client = pair.hosts[1].network;
    for (unsigned i = 0; i < HONEST; i++) {
        struct connect_request to = {.to = net_endpoint("10.0.0.1:25")};
        struct stream *stream;
        net_talker_open(&talkers[0][i], &pair.world, 7, 0, bytes, bytes);
        net_talker_open(&talkers[1][i], &pair.world, 7, 1, bytes, bytes);
        assert_int_equal(client->ops->connect(client, &to, &stream), 0);
        net_talker_attach(&talkers[1][i], stream);
    }
}

/* On a long path they are still there while others attack them. */
static void connect_far_away(void)
{
    pair.link.faults.delay_ns = 20 * MS_NS;
    connect_honest(60000);
}

static unsigned done_count(void)
{
    unsigned count = 0;
    for (unsigned i = 0; i < HONEST; i++) {
        count += net_talker_done(&talkers[0][i]) && net_talker_done(&talkers[1][i]);
    }
    return count;
}

static void assert_unharmed(uint64_t within_ns)
{
    uint64_t until_ns = pair.world.now_ns + within_ns;
    while (done_count() < HONEST && pair.world.now_ns < until_ns) {
        for (unsigned i = 0; i < HONEST; i++) {
            net_talker_go(&talkers[0][i]);
        }
        net_pair_run(&pair, 20 * MS_NS);
    }
    assert_int_equal(done_count(), HONEST);
    for (unsigned i = 0; i < 2 * HONEST; i++) {
        assert_false(talkers[i % 2][i / 2].wrong);
        assert_int_equal(talkers[i % 2][i / 2].error, 0);
    }
}

static void close_pair(void)
{
    net_pair_run(&pair, 400 * SECOND_NS);
    for (unsigned side = 0; side < 2; side++) {
        struct stack *stack = stack_of(pair.hosts[side].network);
        assert_int_equal(stack->tcp.conns.used, 0);
        assert_int_equal(stack->tcp.half_opens.used, 0);
        assert_int_equal(stack->tcp.held_mbufs, 0);
        assert_true(rte_mempool_full(stack->control));
        assert_true(rte_mempool_full(stack->segments));
        assert_true(rte_mempool_full(stack->pool));
    }
    net_pair_close(&pair);
}

/* ---- the others ---- */

struct forged {
    unsigned side; /* that it goes to */
    uint32_t source, target;
    uint16_t source_port, target_port;
    uint32_t seq, ack;
    uint8_t flags;
    bool timestamp;
    uint32_t ts_value;
    uint32_t size;
};

static void ethernet(uint8_t *frame, unsigned side)
{
    static const uint8_t header[ETH_BYTES] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0};
    memcpy(frame, header, ETH_BYTES);
    frame[5] = (uint8_t)(1 + side);
    frame[11] = (uint8_t)(2 - side);
}

static void forge(const struct forged *forged)
{
    uint8_t frame[HEADERS_BYTES + PAYLOAD_BYTES] = {0};
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + ETH_BYTES);
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(ip + 1);
    struct ip_address from = ip_address_of_ipv4(htonl(forged->source));
    struct ip_address to = ip_address_of_ipv4(htonl(forged->target));
    uint32_t header = TCP_HEADER_BYTES;
    if (forged->timestamp) {
        header += (uint32_t)tcp_options_write_timestamp((uint8_t *)(tcp + 1), forged->ts_value, 0);
    }
    uint16_t bytes = (uint16_t)(header + forged->size);
    ethernet(frame, forged->side);
    ipv4_header_fill(ip, &from, &to, IPPROTO_TCP, bytes);
    tcp->src_port = htons(forged->source_port);
    tcp->dst_port = htons(forged->target_port);
    tcp->sent_seq = htonl(forged->seq);
    tcp->recv_ack = htonl(forged->ack);
    tcp->data_off = (uint8_t)(header / 4 << 4);
    tcp->tcp_flags = forged->flags;
    tcp->rx_win = htons(1000);
    uint64_t sum = (uint64_t)ip->src_addr + ip->dst_addr + htons(IPPROTO_TCP) + htons(bytes);
    tcp->cksum = checksum_finish(checksum_add(sum, tcp, bytes));
    net_link_inject(&pair.link, forged->side, frame, ETH_BYTES + IPV4_BYTES + bytes);
}

static void forge_from_anywhere(uint8_t flags)
{
    const struct forged forged = {.source = 0x0b000001 + below(0xfffffd),
                                  .target = 0x0a000001,
                                  .source_port = (uint16_t)(1024 + below(60000)),
                                  .target_port = 25,
                                  .seq = any(),
                                  .ack = any(),
                                  .flags = flags};
    forge(&forged);
}

static void flood(uint8_t flags, unsigned a_ms, unsigned for_ms)
{
    for (unsigned i = 0; i < for_ms; i++) {
        for (unsigned j = 0; j < a_ms; j++) {
            forge_from_anywhere(flags);
        }
        net_pair_run(&pair, MS_NS);
    }
}

static void a_flood_of_syns_keeps_nobody_out_and_harms_nobody_inside(void **state)
{
    (void)state;
    const struct stack_limits limits = {.half_open_max = 1024};
    open_pair(1, &limits);
    const struct stack_counters *counters = stack_counters(pair.hosts[0].network);
    flood(TCP_SYN, 200, 20); /* no entry is left */
    connect_honest(20000);
    flood(TCP_SYN, 200, 1000); /* 200,000 a second */
    assert_true(counters->tcp_syn_cookies_received > 0);
    assert_int_equal(stack_of(pair.hosts[0].network)->tcp.half_opens.used, 1024);
    assert_unharmed(30 * SECOND_NS);
    close_pair();
}

static void a_million_syns_at_once_pass_by(void **state)
{
    (void)state;
    const struct stack_limits limits = {0};
    open_pair(2, &limits);
    connect_honest(10000);
    net_pair_run(&pair, 5 * MS_NS);
    flood(TCP_SYN, 50000, 20);
    assert_unharmed(30 * SECOND_NS);
    close_pair();
}

static void floods_of_acks_resets_and_fins_pass_by(void **state)
{
    (void)state;
    static const uint8_t kinds[] = {
        TCP_ACK, TCP_RST, TCP_RST | TCP_ACK, TCP_FIN | TCP_ACK, TCP_FIN, TCP_SYN | TCP_ACK, 0xff};
    const struct stack_limits limits = {.half_open_max = 64};
    open_pair(3, &limits);
    flood(TCP_SYN, 10, 10); /* cookies are about, so that each ACK is looked at */
    connect_honest(20000);
    for (size_t i = 0; i < RTE_DIM(kinds); i++) {
        flood(kinds[i], 200, 100);
    }
    assert_unharmed(30 * SECOND_NS);
    assert_int_equal(accepted_count, HONEST); /* and nothing was guessed */
    assert_true(stack_counters(pair.hosts[0].network)->tcp_syn_cookies_failed > 0);
    close_pair();
}

/* ---- those who know addresses and ports, and guess numbers ---- */

enum guess {
    GUESS_RST_ANYWHERE,
    GUESS_RST_IN_WINDOW,
    GUESS_SYN_ANYWHERE,
    GUESS_SYN_IN_WINDOW,
    GUESS_SYN_ACK,
    GUESS_DATA_IN_WINDOW,
    GUESS_NEXT_DATA, /* the number is right, the acknowledgement is not */
    GUESS_FIN_IN_WINDOW,
    GUESS_ACK,
    GUESSES
};

static struct tcp_conn *victim(unsigned side)
{
    struct tcp_conn *conn = (struct tcp_conn *)talkers[side][below(HONEST)].stream;
    return conn != NULL && conn->state >= TCP_ESTABLISHED ? conn : NULL;
}

static void guess(enum guess kind, struct tcp_conn *conn, struct forged *forged)
{
    uint32_t window = conn->rcv_edge - conn->rcv_nxt;
    uint32_t inside = conn->rcv_nxt + 1 + below(window > 1 ? window - 1 : 1);
    forged->seq = any();
    forged->ack = conn->snd_max + 1 + below(1u << 30); /* any that is not acceptable */
    switch (kind) {
    case GUESS_RST_ANYWHERE:
        forged->seq += forged->seq == conn->rcv_nxt;
        forged->flags = TCP_RST;
        break;
    case GUESS_RST_IN_WINDOW:
        forged->seq = inside;
        forged->flags = below(2) == 0 ? TCP_RST : TCP_RST | TCP_ACK;
        break;
    case GUESS_SYN_ANYWHERE:
        forged->flags = TCP_SYN;
        break;
    case GUESS_SYN_IN_WINDOW:
        forged->seq = inside;
        forged->flags = TCP_SYN;
        break;
    case GUESS_SYN_ACK:
        forged->seq = inside;
        forged->flags = TCP_SYN | TCP_ACK;
        break;
    case GUESS_DATA_IN_WINDOW:
        forged->seq = inside;
        forged->size = 1 + below(PAYLOAD_BYTES);
        break;
    case GUESS_NEXT_DATA:
        forged->seq = conn->rcv_nxt;
        forged->size = 1 + below(PAYLOAD_BYTES);
        forged->ts_value += 1u << 30; /* would make all that follows look old */
        break;
    case GUESS_FIN_IN_WINDOW:
        forged->seq = below(2) == 0 ? inside : conn->rcv_nxt;
        forged->flags = TCP_FIN | TCP_ACK;
        break;
    case GUESS_ACK:
        forged->seq = conn->rcv_nxt;
        break;
    case GUESSES:
        break;
    }
}

static void attack(enum guess kind)
{
    unsigned side = below(2);
    struct tcp_conn *conn = victim(side);
    if (conn == NULL) {
        return;
    }
    struct forged forged = {.side = side,
                            .source = 0x0a000002 - side,
                            .target = 0x0a000001 + side,
                            .source_port = conn->tuple.remote_port,
                            .target_port = conn->tuple.local_port,
                            .flags = TCP_ACK,
                            .timestamp = true,
                            .ts_value = conn->ts_recent};
    guess(kind, conn, &forged);
    forge(&forged);
    attack_count++;
}

static void who_guesses_numbers_within_the_window_changes_nothing(void **state)
{
    (void)state;
    const struct stack_limits limits = {0};
    for (enum guess kind = 0; kind < GUESSES; kind++) {
        open_pair(10 + kind, &limits);
        connect_far_away();
        attack_count = 0;
        for (unsigned i = 0; i < 400; i++) {
            for (unsigned j = 0; j < 100; j++) {
                attack(kind);
            }
            net_pair_run(&pair, MS_NS / 2);
        }
        assert_true(attack_count > 10000);
        assert_unharmed(60 * SECOND_NS);
        close_pair();
    }
}

/* ICMP errors that quote a connection of ours, but no segment that is under way; some in pieces that
 * are never whole. */
static void forge_icmp(void)
{
    static const uint8_t codes[] = {0, 1, 2, 3, 4, 13};
    unsigned side = below(2);
    struct tcp_conn *conn = victim(side);
    if (conn == NULL) {
        return;
    }
    uint8_t frame[ETH_BYTES + IPV4_BYTES + 8 + IPV4_BYTES + TCP_HEADER_BYTES] = {0};
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + ETH_BYTES);
    struct rte_icmp_hdr *icmp = (struct rte_icmp_hdr *)(ip + 1);
    struct rte_ipv4_hdr *quoted = (struct rte_ipv4_hdr *)(icmp + 1);
    struct ip_address router = ip_address_of_ipv4(htonl(0x0b000001 + below(1000)));
    uint32_t bytes = sizeof(frame) - ETH_BYTES - IPV4_BYTES;
    ethernet(frame, side);
    ipv4_header_fill(ip, &router, &conn->tuple.local, IPPROTO_ICMP, (uint16_t)bytes);
    if (below(3) == 0) {
        ip->fragment_offset = htons(below(2) == 0 ? 0x2000 : 1);
        ip->packet_id = (uint16_t)any();
        ip->hdr_checksum = 0;
        ip->hdr_checksum = checksum_finish(checksum_add(0, ip, IPV4_BYTES));
    }
    ipv4_header_fill(quoted, &conn->tuple.local, &conn->tuple.remote, IPPROTO_TCP, 1000);
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(quoted + 1);
    uint32_t seq = conn->snd_max + below(1u << 30);
    tcp->src_port = htons(conn->tuple.local_port);
    tcp->dst_port = htons(conn->tuple.remote_port);
    tcp->sent_seq = htonl(seq);
    icmp->icmp_type = 3;
    icmp->icmp_code = codes[below(RTE_DIM(codes))];
    icmp->icmp_seq_nb = htons((uint16_t)(68 + below(1000)));
    icmp->icmp_cksum = checksum_finish(checksum_add(0, icmp, bytes));
    net_link_inject(&pair.link, side, frame, sizeof(frame));
}

static void icmp_errors_that_were_made_up_change_nothing(void **state)
{
    (void)state;
    const struct stack_limits limits = {0};
    open_pair(30, &limits);
    connect_far_away();
    for (unsigned i = 0; i < 400; i++) {
        for (unsigned j = 0; j < 100; j++) {
            forge_icmp();
        }
        net_pair_run(&pair, MS_NS / 2);
    }
    assert_unharmed(60 * SECOND_NS);
    assert_true(stack_counters(pair.hosts[0].network)->icmp_in_errors > 3000);
    close_pair();
}

/* ---- what is told to those who guess ---- */

static uint64_t challenges_in_a_second(void)
{
    const struct stack_counters *counters = stack_counters(pair.hosts[0].network);
    uint64_t before = counters->tcp_challenge_acks, until_ns = pair.world.now_ns + SECOND_NS;
    while (pair.world.now_ns < until_ns) {
        for (unsigned i = 0; i < accepted_count; i++) {
            struct tcp_conn *conn = (struct tcp_conn *)talkers[0][i].stream;
            struct forged forged = {.source = 0x0a000002,
                                    .target = 0x0a000001,
                                    .source_port = conn->tuple.remote_port,
                                    .target_port = 25,
                                    .seq = conn->rcv_nxt + 1,
                                    .flags = TCP_RST};
            forge(&forged);
        }
        net_pair_run(&pair, 250 * MS_NS);
    }
    return counters->tcp_challenge_acks - before;
}

static void how_many_challenges_are_sent_in_a_second_cannot_be_foreseen(void **state)
{
    (void)state;
    const struct stack_limits limits = {0};
    uint64_t counts[12], distinct = 0;
    open_pair(40, &limits);
    connect_honest(20000);
    for (unsigned i = 0; i < HONEST; i++) {
        talkers[1][i].to_send =
            UINT64_MAX; /* nobody closes: it writes on until the end of the test */
        talkers[1][i].holds_back = true;
    }
    net_pair_run(&pair, SECOND_NS);
    for (unsigned i = 0; i < RTE_DIM(counts); i++) {
        counts[i] = challenges_in_a_second();
        assert_in_range(counts[i], 400, 1700);
        bool seen = false;
        for (unsigned j = 0; j < i; j++) {
            seen |= counts[j] == counts[i];
        }
        distinct += !seen;
    }
    assert_true(distinct >= 10);
    net_pair_close(&pair);
}

static int set_up(void **state)
{
    const struct memory_settings settings = {.program = "test", .megabytes = 512};
    (void)state;
    return memory_start(&settings) < 0 || net_pools_open(pools, 32767) < 0 ? -1 : 0;
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
        cmocka_unit_test(a_flood_of_syns_keeps_nobody_out_and_harms_nobody_inside),
        cmocka_unit_test(a_million_syns_at_once_pass_by),
        cmocka_unit_test(floods_of_acks_resets_and_fins_pass_by),
        cmocka_unit_test(who_guesses_numbers_within_the_window_changes_nothing),
        cmocka_unit_test(icmp_errors_that_were_made_up_change_nothing),
        cmocka_unit_test(how_many_challenges_are_sent_in_a_second_cannot_be_foreseen),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
