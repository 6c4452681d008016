/* tubepost mailbox list, status, search, expunge. */
#include "engine/main/tubepost_mailbox.h"
#include "proto/imap/response.h"
#include <stdlib.h>
#include <string.h>

/* Names that match any of the masks, "*" where there are none. */
static int names_find(struct mailbox_peer *peer, char *const *masks, int count, bool subscribed,
                      struct name_list *names)
{
    int code = count == 0 ? peer_list(peer, "*", subscribed, names) : EX_OK;
    for (int i = 0; i < count && code == EX_OK; i++) {
        size_t before = names->count;
        code = peer_list(peer, masks[i], subscribed, names);
        if (code == EX_OK && names->count == before && strpbrk(masks[i], "*%") == NULL) {
            code = tool_fail(EX_DATAERR, "%s: no such mailbox", masks[i]);
        }
    }
    return code;
}

int mailbox_list(struct tool *tool, const struct mailbox_options *options)
{
    struct mailbox_peer peer;
    struct name_list names = {.names = NULL};
    int code = peer_open(&peer, tool, options->user, false);
    if (code == EX_OK) {
        code = names_find(&peer, options->words, options->count, options->subscribed, &names);
    }
    for (size_t i = 0; i < names.count && code == EX_OK; i++) {
        if (tool->as_json) {
            user_print_json(
                options, json_pack("{s:o}", "mailbox", mailbox_json(slice_text(names.names[i]))));
        } else {
            user_print(options);
            mailbox_print(stdout, names.names[i]);
            putchar('\n');
        }
    }
    name_list_free(&names);
    peer_close(&peer);
    return code;
}

/* ---- status ---- */

static const struct status_field {
    const char *name, *item;
    bool adds_up;
} fields[] = {
    {"messages", "MESSAGES", true},
    {"unseen", "UNSEEN", true},
    {"deleted", "DELETED", true},
    {"uidnext", "UIDNEXT", false},
    {"uidvalidity", "UIDVALIDITY", false},
    {"highestmodseq", "HIGHESTMODSEQ", false},
    {"vsize", "SIZE", true},
    {"guid", "MAILBOXID", false},
};
#define FIELDS (sizeof fields / sizeof fields[0])

struct status {
    bool wanted[FIELDS];
    char values[FIELDS][40];
};

static bool field_take(struct status *status, const char *word)
{
    bool all = strcmp(word, "all") == 0, found = all;
    for (size_t i = 0; i < FIELDS; i++) {
        bool is = all || strcmp(word, fields[i].name) == 0;
        status->wanted[i] = status->wanted[i] || is;
        found = found || is;
    }
    return found;
}

/* Of words that may hold several, as doveadm's one argument does. False: one of them is no field. */
static bool fields_take(struct status *status, const char *words)
{
    char copy[256];
    char *rest = copy;
    if (strlen(words) >= sizeof copy) {
        return false;
    }
    strcpy(copy, words);
    bool good = true;
    for (char *word; good && (word = strsep(&rest, " ")) != NULL;) {
        good = word[0] == '\0' || field_take(status, word);
    }
    return good;
}

/* STATUS name (MESSAGES 3 MAILBOXID (F01)) */
static void status_hear(void *owner, struct slice said)
{
    struct status *status = (struct status *)owner;
    struct slice word, value;
    if (!imap_response_value(&said, &word) || !slice_equal(word, slice_text("STATUS")) ||
        !imap_response_value(&said, &word) || imap_response_next(&said).kind != IMAP_TOKEN_OPEN) {
        return;
    }
    while (imap_response_value(&said, &word) && imap_response_value(&said, &value)) {
        if (value.size > 2 && value.bytes[0] == '(') {
            value = slice_of(value.bytes + 1, value.size - 2);
        }
        for (size_t i = 0; i < FIELDS; i++) {
            if (slice_equal(word, slice_text(fields[i].item))) {
                snprintf(status->values[i], sizeof status->values[i], "%.*s", (int)value.size,
                         (const char *)value.bytes);
            }
        }
    }
}

static int status_ask(struct mailbox_peer *peer, const char *mailbox, struct status *status)
{
    peer_begin(peer, "STATUS");
    peer_string(peer, slice_text(mailbox));
    const char *blank = " (";
    for (size_t i = 0; i < FIELDS; i++) {
        status->values[i][0] = '\0';
        if (status->wanted[i]) {
            peer_text(peer, blank);
            peer_text(peer, fields[i].item);
            blank = " ";
        }
    }
    peer_text(peer, ")");
    return peer_end(peer, status_hear, status);
}

/* mailbox: NULL: the sums of all. */
static void status_print(const struct mailbox_options *options, const char *mailbox,
                         const struct status *status)
{
    user_print(options);
    mailbox_print(stdout, mailbox != NULL ? mailbox : "total");
    for (size_t i = 0; i < FIELDS; i++) {
        if (status->wanted[i] && status->values[i][0] != '\0') {
            printf(" %s=%s", fields[i].name, status->values[i]);
        }
    }
    putchar('\n');
}

static void status_print_json(const struct mailbox_options *options, const char *mailbox,
                              const struct status *status)
{
    json_t *json = json_object();
    if (mailbox != NULL) {
        json_object_set_new(json, "mailbox", mailbox_json(slice_text(mailbox)));
    }
    for (size_t i = 0; i < FIELDS; i++) {
        const char *value = status->values[i];
        if (!status->wanted[i] || value[0] == '\0') {
            continue;
        }
        if (strcmp(fields[i].name, "guid") == 0) {
            json_object_set_new(json, fields[i].name, json_string(value));
        } else {
            json_object_set_new(json, fields[i].name, json_integer(strtoll(value, NULL, 10)));
        }
    }
    user_print_json(options, json);
}

static void status_add(struct status *sums, const struct status *status)
{
    for (size_t i = 0; i < FIELDS; i++) {
        if (fields[i].adds_up && status->values[i][0] != '\0') {
            unsigned long long sum =
                strtoull(sums->values[i], NULL, 10) + strtoull(status->values[i], NULL, 10);
            snprintf(sums->values[i], sizeof sums->values[i], "%llu", sum);
        }
    }
}

static int statuses_show(struct mailbox_peer *peer, struct status *status,
                         const struct name_list *names, const struct mailbox_options *options)
{
    void (*print)(const struct mailbox_options *options, const char *mailbox,
                  const struct status *status) =
        peer->tool->as_json ? status_print_json : status_print;
    struct status sums = *status;
    int code = EX_OK;
    memset(sums.values, 0, sizeof sums.values);
    for (size_t i = 0; i < names->count && code == EX_OK; i++) {
        code = status_ask(peer, names->names[i], status);
        if (code == EX_OK && options->totals) {
            status_add(&sums, status);
        } else if (code == EX_OK) {
            print(options, names->names[i], status);
        }
    }
    if (code == EX_OK && options->totals) {
        print(options, NULL, &sums);
    }
    return code;
}

int mailbox_status(struct tool *tool, const struct mailbox_options *options)
{
    struct mailbox_peer peer;
    struct name_list names = {.names = NULL};
    struct status status = {.wanted = {false}};
    int at = 0;
    while (at < options->count && fields_take(&status, options->words[at])) {
        at++;
    }
    if (at == 0) {
        return tool_fail(EX_USAGE, "status: '%s' is no field: see tubepost mailbox help",
                         options->words[0]);
    }
    int code = peer_open(&peer, tool, options->user, false);
    if (code == EX_OK) {
        code = names_find(&peer, options->words + at, options->count - at, false, &names);
    }
    if (code == EX_OK) {
        code = statuses_show(&peer, &status, &names, options);
    }
    name_list_free(&names);
    peer_close(&peer);
    return code;
}

/* ---- search, expunge ---- */

static int found_print(void *owner, struct mailbox_hits *hits)
{
    const struct mailbox_options *options = (const struct mailbox_options *)owner;
    for (size_t i = 0; i < hits->uids.count; i++) {
        const struct uid_range *range = &hits->uids.ranges[i];
        for (uint64_t uid = range->first; uid <= range->last; uid++) {
            if (hits->peer->tool->as_json) {
                user_print_json(options,
                                json_pack("{s:o,s:s,s:I}", "mailbox",
                                          mailbox_json(slice_text(hits->mailbox)), "mailbox-guid",
                                          hits->box.id, "uid", (json_int_t)uid));
            } else {
                user_print(options);
                printf("%s %llu\n", hits->box.id, (unsigned long long)uid);
            }
        }
    }
    return EX_OK;
}

/* Those that were \Deleted by somebody else, or come to be meanwhile, stay. */
static int found_expunge(void *owner, struct mailbox_hits *hits)
{
    const struct mailbox_options *options = (const struct mailbox_options *)owner;
    struct mailbox_peer *peer = hits->peer;
    char text[UID_SET_TEXT_BYTES];
    int code = EX_OK;
    for (size_t at = 0; code == EX_OK && uid_set_text(&hits->uids, &at, text);) {
        peer_begin(peer, "UID STORE ");
        peer_text(peer, text);
        peer_text(peer, " +FLAGS.SILENT (\\Deleted)");
        code = peer_end(peer, NULL, NULL);
        if (code == EX_OK) {
            peer_begin(peer, "UID EXPUNGE ");
            peer_text(peer, text);
            code = peer_end(peer, NULL, NULL);
        }
    }
    if (code == EX_OK && peer->tool->as_json) {
        user_print_json(options,
                        json_pack("{s:o,s:I}", "mailbox", mailbox_json(slice_text(hits->mailbox)),
                                  "expunged", (json_int_t)uid_set_count(&hits->uids)));
    } else if (code == EX_OK) {
        user_print(options);
        mailbox_print(stdout, hits->mailbox);
        printf(": %llu expunged\n", (unsigned long long)uid_set_count(&hits->uids));
    }
    return code;
}

static int query_run(struct tool *tool, const struct mailbox_options *options,
                     const struct mailbox_query *query, const char *command,
                     int (*each)(void *owner, struct mailbox_hits *hits))
{
    struct mailbox_peer peer;
    int code = peer_open(&peer, tool, options->user, false);
    if (code == EX_OK) {
        code = query_each(&peer, query, command, each, (void *)(uintptr_t)options);
    }
    peer_close(&peer);
    return code;
}

int mailbox_search(struct tool *tool, const struct mailbox_options *options)
{
    struct mailbox_query query;
    int code = query_read(&query, options->words, options->count);
    if (code == EX_OK) {
        code = query_run(tool, options, &query, "EXAMINE", found_print);
    }
    query_free(&query);
    return code;
}

int mailbox_expunge(struct tool *tool, const struct mailbox_options *options)
{
    struct mailbox_query query;
    int code = query_read(&query, options->words, options->count);
    if (code == EX_OK && (!query.narrows || (query.masks.count == 0 && query.id == NULL))) {
        code = tool_fail(EX_USAGE, "expunge: expected a mailbox and which of its messages, or all");
    }
    if (code == EX_OK) {
        code = query_run(tool, options, &query, "SELECT", found_expunge);
    }
    query_free(&query);
    return code;
}
