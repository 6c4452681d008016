#include "engine/control/request.h"

#define WORDS_MAX (4 + CONTROL_WORDS_MAX)

/* Splits at blanks. Returns how many words, or -EINVAL: too many. */
static int split(struct slice line, struct slice words[WORDS_MAX])
{
    int count = 0;
    for (size_t i = 0; i < line.size;) {
        if (line.bytes[i] == ' ' || line.bytes[i] == '\r') {
            i++;
            continue;
        }
        size_t start = i;
        while (i < line.size && line.bytes[i] != ' ' && line.bytes[i] != '\r') {
            i++;
        }
        if (count == WORDS_MAX) {
            return -EINVAL;
        }
        words[count++] = slice_of(line.bytes + start, i - start);
    }
    return count;
}

static int parse_limit(struct slice word, uint32_t *limit)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < word.size; i++) {
        if (word.bytes[i] < '0' || word.bytes[i] > '9' || i > 8) {
            return -EINVAL;
        }
        sum = sum * 10 + (uint32_t)(word.bytes[i] - '0');
    }
    *limit = sum > CONTROL_LIMIT_MAX ? CONTROL_LIMIT_MAX : sum;
    return sum == 0 ? -EINVAL : 0;
}

static bool word_is(struct slice word, const char *text)
{
    return slice_equal(word, slice_text(text));
}

static const struct {
    const char *word;
    enum control_verb verb;
} net_words[] = {
    {"connections", CONTROL_NET_CONNECTIONS}, {"neighbors", CONTROL_NET_NEIGHBORS},
    {"routes", CONTROL_NET_ROUTES},           {"trace", CONTROL_NET_TRACE},
    {"counters", CONTROL_NET_COUNTERS},       {"capture", CONTROL_NET_CAPTURE},
};

/* net WHAT [LIMIT [CURSOR [WORD...]]] */
static int parse_net(struct control_request *request, const struct slice *words, int count)
{
    const size_t all = sizeof net_words / sizeof net_words[0];
    size_t which = 0;
    while (which < all && !word_is(words[1], net_words[which].word)) {
        which++;
    }
    if (which == all) {
        return -EINVAL;
    }
    request->verb = net_words[which].verb;
    if (request->verb == CONTROL_NET_CAPTURE) {
        if (count - 2 > CONTROL_WORDS_MAX) {
            return -EINVAL;
        }
        request->word_count = (unsigned)count - 2;
        memcpy(request->words, words + 2, request->word_count * sizeof words[0]);
        return 0;
    }
    if (count >= 3 && parse_limit(words[2], &request->limit) < 0) {
        return -EINVAL;
    }
    request->cursor = slice_of(words[0].bytes, 0);
    if (count >= 4) {
        request->cursor = words[3];
        request->word_count = (unsigned)count - 4;
        memcpy(request->words, words + 4, request->word_count * sizeof words[0]);
    }
    return request->verb == CONTROL_NET_COUNTERS && count > 2 ? -EINVAL : 0;
}

static const struct {
    const char *word;
    enum control_verb verb;
} queue_words[] = {
    {"list", CONTROL_QUEUE_LIST},     {"show", CONTROL_QUEUE_SHOW},
    {"body", CONTROL_QUEUE_BODY},     {"summary", CONTROL_QUEUE_SUMMARY},
    {"hold", CONTROL_QUEUE_HOLD},     {"release", CONTROL_QUEUE_RELEASE},
    {"flush", CONTROL_QUEUE_FLUSH},   {"delete", CONTROL_QUEUE_DELETE},
    {"bounce", CONTROL_QUEUE_BOUNCE}, {"suspend", CONTROL_QUEUE_SUSPEND},
    {"resume", CONTROL_QUEUE_RESUME}, {"suspensions", CONTROL_QUEUE_SUSPENSIONS},
    {"jobs", CONTROL_QUEUE_JOBS},     {"job", CONTROL_QUEUE_JOB},
    {"cancel", CONTROL_QUEUE_CANCEL}, {"reroute", CONTROL_QUEUE_REROUTE},
};

/* queue WHAT [WORD...] */
static int parse_queue(struct control_request *request, const struct slice *words, int count)
{
    const size_t all = sizeof queue_words / sizeof queue_words[0];
    size_t which = 0;
    while (which < all && !word_is(words[1], queue_words[which].word)) {
        which++;
    }
    if (which == all || count - 2 > CONTROL_WORDS_MAX) {
        return -EINVAL;
    }
    request->verb = queue_words[which].verb;
    request->word_count = (unsigned)count - 2;
    memcpy(request->words, words + 2, request->word_count * sizeof words[0]);
    return 0;
}

static const struct {
    const char *word;
    enum control_verb verb;
} mailbox_words[] = {
    {"who", CONTROL_MAILBOX_WHO},         {"kick", CONTROL_MAILBOX_KICK},
    {"imap", CONTROL_MAILBOX_IMAP},       {"quota", CONTROL_MAILBOX_QUOTA},
    {"kept", CONTROL_MAILBOX_KEPT},       {"undelete", CONTROL_MAILBOX_UNDELETE},
    {"users", CONTROL_MAILBOX_USERS},     {"check", CONTROL_MAILBOX_CHECK},
    {"rebuild", CONTROL_MAILBOX_REBUILD},
};

/* mailbox WHAT [WORD...] */
static int parse_mailbox(struct control_request *request, const struct slice *words, int count)
{
    const size_t all = sizeof mailbox_words / sizeof mailbox_words[0];
    size_t which = 0;
    while (which < all && !word_is(words[1], mailbox_words[which].word)) {
        which++;
    }
    if (which == all || count - 2 > CONTROL_WORDS_MAX) {
        return -EINVAL;
    }
    request->verb = mailbox_words[which].verb;
    request->word_count = (unsigned)count - 2;
    memcpy(request->words, words + 2, request->word_count * sizeof words[0]);
    return 0;
}

int control_request_parse(struct control_request *request, struct slice line)
{
    struct slice words[WORDS_MAX];
    int count = split(line, words);
    *request =
        (struct control_request){.limit = CONTROL_LIMIT_DEFAULT, .gathering = request->gathering};
    if (count == 1 && word_is(words[0], "status")) {
        request->verb = CONTROL_STATUS;
        return 0;
    }
    if (count == 2 && word_is(words[0], "resolve")) {
        request->verb = CONTROL_RESOLVE;
        request->words[0] = words[1];
        request->word_count = 1;
        return 0;
    }
    if (count == 2 && word_is(words[0], "tls") && word_is(words[1], "report")) {
        request->verb = CONTROL_TLS_REPORT;
        return 0;
    }
    if (count >= 2 && word_is(words[0], "net")) {
        return parse_net(request, words, count);
    }
    if (count >= 2 && word_is(words[0], "mailbox")) {
        return parse_mailbox(request, words, count);
    }
    return count >= 2 && word_is(words[0], "queue") ? parse_queue(request, words, count) : -EINVAL;
}
