/* TLS as a stream over a stream, both ends in one process. */
#include "engine/core/check.h"
#include "engine/tls/tls_private.h"
#include "tests/unit/tls_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define ROOM 65536u
#define MEBIBYTE (1024u * 1024u)

static struct tls_rig rig;

/* ---- Bytes ---- */

static void both_ends_are_told_when_the_handshake_is_done(void **state)
{
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
    assert_null(tls_rig_facts(client)->version);
    tls_rig_run(&rig);
    assert_true(tls_rig_connected(&rig, client));
    assert_string_equal(tls_rig_facts(client)->version, "TLSv1.3");
    assert_string_equal(tls_rig_facts(tls_rig_other(&rig))->version, "TLSv1.3");
    assert_true(tls_rig_facts(client)->cipher_bits >= 128);
    assert_string_equal(tls_rig_facts(client)->peer_name, "mx.example");
    assert_false(tls_rig_facts(client)->verified); /* nobody asked for it */
    assert_int_equal(tls_counters(rig.tls)->accepted, 1);
    assert_int_equal(tls_counters(rig.tls)->connected, 1);
    tls_rig_end_free(client);
    tls_rig_close(&rig);
}

static void what_is_written_before_the_handshake_is_sent_after_it(void **state)
{
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
    assert_int_equal(stream_write(client->stream, slice_text("EHLO ")), 0);
    assert_int_equal(stream_write(client->stream, slice_text("client.example\r\n")), 0);
    assert_int_equal(stream_queued(client->stream), 21);
    tls_rig_run(&rig);
    assert_int_equal(tls_rig_other(&rig)->received_bytes, 21);
    assert_memory_equal(tls_rig_other(&rig)->received, "EHLO client.example\r\n", 21);
    assert_int_equal(stream_queued(client->stream), 0);
    assert_int_equal(tls_counters(rig.tls)->records_out, 1); /* small ones are put together */
    tls_rig_end_free(client);
    tls_rig_close(&rig);
}

struct counted {
    struct ref ref;
    bool over;
};

static void counted_over(struct ref *ref)
{
    ((struct counted *)(void *)ref)->over = true;
}

static uint32_t draw(uint32_t *state, uint32_t below)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % below;
}

/* Both directions at once, by copies and by references of all sizes, through a stream that takes little. */
static void every_byte_arrives_in_its_place(void **state)
{
    uint8_t *text = malloc(MEBIBYTE);
    (void)state;
    for (uint32_t i = 0; i < MEBIBYTE; i++) {
        text[i] = (uint8_t)(i * 2654435761u >> 13);
    }
    for (uint32_t seed = 1; seed <= 12; seed++) {
        uint32_t random = seed;
        size_t sent[2] = {0, 0};
        struct counted memory = {.over = false};
        ref_init(&memory.ref, counted_over);
        tls_rig_open(&rig, STREAM_WRITE_MAX + draw(&random, 20000), NULL);
        struct tls_rig_end *ends[2] = {tls_rig_connect(&rig, NULL), NULL};
        ends[1] = tls_rig_other(&rig);
        while (ends[0]->received_bytes < MEBIBYTE || ends[1]->received_bytes < MEBIBYTE) {
            for (unsigned side = 0; side < 2; side++) {
                bool refers = draw(&random, 2) == 0;
                size_t left = MEBIBYTE - sent[side];
                uint32_t most = draw(&random, 3) == 0 ? 100u : refers ? 100000u : STREAM_WRITE_MAX;
                size_t size = 1 + draw(&random, most);
                struct slice bytes = slice_of(text + sent[side], size < left ? size : left);
                int status = refers ? stream_write_ref(ends[side]->stream, bytes, &memory.ref)
                                    : stream_write(ends[side]->stream, bytes);
                assert_true(status == 0 || status == -EAGAIN);
                sent[side] += status == 0 ? bytes.size : 0;
            }
            tls_rig_round(&rig);
        }
        for (unsigned side = 0; side < 2; side++) {
            assert_int_equal(ends[side]->received_bytes, MEBIBYTE);
            assert_memory_equal(ends[side]->received, text, MEBIBYTE);
        }
        assert_int_equal(memory.ref.count, 1); /* every other reference was given back */
        tls_rig_end_free(ends[0]);
        tls_rig_close(&rig);
        ref_drop(&memory.ref);
        assert_true(memory.over);
    }
    free(text);
}

static void who_writes_too_much_waits_and_is_told(void **state)
{
    static uint8_t text[STREAM_WRITE_MAX];
    int status = 0;
    unsigned count = 0;
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
    tls_rig_run(&rig);
    tls_rig_other(&rig)->holds = true;
    while ((status = stream_write(client->stream, slice_of(text, sizeof(text)))) == 0) {
        assert_true(++count < 100);
    }
    assert_int_equal(status, -EAGAIN);
    assert_int_equal(stream_write(client->stream, slice_of(text, STREAM_WRITE_MAX + 1)), -EMSGSIZE);
    tls_rig_run(&rig);
    assert_int_equal(client->events & STREAM_WRITABLE, 0);
    tls_rig_other(&rig)->holds = false;
    stream_read_start(tls_rig_other(&rig)->stream);
    tls_rig_other(&rig)->stream->notify(tls_rig_other(&rig)->stream, STREAM_READABLE,
                                        tls_rig_other(&rig));
    tls_rig_run(&rig);
    assert_true((client->events & STREAM_WRITABLE) != 0);
    assert_true((client->events & STREAM_DRAINED) != 0);
    assert_int_equal(tls_rig_other(&rig)->received_bytes, count * sizeof(text));
    tls_rig_end_free(client);
    tls_rig_close(&rig);
}

static void a_large_message_leaves_the_shard_to_others_after_each_turn(void **state)
{
    const struct tls_settings settings = {.records_a_turn = 3};
    uint8_t *text = calloc(1, 4 * MEBIBYTE);
    struct counted memory = {.over = false};
    (void)state;
    ref_init(&memory.ref, counted_over);
    tls_rig_open(&rig, 16 * MEBIBYTE, &settings);
    struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
    tls_rig_run(&rig);
    uint64_t before = tls_counters(rig.tls)->records_out;
    assert_int_equal(stream_write_ref(client->stream, slice_of(text, 4 * MEBIBYTE), &memory.ref),
                     0);
    assert_int_equal(tls_counters(rig.tls)->records_out - before, 3);
    for (unsigned round = 2; round < 10; round++) {
        tls_rig_round(&rig);
        assert_int_equal(tls_counters(rig.tls)->records_out - before, 3 * round);
    }
    tls_rig_run(&rig);
    assert_int_equal(tls_rig_other(&rig)->received_bytes, 4 * MEBIBYTE);
    assert_int_equal(memory.ref.count, 1);
    free(text);
    tls_rig_end_free(client);
    tls_rig_close(&rig);
}

static void who_does_not_read_is_not_read_for(void **state)
{
    static uint8_t text[STREAM_WRITE_MAX];
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
    tls_rig_run(&rig);
    stream_read_stop(tls_rig_other(&rig)->stream);
    tls_rig_other(&rig)->events = 0;
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(stream_write(client->stream, slice_of(text, sizeof(text))), 0);
    }
    tls_rig_run(&rig);
    assert_int_equal(tls_rig_other(&rig)->events & STREAM_READABLE, 0);
    assert_true(stream_queued(client->stream) > 0);
    stream_read_start(tls_rig_other(&rig)->stream);
    tls_rig_run(&rig);
    assert_int_equal(tls_rig_other(&rig)->received_bytes, 8 * sizeof(text));
    tls_rig_end_free(client);
    tls_rig_close(&rig);
}

static void an_idle_connection_holds_no_buffer(void **state)
{
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
    assert_int_equal(stream_write(client->stream, slice_text("NOOP\r\n")), 0);
    tls_rig_run(&rig);
    for (struct list_node *node = rig.tls->streams.next; node != &rig.tls->streams;
         node = node->next) {
        const struct tls_stream *stream = list_entry(node, struct tls_stream, node);
        assert_null(stream->plain);
        assert_null(stream->sealed);
        assert_null(stream->first);
    }
    tls_rig_end_free(client);
    tls_rig_close(&rig);
}

/* ---- Ends ---- */

static void a_half_close_is_told_and_the_other_half_goes_on(void **state)
{
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
    tls_rig_run(&rig);
    assert_int_equal(stream_write(client->stream, slice_text("QUIT\r\n")), 0);
    stream_shut(client->stream);
    assert_int_equal(stream_write(client->stream, slice_text("more")), -EPIPE);
    tls_rig_run(&rig);
    assert_true((tls_rig_other(&rig)->events & STREAM_HALF_CLOSED) != 0);
    assert_false(tls_rig_other(&rig)->closed);
    assert_int_equal(stream_write(tls_rig_other(&rig)->stream, slice_text("221 bye\r\n")), 0);
    stream_shut(tls_rig_other(&rig)->stream);
    tls_rig_run(&rig);
    assert_int_equal(client->received_bytes, 9);
    assert_true(client->closed && tls_rig_other(&rig)->closed);
    assert_int_equal(client->error, 0);
    assert_int_equal(tls_rig_other(&rig)->error, 0);
    tls_rig_end_free(client);
    tls_rig_close(&rig);
}

static void a_connection_that_is_cut_is_not_taken_for_one_that_has_ended(void **state)
{
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
    tls_rig_run(&rig);
    assert_int_equal(stream_write(client->stream, slice_text("DATA\r\nhalf a mess")), 0);
    struct tls_stream *inside = (struct tls_stream *)(void *)client->stream;
    stream_shut(inside->below); /* somebody between them ends it in the middle */
    tls_rig_run(&rig);
    assert_true(tls_rig_other(&rig)->closed);
    assert_int_equal(tls_rig_other(&rig)->error, -ECONNRESET);
    assert_int_equal(tls_rig_other(&rig)->events & STREAM_HALF_CLOSED, 0);
    assert_int_equal(tls_counters(rig.tls)->truncated, 1);
    tls_rig_end_free(client);
    tls_rig_close(&rig);
}

static void no_handshake_is_waited_for_when_the_end_was_heard_before_it(void **state)
{
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    rig.in_the_clear = true;
    struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
    struct tls_stream *inside = (struct tls_stream *)(void *)client->stream;
    stream_shut(inside->below); /* STARTTLS and FIN at once */
    tls_rig_run(&rig);
    struct tls_rig_end *server = tls_rig_accept(&rig);
    tls_half_closed(server->stream);
    tls_rig_run(&rig);
    assert_true(server->closed);
    assert_int_equal(server->error, -ECONNRESET);
    tls_rig_end_free(client);
    tls_rig_close(&rig);
}

static void who_has_said_goodbye_needs_no_answer_to_it(void **state)
{
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
    tls_rig_run(&rig);
    stream_shut(tls_rig_other(&rig)->stream);
    tls_rig_run(&rig);
    struct tls_stream *inside = (struct tls_stream *)(void *)client->stream;
    stream_shut(inside->below); /* without close_notify, as many clients do */
    tls_rig_run(&rig);
    assert_true(tls_rig_other(&rig)->closed);
    assert_int_equal(tls_rig_other(&rig)->error, 0);
    assert_int_equal(tls_counters(rig.tls)->truncated, 0);
    tls_rig_end_free(client);
    tls_rig_close(&rig);
}

static void what_was_written_is_sent_after_release(void **state)
{
    uint8_t *text = calloc(1, MEBIBYTE);
    struct counted memory = {.over = false};
    (void)state;
    ref_init(&memory.ref, counted_over);
    tls_rig_open(&rig, ROOM, NULL);
    struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
    tls_rig_run(&rig);
    assert_int_equal(stream_write_ref(client->stream, slice_of(text, MEBIBYTE), &memory.ref), 0);
    tls_rig_end_free(client);
    tls_rig_run(&rig);
    assert_int_equal(tls_rig_other(&rig)->received_bytes, MEBIBYTE);
    assert_true((tls_rig_other(&rig)->events & STREAM_HALF_CLOSED) != 0);
    assert_int_equal(memory.ref.count, 1);
    free(text);
    tls_rig_close(&rig);
}

static void a_released_stream_that_gets_nowhere_is_cut(void **state)
{
    const struct tls_settings settings = {.linger_ns = 5000000000ull};
    uint8_t *text = calloc(1, MEBIBYTE);
    struct counted memory = {.over = false};
    (void)state;
    ref_init(&memory.ref, counted_over);
    tls_rig_open(&rig, ROOM, &settings);
    struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
    tls_rig_run(&rig);
    tls_rig_other(&rig)->holds = true;
    assert_int_equal(stream_write_ref(client->stream, slice_of(text, MEBIBYTE), &memory.ref), 0);
    tls_rig_end_free(client);
    tls_rig_run(&rig);
    wheel_run(rig.wheel, 4900000000ull);
    assert_int_equal(tls_counters(rig.tls)->streams, 2);
    wheel_run(rig.wheel, 5100000000ull);
    assert_int_equal(tls_counters(rig.tls)->streams, 1);
    assert_int_equal(memory.ref.count, 1);
    tls_rig_other(&rig)->holds = false;
    tls_rig_run(&rig);
    free(text);
    tls_rig_close(&rig);
}

static void an_abort_ends_both(void **state)
{
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
    tls_rig_run(&rig);
    stream_abort(client->stream);
    tls_rig_run(&rig);
    assert_true(client->closed && tls_rig_other(&rig)->closed);
    assert_int_equal(client->error, -ECONNABORTED);
    assert_int_equal(tls_rig_other(&rig)->error, -ECONNRESET);
    assert_int_equal(stream_write(client->stream, slice_text("x")), -EPIPE);
    tls_rig_end_free(client);
    tls_rig_close(&rig);
}

static void released_in_the_middle_of_a_handshake_it_is_gone(void **state)
{
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    struct tls_rig_end *client = tls_rig_connect(&rig, NULL);
    tls_rig_round(&rig);
    tls_rig_end_free(client);
    tls_rig_run(&rig);
    assert_true(tls_rig_other(&rig)->closed);
    assert_true(tls_rig_other(&rig)->error < 0);
    tls_rig_close(&rig);
}

static void silent(struct stream *stream, uint32_t events, void *session)
{
    (void)stream;
    (void)events;
    (void)session;
}

static void what_is_no_tls_is_refused(void **state)
{
    static const char *const texts[] = {"EHLO client.example\r\n", "GET / HTTP/1.1\r\n\r\n",
                                        "\x16\x03\x01\xff\xff\x01\x01"};
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const struct connect_request request = {.to = {.family = ENDPOINT_UNIX}};
        struct stream *plain;
        tls_rig_open(&rig, ROOM, NULL);
        assert_int_equal(rig.network->ops->connect(rig.network, &request, &plain), 0);
        plain->notify = silent;
        rig.network->ops->poll(rig.network, 0);
        assert_int_equal(stream_write(plain, slice_text(texts[i])), 0);
        tls_rig_run(&rig);
        assert_int_equal(tls_rig_other(&rig)->error, -EPROTO);
        assert_string_not_equal(tls_rig_facts(tls_rig_other(&rig))->problem, "");
        assert_int_equal(tls_rig_other(&rig)->received_bytes, 0);
        assert_int_equal(tls_counters(rig.tls)->failed, 1);
        stream_release(plain);
        tls_rig_close(&rig);
    }
}

/* ---- Many at once ---- */

static void a_flood_of_handshakes_leaves_turns_to_mail(void **state)
{
    const struct tls_settings settings = {.handshakes_a_round = 2};
    struct tls_rig_end *clients[20];
    (void)state;
    tls_rig_open(&rig, ROOM, &settings);
    struct tls_rig_end *mail = tls_rig_connect(&rig, NULL);
    tls_rig_run(&rig);
    struct tls_rig_end *server = tls_rig_other(&rig);
    for (unsigned i = 0; i < 20; i++) {
        clients[i] = tls_rig_connect(&rig, NULL);
    }
    uint64_t done = tls_counters(rig.tls)->accepted;
    for (unsigned round = 0; round < 30; round++) {
        size_t before = server->received_bytes;
        assert_int_equal(stream_write(mail->stream, slice_text("mail")), 0);
        tls_rig_round(&rig);
        tls_rig_round(&rig);
        assert_true(server->received_bytes >= before + 4); /* in spite of those that wait */
        assert_true(tls_counters(rig.tls)->accepted - done <= 4);
        done = tls_counters(rig.tls)->accepted;
    }
    assert_true(tls_counters(rig.tls)->turns_put_off > 0);
    tls_rig_run(&rig);
    assert_int_equal(tls_counters(rig.tls)->accepted, 21);
    for (unsigned i = 0; i < 20; i++) {
        tls_rig_end_free(clients[i]);
    }
    tls_rig_end_free(mail);
    tls_rig_close(&rig);
}

/* ---- What an operator may get wrong ---- */

/* As a server's rules and a client's have it; NULL: none of theirs. */
static const char *cipher_of(const char *of_server, const char *of_client)
{
    static char cipher[64];
    char problem[TLS_PROBLEM_MAX];
    const struct tls_pair pair = {tls_rig_file(&rig, "mx.example"),
                                  tls_rig_file(&rig, "mx.example")};
    const struct tls_identity identity = {.pairs = &pair, .pair_count = 1};
    const struct tls_server_settings server = {
        .rules = {.suites = of_server}, .identities = &identity, .identity_count = 1};
    const struct tls_client_settings client = {.rules = {.suites = of_client}};
    struct tls_context *made;
    tls_context_drop(rig.server);
    assert_int_equal(tls_context_server(&rig.server, &server, problem), 0);
    assert_int_equal(tls_context_client(&made, &client, problem), 0);
    const struct tls_peer peer = {.context = made, .trust = TLS_ANYBODY};
    struct tls_rig_end *end = tls_rig_connect(&rig, &peer);
    tls_rig_run(&rig);
    assert_true(tls_rig_connected(&rig, end));
    snprintf(cipher, sizeof(cipher), "%s", tls_rig_facts(end)->cipher);
    tls_rig_end_free(end);
    tls_context_drop(made);
    return cipher;
}

static void a_server_takes_the_suite_that_costs_least_unless_it_is_told_another(void **state)
{
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    assert_string_equal(cipher_of(NULL, NULL), "TLS_AES_128_GCM_SHA256");
    assert_string_equal(cipher_of(NULL, "TLS_AES_256_GCM_SHA384"), "TLS_AES_256_GCM_SHA384");
    assert_string_equal(cipher_of(NULL, "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"),
                        "TLS_CHACHA20_POLY1305_SHA256"); /* a client without AES in its processor */
    assert_string_equal(cipher_of("TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256", NULL),
                        "TLS_AES_256_GCM_SHA384");
    assert_string_equal(cipher_of("TLS_CHACHA20_POLY1305_SHA256", NULL),
                        "TLS_CHACHA20_POLY1305_SHA256");
    tls_rig_close(&rig);
}

static void a_mistake_in_a_file_is_told_with_its_name(void **state)
{
    char problem[TLS_PROBLEM_MAX];
    struct tls_context *context;
    (void)state;
    tls_rig_open(&rig, ROOM, NULL);
    const struct tls_pair missing = {"/nowhere/at.pem", "/nowhere/at.pem"};
    const struct tls_pair crossed = {tls_rig_file(&rig, "mx.example"),
                                     tls_rig_file(&rig, "other.example")};
    struct tls_identity identity = {.pairs = &missing, .pair_count = 1};
    struct tls_server_settings settings = {.identities = &identity, .identity_count = 1};
    assert_int_equal(tls_context_server(&context, &settings, problem), -EINVAL);
    assert_non_null(strstr(problem, "certificate /nowhere/at.pem: No such file or directory"));
    identity.pairs = &crossed;
    assert_int_equal(tls_context_server(&context, &settings, problem), -EINVAL);
    assert_non_null(strstr(problem, "other.example.pem"));
    settings.rules.ciphers = "NO-SUCH-CIPHER";
    assert_int_equal(tls_context_server(&context, &settings, problem), -EINVAL);
    assert_non_null(strstr(problem, "ciphers NO-SUCH-CIPHER: "));
    const struct tls_client_settings client = {.rules = {.authorities = "/nowhere/ca.pem"}};
    assert_int_equal(tls_context_client(&context, &client, problem), -EINVAL);
    assert_non_null(strstr(problem, "authorities /nowhere/ca.pem"));
    tls_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ends_are_told_when_the_handshake_is_done),
        cmocka_unit_test(what_is_written_before_the_handshake_is_sent_after_it),
        cmocka_unit_test(every_byte_arrives_in_its_place),
        cmocka_unit_test(who_writes_too_much_waits_and_is_told),
        cmocka_unit_test(a_large_message_leaves_the_shard_to_others_after_each_turn),
        cmocka_unit_test(who_does_not_read_is_not_read_for),
        cmocka_unit_test(an_idle_connection_holds_no_buffer),
        cmocka_unit_test(a_half_close_is_told_and_the_other_half_goes_on),
        cmocka_unit_test(a_connection_that_is_cut_is_not_taken_for_one_that_has_ended),
        cmocka_unit_test(no_handshake_is_waited_for_when_the_end_was_heard_before_it),
        cmocka_unit_test(who_has_said_goodbye_needs_no_answer_to_it),
        cmocka_unit_test(what_was_written_is_sent_after_release),
        cmocka_unit_test(a_released_stream_that_gets_nowhere_is_cut),
        cmocka_unit_test(an_abort_ends_both),
        cmocka_unit_test(released_in_the_middle_of_a_handshake_it_is_gone),
        cmocka_unit_test(what_is_no_tls_is_refused),
        cmocka_unit_test(a_flood_of_handshakes_leaves_turns_to_mail),
        cmocka_unit_test(a_server_takes_the_suite_that_costs_least_unless_it_is_told_another),
        cmocka_unit_test(a_mistake_in_a_file_is_told_with_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
