/* net_memif devices of two processes, of which one comes and goes while the other is polled. */
#include "engine/net/port_dpdk.h"
#include "engine/shard/memory.h"
#include <pthread.h>
#include <rte_alarm.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define ROUNDS 12
#define FRAME_BYTES 60
#define PATIENCE_S 20

static struct rte_mempool *pool;
static char folder[64] = "/tmp/memif-gate-XXXXXX";
static const char *program;

static struct port *open_end(const char *role)
{
    char arguments[128], name[32];
    struct port_dpdk_settings settings = {.name = name, .queues_wanted = 1, .pools = &pool};
    struct port *port = NULL;
    snprintf(name, sizeof(name), "net_memif_%s", role);
    snprintf(arguments, sizeof(arguments), "role=%s,socket-abstract=no,socket=%s/socket", role,
             folder);
    assert_int_equal(rte_eal_hotplug_add("vdev", name, arguments), 0);
    assert_int_equal(port_dpdk_open(&port, &settings), 0);
    return port;
}

static void close_end(struct port *port, const char *role)
{
    char name[32];
    snprintf(name, sizeof(name), "net_memif_%s", role);
    port->ops->close(port);
    (void)rte_eal_hotplug_remove("vdev", name); /* some versions remove it when it is closed */
}

static bool put(struct port *port)
{
    struct rte_mbuf *frame = rte_pktmbuf_alloc(pool);
    assert_non_null(frame);
    memset(rte_pktmbuf_append(frame, FRAME_BYTES), 0x5a, FRAME_BYTES);
    if (port->ops->transmit(port, 0, &frame, 1) == 1) {
        return true;
    }
    rte_pktmbuf_free(frame);
    return false;
}

static unsigned take(struct port *port)
{
    struct rte_mbuf *frames[32];
    unsigned count = port->ops->receive(port, 0, frames, 32);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(frames[i]->pkt_len, FRAME_BYTES);
        assert_int_equal(*rte_pktmbuf_mtod(frames[i], uint8_t *), 0x5a);
    }
    rte_pktmbuf_free_bulk(frames, count);
    return count;
}

struct echo {
    struct port *port;
    atomic_bool stop;
};

static void *echo_run(void *argument)
{
    struct echo *echo = argument;
    while (!atomic_load(&echo->stop)) {
        for (unsigned count = take(echo->port); count > 0; count--) {
            put(echo->port);
        }
    }
    return NULL;
}

static void expect_an_echo(struct port *port)
{
    uint64_t end = rte_get_tsc_cycles() + PATIENCE_S * rte_get_tsc_hz();
    unsigned came = 0;
    while (came == 0) {
        assert_true(rte_get_tsc_cycles() < end);
        put(port);
        came = take(port);
    }
}

/* The driver shares sockets and its thread between the devices of a process: peers are others. */
static pid_t peer_spawn(const char *role)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execl(program, program, role, folder, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static int peer_run(const char *role)
{
    static struct echo echo;
    alarm(2 * PATIENCE_S);
    echo.port = open_end(role);
    if (strcmp(role, "client") == 0) {
        expect_an_echo(echo.port);
        raise(SIGKILL);
    }
    echo_run(&echo);
    return 0;
}

static void polls_outlive_peers_that_come_and_go(void **state)
{
    (void)state;
    struct echo echo = {.port = open_end("server")};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, echo_run, &echo), 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        pid_t client = peer_spawn("client");
        int status = 0;
        assert_int_equal(waitpid(client, &status, 0), client);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* it had its echo */
    }
    atomic_store(&echo.stop, true);
    pthread_join(thread, NULL);
    close_end(echo.port, "server");
}

static void client_waits_for_a_server_that_comes_later(void **state)
{
    char path[sizeof(folder) + 16];
    (void)state;
    struct port *client = open_end("client");
    struct rte_mbuf *frame;
    assert_int_equal(client->ops->receive(client, 0, &frame, 1), 0);
    pid_t server = peer_spawn("server");
    expect_an_echo(client);
    assert_int_equal(kill(server, SIGKILL), 0);
    assert_int_equal(waitpid(server, NULL, 0), server);
    snprintf(path, sizeof(path), "%s/socket", folder);
    assert_int_equal(unlink(path), 0);
    close_end(client, "client");
}

#define LONG_WORK_US 200000

static atomic_bool works, worked;

/* What a driver does on the interrupt thread may take any time. */
static void work_for_long(void *unused)
{
    (void)unused;
    atomic_store(&works, true);
    usleep(LONG_WORK_US);
    atomic_store(&works, false);
    atomic_store(&worked, true);
}

static void no_queue_is_touched_while_the_interrupt_thread_works(void **state)
{
    char path[sizeof(folder) + 16];
    unsigned touched = 0, polls = 0;
    (void)state;
    struct port *client = open_end("client");
    pid_t server = peer_spawn("server");
    expect_an_echo(client);
    assert_int_equal(rte_eal_alarm_set(1, work_for_long, NULL), 0);
    uint64_t end = rte_get_tsc_cycles() + PATIENCE_S * rte_get_tsc_hz();
    while (!atomic_load(&worked) && rte_get_tsc_cycles() < end) {
        take(client);
        bool before = atomic_load(&works);
        bool sent = put(client);
        bool during = before && atomic_load(&works);
        polls += during;
        touched += during && sent;
    }
    assert_true(atomic_load(&worked));
    assert_true(polls > 0); /* and whoever polls did not wait for it */
    assert_int_equal(touched, 0);
    expect_an_echo(client);
    assert_int_equal(kill(server, SIGKILL), 0);
    assert_int_equal(waitpid(server, NULL, 0), server);
    snprintf(path, sizeof(path), "%s/socket", folder);
    assert_int_equal(unlink(path), 0);
    close_end(client, "client");
}

static int memory_and_pool(void)
{
    static const char *const eal[] = {"--no-huge", "--no-pci", NULL};
    struct memory_settings settings = {.program = "test_memif_gate", .megabytes = 64, .eal = eal};
    if (memory_start(&settings) < 0) {
        return -1;
    }
    pool = memory_pool_open("gate", 8191, MEMORY_MBUF_BYTES);
    return pool == NULL ? -1 : 0;
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : memory_and_pool();
}

static int tear_down(void **state)
{
    (void)state;
    memory_pool_close(pool);
    memory_stop();
    return rmdir(folder);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(polls_outlive_peers_that_come_and_go),
        cmocka_unit_test(client_waits_for_a_server_that_comes_later),
        cmocka_unit_test(no_queue_is_touched_while_the_interrupt_thread_works),
    };
    program = argv[0];
    if (argc == 3) {
        snprintf(folder, sizeof(folder), "%s", argv[2]);
        return memory_and_pool() < 0 ? 1 : peer_run(argv[1]);
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
