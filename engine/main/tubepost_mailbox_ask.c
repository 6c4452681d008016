/* tubepost mailbox who, kick, stats, quota, undelete: what the control socket answers by itself. */
#include "engine/control/report.h"
#include "engine/control/words.h"
#include "engine/main/tubepost_mailbox.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static long long number_of(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

/* A request in parts. */
struct question {
    char text[REQUEST_MAX];
    size_t used;
    bool too_long;
};

static void question_begin(struct question *question, const char *what)
{
    *question = (struct question){.used = strlen(what)};
    strcpy(question->text, what);
}

static void question_add(struct question *question, const char *key, const char *value)
{
    question->too_long =
        question->too_long || control_word_append(question->text, sizeof question->text,
                                                  &question->used, key, slice_text(value)) < 0;
}

/* Page by page, if it has any. */
static int question_ask(struct tool *tool, const struct question *question,
                        void (*line)(void *owner, const json_t *line), void *owner)
{
    char cursor[32] = "";
    int code = question->too_long ? tool_fail(EX_USAGE, "a word is too long") : EX_OK;
    for (bool more = true; more && code == EX_OK;) {
        struct question page = *question;
        json_t *last = NULL;
        if (cursor[0] != '\0') {
            question_add(&page, "cursor", cursor);
        }
        code = tool_ask(tool, page.text, line, owner, &last);
        more = json_object_get(last, "next") != NULL;
        snprintf(cursor, sizeof cursor, "%lld", number_of(last, "next"));
        json_decref(last);
    }
    return code;
}

static void line_print(void *owner, const json_t *line)
{
    (void)owner;
    tool_print_json(line);
}

static void line_keep(void *owner, const json_t *line)
{
    json_array_append((json_t *)owner, (json_t *)(uintptr_t)line);
}

/* [USER] [ADDRESS]: which sessions. */
static void sessions_meant(struct question *question, const struct mailbox_options *options)
{
    int at = 0;
    /* A lone address is none of a user. */
    if (options->count > at &&
        strspn(options->words[at], "0123456789./") != strlen(options->words[at]) &&
        strchr(options->words[at], ':') == NULL) {
        question_add(question, "user", options->words[at++]);
    }
    if (options->count > at) {
        question_add(question, "network", options->words[at]);
    }
}

/* ---- who ---- */

static int by_user(const void *left, const void *right)
{
    static const char *const keys[] = {"user", "protocol", "address"};
    int order = 0;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && order == 0; i++) {
        order = strcmp(text_of(*(json_t *const *)left, keys[i]),
                       text_of(*(json_t *const *)right, keys[i]));
    }
    return order;
}

static void session_print(const json_t *session)
{
    printf("%-20s %-6s %6lld  %-20s %s%s%llds\n", text_of(session, "user"),
           text_of(session, "protocol"), number_of(session, "session"), text_of(session, "address"),
           json_is_true(json_object_get(session, "tls")) ? "TLS " : "",
           json_is_true(json_object_get(session, "operator")) ? "operator " : "",
           number_of(session, "age_s"));
}

static bool is_same(const json_t *a, const json_t *b, const char *key)
{
    return strcmp(text_of(a, key), text_of(b, key)) == 0;
}

/* "alice  2 imap  (192.0.2.1 192.0.2.7)" */
static size_t group_print(json_t *const *sessions, size_t count)
{
    size_t same = 1;
    while (same < count && is_same(sessions[0], sessions[same], "user") &&
           is_same(sessions[0], sessions[same], "protocol")) {
        same++;
    }
    printf("%-20s %4zu %-6s (", text_of(sessions[0], "user"), same,
           text_of(sessions[0], "protocol"));
    for (size_t i = 0; i < same; i++) {
        if (i == 0 || !is_same(sessions[i - 1], sessions[i], "address")) {
            printf("%s%s", i == 0 ? "" : " ", text_of(sessions[i], "address"));
        }
    }
    printf(")\n");
    return same;
}

static int sessions_print(const json_t *kept, bool each)
{
    size_t count = json_array_size(kept);
    json_t **sessions = (json_t **)calloc(count + 1, sizeof(*sessions));
    if (sessions == NULL) {
        return tool_fail(EX_OSERR, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        sessions[i] = json_array_get(kept, i);
    }
    qsort(sessions, count, sizeof(*sessions), by_user);
    if (each) {
        printf("%-20s %-6s %6s  %-20s %s\n", "username", "proto", "number", "address", "age");
    } else {
        printf("%-20s %4s %-6s (%s)\n", "username", "#", "proto", "addresses");
    }
    for (size_t i = 0; i < count;) {
        if (each) {
            session_print(sessions[i++]);
        } else {
            i += group_print(sessions + i, count - i);
        }
    }
    free(sessions);
    return EX_OK;
}

/* Who has logged in; the others only with -1 and in JSON. */
static void session_keep(void *owner, const json_t *line)
{
    if (json_object_get(line, "user") != NULL) {
        line_keep(owner, line);
    }
}

int mailbox_who(struct tool *tool, const struct mailbox_options *options)
{
    struct question question;
    question_begin(&question, "mailbox who");
    sessions_meant(&question, options);
    if (tool->as_json) {
        return question_ask(tool, &question, line_print, NULL);
    }
    json_t *kept = json_array();
    int code = question_ask(tool, &question, options->each ? line_keep : session_keep, kept);
    code = code == EX_OK ? sessions_print(kept, options->each) : code;
    json_decref(kept);
    return code;
}

/* ---- kick, quota ---- */

int mailbox_kick(struct tool *tool, const struct mailbox_options *options)
{
    struct question question;
    json_t *answer = NULL;
    question_begin(&question, "mailbox kick");
    sessions_meant(&question, options);
    if (options->session != NULL) {
        question_add(&question, "session", options->session);
    }
    int code = question_ask(tool, &question, tool_keep_line, &answer);
    if (code == EX_OK && tool->as_json) {
        tool_print_json(answer);
    } else if (code == EX_OK) {
        long long kicked = number_of(answer, "kicked");
        printf("%lld session%s kicked\n", kicked, kicked == 1 ? "" : "s");
    }
    json_decref(answer);
    return code;
}

static void quota_line(const struct mailbox_options *options, const char *type, long long value,
                       long long limit)
{
    char text[24] = "-", share[24] = "-";
    if (limit > 0) {
        snprintf(text, sizeof text, "%lld", limit);
        snprintf(share, sizeof share, "%lld", value * 100 / limit);
    }
    if (options->several) {
        printf("%-20s ", options->user);
    }
    printf("%-10s %14lld %14s %4s\n", type, value, text, share);
}

int mailbox_quota(struct tool *tool, const struct mailbox_options *options)
{
    struct question question;
    json_t *answer = NULL;
    question_begin(&question, "mailbox quota");
    question_add(&question, "user", options->user);
    int code = question_ask(tool, &question, tool_keep_line, &answer);
    if (code == EX_OK && tool->as_json) {
        user_print_json(options, json_incref(answer));
    } else if (code == EX_OK) {
        if (options->several && options->first) {
            printf("%-20s ", "username");
        }
        if (!options->several || options->first) {
            printf("%-10s %14s %14s %4s\n", "type", "value", "limit", "%");
        }
        quota_line(options, "STORAGE", (number_of(answer, "bytes") + 1023) / 1024,
                   number_of(answer, "bytes_max") / 1024);
        quota_line(options, "MESSAGE", number_of(answer, "messages"),
                   number_of(answer, "messages_max"));
        quota_line(options, "MAILBOX", number_of(answer, "mailboxes"), 0);
    }
    json_decref(answer);
    return code;
}

/* ---- stats ---- */

int mailbox_stats(struct tool *tool, const struct mailbox_options *options)
{
    tool->as_metrics = options->metrics;
    return tool_status(tool, options->count > 0 ? options->words[0] : "1");
}

/* ---- undelete ---- */

static const char *moment(long long seconds, char text[32])
{
    time_t when = (time_t)seconds;
    struct tm parts;
    if (gmtime_r(&when, &parts) == NULL || strftime(text, 32, "%Y-%m-%d %H:%M:%S", &parts) == 0) {
        strcpy(text, "-");
    }
    return text;
}

static void kept_print(void *owner, const json_t *line)
{
    const struct mailbox_options *options = (const struct mailbox_options *)owner;
    char expunged[32], date[32];
    size_t index;
    json_t *flag;
    if (options->several) {
        printf("%-20s ", options->user);
    }
    printf("%10lld  %s  %s  %10lld ", number_of(line, "uid"),
           moment(number_of(line, "expunged"), expunged), moment(number_of(line, "date"), date),
           number_of(line, "bytes"));
    json_array_foreach(json_object_get(line, "flags"), index, flag)
    {
        printf(" %s", json_string_value(flag));
    }
    printf("\n");
}

static void kept_print_json(void *owner, const json_t *line)
{
    user_print_json((const struct mailbox_options *)owner, json_incref((json_t *)(uintptr_t)line));
}

static int kept_list(struct tool *tool, const struct mailbox_options *options,
                     const struct question *question)
{
    if (options->uids != NULL || options->since_s != 0) {
        return tool_fail(EX_USAGE, "undelete: --list is of all that is kept");
    }
    if (!tool->as_json && options->several && options->first) {
        printf("%-20s ", "username");
    }
    if (!tool->as_json && (!options->several || options->first)) {
        printf("%10s  %-19s  %-19s  %10s  %s\n", "uid", "expunged (UTC)", "date (UTC)", "bytes",
               "flags");
    }
    return question_ask(tool, question, tool->as_json ? kept_print_json : kept_print,
                        (void *)(uintptr_t)options);
}

int mailbox_undelete(struct tool *tool, const struct mailbox_options *options)
{
    struct question question;
    char since[24];
    json_t *answer = NULL;
    question_begin(&question, options->list ? "mailbox kept" : "mailbox undelete");
    question_add(&question, "user", options->user);
    question_add(&question, "mailbox", options->words[0]);
    if (options->list) {
        return kept_list(tool, options, &question);
    }
    if (options->uids != NULL) {
        question_add(&question, "uids", options->uids);
    }
    if (options->since_s != 0) {
        snprintf(since, sizeof since, "%" PRIu64, options->since_s);
        question_add(&question, "since", since);
    }
    int code = question_ask(tool, &question, tool_keep_line, &answer);
    if (code == EX_OK && tool->as_json) {
        user_print_json(options, json_incref(answer));
    } else if (code == EX_OK) {
        long long restored = number_of(answer, "restored");
        user_print(options);
        printf("%lld message%s restored\n", restored, restored == 1 ? "" : "s");
    }
    json_decref(answer);
    return code;
}
