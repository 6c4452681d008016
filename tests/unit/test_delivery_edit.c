/* delivery_edit: what scripts do to headers is in what they file and send behind it, and in nothing else. */
#include "tests/unit/delivery_rig.h"
#include "engine/core/check.h"
#include "engine/mailbox/sieve_edit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

int __real_mailstore_begin(struct mailstore *store, struct mailstore_draft **draft);
int __wrap_mailstore_begin(struct mailstore *store, struct mailstore_draft **draft);

static int begins_until_failure = -1; /* that still succeed; then one fails; negative: none does */
static int begin_status;

int __wrap_mailstore_begin(struct mailstore *store, struct mailstore_draft **draft)
{
    bool fails = begins_until_failure >= 0 && begins_until_failure-- == 0;
    return fails ? begin_status : __real_mailstore_begin(store, draft);
}

#define EDIT "require [\"editheader\",\"fileinto\",\"mailbox\",\"copy\",\"reject\"];"
#define LETTER "Subject: S\r\nX-A: 1\r\nX-A: 2\r\n 3\r\n\r\nbody\r\n"

/* Behind what the service has put in front. */
static const char *own(const char *text)
{
    const char *received = strstr(text, "Received: ");
    const char *end = received != NULL ? strstr(received, "\r\n") : NULL;
    while (end != NULL && (end[2] == ' ' || end[2] == '\t')) {
        end = strstr(end + 2, "\r\n");
    }
    check(end != NULL);
    return end + 2;
}

static void deleted_fields_are_gone_and_the_rest_is_as_it_was(void **state)
{
    static const struct {
        const char *edit, *text;
    } rows[] = {
        {"deleteheader \"x-a\";", "Subject: S\r\n\r\nbody\r\n"},
        {"deleteheader :index 1 \"x-a\";", "Subject: S\r\nX-A: 2\r\n 3\r\n\r\nbody\r\n"},
        {"deleteheader :index 1 :last \"x-a\";", "Subject: S\r\nX-A: 1\r\n\r\nbody\r\n"},
        {"deleteheader :contains \"x-a\" \"3\";", "Subject: S\r\nX-A: 1\r\n\r\nbody\r\n"},
        {"deleteheader \"x-b\";", LETTER},
        {"deleteheader \"received\";", LETTER},
        {"addheader :last \"X-B\" \"caf\xc3\xa9\";",
         "Subject: S\r\nX-A: 1\r\nX-A: 2\r\n 3\r\nX-B: =?utf-8?q?caf=C3=A9?=\r\n\r\nbody\r\n"},
        {"addheader :last \"X-B\" \"b\"; deleteheader \"x-b\";", LETTER},
        {"deleteheader \"subject\"; addheader :last \"Subject\" \"T\";",
         "X-A: 1\r\nX-A: 2\r\n 3\r\nSubject: T\r\n\r\nbody\r\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char script[1024];
        if (i > 0) {
            delivery_set_up(state);
        }
        snprintf(script, sizeof script, EDIT "%s", rows[i].edit);
        lmtp_script_set("ann", script);
        print_message("%s\n", rows[i].edit);
        assert_string_equal(lmtp_deliver(LETTER), STORED);
        assert_string_equal(own(lmtp_read("ann", "INBOX")), rows[i].text);
        if (i + 1 < sizeof rows / sizeof rows[0]) {
            delivery_tear_down(state);
        }
    }
}

static void a_field_is_added_before_the_others_behind_the_return_path(void **state)
{
    (void)state;
    lmtp_script_set("ann", EDIT "addheader \"X-B\" \"1\"; addheader \"X-C\" \"2\";");
    lmtp_deliver(LETTER);
    const char *begin = "Return-Path: <boss@x.test>\r\nX-C: 2\r\nX-B: 1\r\nDelivered-To: ann@y\r\n";
    assert_memory_equal(lmtp_read("ann", "INBOX"), begin, strlen(begin));
}

static void a_field_behind_a_line_without_end_is_a_line_of_its_own(void **state)
{
    (void)state;
    struct arena arena;
    struct slice edited;
    const struct sieve_edit edit = {
        .kind = SIEVE_EDIT_ADD, .name = slice_text("X-B"), .value = slice_text("1"), .last = true};
    arena_open(&arena, 1u << 20);
    check(sieve_edit_header(&arena, slice_text("A: b\r\nC: d"), &edit, 1, &edited) == 0);
    const char *expected = "A: b\r\nC: d\r\nX-B: 1\r\n";
    assert_int_equal(edited.size, strlen(expected));
    assert_memory_equal(edited.bytes, expected, edited.size);
    arena_close(&arena);
}

static void what_is_filed_between_edits_has_those_before_it(void **state)
{
    (void)state;
    lmtp_script_set("ann", EDIT "fileinto :create :copy \"A\"; addheader :last \"X-B\" \"1\";"
                                "fileinto :create :copy \"B\"; redirect :copy \"a@z\";"
                                "addheader :last \"X-C\" \"2\"; keep;");
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann@y>\r\nRCPT TO:<bob@y>\r\n", LETTER),
                        STORED STORED);
    assert_string_equal(lmtp_held("ann"), "INBOX () A () B ()");
    assert_null(strstr(lmtp_read("ann", "A"), "X-B"));
    assert_non_null(strstr(lmtp_read("ann", "B"), "X-B: 1\r\n\r\nbody"));
    assert_non_null(strstr(lmtp_read("ann", "INBOX"), "X-B: 1\r\nX-C: 2\r\n\r\nbody"));
    assert_null(strstr(lmtp_read("bob", "INBOX"), "X-B"));
    assert_int_equal(lmtp_relay.messages, 1);
    assert_non_null(strstr(lmtp_taken(), "X-B: 1\r\n\r\nbody"));
    assert_null(strstr(lmtp_taken(), "Return-Path"));
    assert_int_equal(lmtp_outgoing_left(), 0);
}

static void an_edited_redirect_outlives_a_crash(void **state)
{
    (void)state;
    lmtp_relay.verb = "greeting";
    lmtp_relay.answer = "";
    lmtp_script_set("ann", EDIT "addheader \"X-B\" \"1\"; redirect \"a@z\";");
    assert_string_equal(lmtp_deliver(LETTER), STORED);
    lmtp_service_crashes();
    lmtp_relay.verb = NULL;
    pop3_rig_pass(&lmtp_rig, 3600);
    assert_int_equal(lmtp_relay.messages, 1);
    assert_non_null(strstr(lmtp_taken(), "X-B: 1"));
    assert_int_equal(lmtp_outgoing_left(), 0);
}

static void an_edited_message_over_quota_is_not_stored(void **state)
{
    (void)state;
    lmtp_rig.conf->users.quota_bytes = 10;
    lmtp_script_set("ann", EDIT "addheader \"X-B\" \"1\";");
    assert_string_equal(lmtp_deliver(LETTER), "452 4.2.2 Mailbox is full\r\n");
    assert_string_equal(lmtp_held("ann"), "");
}

/* Nothing of it is done in its place: it would be kept and sent on as it came. */
static void when_the_store_takes_no_further_text_the_message_is_to_come_again(void **state)
{
    static const int statuses[] = {-EAGAIN, -ENOSPC, -EIO};
    (void)state;
    lmtp_script_set("ann", EDIT "addheader \"X-B\" \"1\"; redirect \"a@z\"; keep;");
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        begins_until_failure = 1;
        begin_status = statuses[i];
        assert_memory_equal(lmtp_deliver_to("RCPT TO:<ann@y>\r\nRCPT TO:<bob@y>\r\n", LETTER),
                            statuses[i] == -ENOSPC ? "452 " : "451 ", 4);
        assert_string_equal(lmtp_held("ann"), "");
        assert_int_equal(pop3_rig_count(&lmtp_rig, "bob"), i + 1);
    }
    assert_int_equal(lmtp_relay.messages, 0);
    assert_int_equal(lmtp_outgoing_left(), 0);
    assert_string_equal(lmtp_deliver(LETTER), STORED);
    assert_non_null(strstr(lmtp_read("ann", "INBOX"), "X-B: 1"));
    assert_int_equal(lmtp_relay.messages, 1);
}

static char large[20u << 20];

static void large_make(size_t bytes)
{
    char *at = large + sprintf(large, "Subject: S\r\n\r\n");
    while (at < large + bytes) {
        at += sprintf(at, "%0900d\r\n", 0);
    }
}

/* In pieces, as the network has room. */
static const char *large_deliver(void)
{
    lmtp_greet();
    pop3_client_talk(&lmtp_rig, lmtp_client,
                     "MAIL FROM:<boss@x.test>\r\nRCPT TO:<ann@y>\r\nDATA\r\n");
    for (size_t at = 0, size = strlen(large); at < size; at += 65536) {
        size_t rest = size - at < 65536 ? size - at : 65536;
        check(stream_write(lmtp_client->stream, slice_of(large + at, rest)) == 0);
        pop3_rig_run(&lmtp_rig);
    }
    return pop3_client_talk(&lmtp_rig, lmtp_client, ".\r\n");
}

static void a_message_longer_than_the_logs_memory_is_edited_whole(void **state)
{
    (void)state;
    large_make(3u << 20);
    lmtp_script_set("ann", EDIT "addheader \"X-B\" \"1\"; deleteheader \"subject\";");
    assert_string_equal(large_deliver(), STORED);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
    struct mailstore_user *user;
    check(mailstore_user_open(lmtp_rig.store.store, slice_text("ann"), &user) == 0);
    assert_in_range(user->totals.bytes, strlen(large), strlen(large) + 1000);
    mailstore_user_close(lmtp_rig.store.store, user);
    assert_int_equal(lmtp_rig.mailbox.kept_bytes, 0);
}

static void one_that_is_too_large_is_kept_as_it_came(void **state)
{
    (void)state;
    large_make(17u << 20);
    lmtp_script_set("ann", EDIT "addheader \"X-B\" \"1\";");
    assert_string_equal(large_deliver(), STORED);
    assert_string_equal(lmtp_held("ann"), "INBOX ()");
    assert_non_null(strstr(lmtp_logged(), "too large to be edited"));
    assert_int_equal(lmtp_rig.mailbox.kept_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DELIVERY_TEST(deleted_fields_are_gone_and_the_rest_is_as_it_was),
        DELIVERY_TEST(a_field_is_added_before_the_others_behind_the_return_path),
        DELIVERY_TEST(a_field_behind_a_line_without_end_is_a_line_of_its_own),
        DELIVERY_TEST(what_is_filed_between_edits_has_those_before_it),
        DELIVERY_TEST(an_edited_redirect_outlives_a_crash),
        DELIVERY_TEST(an_edited_message_over_quota_is_not_stored),
        DELIVERY_TEST(when_the_store_takes_no_further_text_the_message_is_to_come_again),
        DELIVERY_TEST(a_message_longer_than_the_logs_memory_is_edited_whole),
        DELIVERY_TEST(one_that_is_too_large_is_kept_as_it_came),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
