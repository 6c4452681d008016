/* imap_metadata: GETMETADATA, SETMETADATA and LIST RETURN (METADATA), on a store that takes its time. */
#include "tests/unit/imap_rig.h"

static struct imap_rig *logged_in(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    log_in(rig, 0);
    talk(rig, 0, "cr CREATE work\r\n", "OK");
    return rig;
}

static void entries_are_set_told_and_taken(void **state)
{
    struct imap_rig *rig = logged_in(state);
    talk(rig, 0, "a CAPABILITY\r\n", "OK");
    expect(rig, 0, " METADATA LIST-METADATA");
    talk(rig, 0, "b SETMETADATA work (/private/comment \"mine\" /shared/Comment {4+}\r\nours)\r\n",
         "OK");
    talk(rig, 0, "c GETMETADATA work (/private/COMMENT /shared/comment /private/none)\r\n", "OK");
    expect(rig, 0,
           "* METADATA work (/private/comment \"mine\" /shared/comment \"ours\" "
           "/private/none NIL)\r\n");
    talk(rig, 0, "c GETMETADATA \"work\" /private/comment /shared/comment\r\n", "OK");
    expect(rig, 0, "* METADATA work (/private/comment \"mine\" /shared/comment \"ours\")\r\n");
    talk(rig, 0, "c GETMETADATA \"work\" (DEPTH 1) (/private/comment)\r\n", "OK");
    expect(rig, 0, "* METADATA work (/private/comment \"mine\")\r\n");
    talk(rig, 0, "d SETMETADATA work (/private/comment NIL /shared/comment \"\")\r\n", "OK");
    talk(rig, 0, "e GETMETADATA work (/private/comment /shared/comment)\r\n", "OK");
    expect(rig, 0, "* METADATA work (/private/comment NIL /shared/comment \"\")\r\n");
}

static void a_value_may_hold_any_octet(void **state)
{
    static const char command[] = "a SETMETADATA work (/private/x ~{3+}\r\na\0b)\r\n";
    struct imap_rig *rig = logged_in(state);
    say_bytes(rig, 0, slice_of(command, sizeof(command) - 1));
    hear(rig, 0, "a OK");
    say(rig, 0, "b GETMETADATA work /private/x\r\n");
    hear(rig, 0, "* METADATA work (/private/x ~{3}\r\n");
    rig_rounds(rig, 3);
    const char *heard = rig->clients[0].heard;
    assert_memory_equal(heard + strlen("* METADATA work (/private/x ~{3}\r\n"), "a\0b)\r\nb OK",
                        10);
}

static void depth_and_maxsize_say_what_is_told(void **state)
{
    struct imap_rig *rig = logged_in(state);
    talk(rig, 0,
         "a SETMETADATA work (/private/a \"1\" /private/a/b \"22\" /private/a/b/c \"333\" "
         "/private/ab \"no\")\r\n",
         "OK");
    talk(rig, 0, "b GETMETADATA (DEPTH 1) work /private/a\r\n", "OK");
    expect(rig, 0, "* METADATA work (/private/a \"1\" /private/a/b \"22\")\r\n");
    talk(rig, 0, "c GETMETADATA (DEPTH infinity) work /private/a\r\n", "OK");
    expect(rig, 0, "(/private/a \"1\" /private/a/b \"22\" /private/a/b/c \"333\")\r\n");
    expect_not(rig, 0, "ab");
    talk(rig, 0, "d GETMETADATA (DEPTH infinity MAXSIZE 1) work /private/a\r\n",
         "OK [METADATA LONGENTRIES 3]");
    expect(rig, 0, "* METADATA work (/private/a \"1\")\r\n");
    talk(rig, 0, "e GETMETADATA (MAXSIZE 1) work /private/a/b\r\n", "OK [METADATA LONGENTRIES 2]");
    expect_not(rig, 0, "* METADATA");
    talk(rig, 0, "f GETMETADATA (DEPTH infinity) work /private\r\n", "OK");
    expect(rig, 0, "/private/ab \"no\")\r\n");
    talk(rig, 0, "g GETMETADATA (DEPTH 1) work /private/none\r\n", "OK");
    expect_not(rig, 0, "* METADATA");
}

static void the_server_has_entries_of_the_user(void **state)
{
    struct imap_rig *rig = logged_in(state);
    talk(rig, 0, "a SETMETADATA \"\" (/private/vendor/x \"1\")\r\n", "OK");
    talk(rig, 0, "b GETMETADATA \"\" (/private/vendor/x /shared/comment)\r\n", "OK");
    expect(rig, 0, "* METADATA \"\" (/private/vendor/x \"1\" /shared/comment NIL)\r\n");
    talk(rig, 0, "c SETMETADATA \"\" (/shared/comment \"1\")\r\n", "NO [NOPERM]");
    rig->conf->imap.server_comment = "Down on Sundays";
    rig->conf->imap.server_admin = "mailto:postmaster@mail.test";
    talk(rig, 0, "c GETMETADATA \"\" (/shared/comment)\r\n", "OK");
    expect(rig, 0, "* METADATA \"\" (/shared/comment \"Down on Sundays\")\r\n");
    talk(rig, 0, "c GETMETADATA (DEPTH infinity) \"\" /shared\r\n", "OK");
    expect(rig, 0, "(/shared/admin \"mailto:postmaster@mail.test\" /shared/comment ");
    connect_client(rig, 1);
    talk(rig, 1, "l LOGIN bob secret\r\n", "OK");
    talk(rig, 1, "d GETMETADATA \"\" (/private/vendor/x)\r\n", "OK");
    expect(rig, 1, "* METADATA \"\" (/private/vendor/x NIL)\r\n");
}

static void what_cannot_be_is_refused_and_nothing_of_it_is_kept(void **state)
{
    struct imap_rig *rig = logged_in(state);
    char *command = (char *)malloc(40000);
    check(command != NULL);
    talk(rig, 0, "a GETMETADATA none /private/x\r\n", "NO [NONEXISTENT]");
    talk(rig, 0, "b SETMETADATA none (/private/x \"1\")\r\n", "NO [NONEXISTENT]");
    talk(rig, 0, "c GETMETADATA work /other/x\r\n", "BAD");
    talk(rig, 0, "d SETMETADATA work (/privates/x \"1\")\r\n", "BAD");
    talk(rig, 0, "d SETMETADATA work (/private \"1\")\r\n", "BAD"); /* has no name */
    talk(rig, 0, "d SETMETADATA work (/Shared \"1\")\r\n", "BAD");
    sprintf(command, "e SETMETADATA work (/private/y \"1\" /private/x {16385+}\r\n%16385s)\r\n",
            "");
    talk(rig, 0, command, "NO [METADATA MAXSIZE 16384]");
    sprintf(command, "f SETMETADATA work (/private/y \"1\" /private/%0257d \"1\")\r\n", 0);
    talk(rig, 0, command, "NO [LIMIT]");
    sprintf(command, "g GETMETADATA work /private/%0300d\r\n", 0);
    talk(rig, 0, command, "OK");
    talk(rig, 0, "h GETMETADATA work /private/y\r\n", "OK");
    expect(rig, 0, "* METADATA work (/private/y NIL)\r\n");
    free(command);
}

static void there_is_an_end_to_how_many_there_are(void **state)
{
    struct imap_rig *rig = logged_in(state);
    char *command = (char *)malloc(40000);
    check(command != NULL);
    size_t size = (size_t)sprintf(command, "a SETMETADATA work (/private/0 \"1\"");
    for (int i = 1; i < 100; i++) {
        size += (size_t)sprintf(command + size, " /private/%d \"1\"", i);
    }
    sprintf(command + size, ")\r\n");
    talk(rig, 0, command, "OK");
    talk(rig, 0, "b SETMETADATA work (/private/100 \"1\")\r\n", "NO [METADATA TOOMANY]");
    talk(rig, 0, "c SETMETADATA work (/private/100 \"1\" /private/1 NIL)\r\n", "OK");
    talk(rig, 0, "d SETMETADATA work (/shared/100 \"1\")\r\n", "OK");
    size = (size_t)sprintf(command, "e GETMETADATA work (/private/0");
    for (int i = 1; i <= 256; i++) {
        size += (size_t)sprintf(command + size, " /private/%d", i);
    }
    sprintf(command + size, ")\r\n");
    talk(rig, 0, command, "NO [METADATA TOOMANY]");
    free(command);
}

/* 256 times the same large entry: in several responses, each when there is room. */
static void much_is_told_in_pieces(void **state)
{
    struct imap_rig *rig = logged_in(state);
    char *command = (char *)malloc(40000);
    check(command != NULL);
    sprintf(command, "a SETMETADATA work (/private/x {16000+}\r\n%016000d)\r\n", 7);
    talk(rig, 0, command, "OK");
    size_t size = (size_t)sprintf(command, "b GETMETADATA work (/private/x");
    for (int i = 1; i < 256; i++) {
        size += (size_t)sprintf(command + size, " /private/x");
    }
    sprintf(command + size, ")\r\n");
    talk(rig, 0, command, "OK");
    unsigned responses = 0, entries = 0;
    for (const char *at = rig->clients[0].heard; (at = strstr(at, "* METADATA")) != NULL; at++) {
        responses++;
    }
    for (const char *at = rig->clients[0].heard; (at = strstr(at, "/private/x {")) != NULL; at++) {
        entries++;
    }
    assert_true(responses > 10);
    assert_int_equal(entries, 256);
    free(command);
}

static void the_special_use_is_an_entry(void **state)
{
    struct imap_rig *rig = logged_in(state);
    talk(rig, 0, "a CREATE post (USE (\\Sent))\r\n", "OK");
    talk(rig, 0, "b GETMETADATA post /private/specialuse\r\n", "OK");
    expect(rig, 0, "* METADATA post (/private/specialuse \"\\\\Sent\")\r\n");
    talk(rig, 0, "c SETMETADATA post (/private/specialuse \"\\\\junk \\\\Trash\")\r\n", "OK");
    talk(rig, 0, "d LIST \"\" post\r\n", "OK");
    expect(rig, 0, "* LIST (\\HasNoChildren \\Junk \\Trash) \"/\" post\r\n");
    talk(rig, 0, "e SETMETADATA post (/private/specialuse \"\\\\All\")\r\n", "NO [USEATTR]");
    talk(rig, 0, "f GETMETADATA (DEPTH infinity) post /private\r\n", "OK");
    expect(rig, 0, "(/private/specialuse \"\\\\Junk \\\\Trash\")\r\n");
    talk(rig, 0, "g SETMETADATA post (/private/specialuse NIL)\r\n", "OK");
    talk(rig, 0, "h GETMETADATA post /private/specialuse\r\n", "OK");
    expect(rig, 0, "* METADATA post (/private/specialuse NIL)\r\n");
}

static void list_tells_entries_with_each_mailbox(void **state)
{
    struct imap_rig *rig = logged_in(state);
    talk(rig, 0, "a SETMETADATA work (/private/color \"red\")\r\n", "OK");
    talk(rig, 0, "b LIST \"\" * RETURN (METADATA (/private/color /shared/x))\r\n", "OK");
    expect(rig, 0, "\"/\" work\r\n* METADATA work (/private/color \"red\" /shared/x NIL)\r\n");
    expect(rig, 0, "* METADATA INBOX (/private/color NIL /shared/x NIL)\r\n");
    talk(rig, 0, "c LIST \"\" * RETURN (METADATA (/other))\r\n", "BAD");
}

static unsigned times_heard(const struct imap_rig *rig, const char *text)
{
    unsigned times = 0;
    for (const char *at = rig->clients[0].heard; (at = strstr(at, text)) != NULL; at++) {
        times++;
    }
    return times;
}

/* 256 entries of each of 80 mailboxes are some 20,000 questions to the store. One that goes meanwhile is left out. */
static void list_asks_for_so_many_entries_a_turn(void **state)
{
    struct imap_rig *rig = logged_in(state);
    char *command = (char *)malloc(8192);
    check(command != NULL);
    for (int i = 0; i < 80; i++) {
        sprintf(command, "c CREATE box%02d\r\n", i);
        talk(rig, 0, command, "OK");
    }
    log_in(rig, 1);
    size_t size = (size_t)sprintf(command, "l LIST \"\" box* RETURN (METADATA (/shared/x");
    for (int i = 1; i < 256; i++) {
        size += (size_t)sprintf(command + size, " /shared/x");
    }
    sprintf(command + size, "))\r\n");
    say(rig, 0, command);
    say(rig, 1, "d DELETE box79\r\n");
    unsigned before = 0, turns = 0;
    for (unsigned round = 0; round < 1000 && times_heard(rig, "l OK") == 0; round++) {
        mailstore_rig_round(&rig->store);
        shard_round(&rig->shard);
        unsigned now = times_heard(rig, "* METADATA ");
        assert_true(now - before <= 20);
        turns += now > before;
        before = now;
    }
    expect(rig, 0, "l OK");
    assert_true(turns >= 4);
    assert_true(before == 79 || before == 80);
    assert_true(before == 80 || times_heard(rig, "box79") == 0);
    free(command);
}

/* As many of the store as of the shard. */
static void turns_run(struct imap_rig *rig, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        mailstore_rig_round(&rig->store);
        shard_round(&rig->shard);
    }
}

/* What is asked for with each makes it some turns. */
static void a_subscription_is_listed_though_its_mailbox_goes_meanwhile(void **state)
{
    struct imap_rig *rig = logged_in(state);
    char *command = (char *)malloc(8192);
    check(command != NULL);
    for (int i = 0; i < 80; i++) {
        sprintf(command, "c CREATE box%02d\r\n", i);
        talk(rig, 0, command, "OK");
        sprintf(command, "s SUBSCRIBE box%02d\r\n", i);
        talk(rig, 0, command, "OK");
    }
    log_in(rig, 1);
    size_t size =
        (size_t)sprintf(command, "l LIST (SUBSCRIBED) \"\" box* RETURN (METADATA (/shared/x");
    for (int i = 1; i < 256; i++) {
        size += (size_t)sprintf(command + size, " /shared/x");
    }
    sprintf(command + size, "))\r\n");
    /* It goes before, in the middle, and behind. */
    for (unsigned rounds = 0; rounds < 12; rounds++) {
        say(rig, 1, "d DELETE box79\r\n");
        turns_run(rig, rounds);
        say(rig, 0, command);
        while (times_heard(rig, "l OK") == 0) {
            turns_run(rig, 1);
        }
        assert_int_equal(times_heard(rig, "* LIST ("), 80);
        talk(rig, 1, "n NOOP\r\n", "OK");
        talk(rig, 1, "c CREATE box79\r\n", "OK");
    }
    free(command);
}

static void entries_follow_a_rename_and_go_with_the_mailbox(void **state)
{
    struct imap_rig *rig = logged_in(state);
    talk(rig, 0, "a SETMETADATA work (/private/x \"1\")\r\n", "OK");
    talk(rig, 0, "b RENAME work play\r\n", "OK");
    talk(rig, 0, "c GETMETADATA play /private/x\r\n", "OK");
    expect(rig, 0, "* METADATA play (/private/x \"1\")\r\n");
    talk(rig, 0, "d DELETE play\r\n", "OK");
    talk(rig, 0, "e CREATE play\r\n", "OK");
    talk(rig, 0, "f GETMETADATA play /private/x\r\n", "OK");
    expect(rig, 0, "* METADATA play (/private/x NIL)\r\n");
}

static void a_renamed_inbox_takes_its_entries_along_and_keeps_them(void **state)
{
    struct imap_rig *rig = logged_in(state);
    talk(rig, 0, "a RENAME INBOX before\r\n", "OK"); /* no mail has come yet */
    append(rig, 0, "INBOX", "Subject: x\r\n\r\nx\r\n");
    talk(rig, 0, "b SETMETADATA INBOX (/private/x \"1\" /shared/x \"2\")\r\n", "OK");
    talk(rig, 0, "c SETACL INBOX bob lr\r\n", "OK");
    talk(rig, 0, "d RENAME INBOX after\r\n", "OK");
    talk(rig, 0, "e GETMETADATA after (/private/x /shared/x)\r\n", "OK");
    expect(rig, 0, "* METADATA after (/private/x \"1\" /shared/x \"2\")\r\n");
    talk(rig, 0, "f GETMETADATA INBOX (/private/x /shared/x)\r\n", "OK");
    expect(rig, 0, "* METADATA INBOX (/private/x \"1\" /shared/x \"2\")\r\n");
    talk(rig, 0, "g GETACL after\r\n", "OK");
    expect_not(rig, 0, "bob");
    talk(rig, 0, "h STATUS after (MESSAGES)\r\n", "OK");
    expect(rig, 0, "* STATUS after (MESSAGES 1)\r\n");
    talk(rig, 0, "i STATUS INBOX (MESSAGES)\r\n", "OK");
    expect(rig, 0, "* STATUS INBOX (MESSAGES 0)\r\n");
    talk(rig, 0, "j STATUS before (MESSAGES)\r\n", "OK");
    expect(rig, 0, "* STATUS before (MESSAGES 0)\r\n");
    talk(rig, 0, "k RENAME INBOX before\r\n", "NO [ALREADYEXISTS]");
}

int main(void)
{
#define SCENE(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
    const struct CMUnitTest tests[] = {
        SCENE(entries_are_set_told_and_taken),
        SCENE(a_value_may_hold_any_octet),
        SCENE(depth_and_maxsize_say_what_is_told),
        SCENE(the_server_has_entries_of_the_user),
        SCENE(what_cannot_be_is_refused_and_nothing_of_it_is_kept),
        SCENE(there_is_an_end_to_how_many_there_are),
        SCENE(much_is_told_in_pieces),
        SCENE(the_special_use_is_an_entry),
        SCENE(list_tells_entries_with_each_mailbox),
        SCENE(list_asks_for_so_many_entries_a_turn),
        SCENE(a_subscription_is_listed_though_its_mailbox_goes_meanwhile),
        SCENE(entries_follow_a_rename_and_go_with_the_mailbox),
        SCENE(a_renamed_inbox_takes_its_entries_along_and_keeps_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
