#include "proto/sieve/run_private.h"
#include "engine/core/check.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static bool frame_enter(struct sieve_run *run, uint32_t script)
{
    struct sieve_frame *frame = &run->frames[run->depth++];
    *frame = (struct sieve_frame){.script = script};
    arena_open(&frame->arena, SIEVE_RUN_BYTES_MAX);
    arena_open(&frame->captured, SIEVE_MATCH_BYTES_MAX * 2);
    run->included |= 1ull << script;
    frame->locals = arena_take_array(&frame->arena, run->program->scripts[script].locals,
                                     sizeof(*frame->locals));
    return frame->locals != NULL || sieve_fail_memory(run);
}

static void frame_leave(struct sieve_run *run)
{
    struct sieve_frame *frame = sieve_frame(run);
    arena_close(&frame->arena);
    arena_close(&frame->captured);
    run->depth--;
}

struct sieve_run *sieve_run_open(const struct sieve_program *program,
                                 const struct sieve_message *message,
                                 const struct sieve_settings *settings)
{
    struct sieve_run *run = calloc(1, sizeof(*run));
    if (run == NULL) {
        return NULL;
    }
    run->program = program;
    run->message = message;
    run->settings = settings;
    run->implicit_keep = true;
    run->work_max = settings->work_max == 0 || settings->work_max > SIEVE_WORK_MAX
                        ? SIEVE_WORK_MAX
                        : settings->work_max;
    arena_open(&run->scratch, SIEVE_RUN_BYTES_MAX);
    arena_open(&run->arena, SIEVE_RUN_BYTES_MAX);
    frame_enter(run, 0);
    return run;
}

void sieve_run_close(struct sieve_run *run)
{
    if (run == NULL) {
        return;
    }
    while (run->depth > 0) {
        frame_leave(run);
    }
    arena_close(&run->scratch);
    arena_close(&run->arena);
    free(run);
}

bool sieve_fail(struct sieve_run *run, const char *format, ...)
{
    char text[SIEVE_ERROR_BYTES];
    va_list arguments;
    if (run->result.failed) {
        return false; /* the first says most */
    }
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    sieve_error_set(&run->result.error, run->instruction.line, 0, "%s", text);
    run->result.error.script = run->depth > 0 ? sieve_frame(run)->script : 0;
    run->result.failed = true;
    run->ended = true;
    return false;
}

bool sieve_fail_memory(struct sieve_run *run)
{
    return sieve_fail(run, "the script takes too much memory");
}

/* ---- Scripts in scripts (RFC 6609) ---- */

static bool include_run(struct sieve_run *run)
{
    uint32_t script = run->instruction.script, flags = run->instruction.flags;
    const struct sieve_program_script *included = &run->program->scripts[script];
    if (!included->present) {
        return (flags & SIEVE_INCLUDE_OPTIONAL) ||
               sieve_fail(run, "include: there is no script \"%.*s\"",
                          (int)(included->name.size < 80 ? included->name.size : 80),
                          (const char *)included->name.bytes);
    }
    if ((flags & SIEVE_INCLUDE_ONCE) && (run->included >> script & 1)) {
        return true;
    }
    for (unsigned i = 0; i < run->depth; i++) {
        if (run->frames[i].script == script) {
            return sieve_fail(run, "include: the script would include itself");
        }
    }
    if (run->depth > SIEVE_INCLUDE_DEPTH_MAX) {
        return sieve_fail(run, "include: scripts are nested too deep");
    }
    return frame_enter(run, script);
}

static void return_run(struct sieve_run *run)
{
    if (run->depth == 1) {
        run->ended = true;
    } else {
        frame_leave(run);
    }
}

/* ---- The machine ---- */

static bool fail_run(struct sieve_run *run)
{
    struct slice text;
    return sieve_operand(run, 0, &text) &&
           sieve_fail(run, "%.*s",
                      (int)(text.size < SIEVE_ERROR_BYTES ? text.size : SIEVE_ERROR_BYTES),
                      text.size > 0 ? (const char *)text.bytes : "");
}

static void jump_run(struct sieve_run *run, bool taken)
{
    if (taken) {
        sieve_frame(run)->at = run->instruction.target;
    }
}

/* False: the script has failed. */
static bool instruction_run(struct sieve_run *run)
{
    switch (run->instruction.operation) {
    case SIEVE_OP_STOP:
        run->ended = true;
        return true;
    case SIEVE_OP_RETURN:
        return_run(run);
        return true;
    case SIEVE_OP_JUMP:
        jump_run(run, true);
        return true;
    case SIEVE_OP_JUMP_FALSE:
        jump_run(run, !run->test);
        return true;
    case SIEVE_OP_JUMP_TRUE:
        jump_run(run, run->test);
        return true;
    case SIEVE_OP_FAIL:
        return fail_run(run);
    case SIEVE_OP_INCLUDE:
        return include_run(run);
    case SIEVE_OP_KEEP:
        return sieve_keep_run(run);
    case SIEVE_OP_DISCARD:
        run->implicit_keep = false;
        return true;
    case SIEVE_OP_FILEINTO:
        return sieve_fileinto_run(run);
    case SIEVE_OP_REDIRECT:
        return sieve_redirect_run(run);
    case SIEVE_OP_REJECT:
        return sieve_reject_run(run);
    case SIEVE_OP_VACATION:
        return sieve_vacation_run(run);
    case SIEVE_OP_SETFLAG:
    case SIEVE_OP_ADDFLAG:
    case SIEVE_OP_REMOVEFLAG:
        return sieve_setflag_run(run);
    case SIEVE_OP_SET:
        return sieve_set_run(run);
    case SIEVE_OP_ADDHEADER:
        return sieve_addheader_run(run);
    case SIEVE_OP_DELETEHEADER:
        return sieve_deleteheader_run(run);
    case SIEVE_OP_NOT:
    case SIEVE_OP_TRUE:
    case SIEVE_OP_FALSE:
    case SIEVE_OP_ADDRESS:
    case SIEVE_OP_ENVELOPE:
    case SIEVE_OP_EXISTS:
    case SIEVE_OP_HEADER:
    case SIEVE_OP_SIZE:
    case SIEVE_OP_STRING:
    case SIEVE_OP_HASFLAG:
    case SIEVE_OP_DATE:
    case SIEVE_OP_CURRENTDATE:
    case SIEVE_OP_BODY:
    case SIEVE_OP_ENVIRONMENT:
    case SIEVE_OP_MAILBOXEXISTS:
    case SIEVE_OP_DUPLICATE:
        return sieve_test_run(run);
    case SIEVE_OP_COUNT:
        break;
    }
    return sieve_fail(run, "the program is damaged");
}

static void result_make(struct sieve_run *run)
{
    struct slice flags = slice_of(NULL, 0);
    if (!run->result.failed && run->implicit_keep) {
        struct sieve_list none = {.present = false};
        struct sieve_action *keep;
        if (sieve_action_flags(run, none, &flags) &&
            (keep = sieve_action_add(run, SIEVE_ACTION_KEEP)) != NULL) {
            keep->flags = flags;
        }
    }
    if (run->result.failed) {
        run->actions[0] = (struct sieve_action){.kind = SIEVE_ACTION_KEEP};
        run->result.action_count = 1;
        run->result.edit_count = run->result.seen_count = 0;
    }
    run->result.actions = run->actions;
    run->result.edits = run->edits;
    run->result.seen = run->seen;
    run->result.work = run->work;
}

enum sieve_want sieve_run_go(struct sieve_run *run)
{
    bool before = run->ended && run->result.actions != NULL;
    while (!run->ended) {
        struct sieve_frame *frame = sieve_frame(run);
        struct sieve_bounds bounds = sieve_program_bounds(run->program, frame->script);
        size_t at = frame->at;
        if (!sieve_instruction_read(run->program->scripts[frame->script].code, &frame->at, &bounds,
                                    &run->instruction)) {
            sieve_fail(run, "the program is damaged");
            break;
        }
        run->work++;
        run->asked.want = SIEVE_WANT_NOTHING;
        bool good = instruction_run(run);
        if (good && run->asked.want != SIEVE_WANT_NOTHING) {
            frame->at = at; /* and again, with the answer */
            return run->asked.want;
        }
        if (good && run->work > run->work_max) {
            sieve_fail(run, "the script takes too much time");
        }
        run->asked_index = 0;
        arena_reset(&run->scratch);
    }
    if (!before) {
        result_make(run);
    }
    return SIEVE_WANT_NOTHING;
}

enum sieve_want sieve_run_answer(struct sieve_run *run, bool yes)
{
    check(run->asked.want != SIEVE_WANT_NOTHING);
    run->answered = true;
    arena_reset(&run->scratch);
    run->answer = yes;
    return sieve_run_go(run);
}

const struct sieve_asked *sieve_run_asked(const struct sieve_run *run)
{
    return &run->asked;
}

const struct sieve_result *sieve_run_result(const struct sieve_run *run)
{
    check(run->ended);
    return &run->result;
}
