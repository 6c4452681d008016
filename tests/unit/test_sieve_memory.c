/* Where memory is short: each allocation of compiling and running a script fails once. */
#include "proto/sieve/compile.h"
#include "proto/sieve/run.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static long until_failure; /* allocations that still succeed; negative: all do */

static bool fails(void)
{
    return until_failure >= 0 && until_failure-- == 0;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return fails() ? NULL : __real_realloc(memory, size);
}

static const char script[] =
    "require [\"fileinto\",\"variables\",\"imap4flags\",\"regex\",\"vacation\",\"editheader\","
    "\"include\",\"duplicate\",\"encoded-character\",\"mailbox\"];"
    "set :upper \"a\" \"x${1}\"; global \"g\"; include \"other\"; setflag [\"a\",\"b\"];"
    "if anyof (header :matches \"Subject\" \"*z*\", header :regex \"Subject\" [\"(q)\",\"(s)\"]) {"
    "  addheader \"X\" \"${1}${hex:40}\"; fileinto \"in/${a}${g}\"; }"
    "if not duplicate { vacation :subject \"s\" :handle \"h\" :addresses [\"u@b\"] \"gone\"; }"
    "if mailboxexists [\"A\",\"B\"] { redirect \"c@d\"; }";

static bool field(void *self, struct slice name, uint32_t index, enum sieve_field_form form,
                  struct slice *value)
{
    (void)self;
    (void)form;
    bool to = slice_equal_nocase(name, slice_text("To"));
    *value = slice_text(to ? "u@b" : "a subject");
    return index == 0 && (to || slice_equal_nocase(name, slice_text("Subject")) ||
                          slice_equal_nocase(name, slice_text("Message-ID")));
}

enum outcome { OUTCOME_REFUSED, OUTCOME_NO_PROGRAM, OUTCOME_NO_RUN, OUTCOME_KEPT, OUTCOME_WHOLE };

static enum outcome run_it(const struct sieve_program *program)
{
    const struct sieve_message message = {
        .envelope_from = slice_text("a@b"), .envelope_to = slice_text("u@b"), .field = field};
    const struct sieve_settings settings = {.redirects_max = 1};
    struct sieve_run *run = sieve_run_open(program, &message, &settings);
    if (run == NULL) {
        return OUTCOME_NO_RUN;
    }
    enum sieve_want want = sieve_run_go(run);
    while (want != SIEVE_WANT_NOTHING) {
        want = sieve_run_answer(run, want == SIEVE_WANT_MAILBOX);
    }
    const struct sieve_result *result = sieve_run_result(run);
    enum outcome outcome = OUTCOME_WHOLE;
    if (result->failed) {
        assert_string_equal(result->error.text, "the script takes too much memory");
        assert_int_equal(result->action_count, 1);
        assert_int_equal(result->actions[0].kind, SIEVE_ACTION_KEEP);
        outcome = OUTCOME_KEPT;
    } else {
        assert_int_equal(result->action_count, 3);
        assert_int_equal(result->edit_count, 1);
        assert_int_equal(result->seen_count, 1);
    }
    sieve_run_close(run);
    return outcome;
}

static enum outcome compile_and_run(void)
{
    const struct sieve_compile_settings settings = {.extensions = SIEVE_EXTENSIONS_ALL};
    struct sieve_compiler *compiler = sieve_compiler_open(&settings);
    struct sieve_program program;
    if (compiler == NULL) {
        return OUTCOME_REFUSED;
    }
    enum sieve_compiled compiled = sieve_compile(compiler, slice_text(script));
    if (compiled == SIEVE_COMPILE_NEED) {
        compiled = sieve_compile(
            compiler,
            slice_text("require [\"include\",\"variables\"]; global \"g\"; set \"g\" \"y\";"));
    }
    enum outcome outcome = OUTCOME_REFUSED;
    if (compiled == SIEVE_COMPILE_GOOD) {
        int status = sieve_program_open(&program, sieve_compiled_program(compiler));
        assert_true(status == 0 || status == -ENOMEM);
        outcome = status == 0 ? run_it(&program) : OUTCOME_NO_PROGRAM;
        sieve_program_close(&program);
    } else {
        assert_true(sieve_compile_error(compiler)->text[0] != '\0');
    }
    sieve_compiler_close(compiler);
    return outcome;
}

static void each_allocation_may_fail_and_nothing_is_done_by_half(void **state)
{
    unsigned outcomes[OUTCOME_WHOLE + 1] = {0};
    (void)state;
    for (long n = 0;; n++) {
        until_failure = n;
        enum outcome outcome = compile_and_run();
        bool failed = until_failure < 0;
        until_failure = -1;
        outcomes[outcome]++;
        if (!failed) {
            assert_int_equal(outcome, OUTCOME_WHOLE);
            break;
        }
    }
    assert_true(outcomes[OUTCOME_REFUSED] > 5);
    assert_true(outcomes[OUTCOME_NO_PROGRAM] > 0);
    assert_true(outcomes[OUTCOME_NO_RUN] > 0);
    assert_true(outcomes[OUTCOME_KEPT] > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_allocation_may_fail_and_nothing_is_done_by_half),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
