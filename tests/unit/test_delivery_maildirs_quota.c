/* delivery_files and delivery_quota: one quota for what scripts file into Maildirs and for what goes straight there. */
#include "engine/core/check.h"
#include "engine/mailbox/delivery_quota.h"
#include "tests/unit/delivery_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define FULL "452 4.2.2 Mailbox is full\r\n"
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, delivery_set_up_maildirs, delivery_tear_down)

static size_t messages_of_ann(void)
{
    size_t count = 0;
    for (const char *at = lmtp_held("ann"); (at = strchr(at, '(')) != NULL; at++) {
        count++;
    }
    return count;
}

static void there_was_room(struct delivery_text *text)
{
    (void)text;
    fail();
}

static void ledger_begin(void)
{
    assert_int_equal(quota_ledger_open(&lmtp_rig.mailbox.quotas, &lmtp_rig.mailbox), 0);
}

static void ledger_end(void)
{
    quota_ledger_rest(lmtp_rig.mailbox.quotas);
    quota_ledger_close(lmtp_rig.mailbox.quotas);
    lmtp_rig.mailbox.quotas = NULL;
}

static void it_is_over(struct delivery_text *text)
{
    (void)text;
}

static void text_begin(struct delivery_text *text, const char *detail)
{
    *text = (struct delivery_text){
        .mailbox = &lmtp_rig.mailbox, .room_came = there_was_room, .committed = it_is_over};
    text->recipients = calloc(1, sizeof text->recipients[0]);
    check(text->recipients != NULL && delivery_files.reserve(text, 1) == 0);
    text->recipient_count = 1;
    strcpy(text->recipients[0].user, "ann");
    strcpy(text->recipients[0].detail, detail);
    assert_int_equal(delivery_files.begin(text), 0);
    assert_int_equal(delivery_files.append(text, slice_text(MESSAGE)), strlen(MESSAGE));
}

/* Delivered at once, each the way that its detail takes. How many are stored; the others have no room. */
static unsigned stored_of(const char *const *details, unsigned count)
{
    struct delivery_text texts[4];
    unsigned stored = 0;
    for (unsigned i = 0; i < count; i++) {
        text_begin(&texts[i], details[i]);
    }
    for (unsigned i = 0; i < count; i++) {
        delivery_files.commit(&texts[i]);
    }
    pop3_rig_run(&lmtp_rig);
    for (unsigned i = 0; i < count; i++) {
        int status = texts[i].recipients[0].status;
        assert_true(status == 0 || status == -EDQUOT);
        stored += status == 0;
        delivery_files.close(&texts[i]);
        free(texts[i].recipients);
    }
    assert_int_equal(messages_of_ann(), stored);
    return stored;
}

static void what_is_filed_at_once_has_no_more_room_than_there_is(void **state)
{
    (void)state;
    lmtp_rig.conf->users.quota_messages = 2;
    assert_int_equal(stored_of((const char *const[]){"x", "y", "x", "z"}, 4), 2);
}

static void what_is_filed_and_what_goes_straight_have_one_room(void **state)
{
    (void)state;
    ledger_begin();
    lmtp_rig.conf->users.quota_messages = 3;
    assert_int_equal(stored_of((const char *const[]){"", "x", "", "x"}, 4), 3);
    ledger_end();
}

static void what_was_filed_counts_for_what_goes_straight_before_anybody_looks(void **state)
{
    (void)state;
    ledger_begin();
    lmtp_rig.conf->users.quota_messages = 3;
    assert_string_equal(lmtp_deliver(MESSAGE), STORED); /* he has been looked at */
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann+x@y>\r\n", MESSAGE), STORED);
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann+x@y>\r\n", MESSAGE), STORED);
    assert_string_equal(lmtp_deliver(MESSAGE), FULL);
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann+x@y>\r\n", MESSAGE), FULL);
    ledger_end();
}

static void the_last_room_is_not_refused_for_what_is_counted_twice(void **state)
{
    (void)state;
    ledger_begin();
    for (unsigned room = 1; room <= 12; room++) {
        lmtp_rig.conf->users.quota_messages = room;
        assert_string_equal(room % 3 == 0 ? lmtp_deliver(MESSAGE)
                                          : lmtp_deliver_to("RCPT TO:<ann+x@y>\r\n", MESSAGE),
                            STORED);
    }
    ledger_end();
}

static void of_two_details_of_one_user_each_needs_room(void **state)
{
    (void)state;
    lmtp_rig.conf->users.quota_messages = 1;
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann+x@y>\r\nRCPT TO:<bob@y>\r\n"
                                        "RCPT TO:<ann+z@y>\r\n",
                                        MESSAGE),
                        STORED STORED FULL);
}

static unsigned lists; /* of folders */
static struct maildir_files real;

static int list_counting(void *self, int folder, void (*visit)(void *owner, const char *name),
                         void *owner)
{
    lists++;
    return real.list(self, folder, visit, owner);
}

/* Has a message for her been filed after a look? */
static bool looked_for(const char *expected)
{
    lists = 0;
    assert_string_equal(lmtp_deliver_to("RCPT TO:<ann+x@y>\r\n", MESSAGE), expected);
    return lists > 0;
}

static void who_was_looked_at_within_a_minute_and_has_room_is_not_looked_at(void **state)
{
    (void)state;
    real = *lmtp_files();
    lmtp_files()->list = list_counting;
    ledger_begin();
    lmtp_rig.conf->users.quota_messages = 100;
    assert_true(looked_for(STORED));
    assert_false(looked_for(STORED));
    lmtp_rig.store.rig.now_ns += 61000000000ull;
    pop3_rig_run(&lmtp_rig);
    assert_true(looked_for(STORED));
    assert_false(looked_for(STORED));
    lmtp_rig.conf->users.quota_bytes = 8000; /* there is room for this one, and not for many */
    assert_true(looked_for(STORED));
    lmtp_rig.conf->users.quota_bytes = 0;
    lmtp_rig.conf->users.quota_messages = 6;
    assert_true(looked_for(STORED));
    assert_true(looked_for(FULL));
    lmtp_rig.conf->users.quota_messages = 100;
    lmtp_script_set("ann", "require [\"mailbox\",\"fileinto\"]; if mailboxexists \"x\" {discard;}");
    assert_true(looked_for(STORED));
    ledger_end();
    *lmtp_files() = real;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_filed_at_once_has_no_more_room_than_there_is),
        TEST(what_is_filed_and_what_goes_straight_have_one_room),
        TEST(what_was_filed_counts_for_what_goes_straight_before_anybody_looks),
        TEST(the_last_room_is_not_refused_for_what_is_counted_twice),
        TEST(of_two_details_of_one_user_each_needs_room),
        TEST(who_was_looked_at_within_a_minute_and_has_room_is_not_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
