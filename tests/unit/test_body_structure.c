/* ENVELOPE, BODY and BODYSTRUCTURE. Where RFCs leave it open, the answers are those of Dovecot 2.3. */
#include "proto/imap/body_structure.h"
#include "proto/imap/envelope.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum answer { ANSWER_ENVELOPE, ANSWER_BODY, ANSWER_BODYSTRUCTURE };

static void answers(struct slice text, enum answer answer, const char *expected)
{
    struct arena arena;
    struct structure structure;
    struct imap_writer writer;
    arena_open(&arena, 16 << 20);
    imap_writer_open(&writer, 1 << 20);
    assert_int_equal(structure_open(&structure, &arena), 0);
    structure_feed(&structure, text);
    const struct message_part *root = structure_finish(&structure);
    if (answer == ANSWER_ENVELOPE) {
        imap_write_envelope(&writer, &arena, root->envelope);
    } else {
        imap_write_body(&writer, &arena, root,
                        answer == ANSWER_BODY ? IMAP_BODY : IMAP_BODYSTRUCTURE);
    }
    imap_write_bytes(&writer, slice_of("", 1));
    assert_false(writer.failed);
    assert_string_equal(writer.bytes, expected);
    imap_writer_close(&writer);
    arena_close(&arena);
}

#define TERRY "((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\"))"
#define AB "((NIL NIL \"a\" \"b\"))"

static void envelopes_are_those_of_the_rfc(void **state)
{
    static const struct {
        const char *header, *envelope;
    } headers[] = {
        /* RFC 3501 §8 */
        {"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\nFrom: Terry Gray "
         "<gray@cac.washington.edu>\r\n"
         "Subject: IMAP4rev1 WG mtg summary and minutes\r\nTo: imap@cac.washington.edu\r\n"
         "cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n"
         "Message-Id: <B27397-0100000@cac.washington.edu>\r\nMIME-Version: 1.0\r\n"
         "Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\r\n",
         "(\"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\" \"IMAP4rev1 WG mtg summary and "
         "minutes\" " TERRY " " TERRY " " TERRY
         " ((NIL NIL \"imap\" \"cac.washington.edu\")) ((NIL NIL \"minutes\" "
         "\"CNRI.Reston.VA.US\")(\"John Klensin\" NIL \"KLENSIN\" \"MIT.EDU\")) NIL NIL "
         "\"<B27397-0100000@cac.washington.edu>\")"},
        {"", "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"},
        {"Subject:\r\nMessage-ID:\r\nDate:\r\n\r\n",
         "(\"\" \"\" NIL NIL NIL NIL NIL NIL NIL \"\")"},
        {"From: a@b\r\nSender: s@t\r\nReply-To: r@s, x\r\n\r\n",
         "(NIL NIL " AB
         " ((NIL NIL \"s\" \"t\")) ((NIL NIL \"r\" \"s\")(NIL NIL \"x\" \"MISSING_DOMAIN\")) "
         "NIL NIL NIL NIL NIL)"},
        {"From: a@b\r\nSender:\r\nReply-To: (c)\r\n\r\n",
         "(NIL NIL " AB " " AB " " AB " NIL NIL NIL NIL NIL)"},
        {"Reply-To: a@b\r\n\r\n", "(NIL NIL NIL NIL " AB " NIL NIL NIL NIL NIL)"},
        {"Bcc: a@b\r\nIn-Reply-To: <c@d>\r\n\t<e@f>\r\n\r\n",
         "(NIL NIL NIL NIL NIL NIL NIL " AB " \"<c@d>\t<e@f>\" NIL)"},
        {"Date: 1\r\nDate: 2\r\nTo: a@b\r\nTo: c@d\r\n\r\n",
         "(\"2\" NIL NIL NIL NIL ((NIL NIL \"a\" \"b\")(NIL NIL \"c\" \"d\")) NIL NIL NIL NIL)"},
        {"To: A Group: Ed <@r:a@b>;, undisclosed:;\r\n\r\n",
         "(NIL NIL NIL NIL NIL ((NIL NIL \"A Group\" NIL)(\"Ed\" \"@r\" \"a\" \"b\")(NIL NIL NIL "
         "NIL)"
         "(NIL NIL \"undisclosed\" NIL)(NIL NIL NIL NIL)) NIL NIL NIL NIL)"},
        {"To: <>, <a, <@b>, =?utf-8?q?=C3=A9?= <a@b>\r\n\r\n",
         "(NIL NIL NIL NIL NIL ((NIL NIL \"MISSING_MAILBOX\" \"MISSING_DOMAIN\")"
         "(NIL NIL \"a\" \"SYNTAX_ERROR\")(NIL \"INVALID_ROUTE\" \"MISSING_MAILBOX\" "
         "\"MISSING_DOMAIN\")"
         "(\"=?utf-8?q?=C3=A9?=\" NIL \"a\" \"b\")) NIL NIL NIL NIL)"},
        {"Subject: a \"b\" \\\r\n\r\n",
         "(NIL \"a \\\"b\\\" \\\\\" NIL NIL NIL NIL NIL NIL NIL NIL)"},
        {"Subject: \303\251\r\n\r\n", "(NIL {2}\r\n\303\251 NIL NIL NIL NIL NIL NIL NIL NIL)"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        answers(slice_text(headers[i].header), ANSWER_ENVELOPE, headers[i].envelope);
    }
}

#define PLAIN "\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" "
#define NO_ENVELOPE "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"
#define MIXED "Content-Type: multipart/mixed; boundary=b\r\n\r\n"

static void structures_are_those_of_dovecot(void **state)
{
    static const struct {
        const char *text, *structure;
    } mails[] = {
        {"", "(" PLAIN "0 0 NIL NIL NIL NIL)"},
        {"A: b\r\n\r\nx\r\n", "(" PLAIN "3 1 NIL NIL NIL NIL)"},
        {"Content-Type: TEXT/HTML; Name=\"a \\\"b\\\"\"\r\nContent-ID: <x@y>\r\n"
         "Content-Transfer-Encoding: BASE64\r\nContent-Description: d\r\nContent-MD5: m\r\n"
         "Content-Disposition: attachment; filename*0*=utf-8''a%20; filename*1=b; size=3\r\n"
         "Content-Language: en, de\r\nContent-Location: http://x\r\n\r\nx",
         "(\"TEXT\" \"HTML\" (\"Name\" \"a \\\"b\\\"\" \"charset\" \"us-ascii\") \"<x@y>\" \"d\" "
         "\"BASE64\" 1 0 "
         "\"m\" (\"attachment\" (\"size\" \"3\" \"filename*\" \"utf-8''a%20b\")) (\"en\" \"de\") "
         "\"http://x\")"},
        {"Content-Type: image/png\r\nContent-Disposition: inline\r\nContent-Language: en\r\n\r\nx",
         "(\"image\" \"png\" NIL NIL NIL \"7bit\" 1 NIL (\"inline\" NIL) (\"en\") NIL)"},
        {"Content-Type: foo\r\n\r\nx", "(\"foo\" \"\" NIL NIL NIL \"7bit\" 1 NIL NIL NIL NIL)"},
        {"Content-Type:\r\n\r\nx", "(\"\" \"\" NIL NIL NIL \"7bit\" 1 NIL NIL NIL NIL)"},
        {"Content-Type: text/plain; name=\"\303\274\"\r\n\r\nx",
         "(\"text\" \"plain\" (\"name\" {2}\r\n\303\274 \"charset\" \"us-ascii\") NIL NIL \"7bit\" "
         "1 0 NIL NIL NIL "
         "NIL)"},
        {"Content-Type: multipart/mixed\r\n\r\nx",
         "((" PLAIN "0 0 NIL NIL NIL NIL) \"mixed\" NIL NIL NIL NIL)"},
        {MIXED "x", "((" PLAIN "0 0 NIL NIL NIL NIL) \"mixed\" (\"boundary\" \"b\") NIL NIL NIL)"},
        {"Content-Type: multipart/mixed; boundary=b\r\nContent-Disposition: inline; a=b\r\n"
         "Content-Language: en\r\nContent-Location: l\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: "
         "a/b\r\n\r\n--b--\r\n",
         "((" PLAIN
         "1 0 NIL NIL NIL NIL)(\"a\" \"b\" NIL NIL NIL \"7bit\" 0 NIL NIL NIL NIL) \"mixed\" "
         "(\"boundary\" \"b\") (\"inline\" (\"a\" \"b\")) (\"en\") \"l\")"},
        {"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nb\r\n",
         "(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 17 (NIL \"x\" NIL NIL NIL NIL NIL NIL NIL "
         "NIL) "
         "(" PLAIN "3 1 NIL NIL NIL NIL) 3 NIL NIL NIL NIL)"},
        {"Content-Type: message/rfc822\r\n",
         "(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 0 " NO_ENVELOPE " (" PLAIN
         "0 0 NIL NIL NIL NIL) 0 NIL NIL NIL NIL)"},
        {"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nFrom: "
         "a@b\r\n\r\nbody\r\n--b--\r\n",
         "((\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 17 (NIL NIL " AB " " AB " " AB
         " NIL NIL NIL NIL NIL) (" PLAIN "4 0 NIL NIL NIL NIL) 2 NIL NIL NIL NIL) \"digest\" "
         "(\"boundary\" \"b\") NIL NIL NIL)"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(mails) / sizeof(mails[0]); i++) {
        answers(slice_text(mails[i].text), ANSWER_BODYSTRUCTURE, mails[i].structure);
    }
    answers(slice_text(MIXED "--b\r\nContent-ID: i\r\n\r\nx\r\n--b--"), ANSWER_BODY,
            "((\"text\" \"plain\" (\"charset\" \"us-ascii\") \"i\" NIL \"7bit\" 1 0) \"mixed\")");
    answers(slice_text("Content-Type: multipart/x\r\n\r\n"), ANSWER_BODY, "((" PLAIN "0 0) \"x\")");
}

/* `lines` lines that have `bytes` bytes together. */
static size_t fill(char *out, size_t bytes, size_t lines)
{
    memset(out, 'x', bytes);
    for (size_t i = 0; i < lines; i++) {
        size_t end = bytes - i * (bytes / lines);
        memcpy(out + end - 2, "\r\n", 2);
    }
    return bytes;
}

static void bodies_are_those_of_the_rfc(void **state)
{
    static char text[16384];
    size_t used = 0;
    (void)state;
    /* RFC 3501 §8 */
    used += (size_t)sprintf(text, "Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n"
                                  "Content-Transfer-Encoding: 7BIT\r\n\r\n");
    used += fill(text + used, 3028, 92);
    answers(slice_of(text, used), ANSWER_BODY,
            "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 3028 92)");
    /* RFC 3501 §7.4.2 */
    used = (size_t)sprintf(text, "Content-Type: MULTIPART/MIXED; boundary=b\r\n\r\n--b\r\n"
                                 "Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n"
                                 "Content-Transfer-Encoding: 7BIT\r\n\r\n");
    used += fill(text + used, 1152, 23);
    used += (size_t)sprintf(
        text + used,
        "\r\n--b\r\nContent-Type: TEXT/PLAIN; CHARSET=US-ASCII; NAME=\"cc.diff\"\r\n"
        "Content-ID: <960723163407.20117h@cac.washington.edu>\r\n"
        "Content-Description: Compiler diff\r\nContent-Transfer-Encoding: BASE64\r\n\r\n");
    used += fill(text + used, 4554, 73);
    used += (size_t)sprintf(text + used, "\r\n--b--\r\n");
    answers(slice_of(text, used), ANSWER_BODY,
            "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 1152 23)"
            "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\" \"NAME\" \"cc.diff\") "
            "\"<960723163407.20117h@cac.washington.edu>\" \"Compiler diff\" \"BASE64\" 4554 73) "
            "\"MIXED\")");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(envelopes_are_those_of_the_rfc),
        cmocka_unit_test(structures_are_those_of_dovecot),
        cmocka_unit_test(bodies_are_those_of_the_rfc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
