/* imap_shared, imap_access: mailboxes of others as a session shows them, and how it ends when they are taken away. */
#include "engine/shard/memory.h"
#include "tests/unit/imap_shards.h"
#include "tests/unit/imap_two.h"

/* ---- What there is ---- */

static void others_mailboxes_are_listed_where_they_may_be_looked_up(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    talk(rig, 0, "a CREATE secret\r\n", "OK");
    talk(rig, 0, "b CREATE top/deep (USE (\\Archive))\r\n", "OK");
    talk(rig, 1, "c LIST \"\" *\r\n", "OK");
    expect_not(rig, 1, "shared");
    bob_may(rig, "r");
    talk(rig, 1, "d LIST \"\" *\r\n", "OK");
    expect_not(rig, 1, "shared");
    bob_may(rig, "l");
    talk(rig, 0, "e SETACL top/deep bob lr\r\n", "OK");
    talk(rig, 1, "f LIST \"\" *\r\n", "OK");
    expect(rig, 1, "* LIST (\\HasNoChildren) \"/\" shared/alice/work\r\n");
    expect(rig, 1, "* LIST (\\HasNoChildren) \"/\" shared/alice/top/deep\r\n");
    expect(rig, 1, "* LIST (\\Noselect \\HasChildren) \"/\" shared/alice\r\n");
    expect_not(rig, 1, "secret");
    talk(rig, 1, "g LIST \"\" %\r\n", "OK");
    expect(rig, 1, "* LIST (\\Noselect \\HasChildren) \"/\" shared\r\n");
    expect_not(rig, 1, "alice");
    talk(rig, 1, "h LIST \"\" shared/%\r\n", "OK");
    expect(rig, 1, "* LIST (\\Noselect \\HasChildren) \"/\" shared/alice\r\n");
    talk(rig, 1, "i LIST shared/ alice/w%\r\n", "OK");
    expect(rig, 1, "shared/alice/work\r\n");
    talk(rig, 1, "j LIST \"\" INBOX*\r\n", "OK");
    expect_not(rig, 1, "shared");
    talk(rig, 1, "k NAMESPACE\r\n", "OK");
    expect(rig, 1, "* NAMESPACE ((\"\" \"/\")) ((\"shared/\" \"/\")) NIL\r\n");
    talk(rig, 0, "l LIST \"\" *\r\n", "OK");
    expect_not(rig, 0, "shared");
}

static void list_returns_rights_status_and_metadata_of_what_may_be_read(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "l");
    talk(rig, 1,
         "a LIST \"\" shared/* RETURN (STATUS (MESSAGES) MYRIGHTS METADATA (/shared/x))\r\n", "OK");
    expect(rig, 1, "* MYRIGHTS shared/alice/work l\r\n");
    expect_not(rig, 1, "* STATUS");
    expect_not(rig, 1, "* METADATA");
    bob_may(rig, "lr");
    talk(rig, 1,
         "b LIST \"\" shared/* RETURN (STATUS (MESSAGES) MYRIGHTS METADATA (/shared/x))\r\n", "OK");
    expect(rig, 1, "* STATUS shared/alice/work (MESSAGES 2)\r\n");
    expect(rig, 1, "* METADATA shared/alice/work (/shared/x NIL)\r\n");
    talk(rig, 0, "c LIST \"\" work RETURN (MYRIGHTS)\r\n", "OK");
    expect(rig, 0, "* MYRIGHTS work lrwstipekxacd\r\n");
}

static unsigned looked_for_by_id;

struct mailstore_box *__real_mailstore_box_by_id(struct mailstore_user *user, uint64_t id);
struct mailstore_box *__wrap_mailstore_box_by_id(struct mailstore_user *user, uint64_t id);

struct mailstore_box *__wrap_mailstore_box_by_id(struct mailstore_user *user, uint64_t id)
{
    looked_for_by_id++;
    return __real_mailstore_box_by_id(user, id);
}

/* Thousands of one owner would take the square of that: by its id a mailbox is looked for among all of them. */
static void many_of_one_owner_are_found_by_their_names(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    char command[64];
    bob_may(rig, "lr");
    talk(rig, 1, "s SUBSCRIBE shared/alice/work\r\n", "OK");
    for (unsigned i = 0; i < 20; i++) {
        snprintf(command, sizeof(command), "c CREATE work/%u\r\n", i);
        talk(rig, 0, command, "OK");
    }
    talk(rig, 0, "a SETACL INBOX bob lr\r\n", "OK");
    looked_for_by_id = 0;
    talk(rig, 1, "l LIST \"\" * RETURN (STATUS (MESSAGES))\r\n", "OK");
    expect(rig, 1, "* STATUS shared/alice/work (MESSAGES 2)\r\n");
    expect(rig, 1, "* STATUS shared/alice/work/19 (MESSAGES 0)\r\n");
    assert_int_equal(looked_for_by_id, 0);
}

static void everybody_sees_what_anyone_may(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    talk(rig, 0, "a SETACL work anyone lr\r\n", "OK");
    talk(rig, 0, "b SETACL work bob i\r\n", "OK");
    talk(rig, 1, "c LIST \"\" *\r\n", "OK");
    const char *first = strstr(rig->clients[1].heard, "shared/alice/work\r\n");
    assert_non_null(first);
    assert_null(strstr(first + 1, "shared/alice/work\r\n"));
    talk(rig, 0, "d SETACL work -bob l\r\n", "OK");
    talk(rig, 1, "e LIST \"\" *\r\n", "OK");
    expect_not(rig, 1, "shared");
}

static void others_mailboxes_are_subscribed_to_by_who_reads_them(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lr");
    talk(rig, 1, "a SUBSCRIBE shared/alice/work\r\n", "OK");
    talk(rig, 1, "b LSUB \"\" *\r\n", "OK");
    expect(rig, 1, "* LSUB () \"/\" shared/alice/work\r\n");
    talk(rig, 1, "c LIST (SUBSCRIBED) \"\" * RETURN (CHILDREN)\r\n", "OK");
    expect(rig, 1, "* LIST (\\HasNoChildren \\Subscribed) \"/\" shared/alice/work\r\n");
    talk(rig, 0, "d LSUB \"\" *\r\n", "OK");
    expect_not(rig, 0, "work");
    bob_may(rig, "");
    talk(rig, 1, "e LIST (SUBSCRIBED) \"\" *\r\n", "OK");
    expect(rig, 1,
           "* LIST (\\NonExistent \\HasNoChildren \\Subscribed) \"/\" shared/alice/work\r\n");
    talk(rig, 1, "f UNSUBSCRIBE shared/alice/work\r\n", "OK");
}

static void a_mailbox_of_one_s_own_goes_before(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    rig->conf->imap.shared_namespace = "off";
    talk(rig, 1, "a CREATE shared/alice/work\r\n", "OK");
    bob_may(rig, "lr");
    talk(rig, 1, "b NAMESPACE\r\n", "OK");
    expect(rig, 1, "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
    rig->conf->imap.shared_namespace = "shared";
    talk(rig, 1, "c SELECT shared/alice/work\r\n", "OK");
    expect(rig, 1, "* 0 EXISTS\r\n");
    talk(rig, 1, "d DELETE shared/alice/work\r\n", "OK");
    talk(rig, 1, "e SELECT shared/alice/work\r\n", "OK");
    expect(rig, 1, "* 2 EXISTS\r\n");
    talk(rig, 1, "f CREATE shared/alice/own\r\n", "NO [NOPERM]");
}

static void the_namespace_has_the_name_that_is_configured(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lr");
    rig->conf->imap.shared_namespace = "Other";
    talk(rig, 1, "a NAMESPACE\r\n", "OK");
    expect(rig, 1, "((\"Other/\" \"/\"))");
    talk(rig, 1, "b LIST \"\" *\r\n", "OK");
    expect(rig, 1, "Other/alice/work\r\n");
    talk(rig, 1, "c SELECT Other/alice/work\r\n", "OK");
    talk(rig, 1, "d SELECT shared/alice/work\r\n", "NO [NONEXISTENT]");
    rig->conf->imap.shared_namespace = "off";
    talk(rig, 1, "e SELECT Other/alice/work\r\n", "NO [NONEXISTENT]");
    talk(rig, 1, "f LIST \"\" *\r\n", "OK");
    expect_not(rig, 1, "alice");
}

static void the_name_is_the_one_that_the_user_knows(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lr");
    talk(rig, 1, "a ENABLE IMAP4rev2\r\n", "OK");
    talk(rig, 1, "b SELECT shared/alice/work\r\n", "OK");
    expect(rig, 1, "* LIST () \"/\" shared/alice/work\r\n");
    talk(rig, 1, "c SELECT shared/Alice/work\r\n", "NO [NONEXISTENT]");
    talk(rig, 1, "d SELECT shared/alice\r\n", "NO [NONEXISTENT]");
    talk(rig, 1, "e SELECT shared\r\n", "NO [NONEXISTENT]");
    talk(rig, 1, "f SELECT shared/bob/INBOX\r\n", "NO [NONEXISTENT]");
    talk(rig, 0, "g SETACL INBOX bob lr\r\n", "OK");
    talk(rig, 1, "h SELECT shared/alice/inbox\r\n", "OK");
}

static void what_is_put_into_it_is_counted_as_the_owner_s(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    char command[1200];
    bob_may(rig, "lri");
    rig->conf->users.quota_bytes = 1000;
    snprintf(command, sizeof(command), "a APPEND INBOX {800+}\r\n%0800d\r\n", 1);
    talk(rig, 1, command, "OK"); /* it is bob's own */
    memcpy(command, "b APPEND INBOX", 14);
    talk(rig, 1, command, "NO [OVERQUOTA]");
    talk(rig, 1, "c SELECT INBOX\r\n", "OK");
    talk(rig, 1, "d COPY 1 shared/alice/work\r\n", "OK [COPYUID"); /* alice has room */
    talk(rig, 1, "e COPY 1 shared/alice/work\r\n", "NO [OVERQUOTA]");
    snprintf(command, sizeof(command), "f APPEND shared/alice/work {800+}\r\n%0800d\r\n", 1);
    talk(rig, 1, command, "NO [OVERQUOTA]");
    talk(rig, 1, "g GETQUOTAROOT shared/alice/work\r\n", "OK");
    expect(rig, 1, "* QUOTAROOT shared/alice/work\r\n");
    expect_not(rig, 1, "* QUOTA ");
}

static void what_a_url_copies_is_measured_by_the_owner_s_room(void **state)
{
    static struct conf_quota_rule apart[] = {{.mailbox = "apart", .counted = false}};
    struct imap_rig *rig = alice_and_bob(state);
    char command[1200];
    bob_may(rig, "lri");
    talk(rig, 1, "a CREATE apart\r\n", "OK");
    rig->conf->users.quota_bytes = 1000;
    snprintf(command, sizeof(command), "b APPEND INBOX {800+}\r\n%0800d\r\n", 1);
    talk(rig, 1, command, "OK");
    talk(rig, 1, "c SELECT INBOX\r\n", "OK");
    talk(rig, 1, "d APPEND shared/alice/work CATENATE (URL \";UID=1\")\r\n", "OK");
    say(rig, 1, "e APPEND shared/alice/work CATENATE (URL \";UID=1/;PARTIAL=0.180\" TEXT {1}\r\n");
    hear(rig, 1, "e NO [OVERQUOTA]"); /* the text is not asked for, and bob had room */
    talk(rig, 1, "f APPEND apart CATENATE (URL \";UID=1\")\r\n", "NO [OVERQUOTA]");
    rig->conf->users.quota_rules = apart;
    rig->conf->users.quota_rules_count = 1;
    talk(rig, 1, "g APPEND apart CATENATE (URL \";UID=1\")\r\n", "OK");
    rig->conf->users.quota_rules = NULL;
    rig->conf->users.quota_rules_count = 0;
}

/* ---- Changes ---- */

static void changes_by_others_are_told_at_once(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lrs");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    say(rig, 1, "b IDLE\r\n");
    hear(rig, 1, "+ ");
    append(rig, 0, "work", "third\r\n");
    hear(rig, 1, "* 3 EXISTS");
    talk(rig, 0, "c SELECT work\r\n", "OK");
    talk(rig, 0, "d STORE 1 +FLAGS (\\Deleted)\r\n", "OK");
    hear(rig, 1, "* 1 FETCH (FLAGS (\\Deleted))");
    talk(rig, 0, "e EXPUNGE\r\n", "OK");
    hear(rig, 1, "* 1 EXPUNGE");
    say(rig, 1, "DONE\r\n");
    hear(rig, 1, "b OK");
    say(rig, 0, "f IDLE\r\n");
    hear(rig, 0, "+ ");
    talk(rig, 1, "g STORE 1 +FLAGS (\\Seen)\r\n", "OK");
    hear(rig, 0, "* 1 FETCH (FLAGS (\\Seen))");
}

static void other_flags_that_can_be_stored_are_told(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lr");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK [READ-ONLY]");
    bob_may(rig, "lrsw");
    talk(rig, 1, "b NOOP\r\n", "OK");
    expect(rig, 1, "* OK [PERMANENTFLAGS (\\Seen \\Answered \\Flagged \\Draft \\*)]");
    talk(rig, 1, "c STORE 1 +FLAGS (\\Seen)\r\n", "OK");
    say(rig, 1, "d IDLE\r\n");
    hear(rig, 1, "+ ");
    bob_may(rig, "lr");
    hear(rig, 1, "* OK [PERMANENTFLAGS ()]");
}

/* ---- The right is taken ---- */

static void what_is_replaced_or_copied_by_url_needs_the_rights_to_it(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lri");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    talk(rig, 1, "b UID REPLACE 1 shared/alice/work {4+}\r\na: b\r\n", "NO [NOPERM]");
    bob_may(rig, "lrite");
    talk(rig, 1, "c UID REPLACE 1 INBOX {4+}\r\na: b\r\n", "NO [CANNOT]");
    talk(rig, 1, "d UID REPLACE 1 shared/alice/work {4+}\r\na: b\r\n", "OK");
    expect(rig, 1, "* 1 EXPUNGE\r\n");
    talk(rig, 1, "e APPEND INBOX CATENATE (URL \"/shared/alice/work/;UID=2\")\r\n",
         "OK [APPENDUID ");
    talk(rig, 1, "f SELECT INBOX\r\n", "OK");
    bob_may(rig, "l");
    talk(rig, 1, "g APPEND INBOX CATENATE (URL \"/shared/alice/work/;UID=2\")\r\n", "NO [BADURL ");
}

static void a_replace_needs_its_rights_still_when_the_message_has_come(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lrite");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    say(rig, 1, "b UID REPLACE 1 shared/alice/work {4}\r\n");
    hear(rig, 1, "+ ");
    bob_may(rig, "lri");
    say(rig, 1, "a: b\r\n");
    hear(rig, 1, "b NO [NOPERM]");
    talk(rig, 0, "c STATUS work (MESSAGES UIDNEXT)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 2 UIDNEXT 3)");
    assert_int_equal(mailstore_counters(rig->store.store)->drafts, 0);
}

static void a_url_is_read_beside_the_mailbox_that_is_selected_whosever_it_is(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    talk(rig, 0, "a CREATE deep/er\r\n", "OK");
    append(rig, 0, "deep/er", "Subject: deep\r\n\r\ndeeper\r\n");
    talk(rig, 0, "b SETACL deep/er bob lr\r\n", "OK");
    talk(rig, 1, "c CREATE work\r\n", "OK");
    append(rig, 1, "work", "Subject: own\r\n\r\nmine\r\n");
    bob_may(rig, "lr");
    talk(rig, 1, "d SELECT shared/alice/work\r\n", "OK");
    talk(rig, 1, "e APPEND INBOX CATENATE (URL \";UID=1\" URL \"deep/er/;UID=1\")\r\n", "OK");
    talk(rig, 1, "f SELECT INBOX\r\n", "OK");
    talk(rig, 1, "g FETCH 1 BODY[]\r\n", "OK");
    expect(rig, 1, "first\r\nSubject: deep\r\n\r\ndeeper\r\n");
    expect_not(rig, 1, "mine");
}

static void expect_bye(struct imap_rig *rig, unsigned index)
{
    hear(rig, index, "* BYE [NOPERM]");
    for (int i = 0; i < 100 && !rig->clients[index].closed; i++) {
        rig_round(rig);
    }
    assert_true(rig->clients[index].closed);
}

static void a_session_ends_at_once_when_its_mailbox_is_taken_away(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lr");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    bob_may(rig, "l");
    expect_bye(rig, 1);
    log_in_as(rig, 2, "bob");
    talk(rig, 2, "b SELECT shared/alice/work\r\n", "NO [NOPERM]");
}

static void a_session_that_idles_ends_too(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lr");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    say(rig, 1, "b IDLE\r\n");
    hear(rig, 1, "+ ");
    talk(rig, 0, "c SETACL work -bob r\r\n", "OK");
    expect_bye(rig, 1);
}

static void a_text_that_is_under_way_is_cut(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    const size_t size = 6u << 20;
    char *command = (char *)malloc(size + 100);
    check(command != NULL);
    int head = snprintf(command, 100, "a APPEND work {%zu+}\r\n", size);
    memset(command + head, 'x', size);
    memcpy(command + (size_t)head + size, "\r\n", 3);
    talk(rig, 0, command, "OK");
    bob_may(rig, "lr");
    talk(rig, 1, "b SELECT shared/alice/work\r\n", "OK");
    rig->clients[1].deaf = true;
    say(rig, 1, "c FETCH 3 BODY[]\r\n");
    rig_rounds(rig, 50);
    bob_may(rig, "");
    rig->clients[1].deaf = false;
    for (int i = 0; i < 200 && !rig->clients[1].closed; i++) {
        rig_round(rig);
        rig_hear(rig->clients[1].stream, 0, &rig->clients[1]);
    }
    assert_true(rig->clients[1].closed);
    assert_true(rig->clients[1].heard_bytes < size);
    expect_not(rig, 1, "BYE");
    free(command);
}

static void who_takes_it_from_himself_is_answered_first(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lra");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    say(rig, 1, "b DELETEACL shared/alice/work bob\r\n");
    hear(rig, 1, "b OK");
    expect_bye(rig, 1);
    assert_true(strstr(rig->clients[1].heard, "b OK") < strstr(rig->clients[1].heard, "* BYE"));
}

/* All three are durable in one round: what came behind the loss is not told with the answer. */
static void nothing_is_told_between_the_loss_and_the_end(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lr");
    log_in_as(rig, 2, "alice");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    say(rig, 0, "b DELETEACL work bob\r\n");
    say(rig, 2, "c APPEND work {5+}\r\nthird\r\n");
    say(rig, 1, "d CREATE mine\r\n");
    hear(rig, 1, "d OK");
    expect_bye(rig, 1);
    expect_not(rig, 1, "EXISTS");
    hear(rig, 2, "c OK");
}

/* Both are durable in one round: the change is answered, what was sent behind it is not. */
static void what_is_sent_behind_a_change_is_not_done_when_the_right_was_taken(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lrs");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    say(rig, 0, "b DELETEACL work bob\r\n");
    say(rig, 1, "c STORE 1 +FLAGS (\\Seen)\r\nd FETCH 1 BODY[]\r\n");
    hear(rig, 1, "c OK");
    expect_bye(rig, 1);
    expect_not(rig, 1, "FETCH");
    expect_not(rig, 1, "first");
    hear(rig, 0, "b OK");
}

static void entries_are_not_told_any_more_when_the_mailbox_is_taken_away(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    char *command = (char *)malloc(40000);
    check(command != NULL);
    sprintf(command, "a SETMETADATA work (/shared/x {16000+}\r\n%016000d)\r\n", 7);
    talk(rig, 0, command, "OK");
    bob_may(rig, "lr");
    size_t size = (size_t)sprintf(command, "b GETMETADATA shared/alice/work (/shared/x");
    for (int i = 1; i < 256; i++) {
        size += (size_t)sprintf(command + size, " /shared/x");
    }
    sprintf(command + size, ")\r\n");
    rig->clients[1].deaf = true;
    say(rig, 1, command);
    rig_rounds(rig, 20);
    bob_may(rig, "");
    rig->clients[1].deaf = false;
    rig_hear(rig->clients[1].stream, 0, &rig->clients[1]);
    hear(rig, 1, "b NO [NONEXISTENT]");
    assert_true(rig->clients[1].heard_bytes < 256 * 16000);
    free(command);
}

static void what_is_selected_stays_when_another_mailbox_is_taken_away(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lr");
    talk(rig, 0, "a CREATE work/two\r\n", "OK");
    talk(rig, 1, "b SELECT shared/alice/work\r\n", "OK");
    talk(rig, 0, "c DELETEACL work/two bob\r\n", "OK");
    talk(rig, 1, "d FETCH 1 UID\r\n", "OK");
    talk(rig, 1, "e SELECT shared/alice/work/two\r\n", "NO [NONEXISTENT]");
}

static void an_owner_s_session_ends_too_and_he_sets_it_right(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "la");
    talk(rig, 0, "a SELECT work\r\n", "OK");
    talk(rig, 1, "b SETACL shared/alice/work alice la\r\n", "OK");
    expect_bye(rig, 0);
    log_in_as(rig, 2, "alice");
    talk(rig, 2, "c DELETEACL work alice\r\n", "OK");
    talk(rig, 2, "d SELECT work\r\n", "OK [READ-WRITE]");
}

static void a_mailbox_that_is_deleted_is_told_as_such(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lr");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    say(rig, 1, "b IDLE\r\n");
    hear(rig, 1, "+ ");
    talk(rig, 0, "c DELETE work\r\n", "OK");
    hear(rig, 1, "* NO [NONEXISTENT] The mailbox has been deleted");
    say(rig, 1, "DONE\r\n");
    hear(rig, 1, "b OK");
    talk(rig, 1, "d LIST \"\" *\r\n", "OK");
    expect_not(rig, 1, "alice");
}

int main(void)
{
#define SCENE(name)                                                                                \
    cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close),                          \
    {                                                                                              \
        "on two shards: " #name, name, imap_shards_set_up, imap_shards_tear_down, NULL             \
    }
#define SCENE_HERE(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
    const struct CMUnitTest tests[] = {
        SCENE(others_mailboxes_are_listed_where_they_may_be_looked_up),
        SCENE(list_returns_rights_status_and_metadata_of_what_may_be_read),
        SCENE(many_of_one_owner_are_found_by_their_names),
        SCENE(everybody_sees_what_anyone_may),
        SCENE(others_mailboxes_are_subscribed_to_by_who_reads_them),
        SCENE(a_mailbox_of_one_s_own_goes_before),
        SCENE(the_namespace_has_the_name_that_is_configured),
        SCENE(the_name_is_the_one_that_the_user_knows),
        SCENE(what_is_put_into_it_is_counted_as_the_owner_s),
        SCENE_HERE(what_a_url_copies_is_measured_by_the_owner_s_room),
        SCENE(changes_by_others_are_told_at_once),
        SCENE(other_flags_that_can_be_stored_are_told),
        SCENE(what_is_replaced_or_copied_by_url_needs_the_rights_to_it),
        SCENE(a_replace_needs_its_rights_still_when_the_message_has_come),
        SCENE(a_url_is_read_beside_the_mailbox_that_is_selected_whosever_it_is),
        SCENE(a_session_ends_at_once_when_its_mailbox_is_taken_away),
        SCENE(a_session_that_idles_ends_too),
        SCENE(a_text_that_is_under_way_is_cut),
        SCENE(who_takes_it_from_himself_is_answered_first),
        SCENE(nothing_is_told_between_the_loss_and_the_end),
        SCENE(what_is_sent_behind_a_change_is_not_done_when_the_right_was_taken),
        SCENE(entries_are_not_told_any_more_when_the_mailbox_is_taken_away),
        SCENE(what_is_selected_stays_when_another_mailbox_is_taken_away),
        SCENE(an_owner_s_session_ends_too_and_he_sets_it_right),
        SCENE(a_mailbox_that_is_deleted_is_told_as_such),
    };
    const struct memory_settings memory = {.program = "test_imap_shared", .megabytes = 64};
    check(memory_start(&memory) == 0);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    memory_stop();
    return failed;
}
