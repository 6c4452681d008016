/*
 * streams: many connections between a few hosts, both ways, under faults; then the faults end, and
 * everything must finish: every byte that was sent has come, in order and once, and nothing is left.
 */
#include "engine/core/check.h"
#include "engine/net/checksum.h"
#include "engine/net/stack_private.h"
#include "tests/sim/segment.h"
#include "tests/sim/sim.h"

#define PAIRS_MAX 32u
#define PORT 7u
#define BYTES_MAX 1500000u /* of all pairs together */
#define LIVE_NS                                                                                    \
    (900 * SIM_S) /* in which all must finish once the faults have ended: a retransmission
                                 may be a minute away, and the peer of a dead host waits 300 s */
#define REST_NS (300 * SIM_S)  /* TIME-WAIT, FIN-WAIT-2 */
#define SETTLE_NS (70 * SIM_S) /* timers that find nothing left to do */

struct streams;

struct stream_pair {
    struct streams *streams;
    unsigned from, to;
    enum sim_family family;
    struct endpoint local, remote; /* of the opener */
    struct net_talker opener, listener;
    struct timer open, nudge, abort;
    unsigned tries;
    uint64_t seed;
    bool excused, begun, accepted;
};

struct streams {
    struct sim *sim;
    struct stream_pair pairs[PAIRS_MAX];
    uint32_t pair_count;
    struct timer crash, boot;
    unsigned crashed_host;
    bool crashes_on;
};

/* ---- Opening ---- */

static void pair_excuse(struct stream_pair *pair, const char *why)
{
    if (!pair->excused) {
        sim_say(pair->streams->sim, "pair %u need not finish: %s",
                (unsigned)(pair - pair->streams->pairs), why);
    }
    pair->excused = true;
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    struct sim_host *host = owner;
    struct streams *streams = host->owner;
    struct stream_facts facts;
    (void)listener;
    stream_facts(stream, &facts);
    for (uint32_t i = 0; i < streams->pair_count; i++) {
        struct stream_pair *pair = &streams->pairs[i];
        if (pair->to == host->index && !pair->accepted &&
            endpoint_equal(&pair->local, &facts.remote)) {
            pair->accepted = true;
            net_talker_attach(&pair->listener, stream);
            net_talker_go(&pair->listener);
            return;
        }
    }
    stream_release(
        stream); /* of an opener that has given up, or a late copy of a handshake's end */
}

static void host_listen(struct sim_host *host)
{
    for (unsigned i = 0; i < SIM_FAMILIES; i++) {
        struct listener *listener;
        const struct listen_request request = {
            .at = sim_any((enum sim_family)i, PORT), .accepted = accepted, .owner = host};
        check(host->network->ops->listen(host->network, &request, &listener) == 0);
    }
}

static void pair_open(struct timer *timer, uint64_t now_ns)
{
    struct stream_pair *pair = list_entry(timer, struct stream_pair, open);
    struct sim *sim = pair->streams->sim;
    struct sim_host *from = &sim->hosts[pair->from], *to = &sim->hosts[pair->to];
    struct stream *stream;
    if (!from->up) {
        wheel_arm(sim->script, timer, now_ns + SIM_S);
        return;
    }
    const struct connect_request request = {.to = sim_host_at(to, pair->family, PORT)};
    int status = from->network->ops->connect(from->network, &request, &stream);
    if (status < 0) {
        check(status == -ENOBUFS || status == -EADDRNOTAVAIL);
        wheel_arm(sim->script, timer, now_ns + SIM_S);
        return;
    }
    struct stream_facts facts;
    stream_facts(stream, &facts);
    pair->local = facts.local;
    pair->remote = request.to;
    pair->begun = true;
    pair->tries++;
    net_talker_attach(&pair->opener, stream);
    sim_host_touch(from);
    sim_say(sim, "pair %u: IPv%d, host %u, port %u to host %u: %llu bytes there, %llu back",
            (unsigned)(pair - pair->streams->pairs), pair->family == SIM_IPV6 ? 6 : 4, pair->from,
            pair->local.port, pair->to, (unsigned long long)pair->opener.to_send,
            (unsigned long long)pair->opener.to_receive);
}

/* A reader that takes its time. */
static void pair_nudge(struct timer *timer, uint64_t now_ns)
{
    struct stream_pair *pair = list_entry(timer, struct stream_pair, nudge);
    struct sim *sim = pair->streams->sim;
    bool slow = !sim->healed;
    pair->opener.holds_back &= slow;
    pair->listener.holds_back &= slow;
    if (pair->opener.connected) {
        net_talker_go(&pair->opener);
    }
    net_talker_go(&pair->listener);
    sim_host_touch(&sim->hosts[pair->from]);
    sim_host_touch(&sim->hosts[pair->to]);
    if (pair->opener.holds_back || pair->listener.holds_back) {
        wheel_arm(sim->script, timer, now_ns + sim_spread(sim, 100 * SIM_US, 3 * SIM_S));
    }
}

static void pair_abort(struct timer *timer, uint64_t now_ns)
{
    struct stream_pair *pair = list_entry(timer, struct stream_pair, abort);
    struct net_talker *talker =
        sim_chance(pair->streams->sim, 50) ? &pair->opener : &pair->listener;
    (void)now_ns;
    if (talker->stream != NULL) {
        pair_excuse(pair, "one end resets it");
        stream_abort(talker->stream);
        sim_host_touch(&pair->streams->sim->hosts[pair->from]);
        sim_host_touch(&pair->streams->sim->hosts[pair->to]);
    }
}

/* ---- Crashes ---- */

static void host_boot(struct timer *timer, uint64_t now_ns)
{
    struct streams *streams = list_entry(timer, struct streams, boot);
    struct sim_host *host = &streams->sim->hosts[streams->crashed_host];
    (void)now_ns;
    sim_say(streams->sim, "host %u is back", host->index);
    sim_host_open(host);
    host_listen(host);
}

static void host_crash(struct timer *timer, uint64_t now_ns)
{
    struct streams *streams = list_entry(timer, struct streams, crash);
    struct sim *sim = streams->sim;
    struct sim_host *host = &sim->hosts[streams->crashed_host];
    sim_say(sim, "host %u crashes", host->index);
    for (uint32_t i = 0; i < streams->pair_count; i++) {
        struct stream_pair *pair = &streams->pairs[i];
        if (pair->from == host->index &&
            pair->begun) { /* it may linger though its session is gone */
            pair->opener.closed |= pair->opener.stream != NULL;
            pair->opener.stream = NULL;
            pair_excuse(pair, "its opener has crashed");
        }
        if (pair->to == host->index && pair->begun) {
            pair->listener.stream = NULL;
            pair_excuse(pair, "its listener has crashed");
        }
    }
    sim_host_unplug(host);
    wheel_arm(sim->script, &streams->boot, now_ns + sim_spread(sim, 1 * SIM_MS, 30 * SIM_S));
}

/* ---- Judging ---- */

static bool talker_over(const struct net_talker *talker)
{
    return talker->stream == NULL;
}

/* Without an entry for a handshake its first segment must come before all others (RFC 4987 §3.6). */
static bool cookie_failed(const struct stream_pair *pair)
{
    const struct sim_host *host = &pair->streams->sim->hosts[pair->to];
    return host->up && stack_counters(host->network)->tcp_syn_cookies_failed > 0;
}

/* The opener counts it as open, but nothing that it sent has reached the other in time. */
static bool given_up(const struct stream_pair *pair)
{
    const struct sim *sim = pair->streams->sim;
    return pair->opener.closed && pair->opener.error == -ECONNRESET && !pair->accepted &&
           sim_wire_given_up(&sim->wire, &pair->local, &pair->remote);
}

static bool is_excused(const struct stream_pair *pair)
{
    return pair->excused || pair->streams->sim->faults.harsh || cookie_failed(pair) ||
           given_up(pair);
}

static void talker_look(struct stream_pair *pair, struct net_talker *talker, const char *who)
{
    struct sim *sim = pair->streams->sim;
    unsigned number = (unsigned)(pair - pair->streams->pairs);
    if (talker->wrong || talker->received > talker->to_receive) {
        sim_fail(sim, "pair %u: its %s has received a wrong byte, at most %llu after the first",
                 number, who, (unsigned long long)talker->received);
    }
    if (talker->stream != NULL || !talker->closed || talker->error == 0 || is_excused(pair)) {
        return;
    }
    if (!net_talker_done(talker)) {
        sim_fail(sim,
                 "pair %u: its %s ends with error %d after %llu of %llu bytes received, %llu of "
                 "%llu written, though no fault excuses it",
                 number, who, talker->error, (unsigned long long)talker->received,
                 (unsigned long long)talker->to_receive, (unsigned long long)talker->sent,
                 (unsigned long long)talker->to_send);
    }
}

/* The handshake did not come about: again, as a client does. */
static void pair_again(struct stream_pair *pair)
{
    struct sim *sim = pair->streams->sim;
    struct net_talker *opener = &pair->opener;
    if (!opener->closed || opener->connected || opener->stream != NULL || pair->excused ||
        pair->listener.stream != NULL || timer_armed(&pair->open)) {
        return;
    }
    sim_say(sim, "pair %u was not opened: %d", (unsigned)(pair - pair->streams->pairs),
            opener->error);
    if (pair->accepted || pair->tries > 20) {
        pair_excuse(pair, "only its listener knew of it");
        return;
    }
    bool holds_back = opener->holds_back;
    net_talker_open(opener, &sim->world, pair->seed, 0, opener->to_send, opener->to_receive);
    opener->holds_back = holds_back;
    wheel_arm(sim->script, &pair->open, sim->world.now_ns + SIM_S);
}

static void pairs_look(struct streams *streams)
{
    for (uint32_t i = 0; i < streams->pair_count; i++) {
        struct stream_pair *pair = &streams->pairs[i];
        pair_again(pair);
        if (pair->opener.connected) {
            talker_look(pair, &pair->opener, "opener");
        }
        talker_look(pair, &pair->listener, "listener");
    }
}

static bool pair_over(const struct stream_pair *pair)
{
    if (!talker_over(&pair->opener) || !talker_over(&pair->listener)) {
        return false;
    }
    return is_excused(pair) ? pair->begun && !timer_armed(&pair->open)
                            : net_talker_done(&pair->opener) && net_talker_done(&pair->listener);
}

static bool all_over(struct sim *sim, void *owner)
{
    struct streams *streams = owner;
    (void)sim;
    pairs_look(streams);
    for (uint32_t i = 0; i < streams->pair_count; i++) {
        if (!pair_over(&streams->pairs[i])) {
            return false;
        }
    }
    return !timer_armed(&streams->boot);
}

static bool all_quiet(struct sim *sim, void *owner)
{
    (void)owner;
    for (unsigned i = 0; i < sim->host_count; i++) {
        const struct stack *stack = stack_of(sim->hosts[i].network);
        if (stack->tcp.table.used != 0 || stack->tcp.conns.used != 0 || stack->leaving_count != 0 ||
            stack->neighbours.waiting_count != 0) {
            return false;
        }
    }
    return sim_net_flying(&sim->net) == 0;
}

static void stuck(struct streams *streams)
{
    for (uint32_t i = 0; i < streams->pair_count; i++) {
        const struct stream_pair *pair = &streams->pairs[i];
        if (!pair_over(pair)) {
            sim_fail(
                streams->sim,
                "pair %u (host %u, port %u, to host %u) is stuck while the network works: opener "
                "has %llu of %llu bytes and has written %llu of %llu, events 0x%x, error %d, "
                "stream %d; listener %llu of %llu, %llu of %llu, events 0x%x, error %d, stream %d; "
                "excused %d, harsh %d, tries %u",
                i, pair->from, pair->local.port, pair->to,
                (unsigned long long)pair->opener.received,
                (unsigned long long)pair->opener.to_receive, (unsigned long long)pair->opener.sent,
                (unsigned long long)pair->opener.to_send, pair->opener.events, pair->opener.error,
                pair->opener.stream != NULL, (unsigned long long)pair->listener.received,
                (unsigned long long)pair->listener.to_receive,
                (unsigned long long)pair->listener.sent, (unsigned long long)pair->listener.to_send,
                pair->listener.events, pair->listener.error, pair->listener.stream != NULL,
                pair->excused, streams->sim->faults.harsh, pair->tries);
        }
    }
    sim_fail(streams->sim, "a host does not come back");
}

/* ---- The run ---- */

static void pair_draw(struct streams *streams, struct stream_pair *pair, uint64_t fault_ns)
{
    struct sim *sim = streams->sim;
    uint64_t most = BYTES_MAX / streams->pair_count / 2;
    pair->streams = streams;
    pair->from = sim_below(sim, sim->host_count);
    pair->to = (pair->from + 1 + sim_below(sim, sim->host_count - 1)) % sim->host_count;
    pair->family = sim_chance(sim, 50) ? SIM_IPV6 : SIM_IPV4;
    pair->seed = net_random(&sim->random);
    uint64_t there = sim_chance(sim, 15) ? 0 : sim_spread(sim, 1, most);
    uint64_t back = sim_chance(sim, 15) ? 0 : sim_spread(sim, 1, most);
    there = sim_at_most(there, sim->options.bytes);
    back = sim_at_most(back, sim->options.bytes);
    net_talker_open(&pair->opener, &sim->world, pair->seed, 0, there, back);
    net_talker_open(&pair->listener, &sim->world, pair->seed, 1, back, there);
    pair->opener.holds_back = sim_chance(sim, 15);
    pair->listener.holds_back = sim_chance(sim, 15);
    pair->opener.close_first = sim_chance(sim, 20);
    pair->listener.close_first = !pair->opener.close_first && sim_chance(sim, 20);
    timer_init(&pair->open, pair_open);
    timer_init(&pair->nudge, pair_nudge);
    timer_init(&pair->abort, pair_abort);
    wheel_arm(sim->script, &pair->open, sim->world.now_ns + sim_spread(sim, 1, fault_ns));
    wheel_arm(sim->script, &pair->nudge, sim->world.now_ns + fault_ns);
    if (pair->opener.holds_back || pair->listener.holds_back) {
        wheel_arm(sim->script, &pair->nudge, sim->world.now_ns + SIM_MS);
    }
    if (sim_chance(sim, 5)) {
        wheel_arm(sim->script, &pair->abort, sim->world.now_ns + sim_spread(sim, 1, fault_ns));
    }
}

/* Those behind the first ones: what is drawn for the others stays the same. */
static void pairs_leave_out(struct streams *streams, uint32_t most)
{
    while (most > 0 && streams->pair_count > most) {
        struct stream_pair *pair = &streams->pairs[--streams->pair_count];
        wheel_disarm(streams->sim->script, &pair->open);
        wheel_disarm(streams->sim->script, &pair->nudge);
        wheel_disarm(streams->sim->script, &pair->abort);
    }
}

static bool never(struct sim *sim, void *owner)
{
    (void)sim;
    pairs_look(owner);
    return false;
}

/* A byte is another one, and the checksum fits it. */
static bool tamper(void *owner, unsigned from, uint8_t *frame, uint32_t size)
{
    struct sim *sim = owner;
    struct segment segment;
    (void)from;
    if (!segment_read(&segment, frame, size) || net_random_below(&sim->net.random, 50) != 0) {
        return true;
    }
    bool ipv6 = frame[12] == 0x86;
    const uint8_t *addresses = frame + (ipv6 ? 22 : 26);
    uint32_t at = ipv6 ? 54 : 34;
    uint8_t *tcp = frame + at;
    if (segment.payload_bytes > 1) {
        frame[size - 1 - net_random_below(&sim->net.random, segment.payload_bytes)] ^= 0x10;
    }
    memset(tcp + 16, 0, 2);
    uint64_t sum =
        checksum_add(0, addresses, ipv6 ? 32 : 8) + htons(6) + htons((uint16_t)(size - at));
    uint16_t checksum = checksum_finish(checksum_add(sum, tcp, size - at));
    memcpy(tcp + 16, &checksum, 2);
    return true;
}

static void streams_run(const struct sim_options *options)
{
    static struct sim sim;
    static struct streams streams;
    uint64_t draw = options->seed ^ 0x5eed;
    sim_open(&sim, options, 2 + net_random_below(&draw, 4));
    memset(&streams, 0, sizeof(streams));
    streams.sim = &sim;
    if (options->plant == SIM_PLANT_BYTE) {
        sim.net.filter = tamper;
        sim.net.filter_owner = &sim;
    }
    timer_init(&streams.crash, host_crash);
    timer_init(&streams.boot, host_boot);
    for (unsigned i = 0; i < sim.host_count; i++) {
        sim.hosts[i].owner = &streams;
        sim_host_open(&sim.hosts[i]);
        host_listen(&sim.hosts[i]);
    }
    uint64_t fault_ns = sim_spread(&sim, 100 * SIM_MS, 40 * SIM_S);
    streams.pair_count = (uint32_t)sim_spread(&sim, 1, PAIRS_MAX);
    for (uint32_t i = 0; i < streams.pair_count; i++) {
        pair_draw(&streams, &streams.pairs[i], fault_ns);
    }
    pairs_leave_out(&streams, options->most);
    uint64_t crash_ns = sim_spread(&sim, 1, fault_ns);
    streams.crashed_host = sim_below(&sim, sim.host_count);
    if (sim_fault_on(&sim.faults, SIM_FAULT_CRASH)) {
        wheel_arm(sim.script, &streams.crash, sim.world.now_ns + crash_ns);
    }
    sim_run_until(&sim, never, &streams, fault_ns);
    sim_heal(&sim);
    if (!sim_run_until(&sim, all_over, &streams, LIVE_NS)) {
        stuck(&streams);
    }
    sim_run_until(&sim, all_quiet, &streams, REST_NS);
    sim_run(&sim, SETTLE_NS);
    for (unsigned i = 0; i < sim.host_count; i++) {
        sim_host_check_quiet(&sim.hosts[i]);
    }
    for (uint32_t i = 0; i < streams.pair_count; i++) {
        if (streams.pairs[i].opener.references + streams.pairs[i].listener.references > 0) {
            sim_fail(&sim, "pair %u: the stack still refers to what it was given to send", i);
        }
    }
    sim_say(&sim,
            "clean: %llu steps, %llu frames, %llu of them lost, %llu segments, %llu bytes, %llu "
            "again",
            (unsigned long long)sim.steps, (unsigned long long)sim.net.frames,
            (unsigned long long)sim.net.lost, (unsigned long long)sim.wire.segments,
            (unsigned long long)sim.wire.payload_bytes,
            (unsigned long long)sim.wire.retransmitted_bytes);
    sim_close(&sim);
}

const struct sim_scenario streams_scenario = {.name = "streams", .run = streams_run};
