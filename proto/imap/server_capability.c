/* What is announced, from settings and state. */
#include "proto/imap/server_private.h"
#include "engine/core/check.h"
#include <stdio.h>

/* In the order in which they are announced. */
static const struct {
    uint64_t needs;
    const char *words;
} announced[] = {
    {IMAP_CAP_IDLE, " IDLE"},
    {IMAP_CAP_NAMESPACE, " NAMESPACE"},
    {IMAP_CAP_CHILDREN, " CHILDREN"},
    {IMAP_CAP_UNSELECT, " UNSELECT"},
    {IMAP_CAP_UIDPLUS, " UIDPLUS"},
    {IMAP_CAP_MOVE, " MOVE"},
    {IMAP_CAP_ESEARCH, " ESEARCH"},
    {IMAP_CAP_SEARCHRES, " SEARCHRES"},
    {IMAP_CAP_WITHIN, " WITHIN"},
    {IMAP_CAP_LIST_EXTENDED, " LIST-EXTENDED"},
    {IMAP_CAP_LIST_STATUS, " LIST-STATUS"},
    {IMAP_CAP_SPECIAL_USE, " SPECIAL-USE CREATE-SPECIAL-USE"},
    {IMAP_CAP_STATUS_SIZE, " STATUS=SIZE"},
    {IMAP_CAP_SAVEDATE, " SAVEDATE"},
    {IMAP_CAP_CONDSTORE, " CONDSTORE"},
    {IMAP_CAP_QRESYNC, " QRESYNC"},
    {IMAP_CAP_MULTIAPPEND, " MULTIAPPEND"},
    {IMAP_CAP_CATENATE, " CATENATE URL-PARTIAL"},
    {IMAP_CAP_BINARY, " BINARY"},
    {IMAP_CAP_SORT, " SORT"},
    {IMAP_CAP_SORT | IMAP_CAP_ESEARCH, " ESORT"},
    {IMAP_CAP_SORT_DISPLAY, " SORT=DISPLAY"},
    {IMAP_CAP_THREAD, " THREAD=ORDEREDSUBJECT THREAD=REFERENCES"},
    {IMAP_CAP_CONTEXT_SEARCH, " CONTEXT=SEARCH"},
    {IMAP_CAP_CONTEXT_SEARCH | IMAP_CAP_SORT, " CONTEXT=SORT"},
    {IMAP_CAP_PARTIAL, " PARTIAL"},
    {IMAP_CAP_SEARCH_FUZZY, " SEARCH=FUZZY"},
    {IMAP_CAP_PREVIEW, " PREVIEW"},
    {IMAP_CAP_REPLACE, " REPLACE"},
    {IMAP_CAP_UTF8, " UTF8=ACCEPT"},
    {IMAP_CAP_OBJECTID, " OBJECTID"},
    {IMAP_CAP_QUOTA, " QUOTA QUOTA=RES-STORAGE QUOTA=RES-MESSAGE QUOTASET"},
    {IMAP_CAP_ACL, " ACL RIGHTS=texk LIST-MYRIGHTS"},
    {IMAP_CAP_METADATA, " METADATA LIST-METADATA"},
    {IMAP_CAP_NOTIFY, " NOTIFY"},
    {IMAP_CAP_UNAUTHENTICATE, " UNAUTHENTICATE"},
    {IMAP_CAP_INPROGRESS, " INPROGRESS"},
};

struct words {
    char *out;
    size_t size, room;
};

static void words_add(struct words *words, const void *text, size_t size)
{
    check(words->size + size < words->room);
    memcpy(words->out + words->size, text, size);
    words->size += size;
    words->out[words->size] = '\0';
}

static void words_add_text(struct words *words, const char *text)
{
    words_add(words, text, strlen(text));
}

/* Before login: how to get there. */
static void words_login(const struct imap_server *server, struct words *words)
{
    const struct imap_server_settings *settings = server->settings;
    struct slice list = server->secured ? settings->mechanisms : settings->mechanisms_clear;
    if (settings->starttls && !server->secured && !server->compressed) {
        words_add_text(words, " STARTTLS");
    }
    if (!settings->login_in_clear && !server->secured) {
        words_add_text(words, " LOGINDISABLED");
    }
    while (list.size > 0) {
        const uint8_t *end = memchr(list.bytes, ' ', list.size);
        size_t size = end == NULL ? list.size : (size_t)(end - list.bytes);
        words_add_text(words, " AUTH=");
        words_add(words, list.bytes, size);
        list = slice_from(list, size + 1);
    }
}

size_t imap_server_capabilities(const struct imap_server *server, bool logged_in, char *out,
                                size_t room)
{
    uint64_t has = server->settings->capabilities;
    struct words words = {out, 0, room};
    words_add_text(&words, "IMAP4rev1");
    if ((has & IMAP_CAP_REV2) != 0) {
        words_add_text(&words, " IMAP4rev2");
    }
    words_add_text(&words, (has & IMAP_CAP_LITERAL_PLUS) != 0 ? " LITERAL+" : " LITERAL-");
    words_add_text(&words, " SASL-IR ID ENABLE");
    if (!logged_in) {
        words_login(server, &words);
        return words.size;
    }
    for (size_t i = 0; i < sizeof(announced) / sizeof(*announced); i++) {
        if ((has & announced[i].needs) == announced[i].needs) {
            words_add_text(&words, announced[i].words);
        }
    }
    if ((has & IMAP_CAP_COMPRESS) != 0 && !server->compressed) {
        words_add_text(&words, " COMPRESS=DEFLATE");
    }
    char limit[40];
    snprintf(limit, sizeof(limit), " APPENDLIMIT=%llu",
             (unsigned long long)server->settings->append_bytes_max);
    words_add_text(&words, limit);
    return words.size;
}
