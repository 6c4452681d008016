/* Ways that transport maps name where much waits, or little is remembered: whom is asked when, and what is closed. */
#include "engine/lookup/lookup.h"
#include "engine/relay/relay_maps.h"
#include "engine/relay/relay_queue.h"
#include "engine/relay/relay_way.h"
#include "engine/relay/transport_lookup.h"
#include "tests/unit/relay_rig.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define MX_ROUTE "\n  - {match: \"*\", via: mx}\n"

static unsigned server_of(const struct relay_rig *rig, const char *recipients)
{
    const struct rig_letter *letter = rig_letter_for(rig, recipients);
    if (letter == NULL) {
        fail_msg("%s: nobody has it", recipients);
    }
    return letter->server;
}

static struct relay_rig *open_slow(const char *routes)
{
    struct relay_rig *rig = relay_rig_open(routes);
    rig_maps_thread(rig);
    rig_restart(rig);
    return rig;
}

/* ---- What is asked ---- */

static void way_known(struct transport_job *job)
{
    (void)job;
}

/* The maps' answer for him is remembered. */
static void remember(struct relay_rig *rig, const char *mailbox)
{
    struct transport_job job = {.done = way_known};
    transport_lookup(&job, rig->lookup, &rig->maps->transports, &rig->maps->rules,
                     slice_text(mailbox));
    rig_maps_answer(rig);
    transport_job_end(&job);
}

/* "smtp:" where nobody has a route says what the lobby of those who wait for the maps says, which was taken for it. */
static void who_waits_for_the_maps_is_not_sent_by_the_dns_of_others(void **state)
{
    struct relay_rig *rig =
        open_slow("\n  - {name: far, via: smtp, to: [\"192.0.2.9:25\"]}\n"
                  "transport_maps: [\"inline:{x.test=smtp:, y.test=smtp:[192.0.2.2]}\"]");
    (void)state;
    rig_a(rig, "x.test", "192.0.2.1", 300);
    rig_a(rig, "y.test", "192.0.2.1", 300);
    rig_serve(rig, "192.0.2.1:25");
    rig_serve(rig, "192.0.2.2:25");
    remember(rig, "u@x.test");
    rig_post(rig, "s@relay.test", "u@x.test");
    assert_int_equal(server_of(rig, "u@x.test"), 0);
    rig_maps_hold(rig);
    rig_post(rig, "s@relay.test", "v@y.test");
    assert_int_equal(rig->letter_count, 1);
    rig_maps_answer(rig);
    assert_int_equal(server_of(rig, "v@y.test"), 1);
    relay_rig_close(rig);
}

static void find_one(void *owner, struct message *message)
{
    *(struct message **)owner = message;
}

/* It was never tried, so that it was sent as the row had said when it came. */
static void mail_that_was_held_goes_the_way_of_the_day_when_it_is_released(void **state)
{
    char file[] = "/tmp/relay-ways-XXXXXX", routes[256];
    int fd = mkstemp(file);
    dprintf(fd, "x.test smtp:[192.0.2.1]\ny.test discard:\n");
    close(fd);
    snprintf(routes, sizeof(routes), MX_ROUTE "transport_maps: [\"texthash:%s\"]", file);
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct relay_rig *rig = relay_rig_open(routes);
        struct message *message = NULL;
        rig_serve(rig, "192.0.2.1:25");
        rig_serve(rig, "192.0.2.2:25");
        const struct rig_wishes wishes = {.flags = SPOOL_HELD};
        rig_post_wanting(rig, &wishes, "s@relay.test", i == 0 ? "u@x.test" : "u@y.test");
        rig_pass(rig, 100 * RIG_SECOND);
        assert_int_equal(rig_waiting(rig), 1);
        fd = open(file, O_WRONLY | O_TRUNC);
        dprintf(fd, i == 0 ? "x.test smtp:[192.0.2.2]\ny.test discard:\n# longer\n"
                           : "y.test smtp:[192.0.2.2]\n");
        close(fd);
        spool_each(rig->relay->spool, find_one, &message);
        uint32_t index = 0;
        struct relay_queue_tally tally = {0};
        const struct queue_group group = {
            .message = message, .indexes = &index, .count = 1, .whole = true};
        relay_queue_release(rig->relay, &group, &tally);
        rig_settle(rig);
        assert_int_equal(server_of(rig, i == 0 ? "u@x.test" : "u@y.test"), 1);
        relay_rig_close(rig);
    }
    unlink(file);
}

/* Each answer had pushed out the one before, and its mail stood behind all others again. */
static void a_backlog_is_asked_for_once_when_little_is_remembered(void **state)
{
    enum { LETTERS = 40 };
    char text[64];
    struct relay_rig *rig =
        open_slow(MX_ROUTE "transport_maps: [\"inline:{x.test=smtp:[192.0.2.1]}\"]");
    (void)state;
    rig->lookup_bytes = 500; /* two answers, about */
    rig_restart(rig);
    struct rig_server *server = rig_serve(rig, "192.0.2.1:25");
    strcpy(server->rcpt_reply, "450 4.2.1 later");
    for (unsigned i = 0; i < LETTERS; i++) {
        snprintf(text, sizeof(text), "u%u@x.test", i);
        rig_post_only(rig, "s@relay.test", text);
    }
    rig_maps_answer(rig);
    assert_int_equal(rig_waiting(rig), LETTERS);
    strcpy(server->rcpt_reply, "250 2.1.5 Ok");
    uint64_t asked = lookup_counters(rig->lookup)->misses;
    rig_pass(rig, 400 * RIG_SECOND);
    for (unsigned i = 0; i < 10 * LETTERS && rig_waiting(rig) > 0; i++) {
        rig_maps_answer(rig);
    }
    assert_int_equal(rig_waiting(rig), 0);
    assert_true(lookup_counters(rig->lookup)->misses - asked <= 8 * LETTERS);
    relay_rig_close(rig);
}

/* The maps had called it back before it was tried there. */
static void what_the_operator_has_rerouted_goes_there_whatever_the_maps_say(void **state)
{
    static const char *const hops[] = {"192.0.2.8:25",
                                       "192.0.2.9:25"}; /* a route's, and nobody's */
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct relay_rig *rig =
            relay_rig_open(MX_ROUTE "  - {match: b.test, via: smtp, to: [\"192.0.2.8:25\"]}\n"
                                    "transport_maps: [\"inline:{x.test=smtp:[192.0.2.1]}\"]");
        struct message *message = NULL;
        rig_server_down(rig_serve(rig, "192.0.2.1:25"));
        rig_server_down(rig_serve(rig, hops[i]));
        rig_post(rig, "s@relay.test", "u@x.test");
        spool_each(rig->relay->spool, find_one, &message);
        uint32_t index = 0;
        struct relay_queue_tally tally = {0};
        const struct queue_group group = {
            .message = message, .indexes = &index, .count = 1, .whole = true};
        relay_queue_reroute(rig->relay, &group, hops[i], &tally);
        rig_pass(rig, 1200 * RIG_SECOND); /* it is tried, asked for, and stays */
        assert_int_equal(rig_waiting(rig), 1);
        rig_server_up(&rig->servers[0]);
        rig_server_up(&rig->servers[1]);
        rig_pass(rig, 3600 * RIG_SECOND);
        assert_int_equal(server_of(rig, "u@x.test"), 1);
        relay_rig_close(rig);
    }
}

/* ---- Sites ---- */

static struct destination *destination_of(unsigned number)
{
    char name[32];
    struct endpoint address = {.family = ENDPOINT_IPV4, .address = {192, 0, 2, 9}, .port = 25};
    snprintf(name, sizeof(name), "h%u.test", number);
    const struct destination_host host = {
        .name = name, .tlsa_base = name, .addresses = &address, .address_count = 1};
    const struct destination like = {.domain = name,
                                     .status = DESTINATION_OK,
                                     .hosts = &host,
                                     .host_count = 1,
                                     .expires_ns = UINT64_MAX};
    struct destination *made = destination_new(&like);
    assert_non_null(made);
    return made;
}

/* Where the last mail leaves a site for one that has to be made, and it is the oldest, it was closed under way. */
static void the_site_that_mail_leaves_makes_no_room_for_the_one_it_goes_to(void **state)
{
    struct relay_rig *rig = open_slow(MX_ROUTE "transport_maps: [\"inline:{*=smtp:[192.0.2.1]}\"]");
    (void)state;
    rig_serve(rig, "192.0.2.1:25");
    rig_maps_hold(rig);
    rig_post(rig, "s@relay.test", "u@x.test");
    rig->now_ns += RIG_SECOND;
    rig_settle(rig);
    for (unsigned i = 0; rig->relay->sites.count < RELAY_SITES_MAX; i++) {
        struct destination *destination = destination_of(i);
        assert_non_null(relay_site_of_destination(rig->relay, &rig->conf->routes[0], destination));
        destination_drop(destination);
    }
    rig->now_ns += RIG_SECOND;
    rig_maps_answer(rig);
    assert_int_equal(server_of(rig, "u@x.test"), 0);
    relay_rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_waits_for_the_maps_is_not_sent_by_the_dns_of_others),
        cmocka_unit_test(mail_that_was_held_goes_the_way_of_the_day_when_it_is_released),
        cmocka_unit_test(a_backlog_is_asked_for_once_when_little_is_remembered),
        cmocka_unit_test(what_the_operator_has_rerouted_goes_there_whatever_the_maps_say),
        cmocka_unit_test(the_site_that_mail_leaves_makes_no_room_for_the_one_it_goes_to),
    };
    return cmocka_run_group_tests_name("relay_ways", tests, NULL, NULL);
}
