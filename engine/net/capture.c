#define ALLOW_EXPERIMENTAL_API /* rte_pcapng of DPDK 22.11 */
#include "engine/net/capture.h"
#include "engine/net/stack_private.h"
#include "engine/shard/memory.h"
#include <rte_errno.h>
#include <rte_pcapng.h>
#include <rte_ring.h>
#include <stdio.h>
#include <unistd.h>

#define RING_FRAMES 1024u
#define POOL_BYTES (4u << 20)
#define POOL_FRAMES_MAX 2047u
#define BURST ((uint16_t)32)

struct tap {
    struct port port; /* what the stack sees meanwhile */
    struct port *inner;
    struct capture *capture;
    struct rte_ring *ring; /* from the shard to the writer */
    uint16_t device;
    atomic_ullong frames, lost;
};

struct capture {
    struct capture_settings settings;
    struct ip_address ends[2];
    struct rte_mempool *pool;
    rte_pcapng_t *file;
    uint64_t written;
    atomic_bool stopped;
    uint16_t tap_count;
    struct tap taps[]; /* those of a port's shards side by side */
};

/* ---- which frames ---- */

struct frame_ends {
    struct ip_address from, to;
    uint16_t from_port, to_port;
};

static bool ports_read(struct frame_ends *ends, const uint8_t *frame, uint32_t bytes, uint32_t at,
                       uint8_t protocol)
{
    if ((protocol == IPPROTO_TCP || protocol == IPPROTO_UDP) && bytes >= at + 4) {
        ends->from_port = (uint16_t)(frame[at] << 8 | frame[at + 1]);
        ends->to_port = (uint16_t)(frame[at + 2] << 8 | frame[at + 3]);
    }
    return true;
}

/* False: no IP. */
static bool ends_read(struct frame_ends *ends, const uint8_t *frame, uint32_t bytes)
{
    uint32_t at = 12;
    uint16_t type = 0;
    *ends = (struct frame_ends){0};
    while (bytes >= at + 2 && (type = (uint16_t)(frame[at] << 8 | frame[at + 1])) == 0x8100) {
        at += 4;
    }
    at += 2;
    if (type == RTE_ETHER_TYPE_IPV4 && bytes >= at + IPV4_BYTES) {
        uint32_t words[2];
        memcpy(words, frame + at + 12, sizeof(words));
        ends->from = ip_address_of_ipv4(words[0]);
        ends->to = ip_address_of_ipv4(words[1]);
        bool first = (frame[at + 6] & 0x1f) == 0 && frame[at + 7] == 0;
        return !first || ports_read(ends, frame, bytes, at + (frame[at] & 15u) * 4u, frame[at + 9]);
    }
    if (type == RTE_ETHER_TYPE_IPV6 && bytes >= at + IPV6_BYTES) {
        memcpy(ends->from.words, frame + at + 8, 16);
        memcpy(ends->to.words, frame + at + 24, 16);
        return ports_read(ends, frame, bytes, at + IPV6_BYTES, frame[at + 6]);
    }
    return false;
}

static bool is_wanted(const struct capture *capture, const struct rte_mbuf *frame)
{
    const struct endpoint *wanted = capture->settings.ends;
    struct frame_ends ends;
    if (wanted[0].family == ENDPOINT_NONE) {
        return true;
    }
    if (!ends_read(&ends, rte_pktmbuf_mtod(frame, const uint8_t *), frame->data_len)) {
        return false;
    }
    for (unsigned i = 0; i < 2; i++) {
        if (ends.from_port == wanted[i].port && ends.to_port == wanted[1 - i].port &&
            ip_address_equal(&ends.from, &capture->ends[i]) &&
            ip_address_equal(&ends.to, &capture->ends[1 - i])) {
            return true;
        }
    }
    return false;
}

/* ---- on the shard ---- */

/* Of one writer: no read-modify-write is needed. */
static void count(atomic_ullong *counter)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* NULL: not wanted, or no room. */
static struct rte_mbuf *copy_of(struct tap *tap, uint16_t queue, const struct rte_mbuf *frame,
                                enum rte_pcapng_direction direction)
{
    struct capture *capture = tap->capture;
    if (!is_wanted(capture, frame)) {
        return NULL;
    }
    struct rte_mbuf *copy =
        rte_pcapng_copy(tap->device, queue, frame, capture->pool, capture->settings.snap_bytes,
                        capture->settings.cycles(), direction);
    if (copy == NULL) {
        count(&tap->lost);
    }
    return copy;
}

static void hand_to_writer(struct tap *tap, struct rte_mbuf *copy)
{
    if (copy == NULL) {
        return;
    }
    if (rte_ring_sp_enqueue(tap->ring, copy) == 0) {
        count(&tap->frames);
    } else {
        count(&tap->lost);
        rte_pktmbuf_free(copy);
    }
}

static struct tap *tap_of(const struct port *port)
{
    return (struct tap *)(uintptr_t)port; /* its first member */
}

static uint16_t tap_receive(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                            uint16_t max)
{
    struct tap *tap = tap_of(port);
    uint16_t got = tap->inner->ops->receive(tap->inner, queue, frames, max);
    for (uint16_t i = 0; i < got && !capture_is_over(tap->capture); i++) {
        hand_to_writer(tap, copy_of(tap, queue, frames[i], RTE_PCAPNG_DIRECTION_IN));
    }
    return got;
}

/* Copied before the port has them, since it may free them at once; given to the writer when it has
 * taken them. */
static uint16_t tap_transmit(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                             uint16_t max)
{
    struct tap *tap = tap_of(port);
    uint16_t sent = 0;
    while (sent < max) {
        struct rte_mbuf *copies[BURST];
        uint16_t piece = (uint16_t)(max - sent);
        piece = piece < BURST ? piece : BURST;
        bool over = capture_is_over(tap->capture);
        for (uint16_t i = 0; i < piece; i++) {
            copies[i] =
                over ? NULL : copy_of(tap, queue, frames[sent + i], RTE_PCAPNG_DIRECTION_OUT);
        }
        uint16_t taken = tap->inner->ops->transmit(tap->inner, queue, frames + sent, piece);
        for (uint16_t i = 0; i < piece; i++) {
            if (i < taken) {
                hand_to_writer(tap, copies[i]);
            } else {
                rte_pktmbuf_free(copies[i]);
            }
        }
        sent = (uint16_t)(sent + taken);
        if (taken < piece) {
            break;
        }
    }
    return sent;
}

static int tap_arm(struct port *port, uint16_t queue)
{
    struct tap *tap = tap_of(port);
    return tap->inner->ops->arm(tap->inner, queue);
}

static void tap_close(struct port *port)
{
    (void)port; /* the port below is its owner's to close */
}

static const struct port_ops tap_ops = {
    .receive = tap_receive, .transmit = tap_transmit, .arm = tap_arm, .close = tap_close};

bool capture_is_on(const struct network *network)
{
    return stack_of(network)->port->ops == &tap_ops;
}

void capture_begin(struct capture *capture, struct network *network, uint16_t port)
{
    struct stack *stack = stack_of(network);
    uint16_t shards = capture->settings.shard_count;
    check(stack->queue < shards && port < capture->settings.port_count && !capture_is_on(network));
    struct tap *tap = &capture->taps[port * shards + stack->queue];
    tap->inner = stack->port;
    tap->port = (struct port){.ops = &tap_ops, .facts = stack->port->facts};
    stack->port = &tap->port;
}

void capture_end(struct network *network)
{
    struct stack *stack = stack_of(network);
    if (capture_is_on(network)) {
        stack->port = tap_of(stack->port)->inner;
    }
}

/* ---- from anywhere ---- */

void capture_stop(struct capture *capture)
{
    atomic_store_explicit(&capture->stopped, true, memory_order_relaxed);
}

static uint64_t sum_of_frames(const struct capture *capture)
{
    uint64_t frames = 0;
    for (uint16_t i = 0; i < capture->tap_count; i++) {
        frames += atomic_load_explicit(&capture->taps[i].frames, memory_order_relaxed);
    }
    return frames;
}

void capture_counters(const struct capture *capture, struct capture_counters *counters)
{
    *counters =
        (struct capture_counters){.frames = sum_of_frames(capture), .written = capture->written};
    for (uint16_t i = 0; i < capture->tap_count; i++) {
        counters->lost += atomic_load_explicit(&capture->taps[i].lost, memory_order_relaxed);
    }
}

bool capture_is_over(const struct capture *capture)
{
    uint64_t max = capture->settings.count_max;
    return atomic_load_explicit(&capture->stopped, memory_order_relaxed) ||
           (max > 0 && sum_of_frames(capture) >= max);
}

static struct rte_ring *ring_make(void)
{
    ssize_t bytes = rte_ring_get_memsize(RING_FRAMES);
    void *memory = NULL;
    if (bytes < 0 || posix_memalign(&memory, RTE_CACHE_LINE_SIZE, (size_t)bytes) != 0) {
        return NULL;
    }
    check(rte_ring_init(memory, "capture", RING_FRAMES, RING_F_SP_ENQ | RING_F_SC_DEQ) == 0);
    return memory;
}

/* The library takes the time of day when it is first asked to convert one: now, not on a shard. */
static void clock_start(struct capture *capture)
{
    struct rte_mbuf *empty = rte_pktmbuf_alloc(capture->pool);
    if (empty != NULL) {
        rte_pktmbuf_free(rte_pcapng_copy(capture->settings.devices[0], 0, empty, capture->pool,
                                         CAPTURE_SNAP_MIN, capture->settings.cycles(),
                                         RTE_PCAPNG_DIRECTION_IN));
    }
    rte_pktmbuf_free(empty);
}

static int pool_make(struct capture *capture)
{
    static atomic_uint serial; /* mempools are named, and names are the process's */
    char name[RTE_MEMPOOL_NAMESIZE];
    uint32_t bytes = rte_pcapng_mbuf_size(capture->settings.snap_bytes),
             frames = POOL_BYTES / bytes;
    snprintf(name, sizeof(name), "capture%u", atomic_fetch_add(&serial, 1));
    capture->pool =
        memory_pool_open(name, frames < POOL_FRAMES_MAX ? frames : POOL_FRAMES_MAX, bytes);
    return capture->pool == NULL ? -ENOMEM : 0;
}

int capture_open(struct capture **opened, const struct capture_settings *settings)
{
    if (settings->snap_bytes < CAPTURE_SNAP_MIN || settings->snap_bytes > CAPTURE_SNAP_MAX ||
        settings->shard_count == 0 || settings->shard_count > CAPTURE_SHARDS_MAX ||
        settings->port_count > CAPTURE_PORTS_MAX) {
        return -EINVAL;
    }
    uint16_t ports = settings->port_count == 0 ? 1 : settings->port_count;
    uint16_t taps = (uint16_t)(ports * settings->shard_count);
    struct capture *capture = calloc(1, sizeof(*capture) + taps * sizeof(struct tap));
    if (capture == NULL) {
        return -ENOMEM;
    }
    capture->settings = *settings;
    capture->settings.port_count = ports;
    capture->tap_count = taps;
    bool filtered = settings->ends[0].family != ENDPOINT_NONE;
    int status = 0;
    for (unsigned i = 0; i < 2 && filtered; i++) {
        if (!ip_address_of_endpoint(&capture->ends[i], &settings->ends[i])) {
            status = -EINVAL;
        }
    }
    for (uint16_t i = 0; i < taps && status == 0; i++) {
        capture->taps[i].capture = capture;
        capture->taps[i].device = settings->devices[i / settings->shard_count];
        capture->taps[i].ring = ring_make();
        status = capture->taps[i].ring == NULL ? -ENOMEM : 0;
    }
    status = status < 0 ? status : pool_make(capture);
    if (status < 0) {
        capture_close(capture);
        return status;
    }
    clock_start(capture);
    *opened = capture;
    return 0;
}

void capture_close(struct capture *capture)
{
    for (uint16_t i = 0; i < capture->tap_count; i++) {
        void *copy;
        struct rte_ring *ring = capture->taps[i].ring;
        while (ring != NULL && rte_ring_sc_dequeue(ring, &copy) == 0) {
            rte_pktmbuf_free(copy);
        }
        free(ring);
    }
    if (capture->pool != NULL) {
        memory_pool_close(capture->pool);
    }
    free(capture);
}

/* ---- on the writer's thread ---- */

int capture_file_open(struct capture *capture, int fd)
{
    capture->file = rte_pcapng_fdopen(fd, NULL, NULL, "tubepost", NULL);
    if (capture->file == NULL) {
        close(fd);
        return -EIO;
    }
    return 0;
}

/* Frames beyond count_max may have been copied by other shards at the same moment. */
static unsigned bounded(const struct capture *capture, struct rte_mbuf **copies, unsigned got)
{
    uint64_t max = capture->settings.count_max;
    while (max > 0 && got > 0 && capture->written + got > max) {
        rte_pktmbuf_free(copies[--got]);
    }
    return got;
}

int capture_file_write(struct capture *capture)
{
    int all = 0;
    for (uint16_t i = 0; i < capture->tap_count; i++) {
        struct rte_mbuf *copies[BURST];
        unsigned got;
        while ((got = rte_ring_sc_dequeue_burst(capture->taps[i].ring, (void **)copies, BURST,
                                                NULL)) > 0) {
            got = bounded(capture, copies, got);
            if (got > 0 && rte_pcapng_write_packets(capture->file, copies, (uint16_t)got) < 0) {
                return rte_errno != 0 ? -rte_errno : -EIO;
            }
            capture->written += got;
            all += (int)got;
        }
    }
    return all;
}

void capture_file_close(struct capture *capture)
{
    uint16_t shards = capture->settings.shard_count;
    for (uint16_t port = 0; port < capture->settings.port_count; port++) {
        uint64_t frames = 0, lost = 0;
        for (uint16_t i = 0; i < shards; i++) {
            struct tap *tap = &capture->taps[port * shards + i];
            frames += atomic_load_explicit(&tap->frames, memory_order_relaxed);
            lost += atomic_load_explicit(&tap->lost, memory_order_relaxed);
        }
        rte_pcapng_write_stats(capture->file, capture->settings.devices[port], NULL, 0, 0,
                               frames + lost, lost);
    }
    rte_pcapng_close(capture->file);
    capture->file = NULL;
}
