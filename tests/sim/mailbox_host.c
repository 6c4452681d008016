#include "tests/sim/mailbox_host.h"
#include "engine/core/check.h"
#include "engine/mailbox/mailbox_private.h"
#include "queue/mailbox/maildir_private.h"
#include "tests/sim/sim.h"

#define PENDING_CHUNKS_MAX 12u
#define DRAIN_GRACE_NS (60 * SIM_S)

/* ---- The writer, which has no thread here ---- */

static unsigned writer_poll(void *self, uint64_t now_ns)
{
    struct sim_mailbox *mailbox = self;
    if (now_ns < mailbox->due_ns) {
        return 0;
    }
    mailbox->due_ns = UINT64_MAX;
    maildir_write(mailbox->mailbox->store);
    if (sim_files_stopped(mailbox->files) && mailbox->crash != NULL) {
        struct sim *sim = mailbox->host->sim;
        sim_net_unplug(&sim->net, mailbox->host->index); /* it says nothing more */
        wheel_arm(sim->script, mailbox->crash, now_ns);
        mailbox->crash = NULL;
    }
    return 1;
}

static uint64_t mailbox_next_ns(struct sim_host *host)
{
    struct sim_mailbox *mailbox = host->owner;
    if (mailbox->mailbox == NULL) {
        return UINT64_MAX;
    }
    if (mailbox->due_ns == UINT64_MAX && maildir_has_work(mailbox->mailbox->store)) {
        mailbox->due_ns =
            host->sim->world.now_ns + sim_spread(host->sim, 20 * SIM_US, mailbox->slow_ns);
    }
    return mailbox->due_ns;
}

void sim_mailbox_await(struct sim_mailbox *mailbox, uint32_t changes, struct timer *crash)
{
    mailbox->crash = crash;
    sim_files_stop_after(mailbox->files, changes);
}

/* ---- Setting up ---- */

static void conf_make(struct sim_mailbox *mailbox)
{
    struct sim *sim = mailbox->host->sim;
    static struct conf_report report;
    check(mailboxd_conf_load(&mailbox->conf, NULL, "mailbox.example", &report) == 0);
    struct mailboxd_conf *conf = mailbox->conf;
    mailbox->listener = (struct conf_listener){.name = "lmtp",
                                               .protocol = CONF_PROTOCOL_LMTP,
                                               .addresses = &mailbox->address,
                                               .addresses_count = 1};
    conf->listen = &mailbox->listener;
    conf->listen_count = 1;
    conf->users.any = false;
    for (unsigned i = 0; i < SIM_USERS; i++) {
        snprintf(mailbox->names[i], sizeof(mailbox->names[i]), "u%u", i + 1);
        mailbox->known[i] = mailbox->names[i];
    }
    conf->users.known = mailbox->known;
    conf->users.known_count = SIM_USERS;
    conf->limits.connections = (uint32_t)sim_spread(sim, 1, 20);
    conf->limits.pending_bytes = sim_spread(sim, 1, PENDING_CHUNKS_MAX) * MAILDIR_CHUNK_BYTES;
    conf->timeouts.command = conf->timeouts.data = 90 * SIM_S;
}

static void files_draw(struct sim_mailbox *mailbox)
{
    struct sim *sim = mailbox->host->sim;
    struct sim_files_settings *faults = &mailbox->faults;
    *faults = (struct sim_files_settings){.no_rename = sim_chance(sim, 25),
                                          .short_writes = (uint32_t)sim_spread(sim, 0, 20)};
    uint32_t errors = (uint32_t)sim_spread(sim, 0, 500);
    uint32_t sync_errors = (uint32_t)sim_spread(sim, 0, 3000);
    uint64_t capacity = sim_spread(sim, 20000, 4000000);
    bool fails = sim_chance(sim, 50), fills = sim_chance(sim, 40);
    if (!sim_fault_on(&sim->faults, SIM_FAULT_DISK)) {
        return;
    }
    if (fails) {
        faults->errors = errors;
        faults->sync_errors = sync_errors;
    }
    faults->capacity_bytes = fills ? capacity : 0;
}

void sim_mailbox_setup(struct sim_mailbox *mailbox, struct sim_host *host, struct letters *letters,
                       enum sim_family family)
{
    struct sim *sim = host->sim;
    mailbox->host = host;
    mailbox->letters = letters;
    mailbox->address = sim_host_at(host, family, SIM_LMTP_PORT);
    mailbox->slow_ns = sim_spread(sim, 50 * SIM_US, 200 * SIM_MS);
    conf_make(mailbox);
    files_draw(mailbox);
    mailbox->files = sim_files_open(net_random(&sim->random));
    host->owner = mailbox;
    host->next_ns = mailbox_next_ns;
}

void sim_mailbox_teardown(struct sim_mailbox *mailbox)
{
    sim_files_close(mailbox->files);
    mailboxd_conf_free(mailbox->conf);
}

void sim_mailbox_heal(struct sim_mailbox *mailbox)
{
    mailbox->crash = NULL;
    mailbox->faults = (struct sim_files_settings){.no_rename = mailbox->faults.no_rename};
    sim_files_set(mailbox->files, &mailbox->faults);
    if (!sim_files_stopped(mailbox->files)) { /* else it is about to lose its power */
        sim_files_stop_after(mailbox->files, UINT32_MAX);
    }
}

/* ---- Life and death ---- */

static void mailbox_drained(void *owner)
{
    ((struct sim_mailbox *)owner)->drained = true;
}

static int mailbox_begin(struct sim_mailbox *mailbox)
{
    const struct sim_files_settings whole = {.no_rename = mailbox->faults.no_rename};
    const struct mailbox_settings settings = {.conf = mailbox->conf,
                                              .shard = &mailbox->host->shard,
                                              .network = mailbox->host->network,
                                              .files = sim_files_table(mailbox->files),
                                              .driven = true,
                                              .stateless = true,
                                              .process_id = 1, /* as in a container, each time */
                                              .drained = mailbox_drained,
                                              .owner = mailbox};
    sim_files_set(mailbox->files, &whole); /* it starts, or an operator comes */
    int status = mailbox_open(&mailbox->mailbox, &settings);
    sim_files_set(mailbox->files, &mailbox->faults);
    return status;
}

static void left_in_staging(void *owner, const char *name, struct slice text)
{
    struct sim_mailbox *mailbox = owner;
    (void)text;
    sim_fail(mailbox->host->sim, "host %u: %s is left in the staging folder", mailbox->host->index,
             name);
}

int sim_mailbox_start(struct sim_mailbox *mailbox)
{
    int status = mailbox_begin(mailbox);
    if (status < 0) {
        return status;
    }
    const struct shard_part part = {.name = "writer", .self = mailbox, .poll = writer_poll};
    shard_add(&mailbox->host->shard, &part);
    mailbox_add_parts(mailbox->mailbox);
    check(mailbox_listen(mailbox->mailbox) == 0);
    mailbox->due_ns = UINT64_MAX;
    sim_files_each(mailbox->files, MAILDIR_STAGING, left_in_staging, mailbox);
    sim_host_touch(mailbox->host);
    return 0;
}

void sim_mailbox_start_in_vain(struct sim_mailbox *mailbox)
{
    sim_files_stop_after(mailbox->files, (uint32_t)sim_spread(mailbox->host->sim, 0, 5));
    int status = mailbox_begin(mailbox);
    sim_say(mailbox->host->sim, "host %u loses its power while it starts: %d", mailbox->host->index,
            status);
    sim_files_stop_after(mailbox->files, 0);
    if (status == 0) {
        mailbox_close(mailbox->mailbox);
    }
    mailbox->mailbox = NULL;
    sim_files_crash(mailbox->files, SIM_FILES_POWER_LOST);
}

void sim_mailbox_crash(struct sim_mailbox *mailbox, enum sim_files_end end)
{
    struct sim_host *host = mailbox->host;
    sim_net_unplug(&host->sim->net, host->index); /* nobody hears its end */
    mailbox_leave(mailbox->mailbox);
    sim_host_cut(host);
    sim_files_stop_after(mailbox->files, 0);
    mailbox_close(mailbox->mailbox);
    mailbox->mailbox = NULL;
    mailbox->crash = NULL;
    sim_files_crash(mailbox->files, end);
    sim_host_unplug(host);
    sim_mailbox_check(mailbox);
    if (end == SIM_FILES_POWER_LOST) {
        mailbox->survived = mailbox->copies;
    }
}

void sim_mailbox_check_quiet(struct sim_mailbox *mailbox)
{
    struct sim *sim = mailbox->host->sim;
    const struct maildir *store = mailbox->mailbox->store;
    unsigned open = sim_files_open_count(mailbox->files), spare = 0;
    for (const struct list_node *node = store->spare.next; node != &store->spare;
         node = node->next) {
        spare++;
    }
    if (open != 2) {
        sim_fail(sim, "host %u: %u files and folders are open, not the two of the store",
                 mailbox->host->index, open);
    }
    if (spare != store->chunk_count || spare > store->chunk_count_max) {
        sim_fail(sim, "host %u: of %zu pieces of memory %u are back, and %zu are allowed",
                 mailbox->host->index, store->chunk_count, spare, store->chunk_count_max);
    }
    if (sim_files_unremoved(mailbox->files) == 0) { /* else it stays until the next start */
        sim_files_each(mailbox->files, MAILDIR_STAGING, left_in_staging, mailbox);
    }
}

void sim_mailbox_drain(struct sim_mailbox *mailbox)
{
    mailbox_drain(mailbox->mailbox, mailbox->host->sim->world.now_ns + DRAIN_GRACE_NS);
    sim_host_touch(mailbox->host);
}

void sim_mailbox_stop(struct sim_mailbox *mailbox)
{
    mailbox_close(mailbox->mailbox);
    mailbox->mailbox = NULL;
    if (sim_files_open_count(mailbox->files) != 0) {
        sim_fail(mailbox->host->sim, "host %u: files are left open", mailbox->host->index);
    }
}
