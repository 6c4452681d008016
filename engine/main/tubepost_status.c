/* tubepost status: counters, gauges, and their rates. */
#include "engine/control/report.h"
#include "engine/main/tubepost.h"
#include <stdlib.h>
#include <time.h>

static int sample_status(struct tool *tool, json_t **status)
{
    json_t *last = NULL;
    int code = tool_ask(tool, "status", tool_keep_line, status, &last);
    json_decref(last);
    return code == EX_OK && *status == NULL ? tool_fail(EX_PROTOCOL, "no status was given") : code;
}

static double monotonic_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int tool_status(struct tool *tool, const char *interval)
{
    char *end = NULL;
    double seconds = strtod(interval, &end);
    if (*interval == '\0' || *end != '\0' || !(seconds >= 0 && seconds <= 3600)) {
        return tool_fail(EX_USAGE, "status: '%s' is no number of seconds, expected 0 to 3600",
                         interval);
    }
    json_t *earlier = NULL, *status = NULL;
    int code = sample_status(tool, &status);
    double start = monotonic_s();
    if (code == EX_OK && seconds > 0 && !tool->as_json && !tool->as_metrics) {
        earlier = status;
        status = NULL;
        struct timespec pause = {.tv_sec = (time_t)seconds,
                                 .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
        nanosleep(&pause, NULL);
        code = sample_status(tool, &status);
    }
    if (code == EX_OK && tool->as_metrics) {
        status_prometheus(stdout, tool->of_mailboxd ? "tubepost_mailboxd" : "tubepost", status);
    } else if (code == EX_OK && tool->as_json) {
        tool_print_json(status);
    } else if (code == EX_OK) {
        status_report(stdout, status, earlier, monotonic_s() - start);
    }
    json_decref(earlier);
    json_decref(status);
    return code;
}

int tubepost_status(struct tool *tool, int count, char **words)
{
    static const struct option options[] = {
        TOOL_OPTIONS, {"prometheus", no_argument, NULL, 'p'}, {NULL, 0, NULL, 0}};
    optind = 0;
    for (int option; (option = getopt_long(count, words, TOOL_LETTERS, options, NULL)) != -1;) {
        int taken = option == 'p' ? TOOL_TAKEN : tool_option(tool, option);
        if (taken != TOOL_TAKEN) {
            return taken;
        }
        tool->as_metrics = tool->as_metrics || option == 'p';
    }
    return count - optind > 1 ? tool_usage(EX_USAGE)
                              : tool_status(tool, optind < count ? words[optind] : "1");
}
