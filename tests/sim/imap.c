/*
 * imap: clients read and change a user's mailboxes at the same time, over networks with faults; the service keeps them in
 * its own store, on a disk that lies, and may lose its power at any moment. Then the faults end, and what each client was
 * told must be what there is.
 */
#include "engine/core/check.h"
#include "engine/net/stack_private.h"
#include "tests/sim/disk.h"
#include "tests/sim/imap_client.h"
#include "tests/sim/imap_host.h"
#include <stdlib.h>

#define CLIENT_HOSTS_MAX 3u
#define FINISH_NS (3600 * SIM_S)
#define WELL_NS (10 * SIM_S) /* until a log that was full has looked again */
#define REST_NS (600 * SIM_S)
#define SETTLE_NS (70 * SIM_S)

struct imap_world {
    struct sim *sim;
    struct books books;
    struct sim_imap imap;
    struct imap_client clients[BOOKS_KEYS]; /* the last one audits */
    unsigned client_count;                  /* the others */
    enum sim_family family;
    struct timer crash, boot;
    uint64_t calm_ns, until_ns;
};

#define AUDITOR (BOOKS_KEYS - 1)

/* ---- Power ---- */

static void boot(struct timer *timer, uint64_t now_ns)
{
    struct imap_world *world = list_entry(timer, struct imap_world, boot);
    struct sim *sim = world->sim;
    sim_host_open(&sim->hosts[0]);
    int status = sim_imap_start(&world->imap);
    if (status < 0) {
        sim_fail(sim, "the mailbox service does not start: %d", status);
    }
    sim_say(sim, "the service is back");
    if (now_ns < world->until_ns) {
        wheel_arm(sim->script, &world->crash, now_ns + sim_spread(sim, SIM_MS, world->calm_ns));
    }
}

static void crash_now(struct imap_world *world)
{
    sim_say(world->sim, "the service loses its power");
    sim_imap_crash(&world->imap);
    if (world->sim->options.plant == SIM_PLANT_TORN) {
        sim_disk_forget(world->imap.store.rig.fault);
    }
    wheel_arm(world->sim->script, &world->boot,
              world->sim->world.now_ns + sim_spread(world->sim, SIM_MS, world->calm_ns));
}

static void crash(struct timer *timer, uint64_t now_ns)
{
    struct imap_world *world = list_entry(timer, struct imap_world, crash);
    if (now_ns <= world->until_ns) {
        crash_now(world);
    }
}

/* ---- Setting up ---- */

static void set_up(struct imap_world *world)
{
    struct sim *sim = world->sim;
    world->family = sim_chance(sim, 50) ? SIM_IPV6 : SIM_IPV4;
    books_open(&world->books, sim);
    for (unsigned i = 0; i < sim->host_count; i++) {
        sim->hosts[i].limits.held_mbuf_max = 0;
        sim_host_open(&sim->hosts[i]);
    }
    sim_imap_setup(&world->imap, &sim->hosts[0], world->family);
    check(sim_imap_start(&world->imap) == 0);
    for (unsigned i = 0; i < world->client_count; i++) {
        imap_client_setup(&world->clients[i], &sim->hosts[1 + i % (sim->host_count - 1)],
                          &world->books, i, &world->imap.imap, &world->imap.lmtp);
        imap_client_start(&world->clients[i]);
    }
    timer_init(&world->crash, crash);
    timer_init(&world->boot, boot);
    bool loses = sim_chance(sim, 70);
    if (loses && sim_fault_on(&sim->faults, SIM_FAULT_CRASH)) {
        wheel_arm(sim->script, &world->crash,
                  sim->world.now_ns + sim_spread(sim, SIM_MS, world->calm_ns));
    }
}

/* ---- The end ---- */

static bool never(struct sim *sim, void *owner)
{
    (void)sim;
    (void)owner;
    return false;
}

static bool is_up(struct sim *sim, void *owner)
{
    (void)owner;
    return sim->hosts[0].up;
}

static bool all_done(struct sim *sim, void *owner)
{
    struct imap_world *world = owner;
    bool done = sim->hosts[0].up;
    for (unsigned i = 0; i < world->client_count; i++) {
        done = done && world->clients[i].done;
    }
    return done;
}

static bool audited(struct sim *sim, void *owner)
{
    struct imap_world *world = owner;
    (void)sim;
    return world->clients[AUDITOR].done;
}

static bool at_rest(struct sim *sim, void *owner)
{
    struct imap_world *world = owner;
    (void)sim;
    return sim_imap_rests(&world->imap);
}

static bool all_quiet(struct sim *sim, void *owner)
{
    (void)owner;
    for (unsigned i = 0; i < sim->host_count; i++) {
        const struct stack *stack = stack_of(sim->hosts[i].network);
        if (stack->tcp.table.used != 0 || stack->tcp.conns.used != 0) {
            return false;
        }
    }
    return sim_net_flying(&sim->net) == 0;
}

/* Twice: the first ones may be done before the last change of the others. */
static void clients_finish(struct imap_world *world)
{
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < world->client_count; i++) {
            world->clients[i].done = false;
            imap_client_finish(&world->clients[i]);
        }
        if (!sim_run_until(world->sim, all_done, world, FINISH_NS)) {
            sim_fail(world->sim, "a client does not come to its end");
        }
    }
}

static void view_compare(struct imap_world *world, const struct imap_client *client)
{
    const struct imap_view *told = &client->view, *is = &world->clients[AUDITOR].view;
    for (uint32_t i = 0; i < told->count && i < is->count; i++) {
        if (told->uids[i] != is->uids[i] || told->flags[i] != is->flags[i]) {
            sim_fail(world->sim,
                     "client %u was told that message %u of %s is uid %u with flags %#x, and it is "
                     "uid %u with flags %#x",
                     client->number, i + 1, books_box_names[client->box], told->uids[i],
                     told->flags[i], is->uids[i], is->flags[i]);
        }
    }
    if (told->count != is->count) {
        sim_fail(world->sim, "client %u was told of %u messages in %s, where there are %u",
                 client->number, told->count, books_box_names[client->box], is->count);
    }
}

static void audit(struct imap_world *world)
{
    struct sim *sim = world->sim;
    struct imap_client *auditor = &world->clients[AUDITOR];
    imap_client_setup(auditor, &sim->hosts[1], &world->books, AUDITOR, &world->imap.imap,
                      &world->imap.lmtp);
    for (unsigned box = 0; box < BOOKS_BOXES; box++) {
        imap_client_audit(auditor, box);
        if (!sim_run_until(sim, audited, world, FINISH_NS)) {
            sim_fail(sim, "%s cannot be read to its end", books_box_names[box]);
        }
        for (unsigned i = 0; i < world->client_count; i++) {
            if (world->clients[i].box == box) {
                view_compare(world, &world->clients[i]);
            }
        }
    }
    books_check_all(&world->books);
}

static void finish(struct imap_world *world)
{
    struct sim *sim = world->sim;
    for (unsigned i = 0; i < world->client_count; i++) {
        imap_client_leave(&world->clients[i]);
    }
    imap_client_leave(&world->clients[AUDITOR]);
    if (!sim_run_until(sim, at_rest, world, FINISH_NS)) {
        sim_fail(sim, "the service does not come to rest");
    }
    sim_run_until(sim, all_quiet, world, REST_NS);
    sim_run(sim, SETTLE_NS);
    for (unsigned i = 0; i < sim->host_count; i++) {
        sim_host_check_quiet(&sim->hosts[i]);
    }
    sim_imap_stop(&world->imap);
    sim_imap_teardown(&world->imap);
    for (unsigned i = 0; i < world->client_count; i++) {
        imap_client_teardown(&world->clients[i]);
    }
    imap_client_teardown(&world->clients[AUDITOR]);
    books_close(&world->books);
}

static void imap_run(const struct sim_options *options)
{
    static struct sim sim;
    struct imap_world *world = calloc(1, sizeof(*world));
    uint64_t draw = options->seed ^ 0x13a9, answers = 0;
    check(world != NULL);
    world->sim = &sim;
    world->client_count = 1 + net_random_below(&draw, AUDITOR);
    sim_open(&sim, options, 2 + net_random_below(&draw, CLIENT_HOSTS_MAX));
    world->calm_ns = 30 * SIM_S;
    if (sim_chance(&sim, 60)) {
        world->calm_ns = 6 * SIM_S;
        sim_faults_on(&sim.faults, 1u << SIM_FAULT_CRASH | 1u << SIM_FAULT_DISK);
    }
    set_up(world);
    uint64_t fault_ns = sim_spread(&sim, SIM_S, 120 * SIM_S);
    world->until_ns = sim.world.now_ns + fault_ns;
    sim_run_until(&sim, never, world, fault_ns);
    sim_heal(&sim);
    sim_imap_heal(&world->imap);
    sim_run_until(&sim, is_up, world, FINISH_NS);
    if (mailstore_state(world->imap.store.store) < 0) { /* it waits for its operator */
        crash_now(world);
        sim_run_until(&sim, is_up, world, FINISH_NS);
    }
    world->books.well_ns = sim.world.now_ns + WELL_NS;
    clients_finish(world);
    audit(world);
    for (unsigned i = 0; i < world->client_count; i++) {
        answers += world->clients[i].answers;
    }
    sim_say(&sim,
            "clean: %u clients, %llu answers, %u letters, %llu views, %u lives, %u audits; "
            "%llu frames",
            world->client_count, (unsigned long long)answers, world->books.letter_count,
            (unsigned long long)world->books.told, world->imap.lives, world->imap.audits,
            (unsigned long long)sim.net.frames);
    finish(world);
    free(world);
    sim_close(&sim);
}

const struct sim_scenario imap_scenario = {.name = "imap", .run = imap_run};
