/* What a script may cost, and who must not get an answer. */
#include "tests/unit/sieve_rig.h"
#include "proto/sieve/limits.h"
#include "proto/sieve/match.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- Matching ---- */

static void patterns_that_could_explode_cost_little(void **state)
{
    static char value[8193];
    struct sieve_captures captures;
    uint64_t work = 0;
    (void)state;
    memset(value, 'a', sizeof(value) - 1);
    const struct slice text = slice_of(value, sizeof(value) - 1);
    uint32_t match = sieve_match_pack(SIEVE_MATCHES, SIEVE_EQ, SIEVE_CASEMAP);
    assert_false(sieve_match(match, text, slice_text("*a*a*a*a*a*a*a*a*b"), &captures, &work));
    assert_true(work < 100000);
    static const char *const patterns[] = {"(a+)+$b",           "(a*)*b",
                                           "(a|a)*b",           "(a|aa)+c",
                                           ".{0,300}.{0,300}b", "(.*)(.*)(.*)(.*)(.*)b",
                                           "(?:a?){64}a{64}b",  "^(([a-z])+.)+[A-Z]([a-z])+$"};
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        char problem[128];
        struct sieve_regex *regex = sieve_regex_open(slice_text(patterns[i]), SIEVE_OCTET, problem);
        assert_non_null(regex);
        work = 0;
        assert_false(sieve_regex_match(regex, text, &captures, &work));
        assert_true(work <= 64 + 8192 + 65ull * (SIEVE_REGEX_STEPS_MAX + 1));
        sieve_regex_close(regex);
    }
}

static void expressions_that_grow_are_refused(void **state)
{
    char problem[128], pattern[3000];
    (void)state;
    assert_null(
        sieve_regex_open(slice_text("((((a{1000}){1000}){1000}){1000})"), SIEVE_OCTET, problem));
    memset(pattern, 'a', sizeof(pattern));
    assert_null(sieve_regex_open(slice_of(pattern, 2049), SIEVE_OCTET, problem));
    assert_string_equal(problem, "it is longer than 2048 bytes");
    memset(pattern, '(', 1000);
    assert_null(sieve_regex_open(slice_of(pattern, 1000), SIEVE_OCTET, problem));
}

static void wildcards_stand_for_as_little_as_they_can(void **state)
{
    static const struct {
        const char *value, *pattern, *found;
        enum sieve_comparator comparator;
    } rows[] = {
        {"abc", "abc", "abc", SIEVE_CASEMAP},
        {"abc", "ABC", "abc", SIEVE_CASEMAP},
        {"abc", "ABC", NULL, SIEVE_OCTET},
        {"abc", "a*", "abc|bc", SIEVE_CASEMAP},
        {"abc", "*", "abc|abc", SIEVE_CASEMAP},
        {"", "*", "|", SIEVE_CASEMAP},
        {"", "?", NULL, SIEVE_CASEMAP},
        {"", "", "", SIEVE_CASEMAP},
        {"abcabc", "*b*", "abcabc|a|cabc", SIEVE_CASEMAP},
        {"abcabc", "*bc", "abcabc|abca", SIEVE_CASEMAP},
        {"abcabc", "a*?*c", "abcabc||b|cab", SIEVE_CASEMAP},
        {"a*c", "a\\*c", "a*c", SIEVE_CASEMAP},
        {"abc", "a\\*c", NULL, SIEVE_CASEMAP},
        {"a\\", "a\\\\", "a\\", SIEVE_CASEMAP},
        {"a\\", "a\\", "a\\", SIEVE_CASEMAP},
        {"\xc3\xa9t", "?t", "\xc3\xa9t|\xc3\xa9", SIEVE_CASEMAP},
        {"\xc3\xa9t", "??t", "\xc3\xa9t|\xc3|\xa9", SIEVE_OCTET},
        {"a.b.c", "*.*", "a.b.c|a|b.c", SIEVE_CASEMAP},
        {"aab", "*ab", "aab|a", SIEVE_CASEMAP},
        {"mississippi", "m*iss*ip*i", "mississippi||iss|p", SIEVE_CASEMAP},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sieve_captures captures = {.count = 0};
        uint64_t work = 0;
        char found[256] = "";
        size_t used = 0;
        bool matched =
            sieve_match(sieve_match_pack(SIEVE_MATCHES, SIEVE_EQ, rows[i].comparator),
                        slice_text(rows[i].value), slice_text(rows[i].pattern), &captures, &work);
        assert_int_equal(matched, rows[i].found != NULL);
        for (unsigned n = 0; matched && n < captures.count; n++) {
            used += (size_t)snprintf(found + used, sizeof(found) - used, "%s%.*s", n > 0 ? "|" : "",
                                     (int)captures.values[n].size, captures.values[n].bytes);
        }
        if (matched) {
            assert_string_equal(found, rows[i].found);
        }
    }
}

/* ---- Budgets ---- */

static void a_variable_that_doubles_is_cut(void **state)
{
    char script[4096];
    size_t size = (size_t)snprintf(
        script, sizeof(script), "require [\"variables\",\"fileinto\"]; set \"a\" \"\xc3\xa9x\";");
    (void)state;
    for (int i = 0; i < 40; i++) {
        size += (size_t)snprintf(script + size, sizeof(script) - size, "set \"a\" \"${a}${a}\";");
    }
    snprintf(script + size, sizeof(script) - size,
             "set :length \"n\" \"${a}\"; fileinto \"${n}\";");
    const struct sieve_scene scene = {.script = script};
    /* 4096 bytes would end inside a character. */
    assert_string_equal(sieve_play(&scene), "fileinto 2730");
}

static void work_beyond_the_budget_ends_the_script(void **state)
{
    static char script[300000];
    (void)state;
    size_t size = (size_t)snprintf(script, sizeof(script), "if true { discard; }");
    for (int i = 0; i < 3000; i++) {
        size += (size_t)snprintf(script + size, sizeof(script) - size,
                                 "\nif header :contains \"Subject\" \"zz\" { keep; }");
    }
    const struct sieve_scene enough = {.script = script};
    const struct sieve_scene short_of = {.script = script, .work_max = 1000};
    assert_string_equal(sieve_play(&enough), "discard");
    assert_non_null(strstr(sieve_play(&short_of), "the script takes too much time; keep"));
}

/* A long header, and a body behind it. */
static const char *long_message(size_t header, size_t body)
{
    static char text[200000];
    size_t size = (size_t)snprintf(text, sizeof(text), "X: ");
    memset(text + size, 'x', header);
    size += header;
    size += (size_t)snprintf(text + size, sizeof(text) - size, "\nSubject: s\n\n");
    memset(text + size, 'y', body);
    text[size + body] = '\0';
    return text;
}

static void going_through_the_message_is_paid_for(void **state)
{
    /* Each more often than the budget has room for. */
    static const char *const scripts[] = {
        "if header :contains \"Subject\" \"zz\" {}",
        "if header :contains \"Absent\" \"zz\" {}",
        "if address :is \"To\" \"zz\" {}",
        "if exists \"Subject\" {}",
        "if body :content \"image\" :contains \"zz\" {}",
        "if body :text :contains \"zz\" {}",
        "if header :index 1 :contains \"Subject\" \"zz\" {}",
    };
    static char script[4096];
    (void)state;
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        size_t size = (size_t)snprintf(script, sizeof(script), "require [\"body\",\"index\"];");
        for (int n = 0; n < 40; n++) {
            size += (size_t)snprintf(script + size, sizeof(script) - size, "%s", scripts[i]);
        }
        struct sieve_scene scene = {
            .script = script, .message = long_message(40000, 40000), .work_max = 100000};
        assert_string_equal(sieve_play(&scene), "failed 1 the script takes too much time; keep");
        scene.message = long_message(400, 400);
        assert_string_equal(sieve_play(&scene), "keep");
    }
}

static void one_test_of_many_fields_stops_at_the_budget(void **state)
{
    static const struct {
        const char *test, *name, *key;
    } rows[] = {{"exists", "X", ""},
                {"header :contains", "Absent", "\"zz\""},
                {"address :contains", "To", "\"zz\""}};
    static char script[20000];
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t size =
            (size_t)snprintf(script, sizeof(script), "if %s [\"%s\"", rows[i].test, rows[i].name);
        for (int n = 0; n < 900; n++) {
            size += (size_t)snprintf(script + size, sizeof(script) - size, ",\"%s\"", rows[i].name);
        }
        snprintf(script + size, sizeof(script) - size, "] %s {}", rows[i].key);
        const struct sieve_scene scene = {
            .script = script, .message = long_message(100000, 0), .work_max = 100000};
        sieve_looks = 0;
        assert_string_equal(sieve_play(&scene), "failed 1 the script takes too much time; keep");
        assert_in_range(sieve_looks, 4, 12);
    }
}

static void compiling_expressions_is_paid_for(void **state)
{
    (void)state;
    const struct sieve_scene scene = {
        .script = "require [\"regex\",\"variables\"]; set \"a\" \"(x{1000}){60}\";"
                  "if header :regex \"Subject\" [\"${a}\",\"${a}\",\"${a}\"] {}",
        .work_max = 50000,
    };
    assert_string_equal(sieve_play(&scene), "failed 1 the script takes too much time; keep");
    struct sieve_scene more = scene;
    more.work_max = 70000;
    assert_string_equal(sieve_play(&more), "keep");
}

static void includes_that_multiply_are_cut(void **state)
{
    /* Each includes the next one 40 times: 40^3 runs. */
    static char texts[3][4096], main_script[4096];
    (void)state;
    for (int level = 0; level < 4; level++) {
        char *text = level == 0 ? main_script : texts[level - 1];
        size_t size = (size_t)snprintf(text, 4096, "require \"include\";");
        for (int i = 0; i < 40; i++) {
            size += (size_t)snprintf(text + size, 4096 - size, "include \"%c\";", "abcd"[level]);
        }
    }
    const struct sieve_scene scene = {
        .script = main_script,
        .includes = {"a", texts[0], "b", texts[1], "c", texts[2]},
        .work_max = 50000,
    };
    assert_non_null(strstr(sieve_play(&scene), "include: there is no script \"d\""));
    snprintf(texts[2], sizeof(texts[2]), "discard;");
    assert_non_null(strstr(sieve_play(&scene), "the script takes too much time; keep"));
}

/* ---- Vacation ---- */

static void answers_hold_all_that_is_needed(void **state)
{
    static const struct {
        const char *script, *outcome;
        uint32_t least;
    } rows[] = {
        {"require \"vacation\"; vacation \"gone\";",
         "vacation gone to=sender@example.org from= subject=Auto: Test message seconds=604800; "
         "keep",
         86400},
        {"require \"vacation\"; vacation :days 0 \"gone\";",
         "vacation gone to=sender@example.org from= subject=Auto: Test message seconds=86400; keep",
         86400},
        {"require \"vacation\"; vacation :days 365 \"gone\";",
         "vacation gone to=sender@example.org from= subject=Auto: Test message seconds=2592000; "
         "keep",
         86400},
        {"require \"vacation-seconds\"; vacation :seconds 0 :subject \"S\n X\" :from \"U "
         "<u@example.com>\" :handle \"h\" :mime \"m\"; discard;",
         "vacation m to=sender@example.org from=U <u@example.com> subject=S   X seconds=0 mime "
         "handle=h",
         0},
        {"require \"vacation\"; vacation :from \"nobody\" \"gone\";",
         "failed 1 vacation: :from is no mailbox; keep", 0},
        {"require \"vacation\"; vacation :from \"a@b, c@d\" \"gone\";",
         "failed 1 vacation: :from is no mailbox; keep", 0},
        {"require \"vacation\"; vacation \"a\"; vacation \"b\";",
         "failed 1 vacation: there is an answer already; keep", 0},
        {"require [\"vacation\",\"vacation-seconds\"]; vacation :days 1 :seconds 5 \"a\";",
         "error 1:59 this tag contradicts one before it", 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct sieve_scene scene = {.script = rows[i].script,
                                          .vacation_min_s = rows[i].least};
        assert_string_equal(sieve_play(&scene), rows[i].outcome);
    }
}

static void some_must_not_get_an_answer(void **state)
{
    static const struct {
        const char *from, *message, *why;
    } rows[] = {
        {"a@b.test", "To: user@example.com\n\n", NULL},
        {"a@b.test", "Cc: X <USER@example.com>, y@z\n\n", NULL},
        {"a@b.test", "Resent-To: alias@example.com\n\n", NULL},
        {"a@b.test", "To: third@example.com\n\n", NULL},
        {"a@b.test", "To: x\nAuto-Submitted: no (really)\nBcc: user@example.com\n\n", NULL},
        {"a@b.test", "To: all@example.com\n\n", "recipient"},
        {"", "To: user@example.com\n\n", "sender"},
        {"MAILER-DAEMON@b.test", "To: user@example.com\n\n", "sender"},
        {"owner-list@b.test", "To: user@example.com\n\n", "sender"},
        {"list-request@b.test", "To: user@example.com\n\n", "sender"},
        {"Majordomo@b.test", "To: user@example.com\n\n", "sender"},
        {"User@example.com", "To: user@example.com\n\n", "self"},
        {"alias@example.com", "To: user@example.com\n\n", "self"},
        {"a@b.test", "To: user@example.com\nList-Id: <x>\n\n", "list"},
        {"a@b.test", "To: user@example.com\nPrecedence: Bulk\n\n", "list"},
        {"a@b.test", "To: user@example.com\nAuto-Submitted: auto-replied\n\n", "automatic"},
        {"a@b.test", "To: user@example.com\nAuto-Submitted: notify\n\n", "automatic"},
        {"a@b.test", "To: user@example.com\nX-Auto-Response-Suppress: DR, OOF\n\n", "automatic"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char expected[64];
        const struct sieve_scene scene = {
            .script = "require \"vacation\"; vacation :addresses \"third@example.com\" \"gone\";",
            .message = rows[i].message,
            .from = rows[i].from,
        };
        const char *outcome = sieve_play(&scene);
        if (rows[i].why == NULL) {
            assert_int_equal(strncmp(outcome, "vacation gone to=a@b.test", 25), 0);
        } else {
            snprintf(expected, sizeof(expected), "keep; no answer: %s", rows[i].why);
            assert_string_equal(outcome, expected);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_that_could_explode_cost_little),
        cmocka_unit_test(expressions_that_grow_are_refused),
        cmocka_unit_test(wildcards_stand_for_as_little_as_they_can),
        cmocka_unit_test(a_variable_that_doubles_is_cut),
        cmocka_unit_test(work_beyond_the_budget_ends_the_script),
        cmocka_unit_test(going_through_the_message_is_paid_for),
        cmocka_unit_test(one_test_of_many_fields_stops_at_the_budget),
        cmocka_unit_test(compiling_expressions_is_paid_for),
        cmocka_unit_test(includes_that_multiply_are_cut),
        cmocka_unit_test(answers_hold_all_that_is_needed),
        cmocka_unit_test(some_must_not_get_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
