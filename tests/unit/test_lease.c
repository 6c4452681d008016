/* Several shards with sites of one group, the book of its limits, and words between them that take their time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/core/check.h"
#include "queue/sched/lease.h"
#include "queue/spool/spool.h"

#define MS 1000000ull
#define SECOND (1000 * MS)
#define SHARDS_MAX 8
#define SITES 3 /* of each shard */
#define CONNECTIONS_MAX 64
#define POSTS_MAX 4096
#define MESSAGES 60000
#define MINUTE_MS 60000

static const struct sched_site_settings settings = {
    .connection_count_max = 100,
    .address_count = 1,
    .retry = {.first_ns = 300 * SECOND, .limit_ns = 3600 * SECOND},
    .reconnect = {.first_ns = 60 * SECOND, .limit_ns = 3600 * SECOND},
    .expire_ns = 432000 * SECOND,
};

struct connection {
    struct sched_site *site; /* NULL: none */
    struct sched_delivery *delivery;
    uint64_t opens_ns; /* 0: it is open */
    uint64_t ends_ns;
    uint32_t sent;
};

struct part { /* of one shard */
    struct sched *sched;
    struct sched_group *group;
    struct sched_site *sites[SITES];
    bool touched[SITES]; /* to be looked at */
    struct connection connections[CONNECTIONS_MAX];
    uint32_t sent, waiting;
    uint64_t last_to_owner_ns, last_from_owner_ns;
};

struct post {
    uint64_t at_ns;
    unsigned shard;
    bool answers;
    struct lease_word word;
    struct lease_answer answer;
};

struct scene {
    unsigned shard_count;
    struct sched_limits limits;
    struct lease_book *book;
    struct part parts[SHARDS_MAX];
    struct post posts[POSTS_MAX];
    unsigned post_count;
    uint64_t now_ns, random;
    uint64_t takes_ns;  /* a message */
    uint64_t delay_ns;  /* a word, at most */
    unsigned most_open; /* that were open at once */
    unsigned word_count;
    uint64_t *sent_at; /* of each message that was begun */
    unsigned sent_count, opened_count;
};

static struct message messages[MESSAGES];
static unsigned message_count;
static uint64_t sent_at[MESSAGES];

static uint64_t draw(struct scene *scene, uint64_t below)
{
    scene->random = scene->random * 6364136223846793005ull + 1442695040888963407ull;
    return below == 0 ? 0 : (scene->random >> 33) % below;
}

static struct scene *scene_open(unsigned shard_count, const struct sched_limits *limits)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    assert_non_null(scene);
    memset(messages, 0, sizeof(messages));
    message_count = 0;
    *scene = (struct scene){.shard_count = shard_count,
                            .limits = *limits,
                            .now_ns = 1000 * SECOND,
                            .random = 7,
                            .takes_ns = 5 * MS,
                            .delay_ns = 2 * MS,
                            .sent_at = sent_at};
    scene->book = lease_book_open(shard_count, limits);
    assert_non_null(scene->book);
    for (unsigned i = 0; i < shard_count; i++) {
        struct part *part = &scene->parts[i];
        struct sched_site_settings with = settings;
        part->sched = sched_open(i);
        assert_non_null(part->sched);
        assert_int_equal(sched_group_open(part->sched, limits, &part->group), 0);
        assert_int_equal(sched_group_lease(part->group, shard_count, part), 0);
        with.group = part->group;
        for (unsigned s = 0; s < SITES; s++) {
            assert_int_equal(
                sched_site_open(part->sched, &with, &part->touched[s], &part->sites[s]), 0);
        }
    }
    return scene;
}

static void scene_close(struct scene *scene)
{
    for (unsigned i = 0; i < scene->shard_count; i++) {
        sched_close(scene->parts[i].sched);
        sched_group_close(scene->parts[i].group);
    }
    lease_book_close(scene->book);
    free(scene);
}

static void add(struct scene *scene, unsigned shard, unsigned site, unsigned count)
{
    uint32_t index = 0;
    for (unsigned i = 0; i < count; i++) {
        check(message_count < MESSAGES);
        const struct sched_request request = {.message = &messages[message_count++],
                                              .indexes = &index,
                                              .count = 1,
                                              .due_ns = scene->now_ns};
        assert_int_equal(sched_add(scene->parts[shard].sites[site], &request, scene->now_ns), 0);
        scene->parts[shard].waiting++;
    }
    scene->parts[shard].touched[site] = true;
}

static void add_everywhere(struct scene *scene, unsigned count)
{
    for (unsigned i = 0; i < scene->shard_count; i++) {
        for (unsigned s = 0; s < SITES; s++) {
            add(scene, i, s, count);
        }
    }
}

/* ---- Words ---- */

static struct post *post(struct scene *scene, unsigned shard, uint64_t *last_ns)
{
    check(scene->post_count < POSTS_MAX);
    struct post *post = &scene->posts[scene->post_count++];
    uint64_t at_ns = scene->now_ns + draw(scene, scene->delay_ns);
    at_ns = at_ns > *last_ns ? at_ns : *last_ns; /* in order */
    *last_ns = at_ns;
    *post = (struct post){.at_ns = at_ns, .shard = shard};
    scene->word_count++;
    return post;
}

static void answers_send(struct scene *scene)
{
    struct lease_answer answer;
    for (unsigned i = 0; i < scene->shard_count; i++) {
        if (lease_book_answer(scene->book, i, &answer)) {
            struct post *sent = post(scene, i, &scene->parts[i].last_from_owner_ns);
            sent->answers = true;
            sent->answer = answer;
        }
    }
}

static void words_carry(struct scene *scene)
{
    for (unsigned i = 0; i < scene->shard_count; i++) {
        struct sched_group *group;
        while ((group = sched_lease_speaker(scene->parts[i].sched)) != NULL) {
            sched_group_word(group, &post(scene, i, &scene->parts[i].last_to_owner_ns)->word);
        }
        sched_leases_tidy(scene->parts[i].sched, scene->now_ns);
    }
    unsigned left = 0;
    for (unsigned i = 0; i < scene->post_count; i++) {
        struct post arrived = scene->posts[i];
        if (arrived.at_ns > scene->now_ns) {
            scene->posts[left++] = arrived;
        } else if (arrived.answers) {
            sched_group_answer(scene->parts[arrived.shard].group, &arrived.answer, scene->now_ns);
        } else {
            lease_book_told(scene->book, arrived.shard, &arrived.word, scene->now_ns);
        }
    }
    scene->post_count = left;
    if (lease_book_due(scene->book) <= scene->now_ns) {
        lease_book_round(scene->book, scene->now_ns);
    }
    answers_send(scene);
}

/* ---- Connections ---- */

static void connection_close(struct connection *connection)
{
    sched_connection_closed(connection->site);
    *(bool *)sched_site_owner(connection->site) = true;
    connection->site = NULL;
}

static void connection_next(struct scene *scene, struct connection *connection)
{
    struct sched_site *site = connection->site;
    if (connection->sent > 0 && sched_connection_surplus(site, connection->sent)) {
        connection_close(connection);
        return;
    }
    connection->delivery = sched_next(site, scene->now_ns);
    if (connection->delivery != NULL) {
        connection->ends_ns = scene->now_ns + scene->takes_ns;
        connection->sent++;
        check(scene->sent_count < MESSAGES);
        scene->sent_at[scene->sent_count++] = scene->now_ns;
    } else if (sched_connection_surplus(site, SCHED_CONNECTION_IDLE)) {
        connection_close(connection);
    }
}

static void connections_run(struct scene *scene, struct part *part)
{
    for (struct connection *at = part->connections; at < part->connections + CONNECTIONS_MAX;
         at++) {
        if (at->site == NULL) {
            continue;
        }
        if (at->opens_ns > 0) {
            if (at->opens_ns <= scene->now_ns) {
                at->opens_ns = 0;
                sched_connection_opened(at->site);
                connection_next(scene, at);
            }
        } else if (at->delivery != NULL && at->ends_ns <= scene->now_ns) {
            sched_done(at->delivery);
            at->delivery = NULL;
            part->sent++;
            part->waiting--;
            connection_next(scene, at);
        }
    }
}

static void connection_begin(struct scene *scene, struct part *part, struct sched_site *site)
{
    struct connection *at = part->connections;
    while (at->site != NULL) {
        at++;
        check(at < part->connections + CONNECTIONS_MAX);
    }
    sched_connection_started(site);
    scene->opened_count++;
    *at = (struct connection){.site = site, .opens_ns = scene->now_ns + 1 + draw(scene, 3 * MS)};
}

static unsigned open_count(const struct scene *scene)
{
    unsigned count = 0;
    for (unsigned i = 0; i < scene->shard_count; i++) {
        for (unsigned c = 0; c < CONNECTIONS_MAX; c++) {
            count += scene->parts[i].connections[c].site != NULL;
        }
    }
    return count;
}

static void sites_run(struct scene *scene, struct part *part)
{
    for (struct sched_site *site; (site = sched_look(part->sched)) != NULL;) {
        *(bool *)sched_site_owner(site) = true;
    }
    for (unsigned s = 0; s < SITES; s++) {
        bool due = sched_site_next_due(part->sites[s], scene->now_ns) <= scene->now_ns;
        if (!due && !part->touched[s]) {
            continue;
        }
        part->touched[s] = false;
        for (struct connection *at = part->connections; at < part->connections + CONNECTIONS_MAX;
             at++) {
            if (at->site == part->sites[s] && at->opens_ns == 0 && at->delivery == NULL) {
                connection_next(scene, at);
            }
        }
        for (uint32_t wanted = sched_wants_connection(part->sites[s], scene->now_ns); wanted > 0;
             wanted--) {
            connection_begin(scene, part, part->sites[s]);
        }
    }
}

static void run(struct scene *scene, unsigned ms)
{
    for (uint64_t end_ns = scene->now_ns + ms * MS; scene->now_ns < end_ns; scene->now_ns += MS) {
        for (unsigned i = 0; i < scene->shard_count; i++) {
            connections_run(scene, &scene->parts[i]);
            sites_run(scene, &scene->parts[i]);
        }
        words_carry(scene);
        unsigned open = open_count(scene);
        scene->most_open = open > scene->most_open ? open : scene->most_open;
    }
}

static unsigned waiting_count(const struct scene *scene)
{
    unsigned count = 0;
    for (unsigned i = 0; i < scene->shard_count; i++) {
        count += scene->parts[i].waiting;
    }
    return count;
}

/* ---- Connections at once ---- */

static void all_shards_together_have_no_more_than_the_limit_and_use_it_evenly(void **state)
{
    (void)state;
    struct scene *scene = scene_open(4, &(struct sched_limits){.connection_count_max = 10});
    add_everywhere(scene, 5000);
    run(scene, 5000);
    assert_int_equal(scene->most_open, 10);
    unsigned all = 0;
    for (unsigned i = 0; i < 4; i++) {
        all += scene->parts[i].sent;
    }
    assert_true(all > 9500); /* of 10,000 that ten could send at 5 ms each */
    for (unsigned i = 0; i < 4; i++) {
        assert_in_range(scene->parts[i].sent, all / 4 * 75 / 100, all / 4 * 125 / 100);
    }
    scene_close(scene);
}

static void one_slot_goes_round_all_shards(void **state)
{
    (void)state;
    struct scene *scene = scene_open(4, &(struct sched_limits){.connection_count_max = 1});
    add_everywhere(scene, 200);
    run(scene, 10000);
    assert_int_equal(scene->most_open, 1);
    for (unsigned i = 0; i < 4; i++) {
        assert_in_range(scene->parts[i].sent, 300,
                        600); /* of 2000 in all, and the time to connect */
    }
    run(scene, 10000);
    assert_int_equal(waiting_count(scene), 0);
    scene_close(scene);
}

static void who_has_mail_alone_has_all_slots(void **state)
{
    (void)state;
    struct scene *scene = scene_open(4, &(struct sched_limits){.connection_count_max = 8});
    for (unsigned turn = 0; turn < 8; turn++) {
        add(scene, turn % 4, 0, 1000);
        run(scene, 20); /* the slots of the one before, which are idle, have come over */
        unsigned sent = scene->parts[turn % 4].sent;
        run(scene, 500);
        assert_true(scene->parts[turn % 4].sent - sent >= 750); /* of 800 */
        run(scene, 200);
        assert_int_equal(waiting_count(scene), 0);
    }
    assert_int_equal(scene->most_open, 8);
    scene_close(scene);
}

static void one_message_does_not_wait_behind_the_backlog_of_another_shard(void **state)
{
    (void)state;
    struct scene *scene = scene_open(2, &(struct sched_limits){.connection_count_max = 4});
    add(scene, 0, 0, 20000);
    run(scene, 1000);
    for (unsigned i = 0; i < 20; i++) {
        add(scene, 1, 1, 1);
        run(scene, 30); /* a message, the words, the connection, the message */
        assert_int_equal(scene->parts[1].waiting, 0);
        run(scene, 50);
    }
    assert_int_equal(scene->most_open, 4);
    assert_true(scene->parts[0].sent > 1600); /* of 2080: the others were back soon */
    scene_close(scene);
}

static void words_are_few_while_nothing_changes(void **state)
{
    (void)state;
    struct scene *scene = scene_open(4, &(struct sched_limits){.connection_count_max = 8});
    add_everywhere(scene, 3000);
    run(scene, 500);
    unsigned before = scene->word_count, sent = scene->sent_count;
    run(scene, 2000);
    assert_true(scene->sent_count - sent > 3000);
    assert_true(scene->word_count - before < (scene->sent_count - sent) / 10);
    scene_close(scene);
}

static void a_limit_that_is_lowered_holds_soon_and_one_that_is_raised_is_used(void **state)
{
    (void)state;
    struct sched_limits limits = {.connection_count_max = 12};
    struct scene *scene = scene_open(3, &limits);
    add_everywhere(scene, 4000);
    run(scene, 300);
    assert_int_equal(open_count(scene), 12);
    limits.connection_count_max = 4;
    lease_book_set(scene->book, &limits, scene->now_ns);
    run(scene, 100);
    assert_true(open_count(scene) <= 4);
    limits.connection_count_max = 15;
    lease_book_set(scene->book, &limits, scene->now_ns);
    run(scene, 100);
    assert_int_equal(open_count(scene), 15);
    scene_close(scene);
}

/* ---- Rates ---- */

static void check_rate(const struct scene *scene, const struct rate *rate, unsigned extra)
{
    uint64_t interval_ns = rate->period_ns / rate->count;
    unsigned first = 0;
    for (unsigned last = 0; last < scene->sent_count; last++) {
        while (scene->sent_at[last] - scene->sent_at[first] > SECOND) {
            first++;
        }
        unsigned count = last - first + 1;
        assert_true(count <= (scene->sent_at[last] - scene->sent_at[first]) / interval_ns + 1 +
                                 rate->burst + extra);
    }
}

static void all_shards_together_send_at_the_rate(void **state)
{
    (void)state;
    const struct rate rate = {.count = 100, .period_ns = SECOND, .burst = 10};
    struct scene *scene =
        scene_open(4, &(struct sched_limits){.connection_count_max = 20, .messages = rate});
    add_everywhere(scene, 1000);
    run(scene, 20000);
    assert_in_range(scene->sent_count, 1900, 2020);
    check_rate(scene, &rate, 4 * 2); /* a slice of each */
    for (unsigned i = 0; i < 4; i++) {
        assert_in_range(scene->parts[i].sent, 400, 600);
    }
    scene_close(scene);
}

static void a_slow_rate_is_shared_too(void **state)
{
    (void)state;
    const struct rate rate = {.count = 1, .period_ns = SECOND, .burst = 1};
    struct scene *scene =
        scene_open(4, &(struct sched_limits){.connection_count_max = 20, .messages = rate});
    add_everywhere(scene, 100);
    run(scene, 2 * MINUTE_MS);
    assert_in_range(scene->sent_count, 108, 121);
    for (unsigned i = 0; i < 4; i++) {
        assert_in_range(scene->parts[i].sent, 20, 40);
    }
    scene_close(scene);
}

static void tokens_that_one_shard_does_not_use_are_used_by_others(void **state)
{
    (void)state;
    const struct rate rate = {.count = 10, .period_ns = 10 * SECOND, .burst = 10};
    struct scene *scene =
        scene_open(4, &(struct sched_limits){.connection_count_max = 20, .messages = rate});
    for (unsigned i = 0; i < 4; i++) {
        add(scene, i, 0, 1); /* each asks for a slice, and needs one */
    }
    run(scene, 30000);
    assert_int_equal(waiting_count(scene), 0);
    add(scene, 2, 0, 200);
    run(scene, MINUTE_MS);
    assert_in_range(scene->parts[2].sent, 63, 71); /* the burst, and one a second */
    scene_close(scene);
}

static void connections_are_opened_at_the_rate_of_all(void **state)
{
    (void)state;
    const struct rate rate = {.count = 5, .period_ns = SECOND, .burst = 1};
    struct scene *scene =
        scene_open(4, &(struct sched_limits){.connection_count_max = 40, .connections = rate});
    add_everywhere(scene, 4000);
    run(scene, 5000);
    assert_in_range(scene->opened_count, 20, 31);
    scene_close(scene);
}

/* ---- Coming and going ---- */

static void a_shard_that_leaves_leaves_all_to_the_others(void **state)
{
    (void)state;
    const struct sched_limits limits = {.connection_count_max = 3};
    struct lease_book *book = lease_book_open(2, &limits);
    struct lease_answer answer;
    const struct lease_word wants = {.slots_lacking = 3};
    lease_book_told(book, 0, &wants, 0);
    assert_true(lease_book_answer(book, 0, &answer));
    assert_int_equal(answer.slots_granted, 3);
    lease_book_told(book, 1, &wants, 0);
    assert_false(lease_book_answer(book, 1, &answer));
    assert_true(lease_book_answer(book, 0, &answer)); /* is asked for some */
    assert_int_equal(answer.slots_hard, 2);
    const struct lease_word leaves = {.slots_seen = 3, .leaves = true};
    lease_book_told(book, 0, &leaves, 0);
    assert_true(lease_book_answer(book, 1, &answer));
    assert_int_equal(answer.slots_granted, 3);
    assert_false(lease_book_unused(book));
    lease_book_told(book, 1, &leaves, 0);
    assert_true(lease_book_unused(book));
    lease_book_close(book);
}

static void what_is_under_way_is_not_granted_again(void **state)
{
    (void)state;
    const struct sched_limits limits = {.connection_count_max = 10};
    struct lease_book *book = lease_book_open(2, &limits);
    struct lease_answer answer;
    struct lease_word word = {.slots_lacking = 4};
    lease_book_told(book, 0, &word, 0);
    assert_true(lease_book_answer(book, 0, &answer));
    assert_int_equal(answer.slots_granted, 4);
    word.slots_lacking = 5; /* one more, said before the answer came */
    lease_book_told(book, 0, &word, 0);
    assert_true(lease_book_answer(book, 0, &answer));
    assert_int_equal(answer.slots_granted, 1);
    lease_book_close(book);
}

/* Whatever comes in whatever order: never more than the limit, and all is sent in the end. */
static void at_random_the_limit_holds_and_all_is_sent(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 300; seed++) {
        struct sched_limits limits = {.connection_count_max = 1 + seed % 7};
        if (seed % 3 == 0) {
            limits.messages = (struct rate){200, SECOND, 1 + seed % 20};
        }
        if (seed % 4 == 0) {
            limits.connections = (struct rate){20, SECOND, 1 + seed % 5};
        }
        struct scene *scene = scene_open(2 + seed % 5, &limits);
        scene->random = seed * 7919;
        scene->delay_ns = (1 + seed % 40) * MS;
        for (unsigned turn = 0; turn < 30; turn++) {
            unsigned shard = (unsigned)draw(scene, scene->shard_count);
            add(scene, shard, (unsigned)draw(scene, SITES), (unsigned)draw(scene, 60));
            scene->takes_ns = (1 + draw(scene, 20)) * MS;
            run(scene, (unsigned)draw(scene, 200));
        }
        for (unsigned i = 0; i < 120 && waiting_count(scene) > 0; i++) {
            run(scene, 500);
        }
        assert_int_equal(waiting_count(scene), 0);
        assert_true(scene->most_open <= limits.connection_count_max);
        scene_close(scene);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_shards_together_have_no_more_than_the_limit_and_use_it_evenly),
        cmocka_unit_test(one_slot_goes_round_all_shards),
        cmocka_unit_test(who_has_mail_alone_has_all_slots),
        cmocka_unit_test(one_message_does_not_wait_behind_the_backlog_of_another_shard),
        cmocka_unit_test(words_are_few_while_nothing_changes),
        cmocka_unit_test(a_limit_that_is_lowered_holds_soon_and_one_that_is_raised_is_used),
        cmocka_unit_test(all_shards_together_send_at_the_rate),
        cmocka_unit_test(a_slow_rate_is_shared_too),
        cmocka_unit_test(tokens_that_one_shard_does_not_use_are_used_by_others),
        cmocka_unit_test(connections_are_opened_at_the_rate_of_all),
        cmocka_unit_test(a_shard_that_leaves_leaves_all_to_the_others),
        cmocka_unit_test(what_is_under_way_is_not_granted_again),
        cmocka_unit_test(at_random_the_limit_holds_and_all_is_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
