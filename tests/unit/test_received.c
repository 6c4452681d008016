/* The trace line: what it says of TLS, and that a peer's text cannot break out of it. */
#include "proto/smtp/received.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static const char *format(const struct smtp_received *received)
{
    static char text[SMTP_RECEIVED_MAX + 1];
    size_t size = smtp_received_format(received, text);
    assert_true(size <= SMTP_RECEIVED_MAX);
    text[size] = '\0';
    return text;
}

static struct smtp_received base(void)
{
    return (struct smtp_received){.helo = slice_text("c.test"),
                                  .address = slice_text("192.0.2.1"),
                                  .hostname = slice_text("mx.test"),
                                  .protocol = "ESMTPS",
                                  .tls_version = "TLSv1.3",
                                  .tls_cipher = "TLS_X",
                                  .tls_bits = 256,
                                  .id = slice_text("1A")};
}

static void a_clients_certificate_is_named(void **state)
{
    (void)state;
    struct smtp_received received = base();
    assert_null(strstr(format(&received), "Client CN"));
    received.tls_client_shown = true;
    received.tls_client = slice_text("relay.example");
    assert_non_null(strstr(format(&received),
                           "\r\n\t(using TLSv1.3 with cipher TLS_X (256 bits))"
                           "\r\n\t(Client CN \"relay.example\" (not verified))\r\n\tby mx.test"));
    received.tls_client_verified = true;
    assert_non_null(strstr(format(&received), "(Client CN \"relay.example\" (verified OK))"));
}

static void a_name_in_a_certificate_cannot_end_the_line_or_the_comment(void **state)
{
    (void)state;
    struct smtp_received received = base();
    received.tls_client_shown = true;
    received.tls_client = slice_text("a\") (b\r\nX-Evil: 1\\");
    assert_non_null(strstr(format(&received), "(Client CN \"a????b??X-Evil:?1?\" (not verified))"));
}

static void the_longest_texts_fit(void **state)
{
    (void)state;
    static char large[1000];
    memset(large, 'x', sizeof(large));
    const struct slice text = slice_of(large, sizeof(large));
    struct smtp_received received = {.helo = text,
                                     .address = text,
                                     .ipv6 = true,
                                     .hostname = text,
                                     .protocol = "UTF8LMTPSA",
                                     .tls_version = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                                     .tls_cipher = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                                                   "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                                     .tls_bits = UINT32_MAX,
                                     .tls_client_shown = true,
                                     .tls_client = text,
                                     .id = text,
                                     .forward_path = text};
    assert_true(strlen(format(&received)) > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clients_certificate_is_named),
        cmocka_unit_test(a_name_in_a_certificate_cannot_end_the_line_or_the_comment),
        cmocka_unit_test(the_longest_texts_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
