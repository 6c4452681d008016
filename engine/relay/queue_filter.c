#include "engine/relay/queue_filter.h"
#include <stdlib.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define PATTERN_HEAP_KIB 64u /* of one match */
#define PATTERN_DEPTH_MAX 500u
#define PATTERN_NESTING_MAX 50u /* of parentheses */

struct queue_pattern {
    pcre2_code *code;
};

struct queue_matcher {
    pcre2_match_data *found;
    pcre2_match_context *limits;
    uint64_t gave_up;
    bool by_sender; /* the pattern was found in the sender of this message */
};

/* ---- The words ---- */

static int pattern_read(struct queue_filter *filter, const char *text,
                        char problem[QUEUE_FILTER_PROBLEM_MAX])
{
    int error;
    size_t offset;
    if (strlen(text) > QUEUE_FILTER_PATTERN_MAX) {
        snprintf(problem, QUEUE_FILTER_PROBLEM_MAX, "pattern: longer than %u bytes",
                 QUEUE_FILTER_PATTERN_MAX);
        return -EINVAL;
    }
    pcre2_compile_context *limits = pcre2_compile_context_create(NULL);
    struct queue_pattern *pattern = calloc(1, sizeof(*pattern));
    if (limits == NULL || pattern == NULL) {
        snprintf(problem, QUEUE_FILTER_PROBLEM_MAX, "pattern: out of memory");
        pcre2_compile_context_free(limits);
        free(pattern);
        return -EINVAL;
    }
    pcre2_set_parens_nest_limit(limits, PATTERN_NESTING_MAX);
    pattern->code =
        pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                      PCRE2_CASELESS | PCRE2_NEVER_BACKSLASH_C, &error, &offset, limits);
    pcre2_compile_context_free(limits);
    if (pattern->code == NULL) {
        PCRE2_UCHAR words[96];
        pcre2_get_error_message(error, words, sizeof(words));
        snprintf(problem, QUEUE_FILTER_PROBLEM_MAX, "pattern: %s, at character %zu",
                 (const char *)words, offset + 1);
        free(pattern);
        return -EINVAL;
    }
    filter->pattern = pattern;
    memcpy(filter->pattern_text, text, strlen(text) + 1);
    return 0;
}

int queue_duration_read(const char *text, uint64_t *seconds)
{
    static const struct {
        char unit;
        uint32_t seconds;
    } units[] = {{'\0', 1}, {'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9') {
        return -EINVAL;
    }
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]) && errno == 0; i++) {
        if (*end == units[i].unit && (*end == '\0' || end[1] == '\0') && number <= UINT32_MAX) {
            *seconds = number * units[i].seconds;
            return 0;
        }
    }
    return -EINVAL;
}

static int ids_read(struct queue_filter *filter, const char *text)
{
    struct slice rest = slice_text(text);
    while (rest.size > 0) {
        const uint8_t *comma = memchr(rest.bytes, ',', rest.size);
        size_t size = comma != NULL ? (size_t)(comma - rest.bytes) : rest.size;
        if (filter->id_count == QUEUE_FILTER_IDS_MAX ||
            message_id_parse(slice_first(rest, size), &filter->ids[filter->id_count]) < 0) {
            return -EINVAL;
        }
        filter->id_count++;
        rest = slice_from(rest, comma != NULL ? size + 1 : size);
    }
    return filter->id_count > 0 ? 0 : -EINVAL;
}

static int text_read(char kept[QUEUE_FILTER_TEXT_MAX], const char *value)
{
    size_t size = strlen(value);
    if (size == 0 || size >= QUEUE_FILTER_TEXT_MAX) {
        return -EINVAL;
    }
    memcpy(kept, value, size + 1);
    return 0;
}

static int duration_read(uint64_t *seconds, const char *value)
{
    return queue_duration_read(value, seconds) < 0 || *seconds == 0 ? -EINVAL : 0;
}

static int number_read(uint64_t *number, const char *value)
{
    char *end = NULL;
    *number = strtoull(value, &end, 10);
    return value[0] < '1' || value[0] > '9' || *end != '\0' || strlen(value) > 18 ? -EINVAL : 0;
}

static int flag_read(uint8_t *hold, enum queue_hold wanted, const char *value)
{
    bool refused = value[0] != '\0' || (*hold != QUEUE_HOLD_ANY && *hold != wanted);
    *hold = (uint8_t)wanted;
    return refused ? -EINVAL : 0;
}

static bool key_is(struct slice key, const char *word)
{
    return slice_equal(key, slice_text(word));
}

int queue_filter_read(struct queue_filter *filter, struct slice key, const char *value,
                      char problem[QUEUE_FILTER_PROBLEM_MAX])
{
    int status = -ENOENT;
    if (key_is(key, "id")) {
        status = ids_read(filter, value);
    } else if (key_is(key, "sender")) {
        status = text_read(filter->sender, value);
    } else if (key_is(key, "domain")) {
        status = text_read(filter->domain, value);
    } else if (key_is(key, "recipient")) {
        status = text_read(filter->recipient, value);
    } else if (key_is(key, "site")) {
        status = text_read(filter->site, value);
    } else if (key_is(key, "older")) {
        status = duration_read(&filter->older_s, value);
    } else if (key_is(key, "younger")) {
        status = duration_read(&filter->younger_s, value);
    } else if (key_is(key, "limit")) {
        status = number_read(&filter->limit, value);
    } else if (key_is(key, "held")) {
        status = flag_read(&filter->hold, QUEUE_HOLD_HELD, value);
    } else if (key_is(key, "ready")) {
        status = flag_read(&filter->hold, QUEUE_HOLD_READY, value);
    } else if (key_is(key, "pattern") && filter->pattern == NULL) {
        return pattern_read(filter, value, problem);
    } else if (key_is(key, "deferred")) {
        filter->deferred = true;
        status = value[0] != '\0' ? -EINVAL : 0;
    } else if (key_is(key, "all")) {
        filter->all = true;
        status = value[0] != '\0' ? -EINVAL : 0;
    }
    if (status == -EINVAL) {
        snprintf(problem, QUEUE_FILTER_PROBLEM_MAX, "%.*s: '%.80s' is not understood",
                 (int)key.size, (const char *)key.bytes, value);
    }
    return status;
}

void queue_filter_init(struct queue_filter *filter)
{
    memset(filter, 0, sizeof(*filter));
}

void queue_filter_free(struct queue_filter *filter)
{
    if (filter->pattern != NULL) {
        pcre2_code_free(filter->pattern->code);
        free(filter->pattern);
        filter->pattern = NULL;
    }
}

bool queue_filter_of_recipients(const struct queue_filter *filter)
{
    return filter->deferred || filter->domain[0] != '\0' || filter->recipient[0] != '\0' ||
           filter->site[0] != '\0' || filter->pattern != NULL;
}

bool queue_filter_is_empty(const struct queue_filter *filter)
{
    return !queue_filter_of_recipients(filter) && filter->id_count == 0 &&
           filter->hold == QUEUE_HOLD_ANY && filter->older_s == 0 && filter->younger_s == 0 &&
           filter->sender[0] == '\0';
}

/* ---- On a shard ---- */

struct queue_matcher *queue_matcher_open(const struct queue_filter *filter)
{
    struct queue_matcher *matcher = calloc(1, sizeof(*matcher));
    if (matcher == NULL || filter->pattern == NULL) {
        return matcher;
    }
    matcher->found = pcre2_match_data_create(1, NULL);
    matcher->limits = pcre2_match_context_create(NULL);
    if (matcher->found == NULL || matcher->limits == NULL) {
        queue_matcher_close(matcher);
        return NULL;
    }
    pcre2_set_match_limit(matcher->limits, QUEUE_PATTERN_STEPS_MAX);
    pcre2_set_depth_limit(matcher->limits, PATTERN_DEPTH_MAX);
    pcre2_set_heap_limit(matcher->limits, PATTERN_HEAP_KIB);
    return matcher;
}

void queue_matcher_close(struct queue_matcher *matcher)
{
    if (matcher != NULL) {
        pcre2_match_data_free(matcher->found);
        pcre2_match_context_free(matcher->limits);
        free(matcher);
    }
}

uint64_t queue_matcher_gave_up(const struct queue_matcher *matcher)
{
    return matcher->gave_up;
}

static bool pattern_found(const struct queue_filter *filter, struct queue_matcher *matcher,
                          struct slice text)
{
    if (text.size == 0) {
        text = slice_text("");
    }
    int result = pcre2_match(filter->pattern->code, text.bytes, text.size, 0, 0, matcher->found,
                             matcher->limits);
    if (result < 0 && result != PCRE2_ERROR_NOMATCH) {
        matcher->gave_up++;
    }
    return result >= 0;
}

static struct slice domain_of(struct slice mailbox)
{
    const uint8_t *at = mailbox.size > 0 ? memrchr(mailbox.bytes, '@', mailbox.size) : NULL;
    return slice_from(mailbox, at == NULL ? mailbox.size : (size_t)(at - mailbox.bytes) + 1);
}

static bool domain_fits(struct slice domain, struct slice wanted)
{
    if (wanted.size > 0 && wanted.bytes[0] == '.') {
        return domain.size > wanted.size &&
               slice_equal_nocase(slice_from(domain, domain.size - wanted.size), wanted);
    }
    return slice_equal_nocase(domain, wanted);
}

static bool sender_fits(const char *wanted, struct slice sender)
{
    struct slice text = slice_text(wanted);
    if (strcmp(wanted, "<>") == 0) {
        return sender.size == 0;
    }
    if (wanted[0] == '@') {
        return domain_fits(domain_of(sender), slice_from(text, 1));
    }
    return strchr(wanted, '@') != NULL ? slice_equal_nocase(sender, text)
                                       : domain_fits(domain_of(sender), text);
}

static bool id_fits(const struct queue_filter *filter, uint64_t id)
{
    uint32_t i = 0;
    while (i < filter->id_count && filter->ids[i] != id) {
        i++;
    }
    return i < filter->id_count || filter->id_count == 0;
}

bool queue_filter_message(const struct queue_filter *filter, struct queue_matcher *matcher,
                          const struct message *message, int64_t now_wall_s)
{
    int64_t passed_s = now_wall_s - message_arrival_wall_s(message);
    uint64_t age_s = passed_s > 0 ? (uint64_t)passed_s : 0;
    bool held = (message_flags(message) & SPOOL_HELD) != 0;
    if (!id_fits(filter, message->id) || (filter->older_s > 0 && age_s <= filter->older_s) ||
        (filter->younger_s > 0 && age_s >= filter->younger_s) ||
        (filter->hold == QUEUE_HOLD_HELD && !held) || (filter->hold == QUEUE_HOLD_READY && held) ||
        (filter->sender[0] != '\0' &&
         !sender_fits(filter->sender, message_reverse_path(message)))) {
        return false;
    }
    matcher->by_sender =
        filter->pattern != NULL && pattern_found(filter, matcher, message_reverse_path(message));
    return true;
}

bool queue_filter_recipient(const struct queue_filter *filter, struct queue_matcher *matcher,
                            struct slice forward_path, const struct queue_facts *facts)
{
    if ((filter->deferred && !facts->deferred) ||
        (filter->domain[0] != '\0' &&
         !domain_fits(domain_of(forward_path), slice_text(filter->domain))) ||
        (filter->recipient[0] != '\0' &&
         !slice_equal_nocase(forward_path, slice_text(filter->recipient))) ||
        (filter->site[0] != '\0' && !slice_equal_nocase(facts->site, slice_text(filter->site)))) {
        return false;
    }
    return filter->pattern == NULL || matcher->by_sender ||
           pattern_found(filter, matcher, forward_path) ||
           (facts->reason.size > 0 && pattern_found(filter, matcher, facts->reason));
}
