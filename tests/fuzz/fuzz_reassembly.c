/*
 * A stack under fragments of both families: a grammar of datagrams that are cut, repeated, mixed, tampered with and left
 * alone, with options and extension headers of every length and tags of a VLAN, while time passes; and TCP segments with
 * options of every length, whole or in fragments.
 *
 * The input is a list of steps about a few plans, each a datagram whose bytes are known. Whatever arrives at the socket
 * must be what its plan says unless the plan was tampered with, and a plan whose parts have all come, none of them
 * overlapping, in time and with no bound reached, must have arrived. Bounds hold after each step, and at the end, when
 * time has passed, nothing is left.
 *
 * with: tests/unit/net_link.c tests/unit/net_offload.c tests/unit/net_pair.c tests/unit/net_fragment.c
 */
#include "engine/core/check.h"
#include "engine/net/checksum.h"
#include "engine/net/stack_private.h"
#include "engine/shard/memory.h"
#include "tests/unit/net_fragment.h"
#include "tests/unit/net_pair.h"

#define PLANS 6u
#define PARTS_MAX 48u /* that a plan remembers; further ones are not asked of it */
#define PLAN_BYTES_MAX 6000u
#define PORT 5353
#define RAW_BYTES_MAX 200u

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

struct input {
    const uint8_t *at, *end;
};

struct part {
    uint32_t begin, end;
};

/* One datagram, sent as often as the input likes. */
struct plan {
    uint16_t serial; /* its identification, source port and the seed of its bytes; 0: none yet */
    bool ipv6;
    uint8_t sender;
    uint8_t option_bytes;
    uint32_t bytes;    /* of payload */
    uint32_t step;     /* where it is cut */
    uint64_t first_ns; /* when its first part came; 0: none is under way */
    uint64_t lost;     /* as lost_count says, at that time */
    unsigned part_count;
    struct part parts[PARTS_MAX];
    uint32_t covered;
    uint32_t cursor; /* of the next part in order */
    bool doubtful;   /* overlaps, or too many parts: it need not arrive */
    bool tampered;   /* and if it does, its bytes may be anything */
};

struct fuzz {
    struct net_pair pair;
    struct input input;
    struct stack *stack;
    struct datagram_socket *socket;
    struct plan plans[PLANS];
    uint16_t vlan; /* 0: none */
    uint16_t serial;
    uint16_t arrived; /* the serial of the last that did */
};

static struct rte_mempool *pools[2];
static uint8_t packet[UINT16_MAX + 2048];

static uint8_t byte(struct input *input)
{
    return input->at < input->end ? *input->at++ : 0;
}

static uint16_t word(struct input *input)
{
    return (uint16_t)(byte(input) << 8 | byte(input));
}

static void some(struct input *input, uint8_t *to, uint32_t wanted)
{
    for (uint32_t i = 0; i < wanted; i++) {
        to[i] = byte(input);
    }
}

/* ── What arrives ────────────────────────────────────────────────────────────────────────────── */

static const struct plan *plan_of(const struct fuzz *fuzz, uint16_t serial)
{
    for (unsigned i = 0; i < PLANS; i++) {
        if (serial != 0 && fuzz->plans[i].serial == serial) {
            return &fuzz->plans[i];
        }
    }
    return NULL;
}

static void notified(struct datagram_socket *socket, void *session)
{
    struct fuzz *fuzz = session;
    struct datagram datagram;
    int status;
    while ((status = datagram_receive(socket, &datagram)) != 0) {
        const struct plan *plan = plan_of(fuzz, datagram.from.port);
        if (status < 0 || plan == NULL || plan->tampered) {
            continue;
        }
        fuzz->arrived = plan->serial;
        check(datagram.bytes.size == plan->bytes);
        for (uint32_t i = 0; i < plan->bytes; i++) {
            check(datagram.bytes.bytes[i] == net_fragment_byte(plan->serial, i));
        }
    }
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    (void)owner;
    (void)listener;
    stream_abort(stream);
    stream_release(stream);
}

/* ── Fragments ───────────────────────────────────────────────────────────────────────────────── */

static struct net_fragment addresses_of(bool ipv6, uint8_t sender)
{
    struct net_fragment of = {.payload = packet, .protocol = IPPROTO_UDP};
    if (ipv6) {
        const uint32_t words[4] = {htonl(0xfd000000), htonl(sender), 0, htonl(0x100u + sender)};
        memcpy(of.from.words, words, sizeof(words));
        of.to = (struct ip_address){{htonl(0xfd000000), 0, 0, htonl(1)}};
    } else {
        of.from = ip_address_of_ipv4(htonl(0x0a000010u + sender));
        of.to = ip_address_of_ipv4(htonl(0x0a000001));
    }
    return of;
}

static void inject_tagged(struct fuzz *fuzz, const struct net_fragment *fragment, uint16_t tag)
{
    uint8_t frame[4 + NET_FRAGMENT_FRAME_BYTES], *at = frame;
    uint32_t size = net_fragment_make(frame + 4, fragment);
    if (tag == 0) {
        at += 4;
    } else {
        memmove(frame, frame + 4, 12);
        frame[12] = 0x81;
        frame[13] = 0;
        frame[14] = (uint8_t)(tag >> 8);
        frame[15] = (uint8_t)tag;
        size += 4;
    }
    net_link_inject(&fuzz->pair.link, 0, at, size);
    net_pair_run(&fuzz->pair, 2000);
}

static void inject(struct fuzz *fuzz, const struct net_fragment *fragment)
{
    inject_tagged(fuzz, fragment, fuzz->vlan);
}

/* Datagrams that fell to a bound, and perhaps others. */
static uint64_t lost_count(const struct fuzz *fuzz)
{
    const struct stack_counters *counters = &fuzz->stack->counters;
    return counters->ip_reassembly_pushed_out + counters->ip_reassembly_failed -
           counters->ip_reassembly_overlaps - counters->ip_reassembly_timeouts;
}

static void plan_make(struct fuzz *fuzz, struct plan *plan)
{
    struct input *input = &fuzz->input;
    uint8_t kind = byte(input);
    *plan = (struct plan){.serial = ++fuzz->serial,
                          .ipv6 = (kind & 1) != 0,
                          .sender = kind >> 1 & 3u,
                          .option_bytes = (uint8_t)((kind >> 3) % 11u * ((kind & 1) != 0 ? 8 : 4)),
                          .bytes = word(input) % PLAN_BYTES_MAX,
                          .step = 8u + byte(input) * 8u % 1024u};
    if (plan->bytes / plan->step > PARTS_MAX - 2) {
        plan->step = (plan->bytes / (PARTS_MAX - 2) + 8) / 8 * 8;
    }
}

static void plan_send(struct fuzz *fuzz, const struct plan *plan, struct net_fragment *part)
{
    uint8_t options[80];
    memset(options, plan->ipv6 ? 0 : 1, sizeof(options)); /* padding: PadN's content, NOP */
    if (plan->ipv6) {
        const uint8_t header[4] = {IPPROTO_FRAGMENT, (uint8_t)(plan->option_bytes / 8 - 1), 1,
                                   (uint8_t)(plan->option_bytes - 4)};
        memcpy(options, header, sizeof(header));
    }
    part->id = plan->serial;
    part->options = options;
    part->option_bytes = plan->option_bytes;
    part->options_begin = plan->serial % 2 == 0 ? IPPROTO_DSTOPTS : IPPROTO_HOPOPTS;
    inject(fuzz, part);
}

/* Did it come before, whole? Or some of it? */
static bool is_repeated(struct plan *plan, struct part part)
{
    for (unsigned i = 0; i < plan->part_count; i++) {
        const struct part *other = &plan->parts[i];
        if (other->begin == part.begin && other->end == part.end) {
            return true;
        }
        plan->doubtful |= other->begin < part.end && part.begin < other->end;
    }
    return false;
}

static void plan_begin(struct fuzz *fuzz, struct plan *plan)
{
    plan->first_ns = fuzz->pair.world.now_ns;
    plan->lost = lost_count(fuzz);
    plan->part_count = 0;
    plan->covered = 0;
}

/* A part as it should be: the next where the plan is cut, another, or one that is cut elsewhere. */
static void plan_part(struct fuzz *fuzz, struct plan *plan, uint8_t where)
{
    struct input *input = &fuzz->input;
    if (plan->serial == 0) {
        plan_make(fuzz, plan);
    }
    struct net_fragment part = addresses_of(plan->ipv6, plan->sender);
    uint32_t size = net_datagram_make(packet, &part, plan->serial, PORT, plan->bytes, plan->serial);
    uint32_t step = plan->step + (where >= 0xe0 ? byte(input) % 4u * 8u : 0);
    part.offset = (where < 0xa0 ? plan->cursor++ : where % 0x20u) * step;
    if (part.offset >= size) {
        part.offset = 0;
        plan->cursor = 1;
    }
    part.more = size - part.offset > step;
    part.bytes = part.more ? step : size - part.offset;
    const struct part range = {part.offset, part.offset + part.bytes};
    if (part.offset == 0 && !part.more) { /* no fragment, or an atomic one: RFC 6946 */
        fuzz->arrived = 0;
        plan_send(fuzz, plan, &part);
        check(plan->tampered || fuzz->arrived == plan->serial);
        return;
    }
    if (plan->first_ns == 0) {
        plan_begin(fuzz, plan);
    }
    if (!is_repeated(plan, range)) {
        plan->doubtful |= plan->part_count == PARTS_MAX;
        plan->parts[plan->doubtful ? 0 : plan->part_count++] = range;
        plan->covered += part.bytes;
    }
    /* Shortly before its time is over it is left open what becomes of it. */
    uint64_t wait_ns = (plan->ipv6 ? 59 : 29) * SECOND_NS;
    plan->doubtful |= fuzz->pair.world.now_ns - plan->first_ns > wait_ns;
    fuzz->arrived = 0;
    plan_send(fuzz, plan, &part);
    bool due = !plan->doubtful && !plan->tampered && plan->covered == size &&
               plan->lost == lost_count(fuzz);
    check(!due || fuzz->arrived == plan->serial);
    if (plan->covered == size && !plan->doubtful) {
        plan->first_ns = 0;
        /* What was lost meanwhile may leave its last parts behind. */
        plan->doubtful = !due;
    }
}

/* Many parts, of one plan or of two in turn. */
static void plan_parts(struct fuzz *fuzz)
{
    struct input *input = &fuzz->input;
    struct plan *plans[2] = {&fuzz->plans[byte(input) % PLANS], &fuzz->plans[byte(input) % PLANS]};
    uint8_t count = byte(input) % (2 * PARTS_MAX), again = byte(input);
    for (unsigned i = 0; i < count; i++) {
        struct plan *plan = plans[i % 2];
        plan->cursor -= i == again && plan->cursor > 0; /* the wire repeats one */
        plan_part(fuzz, plan, 0);
    }
}

static void plan_tamper(struct fuzz *fuzz)
{
    struct input *input = &fuzz->input;
    struct plan *plan = &fuzz->plans[byte(input) % PLANS];
    struct net_fragment part = addresses_of(plan->ipv6, plan->sender);
    part.offset = word(input) & 0xfff8u;
    part.more = (byte(input) & 1) != 0;
    part.bytes = byte(input) * 8u % 1024u + byte(input) % 3u;
    if (plan->serial == 0) {
        return;
    }
    plan->tampered = plan->doubtful = true;
    some(input, packet + part.offset, 32);
    plan_send(fuzz, plan, &part);
}

/* ── What has no plan ────────────────────────────────────────────────────────────────────────── */

/* Options and headers as the input has them, before the fragment header and behind it. */
static void raw_part(struct fuzz *fuzz)
{
    struct input *input = &fuzz->input;
    uint8_t options[64], kind = byte(input);
    struct net_fragment part = addresses_of((kind & 1) != 0, 9);
    static const uint8_t protocols[] = {IPPROTO_TCP,     IPPROTO_UDP,     IPPROTO_ICMP,
                                        IPPROTO_ICMPV6,  IPPROTO_DSTOPTS, IPPROTO_HOPOPTS,
                                        IPPROTO_ROUTING, IPPROTO_FRAGMENT};
    part.id = kind >> 1 & 3u;
    part.protocol = protocols[byte(input) % RTE_DIM(protocols)];
    part.ecn = kind >> 3 & 3u;
    part.more = (kind & 0x20) != 0;
    part.offset = (kind & 0x40) != 0 ? 0 : byte(input) * 8u;
    part.bytes = byte(input) % RAW_BYTES_MAX;
    part.option_bytes = byte(input) % 6u * 8u;
    part.options = options;
    part.options_begin = protocols[4 + byte(input) % 4];
    some(input, options, part.option_bytes);
    memset(packet + part.offset, 0, RAW_BYTES_MAX);
    some(input, packet + part.offset, part.bytes < 40 ? part.bytes : 40);
    inject_tagged(fuzz, &part, (kind & 0x80) != 0 ? word(input) : fuzz->vlan);
}

/* A segment for the listener, or for nobody, with options of any length. */
static void segment(struct fuzz *fuzz)
{
    struct input *input = &fuzz->input;
    uint8_t kind = byte(input);
    struct net_fragment of = addresses_of((kind & 1) != 0, 8);
    struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)packet;
    uint32_t options = byte(input) % 41u, size = TCP_HEADER_BYTES + options + (kind >> 1 & 7u);
    memset(packet, 0, TCP_HEADER_BYTES + 64);
    some(input, packet + TCP_HEADER_BYTES, options);
    tcp->src_port = htons(4000);
    tcp->dst_port = htons((kind & 0x10) != 0 ? 25 : 26);
    tcp->sent_seq = htonl(word(input));
    tcp->data_off = (uint8_t)((TCP_HEADER_BYTES + options + 3) / 4 << 4);
    tcp->tcp_flags = byte(input);
    tcp->rx_win = htons(1000);
    tcp->cksum = checksum_finish(
        checksum_add(ip_pseudo_sum(&of.from, &of.to, IPPROTO_TCP, size), packet, size));
    of.protocol = IPPROTO_TCP;
    of.id = kind;
    uint32_t step = (kind & 0x20) != 0 ? 8u + byte(input) % 8u * 8u : size;
    for (of.offset = 0; of.offset < size; of.offset += step) {
        of.more = size - of.offset > step;
        of.bytes = of.more ? step : size - of.offset;
        inject(fuzz, &of);
    }
}

static void ping(struct fuzz *fuzz)
{
    struct input *input = &fuzz->input;
    struct net_fragment of = addresses_of((byte(input) & 1) != 0, 7);
    uint32_t size = net_ping_make(packet, &of, word(input) % PLAN_BYTES_MAX, 1);
    of.protocol = ip_address_is_ipv4(&of.from) ? IPPROTO_ICMP : IPPROTO_ICMPV6;
    of.id = fuzz->input.at == fuzz->input.end ? 1 : *fuzz->input.at;
    for (of.offset = 0; of.offset < size; of.offset += 1400) {
        of.more = size - of.offset > 1400;
        of.bytes = of.more ? 1400 : size - of.offset;
        inject(fuzz, &of);
    }
}

/* ── Steps ───────────────────────────────────────────────────────────────────────────────────── */

static void bounds_check(const struct fuzz *fuzz)
{
    const struct reassembly *all = &fuzz->stack->reassembly;
    uint32_t mbufs = 0, datagrams = 0;
    for (unsigned i = 0; i < REASSEMBLY_SENDERS; i++) {
        mbufs += all->senders[i].mbuf_count;
        datagrams += all->senders[i].datagram_count;
        check(all->senders[i].datagram_count <= REASSEMBLY_OF_SENDER_MAX);
    }
    check(mbufs == all->mbuf_count && mbufs <= fuzz->stack->limits.held_mbuf_max / 4);
    check(datagrams == all->datagrams.used && datagrams <= REASSEMBLY_DATAGRAMS_MAX);
}

static void step(struct fuzz *fuzz)
{
    struct input *input = &fuzz->input;
    switch (byte(input) % 16) {
    case 0:
    case 1:
        plan_make(fuzz, &fuzz->plans[byte(input) % PLANS]);
        break;
    case 2:
        net_pair_run(&fuzz->pair, (uint64_t)byte(input) << (byte(input) % 31));
        break;
    case 3:
        plan_tamper(fuzz);
        break;
    case 4:
    case 5:
        raw_part(fuzz);
        break;
    case 6:
        segment(fuzz);
        break;
    case 7:
        ping(fuzz);
        break;
    case 8:
    case 9:
    case 10:
        plan_parts(fuzz);
        break;
    default:
        plan_part(fuzz, &fuzz->plans[byte(input) % PLANS], byte(input));
        break;
    }
    bounds_check(fuzz);
}

static void begin(struct fuzz *fuzz)
{
    const struct stack_limits limits = {.held_mbuf_max = 256, .connection_max = 8};
    const struct net_pair_settings settings = {.seed = 1,
                                               .ipv6 = true,
                                               .limits = {limits, limits},
                                               .faults = {.lost = 10000},
                                               .vlan = (byte(&fuzz->input) & 1) != 0 ? 7 : 0};
    struct listener *listener;
    fuzz->vlan = settings.vlan;
    net_pair_open(&fuzz->pair, &settings, pools);
    fuzz->stack = stack_of(fuzz->pair.hosts[0].network);
    const struct datagram_request request = {
        .notify = notified, .session = fuzz, .at = {.family = ENDPOINT_NONE, .port = PORT}};
    const struct listen_request listen = {.at = net_endpoint("0.0.0.0:25"), .accepted = accepted};
    check(udp_open(&fuzz->stack->network, &request, &fuzz->socket) == 0);
    check(fuzz->stack->network.ops->listen(&fuzz->stack->network, &listen, &listener) == 0);
    net_pair_run(&fuzz->pair, 20 * SECOND_NS); /* routers are asked for, groups are joined */
}

static void end(struct fuzz *fuzz)
{
    bool wait = (byte(&fuzz->input) & 1) == 0;
    if (wait) {
        net_pair_run(&fuzz->pair, 130 * SECOND_NS);
        check(fuzz->stack->reassembly.mbuf_count == 0);
        check(fuzz->stack->reassembly.datagrams.used == 0);
    }
    datagram_close(fuzz->socket);
    net_pair_close(&fuzz->pair);
    check(rte_mempool_in_use_count(pools[0]) == 0 && rte_mempool_in_use_count(pools[1]) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static bool begun;
    static struct fuzz fuzz;
    if (!begun) {
        const struct memory_settings settings = {.program = "fuzz_reassembly", .megabytes = 128};
        check(memory_start(&settings) == 0 && net_pools_open(pools, 1023) == 0);
        begun = true;
    }
    memset(&fuzz, 0, sizeof(fuzz));
    fuzz.input = (struct input){.at = bytes, .end = bytes + size};
    begin(&fuzz);
    for (unsigned i = 0; i < 400 && fuzz.input.at < fuzz.input.end; i++) {
        step(&fuzz);
    }
    end(&fuzz);
    return 0;
}
