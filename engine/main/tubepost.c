/*
 * tubepost: the operator's tool. Asks a running tubepostd over its control socket and prints what
 * it says.
 *
 * Exit codes are those of sysexits.h: 0; 64 wrong usage; 65 no such message; 69 tubepostd cannot be
 * reached; 70 it failed; 75 try again; 76 it answered nonsense; 78 the configuration is wrong.
 */
#include "engine/conf/conf.h"
#include "engine/control/report.h"
#include "engine/control/report_net.h"
#include "engine/relay/relay_tls.h"
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#define PAGE 500 /* messages asked for at once */
#define ANSWER_TIMEOUT_S 30
#define CAPTURE_SECONDS_DEFAULT 60 /* as the relay has it */
#define REQUEST_MAX 1024

static const char usage[] =
    "Usage: tubepost [-c FILE] [-s SOCKET] [--json] COMMAND\n"
    "  queue list             the messages that wait\n"
    "  queue show ID          one message\n"
    "  queue flush [ID]       try everything now, or one message\n"
    "  queue delete ID...     forget messages; no bounce is sent\n"
    "  status [SECONDS]       counters and their rates over so many seconds (default 1; 0: no "
    "rates)\n"
    "  net connections [state STATE] [local ADDRESS] [remote ADDRESS]\n"
    "                         of our own TCP, as ss -ti shows the kernel's; an ADDRESS is\n"
    "                         192.0.2.1:25, 192.0.2.0/24, [fd00::1]:25, fd00::1 or :25\n"
    "  net neighbors          as ip neigh\n"
    "  net routes             as ip route\n"
    "  net counters [all]     as nstat, those that are 0 too with all; and the longest gap "
    "between\n"
    "                         polls of each shard\n"
    "  net trace [live] [local ADDRESS] [remote ADDRESS]\n"
    "                         what happened on connections that recovered or failed; live: on "
    "those\n"
    "                         that are there\n"
    "  net capture -w FILE [--port NAME] [--count N] [--seconds N] [--snap BYTES]\n"
    "              [--connection A:p-B:p]\n"
    "                         frames of all ports into a new file (pcapng), 60 seconds unless "
    "said\n"
    "                         otherwise\n"
    "  config check           is the file of -c good?\n"
    "  -c FILE                the configuration of tubepostd, which names its socket\n"
    "  -s SOCKET              its socket\n"
    "  --json                 the answer as it comes, a line of JSON each\n";

struct tool {
    const char *conf_path;
    char socket_path[ENDPOINT_PATH_MAX + 1];
    bool as_json;
    FILE *to, *from; /* the socket */
    long patience_s; /* more than an answer usually takes */
    /* net capture */
    const char *file, *connection, *port;
    unsigned long count, seconds, snap;
};

static int fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int fail(int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("tubepost: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return code;
}

/* ---- asking ---- */

static int load_conf(const char *path, struct relay_conf **conf)
{
    struct conf_report report;
    if (relay_conf_load(conf, path, "localhost", &report) == 0) {
        return EX_OK;
    }
    for (uint32_t i = 0; i < report.count && i < CONF_PROBLEMS_MAX; i++) {
        fprintf(stderr, "%s\n", report.problems[i]);
    }
    return fail(EX_CONFIG, "the configuration is not good");
}

static int find_socket(struct tool *tool)
{
    if (tool->socket_path[0] != '\0') {
        return EX_OK;
    }
    struct relay_conf *conf = NULL;
    int code = load_conf(tool->conf_path, &conf);
    if (code != EX_OK) {
        return code;
    }
    int length = snprintf(tool->socket_path, sizeof tool->socket_path, "%s", conf->control.path);
    relay_conf_free(conf);
    return length < (int)sizeof tool->socket_path
               ? EX_OK
               : fail(EX_CONFIG, "control.path is too long for a socket");
}

static int reach(struct tool *tool)
{
    int code = find_socket(tool);
    if (code != EX_OK || tool->from != NULL) {
        return code;
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", tool->socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        code =
            fail(EX_UNAVAILABLE, "%s: %s; does tubepostd run?", tool->socket_path, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return code;
    }
    struct timeval patience = {.tv_sec = ANSWER_TIMEOUT_S + tool->patience_s};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int copy = dup(fd);
    tool->from = fdopen(fd, "r");
    tool->to = copy < 0 ? NULL : fdopen(copy, "w");
    return tool->from != NULL && tool->to != NULL ? EX_OK : fail(EX_OSERR, "%s", strerror(errno));
}

/* The last line of an answer, when it says that the request failed. */
static int refusal(const json_t *last)
{
    const char *code = json_string_value(json_object_get(last, "code"));
    const char *text = json_string_value(json_object_get(last, "text"));
    code = code != NULL ? code : "";
    int exit_code = strcmp(code, "not-found") == 0     ? EX_DATAERR
                    : strcmp(code, "busy") == 0        ? EX_TEMPFAIL
                    : strcmp(code, "bad-request") == 0 ? EX_USAGE
                    : strcmp(code, "unavailable") == 0 ? EX_UNAVAILABLE
                                                       : EX_SOFTWARE;
    return fail(exit_code, "%s", text != NULL ? text : "tubepostd refused");
}

/* Sends one request and hands each line of the answer to `line`, which borrows it; *last is the
 * caller's. */
static int ask(struct tool *tool, const char *request,
               void (*line)(void *owner, const json_t *line), void *owner, json_t **last)
{
    int code = reach(tool);
    if (code != EX_OK) {
        return code;
    }
    fprintf(tool->to, "%s\n", request);
    if (fflush(tool->to) != 0) {
        return fail(EX_UNAVAILABLE, "%s: %s", tool->socket_path, strerror(errno));
    }
    char *text = NULL;
    size_t room = 0;
    *last = NULL;
    while (code == EX_OK && *last == NULL) {
        ssize_t size = getline(&text, &room, tool->from);
        json_t *json = size > 0 ? json_loadb(text, (size_t)size, 0, NULL) : NULL;
        const char *end = json_string_value(json_object_get(json, "end"));
        if (json == NULL) {
            code = size < 0 ? fail(EX_UNAVAILABLE, "tubepostd closed the connection or is silent")
                            : fail(EX_PROTOCOL, "tubepostd answered what is not JSON");
        } else if (end == NULL) {
            line(owner, json);
        } else if (strcmp(end, "ok") == 0) {
            *last = json_incref(json);
        } else {
            code = refusal(json);
        }
        json_decref(json);
    }
    free(text);
    return code;
}

/* ---- printing ---- */

static void print_json(const json_t *line)
{
    json_dumpf(line, stdout, JSON_COMPACT);
    putchar('\n');
}

struct listing {
    struct tool *tool;
    struct queue_report report;
};

static void print_queued(void *owner, const json_t *line)
{
    struct listing *listing = (struct listing *)owner;
    if (listing->tool->as_json) {
        print_json(line);
    } else {
        queue_report_message(&listing->report, line);
    }
}

static void print_message(void *owner, const json_t *line)
{
    if (((struct tool *)owner)->as_json) {
        print_json(line);
    } else {
        message_report(stdout, line);
    }
}

static void keep_line(void *owner, const json_t *line)
{
    json_t **kept = (json_t **)owner;
    json_decref(*kept);
    *kept = json_incref((json_t *)(uintptr_t)line);
}

static void ignore_line(void *owner, const json_t *line)
{
    (void)owner;
    (void)line;
}

/* ---- commands ---- */

/* A list, page by page; `words` narrow it and come behind the cursor. */
static int ask_pages(struct tool *tool, const char *what, const char *words,
                     void (*line)(void *owner, const json_t *line), void *owner)
{
    char request[REQUEST_MAX];
    snprintf(request, sizeof request, "%s %d%s%s", what, PAGE, words[0] != '\0' ? " 0.0.0" : "",
             words);
    for (bool more = true; more;) {
        json_t *last = NULL;
        int code = ask(tool, request, line, owner, &last);
        if (code != EX_OK) {
            return code;
        }
        const char *next = json_string_value(json_object_get(last, "next"));
        more = next != NULL;
        if (more) {
            snprintf(request, sizeof request, "%s %d %.100s%s", what, PAGE, next, words);
        }
        json_decref(last);
    }
    return EX_OK;
}

static int queue_list(struct tool *tool)
{
    struct listing listing = {.tool = tool, .report = {.out = stdout}};
    int code = ask_pages(tool, "queue list", "", print_queued, &listing);
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
    int code = ask(tool, request, print_message, tool, &last);
    json_decref(last);
    return code;
}

/* Flush and delete: what was done is in the last line. */
static int queue_change(struct tool *tool, const char *verb, const char *id, const char *done)
{
    char request[256];
    json_t *last = NULL;
    snprintf(request, sizeof request, "queue %s %.200s", verb, id);
    int code = ask(tool, request, ignore_line, NULL, &last);
    if (code == EX_OK && tool->as_json) {
        print_json(last);
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

static int sample_status(struct tool *tool, json_t **status)
{
    json_t *last = NULL;
    int code = ask(tool, "status", keep_line, status, &last);
    json_decref(last);
    return code == EX_OK && *status == NULL ? fail(EX_PROTOCOL, "tubepostd gave no status") : code;
}

static double monotonic_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int show_status(struct tool *tool, const char *interval)
{
    char *end = NULL;
    double seconds = strtod(interval, &end);
    if (*interval == '\0' || *end != '\0' || !(seconds >= 0 && seconds <= 3600)) {
        return fail(EX_USAGE, "status: '%s' is no number of seconds, expected 0 to 3600", interval);
    }
    json_t *earlier = NULL, *status = NULL;
    int code = sample_status(tool, &status);
    double start = monotonic_s();
    if (code == EX_OK && seconds > 0 && !tool->as_json) {
        earlier = status;
        status = NULL;
        struct timespec pause = {.tv_sec = (time_t)seconds,
                                 .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
        nanosleep(&pause, NULL);
        code = sample_status(tool, &status);
    }
    if (code == EX_OK && tool->as_json) {
        print_json(status);
    } else if (code == EX_OK) {
        status_report(stdout, status, earlier, monotonic_s() - start);
    }
    json_decref(earlier);
    json_decref(status);
    return code;
}

static int config_check(const struct tool *tool)
{
    struct relay_conf *conf = NULL;
    int code = load_conf(tool->conf_path, &conf);
    char problem[TLS_PROBLEM_MAX];
    if (code == EX_OK && relay_tls_check(conf, problem) < 0) {
        fprintf(stderr, "%s: tls.certificates: %s\n", tool->conf_path, problem);
        relay_conf_free(conf);
        return EX_CONFIG;
    }
    if (code == EX_OK) {
        printf("%s: good\n", tool->conf_path != NULL ? tool->conf_path : "defaults");
        relay_conf_free(conf);
    }
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

/* ---- the stack ---- */

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
        print_json(line);
    } else {
        listing->command->report(&listing->report, line);
    }
}

static int net(struct tool *tool, char *const *words, int count)
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
        fputs(usage, stderr);
        return EX_USAGE;
    }
    for (int i = 1; i < count; i++) {
        size_t room = sizeof narrowed - used;
        int length = snprintf(narrowed + used, room, " %s", words[i]);
        if (length >= (int)room) {
            return fail(EX_USAGE, "net: these are too many words");
        }
        used += (size_t)length;
    }
    if (listing.command->in_pages) {
        return ask_pages(tool, listing.command->request, narrowed, print_net, &listing);
    }
    listing.report.zeros = strcmp(narrowed, " all") == 0;
    if (count > 1 && !listing.report.zeros) {
        return fail(EX_USAGE, "net counters: '%s' is not known, expected all", words[1]);
    }
    json_t *last = NULL;
    int code = ask(tool, listing.command->request, print_net, &listing, &last);
    json_decref(last);
    return code;
}

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

static int capture(struct tool *tool)
{
    char path[PATH_MAX], request[PATH_MAX + REQUEST_MAX];
    if (tool->file == NULL || absolute_path(tool->file, path) < 0) {
        return fail(EX_USAGE, "net capture: expected -w FILE, a path without blanks");
    }
    size_t used = (size_t)snprintf(request, sizeof request, "net capture file %s", path);
    const struct {
        const char *word;
        unsigned long number;
    } bounds[] = {{"count", tool->count}, {"seconds", tool->seconds}, {"snap", tool->snap}};
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        if (bounds[i].number > 0) {
            used += (size_t)snprintf(request + used, sizeof request - used, " %s %lu",
                                     bounds[i].word, bounds[i].number);
        }
    }
    if (tool->port != NULL) {
        if (strlen(tool->port) > REQUEST_MAX / 4 || strpbrk(tool->port, " \r\n") != NULL) {
            return fail(EX_USAGE, "net capture: '%s' is no port's name", tool->port);
        }
        used += (size_t)snprintf(request + used, sizeof request - used, " port %s", tool->port);
    }
    if (tool->connection != NULL) {
        const char *hyphen = strchr(tool->connection, '-');
        if (hyphen == NULL || strlen(tool->connection) > REQUEST_MAX / 2) {
            return fail(EX_USAGE, "net capture: '%s' is no connection, expected A:port-B:port",
                        tool->connection);
        }
        snprintf(request + used, sizeof request - used, " between %.*s %s",
                 (int)(hyphen - tool->connection), tool->connection, hyphen + 1);
    }
    json_t *last = NULL;
    tool->patience_s = tool->seconds > 0 ? (long)tool->seconds : CAPTURE_SECONDS_DEFAULT;
    int code = ask(tool, request, ignore_line, NULL, &last);
    const json_t *captured = json_object_get(last, "capture");
    if (code == EX_OK && tool->as_json) {
        print_json(captured);
    } else if (code == EX_OK) {
        printf("%" JSON_INTEGER_FORMAT " frames in %s, %" JSON_INTEGER_FORMAT " lost\n",
               json_integer_value(json_object_get(captured, "frames")), path,
               json_integer_value(json_object_get(captured, "lost")));
    }
    json_decref(last);
    return code;
}

static int run_command(struct tool *tool, char *const *words, int count)
{
    const char *first = count > 0 ? words[0] : "", *second = count > 1 ? words[1] : "";
    if (strcmp(first, "status") == 0 && count <= 2) {
        return show_status(tool, count == 2 ? second : "1");
    }
    if (strcmp(first, "config") == 0 && strcmp(second, "check") == 0 && count == 2) {
        return config_check(tool);
    }
    if (strcmp(first, "net") == 0 && strcmp(second, "capture") == 0 && count == 2) {
        return capture(tool);
    }
    if (strcmp(first, "net") == 0) {
        return net(tool, words + 1, count - 1);
    }
    if (strcmp(first, "queue") == 0) {
        if (strcmp(second, "list") == 0 && count == 2) {
            return queue_list(tool);
        }
        if (strcmp(second, "show") == 0 && count == 3) {
            return queue_show(tool, words[2]);
        }
        if (strcmp(second, "flush") == 0 && count <= 3) {
            return queue_change(tool, "flush", count == 3 ? words[2] : "", "are tried now");
        }
        if (strcmp(second, "delete") == 0 && count >= 3) {
            return queue_delete(tool, words + 2, count - 2);
        }
    }
    fputs(usage, stderr);
    return EX_USAGE;
}

/* An option of net capture that takes a number. */
static bool is_bound(struct tool *tool, int option)
{
    unsigned long *bound = option == 'C'   ? &tool->count
                           : option == 'S' ? &tool->seconds
                           : option == 'B' ? &tool->snap
                                           : NULL;
    char *end = NULL;
    if (bound == NULL) {
        return false;
    }
    *bound = strtoul(optarg, &end, 10);
    return *bound > 0 && *end == '\0';
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"socket", required_argument, NULL, 's'},
        {"json", no_argument, NULL, 'j'},         {"help", no_argument, NULL, 'h'},
        {"count", required_argument, NULL, 'C'},  {"seconds", required_argument, NULL, 'S'},
        {"snap", required_argument, NULL, 'B'},   {"connection", required_argument, NULL, 'N'},
        {"port", required_argument, NULL, 'P'},   {NULL, 0, NULL, 0},
    };
    struct tool tool = {0};
    for (int option; (option = getopt_long(argc, argv, "c:s:jhw:", options, NULL)) != -1;) {
        if (option == 'c') {
            tool.conf_path = optarg;
        } else if (option == 's' && strlen(optarg) < sizeof tool.socket_path) {
            strcpy(tool.socket_path, optarg);
        } else if (option == 'j') {
            tool.as_json = true;
        } else if (option == 'w') {
            tool.file = optarg;
        } else if (option == 'N') {
            tool.connection = optarg;
        } else if (option == 'P') {
            tool.port = optarg;
        } else if (!is_bound(&tool, option)) {
            fputs(usage, option == 'h' ? stdout : stderr);
            return option == 'h' ? EX_OK : EX_USAGE;
        }
    }
    int code = run_command(&tool, argv + optind, argc - optind);
    if (tool.to != NULL) {
        fclose(tool.to);
    }
    if (tool.from != NULL) {
        fclose(tool.from);
    }
    return code;
}
