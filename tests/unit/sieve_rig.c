#include "tests/unit/sieve_rig.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

unsigned sieve_looks;
static char outcome[16384];
static size_t used;

static const char usual_message[] = "From: Sender <sender@example.org>\nTo: user@example.com\n"
                                    "Subject: Test message\nMessage-ID: <1@example.org>\n\nHello\n";

static void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    used += (size_t)vsnprintf(outcome + used, sizeof(outcome) - used, format, arguments);
    va_end(arguments);
    used = used >= sizeof(outcome) ? sizeof(outcome) - 1 : used;
}

static void say_slice(const char *before, struct slice text, const char *after)
{
    say("%s%.*s%s", before, (int)text.size, text.size > 0 ? (const char *)text.bytes : "", after);
}

/* ---- The message ---- */

static const char *message_text(const struct sieve_scene *scene)
{
    return scene->message != NULL ? scene->message : usual_message;
}

static size_t header_bytes(const struct sieve_scene *scene)
{
    const char *text = message_text(scene), *blank = strstr(text, "\n\n");
    return blank != NULL ? (size_t)(blank - text) : strlen(text);
}

static bool field(void *self, struct slice name, uint32_t index, enum sieve_field_form form,
                  struct slice *value)
{
    const struct sieve_scene *scene = self;
    (void)form;
    sieve_looks++;
    for (const char *at = message_text(scene); *at != '\n' && *at != '\0';) {
        const char *end = strchr(at, '\n');
        while (end != NULL && (end[1] == ' ' || end[1] == '\t')) {
            end = strchr(end + 1, '\n');
        }
        end = end != NULL ? end : at + strlen(at);
        const char *colon = memchr(at, ':', (size_t)(end - at));
        if (colon != NULL && slice_equal_nocase(slice_of(at, (size_t)(colon - at)), name) &&
            index-- == 0) {
            *value = slice_of(colon + 1, (size_t)(end - colon - 1));
            return true;
        }
        at = *end != '\0' ? end + 1 : end;
    }
    return false;
}

static bool body(void *self, struct slice *value)
{
    const char *blank = strstr(message_text(self), "\n\n");
    *value = slice_text(blank != NULL ? blank + 2 : "");
    return true;
}

/* The body as text/plain, and behind it one part of HTML. */
static bool body_part(void *self, uint32_t index, struct sieve_body_part *part)
{
    part->type = slice_text(index == 0 ? "" : "text/html");
    part->content = slice_text("<p>web</p>");
    return index == 0 ? body(self, &part->content) : index == 1;
}

static bool environment(void *self, struct slice name, struct slice *value)
{
    (void)self;
    *value = slice_text("MDA");
    return slice_equal(name, slice_text("location"));
}

/* ---- What came of it ---- */

static void say_action(const struct sieve_action *action)
{
    const struct sieve_vacation *vacation = &action->vacation;
    static const char *const names[] = {"keep",    "fileinto ", "redirect ",
                                        "reject ", "ereject ",  "vacation "};
    say_slice(names[action->kind], action->text, "");
    if (action->flags.size > 0) {
        say_slice(" [", action->flags, "]");
    }
    say("%s", action->create ? " create" : "");
    if (action->kind == SIEVE_ACTION_VACATION) {
        say_slice(" to=", vacation->to, "");
        say_slice(" from=", vacation->from, "");
        say_slice(" subject=", vacation->subject, "");
        say(" seconds=%u%s", vacation->seconds, vacation->mime ? " mime" : "");
        if (vacation->handle.bytes[0] != '=') {
            say_slice(" handle=", vacation->handle, "");
        }
    }
}

static void say_result(const struct sieve_result *result)
{
    for (uint32_t i = 0; i < result->edit_count; i++) {
        const struct sieve_edit *edit = &result->edits[i];
        say_slice(edit->kind == SIEVE_EDIT_DELETE ? "-"
                  : edit->last                    ? "+last "
                                                  : "+",
                  edit->name, "");
        if (edit->kind == SIEVE_EDIT_ADD) {
            say_slice(": ", edit->value, "; ");
        } else {
            say(" %u; ", edit->index);
        }
    }
    if (result->failed) {
        say("failed %u %s; ", result->error.line, result->error.text);
    }
    for (uint32_t i = 0; i < result->action_count; i++) {
        say("%s", i > 0 ? "; " : "");
        say_action(&result->actions[i]);
    }
    if (result->action_count == 0) {
        say("discard");
    }
    static const char *const reasons[] = {"", "sender", "self", "list", "automatic", "recipient"};
    if (result->no_answer != SIEVE_ANSWERED) {
        say("; no answer: %s", reasons[result->no_answer]);
    }
    for (uint32_t i = 0; i < result->seen_count; i++) {
        say_slice("; seen ", result->seen[i].name, "");
        say_slice(" ", result->seen[i].handle, "");
        say(" %u", result->seen[i].seconds);
    }
}

const char *sieve_play_program(const struct sieve_scene *scene, struct slice bytes)
{
    struct sieve_program program;
    const struct slice addresses[] = {slice_text("alias@example.com")};
    const struct sieve_message message = {
        .self = (void *)(uintptr_t)scene,
        .size = strlen(message_text(scene)),
        .header_bytes = header_bytes(scene),
        .envelope_from = slice_text(scene->from != NULL ? scene->from : "sender@example.org"),
        .envelope_to = slice_text(scene->to != NULL ? scene->to : "user@example.com"),
        .field = field,
        .body = body,
        .body_part = body_part,
        .environment = environment,
    };
    const struct sieve_settings settings = {
        .now_s = 1785575100, /* Sat, 01 Aug 2026 09:05:00 +0000 */
        .zone_minutes = 120,
        .separator = slice_text("+"),
        .work_max = scene->work_max,
        .redirects_max = 4,
        .addresses = addresses,
        .address_count = 1,
        .vacation_default_s = 7 * 86400,
        .vacation_min_s = scene->vacation_min_s,
        .vacation_max_s = 30 * 86400,
        .duplicate_default_s = 604800,
        .duplicate_max_s = 1000000,
    };
    used = 0;
    int status = sieve_program_open(&program, bytes);
    if (status != 0) {
        say("no program: %d", status);
        sieve_program_close(&program);
        return outcome;
    }
    struct sieve_run *run = sieve_run_open(&program, &message, &settings);
    enum sieve_want want = sieve_run_go(run);
    while (want != SIEVE_WANT_NOTHING) {
        char name[300];
        struct slice asked = sieve_run_asked(run)->name;
        snprintf(name, sizeof(name), ",%.*s,", (int)asked.size, (const char *)asked.bytes);
        want = sieve_run_answer(run, scene->yes != NULL && strstr(scene->yes, name) != NULL);
    }
    say_result(sieve_run_result(run));
    sieve_run_close(run);
    sieve_program_close(&program);
    return outcome;
}

const char *sieve_play(const struct sieve_scene *scene)
{
    const struct sieve_compile_settings settings = {.extensions = SIEVE_EXTENSIONS_ALL};
    struct sieve_compiler *compiler = sieve_compiler_open(&settings);
    enum sieve_compiled compiled = sieve_compile(compiler, slice_text(scene->script));
    while (compiled == SIEVE_COMPILE_NEED) {
        struct sieve_need need = sieve_compile_need(compiler);
        unsigned i = 0;
        while (i < 6 && scene->includes[i] != NULL &&
               !(need.location == SIEVE_PERSONAL &&
                 slice_equal(need.name, slice_text(scene->includes[i])))) {
            i += 2;
        }
        compiled = i < 6 && scene->includes[i] != NULL
                       ? sieve_compile(compiler, slice_text(scene->includes[i + 1]))
                       : sieve_compile_absent(compiler);
    }
    used = 0;
    if (compiled == SIEVE_COMPILE_WRONG) {
        const struct sieve_error *error = sieve_compile_error(compiler);
        say("error %u:%u %s", error->line, error->column, error->text);
    } else {
        sieve_play_program(scene, sieve_compiled_program(compiler));
    }
    sieve_compiler_close(compiler);
    return outcome;
}
