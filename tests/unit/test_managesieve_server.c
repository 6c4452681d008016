/* ManageSieve's server: what the client says, what the owner hears, what is answered. */
#include "proto/sieve/managesieve_server.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const struct managesieve_settings settings = {
    .implementation = {(const uint8_t *)"Tubepost", 8},
    .sieve = {(const uint8_t *)"fileinto vacation", 17},
    .sasl = {(const uint8_t *)"PLAIN", 5},
    .starttls = true,
    .redirects_max = 4,
    .script_bytes_max = 1000,
    .errors_max = 5,
    .login_ns = 100,
    .idle_ns = 1000,
};

#define CAPABILITIES(sasl, tls)                                                                    \
    "\"IMPLEMENTATION\" \"Tubepost\"\r\n\"SIEVE\" \"fileinto vacation\"\r\n\"SASL\" \"" sasl       \
    "\"\r\n" tls "\"MAXREDIRECTS\" \"4\"\r\n\"UNAUTHENTICATE\"\r\n\"VERSION\" \"1.0\"\r\n"

static struct managesieve_server server;
static char heard[4096], said[65536];
static const struct managesieve_verdict *next_verdict;
static const char *challenge;

static void hear(const char *format, ...)
{
    va_list arguments;
    size_t used = strlen(heard);
    va_start(arguments, format);
    vsnprintf(heard + used, sizeof(heard) - used, format, arguments);
    va_end(arguments);
}

static void output_take(void)
{
    struct slice output = managesieve_server_output(&server);
    strncat(said, (const char *)output.bytes, output.size);
    managesieve_server_sent(&server, output.size);
}

static void verdict_give(void)
{
    managesieve_server_verdict(&server, next_verdict);
}

static void list_give(void)
{
    for (int i = 0; i < 100; i++) {
        char name[16];
        int size = snprintf(name, sizeof(name), "s\"%d", i);
        while (!managesieve_server_list(&server, slice_of(name, (size_t)size), i == 7)) {
            output_take();
        }
    }
    managesieve_server_verdict(&server, NULL);
}

static void script_give(void)
{
    static uint8_t script[20000];
    size_t given = 0;
    memset(script, 'x', sizeof(script));
    if (next_verdict != NULL) {
        verdict_give();
        return;
    }
    managesieve_server_script(&server, sizeof(script));
    while (given < sizeof(script)) {
        given += managesieve_server_script_piece(&server,
                                                 slice_of(script + given, sizeof(script) - given));
        output_take();
    }
    managesieve_server_verdict(&server, NULL);
}

static void event_take(const struct managesieve_event *event)
{
    static const char *const names[] = {
        "",          "AUTHENTICATE", "RESPONSE",     "CANCEL",      "UNAUTHENTICATE",
        "HAVESPACE", "BEGIN",        "PIECE",        "END",         "LISTSCRIPTS",
        "SETACTIVE", "GETSCRIPT",    "DELETESCRIPT", "RENAMESCRIPT"};
    if (event->kind == MANAGESIEVE_EVENT_NONE) {
        return;
    }
    hear("%s", names[event->kind]);
    if (event->name.size > 0) {
        hear(" %.*s", (int)event->name.size, event->name.bytes);
    }
    if (event->new_name.size > 0) {
        hear(" %.*s", (int)event->new_name.size, event->new_name.bytes);
    }
    if (event->text.size > 0 || event->has_text) {
        hear(" <%.*s>", (int)event->text.size,
             event->text.size > 0 ? (const char *)event->text.bytes : "");
    }
    hear("%s", event->check ? " check" : "");
    if (event->size > 0) {
        hear(" %u", event->size);
    }
    hear(";");
    switch (event->kind) {
    case MANAGESIEVE_EVENT_NONE:
    case MANAGESIEVE_EVENT_CANCEL:
    case MANAGESIEVE_EVENT_UNAUTHENTICATE:
    case MANAGESIEVE_EVENT_SCRIPT:
        break;
    case MANAGESIEVE_EVENT_AUTHENTICATE:
    case MANAGESIEVE_EVENT_RESPONSE:
        if (challenge != NULL) {
            managesieve_server_challenge(&server, slice_text(challenge));
            challenge = NULL;
            break;
        }
        verdict_give();
        break;
    case MANAGESIEVE_EVENT_LISTSCRIPTS:
        list_give();
        break;
    case MANAGESIEVE_EVENT_GETSCRIPT:
        script_give();
        break;
    case MANAGESIEVE_EVENT_HAVESPACE:
    case MANAGESIEVE_EVENT_SCRIPT_BEGIN:
    case MANAGESIEVE_EVENT_SCRIPT_END:
    case MANAGESIEVE_EVENT_SETACTIVE:
    case MANAGESIEVE_EVENT_DELETESCRIPT:
    case MANAGESIEVE_EVENT_RENAMESCRIPT:
        verdict_give();
        break;
    }
}

/* All of it, in pieces of `cut`; what was heard and said is new. */
static enum managesieve_want feed(const void *bytes, size_t size, size_t cut)
{
    enum managesieve_want want = MANAGESIEVE_WANT_INPUT;
    struct slice rest = slice_of(bytes, size);
    heard[0] = said[0] = '\0';
    while (rest.size > 0 && want == MANAGESIEVE_WANT_INPUT) {
        struct managesieve_event event;
        size_t used, step = rest.size < cut ? rest.size : cut;
        do {
            uint8_t *copy = malloc(step + 1);
            memcpy(copy, rest.bytes, step);
            want = managesieve_server_input(&server, 5, slice_of(copy, step), &used, &event);
            event_take(&event);
            free(copy);
            output_take();
            rest = slice_from(rest, used);
            step -= used;
        } while ((used > 0 || event.kind != MANAGESIEVE_EVENT_NONE) &&
                 want != MANAGESIEVE_WANT_CLOSE && want != MANAGESIEVE_WANT_TLS);
        assert_true(step == 0 || want != MANAGESIEVE_WANT_INPUT);
    }
    return want;
}

static enum managesieve_want say(const char *text)
{
    return feed(text, strlen(text), SIZE_MAX);
}

static int open_secured(void **state)
{
    (void)state;
    next_verdict = NULL;
    challenge = NULL;
    managesieve_server_open(&server, &settings, true, 0);
    said[0] = '\0';
    output_take();
    return 0;
}

static int open_logged_in(void **state)
{
    open_secured(state);
    say("AUTHENTICATE \"PLAIN\" \"AGEAYg==\"\r\n");
    assert_string_equal(heard, "AUTHENTICATE PLAIN <AGEAYg==>;");
    assert_string_equal(said, "OK \"Logged in.\"\r\n");
    return 0;
}

static void the_greeting_says_what_is_possible(void **state)
{
    (void)state;
    managesieve_server_open(&server, &settings, false, 0);
    said[0] = '\0';
    output_take();
    assert_string_equal(said, CAPABILITIES("", "\"STARTTLS\"\r\n") "OK \"ManageSieve ready.\"\r\n");
    say("capability\r\n");
    assert_string_equal(said,
                        CAPABILITIES("", "\"STARTTLS\"\r\n") "OK \"Capability completed.\"\r\n");
    say("AUTHENTICATE \"PLAIN\"\r\n");
    assert_string_equal(heard, "");
    assert_string_equal(said, "NO (ENCRYPT-NEEDED) \"Say STARTTLS first.\"\r\n");
}

static void after_starttls_what_came_in_the_clear_is_forgotten(void **state)
{
    (void)state;
    managesieve_server_open(&server, &settings, false, 0);
    assert_int_equal(say("STARTTLS\r\nLOGOUT\r\n"), MANAGESIEVE_WANT_TLS);
    assert_string_equal(strstr(said, "OK \"Begin"), "OK \"Begin TLS negotiation now.\"\r\n");
    managesieve_server_secured(&server, 7);
    said[0] = '\0';
    output_take();
    assert_string_equal(said, CAPABILITIES("PLAIN", "") "OK \"ManageSieve ready.\"\r\n");
    say("STARTTLS\r\n");
    assert_string_equal(said, "NO \"STARTTLS is not possible now.\"\r\n");
}

static void nobody_does_anything_before_login(void **state)
{
    static const char *const commands[] = {"LISTSCRIPTS\r\n", "GETSCRIPT \"a\"\r\n",
                                           "PUTSCRIPT \"a\" {4+}\r\nkeep\r\n",
                                           "CHECKSCRIPT \"keep;\"\r\n"};
    (void)state;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        say(commands[i]);
        assert_string_equal(heard, "");
        assert_string_equal(said, "NO \"Authenticate first.\"\r\n");
    }
}

static void sasl_goes_in_steps(void **state)
{
    const struct managesieve_verdict no = {MANAGESIEVE_NO, NULL, slice_text("No.")};
    const struct managesieve_verdict last = {MANAGESIEVE_OK, NULL, slice_text("dj0x")};
    (void)state;
    challenge = "";
    say("AUTHENTICATE \"SCRAM-SHA-1\"\r\n");
    assert_string_equal(heard, "AUTHENTICATE SCRAM-SHA-1;");
    assert_string_equal(said, "\"\"\r\n");
    challenge = "cj0x";
    say("{4+}\r\nbiws\r\n");
    assert_string_equal(heard, "RESPONSE <biws>;");
    assert_string_equal(said, "\"cj0x\"\r\n");
    say("\"*\"\r\n");
    assert_string_equal(heard, "CANCEL;");
    assert_string_equal(said, "NO \"Authentication is cancelled.\"\r\n");
    next_verdict = &no;
    say("AUTHENTICATE \"PLAIN\" \"\"\r\n");
    assert_string_equal(heard, "AUTHENTICATE PLAIN <>;");
    assert_string_equal(said, "NO \"No.\"\r\n");
    next_verdict = &last;
    say("AUTHENTICATE \"PLAIN\" \"eA==\"\r\n");
    assert_string_equal(said, "OK (SASL \"dj0x\")\r\n");
    next_verdict = NULL;
    say("AUTHENTICATE \"PLAIN\" \"eA==\"\r\n");
    assert_string_equal(said, "NO \"You are logged in already.\"\r\n");
    say("UNAUTHENTICATE\r\nLISTSCRIPTS\r\n");
    assert_string_equal(heard, "UNAUTHENTICATE;");
    assert_string_equal(said, "OK\r\nNO \"Authenticate first.\"\r\n");
}

static void commands_and_their_answers(void **state)
{
    static const struct {
        const char *said, *heard, *answer;
    } rows[] = {
        {"NOOP\r\n", "", "OK \"Done\"\r\n"},
        {"NOOP \"STARTTLS-SYNC-42\"\r\n", "", "OK (TAG \"STARTTLS-SYNC-42\") \"Done\"\r\n"},
        {"HAVESPACE \"myscript\" 999\r\n", "HAVESPACE myscript 999;", "OK\r\n"},
        {"HAVESPACE \"myscript\" 999999\r\n", "",
         "NO (QUOTA/MAXSIZE) \"The script would be too large.\"\r\n"},
        {"PUTSCRIPT \"mysievescript\" {18+}\r\nkeep; {3+}\r\nLOGOUT\r\n",
         "BEGIN mysievescript 18;PIECE <keep; {3+}\r\nLOGOUT>;END;", "OK\r\n"},
        {"PutScript {3+}\r\nfoo {5+}\r\nkeep;\r\n", "BEGIN foo 5;PIECE <keep;>;END;", "OK\r\n"},
        {"PUTSCRIPT \"foo\" \"keep \\\"x\\\\\\\";\"\r\n", "BEGIN foo 10;PIECE <keep \"x\\\";>;END;",
         "OK\r\n"},
        {"PUTSCRIPT \"foo\" \"\"\r\n", "BEGIN foo;END;", "OK\r\n"},
        {"PUTSCRIPT \"foo\" {0+}\r\n\r\n", "BEGIN foo;END;", "OK\r\n"},
        {"PUTSCRIPT \"foo\" {2+}\r\nabc\r\n", "BEGIN foo 2;PIECE <ab>;",
         "NO \"Behind the script the line must end.\"\r\n"},
        {"PUTSCRIPT \"\" {2+}\r\nab\r\n", "", "NO \"This is no name for a script.\"\r\n"},
        {"CHECKSCRIPT {5+}\r\nkeep;\r\n", "BEGIN check 5;PIECE <keep;>;END;", "OK\r\n"},
        {"SETACTIVE \"a\\\"b\"\r\n", "SETACTIVE a\"b;", "OK\r\n"},
        {"SETACTIVE \"\"\r\n", "SETACTIVE;", "OK\r\n"},
        {"SETACTIVE {4+}\r\n{3+}\r\nNOOP\r\n", "SETACTIVE {3+};", "OK\r\nOK \"Done\"\r\n"},
        {"DELETESCRIPT \"\xd1\x8f\"\r\n", "DELETESCRIPT \xd1\x8f;", "OK\r\n"},
        {"DELETESCRIPT \"a\x01\"\r\n", "", "NO \"This is no name for a script.\"\r\n"},
        {"RENAMESCRIPT \"a\" \"b\"\r\n", "RENAMESCRIPT a b;", "OK\r\n"},
        {"RENAMESCRIPT \"a\"\r\n", "", "NO \"The arguments of this command are wrong.\"\r\n"},
        {"HAVESPACE \"a\" \"b\"\r\n", "", "NO \"The arguments of this command are wrong.\"\r\n"},
        {"HAVESPACE \"a\" 007\r\n", "", "NO \"The arguments of this command are wrong.\"\r\n"},
        {"HAVESPACE \"a\" 4294967296\r\n", "",
         "NO \"The arguments of this command are wrong.\"\r\n"},
        {"GETSCRIPT  \"a\"\r\n", "", "NO \"The arguments of this command are wrong.\"\r\n"},
        {"GETSCRIPT \"a\r\n", "", "NO \"The arguments of this command are wrong.\"\r\n"},
        {"GETSCRIPT {1}\r\n", "", "NO \"The arguments of this command are wrong.\"\r\n"},
        {"FROBNICATE\r\n", "", "NO \"This command is unknown.\"\r\n"},
        {"\r\n", "", "NO \"This command is unknown.\"\r\n"},
        {"LOGOUT\r\n", "", "OK \"Logout completed.\"\r\n"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        open_logged_in(state);
        enum managesieve_want want = say(rows[i].said);
        assert_string_equal(heard, rows[i].heard);
        assert_string_equal(said, rows[i].answer);
        assert_int_equal(want == MANAGESIEVE_WANT_CLOSE, strcmp(rows[i].said, "LOGOUT\r\n") == 0);
    }
}

static void refused_scripts_are_swallowed(void **state)
{
    const struct managesieve_verdict no = {MANAGESIEVE_NO, "QUOTA/MAXSCRIPTS",
                                           slice_text("Too many.")};
    static char large[3000];
    (void)state;
    size_t size = (size_t)snprintf(large, sizeof(large), "PUTSCRIPT \"a\" {2000+}\r\n");
    memset(large + size, '\n', 2000);
    memcpy(large + size + 2000, "\r\nNOOP\r\n", 9);
    say(large);
    assert_string_equal(heard, "");
    assert_string_equal(said, "NO (QUOTA/MAXSIZE) \"The script is too large.\"\r\nOK \"Done\"\r\n");
    next_verdict = &no;
    say("PUTSCRIPT \"a\" {8+}\r\nLOGOUT\r\n\r\nNOOP\r\n");
    assert_string_equal(heard, "BEGIN a 8;");
    assert_string_equal(said, "NO (QUOTA/MAXSCRIPTS) \"Too many.\"\r\nOK \"Done\"\r\n");
    say("PUTSCRIPT \"a\" \"LOGOUT\"\r\nNOOP\r\n");
    assert_string_equal(said, "NO (QUOTA/MAXSCRIPTS) \"Too many.\"\r\nOK \"Done\"\r\n");
    assert_int_equal(say("PUTSCRIPT \"a\" {99999999+}\r\n"), MANAGESIEVE_WANT_CLOSE);
    assert_string_equal(said, "BYE (QUOTA/MAXSIZE) \"The literal is too large.\"\r\n");
}

static void mistakes_in_a_script_are_shown_as_lines(void **state)
{
    const struct managesieve_verdict no = {MANAGESIEVE_NO, NULL,
                                           slice_text("line 2:\r\nno \"such\" command")};
    (void)state;
    next_verdict = &no;
    say("SETACTIVE \"a\"\r\n");
    assert_string_equal(said, "NO {26}\r\nline 2:\r\nno \"such\" command\r\n");
}

static void lists_and_scripts_larger_than_the_output_are_sent(void **state)
{
    (void)state;
    say("LISTSCRIPTS\r\n");
    assert_int_equal(strncmp(said, "\"s\\\"0\"\r\n\"s\\\"1\"\r\n", 16), 0);
    assert_non_null(strstr(said, "\r\n\"s\\\"7\" ACTIVE\r\n"));
    assert_non_null(strstr(said, "\r\n\"s\\\"99\"\r\nOK\r\n"));
    say("GETSCRIPT \"a\"\r\n");
    assert_int_equal(strlen(said), strlen("{20000}\r\n") + 20000 + strlen("\r\nOK\r\n"));
    assert_string_equal(said + 9 + 20000, "\r\nOK\r\n");
    const struct managesieve_verdict no = {MANAGESIEVE_NO, "NONEXISTENT", slice_text("None.")};
    next_verdict = &no;
    say("GETSCRIPT \"b\"\r\n");
    assert_string_equal(said, "NO (NONEXISTENT) \"None.\"\r\n");
}

static void lines_that_are_too_long_are_passed_over(void **state)
{
    static char line[20000];
    (void)state;
    memset(line, 'a', sizeof(line));
    memcpy(line + 10000, "\r\nNOOP\r\n", 9);
    say(line);
    assert_string_equal(said, "NO \"The command is too long.\"\r\nOK \"Done\"\r\n");
    memcpy(line + 10000, " {8+}\r\nLOGOUT\r\n\r\nNOOP\r\n", 24);
    say(line);
    assert_string_equal(said, "NO \"The command is too long.\"\r\nOK \"Done\"\r\n");
    size_t size = (size_t)snprintf(line, sizeof(line), "SETACTIVE {9000+}\r\n");
    memset(line + size, '\n', 9000);
    memcpy(line + size + 9000, "\r\nNOOP\r\n", 9);
    say(line);
    assert_string_equal(heard, "");
    assert_string_equal(said, "NO \"The command is too long.\"\r\nOK \"Done\"\r\n");
}

static void too_many_errors_end_the_session(void **state)
{
    (void)state;
    assert_int_equal(say("X\r\nX\r\nX\r\nX\r\n"), MANAGESIEVE_WANT_INPUT);
    assert_int_equal(say("X\r\nNOOP\r\n"), MANAGESIEVE_WANT_CLOSE);
    assert_string_equal(said, "NO \"This command is unknown.\"\r\nBYE \"Too many errors.\"\r\n");
}

static void time_runs_out(void **state)
{
    (void)state;
    assert_int_equal(managesieve_server_deadline(&server), 1005);
    managesieve_server_expire(&server);
    said[0] = '\0';
    output_take();
    assert_string_equal(said, "BYE \"You have been idle for too long.\"\r\n");
    open_logged_in(state);
    managesieve_server_shut(&server);
    said[0] = '\0';
    output_take();
    assert_string_equal(said, "BYE (TRYLATER) \"The server is stopping.\"\r\n");
}

static void input_may_be_cut_anywhere(void **state)
{
    static const char session[] =
        "NOOP \"x\\\"y\"\r\nPUTSCRIPT \"foo\" {9+}\r\nkeep;\r\n#x\r\nSETACTIVE {3+}\r\nfoo\r\n"
        "RENAMESCRIPT \"a\" {1+}\r\nb\r\nCHECKSCRIPT \"keep;\"\r\nnonsense\r\nLOGOUT\r\n";
    static char whole[sizeof(said)];
    for (size_t cut = sizeof(session); cut > 0; cut--) {
        open_logged_in(state);
        assert_int_equal(feed(session, sizeof(session) - 1, cut), MANAGESIEVE_WANT_CLOSE);
        if (cut == sizeof(session)) {
            strcpy(whole, said);
        }
        assert_string_equal(said, whole);
        assert_non_null(strstr(heard, "SETACTIVE foo;RENAMESCRIPT a b;BEGIN check 5;PIECE"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_greeting_says_what_is_possible),
        cmocka_unit_test(after_starttls_what_came_in_the_clear_is_forgotten),
        cmocka_unit_test_setup(nobody_does_anything_before_login, open_secured),
        cmocka_unit_test_setup(sasl_goes_in_steps, open_secured),
        cmocka_unit_test_setup(commands_and_their_answers, open_logged_in),
        cmocka_unit_test_setup(refused_scripts_are_swallowed, open_logged_in),
        cmocka_unit_test_setup(mistakes_in_a_script_are_shown_as_lines, open_logged_in),
        cmocka_unit_test_setup(lists_and_scripts_larger_than_the_output_are_sent, open_logged_in),
        cmocka_unit_test_setup(lines_that_are_too_long_are_passed_over, open_logged_in),
        cmocka_unit_test_setup(too_many_errors_end_the_session, open_secured),
        cmocka_unit_test_setup(time_runs_out, open_logged_in),
        cmocka_unit_test_setup(input_may_be_cut_anywhere, open_logged_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
