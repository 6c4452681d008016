#include "engine/net/stack_private.h"

#define ISN_TICK_NS 4000u /* RFC 9293 §3.4.1: the number grows by one every 4 us */
#define CONNECT_NS (60 * SECOND_NS)
#define QUICK_ACKS 16u

static const struct tcp_tuple *tuple_of(const void *owner, enum tcp_kind kind, uint32_t index)
{
    const struct tcp *tcp = owner;
    switch (kind) {
    case TCP_CONN:
        return &((const struct tcp_conn *)slab_at(&tcp->conns, index))->tuple;
    case TCP_HALF_OPEN:
        return &((const struct tcp_half_open *)slab_at(&tcp->half_opens, index))->tuple;
    case TCP_TIME_WAITING:
        return &((const struct tcp_time_wait *)slab_at(&tcp->time_waits, index))->tuple;
    case TCP_NOTHING:
        break;
    }
    check(!"a slot of the table that is in use has a kind");
    return NULL;
}

static void keys_draw(struct stack *stack)
{
    struct tcp *tcp = &stack->tcp;
    world_random(stack->world, &tcp->isn_key, sizeof(tcp->isn_key));
    world_random(stack->world, &tcp->port_key, sizeof(tcp->port_key));
    world_random(stack->world, &tcp->cookie_key, sizeof(tcp->cookie_key));
    world_random(stack->world, &tcp->timestamp_key, sizeof(tcp->timestamp_key));
    world_random(stack->world, &tcp->table.key, sizeof(tcp->table.key));
    world_random(stack->world, tcp->port_steps, sizeof(tcp->port_steps));
}

int tcp_setup(struct stack *stack)
{
    struct tcp *tcp = &stack->tcp;
    const struct stack_limits *limits = &stack->limits;
    list_init(&tcp->ready);
    list_init(&tcp->output);
    list_init(&tcp->orphans);
    list_init(&tcp->hungry);
    list_init(&tcp->doomed);
    list_init(&tcp->early);
    keys_draw(stack);
    tcp_half_open_setup(stack);
    tcp_time_wait_setup(stack);
    tcp->table.tuple_of = tuple_of;
    tcp->table.owner = tcp;
    while ((uint32_t)UINT16_MAX << tcp->rcv_scale < limits->receive_window_bytes) {
        tcp->rcv_scale++;
    }
    tcp->listeners = calloc(limits->listener_max, sizeof(tcp->listeners[0]));
    /* References: a few for each connection, in the mean. */
    tcp->pieces = tcp_pieces_open(stack->pool, limits->connection_max * 4, stack->buffers / 4);
    int status = tcp->listeners == NULL || tcp->pieces == NULL ? -ENOMEM : 0;
    status = status < 0
                 ? status
                 : tcp_table_open(&tcp->table, limits->connection_max + limits->half_open_max +
                                                   limits->time_wait_max);
    status = status < 0 ? status
                        : slab_open(&tcp->conns, sizeof(struct tcp_conn), limits->connection_max);
    status = status < 0 ? status
                        : slab_open(&tcp->racks, sizeof(struct tcp_rack), limits->connection_max);
    status = status < 0
                 ? status
                 : slab_open(&tcp->half_opens, sizeof(struct tcp_half_open), limits->half_open_max);
    status = status < 0
                 ? status
                 : slab_open(&tcp->time_waits, sizeof(struct tcp_time_wait), limits->time_wait_max);
    return status;
}

/* Every connection is in the table, or ended and waiting for its session to let go. */
void tcp_close_all(struct stack *stack)
{
    struct tcp *tcp = &stack->tcp;
    for (uint32_t i = 0;
         tcp->table.slots != NULL && i < tcp->conns.block_count << tcp->conns.block_shift; i++) {
        struct tcp_conn *conn = slab_at(&tcp->conns, i);
        if (i < tcp->conns.max && conn->stack == stack) {
            if (conn->state != TCP_CLOSED) {
                tcp_conn_abort(conn, -ECONNABORTED);
            }
            tcp_receive_clear(conn);
        }
    }
    tcp_half_open_close(stack);
    tcp_time_wait_close(stack);
    eth_flush(stack);
    tcp_table_close(&tcp->table);
    slab_close(&tcp->conns);
    slab_close(&tcp->racks);
    slab_close(&tcp->half_opens);
    slab_close(&tcp->time_waits);
    tcp_pieces_close(tcp->pieces);
    free(tcp->listeners);
}

/* Of its family: 0.0.0.0 listens for IPv4 alone, :: for IPv6, as the kernel sockets do. */
static bool is_any(const struct ip_address *address)
{
    return address->words[3] == 0 && (ip_address_is_ipv4(address) || ip_address_is_any(address));
}

int tcp_listen(struct network *network, const struct listen_request *request,
               struct listener **listener)
{
    struct stack *stack = stack_of(network);
    struct ip_address at;
    struct tcp_listener *place = NULL;
    if (!ip_address_of_endpoint(&at, &request->at)) {
        return -EAFNOSUPPORT;
    }
    if (request->at.port == 0) {
        return -EINVAL;
    }
    if (!is_any(&at) && own_find(&stack->own, &at) == OWN_NONE) {
        return -EADDRNOTAVAIL;
    }
    for (uint32_t i = stack->limits.listener_max; i > 0; i--) {
        struct tcp_listener *other = &stack->tcp.listeners[i - 1];
        if (other->port == request->at.port && ip_address_equal(&other->at, &at)) {
            return -EADDRINUSE;
        }
        place = other->port == 0 ? other : place;
    }
    if (place == NULL) {
        return -ENOSPC;
    }
    *place = (struct tcp_listener){.at = at, .port = request->at.port, .request = *request};
    *listener = (struct listener *)place;
    return 0;
}

void tcp_unlisten(struct network *network, struct listener *listener)
{
    struct stack *stack = stack_of(network);
    struct tcp_listener *place = (struct tcp_listener *)listener;
    const struct slab *conns = &stack->tcp.conns;
    /* All of them: some may be about to be offered, when a session stops listening as it is called. */
    for (uint32_t i = 0; i < conns->block_count << conns->block_shift && i < conns->max; i++) {
        struct tcp_conn *conn = slab_at(conns, i);
        if (conn->stack == stack && conn->accept_pending && conn->listener == place) {
            conn->accept_pending = false;
            conn->released = true; /* nobody will ever know of it */
            tcp_conn_abort(conn, -ECONNABORTED);
        }
    }
    place->port = 0;
}

/* The one for this very address before one for any. */
struct tcp_listener *tcp_listener_find(struct stack *stack, const struct tcp_tuple *tuple)
{
    struct tcp_listener *any = NULL;
    for (uint32_t i = 0; i < stack->limits.listener_max; i++) {
        struct tcp_listener *listener = &stack->tcp.listeners[i];
        if (listener->port == tuple->local_port) {
            if (ip_address_equal(&listener->at, &tuple->local)) {
                return listener;
            }
            bool same = ip_address_is_ipv4(&listener->at) == ip_address_is_ipv4(&tuple->local);
            any = same && is_any(&listener->at) ? listener : any;
        }
    }
    return any;
}

static uint64_t pair(uint32_t high, uint32_t low)
{
    return (uint64_t)high << 32 | low;
}

static uint64_t hash_with(const struct siphash_key *key, const struct tcp_tuple *tuple,
                          uint32_t ports)
{
    const uint64_t words[5] = {pair(tuple->local.words[2], tuple->local.words[3]),
                               pair(tuple->local.words[0], tuple->local.words[1]),
                               pair(tuple->remote.words[2], tuple->remote.words[3]),
                               pair(tuple->remote.words[0], tuple->remote.words[1]), ports};
    return siphash(key, words, 5);
}

/* RFC 6528. */
uint32_t tcp_initial_sequence(struct stack *stack, const struct tcp_tuple *tuple)
{
    uint32_t ports = (uint32_t)tuple->local_port << 16 | tuple->remote_port;
    return (uint32_t)hash_with(&stack->tcp.isn_key, tuple, ports) +
           (uint32_t)(stack->now_ns / ISN_TICK_NS);
}

/* RFC 1122 §4.2.2.13: above what the connection before it has used, which may have been faster than
 * the clock of the numbers. */
uint32_t tcp_initial_sequence_above(struct stack *stack, const struct tcp_tuple *tuple,
                                    uint32_t snd_nxt)
{
    uint32_t iss = tcp_initial_sequence(stack, tuple), above = snd_nxt + UINT16_MAX;
    return seq_before(iss, above) ? above : iss;
}

/* One for each pair of hosts, so that a later connection's timestamps are never older (RFC 7323
 * §5.4), and nothing needs to be kept for it. */
uint32_t tcp_timestamp_offset(struct stack *stack, const struct tcp_tuple *tuple)
{
    return (uint32_t)hash_with(&stack->tcp.timestamp_key, tuple, 0);
}

uint32_t tcp_timestamp_now(const struct stack *stack, uint32_t offset)
{
    return stack_now_ms(stack) + offset;
}

struct tcp_conn *tcp_conn_make(struct stack *stack, const struct tcp_tuple *tuple, uint32_t hash)
{
    struct ip_way way;
    if (ip_route(stack, &tuple->remote, &way) < 0) {
        return NULL;
    }
    uint32_t index = slab_take(&stack->tcp.conns);
    if (index == SLAB_NONE) {
        return NULL;
    }
    struct tcp_conn *conn = slab_at(&stack->tcp.conns, index);
    memset(conn, 0, sizeof(*conn));
    conn->stream.ops = &tcp_stream_ops;
    list_init(&conn->stream.ready);
    list_init(&conn->output);
    list_init(&conn->early);
    list_init(&conn->member);
    conn->stack = stack;
    conn->tuple = *tuple;
    conn->index = index;
    conn->hash = hash;
    conn->next_hop = way.next_hop;
    conn->neighbour = neighbour_of(stack, &way.next_hop);
    conn->ts_offset = tcp_timestamp_offset(stack, tuple);
    conn->last_heard_ns = stack->now_ns;
    conn->last_sent_ns = stack->now_ns;
    conn->unanswered_ns = stack->now_ns;
    conn->rcv_mss = TCP_MSS_DEFAULT;
    conn->quick_acks = QUICK_ACKS;
    tcp_window_open(conn);
    tcp_timers_open(conn);
    return conn;
}

uint16_t tcp_mss_of_link(const struct stack *stack, const struct ip_address *peer)
{
    return (uint16_t)(ip_mtu(stack, peer) - ip_header_bytes(peer) - TCP_HEADER_BYTES);
}

static uint32_t payload_max(const struct stack *stack, const struct ip_address *peer)
{
    uint32_t max = tcp_mss_of_link(stack, peer);
    uint32_t room = rte_pktmbuf_data_room_size(stack->pool) - RTE_PKTMBUF_HEADROOM - 128u;
    return stack->port->facts.tx_segments || max < room ? max : room; /* copied into one mbuf */
}

void tcp_conn_agree(struct tcp_conn *conn, const struct tcp_agreed *agreed)
{
    struct stack *stack = conn->stack;
    uint32_t mss = agreed->mss == 0 ? tcp_mss_default(&conn->tuple.remote) : agreed->mss;
    mss = mss > TCP_MSS_MIN ? mss : TCP_MSS_MIN;
    uint32_t max = payload_max(stack, &conn->tuple.remote);
    mss = mss < max ? mss : max;
    conn->timestamps = agreed->timestamps;
    conn->sack = agreed->sack;
    conn->mss = (uint16_t)(mss - (agreed->timestamps ? TCP_TIMESTAMP_BYTES : 0));
    tcp_mtu_open(conn);
    if (agreed->window_scale != TCP_SCALE_NONE) {
        conn->snd_scale = agreed->window_scale;
        conn->rcv_scale = stack->tcp.rcv_scale;
    }
    conn->recover = conn->iss;
    tcp_ecn_open(conn, agreed);
    tcp_congestion_open(&conn->congestion,
                        stack->limits.congestion == STACK_NEWRENO ? &tcp_congestion_newreno
                                                                  : &tcp_congestion_cubic,
                        conn->mss);
    tcp_output_template(conn);
}

void tcp_conn_established(struct tcp_conn *conn)
{
    conn->state = TCP_ESTABLISHED;
    conn->stack->counters.tcp_current_established++;
    tcp_timer_clear(conn, TCP_TIMER_STATE);
    tcp_timer_keepalive_start(conn);
    if (conn->released) { /* let go while the handshake went on */
        conn->state = TCP_FIN_WAIT_1;
        tcp_timer_linger(conn);
    } else if (conn->fin_wanted) {
        conn->state = TCP_FIN_WAIT_1;
    }
    tcp_output_wanted(conn);
}

void tcp_tuple_arriving(const struct tcp_tuple *tuple, struct rss_tuple *arriving)
{
    *arriving = (struct rss_tuple){.source_port = tuple->remote_port,
                                   .target_port = tuple->local_port,
                                   .ipv6 = !ip_address_is_ipv4(&tuple->remote)};
    unsigned first = arriving->ipv6 ? 0 : 3; /* word */
    memcpy(arriving->source, &tuple->remote.words[first], (4 - first) * 4);
    memcpy(arriving->target, &tuple->local.words[first], (4 - first) * 4);
}

/* Will the answers to this tuple come to this shard? */
static bool comes_home(const struct stack *stack, const struct tcp_tuple *tuple)
{
    struct rss_tuple arriving;
    if (stack->shard_count == 1) {
        return true;
    }
    if (stack->rss.mode == RSS_UNKNOWN) {
        /* Then they are handed over; at least no two shards choose the same. */
        return tuple->local_port % stack->shard_count == stack->queue;
    }
    tcp_tuple_arriving(tuple, &arriving);
    return rss_queue_of(&stack->rss, &arriving) == stack->queue;
}

static bool is_free(struct stack *stack, const struct tcp_tuple *tuple)
{
    uint32_t hash = tcp_table_hash(&stack->tcp.table, tuple);
    struct tcp_found found = tcp_table_find(&stack->tcp.table, tuple, hash);
    return found.kind == TCP_NOTHING ||
           (found.kind == TCP_TIME_WAITING && tcp_time_wait_reusable(stack, found.index));
}

/* RFC 6056 §3.3.4: a secret offset for each destination and a counter for each class of them. */
static int port_choose(struct stack *stack, struct tcp_tuple *tuple)
{
    uint32_t first = stack->limits.port_first;
    uint32_t count = stack->limits.port_last - first + 1u;
    uint64_t hash = hash_with(&stack->tcp.port_key, tuple, tuple->remote_port);
    uint32_t class = (uint32_t)(hash >> 32) % RTE_DIM(stack->tcp.port_steps);
    uint16_t *step = &stack->tcp.port_steps[class];
    uint32_t begin = ((uint32_t)hash % count + *step) % count; /* each once, whatever wraps */
    for (uint32_t tries = 0; tries < count; tries++) {
        (*step)++;
        tuple->local_port = (uint16_t)(first + (begin + tries) % count);
        if (comes_home(stack, tuple) && is_free(stack, tuple)) {
            return 0;
        }
    }
    return -EADDRNOTAVAIL;
}

static int tuple_make(struct stack *stack, const struct connect_request *request,
                      struct tcp_tuple *tuple)
{
    struct ip_way way;
    *tuple = (struct tcp_tuple){.remote_port = request->to.port};
    if (!ip_address_of_endpoint(&tuple->remote, &request->to)) {
        return -EAFNOSUPPORT;
    }
    if (request->to.port == 0) {
        return -EINVAL;
    }
    int status = ip_route(stack, &tuple->remote, &way);
    if (status < 0) {
        return status;
    }
    tuple->local = way.source;
    if (request->from.family != ENDPOINT_NONE &&
        !ip_address_of_endpoint(&tuple->local, &request->from)) {
        return -EADDRNOTAVAIL;
    }
    /* A tentative one will do: the SYN is repeated until it may leave. */
    if (own_find_claimed(&stack->own, &tuple->local) == OWN_NONE ||
        ip_address_is_ipv4(&tuple->local) != ip_address_is_ipv4(&tuple->remote)) {
        return -EADDRNOTAVAIL;
    }
    if (request->from.family != ENDPOINT_NONE && request->from.port != 0) {
        tuple->local_port = request->from.port;
        return is_free(stack, tuple) ? 0 : -EADDRINUSE;
    }
    return port_choose(stack, tuple);
}

/* The first number of an outgoing connection, which ends the TIME-WAIT that its tuple may be in. */
static uint32_t number_take(struct stack *stack, const struct tcp_conn *conn)
{
    struct tcp_found found = tcp_table_find(&stack->tcp.table, &conn->tuple, conn->hash);
    if (found.kind != TCP_TIME_WAITING) {
        return tcp_initial_sequence(stack, &conn->tuple);
    }
    stack->counters.tcp_time_wait_reused++;
    return tcp_initial_sequence_above(stack, &conn->tuple,
                                      tcp_time_wait_forget(stack, found.index));
}

int tcp_connect(struct network *network, const struct connect_request *request,
                struct stream **stream)
{
    struct stack *stack = stack_of(network);
    struct tcp_tuple tuple;
    int status = tuple_make(stack, request, &tuple);
    if (status < 0) {
        return status;
    }
    struct tcp_conn *conn = tcp_conn_make(stack, &tuple, tcp_table_hash(&stack->tcp.table, &tuple));
    if (conn == NULL) {
        return -ENOBUFS;
    }
    conn->iss = number_take(stack, conn);
    tcp_table_add(&stack->tcp.table, conn->hash, TCP_CONN, conn->index);
    conn->in_table = true;
    conn->snd_una = conn->iss;
    conn->snd_nxt = conn->iss + 1;
    conn->snd_max = conn->iss + 1;
    conn->state = TCP_SYN_SENT;
    stack->counters.tcp_active_opens++;
    tcp_timer_set(conn, TCP_TIMER_STATE,
                  stack->now_ns + (request->timeout_ns == 0 ? CONNECT_NS : request->timeout_ns));
    tcp_output_syn(conn);
    *stream = &conn->stream;
    return 0;
}
