#include "engine/mailbox/outgoing_private.h"
#include "engine/core/check.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define KEY_PREFIX "out/"
#define KEY_BYTES (sizeof KEY_PREFIX + 16) /* with its NUL */
#define SECOND_NS 1000000000ull
#define SHIFT_MAX 9u /* of OUTGOING_RETRY_NS: 512 s, which is more than the most */
/* RFC 5321 §4.5.3.2 */
#define REPLY_NS (300ull * SECOND_NS)
#define DATA_NS (180ull * SECOND_NS)
#define DATA_END_NS (600ull * SECOND_NS)

static struct outgoing_item *item_of(struct list_node *node)
{
    return list_entry(node, struct outgoing_item, node);
}

static void item_free(struct outgoing_item *item)
{
    list_remove(&item->node);
    if (item->waits_written) {
        mailstore_waiter_cancel(item->outgoing->store, &item->written);
    }
    if (item->waits_copied) {
        mailstore_waiter_cancel(item->outgoing->store, &item->copied);
    }
    item->outgoing->counters.waiting--;
    free(item->copy.sources);
    free(item);
}

static struct outgoing_item *item_new(struct outgoing *outgoing, uint64_t id)
{
    struct outgoing_item *item = (struct outgoing_item *)calloc(1, sizeof *item);
    if (item != NULL) {
        item->outgoing = outgoing;
        item->id = id;
        list_init(&item->node);
        list_append(&outgoing->written, &item->node);
        outgoing->counters.waiting++;
        outgoing->next_id = id >= outgoing->next_id ? id + 1 : outgoing->next_id;
    }
    return item;
}

static struct slice key_format(uint64_t id, char key[KEY_BYTES])
{
    int size = snprintf(key, KEY_BYTES, KEY_PREFIX "%016" PRIx64, id);
    return slice_of(key, (size_t)size);
}

static void item_move(struct outgoing_item *item, struct list_node *list, enum outgoing_state state)
{
    list_remove(&item->node);
    list_append(list, &item->node);
    item->state = (uint8_t)state;
}

/* ---- The entries of texts ---- */

/* 0: it is open, or nothing was ever put there and it is NULL; -ENOMEM, -EIO: not known. */
static int box_open(struct outgoing *outgoing)
{
    struct mailstore_box *box =
        outgoing->box == NULL ? mailstore_box_find(outgoing->user, slice_text("INBOX")) : NULL;
    int status = box != NULL ? mailstore_box_open(outgoing->store, box) : 0;
    if (box != NULL && status == 0) {
        outgoing->box = box;
    }
    return status;
}

/* NULL: nothing was ever put there, or it cannot be opened now. */
static struct mailstore_box *box_get(struct outgoing *outgoing)
{
    (void)box_open(outgoing); /* who must know why asks himself */
    return outgoing->box;
}

/* The uid of an entry of this text from uid `from` on; 0: none. */
static uint32_t entry_find(struct outgoing *outgoing, uint64_t text, uint32_t from)
{
    const struct mailstore_box *box = box_get(outgoing);
    uint32_t index = box != NULL ? mailstore_entry_index(box, from) : 0;
    while (box != NULL && index < box->count) {
        if (box->entries[index].text == text) {
            return box->entries[index].uid;
        }
        index++;
    }
    return 0;
}

/* Nobody waits for it: what a crash leaves of it is dropped at the next start. */
static void entry_expunge(struct outgoing *outgoing, uint32_t uid)
{
    const struct mailstore_uids uids = {uid, uid};
    struct mailstore_expunge expunge = {.uids = &uids, .uid_count = 1, .at_once = true};
    struct mailstore_waiter nobody = {0};
    if (mailstore_expunge(outgoing->store, outgoing->box, &expunge, &nobody) == 0) {
        mailstore_waiter_cancel(outgoing->store, &nobody);
    }
}

static bool any_names(const struct list_node *list, uint64_t text)
{
    const struct list_node *node = list->next;
    while (node != list && list_entry(node, struct outgoing_item, node)->text != text) {
        node = node->next;
    }
    return node != list;
}

/* No letter needs the text any more. */
static void text_drop(struct outgoing *outgoing, uint64_t text)
{
    if (text == 0 || any_names(&outgoing->written, text) || any_names(&outgoing->ready, text) ||
        any_names(&outgoing->waiting, text) || any_names(&outgoing->busy, text)) {
        return;
    }
    uint32_t uid = 0;
    while ((uid = entry_find(outgoing, text, uid + 1)) != 0) {
        entry_expunge(outgoing, uid);
    }
}

/* ---- Records ---- */

static int record_set(struct outgoing *outgoing, uint64_t id, struct slice record,
                      struct mailstore_waiter *waiter)
{
    char key[KEY_BYTES];
    const struct mailstore_property property = {.key = key_format(id, key), .value = record};
    return mailstore_property_set(outgoing->store, outgoing->user, &property, waiter);
}

int outgoing_read(struct outgoing *outgoing, const struct outgoing_item *item,
                  struct outgoing_letter *letter, uint8_t **record)
{
    char key[KEY_BYTES];
    struct mailstore_property property = {.key = key_format(item->id, key)};
    int status = mailstore_property_get(outgoing->store, outgoing->user, &property);
    if (status != 0) {
        return status;
    }
    *record = (uint8_t *)(uintptr_t)property.value.bytes;
    if (!outgoing_letter_read(letter, property.value)) {
        free(*record);
        return -EINVAL;
    }
    return 0;
}

/* It needs nothing any more. */
static void item_drop(struct outgoing_item *item)
{
    struct outgoing *outgoing = item->outgoing;
    uint64_t text = item->text;
    if (!item->record_failed) {
        record_set(outgoing, item->id, slice_of(NULL, 0), NULL);
    }
    item_free(item);
    text_drop(outgoing, text);
}

/* ---- When it may go ---- */

static void item_look(struct outgoing_item *item)
{
    struct outgoing *outgoing = item->outgoing;
    if (item->state == OUTGOING_WRITTEN && item->record_there && item->text_there) {
        item_move(item, &outgoing->ready, OUTGOING_READY);
        outgoing_pump(outgoing);
    }
}

static void record_written(struct mailstore_waiter *waiter, int status)
{
    struct outgoing_item *item = list_entry(waiter, struct outgoing_item, written);
    item->waits_written = false;
    item->record_there = status == 0;
    item->record_failed = status != 0;
    if (item->record_failed && item->settled) {
        logger_line(item->outgoing->shard->logger, LOGGER_ERROR,
                    "outgoing: a letter could not be stored: %s", strerror(-status));
        item_drop(item);
        return;
    }
    item_look(item);
}

int outgoing_put(struct outgoing *outgoing, const struct outgoing_letter *letter,
                 struct outgoing_item **given)
{
    if (!outgoing_can_send(outgoing)) {
        return -ENOTCONN;
    }
    if (outgoing->counters.waiting >= OUTGOING_LETTERS_MAX) {
        return -EAGAIN;
    }
    uint8_t *record = (uint8_t *)malloc(OUTGOING_RECORD_BYTES_MAX);
    struct outgoing_item *item = record != NULL ? item_new(outgoing, outgoing->next_id) : NULL;
    if (item == NULL) {
        free(record);
        return -ENOMEM;
    }
    item->text = letter->text;
    item->words_alone = (letter->flags & OUTGOING_WORDS_ALONE) != 0;
    item->born_s = letter->born_s;
    item->text_there = letter->text == 0;
    item->settled = item->text_there;
    item->written.done = record_written;
    size_t size = outgoing_letter_write(letter, record);
    int status =
        size > 0 ? record_set(outgoing, item->id, slice_of(record, size), &item->written) : -E2BIG;
    free(record);
    if (status != 0) {
        item_free(item);
        return status;
    }
    item->waits_written = true;
    if (given != NULL) {
        *given = item;
    }
    return 0;
}

struct mailstore_place outgoing_place(void)
{
    return (struct mailstore_place){.user = slice_text(OUTGOING_USER)};
}

int outgoing_settle(struct outgoing *outgoing, struct outgoing_item *item, bool committed)
{
    check(item->state == OUTGOING_WRITTEN && !item->settled && item->outgoing == outgoing);
    item->settled = true;
    /* The record was written before the text: who does not know of it by now has lost it. */
    if (!committed || !item->record_there) {
        item_drop(item);
        return -EIO;
    }
    item->text_there = true;
    item_look(item);
    return 0;
}

/* ---- What becomes of it ---- */

static uint64_t backoff_ns(uint8_t tries)
{
    uint64_t wait_ns = OUTGOING_RETRY_NS << (tries < SHIFT_MAX ? tries : SHIFT_MAX);
    return wait_ns < OUTGOING_RETRY_NS_MAX ? wait_ns : OUTGOING_RETRY_NS_MAX;
}

static bool too_old(const struct outgoing *outgoing, const struct outgoing_item *item)
{
    uint64_t now_s = (uint64_t)world_wall_s(outgoing->shard->world);
    return now_s > item->born_s && now_s - item->born_s > outgoing->conf.keep_trying_ns / SECOND_NS;
}

struct outgoing_item *outgoing_take(struct outgoing *outgoing)
{
    if (list_empty(&outgoing->ready) || outgoing->resting) {
        return NULL;
    }
    struct outgoing_item *item = item_of(outgoing->ready.next);
    item_move(item, &outgoing->busy, OUTGOING_SENDING);
    return item;
}

void outgoing_sent(struct outgoing *outgoing, struct outgoing_item *item)
{
    outgoing->counters.sent++;
    item_drop(item);
}

static void timer_bring(struct outgoing *outgoing, uint64_t due_ns)
{
    if (!timer_armed(&outgoing->timer) || outgoing->timer.due_ns > due_ns) {
        wheel_arm(outgoing->shard->wheel, &outgoing->timer, due_ns);
    }
}

static void item_wait(struct outgoing_item *item)
{
    struct outgoing *outgoing = item->outgoing;
    item->due_ns = outgoing->shard->now_ns + backoff_ns(item->tries);
    item->tries = (uint8_t)(item->tries < UINT8_MAX ? item->tries + 1 : item->tries);
    item_move(item, &outgoing->waiting, OUTGOING_WAITING);
    timer_bring(outgoing, item->due_ns);
}

static void text_returned(struct mailstore_waiter *waiter, int status)
{
    struct outgoing_item *item = list_entry(waiter, struct outgoing_item, copied);
    struct outgoing *outgoing = item->outgoing;
    item->waits_copied = false;
    free(item->copy.sources);
    item->copy.sources = NULL;
    if (status != 0) {
        logger_line(outgoing->shard->logger, LOGGER_ERROR,
                    "outgoing: a message cannot be given back now: %s", strerror(-status));
        item_wait(item);
        return;
    }
    outgoing->counters.returned++;
    item_drop(item);
}

/* The message goes to whose script wanted it sent on: into his INBOX, whatever his quota says. */
static void text_return(struct outgoing_item *item)
{
    struct outgoing *outgoing = item->outgoing;
    struct outgoing_letter letter;
    uint8_t *record = NULL;
    int status = box_open(outgoing);
    if (status != 0) {
        logger_line(outgoing->shard->logger, LOGGER_ERROR,
                    "outgoing: a message cannot be given back now: %s", strerror(-status));
        item_wait(item);
        return;
    }
    uint32_t uid = entry_find(outgoing, item->text, 1);
    status = outgoing_read(outgoing, item, &letter, &record);
    if (status == -EINVAL || status == -ENOENT || (status == 0 && uid == 0)) {
        logger_line(outgoing->shard->logger, LOGGER_ERROR, "outgoing: a letter is damaged");
        free(status == 0 ? record : NULL);
        item_drop(item);
        return;
    }
    if (status == 0) {
        item->uids = (struct mailstore_uids){uid, uid};
        item->copy = (struct mailstore_copy){.uids = &item->uids,
                                             .uid_count = 1,
                                             .user = letter.user,
                                             .mailbox = slice_text("INBOX"),
                                             .options = MAILSTORE_AUTOCREATE};
        item->copied.done = text_returned;
        status = mailstore_copy(outgoing->store, outgoing->box, &item->copy, &item->copied);
        free(record);
    }
    item->waits_copied = status == 0;
    if (status == 0) {
        item_move(item, &outgoing->busy, OUTGOING_RETURNING);
    } else {
        item_wait(item);
    }
}

void outgoing_refused(struct outgoing *outgoing, struct outgoing_item *item)
{
    if (item->text != 0 && !item->words_alone) {
        text_return(item);
        return;
    }
    outgoing->counters.dropped++;
    item_drop(item);
}

void outgoing_defer(struct outgoing *outgoing, struct outgoing_item *item)
{
    outgoing->counters.deferred++;
    if (too_old(outgoing, item)) {
        outgoing_refused(outgoing, item);
    } else {
        item_wait(item);
    }
}

/* ---- The relay ---- */

void outgoing_relay_works(struct outgoing *outgoing)
{
    outgoing->hold_tries = 0;
    outgoing->hold_until_ns = 0;
}

void outgoing_relay_fails(struct outgoing *outgoing, const char *why)
{
    char relay[ENDPOINT_TEXT_MAX];
    endpoint_format(&outgoing->conf.relay, relay);
    logger_line(outgoing->shard->logger, LOGGER_WARNING, "outgoing: %s: %s; %u letters wait", relay,
                why, outgoing->counters.waiting);
    outgoing->hold_until_ns = outgoing->shard->now_ns + backoff_ns(outgoing->hold_tries);
    outgoing->hold_tries =
        (uint8_t)(outgoing->hold_tries < UINT8_MAX ? outgoing->hold_tries + 1 : UINT8_MAX);
    struct list_node *next;
    for (struct list_node *node = outgoing->ready.next; node != &outgoing->ready; node = next) {
        next = node->next;
        if (too_old(outgoing, item_of(node))) {
            outgoing_refused(outgoing, item_of(node));
        }
    }
    timer_bring(outgoing, outgoing->hold_until_ns);
}

void outgoing_pump(struct outgoing *outgoing)
{
    if (outgoing->resting || !outgoing_can_send(outgoing) ||
        outgoing->shard->now_ns < outgoing->hold_until_ns) {
        return;
    }
    /* While it is not known to answer, one asks. */
    uint32_t most = outgoing->hold_tries > 0 ? 1 : OUTGOING_SESSIONS_MAX;
    while (outgoing->session_count < most && !list_empty(&outgoing->ready) &&
           outgoing_session_open(outgoing)) {
    }
}

static void timer_fired(struct timer *timer, uint64_t now_ns)
{
    struct outgoing *outgoing = list_entry(timer, struct outgoing, timer);
    uint64_t due_ns = WHEEL_NEVER;
    struct list_node *next;
    for (struct list_node *node = outgoing->waiting.next; node != &outgoing->waiting; node = next) {
        struct outgoing_item *item = item_of(node);
        next = node->next;
        if (item->due_ns <= now_ns) {
            item_move(item, &outgoing->ready, OUTGOING_READY);
        } else {
            due_ns = item->due_ns < due_ns ? item->due_ns : due_ns;
        }
    }
    if (due_ns != WHEEL_NEVER) {
        timer_bring(outgoing, due_ns);
    }
    outgoing_pump(outgoing);
    if (now_ns < outgoing->hold_until_ns && !list_empty(&outgoing->ready)) {
        timer_bring(outgoing, outgoing->hold_until_ns);
    }
}

/* ---- Life ---- */

static void conf_take(struct outgoing *outgoing, const struct outgoing_conf *conf)
{
    outgoing->conf = *conf;
    outgoing->client_settings = (struct smtp_client_settings){.hostname = conf->hostname,
                                                              .pipelining = true,
                                                              .greeting_ns = REPLY_NS,
                                                              .reply_ns = REPLY_NS,
                                                              .data_start_ns = DATA_NS,
                                                              .data_block_ns = DATA_NS,
                                                              .data_end_ns = DATA_END_NS,
                                                              .quit_ns = SECOND_NS};
}

/* Keys and values as they lie in the store, which must not be called meanwhile. */
static void record_found(void *owner, struct slice key, struct slice value)
{
    struct outgoing *outgoing = (struct outgoing *)owner;
    char text[KEY_BYTES];
    struct outgoing_letter letter;
    if (key.size != KEY_BYTES - 1) {
        return;
    }
    memcpy(text, key.bytes, key.size);
    text[key.size] = '\0';
    struct outgoing_item *item = item_new(outgoing, strtoull(text + strlen(KEY_PREFIX), NULL, 16));
    outgoing->short_of_memory = outgoing->short_of_memory || item == NULL;
    if (item != NULL) {
        bool good = outgoing_letter_read(&letter, value);
        item->text = good ? letter.text : 0;
        item->words_alone = good && (letter.flags & OUTGOING_WORDS_ALONE) != 0;
        item->born_s = good ? letter.born_s : 0;
        item->record_there = good;
        item->settled = true;
    }
}

/* A record without its text, or a text without a record, is what a crash has left of an LMTP transaction that was never
 * answered, or of a letter that was sent. */
static void found_sort(struct outgoing *outgoing)
{
    struct list_node *next;
    for (struct list_node *node = outgoing->written.next; node != &outgoing->written; node = next) {
        struct outgoing_item *item = item_of(node);
        next = node->next;
        item->text_there = item->text == 0 || entry_find(outgoing, item->text, 1) != 0;
        if (item->record_there && item->text_there) {
            item_move(item, &outgoing->ready, OUTGOING_READY);
        } else {
            item_drop(item);
        }
    }
    const struct mailstore_box *box = box_get(outgoing);
    for (uint32_t i = 0; box != NULL && i < box->count; i++) {
        text_drop(outgoing, box->entries[i].text);
    }
}

static int found_read(struct outgoing *outgoing)
{
    const struct mailstore_property all = {.key = slice_text(KEY_PREFIX)};
    int status =
        mailstore_property_each(outgoing->store, outgoing->user, &all, record_found, outgoing);
    if (status == 0) {
        status = outgoing->short_of_memory ? -ENOMEM : box_open(outgoing);
    }
    if (status != 0) {
        return status; /* nothing is dropped by who has not seen all */
    }
    found_sort(outgoing);
    if (outgoing->counters.waiting > 0) {
        logger_line(outgoing->shard->logger,
                    outgoing_can_send(outgoing) ? LOGGER_INFO : LOGGER_WARNING,
                    "outgoing: %u letters are still to be sent%s", outgoing->counters.waiting,
                    outgoing_can_send(outgoing) ? "" : ", and sieve.relay is not set");
    }
    return 0;
}

int outgoing_open(struct outgoing **made, const struct outgoing_settings *settings,
                  const struct outgoing_conf *conf)
{
    struct outgoing *outgoing = (struct outgoing *)calloc(1, sizeof *outgoing);
    if (outgoing == NULL) {
        return -ENOMEM;
    }
    outgoing->shard = settings->shard;
    outgoing->network = settings->network;
    outgoing->store = settings->store;
    outgoing->next_id = 1;
    list_init(&outgoing->ready);
    list_init(&outgoing->waiting);
    list_init(&outgoing->busy);
    list_init(&outgoing->written);
    list_init(&outgoing->sessions);
    timer_init(&outgoing->timer, timer_fired);
    conf_take(outgoing, conf);
    int status = mailstore_user_open(outgoing->store, slice_text(OUTGOING_USER), &outgoing->user);
    status = status == 0 ? found_read(outgoing) : status;
    if (status != 0) {
        logger_line(outgoing->shard->logger, LOGGER_ERROR,
                    "outgoing: what is still to be sent cannot be read: %s", strerror(-status));
        outgoing_close(outgoing);
        return status;
    }
    timer_bring(outgoing, outgoing->shard->now_ns + OUTGOING_RETRY_NS);
    *made = outgoing;
    return 0;
}

void outgoing_reload(struct outgoing *outgoing, const struct outgoing_conf *conf)
{
    conf_take(outgoing, conf);
    outgoing_relay_works(outgoing);
    outgoing_pump(outgoing);
}

bool outgoing_can_send(const struct outgoing *outgoing)
{
    return outgoing->conf.relay.family != ENDPOINT_NONE;
}

void outgoing_rest(struct outgoing *outgoing)
{
    outgoing->resting = true;
}

bool outgoing_is_quiet(const struct outgoing *outgoing)
{
    return outgoing->session_count == 0 && list_empty(&outgoing->busy) &&
           list_empty(&outgoing->written);
}

void outgoing_abort(struct outgoing *outgoing)
{
    outgoing->resting = outgoing->aborted = true;
    outgoing_session_abort_all(outgoing);
    wheel_disarm(outgoing->shard->wheel, &outgoing->timer);
}

void outgoing_close(struct outgoing *outgoing)
{
    if (outgoing == NULL) {
        return;
    }
    struct list_node *lists[] = {&outgoing->ready, &outgoing->waiting, &outgoing->busy,
                                 &outgoing->written};
    check(outgoing->session_count == 0);
    wheel_disarm(outgoing->shard->wheel, &outgoing->timer);
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        while (!list_empty(lists[i])) {
            item_free(item_of(lists[i]->next));
        }
    }
    if (outgoing->box != NULL) {
        mailstore_box_close(outgoing->store, outgoing->box);
    }
    if (outgoing->user != NULL) {
        mailstore_user_close(outgoing->store, outgoing->user);
    }
    free(outgoing);
}

const struct outgoing_counters *outgoing_counters(const struct outgoing *outgoing)
{
    return &outgoing->counters;
}
