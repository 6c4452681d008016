#include "tests/sim/imap_host.h"
#include "queue/log/log_private.h"
#include "queue/mailbox/mailstore_audit.h"
#include "tests/unit/login_fake.h"

#define AUDITS_MAX 8u /* each takes as long as a start without an index */
#define HEARTBEAT_NS (100 * SIM_MS)
#define TICK_NS 1000000ull /* of mailstore_rig_round */

static struct sim_imap *running; /* that has a folder */

void sim_imap_remove(void)
{
    if (running != NULL) {
        mailstore_rig_remove(&running->store);
    }
}

/* ---- Its index against its log ---- */

static int audit_progress(void *owner, const struct mailstore_audit_progress *progress)
{
    (void)owner;
    (void)progress;
    return 0;
}

static void audit_row(void *owner, const struct mailstore_difference *difference)
{
    struct sim_imap *imap = owner;
    sim_fail(imap->host->sim,
             "the index of the running service is not as its log says: a row of %s",
             difference->what);
}

static void audit_wake(void *owner)
{
    (void)owner;
}

/* What the disk did to it is none of the index. */
static void audit_done(void *owner, const struct mailstore_audit_result *result)
{
    struct sim_imap *imap = owner;
    imap->audits += result->status == 0;
}

static void audit_now_and_then(struct sim_imap *imap, uint64_t now_ns)
{
    const struct mailstore_audit_settings settings = {.progress = audit_progress,
                                                      .visit = audit_row,
                                                      .wake = audit_wake,
                                                      .done = audit_done,
                                                      .owner = imap};
    if (now_ns >= imap->audit_ns && imap->audits < AUDITS_MAX) {
        imap->audit_ns = now_ns + imap->audit_each_ns;
        mailstore_audit_begin(imap->store.store, &settings); /* or another time */
    }
}

/* ---- Its part in the rounds ---- */

static unsigned store_poll(void *self, uint64_t now_ns)
{
    struct sim_imap *imap = self;
    if (!imap->serves) {
        return 0;
    }
    uint32_t pending = disk_fault_pending(imap->store.rig.fault);
    imap->disk_due_ns = UINT64_MAX;
    imap->store.rig.now_ns = now_ns - TICK_NS;
    imap->store.wall_s = (uint64_t)world_wall_s(&imap->host->sim->world.world);
    audit_now_and_then(imap, now_ns);
    mailstore_rig_round(&imap->store);
    return login_fake_round(imap->desk) + (disk_fault_pending(imap->store.rig.fault) != pending);
}

static uint64_t imap_next_ns(struct sim_host *host)
{
    struct sim_imap *imap = host->owner;
    if (imap->serves && imap->disk_due_ns == UINT64_MAX &&
        disk_fault_pending(imap->store.rig.fault) > 0) {
        imap->disk_due_ns =
            host->sim->world.now_ns + sim_spread(host->sim, 20 * SIM_US, imap->disk_slow_ns);
    }
    return imap->disk_due_ns;
}

/* ---- Setting up ---- */

static void conf_make(struct sim_imap *imap)
{
    static struct conf_report report;
    check(mailboxd_conf_load(&imap->conf, NULL, "mailbox.example", &report) == 0);
    imap->listeners[0] = (struct conf_listener){.name = "imap",
                                                .protocol = CONF_PROTOCOL_IMAP,
                                                .addresses = &imap->imap,
                                                .addresses_count = 1};
    imap->listeners[1] = (struct conf_listener){.name = "lmtp",
                                                .protocol = CONF_PROTOCOL_LMTP,
                                                .addresses = &imap->lmtp,
                                                .addresses_count = 1};
    imap->conf->listen = imap->listeners;
    imap->conf->listen_count = 2;
    imap->conf->store.format = CONF_STORE_LOG;
}

static void disk_draw(struct sim_imap *imap)
{
    struct sim *sim = imap->host->sim;
    struct disk_fault_settings *disk = &imap->disk;
    imap->disk_slow_ns = sim_spread(sim, 50 * SIM_US, 20 * SIM_MS);
    uint32_t late = (uint32_t)sim_spread(sim, 0, 95);
    uint32_t writes = (uint32_t)sim_spread(sim, 20, 1000),
             reads = (uint32_t)sim_spread(sim, 0, 300);
    uint32_t others = (uint32_t)sim_spread(sim, 0, 1000);
    uint64_t capacity = sim_spread(sim, 8, 40) * imap->store.rig.settings.segment_bytes;
    bool fails = sim_chance(sim, 40), fills = sim_chance(sim, 30);
    *disk = (struct disk_fault_settings){0};
    if (!sim_fault_on(&sim->faults, SIM_FAULT_DISK)) {
        return;
    }
    disk->late_percent = late;
    if (fails) {
        disk->error_permyriad[DISK_FAULT_WRITE] = writes;
        disk->error_permyriad[DISK_FAULT_READ] = reads;
        disk->error_permyriad[DISK_FAULT_PREPARE] = disk->error_permyriad[DISK_FAULT_REMOVE] =
            others;
    }
    disk->capacity_bytes = fills ? capacity : 0;
}

void sim_imap_setup(struct sim_imap *imap, struct sim_host *host, enum sim_family family)
{
    struct sim *sim = host->sim;
    *imap = (struct sim_imap){.host = host,
                              .imap = sim_host_at(host, family, SIM_IMAP_PORT),
                              .lmtp = sim_host_at(host, family, SIM_IMAP_LMTP_PORT),
                              .disk_due_ns = UINT64_MAX};
    imap->desk = calloc(1, sizeof(*imap->desk));
    check(imap->desk != NULL);
    conf_make(imap);
    mailstore_rig_open(&imap->store, net_random(&sim->random) & 0xffffffff);
    running = imap;
    imap->store.settings.index_changes_max = (uint32_t)sim_spread(sim, 1, 1000);
    if (sim->options.plant == SIM_PLANT_EARLY) {
        imap->store.rig.settings.durability = LOG_RELAXED;
    }
    disk_draw(imap);
    imap->audit_each_ns = sim_spread(sim, 300 * SIM_MS, 30 * SIM_S);
    host->owner = imap;
    host->next_ns = imap_next_ns;
    host->heartbeat_ns = HEARTBEAT_NS;
}

void sim_imap_teardown(struct sim_imap *imap)
{
    running = NULL;
    mailstore_rig_close(&imap->store);
    mailboxd_conf_free(imap->conf);
    free(imap->desk);
}

/* ---- Life and death ---- */

/* As mailbox_open makes it, but for the disk and the desk. */
static void mailbox_make(struct sim_imap *imap)
{
    const struct mailboxd_conf *conf = imap->conf;
    struct mailbox *mailbox = &imap->mailbox;
    *mailbox = (struct mailbox){.conf = conf,
                                .shard = &imap->host->shard,
                                .network = imap->host->network,
                                .texts = imap->store.store,
                                .logins = imap->desk};
    mailbox->lmtp_settings = (struct smtp_server_settings){.hostname = slice_text(conf->hostname),
                                                           .lmtp = true,
                                                           .message_bytes_max = 1u << 20,
                                                           .recipients_max = 10,
                                                           .errors_max = 10,
                                                           .junk_max = 100,
                                                           .line_bytes_max = 1u << 20,
                                                           .header_bytes_max = 1u << 20,
                                                           .header_lines_max = 1u << 20,
                                                           .hops_max = 100,
                                                           .command_ns = conf->timeouts.command,
                                                           .data_ns = conf->timeouts.data,
                                                           .pipelining = true,
                                                           .chunking = true};
    mailbox_stand_alone(mailbox);
    list_init(&mailbox->sessions);
    timer_init(&mailbox->drain_timer, NULL);
}

/* Nothing of it is left but the store, as mailbox_close. */
static void mailbox_end(struct mailbox *mailbox)
{
    mailbox_leave(mailbox);
    while (!list_empty(&mailbox->sessions)) { /* deliveries whose commit is under way */
        struct session *session = list_entry(mailbox->sessions.next, struct session, node);
        session->ops->forget(session);
    }
    seats_close(&mailbox->seats);
    mailbox_group_close(mailbox->group);
    free(mailbox->doors);
}

int sim_imap_start(struct sim_imap *imap)
{
    static const struct disk_fault_settings whole = {0}; /* it starts, or an operator comes */
    struct sim_host *host = imap->host;
    disk_fault_set(imap->store.rig.fault, &whole);
    disk_fault_hold(imap->store.rig.fault, false);
    imap->store.wall_s = (uint64_t)world_wall_s(&host->sim->world.world);
    int status = mailstore_rig_start(&imap->store);
    disk_fault_set(imap->store.rig.fault, &imap->disk);
    if (status < 0) {
        return status;
    }
    login_fake_open(imap->desk);
    mailbox_make(imap);
    const struct shard_part part = {.name = "store", .self = imap, .poll = store_poll};
    shard_add(&host->shard, &part);
    check(mailbox_listen(&imap->mailbox) == 0);
    imap->disk_due_ns = UINT64_MAX;
    imap->serves = true;
    imap->lives++;
    sim_host_touch(host);
    return 0;
}

void sim_imap_crash(struct sim_imap *imap)
{
    struct sim_host *host = imap->host;
    sim_net_unplug(&host->sim->net, host->index); /* nobody hears its end */
    imap->serves = false;
    mailbox_end(&imap->mailbox);
    sim_host_cut(host);
    mailstore_rig_crash(&imap->store);
    if (sim_chance(host->sim, 30)) {
        mailstore_rig_forget_index(&imap->store);
    }
    sim_host_unplug(host);
}

void sim_imap_heal(struct sim_imap *imap)
{
    imap->disk = (struct disk_fault_settings){0};
    disk_fault_set(imap->store.rig.fault, &imap->disk);
    sim_host_touch(imap->host);
}

bool sim_imap_rests(const struct sim_imap *imap)
{
    return list_empty(&imap->mailbox.sessions) && mailstore_is_quiet(imap->store.store) &&
           log_is_quiet(imap->store.rig.log) && disk_fault_pending(imap->store.rig.fault) == 0;
}

void sim_imap_stop(struct sim_imap *imap)
{
    struct mailstore_rig *store = &imap->store;
    imap->serves = false;
    mailbox_end(&imap->mailbox);
    mailstore_rig_stop(store);
    check(mailstore_rig_start(store) == 0);
    char *kept = rig_dump(store);
    mailstore_rig_stop(store);
    mailstore_rig_forget_index(store);
    check(mailstore_rig_start(store) == 0);
    char *built = rig_dump(store);
    if (strcmp(kept, built) != 0) {
        sim_fail(imap->host->sim, "an index that is built anew differs from the one that was kept");
    }
    free(kept);
    free(built);
    mailstore_rig_stop(store);
}
