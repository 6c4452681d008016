/*
 * A stack under any frames: Ethernet, ARP, IPv4, ICMP and TCP, for a listener, for connections and for none.
 *
 * The input is a list of steps. A step lets time pass, lets the session write, injects a frame as it lies in the
 * input, or makes one that gets further: right checksums, an existing connection's tuple, sequence numbers near
 * those that the stack has sent last. At the end time runs until nothing is left, and nothing may be.
 *
 * with: tests/unit/net_link.c tests/unit/net_offload.c tests/unit/net_pair.c
 */
#include "engine/core/check.h"
#include "engine/net/checksum.h"
#include "engine/net/tcp.h"
#include "engine/shard/memory.h"
#include "tests/unit/net_pair.h"
#include <rte_ether.h>
#include <rte_icmp.h>
#include <rte_ip.h>
#include <rte_tcp.h>

#define ETH_BYTES 14u
#define FRAME_MAX 1514u
#define SESSIONS_MAX 16u
#define MS 1000000ull

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

struct input {
    const uint8_t *at, *end;
};

struct session {
    struct stream *stream; /* NULL: free */
    bool answers;          /* two that answer each other would never end */
};

struct fuzz {
    struct net_pair pair;
    struct input input;
    struct session sessions[SESSIONS_MAX];
    /* Of the last TCP segment that host 1 has sent. */
    uint16_t peer_port, own_port;
    uint32_t seq_next, ack;
    uint32_t timestamp, echo;
    bool writes_back; /* accepted sessions answer */
};

static struct rte_mempool *pools[2];

static uint8_t byte(struct input *input)
{
    return input->at < input->end ? *input->at++ : 0;
}

static uint16_t word(struct input *input)
{
    return (uint16_t)(byte(input) << 8 | byte(input));
}

/* Numbers near zero mostly. */
static uint32_t distance(struct input *input)
{
    switch (byte(input) % 6) {
    case 0:
    case 1:
        return 0;
    case 2:
        return byte(input);
    case 3:
        return 0u - byte(input);
    case 4:
        return (uint32_t)word(input) << (byte(input) % 17);
    default:
        return 0u - ((uint32_t)word(input) << (byte(input) % 17));
    }
}

/* ── Sessions of the stack: they read everything and sometimes answer ─────────────────────────── */

static void notified(struct stream *stream, uint32_t events, void *owner)
{
    struct session *session = owner;
    struct slice slices[4];
    size_t count, taken = 0;
    while ((count = stream_peek(stream, slices, 4)) > 0) {
        size_t bytes = 0;
        for (size_t i = 0; i < count; i++) {
            bytes += slices[i].size;
        }
        check(bytes > 0);
        stream_consume(stream, bytes);
        taken += bytes;
    }
    if ((events & STREAM_CLOSED) != 0) {
        stream_release(stream);
        session->stream = NULL;
        return;
    }
    if (taken > 0 && session->answers) {
        stream_write(stream, slice_text("250 2.0.0 Ok\r\n"));
    }
    if ((events & STREAM_HALF_CLOSED) != 0) {
        stream_shut(stream);
    }
}

static void session_attach(struct fuzz *fuzz, struct stream *stream, bool answers)
{
    for (unsigned i = 0; i < SESSIONS_MAX; i++) {
        struct session *session = &fuzz->sessions[i];
        if (session->stream == NULL) {
            *session = (struct session){.stream = stream, .answers = answers};
            stream->notify = notified;
            stream->session = session;
            return;
        }
    }
    stream_abort(stream);
    stream_release(stream);
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    (void)listener;
    struct fuzz *fuzz = owner;
    session_attach(fuzz, stream, fuzz->writes_back);
}

static void session_step(struct fuzz *fuzz)
{
    struct session *session = &fuzz->sessions[byte(&fuzz->input) % SESSIONS_MAX];
    static const uint8_t text[5000];
    if (session->stream == NULL) {
        return;
    }
    switch (byte(&fuzz->input) % 6) {
    case 0:
        stream_shut(session->stream);
        break;
    case 1:
        stream_abort(session->stream);
        break;
    case 2:
        stream_release(session->stream);
        session->stream = NULL;
        break;
    default:
        stream_write(session->stream, slice_of(text, 1 + word(&fuzz->input) % sizeof(text)));
        break;
    }
}

/* ── Frames ──────────────────────────────────────────────────────────────────────────────────── */

/* What host 1 sends tells where its connections are. */
static bool sent(void *owner, unsigned side, uint8_t *frame, uint32_t size)
{
    struct fuzz *fuzz = owner;
    const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(frame + ETH_BYTES);
    const struct rte_tcp_hdr *tcp = (const struct rte_tcp_hdr *)(ip + 1);
    (void)side;
    check(size <= FRAME_MAX);
    if (size < ETH_BYTES + sizeof(*ip) + sizeof(*tcp) || frame[12] != 8 || frame[13] != 0 ||
        ip->next_proto_id != 6) {
        return true;
    }
    uint32_t header = tcp->data_off / 16u * 4u;
    check(ntohs(ip->total_length) == size - ETH_BYTES);
    check(header >= sizeof(*tcp) && ETH_BYTES + sizeof(*ip) + header <= size);
    uint32_t length = size - ETH_BYTES - (uint32_t)sizeof(*ip) - header;
    length += ((tcp->tcp_flags & TCP_SYN) != 0) + ((tcp->tcp_flags & TCP_FIN) != 0);
    fuzz->peer_port = ntohs(tcp->dst_port);
    fuzz->own_port = ntohs(tcp->src_port);
    fuzz->seq_next = ntohl(tcp->sent_seq) + length;
    fuzz->ack = ntohl(tcp->recv_ack);
    return true;
}

static uint32_t put_some(struct input *input, uint8_t *to, uint32_t wanted)
{
    uint32_t left = (uint32_t)(input->end - input->at);
    uint32_t bytes = wanted < left ? wanted : left;
    memcpy(to, input->at, bytes);
    input->at += bytes;
    memset(to + bytes, 0, wanted - bytes);
    return wanted;
}

static void put_ethernet(struct fuzz *fuzz, uint8_t *frame, uint16_t type)
{
    memcpy(frame, fuzz->pair.link.ports[1].port.facts.mac, 6);
    memcpy(frame + 6, fuzz->pair.link.ports[0].port.facts.mac, 6);
    frame[12] = (uint8_t)(type >> 8);
    frame[13] = (uint8_t)type;
}

static struct rte_ipv4_hdr *put_ip(uint8_t *frame, uint8_t protocol, uint32_t payload)
{
    struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + ETH_BYTES);
    memset(ip, 0, sizeof(*ip));
    ip->version_ihl = 0x45;
    ip->total_length = htons((uint16_t)(sizeof(*ip) + payload));
    ip->time_to_live = 64;
    ip->next_proto_id = protocol;
    ip->src_addr = RTE_BE32(RTE_IPV4(10, 0, 0, 1));
    ip->dst_addr = RTE_BE32(RTE_IPV4(10, 0, 0, 2));
    ip->hdr_checksum = checksum_finish(checksum_add(0, ip, sizeof(*ip)));
    return ip;
}

static uint32_t make_tcp(struct fuzz *fuzz, uint8_t *frame)
{
    struct input *input = &fuzz->input;
    uint8_t kind = byte(input);
    uint8_t *at = frame + ETH_BYTES + sizeof(struct rte_ipv4_hdr);
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)at;
    bool known = (kind & 1) != 0;
    memset(tcp, 0, sizeof(*tcp));
    tcp->src_port = htons(known ? fuzz->peer_port : (uint16_t)(1024 + byte(input)));
    tcp->dst_port = htons(known ? fuzz->own_port : 25);
    tcp->sent_seq = htonl(fuzz->ack + distance(input));
    tcp->recv_ack = htonl(fuzz->seq_next + distance(input));
    tcp->tcp_flags = byte(input);
    tcp->rx_win = htons(word(input));
    uint32_t options = (kind >> 1) % 11 * 4;
    uint32_t header = (uint32_t)sizeof(*tcp) + put_some(input, at + sizeof(*tcp), options);
    tcp->data_off = (uint8_t)(header / 4 << 4);
    uint32_t payload = (kind & 0x80) != 0 ? word(input) % 1400 : 0;
    memset(at + header, 'x', payload);
    uint32_t bytes = header + payload;
    put_ethernet(fuzz, frame, RTE_ETHER_TYPE_IPV4);
    const struct rte_ipv4_hdr *ip = put_ip(frame, IPPROTO_TCP, bytes);
    uint64_t sum =
        (uint64_t)ip->src_addr + ip->dst_addr + htons(IPPROTO_TCP) + htons((uint16_t)bytes);
    tcp->cksum = checksum_finish(checksum_add(sum, tcp, bytes));
    return ETH_BYTES + (uint32_t)sizeof(*ip) + bytes;
}

/* An ICMP message that may quote a segment of the known connection. */
static uint32_t make_icmp(struct fuzz *fuzz, uint8_t *frame)
{
    struct input *input = &fuzz->input;
    uint8_t *at = frame + ETH_BYTES + sizeof(struct rte_ipv4_hdr);
    uint32_t bytes = 8;
    put_some(input, at, 8);
    if (byte(input) % 4 != 0) {
        struct rte_ipv4_hdr *quoted = (struct rte_ipv4_hdr *)(at + 8);
        struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(quoted + 1);
        memset(quoted, 0, sizeof(*quoted));
        quoted->version_ihl = 0x45;
        quoted->total_length = htons(1500);
        quoted->next_proto_id = IPPROTO_TCP;
        quoted->src_addr = RTE_BE32(RTE_IPV4(10, 0, 0, 2));
        quoted->dst_addr = RTE_BE32(RTE_IPV4(10, 0, 0, 1));
        tcp->src_port = htons(fuzz->own_port);
        tcp->dst_port = htons(fuzz->peer_port);
        tcp->sent_seq = htonl(fuzz->seq_next + distance(input));
        bytes += (uint32_t)sizeof(*quoted) + 8;
    }
    bytes += put_some(input, at + bytes, byte(input));
    at[2] = at[3] = 0;
    uint16_t sum = checksum_finish(checksum_add(0, at, bytes));
    memcpy(at + 2, &sum, 2);
    put_ethernet(fuzz, frame, RTE_ETHER_TYPE_IPV4);
    put_ip(frame, IPPROTO_ICMP, bytes);
    return ETH_BYTES + (uint32_t)sizeof(struct rte_ipv4_hdr) + bytes;
}

static uint32_t make_raw(struct fuzz *fuzz, uint8_t *frame)
{
    struct input *input = &fuzz->input;
    static const uint16_t types[] = {RTE_ETHER_TYPE_IPV4, RTE_ETHER_TYPE_ARP, RTE_ETHER_TYPE_IPV6,
                                     RTE_ETHER_TYPE_VLAN};
    uint8_t kind = byte(input);
    put_ethernet(fuzz, frame, types[kind % 4]);
    uint32_t bytes = ETH_BYTES + put_some(input, frame + ETH_BYTES, byte(input));
    if ((kind & 0x10) != 0 && bytes >= ETH_BYTES + sizeof(struct rte_ipv4_hdr)) {
        struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + ETH_BYTES);
        uint32_t header = (ip->version_ihl & 15u) * 4u;
        ip->dst_addr = RTE_BE32(RTE_IPV4(10, 0, 0, 2));
        ip->hdr_checksum = 0;
        header = header < bytes - ETH_BYTES ? header : bytes - ETH_BYTES;
        ip->hdr_checksum = checksum_finish(checksum_add(0, ip, header));
    }
    return (kind & 0x20) != 0 ? bytes % (ETH_BYTES + 1) : bytes;
}

static void step(struct fuzz *fuzz)
{
    uint8_t frame[FRAME_MAX + 1024];
    uint32_t size = 0;
    switch (byte(&fuzz->input) % 8) {
    case 0:
        net_pair_run(&fuzz->pair, (uint64_t)byte(&fuzz->input) << (byte(&fuzz->input) % 31));
        return;
    case 1:
        session_step(fuzz);
        return;
    case 2:
        size = make_raw(fuzz, frame);
        break;
    case 3:
        size = make_icmp(fuzz, frame);
        break;
    default:
        size = make_tcp(fuzz, frame);
        break;
    }
    check(size <= FRAME_MAX);
    net_link_inject(&fuzz->pair.link, 1, frame, size);
    net_pair_run(&fuzz->pair, 2000);
}

static void begin(struct fuzz *fuzz)
{
    const struct stack_limits limits = {
        .connection_max = 64, .half_open_max = 8, .time_wait_max = 8, .orphan_max = 4};
    const struct net_pair_settings settings = {.seed = 1, .limits = {limits, limits}};
    net_pair_open(&fuzz->pair, &settings, pools);
    fuzz->pair.link.ports[1].filter = sent;
    fuzz->pair.link.ports[1].filter_owner = fuzz;
    struct network *network = fuzz->pair.hosts[1].network;
    struct listener *listener;
    const struct listen_request request = {
        .at = net_endpoint("0.0.0.0:25"), .accepted = accepted, .owner = fuzz};
    check(network->ops->listen(network, &request, &listener) == 0);
    /* One connection that is there already, and one that is being made. */
    const struct connect_request there = {.to = net_endpoint("10.0.0.2:25"),
                                          .timeout_ns = 100000 * MS};
    const struct connect_request nowhere = {.to = net_endpoint("10.0.0.1:26"),
                                            .timeout_ns = 100000 * MS};
    struct stream *stream;
    check(fuzz->pair.hosts[0].network->ops->connect(fuzz->pair.hosts[0].network, &there, &stream) ==
          0);
    session_attach(fuzz, stream, false);
    net_pair_run(&fuzz->pair, 10 * MS);
    if (byte(&fuzz->input) % 2 == 0) {
        fuzz->pair.link.faults.lost = 10000; /* the other host is gone: nobody interferes */
    }
    if (network->ops->connect(network, &nowhere, &stream) == 0) {
        session_attach(fuzz, stream, false);
    }
    net_pair_run(&fuzz->pair, MS / 10);
}

static void end(struct fuzz *fuzz)
{
    for (unsigned i = 0; i < SESSIONS_MAX; i++) {
        struct session *session = &fuzz->sessions[i];
        if (session->stream != NULL) {
            stream_release(session->stream);
            session->stream = NULL;
        }
    }
    net_pair_run(&fuzz->pair, 700000 * MS); /* user timeout, TIME-WAIT, lingering */
    check(stack_counters(fuzz->pair.hosts[1].network)->tcp_current_established == 0);
    net_pair_close(&fuzz->pair);
    check(rte_mempool_in_use_count(pools[0]) == 0 && rte_mempool_in_use_count(pools[1]) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static bool begun;
    static struct fuzz fuzz;
    if (!begun) {
        const struct memory_settings settings = {.program = "fuzz_tcp_input", .megabytes = 128};
        check(memory_start(&settings) == 0 && net_pools_open(pools, 1023) == 0);
        begun = true;
    }
    memset(&fuzz, 0, sizeof(fuzz));
    fuzz.input = (struct input){.at = bytes, .end = bytes + size};
    begin(&fuzz);
    fuzz.writes_back = byte(&fuzz.input) % 2 == 0;
    for (unsigned i = 0; i < 400 && fuzz.input.at < fuzz.input.end; i++) {
        step(&fuzz);
    }
    end(&fuzz);
    return 0;
}
