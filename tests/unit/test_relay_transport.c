/* Where transport maps send mail, and what becomes of it when they do not know, or change. */
#include "engine/relay/relay_way.h"
#include "tests/unit/relay_rig.h"
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define MX_ROUTE "\n  - {match: \"*\", via: mx}\n"
#define MAPS(map) MX_ROUTE "transport_maps: [\"" map "\"]"

static char folder[] = "/tmp/relay-transport-XXXXXX";

static const char *file_path(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(file_path(name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* "KIND:FILE" after the route by MX. */
static const char *with_file(const char *kind, const char *name)
{
    static char routes[512];
    snprintf(routes, sizeof(routes), MX_ROUTE "transport_maps: [\"%s:%s\"]", kind, file_path(name));
    return routes;
}

static unsigned server_of(const struct relay_rig *rig, const char *recipients)
{
    const struct rig_letter *letter = rig_letter_for(rig, recipients);
    if (letter == NULL) {
        fail_msg("%s: nobody has it", recipients);
    }
    return letter->server;
}

static void a_recipient_goes_where_the_map_says_and_the_others_by_their_routes(void **state)
{
    struct relay_rig *rig =
        rig_open_two(MAPS("inline:{jo@a.test=smtp:[192.0.2.50]:26, c.test=smtp:[192.0.2.50]:26}"));
    (void)state;
    rig_serve(rig, "192.0.2.50:26");
    rig_post(rig, "s@relay.test", "jo@a.test al@a.test u@b.test v@c.test");
    assert_int_equal(server_of(rig, "jo@a.test v@c.test"), 2); /* in one transaction */
    assert_int_equal(server_of(rig, "al@a.test"), 0);
    assert_int_equal(server_of(rig, "u@b.test"), 1);
    assert_int_equal(rig->relay->counters.transports, 1);
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void a_next_hop_by_name_is_asked_for_in_the_dns_with_and_without_its_exchangers(void **state)
{
    struct relay_rig *rig = relay_rig_open(
        MAPS("inline:{x.test=smtp:hop.test, y.test=smtp:[hop.test]:26, z.test=smtp:}"));
    (void)state;
    rig_mx(rig, "hop.test", 10, "mx.hop.test", 300);
    rig_a(rig, "mx.hop.test", "192.0.2.1", 300);
    rig_a(rig, "hop.test", "192.0.2.2", 300);
    rig_a(rig, "z.test", "192.0.2.3", 300);
    rig_serve(rig, "192.0.2.1:25");
    rig_serve(rig, "192.0.2.2:26");
    rig_serve(rig, "192.0.2.3:25");
    rig_post(rig, "s@relay.test", "u@x.test v@y.test w@z.test");
    assert_int_equal(server_of(rig, "u@x.test"), 0);
    assert_int_equal(server_of(rig, "v@y.test"), 1);
    assert_int_equal(server_of(rig, "w@z.test"), 2);
    relay_rig_close(rig);
}

static void domains_that_go_to_one_next_hop_share_its_connection(void **state)
{
    struct relay_rig *rig = relay_rig_open(MAPS("inline:{*=smtp:hop.test}"));
    (void)state;
    rig_a(rig, "hop.test", "192.0.2.1", 300);
    struct rig_server *server = rig_serve(rig, "192.0.2.1:25");
    rig_post(rig, "s@relay.test", "u@x.test v@y.test w@z.test");
    assert_int_equal(server_of(rig, "u@x.test v@y.test w@z.test"), 0);
    assert_int_equal(server->connection_count, 1);
    relay_rig_close(rig);
}

static void a_route_is_named_and_mail_needs_no_other_route(void **state)
{
    struct relay_rig *rig = relay_rig_open(
        "\n  - {name: far, via: smtp, to: [\"192.0.2.1:25\"], recipients_per_message: 1}\n"
        "transport_maps: [\"inline:{x.test=far:, y.test=far:[192.0.2.2], "
        "z.test=smtp:[192.0.2.3]}\"]");
    (void)state;
    rig_serve(rig, "192.0.2.1:25");
    rig_serve(rig, "192.0.2.2:25");
    rig_serve(rig, "192.0.2.3:25");
    rig_post(rig, "s@relay.test", "a@x.test b@x.test c@y.test d@y.test e@z.test");
    assert_int_equal(server_of(rig, "a@x.test"), 0);
    assert_int_equal(server_of(rig, "b@x.test"), 0);
    assert_int_equal(server_of(rig, "c@y.test"), 1); /* one each: the settings are the route's */
    assert_int_equal(server_of(rig, "d@y.test"), 1);
    assert_int_equal(server_of(rig, "e@z.test"), 2);
    relay_rig_close(rig);
}

static void what_goes_nowhere_is_discarded_returned_or_put_off(void **state)
{
    struct relay_rig *rig = rig_open_two(
        MAPS("inline:{x.test=discard:, y.test=error:5.7.1 Not here, q.test=error:5.1.1 Nobody, "
             "z.test=retry:4.3.2 At night}"));
    (void)state;
    rig_post(rig, "s@a.test", "u@x.test v@y.test q@q.test w@z.test");
    assert_true(rig_log_says(rig, "to=<u@x.test>, relay=none, dsn=2.0.0, status=sent (discarded)"));
    assert_true(
        rig_log_says(rig, "to=<v@y.test>, relay=none, dsn=5.7.1, status=bounced (Not here)"));
    assert_true(rig_log_says(rig, "to=<q@q.test>, relay=none, dsn=5.1.1, status=bounced (Nobody)"));
    assert_true(
        rig_log_says(rig, "to=<w@z.test>, relay=none, dsn=4.3.2, status=deferred (At night)"));
    assert_int_equal(server_of(rig, "s@a.test"), 0); /* the report */
    assert_int_equal(rig_waiting(rig), 1);
    relay_rig_close(rig);
}

/* As after `postfix reload` and `postqueue -f`; here the file alone is enough. */
static void mail_that_waits_follows_a_map_that_changes(void **state)
{
    write_file("map", "x.test smtp:[192.0.2.1]\n");
    struct relay_rig *rig = relay_rig_open(with_file("texthash", "map"));
    (void)state;
    struct rig_server *first = rig_serve(rig, "192.0.2.1:25");
    rig_serve(rig, "192.0.2.2:25");
    strcpy(first->rcpt_reply, "450 4.2.1 later");
    rig_post(rig, "s@relay.test", "u@x.test");
    assert_int_equal(rig_waiting(rig), 1);
    write_file("map", "x.test smtp:[192.0.2.2]:25\n");
    rig_pass(rig, 400 * RIG_SECOND);
    assert_int_equal(server_of(rig, "u@x.test"), 1);
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

/* The map is changed because the next hop is dead: its mail has never been tried. */
static void what_waits_for_a_dead_next_hop_follows_the_map_too(void **state)
{
    char text[64];
    write_file("map", "x.test smtp:[192.0.2.1]\n");
    struct relay_rig *rig = relay_rig_open(with_file("texthash", "map"));
    (void)state;
    rig_server_down(rig_serve(rig, "192.0.2.1:25"));
    rig_serve(rig, "192.0.2.2:25");
    for (unsigned i = 0; i < 100; i++) {
        snprintf(text, sizeof(text), "u%u@x.test", i);
        rig_post(rig, "s@relay.test", text);
    }
    assert_int_equal(rig_waiting(rig), 100);
    write_file("map", "x.test smtp:[192.0.2.2]\n");
    rig_pass(rig, 700 * RIG_SECOND);
    assert_int_equal(rig_waiting(rig), 0);
    assert_int_equal(server_of(rig, "u99@x.test"), 1);
    relay_rig_close(rig);
}

static void mail_on_an_ordinary_route_follows_a_row_that_is_new(void **state)
{
    write_file("map", "other.test smtp:[192.0.2.9]\n");
    struct relay_rig *rig = relay_rig_open(with_file("texthash", "map"));
    (void)state;
    rig_a(rig, "x.test", "192.0.2.1", 300);
    struct rig_server *first = rig_serve(rig, "192.0.2.1:25");
    rig_serve(rig, "192.0.2.2:25");
    strcpy(first->rcpt_reply, "450 4.2.1 later");
    rig_post(rig, "s@relay.test", "u@x.test");
    assert_int_equal(rig_waiting(rig), 1);
    write_file("map", "x.test smtp:[192.0.2.2]\n");
    rig_pass(rig, 400 * RIG_SECOND);
    assert_int_equal(server_of(rig, "u@x.test"), 1);
    relay_rig_close(rig);
}

static void a_map_that_does_not_answer_puts_mail_off_and_never_returns_it(void **state)
{
    char text[256];
    snprintf(text, sizeof(text), "dbpath = %s\nquery = select way from t where name = '%%s'\n",
             file_path("db"));
    write_file("sqlite.cf", text);
    struct relay_rig *rig = relay_rig_open(with_file("sqlite", "sqlite.cf"));
    (void)state;
    rig_serve(rig, "192.0.2.1:25");
    rig_a(rig, "x.test", "192.0.2.9", 300); /* where it would go without the map */
    rig_post(rig, "s@relay.test", "u@x.test");
    assert_true(rig_log_says(rig, "to=<u@x.test>, relay=none, dsn=4.3.0, status=deferred (The "
                                  "transport map does not answer: "));
    assert_int_equal(rig->relay->counters.transport_failures, 1);
    assert_int_equal(rig->relay->counters.bounces, 0);
    rig_pass(rig, 400 * RIG_SECOND); /* it is asked again */
    assert_int_equal(rig->relay->counters.transport_failures, 2);
    sqlite3 *database;
    assert_int_equal(sqlite3_open(file_path("db"), &database), SQLITE_OK);
    assert_int_equal(sqlite3_exec(database,
                                  "create table t (name, way); insert into t values "
                                  "('x.test', 'smtp:[192.0.2.1]')",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(database);
    rig_pass(rig, 1200 * RIG_SECOND);
    assert_int_equal(server_of(rig, "u@x.test"), 0);
    assert_int_equal(rig_waiting(rig), 0);
    unlink(file_path("db"));
    relay_rig_close(rig);
}

static void a_row_that_is_wrong_puts_its_mail_off_and_no_other(void **state)
{
    struct relay_rig *rig = rig_open_two(MAPS("inline:{x.test=uucp:host}"));
    (void)state;
    rig_post(rig, "s@relay.test", "u@x.test v@a.test");
    assert_int_equal(server_of(rig, "v@a.test"), 0);
    assert_true(rig_log_says(rig, "to=<u@x.test>, relay=none, dsn=4.3.5, status=deferred (The "
                                  "transport map gives no transport: uucp:host)"));
    assert_int_equal(rig_waiting(rig), 1);
    relay_rig_close(rig);
}

/* ---- Maps that take their time ---- */

static struct relay_rig *open_slow(const char *routes)
{
    struct relay_rig *rig = rig_open_two(routes);
    rig_maps_thread(rig);
    rig_restart(rig);
    rig_serve(rig, "192.0.2.50:25");
    return rig;
}

#define SLOW MAPS("inline:{jo@a.test=smtp:[192.0.2.50], c.test=smtp:[192.0.2.50], *=:}")

static void mail_waits_for_the_answer_and_then_goes_its_ways(void **state)
{
    struct relay_rig *rig = open_slow(SLOW);
    (void)state;
    rig_maps_hold(rig);
    rig_post(rig, "s@relay.test", "jo@a.test al@a.test u@b.test v@c.test");
    assert_int_equal(rig->letter_count, 0);
    assert_int_equal(rig_waiting(rig), 4);
    rig_maps_answer(rig);
    assert_int_equal(server_of(rig, "jo@a.test v@c.test"), 2);
    assert_int_equal(server_of(rig, "al@a.test"), 0);
    assert_int_equal(server_of(rig, "u@b.test"), 1);
    assert_int_equal(rig_waiting(rig), 0);
    relay_rig_close(rig);
}

static void a_reload_while_mail_waits_for_an_answer_asks_again(void **state)
{
    struct relay_rig *rig = open_slow(SLOW);
    (void)state;
    rig_maps_hold(rig);
    rig_post(rig, "s@relay.test", "v@c.test");
    rig_reload(rig, MAPS("inline:{c.test=smtp:[192.0.2.1]}"));
    assert_int_equal(rig_waiting(rig), 1);
    rig_maps_answer(rig);
    assert_int_equal(server_of(rig, "v@c.test"), 0);
    relay_rig_close(rig);
}

static void a_reload_without_maps_sends_what_waits_by_the_routes(void **state)
{
    struct relay_rig *rig = open_slow(SLOW);
    (void)state;
    rig_maps_hold(rig);
    rig_post(rig, "s@relay.test", "jo@a.test");
    rig_reload(rig, MX_ROUTE);
    assert_int_equal(server_of(rig, "jo@a.test"), 0);
    rig_maps_answer(rig);
    relay_rig_close(rig);
}

static void a_relay_that_ends_while_mail_waits_has_it_at_the_next_start(void **state)
{
    struct relay_rig *rig = open_slow(SLOW);
    (void)state;
    rig_maps_hold(rig);
    rig_post(rig, "s@relay.test", "v@c.test");
    rig_restart(rig);
    rig_maps_answer(rig);
    assert_int_equal(server_of(rig, "v@c.test"), 2);
    relay_rig_close(rig);
}

static void a_restart_asks_the_maps_again_when_the_mail_is_due(void **state)
{
    struct relay_rig *rig = open_slow(SLOW);
    (void)state;
    rig_server_down(&rig->servers[2]);
    rig_post(rig, "s@relay.test", "v@c.test");
    rig_maps_answer(rig);
    assert_int_equal(rig_waiting(rig), 1);
    rig_restart_with(rig, MAPS("inline:{c.test=smtp:[192.0.2.2]}"));
    rig_pass(rig, 600 * RIG_SECOND);
    rig_maps_answer(rig);
    rig_maps_answer(rig);
    assert_int_equal(server_of(rig, "v@c.test"), 1);
    relay_rig_close(rig);
}

/* ---- The ways ---- */

static void a_way_ends_with_its_site(void **state)
{
    struct relay_rig *rig = relay_rig_open(MAPS("inline:{*=smtp:[192.0.2.1]}"));
    (void)state;
    rig_serve(rig, "192.0.2.1:25");
    rig_post(rig, "s@relay.test", "u@x.test");
    assert_int_equal(rig->relay->counters.transports, 1);
    rig_pass(rig, RELAY_SITE_UNUSED_NS + 60 * RIG_SECOND);
    assert_int_equal(rig->relay->counters.transports, 0);
    relay_rig_close(rig);
}

static void a_reload_keeps_a_way_whose_route_is_the_same_and_ends_another(void **state)
{
    struct relay_rig *rig = relay_rig_open(MAPS("inline:{*=smtp:[192.0.2.1]}"));
    (void)state;
    struct rig_server *server = rig_serve(rig, "192.0.2.1:25");
    rig_serve(rig, "192.0.2.2:25");
    rig_server_down(server);
    rig_post(rig, "s@relay.test", "u@x.test");
    assert_int_equal(rig_waiting(rig), 1);
    uint64_t refused = rig->relay->counters.connections_out_failed;
    rig_reload(rig, MAPS("inline:{*=smtp:[192.0.2.1]}"));
    assert_int_equal(rig->relay->counters.transports, 1);
    assert_int_equal(rig->relay->counters.connections_out_failed, refused); /* still known dead */
    rig_reload(rig, "\n  - {match: \"*\", via: mx, hostname: new.test}\n"
                    "transport_maps: [\"inline:{*=smtp:[192.0.2.2]}\"]");
    assert_int_equal(server_of(rig, "u@x.test"), 1);
    assert_string_equal(rig->servers[1].helo, "new.test");
    assert_int_equal(rig->relay->counters.transports, 1);
    relay_rig_close(rig);
}

static void mail_at_a_way_goes_by_the_routes_when_the_maps_are_gone(void **state)
{
    struct relay_rig *rig = rig_open_two(MAPS("inline:{a.test=retry:4.3.2 At night}"));
    (void)state;
    rig_post(rig, "s@relay.test", "u@a.test");
    assert_int_equal(rig_waiting(rig), 1);
    rig_reload(rig, MX_ROUTE);
    assert_int_equal(server_of(rig, "u@a.test"), 0);
    assert_int_equal(rig->relay->counters.transports, 0);
    relay_rig_close(rig);
}

static void there_are_only_so_many_ways_and_mail_for_one_more_is_put_off(void **state)
{
    struct relay_rig *rig = relay_rig_open(MAPS("inline:{x.test=smtp:[192.0.2.1]}"));
    struct relay_way *ways = calloc(RELAY_TRANSPORTS_MAX, sizeof(*ways));
    struct relay_way one_more;
    char value[64];
    (void)state;
    rig_serve(rig, "192.0.2.1:25");
    for (unsigned i = 0; i < RELAY_TRANSPORTS_MAX; i++) {
        snprintf(value, sizeof(value), "smtp:[h%u.test]", i);
        assert_int_equal(
            relay_transport_way(rig->relay, &rig->conf->routes[0], slice_text(value), &ways[i]), 0);
    }
    assert_int_equal(relay_transport_way(rig->relay, &rig->conf->routes[0],
                                         slice_text("smtp:[h7.test]"), &one_more),
                     0); /* that is one of them */
    assert_ptr_equal(one_more.made, ways[7].made);
    relay_way_drop(rig->relay, &one_more);
    assert_int_equal(relay_transport_way(rig->relay, &rig->conf->routes[0],
                                         slice_text("smtp:[more.test]"), &one_more),
                     -ENOBUFS);
    rig_post(rig, "s@relay.test", "u@x.test");
    assert_true(rig_log_says(rig, "to=<u@x.test>, relay=none, dsn=4.3.2, status=deferred (Too many "
                                  "next hops at once, or out of memory)"));
    assert_true(rig->relay->counters.transports_refused >= 2);
    for (unsigned i = 0; i < RELAY_TRANSPORTS_MAX; i++) {
        relay_way_drop(rig->relay, &ways[i]);
    }
    assert_int_equal(rig->relay->counters.transports, 0);
    rig_pass(rig, 400 * RIG_SECOND);
    assert_int_equal(server_of(rig, "u@x.test"), 0);
    free(ways);
    relay_rig_close(rig);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(file_path("map"));
    unlink(file_path("sqlite.cf"));
    unlink(file_path("db"));
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_recipient_goes_where_the_map_says_and_the_others_by_their_routes),
        cmocka_unit_test(
            a_next_hop_by_name_is_asked_for_in_the_dns_with_and_without_its_exchangers),
        cmocka_unit_test(domains_that_go_to_one_next_hop_share_its_connection),
        cmocka_unit_test(a_route_is_named_and_mail_needs_no_other_route),
        cmocka_unit_test(what_goes_nowhere_is_discarded_returned_or_put_off),
        cmocka_unit_test(mail_that_waits_follows_a_map_that_changes),
        cmocka_unit_test(what_waits_for_a_dead_next_hop_follows_the_map_too),
        cmocka_unit_test(mail_on_an_ordinary_route_follows_a_row_that_is_new),
        cmocka_unit_test(a_map_that_does_not_answer_puts_mail_off_and_never_returns_it),
        cmocka_unit_test(a_row_that_is_wrong_puts_its_mail_off_and_no_other),
        cmocka_unit_test(mail_waits_for_the_answer_and_then_goes_its_ways),
        cmocka_unit_test(a_reload_while_mail_waits_for_an_answer_asks_again),
        cmocka_unit_test(a_reload_without_maps_sends_what_waits_by_the_routes),
        cmocka_unit_test(a_relay_that_ends_while_mail_waits_has_it_at_the_next_start),
        cmocka_unit_test(a_restart_asks_the_maps_again_when_the_mail_is_due),
        cmocka_unit_test(a_way_ends_with_its_site),
        cmocka_unit_test(a_reload_keeps_a_way_whose_route_is_the_same_and_ends_another),
        cmocka_unit_test(mail_at_a_way_goes_by_the_routes_when_the_maps_are_gone),
        cmocka_unit_test(there_are_only_so_many_ways_and_mail_for_one_more_is_put_off),
    };
    return cmocka_run_group_tests_name("relay_transport", tests, set_up, tear_down);
}
