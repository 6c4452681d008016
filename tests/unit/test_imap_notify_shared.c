/* NOTIFY (RFC 5465) and the mailboxes of others: who is told of them, and from when until when. */
#include "tests/unit/imap_notify_others.h"
#include "engine/mailbox/imap_notify_private.h"
#include "queue/mailbox/mailstore_private.h"

/* How often the user is open. */
static uint32_t times_open(struct imap_rig *rig, const char *name)
{
    const struct user *user = user_known(rig->store.store, slice_text(name));
    return user != NULL ? user->refs : 0;
}

/* Of the one session that has asked for something. */
static const struct imap_notify_state *listener(struct imap_rig *rig)
{
    const struct list_node *sessions = &rig->mailbox.sessions;
    for (struct list_node *node = sessions->next; node != sessions; node = node->next) {
        struct session *session = list_entry(node, struct session, node);
        struct imap_session *imap = list_entry(session, struct imap_session, session);
        if (imap->notify != NULL) {
            return imap->notify;
        }
    }
    fail_msg("nobody listens");
    return NULL;
}

static void which_mailboxes_are_named(void **state)
{
    static const struct {
        const char *set;
        bool told;
    } cases[] = {
        {"(mailboxes shared/alice/work " MESSAGES ")", true},
        {"(mailboxes (nowhere shared/alice/work) " MESSAGES ")", true},
        {"(mailboxes shared/alice/wor " MESSAGES ")", false},
        {"(mailboxes (work shared/bob/work shared/alice) " MESSAGES ")", false},
        {"(subtree shared/alice/work " MESSAGES ")", true},
        {"(subtree shared/alice " MESSAGES ")", true},
        {"(subtree shared " MESSAGES ")", true},
        {"(subtree (share shared/alic shared/alicework) " MESSAGES ")", false},
        {"(subtree shared NONE) (mailboxes shared/alice/work (MailboxName))", false},
        {"(personal " MESSAGES ")", false},
        {"(inboxes " MESSAGES ")", false},
        {"(subscribed " MESSAGES ")", false},
        {"(selected " MESSAGES ")", false},
    };
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lr");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char command[200];
        snprintf(command, sizeof(command), "n NOTIFY SET %s\r\n", cases[i].set);
        talk(rig, 1, command, "OK");
        forget(rig, 1);
        append(rig, 0, "work", LETTER);
        rig_rounds(rig, 10);
        bool told = strstr(rig->clients[1].heard, "* STATUS shared/alice/work (") != NULL;
        if (told != cases[i].told) {
            fail_msg("%s: %s", cases[i].set, rig->clients[1].heard);
        }
    }
}

static void rights_that_are_taken_and_given_are_a_mailbox_that_goes_and_comes(void **state)
{
    struct imap_rig *rig = bob_listens(
        state, "lr", "(subtree shared (MessageNew MessageExpunge FlagChange MailboxName))");
    bob_may(rig, "");
    hear(rig, 1, "* LIST (\\NonExistent \\HasNoChildren) \"/\" shared/alice/work\r\n");
    hear(rig, 1,
         "* LIST (\\NonExistent \\HasNoChildren) \"/\" shared/alice\r\n"); /* what is above it */
    forget(rig, 1);
    append(rig, 0, "work", LETTER);
    talk(rig, 0, "s SELECT work\r\n", "OK");
    talk(rig, 0, "t STORE 1 +FLAGS (\\Seen)\r\n", "OK");
    talk(rig, 0, "r RENAME work play\r\n", "OK");
    talk(rig, 0, "c CREATE work\r\n", "OK");
    bob_hears_nothing(rig);
    talk(rig, 0, "x SETACL play anyone lr\r\n", "OK");
    hear(rig, 1, "* LIST (\\HasNoChildren) \"/\" shared/alice/play\r\n");
    hear(rig, 1, "* LIST (\\NonExistent \\HasChildren) \"/\" shared/alice\r\n");
    hear(rig, 1, "* STATUS shared/alice/play (MESSAGES 3 ");
    talk(rig, 0, "y SETACL play -bob l\r\n", "OK"); /* whoever gives it */
    hear(rig, 1, "* LIST (\\NonExistent \\HasNoChildren) \"/\" shared/alice/play\r\n");
    forget(rig, 1);
    append(rig, 0, "play", LETTER);
    bob_hears_nothing(rig);
    talk(rig, 0, "z DELETEACL play -bob\r\n", "OK");
    hear(rig, 1, "* LIST (\\HasNoChildren) \"/\" shared/alice/play\r\n");
    append(rig, 0, "play", LETTER);
    hear(rig, 1, "* STATUS shared/alice/play (MESSAGES 5 ");
}

static void nothing_is_told_of_what_is_taken_before_the_client_reads(void **state)
{
    struct imap_rig *rig = bob_listens(state, "lr", "(subtree shared/alice " MESSAGES ")");
    forget(rig, 1);
    say(rig, 1, "x NOOP"); /* nothing is told within a command */
    append(rig, 0, "work", LETTER);
    rig_rounds(rig, 10);
    bob_may(rig, "");
    rig_rounds(rig, 10);
    say(rig, 1, "\r\n");
    hear(rig, 1, "x OK");
    hear(rig, 1, "* LIST (\\NoAccess) \"/\" shared/alice/work\r\n");
    expect_not(rig, 1, "STATUS");
}

static void who_shares_for_the_first_time_is_heard_of(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    log_in_as(rig, 1, "bob");
    talk(rig, 1, "n NOTIFY SET (subtree shared (MessageNew MessageExpunge MailboxName))\r\n", "OK");
    forget(rig, 1);
    log_in_as(rig, 0, "alice");
    talk(rig, 0, "c CREATE work\r\n", "OK");
    append(rig, 0, "work", LETTER);
    bob_hears_nothing(rig);
    assert_int_equal(times_open(rig, "alice"), 1); /* by herself */
    talk(rig, 0, "d SETACL work carol lr\r\n", "OK");
    bob_hears_nothing(rig);
    assert_int_equal(times_open(rig, "alice"), 1);
    bob_may(rig, "lr");
    hear(rig, 1, "* LIST (\\HasNoChildren) \"/\" shared/alice/work\r\n");
    hear(rig, 1, "* STATUS shared/alice/work (MESSAGES 1 ");
    talk(rig, 0, "e CREATE work/new\r\n", "OK"); /* it is shared as the one above it */
    hear(rig, 1, "* LIST (\\HasNoChildren) \"/\" shared/alice/work/new\r\n");
    hear(rig, 1, "* LIST (\\HasChildren) \"/\" shared/alice/work\r\n");
    forget(rig, 1);
    talk(rig, 0, "f RENAME work play\r\n", "OK");
    hear(rig, 1,
         "* LIST (\\HasChildren) \"/\" shared/alice/play (\"OLDNAME\" (shared/alice/work))\r\n");
    rig_rounds(rig, 10);
    expect_not(rig, 1, "new");
    talk(rig, 0, "g DELETE play/new\r\n", "OK");
    hear(rig, 1, "* LIST (\\NonExistent \\HasNoChildren) \"/\" shared/alice/play/new\r\n");
}

static void an_owner_is_watched_who_has_gone(void **state)
{
    struct imap_rig *rig = bob_listens(state, "lr", "(mailboxes shared/alice/work " MESSAGES ")");
    assert_int_equal(times_open(rig, "alice"), 2);
    talk(rig, 0, "z LOGOUT\r\n", "OK");
    rig_rounds(rig, 10);
    assert_int_equal(times_open(rig, "alice"), 1);
    forget(rig, 1);
    log_in_as(rig, 2, "alice");
    append(rig, 2, "work", LETTER);
    hear(rig, 1, "* STATUS shared/alice/work (MESSAGES 3 ");
    talk(rig, 2, "a DELETEACL work bob\r\n", "OK");
    hear(rig, 1, "* LIST (\\NoAccess) \"/\" shared/alice/work\r\n");
    rig_rounds(rig, 10);
    assert_int_equal(times_open(rig, "alice"), 1); /* by client 2: bob has no use for her */
    talk(rig, 2, "b SETACL work bob lr\r\n", "OK");
    hear(rig, 1, "* LIST (\\HasNoChildren) \"/\" shared/alice/work\r\n");
    assert_int_equal(times_open(rig, "alice"), 2);
}

static void owners_are_let_go_of_at_the_end(void **state)
{
    static const char *const ends[] = {"e NOTIFY NONE\r\n",
                                       "e NOTIFY SET (personal " MESSAGES ")\r\n",
                                       "e UNAUTHENTICATE\r\n", "e LOGOUT\r\n"};
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lr");
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        talk(rig, 1, "n NOTIFY SET (subtree shared " MESSAGES ")\r\n", "OK");
        assert_int_equal(times_open(rig, "alice"), 2);
        talk(rig, 1, ends[i], "OK");
        rig_rounds(rig, 10);
        assert_int_equal(times_open(rig, "alice"), 1);
        assert_true(list_empty(&rig->store.store->share_watches) || i == 1);
        if (i == 2) {
            talk(rig, 1, "l LOGIN bob secret\r\n", "OK");
        }
    }
}

static void a_user_who_is_deleted_takes_his_mailboxes_along(void **state)
{
    struct imap_rig *rig =
        bob_listens(state, "lr", "(subtree shared (MessageNew MessageExpunge MailboxName))");
    struct mailstore_user *alice;
    struct told told;
    talk(rig, 0, "z LOGOUT\r\n", "OK");
    forget(rig, 1);
    assert_int_equal(mailstore_user_open(rig->store.store, slice_text("alice"), &alice), 0);
    assert_int_equal(mailstore_user_delete(rig->store.store, alice, told_init(&told)), 0);
    hear(rig, 1, "* LIST (\\NonExistent \\HasNoChildren) \"/\" shared/alice/work\r\n");
    mailstore_user_close(rig->store.store, alice);
    rig_rounds(rig, 10);
    assert_int_equal(times_open(rig, "alice"), 0);
    log_in_as(rig, 2, "alice");
    talk(rig, 2, "c CREATE work\r\n", "OK");
    talk(rig, 2, "d SETACL work bob lr\r\n", "OK");
    hear(rig, 1, "* LIST (\\HasNoChildren) \"/\" shared/alice/work\r\n");
}

static void entries_of_others_mailboxes_are_named(void **state)
{
    struct imap_rig *rig =
        bob_listens(state, "lr", "(subtree shared (MailboxMetadataChange ServerMetadataChange))");
    forget(rig, 1);
    talk(rig, 0, "a SETMETADATA work (/shared/comment \"x\" /private/comment \"hers\")\r\n", "OK");
    hear(rig, 1, "* METADATA shared/alice/work /shared/comment\r\n");
    forget(rig, 1);
    talk(rig, 0, "b SETMETADATA \"\" (/private/comment \"hers\")\r\n", "OK");
    talk(rig, 0, "c SETMETADATA work (/private/specialuse \"\\\\Junk\")\r\n", "OK");
    for (unsigned i = 0; i < 50; i++) { /* of what bob may not see nothing is kept for him */
        char command[80];
        snprintf(command, sizeof(command), "d SETMETADATA INBOX (/shared/x%u \"x\")\r\n", i);
        talk(rig, 0, command, "OK");
    }
    bob_hears_nothing(rig);
    assert_int_equal(listener(rig)->entries.count, 0);
    log_in_as(rig, 2, "bob");
    talk(rig, 2, "d SETMETADATA shared/alice/work (/private/comment \"his\")\r\n", "OK");
    hear(rig, 1, "* METADATA shared/alice/work /private/comment\r\n");
}

static void of_its_own_doing_with_others_mailboxes_a_client_is_not_told(void **state)
{
    struct imap_rig *rig = bob_listens(
        state, "lrwstipekxa",
        "(subtree shared (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange))");
    append(rig, 1, "shared/alice/work", LETTER);
    talk(rig, 1, "a CREATE shared/alice/work/mine\r\n", "OK");
    talk(rig, 1, "b SUBSCRIBE shared/alice/work/mine\r\n", "OK");
    append(rig, 1, "shared/alice/work/mine", LETTER);
    talk(rig, 1, "c RENAME shared/alice/work/mine shared/alice/work/ours\r\n", "OK");
    talk(rig, 1, "d SETACL shared/alice/work/ours bob -r\r\n", "OK");
    rig_rounds(rig, 10);
    expect_not(rig, 1, "* ");
    talk(rig, 1, "e DELETE shared/alice/work/ours\r\n", "OK");
    rig_rounds(rig, 10);
    expect_not(rig, 1, "* ");
    append(rig, 0, "work", LETTER); /* but of hers */
    hear(rig, 1, "* STATUS shared/alice/work (MESSAGES 4 ");
}

static void the_selected_mailbox_of_another_is_told_until_the_right_is_taken(void **state)
{
    struct imap_rig *rig = bob_listens(
        state, "lr",
        "(selected (MessageNew (UID) MessageExpunge FlagChange)) (subtree shared " MESSAGES ")");
    talk(rig, 1, "s SELECT shared/alice/work\r\n", "OK");
    append(rig, 0, "work", LETTER);
    hear(rig, 1, "* 3 EXISTS\r\n");
    hear(rig, 1, "* 3 FETCH (UID 3)\r\n");
    expect_not(rig, 1, "STATUS");
    bob_may(rig, "l");
    hear(rig, 1, "* BYE [NOPERM]");
}

static void a_mailbox_of_ones_own_goes_before_one_that_is_called_so(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    struct mailstore_user *bob;
    struct told told;
    struct mailstore_create create = {.mailbox = slice_text("shared/alice/work")};
    bob_may(rig, "lr");
    assert_int_equal(mailstore_user_open(rig->store.store, slice_text("bob"), &bob), 0);
    assert_int_equal(mailstore_box_create(rig->store.store, bob, &create, told_init(&told)), 0);
    rig_rounds(rig, 10);
    talk(rig, 1, "n NOTIFY SET (subtree shared (MessageNew MessageExpunge MailboxName))\r\n", "OK");
    forget(rig, 1);
    append(rig, 0, "work", LETTER);
    bob_hears_nothing(rig);
    log_in_as(rig, 2, "bob");
    talk(rig, 2, "d DELETE shared/alice/work\r\n", "OK");
    hear(rig, 1, "* LIST (\\HasNoChildren) \"/\" shared/alice/work\r\n"); /* hers */
    hear(rig, 1, "* STATUS shared/alice/work (MESSAGES 3 ");
    mailstore_user_close(rig->store.store, bob);
}

static void too_many_mailboxes_of_another_end_it(void **state)
{
    struct imap_rig *rig =
        bob_listens(state, "lr", "(subtree shared (MessageNew MessageExpunge MailboxName))");
    char command[480];
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(command, sizeof(command), "c CREATE work/%0240u\r\n", i);
        talk(rig, 0, command, "OK");
        rig->clients[1].heard_bytes =
            strstr(rig->clients[1].heard, "OVERFLOW") != NULL ? rig->clients[1].heard_bytes : 0;
    }
    hear(rig, 1, "* OK [NOTIFICATIONOVERFLOW] ");
    assert_int_equal(times_open(rig, "alice"), 1);
}

static void too_many_owners_end_it(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    char command[80];
    log_in_as(rig, 1, "bob");
    connect_client(rig, 0);
    for (unsigned i = 0; i < 257; i++) {
        snprintf(command, sizeof(command), "l LOGIN user%u secret\r\n", i);
        talk(rig, 0, command, "OK");
        talk(rig, 0, "s SETACL INBOX bob lr\r\n", "OK");
        talk(rig, 0, "u UNAUTHENTICATE\r\n", "OK");
        if (i == 255) {
            talk(rig, 1, "n NOTIFY SET (subtree shared " MESSAGES ")\r\n", "OK");
            expect_not(rig, 1, "OVERFLOW");
        }
    }
    hear(rig, 1, "* OK [NOTIFICATIONOVERFLOW] ");
    rig_rounds(rig, 10);
    assert_int_equal(times_open(rig, "user7"), 0);
    talk(rig, 1, "n NOTIFY SET (subtree shared " MESSAGES ")\r\n", "OK");
    expect(rig, 1, "* OK [NOTIFICATIONOVERFLOW] ");
    talk(rig, 1, "n NOTIFY SET (subtree shared/user7 " MESSAGES ")\r\n",
         "OK"); /* fewer are no trouble */
    expect_not(rig, 1, "OVERFLOW");
    assert_int_equal(times_open(rig, "user7"), 1);
    assert_int_equal(times_open(rig, "user8"), 0);
}

static void many_who_share_in_one_turn_are_all_heard_of(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    char command[80];
    log_in_as(rig, 1, "bob");
    talk(rig, 1, "n NOTIFY SET (subtree shared (MailboxName))\r\n", "OK");
    forget(rig, 1);
    say(rig, 1, "x NOOP"); /* nothing is told meanwhile */
    connect_client(rig, 0);
    for (unsigned i = 0; i < NOTIFY_STRANGERS_MAX + 8; i++) {
        snprintf(command, sizeof(command), "l LOGIN user%u secret\r\n", i);
        talk(rig, 0, command, "OK");
        talk(rig, 0, "s SETACL INBOX bob lr\r\n", "OK");
        talk(rig, 0, "u UNAUTHENTICATE\r\n", "OK");
    }
    say(rig, 1, "\r\n");
    for (unsigned i = 0; i < NOTIFY_STRANGERS_MAX + 8; i++) {
        snprintf(command, sizeof(command), "* LIST (\\HasNoChildren) \"/\" shared/user%u/INBOX\r\n",
                 i);
        hear(rig, 1, command);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
        TEST(messages_of_another_are_told_under_his_name),
        TEST(which_mailboxes_are_named),
        TEST(the_inbox_of_another_has_its_name_in_any_letters),
        TEST(a_subscription_is_enough_and_can_come_later),
        TEST(what_may_not_be_seen_is_ignored_and_what_may_not_be_read_is_said),
        TEST(rights_that_are_taken_and_given_are_a_mailbox_that_goes_and_comes),
        TEST(nothing_is_told_of_what_is_taken_before_the_client_reads),
        TEST(who_shares_for_the_first_time_is_heard_of),
        TEST(an_owner_is_watched_who_has_gone),
        TEST(owners_are_let_go_of_at_the_end),
        TEST(a_user_who_is_deleted_takes_his_mailboxes_along),
        TEST(entries_of_others_mailboxes_are_named),
        TEST(of_its_own_doing_with_others_mailboxes_a_client_is_not_told),
        TEST(the_selected_mailbox_of_another_is_told_until_the_right_is_taken),
        TEST(a_mailbox_of_ones_own_goes_before_one_that_is_called_so),
        TEST(too_many_mailboxes_of_another_end_it),
        TEST(too_many_owners_end_it),
        TEST(many_who_share_in_one_turn_are_all_heard_of),
        TEST(what_is_told_by_name_is_what_list_shows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
