/* tubepost net: our own stack, as ss, ip and nstat tell of the kernel's; and captures of it. */
#include "engine/control/report_net.h"
#include "engine/main/tubepost.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CAPTURE_SECONDS_DEFAULT 60 /* as the relay has it */

static const struct net_command {
    const char *name, *request;
    void (*report)(struct net_report *report, const json_t *line);
    bool in_pages;
} net_commands[] = {
    {"connections", "net connections", net_report_connection, true},
    {"neighbors", "net neighbors", net_report_neighbor, true},
    {"routes", "net routes", net_report_route, true},
    {"trace", "net trace", net_report_trace, true},
    {"counters", "net counters", net_report_counters, false},
};

struct net_listing {
    struct tool *tool;
    const struct net_command *command;
    struct net_report report;
};

static void print_net(void *owner, const json_t *line)
{
    struct net_listing *listing = (struct net_listing *)owner;
    if (listing->tool->as_json) {
        tool_print_json(line);
    } else {
        listing->command->report(&listing->report, line);
    }
}

static int show(struct tool *tool, char *const *words, int count)
{
    struct net_listing listing = {.tool = tool, .report = {.out = stdout}};
    char narrowed[REQUEST_MAX / 2] = "";
    size_t used = 0;
    for (size_t i = 0; i < sizeof net_commands / sizeof net_commands[0]; i++) {
        if (count > 0 && strcmp(words[0], net_commands[i].name) == 0) {
            listing.command = &net_commands[i];
        }
    }
    if (listing.command == NULL) {
        return tool_usage(EX_USAGE);
    }
    for (int i = 1; i < count; i++) {
        size_t room = sizeof narrowed - used;
        int length = snprintf(narrowed + used, room, " %s", words[i]);
        if (length >= (int)room) {
            return tool_fail(EX_USAGE, "net: these are too many words");
        }
        used += (size_t)length;
    }
    if (listing.command->in_pages) {
        return tool_ask_pages(tool, listing.command->request, narrowed, print_net, &listing);
    }
    listing.report.zeros = strcmp(narrowed, " all") == 0;
    if (count > 1 && !listing.report.zeros) {
        return tool_fail(EX_USAGE, "net counters: '%s' is not known, expected all", words[1]);
    }
    json_t *last = NULL;
    int code = tool_ask(tool, listing.command->request, print_net, &listing, &last);
    json_decref(last);
    return code;
}

/* What is to be captured. */
struct capture {
    const char *file, *connection, *port;
    unsigned long count, seconds, snap;
};

/* Where the relay shall write: it has another working directory. */
static int absolute_path(const char *file, char path[PATH_MAX])
{
    char folder[PATH_MAX] = "";
    if (file[0] != '/' && getcwd(folder, sizeof folder) == NULL) {
        return -errno;
    }
    int length = snprintf(path, PATH_MAX, "%s%s%s", folder, file[0] != '/' ? "/" : "", file);
    return length >= PATH_MAX || strpbrk(path, " \r\n") != NULL ? -EINVAL : 0;
}

static int capture(struct tool *tool, const struct capture *capture)
{
    char path[PATH_MAX], request[PATH_MAX + REQUEST_MAX];
    if (capture->file == NULL || absolute_path(capture->file, path) < 0) {
        return tool_fail(EX_USAGE, "net capture: expected -w FILE, a path without blanks");
    }
    size_t used = (size_t)snprintf(request, sizeof request, "net capture file %s", path);
    const struct {
        const char *word;
        unsigned long number;
    } bounds[] = {
        {"count", capture->count}, {"seconds", capture->seconds}, {"snap", capture->snap}};
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        if (bounds[i].number > 0) {
            used += (size_t)snprintf(request + used, sizeof request - used, " %s %lu",
                                     bounds[i].word, bounds[i].number);
        }
    }
    if (capture->port != NULL) {
        if (strlen(capture->port) > REQUEST_MAX / 4 || strpbrk(capture->port, " \r\n") != NULL) {
            return tool_fail(EX_USAGE, "net capture: '%s' is no port's name", capture->port);
        }
        used += (size_t)snprintf(request + used, sizeof request - used, " port %s", capture->port);
    }
    if (capture->connection != NULL) {
        const char *hyphen = strchr(capture->connection, '-');
        if (hyphen == NULL || strlen(capture->connection) > REQUEST_MAX / 2) {
            return tool_fail(EX_USAGE, "net capture: '%s' is no connection, expected A:port-B:port",
                             capture->connection);
        }
        snprintf(request + used, sizeof request - used, " between %.*s %s",
                 (int)(hyphen - capture->connection), capture->connection, hyphen + 1);
    }
    json_t *last = NULL;
    tool->patience_s = capture->seconds > 0 ? (long)capture->seconds : CAPTURE_SECONDS_DEFAULT;
    int code = tool_ask(tool, request, tool_ignore_line, NULL, &last);
    const json_t *captured = json_object_get(last, "capture");
    if (code == EX_OK && tool->as_json) {
        tool_print_json(captured);
    } else if (code == EX_OK) {
        printf("%" JSON_INTEGER_FORMAT " frames in %s, %" JSON_INTEGER_FORMAT " lost\n",
               json_integer_value(json_object_get(captured, "frames")), path,
               json_integer_value(json_object_get(captured, "lost")));
    }
    json_decref(last);
    return code;
}

/* An option that takes a number. */
static bool is_bound(struct capture *capture, int option)
{
    unsigned long *bound = option == 'C'   ? &capture->count
                           : option == 'S' ? &capture->seconds
                           : option == 'B' ? &capture->snap
                                           : NULL;
    char *end = NULL;
    if (bound == NULL) {
        return false;
    }
    *bound = strtoul(optarg, &end, 10);
    return *bound > 0 && *end == '\0';
}

int tubepost_net(struct tool *tool, int count, char **words)
{
    static const struct option options[] = {
        TOOL_OPTIONS,
        {"count", required_argument, NULL, 'C'},
        {"seconds", required_argument, NULL, 'S'},
        {"snap", required_argument, NULL, 'B'},
        {"connection", required_argument, NULL, 'N'},
        {"port", required_argument, NULL, 'P'},
        {NULL, 0, NULL, 0},
    };
    struct capture wanted = {0};
    optind = 0;
    for (int option;
         (option = getopt_long(count, words, TOOL_LETTERS "w:", options, NULL)) != -1;) {
        if (option == 'w') {
            wanted.file = optarg;
        } else if (option == 'N') {
            wanted.connection = optarg;
        } else if (option == 'P') {
            wanted.port = optarg;
        } else if (!is_bound(&wanted, option)) {
            int code = tool_option(tool, option);
            if (code != TOOL_TAKEN) {
                return code;
            }
        }
    }
    words += optind;
    count -= optind;
    return count == 1 && strcmp(words[0], "capture") == 0 ? capture(tool, &wanted)
                                                          : show(tool, words, count);
}
