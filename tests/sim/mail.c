/*
 * mail: clients send letters to a relay, which passes them on to sinks, or to a second relay that does;
 * over networks with faults and on disks that lie. mailbox: the same with the mailbox service in place of
 * the sinks, which only get the reports. secure: the same as mail, with STARTTLS on every way.
 *
 * Any host may lose its power at any moment, and starts again on what its disk holds. Then the faults end,
 * the queues drain, and the letters are counted.
 */
#include "engine/core/check.h"
#include "engine/net/stack_private.h"
#include "queue/log/log.h"
#include "queue/spool/spool.h"
#include "tests/sim/mail_world.h"
#include "tests/sim/secure.h"

#define DRAIN_NS (3600 * SIM_S)
#define REST_NS (600 * SIM_S)
#define SETTLE_NS (70 * SIM_S)

/* ---- What excuses what ---- */

static bool may_repeat(void *owner, const struct letter *letter, uint32_t recipient)
{
    struct mail *mail = owner;
    const struct letter_recipient *to = &letter->recipients[recipient];
    /* That it was delivered is written down later than it is known. */
    if (to->unsure) {
        return true;
    }
    /* The first relay may have given it to the second one twice, before anybody else had it. */
    return mail->relay_count > 1 && (mail->relays[0].crashed_ns >= letter->sent_ns ||
                                     sim_relay_deferred(&mail->relays[0]) > 0);
}

static bool may_fail(void *owner, const struct letter *letter, uint32_t recipient)
{
    struct mail *mail = owner;
    return letter->recipients[recipient].rejected || mail->expires;
}

static struct sim_host *sink_host(const struct mail *mail, unsigned sink)
{
    return &mail->sim->hosts[mail->relay_count + mail->mailbox_count + sink];
}

/* ---- Setting up ---- */

/* All sinks take its mail: where it goes is what the DNS says at the time. */
static void route_by_mx(struct mail *mail, struct conf_route *route, unsigned site)
{
    route->via = CONF_VIA_MX;
    route->port = SIM_SINK_PORT;
    route->family = mail->family == SIM_IPV6 ? CONF_FAMILY_IPV6 : CONF_FAMILY_IPV4;
    for (unsigned i = 0; i < mail->sink_count; i++) {
        mail->sinks[i].sites |= 1u << site;
    }
}

static void routes_fill(struct mail *mail, unsigned number, bool lmtp)
{
    struct sim *sim = mail->sim;
    struct sim_relay *relay = &mail->relays[number];
    sim_dns_setup(&relay->dns, sim, number);
    for (unsigned i = 0; i < mail->sink_count; i++) {
        struct endpoint sink = sim_host_at(sink_host(mail, i), mail->family, SIM_SINK_PORT);
        sim_dns_add(&relay->dns, &sink);
    }
    bool by_mx = sim_dns_chance(&relay->dns, 60) && !lmtp;
    bool passes_on = number == 0 && mail->relay_count > 1;
    for (unsigned i = 0; i < SIM_ROUTES; i++) {
        struct conf_route *route = &relay->routes[i];
        if (i == SIM_BACK) {
            snprintf(relay->matches[i], sizeof(relay->matches[i]), "back.example");
        } else {
            snprintf(relay->matches[i], sizeof(relay->matches[i]), "s%u.example", i);
        }
        route->to = relay->next_hops[i];
        route->to_count = 0;
        if (passes_on && i != SIM_BACK && sim_chance(sim, 60)) {
            relay->next_hops[i][route->to_count++] =
                sim_host_at(&sim->hosts[1], mail->family, SIM_SMTP_PORT);
            route->via = CONF_VIA_SMTP;
            continue;
        }
        if (mail->mailbox_count > 0 && i != SIM_BACK) {
            relay->next_hops[i][route->to_count++] = mail->mailbox.address;
            route->via = CONF_VIA_LMTP;
            continue;
        }
        bool both = mail->sink_count > 1 && sim_chance(sim, 40);
        unsigned first = sim_below(sim, mail->sink_count);
        for (unsigned j = 0; j <= (both ? 1u : 0u); j++) {
            unsigned sink = (first + j) % mail->sink_count;
            relay->next_hops[i][route->to_count++] =
                sim_host_at(sink_host(mail, sink), mail->family, SIM_SINK_PORT);
            mail->sinks[sink].sites |= 1u << i;
        }
        route->via = lmtp ? CONF_VIA_LMTP : CONF_VIA_SMTP;
        if (by_mx && sim_dns_chance(&relay->dns, 70)) {
            route->to_count = 0;
            route_by_mx(mail, route, i);
        }
    }
}

/* Before the hosts are set up, but for what they draw themselves. */
static void secure_draw(struct mail *mail)
{
    static const enum conf_tls_level levels[] = {CONF_LEVEL_OPPORTUNISTIC, CONF_LEVEL_REQUIRED,
                                                 CONF_LEVEL_VERIFIED};
    struct sim *sim = mail->sim;
    sim_secure_seed(sim);
    enum conf_tls_level level = levels[sim_below(sim, RTE_DIM(levels))];
    bool required = sim_chance(sim, 40);
    for (unsigned i = 0; i < mail->relay_count; i++) {
        mail->relays[i].secures = true;
        mail->relays[i].level = level;
        mail->relays[i].listener_tls =
            required && level != CONF_LEVEL_OPPORTUNISTIC ? CONF_TLS_REQUIRED : CONF_TLS_STARTTLS;
    }
    mail->never_clear = level != CONF_LEVEL_OPPORTUNISTIC;
    mail->client_tls = required ? SMTP_CLIENT_TLS_REQUIRED : SMTP_CLIENT_TLS_IF_OFFERED;
}

static void set_up(struct mail *mail)
{
    struct sim *sim = mail->sim;
    bool lmtp = sim_chance(sim, 40);
    mail->family = sim_chance(sim, 50) ? SIM_IPV6 : SIM_IPV4;
    sim_say(sim, "they speak IPv%d", mail->family == SIM_IPV6 ? 6 : 4);
    unsigned at = 0;
    letters_open(&mail->letters, sim);
    mail->letters.large_percent = mail->calm_ns <= 3 * SIM_S && sim_chance(sim, 50) ? 50 : 10;
    mail->letters.may_repeat = may_repeat;
    mail->letters.may_fail = may_fail;
    mail->letters.owner = mail;
    if (mail->secures) {
        secure_draw(mail);
    }
    for (unsigned i = 0; i < sim->host_count; i++) {
        /* Mail that is lost by a stack with tables of a few entries is no news. */
        sim->hosts[i].limits.held_mbuf_max = 0;
        sim_host_open(&sim->hosts[i]);
    }
    for (unsigned i = 0; i < mail->sink_count; i++) {
        mail_sink_setup(&mail->sinks[i], sink_host(mail, i), &mail->letters, lmtp);
        mail->sinks[i].family = mail->family;
        mail->sinks[i].secures = mail->secures;
        mail->sinks[i].never_clear = mail->never_clear;
        mail_sink_start(&mail->sinks[i]);
    }
    if (mail->mailbox_count > 0) {
        mail->letters.user_count = SIM_USERS;
        sim_mailbox_setup(&mail->mailbox, &sim->hosts[mail->relay_count], &mail->letters,
                          mail->family);
        check(sim_mailbox_start(&mail->mailbox) == 0);
    }
    for (unsigned i = 0; i < mail->relay_count; i++) {
        routes_fill(mail, i, lmtp);
        sim_relay_setup(&mail->relays[i], &sim->hosts[at++], mail->family);
        mail->expires |= mail->relays[i].conf->retry.expire < 3600 * SIM_S;
        int status = sim_relay_start(&mail->relays[i]);
        if (status < 0) {
            sim_fail(sim, "the relay does not start: %d", status);
        }
    }
    mail->letters.reports_expire = mail->expires;
    mail->letters.relayed_on = mail->relay_count > 1;
    mail->letters.wishes_lost = mail->relay_count > 1 && !mail->relays[1].conf->smtp.dsn;
    at += mail->mailbox_count + mail->sink_count;
    for (unsigned i = 0; i < mail->client_count; i++) {
        struct endpoint relay = sim_host_at(&sim->hosts[0], mail->family, SIM_SMTP_PORT);
        mail_client_setup(&mail->clients[i], &sim->hosts[at++], &mail->letters, &relay);
        mail->clients[i].site_count = SIM_SITES;
        mail->clients[i].secures = mail->secures;
        mail->clients[i].tls = mail->client_tls;
        mail_client_start(&mail->clients[i]);
    }
    for (unsigned i = 0; i < sim->host_count; i++) {
        struct mail_host *power = &mail->hosts[i];
        mail_power_open(mail, i);
        uint64_t when_ns = sim_spread(sim, SIM_MS, mail->calm_ns);
        bool stores = i == 0 || (mail->mailbox_count > 0 && i == mail->relay_count);
        bool loses = sim_chance(sim, stores ? 90 : 30);
        if (loses && sim_fault_on(&sim->faults, SIM_FAULT_CRASH)) {
            wheel_arm(sim->script, &power->crash, sim->world.now_ns + when_ns);
        }
    }
}

/* ---- The end ---- */

static bool all_drained(struct sim *sim, void *owner)
{
    struct mail *mail = owner;
    for (unsigned i = 0; i < sim->host_count; i++) {
        if (!sim->hosts[i].up) {
            return false;
        }
    }
    for (unsigned i = 0; i < mail->client_count; i++) {
        if (!mail_client_done(&mail->clients[i])) {
            return false;
        }
    }
    for (unsigned i = 0; i < mail->relay_count; i++) {
        const struct spool_counters *spool = spool_counters(relay_spool(mail->relays[i].relay));
        const struct relay_counters *counts = relay_counters(mail->relays[i].relay);
        if (spool->live_messages > 0 || spool->drafts > 0 || counts->sessions_in > 0 ||
            counts->sessions_out > 0 || !log_is_quiet(mail->relays[i].log)) {
            return false;
        }
    }
    return true;
}

static void not_drained(struct mail *mail)
{
    for (unsigned i = 0; i < mail->relay_count; i++) {
        const struct sim_relay *relay = &mail->relays[i];
        if (relay->relay == NULL) {
            continue;
        }
        const struct spool_counters *spool = spool_counters(relay_spool(relay->relay));
        const struct relay_counters *counts = relay_counters(relay->relay);
        sim_say(mail->sim,
                "host %u: %llu messages, %llu drafts, %u sessions in, %u out, log quiet %d", i,
                (unsigned long long)spool->live_messages, (unsigned long long)spool->drafts,
                counts->sessions_in, counts->sessions_out, log_is_quiet(relay->log));
    }
    sim_fail(mail->sim,
             "the queues do not drain while the network works; first relay: %llu messages, "
             "%u sessions in, %u out; %u sessions of the first client",
             (unsigned long long)spool_counters(relay_spool(mail->relays[0].relay))->live_messages,
             relay_counters(mail->relays[0].relay)->sessions_in,
             relay_counters(mail->relays[0].relay)->sessions_out, mail->clients[0].session_count);
}

static bool all_ended(struct sim *sim, void *owner)
{
    struct mail *mail = owner;
    (void)sim;
    if (mail->mailbox_count > 0 && !mail->mailbox.drained) {
        return false;
    }
    for (unsigned i = 0; i < mail->relay_count; i++) {
        if (!relay_drained(mail->relays[i].relay) || !log_is_quiet(mail->relays[i].log) ||
            disk_fault_pending(mail->relays[i].fault) > 0) {
            return false;
        }
    }
    return true;
}

/* A copy too many has come of a transaction that did not end well for the relay: it has put those
 * recipients off, or lost its power. */
static void mailbox_check_all(struct mail *mail)
{
    uint64_t deferred = 0;
    sim_mailbox_check(&mail->mailbox);
    for (unsigned i = 0; i < mail->relay_count; i++) {
        deferred += sim_relay_deferred(&mail->relays[i]);
    }
    uint32_t extra = sim_mailbox_extra_copies(&mail->mailbox);
    if (extra > deferred) {
        sim_fail(mail->sim,
                 "%u copies too many lie in Maildirs, though only %llu recipients were "
                 "put off",
                 extra, (unsigned long long)deferred);
    }
    mail->letters.repeats += extra;
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

static bool never(struct sim *sim, void *owner)
{
    (void)sim;
    (void)owner;
    return false;
}

static void secure_check_quiet(const struct mail *mail)
{
    for (unsigned i = 0; i < mail->relay_count; i++) {
        sim_secure_check_quiet(mail->relays[i].host, mail->relays[i].tls.tls);
    }
    for (unsigned i = 0; i < mail->sink_count; i++) {
        sim_secure_check_quiet(mail->sinks[i].host, mail->sinks[i].secure.tls);
    }
    for (unsigned i = 0; i < mail->client_count; i++) {
        sim_secure_check_quiet(mail->clients[i].host, mail->clients[i].secure.tls);
    }
}

static void finish(struct mail *mail)
{
    struct sim *sim = mail->sim;
    for (unsigned i = 0; i < mail->relay_count; i++) {
        relay_drain(mail->relays[i].relay, sim->world.now_ns + 60 * SIM_S);
        sim_host_touch(&sim->hosts[i]);
    }
    if (mail->mailbox_count > 0) {
        sim_mailbox_drain(&mail->mailbox);
    }
    if (!sim_run_until(sim, all_ended, mail, 200 * SIM_S)) {
        sim_fail(sim, "a relay does not come to its end");
    }
    sim_run_until(sim, all_quiet, mail, REST_NS);
    sim_run(sim, SETTLE_NS);
    for (unsigned i = 0; i < sim->host_count; i++) {
        sim_host_check_quiet(&sim->hosts[i]);
    }
    secure_check_quiet(mail);
    if (mail->mailbox_count > 0) {
        sim_mailbox_check_quiet(&mail->mailbox);
        sim_mailbox_stop(&mail->mailbox);
        sim_mailbox_teardown(&mail->mailbox);
    }
    for (unsigned i = 0; i < mail->relay_count; i++) {
        if (mail->relays[i].relay != NULL) {
            sim_relay_stop(&mail->relays[i]);
        }
        sim_relay_teardown(&mail->relays[i]);
    }
}

/* What the scenarios of this file differ in. */
struct mail_kind {
    unsigned mailbox_count;
    bool secures;
};

static void secured_say(const struct mail *mail)
{
    uint64_t in = 0, out = 0;
    for (unsigned i = 0; i < mail->client_count; i++) {
        in += mail->clients[i].secured;
    }
    for (unsigned i = 0; i < mail->sink_count; i++) {
        out += mail->sinks[i].secured;
    }
    sim_say(mail->sim, "over TLS: %llu sessions of clients, %llu of sinks", (unsigned long long)in,
            (unsigned long long)out);
}

static void mail_run_with(const struct sim_options *options, const struct mail_kind *kind)
{
    unsigned mailbox_count = kind->mailbox_count;
    static struct sim sim;
    static struct mail mail;
    uint64_t draw = options->seed ^ 0x3a11;
    memset(&mail, 0, sizeof(mail));
    mail.mailbox_count = mailbox_count;
    mail.secures = kind->secures;
    mail.relay_count = 1 + (net_random_below(&draw, 3) == 0);
    mail.sink_count = 1 + net_random_below(&draw, SINKS_MAX);
    mail.client_count = 1 + net_random_below(&draw, CLIENTS_MAX);
    sim_open(&sim, options, mail.relay_count + mailbox_count + mail.sink_count + mail.client_count);
    mail.sim = &sim;
    mail.calm_ns = 30 * SIM_S;
    if (sim_chance(&sim, mailbox_count > 0 ? 85 : 50)) { /* what a queue is there for */
        mail.calm_ns = 3 * SIM_S;
        sim_faults_on(&sim.faults, 1u << SIM_FAULT_CRASH | 1u << SIM_FAULT_DISK);
    }
    set_up(&mail);
    uint64_t fault_ns = sim_spread(&sim, SIM_S, 90 * SIM_S);
    mail.until_ns = sim.world.now_ns + fault_ns;
    sim_run_until(&sim, never, &mail, fault_ns);
    sim_heal(&sim);
    for (unsigned i = 0; i < mail.relay_count; i++) {
        sim_relay_heal(&mail.relays[i]);
    }
    if (mailbox_count > 0) {
        sim_mailbox_heal(&mail.mailbox);
    }
    for (unsigned i = 0; i < mail.sink_count; i++) {
        mail_sink_heal(&mail.sinks[i]);
    }
    if (!sim_run_until(&sim, all_drained, &mail, DRAIN_NS)) {
        not_drained(&mail);
    }
    if (mailbox_count > 0) {
        mailbox_check_all(&mail);
    }
    letters_check_all(&mail.letters);
    if (mail.secures) {
        secured_say(&mail);
    }
    sim_say(
        &sim,
        "clean: %u letters, %llu deliveries, %llu of them again, %llu reports; %llu answers of the "
        "first relay's DNS; %llu steps, %llu frames, %llu lost",
        mail.letters.count, (unsigned long long)mail.letters.deliveries,
        (unsigned long long)mail.letters.repeats, (unsigned long long)mail.letters.reports,
        (unsigned long long)mail.relays[0].dns.answers, (unsigned long long)sim.steps,
        (unsigned long long)sim.net.frames, (unsigned long long)sim.net.lost);
    finish(&mail);
    for (unsigned i = 0; i < mail.client_count; i++) {
        mail_client_crash(&mail.clients[i]);
    }
    for (unsigned i = 0; i < mail.sink_count; i++) {
        mail_sink_crash(&mail.sinks[i]);
    }
    letters_close(&mail.letters);
    sim_close(&sim);
}

static void mail_run(const struct sim_options *options)
{
    mail_run_with(options, &(const struct mail_kind){0});
}

static void mailbox_run(const struct sim_options *options)
{
    mail_run_with(options, &(const struct mail_kind){.mailbox_count = 1});
}

static void secure_run(const struct sim_options *options)
{
    mail_run_with(options, &(const struct mail_kind){.secures = true});
}

const struct sim_scenario secure_scenario = {.name = "secure", .run = secure_run};

const struct sim_scenario mailbox_scenario = {.name = "mailbox", .run = mailbox_run};
const struct sim_scenario mail_scenario = {.name = "mail", .run = mail_run};
