/* What a client asks. */
#include "engine/core/check.h"
#include "tests/sim/imap_client_private.h"

struct book_letter *imap_client_letter(struct imap_client *client)
{
    return &client->books->letters[client->letter];
}

static void ask_append(struct imap_client *client)
{
    struct sim *sim = client->books->sim;
    client->letter = books_letter_new(client->books);
    if (client->letter == 0) {
        client->left = 0;
        return;
    }
    client->target = sim_below(sim, BOOKS_BOXES);
    bool unasked = sim_chance(sim, 50);
    struct slice text = books_letter_text(client->books, client->letter);
    imap_client_begin(client, IMAP_ASK_APPEND);
    imap_client_letter(client)->in[client->target].most++;
    imap_client_say_line(client, "t%u APPEND %s {%zu%s}", client->tag,
                         books_box_names[client->target], text.size, unasked ? "+" : "");
    client->literal_at = unasked ? 0 : client->saying_bytes;
    imap_client_say(client, text);
    imap_client_say(client, slice_text("\r\n"));
}

static void ask_store(struct imap_client *client, uint32_t uid)
{
    struct sim *sim = client->books->sim;
    struct book_entry *entry = books_entry(client->books, client->box, uid);
    char key[8];
    const char *name;
    client->uid = uid;
    client->adds = sim_chance(sim, 60);
    client->silent = sim_chance(sim, 30);
    client->flag = 1u << sim_below(sim, 4);
    if (sim_chance(sim, 50) && entry->keys[client->number] != BOOK_KEY_IN_DOUBT) {
        client->flag = (uint32_t)FLAG_KEYS << (1 + client->number);
        client->key = entry->keys[client->number];
        snprintf(key, sizeof(key), "K%u", client->number);
        name = key;
    } else {
        if (client->flag == FLAG_DELETED && entry->letter == 0) {
            client->flag = FLAG_FLAGGED; /* whoever removes it must know what it was */
        }
        name = imap_flag_names[__builtin_ctz(client->flag)];
    }
    if (client->flag == FLAG_DELETED && client->adds) {
        client->books->letters[entry->letter].deleted = true;
    }
    imap_client_begin(client, IMAP_ASK_STORE);
    imap_client_say_line(client, "t%u UID STORE %u %cFLAGS%s (%s)", client->tag, uid,
                         client->adds ? '+' : '-', client->silent ? ".SILENT" : "", name);
}

static void ask_copy(struct imap_client *client, uint32_t uid, bool moves)
{
    struct book_entry *entry = books_entry(client->books, client->box, uid);
    if (entry->letter == 0) {
        return;
    }
    client->uid = uid;
    client->letter = entry->letter;
    client->target = sim_below(client->books->sim, BOOKS_BOXES);
    imap_client_letter(client)->in[client->target].most++;
    entry->leaves |= moves;
    imap_client_begin(client, moves ? IMAP_ASK_MOVE : IMAP_ASK_COPY);
    imap_client_say_line(client, "t%u UID %s %u %s", client->tag, moves ? "MOVE" : "COPY", uid,
                         books_box_names[client->target]);
}

static void ask_select(struct imap_client *client, unsigned box)
{
    client->box = box;
    client->selected_ns = client->books->sim->world.now_ns;
    client->selected = client->has_all = false;
    client->view.count = 0;
    imap_client_begin(client, IMAP_ASK_SELECT);
    imap_client_say_line(client, "t%u SELECT %s", client->tag, books_box_names[box]);
}

void imap_client_ask_deliver(struct imap_client *client)
{
    client->letter = books_letter_new(client->books);
    if (client->letter == 0) {
        client->left = 0;
        return;
    }
    client->target = 0;
    client->step = 0;
    imap_client_begin(client, IMAP_ASK_DELIVER);
}

/* Of those in its view that nobody was told the text of: 0: there is none. */
static uint32_t uid_unread(struct imap_client *client)
{
    for (uint32_t i = 0; i < client->view.count; i++) {
        uint32_t uid = client->view.uids[i];
        if (uid != 0 && books_entry(client->books, client->box, uid)->letter == 0) {
            return uid;
        }
    }
    return 0;
}

static void ask_text(struct imap_client *client, uint32_t uid)
{
    client->uid = uid;
    imap_client_begin(client, IMAP_ASK_FETCH_TEXT);
    imap_client_say_line(client, "t%u UID FETCH %u (BODY.PEEK[])", client->tag, uid);
}

bool imap_client_has_new(const struct imap_client *client)
{
    return client->view.count > 0 && client->view.uids[client->view.count - 1] == 0;
}

static void ask_new(struct imap_client *client)
{
    uint32_t first = 0;
    while (client->view.uids[first] != 0) {
        first++;
    }
    imap_client_begin(client, IMAP_ASK_FETCH_NEW);
    imap_client_say_line(client, "t%u FETCH %u:%u (UID FLAGS)", client->tag, first + 1,
                         client->view.count);
}

static void ask_change(struct imap_client *client)
{
    struct sim *sim = client->books->sim;
    uint32_t dice = sim_below(sim, 100);
    uint32_t uid = 0;
    if (client->view.count > 0) {
        uid = client->view.uids[sim_below(sim, client->view.count)];
    }
    client->left -= client->left > 0;
    if (dice < 25 || uid == 0) {
        ask_append(client);
    } else if (dice < 65) {
        ask_store(client, uid);
    } else if (dice < 75) {
        ask_copy(client, uid, false);
    } else if (dice < 83) {
        ask_copy(client, uid, true);
    } else if (dice < 90) {
        client->books->boxes[client->box].expunged = true;
        imap_client_begin(client, IMAP_ASK_EXPUNGE);
        if (sim_chance(sim, 50)) {
            imap_client_say_line(client, "t%u EXPUNGE", client->tag);
        } else {
            imap_client_say_line(client, "t%u UID EXPUNGE 1:%u", client->tag, uid);
        }
    } else if (dice < 97) {
        imap_client_begin(client, IMAP_ASK_SEARCH);
        imap_client_say_line(client, "t%u UID SEARCH KEYWORD K%u", client->tag, client->number);
    } else {
        imap_client_begin(client, IMAP_ASK_LOGOUT);
        imap_client_say_line(client, "t%u LOGOUT", client->tag);
    }
}

void imap_client_ask_next(struct imap_client *client)
{
    struct sim *sim = client->books->sim;
    uint32_t uid;
    if (!client->logged_in) {
        imap_client_begin(client, IMAP_ASK_LOGIN);
        imap_client_say_line(client, "t%u LOGIN alice secret", client->tag);
    } else if (!client->boxes_made) {
        client->target = 1;
        imap_client_begin(client, IMAP_ASK_CREATE);
        imap_client_say_line(client, "t%u CREATE %s", client->tag, books_box_names[1]);
    } else if (!client->selected) {
        ask_select(client, client->audits ? client->target : sim_below(sim, BOOKS_BOXES));
    } else if (!client->has_all) {
        imap_client_begin(client, IMAP_ASK_FETCH_ALL);
        imap_client_say_line(client, "t%u UID FETCH 1:* (FLAGS)", client->tag);
    } else if (imap_client_has_new(client) && !client->must_hear) {
        ask_new(client);
    } else if (!client->must_hear && (client->audits || sim_chance(sim, 30)) &&
               (uid = uid_unread(client)) != 0) {
        ask_text(client, uid);
    } else if (client->must_hear || client->stopped || client->left == 0 || sim_chance(sim, 15)) {
        imap_client_begin(client, IMAP_ASK_NOOP);
        imap_client_say_line(client, "t%u NOOP", client->tag);
    } else if (sim_chance(sim, 8)) {
        imap_client_begin(client, IMAP_ASK_IDLE);
        imap_client_say_line(client, "t%u IDLE", client->tag);
    } else if (sim_chance(sim, 10)) {
        ask_select(client, sim_below(sim, BOOKS_BOXES));
    } else {
        ask_change(client);
    }
}
