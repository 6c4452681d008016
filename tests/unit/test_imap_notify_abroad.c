/* NOTIFY (RFC 5465) and the mailboxes of others whose mail is on another shard: alice is of shard 0, bob of the other. */
#include "engine/mailbox/imap_notify_private.h"
#include "engine/mailbox/pipe.h"
#include "engine/shard/memory.h"
#include "tests/unit/imap_notify_others.h"
#include "tests/unit/imap_shards.h"

/* The linker puts this in place of the heap's (Makefile). */
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

static int made_left = -1; /* pipes and sessions until one cannot be had; -1: all can */

void *__wrap_calloc(size_t count, size_t size)
{
    bool counts = size == sizeof(struct pipe) || size == sizeof(struct imap_session);
    return counts && made_left >= 0 && made_left-- == 0 ? NULL : __real_calloc(count, size);
}

/* His, and those that work for others there. */
static unsigned sessions_on(unsigned shard)
{
    const struct list_node *sessions = &imap_shards.rigs[shard]->mailbox.sessions;
    unsigned count = 0;
    for (const struct list_node *node = sessions->next; node != sessions; node = node->next) {
        count++;
    }
    return count;
}

static void agents_abort(unsigned shard)
{
    struct list_node *sessions = &imap_shards.rigs[shard]->mailbox.sessions, *next;
    for (struct list_node *node = sessions->next; node != sessions; node = next) {
        struct session *session = list_entry(node, struct session, node);
        next = node->next;
        if (session->of_service) {
            session->ops->abort(session);
        }
    }
}

/* ---- Mailboxes that are not selected ---- */

static void which_mailboxes_are_named(void **state)
{
    static const struct {
        const char *set;
        bool told, watched;
    } cases[] = {
        {"(mailboxes shared/alice/work " MESSAGES ")", true, true},
        {"(mailboxes (nowhere shared/alice/work) " MESSAGES ")", true, true},
        {"(mailboxes shared/alice/wor " MESSAGES ")", false, true},
        {"(mailboxes (work shared/bob/work) " MESSAGES ")", false, false},
        {"(subtree shared/alice/work " MESSAGES ")", true, true},
        {"(subtree shared/alice " MESSAGES ")", true, true},
        {"(subtree shared " MESSAGES ")", true, true},
        {"(subtree (share shared/bob) " MESSAGES ")", false, false},
        {"(subtree shared NONE) (mailboxes shared/alice/work (MailboxName))", false, true},
        {"(subtree shared NONE)", false, false},
        {"(personal " MESSAGES ")", false, false},
        {"(inboxes " MESSAGES ")", false, false},
        {"(subscribed " MESSAGES ")", false, false},
        {"(selected " MESSAGES ")", false, false},
    };
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lr");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char command[200];
        snprintf(command, sizeof(command), "n NOTIFY SET %s\r\n", cases[i].set);
        talk(rig, 1, command, "OK");
        forget(rig, 1);
        append(rig, 0, "work", LETTER);
        rig_rounds(rig, 20);
        bool told = strstr(rig->clients[1].heard, "* STATUS shared/alice/work (") != NULL;
        if (told != cases[i].told || sessions_on(0) != (cases[i].watched ? 2 : 1)) {
            fail_msg("%s: %s", cases[i].set, rig->clients[1].heard);
        }
    }
}

static void names_have_any_letters(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    talk(rig, 0, "a CREATE \"work/gr&APw-n [1]\"\r\n", "OK");
    talk(rig, 0, "b SETACL \"work/gr&APw-n [1]\" bob lr\r\n", "OK");
    talk(rig, 1,
         "n NOTIFY SET (mailboxes \"shared/alice/work/gr&APw-n [1]\" (MessageNew MessageExpunge "
         "MailboxName))\r\n",
         "OK");
    append(rig, 0, "\"work/gr&APw-n [1]\"", LETTER);
    hear(rig, 1, "* STATUS \"shared/alice/work/gr&APw-n [1]\" (MESSAGES 1 ");
    talk(rig, 1, "e ENABLE UTF8=ACCEPT\r\n", "OK");
    append(rig, 0, "\"work/gr&APw-n [1]\"", LETTER);
    hear(rig, 1, "* STATUS \"shared/alice/work/gr\xc3\xbcn [1]\" (MESSAGES 2 ");
    talk(rig, 1, "n NOTIFY SET (mailboxes \"shared/alice/work/gr\xc3\xbcn [1]\" (MailboxName))\r\n",
         "OK");
    talk(rig, 0, "d DELETE \"work/gr&APw-n [1]\"\r\n", "OK");
    hear(rig, 1,
         "* LIST (\\NonExistent \\HasNoChildren) \"/\" \"shared/alice/work/gr\xc3\xbcn [1]\"\r\n");
}

static void of_what_he_subscribes_to_himself_a_client_is_told_messages(void **state)
{
    struct imap_rig *rig = bob_listens(
        state, "lr", "(subscribed (MessageNew MessageExpunge MailboxName SubscriptionChange))");
    forget(rig, 1);
    talk(rig, 1, "s SUBSCRIBE shared/alice/work\r\n", "OK");
    rig_rounds(rig, 30);
    expect_not(rig, 1, "LIST");
    expect_not(rig, 1, "STATUS");
    append(rig, 0, "work", LETTER);
    hear(rig, 1, "* STATUS shared/alice/work (MESSAGES 3 ");
    talk(rig, 1, "t UNSUBSCRIBE shared/alice/work\r\n", "OK");
    forget(rig, 1);
    append(rig, 0, "work", LETTER);
    bob_hears_nothing(rig);
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
    talk(rig, 0, "d SETACL work carol lr\r\n", "OK");
    bob_hears_nothing(rig);
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
    talk(rig, 0, "h SETACL play bob \"\"\r\n", "OK");
    hear(rig, 1, "* LIST (\\NonExistent \\HasNoChildren) \"/\" shared/alice/play\r\n");
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
    talk(rig, 0, "d SETMETADATA INBOX (/shared/comment \"x\")\r\n", "OK");
    bob_hears_nothing(rig);
    log_in_as(rig, 2, "bob");
    talk(rig, 2, "d SETMETADATA shared/alice/work (/private/comment \"his\")\r\n", "OK");
    hear(rig, 1, "* METADATA shared/alice/work /private/comment\r\n");
    talk(rig, 2, "e SETMETADATA \"\" (/private/comment \"of the server\")\r\n", "OK");
    hear(rig, 1, "* METADATA \"\" /private/comment\r\n");
}

static void a_mailbox_of_ones_own_goes_before_one_that_is_called_so(void **state)
{
    struct imap_rig *rig =
        bob_listens(state, "lr", "(subtree shared (MessageNew MessageExpunge MailboxName))");
    forget(rig, 1);
    log_in_as(rig, 2, "bob");
    talk(rig, 2, "c CREATE shared/alice/work\r\n", "NO"); /* it is hers */
    bob_hears_nothing(rig);
    append(rig, 0, "work", LETTER);
    hear(rig, 1, "* STATUS shared/alice/work (MESSAGES 3 ");
}

static void of_its_own_doing_a_client_is_not_told(void **state)
{
    static const char *const commands[] = {
        "a CREATE shared/alice/work/sub\r\n",
        "b RENAME shared/alice/work/sub shared/alice/work/new\r\n",
        "c SETACL shared/alice/work/new bob lrkxa\r\n",
        "d SUBSCRIBE shared/alice/work/new\r\n",
        "e UNSUBSCRIBE shared/alice/work/new\r\n",
        "f SETACL shared/alice/work/new bob lkxa\r\n",
        "g DELETE shared/alice/work/new\r\n",
        "h DELETEACL shared/alice/work bob\r\n"};
    struct imap_rig *rig =
        bob_listens(state, "lrwstipekxa",
                    "(subtree shared (MessageNew MessageExpunge MailboxName SubscriptionChange))");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        talk(rig, 1, commands[i], "OK");
        rig_rounds(rig, 20);
        expect_not(rig, 1, "* LIST");
    }
    bob_may(rig, "lr");
    talk(rig, 0, "e CREATE work/hers\r\n", "OK");
    hear(rig, 1, "* LIST (\\HasNoChildren) \"/\" shared/alice/work/hers\r\n");
}

static void nothing_is_told_while_a_command_comes(void **state)
{
    struct imap_rig *rig = bob_listens(state, "lr", "(subtree shared/alice " MESSAGES ")");
    forget(rig, 1);
    say(rig, 1, "x NOOP");
    append(rig, 0, "work", LETTER);
    rig_rounds(rig, 20);
    assert_int_equal(rig->clients[1].heard_bytes, 0);
    bob_may(rig, "");
    rig_rounds(rig, 20);
    say(rig, 1, "\r\n");
    hear(rig, 1, "x OK");
    hear(rig, 1, "* LIST (\\NoAccess) \"/\" shared/alice/work\r\n");
    expect_not(rig, 1, "STATUS");
}

/* However much happens meanwhile, he is told the difference, and nobody waits for him. */
static void a_client_that_does_not_read_holds_nobody_up(void **state)
{
    struct imap_rig *rig = bob_listens(
        state, "lr", "(subtree shared (MessageNew MessageExpunge FlagChange MailboxName))");
    forget(rig, 1);
    say(rig, 1, "x NOOP");
    rig_rounds(rig, 5);
    for (unsigned i = 0; i < 300; i++) {
        append(rig, 0, "work", LETTER);
    }
    for (unsigned i = 0; i < 50; i++) {
        talk(rig, 0, "r RENAME work play\r\n", "OK");
        talk(rig, 0, "s RENAME play work\r\n", "OK");
    }
    say(rig, 1, "\r\n");
    hear(rig, 1, "x OK");
    hear(rig, 1, "* STATUS shared/alice/work (MESSAGES 302 UIDNEXT 303 ");
    expect_not(rig, 1, "LIST");
    forget(rig, 1);
    bob_hears_nothing(rig);
}

static void of_messages_that_he_has_put_there_himself_a_client_is_not_told(void **state)
{
    struct imap_rig *rig =
        bob_listens(state, "lrsi", "(subtree shared (MessageNew MessageExpunge))");
    append(rig, 1, "INBOX", LETTER);
    forget(rig, 1);
    append(rig, 1, "shared/alice/work", LETTER);
    talk(rig, 1, "s SELECT INBOX\r\n", "OK");
    talk(rig, 1, "c COPY 1 shared/alice/work\r\n", "OK [COPYUID ");
    talk(rig, 1, "m APPEND shared/alice/work {1+}\r\na {1+}\r\nb\r\n", "OK [APPENDUID ");
    expect_not(rig, 1, "STATUS");
    forget(rig, 1);
    bob_hears_nothing(rig);
    append(rig, 0, "work", LETTER);
    hear(rig, 1, "* STATUS shared/alice/work (MESSAGES 7 ");
    forget(rig, 1);
    say(rig, 1, "x NOOP"); /* others' among them are told of */
    append(rig, 0, "work", LETTER);
    rig_rounds(rig, 10);
    say(rig, 1, "\r\nd APPEND shared/alice/work {1+}\r\na\r\n");
    hear(rig, 1, "* STATUS shared/alice/work (MESSAGES 9 ");
}

/* ---- The mailbox that is selected ---- */

static void the_selected_mailbox_is_told_of_as_it_is_asked_for(void **state)
{
    struct imap_rig *rig =
        bob_listens(state, "lrs", "(selected (MessageNew (UID FLAGS) MessageExpunge FlagChange))");
    talk(rig, 1, "s SELECT shared/alice/work\r\n", "OK");
    talk(rig, 0, "s SELECT work\r\n", "OK");
    forget(rig, 1);
    append(rig, 0, "work", LETTER);
    hear(rig, 1, "* 3 EXISTS\r\n");
    hear(rig, 1, "* 3 FETCH (UID 3 FLAGS ())\r\n");
    talk(rig, 0, "t STORE 2 +FLAGS (\\Flagged)\r\n", "OK");
    hear(rig, 1, "* 2 FETCH (UID 2 FLAGS (\\Flagged))\r\n");
    talk(rig, 0, "u STORE 1 +FLAGS (\\Deleted)\r\n", "OK");
    talk(rig, 0, "e EXPUNGE\r\n", "OK");
    hear(rig, 1, "* 1 EXPUNGE\r\n");
    talk(rig, 1, "n NOTIFY SET (selected-delayed " MESSAGES ")\r\n", "OK");
    forget(rig, 1);
    talk(rig, 0, "v STORE 1 +FLAGS (\\Deleted)\r\n", "OK");
    talk(rig, 0, "e EXPUNGE\r\n", "OK");
    append(rig, 0, "work", LETTER);
    hear(rig, 1, "* 3 EXISTS\r\n"); /* numbers stay until he asks */
    expect_not(rig, 1, "FETCH");
    expect_not(rig, 1, "EXPUNGE");
    talk(rig, 1, "f NOOP\r\n", "OK");
    expect(rig, 1, "* 1 EXPUNGE\r\n");
}

static void the_selected_mailbox_stays_as_it_was_until_it_is_asked_for(void **state)
{
    struct imap_rig *rig = bob_listens(state, "lrs", "(personal " MESSAGES ")");
    talk(rig, 1, "s SELECT shared/alice/work\r\n", "OK");
    forget(rig, 1);
    append(rig, 0, "work", LETTER);
    talk(rig, 1, "a NOOP\r\n", "OK");
    expect_not(rig, 1, "* ");
    talk(rig, 1, "b NOTIFY SET (personal " MESSAGES ")\r\n", "OK"); /* once */
    expect(rig, 1, "* 3 EXISTS\r\n");
    append(rig, 0, "work", LETTER);
    talk(rig, 1, "c NOTIFY NONE\r\n", "OK");
    talk(rig, 1, "d NOOP\r\n", "OK");
    expect_not(rig, 1, "EXISTS");
    talk(rig, 1, "e NOTIFY SET (selected " MESSAGES ")\r\n", "OK");
    expect(rig, 1, "* 4 EXISTS\r\n");
    forget(rig, 1);
    append(rig, 0, "work", LETTER);
    hear(rig, 1, "* 5 EXISTS\r\n");
    talk(rig, 1, "f NOTIFY NONE\r\n", "OK");
    talk(rig, 1, "s SELECT shared/alice/work\r\n", "OK");
    append(rig, 0, "work", LETTER);
    talk(rig, 1, "d NOOP\r\n", "OK");
    expect_not(rig, 1, "EXISTS");
}

/* All that is under way has its bounds; what he was told of last he hears of when he reads. */
static void a_client_that_does_not_read_is_told_the_selected_mailbox_later(void **state)
{
    enum { LETTERS = 120, LETTER_BYTES = 20000 };
    static char letter[LETTER_BYTES + 1];
    struct imap_rig *rig =
        bob_listens(state, "lr", "(selected (MessageNew (UID BODY.PEEK[]) MessageExpunge))");
    struct imap_client *bob = &rig->clients[1];
    char last[64];
    memset(letter, 'x', LETTER_BYTES);
    memcpy(letter, "A: b\r\n\r\n", 8);
    talk(rig, 1, "s SELECT shared/alice/work\r\n", "OK");
    bob->deaf = true;
    for (unsigned i = 0; i < LETTERS; i++) {
        append(rig, 0, "work", letter);
    }
    rig_rounds(rig, 100);
    bob->deaf = false;
    rig_hear(bob->stream, 0, bob);
    snprintf(last, sizeof(last), "* %u FETCH (BODY[] {", (unsigned)LETTERS + 2);
    hear(rig, 1, last);
    expect(rig, 1, "* 3 FETCH (BODY[] {");
    talk(rig, 1, "n NOOP\r\n", "OK");
}

/* A message that says what a server would say of one, and another whose items are those that COPY asks for. */
static void what_is_told_of_new_messages_is_not_copied(void **state)
{
    struct imap_rig *rig = bob_listens(state, "lrs",
                                       "(selected (MessageNew (UID FLAGS INTERNALDATE BODY.PEEK[] "
                                       "BODY.PEEK[TEXT]) MessageExpunge))");
    append(rig, 1, "INBOX", LETTER);
    talk(rig, 1, "s SELECT shared/alice/work\r\n", "OK");
    forget(rig, 1);
    say(rig, 1, "c COPY 1:2 INBO"); /* what is told now is heard when it is under way */
    append(rig, 0, "work",
           "* 1 FETCH (UID 1 FLAGS () INTERNALDATE \"17-Jul-1996 02:44:25 -0700\" BODY[] {10}\r\n");
    append(rig, 0, "work",
           "A: b\r\n\r\n* 1 FETCH (UID 1 FLAGS () INTERNALDATE \"17-Jul-1996 02:44:25 -0700\" "
           "BODY[] {10}\r\n");
    rig_rounds(rig, 20);
    assert_int_equal(rig->clients[1].heard_bytes, 0);
    say(rig, 1, "X\r\n");
    hear(rig, 1, "c OK [COPYUID ");
    expect(rig, 1, " 1:2 2:3]");
    expect(rig, 1, "* 4 FETCH (BODY[] {");
    expect(rig, 1, " BODY[TEXT] {81}\r\n* 1 FETCH (UID 1 FLAGS () ");
    talk(rig, 1, "t STATUS INBOX (MESSAGES)\r\n", "OK");
    expect(rig, 1, "(MESSAGES 3)");
}

/* Its numbers move by his own commands, and by nothing else. */
static void what_he_takes_away_himself_is_told_of_a_mailbox_that_stays_as_it_was(void **state)
{
    struct imap_rig *rig = bob_listens(state, "lrswite", "(personal (MailboxName))");
    append(rig, 1, "INBOX", LETTER);
    append(rig, 0, "work", LETTER);
    talk(rig, 1, "s SELECT shared/alice/work\r\n", "OK");
    append(rig, 0, "work", LETTER);
    talk(rig, 1, "m MOVE 1 INBOX\r\n", "OK");
    expect(rig, 1, "] Moved\r\n");
    expect(rig, 1, "* 1 EXPUNGE\r\n");
    talk(rig, 1, "t STORE 1 +FLAGS.SILENT (\\Deleted)\r\n", "OK");
    talk(rig, 1, "e EXPUNGE\r\n", "OK");
    expect(rig, 1, "* 1 EXPUNGE\r\n");
    expect_not(rig, 1, "EXISTS");
    talk(rig, 1, "f FETCH 1 (UID)\r\n", "OK");
    expect(rig, 1, "* 1 FETCH (UID 3)\r\n");
    talk(rig, 1, "f FETCH 2 (UID)\r\n", "BAD"); /* which he has not been told of */
}

static void of_the_selected_mailbox_there_is_no_status(void **state)
{
    struct imap_rig *rig = bob_listens(
        state, "lrs",
        "(selected " MESSAGES ") (subtree shared (MessageNew MessageExpunge MailboxName))");
    talk(rig, 1, "s SELECT shared/alice/work\r\n", "OK");
    forget(rig, 1);
    append(rig, 0, "work", LETTER);
    hear(rig, 1, "* 3 EXISTS\r\n");
    rig_rounds(rig, 20);
    expect_not(rig, 1, "STATUS");
    talk(rig, 0, "r RENAME work play\r\n", "OK"); /* it stays selected */
    hear(rig, 1, "* LIST (\\HasNoChildren) \"/\" shared/alice/play (\"OLDNAME\"");
    append(rig, 0, "play", LETTER);
    hear(rig, 1, "* 4 EXISTS\r\n");
    rig_rounds(rig, 20);
    expect_not(rig, 1, "STATUS");
    talk(rig, 1, "u UNSELECT\r\n", "OK");
    append(rig, 0, "play", LETTER);
    hear(rig, 1, "* STATUS shared/alice/play (MESSAGES 5 ");
}

/* ---- Too much, and ends ---- */

static void too_many_mailboxes_of_another_shard_end_it(void **state)
{
    struct imap_rig *rig = bob_listens(
        state, "lr",
        "(selected " MESSAGES ") (subtree shared (MessageNew MessageExpunge MailboxName))");
    char command[400];
    talk(rig, 1, "s SELECT shared/alice/work\r\n", "OK");
    say(rig, 1, "i IDLE\r\n");
    for (unsigned i = 0; i < 1500; i++) {
        snprintf(command, sizeof(command), "c CREATE work/%0200u\r\n", i);
        talk(rig, 0, command, "OK");
    }
    hear(rig, 1, "* OK [NOTIFICATIONOVERFLOW]");
    rig_rounds(rig, 30);
    assert_int_equal(sessions_on(0), 2); /* alice's, and who has the selected mailbox */
    append(rig, 0, "work", LETTER);
    hear(rig, 1, "* 3 EXISTS\r\n");
    say(rig, 1, "DONE\r\n");
    hear(rig, 1, "i OK");
    talk(rig, 1, "b NOOP\r\n", "OK");
    forget(rig, 1);
    append(rig, 0, "work", LETTER);
    bob_hears_nothing(rig);
    talk(rig, 1, "a NOOP\r\n", "OK");
    expect_not(rig, 1, "* ");
    talk(rig, 1, "n NOTIFY SET (subtree shared (MessageNew MessageExpunge MailboxName))\r\n", "OK");
    expect(rig, 1, "* OK [NOTIFICATIONOVERFLOW]");
    talk(rig, 1, "n NOTIFY SET (selected " MESSAGES ")\r\n", "OK");
    expect_not(rig, 1, "OVERFLOW");
}

static void watchers_end_with_what_they_were_for(void **state)
{
    static const char *const ends[] = {"e NOTIFY NONE\r\n",
                                       "e NOTIFY SET (personal " MESSAGES ")\r\n",
                                       "e UNAUTHENTICATE\r\n", "e LOGOUT\r\n"};
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lr");
    assert_int_equal(sessions_on(0), 1);
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        talk(rig, 1, "n NOTIFY SET (subtree shared " MESSAGES ")\r\n", "OK");
        assert_int_equal(sessions_on(0), 2);
        talk(rig, 1, ends[i], "OK");
        rig_rounds(rig, 20);
        assert_int_equal(sessions_on(0), 1);
        if (i == 2) {
            talk(rig, 1, "l LOGIN bob secret\r\n", "OK");
        }
    }
    assert_true(crossing_is_quiet(imap_shards.crossings[0]));
}

static void who_is_cut_off_leaves_nothing(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lr");
    for (unsigned rounds = 0; rounds < 12; rounds++) {
        log_in_as(rig, 2, "bob");
        say(rig, 2,
            "n NOTIFY SET STATUS (selected " MESSAGES ") (subtree shared " MESSAGES ")\r\n");
        rig_rounds(rig, rounds);
        stream_abort(rig->clients[2].stream);
        stream_release(rig->clients[2].stream);
        rig->clients[2].stream = NULL;
        rig_rounds(rig, 20);
        assert_int_equal(sessions_on(0), 1);
        assert_int_equal(sessions_on(1), 1);
    }
}

static void the_end_of_a_watcher_is_told(void **state)
{
    struct imap_rig *rig = bob_listens(state, "lr", "(subtree shared " MESSAGES ")");
    forget(rig, 1);
    agents_abort(0);
    hear(rig, 1, "* OK [NOTIFICATIONOVERFLOW]");
    talk(rig, 1, "a NOOP\r\n", "OK");
    talk(rig, 1, "n NOTIFY SET STATUS (subtree shared " MESSAGES ")\r\n", "OK");
    expect(rig, 1, "* STATUS shared/alice/work (MESSAGES 2 ");
    forget(rig, 1);
    append(rig, 0, "work", LETTER);
    hear(rig, 1, "* STATUS shared/alice/work (MESSAGES 3 ");
}

static void a_shard_that_cannot_be_reached_is_told_of_and_what_was_set_stays(void **state)
{
    struct imap_rig *rig = bob_listens(state, "lr", "(personal " MESSAGES ")");
    imap_shards.rigs[0]->mailbox.left = true;
    talk(rig, 1, "n NOTIFY SET (subtree shared " MESSAGES ")\r\n", "NO [UNAVAILABLE]");
    imap_shards.rigs[0]->mailbox.left = false;
    forget(rig, 1);
    log_in_as(rig, 2, "bob");
    append(rig, 2, "INBOX", LETTER);
    hear(rig, 1, "* STATUS INBOX (MESSAGES 1 ");
}

static void whatever_memory_is_missing_the_client_is_answered(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lr");
    for (int left = 0; left < 6; left++) {
        made_left = left;
        say(rig, 1,
            "n NOTIFY SET STATUS (selected " MESSAGES ") (subtree shared " MESSAGES ")\r\n");
        hear(rig, 1, "n ");
        say(rig, 1, "s SELECT shared/alice/work\r\n");
        hear(rig, 1, "s ");
        made_left = -1;
        talk(rig, 1, "x NOOP\r\n", "OK");
    }
    talk(rig, 1, "n NOTIFY SET STATUS (subtree shared " MESSAGES ")\r\n", "OK");
    talk(rig, 1, "u UNSELECT\r\n", "OK");
    append(rig, 0, "work", LETTER);
    hear(rig, 1, "* STATUS shared/alice/work (MESSAGES 3 ");
}

int main(void)
{
#define SCENE(name) cmocka_unit_test_setup_teardown(name, imap_shards_set_up, imap_shards_tear_down)
    const struct CMUnitTest tests[] = {
        SCENE(messages_of_another_are_told_under_his_name),
        SCENE(which_mailboxes_are_named),
        SCENE(the_inbox_of_another_has_its_name_in_any_letters),
        SCENE(names_have_any_letters),
        SCENE(a_subscription_is_enough_and_can_come_later),
        SCENE(of_what_he_subscribes_to_himself_a_client_is_told_messages),
        SCENE(what_may_not_be_seen_is_ignored_and_what_may_not_be_read_is_said),
        SCENE(who_shares_for_the_first_time_is_heard_of),
        SCENE(entries_of_others_mailboxes_are_named),
        SCENE(a_mailbox_of_ones_own_goes_before_one_that_is_called_so),
        SCENE(of_its_own_doing_a_client_is_not_told),
        SCENE(nothing_is_told_while_a_command_comes),
        SCENE(a_client_that_does_not_read_holds_nobody_up),
        SCENE(what_is_told_by_name_is_what_list_shows),
        SCENE(of_messages_that_he_has_put_there_himself_a_client_is_not_told),
        SCENE(the_selected_mailbox_is_told_of_as_it_is_asked_for),
        SCENE(the_selected_mailbox_stays_as_it_was_until_it_is_asked_for),
        SCENE(a_client_that_does_not_read_is_told_the_selected_mailbox_later),
        SCENE(what_is_told_of_new_messages_is_not_copied),
        SCENE(what_he_takes_away_himself_is_told_of_a_mailbox_that_stays_as_it_was),
        SCENE(of_the_selected_mailbox_there_is_no_status),
        SCENE(too_many_mailboxes_of_another_shard_end_it),
        SCENE(watchers_end_with_what_they_were_for),
        SCENE(who_is_cut_off_leaves_nothing),
        SCENE(the_end_of_a_watcher_is_told),
        SCENE(a_shard_that_cannot_be_reached_is_told_of_and_what_was_set_stays),
        SCENE(whatever_memory_is_missing_the_client_is_answered),
    };
    const struct memory_settings memory = {.program = "test_imap_notify_abroad", .megabytes = 64};
    check(memory_start(&memory) == 0);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    memory_stop();
    return failed;
}
