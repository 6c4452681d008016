/* tubepost queue hold|release|flush|delete|bounce: a job of tubepostd's, and what it has done so far. */
#include "engine/control/report_queue.h"
#include "engine/main/tubepost_queue.h"
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ASK_FIRST_MS 2 /* small jobs are over at once */
#define ASK_MS 200

static volatile sig_atomic_t interrupted;

static void interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static uint64_t number_of(const json_t *job, const char *key)
{
    json_int_t number = json_integer_value(json_object_get(job, key));
    return number > 0 ? (uint64_t)number : 0;
}

static const char *state_of(const json_t *job)
{
    const char *state = json_string_value(json_object_get(job, "state"));
    return state != NULL ? state : "";
}

static int ask_job(struct tool *tool, const char *what, uint64_t number, json_t **job)
{
    char request[64];
    json_t *last = NULL;
    snprintf(request, sizeof request, "queue %s job=%" PRIu64, what, number);
    int code = tool_ask(tool, request, tool_keep_line, job, &last);
    json_decref(last);
    return code == EX_OK && *job == NULL ? tool_fail(EX_PROTOCOL, "tubepostd gave no job") : code;
}

static void show_progress(const char *verb, const json_t *job)
{
    fprintf(stderr,
            "\r%s: %" PRIu64 " messages looked at, %" PRIu64 " recipients matched, %" PRIu64
            " done ",
            verb, number_of(job, "looked"), number_of(job, "matched"), number_of(job, "done"));
}

/* Only here is the user's interrupt taken: it would end the wait for an answer, which has a time limit, as a failure. */
static void pause_ms(long ms)
{
    struct timespec pause = {.tv_nsec = ms * 1000000};
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_UNBLOCK, &signals, NULL);
    nanosleep(&pause, NULL);
    sigprocmask(SIG_BLOCK, &signals, NULL);
}

/* Until it is over. An interrupt of the user's ends it, as it would end postsuper. */
static int follow(struct tool *tool, const char *verb, uint64_t number, json_t **job)
{
    const bool shown = isatty(STDERR_FILENO) && !tool->as_json;
    struct sigaction action = {.sa_handler = interrupt};
    bool progressed = false, cancelled = false;
    long wait_ms = ASK_FIRST_MS;
    sigaction(SIGINT, &action, NULL);
    pause_ms(0);
    int code = ask_job(tool, "job", number, job);
    while (code == EX_OK && strcmp(state_of(*job), "running") == 0) {
        if (shown && wait_ms >= ASK_MS) {
            show_progress(verb, *job);
            progressed = true;
        }
        pause_ms(wait_ms);
        wait_ms = 2 * wait_ms < ASK_MS ? 2 * wait_ms : ASK_MS;
        bool cancels = interrupted && !cancelled;
        code = ask_job(tool, cancels ? "cancel" : "job", number, job);
        cancelled = cancelled || cancels;
    }
    if (progressed) {
        fputc('\n', stderr);
    }
    return code;
}

static const struct {
    const char *verb, *done;
} words[] = {
    {"hold", "held"},      {"release", "released"}, {"flush", "tried now"},
    {"delete", "deleted"}, {"bounce", "returned"},  {"reroute", "rerouted"},
};

static const char *done_word(const char *verb)
{
    size_t i = 0;
    while (i + 1 < sizeof words / sizeof words[0] && strcmp(words[i].verb, verb) != 0) {
        i++;
    }
    return words[i].done;
}

static int tell(const char *verb, const json_t *job)
{
    uint64_t done = number_of(job, "done"), busy = number_of(job, "busy");
    uint64_t gave_up = number_of(job, "gave_up");
    const char *state = state_of(job);
    printf("%" PRIu64 " recipient%s %s%s\n", done, done == 1 ? "" : "s",
           strcmp(verb, "flush") != 0 ? ""
           : done == 1                ? "is "
                                      : "are ",
           done_word(verb));
    if (busy > 0) {
        printf("%" PRIu64 " more %s being delivered or returned right now, and left alone\n", busy,
               busy == 1 ? "is" : "are");
    }
    if (gave_up > 0) {
        printf("%" PRIu64 " texts took the pattern too long, and were left alone\n", gave_up);
    }
    if (strcmp(state, "done") != 0) {
        return tool_fail(strcmp(state, "cancelled") == 0 ? EX_TEMPFAIL : EX_SOFTWARE,
                         "the job was %s before its end", state);
    }
    return done == 0 && busy > 0 ? EX_TEMPFAIL : EX_OK;
}

/* Of the ids that were named those that nobody has looked at. */
static unsigned ids_missing(const struct queue_options *options, const json_t *job)
{
    const char *ids = strstr(options->words, " id=");
    unsigned named = ids != NULL ? 1 : 0;
    for (size_t i = 4; ids != NULL && ids[i] != '\0' && ids[i] != ' '; i++) {
        named += ids[i] == ',';
    }
    uint64_t looked = number_of(job, "looked");
    return job != NULL && looked < named ? named - (unsigned)looked : 0;
}

int queue_job(struct tool *tool, const char *verb, const struct queue_options *options)
{
    char request[REQUEST_MAX + 32];
    json_t *last = NULL, *job = NULL;
    snprintf(request, sizeof request, "queue %s%s", verb, options->words);
    int code = tool_ask(tool, request, tool_ignore_line, NULL, &last);
    uint64_t number = number_of(last, "job");
    json_decref(last);
    if (code != EX_OK) {
        return code;
    }
    if (options->background) {
        if (tool->as_json) {
            printf("{\"job\":%" PRIu64 "}\n", number);
        } else {
            printf("job %" PRIu64 " has begun: see tubepost queue jobs\n", number);
        }
        return EX_OK;
    }
    code = follow(tool, verb, number, &job);
    if (code == EX_OK && tool->as_json) {
        tool_print_json(job);
    } else if (code == EX_OK) {
        code = tell(verb, job);
    }
    unsigned missing = ids_missing(options, job);
    if (code == EX_OK && missing > 0) {
        code = tool_fail(EX_DATAERR, "%u of these messages %s not in the queue", missing,
                         missing == 1 ? "is" : "are");
    }
    json_decref(job);
    return code;
}

struct job_listing {
    struct tool *tool;
    struct jobs_report report;
};

static void print_job(void *owner, const json_t *line)
{
    struct job_listing *listing = owner;
    if (listing->tool->as_json) {
        tool_print_json(line);
    } else {
        jobs_report_line(&listing->report, line);
    }
}

static int ask_jobs(struct tool *tool, const char *request)
{
    struct job_listing listing = {.tool = tool, .report = {.out = stdout}};
    json_t *last = NULL;
    int code = tool_ask(tool, request, print_job, &listing, &last);
    json_decref(last);
    return code;
}

int queue_jobs(struct tool *tool)
{
    return ask_jobs(tool, "queue jobs");
}

int queue_cancel(struct tool *tool, const char *number)
{
    char request[64];
    if (number[0] == '\0' || strspn(number, "0123456789") != strlen(number) ||
        strlen(number) > 10) {
        return tool_fail(EX_USAGE, "queue cancel: '%s' is no number of a job", number);
    }
    snprintf(request, sizeof request, "queue cancel job=%s", number);
    return ask_jobs(tool, request);
}
