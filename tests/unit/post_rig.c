#include "tests/unit/post_rig.h"
#include "queue/log/log_private.h"
#include "queue/spool/spool_reader.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

uint32_t post_below(struct post *post, uint32_t limit)
{
    post->random = post->random * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)((post->random >> 33) % limit);
}

struct post *post_open(uint64_t seed)
{
    struct post *post = calloc(1, sizeof(*post));
    assert_non_null(post);
    post->letters = calloc(LETTERS_MAX, sizeof(post->letters[0]));
    assert_non_null(post->letters);
    post->random = seed;
    post->settings = (struct spool_settings){.message_bytes_max = 64u * 1024 * 1024,
                                             .draft_count_max = 1000,
                                             .fetch_memory_bytes = 2u * 1024 * 1024,
                                             .forward_bytes_min = 1};
    log_rig_open(&post->rig, seed);
    post->rig.settings.shard = 0;
    return post;
}

static uint8_t body_byte(const struct letter *letter, uint32_t at)
{
    return (uint8_t)((letter->seed * 31 + at * 7 + (at >> 8) * 13 + (at >> 16)) % 251);
}

static struct letter *letter_by_id(struct post *post, uint64_t id)
{
    for (uint32_t i = 0; i < post->count; i++) {
        if (post->letters[i].id == id) {
            return &post->letters[i];
        }
    }
    return NULL;
}

static void letter_found(void *owner, struct message *message)
{
    struct post *post = owner;
    struct letter *letter = letter_by_id(post, message->id);
    assert_non_null(letter);
    assert_false(letter->found);
    letter->found = true;
    letter->message = message;
    post->found_count++;
}

int post_try_start(struct post *post)
{
    post->found_count = 0;
    for (uint32_t i = 0; i < post->count; i++) {
        post->letters[i].found = false;
        post->letters[i].message = NULL;
    }
    int result = log_open(&post->rig.log, &post->rig.settings);
    if (result != 0) {
        post->rig.log = NULL;
        return result;
    }
    result = spool_open(&post->spool, post->rig.log, &post->settings, letter_found, post);
    if (result != 0) {
        post->spool = NULL;
        log_rig_crash(&post->rig);
    }
    return result;
}

void post_start(struct post *post)
{
    assert_int_equal(post_try_start(post), 0);
}

void post_round(struct post *post)
{
    post->rig.now_ns += 1000000;
    post->rig.disk->ops->reap(post->rig.disk);
    log_round(post->rig.log, post->rig.now_ns);
    spool_round(post->spool);
    log_flush(post->rig.log);
    post->rig.disk->ops->submit(post->rig.disk);
}

bool post_rests(struct post *post, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        post_round(post);
        if (log_is_quiet(post->rig.log) && disk_fault_pending(post->rig.fault) == 0 &&
            spool_round(post->spool) == 0) {
            return true;
        }
    }
    return false;
}

void post_settle(struct post *post)
{
    assert_true(post_rests(post, 20000));
}

static void copy_stop(void *owner, struct spool_message *message)
{
    (void)owner;
    if (message_copy(message) != NULL) {
        message_copy(message)->in_flight = false;
    }
}

static_assert(offsetof(struct spool_copy, message) == offsetof(struct spool_commit, message) &&
                  offsetof(struct spool_copy, waiter) == offsetof(struct spool_commit, waiter),
              "whichever the log's waiter is of");

/* What is copied forward and forgotten meanwhile is in no table: only the log knows it until its copy is durable. */
static void forgotten_copies_free(struct post *post, struct list_node *waiters)
{
    for (struct list_node *node = waiters->next, *next; node != waiters; node = next) {
        struct log_waiter *waiter = list_entry(node, struct log_waiter, node);
        next = node->next;
        if (waiter == &post->spool->between.waiter) {
            continue;
        }
        struct spool_copy *copy = list_entry(waiter, struct spool_copy, waiter);
        struct spool_message *message = copy->message;
        if (message_copy(message) == copy && message->body.state == MESSAGE_FORGOTTEN) {
            copy->in_flight = false;
            assert_true(spool_forward_drop(post->spool, message));
            spool_message_free(post->spool, message);
        }
    }
}

/* What was in memory is freed only for the sake of the sanitizer. */
void post_crash(struct post *post)
{
    disk_fault_crash(post->rig.fault);
    forgotten_copies_free(post, &post->rig.log->waiters);
    forgotten_copies_free(post, &post->rig.log->void_waiters);
    for (uint32_t i = 0; i < post->count; i++) {
        struct letter *letter = &post->letters[i];
        if (letter->fate == LETTER_OPEN) {
            spool_abort(letter->draft);
            letter->fate = LETTER_GONE;
        } else if (letter->fate == LETTER_ASKED) {
            struct spool_message *message = message_private(letter->message);
            if (message_commit(message)->draft != NULL) {
                spool_abort(message_commit(message)->draft);
            }
            spool_message_free(post->spool, message);
        }
    }
    post->spool->pending_first = NULL;
    post->spool->forward.in_flight = 0;
    message_table_each(&post->spool->table, copy_stop, NULL);
    spool_close(post->spool);
    post->spool = NULL;
    log_rig_crash(&post->rig);
}

void post_close(struct post *post)
{
    if (post->spool != NULL) {
        post_crash(post);
    }
    log_rig_close(&post->rig);
    free(post->letters);
    free(post);
}

/* ── Letters ─────────────────────────────────────────────────────────────────────────────────── */

struct letter *letter_begin(struct post *post, uint32_t length, uint32_t recipient_count)
{
    assert_true(post->count < LETTERS_MAX);
    struct letter *letter = &post->letters[post->count];
    *letter = (struct letter){
        .seed = post->count + 1, .length = length, .recipient_count = recipient_count};
    if (spool_begin(post->spool, &letter->draft) != 0) {
        return NULL;
    }
    letter->id = spool_draft_id(letter->draft);
    for (uint32_t i = 0; i < post->count; i++) {
        assert_int_not_equal(post->letters[i].id, letter->id); /* for ever */
    }
    post->count++;
    return letter;
}

int letter_send(struct letter *letter, uint32_t bytes)
{
    static uint8_t body[1024 * 1024];
    if (bytes > letter->length - letter->sent) {
        bytes = letter->length - letter->sent;
    }
    for (uint32_t i = 0; i < bytes; i++) {
        body[i] = body_byte(letter, letter->sent + i);
    }
    struct slice parts[2] = {slice_of(body, bytes / 2),
                             slice_of(body + bytes / 2, bytes - bytes / 2)};
    int result = spool_append(letter->draft, parts, 2);
    if (result == 0) {
        letter->sent += bytes;
    }
    return result;
}

void letter_durable(struct spool_waiter *waiter, int status)
{
    struct letter *letter = list_entry(waiter, struct letter, durable);
    assert_int_equal(letter->fate, LETTER_ASKED);
    letter->fate = status == 0 ? LETTER_ACCEPTED : LETTER_REFUSED;
    letter->status = status;
}

/* Some letters want reports, each in another way. */
struct wanted {
    struct envelope envelope;
    struct envelope_recipient recipients[RECIPIENTS_MAX];
    char envid[32], paths[RECIPIENTS_MAX][40], orcpts[RECIPIENTS_MAX][48];
};

static void letter_envelope(const struct letter *letter, struct wanted *wanted)
{
    unsigned long long seed = letter->seed;
    *wanted = (struct wanted){.envelope = {.reverse_path = slice_text("sender@example.net"),
                                           .flags = SPOOL_8BITMIME,
                                           .arrival_wall_s = 1000 + (int64_t)letter->seed,
                                           .ret = (uint8_t)(seed % 3)}};
    if (seed % 4 == 0) {
        snprintf(wanted->envid, sizeof(wanted->envid), "QQ+3D%llu", seed);
        wanted->envelope.envid = slice_text(wanted->envid);
    }
    for (uint32_t i = 0; i < letter->recipient_count; i++) {
        struct envelope_recipient *recipient = &wanted->recipients[i];
        snprintf(wanted->paths[i], sizeof(wanted->paths[i]), "r%u-%llu@example.org", i, seed);
        recipient->forward_path = slice_text(wanted->paths[i]);
        recipient->notify = (uint8_t)((seed + i) % 16);
        if ((seed + i) % 5 == 0) {
            snprintf(wanted->orcpts[i], sizeof(wanted->orcpts[i]), "rfc822;o%u+2B%llu@example.org",
                     i, seed);
            recipient->orcpt = slice_text(wanted->orcpts[i]);
        }
    }
}

int letter_commit(struct letter *letter)
{
    struct wanted wanted;
    letter_envelope(letter, &wanted);
    letter->fate = LETTER_ASKED;
    letter->durable.done = letter_durable;
    int status = spool_commit(letter->draft, &wanted.envelope, wanted.recipients,
                              letter->recipient_count, &letter->message, &letter->durable);
    if (status != 0) {
        letter->fate = LETTER_REFUSED;
        letter->status = status;
    }
    return status;
}

struct letter *letter_post(struct post *post, uint32_t length, uint32_t recipient_count)
{
    struct letter *letter = letter_begin(post, length, recipient_count);
    assert_non_null(letter);
    while (letter->sent < length) {
        int status = letter_send(letter, 100000);
        if (status != 0) {
            assert_int_equal(status, -EAGAIN);
            post_round(post);
        }
    }
    assert_int_equal(letter_commit(letter), 0);
    return letter;
}

void letter_finish(struct post *post, struct letter *letter, uint32_t index)
{
    letter->state[index] = RECIPIENT_DELIVERED;
    bool last = letter->message->waiting_count == 1;
    spool_recipient_finished(post->spool, letter->message, index, RECIPIENT_DELIVERED);
    if (last) {
        letter->fate = LETTER_GONE;
        letter->message = NULL;
    }
}

struct reading {
    struct spool_fetch fetch;
    bool done;
};

static void reading_done(struct spool_waiter *waiter, int status)
{
    struct spool_fetch *fetch = list_entry(waiter, struct spool_fetch, waiter);
    (void)status;
    list_entry(fetch, struct reading, fetch)->done = true;
}

int letter_check_body(struct post *post, struct letter *letter)
{
    struct reading reading = {.fetch.waiter.done = reading_done};
    assert_int_equal(letter->message->body_bytes, letter->length);
    for (uint64_t offset = 0; offset < letter->length;) {
        struct slice bytes;
        struct ref *owner;
        int result =
            spool_read(post->spool, letter->message, offset, &bytes, &owner, &reading.fetch);
        if (result == -EAGAIN || result == -EINPROGRESS) {
            post_round(post);
            continue;
        }
        if (result != 0) {
            return result;
        }
        assert_true(bytes.size > 0 && bytes.size <= letter->length - offset);
        for (size_t i = 0; i < bytes.size; i++) {
            if (bytes.bytes[i] != body_byte(letter, (uint32_t)(offset + i))) {
                fail_msg("byte %zu of %u differs", (size_t)offset + i, letter->length);
            }
        }
        offset += bytes.size;
        ref_drop(owner);
    }
    return 0;
}

void letter_check_envelope(const struct letter *letter)
{
    const struct message *message = letter->message;
    struct wanted wanted;
    letter_envelope(letter, &wanted);
    assert_int_equal(message->recipient_count, letter->recipient_count);
    assert_true(slice_equal(message_reverse_path(message), slice_text("sender@example.net")));
    assert_int_equal(message_flags(message), SPOOL_8BITMIME);
    assert_int_equal(message_arrival_wall_s(message), 1000 + (int64_t)letter->seed);
    assert_int_equal(message_ret(message), wanted.envelope.ret);
    assert_true(slice_equal(message_envid(message), wanted.envelope.envid));
    for (uint32_t i = 0; i < letter->recipient_count; i++) {
        const struct envelope_recipient *recipient = &wanted.recipients[i];
        assert_true(slice_equal(message_forward_path(message, i), recipient->forward_path));
        assert_true(slice_equal(message_orcpt(message, i), recipient->orcpt));
        assert_int_equal(message_notify(message, i), recipient->notify);
    }
}

/* ── Mail that stays, mail that passes ───────────────────────────────────────────────────────── */

void letters_stay(struct post *post, uint32_t count, uint32_t length, uint32_t recipients)
{
    for (uint32_t i = 0; i < count; i++) {
        letter_post(post, length, recipients);
        post_round(post);
    }
    post_settle(post);
}

void letters_pass(struct post *post, uint32_t count, uint32_t length)
{
    uint32_t first = post->count;
    for (uint32_t i = 0; i < count + POST_WINDOW; i++) {
        if (i < count) {
            letter_post(post, length, 1);
        }
        for (int round = 0; round < 3; round++) {
            post_round(post);
        }
        if (i < POST_WINDOW) {
            continue;
        }
        struct letter *letter = &post->letters[first + i - POST_WINDOW];
        while (letter->fate == LETTER_ASKED) {
            post_round(post);
        }
        if (letter->fate == LETTER_ACCEPTED) {
            letter_finish(post, letter, 0);
        }
    }
    post_settle(post);
}

uint32_t letter_sequence(const struct letter *letter)
{
    return log_lsn_sequence(message_private(letter->message)->commit_lsn);
}

/* As `tubepost spool check` sees it. */
static void a_reader_finds(struct post *post, uint32_t staying)
{
    struct spool_reader *reader;
    assert_int_equal(
        spool_reader_open(&reader, post->rig.disk, 0, &(struct spool_reader_visitor){0}), 0);
    const struct spool_reader_facts *facts = spool_reader_facts(reader);
    assert_int_equal(facts->messages, staying);
    assert_int_equal(facts->broken, 0);
    assert_int_equal(facts->damaged_bytes, 0);
    spool_reader_close(reader);
}

void post_restarts_with(struct post *post, uint32_t staying)
{
    post_crash(post);
    a_reader_finds(post, staying);
    post_start(post);
    assert_int_equal(post->found_count, staying);
    for (uint32_t i = 0; i < post->count; i++) {
        struct letter *letter = &post->letters[i];
        assert_int_equal(letter->found, letter->fate == LETTER_ACCEPTED);
        if (letter->found) {
            letter_check_envelope(letter);
            assert_int_equal(letter_check_body(post, letter), 0);
        }
    }
}

const struct log_counters *post_log_counters(const struct post *post)
{
    return log_counters(post->rig.log);
}
