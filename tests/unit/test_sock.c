/* Kernel sockets over both engines: they listen, connect, carry bytes and end. */
#include "tests/unit/sock_rig.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MEBIBYTE (1024u * 1024u)

static const int kinds[] = {ENDPOINT_IPV4, ENDPOINT_IPV6, ENDPOINT_UNIX};

/* ---- Listening and connecting ---- */

static void a_stream_connects_and_is_accepted_on_each_kind_of_address(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    for (size_t i = 0; i < 3; i++) {
        struct endpoint at;
        struct listener *listener = rig_listen(rig, kinds[i], &at);
        struct rig_conn *out;
        struct stream_facts near, far;
        assert_int_equal(rig_connect_to(rig, &at, &out), 0);
        assert_int_equal(out->events, 0); /* nobody is called before the call returns */
        RIG_UNTIL(rig, rig->accepted_count == i + 1 && out->events != 0);
        assert_int_equal(out->events, STREAM_CONNECTED);
        stream_facts(out->stream, &near);
        stream_facts(rig_last(rig)->stream, &far);
        assert_true(endpoint_equal(&near.remote, &at));
        assert_true(endpoint_equal(&far.local, &at));
        assert_int_equal(far.remote.family, kinds[i]);
        assert_true(kinds[i] == ENDPOINT_UNIX || endpoint_equal(&far.remote, &near.local));
        assert_string_equal(near.transport, "kernel");
        struct stream_facts again;
        stream_facts(rig_last(rig)->stream, &again);
        assert_true(endpoint_equal(&again.remote, &far.remote));
        assert_true(endpoint_equal(&again.local, &far.local));
        rig->network->ops->unlisten(rig->network, listener);
    }
    rig_close(rig);
}

/* What a listener has given away, and whoever was given it. */
struct given {
    int fd;
    struct listener *listener;
    struct stream *stream;
    uint32_t events;
    char text[8];
};

static bool given_away(void *owner, int fd)
{
    struct given *given = owner;
    given->fd = fd;
    return true;
}

static void given_notified(struct stream *stream, uint32_t events, void *session)
{
    struct given *given = session;
    struct slice slice;
    given->events |= events;
    if ((events & STREAM_READABLE) != 0 && stream_peek(stream, &slice, 1) == 1) {
        snprintf(given->text, sizeof(given->text), "%.*s", (int)slice.size,
                 (const char *)slice.bytes);
        stream_consume(stream, slice.size);
        assert_int_equal(stream_write(stream, slice_text("pong")), 0);
    }
}

static void given_accepted(void *owner, struct listener *listener, struct stream *stream)
{
    struct given *given = owner;
    given->listener = listener;
    given->stream = stream;
    stream->notify = given_notified;
    stream->session = given;
}

static void a_connection_may_be_adopted_by_another_network(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    static struct listener none;
    struct given given = {.fd = -1, .listener = &none};
    char text[8] = "";
    struct endpoint at = {.family = ENDPOINT_UNIX};
    snprintf(at.path, sizeof(at.path), "%s/given", rig->directory);
    const struct listen_request request = {
        .at = at, .accepted = given_accepted, .owner = &given, .elsewhere = given_away};
    struct listener *listener;
    assert_int_equal(rig->network->ops->listen(rig->network, &request, &listener), 0);
    struct sockaddr_storage address;
    socklen_t length = endpoint_to_sockaddr(&at, &address);
    int peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(peer, (struct sockaddr *)&address, length), 0);
    assert_int_equal(fcntl(peer, F_SETFL, O_NONBLOCK), 0);
    RIG_UNTIL(rig, given.fd >= 0);
    assert_null(given.stream); /* the listener's network has nothing to do with it */
    assert_int_equal(sock_counters(rig->network)->accepted, 0);
    assert_int_equal(rig->network->ops->adopt(rig->network, &request, given.fd), 0);
    assert_non_null(given.stream);
    assert_null(given.listener);
    assert_int_equal(sock_counters(rig->network)->accepted, 1);
    assert_int_equal(write(peer, "ping", 4), 4);
    RIG_UNTIL(rig, given.text[0] != '\0' && read(peer, text, sizeof(text)) > 0);
    assert_string_equal(given.text, "ping");
    assert_string_equal(text, "pong");
    close(peer);
    RIG_UNTIL(rig, (given.events & STREAM_HALF_CLOSED) != 0);
    stream_release(given.stream);
    rig->network->ops->unlisten(rig->network, listener);
    rig_close(rig);
}

static int option_of(const struct stream *stream, int level, int name)
{
    const struct sock_stream *s = list_entry(stream, struct sock_stream, stream);
    int value = -1;
    socklen_t size = sizeof(value);
    assert_int_equal(getsockopt(s->fd, level, name, &value, &size), 0);
    return value;
}

/* Of those that are accepted by way of their listener. */
static void both_ends_send_at_once_and_notice_a_peer_that_is_gone(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    for (size_t i = 0; i < 3; i++) {
        struct endpoint at;
        struct rig_conn *out;
        if (kinds[i] == ENDPOINT_UNIX) {
            continue;
        }
        unsigned before = rig->accepted_count;
        struct listener *listener = rig_listen(rig, kinds[i], &at);
        assert_int_equal(rig_connect_to(rig, &at, &out), 0);
        RIG_UNTIL(rig, rig->accepted_count > before && out->events != 0);
        const struct stream *ends[] = {out->stream, rig_last(rig)->stream};
        for (unsigned end = 0; end < 2; end++) {
            assert_int_equal(option_of(ends[end], IPPROTO_TCP, TCP_NODELAY), 1);
            assert_int_equal(option_of(ends[end], SOL_SOCKET, SO_KEEPALIVE), 1);
        }
        rig->network->ops->unlisten(rig->network, listener);
    }
    rig_close(rig);
}

static void a_refused_connection_ends_with_econnrefused(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    for (size_t i = 0; i < 2; i++) {
        struct endpoint at = rig_endpoint(rig, kinds[i], NULL);
        int fd = rig_raw_listen(&at, -1); /* bound, so that nobody else has the port */
        struct rig_conn *out;
        assert_int_equal(rig_connect_to(rig, &at, &out), 0);
        RIG_UNTIL(rig, out->closed_count == 1);
        assert_int_equal(out->events, STREAM_CLOSED);
        assert_int_equal(out->error, -ECONNREFUSED);
        assert_int_equal(stream_write(out->stream, slice_text("x")), -EPIPE);
        rig_release(out);
        close(fd);
    }
    rig_rounds(rig, 2);
    assert_int_equal(sock_counters(rig->network)->streams, 0);
    rig_close(rig);
}

static void a_unix_path_that_is_missing_ends_with_enoent(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at = rig_endpoint(rig, ENDPOINT_UNIX, "missing");
    struct rig_conn *out;
    assert_int_equal(rig_connect_to(rig, &at, &out), 0);
    RIG_UNTIL(rig, out->closed_count == 1);
    assert_int_equal(out->error, -ENOENT);
    rig_close(rig);
}

static void a_connect_that_nobody_answers_times_out_on_the_shards_clock(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at = rig_endpoint(rig, ENDPOINT_IPV4, NULL);
    int fd = rig_raw_listen(&at, 0);
    struct rig_conn *out[4];
    /* The first fills the backlog; SYNs after it are dropped. */
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(rig_connect_to(rig, &at, &out[i]), 0);
        rig_rounds(rig, 10);
    }
    assert_int_equal(out[3]->events, 0);
    assert_int_equal(stream_write(out[3]->stream, slice_text("early")), 0);
    rig->now_ns += 4 * RIG_SECOND_NS;
    rig_rounds(rig, 10);
    assert_int_equal(out[3]->events, 0);
    rig->now_ns += 2 * RIG_SECOND_NS;
    RIG_UNTIL(rig, out[3]->closed_count == 1);
    assert_int_equal(out[3]->error, -ETIMEDOUT);
    close(fd);
    rig_close(rig);
}

static void a_stream_that_is_released_while_it_connects_goes(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at = rig_endpoint(rig, ENDPOINT_IPV4, NULL);
    int fd = rig_raw_listen(&at, 0);
    for (size_t i = 0; i < 4; i++) {
        struct rig_conn *out;
        assert_int_equal(rig_connect_to(rig, &at, &out), 0);
        rig_rounds(rig, i);
        rig_release(out);
    }
    RIG_UNTIL(rig, sock_counters(rig->network)->streams == 0);
    close(fd);
    rig_close(rig);
}

static void what_is_written_before_the_connection_is_there_arrives(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at;
    uint8_t bytes[3000];
    struct rig_conn *out;
    rig_listen(rig, ENDPOINT_IPV4, &at);
    rig_fill(bytes, sizeof(bytes), 0);
    assert_int_equal(rig_connect_to(rig, &at, &out), 0);
    assert_int_equal(stream_write(out->stream, slice_of(bytes, 1000)), 0);
    assert_int_equal(stream_write(out->stream, slice_of(bytes + 1000, 2000)), 0);
    stream_shut(out->stream);
    RIG_UNTIL(rig, rig->accepted_count == 1 && (rig->conns[1].events & STREAM_HALF_CLOSED));
    assert_int_equal(rig->conns[1].taken, 3000);
    rig_close(rig);
}

/* ---- Bytes ---- */

/* Writes until the stream takes no more or `total` is reached: copies and references by turns. */
static void conn_write(struct rig_conn *conn, struct rig_memory *memory, uint64_t total)
{
    while (conn->written < total) {
        uint64_t at = conn->written;
        size_t left = (size_t)(total - at);
        bool copied = (at / 1000) % 2 == 0;
        size_t size = copied ? 1 + at % STREAM_WRITE_MAX : 1 + at % 100000;
        size = size < left ? size : left;
        struct slice bytes = slice_of(memory->bytes + at, size);
        int status = copied ? stream_write(conn->stream, bytes)
                            : stream_write_ref(conn->stream, bytes, &memory->ref);
        if (status == -EAGAIN) {
            return;
        }
        assert_int_equal(status, 0);
        conn->written += size;
    }
}

static void large_streams_arrive_exactly_in_both_directions(void **state)
{
    const uint64_t total = 8 * MEBIBYTE;
    struct rig *rig = rig_open(state, NULL);
    for (size_t kind = 0; kind < 3; kind++) {
        struct endpoint at;
        struct listener *listener = rig_listen(rig, kinds[kind], &at);
        struct rig_conn *out, *in;
        static struct rig_memory memory[2];
        bool queued = false;
        assert_int_equal(rig_connect_to(rig, &at, &out), 0);
        RIG_UNTIL(rig, rig->accepted_count == kind + 1 && (out->events & STREAM_CONNECTED));
        in = rig_last(rig);
        rig_memory_open(&memory[0], out, total);
        rig_memory_open(&memory[1], in, total);
        while (out->taken < total || in->taken < total) {
            uint64_t before = out->taken + in->taken;
            conn_write(out, &memory[0], total);
            conn_write(in, &memory[1], total);
            queued |= stream_queued(out->stream) > 0;
            RIG_UNTIL(rig, out->taken + in->taken > before);
        }
        assert_true(out->events & STREAM_WRITABLE);
        RIG_UNTIL(rig, (out->events & STREAM_DRAINED) && (in->events & STREAM_DRAINED) &&
                           memory[0].ref.count == 1 && memory[1].ref.count == 1);
        assert_true(queued);
        assert_int_equal(stream_queued(out->stream), 0);
        for (size_t i = 0; i < 2; i++) {
            ref_drop(&memory[i].ref);
            rig_memory_close(&memory[i]);
        }
        rig->network->ops->unlisten(rig->network, listener);
    }
    rig_close(rig);
}

/* What the kernel has taken is not what the peer has got: of a socket that nobody reads it holds some back. */
static void what_the_kernel_has_taken_is_unacknowledged_until_the_peer_has_it(void **state)
{
    static uint8_t bytes[STREAM_WRITE_MAX];
    struct rig *rig = rig_open(state, NULL);
    for (size_t kind = 0; kind < 3; kind++) {
        struct endpoint at;
        struct rig_conn *in;
        struct listener *listener = rig_listen(rig, kinds[kind], &at);
        int fd = rig_raw_pair(rig, &at, &in);
        size_t sent = 0;
        assert_int_equal(stream_unacknowledged(in->stream), 0);
        while (stream_queued(in->stream) == 0) { /* until the kernel takes no more either */
            for (; stream_write(in->stream, slice_of(bytes, sizeof(bytes))) == 0;) {
                sent += sizeof(bytes);
            }
            rig_rounds(rig, 20);
        }
        assert_true(stream_unacknowledged(in->stream) > stream_queued(in->stream));
        while (sent > 0) {
            ssize_t got = read(fd, bytes, sizeof(bytes));
            sent -= got > 0 ? (size_t)got : 0;
            rig_rounds(rig, 1);
        }
        RIG_UNTIL(rig, stream_unacknowledged(in->stream) == 0);
        close(fd);
        rig->network->ops->unlisten(rig->network, listener);
    }
    rig_close(rig);
}

/* Writes on a raw socket until it takes no more; returns how much it took. */
static uint64_t raw_fill(int fd, uint64_t from)
{
    uint8_t bytes[65536];
    ssize_t sent;
    uint64_t all = 0;
    do {
        rig_fill(bytes, sizeof(bytes), from + all);
        sent = write(fd, bytes, sizeof(bytes));
        all += sent > 0 ? (uint64_t)sent : 0;
    } while (sent > 0);
    assert_int_equal(errno, EAGAIN);
    return all;
}

static void a_reader_that_holds_back_bounds_what_is_taken_from_its_peer(void **state)
{
    struct rig *rig = rig_open(state, &(struct rig_settings){.buffer_count = 1024});
    struct endpoint at;
    rig->accepted_take = false;
    rig_listen(rig, ENDPOINT_IPV4, &at);
    struct rig_conn *in;
    int fd = rig_raw_pair(rig, &at, &in);
    struct sock_stream *s = list_entry(in->stream, struct sock_stream, stream);
    uint64_t sent = 0;
    for (unsigned i = 0; i < 200; i++) {
        sent += raw_fill(fd, sent);
        rig_rounds(rig, 1);
    }
    assert_true(s->received_bytes >= SOCK_RECEIVED_BYTES_MAX);
    /* The cancel reaches the kernel a round later. */
    assert_true(s->received_bytes <= SOCK_RECEIVED_BYTES_MAX + 512 * 1024);
    assert_true(sent > s->received_bytes); /* the kernel holds the rest, the peer waits */
    in->takes = true;
    stream_read_start(in->stream);
    RIG_UNTIL(rig, in->taken == sent);
    close(fd);
    rig_close(rig);
}

static void a_stream_that_does_not_read_is_not_told_of_bytes_until_it_does(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at;
    rig_listen(rig, ENDPOINT_UNIX, &at);
    struct rig_conn *in;
    int fd = rig_raw_pair(rig, &at, &in);
    stream_read_stop(in->stream);
    rig_rounds(rig, 5);
    assert_int_equal(raw_fill(fd, 0) > 0, 1);
    rig_rounds(rig, 50);
    assert_int_equal(in->events, 0);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    rig_rounds(rig, 50);
    assert_false(in->events & STREAM_READABLE);
    stream_read_start(in->stream);
    RIG_UNTIL(rig, in->events & STREAM_HALF_CLOSED);
    assert_true(in->taken > 0);
    close(fd);
    rig_close(rig);
}

static void a_write_is_all_or_nothing_and_bounded(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at;
    static uint8_t bytes[STREAM_WRITE_MAX + 1];
    rig_listen(rig, ENDPOINT_UNIX, &at);
    struct rig_conn *in;
    int fd = rig_raw_pair(rig, &at, &in);
    assert_int_equal(stream_write(in->stream, slice_of(bytes, sizeof(bytes))), -EMSGSIZE);
    unsigned count = 0;
    while (stream_write(in->stream, slice_of(bytes, STREAM_WRITE_MAX)) == 0) {
        count++;
        assert_true(count <= STREAM_QUEUED_BYTES_MAX / STREAM_WRITE_MAX);
    }
    assert_int_equal(stream_write(in->stream, slice_of(bytes, 1)), -EAGAIN);
    uint64_t got = 0;
    while (got < (uint64_t)count * STREAM_WRITE_MAX) {
        ssize_t size;
        RIG_UNTIL(rig, (size = read(fd, bytes, sizeof(bytes))) > 0);
        got += (uint64_t)size;
    }
    RIG_UNTIL(rig, in->events & STREAM_WRITABLE);
    assert_int_equal(stream_write(in->stream, slice_of(bytes, 0)), 0);
    close(fd);
    rig_close(rig);
}

/* ---- Ends ---- */

static void a_half_closed_stream_still_sends_and_both_fins_close_it(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    uint8_t bytes[100], got[101];
    rig_fill(bytes, sizeof(bytes), 0);
    for (size_t i = 0; i < 3; i++) {
        struct endpoint at;
        struct listener *listener = rig_listen(rig, kinds[i], &at);
        struct rig_conn *in;
        int fd = rig_raw_pair(rig, &at, &in);
        assert_int_equal(write(fd, bytes, 100), 100);
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        RIG_UNTIL(rig, in->events & STREAM_HALF_CLOSED);
        assert_int_equal(in->taken, 100);
        assert_false(in->events & STREAM_CLOSED);
        assert_int_equal(stream_write(in->stream, slice_of(bytes, 100)), 0);
        stream_shut(in->stream);
        assert_int_equal(stream_write(in->stream, slice_of(bytes, 1)), -EPIPE);
        RIG_UNTIL(rig, in->closed_count == 1);
        assert_int_equal(in->error, 0);
        assert_int_equal(read(fd, got, sizeof(got)), 100);
        assert_memory_equal(got, bytes, 100);
        assert_int_equal(read(fd, got, sizeof(got)), 0);
        rig_release(in);
        close(fd);
        rig->network->ops->unlisten(rig->network, listener);
    }
    rig_close(rig);
}

static void our_fin_leaves_the_other_direction_open(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at;
    uint8_t bytes[5000];
    rig_listen(rig, ENDPOINT_IPV4, &at);
    struct rig_conn *in;
    int fd = rig_raw_pair(rig, &at, &in);
    stream_shut(in->stream);
    ssize_t size;
    RIG_UNTIL(rig, (size = read(fd, bytes, 1)) >= 0);
    assert_int_equal(size, 0);
    rig_fill(bytes, sizeof(bytes), 0);
    assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
    RIG_UNTIL(rig, in->taken == sizeof(bytes));
    assert_int_equal(in->closed_count, 0);
    close(fd);
    RIG_UNTIL(rig, in->closed_count == 1);
    assert_int_equal(in->error, 0);
    rig_close(rig);
}

static unsigned segments_in(int fd)
{
    struct tcp_info facts;
    socklen_t size = sizeof(facts);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &facts, &size), 0);
    return facts.tcpi_segs_in;
}

static void the_last_bytes_and_our_fin_are_one_segment(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at;
    uint8_t bytes[100], got[101];
    rig_fill(bytes, sizeof(bytes), 0);
    for (size_t i = 0; i < 2; i++) {
        struct listener *listener = rig_listen(rig, kinds[i], &at);
        struct rig_conn *in;
        int fd = rig_raw_pair(rig, &at, &in);
        unsigned before = segments_in(fd);
        assert_int_equal(stream_write(in->stream, slice_of(bytes, 100)), 0);
        stream_shut(in->stream);
        RIG_UNTIL(rig, ((struct sock_stream *)(void *)in->stream)->fin_sent);
        assert_int_equal(read(fd, got, sizeof(got)), 100);
        assert_memory_equal(got, bytes, 100);
        assert_int_equal(read(fd, got, sizeof(got)), 0);
        assert_int_equal(segments_in(fd) - before, 1);
        close(fd);
        RIG_UNTIL(rig, in->closed_count == 1);
        assert_int_equal(in->error, 0);
        rig_release(in);
        rig->network->ops->unlisten(rig->network, listener);
    }
    rig_close(rig);
}

static void a_reset_by_the_peer_closes_with_econnreset(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at;
    rig_listen(rig, ENDPOINT_IPV6, &at);
    struct rig_conn *in;
    int fd = rig_raw_pair(rig, &at, &in);
    rig_raw_reset(fd);
    RIG_UNTIL(rig, in->closed_count == 1);
    assert_int_equal(in->error, -ECONNRESET);
    assert_int_equal(stream_write(in->stream, slice_text("x")), -EPIPE);
    rig_close(rig);
}

static void what_is_written_before_release_is_still_sent(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at;
    static uint8_t bytes[65536];
    rig_listen(rig, ENDPOINT_IPV4, &at);
    struct rig_conn *in;
    int fd = rig_raw_pair(rig, &at, &in);
    static struct rig_memory memory;
    rig_memory_open(&memory, in, 16 * MEBIBYTE);
    assert_int_equal(stream_write_ref(in->stream, slice_of(memory.bytes, memory.size), &memory.ref),
                     0);
    ref_drop(&memory.ref);
    rig_release(in);
    uint64_t got = 0;
    for (ssize_t size = 1; size != 0; got += (uint64_t)size) {
        RIG_UNTIL(rig, (size = read(fd, bytes, sizeof(bytes))) >= 0);
        for (ssize_t i = 0; i < size; i++) {
            if (bytes[i] != rig_byte(got + (uint64_t)i)) {
                fail_msg("byte %zu is another", (size_t)got + (size_t)i);
            }
        }
    }
    assert_int_equal(got, 16 * MEBIBYTE);
    rig_memory_close(&memory);
    close(fd);
    RIG_UNTIL(rig, sock_counters(rig->network)->streams == 0);
    rig_close(rig);
}

static void a_released_stream_whose_peer_takes_nothing_ends_after_the_linger_time(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at;
    rig_listen(rig, ENDPOINT_IPV4, &at);
    struct rig_conn *in;
    int fd = rig_raw_pair(rig, &at, &in);
    static struct rig_memory memory;
    rig_memory_open(&memory, in, 16 * MEBIBYTE);
    assert_int_equal(stream_write_ref(in->stream, slice_of(memory.bytes, memory.size), &memory.ref),
                     0);
    ref_drop(&memory.ref);
    rig_release(in);
    rig_rounds(rig, 50);
    assert_int_equal(memory.released_count, 0);
    rig->now_ns += 31 * RIG_SECOND_NS;
    RIG_UNTIL(rig, sock_counters(rig->network)->streams == 0);
    rig_memory_close(&memory);
    close(fd);
    rig_close(rig);
}

#define TESTS(X)                                                                                   \
    X(a_stream_connects_and_is_accepted_on_each_kind_of_address)                                   \
    X(both_ends_send_at_once_and_notice_a_peer_that_is_gone)                                       \
    X(a_connection_may_be_adopted_by_another_network)                                              \
    X(a_refused_connection_ends_with_econnrefused)                                                 \
    X(a_unix_path_that_is_missing_ends_with_enoent)                                                \
    X(a_connect_that_nobody_answers_times_out_on_the_shards_clock)                                 \
    X(a_stream_that_is_released_while_it_connects_goes)                                            \
    X(what_is_written_before_the_connection_is_there_arrives)                                      \
    X(large_streams_arrive_exactly_in_both_directions)                                             \
    X(what_the_kernel_has_taken_is_unacknowledged_until_the_peer_has_it)                           \
    X(a_reader_that_holds_back_bounds_what_is_taken_from_its_peer)                                 \
    X(a_stream_that_does_not_read_is_not_told_of_bytes_until_it_does)                              \
    X(a_write_is_all_or_nothing_and_bounded)                                                       \
    X(a_half_closed_stream_still_sends_and_both_fins_close_it)                                     \
    X(the_last_bytes_and_our_fin_are_one_segment)                                                  \
    X(our_fin_leaves_the_other_direction_open)                                                     \
    X(a_reset_by_the_peer_closes_with_econnreset)                                                  \
    X(what_is_written_before_release_is_still_sent)                                                \
    X(a_released_stream_whose_peer_takes_nothing_ends_after_the_linger_time)

RIG_MAIN("test_sock", TESTS)
