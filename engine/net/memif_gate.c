#include "engine/net/memif_gate.h"
#include "engine/core/check.h"
#include "engine/core/list.h"
#include "engine/net/port_dpdk.h"
#include <errno.h>
#include <pthread.h>
#include <rte_alarm.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_ethdev.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define OPEN_PER_SECOND 2u
#define OPEN_PER_SECOND_DOWN 1000u
#define MOMENT_WAIT_MS 10
#define LEAVE_WAIT_MS 1000
#define RESTART_S 1u
/* How long a server that has let a client connect may take to answer it. In that time the client stays
 * as it is: the driver's server, when it comes to a client that has already gone, frees what its
 * interrupt thread goes on using. */
#define ANSWER_S 10u
/* After it the alarm stops the interrupt thread again. An alarm that is due at once would be called
 * before the EAL looks at anything else. */
#define MOMENT_US 100

struct memif_gate {
    struct list_node in_members;
    uint16_t port_id, queue_count;
    bool client;                  /* it is its part to connect */
    bool running;                 /* under every lock of `queues` */
    uint64_t open_at, restart_at; /* in cycles; the thread of queue 0's */
    pthread_mutex_t queues[PORT_DPDK_QUEUES_MAX];
};

static struct {
    pthread_mutex_t mutex; /* taken before the locks of queues */
    struct list_node members;
    sem_t still, go; /* the interrupt thread says that it stands; it is told to run */
    /* Handed over by the semaphores: */
    bool leaving;
    bool stands; /* false: the EAL has no alarm, so nothing can be held */
    /* It was let run, and has not yet come to stand. Written under mutex, and set under every lock
     * of `queues` too. */
    atomic_bool busy;
} process = {.mutex = PTHREAD_MUTEX_INITIALIZER, .members = {&process.members, &process.members}};

static void wait_for(sem_t *semaphore)
{
    while (sem_wait(semaphore) < 0) {
        /* interrupted by a signal */
    }
}

/* The driver's own work may take long, or block on a peer that says nothing: whoever polls must not
 * wait for it. As long as it lasts, no queue is entered. */
static bool stands_within(unsigned milliseconds)
{
    struct timespec end;
    int rc;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_nsec += (long)milliseconds * 1000000;
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    do {
        rc = sem_timedwait(&process.still, &end);
    } while (rc < 0 && errno == EINTR);
    atomic_store(&process.busy, rc < 0);
    return rc == 0;
}

/* Lets the interrupt thread run until it stands again. */
static bool moment(unsigned milliseconds)
{
    if (!atomic_load(&process.busy)) {
        sem_post(&process.go);
    }
    return stands_within(milliseconds);
}

/* On the interrupt thread. */
static void stand_still(void *unused)
{
    (void)unused;
    sem_post(&process.still);
    wait_for(&process.go);
    if (process.leaving || rte_eal_alarm_set(MOMENT_US, stand_still, NULL) < 0) {
        process.stands = false;
        sem_post(&process.still);
    }
}

static void queues_lock(void)
{
    for (struct list_node *n = process.members.next; n != &process.members; n = n->next) {
        struct memif_gate *member = list_entry(n, struct memif_gate, in_members);
        for (unsigned i = 0; i < member->queue_count; i++) {
            pthread_mutex_lock(&member->queues[i]);
        }
    }
}

static void queues_unlock(void)
{
    for (struct list_node *n = process.members.next; n != &process.members; n = n->next) {
        struct memif_gate *member = list_entry(n, struct memif_gate, in_members);
        for (unsigned i = 0; i < member->queue_count; i++) {
            pthread_mutex_unlock(&member->queues[i]);
        }
    }
}

static bool is_up(const struct memif_gate *member)
{
    struct rte_eth_link link = {0};
    return rte_eth_link_get_nowait(member->port_id, &link) == 0 &&
           link.link_status == RTE_ETH_LINK_UP;
}

/* The driver knows no other way to ask its server once more. Without a server the start fails. */
static void restart(struct memif_gate *member)
{
    if (member->running) {
        rte_eth_dev_stop(member->port_id);
    }
    member->running = rte_eth_dev_start(member->port_id) == 0;
}

static uint64_t restart_time(const struct memif_gate *member, uint64_t now)
{
    return now + (member->running ? ANSWER_S : RESTART_S) * rte_get_tsc_hz();
}

void memif_gate_tend(struct memif_gate *member)
{
    uint64_t now = rte_get_tsc_cycles();
    if (now < member->open_at || pthread_mutex_trylock(&process.mutex) != 0) {
        return;
    }
    queues_lock();
    bool held = !process.stands || moment(MOMENT_WAIT_MS);
    bool up = member->running && is_up(member);
    if (up) {
        member->restart_at = now + RESTART_S * rte_get_tsc_hz();
    } else if (held && member->client && now >= member->restart_at) {
        restart(member);
        member->restart_at = restart_time(member, now);
    }
    queues_unlock();
    pthread_mutex_unlock(&process.mutex);
    bool seldom = up && held;
    member->open_at =
        rte_get_tsc_cycles() + rte_get_tsc_hz() / (seldom ? OPEN_PER_SECOND : OPEN_PER_SECOND_DOWN);
}

bool memif_gate_enter(struct memif_gate *member, uint16_t queue)
{
    pthread_mutex_lock(&member->queues[queue]);
    bool safe = member->running && !atomic_load(&process.busy);
    if (!safe) {
        pthread_mutex_unlock(&member->queues[queue]);
    }
    return safe;
}

void memif_gate_exit(struct memif_gate *member, uint16_t queue)
{
    pthread_mutex_unlock(&member->queues[queue]);
}

static void first_joins(void)
{
    if (atomic_load(&process.busy)) {
        return; /* it never came back from its last moment */
    }
    sem_init(&process.still, 0, 0);
    sem_init(&process.go, 0, 0);
    process.leaving = false;
    process.stands = rte_eal_alarm_set(MOMENT_US, stand_still, NULL) == 0;
    if (process.stands) {
        stands_within(LEAVE_WAIT_MS);
    }
}

static void last_left(void)
{
    if (process.stands && (!atomic_load(&process.busy) || stands_within(LEAVE_WAIT_MS))) {
        process.leaving = true;
        moment(LEAVE_WAIT_MS);
    }
}

/* The driver's arguments are all that tells; without a role a device is the server. */
static bool is_client(uint16_t port_id)
{
    struct rte_eth_dev_info info;
    if (rte_eth_dev_info_get(port_id, &info) < 0 || info.device == NULL) {
        return false;
    }
    const struct rte_devargs *arguments = rte_dev_devargs(info.device);
    return arguments != NULL && arguments->args != NULL &&
           (strstr(arguments->args, "role=client") != NULL ||
            strstr(arguments->args, "role=slave") != NULL);
}

struct memif_gate *memif_gate_join(uint16_t port_id, uint16_t queue_count, bool running)
{
    check(queue_count <= PORT_DPDK_QUEUES_MAX);
    struct memif_gate *member = calloc(1, sizeof(*member));
    if (member == NULL) {
        return NULL;
    }
    *member = (struct memif_gate){.port_id = port_id,
                                  .queue_count = queue_count,
                                  .client = is_client(port_id),
                                  .running = running};
    member->restart_at = restart_time(member, rte_get_tsc_cycles());
    for (unsigned i = 0; i < queue_count; i++) {
        pthread_mutex_init(&member->queues[i], NULL);
    }
    pthread_mutex_lock(&process.mutex);
    if (list_empty(&process.members)) {
        first_joins();
    }
    list_append(&process.members, &member->in_members);
    pthread_mutex_unlock(&process.mutex);
    return member;
}

void memif_gate_leave(struct memif_gate *member)
{
    pthread_mutex_lock(&process.mutex);
    if (atomic_load(&process.busy)) {
        stands_within(LEAVE_WAIT_MS);
    }
    if (member->running) {
        rte_eth_dev_stop(member->port_id);
    }
    rte_eth_dev_close(member->port_id);
    list_remove(&member->in_members);
    if (list_empty(&process.members)) {
        last_left();
    }
    pthread_mutex_unlock(&process.mutex);
    for (unsigned i = 0; i < member->queue_count; i++) {
        pthread_mutex_destroy(&member->queues[i]);
    }
    free(member);
}
