/* Does a message fit what is searched for (RFC 9051 §6.4.4)? */
#include "engine/mailbox/imap_search.h"
#include "proto/message/header.h"
#include "proto/sieve/moment.h"
#include <stdio.h>
#include <stdlib.h>

#define DAY_S 86400

static enum search_verdict verdict_of(bool yes)
{
    return yes ? SEARCH_YES : SEARCH_NO;
}

static int64_t day_of(int64_t s)
{
    return (s >= 0 ? s : s - (DAY_S - 1)) / DAY_S;
}

/* ---- What the entry says ---- */

static bool in_set(const struct search *search, const struct imap_search_key *key, bool by_uid)
{
    const struct imap_session *session = search->session;
    if (key->set.saved) {
        const struct imap_set saved = {.ranges = session->saved, .count = session->saved_count};
        return imap_set_contains(&saved, search->entry.uid, session->view.uid_last);
    }
    return by_uid ? imap_set_contains(&key->set, search->entry.uid,
                                      view_uid(&session->view, session->view.count))
                  : imap_set_contains(&key->set, search->number, session->view.count);
}

static bool has_flag(const struct search *search, const struct imap_search_key *key)
{
    static const struct {
        uint32_t of;
        uint8_t is;
    } flags[] = {{IMAP_FLAG_SEEN, MAILSTORE_SEEN},
                 {IMAP_FLAG_ANSWERED, MAILSTORE_ANSWERED},
                 {IMAP_FLAG_FLAGGED, MAILSTORE_FLAGGED},
                 {IMAP_FLAG_DELETED, MAILSTORE_DELETED},
                 {IMAP_FLAG_DRAFT, MAILSTORE_DRAFT}};
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (key->flag & flags[i].of) {
            return (search->entry.flags & flags[i].is) != 0;
        }
    }
    return false;
}

static bool has_keyword(const struct search *search, const struct imap_search_key *key)
{
    int bit = mailstore_keyword_bit(search->session->view.box, key->text);
    return bit >= 0 && (search->entry.keywords >> bit & 1) != 0;
}

static bool has_id(const struct search *search, const struct imap_search_key *key)
{
    uint64_t id = search->entry.text;
    char text[24];
    if (key->kind == IMAP_SEARCH_THREADID &&
        mailstore_thread(imap_session_store(search->session), search->session->view.box,
                         search->entry.uid, &id) != 0) {
        return false;
    }
    snprintf(text, sizeof(text), "%c%016llx", key->kind == IMAP_SEARCH_THREADID ? 'T' : 'M',
             (unsigned long long)id);
    return slice_equal(key->text, slice_text(text));
}

/* Three kinds in a row: before, on, since. */
static enum search_verdict by_day(const struct imap_search_key *key, unsigned first, int64_t day)
{
    return verdict_of(key->kind == first       ? day < key->day
                      : key->kind == first + 1 ? day == key->day
                                               : day >= key->day);
}

static bool by_age(const struct search *search, const struct imap_search_key *key)
{
    int64_t age = search->now_s - (int64_t)search->entry.internal_s;
    bool older = age >= 0 && (uint64_t)age >= key->number;
    return key->kind == IMAP_SEARCH_OLDER ? older : !older;
}

/* ---- What the header says ---- */

static struct search_word *word_of(const struct search *search, const struct imap_search_key *key)
{
    for (uint32_t i = 0; i < search->word_count; i++) {
        if (search->words[i].key == key) {
            return &search->words[i];
        }
    }
    return NULL;
}

/* The index knows that the word is not there. */
static bool is_excluded(const struct search *search, const struct search_word *word)
{
    return search->question != NULL &&
           search_question_excludes(search->question, (uint32_t)(word - search->words),
                                    search->entry.text);
}

static enum search_verdict in_field(const struct search *search, const struct imap_search_key *key,
                                    struct slice name)
{
    const struct search_word *word = word_of(search, key);
    struct slice rest = search_header(search);
    struct header_field field;
    if (search->stage < SEARCH_FIELDS ||
        (search->stage == SEARCH_FIELDS && !search_field_is_kept(name))) {
        return is_excluded(search, word) ? SEARCH_NO : SEARCH_UNKNOWN;
    }
    while (header_find_next(&rest, name, &field)) {
        if (word->bytes == 0 || search_field_has(field.value, word)) {
            return SEARCH_YES;
        }
    }
    return SEARCH_NO;
}

static enum search_verdict by_sent_day(const struct search *search,
                                       const struct imap_search_key *key)
{
    struct header_field field;
    struct sieve_moment moment;
    if (search->stage < SEARCH_FIELDS) {
        return SEARCH_UNKNOWN;
    }
    if (!header_find(search_header(search), slice_text("Date"), &field) ||
        !sieve_moment_read(field.value, &moment)) { /* RFC 5256 §2.2: the internal date instead */
        moment.utc_s = search->entry.internal_s;
        moment.zone_minutes = search->entry.zone_min;
    }
    return by_day(key, IMAP_SEARCH_SENTBEFORE, day_of(moment.utc_s + moment.zone_minutes * 60));
}

static enum search_verdict in_text(const struct search *search, const struct imap_search_key *key)
{
    const struct search_word *word = word_of(search, key);
    if (word->bytes == 0 || word->found) {
        return SEARCH_YES;
    }
    return search->stage == SEARCH_WHOLE || is_excluded(search, word) ? SEARCH_NO : SEARCH_UNKNOWN;
}

/* ---- Keys of keys ---- */

static enum search_verdict judge_and(const struct search *search, const struct imap_search_key *key)
{
    enum search_verdict all = SEARCH_YES;
    for (uint32_t i = 0; i < key->count; i++) {
        enum search_verdict one = search_judge(search, &key->keys[i]);
        if (one == SEARCH_NO) {
            return SEARCH_NO;
        }
        all = one == SEARCH_UNKNOWN ? SEARCH_UNKNOWN : all;
    }
    return all;
}

static enum search_verdict judge_or(const struct search *search, const struct imap_search_key *key)
{
    enum search_verdict any = SEARCH_NO;
    for (uint32_t i = 0; i < key->count; i++) {
        enum search_verdict one = search_judge(search, &key->keys[i]);
        if (one == SEARCH_YES) {
            return SEARCH_YES;
        }
        any = one == SEARCH_UNKNOWN ? SEARCH_UNKNOWN : any;
    }
    return any;
}

static enum search_verdict judge_not(const struct search *search, const struct imap_search_key *key)
{
    enum search_verdict one = search_judge(search, &key->keys[0]);
    return one == SEARCH_UNKNOWN ? SEARCH_UNKNOWN : verdict_of(one == SEARCH_NO);
}

static const char *field_of(const struct imap_search_key *key)
{
    return key->kind == IMAP_SEARCH_FROM  ? "From"
           : key->kind == IMAP_SEARCH_TO  ? "To"
           : key->kind == IMAP_SEARCH_CC  ? "Cc"
           : key->kind == IMAP_SEARCH_BCC ? "Bcc"
                                          : "Subject";
}

enum search_verdict search_judge(const struct search *search, const struct imap_search_key *key)
{
    const struct mailstore_entry *entry = &search->entry;
    int64_t zone_s = (int64_t)entry->zone_min * 60;
    switch ((enum imap_search_kind)key->kind) {
    case IMAP_SEARCH_ALL:
    case IMAP_SEARCH_OLD: /* nothing is \Recent here */
    case IMAP_SEARCH_SAVEDATESUPPORTED:
        return SEARCH_YES;
    case IMAP_SEARCH_NEW:
    case IMAP_SEARCH_RECENT:
        return SEARCH_NO;
    case IMAP_SEARCH_AND:
        return judge_and(search, key);
    case IMAP_SEARCH_OR:
        return judge_or(search, key);
    case IMAP_SEARCH_NOT:
        return judge_not(search, key);
    case IMAP_SEARCH_NUMBERS:
    case IMAP_SEARCH_UIDS:
        return verdict_of(in_set(search, key, key->kind == IMAP_SEARCH_UIDS));
    case IMAP_SEARCH_FLAG:
    case IMAP_SEARCH_UNFLAG:
        return verdict_of(has_flag(search, key) == (key->kind == IMAP_SEARCH_FLAG));
    case IMAP_SEARCH_KEYWORD:
    case IMAP_SEARCH_UNKEYWORD:
        return verdict_of(has_keyword(search, key) == (key->kind == IMAP_SEARCH_KEYWORD));
    case IMAP_SEARCH_FROM:
    case IMAP_SEARCH_TO:
    case IMAP_SEARCH_CC:
    case IMAP_SEARCH_BCC:
    case IMAP_SEARCH_SUBJECT:
        return in_field(search, key, slice_text(field_of(key)));
    case IMAP_SEARCH_HEADER:
        return in_field(search, key, key->name);
    case IMAP_SEARCH_BODY:
    case IMAP_SEARCH_TEXT:
        return in_text(search, key);
    case IMAP_SEARCH_BEFORE:
    case IMAP_SEARCH_ON:
    case IMAP_SEARCH_SINCE:
        return by_day(key, IMAP_SEARCH_BEFORE, day_of(entry->internal_s + zone_s));
    case IMAP_SEARCH_SENTBEFORE:
    case IMAP_SEARCH_SENTON:
    case IMAP_SEARCH_SENTSINCE:
        return by_sent_day(search, key);
    case IMAP_SEARCH_SAVEDBEFORE:
    case IMAP_SEARCH_SAVEDON:
    case IMAP_SEARCH_SAVEDSINCE:
        return by_day(key, IMAP_SEARCH_SAVEDBEFORE, day_of(entry->saved_s));
    case IMAP_SEARCH_LARGER:
        return verdict_of(entry->bytes > key->number);
    case IMAP_SEARCH_SMALLER:
        return verdict_of(entry->bytes < key->number);
    case IMAP_SEARCH_OLDER:
    case IMAP_SEARCH_YOUNGER:
        return verdict_of(by_age(search, key));
    case IMAP_SEARCH_MODSEQ:
        return verdict_of(entry->modseq >= key->number);
    case IMAP_SEARCH_EMAILID:
    case IMAP_SEARCH_THREADID:
        return verdict_of(has_id(search, key));
    }
    return SEARCH_NO;
}

/* ---- Words ---- */

static int word_add(struct search *search, const struct imap_search_key *key)
{
    uint8_t mapped[4 * SEARCH_WORD_BYTES_MAX];
    size_t bytes = 0;
    if (search->word_count == SEARCH_WORDS_MAX || key->text.size > SEARCH_WORD_BYTES_MAX) {
        return -E2BIG;
    }
    if (search->words == NULL) {
        search->words = (struct search_word *)calloc(SEARCH_WORDS_MAX, sizeof(search->words[0]));
    }
    if (search->words == NULL) {
        return -ENOMEM;
    }
    int status = text_casemap(key->text, mapped, sizeof(mapped), &bytes);
    if (status ==
        -EINVAL) { /* no charset was given, and it is no UTF-8: it is looked for as it is */
        bytes = key->text.size;
        memcpy(mapped, key->text.bytes, bytes);
        status = 0;
    }
    struct search_word *word = &search->words[search->word_count];
    if (status == 0) {
        word->mapped = (uint8_t *)malloc(bytes + 1);
        status = word->mapped == NULL ? -ENOMEM : 0;
    }
    if (status != 0) {
        return status;
    }
    memcpy(word->mapped, mapped, bytes);
    word->bytes = bytes;
    word->key = key;
    search->word_count++;
    return 0;
}

int search_words(struct search *search, const struct imap_search_key *key)
{
    int status = 0;
    switch ((enum imap_search_kind)key->kind) {
    case IMAP_SEARCH_AND:
    case IMAP_SEARCH_OR:
    case IMAP_SEARCH_NOT: {
        uint32_t count = key->kind == IMAP_SEARCH_NOT ? 1 : key->count;
        for (uint32_t i = 0; i < count && status == 0; i++) {
            status = search_words(search, &key->keys[i]);
        }
        return status;
    }
    case IMAP_SEARCH_FROM:
    case IMAP_SEARCH_TO:
    case IMAP_SEARCH_CC:
    case IMAP_SEARCH_BCC:
    case IMAP_SEARCH_SUBJECT:
    case IMAP_SEARCH_HEADER:
    case IMAP_SEARCH_BODY:
    case IMAP_SEARCH_TEXT:
        return word_add(search, key);
    default: /* look for no text */
        return 0;
    }
}
