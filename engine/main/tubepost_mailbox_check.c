/* tubepost mailbox check, rebuild, of a service that runs: it is asked (engine/mailbox/mailbox_control.h), and says how far it is. */
#include "engine/control/words.h"
#include "engine/main/tubepost_mailbox.h"
#include <string.h>
#include <unistd.h>

struct online {
    const struct tool *tool;
    bool rebuilds;
    bool shows; /* how far it is */
    bool drawn; /* that stands on the terminal's line */
    unsigned long long shown;
    int code;
};

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static unsigned long long number_of(const json_t *object, const char *key)
{
    return (unsigned long long)json_integer_value(json_object_get(object, key));
}

/* ---- How far it is ---- */

static void progress_clear(struct online *online)
{
    if (online->drawn) {
        fputs("\r\033[K", stderr);
        online->drawn = false;
    }
}

static void progress_show(struct online *online, const json_t *progress)
{
    unsigned long long done = number_of(progress, "done"), all = number_of(progress, "all");
    if (!online->shows) {
        return;
    }
    progress_clear(online);
    fprintf(stderr, "shard %llu: %s", number_of(progress, "shard"), text_of(progress, "step"));
    if (all > 0) {
        fprintf(stderr, " %llu %%", done * 100 / all);
    }
    fflush(stderr);
    online->drawn = true;
}

/* ---- What is told of a shard ---- */

void check_difference_print(const json_t *line)
{
    const char *user = text_of(line, "user");
    if (user[0] != '\0') {
        mailbox_print(stdout, user);
        putchar(' ');
    }
    printf("%s %s: %s\n", text_of(line, "what"), text_of(line, "key"), text_of(line, "where"));
}

static void code_keep(struct online *online, int code)
{
    online->code = online->code == EX_OK ? code : online->code;
}

static void log_print(const struct online *online, const json_t *line)
{
    if (json_is_true(json_object_get(line, "several")) && !online->tool->as_json) {
        printf("%s: ", text_of(line, "log"));
    }
}

static void trouble_tell(struct online *online, const json_t *line)
{
    const char *code = text_of(line, "code");
    code_keep(online, strcmp(code, "busy") == 0      ? EX_TEMPFAIL
                      : strcmp(code, "damaged") == 0 ? EX_DATAERR
                                                     : EX_SOFTWARE);
    tool_fail(online->code, "%s: %s", text_of(line, "log"), text_of(line, "failed"));
}

static void verdict_print(const struct online *online, const json_t *line)
{
    unsigned long long differences = number_of(line, "differences");
    if (differences > online->shown) {
        log_print(online, line);
        printf("and %llu more\n", differences - online->shown);
    }
    log_print(online, line);
    if (differences == 0) {
        printf("the index is as the log says%s\n", online->rebuilds ? ": it is left as it is" : "");
        return;
    }
    printf("%llu rows of the index are not as the log says\n", differences);
    if (online->rebuilds) {
        log_print(online, line);
        printf(json_is_true(json_object_get(line, "marked"))
                   ? "the next start of tubepost-mailboxd builds the index from the log\n"
                   : "the log is damaged, and the index may know what is lost of it: it is left as "
                     "it is\n");
    }
}

static void shard_tell(struct online *online, const json_t *line)
{
    bool wrong =
        number_of(line, "differences") > 0 && !json_is_true(json_object_get(line, "marked"));
    if (wrong || number_of(line, "damaged_bytes") > 0) {
        code_keep(online, EX_DATAERR);
    }
    if (!online->tool->as_json) {
        printf("%s: %llu users, %llu bytes of log; %llu bytes damaged, %llu bytes were cut by a "
               "crash\n",
               text_of(line, "log"), number_of(line, "users"), number_of(line, "log_bytes"),
               number_of(line, "damaged_bytes"), number_of(line, "torn_bytes"));
        verdict_print(online, line);
    }
    online->shown = 0;
}

static void line_tell(void *owner, const json_t *line)
{
    struct online *online = (struct online *)owner;
    const json_t *progress = json_object_get(line, "progress");
    if (progress != NULL) {
        progress_show(online, progress);
        return;
    }
    progress_clear(online);
    if (online->tool->as_json) {
        tool_print_json(line);
    }
    if (json_object_get(line, "failed") != NULL) {
        trouble_tell(online, line);
    } else if (json_object_get(line, "what") == NULL) {
        shard_tell(online, line);
    } else if (!online->tool->as_json) {
        log_print(online, line);
        check_difference_print(line);
        online->shown++;
    }
}

int check_ask(struct tool *tool, const struct mailbox_options *options, bool rebuilds)
{
    struct online online = {.tool = tool,
                            .rebuilds = rebuilds,
                            .shows = !tool->as_json && isatty(STDERR_FILENO),
                            .code = EX_OK};
    char request[REQUEST_MAX] = "mailbox check";
    size_t used = strlen(request);
    json_t *last = NULL;
    if (rebuilds) {
        used = strlen(strcpy(request, "mailbox rebuild"));
    }
    if (options->user != NULL && control_word_append(request, sizeof request, &used, "user",
                                                     slice_text(options->user)) < 0) {
        return tool_fail(EX_USAGE, "the user's name is too long");
    }
    int code = tool_ask(tool, request, line_tell, &online, &last);
    progress_clear(&online);
    json_decref(last);
    return code != EX_OK ? code : online.code;
}
