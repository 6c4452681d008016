#include "engine/core/mutation.h"
#include "engine/net/stack_private.h"

static struct tcp_conn *conn_of(const struct stream *stream)
{
    return (struct tcp_conn *)(uintptr_t)stream; /* its first member */
}

void tcp_event(struct tcp_conn *conn, uint32_t events)
{
    if (conn->released) {
        return;
    }
    conn->stream.pending |= events;
    if (list_empty(&conn->stream.ready)) {
        list_append(&conn->stack->tcp.ready, &conn->stream.ready);
    }
}

/* Tells one session; it may release the stream, so nothing of it is touched afterwards. */
static void deliver(struct tcp_conn *conn)
{
    struct stream *stream = &conn->stream;
    if (conn->accept_pending) {
        struct tcp_listener *listener = conn->listener;
        conn->accept_pending = false;
        conn->listener = NULL;
        listener->request.accepted(listener->request.owner, (struct listener *)listener, stream);
    }
    uint32_t events = stream->pending;
    if (conn->read_stopped) {
        events &= ~(uint32_t)STREAM_READABLE; /* read_start tells it */
    }
    stream->pending = 0;
    if (events != 0 && !conn->released && stream->notify != NULL) {
        stream->notify(stream, events, stream->session);
    }
}

unsigned tcp_deliver(struct stack *stack)
{
    struct list_node round, *node;
    unsigned count = 0;
    list_init(&round);
    list_splice(&round, &stack->tcp.ready); /* what comes up meanwhile is told in the next round */
    while ((node = list_pop(&round)) != NULL) {
        deliver((struct tcp_conn *)list_entry(node, struct stream, ready));
        count++;
    }
    return count;
}

void tcp_hungry_feed(struct stack *stack)
{
    struct tcp_pieces *pieces = stack->tcp.pieces;
    struct list_node *node;
    if (list_empty(&stack->tcp.hungry) || pieces->chunk_count >= pieces->chunk_max / 8 * 7) {
        return;
    }
    /* A few in a round: each will take what it needs. */
    for (unsigned i = 0; i < 16 && (node = list_pop(&stack->tcp.hungry)) != NULL; i++) {
        tcp_event(list_entry(node, struct tcp_conn, member), STREAM_WRITABLE);
    }
}

static void doom(struct tcp_conn *conn)
{
    if (!conn->doomed) {
        conn->doomed = true;
        tcp_receive_clear(conn);
        list_remove(&conn->stream.ready);
        list_remove(&conn->member);
        list_append(&conn->stack->tcp.doomed, &conn->member);
    }
}

void tcp_doomed_free(struct stack *stack)
{
    struct list_node *node;
    while ((node = list_pop(&stack->tcp.doomed)) != NULL) {
        struct tcp_conn *conn = list_entry(node, struct tcp_conn, member);
        conn->stack = NULL;
        slab_give(&stack->tcp.conns, conn->index);
    }
}

static void orphan_leave(struct tcp_conn *conn)
{
    if (conn->released && !list_empty(&conn->member) && !conn->doomed) {
        list_remove(&conn->member);
        conn->stack->tcp.orphan_count--;
    }
}

void tcp_conn_end(struct tcp_conn *conn, int error)
{
    struct stack *stack = conn->stack;
    check(conn->state != TCP_CLOSED);
    trace_end(conn, error);
    if (conn->state != TCP_SYN_SENT && conn->state != TCP_SYN_RECEIVED) {
        stack->counters.tcp_current_established--;
    }
    conn->state = TCP_CLOSED;
    if (conn->in_table) {
        tcp_table_remove(&stack->tcp.table, conn->hash, TCP_CONN, conn->index);
        conn->in_table = false;
    }
    if (!MUTATED(TIMER_LEFT_ARMED)) {
        wheel_disarm(stack->wheel, &conn->timer);
    }
    list_remove(&conn->output);
    tcp_send_queue_clear(&conn->queue);
    tcp_rack_give(conn);
    tcp_window_close(conn);
    conn->stream.error = error;
    if (conn->released) {
        orphan_leave(conn);
        doom(conn);
    } else {
        list_remove(&conn->member); /* from those that wait for memory */
        tcp_event(conn, STREAM_CLOSED);
    }
}

void tcp_conn_abort(struct tcp_conn *conn, int error)
{
    if (conn->state != TCP_SYN_SENT) {
        tcp_output_reset(conn);
    }
    tcp_conn_end(conn, error);
}

static size_t stream_op_peek(struct stream *stream, struct slice *slices, size_t count)
{
    return tcp_receive_peek(conn_of(stream), slices, count);
}

static void stream_op_consume(struct stream *stream, size_t bytes)
{
    tcp_receive_consume(conn_of(stream), bytes);
}

/* 0, or why not now. */
static int may_write(struct tcp_conn *conn)
{
    if (conn->state == TCP_CLOSED || conn->fin_wanted) {
        return -EPIPE;
    }
    if (conn->queue.bytes >= STREAM_QUEUED_BYTES_MAX) {
        conn->write_waits = true;
        return -EAGAIN;
    }
    return 0;
}

static int written(struct tcp_conn *conn, int status)
{
    if (status == 0) {
        tcp_output_wanted(conn);
    } else if (status == -ENOMEM) {
        conn->stack->counters.frames_out_no_buffer++;
        if (list_empty(&conn->member)) {
            list_append(&conn->stack->tcp.hungry, &conn->member);
        }
    } else if (status == -EAGAIN) {
        conn->write_waits = true;
    }
    return status;
}

static int stream_op_write(struct stream *stream, struct slice bytes)
{
    struct tcp_conn *conn = conn_of(stream);
    int status = may_write(conn);
    if (status < 0) {
        return status;
    }
    if (bytes.size > STREAM_WRITE_MAX) {
        return -EMSGSIZE;
    }
    if (bytes.size == 0) {
        return 0;
    }
    return written(conn, tcp_send_queue_copy(conn->stack->tcp.pieces, &conn->queue, bytes));
}

static int stream_op_write_ref(struct stream *stream, struct slice bytes, struct ref *owner)
{
    struct tcp_conn *conn = conn_of(stream);
    int status = may_write(conn);
    if (status < 0) {
        return status;
    }
    if (bytes.size > INT32_MAX / 2) {
        return -EMSGSIZE; /* more than the sequence can tell apart */
    }
    if (bytes.size == 0) {
        return 0;
    }
    return written(conn, tcp_send_queue_refer(conn->stack->tcp.pieces, &conn->queue, bytes, owner));
}

static size_t stream_op_queued(const struct stream *stream)
{
    return conn_of(stream)->queue.bytes;
}

static void stream_op_read_stop(struct stream *stream)
{
    conn_of(stream)->read_stopped = true;
}

static void stream_op_read_start(struct stream *stream)
{
    struct tcp_conn *conn = conn_of(stream);
    if (conn->read_stopped) {
        conn->read_stopped = false;
        if (conn->received.bytes > 0) {
            tcp_event(conn, STREAM_READABLE);
        }
    }
}

static void stream_op_shut(struct stream *stream)
{
    struct tcp_conn *conn = conn_of(stream);
    conn->fin_wanted = true;
    switch ((enum tcp_state)conn->state) {
    case TCP_ESTABLISHED:
        conn->state = TCP_FIN_WAIT_1;
        break;
    case TCP_CLOSE_WAIT:
        conn->state = TCP_LAST_ACK;
        break;
    case TCP_CLOSED:
    case TCP_SYN_SENT: /* when it is established */
    case TCP_SYN_RECEIVED:
    case TCP_FIN_WAIT_1:
    case TCP_FIN_WAIT_2:
    case TCP_CLOSING:
    case TCP_LAST_ACK:
        return;
    }
    tcp_output_wanted(conn);
}

static void stream_op_abort(struct stream *stream)
{
    struct tcp_conn *conn = conn_of(stream);
    if (conn->state != TCP_CLOSED) {
        tcp_conn_abort(conn, -ECONNABORTED);
    }
}

/* Bounded: a peer that does not read must not keep what it was sent for ever. */
static void orphan_join(struct tcp_conn *conn)
{
    struct stack *stack = conn->stack;
    struct tcp *tcp = &stack->tcp;
    list_remove(&conn->member);
    list_append(&tcp->orphans, &conn->member);
    tcp->orphan_count++;
    if (tcp->orphan_count > stack->limits.orphan_max) {
        stack->counters.tcp_aborts_on_memory++;
        tcp_conn_abort(list_entry(tcp->orphans.next, struct tcp_conn, member), -ECONNABORTED);
    }
}

static void stream_op_release(struct stream *stream)
{
    struct tcp_conn *conn = conn_of(stream);
    check(!conn->released);
    if (conn->state == TCP_SYN_SENT && conn->queue.bytes == 0) {
        tcp_conn_end(conn, -ECONNABORTED);
    }
    conn->released = true;
    stream->notify = NULL;
    list_remove(&stream->ready);
    if (conn->state == TCP_CLOSED) {
        doom(conn);
        return;
    }
    tcp_receive_consume(conn, conn->received.bytes);
    if (conn->state == TCP_FIN_WAIT_2) {
        tcp_timer_fin_wait_2(conn);
    } else if (conn->state != TCP_SYN_SENT && conn->state != TCP_SYN_RECEIVED) {
        tcp_timer_linger(conn);
    }
    stream_op_shut(stream);
    orphan_join(conn);
}

static void stream_op_facts(const struct stream *stream, struct stream_facts *facts)
{
    const struct tcp_conn *conn = conn_of(stream);
    endpoint_of_ip_address(&facts->local, &conn->tuple.local, conn->tuple.local_port);
    endpoint_of_ip_address(&facts->remote, &conn->tuple.remote, conn->tuple.remote_port);
    facts->transport = conn->stack->network.transport;
    facts->tls = NULL;
}

const struct stream_ops tcp_stream_ops = {.peek = stream_op_peek,
                                          .consume = stream_op_consume,
                                          .write = stream_op_write,
                                          .write_ref = stream_op_write_ref,
                                          .queued = stream_op_queued,
                                          .unacknowledged = stream_op_queued,
                                          .read_stop = stream_op_read_stop,
                                          .read_start = stream_op_read_start,
                                          .shut = stream_op_shut,
                                          .abort = stream_op_abort,
                                          .release = stream_op_release,
                                          .facts = stream_op_facts};
