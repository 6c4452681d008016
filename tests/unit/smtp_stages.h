/* smtp_stages: beginnings of transcripts (smtp_transcript.h), named after how far the dialogue has come. */
#pragma once
#define GREET "S: 220 b.test ESMTP\nC: EHLO relay.test\n"
#define PLAIN GREET "S: 250 b.test\nW: message\n> begin\n"
#define PIPE GREET "S: 250-b.test\nS: 250 PIPELINING\nW: message\n> begin\n"
#define LMTP_PIPE                                                                                  \
    "S: 220 b.test LMTP\nC: LHLO relay.test\nS: 250-b.test\nS: 250 PIPELINING\nW: message\n> "     \
    "begin\n"
#define ENVELOPE "C: MAIL FROM:<sender@a.test>\nC: RCPT TO:<one@b.test>\n"
#define TO_BODY PIPE ENVELOPE "C: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\nW: body\n"
#define TO_DOT TO_BODY "> body\nC: .\n"
