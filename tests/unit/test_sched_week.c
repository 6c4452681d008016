/*
 * A week of schedule on virtual time: letters of few and of many senders, to sites that work, fail, die and come back;
 * an operator who holds, suspends and flushes; restarts. Beside the scheduler a model knows what may happen when.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "queue/sched/group.h"
#include "queue/sched/operator.h"
#include "queue/spool/spool.h"

#define MS 1000000ull
#define SECOND (1000 * MS)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define START (30 * DAY)
#define EXPIRE (5 * DAY)
#define DELAY (4 * HOUR)
#define ARRIVALS_END (START + 2 * DAY)
#define OPERATOR_END (START + 6 * DAY)
#define END (START + 8 * DAY)
#define NEVER SCHED_NEVER

#define SITES 24
#define GROUPS 6
#define SENDERS 12
#define LETTERS 3000
#define CONNECTIONS 8 /* of a site at most */
#define CONNECTIONS_ALL 30
#define CONNECTIONS_GROUP 12
#define DOWNS 3 /* times that a site is away */

enum state { CLOSED, CONNECTING, IDLE, BUSY };

struct connection {
    enum state state;
    uint64_t event_ns;
    uint32_t sent;
    struct sched_delivery *delivery;
};

struct place {
    struct sched_site *site;
    unsigned index;
    uint64_t wake_ns;
    struct connection connections[CONNECTIONS];
    struct {
        uint64_t from_ns, until_ns;
    } down[DOWNS];
    unsigned defer_pct;
    uint64_t suspended_until_ns;
    uint64_t attempts;
    uint64_t starved_ns;
    uint64_t disturbed_ns; /* last time that something but its backlog made mail wait */
};

struct letter {
    struct message message;
    struct place *to;
    uint64_t arrival_ns;
    uint64_t earliest_ns; /* no attempt before */
    uint64_t failed_ns;
    uint64_t patience_ns; /* does not expire before, though it is old enough */
    uint64_t place_attempts;
    uint32_t sender, priority, recipients, attempts;
    uint32_t ahead; /* of its sender, at its site */
    bool there, finished, held, told, active, was_held;
};

struct week {
    uint64_t now_ns, random, next_word_ns, next_restart_ns;
    struct sched *sched;
    struct sched_group *groups[GROUPS];
    uint64_t messages[GROUPS]; /* begun since the bucket was full */
    uint64_t full_ns[GROUPS];
    struct place places[SITES];
    struct letter letters[LETTERS]; /* by arrival */
    unsigned arrived, finished, expired, told, fair_checked, restarts;
    uint64_t attempts, suspended_sender_until_ns[SENDERS];
};

static const struct sched_limits limits = {
    .connection_count_max = CONNECTIONS_GROUP,
    .connections = {.count = 20, .period_ns = SECOND, .burst = 10},
    .messages = {.count = 5, .period_ns = SECOND, .burst = 20},
};

static struct sched_site_settings settings = {
    .connection_count_max = CONNECTIONS,
    .address_count = 2,
    .retry = {.first_ns = 5 * MINUTE, .limit_ns = 4 * HOUR, .spread_pct = 20},
    .reconnect = {.first_ns = 5 * MINUTE, .limit_ns = HOUR, .spread_pct = 20},
    .expire_ns = EXPIRE,
    .delay_ns = DELAY,
};

static uint64_t draw(struct week *week, uint64_t below)
{
    week->random = week->random * 6364136223846793005ull + 1442695040888963407ull;
    return (week->random >> 20) % below;
}

static struct letter *letter_of(const struct sched_delivery *delivery)
{
    return (struct letter *)delivery->message; /* its first member */
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- What the model says ---- */

static bool is_down(const struct place *place, uint64_t now_ns)
{
    for (unsigned i = 0; i < DOWNS; i++) {
        if (now_ns >= place->down[i].from_ns && now_ns < place->down[i].until_ns) {
            return true;
        }
    }
    return false;
}

static void finish(struct week *week, struct letter *letter)
{
    assert_true(letter->there && !letter->finished);
    letter->finished = true;
    week->finished++;
    bool old = week->now_ns >= letter->arrival_ns + DELAY + MINUTE;
    assert_true(letter->told || letter->was_held || !old); /* who waited long was told of */
}

/* One of this sender had its turn after few of others, whatever the backlog of those. */
static void fair_check(struct week *week, const struct place *place, const struct letter *letter)
{
    if (letter->attempts > 0 || letter->was_held || place->disturbed_ns >= letter->arrival_ns ||
        week->suspended_sender_until_ns[letter->sender] >= letter->arrival_ns) {
        return;
    }
    uint64_t passed = place->attempts - letter->place_attempts;
    uint64_t turn = SENDERS * (letter->priority == SCHED_PRIORITY_COUNT - 1 ? 2 : 20);
    assert_true(passed <= (letter->ahead + 1) * turn);
    week->fair_checked++;
}

static void rate_check(struct week *week, unsigned group)
{
    uint64_t now_ns = week->now_ns;
    if (now_ns - week->full_ns[group] > 10 * SECOND && week->messages[group] == 0) {
        week->full_ns[group] = now_ns;
    }
    week->messages[group]++;
    uint64_t most = 20 + (now_ns - week->full_ns[group]) * 5 / SECOND;
    assert_true(week->messages[group] <= most + 1);
}

static void attempt_check(struct week *week, struct place *place, struct letter *letter)
{
    uint64_t now_ns = week->now_ns;
    assert_ptr_equal(letter->to, place);
    assert_true(letter->there && !letter->finished && !letter->active);
    assert_false(letter->held);
    assert_true(now_ns >= letter->earliest_ns);
    assert_true(now_ns >= place->suspended_until_ns);
    assert_true(now_ns >= week->suspended_sender_until_ns[letter->sender]);
    fair_check(week, place, letter);
    rate_check(week, place->index % GROUPS);
    letter->active = true;
    place->attempts++;
    week->attempts++;
}

/* It failed just now: not before the wait that its attempts ask for, but for the last attempt. */
static void failed(struct week *week, struct letter *letter)
{
    uint64_t wait_ns = settings.retry.first_ns;
    letter->attempts++;
    for (uint32_t i = 1; i < letter->attempts && wait_ns < settings.retry.limit_ns; i++) {
        wait_ns *= 2;
    }
    wait_ns = wait_ns < settings.retry.limit_ns ? wait_ns : settings.retry.limit_ns;
    uint64_t due_ns = week->now_ns + wait_ns / 100 * 80;
    uint64_t last_ns = larger(letter->arrival_ns + EXPIRE, week->now_ns);
    letter->failed_ns = week->now_ns;
    letter->earliest_ns = due_ns < last_ns ? due_ns : last_ns;
}

/* Something is ready, nothing is in its way, and yet it has no connection: not for long. */
static void starved_check(struct week *week, struct place *place, bool full)
{
    struct sched_site_counts counts;
    sched_site_counts(place->site, &counts);
    bool waits = counts.ready > counts.blocked && counts.connections == 0 && !full &&
                 place->suspended_until_ns <= week->now_ns &&
                 counts.unreachable_until_ns <= week->now_ns;
    place->starved_ns = !waits                       ? NEVER
                        : place->starved_ns == NEVER ? week->now_ns
                                                     : place->starved_ns;
    assert_true(place->starved_ns == NEVER || week->now_ns - place->starved_ns < 5 * SECOND);
}

static void round_check(struct week *week)
{
    uint32_t all = 0, of_group[GROUPS] = {0};
    uint64_t blocked = 0, suspended_until_ns = 0;
    for (unsigned i = 0; i < SITES; i++) {
        struct sched_site_counts counts;
        sched_site_counts(week->places[i].site, &counts);
        assert_true(counts.connections <= CONNECTIONS);
        all += counts.connections;
        of_group[i % GROUPS] += counts.connections;
        blocked += counts.blocked;
    }
    assert_true(all <= CONNECTIONS_ALL);
    for (unsigned i = 0; i < GROUPS; i++) {
        assert_true(of_group[i] <= CONNECTIONS_GROUP);
        assert_int_equal(sched_group_connection_count(week->groups[i]), of_group[i]);
    }
    for (unsigned i = 0; i < SITES; i++) {
        starved_check(week, &week->places[i],
                      all == CONNECTIONS_ALL || of_group[i % GROUPS] == CONNECTIONS_GROUP);
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        suspended_until_ns = larger(suspended_until_ns, week->suspended_sender_until_ns[i]);
    }
    assert_true(blocked == 0 || week->now_ns <= suspended_until_ns + MS);
}

/* ---- A relay, in small ---- */

static void connection_close(struct place *place, struct connection *connection)
{
    sched_connection_closed(place->site);
    connection->state = CLOSED;
    connection->event_ns = NEVER;
}

static bool connection_take(struct week *week, struct place *place, struct connection *connection)
{
    struct sched_delivery *delivery = sched_next(place->site, week->now_ns);
    if (delivery == NULL) {
        return false;
    }
    attempt_check(week, place, letter_of(delivery));
    connection->state = BUSY;
    connection->delivery = delivery;
    connection->event_ns = week->now_ns + (1 + draw(week, 400)) * MS;
    connection->sent++;
    return true;
}

static void connection_next(struct week *week, struct place *place, struct connection *connection)
{
    if (sched_connection_surplus(place->site, connection->sent)) {
        connection_close(place, connection);
    } else if (!connection_take(week, place, connection)) {
        if (sched_connection_surplus(place->site, SCHED_CONNECTION_IDLE)) {
            connection_close(place, connection);
            return;
        }
        connection->state = IDLE;
        connection->event_ns = week->now_ns + 30 * SECOND;
    }
}

static void expire_all(struct week *week, struct place *place)
{
    struct sched_delivery *delivery;
    while ((delivery = sched_expired(place->site, week->now_ns)) != NULL) {
        struct letter *letter = letter_of(delivery);
        uint64_t due_ns = larger(letter->arrival_ns + EXPIRE, letter->patience_ns);
        assert_false(letter->held);
        assert_true(week->now_ns >= letter->arrival_ns + EXPIRE);
        assert_true(week->now_ns <= due_ns + MS); /* one round */
        sched_done(delivery);
        finish(week, letter);
        week->expired++;
    }
}

static void tell_all(struct week *week, struct place *place)
{
    struct sched_delivery *delivery;
    while ((delivery = sched_delayed(place->site, week->now_ns)) != NULL) {
        struct letter *letter = letter_of(delivery);
        assert_false(letter->told);
        assert_true(week->now_ns >= letter->arrival_ns + DELAY);
        assert_true(letter->was_held || week->now_ns <= letter->arrival_ns + DELAY + MS);
        letter->told = true;
        week->told++;
    }
}

static void place_run(struct week *week, struct place *place)
{
    tell_all(week, place);
    expire_all(week, place);
    uint32_t open = 0;
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        struct connection *connection = &place->connections[i];
        if (connection->state == IDLE && !connection_take(week, place, connection) &&
            sched_connection_surplus(place->site, SCHED_CONNECTION_IDLE)) {
            connection_close(place, connection);
        }
        open += connection->state != CLOSED;
    }
    uint32_t wanted = sched_wants_connection(place->site, week->now_ns);
    assert_true(open + wanted <= CONNECTIONS);
    for (unsigned i = 0; i < CONNECTIONS && wanted > 0; i++) {
        struct connection *connection = &place->connections[i];
        if (connection->state == CLOSED) {
            sched_connection_started(place->site);
            *connection = (struct connection){
                .state = CONNECTING, .event_ns = week->now_ns + (1 + draw(week, 100)) * MS};
            wanted--;
        }
    }
    uint64_t due_ns = sched_site_next_due(place->site, week->now_ns);
    place->wake_ns = due_ns == 0 ? week->now_ns + MS : due_ns; /* as the wheel's tick */
}

static void attempt_end(struct week *week, struct place *place, struct connection *connection)
{
    struct sched_delivery *delivery = connection->delivery;
    struct letter *letter = letter_of(delivery);
    uint32_t kept = 0;
    letter->active = false;
    if (draw(week, 50) == 0) { /* the connection was lost before it was judged */
        sched_return(delivery, sched_indexes(delivery), delivery->count);
        connection_close(place, connection);
        return;
    }
    if (draw(week, 100) < place->defer_pct) {
        kept = 1 + (uint32_t)draw(week, delivery->count);
    }
    letter->recipients = kept;
    if (kept == 0) {
        sched_done(delivery);
        finish(week, letter);
    } else {
        failed(week, letter);
        if (sched_defer(delivery, week->now_ns, sched_indexes(delivery), kept,
                        slice_text("450 4.2.0 later")) == SCHED_EXPIRED) {
            assert_true(week->now_ns >= letter->arrival_ns + EXPIRE && !letter->held);
            sched_done(delivery);
            finish(week, letter);
            week->expired++;
        }
    }
    connection_next(week, place, connection);
}

static void connection_run(struct week *week, struct place *place, struct connection *connection)
{
    switch (connection->state) {
    case CLOSED:
        return;
    case CONNECTING:
        if (is_down(place, week->now_ns)) {
            place->disturbed_ns = week->now_ns;
            connection->state = CLOSED;
            connection->event_ns = NEVER;
            sched_connection_failed(place->site, week->now_ns, slice_text("refused"));
        } else {
            sched_connection_opened(place->site);
            connection_next(week, place, connection);
        }
        break;
    case IDLE:
        connection_close(place, connection);
        break;
    case BUSY:
        attempt_end(week, place, connection);
        break;
    }
    place->wake_ns = week->now_ns;
}

/* ---- Arrivals, the operator, restarts ---- */

static void letter_add(struct week *week, struct letter *letter, uint64_t due_ns)
{
    static const uint32_t indexes[] = {0, 1, 2};
    const struct sched_request request = {.message = &letter->message,
                                          .indexes = indexes,
                                          .count = letter->recipients,
                                          .attempts = letter->attempts,
                                          .due_ns = due_ns,
                                          .age_ns = week->now_ns - letter->arrival_ns,
                                          .sender = letter->sender,
                                          .priority = (uint8_t)letter->priority,
                                          .held = letter->held,
                                          .delayed = letter->told};
    assert_int_equal(sched_add(letter->to->site, &request, week->now_ns), 0);
    letter->to->wake_ns = week->now_ns;
}

static void arrive(struct week *week, struct letter *letter)
{
    for (unsigned i = 0; i < week->arrived; i++) {
        const struct letter *other = &week->letters[i];
        letter->ahead += other->sender == letter->sender && other->to == letter->to &&
                         other->there && !other->finished;
    }
    letter->there = true;
    letter->place_attempts = letter->to->attempts;
    letter_add(week, letter, week->now_ns);
}

static void restart(struct week *week)
{
    sched_close(week->sched);
    memset(week->suspended_sender_until_ns, 0, sizeof(week->suspended_sender_until_ns));
    week->sched = sched_open(draw(week, UINT64_MAX));
    sched_set_connection_count_max(week->sched, CONNECTIONS_ALL);
    for (unsigned i = 0; i < GROUPS; i++) {
        if (week->groups[i] != NULL) {
            sched_group_close(week->groups[i]);
        }
        assert_int_equal(sched_group_open(week->sched, &limits, &week->groups[i]), 0);
        week->messages[i] = 0;
        week->full_ns[i] = week->now_ns;
    }
    for (unsigned i = 0; i < SITES; i++) {
        struct place *place = &week->places[i];
        settings.group = week->groups[i % GROUPS];
        assert_int_equal(sched_site_open(week->sched, &settings, place, &place->site), 0);
        memset(place->connections, 0, sizeof(place->connections));
        place->suspended_until_ns = 0;
        place->starved_ns = NEVER;
        place->disturbed_ns = week->now_ns;
    }
    for (unsigned i = 0; i < week->arrived; i++) {
        struct letter *letter = &week->letters[i];
        if (letter->finished) {
            continue;
        }
        letter->active = false;
        letter->message.owner = NULL;
        uint64_t due_ns = sched_due_again(letter->to->site, letter->attempts,
                                          week->now_ns - letter->failed_ns, week->now_ns);
        if (week->now_ns >= letter->arrival_ns + EXPIRE) {
            letter->patience_ns = due_ns + settings.retry.first_ns;
        }
        letter_add(week, letter, due_ns);
    }
    week->restarts++;
}

static void hold_or_release(struct week *week, struct letter *letter)
{
    if (letter->finished || !letter->there) {
        return;
    }
    letter->held = !letter->held;
    if (letter->held) {
        letter->was_held = true;
        sched_hold(&letter->message);
    } else {
        letter->patience_ns = week->now_ns + settings.retry.first_ns;
        sched_release(&letter->message, week->now_ns);
    }
}

static void suspend_or_resume(struct week *week, struct place *place)
{
    place->disturbed_ns = larger(place->disturbed_ns, week->now_ns);
    if (place->suspended_until_ns > week->now_ns) {
        place->suspended_until_ns = 0;
        sched_site_resume(place->site);
    } else {
        place->suspended_until_ns = week->now_ns + draw(week, 12 * HOUR);
        place->disturbed_ns = place->suspended_until_ns;
        assert_int_equal(
            sched_site_suspend(place->site, place->suspended_until_ns, slice_text("word")), 0);
    }
}

static void sender_suspend_or_resume(struct week *week, uint32_t sender)
{
    uint64_t *until_ns = &week->suspended_sender_until_ns[sender];
    if (*until_ns > week->now_ns) {
        *until_ns = 0;
        sched_sender_resume(week->sched, sender);
    } else {
        *until_ns = week->now_ns + draw(week, 12 * HOUR);
        assert_int_equal(sched_sender_suspend(week->sched, sender, *until_ns, slice_text("word")),
                         0);
    }
    for (unsigned i = 0; i < SITES; i++) {
        week->places[i].disturbed_ns = larger(week->places[i].disturbed_ns, week->now_ns);
    }
}

static void operator_word(struct week *week)
{
    uint64_t kind = draw(week, 100);
    week->next_word_ns = week->now_ns + draw(week, 30 * MINUTE);
    if (week->now_ns >= OPERATOR_END) { /* goes home, and leaves nothing behind */
        week->next_word_ns = NEVER;
        for (unsigned i = 0; i < week->arrived; i++) {
            if (week->letters[i].held) {
                hold_or_release(week, &week->letters[i]);
            }
        }
    } else if (kind < 70) {
        hold_or_release(week, &week->letters[draw(week, LETTERS)]);
    } else if (kind < 85) {
        suspend_or_resume(week, &week->places[draw(week, SITES)]);
    } else if (kind < 98) {
        sender_suspend_or_resume(week, (uint32_t)draw(week, SENDERS));
    } else {
        sched_flush(week->sched);
        for (unsigned i = 0; i < LETTERS; i++) {
            week->letters[i].earliest_ns = 0;
        }
        for (unsigned i = 0; i < SITES; i++) {
            week->places[i].wake_ns = week->now_ns;
        }
    }
}

/* ---- The week ---- */

static int arrival_order(const void *a, const void *b)
{
    uint64_t first = ((const struct letter *)a)->arrival_ns;
    uint64_t second = ((const struct letter *)b)->arrival_ns;
    return first < second ? -1 : first > second;
}

/* Half is the bulk of one sender, in a few bursts to few sites. */
static void week_draw(struct week *week)
{
    for (unsigned i = 0; i < LETTERS; i++) {
        struct letter *letter = &week->letters[i];
        bool bulk = i % 2 == 0;
        letter->sender = bulk ? 0 : (uint32_t)draw(week, SENDERS);
        letter->to = &week->places[draw(week, bulk ? 4 : SITES)];
        letter->priority = (uint32_t)draw(week, SCHED_PRIORITY_COUNT);
        letter->recipients = 1 + (uint32_t)draw(week, 3);
        letter->arrival_ns = START + (bulk ? (1 + draw(week, 4)) * 10 * HOUR + draw(week, MINUTE)
                                           : 1 + draw(week, ARRIVALS_END - START));
    }
    qsort(week->letters, LETTERS, sizeof(week->letters[0]), arrival_order);
    for (unsigned i = 0; i < SITES; i++) {
        struct place *place = &week->places[i];
        place->index = i;
        place->defer_pct = i % 8 == 7 ? 100 : (unsigned)draw(week, 60);
        for (unsigned j = 0; j < DOWNS && i % 3 == 0; j++) {
            place->down[j].from_ns = START + draw(week, 4 * DAY);
            place->down[j].until_ns = place->down[j].from_ns + draw(week, i == 0 ? 9 * DAY : DAY);
        }
    }
    week->next_word_ns = START + HOUR;
    week->next_restart_ns = START + DAY;
}

static uint64_t next_event(const struct week *week)
{
    uint64_t next_ns = week->next_word_ns;
    next_ns = week->next_restart_ns < next_ns ? week->next_restart_ns : next_ns;
    if (week->arrived < LETTERS && week->letters[week->arrived].arrival_ns < next_ns) {
        next_ns = week->letters[week->arrived].arrival_ns;
    }
    for (unsigned i = 0; i < SITES; i++) {
        const struct place *place = &week->places[i];
        next_ns = place->wake_ns < next_ns ? place->wake_ns : next_ns;
        for (unsigned j = 0; j < CONNECTIONS; j++) {
            const struct connection *connection = &place->connections[j];
            if (connection->state != CLOSED && connection->event_ns < next_ns) {
                next_ns = connection->event_ns;
            }
        }
    }
    return larger(next_ns, week->now_ns);
}

static void week_round(struct week *week)
{
    uint64_t now_ns = week->now_ns;
    if (week->next_restart_ns <= now_ns) {
        week->next_restart_ns = week->restarts < 8 ? now_ns + draw(week, 2 * DAY) : NEVER;
        restart(week);
    }
    while (week->arrived < LETTERS && week->letters[week->arrived].arrival_ns <= now_ns) {
        arrive(week, &week->letters[week->arrived]);
        week->arrived++;
    }
    if (week->next_word_ns <= now_ns) {
        operator_word(week);
    }
    for (unsigned i = 0; i < SITES; i++) {
        struct place *place = &week->places[i];
        for (unsigned j = 0; j < CONNECTIONS; j++) {
            if (place->connections[j].event_ns <= now_ns) {
                connection_run(week, place, &place->connections[j]);
            }
        }
    }
    for (struct sched_site *site; (site = sched_look(week->sched)) != NULL;) {
        ((struct place *)sched_site_owner(site))->wake_ns = now_ns;
    }
    for (unsigned i = 0; i < SITES; i++) {
        if (week->places[i].wake_ns <= now_ns) {
            place_run(week, &week->places[i]);
        }
    }
}

static void no_letter_is_lost_stuck_early_or_late_in_a_week(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct week *week = calloc(1, sizeof(*week));
        assert_non_null(week);
        week->random = seed;
        week->now_ns = START;
        week->sched = sched_open(seed);
        week_draw(week);
        restart(week);
        uint64_t rounds = 0;
        while (week->now_ns < END && (week->finished < LETTERS || week->arrived < LETTERS)) {
            week->now_ns = next_event(week);
            week_round(week);
            round_check(week);
            rounds++;
            assert_true(rounds < 10000 + 10 * week->attempts); /* nothing polls */
        }
        assert_int_equal(week->finished, LETTERS);
        assert_int_equal(sched_recipient_count(week->sched), 0);
        print_message(
            "seed %u: %u rounds, %u attempts, %u expired, %u told, %u fair, %u restarts\n",
            (unsigned)seed, (unsigned)rounds, (unsigned)week->attempts, week->expired, week->told,
            week->fair_checked, week->restarts);
        assert_true(week->expired > 50 && week->told > 100 && week->fair_checked > 200);
        sched_close(week->sched);
        for (unsigned i = 0; i < GROUPS; i++) {
            sched_group_close(week->groups[i]);
        }
        free(week);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_letter_is_lost_stuck_early_or_late_in_a_week),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
