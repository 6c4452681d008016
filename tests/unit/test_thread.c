/*
 * thread: who answers whom, as RFC 5256 says it; long chains, circles and missing messages cost what messages cost.
 */
#include "proto/message/thread.h"
#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

/* A message of a table: "id: ref ref | subject", small letters of ids; a capital R before the subject: a reply.
 * The number is the place in the table, and so is the date unless `dates` says another. */
struct row {
    const char *id, *references, *subject;
};

static struct thread_message message_of(const struct row *row, uint32_t number,
                                        uint64_t *references)
{
    struct thread_message message = {
        .number = number, .sent_s = number, .id = (uint8_t)row->id[0] * 0x9e3779b97f4a7c15ull};
    for (const char *at = row->references; *at != '\0'; at++) {
        references[message.reference_count++] = (uint8_t)*at * 0x9e3779b97f4a7c15ull;
    }
    message.is_reply = row->subject[0] == 'R';
    for (const char *at = row->subject + message.is_reply; *at != '\0'; at++) {
        message.subject = message.subject * 31 + (uint8_t)*at;
    }
    message.references = references;
    return message;
}

/* All of it, so many steps at a time; as often the pieces themselves are counted. */
static struct thread_forest *threads_of(enum thread_kind kind,
                                        const struct thread_message *messages, uint32_t count,
                                        size_t steps)
{
    struct thread_forest *forest = NULL;
    size_t references = 0, pieces = 0, bound;
    for (uint32_t i = 0; i < count; i++) {
        references += messages[i].reference_count;
    }
    assert_int_equal(thread_begin(&forest, kind, messages, count, references), 0);
    /* Each thing is met some twenty times, and sorted. */
    bound = (count + references + 100) * 60 / steps + 100;
    int status;
    while ((status = thread_step(forest, steps)) == -EAGAIN) {
        assert_true(++pieces < bound);
    }
    assert_int_equal(status, 0);
    return forest;
}

/* In pieces of `room`, so that every cut is seen. */
static void text_check(struct thread_forest *forest, size_t room, const char *expected)
{
    char text[512], piece[512];
    size_t used = 0, size;
    while ((size = thread_text(forest, piece, room)) > 0) {
        assert_true(size <= room && used + size < sizeof(text));
        memcpy(text + used, piece, size);
        used += size;
    }
    text[used] = '\0';
    assert_string_equal(text, expected);
}

static void rows_check(enum thread_kind kind, const struct row *rows, const int64_t *dates,
                       const char *expected)
{
    struct thread_message messages[32];
    uint64_t references[32][16];
    uint32_t count = 0;
    for (; rows[count].id != NULL; count++) {
        messages[count] = message_of(&rows[count], count + 1, references[count]);
        messages[count].sent_s = dates != NULL ? dates[count] : messages[count].sent_s;
    }
    for (size_t room = THREAD_TEXT_MIN; room < 64; room += 7) {
        struct thread_forest *forest = threads_of(kind, messages, count, room - 15);
        text_check(forest, room, expected);
        thread_free(forest);
    }
}

static void references_make_the_trees_of_the_standard(void **state)
{
    (void)state;
    static const struct {
        struct row rows[12];
        const char *expected, *why;
    } cases[] = {
        {{{NULL, NULL, NULL}}, "", "nothing"},
        {{{"a", "", "s"}, {NULL, NULL, NULL}}, "(1)", "one message"},
        {{{"a", "", "s"}, {"b", "a", "Rs"}, {"c", "ab", "Rs"}, {NULL, NULL, NULL}},
         "(1 2 3)",
         "a chain stands in one pair of parentheses"},
        {{{"a", "", "s"}, {"b", "a", "Rs"}, {"c", "a", "Rs"}, {NULL, NULL, NULL}},
         "(1 (2)(3))",
         "two answers have their own"},
        {{{"a", "", "s"},
          {"b", "a", "Rs"},
          {"c", "ab", "Rs"},
          {"d", "abc", "Rs"},
          {"e", "ab", "Rs"},
          {"f", "abe", "Rs"},
          {NULL, NULL, NULL}},
         "(1 2 (3 4)(5 6))",
         "the shape of RFC 5256 §4"},
        {{{"b", "a", "x"}, {"c", "a", "y"}, {NULL, NULL, NULL}},
         "((1)(2))",
         "what is answered is not there: a dummy holds the two together"},
        {{{"b", "a", "x"}, {NULL, NULL, NULL}}, "(1)", "a dummy with one child goes"},
        {{{"d", "abc", "x"}, {"e", "abc", "x"}, {"f", "ab", "x"}, {NULL, NULL, NULL}},
         "((1)(2)(3))",
         "dummies below dummies go"},
        {{{"c", "ab", "x"}, {"a", "", "x"}, {NULL, NULL, NULL}},
         "(2 1)",
         "the answer came first; what is missing between is left out"},
        {{{"a", "b", "x"}, {"b", "a", "y"}, {NULL, NULL, NULL}},
         "(2 1)",
         "a circle of two: the first link holds"},
        {{{"a", "a", "x"}, {NULL, NULL, NULL}}, "(1)", "it answers itself"},
        {{{"a", "", "x"}, {"a", "", "y"}, {"b", "a", "z"}, {NULL, NULL, NULL}},
         "(1 3)(2)",
         "of two with one id the first is meant"},
        {{{"c", "ab", "x"}, {"b", "", "y"}, {"a", "", "z"}, {NULL, NULL, NULL}},
         "(2 1)(3)",
         "who is there and knows no parent does not believe what was said of it before"},
        {{{"b", "", "y"}, {"a", "", "z"}, {"c", "ab", "x"}, {NULL, NULL, NULL}},
         "(2 1 3)",
         "but what is said later (step 1.A)"},
        {{{"a", "", "s"}, {"b", "", "Rs"}, {NULL, NULL, NULL}},
         "(1 2)",
         "a reply by its subject goes below what it answers (step 5)"},
        {{{"a", "", "s"}, {"b", "", "s"}, {NULL, NULL, NULL}},
         "((1)(2))",
         "two of a subject that answer nothing: below a dummy"},
        {{{"a", "", "Rs"}, {"b", "", "Rs"}, {"c", "", "Rs"}, {NULL, NULL, NULL}},
         "((1)(2)(3))",
         "replies alone: below one dummy"},
        {{{"a", "", "Rs"}, {"b", "", "s"}, {"c", "", "Rs"}, {NULL, NULL, NULL}},
         "(2 (1)(3))",
         "the message that is no reply stands for its subject"},
        {{{"a", "z", "x"}, {"b", "z", "y"}, {"c", "", "x"}, {NULL, NULL, NULL}},
         "((1)(2)(3))",
         "a dummy has the subject of its first child, and takes others in"},
        {{{"a", "z", "x"}, {"b", "z", "x"}, {"c", "y", "x"}, {"d", "y", "x"}, {NULL, NULL, NULL}},
         "((1)(2)(3)(4))",
         "two dummies of a subject are one"},
        {{{"a", "", ""}, {"b", "", ""}, {NULL, NULL, NULL}},
         "(1)(2)",
         "no subject is none in common"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        rows_check(THREAD_BY_REFERENCES, cases[i].rows, NULL, cases[i].expected);
    }
}

static void siblings_are_in_order_of_their_dates_then_numbers(void **state)
{
    (void)state;
    static const struct row rows[] = {{"a", "", "x"},  {"b", "a", "y"},   {"c", "a", "y"},
                                      {"d", "a", "y"}, {"e", "", "z"},    {"f", "q", "v"},
                                      {"g", "q", "w"}, {NULL, NULL, NULL}};
    rows_check(THREAD_BY_REFERENCES, rows, (const int64_t[]){50, 90, 70, 70, 60, 58, 20},
               "((7)(6))(1 (3)(4)(2))(5)");
}

static void ordered_subject_has_the_first_of_each_subject_above_the_others(void **state)
{
    (void)state;
    static const struct row rows[] = {{"a", "", "x"},  {"b", "", "y"}, {"c", "", "Rx"},
                                      {"d", "", "Rx"}, {"e", "", "y"}, {NULL, NULL, NULL}};
    rows_check(THREAD_BY_SUBJECT, rows, NULL, "(1 (3)(4))(2 5)");
    rows_check(THREAD_BY_SUBJECT, rows, (const int64_t[]){9, 2, 3, 8, 1}, "(5 2)(3 (4)(1))");
}

/* Numbers stand once each, and every parenthesis is closed. */
static void answer_check(struct thread_forest *forest, uint32_t count)
{
    uint8_t *seen = calloc(count + 1, 1);
    char text[4096];
    size_t size;
    int64_t depth = 0;
    uint32_t number = 0, numbers = 0;
    while ((size = thread_text(forest, text, sizeof(text))) > 0) {
        for (size_t i = 0; i < size; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                number = number * 10 + (uint32_t)(text[i] - '0');
                continue;
            }
            if (number != 0) {
                assert_true(number <= count && !seen[number]);
                seen[number] = 1;
                numbers++;
                number = 0;
            }
            depth += text[i] == '(' ? 1 : text[i] == ')' ? -1 : 0;
            assert_true(depth >= 0 && (text[i] == '(' || text[i] == ')' || text[i] == ' '));
        }
    }
    assert_int_equal(depth, 0);
    assert_int_equal(numbers, count);
    free(seen);
}

static uint64_t draw(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random;
}

static void whatever_they_refer_to_each_message_is_answered_once(void **state)
{
    (void)state;
    uint64_t random = 88172645463325252ull;
    for (int round = 0; round < 20000; round++) {
        struct thread_message messages[24];
        uint64_t references[24][6];
        uint32_t count = (uint32_t)(draw(&random) % 25), ids = 1 + (uint32_t)(draw(&random) % 30);
        for (uint32_t i = 0; i < count; i++) {
            messages[i] = (struct thread_message){.number = i + 1,
                                                  .sent_s = (int64_t)(draw(&random) % 8),
                                                  .id = draw(&random) % ids,
                                                  .references = references[i],
                                                  .reference_count = (uint32_t)(draw(&random) % 7),
                                                  .subject = draw(&random) % 5,
                                                  .is_reply = draw(&random) % 2 == 0};
            for (uint32_t r = 0; r < messages[i].reference_count; r++) {
                references[i][r] = draw(&random) % ids;
            }
        }
        struct thread_forest *forest;
        size_t steps = 1 + draw(&random) % 50;
        forest = threads_of(THREAD_BY_REFERENCES, messages, count, steps);
        answer_check(forest, count);
        thread_free(forest);
        forest = threads_of(THREAD_BY_SUBJECT, messages, count, steps);
        answer_check(forest, count);
        thread_free(forest);
    }
}

/* Half a million: what takes the square of that would not end. */
#define MANY 500000u

static void many_check(struct thread_message *messages)
{
    struct thread_forest *forest = threads_of(THREAD_BY_REFERENCES, messages, MANY, 1000);
    answer_check(forest, MANY);
    thread_free(forest);
}

static void chains_as_long_as_the_mailbox_end_soon(void **state)
{
    (void)state;
    struct thread_message *messages = calloc(MANY, sizeof(*messages));
    uint64_t(*references)[2] = calloc(MANY, sizeof(*references));
    /* Each answers the one before; then the one behind; then missing ones that answer each other, one child each. */
    for (int kind = 0; kind < 4; kind++) {
        for (uint32_t i = 0; i < MANY; i++) {
            uint64_t own = (i + 1) * 0x9e3779b97f4a7c15ull;
            uint64_t before = i * 0x9e3779b97f4a7c15ull;
            uint64_t behind = (i + 2) * 0x9e3779b97f4a7c15ull;
            messages[i] = (struct thread_message){
                .number = i + 1, .sent_s = (int64_t)(i % 1000), .references = references[i]};
            messages[i].id = kind < 2 ? own : 0;
            messages[i].reference_count = kind < 2 ? 1 : 2;
            references[i][0] = kind == 0 ? before : kind == 1 ? behind : kind == 2 ? own : behind;
            references[i][1] = kind == 2 ? behind : own;
        }
        many_check(messages);
    }
    free(references);
    free(messages);
}

/* A step is about so many things, and each reference is one: a hundred of each message are not gone through as if they were
 * none. */
static void references_count_as_steps(void **state)
{
    (void)state;
    enum { COUNT = 2000, STEPS = 1000 };
    static uint64_t references[COUNT][THREAD_REFERENCES_MAX];
    static struct thread_message messages[COUNT];
    size_t pieces[2] = {0};
    for (int with = 0; with < 2; with++) {
        struct thread_forest *forest = NULL;
        uint64_t random = 88172645463325252ull;
        for (uint32_t i = 0; i < COUNT; i++) {
            messages[i] = (struct thread_message){
                .number = i + 1, .id = draw(&random), .references = references[i]};
            messages[i].reference_count = with ? THREAD_REFERENCES_MAX : 0;
            for (uint32_t r = 0; r < THREAD_REFERENCES_MAX; r++) {
                references[i][r] = messages[i / 2].id;
            }
        }
        /* Room for as many in either case, so that the table is as large. */
        assert_int_equal(thread_begin(&forest, THREAD_BY_REFERENCES, messages, COUNT,
                                      (size_t)COUNT * THREAD_REFERENCES_MAX),
                         0);
        while (thread_step(forest, STEPS) == -EAGAIN) {
            pieces[with]++;
        }
        answer_check(forest, COUNT);
        thread_free(forest);
    }
    assert_true(pieces[1] >= pieces[0] + (size_t)COUNT * THREAD_REFERENCES_MAX / STEPS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_make_the_trees_of_the_standard),
        cmocka_unit_test(siblings_are_in_order_of_their_dates_then_numbers),
        cmocka_unit_test(ordered_subject_has_the_first_of_each_subject_above_the_others),
        cmocka_unit_test(whatever_they_refer_to_each_message_is_answered_once),
        cmocka_unit_test(chains_as_long_as_the_mailbox_end_soon),
        cmocka_unit_test(references_count_as_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
