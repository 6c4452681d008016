#include "engine/core/check.h"
#include "engine/core/limits.h"
#include "tests/sim/imap_client_private.h"
#include <stdarg.h>
#include <stdlib.h>

#define PATIENCE_NS (200 * SIM_S)

const char *const imap_flag_names[4] = {"\\Seen", "\\Flagged", "\\Deleted", "\\Answered"};

void imap_client_fail(struct imap_client *client, const char *format, ...)
{
    char text[512];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof(text), format, values);
    va_end(values);
    sim_fail(client->books->sim, "client %u: %s", client->number, text);
}

bool imap_begins(struct slice text, const char *with)
{
    return slice_equal(slice_first(text, strlen(with)), slice_text(with));
}

/* ---- What it says ---- */

void imap_client_say(struct imap_client *client, struct slice bytes)
{
    check(client->saying_bytes + bytes.size <= IMAP_SAYING_BYTES_MAX);
    memcpy(client->saying + client->saying_bytes, bytes.bytes, bytes.size);
    client->saying_bytes += bytes.size;
}

void imap_client_say_line(struct imap_client *client, const char *format, ...)
{
    char text[512];
    va_list values;
    va_start(values, format);
    int size = vsnprintf(text, sizeof(text) - 2, format, values);
    va_end(values);
    check(size > 0 && (size_t)size < sizeof(text) - 2);
    sim_say(client->books->sim, "client %u: %s", client->number, text);
    memcpy(text + size, "\r\n", 2);
    imap_client_say(client, slice_of(text, (size_t)size + 2));
}

/* In pieces of any size; a literal waits for its "+". */
void imap_client_write(struct imap_client *client)
{
    while (client->stream != NULL && client->said_bytes < client->saying_bytes) {
        size_t end =
            client->literal_at > client->said_bytes ? client->literal_at : client->saying_bytes;
        if (client->literal_at != 0 && client->said_bytes == client->literal_at) {
            return;
        }
        struct slice left = slice_of(client->saying + client->said_bytes, end - client->said_bytes);
        left = slice_first(left, 1 + sim_spread(client->books->sim, 0, STREAM_WRITE_MAX - 1));
        if (stream_write(client->stream, left) < 0) {
            return;
        }
        client->said_bytes += left.size;
    }
}

void imap_client_begin(struct imap_client *client, enum imap_ask ask)
{
    check(client->ask == IMAP_ASK_NONE);
    client->ask = ask;
    client->tag++;
    client->asked_ns = client->books->sim->world.now_ns;
    client->said_bytes = client->saying_bytes = client->literal_at = 0;
    client->found_count = 0;
    client->waits_to_go_on = false;
}

/* ---- The end of a connection: what was asked is in doubt ---- */

void imap_client_over(struct imap_client *client)
{
    if (client->stream != NULL) {
        stream_release(client->stream);
        client->stream = NULL;
    }
    if (client->ask == IMAP_ASK_STORE && client->flag >= FLAG_KEYS) {
        books_entry(client->books, client->box, client->uid)->keys[client->number] =
            BOOK_KEY_IN_DOUBT;
    }
    client->ask = IMAP_ASK_NONE;
    client->heard_bytes = client->said_bytes = client->saying_bytes = client->literal_at = 0;
    client->greeted = client->logged_in = client->selected = client->has_all = client->delivers =
        false;
    client->view.count = 0;
}

/* ---- Its life ---- */

static void next_arm(struct imap_client *client, uint64_t in_ns)
{
    wheel_arm(client->host->shard.wheel, &client->next, client->books->sim->world.now_ns + in_ns);
}

static void pause_arm(struct imap_client *client)
{
    struct sim *sim = client->books->sim;
    bool has_all_done = client->left == 0 && !client->stopped;
    uint64_t least_ns = has_all_done ? SIM_S : SIM_MS;
    uint64_t most_ns = client->stopped ? 200 * SIM_MS : has_all_done ? 9 * SIM_S : client->pause_ns;
    bool waits = client->ask != IMAP_ASK_NONE && !client->waits_to_go_on;
    next_arm(client, waits ? PATIENCE_NS : sim_spread(sim, least_ns, most_ns));
}

/* What has come, as much as there is room for. True: some of it is new. */
static bool heard_more(struct imap_client *client)
{
    struct slice piece;
    if (client->heard_bytes == IMAP_HEARD_BYTES_MAX ||
        stream_peek(client->stream, &piece, 1) == 0) {
        return false;
    }
    piece = slice_first(piece, IMAP_HEARD_BYTES_MAX - client->heard_bytes);
    memcpy(client->heard + client->heard_bytes, piece.bytes, piece.size);
    client->heard_bytes += piece.size;
    stream_consume(client->stream, piece.size);
    return true;
}

static void client_run(struct imap_client *client)
{
    uint64_t answers = client->answers;
    enum imap_ask before = client->ask;
    bool greeted = client->greeted;
    while (client->stream != NULL) {
        bool more = heard_more(client);
        struct slice heard = slice_of(client->heard, client->heard_bytes);
        size_t size = imap_client_response_size(heard);
        if (size == 0 && !more) {
            break;
        }
        if (size > 0 && client->delivers) {
            imap_client_hear_delivery(client, slice_first(heard, size));
        } else if (size > 0) {
            imap_client_hear(client, slice_first(heard, size));
        }
        if (client->stream != NULL) {
            client->heard_bytes -= size;
            memmove(client->heard, client->heard + size, client->heard_bytes);
        }
    }
    imap_client_write(client);
    if (client->stream == NULL || client->answers != answers || client->ask != before ||
        client->greeted != greeted || client->waits_to_go_on) {
        pause_arm(client);
    }
}

static void client_notify(struct stream *stream, uint32_t events, void *owner)
{
    struct imap_client *client = owner;
    struct sim *sim = client->books->sim;
    (void)stream;
    client_run(client);
    if (client->stream != NULL && (events & (STREAM_CLOSED | STREAM_HALF_CLOSED)) != 0) {
        imap_client_over(client);
        pause_arm(client);
    } else if (client->stream != NULL && !sim->healed && sim_below(sim, 1000) < client->drops) {
        if (sim_chance(sim, 50)) {
            stream_abort(client->stream);
        }
        imap_client_over(client);
        pause_arm(client);
    }
    sim_host_touch(client->host);
}

static void client_connect(struct imap_client *client)
{
    struct sim *sim = client->books->sim;
    client->delivers = !client->stopped && !client->audits && sim_chance(sim, 25);
    const struct connect_request request = {.to = client->delivers ? client->lmtp : client->imap,
                                            .timeout_ns = 20 * SIM_S};
    if (client->delivers) {
        imap_client_ask_deliver(client);
        client->left -= client->left > 0;
    }
    if (client->host->network->ops->connect(client->host->network, &request, &client->stream) < 0) {
        client->stream = NULL;
        imap_client_over(client);
        return;
    }
    client->stream->session = client;
    client->stream->notify = client_notify;
    client->asked_ns = sim->world.now_ns;
}

static void client_next(struct timer *timer, uint64_t now_ns)
{
    struct imap_client *client = list_entry(timer, struct imap_client, next);
    if (client->done) {
        return;
    }
    if (client->stream == NULL) {
        client_connect(client);
        next_arm(client, client->stream == NULL ? SIM_S : PATIENCE_NS);
    } else if (client->ask == IMAP_ASK_IDLE && client->waits_to_go_on) {
        client->waits_to_go_on = false;
        imap_client_say_line(client, "DONE");
        next_arm(client, PATIENCE_NS);
    } else if (client->ask == IMAP_ASK_NONE && client->greeted && !client->delivers) {
        imap_client_ask_next(client);
        pause_arm(client);
    } else { /* it has waited long enough */
        if (client->books->sim->healed && now_ns > client->asked_ns + 2 * PATIENCE_NS) {
            imap_client_fail(client, "it was not answered");
        }
        stream_abort(client->stream);
        imap_client_over(client);
        next_arm(client, SIM_S);
    }
    imap_client_write(client);
    sim_host_touch(client->host);
}

void imap_client_setup(struct imap_client *client, struct sim_host *host, struct books *books,
                       unsigned number, const struct endpoint *imap, const struct endpoint *lmtp)
{
    struct sim *sim = books->sim;
    *client = (struct imap_client){
        .host = host, .books = books, .number = number, .imap = *imap, .lmtp = *lmtp};
    client->heard = malloc(IMAP_HEARD_BYTES_MAX + 1);
    client->saying = malloc(IMAP_SAYING_BYTES_MAX);
    check(client->heard != NULL && client->saying != NULL);
    client->heard[IMAP_HEARD_BYTES_MAX] = '\0';
    client->pause_ns = sim_spread(sim, 2 * SIM_MS, 2 * SIM_S);
    client->left = (uint32_t)sim_at_most(sim_spread(sim, 5, 500), sim->options.most);
    uint32_t drops = (uint32_t)sim_spread(sim, 0, 60);
    client->drops = sim_fault_on(&sim->faults, SIM_FAULT_PEER) ? drops : 0;
    timer_init(&client->next, client_next);
}

void imap_client_teardown(struct imap_client *client)
{
    imap_client_leave(client);
    free(client->heard);
    free(client->saying);
}

void imap_client_start(struct imap_client *client)
{
    next_arm(client, SIM_MS);
}

void imap_client_finish(struct imap_client *client)
{
    client->stopped = true;
    if (client->ask == IMAP_ASK_NONE || client->ask == IMAP_ASK_IDLE) {
        next_arm(client, SIM_MS);
    }
    sim_host_touch(client->host);
}

void imap_client_audit(struct imap_client *client, unsigned box)
{
    client->audits = client->stopped = client->boxes_made = true;
    client->done = client->selected = client->has_all = false;
    client->target = box;
    next_arm(client, SIM_MS);
    sim_host_touch(client->host);
}

void imap_client_leave(struct imap_client *client)
{
    wheel_disarm(client->host->shard.wheel, &client->next);
    imap_client_over(client);
}
