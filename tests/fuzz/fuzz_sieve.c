/*
 * Sieve: the first byte chooses: bytecode of any bytes, a message and a script of any bytes. What can be opened is run:
 * it ends within its budget, and its result is whole.
 */
#include "proto/sieve/compile.h"
#include "proto/sieve/run.h"
#include "proto/sieve/limits.h"
#include "engine/core/check.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define BUDGET 200000u

/* Any field is a piece of the message. */
static bool field(void *self, struct slice name, uint32_t index, enum sieve_field_form form,
                  struct slice *value)
{
    const struct slice *message = self;
    (void)form;
    *value = slice_first(slice_from(*message, (size_t)index * 7 + name.size), 40);
    return index < 3;
}

static bool body(void *self, struct slice *value)
{
    *value = *(const struct slice *)self;
    return true;
}

static bool body_part(void *self, uint32_t index, struct sieve_body_part *part)
{
    part->type = slice_text(index == 0 ? "text/plain" : "application/x");
    part->content = *(const struct slice *)self;
    return index < 2;
}

static bool environment(void *self, struct slice name, struct slice *value)
{
    *value = *(const struct slice *)self;
    return name.size % 2 == 0;
}

static void result_check(const struct sieve_result *result)
{
    uint64_t sum = 0;
    check(result->work <= BUDGET + (uint64_t)SIEVE_WORK_MAX + 1000000);
    check(!result->failed ||
          (result->action_count == 1 && result->edit_count == 0 && result->error.text[0] != '\0'));
    check(result->action_count <= SIEVE_ACTIONS_MAX && result->edit_count <= SIEVE_EDITS_MAX);
    for (uint32_t i = 0; i < result->action_count; i++) {
        const struct sieve_action *action = &result->actions[i];
        check(action->edit_count <= result->edit_count);
        for (size_t n = 0; n < action->text.size; n++) {
            sum += action->text.bytes[n];
        }
        for (size_t n = 0; n < action->flags.size; n++) {
            check(action->flags.bytes[n] >= ' ' && action->flags.bytes[n] <= '~');
        }
        if (action->kind == SIEVE_ACTION_VACATION) {
            check(action->vacation.handle.size > 0 && action->vacation.to.size > 0);
            check(memchr(action->vacation.subject.bytes, '\n', action->vacation.subject.size) ==
                  NULL);
            check(memchr(action->vacation.from.bytes, '\n', action->vacation.from.size) == NULL);
        }
    }
    for (uint32_t i = 0; i < result->edit_count; i++) {
        const struct sieve_edit *edit = &result->edits[i];
        check(edit->name.size > 0 && (edit->kind == SIEVE_EDIT_DELETE ||
                                      memchr(edit->value.bytes, '\n', edit->value.size) == NULL));
    }
    check(sum <= UINT64_MAX / 2);
}

static void program_run(struct slice bytes, struct slice text, uint8_t seed)
{
    struct sieve_program program;
    const struct sieve_message message = {
        .self = &text,
        .size = text.size,
        .header_bytes = text.size,
        .envelope_from = slice_text(seed & 2 ? "sender@example.org" : ""),
        .envelope_to = slice_text("user+detail@example.com"),
        .field = field,
        .body = body,
        .body_part = body_part,
        .environment = environment,
    };
    const struct sieve_settings settings = {.now_s = 1785575100,
                                            .zone_minutes = seed & 4 ? 120 : -600,
                                            .separator = slice_text("+"),
                                            .work_max = BUDGET,
                                            .redirects_max = 3,
                                            .vacation_max_s = 1000};
    if (sieve_program_open(&program, bytes) == 0) {
        struct sieve_run *run = sieve_run_open(&program, &message, &settings);
        check(run != NULL);
        unsigned asked = 0;
        for (enum sieve_want want = sieve_run_go(run); want != SIEVE_WANT_NOTHING; asked++) {
            check(asked <= BUDGET);
            want = sieve_run_answer(run, (seed >> asked % 8 & 1) != 0);
        }
        result_check(sieve_run_result(run));
        sieve_run_close(run);
    }
    sieve_program_close(&program);
}

static void script_run(struct slice script, struct slice text, uint8_t seed)
{
    const struct sieve_compile_settings settings = {.extensions = SIEVE_EXTENSIONS_ALL};
    struct sieve_compiler *compiler = sieve_compiler_open(&settings);
    check(compiler != NULL);
    enum sieve_compiled compiled = sieve_compile(compiler, script);
    for (unsigned i = 0; compiled == SIEVE_COMPILE_NEED; i++) {
        check(i < SIEVE_SCRIPTS_MAX && sieve_script_name_valid(sieve_compile_need(compiler).name));
        compiled = i % 3 == 0 ? sieve_compile(compiler, script) : sieve_compile_absent(compiler);
    }
    if (compiled == SIEVE_COMPILE_WRONG) {
        check(sieve_compile_error(compiler)->text[0] != '\0');
    } else {
        struct sieve_program program;
        struct slice bytes = sieve_compiled_program(compiler);
        check(sieve_program_open(&program, bytes) == 0);
        sieve_program_close(&program);
        program_run(bytes, text, seed);
    }
    sieve_compiler_close(compiler);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct slice rest = slice_of(bytes + 2, size - 2);
    if (bytes[0] & 1) {
        program_run(rest, slice_first(rest, 60), bytes[1]);
    } else {
        script_run(rest, slice_from(rest, rest.size / 2), bytes[1]);
    }
    return 0;
}
