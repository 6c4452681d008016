/* Kernel sockets over both engines, when things go wrong: ends at bad moments, shortages, races. */
#include "tests/unit/sock_rig.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MEBIBYTE (1024u * 1024u)

/* Writes the pattern until the socket takes no more or `most` is reached; returns how much it took. */
static uint64_t raw_write(int fd, uint64_t from, uint64_t most)
{
    uint8_t bytes[4096];
    uint64_t all = 0;
    while (all < most) {
        size_t size = most - all < sizeof(bytes) ? (size_t)(most - all) : sizeof(bytes);
        rig_fill(bytes, size, from + all);
        ssize_t sent = write(fd, bytes, size);
        if (sent <= 0) {
            break;
        }
        all += (uint64_t)sent;
    }
    return all;
}

/* ---- Ends behind bytes ---- */

/* Linux waits for room in a request's name only so many times, and then says -EAGAIN. */
static void a_send_that_has_waited_in_vain_is_sent_again(void **state)
{
    static uint8_t bytes[2 * STREAM_WRITE_MAX];
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at = rig_endpoint(rig, ENDPOINT_UNIX, "s");
    rig_listen(rig, ENDPOINT_UNIX, &at);
    struct rig_conn *in;
    int fd = rig_raw_pair(rig, &at, &in);
    struct sock_stream *s = list_entry(in->stream, struct sock_stream, stream);
    assert_int_equal(stream_write(in->stream, slice_of(bytes, STREAM_WRITE_MAX)), 0);
    RIG_UNTIL(rig, stream_queued(in->stream) == 0);
    assert_int_equal(stream_write(in->stream, slice_of(bytes, STREAM_WRITE_MAX)), 0);
    if (s->send_op.done != NULL) { /* as if it had been under way */
        s->sending = true;
        s->requests++;
        s->send_op.done(&s->send_op, -EAGAIN, 0);
    }
    RIG_UNTIL(rig, stream_queued(in->stream) == 0);
    assert_int_equal(in->closed_count, 0);
    assert_int_equal(recv(fd, bytes, sizeof(bytes), MSG_WAITALL), sizeof(bytes));
    close(fd);
    rig_close(rig);
}

static void a_fin_behind_a_burst_is_seen(void **state)
{
    struct rig *rig = rig_open(state, &(struct rig_settings){.buffer_count = 1024});
    static const int kinds[] = {ENDPOINT_UNIX, ENDPOINT_IPV4};
    for (size_t i = 0; i < 2; i++) {
        struct endpoint at;
        struct listener *listener = rig_listen(rig, kinds[i], &at);
        struct rig_conn *in;
        int fd = rig_raw_pair(rig, &at, &in);
        stream_read_stop(in->stream);
        rig_rounds(rig, 5);
        uint64_t sent = raw_write(fd, 0, 150000); /* more than 64 receives of one buffer */
        assert_int_equal(sent, 150000);
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        stream_read_start(in->stream);
        RIG_UNTIL(rig, in->events & STREAM_HALF_CLOSED);
        assert_int_equal(in->taken, sent);
        close(fd);
        rig->network->ops->unlisten(rig->network, listener);
    }
    rig_close(rig);
}

static void a_reset_behind_a_burst_is_seen(void **state)
{
    struct rig *rig = rig_open(state, &(struct rig_settings){.buffer_count = 1024});
    struct endpoint at;
    rig_listen(rig, ENDPOINT_IPV4, &at);
    struct rig_conn *in;
    int fd = rig_raw_pair(rig, &at, &in);
    stream_read_stop(in->stream);
    rig_rounds(rig, 5);
    assert_true(raw_write(fd, 0, 200000) > 100000);
    rig_raw_reset(fd);
    stream_read_start(in->stream);
    RIG_UNTIL(rig, in->closed_count == 1);
    assert_int_equal(in->error, -ECONNRESET);
    rig_close(rig);
}

static void a_peer_that_shuts_both_ways_ends_a_send_that_waits_for_it(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at;
    rig_listen(rig, ENDPOINT_UNIX, &at);
    struct rig_conn *in;
    int fd = rig_raw_pair(rig, &at, &in);
    static struct rig_memory memory;
    rig_memory_open(&memory, in, 4 * MEBIBYTE);
    stream_read_stop(in->stream);
    assert_int_equal(stream_write_ref(in->stream, slice_of(memory.bytes, memory.size), &memory.ref),
                     0);
    ref_drop(&memory.ref);
    rig_rounds(rig, 20);
    assert_int_equal(memory.released_count, 0);
    assert_int_equal(shutdown(fd, SHUT_RDWR), 0);
    RIG_UNTIL(rig, in->closed_count == 1 && memory.released_count == 1);
    assert_int_equal(in->error, -EPIPE); /* and no SIGPIPE */
    rig_memory_close(&memory);
    close(fd);
    rig_close(rig);
}

static void the_last_words_of_a_peer_that_resets_are_read_although_a_send_fails(void **state)
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
    rig_rounds(rig, 20);
    assert_int_equal(memory.released_count, 0);
    assert_int_equal(raw_write(fd, 0, 1000), 1000);
    close(fd); /* with bytes unread: a reset */
    RIG_UNTIL(rig, in->closed_count == 1);
    assert_int_equal(in->taken, 1000);
    assert_true(in->error == -ECONNRESET || in->error == -EPIPE);
    RIG_UNTIL(rig, memory.released_count == 1);
    rig_close(rig);
}

/* ---- Writes under way ---- */

enum { BEFORE_FLUSH, AFTER_FLUSH, SENDING, PARTLY_SENT, MOMENTS };

static void run_to(struct rig *rig, int moment, int fd)
{
    static const unsigned rounds[] = {0, 1, 20, 20};
    uint8_t bytes[65536];
    rig_rounds(rig, rounds[moment]);
    for (unsigned i = 0; moment == PARTLY_SENT && i < 20; i++) {
        assert_true(read(fd, bytes, sizeof(bytes)) != 0);
        rig_rounds(rig, 1);
    }
}

static void writes_in_flight_are_let_go_once_when_the_stream_is_aborted(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    for (int moment = 0; moment < 2 * MOMENTS; moment++) {
        struct endpoint at;
        struct listener *listener =
            rig_listen(rig, moment < MOMENTS ? ENDPOINT_IPV4 : ENDPOINT_UNIX, &at);
        struct rig_conn *in;
        int fd = rig_raw_pair(rig, &at, &in);
        static struct rig_memory memory[3];
        for (size_t i = 0; i < 3; i++) {
            rig_memory_open(&memory[i], in, i == 2 ? 16 * MEBIBYTE : 50000);
            assert_int_equal(stream_write(in->stream, slice_text("between")), 0);
            assert_int_equal(stream_write_ref(in->stream, slice_of(memory[i].bytes, memory[i].size),
                                              &memory[i].ref),
                             0);
            ref_drop(&memory[i].ref);
        }
        run_to(rig, moment % MOMENTS, fd);
        assert_int_equal(memory[2].released_count, 0);
        stream_abort(in->stream);
        if (moment % 2 == 1) {
            rig_release(in);
        } else {
            RIG_UNTIL(rig, in->closed_count == 1);
            assert_int_equal(in->error, -ECONNABORTED);
            rig_release(in);
        }
        RIG_UNTIL(rig, sock_counters(rig->network)->streams == 0);
        for (size_t i = 0; i < 3; i++) {
            rig_memory_close(&memory[i]);
        }
        close(fd);
        rig->network->ops->unlisten(rig->network, listener);
    }
    rig_close(rig);
}

static void a_peer_of_an_aborted_stream_is_reset(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at;
    rig_listen(rig, ENDPOINT_IPV4, &at);
    struct rig_conn *in;
    int fd = rig_raw_pair(rig, &at, &in);
    uint8_t byte;
    stream_abort(in->stream);
    rig_release(in);
    RIG_UNTIL(rig, read(fd, &byte, 1) < 0 && errno != EAGAIN);
    assert_int_equal(errno, ECONNRESET);
    close(fd);
    rig_close(rig);
}

static void writes_in_flight_are_let_go_once_when_the_peer_resets(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    for (int moment = 0; moment < MOMENTS; moment++) {
        struct endpoint at;
        struct listener *listener = rig_listen(rig, ENDPOINT_IPV4, &at);
        struct rig_conn *in;
        int fd = rig_raw_pair(rig, &at, &in);
        static struct rig_memory memory;
        rig_memory_open(&memory, in, 16 * MEBIBYTE);
        assert_int_equal(
            stream_write_ref(in->stream, slice_of(memory.bytes, memory.size), &memory.ref), 0);
        ref_drop(&memory.ref);
        run_to(rig, moment, fd);
        rig_raw_reset(fd);
        RIG_UNTIL(rig, in->closed_count == 1 && memory.released_count == 1);
        assert_true(in->error == -ECONNRESET || in->error == -EPIPE);
        rig_release(in);
        rig->network->ops->unlisten(rig->network, listener);
    }
    rig_close(rig);
}

static void the_network_closes_with_everything_open(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at, local, silent = rig_endpoint(rig, ENDPOINT_IPV4, NULL);
    rig_listen(rig, ENDPOINT_IPV4, &at);
    rig_listen(rig, ENDPOINT_UNIX, &local);
    int silent_fd = rig_raw_listen(&silent, 0);
    struct rig_conn *writes, *holds, *connects, *released;
    int fds[4];
    fds[0] = rig_raw_pair(rig, &at, &writes);
    static struct rig_memory memory[2];
    rig_memory_open(&memory[0], writes, 16 * MEBIBYTE);
    assert_int_equal(
        stream_write_ref(writes->stream, slice_of(memory[0].bytes, memory[0].size), &memory[0].ref),
        0);
    fds[1] = rig_raw_pair(rig, &local, &holds);
    holds->takes = false;
    raw_write(fds[1], 0, MEBIBYTE);
    fds[2] = rig_raw_pair(rig, &local, &released);
    rig_memory_open(&memory[1], released, 16 * MEBIBYTE);
    assert_int_equal(stream_write_ref(released->stream, slice_of(memory[1].bytes, memory[1].size),
                                      &memory[1].ref),
                     0);
    rig_release(released);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(rig_connect_to(rig, &silent, &connects), 0);
    }
    rig_rounds(rig, 20);
    fds[3] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* accepted by nobody but the kernel */
    struct sockaddr_storage address;
    socklen_t length = endpoint_to_sockaddr(&at, &address);
    assert_int_equal(connect(fds[3], (struct sockaddr *)&address, length), 0);
    assert_int_equal(stream_write(holds->stream, slice_text("not flushed")), 0);
    rig_network_close(rig);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(memory[i].ref.count, 1);
        memory[i].stream = NULL;
        ref_drop(&memory[i].ref);
        rig_memory_close(&memory[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        close(fds[i]);
    }
    close(silent_fd);
    rig_close(rig);
}

/* ---- Sessions that act from within events ---- */

static void stop_the_other(struct stream *stream, uint32_t events, void *session)
{
    struct rig_conn *other = session;
    struct rig *rig = other->rig;
    struct rig_conn *self = other == &rig->conns[0] ? &rig->conns[1] : &rig->conns[0];
    (void)stream;
    self->events |= events;
    stream_read_stop(other->stream);
}

static void a_stream_stopped_in_the_same_round_is_not_told_of_bytes(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at;
    rig_listen(rig, ENDPOINT_UNIX, &at);
    struct rig_conn *a, *b;
    int fds[] = {rig_raw_pair(rig, &at, &a), rig_raw_pair(rig, &at, &b)};
    rig_rounds(rig, 5);
    a->stream->notify = b->stream->notify = stop_the_other;
    a->stream->session = b;
    b->stream->session = a;
    raw_write(fds[0], 0, 100);
    raw_write(fds[1], 0, 100);
    RIG_UNTIL(rig, (a->events | b->events) & STREAM_READABLE);
    rig_rounds(rig, 20);
    assert_int_equal((a->events & STREAM_READABLE) + (b->events & STREAM_READABLE),
                     STREAM_READABLE);
    struct rig_conn *stopped = a->events & STREAM_READABLE ? b : a;
    stream_read_start(stopped->stream);
    RIG_UNTIL(rig, stopped->events & STREAM_READABLE);
    close(fds[0]);
    close(fds[1]);
    rig_close(rig);
}

static void abort_and_release_all(struct stream *stream, uint32_t events, void *session)
{
    struct rig *rig = session;
    (void)stream;
    (void)events;
    for (unsigned i = 0; i < rig->conn_count; i++) {
        if (rig->conns[i].stream != NULL) {
            if (i % 2 == 0) {
                stream_abort(rig->conns[i].stream);
            }
            rig_release(&rig->conns[i]);
        }
    }
}

static void a_session_may_release_all_streams_from_one_event(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at;
    int fds[8];
    rig_listen(rig, ENDPOINT_IPV4, &at);
    for (size_t i = 0; i < 8; i++) {
        struct rig_conn *in;
        fds[i] = rig_raw_pair(rig, &at, &in);
        in->stream->notify = abort_and_release_all;
        in->stream->session = rig;
    }
    for (size_t i = 0; i < 8; i++) {
        raw_write(fds[i], 0, 30000);
    }
    RIG_UNTIL(rig, rig->conns[7].stream == NULL);
    for (size_t i = 0; i < 8; i++) {
        close(fds[i]);
    }
    RIG_UNTIL(rig, sock_counters(rig->network)->streams == 0);
    rig_close(rig);
}

/* ---- Shortages ---- */

static void all_buffers_come_back_from_many_connections(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at;
    rig_listen(rig, ENDPOINT_UNIX, &at);
    uint64_t bytes = 0;
    for (unsigned i = 0; i < 600; i++) {
        struct rig_conn *in;
        int fd = rig_raw_pair(rig, &at, &in);
        in->takes = i % 2 == 0;
        bytes += raw_write(fd, 0, 1 + (i * 977) % 20000);
        if (i % 3 != 0) {
            RIG_UNTIL(rig, in->events & STREAM_READABLE);
        }
        if (i % 5 == 0) {
            stream_abort(in->stream);
        }
        rig_release(in);
        close(fd);
    }
    RIG_UNTIL(rig, sock_counters(rig->network)->streams == 0);
    rig_rounds(rig, 2);
    unsigned lent = strcmp(rig->engine, "io_uring") == 0 ? 64 : 0;
    assert_int_equal(rte_mempool_avail_count(rig->pool), rig->pool_count - lent);
    assert_int_equal(sock_counters(rig->network)->accepted, 600);
    assert_true(bytes > MEBIBYTE);
    rig_close(rig);
}

static void bytes_arrive_exactly_when_buffers_are_out_most_of_the_time(void **state)
{
    enum { COUNT = 12 };
    const uint64_t total = 100000;
    struct rig *rig = rig_open(state, &(struct rig_settings){.buffer_count = 4, .pool_count = 31});
    struct endpoint at;
    int fds[COUNT];
    uint64_t sent[COUNT] = {0};
    rig->accepted_take = false;
    rig_listen(rig, ENDPOINT_UNIX, &at);
    for (size_t i = 0; i < COUNT; i++) {
        struct rig_conn *in;
        fds[i] = rig_raw_pair(rig, &at, &in);
    }
    uint64_t taken = 0, limit_ns = rig_limit();
    for (unsigned turn = 0; taken < COUNT * total; turn++) {
        for (size_t i = 0; i < COUNT; i++) {
            sent[i] += raw_write(fds[i], sent[i], total - sent[i]);
        }
        rig_turn(rig, limit_ns, "all bytes", __FILE__, __LINE__);
        /* One at a time, and not at once, so that the others hold what there is. */
        if (turn % 8 == 7) {
            size_t got = rig_take(&rig->conns[turn / 8 % COUNT], 5000);
            taken += got;
            /* It is bytes that must come; some 2,000 turns may last long on a machine that is busy with other work. */
            limit_ns = got > 0 ? rig_limit() : limit_ns;
        }
    }
    assert_true(sock_counters(rig->network)->starved > 0);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(rig->conns[i].taken, total);
        close(fds[i]);
    }
    RIG_UNTIL(rig, rig->conns[COUNT - 1].events & STREAM_HALF_CLOSED);
    rig_close(rig);
}

static void a_starved_stream_can_be_released_and_aborted(void **state)
{
    enum { COUNT = 6 };
    struct rig *rig = rig_open(state, &(struct rig_settings){.buffer_count = 4, .pool_count = 15});
    struct endpoint at;
    int fds[COUNT];
    rig->accepted_take = false;
    rig_listen(rig, ENDPOINT_UNIX, &at);
    for (size_t i = 0; i < COUNT; i++) {
        struct rig_conn *in;
        fds[i] = rig_raw_pair(rig, &at, &in);
        raw_write(fds[i], 0, 60000);
    }
    RIG_UNTIL(rig, !list_empty(&((struct sock_network *)(void *)rig->network)->starved));
    for (size_t i = 0; i < COUNT; i++) {
        if (i % 2 == 0) {
            stream_abort(rig->conns[i].stream);
        }
        rig_release(&rig->conns[i]);
        rig_rounds(rig, 1);
        close(fds[i]);
    }
    RIG_UNTIL(rig, sock_counters(rig->network)->streams == 0);
    rig_close(rig);
}

static void accept_without_descriptors_does_not_spin_and_recovers(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct rlimit before, low;
    struct endpoint at;
    int fds[4];
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct sockaddr_storage address;
    for (size_t i = 0; i < 4; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(fds[i] >= 0);
    }
    struct listener *listener = rig_listen(rig, ENDPOINT_IPV4, &at);
    low = before;
    low.rlim_cur = (rlim_t)listener->fd + 1; /* every lower one is taken */
    while (true) {
        int spare = dup(0);
        assert_true(spare >= 0);
        close(spare);
        if (spare > listener->fd) {
            break;
        }
        low.rlim_cur = (rlim_t)listener->fd;
        fail_msg("a descriptor below the listener is free");
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    socklen_t length = endpoint_to_sockaddr(&at, &address);
    int status = 0;
    for (size_t i = 0; i < 4; i++) {
        status |= connect(fds[i], (struct sockaddr *)&address, length);
    }
    /* Ten tries in the first second of the shard's clock, however often the shard goes round. */
    for (unsigned i = 0; i < 2000; i++) {
        rig->now_ns += RIG_SECOND_NS / 2000;
        shard_round(&rig->shard);
    }
    uint64_t failures = sock_counters(rig->network)->accept_failures;
    unsigned accepted = rig->accepted_count;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(status, 0);
    assert_int_equal(accepted, 0);
    assert_in_range(failures, 1, 11);
    rig->now_ns += RIG_SECOND_NS;
    RIG_UNTIL(rig, rig->accepted_count == 4);
    for (size_t i = 0; i < 4; i++) {
        close(fds[i]);
    }
    rig_close(rig);
}

/* ---- Unix paths ---- */

static int listen_status(struct rig *rig, const struct endpoint *at)
{
    struct listen_request request = {.at = *at};
    struct listener *listener;
    int status = rig->network->ops->listen(rig->network, &request, &listener);
    if (status == 0) {
        rig->network->ops->unlisten(rig->network, listener);
    }
    return status;
}

static void a_path_that_somebody_serves_is_left_alone_whatever_its_type(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at = rig_endpoint(rig, ENDPOINT_UNIX, "served");
    static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
    struct sockaddr_storage address;
    socklen_t length = endpoint_to_sockaddr(&at, &address);
    struct stat found;
    for (size_t i = 0; i < 3; i++) {
        int fd = socket(AF_UNIX, types[i] | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
        if (types[i] != SOCK_DGRAM) {
            assert_int_equal(listen(fd, 1), 0);
        }
        assert_int_equal(listen_status(rig, &at), -EADDRINUSE);
        assert_int_equal(lstat(at.path, &found), 0);
        close(fd);
        if (i + 1 < 3) {
            unlink(at.path);
        }
    }
    assert_int_equal(listen_status(rig, &at), 0); /* nobody serves it now */
    int fd = open(at.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(listen_status(rig, &at), -EEXIST);
    assert_int_equal(unlink(at.path), 0);
    rig_close(rig);
}

static void a_unix_listener_whose_backlog_is_full_refuses_at_once(void **state)
{
    struct rig *rig = rig_open(state, NULL);
    struct endpoint at = rig_endpoint(rig, ENDPOINT_UNIX, "full");
    int fd = rig_raw_listen(&at, 0);
    struct rig_conn *out[3];
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(rig_connect_to(rig, &at, &out[i]), 0);
    }
    RIG_UNTIL(rig, out[2]->closed_count == 1);
    assert_int_equal(out[2]->error, -EAGAIN);
    assert_int_equal(out[0]->events, STREAM_CONNECTED);
    close(fd);
    unlink(at.path);
    rig_close(rig);
}

#define TESTS(X)                                                                                   \
    X(a_send_that_has_waited_in_vain_is_sent_again)                                                \
    X(a_fin_behind_a_burst_is_seen)                                                                \
    X(a_reset_behind_a_burst_is_seen)                                                              \
    X(a_peer_that_shuts_both_ways_ends_a_send_that_waits_for_it)                                   \
    X(the_last_words_of_a_peer_that_resets_are_read_although_a_send_fails)                         \
    X(writes_in_flight_are_let_go_once_when_the_stream_is_aborted)                                 \
    X(a_peer_of_an_aborted_stream_is_reset)                                                        \
    X(writes_in_flight_are_let_go_once_when_the_peer_resets)                                       \
    X(the_network_closes_with_everything_open)                                                     \
    X(a_stream_stopped_in_the_same_round_is_not_told_of_bytes)                                     \
    X(a_session_may_release_all_streams_from_one_event)                                            \
    X(all_buffers_come_back_from_many_connections)                                                 \
    X(bytes_arrive_exactly_when_buffers_are_out_most_of_the_time)                                  \
    X(a_starved_stream_can_be_released_and_aborted)                                                \
    X(accept_without_descriptors_does_not_spin_and_recovers)                                       \
    X(a_path_that_somebody_serves_is_left_alone_whatever_its_type)                                 \
    X(a_unix_listener_whose_backlog_is_full_refuses_at_once)

RIG_MAIN("test_sock_fault", TESTS)
