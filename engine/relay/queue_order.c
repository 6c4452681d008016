#include "engine/relay/queue_order.h"
#include "engine/control/words.h"
#include <stdlib.h>

/* Decimal, at most `most`. */
static int number_read(const char *text, uint64_t most, uint64_t *number)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9') {
        return -EINVAL;
    }
    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno != 0 || *end != '\0' || *number > most ? -EINVAL : 0;
}

static int count_read(const char *text, uint64_t most, uint32_t *count)
{
    uint64_t number;
    int status = number_read(text, most, &number);
    *count = status == 0 ? (uint32_t)number : 0;
    return status == 0 && number == 0 ? -EINVAL : status;
}

static int cursor_read(struct queue_order *order, char *text)
{
    uint64_t shard;
    char *point = strchr(text, '.');
    if (point == NULL) {
        return -EINVAL;
    }
    *point = '\0';
    if (number_read(text, 255, &shard) < 0 ||
        number_read(point + 1, UINT64_MAX, &order->place) < 0) {
        return -EINVAL;
    }
    order->shard = (uint32_t)shard;
    return 0;
}

static int by_read(struct queue_order *order, const char *text)
{
    static const char *const names[] = {"domain", "site", "sender"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            order->by = (uint8_t)i;
            return 0;
        }
    }
    return -EINVAL;
}

/* One line of printable text: it goes into reports and the log. */
static int text_read(struct queue_order *order, const char *text)
{
    size_t size = strlen(text);
    if (size == 0 || size > QUEUE_ORDER_TEXT_MAX) {
        return -EINVAL;
    }
    for (size_t i = 0; i < size; i++) {
        if (text[i] < ' ' || text[i] > '~') {
            return -EINVAL;
        }
    }
    memcpy(order->text, text, size + 1);
    return 0;
}

static int for_read(struct queue_order *order, const char *text)
{
    return queue_duration_read(text, &order->for_s) < 0 || order->for_s == 0 ||
                   order->for_s > QUEUE_FOR_MAX_S
               ? -EINVAL
               : 0;
}

/* A word that is no condition of the filter. -ENOENT: unknown. */
static int own_read(struct queue_order *order, struct slice key, char *value)
{
    static const struct {
        const char *key;
        enum control_verb verb;
    } known[] = {
        {"page", CONTROL_QUEUE_LIST},    {"cursor", CONTROL_QUEUE_LIST},
        {"from", CONTROL_QUEUE_SHOW},    {"from", CONTROL_QUEUE_BODY},
        {"by", CONTROL_QUEUE_SUMMARY},   {"top", CONTROL_QUEUE_SUMMARY},
        {"text", CONTROL_QUEUE_BOUNCE},  {"to", CONTROL_QUEUE_REROUTE},
        {"text", CONTROL_QUEUE_SUSPEND}, {"for", CONTROL_QUEUE_SUSPEND},
        {"job", CONTROL_QUEUE_JOB},      {"job", CONTROL_QUEUE_CANCEL},
    };
    const char *word = NULL;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].verb == order->verb && slice_equal(key, slice_text(known[i].key))) {
            word = known[i].key;
        }
    }
    if (word == NULL) {
        return -ENOENT;
    }
    switch (word[0]) {
    case 'p':
        return count_read(value, QUEUE_PAGE_MAX, &order->page);
    case 'c':
        return cursor_read(order, value);
    case 'b':
        return by_read(order, value);
    case 'j':
        return count_read(value, UINT32_MAX, &order->job);
    case 't':
        if (word[1] == 'o' && word[2] == '\0') {
            return text_read(order, value);
        }
        return word[1] == 'o' ? count_read(value, QUEUE_TOP_MAX, &order->top)
                              : text_read(order, value);
    default:
        return word[1] == 'r' ? number_read(value, UINT64_MAX, &order->from)
                              : for_read(order, value);
    }
}

static int word_read(struct queue_order *order, struct slice word,
                     char problem[QUEUE_FILTER_PROBLEM_MAX])
{
    struct slice key;
    char value[QUEUE_FILTER_IDS_MAX * MESSAGE_ID_TEXT + 1];
    int status = control_word_read(word, &key, value, sizeof(value));
    if (status == 0) {
        status = own_read(order, key, value);
        if (status == -ENOENT) {
            status = queue_filter_read(&order->filter, key, value, problem);
        }
    }
    if (status < 0 && problem[0] == '\0') {
        snprintf(problem, QUEUE_FILTER_PROBLEM_MAX, "'%.*s' is not understood",
                 word.size > 100 ? 100 : (int)word.size, (const char *)word.bytes);
    }
    return status;
}

/* ---- What must be said ---- */

/* One condition, which holds for new mail too. */
static bool names_one_thing(const struct queue_filter *filter)
{
    struct queue_filter rest = *filter;
    unsigned named = (filter->site[0] != '\0') + (filter->sender[0] != '\0') +
                     (filter->domain[0] != '\0') + (filter->recipient[0] != '\0') +
                     (filter->pattern != NULL);
    rest.site[0] = rest.sender[0] = rest.domain[0] = rest.recipient[0] = '\0';
    rest.pattern = NULL;
    return named == 1 && queue_filter_is_empty(&rest);
}

/* NULL: all is there. */
static const char *lacks(const struct queue_order *order)
{
    static const char whole[] = "this would concern the whole queue: say which mail, or all";
    const struct queue_filter *filter = &order->filter;
    switch (order->verb) {
    case CONTROL_QUEUE_SHOW:
    case CONTROL_QUEUE_BODY:
        return filter->id_count == 1 ? NULL : "expected id=ID";
    case CONTROL_QUEUE_JOB:
    case CONTROL_QUEUE_CANCEL:
        return order->job > 0 ? NULL : "expected job=NUMBER";
    case CONTROL_QUEUE_SUSPEND:
        return names_one_thing(filter)
                   ? NULL
                   : "expected one of a site, a sender, a domain, a recipient or a pattern";
    case CONTROL_QUEUE_RESUME:
        return filter->all || names_one_thing(filter)
                   ? NULL
                   : "expected one of a site, a sender, a domain, a recipient or a pattern, or all";
    case CONTROL_QUEUE_REROUTE:
        if (order->text[0] == '\0') {
            return "expected to=NEXT-HOP";
        }
        return filter->all || !queue_filter_is_empty(filter) ? NULL : whole;
    case CONTROL_QUEUE_HOLD:
    case CONTROL_QUEUE_DELETE:
    case CONTROL_QUEUE_BOUNCE:
        return filter->all || !queue_filter_is_empty(filter) ? NULL : whole;
    default:
        return NULL;
    }
}

int queue_order_read(struct queue_order *order, const struct control_request *request,
                     char problem[QUEUE_FILTER_PROBLEM_MAX])
{
    *order = (struct queue_order){.verb = request->verb,
                                  .page = QUEUE_PAGE_DEFAULT,
                                  .top = QUEUE_TOP_DEFAULT,
                                  .for_s = QUEUE_FOR_DEFAULT_S};
    queue_filter_init(&order->filter);
    problem[0] = '\0';
    int status = 0;
    for (unsigned i = 0; i < request->word_count && status == 0; i++) {
        status = word_read(order, request->words[i], problem);
    }
    const char *missing = status == 0 ? lacks(order) : NULL;
    if (missing != NULL) {
        snprintf(problem, QUEUE_FILTER_PROBLEM_MAX, "%s", missing);
        status = -EINVAL;
    }
    if (status < 0) {
        queue_order_free(order);
        return -EINVAL;
    }
    return 0;
}

void queue_order_free(struct queue_order *order)
{
    queue_filter_free(&order->filter);
}
