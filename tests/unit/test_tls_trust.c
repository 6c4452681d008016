/* Who is trusted, which certificate is shown, what is resumed. */
#include "engine/core/check.h"
#include "engine/tls/tls_private.h"
#include "tests/unit/tls_rig.h"
#include <setjmp.h>
#include <stdio.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define ROOM 65536u

static struct tls_rig rig;

/* ---- Trust ---- */

static const char *const right_name[] = {"mx.example"};
static const char *const wrong_name[] = {"mail.example"};
static const char *const two_names[] = {"mail.example", "mx.example"};
static const char *const below_name[] = {"a.mx.example"};
static const char *const far_below_name[] = {"b.a.mx.example"};

static void a_certificate_counts_for_its_names_only(void **state)
{
    static const struct {
        const char *const *names;
        uint32_t count;
        bool right;
    } rows[] = {{right_name, 1, true},
                {wrong_name, 1, false},
                {two_names, 2, true},
                {below_name, 1, true},
                {far_below_name, 1, false}};
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct tls_peer peer = {
            .trust = TLS_VERIFIED, .names = rows[i].names, .name_count = rows[i].count};
        tls_rig_open(&rig, ROOM, NULL);
        struct tls_rig_end *client = tls_rig_connect(&rig, &peer);
        tls_rig_run(&rig);
        assert_int_equal(client->closed, !rows[i].right);
        assert_int_equal(tls_rig_facts(client)->verified, rows[i].right);
        if (!rows[i].right) {
            assert_int_equal(client->error, -EPROTO);
            assert_string_equal(tls_rig_facts(client)->problem, "certificate: hostname mismatch");
            assert_true(tls_rig_other(&rig)->closed); /* it was told by an alert */
            assert_int_equal(tls_rig_other(&rig)->error, -EPROTO);
            assert_int_equal(tls_counters(rig.tls)->connected, 0);
        }
        tls_rig_end_free(client);
        tls_rig_close(&rig);
    }
}

static void a_certificate_of_no_authority_is_for_anybody_only(void **state)
{
    static const char *const stranger[] = {"stranger"};
    const struct tls_peer verified = {.trust = TLS_VERIFIED, .names = stranger, .name_count = 1};
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    tls_rig_context(&rig, stranger, 1, TLS_CLIENT_NOT_ASKED);
    struct tls_rig_end *refusing = tls_rig_connect(&rig, &verified);
    tls_rig_run(&rig);
    assert_int_equal(refusing->error, -EPROTO);
    assert_string_equal(tls_rig_facts(refusing)->problem, "certificate: self-signed certificate");
    struct tls_rig_end *taking = tls_rig_connect(&rig, NULL);
    tls_rig_run(&rig);
    assert_false(taking->closed);
    assert_false(tls_rig_facts(taking)->verified);
    assert_string_equal(tls_rig_facts(taking)->problem, "certificate: self-signed certificate");
    tls_rig_end_free(refusing);
    tls_rig_end_free(taking);
    tls_rig_close(&rig);
}

static void dane_takes_what_the_records_say_and_nothing_else(void **state)
{
    static const char *const stranger[] = {"stranger"};
    static const char *const hosts[] = {"whatever.example"};
    uint8_t digest[32], wrong[32] = {1};
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    tls_rig_context(&rig, stranger, 1, TLS_CLIENT_NOT_ASKED);
    tls_rig_key_digest(&rig, "stranger", digest);
    const struct tls_association rows[] = {{3, 1, 1, slice_of(wrong, 32)},
                                           {3, 1, 1, slice_of(digest, 32)}};
    struct tls_peer peer = {.trust = TLS_DANE,
                            .names = hosts,
                            .name_count = 1,
                            .associations = rows,
                            .association_count = 2};
    struct tls_rig_end *right = tls_rig_connect(&rig, &peer);
    tls_rig_run(&rig);
    assert_false(right->closed);
    assert_true(tls_rig_facts(right)->verified);
    peer.association_count = 1;
    struct tls_rig_end *refused = tls_rig_connect(&rig, &peer);
    tls_rig_run(&rig);
    assert_int_equal(refused->error, -EPROTO);
    assert_int_equal(strncmp(tls_rig_facts(refused)->problem, "certificate: ", 13), 0);
    const struct tls_association nonsense = {3, 1, 1, slice_of(digest, 20)};
    peer.associations = &nonsense;
    assert_null(tls_rig_connect(&rig, &peer));
    tls_rig_end_free(right);
    tls_rig_end_free(refused);
    tls_rig_close(&rig);
}

static void the_name_that_is_asked_for_chooses_the_certificate(void **state)
{
    static const struct {
        const char *asked, *shown;
    } rows[] = {{NULL, "mx.example"},
                {"mx.example", "mx.example"},
                {"other.example", "other.example"},
                {"OTHER.Example", "other.example"},
                {"a.other.example", "other.example"},
                {"b.a.other.example", "mx.example"},
                {"unknown.example", "mx.example"},
                {"x", "mx.example"}};
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct tls_peer peer = {.server_name = rows[i].asked};
        tls_rig_open(&rig, ROOM, NULL);
        struct tls_rig_end *client = tls_rig_connect(&rig, &peer);
        tls_rig_run(&rig);
        assert_true(tls_rig_connected(&rig, client));
        assert_string_equal(tls_rig_facts(client)->peer_name, rows[i].shown);
        tls_rig_end_free(client);
        tls_rig_close(&rig);
    }
}

static struct tls_context *client_with(const char *name)
{
    const struct tls_pair pair = {tls_rig_file(&rig, name), tls_rig_file(&rig, name)};
    const struct tls_client_settings settings = {
        .rules = {.authorities = tls_rig_file(&rig, "authority")}, .pairs = &pair, .pair_count = 1};
    struct tls_context *context;
    char problem[TLS_PROBLEM_MAX];
    assert_int_equal(tls_context_client(&context, &settings, problem), 0);
    return context;
}

static void clients_are_known_by_their_certificates_where_these_are_asked_for(void **state)
{
    static const char *const names[] = {"mx.example"};
    static const struct {
        enum tls_client_certificate wanted;
        const char *shown; /* NULL: none */
        bool taken, verified;
    } rows[] = {
        {TLS_CLIENT_NOT_ASKED, "other.example", true, false},
        {TLS_CLIENT_ASKED, NULL, true, false},
        {TLS_CLIENT_ASKED, "other.example", true, true},
        {TLS_CLIENT_ASKED, "stranger", true, false},
        {TLS_CLIENT_REQUIRED, NULL, false, false},
        {TLS_CLIENT_REQUIRED, "other.example", true, true},
        {TLS_CLIENT_REQUIRED, "stranger", false, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        tls_rig_open(&rig, ROOM, NULL);
        tls_rig_context(&rig, names, 1, rows[i].wanted);
        struct tls_context *context = rows[i].shown == NULL ? NULL : client_with(rows[i].shown);
        const struct tls_peer peer = {.context = context};
        struct tls_rig_end *client = tls_rig_connect(&rig, &peer);
        tls_rig_run(&rig);
        assert_int_equal(tls_rig_other(&rig)->closed, !rows[i].taken);
        assert_int_equal(tls_rig_facts(tls_rig_other(&rig))->verified, rows[i].verified);
        if (rows[i].taken && rows[i].wanted != TLS_CLIENT_NOT_ASKED && rows[i].shown != NULL) {
            assert_string_equal(tls_rig_facts(tls_rig_other(&rig))->peer_name, rows[i].shown);
        }
        tls_rig_end_free(client);
        if (context != NULL) {
            tls_context_drop(context);
        }
        tls_rig_close(&rig);
    }
}

static void authorities_are_read_again_only_when_their_file_has_changed(void **state)
{
    struct tls_authorities *first, *second, *third;
    char problem[TLS_PROBLEM_MAX];
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    const char *file = tls_rig_file(&rig, "authority");
    const char *other = tls_rig_file(&rig, "stranger");
    assert_int_equal(tls_authorities_read(&first, file, NULL, problem), 0);
    assert_int_equal(tls_authorities_read(&second, file, first, problem), 0);
    assert_ptr_equal(first, second);
    assert_int_equal(tls_authorities_read(&third, other, first, problem), 0);
    assert_ptr_not_equal(first, third);
    tls_authorities_drop(second);
    tls_authorities_drop(third);
    FILE *longer = fopen(file, "a");
    assert_non_null(longer);
    assert_int_equal(fputs("\n", longer), 1);
    fclose(longer);
    assert_int_equal(tls_authorities_read(&second, file, first, problem), 0);
    assert_ptr_not_equal(first, second);
    tls_authorities_drop(first);
    tls_authorities_drop(second);
    assert_int_equal(tls_authorities_read(&first, "/nowhere/ca.pem", NULL, problem), -EINVAL);
    assert_non_null(strstr(problem, "authorities /nowhere/ca.pem: "));
    tls_rig_close(&rig);
}

/* ---- Resumption ---- */

static bool resumes(const char *key)
{
    const struct tls_peer peer = {.session_key = key};
    struct tls_rig_end *client = tls_rig_connect(&rig, &peer);
    tls_rig_run(&rig);
    assert_true(tls_rig_connected(&rig, client));
    bool resumed = tls_rig_facts(client)->resumed;
    assert_int_equal(tls_rig_facts(tls_rig_other(&rig))->resumed, resumed);
    tls_rig_end_free(client);
    tls_rig_run(&rig);
    return resumed;
}

static void a_session_is_resumed_by_its_key_only(void **state)
{
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    assert_false(resumes("mx.example:25"));
    assert_true(resumes("mx.example:25"));
    assert_true(resumes("mx.example:25")); /* by the ticket of the second */
    assert_false(resumes("other.example:25"));
    assert_false(resumes(NULL));
    assert_int_equal(tls_counters(rig.tls)->resumed, 4); /* two connections, both ends */
    tls_rig_close(&rig);
}

/* Opens connections with one key together; how many of them have resumed a session. */
static unsigned resume_together(unsigned count)
{
    const struct tls_peer peer = {.session_key = "mx.example:25"};
    struct tls_rig_end *clients[16];
    unsigned resumed = 0;
    for (unsigned i = 0; i < count; i++) {
        clients[i] = tls_rig_connect(&rig, &peer);
    }
    tls_rig_run(&rig);
    for (unsigned i = 0; i < count; i++) {
        resumed += tls_rig_facts(clients[i])->resumed;
        tls_rig_end_free(clients[i]);
    }
    tls_rig_run(&rig);
    return resumed;
}

static void connections_that_are_opened_together_resume_a_session_each(void **state)
{
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    assert_int_equal(resume_together(12), 0);
    assert_int_equal(resume_together(12), 12);
    assert_int_equal(resume_together(16), 12); /* as many as there were */
    assert_int_equal(resume_together(16), 16);
    for (unsigned i = 0; i < 100; i++) {
        tls_session_keep(rig.tls, "mx.example:25", SSL_SESSION_new());
    }
    assert_int_equal(rig.tls->session_count, TLS_SESSIONS_OF_KEY);
    tls_rig_close(&rig);
}

static void tickets_outlive_a_reload_but_not_their_secret_or_their_time(void **state)
{
    static const char *const names[] = {"mx.example"};
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    assert_false(resumes("a"));
    tls_rig_context(&rig, names, 1, TLS_CLIENT_NOT_ASKED);
    assert_true(resumes("a"));
    rig.wall_s += 100; /* the next keys; the last ones still open */
    assert_true(resumes("a"));
    rig.wall_s += 200;
    assert_false(resumes("a"));
    assert_true(resumes("a"));
    rig.secret[0] ^= 1;
    tls_rig_context(&rig, names, 1, TLS_CLIENT_NOT_ASKED);
    assert_false(resumes("a"));
    tls_rig_close(&rig);
}

static void a_session_outlives_a_connection_that_is_cut(void **state)
{
    const struct tls_peer peer = {.session_key = "a"};
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    struct tls_rig_end *client = tls_rig_connect(&rig, &peer);
    tls_rig_run(&rig);
    assert_true(tls_rig_connected(&rig, client));
    stream_abort(tls_rig_other(&rig)->stream); /* no close_notify: as many servers end after QUIT */
    tls_rig_run(&rig);
    assert_true(client->closed);
    tls_rig_end_free(client);
    tls_rig_run(&rig);
    assert_true(resumes("a"));
    tls_rig_close(&rig);
}

static void clients_are_looked_at_again_when_the_authorities_have_changed(void **state)
{
    static const char *const names[] = {"mx.example"};
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    tls_rig_context(&rig, names, 1, TLS_CLIENT_REQUIRED);
    struct tls_context *client = rig.client;
    rig.client = client_with("other.example");
    assert_false(resumes("a"));
    assert_true(resumes("a"));
    tls_rig_context(&rig, names, 1, TLS_CLIENT_REQUIRED);
    assert_true(resumes("a"));
    tls_rig_context(&rig, names, 1, TLS_CLIENT_ASKED);
    assert_false(resumes("a"));
    FILE *longer = fopen(tls_rig_file(&rig, "authority"), "a");
    assert_non_null(longer);
    assert_int_equal(fputs("\n", longer), 1);
    fclose(longer);
    tls_rig_context(&rig, names, 1, TLS_CLIENT_ASKED);
    assert_false(resumes("a"));
    assert_true(resumes("a"));
    tls_context_drop(rig.client);
    rig.client = client;
    tls_rig_close(&rig);
}

static void the_oldest_session_makes_room(void **state)
{
    const struct tls_settings settings = {.session_max = 2};
    (void)state;
    tls_rig_open(&rig, ROOM, &settings);
    assert_false(resumes("a"));
    assert_false(resumes("b"));
    assert_false(resumes("c"));
    assert_int_equal(rig.tls->session_count, 2);
    assert_false(resumes("a")); /* pushed out; and pushes out b */
    assert_true(resumes("c"));
    assert_false(resumes("b"));
    tls_rig_close(&rig);
}

static void tls_1_2_works_the_same(void **state)
{
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    SSL_CTX_set_max_proto_version(rig.client->identities[0], TLS1_2_VERSION);
    assert_false(resumes("a"));
    assert_true(resumes("a"));
    assert_true(resumes("a"));
    struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
    tls_rig_run(&rig);
    assert_string_equal(tls_rig_facts(client)->version, "TLSv1.2");
    assert_int_equal(stream_write(client->stream, slice_text("NOOP\r\n")), 0);
    tls_rig_run(&rig);
    assert_int_equal(tls_rig_other(&rig)->received_bytes, 6);
    tls_rig_end_free(client);
    tls_rig_close(&rig);
}

static void who_has_a_nul_in_his_name_has_none(void **state)
{
    static const char *const names[] = {"nul"};
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    tls_rig_context(&rig, names, 1, TLS_CLIENT_NOT_ASKED);
    struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
    tls_rig_run(&rig);
    assert_true(tls_rig_connected(&rig, client));
    assert_string_equal(tls_rig_facts(client)->peer_name, "");
    tls_rig_end_free(client);
    tls_rig_close(&rig);
}

/* RFC 9266, of both versions. */
static void both_ends_know_the_same_of_a_connection_that_is_no_other(void **state)
{
    (void)state;
    for (unsigned older = 0; older < 2; older++) {
        uint8_t before[32] = {0};
        tls_rig_open(&rig, ROOM, NULL);
        if (older) {
            SSL_CTX_set_max_proto_version(rig.client->identities[0], TLS1_2_VERSION);
        }
        for (unsigned i = 0; i < 2; i++) {
            struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
            assert_false(tls_rig_facts(client)->exporter_known);
            tls_rig_run(&rig);
            const struct tls_facts *here = tls_rig_facts(client),
                                   *there = tls_rig_facts(tls_rig_other(&rig));
            uint8_t one[TLS_EXPORTER_BYTES], other[TLS_EXPORTER_BYTES] = {0};
            assert_true(here->exporter_known && there->exporter_known);
            assert_true(here->exporter(here, one) && there->exporter(there, other));
            assert_memory_equal(one, other, 32);
            assert_true(here->exporter(here, other)); /* once more */
            assert_memory_equal(one, other, 32);
            assert_memory_not_equal(one, before, 32);
            memcpy(before, one, 32);
            tls_rig_end_free(client);
        }
        tls_rig_close(&rig);
    }
}

static void a_connection_of_1_2_whose_master_secret_may_be_anothers_has_no_binding(void **state)
{
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    SSL_CTX_set_max_proto_version(rig.client->identities[0], TLS1_2_VERSION);
    SSL_CTX_set_options(rig.client->identities[0], SSL_OP_NO_EXTENDED_MASTER_SECRET);
    struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
    tls_rig_run(&rig);
    assert_true(tls_rig_connected(&rig, client));
    assert_false(tls_rig_facts(tls_rig_other(&rig))->exporter_known);
    tls_rig_end_free(client);
    tls_rig_close(&rig);
}

static void older_versions_are_refused(void **state)
{
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    SSL_CTX_set_min_proto_version(rig.client->identities[0], TLS1_VERSION);
    SSL_CTX_set_max_proto_version(rig.client->identities[0], TLS1_1_VERSION);
    SSL_CTX_set_security_level(rig.client->identities[0], 0);
    struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
    tls_rig_run(&rig);
    assert_true(client->closed && tls_rig_other(&rig)->closed);
    assert_int_equal(tls_rig_other(&rig)->error, -EPROTO);
    assert_string_equal(tls_rig_facts(tls_rig_other(&rig))->problem, "unsupported protocol");
    tls_rig_end_free(client);
    tls_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_certificate_counts_for_its_names_only),
        cmocka_unit_test(a_certificate_of_no_authority_is_for_anybody_only),
        cmocka_unit_test(dane_takes_what_the_records_say_and_nothing_else),
        cmocka_unit_test(the_name_that_is_asked_for_chooses_the_certificate),
        cmocka_unit_test(clients_are_known_by_their_certificates_where_these_are_asked_for),
        cmocka_unit_test(authorities_are_read_again_only_when_their_file_has_changed),
        cmocka_unit_test(a_session_is_resumed_by_its_key_only),
        cmocka_unit_test(connections_that_are_opened_together_resume_a_session_each),
        cmocka_unit_test(tickets_outlive_a_reload_but_not_their_secret_or_their_time),
        cmocka_unit_test(a_session_outlives_a_connection_that_is_cut),
        cmocka_unit_test(clients_are_looked_at_again_when_the_authorities_have_changed),
        cmocka_unit_test(the_oldest_session_makes_room),
        cmocka_unit_test(tls_1_2_works_the_same),
        cmocka_unit_test(who_has_a_nul_in_his_name_has_none),
        cmocka_unit_test(both_ends_know_the_same_of_a_connection_that_is_no_other),
        cmocka_unit_test(a_connection_of_1_2_whose_master_secret_may_be_anothers_has_no_binding),
        cmocka_unit_test(older_versions_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
