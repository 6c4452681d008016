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
        request->id = words[1];
        return 0;
    }
    if (count == 2 && word_is(words[0], "tls") && word_is(words[1], "report")) {
        request->verb = CONTROL_TLS_REPORT;
        return 0;
    }
    if (count >= 2 && word_is(words[0], "net")) {
        return parse_net(request, words, count);
    }
    if (count < 2 || count > 5 || !word_is(words[0], "queue")) {
        return -EINVAL;
    }
    if (word_is(words[1], "list") && count <= 4) {
        request->verb = CONTROL_QUEUE_LIST;
        request->cursor = count == 4 ? words[3] : slice_of(line.bytes, 0);
        return count >= 3 ? parse_limit(words[2], &request->limit) : 0;
    }
    request->id = count == 3 ? words[2] : slice_of(line.bytes, 0);
    if (word_is(words[1], "flush") && count <= 3) {
        request->verb = CONTROL_QUEUE_FLUSH;
        return 0;
    }
    if (word_is(words[1], "show") && count == 3) {
        request->verb = CONTROL_QUEUE_SHOW;
        return 0;
    }
    if (word_is(words[1], "delete") && count == 3) {
        request->verb = CONTROL_QUEUE_DELETE;
        return 0;
    }
    return -EINVAL;
}
