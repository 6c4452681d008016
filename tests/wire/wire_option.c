#include "tests/wire/wire_socket.h"
#include <linux/tcp.h> /* struct tcp_info as the kernel lays it out, longer than the C library's */

static int flag_get(const void *value, socklen_t bytes, int *number)
{
    if (value == NULL || bytes < (socklen_t)sizeof(*number)) {
        return -EINVAL;
    }
    memcpy(number, value, sizeof(*number));
    return 0;
}

/* Time limits and windows are of the whole stack: its limits are changed, or if it is not open yet,
 * its settings. Scripts have one connection. */
static struct stack_limits *limits_of(struct wire_sockets *sockets)
{
    struct wire_host *host = sockets->host;
    return host->stack != NULL ? &host->stack->limits : &host->settings.limits;
}

static int socket_level_set(struct wire_sockets *sockets, struct wire_socket *socket, int name,
                            const void *value, socklen_t bytes)
{
    int number = 0;
    struct linger linger;
    switch (name) {
    case SO_LINGER:
        if (bytes < (socklen_t)sizeof(linger)) {
            return -EINVAL;
        }
        memcpy(&linger, value, sizeof(linger));
        socket->linger_reset = linger.l_onoff != 0 && linger.l_linger == 0;
        return 0;
    case SO_RCVBUF: /* the window's scale is chosen as the stack opens, so it must come before */
        if (flag_get(value, bytes, &number) < 0 || number <= 0) {
            return -EINVAL;
        }
        limits_of(sockets)->receive_window_bytes = (uint32_t)number;
        return 0;
    case SO_KEEPALIVE: /* the stack's connections have it always */
    case SO_REUSEADDR:
    case SO_SNDBUF:
        return flag_get(value, bytes, &number);
    default:
        return -ENOPROTOOPT;
    }
}

static void keepalive_anew(struct wire_socket *socket)
{
    struct tcp_conn *conn = (struct tcp_conn *)socket->stream; /* its first member */
    if (conn != NULL && conn->state != TCP_CLOSED) {
        tcp_timer_keepalive_start(conn);
    }
}

static int tcp_level_set(struct wire_sockets *sockets, struct wire_socket *socket, int name,
                         const void *value, socklen_t bytes)
{
    struct stack_limits *limits = limits_of(sockets);
    int number = 0;
    if (name == TCP_CONGESTION) {
        return 0;
    }
    int status = flag_get(value, bytes, &number);
    if (status < 0 || number < 0) {
        return -EINVAL;
    }
    switch (name) {
    case TCP_NODELAY:
        limits->nagle = number == 0;
        return 0;
    case TCP_USER_TIMEOUT:
        limits->user_timeout_ns = (uint64_t)number * MS_NS;
        return 0;
    case TCP_KEEPIDLE:
        limits->keepalive_idle_ns = (uint64_t)number * SECOND_NS;
        keepalive_anew(socket);
        return 0;
    case TCP_KEEPINTVL:
        limits->keepalive_interval_ns = (uint64_t)number * SECOND_NS;
        return 0;
    case TCP_KEEPCNT:
        limits->keepalive_probes = (uint32_t)number;
        return 0;
    case TCP_LINGER2:
        limits->fin_wait_2_ns = (uint64_t)number * SECOND_NS;
        return 0;
    default:
        return -ENOPROTOOPT;
    }
}

int wire_socket_set(struct wire_sockets *sockets, int fd, int level, int name, const void *value,
                    socklen_t bytes)
{
    struct wire_socket *socket = wire_socket_of(sockets, fd);
    if (socket == NULL) {
        return -EBADF;
    }
    if (level == SOL_SOCKET) {
        return socket_level_set(sockets, socket, name, value, bytes);
    }
    return level == IPPROTO_TCP ? tcp_level_set(sockets, socket, name, value, bytes) : -ENOPROTOOPT;
}

/* As Linux numbers them: include/net/tcp_states.h. */
static uint8_t state_of(const struct wire_socket *socket, const struct tcp_conn *conn)
{
    static const uint8_t states[] = {
        [TCP_CLOSED] = 7,      [TCP_SYN_SENT] = 2,   [TCP_SYN_RECEIVED] = 3,
        [TCP_ESTABLISHED] = 1, [TCP_FIN_WAIT_1] = 4, [TCP_FIN_WAIT_2] = 5,
        [TCP_CLOSE_WAIT] = 8,  [TCP_CLOSING] = 11,   [TCP_LAST_ACK] = 9};
    return conn != NULL ? states[conn->state] : socket->kind == WIRE_LISTENING ? 10 : 7;
}

static void tcp_info_fill(const struct wire_socket *socket, struct tcp_info *info)
{
    const struct tcp_conn *conn = (const struct tcp_conn *)socket->stream; /* its first member */
    memset(info, 0, sizeof(*info));
    info->tcpi_state = state_of(socket, conn);
    if (conn == NULL || conn->mss == 0) {
        return;
    }
    uint32_t mss = conn->mss;
    uint64_t now_ns = conn->stack->now_ns;
    info->tcpi_ca_state = conn->recovery == TCP_LOSS_RECOVERY   ? 4
                          : conn->recovery == TCP_FAST_RECOVERY ? 3
                          : conn->sacked.count > 0              ? 1
                                                                : 0;
    info->tcpi_retransmits = conn->due_ns[TCP_TIMER_PROBE] == WHEEL_NEVER ? conn->backoff : 0;
    info->tcpi_probes = conn->due_ns[TCP_TIMER_PROBE] != WHEEL_NEVER ? conn->backoff : 0;
    info->tcpi_backoff = conn->backoff;
    info->tcpi_options =
        (uint8_t)((conn->timestamps ? TCPI_OPT_TIMESTAMPS : 0) | (conn->sack ? TCPI_OPT_SACK : 0) |
                  (conn->rcv_scale > 0 ? TCPI_OPT_WSCALE : 0));
    info->tcpi_snd_wscale = conn->snd_scale & 15u;
    info->tcpi_rcv_wscale = conn->rcv_scale & 15u;
    info->tcpi_rto = conn->rto_ms * 1000;
    info->tcpi_snd_mss = mss;
    info->tcpi_rcv_mss = conn->rcv_mss;
    info->tcpi_unacked = (conn->snd_max - conn->snd_una + mss - 1) / mss;
    info->tcpi_last_data_sent = (uint32_t)((now_ns - conn->last_sent_ns) / MS_NS);
    info->tcpi_last_ack_recv = (uint32_t)((now_ns - conn->last_heard_ns) / MS_NS);
    info->tcpi_pmtu = conn->stack->mtu;
    info->tcpi_rtt = conn->srtt_us;
    info->tcpi_rttvar = conn->rttvar_us;
    info->tcpi_snd_ssthresh = conn->congestion.ssthresh / mss;
    info->tcpi_snd_cwnd = conn->congestion.cwnd / mss;
    info->tcpi_advmss = conn->stack->mtu - IPV4_BYTES - TCP_HEADER_BYTES;
    info->tcpi_reordering = 3;
    for (unsigned i = 0; i < conn->sacked.count; i++) {
        const struct tcp_range *range = &conn->sacked.ranges[i];
        info->tcpi_sacked += (range->end - range->begin + mss - 1) / mss;
    }
    info->tcpi_notsent_bytes = conn->queue.bytes - (conn->snd_max - conn->snd_una);
}

static int number_put(void *value, socklen_t *bytes, int number)
{
    socklen_t size = *bytes < (socklen_t)sizeof(number) ? *bytes : (socklen_t)sizeof(number);
    memcpy(value, &number, size);
    *bytes = size;
    return 0;
}

static int tcp_level_get(struct wire_sockets *sockets, struct wire_socket *socket, int name,
                         void *value, socklen_t *bytes)
{
    const struct stack_limits *limits = limits_of(sockets);
    const struct tcp_conn *conn = (const struct tcp_conn *)socket->stream;
    struct tcp_info info;
    switch (name) {
    case TCP_INFO:
        tcp_info_fill(socket, &info);
        *bytes = *bytes < (socklen_t)sizeof(info) ? *bytes : (socklen_t)sizeof(info);
        memcpy(value, &info, *bytes);
        return 0;
    case TCP_MAXSEG:
        return number_put(value, bytes, conn != NULL ? conn->mss : (int)TCP_MSS_DEFAULT);
    case TCP_NODELAY:
        return number_put(value, bytes, !limits->nagle);
    case TCP_CC_INFO: /* nothing to tell of the method */
        *bytes = 0;
        return 0;
    case TCP_USER_TIMEOUT:
        return number_put(value, bytes, (int)(limits->user_timeout_ns / MS_NS));
    case TCP_KEEPIDLE:
        return number_put(value, bytes, (int)(limits->keepalive_idle_ns / SECOND_NS));
    case TCP_KEEPINTVL:
        return number_put(value, bytes, (int)(limits->keepalive_interval_ns / SECOND_NS));
    case TCP_KEEPCNT:
        return number_put(value, bytes, (int)limits->keepalive_probes);
    default:
        return -ENOPROTOOPT;
    }
}

int wire_socket_get(struct wire_sockets *sockets, int fd, int level, int name, void *value,
                    socklen_t *bytes)
{
    struct wire_socket *socket = wire_socket_of(sockets, fd);
    if (socket == NULL) {
        return -EBADF;
    }
    if (value == NULL || bytes == NULL) {
        return -EFAULT;
    }
    if (level == IPPROTO_TCP) {
        return tcp_level_get(sockets, socket, name, value, bytes);
    }
    if (level == SOL_SOCKET && name == SO_ERROR) {
        int error = -socket->error;
        socket->error = 0;
        return number_put(value, bytes, error);
    }
    if (level == SOL_SOCKET && name == SO_MEMINFO) { /* of the kernel's memory there is none */
        memset(value, 0, *bytes);
        return 0;
    }
    if (level == SOL_SOCKET && name == SO_RCVBUF) {
        return number_put(value, bytes, (int)limits_of(sockets)->receive_window_bytes);
    }
    return -ENOPROTOOPT;
}
