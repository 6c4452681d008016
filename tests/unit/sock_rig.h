/*
 * sock_rig: kernel sockets under test: a shard on the test's clock, one network over either engine,
 * sessions that note what they are told, and raw sockets as their peers.
 *
 * The same tests run over both engines: see RIG_RUN. rig_close asserts that every buffer is back in
 * the pool and every descriptor closed.
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/sock/sock_private.h"

#define RIG_POOL_COUNT 2047
#define RIG_SECOND_NS 1000000000ull

struct rig;

/* One of our streams and what its session has seen. */
struct rig_conn {
    struct rig *rig;
    struct stream *stream; /* NULL: released */
    uint32_t events;       /* all that came */
    unsigned notified, closed_count;
    int error;
    bool takes; /* consumes what comes, comparing it with the pattern */
    uint64_t taken, written;
};

struct rig {
    const char *engine;
    struct world world;
    uint64_t now_ns;
    struct logger logger;
    struct shard shard;
    struct uring uring;
    struct rte_mempool *pool;
    unsigned pool_count;
    struct network *network;
    struct rig_conn *conns; /* as accepted or connected, in that order */
    unsigned conn_count, conn_room, accepted_count;
    bool accepted_take; /* what `takes` is of those accepted */
    unsigned fds_before;
    char directory[32]; /* for unix sockets */
};

struct rig_settings {
    unsigned buffer_count; /* 0: 64 */
    unsigned pool_count;   /* 0: RIG_POOL_COUNT */
    unsigned backlog;
};

/* NULL: as they come. */
struct rig *rig_open(void **state, const struct rig_settings *settings);
/* Closes the network, whatever is open on it; then all must be back. */
void rig_close(struct rig *rig);
/* Only the network, to look at what that does. */
void rig_network_close(struct rig *rig);

/* Rounds until `condition` holds; fails after ten seconds. */
#define RIG_UNTIL(rig, condition)                                                                  \
    for (uint64_t rig_limit_ns = rig_limit(); !(condition);) {                                     \
        rig_turn(rig, rig_limit_ns, #condition, __FILE__, __LINE__);                               \
    }
uint64_t rig_limit(void);
void rig_turn(struct rig *rig, uint64_t limit_ns, const char *awaited, const char *file, int line);
void rig_rounds(struct rig *rig, unsigned count);

/* kind: an enum endpoint_family. IPv4 and IPv6 on loopback with a port that is free. */
struct endpoint rig_endpoint(struct rig *rig, int kind, const char *name);
struct listener *rig_listen(struct rig *rig, int kind, struct endpoint *at);
int rig_connect_to(struct rig *rig, const struct endpoint *to, struct rig_conn **conn);

/* A raw socket that listens; blocking. Fills in the port. */
int rig_raw_listen(struct endpoint *at, int backlog);
/* A raw socket connected to `to`, the accepted stream's session in *conn. */
int rig_raw_pair(struct rig *rig, const struct endpoint *to, struct rig_conn **conn);
/* Sets SO_LINGER so that close resets. */
void rig_raw_reset(int fd);

struct rig_conn *rig_last(struct rig *rig);
/* The byte at a place of the stream that all tests send. */
static inline uint8_t rig_byte(uint64_t place)
{
    return (uint8_t)(place * 2654435761u >> 13);
}
void rig_fill(uint8_t *bytes, size_t size, uint64_t from);
/* Consumes at most this many and compares them with the pattern; returns how many. */
size_t rig_take(struct rig_conn *conn, size_t most);
void rig_release(struct rig_conn *conn);
unsigned rig_fd_count(void);

/* Memory with a ref that counts its end, and asserts that the kernel no longer reads it. Static in a test, since a
 * test that fails leaves streams that hold it. */
struct rig_memory {
    struct ref ref;
    struct rig_conn *conn;
    struct sock_stream *stream; /* NULL: gone, the network is closed */
    unsigned released_count;
    size_t size;
    uint8_t *bytes;
};
void rig_memory_open(struct rig_memory *memory, struct rig_conn *conn, size_t size);
void rig_memory_close(struct rig_memory *memory); /* must have been released once */

/* Runs a list of tests, TESTS(X) with X(test) for each, over one engine after the other. */
int rig_setup_uring(void **state);
int rig_setup_epoll(void **state);
int rig_teardown(void **state);
int rig_run(const char *program, const struct CMUnitTest *uring, const struct CMUnitTest *epoll,
            size_t count);
#define RIG_OVER_URING(test) {"io_uring: " #test, test, rig_setup_uring, rig_teardown, NULL},
#define RIG_OVER_EPOLL(test) {"epoll: " #test, test, rig_setup_epoll, rig_teardown, NULL},
#define RIG_MAIN(program, TESTS)                                                                   \
    int main(void)                                                                                 \
    {                                                                                              \
        static const struct CMUnitTest uring[] = {TESTS(RIG_OVER_URING)};                          \
        static const struct CMUnitTest epoll[] = {TESTS(RIG_OVER_EPOLL)};                          \
        return rig_run(program, uring, epoll, sizeof(uring) / sizeof(*uring));                     \
    }
