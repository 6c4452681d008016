/* tubepost queue: the messages that wait, and what is done about them. */
#include "engine/main/tubepost_queue.h"
#include "engine/control/report_queue.h"
#include "engine/control/words.h"
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define PAGE "200"
#define SORTED_MAX 1000 /* a list of so many comes in the order of arrival */

/* ---- queue list ---- */

struct listing {
    struct tool *tool;
    struct queue_report report;
    unsigned long limit, count; /* recipients; 0: all */
    json_t *kept;               /* while the list is short; then NULL */
};

static void print_queued(struct listing *listing, const json_t *line)
{
    if (listing->tool->as_json) {
        queue_report_json(stdout, line);
    } else {
        queue_report_message(&listing->report, line);
    }
}

static int by_arrival(const void *left, const void *right)
{
    const json_t *a = *(json_t *const *)left, *b = *(json_t *const *)right;
    json_int_t first = json_integer_value(json_object_get(a, "arrival"));
    json_int_t second = json_integer_value(json_object_get(b, "arrival"));
    if (first != second) {
        return first < second ? -1 : 1;
    }
    return strcmp(json_string_value(json_object_get(a, "id")),
                  json_string_value(json_object_get(b, "id")));
}

/* It is whole, or too long to be sorted. */
static void print_kept(struct listing *listing)
{
    size_t count = json_array_size(listing->kept);
    json_t **lines = calloc(count + 1, sizeof(*lines));
    for (size_t i = 0; lines != NULL && i < count; i++) {
        lines[i] = json_array_get(listing->kept, i);
    }
    if (lines != NULL) {
        qsort(lines, count, sizeof(*lines), by_arrival);
    }
    for (size_t i = 0; i < count; i++) {
        print_queued(listing, lines != NULL ? lines[i] : json_array_get(listing->kept, i));
    }
    free(lines);
    json_decref(listing->kept);
    listing->kept = NULL;
}

static void take_queued(void *owner, const json_t *line)
{
    struct listing *listing = owner;
    json_t *recipients = json_object_get(line, "recipients");
    while (listing->limit > 0 && json_array_size(recipients) > listing->limit - listing->count) {
        json_array_remove(recipients, json_array_size(recipients) - 1);
    }
    listing->count += json_array_size(recipients);
    if (json_array_size(recipients) == 0 ||
        json_string_value(json_object_get(line, "id")) == NULL) {
        return;
    }
    if (listing->kept != NULL) {
        json_array_append(listing->kept, (json_t *)(uintptr_t)line);
        if (json_array_size(listing->kept) > SORTED_MAX) {
            print_kept(listing);
        }
    } else {
        print_queued(listing, line);
    }
}

static int list(struct tool *tool, const struct queue_options *options)
{
    struct listing listing = {
        .tool = tool, .report = {.out = stdout}, .limit = options->limit, .kept = json_array()};
    char request[REQUEST_MAX + 128], cursor[64] = "";
    int code = EX_OK;
    for (bool more = true; more && code == EX_OK;) {
        json_t *last = NULL;
        snprintf(request, sizeof request, "queue list page=%s%s%s%s", PAGE,
                 cursor[0] != '\0' ? " cursor=" : "", cursor, options->words);
        code = tool_ask(tool, request, take_queued, &listing, &last);
        const char *next = json_string_value(json_object_get(last, "next"));
        more = next != NULL && (listing.limit == 0 || listing.count < listing.limit);
        snprintf(cursor, sizeof cursor, "%s", next != NULL ? next : "");
        json_decref(last);
    }
    if (listing.kept != NULL) {
        print_kept(&listing);
    }
    if (code == EX_OK && !tool->as_json) {
        queue_report_end(&listing.report);
    }
    return code;
}

/* ---- queue show ---- */

/* The text of a message without its transparency: a period that begins a line is doubled on the wire
 * (RFC 5321 §4.5.2), and CRLF ends a line there. */
struct text_printer {
    FILE *out;
    bool headers, body; /* wanted */
    bool in_body, in_line, stuffed, after_cr, blank;
    bool over;
};

static void print_byte(struct text_printer *printer, char byte)
{
    if (printer->in_body ? printer->body : printer->headers) {
        fputc(byte, printer->out);
    }
}

static void print_text(struct text_printer *printer, const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size && !printer->over; i++) {
        char byte = (char)bytes[i];
        if (!printer->in_line && byte == '.' && !printer->stuffed) {
            printer->stuffed = true;
            continue;
        }
        printer->stuffed = false;
        if (byte == '\r') {
            printer->after_cr = true;
            printer->in_line = true;
            continue;
        }
        if (byte == '\n') {
            print_byte(printer, '\n');
            if (!printer->in_body && printer->blank) {
                printer->in_body = true;
                printer->over = !printer->body;
            }
            printer->in_line = printer->after_cr = false;
            printer->blank = true;
            continue;
        }
        if (printer->after_cr) {
            print_byte(printer, '\r');
            printer->after_cr = false;
        }
        print_byte(printer, byte);
        printer->in_line = true;
        printer->blank = false;
    }
}

static void print_piece(void *owner, const json_t *line)
{
    const char *text = json_string_value(json_object_get(line, "text"));
    size_t size = text != NULL ? strlen(text) : 0;
    unsigned char *bytes = malloc(size + 1);
    if (text == NULL || bytes == NULL) {
        free(bytes);
        return;
    }
    int decoded = EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)size);
    if (decoded > 0) {
        decoded -= size > 0 && text[size - 1] == '=';
        decoded -= size > 1 && text[size - 2] == '=';
        print_text(owner, bytes, (size_t)decoded);
    }
    free(bytes);
}

static int show_text(struct tool *tool, const struct queue_options *options)
{
    struct text_printer printer = {
        .out = stdout, .headers = options->headers, .body = options->body, .blank = true};
    char request[REQUEST_MAX + 64];
    int code = EX_OK;
    long long from = 0;
    for (bool more = true; more && code == EX_OK && !printer.over;) {
        json_t *last = NULL;
        snprintf(request, sizeof request, "queue body%s from=%lld", options->words, from);
        code = tool_ask(tool, request, print_piece, &printer, &last);
        from = json_integer_value(json_object_get(last, "next"));
        more = from > 0;
        json_decref(last);
    }
    return code;
}

struct showing {
    struct tool *tool;
    unsigned count;
};

static void print_message(void *owner, const json_t *line)
{
    struct showing *showing = owner;
    if (showing->tool->as_json) {
        tool_print_json(line);
    } else if (showing->count++ == 0) {
        message_report(stdout, line);
    } else {
        message_report_more(stdout, line);
    }
}

static int show(struct tool *tool, const struct queue_options *options)
{
    struct showing showing = {.tool = tool};
    char request[REQUEST_MAX + 64];
    int code = EX_OK;
    long long from = 0;
    if (options->headers || options->body) {
        return show_text(tool, options);
    }
    do {
        json_t *last = NULL;
        snprintf(request, sizeof request, "queue show%s from=%lld", options->words, from);
        code = tool_ask(tool, request, print_message, &showing, &last);
        from = json_integer_value(json_object_get(last, "next"));
        json_decref(last);
    } while (code == EX_OK && from > 0);
    return code;
}

/* ---- queue summary ---- */

struct summary {
    struct tool *tool;
    struct summary_report report;
};

static void print_row(void *owner, const json_t *line)
{
    struct summary *summary = owner;
    if (summary->tool->as_json) {
        tool_print_json(line);
    } else {
        summary_report_line(&summary->report, line);
    }
}

static int summarize(struct tool *tool, const struct queue_options *options)
{
    struct summary summary = {
        .tool = tool,
        .report = {.out = stdout, .by = options->by != NULL ? options->by : "domain"}};
    char request[REQUEST_MAX + 64];
    json_t *last = NULL;
    tool->patience_s = 3600;
    snprintf(request, sizeof request, "queue summary by=%s%s", summary.report.by, options->words);
    int code = tool_ask(tool, request, print_row, &summary, &last);
    json_decref(last);
    return code;
}

/* ---- The command line ---- */

enum option_kind { OPTION_WORD = 256, OPTION_FLAG, OPTION_OWN };

static const struct queue_option {
    const char *name;
    int has_value;
    int kind;
} known[] = {
    {"id", required_argument, OPTION_WORD},
    {"domain", required_argument, OPTION_WORD},
    {"site", required_argument, OPTION_WORD},
    {"sender", required_argument, OPTION_WORD},
    {"recipient", required_argument, OPTION_WORD},
    {"older", required_argument, OPTION_WORD},
    {"younger", required_argument, OPTION_WORD},
    {"pattern", required_argument, OPTION_WORD},
    {"held", no_argument, OPTION_FLAG},
    {"ready", no_argument, OPTION_FLAG},
    {"deferred", no_argument, OPTION_FLAG},
    {"all", no_argument, OPTION_FLAG},
    {"top", required_argument, OPTION_WORD},
    {"text", required_argument, OPTION_WORD},
    {"for", required_argument, OPTION_WORD},
    {"to", required_argument, OPTION_WORD},
    {"limit", required_argument, OPTION_OWN},
    {"by", required_argument, OPTION_OWN},
    {"headers", no_argument, OPTION_OWN},
    {"body", no_argument, OPTION_OWN},
    {"background", no_argument, OPTION_OWN},
    {"list", no_argument, OPTION_OWN},
};
#define KNOWN_COUNT (sizeof known / sizeof known[0])

static int word_add(struct queue_options *options, const char *key, const char *value)
{
    return control_word_append(options->words, sizeof options->words, &options->used, key,
                               slice_text(value)) < 0
               ? tool_fail(EX_USAGE, "queue: the options are too long")
               : EX_OK;
}

static int limit_take(struct queue_options *options)
{
    char *end = NULL;
    options->limit = strtoul(optarg, &end, 10);
    if (options->limit == 0 || *end != '\0') {
        return tool_fail(EX_USAGE, "queue: --limit %s: expected a number", optarg);
    }
    return word_add(options, "limit", optarg);
}

static int option_take(struct queue_options *options, const struct queue_option *option)
{
    if (option->kind != OPTION_OWN) {
        return word_add(options, option->name, option->kind == OPTION_WORD ? optarg : "");
    }
    if (strcmp(option->name, "limit") == 0) {
        return limit_take(options);
    }
    if (strcmp(option->name, "by") == 0) {
        options->by = optarg;
    } else if (strcmp(option->name, "headers") == 0) {
        options->headers = true;
    } else if (strcmp(option->name, "body") == 0) {
        options->body = true;
    } else if (strcmp(option->name, "list") == 0) {
        options->list = true;
    } else {
        options->background = true;
    }
    return EX_OK;
}

static int options_read(struct tool *tool, struct queue_options *options, int count, char **words)
{
    struct option long_options[KNOWN_COUNT + 8] = {TOOL_OPTIONS};
    size_t common = 0;
    while (long_options[common].name != NULL) {
        common++;
    }
    for (size_t i = 0; i < KNOWN_COUNT; i++) {
        long_options[common + i] =
            (struct option){known[i].name, known[i].has_value, NULL, 1000 + (int)i};
    }
    optind = 0;
    for (int option;
         (option = getopt_long(count, words, TOOL_LETTERS, long_options, NULL)) != -1;) {
        int code = option >= 1000 ? option_take(options, &known[option - 1000])
                                  : tool_option(tool, option);
        if (code != (option >= 1000 ? EX_OK : TOOL_TAKEN)) {
            return code;
        }
    }
    return TOOL_TAKEN;
}

/* With the ids that stand behind the verb, as many at once as a request takes. */
static int with_ids(struct tool *tool, const char *verb, const struct queue_options *options,
                    char **ids, int count,
                    int (*run)(struct tool *tool, const char *verb,
                               const struct queue_options *options))
{
    int code = EX_OK;
    for (int from = 0; from == 0 || from < count; from += QUEUE_IDS_AT_ONCE) {
        struct queue_options some = *options;
        char joined[QUEUE_IDS_AT_ONCE * 24] = "";
        size_t used = 0;
        for (int i = from; i < count && i < from + QUEUE_IDS_AT_ONCE; i++) {
            if (strlen(ids[i]) > 20) {
                return tool_fail(EX_DATAERR, "'%s' is not the id of a message", ids[i]);
            }
            used += (size_t)snprintf(joined + used, sizeof joined - used, "%s%s",
                                     i > from ? "," : "", ids[i]);
        }
        int one = count > 0 ? word_add(&some, "id", joined) : EX_OK;
        one = one == EX_OK ? run(tool, verb, &some) : one;
        code = one != EX_OK ? one : code;
    }
    return code;
}

static int run_list(struct tool *tool, const char *verb, const struct queue_options *options)
{
    (void)verb;
    return list(tool, options);
}

static int run_show(struct tool *tool, const char *verb, const struct queue_options *options)
{
    (void)verb;
    return show(tool, options);
}

static const struct {
    const char *verb;
    int (*run)(struct tool *tool, const char *verb, const struct queue_options *options);
    bool one_id;
} verbs[] = {
    {"list", run_list, false},     {"show", run_show, true},      {"hold", queue_job, false},
    {"release", queue_job, false}, {"flush", queue_job, false},   {"delete", queue_job, false},
    {"bounce", queue_job, false},  {"reroute", queue_job, false},
};

int tubepost_queue(struct tool *tool, int count, char **words)
{
    struct queue_options options = {.used = 0};
    int taken = options_read(tool, &options, count, words);
    if (taken != TOOL_TAKEN) {
        return taken;
    }
    words += optind;
    count -= optind;
    const char *verb = count > 0 ? words[0] : "";
    if (strcmp(verb, "jobs") == 0 && count == 1) {
        return queue_jobs(tool);
    }
    if (strcmp(verb, "cancel") == 0 && count == 2) {
        return queue_cancel(tool, words[1]);
    }
    if (count == 1 && (strcmp(verb, "suspend") == 0 || strcmp(verb, "resume") == 0 ||
                       strcmp(verb, "suspensions") == 0)) {
        return queue_suspend(tool, verb, &options);
    }
    if (strcmp(verb, "summary") == 0 && count == 1) {
        return summarize(tool, &options);
    }
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(verb, verbs[i].verb) == 0 && (!verbs[i].one_id || count <= 2)) {
            return with_ids(tool, verb, &options, words + 1, count - 1, verbs[i].run);
        }
    }
    return tool_usage(EX_USAGE);
}
