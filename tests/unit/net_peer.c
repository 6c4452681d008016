#include "tests/unit/net_peer.h"
#include "engine/net/checksum.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct rte_mempool *pools[2]; /* the stack's data; what the port receives into */

int net_peer_set_up(void **state)
{
    (void)state;
    return net_memory_open(pools);
}

int net_peer_tear_down(void **state)
{
    (void)state;
    net_memory_close(pools);
    return 0;
}

static uint16_t half_at(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static uint32_t word_at(const uint8_t *bytes)
{
    return (uint32_t)half_at(bytes) << 16 | half_at(bytes + 2);
}

static void word_put(uint8_t *bytes, uint32_t word)
{
    word = htonl(word);
    memcpy(bytes, &word, sizeof(word));
}

static void arp_answer(struct net_peer *peer, const uint8_t *question)
{
    uint8_t frame[42];
    if (peer->silent_arp || half_at(question + 20) != 1 || word_at(question + 38) != 0x0a000002) {
        return;
    }
    memcpy(frame, question, sizeof(frame));
    memcpy(frame, question + 6, 6);
    memcpy(frame + 6, peer->link.ports[1].port.facts.mac, 6);
    frame[21] = 2;
    memcpy(frame + 22, frame + 6, 6);
    memcpy(frame + 28, question + 38, 4);
    memcpy(frame + 32, question + 22, 10);
    net_link_inject(&peer->link, 0, frame, sizeof(frame));
}

/* What the stack sends goes no further than here. */
static bool filter(void *owner, unsigned side, uint8_t *frame, uint32_t size)
{
    struct net_peer *peer = owner;
    bool arp = half_at(frame + 12) == RTE_ETHER_TYPE_ARP;
    assert_int_equal(side, 0);
    if (arp) {
        arp_answer(peer, frame);
    }
    if (peer->keep_frames || (!arp && frame[23] == IPPROTO_TCP)) {
        assert_in_range(peer->count, 0, NET_PEER_FRAMES - 1);
        unsigned at = (peer->first + peer->count++) % NET_PEER_FRAMES;
        assert_in_range(size, 0, NET_PEER_FRAME_BYTES);
        memcpy(peer->frames[at], frame, size);
        peer->sizes[at] = size;
    }
    return false;
}

static void notified(struct stream *stream, uint32_t events, void *session)
{
    struct net_peer_stream *own = session;
    own->events |= events;
    own->error = stream->error;
}

static struct stream *attach(struct net_peer *peer, struct stream *stream)
{
    assert_in_range(peer->stream_count, 0, NET_PEER_STREAMS - 1);
    struct net_peer_stream *own = &peer->streams[peer->stream_count++];
    *own = (struct net_peer_stream){.stream = stream};
    stream->notify = notified;
    stream->session = own;
    return stream;
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    struct net_peer *peer = owner;
    attach(peer, stream);
    if (peer->unlisten_when_accepted) {
        peer->network->ops->unlisten(peer->network, listener);
    }
}

void net_peer_open(struct net_peer *peer, const struct stack_limits *limits)
{
    net_peer_open_ecn(peer, limits, STACK_ECN_ACCEPT);
}

void net_peer_open_ecn(struct net_peer *peer, const struct stack_limits *limits, enum stack_ecn ecn)
{
    struct network_prefix address;
    struct listen_request request = {.accepted = accepted, .owner = peer};
    memset(peer, 0, sizeof(*peer));
    net_world_open(&peer->world, 1);
    net_link_open(&peer->link, &peer->world, 1, pools[1], pools[1]);
    peer->link.ports[0].filter = filter;
    peer->link.ports[0].filter_owner = peer;
    peer->pool = pools[0];
    peer->in_use[0] =
        rte_mempool_in_use_count(pools[0]); /* a test that failed may have left some */
    peer->in_use[1] = rte_mempool_in_use_count(pools[1]);
    peer->wheel = wheel_open(peer->world.now_ns);
    assert_int_equal(network_prefix_parse(&address, slice_text("10.0.0.1/24")), 0);
    assert_int_equal(endpoint_parse(&request.at, slice_text("10.0.0.1:25")), 0);
    struct stack_settings settings = {.port = &peer->link.ports[0].port,
                                      .world = &peer->world.world,
                                      .wheel = peer->wheel,
                                      .pool = peer->pool,
                                      .addresses = &address,
                                      .address_count = 1,
                                      .ecn = ecn};
    if (limits != NULL) {
        settings.limits = *limits;
    }
    assert_int_equal(stack_open(&peer->network, &settings), 0);
    peer->stack = stack_of(peer->network);
    assert_int_equal(peer->network->ops->listen(peer->network, &request, &peer->listener), 0);
    net_peer_round(peer);
    net_peer_forget(peer);
}

void net_peer_close(struct net_peer *peer)
{
    for (unsigned i = 0; i < peer->stream_count; i++) {
        if (peer->streams[i].stream != NULL) {
            stream_abort(peer->streams[i].stream);
            stream_release(peer->streams[i].stream);
        }
    }
    net_peer_round(peer);
    net_peer_wait(peer, 5 * SECOND_NS); /* what waits for a neighbour is given up */
    assert_true(rte_mempool_full(peer->stack->control));
    assert_true(rte_mempool_full(peer->stack->segments));
    assert_int_equal(peer->stack->tcp.conns.used, 0);
    peer->network->ops->close(peer->network);
    wheel_close(peer->wheel);
    net_link_close(&peer->link);
    assert_int_equal(rte_mempool_in_use_count(pools[0]), peer->in_use[0]);
    assert_int_equal(rte_mempool_in_use_count(pools[1]), peer->in_use[1]);
}

void net_peer_round(struct net_peer *peer)
{
    uint64_t now_ns = peer->world.now_ns;
    do { /* until all that is due at this time has been said and answered */
        peer->network->ops->poll(peer->network, now_ns);
        wheel_run(peer->wheel, now_ns);
        peer->network->ops->flush(peer->network, now_ns);
        net_link_run(&peer->link);
    } while (net_link_next_ns(&peer->link) <= now_ns ||
             peer->network->ops->arm(peer->network) == -EAGAIN);
}

void net_peer_wait(struct net_peer *peer, uint64_t ns)
{
    uint64_t until_ns = peer->world.now_ns + ns;
    while (peer->world.now_ns < until_ns) {
        uint64_t next_ns = wheel_next_ns(peer->wheel);
        next_ns = next_ns > peer->world.now_ns ? next_ns : peer->world.now_ns + 1000;
        peer->world.now_ns = next_ns < until_ns ? next_ns : until_ns;
        net_peer_round(peer);
    }
}

void net_peer_inject(struct net_peer *peer, const void *frame, uint32_t size)
{
    net_link_inject(&peer->link, 0, frame, size);
}

void net_peer_ipv4(uint8_t *frame, uint8_t protocol, uint32_t bytes)
{
    static const uint8_t ethernet[ETH_BYTES] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0};
    struct ip_address from = ip_address_of_ipv4(htonl(0x0a000002));
    struct ip_address to = ip_address_of_ipv4(htonl(0x0a000001));
    memcpy(frame, ethernet, ETH_BYTES);
    ipv4_header_fill((struct rte_ipv4_hdr *)(frame + ETH_BYTES), &from, &to, protocol,
                     (uint16_t)bytes);
}

static uint32_t options_write(const struct net_segment *segment, uint8_t *at)
{
    const uint32_t stamps[2] = {segment->ts_value, segment->ts_echo};
    if ((segment->flags & TCP_SYN) != 0) {
        uint8_t scale = segment->scale == 0 ? TCP_SCALE_NONE : (uint8_t)(segment->scale - 1);
        return (uint32_t)tcp_options_write_syn(at, segment->mss == 0 ? 1460 : segment->mss, scale,
                                               segment->sack_permitted,
                                               segment->timestamp ? stamps : NULL);
    }
    uint32_t size = 0;
    if (segment->timestamp) {
        static const uint8_t begin[4] = {1, 1, 8, 10};
        memcpy(at, begin, sizeof(begin));
        word_put(at + 4, stamps[0]);
        word_put(at + 8, stamps[1]);
        size = TCP_TIMESTAMP_BYTES;
    }
    return size +
           (uint32_t)tcp_options_write_sack(at + size, segment->ranges, segment->range_count);
}

void net_peer_put(struct net_peer *peer, const struct net_segment *segment)
{
    uint8_t frame[NET_PEER_FRAME_BYTES] = {0};
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + ETH_BYTES);
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(ip + 1);
    uint32_t header = TCP_HEADER_BYTES + options_write(segment, (uint8_t *)(tcp + 1));
    uint32_t bytes = header + segment->size;
    memcpy((uint8_t *)tcp + header, segment->bytes, segment->size);
    tcp->src_port = htons(segment->port == 0 ? 4000 : segment->port);
    tcp->dst_port = htons(segment->to == 0 ? 25 : segment->to);
    tcp->sent_seq = htonl(segment->seq);
    tcp->recv_ack = htonl(segment->ack);
    tcp->data_off = (uint8_t)(header / 4 << 4);
    tcp->tcp_flags = segment->flags;
    tcp->rx_win = htons(segment->window);
    tcp->tcp_urp = htons(segment->urgent);
    net_peer_ipv4(frame, IPPROTO_TCP, bytes);
    ip->type_of_service = segment->ecn;
    ip->hdr_checksum = 0;
    ip->hdr_checksum = checksum_finish(checksum_add(0, ip, IPV4_BYTES));
    uint64_t sum =
        (uint64_t)ip->src_addr + ip->dst_addr + htons(IPPROTO_TCP) + htons((uint16_t)bytes);
    tcp->cksum = checksum_finish(checksum_add(sum, tcp, bytes));
    tcp->cksum = (uint16_t)(tcp->cksum ^ segment->wrong_checksum);
    net_peer_inject(peer, frame, ETH_BYTES + IPV4_BYTES + bytes);
}

void net_peer_send(struct net_peer *peer, const struct net_segment *segment)
{
    net_peer_put(peer, segment);
    net_peer_round(peer);
}

static void options_parse(struct net_segment *segment, const uint8_t *at, const uint8_t *end)
{
    while (at < end && *at != 0) {
        if (*at == 1) {
            at++;
            continue;
        }
        assert_true(at + 2 <= end && at[1] >= 2 && at + at[1] <= end);
        switch (at[0]) {
        case 2:
            segment->mss = half_at(at + 2);
            break;
        case 3:
            segment->scale = (uint8_t)(at[2] + 1);
            break;
        case 4:
            segment->sack_permitted = true;
            break;
        case 5:
            for (const uint8_t *range = at + 2; range < at + at[1]; range += 8) {
                segment->ranges[segment->range_count++] =
                    (struct tcp_range){word_at(range), word_at(range + 4)};
            }
            break;
        case 8:
            segment->timestamp = true;
            segment->ts_value = word_at(at + 2);
            segment->ts_echo = word_at(at + 6);
            break;
        default:
            fail_msg("option %u", at[0]);
        }
        at += at[1];
    }
}

uint32_t net_peer_frame(struct net_peer *peer, uint8_t *frame)
{
    if (peer->count == 0) {
        return 0;
    }
    uint32_t size = peer->sizes[peer->first];
    memcpy(frame, peer->frames[peer->first], size);
    peer->first = (peer->first + 1) % NET_PEER_FRAMES;
    peer->count--;
    return size;
}

bool net_peer_take(struct net_peer *peer, struct net_segment *segment)
{
    uint8_t frame[NET_PEER_FRAME_BYTES];
    uint32_t size = net_peer_frame(peer, frame);
    memset(segment, 0, sizeof(*segment));
    if (size == 0) {
        return false;
    }
    const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(frame + ETH_BYTES);
    const struct rte_tcp_hdr *tcp = (const struct rte_tcp_hdr *)(ip + 1);
    uint32_t bytes = size - ETH_BYTES - IPV4_BYTES, header = tcp->data_off / 16u * 4u;
    uint64_t sum =
        (uint64_t)ip->src_addr + ip->dst_addr + htons(IPPROTO_TCP) + htons((uint16_t)bytes);
    assert_int_equal(ip->next_proto_id, IPPROTO_TCP);
    assert_int_equal(checksum_finish(checksum_add(sum, tcp, bytes)), 0);
    assert_int_equal(checksum_finish(checksum_add(0, ip, IPV4_BYTES)), 0);
    segment->seq = ntohl(tcp->sent_seq);
    segment->ack = ntohl(tcp->recv_ack);
    segment->port = ntohs(tcp->dst_port);
    segment->to = ntohs(tcp->src_port);
    segment->window = ntohs(tcp->rx_win);
    segment->flags = tcp->tcp_flags;
    segment->ecn = ip->type_of_service & 3;
    segment->size = bytes - header;
    memcpy(segment->bytes, (const uint8_t *)tcp + header, segment->size);
    options_parse(segment, (const uint8_t *)(tcp + 1), (const uint8_t *)tcp + header);
    return true;
}

void net_peer_forget(struct net_peer *peer)
{
    peer->count = 0;
}

struct net_segment net_peer_shake_hands(struct net_peer *peer, struct net_segment *syn)
{
    struct net_segment answer, ack;
    syn->flags = TCP_SYN;
    syn->seq = syn->seq == 0 ? 1000 : syn->seq;
    syn->window = syn->window == 0 ? 65535 : syn->window;
    net_peer_send(peer, syn);
    assert_true(net_peer_take(peer, &answer));
    assert_int_equal(answer.flags, TCP_SYN | TCP_ACK);
    assert_int_equal(answer.ack, syn->seq + 1);
    ack = (struct net_segment){.port = syn->port,
                               .seq = syn->seq + 1,
                               .ack = answer.seq + 1,
                               .flags = TCP_ACK,
                               .window = syn->window,
                               .timestamp = answer.timestamp,
                               .ts_value = syn->ts_value,
                               .ts_echo = answer.ts_value};
    net_peer_send(peer, &ack);
    return answer;
}

struct stream *net_peer_connect(struct net_peer *peer, uint64_t timeout_ns)
{
    struct connect_request request = {.timeout_ns = timeout_ns};
    struct stream *stream;
    assert_int_equal(endpoint_parse(&request.to, slice_text("10.0.0.2:25")), 0);
    assert_int_equal(peer->network->ops->connect(peer->network, &request, &stream), 0);
    attach(peer, stream);
    net_peer_round(peer);
    return stream;
}

struct net_peer_stream *net_peer_last(struct net_peer *peer)
{
    assert_true(peer->stream_count > 0);
    return &peer->streams[peer->stream_count - 1];
}

struct tcp_conn *net_peer_conn(struct net_peer *peer)
{
    return (struct tcp_conn *)net_peer_last(peer)->stream; /* its first member */
}

struct net_segment net_peer_next(struct net_peer *peer, uint8_t flags)
{
    const struct tcp_conn *conn = net_peer_conn(peer);
    return (struct net_segment){.port = conn->tuple.remote_port,
                                .to = conn->tuple.local_port,
                                .seq = conn->rcv_nxt,
                                .ack = conn->snd_max,
                                .flags = flags,
                                .window = 65535,
                                .timestamp = conn->timestamps,
                                .ts_value = conn->ts_recent,
                                .ts_echo = tcp_timestamp_now(peer->stack, conn->ts_offset)};
}

unsigned net_peer_take_all(struct net_peer *peer)
{
    struct net_segment segment;
    unsigned count = 0;
    for (; net_peer_take(peer, &segment); count++) {
    }
    return count;
}

void net_peer_send_next(struct net_peer *peer, uint8_t flags)
{
    struct net_segment segment = net_peer_next(peer, flags);
    net_peer_send(peer, &segment);
}

struct net_segment net_peer_expect(struct net_peer *peer, uint8_t flags)
{
    struct net_segment segment;
    assert_true(net_peer_take(peer, &segment));
    assert_int_equal(segment.flags, flags);
    return segment;
}

void net_peer_expect_none(struct net_peer *peer)
{
    assert_int_equal(peer->count, 0);
}

void net_peer_open_plain(struct net_peer *peer)
{
    struct net_segment syn = {0};
    net_peer_open(peer, NULL);
    net_peer_shake_hands(peer, &syn);
    net_peer_expect_none(peer);
    assert_int_equal(peer->stream_count, 1);
}

void net_peer_open_with_options(struct net_peer *peer)
{
    struct net_segment syn = {.scale = 8, .sack_permitted = true, .timestamp = true, .ts_value = 7};
    net_peer_open(peer, NULL);
    net_peer_shake_hands(peer, &syn);
    net_peer_expect_none(peer);
    assert_int_equal(peer->stream_count, 1);
}

void net_peer_write(struct net_peer *peer, const char *text)
{
    assert_int_equal(stream_write(net_peer_last(peer)->stream, slice_text(text)), 0);
    net_peer_round(peer);
}

void net_peer_write_segments(struct net_peer *peer, uint32_t count)
{
    static const uint8_t bytes[STREAM_WRITE_MAX];
    struct slice segment = slice_of(bytes, net_peer_conn(peer)->mss);
    for (; count > 0; count--) {
        assert_int_equal(stream_write(net_peer_last(peer)->stream, segment), 0);
    }
    net_peer_round(peer);
}

void net_peer_warm(struct net_peer *peer, unsigned rounds, uint64_t rtt_ns)
{
    for (; rounds > 0; rounds--) {
        net_peer_write_segments(peer, 1);
        net_peer_forget(peer);
        net_peer_wait(peer, rtt_ns);
        net_peer_send_next(peer, TCP_ACK);
    }
    net_peer_forget(peer);
}

void net_peer_let_go(struct net_peer *peer)
{
    stream_release(net_peer_last(peer)->stream);
    net_peer_last(peer)->stream = NULL;
    net_peer_round(peer);
}
