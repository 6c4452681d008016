/*
 * week: a whole relay for a week of virtual time, with five sites that each try its schedule: one works; one
 * is dead for two days; one greylists, and never takes some; one refuses for good; one is suspended by the
 * operator, first itself and later its domain, each over a restart. The relay loses its power four times. No other
 * faults: when something happens is what is checked.
 */
#include "engine/core/check.h"
#include "engine/relay/operator_orders.h"
#include "queue/log/log.h"
#include "queue/spool/spool.h"
#include "tests/sim/mail_client.h"
#include "tests/sim/mail_sink.h"
#include "tests/sim/relay_host.h"

#define MINUTE (60 * SIM_S)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

#define RETRY_FIRST (15 * MINUTE)
#define RETRY_LIMIT (4 * HOUR)
#define RETRY_JITTER 20u
#define EXPIRE (3 * DAY)
#define WARN (6 * HOUR)
#define GREY_NS (5 * MINUTE)
#define OFF_NS (3 * MINUTE) /* the relay, each time */
#define SLACK_NS                                                                                   \
    (2 * MINUTE) /* to connect, to wait for a connection that is there, and to say it all */
#define PAUSE_NS (3 * HOUR) /* of the client, between two letters */
#define HEARTBEAT_NS (20 * SIM_S)
#define RESTARTS 4u
#define SUSPENSIONS 2u

enum week_site { SITE_WORKS, SITE_DEAD, SITE_GREY, SITE_REFUSES, SITE_SUSPENDED, WEEK_SITES };
/* On the relay the reports' site is among them. */
static const uint8_t sites[WEEK_SITES] = {0, 1, 2, 4, 5};

struct attempts { /* of a recipient at a site that has answered */
    uint32_t count;
    uint64_t first_ns, last_ns;
};

struct week {
    struct sim *sim;
    struct letters letters;
    struct sim_relay relay;
    struct mail_sink sinks[WEEK_SITES];
    struct mail_client client;
    struct attempts attempts[LETTERS_MAX][LETTER_RECIPIENTS_MAX];
    uint64_t tried_ns[LETTERS_MAX];                 /* the last attempt for any recipient */
    uint64_t crash_ns[RESTARTS], back_ns[RESTARTS]; /* of the relay */
    unsigned restart_count;
    uint64_t alive_ns; /* the dead site, from then on */
    uint64_t suspend_ns[SUSPENSIONS], resume_ns[SUSPENSIONS];
    unsigned suspension_count;
    uint32_t probes, round;
    bool in_first_round;             /* after a start */
    uint64_t probe_ns, probe_gap_ns; /* the last one; the longest wait between two */
    uint64_t last_admitted_ns;
};

static enum week_site role_of(uint8_t site)
{
    unsigned role = 0;
    while (sites[role] != site) {
        role++;
    }
    return (enum week_site)role;
}

/* How much of the time between two moments the relay was without power. */
static uint64_t off_between(const struct week *week, uint64_t from_ns, uint64_t to_ns)
{
    uint64_t off_ns = 0;
    for (unsigned i = 0; i < week->restart_count; i++) {
        uint64_t begin = week->crash_ns[i] > from_ns ? week->crash_ns[i] : from_ns;
        uint64_t end = week->back_ns[i] < to_ns ? week->back_ns[i] : to_ns;
        off_ns += end > begin ? end - begin : 0;
    }
    return off_ns;
}

static bool crashed_between(const struct week *week, uint64_t from_ns, uint64_t to_ns)
{
    return off_between(week, from_ns, to_ns) > 0;
}

/* ---- The sites ---- */

/* The wait after the count-th failure is that of the policy, no less and no more, whatever has happened to the
 * relay meanwhile. */
static void wait_check(struct week *week, const struct letter *letter, uint32_t recipient,
                       const struct attempts *attempts)
{
    uint64_t now_ns = week->sim->world.now_ns, waited_ns = now_ns - attempts->last_ns;
    uint64_t wait_ns = RETRY_FIRST;
    for (uint32_t i = 1; i < attempts->count && wait_ns < RETRY_LIMIT; i++) {
        wait_ns = wait_ns * 2 < RETRY_LIMIT ? wait_ns * 2 : RETRY_LIMIT;
    }
    uint64_t spread_ns = wait_ns / 100 * RETRY_JITTER;
    uint64_t most_ns = wait_ns + spread_ns < RETRY_LIMIT ? wait_ns + spread_ns : RETRY_LIMIT;
    uint64_t off_ns = off_between(week, attempts->last_ns, now_ns);
    /* What survives is how often the message was tried, and when last: for any of its recipients. */
    if (crashed_between(week, attempts->first_ns, now_ns)) {
        most_ns = RETRY_LIMIT;
    }
    if (off_ns > 0) {
        most_ns += week->tried_ns[letter->id] - attempts->last_ns;
    }
    /* The wait of a crash is drawn anew; the last attempt before it may not have got to the disk. */
    uint64_t early_ns = off_ns > 0 ? SLACK_NS : SIM_S;
    if (waited_ns + early_ns < wait_ns - spread_ns || waited_ns > most_ns + off_ns + SLACK_NS) {
        sim_fail(week->sim,
                 "letter %u: attempt %u for recipient %u comes after %llu s, not after %llu to "
                 "%llu",
                 letter->id, attempts->count + 1, recipient,
                 (unsigned long long)(waited_ns / SIM_S),
                 (unsigned long long)((wait_ns - spread_ns) / SIM_S),
                 (unsigned long long)(most_ns / SIM_S));
    }
}

static bool never_taken(const struct letter *letter)
{
    return letter->id % 5 == 0;
}

static unsigned grey_judge(struct mail_sink *sink, struct letter *letter, uint32_t recipient)
{
    struct week *week = sink->owner;
    struct attempts *attempts = &week->attempts[letter->id][recipient];
    uint64_t now_ns = week->sim->world.now_ns;
    if (attempts->count == 0) {
        attempts->first_ns = now_ns;
    } else {
        wait_check(week, letter, recipient, attempts);
    }
    attempts->count++;
    attempts->last_ns = week->tried_ns[letter->id] = now_ns;
    return never_taken(letter) || now_ns < attempts->first_ns + GREY_NS ? 451 : 0;
}

static unsigned refusing_judge(struct mail_sink *sink, struct letter *letter, uint32_t recipient)
{
    struct week *week = sink->owner;
    struct attempts *attempts = &week->attempts[letter->id][recipient];
    if (attempts->count++ > 0 &&
        !crashed_between(week, attempts->last_ns, week->sim->world.now_ns)) {
        sim_fail(week->sim, "letter %u comes to recipient %u again, who was refused for good",
                 letter->id, recipient);
    }
    attempts->last_ns = week->sim->world.now_ns;
    return 550;
}

/* It resets whoever connects. The relay may try it with one connection at a time, each after the policy's wait. */
static bool dead_admit(struct mail_sink *sink)
{
    struct week *week = sink->owner;
    uint64_t now_ns = week->sim->world.now_ns, gap_ns = now_ns - week->probe_ns;
    if (now_ns >= week->alive_ns) {
        return true;
    }
    uint64_t least_ns = RETRY_FIRST - RETRY_FIRST / 100 * RETRY_JITTER - SIM_S;
    bool fresh = crashed_between(week, week->probe_ns, now_ns) || week->probes == 0;
    /* That it is dead is not written down: who has just started tries it with all connections, once. */
    week->round = fresh ? 1 : gap_ns < SIM_S ? week->round + 1 : 1;
    bool first_round = fresh || (week->in_first_round && gap_ns < SIM_S);
    week->in_first_round = first_round;
    if (first_round ? week->round > week->relay.routes[sites[SITE_DEAD]].connections
                    : gap_ns < least_ns) {
        sim_fail(week->sim, "the dead site is tried again after %llu ms",
                 (unsigned long long)(gap_ns / SIM_MS));
    }
    week->probe_gap_ns =
        week->probes > 0 && gap_ns > week->probe_gap_ns ? gap_ns : week->probe_gap_ns;
    week->probes++;
    week->probe_ns = now_ns;
    return false;
}

static bool suspended_admit(struct mail_sink *sink)
{
    struct week *week = sink->owner;
    uint64_t now_ns = week->sim->world.now_ns;
    for (unsigned i = 0; i < week->suspension_count; i++) {
        if (now_ns > week->suspend_ns[i] + SLACK_NS && now_ns < week->resume_ns[i]) {
            sim_fail(week->sim, "the site is tried though %s is suspended",
                     i == 0 ? "it" : "its domain");
        }
    }
    return true;
}

/* ---- What must come when ---- */

/* When the last of what could hold it up is over. */
static uint64_t due_of(const struct week *week, const struct letter *letter, uint32_t recipient)
{
    uint64_t due_ns = letter->sent_ns;
    switch (role_of(letter->recipients[recipient].site)) {
    case SITE_DEAD:
        /* It is tried when it has rested, as long as the longest wait. */
        due_ns = due_ns < week->alive_ns + RETRY_LIMIT ? week->alive_ns + RETRY_LIMIT : due_ns;
        break;
    case SITE_GREY:
        due_ns += RETRY_FIRST + RETRY_FIRST / 100 * RETRY_JITTER;
        /* After a restart it waits as a message does that was tried for each of its recipients. */
        due_ns += crashed_between(week, letter->sent_ns, due_ns) ? RETRY_LIMIT : 0;
        break;
    case SITE_SUSPENDED:
        for (unsigned i = 0; i < week->suspension_count; i++) {
            bool waits = due_ns > week->suspend_ns[i] - SLACK_NS && due_ns < week->resume_ns[i];
            due_ns = waits ? week->resume_ns[i] : due_ns;
        }
        /* After a restart it waits as its message does, which another site may have put off. */
        due_ns += crashed_between(week, letter->sent_ns, due_ns) ? RETRY_LIMIT : 0;
        break;
    case SITE_WORKS:
    case SITE_REFUSES:
    case WEEK_SITES:
        break;
    }
    return due_ns + off_between(week, letter->sent_ns, due_ns + SLACK_NS) + SLACK_NS;
}

static void end_check(struct week *week, const struct letter *letter, uint32_t recipient)
{
    const struct letter_recipient *to = &letter->recipients[recipient];
    enum week_site role = role_of(to->site);
    bool fails = to->rejected || role == SITE_REFUSES || (role == SITE_GREY && never_taken(letter));
    bool expires = role == SITE_GREY && never_taken(letter);
    uint64_t due_ns = due_of(week, letter, recipient);
    if (expires) {
        due_ns = letter->sent_ns + EXPIRE + SLACK_NS + OFF_NS;
        /* What has grown too old while the relay was without power gets its next attempt yet. */
        bool off = crashed_between(week, due_ns - 2 * SLACK_NS - OFF_NS, due_ns);
        due_ns += off ? RETRY_LIMIT : 0;
    }
    uint64_t came_ns = fails ? to->bounced_ns : to->first_ns;
    if (fails && letter->null_sender) {
        return; /* nobody is told */
    }
    if (fails ? to->bounced == 0 : to->delivered == 0) {
        sim_fail(week->sim, "letter %u: recipient %u has nothing", letter->id, recipient);
    }
    if (came_ns > due_ns) {
        sim_fail(week->sim, "letter %u: what becomes of recipient %u comes %llu s too late",
                 letter->id, recipient, (unsigned long long)((came_ns - due_ns) / SIM_S));
    }
    /* After a restart its age is known to a second. */
    if (expires && came_ns + 2 * SIM_S < letter->sent_ns + EXPIRE) {
        sim_fail(week->sim, "letter %u: recipient %u expires %llu ms too early", letter->id,
                 recipient, (unsigned long long)((letter->sent_ns + EXPIRE - came_ns) / SIM_MS));
    }
    uint64_t waited_ns = came_ns - letter->sent_ns;
    bool warned = to->delayed > 0, must_warn = waited_ns > WARN + OFF_NS + SLACK_NS;
    bool may_warn = waited_ns >= WARN;
    if (!letter->null_sender &&
        (to->delayed > 1 || (warned && !may_warn) || (!warned && must_warn))) {
        sim_fail(week->sim,
                 "letter %u: recipient %u has waited %llu s, and its sender was warned %u times",
                 letter->id, recipient, (unsigned long long)(waited_ns / SIM_S), to->delayed);
    }
}

static bool may_repeat(void *owner, const struct letter *letter, uint32_t recipient)
{
    (void)owner;
    return letter->recipients[recipient].unsure;
}

static bool may_fail(void *owner, const struct letter *letter, uint32_t recipient)
{
    const struct letter_recipient *to = &letter->recipients[recipient];
    enum week_site role = role_of(to->site);
    (void)owner;
    return to->rejected || role == SITE_REFUSES || (role == SITE_GREY && never_taken(letter));
}

/* ---- Setting up ---- */

static void set_up(struct week *week)
{
    struct sim *sim = week->sim;
    struct sim_relay *relay = &week->relay;
    letters_open(&week->letters, sim);
    week->letters.wishless = true;
    week->letters.sites = sites;
    week->letters.may_repeat = may_repeat;
    week->letters.may_fail = may_fail;
    week->letters.owner = week;
    for (unsigned i = 0; i < sim->host_count; i++) {
        sim_host_open(&sim->hosts[i]);
    }
    relay->route_count = SIM_ROUTES_MAX;
    for (unsigned i = 0; i < WEEK_SITES; i++) {
        struct mail_sink *sink = &week->sinks[i];
        mail_sink_setup(sink, &sim->hosts[1 + i], &week->letters, false);
        sink->owner = week;
        sink->sites = 1u << sites[i] | (i == SITE_WORKS ? 1u << SIM_BACK : 0);
        mail_sink_start(sink);
    }
    week->sinks[SITE_DEAD].admit = dead_admit;
    week->sinks[SITE_GREY].judge = grey_judge;
    week->sinks[SITE_REFUSES].judge = refusing_judge;
    week->sinks[SITE_SUSPENDED].admit = suspended_admit;
    for (unsigned i = 0; i < SIM_ROUTES_MAX; i++) {
        unsigned role = i == SIM_BACK ? SITE_WORKS : role_of((uint8_t)i);
        relay->next_hops[i][0] = sim_host_at(&sim->hosts[1 + role], SIM_IPV4, SIM_SINK_PORT);
        relay->routes[i].to = relay->next_hops[i];
        relay->routes[i].to_count = 1;
        relay->routes[i].via = CONF_VIA_SMTP;
        snprintf(relay->matches[i], sizeof(relay->matches[i]),
                 i == SIM_BACK ? "back.example" : "s%u.example", i);
    }
    sim_dns_setup(&relay->dns, sim, 0);
    sim_relay_setup(relay, &sim->hosts[0], SIM_IPV4);
    relay->host->heartbeat_ns = HEARTBEAT_NS;
    relay->conf->retry.first = RETRY_FIRST;
    relay->conf->retry.limit = RETRY_LIMIT;
    relay->conf->retry.expire = EXPIRE;
    relay->conf->retry.jitter_pct = RETRY_JITTER;
    relay->conf->bounce.delay_warning = WARN;
    check(sim_relay_start(relay) == 0);
    const struct endpoint at = sim_host_at(&sim->hosts[0], SIM_IPV4, SIM_SMTP_PORT);
    mail_client_setup(&week->client, &sim->hosts[1 + WEEK_SITES], &week->letters, &at);
    week->client.site_count = WEEK_SITES;
    week->client.pause_ns = PAUSE_NS;
    week->client.letters_left = LETTERS_MAX;
    mail_client_start(&week->client);
}

/* ---- The week ---- */

static void restart(struct week *week)
{
    struct sim *sim = week->sim;
    unsigned number = week->restart_count++;
    check(number < RESTARTS);
    week->crash_ns[number] = sim->world.now_ns;
    week->back_ns[number] = UINT64_MAX;
    letters_forgotten(&week->letters, week->relay.settled_ns);
    sim_relay_crash(&week->relay);
    sim_run(sim, OFF_NS);
    sim_host_open(week->relay.host);
    check(sim_relay_start(&week->relay) == 0);
    week->back_ns[number] = sim->world.now_ns;
    sim_say(sim, "the relay is back");
}

static void suspend(struct week *week, enum operator_of of, uint64_t for_ns)
{
    const struct sim *sim = week->sim;
    struct operator_suspension said = {.of = (uint8_t)of};
    unsigned number = week->suspension_count++, site = sites[SITE_SUSPENDED];
    check(number < SUSPENSIONS);
    /* The wall clock is known to a second. */
    said.until_wall_s = world_wall_s(&sim->world.world) + 1 + (int64_t)(for_ns / SIM_S);
    if (of == OPERATOR_OF_SITE) {
        endpoint_format(&week->relay.next_hops[site][0], said.name);
    } else {
        snprintf(said.name, sizeof(said.name), "%s", week->relay.matches[site]);
    }
    week->suspend_ns[number] = sim->world.now_ns;
    week->resume_ns[number] = sim->world.now_ns + for_ns;
    sim_relay_suspend(&week->relay, &said);
}

static bool has_drained(struct sim *sim, void *owner)
{
    struct week *week = owner;
    (void)sim;
    return mail_client_done(&week->client) &&
           spool_counters(relay_spool(week->relay.relay))->live_messages == 0 &&
           relay_counters(week->relay.relay)->sessions_out == 0 && log_is_quiet(week->relay.log);
}

static void until(struct week *week, uint64_t at_ns)
{
    uint64_t now_ns = week->sim->world.now_ns - week->sim->started_ns;
    sim_run(week->sim, at_ns > now_ns ? at_ns - now_ns : 0);
}

static void week_end(struct week *week)
{
    struct sim *sim = week->sim;
    for (uint32_t i = 0; i < week->letters.count; i++) {
        const struct letter *letter = &week->letters.all[i];
        for (uint32_t j = 0; letter->fate == LETTER_ACCEPTED && j < letter->recipient_count; j++) {
            if (!letter->recipients[j].left_out) {
                end_check(week, letter, j);
            }
        }
    }
    uint64_t most_ns = RETRY_LIMIT + OFF_NS + SLACK_NS;
    if (week->probes < 2 || week->probe_gap_ns > most_ns) {
        sim_fail(sim, "the dead site is tried %u times, at most %llu s apart", week->probes,
                 (unsigned long long)(week->probe_gap_ns / SIM_S));
    }
    letters_check_all(&week->letters);
    sim_say(sim, "clean: %u letters, %llu deliveries, %llu reports, %u probes; %llu steps",
            week->letters.count, (unsigned long long)week->letters.deliveries,
            (unsigned long long)week->letters.reports, week->probes,
            (unsigned long long)sim->steps);
}

static void week_run(const struct sim_options *options)
{
    static struct sim sim;
    static struct week week;
    struct sim_options calm = *options;
    calm.without = UINT32_MAX;
    memset(&week, 0, sizeof(week));
    sim_open(&sim, &calm, 2 + WEEK_SITES);
    week.sim = &sim;
    week.alive_ns = sim.started_ns + 2 * DAY;
    set_up(&week);
    until(&week, 20 * HOUR + sim_spread(&sim, 0, 4 * HOUR));
    restart(&week);
    until(&week, 3 * DAY + sim_spread(&sim, 0, 4 * HOUR));
    restart(&week);
    until(&week, 4 * DAY);
    suspend(&week, OPERATOR_OF_SITE, 10 * HOUR);
    until(&week, 4 * DAY + 2 * HOUR + sim_spread(&sim, 0, 6 * HOUR));
    restart(&week);
    until(&week, 5 * DAY);
    suspend(&week, OPERATOR_OF_DOMAIN, 10 * HOUR);
    until(&week, 5 * DAY + 2 * HOUR + sim_spread(&sim, 0, 6 * HOUR));
    restart(&week);
    until(&week, 7 * DAY);
    week.client.stopped = true;
    if (!sim_run_until(&sim, has_drained, &week, EXPIRE + DAY)) {
        sim_fail(&sim,
                 "mail is left in the queue after the week, and the time of the last is over");
    }
    week_end(&week);
    relay_drain(week.relay.relay, sim.world.now_ns + MINUTE);
    sim_run(&sim, 3 * MINUTE);
    sim_relay_stop(&week.relay);
    sim_relay_teardown(&week.relay);
    mail_client_crash(&week.client);
    for (unsigned i = 0; i < WEEK_SITES; i++) {
        mail_sink_crash(&week.sinks[i]);
    }
    letters_close(&week.letters);
    sim_close(&sim);
}

const struct sim_scenario week_scenario = {.name = "week", .run = week_run};
