/* Kernel sockets over both engines under acts in random order: nothing is lost, doubled or kept. */
#include "tests/unit/sock_rig.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLOT_COUNT 100 /* more than the io_uring has entries */
#define SEED_COUNT 12
#define STEP_COUNT 3000
#define MEMORY_BYTES (4u * 1024u * 1024u)

/* A connection: our stream and the raw socket at its other end. */
struct slot {
    struct rig_conn *conn;   /* NULL: no connection */
    int fd;                  /* -1: closed */
    uint64_t sent, received; /* by the raw end */
};

struct hammer {
    struct rig *rig;
    uint64_t random;
    struct endpoint at[2];
    struct slot slots[SLOT_COUNT];
    struct ref ref; /* of all memory that is written by reference */
    uint8_t *memory;
    unsigned released_count;
};

static uint32_t chance(struct hammer *h, uint32_t below)
{
    h->random ^= h->random << 13;
    h->random ^= h->random >> 7;
    h->random ^= h->random << 17;
    return (uint32_t)((h->random >> 16) % below);
}

static void memory_released(struct ref *ref)
{
    list_entry(ref, struct hammer, ref)->released_count++;
}

/* ---- The raw end ---- */

static void raw_send(struct hammer *h, struct slot *slot)
{
    uint8_t bytes[8192];
    size_t size = 1 + chance(h, chance(h, 2) == 0 ? 100 : sizeof(bytes));
    rig_fill(bytes, size, slot->sent);
    ssize_t sent = send(slot->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    slot->sent += sent > 0 ? (uint64_t)sent : 0;
}

static void raw_receive(struct hammer *h, struct slot *slot)
{
    static uint8_t bytes[65536];
    (void)h;
    ssize_t size = recv(slot->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    for (ssize_t i = 0; i < size; i++) {
        assert_int_equal(bytes[i], rig_byte(slot->received + (uint64_t)i));
    }
    slot->received += size > 0 ? (uint64_t)size : 0;
    assert_true(slot->received <= slot->conn->written);
}

static void raw_end(struct hammer *h, struct slot *slot)
{
    static const int ways[] = {SHUT_RD, SHUT_WR, SHUT_RDWR};
    uint32_t way = chance(h, 5);
    if (way < 3) {
        shutdown(slot->fd, ways[way]);
        return;
    }
    if (way == 3) {
        close(slot->fd);
    } else {
        rig_raw_reset(slot->fd);
    }
    slot->fd = -1;
}

/* ---- Our end ---- */

static void conn_send(struct hammer *h, struct rig_conn *conn)
{
    bool copied = chance(h, 2) == 0;
    size_t size = 1 + chance(h, copied ? STREAM_WRITE_MAX : 200000);
    if (conn->written + size > MEMORY_BYTES) {
        return;
    }
    struct slice bytes = slice_of(h->memory + conn->written, size);
    int status =
        copied ? stream_write(conn->stream, bytes) : stream_write_ref(conn->stream, bytes, &h->ref);
    assert_true(status == 0 || status == -EAGAIN || status == -EPIPE);
    conn->written += status == 0 ? size : 0;
}

static void conn_act(struct hammer *h, struct rig_conn *conn)
{
    struct stream_facts facts;
    switch (chance(h, 12)) {
    case 0:
        stream_read_stop(conn->stream);
        break;
    case 1:
    case 2:
        stream_read_start(conn->stream);
        break;
    case 3:
        conn->takes = !conn->takes;
        break;
    case 4:
        rig_take(conn, 1 + chance(h, 20000));
        break;
    case 5:
        if (chance(h, 4) == 0) {
            stream_shut(conn->stream);
        }
        break;
    case 6:
        if (chance(h, 6) == 0) {
            stream_abort(conn->stream);
        }
        break;
    case 7:
        stream_facts(conn->stream, &facts);
        break;
    default:
        conn_send(h, conn);
    }
}

static void slot_close(struct slot *slot)
{
    if (slot->conn != NULL && slot->conn->stream != NULL) {
        rig_release(slot->conn);
    }
    if (slot->fd >= 0) {
        close(slot->fd);
    }
    *slot = (struct slot){.fd = -1};
}

static void step(struct hammer *h)
{
    struct slot *slot = &h->slots[chance(h, SLOT_COUNT)];
    if (slot->conn == NULL) {
        slot->fd = rig_raw_pair(h->rig, &h->at[chance(h, 2)], &slot->conn);
        return;
    }
    struct rig_conn *conn = slot->conn;
    uint32_t act = chance(h, 100);
    if (conn->stream != NULL) {
        assert_true(conn->taken <= slot->sent);
    }
    if (act < 30 && slot->fd >= 0) {
        raw_send(h, slot);
    } else if (act < 50 && slot->fd >= 0) {
        raw_receive(h, slot);
    } else if (act < 55 && slot->fd >= 0) {
        raw_end(h, slot);
    } else if (act < 93 && conn->stream != NULL) {
        conn_act(h, conn);
    } else if (act < 97 && conn->stream != NULL) {
        rig_release(conn);
    } else if (conn->stream == NULL || conn->closed_count > 0) {
        slot_close(slot);
    }
}

static void hammer_run(struct rig *rig, uint8_t *memory, uint64_t seed, bool orderly)
{
    static struct hammer h; /* a test that fails leaves streams that hold its ref */
    h = (struct hammer){.rig = rig, .random = seed * 0x9e3779b97f4a7c15u, .memory = memory};
    ref_init(&h.ref, memory_released);
    struct listener *listeners[] = {rig_listen(rig, ENDPOINT_UNIX, &h.at[0]),
                                    rig_listen(rig, ENDPOINT_IPV4, &h.at[1])};
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        h.slots[i].fd = -1;
    }
    for (unsigned i = 0; i < STEP_COUNT; i++) {
        step(&h);
        if (chance(&h, 4) == 0) {
            rig->now_ns += RIG_SECOND_NS / 1000;
            shard_round(&rig->shard);
        }
    }
    if (orderly) {
        for (size_t i = 0; i < SLOT_COUNT; i++) {
            slot_close(&h.slots[i]);
        }
        rig_rounds(rig, 20);
        rig->now_ns += 31 * RIG_SECOND_NS;
        RIG_UNTIL(rig, sock_counters(rig->network)->streams == 0);
        rig->network->ops->unlisten(rig->network, listeners[0]);
        rig->network->ops->unlisten(rig->network, listeners[1]);
    } else {
        rig_network_close(rig);
        for (size_t i = 0; i < SLOT_COUNT; i++) {
            h.slots[i].conn = NULL;
            slot_close(&h.slots[i]);
        }
    }
    assert_int_equal(h.ref.count, 1);
    ref_drop(&h.ref);
    assert_int_equal(h.released_count, 1);
}

static const struct rig_settings settings[] = {
    {.buffer_count = 256},
    {.buffer_count = 1024},                 /* more than the io_uring has room for completions */
    {.buffer_count = 8, .pool_count = 127}, /* starved */
};

static void hammer_all(void **state, bool orderly)
{
    static uint8_t memory[MEMORY_BYTES];
    rig_fill(memory, sizeof(memory), 0);
    for (uint64_t seed = 1; seed <= SEED_COUNT; seed++) {
        struct rig *rig = rig_open(state, &settings[seed % 3]);
        hammer_run(rig, memory, seed + (orderly ? 0 : 1000), orderly);
        rig_close(rig);
    }
}

static void whatever_happens_in_whatever_order_all_comes_back(void **state)
{
    hammer_all(state, true);
}

static void whatever_is_open_all_comes_back_when_the_network_closes(void **state)
{
    hammer_all(state, false);
}

#define TESTS(X)                                                                                   \
    X(whatever_happens_in_whatever_order_all_comes_back)                                           \
    X(whatever_is_open_all_comes_back_when_the_network_closes)

RIG_MAIN("test_sock_random", TESTS)
