#include "tests/unit/sock_rig.h"
#include "engine/shard/memory.h"
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_NS (10 * RIG_SECOND_NS)
#define CONNS_MAX 4096

static uint64_t rig_now_ns(void *self)
{
    return ((struct rig *)self)->now_ns;
}

static uint64_t real_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * RIG_SECOND_NS + (uint64_t)now.tv_nsec;
}

unsigned rig_fd_count(void)
{
    DIR *directory = opendir("/proc/self/fd");
    unsigned count = 0;
    assert_non_null(directory);
    while (readdir(directory) != NULL) {
        count++;
    }
    closedir(directory);
    return count;
}

/* ---- Opening, running, closing ---- */

static unsigned poll_network(void *self, uint64_t now_ns)
{
    struct rig *rig = self;
    return rig->network == NULL ? 0 : rig->network->ops->poll(rig->network, now_ns);
}

static void flush_network(void *self, uint64_t now_ns)
{
    struct rig *rig = self;
    if (rig->network != NULL) {
        rig->network->ops->flush(rig->network, now_ns);
    }
}

struct rig *rig_open(void **state, const struct rig_settings *settings)
{
    static const struct rig_settings none;
    struct rig *rig = *state;
    settings = settings == NULL ? &none : settings;
    rig->now_ns = 1000 * RIG_SECOND_NS;
    rig->accepted_take = true;
    rig->world = (struct world){.now_ns = rig_now_ns, .self = rig};
    rig->conn_room = CONNS_MAX;
    rig->conns = calloc(CONNS_MAX, sizeof(*rig->conns));
    rig->pool_count = settings->pool_count == 0 ? RIG_POOL_COUNT : settings->pool_count;
    rig->pool = memory_pool_open("sock", rig->pool_count, MEMORY_MBUF_BYTES);
    assert_non_null(rig->pool);
    strcpy(rig->directory, "/tmp/test_sock.XXXXXX");
    assert_non_null(mkdtemp(rig->directory));
    rig->fds_before = rig_fd_count();
    logger_open(&rig->logger, STDERR_FILENO, LOGGER_WARNING);
    const struct shard_settings shard = {
        .count = 1, .cpu = -1, .world = &rig->world, .logger = &rig->logger};
    assert_int_equal(shard_open(&rig->shard, &shard), 0);
    const struct shard_part part = {
        .name = "sock", .self = rig, .poll = poll_network, .flush = flush_network};
    shard_add(&rig->shard, &part);
    const struct sock_settings sock = {
        .shard = &rig->shard,
        .pool = rig->pool,
        .backlog = settings->backlog,
        .buffer_count = settings->buffer_count == 0 ? 64 : settings->buffer_count,
    };
    if (strcmp(rig->engine, "io_uring") == 0) {
        assert_int_equal(uring_open(&rig->uring, 64, URING_SLEEPS), 0);
        rig->shard.uring = &rig->uring;
        assert_int_equal(sock_open_uring(&rig->network, &sock), 0);
    } else {
        assert_int_equal(sock_open_epoll(&rig->network, &sock), 0);
    }
    return rig;
}

void rig_network_close(struct rig *rig)
{
    if (rig->network != NULL) {
        rig->network->ops->close(rig->network);
        rig->network = NULL;
    }
}

void rig_close(struct rig *rig)
{
    rig_network_close(rig);
    shard_close(&rig->shard);
    assert_int_equal(rig_fd_count(), rig->fds_before);
    assert_int_equal(rte_mempool_avail_count(rig->pool), rig->pool_count);
    memory_pool_close(rig->pool);
    rig->pool = NULL;
    assert_int_equal(rmdir(rig->directory), 0);
    free(rig->conns);
    *rig = (struct rig){.engine = rig->engine};
}

uint64_t rig_limit(void)
{
    return real_ns() + LIMIT_NS;
}

void rig_turn(struct rig *rig, uint64_t limit_ns, const char *awaited, const char *file, int line)
{
    if (shard_round(&rig->shard) > 0) {
        return;
    }
    if (real_ns() > limit_ns) {
        print_error("%s: did not come: %s\n", rig->engine, awaited);
        _fail(file, line);
    }
    sched_yield();
}

void rig_rounds(struct rig *rig, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        shard_round(&rig->shard);
    }
}

/* ---- Sessions ---- */

void rig_fill(uint8_t *bytes, size_t size, uint64_t from)
{
    for (size_t i = 0; i < size; i++) {
        bytes[i] = rig_byte(from + i);
    }
}

size_t rig_take(struct rig_conn *conn, size_t most)
{
    struct slice slices[16];
    size_t taken = 0;
    for (size_t count; taken < most && (count = stream_peek(conn->stream, slices, 16)) > 0;) {
        size_t bytes = 0;
        for (size_t i = 0; i < count && taken + bytes < most; i++) {
            size_t size = slices[i].size;
            size = size < most - taken - bytes ? size : most - taken - bytes;
            assert_true(size > 0);
            for (size_t at = 0; at < size; at++) {
                if (slices[i].bytes[at] != rig_byte(conn->taken + bytes + at)) {
                    fail_msg("byte %zu is another", (size_t)conn->taken + bytes + at);
                }
            }
            bytes += size;
        }
        stream_consume(conn->stream, bytes);
        conn->taken += bytes;
        taken += bytes;
    }
    return taken;
}

static void conn_notify(struct stream *stream, uint32_t events, void *session)
{
    struct rig_conn *conn = session;
    assert_ptr_equal(conn->stream, stream);
    conn->events |= events;
    conn->notified++;
    /* Nothing comes after the end, but that kept bytes can be read, which read_start says. */
    assert_true(conn->closed_count == 0 || events == STREAM_READABLE);
    if (events & STREAM_CLOSED) {
        conn->closed_count++;
        conn->error = stream->error;
    }
    if (conn->takes) {
        rig_take(conn, SIZE_MAX);
    }
}

static struct rig_conn *conn_new(struct rig *rig, struct stream *stream, bool takes)
{
    assert_true(rig->conn_count < rig->conn_room);
    struct rig_conn *conn = &rig->conns[rig->conn_count++];
    *conn = (struct rig_conn){.rig = rig, .stream = stream, .takes = takes};
    stream->notify = conn_notify;
    stream->session = conn;
    return conn;
}

static void conn_accepted(void *owner, struct listener *listener, struct stream *stream)
{
    struct rig *rig = owner;
    (void)listener;
    conn_new(rig, stream, rig->accepted_take);
    rig->accepted_count++;
}

struct rig_conn *rig_last(struct rig *rig)
{
    return &rig->conns[rig->conn_count - 1];
}

void rig_release(struct rig_conn *conn)
{
    stream_release(conn->stream);
    conn->stream = NULL;
}

/* ---- Ends ---- */

struct endpoint rig_endpoint(struct rig *rig, int kind, const char *name)
{
    struct endpoint at = {.family = (uint8_t)kind};
    if (kind == ENDPOINT_IPV4) {
        at.address[0] = 127;
        at.address[3] = 1;
    } else if (kind == ENDPOINT_IPV6) {
        at.address[15] = 1;
    } else {
        snprintf(at.path, sizeof(at.path), "%s/%s", rig->directory, name);
    }
    return at;
}

static void port_find(int fd, struct endpoint *at)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    if (at->family != ENDPOINT_UNIX) {
        assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
        assert_int_equal(endpoint_from_sockaddr(at, (struct sockaddr *)&address, length), 0);
    }
}

struct listener *rig_listen(struct rig *rig, int kind, struct endpoint *at)
{
    *at = rig_endpoint(rig, kind, "listens");
    struct listen_request request = {.at = *at, .accepted = conn_accepted, .owner = rig};
    struct listener *listener;
    assert_int_equal(rig->network->ops->listen(rig->network, &request, &listener), 0);
    port_find(listener->fd, at);
    return listener;
}

int rig_connect_to(struct rig *rig, const struct endpoint *to, struct rig_conn **conn)
{
    struct connect_request request = {.to = *to, .timeout_ns = 5 * RIG_SECOND_NS};
    struct stream *stream;
    int status = rig->network->ops->connect(rig->network, &request, &stream);
    if (status == 0) {
        *conn = conn_new(rig, stream, true);
    }
    return status;
}

static int raw_socket(const struct endpoint *at, struct sockaddr_storage *address,
                      socklen_t *length)
{
    *length = endpoint_to_sockaddr(at, address);
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    return fd;
}

int rig_raw_listen(struct endpoint *at, int backlog)
{
    struct sockaddr_storage address;
    socklen_t length;
    int fd = raw_socket(at, &address, &length);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(backlog < 0 ? 0 : listen(fd, backlog), 0);
    port_find(fd, at);
    return fd;
}

int rig_raw_pair(struct rig *rig, const struct endpoint *to, struct rig_conn **conn)
{
    struct sockaddr_storage address;
    socklen_t length;
    unsigned before = rig->accepted_count;
    int fd = raw_socket(to, &address, &length);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, length), 0);
    RIG_UNTIL(rig, rig->accepted_count > before);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    *conn = rig_last(rig);
    return fd;
}

void rig_raw_reset(int fd)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    close(fd);
}

/* ---- Referenced memory ---- */

static void memory_released(struct ref *ref)
{
    struct rig_memory *memory = (struct rig_memory *)ref;
    memory->released_count++;
    assert_int_equal(memory->released_count, 1);
    /* Too late for the kernel: reading it now would give it -EFAULT. */
    assert_false(memory->stream != NULL && memory->stream->sending && memory->stream->requests > 0);
    assert_int_equal(munmap(memory->bytes, memory->size), 0);
}

void rig_memory_open(struct rig_memory *memory, struct rig_conn *conn, size_t size)
{
    *memory = (struct rig_memory){.conn = conn, .size = size};
    memory->stream = list_entry(conn->stream, struct sock_stream, stream);
    ref_init(&memory->ref, memory_released);
    memory->bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory->bytes != MAP_FAILED);
    rig_fill(memory->bytes, size, conn->written);
}

void rig_memory_close(struct rig_memory *memory)
{
    assert_int_equal(memory->released_count, 1);
}

/* ---- Groups ---- */

static int setup(void **state, const char *engine)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    *state = rig;
    if (rig != NULL) {
        rig->engine = engine;
    }
    return rig == NULL ? -1 : 0;
}

int rig_setup_uring(void **state)
{
    return setup(state, "io_uring");
}

int rig_setup_epoll(void **state)
{
    return setup(state, "epoll");
}

/* What a test that failed has left. */
int rig_teardown(void **state)
{
    struct rig *rig = *state;
    if (rig->pool != NULL) {
        char path[64];
        rig_network_close(rig);
        shard_close(&rig->shard);
        memory_pool_close(rig->pool);
        snprintf(path, sizeof(path), "%s/listens", rig->directory);
        unlink(path);
        rmdir(rig->directory);
    }
    free(rig->conns);
    free(rig);
    return 0;
}

int rig_run(const char *program, const struct CMUnitTest *uring, const struct CMUnitTest *epoll,
            size_t count)
{
    const struct memory_settings memory = {.program = program, .megabytes = 64};
    int failed = 0;
    if (memory_start(&memory) < 0) {
        return 1;
    }
    if (uring_probe() == 0) {
        failed += _cmocka_run_group_tests("io_uring", uring, count, NULL, NULL);
    }
    failed += _cmocka_run_group_tests("epoll", epoll, count, NULL, NULL);
    memory_stop();
    return failed;
}
