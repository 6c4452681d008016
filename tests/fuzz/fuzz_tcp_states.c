/*
 * The stack against whatever arrives: segments near the windows of connections in every state, raw
 * packets, ARP or Neighbor Discovery, ICMP, and a session that reads, writes and leaves in between. The first byte
 * chooses the family, the settings and the end; then each step is an operation and its arguments.
 *
 * After every step the connections must make sense (TCP's order of numbers, queues that add up, a
 * timer for all that waits), every frame that left must be whole, and bytes must be those that were
 * written or sent. In the end nothing may be left of any buffer.
 *
 * with: tests/fuzz/tcp_states_frames.c tests/fuzz/tcp_states_checks.c tests/unit/net_offload.c
 */
#include "engine/core/ref.h"
#include "tests/fuzz/tcp_states_rig.h"

#define STEPS_MAX 400u
#define SETTINGS 64u
#define IPV6_CHOSEN 32u
#define CLOSED_AT_ONCE 3u /* in the first byte, above the settings: in the middle of everything */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct rte_mempool *pool;

static uint64_t world_now(void *self)
{
    return ((struct rig *)self)->now_ns;
}

static void world_draw(void *self, void *bytes, size_t count)
{
    struct rig *rig = self;
    for (size_t i = 0; i < count; i++) {
        rig->random = rig->random * 6364136223846793005ull + 1442695040888963407ull;
        ((uint8_t *)bytes)[i] = (uint8_t)(rig->random >> 56);
    }
}

static uint16_t port_receive(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                             uint16_t count)
{
    struct rig *rig = (struct rig *)port;
    (void)queue;
    uint16_t got = rig->arriving_count < count ? (uint16_t)rig->arriving_count : count;
    memcpy(frames, rig->arriving, got * sizeof(frames[0]));
    rig->arriving_count -= got;
    memmove(rig->arriving, rig->arriving + got, rig->arriving_count * sizeof(frames[0]));
    return got;
}

static uint16_t port_transmit(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                              uint16_t count)
{
    struct rig *rig = (struct rig *)port;
    uint16_t taken = 0;
    (void)queue;
    while (taken < count && !rig->blocked && rig->given_count < RTE_DIM(rig->given)) {
        rig->given[rig->given_count++] = frames[taken++];
    }
    if (rig->closing) {
        device_reads(rig);
    }
    return taken;
}

static int port_arm(struct port *port, uint16_t queue)
{
    (void)port;
    (void)queue;
    return -ENOTSUP;
}

static const struct port_ops port_operations = {
    .receive = port_receive, .transmit = port_transmit, .arm = port_arm};

struct reference {
    struct ref ref;
    struct rig *rig;
    uint8_t *bytes;
    bool mapped;
};

static void reference_end(struct ref *ref)
{
    struct reference *reference = (struct reference *)ref; /* its first member */
    reference->rig->references--;
    if (reference->mapped) {
        memset(reference->bytes, 0xdd, 16);
        memory_give(reference->bytes);
    } else {
        free(reference->bytes);
    }
    free(reference);
}

static void session_write(struct rig *rig, struct session *session, uint32_t bytes, uint8_t how)
{
    struct reference *reference = malloc(sizeof(*reference));
    bool by_reference = (how & 3) != 0;
    *reference = (struct reference){.rig = rig, .mapped = (how & 3) == 1};
    bytes = by_reference ? bytes * 8 : bytes;
    bytes = bytes < 16 ? 16 : bytes;
    reference->bytes = reference->mapped ? memory_take("fuzz", bytes, 64) : malloc(bytes);
    check(reference->bytes != NULL);
    ref_init(&reference->ref, reference_end);
    rig->references++;
    for (uint32_t i = 0; i < bytes; i++) {
        reference->bytes[i] = pattern(session->written + i);
    }
    struct slice slice = slice_of(reference->bytes, bytes);
    int status = by_reference ? stream_write_ref(session->stream, slice, &reference->ref)
                              : stream_write(session->stream, slice);
    session->written += status == 0 ? bytes : 0;
    ref_drop(&reference->ref);
}

static void session_read(struct rig *rig, struct session *session, size_t most)
{
    struct slice slices[4];
    size_t count = stream_peek(session->stream, slices, 4), taken = 0;
    for (size_t i = 0; i < count && taken < most; i++) {
        for (size_t j = 0; j < slices[i].size && taken < most; j++, taken++) {
            check(rig->dirty || slices[i].bytes[j] == pattern(session->read + taken));
        }
    }
    stream_consume(session->stream, taken);
    session->read += taken;
}

static void notified(struct stream *stream, uint32_t events, void *owner)
{
    struct session *session = owner;
    check(session->stream == stream && events != 0);
    if ((events & STREAM_CLOSED) != 0) {
        session->stream = NULL;
        stream_release(stream);
    }
}

static void attach(struct rig *rig, struct stream *stream)
{
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
        if (rig->sessions[i].stream == NULL) {
            rig->sessions[i] = (struct session){.stream = stream};
            stream->notify = notified;
            stream->session = &rig->sessions[i];
            return;
        }
    }
    stream_abort(stream);
    stream_release(stream);
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    (void)listener;
    attach(owner, stream);
}

static void session_acts(struct rig *rig, struct input *input)
{
    uint8_t what = take(input);
    struct session *session = &rig->sessions[what >> 4];
    if (session->stream == NULL) {
        return;
    }
    struct stream *stream = session->stream;
    switch (what & 7) {
    case 0:
        session_read(rig, session, take_word(input));
        break;
    case 1:
    case 2:
        session_write(rig, session, take_word(input) % STREAM_WRITE_MAX, what >> 1);
        break;
    case 3:
        stream_shut(stream);
        break;
    case 4:
        session->stream = NULL;
        stream_release(stream);
        break;
    case 5:
        stream_abort(stream);
        break;
    case 6:
        stream_read_stop(stream);
        break;
    default:
        stream_read_start(stream);
        break;
    }
}

static void host_connects(struct rig *rig)
{
    const struct flow *flow = &rig->flows[HOST_FLOW];
    struct connect_request request = {.timeout_ns = 30 * SECOND_NS};
    struct stream *stream;
    endpoint_of_ip_address(&request.to, &rig->peer, 25);
    endpoint_of_ip_address(&request.from, &rig->local, flow->local_port);
    if (rig->network->ops->connect(rig->network, &request, &stream) == 0) {
        attach(rig, stream);
    }
}

static void round_make(struct rig *rig)
{
    rig->network->ops->poll(rig->network, rig->now_ns);
    wheel_run(rig->wheel, rig->now_ns);
    rig->network->ops->flush(rig->network, rig->now_ns);
    everything_is_sane(rig);
    device_reads(rig);
}

/* From 1 us to minutes; timers fire on the way. */
static void time_passes(struct rig *rig, uint8_t amount)
{
    uint64_t until_ns = rig->now_ns + ((uint64_t)(1 + (amount & 7)) << (10 + (amount >> 3)));
    for (unsigned i = 0; i < 64 && rig->now_ns < until_ns; i++) {
        uint64_t next_ns = wheel_next_ns(rig->wheel);
        next_ns = next_ns > rig->now_ns + 1000 ? next_ns : rig->now_ns + 1000;
        rig->now_ns = next_ns < until_ns ? next_ns : until_ns;
        round_make(rig);
    }
    rig->now_ns = until_ns > rig->now_ns ? until_ns : rig->now_ns;
}

static void simple_segment(struct rig *rig, unsigned flow, uint8_t flags)
{
    const uint8_t syn[] = {(uint8_t)flow, TCP_SYN, 0x77, 0, 1, 5, 180};
    const uint8_t other[] = {(uint8_t)flow, flags, 1, 0, 2};
    struct input input = {syn, syn + sizeof(syn)};
    if (flags != TCP_SYN) {
        input = (struct input){other, other + sizeof(other)};
    }
    segment_arrives(rig, &input);
    round_make(rig);
}

/* Until nothing is waited for. */
static void rest(struct rig *rig)
{
    for (unsigned i = 0; i < 20000 && wheel_next_ns(rig->wheel) != WHEEL_NEVER; i++) {
        uint64_t next_ns = wheel_next_ns(rig->wheel);
        rig->now_ns = next_ns > rig->now_ns + 1000 ? next_ns : rig->now_ns + 1000;
        round_make(rig);
    }
}

/* 0: established; 1: half-open; 2: TIME-WAIT; the rest as the input wants. */
static void scene_set(struct rig *rig)
{
    rig->dirty = false;
    memset(rig->sessions, 0, sizeof(rig->sessions));
    for (unsigned i = 0; i < FLOWS; i++) {
        rig->flows[i] = (struct flow){
            .local_port = 25, .remote_port = (uint16_t)(1000 + i), .sends = 5000 * i - 3000};
    }
    rig->flows[HOST_FLOW].local_port = 40000;
    rig->flows[HOST_FLOW].remote_port = 25;
    struct input none = {NULL, NULL};
    neighbour_arrives(rig, &none, 0); /* it asks, and answers: RFC 4861 wants both */
    neighbour_arrives(rig, &none, 1);
    for (unsigned i = 0; i < 3; i++) {
        simple_segment(rig, i, TCP_SYN);
        if (i != 1) {
            simple_segment(rig, i, TCP_ACK);
        }
    }
    struct tcp_conn *conn = conn_of_ports(rig, 25, 1002);
    check(conn != NULL && rig->sessions[1].stream == &conn->stream);
    stream_shut(&conn->stream);
    round_make(rig);
    simple_segment(rig, 2, TCP_ACK | TCP_FIN);
    check(rig->stack->tcp.time_waits.used == 1 && rig->stack->tcp.half_opens.used == 1);
}

static void rig_open(struct rig *rig, uint8_t how)
{
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
    struct network_prefix addresses[2]; /* a host of IPv6 has both */
    struct listener *listener;
    struct listen_request request = {.accepted = accepted, .owner = rig};
    *rig =
        (struct rig){.now_ns = 1000 * SECOND_NS, .random = 12345, .ipv6 = (how & IPV6_CHOSEN) != 0};
    rig->world = (struct world){.now_ns = world_now, .random = world_draw, .self = rig};
    rig->port.ops = &port_operations;
    rig->port.facts = (struct port_facts){.mtu = 1500, .queue_count = 1, .tx_segments = how & 1};
    bool cuts = (how & 5) == 5; /* a port that cuts segments itself, and sums them up */
    rig->port.facts.tso = cuts;
    rig->port.facts.tx_checksum_tcp = cuts;
    rig->port.facts.tx_checksum_ipv4 = cuts;
    memcpy(rig->port.facts.mac, mac, 6);
    rss_init(&rig->port.facts.rss, 1);
    rig->wheel = wheel_open(rig->now_ns);
    check(network_prefix_parse(&addresses[0], slice_text("10.0.0.1/24")) == 0);
    check(network_prefix_parse(&addresses[1], slice_text("fd00::1/64")) == 0);
    check(ip_address_of_endpoint(&rig->local, &addresses[rig->ipv6].address));
    rig->peer = rig->local;
    rig->peer.words[3] += htonl(1);
    endpoint_of_ip_address(&request.at, &rig->local, 25);
    const struct stack_settings settings = {
        .port = &rig->port,
        .world = &rig->world,
        .wheel = rig->wheel,
        .pool = pool,
        .addresses = addresses,
        .address_count = 1u + rig->ipv6,
        .vlan = (how & 8) != 0 ? RIG_VLAN : 0,
        .ecn = (how & 2) != 0 ? STACK_ECN_ASK : STACK_ECN_ACCEPT,
        .limits = {.connection_max = 16,
                   .half_open_max = (how & 2) != 0 ? 1 : 4,
                   .time_wait_max = (how & 4) != 0 ? 1 : 8,
                   .orphan_max = 2,
                   .congestion = (how & 2) != 0 ? STACK_NEWRENO : STACK_CUBIC,
                   .nagle = (how & 16) != 0,
                   .receive_window_bytes = (how & 8) != 0 ? 3000 : 100000,
                   .held_mbuf_max = (how & 16) != 0 ? 8 : 0}};
    check(stack_open(&rig->network, &settings) == 0);
    rig->stack = stack_of(rig->network);
    rig->shadow_count = settings.limits.connection_max;
    rig->shadows = calloc(rig->shadow_count, sizeof(rig->shadows[0]));
    check(rig->network->ops->listen(rig->network, &request, &listener) == 0);
    rest(rig); /* nobody else has our addresses, and no router answers */
}

/* Every session lets go, and so much time passes that nothing is remembered. */
static void rig_rest(struct rig *rig)
{
    struct tcp *tcp = &rig->stack->tcp;
    rig->blocked = false;
    round_make(rig); /* what has arrived may still be accepted */
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
        if (rig->sessions[i].stream != NULL) {
            struct stream *stream = rig->sessions[i].stream;
            rig->sessions[i].stream = NULL;
            stream_release(stream);
        }
    }
    round_make(rig);
    rest(rig);
    check(tcp->table.used == 0 && tcp->conns.used == 0 && tcp->orphan_count == 0);
    check(tcp->half_opens.used == 0 && tcp->time_waits.used == 0 && tcp->held_mbufs == 0);
    check(rte_mempool_full(rig->stack->segments) && rte_mempool_full(rig->stack->control));
}

static void rig_close(struct rig *rig)
{
    rig->blocked = false;
    rig->closing = true;
    while (rig->arriving_count > 0) {
        rte_pktmbuf_free(rig->arriving[--rig->arriving_count]);
    }
    device_reads(rig);
    rig->network->ops->close(rig->network);
    wheel_close(rig->wheel);
    free(rig->shadows);
    rig->network = NULL;
}

static void step(struct rig *rig, struct input *input)
{
    uint8_t operation = take(input);
    switch (operation & 7) {
    case 0:
    case 1:
        segment_arrives(rig, input);
        break;
    case 2:
        raw_arrives(rig, input);
        break;
    case 3:
        time_passes(rig, take(input) % 200);
        break;
    case 4:
        session_acts(rig, input);
        break;
    case 5:
        icmp_arrives(rig, input);
        break;
    case 6:
        neighbour_arrives(rig, input, operation >> 4);
        break;
    default:
        if ((operation & 0x10) != 0) {
            rig->blocked = !rig->blocked;
        } else {
            host_connects(rig);
        }
        break;
    }
    if ((operation & 8) == 0) { /* else several in one round */
        rig->now_ns += 1000;
        round_make(rig);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const struct memory_settings settings = {.program = "fuzz_tcp_states", .megabytes = 512};
    (void)argc;
    (void)argv;
    check(memory_start(&settings) == 0);
    pool = memory_pool_open("data", 511, MEMORY_MBUF_BYTES);
    receive_pool = memory_pool_open("receive", 1023, MEMORY_MBUF_BYTES);
    check(pool != NULL && receive_pool != NULL);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct rig rigs[SETTINGS]; /* opening one takes longer than most inputs */
    struct input input = {bytes, bytes + size};
    uint8_t how = take(&input);
    struct rig *rig = &rigs[how % SETTINGS];
    if (rig->network == NULL) {
        rig_open(rig, how);
    }
    scene_set(rig);
    for (unsigned i = 0; i < STEPS_MAX && input.at < input.end; i++) {
        step(rig, &input);
    }
    bool at_once = how / SETTINGS == CLOSED_AT_ONCE;
    if (!at_once) {
        rig_rest(rig);
    }
    if (at_once || rig->stack->router.heard) { /* what a router has said stays */
        rig_close(rig);
    }
    check(rte_mempool_full(pool) && rte_mempool_full(receive_pool) && rig->references == 0);
    return 0;
}
