/*
 * lossy_wire: a wire between two interfaces of this network namespace that loses, repeats, delays and reorders frames.
 *
 * Usage: lossy_wire INTERFACE INTERFACE [--loss N] [--repeat N] [--reorder N] [--delay-us N] [--queue FRAMES]
 *                   [--seed N] [--seconds N]
 *
 * N of 10,000 frames are lost, repeated, or overtaken by those behind them for up to half of the delay; every frame
 * takes --delay-us from one end to the other; beyond --queue frames under way in a direction the newest is dropped. The
 * same seed decides the same for the same frames. Ends after --seconds (60) or on SIGTERM, and says what it did.
 * The interfaces' offloads must be off, or the frames are none that a wire carries.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAME_BYTES 9216u
#define BATCH 64u
#define QUEUE_MAX 65536u
#define SOCKET_BYTES (8 << 20)

struct frame {
    uint64_t due_ns, serial; /* serial: equal times keep their order */
    uint32_t size;
    uint8_t bytes[];
};

struct way { /* one direction */
    int from, to;
    struct frame **heap;
    uint32_t count;
    uint64_t taken, lost, repeated, reordered, overflowed, sent;
};

static struct {
    uint32_t loss, repeat, reorder, queue;
    uint64_t delay_ns, seed;
    unsigned seconds;
} settings = {.queue = 4096, .seed = 1, .seconds = 60};

static volatile sig_atomic_t stop_asked;
static uint64_t serial;

static void fail(const char *what)
{
    fprintf(stderr, "lossy_wire: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void on_signal(int number)
{
    (void)number;
    stop_asked = 1;
}

static uint64_t now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

/* splitmix64 */
static uint64_t random_next(void)
{
    uint64_t z = settings.seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static bool happens(uint32_t of_10000)
{
    return random_next() % 10000 < of_10000;
}

static bool sooner(const struct frame *a, const struct frame *b)
{
    return a->due_ns < b->due_ns || (a->due_ns == b->due_ns && a->serial < b->serial);
}

static void heap_push(struct way *way, struct frame *frame)
{
    uint32_t at = way->count++;
    while (at > 0 && sooner(frame, way->heap[(at - 1) / 2])) {
        way->heap[at] = way->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    way->heap[at] = frame;
}

static struct frame *heap_pop(struct way *way)
{
    struct frame *first = way->heap[0], *last = way->heap[--way->count];
    uint32_t at = 0;
    for (uint32_t child; (child = 2 * at + 1) < way->count; at = child) {
        child += child + 1 < way->count && sooner(way->heap[child + 1], way->heap[child]);
        if (!sooner(way->heap[child], last)) {
            break;
        }
        way->heap[at] = way->heap[child];
    }
    way->heap[at] = last;
    return first;
}

static void frame_queue(struct way *way, const uint8_t *bytes, uint32_t size, uint64_t due_ns)
{
    if (way->count >= settings.queue) {
        way->overflowed++;
        return;
    }
    struct frame *frame = malloc(sizeof(*frame) + size);
    if (frame == NULL) {
        fail("memory");
    }
    frame->due_ns = due_ns;
    frame->serial = serial++;
    frame->size = size;
    memcpy(frame->bytes, bytes, size);
    heap_push(way, frame);
}

static void frame_arrives(struct way *way, const uint8_t *bytes, uint32_t size, uint64_t now_ns)
{
    uint64_t due_ns = now_ns + settings.delay_ns;
    way->taken++;
    if (happens(settings.loss)) {
        way->lost++;
        return;
    }
    if (happens(settings.reorder)) {
        way->reordered++;
        due_ns += 1 + random_next() % (settings.delay_ns / 2 + 1);
    }
    frame_queue(way, bytes, size, due_ns);
    if (happens(settings.repeat)) {
        way->repeated++;
        frame_queue(way, bytes, size, due_ns);
    }
}

static void way_receive(struct way *way)
{
    static uint8_t memory[BATCH][FRAME_BYTES];
    struct iovec parts[BATCH];
    struct mmsghdr messages[BATCH];
    memset(messages, 0, sizeof(messages));
    for (unsigned i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){memory[i], FRAME_BYTES};
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    int got = recvmmsg(way->from, messages, BATCH, MSG_DONTWAIT, NULL);
    uint64_t now_ns = now();
    for (int i = 0; i < got; i++) {
        frame_arrives(way, memory[i], messages[i].msg_len, now_ns);
    }
}

static void way_send(struct way *way, uint64_t now_ns)
{
    struct frame *frames[BATCH];
    struct iovec parts[BATCH];
    struct mmsghdr messages[BATCH];
    while (way->count > 0 && way->heap[0]->due_ns <= now_ns) {
        unsigned count = 0;
        memset(messages, 0, sizeof(messages));
        for (; count < BATCH && way->count > 0 && way->heap[0]->due_ns <= now_ns; count++) {
            frames[count] = heap_pop(way);
            parts[count] = (struct iovec){frames[count]->bytes, frames[count]->size};
            messages[count].msg_hdr.msg_iov = &parts[count];
            messages[count].msg_hdr.msg_iovlen = 1;
        }
        int sent = sendmmsg(way->to, messages, count, 0);
        way->sent += sent > 0 ? (uint64_t)sent : 0;
        way->overflowed += count - (sent > 0 ? (unsigned)sent : 0);
        for (unsigned i = 0; i < count; i++) {
            free(frames[i]);
        }
    }
}

static int interface_open(const char *name)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
    int on = 1, bytes = SOCKET_BYTES;
    struct sockaddr_ll at = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(ETH_P_ALL),
                             .sll_ifindex = (int)if_nametoindex(name)};
    struct packet_mreq all = {.mr_ifindex = at.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
    if (fd < 0 || at.sll_ifindex == 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all)) < 0) {
        fail(name);
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
    return fd;
}

static void option(const char *name, const char *value)
{
    char *end;
    unsigned long long number = strtoull(value, &end, 10);
    if (*value == '\0' || *end != '\0') {
        fprintf(stderr, "lossy_wire: %s: a number is wanted: %s\n", name, value);
        exit(2);
    }
    if (strcmp(name, "--loss") == 0) {
        settings.loss = (uint32_t)number;
    } else if (strcmp(name, "--repeat") == 0) {
        settings.repeat = (uint32_t)number;
    } else if (strcmp(name, "--reorder") == 0) {
        settings.reorder = (uint32_t)number;
    } else if (strcmp(name, "--delay-us") == 0) {
        settings.delay_ns = number * 1000;
    } else if (strcmp(name, "--queue") == 0 && number <= QUEUE_MAX) {
        settings.queue = (uint32_t)number;
    } else if (strcmp(name, "--seed") == 0) {
        settings.seed = number;
    } else if (strcmp(name, "--seconds") == 0) {
        settings.seconds = (unsigned)number;
    } else {
        fprintf(stderr, "lossy_wire: not understood: %s %s\n", name, value);
        exit(2);
    }
}

static uint64_t next_due(const struct way ways[2])
{
    uint64_t due_ns = UINT64_MAX;
    for (unsigned i = 0; i < 2; i++) {
        if (ways[i].count > 0 && ways[i].heap[0]->due_ns < due_ns) {
            due_ns = ways[i].heap[0]->due_ns;
        }
    }
    return due_ns;
}

static void run(struct way ways[2])
{
    uint64_t end_ns = now() + settings.seconds * 1000000000ull;
    struct pollfd watched[2] = {{.fd = ways[0].from, .events = POLLIN},
                                {.fd = ways[1].from, .events = POLLIN}};
    for (uint64_t now_ns; !stop_asked && (now_ns = now()) < end_ns;) {
        uint64_t due_ns = next_due(ways);
        due_ns = due_ns < end_ns ? due_ns : end_ns;
        uint64_t wait_ns = due_ns > now_ns ? due_ns - now_ns : 0;
        const struct timespec wait = {(time_t)(wait_ns / 1000000000u),
                                      (long)(wait_ns % 1000000000u)};
        ppoll(watched, 2, &wait, NULL);
        for (unsigned i = 0; i < 2; i++) {
            way_receive(&ways[i]);
            way_send(&ways[i], now());
        }
    }
}

int main(int argc, char **argv)
{
    static struct way ways[2];
    struct sigaction action = {.sa_handler = on_signal};
    if (argc < 3 || argc % 2 == 0) {
        fprintf(stderr, "lossy_wire INTERFACE INTERFACE [--OPTION NUMBER]...\n");
        return 2;
    }
    for (int i = 3; i + 1 < argc; i += 2) {
        option(argv[i], argv[i + 1]);
    }
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    int ends[2] = {interface_open(argv[1]), interface_open(argv[2])};
    for (unsigned i = 0; i < 2; i++) {
        ways[i] = (struct way){.from = ends[i],
                               .to = ends[1 - i],
                               .heap = calloc(QUEUE_MAX + 1, sizeof(ways[i].heap[0]))};
        if (ways[i].heap == NULL) {
            fail("memory");
        }
    }
    printf("ready\n");
    fflush(stdout);
    run(ways);
    for (unsigned i = 0; i < 2; i++) {
        printf("from %s: taken %llu lost %llu repeated %llu reordered %llu overflowed %llu sent "
               "%llu\n",
               argv[1 + i], (unsigned long long)ways[i].taken, (unsigned long long)ways[i].lost,
               (unsigned long long)ways[i].repeated, (unsigned long long)ways[i].reordered,
               (unsigned long long)ways[i].overflowed, (unsigned long long)ways[i].sent);
        while (ways[i].count > 0) {
            free(heap_pop(&ways[i]));
        }
        free(ways[i].heap);
        close(ends[i]);
    }
    return 0;
}
