/*
 * The names that other programs call: mailq, newaliases, postqueue, postsuper, and sendmail with the options that
 * programs give it.
 */
#include "engine/main/tubepost_submit.h"
#include "engine/core/endpoint.h"
#include "engine/main/tubepost.h"
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int queue(struct tool *tool, const char *verb, const char *word, const char *value)
{
    char *words[] = {"queue", (char *)(uintptr_t)verb, (char *)(uintptr_t)word,
                     (char *)(uintptr_t)value, NULL};
    return tubepost_queue(tool, word == NULL ? 2 : value == NULL ? 3 : 4, words);
}

/* ---- postqueue ---- */

static int run_postqueue(struct tool *tool, int count, char **words)
{
    optind = 1;
    for (int option; (option = getopt(count, words, "c:fi:jps:v")) != -1;) {
        switch (option) {
        case 'c':
            tool->conf_path = optarg;
            break;
        case 'v':
            break;
        case 'f':
            return queue(tool, "flush", NULL, NULL);
        case 'i':
            return queue(tool, "flush", "--id", optarg);
        case 's':
            return queue(tool, "flush", "--domain", optarg);
        case 'j':
            tool->as_json = true;
            return queue(tool, "list", NULL, NULL);
        case 'p':
            return queue(tool, "list", NULL, NULL);
        default:
            return EX_USAGE;
        }
    }
    return tool_fail(EX_USAGE, "as postqueue it wants -f, -i ID, -s DOMAIN, -p or -j");
}

/* ---- postsuper ---- */

/* "ALL", an id, or "-": ids from stdin, a line each. */
static int postsuper_do(struct tool *tool, const char *verb, const char *which)
{
    char line[256];
    int code = EX_OK;
    if (strcmp(which, "ALL") == 0) {
        return queue(tool, verb, "--all", NULL);
    }
    if (strcmp(which, "-") != 0) {
        return queue(tool, verb, "--id", which);
    }
    while (code != EX_UNAVAILABLE && fgets(line, sizeof(line), stdin) != NULL) {
        line[strcspn(line, " \t\r\n")] = '\0';
        if (line[0] != '\0') {
            int one = queue(tool, verb, "--id", line);
            code = one != EX_OK ? one : code;
        }
    }
    return code;
}

/* What is to be done is read before any of it is, since each has a command line of its own. */
static int run_postsuper(struct tool *tool, int count, char **words)
{
    static const char *const verbs[] = {
        ['d'] = "delete", ['h'] = "hold", ['H'] = "release", ['r'] = "flush"};
    enum { ORDERS_MAX = 64 };
    struct {
        const char *verb, *which;
    } orders[ORDERS_MAX];
    size_t order_count = 0;
    int code = EX_OK;
    optind = 1;
    for (int option; (option = getopt(count, words, "c:d:h:H:r:v")) != -1;) {
        if (option == '?' || order_count == ORDERS_MAX) {
            return EX_USAGE;
        }
        if (option == 'c') {
            tool->conf_path = optarg;
        } else if (option != 'v') {
            orders[order_count].verb = verbs[option];
            orders[order_count++].which = optarg;
        }
    }
    if (order_count == 0) {
        return tool_fail(EX_USAGE, "as postsuper it wants -d, -h, -H or -r, each with an id, ALL, "
                                   "or - for ids from stdin");
    }
    for (size_t i = 0; i < order_count; i++) {
        int one = postsuper_do(tool, orders[i].verb, orders[i].which);
        code = one != EX_OK ? one : code;
    }
    return code;
}

/* ---- sendmail ---- */

struct sendmail {
    struct submit submit;
    const char *from;
    bool dot_is_text, names_recipients;
    char mode; /* of -b: m, p, i */
    bool flushes;
};

static int dsn_take(struct submit *submit, int option)
{
    bool good = option == 'N'   ? smtp_notify_parse(slice_text(optarg), &submit->notify)
                : option == 'R' ? smtp_ret_parse(slice_text(optarg), &submit->ret)
                                : smtp_envid_valid(slice_text(optarg));
    submit->envid = option == 'V' ? optarg : submit->envid;
    return good ? EX_OK : tool_fail(EX_USAGE, "sendmail: -%c %s will not do", option, optarg);
}

static int options_take(struct sendmail *sendmail, struct tool *tool, int count, char **words)
{
    int code = EX_OK;
    optind = 1;
    for (int option; code == EX_OK && (option = getopt(count, words,
                                                       "A:B:C:F:GL:N:O:R:UV:X:b:c:f:h:imno:p:q::r:"
                                                       "tv")) != -1;) {
        switch (option) {
        case 'C':
        case 'c':
            tool->conf_path = optarg;
            break;
        case 'F':
            sendmail->submit.full_name = optarg;
            break;
        case 'N':
        case 'R':
        case 'V':
            code = dsn_take(&sendmail->submit, option);
            break;
        case 'b':
            sendmail->mode = optarg[0];
            break;
        case 'f':
        case 'r':
            sendmail->from = optarg;
            break;
        case 'i':
            sendmail->dot_is_text = true;
            break;
        case 'o':
            sendmail->dot_is_text = sendmail->dot_is_text || strcmp(optarg, "i") == 0;
            break;
        case 'q':
            sendmail->flushes = true;
            break;
        case 't':
            sendmail->names_recipients = true;
            break;
        case '?':
            code = EX_USAGE;
            break;
        default: /* known to sendmail, and of no meaning here */
            break;
        }
    }
    return code;
}

/* The first listener that speaks SMTP and takes mail in the clear. */
static const struct endpoint *listener_of(const struct relay_conf *conf)
{
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        const struct conf_listener *listener = &conf->listen[i];
        if (listener->protocol == CONF_PROTOCOL_SMTP && listener->tls != CONF_TLS_REQUIRED &&
            listener->tls != CONF_TLS_IMPLICIT && listener->addresses_count > 0) {
            return &listener->addresses[0];
        }
    }
    return NULL;
}

/* Who listens on all addresses does so on the machine's own. */
static struct endpoint reachable(const struct endpoint *listener)
{
    static const uint8_t any[16];
    struct endpoint to = *listener;
    if (to.family == ENDPOINT_IPV4 && memcmp(to.address, any, 4) == 0) {
        memcpy(to.address, (const uint8_t[]){127, 0, 0, 1}, 4);
    } else if (to.family == ENDPOINT_IPV6 && memcmp(to.address, any, 16) == 0) {
        to.address[15] = 1;
    }
    return to;
}

static int sender_set(struct sendmail *sendmail)
{
    struct submit *submit = &sendmail->submit;
    const struct passwd *user = getpwuid(getuid());
    const char *from = sendmail->from;
    char text[600];
    if (from == NULL) {
        from = user != NULL ? user->pw_name : "nobody";
    }
    size_t size = strlen(from);
    if (size >= 2 && from[0] == '<' && from[size - 1] == '>') {
        from++;
        size -= 2;
    }
    if (size > 0 && memchr(from, '@', size) == NULL) {
        snprintf(text, sizeof(text), "%.*s@%s", (int)(size < 255 ? size : 255), from,
                 submit->hostname);
        from = text;
        size = strlen(text);
    }
    submit->sender = strndup(from, size);
    return submit->sender != NULL ? EX_OK : tool_fail(EX_OSERR, "out of memory");
}

static int message_send(struct sendmail *sendmail, const struct relay_conf *conf, int count,
                        char **recipients)
{
    struct submit *submit = &sendmail->submit;
    const struct endpoint *listener = listener_of(conf);
    submit->hostname = conf->hostname;
    int code = listener == NULL
                   ? tool_fail(EX_CONFIG, "sendmail: no listener takes mail in the clear")
                   : sender_set(sendmail);
    for (int i = 0; i < count && code == EX_OK; i++) {
        if (submit_recipient_add(submit, slice_text(recipients[i])) < 0) {
            code = tool_fail(EX_USAGE, "sendmail: '%s' is no address", recipients[i]);
        }
    }
    code = code == EX_OK
               ? submit_read(submit, stdin, !sendmail->dot_is_text, sendmail->names_recipients)
               : code;
    if (code == EX_OK && submit->recipient_count == 0) {
        code = tool_fail(EX_USAGE, "sendmail: recipients must be named, or found with -t");
    }
    if (code == EX_OK && listener != NULL) {
        struct endpoint to = reachable(listener);
        code = submit_send(submit, &to);
    }
    submit_free(submit);
    return code;
}

static int run_sendmail(struct tool *tool, int count, char **words)
{
    struct sendmail sendmail = {.mode = 'm'};
    int code = options_take(&sendmail, tool, count, words);
    if (code != EX_OK) {
        return code;
    }
    if (sendmail.flushes || sendmail.mode == 'p') {
        return queue(tool, sendmail.flushes ? "flush" : "list", NULL, NULL);
    }
    if (sendmail.mode == 'i') {
        return EX_OK; /* maps are read again by themselves */
    }
    if (sendmail.mode != 'm') {
        return tool_fail(EX_USAGE, "sendmail: -b%c is not done here", sendmail.mode);
    }
    struct relay_conf *conf = NULL;
    code = tool_load_conf(tool->conf_path, &conf);
    if (code == EX_OK) {
        code = message_send(&sendmail, conf, count - optind, words + optind);
        relay_conf_free(conf);
    }
    return code;
}

static int run_mailq(struct tool *tool, int count, char **words)
{
    optind = 1;
    for (int option; (option = getopt(count, words, "c:C:v")) != -1;) {
        if (option == '?') {
            return EX_USAGE;
        }
        tool->conf_path = option != 'v' ? optarg : tool->conf_path;
    }
    return queue(tool, "list", NULL, NULL);
}

static int run_newaliases(struct tool *tool, int count, char **words)
{
    (void)tool;
    (void)count;
    (void)words;
    return EX_OK; /* maps are read again by themselves */
}

bool tubepost_run_as(struct tool *tool, const char *name, int count, char **words, int *code)
{
    static const struct {
        const char *name;
        int (*run)(struct tool *tool, int count, char **words);
    } names[] = {{"mailq", run_mailq},
                 {"newaliases", run_newaliases},
                 {"postqueue", run_postqueue},
                 {"postsuper", run_postsuper},
                 {"sendmail", run_sendmail}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i].name) == 0) {
            *code = names[i].run(tool, count, words);
            return true;
        }
    }
    return false;
}
