/* mbox: many messages in one file. */
#include "queue/mailbox/mbox.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

/* What a reader tells, as text: "[SENDER DATE]TEXT{flags uid keywords}". */
static void read_told(const char *mbox, size_t piece, enum mbox_quoting quoting, char *out)
{
    static struct mbox_reader reader;
    struct slice input = slice_text(mbox);
    mbox_reader_begin(&reader, quoting);
    bool over = false;
    out[0] = 0;
    for (struct slice part = {0}; !over;) {
        if (part.size == 0) {
            part = slice_first(input, piece);
            input = slice_from(input, part.size);
        }
        enum mbox_event event = part.size > 0 ? mbox_read(&reader, &part) : mbox_read_end(&reader);
        switch (event) {
        case MBOX_MORE:
            over = part.size == 0 && input.size == 0 && reader.at_end;
            over = over || (input.size == 0 && reader.place == MBOX_AT_START);
            break;
        case MBOX_MESSAGE:
            out += sprintf(out, "[%s %lld]", reader.facts.sender, (long long)reader.facts.date_s);
            break;
        case MBOX_TEXT:
            out += sprintf(out, "%.*s", (int)reader.text.size, (const char *)reader.text.bytes);
            break;
        case MBOX_END:
            out += sprintf(out, "{%u %u %s}", reader.facts.flags, reader.facts.uid,
                           reader.facts.keywords);
            break;
        case MBOX_NONE:
            sprintf(out, "none");
            over = true;
            break;
        }
    }
}

#define FROM "From a@b Thu Nov  9 22:33:52 2000\n"
#define TOLD "[a@b 973809232]"

struct read_case {
    enum mbox_quoting quoting;
    const char *mbox, *told;
};

static const struct read_case reads[] = {
    {MBOX_RD, FROM "S: x\n\nhi\n\n" FROM "S: y\n\nho\n\n",
     TOLD "S: x\n\nhi\n{0 0 }" TOLD "S: y\n\nho\n{0 0 }"},
    {MBOX_RD, FROM "S: x\n\n>From me\n>>From\n>>From x\n\n",
     TOLD "S: x\n\nFrom me\n>>From\n>From x\n{0 0 }"},
    {MBOX_O, FROM "S: x\n\n>From me\n>>From x\n\n", TOLD "S: x\n\nFrom me\n>>From x\n{0 0 }"},
    {MBOX_RD, FROM "Status: RO\nS: x\nX-Status: AFTD\nX-UID: 12\nX-Keywords: a b\n\tc\n\nt\n",
     TOLD "S: x\n\nt\n{59 12 a b c}"},
    {MBOX_RD, FROM "S: x\n\nFrom here on\n\nFrom nobody\n\nend\n",
     TOLD "S: x\n\nFrom here on\n\nFrom nobody\n\nend\n{0 0 }"},
    {MBOX_RD, FROM "S: x\n\na\n" FROM "b\n",
     TOLD "S: x\n\na\n" FROM "b\n{0 0 }"}, /* no empty line in front */
    {MBOX_RD, FROM "S: x\n\n\n\n\n" FROM "\n", TOLD "S: x\n\n\n\n{0 0 }" TOLD "\n{0 0 }"},
    {MBOX_RD, FROM "S: x\n\nno end", TOLD "S: x\n\nno end{0 0 }"},
    {MBOX_RD, "", ""},
    {MBOX_RD, "\n\n", ""},
    {MBOX_RD, "Subject: x\n", "none"},
};

static void messages_are_told_apart_wherever_the_pieces_end(void **state)
{
    (void)state;
    char told[1024];
    for (size_t i = 0; i < sizeof reads / sizeof reads[0]; i++) {
        for (size_t piece = 1; piece < 200; piece += piece < 20 ? 1 : 37) {
            read_told(reads[i].mbox, piece, reads[i].quoting, told);
            assert_string_equal(told, reads[i].told);
        }
    }
}

struct from_case {
    const char *line, *sender;
    int64_t date_s;
};

static const struct from_case froms[] = {
    {"From a@b Thu Nov  9 22:33:52 2000", "a@b", 973809232},
    {"From a@b  Thu Nov 09 22:33:52 2000\r", "a@b", 973809232},
    {"From a@b Thu Nov  9 22:33:52 2000 +0300", "a@b", 973809232 - 10800},
    {"From a@b Thu Nov  9 22:33:52 -0130 2000", "a@b", 973809232 + 5400},
    {"From a@b Thu Nov  9 22:33:52 EST 2000", "a@b", 973809232},
    {"From a@b Thu Nov  9 22:33 2000", "a@b", 973809180},
    {"From \"x Thu y\"@b Thu Jan  1 00:00:00 1970", "\"x Thu y\"@b", 0},
    {"From a Tue Feb 29 12:00:00 2000", "a", 951825600},
};

static void dates_are_read_in_the_forms_that_are_met(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof froms / sizeof froms[0]; i++) {
        struct mbox_facts facts;
        assert_true(mbox_from_read(slice_text(froms[i].line), &facts));
        assert_string_equal(facts.sender, froms[i].sender);
        assert_int_equal(facts.date_s, froms[i].date_s);
    }
    static const char *const refused[] = {"From",
                                          "From ",
                                          "From a",
                                          "From a Thu Nov 2000",
                                          "from a Thu Nov  9 22:33:52 2000",
                                          "From a Thu Nov 32 22:33:52 2000",
                                          "From a Thu Nov  9 24:33:52 2000",
                                          ">From a Thu Nov  9 22:33:52 2000"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct mbox_facts facts;
        assert_false(mbox_from_read(slice_text(refused[i]), &facts));
    }
}

struct write_case {
    enum mbox_quoting quoting;
    const char *text, *written;
};

static const struct write_case writes[] = {
    {MBOX_RD, "S: x\n\nFrom a\n>From b\nFro\n>\n", "S: x\n\n>From a\n>>From b\nFro\n>\n\n"},
    {MBOX_O, "S: x\n\nFrom a\n>From b\n", "S: x\n\n>From a\n>From b\n\n"},
    {MBOX_RD, "Status: R\nS: x\nX-Keywords: a\n b\nTo: y\n\nStatus: R\n",
     "S: x\nTo: y\n\nStatus: R\n\n"},
    {MBOX_RD, ">\nStatus: F\n>Status: F\n\nhi\n", ">\n>Status: F\n\nhi\n\n"},
    {MBOX_RD, "S: x\n\nno end", "S: x\n\nno end\n\n"},
    {MBOX_RD, "S: x\n", "S: x\n\n\n"},
    {MBOX_RD, " x\n", "\n x\n\n"}, /* not a keyword more */
};

static void what_would_be_taken_for_others_is_quoted_or_left_out(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof writes / sizeof writes[0]; i++) {
        for (size_t piece = 1; piece < 100; piece += 7) {
            struct mbox_facts facts = {.sender = "a@b",
                                       .date_s = 973809232,
                                       .flags = MAILDIR_SEEN,
                                       .uid = 3,
                                       .uidvalidity = 9,
                                       .uid_last = 4};
            struct mbox_writer writer;
            char out[4096];
            size_t used = mbox_write_begin(&writer, writes[i].quoting, &facts, out);
            struct slice text = slice_text(writes[i].text);
            while (text.size > 0) {
                struct slice part = slice_first(text, piece);
                text = slice_from(text, part.size);
                while (part.size > 0) {
                    used += mbox_write(&writer, &part, (uint8_t *)out + used, 32);
                }
            }
            used += mbox_write_end(&writer, (uint8_t *)out + used);
            out[used] = 0;
            char expected[4096];
            snprintf(expected, sizeof expected,
                     FROM "X-IMAPbase: 9 0000000004\nX-UID: 3\nStatus: R\nX-Status: \n%s",
                     writes[i].written);
            assert_string_equal(out, expected);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_told_apart_wherever_the_pieces_end),
        cmocka_unit_test(dates_are_read_in_the_forms_that_are_met),
        cmocka_unit_test(what_would_be_taken_for_others_is_quoted_or_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
