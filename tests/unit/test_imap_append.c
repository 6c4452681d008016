/* imap_append: REPLACE, and CATENATE. */
#include "tests/unit/imap_rig.h"

static const char old_draft[] = "Subject: old\r\n\r\nfirst words\r\n";

/* `count` drafts in INBOX, which is selected; and a mailbox Sent. */
static struct imap_rig *drafted(void **state, unsigned count)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    log_in(rig, 0);
    talk(rig, 0, "c CREATE Sent\r\n", "OK");
    for (unsigned i = 0; i < count; i++) {
        append(rig, 0, "INBOX", old_draft);
    }
    talk(rig, 0, "s SELECT INBOX\r\n", "OK [READ-WRITE]");
    return rig;
}

/* Is `first` heard before `second`? */
static void expect_order(struct imap_rig *rig, unsigned index, const char *first,
                         const char *second)
{
    const char *at = strstr(rig->clients[index].heard, first);
    if (at == NULL || strstr(at, second) == NULL) {
        fail_msg("\"%s\" does not come before \"%s\" in\n%s", first, second,
                 rig->clients[index].heard);
    }
}

/* ---- REPLACE ---- */

static void a_message_takes_the_place_of_another(void **state)
{
    struct imap_rig *rig = drafted(state, 3);
    talk(rig, 0, "a REPLACE 2 INBOX (\\Draft) \" 1-Jan-2020 10:00:00 +0100\" {3+}\r\nnew\r\n",
         "OK");
    expect_order(rig, 0, "* OK [APPENDUID ", "* 2 EXPUNGE\r\n");
    expect(rig, 0, " 4] Replaced\r\n");
    expect(rig, 0, "* 3 EXISTS\r\n");
    talk(rig, 0, "b FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])\r\n", "OK");
    expect(rig, 0, "* 1 FETCH (UID 1 ");
    expect(rig, 0, "* 2 FETCH (UID 3 ");
    expect(rig, 0,
           "* 3 FETCH (UID 4 FLAGS (\\Draft) INTERNALDATE \" 1-Jan-2020 10:00:00 +0100\" "
           "BODY[] {3}\r\nnew)\r\n");
}

static void uid_replace_names_the_message_by_its_uid(void **state)
{
    struct imap_rig *rig = drafted(state, 2);
    talk(rig, 0, "a UID REPLACE 2 INBOX {3+}\r\nnew\r\n", "OK");
    expect(rig, 0, "* 2 EXPUNGE\r\n");
    talk(rig, 0, "b UID REPLACE * INBOX {3+}\r\nend\r\n", "OK");
    expect(rig, 0, " 4] Replaced\r\n");
    talk(rig, 0, "c REPLACE * INBOX {3+}\r\nend\r\n", "OK");
    talk(rig, 0, "d UID SEARCH ALL\r\n", "OK");
    expect(rig, 0, "* SEARCH 1 5\r\n");
}

static void a_draft_is_replaced_by_what_was_sent(void **state)
{
    struct imap_rig *rig = drafted(state, 1);
    talk(rig, 0, "a REPLACE 1 Sent (\\Seen) {4+}\r\nsent\r\n", "OK");
    expect(rig, 0, "* 1 EXPUNGE\r\n");
    expect_not(rig, 0, " EXISTS\r\n");
    talk(rig, 0, "b STATUS Sent (MESSAGES)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 1)");
    talk(rig, 0, "c STATUS INBOX (MESSAGES)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 0)");
}

static void binary_and_utf8_messages_replace_too(void **state)
{
    struct imap_rig *rig = drafted(state, 2);
    say_bytes(rig, 0, slice_of("a REPLACE 1 INBOX ~{3+}\r\n\0\1\2\r\n", 30));
    hear(rig, 0, "a OK ");
    talk(rig, 0, "b UNSELECT\r\n", "OK");
    talk(rig, 0, "b ENABLE UTF8=ACCEPT\r\n", "OK");
    talk(rig, 0, "b SELECT INBOX\r\n", "OK");
    talk(rig, 0, "c REPLACE 1 INBOX UTF8 (~{7+}\r\nB: \xc3\xa9\r\n)\r\n", "OK");
    talk(rig, 0, "d UID SEARCH ALL\r\n", "OK");
    expect(rig, 0, "* SEARCH 3 4\r\n");
}

/* Before the client sends the message, where it waits to be asked. */
static void a_replace_that_cannot_be_changes_nothing(void **state)
{
    struct imap_rig *rig = drafted(state, 2);
    talk(rig, 0, "a REPLACE 3 INBOX {3}\r\n", "BAD No such message number");
    talk(rig, 0, "b UID REPLACE 9 INBOX {3}\r\n", "NO [EXPUNGEISSUED]");
    talk(rig, 0, "c REPLACE 1 none {3}\r\n", "NO [TRYCREATE]");
    talk(rig, 0, "d REPLACE 1 INBOX {3+}\r\nabc {3+}\r\nabc\r\n", "BAD");
    talk(rig, 0, "e REPLACE 1 INBOX {0+}\r\n\r\n", "NO");
    talk(rig, 0, "f REPLACE 1:2 INBOX {3+}\r\nabc\r\n", "BAD");
    talk(rig, 0, "g EXAMINE INBOX\r\n", "OK");
    expect(rig, 0, "* 2 EXISTS\r\n");
    talk(rig, 0, "h REPLACE 1 INBOX {3}\r\n", "NO [NOPERM]");
    talk(rig, 0, "i SELECT Sent\r\n", "OK");
    talk(rig, 0, "j REPLACE * INBOX {3}\r\n", "BAD");
    talk(rig, 0, "k UID REPLACE * INBOX {3}\r\n", "NO");
    talk(rig, 0, "l UNSELECT\r\n", "OK");
    talk(rig, 0, "m REPLACE 1 INBOX {3}\r\n", "BAD Select a mailbox first");
}

static void what_is_replaced_does_not_count_against_the_quota(void **state)
{
    struct imap_rig *rig = drafted(state, 1);
    char command[128];
    int size = (int)sizeof(old_draft) - 1;
    rig->conf->users.quota_bytes = sizeof(old_draft) - 1;
    talk(rig, 0, "a APPEND INBOX {3+}\r\nabc\r\n", "NO [OVERQUOTA]");
    snprintf(command, sizeof(command), "b REPLACE 1 INBOX {%d+}\r\n%s!\r\n", size + 1, old_draft);
    talk(rig, 0, command, "NO [OVERQUOTA]");
    snprintf(command, sizeof(command), "c REPLACE 1 INBOX {%d+}\r\n%s\r\n", size, old_draft);
    talk(rig, 0, command, "OK");
    rig->conf->users.quota_bytes = 5; /* it was made smaller meanwhile */
    talk(rig, 0, "d REPLACE 1 INBOX {9+}\r\n123456789\r\n", "OK");
    talk(rig, 0, "e UID SEARCH ALL\r\n", "OK");
    expect(rig, 0, "* SEARCH 3\r\n");
}

static void of_two_that_replace_one_message_one_does(void **state)
{
    struct imap_rig *rig = drafted(state, 1);
    log_in(rig, 1);
    talk(rig, 1, "s SELECT INBOX\r\n", "OK");
    say(rig, 0, "a UID REPLACE 1 INBOX {1}\r\n");
    hear(rig, 0, "+ ");
    talk(rig, 1, "b UID REPLACE 1 INBOX {3+}\r\nwon\r\n", "OK");
    say(rig, 0, "a\r\n");
    hear(rig, 0, "a NO [EXPUNGEISSUED]");
    say(rig, 0, "c UID REPLACE 2 INBOX {1+}\r\na\r\n");
    say(rig, 1, "c UID REPLACE 2 INBOX {1+}\r\nb\r\n");
    bool first = strncmp(hear(rig, 0, "c "), "c OK", 4) == 0;
    bool second = strncmp(hear(rig, 1, "c "), "c OK", 4) == 0;
    assert_true(first != second);
    talk(rig, 0, "d STATUS INBOX (MESSAGES UIDNEXT)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 1 UIDNEXT 4)");
}

static void others_and_qresync_clients_are_told_of_both_halves(void **state)
{
    struct imap_rig *rig = drafted(state, 1);
    log_in(rig, 1);
    talk(rig, 1, "e ENABLE QRESYNC\r\n", "OK");
    talk(rig, 1, "s SELECT INBOX\r\n", "OK");
    talk(rig, 0, "a REPLACE 1 INBOX {3+}\r\nnew\r\n", "OK");
    talk(rig, 1, "b NOOP\r\n", "OK");
    expect(rig, 1, "* VANISHED 1\r\n* 1 EXISTS\r\n");
    talk(rig, 1, "c UID REPLACE 2 INBOX {3+}\r\nnew\r\n", "OK [HIGHESTMODSEQ ");
    expect_order(rig, 1, "* OK [APPENDUID ", "* VANISHED 2\r\n");
}

static void a_replace_whose_write_fails_has_not_happened(void **state)
{
    struct imap_rig *rig = drafted(state, 1);
    disk_fault_fail(rig->store.rig.fault, DISK_FAULT_WRITE, 0, 1, -EIO);
    talk(rig, 0, "a REPLACE 1 INBOX {3+}\r\nnew\r\n", "NO");
    talk(rig, 0, "b UID SEARCH ALL\r\n", "OK");
    expect(rig, 0, "* SEARCH 1\r\n");
    talk(rig, 0, "c REPLACE 1 INBOX {3+}\r\nnew\r\n", "OK");
}

static void a_client_that_goes_during_replace_leaves_nothing(void **state)
{
    struct imap_rig *rig = drafted(state, 1);
    say(rig, 0, "a REPLACE 1 INBOX {300}\r\n");
    hear(rig, 0, "+ ");
    say(rig, 0, "half of it");
    rig_rounds(rig, 3);
    stream_abort(rig->clients[0].stream);
    rig_rounds(rig, 10);
    assert_true(list_empty(&rig->mailbox.sessions));
    assert_int_equal(mailstore_counters(rig->store.store)->drafts, 0);
    stream_release(rig->clients[0].stream);
    log_in(rig, 0);
    talk(rig, 0, "b STATUS INBOX (MESSAGES UIDNEXT)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 1 UIDNEXT 2)");
}

/* ---- CATENATE ---- */

static const char multipart[] = "From: a@x.example\r\n"
                                "Subject: parts\r\n"
                                "Content-Type: multipart/mixed; boundary=b\r\n"
                                "MIME-Version: 1.0\r\n"
                                "\r\n"
                                "--b\r\n"
                                "\r\n"
                                "first part\r\n"
                                "--b\r\n"
                                "Content-Type: text/html\r\n"
                                "\r\n"
                                "<b>\r\n"
                                "--b--\r\n";

/* A multipart with uid 1 in INBOX, which is selected. */
static struct imap_rig *parted(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    log_in(rig, 0);
    append(rig, 0, "INBOX", multipart);
    talk(rig, 0, "c CREATE out/box\r\n", "OK");
    talk(rig, 0, "s SELECT INBOX\r\n", "OK [READ-WRITE]");
    return rig;
}

/* What the command has appended to out/box is this. */
static void catenates(struct imap_rig *rig, const char *parts, const char *expected)
{
    char text[2048];
    snprintf(text, sizeof(text), "a APPEND out/box (\\Seen) CATENATE (%s)\r\n", parts);
    talk(rig, 0, text, "OK [APPENDUID ");
    log_in(rig, 1);
    talk(rig, 1, "s EXAMINE out/box\r\n", "OK");
    talk(rig, 1, "f FETCH * (FLAGS BODY.PEEK[])\r\n", "OK");
    snprintf(text, sizeof(text), "FETCH (FLAGS (\\Seen) BODY[] {%zu}\r\n%s)\r\n", strlen(expected),
             expected);
    expect(rig, 1, text);
    stream_release(rig->clients[1].stream);
    rig->clients[1].stream = NULL;
    rig_rounds(rig, 3);
}

static void a_message_is_made_of_parts_of_others(void **state)
{
    struct imap_rig *rig = parted(state);
    catenates(rig, "URL \"/INBOX/;UID=1\"", multipart);
    catenates(rig, "URL \";UID=1/;SECTION=HEADER\" TEXT {5+}\r\nhello",
              "From: a@x.example\r\nSubject: parts\r\n"
              "Content-Type: multipart/mixed; boundary=b\r\nMIME-Version: 1.0\r\n\r\nhello");
    catenates(rig,
              "TEXT {2+}\r\n1: URL \"/INBOX/;UID=1/;SECTION=1\" TEXT {4+}\r\n, 2: "
              "URL \"/inbox/;uid=1/;section=2\" URL \";UID=1/;SECTION=2.MIME\"",
              "1:first part, 2:<b>Content-Type: text/html\r\n\r\n");
    catenates(rig, "URL \";UID=1/;SECTION=HEADER.FIELDS%20(subject)\" TEXT {1+}\r\nx",
              "Subject: parts\r\n\r\nx");
    catenates(rig, "URL \";UID=1/;SECTION=HEADER.FIELDS%20(subject)/;PARTIAL=9.5\"", "parts");
    catenates(
        rig, "URL \";UID=1/;PARTIAL=6.11\" URL \";UID=1/;SECTION=TEXT/;PARTIAL=5\"",
        "a@x.example\r\nfirst part\r\n--b\r\nContent-Type: text/html\r\n\r\n<b>\r\n--b--\r\n");
    catenates(
        rig, "URL {6+}\r\n;UID=1 TEXT ~{1+}\r\nx",
        "From: a@x.example\r\nSubject: parts\r\nContent-Type: multipart/mixed; "
        "boundary=b\r\nMIME-Version: 1.0\r\n\r\n--b\r\n\r\nfirst part\r\n--b\r\nContent-Type: "
        "text/html\r\n\r\n<b>\r\n--b--\r\nx");
}

static void a_client_that_waits_is_asked_for_each_literal(void **state)
{
    struct imap_rig *rig = parted(state);
    say(rig, 0, "a APPEND out/box CATENATE (URL \";UID=1/;SECTION=1\" TEXT {2}\r\n");
    hear(rig, 0, "+ ");
    say(rig, 0, "ab URL {16}\r\n");
    hear(rig, 0, "+ ");
    say(rig, 0, ";UID=1/;PARTIAL= TEXT {2}\r\n"); /* the URL is refused: no literal is asked for */
    hear(rig, 0, "a NO [BADURL ;UID=1/;PARTIAL=] ");
    talk(rig, 0, "b NOOP\r\n", "OK");
}

static void what_a_url_does_not_find_is_told_and_nothing_is_appended(void **state)
{
    static const char *const urls[] = {
        "/none/;UID=1",
        "/INBOX;UIDVALIDITY=1/;UID=1",
        "/INBOX/;UID=2",
        "/INBOX/;UID=1/;SECTION=3",
        "/INBOX/;UID=1/;SECTION=1.HEADER",
        "/INBOX",
        "imap://mail.test/INBOX/;UID=1",
        "/out/box/;UID=1",
    };
    struct imap_rig *rig = parted(state);
    for (size_t i = 0; i < sizeof(urls) / sizeof(*urls); i++) {
        char command[256], answer[256];
        snprintf(command, sizeof(command),
                 "a APPEND out/box CATENATE (TEXT {1+}\r\nx URL \"%s\" TEXT {8+}\r\nz LOGOUT)\r\n",
                 urls[i]);
        snprintf(answer, sizeof(answer), "NO [BADURL %s] ", urls[i]);
        talk(rig, 0, command, answer);
        rig_rounds(rig, 3);
        expect_not(rig, 0, "BYE");
    }
    talk(rig, 0, "b STATUS out/box (MESSAGES UIDNEXT)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 0 UIDNEXT 1)");
    assert_int_equal(mailstore_counters(rig->store.store)->drafts, 0);
    talk(rig, 0, "c UNSELECT\r\n", "OK");
    talk(rig, 0, "d APPEND out/box CATENATE (URL \";UID=1\")\r\n", "NO [BADURL ;UID=1] ");
    talk(rig, 0, "e APPEND none CATENATE (URL \"/INBOX/;UID=1\")\r\n", "NO [TRYCREATE]");
    talk(rig, 0, "f APPEND out/box CATENATE ()\r\n", "BAD");
    talk(rig, 0, "g APPEND out/box CATENATE (URL)\r\n", "BAD");
    talk(rig, 0, "h APPEND out/box CATENATE (TEXT {0+}\r\n)\r\n", "NO The message is empty");
    talk(rig, 0, "i APPEND out/box CATENATE (URL \"/INBOX/;UID=1/;PARTIAL=9999\")\r\n",
         "NO The message is empty");
}

static void several_messages_are_catenated_or_none(void **state)
{
    struct imap_rig *rig = parted(state);
    talk(
        rig, 0,
        "a APPEND out/box CATENATE (URL \";UID=1/;SECTION=1\") (\\Draft) CATENATE (TEXT {1+}\r\nx) "
        "{3+}\r\nabc\r\n",
        "OK [APPENDUID ");
    expect(rig, 0, " 1:3]");
    talk(rig, 0, "b APPEND out/box {3+}\r\nabc CATENATE (URL \";UID=9\")\r\n", "NO [BADURL ");
    talk(rig, 0, "c REPLACE 1 out/box CATENATE (TEXT {2+}\r\nA: URL \";UID=1/;SECTION=2\")\r\n",
         "OK");
    expect(rig, 0, " 4] Replaced\r\n");
    talk(rig, 0, "d STATUS out/box (MESSAGES)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 4)");
    talk(rig, 0, "e STATUS INBOX (MESSAGES)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 0)");
}

static void what_would_be_too_large_is_refused_before_it_is_copied(void **state)
{
    struct imap_rig *rig = parted(state);
    char command[300];
    int size = (int)sizeof(multipart) - 1;
    rig->conf->limits.message_bytes = (uint64_t)size + 5; /* seen by those who log in from now on */
    stream_release(rig->clients[0].stream);
    log_in(rig, 0);
    talk(rig, 0, "a APPEND out/box CATENATE (URL \"/INBOX/;UID=1\" TEXT {5+}\r\n12345)\r\n", "OK");
    talk(rig, 0, "b APPEND out/box CATENATE (URL \"/INBOX/;UID=1\" TEXT {6+}\r\n123456)\r\n",
         "NO [TOOBIG]");
    talk(rig, 0, "c APPEND out/box CATENATE (TEXT {6+}\r\n123456 URL \"/INBOX/;UID=1\")\r\n",
         "NO [TOOBIG]");
    talk(rig, 0, "d APPEND out/box CATENATE (URL \"/INBOX/;UID=1\" URL \"/INBOX/;UID=1\")\r\n",
         "NO [TOOBIG]");
    strcpy(command, "e APPEND out/box");
    for (int i = 0; i < 5; i++) {
        strcat(command, " CATENATE (URL \"/INBOX/;UID=1\")");
    }
    strcat(command, "\r\n");
    talk(rig, 0, command, "NO [TOOBIG]");
    rig->conf->users.quota_bytes = 3 * (uint64_t)size;
    talk(rig, 0, "f APPEND out/box CATENATE (URL \"/INBOX/;UID=1\")\r\n", "NO [OVERQUOTA]");
    talk(rig, 0, "g STATUS out/box (MESSAGES)\r\n", "OK");
    expect(rig, 0, "(MESSAGES 1)");
    assert_int_equal(mailstore_counters(rig->store.store)->drafts, 0);
}

/* Messages that are in the log's memory no more; the shard is never kept for one. */
static void large_parts_are_copied_from_the_disk_in_slices(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    size_t size = 3u << 20;
    char *message = (char *)malloc(size + 1);
    assert_non_null(message);
    for (size_t i = 0; i < size; i++) {
        message[i] = (char)("0123456789abcdef\r\n"[i % 18]);
    }
    message[size] = '\0';
    log_in(rig, 0);
    append(rig, 0, "INBOX", message);
    append(rig, 0, "INBOX", message);
    append(rig, 0, "INBOX", message);
    mailstore_rig_settle(&rig->store);
    log_in(rig, 1);
    say(rig, 0,
        "a APPEND INBOX CATENATE (TEXT {1+}\r\n< URL \"/INBOX/;UID=1\" TEXT {1+}\r\n>)\r\n");
    talk(rig, 1, "b NOOP\r\n", "OK");
    assert_null(strstr(rig->clients[0].heard, "a OK"));
    hear(rig, 0, "a OK ");
    talk(rig, 1, "c SELECT INBOX\r\n", "OK");
    talk(rig, 1, "d FETCH 4 BODY.PEEK[]\r\n", "OK");
    const char *literal = strstr(rig->clients[1].heard, "{3145730}\r\n<");
    assert_non_null(literal);
    assert_memory_equal(literal + 12, message, size);
    assert_int_equal(literal[12 + size], '>');
    free(message);
}

static void a_part_that_the_disk_does_not_give_fails_the_command(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    size_t size = 700u * 1024;
    char *message = (char *)malloc(size + 1);
    assert_non_null(message);
    memset(message, 'x', size);
    message[size] = '\0';
    log_in(rig, 0);
    for (unsigned i = 0; i < 9; i++) {
        append(rig, 0, "INBOX", message);
    }
    free(message);
    mailstore_rig_settle(&rig->store);
    disk_fault_fail(rig->store.rig.fault, DISK_FAULT_READ, 0, UINT32_MAX, -EIO);
    talk(rig, 0, "a APPEND INBOX CATENATE (URL \"/INBOX/;UID=1\" TEXT {2+}\r\nab)\r\n",
         "NO [SERVERBUG]");
    disk_fault_fail(rig->store.rig.fault, DISK_FAULT_READ, 0, 0, -EIO);
    talk(rig, 0, "b APPEND INBOX CATENATE (URL \"/INBOX/;UID=1\")\r\n", "OK");
    say(rig, 0, "c APPEND INBOX CATENATE (URL \"/INBOX/;UID=2\" TEXT {2}\r\n");
    rig_round(rig);
    stream_abort(rig->clients[0].stream); /* in the middle of it */
    rig_rounds(rig, 20);
    assert_true(list_empty(&rig->mailbox.sessions));
    assert_int_equal(mailstore_counters(rig->store.store)->drafts, 0);
}

static void what_was_copied_stays_when_the_message_is_expunged(void **state)
{
    struct imap_rig *rig = parted(state);
    say(rig, 0, "a APPEND out/box CATENATE (URL \"/INBOX/;UID=1/;SECTION=1\" TEXT {1}\r\n");
    hear(rig, 0, "+ ");
    log_in(rig, 1);
    talk(rig, 1, "s SELECT INBOX\r\n", "OK");
    talk(rig, 1, "b STORE 1 +FLAGS.SILENT (\\Deleted)\r\n", "OK");
    talk(rig, 1, "c EXPUNGE\r\n", "OK");
    say(rig, 0, "x)\r\n");
    hear(rig, 0, "a OK ");
    expect(rig, 0, "* 1 EXPUNGE\r\n");
    talk(rig, 0, "d APPEND out/box CATENATE (URL \";UID=1\")\r\n", "NO [BADURL ;UID=1] ");
    talk(rig, 0, "e EXAMINE out/box\r\n", "OK");
    talk(rig, 0, "f FETCH 1 BODY.PEEK[]\r\n", "OK");
    expect(rig, 0, "{11}\r\nfirst partx)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
        TEST(a_message_takes_the_place_of_another),
        TEST(uid_replace_names_the_message_by_its_uid),
        TEST(a_draft_is_replaced_by_what_was_sent),
        TEST(binary_and_utf8_messages_replace_too),
        TEST(a_replace_that_cannot_be_changes_nothing),
        TEST(what_is_replaced_does_not_count_against_the_quota),
        TEST(of_two_that_replace_one_message_one_does),
        TEST(others_and_qresync_clients_are_told_of_both_halves),
        TEST(a_replace_whose_write_fails_has_not_happened),
        TEST(a_client_that_goes_during_replace_leaves_nothing),
        TEST(a_message_is_made_of_parts_of_others),
        TEST(a_client_that_waits_is_asked_for_each_literal),
        TEST(what_a_url_does_not_find_is_told_and_nothing_is_appended),
        TEST(several_messages_are_catenated_or_none),
        TEST(what_would_be_too_large_is_refused_before_it_is_copied),
        TEST(large_parts_are_copied_from_the_disk_in_slices),
        TEST(a_part_that_the_disk_does_not_give_fails_the_command),
        TEST(what_was_copied_stays_when_the_message_is_expunged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
