/* imap_acl, imap_access: who may do what, on a store that takes its time. */
#include "tests/unit/imap_two.h"

/* ---- The commands ---- */

static void rights_are_given_told_and_taken(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    talk(rig, 0, "a CAPABILITY\r\n", "OK");
    expect(rig, 0, " ACL RIGHTS=texk LIST-MYRIGHTS");
    talk(rig, 0, "b GETACL work\r\n", "OK");
    expect(rig, 0, "* ACL work alice lrwstipekxacd\r\n");
    talk(rig, 0, "c SETACL work bob lr\r\n", "OK");
    talk(rig, 0, "d SETACL work bob +is\r\n", "OK");
    talk(rig, 0, "e SETACL work bob -r\r\n", "OK");
    talk(rig, 0, "f SETACL work -carol w\r\n", "OK");
    talk(rig, 0, "g GETACL work\r\n", "OK");
    expect(rig, 0, "* ACL work -carol w bob lsi alice lrwstipekxacd\r\n");
    talk(rig, 0, "h DELETEACL work -carol\r\n", "OK");
    talk(rig, 0, "i SETACL work Bob@example.org +cd\r\n", "OK");
    talk(rig, 0, "j GETACL work\r\n", "OK");
    expect(rig, 0, "* ACL work bob lstiekxcd alice lrwstipekxacd\r\n");
    talk(rig, 0, "k DELETEACL work bob\r\n", "OK");
    talk(rig, 0, "l DELETEACL work bob\r\n", "OK");
    talk(rig, 0, "m GETACL work\r\n", "OK");
    expect(rig, 0, "* ACL work alice lrwstipekxacd\r\n");
    talk(rig, 0, "n MYRIGHTS work\r\n", "OK");
    expect(rig, 0, "* MYRIGHTS work lrwstipekxacd\r\n");
}

static void what_can_be_given_is_told(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    talk(rig, 0, "a LISTRIGHTS work bob\r\n", "OK");
    expect(rig, 0, "* LISTRIGHTS work bob \"\" l r w s t i p e k x a c d\r\n");
    talk(rig, 0, "b LISTRIGHTS work alice\r\n", "OK");
    expect(rig, 0, "* LISTRIGHTS work alice la r w s t i p e k x c d\r\n");
}

static void bad_rights_and_names_are_refused(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    talk(rig, 0, "a SETACL work bob lrq\r\n", "BAD");
    talk(rig, 0, "b SETACL work bob lR\r\n", "BAD");
    talk(rig, 0, "c SETACL work bob 0\r\n", "BAD");
    talk(rig, 0, "d SETACL work \"\" lr\r\n", "BAD");
    talk(rig, 0, "e SETACL work - lr\r\n", "BAD");
    talk(rig, 0, "f SETACL work \"a/b\" lr\r\n", "BAD");
    talk(rig, 0, "g SETACL work $group lr\r\n", "NO [CANNOT]");
    talk(rig, 0, "h SETACL none bob lr\r\n", "NO [NONEXISTENT]");
    talk(rig, 0, "i GETACL none\r\n", "NO [NONEXISTENT]");
    talk(rig, 0, "j MYRIGHTS none\r\n", "NO [NONEXISTENT]");
    talk(rig, 0, "k LISTRIGHTS none bob\r\n", "NO [NONEXISTENT]");
    talk(rig, 0, "l DELETEACL none bob\r\n", "NO [NONEXISTENT]");
    talk(rig, 0, "m GETACL work\r\n", "OK");
    expect(rig, 0, "* ACL work alice lrwstipekxacd\r\n");
    rig->conf->imap.acl_anyone = false;
    talk(rig, 0, "n SETACL work anyone l\r\n", "NO [CANNOT]");
}

static void the_owner_keeps_what_sets_it_right_again(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    talk(rig, 0, "a SETACL work alice -x\r\n", "OK");
    talk(rig, 0, "b DELETE work\r\n", "NO [NOPERM]");
    talk(rig, 0, "c SETACL work alice \"\"\r\n", "OK");
    talk(rig, 0, "d MYRIGHTS work\r\n", "OK");
    expect(rig, 0, "* MYRIGHTS work la\r\n");
    talk(rig, 0, "e SELECT work\r\n", "NO [NOPERM]");
    talk(rig, 0, "f SETACL work -alice la\r\n", "OK");
    talk(rig, 0, "g GETACL work\r\n", "OK");
    expect(rig, 0, "* ACL work -alice la alice la\r\n");
    talk(rig, 0, "h SETACL work alice +r\r\n", "OK");
    talk(rig, 0, "i SELECT work\r\n", "OK [READ-ONLY]");
    talk(rig, 0, "j DELETEACL work alice\r\n", "OK");
    talk(rig, 0, "k SELECT work\r\n", "OK [READ-WRITE]");
}

static void there_is_an_end_to_how_many_have_rights(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    char command[64];
    for (int i = 0; i < 500; i++) {
        snprintf(command, sizeof(command), "a SETACL work u%d l\r\n", i);
        talk(rig, 0, command, "OK");
    }
    talk(rig, 0, "b SETACL work one-more l\r\n", "NO [LIMIT]");
    talk(rig, 0, "c SETACL work u7 lr\r\n", "OK");
    talk(rig, 0, "d GETACL work\r\n", "OK");
    expect(rig, 0, " u499 l ");
    expect(rig, 0, " u99 l alice lrw");
}

static void everybodys_rights_and_one_s_own_add_up(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "i");
    talk(rig, 0, "a SETACL work anyone lrs\r\n", "OK");
    talk(rig, 1, "b MYRIGHTS shared/alice/work\r\n", "OK");
    expect(rig, 1, "* MYRIGHTS shared/alice/work lrsi\r\n");
    talk(rig, 0, "c SETACL work -bob s\r\n", "OK");
    talk(rig, 1, "d MYRIGHTS shared/alice/work\r\n", "OK");
    expect(rig, 1, "* MYRIGHTS shared/alice/work lri\r\n");
    talk(rig, 0, "e SETACL work -anyone i\r\n", "OK");
    talk(rig, 1, "f MYRIGHTS shared/alice/work\r\n", "OK");
    expect(rig, 1, "* MYRIGHTS shared/alice/work lr\r\n");
    talk(rig, 0, "g MYRIGHTS work\r\n", "OK"); /* alice is anyone, too */
    expect(rig, 0, "* MYRIGHTS work lrwstpekxacd\r\n");
}

/* ---- Who has no right learns nothing ---- */

/* Each command is answered alike of a mailbox that is kept from him and of one that is not there. */
static void what_may_not_be_seen_is_as_if_it_were_not_there(void **state)
{
    static const char *const commands[] = {"GETACL %s",
                                           "LISTRIGHTS %s bob",
                                           "MYRIGHTS %s",
                                           "SETACL %s bob a",
                                           "DELETEACL %s bob",
                                           "SELECT %s",
                                           "EXAMINE %s",
                                           "STATUS %s (MESSAGES)",
                                           "DELETE %s",
                                           "CREATE %s/below",
                                           "RENAME %s shared/alice/other",
                                           "RENAME %s mine",
                                           "APPEND %s {1+}\r\nx",
                                           "COPY 1 %s",
                                           "CREATE %s",
                                           "GETQUOTAROOT %s",
                                           "GETMETADATA %s /private/x",
                                           "MOVE 1 %s",
                                           "SETMETADATA %s (/private/x \"1\")"};
    static const char *const rights[] = {"", "p", "s"}; /* and nothing that MYRIGHTS asks for */
    struct imap_rig *rig = alice_and_bob(state);
    append(rig, 1, "INBOX", "x\r\n");
    talk(rig, 1, "s SELECT INBOX\r\n", "OK");
    for (size_t r = 0; r < sizeof(rights) / sizeof(rights[0]); r++) {
        bob_may(rig, rights[r]);
        for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
            static const char *const names[] = {"shared/alice/work", "shared/alice/none",
                                                "shared/nobody/work"};
            char answers[3][256], command[128], form[96];
            for (size_t n = 0; n < 3; n++) {
                snprintf(form, sizeof(form), "t %s\r\n", commands[i]);
                snprintf(command, sizeof(command), form, names[n]);
                say(rig, 1, command);
                snprintf(answers[n], sizeof(answers[n]), "%.*s", 250, hear(rig, 1, "t "));
                assert_memory_equal(answers[n], "t NO [", 6);
                talk(rig, 1, "s SELECT INBOX\r\n", "OK");
            }
            assert_string_equal(answers[0], answers[1]);
            assert_string_equal(answers[1], answers[2]);
        }
    }
}

static void what_is_seen_and_not_allowed_is_refused_with_noperm(void **state)
{
    static const char *const commands[] = {"GETACL shared/alice/work",
                                           "LISTRIGHTS shared/alice/work bob",
                                           "SETACL shared/alice/work bob a",
                                           "DELETEACL shared/alice/work bob",
                                           "SELECT shared/alice/work",
                                           "EXAMINE shared/alice/work",
                                           "STATUS shared/alice/work (MESSAGES)",
                                           "DELETE shared/alice/work",
                                           "CREATE shared/alice/work/below",
                                           "RENAME shared/alice/work shared/alice/other",
                                           "RENAME shared/alice/work mine",
                                           "APPEND shared/alice/work {1+}\r\nx",
                                           "COPY 1 shared/alice/work",
                                           "MOVE 1 shared/alice/work",
                                           "GETQUOTAROOT shared/alice/work",
                                           "GETMETADATA shared/alice/work /private/x",
                                           "SETMETADATA shared/alice/work (/private/x \"1\")"};
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "l");
    append(rig, 1, "INBOX", "x\r\n");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        char command[128];
        talk(rig, 1, "s SELECT INBOX\r\n", "OK");
        snprintf(command, sizeof(command), "t %s\r\n", commands[i]);
        talk(rig, 1, command, "NO [NOPERM]");
    }
    talk(rig, 1, "u MYRIGHTS shared/alice/work\r\n", "OK");
    expect(rig, 1, "* MYRIGHTS shared/alice/work l\r\n");
}

/* ---- RFC 4314 §4, right by right ---- */

static void with_r_alone_nothing_changes(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lr");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK [READ-ONLY]");
    expect(rig, 1, "* OK [PERMANENTFLAGS ()]");
    expect(rig, 1, "* 2 EXISTS\r\n");
    talk(rig, 1, "b FETCH 1 BODY[TEXT]\r\n", "OK");
    expect(rig, 1, "first");
    talk(rig, 1, "c FETCH 1 FLAGS\r\n", "OK");
    expect(rig, 1, "* 1 FETCH (FLAGS ())\r\n");
    talk(rig, 1, "d STORE 1 +FLAGS (\\Seen)\r\n", "NO [NOPERM]");
    talk(rig, 1, "e STORE 1 FLAGS ()\r\n", "NO [NOPERM]");
    talk(rig, 1, "f EXPUNGE\r\n", "NO [NOPERM]");
    talk(rig, 1, "g UID EXPUNGE 1\r\n", "NO [NOPERM]");
    talk(rig, 1, "h MOVE 1 INBOX\r\n", "NO [NOPERM]");
    talk(rig, 1, "i COPY 1 shared/alice/work\r\n", "NO [NOPERM]");
    talk(rig, 1, "j COPY 1 INBOX\r\n", "OK [COPYUID");
    talk(rig, 1, "k CLOSE\r\n", "OK");
    talk(rig, 1, "l STATUS shared/alice/work (MESSAGES)\r\n", "OK");
    expect(rig, 1, "* STATUS shared/alice/work (MESSAGES 2)\r\n");
}

static void seen_goes_with_s(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lrs");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK [READ-WRITE]");
    expect(rig, 1, "* OK [PERMANENTFLAGS (\\Seen)]");
    talk(rig, 1, "b FETCH 2 BODY[TEXT]\r\n", "OK");
    talk(rig, 1, "c STORE 1 +FLAGS (\\Seen \\Flagged key \\Deleted)\r\n", "OK");
    expect(rig, 1, "* 1 FETCH (FLAGS (\\Seen))\r\n");
    talk(rig, 1, "d STORE 1 +FLAGS (\\Flagged key)\r\n", "NO [NOPERM]");
    talk(rig, 1, "e STORE 1 -FLAGS (\\Deleted)\r\n", "NO [NOPERM]");
    talk(rig, 0, "f SELECT work\r\n", "OK");
    talk(rig, 0, "g STORE 1 +FLAGS (\\Flagged old \\Deleted)\r\n", "OK");
    talk(rig, 1, "h STORE 1 FLAGS (\\Answered new)\r\n", "OK"); /* \Seen goes, the others stay */
    expect(rig, 1, "* 1 FETCH (FLAGS (\\Flagged \\Deleted old))\r\n");
    talk(rig, 0, "i FETCH 2 FLAGS\r\n", "OK");
    expect(rig, 0, "* 2 FETCH (FLAGS (\\Seen))\r\n"); /* flags are shared */
}

static void deleted_goes_with_t_and_other_flags_with_w(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lrt");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK [READ-WRITE]");
    expect(rig, 1, "* OK [PERMANENTFLAGS (\\Deleted)]");
    talk(rig, 1, "b STORE 1 FLAGS (\\Deleted \\Seen x)\r\n", "OK");
    expect(rig, 1, "* 1 FETCH (FLAGS (\\Deleted))\r\n");
    bob_may(rig, "lrw");
    talk(rig, 1, "c STORE 1 FLAGS (\\Flagged \\Seen x)\r\n", "OK");
    expect(rig, 1, "* 1 FETCH (FLAGS (\\Flagged \\Deleted x))\r\n");
    talk(rig, 1, "d NOOP\r\n", "OK");
    talk(rig, 1, "e STORE 1 -FLAGS (\\Deleted)\r\n", "NO [NOPERM]");
}

static void expunge_and_close_need_e(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lrt");
    talk(rig, 1, "a SELECT shared/alice/work\r\n", "OK");
    talk(rig, 1, "b STORE 1 +FLAGS (\\Deleted)\r\n", "OK");
    talk(rig, 1, "c EXPUNGE\r\n", "NO [NOPERM]");
    talk(rig, 1, "d CLOSE\r\n", "OK");
    talk(rig, 1, "e STATUS shared/alice/work (MESSAGES)\r\n", "OK");
    expect(rig, 1, "(MESSAGES 2)");
    bob_may(rig, "lre");
    talk(rig, 1, "f SELECT shared/alice/work\r\n", "OK [READ-WRITE]");
    talk(rig, 1, "g EXPUNGE\r\n", "OK");
    expect(rig, 1, "* 1 EXPUNGE\r\n");
    talk(rig, 1, "h MOVE 1 INBOX\r\n", "NO [NOPERM]");
    bob_may(rig, "lrte");
    talk(rig, 1, "i MOVE 1 INBOX\r\n", "OK");
    talk(rig, 1, "j STATUS shared/alice/work (MESSAGES)\r\n", "OK");
    expect(rig, 1, "(MESSAGES 0)");
}

static void append_and_copy_need_i_and_set_what_flags_they_may(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lri");
    talk(rig, 1, "a APPEND shared/alice/work (\\Seen \\Deleted \\Flagged key) {3+}\r\nx\r\n\r\n",
         "OK [APPENDUID");
    append(rig, 1, "INBOX", "y\r\n");
    talk(rig, 1, "b SELECT INBOX\r\n", "OK");
    talk(rig, 1, "c STORE 1 FLAGS (\\Seen \\Deleted \\Flagged key)\r\n", "OK");
    talk(rig, 1, "d COPY 1 shared/alice/work\r\n", "OK [COPYUID");
    bob_may(rig, "lriw");
    talk(rig, 1, "e COPY 1 shared/alice/work\r\n", "OK [COPYUID");
    bob_may(rig, "lrits");
    talk(rig, 1, "f MOVE 1 shared/alice/work\r\n", "OK");
    talk(rig, 0, "g SELECT work\r\n", "OK");
    talk(rig, 0, "h FETCH 3:6 FLAGS\r\n", "OK");
    expect(rig, 0, "* 3 FETCH (FLAGS ())\r\n* 4 FETCH (FLAGS ())\r\n");
    expect(rig, 0, "* 5 FETCH (FLAGS (\\Flagged key))\r\n");
    expect(rig, 0, "* 6 FETCH (FLAGS (\\Seen \\Deleted))\r\n");
}

static void mailboxes_are_made_with_k_and_deleted_with_x(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lrk");
    talk(rig, 1, "a CREATE shared/alice/work/new\r\n", "OK [MAILBOXID");
    talk(rig, 1, "b CREATE shared/alice/work/new\r\n", "NO [ALREADYEXISTS]");
    talk(rig, 1, "c CREATE shared/alice/top\r\n", "NO [NOPERM]");
    talk(rig, 1, "d CREATE shared/x\r\n", "NO [NOPERM]");
    talk(rig, 1, "e CREATE shared\r\n", "NO [NOPERM]");
    talk(rig, 1, "f CREATE shared/alice/work/sent (USE (\\Sent))\r\n", "NO [USEATTR]");
    talk(rig, 1, "g DELETE shared/alice/work/new\r\n", "NO [NOPERM]");
    talk(rig, 0, "h GETACL work/new\r\n", "OK"); /* as that of the mailbox above it */
    expect(rig, 0, "* ACL work/new bob lrkc alice lrwstipekxacd\r\n");
    talk(rig, 0, "i SETACL work/new bob +x\r\n", "OK");
    talk(rig, 1, "j RENAME shared/alice/work/new shared/alice/top\r\n", "NO [NOPERM]");
    talk(rig, 1, "k RENAME shared/alice/work/new mine\r\n", "NO [CANNOT]");
    talk(rig, 1, "l RENAME shared/alice/work/new shared/alice/work/old\r\n", "OK");
    talk(rig, 0, "m GETACL work/old\r\n", "OK");
    expect(rig, 0, "* ACL work/old bob lrkxc alice lrwstipekxacd\r\n");
    talk(rig, 1, "n DELETE shared/alice/work/old\r\n", "OK");
    talk(rig, 0, "o LIST \"\" work/*\r\n", "OK");
    expect_not(rig, 0, "* LIST");
    talk(rig, 0, "p SETACL INBOX bob lrx\r\n", "OK");
    talk(rig, 1, "q DELETE shared/alice/INBOX\r\n", "NO [CANNOT]");
}

static void who_may_administer_gives_rights(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "la");
    talk(rig, 1, "a SETACL shared/alice/work bob +r\r\n", "OK");
    talk(rig, 1, "b SETACL shared/alice/work alice lr\r\n", "OK");
    talk(rig, 1, "c GETACL shared/alice/work\r\n", "OK");
    expect(rig, 1, "* ACL shared/alice/work alice lra bob lra\r\n");
    talk(rig, 0, "d MYRIGHTS work\r\n", "OK");
    expect(rig, 0, "* MYRIGHTS work lra\r\n");
    talk(rig, 1, "e LISTRIGHTS shared/alice/work alice\r\n", "OK");
    expect(rig, 1, "* LISTRIGHTS shared/alice/work alice la ");
}

static void metadata_of_another_s_mailbox(void **state)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, "lr");
    talk(rig, 0, "a SETMETADATA work (/private/x \"a\" /shared/x \"both\")\r\n", "OK");
    talk(rig, 1, "b SETMETADATA shared/alice/work (/private/x \"b\")\r\n", "OK");
    talk(rig, 1, "d GETMETADATA shared/alice/work (/private/x /shared/x)\r\n", "OK");
    expect(rig, 1, "* METADATA shared/alice/work (/private/x \"b\" /shared/x \"both\")\r\n");
    talk(rig, 0, "e GETMETADATA work (/private/x)\r\n", "OK");
    expect(rig, 0, "* METADATA work (/private/x \"a\")\r\n");
    talk(rig, 0, "h SETMETADATA work (/private/specialuse \"\\\\Junk\")\r\n", "OK");
    talk(rig, 1, "i GETMETADATA shared/alice/work (/private/specialuse)\r\n", "OK");
    expect(rig, 1, "(/private/specialuse NIL)");
}

/* RFC 5464 §3.3: the same ones for what is his alone and for what all see. */
static void which_rights_metadata_takes(void **state)
{
    static const struct {
        const char *rights, *answer;
    } cases[] = {
        {"lr", "OK"},
        {"ls", "OK"},
        {"lw", "OK"},
        {"li", "OK"},
        {"lp", "OK"},
        {"l", "NO [NOPERM]"},
        {"la", "NO [NOPERM]"},
        {"ltekx", "NO [NOPERM]"},
        {"rswip", "NO [NONEXISTENT]"},
    };
    struct imap_rig *rig = alice_and_bob(state);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *answer = cases[i].answer, *rights = cases[i].rights;
        char told[80];
        talk(rig, 0, "a SETMETADATA work (/shared/x \"hers\")\r\n", "OK");
        bob_may(rig, rights);
        talk(rig, 1, "b SETMETADATA shared/alice/work (/shared/x \"his\")\r\n", answer);
        talk(rig, 1, "c SETMETADATA shared/alice/work (/private/x \"his\")\r\n", answer);
        talk(rig, 1, "d GETMETADATA shared/alice/work (/shared/x /private/x)\r\n", answer);
        talk(rig, 0, "e GETMETADATA work (/shared/x /private/x)\r\n", "OK");
        snprintf(told, sizeof(told), "* METADATA work (/shared/x \"%s\" /private/x NIL)\r\n",
                 strcmp(answer, "OK") == 0 ? "his" : "hers");
        expect(rig, 0, told);
    }
}

int main(void)
{
#define SCENE(name) cmocka_unit_test_setup_teardown(name, imap_rig_open, imap_rig_close)
    const struct CMUnitTest tests[] = {
        SCENE(rights_are_given_told_and_taken),
        SCENE(what_can_be_given_is_told),
        SCENE(bad_rights_and_names_are_refused),
        SCENE(the_owner_keeps_what_sets_it_right_again),
        SCENE(there_is_an_end_to_how_many_have_rights),
        SCENE(everybodys_rights_and_one_s_own_add_up),
        SCENE(what_may_not_be_seen_is_as_if_it_were_not_there),
        SCENE(what_is_seen_and_not_allowed_is_refused_with_noperm),
        SCENE(with_r_alone_nothing_changes),
        SCENE(seen_goes_with_s),
        SCENE(deleted_goes_with_t_and_other_flags_with_w),
        SCENE(expunge_and_close_need_e),
        SCENE(append_and_copy_need_i_and_set_what_flags_they_may),
        SCENE(mailboxes_are_made_with_k_and_deleted_with_x),
        SCENE(who_may_administer_gives_rights),
        SCENE(metadata_of_another_s_mailbox),
        SCENE(which_rights_metadata_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
