/* imap_session: a client's dialogue with its mailboxes, on a store that takes its time. */
#include "tests/unit/imap_rig.h"

static const char letter[] = "Date: Mon, 7 Feb 1994 21:52:25 -0800\r\n"
                             "From: Fred Foobar <foobar@Blurdybloop.example>\r\n"
                             "Subject: afternoon meeting\r\n"
                             "To: mooch@owatagu.example\r\n"
                             "Message-Id: <B27397-0100000@Blurdybloop.example>\r\n"
                             "\r\n"
                             "Hello Joe, do you think we can meet at 3:30 tomorrow?\r\n";

static const char multipart[] = "From: a@x.example\r\n"
                                "MIME-Version: 1.0\r\n"
                                "Content-Type: multipart/mixed; boundary=b\r\n"
                                "\r\n"
                                "--b\r\n"
                                "\r\n"
                                "first\r\n"
                                "--b\r\n"
                                "Content-Type: text/html\r\n"
                                "Content-Transfer-Encoding: base64\r\n"
                                "\r\n"
                                "PGI+\r\n"
                                "--b--\r\n";

static struct imap_rig *selected(void **state, unsigned letters)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    log_in(rig, 0);
    for (unsigned i = 0; i < letters; i++) {
        append(rig, 0, "INBOX", letter);
    }
    talk(rig, 0, "s SELECT INBOX\r\n", "OK [READ-WRITE]");
    return rig;
}

/* ---- Login ---- */

static void a_client_logs_in_and_out(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    connect_client(rig, 0);
    talk(rig, 0, "a NOOP\r\n", "OK");
    talk(rig, 0, "b SELECT INBOX\r\n", "BAD Log in first");
    talk(rig, 0, "c LOGIN alice bad\r\n", "NO [AUTHENTICATIONFAILED]");
    talk(rig, 0, "c LOGIN alice busy\r\n", "NO [UNAVAILABLE]");
    talk(rig, 0, "c LOGIN alice unavailable\r\n", "NO [UNAVAILABLE]");
    talk(rig, 0, "c AUTHENTICATE PLAIN AGFsaWNl\r\n", "BAD");
    rig->desk.clear = false;
    talk(rig, 0, "c LOGIN alice secret\r\n", "NO [PRIVACYREQUIRED]");
    rig->desk.clear = true;
    talk(rig, 0, "d LOGIN alice secret\r\n", "OK [CAPABILITY IMAP4rev1");
    talk(rig, 0, "e ID NIL\r\n", "OK");
    expect(rig, 0, "* ID (\"name\" \"Tubepost\")\r\n");
    talk(rig, 0, "f LOGOUT\r\n", "OK");
    expect(rig, 0, "* BYE ");
    rig_rounds(rig, 10);
    assert_true(rig->clients[0].closed);
    assert_true(list_empty(&rig->mailbox.sessions));
}

static void a_mechanism_with_a_last_word_is_answered_twice(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    connect_client(rig, 0);
    say(rig, 0, "a AUTHENTICATE X-WORDS\r\n");
    hear(rig, 0, "+ d2hvPw==");
    say(rig, 0, "*\r\n");
    hear(rig, 0, "a BAD ");
    assert_int_equal(rig->desk.attempts, 0);
    say(rig, 0, "b AUTHENTICATE X-WORDS\r\n");
    hear(rig, 0, "+ d2hvPw==");
    say(rig, 0, "Ym9i\r\n");
    hear(rig, 0, "+ dj1wcm9vZg==");
    say(rig, 0, "\r\n");
    hear(rig, 0, "b OK [CAPABILITY ");
    talk(rig, 0, "c SELECT INBOX\r\n", "OK [READ-WRITE]");
}

static void a_client_that_goes_during_login_leaves_nothing(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    connect_client(rig, 0);
    rig->desk.holds = true;
    say(rig, 0, "a LOGIN alice secret\r\n");
    rig_rounds(rig, 3);
    assert_int_equal(rig->desk.attempts, 1);
    stream_abort(rig->clients[0].stream);
    rig_rounds(rig, 10);
    assert_int_equal(rig->desk.attempts, 0);
    assert_true(list_empty(&rig->mailbox.sessions));
}

static void a_client_logs_out_of_one_user_into_another(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    log_in(rig, 0);
    append(rig, 0, "INBOX", letter);
    talk(rig, 0, "a SELECT INBOX\r\n", "OK");
    talk(rig, 0, "b UNAUTHENTICATE\r\n", "OK");
    talk(rig, 0, "c SELECT INBOX\r\n", "BAD Log in first");
    talk(rig, 0, "d LOGIN bob secret\r\n", "OK");
    talk(rig, 0, "e SELECT INBOX\r\n", "OK");
    expect(rig, 0, "* 0 EXISTS\r\n");
}

/* ---- Mailboxes ---- */

static void mailboxes_are_made_listed_renamed_and_deleted(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    log_in(rig, 0);
    talk(rig, 0, "a CREATE Archive/2026\r\n", "OK [MAILBOXID (F");
    talk(rig, 0, "b CREATE Archive/2026\r\n", "NO [ALREADYEXISTS]");
    talk(rig, 0, "c CREATE Sent (USE (\\Sent))\r\n", "OK");
    talk(rig, 0, "d LIST \"\" *\r\n", "OK");
    expect(rig, 0, "* LIST (\\HasNoChildren) \"/\" INBOX\r\n");
    expect(rig, 0, "* LIST (\\HasNoChildren) \"/\" Archive/2026\r\n");
    expect(rig, 0, "* LIST (\\HasNoChildren \\Sent) \"/\" Sent\r\n");
    talk(rig, 0, "e LIST \"\" %\r\n", "OK");
    expect(rig, 0, "* LIST (\\Noselect \\HasChildren) \"/\" Archive\r\n");
    expect_not(rig, 0, "2026");
    talk(rig, 0, "f RENAME None Old\r\n", "NO [NONEXISTENT]");
    talk(rig, 0, "g RENAME Archive/2026 &ZeVnLIqe-\r\n", "OK");
    talk(rig, 0, "h LIST \"\" *\r\n", "OK");
    expect(rig, 0, " \"/\" &ZeVnLIqe-\r\n");
    talk(rig, 0, "i ENABLE UTF8=ACCEPT\r\n", "OK");
    talk(rig, 0, "j LIST \"\" *\r\n", "OK");
    expect(rig, 0, " \"/\" \"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\"\r\n");
    talk(rig, 0, "k DELETE Sent\r\n", "OK");
    talk(rig, 0, "l DELETE Sent\r\n", "NO [NONEXISTENT]");
    talk(rig, 0, "m DELETE INBOX\r\n", "NO [CANNOT]");
    talk(rig, 0, "n LIST \"\" \"\"\r\n", "OK");
    expect(rig, 0, "* LIST (\\Noselect) \"/\" \"\"\r\n");
    talk(rig, 0, "o NAMESPACE\r\n", "OK");
    expect(rig, 0, "* NAMESPACE ((\"\" \"/\")) ((\"shared/\" \"/\")) NIL\r\n");
}

static void parents_that_are_no_mailboxes_are_shown_and_renamed(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    log_in(rig, 0);
    talk(rig, 0, "a CREATE a/b/c\r\n", "OK");
    talk(rig, 0, "b LIST \"\" %\r\n", "OK");
    expect(rig, 0, "* LIST (\\Noselect \\HasChildren) \"/\" a\r\n");
    talk(rig, 0, "c LIST \"\" (a a/b) RETURN (CHILDREN)\r\n", "OK"); /* RFC 5258 §3 */
    expect(rig, 0, "* LIST (\\NonExistent \\HasChildren) \"/\" a\r\n");
    expect(rig, 0, "* LIST (\\NonExistent \\HasChildren) \"/\" a/b\r\n");
    talk(rig, 0, "d SELECT a\r\n", "NO [NONEXISTENT]");
    talk(rig, 0, "e STATUS a/b (MESSAGES)\r\n", "NO [NONEXISTENT]");
    talk(rig, 0, "f APPEND a {1+}\r\nx\r\n", "NO [TRYCREATE]");
    talk(rig, 0, "g CREATE x/y\r\n", "OK");
    talk(rig, 0, "h RENAME a x/a\r\n", "OK");
    talk(rig, 0, "i LIST \"\" *\r\n", "OK");
    expect(rig, 0, "* LIST (\\HasNoChildren) \"/\" x/a/b/c\r\n");
    expect(rig, 0, "* LIST (\\Noselect \\HasChildren) \"/\" x/a\r\n");
    expect_not(rig, 0, " a\r\n");
    talk(rig, 0, "j RENAME x/a x/a/b/d\r\n", "NO [CANNOT]");
    talk(rig, 0, "k RENAME x/a x/y\r\n", "NO [ALREADYEXISTS]");
    talk(rig, 0, "l RENAME a b\r\n", "NO [NONEXISTENT]");
    talk(rig, 0, "m CREATE x/a\r\n", "OK");
    talk(rig, 0, "n LIST \"\" x/a\r\n", "OK");
    expect(rig, 0, "* LIST (\\HasChildren) \"/\" x/a\r\n");
    talk(rig, 0, "o DELETE x/a\r\n", "OK");
    talk(rig, 0, "p LIST \"\" x/a\r\n", "OK");
    expect(rig, 0, "* LIST (\\Noselect \\HasChildren) \"/\" x/a\r\n");
    talk(rig, 0, "q ENABLE IMAP4rev2\r\n", "OK");
    talk(rig, 0, "r LIST \"\" x/a\r\n", "OK");
    expect(rig, 0, "* LIST (\\NonExistent \\HasChildren) \"/\" x/a\r\n");
}

static void subscriptions_are_told_by_lsub_and_by_list(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    log_in(rig, 0);
    talk(rig, 0, "a CREATE a/b\r\n", "OK");
    talk(rig, 0, "b SUBSCRIBE a/b\r\n", "OK");
    talk(rig, 0, "c SUBSCRIBE gone\r\n", "OK");
    talk(rig, 0, "d LSUB \"\" *\r\n", "OK");
    expect(rig, 0, "* LSUB () \"/\" a/b\r\n");
    expect(rig, 0, "* LSUB () \"/\" gone\r\n");
    expect_not(rig, 0, "\"/\" a\r\n");
    talk(rig, 0, "e LSUB \"\" %\r\n", "OK");
    expect(rig, 0, "* LSUB (\\Noselect) \"/\" a\r\n");
    talk(rig, 0, "f LIST (SUBSCRIBED) \"\" *\r\n", "OK");
    expect(rig, 0, "* LIST (\\NonExistent \\HasNoChildren \\Subscribed) \"/\" gone\r\n");
    expect(rig, 0, "* LIST (\\HasNoChildren \\Subscribed) \"/\" a/b\r\n");
    talk(rig, 0, "g LIST (SUBSCRIBED RECURSIVEMATCH) \"\" %\r\n", "OK");
    expect(rig, 0, "\"/\" a (CHILDINFO (\"SUBSCRIBED\"))\r\n");
    talk(rig, 0, "h UNSUBSCRIBE gone\r\n", "OK");
    talk(rig, 0, "i LSUB \"\" *\r\n", "OK");
    expect_not(rig, 0, "gone");
}

static void status_counts_without_selecting(void **state)
{
    struct imap_rig *rig = selected(state, 2);
    talk(rig, 0, "a CREATE other\r\n", "OK");
    append(rig, 0, "other", letter);
    talk(rig, 0, "b STATUS other (MESSAGES UIDNEXT UNSEEN RECENT)\r\n", "OK");
    expect(rig, 0, "* STATUS other (MESSAGES 1 RECENT 0 UIDNEXT 2 UNSEEN 1)\r\n");
    talk(rig, 0, "c STATUS none (MESSAGES)\r\n", "NO [NONEXISTENT]");
    talk(rig, 0, "d LIST \"\" other RETURN (STATUS (MESSAGES))\r\n", "OK");
    expect(rig, 0, "* STATUS other (MESSAGES 1)\r\n");
    talk(rig, 0, "e GETQUOTAROOT INBOX\r\n", "OK");
    expect(rig, 0, "* QUOTAROOT INBOX \"\"\r\n* QUOTA \"\" ()\r\n");
}

/* ---- The selected mailbox ---- */

static void select_tells_what_there_is(void **state)
{
    struct imap_rig *rig = selected(state, 3);
    expect(rig, 0, "* FLAGS (\\Seen \\Answered \\Flagged \\Deleted \\Draft)\r\n");
    expect(rig, 0, "\\Draft \\*)]");
    expect(rig, 0, "* 3 EXISTS\r\n* 0 RECENT\r\n* OK [UNSEEN 1]");
    expect(rig, 0, "* OK [UIDNEXT 4]");
    talk(rig, 0, "a EXAMINE INBOX\r\n", "OK [READ-ONLY]");
    expect(rig, 0, "* OK [CLOSED]");
    talk(rig, 0, "b STORE 1 +FLAGS (\\Seen)\r\n", "NO");
    talk(rig, 0, "c EXPUNGE\r\n", "NO");
    talk(rig, 0, "d SELECT none\r\n", "NO [NONEXISTENT]");
    talk(rig, 0, "e FETCH 1 UID\r\n", "BAD");
}

static void fetch_tells_each_item(void **state)
{
    struct imap_rig *rig = selected(state, 1);
    talk(rig, 0, "a FETCH 1 (UID FLAGS RFC822.SIZE)\r\n", "OK");
    expect(rig, 0, "* 1 FETCH (UID 1 FLAGS () RFC822.SIZE 248)\r\n");
    talk(rig, 0, "b FETCH 1 ENVELOPE\r\n", "OK");
    expect(rig, 0,
           "* 1 FETCH (ENVELOPE (\"Mon, 7 Feb 1994 21:52:25 -0800\" \"afternoon meeting\" "
           "((\"Fred Foobar\" NIL \"foobar\" \"Blurdybloop.example\")) ");
    talk(rig, 0, "c FETCH 1 ENVELOPE\r\n", "OK"); /* of the cache */
    expect(rig, 0, "\"<B27397-0100000@Blurdybloop.example>\"))\r\n");
    talk(rig, 0, "d FETCH 1 BODY\r\n", "OK");
    expect(rig, 0,
           "* 1 FETCH (BODY (\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 55 "
           "1))\r\n");
    talk(rig, 0, "e FETCH 1 BODY.PEEK[HEADER.FIELDS (Subject To)]\r\n", "OK");
    expect(rig, 0,
           "BODY[HEADER.FIELDS (Subject To)] {57}\r\nSubject: afternoon meeting\r\n"
           "To: mooch@owatagu.example\r\n\r\n)\r\n");
    talk(rig, 0, "f FETCH 1 BODY.PEEK[TEXT]<6.3>\r\n", "OK");
    expect(rig, 0, "* 1 FETCH (BODY[TEXT]<6> {3}\r\nJoe)\r\n");
    talk(rig, 0, "g UID FETCH 1 RFC822.HEADER\r\n", "OK");
    expect(rig, 0, "* 1 FETCH (UID 1 RFC822.HEADER {193}\r\nDate:");
    talk(rig, 0, "h FETCH 1 (EMAILID THREADID SAVEDATE INTERNALDATE)\r\n", "OK");
    expect(rig, 0, "EMAILID (M");
    expect(rig, 0, "INTERNALDATE \"14-Nov-2023 22:13:20 +0000\"");
    talk(rig, 0, "i FETCH 2 UID\r\n", "BAD No such message number");
    talk(rig, 0, "j UID FETCH 77 UID\r\n", "OK");
}

static void parts_of_a_multipart_are_fetched(void **state)
{
    struct imap_rig *rig = selected(state, 0);
    append(rig, 0, "INBOX", multipart);
    talk(rig, 0, "a FETCH 1 (BODY.PEEK[1] BODY.PEEK[2.MIME] BODY.PEEK[3])\r\n", "OK");
    expect(rig, 0,
           "* 1 FETCH (BODY[1] {5}\r\nfirst BODY[2.MIME] {62}\r\n"
           "Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n"
           " BODY[3] NIL)\r\n");
    talk(rig, 0, "b FETCH 1 BODYSTRUCTURE\r\n", "OK");
    expect(rig, 0,
           "\"html\" (\"charset\" \"us-ascii\") NIL NIL \"base64\" 4 0 NIL NIL NIL NIL) \"mixed\" "
           "(\"boundary\" "
           "\"b\") NIL NIL NIL))\r\n");
}

static void reading_a_body_sets_seen_and_says_so(void **state)
{
    struct imap_rig *rig = selected(state, 2);
    talk(rig, 0, "a FETCH 1 BODY[]\r\n", "OK");
    expect(rig, 0, "* 1 FETCH (BODY[] {248}\r\nDate: ");
    expect(rig, 0, "tomorrow?\r\n FLAGS (\\Seen))\r\n");
    talk(rig, 0, "b FETCH 1:2 FLAGS\r\n", "OK");
    expect(rig, 0, "* 1 FETCH (FLAGS (\\Seen))\r\n* 2 FETCH (FLAGS ())\r\n");
    talk(rig, 0, "c FETCH 1 BODY[TEXT]\r\n", "OK");
    expect_not(rig, 0, "FLAGS");
}

static void store_changes_flags_and_tells_them(void **state)
{
    struct imap_rig *rig = selected(state, 3);
    talk(rig, 0, "a STORE 1:2 +FLAGS (\\Flagged $Work)\r\n", "OK");
    expect(rig, 0, "* FLAGS (\\Seen \\Answered \\Flagged \\Deleted \\Draft $Work)\r\n");
    expect(rig, 0, "* 1 FETCH (FLAGS (\\Flagged $Work))\r\n");
    expect(rig, 0, "* 2 FETCH (FLAGS (\\Flagged $Work))\r\n");
    talk(rig, 0, "b STORE 2 -FLAGS.SILENT (\\Flagged)\r\n", "OK");
    expect_not(rig, 0, "FETCH");
    talk(rig, 0, "c UID STORE 2 FLAGS (\\Answered)\r\n", "OK");
    expect(rig, 0, "* 2 FETCH (UID 2 FLAGS (\\Answered))\r\n");
    talk(rig, 0, "d STORE 1:3 (UNCHANGEDSINCE 1) +FLAGS (\\Seen)\r\n", "OK [MODIFIED 1:3]");
}

static void copy_move_and_expunge_go_by_their_codes(void **state)
{
    struct imap_rig *rig = selected(state, 4);
    talk(rig, 0, "a COPY 1 none\r\n", "NO [TRYCREATE]");
    talk(rig, 0, "b CREATE other\r\n", "OK");
    talk(rig, 0, "c COPY 1,3 other\r\n", "OK [COPYUID ");
    expect(rig, 0, " 1,3 1:2]");
    talk(rig, 0, "d MOVE 2 other\r\n", "OK");
    expect(rig, 0, " 2 3] Moved\r\n* 2 EXPUNGE\r\n");
    talk(rig, 0, "e STORE 1,3 +FLAGS.SILENT (\\Deleted)\r\n", "OK");
    talk(rig, 0, "f UID EXPUNGE 4\r\n", "OK");
    expect(rig, 0, "* 3 EXPUNGE\r\n");
    expect_not(rig, 0, "* 1 EXPUNGE");
    talk(rig, 0, "g EXPUNGE\r\n", "OK");
    expect(rig, 0, "* 1 EXPUNGE\r\n");
    talk(rig, 0, "h FETCH 1:* UID\r\n", "OK");
    expect(rig, 0, "* 1 FETCH (UID 3)\r\n");
    talk(rig, 0, "i STORE 1 +FLAGS.SILENT (\\Deleted)\r\n", "OK");
    talk(rig, 0, "j CLOSE\r\n", "OK");
    expect_not(rig, 0, "EXPUNGE");
    talk(rig, 0, "k STATUS INBOX (MESSAGES)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 0)");
}

static void idle_hears_of_another_session_at_once(void **state)
{
    struct imap_rig *rig = selected(state, 1);
    log_in(rig, 1);
    talk(rig, 1, "s SELECT INBOX\r\n", "OK");
    say(rig, 1, "i IDLE\r\n");
    hear(rig, 1, "+ ");
    append(rig, 0, "INBOX", letter);
    hear(rig, 1, "* 2 EXISTS");
    talk(rig, 0, "a STORE 1 +FLAGS (\\Deleted)\r\n", "OK");
    hear(rig, 1, "* 1 FETCH (FLAGS (\\Deleted))");
    talk(rig, 0, "b EXPUNGE\r\n", "OK");
    hear(rig, 1, "* 1 EXPUNGE");
    say(rig, 1, "DONE\r\n");
    hear(rig, 1, "i OK");
}

static void numbers_stay_while_a_client_counts_by_them(void **state)
{
    struct imap_rig *rig = selected(state, 3);
    log_in(rig, 1);
    talk(rig, 1, "s SELECT INBOX\r\n", "OK");
    talk(rig, 0, "a STORE 1 +FLAGS.SILENT (\\Deleted)\r\n", "OK");
    talk(rig, 0, "b EXPUNGE\r\n", "OK");
    talk(rig, 1, "c FETCH 1:3 UID\r\n", "OK [EXPUNGEISSUED]");
    expect(rig, 1, "* 2 FETCH (UID 2)\r\n* 3 FETCH (UID 3)\r\n");
    expect_not(rig, 1, "EXPUNGE\r\n");
    talk(rig, 1, "d NOOP\r\n", "OK");
    expect(rig, 1, "* 1 EXPUNGE\r\n");
}

static void several_messages_are_appended_or_none(void **state)
{
    struct imap_rig *rig = selected(state, 0);
    talk(rig, 0,
         "a APPEND INBOX (\\Seen) \" 1-Jan-2020 10:00:00 +0100\" {11+}\r\nA: b\r\n\r\nc\r\n "
         "(\\Draft) {9+}\r\nA: b\r\n\r\nd\r\n",
         "OK [APPENDUID ");
    expect(rig, 0, " 1:2]");
    expect(rig, 0, "* 2 EXISTS\r\n");
    talk(rig, 0, "b FETCH 1:2 (FLAGS INTERNALDATE)\r\n", "OK");
    expect(rig, 0, "* 1 FETCH (FLAGS (\\Seen) INTERNALDATE \" 1-Jan-2020 10:00:00 +0100\")\r\n");
    expect(rig, 0, "* 2 FETCH (FLAGS (\\Draft) INTERNALDATE ");
    talk(rig, 0, "c APPEND none {3+}\r\nabc\r\n", "NO [TRYCREATE]");
    rig->conf->users.quota_bytes = 30;
    talk(rig, 0, "d APPEND INBOX {9+}\r\nA: b\r\n\r\nc {9+}\r\nA: b\r\n\r\nd\r\n",
         "NO [OVERQUOTA]");
    talk(rig, 0, "e STATUS INBOX (MESSAGES)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 2)");
}

/* ---- Slow and large ---- */

static void a_large_message_comes_and_goes_as_it_is(void **state)
{
    struct imap_rig *rig = selected(state, 0);
    size_t size = 3u << 20;
    char *message = (char *)malloc(size + 100);
    assert_non_null(message);
    int head = sprintf(message, "a APPEND INBOX {%zu+}\r\n", size);
    for (size_t i = 0; i < size; i++) {
        message[(size_t)head + i] = (char)("0123456789abcdef\r\n"[i % 18]);
    }
    memcpy(message + head + size, "\r\n", 3);
    say_bytes(rig, 0, slice_of(message, (size_t)head + size + 2));
    hear(rig, 0, "a OK [APPENDUID ");
    say(rig, 0, "b FETCH 1 BODY.PEEK[]\r\n");
    hear(rig, 0, "b OK");
    const char *literal = strstr(rig->clients[0].heard, "{3145728}\r\n");
    assert_non_null(literal);
    assert_memory_equal(literal + 11, message + head, size);
    free(message);
}

static struct imap_session *first_session(struct imap_rig *rig)
{
    struct session *base = list_entry(rig->mailbox.sessions.next, struct session, node);
    return list_entry(base, struct imap_session, session);
}

static void a_message_waits_while_the_disk_stands(void **state)
{
    struct imap_rig *rig = selected(state, 0);
    size_t size = 6u << 20;
    char *message = (char *)malloc(size + 100);
    assert_non_null(message);
    int head = sprintf(message, "a APPEND INBOX {%zu+}\r\n", size);
    for (size_t i = 0; i < size; i++) {
        message[(size_t)head + i] = (char)('a' + i % 25);
    }
    memcpy(message + head + size, "\r\n", 3);
    rig->disk_stands = true;
    struct slice rest = slice_of(message, (size_t)head + size + 2);
    for (unsigned idle = 0; idle < 100 && rest.size > 0; idle++) {
        struct slice part = slice_first(rest, 65536);
        if (stream_write(rig->clients[0].stream, part) == 0) {
            rest = slice_from(rest, part.size);
            idle = 0;
        }
        rig_round(rig);
    }
    assert_int_equal(first_session(rig)->state, IMAP_SESSION_HELD);
    rig->disk_stands = false;
    rig_rounds(rig, 300); /* nothing comes from the client, and it goes on all the same */
    assert_int_equal(first_session(rig)->state, IMAP_SESSION_READING);
    say_bytes(rig, 0, rest);
    hear(rig, 0, "a OK [APPENDUID ");
    say(rig, 0, "b FETCH 1 BODY.PEEK[]\r\n");
    hear(rig, 0, "b OK");
    const char *literal = strstr(rig->clients[0].heard, "{6291456}\r\n");
    assert_non_null(literal);
    assert_memory_equal(literal + 11, message + head, size);
    free(message);
}

static void a_client_that_does_not_read_costs_a_bound(void **state)
{
    struct imap_rig *rig = selected(state, 0);
    size_t size = 3u << 20;
    char *message = (char *)malloc(size + 100);
    assert_non_null(message);
    int head = sprintf(message, "a APPEND INBOX {%zu+}\r\n", size);
    memset(message + head, 'x', size);
    memcpy(message + head + size, "\r\n", 3);
    say_bytes(rig, 0, slice_of(message, (size_t)head + size + 2));
    hear(rig, 0, "a OK [APPENDUID ");
    free(message);
    rig->clients[0].deaf = true;
    say(rig, 0, "b FETCH 1 BODY.PEEK[]\r\nc NOOP\r\n");
    rig_rounds(rig, 300);
    const struct imap_session *session = first_session(rig);
    assert_true(session->outbox.bytes <= 512u * 1024);
    assert_true(session->outbox.bytes > 0);
    rig->clients[0].deaf = false;
    rig_hear(rig->clients[0].stream, 0, &rig->clients[0]);
    hear(rig, 0, "c OK");
    assert_true(rig->clients[0].heard_bytes > size);
}

static void pipelined_commands_are_answered_in_order(void **state)
{
    struct imap_rig *rig = selected(state, 2);
    say(rig, 0,
        "a NOOP\r\nb FETCH 1 FLAGS\r\nc STORE 1 +FLAGS (\\Seen)\r\nd FETCH 1 FLAGS\r\n"
        "e LOGOUT\r\n");
    hear(rig, 0, "e OK");
    const char *heard = rig->clients[0].heard;
    const char *at = strstr(heard, "a OK");
    assert_non_null(at);
    at = strstr(at, "* 1 FETCH (FLAGS ())\r\nb OK");
    assert_non_null(at);
    at = strstr(at, "* 1 FETCH (FLAGS (\\Seen))\r\nc OK");
    assert_non_null(at);
    assert_non_null(strstr(at, "* 1 FETCH (FLAGS (\\Seen))\r\nd OK"));
}

static void a_client_that_goes_in_the_middle_leaves_nothing(void **state)
{
    static const char *const ways[] = {
        "x FETCH 1:* BODY[]\r\n",
        "x STORE 1:* +FLAGS (\\Seen)\r\n",
        "x COPY 1:* INBOX\r\n",
        "x APPEND INBOX {100+}\r\nabc",
        "x APPEND INBOX {3+}\r\nabc\r\n",
        "x IDLE\r\n",
        "x CREATE y\r\n",
    };
    struct imap_rig *rig = selected(state, 3);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        for (unsigned rounds = 0; rounds < 4; rounds++) {
            log_in(rig, 1);
            talk(rig, 1, "s SELECT INBOX\r\n", "OK");
            say(rig, 1, ways[i]);
            for (unsigned round = 0; round < rounds; round++) {
                mailstore_rig_round(&rig->store);
                shard_round(&rig->shard);
            }
            stream_abort(rig->clients[1].stream);
            stream_release(rig->clients[1].stream);
            rig->clients[1].stream = NULL;
            rig_rounds(rig, 30);
            assert_int_equal(rig->mailbox.counters.sessions, 1);
        }
    }
    talk(rig, 0, "z NOOP\r\n", "OK");
}

static void an_idle_session_is_small(void **state)
{
    struct imap_rig *rig = selected(state, 1);
    const struct imap_session *session = first_session(rig);
    rig_rounds(rig, 3);
    assert_null(session->task);
    assert_null(session->again);
    assert_int_equal(session->outbox.memory_bytes, 0);
    assert_int_equal(imap_server_memory(&session->server), 0);
}

static void qresync_brings_a_client_up_to_date(void **state)
{
    struct imap_rig *rig = selected(state, 5);
    unsigned long validity = 0, modseq = 0;
    const char *at = strstr(rig->clients[0].heard, "[UIDVALIDITY ");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "[UIDVALIDITY %lu]", &validity), 1);
    at = strstr(rig->clients[0].heard, "[HIGHESTMODSEQ ");
    assert_int_equal(sscanf(at, "[HIGHESTMODSEQ %lu]", &modseq), 1);
    talk(rig, 0, "a STORE 2,4 +FLAGS.SILENT (\\Deleted)\r\n", "OK");
    talk(rig, 0, "b EXPUNGE\r\n", "OK");
    talk(rig, 0, "c STORE 1 +FLAGS.SILENT (\\Flagged)\r\n", "OK");
    log_in(rig, 1);
    talk(rig, 1, "d ENABLE QRESYNC\r\n", "OK");
    char command[120];
    snprintf(command, sizeof(command), "e SELECT INBOX (QRESYNC (%lu %lu))\r\n", validity, modseq);
    talk(rig, 1, command, "OK [READ-WRITE]");
    expect(rig, 1, "* VANISHED (EARLIER) 2,4\r\n");
    expect(rig, 1, "* 1 FETCH (UID 1 FLAGS (\\Flagged) MODSEQ (");
    snprintf(command, sizeof(command), "e SELECT INBOX (QRESYNC (%lu %lu 1:3))\r\n", validity,
             modseq);
    talk(rig, 1, command, "OK [READ-WRITE]");
    expect(rig, 1, "* VANISHED (EARLIER) 2\r\n");
    snprintf(command, sizeof(command), "e SELECT INBOX (QRESYNC (%lu %lu 1:5 (1,3 1,3)))\r\n",
             validity, modseq);
    talk(rig, 1, command, "OK [READ-WRITE]");
    expect(rig, 1, "* VANISHED (EARLIER) 2,4\r\n");
    snprintf(command, sizeof(command), "e SELECT INBOX (QRESYNC (%lu %lu))\r\n", validity + 1,
             modseq);
    talk(rig, 1, command, "OK [READ-WRITE]");
    expect_not(rig, 1, "VANISHED");
    talk(rig, 1, "f STORE 3 +FLAGS.SILENT (\\Deleted)\r\n", "OK");
    talk(rig, 1, "g EXPUNGE\r\n", "OK [HIGHESTMODSEQ ");
    expect(rig, 1, "* VANISHED 5\r\n");
    snprintf(command, sizeof(command), "h UID FETCH 1:* FLAGS (CHANGEDSINCE %lu VANISHED)\r\n",
             modseq);
    talk(rig, 1, command, "OK");
    expect(rig, 1, "* VANISHED (EARLIER) 2,4:5\r\n");
    expect(rig, 1, "* 1 FETCH (UID 1 MODSEQ (");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
        TEST(a_client_logs_in_and_out),
        TEST(a_mechanism_with_a_last_word_is_answered_twice),
        TEST(a_client_that_goes_during_login_leaves_nothing),
        TEST(a_client_logs_out_of_one_user_into_another),
        TEST(mailboxes_are_made_listed_renamed_and_deleted),
        TEST(parents_that_are_no_mailboxes_are_shown_and_renamed),
        TEST(subscriptions_are_told_by_lsub_and_by_list),
        TEST(status_counts_without_selecting),
        TEST(select_tells_what_there_is),
        TEST(fetch_tells_each_item),
        TEST(parts_of_a_multipart_are_fetched),
        TEST(reading_a_body_sets_seen_and_says_so),
        TEST(store_changes_flags_and_tells_them),
        TEST(copy_move_and_expunge_go_by_their_codes),
        TEST(idle_hears_of_another_session_at_once),
        TEST(numbers_stay_while_a_client_counts_by_them),
        TEST(several_messages_are_appended_or_none),
        TEST(a_large_message_comes_and_goes_as_it_is),
        TEST(a_message_waits_while_the_disk_stands),
        TEST(a_client_that_does_not_read_costs_a_bound),
        TEST(pipelined_commands_are_answered_in_order),
        TEST(a_client_that_goes_in_the_middle_leaves_nothing),
        TEST(an_idle_session_is_small),
        TEST(qresync_brings_a_client_up_to_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
