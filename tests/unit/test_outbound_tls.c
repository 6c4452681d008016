/* TLS of one connection to a next hop: every level with every certificate, and what is counted. */
#include "engine/core/check.h"
#include "engine/relay/outbound_tls.h"
#include "engine/relay/tls_clear.h"
#include "engine/relay/tls_report.h"
#include "tests/unit/tls_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define ROOM 65536u

/* As much of a relay as TLS needs. */
static struct tls_rig rig;
static struct relay relay;
static struct relay_tls relay_tls;
static struct relay_tls_client client;
static struct shard shard;
static struct logger logger;

static int64_t wall_s(void *self)
{
    (void)self;
    return 1000000;
}
static const struct world world = {.wall_s = wall_s};

/* What a host says of itself, and what it shows. */
enum records { NO_RECORDS, RIGHT_RECORD, WRONG_RECORD, UNUSABLE_RECORDS, NO_ANSWER };

static uint8_t digest[32];
static struct dns_tlsa record;
static struct destination_host host;
static struct destination destination;

static void relay_open_for(const char *shown, enum records records, enum dns_mta_sts_mode mode)
{
    static const uint8_t tlsa[] = {DESTINATION_TLSA_NONE, DESTINATION_TLSA_USABLE,
                                   DESTINATION_TLSA_USABLE, DESTINATION_TLSA_UNUSABLE,
                                   DESTINATION_TLSA_FAILED};
    const struct siphash_key secret = {{1, 2}};
    tls_rig_open(&rig, ROOM, NULL);
    tls_rig_context(&rig, &shown, 1, TLS_CLIENT_NOT_ASKED);
    logger_open(&logger, -1, LOGGER_ERROR);
    shard = (struct shard){.world = &world, .logger = &logger, .now_ns = 1};
    client = (struct relay_tls_client){.context = rig.client};
    relay_tls =
        (struct relay_tls){.tls = rig.tls, .contexts = {.clients = &client, .client_count = 1}};
    relay = (struct relay){.shard = &shard,
                           .logger = &logger,
                           .tls = &relay_tls,
                           .clear = tls_clear_open(&secret),
                           .tls_report = tls_report_open(&secret)};
    tls_rig_key_digest(&rig, shown, digest);
    digest[0] ^= records == WRONG_RECORD;
    record = (struct dns_tlsa){DNS_TLSA_DANE_EE, DNS_TLSA_PUBLIC_KEY, DNS_TLSA_SHA256,
                               slice_of(digest, sizeof(digest))};
    host = (struct destination_host){.name = "mx.example",
                                     .tlsa_base = "mx.example",
                                     .tlsa = tlsa[records],
                                     .tlsa_count = tlsa[records] == DESTINATION_TLSA_USABLE,
                                     .tlsa_records = &record};
    destination = (struct destination){
        .domain = "example", .host_count = 1, .hosts = &host, .mta_sts.mode = mode};
}

static void relay_close_after(void)
{
    tls_clear_close(relay.clear);
    tls_report_close(relay.tls_report);
    tls_rig_close(&rig);
}

static const struct conf_route *route_at(enum conf_tls_level level)
{
    static struct conf_route route;
    route = (struct conf_route){.match = "example", .tls = {.level = (uint8_t)level}};
    return &route;
}

static struct relay_hop hop_of(void)
{
    struct relay_hop hop = {.destination = &destination};
    hop.to = (struct endpoint){.family = ENDPOINT_IPV4, .port = 25, .address = {192, 0, 2, 1}};
    return hop;
}

static struct outbound_tls tls;
static uint32_t events;

static void notified(struct stream *stream, uint32_t now, void *session)
{
    (void)stream;
    (void)session;
    events |= now;
}

/* The connection is there, and the server waits for TLS. Returns the stream. */
static struct stream *shake_hands(enum conf_tls_level level)
{
    const struct connect_request request = {.to = {.family = ENDPOINT_UNIX}};
    const struct conf_route *route = route_at(level);
    const struct relay_hop hop = hop_of();
    struct stream *stream;
    events = 0;
    assert_true(outbound_tls_choose(&tls, &relay, route, &hop));
    assert_int_equal(rig.network->ops->connect(rig.network, &request, &stream), 0);
    stream->notify = notified;
    rig.network->ops->poll(rig.network, 0);
    outbound_tls_start(&tls, &relay, route, &hop, &stream);
    assert_non_null(stream);
    assert_int_equal(tls.secrecy, OUTBOUND_SHAKING_HANDS);
    events = 0;
    stream->notify = notified;
    tls_rig_run(&rig);
    if ((events & STREAM_CLOSED) == 0) {
        assert_true(events & STREAM_CONNECTED);
        outbound_tls_opened(&tls, &relay, route, &hop, stream);
    } else {
        outbound_tls_failed(&tls, &relay, route, &hop, stream, "closed");
    }
    return stream;
}

struct row {
    int level;         /* enum conf_tls_level */
    const char *shown; /* the certificate */
    enum records records;
    enum dns_mta_sts_mode mode;
    bool secured;
    enum tls_result result;
    const char *problem;
};

enum { O = CONF_LEVEL_OPPORTUNISTIC, R = CONF_LEVEL_REQUIRED };
enum { V = CONF_LEVEL_VERIFIED, D = CONF_LEVEL_DANE };
#define GOOD "mx.example"
#define OTHER "other.example"
#define MISMATCH "Server certificate not verified: hostname mismatch"
#define ALONE "Server certificate not verified: self-signed certificate"
#define LATE "Server certificate not verified: certificate has expired"

static void play(const struct row *row, size_t number)
{
    relay_open_for(row->shown, row->records, row->mode);
    struct stream *stream = shake_hands((enum conf_tls_level)row->level);
    bool secured = tls.secrecy == OUTBOUND_SECURED;
    if (secured != row->secured || relay.tls_report->totals[row->result] != 1 ||
        (row->problem != NULL && strcmp(tls.problem, row->problem) != 0)) {
        print_error("row %zu: %s, '%s', %u of the result\n", number,
                    secured ? "secured" : "refused", tls.problem,
                    (unsigned)relay.tls_report->totals[row->result]);
        fail();
    }
    stream_release(stream);
    relay_close_after();
}
#define PLAY_ROWS(rows)                                                                            \
    for (size_t i = 0; i < sizeof(rows) / sizeof((rows)[0]); i++) {                                \
        play(&(rows)[i], i);                                                                       \
    }

static void levels_take_what_is_good_enough_for_them(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {O, GOOD, NO_RECORDS, DNS_MTA_STS_NONE, true, TLS_RESULT_SUCCESS, NULL},
        {O, OTHER, NO_RECORDS, DNS_MTA_STS_NONE, true, TLS_RESULT_SUCCESS, NULL},
        {O, "stranger", NO_RECORDS, DNS_MTA_STS_NONE, true, TLS_RESULT_SUCCESS, NULL},
        {O, "expired", NO_RECORDS, DNS_MTA_STS_NONE, true, TLS_RESULT_SUCCESS, NULL},
        {R, OTHER, NO_RECORDS, DNS_MTA_STS_NONE, true, TLS_RESULT_SUCCESS, NULL},
        {R, "stranger", NO_RECORDS, DNS_MTA_STS_NONE, true, TLS_RESULT_SUCCESS, NULL},
        {R, "expired", NO_RECORDS, DNS_MTA_STS_NONE, true, TLS_RESULT_SUCCESS, NULL},
        {V, GOOD, NO_RECORDS, DNS_MTA_STS_NONE, true, TLS_RESULT_SUCCESS, NULL},
        {V, OTHER, NO_RECORDS, DNS_MTA_STS_NONE, false, TLS_RESULT_CERTIFICATE_HOST_MISMATCH,
         MISMATCH},
        {V, "stranger", NO_RECORDS, DNS_MTA_STS_NONE, false, TLS_RESULT_CERTIFICATE_NOT_TRUSTED,
         ALONE},
        {V, "expired", NO_RECORDS, DNS_MTA_STS_NONE, false, TLS_RESULT_CERTIFICATE_EXPIRED, LATE},
    };
    PLAY_ROWS(rows);
}

static void dane_takes_what_the_records_name_whatever_else_is_wrong_with_it(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {O, GOOD, RIGHT_RECORD, DNS_MTA_STS_NONE, true, TLS_RESULT_SUCCESS, NULL},
        {O, OTHER, RIGHT_RECORD, DNS_MTA_STS_NONE, true, TLS_RESULT_SUCCESS, NULL},
        {D, "stranger", RIGHT_RECORD, DNS_MTA_STS_NONE, true, TLS_RESULT_SUCCESS, NULL},
        {D, "expired", RIGHT_RECORD, DNS_MTA_STS_NONE, true, TLS_RESULT_SUCCESS, NULL},
        {O, GOOD, WRONG_RECORD, DNS_MTA_STS_NONE, false, TLS_RESULT_VALIDATION_FAILURE, NULL},
        {R, GOOD, WRONG_RECORD, DNS_MTA_STS_NONE, false, TLS_RESULT_VALIDATION_FAILURE, NULL},
        {V, GOOD, WRONG_RECORD, DNS_MTA_STS_ENFORCE, false, TLS_RESULT_VALIDATION_FAILURE, NULL},
        {D, GOOD, WRONG_RECORD, DNS_MTA_STS_NONE, false, TLS_RESULT_VALIDATION_FAILURE, NULL},
        {D, "stranger", UNUSABLE_RECORDS, DNS_MTA_STS_NONE, true, TLS_RESULT_TLSA_INVALID, NULL},
        {O, "stranger", UNUSABLE_RECORDS, DNS_MTA_STS_NONE, true, TLS_RESULT_TLSA_INVALID, NULL},
    };
    PLAY_ROWS(rows);
}

static void mta_sts_verifies_where_it_is_enforced_and_only_counts_in_testing(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {O, GOOD, NO_RECORDS, DNS_MTA_STS_ENFORCE, true, TLS_RESULT_SUCCESS, NULL},
        {O, OTHER, NO_RECORDS, DNS_MTA_STS_ENFORCE, false, TLS_RESULT_CERTIFICATE_HOST_MISMATCH,
         MISMATCH},
        {R, "stranger", NO_RECORDS, DNS_MTA_STS_ENFORCE, false, TLS_RESULT_CERTIFICATE_NOT_TRUSTED,
         ALONE},
        {O, "expired", NO_RECORDS, DNS_MTA_STS_ENFORCE, false, TLS_RESULT_CERTIFICATE_EXPIRED,
         LATE},
        {O, GOOD, NO_RECORDS, DNS_MTA_STS_TESTING, true, TLS_RESULT_SUCCESS, NULL},
        {O, OTHER, NO_RECORDS, DNS_MTA_STS_TESTING, true, TLS_RESULT_CERTIFICATE_HOST_MISMATCH,
         NULL},
        {O, "expired", NO_RECORDS, DNS_MTA_STS_TESTING, true, TLS_RESULT_CERTIFICATE_EXPIRED, NULL},
        {R, "stranger", NO_RECORDS, DNS_MTA_STS_TESTING, true, TLS_RESULT_CERTIFICATE_NOT_TRUSTED,
         NULL},
    };
    PLAY_ROWS(rows);
}

static void a_host_that_must_not_be_used_is_not_even_connected_to(void **state)
{
    (void)state;
    relay_open_for(GOOD, NO_ANSWER, DNS_MTA_STS_NONE);
    const struct relay_hop hop = hop_of();
    assert_false(outbound_tls_choose(&tls, &relay, route_at(CONF_LEVEL_OPPORTUNISTIC), &hop));
    assert_string_equal(tls.policy.why, "the host's TLSA records cannot be looked up");
    assert_int_equal(relay.tls_report->totals[TLS_RESULT_DNSSEC_INVALID], 1);
    assert_true(outbound_tls_choose(&tls, &relay, route_at(CONF_LEVEL_NONE), &hop));
    relay_close_after();
}

static void only_opportunistic_mail_falls_back_and_only_it_remembers(void **state)
{
    static const enum conf_tls_level levels[] = {CONF_LEVEL_OPPORTUNISTIC, CONF_LEVEL_REQUIRED,
                                                 CONF_LEVEL_VERIFIED};
    (void)state;
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        relay_open_for(GOOD, NO_RECORDS, DNS_MTA_STS_NONE);
        const struct conf_route *route = route_at(levels[i]);
        const struct relay_hop hop = hop_of();
        bool may = levels[i] == CONF_LEVEL_OPPORTUNISTIC;
        assert_true(outbound_tls_choose(&tls, &relay, route, &hop));
        assert_false(outbound_tls_falls_back(&tls, &relay, &hop)); /* nothing has failed */
        outbound_tls_failed(&tls, &relay, route, &hop, NULL, "wrong version number");
        assert_string_equal(tls.problem, "Cannot start TLS: wrong version number");
        assert_int_equal(outbound_tls_falls_back(&tls, &relay, &hop), may);
        assert_int_equal(outbound_tls_wish(&tls),
                         may ? SMTP_CLIENT_TLS_NEVER : SMTP_CLIENT_TLS_REQUIRED);
        assert_true(outbound_tls_choose(&tls, &relay, route_at(CONF_LEVEL_OPPORTUNISTIC), &hop));
        assert_int_equal(outbound_tls_wish(&tls),
                         may ? SMTP_CLIENT_TLS_NEVER : SMTP_CLIENT_TLS_IF_OFFERED);
        assert_true(outbound_tls_choose(&tls, &relay, route_at(CONF_LEVEL_REQUIRED), &hop));
        assert_int_equal(outbound_tls_wish(&tls), SMTP_CLIENT_TLS_REQUIRED);
        shard.now_ns += TLS_CLEAR_NS;
        assert_true(outbound_tls_choose(&tls, &relay, route_at(CONF_LEVEL_OPPORTUNISTIC), &hop));
        assert_int_equal(outbound_tls_wish(&tls), SMTP_CLIENT_TLS_IF_OFFERED);
        relay_close_after();
    }
}

static void what_a_reload_says_before_the_handshake_holds(void **state)
{
    static const struct {
        int level;
        const char *name;
        bool starts, secured;
    } rows[] = {
        {V, GOOD, true, true}, {V, OTHER, true, false}, {CONF_LEVEL_NONE, GOOD, false, false}};
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        relay_open_for(GOOD, NO_RECORDS, DNS_MTA_STS_NONE);
        const struct connect_request request = {.to = {.family = ENDPOINT_UNIX}};
        const char *before = "gone.example", *after = rows[i].name;
        const struct relay_hop hop = {.to = {.family = ENDPOINT_IPV4, .port = 25}};
        struct conf_route *route = calloc(1, sizeof(*route)), *later = calloc(1, sizeof(*later));
        struct stream *stream;
        check(route != NULL && later != NULL);
        *route = (struct conf_route){.match = "example",
                                     .tls = {.level = V, .names = &before, .names_count = 1}};
        *later = (struct conf_route){
            .match = "example",
            .tls = {.level = (uint8_t)rows[i].level, .names = &after, .names_count = 1}};
        assert_true(outbound_tls_choose(&tls, &relay, route, &hop));
        free(route);
        assert_int_equal(rig.network->ops->connect(rig.network, &request, &stream), 0);
        stream->notify = notified;
        rig.network->ops->poll(rig.network, 0);
        outbound_tls_start(&tls, &relay, later, &hop, &stream);
        assert_int_equal(stream != NULL, rows[i].starts);
        if (stream != NULL) {
            events = 0;
            stream->notify = notified;
            tls_rig_run(&rig);
            assert_int_equal((events & STREAM_CLOSED) == 0, rows[i].secured);
            stream_release(stream);
        } else {
            assert_string_equal(tls.problem, "Cannot start TLS: the route has changed");
        }
        free(later);
        relay_close_after();
    }
}

static bool resumed(int level)
{
    struct stream_facts facts;
    struct stream *stream = shake_hands((enum conf_tls_level)level);
    assert_int_equal(tls.secrecy, OUTBOUND_SECURED);
    stream_facts(stream, &facts);
    bool was = facts.tls->resumed;
    stream_release(stream);
    tls_rig_run(&rig);
    return was;
}

static void a_session_is_resumed_where_the_same_was_demanded(void **state)
{
    (void)state;
    relay_open_for(GOOD, NO_RECORDS, DNS_MTA_STS_NONE);
    assert_false(resumed(O));
    assert_true(resumed(O));
    assert_false(resumed(V)); /* nobody has looked at its certificate */
    assert_true(resumed(V));
    relay_tls.generation++; /* other authorities, perhaps */
    assert_false(resumed(V));
    assert_true(resumed(V));
    host.tlsa = DESTINATION_TLSA_USABLE;
    host.tlsa_count = 1;
    assert_false(resumed(O));
    assert_true(resumed(O));
    digest[0] ^= 1; /* other records: this host would not be taken for right any more */
    struct stream *stream = shake_hands(CONF_LEVEL_OPPORTUNISTIC);
    assert_int_equal(tls.secrecy, OUTBOUND_NO_HANDSHAKE);
    stream_release(stream);
    relay_close_after();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_take_what_is_good_enough_for_them),
        cmocka_unit_test(dane_takes_what_the_records_name_whatever_else_is_wrong_with_it),
        cmocka_unit_test(mta_sts_verifies_where_it_is_enforced_and_only_counts_in_testing),
        cmocka_unit_test(a_host_that_must_not_be_used_is_not_even_connected_to),
        cmocka_unit_test(only_opportunistic_mail_falls_back_and_only_it_remembers),
        cmocka_unit_test(what_a_reload_says_before_the_handshake_holds),
        cmocka_unit_test(a_session_is_resumed_where_the_same_was_demanded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
