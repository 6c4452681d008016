#include "tests/unit/lease_scene.h"
#include "engine/core/check.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const struct sched_site_settings settings = {
    .connection_count_max = 100,
    .address_count = 1,
    .retry = {.first_ns = 300 * SECOND, .limit_ns = 3600 * SECOND},
    .reconnect = {.first_ns = 60 * SECOND, .limit_ns = 3600 * SECOND},
    .expire_ns = 432000 * SECOND,
};

static struct message messages[MESSAGES];
static unsigned message_count;
static uint64_t sent_at[MESSAGES];

uint64_t lease_scene_draw(struct lease_scene *scene, uint64_t below)
{
    scene->random = scene->random * 6364136223846793005ull + 1442695040888963407ull;
    return below == 0 ? 0 : (scene->random >> 33) % below;
}

struct lease_scene *lease_scene_open(unsigned shard_count, const struct sched_limits *limits)
{
    struct lease_scene *scene = calloc(1, sizeof(*scene));
    assert_non_null(scene);
    memset(messages, 0, sizeof(messages));
    message_count = 0;
    *scene = (struct lease_scene){.shard_count = shard_count,
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

void lease_scene_close(struct lease_scene *scene)
{
    for (unsigned i = 0; i < scene->shard_count; i++) {
        sched_close(scene->parts[i].sched);
        sched_group_close(scene->parts[i].group);
    }
    lease_book_close(scene->book);
    lease_book_close(scene->book_of_all);
    free(scene);
}

void lease_scene_add(struct lease_scene *scene, unsigned shard, unsigned site, unsigned count)
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

void lease_scene_add_everywhere(struct lease_scene *scene, unsigned count)
{
    for (unsigned i = 0; i < scene->shard_count; i++) {
        for (unsigned s = 0; s < SITES; s++) {
            lease_scene_add(scene, i, s, count);
        }
    }
}

void lease_scene_limit_all(struct lease_scene *scene, uint32_t count, uint32_t wished)
{
    const struct sched_limits limits = {.connection_count_max = count};
    scene->book_of_all = lease_book_open(scene->shard_count, &limits);
    assert_non_null(scene->book_of_all);
    for (unsigned i = 0; i < scene->shard_count; i++) {
        struct sched_group *all = sched_group_of_all(scene->parts[i].sched);
        sched_group_set(all, &limits);
        assert_int_equal(sched_group_lease(all, scene->shard_count, &scene->parts[i]), 0);
        sched_group_wish(all, wished);
    }
}

static struct lease_book *book_of(const struct lease_scene *scene, enum which which)
{
    return which == OF_ALL ? scene->book_of_all : scene->book;
}

static struct sched_group *group_of(struct part *part, enum which which)
{
    return which == OF_ALL ? sched_group_of_all(part->sched) : part->group;
}

/* ---- Words ---- */

static struct post *post(struct lease_scene *scene, unsigned shard, uint64_t *last_ns)
{
    check(scene->post_count < POSTS_MAX);
    struct post *post = &scene->posts[scene->post_count++];
    uint64_t at_ns = scene->now_ns + lease_scene_draw(scene, scene->delay_ns);
    at_ns = at_ns > *last_ns ? at_ns : *last_ns; /* in order */
    *last_ns = at_ns;
    *post = (struct post){.at_ns = at_ns, .shard = shard};
    scene->word_count++;
    return post;
}

static void answers_send(struct lease_scene *scene)
{
    struct lease_answer answer;
    for (unsigned i = 0; i < BOOKS * scene->shard_count; i++) {
        struct lease_book *book = book_of(scene, i % BOOKS);
        unsigned shard = i / BOOKS;
        if (book != NULL && lease_book_answer(book, shard, &answer)) {
            struct post *sent = post(scene, shard, &scene->parts[shard].last_from_owner_ns);
            sent->which = i % BOOKS;
            sent->answers = true;
            sent->answer = answer;
        }
    }
}

static void words_carry(struct lease_scene *scene)
{
    for (unsigned i = 0; i < scene->shard_count; i++) {
        struct sched_group *group;
        while ((group = sched_lease_speaker(scene->parts[i].sched)) != NULL) {
            struct post *sent = post(scene, i, &scene->parts[i].last_to_owner_ns);
            sent->which = group == scene->parts[i].group ? OF_GROUP : OF_ALL;
            sched_group_word(group, &sent->word);
        }
        sched_leases_tidy(scene->parts[i].sched, scene->now_ns);
    }
    unsigned left = 0;
    for (unsigned i = 0; i < scene->post_count; i++) {
        struct post arrived = scene->posts[i];
        if (arrived.at_ns > scene->now_ns) {
            scene->posts[left++] = arrived;
        } else if (arrived.answers) {
            sched_group_answer(group_of(&scene->parts[arrived.shard], arrived.which),
                               &arrived.answer, scene->now_ns);
        } else {
            lease_book_told(book_of(scene, arrived.which), arrived.shard, &arrived.word,
                            scene->now_ns);
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

static void connection_next(struct lease_scene *scene, struct connection *connection)
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

static void connections_run(struct lease_scene *scene, struct part *part)
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

static void connection_begin(struct lease_scene *scene, struct part *part, struct sched_site *site)
{
    struct connection *at = part->connections;
    while (at->site != NULL) {
        at++;
        check(at < part->connections + CONNECTIONS_MAX);
    }
    sched_connection_started(site);
    scene->opened_count++;
    *at = (struct connection){.site = site,
                              .opens_ns = scene->now_ns + 1 + lease_scene_draw(scene, 3 * MS)};
}

unsigned lease_scene_open_count(const struct lease_scene *scene)
{
    unsigned count = 0;
    for (unsigned i = 0; i < scene->shard_count; i++) {
        for (unsigned c = 0; c < CONNECTIONS_MAX; c++) {
            count += scene->parts[i].connections[c].site != NULL;
        }
    }
    return count;
}

static void sites_run(struct lease_scene *scene, struct part *part)
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

void lease_scene_run(struct lease_scene *scene, unsigned ms)
{
    for (uint64_t end_ns = scene->now_ns + ms * MS; scene->now_ns < end_ns; scene->now_ns += MS) {
        for (unsigned i = 0; i < scene->shard_count; i++) {
            connections_run(scene, &scene->parts[i]);
            sites_run(scene, &scene->parts[i]);
        }
        words_carry(scene);
        unsigned open = lease_scene_open_count(scene);
        scene->most_open = open > scene->most_open ? open : scene->most_open;
    }
}

unsigned lease_scene_waiting_count(const struct lease_scene *scene)
{
    unsigned count = 0;
    for (unsigned i = 0; i < scene->shard_count; i++) {
        count += scene->parts[i].waiting;
    }
    return count;
}
