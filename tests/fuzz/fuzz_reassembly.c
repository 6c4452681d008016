/*
 * A stack under fragments of both families: a grammar of datagrams that are cut, repeated, mixed, tampered with and left
 * alone, with options and extension headers of every length and tags of a VLAN, while time passes; and TCP segments with
 * options of every length, whole or in fragments.
 *
 * The input is a list of steps about a few plans, each a datagram whose bytes are known. Of each the fuzz keeps by the
 * book what has come, and so knows at each part, as long as it came in time and no bound was reached, whether the stack
 * must find the datagram whole or ruined by an overlap, and must do neither else. Whatever arrives at the socket must be
 * what its plan says unless the plan was tampered with; some have no checksum that would hide what is wrong. Bounds hold
 * after each step, and at the end, when time has passed, nothing is left.
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
    bool more;
};

/* One datagram, sent as often as the input likes. */
struct plan {
    uint16_t serial; /* its identification, source port and the seed of its bytes; 0: none yet */
    bool ipv6;
    uint8_t sender;
    uint8_t option_bytes;
    bool unsummed;              /* UDP of IPv4 without a checksum */
    uint32_t bytes;             /* of payload */
    uint32_t step;              /* where it is cut */
    uint32_t cursor;            /* of the next part in order */
    uint64_t first_ns, last_ns; /* when its parts came; 0: none is under way */
    uint64_t lost;              /* as lost_count says, at that time */
    unsigned part_count;
    struct part parts[PARTS_MAX];
    uint32_t covered;
    uint32_t end;  /* 0: not known yet */
    bool ruined;   /* until its time is over */
    bool doubtful; /* too late, or it fell to a bound, perhaps: anything may become of it */
    bool tampered; /* and if it arrives, its bytes may be anything */
};

struct fuzz {
    struct rte_mempool *pools[2];
    struct net_pair pair;
    struct stack *stack; /* NULL: not open */
    struct input input;
    struct datagram_socket *socket;
    struct plan plans[PLANS];
    uint16_t vlan; /* 0: none */
    uint16_t serial;
    uint16_t arrived; /* the serial of the last that did */
};

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

static uint32_t plan_size(const struct plan *plan)
{
    return UDP_HEADER_BYTES + plan->bytes;
}

static void plan_make(struct fuzz *fuzz, struct plan *plan)
{
    struct input *input = &fuzz->input;
    uint16_t serial = ++fuzz->serial;
    uint8_t kind = byte(input) ^ (serial & 1), options = kind >> 3;
    *plan = (struct plan){.serial = serial,
                          .ipv6 = (kind & 1) != 0,
                          .sender = kind >> 1 & 3u,
                          .option_bytes = (uint8_t)(options % 11u * ((kind & 1) != 0 ? 8 : 4)),
                          .unsummed = (kind & 1) == 0 && options >= 16,
                          .bytes = 50u + word(input) % PLAN_BYTES_MAX,
                          .step = 8u + byte(input) * 8u % 1024u};
    if (plan->bytes / plan->step > PARTS_MAX - 2) {
        plan->step = (plan->bytes / (PARTS_MAX - 2) + 8) / 8 * 8;
    }
}

static void plan_send(struct fuzz *fuzz, const struct plan *plan, const struct net_fragment *part)
{
    uint8_t options[80];
    struct net_fragment whole = *part;
    memset(options, plan->ipv6 ? 0 : 1, sizeof(options)); /* padding: PadN's content, NOP */
    if (plan->ipv6) {
        const uint8_t header[4] = {IPPROTO_FRAGMENT, (uint8_t)(plan->option_bytes / 8 - 1), 1,
                                   (uint8_t)(plan->option_bytes - 4)};
        memcpy(options, header, sizeof(header));
    }
    whole.id = plan->serial;
    whole.options = options;
    whole.option_bytes = plan->option_bytes;
    whole.options_begin = plan->serial % 2 == 0 ? IPPROTO_DSTOPTS : IPPROTO_HOPOPTS;
    inject(fuzz, &whole);
}

enum outcome { NOTHING, COMPLETES, RUINS };

/* RFC 5722 and RFC 791 by the book: what must come of another part of what is here. */
static enum outcome plan_add(struct plan *plan, struct part part)
{
    bool contradicts = plan->end != 0 && part.end > plan->end;
    contradicts |= !part.more && plan->end != 0 && part.end != plan->end;
    for (unsigned i = 0; i < plan->part_count; i++) {
        const struct part *other = &plan->parts[i];
        if (plan->ruined || (other->begin == part.begin && other->end == part.end)) {
            return NOTHING;
        }
        contradicts |= other->begin < part.end && part.begin < other->end;
        contradicts |= !part.more && other->end > part.end;
    }
    if (contradicts) {
        plan->ruined = true;
        return RUINS;
    }
    if (plan->part_count == PARTS_MAX) {
        plan->doubtful = true;
        return NOTHING;
    }
    plan->parts[plan->part_count++] = part;
    plan->covered += part.end - part.begin;
    plan->end = part.more ? plan->end : part.end;
    return plan->covered == plan->end ? COMPLETES : NOTHING;
}

static void plan_forget(struct plan *plan)
{
    plan->first_ns = plan->part_count = plan->covered = plan->end = 0;
    plan->ruined = plan->doubtful = plan->tampered = false;
}

/* What came too long ago is gone. Shortly before its time is over it is left open what becomes of it. */
static void plan_age(struct fuzz *fuzz, struct plan *plan)
{
    uint64_t now_ns = fuzz->pair.world.now_ns, wait_ns = (plan->ipv6 ? 60 : 30) * SECOND_NS;
    uint64_t since_ns = plan->doubtful ? plan->last_ns : plan->first_ns;
    if (plan->first_ns != 0 && now_ns - since_ns > wait_ns + SECOND_NS) {
        plan_forget(plan);
    }
    if (plan->first_ns == 0) {
        plan->first_ns = now_ns;
        plan->lost = lost_count(fuzz);
    }
    plan->doubtful |= now_ns - plan->first_ns > wait_ns - SECOND_NS;
    plan->last_ns = now_ns;
}

/* With its own bytes at its place, whatever its place. */
static void plan_give(struct fuzz *fuzz, struct plan *plan, struct part range)
{
    const struct stack_counters *counters = &fuzz->stack->counters;
    struct net_fragment part = addresses_of(plan->ipv6, plan->sender);
    net_datagram_make(packet, &part, plan->serial, PORT, plan->bytes, plan->serial);
    if (plan->unsummed) {
        memset(packet + 6, 0, 2);
    }
    part.offset = range.begin;
    part.bytes = range.end - range.begin;
    part.more = range.more;
    fuzz->arrived = 0;
    if (range.begin == 0 && !range.more) { /* no fragment, or an atomic one: RFC 6946 */
        plan_send(fuzz, plan, &part);
        check(plan->tampered || fuzz->arrived == plan->serial);
        return;
    }
    plan_age(fuzz, plan);
    enum outcome outcome = plan_add(plan, range);
    uint64_t done = counters->ip_reassembly_done, overlaps = counters->ip_reassembly_overlaps;
    plan_send(fuzz, plan, &part);
    plan->doubtful |= plan->lost != lost_count(fuzz);
    if (plan->doubtful) {
        return;
    }
    check(counters->ip_reassembly_done - done == (outcome == COMPLETES));
    check(counters->ip_reassembly_overlaps - overlaps == (outcome == RUINS));
    if (outcome == COMPLETES) {
        check(plan->tampered || plan->end < plan_size(plan) || fuzz->arrived == plan->serial);
        plan_forget(plan);
    }
}

static struct part part_at(const struct plan *plan, uint32_t begin, uint32_t bytes)
{
    uint32_t left = plan_size(plan) - begin;
    return (struct part){begin, begin + (bytes < left ? bytes : left), bytes < left};
}

/* A part as it should be: the next where the plan is cut, another, or one that is cut elsewhere. */
static void plan_part(struct fuzz *fuzz, struct plan *plan, uint8_t where)
{
    struct input *input = &fuzz->input;
    if (plan->serial == 0) {
        plan_make(fuzz, plan);
    }
    uint32_t step = plan->step + (where >= 0xe0 ? byte(input) % 4u * 8u : 0);
    uint32_t begin = (where < 0xa0 ? plan->cursor++ : where % 0x20u) * step;
    if (begin >= plan_size(plan)) {
        begin = 0;
        plan->cursor = 1;
    }
    plan_give(fuzz, plan, part_at(plan, begin, step));
}

enum twist { AS_IT_IS, LATER, EARLIER, LONGER, SHORTER, LEFT_OUT, REPEATED, TWISTS };

/* One part is not what it should be. Those that lie elsewhere have as many bytes as the part whose place is left. */
static void part_twist(struct fuzz *fuzz, struct plan *plan, struct part part, enum twist twist,
                       uint32_t by)
{
    struct part other = part;
    switch (twist) {
    case LATER:
        other.begin += by;
        other.end += by;
        break;
    case EARLIER:
        other.begin -= by; /* or it wraps, and is not inside */
        other.end -= by;
        break;
    case LONGER:
        other.end += by < 256 ? by : 256; /* frames have an end */
        break;
    case SHORTER:
        other.end -= by;
        break;
    case LEFT_OUT:
        return;
    case REPEATED:
        plan_give(fuzz, plan, part);
        break;
    case AS_IT_IS:
    case TWISTS:
        break;
    }
    other.more |= other.end < plan_size(plan) && other.end % 8 == 0;
    bool inside = other.begin < other.end && other.end <= plan_size(plan);
    bool cut_right = other.more ? (other.end - other.begin) % 8 == 0 : other.begin > 0;
    plan_give(fuzz, plan, inside && cut_right ? other : part);
}

/* All parts, in some order, one of them twisted; and perhaps all again, as they should be. */
static void plan_whole(struct fuzz *fuzz, struct plan *plan, const uint8_t how[4])
{
    if (plan->serial == 0 || plan->first_ns != 0) {
        plan_make(fuzz, plan);
    }
    uint8_t order = how[1], odd = how[2], by = how[3];
    uint32_t count = (plan_size(plan) + plan->step - 1) / plan->step;
    for (uint32_t n = 0; n < count; n++) {
        uint32_t turned = (n + order / 4u) % count; /* where it begins */
        uint32_t i = (order & 1) != 0 ? count - 1 - turned : turned;
        struct part part = part_at(plan, i * plan->step, plan->step);
        enum twist twist = i == odd % count ? how[0] % TWISTS : AS_IT_IS;
        part_twist(fuzz, plan, part, twist, 8u + by * 8u % plan->step);
    }
    for (uint32_t i = 0; (order & 2) != 0 && i < count; i++) {
        plan_give(fuzz, plan, part_at(plan, i * plan->step, plan->step));
    }
}

/* Two plans have the same fate: those made one after the other are of both families. */
static void plans_whole(struct fuzz *fuzz)
{
    uint8_t which = byte(&fuzz->input), how[4];
    some(&fuzz->input, how, sizeof(how));
    plan_whole(fuzz, &fuzz->plans[which % PLANS], how);
    plan_whole(fuzz, &fuzz->plans[(which + 1) % PLANS], how);
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
    plan_age(fuzz, plan);
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
        plan_parts(fuzz);
        break;
    case 1:
    case 10:
    case 11:
    case 12:
        plans_whole(fuzz);
        break;
    default:
        plan_part(fuzz, &fuzz->plans[byte(input) % PLANS], byte(input));
        break;
    }
    bounds_check(fuzz);
}

static void open_pair(struct fuzz *fuzz)
{
    const struct stack_limits limits = {.held_mbuf_max = 256, .connection_max = 8};
    const struct net_pair_settings settings = {.seed = 1,
                                               .ipv6 = true,
                                               .limits = {limits, limits},
                                               .faults = {.lost = 10000},
                                               .vlan = fuzz->vlan};
    struct listener *listener;
    net_pair_open(&fuzz->pair, &settings, fuzz->pools);
    fuzz->stack = stack_of(fuzz->pair.hosts[0].network);
    const struct datagram_request request = {
        .notify = notified, .session = fuzz, .at = {.family = ENDPOINT_NONE, .port = PORT}};
    const struct listen_request listen = {.at = net_endpoint("0.0.0.0:25"), .accepted = accepted};
    check(udp_open(&fuzz->stack->network, &request, &fuzz->socket) == 0);
    check(fuzz->stack->network.ops->listen(&fuzz->stack->network, &listen, &listener) == 0);
    net_pair_run(&fuzz->pair, 20 * SECOND_NS); /* routers are asked for, groups are joined */
}

/* Time passes until all is forgotten, or everything ends in the middle. */
static void end(struct fuzz *fuzz, bool wait)
{
    if (wait) {
        net_pair_run(&fuzz->pair, 130 * SECOND_NS);
        check(fuzz->stack->reassembly.mbuf_count == 0);
        check(fuzz->stack->reassembly.datagrams.used == 0);
    } else {
        datagram_close(fuzz->socket);
        net_pair_close(&fuzz->pair);
        fuzz->stack = NULL;
    }
    check(rte_mempool_full(fuzz->pools[0]) && rte_mempool_full(fuzz->pools[1]));
}

/* The first byte chooses the network and the end. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static bool begun;
    static struct fuzz fuzzes[2]; /* opening one takes longer than most inputs */
    struct input input = {.at = bytes, .end = bytes + size};
    uint8_t how = byte(&input);
    struct fuzz *fuzz = &fuzzes[how & 1];
    if (!begun) {
        const struct memory_settings settings = {.program = "fuzz_reassembly", .megabytes = 128};
        check(memory_start(&settings) == 0 && net_pools_open(fuzz->pools, 1023) == 0);
        memcpy(fuzzes[!(how & 1)].pools, fuzz->pools, sizeof(fuzz->pools));
        begun = true;
    }
    if (fuzz->stack == NULL) {
        fuzz->vlan = (how & 1) != 0 ? 7 : 0;
        open_pair(fuzz);
    }
    memset(fuzz->plans, 0, sizeof(fuzz->plans));
    fuzz->serial = 0;
    fuzz->input = input;
    for (unsigned i = 0; i < 400 && fuzz->input.at < fuzz->input.end; i++) {
        step(fuzz);
    }
    end(fuzz, (how & 0xe) != 0xe);
    return 0;
}
