/* Hosts lose their power, and start again on what their disks hold. */
#include "engine/core/check.h"
#include "queue/log/log.h"
#include "queue/spool/spool.h"
#include "tests/sim/disk.h"
#include "tests/sim/mail_world.h"

#define AWAIT_NS (30 * SIM_S) /* for the moment at which a relay loses its power */
#define AWAIT_CHANGES_NS (4 * SIM_S)
#define CHANGES_MAX 60u /* of files, until a mailbox host loses its power */

static unsigned role_of(const struct mail *mail, unsigned index, char *role)
{
    if (index < mail->relay_count) {
        *role = 'r';
        return index;
    }
    index -= mail->relay_count;
    if (index < mail->mailbox_count) {
        *role = 'm';
        return index;
    }
    index -= mail->mailbox_count;
    *role = index < mail->sink_count ? 's' : 'c';
    return index < mail->sink_count ? index : index - mail->sink_count;
}

/* What a relay keeps when it has started again: its envelopes, then its texts. */
struct kept {
    struct mail *mail;
    uint64_t *ids;
    size_t count, room;
};

static void envelope_check(void *owner, struct message *message)
{
    struct kept *kept = owner;
    struct mail *mail = kept->mail;
    struct letter *letter;
    uint32_t recipient;
    check(kept->count < kept->room);
    kept->ids[kept->count++] = message->id;
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        struct slice path = message_forward_path(message, i);
        if ((message_flags(message) & SPOOL_BOUNCE) != 0) {
            if (letter_find_sender(&mail->letters, path) == NULL) {
                sim_fail(mail->sim, "a report is kept for %.*s", (int)path.size,
                         (const char *)path.bytes);
            }
        } else if (!letter_find(&mail->letters, path, &letter, &recipient)) {
            sim_fail(mail->sim, "mail is kept for %.*s, to whom nobody wrote", (int)path.size,
                     (const char *)path.bytes);
        } else {
            letter_check_kept(&mail->letters, letter, recipient, mail->void_since_ns);
        }
    }
}

/* Whose text it must be, of whom its first recipient tells. NULL: a report, which no client has written. */
static const struct letter *letter_of(struct mail *mail, const struct message *message)
{
    struct letter *letter = NULL;
    uint32_t recipient;
    if ((message_flags(message) & SPOOL_BOUNCE) == 0) {
        check(letter_find(&mail->letters, message_forward_path(message, 0), &letter, &recipient));
    }
    return letter;
}

static void text_check(struct mail *mail, struct sim_relay *relay, struct message *message)
{
    const struct letter *letter = letter_of(mail, message);
    uint8_t *text = malloc(message->body_bytes + 1);
    check(text != NULL);
    int status = sim_relay_text(relay, message, text);
    if (status < 0) {
        sim_fail(mail->sim, "host %u: a text of %u bytes is kept and cannot be read: %d",
                 relay->host->index, message->body_bytes, status);
    }
    if (letter != NULL) {
        char sender[64];
        letter_sender(letter, sender);
        if (!slice_equal(message_reverse_path(message), slice_text(sender))) {
            sim_fail(mail->sim, "host %u keeps letter %u as if somebody else had written it",
                     relay->host->index, letter->id);
        }
        letter_compare(&mail->letters, letter, slice_of(text, message->body_bytes));
    }
    free(text);
}

static void kept_check(struct mail *mail, struct sim_relay *relay)
{
    struct spool *spool = relay_spool(relay->relay);
    struct kept kept = {.mail = mail, .room = spool_counters(spool)->live_messages};
    kept.ids = calloc(kept.room + 1, sizeof(kept.ids[0]));
    check(kept.ids != NULL);
    spool_each(spool, envelope_check, &kept);
    for (size_t i = 0; i < kept.count; i++) {
        struct message *message = spool_find(spool, kept.ids[i]);
        check(message != NULL);
        text_check(mail, relay, message);
    }
    free(kept.ids);
}

static bool starts_in_vain(struct mail *mail)
{
    return mail->sim->world.now_ns < mail->until_ns && sim_chance(mail->sim, 20);
}

static void mailbox_boot(struct mail *mail)
{
    for (unsigned i = 0; i < 3 && starts_in_vain(mail); i++) {
        sim_mailbox_start_in_vain(&mail->mailbox);
    }
    int status = sim_mailbox_start(&mail->mailbox);
    if (status < 0) {
        sim_fail(mail->sim, "the mailbox service does not start: %d", status);
    }
}

static void relay_boot(struct mail *mail, unsigned number)
{
    struct sim *sim = mail->sim;
    struct sim_relay *relay = &mail->relays[number];
    mail->void_since_ns = relay->void_since_ns;
    for (unsigned i = 0; i < 3 && starts_in_vain(mail); i++) {
        sim_relay_start_in_vain(relay);
    }
    int status = sim_relay_start(relay);
    if (status < 0) {
        sim_fail(sim, "host %u: the relay does not start: %d", relay->host->index, status);
    }
    kept_check(mail, relay);
    sim_say(sim, "host %u is back, with %llu messages", relay->host->index,
            (unsigned long long)spool_counters(relay_spool(relay->relay))->live_messages);
}

static void boot(struct timer *timer, uint64_t now_ns)
{
    struct mail_host *power = list_entry(timer, struct mail_host, boot);
    struct mail *mail = power->mail;
    struct sim *sim = mail->sim;
    char role;
    unsigned number = role_of(mail, power->index, &role);
    sim_host_open(&sim->hosts[power->index]);
    if (role == 's') {
        mail_sink_start(&mail->sinks[number]);
    } else if (role == 'c') {
        mail_client_start(&mail->clients[number]);
    } else if (role == 'm') {
        mailbox_boot(mail);
    } else {
        relay_boot(mail, number);
    }
    if (now_ns < mail->until_ns) {
        wheel_arm(sim->script, &power->crash, now_ns + sim_spread(sim, SIM_MS, mail->calm_ns));
    }
}

static void crash(struct timer *timer, uint64_t now_ns)
{
    struct mail_host *power = list_entry(timer, struct mail_host, crash);
    struct mail *mail = power->mail;
    struct sim *sim = mail->sim;
    char role;
    unsigned number = role_of(mail, power->index, &role);
    bool stopped = role == 'm' && sim_files_stopped(mail->mailbox.files);
    if (now_ns > mail->until_ns && !stopped) {
        return;
    }
    if ((role == 'r' || role == 'm') && !power->awaits) {
        power->awaits = true;
        if (role == 'm') {
            sim_mailbox_await(&mail->mailbox, (uint32_t)sim_spread(sim, 1, CHANGES_MAX),
                              &power->crash);
        } else {
            sim_relay_await(&mail->relays[number], &power->crash);
        }
        wheel_arm(sim->script, &power->crash, now_ns + (role == 'm' ? AWAIT_CHANGES_NS : AWAIT_NS));
        return;
    }
    power->awaits = false;
    sim_say(sim, "host %u loses its power", power->index);
    if (role == 'r') {
        letters_forgotten(&mail->letters, mail->relays[number].settled_ns);
        sim_relay_crash(&mail->relays[number]);
        if (sim->options.plant == SIM_PLANT_TORN) {
            sim_disk_forget(mail->relays[number].fault);
        }
    } else if (role == 'm') {
        sim_mailbox_crash(&mail->mailbox,
                          sim_chance(sim, 30) ? SIM_FILES_KILLED : SIM_FILES_POWER_LOST);
    } else {
        if (role == 's') {
            mail_sink_crash(&mail->sinks[number]);
        } else {
            mail_client_crash(&mail->clients[number]);
        }
        sim_host_unplug(&sim->hosts[power->index]);
    }
    wheel_arm(sim->script, &power->boot, now_ns + sim_spread(sim, SIM_MS, mail->calm_ns));
}

void mail_power_open(struct mail *mail, unsigned index)
{
    struct mail_host *power = &mail->hosts[index];
    power->mail = mail;
    power->index = index;
    timer_init(&power->crash, crash);
    timer_init(&power->boot, boot);
}
