/* Passages between shards that are threads, with kernel sockets as carriers, and clients in the test's own thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/core/system_world.h"
#include "engine/mailbox/crossing.h"
#include "engine/shard/memory.h"
#include "engine/sock/sock.h"
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SHARDS 3
#define CLIENTS 24
#define CLIENT_BYTES (400u * 1024)
#define ECHO_BYTES 3000u
#define WAIT_MS 60000 /* far beyond what it takes */

/* What a client does, and what its session does then. */
enum course {
    COURSE_WHOLE,  /* all comes back, behind it the FIN */
    COURSE_LEAVES, /* the client goes away in the middle of it */
    COURSE_CUT,    /* the session aborts in the middle of it */
    COURSE_COUNT
};

struct service;

struct part {
    struct service *service;
    struct shard shard;
    struct crossing *crossing;
    pthread_t thread;
    struct list_node echoes; /* its sessions */
    unsigned refs;           /* theirs: this shard's alone */
};

struct service {
    struct world world;
    struct logger logger;
    struct rte_mempool *pool;
    struct network *network; /* of the first */
    struct listener *listener;
    struct part parts[SHARDS];
    struct sockaddr_un at;
    unsigned accepted;
    sem_t ready;
    pthread_barrier_t silent; /* no shard has a network any more */
    atomic_uint released;     /* sessions */
};

struct echo {
    struct crossing_note note; /* first */
    struct list_node node;     /* in the part's echoes */
    struct part *part;
    struct stream *stream;
    unsigned number; /* as accepted: it says which way */
    unsigned client; /* its number, which is its first byte: it says which course */
    uint64_t echoed;
    bool finished;
};

struct echo_ref {
    struct ref ref;
    struct part *part;
    uint8_t bytes[ECHO_BYTES];
};

/* ---- A session ---- */

static void echo_ref_released(struct ref *ref)
{
    struct echo_ref *of = list_entry(ref, struct echo_ref, ref);
    of->part->refs--;
    memset(of->bytes, 0xDD, sizeof(of->bytes));
    free(of);
}

static int echo_by_ref(struct echo *echo, struct slice bytes)
{
    struct echo_ref *of = malloc(sizeof(*of));
    ref_init(&of->ref, echo_ref_released);
    of->part = echo->part;
    of->part->refs++;
    memcpy(of->bytes, bytes.bytes, bytes.size);
    int status = stream_write_ref(echo->stream, slice_of(of->bytes, bytes.size), &of->ref);
    ref_drop(&of->ref);
    return status;
}

static void echo_end(struct echo *echo)
{
    list_remove(&echo->node);
    stream_release(echo->stream);
    atomic_fetch_add(&echo->part->service->released, 1);
    free(echo);
}

static void echo_some(struct echo *echo)
{
    struct slice bytes;
    while (stream_peek(echo->stream, &bytes, 1) > 0) {
        bytes = slice_first(bytes, ECHO_BYTES);
        echo->client = echo->echoed == 0 ? bytes.bytes[0] : echo->client;
        int status =
            echo->echoed % 2 == 0 ? echo_by_ref(echo, bytes) : stream_write(echo->stream, bytes);
        if (status < 0) {
            return;
        }
        echo->echoed += bytes.size;
        stream_consume(echo->stream, bytes.size);
    }
    if (echo->finished) {
        echo_end(echo);
    }
}

static void echo_notify(struct stream *stream, uint32_t events, void *session)
{
    struct echo *echo = session;
    echo->finished = echo->finished || (events & STREAM_HALF_CLOSED) != 0;
    if ((events & STREAM_CLOSED) != 0) {
        echo_end(echo);
        return;
    }
    if (echo->client % COURSE_COUNT == COURSE_CUT && echo->echoed > CLIENT_BYTES / 2) {
        stream_abort(stream);
        return;
    }
    echo_some(echo);
}

/* To one of the other shards; of the third kind by way of the one to the other. */
static void echo_pass(struct echo *echo, struct stream *carrier, unsigned to)
{
    struct service *service = echo->part->service;
    struct crossing *here = echo->part->crossing;
    echo->stream = crossing_pass(here, service->parts[to].crossing, carrier, false);
    echo->part = &service->parts[to];
    crossing_send(here, &echo->part->shard, &echo->note);
}

static void echo_arrives(struct shard_message *message, struct shard *shard)
{
    struct echo *echo = (struct echo *)(void *)message;
    if (echo->number % 3 == 2 && shard->settings.index == 1) {
        echo_pass(echo, echo->stream, 2);
        return;
    }
    list_append(&echo->part->echoes, &echo->node);
    echo->stream->notify = echo_notify;
    echo->stream->session = echo;
}

static void echo_dropped(struct shard_message *message)
{
    free(message);
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    struct service *service = owner;
    struct echo *echo = calloc(1, sizeof(*echo));
    (void)listener;
    *echo = (struct echo){.note.message = {.run = echo_arrives, .dropped = echo_dropped},
                          .part = &service->parts[0],
                          .number = service->accepted++};
    list_init(&echo->node);
    echo_pass(echo, stream, 1 + (echo->number % 3) % 2);
}

/* ---- Shards ---- */

static unsigned network_poll(void *self, uint64_t now_ns)
{
    struct network *network = self;
    return network->ops->poll(network, now_ns);
}

static void network_flush(void *self, uint64_t now_ns)
{
    struct network *network = self;
    network->ops->flush(network, now_ns);
}

static int network_arm(void *self)
{
    struct network *network = self;
    return network->ops->arm(network);
}

static int network_start(struct service *service, struct shard *shard)
{
    const struct sock_settings settings = {
        .shard = shard, .pool = service->pool, .buffer_count = 64};
    int status = shard->uring != NULL ? sock_open_uring(&service->network, &settings)
                                      : sock_open_epoll(&service->network, &settings);
    if (status < 0) {
        return status;
    }
    shard_add(shard, &(struct shard_part){.name = "network",
                                          .self = service->network,
                                          .poll = network_poll,
                                          .flush = network_flush,
                                          .arm = network_arm});
    struct listen_request request = {
        .at = {.family = ENDPOINT_UNIX}, .accepted = accepted, .owner = service};
    memcpy(request.at.path, service->at.sun_path, sizeof(request.at.path));
    return service->network->ops->listen(service->network, &request, &service->listener);
}

static int part_start(struct shard *shard, void *owner)
{
    struct part *part = owner;
    int status = shard->settings.index == 0 ? network_start(part->service, shard) : 0;
    crossing_add_part(part->crossing);
    sem_post(&part->service->ready);
    return status;
}

/* As a service ends: sessions, carriers, networks; then what the sessions wrote from is closed. */
static void part_leave(struct part *part)
{
    struct network *network = part->service->network;
    while (!list_empty(&part->echoes)) {
        struct echo *echo = list_entry(part->echoes.next, struct echo, node);
        stream_abort(echo->stream);
        echo_end(echo);
    }
    crossing_abort(part->crossing);
    if (part->shard.settings.index == 0) {
        network->ops->close(network);
    }
    pthread_barrier_wait(&part->service->silent);
    crossing_let_go(part->crossing);
    assert_int_equal(part->refs, 0);
}

static void *part_thread(void *owner)
{
    struct part *part = owner;
    memory_thread_enter();
    int status = shard_run(&part->shard, part_start, part);
    part_leave(part);
    memory_thread_leave();
    return (void *)(intptr_t)status;
}

static void service_open(struct service *service, bool with_uring)
{
    struct shard *shards[SHARDS];
    *service = (struct service){.at.sun_family = AF_UNIX};
    system_world_fill(&service->world);
    logger_open(&service->logger, STDERR_FILENO, LOGGER_WARNING);
    sem_init(&service->ready, 0, 0);
    pthread_barrier_init(&service->silent, NULL, SHARDS);
    strcpy(service->at.sun_path, "/tmp/test_crossing.XXXXXX");
    assert_non_null(mkdtemp(service->at.sun_path));
    strcat(service->at.sun_path, "/s");
    service->pool = memory_pool_open("crossing", 1023, MEMORY_MBUF_BYTES);
    assert_non_null(service->pool);
    for (unsigned i = 0; i < SHARDS; i++) {
        const struct shard_settings settings = {.index = i,
                                                .count = SHARDS,
                                                .cpu = -1,
                                                .idle_spin_ns = 10000,
                                                .idle_poll_ns = 1000000,
                                                .with_uring = with_uring,
                                                .uring_mode = URING_SLEEPS,
                                                .uring_entries = 64,
                                                .world = &service->world,
                                                .logger = &service->logger};
        struct part *part = &service->parts[i];
        part->service = service;
        list_init(&part->echoes);
        shards[i] = &part->shard;
        assert_int_equal(shard_open(shards[i], &settings), 0);
        assert_int_equal(crossing_open(&part->crossing, shards[i]), 0);
    }
    assert_int_equal(shard_connect_all(shards, SHARDS), 0);
    for (unsigned i = 0; i < SHARDS; i++) {
        struct part *part = &service->parts[i];
        assert_int_equal(pthread_create(&part->thread, NULL, part_thread, part), 0);
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        sem_wait(&service->ready);
    }
}

static void service_close(struct service *service)
{
    for (unsigned i = 0; i < SHARDS; i++) {
        shard_stop(&service->parts[i].shard);
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        void *status;
        pthread_join(service->parts[i].thread, &status);
        assert_null(status);
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        crossing_close(service->parts[i].crossing);
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        shard_close(&service->parts[i].shard);
    }
    memory_pool_close(service->pool);
    sem_destroy(&service->ready);
    pthread_barrier_destroy(&service->silent);
    unlink(service->at.sun_path);
    *strrchr(service->at.sun_path, '/') = '\0';
    rmdir(service->at.sun_path);
}

/* ---- Clients ---- */

struct client {
    int fd; /* -1: done */
    unsigned number;
    uint64_t written, read;
    bool shut;
};

static uint8_t pattern(unsigned number, uint64_t at)
{
    return (uint8_t)(at == 0 ? number : (at + number) * 2654435761u >> 13);
}

static void client_end(struct client *client)
{
    close(client->fd);
    client->fd = -1;
}

static void client_write(struct client *client)
{
    uint8_t bytes[7001];
    size_t size = CLIENT_BYTES - client->written;
    size = size < sizeof(bytes) ? size : sizeof(bytes);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = pattern(client->number, client->written + i);
    }
    ssize_t sent = send(client->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    client->written += sent > 0 ? (size_t)sent : 0;
    if (client->written == CLIENT_BYTES) {
        shutdown(client->fd, SHUT_WR);
        client->shut = true;
    }
}

static void client_read(struct client *client)
{
    uint8_t bytes[5003];
    ssize_t got = recv(client->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    unsigned course = client->number % COURSE_COUNT;
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got <= 0) {
        assert_true(course == COURSE_CUT || client->read == CLIENT_BYTES);
        client_end(client);
        return;
    }
    for (ssize_t i = 0; i < got; i++) {
        assert_int_equal(bytes[i], pattern(client->number, client->read + (uint64_t)i));
    }
    client->read += (uint64_t)got;
    if (course == COURSE_LEAVES && client->read > CLIENT_BYTES / 3) {
        client_end(client);
    }
}

static void clients_open(const struct service *service, struct client *clients)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.fd = socket(AF_UNIX, SOCK_STREAM, 0), .number = i};
        assert_true(clients[i].fd >= 0);
        assert_int_equal(
            connect(clients[i].fd, (const struct sockaddr *)&service->at, sizeof(service->at)), 0);
    }
}

static unsigned clients_turn(struct client *clients)
{
    struct pollfd fds[CLIENTS];
    unsigned count = 0;
    for (unsigned i = 0; i < CLIENTS; i++) {
        short out = clients[i].shut ? 0 : POLLOUT;
        fds[i] = (struct pollfd){.fd = clients[i].fd, .events = (short)(POLLIN | out)};
        count += clients[i].fd >= 0;
    }
    if (count == 0) {
        return 0;
    }
    assert_true(poll(fds, CLIENTS, WAIT_MS) > 0);
    for (unsigned i = 0; i < CLIENTS; i++) {
        if ((fds[i].revents & POLLOUT) != 0 && !clients[i].shut) {
            client_write(&clients[i]);
        }
        if ((fds[i].revents & ~POLLOUT) != 0) {
            client_read(&clients[i]);
        }
    }
    return count;
}

/* turns_max: then the service ends. */
static void echo_between_threads(bool with_uring, unsigned turns_max)
{
    struct service service;
    struct client clients[CLIENTS];
    service_open(&service, with_uring);
    clients_open(&service, clients);
    for (unsigned turn = 0; turn < turns_max && clients_turn(clients) > 0; turn++) {
    }
    for (unsigned i = 0; turns_max == UINT32_MAX && i < WAIT_MS; i++) {
        if (atomic_load(&service.released) == CLIENTS) {
            break;
        }
        poll(NULL, 0, 1);
    }
    unsigned released = atomic_load(&service.released);
    service_close(&service); /* quiet or not */
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (clients[i].fd >= 0) {
            client_end(&clients[i]);
        }
    }
    if (turns_max == UINT32_MAX) {
        assert_int_equal(released, CLIENTS);
    }
}

static void what_clients_send_comes_back_from_other_threads(void **state)
{
    (void)state;
    echo_between_threads(false, UINT32_MAX);
    if (uring_probe() == 0) {
        echo_between_threads(true, UINT32_MAX);
    }
}

static void a_service_may_end_in_the_middle_of_it(void **state)
{
    (void)state;
    for (unsigned turns = 1; turns < 300; turns = turns * 2 + 1) {
        echo_between_threads(uring_probe() == 0 && turns % 4 == 3, turns);
    }
}

static int start_eal(void **state)
{
    (void)state;
    const struct memory_settings settings = {.program = "test_crossing_threads", .megabytes = 64};
    return memory_start(&settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_clients_send_comes_back_from_other_threads),
        cmocka_unit_test(a_service_may_end_in_the_middle_of_it),
    };
    return cmocka_run_group_tests(tests, start_eal, NULL);
}
