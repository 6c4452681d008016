/* The control socket of tubepostd, or of tubepost-mailboxd: finding it, asking, and what it refuses. */
#include "engine/main/tubepost.h"
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_TIMEOUT_S 30
#define PAGE 500 /* messages asked for at once */

static const char *about;

void tool_about(const char *who)
{
    about = who;
}

int tool_fail(int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("tubepost: ", stderr);
    if (about != NULL) {
        fprintf(stderr, "%s: ", about);
    }
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return code;
}

static int report_show(const struct conf_report *report)
{
    for (uint32_t i = 0; i < report->count && i < CONF_PROBLEMS_MAX; i++) {
        fprintf(stderr, "%s\n", report->problems[i]);
    }
    return tool_fail(EX_CONFIG, "the configuration is not good");
}

int tool_load_conf(const char *path, struct relay_conf **conf)
{
    struct conf_report report;
    return relay_conf_load(conf, path, "localhost", &report) == 0 ? EX_OK : report_show(&report);
}

int tool_load_mailboxd_conf(const char *path, struct mailboxd_conf **conf)
{
    struct conf_report report;
    return mailboxd_conf_load(conf, path, "localhost", &report) == 0 ? EX_OK : report_show(&report);
}

/* The socket's path, cut if it is too long. Returns its size as it should be, or -1: it was said why not. */
static int conf_socket(struct tool *tool, int *code)
{
    struct relay_conf *relay = NULL;
    struct mailboxd_conf *mailboxd = NULL;
    *code = tool->of_mailboxd ? tool_load_mailboxd_conf(tool->conf_path, &mailboxd)
                              : tool_load_conf(tool->conf_path, &relay);
    if (*code != EX_OK) {
        return -1;
    }
    int length = snprintf(tool->socket_path, sizeof tool->socket_path, "%s",
                          tool->of_mailboxd ? mailboxd->control.path : relay->control.path);
    relay_conf_free(relay);
    mailboxd_conf_free(mailboxd);
    return length;
}

static const char *service_of(const struct tool *tool)
{
    return tool->of_mailboxd ? "tubepost-mailboxd" : "tubepostd";
}

static int find_socket(struct tool *tool)
{
    if (tool->socket_path[0] != '\0') {
        return EX_OK;
    }
    int code;
    int length = conf_socket(tool, &code);
    if (length < 0) {
        return code;
    }
    return length < (int)sizeof tool->socket_path
               ? EX_OK
               : tool_fail(EX_CONFIG, "control.path is too long for a socket");
}

/* A descriptor, or -errno. */
static int socket_connect(const struct tool *tool)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", tool->socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
        return fd;
    }
    int status = -errno;
    if (fd >= 0) {
        close(fd);
    }
    return status;
}

int tool_finds_service(struct tool *tool, bool *runs)
{
    int code = find_socket(tool);
    int fd = code == EX_OK ? socket_connect(tool) : -1;
    *runs = fd >= 0;
    if (fd >= 0) {
        close(fd);
    } else if (fd == -EACCES) {
        code = tool_fail(EX_NOPERM, "%s: %s", tool->socket_path, strerror(-fd));
    }
    return code;
}

int tool_reach(struct tool *tool)
{
    int code = find_socket(tool);
    if (code != EX_OK || tool->from != NULL) {
        return code;
    }
    int fd = socket_connect(tool);
    if (fd < 0) {
        return tool_fail(EX_UNAVAILABLE, "%s: %s; does %s run?", tool->socket_path, strerror(-fd),
                         service_of(tool));
    }
    struct timeval patience = {.tv_sec = ANSWER_TIMEOUT_S + tool->patience_s};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int copy = dup(fd);
    tool->from = fdopen(fd, "r");
    tool->to = copy < 0 ? NULL : fdopen(copy, "w");
    return tool->from != NULL && tool->to != NULL ? EX_OK
                                                  : tool_fail(EX_OSERR, "%s", strerror(errno));
}

void tool_leave(struct tool *tool)
{
    if (tool->from != NULL) {
        fclose(tool->from);
    }
    if (tool->to != NULL) {
        fclose(tool->to);
    }
    tool->from = tool->to = NULL;
}

int tool_refusal(const struct tool *tool, const json_t *last)
{
    const char *code = json_string_value(json_object_get(last, "code"));
    const char *text = json_string_value(json_object_get(last, "text"));
    code = code != NULL ? code : "";
    int exit_code = strcmp(code, "not-found") == 0     ? EX_DATAERR
                    : strcmp(code, "busy") == 0        ? EX_TEMPFAIL
                    : strcmp(code, "bad-request") == 0 ? EX_USAGE
                    : strcmp(code, "unavailable") == 0 ? EX_UNAVAILABLE
                                                       : EX_SOFTWARE;
    return text != NULL ? tool_fail(exit_code, "%s", text)
                        : tool_fail(exit_code, "%s refused", service_of(tool));
}

int tool_ask(struct tool *tool, const char *request, void (*line)(void *owner, const json_t *line),
             void *owner, json_t **last)
{
    int code = tool_reach(tool);
    if (code != EX_OK) {
        return code;
    }
    fprintf(tool->to, "%s\n", request);
    if (fflush(tool->to) != 0) {
        return tool_fail(EX_UNAVAILABLE, "%s: %s", tool->socket_path, strerror(errno));
    }
    char *text = NULL;
    size_t room = 0;
    *last = NULL;
    while (code == EX_OK && *last == NULL) {
        ssize_t size = getline(&text, &room, tool->from);
        json_t *json = size > 0 ? json_loadb(text, (size_t)size, 0, NULL) : NULL;
        const char *end = json_string_value(json_object_get(json, "end"));
        if (json == NULL) {
            code = size < 0
                       ? tool_fail(EX_UNAVAILABLE, "%s closed the connection or is silent",
                                   service_of(tool))
                       : tool_fail(EX_PROTOCOL, "%s answered what is not JSON", service_of(tool));
        } else if (end == NULL) {
            line(owner, json);
        } else if (strcmp(end, "ok") == 0) {
            *last = json_incref(json);
        } else {
            code = tool_refusal(tool, json);
        }
        json_decref(json);
    }
    free(text);
    return code;
}

void tool_print_json(const json_t *line)
{
    json_dumpf(line, stdout, JSON_COMPACT);
    putchar('\n');
}

void tool_keep_line(void *owner, const json_t *line)
{
    json_t **kept = (json_t **)owner;
    json_decref(*kept);
    *kept = json_incref((json_t *)(uintptr_t)line);
}

void tool_ignore_line(void *owner, const json_t *line)
{
    (void)owner;
    (void)line;
}

int tool_ask_pages(struct tool *tool, const char *what, const char *words,
                   void (*line)(void *owner, const json_t *line), void *owner)
{
    char request[REQUEST_MAX];
    snprintf(request, sizeof request, "%s %d%s%s", what, PAGE, words[0] != '\0' ? " 0.0.0" : "",
             words);
    for (bool more = true; more;) {
        json_t *last = NULL;
        int code = tool_ask(tool, request, line, owner, &last);
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
