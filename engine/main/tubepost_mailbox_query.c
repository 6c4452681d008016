/* Queries in doveadm's words (doveadm-search-query(7)), told to IMAP's SEARCH (RFC 9051 §6.4.4). */
#include "engine/conf/value.h"
#include "engine/main/tubepost_mailbox.h"
#include "proto/imap/response.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEPTH_MAX 50

enum key_takes { NOTHING, STRING, FIELD_AND_STRING, ATOM, SIZE, DATE, DATE_OF_DAY };

static const struct key {
    const char *name;
    enum key_takes takes;
} keys[] = {
    {"all", NOTHING},         {"answered", NOTHING},
    {"bcc", STRING},          {"before", DATE},
    {"body", STRING},         {"cc", STRING},
    {"deleted", NOTHING},     {"draft", NOTHING},
    {"emailid", ATOM},        {"flagged", NOTHING},
    {"from", STRING},         {"header", FIELD_AND_STRING},
    {"keyword", ATOM},        {"larger", SIZE},
    {"on", DATE_OF_DAY},      {"savedbefore", DATE_OF_DAY},
    {"savedon", DATE_OF_DAY}, {"savedsince", DATE_OF_DAY},
    {"seen", NOTHING},        {"sentbefore", DATE_OF_DAY},
    {"senton", DATE_OF_DAY},  {"sentsince", DATE_OF_DAY},
    {"since", DATE},          {"smaller", SIZE},
    {"subject", STRING},      {"text", STRING},
    {"to", STRING},           {"uid", ATOM},
    {"unanswered", NOTHING},  {"undeleted", NOTHING},
    {"undraft", NOTHING},     {"unflagged", NOTHING},
    {"unkeyword", ATOM},      {"unseen", NOTHING},
};

struct reading {
    struct mailbox_query *query;
    char **words;
    int count, at;
    int code;
    bool failed; /* memory was short */
};

static void piece_add(struct reading *reading, const char *text, bool is_string)
{
    struct mailbox_query *query = reading->query;
    struct query_piece *larger =
        (struct query_piece *)realloc(query->pieces, (query->piece_count + 1) * sizeof(larger[0]));
    if (larger == NULL) {
        reading->failed = true;
        return;
    }
    query->pieces = larger;
    struct query_piece *piece = &query->pieces[query->piece_count++];
    piece->text = strdup(text);
    piece->is_string = is_string;
    reading->failed = reading->failed || piece->text == NULL;
}

static bool word_is(const char *word, const char *name)
{
    return strcasecmp(word, name) == 0;
}

static const char *next_word(struct reading *reading, const char *of)
{
    if (reading->at == reading->count) {
        reading->code = tool_fail(EX_USAGE, "query: expected something behind '%s'", of);
        return NULL;
    }
    return reading->words[reading->at++];
}

/* ---- Values ---- */

/* Letters, digits and what flags, ids and sets have: nothing that could be another key. */
static bool is_atom(const char *word)
{
    for (const char *at = word; *at != '\0'; at++) {
        if (!isalnum((unsigned char)*at) && strchr("$\\-_.:,*+!#&'/;=?@^`|~", *at) == NULL) {
            return false;
        }
    }
    return word[0] != '\0';
}

static bool day_text(const struct tm *day, char text[16])
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    return day->tm_mon >= 0 && day->tm_mon < 12 && day->tm_mday >= 1 && day->tm_mday <= 31 &&
           snprintf(text, 16, "%d-%.3s-%04d", day->tm_mday, months + 3 * (size_t)day->tm_mon,
                    day->tm_year + 1900) < 16;
}

/* "7d", "2w", "12h": seconds. */
static bool span_read(const char *word, uint64_t *seconds)
{
    size_t size = strlen(word);
    char text[32];
    uint64_t ns;
    if (size == 0 || size >= sizeof text) {
        return false;
    }
    strcpy(text, word);
    unsigned weeks = text[size - 1] == 'w' ? 7 : 1;
    if (weeks == 7) {
        text[size - 1] = 'd';
    }
    if (value_parse_duration(text, &ns) < 0 || ns < 1000000000ull) {
        return false;
    }
    *seconds = ns / 1000000000ull * weeks;
    return true;
}

static bool day_read(const char *word, char text[16])
{
    struct tm day = {.tm_mday = 0};
    int used = 0;
    if (sscanf(word, "%4d-%2d-%2d%n", &day.tm_year, &day.tm_mon, &day.tm_mday, &used) == 3 &&
        word[used] == '\0') {
        day.tm_year -= 1900;
        day.tm_mon--;
        return day_text(&day, text);
    }
    const char *end = strptime(word, "%d-%b-%Y", &day);
    return end != NULL && *end == '\0' && day_text(&day, text);
}

/* Of a message's arrival a span is meant to the second, else to the day. */
static void date_add(struct reading *reading, const struct key *key, const char *word)
{
    char text[40], day[16];
    uint64_t seconds;
    if (day_read(word, day)) {
        snprintf(text, sizeof text, "%s %s", key->name, day);
    } else if (!span_read(word, &seconds) || seconds > UINT32_MAX) {
        reading->code = tool_fail(
            EX_USAGE, "query: '%s' is no date, expected such as 2026-11-28, 28-Nov-2026 or 7d",
            word);
        return;
    } else if (key->takes == DATE) {
        snprintf(text, sizeof text, "%s %llu",
                 strcmp(key->name, "before") == 0 ? "older" : "younger",
                 (unsigned long long)seconds);
    } else {
        time_t when = time(NULL) - (time_t)seconds;
        struct tm parts;
        gmtime_r(&when, &parts);
        day_text(&parts, day);
        snprintf(text, sizeof text, "%s %s", key->name, day);
    }
    piece_add(reading, text, false);
}

static void size_add(struct reading *reading, const struct key *key, const char *word)
{
    char text[40];
    uint64_t bytes;
    if (value_parse_size(word, &bytes) < 0) {
        reading->code =
            tool_fail(EX_USAGE, "query: '%s' is no size, expected such as 4096 or 10K", word);
        return;
    }
    snprintf(text, sizeof text, "%s %llu", key->name, (unsigned long long)bytes);
    piece_add(reading, text, false);
}

/* ---- Keys ---- */

static void key_take(struct reading *reading, const struct key *key)
{
    const char *word = key->takes != NOTHING ? next_word(reading, key->name) : NULL;
    if (reading->code != EX_OK) {
        return;
    }
    switch (key->takes) {
    case NOTHING:
        piece_add(reading, key->name, false);
        return;
    case FIELD_AND_STRING:
    case STRING:
        piece_add(reading, key->name, false);
        piece_add(reading, word, true);
        word = key->takes == FIELD_AND_STRING ? next_word(reading, word) : NULL;
        if (word != NULL) {
            piece_add(reading, word, true);
        }
        return;
    case ATOM:
        if (!is_atom(word)) {
            reading->code =
                tool_fail(EX_USAGE, "query: '%s' will not do behind %s", word, key->name);
            return;
        }
        piece_add(reading, key->name, false);
        piece_add(reading, word, false);
        return;
    case SIZE:
        size_add(reading, key, word);
        return;
    case DATE:
    case DATE_OF_DAY:
        date_add(reading, key, word);
        return;
    }
}

static void term_take(struct reading *reading, int depth);

/* Behind "(". */
static void group_take(struct reading *reading, int depth)
{
    piece_add(reading, "(", false);
    do {
        term_take(reading, depth);
        if (reading->code == EX_OK && reading->at == reading->count) {
            reading->code = tool_fail(EX_USAGE, "query: a ( has no )");
        }
    } while (reading->code == EX_OK && strcmp(reading->words[reading->at], ")") != 0);
    reading->at++;
    piece_add(reading, ")", false);
}

static void term_take(struct reading *reading, int depth)
{
    const char *word = next_word(reading, "the last word");
    if (word == NULL) {
        return;
    }
    if (depth > DEPTH_MAX) {
        reading->code = tool_fail(EX_USAGE, "query: nested too deeply");
    } else if (strcmp(word, "(") == 0) {
        group_take(reading, depth + 1);
    } else if (word_is(word, "not")) {
        piece_add(reading, "not", false);
        term_take(reading, depth + 1);
    } else if (word_is(word, "or")) { /* in front of two keys, as IMAP has it */
        piece_add(reading, "or", false);
        term_take(reading, depth + 1);
        if (reading->code == EX_OK) {
            term_take(reading, depth + 1);
        }
    } else {
        size_t which = 0;
        while (which < sizeof keys / sizeof keys[0] && !word_is(word, keys[which].name)) {
            which++;
        }
        if (which < sizeof keys / sizeof keys[0]) {
            key_take(reading, &keys[which]);
        } else {
            reading->code =
                tool_fail(EX_USAGE, "query: '%s' is no key: see tubepost mailbox help", word);
        }
    }
}

int query_read(struct mailbox_query *query, char **words, int count)
{
    struct reading reading = {.query = query, .words = words, .count = count};
    *query = (struct mailbox_query){.id = NULL};
    while (reading.code == EX_OK && reading.at < count) {
        const char *word = words[reading.at];
        if (word_is(word, "mailbox") || word_is(word, "mailbox-guid")) {
            reading.at++;
            const char *name = next_word(&reading, word);
            if (name != NULL && word_is(word, "mailbox")) {
                name_list_add(&query->masks, name, strlen(name));
            } else if (name != NULL) {
                query->id = name;
            }
        } else {
            query->narrows = true;
            term_take(&reading, 0);
        }
    }
    if (reading.failed || query->masks.failed) {
        return tool_fail(EX_OSERR, "out of memory");
    }
    return reading.code;
}

void query_free(struct mailbox_query *query)
{
    for (size_t i = 0; i < query->piece_count; i++) {
        free(query->pieces[i].text);
    }
    free(query->pieces);
    name_list_free(&query->masks);
}

/* ---- The search ---- */

struct hearing {
    struct uid_set *found;
    bool failed;
};

/* "1:3,7" */
static void set_read(struct hearing *hearing, struct slice text)
{
    struct uid_set *set = hearing->found;
    size_t at = 0;
    while (at < text.size) {
        uint64_t ends[2] = {0, 0};
        for (int i = 0; i < 2; i++) {
            while (at < text.size && isdigit(text.bytes[at]) && ends[i] < UINT32_MAX) {
                ends[i] = ends[i] * 10 + (uint64_t)(text.bytes[at++] - '0');
            }
            if (i == 1 || at == text.size || text.bytes[at] != ':') {
                break;
            }
            at++;
        }
        ends[1] = ends[1] == 0 ? ends[0] : ends[1];
        if (at < text.size && text.bytes[at++] != ',') {
            return;
        }
        struct uid_range *larger =
            (struct uid_range *)realloc(set->ranges, (set->count + 1) * sizeof(larger[0]));
        if (larger == NULL) {
            hearing->failed = true;
            return;
        }
        set->ranges = larger;
        set->ranges[set->count++] = (struct uid_range){(uint32_t)ends[0], (uint32_t)ends[1]};
    }
}

/* ESEARCH (TAG "t3") UID ALL 1:3,7 */
static void found_hear(void *owner, struct slice said)
{
    struct slice value;
    bool is_set = false;
    if (!imap_response_value(&said, &value) || !slice_equal(value, slice_text("ESEARCH"))) {
        return;
    }
    while (imap_response_value(&said, &value)) {
        if (is_set) {
            set_read((struct hearing *)owner, value);
        }
        is_set = slice_equal(value, slice_text("ALL"));
    }
}

int query_search(struct mailbox_peer *peer, const struct mailbox_query *query,
                 struct uid_set *found)
{
    struct hearing hearing = {.found = found};
    bool opened = true;
    *found = (struct uid_set){.count = 0};
    peer_begin(peer, "UID SEARCH RETURN (ALL)");
    if (query->piece_count == 0) {
        peer_text(peer, " ALL");
    }
    for (size_t i = 0; i < query->piece_count; i++) {
        const struct query_piece *piece = &query->pieces[i];
        if (piece->is_string) {
            peer_string(peer, slice_text(piece->text));
            opened = false;
            continue;
        }
        peer_text(peer, i > 0 && (opened || strcmp(piece->text, ")") == 0) ? "" : " ");
        peer_text(peer, piece->text);
        opened = strcmp(piece->text, "(") == 0;
    }
    int code = peer_end(peer, found_hear, &hearing);
    return code == EX_OK && hearing.failed ? tool_fail(EX_OSERR, "out of memory") : code;
}

/* ---- In every mailbox ---- */

static int names_find(struct mailbox_peer *peer, const struct mailbox_query *query,
                      struct name_list *names)
{
    int code = query->masks.count == 0 ? peer_list(peer, "*", false, names) : EX_OK;
    for (size_t i = 0; i < query->masks.count && code == EX_OK; i++) {
        size_t before = names->count;
        code = peer_list(peer, query->masks.names[i], false, names);
        if (code == EX_OK && names->count == before &&
            strpbrk(query->masks.names[i], "*%") == NULL) {
            code = tool_fail(EX_DATAERR, "%s: no such mailbox", query->masks.names[i]);
        }
    }
    return code;
}

int query_each(struct mailbox_peer *peer, const struct mailbox_query *query, const char *command,
               int (*each)(void *owner, struct mailbox_hits *hits), void *owner)
{
    struct name_list names = {.names = NULL};
    bool id_found = false;
    int code = names_find(peer, query, &names);
    for (size_t i = 0; i < names.count && code == EX_OK; i++) {
        struct mailbox_hits hits = {.peer = peer, .mailbox = names.names[i]};
        code = peer_select(peer, command, hits.mailbox, &hits.box);
        if (code != EX_OK || (query->id != NULL && strcmp(query->id, hits.box.id) != 0)) {
            continue;
        }
        id_found = true;
        code = hits.box.exists > 0 ? query_search(peer, query, &hits.uids) : EX_OK;
        if (code == EX_OK && hits.uids.count > 0) {
            code = each(owner, &hits);
        }
        free(hits.uids.ranges);
    }
    name_list_free(&names);
    if (code == EX_OK && query->id != NULL && !id_found) {
        code = tool_fail(EX_DATAERR, "%s: no mailbox has this id", query->id);
    }
    return code;
}
