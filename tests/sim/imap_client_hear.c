/* What a client hears, and what follows from it. */
#include "engine/core/check.h"
#include "tests/sim/imap_client_private.h"
#include <stdlib.h>

/* May the server say that a message has gone, and numbers change? RFC 9051 §7.5.1 */
static bool numbers_stand(const struct imap_client *client)
{
    return client->ask == IMAP_ASK_NONE || client->ask == IMAP_ASK_FETCH_NEW;
}

static void heard_exists(struct imap_client *client, uint32_t count)
{
    struct imap_view *view = &client->view;
    if (count < view->count || count > BOOKS_UIDS_MAX) {
        imap_client_fail(client, "%u messages, where %u were", count, view->count);
    }
    while (view->count < count) {
        view->flags[view->count] = 0;
        view->uids[view->count++] = 0;
    }
}

static void heard_expunge(struct imap_client *client, uint32_t number)
{
    struct imap_view *view = &client->view;
    if (number == 0 || number > view->count || numbers_stand(client)) {
        imap_client_fail(client, "message %u of %u has gone", number, view->count);
    }
    if (view->uids[number - 1] != 0) {
        books_gone(client->books, client->box, view->uids[number - 1]);
    }
    view->count--;
    memmove(view->uids + number - 1, view->uids + number,
            (view->count - number + 1) * sizeof(view->uids[0]));
    memmove(view->flags + number - 1, view->flags + number,
            (view->count - number + 1) * sizeof(view->flags[0]));
}

static uint32_t flags_parse(struct imap_client *client, struct slice text)
{
    uint32_t flags = 0;
    while (text.size > 0) {
        size_t size = 0;
        while (size < text.size && text.bytes[size] != ' ') {
            size++;
        }
        struct slice word = slice_first(text, size);
        text = slice_from(text, size < text.size ? size + 1 : size);
        unsigned i = 0;
        while (i < 4 && !slice_equal_nocase(word, slice_text(imap_flag_names[i]))) {
            i++;
        }
        if (i < 4) {
            flags |= 1u << i;
        } else if (word.size == 2 && word.bytes[0] == 'K' && word.bytes[1] < '0' + BOOKS_KEYS) {
            flags |= (uint32_t)FLAG_KEYS << (1 + word.bytes[1] - '0');
        } else if (!slice_equal_nocase(word, slice_text("\\Recent"))) {
            imap_client_fail(client, "a flag %.*s", (int)word.size, (const char *)word.bytes);
        }
    }
    return flags;
}

/* Its own keyword is as it has left it. */
static void key_check(struct imap_client *client, uint32_t uid, uint32_t flags)
{
    struct book_entry *entry = books_entry(client->books, client->box, uid);
    uint8_t *key = &entry->keys[client->number];
    bool is_set = (flags & (uint32_t)FLAG_KEYS << (1 + client->number)) != 0;
    if (client->ask == IMAP_ASK_STORE && client->uid == uid && client->flag > FLAG_KEYS) {
        return;
    }
    if (*key == BOOK_KEY_UNKNOWN) {
        *key = is_set ? BOOK_KEY_SET : BOOK_KEY_CLEAR;
    } else if (*key != BOOK_KEY_IN_DOUBT && (*key == BOOK_KEY_SET) != is_set) {
        imap_client_fail(client, "its keyword of uid %u in %s is %s, which it has left %s", uid,
                         books_box_names[client->box], is_set ? "set" : "clear",
                         is_set ? "clear" : "set");
    }
}

/* One line, with literals in it: what stands behind `name`, up to its end. */
static bool item_find(struct slice response, const char *name, struct slice *value)
{
    const uint8_t *at = memmem(response.bytes, response.size, name, strlen(name));
    *value = slice_of(NULL, 0);
    if (at == NULL) {
        return false;
    }
    *value = slice_from(response, (size_t)(at - response.bytes) + strlen(name));
    return true;
}

static void heard_fetch(struct imap_client *client, uint32_t number, struct slice items)
{
    struct imap_view *view = &client->view;
    struct slice value, text;
    if (number == 0 || number > view->count) {
        imap_client_fail(client, "FETCH of message %u of %u", number, view->count);
    }
    uint32_t *uid = &view->uids[number - 1];
    /* Items before a text: nothing of the text is taken for one. */
    struct slice head = items;
    bool has_text = item_find(items, "BODY[] {", &text);
    if (has_text) {
        head = slice_first(items, (size_t)(text.bytes - items.bytes));
        size_t size = strtoul((const char *)text.bytes, NULL, 10);
        const uint8_t *end = memchr(text.bytes, '\n', text.size);
        check(end != NULL && (size_t)(end + 1 - text.bytes) + size <= text.size);
        text = slice_of(end + 1, size);
    }
    if (item_find(head, "UID ", &value)) {
        uint32_t told = (uint32_t)strtoul((const char *)value.bytes, NULL, 10);
        if (*uid != 0 && *uid != told) {
            imap_client_fail(client, "message %u was uid %u, and is uid %u", number, *uid, told);
        }
        *uid = told;
        books_entry(client->books, client->box, told);
    }
    if (item_find(head, "FLAGS (", &value)) {
        const uint8_t *end = memchr(value.bytes, ')', value.size);
        check(end != NULL);
        view->flags[number - 1] =
            flags_parse(client, slice_first(value, (size_t)(end - value.bytes)));
        if (*uid != 0) {
            key_check(client, *uid, view->flags[number - 1]);
        }
    }
    if (has_text) {
        if (*uid == 0) {
            imap_client_fail(client, "the text of message %u comes without its uid", number);
        }
        books_entry_text(client->books, client->box, *uid, text);
    }
}

static void heard_search(struct imap_client *client, struct slice numbers)
{
    const char *at = (const char *)numbers.bytes, *end = at + numbers.size;
    while (at < end && *at == ' ') {
        char *behind;
        check(client->found_count < BOOKS_UIDS_MAX);
        client->found[client->found_count++] = (uint32_t)strtoul(at, &behind, 10);
        at = behind;
    }
}

static void heard_code(struct imap_client *client, struct slice text)
{
    struct slice value;
    if (item_find(text, "[UIDVALIDITY ", &value)) {
        books_uidvalidity(client->books, client->box,
                          (uint32_t)strtoul((const char *)value.bytes, NULL, 10));
    }
}

static void heard_untagged(struct imap_client *client, struct slice line)
{
    char *behind;
    uint32_t number = (uint32_t)strtoul((const char *)line.bytes, &behind, 10);
    struct slice rest = slice_from(line, (size_t)(behind - (const char *)line.bytes));
    if (behind == (const char *)line.bytes) {
        if (imap_begins(line, "SEARCH")) {
            heard_search(client, slice_from(line, 6));
        } else if (imap_begins(line, "OK ")) {
            client->greeted = true;
            heard_code(client, line);
        } else if (imap_begins(line, "BYE")) {
            client->greeted = true; /* what follows is its end */
        }
    } else if (imap_begins(rest, " EXISTS")) {
        heard_exists(client, number);
    } else if (imap_begins(rest, " EXPUNGE")) {
        heard_expunge(client, number);
    } else if (imap_begins(rest, " FETCH (")) {
        heard_fetch(client, number, slice_from(rest, 8));
    }
}

/* ---- A command is answered ---- */

static uint32_t view_find(const struct imap_client *client, uint32_t uid)
{
    uint32_t i = 0;
    while (i < client->view.count && client->view.uids[i] != uid) {
        i++;
    }
    return i;
}

static void stored(struct imap_client *client, bool is_done)
{
    struct book_entry *entry = books_entry(client->books, client->box, client->uid);
    uint8_t *key = &entry->keys[client->number];
    uint32_t at = view_find(client, client->uid);
    bool may_have_gone =
        at == client->view.count || books_may_be_gone(client->books, client->box, client->uid);
    if (client->flag > FLAG_KEYS && is_done) {
        *key = may_have_gone ? BOOK_KEY_IN_DOUBT : client->adds ? BOOK_KEY_SET : BOOK_KEY_CLEAR;
    }
    if (is_done && at < client->view.count && client->silent) {
        uint32_t *flags = &client->view.flags[at];
        *flags = client->adds ? *flags | client->flag : *flags & ~client->flag;
    } else if (is_done && !may_have_gone) {
        bool is_set = (client->view.flags[at] & client->flag) != 0;
        if (client->flag > FLAG_KEYS && is_set != client->adds) {
            imap_client_fail(client, "uid %u was changed, and it was not told how", client->uid);
        }
    }
}

/* "[COPYUID 1 5 7]" or "[APPENDUID 1 7]": the last number; 0: none. */
static uint32_t code_uid(struct imap_client *client, struct slice line, const char *code)
{
    struct slice value;
    char *behind;
    if (!item_find(line, code, &value)) {
        return 0;
    }
    uint32_t uidvalidity = (uint32_t)strtoul((const char *)value.bytes, &behind, 10);
    books_uidvalidity(client->books, client->target, uidvalidity);
    uint32_t last = 0;
    while (*behind == ' ') {
        last = (uint32_t)strtoul(behind + 1, &behind, 10);
    }
    return last;
}

static void put(struct imap_client *client, bool is_done, uint32_t uid)
{
    struct books *books = client->books;
    if (is_done && uid == 0 && client->ask == IMAP_ASK_APPEND) {
        imap_client_fail(client, "it is not told the uid of what it has put into %s",
                         books_box_names[client->target]);
    }
    if (!is_done || uid == 0) { /* it is not there, and never will be */
        imap_client_letter(client)->in[client->target].most--;
        return;
    }
    imap_client_letter(client)->in[client->target].least++;
    books_entry_is(books, client->target, uid, client->letter);
    if (client->ask == IMAP_ASK_APPEND) {
        uint8_t *key = &books_entry(books, client->target, uid)->keys[client->number];
        *key = *key == BOOK_KEY_UNKNOWN ? BOOK_KEY_CLEAR : *key;
    }
}

static void searched(struct imap_client *client)
{
    for (uint32_t i = 0; i < client->view.count; i++) {
        uint32_t uid = client->view.uids[i], at = 0;
        if (uid == 0 || books_may_be_gone(client->books, client->box, uid)) {
            continue;
        }
        uint8_t key = books_entry(client->books, client->box, uid)->keys[client->number];
        while (at < client->found_count && client->found[at] != uid) {
            at++;
        }
        bool found = at < client->found_count;
        if ((key == BOOK_KEY_SET && !found) || (key == BOOK_KEY_CLEAR && found)) {
            imap_client_fail(client, "uid %u with its keyword %s is %sfound", uid,
                             key == BOOK_KEY_SET ? "set" : "clear", found ? "" : "not ");
        }
    }
}

static void selected(struct imap_client *client)
{
    struct imap_view *view = &client->view;
    uint32_t told = view->count;
    while (told > 0 && view->uids[told - 1] == 0) {
        told--; /* came since */
    }
    books_check_view(client->books, client->box, view->uids, told, client->selected_ns);
    client->has_all = true;
}

static void answered(struct imap_client *client, struct slice line)
{
    bool is_done = imap_begins(line, "OK");
    enum imap_ask ask = client->ask;
    if (imap_begins(line, "BAD") ||
        (!is_done && client->asked_ns > client->books->well_ns && ask != IMAP_ASK_CREATE)) {
        imap_client_fail(client, "it is answered \"%.*s\"", (int)line.size - 2,
                         (const char *)line.bytes);
    }
    switch (ask) {
    case IMAP_ASK_LOGIN:
        client->logged_in = is_done;
        break;
    case IMAP_ASK_CREATE:
        is_done |= imap_begins(line, "NO [ALREADYEXISTS]");
        if (is_done && client->target == 1) {
            client->target = 2;
            client->ask = IMAP_ASK_NONE;
            imap_client_begin(client, IMAP_ASK_CREATE);
            imap_client_say_line(client, "t%u CREATE %s", client->tag, books_box_names[2]);
            imap_client_write(client);
            return;
        }
        client->boxes_made = is_done;
        break;
    case IMAP_ASK_SELECT:
        client->selected = is_done;
        client->has_all = client->view.count == 0;
        if (is_done && client->has_all) {
            selected(client);
        }
        break;
    case IMAP_ASK_FETCH_ALL:
        if (is_done) {
            selected(client);
        }
        break;
    case IMAP_ASK_SEARCH:
        if (is_done) {
            searched(client);
        }
        break;
    case IMAP_ASK_APPEND:
        put(client, is_done, code_uid(client, line, "[APPENDUID "));
        break;
    case IMAP_ASK_STORE:
        stored(client, is_done);
        break;
    case IMAP_ASK_COPY:
        put(client, is_done, code_uid(client, line, "[COPYUID "));
        break;
    case IMAP_ASK_MOVE: /* COPYUID was told before */
        if (client->found_count == 0) {
            put(client, is_done, code_uid(client, line, "[COPYUID "));
        }
        break;
    default:
        break;
    }
    /* What has gone can be told of with a command without numbers only. */
    client->must_hear = ask == IMAP_ASK_FETCH_NEW && imap_client_has_new(client);
    client->ask = IMAP_ASK_NONE;
    client->answers++;
    client->done =
        client->stopped && ask == IMAP_ASK_NOOP && client->has_all && !imap_client_has_new(client);
}

void imap_client_hear(struct imap_client *client, struct slice line)
{
    struct slice rest = slice_from(line, 2), shown = slice_first(line, 60);
    sim_say(client->books->sim, "client %u hears %.*s", client->number,
            (int)shown.size - (shown.size == line.size ? 2 : 0), (const char *)shown.bytes);
    if (imap_begins(line, "* ")) {
        if (client->ask == IMAP_ASK_MOVE && imap_begins(rest, "OK [COPYUID ")) {
            put(client, true, code_uid(client, rest, "[COPYUID "));
            client->found_count = 1;
        }
        heard_untagged(client, rest);
    } else if (imap_begins(line, "+ ")) {
        if (client->ask == IMAP_ASK_IDLE) {
            client->waits_to_go_on = true;
        } else if (client->literal_at == 0 || client->said_bytes != client->literal_at) {
            imap_client_fail(client, "it may go on, and did not ask");
        }
        client->literal_at = 0;
        imap_client_write(client);
    } else {
        char tag[16];
        size_t size = (size_t)snprintf(tag, sizeof(tag), "t%u ", client->tag);
        if (client->ask == IMAP_ASK_NONE || !imap_begins(line, tag)) {
            imap_client_fail(client, "\"%.*s\" answers nothing", (int)line.size - 2,
                             (const char *)line.bytes);
        }
        answered(client, slice_from(line, size));
    }
}

/* A response with its literals: its size; 0: it is not all here. */
size_t imap_client_response_size(struct slice heard)
{
    size_t at = 0;
    for (;;) {
        const uint8_t *end =
            at < heard.size ? memchr(heard.bytes + at, '\n', heard.size - at) : NULL;
        if (end == NULL) {
            return 0;
        }
        const uint8_t *brace = end - 2;
        at = (size_t)(end + 1 - heard.bytes);
        if (brace < heard.bytes || *brace != '}') {
            return at;
        }
        while (brace > heard.bytes && *brace != '{') {
            brace--;
        }
        at += strtoul((const char *)brace + 1, NULL, 10);
        if (at > heard.size) {
            return 0;
        }
    }
}

/* ---- LMTP ---- */

/* The answer to a step: the next one. */
void imap_client_hear_delivery(struct imap_client *client, struct slice line)
{
    bool good = line.bytes[0] == '2' || line.bytes[0] == '3';
    struct slice text;
    if (line.size > 3 && line.bytes[3] == '-') {
        return;
    }
    if (!good && client->asked_ns > client->books->well_ns) {
        imap_client_fail(client, "LMTP: it is answered \"%.*s\"", (int)line.size - 2,
                         (const char *)line.bytes);
    }
    if (client->step == 6 || !good) {
        if (client->step == 5 && !good) {
            imap_client_letter(client)->in[0].most--;
        }
        client->ask = IMAP_ASK_NONE;
        imap_client_over(client);
        return;
    }
    client->said_bytes = client->saying_bytes = 0;
    switch (client->step++) {
    case 0:
        imap_client_say_line(client, "LHLO client.example");
        break;
    case 1:
        imap_client_say_line(client, "MAIL FROM:<a@client.example>");
        break;
    case 2:
        imap_client_say_line(client, "RCPT TO:<alice@mailbox.example>");
        break;
    case 3:
        imap_client_say_line(client, "DATA");
        break;
    case 4:
        text =
            books_letter_text(client->books, client->letter); /* no line imap_begins with a dot */
        imap_client_letter(client)->in[0].most++;
        imap_client_say(client, text);
        imap_client_say_line(client, ".");
        break;
    case 5:
        imap_client_letter(client)->in[0].least++;
        imap_client_say_line(client, "QUIT");
        break;
    default:
        break;
    }
    imap_client_write(client);
}
