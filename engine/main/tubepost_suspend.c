/* tubepost queue suspend, resume, suspensions. */
#include "engine/control/report_queue.h"
#include "engine/main/tubepost_queue.h"
#include <pwd.h>
#include <string.h>
#include <time.h>

static const char *text_of(const json_t *line, const char *key)
{
    const char *text = json_string_value(json_object_get(line, key));
    return text != NULL ? text : "";
}

/* "Nov 27 04:35:00", with the year where it is another one. */
static void moment_print(const char *before, json_int_t wall_s)
{
    char text[64] = "";
    time_t moment = (time_t)wall_s, now = time(NULL);
    struct tm date, today;
    if (localtime_r(&moment, &date) != NULL && localtime_r(&now, &today) != NULL) {
        strftime(text, sizeof text, date.tm_year == today.tm_year ? "%b %e %T" : "%b %e %Y %T",
                 &date);
    }
    printf("%s %s", before, text);
}

static void user_print(json_int_t uid)
{
    const struct passwd *user = uid >= 0 ? getpwuid((uid_t)uid) : NULL;
    if (user != NULL) {
        printf(" by %s", user->pw_name);
    } else if (uid >= 0) {
        printf(" by uid %" JSON_INTEGER_FORMAT, uid);
    }
}

static void reroute_print(const json_t *line)
{
    printf("%-9s %s to %s;", text_of(line, "of"), text_of(line, "name"), text_of(line, "to"));
    moment_print(" since", json_integer_value(json_object_get(line, "since")));
    user_print(json_integer_value(json_object_get(line, "uid")));
    putchar('\n');
}

static void suspension_print(void *owner, const json_t *line)
{
    char span[REPORT_SPAN_BYTES];
    json_int_t seconds = json_integer_value(json_object_get(line, "seconds"));
    if (((struct tool *)owner)->as_json) {
        tool_print_json(line);
        return;
    }
    if (strcmp(text_of(line, "of"), "reroute") == 0) {
        reroute_print(line);
        return;
    }
    printf("%-9s %s for another %s,", text_of(line, "of"), text_of(line, "name"),
           report_span(seconds > 0 ? (uint64_t)seconds : 0, span));
    moment_print(" until", json_integer_value(json_object_get(line, "until")));
    moment_print("; since", json_integer_value(json_object_get(line, "since")));
    user_print(json_integer_value(json_object_get(line, "uid")));
    if (text_of(line, "text")[0] != '\0') {
        printf(" (%s)", text_of(line, "text"));
    }
    putchar('\n');
}

int queue_suspend(struct tool *tool, const char *verb, const struct queue_options *options)
{
    char request[REQUEST_MAX + 32];
    json_t *last = NULL;
    verb = options->list ? "suspensions" : verb;
    snprintf(request, sizeof request, "queue %s%s", verb, options->words);
    int code = tool_ask(tool, request, suspension_print, tool, &last);
    json_t *count = json_object_get(last, "count");
    if (code == EX_OK && count != NULL && !tool->as_json) {
        json_int_t ended = json_integer_value(count);
        printf(strcmp(verb, "suspend") == 0 ? "suspended\n" : "resumed: %" JSON_INTEGER_FORMAT "\n",
               ended);
    }
    json_decref(last);
    return code;
}
