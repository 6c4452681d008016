/* Stored passwords: made by others, made by us, damaged, and too costly. */
#include "engine/auth/password.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

/* Made by OpenSSL, Python's hashlib, the authors of bcrypt and Argon2, and RFC 7677. */
static const struct {
    const char *stored, *password;
} others[] = {
    {"{PLAIN}secret", "secret"},
    {"{plain}", ""},
    {"{CLEARTEXT}se{c}ret", "se{c}ret"},
    {"{SSHA}QxWRhccNco81WkE5NvgyzxlVKSQBAgMEc2FsdA==", "secret"},
    {"{SSHA256}fJhWqXlqfephZiMt5qR2HTjaBss8L+3UZGjOs8ZK3AsBAgMEc2FsdA==", "secret"},
    {"{SSHA512}N85WkG8LIAiS6lMS2LFYMsqMJFuxP0SnWQ/"
     "GyrI7mufZv570iupVbCPNjpdcUWvsmkexD47e1Lm2J8HwEnZg4gECAwRzYWx0",
     "secret"},
    {"{SMD5}eypKDAO9w+W+bAT0pvS6EgECAwRzYWx0", "secret"},
    {"{SSHA256.hex}"
     "7c9856a9796a7dea6166232de6a4761d38da06cb3c2fedd46468ceb3c64adc0b0102030473616c74",
     "secret"},
    {"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "secret"},
    {"{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=", "secret"},
    {"{SHA512}vSsar3708Jvp9Szi2NWZZ02Bqp1qRCFpbcTZPdBhnWgs5WtNZKnvCXdhztmeD2cmW192CF5bDufKRpayrW/"
     "isg==",
     "secret"},
    {"{LDAP-MD5}Xr4ilOzQ4PCOq3aQ0qbuaQ==", "secret"},
    {"{PLAIN-MD5}5ebe2294ecd0e0f08eab7690d2a6ee69", "secret"},
    {"{SHA256.HEX}2BB80D537B1DA3E38BD30361AA855686BDE0EACD7162FEF6A25FE97BF527A25B", "secret"},
    {"{PLAIN.b64}c2VjcmV0", "secret"},
    {"{PLAIN.hex}736563726574", "secret"},
    {"{PBKDF2}$1$NaCl$500$776bc88829c37b53228996157a09a10c5455dc2b", "secret"},
    {"{SCRAM-SHA-1}4096,QSXCR+Q6sek8bf92,6dlGYMOdZcOPutkcNY8U2g7vK9Y=,D+CSWLOshSulAsxiupA+qs2/fTE=",
     "pencil"},
    {"{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
     "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
     "pencil"},
    {"{CRYPT}$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!"},
    {"{SHA512-CRYPT}$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/"
     "O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
     "Hello world!"},
    {"{BLF-CRYPT}$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},
    {"{ARGON2ID}$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$"
     "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
     "password"},
    {"{ARGON2I}$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$"
     "wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA",
     "password"},
};

static enum password_answer ask(const char *stored, const char *password)
{
    return password_verify(slice_text(stored), "PLAIN", slice_text(password));
}

static void passwords_that_others_have_stored_match_and_no_other_does(void **state)
{
    char wrong[64];
    (void)state;
    for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (ask(others[i].stored, others[i].password) != PASSWORD_MATCHES) {
            fail_msg("%s: %d", others[i].stored, ask(others[i].stored, others[i].password));
        }
        snprintf(wrong, sizeof(wrong), "%s ", others[i].password);
        assert_int_equal(ask(others[i].stored, wrong), PASSWORD_DIFFERS);
        assert_int_equal(ask(others[i].stored, "X"), PASSWORD_DIFFERS);
    }
}

/* Those that are too long for a line. */
static const char damaged_1[] = "{ARGON2ID}$argon2id$v=19$m=262145,t=2,p=1$c29tZXNhbHQ$"
                                "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
static const char damaged_2[] = "{ARGON2ID}$argon2id$v=19$m=65536,t=65,p=1$c29tZXNhbHQ$"
                                "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
static const char damaged_3[] =
    "{ARGON2ID}$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+"
    "YFY4NeBbtA";
static const char damaged_4[] =
    "{SCRAM-SHA-1}1000001,QSXCR+Q6sek8bf92,6dlGYMOdZcOPutkcNY8U2g7vK9Y=,D+CSWLOshSulAsxiupA+"
    "qs2/fTE=";
static const char damaged_5[] =
    "{SCRAM-SHA-256}4096,QSXCR+Q6sek8bf92,6dlGYMOdZcOPutkcNY8U2g7vK9Y=,D+CSWLOshSulAsxiupA+qs2/"
    "fTE=";

static void what_is_damaged_or_too_costly_is_unusable(void **state)
{
    static const char *const rows[] = {
        "{PLAIN",
        "{NEW}abc",
        "{}abc",
        "{SSHA}QxWR",
        "{SSHA}QxWRhccNco8!WkE5NvgyzxlVKSQBAgMEc2FsdA==",
        "{SHA}5en6G6MezRroT3XKqkdPOmY/BfR0",
        "{PLAIN-MD5}5ebe2294ecd0e0f08eab7690d2a6ee6",
        "{PLAIN.hex}7",
        "{CRYPT}",
        "{CRYPT}*",
        "{CRYPT}!",
        "{CRYPT}$9$what",
        "{CRYPT}$6$rounds=1000001$salt$abc",
        "{CRYPT}$2y$15$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        "{CRYPT}$y$jFT$LdJMENpBABJJ3hIHjB1Bi.$HboGM6qPrsK.StKYGt6KErmUYtioHreJd98oIugoNB6",
        "{CRYPT}$y$j9ZZ$LdJMENpBABJJ3hIHjB1Bi.$HboGM6qPrsK.StKYGt6KErmUYtioHreJd98oIugoNB6",
        damaged_1,
        damaged_2,
        damaged_3,
        "{SCRAM-SHA-1}0,QSXCR+Q6sek8bf92,6dlGYMOdZcOPutkcNY8U2g7vK9Y=,D+CSWLOshSulAsxiupA+qs2/fTE=",
        damaged_4,
        "{SCRAM-SHA-1}4096,QSXCR+Q6sek8bf92,6dlGYMOdZcOPutkcNY8U2g7vK9Y=",
        damaged_5,
        "{SCRAM-SHA-1}4096,,6dlGYMOdZcOPutkcNY8U2g7vK9Y=,D+CSWLOshSulAsxiupA+qs2/fTE=",
        "{PBKDF2}$1$NaCl$1000001$776bc88829c37b53228996157a09a10c5455dc2b",
        "{PBKDF2}$1$NaCl$500$776bc88829c37b53228996157a09a10c5455dc",
        "{PBKDF2}$1$NaCl",
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (ask(rows[i], "secret") != PASSWORD_UNUSABLE) {
            fail_msg("%s: %d", rows[i], ask(rows[i], "secret"));
        }
    }
    static char lengthy[PASSWORD_STORED_MAX + 2];
    memset(lengthy, 'a', PASSWORD_STORED_MAX + 1);
    assert_int_equal(ask(lengthy, "secret"), PASSWORD_UNUSABLE);
    assert_int_equal(ask("{PLAIN}a", lengthy), PASSWORD_DIFFERS);
}

static const uint8_t random_octets[16] = {0x4d, 0x13, 0xfe, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0xaa, 0xbb};
static const struct password_costs cheap = {.argon2_kib = 64, .argon2_passes = 1};

static void what_is_made_is_verified(void **state)
{
    static const char *const schemes[] = {"PLAIN",         "ARGON2ID", "SCRAM-SHA-1",
                                          "SCRAM-SHA-256", "SSHA512",  "SSHA256",
                                          "SHA512-CRYPT",  "CRYPT",    "BLF-CRYPT"};
    (void)state;
    for (unsigned i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        char stored[PASSWORD_STORED_MAX], other[PASSWORD_STORED_MAX];
        const uint8_t different[16] = {0x55};
        assert_int_equal(
            password_make(schemes[i], slice_text("p\xc3\xa4ss"), &cheap, random_octets, stored), 0);
        assert_int_equal(ask(stored, "p\xc3\xa4ss"), PASSWORD_MATCHES);
        assert_int_equal(ask(stored, "p\xc3\xa4sS"), PASSWORD_DIFFERS);
        assert_int_equal(
            password_make(schemes[i], slice_text("p\xc3\xa4ss"), &cheap, different, other), 0);
        assert_true(i == 0 || strcmp(stored, other) != 0); /* salted */
    }
}

static void what_would_be_unusable_is_not_made(void **state)
{
    char stored[PASSWORD_STORED_MAX];
    const struct slice password = slice_text("secret");
    (void)state;
    struct password_costs costs = {.argon2_kib = PASSWORD_ARGON2_KIB_MAX + 1,
                                   .scram_iterations = PASSWORD_ITERATIONS_MAX + 1,
                                   .crypt_cost = PASSWORD_BCRYPT_COST_MAX + 1};
    assert_int_equal(password_make("ARGON2ID", password, &costs, random_octets, stored), -EINVAL);
    assert_int_equal(password_make("SCRAM-SHA-1", password, &costs, random_octets, stored),
                     -EINVAL);
    assert_int_equal(password_make("BLF-CRYPT", password, &costs, random_octets, stored), -EINVAL);
    assert_int_equal(password_make("ROT13", password, &cheap, random_octets, stored), -EINVAL);
    assert_int_equal(password_make("PLAIN", slice_of("a\0b", 3), &cheap, random_octets, stored),
                     -EINVAL);
}

/* crypt(3) takes strings: behind a NUL anything would match. */
static void a_nul_in_a_password_ends_nothing(void **state)
{
    static const char *const stored[] = {
        "{CRYPT}$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "{PLAIN}Hello world!"};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(ask(stored[i], "Hello world!"), PASSWORD_MATCHES);
        assert_int_equal(
            password_verify(slice_text(stored[i]), "PLAIN", slice_of("Hello world!\0x", 14)),
            PASSWORD_DIFFERS);
    }
}

static void without_a_scheme_it_is_of_the_usual_one(void **state)
{
    const char *stored = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";
    (void)state;
    assert_int_equal(password_verify(slice_text(stored), "CRYPT", slice_text("Hello world!")),
                     PASSWORD_MATCHES);
    assert_int_equal(password_verify(slice_text(stored), "PLAIN", slice_text("Hello world!")),
                     PASSWORD_DIFFERS);
}

/* RFC 7677 §3. */
static void scram_has_its_keys_from_what_is_stored_or_from_the_password(void **state)
{
    const char *stored = "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,"
                         "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
                         "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    struct password_scram scram, made;
    (void)state;
    assert_true(password_scram_read(slice_text(stored), PASSWORD_SHA_256, &scram));
    assert_false(password_scram_read(slice_text(stored), PASSWORD_SHA_1, &made));
    assert_false(password_scram_read(slice_text("{PLAIN}pencil"), PASSWORD_SHA_256, &made));
    assert_int_equal(scram.iterations, 4096);
    assert_int_equal(scram.salt_bytes, 16);
    made = scram;
    memset(made.server_key, 0, sizeof(made.server_key));
    memset(made.stored_key, 0, sizeof(made.stored_key));
    assert_int_equal(password_scram_make(PASSWORD_SHA_256, slice_text("pencil"), &made), 0);
    assert_memory_equal(made.stored_key, scram.stored_key, 32);
    assert_memory_equal(made.server_key, scram.server_key, 32);
}

static void the_password_itself_is_had_only_where_it_is_stored(void **state)
{
    uint8_t plain[PASSWORD_STORED_MAX];
    size_t size;
    struct slice digits;
    (void)state;
    assert_true(password_plain(slice_text("{PLAIN.b64}c2VjcmV0"), "CRYPT", plain, &size));
    assert_true(slice_equal(slice_of(plain, size), slice_text("secret")));
    assert_true(password_plain(slice_text("secret"), "PLAIN", plain, &size));
    assert_false(password_plain(slice_text("secret"), "CRYPT", plain, &size));
    assert_false(
        password_plain(slice_text("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="), "PLAIN", plain, &size));
    assert_true(
        password_digest_md5(slice_text("{DIGEST-MD5}5ebe2294ecd0e0f08eab7690d2a6ee69"), &digits));
    assert_int_equal(digits.size, 32);
    assert_false(
        password_digest_md5(slice_text("{DIGEST-MD5}5ebe2294ecd0e0f08eab7690d2a6eeXX"), &digits));
    assert_false(
        password_digest_md5(slice_text("{PLAIN-MD5}5ebe2294ecd0e0f08eab7690d2a6ee69"), &digits));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passwords_that_others_have_stored_match_and_no_other_does),
        cmocka_unit_test(what_is_damaged_or_too_costly_is_unusable),
        cmocka_unit_test(what_is_made_is_verified),
        cmocka_unit_test(what_would_be_unusable_is_not_made),
        cmocka_unit_test(a_nul_in_a_password_ends_nothing),
        cmocka_unit_test(without_a_scheme_it_is_of_the_usual_one),
        cmocka_unit_test(scram_has_its_keys_from_what_is_stored_or_from_the_password),
        cmocka_unit_test(the_password_itself_is_had_only_where_it_is_stored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
