#include "tests/sim/wire.h"
#include "engine/core/check.h"
#include "engine/net/stack.h"
#include "tests/sim/segment.h"
#include "tests/sim/sim.h"
#include <string.h>

#define ARRIVED_MAX 512u
#define HALF_OPEN_NS (63 * SIM_S) /* tcp.h, TCP_HALF_OPEN_SENDS */

/* What one end of a connection sends, and what of the other's has reached it. */
struct sim_end {
    uint8_t address[16];
    uint16_t port;
    unsigned host;
    bool syn; /* it has sent one, or its number is known from the acknowledgement of it */
    bool known;
    uint32_t iss;
    uint16_t mss;
    uint8_t scale;
    bool timestamps; /* in its SYN */
    uint32_t sent_end;
    bool fin, reset; /* sent */
    uint32_t fin_seq;
    uint32_t edge; /* of the window that has reached it */
    bool has_edge;
    uint32_t offered; /* right edge that it has told */
    bool has_offered;
    uint32_t acked;
    bool has_acked;
    uint32_t una; /* acknowledged of its bytes, as has reached it */
    uint32_t ts_value;
    bool has_ts;
    uint8_t *bytes;  /* from iss + 1 on */
    uint32_t unseen; /* so many of them were perhaps never seen */
    bool missed;     /* something that it has sent was not seen, perhaps its FIN */
    uint32_t bytes_size, bytes_room;
    uint32_t next; /* of the other's sequence: all before it has arrived */
    struct tcp_range arrived[ARRIVED_MAX];
    uint32_t arrived_count;
    bool arrived_full; /* more holes than we can tell */
};

struct sim_flow {
    struct sim_end ends[2]; /* the first one has opened it */
    uint64_t generation;
    uint64_t asked_ns; /* when the first SYN,ACK was sent; 0: not yet */
    bool answered;     /* an acknowledgement of it has arrived */
    bool given_up;     /* not in time */
    bool over;         /* nothing more is said of it: reset, or a host has crashed */
};

void sim_wire_open(struct sim_wire *wire, struct sim *sim)
{
    *wire = (struct sim_wire){.sim = sim};
    wire->flows = calloc(SIM_FLOWS_MAX, sizeof(wire->flows[0]));
    check(wire->flows != NULL);
}

static void flow_clear(struct sim_flow *flow)
{
    free(flow->ends[0].bytes);
    free(flow->ends[1].bytes);
    memset(flow, 0, sizeof(*flow));
}

void sim_wire_close(struct sim_wire *wire)
{
    for (uint32_t i = 0; i < wire->flow_count; i++) {
        flow_clear(&wire->flows[i]);
    }
    free(wire->flows);
}

void sim_wire_forget(struct sim_wire *wire, unsigned host)
{
    for (uint32_t i = 0; i < wire->flow_count; i++) {
        struct sim_flow *flow = &wire->flows[i];
        /* One that has said nothing yet may be asked when it is back by the same SYN. */
        flow->over |=
            flow->ends[0].host == host || (flow->ends[1].host == host && flow->ends[1].syn);
    }
}

static bool end_is(const struct sim_end *end, const uint8_t *address, uint16_t port)
{
    return end->port == port && memcmp(end->address, address, 16) == 0;
}

/* *side: of the sender. */
static struct sim_flow *flow_find(struct sim_wire *wire, const struct segment *segment,
                                  unsigned *side)
{
    for (uint32_t i = 0; i < wire->flow_count; i++) {
        uint32_t at = (wire->last + i) % wire->flow_count;
        struct sim_flow *flow = &wire->flows[at];
        for (unsigned from = 0; from < 2; from++) {
            if (end_is(&flow->ends[from], segment->from, segment->from_port) &&
                end_is(&flow->ends[1 - from], segment->to, segment->to_port)) {
                wire->last = at;
                *side = from;
                return flow;
            }
        }
    }
    return NULL;
}

static unsigned host_of(struct sim_wire *wire, const uint8_t *address)
{
    return address[15] >= 1 && address[15] <= wire->sim->host_count ? address[15] - 1u : UINT32_MAX;
}

static struct sim_flow *flow_begin(struct sim_wire *wire, struct sim_flow *flow,
                                   const struct segment *segment)
{
    if (flow == NULL && wire->flow_count < SIM_FLOWS_MAX) {
        flow = &wire->flows[wire->flow_count++];
    }
    if (flow == NULL) {
        return NULL;
    }
    flow_clear(flow);
    flow->generation = ++wire->generation;
    for (unsigned i = 0; i < 2; i++) {
        struct sim_end *end = &flow->ends[i];
        memcpy(end->address, i == 0 ? segment->from : segment->to, 16);
        end->port = i == 0 ? segment->from_port : segment->to_port;
        end->host = host_of(wire, end->address);
        end->scale = SEGMENT_NO_SCALE;
    }
    return flow;
}

#define judge(wire, end, segment, believed)                                                        \
    do {                                                                                           \
        if (!(believed)) {                                                                         \
            segment_wrong(wire, end, segment, #believed);                                          \
        }                                                                                          \
    } while (0)

static void segment_wrong(struct sim_wire *wire, const struct sim_end *end,
                          const struct segment *segment, const char *believed)
{
    sim_fail(
        wire->sim,
        "wire: host %u, port %u to port %u: a segment that breaks \"%s\": seq %u (iss + %u) of "
        "%u bytes, flags 0x%x, ack %u, window %u; sent to %u, acknowledged %u, window to %u, "
        "other's bytes arrived to %u",
        end->host, segment->from_port, segment->to_port, believed, segment->seq,
        segment->seq - end->iss, segment->payload_bytes, segment->flags, segment->ack,
        segment->window, end->sent_end - end->iss, end->una - end->iss, end->edge - end->iss,
        end->next);
}

/* ---- As it leaves ---- */

static void syn_sent(struct sim_flow *flow, unsigned side, const struct segment *segment,
                     uint64_t now_ns)
{
    struct sim_end *end = &flow->ends[side], *other = &flow->ends[1 - side];
    if (end->known) {
        return; /* an answer to a late SYN */
    }
    end->syn = true;
    end->iss = segment->seq;
    end->sent_end = segment->seq + 1;
    end->una = segment->seq;
    /* RFC 9293 §3.7.1: 576 or 1280 less the headers. */
    uint16_t unsaid = segment->from[0] == 0 ? 536 : 1220;
    end->mss = segment->mss == 0 ? unsaid : segment->mss;
    end->scale = segment->scale;
    end->timestamps = segment->has_timestamp;
    end->known = side == 0;
    if (side == 1) {
        flow->asked_ns = flow->asked_ns == 0 ? now_ns : flow->asked_ns;
        end->acked = segment->ack;
        end->has_acked = true;
        end->next = other->iss + 1;
        /* RFC 7323 §2.2: of a SYN it is not scaled. */
        end->offered = segment->ack + segment->window;
        end->has_offered = true;
    }
}

static void payload_compare(struct sim_wire *wire, struct sim_end *end,
                            const struct segment *segment)
{
    uint32_t offset = segment->seq - (end->iss + 1), size = segment->payload_bytes;
    uint32_t known = end->bytes_size > offset ? end->bytes_size - offset : 0;
    known = known < size ? known : size;
    judge(wire, end, segment,
          offset < end->unseen || memcmp(end->bytes + offset, segment->payload, known) == 0);
    wire->retransmitted_bytes += known;
    wire->payload_bytes += size;
    if (known == size) {
        return;
    }
    if (offset + size > end->bytes_room) {
        end->bytes_room = (offset + size) * 2;
        end->bytes = realloc(end->bytes, end->bytes_room);
        check(end->bytes != NULL);
    }
    if (offset > end->bytes_size) {
        end->unseen = offset;
    }
    memcpy(end->bytes + offset + known, segment->payload + known, size - known);
    end->bytes_size = offset + size;
}

/* What waited for a neighbour that did not answer is dropped before it comes to the port. TCP has sent
 * it, but the wire has not seen it. */
static void unseen_allow(struct sim_wire *wire, struct sim_end *end, const struct segment *segment)
{
    const struct sim_host *host = &wire->sim->hosts[end->host];
    if (stack_counters(host->network)->arp_unresolved_lost > 0) {
        end->missed |= seq_before(end->sent_end, segment->seq);
        end->sent_end = seq_max(end->sent_end, segment->seq);
    }
}

static void payload_judge(struct sim_wire *wire, struct sim_flow *flow, unsigned side,
                          const struct segment *segment)
{
    struct sim_end *end = &flow->ends[side], *other = &flow->ends[1 - side];
    uint32_t seq = segment->seq, to = seq + segment->payload_bytes;
    /* RFC 9293 §3.8.6.1: one byte asks whether a closed window has opened. */
    bool probe = segment->payload_bytes == 1 && seq == end->una && end->edge == end->una;
    judge(wire, end, segment, seq_before(end->iss, seq));
    judge(wire, end, segment, seq_at_or_before(seq, end->sent_end));
    judge(wire, end, segment, end->has_edge);
    judge(wire, end, segment, probe || seq_at_or_before(to, end->edge));
    judge(wire, end, segment, !end->fin || seq_at_or_before(to, end->fin_seq));
    judge(wire, end, segment, segment->payload_bytes <= other->mss);
    if (end->bytes == NULL) {
        end->bytes_room = 4096;
        end->bytes = malloc(end->bytes_room);
        check(end->bytes != NULL);
    }
    payload_compare(wire, end, segment);
    end->sent_end = seq_max(end->sent_end, to);
}

static bool has_arrived(const struct sim_end *end, struct tcp_range range)
{
    if (seq_at_or_before(range.end, end->next)) {
        return true;
    }
    for (uint32_t i = 0; i < end->arrived_count; i++) {
        if (seq_at_or_before(end->arrived[i].begin, range.begin) &&
            seq_at_or_before(range.end, end->arrived[i].end)) {
            return true;
        }
    }
    return end->arrived_full;
}

static void ack_judge(struct sim_wire *wire, struct sim_flow *flow, unsigned side,
                      const struct segment *segment)
{
    struct sim_end *end = &flow->ends[side], *other = &flow->ends[1 - side];
    bool scaled = end->scale != SEGMENT_NO_SCALE && other->scale != SEGMENT_NO_SCALE;
    uint32_t shift = scaled ? end->scale : 0;
    uint32_t offered = segment->ack + ((uint32_t)segment->window << shift);
    judge(wire, end, segment, seq_at_or_before(segment->ack, end->next));
    judge(wire, end, segment, !end->has_acked || seq_at_or_before(end->acked, segment->ack));
    /* RFC 7323 §2.4: what the scale does not tell may be taken back. */
    judge(wire, end, segment,
          !end->has_offered || seq_at_or_before(end->offered, offered + ((1u << shift) - 1)));
    for (uint32_t i = 0; i < segment->sack_count; i++) {
        judge(wire, end, segment, has_arrived(end, segment->sacks[i]));
    }
    end->acked = segment->ack;
    end->has_acked = true;
    end->offered = end->has_offered ? seq_max(end->offered, offered) : offered;
    end->has_offered = true;
}

static void timestamp_judge(struct sim_wire *wire, struct sim_flow *flow, unsigned side,
                            const struct segment *segment)
{
    struct sim_end *end = &flow->ends[side];
    if (flow->ends[0].timestamps && flow->ends[1].timestamps) {
        judge(wire, end, segment, segment->has_timestamp);
        judge(wire, end, segment,
              !end->has_ts || seq_at_or_before(end->ts_value, segment->ts_value));
        end->ts_value = segment->ts_value;
        end->has_ts = true;
    }
}

/* The one who opened takes the other's number from the SYN,ACK that it answers; there may have been
 * several, when the other keeps nothing of a handshake. */
static void number_learn(struct sim_flow *flow, unsigned side, const struct segment *segment)
{
    struct sim_end *end = &flow->ends[side], *other = &flow->ends[1 - side];
    if (side != 0 || other->known || !other->syn) {
        return;
    }
    other->known = true;
    other->iss = segment->ack - 1;
    other->una = other->iss;
    other->sent_end = other->iss + 1;
    end->next = other->iss + 1;
}

static void segment_say(struct sim_wire *wire, unsigned host, const struct segment *segment,
                        const char *how)
{
    if (!wire->sim->options.verbose) {
        return;
    }
    char sacks[128] = "";
    for (uint32_t i = 0, at = 0; i < segment->sack_count; i++) {
        at += (uint32_t)snprintf(sacks + at, sizeof(sacks) - at, " %u-%u", segment->sacks[i].begin,
                                 segment->sacks[i].end);
    }
    sim_say(wire->sim, "host %u %s %u > %u %s%s%s%s seq %u +%u ack %u window %u%s%s", host, how,
            segment->from_port, segment->to_port, segment->flags & SEGMENT_SYN ? "S" : "",
            segment->flags & SEGMENT_FIN ? "F" : "", segment->flags & SEGMENT_RST ? "R" : "",
            segment->flags & SEGMENT_ACK ? "." : "", segment->seq, segment->payload_bytes,
            segment->ack, segment->window, sacks[0] ? " sack" : "", sacks);
}

/* RFC 4987 §3.6: who keeps nothing of a handshake takes a late copy of its end for another. */
static bool is_ghost(struct sim_wire *wire, const struct sim_flow *flow, unsigned side)
{
    const struct sim_end *end = &flow->ends[side], *other = &flow->ends[1 - side];
    const struct sim_host *host = &wire->sim->hosts[end->host];
    bool ended = other->fin && end->fin && end->una == end->fin_seq + 1;
    return side == 1 && (ended || end->reset || other->reset) &&
           stack_counters(host->network)->tcp_syn_cookies_received > 0;
}

/* May the one who was asked have forgotten it? */
static bool flow_may_be_over(const struct sim_flow *flow)
{
    const struct sim_end *opener = &flow->ends[0], *asked = &flow->ends[1];
    return opener->reset || asked->reset || (opener->fin && asked->fin) || !flow->answered ||
           flow->given_up;
}

uint64_t sim_wire_sent(struct sim_wire *wire, unsigned host, const uint8_t *frame, uint32_t size)
{
    struct segment segment;
    unsigned side = 0;
    if (wire == NULL || !segment_read(&segment, frame, size)) {
        return 0;
    }
    struct sim_flow *flow = flow_find(wire, &segment, &side);
    if (!segment.checksum_right) {
        sim_fail(wire->sim, "wire: host %u sends a wrong checksum", host);
    }
    segment_say(wire, host, &segment, "sends");
    wire->segments++;
    if ((segment.flags & (SEGMENT_SYN | SEGMENT_ACK)) == SEGMENT_SYN &&
        (flow == NULL || side != 0 || flow->ends[0].iss != segment.seq)) {
        flow = flow_begin(wire, flow, &segment);
        side = 0;
    }
    if (flow == NULL || flow->over) {
        return 0;
    }
    struct sim_end *end = &flow->ends[side];
    if ((segment.flags & SEGMENT_RST) != 0) {
        end->reset = true;
        return flow->generation;
    }
    if (side == 1 && (segment.flags & SEGMENT_SYN) != 0 && end->known && segment.seq != end->iss) {
        /* A late copy of the SYN, when the connection is no more: another one, which its opener will
         * reset. */
        judge(wire, end, &segment, flow_may_be_over(flow));
        flow->over = true;
        return 0;
    }
    if ((segment.flags & SEGMENT_SYN) != 0) {
        syn_sent(flow, side, &segment, wire->sim->world.now_ns);
        return flow->generation;
    }
    number_learn(flow, side, &segment);
    if (!end->known || !flow->ends[1 - side].known) {
        return flow->generation;
    }
    if (is_ghost(wire, flow, side)) {
        flow->over = true;
        return 0;
    }
    judge(wire, end, &segment, (segment.flags & SEGMENT_ACK) != 0);
    unseen_allow(wire, end, &segment);
    judge(wire, end, &segment, seq_at_or_before(segment.seq, end->sent_end));
    if (segment.payload_bytes > 0) {
        payload_judge(wire, flow, side, &segment);
    }
    if ((segment.flags & SEGMENT_FIN) != 0) {
        uint32_t at = segment.seq + segment.payload_bytes;
        judge(wire, end, &segment, !end->fin || end->fin_seq == at);
        judge(wire, end, &segment,
              at == end->sent_end || end->fin || (end->missed && at + 1 == end->sent_end));
        end->fin = true;
        end->fin_seq = at;
        end->sent_end = seq_max(end->sent_end, at + 1);
    }
    ack_judge(wire, flow, side, &segment);
    timestamp_judge(wire, flow, side, &segment);
    return flow->generation;
}

/* ---- As it arrives ---- */

static void arrived_join(struct sim_end *end)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < end->arrived_count; i++) {
        struct tcp_range range = end->arrived[i];
        if (seq_at_or_before(range.begin, end->next)) {
            end->next = seq_max(end->next, range.end);
        } else {
            end->arrived[kept++] = range;
        }
    }
    end->arrived_count = kept;
}

static void arrived_add(struct sim_end *end, struct tcp_range range)
{
    if (seq_at_or_before(range.end, end->next)) {
        return;
    }
    uint32_t at = 0;
    while (at < end->arrived_count && seq_before(end->arrived[at].end, range.begin)) {
        at++;
    }
    uint32_t past = at;
    while (past < end->arrived_count && seq_at_or_before(end->arrived[past].begin, range.end)) {
        range.begin = seq_min(range.begin, end->arrived[past].begin);
        range.end = seq_max(range.end, end->arrived[past].end);
        past++;
    }
    if (past == at && end->arrived_count == ARRIVED_MAX) {
        end->arrived_full = true;
        return;
    }
    uint32_t behind = end->arrived_count - past;
    memmove(&end->arrived[at + 1], &end->arrived[past], behind * sizeof(range));
    end->arrived[at] = range;
    end->arrived_count = at + 1 + behind;
    arrived_join(end);
}

void sim_wire_delivered(struct sim_wire *wire, unsigned host, const uint8_t *frame, uint32_t size,
                        uint64_t tag)
{
    struct segment segment;
    unsigned side = 0;
    if (wire == NULL || tag == 0 || !segment_read(&segment, frame, size)) {
        return;
    }
    segment_say(wire, host, &segment, "takes");
    struct sim_flow *flow = flow_find(wire, &segment, &side);
    if (flow == NULL || flow->over || flow->generation != tag ||
        (segment.flags & SEGMENT_RST) != 0) {
        return;
    }
    struct sim_end *from = &flow->ends[side], *to = &flow->ends[1 - side];
    if (side == 0 && !flow->answered && flow->asked_ns != 0 &&
        (segment.flags & (SEGMENT_SYN | SEGMENT_ACK)) == SEGMENT_ACK) {
        flow->answered = true;
        flow->given_up = wire->sim->world.now_ns - flow->asked_ns > HALF_OPEN_NS;
    }
    bool syn = (segment.flags & SEGMENT_SYN) != 0;
    if ((segment.flags & SEGMENT_ACK) != 0 && (syn || (from->known && to->known))) {
        bool scaled = !syn && from->scale != SEGMENT_NO_SCALE && to->scale != SEGMENT_NO_SCALE;
        uint32_t edge = segment.ack + ((uint32_t)segment.window << (scaled ? from->scale : 0));
        to->edge = to->has_edge ? seq_max(to->edge, edge) : edge;
        to->has_edge = true;
        if (seq_at_or_before(segment.ack, to->sent_end)) {
            to->una = seq_max(to->una, segment.ack);
        }
    }
    if (syn || !from->known || !to->known) {
        return;
    }
    uint32_t end = segment.seq + segment.payload_bytes + ((segment.flags & SEGMENT_FIN) != 0);
    if (end != segment.seq) {
        arrived_add(to, (struct tcp_range){segment.seq, end});
    }
}

static bool end_is_at(const struct sim_end *end, const struct endpoint *at)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (at->family == ENDPOINT_IPV4) {
        return end->port == at->port && memcmp(end->address, mapped, 12) == 0 &&
               memcmp(end->address + 12, at->address, 4) == 0;
    }
    return end_is(end, at->address, at->port);
}

bool sim_wire_given_up(const struct sim_wire *wire, const struct endpoint *opener,
                       const struct endpoint *asked)
{
    for (uint32_t i = 0; i < wire->flow_count; i++) {
        const struct sim_flow *flow = &wire->flows[i];
        if (flow->given_up && end_is_at(&flow->ends[0], opener) &&
            end_is_at(&flow->ends[1], asked)) {
            return true;
        }
    }
    return false;
}

bool sim_wire_has_arrived(struct sim_wire *wire, const struct tcp_tuple *tuple, uint32_t iss,
                          struct tcp_range range)
{
    struct segment segment = {.from_port = tuple->local_port, .to_port = tuple->remote_port};
    unsigned side = 0;
    memcpy(segment.from, tuple->local.words, sizeof(segment.from));
    memcpy(segment.to, tuple->remote.words, sizeof(segment.to));
    const struct sim_flow *flow = flow_find(wire, &segment, &side);
    if (flow == NULL || flow->over || !flow->ends[0].known || !flow->ends[1].known ||
        flow->ends[side].iss != iss) {
        return true;
    }
    return has_arrived(&flow->ends[1 - side], range);
}
