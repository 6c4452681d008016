#include "bench/histogram.h"
#include "bench/letter.h"
#include "bench/scan.h"
#include "bench/tally.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct gathered {
    uint8_t bytes[16384];
    size_t size;
};

static void gather(void *owner, struct slice content)
{
    struct gathered *to = owner;
    assert_true(to->size + content.size <= sizeof(to->bytes));
    memcpy(to->bytes + to->size, content.bytes, content.size);
    to->size += content.size;
}

/* Feeds `input` in two pieces cut at `cut`; returns how much of it was taken when the end came, 0:
 * no end. */
static size_t scan_in_two(struct slice input, size_t cut, struct gathered *to, uint64_t *bare)
{
    struct scan scan;
    bool ended;
    to->size = 0;
    scan_begin(&scan, gather, to);
    size_t used = scan_take(&scan, slice_first(input, cut), &ended);
    if (!ended && cut < input.size) {
        used += scan_take(&scan, slice_from(input, used), &ended);
    }
    *bare = scan.bare_lf_count;
    return ended ? used : 0;
}

static void message_ends_with_crlf_dot_crlf_and_nothing_else(void **state)
{
    (void)state;
    static const struct {
        const char *wire, *content;
        size_t end; /* bytes taken with the end; 0: no end in it */
        unsigned bare;
    } rows[] = {
        {"a\r\n.\r\nMAIL", "a\r\n", 6, 0},
        {".\r\n", "", 3, 0},
        {"..\r\n.\r\n", ".\r\n", 7, 0},
        {".a\r\n..b\r\n.\r\n", "a\r\n.b\r\n", 12, 0},
        {"a\n.\n", "a\n.\n", 0, 2},
        {"a\n.\r\n", "a\n.\r\n", 0, 1},
        {"a\r\n.\n", "a\r\n\n", 0, 1},
        {"a\r\n.\r", "a\r\n", 0, 0}, /* a CR held back */
        {"a\r\n.\rb\r\n.\r\n", "a\r\n\rb\r\n", 11, 0},
        {"a\r.\r\n", "a\r.\r\n", 0, 0},
        {"a\r\n\r\n.\r\n", "a\r\n\r\n", 8, 0},
        {"a\r\r\n.\r\n", "a\r\r\n", 7, 0},
        {"\n", "\n", 0, 1},
        {"0123456789012345678901234567890123456789012345678901234567890123456789\r\n.\r\nx",
         "0123456789012345678901234567890123456789012345678901234567890123456789\r\n", 75, 0},
        {"01234567890123456789012345678901234567890123456789\n.0123456789\r\n.\r\n",
         "01234567890123456789012345678901234567890123456789\n.0123456789\r\n", 67, 1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slice wire = slice_text(rows[i].wire);
        for (size_t cut = 0; cut <= wire.size; cut++) {
            struct gathered got;
            uint64_t bare;
            assert_int_equal(scan_in_two(wire, cut, &got, &bare), rows[i].end);
            assert_int_equal(got.size, strlen(rows[i].content));
            assert_memory_equal(got.bytes, rows[i].content, got.size);
            assert_int_equal(bare, rows[i].bare);
        }
    }
}

static struct letter_book *book_of(size_t message_bytes)
{
    struct letter_plan plan = {0x1234567890abcdef, 3, 1700000000, message_bytes, {malloc, free}};
    struct letter_book *book = test_malloc(sizeof(*book));
    assert_int_equal(letter_book_open(book, &plan), 0);
    return book;
}

static void book_free(struct letter_book *book)
{
    letter_book_close(book);
    test_free(book);
}

static void proof_feed(struct letter_proof *proof, struct slice content, size_t step)
{
    for (size_t at = 0; at < content.size; at += step) {
        letter_proof_take(proof, slice_first(slice_from(content, at), step));
    }
}

static void every_letter_proves_itself_in_pieces_of_any_size(void **state)
{
    (void)state;
    struct letter_book *book = book_of(4096);
    for (uint64_t sequence = 0; sequence < LETTER_BODIES; sequence++) {
        char header[LETTER_HEADER_BYTES_MAX];
        size_t header_bytes = letter_header(book, sequence, 77, header);
        const struct letter_body *body = letter_body_of(book, sequence);
        assert_int_equal(header_bytes + body->content.size, 4096);
        for (size_t step = 1; step < 200; step += 13) {
            struct letter_proof proof;
            letter_proof_begin(&proof);
            proof_feed(&proof, slice_of(header, header_bytes), step);
            proof_feed(&proof, body->content, step);
            assert_true(letter_proof_holds(&proof));
            assert_true(proof.claim.run == 0x1234567890abcdef);
            assert_int_equal(proof.claim.sequence, sequence);
            assert_int_equal(proof.claim.sent_ns, 77);
            assert_int_equal(proof.claim.recipient_count, 3);
        }
    }
    book_free(book);
}

static void wire_form_is_the_content_stuffed_and_ended(void **state)
{
    (void)state;
    struct letter_book *book = book_of(8192);
    unsigned stuffed = 0;
    for (uint64_t sequence = 0; sequence < LETTER_BODIES; sequence++) {
        const struct letter_body *body = letter_body_of(book, sequence);
        struct gathered got;
        uint64_t bare;
        assert_int_equal(scan_in_two(body->wire, body->wire.size / 2, &got, &bare),
                         body->wire.size);
        assert_int_equal(got.size, body->content.size);
        assert_memory_equal(got.bytes, body->content.bytes, got.size);
        assert_int_equal(bare, 0);
        stuffed += body->wire.size > body->content.size + 3;
    }
    assert_true(stuffed > LETTER_BODIES / 2); /* dots at line starts are really exercised */
    book_free(book);
}

static void a_changed_added_or_missing_byte_is_seen(void **state)
{
    (void)state;
    struct letter_book *book = book_of(1024);
    char header[LETTER_HEADER_BYTES_MAX];
    uint8_t copy[1024 + 1];
    const struct letter_body *body = letter_body_of(book, 5);
    size_t header_bytes = letter_header(book, 5, 0, header);
    for (size_t at = 0; at < body->content.size; at++) {
        memcpy(copy, body->content.bytes, body->content.size);
        copy[at] ^= 1;
        struct letter_proof proof;
        letter_proof_begin(&proof);
        letter_proof_take(&proof, slice_of(header, header_bytes));
        letter_proof_take(&proof, slice_of(copy, body->content.size));
        assert_false(letter_proof_holds(&proof));
    }
    for (size_t size = body->content.size - 2; size <= body->content.size + 1; size++) {
        struct letter_proof proof;
        memcpy(copy, body->content.bytes, body->content.size);
        copy[body->content.size] = '\n';
        letter_proof_begin(&proof);
        letter_proof_take(&proof, slice_of(header, header_bytes));
        letter_proof_take(&proof, slice_of(copy, size));
        assert_int_equal(letter_proof_holds(&proof), size == body->content.size);
    }
    book_free(book);
}

static void headers_that_a_relay_puts_above_do_not_matter(void **state)
{
    (void)state;
    struct letter_book *book = book_of(1024);
    char header[LETTER_HEADER_BYTES_MAX], above[1200];
    size_t header_bytes = letter_header(book, 9, 0, header);
    struct letter_proof proof;
    letter_proof_begin(&proof);
    memset(above, 'x', sizeof(above)); /* a line far longer than what is kept of one */
    above[8] = ':';
    above[sizeof(above) - 2] = '\r';
    above[sizeof(above) - 1] = '\n';
    letter_proof_take(&proof, slice_of(above, sizeof(above)));
    letter_proof_take(&proof, slice_of(header, header_bytes));
    letter_proof_take(&proof, letter_body_of(book, 9)->content);
    assert_true(letter_proof_holds(&proof));
    book_free(book);
}

static void a_message_without_claim_proves_nothing(void **state)
{
    (void)state;
    struct letter_proof proof;
    letter_proof_begin(&proof);
    letter_proof_take(&proof, slice_text("Subject: x\r\nTubepost-Bench: 12\r\n\r\nbody\r\n"));
    assert_false(proof.claimed);
    assert_false(letter_proof_holds(&proof));
}

static void digest_is_crc32c(void **state)
{
    (void)state;
    assert_int_equal(letter_crc32c(0, slice_text("123456789")),
                     0xe3069283); /* the check value of the catalogue */
    uint32_t parts = letter_crc32c(letter_crc32c(0, slice_text("12345")), slice_text("6789"));
    assert_int_equal(parts, 0xe3069283);
}

static void tally_tells_first_repeated_and_missing(void **state)
{
    (void)state;
    struct tally tally;
    tally_open(&tally, 1, 2);
    assert_int_equal(tally_mark(&tally, 0, 0), TALLY_FIRST);
    assert_int_equal(tally_mark(&tally, 0, 0), TALLY_REPEATED);
    assert_int_equal(tally_mark(&tally, 0, 2), TALLY_REFUSED);
    assert_int_equal(tally_mark(&tally, UINT64_MAX, 0), TALLY_REFUSED);
    assert_int_equal(tally_missing(&tally), 1);
    assert_int_equal(tally_mark(&tally, 99999, 1), TALLY_FIRST);
    assert_int_equal(tally_missing(&tally), 200000 - 2);
    for (uint64_t sequence = 0; sequence < 100000; sequence++) {
        tally_mark(&tally, sequence, 0);
        tally_mark(&tally, sequence, 1);
    }
    assert_int_equal(tally_missing(&tally), 0);
    assert_int_equal(tally.seen_count, 200000);
    assert_int_equal(tally.repeated_count, 3);
    tally_close(&tally);
}

static void quantiles_are_within_two_percent(void **state)
{
    (void)state;
    static struct histogram histogram;
    histogram_clear(&histogram);
    assert_int_equal(histogram_quantile(&histogram, 0.5), 0);
    for (uint64_t value = 1; value <= 100000; value++) {
        histogram_record(&histogram, value * 1000);
    }
    static const struct {
        double share;
        double value;
    } rows[] = {{0.5, 5e7}, {0.9, 9e7}, {0.99, 9.9e7}, {0.999, 9.99e7}};
    for (size_t i = 0; i < 4; i++) {
        double got = (double)histogram_quantile(&histogram, rows[i].share);
        assert_true(got >= rows[i].value && got < rows[i].value * 1.02);
    }
    assert_int_equal(histogram_quantile(&histogram, 1), 100000000);
    histogram_record(&histogram, UINT64_MAX);
    assert_true(histogram_quantile(&histogram, 1) == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(message_ends_with_crlf_dot_crlf_and_nothing_else),
        cmocka_unit_test(every_letter_proves_itself_in_pieces_of_any_size),
        cmocka_unit_test(wire_form_is_the_content_stuffed_and_ended),
        cmocka_unit_test(a_changed_added_or_missing_byte_is_seen),
        cmocka_unit_test(headers_that_a_relay_puts_above_do_not_matter),
        cmocka_unit_test(a_message_without_claim_proves_nothing),
        cmocka_unit_test(digest_is_crc32c),
        cmocka_unit_test(tally_tells_first_repeated_and_missing),
        cmocka_unit_test(quantiles_are_within_two_percent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
