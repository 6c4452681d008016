/* tubepost queue: the messages that wait. */
#include "engine/control/report.h"
#include "engine/main/tubepost.h"
#include <string.h>

struct listing {
    struct tool *tool;
    struct queue_report report;
};

static void print_queued(void *owner, const json_t *line)
{
    struct listing *listing = (struct listing *)owner;
    if (listing->tool->as_json) {
        tool_print_json(line);
    } else {
        queue_report_message(&listing->report, line);
    }
}

static void print_message(void *owner, const json_t *line)
{
    if (((struct tool *)owner)->as_json) {
        tool_print_json(line);
    } else {
        message_report(stdout, line);
    }
}

static int queue_list(struct tool *tool)
{
    struct listing listing = {.tool = tool, .report = {.out = stdout}};
    int code = tool_ask_pages(tool, "queue list", "", print_queued, &listing);
    if (code == EX_OK && !tool->as_json) {
        queue_report_end(&listing.report);
    }
    return code;
}

static int queue_show(struct tool *tool, const char *id)
{
    char request[256];
    json_t *last = NULL;
    snprintf(request, sizeof request, "queue show %.200s", id);
    int code = tool_ask(tool, request, print_message, tool, &last);
    json_decref(last);
    return code;
}

/* Flush and delete: what was done is in the last line. */
static int queue_change(struct tool *tool, const char *verb, const char *id, const char *done)
{
    char request[256];
    json_t *last = NULL;
    snprintf(request, sizeof request, "queue %s %.200s", verb, id);
    int code = tool_ask(tool, request, tool_ignore_line, NULL, &last);
    if (code == EX_OK && tool->as_json) {
        tool_print_json(last);
    } else if (code == EX_OK) {
        json_t *count = json_object_get(last, "count");
        if (count != NULL) {
            printf("%" JSON_INTEGER_FORMAT " messages %s\n", json_integer_value(count), done);
        } else {
            printf("%s %s\n", id, done);
        }
    }
    json_decref(last);
    return code;
}

static int queue_delete(struct tool *tool, char *const *ids, int count)
{
    int code = EX_OK;
    for (int i = 0; i < count; i++) {
        int one = queue_change(tool, "delete", ids[i], "deleted");
        code = one != EX_OK ? one : code;
    }
    return code;
}

int tubepost_queue(struct tool *tool, int count, char **words)
{
    int taken = tool_options(tool, count, words);
    if (taken != TOOL_TAKEN) {
        return taken;
    }
    words += optind;
    count -= optind;
    const char *verb = count > 0 ? words[0] : "";
    if (strcmp(verb, "list") == 0 && count == 1) {
        return queue_list(tool);
    }
    if (strcmp(verb, "show") == 0 && count == 2) {
        return queue_show(tool, words[1]);
    }
    if (strcmp(verb, "flush") == 0 && count <= 2) {
        return queue_change(tool, "flush", count == 2 ? words[1] : "", "are tried now");
    }
    if (strcmp(verb, "delete") == 0 && count >= 2) {
        return queue_delete(tool, words + 1, count - 1);
    }
    return tool_usage(EX_USAGE);
}
