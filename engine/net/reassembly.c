#include "engine/net/reassembly.h"
#include "engine/net/icmp6.h"
#include "engine/net/stack_private.h"

#define IPV4_WAIT_NS (30 * SECOND_NS)
#define IPV6_WAIT_NS (60 * SECOND_NS)
#define PACKET_BYTES_MAX 65535u /* of an IPv4 packet, of what follows the header in IPv6 */
#define NOT_ECT 0u
#define CE 3u

/* The fragments of a datagram are one chain of buffers in the order of their offsets. Each one's
 * first buffer says how many it has, and which bytes of the datagram they are. The first fragment keeps
 * its headers, the others have lost theirs. */
struct reassembly_datagram {
    struct list_node of_sender, waiting;
    struct ip_address from, to;
    struct rte_mbuf *head, *last; /* the first fragment here and the last */
    uint64_t due_ns;
    uint32_t id;
    uint32_t index; /* in the slab */
    uint32_t bytes; /* that are here */
    uint32_t end;   /* 0: not known yet */
    uint16_t mbuf_count;
    uint16_t header_bytes; /* of the first fragment */
    uint8_t sender;        /* index */
    uint8_t protocol;
    uint8_t ecn_seen; /* a bit for each codepoint */
    uint8_t ecn;      /* of the first fragment */
    bool ruined;      /* nothing is kept but its name */
    bool untold;
};
static_assert(sizeof(struct reassembly_datagram) <= 128, "512 of them must fit in 64 KiB");
static_assert(REASSEMBLY_SENDERS <= UINT8_MAX, "a sender's index is a byte");

/* ---- fragments in their buffers ---- */

static uint32_t begin_of(const struct rte_mbuf *fragment)
{
    return fragment->hash.usr >> 16;
}

static uint32_t end_of(const struct rte_mbuf *fragment)
{
    return fragment->hash.usr & UINT16_MAX;
}

static struct rte_mbuf *last_buffer_of(struct rte_mbuf *fragment)
{
    struct rte_mbuf *at = fragment;
    for (unsigned i = 1; i < fragment->nb_segs; i++) {
        at = at->next;
    }
    return at;
}

/* The payload of a fragment that is not the first. */
static struct rte_mbuf *without_headers(struct rte_mbuf *frame, uint32_t header_bytes)
{
    rte_pktmbuf_adj(frame, (uint16_t)header_bytes);
    if (frame->data_len > 0 || frame->next == NULL) {
        return frame;
    }
    struct rte_mbuf *rest = frame->next; /* the headers had a buffer of their own */
    rest->nb_segs = (uint16_t)(frame->nb_segs - 1);
    rest->pkt_len = frame->pkt_len;
    frame->next = NULL;
    frame->nb_segs = 1;
    rte_pktmbuf_free_seg(frame);
    return rest;
}

/* ---- datagrams ---- */

static void frames_free(struct stack *stack, struct reassembly_datagram *datagram)
{
    rte_pktmbuf_free(datagram->head);
    datagram->head = datagram->last = NULL;
    stack->reassembly.mbuf_count -= datagram->mbuf_count;
    stack->reassembly.senders[datagram->sender].mbuf_count -= datagram->mbuf_count;
    datagram->mbuf_count = 0;
}

static void forget(struct stack *stack, struct reassembly_datagram *datagram)
{
    frames_free(stack, datagram);
    list_remove(&datagram->of_sender);
    list_remove(&datagram->waiting);
    stack->reassembly.senders[datagram->sender].datagram_count--;
    slab_give(&stack->reassembly.datagrams, datagram->index);
}

/* Its name stays, so that what still comes of it is known for what it is. */
static void ruin(struct stack *stack, struct reassembly_datagram *datagram)
{
    stack->counters.ip_reassembly_failed++;
    frames_free(stack, datagram);
    datagram->ruined = true;
}

static struct reassembly_datagram *oldest_of(const struct reassembly_sender *sender)
{
    return list_entry(sender->datagrams.next, struct reassembly_datagram, of_sender);
}

static void push_out(struct stack *stack, struct reassembly_datagram *datagram)
{
    stack->counters.ip_reassembly_pushed_out++;
    stack->counters.ip_reassembly_failed += !datagram->ruined;
    forget(stack, datagram);
}

/* The oldest datagram of the sender that holds most. There is one. */
static struct reassembly_datagram *next_to_go(struct reassembly *all)
{
    struct reassembly_sender *most = &all->senders[0];
    for (unsigned i = 1; i < REASSEMBLY_SENDERS; i++) {
        struct reassembly_sender *sender = &all->senders[i];
        if (sender->mbuf_count + sender->datagram_count > most->mbuf_count + most->datagram_count) {
            most = sender;
        }
    }
    return oldest_of(most);
}

/* ---- time ---- */

/* RFC 8200 §4.5, RFC 1122 §3.3.2: told when the first fragment is here to be quoted. */
static void time_exceeded(struct stack *stack, struct reassembly_datagram *datagram)
{
    stack->counters.ip_reassembly_timeouts++;
    stack->counters.ip_reassembly_failed++;
    if (datagram->head == NULL || begin_of(datagram->head) != 0 || datagram->untold) {
        return;
    }
    if (ip_address_is_ipv4(&datagram->from)) {
        icmp_send_reassembly_time_exceeded(stack, datagram->head);
    } else {
        icmp6_send_reassembly_time_exceeded(stack, datagram->head);
    }
}

static uint64_t expire_those(struct stack *stack, struct list_node *waiting)
{
    while (!list_empty(waiting)) {
        struct reassembly_datagram *oldest =
            list_entry(waiting->next, struct reassembly_datagram, waiting);
        if (oldest->due_ns > stack->now_ns) {
            return oldest->due_ns;
        }
        if (!oldest->ruined) {
            time_exceeded(stack, oldest);
        }
        forget(stack, oldest);
    }
    return WHEEL_NEVER;
}

static void expire(struct timer *timer, uint64_t now_ns)
{
    struct stack *stack = list_entry(timer, struct stack, reassembly.timer);
    stack->now_ns = now_ns;
    uint64_t due4_ns = expire_those(stack, &stack->reassembly.waiting4);
    uint64_t due6_ns = expire_those(stack, &stack->reassembly.waiting6);
    wheel_arm(stack->wheel, timer, due4_ns < due6_ns ? due4_ns : due6_ns);
}

int reassembly_open(struct stack *stack)
{
    struct reassembly *all = &stack->reassembly;
    timer_init(&all->timer, expire);
    list_init(&all->waiting4);
    list_init(&all->waiting6);
    for (unsigned i = 0; i < REASSEMBLY_SENDERS; i++) {
        list_init(&all->senders[i].datagrams);
    }
    return slab_open(&all->datagrams, sizeof(struct reassembly_datagram), REASSEMBLY_DATAGRAMS_MAX);
}

void reassembly_close(struct stack *stack)
{
    struct reassembly *all = &stack->reassembly;
    if (all->datagrams.blocks == NULL) { /* it was never opened */
        return;
    }
    wheel_disarm(stack->wheel, &all->timer);
    for (unsigned i = 0; i < REASSEMBLY_SENDERS; i++) {
        while (!list_empty(&all->senders[i].datagrams)) {
            forget(stack, oldest_of(&all->senders[i]));
        }
    }
    check(all->mbuf_count == 0);
    slab_close(&all->datagrams);
}

/* ---- a fragment ---- */

static bool is_of(const struct reassembly_datagram *datagram,
                  const struct reassembly_fragment *fragment)
{
    return datagram->id == fragment->id && datagram->protocol == fragment->protocol &&
           ip_address_equal(&datagram->from, &fragment->from) &&
           ip_address_equal(&datagram->to, &fragment->to);
}

static uint8_t sender_of(const struct stack *stack, const struct ip_address *from)
{
    /* Whoever has an IPv6 address can have all of its network. */
    const uint64_t network =
        ip_address_is_ipv4(from) ? from->words[3] : (uint64_t)from->words[0] << 32 | from->words[1];
    return (uint8_t)(siphash(&stack->flow_key, &network, 1) % REASSEMBLY_SENDERS);
}

static struct reassembly_datagram *
datagram_make(struct stack *stack, const struct reassembly_fragment *fragment, uint8_t sender)
{
    struct reassembly *all = &stack->reassembly;
    struct reassembly_sender *by = &all->senders[sender];
    if (by->datagram_count == REASSEMBLY_OF_SENDER_MAX) {
        push_out(stack, oldest_of(by));
    } else if (all->datagrams.used == REASSEMBLY_DATAGRAMS_MAX) {
        push_out(stack, next_to_go(all));
    }
    uint32_t index = slab_take(&all->datagrams);
    if (index == SLAB_NONE) {
        return NULL;
    }
    bool ipv4 = ip_address_is_ipv4(&fragment->from);
    struct reassembly_datagram *datagram = slab_at(&all->datagrams, index);
    *datagram = (struct reassembly_datagram){
        .from = fragment->from,
        .to = fragment->to,
        .id = fragment->id,
        .protocol = fragment->protocol,
        .due_ns = stack->now_ns + (ipv4 ? IPV4_WAIT_NS : IPV6_WAIT_NS),
        .index = index,
        .sender = sender,
    };
    by->datagram_count++;
    list_append(&by->datagrams, &datagram->of_sender);
    list_append(ipv4 ? &all->waiting4 : &all->waiting6, &datagram->waiting);
    if (!timer_armed(&all->timer) || all->timer.due_ns > datagram->due_ns) {
        wheel_arm(stack->wheel, &all->timer, datagram->due_ns);
    }
    return datagram;
}

/* NULL: memory is out. */
static struct reassembly_datagram *datagram_of(struct stack *stack,
                                               const struct reassembly_fragment *fragment)
{
    uint8_t sender = sender_of(stack, &fragment->from);
    struct list_node *head = &stack->reassembly.senders[sender].datagrams;
    for (struct list_node *at = head->prev; at != head; at = at->prev) { /* the youngest first */
        struct reassembly_datagram *datagram =
            list_entry(at, struct reassembly_datagram, of_sender);
        if (is_of(datagram, fragment)) {
            return datagram;
        }
    }
    return datagram_make(stack, fragment, sender);
}

enum fit { FITS, REPEATED, CONTRADICTS };

/* May it lie among those that are here? *before: the fragment that it follows, NULL: none. */
static enum fit fit_of(const struct reassembly_datagram *datagram,
                       const struct reassembly_fragment *fragment, struct rte_mbuf **before)
{
    uint32_t begin = fragment->offset, end = begin + fragment->bytes;
    struct rte_mbuf *after = datagram->head;
    *before = NULL;
    if (datagram->last != NULL && begin > begin_of(datagram->last)) { /* in order, mostly */
        *before = datagram->last;
        after = NULL;
    }
    while (after != NULL && begin_of(after) < begin) {
        *before = after;
        after = last_buffer_of(after)->next;
    }
    if (after != NULL && begin_of(after) == begin && end_of(after) == end) {
        return REPEATED;
    }
    bool overlaps =
        (*before != NULL && end_of(*before) > begin) || (after != NULL && begin_of(after) < end);
    bool beyond_end = datagram->end != 0 && end > datagram->end;
    bool another_end =
        !fragment->more && ((datagram->end != 0 && end != datagram->end) ||
                            (datagram->last != NULL && end_of(datagram->last) > end));
    return overlaps || beyond_end || another_end ? CONTRADICTS : FITS;
}

/* May so many buffers more be held? Others may have to go for it. */
static bool make_room(struct stack *stack, const struct reassembly_datagram *datagram,
                      uint32_t mbufs)
{
    struct reassembly *all = &stack->reassembly;
    uint32_t most = stack->limits.held_mbuf_max / 4;
    if (datagram->mbuf_count + mbufs > REASSEMBLY_MBUFS_MAX || mbufs > most) {
        return false;
    }
    while (all->mbuf_count + mbufs > most) {
        struct reassembly_datagram *other = next_to_go(all);
        if (other == datagram) {
            return false;
        }
        push_out(stack, other);
    }
    return true;
}

static void insert(struct stack *stack, struct reassembly_datagram *datagram,
                   struct rte_mbuf *frame, struct rte_mbuf *before,
                   const struct reassembly_fragment *fragment)
{
    if (fragment->offset > 0) {
        frame = without_headers(frame, fragment->header_bytes);
    } else {
        datagram->header_bytes = (uint16_t)fragment->header_bytes;
        datagram->ecn = fragment->ecn;
        datagram->untold = fragment->untold;
    }
    frame->hash.usr = fragment->offset << 16 | (fragment->offset + fragment->bytes);
    struct rte_mbuf **link = before == NULL ? &datagram->head : &last_buffer_of(before)->next;
    last_buffer_of(frame)->next = *link;
    *link = frame;
    datagram->last = before == datagram->last ? frame : datagram->last;
    datagram->bytes += fragment->bytes;
    datagram->end = fragment->more ? datagram->end : fragment->offset + fragment->bytes;
    datagram->ecn_seen |= (uint8_t)(1u << fragment->ecn);
    datagram->mbuf_count = (uint16_t)(datagram->mbuf_count + frame->nb_segs);
    stack->reassembly.senders[datagram->sender].mbuf_count += frame->nb_segs;
    stack->reassembly.mbuf_count += frame->nb_segs;
}

static bool is_whole(const struct reassembly_datagram *datagram)
{
    return datagram->end != 0 && datagram->bytes == datagram->end;
}

/* Marked by a router, though the sender did not say that he understands marks: RFC 3168 §5.3. And the
 * first fragment's headers may be longer than those of the last, which looked as if it had room. */
static bool makes_sense(const struct reassembly_datagram *datagram)
{
    uint32_t not_counted = ETH_BYTES + (ip_address_is_ipv4(&datagram->from) ? 0u : IPV6_BYTES);
    bool marked = (datagram->ecn_seen & 1u << CE) != 0;
    return !(marked && (datagram->ecn_seen & 1u << NOT_ECT) != 0) &&
           datagram->header_bytes - not_counted + datagram->end <= PACKET_BYTES_MAX;
}

static struct rte_mbuf *join(struct stack *stack, struct reassembly_datagram *datagram,
                             struct reassembly_fragment *fragment)
{
    struct rte_mbuf *whole = datagram->head;
    fragment->header_bytes = datagram->header_bytes;
    fragment->ecn = (datagram->ecn_seen & 1u << CE) != 0 ? CE : datagram->ecn;
    whole->nb_segs = datagram->mbuf_count;
    whole->pkt_len = datagram->header_bytes + datagram->end;
    whole->ol_flags = 0; /* what the port knew of one frame */
    datagram->head = NULL;
    forget(stack, datagram);
    stack->counters.ip_reassembly_done++;
    return whole;
}

struct rte_mbuf *reassembly_add(struct stack *stack, struct rte_mbuf *frame,
                                struct reassembly_fragment *fragment)
{
    struct reassembly_datagram *datagram = datagram_of(stack, fragment);
    struct rte_mbuf *before;
    if (datagram == NULL || datagram->ruined) {
        stack->counters.ip_reassembly_failed += datagram == NULL;
        rte_pktmbuf_free(frame);
        return NULL;
    }
    enum fit fit = fit_of(datagram, fragment, &before);
    if (fit == FITS && make_room(stack, datagram, frame->nb_segs)) {
        insert(stack, datagram, frame, before, fragment);
        if (is_whole(datagram) && makes_sense(datagram)) {
            return join(stack, datagram, fragment);
        }
        if (is_whole(datagram)) {
            ruin(stack, datagram);
        }
        return NULL;
    }
    if (fit != REPEATED) {
        stack->counters.ip_reassembly_overlaps += fit == CONTRADICTS;
        ruin(stack, datagram);
    }
    rte_pktmbuf_free(frame);
    return NULL;
}

static bool icmp_is_error(uint8_t protocol, uint8_t type)
{
    if (protocol == IPPROTO_ICMPV6) {
        return type < ICMP6_ECHO_REQUEST;
    }
    return type == 3 || type == 4 || type == 5 || type == 11 || type == 12; /* RFC 1122 §3.2.2 */
}

bool reassembly_first_holds(const struct rte_mbuf *frame, uint32_t at, uint8_t protocol,
                            bool *untold)
{
    uint32_t there = frame->data_len > at ? frame->data_len - at : 0;
    const uint8_t *header = rte_pktmbuf_mtod_offset(frame, const uint8_t *, at);
    *untold = false;
    switch (protocol) {
    case IPPROTO_TCP:
        return there >= TCP_HEADER_BYTES &&
               there >= ((const struct rte_tcp_hdr *)header)->data_off / 16u * 4u;
    case IPPROTO_UDP:
        return there >= UDP_HEADER_BYTES;
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
        *untold = there > 0 && icmp_is_error(protocol, *header);
        return there >= ICMP6_BYTES;
    default:
        return true;
    }
}
