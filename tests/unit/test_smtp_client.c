/* The client, by transcripts: see smtp_transcript.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/smtp_stages.h"
#include "tests/unit/smtp_transcript.h"

#define THREE "one@b.test|two@b.test|three@b.test"
#define ENVELOPE_3                                                                                 \
    "C: MAIL FROM:<sender@a.test>\nC: RCPT TO:<one@b.test>\nC: RCPT TO:<two@b.test>\nC: RCPT "     \
    "TO:<three@b.test>\n"                                                                          \
    "C: DATA\n"

static void message_is_sent_and_the_connection_used_again(void **state)
{
    (void)state;
    static const struct transcript transcripts[] = {
        {.name = "one command at a time",
         .lines = PLAIN "C: MAIL FROM:<sender@a.test>\n"
                        "S: 250 2.1.0 ok\n"
                        "C: RCPT TO:<one@b.test>\n"
                        "S: 250 2.1.5 ok\n"
                        "C: DATA\n"
                        "S: 354 go on\n"
                        "W: body\n"
                        "> body\n"
                        "C: .\n"
                        "S: 250 2.0.0 queued as 1A\n"
                        "R: 0 accepted 250 2.0.0 at dot: 2.0.0 queued as 1A\n"
                        "W: message\n"
                        "> begin\n"
                        "C: MAIL FROM:<sender@a.test>\n"
                        "S: 250 ok\n"
                        "C: RCPT TO:<one@b.test>\n"
                        "S: 251 will forward\n"
                        "C: DATA\n"
                        "S: 354\n"
                        "W: body\n"
                        "> body\n"
                        "C: .\n"
                        "S: 250\n"
                        "R: 0 accepted 250 2.0.0 at dot: \n"
                        "W: message\n"
                        "> quit\n"
                        "C: QUIT\n"
                        "S: 221 bye\n"
                        "W: close\n"},
        {.name = "pipelined",
         .lines = TO_DOT "S: 250 ok\nR: 0 accepted 250 2.0.0 at dot: ok\nW: message\n"
                         "> begin\n" ENVELOPE "C: DATA\n"},
        {.name = "pipelining is not used where it is switched off",
         .no_pipelining = true,
         .lines = PIPE "C: MAIL FROM:<sender@a.test>\nS: 250 ok\nC: RCPT TO:<one@b.test>\n"},
        {.name = "the null reverse-path", .reverse_path = "", .lines = PLAIN "C: MAIL FROM:<>\n"},
        {.name = "every parameter that the server knows",
         .flags = SMTP_CLIENT_8BITMIME | SMTP_CLIENT_SMTPUTF8,
         .lines = GREET
         "S: 250-b.test\nS: 250-SIZE 5000\nS: 250-8BitMIME\nS: 250-smtputf8\nS: 250 XYZZY 1 2\n"
         "W: message\n> begin\n"
         "C: MAIL FROM:<sender@a.test> SIZE=1234 BODY=8BITMIME SMTPUTF8\n"},
    };
    PLAY(transcripts);
}

static void each_recipient_has_its_own_fate(void **state)
{
    (void)state;
    static const struct transcript transcripts[] = {
        {.name = "SMTP, pipelined",
         .recipients = THREE,
         .lines = PIPE ENVELOPE_3
         "S: 250 ok\nS: 450 4.2.0 busy\nS: 250 ok\nS: 550 5.1.1 nobody\nS: 354 go\n"
         "R: 0 temporary 450 4.2.0 at rcpt: 4.2.0 busy\n"
         "R: 2 permanent 550 5.1.1 at rcpt: 5.1.1 nobody\n"
         "W: body\n> body\nC: .\nS: 250 ok\n"
         "R: 1 accepted 250 2.0.0 at dot: ok\nW: message\n"},
        {.name = "LMTP answers once for each recipient taken, in order",
         .lmtp = true,
         .recipients = THREE,
         .lines = LMTP_PIPE ENVELOPE_3
         "S: 250 ok\nS: 250 ok\nS: 550 5.1.1 nobody\nS: 250 ok\nS: 354 go\n"
         "R: 1 permanent 550 5.1.1 at rcpt: 5.1.1 nobody\n"
         "W: body\n> body\nC: .\nS: 250 2.0.0 stored\nS: 452 4.2.2 full\n"
         "R: 0 accepted 250 2.0.0 at dot: 2.0.0 stored\n"
         "R: 2 temporary 452 4.2.2 at dot: 4.2.2 full\nW: message\n"},
        {.name = "552 to RCPT is too many recipients, unless its status says otherwise",
         .recipients = THREE,
         .lines = PIPE ENVELOPE_3
         "S: 250 ok\nS: 552 too many\nS: 552 5.2.2 over quota\nS: 552 5.5.3 too many\nS: 554 none\n"
         "R: 0 temporary 552 5.0.0 at rcpt: too many\n"
         "R: 1 permanent 552 5.2.2 at rcpt: 5.2.2 over quota\n"
         "R: 2 temporary 552 5.5.3 at rcpt: 5.5.3 too many\nC: RSET\nS: 250 ok\nW: message\n"},
        {.name = "a status of another class than the code is not believed",
         .lines = PLAIN "C: MAIL FROM:<sender@a.test>\nS: 450 5.7.1 go away\n"
                        "R: 0 temporary 450 4.0.0 at mail: 5.7.1 go away\nW: message\n"},
    };
    PLAY(transcripts);
}

static void refusal_of_a_command_is_the_fate_of_all(void **state)
{
    (void)state;
    static const struct transcript transcripts[] = {
        {.name = "MAIL, one at a time: no reset is needed",
         .recipients = "one@b.test|two@b.test",
         .lines = PLAIN "C: MAIL FROM:<sender@a.test>\nS: 550-5.7.1 not\nS: 550 5.7.1 you\n"
                        "R: 0 permanent 550 5.7.1 at mail: 5.7.1 not you\n"
                        "R: 1 permanent 550 5.7.1 at mail: 5.7.1 not you\nW: message\n"
                        "> begin\nC: MAIL FROM:<sender@a.test>\n"},
        {.name = "MAIL, pipelined: the other replies are passed over",
         .lines = PIPE ENVELOPE
         "C: DATA\nS: 451 4.3.0 later\nR: 0 temporary 451 4.3.0 at mail: 4.3.0 later\n"
         "> block\nS: 503 no\nS: 503 no\nW: message\n"},
        {.name = "MAIL, pipelined, and yet 354: only the dot can follow",
         .lines = PIPE ENVELOPE "C: DATA\nS: 550 no\nR: 0 permanent 550 5.0.0 at mail: no\n"
                                "S: 503 no\nS: 354 go\nC: .\nS: 554 no recipients\nW: message\n"},
        {.name = "all RCPT, pipelined, DATA refused: reset",
         .lines = PIPE ENVELOPE
         "C: DATA\nS: 250 ok\nS: 550 no\nS: 503 none\n"
         "R: 0 permanent 550 5.0.0 at rcpt: no\nC: RSET\nS: 250 ok\nW: message\n"},
        {.name = "all RCPT, pipelined, and yet 354: only the dot, and its answer means nothing",
         .lines = PIPE ENVELOPE
         "C: DATA\nS: 250 ok\nS: 550 no\nS: 354 go\n"
         "R: 0 permanent 550 5.0.0 at rcpt: no\nC: .\nS: 250 queued\nW: message\n"},
        {.name = "all RCPT, one at a time: no DATA, reset",
         .lines =
             PLAIN "C: MAIL FROM:<sender@a.test>\nS: 250 ok\nC: RCPT TO:<one@b.test>\nS: 450 busy\n"
                   "R: 0 temporary 450 4.0.0 at rcpt: busy\nC: RSET\nS: 250 ok\nW: message\n"},
        {.name = "DATA after a recipient was taken",
         .lines = PIPE ENVELOPE
         "C: DATA\nS: 250 ok\nS: 250 ok\nS: 554 5.6.0 no\n"
         "R: 0 permanent 554 5.6.0 at data: 5.6.0 no\nC: RSET\nS: 250 ok\nW: message\n"},
        {.name = "the dot",
         .lines =
             TO_DOT "S: 554 5.7.1 spam\nR: 0 permanent 554 5.7.1 at dot: 5.7.1 spam\nW: message\n"},
        {.name = "RSET refused: the connection is given up, after all results",
         .lines =
             PIPE ENVELOPE "C: DATA\nS: 250 ok\nS: 450 no\nS: 503 none\n"
                           "R: 0 temporary 450 4.0.0 at rcpt: no\nC: RSET\nS: 500 what\nW: close\n"
                           "R: 0 temporary 0 4.5.0 at rset connection: RSET refused\n"},
        {.name = "LMTP: 354 without a recipient is against RFC 2033",
         .lmtp = true,
         .lines = LMTP_PIPE ENVELOPE
         "C: DATA\nS: 250 ok\nS: 550 no\nS: 354 go\n"
         "R: 0 permanent 550 5.0.0 at rcpt: no\nW: close\n"
         "R: 0 temporary 0 4.5.0 at data suspect-pipelining connection: DATA accepted "
         "without recipients\n"},
    };
    PLAY(transcripts);
}

static void greeting_and_hello_decide_whether_the_server_can_be_used(void **state)
{
    (void)state;
    static const struct transcript transcripts[] = {
        {.name = "greeting of several lines", .lines = "S: 220-a\nS: 220 b\nC: EHLO relay.test\n"},
        {.name = "554 instead of a greeting",
         .lines = "S: 554 5.3.2 no service\nC: QUIT\nW: close\n"
                  "R: 0 permanent 554 5.3.2 at greeting connection: 5.3.2 no service\n"},
        {.name = "421 instead of a greeting",
         .lines = "S: 421 busy\nW: close\nR: 0 temporary 421 4.0.0 at greeting connection: busy\n"},
        {.name = "EHLO unknown: HELO, and nothing is believed of EHLO",
         .lines = GREET
         "S: 500-b.test\nS: 500 PIPELINING\nC: HELO relay.test\nS: 250-b.test\nS: 250 PIPELINING\n"
         "W: message\n> begin\nC: MAIL FROM:<sender@a.test>\n"},
        {.name = "neither EHLO nor HELO",
         .lines =
             GREET "S: 502 what\nC: HELO relay.test\nS: 550 5.7.1 you again\nC: QUIT\nW: close\n"
                   "R: 0 permanent 550 5.7.1 at hello connection: 5.7.1 you again\n"},
        {.name = "EHLO later",
         .lines = GREET "S: 450 4.3.2 later\nC: QUIT\nW: close\n"
                        "R: 0 temporary 450 4.3.2 at hello connection: 4.3.2 later\n"},
        {.name = "LHLO has nothing to fall back to",
         .lmtp = true,
         .lines = "S: 220 b\nC: LHLO relay.test\nS: 500 what\nC: QUIT\nW: close\n"
                  "R: 0 permanent 500 5.0.0 at hello connection: what\n"},
        {.name = "no greeting in time",
         .lines = "> wait\nW: close\nR: 0 temporary 0 4.4.2 at greeting connection: timed out\n"},
    };
    PLAY(transcripts);
}

static void what_the_server_cannot_take_is_not_tried(void **state)
{
    (void)state;
    static const struct transcript transcripts[] = {
        {.name = "larger than SIZE",
         .body_bytes = 5001,
         .lines = GREET
         "S: 250-b.test\nS: 250 SIZE 5000\nW: message\n> begin\n"
         "R: 0 permanent 0 5.3.4 at mail here: the message is larger than the server takes\n"
         "W: message\n"},
        {.name = "as large as SIZE",
         .body_bytes = 5000,
         .lines = GREET "S: 250-b.test\nS: 250 SIZE 5000\nW: message\n> begin\n"
                        "C: MAIL FROM:<sender@a.test> SIZE=5000\n"},
        {.name = "SIZE without, with zero, or with too large a number: no limit is known",
         .body_bytes = 5000,
         .lines = GREET
         "S: 250-b.test\nS: 250-SIZE 0\nS: 250-SIZE 99999999999999999999999\nS: 250 SIZE\n"
         "W: message\n> begin\nC: MAIL FROM:<sender@a.test> SIZE=5000\n"},
        {.name = "8-bit text",
         .flags = SMTP_CLIENT_8BITMIME,
         .lines = PLAIN "R: 0 permanent 0 5.6.3 at mail here: the message needs 8BITMIME, "
                        "which the server does not "
                        "offer\nW: message\n"},
        {.name = "a message that needs SMTPUTF8",
         .flags = SMTP_CLIENT_SMTPUTF8,
         .lines = PLAIN "R: 0 permanent 0 5.6.7 at mail here: the message needs SMTPUTF8, "
                        "which the server does not "
                        "offer\nW: message\n"},
        {.name = "one address of two needs SMTPUTF8",
         .recipients = "j\303\266rg@b.test|two@b.test",
         .lines =
             PLAIN "R: 0 permanent 0 5.6.7 at rcpt here: the address needs SMTPUTF8, which the "
                   "server does not "
                   "offer\nC: MAIL FROM:<sender@a.test>\nS: 250 ok\nC: RCPT TO:<two@b.test>\n"},
        {.name = "an address that needs SMTPUTF8, and may have it",
         .recipients = "j\303\266rg@b.test",
         .lines = GREET "S: 250-b.test\nS: 250 SMTPUTF8\nW: message\n> begin\nC: MAIL "
                        "FROM:<sender@a.test> SMTPUTF8\n"
                        "S: 250 ok\nC: RCPT TO:<j\303\266rg@b.test>\n"},
    };
    PLAY(transcripts);
}

static void addresses_cannot_carry_commands(void **state)
{
    (void)state;
#define BAD "permanent 0 5.1.3 at rcpt here: the address cannot be written in SMTP\n"
    static const struct transcript transcripts[] = {
        {.name = "recipients",
         .recipients =
             "a\r\nRSET@b|b\n@b|c\x7f@b|d> NOTIFY=NEVER@b|e@b>|\"f|\"g\\|h i@b||\"j\\\x01\"@b|\t@b",
         .lines =
             PLAIN "R: 0 " BAD "R: 1 " BAD "R: 2 " BAD "R: 3 " BAD "R: 4 " BAD "R: 5 " BAD
                   "R: 6 " BAD "R: 7 " BAD "R: 8 " BAD "R: 9 " BAD "R: 10 " BAD "W: message\n"},
        {.name = "what looks odd but is an address",
         .recipients = "\"a> b\\\"\"@b|`id`@b|;@b|%s@b|\\\\srv@b|@x,@y:c@b",
         .lines = PIPE
         "C: MAIL FROM:<sender@a.test>\nC: RCPT TO:<\"a> b\\\"\"@b>\nC: RCPT TO:<`id`@b>\n"
         "C: RCPT TO:<;@b>\nC: RCPT TO:<%s@b>\nC: RCPT TO:<\\\\srv@b>\nC: RCPT TO:<@x,@y:c@b>\n"
         "C: DATA\n"},
        {.name = "the sender",
         .reverse_path = "a@b> SIZE=1",
         .lines = PLAIN
         "R: 0 permanent 0 5.1.7 at mail here: the sender's address cannot be written in SMTP\n"
         "W: message\n"},
    };
    PLAY(transcripts);
}

static void loss_of_the_connection_is_temporary_at_every_stage(void **state)
{
    (void)state;
#define LOST(stage) "R: 0 temporary 0 4.4.2 at " stage " connection: connection lost\n"
    static const struct transcript transcripts[] = {
        {.name = "greeting", .lines = "> lost\nW: close\n" LOST("greeting")},
        {.name = "hello", .lines = GREET "> lost\nW: close\n" LOST("hello")},
        {.name = "idle", .lines = GREET "S: 250 b\nW: message\n> lost\nW: close\n" LOST("idle")},
        {.name = "mail",
         .lines =
             PLAIN "C: MAIL FROM:<sender@a.test>\n> lost\n" LOST("mail") "W: close\n" LOST("mail")},
        {.name = "rcpt",
         .no_pipelining = true,
         .lines = PLAIN "C: MAIL FROM:<sender@a.test>\nS: 250 ok\nC: RCPT TO:<one@b.test>\n"
                        "> lost\n" LOST("rcpt") "W: close\n" LOST("rcpt")},
        {.name = "a recipient judged is not judged again",
         .recipients = "one@b.test|two@b.test",
         .lines = PLAIN
         "C: MAIL FROM:<sender@a.test>\nS: 250 ok\nC: RCPT TO:<one@b.test>\nS: 550 no\n"
         "R: 0 permanent 550 5.0.0 at rcpt: no\nC: RCPT TO:<two@b.test>\n> lost\n"
         "R: 1 temporary 0 4.4.2 at rcpt connection: connection lost\nW: close\n" LOST("rcpt")},
        {.name = "body", .lines = TO_BODY "> lost\n" LOST("body") "W: close\n" LOST("body")},
        {.name = "the dot has left: the server may have the message",
         .lines = TO_DOT
         "> lost\n"
         "R: 0 temporary 0 4.4.2 at dot maybe-duplicate connection: connection lost\nW: close\n"
         "R: 0 temporary 0 4.4.2 at dot maybe-duplicate connection: connection lost\n"},
        {.name = "the dot was never written",
         .lines =
             TO_BODY "> block\nW: body\n> body\n> lost\n" LOST("dot") "W: close\n" LOST("dot")},
        {.name = "half of the answer to the dot is none",
         .in_one_piece = true,
         .lines = TO_DOT
         "S: 250-2.0.0 ok\n> lost\n"
         "R: 0 temporary 0 4.4.2 at dot maybe-duplicate connection: connection lost\nW: close\n"
         "R: 0 temporary 0 4.4.2 at dot maybe-duplicate connection: connection lost\n"},
        {.name = "LMTP, after one of two answers",
         .lmtp = true,
         .recipients = "one@b.test|two@b.test",
         .lines = LMTP_PIPE
         "C: MAIL FROM:<sender@a.test>\nC: RCPT TO:<one@b.test>\nC: RCPT TO:<two@b.test>\nC: DATA\n"
         "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nW: body\n> body\nC: .\nS: 250 ok\n"
         "R: 0 accepted 250 2.0.0 at dot: ok\n> lost\n"
         "R: 1 temporary 0 4.4.2 at dot maybe-duplicate connection: connection lost\nW: close\n"
         "R: 0 temporary 0 4.4.2 at dot maybe-duplicate connection: connection lost\n"},
        {.name = "after QUIT that is as good as 221",
         .lines = GREET "S: 250 b\nW: message\n> quit\nC: QUIT\n> lost\nW: close\n"},
    };
    PLAY(transcripts);
}

static void broken_dialogue_is_temporary_and_closes(void **state)
{
    (void)state;
#define BROKEN(at, text)                                                                           \
    "R: 0 temporary 0 4.5.0 at " at ": " text "\nW: close\nR: 0 temporary 0 4.5.0 at " at          \
    ": " text "\n"
    static const struct transcript transcripts[] = {
        {.name = "a code that is none",
         .lines = PLAIN
         "C: MAIL FROM:<sender@a.test>\nS: 25x ok\n" BROKEN("mail connection", "malformed reply")},
        {.name = "a blank in the code",
         .lines = PLAIN
         "C: MAIL FROM:<sender@a.test>\nS: 2 50 ok\n" BROKEN("mail connection", "malformed reply")},
        {.name = "an empty line",
         .lines = PLAIN
         "C: MAIL FROM:<sender@a.test>\nS:\n" BROKEN("mail connection", "malformed reply")},
        {.name = "a code that changes inside a reply",
         .lines = PLAIN "C: MAIL FROM:<sender@a.test>\nS: 250-ok\nS: 550 no\n" BROKEN(
             "mail connection", "malformed reply")},
        {.name = "after the dot: the server may have the message",
         .lines = TO_DOT "S: 999 ok\n" BROKEN("dot maybe-duplicate connection", "malformed reply")},
        {.name = "3xx to RCPT, pipelined: suspicious",
         .lines = PIPE ENVELOPE "C: DATA\nS: 250 ok\nS: 354 go\n" BROKEN(
             "rcpt suspect-pipelining connection", "reply out of step")},
        {.name = "250 to DATA, pipelined: suspicious",
         .lines = PIPE ENVELOPE "C: DATA\nS: 250 ok\nS: 250 ok\nS: 250 ok\n" BROKEN(
             "data suspect-pipelining connection", "reply to DATA out of step")},
        {.name = "no answer to pipelined commands: suspicious",
         .lines = PIPE ENVELOPE
         "C: DATA\nS: 250 ok\n> wait\n"
         "R: 0 temporary 0 4.4.2 at rcpt suspect-pipelining connection: timed out\nW: close\n"
         "R: 0 temporary 0 4.4.2 at rcpt suspect-pipelining connection: timed out\n"},
        {.name = "an answer to no command, while idle",
         .lines = GREET "S: 250 b\nW: message\nS: 250 ok\nW: close\n"
                        "R: 0 temporary 0 4.5.0 at idle connection: reply to no command\n"},
        {.name = "answers before their commands",
         .in_one_piece = true,
         .lines = PLAIN "C: MAIL FROM:<sender@a.test>\nS: 250 ok\nS: 250 ok\n" BROKEN(
             "rcpt connection", "reply to no command")},
        {.name = "greeting and answer to EHLO in one",
         .in_one_piece = true,
         .lines = "S: 220 b\nS: 250 b\nW: close\n"
                  "R: 0 temporary 0 4.5.0 at hello connection: reply to no command\n"},
        {.name = "421 anywhere is the fate of all who wait",
         .recipients = "one@b.test|two@b.test",
         .lines = PLAIN
         "C: MAIL FROM:<sender@a.test>\nS: 250 ok\nC: RCPT TO:<one@b.test>\nS: 421 4.3.2 down\n"
         "R: 0 temporary 421 4.3.2 at rcpt connection: 4.3.2 down\n"
         "R: 1 temporary 421 4.3.2 at rcpt connection: 4.3.2 down\nW: close\n"
         "R: 0 temporary 421 4.3.2 at rcpt connection: 4.3.2 down\n"},
        {.name = "421 to the dot is an answer: no duplicate",
         .lines = TO_DOT "S: 421 down\nR: 0 temporary 421 4.0.0 at dot connection: down\nW: close\n"
                         "R: 0 temporary 421 4.0.0 at dot connection: down\n"},
        {.name = "421 while idle",
         .lines = GREET "S: 250 b\nW: message\nS: 421 idle too long\nW: close\n"
                        "R: 0 temporary 421 4.0.0 at idle connection: idle too long\n"},
        {.name = "refusal in the middle of the body is believed",
         .lines = TO_BODY
         "S: 552 5.3.4 too big\n"
         "R: 0 permanent 552 5.3.4 at body connection: 5.3.4 too big\nW: close\n"
         "R: 0 permanent 552 5.3.4 at body connection: 5.3.4 too big\n> body\nW: close\n"
         "R: 0 permanent 552 5.3.4 at body connection: 5.3.4 too big\n"},
        {.name = "acceptance in the middle of the body is not",
         .lines = TO_BODY "S: 250 ok\n" BROKEN("body connection", "reply to no command")},
        {.name = "LMTP: more answers than recipients",
         .lmtp = true,
         .lines = LMTP_PIPE ENVELOPE
         "C: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\nW: body\n> body\nC: .\n"
         "S: 250 ok\nR: 0 accepted 250 2.0.0 at dot: ok\nW: message\nS: 250 ok\nW: close\n"
         "R: 0 temporary 0 4.5.0 at idle connection: reply to no command\n"},
    };
    PLAY(transcripts);
}

static void four_two_one_to_any_command_puts_off_all_who_wait_and_closes(void **state)
{
    (void)state;
#define GOES(stage) "R: 0 temporary 421 4.3.2 at " stage " connection: 4.3.2 down\n"
    static const struct transcript transcripts[] = {
        {.name = "EHLO", .lines = GREET "S: 421 4.3.2 down\nW: close\n" GOES("hello")},
        {.name = "HELO",
         .lines = GREET "S: 500 what\nC: HELO relay.test\nS: 421 4.3.2 down\n"
                        "W: close\n" GOES("hello")},
        {.name = "MAIL",
         .lines = PLAIN "C: MAIL FROM:<sender@a.test>\nS: 421 4.3.2 down\n" GOES(
             "mail") "W: close\n" GOES("mail")},
        {.name = "DATA",
         .lines = PIPE ENVELOPE "C: DATA\nS: 250 ok\nS: 250 ok\nS: 421 4.3.2 down\n" GOES(
             "data") "W: close\n" GOES("data")},
        {.name = "in the middle of the body",
         .lines = TO_BODY "S: 421 4.3.2 down\n" GOES("body") "W: close\n" GOES("body")},
        {.name = "RSET: the recipients have their fate already",
         .lines = PIPE ENVELOPE "C: DATA\nS: 250 ok\nS: 550 no\nS: 503 none\n"
                                "R: 0 permanent 550 5.0.0 at rcpt: no\nC: RSET\n"
                                "S: 421 4.3.2 down\nW: close\n" GOES("rset")},
        {.name = "QUIT: it closes in any case",
         .lines = GREET "S: 250 b\nW: message\n> quit\nC: QUIT\nS: 421 4.3.2 down\nW: close\n"},
        {.name = "LMTP, to the second of two",
         .lmtp = true,
         .recipients = "one@b.test|two@b.test",
         .lines = LMTP_PIPE
         "C: MAIL FROM:<sender@a.test>\nC: RCPT TO:<one@b.test>\nC: RCPT TO:<two@b.test>\nC: DATA\n"
         "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nW: body\n> body\nC: .\nS: 250 ok\n"
         "R: 0 accepted 250 2.0.0 at dot: ok\nS: 421 4.3.2 down\n"
         "R: 1 temporary 421 4.3.2 at dot connection: 4.3.2 down\nW: close\n" GOES("dot")},
    };
    PLAY(transcripts);
}

static void many_recipients_go_out_as_room_allows_and_none_twice(void **state)
{
    (void)state;
    static struct transcript_run run;
    static char paths[TRANSCRIPT_RECIPIENTS_MAX][64];
    const struct transcript transcript = {.name = "many", .lmtp = true};
    transcript_open(&run, &transcript);
    run.message.recipient_count = TRANSCRIPT_RECIPIENTS_MAX;
    for (unsigned i = 0; i < TRANSCRIPT_RECIPIENTS_MAX; i++) {
        int size = snprintf(paths[i], sizeof(paths[i]), "user%u@department.example.test", i);
        run.recipients[i].forward_path = slice_of(paths[i], (size_t)size);
    }
    transcript_drive(&run, slice_text("220 b\r\n"));
    transcript_drive(&run, slice_text("250-b\r\n250 PIPELINING\r\n"));
    smtp_client_begin(&run.client, &run.message, run.now_ns);
    transcript_drive(&run, slice_of("", 0));
    for (unsigned i = 0; i < TRANSCRIPT_RECIPIENTS_MAX; i++) {
        char line[128];
        snprintf(line, sizeof(line), "C: RCPT TO:<%.60s>\n", paths[i]);
        char *found = strstr(run.trace, line);
        assert_non_null(found);
        assert_null(strstr(found + 1, line));
    }
    assert_string_equal(run.trace + run.trace_bytes - 8, "C: DATA\n");
    transcript_drive(&run, slice_text("250 ok\r\n"));
    for (unsigned i = 0; i < TRANSCRIPT_RECIPIENTS_MAX; i++) {
        transcript_drive(&run, slice_text(i % 3 == 0 ? "550 no\r\n" : "250 ok\r\n"));
    }
    run.trace_bytes = 0;
    transcript_drive(&run, slice_text("354 go\r\n"));
    assert_string_equal(run.trace, "W: body\n");
    smtp_client_body_sent(&run.client, run.now_ns);
    transcript_drive(&run, slice_of("", 0));
    for (unsigned i = 0; i < TRANSCRIPT_RECIPIENTS_MAX; i++) {
        if (i % 3 == 0) {
            continue;
        }
        char expected[64];
        run.trace_bytes = 0;
        transcript_drive(&run, slice_text("250 ok\r\n"));
        snprintf(expected, sizeof(expected), "R: %u accepted 250 2.0.0 at dot: ok\n", i);
        assert_memory_equal(run.trace, expected, strlen(expected));
    }
    assert_true(smtp_client_idle(&run.client));
}

#define STARTTLS_OFFERED GREET "S: 250-b.test\nS: 250-SIZE 10\nS: 250 STARTTLS\n"

static void tls_is_started_where_it_is_wanted_and_offered(void **state)
{
    (void)state;
    static const struct transcript transcripts[] = {
        {.name = "all that was learned is forgotten, EHLO is said again, a second offer is nothing",
         .tls = SMTP_CLIENT_TLS_IF_OFFERED,
         .lines = STARTTLS_OFFERED
         "C: STARTTLS\nS: 220 go\nW: tls\n> secured\nC: EHLO relay.test\n"
         "S: 250-b.test\nS: 250 STARTTLS\nW: message\n> begin\nC: MAIL FROM:<sender@a.test>\n"},
        {.name = "what is only offered inside is used",
         .tls = SMTP_CLIENT_TLS_REQUIRED,
         .lines = STARTTLS_OFFERED
         "C: STARTTLS\nS: 220 go\nW: tls\n> secured\nC: EHLO relay.test\n"
         "S: 250-b.test\nS: 250 PIPELINING\nW: message\n> begin\n" ENVELOPE "C: DATA\n"},
        {.name = "LMTP",
         .tls = SMTP_CLIENT_TLS_REQUIRED,
         .lmtp = true,
         .lines =
             "S: 220 b\nC: LHLO relay.test\nS: 250-b\nS: 250 starttls\nC: STARTTLS\nS: 220 go\n"
             "W: tls\n> secured\nC: LHLO relay.test\nS: 250 b\nW: message\n"},
        {.name = "never asked for", .lines = GREET "S: 250-b.test\nS: 250 STARTTLS\nW: message\n"},
        {.name = "not offered, and not needed",
         .tls = SMTP_CLIENT_TLS_IF_OFFERED,
         .lines = GREET "S: 250 b.test\nW: message\n"},
        {.name = "refused, and not needed",
         .tls = SMTP_CLIENT_TLS_IF_OFFERED,
         .lines = GREET "S: 250-b.test\nS: 250 STARTTLS\nC: STARTTLS\nS: 454 4.7.0 later\n"
                        "W: message\n> begin\nC: MAIL FROM:<sender@a.test>\n"},
        {.name = "the handshake fails",
         .tls = SMTP_CLIENT_TLS_IF_OFFERED,
         .lines = STARTTLS_OFFERED "C: STARTTLS\nS: 220 go\nW: tls\n> no handshake\nW: close\n"
                                   "R: 0 temporary 0 4.7.5 at starttls connection: no handshake\n"},
        {.name = "the handshake takes too long",
         .tls = SMTP_CLIENT_TLS_IF_OFFERED,
         .lines = STARTTLS_OFFERED "C: STARTTLS\nS: 220 go\nW: tls\n> wait\nW: close\n"
                                   "R: 0 temporary 0 4.4.2 at starttls connection: timed out\n"},
    };
    PLAY(transcripts);
}

static void nothing_is_sent_without_tls_where_it_is_required(void **state)
{
    (void)state;
    static const struct transcript transcripts[] = {
        {.name = "not offered",
         .tls = SMTP_CLIENT_TLS_REQUIRED,
         .lines = GREET "S: 250 b.test\nC: QUIT\nW: close\n"
                        "R: 0 temporary 0 4.7.4 at hello connection: TLS is required, but was not "
                        "offered\n"},
        {.name = "HELO offers nothing",
         .tls = SMTP_CLIENT_TLS_REQUIRED,
         .lines = GREET "S: 500 what\nC: HELO relay.test\nS: 250-b\nS: 250 STARTTLS\nC: QUIT\n"
                        "W: close\n"
                        "R: 0 temporary 0 4.7.4 at hello connection: TLS is required, but was not "
                        "offered\n"},
        {.name = "refused for good: still temporary, it is not the message's fault",
         .tls = SMTP_CLIENT_TLS_REQUIRED,
         .lines = STARTTLS_OFFERED
         "C: STARTTLS\nS: 502 5.5.1 not now\nC: QUIT\nW: close\n"
         "R: 0 temporary 0 4.7.4 at starttls connection: TLS is required, but was refused: 502 "
         "5.5.1 not now\n"},
        {.name = "421 to STARTTLS",
         .tls = SMTP_CLIENT_TLS_REQUIRED,
         .lines = STARTTLS_OFFERED "C: STARTTLS\nS: 421 4.3.2 bye\nW: close\n"
                                   "R: 0 temporary 421 4.3.2 at starttls connection: 4.3.2 bye\n"},
    };
    PLAY(transcripts);
}

static void plaintext_around_starttls_ends_the_connection(void **state)
{
    (void)state;
    static const struct transcript transcripts[] = {
        {.name = "replies behind the 220 (CVE-2021-38371)",
         .tls = SMTP_CLIENT_TLS_IF_OFFERED,
         .in_one_piece = true,
         .lines = STARTTLS_OFFERED
         "C: STARTTLS\nS: 220 go\nS: 250-evil\nS: 250 AUTH PLAIN\nW: close\n"
         "R: 0 temporary 0 4.5.0 at starttls connection: plaintext behind the answer to "
         "STARTTLS\n"},
        {.name = "one byte behind the 220",
         .tls = SMTP_CLIENT_TLS_IF_OFFERED,
         .lines = STARTTLS_OFFERED "C: STARTTLS\nS: 220 go\nW: tls\n> junk\nW: close\n"
                                   "R: 0 temporary 0 4.5.0 at starttls connection: plaintext "
                                   "behind the answer to STARTTLS\n"},
        {.name = "the 220 before STARTTLS was sent",
         .tls = SMTP_CLIENT_TLS_IF_OFFERED,
         .in_one_piece = true,
         .lines = GREET "S: 250-b.test\nS: 250 STARTTLS\nS: 220 go\nW: close\n"
                        "R: 0 temporary 0 4.5.0 at starttls connection: reply to no command\n"},
        {.name = "354 to STARTTLS",
         .tls = SMTP_CLIENT_TLS_IF_OFFERED,
         .lines = STARTTLS_OFFERED "C: STARTTLS\nS: 354 go\nW: close\n"
                                   "R: 0 temporary 0 4.5.0 at starttls connection: reply out of "
                                   "step\n"},
    };
    PLAY(transcripts);
}

static void the_owner_is_told_what_became_of_starttls(void **state)
{
    (void)state;
    static const struct {
        const char *hello, *starttls;
        enum smtp_client_tls tls;
        enum smtp_client_secrecy told;
    } rows[] = {
        {"250 b\r\n", NULL, SMTP_CLIENT_TLS_NEVER, SMTP_CLIENT_IN_CLEAR},
        {"250 b\r\n", NULL, SMTP_CLIENT_TLS_IF_OFFERED, SMTP_CLIENT_TLS_NOT_OFFERED},
        {"250 b\r\n", NULL, SMTP_CLIENT_TLS_REQUIRED, SMTP_CLIENT_TLS_NOT_OFFERED},
        {"250-b\r\n250 STARTTLS\r\n", "454 no\r\n", SMTP_CLIENT_TLS_IF_OFFERED,
         SMTP_CLIENT_TLS_REFUSED},
        {"250-b\r\n250 STARTTLS\r\n", "454 no\r\n", SMTP_CLIENT_TLS_REQUIRED,
         SMTP_CLIENT_TLS_REFUSED},
        {"250-b\r\n250 STARTTLS\r\n", "220 go\r\n", SMTP_CLIENT_TLS_REQUIRED,
         SMTP_CLIENT_TLS_STARTED},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static struct transcript_run run;
        const struct transcript transcript = {.name = "told", .tls = rows[i].tls};
        transcript_open(&run, &transcript);
        transcript_drive(&run, slice_text("220 b\r\n"));
        transcript_drive(&run, slice_text(rows[i].hello));
        if (rows[i].starttls != NULL) {
            transcript_drive(&run, slice_text(rows[i].starttls));
        }
        assert_int_equal(smtp_client_secrecy(&run.client), rows[i].told);
        if (rows[i].told == SMTP_CLIENT_TLS_STARTED) {
            smtp_client_secured(&run.client, run.now_ns);
            assert_int_equal(smtp_client_secrecy(&run.client), SMTP_CLIENT_SECURED);
        }
    }
}

static void loss_before_a_message_is_begun_is_told_to_the_message(void **state)
{
    (void)state;
    static struct transcript_run run;
    const struct transcript transcript = {.name = "late"};
    transcript_open(&run, &transcript);
    transcript_drive(&run, slice_text("220 b\r\n"));
    transcript_drive(&run, slice_text("250 b\r\n"));
    smtp_client_closed(&run.client, "connection lost");
    smtp_client_begin(&run.client, &run.message, run.now_ns);
    run.trace_bytes = 0;
    transcript_drive(&run, slice_of("", 0));
    assert_string_equal(run.trace,
                        "R: 0 temporary 0 4.4.2 at mail connection: connection lost\nW: close\n"
                        "R: 0 temporary 0 4.4.2 at mail connection: connection lost\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(message_is_sent_and_the_connection_used_again),
        cmocka_unit_test(each_recipient_has_its_own_fate),
        cmocka_unit_test(refusal_of_a_command_is_the_fate_of_all),
        cmocka_unit_test(greeting_and_hello_decide_whether_the_server_can_be_used),
        cmocka_unit_test(what_the_server_cannot_take_is_not_tried),
        cmocka_unit_test(addresses_cannot_carry_commands),
        cmocka_unit_test(loss_of_the_connection_is_temporary_at_every_stage),
        cmocka_unit_test(broken_dialogue_is_temporary_and_closes),
        cmocka_unit_test(four_two_one_to_any_command_puts_off_all_who_wait_and_closes),
        cmocka_unit_test(many_recipients_go_out_as_room_allows_and_none_twice),
        cmocka_unit_test(tls_is_started_where_it_is_wanted_and_offered),
        cmocka_unit_test(nothing_is_sent_without_tls_where_it_is_required),
        cmocka_unit_test(plaintext_around_starttls_ends_the_connection),
        cmocka_unit_test(the_owner_is_told_what_became_of_starttls),
        cmocka_unit_test(loss_before_a_message_is_begun_is_told_to_the_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
