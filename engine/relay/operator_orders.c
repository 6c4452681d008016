#include "engine/relay/operator_orders.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define VERSION 1

static const char *const of_names[OPERATOR_OFS] = {"site", "sender", "domain", "recipient",
                                                   "pattern"};

const char *operator_of_name(unsigned of)
{
    return of < OPERATOR_OFS ? of_names[of] : "";
}

bool operator_suspension_same(const struct operator_suspension *a,
                              const struct operator_suspension *b)
{
    if (a->of != b->of) {
        return false;
    }
    return a->of == OPERATOR_OF_PATTERN
               ? strcmp(a->name, b->name) == 0 /* \d is not \D */
               : slice_equal_nocase(slice_text(a->name), slice_text(b->name));
}

void operator_orders_free(struct operator_orders *orders)
{
    free(orders->suspensions);
    free(orders->reroutes);
    *orders = (struct operator_orders){0};
}

int operator_orders_copy(struct operator_orders *to, const struct operator_orders *from)
{
    *to = (struct operator_orders){.suspension_count = from->suspension_count,
                                   .reroute_count = from->reroute_count};
    to->suspensions = calloc(from->suspension_count + 1, sizeof(*to->suspensions));
    to->reroutes = calloc(from->reroute_count + 1, sizeof(*to->reroutes));
    if (to->suspensions == NULL || to->reroutes == NULL) {
        operator_orders_free(to);
        return -ENOMEM;
    }
    if (from->suspension_count > 0) {
        memcpy(to->suspensions, from->suspensions,
               from->suspension_count * sizeof(*to->suspensions));
    }
    if (from->reroute_count > 0) {
        memcpy(to->reroutes, from->reroutes, from->reroute_count * sizeof(*to->reroutes));
    }
    return 0;
}

/* ---- Changing ---- */

static bool is_text(const char *text)
{
    json_t *json = json_string(text);
    json_decref(json);
    return json != NULL;
}

/* Room for one more. NULL: memory is short. */
static void *grown(void *all, uint32_t count, size_t size)
{
    return realloc(all, (count + 1) * size);
}

int operator_orders_suspend(struct operator_orders *orders, const struct operator_suspension *said)
{
    uint32_t i = 0;
    if (!is_text(said->name) || !is_text(said->reason)) {
        return -EILSEQ;
    }
    while (i < orders->suspension_count &&
           !operator_suspension_same(&orders->suspensions[i], said)) {
        i++;
    }
    if (i == orders->suspension_count) {
        if (i >= OPERATOR_SUSPENSIONS_MAX) {
            return -ENOSPC;
        }
        void *all = grown(orders->suspensions, i, sizeof(*orders->suspensions));
        if (all == NULL) {
            return -ENOMEM;
        }
        orders->suspensions = all;
        orders->suspension_count++;
    }
    orders->suspensions[i] = *said;
    return 0;
}

static void suspension_leave(struct operator_orders *orders, uint32_t index)
{
    orders->suspension_count--;
    memmove(&orders->suspensions[index], &orders->suspensions[index + 1],
            (orders->suspension_count - index) * sizeof(orders->suspensions[0]));
}

uint32_t operator_orders_resume(struct operator_orders *orders,
                                const struct operator_suspension *like)
{
    uint32_t count = 0;
    for (uint32_t i = orders->suspension_count; i-- > 0;) {
        if (like == NULL || operator_suspension_same(&orders->suspensions[i], like)) {
            suspension_leave(orders, i);
            count++;
        }
    }
    return count;
}

static void reroute_leave(struct operator_orders *orders, uint32_t index)
{
    orders->reroute_count--;
    memmove(&orders->reroutes[index], &orders->reroutes[index + 1],
            (orders->reroute_count - index) * sizeof(orders->reroutes[0]));
}

static bool has_key(const char *words, const char *key)
{
    size_t size = strlen(key);
    const char *word = words;
    while (word != NULL && strncmp(word, key, size) != 0) {
        word = strchr(word, ' ');
        word = word != NULL ? word + 1 : NULL;
    }
    return word != NULL;
}

bool operator_reroute_replaces(const struct operator_reroute *said,
                               const struct operator_reroute *before)
{
    if (strcmp(said->words, "all") == 0 || strcmp(said->words, "all=") == 0) {
        return said->since_wall_s >= before->since_wall_s; /* the clock may have been set back */
    }
    /* Mail that waited for a next hop may have been moved away from it by the other; what was young then is older now. */
    return strcmp(said->words, before->words) == 0 && !has_key(said->words, "site=") &&
           !has_key(said->words, "younger=");
}

int operator_orders_reroute(struct operator_orders *orders, const struct operator_reroute *said)
{
    if (!is_text(said->to) || !is_text(said->words)) {
        return -EILSEQ;
    }
    for (uint32_t i = orders->reroute_count; i-- > 0;) {
        if (operator_reroute_replaces(said, &orders->reroutes[i])) {
            reroute_leave(orders, i);
        }
    }
    if (orders->reroute_count == 0 && strcmp(said->to, OPERATOR_TO_ROUTES) == 0) {
        return 0;
    }
    if (orders->reroute_count >= OPERATOR_REROUTES_MAX) {
        return -ENOSPC;
    }
    void *all = grown(orders->reroutes, orders->reroute_count, sizeof(*orders->reroutes));
    if (all == NULL) {
        return -ENOMEM;
    }
    orders->reroutes = all;
    orders->reroutes[orders->reroute_count++] = *said;
    return 0;
}

void operator_orders_tidy(struct operator_orders *orders, int64_t now_wall_s,
                          int64_t mail_age_max_s)
{
    for (uint32_t i = orders->suspension_count; i-- > 0;) {
        if (orders->suspensions[i].until_wall_s <= now_wall_s) {
            suspension_leave(orders, i);
        }
    }
    for (uint32_t i = orders->reroute_count; i-- > 0;) {
        if (now_wall_s - orders->reroutes[i].since_wall_s > mail_age_max_s) {
            reroute_leave(orders, i);
        }
    }
}

/* ---- Writing ---- */

struct writing {
    char *text;
    size_t size;
    bool failed;
};

/* The line is given. */
static void line_add(struct writing *writing, json_t *line)
{
    char *text = line != NULL ? json_dumps(line, JSON_COMPACT) : NULL;
    size_t size = text != NULL ? strlen(text) : 0;
    char *all = text != NULL ? realloc(writing->text, writing->size + size + 2) : NULL;
    json_decref(line);
    if (all == NULL) {
        writing->failed = true;
    } else {
        writing->text = all;
        memcpy(all + writing->size, text, size);
        memcpy(all + writing->size + size, "\n", 2);
        writing->size += size + 1;
    }
    free(text);
}

char *operator_orders_write(const struct operator_orders *orders)
{
    struct writing writing = {0};
    line_add(&writing,
             json_pack("{s:s,s:i,s:i}", "tubepost", "operator", "version", VERSION, "entries",
                       (int)(orders->suspension_count + orders->reroute_count)));
    for (uint32_t i = 0; i < orders->suspension_count; i++) {
        const struct operator_suspension *said = &orders->suspensions[i];
        line_add(&writing,
                 json_pack("{s:s,s:s,s:I,s:I,s:I,s:s}", "suspend", operator_of_name(said->of),
                           "name", said->name, "since", (json_int_t)said->since_wall_s, "until",
                           (json_int_t)said->until_wall_s, "uid", (json_int_t)said->user, "text",
                           said->reason));
    }
    for (uint32_t i = 0; i < orders->reroute_count; i++) {
        const struct operator_reroute *said = &orders->reroutes[i];
        line_add(&writing,
                 json_pack("{s:s,s:s,s:I,s:I}", "reroute", said->to, "of", said->words, "since",
                           (json_int_t)said->since_wall_s, "uid", (json_int_t)said->user));
    }
    if (writing.failed) {
        free(writing.text);
        return NULL;
    }
    return writing.text;
}

/* ---- Reading ---- */

/* One line of it: its keys, each looked for once. */
struct reading {
    struct operator_orders *orders;
    json_int_t entries;
    char *problem;
};

static int wrong(const struct reading *reading, const char *key, const char *expected)
{
    snprintf(reading->problem, OPERATOR_PROBLEM_MAX, "%s: expected %s", key, expected);
    return -EINVAL;
}

static int text_read(const struct reading *reading, const json_t *line, const char *key, char *text,
                     size_t room)
{
    const char *value = json_string_value(json_object_get(line, key));
    if (value == NULL || strlen(value) >= room) {
        return wrong(reading, key, "a text that is not too long");
    }
    memcpy(text, value, strlen(value) + 1);
    return 0;
}

static int number_read(const struct reading *reading, const json_t *line, const char *key,
                       int64_t *number)
{
    const json_t *value = json_object_get(line, key);
    if (!json_is_integer(value)) {
        return wrong(reading, key, "a number");
    }
    *number = json_integer_value(value);
    return 0;
}

static int head_read(struct reading *reading, const json_t *line)
{
    const char *what = json_string_value(json_object_get(line, "tubepost"));
    int64_t version = 0, entries = -1;
    if (what == NULL || strcmp(what, "operator") != 0) {
        return wrong(reading, "tubepost", "\"operator\"");
    }
    int status = number_read(reading, line, "version", &version);
    if (status == 0 && version != VERSION) {
        status = wrong(reading, "version", "1: a later tubepostd has written it");
    }
    status = status == 0 ? number_read(reading, line, "entries", &entries) : status;
    if (status == 0 &&
        (entries < 0 || entries > OPERATOR_SUSPENSIONS_MAX + OPERATOR_REROUTES_MAX)) {
        status = wrong(reading, "entries", "a number that is not too large");
    }
    reading->entries = entries;
    return status;
}

static int suspension_read(struct reading *reading, const json_t *line)
{
    struct operator_suspension said = {0};
    const char *of = json_string_value(json_object_get(line, "suspend"));
    unsigned which = 0;
    while (of != NULL && which < OPERATOR_OFS && strcmp(of, of_names[which]) != 0) {
        which++;
    }
    if (of == NULL || which == OPERATOR_OFS) {
        return wrong(reading, "suspend", "site, sender, domain, recipient or pattern");
    }
    said.of = (uint8_t)which;
    int status = text_read(reading, line, "name", said.name, sizeof(said.name));
    status = status == 0 && said.name[0] == '\0' ? wrong(reading, "name", "a name") : status;
    status =
        status == 0 ? text_read(reading, line, "text", said.reason, sizeof(said.reason)) : status;
    status = status == 0 ? number_read(reading, line, "since", &said.since_wall_s) : status;
    status = status == 0 ? number_read(reading, line, "until", &said.until_wall_s) : status;
    status = status == 0 ? number_read(reading, line, "uid", &said.user) : status;
    status = status == 0 ? operator_orders_suspend(reading->orders, &said) : status;
    return status == -ENOSPC ? wrong(reading, "suspend", "fewer of them") : status;
}

static int reroute_read(struct reading *reading, const json_t *line)
{
    struct operator_reroute said = {0};
    int status = text_read(reading, line, "reroute", said.to, sizeof(said.to));
    status = status == 0 ? text_read(reading, line, "of", said.words, sizeof(said.words)) : status;
    status = status == 0 ? number_read(reading, line, "since", &said.since_wall_s) : status;
    status = status == 0 ? number_read(reading, line, "uid", &said.user) : status;
    status = status == 0 ? operator_orders_reroute(reading->orders, &said) : status;
    return status == -ENOSPC ? wrong(reading, "reroute", "fewer of them") : status;
}

static int line_read(struct reading *reading, struct slice text, unsigned number)
{
    json_error_t error;
    json_t *line = json_loadb((const char *)text.bytes, text.size, JSON_REJECT_DUPLICATES, &error);
    if (line == NULL) {
        snprintf(reading->problem, OPERATOR_PROBLEM_MAX, "column %d: %.120s", error.column,
                 error.text);
        return -EINVAL;
    }
    int status = number == 1                                ? head_read(reading, line)
                 : json_object_get(line, "suspend") != NULL ? suspension_read(reading, line)
                 : json_object_get(line, "reroute") != NULL
                     ? reroute_read(reading, line)
                     : wrong(reading, "line", "a suspend or a reroute");
    json_decref(line);
    return status;
}

int operator_orders_read(struct operator_orders *orders, struct slice text, unsigned *line,
                         char problem[OPERATOR_PROBLEM_MAX])
{
    struct reading reading = {.orders = orders, .problem = problem};
    int status = 0;
    *orders = (struct operator_orders){0};
    problem[0] = '\0';
    for (*line = 1; status == 0 && text.size > 0; ++*line) {
        const uint8_t *end = memchr(text.bytes, '\n', text.size);
        if (end == NULL) {
            status = wrong(&reading, "line", "its end: the file was cut off");
            break;
        }
        size_t size = (size_t)(end - text.bytes);
        status = line_read(&reading, slice_first(text, size), *line);
        if (status < 0) {
            break;
        }
        text = slice_from(text, size + 1);
    }
    if (status == 0 && (*line == 1 || (json_int_t)*line - 2 != reading.entries)) {
        status = wrong(&reading, "entries", "as many lines as it says: the file was cut off");
    }
    if (status < 0) {
        operator_orders_free(orders);
    }
    return status;
}
