#include "engine/net/udp.h"
#include "engine/net/checksum.h"
#include "engine/net/icmp6.h"
#include "engine/net/stack_private.h"
#include <rte_udp.h>

#define RANDOM_TRIES 64u

struct udp_error {
    struct endpoint to;
    int error;
};

struct udp_socket {
    struct datagram_socket socket; /* first: a datagram socket is its udp socket */
    struct stack *stack;
    struct udp_socket *next; /* in its chain */
    struct list_node ready;
    struct tcp_tuple tuple; /* addresses may be any, remote_port 0 */
    struct rte_mbuf *waiting[UDP_WAITING_MAX];
    struct rte_mbuf *lent; /* what receive has shown */
    uint8_t *lent_copy;    /* of one that came in fragments, in one piece */
    uint32_t first, count;
    struct udp_error errors[UDP_ERRORS_MAX];
    uint32_t error_count;
};

static struct udp_socket *socket_of(const struct datagram_socket *socket)
{
    return (struct udp_socket *)(uintptr_t)socket; /* its first member */
}

static struct udp_socket **chain_of(struct stack *stack, uint16_t port)
{
    return &stack->udp.chains[port % UDP_CHAINS];
}

void udp_setup(struct stack *stack)
{
    list_init(&stack->udp.ready);
}

/* ---- who is meant ---- */

static bool covers(const struct ip_address *bound, const struct ip_address *address)
{
    return ip_address_is_any(bound) || ip_address_equal(bound, address);
}

/* The socket that says most: one with this peer before one with this address before any. */
static struct udp_socket *find(struct stack *stack, const struct tcp_tuple *tuple)
{
    struct udp_socket *best = NULL;
    unsigned best_score = 0;
    for (struct udp_socket *at = *chain_of(stack, tuple->local_port); at != NULL; at = at->next) {
        const struct tcp_tuple *own = &at->tuple;
        bool has_peer = own->remote_port != 0;
        if (own->local_port != tuple->local_port || !covers(&own->local, &tuple->local) ||
            (has_peer && (own->remote_port != tuple->remote_port ||
                          !ip_address_equal(&own->remote, &tuple->remote)))) {
            continue;
        }
        unsigned score = 1u + !ip_address_is_any(&own->local) + 2u * has_peer;
        if (score > best_score) {
            best = at;
            best_score = score;
        }
    }
    return best;
}

static bool overlaps(const struct tcp_tuple *a, const struct tcp_tuple *b)
{
    bool local = ip_address_is_any(&a->local) || covers(&b->local, &a->local);
    bool remote = a->remote_port == b->remote_port &&
                  (a->remote_port == 0 || ip_address_equal(&a->remote, &b->remote));
    return a->local_port == b->local_port && local && remote;
}

static bool is_free(struct stack *stack, const struct tcp_tuple *tuple)
{
    for (struct udp_socket *at = *chain_of(stack, tuple->local_port); at != NULL; at = at->next) {
        if (overlaps(&at->tuple, tuple)) {
            return false;
        }
    }
    return true;
}

/* ---- opening ---- */

static bool comes_home(const struct stack *stack, const struct tcp_tuple *tuple)
{
    struct rss_tuple arriving;
    if (stack->shard_count == 1 || stack->rss.mode == RSS_UNKNOWN || tuple->remote_port == 0) {
        return true;
    }
    tcp_tuple_arriving(tuple, &arriving);
    return rss_queue_of(&stack->rss, &arriving) == stack->queue;
}

/* At random; only when that finds none, one after the other. */
static int port_choose(struct stack *stack, struct tcp_tuple *tuple)
{
    uint32_t first = stack->limits.port_first, count = stack->limits.port_last - first + 1u;
    uint32_t random = 0;
    for (uint32_t tries = 0; tries < RANDOM_TRIES + count; tries++) {
        if (tries < RANDOM_TRIES) {
            world_random(stack->world, &random, sizeof(random));
        } else {
            random++;
        }
        tuple->local_port = (uint16_t)(first + random % count);
        if (comes_home(stack, tuple) && is_free(stack, tuple)) {
            return 0;
        }
    }
    return -EADDRNOTAVAIL;
}

static int tuple_make(struct stack *stack, const struct datagram_request *request,
                      struct tcp_tuple *tuple)
{
    *tuple = (struct tcp_tuple){.local_port = request->at.port};
    if (request->peer.family != ENDPOINT_NONE) {
        struct ip_way way;
        if (!ip_address_of_endpoint(&tuple->remote, &request->peer)) {
            return -EAFNOSUPPORT;
        }
        if (request->peer.port == 0) {
            return -EINVAL;
        }
        tuple->remote_port = request->peer.port;
        int status = ip_route(stack, &tuple->remote, &way);
        if (status < 0) {
            return status;
        }
        tuple->local = way.source;
    }
    struct ip_address at;
    if (request->at.family != ENDPOINT_NONE) {
        if (!ip_address_of_endpoint(&at, &request->at)) {
            return -EAFNOSUPPORT;
        }
        bool any = ip_address_is_any(&at) || (ip_address_is_ipv4(&at) && at.words[3] == 0);
        if (!any && !ip_is_ours(stack, &at)) {
            return -EADDRNOTAVAIL;
        }
        tuple->local = any ? tuple->local : at;
    }
    if (tuple->local_port == 0) {
        return port_choose(stack, tuple);
    }
    return is_free(stack, tuple) ? 0 : -EADDRINUSE;
}

/* ---- what the session calls ---- */

static int op_send(struct datagram_socket *datagram_socket, const struct endpoint *to,
                   struct slice bytes)
{
    struct udp_socket *self = socket_of(datagram_socket);
    struct stack *stack = self->stack;
    struct ip_address target = self->tuple.remote, source = self->tuple.local;
    uint16_t port = self->tuple.remote_port;
    struct ip_way way;
    if (to != NULL) {
        if (!ip_address_of_endpoint(&target, to)) {
            return -EAFNOSUPPORT;
        }
        port = to->port;
    }
    if (port == 0) {
        return -EDESTADDRREQ;
    }
    int status = ip_route(stack, &target, &way);
    if (status < 0) {
        return status;
    }
    source = ip_address_is_any(&source) ? way.source : source;
    if (ip_address_is_ipv4(&source) != ip_address_is_ipv4(&target)) {
        return -ENETUNREACH;
    }
    uint32_t headers = ip_header_bytes(&target) + UDP_HEADER_BYTES;
    uint32_t room = rte_pktmbuf_data_room_size(stack->pool) - RTE_PKTMBUF_HEADROOM - ETH_BYTES;
    if (bytes.size + headers > ip_mtu(stack, &target) || bytes.size + headers > room) {
        return -EMSGSIZE;
    }
    struct rte_mbuf *frame = rte_pktmbuf_alloc(stack->pool);
    if (frame == NULL) {
        stack->counters.frames_out_no_buffer++;
        return -ENOBUFS;
    }
    uint16_t udp_bytes = (uint16_t)(UDP_HEADER_BYTES + bytes.size);
    check(rte_pktmbuf_append(frame, (uint16_t)(ETH_BYTES + headers + bytes.size)) != NULL);
    const struct ip_header header = {
        .from = &source, .to = &target, .payload_bytes = udp_bytes, .protocol = IPPROTO_UDP};
    struct rte_udp_hdr *udp = ip_header_fill(stack, rte_pktmbuf_mtod(frame, uint8_t *), &header);
    *udp = (struct rte_udp_hdr){.src_port = htons(self->tuple.local_port),
                                .dst_port = htons(port),
                                .dgram_len = htons(udp_bytes)};
    if (bytes.size > 0) {
        memcpy(udp + 1, bytes.bytes, bytes.size);
    }
    uint16_t sum = checksum_finish(
        checksum_add(ip_pseudo_sum(&source, &target, IPPROTO_UDP, udp_bytes), udp, udp_bytes));
    udp->dgram_cksum = sum == 0 ? 0xffff : sum; /* 0 would say that there is none */
    if (!ip_send(stack, &target, frame)) {
        return -ENETUNREACH;
    }
    stack->counters.udp_out_datagrams++;
    return 0;
}

static uint32_t header_offset(const struct rte_mbuf *frame)
{
    const uint8_t *ip = rte_pktmbuf_mtod_offset(frame, const uint8_t *, ETH_BYTES);
    return ETH_BYTES + (*ip >> 4 == 4 ? (*ip & 15u) * 4u : IPV6_BYTES);
}

static void tuple_read(const struct rte_mbuf *frame, struct tcp_tuple *tuple)
{
    const uint8_t *ip = rte_pktmbuf_mtod_offset(frame, const uint8_t *, ETH_BYTES);
    const struct rte_udp_hdr *udp =
        rte_pktmbuf_mtod_offset(frame, const struct rte_udp_hdr *, header_offset(frame));
    if (*ip >> 4 == 4) {
        const struct rte_ipv4_hdr *ipv4 = (const struct rte_ipv4_hdr *)ip;
        tuple->local = ip_address_of_ipv4(ipv4->dst_addr);
        tuple->remote = ip_address_of_ipv4(ipv4->src_addr);
    } else {
        const struct rte_ipv6_hdr *ipv6 = (const struct rte_ipv6_hdr *)ip;
        tuple->local = ip_address_of_ipv6(ipv6->dst_addr);
        tuple->remote = ip_address_of_ipv6(ipv6->src_addr);
    }
    tuple->local_port = ntohs(udp->dst_port);
    tuple->remote_port = ntohs(udp->src_port);
}

static void lent_free(struct udp_socket *self)
{
    rte_pktmbuf_free(self->lent);
    free(self->lent_copy);
    self->lent = NULL;
    self->lent_copy = NULL;
}

/* The oldest that waits; the caller's. */
static struct rte_mbuf *take_out(struct udp_socket *self)
{
    struct rte_mbuf *frame = self->waiting[self->first];
    self->first = (self->first + 1) % UDP_WAITING_MAX;
    self->count--;
    self->stack->udp.waiting_count -= frame->nb_segs;
    return frame;
}

/* What the session sees of self->lent, in one piece. NULL: no memory for it. */
static const uint8_t *payload_show(struct udp_socket *self, uint32_t offset, uint32_t bytes)
{
    if (self->lent->nb_segs == 1) {
        return rte_pktmbuf_mtod_offset(self->lent, const uint8_t *, offset);
    }
    self->lent_copy = malloc(bytes + 1);
    return self->lent_copy == NULL ? NULL
                                   : rte_pktmbuf_read(self->lent, offset, bytes, self->lent_copy);
}

static int op_receive(struct datagram_socket *datagram_socket, struct datagram *datagram)
{
    struct udp_socket *self = socket_of(datagram_socket);
    lent_free(self);
    *datagram = (struct datagram){0};
    if (self->error_count > 0) {
        const struct udp_error *error = &self->errors[--self->error_count];
        datagram->from = error->to;
        return error->error;
    }
    if (self->count == 0) {
        return 0;
    }
    self->lent = take_out(self);
    struct tcp_tuple tuple;
    tuple_read(self->lent, &tuple);
    endpoint_of_ip_address(&datagram->from, &tuple.remote, tuple.remote_port);
    uint32_t offset = header_offset(self->lent) + UDP_HEADER_BYTES;
    uint32_t bytes = self->lent->pkt_len - offset;
    const uint8_t *payload = payload_show(self, offset, bytes);
    if (payload == NULL) {
        self->stack->counters.udp_receive_buffer_errors++;
        return -ENOBUFS;
    }
    datagram->bytes = slice_of(payload, bytes);
    return 1;
}

static void op_local(const struct datagram_socket *datagram_socket, struct endpoint *local)
{
    const struct udp_socket *self = socket_of(datagram_socket);
    endpoint_of_ip_address(local, &self->tuple.local, self->tuple.local_port);
}

static void op_close(struct datagram_socket *datagram_socket)
{
    struct udp_socket *self = socket_of(datagram_socket);
    struct stack *stack = self->stack;
    struct udp_socket **link = chain_of(stack, self->tuple.local_port);
    while (*link != self) {
        link = &(*link)->next;
    }
    *link = self->next;
    list_remove(&self->ready);
    stack->udp.socket_count--;
    lent_free(self);
    while (self->count > 0) {
        rte_pktmbuf_free(take_out(self));
    }
    free(self);
}

static const struct datagram_ops udp_ops = {
    .send = op_send, .receive = op_receive, .local = op_local, .close = op_close};

int udp_open(struct network *network, const struct datagram_request *request,
             struct datagram_socket **socket)
{
    struct stack *stack = stack_of(network);
    struct tcp_tuple tuple;
    if (stack->udp.socket_count >= UDP_SOCKETS_MAX) {
        return -ENFILE;
    }
    int status = tuple_make(stack, request, &tuple);
    if (status < 0) {
        return status;
    }
    struct udp_socket *self = calloc(1, sizeof(*self));
    if (self == NULL) {
        return -ENOMEM;
    }
    self->socket = (struct datagram_socket){&udp_ops, request->notify, request->session};
    self->stack = stack;
    self->tuple = tuple;
    list_init(&self->ready);
    struct udp_socket **chain = chain_of(stack, tuple.local_port);
    self->next = *chain;
    *chain = self;
    stack->udp.socket_count++;
    *socket = &self->socket;
    return 0;
}

void udp_close_all(struct stack *stack)
{
    for (unsigned i = 0; i < UDP_CHAINS; i++) {
        while (stack->udp.chains[i] != NULL) {
            op_close(&stack->udp.chains[i]->socket);
        }
    }
}

/* ---- what arrives ---- */

static void ready(struct udp_socket *self)
{
    if (list_empty(&self->ready)) {
        list_append(&self->stack->udp.ready, &self->ready);
    }
}

unsigned udp_deliver(struct stack *stack)
{
    struct list_node round, *node;
    unsigned count = 0;
    list_init(&round);
    list_splice(&round, &stack->udp.ready);
    while ((node = list_pop(&round)) != NULL) {
        struct udp_socket *self = list_entry(node, struct udp_socket, ready);
        if (self->socket.notify != NULL) {
            self->socket.notify(&self->socket, self->socket.session);
        }
        count++;
    }
    return count;
}

static bool checksum_right(const struct rte_mbuf *frame, uint32_t offset, uint32_t bytes,
                           const struct rte_udp_hdr *udp)
{
    struct tcp_tuple tuple;
    tuple_read(frame, &tuple);
    if (udp->dgram_cksum == 0) {
        return ip_address_is_ipv4(&tuple.remote); /* RFC 768; never so in IPv6: RFC 8200 §8.1 */
    }
    switch (frame->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) {
    case RTE_MBUF_F_RX_L4_CKSUM_GOOD:
    case RTE_MBUF_F_RX_L4_CKSUM_NONE: /* never finished, from this very host: the data are right */
        return true;
    case RTE_MBUF_F_RX_L4_CKSUM_BAD:
        return false;
    default:
        break;
    }
    uint64_t sum = ip_pseudo_sum(&tuple.remote, &tuple.local, IPPROTO_UDP, bytes);
    return checksum_finish(checksum_add_frame(sum, frame, offset, bytes)) == 0;
}

/* Header and checksum; cuts off what lies behind its length. */
static bool datagram_right(struct stack *stack, struct rte_mbuf *frame)
{
    uint32_t offset = header_offset(frame);
    if (frame->data_len < offset + UDP_HEADER_BYTES) {
        return false;
    }
    const struct rte_udp_hdr *udp =
        rte_pktmbuf_mtod_offset(frame, const struct rte_udp_hdr *, offset);
    uint32_t bytes = ntohs(udp->dgram_len), there = frame->pkt_len - offset;
    if (bytes < UDP_HEADER_BYTES || bytes > there || udp->dst_port == 0) {
        return false;
    }
    if (!checksum_right(frame, offset, bytes, udp)) {
        stack->counters.udp_in_checksum_errors++;
        return false;
    }
    return there == bytes || rte_pktmbuf_trim(frame, (uint16_t)(there - bytes)) == 0;
}

/* False: there is no other shard. True: the frame is gone. One that cannot be given away is dropped:
 * its sender must not hear that the port is closed while another shard may have it open. */
static bool hand_over(struct stack *stack, struct rte_mbuf *frame)
{
    struct udp *udp = &stack->udp;
    if (stack->shard_count == 1 || stack->hand_over == NULL) {
        return false;
    }
    if (stack->now_ns - udp->handed_over_ns >= SECOND_NS) {
        udp->handed_over_ns = stack->now_ns;
        udp->handed_over = 0;
    }
    if (udp->handed_over >= UDP_HANDED_OVER_MAX || stack->hand_over(stack->owner, frame) < 0) {
        stack->counters.udp_hand_overs_lost++;
        rte_pktmbuf_free(frame);
        return true;
    }
    udp->handed_over++;
    stack->counters.udp_handed_over++;
    return true;
}

static void keep(struct udp_socket *self, struct rte_mbuf *frame)
{
    struct stack *stack = self->stack;
    uint32_t all = stack->buffers / 8;
    all = all < UDP_WAITING_ALL_MAX ? all : UDP_WAITING_ALL_MAX;
    if (self->count == UDP_WAITING_MAX || stack->udp.waiting_count + frame->nb_segs > all) {
        stack->counters.udp_receive_buffer_errors++;
        stack->counters.udp_in_errors++;
        rte_pktmbuf_free(frame);
        return;
    }
    self->waiting[(self->first + self->count++) % UDP_WAITING_MAX] = frame;
    stack->udp.waiting_count += frame->nb_segs;
    stack->counters.udp_in_datagrams++;
    ready(self);
}

bool udp_input(struct stack *stack, struct rte_mbuf *frame, bool may_hand_over)
{
    struct tcp_tuple tuple;
    if (!datagram_right(stack, frame)) {
        stack->counters.udp_in_errors++;
        rte_pktmbuf_free(frame);
        return true;
    }
    tuple_read(frame, &tuple);
    struct udp_socket *self = find(stack, &tuple);
    if (self != NULL) {
        stack->counters.udp_taken_over += !may_hand_over;
        keep(self, frame);
        return true;
    }
    if (may_hand_over && (hand_over(stack, frame) || exception_give(stack, frame))) {
        return true;
    }
    stack->counters.udp_no_ports += may_hand_over;
    return false;
}

bool udp_is_datagram(const struct rte_mbuf *frame)
{
    const uint8_t *ip = rte_pktmbuf_mtod_offset(frame, const uint8_t *, ETH_BYTES);
    return (*ip >> 4 == 4 ? ip[9] : ip[6]) == IPPROTO_UDP;
}

void udp_refuse(struct stack *stack, struct rte_mbuf *frame)
{
    stack->counters.udp_no_ports++;
    if (*rte_pktmbuf_mtod_offset(frame, const uint8_t *, ETH_BYTES) >> 4 == 4) {
        icmp_send_port_unreachable(stack, frame);
    } else {
        icmp6_send_port_unreachable(stack, frame);
    }
}

bool udp_knows(struct stack *stack, const struct tcp_tuple *tuple)
{
    return find(stack, tuple) != NULL;
}

void udp_input_unreachable(struct stack *stack, const struct tcp_tuple *tuple, int error)
{
    struct udp_socket *self = find(stack, tuple);
    if (self == NULL || self->error_count == UDP_ERRORS_MAX) {
        return;
    }
    struct udp_error *report = &self->errors[self->error_count++];
    report->error = error;
    endpoint_of_ip_address(&report->to, &tuple->remote, tuple->remote_port);
    ready(self);
}
