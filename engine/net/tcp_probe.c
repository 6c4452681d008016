/*
 * The path MTU of a connection: what is known of the destination, what routers tell, what vanishes,
 * and probes among the data it sends. The search itself is tcp_mtu's.
 *
 * A packet that was too large is no sign of congestion (RFC 8201 §5.4, RFC 4821 §7.6.2): it is sent
 * again in smaller ones, and the windows stay.
 */
#include "engine/net/stack_private.h"
#include "engine/net/tcp_frame.h"

#define BASE_MTU 1280u        /* RFC 8899 §5.1.4, BASE_PLPMTU and a tunnel's headers */
#define FOLLOWING_SEGMENTS 2u /* behind a probe, or its loss would not be seen (RFC 4821 §7.4) */
#define BLACK_HOLE_BACKOFF 3u /* full segments that vanish as often: perhaps the path is narrower */
#define FLOOR_BACKOFF 5u

static uint32_t overhead(const struct tcp_conn *conn)
{
    return ip_header_bytes(&conn->tuple.remote) + TCP_HEADER_BYTES +
           (conn->timestamps ? TCP_TIMESTAMP_BYTES : 0);
}

/* No router's word makes segments smaller: RFC 8201 §4, and for IPv4 what Linux takes too. */
static uint32_t floor_of(const struct tcp_conn *conn)
{
    return ip_address_is_ipv4(&conn->tuple.remote) ? TCP_MSS_DEFAULT - 40
                                                   : BASE_MTU - overhead(conn);
}

static uint32_t hash_of(const struct tcp_conn *conn)
{
    const uint32_t *words = conn->tuple.remote.words;
    const uint64_t pair[2] = {(uint64_t)words[0] << 32 | words[1],
                              (uint64_t)words[2] << 32 | words[3]};
    return (uint32_t)siphash(&conn->stack->tcp.port_key, pair, 2);
}

static void resize(struct tcp_conn *conn, uint32_t size)
{
    struct stack *stack = conn->stack;
    conn->mss = (uint16_t)size;
    conn->congestion.mss = size;
    tcp_mtu_cache_keep(&stack->tcp.mtu_cache, &conn->tuple.remote, hash_of(conn),
                       (uint16_t)(size + overhead(conn)), stack->now_ns);
}

void tcp_mtu_open(struct tcp_conn *conn)
{
    const struct stack *stack = conn->stack;
    uint32_t known = tcp_mtu_cache_find(&stack->tcp.mtu_cache, &conn->tuple.remote, hash_of(conn),
                                        stack->now_ns);
    uint16_t max = conn->mss;
    if (known != 0 && known - overhead(conn) < max) {
        conn->mss = (uint16_t)(known - overhead(conn));
    }
    tcp_mtu_search_open(&conn->mtu, conn->mss, max, stack->now_ns);
}

/* Without records of what was sent: as after a timeout, but with the window that there is. What the
 * peer gets twice by it brings duplicates that are no loss. */
static void go_back(struct tcp_conn *conn)
{
    if (conn->recovery == TCP_FAST_RECOVERY) {
        conn->congestion.cwnd = conn->congestion.ssthresh; /* without what duplicates have added */
    }
    conn->recovery = TCP_LOSS_RECOVERY;
    conn->recover = conn->snd_max;
    conn->snd_nxt = conn->snd_una;
    conn->duplicate_acks = 0;
    conn->retransmit_head = conn->snd_max != conn->snd_una;
}

/* What was too large is sent again, in smaller segments, and its time begins anew. Of all records
 * none tells how large its segments were: small ones among them come twice. */
static void send_smaller(struct tcp_conn *conn, struct tcp_range too_large)
{
    if (conn->rack != NULL) {
        tcp_rack_mark_lost(conn->rack, &conn->sacked, too_large);
    } else {
        go_back(conn);
    }
    if (conn->due_ns[TCP_TIMER_RETRANSMIT] != WHEEL_NEVER) {
        tcp_timer_set(conn, TCP_TIMER_RETRANSMIT, conn->stack->now_ns + tcp_rto_ns(conn));
    }
    conn->tail_probed = false;
    tcp_tail_watch(conn);
    tcp_output_wanted(conn);
}

void tcp_mtu_told(struct tcp_conn *conn, uint16_t mtu)
{
    struct stack *stack = conn->stack;
    uint32_t own = conn->mss + overhead(conn), least = floor_of(conn);
    mtu = mtu == 0 ? tcp_mtu_plateau((uint16_t)own) : mtu;
    uint32_t size = mtu > overhead(conn) + least ? mtu - overhead(conn) : least;
    struct tcp_range too_large = {conn->mtu.probe_seq, conn->mtu.probe_seq + conn->mtu.probe};
    if (size >= (conn->mtu.probe != 0 ? conn->mtu.probe : conn->mss)) {
        return; /* it was smaller than that */
    }
    stack->counters.tcp_mtu_told++;
    tcp_mtu_search_told(&conn->mtu, (uint16_t)size, stack->now_ns);
    if (size < conn->mss) {
        resize(conn, size);
        too_large = (struct tcp_range){conn->snd_una, conn->snd_max};
    }
    send_smaller(conn, too_large);
}

/* Before the timeout's own work. */
void tcp_mtu_timed_out(struct tcp_conn *conn)
{
    struct stack *stack = conn->stack;
    uint32_t base = BASE_MTU - overhead(conn), least = floor_of(conn), size = 0;
    /* With a timeout of a minute there will not be as many before the connection is given up. */
    bool soon_over = stack->now_ns - conn->unanswered_ns > stack->limits.user_timeout_ns / 2;
    conn->mtu.probe = 0;
    if (conn->backoff == BLACK_HOLE_BACKOFF && conn->mss > base && !soon_over) {
        size = base;
    } else if ((conn->backoff >= FLOOR_BACKOFF || soon_over) && conn->mss > least) {
        size = least;
    }
    if (size != 0 && conn->snd_max - conn->snd_una > size) {
        stack->counters.tcp_mtu_black_holes++;
        tcp_mtu_search_black_hole(&conn->mtu, (uint16_t)size, stack->now_ns);
        resize(conn, size);
    }
}

/* Payload of a probe that may leave now, data behind it; 0: none. */
uint32_t tcp_mtu_probe(struct tcp_conn *conn)
{
    uint32_t sent = conn->snd_nxt - conn->snd_una, queued = conn->queue.bytes;
    if (conn->mss >= conn->mtu.max || conn->rack == NULL || conn->recovery != TCP_OPEN ||
        conn->sacked.count > 0 || conn->backoff > 0 || tcp_frame_options(conn) > 0) {
        return 0;
    }
    uint32_t size = tcp_mtu_search_next(&conn->mtu, conn->stack->now_ns);
    uint32_t wanted = size + FOLLOWING_SEGMENTS * conn->mss;
    bool room = queued >= sent + wanted && conn->snd_wnd >= sent + wanted &&
                conn->congestion.cwnd >= sent + wanted;
    return size > conn->mss && room ? size : 0;
}

void tcp_mtu_sent(struct tcp_conn *conn, const struct tcp_departure *departure, bool again)
{
    struct tcp_mtu_search *search = &conn->mtu;
    struct tcp_range range = {departure->seq, departure->seq + departure->bytes};
    if (!again && departure->segment_bytes == 0 && departure->bytes > conn->mss) {
        conn->stack->counters.tcp_mtu_probes++;
        tcp_mtu_search_sent(search, range.begin, (uint16_t)departure->bytes);
    } else if (again && search->probe != 0 &&
               seq_before(range.begin, search->probe_seq + search->probe) &&
               seq_before(search->probe_seq, range.end)) {
        search->probe = 0; /* in pieces: what arrives proves nothing */
    }
}

void tcp_mtu_acked(struct tcp_conn *conn)
{
    struct tcp_mtu_search *search = &conn->mtu;
    if (seq_at_or_before(search->probe_seq + search->probe, conn->snd_una)) {
        tcp_mtu_search_arrived(search, conn->stack->now_ns);
        resize(conn, search->low);
    }
}

/* Is the probe all that is lost? Then it was too large, and nothing else is wrong. */
bool tcp_mtu_lost(struct tcp_conn *conn)
{
    struct tcp_mtu_search *search = &conn->mtu;
    struct tcp_range lost;
    if (search->probe == 0 || !tcp_rack_first_lost(conn->rack, &conn->sacked, &lost) ||
        lost.begin != search->probe_seq ||
        tcp_rack_lost_bytes(conn->rack, &conn->sacked) != search->probe) {
        return false;
    }
    conn->stack->counters.tcp_mtu_probes_lost++;
    tcp_mtu_search_lost(search, conn->stack->now_ns);
    return true;
}
