/* The generator's SCRAM-SHA-256: the exchange of RFC 7677 §3, and servers that are not what they say. */
#include "bench/scram_client.h"
#include "engine/core/base64.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#define NONCE "rOprNGfwEbeRWgbNEkqO"
#define FIRST "r=" NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"

static void begin(struct scram_client *client)
{
    uint8_t nonce[SCRAM_CLIENT_NONCE_BYTES];
    assert_int_equal(base64_decode(slice_text(NONCE), nonce), sizeof(nonce));
    scram_client_begin(client, "user", nonce);
}

static void the_exchange_of_the_standard_comes_out(void **state)
{
    struct scram_client client;
    struct scram_client_keys keys = {.iterations = 0};
    char final[SCRAM_CLIENT_BYTES];
    (void)state;
    for (int i = 0; i < 2; i++) { /* by keys that are kept, too */
        begin(&client);
        assert_string_equal(client.first, "n,,n=user,r=" NONCE);
        size_t size = scram_client_answer(&client, &keys, "pencil", slice_text(FIRST), final);
        assert_true(slice_equal(slice_of(final, size),
                                slice_text("c=biws,r=" NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                                           "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")));
        assert_true(scram_client_proven(
            &client, slice_text("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")));
    }
    scram_client_keys_drop(&keys);
}

static void another_proof_is_none(void **state)
{
    struct scram_client client;
    struct scram_client_keys keys = {.iterations = 0};
    char final[SCRAM_CLIENT_BYTES];
    (void)state;
    begin(&client);
    assert_true(scram_client_answer(&client, &keys, "pencil", slice_text(FIRST), final) > 0);
    assert_false(
        scram_client_proven(&client, slice_text("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")));
    assert_false(scram_client_proven(&client, slice_text("v=6rri")));
    assert_false(scram_client_proven(&client, slice_text("e=invalid-proof")));
    scram_client_keys_drop(&keys);
}

static void what_is_no_first_message_is_not_answered(void **state)
{
    static const char *const wrong[] = {
        "",
        "r=" NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", /* nothing of the server's */
        "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "r=" NONCE "x,s=,i=4096",
        "r=" NONCE "x,s=W22ZaJ0SNY7soEsUEjb6gQ=,i=4096",
        "r=" NONCE "x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
        "r=" NONCE "x,s=W22ZaJ0SNY7soEsUEjb6gQ==",
        "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    };
    struct scram_client client;
    struct scram_client_keys keys = {.iterations = 0};
    char final[SCRAM_CLIENT_BYTES];
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        begin(&client);
        assert_int_equal(scram_client_answer(&client, &keys, "pencil", slice_text(wrong[i]), final),
                         0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_exchange_of_the_standard_comes_out),
        cmocka_unit_test(another_proof_is_none),
        cmocka_unit_test(what_is_no_first_message_is_not_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
